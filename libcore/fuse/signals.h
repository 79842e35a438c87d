/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signals.h: a mount's signals, on a thread of their own. SIGTERM and SIGINT unmount cleanly; SIGHUP is the caller's (reopen the log).
 * libfuse's handlers are not used: with them a SIGHUP takes the mount away.
 */
#ifndef KS_FUSE_SIGNALS_H
#define KS_FUSE_SIGNALS_H

#include "fuse/fuse.h"

struct ks_fuse_signals;

/* Before the first thread of the process: the signals must be blocked in all of them. */
void ks_fuse_signals_block(void);
/*
 * After the mount. @hup may be NULL. On SIGTERM the mount point is unmounted; if somebody uses it, what is mapped into memory is written back, then it is
 * detached and those who use it get errors.
 */
int ks_fuse_signals_start(struct ks_fuse_signals **out, struct ks_fuse *f, const char *mountpoint,
			  void (*hup)(void)) KS_MUST_CHECK;
void ks_fuse_signals_stop(struct ks_fuse_signals *s);       /* after ks_fuse_run(); NULL is fine */
bool ks_fuse_signals_came(const struct ks_fuse_signals *s); /* SIGTERM or SIGINT */

#endif
