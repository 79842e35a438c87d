/* SPDX-License-Identifier: Apache-2.0 */
/*
 * apart.h: a system call that this very process must answer, such as a look at its own mount, in a process of its own.
 *
 * A thread that is killed while it waits for such an answer ends only when the answer comes. It keeps the process's memory and descriptors, and so the
 * kernel does not see that nobody answers any more: the mount hangs for everybody, and nothing but an abort of the connection helps. A process that
 * has neither of them just gets ENOTCONN.
 */
#ifndef KS_BASE_APART_H
#define KS_BASE_APART_H

#include "base/def.h"
#include <stddef.h>
#include <sys/types.h>

struct ks_apart {
	pid_t pid;
	void *shared;
	size_t n;
};

/*
 * ks_apart_begin() - fork a process that runs fn(arg, out)
 * @fn:  runs after a fork of a process with threads: system calls only, no memory is taken, no message raised. No descriptor but
 *       the standard ones is open. Returns 0 or -errno.
 * @n:   bytes of @out, all 0 before; at most 4000
 *
 * Memory that must not outlive the caller there is marked by MADV_DONTFORK.
 */
int ks_apart_begin(struct ks_apart *a, int (*fn)(const void *arg, void *out), const void *arg,
		   size_t n) KS_MUST_CHECK;
/* Waits; @out may be NULL. Returns what @fn returned, -EIO when the process died. */
int ks_apart_end(struct ks_apart *a, void *out) KS_MUST_CHECK;

#endif
