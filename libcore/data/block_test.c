/* SPDX-License-Identifier: Apache-2.0 */
/* block_test.c: objects of blocks and records of packs: round trip, and every damaged byte is noticed. */
#include "base/hash.h"
#include "base/tap.h"
#include "data/block.h"
#include "data/data.h"

static uint8_t *make_object(uint32_t size, uint32_t *sums, uint64_t *total)
{
	struct ks_block_head h = {
		.slice = 0x1122334455667788, .idx = 3, .size = size, .npages = ks_pages_of(size)
	};
	uint32_t rest = size % 4096;
	uint8_t *p;

	*total = ks_block_object_size(size);
	p = malloc(*total + KS_BLOCK_TAIL_MAX);
	for (uint32_t i = 0; i < size; i++)
		p[i] = (uint8_t)(i * 31 + i / 256);
	for (uint32_t i = 0; i < h.npages; i++)
		sums[i] = ks_crc32c(0, p + i * KS_PAGE_SIZE,
				    ks_min(KS_PAGE_SIZE, size - i * KS_PAGE_SIZE));
	ks_check_eq(ks_block_seal(p + size - rest, rest, &h, sums), *total - size + rest);
	return p;
}

/* Does index, trailer or a page's checksum notice? */
static bool is_intact(const uint8_t *p, uint64_t total, uint32_t size)
{
	uint32_t sums[256];
	struct ks_block_head h;
	uint32_t tail = (uint32_t)ks_min(total, (uint64_t)8192);

	if (ks_block_open_tail(p + total - tail, tail, &h, sums, 256) < 0)
		return false;
	ks_check_eq(h.size, size);
	for (uint32_t i = 0; i < h.npages; i++) {
		if (ks_crc32c(0, p + i * KS_PAGE_SIZE,
			      ks_min(KS_PAGE_SIZE, size - i * KS_PAGE_SIZE)) != sums[i])
			return false;
	}
	return true;
}

KS_TEST(seal_and_open)
{
	static const uint32_t sizes[] = { 1,     4095,  4096,  4097,          4096 - 56, 4096 - 55,
					  65535, 65536, 65537, 3 * 65536 + 5, 4 << 20,   16 << 20 };

	for (size_t i = 0; i < KS_ARRAY_SIZE(sizes); i++) {
		uint32_t sums[256];
		uint32_t got[256];
		struct ks_block_head h;
		uint64_t total;
		uint8_t *p = make_object(sizes[i], sums, &total);

		ks_check_eq(total % 4096, 0);
		ks_check(is_intact(p, total, sizes[i]));
		ks_check_ok(ks_block_open_tail(p + total - 4096, 4096, &h, got, 256));
		ks_check_eq(h.slice, 0x1122334455667788);
		ks_check_eq(h.idx, 3);
		ks_check_eq(h.npages, ks_pages_of(sizes[i]));
		ks_check_mem(got, sums, h.npages * sizeof(*got));
		free(p);
	}
}

KS_TEST(every_flipped_byte_is_noticed)
{
	uint32_t sums[256];
	uint64_t total;
	uint8_t *p = make_object(70000, sums, &total);
	bool quiet = ks_fail_quiet(true);

	/* Most of the data is like the rest of it. */
	for (uint64_t i = 0; i<total; i += i> 3 && i < 69000 ? 997 : 1) {
		for (int bit = 0; bit < 8; bit++) {
			p[i] ^= (uint8_t)(1 << bit);
			if (is_intact(p, total, 70000))
				ks_check_eq(i, -1);
			p[i] ^= (uint8_t)(1 << bit);
		}
	}
	ks_check(is_intact(p, total, 70000));
	for (uint32_t n = 0; n < 72; n++) {
		struct ks_block_head h;

		/* Two pages: an index of 16 bytes. */
		ks_check_eq(ks_block_open_tail(p + total - n, n, &h, sums, n < 64 ? 256 : 1),
			    -EBADMSG);
	}
	ks_fail_quiet(quiet);
	free(p);
}

KS_TEST(records_of_packs)
{
	struct ks_pack_head h = { .ino = 5,
				  .slice = 77,
				  .off = 1ull << 40,
				  .len = 70000,
				  .npages = 2,
				  .sums = { 1, 2 } };
	struct ks_pack_head got;
	uint8_t p[KS_PACK_HEADER_SIZE];
	bool quiet = ks_fail_quiet(true);

	ks_pack_seal(p, &h);
	ks_check_ok(ks_pack_open_head(p, &got));
	ks_check_mem(&got, &h, sizeof(h));
	for (size_t i = 0; i < sizeof(p) * 8; i++) {
		p[i / 8] ^= (uint8_t)(1 << i % 8);
		ks_check_eq(ks_pack_open_head(p, &got), -EBADMSG);
		p[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	ks_fail_quiet(quiet);
}

KS_TEST(keys)
{
	static const char *const bad[] = {
		"",          "blocks/0/1/1234_0_5x", "blocks/0/1/1234_00_5", "blocks/0/2/1234_0_5",
		"packs/0/3", "blocks/0/1/1234_0",    "blocks/0/1/-1_0_5",    "x/blocks/0/1/1234_0_5"
	};
	char key[KS_KEY_STR];
	uint64_t slice;
	uint64_t pack;
	uint32_t idx;
	uint32_t size;

	ks_block_key(key, 1234, 0, 5);
	ks_check_str(key, "blocks/0/1/1234_0_5");
	ks_block_key(key, UINT64_MAX, UINT32_MAX, UINT32_MAX);
	ks_check(ks_block_key_parse(key, &slice, &idx, &size));
	ks_check(slice == UINT64_MAX && idx == UINT32_MAX && size == UINT32_MAX);
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check(!ks_block_key_parse(bad[i], &slice, &idx, &size));
	ks_pack_key(key, 4321);
	ks_check_str(key, "packs/4/4321");
	ks_check(ks_pack_key_parse(key, &pack) && pack == 4321);
	ks_check(!ks_pack_key_parse("packs/4/5321", &pack));
}

KS_TEST_MAIN()
