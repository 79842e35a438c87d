/* SPDX-License-Identifier: Apache-2.0 */
/*
 * op_dirs.c: open directories. An entry's cookie is the hash of its name; of names with one hash a reply has all or none, since the next reply starts
 * behind a hash.
 */
#include "fuse/internal.h"

struct fill {
	fuse_req_t req;
	struct ks_fuse *f;
	char *buf;
	size_t size, used;
	size_t run; /* where the entries of the last hash begin */
	bool plus;
	bool cut; /* a run of one hash did not fit */
};

/* The length of the entry, whether it fitted or not. */
static size_t add(struct fill *d, const char *name, uint64_t cookie, ks_ino_t ino, uint32_t dtype,
		  const struct ks_attr *a)
{
	struct fuse_entry_param e = { 0 };
	bool dot = cookie < KS_DENTRY_HASH_MIN;

	/* For dots and what cannot be read now node 0: the kernel takes the name and type only. */
	if (d->plus && a && !dot) {
		ks_fuse_entry(d->f, a, &e);
	} else {
		e.attr.st_ino = ino;
		e.attr.st_mode = dtype << 12;
	}
	if (d->plus)
		return fuse_add_direntry_plus(d->req, d->buf + d->used, d->size - d->used, name, &e,
					      (off_t)cookie);
	return fuse_add_direntry(d->req, d->buf + d->used, d->size - d->used, name, &e.attr,
				 (off_t)cookie);
}

static int fill_one(void *arg, const char *name, size_t namelen, uint64_t cookie, ks_ino_t ino,
		    uint32_t dtype, const struct ks_attr *a, bool glued)
{
	struct fill *d = arg;
	char text[KS_NAME_MAX + 1];
	size_t n;

	memcpy(text, name, namelen);
	text[namelen] = '\0';
	n = add(d, text, cookie, ino, dtype, a);
	if (n > d->size - d->used) {
		if (glued) {
			d->used = d->run;
			d->cut = true;
		}
		return 1;
	}
	if (!glued)
		d->run = d->used;
	d->used += n;
	return 0;
}

static void do_readdir(fuse_req_t req, size_t size, off_t off, struct fuse_file_info *fi, bool plus)
{
	struct ks_ctx c = ks_fuse_ctx(req);
	struct fill d = { .req = req,
			  .f = ks_fuse_of(req),
			  .size = size,
			  .plus = plus,
			  .buf = ks_fuse_buffer(size) };
	int r = -ENOMEM;

	if (d.buf)
		r = ks_vfs_readdir(ks_fuse_fh(fi), &c, (uint64_t)off, plus, fill_one, &d);
	/* An empty reply would say that the directory ends here. */
	if (r == 0 && d.cut && d.used == 0)
		r = -EOVERFLOW;
	if (r < 0)
		ks_fuse_reply(req, &c, r);
	else
		KS_IGNORE(fuse_reply_buf(req, d.buf, d.used));
}

static void op_opendir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_fh *fh;
	int r = ks_vfs_opendir(f->vfs, &c, ks_fuse_ino(f, node), &fh);

	if (r < 0) {
		ks_fuse_reply(req, &c, r);
		return;
	}
	fi->fh = (uintptr_t)fh;
	if (fuse_reply_open(req, fi) == -ENOENT)
		ks_vfs_release(fh);
}

static void op_readdir(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)node;
	do_readdir(req, size, off, fi, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t node, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	(void)node;
	do_readdir(req, size, off, fi, true);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	(void)node;
	ks_vfs_release(ks_fuse_fh(fi));
	KS_IGNORE(fuse_reply_err(req, 0));
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t node, int datasync, struct fuse_file_info *fi)
{
	struct ks_ctx c = ks_fuse_ctx(req);

	(void)node;
	ks_fuse_reply(req, &c, ks_vfs_fsync(ks_fuse_fh(fi), &c, datasync));
}

void ks_fuse_ops_dirs(struct fuse_lowlevel_ops *ops)
{
	ops->opendir = op_opendir;
	ops->readdir = op_readdir;
	ops->readdirplus = op_readdirplus;
	ops->releasedir = op_releasedir;
	ops->fsyncdir = op_fsyncdir;
}
