/* SPDX-License-Identifier: Apache-2.0 */
/*
 * packs.c: the space of deleted small files comes back.
 *
 * A pack is idle when nobody will append to it: its session is dead, or it is this process's and out of use (data.h). An idle pack in which no slice lies
 * is dropped: its record, then, when that is durable, its object. One with little alive in it is rewritten: it is read from its beginning, the slices
 * that still live there are copied to the current pack, and when the copies are durable the metadata names those; then it is dropped like any other.
 *
 * Whoever dies in between, or does the same at the same time, leaves at worst bytes that nothing names: at the end of a pack, which the next rewriting
 * leaves out, or an object without a record, which kiseki-gc deletes. Readers with an older map meet a missing object and ask again (data/reader.c).
 */
#include "base/array.h"
#include "data/block.h"
#include "vfs/internal.h"

#include <stdlib.h>
#include <string.h>

#define LOOK 64u                 /* packs of one step */
#define REWRITE_MIN (1 * KS_MIB) /* smaller ones wait until they are dead */
#define RETIRE_MIN (32 * KS_MIB) /* the current pack goes on in a new one when little of it lives */
#define PIECE ((size_t)4 * KS_MIB) /* read, copied and moved together */
#define BATCH 256u                 /* records of one look-up and one append */

/* Records of one piece that lie one behind the other. */
struct part {
	struct ks_pack_head h[BATCH];
	size_t at[BATCH]; /* in the piece */
	uint64_t ids[BATCH];
	struct ks_slice_place place[BATCH];
	size_t n;
};

struct piece {
	struct ks_vfs *v;
	uint8_t *buf; /* PIECE, and room for one padding */
	size_t n;     /* bytes read */
	size_t done;  /* of them, whole records */
	struct part part;
	struct ks_pack_log *to; /* NULL until something lives */
	uint64_t to_id;
	struct ks_slice_move *moves;
	size_t nmoves, cap;
};

static bool left_alone(const struct ks_packs *p, uint64_t id)
{
	for (unsigned int i = 0; i < ks_min(p->nalone, (unsigned int)KS_PACKS_ALONE); i++) {
		if (p->alone[i] == id)
			return true;
	}
	return false;
}

static void leave_alone(struct ks_packs *p)
{
	p->alone[p->nalone % KS_PACKS_ALONE] = p->id;
	/* Beyond the ring's size only the place in it counts. */
	p->nalone = p->nalone + 1 < 2 * KS_PACKS_ALONE ? p->nalone + 1 : KS_PACKS_ALONE;
	p->id = 0;
}

/* ---- dropping ---- */

static int drop(struct ks_vfs *v, uint64_t id, uint64_t size)
{
	char name[KS_KEY_STR];
	const char *key = name;
	bool dropped;
	int r = ks_meta_pack_drop(v->meta, id, &dropped);

	if (r < 0 || !dropped)
		return r;
	/* If this or the deletion fails, the object is an orphan. */
	r = ks_meta_sync(v->meta);
	ks_pack_key(name, id);
	if (r == 0)
		r = ks_object_del(v->store, &key, 1);
	v->packs.gain.packs += r == 0;
	v->packs.gain.bytes += r == 0 ? size : 0;
	return r;
}

/* ---- rewriting ---- */

/* The next whole record of the piece. 1: it is in the part; 0: none here; -EBADMSG. */
static int take_record(struct piece *c, const struct ks_packs *p)
{
	struct part *b = &c->part;
	struct ks_pack_head *h = &b->h[b->n];
	size_t left = c->n - c->done;
	int r;

	if (p->off + c->done >= p->end || left < KS_PACK_HEADER_SIZE)
		return 0;
	r = ks_pack_open_head(c->buf + c->done, h);
	if (r < 0)
		return r;
	if (left < KS_PACK_HEADER_SIZE + h->len)
		return 0;
	b->at[b->n] = c->done;
	b->ids[b->n++] = h->slice;
	c->done += ks_round_up(KS_PACK_HEADER_SIZE + (size_t)h->len, KS_PACK_ALIGN);
	return 1;
}

static bool is_live(const struct ks_packs *p, const struct part *b, size_t i)
{
	return b->place[i].pack == p->id &&
	       b->place[i].pack_off == p->off + b->at[i] + KS_PACK_HEADER_SIZE;
}

/* Is it what the metadata says it is? */
static int check_record(const struct piece *c, const struct ks_packs *p, size_t i)
{
	const struct ks_slice_place *s = &c->part.place[i];
	const uint8_t *data = c->buf + c->part.at[i] + KS_PACK_HEADER_SIZE;
	uint32_t k;

	if (c->part.h[i].len != s->len)
		return ks_fail(-EBADMSG, "slice %ju has another length in pack %ju",
			       (uintmax_t)s->slice, (uintmax_t)p->id);
	k = ks_pages_unlike(data, s->len, s->sums);
	if (k < ks_pages_of(s->len))
		return ks_fail(-EBADMSG, "slice %ju page %u: wrong checksum in pack %ju",
			       (uintmax_t)s->slice, k, (uintmax_t)p->id);
	return 0;
}

/* Copies what lives of the part. */
static int copy_part(struct piece *c, const struct ks_packs *p)
{
	struct part *b = &c->part;
	struct ks_slice_move *m;
	struct iovec iov[BATCH];
	uint64_t off;
	int n = 0;
	int r = ks_meta_pack_slices(c->v->meta, b->ids, b->n, b->place);

	if (r == 0)
		r = ks_array_reserve(&c->moves, c->nmoves, &c->cap, BATCH);
	m = c->moves + c->nmoves;
	for (size_t i = 0; r == 0 && i < b->n; i++) {
		size_t len = KS_PACK_HEADER_SIZE + (size_t)b->h[i].len;

		if (!is_live(p, b, i))
			continue;
		r = check_record(c, p, i);
		m[n] = (struct ks_slice_move){ .slice = b->ids[i],
					       .pack = p->id,
					       .off = b->place[i].pack_off };
		iov[n++] = (struct iovec){ c->buf + b->at[i], ks_round_up(len, KS_PACK_ALIGN) };
	}
	if (r == 0 && n && !c->to)
		r = ks_data_pack_begin(c->v->data, &c->to, &c->to_id);
	if (r == 0 && n)
		r = ks_data_pack_add(c->v->data, c->to, iov, n, &off);
	for (int i = 0; r == 0 && i < n; i++) {
		m[i].to_pack = c->to_id;
		m[i].to_off = off + KS_PACK_HEADER_SIZE;
		c->v->packs.gain.copied += iov[i].iov_len;
		off += iov[i].iov_len;
		c->nmoves++;
	}
	return r;
}

static int read_piece(struct piece *c, const struct ks_packs *p)
{
	char key[KS_KEY_STR];
	struct iovec iov = { c->buf, PIECE };
	ssize_t n;

	ks_pack_key(key, p->id);
	n = ks_object_get(c->v->store, key, p->off, &iov, 1);
	if (n < 0)
		return (int)n;
	c->n = (size_t)n;
	memset(c->buf + c->n, 0, KS_PACK_ALIGN);
	return 0;
}

/* From p->off on; p->off moves behind what was dealt with. */
static int rewrite_piece(struct piece *c, struct ks_packs *p)
{
	int r = read_piece(c, p);
	int more = 1;

	c->done = 0;
	c->nmoves = 0;
	while (r == 0 && more > 0) {
		c->part.n = 0;
		while (c->part.n < BATCH && (more = take_record(c, p)) > 0)
			;
		r = ks_min(more, 0);
		if (r == 0 && c->part.n)
			r = copy_part(c, p);
	}
	if (r == 0 && c->done == 0)
		r = ks_fail(-EBADMSG, "pack %ju is cut short at byte %ju", (uintmax_t)p->id,
			    (uintmax_t)p->off);
	if (r == 0 && c->nmoves)
		r = ks_store_sync(c->v);
	if (r == 0 && c->nmoves)
		r = ks_meta_slices_move(c->v->meta, c->moves, c->nmoves);
	if (r == 0)
		p->off += c->done;
	return r;
}

/* 1: the budget is used up; 0: done with this pack. */
static int rewrite(struct ks_vfs *v, uint64_t budget)
{
	struct ks_packs *p = &v->packs;
	struct piece *c = calloc(1, sizeof(*c));
	uint64_t id = p->id, from = p->off;
	int r = 0;

	if (c)
		*c = (struct piece){ .v = v, .buf = malloc(PIECE + KS_PACK_ALIGN) };
	if (!c || !c->buf)
		r = -ENOMEM;
	while (r == 0 && p->off < p->end && p->off - from < budget) {
		r = rewrite_piece(c, p);
		/* Only while it is held cannot the target be dropped before the move. */
		if (c->to)
			ks_data_pack_end(c->to);
		c->to = NULL;
	}
	if (r == -EBADMSG || r == -ENOENT) {
		/* A missing one another process may just have dropped. */
		if (r == -EBADMSG)
			ks_log(KS_LOG_WARN,
			       "pack %ju is damaged and stays as it is: run kiseki-fsck",
			       (uintmax_t)id);
		leave_alone(p);
		r = 0;
	} else if (r == 0 && p->off >= p->end) {
		/* What is still counted waits to be freed. */
		leave_alone(p);
		r = ks_meta_sync(v->meta);
		r = r < 0 ? r : drop(v, id, p->end);
	} else if (r == 0) {
		r = 1;
	} else {
		p->id = 0; /* others have their turn; this one in the next round */
	}
	if (c) {
		free(c->moves);
		free(c->buf);
	}
	free(c);
	return r;
}

/* ---- which ---- */

static bool little_lives(const struct ks_pack_info *i)
{
	return i->live < i->size / 4;
}

static bool is_idle(struct ks_vfs *v, const struct ks_pack_info *i)
{
	/* A living session's packs are its own process's business. */
	return !(i->alive && i->session != ks_meta_session_id(v->meta)) &&
	       !ks_data_pack_in_use(v->data, i->id);
}

/* The current pack, if it is hardly worth appending to: it is dealt with when nobody uses it any more. */
static void retire(struct ks_vfs *v, const struct ks_pack_info *i)
{
	if (i->id == ks_data_pack_current(v->data) && i->size >= REWRITE_MIN &&
	    (i->slices == 0 || (i->size >= RETIRE_MIN && little_lives(i))))
		ks_data_pack_retire(v->data, i->id);
}

static int look_at(struct ks_vfs *v, const struct ks_pack_info *i)
{
	struct ks_packs *p = &v->packs;
	struct ks_pack_info now;
	ssize_t n;

	retire(v, i);
	if (!is_idle(v, i))
		return 0;
	if (i->slices == 0)
		return drop(v, i->id, i->size);
	if (!ks_data_has_packs(v->data) || i->size < REWRITE_MIN || !little_lives(i) ||
	    left_alone(p, i->id))
		return 0;
	/* What was committed between the listing and the last use counts too. */
	n = ks_meta_packs(v->meta, i->id - 1, &now, 1);
	if (n <= 0 || now.id != i->id || !little_lives(&now))
		return (int)ks_min(n, (ssize_t)0);
	p->id = i->id;
	p->off = 0;
	p->end = now.size;
	return 0;
}

int ks_packs_step(struct ks_vfs *v, uint64_t budget)
{
	struct ks_packs *p = &v->packs;
	struct ks_pack_info list[LOOK];
	ssize_t n;
	int r = 0;

	if (p->id) {
		r = rewrite(v, budget);
		return r < 0 ? r : 1;
	}
	n = ks_meta_packs(v->meta, p->cursor, list, LOOK);
	if (n < 0)
		return (int)n;
	for (ssize_t i = 0; r == 0 && !p->id && i < n; i++) {
		r = look_at(v, &list[i]);
		p->cursor = list[i].id;
	}
	if (r == 0 && p->id) {
		r = rewrite(v, budget);
		return r < 0 ? r : 1;
	}
	if (r == 0 && n < (ssize_t)LOOK)
		p->cursor = 0;
	return r < 0 ? r : n == (ssize_t)LOOK;
}

/* ---- all of them, for a tool ---- */

static int preview(struct ks_vfs *v, struct ks_packs_gain *out)
{
	struct ks_pack_info list[LOOK];
	uint64_t after = 0;
	ssize_t n;

	do {
		n = ks_meta_packs(v->meta, after, list, LOOK);
		for (ssize_t i = 0; i < n; i++) {
			const struct ks_pack_info *p = &list[i];

			after = p->id;
			if (!is_idle(v, p) ||
			    (p->slices && (p->size < REWRITE_MIN || !little_lives(p))))
				continue;
			out->packs++;
			out->bytes += p->size;
			out->copied += p->live;
		}
	} while (n == (ssize_t)LOOK);
	return (int)ks_min(n, (ssize_t)0);
}

int ks_vfs_packs_reclaim(struct ks_vfs *v, bool dry_run, bool (*stop)(void *arg), void *arg,
			 struct ks_packs_gain *out)
{
	int r = 1;

	*out = (struct ks_packs_gain){ 0 };
	if (dry_run)
		return preview(v, out);
	v->packs.gain = *out;
	while (r > 0) {
		r = stop && stop(arg) ? -EINTR : ks_packs_step(v, PIECE);
	}
	*out = v->packs.gain;
	return r;
}
