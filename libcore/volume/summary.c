/* SPDX-License-Identifier: Apache-2.0 */
/*
 * summary.c: adds up a tree, depth first, with a stack of its own: a tree may be deeper than the thread's.
 *
 * A directory is read in stretches of STRETCH entries. What is no directory is added up at once; the directories of a stretch are kept by
 * number, and gone into before the next stretch is read. Down to the depth that is shown each directory has a node, whose largest entries
 * are kept: twice as many as are asked for are collected, then the lesser half is added up and forgotten.
 */
#include "volume/summary.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/hmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRETCH 4096u
#define LEVELS_MAX 100000u /* deeper is a ring: damage */

struct sub {
	uint64_t ino;
	char *name; /* NULL below the depth that is shown; owned */
	uint32_t n, mode;
};

struct frame {
	uint64_t ino;
	uint64_t after; /* where the next stretch begins */
	bool eof;
	struct sub *subs;
	size_t nsubs, cap, at;
	struct ks_summary *node; /* owned; NULL below the depth that is shown */
	struct ks_summary_sum sum;
};

struct run {
	struct ks_meta *m;
	const struct ks_summary_opts *o;
	struct frame *v;
	size_t n, cap;
	struct ks_hmap linked; /* inodes with several names that were counted */
	struct ks_arena nodes; /* of it */
	int err;
};

void ks_summary_free(struct ks_summary *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->nv; i++)
		ks_summary_free(s->v[i]);
	free(s->v);
	free(s->name);
	free(s);
}

static void summary_freep(struct ks_summary **s)
{
	ks_summary_free(*s);
}

static void add(struct ks_summary_sum *to, const struct ks_summary_sum *s)
{
	to->files += s->files;
	to->dirs += s->dirs;
	to->bytes += s->bytes;
	to->used += s->used;
}

static struct ks_summary *node_new(const char *name, size_t n, uint32_t mode)
{
	struct ks_summary *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->mode = mode;
	s->n = n;
	s->name = malloc(n + 1);
	if (!s->name) {
		free(s);
		return NULL;
	}
	memcpy(s->name, name, n);
	s->name[n] = '\0';
	return s;
}

static int larger_first(const void *a, const void *b)
{
	const struct ks_summary *x = *(const struct ks_summary *const *)a;
	const struct ks_summary *y = *(const struct ks_summary *const *)b;

	if (x->sum.used != y->sum.used)
		return x->sum.used > y->sum.used ? -1 : 1;
	if (x->sum.bytes != y->sum.bytes)
		return x->sum.bytes > y->sum.bytes ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void prune(struct ks_summary *dir, size_t keep)
{
	if (dir->nv)
		qsort(dir->v, dir->nv, sizeof(*dir->v), larger_first);
	while (dir->nv > keep) {
		struct ks_summary *last = dir->v[--dir->nv];

		add(&dir->rest, &last->sum);
		dir->nrest++;
		ks_summary_free(last);
		dir->floor = dir->v[keep - 1]->sum.used;
	}
}

/* Takes @s over. */
static int keep(const struct run *u, struct ks_summary *dir, struct ks_summary *s)
{
	if (ks_array_room(&dir->v, dir->nv, &dir->cap) < 0) {
		ks_summary_free(s);
		return -ENOMEM;
	}
	dir->v[dir->nv++] = s;
	if (dir->nv >= 2 * (size_t)u->o->entries)
		prune(dir, u->o->entries);
	return 0;
}

/* Is this one counted for the first time? 1 or 0. */
static int first_name(struct run *u, const struct ks_attr *a)
{
	struct ks_hnode *h;

	if (a->nlink < 2)
		return 1;
	if (ks_hmap_find(&u->linked, a->ino))
		return 0;
	h = ks_arena_alloc(&u->nodes, sizeof(*h));
	if (!h || ks_hmap_insert(&u->linked, h, a->ino) < 0)
		return -ENOMEM;
	return 1;
}

static int add_file(struct run *u, struct frame *f, const struct ks_rec_dentry *d,
		    const struct ks_attr *a)
{
	struct ks_summary_sum sum = { .files = 1, .bytes = a->size, .used = a->used };
	struct ks_summary *s;
	int first = first_name(u, a);

	if (first < 0)
		return first;
	if (!first)
		sum = (struct ks_summary_sum){ 0 };
	add(&f->sum, &sum);
	if (!f->node || !u->o->depth || u->n > u->o->depth)
		return 0;
	if (f->node->floor > sum.used) {
		add(&f->node->rest, &sum);
		f->node->nrest++;
		return 0;
	}
	s = node_new(d->name.p, d->name.n, a->mode);
	if (!s)
		return -ENOMEM;
	s->sum = sum;
	return keep(u, f->node, s);
}

static int add_sub(struct run *u, struct frame *f, const struct ks_rec_dentry *d,
		   const struct ks_attr *a)
{
	struct sub s = { .ino = a->ino, .n = (uint32_t)d->name.n, .mode = a->mode };

	if (ks_array_room(&f->subs, f->nsubs, &f->cap) < 0)
		return -ENOMEM;
	if (u->n <= u->o->depth) {
		s.name = strndup(d->name.p, d->name.n);
		if (!s.name)
			return -ENOMEM;
	}
	f->subs[f->nsubs++] = s;
	return 0;
}

static int take(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *a)
{
	struct run *u = arg;
	struct frame *f = &u->v[u->n - 1];

	f->after = d->hash;
	if (u->o->seen)
		atomic_fetch_add_explicit(u->o->seen, 1, memory_order_relaxed);
	if (!a)
		return 0; /* a name without an inode: fsck's business */
	u->err = S_ISDIR(a->mode) ? add_sub(u, f, d, a) : add_file(u, f, d, a);
	return u->err < 0;
}

static void subs_clear(struct frame *f)
{
	for (size_t i = f->at; i < f->nsubs; i++)
		free(f->subs[i].name);
	f->nsubs = f->at = 0;
}

/* Takes @node over; NULL: none is shown. */
static int push(struct run *u, uint64_t ino, struct ks_summary *node)
{
	int r = u->n < LEVELS_MAX ? ks_array_room(&u->v, u->n, &u->cap)
				  : ks_fail_hint(-EBADMSG, "run kiseki-fsck",
						 "directory %ju is in a ring", (uintmax_t)ino);

	if (r < 0) {
		ks_summary_free(node);
		return r;
	}
	u->v[u->n++] = (struct frame){ .ino = ino, .node = node, .sum.dirs = 1 };
	return 0;
}

/* The directory on top is finished: its sum goes to the one above, its node too. */
static int pop(struct run *u, struct ks_summary **root)
{
	struct frame f = u->v[--u->n];

	free(f.subs);
	if (f.node) {
		f.node->sum = f.sum;
		prune(f.node, u->o->entries);
	}
	if (u->n == 0) {
		*root = f.node;
		return 0;
	}
	add(&u->v[u->n - 1].sum, &f.sum);
	return f.node ? keep(u, u->v[u->n - 1].node, f.node) : 0;
}

static int go_into(struct run *u, struct sub *s)
{
	struct ks_summary *node = NULL;

	if (s->name) {
		node = node_new(s->name, s->n, s->mode);
		free(s->name);
		s->name = NULL;
		if (!node)
			return -ENOMEM;
	}
	return push(u, s->ino, node);
}

static int step(struct run *u, struct ks_summary **root)
{
	struct frame *f = &u->v[u->n - 1];
	int r;

	if (u->o->stop && u->o->stop(u->o->arg))
		return -EINTR;
	if (f->at < f->nsubs)
		return go_into(u, &f->subs[f->at++]);
	if (f->eof)
		return pop(u, root);
	subs_clear(f);
	r = ks_meta_readdir(u->m, f->ino, f->after, true, STRETCH, take, u, &f->eof);
	if (r == 0)
		r = u->err;
	if (r == -ENOENT || r == -ENOTDIR) { /* removed meanwhile */
		f->eof = true;
		r = 0;
	}
	return r;
}

static int walk(struct ks_meta *m, const struct ks_attr *a, const struct ks_summary_opts *o,
		struct ks_summary **root)
{
	struct run u = { .m = m, .o = o };
	struct ks_summary *top = node_new("", 0, a->mode);
	int r = top ? push(&u, a->ino, top) : -ENOMEM;

	while (r == 0 && u.n)
		r = step(&u, root);
	while (u.n) {
		struct frame *f = &u.v[--u.n];

		subs_clear(f);
		free(f->subs);
		ks_summary_free(f->node);
	}
	free(u.v);
	ks_hmap_clear(&u.linked);
	ks_arena_clear(&u.nodes);
	return r;
}

int ks_summary(struct ks_meta *m, const char *path, const struct ks_summary_opts *o,
	       struct ks_summary **out)
{
	KS_AUTO(summary_freep) struct ks_summary *root = NULL;
	struct ks_attr a;
	int r;

	ks_fail_clear();
	r = ks_volume_path(m, path, true, &a);
	if (r == 0 && S_ISDIR(a.mode)) {
		r = walk(m, &a, o, &root);
		if (r < 0 && r != -EINTR && !*ks_fail_text())
			return ks_fail(r, "%s:%s", ks_meta_settings(m)->name, path);
	} else if (r == 0) {
		root = node_new("", 0, a.mode);
		if (!root)
			return -ENOMEM;
		root->sum = (struct ks_summary_sum){ .files = 1, .bytes = a.size, .used = a.used };
	}
	if (r == 0)
		*out = ks_steal(&root);
	return r;
}
