/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_extent.c: what commit, truncate, fallocate, copy and deletion share: extents read with their slices, holes cut into them, and the
 * references to slices summed up.
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <stdlib.h>

/* ---- reading ---- */

static int rows_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct ks_rows *rows = arg;
	const struct ks_rec_extent *e = rec;

	(void)node;
	if (e->chunk < rows->min_chunk || e->chunk > rows->max_chunk)
		return 1;
	if (rows->beyond && rows->beyond->size <= rows->beyond_at)
		return 1;
	if ((rows->limit && rows->n == rows->limit) || (rows->budget && !*rows->budget)) {
		rows->cut_short = true;
		return 1;
	}
	if (rows->budget)
		--*rows->budget;
	if (ks_arena_room(rows->a, &rows->v, rows->n, &rows->cap) < 0)
		return -ENOMEM;
	rows->v[rows->n] = (struct ks_row){ .e = *e };
	if (e->slice)
		rows->v[rows->n].s = rows->slice;
	rows->n++;
	return 0;
}

struct ks_scan ks_rows_scan(struct ks_rows *rows, struct ks_arena *a, uint64_t ino,
			    uint64_t min_chunk, uint64_t max_chunk, bool reverse,
			    unsigned int flags)
{
	struct ks_scan s = { .table = KS_T_EXTENT,
			     .flags = flags | KS_READ_FOLLOW,
			     .slice = &rows->slice,
			     .from = &rows->from,
			     .nprefix = 1,
			     .reverse = reverse,
			     .limit = rows->limit ? rows->limit + 1 : 0,
			     .fn = rows_one,
			     .arg = rows };

	rows->a = a;
	rows->n = 0;
	rows->cut_short = false;
	rows->min_chunk = min_chunk;
	rows->max_chunk = max_chunk;
	rows->from = (struct ks_rec_extent){ .ino = ino };
	if (min_chunk == max_chunk) {
		rows->from.chunk = min_chunk;
		s.nprefix = 2;
	} else if (!reverse && min_chunk > 0) {
		rows->from.chunk = min_chunk - 1;
		s.nafter = 1;
	} else if (reverse && max_chunk < (uint64_t)INT64_MAX) {
		rows->from.chunk = max_chunk + 1;
		s.nafter = 1;
	}
	return s;
}

static int row_order(const void *a, const void *b)
{
	const struct ks_rec_extent *x = &((const struct ks_row *)a)->e;
	const struct ks_rec_extent *y = &((const struct ks_row *)b)->e;

	if (x->chunk != y->chunk)
		return x->chunk < y->chunk ? -1 : 1;
	return x->seq < y->seq ? -1 : x->seq > y->seq;
}

int ks_clear_read(struct ks_txn *t, struct ks_rows *rows, uint64_t *done_from)
{
	*done_from = 0;
	if (rows->n)
		qsort(rows->v, rows->n, sizeof(*rows->v), row_order);
	if (!rows->cut_short)
		return 0;

	uint64_t lowest = rows->v[0].e.chunk;
	uint32_t skip = 0;

	/* The scan came from the end: the lowest chunk may not be whole. */
	while (skip < rows->n && rows->v[skip].e.chunk == lowest)
		skip++;
	if (skip < rows->n) {
		rows->v += skip;
		rows->n -= skip;
		rows->cap -= skip;
		*done_from = rows->v[0].e.chunk * KS_CHUNK_SIZE;
		return 0;
	}
	/* One chunk with more pieces than a step should take: it is not to be had in parts. */
	rows->limit = 0;

	struct ks_scan s = ks_rows_scan(rows, rows->a, rows->from.ino, lowest, lowest, false, 0);
	int r = ks_txn_scan(t, &s);

	*done_from = lowest * KS_CHUNK_SIZE;
	return r;
}

int ks_rows_cover(const struct ks_row *v, size_t n, uint64_t *out)
{
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;
	struct ks_extent *e;
	size_t k = 0;
	int r;

	*out = 0;
	if (n == 0)
		return 0;
	if (n == 1) {
		*out = v[0].gone || !v[0].e.slice ? 0 : v[0].e.len;
		return 0;
	}
	e = calloc(n, sizeof(*e));
	if (!e)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (!v[i].gone)
			e[k++] = (struct ks_extent){ .pos = v[i].e.pos,
						     .len = v[i].e.len,
						     .slice = v[i].e.slice };
	}
	r = ks_chunk_map_build(e, k, &map);
	free(e);
	for (uint32_t i = 0; r == 0 && i < map->n; i++)
		*out += map->e[i].len;
	return r;
}

/* ---- references ---- */

int ks_refs_add(struct ks_refs *r, const struct ks_rec_slice *s, int64_t delta)
{
	if (!s->id)
		return 0;
	if (ks_arena_room(r->a, &r->v, r->n, &r->cap) < 0)
		return -ENOMEM;
	r->v[r->n++] = (struct ks_ref){ .s = *s, .delta = delta };
	return 0;
}

static int ref_order(const void *a, const void *b)
{
	const struct ks_ref *x = a;
	const struct ks_ref *y = b;

	return x->s.id < y->s.id ? -1 : x->s.id > y->s.id;
}

void ks_refs_apply(struct ks_txn *t, struct ks_refs *r, uint64_t epoch, int64_t now)
{
	if (r->n)
		qsort(r->v, r->n, sizeof(*r->v), ref_order);
	for (uint32_t i = 0, j; i < r->n; i = j) {
		const struct ks_rec_slice *s = &r->v[i].s;
		int64_t delta = 0;

		for (j = i; j < r->n && r->v[j].s.id == s->id; j++)
			delta += r->v[j].delta;
		if ((int64_t)s->refs + delta <= 0) {
			struct ks_rec_freed f = { .slice = s->id,
						  .time_ns = now,
						  .epoch = epoch,
						  .len = s->len,
						  .block_size = s->block_size,
						  .pack = s->pack };

			ks_txn_del(t, KS_T_SLICE, s);
			ks_txn_put(t, KS_T_FREED, &f);
		} else if (delta) {
			struct ks_upd u = KS_UPD_COL(slice, refs, KS_UPD_ADD, delta);

			ks_txn_update(t, KS_T_SLICE, s, &u, 1);
		}
	}
}

/* ---- holes ---- */

/* Takes [lo, hi) of the chunk away from one row. 1: it would fall in two. */
static int row_clear(struct ks_row *row, uint32_t lo, uint32_t hi)
{
	struct ks_rec_extent *e = &row->e;
	uint32_t end = e->pos + e->len;

	if (end <= lo || e->pos >= hi)
		return 0;
	if (e->pos >= lo && end <= hi) {
		row->gone = true;
		return 0;
	}
	if (e->pos < lo && end > hi)
		return e->slice != 0;
	row->cut = true;
	if (e->pos < lo) {
		e->len = lo - e->pos;
		return 0;
	}
	if (e->slice)
		e->off += hi - e->pos;
	e->len = end - hi;
	e->pos = hi;
	return 0;
}

static int chunk_clear(struct ks_txn *t, struct ks_clear *c, struct ks_row *v, size_t n,
		       uint32_t lo, uint32_t hi, struct ks_refs *refs)
{
	struct ks_row *copy = ks_arena_alloc(refs->a, (n + 1) * sizeof(*copy));
	uint64_t before, after;
	bool split = false;
	int r = copy ? ks_rows_cover(v, n, &before) : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < n; i++) {
		split = row_clear(&v[i], lo, hi) || split;
		copy[i] = v[i];
		if (v[i].gone) {
			ks_txn_del(t, KS_T_EXTENT, &v[i].e);
			r = ks_refs_add(refs, &v[i].s, -1);
		} else if (v[i].cut) {
			ks_txn_put(t, KS_T_EXTENT, &v[i].e);
		}
	}
	if (r < 0)
		return r;
	if (split) {
		struct ks_rec_extent hole = { .ino = c->ino,
					      .chunk = v[0].e.chunk,
					      .seq = c->seq++,
					      .pos = lo,
					      .len = hi - lo };

		ks_txn_insert(t, KS_T_EXTENT, &hole);
		copy[n++] = (struct ks_row){ .e = hole };
	}
	r = ks_rows_cover(copy, n, &after);
	if (r == 0)
		c->freed += before - after;
	return r;
}

int ks_rows_clear(struct ks_txn *t, struct ks_clear *c, struct ks_row *v, size_t n,
		  struct ks_refs *refs)
{
	int r = 0;

	for (size_t i = 0, j; r == 0 && i < n; i = j) {
		uint64_t base = v[i].e.chunk * KS_CHUNK_SIZE;
		uint64_t lo = c->off > base ? c->off - base : 0;
		uint64_t hi = ks_min(c->end - base, KS_CHUNK_SIZE);

		for (j = i; j < n && v[j].e.chunk == v[i].e.chunk; j++)
			;
		if (lo < hi && c->end > base)
			r = chunk_clear(t, c, &v[i], j - i, (uint32_t)lo, (uint32_t)hi, refs);
	}
	return r;
}
