/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c: a scan over the extents counts those of each chunk; a chunk with enough is looked at, and copied when it is worth it. Copies are made durable and committed together, many at
 * a time, so that small files cost no sync each.
 */
#include "volume/compact.h"
#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>

#define BATCH 64u
#define BATCH_BYTES KS_CHUNK_SIZE
#define STRETCH 20000u /* extents of one scan, and up to its last chunk's end */
#define NAMES 1024u
#define LEVELS_MAX 100000u /* deeper is a ring: damage */

struct entry {
	uint64_t ino;
	bool dir;
};

struct frame {
	uint64_t ino, after;
	bool eof;
	struct entry *v;
	size_t n, cap, at;
};

struct run {
	struct ks_volume *v;
	const struct ks_compaction_opts *o;
	struct ks_compact_opts co;
	struct ks_compaction *out;
	struct ks_compact_job *jobs[BATCH];
	struct ks_compact_result res[BATCH];
	struct {
		ks_ino_t ino;
		uint64_t chunk;
	} of[BATCH];
	size_t n;
	uint64_t bytes;
	struct frame *dirs; /* the stack of a tree */
	size_t ndirs, cap;
	int err;
};

static bool stop(void *arg)
{
	struct run *u = arg;

	if ((u->o->stopped && u->o->stopped(u->o->arg)) ||
	    (u->o->deadline_ns && ks_clock_mono_ns() >= u->o->deadline_ns))
		u->out->limited = true;
	return u->out->limited;
}

/* ---- chunks ---- */

static void did(struct run *u, ks_ino_t ino, uint64_t chunk, const struct ks_compact_result *r)
{
	if (!r->worth)
		return;
	atomic_fetch_add(&u->out->compacted, 1);
	atomic_fetch_add(&u->out->before, r->before);
	atomic_fetch_add(&u->out->after, r->after);
	atomic_fetch_add(&u->out->bytes, r->bytes);
	if (u->o->item)
		u->o->item(u->o->arg, ino, chunk, r);
}

static int flush(struct run *u)
{
	int r = u->n ? ks_vfs_compact_end(u->v->vfs, u->jobs, u->n, u->res) : 0;

	for (size_t i = 0; r == 0 && i < u->n; i++)
		did(u, u->of[i].ino, u->of[i].chunk, &u->res[i]);
	u->n = 0;
	u->bytes = 0;
	return r;
}

static int one(struct run *u, ks_ino_t ino, uint64_t chunk)
{
	struct ks_compact_result *res = &u->res[u->n];
	struct ks_compact_job *j;
	int r = ks_vfs_compact_begin(u->v->vfs, ino, chunk, &u->co, &j, res);

	if (r == -EIO || r == -EBADMSG) {
		atomic_fetch_add(&u->out->failed, 1);
		if (u->o->failed)
			u->o->failed(u->o->arg, ino, chunk, r);
		return 0;
	}
	if (r == -EINTR)
		return 0;
	if (r < 0 || !res->worth)
		return r;
	if (!j) {
		did(u, ino, chunk, res);
		return 0;
	}
	u->of[u->n].ino = ino;
	u->of[u->n].chunk = chunk;
	u->jobs[u->n++] = j;
	u->bytes += res->bytes;
	return u->n == BATCH || u->bytes >= BATCH_BYTES ? flush(u) : 0;
}

/* ---- extents ---- */

struct count {
	const struct ks_compaction_opts *o;
	uint64_t ino, chunk; /* the group under way; ino 0: none */
	uint32_t n, seen;
	uint64_t groups;
	bool full; /* stopped in front of another group */
};

static int count_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_extent *e = rec;
	struct count *c = arg;

	(void)node;
	if (e->ino != c->ino || e->chunk != c->chunk) {
		if (c->ino && (c->n >= c->o->min_slices || c->seen >= STRETCH)) {
			c->full = true;
			return 1;
		}
		c->ino = e->ino;
		c->chunk = e->chunk;
		c->n = 0;
		c->groups++;
	}
	c->n++;
	c->seen++;
	return 0;
}

/* Every chunk of @ino; 0: of all files. */
static int scan(struct run *u, ks_ino_t ino)
{
	struct ks_rec_extent from = { .ino = ino };
	struct ks_arena a = { 0 };
	struct ks_scan s = { .table = KS_T_EXTENT,
			     .flags = KS_READ_SNAPSHOT,
			     .from = &from,
			     .nprefix = ino ? 1 : 0,
			     .fn = count_one };
	struct count c = { .full = true };
	int r = 0;

	while (r == 0 && c.full && !stop(u)) {
		c = (struct count){ .o = u->o };
		s.arg = &c;
		r = ks_engine_scan(ks_meta_engine(u->v->meta), &s, &a);
		ks_arena_reset(&a);
		if (r == 0 && c.n >= u->o->min_slices)
			r = one(u, c.ino, c.chunk);
		atomic_fetch_add(&u->out->scanned, c.groups);
		from.ino = c.ino;
		from.chunk = c.chunk;
		s.nafter = ino ? 1 : 2;
	}
	ks_arena_clear(&a);
	return r;
}

/* ---- trees ---- */

static int take(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *unused)
{
	struct run *u = arg;
	struct frame *f = &u->dirs[u->ndirs - 1];

	(void)unused;
	f->after = d->hash;
	if (d->type != S_IFDIR >> 12 && d->type != S_IFREG >> 12)
		return 0;
	if (ks_array_room(&f->v, f->n, &f->cap) < 0) {
		u->err = -ENOMEM;
		return 1;
	}
	f->v[f->n++] = (struct entry){ .ino = d->ino, .dir = d->type == S_IFDIR >> 12 };
	return 0;
}

static int push(struct run *u, ks_ino_t dir)
{
	if (u->ndirs == LEVELS_MAX)
		return ks_fail_hint(-EBADMSG, "run kiseki-fsck", "directory %ju is in a ring",
				    (uintmax_t)dir);
	if (ks_array_room(&u->dirs, u->ndirs, &u->cap) < 0)
		return -ENOMEM;
	u->dirs[u->ndirs++] = (struct frame){ .ino = dir };
	return 0;
}

static int step(struct run *u)
{
	struct frame *f = &u->dirs[u->ndirs - 1];
	int r;

	if (f->at < f->n) {
		const struct entry e = f->v[f->at++];

		return e.dir ? push(u, e.ino) : scan(u, e.ino);
	}
	if (f->eof) {
		free(f->v);
		u->ndirs--;
		return 0;
	}
	f->n = f->at = 0;
	r = ks_meta_readdir(u->v->meta, f->ino, f->after, false, NAMES, take, u, &f->eof);
	if (r == -ENOENT || r == -ENOTDIR) { /* removed meanwhile */
		f->eof = true;
		r = 0;
	}
	return r < 0 ? r : u->err;
}

static int tree(struct run *u, const char *path)
{
	struct ks_attr a;
	int r = ks_volume_path(u->v->meta, path, true, &a);

	if (r < 0)
		return r;
	if (!S_ISDIR(a.mode))
		return scan(u, a.ino);
	r = push(u, a.ino);
	while (r == 0 && u->ndirs && !stop(u))
		r = step(u);
	while (u->ndirs)
		free(u->dirs[--u->ndirs].v);
	free(u->dirs);
	return r;
}

/* ---- all of it ---- */

int ks_compaction(struct ks_volume *v, const char *path, const struct ks_compaction_opts *o,
		  struct ks_compaction *out)
{
	struct run *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->v = v;
	u->o = o;
	u->out = out;
	u->co = (struct ks_compact_opts){ .min_slices = o->min_slices,
					  .min_gain = o->min_gain,
					  .dry_run = o->dry_run,
					  .stop = stop,
					  .arg = u };
	r = path ? tree(u, path) : scan(u, 0);
	/* What is copied is not thrown away. */
	if (r == 0)
		r = flush(u);
	for (size_t i = 0; i < u->n; i++)
		ks_compact_job_free(v->vfs, u->jobs[i], true);
	if (r == 0 && !path && !out->limited)
		r = ks_vfs_packs_reclaim(v->vfs, o->dry_run, stop, u, &out->packs);
	free(u);
	return r == -EINTR ? 0 : r;
}
