/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_pack.c: the records of packs, for who gives their space back.
 *
 * A pack that nobody appends to any more only loses slices: its counts only fall, and at 0 nothing names it, not even a slice that waits to be
 * freed, for that is counted until it is confirmed. A slice that moves takes its share of the counts along in the same transaction.
 */
#include "meta/meta_internal.h"

#include <stdlib.h>

#define BATCH 256u

/* ---- listing ---- */

struct listing {
	struct ks_pack_info *v;
	size_t n;
};

static int pack_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_pack *p = rec;
	struct listing *l = arg;

	(void)node;
	l->v[l->n++] = (struct ks_pack_info){ .id = p->id,
					      .session = p->session,
					      .size = p->size,
					      .live = p->live,
					      .slices = p->slices };
	return 0;
}

static int session_one(void *arg, const struct ks_session_info *s)
{
	struct listing *l = arg;

	for (size_t i = 0; !s->dead && i < l->n; i++)
		l->v[i].alive = l->v[i].alive || l->v[i].session == s->id;
	return 0;
}

ssize_t ks_meta_packs(struct ks_meta *m, uint64_t after, struct ks_pack_info *out, size_t max)
{
	struct ks_arena mem = { 0 };
	struct ks_rec_pack from = { .id = after };
	struct listing l = { .v = out };
	struct ks_scan s = { .table = KS_T_PACK,
			     .from = &from,
			     .nafter = 1,
			     .limit = max,
			     .fn = pack_one,
			     .arg = &l };
	int r = ks_engine_scan(m->e, &s, &mem);

	ks_arena_clear(&mem);
	/* The sessions after the packs: one that has a pack and is not there now has ended. */
	if (r == 0 && l.n)
		r = ks_meta_sessions(m, session_one, &l);
	return r < 0 ? r : (ssize_t)l.n;
}

/* ---- dropping ---- */

struct drop_arg {
	uint64_t id;
	bool held; /* somebody copies the volume */
	bool dropped;
};

static int drop_claim(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct drop_arg *d = arg;

	(void)node;
	d->held = d->held || ((const struct ks_rec_claim *)rec)->ino == KS_CLAIM_PACKS;
	return d->held;
}

static int drop_body(struct ks_txn *t, void *arg)
{
	struct drop_arg *d = arg;
	struct ks_rec_pack p = { .id = d->id };
	struct ks_read rd = { .table = KS_T_PACK, .rec = &p };
	struct ks_scan s = { .table = KS_T_CLAIM, .fn = drop_claim, .arg = d };
	int r;

	d->held = false;
	r = ks_txn_fetch(t, &rd, 1, &s, 1);
	d->dropped = r == 0 && rd.found && p.slices == 0 && !d->held;
	if (d->dropped)
		ks_txn_del(t, KS_T_PACK, &p);
	return r;
}

int ks_meta_pack_drop(struct ks_meta *m, uint64_t id, bool *dropped)
{
	struct drop_arg d = { .id = id };
	int r = ks_meta_run(m, drop_body, &d);

	*dropped = r == 0 && d.dropped;
	return r;
}

/* ---- slices ---- */

static void place_of(struct ks_slice_place *out, const struct ks_rec_slice *s)
{
	uint32_t pages = ks_pages_of(s->len);
	const unsigned char *p = s->sums.p;

	*out = (struct ks_slice_place){ .slice = s->id };
	if (!s->pack || s->status != KS_SLICE_COMMITTED || pages == 0 ||
	    pages > KS_SLICE_PLACE_PAGES || s->sums.n != (size_t)pages * 4)
		return;
	out->pack = s->pack;
	out->pack_off = s->pack_off;
	out->len = s->len;
	for (uint32_t i = 0; i < pages; i++, p += 4)
		out->sums[i] = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
			       (uint32_t)p[3] << 24;
}

int ks_meta_pack_slices(struct ks_meta *m, const uint64_t *ids, size_t n,
			struct ks_slice_place *out)
{
	struct ks_rec_slice *s = calloc(BATCH, sizeof(*s));
	struct ks_read *rd = calloc(BATCH, sizeof(*rd));
	int r = s && rd ? 0 : -ENOMEM;

	for (size_t at = 0; r == 0 && at < n; at += BATCH) {
		size_t k = ks_min(n - at, (size_t)BATCH);
		struct ks_arena mem = { 0 };

		for (size_t i = 0; i < k; i++) {
			s[i] = (struct ks_rec_slice){ .id = ids[at + i] };
			rd[i] = (struct ks_read){ .table = KS_T_SLICE, .rec = &s[i] };
		}
		r = ks_engine_read(m->e, rd, k, &mem);
		for (size_t i = 0; r == 0 && i < k; i++) {
			if (rd[i].found)
				place_of(&out[at + i], &s[i]);
			else
				out[at + i] = (struct ks_slice_place){ .slice = ids[at + i] };
		}
		ks_arena_clear(&mem);
	}
	free(s);
	free(rd);
	return r;
}

/* ---- moving ---- */

struct move_arg {
	struct ks_slice_move *v;
	size_t n;
	struct ks_meta *m;
	struct ks_pack_share *sh;
	size_t nsh;
};

struct ks_pack_share *ks_pack_share_add(struct ks_pack_share *v, size_t *n, uint64_t pack)
{
	/* Mostly it is the last one. */
	for (size_t i = *n; i-- > 0;) {
		if (v[i].p.id == pack)
			return &v[i];
	}
	v[*n] = (struct ks_pack_share){ .p = { .id = pack } };
	return &v[(*n)++];
}

static void move_one(struct ks_txn *t, struct move_arg *a, struct ks_slice_move *mv,
		     const struct ks_rec_slice *s)
{
	struct ks_pack_share *from = ks_pack_share_add(a->sh, &a->nsh, mv->pack);
	struct ks_pack_share *to = ks_pack_share_add(a->sh, &a->nsh, mv->to_pack);
	/* References to it are added blindly by others: only its place is written. */
	const struct ks_upd u[] = { KS_UPD_COL(slice, pack, KS_UPD_SET, mv->to_pack),
				    KS_UPD_COL(slice, pack_off, KS_UPD_SET, mv->to_off) };

	ks_txn_update(t, KS_T_SLICE, s, u, 2);
	from->live -= s->len;
	from->slices--;
	to->live += s->len;
	to->slices++;
	to->size = ks_max(to->size, mv->to_off + s->len);
	mv->moved = true;
}

void ks_pack_share_write(struct ks_txn *t, struct ks_meta *m, const struct ks_pack_share *s,
			 bool found)
{
	struct ks_rec_pack p = { .id = s->p.id, .session = atomic_load(&m->session) };

	if (found) {
		const struct ks_upd u[] = { KS_UPD_COL(pack, size, KS_UPD_MAX, s->size),
					    KS_UPD_COL(pack, live, KS_UPD_ADD, s->live),
					    KS_UPD_COL(pack, slices, KS_UPD_ADD, s->slices) };

		ks_txn_update(t, KS_T_PACK, &p, u, 3);
	} else if (s->slices > 0) {
		p.size = s->size;
		p.live = (uint64_t)s->live;
		p.slices = (uint64_t)s->slices;
		ks_txn_insert(t, KS_T_PACK, &p);
	}
}

static int move_body(struct ks_txn *t, void *arg)
{
	struct move_arg *a = arg;
	struct ks_arena *mem = ks_txn_arena(t);
	struct ks_rec_slice *s = ks_arena_alloc(mem, a->n * sizeof(*s));
	struct ks_read *rd = ks_arena_alloc(mem, 3 * a->n * sizeof(*rd));
	int r;

	a->sh = ks_arena_alloc(mem, 2 * a->n * sizeof(*a->sh));
	a->nsh = 0;
	if (!s || !rd || !a->sh)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++) {
		a->v[i].moved = false;
		s[i] = (struct ks_rec_slice){ .id = a->v[i].slice };
		rd[i] = (struct ks_read){ .table = KS_T_SLICE, .rec = &s[i] };
		ks_pack_share_add(a->sh, &a->nsh, a->v[i].pack);
		ks_pack_share_add(a->sh, &a->nsh, a->v[i].to_pack);
	}
	for (size_t i = 0; i < a->nsh; i++)
		rd[a->n + i] = (struct ks_read){ .table = KS_T_PACK,
						 .flags = KS_READ_WEAK,
						 .rec = &a->sh[i].p };
	r = ks_txn_read(t, rd, a->n + a->nsh);
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		if (rd[i].found && s[i].status == KS_SLICE_COMMITTED && s[i].pack == a->v[i].pack &&
		    s[i].pack_off == a->v[i].off)
			move_one(t, a, &a->v[i], &s[i]);
	}
	for (size_t i = 0; r == 0 && i < a->nsh; i++) {
		if (a->sh[i].slices || a->sh[i].size)
			ks_pack_share_write(t, a->m, &a->sh[i], rd[a->n + i].found);
	}
	return r;
}

int ks_meta_slices_move(struct ks_meta *m, struct ks_slice_move *v, size_t n)
{
	int r = 0;

	for (size_t i = 0; i < n; i++)
		v[i].moved = false;
	for (size_t i = 0; r == 0 && i < n; i += BATCH) {
		struct move_arg a = { .v = v + i, .n = ks_min(n - i, (size_t)BATCH), .m = m };

		r = ks_meta_run(m, move_body, &a);
	}
	return r;
}
