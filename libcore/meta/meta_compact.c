/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_compact.c: a chunk of many extents becomes one of few, and its bytes stay what they are.
 *
 * Slices never change: so bytes that were copied from (slice, offset) to a new slice may stand for them wherever the chunk still shows that slice
 * and offset, whatever was committed, cut or shared meanwhile. The transaction compares what the chunk shows now with what was copied, piece by piece, and takes
 * the new slice only where they agree. All that is visible is then written as pieces that do not overlap: these need no order among themselves, and take the numbers
 * of extents that go, which are smaller than those of any commit to come.
 *
 * Neither the content nor the inode changes, and the change counter stays: maps that others have cached name slices that are freed now, and are
 * forgotten before those are deleted, as always (meta_delete.c).
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <stdlib.h>

/* ---- what is visible ---- */

/*
 * The map of the rows; in pack_off each piece has the index of the row it is of. Pieces of two rows are two, also where they are neighbours of one slice.
 * @sums: where checksums go that the pieces are to have; NULL: they need none.
 */
static int rows_map(const struct ks_row *v, uint32_t n, struct ks_arena *sums,
		    struct ks_chunk_map **out)
{
	struct ks_extent *l = malloc((n + 1) * sizeof(*l));
	int r = l ? 0 : -ENOMEM;

	for (uint32_t i = 0; r == 0 && i < n; i++) {
		l[i] = (struct ks_extent){ .pos = v[i].e.pos,
					   .len = v[i].e.len,
					   .slice = v[i].e.slice ? i + 1 : 0,
					   .off = v[i].e.off,
					   .slice_len = v[i].s.len,
					   .block_size = v[i].s.block_size,
					   .pack = v[i].s.pack,
					   .pack_off = i };
		if (sums && v[i].e.slice)
			r = ks_slice_sums(sums, &v[i].s, &l[i].sums);
	}
	if (r == 0)
		r = ks_chunk_map_build(l, n, out);
	free(l);
	for (uint32_t i = 0; r == 0 && i < (*out)->n; i++) {
		struct ks_extent *e = &(*out)->e[i];
		const struct ks_rec_slice *s = &v[e->pack_off].s;

		e->slice = v[e->pack_off].e.slice;
		if (s->id == e->slice && e->off <= s->len && e->len <= s->len - e->off)
			continue;
		ks_chunk_map_free(*out);
		*out = NULL;
		r = -EBADMSG;
	}
	return r;
}

static int fail_damaged(uint64_t ino, uint64_t chunk)
{
	return ks_fail_hint(-EBADMSG, "run kiseki-fsck",
			    "chunk %ju of inode %ju refers to a slice that is missing or damaged",
			    (uintmax_t)chunk, (uintmax_t)ino);
}

/*
 * Which rows cannot simply go: those that show, and holes that hide older ones which show elsewhere. Returns how many.
 */
static uint32_t mark_needed(const struct ks_row *v, uint32_t n, const struct ks_chunk_map *map,
			    bool *needed)
{
	uint32_t count = 0;

	memset(needed, 0, n * sizeof(*needed));
	for (uint32_t k = 0; k < map->n; k++)
		needed[map->e[k].pack_off] = true;
	for (uint32_t i = 0; i < n; i++) {
		const struct ks_rec_extent *h = &v[i].e;

		for (uint32_t k = 0; !h->slice && !needed[i] && k < i; k++)
			needed[i] = v[k].e.slice && needed[k] && v[k].e.pos < h->pos + h->len &&
				    h->pos < v[k].e.pos + v[k].e.len;
		count += needed[i];
	}
	return count;
}

/* Neighbours of one slice become one piece. */
static void merge_pieces(struct ks_chunk_map *m)
{
	uint32_t k = 0;

	for (uint32_t i = 0; i < m->n; i++) {
		struct ks_extent *last = k ? &m->e[k - 1] : NULL;
		const struct ks_extent *e = &m->e[i];

		if (last && last->slice == e->slice && last->pos + last->len == e->pos &&
		    last->off + last->len == e->off)
			last->len += e->len;
		else
			m->e[k++] = *e;
	}
	m->n = k;
}

/* ---- looking ---- */

/* A slice of the chunk. */
struct part {
	const struct ks_rec_slice *s;
	uint64_t rows, live; /* extents of this chunk; bytes that show */
	uint32_t pieces;     /* that show */
};

static int part_order(const void *a, const void *b)
{
	const struct part *x = a;
	const struct part *y = b;

	return x->s->id < y->s->id ? -1 : x->s->id > y->s->id;
}

static struct part *part_find(struct part *v, uint32_t n, uint64_t slice)
{
	struct ks_rec_slice s = { .id = slice };
	struct part key = { .s = &s };

	return bsearch(&key, v, n, sizeof(*v), part_order);
}

/* One part per slice; returns how many. */
static uint32_t parts_of(const struct ks_row *v, uint32_t n, struct part *p)
{
	uint32_t k = 0, last = 0;

	for (uint32_t i = 0; i < n; i++) {
		if (v[i].s.id)
			p[k++] = (struct part){ .s = &v[i].s, .rows = 1 };
	}
	if (k)
		qsort(p, k, sizeof(*p), part_order);
	for (uint32_t i = 1; i < k; i++) {
		if (p[i].s->id == p[last].s->id)
			p[last].rows++;
		else
			p[++last] = p[i];
	}
	return k ? last + 1 : 0;
}

static bool is_sole(const struct part *p)
{
	return p->s->refs == p->rows;
}

static bool is_dead(const struct part *p)
{
	return is_sole(p) && p->live < p->s->len / 2;
}

static int look_parts(struct ks_chunk_look *o, const struct ks_row *v, uint32_t n)
{
	struct part *p = calloc(n + 1, sizeof(*p));
	uint32_t k;

	if (!p)
		return -ENOMEM;
	k = parts_of(v, n, p);
	for (uint32_t i = 0; i < o->map->n; i++) {
		struct part *x = part_find(p, k, o->map->e[i].slice);

		x->live += o->map->e[i].len;
		x->pieces++;
	}
	o->slices = k;
	for (uint32_t i = 0; i < k; i++) {
		o->light_slices += p[i].live > 0;
		if (!is_sole(&p[i]))
			continue;
		o->stored += p[i].s->len;
		o->hidden += p[i].live ? 0 : p[i].s->len;
		o->wasted += p[i].live && is_dead(&p[i]) ? p[i].s->len - p[i].live : 0;
	}
	for (uint32_t i = 0; i < o->map->n; i++) {
		const struct part *x = part_find(p, k, o->map->e[i].slice);

		o->is[i] = (is_dead(x) ? KS_PIECE_DEAD : 0) | (x->pieces == 1 ? KS_PIECE_ALONE : 0);
	}
	free(p);
	return 0;
}

int ks_meta_chunk_look(struct ks_meta *m, ks_ino_t ino, uint64_t chunk, struct ks_chunk_look *out)
{
	struct ks_arena a = { 0 };
	struct ks_rows rows = { 0 };
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, ino, 0);
	struct ks_scan s = ks_rows_scan(&rows, &a, ino, chunk, chunk, false, 0);
	bool *needed = NULL;
	int r = ks_engine_fetch(m->e, &rd, 1, &s, 1, &a);

	*out = (struct ks_chunk_look){ 0 };
	if (r == 0 && (!rd.found || n.nlink == 0))
		r = -ENOENT;
	if (r == 0)
		r = rows_map(rows.v, rows.n, &a, &out->map);
	if (r == 0) {
		out->rows = rows.n;
		out->is = calloc(out->map->n + 1, sizeof(*out->is));
		needed = calloc(rows.n + 1, sizeof(*needed));
		r = out->is && needed ? 0 : -ENOMEM;
	}
	if (r == 0) {
		out->light = mark_needed(rows.v, rows.n, out->map, needed);
		merge_pieces(out->map);
		out->light = ks_min(out->light, out->map->n);
		r = look_parts(out, rows.v, rows.n);
	}
	/* Now the pieces are to say where their bytes are. */
	for (uint32_t i = 0; r == 0 && i < out->map->n; i++)
		out->map->e[i].pack_off = rows.v[out->map->e[i].pack_off].s.pack_off;
	if (r == 0)
		out->map->change = n.change;
	free(needed);
	ks_arena_clear(&a);
	if (r < 0)
		ks_chunk_look_clear(out);
	return r == -EBADMSG ? fail_damaged(ino, chunk) : r;
}

void ks_chunk_look_clear(struct ks_chunk_look *l)
{
	ks_chunk_map_free(l->map);
	free(l->is);
	*l = (struct ks_chunk_look){ 0 };
}

/* ---- weaving ---- */

/* A piece of what the chunk will be. */
struct woven {
	uint32_t pos, len, off;
	bool is_new;
	uint32_t of; /* new: which slice; else: which row */
};

struct weave {
	const struct ks_compact *c;
	const struct ks_row *rows;
	struct ks_arena *a;
	struct woven *v;
	size_t n, cap;
	size_t at_new;    /* the first copied range that ends behind the place */
	uint32_t at_seen; /* the first piece of what was copied that does */
};

static int weave_add(struct weave *w, struct woven x)
{
	struct woven *last = w->n ? &w->v[w->n - 1] : NULL;
	bool same = last && last->is_new == x.is_new &&
		    (x.is_new ? last->of == x.of : w->rows[last->of].s.id == w->rows[x.of].s.id);

	if (same && last->pos + last->len == x.pos && last->off + last->len == x.off) {
		last->len += x.len;
		return 0;
	}
	if (ks_arena_room(w->a, &w->v, w->n, &w->cap) < 0)
		return -ENOMEM;
	w->v[w->n++] = x;
	return 0;
}

/* The piece from @at on, up to where the answer may be another. */
static struct woven weave_at(struct weave *w, const struct ks_extent *e, uint32_t at)
{
	const struct ks_compact *c = w->c;
	uint32_t end = e->pos + e->len;
	struct woven old = { .pos = at,
			     .off = e->off + (at - e->pos),
			     .of = (uint32_t)e->pack_off };
	const struct ks_copied *s;
	const struct ks_extent *q;

	while (w->at_new < c->nv && c->v[w->at_new].pos + c->v[w->at_new].len <= at)
		w->at_new++;
	while (w->at_seen < c->seen->n &&
	       c->seen->e[w->at_seen].pos + c->seen->e[w->at_seen].len <= at)
		w->at_seen++;
	s = w->at_new < c->nv ? &c->v[w->at_new] : NULL;
	q = w->at_seen < c->seen->n ? &c->seen->e[w->at_seen] : NULL;
	if (s)
		end = ks_min(end, s->pos > at ? s->pos : s->pos + s->len);
	if (q)
		end = ks_min(end, q->pos > at ? q->pos : q->pos + q->len);
	old.len = end - at;
	if (!s || s->pos > at || !q || q->pos > at || q->slice != e->slice ||
	    q->off + (at - q->pos) != old.off)
		return old;
	return (struct woven){
		.pos = at, .len = old.len, .off = s->off + (at - s->pos), .is_new = true, .of = s->s
	};
}

static int weave(struct weave *w, const struct ks_chunk_map *now)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < now->n; i++) {
		const struct ks_extent *e = &now->e[i];

		for (uint32_t at = e->pos; r == 0 && at < e->pos + e->len;) {
			struct woven x = weave_at(w, e, at);

			r = weave_add(w, x);
			at += x.len;
		}
	}
	return r;
}

/* ---- counting slices ---- */

static int id_order(const void *a, const void *b)
{
	const uint64_t *x = a;
	const uint64_t *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* How many different ones, but for 0. */
static uint32_t count_ids(uint64_t *v, uint32_t n)
{
	uint32_t count = 0;

	if (n)
		qsort(v, n, sizeof(*v), id_order);
	for (uint32_t i = 0; i < n; i++)
		count += v[i] && (i == 0 || v[i] != v[i - 1]);
	return count;
}

/* ---- writing ---- */

struct compact_arg {
	struct ks_meta *m;
	struct ks_compact *c;
	int64_t now;
};

struct run {
	struct compact_arg *a;
	struct ks_rows rows;
	struct ks_rec_counter epoch;
	struct ks_refs refs;
	struct ks_pack_share *packs;
	size_t npacks;
	struct ks_chunk_map *now;
	bool *keep;    /* of each row */
	uint64_t *ids; /* room for one of each row */
};

static bool is_whole_row(const struct run *u, const struct woven *x)
{
	const struct ks_rec_extent *e = x->is_new ? NULL : &u->rows.v[x->of].e;

	return e && x->pos == e->pos && x->len == e->len && x->off == e->off;
}

static int drop_rows(struct ks_txn *t, struct run *u)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < u->rows.n; i++) {
		if (u->keep[i])
			continue;
		ks_txn_del(t, KS_T_EXTENT, &u->rows.v[i].e);
		r = ks_refs_add(&u->refs, &u->rows.v[i].s, -1);
	}
	return r;
}

static int write_new(struct ks_txn *t, struct run *u, const uint64_t *refs)
{
	struct ks_compact *c = u->a->c;
	int r = 0;

	for (size_t i = 0; r == 0 && i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];

		c->used[i] = refs[i] > 0;
		if (!refs[i])
			continue;
		r = ks_slice_records(t, u->a->m, s, refs[i], u->a->now);
		if (s->pack) {
			struct ks_pack_share *p = ks_pack_share_add(u->packs, &u->npacks, s->pack);

			p->live += s->len;
			p->slices++;
			p->size = ks_max(p->size, s->pack_off + s->len);
		}
	}
	return r;
}

/* The chunk consists of @w's pieces from now on. */
static int replace(struct ks_txn *t, struct run *u, const struct weave *w)
{
	struct ks_compact *c = u->a->c;
	uint64_t *refs = ks_arena_alloc(u->refs.a, (c->n + 1) * sizeof(*refs));
	uint32_t free_seq = 0;
	int r;

	if (!refs)
		return -ENOMEM;
	memset(refs, 0, (c->n + 1) * sizeof(*refs));
	for (uint32_t i = 0; i < w->n; i++) {
		if (is_whole_row(u, &w->v[i]))
			u->keep[w->v[i].of] = true;
	}
	r = drop_rows(t, u);
	for (uint32_t i = 0; r == 0 && i < w->n; i++) {
		const struct woven *x = &w->v[i];
		struct ks_rec_extent e = { .ino = c->ino,
					   .chunk = c->chunk,
					   .pos = x->pos,
					   .len = x->len,
					   .off = x->off };

		if (is_whole_row(u, x))
			continue;
		/* There are at least as many rows that go as pieces that come. */
		while (u->keep[free_seq])
			free_seq++;
		e.seq = u->rows.v[free_seq++].e.seq;
		e.slice = x->is_new ? c->s[x->of].slice : u->rows.v[x->of].s.id;
		ks_txn_insert(t, KS_T_EXTENT, &e);
		if (x->is_new)
			refs[x->of]++;
		else
			r = ks_refs_add(&u->refs, &u->rows.v[x->of].s, 1);
	}
	if (r == 0)
		r = write_new(t, u, refs);
	for (uint32_t i = 0; i < w->n; i++)
		u->ids[i] = w->v[i].is_new ? c->s[w->v[i].of].slice : u->rows.v[w->v[i].of].s.id;
	c->after = w->n;
	c->slices_after = count_ids(u->ids, w->n);
	return r;
}

/* Only what is hidden goes. */
static int lighten(struct ks_txn *t, struct run *u)
{
	uint32_t n = mark_needed(u->rows.v, u->rows.n, u->now, u->keep);

	if (n == u->rows.n)
		return 0;
	for (uint32_t i = 0; i < u->rows.n; i++)
		u->ids[i] = u->keep[i] ? u->rows.v[i].s.id : 0;
	u->a->c->after = n;
	u->a->c->slices_after = count_ids(u->ids, u->rows.n);
	return drop_rows(t, u);
}

static int compact_run(struct ks_txn *t, struct run *u)
{
	struct ks_compact *c = u->a->c;
	struct weave w = { .c = c, .rows = u->rows.v, .a = u->refs.a };
	uint32_t used = 0;
	int r = weave(&w, u->now);

	for (uint32_t i = 0; r == 0 && i < w.n; i++)
		used += w.v[i].is_new;
	if (r < 0)
		return r;
	u->keep = ks_arena_alloc(u->refs.a, u->rows.n * sizeof(*u->keep) + 1);
	u->ids = ks_arena_alloc(u->refs.a, (u->rows.n + 1) * sizeof(*u->ids));
	if (!u->keep || !u->ids)
		return -ENOMEM;
	for (uint32_t i = 0; i < u->rows.n; i++)
		u->ids[i] = u->rows.v[i].s.id;
	c->slices_before = c->slices_after = count_ids(u->ids, u->rows.n);
	memset(u->keep, 0, u->rows.n * sizeof(*u->keep));
	/* Dropping costs least, where copying has nothing to add. */
	if ((used && w.n <= u->rows.n) ||
	    w.n < mark_needed(u->rows.v, u->rows.n, u->now, u->keep)) {
		memset(u->keep, 0, u->rows.n * sizeof(*u->keep));
		return replace(t, u, &w);
	}
	return lighten(t, u);
}

static int compact_body(struct ks_txn *t, void *arg)
{
	struct compact_arg *a = arg;
	struct ks_compact *c = a->c;
	struct run u = { .a = a, .refs = { .a = ks_txn_arena(t) } };
	struct ks_read *rd = ks_arena_alloc(u.refs.a, (c->n + 2) * sizeof(*rd));
	struct ks_rec_inode node;
	struct ks_scan s = ks_rows_scan(&u.rows, u.refs.a, c->ino, c->chunk, c->chunk, false, 0);
	uint32_t above;
	int r;

	u.packs = ks_arena_alloc(u.refs.a, (c->n + 1) * sizeof(*u.packs));
	if (!rd || !u.packs)
		return -ENOMEM;
	for (size_t i = 0; i < c->n; i++) {
		c->used[i] = false;
		if (c->s[i].pack)
			ks_pack_share_add(u.packs, &u.npacks, c->s[i].pack);
	}
	rd[0] = ks_read_inode(&node, c->ino, 0);
	rd[1] = ks_read_counter(&u.epoch, KS_CNT_EPOCH, 0);
	for (size_t i = 0; i < u.npacks; i++)
		rd[2 + i] = (struct ks_read){ .table = KS_T_PACK,
					      .flags = KS_READ_WEAK,
					      .rec = &u.packs[i].p };
	r = ks_txn_fetch(t, rd, 2 + u.npacks, &s, 1);
	if (r == 0 && (!rd[0].found || node.nlink == 0))
		r = -ENOENT;
	/* What is not on the disk yet stays, and so does all that came after it; what lies below is made simpler for itself. */
	above = u.rows.n;
	u.rows.n = r == 0 ? (uint32_t)ks_rows_durable(a->m, u.rows.v, u.rows.n) : 0;
	above -= u.rows.n;
	if (r == 0)
		r = rows_map(u.rows.v, u.rows.n, NULL, &u.now);
	c->before = c->after = u.rows.n;
	c->slices_before = c->slices_after = 0;
	if (r == 0)
		r = compact_run(t, &u);
	c->before += above;
	c->after += above;
	ks_chunk_map_free(u.now);
	if (r < 0)
		return r;
	for (size_t i = 0; i < u.npacks; i++) {
		if (u.packs[i].slices)
			ks_pack_share_write(t, a->m, &u.packs[i], rd[2 + i].found);
	}
	ks_refs_apply(t, &u.refs, (uint64_t)u.epoch.value, a->now);
	return 0;
}

int ks_meta_compact(struct ks_meta *m, struct ks_compact *c)
{
	struct compact_arg a = { .m = m, .c = c, .now = ks_clock_real_ns() };
	int r = ks_meta_run(m, compact_body, &a);

	for (size_t i = 0; r < 0 && i < c->n; i++)
		c->used[i] = false;
	return r == -EBADMSG ? fail_damaged(c->ino, c->chunk) : r;
}
