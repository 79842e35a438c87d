/* SPDX-License-Identifier: Apache-2.0 */
/* list.c: directories of a volume, read in batches, so that no transaction is open while the caller prints. */
#include "volume/list.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 16384

struct entry {
	struct ks_attr attr;
	char *name; /* in the arena */
};

struct list {
	struct ks_meta *m;
	const struct ks_list_opts *o;
	ks_list_fn *fn;
	void *arg;
	struct ks_buf path; /* of the directory being listed, relative, with its slash */
};

struct batch {
	struct ks_arena names;
	struct entry *e;
	size_t n, cap;
	uint64_t last;
	bool full;
	int err;
};

static int keep(struct batch *b, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	char *name;

	if (ks_array_room(&b->e, b->n, &b->cap) < 0)
		return -ENOMEM;
	name = ks_arena_alloc(&b->names, d->name.n + 1);
	if (!name)
		return -ENOMEM;
	memcpy(name, d->name.p, d->name.n);
	name[d->name.n] = '\0';
	b->e[b->n].name = name;
	b->e[b->n++].attr = attr ? *attr : (struct ks_attr){ .ino = d->ino, .mode = d->type << 12 };
	return 0;
}

static int take(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	struct batch *b = arg;

	/* The names of one hash stay together: the next batch starts behind it. */
	if (b->n >= BATCH && d->hash != b->last) {
		b->full = true;
		return 1;
	}
	b->last = d->hash;
	b->err = keep(b, d, attr);
	return b->err < 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static int fill(struct list *l, ks_ino_t dir, struct batch *b, bool *eof)
{
	int r = 0;

	b->n = 0;
	b->full = false;
	ks_arena_reset(&b->names);
	*eof = false;
	while (r == 0 && !b->full && !*eof) {
		r = ks_meta_readdir(l->m, dir, b->last, true, 0, take, b, eof);
		r = r < 0 ? r : b->err;
	}
	if (b->full)
		*eof = false;
	if (r == 0 && b->n)
		qsort(b->e, b->n, sizeof(*b->e), by_name);
	return r;
}

static int show(struct list *l, const char *path, size_t n, const struct ks_attr *a)
{
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };
	struct ks_list_entry e = { .path = path, .n = n, .attr = a };
	int r = 0;

	if (l->o->stop && l->o->stop(l->o->arg))
		return -EINTR;
	if (l->o->targets && S_ISLNK(a->mode)) {
		r = ks_meta_readlink(l->m, a->ino, &target);
		if (r == 0)
			r = ks_buf_cstr(&target, &e.target);
		/* Removed while it was listed. */
		if (r == -ENOENT)
			r = 0;
	}
	return r < 0 ? r : l->fn(l->arg, &e);
}

static int list_dir(struct list *l, ks_ino_t dir)
{
	struct batch b = { 0 };
	size_t base = l->path.n;
	bool eof = false;
	int r = 0;

	while (r == 0 && !eof) {
		r = fill(l, dir, &b, &eof);
		for (size_t i = 0; r == 0 && i < b.n; i++) {
			const char *path;

			l->path.n = base;
			r = ks_buf_append(&l->path, b.e[i].name, strlen(b.e[i].name));
			if (r == 0)
				r = ks_buf_cstr(&l->path, &path);
			if (r == 0)
				r = show(l, path, l->path.n, &b.e[i].attr);
			if (r == 0 && l->o->recursive && S_ISDIR(b.e[i].attr.mode)) {
				r = ks_buf_append(&l->path, "/", 1);
				if (r == 0)
					r = list_dir(l, b.e[i].attr.ino);
			}
		}
	}
	l->path.n = base;
	ks_arena_clear(&b.names);
	free(b.e);
	return r;
}

int ks_list(struct ks_meta *m, const char *path, const struct ks_list_opts *o, ks_list_fn *fn,
	    void *arg)
{
	struct list l = { .m = m, .o = o, .fn = fn, .arg = arg };
	struct ks_attr a;
	int r = ks_volume_path(m, path, true, &a);

	if (r < 0) {
		/* A symlink that leads nowhere is something, too. */
		if (r != -ENOENT || ks_volume_path(m, path, false, &a) < 0)
			return r;
		ks_fail_clear();
	}
	if (S_ISDIR(a.mode))
		r = list_dir(&l, a.ino);
	else
		r = show(&l, path, strlen(path), &a);
	ks_buf_clear(&l.path);
	return r;
}
