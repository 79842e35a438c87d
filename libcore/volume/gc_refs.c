/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc_refs.c: which objects nobody refers to. Sorted listings and tables are merged; nothing is held in memory whole.
 *
 * What a living session may still commit is told by the batch its number is from. A batch belongs to one process; if any record shows a slice of the
 * batch, its session is the owner. Where no record says whose it is, the object's age decides: older than the oldest living
 * session (and more, for clocks) it is nobody's.
 */
#include "base/array.h"
#include "volume/gc_internal.h"

/* ---- sessions ---- */

static int session_one(void *arg, const struct ks_session_info *s)
{
	struct ks_gc *g = arg;
	char who[512];

	if (s->id == g->self)
		return 0;
	if (s->dead) {
		g->out.dead_sessions++;
		return 0;
	}
	if (g->self && s->id < g->self && strcmp(s->tool, "kiseki-gc") == 0)
		return ks_fail_hint(-EBUSY, "wait for it with --lock-wait=10m",
				    "volume '%s' is being collected by %s", g->m->settings->name,
				    ks_session_who(s, who, sizeof(who)));
	if (ks_array_room(&g->alive, g->nalive, &g->capalive) < 0)
		return -ENOMEM;
	g->alive[g->nalive++] = (struct ks_gc_session){ s->id, s->start_ns };
	g->oldest_ns = ks_min(g->oldest_ns, s->start_ns);
	return 0;
}

static int read_counter(struct ks_gc *g, const char *name, int i)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter c = { .name = { .p = name, .n = strlen(name) } };
	struct ks_read rd = { .table = KS_T_COUNTER, .rec = &c };
	int r = ks_engine_read(g->e, &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0)
		return r;
	if (!rd.found || c.value <= 0)
		return ks_fail_hint(-EBADMSG, "run kiseki-fsck", "the counter '%s' is damaged",
				    name);
	g->next[i] = (uint64_t)c.value;
	g->batches_ok[i] = (g->next[i] - 1) % KS_GC_BATCH == 0;
	return 0;
}

int ks_gc_sessions(struct ks_gc *g)
{
	/* The counters first: who starts in between is either among the sessions, or has numbers that are not given out yet here. */
	int r = read_counter(g, "next_slice", 0);

	if (r == 0)
		r = read_counter(g, "next_pack", 1);
	g->oldest_ns = INT64_MAX;
	return r == 0 ? ks_meta_sessions(g->m->meta, session_one, g) : r;
}

static bool is_alive(const struct ks_gc *g, uint64_t session)
{
	for (size_t i = 0; i < g->nalive; i++) {
		if (g->alive[i].id == session)
			return true;
	}
	return false;
}

/* ---- the store ---- */

static int list_one(void *arg, const char *key, const struct ks_object_info *info)
{
	struct ks_gc *g = arg;
	uint64_t slice, pack;
	uint32_t idx, size;
	uint64_t rec[OBJ_WORDS] = { [OBJ_BYTES] = info->size_bytes,
				    [OBJ_MTIME] = (uint64_t)ks_max(info->mtime_ns, (int64_t)0) };

	if ((++g->out.scanned_objects & 4095) == 0) {
		ks_gc_progress(g, "listing objects", g->out.scanned_objects, 0);
		if (ks_gc_stopped(g))
			return -ECANCELED;
	}
	if (ks_block_key_parse(key, &slice, &idx, &size)) {
		rec[OBJ_ID] = slice;
		rec[OBJ_IDX] = idx;
		rec[OBJ_SIZE] = size;
		return ks_sort_add(g->blocks, rec);
	}
	if (ks_pack_key_parse(key, &pack)) {
		rec[OBJ_ID] = pack;
		return ks_sort_add(g->packs, rec);
	}
	if (strcmp(key, KS_VOLUME_MARKER) != 0)
		g->out.unknown++;
	return 0;
}

int ks_gc_list(struct ks_gc *g)
{
	int r = ks_object_list(g->m->store, "", "", list_one, g);

	if (r == 0)
		r = ks_sort_finish(g->blocks);
	if (r == 0)
		r = ks_sort_finish(g->packs);
	return r;
}

/* ---- references ---- */

/* Records come in the order of their numbers, so that a batch needs one line. */
static int owner_add(struct ks_sort *s, uint64_t last[OWN_WORDS], uint64_t id, uint64_t session)
{
	uint64_t rec[OWN_WORDS] = { (id - 1) / KS_GC_BATCH, session };

	if (id == 0 || session == 0 || memcmp(rec, last, sizeof(rec)) == 0)
		return 0;
	memcpy(last, rec, sizeof(rec));
	return ks_sort_add(s, rec);
}

static int read_extents(struct ks_gc *g)
{
	struct ks_walk w;
	uint64_t last = 0;
	int r;

	ks_walk_begin(&w, g->e, KS_T_EXTENT);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		uint64_t slice = ((const struct ks_rec_extent *)w.rec)->slice;

		if (slice && slice != last)
			r = ks_sort_add(g->extents, &slice);
		if (r < 0)
			break;
		last = slice;
		if ((w.seen & 65535) == 0) {
			ks_gc_progress(g, "reading references", w.seen, 0);
			if (ks_gc_stopped(g)) {
				r = -ECANCELED;
				break;
			}
		}
	}
	ks_walk_end(&w);
	return r < 0 ? r : ks_sort_finish(g->extents);
}

/* What the merge of the listing with the tables looks at. */
struct merge {
	struct ks_gc *g;
	struct ks_walk slices, freed;
	struct ks_sort_cur objects, extents;
	uint64_t owner[OWN_WORDS];
	uint64_t last_pack;
};

static int slice_next(struct merge *m)
{
	const struct ks_rec_slice *s;
	int r = ks_walk_next(&m->slices);

	s = m->slices.rec;
	if (r < 0 || !s)
		return r;
	m->g->out.scanned_slices++;
	if ((m->slices.seen & 65535) == 0)
		ks_gc_progress(m->g, "reading slices", m->slices.seen, 0);
	r = owner_add(m->g->slice_owner, m->owner, s->id, s->session);
	if (r == 0 && s->pack && s->pack != m->last_pack) {
		m->last_pack = s->pack;
		r = ks_sort_add(m->g->packed, &s->pack);
	}
	return r;
}

static int freed_next(struct merge *m)
{
	const struct ks_rec_freed *f;
	int r = ks_walk_next(&m->freed);

	f = m->freed.rec;
	return r == 0 && f && f->pack ? ks_sort_add(m->g->packed, &f->pack) : r;
}

static int object_known(struct merge *m, uint64_t slice, bool *known)
{
	int r = 0;

	while (r == 0 && m->slices.rec && ks_walk_key(&m->slices) < slice)
		r = slice_next(m);
	while (r == 0 && m->freed.rec && ks_walk_key(&m->freed) < slice)
		r = freed_next(m);
	while (r == 0 && m->extents.rec && m->extents.rec[0] < slice)
		r = ks_sort_next(&m->extents);
	*known = ks_walk_key(&m->slices) == slice || ks_walk_key(&m->freed) == slice ||
		 (m->extents.rec && m->extents.rec[0] == slice);
	return r;
}

static int merge_blocks(struct merge *m)
{
	struct ks_gc *g = m->g;
	bool known = false;
	int r = slice_next(m);

	if (r == 0)
		r = freed_next(m);
	if (r == 0)
		r = ks_sort_next(&m->extents);
	while (r == 0 && (r = ks_sort_next(&m->objects)) == 0 && m->objects.rec) {
		r = object_known(m, m->objects.rec[OBJ_ID], &known);
		if (r == 0 && !known)
			r = ks_sort_add(g->suspects, m->objects.rec);
	}
	/* The rest is read for what it says of packs. */
	while (r == 0 && m->slices.rec)
		r = slice_next(m);
	while (r == 0 && m->freed.rec)
		r = freed_next(m);
	return r;
}

static int read_blocks(struct ks_gc *g)
{
	struct merge m = { .g = g };
	int r;

	ks_walk_begin(&m.slices, g->e, KS_T_SLICE);
	ks_walk_begin(&m.freed, g->e, KS_T_FREED);
	ks_sort_begin(&m.objects, g->blocks);
	ks_sort_begin(&m.extents, g->extents);
	r = merge_blocks(&m);
	ks_walk_end(&m.slices);
	ks_walk_end(&m.freed);
	ks_sort_end(&m.objects);
	ks_sort_end(&m.extents);
	if (r == 0)
		r = ks_sort_finish(g->slice_owner);
	if (r == 0)
		r = ks_sort_finish(g->packed);
	return r == 0 ? ks_sort_finish(g->suspects) : r;
}

/* A pack's record, and the listing and the slices of the same number. */
static int pack_record(struct ks_gc *g, const struct ks_rec_pack *p, const uint64_t *object,
		       bool named)
{
	uint64_t rec[OBJ_WORDS] = { [OBJ_ID] = p->id };

	if (p->slices || named ||
	    (p->session && (is_alive(g, p->session) || p->session == g->self)))
		return 0;
	rec[OBJ_BYTES] = object ? object[OBJ_BYTES] : 0;
	g->out.packs.objects += object != NULL;
	g->out.packs.bytes += rec[OBJ_BYTES];
	return ks_sort_add(g->dead_packs, rec);
}

static int merge_packs(struct ks_gc *g, struct ks_walk *rows, struct ks_sort_cur *objects,
		       struct ks_sort_cur *named)
{
	uint64_t owner[OWN_WORDS] = { 0 };
	int r = ks_walk_next(rows);

	if (r == 0)
		r = ks_sort_next(objects);
	if (r == 0)
		r = ks_sort_next(named);
	while (r == 0 && (rows->rec || objects->rec)) {
		const struct ks_rec_pack *p = rows->rec;
		uint64_t object = objects->rec ? objects->rec[OBJ_ID] : UINT64_MAX;
		uint64_t id = ks_min(ks_walk_key(rows), object);
		bool has_name;

		while (r == 0 && named->rec && named->rec[0] < id)
			r = ks_sort_next(named);
		has_name = named->rec && named->rec[0] == id;
		if (r == 0 && p && p->id == id) {
			r = owner_add(g->pack_owner, owner, id, p->session);
			if (r == 0)
				r = pack_record(g, p, object == id ? objects->rec : NULL, has_name);
		} else if (r == 0 && !has_name) {
			r = ks_sort_add(g->pack_suspects, objects->rec);
		}
		if (r == 0 && p && p->id == id)
			r = ks_walk_next(rows);
		if (r == 0 && object == id)
			r = ks_sort_next(objects);
	}
	return r;
}

static int read_packs(struct ks_gc *g)
{
	struct ks_walk rows;
	struct ks_sort_cur objects, named;
	int r;

	ks_walk_begin(&rows, g->e, KS_T_PACK);
	ks_sort_begin(&objects, g->packs);
	ks_sort_begin(&named, g->packed);
	r = merge_packs(g, &rows, &objects, &named);
	ks_walk_end(&rows);
	ks_sort_end(&objects);
	ks_sort_end(&named);
	if (r == 0)
		r = ks_sort_finish(g->pack_owner);
	if (r == 0)
		r = ks_sort_finish(g->dead_packs);
	return r == 0 ? ks_sort_finish(g->pack_suspects) : r;
}

int ks_gc_references(struct ks_gc *g)
{
	int r = read_extents(g);

	if (r == 0)
		r = read_blocks(g);
	return r == 0 ? read_packs(g) : r;
}

static int yes(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	(void)rec;
	(void)inode;
	*(bool *)arg = true;
	return 1;
}

int ks_gc_slice_known(struct ks_gc *g, uint64_t slice, bool *known)
{
	struct ks_arena a = { 0 };
	struct ks_rec_slice s = { .id = slice };
	struct ks_rec_freed f = { .slice = slice };
	struct ks_rec_block from = { .slice = slice };
	bool block = false;
	struct ks_read rd[] = { { .table = KS_T_SLICE, .rec = &s },
				{ .table = KS_T_FREED, .rec = &f } };
	struct ks_scan sc = { .table = KS_T_BLOCK,
			      .from = &from,
			      .nprefix = 1,
			      .limit = 1,
			      .fn = yes,
			      .arg = &block };
	int r = ks_engine_fetch(g->e, rd, 2, &sc, 1, &a);

	ks_arena_clear(&a);
	*known = rd[0].found || rd[1].found || block;
	return r;
}

int ks_gc_pack_known(struct ks_gc *g, uint64_t pack, bool *known)
{
	struct ks_arena a = { 0 };
	struct ks_rec_pack p = { .id = pack };
	struct ks_read rd = { .table = KS_T_PACK, .rec = &p };
	int r = ks_engine_read(g->e, &rd, 1, &a);

	ks_arena_clear(&a);
	*known = rd.found;
	return r;
}

int ks_gc_left(struct ks_gc *g, struct ks_gc_left *out)
{
	struct ks_walk w;
	int r;

	*out = (struct ks_gc_left){ 0 };
	ks_walk_begin(&w, g->e, KS_T_FREED);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_freed *f = w.rec;

		out->slices++;
		if (f->pack || !f->block_size)
			continue;
		out->objects += ks_blocks_of(f->len, f->block_size);
		out->bytes += f->len;
	}
	ks_walk_end(&w);
	if (r < 0)
		return r;
	ks_walk_begin(&w, g->e, KS_T_DELETED);
	while ((r = ks_walk_next(&w)) == 0 && w.rec)
		out->files++;
	ks_walk_end(&w);
	return r;
}

/* ---- judgement ---- */

static void count(struct ks_gc_count *c, const uint64_t *rec)
{
	c->objects++;
	c->bytes += rec[OBJ_BYTES];
}

/* May a living session still commit what has this number? @own stands at or before the number's batch. */
static int may_be_live(struct ks_gc *g, const uint64_t *rec, struct ks_sort_cur *own,
		       bool batches_ok, bool *live)
{
	uint64_t batch = (rec[OBJ_ID] - 1) / KS_GC_BATCH;
	bool owned = false;
	int r = 0;

	*live = false;
	if (g->nalive == 0)
		return 0;
	while (r == 0 && own->rec && own->rec[OWN_BATCH] < batch)
		r = ks_sort_next(own);
	/* Several owners can only come from a counter that was repaired: then any of them counts. */
	if (r == 0 && batches_ok && own->rec && own->rec[OWN_BATCH] == batch) {
		struct ks_sort_cur more;
		uint64_t key = batch;

		ks_sort_begin(&more, own->s);
		r = ks_sort_seek(&more, &key, 1);
		while (r == 0 && more.rec && more.rec[OWN_BATCH] == batch) {
			owned = true;
			*live = *live || is_alive(g, more.rec[OWN_SESSION]);
			r = ks_sort_next(&more);
		}
		ks_sort_end(&more);
	}
	if (!owned)
		*live = (int64_t)rec[OBJ_MTIME] >= g->oldest_ns - KS_GC_CLOCK_SLACK_NS;
	return r;
}

struct judge {
	struct ks_sort *from, *owners, *to;
	bool packs;
};

static int judge_one(struct ks_gc *g, const struct judge *j, const uint64_t *rec,
		     struct ks_sort_cur *own, bool known)
{
	bool live;
	int r;

	if (known)
		return 0;
	if ((int64_t)rec[OBJ_MTIME] > g->now_ns - g->o->grace_ns) {
		count(&g->out.young, rec);
		return 0;
	}
	r = may_be_live(g, rec, own, g->batches_ok[j->packs], &live);
	if (r < 0)
		return r;
	/* A number not given out yet: the counter lags behind, perhaps after a restore. Somebody may get it at any moment. */
	if (live || rec[OBJ_ID] >= g->next[j->packs]) {
		count(&g->out.live, rec);
		return 0;
	}
	count(&g->out.orphans, rec);
	return ks_sort_add(j->to, rec);
}

static int judge(struct ks_gc *g, const struct judge *j)
{
	struct ks_sort_cur c, own;
	uint64_t last = UINT64_MAX;
	bool known = false;
	int r;

	ks_sort_begin(&c, j->from);
	ks_sort_begin(&own, j->owners);
	r = ks_sort_next(&own);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec) {
		if (c.rec[OBJ_ID] != last) {
			last = c.rec[OBJ_ID];
			r = j->packs ? ks_gc_pack_known(g, last, &known)
				     : ks_gc_slice_known(g, last, &known);
		}
		if (r == 0)
			r = judge_one(g, j, c.rec, &own, known);
		if (r == 0 && ks_gc_stopped(g))
			r = -ECANCELED;
	}
	ks_sort_end(&c);
	ks_sort_end(&own);
	return r == 0 ? ks_sort_finish(j->to) : r;
}

int ks_gc_judge(struct ks_gc *g)
{
	const struct judge blocks = { g->suspects, g->slice_owner, g->orphans, false };
	const struct judge packs = { g->pack_suspects, g->pack_owner, g->pack_orphans, true };
	int r = judge(g, &blocks);

	return r == 0 ? judge(g, &packs) : r;
}
