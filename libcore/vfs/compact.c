/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c: chunks that consist of very many slices are made of few again.
 *
 * What is copied. A run is a range without holes in which every piece is short, or belongs to a slice of which little shows any more. A piece at
 * its edge that is longer than all the others together stays as it is: so what is appended again and again is not copied again and again. Long pieces
 * stay where they are. All runs of a chunk go to one new slice, one behind the other, and so do small slices that stand alone between holes: their places stay, but a reader finds
 * them side by side in a few blocks. Where nothing is worth copying, slices that are hidden still go.
 *
 * The copies are made durable before they are committed, since what they replace was. Who dies before the commit leaves objects that nothing names, for kiseki-gc. Writers are
 * never waited for and never wait: see meta_compact.c for what becomes of a chunk that changes meanwhile.
 *
 * A mount compacts by itself what it sees: it counts the slices it commits to each chunk and looks at the maps it reads. One thread, one chunk at a time, and
 * four times as long a pause as the last one took.
 */
#include "vfs/internal.h"

#include <stdlib.h>
#include <string.h>

#define LONG_PIECE (4 * KS_MIB)
#define AGAIN 2 /* copies after one that met what was just deleted */

#define SMALL_SLICE (256 * KS_KIB)

struct range {
	uint32_t first, n; /* pieces */
	uint32_t pos, len;
};

struct ks_compact_job {
	ks_ino_t ino;
	uint64_t chunk;
	struct ks_chunk_look look;
	struct ks_copied *v; /* what is copied */
	size_t n;
	uint32_t bytes;
	uint32_t rows, slices; /* what it would come to */
	bool copied;
	struct ks_rewritten copy;
};

/* ---- what is worth it ---- */

static bool stays(const struct ks_chunk_look *l, uint32_t i)
{
	return l->map->e[i].len >= LONG_PIECE && !(l->is[i] & KS_PIECE_DEAD);
}

static bool is_dead(const struct ks_chunk_look *l, uint32_t i)
{
	return l->is[i] & KS_PIECE_DEAD;
}

/* Cuts long pieces off both ends, and says whether anything is to be had by copying the rest. */
static bool trim(const struct ks_chunk_look *l, struct range *r)
{
	const struct ks_extent *e = l->map->e;

	while (r->n > 1 && !is_dead(l, r->first) && e[r->first].len > r->len - e[r->first].len) {
		r->len -= e[r->first].len;
		r->pos += e[r->first].len;
		r->first++;
		r->n--;
	}
	while (r->n > 1 && !is_dead(l, r->first + r->n - 1) &&
	       e[r->first + r->n - 1].len > r->len - e[r->first + r->n - 1].len) {
		r->n--;
		r->len -= e[r->first + r->n].len;
	}
	return r->n > 1 || is_dead(l, r->first) ||
	       ((l->is[r->first] & KS_PIECE_ALONE) && e[r->first].slice_len <= SMALL_SLICE);
}

static int id_order(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Slices of pieces that are not copied. */
static int count_left(struct ks_compact_job *j)
{
	const struct ks_chunk_map *m = j->look.map;
	uint64_t *ids = calloc(m->n + 1, sizeof(*ids));
	size_t k = 0;
	uint32_t n = 0;

	if (!ids)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->n; i++) {
		while (k < j->n && j->v[k].pos + j->v[k].len <= m->e[i].pos)
			k++;
		if (k == j->n || j->v[k].pos > m->e[i].pos)
			ids[n++] = m->e[i].slice;
	}
	qsort(ids, n, sizeof(*ids), id_order);
	for (uint32_t i = 0; i < n; i++)
		j->slices += i == 0 || ids[i] != ids[i - 1];
	free(ids);
	return 0;
}

static int plan(struct ks_compact_job *j)
{
	const struct ks_chunk_map *m = j->look.map;

	j->v = calloc(m->n + 1, sizeof(*j->v));
	if (!j->v)
		return -ENOMEM;
	j->rows = m->n;
	for (uint32_t i = 0; i < m->n;) {
		struct range r = { .first = i, .n = 1, .pos = m->e[i].pos, .len = m->e[i].len };

		if (stays(&j->look, i++))
			continue;
		while (i < m->n && !stays(&j->look, i) && m->e[i].pos == r.pos + r.len) {
			r.len += m->e[i++].len;
			r.n++;
		}
		if (!trim(&j->look, &r))
			continue;
		j->v[j->n++] = (struct ks_copied){ .pos = r.pos, .len = r.len, .off = j->bytes };
		j->bytes += r.len;
		j->rows -= r.n - 1;
	}
	j->slices = j->n > 0;
	return count_left(j);
}

static bool is_gain(uint32_t before, uint32_t after, uint32_t percent)
{
	return after < before && (uint64_t)(before - after) * 100 >= (uint64_t)percent * before;
}

/* What it would come to; nothing is copied when that does not help. */
static void judge(struct ks_compact_job *j, const struct ks_compact_opts *o,
		  struct ks_compact_result *r)
{
	const struct ks_chunk_look *l = &j->look;
	uint64_t gain = l->hidden + l->wasted;

	if (j->n == 0 || j->rows > l->rows || j->slices > l->slices ||
	    (j->rows == l->rows && j->slices == l->slices && l->wasted == 0)) {
		j->n = 0;
		j->bytes = 0;
		j->rows = ks_min(l->light, l->rows);
		j->slices = l->light_slices;
		gain = l->hidden;
	}
	r->before = l->slices;
	r->after = j->slices;
	r->extents = l->rows;
	r->bytes = j->bytes;
	r->worth = l->rows >= o->min_slices && (is_gain(l->slices, j->slices, o->min_gain) ||
						is_gain(l->rows, j->rows, o->min_gain) ||
						(gain && gain * 100 >= l->stored * o->min_gain));
}

/* ---- copying ---- */

void ks_compact_job_free(struct ks_vfs *v, struct ks_compact_job *j, bool undo)
{
	if (!j)
		return;
	if (j->copied)
		ks_data_rewritten_end(v->data, &j->copy, undo);
	ks_chunk_look_clear(&j->look);
	free(j->v);
	free(j);
}

static int copy_runs(struct ks_vfs *v, struct ks_compact_job *j, const struct ks_compact_opts *o)
{
	struct ks_rewrite w = { .ino = j->ino,
				.chunk = j->chunk,
				.map = j->look.map,
				.v = j->v,
				.n = j->n,
				.stop = o->stop,
				.arg = o->arg };
	int r = j->n ? ks_data_rewrite(v->data, &w, &j->copy) : 0;

	j->copied = r == 0 && j->n;
	return r;
}

static int begin(struct ks_vfs *v, ks_ino_t ino, uint64_t chunk, const struct ks_compact_opts *o,
		 struct ks_compact_job **out, struct ks_compact_result *r)
{
	struct ks_compact_job *j = calloc(1, sizeof(*j));
	int ret;

	*out = NULL;
	*r = (struct ks_compact_result){ 0 };
	if (!j)
		return -ENOMEM;
	j->ino = ino;
	j->chunk = chunk;
	ret = ks_meta_chunk_look(v->meta, ino, chunk, &j->look);
	if (ret == 0)
		ret = plan(j);
	if (ret == 0)
		judge(j, o, r);
	if (ret == 0 && r->worth && !o->dry_run) {
		ret = copy_runs(v, j, o);
		if (ret == 0)
			*out = ks_steal(&j);
	}
	ks_compact_job_free(v, j, true);
	return ret == -ENOENT ? 0 : ret; /* the file is gone: nothing to do */
}

int ks_vfs_compact_begin(struct ks_vfs *v, ks_ino_t ino, uint64_t chunk,
			 const struct ks_compact_opts *o, struct ks_compact_job **out,
			 struct ks_compact_result *r)
{
	bool quiet = ks_fail_quiet(true);
	int ret;

	/* What a map names may have been replaced and deleted since it was read. */
	for (int i = 0;; i++) {
		ks_fail_quiet(quiet || i < AGAIN);
		ret = begin(v, ino, chunk, o, out, r);
		if (ret != -EIO || i == AGAIN)
			break;
	}
	ks_fail_quiet(quiet);
	return ret;
}

/* ---- committing ---- */

static void forget_maps(struct ks_vfs *v, ks_ino_t ino)
{
	struct ks_vnode *vn = ks_vnode_pin(v, ino);

	if (!vn)
		return;
	ks_file_forget_maps(vn->file);
	ks_vnode_unpin(v, vn);
}

static int commit(struct ks_vfs *v, struct ks_compact_job *j, struct ks_compact_result *r)
{
	struct ks_compact c = { .ino = j->ino,
				.chunk = j->chunk,
				.seen = j->look.map,
				.s = &j->copy.s,
				.n = j->copied,
				.v = j->v,
				.nv = j->n };
	bool used = false;
	bool sure;
	int ret;

	c.used = &used;
	ret = ks_meta_compact(v->meta, &c);
	sure = ret == 0 || ret == -ENOENT || ret == -EBADMSG;
	r->before = c.slices_before;
	r->after = c.slices_after;
	r->extents = c.after;
	r->worth = used || c.after < c.before || c.slices_after < c.slices_before;
	r->bytes = used ? j->bytes : 0;
	if (j->copied)
		ks_data_rewritten_end(v->data, &j->copy, sure && !used);
	j->copied = false;
	if (ret == 0)
		forget_maps(v, j->ino);
	if (ret == -ENOENT)
		r->before = r->after = 0;
	return ret == -ENOENT ? 0 : ret;
}

int ks_vfs_compact_end(struct ks_vfs *v, struct ks_compact_job *const *jobs, size_t n,
		       struct ks_compact_result *r)
{
	bool copied = false;
	int ret = 0;
	size_t i;

	for (i = 0; i < n; i++)
		copied = copied || jobs[i]->copied;
	if (copied)
		ret = ks_store_sync(v);
	for (i = 0; ret == 0 && i < n; i++)
		ret = commit(v, jobs[i], &r[i]);
	for (size_t k = 0; k < n; k++)
		ks_compact_job_free(v, jobs[k], k >= i);
	return ret;
}

/* ---- what a mount sees ---- */

static struct ks_hot *slot_of(struct ks_compactor *c, ks_ino_t ino, uint64_t chunk)
{
	return &c->hot[ks_mix64(ino * 31 + chunk) % KS_HOT_SLOTS];
}

void ks_compact_note(struct ks_vfs *v, ks_ino_t ino, uint64_t chunk, uint32_t more, uint32_t all)
{
	struct ks_compactor *c = &v->compactor;
	struct ks_hot *h;

	if (!__atomic_load_n(&c->on, __ATOMIC_RELAXED))
		return;
	KS_LOCKED(&c->mu);
	h = slot_of(c, ino, chunk);
	if (h->ino != ino || h->chunk != chunk) {
		/* Two chunks on one slot: the one with more slices stays, but not for ever. */
		if (h->n > ks_max(more, all)) {
			h->n -= ks_max(more, all);
			return;
		}
		*h = (struct ks_hot){ .ino = ino, .chunk = chunk };
	}
	h->n = ks_max(h->n + more, all);
	if (h->n < ks_max((uint32_t)KS_COMPACT_ROWS, h->wait) || h->queued ||
	    c->nqueue == KS_HOT_QUEUE)
		return;
	h->queued = true;
	c->queue[(c->at + c->nqueue++) % KS_HOT_QUEUE] = *h;
	pthread_cond_signal(&c->wake);
}

/* It was dealt with: not again before it has as many more. */
static void done(struct ks_compactor *c, const struct ks_hot *was, uint32_t rows)
{
	struct ks_hot *h;

	KS_LOCKED(&c->mu);
	h = slot_of(c, was->ino, was->chunk);
	if (h->ino != was->ino || h->chunk != was->chunk)
		return;
	h->queued = false;
	h->n = rows;
	h->wait = 2 * rows;
}

static bool stopping(void *arg)
{
	struct ks_compactor *c = arg;

	KS_LOCKED(&c->mu);
	return c->stop;
}

static int compact_one(struct ks_vfs *v, const struct ks_hot *h)
{
	const struct ks_compact_opts o = { .min_slices = KS_COMPACT_ROWS / 2,
					   .min_gain = 50,
					   .stop = stopping,
					   .arg = &v->compactor };
	struct ks_compact_result res = { 0 };
	struct ks_compact_job *j = NULL;
	int r = ks_vfs_compact_begin(v, h->ino, h->chunk, &o, &j, &res);

	if (r == 0 && j)
		r = ks_vfs_compact_end(v, &j, 1, &res);
	done(&v->compactor, h, ks_max(res.extents, (uint32_t)KS_COMPACT_ROWS));
	if (r == 0 && j) {
		__atomic_add_fetch(&v->compactor.chunks, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&v->compactor.bytes, res.bytes, __ATOMIC_RELAXED);
		ks_log(KS_LOG_DEBUG, "compacted chunk %ju of inode %ju: %u slices, were %u",
		       (uintmax_t)h->chunk, (uintmax_t)h->ino, res.after, res.before);
	}
	return r;
}

static void *run(void *arg)
{
	struct ks_vfs *v = arg;
	struct ks_compactor *c = &v->compactor;

	ks_mutex_lock(&c->mu);
	while (!c->stop) {
		struct ks_hot h;
		int64_t began, pause;
		int r;

		if (c->nqueue == 0) {
			ks_cond_wait(&c->wake, &c->mu, -1);
			continue;
		}
		h = c->queue[c->at];
		c->at = (c->at + 1) % KS_HOT_QUEUE;
		c->nqueue--;
		ks_mutex_unlock(&c->mu);
		began = ks_clock_mono_ns();
		r = compact_one(v, &h);
		pause = 4 * (ks_clock_mono_ns() - began);
		ks_mutex_lock(&c->mu);
		pause = ks_max(pause, r < 0 ? KS_COMPACT_FAILED_NS : KS_COMPACT_PAUSE_NS);
		pause += ks_clock_mono_ns();
		while (!c->stop && ks_clock_mono_ns() < pause)
			ks_cond_wait(&c->wake, &c->mu, pause);
	}
	ks_mutex_unlock(&c->mu);
	return NULL;
}

int ks_compactor_init(struct ks_compactor *c)
{
	int r = ks_cond_init(&c->wake);

	if (r == 0)
		pthread_mutex_init(&c->mu, NULL);
	return r;
}

int ks_compactor_start(struct ks_vfs *v)
{
	struct ks_compactor *c = &v->compactor;
	int r = ks_thread_start(&c->thread, "ks-compact", run, v);

	if (r == 0)
		__atomic_store_n(&c->on, true, __ATOMIC_RELAXED);
	return r;
}

void ks_compactor_stop(struct ks_vfs *v)
{
	struct ks_compactor *c = &v->compactor;

	if (!c->on)
		return;
	ks_mutex_lock(&c->mu);
	c->stop = true;
	pthread_cond_broadcast(&c->wake);
	ks_mutex_unlock(&c->mu);
	pthread_join(c->thread, NULL);
	/* Others still commit, and look. */
	__atomic_store_n(&c->on, false, __ATOMIC_RELAXED);
}

void ks_compactor_destroy(struct ks_compactor *c)
{
	pthread_mutex_destroy(&c->mu);
	pthread_cond_destroy(&c->wake);
}
