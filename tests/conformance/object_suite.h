/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object_suite.h: runs a table of tests over each line of stores.def, bare and under decorators. A store that needs a
 * server is judged when KISEKI_TEST_SCHEME (in capitals) holds a URL below which may be written.
 */
#ifndef KS_TESTS_OBJECT_SUITE_H
#define KS_TESTS_OBJECT_SUITE_H

#include "base/buf.h"
#include "base/hash.h"
#include "base/tap.h"
#include "base/thread.h"
#include "object/object.h"

#include <ctype.h>

enum around { BARE, STATS, FAULT, AROUNDS };

static const char *const around_names[AROUNDS] = { "", "+stats", "+fault" };

static char scheme[32];
static enum around around;
static int serial;

/* A fresh URL of the scheme under test. NULL: not here. */
static inline const char *fresh_url(void)
{
	static char url[512];

	serial++;
	if (strcmp(scheme, "file") == 0) {
		snprintf(url, sizeof(url), "file://%s/store%d", ks_tap_dir(), serial);
	} else if (strcmp(scheme, "mem") == 0) {
		snprintf(url, sizeof(url), "mem://store%d", serial);
	} else {
		char var[64] = "KISEKI_TEST_";
		const char *base;

		for (size_t i = 0; scheme[i] && i < 32; i++)
			var[12 + i] = (char)toupper((unsigned char)scheme[i]);
		base = getenv(var);
		if (!base)
			return NULL;
		snprintf(url, sizeof(url), "%s/test-%d-%d", base, (int)getpid(), serial);
	}
	return url;
}

static inline struct ks_object *open_url(const char *url)
{
	struct ks_object *o = NULL;

	ks_check_ok(ks_object_open(&o, url));
	if (around == STATS)
		ks_check_ok(ks_object_with_stats(&o, o));
	else if (around == FAULT)
		ks_check_ok(ks_object_with_fault(&o, o, ""));
	return o;
}

static inline struct ks_object *open_fresh(void)
{
	const char *url = fresh_url();

	if (!url)
		ks_skip("no URL in the environment");
	return open_url(url);
}

/* Bytes that depend on seed and place. */
static inline void fill(char *p, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t x = ks_mix64(seed * 0x9e3779b97f4a7c15ull + i / 8 + 1);

		memcpy(p + i, &x, ks_min(n - i, sizeof(x)));
	}
}

static inline char *aligned(size_t n)
{
	void *p = NULL;

	if (posix_memalign(&p, 4096, n + 1) != 0)
		abort();
	return p;
}

static inline int put(struct ks_object *o, const char *key, const void *p, size_t n)
{
	struct iovec v = { .iov_len = n };

	memcpy(&v.iov_base, &p, sizeof(p));
	return ks_object_put(o, key, &v, 1);
}

static inline ssize_t get(struct ks_object *o, const char *key, uint64_t off, void *p, size_t n)
{
	struct iovec v = { p, n };

	return ks_object_get(o, key, off, &v, 1);
}

struct suite_test {
	const char *name;
	ks_tap_fn *fn;
};

static char schemes[32][sizeof(scheme)];
static size_t nschemes;

static inline void add_scheme(void *arg, const char *name, const char *help)
{
	(void)arg;
	if (nschemes < KS_ARRAY_SIZE(schemes) && help[0])
		snprintf(schemes[nschemes++], sizeof(schemes[0]), "%s", name);
}

/* Runs, or with @run false counts, the rows whose names contain @filter. */
static inline int rows(const struct suite_test *suite, size_t nsuite, bool run, const char *filter,
		       int *failed)
{
	int n = 0;

	for (size_t s = 0; s < nschemes; s++) {
		for (size_t k = 0; k < AROUNDS * nsuite; k++) {
			size_t t = k % nsuite;
			char name[96];

			around = (enum around)(k / nsuite);
			memcpy(scheme, schemes[s], sizeof(scheme));
			snprintf(name, sizeof(name), "%s%s_%s", scheme, around_names[around],
				 suite[t].name);
			struct ks_tap_test test = { name, strlen(name), suite[t].fn };

			if (!ks_tap_wanted(&test, filter))
				continue;
			n++;
			if (run)
				*failed += !ks_tap_run_one(&test, n);
		}
	}
	return n;
}

static inline int suite_main(const struct suite_test *suite, size_t nsuite, int argc, char **argv)
{
	const char *filter = argc > 1 ? argv[1] : NULL;
	int failed = 0, n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ks_tap.main_thread = pthread_self();
	ks_fail_quiet(true);
	ks_object_stores(add_scheme, NULL);
	n = rows(suite, nsuite, false, filter, &failed);
	printf("1..%d\n", n);
	rows(suite, nsuite, true, filter, &failed);
	return failed != 0 || n == 0;
}

#endif
