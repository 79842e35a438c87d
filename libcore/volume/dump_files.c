/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_files.c: the files of a volume, or of a directory in it, as members of a pax or zip archive: with owners, times to the nanosecond, hard links,
 * extended attributes, ACLs, devices and holes, as far as the format has them.
 *
 * Directories are walked in the order of their entries, depth first: the same state gives the same archive. Memory grows with the depth, and with the names of
 * files that have several.
 */
#include "base/clock.h"
#include "base/hmap.h"
#include "base/log.h"
#include "meta/acl.h"
#include "volume/dump_internal.h"
#include "volume/rdev.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CHUNK ((size_t)1 * KS_MIB)
#define BATCH 256u                   /* entries held at a time, for each directory on the way */
#define ZEROS ((size_t)256 * KS_MIB) /* address space, not memory */

/* The first name of a file that has several. */
struct link {
	struct ks_hnode node;
	uint64_t left; /* names that are still to come */
	char path[];
};

struct files {
	struct ks_dump *d;
	struct ks_volume *v;
	struct ks_ctx ctx;
	struct ks_hmap links;
	struct ks_buf
		path; /* of what is being written, from the root of the dump; with a NUL that does not count */
	char *buf;
	const char *zeros;
	struct archive_entry *e;
};

struct entry {
	size_t name; /* in the batch's names */
	struct ks_attr a;
};

struct batch {
	struct ks_buf names;
	struct entry *v;
	unsigned int n;
	uint64_t last;
	int err;
};

static int walk(struct files *f, ks_ino_t dir);

/* What the volume could not give; the rest goes on. */
static int lost(struct files *f, const char *what, int err)
{
	const char *cause = *ks_fail_text() ? ks_fail_text() : ks_strerror(err);
	KS_AUTO(ks_freep) char *text = NULL;

	if (err == -EINTR || err == -ENOMEM)
		return err;
	text = ks_asprintf("cannot %s %s: %s", what, f->path.p, cause);
	ks_dump_failed(f->d, f->path.p, err, text);
	return 0;
}

/* ---- attributes ---- */

static int tag_of(const struct ks_acl_entry *e)
{
	switch (e->tag) {
	case KS_ACL_USER_OBJ:
		return ARCHIVE_ENTRY_ACL_USER_OBJ;
	case KS_ACL_USER:
		return ARCHIVE_ENTRY_ACL_USER;
	case KS_ACL_GROUP_OBJ:
		return ARCHIVE_ENTRY_ACL_GROUP_OBJ;
	case KS_ACL_GROUP:
		return ARCHIVE_ENTRY_ACL_GROUP;
	case KS_ACL_MASK:
		return ARCHIVE_ENTRY_ACL_MASK;
	default:
		return ARCHIVE_ENTRY_ACL_OTHER;
	}
}

static int add_acl(struct files *f, bool access, const struct ks_buf *value)
{
	struct ks_acl acl;
	int type = access ? ARCHIVE_ENTRY_ACL_TYPE_ACCESS : ARCHIVE_ENTRY_ACL_TYPE_DEFAULT;
	int r = ks_acl_decode(&acl, value->p, value->n);

	for (unsigned int i = 0; r == 0 && i < acl.n; i++) {
		const struct ks_acl_entry *e = &acl.e[i];
		bool one = e->tag == KS_ACL_USER || e->tag == KS_ACL_GROUP;
		int perm = (e->perm & 4 ? ARCHIVE_ENTRY_ACL_READ : 0) |
			   (e->perm & 2 ? ARCHIVE_ENTRY_ACL_WRITE : 0) |
			   (e->perm & 1 ? ARCHIVE_ENTRY_ACL_EXECUTE : 0);

		/* Names are for tools that look up users; here the numbers are what counts. */
		if (archive_entry_acl_add_entry(f->e, type, perm, tag_of(e), one ? (int)e->id : -1,
						NULL) != ARCHIVE_OK)
			r = -EINVAL;
	}
	return r;
}

static int add_xattrs(struct files *f, const struct ks_attr *a)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int r;

	if (!(a->flags & (KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL)))
		return 0;
	r = ks_vfs_listxattr(f->v->vfs, &f->ctx, a->ino, &names);
	for (const char *p = names.p; r == 0 && p && p < names.p + names.n; p += strlen(p) + 1) {
		value.n = 0;
		r = ks_vfs_getxattr(f->v->vfs, &f->ctx, a->ino, p, &value);
		if (r < 0)
			break;
		if (strcmp(p, KS_ACL_ACCESS) == 0)
			r = add_acl(f, true, &value);
		else if (strcmp(p, KS_ACL_DEFAULT) == 0)
			r = add_acl(f, false, &value);
		else
			archive_entry_xattr_add_entry(f->e, p, value.n ? value.p : "", value.n);
	}
	return r;
}

/*
 * libarchive writes seconds, a dot and nanoseconds; -1.5 has to come to it as -1 and 500000000, then. The half second before 1970 has no such form.
 */
static struct timespec to_pax(const struct files *f, int64_t ns)
{
	struct timespec t = ks_ns_to_ts(ns);

	if (f->d->o->format == KS_ARC_PAX && t.tv_sec < 0 && t.tv_nsec) {
		t.tv_sec++;
		t.tv_nsec = t.tv_sec ? KS_NS_PER_S - t.tv_nsec : 0;
	}
	return t;
}

static void set_times(struct files *f, const struct ks_attr *a)
{
	struct timespec t = to_pax(f, a->mtime_ns);

	archive_entry_set_mtime(f->e, t.tv_sec, t.tv_nsec);
	t = to_pax(f, a->atime_ns);
	archive_entry_set_atime(f->e, t.tv_sec, t.tv_nsec);
}

static int start_entry(struct files *f, const struct ks_attr *a)
{
	dev_t dev = ks_rdev_decode(a->rdev);

	archive_entry_clear(f->e);
	archive_entry_copy_pathname(f->e, f->path.p);
	archive_entry_set_mode(f->e, a->mode);
	archive_entry_set_uid(f->e, a->uid);
	archive_entry_set_gid(f->e, a->gid);
	set_times(f, a);
	if (S_ISBLK(a->mode) || S_ISCHR(a->mode)) {
		archive_entry_set_rdevmajor(f->e, major(dev));
		archive_entry_set_rdevminor(f->e, minor(dev));
	}
	archive_entry_set_size(f->e, S_ISREG(a->mode) ? (la_int64_t)a->size : 0);
	return add_xattrs(f, a);
}

/* ---- links ---- */

/* 1: the entry is a further name of a file that is in the archive. */
static int as_link(struct files *f, const struct ks_attr *a)
{
	struct ks_hnode *node;
	struct link *l;
	int r;

	if (a->nlink < 2 || S_ISDIR(a->mode) || f->d->o->format == KS_ARC_ZIP)
		return 0;
	node = ks_hmap_find(&f->links, a->ino);
	if (node) {
		l = ks_container_of(node, struct link, node);
		archive_entry_copy_hardlink(f->e, l->path);
		archive_entry_set_size(f->e, 0);
		if (--l->left == 0) {
			ks_hmap_remove(&f->links, node);
			free(l);
		}
		return 1;
	}
	l = malloc(sizeof(*l) + f->path.n + 1);
	if (!l)
		return -ENOMEM;
	l->left = a->nlink - 1;
	memcpy(l->path, f->path.p, f->path.n + 1);
	r = ks_hmap_insert(&f->links, &l->node, a->ino);
	if (r < 0)
		free(l);
	return r;
}

static void links_clear(struct files *f)
{
	struct ks_hnode *n = ks_hmap_next(&f->links, NULL);

	while (n) {
		struct ks_hnode *next = ks_hmap_next(&f->links, n);

		free(ks_container_of(n, struct link, node));
		n = next;
	}
	ks_hmap_clear(&f->links);
}

/* ---- contents ---- */

/* The next stretch of data from @off on: to @size when there is none. */
static void next_data(struct files *f, struct ks_fh *fh, uint64_t off, uint64_t size,
		      uint64_t *data, uint64_t *hole)
{
	int r = ks_vfs_seek(fh, &f->ctx, off, SEEK_DATA, data);

	*hole = size;
	if (r == -ENXIO) {
		*data = size;
		return;
	}
	if (r == 0)
		r = ks_vfs_seek(fh, &f->ctx, *data, SEEK_HOLE, hole);
	if (r < 0) {
		*data = off;
		*hole = size;
	}
	*data = ks_min(*data, size);
	*hole = ks_max(*hole, *data + 1);
	*hole = ks_min(*hole, size);
}

static void add_sparse(struct files *f, struct ks_fh *fh, uint64_t size)
{
	uint64_t off = 0, data, hole;
	bool any = false;

	while (off < size) {
		next_data(f, fh, off, size, &data, &hole);
		if (off == 0 && data == 0 && hole == size)
			return;
		if (data < size)
			archive_entry_sparse_add_entry(f->e, (la_int64_t)data,
						       (la_int64_t)(hole - data));
		any = any || data < size;
		off = hole;
	}
	if (!any && size)
		archive_entry_sparse_add_entry(f->e, (la_int64_t)size, 0);
}

/* Holes too: the format leaves out what the entry says are holes. */
static int put_zeros(struct files *f, uint64_t n)
{
	int r = 0;

	while (r == 0 && n) {
		size_t k = (size_t)ks_min(n, (uint64_t)ZEROS);

		r = ks_arc_out_data(f->d->arc, f->zeros, k);
		n -= k;
		if (r == 0)
			r = ks_dump_stopped(f->d);
	}
	return r;
}

static int put_data(struct files *f, struct ks_fh *fh, uint64_t from, uint64_t to)
{
	int r = 0;

	while (r == 0 && from < to) {
		size_t want = (size_t)ks_min(to - from, (uint64_t)CHUNK);
		ssize_t n;

		ks_fail_clear();
		n = ks_vfs_read(fh, &f->ctx, from, f->buf, want);
		if (n <= 0) {
			/* Its size is in the archive already: zeros stand for what cannot be read. */
			r = lost(f, "read", n < 0 ? (int)n : -EIO);
			memset(f->buf, 0, want);
			n = (ssize_t)want;
		}
		if (r == 0)
			r = ks_arc_out_data(f->d->arc, f->buf, (size_t)n);
		from += (uint64_t)n;
		ks_dump_count(&f->d->out->bytes, (uint64_t)n);
		f->d->out->out_bytes = ks_arc_out_bytes(f->d->arc);
		if (r == 0)
			r = ks_dump_stopped(f->d);
	}
	return r;
}

static int put_content(struct files *f, struct ks_fh *fh, uint64_t size)
{
	uint64_t off = 0, data, hole;
	int r = 0;

	while (r == 0 && off < size) {
		next_data(f, fh, off, size, &data, &hole);
		r = put_zeros(f, data - off);
		if (r == 0 && data < size)
			r = put_data(f, fh, data, hole);
		off = hole;
	}
	return r;
}

static int put_regular(struct files *f, const struct ks_attr *a)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	int r = ks_vfs_open(f->v->vfs, &f->ctx, a->ino, O_RDONLY, &fh, &how);

	if (r < 0)
		return lost(f, "open", r);
	if (f->d->o->format == KS_ARC_PAX)
		add_sparse(f, fh, a->size);
	r = ks_arc_out_entry(f->d->arc, f->e);
	if (r == 0)
		r = put_content(f, fh, a->size);
	if (r == 0)
		r = ks_arc_out_end(f->d->arc);
	ks_vfs_release(fh);
	return r;
}

static int put_symlink(struct files *f, const struct ks_attr *a)
{
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };
	const char *text = NULL;
	int r = ks_vfs_readlink(f->v->vfs, &f->ctx, a->ino, &target);

	if (r == 0)
		r = ks_buf_cstr(&target, &text);
	if (r < 0)
		return lost(f, "read the link", r);
	archive_entry_copy_symlink(f->e, text);
	r = ks_arc_out_entry(f->d->arc, f->e);
	return r == 0 ? ks_arc_out_end(f->d->arc) : r;
}

/* ---- the walk ---- */

static bool fits(const struct files *f, uint32_t mode)
{
	if (f->d->o->format == KS_ARC_ZIP)
		return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode);
	/* A socket is a meeting place of processes; tar has none. */
	return !S_ISSOCK(mode);
}

static int put_entry(struct files *f, const struct ks_attr *a)
{
	int r;

	if (!fits(f, a->mode)) {
		ks_dump_count(&f->d->out->skipped, 1);
		return 0;
	}
	ks_fail_clear();
	r = start_entry(f, a);
	if (r < 0)
		return lost(f, "read the attributes of", r);
	r = as_link(f, a);
	if (r < 0)
		return r;
	if (r == 0 && S_ISREG(a->mode)) {
		r = put_regular(f, a);
	} else if (r == 0 && S_ISLNK(a->mode)) {
		r = put_symlink(f, a);
	} else {
		r = ks_arc_out_entry(f->d->arc, f->e);
		if (r == 0)
			r = ks_arc_out_end(f->d->arc);
	}
	if (r < 0)
		return r;
	ks_dump_count(&f->d->out->files, 1);
	if (f->d->o->item)
		f->d->o->item(f->d->o->arg, f->path.p, S_ISREG(a->mode) ? a->size : 0);
	return ks_dump_stopped(f->d);
}

static int take_entry(void *arg, const char *name, size_t n, uint64_t cookie, ks_ino_t ino,
		      uint32_t type, const struct ks_attr *attr, bool glued)
{
	struct batch *b = arg;

	(void)ino;
	(void)type;
	/* The names of one cookie stay together, since the next batch starts behind it; there are hardly ever two. */
	if (b->n >= BATCH && !glued)
		return 1;
	b->last = cookie;
	if ((n == 1 && name[0] == '.') || (n == 2 && name[0] == '.' && name[1] == '.') || !attr)
		return 0;
	if (b->n >= 2 * BATCH) {
		b->err = -E2BIG;
		return 1;
	}
	b->v[b->n++] = (struct entry){ .name = b->names.n, .a = *attr };
	b->err = ks_buf_append(&b->names, name, n);
	if (b->err == 0)
		b->err = ks_buf_append(&b->names, "", 1);
	return b->err < 0;
}

static int push(struct files *f, const char *name)
{
	int r = f->path.n ? ks_buf_append(&f->path, "/", 1) : 0;

	if (r == 0)
		r = ks_buf_append(&f->path, name, strlen(name) + 1);
	if (r == 0)
		f->path.n--;
	return r;
}

static int put_batch(struct files *f, const struct batch *b)
{
	size_t depth = f->path.n;
	int r = 0;

	for (unsigned int i = 0; r == 0 && i < b->n; i++) {
		const struct ks_attr *a = &b->v[i].a;

		r = push(f, b->names.p + b->v[i].name);
		if (r == 0)
			r = put_entry(f, a);
		if (r == 0 && S_ISDIR(a->mode))
			r = walk(f, a->ino);
		f->path.n = depth;
		if (f->path.p)
			f->path.p[depth] = '\0';
	}
	return r;
}

static int walk(struct files *f, ks_ino_t dir)
{
	struct batch b = { .v = malloc(sizeof(*b.v) * 2 * BATCH) };
	struct ks_fh *fh = NULL;
	int r = b.v ? ks_vfs_opendir(f->v->vfs, &f->ctx, dir, &fh) : -ENOMEM;
	uint64_t before;

	do {
		before = b.last;
		b.names.n = 0;
		b.n = 0;
		if (r == 0)
			r = ks_vfs_readdir(fh, &f->ctx, b.last, true, take_entry, &b);
		if (r == 0)
			r = b.err;
		if (r < 0)
			r = lost(f, "list", r);
		else
			r = put_batch(f, &b);
	} while (r == 0 && b.last != before);
	if (fh)
		ks_vfs_release(fh);
	ks_buf_clear(&b.names);
	free(b.v);
	return r;
}

static int put_tree(struct files *f)
{
	const char *path = f->d->o->path ? f->d->o->path : "/";
	const char *slash = strrchr(path, '/');
	struct ks_attr a;
	int r = ks_volume_path(f->v->meta, path, true, &a);

	if (r < 0)
		return r;
	r = push(f, S_ISDIR(a.mode) ? "." : slash ? slash + 1 : path);
	if (r == 0)
		r = put_entry(f, &a);
	if (r < 0 || !S_ISDIR(a.mode))
		return r;
	/* Below it, names stand without "./". */
	f->path.n = 0;
	return walk(f, a.ino);
}

int ks_dump_files(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	struct ks_volume_opts vo = { .readonly = true,
				     .snapshot = true,
				     .data = { .buffer_bytes = 32 * KS_MIB } };
	struct files f = { .d = d, .ctx = { .cred = { .uid = 0, .gid = 0, .pid = 1 } } };
	void *zeros =
		mmap(NULL, ZEROS, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct ks_fail_kept why;
	int r = 0;

	f.buf = malloc(CHUNK);
	f.e = archive_entry_new2(ks_arc_out_archive(d->arc));
	if (!f.buf || !f.e || zeros == MAP_FAILED)
		r = -ENOMEM;
	f.zeros = zeros;
	if (r == 0)
		r = ks_volume_open(&f.v, ref, &vo);
	if (r == 0)
		r = put_tree(&f);
	ks_fail_keep(&why);
	ks_volume_closep(&f.v);
	ks_fail_restore(&why);
	links_clear(&f);
	if (zeros != MAP_FAILED)
		munmap(zeros, ZEROS);
	archive_entry_free(f.e);
	ks_buf_clear(&f.path);
	free(f.buf);
	return r;
}
