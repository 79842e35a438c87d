/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_paths.c: from an inode to its names, by the sorted entries: the parent pointers may be what is wrong. */
#include "base/array.h"
#include "volume/fsck_internal.h"

#define PATHS_MAX 1000u
#define DEPTH_MAX 4096u

void ks_fsck_paths_clear(struct ks_fsck_paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].p);
	free(p->v);
	*p = (struct ks_fsck_paths){ 0 };
}

static int paths_add(struct ks_fsck_paths *p, struct ks_buf *b)
{
	const char *unused;
	int r = ks_buf_cstr(b, &unused);

	if (r < 0)
		return r;
	if (ks_array_room(&p->v, p->n, &p->cap) < 0)
		return -ENOMEM;
	p->v[p->n++] = (struct ks_fsck_path){ b->p, b->n };
	*b = (struct ks_buf){ 0 };
	return 0;
}

struct find {
	uint64_t ino;
	struct ks_rec_dentry *d;
	struct ks_arena *a;
};

static int find_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_dentry *d = rec;
	struct find *f = arg;
	void *name;

	(void)inode;
	if (d->ino != f->ino)
		return 0;
	name = ks_arena_copy(f->a, d->name.n ? d->name.p : "", d->name.n);
	if (!name)
		return -ENOMEM;
	*f->d = *d;
	f->d->name.p = name;
	return 1;
}

int ks_fsck_entry(struct ks_fsck *f, const uint64_t *name_rec, struct ks_rec_dentry *d,
		  struct ks_arena *a)
{
	struct ks_arena scratch = { 0 };
	struct ks_rec_dentry from = { .parent = name_rec[NAME_PARENT],
				      .hash = name_rec[NAME_HASH] };
	struct find find = { .ino = name_rec[NAME_INO], .d = d, .a = a };
	struct ks_scan s = {
		.table = KS_T_DENTRY, .from = &from, .nprefix = 2, .fn = find_one, .arg = &find
	};
	int r;

	*d = (struct ks_rec_dentry){ 0 };
	r = ks_engine_scan(f->e, &s, &scratch);
	ks_arena_clear(&scratch);
	return r;
}

/* The entry's name and what is above it, backwards: joined by build(). */
struct part {
	struct ks_bytes name;
};

static int build(const struct part *v, size_t n, const char *head, struct ks_buf *out)
{
	int r = ks_buf_append(out, head, strlen(head));

	while (r == 0 && n-- > 0) {
		r = ks_buf_append(out, "/", 1);
		if (r == 0 && v[n].name.n)
			r = ks_buf_append(out, v[n].name.p, v[n].name.n);
	}
	return r;
}

/* Walks up from the directory of the first part. */
static int climb(struct ks_fsck *f, uint64_t dir, struct part *v, size_t n, struct ks_arena *a,
		 struct ks_buf *out)
{
	char head[40] = "";
	struct ks_sort_cur c;
	uint64_t mark = 0; /* a directory seen before, ever further on: a ring comes back to it */
	int r = 0;

	ks_sort_begin(&c, f->names);
	while (r == 0 && dir != KS_ROOT_INO) {
		struct ks_rec_dentry d = { 0 };

		r = ks_sort_seek(&c, &dir, 1);
		if (r < 0)
			break;
		if (n < DEPTH_MAX && dir != mark && c.rec && c.rec[NAME_INO] == dir)
			r = ks_fsck_entry(f, c.rec, &d, a);
		if (dir == KS_TRASH_INO) {
			snprintf(head, sizeof(head), "(trash)");
			break;
		}
		if (!d.parent) {
			/* Not below the root: an orphan, a ring, or gone meanwhile. */
			snprintf(head, sizeof(head), "?#%ju", (uintmax_t)dir);
			break;
		}
		if ((n & (n - 1)) == 0)
			mark = dir;
		v[n++].name = d.name;
		dir = d.parent;
	}
	ks_sort_end(&c);
	return r < 0 ? r : build(v, n, head, out);
}

int ks_fsck_entry_path(struct ks_fsck *f, const struct ks_rec_dentry *d, struct ks_fsck_paths *out)
{
	struct part *v = malloc((DEPTH_MAX + 1) * sizeof(*v));
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	struct ks_arena a = { 0 };
	int r = -ENOMEM;

	if (v) {
		v[0].name = d->name;
		r = climb(f, d->parent, v, 1, &a, &b);
	}
	if (r == 0)
		r = paths_add(out, &b);
	ks_arena_clear(&a);
	free(v);
	return r;
}

int ks_fsck_paths(struct ks_fsck *f, uint64_t ino, struct ks_fsck_paths *out)
{
	KS_AUTO(ks_buf_clear) struct ks_buf root = { 0 };
	struct ks_sort_cur c;
	struct ks_arena a = { 0 };
	int r;

	if (ino == KS_ROOT_INO) {
		r = ks_buf_append(&root, "/", 1);
		return r == 0 ? paths_add(out, &root) : r;
	}
	ks_sort_begin(&c, f->names);
	r = ks_sort_seek(&c, &ino, 1);
	while (r == 0 && c.rec && c.rec[NAME_INO] == ino && out->n < PATHS_MAX) {
		struct ks_rec_dentry d;

		r = ks_fsck_entry(f, c.rec, &d, &a);
		if (r == 0 && d.parent)
			r = ks_fsck_entry_path(f, &d, out);
		if (r == 0)
			r = ks_sort_next(&c);
		ks_arena_reset(&a);
	}
	ks_sort_end(&c);
	ks_arena_clear(&a);
	return r;
}

int ks_fsck_is_quarantined(struct ks_fsck *f, uint64_t ino, bool *yes)
{
	static const char prefix[] = "/" KS_FSCK_LOST_FOUND "/";
	struct ks_fsck_paths p = { 0 };
	int r = ks_fsck_paths(f, ino, &p);

	*yes = p.n > 0;
	for (size_t i = 0; i < p.n; i++)
		*yes = *yes && strncmp(p.v[i].p, prefix, sizeof(prefix) - 1) == 0;
	ks_fsck_paths_clear(&p);
	return r;
}
