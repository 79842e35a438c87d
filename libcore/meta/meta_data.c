/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_data.c: a file's content as metadata sees it: the map of a chunk, block checksums, where data and holes are.
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <stdlib.h>

static uint32_t le32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* ---- map ---- */

struct layers {
	struct ks_arena *a;
	struct ks_rec_slice slice;
	struct ks_extent *v; /* arena */
	size_t n, cap;
	uint64_t damaged; /* a slice that is missing or whose record is wrong */
};

int ks_slice_sums(struct ks_arena *a, const struct ks_rec_slice *s, uint32_t **out)
{
	uint32_t pages = ks_pages_of(s->len);
	const unsigned char *p = s->sums.p;

	*out = NULL;
	if (!s->pack)
		return 0;
	if (s->sums.n != (size_t)pages * 4)
		return -EBADMSG;
	*out = ks_arena_alloc(a, (size_t)pages * sizeof(uint32_t));
	if (!*out)
		return -ENOMEM;
	for (uint32_t i = 0; i < pages; i++)
		(*out)[i] = le32(p + (size_t)i * 4);
	return 0;
}

static int layer_sums(struct layers *l, struct ks_extent *e)
{
	int r = ks_slice_sums(l->a, &l->slice, &e->sums);

	if (r == -EBADMSG)
		l->damaged = e->slice;
	return r == -EBADMSG ? 1 : r;
}

static int layer_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_extent *x = rec;
	struct layers *l = arg;
	struct ks_extent *e;

	(void)node;
	if (ks_arena_room(l->a, &l->v, l->n, &l->cap) < 0)
		return -ENOMEM;
	e = &l->v[l->n++];
	*e = (struct ks_extent){ .pos = x->pos, .len = x->len, .slice = x->slice, .off = x->off };
	if (!x->slice)
		return 0;
	if (l->slice.id != x->slice || x->len > l->slice.len || x->off > l->slice.len - x->len) {
		l->damaged = x->slice;
		return 1;
	}
	e->slice_len = l->slice.len;
	e->block_size = l->slice.block_size;
	e->pack = l->slice.pack;
	e->pack_off = l->slice.pack_off;
	return layer_sums(l, e);
}

int ks_meta_map(struct ks_meta *m, ks_ino_t ino, uint64_t chunk, struct ks_chunk_map **out)
{
	struct ks_arena a = { 0 };
	struct layers l = { .a = &a };
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, ino, 0);
	struct ks_rec_extent from = { .ino = ino, .chunk = chunk };
	struct ks_scan s = { .table = KS_T_EXTENT,
			     .flags = KS_READ_FOLLOW,
			     .slice = &l.slice,
			     .from = &from,
			     .nprefix = 2,
			     .fn = layer_one,
			     .arg = &l };
	struct ks_chunk_map *map = NULL;
	int r = ks_engine_fetch(m->e, &rd, 1, &s, 1, &a);

	if (r == 0 && !rd.found)
		r = -ENOENT;
	if (r == 0 && l.damaged)
		r = ks_fail_hint(
			-EBADMSG, "run kiseki-fsck",
			"chunk %ju of inode %ju refers to slice %ju, which is missing or damaged",
			(uintmax_t)chunk, (uintmax_t)ino, (uintmax_t)l.damaged);
	if (r == 0)
		r = ks_chunk_map_build(l.v, l.n, &map);
	if (r == 0) {
		map->change = n.change;
		*out = map;
	}
	ks_arena_clear(&a);
	return r;
}

/* ---- small files, many at once ---- */

struct one_slice {
	struct ks_whole *w;
	struct ks_rec_inode node;
	struct ks_rec_extent from;
	struct ks_rec_slice slice;
	uint32_t n; /* extents */
};

static int whole_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_extent *x = rec;
	struct one_slice *o = arg;
	const struct ks_rec_slice *s = &o->slice;
	uint32_t pages = ks_pages_of(s->len);
	const unsigned char *p = s->sums.p;

	(void)node;
	o->w->pack = 0;
	if (o->n++ || x->chunk || x->pos || x->off || !s->pack || s->id != x->slice ||
	    x->len != s->len || pages > KS_WHOLE_PAGES || s->sums.n != (size_t)pages * 4)
		return 1;
	o->w->slice = s->id;
	o->w->pack = s->pack;
	o->w->off = s->pack_off;
	for (uint32_t i = 0; i < pages; i++)
		o->w->sums[i] = le32(p + (size_t)i * 4);
	return 0;
}

/* Judged behind the scan: the slice it saw last is still there. */
static void whole_end(struct one_slice *o, bool found)
{
	if (found && S_ISREG(o->node.mode) && o->n == 1 && o->w->pack &&
	    o->node.size == o->slice.len)
		o->w->attr = o->node;
}

int ks_meta_whole(struct ks_meta *m, struct ks_whole *v, size_t n)
{
	struct ks_arena a = { 0 };
	struct one_slice *o = calloc(n + 1, sizeof(*o));
	struct ks_read *rd = calloc(n + 1, sizeof(*rd));
	struct ks_scan *s = calloc(n + 1, sizeof(*s));
	int r = n > KS_WHOLE_MAX ? -EINVAL : o && rd && s ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++) {
		v[i] = (struct ks_whole){ .ino = v[i].ino };
		o[i].w = &v[i];
		o[i].from.ino = v[i].ino;
		rd[i] = ks_read_inode(&o[i].node, v[i].ino, 0);
		s[i] = (struct ks_scan){ .table = KS_T_EXTENT,
					 .flags = KS_READ_FOLLOW,
					 .slice = &o[i].slice,
					 .from = &o[i].from,
					 .nprefix = 1,
					 .limit = 2,
					 .fn = whole_one,
					 .arg = &o[i] };
	}
	if (r == 0)
		r = ks_engine_fetch(m->e, rd, n, s, n, &a);
	for (size_t i = 0; r == 0 && i < n; i++)
		whole_end(&o[i], rd[i].found);
	ks_arena_clear(&a);
	free(o);
	free(rd);
	free(s);
	return r;
}

int ks_meta_block(struct ks_meta *m, uint64_t slice, uint32_t idx, struct ks_block_index *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_block b = { .slice = slice, .idx = idx };
	struct ks_read rd = { .table = KS_T_BLOCK, .rec = &b };
	int r = ks_engine_read(m->e, &rd, 1, &a);
	const unsigned char *p = b.sums.p;

	if (r == 0 && !rd.found)
		r = -ENOENT;
	if (r == 0 && (b.size > KS_BLOCK_MAX || b.sums.n != (size_t)ks_pages_of(b.size) * 4))
		r = ks_fail_hint(-EBADMSG, "run kiseki-fsck",
				 "the record of block %u of slice %ju is damaged", idx,
				 (uintmax_t)slice);
	if (r == 0) {
		out->size = b.size;
		out->npages = ks_pages_of(b.size);
		for (uint32_t i = 0; i < out->npages; i++)
			out->sums[i] = le32(p + (size_t)i * 4);
	}
	ks_arena_clear(&a);
	return r;
}

/* ---- SEEK_DATA, SEEK_HOLE ---- */

struct seek {
	bool hole;
	uint64_t chunk; /* of the layers collected */
	uint64_t at;    /* everything before this was judged */
	bool found;
	struct layers l;
	const struct ks_read *rd;
};

/* Judges the chunk that was collected: pieces, then the gap behind them. */
static int seek_chunk(struct seek *s)
{
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;
	uint64_t base = s->chunk * KS_CHUNK_SIZE;
	int r = ks_chunk_map_build(s->l.v, s->l.n, &map);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < map->n && !s->found; i++) {
		uint64_t start = base + map->e[i].pos;
		uint64_t end = start + map->e[i].len;

		if (end <= s->at)
			continue;
		if (s->hole && start > s->at) {
			s->found = true;
		} else if (!s->hole) {
			s->at = ks_max(s->at, start);
			s->found = true;
		} else {
			s->at = end;
		}
	}
	s->l.n = 0;
	return 0;
}

static int seek_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_extent *x = rec;
	struct seek *s = arg;
	struct ks_extent *e;

	(void)node;
	if (!s->rd->found)
		return 1;
	if (s->l.n && x->chunk != s->chunk) {
		int r = seek_chunk(s);

		if (r < 0 || s->found)
			return r < 0 ? r : 1;
	}
	/* A whole chunk without records is a hole. */
	if (s->hole && x->chunk * KS_CHUNK_SIZE > s->at)
		return 1;
	s->chunk = x->chunk;
	if (ks_arena_room(s->l.a, &s->l.v, s->l.n, &s->l.cap) < 0)
		return -ENOMEM;
	e = &s->l.v[s->l.n++];
	*e = (struct ks_extent){ .pos = x->pos, .len = x->len, .slice = x->slice, .off = x->off };
	return 0;
}

int ks_meta_seek(struct ks_meta *m, ks_ino_t ino, uint64_t off, bool hole, uint64_t *out)
{
	struct ks_arena a = { 0 }, pieces = { 0 };
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, ino, 0);
	struct seek s = { .hole = hole, .at = off, .l = { .a = &pieces }, .rd = &rd };
	uint64_t chunk = off / KS_CHUNK_SIZE;
	struct ks_rec_extent from = { .ino = ino, .chunk = chunk ? chunk - 1 : 0 };
	struct ks_scan sc = { .table = KS_T_EXTENT,
			      .from = &from,
			      .nprefix = 1,
			      .nafter = chunk ? 1 : 0,
			      .fn = seek_one,
			      .arg = &s };
	int r;

	if (off >= KS_FILE_MAX)
		return -ENXIO;
	r = ks_engine_fetch(m->e, &rd, 1, &sc, 1, &a);
	if (r == 0 && s.l.n && !s.found)
		r = seek_chunk(&s);
	ks_arena_clear(&a);
	ks_arena_clear(&pieces);
	if (r < 0)
		return r;
	if (!rd.found)
		return -ENOENT;
	if (off >= n.size || (!hole && (!s.found || s.at >= n.size)))
		return -ENXIO;
	/* The end of the file is a hole. */
	*out = ks_min(s.at, n.size);
	return 0;
}
