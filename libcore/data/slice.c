/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.c: a slice's memory. Pages are relative to the slice: page i holds its bytes from i * 64 KiB on, wherever it lies in the file.
 *
 * The first page starts as small as its bytes and doubles, so that a thousand small random writes do not take a thousand pages; later
 * pages are whole at once. The bytes below len are all there (a slice only grows at its end), so nothing is ever zeroed.
 */
#include "data/slice.h"
#include "data/data_internal.h"

static const uint8_t legal[SLICE_STATES] = {
	[SLICE_IDLE] = 1 << SLICE_WRITING | 1 << SLICE_DONE,
	[SLICE_WRITING] = 1 << SLICE_IDLE | 1 << SLICE_DIRTY,
	[SLICE_DIRTY] = 1 << SLICE_WRITING | 1 << SLICE_FLUSHING | 1 << SLICE_DONE,
	[SLICE_FLUSHING] = 1 << SLICE_COMMITTING | 1 << SLICE_DIRTY,
	[SLICE_COMMITTING] = 1 << SLICE_DONE | 1 << SLICE_DIRTY,
	[SLICE_DONE] = 0,
};

bool ks_slice_may(enum slice_state from, enum slice_state to)
{
	return legal[from] >> to & 1;
}

void ks_slice_set(struct slice *s, enum slice_state to)
{
	assert(ks_slice_may(s->state, to));
	s->state = to;
}

struct slice *ks_slice_new(struct ks_data *d, uint64_t ino, uint64_t chunk, uint32_t pos)
{
	struct slice *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->d = d;
	s->ino = ino;
	s->chunk = chunk;
	s->pos = pos;
	s->refs = 1;
	s->made_ns = ks_clock_mono_ns();
	s->mem = s->few_mem;
	s->sums = s->few_sums;
	s->npages = SLICE_FEW;
	ks_list_init(&s->link);
	ks_list_init(&s->numbered);
	ks_list_init(&s->blocks);
	pthread_mutex_init(&s->mu, NULL);
	pthread_cond_init(&s->cv, NULL);
	return s;
}

struct slice *ks_slice_ref(struct slice *s)
{
	ks_atomic_add(&s->refs, 1);
	return s;
}

void ks_slice_drop_memory(struct slice *s)
{
	for (uint32_t i = 0; i < s->npages; i++) {
		if (s->mem[i].p)
			ks_pool_put(s->d->pool, s->mem[i], KS_POOL_WRITE);
		s->mem[i] = (struct ks_mem){ 0 };
	}
}

void ks_slice_put(struct slice *s)
{
	struct block *b;
	struct block *tmp;

	if (!s || !ks_ref_put(&s->refs))
		return;
	ks_slice_drop_memory(s);
	ks_slice_unnumber(s);
	ks_pack_log_leave(s->in_pack);
	ks_list_foreach_safe (b, tmp, &s->blocks, struct block, link) {
		if (b != &s->few_block)
			free(b);
	}
	if (s->mem != s->few_mem) {
		free(s->mem);
		free(s->sums);
	}
	pthread_cond_destroy(&s->cv);
	pthread_mutex_destroy(&s->mu);
	free(s);
}

/* Needs s->mu. */
static int grow_tables(struct slice *s, uint32_t want)
{
	uint32_t n = s->npages;
	struct ks_mem *mem;
	uint32_t *sums;

	if (want <= n)
		return 0;
	while (n < want)
		n *= 4;
	mem = calloc(n, sizeof(*mem));
	sums = calloc(n, sizeof(*sums));
	if (!mem || !sums) {
		free(mem);
		free(sums);
		return -ENOMEM;
	}
	memcpy(mem, s->mem, s->npages * sizeof(*mem));
	memcpy(sums, s->sums, s->npages * sizeof(*sums));
	if (s->mem != s->few_mem) {
		free(s->mem);
		free(s->sums);
	}
	s->mem = mem;
	s->sums = sums;
	s->npages = n;
	return 0;
}

/* Needs s->mu. Gives page @i room for @need bytes; keeps what is in it. */
static bool grow_page(struct slice *s, uint32_t i, uint32_t need)
{
	struct ks_mem old = s->mem[i];
	struct ks_mem m;

	if (!ks_pool_get(s->d->pool, i == 0 ? need : (uint32_t)KS_PAGE_SIZE, KS_POOL_WRITE, &m))
		return false;
	if (old.p) {
		memcpy(m.p, old.p, old.cap);
		ks_pool_put(s->d->pool, old, KS_POOL_WRITE);
	}
	s->mem[i] = m;
	return true;
}

/* Needs s->mu. */
static void free_pages(struct slice *s, uint32_t from, uint32_t to)
{
	for (uint32_t i = from; i < to; i++) {
		ks_pool_put(s->d->pool, s->mem[i], KS_POOL_WRITE);
		s->mem[i] = (struct ks_mem){ 0 };
	}
}

int ks_slice_prepare(struct slice *s, uint32_t off, uint32_t n, struct slice_room *room)
{
	uint32_t first = off / KS_PAGE_SIZE;
	uint32_t last = (off + n - 1) / KS_PAGE_SIZE;
	int r;

	KS_LOCKED(&s->mu);
	*room = (struct slice_room){ 0 };
	r = grow_tables(s, last + 1);
	for (uint32_t i = first; r == 0 && i <= last; i++) {
		uint32_t need =
			i < last ? (uint32_t)KS_PAGE_SIZE : (uint32_t)(off + n - i * KS_PAGE_SIZE);
		bool new = !s->mem[i].p;

		if (!new && s->mem[i].cap >= need)
			continue;
		if (!grow_page(s, i, need)) {
			r = -EAGAIN;
		} else if (new) {
			/* Pages are there without a gap, so the new ones are a run. */
			if (room->to == 0)
				room->from = i;
			room->to = i + 1;
		}
	}
	if (r < 0) {
		free_pages(s, room->from, room->to);
		*room = (struct slice_room){ 0 };
	}
	return r;
}

void ks_slice_unprepare(struct slice *s, const struct slice_room *room)
{
	KS_LOCKED(&s->mu);
	free_pages(s, room->from, room->to);
}

void ks_slice_fill(struct slice *s, uint32_t off, const void *p, uint32_t n)
{
	const uint8_t *from = p;

	KS_LOCKED(&s->mu);
	while (n) {
		uint32_t at = off % KS_PAGE_SIZE;
		uint32_t m = ks_min(n, (uint32_t)KS_PAGE_SIZE - at);

		memcpy(s->mem[off / KS_PAGE_SIZE].p + at, from, m);
		off += m;
		from += m;
		n -= m;
	}
}

/* Needs s->mu. Page @page was stored: where it is. @sums: room for those of one block. */
static void src_of_page(const struct slice *s, uint32_t page, struct ks_src *src, uint32_t *sums)
{
	uint32_t per = s->d->o.block_size / KS_PAGE_SIZE;

	*src = (struct ks_src){ .slice = s->id, .sums = sums };
	if (s->pack) {
		src->pack = s->pack;
		src->base = s->pack_off;
		src->size = s->packed_len;
	} else {
		struct block *b;

		src->idx = page / per;
		src->first = src->idx * per;
		ks_list_foreach (b, &s->blocks, struct block, link) {
			if (b->idx == src->idx)
				src->size = b->size;
		}
	}
	memcpy(sums, &s->sums[src->first], ks_pages_of(src->size) * sizeof(*sums));
}

/* Copies what is in memory. Returns bytes copied; when short, *src is where the rest is. */
static uint32_t read_memory(struct slice *s, uint32_t off, uint8_t *to, uint32_t n,
			    struct ks_src *src, uint32_t *sums)
{
	uint32_t done = 0;

	KS_LOCKED(&s->mu);
	while (done < n) {
		uint32_t page = (off + done) / KS_PAGE_SIZE;
		uint32_t at = (off + done) % KS_PAGE_SIZE;
		uint32_t m = ks_min(n - done, (uint32_t)KS_PAGE_SIZE - at);

		if (!s->mem[page].p) {
			src_of_page(s, page, src, sums);
			break;
		}
		memcpy(to + done, s->mem[page].p + at, m);
		done += m;
	}
	return done;
}

int ks_slice_read(struct slice *s, uint32_t off, void *p, uint32_t n, bool seq)
{
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
	uint8_t *to = p;

	while (n) {
		struct ks_src src;
		uint32_t m = read_memory(s, off, to, n, &src, sums);

		off += m;
		to += m;
		n -= m;
		if (n) {
			uint32_t in = off - src.first * (uint32_t)KS_PAGE_SIZE;
			int r;

			/* A stored block is stored as a whole. */
			m = ks_min(n, src.size - in);
			r = ks_src_read(s->d, &src, in, m, to, seq);
			if (r < 0)
				return r;
			off += m;
			to += m;
			n -= m;
		}
	}
	return 0;
}

struct block *ks_slice_seal(struct slice *s, uint32_t upto)
{
	uint32_t size = ks_min(upto - s->sealed, s->d->o.block_size);
	struct block *b = &s->few_block;

	KS_LOCKED(&s->mu);
	if (s->few_block_used)
		b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	s->few_block_used = true;
	b->s = s;
	b->idx = s->sealed / s->d->o.block_size;
	b->size = size;
	b->state = BLOCK_QUEUED;
	ks_list_add_tail(&s->blocks, &b->link);
	s->sealed += size;
	return b;
}
