/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hmap.h"
#include "base/tap.h"

struct item {
	struct ks_hnode node;
	int v;
};

KS_TEST(a_zeroed_map_is_empty)
{
	struct ks_hmap m = { 0 };

	ks_check(ks_hmap_find(&m, 0) == NULL);
	ks_check(ks_hmap_next(&m, NULL) == NULL);
	ks_hmap_clear(&m);
}

KS_TEST(many_keys)
{
	enum { N = 20000 };
	static struct item items[N];
	struct ks_hmap m = { 0 };
	struct ks_hnode *next;
	int seen = 0;

	for (int i = 0; i < N; i++) {
		items[i].v = i;
		ks_check_ok(ks_hmap_insert(&m, &items[i].node, (uint64_t)i * 3));
	}
	ks_check_eq(m.n, N);
	ks_check(m.mask + 1 >= N);
	for (int i = 0; i < N; i++) {
		ks_check(ks_hmap_find(&m, (uint64_t)i * 3) == &items[i].node);
		ks_check(ks_hmap_find(&m, (uint64_t)i * 3 + 1) == NULL);
	}
	for (struct ks_hnode *n = ks_hmap_next(&m, NULL); n; n = next) {
		next = ks_hmap_next(&m, n);
		seen++;
		if (ks_container_of(n, struct item, node)->v % 2)
			ks_hmap_remove(&m, n);
	}
	ks_check_eq(seen, N);
	ks_check_eq(m.n, N / 2);
	for (int i = 0; i < N; i++)
		ks_check_eq(ks_hmap_find(&m, (uint64_t)i * 3) != NULL, i % 2 == 0);
	ks_hmap_clear(&m);
	ks_check(ks_hmap_find(&m, 0) == NULL);
}

KS_TEST(equal_keys_are_found_newest_first_also_after_growing)
{
	static struct item same[3];
	static struct item others[100];
	struct ks_hmap m = { 0 };
	struct ks_hnode *n;

	for (int i = 0; i < 3; i++)
		ks_check_ok(ks_hmap_insert(&m, &same[i].node, 7));
	for (int i = 0; i < 100; i++)
		ks_check_ok(ks_hmap_insert(&m, &others[i].node, 1000 + (uint64_t)i));
	n = ks_hmap_find(&m, 7);
	for (int i = 2; i >= 0; i--) {
		ks_check(n == &same[i].node);
		n = ks_hmap_find_next(n);
	}
	ks_check(n == NULL);
	ks_hmap_remove(&m, &same[1].node);
	ks_check(ks_hmap_find_next(ks_hmap_find(&m, 7)) == &same[0].node);
	ks_hmap_clear(&m);
}

KS_TEST_MAIN()
