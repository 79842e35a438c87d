/* SPDX-License-Identifier: Apache-2.0 */
/* extsort_test.c: sorted as qsort would, with any budget; lookups; a full disk. */
#include "base/hash.h"
#include "base/tap.h"
#include "volume/extsort.h"

static int order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void check(size_t n, size_t budget, unsigned int words, uint64_t range)
{
	struct ks_sort *s = NULL;
	struct ks_sort_cur c;
	uint64_t *want = malloc((n + 1) * sizeof(*want));
	uint64_t rec[KS_SORT_WORDS_MAX] = { 0 };

	ks_check_ok(ks_sort_new(&s, words, budget, ks_tap_dir()));
	for (size_t i = 0; i < n; i++) {
		rec[0] = want[i] = ks_mix64(i * 77 + n) % range;
		rec[words - 1] = words > 1 ? rec[0] * 3 : rec[0];
		ks_check_ok(ks_sort_add(s, rec));
	}
	ks_check_ok(ks_sort_finish(s));
	ks_check_eq(ks_sort_count(s), n);
	qsort(want, n, sizeof(*want), order);
	ks_sort_begin(&c, s);
	for (size_t i = 0; i < n; i++) {
		ks_check_ok(ks_sort_next(&c));
		ks_check(c.rec);
		ks_check_eq(c.rec[0], want[i]);
		ks_check_eq(c.rec[words - 1], words > 1 ? want[i] * 3 : want[i]);
	}
	ks_check_ok(ks_sort_next(&c));
	ks_check(!c.rec);
	for (size_t i = 0; i < n; i += n / 7 + 1) {
		ks_check_ok(ks_sort_seek(&c, &want[i], 1));
		ks_check(c.rec && c.rec[0] == want[i]);
	}
	rec[0] = range;
	ks_check_ok(ks_sort_seek(&c, rec, 1));
	ks_check(!c.rec);
	ks_sort_end(&c);
	ks_sort_free(s);
	free(want);
}

KS_TEST(sorts)
{
	check(0, 0, 3, 10);
	check(1, 0, 1, 10);
	check(1000, 0, 2, 1000000);
	check(100000, 100000, 2, UINT64_MAX);
	check(100000, 4096, 5, 1000);
	check(50000, 512, 8, UINT64_MAX);
}

KS_TEST(nowhere_to_write)
{
	struct ks_sort *s = NULL;
	uint64_t rec = 1;
	bool quiet = ks_fail_quiet(true);
	int r = 0;

	ks_check_ok(ks_sort_new(&s, 1, 128, "/nonexistent"));
	for (int i = 0; r == 0 && i < 10000; i++)
		r = ks_sort_add(s, &rec);
	ks_check_eq(r, -ENOENT);
	ks_sort_free(s);
	ks_fail_quiet(quiet);
}

KS_TEST_MAIN()
