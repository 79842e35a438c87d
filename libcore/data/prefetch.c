/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prefetch.c: sequential readers are recognised, and what they will want is loaded by the download threads.
 *
 * A stream that starts at 0, or goes on where it was, gets a window that doubles from 256 KiB to readahead_bytes. Requests of one stream may
 * arrive a little out of order (the kernel sends several at a time): near the expected place is as good as at it. A window is asked for when the reader has come within half
 * of its end. A job holds a reference to the chunk's map and nothing of the file.
 */
#include "data/data_internal.h"

#define WINDOW_MIN (256u * 1024)
#define NEAR (512 * KS_KIB)
#define PIECE (4 * KS_MIB)

struct ahead {
	struct ks_job job;
	struct ks_data *d;
	struct cmap *map;
	uint32_t at; /* within the chunk */
	uint32_t to;
};

static bool goes_on(const struct ks_stream *st, uint64_t off, size_t n)
{
	uint64_t slack = ks_max(NEAR, (uint64_t)st->window / 2);

	if (st->runs == 0)
		return off == 0;
	return off + n + slack > st->next && off <= st->next + slack;
}

void ks_stream_step(struct ks_file *f, struct ks_stream *st, uint64_t off, size_t n,
		    struct ks_ahead_plan *plan, bool *seq)
{
	const struct ks_data_opts *o = &f->d->o;
	bool exact = st->runs && off == st->next;
	uint64_t to;

	*seq = goes_on(st, off, n);
	if (!*seq) {
		*st = (struct ks_stream){ .next = off + n, .runs = 1 };
		return;
	}
	st->next = ks_max(st->next, off + n);
	st->runs += st->runs < UINT32_MAX;
	/* Near is enough to go on, not to begin. */
	if (o->readahead_bytes < WINDOW_MIN || (st->window == 0 && off != 0 && !exact))
		return;
	if (st->window == 0)
		st->window = WINDOW_MIN;
	st->ahead = ks_max(st->ahead, st->next);
	if (st->ahead - st->next > st->window / 2 || st->ahead >= f->size)
		return;
	if (ks_pcache_ahead_now(f->d->cache) * KS_PAGE_SIZE > o->buffer_bytes / 4)
		return;
	to = st->next + st->window;
	/* Large windows end at a block's end, so that blocks are read whole. */
	if (st->window >= 2 * PIECE)
		to = ks_round_down(to + PIECE / 2, PIECE);
	to = ks_min(to, f->size);
	if (to > st->ahead) {
		plan->from = st->ahead;
		plan->to = to;
		st->ahead = to;
	}
	st->window = (uint32_t)ks_min((uint64_t)st->window * 2, o->readahead_bytes);
}

static bool is_stopping(struct ks_data *d)
{
	KS_LOCKED(&d->mu);
	return d->stopping;
}

static void ahead_run(struct ks_job *job)
{
	struct ahead *a = ks_container_of(job, struct ahead, job);
	const struct ks_chunk_map *m = a->map->m;

	for (uint32_t i = ks_chunk_map_find(m, a->at);
	     i < m->n && m->e[i].pos < a->to && !is_stopping(a->d); i++) {
		const struct ks_extent *e = &m->e[i];
		uint32_t at = ks_max(e->pos, a->at);
		uint32_t end = ks_min(e->pos + e->len, a->to);

		while (at < end) {
			uint32_t off = e->off + (at - e->pos);
			struct ks_src src;
			uint32_t n;

			ks_src_of_extent(&src, e, off);
			off -= src.first * (uint32_t)KS_PAGE_SIZE;
			n = ks_min(end - at, src.size - off);
			ks_src_ahead(a->d, &src, off, n);
			at += n;
		}
	}
	ks_cmap_put(a->map);
	free(a);
}

/* Is there anything in [at, to) of the map? */
static bool has_data(const struct cmap *map, uint32_t at, uint32_t to)
{
	uint32_t i = ks_chunk_map_find(map->m, at);

	return i < map->m->n && map->m->e[i].pos < to;
}

static void issue(struct ks_data *d, struct cmap *map, uint32_t at, uint32_t to)
{
	struct ks_workers *w = ks_data_downloaders(d);
	struct ahead *a = w && has_data(map, at, to) ? malloc(sizeof(*a)) : NULL;

	if (!a)
		return;
	*a = (struct ahead){
		.job.run = ahead_run, .d = d, .map = ks_cmap_ref(map), .at = at, .to = to
	};
	ks_workers_add(w, &a->job);
}

void ks_prefetch(struct ks_file *f, const struct ks_ahead_plan *plan)
{
	uint64_t at = plan->from;

	while (at < plan->to) {
		uint64_t chunk = at / KS_CHUNK_SIZE;
		uint64_t end = ks_min(plan->to, (chunk + 1) * KS_CHUNK_SIZE);
		struct cmap *map = NULL;
		int r;

		ks_mutex_lock(&f->mu);
		r = ks_fmap_get(f, chunk, &map);
		ks_mutex_unlock(&f->mu);
		if (r < 0)
			return; /* the reader will meet it itself */
		while (at < end) {
			uint64_t to = ks_min(end, ks_round_down(at, PIECE) + PIECE);

			if (map)
				issue(f->d, map, (uint32_t)(at % KS_CHUNK_SIZE),
				      (uint32_t)(at % KS_CHUNK_SIZE + (to - at)));
			at = to;
		}
		ks_cmap_put(map);
	}
}
