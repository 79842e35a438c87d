/* SPDX-License-Identifier: Apache-2.0 */
/* name.c: what changes directories: make, link, unlink, rename. */
#include "vfs/internal.h"
#include <string.h>

int ks_vfs_may_change(struct ks_vfs *v, ks_ino_t parent, const char *name, bool make)
{
	int r = v->readonly ? -EROFS : ks_vfs_check_name(name);

	return r < 0 ? r : ks_virtual_may_change(v, parent, name, make);
}

int ks_vfs_mknod(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		 uint32_t mode, uint32_t rdev, struct ks_attr *out)
{
	int r = ks_vfs_may_change(v, parent, name, true);

	if (r == 0 && (S_ISDIR(mode) || S_ISLNK(mode)))
		r = -EINVAL;
	return r < 0 ? r : ks_meta_mknod(v->meta, &c->cred, parent, name, mode, rdev, NULL, out);
}

int ks_vfs_mkdir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		 uint32_t mode, struct ks_attr *out)
{
	int r = ks_vfs_may_change(v, parent, name, true);

	return r < 0 ? r
		     : ks_meta_mknod(v->meta, &c->cred, parent, name, S_IFDIR | (mode & 07777), 0,
				     NULL, out);
}

int ks_vfs_symlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		   const char *target, struct ks_attr *out)
{
	int r = ks_vfs_may_change(v, parent, name, true);

	if (r < 0)
		return r;
	if (!*target)
		return -ENOENT;
	if (strlen(target) > KS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return ks_meta_mknod(v->meta, &c->cred, parent, name, S_IFLNK | 0777, 0, target, out);
}

int ks_vfs_link(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, ks_ino_t newparent,
		const char *newname, struct ks_attr *out)
{
	struct ks_vnode *vn;
	int r = ks_vfs_may_change(v, newparent, newname, true);

	(void)c;
	if (r == 0 && ks_is_virtual(v, ino))
		r = -EPERM;
	if (r < 0)
		return r;
	/* An inode that gets its first name becomes visible to others: with everything that was written to it. */
	vn = ks_vnode_pin(v, ino);
	if (vn) {
		if (ks_vnode_is_unlinked(v, vn))
			r = ks_file_flush(vn->file);
		ks_vnode_unpin(v, vn);
	}
	if (r == 0)
		r = ks_meta_link(v->meta, ino, newparent, newname, out);
	if (r < 0)
		return r;
	ks_seen_own(v, ino, out->change);
	ks_vnode_set_unlinked(v, out);
	return ks_vfs_overlay(v, out);
}

void ks_vfs_lost_name(struct ks_vfs *v, const struct ks_attr *a)
{
	if (a->nlink > 0)
		ks_seen_own(v, a->ino, a->change);
	else if (S_ISREG(a->mode))
		ks_vnode_set_unlinked(v, a);
	else
		ks_ghost_add(v, a);
}

int ks_vfs_unlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name)
{
	struct ks_attr gone = { 0 };
	int r = ks_vfs_may_change(v, parent, name, false);

	(void)c;
	if (r == 0)
		r = ks_meta_unlink(v->meta, parent, name, &gone);
	if (r == 0)
		ks_vfs_lost_name(v, &gone);
	return r;
}

int ks_vfs_rmdir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name)
{
	struct ks_attr gone = { 0 };
	int r = ks_vfs_may_change(v, parent, name, false);

	(void)c;
	if (r == 0)
		r = ks_meta_rmdir(v->meta, parent, name, &gone);
	if (r == 0)
		ks_ghost_add(v, &gone);
	return r;
}

/*
 * "Write a new file, rename it over the old one" must never leave an empty or torn file after a power cut, although most programs do not
 * fsync: so the new content is made durable first. Costs nothing unless something was written since the last sync.
 */
static int settle_before_replace(struct ks_vfs *v, ks_ino_t parent, const char *name,
				 ks_ino_t newparent, const char *newname)
{
	struct ks_attr from, to;
	struct ks_vnode *vn;
	bool foreign;
	int r;

	if (!ks_unsynced_any(v) && __atomic_load_n(&v->nwriters, __ATOMIC_RELAXED) == 0 &&
	    ks_meta_is_quiet(v->meta))
		return 0;
	/* What cannot be found is the rename's to report. */
	if (ks_meta_lookup(v->meta, newparent, newname, &to) < 0 || !S_ISREG(to.mode))
		return 0;
	if (ks_meta_lookup(v->meta, parent, name, &from) < 0 || !S_ISREG(from.mode) ||
	    from.ino == to.ino)
		return 0;
	vn = ks_vnode_pin(v, from.ino);
	if (vn) {
		r = ks_file_flush(vn->file);
		ks_vnode_unpin(v, vn);
		if (r < 0)
			return r;
	}
	r = ks_adopt_foreign(v, from.ino, &foreign);
	return r == 0 && (foreign || ks_unsynced_has(v, from.ino)) ? ks_store_sync(v) : r;
}

int ks_vfs_rename(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  ks_ino_t newparent, const char *newname, unsigned int flags)
{
	struct ks_attr moved = { 0 }, replaced = { 0 };
	int r = ks_vfs_may_change(v, parent, name, false);

	if (r == 0)
		r = ks_vfs_may_change(v, newparent, newname, false);
	if (r < 0)
		return r;
	if (flags & ~(unsigned int)(KS_RENAME_NOREPLACE | KS_RENAME_EXCHANGE | KS_RENAME_WHITEOUT))
		return -EINVAL;
	if (!(flags & (KS_RENAME_NOREPLACE | KS_RENAME_EXCHANGE)))
		r = settle_before_replace(v, parent, name, newparent, newname);
	if (r == 0)
		r = ks_meta_rename(v->meta, &c->cred, parent, name, newparent, newname, flags,
				   &moved, &replaced);
	if (r < 0)
		return r;
	ks_seen_own(v, moved.ino, moved.change);
	if (replaced.ino)
		ks_vfs_lost_name(v, &replaced);
	return 0;
}
