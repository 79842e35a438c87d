/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tap.h: the harness of every unit and conformance test. Header only; for test programs.
 *
 *	#include "base/tap.h"
 *
 *	KS_TEST(grows)
 *	{
 *		struct ks_buf b = { 0 };
 *
 *		ks_check_ok(ks_buf_append(&b, "ab", 2));
 *		ks_check_eq(b.n, 2);
 *		ks_buf_clear(&b);
 *	}
 *
 *	KS_TEST_MAIN()
 *
 * KS_TEST_MAIN() runs every KS_TEST of the file, top to bottom. Plain `void f(void)` functions may
 *be named too: KS_TEST_MAIN(f, g). The output is TAP; the exit status is 1 when a test failed. A
 *first argument on the command line runs only the tests whose names contain it.
 *
 * A failed check ends its test (with longjmp: the test's KS_AUTO variables are not cleaned up). On
 *any thread but the main one it is counted against the running test and the thread goes on.
 *
 *	ks_check(cond)            true
 *	ks_check_eq(got, want)    equal integers, both printed
 *	ks_check_str(got, want)   equal strings, both printed; NULL equals only NULL
 *	ks_check_mem(got, want, n)
 *	ks_check_ok(expr)         an int that must be 0; prints errno and the last ks_fail() text
 *	ks_skip(why)              ends the test as skipped
 *	ks_tap_dir()              a directory of this process, removed at exit
 */
#ifndef KS_BASE_TAP_H
#define KS_BASE_TAP_H

#include "base/def.h"
#include "base/log.h"
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef void ks_tap_fn(void);

struct ks_tap_test {
	const char *name;
	size_t name_len;
	ks_tap_fn *fn;
};

#define KS_TAP_MAX 512

static struct {
	struct ks_tap_test tests[KS_TAP_MAX];
	int n;
	jmp_buf out;
	pthread_t main_thread;
	int failed; /* of the running test; atomic, any thread may set it */
	const char *skipped;
	char dir[256];
	pid_t dir_pid;
} ks_tap;

static inline void ks_tap_add(const char *name, size_t name_len, ks_tap_fn *fn)
{
	for (int i = 0; i < ks_tap.n; i++) {
		if (ks_tap.tests[i].fn == fn)
			return;
	}
	if (ks_tap.n == KS_TAP_MAX) {
		fprintf(stderr, "more than %d tests in one program\n", KS_TAP_MAX);
		abort();
	}
	ks_tap.tests[ks_tap.n++] = (struct ks_tap_test){ name, name_len, fn };
}

/* Adds functions given by name to KS_TEST_MAIN(); @names is "f, g". */
static inline void ks_tap_add_named(const char *names, ks_tap_fn *const *fns)
{
	for (; *fns; fns++) {
		names += strspn(names, " ,\t\n");
		ks_tap_add(names, strcspn(names, " ,\t\n"), *fns);
		names += strcspn(names, ",");
	}
}

#define KS_TEST(name)                                                                              \
	static void name(void);                                                                    \
	__attribute__((constructor)) static void ks_tap_add_##name(void)                           \
	{                                                                                          \
		ks_tap_add(#name, sizeof(#name) - 1, name);                                        \
	}                                                                                          \
	static void name(void)

/* Where a failed check goes, after its message. */
static inline void ks_tap_fail(void)
{
	__atomic_store_n(&ks_tap.failed, 1, __ATOMIC_SEQ_CST);
	if (pthread_equal(pthread_self(), ks_tap.main_thread))
		longjmp(ks_tap.out, 1);
}

static inline void ks_tap_check(bool ok, const char *file, int line, const char *what)
{
	if (ok)
		return;
	printf("# %s:%d: failed: %s\n", file, line, what);
	ks_tap_fail();
}

static inline void ks_tap_check_eq(intmax_t got, intmax_t want, const char *file, int line,
				   const char *what)
{
	if (got == want)
		return;
	printf("# %s:%d: %s: got %" PRIdMAX " (0x%" PRIxMAX "), want %" PRIdMAX " (0x%" PRIxMAX
	       ")\n",
	       file, line, what, got, (uintmax_t)got, want, (uintmax_t)want);
	ks_tap_fail();
}

static inline void ks_tap_check_str(const char *got, const char *want, const char *file, int line,
				    const char *what)
{
	if (got == want || (got && want && strcmp(got, want) == 0))
		return;
	printf("# %s:%d: %s: got \"%s\", want \"%s\"\n", file, line, what, got ? got : "(null)",
	       want ? want : "(null)");
	ks_tap_fail();
}

static inline void ks_tap_check_mem(const void *got, const void *want, size_t n, const char *file,
				    int line, const char *what)
{
	const unsigned char *g = got;
	const unsigned char *w = want;

	for (size_t i = 0; i < n; i++) {
		if (g[i] == w[i])
			continue;
		printf("# %s:%d: %s: byte %zu of %zu: got 0x%02x, want 0x%02x\n", file, line, what,
		       i, n, g[i], w[i]);
		ks_tap_fail();
		return;
	}
}

static inline void ks_tap_check_ok(int r, const char *file, int line, const char *what)
{
	if (r == 0)
		return;
	printf("# %s:%d: %s: got %d (%s); last failure: \"%s\"\n", file, line, what, r,
	       ks_strerror(r), ks_fail_text());
	ks_tap_fail();
}

#define ks_check(cond) ks_tap_check((cond), __FILE__, __LINE__, #cond)
#define ks_check_eq(got, want)                                                                     \
	ks_tap_check_eq((intmax_t)(got), (intmax_t)(want), __FILE__, __LINE__, #got " == " #want)
#define ks_check_str(got, want)                                                                    \
	ks_tap_check_str((got), (want), __FILE__, __LINE__, #got " == " #want)
#define ks_check_mem(got, want, n)                                                                 \
	ks_tap_check_mem((got), (want), (n), __FILE__, __LINE__, #got " == " #want)
#define ks_check_ok(expr) ks_tap_check_ok((expr), __FILE__, __LINE__, #expr)

/* Main thread only. @why must be a string that lives for ever. */
static inline void ks_skip(const char *why)
{
	ks_tap.skipped = why;
	longjmp(ks_tap.out, 1);
}

static inline int ks_tap_rm(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	/* A leftover is only untidy; the walk goes on. */
	KS_IGNORE(remove(path));
	return 0;
}

static inline void ks_tap_dir_remove(void)
{
	/* A child of fork() that calls exit() must not take its parent's directory away. */
	if (ks_tap.dir_pid == getpid())
		nftw(ks_tap.dir, ks_tap_rm, 16, FTW_DEPTH | FTW_PHYS);
}

static inline const char *ks_tap_dir(void)
{
	const char *base = getenv("TMPDIR");

	if (ks_tap.dir_pid == 0) {
		snprintf(ks_tap.dir, sizeof(ks_tap.dir), "%s/kiseki-test.XXXXXX",
			 base && *base ? base : "/tmp");
		if (!mkdtemp(ks_tap.dir)) {
			printf("Bail out! cannot make %s\n", ks_tap.dir);
			exit(1);
		}
		ks_tap.dir_pid = getpid();
		atexit(ks_tap_dir_remove);
	}
	return ks_tap.dir;
}

static inline bool ks_tap_wanted(const struct ks_tap_test *t, const char *filter)
{
	return !filter || memmem(t->name, t->name_len, filter, strlen(filter));
}

/* Runs test @t and prints its line; false when it failed. */
static inline bool ks_tap_run_one(const struct ks_tap_test *t, int number)
{
	__atomic_store_n(&ks_tap.failed, 0, __ATOMIC_SEQ_CST);
	ks_tap.skipped = NULL;
	ks_fail_clear();
	if (setjmp(ks_tap.out) == 0)
		t->fn();

	bool failed = __atomic_load_n(&ks_tap.failed, __ATOMIC_SEQ_CST);

	printf("%sok %d - %.*s%s%s\n", failed ? "not " : "", number, (int)t->name_len, t->name,
	       ks_tap.skipped ? " # SKIP " : "", ks_tap.skipped ? ks_tap.skipped : "");
	return !failed;
}

static inline int ks_tap_main(int argc, char **argv)
{
	const char *filter = argc > 1 ? argv[1] : NULL;
	int wanted = 0;
	int number = 0;
	int failed = 0;

	/* By line, so that a crash keeps what was said and fork() duplicates nothing. */
	setvbuf(stdout, NULL, _IOLBF, 0);
	ks_tap.main_thread = pthread_self();
	for (int i = 0; i < ks_tap.n; i++)
		wanted += ks_tap_wanted(&ks_tap.tests[i], filter);
	printf("1..%d\n", wanted);
	for (int i = 0; i < ks_tap.n; i++) {
		if (ks_tap_wanted(&ks_tap.tests[i], filter))
			failed += !ks_tap_run_one(&ks_tap.tests[i], ++number);
	}
	return failed != 0 || wanted == 0;
}

#define KS_TEST_MAIN(...)                                                                          \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		ks_tap_fn *const fns[] = { __VA_ARGS__ __VA_OPT__(, ) NULL };                      \
                                                                                                   \
		ks_tap_add_named("" #__VA_ARGS__, fns);                                            \
		return ks_tap_main(argc, argv);                                                    \
	}

#endif
