/* SPDX-License-Identifier: Apache-2.0 */
/* reply.c: what all operations do: who asks, what is answered, and a buffer per thread for data on its way out. */
#include "fuse/internal.h"
#include <stdlib.h>

#define BUFFER_MIN ((size_t)1 << 20) /* the largest READ of the kernel's defaults */
#define BLKSIZE 65536                /* what stdio and cp take as the unit of I/O */

_Thread_local int ks_fuse_result;

struct ks_ctx ks_fuse_ctx(fuse_req_t req)
{
	const struct fuse_ctx *fc = fuse_req_ctx(req);
	const struct ks_transport_ops *t = ks_fuse_of(req)->transport;
	struct ks_ctx c = { .cred = { .uid = fc->uid,
				      .gid = fc->gid,
				      .pid = (uint32_t)fc->pid,
				      .umask = fc->umask } };

	if (t->must_not_block && t->must_not_block())
		c.flags |= KS_VFS_NOBLOCK;
	return c;
}

struct ks_ctx ks_fuse_ctx_maker(fuse_req_t req, mode_t *mode)
{
	const struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);

	if (f->squashes)
		ks_fuse_squash_maker(f, &c, mode);
	return c;
}

/* What only concerns this process would tell the program a lie about its own call. */
static int for_program(int r)
{
	switch (r) {
	case -EMFILE:
	case -ENFILE:
	case -EINTR:
	case -EBADMSG:
		return EIO;
	default:
		return -r;
	}
}

void ks_fuse_reply(fuse_req_t req, const struct ks_ctx *c, int r)
{
	const struct ks_transport_ops *t = ks_fuse_of(req)->transport;

	if (r == -EWOULDBLOCK && (c->flags & KS_VFS_NOBLOCK)) {
		ks_fuse_result = KS_FUSE_AGAIN;
		fuse_reply_none(req);
		t->again();
		return;
	}
	ks_fuse_result = r;
	/* A reply that fails is one that nobody waits for any more. */
	KS_IGNORE(fuse_reply_err(req, for_program(r)));
}

void ks_fuse_stat(const struct ks_fuse *f, const struct ks_attr *a, struct stat *st)
{
	*st = (struct stat){
		.st_ino = a->ino,
		.st_mode = a->mode,
		.st_nlink = a->nlink,
		.st_uid = a->uid,
		.st_gid = a->gid,
		.st_rdev = a->rdev, /* the protocol has the form that is stored */
		.st_size = (off_t)a->size,
		.st_blksize = BLKSIZE,
		.st_blocks = (blkcnt_t)((a->used + 511) / 512),
		.st_atim = ks_ns_to_ts(a->atime_ns),
		.st_mtim = ks_ns_to_ts(a->mtime_ns),
		.st_ctim = ks_ns_to_ts(a->ctime_ns),
	};
	if (f->squashes)
		ks_fuse_squash_stat(f, st);
}

void ks_fuse_entry(const struct ks_fuse *f, const struct ks_attr *a, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = a->ino == f->root ? FUSE_ROOT_ID : a->ino,
		.generation = 1, /* inode numbers are never used again */
		.attr_timeout = f->attr_s,
		.entry_timeout = f->entry_s,
	};
	ks_fuse_stat(f, a, &e->attr);
}

void ks_fuse_reply_entry(fuse_req_t req, const struct ks_ctx *c, int r, const struct ks_attr *a)
{
	struct fuse_entry_param e;

	if (r < 0) {
		ks_fuse_reply(req, c, r);
		return;
	}
	ks_fuse_entry(ks_fuse_of(req), a, &e);
	KS_IGNORE(fuse_reply_entry(req, &e));
}

void ks_fuse_reply_attr(fuse_req_t req, const struct ks_ctx *c, int r, const struct ks_attr *a)
{
	struct stat st;

	if (r < 0) {
		ks_fuse_reply(req, c, r);
		return;
	}
	ks_fuse_stat(ks_fuse_of(req), a, &st);
	KS_IGNORE(fuse_reply_attr(req, &st, ks_fuse_of(req)->attr_s));
}

/* ---- the buffer ---- */

static _Thread_local struct {
	void *p;
	size_t n;
} buffer;
static pthread_key_t
	buffer_key; /* only frees at the end of a thread; libfuse makes and ends threads as it likes */
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_key(void)
{
	/* Without the key a thread's buffer is not freed: no reason to fail. */
	KS_IGNORE(pthread_key_create(&buffer_key, free));
}

void *ks_fuse_buffer(size_t n)
{
	void *p;

	if (n <= buffer.n)
		return buffer.p;
	n = ks_max((size_t)ks_round_up(n, 4096), BUFFER_MIN);
	p = aligned_alloc(4096, n);
	if (!p)
		return NULL;
	pthread_once(&buffer_once, make_key);
	free(buffer.p);
	buffer.p = p;
	buffer.n = n;
	KS_IGNORE(pthread_setspecific(buffer_key, p));
	return p;
}
