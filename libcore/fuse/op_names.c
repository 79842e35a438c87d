/* SPDX-License-Identifier: Apache-2.0 */
/* op_names.c: operations on names. Every one: take the request apart, call the vfs, reply. */
#include "fuse/internal.h"

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_attr a;
	int r = ks_vfs_lookup(f->vfs, &c, ks_fuse_ino(f, parent), name, &a);

	if (r == -ENOENT && f->entry_s > 0) {
		/* Node 0: the kernel remembers that there is no such name. */
		struct fuse_entry_param none = { .entry_timeout = f->entry_s };

		ks_fuse_result = r;
		KS_IGNORE(fuse_reply_entry(req, &none));
		return;
	}
	ks_fuse_reply_entry(req, &c, r, &a);
}

/* Node ids are inode numbers and stay valid: there is nothing to forget. */
static void op_forget(fuse_req_t req, fuse_ino_t node, uint64_t nlookup)
{
	(void)node;
	(void)nlookup;
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	(void)count;
	(void)forgets;
	fuse_reply_none(req);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx_maker(req, &mode);
	struct ks_attr a;

	ks_fuse_reply_entry(
		req, &c,
		ks_vfs_mknod(f->vfs, &c, ks_fuse_ino(f, parent), name, mode, (uint32_t)rdev, &a),
		&a);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct ks_fuse *f = ks_fuse_of(req);
	mode_t all = S_IFDIR | mode;
	struct ks_ctx c = ks_fuse_ctx_maker(req, &all);
	struct ks_attr a;

	ks_fuse_reply_entry(req, &c,
			    ks_vfs_mkdir(f->vfs, &c, ks_fuse_ino(f, parent), name, all, &a), &a);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx_maker(req, NULL);
	struct ks_attr a;

	ks_fuse_reply_entry(
		req, &c, ks_vfs_symlink(f->vfs, &c, ks_fuse_ino(f, parent), name, target, &a), &a);
}

static void op_link(fuse_req_t req, fuse_ino_t node, fuse_ino_t newparent, const char *newname)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_attr a;

	ks_fuse_reply_entry(req, &c,
			    ks_vfs_link(f->vfs, &c, ks_fuse_ino(f, node), ks_fuse_ino(f, newparent),
					newname, &a),
			    &a);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);

	ks_fuse_reply(req, &c, ks_vfs_unlink(f->vfs, &c, ks_fuse_ino(f, parent), name));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);

	ks_fuse_reply(req, &c, ks_vfs_rmdir(f->vfs, &c, ks_fuse_ino(f, parent), name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	struct ks_fuse *f = ks_fuse_of(req);
	/* It can make a whiteout. */
	struct ks_ctx c = ks_fuse_ctx_maker(req, NULL);

	ks_fuse_reply(req, &c,
		      ks_vfs_rename(f->vfs, &c, ks_fuse_ino(f, parent), name,
				    ks_fuse_ino(f, newparent), newname, flags));
}

static void op_readlink(fuse_req_t req, fuse_ino_t node)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_buf target = { 0 };
	const char *text;
	int r = ks_vfs_readlink(f->vfs, &c, ks_fuse_ino(f, node), &target);

	if (r == 0)
		r = ks_buf_cstr(&target, &text);
	if (r == 0)
		KS_IGNORE(fuse_reply_readlink(req, text));
	else
		ks_fuse_reply(req, &c, r);
	ks_buf_clear(&target);
}

void ks_fuse_ops_names(struct fuse_lowlevel_ops *ops)
{
	ops->lookup = op_lookup;
	ops->forget = op_forget;
	ops->forget_multi = op_forget_multi;
	ops->mknod = op_mknod;
	ops->mkdir = op_mkdir;
	ops->symlink = op_symlink;
	ops->link = op_link;
	ops->unlink = op_unlink;
	ops->rmdir = op_rmdir;
	ops->rename = op_rename;
	ops->readlink = op_readlink;
}
