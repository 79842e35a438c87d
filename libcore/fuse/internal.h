/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h: what the files of fuse/ share. */
#ifndef KS_FUSE_INTERNAL_H
#define KS_FUSE_INTERNAL_H

/* Of libfuse's interface: 3.14, and what later ones add is asked for by FUSE_VERSION. */
#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "fuse/fuse.h"
#include "fuse/transport.h"
#include <errno.h>
#include <fuse_lowlevel.h>
#include <string.h>

#define KS_FUSE_STOP_SIGNAL SIGUSR2 /* interrupts a wait for requests; its handler does nothing */

struct ks_fuse {
	struct ks_vfs *vfs;
	ks_ino_t root; /* shown to the kernel as node 1 */
	double attr_s, entry_s;
	bool export;
	bool squashes; /* squash.c has something to do */
	struct ks_squash squash;
	bool direct_writes; /* the kernel keeps cached readers right beside direct writers */
	const struct ks_transport_ops *transport;
	struct ks_transport_opts topts;
	struct fuse_session *se;
	bool mounted;
	const unsigned int *listeners; /* of the access log; atomic */

	pthread_mutex_t wait_mu;
	struct ks_waiting {
		fuse_req_t req; /* NULL: a free place */
		struct ks_fh *fh;
		size_t size;
	} waiting[KS_LOG_READERS]; /* [wait_mu] */
	unsigned int nwaiting;     /* [wait_mu] places taken; atomic, read without the lock */

	pthread_mutex_t mu;
	pthread_t runner; /* [mu] the thread in ks_fuse_run() */
	bool running;     /* [mu] */
};

/* The operations, in the files that have them. */
void ks_fuse_ops_names(struct fuse_lowlevel_ops *ops);
void ks_fuse_ops_attrs(struct fuse_lowlevel_ops *ops);
void ks_fuse_ops_files(struct fuse_lowlevel_ops *ops);
void ks_fuse_ops_dirs(struct fuse_lowlevel_ops *ops);

/* ---- oplog.c ---- */

/* fuse_session_process_buf(), with a line for the access log while somebody reads that. Every transport comes through here. */
void ks_fuse_process(struct ks_fuse *f, const struct fuse_buf *buf);

/* ---- waiting.c ---- */

void ks_fuse_waiting_init(struct ks_fuse *f);
void ks_fuse_waiting_destroy(struct ks_fuse *f); /* ends the log; nothing is served any more */
/* The read of a stream that has nothing now: answered when it has, by another thread. Takes @req over. */
void ks_fuse_wait(fuse_req_t req, struct ks_fh *fh, size_t size);

/* ---- squash.c: only while f->squashes, but for the first and ks_fuse_squash_hides() ---- */

void ks_fuse_squash_init(struct ks_fuse *f, const struct ks_squash *s);
void ks_fuse_squash_stat(const struct ks_fuse *f, struct stat *st);
/* Who makes something is another; so are its permissions (@mode has the type; may be NULL). */
void ks_fuse_squash_maker(const struct ks_fuse *f, struct ks_ctx *c, mode_t *mode);
/* KS_SET_* bits and values of a change. -EPERM: to another owner. */
int ks_fuse_squash_change(const struct ks_fuse *f, uint32_t *set, struct ks_attr *in) KS_MUST_CHECK;
/* Is there no such extended attribute on this mount? It is an ACL then, which has the owner and permissions that are stored. */
bool ks_fuse_squash_hides(const struct ks_fuse *f, const char *name);
void ks_fuse_squash_list(struct ks_buf *names); /* takes those away */

/* ---- what every operation needs (reply.c) ---- */

/* What the operation that this thread serves came to: 0, -errno; KS_FUSE_AGAIN: it will be served once more. */
extern _Thread_local int ks_fuse_result;
#define KS_FUSE_AGAIN 1

static inline struct ks_fuse *ks_fuse_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static inline ks_ino_t ks_fuse_ino(const struct ks_fuse *f, fuse_ino_t node)
{
	return node == FUSE_ROOT_ID ? f->root : node;
}

static inline struct ks_fh *ks_fuse_fh(const struct fuse_file_info *fi)
{
	return (struct ks_fh *)(uintptr_t)fi->fh;
}

struct ks_ctx ks_fuse_ctx(fuse_req_t req);
/* The same for what makes something, whose owner and permissions it decides; @mode with its type, or NULL. */
struct ks_ctx ks_fuse_ctx_maker(fuse_req_t req, mode_t *mode);
/* @r: 0 or -errno. Gives a request back that would have blocked. */
void ks_fuse_reply(fuse_req_t req, const struct ks_ctx *c, int r);
void ks_fuse_reply_entry(fuse_req_t req, const struct ks_ctx *c, int r, const struct ks_attr *a);
void ks_fuse_reply_attr(fuse_req_t req, const struct ks_ctx *c, int r, const struct ks_attr *a);
void ks_fuse_stat(const struct ks_fuse *f, const struct ks_attr *a, struct stat *st);
void ks_fuse_entry(const struct ks_fuse *f, const struct ks_attr *a, struct fuse_entry_param *e);
/* A buffer of this thread, page aligned, reused by every request; NULL: no memory. */
void *ks_fuse_buffer(size_t n);
/* reply_buffer() of the classic transport, also for one that has fallen back to it. NULL: not in a thread of its loop. */
void *ks_classic_reply_buffer(size_t *size);
/* A reply is about to be written to /dev/fuse. */
void ks_classic_before_reply(void);

#endif
