/* SPDX-License-Identifier: Apache-2.0 */
/* block.c: index and trailer of a block object, records of a pack, and the names of both. */
#include "data/block.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/data.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define VERSION 1u
#define ALIGN 4096u

static const uint8_t block_magic[8] = { 'K', 'S', 'K', 'B', 'L', 'O', 'C', 'K' };
static const uint8_t pack_magic[8] = { 'K', 'S', 'K', 'P', 'A', 'C', 'K', '1' };

/* Offsets in the trailer; in front of it stands the index. */
enum {
	T_MAGIC = 0,
	T_VERSION = 8,
	T_CODEC = 12, /* 0: as they are */
	T_SLICE = 16,
	T_IDX = 24,
	T_SIZE = 28,
	T_NPAGES = 32,
	T_PAGE_SIZE = 36,
	T_RESERVED = 40,
	T_CRC = 44, /* of the index and the trailer up to here */
};

/* Offsets in a pack's record header. */
enum {
	P_MAGIC = 0,
	P_INO = 8,
	P_SLICE = 16,
	P_OFF = 24,
	P_LEN = 32,
	P_NPAGES = 36,
	P_SUMS = 40,
	P_RESERVED = 56,
	P_CRC = 60,
};

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> 8 * i);
}

static void put64(uint8_t *p, uint64_t v)
{
	put32(p, (uint32_t)v);
	put32(p + 4, (uint32_t)(v >> 32));
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
	return get32(p) | (uint64_t)get32(p + 4) << 32;
}

static uint32_t page_len(uint32_t size, uint32_t page)
{
	return ks_min((uint32_t)KS_PAGE_SIZE, size - page * (uint32_t)KS_PAGE_SIZE);
}

uint64_t ks_block_object_size(uint32_t size)
{
	return ks_round_up((uint64_t)size + ks_pages_of(size) * KS_BLOCK_INDEX_ENTRY +
				   KS_BLOCK_TRAILER_SIZE,
			   ALIGN);
}

uint32_t ks_block_seal(uint8_t *tail, uint32_t have, const struct ks_block_head *h,
		       const uint32_t *sums)
{
	uint32_t n = (uint32_t)(ks_block_object_size(h->size) - (h->size - have));
	uint32_t index = h->npages * KS_BLOCK_INDEX_ENTRY;
	uint8_t *t = tail + n - KS_BLOCK_TRAILER_SIZE;
	uint8_t *x = t - index;

	assert(h->npages == ks_pages_of(h->size) && have < ALIGN && n <= KS_BLOCK_TAIL_MAX);
	memset(tail + have, 0, n - have);
	for (uint32_t i = 0; i < h->npages; i++) {
		put32(x + i * KS_BLOCK_INDEX_ENTRY, sums[i]);
		put32(x + i * KS_BLOCK_INDEX_ENTRY + 4, page_len(h->size, i));
	}
	memcpy(t + T_MAGIC, block_magic, sizeof(block_magic));
	put32(t + T_VERSION, VERSION);
	put64(t + T_SLICE, h->slice);
	put32(t + T_IDX, h->idx);
	put32(t + T_SIZE, h->size);
	put32(t + T_NPAGES, h->npages);
	put32(t + T_PAGE_SIZE, (uint32_t)KS_PAGE_SIZE);
	put32(t + T_CRC, ks_crc32c(0, x, index + T_CRC));
	return n;
}

/* What is wrong with the trailer itself, or NULL. */
static const char *trailer_fault(const uint8_t *t, uint32_t n, const struct ks_block_head *h,
				 uint32_t max_pages)
{
	if (get32(t + T_VERSION) != VERSION)
		return "a version this program does not know";
	if (get32(t + T_CODEC) != 0)
		return "a codec this program does not know";
	if (get32(t + T_PAGE_SIZE) != KS_PAGE_SIZE || get32(t + T_RESERVED) != 0)
		return "fields that must be constant are not";
	if (h->size == 0 || h->size > KS_BLOCK_MAX || h->npages != ks_pages_of(h->size))
		return "sizes that contradict each other";
	if (h->npages > max_pages)
		return "more pages than asked for";
	if (h->npages * KS_BLOCK_INDEX_ENTRY + KS_BLOCK_TRAILER_SIZE > n)
		return "an index that is cut off";
	return NULL;
}

int ks_block_open_tail(const uint8_t *tail, uint32_t n, struct ks_block_head *h, uint32_t *sums,
		       uint32_t max_pages)
{
	struct ks_block_head got;
	const uint8_t *t = tail + n - KS_BLOCK_TRAILER_SIZE;
	const uint8_t *x;
	const char *fault = NULL;
	uint64_t total;

	if (n < KS_BLOCK_TRAILER_SIZE || memcmp(t, block_magic, sizeof(block_magic)) != 0)
		return ks_fail(-EBADMSG, "no block trailer at the object's end");
	got.slice = get64(t + T_SLICE);
	got.idx = get32(t + T_IDX);
	got.size = get32(t + T_SIZE);
	got.npages = get32(t + T_NPAGES);
	fault = trailer_fault(t, n, &got, max_pages);
	if (fault)
		return ks_fail(-EBADMSG, "block trailer of slice %" PRIu64 " has %s", got.slice,
			       fault);
	x = t - got.npages * KS_BLOCK_INDEX_ENTRY;
	if (get32(t + T_CRC) != ks_crc32c(0, x, (size_t)(t - x) + T_CRC))
		return ks_fail(-EBADMSG, "block trailer of slice %" PRIu64 " has a wrong checksum",
			       got.slice);
	for (uint32_t i = 0; i < got.npages; i++) {
		if (get32(x + i * KS_BLOCK_INDEX_ENTRY + 4) != page_len(got.size, i))
			return ks_fail(-EBADMSG,
				       "block %u of slice %" PRIu64 ": page %u has a wrong length",
				       got.idx, got.slice, i);
	}
	/* The padding that lies in @tail. */
	total = ks_block_object_size(got.size);
	for (const uint8_t *p = total - got.size > n ? tail : tail + (n - (total - got.size));
	     p < x; p++) {
		if (*p)
			return ks_fail(-EBADMSG,
				       "block %u of slice %" PRIu64 ": the padding is not zero",
				       got.idx, got.slice);
	}
	for (uint32_t i = 0; i < got.npages; i++)
		sums[i] = get32(x + i * KS_BLOCK_INDEX_ENTRY);
	*h = got;
	return 0;
}

void ks_pack_seal(uint8_t out[KS_PACK_HEADER_SIZE], const struct ks_pack_head *h)
{
	assert(h->npages == ks_pages_of(h->len) && h->npages <= KS_PACK_PAGES_MAX);
	memset(out, 0, KS_PACK_HEADER_SIZE);
	memcpy(out + P_MAGIC, pack_magic, sizeof(pack_magic));
	put64(out + P_INO, h->ino);
	put64(out + P_SLICE, h->slice);
	put64(out + P_OFF, h->off);
	put32(out + P_LEN, h->len);
	put32(out + P_NPAGES, h->npages);
	for (uint32_t i = 0; i < h->npages; i++)
		put32(out + P_SUMS + 4 * i, h->sums[i]);
	put32(out + P_CRC, ks_crc32c(0, out, P_CRC));
}

int ks_pack_open_head(const uint8_t in[KS_PACK_HEADER_SIZE], struct ks_pack_head *h)
{
	struct ks_pack_head got = { 0 };

	if (memcmp(in, pack_magic, sizeof(pack_magic)) != 0)
		return ks_fail(-EBADMSG, "no pack record begins here");
	if (get32(in + P_CRC) != ks_crc32c(0, in, P_CRC))
		return ks_fail(-EBADMSG, "a pack record's header has a wrong checksum");
	got.ino = get64(in + P_INO);
	got.slice = get64(in + P_SLICE);
	got.off = get64(in + P_OFF);
	got.len = get32(in + P_LEN);
	got.npages = get32(in + P_NPAGES);
	if (got.len == 0 || got.npages != ks_pages_of(got.len) || got.npages > KS_PACK_PAGES_MAX ||
	    get32(in + P_RESERVED) != 0)
		return ks_fail(-EBADMSG, "a pack record's header contradicts itself");
	for (uint32_t i = 0; i < got.npages; i++)
		got.sums[i] = get32(in + P_SUMS + 4 * i);
	*h = got;
	return 0;
}

void ks_pages_sum(const void *p, uint32_t n, uint32_t *sums)
{
	for (uint32_t i = 0; i < ks_pages_of(n); i++) {
		uint32_t at = i * (uint32_t)KS_PAGE_SIZE;

		sums[i] = ks_crc32c(0, (const uint8_t *)p + at,
				    ks_min((uint32_t)KS_PAGE_SIZE, n - at));
	}
}

uint32_t ks_pages_unlike(const void *p, uint32_t n, const uint32_t *sums)
{
	uint32_t i = 0;

	for (uint32_t at = 0; at < n; at += (uint32_t)KS_PAGE_SIZE, i++) {
		if (ks_crc32c(0, (const uint8_t *)p + at, ks_min((uint32_t)KS_PAGE_SIZE, n - at)) !=
		    sums[i])
			break;
	}
	return i;
}

int ks_block_put(struct ks_object *store, uint64_t slice, uint32_t idx, uint8_t *p, uint32_t size,
		 uint32_t *sums)
{
	_Alignas(ALIGN) uint8_t tail[KS_BLOCK_TAIL_MAX];
	struct ks_block_head h = {
		.slice = slice, .idx = idx, .size = size, .npages = ks_pages_of(size)
	};
	uint32_t rest = size % ALIGN;
	struct iovec iov[] = { { p, size - rest }, { tail, 0 } };
	char key[KS_KEY_STR];
	int first = size == rest; /* no iovec is empty */

	ks_pages_sum(p, size, sums);
	memcpy(tail, p + size - rest, rest);
	iov[1].iov_len = ks_block_seal(tail, rest, &h, sums);
	ks_block_key(key, slice, idx, size);
	return ks_object_put(store, key, iov + first, 2 - first);
}

/* Directories of a thousand: slices made together lie together, and a directory store's directories stay small. */
void ks_block_key(char out[KS_KEY_STR], uint64_t slice, uint32_t idx, uint32_t size)
{
	snprintf(out, KS_KEY_STR, "blocks/%" PRIu64 "/%" PRIu64 "/%" PRIu64 "_%" PRIu32 "_%" PRIu32,
		 slice / 1000000, slice / 1000, slice, idx, size);
}

void ks_pack_key(char out[KS_KEY_STR], uint64_t pack)
{
	snprintf(out, KS_KEY_STR, "packs/%" PRIu64 "/%" PRIu64, pack / 1000, pack);
}

bool ks_pack_key_parse(const char *key, uint64_t *pack)
{
	char back[KS_KEY_STR];
	uint64_t v;

	if (sscanf(key, "packs/%*u/%" SCNu64, &v) != 1)
		return false;
	ks_pack_key(back, v);
	if (strcmp(back, key) != 0)
		return false;
	*pack = v;
	return true;
}

bool ks_block_key_parse(const char *key, uint64_t *slice, uint32_t *idx, uint32_t *size)
{
	char back[KS_KEY_STR];
	uint64_t s;
	uint32_t i;
	uint32_t n;

	/* What does not come out again as it went in is no key of ours. */
	if (sscanf(key, "blocks/%*u/%*u/%" SCNu64 "_%" SCNu32 "_%" SCNu32, &s, &i, &n) != 3)
		return false;
	ks_block_key(back, s, i, n);
	if (strcmp(back, key) != 0)
		return false;
	*slice = s;
	*idx = i;
	*size = n;
	return true;
}
