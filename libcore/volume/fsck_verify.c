/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_verify.c: one block, or one slice in a pack, against its checksums; what the object says of itself. */
#include "volume/fsck_internal.h"

#include "base/hash.h"

#define TAIL_MAX 8192u

static uint32_t page_len(uint32_t size, uint32_t page)
{
	return ks_min((uint32_t)KS_PAGE_SIZE, size - page * (uint32_t)KS_PAGE_SIZE);
}

static ssize_t get(struct ks_object *store, const char *key, uint64_t off, void *p, size_t n)
{
	struct iovec iov = { p, n };
	bool quiet = ks_fail_quiet(true);
	ssize_t r = ks_object_get(store, key, off, &iov, 1);

	ks_fail_quiet(quiet);
	return r;
}

/* A get's outcome, as a kind of damage. 0: fine; 1: *kind; else the store cannot be reached. */
static int judge_get(ssize_t got, size_t want, enum ks_bad *kind)
{
	if (got == -ENOENT)
		*kind = KS_BAD_MISSING;
	else if (got == -EIO || got == -EBADMSG)
		*kind = KS_BAD_UNREADABLE;
	else if (got < 0)
		return (int)got;
	else if ((size_t)got < want)
		*kind = KS_BAD_SHORT;
	else
		return 0;
	return 1;
}

/* ---- the data ---- */

/* Compares pages read at @base with their sums. Widens [*from, *to). */
static void check_pages(const struct ks_fsck_block *b, const uint8_t *p, uint32_t base, size_t n,
			uint32_t *from, uint32_t *to)
{
	for (size_t at = 0; at < n; at += KS_PAGE_SIZE) {
		uint32_t page = (uint32_t)((base + at) / KS_PAGE_SIZE);
		uint32_t len = page_len(b->size, page);

		if (ks_crc32c(0, p + at, len) == b->sums[page])
			continue;
		*from = ks_min(*from, base + (uint32_t)at);
		*to = ks_max(*to, base + (uint32_t)at + len);
	}
}

static int check_data(struct ks_object *store, const char *key, const struct ks_fsck_block *b,
		      struct ks_fsck_bytes buf, enum ks_bad *kind, uint32_t *from, uint32_t *to)
{
	uint32_t first = UINT32_MAX, last = 0;

	for (uint32_t at = 0; at < b->size; at += (uint32_t)buf.n) {
		size_t want = ks_min((size_t)(b->size - at), buf.n);
		/* Whole pages of memory, so that a directory store can read past its cache. */
		size_t ask = b->pack ? want : ks_min((size_t)ks_round_up(want, 4096), buf.n);
		int r = judge_get(get(store, key, b->pack_off + at, buf.p, ask), want, kind);

		if (r)
			return r;
		check_pages(b, buf.p, at, want, &first, &last);
	}
	if (first >= last)
		return 0;
	*from = first;
	*to = last;
	*kind = KS_BAD_DAMAGED;
	return 1;
}

/* ---- what the object says of itself ---- */

/* 0: h and sums; 1: *kind. */
static int read_tail(struct ks_object *store, const char *key, uint64_t bytes,
		     struct ks_block_head *h, uint32_t *sums, enum ks_bad *kind)
{
	_Alignas(4096) uint8_t tail[TAIL_MAX];
	size_t n = (size_t)ks_min(bytes, (uint64_t)TAIL_MAX);
	bool quiet;
	int r = judge_get(get(store, key, bytes - n, tail, n), n, kind);

	if (r)
		return r;
	quiet = ks_fail_quiet(true);
	r = ks_block_open_tail(tail, (uint32_t)n, h, sums, KS_BLOCK_MAX / KS_PAGE_SIZE);
	ks_fail_quiet(quiet);
	*kind = KS_BAD_DAMAGED;
	return r < 0;
}

static int check_tail(struct ks_object *store, const char *key, const struct ks_fsck_block *b,
		      enum ks_bad *kind)
{
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
	struct ks_block_head h;
	int r = read_tail(store, key, ks_block_object_size(b->size), &h, sums, kind);

	if (r)
		return r;
	if (h.slice != b->slice || h.idx != b->idx || h.size != b->size) {
		*kind = KS_BAD_SWAPPED;
		return 1;
	}
	*kind = KS_BAD_DAMAGED;
	return memcmp(sums, b->sums, h.npages * sizeof(*sums)) != 0;
}

int ks_fsck_trailer(struct ks_object *store, uint64_t slice, uint32_t idx, uint32_t size,
		    uint32_t *sums)
{
	char key[KS_KEY_STR];
	struct ks_block_head h;
	enum ks_bad kind;
	int r;

	ks_block_key(key, slice, idx, size);
	r = read_tail(store, key, ks_block_object_size(size), &h, sums, &kind);
	if (r)
		return r;
	return h.slice != slice || h.idx != idx || h.size != size;
}

int ks_fsck_pack_header(struct ks_object *store, uint64_t pack, uint64_t off, uint64_t slice,
			uint32_t len, uint32_t sums[KS_PACK_PAGES_MAX])
{
	uint8_t raw[KS_PACK_HEADER_SIZE];
	char key[KS_KEY_STR];
	struct ks_pack_head h;
	enum ks_bad kind;
	bool quiet;
	int r;

	if (off < sizeof(raw))
		return 1;
	ks_pack_key(key, pack);
	r = judge_get(get(store, key, off - sizeof(raw), raw, sizeof(raw)), sizeof(raw), &kind);
	if (r)
		return r;
	quiet = ks_fail_quiet(true);
	r = ks_pack_open_head(raw, &h);
	ks_fail_quiet(quiet);
	if (r < 0 || h.slice != slice || h.len != len)
		return 1;
	memcpy(sums, h.sums, sizeof(h.sums));
	return 0;
}

static int check_header(struct ks_object *store, const struct ks_fsck_block *b, enum ks_bad *kind)
{
	uint32_t sums[KS_PACK_PAGES_MAX];
	int r = ks_fsck_pack_header(store, b->pack, b->pack_off, b->slice, b->size, sums);

	if (r < 0)
		return r;
	*kind = KS_BAD_SWAPPED;
	if (r == 0 && memcmp(sums, b->sums, ks_pages_of(b->size) * sizeof(*sums)) != 0) {
		*kind = KS_BAD_DAMAGED;
		r = 1;
	}
	return r;
}

int ks_fsck_verify(struct ks_object *store, const struct ks_fsck_block *b, struct ks_fsck_bytes buf,
		   enum ks_bad *kind, uint32_t *from, uint32_t *to)
{
	char key[KS_KEY_STR];
	enum ks_bad data_kind;
	int r, d;

	*from = 0;
	*to = b->size;
	if (b->pack) {
		ks_pack_key(key, b->pack);
		r = check_header(store, b, kind);
	} else {
		ks_block_key(key, b->slice, b->idx, b->size);
		r = check_tail(store, key, b, kind);
	}
	if (r < 0 || (r && (*kind == KS_BAD_MISSING || *kind == KS_BAD_SHORT)))
		return r;
	/* The metadata's checksums judge the data, whatever the object says of itself. */
	d = check_data(store, key, b, buf, &data_kind, from, to);
	if (d < 0 || (d == 0 && r == 0))
		return d;
	if (d == 0)
		*kind = KS_BAD_TRAILER;
	else if (r == 0 || *kind != KS_BAD_SWAPPED || data_kind != KS_BAD_DAMAGED)
		*kind = data_kind;
	return 1;
}

/* ---- a second look ---- */

/* @pack: where it has to lie; it may have been moved. */
static int live_slice(struct ks_fsck *f, uint64_t slice, uint64_t pack, bool *live)
{
	struct ks_arena a = { 0 };
	struct ks_rec_slice s = { .id = slice };
	struct ks_read rd = { .table = KS_T_SLICE, .rec = &s };
	int r = ks_engine_read(f->e, &rd, 1, &a);

	ks_arena_clear(&a);
	*live = rd.found && s.pack == pack;
	return r;
}

static int size_now(struct ks_fsck *f, const char *key, uint64_t should, enum ks_bad *kind)
{
	struct ks_object_info info;
	bool quiet = ks_fail_quiet(true);
	int r = ks_object_head(f->m->store, key, &info);

	ks_fail_quiet(quiet);
	if (r < 0)
		return judge_get(r, 0, kind);
	*kind = KS_BAD_SHORT;
	return info.size_bytes != should;
}

int ks_fsck_still_gone(struct ks_fsck *f, uint64_t slice, uint32_t idx, uint32_t size,
		       enum ks_bad *kind)
{
	char key[KS_KEY_STR];
	bool live;
	int r;

	ks_block_key(key, slice, idx, size);
	r = size_now(f, key, ks_block_object_size(size), kind);
	if (r <= 0)
		return r;
	/* In this order: what was freed after the look at the store is no loss. */
	r = live_slice(f, slice, 0, &live);
	return r < 0 ? r : live;
}

int ks_fsck_still_cut(struct ks_fsck *f, uint64_t slice, uint64_t pack, uint64_t end,
		      enum ks_bad *kind)
{
	struct ks_object_info info;
	char key[KS_KEY_STR];
	bool quiet, live;
	int r;

	ks_pack_key(key, pack);
	quiet = ks_fail_quiet(true);
	r = ks_object_head(f->m->store, key, &info);
	ks_fail_quiet(quiet);
	if (r < 0) {
		r = judge_get(r, 0, kind);
	} else {
		*kind = KS_BAD_SHORT;
		r = info.size_bytes < end;
	}
	if (r <= 0)
		return r;
	r = live_slice(f, slice, pack, &live);
	return r < 0 ? r : live;
}
