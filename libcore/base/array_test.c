/* SPDX-License-Identifier: Apache-2.0 */
#include "base/array.h"
#include "base/tap.h"

struct numbers {
	uint32_t *v;
	size_t n, cap;
};

struct wide {
	char bytes[3000];
};

static bool are_rising(const struct numbers *a)
{
	for (size_t i = 0; i < a->n; i++) {
		if (a->v[i] != i)
			return false;
	}
	return true;
}

KS_TEST(an_array_grows_and_keeps_its_elements)
{
	struct numbers a = { 0 };
	size_t moves = 0;

	while (a.n < 100000) {
		size_t before = a.cap;

		ks_check_ok(ks_array_room(&a.v, a.n, &a.cap));
		ks_check(a.cap > a.n);
		moves += a.cap != before;
		a.v[a.n] = (uint32_t)a.n;
		a.n++;
	}
	ks_check(are_rising(&a));
	/* Doubling, or it would take quadratic time. */
	ks_check(moves > 1 && moves < 20);
	free(a.v);
}

KS_TEST(where_there_is_room_nothing_happens)
{
	struct numbers a = { 0 };
	const uint32_t *v;
	size_t cap;

	ks_check_ok(ks_array_reserve(&a.v, 0, &a.cap, 0));
	ks_check(a.v == NULL && a.cap == 0);
	ks_check_ok(ks_array_reserve(&a.v, 0, &a.cap, 1000));
	ks_check(a.cap >= 1000);
	v = a.v;
	cap = a.cap;
	ks_check_ok(ks_array_reserve(&a.v, 0, &a.cap, cap));
	ks_check_ok(ks_array_reserve(&a.v, cap - 7, &a.cap, 7));
	ks_check_ok(ks_array_room(&a.v, cap - 1, &a.cap));
	ks_check(a.v == v && a.cap == cap);
	ks_check_ok(ks_array_reserve(&a.v, cap - 7, &a.cap, 8));
	ks_check(a.cap > cap);
	free(a.v);
}

KS_TEST(an_element_may_be_large)
{
	struct wide *v = NULL;
	size_t cap = 0;

	ks_check_ok(ks_array_room(&v, 0, &cap));
	ks_check(cap >= 1 && cap < 100);
	memset(v, 7, cap * sizeof(*v));
	free(v);
}

/* More elements, or more bytes, than a size_t counts; and what malloc refuses. */
KS_TEST(what_cannot_be_had_changes_nothing)
{
	static const size_t more[] = { SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 4, SIZE_MAX / 8 };
	struct numbers a = { 0 };
	struct ks_arena arena = { 0 };
	uint32_t *few, *v;
	size_t cap;

	ks_check_ok(ks_array_room(&a.v, a.n, &a.cap));
	a.v[a.n++] = 0;
	few = a.v;
	cap = a.cap;
	for (size_t i = 0; i < KS_ARRAY_SIZE(more); i++) {
		ks_check_eq(ks_array_reserve(&a.v, a.n, &a.cap, more[i]), -ENOMEM);
		ks_check(a.v == few && a.cap == cap && are_rising(&a));
	}
	/* Full ones of such a size; what they hold is not touched. */
	for (size_t i = 0; i < KS_ARRAY_SIZE(more); i++) {
		v = few;
		cap = more[i];
		ks_check_eq(ks_array_room(&v, cap, &cap), -ENOMEM);
		ks_check_eq(ks_arena_room(&arena, &v, cap, &cap), -ENOMEM);
		ks_check(v == few && cap == more[i]);
	}
	ks_check(arena.head == NULL);
	free(a.v);
}

KS_TEST(an_array_in_an_arena_grows_and_keeps_its_elements)
{
	struct ks_arena arena = { 0 };
	struct numbers a = { 0 };
	const uint32_t *first = NULL;

	while (a.n < 10000) {
		ks_check_ok(ks_arena_room(&arena, &a.v, a.n, &a.cap));
		ks_check(a.cap > a.n);
		first = first ? first : a.v;
		a.v[a.n] = (uint32_t)a.n;
		a.n++;
	}
	ks_check(are_rising(&a));
	/* Who kept a pointer into the old place may still read it. */
	ks_check(first != a.v);
	ks_check_eq(first[0], 0);
	ks_check_eq(first[3], 3);
	ks_arena_clear(&arena);
}

KS_TEST_MAIN()
