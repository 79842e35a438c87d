/* SPDX-License-Identifier: Apache-2.0 */
/* seek.c: SEEK_DATA and SEEK_HOLE over what is committed and what is dirty. Not one snapshot: a file that is written meanwhile may be seen in part before, in part after. */
#include "data/data_internal.h"

/* Needs f->mu. Data: the first dirty byte at or after @off; hole: the first that is not dirty. UINT64_MAX: none. */
static uint64_t dirty_next(struct ks_file *f, uint64_t off, bool hole)
{
	uint64_t best = UINT64_MAX;
	bool again = hole;
	struct slice *s;

	if (!hole) {
		ks_list_foreach (s, &f->slices, struct slice, link) {
			uint64_t start = s->chunk * KS_CHUNK_SIZE + s->pos;

			if (s->len && start + s->len > off) {
				start = ks_max(start, off);
				best = ks_min(best, start);
			}
		}
		return best;
	}
	while (again) {
		again = false;
		ks_list_foreach (s, &f->slices, struct slice, link) {
			uint64_t start = s->chunk * KS_CHUNK_SIZE + s->pos;

			if (start <= off && off < start + s->len) {
				off = start + s->len;
				again = true;
			}
		}
	}
	return off;
}

/* The same in one chunk's map; @at within the chunk. KS_CHUNK_SIZE: none in this chunk. */
static uint32_t map_next(const struct cmap *map, uint32_t at, bool hole)
{
	const struct ks_chunk_map *m = map ? map->m : NULL;
	uint32_t i = m ? ks_chunk_map_find(m, at) : 0;

	if (!hole)
		return m && i < m->n ? ks_max(at, m->e[i].pos) : (uint32_t)KS_CHUNK_SIZE;
	while (m && i < m->n && m->e[i].pos <= at) {
		at = m->e[i].pos + m->e[i].len;
		i++;
	}
	return at;
}

/* Among committed bytes. *out UINT64_MAX: no data. A hole is always found, at the end at the latest. */
static int committed_next(struct ks_file *f, uint64_t off, uint64_t size, bool hole, uint64_t *out)
{
	const struct ks_data_host *h = &f->d->o.host;
	int r = 0;

	if (h->seek) {
		r = h->seek(h->arg, f->ino, off, hole, out);
		if (r == -ENXIO) {
			*out = hole ? off : UINT64_MAX;
			r = 0;
		}
		return r;
	}
	for (uint64_t chunk = off / KS_CHUNK_SIZE; chunk * KS_CHUNK_SIZE < size; chunk++) {
		uint32_t at = chunk == off / KS_CHUNK_SIZE ? (uint32_t)(off % KS_CHUNK_SIZE) : 0;
		struct cmap *map = NULL;
		uint32_t found;

		ks_mutex_lock(&f->mu);
		r = ks_fmap_get(f, chunk, &map);
		ks_mutex_unlock(&f->mu);
		if (r < 0)
			return r;
		found = map_next(map, at, hole);
		ks_cmap_put(map);
		if (found < KS_CHUNK_SIZE) {
			*out = chunk * KS_CHUNK_SIZE + found;
			return 0;
		}
	}
	*out = hole ? size : UINT64_MAX;
	return 0;
}

static int seek_hole(struct ks_file *f, uint64_t off, uint64_t size, uint64_t *out)
{
	for (;;) {
		uint64_t c;
		uint64_t past;
		int r = committed_next(f, off, size, true, &c);

		if (r < 0)
			return r;
		ks_mutex_lock(&f->mu);
		past = dirty_next(f, c, true);
		ks_mutex_unlock(&f->mu);
		if (past == c || past >= size) {
			*out = ks_min(past, size);
			return 0;
		}
		off = past;
	}
}

int ks_file_seek(struct ks_file *f, uint64_t off, bool hole, uint64_t *out)
{
	uint64_t size;
	uint64_t dirty;
	uint64_t c = 0;
	int r;

	ks_mutex_lock(&f->mu);
	size = f->size;
	dirty = dirty_next(f, off, false);
	ks_mutex_unlock(&f->mu);
	if (off >= size)
		return -ENXIO;
	if (hole)
		return seek_hole(f, off, size, out);
	r = committed_next(f, off, size, false, &c);
	if (r < 0)
		return r;
	c = ks_min(c, dirty);
	if (c >= size)
		return -ENXIO;
	*out = c;
	return 0;
}
