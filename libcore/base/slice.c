/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.c: which slice is on top at every byte of a chunk.
 *
 * A sweep over the pieces' edges with a heap of the pieces that are open at the sweep's position,
 * the newest on top. A piece that has ended stays in the heap until it reaches the top; so each
 * piece enters and leaves once.
 */
#include "base/slice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct heap {
	uint32_t *v; /* indices of layers, the greatest on top */
	size_t n;
};

static void heap_push(struct heap *h, uint32_t x)
{
	size_t i = h->n++;

	while (i > 0 && h->v[(i - 1) / 2] < x) {
		h->v[i] = h->v[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->v[i] = x;
}

static void heap_pop(struct heap *h)
{
	uint32_t x = h->v[--h->n];
	size_t i = 0;

	for (;;) {
		size_t c = 2 * i + 1;

		if (c >= h->n)
			break;
		if (c + 1 < h->n && h->v[c + 1] > h->v[c])
			c++;
		if (h->v[c] <= x)
			break;
		h->v[i] = h->v[c];
		i = c;
	}
	h->v[i] = x;
}

struct start {
	uint32_t pos;
	uint32_t layer;
};

static int start_cmp(const void *a, const void *b)
{
	const struct start *x = a;
	const struct start *y = b;

	return x->pos < y->pos ? -1 : x->pos > y->pos;
}

static void emit(struct ks_chunk_map *m, const struct ks_extent *l, uint32_t from, uint32_t to)
{
	struct ks_extent *last = m->n ? &m->e[m->n - 1] : NULL;
	uint32_t off = l->off + (from - l->pos);

	if (l->slice == 0 || from >= to)
		return;
	if (last && last->slice == l->slice && last->pos + last->len == from &&
	    last->off + last->len == off) {
		last->len += to - from;
		return;
	}
	m->e[m->n] = *l;
	m->e[m->n].pos = from;
	m->e[m->n].len = to - from;
	m->e[m->n].off = off;
	m->n++;
}

static void sweep(struct ks_chunk_map *m, const struct ks_extent *l, const struct start *s,
		  size_t n, struct heap *h)
{
	uint32_t at = 0;
	size_t i = 0;

	while (i < n || h->n) {
		while (h->n && l[h->v[0]].pos + l[h->v[0]].len <= at)
			heap_pop(h);
		if (!h->n) {
			if (i == n)
				break;
			at = s[i].pos;
		}
		while (i < n && s[i].pos <= at)
			heap_push(h, s[i++].layer);
		/* A piece shorter than the one below it may have been pushed ended. */
		if (l[h->v[0]].pos + l[h->v[0]].len <= at)
			continue;

		const struct ks_extent *top = &l[h->v[0]];
		uint32_t end = top->pos + top->len;

		if (i < n && s[i].pos < end)
			end = s[i].pos;
		emit(m, top, at, end);
		at = end;
	}
}

/* Gives every packed piece its own copy of its slice's checksums, behind the map's pieces. */
static void copy_sums(struct ks_chunk_map *m, uint32_t *mem)
{
	for (uint32_t i = 0; i < m->n; i++) {
		uint32_t pages = ks_pages_of(m->e[i].slice_len);

		if (!m->e[i].sums)
			continue;
		memcpy(mem, m->e[i].sums, pages * sizeof(*mem));
		m->e[i].sums = mem;
		mem += pages;
	}
}

static size_t count_sums(const struct ks_chunk_map *m)
{
	size_t n = 0;

	for (uint32_t i = 0; i < m->n; i++)
		n += m->e[i].sums ? ks_pages_of(m->e[i].slice_len) : 0;
	return n;
}

int ks_chunk_map_build(const struct ks_extent *layers, size_t n, struct ks_chunk_map **out)
{
	/* Every edge of a piece starts at most one new piece of the result. */
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *m = calloc(1, sizeof(*m));
	struct start *s = malloc((n + 1) * sizeof(*s));
	struct heap h = { .v = malloc((n + 1) * sizeof(*h.v)) };
	int r = m && s && h.v ? 0 : -ENOMEM;

	if (r == 0) {
		m->layers = (uint32_t)n;
		m->e = malloc((2 * n + 1) * sizeof(*m->e));
		r = m->e ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (layers[i].pos > KS_CHUNK_SIZE || layers[i].len > KS_CHUNK_SIZE - layers[i].pos)
			r = -EBADMSG;
		s[i] = (struct start){ .pos = layers[i].pos, .layer = (uint32_t)i };
	}
	if (r == 0) {
		qsort(s, n, sizeof(*s), start_cmp);
		sweep(m, layers, s, n, &h);

		struct ks_extent *e =
			realloc(m->e, (m->n + 1) * sizeof(*e) + count_sums(m) * sizeof(uint32_t));

		if (e) {
			m->e = e;
			copy_sums(m, (uint32_t *)(void *)&e[m->n + 1]);
			*out = ks_steal(&m);
		} else {
			r = -ENOMEM;
		}
	}
	free(s);
	free(h.v);
	return r;
}

void ks_chunk_map_free(struct ks_chunk_map *map)
{
	if (!map)
		return;
	free(map->e);
	free(map);
}

void ks_chunk_map_freep(struct ks_chunk_map **map)
{
	ks_chunk_map_free(*map);
}

uint32_t ks_chunk_map_find(const struct ks_chunk_map *map, uint32_t pos)
{
	uint32_t lo = 0;
	uint32_t hi = map->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (map->e[mid].pos + map->e[mid].len <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}
