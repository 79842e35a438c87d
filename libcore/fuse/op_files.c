/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_files.c: operations on open files.
 *
 * There is no getlk, setlk and flock: without them the kernel keeps both kinds of locks itself, which is exact within one mount.
 */
#include "fuse/internal.h"
#include <fcntl.h>

/* How the kernel shall treat this open file. */
static void set_info(const struct ks_fuse *f, struct fuse_file_info *fi, struct ks_fh *fh,
		     const struct ks_open_how *how)
{
	fi->fh = (uintptr_t)fh;
	fi->keep_cache = how->keep_cache;
	fi->direct_io = how->made_up || (how->direct_io && f->direct_writes);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 15)
	fi->parallel_direct_writes = fi->direct_io;
#endif
	fi->nonseekable = how->stream;
	/* Nothing was written: closing has nothing to wait for. The kernel drops its own locks without being told. */
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
}

static void op_open(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_open_how how = { 0 };
	struct ks_fh *fh;
	int r = ks_vfs_open(f->vfs, &c, ks_fuse_ino(f, node), fi->flags, &fh, &how);

	if (r < 0) {
		ks_fuse_reply(req, &c, r);
		return;
	}
	set_info(f, fi, fh, &how);
	/* Interrupted: nobody will release it. */
	if (fuse_reply_open(req, fi) == -ENOENT)
		ks_vfs_release(fh);
}

static void reply_create(fuse_req_t req, struct fuse_file_info *fi, struct ks_fh *fh,
			 const struct ks_attr *a, const struct ks_open_how *how)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct fuse_entry_param e;

	ks_fuse_entry(f, a, &e);
	set_info(f, fi, fh, how);
	if (fuse_reply_create(req, &e, fi) == -ENOENT)
		ks_vfs_release(fh);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx_maker(req, &mode);
	struct ks_open_how how = { 0 };
	struct ks_attr a;
	struct ks_fh *fh;
	/* Another mount may have made it meanwhile. It is not opened here, past the permission checks: ESTALE makes the kernel look it up anew and open it. */
	int r = ks_vfs_create(f->vfs, &c, ks_fuse_ino(f, parent), name, mode, fi->flags | O_EXCL,
			      &a, &fh, &how);

	if (r < 0)
		ks_fuse_reply(req, &c, r == -EEXIST && !(fi->flags & O_EXCL) ? -ESTALE : r);
	else
		reply_create(req, fi, fh, &a, &how);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx_maker(req, &mode);
	struct ks_open_how how = { .direct_io = (fi->flags & O_ACCMODE) == O_WRONLY };
	struct ks_attr a;
	struct ks_fh *fh;
	int r = ks_vfs_tmpfile(f->vfs, &c, ks_fuse_ino(f, parent), mode, fi->flags, &a, &fh);

	if (r < 0)
		ks_fuse_reply(req, &c, r);
	else
		reply_create(req, fi, fh, &a, &how);
}
#endif

static void op_read(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	const struct ks_transport_ops *t = ks_fuse_of(req)->transport;
	struct ks_ctx c = ks_fuse_ctx(req);
	size_t room = 0;
	char *buf = t->reply_buffer ? t->reply_buffer(&room) : NULL;
	ssize_t n = -ENOMEM;

	(void)node;
	if (!buf || room < size)
		buf = ks_fuse_buffer(size);
	if (buf)
		n = ks_vfs_read(ks_fuse_fh(fi), &c, (uint64_t)off, buf, size);
	if (n == -EAGAIN && !(fi->flags & O_NONBLOCK) && ks_fh_is_stream(ks_fuse_fh(fi)))
		ks_fuse_wait(req, ks_fuse_fh(fi), size);
	else if (n < 0)
		ks_fuse_reply(req, &c, (int)n);
	else
		KS_IGNORE(fuse_reply_buf(req, buf, (size_t)n));
}

static void op_write(fuse_req_t req, fuse_ino_t node, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);
	ssize_t n;

	(void)node;
	if (fi->writepage)
		c.flags |= KS_VFS_PAGES;
	n = ks_vfs_write(ks_fuse_fh(fi), &c, (uint64_t)off, buf, size);
	if (n < 0)
		ks_fuse_reply(req, &c, (int)n);
	else
		KS_IGNORE(fuse_reply_write(req, (size_t)n));
}

static void op_flush(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);

	(void)node;
	ks_fuse_reply(req, &c, ks_vfs_flush(ks_fuse_fh(fi), &c));
}

static void op_release(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	ks_vfs_release(ks_fuse_fh(fi));
	KS_IGNORE(fuse_reply_err(req, 0));
}

static void op_fsync(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);

	(void)node;
	ks_fuse_reply(req, &c, ks_vfs_fsync(ks_fuse_fh(fi), &c, datasync));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t node, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);

	(void)node;
	ks_fuse_reply(req, &c,
		      ks_vfs_fallocate(ks_fuse_fh(fi), &c, mode, (uint64_t)off, (uint64_t)len));
}

static void op_lseek(fuse_req_t req, fuse_ino_t node, off_t off, int whence,
		     struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);
	uint64_t at;
	int r = off < 0 ? -ENXIO : ks_vfs_seek(ks_fuse_fh(fi), &c, (uint64_t)off, whence, &at);

	(void)node;
	if (r < 0)
		ks_fuse_reply(req, &c, r);
	else
		KS_IGNORE(fuse_reply_lseek(req, (off_t)at));
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t node_in, off_t off_in,
			       struct fuse_file_info *fi_in, fuse_ino_t node_out, off_t off_out,
			       struct fuse_file_info *fi_out, size_t len, int flags)
{
	struct ks_ctx c = ks_fuse_ctx(req);
	ssize_t n = -EINVAL;

	(void)node_in;
	(void)node_out;
	if (flags == 0)
		n = ks_vfs_copy_range(ks_fuse_fh(fi_in), (uint64_t)off_in, ks_fuse_fh(fi_out),
				      (uint64_t)off_out, len, &c);
	if (n < 0)
		ks_fuse_reply(req, &c, (int)n);
	else
		KS_IGNORE(fuse_reply_write(req, (size_t)n));
}

void ks_fuse_ops_files(struct fuse_lowlevel_ops *ops)
{
	ops->open = op_open;
	ops->create = op_create;
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	ops->tmpfile = op_tmpfile;
#endif
	ops->read = op_read;
	ops->write = op_write;
	ops->flush = op_flush;
	ops->release = op_release;
	ops->fsync = op_fsync;
	ops->fallocate = op_fallocate;
	ops->lseek = op_lseek;
	ops->copy_file_range = op_copy_file_range;
}
