/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_slices.c: every slice beside the extents that use it, the records of its blocks, and the list of what is to be deleted. Slices that are used and have no
 * record are made again from what is left of them.
 */
#include "volume/fsck_internal.h"

#include <sys/param.h>

struct merge {
	struct ks_fsck *f;
	struct ks_walk slices, freed, blocks;
	struct ks_sort_cur uses;
	/* Of the slice in turn. */
	uint64_t id;
	uint64_t nuses;
	uint64_t first_ino;
	uint64_t need; /* bytes that the uses ask for */
};

static uint64_t at_least_one(uint64_t n)
{
	return n ? n : 1;
}

static int found(struct merge *m, const char *kind, const char *text, enum ks_fsck_repair repair,
		 uint64_t key, const struct ks_fsck_write *w, unsigned int n)
{
	struct ks_fsck_problem p = {
		.kind = kind, .repair = repair, .slice = m->id, .ino = m->first_ino, .text = text
	};

	return ks_fsck_found_fix(m->f, &p, key, w, n);
}

/* ---- uses ---- */

/* An extent that asks for more than the slice holds. 1: it was removed. */
static int use_beyond(struct merge *m, const struct ks_rec_slice *s, const uint64_t *u)
{
	uint32_t len = (uint32_t)u[USE_PLACE];
	struct ks_rec_extent x = { .ino = u[USE_INO],
				   .chunk = u[USE_CHUNK],
				   .seq = u[USE_SEQ],
				   .pos = (uint32_t)(u[USE_PLACE] >> 32),
				   .slice = s->id,
				   .off = (uint32_t)u[USE_OFF] };
	struct ks_fsck_problem p = { .kind = "extent_beyond_slice",
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = x.ino,
				     .slice = s->id,
				     .text = "uses more of a slice than it holds" };
	struct ks_fsck_write w = { KS_FSCK_DEL, KS_T_EXTENT, &x, 0, NULL };
	int r;

	if (x.off < s->len) {
		x.len = s->len - x.off;
		w.how = KS_FSCK_PUT;
	}
	p.off = x.chunk * KS_CHUNK_SIZE + x.pos + x.len;
	p.len = len - x.len;
	r = ks_fsck_found_fix(m->f, &p, x.chunk ^ x.seq, &w, 1);
	if (r == 0)
		r = ks_fsck_bad(m->f, s->id, ks_max(s->len, x.off), (uint64_t)x.off + len,
				KS_BAD_SLICE, 0);
	return r < 0 ? r : p.fixed && w.how == KS_FSCK_DEL;
}

/* @s: NULL when there is no record. */
static int take_uses(struct merge *m, const struct ks_rec_slice *s)
{
	int r = 0;

	m->nuses = 0;
	m->need = 0;
	m->first_ino = m->uses.rec && m->uses.rec[USE_SLICE] == m->id ? m->uses.rec[USE_INO] : 0;
	while (r == 0 && m->uses.rec && m->uses.rec[USE_SLICE] == m->id) {
		uint64_t end = m->uses.rec[USE_OFF] + (uint32_t)m->uses.rec[USE_PLACE];

		m->need = ks_max(m->need, end);
		if (s && end > s->len)
			r = use_beyond(m, s, m->uses.rec);
		if (r < 0)
			return r;
		m->nuses += r == 0;
		r = ks_sort_next(&m->uses);
	}
	return r;
}

/* ---- records of blocks ---- */

static int bad_block_record(struct merge *m, const struct ks_rec_slice *s, uint32_t idx,
			    const char *kind, const char *text)
{
	uint32_t size = ks_fsck_block_len(s->len, s->block_size, idx);
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
	unsigned char raw[sizeof(sums)];
	struct ks_rec_block b = { .slice = s->id, .idx = idx, .size = size };
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_BLOCK, &b, 0, NULL };
	uint64_t from = (uint64_t)idx * s->block_size;
	int r = ks_fsck_trailer(m->f->m->store, s->id, idx, size, sums);

	if (r < 0)
		return r;
	/* The block itself knows its checksums. */
	if (r == 0) {
		ks_fsck_put_sums(raw, sums, ks_pages_of(size));
		b.sums = (struct ks_bytes){ raw, (size_t)ks_pages_of(size) * 4 };
		return found(m, kind, text, KS_FSCK_R_SAFE, idx, &w, 1);
	}
	return ks_fsck_bad(m->f, s->id, from, from + size, KS_BAD_RECORD, idx);
}

/* Block records of m->id, against what the slice must have; @n: how many. */
static int check_blocks(struct merge *m, const struct ks_rec_slice *s, uint32_t n)
{
	uint32_t next = 0;
	int r = 0;

	for (;;) {
		const struct ks_rec_block *b =
			ks_walk_key(&m->blocks) == m->id ? m->blocks.rec : NULL;
		uint32_t upto = b ? ks_min(b->idx, n) : n;
		struct ks_fsck_write del = { KS_FSCK_DEL, KS_T_BLOCK, b, 0, NULL };

		for (; r == 0 && next < upto; next++)
			r = bad_block_record(m, s, next, "missing_block_record",
					     "has a block whose checksums are missing");
		if (r < 0 || !b)
			return r;
		m->f->out.blocks++;
		if (b->idx >= n) {
			r = found(m, "extra_block_record",
				  "has a record of a block that it does not have", KS_FSCK_R_SAFE,
				  b->idx, &del, 1);
		} else {
			uint32_t size = ks_fsck_block_len(s->len, s->block_size, b->idx);

			if (b->size != size || b->sums.n != (size_t)ks_pages_of(size) * 4)
				r = bad_block_record(m, s, b->idx, "bad_block_record",
						     "has a block whose record is wrong");
			next = b->idx + 1;
		}
		if (r == 0)
			r = ks_walk_next(&m->blocks);
		if (r < 0)
			return r;
	}
}

/* ---- a slice with a record ---- */

static bool record_ok(const struct ks_rec_slice *s)
{
	if (s->len == 0 || s->len > KS_CHUNK_SIZE)
		return false;
	return s->pack || (s->block_size >= KS_BLOCK_MIN && s->block_size <= KS_BLOCK_MAX &&
			   powerof2(s->block_size));
}

/* A packed slice's checksums: from its header in the pack, or, when that is lost too, such that nothing is taken for right. */
static int check_packed(struct merge *m, const struct ks_rec_slice *s)
{
	const uint64_t rec[PS_WORDS] = { s->pack, s->pack_off, s->len, s->id, 0 };
	uint32_t sums[KS_CHUNK_SIZE / KS_PAGE_SIZE] = { 0 };
	unsigned char raw[sizeof(sums)];
	struct ks_rec_slice fixed = *s;
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_SLICE, &fixed, 0, NULL };
	uint32_t pages = ks_pages_of(s->len);
	int r = ks_sort_add(m->f->packed, rec);

	m->f->max_pack = ks_max(m->f->max_pack, s->pack);
	if (r < 0 || s->sums.n == (size_t)pages * 4)
		return r;
	r = pages > KS_PACK_PAGES_MAX ? 1
				      : ks_fsck_pack_header(m->f->m->store, s->pack, s->pack_off,
							    s->id, s->len, sums);
	if (r < 0)
		return r;
	ks_fsck_put_sums(raw, sums, pages);
	fixed.sums = (struct ks_bytes){ raw, (size_t)pages * 4 };
	fixed.refs = m->nuses;
	if (r)
		r = ks_fsck_bad(m->f, s->id, 0, s->len, KS_BAD_RECORD, 0);
	else
		return found(m, "bad_slice_record",
			     "has a packed piece whose checksums are missing", KS_FSCK_R_SAFE, 0,
			     &w, 1);
	return r < 0 ? r
		     : found(m, "bad_slice_record", "has a packed piece whose checksums are lost",
			     KS_FSCK_R_LOSSY, 0, &w, 1);
}

static int check_refs(struct merge *m, const struct ks_rec_slice *s)
{
	char text[120];
	struct ks_fsck_problem p = { .kind = "wrong_refs",
				     .repair = KS_FSCK_R_SAFE,
				     .slice = s->id,
				     .ino = m->first_ino,
				     .is = s->refs,
				     .should = m->nuses,
				     .text = text };
	struct ks_rec_freed freed = { .slice = s->id,
				      .time_ns = m->f->now_ns,
				      .epoch = m->f->epoch,
				      .len = s->len,
				      .block_size = s->block_size,
				      .pack = s->pack };
	struct ks_upd u = KS_FSCK_UPD(slice, refs, KS_UPD_SET, m->nuses);
	struct ks_fsck_write w[] = { { KS_FSCK_UPDATE, KS_T_SLICE, s, 1, &u },
				     { KS_FSCK_PUT, KS_T_FREED, &freed, 0, NULL } };

	if (m->nuses == 0) {
		w[0].how = KS_FSCK_DEL;
		return found(m, "slice_without_extents", "is used by no file", KS_FSCK_R_SAFE, 0, w,
			     2);
	}
	if (s->refs == m->nuses)
		return 0;
	snprintf(text, sizeof(text), "uses slice %ju whose reference count is %ju, should be %ju",
		 (uintmax_t)s->id, (uintmax_t)s->refs, (uintmax_t)m->nuses);
	return ks_fsck_found_fix(m->f, &p, 0, w, 1);
}

/* The record says what cannot be: length and block size are made up from the blocks and the uses. */
static int bad_record(struct merge *m, struct ks_rec_slice *s)
{
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_SLICE, s, 0, NULL };
	uint64_t held = 0;
	uint32_t first = 0, n = 0;
	int r = 0;

	while (r == 0 && ks_walk_key(&m->blocks) == m->id) {
		const struct ks_rec_block *b = m->blocks.rec;

		if (b->idx == n) {
			first = n ? first : b->size;
			held += b->size;
			n++;
		}
		r = ks_walk_next(&m->blocks);
	}
	if (r < 0)
		return r;
	s->block_size = n > 1 ? first : (uint32_t)m->f->m->settings->block_size;
	held = n ? held : at_least_one(m->need);
	s->len = (uint32_t)ks_min(held, KS_CHUNK_SIZE);
	if (!record_ok(s))
		s->block_size = (uint32_t)m->f->m->settings->block_size;
	if (!n) {
		r = ks_fsck_bad(m->f, s->id, 0, s->len, KS_BAD_SLICE, 0);
		return r < 0 ? r
			     : found(m, "bad_slice_record",
				     "uses a slice whose record is damaged and whose blocks are "
				     "lost",
				     KS_FSCK_R_LOSSY, 0, &w, 1);
	}
	return found(m, "bad_slice_record", "uses a slice whose record is damaged", KS_FSCK_R_SAFE,
		     0, &w, 1);
}

static int with_record(struct merge *m)
{
	struct ks_rec_slice s = *(const struct ks_rec_slice *)m->slices.rec;
	bool ok = record_ok(&s);
	int r;

	m->f->out.slices++;
	m->f->max_session = ks_max(m->f->max_session, s.session);
	r = take_uses(m, ok ? &s : NULL);
	if (r == 0 && ks_walk_key(&m->freed) == m->id) {
		struct ks_fsck_write del[] = { { KS_FSCK_DEL, KS_T_FREED, m->freed.rec, 0, NULL } };

		/* Without uses, check_refs() puts it there again. */
		r = found(m, "freed_in_use",
			  "uses a slice that is on the list of what is to be deleted",
			  KS_FSCK_R_SAFE, 0, del, 1);
		if (r == 0)
			r = ks_walk_next(&m->freed);
	}
	if (r == 0 && !ok) {
		s.refs = m->nuses;
		r = bad_record(m, &s);
	}
	if (r == 0 && ok && s.status != KS_SLICE_COMMITTED) {
		struct ks_upd u = KS_FSCK_UPD(slice, status, KS_UPD_SET, KS_SLICE_COMMITTED);
		struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_SLICE, &s, 1, &u };

		r = found(m, "wrong_slice_status", "uses a slice that says it is not committed",
			  KS_FSCK_R_SAFE, 0, &w, 1);
	}
	if (r == 0 && s.pack)
		r = check_packed(m, &s);
	if (r == 0 && ok)
		r = check_blocks(m, &s, s.pack ? 0 : ks_blocks_of(s.len, s.block_size));
	m->f->data_bytes += s.len;
	/* Its block records stay when it is freed: they go with the objects. */
	return r == 0 ? check_refs(m, &s) : r;
}

/* ---- a slice without a record ---- */

/* What the records of blocks say about it. */
struct remains {
	uint64_t len;
	uint32_t first, n;
	bool whole; /* 0, 1, 2... and all but the last of one size */
};

static int take_blocks(struct merge *m, struct remains *e)
{
	uint32_t last = 0;
	int r = 0;

	*e = (struct remains){ .whole = true };
	while (r == 0 && ks_walk_key(&m->blocks) == m->id) {
		const struct ks_rec_block *b = m->blocks.rec;

		e->first = e->n ? e->first : b->size;
		e->whole = e->whole && b->idx == e->n && (e->n == 0 || last == e->first) &&
			   b->size && b->size <= e->first;
		e->len += b->size;
		last = b->size;
		e->n++;
		r = ks_walk_next(&m->blocks);
	}
	e->whole = e->whole && e->n && e->len <= KS_CHUNK_SIZE && e->len >= m->need;
	if (e->n > 1)
		e->whole = e->whole && e->first >= KS_BLOCK_MIN && powerof2(e->first);
	return r;
}

static int missing_slice(struct merge *m, const struct remains *e, const struct ks_rec_freed *freed)
{
	struct ks_fsck *f = m->f;
	struct ks_rec_slice s = { .id = m->id,
				  .status = KS_SLICE_COMMITTED,
				  .refs = m->nuses,
				  .ctime_ns = f->now_ns,
				  .block_size = (uint32_t)f->m->settings->block_size };
	struct ks_rec_freed key = { .slice = m->id };
	struct ks_fsck_problem p = {
		.kind = "missing_slice",
		.repair = KS_FSCK_R_SAFE,
		.slice = m->id,
		.ino = m->first_ino,
		.text = "uses a slice whose records are missing, but not its blocks"
	};
	struct ks_fsck_write w[] = { { KS_FSCK_PUT, KS_T_SLICE, &s, 0, NULL },
				     { KS_FSCK_DEL, KS_T_FREED, &key, 0, NULL } };
	int r;

	if (e->whole) {
		s.len = (uint32_t)e->len;
		s.block_size = e->n > 1                     ? e->first
			       : freed && freed->block_size ? freed->block_size
							    : s.block_size;
		if (s.block_size < e->first || s.block_size > KS_BLOCK_MAX ||
		    !powerof2(s.block_size))
			s.block_size = (uint32_t)KS_BLOCK_MAX;
		return found(m, "missing_slice",
			     "uses a slice whose record is missing, but not its blocks",
			     KS_FSCK_R_SAFE, 0, w, 2);
	}
	r = ks_fsck_rescue(f, &p, m->need, m->nuses);
	if (r <= 0)
		return r;
	/* A record without blocks: what is read there fails, and the rest of the file can be read. */
	s.len = (uint32_t)ks_min(at_least_one(m->need), KS_CHUNK_SIZE);
	r = ks_fsck_bad(f, m->id, 0, s.len, KS_BAD_SLICE, 0);
	return r < 0 ? r
		     : found(m, "missing_slice", "uses a slice that is missing", KS_FSCK_R_LOSSY, 1,
			     w, 2);
}

static int without_record(struct merge *m)
{
	struct ks_rec_block prefix = { .slice = m->id };
	struct ks_fsck_write del = { KS_FSCK_DEL_PREFIX, KS_T_BLOCK, &prefix, 1, NULL };
	struct ks_rec_freed freed = { 0 };
	bool is_freed = ks_walk_key(&m->freed) == m->id;
	struct remains e;
	int r;

	if (is_freed) {
		freed = *(const struct ks_rec_freed *)m->freed.rec;
		m->f->max_epoch = ks_max(m->f->max_epoch, freed.epoch);
	}
	r = take_uses(m, NULL);
	if (r == 0)
		r = take_blocks(m, &e);
	if (r == 0 && m->nuses)
		r = missing_slice(m, &e, is_freed ? &freed : NULL);
	else if (r == 0 && !is_freed)
		r = found(m, "block_without_slice", "records of blocks whose slice is missing",
			  KS_FSCK_R_SAFE, 0, &del, 1);
	if (r == 0 && is_freed && !m->nuses && freed.pack) {
		const uint64_t rec[PS_WORDS] = { freed.pack, 0, freed.len, freed.slice, 1 };

		m->f->max_pack = ks_max(m->f->max_pack, freed.pack);
		r = ks_sort_add(m->f->packed, rec);
	}
	if (r == 0 && is_freed)
		r = ks_walk_next(&m->freed);
	return r;
}

/* ---- the merge ---- */

static int run(struct merge *m)
{
	int r = ks_walk_next(&m->slices);

	if (r == 0)
		r = ks_walk_next(&m->freed);
	if (r == 0)
		r = ks_walk_next(&m->blocks);
	if (r == 0)
		r = ks_sort_next(&m->uses);
	while (r == 0) {
		uint64_t slice = ks_walk_key(&m->slices);

		m->id = ks_min(ks_walk_key(&m->freed), ks_walk_key(&m->blocks));
		m->id = ks_min(m->id, slice);
		if (m->uses.rec)
			m->id = ks_min(m->id, m->uses.rec[USE_SLICE]);
		if (m->id == UINT64_MAX)
			break;
		m->f->max_slice = ks_max(m->f->max_slice, m->id);
		if (slice == m->id) {
			r = with_record(m);
			if (r == 0)
				r = ks_walk_next(&m->slices);
		} else {
			r = without_record(m);
		}
		if (r == 0)
			r = ks_fsck_step(m->f);
	}
	return r;
}

int ks_fsck_slices(struct ks_fsck *f)
{
	struct merge m = { .f = f };
	int r = ks_fsck_sort(f, &f->packed, PS_WORDS);

	if (r < 0)
		return r;
	f->data_bytes = 0;
	ks_walk_begin(&m.slices, f->e, KS_T_SLICE);
	ks_walk_begin(&m.freed, f->e, KS_T_FREED);
	ks_walk_begin(&m.blocks, f->e, KS_T_BLOCK);
	ks_sort_begin(&m.uses, f->uses);
	r = run(&m);
	ks_walk_end(&m.slices);
	ks_walk_end(&m.freed);
	ks_walk_end(&m.blocks);
	ks_sort_end(&m.uses);
	return r == 0 ? ks_sort_finish(f->packed) : r;
}
