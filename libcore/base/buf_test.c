/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/log.h"
#include "base/tap.h"
#include <fcntl.h>

KS_TEST(a_zeroed_buffer_is_empty)
{
	struct ks_buf b = { 0 };
	const char *s;

	ks_check_ok(ks_buf_cstr(&b, &s));
	ks_check_str(s, "");
	ks_check_eq(b.n, 0);
	ks_buf_clear(&b);
	ks_buf_clear(&b);
	ks_check(b.p == NULL && b.cap == 0);
}

KS_TEST(appending_keeps_every_byte)
{
	struct ks_buf b = { 0 };

	for (int i = 0; i < 10000; i++) {
		uint8_t byte = (uint8_t)i;

		ks_check_ok(ks_buf_append(&b, &byte, 1));
	}
	ks_check_ok(ks_buf_append(&b, NULL, 0));
	ks_check_eq(b.n, 10000);
	for (int i = 0; i < 10000; i++)
		ks_check_eq((uint8_t)b.p[i], (uint8_t)i);
	ks_buf_clear(&b);
}

KS_TEST(an_impossible_reserve_changes_nothing)
{
	struct ks_buf b = { 0 };

	ks_check_ok(ks_buf_append(&b, "ab", 2));
	ks_check_eq(ks_buf_reserve(&b, SIZE_MAX), -ENOMEM);
	ks_check_eq(ks_buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	ks_check_eq(b.n, 2);
	ks_check_mem(b.p, "ab", 2);
	ks_buf_clear(&b);
}

KS_TEST(printf_appends_what_fits_and_what_does_not)
{
	struct ks_buf b = { 0 };
	char want[3000] = "";
	size_t n = 0;
	const char *s;

	for (int i = 0; i < 500; i++) {
		ks_check_ok(ks_buf_printf(&b, "%d,", i));
		n += (size_t)snprintf(want + n, sizeof(want) - n, "%d,", i);
	}
	ks_check_eq(b.n, n);
	ks_check_ok(ks_buf_cstr(&b, &s));
	ks_check_str(s, want);
	ks_check_eq(b.n, n);
	ks_buf_clear(&b);
	ks_check_ok(ks_buf_printf(&b, "%200s", "x"));
	ks_check_eq(b.n, 200);
	ks_buf_clear(&b);
}

KS_TEST(the_arena_aligns_and_keeps_apart)
{
	struct ks_arena a = { 0 };
	uint8_t *p[300];

	for (size_t i = 0; i < KS_ARRAY_SIZE(p); i++) {
		p[i] = ks_arena_alloc(&a, i);
		ks_check(p[i]);
		ks_check_eq((uintptr_t)p[i] % 16, 0);
		memset(p[i], (int)i, i);
	}
	for (size_t i = 0; i < KS_ARRAY_SIZE(p); i++) {
		for (size_t k = 0; k < i; k++)
			ks_check_eq(p[i][k], (uint8_t)i);
	}
	ks_check_str(ks_arena_copy(&a, "kiseki", 7), "kiseki");
	ks_check(ks_arena_alloc(&a, SIZE_MAX) == NULL);
	ks_arena_clear(&a);
	ks_arena_clear(&a);
}

KS_TEST(a_reused_arena_settles_on_one_piece)
{
	struct ks_arena a = { 0 };
	struct ks_arena_piece *settled = NULL;

	for (int round = 0; round < 8; round++) {
		for (int i = 0; i < 1000; i++)
			ks_check(ks_arena_alloc(&a, 100));
		if (round == 5)
			settled = a.head;
		ks_check(round < 5 || a.head == settled);
		ks_arena_reset(&a);
	}
	ks_arena_clear(&a);
	ks_arena_reset(&a);
	ks_check(ks_arena_alloc(&a, 5u << 20));
	ks_arena_clear(&a);
}

KS_TEST(cleanup_helpers)
{
	int kept = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int none = -1;
	int was;

	{
		KS_AUTO(ks_freep) char *s = ks_asprintf("%s-%d", "a", 7);
		KS_AUTO(ks_freep) char *gone = NULL;

		ks_check_str(s, "a-7");
		gone = ks_steal(&s);
		ks_check(s == NULL);
		ks_check_str(gone, "a-7");
	}
	ks_closep(&none);
	was = kept;
	ks_closep(&kept);
	ks_check_eq(kept, -1);
	ks_check_eq(fcntl(was, F_GETFD), -1);
}

KS_TEST(a_file_is_replaced_whole)
{
	struct ks_buf b = { 0 };
	char path[512], left[600], got[16] = "";
	FILE *f;

	snprintf(path, sizeof(path), "%s/file", ks_tap_dir());
	for (int i = 1; i <= 2; i++) {
		ks_check_ok(ks_buf_printf(&b, "%d", i));
		ks_check_ok(ks_buf_to_file(&b, path));
	}
	f = fopen(path, "re");
	ks_check(f && fgets(got, sizeof(got), f));
	fclose(f);
	ks_check_str(got, "12");
	snprintf(left, sizeof(left), "%s.%d", path, (int)getpid());
	ks_check(access(left, F_OK) < 0);
	/* A directory cannot be replaced, and nothing stays behind. */
	snprintf(path, sizeof(path), "%s", ks_tap_dir());
	ks_fail_quiet(true);
	ks_check(ks_buf_to_file(&b, path) < 0);
	snprintf(left, sizeof(left), "%s.%d", path, (int)getpid());
	ks_check(access(left, F_OK) < 0);
	ks_buf_clear(&b);
}

KS_TEST_MAIN()
