/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.h: requests and replies of one libfuse session carried over io_uring.
 *
 * libfuse goes on to decode requests and encode replies; this only moves the bytes, through the session's custom I/O. One ring and
 * one server thread per CPU, bound to it: the kernel hands a request to the ring of the CPU it was made on, so that client and server
 * share a CPU and no other one has to be woken. That is the whole gain (doc/performance.md).
 *
 * INIT, FORGET and INTERRUPT still come over /dev/fuse.
 */
#ifndef KS_FUSE_URING_H
#define KS_FUSE_URING_H

#include "base/def.h"
#include <sys/uio.h>

struct fuse_buf;
struct fuse_session;
struct ks_uring;

struct ks_uring_opts {
	unsigned int
		depth; /* requests per CPU that may be handed to workers at one time; 0: chosen by the number of CPUs */
	void (*process)(void *arg, const struct fuse_buf *buf); /* serves a message */
	/* Once, when ks_uring_error() is set: makes the thread that reads /dev/fuse return. Any thread. */
	void (*failed)(void *arg);
	void *arg;
	unsigned int workers; /* threads that take requests which would block; 0: 8 */
};

/* Before INIT is read. No thread starts yet. */
int ks_uring_new(struct ks_uring **out, struct fuse_session *se,
		 const struct ks_uring_opts *o) KS_MUST_CHECK;
/* After fuse_session_unmount(): joins the threads. NULL is fine. */
void ks_uring_free(struct ks_uring *u);

/* The session's custom I/O, to be called from its callbacks. */
ssize_t ks_uring_read(struct ks_uring *u, int fd, void *buf, size_t n);
ssize_t ks_uring_writev(struct ks_uring *u, int fd, struct iovec *iov, int n);

/* True once INIT was answered and every queue is registered: from then on this is the transport. */
bool ks_uring_is_on(const struct ks_uring *u);
/* True once INIT was answered and it will never be on. */
bool ks_uring_is_refused(const struct ks_uring *u);
/* 0, or -errno: the kernel has stopped taking our commands. Nothing is served any more, and programs wait until the session is unmounted. */
int ks_uring_error(const struct ks_uring *u);
/* Why it is not on, for the log and kiseki-status: "the kernel does not offer it" ... */
const char *ks_uring_why_not(const struct ks_uring *u);

/* ---- for operations, in the thread that serves a request ---- */

/* Where a READ may put its data so that the reply need not be copied; NULL: not on a ring, or handed off. Valid until the reply. */
void *ks_uring_reply_buffer(size_t *size);
/* True in a ring's own thread: what would block must not. */
bool ks_uring_must_not_block(void);
/*
 * The request would block: the operation has changed nothing and sent nothing, has given up its request with fuse_reply_none(), and will be called
 * again, with the same message, by a thread that may block.
 */
void ks_uring_again(void);

#endif
