/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_store.c: one listing of the store beside the records of blocks and the slices in packs. What the listing does not show is asked for by name before it is
 * called missing: it may be younger than the listing.
 */
#include "volume/fsck_internal.h"

static int list_one(void *arg, const char *key, const struct ks_object_info *info)
{
	struct ks_fsck *f = arg;
	uint64_t rec[OBJ_WORDS] = { [OBJ_BYTES] = info->size_bytes };
	uint64_t id;
	uint32_t idx, size;
	int r = 0;

	f->out.objects++;
	if (ks_block_key_parse(key, &id, &idx, &size)) {
		rec[OBJ_ID] = id;
		rec[OBJ_IDX] = idx;
		rec[OBJ_SIZE] = size;
		f->max_slice = ks_max(f->max_slice, id);
		r = ks_sort_add(f->objects, rec);
	} else if (ks_pack_key_parse(key, &id)) {
		rec[OBJ_ID] = id;
		f->max_pack = ks_max(f->max_pack, id);
		r = ks_sort_add(f->pack_objects, rec);
	}
	if (r == 0 && (f->out.objects & 4095) == 0 && f->o->stopped && f->o->stopped(f->o->arg)) {
		f->out.stopped = true;
		r = -ECANCELED;
	}
	return r;
}

static int list(struct ks_fsck *f)
{
	int r = ks_fsck_sort(f, &f->objects, OBJ_WORDS);

	if (r == 0)
		r = ks_fsck_sort(f, &f->pack_objects, OBJ_WORDS);
	if (r == 0)
		r = ks_object_list(f->m->store, "", "", list_one, f);
	if (r == 0)
		r = ks_sort_finish(f->objects);
	return r == 0 ? ks_sort_finish(f->pack_objects) : r;
}

/* ---- blocks ---- */

struct merge {
	struct ks_fsck *f;
	struct ks_walk slices, blocks;
	struct ks_sort_cur objects;
};

static bool before(const uint64_t *o, const struct ks_rec_block *b)
{
	if (o[OBJ_ID] != b->slice)
		return o[OBJ_ID] < b->slice;
	return o[OBJ_IDX] != b->idx ? o[OBJ_IDX] < b->idx : o[OBJ_SIZE] < b->size;
}

static int one_block(struct merge *m, const struct ks_rec_slice *s, const struct ks_rec_block *b)
{
	struct ks_fsck *f = m->f;
	const uint64_t *o;
	uint64_t from = (uint64_t)b->idx * s->block_size;
	enum ks_bad kind;
	int r = 0;

	while (r == 0 && m->objects.rec && before(m->objects.rec, b)) {
		f->out.leftovers++;
		r = ks_sort_next(&m->objects);
	}
	o = m->objects.rec;
	if (r == 0 && o && o[OBJ_ID] == b->slice && o[OBJ_IDX] == b->idx &&
	    o[OBJ_SIZE] == b->size) {
		bool whole = o[OBJ_BYTES] == ks_block_object_size(b->size);

		r = ks_sort_next(&m->objects);
		if (r < 0 || whole)
			return r;
	}
	if (r == 0)
		r = ks_fsck_still_gone(f, b->slice, b->idx, b->size, &kind);
	return r > 0 ? ks_fsck_bad(f, b->slice, from, from + b->size, kind, b->idx) : r;
}

static int walk_blocks(struct merge *m)
{
	struct ks_fsck *f = m->f;
	int r = ks_sort_next(&m->objects);

	while (r == 0 && (r = ks_walk_next(&m->blocks)) == 0 && m->blocks.rec) {
		const struct ks_rec_block *b = m->blocks.rec;
		const struct ks_rec_slice *s;

		r = ks_walk_to(&m->slices, b->slice);
		if (r < 0)
			return r;
		s = ks_walk_key(&m->slices) == b->slice ? m->slices.rec : NULL;
		/* Blocks of slices that are to be deleted may be gone already. */
		if (s && !s->pack && b->size <= KS_BLOCK_MAX &&
		    b->idx < KS_CHUNK_SIZE / KS_BLOCK_MIN)
			r = one_block(m, s, b);
		else
			while (r == 0 && m->objects.rec && m->objects.rec[OBJ_ID] <= b->slice)
				r = ks_sort_next(&m->objects);
		if (r == 0)
			r = ks_fsck_step(f);
	}
	while (r == 0 && m->objects.rec) {
		f->out.leftovers++;
		r = ks_sort_next(&m->objects);
	}
	return r;
}

static int check_blocks(struct ks_fsck *f)
{
	struct merge m = { .f = f };
	int r;

	ks_walk_begin(&m.slices, f->e, KS_T_SLICE);
	ks_walk_begin(&m.blocks, f->e, KS_T_BLOCK);
	ks_sort_begin(&m.objects, f->objects);
	r = walk_blocks(&m);
	ks_walk_end(&m.slices);
	ks_walk_end(&m.blocks);
	ks_sort_end(&m.objects);
	return r;
}

/* ---- packs ---- */

static int check_packs(struct ks_fsck *f)
{
	struct ks_sort_cur slices, objects;
	int r;

	ks_sort_begin(&slices, f->packed);
	ks_sort_begin(&objects, f->pack_objects);
	r = ks_sort_next(&objects);
	while (r == 0 && (r = ks_sort_next(&slices)) == 0 && slices.rec) {
		const uint64_t *s = slices.rec;
		uint64_t end = s[PS_OFF] + s[PS_LEN];
		uint64_t bytes = 0;
		enum ks_bad kind;

		while (r == 0 && objects.rec && objects.rec[OBJ_ID] < s[PS_PACK])
			r = ks_sort_next(&objects);
		if (objects.rec && objects.rec[OBJ_ID] == s[PS_PACK])
			bytes = objects.rec[OBJ_BYTES];
		if (r < 0 || s[PS_FREED] || end <= bytes)
			continue;
		r = ks_fsck_still_cut(f, s[PS_SLICE], s[PS_PACK], end, &kind);
		if (r > 0)
			r = ks_fsck_bad(f, s[PS_SLICE], 0, s[PS_LEN], kind, 0);
	}
	ks_sort_end(&slices);
	ks_sort_end(&objects);
	return r;
}

int ks_fsck_store(struct ks_fsck *f)
{
	int r = list(f);

	if (r == 0)
		r = check_blocks(f);
	return r == 0 ? check_packs(f) : r;
}
