/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.c: the committed maps of a file's chunks.
 *
 * All cached maps of a file are right as of map_change, the inode's change counter. A commit of this file that moved the counter by
 * exactly one is added to them: its slices wait in fchunk.add until somebody reads. When the counter moved by more, somebody else changed the inode
 * too, and the maps are dropped. A map that the host returns is kept only when its counter fits.
 */
#include "base/array.h"
#include "data/data_internal.h"

#define ADD_MAX 8192u /* slices waiting to be merged; more: forget the map */
#define TRIES 1000
#define EXTENTS_MAX (1u << 20) /* of one file in memory; more: forget its maps */

struct cmap *ks_cmap_ref(struct cmap *m)
{
	ks_atomic_add(&m->refs, 1);
	return m;
}

void ks_cmap_put(struct cmap *m)
{
	if (!m || !ks_ref_put(&m->refs))
		return;
	ks_chunk_map_free(m->m);
	free(m);
}

static struct cmap *cmap_new(struct ks_chunk_map *map)
{
	struct cmap *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->refs = 1;
	m->m = map;
	return m;
}

/* Needs f->mu. */
static void forget_added(struct fchunk *c)
{
	for (uint32_t i = 0; i < c->nadd; i++)
		free(c->add[i].sums);
	c->nadd = 0;
}

/* Needs f->mu. */
static void forget_map(struct ks_file *f, struct fchunk *c)
{
	forget_added(c);
	if (c->map)
		f->extents -= c->map->m->n;
	ks_cmap_put(c->map);
	c->map = NULL;
}

void ks_fmap_drop_all(struct ks_file *f)
{
	for (struct ks_hnode *n = ks_hmap_next(&f->chunks, NULL); n;
	     n = ks_hmap_next(&f->chunks, n))
		forget_map(f, ks_container_of(n, struct fchunk, node));
}

/* Needs f->mu. @map is taken over, also on failure. */
static int install(struct ks_file *f, struct fchunk *c, struct ks_chunk_map *map)
{
	struct cmap *m = cmap_new(map);

	if (!m) {
		ks_chunk_map_free(map);
		return -ENOMEM;
	}
	if (f->extents + map->n > EXTENTS_MAX)
		ks_fmap_drop_all(f);
	forget_map(f, c);
	c->map = m;
	f->extents += map->n;
	return 0;
}

/* Needs f->mu. Lays what was committed since over the map. */
static int merge(struct ks_file *f, struct fchunk *c)
{
	const struct ks_chunk_map *old = c->map->m;
	size_t n = old->n + (size_t)c->nadd;
	struct ks_extent *layers = malloc(n * sizeof(*layers));
	struct ks_chunk_map *map = NULL;
	int r;

	if (!layers)
		return -ENOMEM;
	if (old->n)
		memcpy(layers, old->e, old->n * sizeof(*layers));
	memcpy(layers + old->n, c->add, c->nadd * sizeof(*layers));
	r = ks_chunk_map_build(layers, n, &map);
	free(layers);
	if (r < 0)
		return r;
	map->layers = old->layers + c->nadd;
	map->change = f->map_change;
	return install(f, c, map);
}

/* A piece that could not have been committed must not be computed with. */
static int check_map(const struct ks_file *f, uint64_t chunk, const struct ks_chunk_map *map)
{
	for (uint32_t i = 0; i < map->n; i++) {
		const struct ks_extent *e = &map->e[i];
		bool sane = e->len && e->slice_len <= KS_CHUNK_SIZE && e->off <= e->slice_len &&
			    e->len <= e->slice_len - e->off;

		if (!e->pack)
			sane = sane && e->block_size >= KS_BLOCK_MIN &&
			       e->block_size <= KS_BLOCK_MAX &&
			       (e->block_size & (e->block_size - 1)) == 0;
		if (!sane)
			return ks_fail(
				-EIO, "inode %ju chunk %ju: impossible piece at %u of slice %ju",
				(uintmax_t)f->ino, (uintmax_t)chunk, e->pos, (uintmax_t)e->slice);
	}
	return 0;
}

/* Needs f->mu. What to do with a map that the host gave: it is taken over. 0: *out; -EAGAIN: ask again. */
static int accept_map(struct ks_file *f, struct fchunk *c, struct ks_chunk_map *map,
		      struct cmap **out)
{
	int r;

	if (map->change < f->map_change) {
		ks_chunk_map_free(map);
		return -EAGAIN;
	}
	if (map->change > f->map_change && f->turn) {
		/* Perhaps our own commit, not heard of yet: right for this reader, whose dirty slices lie over it anyway. */
		*out = cmap_new(map);
		if (!*out)
			ks_chunk_map_free(map);
		return *out ? 0 : -ENOMEM;
	}
	if (map->change > f->map_change) {
		ks_fmap_drop_all(f);
		f->map_change = map->change;
		f->csize_known = false;
	}
	r = install(f, c, map);
	if (r == 0)
		*out = ks_cmap_ref(c->map);
	return r;
}

int ks_fmap_get(struct ks_file *f, uint64_t chunk, struct cmap **out)
{
	const struct ks_data_host *h = &f->d->o.host;

	for (int tries = 0; tries < TRIES; tries++) {
		struct fchunk *c = ks_fchunk_get(f, chunk, false);
		struct ks_chunk_map *map = NULL;
		int r;

		if (c && c->map) {
			r = c->nadd ? merge(f, c) : 0;
			if (r == 0)
				*out = ks_cmap_ref(c->map);
			return r;
		}
		if (f->csize_known && chunk * KS_CHUNK_SIZE >= f->csize) {
			*out = NULL;
			return 0;
		}
		if (!c)
			c = ks_fchunk_get(f, chunk, true);
		if (!c)
			return -ENOMEM;
		if (c->loading) {
			ks_file_wait(f);
			tries--;
			continue;
		}
		c->loading = true;
		ks_mutex_unlock(&f->mu);
		r = h->map(h->arg, f->ino, chunk, &map);
		ks_mutex_lock(&f->mu);
		c->loading = false;
		ks_file_wake(f);
		if (r == -ENOENT)
			return -ESTALE;
		if (r == 0) {
			r = check_map(f, chunk, map);
			if (r < 0)
				ks_chunk_map_free(map);
		}
		if (r == 0)
			r = accept_map(f, c, map, out);
		if (r != -EAGAIN)
			return r;
	}
	return ks_fail(-EIO,
		       "inode %ju chunk %ju: the metadata answers with a state from before the "
		       "last commit",
		       (uintmax_t)f->ino, (uintmax_t)chunk);
}

/* Needs f->mu. */
static void add_one(struct ks_file *f, struct fchunk *c, const struct slice *s)
{
	struct ks_extent e = { .pos = s->pos,
			       .len = s->len,
			       .slice = s->id,
			       .slice_len = s->len,
			       .block_size = f->d->o.block_size,
			       .pack = s->pack,
			       .pack_off = s->pack_off };

	bool room = c->nadd < ADD_MAX && ks_array_room(&c->add, c->nadd, &c->cap_add) == 0;

	if (s->pack) {
		size_t size = ks_pages_of(s->len) * sizeof(uint32_t);

		e.sums = malloc(size);
		if (e.sums)
			memcpy(e.sums, s->sums, size);
	}
	if (!room || (s->pack && !e.sums)) {
		free(e.sums);
		forget_map(f, c);
		return;
	}
	c->add[c->nadd++] = e;
}

void ks_fmap_commit(struct ks_file *f, struct slice *const *v, size_t n, uint64_t change)
{
	if (change != f->map_change + 1) {
		ks_fmap_drop_all(f);
		f->csize_known = false;
	}
	for (size_t i = 0; i < n; i++) {
		struct fchunk *c = ks_fchunk_get(f, v[i]->chunk, false);
		struct ks_chunk_map *map = NULL;

		if (!c->map && f->csize_known && v[i]->chunk * KS_CHUNK_SIZE >= f->csize &&
		    ks_chunk_map_build(NULL, 0, &map) == 0) {
			map->change = change;
			/* Without memory for it the map is asked for when needed. */
			KS_IGNORE(install(f, c, map));
		}
		if (c->map)
			add_one(f, c, v[i]);
	}
	f->map_change = change;
}
