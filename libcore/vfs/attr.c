/* SPDX-License-Identifier: Apache-2.0 */
/* attr.c: attributes, with what is written and not yet committed laid over them; symlink targets; extended attributes. */
#include "vfs/internal.h"
#include <string.h>

/* A node id outlives its inode: the caller's name for "it is gone" is ESTALE, upon which the kernel looks the path up again. */
static int stale(int r)
{
	return r == -ENOENT ? -ESTALE : r;
}

int ks_vfs_check_name(const char *name)
{
	size_t n = strlen(name);

	if (n > KS_NAME_MAX)
		return -ENAMETOOLONG;
	if (n == 0 || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return -EINVAL;
	return 0;
}

int ks_vfs_record(struct ks_vfs *v, ks_ino_t ino, struct ks_attr *out)
{
	return stale(ks_meta_getattr(v->meta, ino, out));
}

/* Lays @st over @a. False: a commit came between reading the record and @st, the record must be read again. */
static bool lay_over(struct ks_attr *a, const struct ks_file_state *st)
{
	uint64_t used;

	if (st->dirty_bytes == 0)
		return st->change <= a->change;
	/* What it will occupy is known when it is committed; more than the file's length is never right. */
	used = ks_min(a->used + st->dirty_bytes, ks_round_up(st->size, 512));
	a->used = ks_max(a->used, used);
	a->size = st->size;
	if (st->mtime_ns) {
		a->mtime_ns = st->mtime_ns;
		a->ctime_ns = ks_max(a->ctime_ns, st->mtime_ns);
	}
	return true;
}

void ks_ghost_add(struct ks_vfs *v, const struct ks_attr *a)
{
	KS_LOCKED(&v->ghosts_mu);
	if (!v->ghosts)
		v->ghosts = calloc(KS_GHOSTS, sizeof(*v->ghosts));
	/* Without memory the inode is gone at once. */
	if (!v->ghosts)
		return;
	v->ghosts[a->ino % KS_GHOSTS] = *a;
	v->ghosts[a->ino % KS_GHOSTS].nlink = 0;
}

bool ks_ghost_find(struct ks_vfs *v, ks_ino_t ino, struct ks_attr *out)
{
	KS_LOCKED(&v->ghosts_mu);
	if (!v->ghosts || v->ghosts[ino % KS_GHOSTS].ino != ino)
		return false;
	*out = v->ghosts[ino % KS_GHOSTS];
	return true;
}

int ks_vfs_overlay(struct ks_vfs *v, struct ks_attr *a)
{
	struct ks_file_state st;
	struct ks_vnode *vn;
	int r = 0;

	/* Dirty data lives no longer than the last handle that wrote it. */
	if (__atomic_load_n(&v->nwriters, __ATOMIC_RELAXED) == 0 || !S_ISREG(a->mode))
		return 0;
	vn = ks_vnode_pin(v, a->ino);
	if (!vn)
		return 0;
	for (int tries = 0; tries < 3; tries++) {
		ks_file_state(vn->file, &st);
		if (lay_over(a, &st))
			break;
		r = ks_meta_getattr(v->meta, a->ino, a);
		if (r < 0)
			break;
	}
	ks_vnode_unpin(v, vn);
	return stale(r);
}

static int lookup_dots(struct ks_vfs *v, ks_ino_t ino, bool up, struct ks_attr *out)
{
	int r = ks_vfs_record(v, ino, out);

	if (r < 0 || !up)
		return r;
	if (!S_ISDIR(out->mode))
		return -ENOTDIR;
	/* A subtree mount is not left through its root. */
	return ino == v->root || ino == KS_ROOT_INO ? 0 : ks_vfs_record(v, out->parent, out);
}

int ks_vfs_lookup(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  struct ks_attr *out)
{
	int r;

	(void)c;
	if (ks_is_virtual(v, parent) || ks_is_virtual_root(v, parent, name))
		return ks_virtual_lookup(v, parent, name, out);
	if (name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2])))
		return lookup_dots(v, parent, name[1] == '.', out);
	r = ks_vfs_check_name(name);
	if (r == 0)
		r = ks_meta_lookup(v->meta, parent, name, out);
	return r < 0 ? r : ks_vfs_overlay(v, out);
}

int ks_vfs_getattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, struct ks_attr *out)
{
	int r;

	(void)c;
	if (ks_is_virtual(v, ino))
		return ks_virtual_getattr(v, ino, out);
	r = ks_vfs_record(v, ino, out);
	if (r == -ESTALE && ks_ghost_find(v, ino, out))
		return 0;
	return r < 0 ? r : ks_vfs_overlay(v, out);
}

struct resize {
	struct ks_vfs *v;
	ks_ino_t ino;
	uint32_t set;
	const struct ks_attr *in;
	struct ks_attr *out;
};

static int resize_now(void *arg, uint64_t *size, uint64_t *change)
{
	struct resize *z = arg;
	int r = ks_meta_setattr(z->v->meta, z->ino, z->set, z->in, z->out);

	if (r < 0)
		return r;
	*size = z->out->size;
	*change = z->out->change;
	ks_seen_own(z->v, z->ino, z->out->change);
	return 0;
}

/* What the file is until the change is made: others may open it meanwhile. */
static int attach(struct ks_vfs *v, struct ks_vnode *vn, ks_ino_t ino)
{
	struct ks_attr a;
	bool known;
	int r;

	ks_mutex_lock(&vn->mu);
	known = vn->file != NULL;
	ks_mutex_unlock(&vn->mu);
	if (known)
		return 0;
	r = ks_vfs_record(v, ino, &a);
	return r < 0 ? r : ks_vnode_attach(v, vn, &a, NULL);
}

int ks_vfs_resize(struct ks_vfs *v, ks_ino_t ino, uint32_t set, const struct ks_attr *in,
		  struct ks_attr *out)
{
	struct resize z = { v, ino, set, in, out };
	struct ks_vnode *vn;
	int r;

	if (in->size > KS_FILE_MAX)
		return -EFBIG;
	/* Open for the time being, so that whoever opens it meanwhile shares the file and cannot hold an old length. */
	r = ks_vnode_get_open(v, ino, &vn);
	if (r < 0)
		return r;
	r = attach(v, vn, ino);
	if (r == 0)
		r = ks_file_exclusive(vn->file, in->size, resize_now, &z);
	ks_vnode_put_open(v, vn);
	return stale(r);
}

/* Who writes it, and how much of it is not stored yet. NULL: nobody does. The caller unpins. */
static struct ks_vnode *pin_writer(struct ks_vfs *v, ks_ino_t ino, uint64_t *dirty)
{
	struct ks_vnode *vn = NULL;
	struct ks_file_state st;

	*dirty = 0;
	if (__atomic_load_n(&v->nwriters, __ATOMIC_RELAXED) > 0)
		vn = ks_vnode_pin(v, ino);
	if (!vn)
		return NULL;
	ks_file_state(vn->file, &st);
	*dirty = st.dirty_bytes;
	return vn;
}

bool ks_vfs_flush_waits(struct ks_vfs *v, ks_ino_t ino)
{
	uint64_t dirty;
	struct ks_vnode *vn = pin_writer(v, ino, &dirty);

	if (vn)
		ks_vnode_unpin(v, vn);
	return dirty > KS_FLUSH_HERE;
}

/* Data written before is committed before: else its commit would bring its own times over the new ones. */
static int settle(struct ks_vfs *v, ks_ino_t ino)
{
	uint64_t dirty;
	struct ks_vnode *vn = pin_writer(v, ino, &dirty);
	int r = dirty ? ks_file_flush(vn->file) : 0;

	if (vn)
		ks_vnode_unpin(v, vn);
	return r;
}

int ks_vfs_drop_caps(struct ks_vfs *v, const struct ks_attr *a)
{
	static const char name[] = "security.capability";
	struct ks_buf value = { 0 };
	int r;

	if (!(a->flags & KS_INODE_HAS_XATTR) || !S_ISREG(a->mode))
		return 0;
	/* Looked for first: mostly the attributes are others, such as an ACL, and nothing need be written. */
	r = ks_meta_getxattr(v->meta, a->ino, name, &value);
	ks_buf_clear(&value);
	if (r == 0)
		r = ks_meta_removexattr(v->meta, a->ino, name);
	return r == -ENODATA ? 0 : r;
}

int ks_vfs_setattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, uint32_t set,
		   const struct ks_attr *in, struct ks_attr *out)
{
	int r = 0;

	if (v->readonly)
		return -EROFS;
	if (ks_is_virtual(v, ino))
		return -EPERM;
	/* chown clears setuid whoever does it, truncation unless root does. */
	if ((set & (KS_SET_UID | KS_SET_GID)) || ((set & KS_SET_SIZE) && c->cred.uid != 0))
		set |= KS_SET_KILL_PRIV;
	/* Both may have to flush first. */
	if ((c->flags & KS_VFS_NOBLOCK) &&
	    (set & (KS_SET_SIZE | KS_SET_MTIME | KS_SET_MTIME_NOW | KS_SET_CTIME)) &&
	    ks_vfs_flush_waits(v, ino))
		return -EWOULDBLOCK;
	if (set & KS_SET_SIZE) {
		r = ks_vfs_resize(v, ino, set, in, out);
		return r < 0 ? r : ks_vfs_drop_caps(v, out);
	}
	if (set & (KS_SET_MTIME | KS_SET_MTIME_NOW | KS_SET_CTIME))
		r = settle(v, ino);
	if (r == 0)
		r = stale(ks_meta_setattr(v->meta, ino, set, in, out));
	if (r < 0)
		return r;
	ks_seen_own(v, ino, out->change);
	if (set & (KS_SET_MODE | KS_SET_FLAGS))
		ks_vnode_set_priv(v, ino);
	if (set & (KS_SET_UID | KS_SET_GID))
		r = ks_vfs_drop_caps(v, out);
	return r < 0 ? r : ks_vfs_overlay(v, out);
}

int ks_vfs_readlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, struct ks_buf *out)
{
	(void)c;
	if (ks_is_virtual(v, ino))
		return -EINVAL;
	return stale(ks_meta_readlink(v->meta, ino, out));
}

/* Name spaces that mean something on this file system; of system.* the two names of ACLs. */
static int check_xattr(const char *name)
{
	static const char *const spaces[] = { "user.", "trusted.", "security." };

	if (strlen(name) > KS_XATTR_NAME_MAX)
		return -ERANGE;
	if (strcmp(name, KS_ACL_ACCESS) == 0 || strcmp(name, KS_ACL_DEFAULT) == 0)
		return 0;
	for (size_t i = 0; i < KS_ARRAY_SIZE(spaces); i++) {
		size_t n = strlen(spaces[i]);

		if (strncmp(name, spaces[i], n) == 0)
			return name[n] ? 0 : -EINVAL;
	}
	return -EOPNOTSUPP;
}

/* An attribute moved the change counter by one, and not the pages; the record is not read again for it. */
static void xattr_changed(struct ks_vfs *v, ks_ino_t ino, const char *name)
{
	if (strcmp(name, "security.capability") == 0)
		ks_vnode_set_priv(v, ino);
}

int ks_vfs_setxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, const char *name,
		    const void *value, size_t n, int flags)
{
	int r = check_xattr(name);

	(void)c;
	if (v->readonly)
		return -EROFS;
	if (r < 0)
		return r;
	if (ks_is_virtual(v, ino))
		return -EPERM;
	if (n > KS_XATTR_VALUE_MAX)
		return -E2BIG;
	r = ks_meta_setxattr(v->meta, ino, name, value, n, flags);
	if (r == 0)
		xattr_changed(v, ino, name);
	return stale(r);
}

int ks_vfs_getxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, const char *name,
		    struct ks_buf *out)
{
	int r = check_xattr(name);

	(void)c;
	if (r == 0 && ks_is_virtual(v, ino))
		r = -ENODATA;
	return r < 0 ? r : stale(ks_meta_getxattr(v->meta, ino, name, out));
}

int ks_vfs_listxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, struct ks_buf *out)
{
	(void)c;
	if (ks_is_virtual(v, ino))
		return 0;
	return stale(ks_meta_listxattr(v->meta, ino, out));
}

int ks_vfs_removexattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, const char *name)
{
	int r = check_xattr(name);

	(void)c;
	if (v->readonly)
		return -EROFS;
	if (r == 0 && ks_is_virtual(v, ino))
		r = -EPERM;
	return r < 0 ? r : stale(ks_meta_removexattr(v->meta, ino, name));
}
