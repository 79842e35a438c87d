/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_each.h: runs a test against every metadata engine of engines.def. For the engine suites only.
 *
 * An engine that needs a server is tested when KISEKI_TEST_<SCHEME> gives a URL prefix, to which a name is appended.
 */
#ifndef KS_TESTS_ENGINE_EACH_H
#define KS_TESTS_ENGINE_EACH_H

#include "base/clock.h"
#include "base/tap.h"
#include "meta/engine.h"
#include <ctype.h>

static struct ks_engine *eng; /* the one under test, open */
static char url[512];
static int made;

static inline void url_of(const char *scheme)
{
	char var[64] = "KISEKI_TEST_";
	const char *prefix;
	size_t n = strlen(var);

	for (const char *p = scheme; *p && n < sizeof(var) - 1; p++)
		var[n++] = (char)toupper((unsigned char)*p);
	var[n] = '\0';
	prefix = getenv(var);
	url[0] = '\0';
	made++;
	if (prefix)
		snprintf(url, sizeof(url), "%s%d-%d", prefix, (int)getpid(), made);
	else if (strcmp(scheme, "sqlite") == 0)
		snprintf(url, sizeof(url), "sqlite://%s/e%d.db", ks_tap_dir(), made);
	else if (strcmp(scheme, "mem") == 0)
		snprintf(url, sizeof(url), "mem://e%d", made);
}

static inline void on_engine(void *arg, const char *scheme, const char *help)
{
	void (*fn)(void);
	struct ks_engine_opts make = { .create = true };
	struct ks_engine_opts use = { .busy_timeout_ns = 20 * KS_NS_PER_S };
	struct ks_engine *first;

	(void)help;
	memcpy(&fn, arg, sizeof(fn));
	url_of(scheme);
	if (!url[0]) {
		printf("# %s: no URL to test it with\n", scheme);
		return;
	}
	ks_check_ok(ks_engine_open(&first, url, &make));
	ks_engine_close(first);
	ks_check_ok(ks_engine_open(&eng, url, &use));
	printf("# %s\n", scheme);
	fn();
	ks_engine_close(eng);
	eng = NULL;
}

static inline void each_engine(void (*fn)(void))
{
	ks_engines(on_engine, &fn);
}

#define CONFORMANCE(name)                                                                          \
	static void name##_on(void);                                                               \
	KS_TEST(name)                                                                              \
	{                                                                                          \
		each_engine(name##_on);                                                            \
	}                                                                                          \
	static void name##_on(void)

static inline struct ks_bytes str(const char *s)
{
	return (struct ks_bytes){ .p = s, .n = strlen(s) };
}

#endif
