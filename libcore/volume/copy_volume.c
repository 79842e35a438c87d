/* SPDX-License-Identifier: Apache-2.0 */
/* copy_volume.c: a volume as an end of a copy, through its vfs in this process. */
#include "base/clock.h"
#include "volume/copy_side.h"
#include "volume/rdev.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256 /* names held at a time while a directory is listed */
#define BATCH_MAX (BATCH + 16)

void ks_side_stat(const struct ks_attr *a, struct stat *st)
{
	*st = (struct stat){
		.st_ino = a->ino,
		.st_mode = a->mode,
		.st_nlink = a->nlink,
		.st_uid = a->uid,
		.st_gid = a->gid,
		.st_rdev = ks_rdev_decode(a->rdev),
		.st_size = (off_t)a->size,
		.st_blocks = (blkcnt_t)((a->used + 511) / 512),
		.st_atim = ks_ns_to_ts(a->atime_ns),
		.st_mtim = ks_ns_to_ts(a->mtime_ns),
		.st_ctim = ks_ns_to_ts(a->ctime_ns),
	};
}

void ks_side_attr(const struct stat *st, struct ks_attr *a)
{
	*a = (struct ks_attr){
		.mode = st->st_mode,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.rdev = ks_rdev_encode(st->st_rdev),
		.size = (uint64_t)st->st_size,
		.atime_ns = ks_ts_to_ns(st->st_atim),
		.mtime_ns = ks_ts_to_ns(st->st_mtim),
	};
}

static struct ks_ctx ctx_for(const struct ks_side *s, const struct stat *own)
{
	struct ks_ctx c = s->ctx;

	if (own) {
		c.cred.uid = own->st_uid;
		c.cred.gid = own->st_gid;
	}
	return c;
}

/* The path of @name in @d from the volume's root; @d->path is "label:/path". Owned. */
static char *path_of(const struct ks_cdir *d, const char *name)
{
	return ks_asprintf("%s/%s", d->path + strlen(d->side->label) + 1, name);
}

static int find(struct ks_cdir *d, const char *name, bool follow, struct ks_attr *a)
{
	struct ks_side *s = d->side;
	KS_AUTO(ks_freep) char *path = NULL;
	int r;

	if (strcmp(name, ".") == 0)
		return ks_vfs_getattr(s->vfs, &s->ctx, d->ino, a);
	r = ks_vfs_lookup(s->vfs, &s->ctx, d->ino, name, a);
	if (r < 0 || !follow || !S_ISLNK(a->mode))
		return r;
	path = path_of(d, name);
	return path ? ks_vfs_resolve(s->vfs, &s->ctx, path, true, a) : -ENOMEM;
}

static int volume_stat(struct ks_cdir *d, const char *name, bool follow, struct stat *st)
{
	struct ks_attr a;
	int r = find(d, name, follow, &a);

	if (r == 0)
		ks_side_stat(&a, st);
	return r;
}

static int volume_opendir(struct ks_cdir *d, const char *name, bool follow, struct ks_cdir *out)
{
	struct ks_attr a = { 0 };
	int r = d ? find(d, name, follow, &a)
		  : ks_vfs_resolve(out->side->vfs, &out->side->ctx, name, follow, &a);

	if (r == 0 && !S_ISDIR(a.mode))
		r = -ENOTDIR;
	out->ino = a.ino;
	return r;
}

static void volume_closedir(struct ks_cdir *d)
{
	(void)d;
}

/* ---- listing ---- */

struct batch {
	struct ks_buf names; /* each with its NUL */
	struct stat *st;     /* BATCH_MAX; of each name, as long as there are so many */
	unsigned int n;
	int err;
	uint64_t last; /* the cookie behind the batch */
};

static int take_name(void *arg, const char *name, size_t n, uint64_t cookie, ks_ino_t ino,
		     uint32_t type, const struct ks_attr *attr, bool glued)
{
	struct batch *b = arg;

	(void)ino;
	(void)type;
	/* The names of one cookie stay together, since the next batch starts behind it. */
	if (b->n >= BATCH && !glued)
		return 1;
	b->err = ks_buf_append(&b->names, name, n);
	if (b->err == 0)
		b->err = ks_buf_append(&b->names, "", 1);
	if (b->err < 0)
		return 1;
	if (b->n < BATCH_MAX && attr)
		ks_side_stat(attr, &b->st[b->n]);
	else if (b->n < BATCH_MAX)
		b->st[b->n] = (struct stat){ 0 };
	b->n++;
	b->last = cookie;
	return 0;
}

static int pass_on(const struct batch *b, ks_list_fn *fn, void *arg)
{
	const char *p = b->names.p;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < b->n; i++, p += strlen(p) + 1) {
		const struct stat *st = i < BATCH_MAX && b->st[i].st_mode ? &b->st[i] : NULL;

		if (strcmp(p, ".") != 0 && strcmp(p, "..") != 0)
			r = fn(arg, p, st);
	}
	return r;
}

/*
 * In batches, so that no transaction is open while the caller works. An entry that is made meanwhile may be
 * listed or not; each of the others is listed once.
 */
static int volume_list(struct ks_cdir *d, ks_list_fn *fn, void *arg)
{
	struct ks_side *s = d->side;
	struct batch b = { .st = malloc(BATCH_MAX * sizeof(*b.st)) };
	struct ks_fh *fh = NULL;
	int r = b.st ? ks_vfs_opendir(s->vfs, &s->ctx, d->ino, &fh) : -ENOMEM;

	while (r == 0) {
		b.names.n = 0;
		b.n = 0;
		r = ks_vfs_readdir(fh, &s->ctx, b.last, true, take_name, &b);
		r = r < 0 ? r : b.err;
		if (r < 0 || b.n == 0)
			break;
		r = pass_on(&b, fn, arg);
	}
	if (fh)
		ks_vfs_release(fh);
	ks_buf_clear(&b.names);
	free(b.st);
	return r;
}

static int volume_readlink(struct ks_cdir *d, const char *name, struct ks_buf *out)
{
	struct ks_attr a;
	int r = find(d, name, false, &a);

	return r < 0 ? r : ks_vfs_readlink(d->side->vfs, &d->side->ctx, a.ino, out);
}

/* ---- reading ---- */

static int volume_open(struct ks_cdir *d, const char *name, bool follow, struct ks_cfile *f,
		       struct stat *st)
{
	struct ks_side *s = d->side;
	struct ks_open_how how;
	struct ks_attr a = { .ino = f->ino };
	int r;

	if (f->ino && ks_vfs_open(s->vfs, &s->ctx, f->ino, O_RDONLY, &f->fh, &how) == 0) {
		r = ks_vfs_getattr(s->vfs, &s->ctx, f->ino, &a);
	} else {
		r = find(d, name, follow, &a);
		/* A pipe or device in a volume has no content to read here. */
		if (r == 0 && !S_ISREG(a.mode))
			r = S_ISDIR(a.mode) ? -EISDIR : -EOPNOTSUPP;
		f->ino = a.ino;
		if (r == 0)
			r = ks_vfs_open(s->vfs, &s->ctx, a.ino, O_RDONLY, &f->fh, &how);
	}
	f->bare = r == 0 && !(a.flags & KS_INODE_HAS_XATTR);
	if (r == 0 && st)
		ks_side_stat(&a, st);
	return r;
}

static ssize_t volume_read(struct ks_cfile *f, uint64_t off, void *p, size_t n)
{
	return ks_vfs_read(f->fh, &f->side->ctx, off, p, n);
}

static int volume_seek(struct ks_cfile *f, uint64_t off, bool hole, uint64_t *out)
{
	return ks_vfs_seek(f->fh, &f->side->ctx, off, hole ? SEEK_HOLE : SEEK_DATA, out);
}

/* ---- writing ---- */

static int volume_create(struct ks_cdir *d, const char *name, uint32_t mode, bool in_place,
			 const struct stat *own, struct ks_cfile *f)
{
	struct ks_ctx c = ctx_for(d->side, own);
	struct ks_attr a;
	int r;

	(void)name;
	if (in_place)
		return -EOPNOTSUPP;
	f->dir = d;
	r = ks_vfs_tmpfile(d->side->vfs, &c, d->ino, mode, O_RDWR, &a, &f->fh);
	f->ino = a.ino;
	return r;
}

static int volume_write(struct ks_cfile *f, uint64_t off, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		ssize_t put = ks_vfs_write(f->fh, &f->side->ctx, off, at, n);

		if (put <= 0)
			return put < 0 ? (int)put : -EIO;
		at += put;
		off += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

static int volume_truncate(struct ks_cfile *f, uint64_t size)
{
	struct ks_attr a = { .size = size };
	struct ks_ctx root = f->side->ctx;

	root.cred.uid = 0; /* its owner's own file: no bits to clear */
	return ks_vfs_setattr(f->side->vfs, &root, f->ino, KS_SET_SIZE, &a, &a);
}

static int volume_flush(struct ks_cfile *f)
{
	return ks_vfs_flush(f->fh, &f->side->ctx);
}

static uint32_t set_bits(unsigned int what)
{
	return (what & KS_COPY_MODE ? KS_SET_MODE : 0) |
	       (what & KS_COPY_OWNER ? KS_SET_UID | KS_SET_GID : 0) |
	       (what & KS_COPY_TIMES ? KS_SET_ATIME | KS_SET_MTIME : 0);
}

static int make_one(struct ks_side *s, struct ks_make *m)
{
	struct ks_pack_run none = { 0 };
	int r = ks_vfs_make(s->vfs, &s->ctx, m, 1, &none);

	return r < 0 ? r : m->err;
}

static int volume_publish(struct ks_cfile *f, const char *name, const struct ks_copy_set *set)
{
	struct ks_make m = { .parent = f->dir->ino,
			     .name = name,
			     .flags = KS_MAKE_LINK | KS_MAKE_REPLACE,
			     .set = set_bits(set->what) };

	if (set->durable)
		m.flags |= KS_MAKE_DURABLE;
	ks_side_attr(&set->st, &m.attr);
	m.attr.ino = f->ino;
	return make_one(f->side, &m);
}

static void volume_close(struct ks_cfile *f)
{
	if (f->fh)
		ks_vfs_release(f->fh);
	f->fh = NULL;
}

/* ---- other kinds, and names ---- */

static int volume_mkdir(struct ks_cdir *d, const char *name, uint32_t mode, const struct stat *own)
{
	struct ks_ctx c = ctx_for(d->side, own);
	struct ks_attr a;

	return ks_vfs_mkdir(d->side->vfs, &c, d->ino, name, mode, &a);
}

void ks_side_make(struct ks_make *m, struct ks_cdir *d, const char *name,
		  const struct ks_copy_set *set, const char *target)
{
	*m = (struct ks_make){ .parent = d->ino,
			       .name = name,
			       .flags = KS_MAKE_REPLACE | (d->made ? KS_MAKE_NEW_DIR : 0) |
					(set->what & KS_COPY_MODE ? KS_MAKE_MODE : 0) |
					(set->what & KS_COPY_OWNER ? KS_MAKE_OWNER : 0),
			       .set = set_bits(set->what),
			       .target = target };
	ks_side_attr(&set->st, &m->attr);
	if (!(set->what & KS_COPY_MODE))
		m->attr.mode &= S_IFMT | 0777;
	if (S_ISLNK(m->attr.mode))
		m->attr.mode = S_IFLNK | 0777;
	if (!(set->what & KS_COPY_OWNER)) {
		m->attr.uid = d->side->ctx.cred.uid;
		m->attr.gid = d->side->ctx.cred.gid;
	}
}

static int volume_special(struct ks_cdir *d, const char *name, const struct ks_copy_set *set,
			  const char *target, ks_ino_t *ino)
{
	struct ks_make m;
	int r;

	ks_side_make(&m, d, name, set, target);
	r = make_one(d->side, &m);
	*ino = m.out.ino;
	return r;
}

static int volume_link(struct ks_cdir *d, const char *name, ks_ino_t ino, const char *path)
{
	struct ks_make m = { .parent = d->ino,
			     .name = name,
			     .flags = KS_MAKE_LINK | KS_MAKE_REPLACE,
			     .attr = { .ino = ino } };

	(void)path;
	return make_one(d->side, &m);
}

static int volume_unlink(struct ks_cdir *d, const char *name)
{
	return ks_vfs_unlink(d->side->vfs, &d->side->ctx, d->ino, name);
}

static int volume_rmdir(struct ks_cdir *d, const char *name)
{
	return ks_vfs_rmdir(d->side->vfs, &d->side->ctx, d->ino, name);
}

/* What a killed copy had made has no name, and goes with its session. */
static void volume_tidy(struct ks_cdir *d)
{
	(void)d;
}

/* ---- attributes ---- */

static int ino_of(const struct ks_node *n, ks_ino_t *ino)
{
	struct ks_attr a;
	int r = 0;

	*ino = n->name ? n->ino : n->dir->ino;
	if (!*ino) {
		r = find(n->dir, n->name, false, &a);
		*ino = a.ino;
	}
	return r;
}

static int volume_setattr(const struct ks_node *n, const struct stat *st, unsigned int what)
{
	struct ks_side *s = n->dir->side;
	uint32_t set = 0;
	struct ks_attr in = { 0 };
	struct ks_attr a;
	ks_ino_t ino;
	int r = ino_of(n, &ino);

	ks_side_attr(st, &in);
	in.mode &= 07777;

	if (r == 0 && (what & KS_COPY_OWNER)) {
		/* Mostly it was made with its owner. A change clears the setuid bits, so the mode comes second. */
		r = ks_vfs_getattr(s->vfs, &s->ctx, ino, &a);
		if (r == 0 && (a.uid != in.uid || a.gid != in.gid))
			r = ks_vfs_setattr(s->vfs, &s->ctx, ino, KS_SET_UID | KS_SET_GID, &in, &a);
	}
	if ((what & KS_COPY_MODE) && !S_ISLNK(st->st_mode))
		set |= KS_SET_MODE;
	if (what & KS_COPY_TIMES)
		set |= KS_SET_ATIME | KS_SET_MTIME;
	if (r == 0 && set)
		r = ks_vfs_setattr(s->vfs, &s->ctx, ino, set, &in, &a);
	return r;
}

static int volume_listxattr(const struct ks_node *n, struct ks_buf *out)
{
	struct ks_attr a;
	ks_ino_t ino;
	int r;

	if (n->f && n->f->bare)
		return 0;
	r = ino_of(n, &ino);
	/* Its record is in memory, mostly; its attributes are not. */
	if (r == 0)
		r = ks_vfs_getattr(n->dir->side->vfs, &n->dir->side->ctx, ino, &a);
	if (r == 0 && !(a.flags & KS_INODE_HAS_XATTR))
		return 0;
	return r < 0 ? r : ks_vfs_listxattr(n->dir->side->vfs, &n->dir->side->ctx, ino, out);
}

static int volume_getxattr(const struct ks_node *n, const char *name, struct ks_buf *out)
{
	ks_ino_t ino;
	int r = ino_of(n, &ino);

	return r < 0 ? r : ks_vfs_getxattr(n->dir->side->vfs, &n->dir->side->ctx, ino, name, out);
}

static int volume_setxattr(const struct ks_node *n, const char *name, const void *p, size_t size)
{
	ks_ino_t ino;
	int r = ino_of(n, &ino);

	return r < 0 ? r
		     : ks_vfs_setxattr(n->dir->side->vfs, &n->dir->side->ctx, ino, name, p, size,
				       0);
}

static int volume_sync(struct ks_side *s, struct ks_cdir *any)
{
	(void)any;
	return ks_vfs_syncfs(s->vfs);
}

/* What could not be made durable is tried again by the next one, and told then. */
static int volume_sync_early(struct ks_side *s, struct ks_cdir *any)
{
	(void)any;
	KS_IGNORE(ks_vfs_sync_stored(s->vfs) < 0);
	return 0;
}

const struct ks_side_ops ks_side_volume = {
	.sets_at_once = true,
	.stat = volume_stat,
	.opendir = volume_opendir,
	.closedir = volume_closedir,
	.list = volume_list,
	.readlink = volume_readlink,
	.open = volume_open,
	.read = volume_read,
	.seek = volume_seek,
	.create = volume_create,
	.write = volume_write,
	.truncate = volume_truncate,
	.flush = volume_flush,
	.publish = volume_publish,
	.close = volume_close,
	.mkdir = volume_mkdir,
	.special = volume_special,
	.link = volume_link,
	.unlink = volume_unlink,
	.rmdir = volume_rmdir,
	.setattr = volume_setattr,
	.listxattr = volume_listxattr,
	.getxattr = volume_getxattr,
	.setxattr = volume_setxattr,
	.tidy = volume_tidy,
	.sync = volume_sync,
	.sync_early = volume_sync_early,
};
