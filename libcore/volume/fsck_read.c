/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_read.c: reads blocks and packed slices and compares them with their checksums, several at a time. The calling thread walks the tables and
 * hands out work; a worker has a buffer of its own, so that memory is jobs times one megabyte.
 */
#include "volume/fsck_internal.h"

#include "base/hash.h"
#include "base/thread.h"

#define JOBS_DEFAULT 4u
#define JOBS_MAX 64u

struct reader;

struct worker {
	struct reader *r;
	pthread_t thread;
	struct ks_fsck_bytes buf;
	struct ks_fsck_block b; /* [mu] until busy, then the worker's */
	uint64_t base;          /* of the block in its slice */
	bool busy;              /* [mu] */
};

struct reader {
	struct ks_fsck *f;
	pthread_mutex_t mu;
	pthread_cond_t work, idle;
	bool stop; /* [mu] */
	int err;   /* [mu] the first failure */
	struct worker *w;
	unsigned int n;
	uint64_t bytes, blocks; /* [mu] read so far */
	struct ks_sort *mend;   /* [mu] */
	uint64_t salt;
	double share;
};

/* ---- workers ---- */

/* Looks again at what is wrong: a block that was freed meanwhile is no loss, and a transient mistake no damage. */
static int look(struct reader *rd, struct worker *w, enum ks_bad *kind, uint32_t *from,
		uint32_t *to)
{
	struct ks_object *store = rd->f->m->store;
	struct ks_arena a = { 0 };
	struct ks_rec_slice s = { .id = w->b.slice };
	struct ks_read get = { .table = KS_T_SLICE, .rec = &s };
	int r = ks_fsck_verify(store, &w->b, w->buf, kind, from, to);

	if (r > 0)
		r = ks_fsck_verify(store, &w->b, w->buf, kind, from, to);
	if (r <= 0)
		return r;
	r = ks_engine_read(rd->f->e, &get, 1, &a);
	ks_arena_clear(&a);
	/* Compaction may have moved it to another pack. */
	return r < 0 ? r : get.found && s.pack == w->b.pack && s.pack_off == w->b.pack_off;
}

/* Needs rd->mu. */
static int report(struct reader *rd, const struct worker *w, enum ks_bad kind, uint32_t from,
		  uint32_t to)
{
	/* What is missing or short the listing has shown. */
	if (kind == KS_BAD_MISSING || kind == KS_BAD_SHORT)
		return 0;
	if (kind == KS_BAD_TRAILER) {
		const uint64_t rec[MEND_WORDS] = { w->b.slice, w->b.idx, w->b.size, w->b.pack,
						   w->b.pack_off };

		return ks_sort_add(rd->mend, rec);
	}
	return ks_fsck_bad(rd->f, w->b.slice, w->base + from, w->base + to, kind, w->b.idx);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct reader *rd = w->r;

	ks_mutex_lock(&rd->mu);
	for (;;) {
		enum ks_bad kind = KS_BAD_DAMAGED;
		uint32_t from = 0, to = 0;
		int r;

		while (!w->busy && !rd->stop)
			ks_cond_wait(&rd->work, &rd->mu, -1);
		if (!w->busy)
			break;
		ks_mutex_unlock(&rd->mu);
		r = look(rd, w, &kind, &from, &to);
		ks_mutex_lock(&rd->mu);
		if (r > 0)
			r = report(rd, w, kind, from, to);
		rd->err = rd->err ? rd->err : r;
		rd->bytes += w->b.size;
		rd->blocks++;
		w->busy = false;
		pthread_cond_signal(&rd->idle);
	}
	ks_mutex_unlock(&rd->mu);
	return NULL;
}

/* ---- handing out ---- */

static bool chosen(const struct reader *rd, uint64_t slice, uint32_t idx)
{
	const struct ks_fsck_sample *s = &rd->f->o->sample;

	if (s->of)
		return slice % s->of == s->part - 1;
	if (rd->share >= 1)
		return true;
	return (double)(ks_mix64(rd->salt ^ ks_mix64(slice) ^ idx) >> 11) * 0x1p-53 < rd->share;
}

static int hand_out(struct reader *rd, const struct ks_fsck_block *b, uint64_t base)
{
	struct worker *w = NULL;
	KS_LOCKED(&rd->mu);

	while (!rd->err && !w) {
		for (unsigned int i = 0; i < rd->n && !w; i++) {
			if (!rd->w[i].busy)
				w = &rd->w[i];
		}
		if (!w)
			ks_cond_wait(&rd->idle, &rd->mu, -1);
	}
	if (rd->err)
		return rd->err;
	w->b = *b;
	w->base = base;
	w->busy = true;
	pthread_cond_broadcast(&rd->work);
	return 0;
}

static int offer(struct reader *rd, const struct ks_rec_slice *s, uint32_t idx, uint32_t size,
		 struct ks_bytes sums)
{
	struct ks_fsck_block b = {
		.slice = s->id, .pack = s->pack, .pack_off = s->pack_off, .idx = idx, .size = size
	};

	/* Records that make no sense pass 2 has reported. */
	if (!size || sums.n != (size_t)ks_pages_of(size) * 4 || sums.n > sizeof(b.sums) ||
	    !chosen(rd, s->id, idx))
		return 0;
	ks_fsck_get_sums(b.sums, sums);
	return hand_out(rd, &b, (uint64_t)idx * s->block_size);
}

static int walk(struct reader *rd)
{
	struct ks_fsck *f = rd->f;
	struct ks_walk slices, blocks;
	int r = 0;

	ks_walk_begin(&slices, f->e, KS_T_SLICE);
	ks_walk_begin(&blocks, f->e, KS_T_BLOCK);
	while (r == 0 && (r = ks_walk_next(&slices)) == 0 && slices.rec) {
		const struct ks_rec_slice *s = slices.rec;

		if (s->len == 0 || s->len > KS_CHUNK_SIZE)
			continue;
		if (s->pack) {
			r = offer(rd, s, 0, s->len, s->sums);
			if (r == 0)
				r = ks_fsck_step(f);
			continue;
		}
		r = ks_walk_to(&blocks, s->id);
		while (r == 0 && ks_walk_key(&blocks) == s->id) {
			const struct ks_rec_block *b = blocks.rec;

			if (b->size <= KS_BLOCK_MAX && b->idx < KS_CHUNK_SIZE / KS_BLOCK_MIN)
				r = offer(rd, s, b->idx, b->size, b->sums);
			if (r == 0)
				r = ks_fsck_step(f);
			if (r == 0)
				r = ks_walk_next(&blocks);
		}
	}
	ks_walk_end(&slices);
	ks_walk_end(&blocks);
	return r;
}

static int start(struct reader *rd, unsigned int jobs)
{
	int r = 0;

	rd->w = calloc(jobs, sizeof(*rd->w));
	if (!rd->w)
		return -ENOMEM;
	for (unsigned int i = 0; r == 0 && i < jobs; i++) {
		struct worker *w = &rd->w[i];

		w->r = rd;
		w->buf.n = KS_FSCK_BUFFER;
		w->buf.p = aligned_alloc(4096, KS_FSCK_BUFFER);
		if (!w->buf.p)
			return -ENOMEM;
		r = ks_thread_start(&w->thread, "ks-fsck", work, w);
		if (r < 0)
			free(w->buf.p);
		else
			rd->n++;
	}
	return r;
}

static void stop(struct reader *rd)
{
	ks_mutex_lock(&rd->mu);
	rd->stop = true;
	pthread_cond_broadcast(&rd->work);
	ks_mutex_unlock(&rd->mu);
	for (unsigned int i = 0; i < rd->n; i++) {
		pthread_join(rd->w[i].thread, NULL);
		free(rd->w[i].buf.p);
	}
	free(rd->w);
}

static double share_of(const struct ks_fsck *f)
{
	const struct ks_fsck_sample *s = &f->o->sample;

	if (s->share > 0)
		return s->share;
	if (s->bytes && f->data_bytes > s->bytes)
		return (double)s->bytes / (double)f->data_bytes;
	return 1;
}

int ks_fsck_read(struct ks_fsck *f)
{
	struct reader rd = { .f = f, .share = share_of(f) };
	unsigned int jobs = f->o->jobs ? ks_min(f->o->jobs, JOBS_MAX) : JOBS_DEFAULT;
	int r = ks_random(&rd.salt, sizeof(rd.salt));

	if (r < 0)
		return r;
	pthread_mutex_init(&rd.mu, NULL);
	r = ks_cond_init(&rd.work);
	if (r == 0) {
		r = ks_cond_init(&rd.idle);
		if (r < 0)
			pthread_cond_destroy(&rd.work);
	}
	if (r < 0) {
		pthread_mutex_destroy(&rd.mu);
		return r;
	}
	r = ks_fsck_sort(f, &rd.mend, MEND_WORDS);
	if (r == 0)
		r = start(&rd, jobs);
	if (r == 0)
		r = walk(&rd);
	stop(&rd);
	r = r ? r : rd.err;
	if (r == 0)
		r = ks_sort_finish(rd.mend);
	if (r == 0)
		r = ks_fsck_mend(f, rd.mend);
	ks_sort_free(rd.mend);
	f->out.read_bytes = rd.bytes;
	f->out.read_blocks = rd.blocks;
	pthread_mutex_destroy(&rd.mu);
	pthread_cond_destroy(&rd.work);
	pthread_cond_destroy(&rd.idle);
	return r;
}
