/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport.h: the seam between a libfuse session and what carries its requests.
 *
 * A transport moves messages: libfuse decodes and encodes them, the op_*.c files answer them. The classic one reads /dev/fuse. Another
 * attaches itself with fuse_session_custom_io() and calls fuse_session_process_buf(); the one of the tests feeds messages made by hand.
 */
#ifndef KS_FUSE_TRANSPORT_H
#define KS_FUSE_TRANSPORT_H

#include "base/def.h"

struct fuse_session;

struct ks_transport_opts {
	unsigned int threads; /* at most; 0: the transport's own number */
	bool single;
	bool must; /* fail rather than fall back to another transport */
	void *arg; /* the transport's own */
};

struct ks_transport_ops {
	const char *name;
	/* Before the mount: what the kernel must have been told by then. May be NULL. */
	void (*prepare)(void);
	/* After the unmount, once per run(): joins threads, frees o->arg. May be NULL. */
	void (*finish)(struct ks_transport_opts *o);
	/* Which transport really carries the requests now: one may have fallen back to another. NULL: name. */
	const char *(*current)(const struct ks_transport_opts *o);
	/* Serves until the session is exited or unmounted: 0, or -errno. Called once, in the thread that may be signalled. */
	int (*run)(struct fuse_session *se, struct ks_transport_opts *o);

	/* The rest may be NULL. They are called by an operation, in the thread that serves its request. */

	/* What would block must not be done here: the operation tries with KS_VFS_NOBLOCK. */
	bool (*must_not_block)(void);
	/* It would have blocked: its request was given up with fuse_reply_none(), to be called again by a thread that may block. */
	void (*again)(void);
	/* Where a READ may put its data so that the reply is not copied once more; NULL: nowhere. */
	void *(*reply_buffer)(size_t *size);
};

extern const struct ks_transport_ops ks_transport_classic;
extern const struct ks_transport_ops
	ks_transport_uring; /* falls back to classic unless opts.must */
extern const struct ks_transport_ops
	ks_transport_test; /* arg: int *, one end of a SOCK_SEQPACKET pair, which the session closes */

#endif
