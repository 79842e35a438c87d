/* SPDX-License-Identifier: Apache-2.0 */
/* copy_filter_test.c: which patterns match what, and that the first one decides. */
#include "base/tap.h"
#include "volume/copy_filter.h"
#include <errno.h>
#include <string.h>

static bool alone(const char *pattern, const char *path, bool dir)
{
	struct ks_copy_filter *f = NULL;
	bool r;

	ks_check_ok(ks_filter_add(&f, pattern, false));
	r = ks_filter_excludes(f, path, dir);
	ks_filter_free(f);
	return r;
}

KS_TEST(one_pattern)
{
	static const struct {
		const char *pattern, *path;
		bool dir, want;
	} t[] = {
		{ "*.o", "a.o", false, true },
		{ "*.o", "x/y/a.o", false, true },
		{ "*.o", "a.o/b", false, false },
		{ "*.o", "a.oo", false, false },
		{ "*", ".hidden", false, true },
		{ "?", "ab", false, false },
		{ "[a-c]x", "x/bx", false, true },
		{ "\\*", "*", false, true },
		{ "\\*", "a", false, false },
		{ "/a", "a", false, true },
		{ "/a", "b/a", false, false },
		{ "a/b", "a/b", false, true },
		{ "a/b", "x/a/b", false, false },
		{ "a/*", "a/b", false, true },
		{ "a/*", "a/b/c", false, false },
		{ "a/*", "a", true, false },
		{ "cache/", "x/cache", true, true },
		{ "cache/", "x/cache", false, false },
		{ "a/b/", "a/b", true, true },
		{ "a/**", "a/b/c", false, true },
		{ "a/**", "a/b", false, true },
		{ "a/**", "a", true, false },
		{ "**/b", "b", false, true },
		{ "**/b", "x/y/b", false, true },
		{ "a/**/b", "a/b", false, true },
		{ "a/**/b", "a/x/y/b", false, true },
		{ "a/**/b", "a/x/y/c", false, false },
		{ "a/**/**/b", "a/b", false, true },
		{ "**/*.c/**", "p/q.c/r", false, true },
		{ "a**z", "abcz", false, true },
		{ "//a//", "a", true, true },
		{ "a", "", true, false },
	};

	for (size_t i = 0; i < KS_ARRAY_SIZE(t); i++) {
		if (alone(t[i].pattern, t[i].path, t[i].dir) != t[i].want) {
			printf("# '%s' and '%s'\n", t[i].pattern, t[i].path);
			ks_check(!"another result is wanted");
		}
	}
}

KS_TEST(the_first_decides)
{
	struct ks_copy_filter *f = NULL;

	ks_check_ok(ks_filter_add(&f, "keep.log", true));
	ks_check_ok(ks_filter_add(&f, "*.log", false));
	ks_check_ok(ks_filter_add(&f, "*", true));
	ks_check_ok(ks_filter_add(&f, "x", false));
	ks_check(!ks_filter_excludes(f, "a/keep.log", false));
	ks_check(ks_filter_excludes(f, "a/b.log", false));
	ks_check(!ks_filter_excludes(f, "x", false));
	ks_filter_free(f);
	ks_check(!ks_filter_excludes(NULL, "x", false));
}

KS_TEST(bad_input)
{
	struct ks_copy_filter *f = NULL;
	char name[600];

	ks_check_eq(ks_filter_add(&f, "", false), -EINVAL);
	ks_check_eq(ks_filter_add(&f, "//", false), -EINVAL);
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ks_check_ok(ks_filter_add(&f, name, false));
	ks_check_ok(ks_filter_add(&f, "[", false));
	ks_check(!ks_filter_excludes(f, name, false));
	ks_check(!ks_filter_excludes(f, "b", false));
	ks_filter_free(f);
	ks_filter_free(NULL);
}

KS_TEST_MAIN()
