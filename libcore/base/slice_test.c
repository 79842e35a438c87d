/* SPDX-License-Identifier: Apache-2.0 */
/* slice_test.c: the newest piece wins at every byte, judged by painting a small chunk byte by byte. */
#include "base/slice.h"
#include "base/tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { SPAN = 200 };

struct cell {
	uint64_t slice;
	uint32_t off;
};

static void paint(struct cell *c, const struct ks_extent *e, size_t n)
{
	memset(c, 0, SPAN * sizeof(*c));
	for (size_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < e[i].len; k++)
			c[e[i].pos + k] =
				(struct cell){ e[i].slice, e[i].slice ? e[i].off + k : 0 };
	}
}

static int compare(const struct ks_chunk_map *m, const struct cell *want)
{
	struct cell got[SPAN];

	paint(got, m->e, m->n);
	for (uint32_t i = 0; i < m->n; i++) {
		if (m->e[i].len == 0 || m->e[i].slice == 0)
			return -1;
		if (i && m->e[i].pos < m->e[i - 1].pos + m->e[i - 1].len)
			return -1;
	}
	for (uint32_t p = 0; p < SPAN; p++) {
		uint32_t i = ks_chunk_map_find(m, p);

		if (got[p].slice != want[p].slice || got[p].off != want[p].off)
			return -1;
		if (i < m->n && (m->e[i].pos + m->e[i].len <= p ||
				 (i && m->e[i - 1].pos + m->e[i - 1].len > p)))
			return -1;
	}
	return 0;
}

KS_TEST(random_layers_equal_painting)
{
	for (unsigned int seed = 1; seed <= 3000; seed++) {
		struct ks_extent e[24] = { 0 };
		struct cell want[SPAN];
		struct ks_chunk_map *m = NULL;
		unsigned int s = seed;
		size_t n = (size_t)rand_r(&s) % 24;

		for (size_t i = 0; i < n; i++) {
			e[i].pos = (uint32_t)rand_r(&s) % SPAN;
			e[i].len = (uint32_t)rand_r(&s) % (SPAN - e[i].pos + 1);
			e[i].slice = (uint64_t)rand_r(&s) % 5;
			e[i].off = (uint32_t)rand_r(&s) % 1000;
			e[i].slice_len = 100000;
		}
		paint(want, e, n);
		ks_check_eq(ks_chunk_map_build(e, n, &m), 0);
		ks_check_eq(m->layers, n);
		if (compare(m, want) < 0) {
			printf("# seed %u\n", seed);
			ks_check(false);
		}
		ks_chunk_map_free(m);
	}
}

KS_TEST(pieces_of_one_slice_that_touch_become_one)
{
	struct ks_extent e[2] = {
		{ .pos = 0, .len = 10, .slice = 7, .off = 0, .slice_len = 20 },
		{ .pos = 10, .len = 10, .slice = 7, .off = 10, .slice_len = 20 }
	};
	struct ks_chunk_map *m = NULL;

	ks_check_eq(ks_chunk_map_build(e, 2, &m), 0);
	ks_check_eq(m->n, 1);
	ks_check_eq(m->e[0].len, 20);
	ks_chunk_map_free(m);
}

KS_TEST(checksums_are_the_maps_own)
{
	uint32_t sums[2] = { 0x11111111, 0x22222222 };
	struct ks_extent e[2] = {
		{ .pos = 0, .len = 70000, .slice = 3, .slice_len = 70000, .pack = 9, .sums = sums },
		{ .pos = 100, .len = 10, .slice = 4, .slice_len = 10 }
	};
	struct ks_chunk_map *m = NULL;

	ks_check_eq(ks_chunk_map_build(e, 2, &m), 0);
	sums[0] = sums[1] = 0;
	ks_check_eq(m->n, 3);
	ks_check_eq(m->e[2].sums[1], 0x22222222);
	ks_check(m->e[1].sums == NULL);
	ks_chunk_map_free(m);
}

KS_TEST(a_piece_beyond_the_chunk_is_refused)
{
	struct ks_extent e = { .pos = KS_CHUNK_SIZE - 1, .len = 2, .slice = 1, .slice_len = 2 };
	struct ks_chunk_map *m = NULL;

	ks_check_eq(ks_chunk_map_build(&e, 1, &m), -EBADMSG);
	ks_check(m == NULL);
}

KS_TEST(many_layers_stay_fast)
{
	enum { N = 20000 };
	struct ks_extent *e = calloc(N, sizeof(*e));
	struct ks_chunk_map *m = NULL;

	ks_check(e != NULL);
	for (uint32_t i = 0; i < N; i++)
		e[i] = (struct ks_extent){ .pos = i * 7919 % (1 << 20),
					   .len = 1 + i % 4096,
					   .slice = i + 1,
					   .slice_len = 5000 };
	ks_check_eq(ks_chunk_map_build(e, N, &m), 0);
	ks_check(m->n > 0 && m->n <= 2 * N);
	ks_chunk_map_free(m);
	free(e);
}

KS_TEST_MAIN()
