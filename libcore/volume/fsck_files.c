/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_files.c: from bytes of slices that cannot be had to the files that show them. A range that lies under newer data, or that no file uses any more, hurts
 * nobody. A damaged file is moved to /.lost+found as it is: what is whole can be read there, and the rest goes on failing.
 */
#include "base/array.h"
#include "volume/fsck_internal.h"

static const struct {
	const char *kind, *text;
} kinds[KS_BAD_COUNT] = {
	[KS_BAD_MISSING] = { "missing_block", "missing" },
	[KS_BAD_SHORT] = { "short_block", "of the wrong size" },
	[KS_BAD_DAMAGED] = { "damaged_block", "damaged" },
	[KS_BAD_SWAPPED] = { "swapped_block", "another block's" },
	[KS_BAD_RECORD] = { "missing_block_record", "without checksums in the metadata" },
	[KS_BAD_SLICE] = { "missing_slice_data", "of a slice that is lost" },
	[KS_BAD_UNREADABLE] = { "unreadable_block", "unreadable" },
};

struct bad {
	uint64_t from, to, kind, idx;
	bool used;
};

struct merge {
	struct ks_fsck *f;
	struct ks_sort_cur bad, uses;
	struct ks_sort *hurt;
	struct bad *v; /* of one slice */
	size_t n, cap;
	/* The chunk that was looked at last. */
	uint64_t ino, chunk, size;
	struct ks_chunk_map *map;
};

/* ---- what a file shows of a slice ---- */

struct layers {
	struct ks_extent *v;
	size_t n, cap;
};

static int layer_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_extent *x = rec;
	struct layers *l = arg;

	(void)inode;
	if (x->pos >= KS_CHUNK_SIZE || x->len > KS_CHUNK_SIZE - x->pos)
		return 0;
	if (ks_array_room(&l->v, l->n, &l->cap) < 0)
		return -ENOMEM;
	l->v[l->n++] = (struct ks_extent){
		.pos = x->pos, .len = x->len, .slice = x->slice, .off = x->off
	};
	return 0;
}

static int load_map(struct merge *m, uint64_t ino, uint64_t chunk)
{
	struct layers l = { 0 };
	struct ks_arena a = { 0 };
	struct ks_rec_inode n = { .ino = ino };
	struct ks_read rd = { .table = KS_T_INODE, .rec = &n };
	struct ks_rec_extent from = { .ino = ino, .chunk = chunk };
	struct ks_scan s = {
		.table = KS_T_EXTENT, .from = &from, .nprefix = 2, .fn = layer_one, .arg = &l
	};
	int r;

	if (m->map && m->ino == ino && m->chunk == chunk)
		return 0;
	ks_chunk_map_free(m->map);
	m->map = NULL;
	r = ks_engine_fetch(m->f->e, &rd, 1, &s, 1, &a);
	ks_arena_clear(&a);
	if (r == 0)
		r = ks_chunk_map_build(l.v, l.n, &m->map);
	free(l.v);
	m->ino = ino;
	m->chunk = chunk;
	/* A file without a name is on its way out. */
	m->size = rd.found && n.nlink ? n.size : 0;
	return r;
}

/* The part of @b that one visible piece of the file shows. */
static int show(struct merge *m, struct bad *b, const struct ks_extent *e, uint64_t slice)
{
	uint64_t lo = ks_max(b->from, (uint64_t)e->off);
	uint64_t hi = ks_min(b->to, (uint64_t)e->off + e->len);
	uint64_t at = m->chunk * KS_CHUNK_SIZE + e->pos;
	uint64_t rec[HURT_WORDS] = { m->ino, 0, 0, b->kind, slice, b->idx };

	if (e->slice != slice || lo >= hi)
		return 0;
	rec[HURT_OFF] = at + (lo - e->off);
	if (rec[HURT_OFF] >= m->size)
		return 0;
	rec[HURT_LEN] = ks_min(hi - lo, m->size - rec[HURT_OFF]);
	b->used = true;
	return ks_sort_add(m->hurt, rec);
}

static int one_use(struct merge *m, const uint64_t *u)
{
	uint64_t from = u[USE_OFF], to = from + (uint32_t)u[USE_PLACE];
	int r = 0;

	for (size_t i = 0; r == 0 && i < m->n; i++) {
		struct bad *b = &m->v[i];

		if (b->to <= from || b->from >= to)
			continue;
		/* The extent asks for what its slice never had: it may have been cut meanwhile. */
		if (b->kind == KS_BAD_SLICE) {
			uint64_t lo = ks_max(b->from, from);
			uint64_t rec[HURT_WORDS] = { u[USE_INO],
						     u[USE_CHUNK] * KS_CHUNK_SIZE +
							     (u[USE_PLACE] >> 32) + (lo - from),
						     ks_min(b->to, to) - lo,
						     b->kind,
						     u[USE_SLICE],
						     b->idx };

			b->used = true;
			r = ks_sort_add(m->hurt, rec);
			continue;
		}
		r = load_map(m, u[USE_INO], u[USE_CHUNK]);
		for (uint32_t k = 0; r == 0 && k < m->map->n; k++)
			r = show(m, b, &m->map->e[k], u[USE_SLICE]);
	}
	return r;
}

/* ---- slices ---- */

static int take_bad(struct merge *m, uint64_t slice)
{
	int r = 0;

	m->n = 0;
	while (r == 0 && m->bad.rec && m->bad.rec[BAD_SLICE] == slice) {
		const uint64_t *b = m->bad.rec;

		if (ks_array_room(&m->v, m->n, &m->cap) < 0)
			return -ENOMEM;
		/* Found in two ways, or by two of its users, it is one all the same. */
		if (m->n == 0 || m->v[m->n - 1].from != b[BAD_FROM] ||
		    m->v[m->n - 1].to != b[BAD_TO])
			m->v[m->n++] = (struct bad){ b[BAD_FROM], b[BAD_TO], b[BAD_KIND],
						     b[BAD_IDX], false };
		r = ks_sort_next(&m->bad);
	}
	return r;
}

static int walk_bad(struct merge *m)
{
	struct ks_fsck_result *out = &m->f->out;
	int r = ks_sort_next(&m->bad);

	if (r == 0)
		r = ks_sort_next(&m->uses);
	while (r == 0 && m->bad.rec) {
		uint64_t slice = m->bad.rec[BAD_SLICE];

		r = take_bad(m, slice);
		while (r == 0 && m->uses.rec && m->uses.rec[USE_SLICE] < slice)
			r = ks_sort_next(&m->uses);
		while (r == 0 && m->uses.rec && m->uses.rec[USE_SLICE] == slice) {
			r = one_use(m, m->uses.rec);
			if (r == 0)
				r = ks_sort_next(&m->uses);
		}
		for (size_t i = 0; i < m->n; i++) {
			out->hidden += !m->v[i].used;
			out->missing_blocks += m->v[i].used && m->v[i].kind == KS_BAD_MISSING;
			out->damaged_blocks += m->v[i].used && m->v[i].kind != KS_BAD_MISSING;
		}
	}
	return r;
}

/* ---- files ---- */

/* Ranges of one kind that touch or overlap are one finding. */
struct range {
	uint64_t off, end, kind, slice, idx, blocks;
};

static int report(struct ks_fsck *f, const struct range *g, const struct ks_fsck_paths *paths,
		  struct ks_fsck_move *mv)
{
	char text[160];
	struct ks_fsck_problem p = { .kind = kinds[g->kind].kind,
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = mv->ino,
				     .slice = g->slice,
				     .off = g->off,
				     .len = g->end - g->off,
				     .paths = paths->v,
				     .npaths = paths->n,
				     .text = text };

	snprintf(text, sizeof(text), "bytes %ju to %ju: block %s", (uintmax_t)g->off,
		 (uintmax_t)g->end - 1, kinds[g->kind].text);
	if (g->blocks > 1)
		snprintf(text, sizeof(text), "bytes %ju to %ju: %ju blocks %s", (uintmax_t)g->off,
			 (uintmax_t)g->end - 1, (uintmax_t)g->blocks, kinds[g->kind].text);
	return ks_fsck_found(f, &p, g->off, ks_fsck_move_body, mv);
}

static int report_ranges(struct ks_fsck *f, struct ks_sort_cur *c, uint64_t ino,
			 const struct ks_fsck_paths *paths, bool known)
{
	struct ks_fsck_move mv;
	struct range g = { 0 };
	bool any = false;
	int r = known ? 0 : ks_fsck_move_prepare(f, ino, true, &mv);

	while (r == 0 && c->rec && c->rec[HURT_INO] == ino) {
		const uint64_t *h = c->rec;

		if (any && h[HURT_KIND] == g.kind && h[HURT_OFF] <= g.end) {
			g.blocks += h[HURT_OFF] == g.end;
			g.end = ks_max(g.end, h[HURT_OFF] + h[HURT_LEN]);
		} else {
			if (any && !known)
				r = report(f, &g, paths, &mv);
			any = true;
			g = (struct range){ h[HURT_OFF],  h[HURT_OFF] + h[HURT_LEN],
					    h[HURT_KIND], h[HURT_SLICE],
					    h[HURT_IDX],  1 };
		}
		if (r == 0)
			r = ks_sort_next(c);
	}
	if (r == 0 && any && !known)
		r = report(f, &g, paths, &mv);
	if (!known)
		ks_fsck_move_clear(&mv);
	return r;
}

static int one_file(struct ks_fsck *f, struct ks_sort_cur *c)
{
	struct ks_fsck_paths paths = { 0 };
	uint64_t ino = c->rec[HURT_INO];
	bool known = false;
	int r = ks_fsck_is_quarantined(f, ino, &known);

	if (r == 0)
		r = ks_fsck_paths(f, ino, &paths);
	f->out.quarantined += known;
	f->out.damaged_files += !known;
	if (r == 0)
		r = report_ranges(f, c, ino, &paths, known);
	ks_fsck_paths_clear(&paths);
	return r;
}

int ks_fsck_files(struct ks_fsck *f)
{
	struct merge m = { .f = f };
	struct ks_sort_cur c;
	int r = ks_fsck_sort(f, &m.hurt, HURT_WORDS);

	if (r < 0)
		return r;
	ks_sort_begin(&m.bad, f->bad);
	ks_sort_begin(&m.uses, f->uses);
	r = walk_bad(&m);
	ks_sort_end(&m.bad);
	ks_sort_end(&m.uses);
	free(m.v);
	ks_chunk_map_free(m.map);
	if (r == 0)
		r = ks_sort_finish(m.hurt);
	if (r == 0) {
		ks_sort_begin(&c, m.hurt);
		r = ks_sort_next(&c);
		while (r == 0 && c.rec)
			r = one_file(f, &c);
		ks_sort_end(&c);
	}
	ks_sort_free(m.hurt);
	return r;
}
