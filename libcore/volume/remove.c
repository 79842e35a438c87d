/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remove.c: a tree goes from its leaves up, on a stack of its own: it may be deeper than the thread's.
 *
 * Directories are read in stretches. What is found goes into a batch that spans directories; a directory joins it behind its last entry. A full batch is one
 * transaction. The cursor of a directory is a hash, which removals do not move.
 */
#include "volume/remove.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/hmap.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRETCH 512u
#define LEVELS_MAX 100000u /* deeper is a ring: damage */

struct entry {
	char *name; /* in the stretch's arena */
	uint64_t ino;
	bool dir;
};

struct frame {
	uint64_t ino, parent;
	size_t name_at; /* of it in the path; its name begins there */
	size_t path_n;  /* of the path with it */
	uint64_t after;
	bool eof;
	struct ks_arena names;
	struct entry *v;
	size_t n, cap, at;
};

struct run {
	struct ks_meta *m;
	const struct ks_rm_opts *o;
	struct ks_rm_result *out;
	struct frame *v;
	size_t n, cap;
	struct ks_buf path; /* of the directory on top */
	struct ks_remove batch[KS_REMOVE_MAX];
	const char *paths[KS_REMOVE_MAX];
	uint64_t inos[KS_REMOVE_MAX];
	size_t nbatch;
	struct ks_arena arena; /* of the batch */
	struct ks_hmap kept;   /* directories in which something stays */
	struct ks_arena kept_nodes;
	int err;
};

/* ---- the batch ---- */

static int keep(struct run *u, uint64_t dir)
{
	struct ks_hnode *h;

	if (ks_hmap_find(&u->kept, dir))
		return 0;
	h = ks_arena_alloc(&u->kept_nodes, sizeof(*h));
	return h ? ks_hmap_insert(&u->kept, h, dir) : -ENOMEM;
}

static int settle(struct run *u, size_t i)
{
	const struct ks_remove *v = &u->batch[i];

	if (v->err == -ENOENT) /* somebody else was faster */
		return 0;
	if (v->err == 0) {
		atomic_fetch_add(v->dir ? &u->out->dirs : &u->out->files, 1);
		atomic_fetch_add(&u->out->bytes, v->bytes);
	} else if (v->err != -ENOTEMPTY || !ks_hmap_find(&u->kept, u->inos[i])) {
		/* A directory that stays because of what is in it is not told again. */
		atomic_fetch_add(&u->out->failed, 1);
	} else {
		return keep(u, v->parent);
	}
	if (u->o->item)
		u->o->item(u->o->arg, u->paths[i], v->dir, v->err);
	return v->err ? keep(u, v->parent) : 0;
}

static int flush(struct run *u)
{
	int r = ks_meta_remove(u->m, u->batch, u->nbatch);

	for (size_t i = 0; i < u->nbatch && r == 0; i++)
		r = settle(u, i);
	u->nbatch = 0;
	ks_arena_reset(&u->arena);
	return r;
}

/* @path[0..n) and the entry's name begins at @name_at. */
static int add(struct run *u, uint64_t parent, const char *path, size_t n, size_t name_at,
	       uint64_t ino, bool dir)
{
	char *copy = ks_arena_alloc(&u->arena, n + 1);

	if (!copy)
		return -ENOMEM;
	memcpy(copy, path, n);
	copy[n] = '\0';
	u->paths[u->nbatch] = copy;
	u->inos[u->nbatch] = ino;
	u->batch[u->nbatch++] =
		(struct ks_remove){ .parent = parent, .name = copy + name_at, .dir = dir };
	return u->nbatch == KS_REMOVE_MAX ? flush(u) : 0;
}

/* ---- the tree ---- */

static int take(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *unused)
{
	struct run *u = arg;
	struct frame *f = &u->v[u->n - 1];
	struct entry e = { .ino = d->ino, .dir = d->type == S_IFDIR >> 12 };

	(void)unused;
	u->err = -ENOMEM;
	if (ks_array_room(&f->v, f->n, &f->cap) < 0)
		return 1;
	e.name = ks_arena_alloc(&f->names, d->name.n + 1);
	if (!e.name)
		return 1;
	memcpy(e.name, d->name.p, d->name.n);
	e.name[d->name.n] = '\0';
	f->v[f->n++] = e;
	f->after = d->hash;
	u->err = 0;
	return 0;
}

static int push(struct run *u, uint64_t ino, uint64_t parent, size_t name_at)
{
	if (u->n >= LEVELS_MAX) {
		return ks_fail_hint(-EBADMSG, "run kiseki-fsck", "directory %ju is in a ring",
				    (uintmax_t)ino);
	}
	if (ks_array_room(&u->v, u->n, &u->cap) < 0)
		return -ENOMEM;
	u->v[u->n++] = (struct frame){
		.ino = ino, .parent = parent, .name_at = name_at, .path_n = u->path.n
	};
	return 0;
}

static void frame_clear(struct frame *f)
{
	ks_arena_clear(&f->names);
	free(f->v);
}

static int pop(struct run *u)
{
	struct frame f = u->v[--u->n];

	frame_clear(&f);
	/* The root stays. */
	return f.parent ? add(u, f.parent, u->path.p, f.path_n, f.name_at, f.ino, true) : 0;
}

static int visit(struct run *u, struct frame *f, const struct entry *e)
{
	size_t name_at = f->path_n + 1;
	int r;

	u->path.n = f->path_n;
	r = ks_buf_append(&u->path, "/", 1);
	if (r == 0)
		r = ks_buf_append(&u->path, e->name, strlen(e->name));
	if (r < 0)
		return r;
	if (e->dir)
		return push(u, e->ino, f->ino, name_at);
	return add(u, f->ino, u->path.p, u->path.n, name_at, e->ino, false);
}

static int step(struct run *u)
{
	struct frame *f = &u->v[u->n - 1];
	int r;

	if (u->o->stop && u->o->stop(u->o->arg))
		return -EINTR;
	if (f->at < f->n)
		return visit(u, f, &f->v[f->at++]);
	if (f->eof)
		return pop(u);
	f->n = f->at = 0;
	ks_arena_reset(&f->names);
	u->err = 0;
	r = ks_meta_readdir(u->m, f->ino, f->after, false, STRETCH, take, u, &f->eof);
	if (r == -ENOENT || r == -ENOTDIR) { /* removed meanwhile */
		f->eof = true;
		r = 0;
	}
	return r < 0 ? r : u->err;
}

static int remove_tree(struct run *u, const struct ks_attr *dir, const char *name,
		       const struct ks_attr *what)
{
	size_t name_at = u->path.n - strlen(name);
	int r = push(u, what->ino, what->ino == KS_ROOT_INO ? 0 : dir->ino, name_at);

	while (r == 0 && u->n)
		r = step(u);
	while (u->n)
		frame_clear(&u->v[--u->n]);
	free(u->v);
	return r;
}

/* ---- the path ---- */

int ks_rm_find(struct ks_meta *m, const char *path, struct ks_attr *dir, char **name,
	       struct ks_attr *what)
{
	const char *volume = ks_meta_settings(m)->name;
	size_t n = strlen(path);
	size_t whole = n;
	size_t at;
	KS_AUTO(ks_freep) char *last = NULL;
	KS_AUTO(ks_freep) char *above = NULL;
	int r;

	while (n && path[n - 1] == '/')
		n--;
	for (at = n; at && path[at - 1] != '/';)
		at--;
	last = strndup(path + at, n - at);
	above = ks_asprintf("/%.*s", (int)at, path);
	if (!last || !above)
		return -ENOMEM;
	if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0)
		return ks_fail(-EINVAL, "%s:%s: '.' and '..' are not removed", volume, path);
	r = ks_volume_path(m, above, true, dir);
	if (r == 0 && !*last)
		*what = *dir;
	else if (r == 0)
		r = ks_meta_lookup(m, dir->ino, last, what);
	if (r == 0 && n < whole && !S_ISDIR(what->mode))
		r = -ENOTDIR;
	if (r < 0)
		return ks_fail(r, "%s:%s", volume, path);
	*name = ks_steal(&last);
	return 0;
}

int ks_rm(struct ks_meta *m, const char *path, const struct ks_rm_opts *o, struct ks_rm_result *out)
{
	KS_AUTO(ks_freep) char *name = NULL;
	const char *volume = ks_meta_settings(m)->name;
	struct ks_attr dir = { 0 };
	struct ks_attr what = { 0 };
	struct run *u;
	size_t n = strlen(path);
	int r = ks_rm_find(m, path, &dir, &name, &what);

	if (r < 0)
		return r;
	if (what.ino == KS_ROOT_INO && !o->everything)
		return ks_fail_hint(-EINVAL, "--no-preserve-root empties the volume",
				    "%s:%s is the root", volume, path);
	if (S_ISDIR(what.mode) && !o->recursive)
		return ks_fail_hint(-EISDIR, "-r removes it with all that is in it", "%s:%s",
				    volume, path);
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->m = m;
	u->o = o;
	u->out = out;
	while (n && path[n - 1] == '/')
		n--;
	r = ks_buf_append(&u->path, path, n);
	if (r == 0 && S_ISDIR(what.mode))
		r = remove_tree(u, &dir, name, &what);
	else if (r == 0)
		r = add(u, dir.ino, u->path.p, n, n - strlen(name), what.ino, false);
	if (r == 0)
		r = flush(u);
	ks_buf_clear(&u->path);
	ks_arena_clear(&u->arena);
	ks_arena_clear(&u->kept_nodes);
	ks_hmap_clear(&u->kept);
	free(u);
	return r;
}
