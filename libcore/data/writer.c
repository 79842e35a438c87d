/* SPDX-License-Identifier: Apache-2.0 */
/*
 * writer.c: from a write to slices.
 *
 * A write locks its byte range, and is cut into pieces of at most 1 MiB. A piece takes its slices in hand (slice.writers) and all its memory without ever
 * waiting in between; when the pool is out it gives everything back, waits, and starts over. So a slice in a writer's hand is always about to
 * be let go, a flush may wait for that, and a piece happens as a whole or not at all.
 */
#include "base/array.h"
#include "data/data_internal.h"

struct part {
	struct slice *s;
	uint64_t chunk;
	uint32_t pos; /* within the chunk */
	uint32_t n;
	const uint8_t *p;
	struct slice_room room;
};

/* Needs f->mu. */
static void freeze(struct ks_file *f, struct fchunk *c, struct slice *s)
{
	if (!s->frozen) {
		s->frozen = true;
		f->nopen--;
	}
	while (c->first_open < c->n && c->v[c->first_open].s->frozen)
		c->first_open++;
}

/* Needs f->mu. */
static void freeze_oldest(struct ks_file *f, struct fchunk *c)
{
	unsigned int open = 0;

	for (uint32_t i = c->first_open; i < c->n; i++)
		open += !c->v[i].s->frozen;
	if (open > f->d->o.open_slices)
		freeze(f, c, c->v[c->first_open].s);
}

void ks_freeze_all(struct ks_file *f)
{
	struct ks_list *at = f->slices.prev;

	while (f->nopen) {
		struct slice *s = ks_list_entry(at, struct slice, link);

		at = at->prev;
		if (!s->frozen)
			freeze(f, ks_fchunk_get(f, s->chunk, false), s);
	}
}

/* Needs f->mu. */
static struct slice *add_slice(struct ks_file *f, struct fchunk *c, uint32_t pos)
{
	struct slice *s;

	if (ks_array_room(&c->v, c->n, &c->cap) < 0)
		return NULL;
	s = ks_slice_new(f->d, f->ino, c->node.key, pos);
	if (!s)
		return NULL;
	s->seq = ++f->seq;
	if (ks_list_is_empty(&f->slices)) {
		f->first_ns = s->made_ns;
		f->last_ns = s->made_ns;
		ks_data_file_dirty(f);
	}
	ks_list_add_tail(&f->slices, &s->link);
	f->nslices++;
	f->nopen++;
	c->v[c->n++] = (struct dirty_ext){ .pos = pos, .end = pos, .s = s };
	freeze_oldest(f, c);
	return s;
}

/* Needs f->mu. The newest slice that can take the bytes without getting below a newer one that overlaps them. */
static struct slice *find_slice(const struct fchunk *c, uint32_t pos, uint32_t n)
{
	for (uint32_t i = c->n; i > c->first_open; i--) {
		const struct dirty_ext *x = &c->v[i - 1];

		if (!x->s->frozen && pos >= x->pos + x->s->sealed && pos <= x->end)
			return x->s;
		if (pos < x->end && pos + n > x->pos)
			return NULL;
	}
	return NULL;
}

/* Needs f->mu. */
static int take_in_hand(struct ks_file *f, struct part *pt)
{
	struct fchunk *c = ks_fchunk_get(f, pt->chunk, true);
	struct slice *s = c ? find_slice(c, pt->pos, pt->n) : NULL;

	if (c && !s)
		s = add_slice(f, c, pt->pos);
	if (!s)
		return -ENOMEM;
	if (s->writers++ == 0)
		ks_slice_set(s, SLICE_WRITING);
	pt->s = s;
	return 0;
}

/* Needs f->mu. Takes a slice that never got a byte out again. */
static void remove_empty(struct ks_file *f, struct slice *s)
{
	struct fchunk *c = ks_fchunk_get(f, s->chunk, false);
	uint32_t i = c->n;

	while (c->v[--i].s != s)
		;
	memmove(&c->v[i], &c->v[i + 1], (c->n - i - 1) * sizeof(*c->v));
	c->n--;
	if (i < c->first_open)
		c->first_open--;
	ks_list_del(&s->link);
	f->nslices--;
	f->nopen -= !s->frozen;
	ks_slice_set(s, SLICE_DONE);
	ks_slice_put(s);
	if (ks_list_is_empty(&f->slices))
		ks_data_file_clean(f);
}

/* Needs f->mu. */
static void let_go(struct ks_file *f, struct slice *s)
{
	if (--s->writers == 0) {
		ks_slice_set(s, s->len ? SLICE_DIRTY : SLICE_IDLE);
		if (s->len == 0)
			remove_empty(f, s);
	}
	ks_file_wake(f);
}

/* Takes slices and memory for all parts, or nothing. -EAGAIN: the pool is out. */
static int prepare(struct ks_file *f, struct part *pt, int n)
{
	int held = 0;
	int ready = 0;
	int r = 0;

	ks_mutex_lock(&f->mu);
	while (r == 0 && held < n) {
		r = take_in_hand(f, &pt[held]);
		held += r == 0;
	}
	ks_mutex_unlock(&f->mu);
	while (r == 0 && ready < n) {
		struct slice *s = pt[ready].s;

		r = ks_slice_prepare(s, pt[ready].pos - s->pos, pt[ready].n, &pt[ready].room);
		ready += r == 0;
	}
	if (r == 0)
		return 0;
	while (ready-- > 0)
		ks_slice_unprepare(pt[ready].s, &pt[ready].room);
	KS_LOCKED(&f->mu);
	while (held-- > 0)
		let_go(f, pt[held].s);
	return r;
}

/* Needs f->mu. Returns full blocks to upload, linked, each with a reference to its slice. */
static struct block *finish_part(struct ks_file *f, const struct part *pt)
{
	struct fchunk *c = ks_fchunk_get(f, pt->chunk, false);
	struct slice *s = pt->s;
	uint32_t len = pt->pos - s->pos + pt->n;
	struct block *list = NULL;
	struct block **end = &list;
	uint32_t i = c->n;

	while (c->v[--i].s != s)
		;
	if (len > s->len) {
		f->dirty_bytes += len - s->len;
		s->len = len;
		c->v[i].end = s->pos + len;
	}
	if (s->pos + s->len == KS_CHUNK_SIZE)
		freeze(f, c, s);
	/* What may still end up in a pack is not begun as blocks. */
	if (s->writers == 1 && !ks_pack_takes(s)) {
		/* Without memory for a block the flush makes it. */
		while (s->len - s->sealed >= f->d->o.block_size &&
		       (*end = ks_slice_seal(s, s->len))) {
			ks_slice_ref(s);
			end = &(*end)->next_new;
		}
	}
	let_go(f, s);
	return list;
}

static void finish(struct ks_file *f, struct part *pt, int n)
{
	struct block *made[2] = { NULL, NULL };
	uint64_t end = pt[n - 1].chunk * KS_CHUNK_SIZE + pt[n - 1].pos + pt[n - 1].n;
	bool many;

	ks_mutex_lock(&f->mu);
	for (int i = 0; i < n; i++)
		made[i] = finish_part(f, &pt[i]);
	if (end > f->size)
		f->size = end;
	f->mtime_ns = ks_clock_real_ns();
	f->last_ns = ks_clock_mono_ns();
	many = f->nslices >= KS_SLICES_SOON && !f->many;
	f->many |= many;
	ks_mutex_unlock(&f->mu);
	for (int i = 0; i < n; i++)
		ks_upload_queue(f->d, made[i]);
	if (many)
		ks_data_soon(f->d);
}

static int write_piece(struct ks_file *f, uint64_t off, const uint8_t *p, uint32_t n)
{
	struct ks_data *d = f->d;
	struct ks_pool_wait w = { 0 };
	struct part pt[2] = { 0 };
	uint32_t room = (uint32_t)(KS_CHUNK_SIZE - off % KS_CHUNK_SIZE);
	int parts = n > room ? 2 : 1;
	int r;

	pt[0].chunk = off / KS_CHUNK_SIZE;
	pt[0].pos = (uint32_t)(off % KS_CHUNK_SIZE);
	pt[0].n = ks_min(n, room);
	pt[0].p = p;
	if (parts == 2)
		pt[1] = (struct part){ .chunk = pt[0].chunk + 1, .n = n - room, .p = p + room };
	for (;;) {
		ks_pool_watch(d->pool, &w);
		r = prepare(f, pt, parts);
		if (r != -EAGAIN)
			break;
		do {
			/* What is on its way will free memory by itself. */
			if (ks_atomic_load(&d->uploading) == 0)
				ks_data_pressure(d);
			r = ks_pool_wait(d->pool, &w, n + 2 * KS_PAGE_SIZE, KS_TICK_NS,
					 d->give_up_ns);
		} while (r == -EAGAIN);
		if (r < 0)
			break;
	}
	if (r < 0)
		return r;
	for (int i = 0; i < parts; i++)
		ks_slice_fill(pt[i].s, pt[i].pos - pt[i].s->pos, pt[i].p, pt[i].n);
	finish(f, pt, parts);
	return 0;
}

int ks_file_write(struct ks_file *f, uint64_t off, const void *p, size_t n)
{
	uint64_t most =
		ks_min(KS_WRITE_PIECE, ks_round_down(ks_pool_write_max(f->d->pool) / 4, 4096));
	struct frange range = { .off = off, .end = off + n };
	const uint8_t *from = p;
	bool many;
	int r = 0;

	if (f->d->o.readonly)
		return -EROFS;
	if (n == 0)
		return 0;
	if (off > KS_FILE_MAX || n > KS_FILE_MAX - off)
		return -EFBIG;
	ks_mutex_lock(&f->mu);
	ks_range_lock(f, &range);
	many = f->nslices >= KS_SLICES_MAX;
	ks_mutex_unlock(&f->mu);
	if (many)
		r = ks_file_flush(f);
	while (r == 0 && n) {
		uint32_t m = (uint32_t)ks_min((uint64_t)n, most);

		r = write_piece(f, off, from, m);
		off += m;
		from += m;
		n -= m;
	}
	KS_LOCKED(&f->mu);
	ks_range_unlock(f, &range);
	return r;
}
