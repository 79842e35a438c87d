/* SPDX-License-Identifier: Apache-2.0 */
/* op_attrs.c: attributes, extended attributes, chattr's flags, the file system's size. */
#include "fuse/internal.h"
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>

static void op_getattr(fuse_req_t req, fuse_ino_t node, struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_attr a;

	(void)fi;
	ks_fuse_reply_attr(req, &c, ks_vfs_getattr(f->vfs, &c, ks_fuse_ino(f, node), &a), &a);
}

/* FATTR_KILL_SUIDGID of the protocol; libfuse has named it only since 3.13. */
#define SET_KILL_SUIDGID (1 << 11)

static uint32_t set_bits(int to_set)
{
	static const struct {
		int fuse;
		uint32_t ks;
	} bits[] = {
		{ FUSE_SET_ATTR_MODE, KS_SET_MODE },   { FUSE_SET_ATTR_UID, KS_SET_UID },
		{ FUSE_SET_ATTR_GID, KS_SET_GID },     { FUSE_SET_ATTR_SIZE, KS_SET_SIZE },
		{ FUSE_SET_ATTR_CTIME, KS_SET_CTIME }, { SET_KILL_SUIDGID, KS_SET_KILL_PRIV },
	};
	uint32_t set = 0;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bits); i++)
		set |= to_set & bits[i].fuse ? bits[i].ks : 0;
	/* "Now" comes together with the plain bit, and wins: it is the server's clock that counts. */
	if (to_set & FUSE_SET_ATTR_ATIME_NOW)
		set |= KS_SET_ATIME_NOW;
	else if (to_set & FUSE_SET_ATTR_ATIME)
		set |= KS_SET_ATIME;
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		set |= KS_SET_MTIME_NOW;
	else if (to_set & FUSE_SET_ATTR_MTIME)
		set |= KS_SET_MTIME;
	return set;
}

static void op_setattr(fuse_req_t req, fuse_ino_t node, struct stat *st, int to_set,
		       struct fuse_file_info *fi)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_attr a, in = {
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size = (uint64_t)st->st_size,
		.atime_ns = ks_ts_to_ns(st->st_atim),
		.mtime_ns = ks_ts_to_ns(st->st_mtim),
		.ctime_ns = ks_ts_to_ns(st->st_ctim),
	};
	uint32_t set = set_bits(to_set);
	int r = f->squashes ? ks_fuse_squash_change(f, &set, &in) : 0;

	(void)fi;
	if (r == 0)
		r = ks_vfs_setattr(f->vfs, &c, ks_fuse_ino(f, node), set, &in, &a);
	ks_fuse_reply_attr(req, &c, r, &a);
}

/*
 * Does setting an access ACL take the setgid bit away, as a chmod would? The kernel can say so, but to libfuses that ask it only. Root stands for CAP_FSETID; who
 * cannot be asked for the groups has none.
 */
static bool kills_sgid(fuse_req_t req, struct ks_fuse *f, const struct ks_ctx *c, ks_ino_t ino)
{
	gid_t groups[256];
	struct ks_attr a;
	int n;

	if (c->cred.uid == 0 || ks_vfs_getattr(f->vfs, c, ino, &a) < 0 || !(a.mode & S_ISGID) ||
	    a.gid == c->cred.gid)
		return false;
	n = fuse_req_getgroups(req, KS_ARRAY_SIZE(groups), groups);
	for (int i = 0; i < n && i < (int)KS_ARRAY_SIZE(groups); i++)
		if (groups[i] == a.gid)
			return false;
	return true;
}

static void op_setxattr(fuse_req_t req, fuse_ino_t node, const char *name, const char *value,
			size_t size, int flags)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);

	if (ks_fuse_squash_hides(f, name)) {
		ks_fuse_reply(req, &c, -EOPNOTSUPP);
		return;
	}
	flags &= KS_XATTR_CREATE | KS_XATTR_REPLACE;
	if (strcmp(name, KS_ACL_ACCESS) == 0 && kills_sgid(req, f, &c, ks_fuse_ino(f, node)))
		flags |= KS_XATTR_KILL_SGID;
	ks_fuse_reply(req, &c,
		      ks_vfs_setxattr(f->vfs, &c, ks_fuse_ino(f, node), name, value, size, flags));
}

/* The answer to getxattr and listxattr: the length when none was offered, else all of it. */
static void reply_xattr(fuse_req_t req, const struct ks_ctx *c, int r, struct ks_buf *b,
			size_t size)
{
	if (r == 0 && size > 0 && b->n > size)
		r = -ERANGE;
	if (r < 0)
		ks_fuse_reply(req, c, r);
	else if (size == 0)
		KS_IGNORE(fuse_reply_xattr(req, b->n));
	else
		KS_IGNORE(fuse_reply_buf(req, b->p, b->n));
	ks_buf_clear(b);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t node, const char *name, size_t size)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_buf b = { 0 };
	int r = ks_fuse_squash_hides(f, name)
			? -EOPNOTSUPP
			: ks_vfs_getxattr(f->vfs, &c, ks_fuse_ino(f, node), name, &b);

	reply_xattr(req, &c, r, &b, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t node, size_t size)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct ks_buf b = { 0 };
	int r = ks_vfs_listxattr(f->vfs, &c, ks_fuse_ino(f, node), &b);

	if (f->squashes)
		ks_fuse_squash_list(&b);
	reply_xattr(req, &c, r, &b, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t node, const char *name)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);

	ks_fuse_reply(req, &c,
		      ks_fuse_squash_hides(f, name)
			      ? -EOPNOTSUPP
			      : ks_vfs_removexattr(f->vfs, &c, ks_fuse_ino(f, node), name));
}

/* ---- lsattr and chattr; the kernel has checked CAP_LINUX_IMMUTABLE ---- */

static const struct {
	uint32_t ks;
	unsigned int flag;  /* of FS_IOC_GETFLAGS */
	unsigned int xflag; /* of FS_IOC_FSGETXATTR, which the kernel asks before it sets either */
} flag_bits[] = {
	{ KS_INODE_IMMUTABLE, FS_IMMUTABLE_FL, FS_XFLAG_IMMUTABLE },
	{ KS_INODE_APPEND, FS_APPEND_FL, FS_XFLAG_APPEND },
	{ KS_INODE_NODUMP, FS_NODUMP_FL, FS_XFLAG_NODUMP },
};

static int get_flags(struct ks_fuse *f, const struct ks_ctx *c, ks_ino_t ino, unsigned int *flags,
		     struct fsxattr *fsx)
{
	struct ks_attr a;
	int r = ks_vfs_getattr(f->vfs, c, ino, &a);

	*flags = 0;
	*fsx = (struct fsxattr){ 0 };
	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(flag_bits); i++) {
		if (!(a.flags & flag_bits[i].ks))
			continue;
		*flags |= flag_bits[i].flag;
		fsx->fsx_xflags |= flag_bits[i].xflag;
	}
	return r;
}

/* @flags, or the flags of @fsx. */
static int set_flags(struct ks_fuse *f, const struct ks_ctx *c, ks_ino_t ino, unsigned int flags,
		     const struct fsxattr *fsx)
{
	struct ks_attr a, in = { 0 };
	unsigned int known = 0;
	unsigned int given = fsx ? fsx->fsx_xflags : flags;

	for (size_t i = 0; i < KS_ARRAY_SIZE(flag_bits); i++) {
		unsigned int bit = fsx ? flag_bits[i].xflag : flag_bits[i].flag;

		known |= bit;
		in.flags |= given & bit ? flag_bits[i].ks : 0;
	}
	if (given & ~known)
		return -EOPNOTSUPP;
	/* Projects and the allocation of extents are no notions of this file system. */
	if (fsx && (fsx->fsx_extsize || fsx->fsx_projid || fsx->fsx_cowextsize))
		return -EOPNOTSUPP;
	return ks_vfs_setattr(f->vfs, c, ino, KS_SET_FLAGS, &in, &a);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t node, unsigned int cmd, void *arg,
		     struct fuse_file_info *fi, unsigned int flags, const void *in_buf,
		     size_t in_size, size_t out_size)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	ks_ino_t ino = ks_fuse_ino(f, node);
	const void *out = NULL;
	size_t size = 0;
	struct fsxattr fsx;
	unsigned int bits;
	int r = -ENOTTY;

	(void)arg;
	(void)fi;
	(void)flags;
	/* GETFLAGS and SETFLAGS say "long", the kernel passes an int. */
	if (cmd == FS_IOC_GETFLAGS && out_size >= sizeof(bits)) {
		r = get_flags(f, &c, ino, &bits, &fsx);
		out = &bits;
		size = sizeof(bits);
	} else if (cmd == FS_IOC_FSGETXATTR && out_size >= sizeof(fsx)) {
		r = get_flags(f, &c, ino, &bits, &fsx);
		out = &fsx;
		size = sizeof(fsx);
	} else if (cmd == FS_IOC_SETFLAGS && in_size >= sizeof(bits)) {
		memcpy(&bits, in_buf, sizeof(bits));
		r = set_flags(f, &c, ino, bits, NULL);
	} else if (cmd == FS_IOC_FSSETXATTR && in_size >= sizeof(fsx)) {
		memcpy(&fsx, in_buf, sizeof(fsx));
		r = set_flags(f, &c, ino, 0, &fsx);
	}
	if (r < 0)
		ks_fuse_reply(req, &c, r);
	else
		KS_IGNORE(fuse_reply_ioctl(req, 0, out, size));
}

static void op_statfs(fuse_req_t req, fuse_ino_t node)
{
	struct ks_fuse *f = ks_fuse_of(req);
	struct ks_ctx c = ks_fuse_ctx(req);
	struct statvfs st = { .f_bsize = 4096, .f_frsize = 4096, .f_namemax = KS_NAME_MAX };
	struct ks_statfs s;
	int r = ks_vfs_statfs(f->vfs, &s);

	(void)node;
	if (r < 0) {
		ks_fuse_reply(req, &c, r);
		return;
	}
	st.f_blocks = s.total_bytes / st.f_frsize;
	st.f_bfree = s.free_bytes / st.f_frsize;
	st.f_bavail = st.f_bfree;
	/* Without a limit: as many inodes as there is room for file data, as btrfs and xfs think of it. */
	st.f_ffree = s.inodes_max ? (s.inodes_max > s.inodes ? s.inodes_max - s.inodes : 0)
				  : ks_max(st.f_bfree, (fsblkcnt_t)1);
	st.f_files = s.inodes + st.f_ffree;
	st.f_favail = st.f_ffree;
	KS_IGNORE(fuse_reply_statfs(req, &st));
}

void ks_fuse_ops_attrs(struct fuse_lowlevel_ops *ops)
{
	ops->getattr = op_getattr;
	ops->setattr = op_setattr;
	ops->setxattr = op_setxattr;
	ops->getxattr = op_getxattr;
	ops->listxattr = op_listxattr;
	ops->removexattr = op_removexattr;
	ops->ioctl = op_ioctl;
	ops->statfs = op_statfs;
}
