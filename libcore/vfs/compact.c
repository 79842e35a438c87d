/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.c: chunks that consist of very many slices are made of few again.
 *
 * What is copied. A run is a range without holes in which every piece is short, or belongs to a slice of which little shows any more. It becomes one slice. A piece at
 * its edge that is longer than all the others together stays as it is: so what is appended again and again is not copied again and again. Long pieces
 * stay where they are. Where nothing is worth copying, slices that are hidden still go.
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

struct range {
	uint32_t first, n; /* pieces */
	uint32_t pos, len;
};

struct ks_compact_job {
	ks_ino_t ino;
	uint64_t chunk;
	struct ks_chunk_look look;
	struct range *runs;
	size_t nruns;
	struct ks_rewritten *v; /* one for each run */
	size_t n;
};

/* ---- what is worth it ---- */

static bool stays(const struct ks_chunk_look *l, uint32_t i)
{
	return l->map->e[i].len >= LONG_PIECE && !l->dead[i];
}

/* Cuts long pieces off both ends, and says whether anything is to be had by copying the rest. */
static bool trim(const struct ks_chunk_look *l, struct range *r)
{
	const struct ks_extent *e = l->map->e;

	while (r->n > 1 && !l->dead[r->first] && e[r->first].len > r->len - e[r->first].len) {
		r->len -= e[r->first].len;
		r->pos += e[r->first].len;
		r->first++;
		r->n--;
	}
	while (r->n > 1 && !l->dead[r->first + r->n - 1] &&
	       e[r->first + r->n - 1].len > r->len - e[r->first + r->n - 1].len) {
		r->n--;
		r->len -= e[r->first + r->n].len;
	}
	return r->n > 1 || l->dead[r->first];
}

static int plan(struct ks_compact_job *j)
{
	const struct ks_chunk_map *m = j->look.map;

	j->runs = calloc(m->n + 1, sizeof(*j->runs));
	if (!j->runs)
		return -ENOMEM;
	for (uint32_t i = 0; i < m->n;) {
		struct range r = { .first = i, .n = 1, .pos = m->e[i].pos, .len = m->e[i].len };

		if (stays(&j->look, i++))
			continue;
		while (i < m->n && !stays(&j->look, i) && m->e[i].pos == r.pos + r.len) {
			r.len += m->e[i++].len;
			r.n++;
		}
		if (trim(&j->look, &r))
			j->runs[j->nruns++] = r;
	}
	return 0;
}

/* What it would come to; the runs are dropped when they do not help. */
static void judge(struct ks_compact_job *j, const struct ks_compact_opts *o,
		  struct ks_compact_result *r)
{
	const struct ks_chunk_look *l = &j->look;
	uint64_t gain = l->hidden + l->wasted;

	r->before = l->rows;
	r->after = l->map->n;
	for (size_t i = 0; i < j->nruns; i++) {
		r->after -= j->runs[i].n - 1;
		r->bytes += j->runs[i].len;
	}
	if (j->nruns == 0 || r->after >= l->rows) {
		j->nruns = 0;
		r->bytes = 0;
		r->after = ks_min(l->light, l->rows);
		gain = l->hidden;
	}
	r->worth = l->rows >= o->min_slices && r->after < r->before &&
		   ((uint64_t)(r->before - r->after) * 100 >= (uint64_t)o->min_gain * r->before ||
		    (gain && gain * 100 >= l->stored * o->min_gain));
}

/* ---- copying ---- */

void ks_compact_job_free(struct ks_vfs *v, struct ks_compact_job *j, bool undo)
{
	if (!j)
		return;
	for (size_t i = 0; i < j->n; i++)
		ks_data_rewritten_end(v->data, &j->v[i], undo);
	ks_chunk_look_clear(&j->look);
	free(j->runs);
	free(j->v);
	free(j);
}

static int copy_runs(struct ks_vfs *v, struct ks_compact_job *j, const struct ks_compact_opts *o)
{
	int r = 0;

	j->v = calloc(j->nruns + 1, sizeof(*j->v));
	if (!j->v)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < j->nruns; i++) {
		struct ks_rewrite w = { .ino = j->ino,
					.chunk = j->chunk,
					.map = j->look.map,
					.pos = j->runs[i].pos,
					.len = j->runs[i].len,
					.stop = o->stop,
					.arg = o->arg };

		r = ks_data_rewrite(v->data, &w, &j->v[i]);
		j->n += r == 0;
	}
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
	struct ks_compact c = { .ino = j->ino, .chunk = j->chunk, .seen = j->look.map, .n = j->n };
	struct ks_commit_slice *s = calloc(j->n + 1, sizeof(*s));
	int ret;

	c.used = calloc(j->n + 1, sizeof(*c.used));
	c.s = s;
	for (size_t i = 0; s && i < j->n; i++)
		s[i] = j->v[i].s;
	ret = s && c.used ? ks_meta_compact(v->meta, &c) : -ENOMEM;
	r->before = c.before;
	r->after = c.after;
	r->bytes = 0;
	for (size_t i = 0; s && c.used && i < j->n; i++) {
		bool sure = ret == 0 || ret == -ENOENT || ret == -EBADMSG;

		r->bytes += c.used[i] ? s[i].len : 0;
		ks_data_rewritten_end(v->data, &j->v[i], sure && !c.used[i]);
	}
	j->n = 0;
	free(s);
	free(c.used);
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
		copied = copied || jobs[i]->n;
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
	done(&v->compactor, h,
	     j && r == 0 ? res.after : ks_max(res.before, (uint32_t)KS_COMPACT_ROWS));
	if (r == 0 && j) {
		__atomic_add_fetch(&v->compactor.chunks, 1, __ATOMIC_RELAXED);
		__atomic_add_fetch(&v->compactor.bytes, res.bytes, __ATOMIC_RELAXED);
		ks_log(KS_LOG_DEBUG, "compacted chunk %ju of inode %ju: %u extents, were %u",
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
