/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.c: a read is served from a snapshot: the chunk's committed map and references to the dirty slices that lie over it, both taken at one
 * moment under the file's lock. Then the lock is gone, and writers, flushes and truncates go on as they like.
 */
#include "data/data_internal.h"

#define FEW 16
#define AGAIN 2 /* reads after one that failed */

struct overlay {
	uint32_t n;
	struct dirty_ext *v; /* referenced; in the order they were made */
	struct dirty_ext few[FEW];
};

struct job {
	struct ks_data *d;
	const struct cmap *map; /* NULL: no committed data */
	uint32_t from;          /* within the chunk; where dst begins */
	uint8_t *dst;
	bool seq;
};

static void overlay_clear(struct overlay *o)
{
	for (uint32_t i = 0; i < o->n; i++)
		ks_slice_put(o->v[i].s);
	if (o->v != o->few)
		free(o->v);
}

/* Needs f->mu. Dirty slices that touch [from, to). */
static int overlay_take(struct overlay *o, const struct fchunk *c, uint32_t from, uint32_t to)
{
	uint32_t cap = FEW;

	o->n = 0;
	o->v = o->few;
	for (uint32_t i = 0; c && i < c->n; i++) {
		const struct dirty_ext *x = &c->v[i];

		if (x->pos >= to || x->end <= from)
			continue;
		if (o->n == cap) {
			struct dirty_ext *v = malloc(2 * cap * sizeof(*v));

			if (!v) {
				overlay_clear(o);
				return -ENOMEM;
			}
			memcpy(v, o->v, o->n * sizeof(*v));
			if (o->v != o->few)
				free(o->v);
			o->v = v;
			cap *= 2;
		}
		o->v[o->n] = *x;
		ks_slice_ref(o->v[o->n++].s);
	}
	return 0;
}

/* Committed bytes [at, to) of the chunk. */
static int read_committed(const struct job *j, uint32_t at, uint32_t to)
{
	const struct ks_chunk_map *m = j->map ? j->map->m : NULL;
	uint32_t i = m ? ks_chunk_map_find(m, at) : 0;
	int r = 0;

	while (r == 0 && at < to) {
		const struct ks_extent *e = m && i < m->n ? &m->e[i] : NULL;
		uint32_t hole = e ? ks_min(e->pos > at ? e->pos : at, to) : to;
		struct ks_src src;
		uint32_t off;
		uint32_t n;

		memset(j->dst + (at - j->from), 0, hole - at);
		at = hole;
		if (at == to)
			break;
		off = e->off + (at - e->pos);
		ks_src_of_extent(&src, e, off);
		off -= src.first * (uint32_t)KS_PAGE_SIZE;
		n = ks_min(to, e->pos + e->len) - at;
		n = ks_min(n, src.size - off);
		r = ks_src_read(j->d, &src, off, n, j->dst + (at - j->from), j->seq);
		at += n;
		i += at == e->pos + e->len;
	}
	return r;
}

int ks_data_read_map(struct ks_data *d, const struct ks_chunk_map *map, uint32_t at, uint32_t n,
		     void *dst)
{
	union {
		const struct ks_chunk_map *c;
		struct ks_chunk_map *m;
	} borrowed = { map }; /* only read */
	struct cmap m = { .m = borrowed.m };
	struct job j = { .d = d, .map = &m, .from = at, .dst = dst, .seq = true };

	return read_committed(&j, at, at + n);
}

/* Bytes [at, to), all of them in slice @x. */
static int read_dirty(const struct job *j, const struct dirty_ext *x, uint32_t at, uint32_t to)
{
	return ks_slice_read(x->s, at - x->pos, j->dst + (at - j->from), to - at, j->seq);
}

/* More than one dirty slice: which is on top where, then as below. */
static int read_layers(const struct job *j, const struct overlay *o, uint32_t at, uint32_t to)
{
	struct ks_extent *l = calloc(o->n, sizeof(*l));
	struct ks_chunk_map *m = NULL;
	int r = l ? 0 : -ENOMEM;

	for (uint32_t i = 0; l && i < o->n; i++)
		l[i] = (struct ks_extent){ .pos = o->v[i].pos,
					   .len = o->v[i].end - o->v[i].pos,
					   .slice = i + 1,
					   .slice_len = o->v[i].end - o->v[i].pos };
	if (r == 0)
		r = ks_chunk_map_build(l, o->n, &m);
	free(l);
	if (r < 0)
		return r;
	for (uint32_t i = ks_chunk_map_find(m, at); r == 0 && i < m->n && m->e[i].pos < to; i++) {
		const struct ks_extent *e = &m->e[i];
		uint32_t from = ks_max(e->pos, at);
		uint32_t end = ks_min(e->pos + e->len, to);

		if (at < from)
			r = read_committed(j, at, from);
		if (r == 0)
			r = read_dirty(j, &o->v[e->slice - 1], from, end);
		at = end;
	}
	ks_chunk_map_free(m);
	if (r == 0 && at < to)
		r = read_committed(j, at, to);
	return r;
}

static int read_snapshot(const struct job *j, const struct overlay *o, uint32_t at, uint32_t to)
{
	uint32_t from;
	uint32_t end;
	int r = 0;

	if (o->n == 0)
		return read_committed(j, at, to);
	if (o->n > 1)
		return read_layers(j, o, at, to);
	from = ks_max(o->v[0].pos, at);
	end = ks_min(o->v[0].end, to);
	if (at < from)
		r = read_committed(j, at, from);
	if (r == 0)
		r = read_dirty(j, &o->v[0], from, end);
	if (r == 0 && end < to)
		r = read_committed(j, end, to);
	return r;
}

/* Bytes [at, at + n) of a chunk, as one snapshot of it says. */
static int read_once(struct ks_file *f, uint64_t chunk, uint32_t at, uint32_t n, uint8_t *dst,
		     bool seq)
{
	struct job j = { .d = f->d, .from = at, .dst = dst, .seq = seq };
	struct overlay o;
	struct cmap *map = NULL;
	int r;

	ks_mutex_lock(&f->mu);
	r = ks_fmap_get(f, chunk, &map);
	if (r == 0)
		r = overlay_take(&o, ks_fchunk_get(f, chunk, false), at, at + n);
	ks_mutex_unlock(&f->mu);
	if (r == 0) {
		j.map = map;
		r = read_snapshot(&j, &o, at, at + n);
		overlay_clear(&o);
	}
	ks_cmap_put(map);
	return r;
}

/*
 * What a map named when it was read may since have been replaced by another process and deleted, or moved to another pack. Then a newer map names what there is
 * now; if that fails too, the data is damaged. Twice: the second map may have been on its way to another reader since before the change.
 */
static int read_chunk(struct ks_file *f, uint64_t chunk, uint32_t at, uint32_t n, uint8_t *dst,
		      bool seq)
{
	bool quiet = ks_fail_quiet(true);
	int r;

	ks_fail_clear();
	r = read_once(f, chunk, at, n, dst, seq);
	if (r < 0 && !quiet && *ks_fail_text())
		ks_log(r == -EIO ? KS_LOG_INFO : KS_LOG_ERROR, "%s", ks_fail_text());
	for (int i = 0; r == -EIO && i < AGAIN; i++) {
		ks_fail_quiet(quiet || i + 1 < AGAIN);
		ks_file_forget_maps(f);
		r = read_once(f, chunk, at, n, dst, seq);
	}
	ks_fail_quiet(quiet);
	return r;
}

ssize_t ks_file_read(struct ks_file *f, struct ks_stream *st, uint64_t off, void *p, size_t n)
{
	struct ks_ahead_plan plan = { 0 };
	uint8_t *dst = p;
	bool seq = false;
	size_t done = 0;

	ks_mutex_lock(&f->mu);
	n = off < f->size ? (size_t)ks_min((uint64_t)n, f->size - off) : 0;
	if (n && st)
		ks_stream_step(f, st, off, n, &plan, &seq);
	ks_mutex_unlock(&f->mu);
	if (plan.to > plan.from)
		ks_prefetch(f, &plan);
	while (done < n) {
		uint64_t chunk = (off + done) / KS_CHUNK_SIZE;
		uint32_t at = (uint32_t)((off + done) % KS_CHUNK_SIZE);
		uint32_t m = (uint32_t)ks_min((uint64_t)(n - done), KS_CHUNK_SIZE - at);
		int r = read_chunk(f, chunk, at, m, dst + done, seq);

		if (r < 0)
			return r;
		done += m;
	}
	return (ssize_t)done;
}
