/* SPDX-License-Identifier: Apache-2.0 */
/* object_test.c: the wrapper, URLs and the decorators. */
#include "base/clock.h"
#include "base/tap.h"
#include "object/store.h"

static int put(struct ks_object *o, const char *key, const char *text)
{
	char copy[256];
	struct iovec v = { copy, strlen(text) };

	memcpy(copy, text, v.iov_len);
	return ks_object_put(o, key, &v, 1);
}

static void check_get(struct ks_object *o, const char *key, const char *want)
{
	char b[256] = { 0 };
	struct iovec v = { b, sizeof(b) - 1 };

	ks_check_eq(ks_object_get(o, key, 0, &v, 1), strlen(want));
	ks_check_str(b, want);
}

/* ---- a store with the fewest functions ---- */

static char only[64];
static ssize_t only_len = -1;

static ssize_t min_get(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
		       int niov)
{
	size_t n;

	(void)o;
	(void)niov;
	if (only_len < 0 || strcmp(key, "one") != 0)
		return -ENOENT;
	if (off >= (uint64_t)only_len)
		return 0;
	n = ks_min(iov[0].iov_len, (size_t)only_len - (size_t)off);
	memcpy(iov[0].iov_base, only + off, n);
	return (ssize_t)n;
}

static int min_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	(void)o;
	(void)niov;
	if (strcmp(key, "one") != 0 || iov[0].iov_len > sizeof(only))
		return -ENOSPC;
	memcpy(only, iov[0].iov_base, iov[0].iov_len);
	only_len = (ssize_t)iov[0].iov_len;
	return 0;
}

static int min_del(struct ks_object *o, const char *const *keys, size_t n)
{
	(void)o;
	(void)keys;
	(void)n;
	only_len = -1;
	return 0;
}

static int min_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	(void)o;
	if (only_len < 0 || strcmp(key, "one") != 0)
		return -ENOENT;
	*out = (struct ks_object_info){ .size_bytes = (uint64_t)only_len };
	return 0;
}

static int min_list(struct ks_object *o, const char *prefix, const char *after,
		    ks_object_list_fn *fn, void *arg)
{
	struct ks_object_info info;

	if (min_head(o, "one", &info) < 0 || strncmp("one", prefix, strlen(prefix)) != 0 ||
	    strcmp("one", after) <= 0)
		return 0;
	return fn(arg, "one", &info);
}

static const struct ks_store_ops min_ops = {
	.get = min_get,
	.put = min_put,
	.del = min_del,
	.head = min_head,
	.list = min_list,
};

static int count_key(void *arg, const char *key, const struct ks_object_info *info)
{
	(void)key;
	(void)info;
	++*(size_t *)arg;
	return 0;
}

KS_TEST(minimal_store)
{
	struct ks_object *o = calloc(1, sizeof(*o));
	struct ks_object_usage u = { 0 };
	struct ks_appender *a = NULL;
	const char *key = "one";
	size_t n = 0;

	ks_check(o);
	o->ops = &min_ops;
	ks_fail_quiet(true);
	ks_check_ok(ks_object_with_fault(&o, o, ""));
	ks_check_ok(ks_object_with_stats(&o, o));
	ks_check_ok(put(o, "one", "text"));
	check_get(o, "one", "text");
	ks_check_ok(ks_object_sync(o));
	ks_check_ok(ks_object_usage(o, &u));
	ks_check(u.total_bytes == UINT64_MAX && u.free_bytes == UINT64_MAX);
	ks_check(!ks_object_can_append(o));
	ks_check_eq(ks_appender_open(o, "one", &a), -EOPNOTSUPP);
	ks_check_ok(ks_object_list(o, "", "", count_key, &n));
	ks_check_eq(n, 1);
	ks_check_ok(ks_object_del(o, &key, 1));
	ks_check_str(ks_object_url(o), "(unnamed)");
	ks_object_close(o);
}

/* ---- URLs ---- */

KS_TEST(urls)
{
	static const char *const bad[] = { "",
					   "/srv",
					   "srv",
					   "file:/srv",
					   "file://srv",
					   "file://",
					   "ftp://x",
					   "file:///a%0",
					   "file:///%00",
					   "file:///a%zz",
					   "file:///a?b",
					   "file:///a#b",
					   "mem://",
					   "mem://a/b",
					   "mem://..",
					   "://x" };
	struct ks_object *o = NULL;
	char url[512];

	ks_fail_quiet(true);
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		ks_fail_clear();
		ks_check_eq(ks_object_open(&o, bad[i]), -EINVAL);
		ks_check(ks_fail_text()[0] && !o);
	}
	ks_check_eq(ks_object_open(&o, "file://srv/x"), -EINVAL);
	ks_check(strstr(ks_fail_text(), "absolute"));
	snprintf(url, sizeof(url), "file://%s/no/such", ks_tap_dir());
	ks_check_eq(ks_object_open(&o, url), -ENOENT);
	ks_check(strstr(ks_fail_text(), "no/such"));
	snprintf(url, sizeof(url), "file://%s/a%%20%%62%%25//", ks_tap_dir());
	ks_check_ok(ks_object_open(&o, url));
	ks_check_str(ks_object_url(o), url);
	ks_check_ok(put(o, "k", "v"));
	ks_object_close(o);
	snprintf(url, sizeof(url), "%s/a b%%/k", ks_tap_dir());
	ks_check_eq(access(url, F_OK), 0);
	ks_object_closep(&(struct ks_object *){ NULL });
}

/* ---- decorators ---- */

KS_TEST(fault_rules)
{
	static const char *const bad[] = {
		"x",
		"put",
		"put:fail",
		"put:fail=EWHAT",
		"put:fail=0",
		"put:nth=3",
		"put:fail=EIO:nth=0",
		"put:delay=5",
		"put:delay=5m",
		"del:torn=1",
		"list:flip=1",
		"get:lost=1",
		"put:fail=EIO:nth=-1",
		"put:torn=2",
		"put:fail=EIO,,x",
	};
	struct ks_object *o = NULL, *plain = NULL;

	ks_fail_quiet(true);
	ks_check_ok(ks_object_open(&o, "mem://fault-rules"));
	ks_check_ok(ks_object_with_fault(&o, o, ""));
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check_eq(ks_object_fault_set(o, bad[i]), -EINVAL);
	ks_check_ok(
		ks_object_fault_set(o, "put:fail=5:nth=2,get:delay=1us:every=3,sync:fail=EROFS"));
	ks_check_ok(put(o, "a", "1"));
	ks_check_eq(put(o, "b", "1"), -EIO);
	ks_check(strstr(ks_fail_text(), "injected"));
	ks_check_ok(put(o, "b", "1"));
	ks_check_eq(ks_object_sync(o), -EROFS);
	ks_check_eq(ks_object_sync(o), -EROFS);
	ks_check_ok(ks_object_fault_set(o, ""));
	ks_check_ok(ks_object_sync(o));
	ks_object_close(o);
	ks_check_ok(ks_object_open(&plain, "mem://fault-rules"));
	ks_check_eq(ks_object_fault_set(plain, "put:torn=1"), -EINVAL);
	o = NULL;
	ks_check_eq(ks_object_with_fault(&o, plain, "bad"), -EINVAL); /* plain is closed */
	ks_check(!o);
}

KS_TEST(fault_effects)
{
	struct ks_object *o = NULL;
	struct ks_object_info info;
	struct ks_appender *a = NULL;
	struct iovec v = { (char[8]){ "12345678" }, 8 };
	const char *key = "k";
	char b[16];
	struct iovec w = { b, 8 };
	uint64_t off = 99;
	size_t n = 0;
	int bits = 0;

	ks_fail_quiet(true);
	ks_check_ok(ks_object_open(&o, "mem://fault-effects"));
	ks_check_ok(ks_object_with_fault(&o, o, "put:torn=1:nth=2"));
	ks_check_ok(ks_object_with_stats(&o, o));
	ks_check_ok(put(o, key, "whole"));
	ks_check_eq(ks_object_put(o, key, &v, 1), -EIO);
	check_get(o, key, "1234");
	ks_check_ok(ks_object_fault_set(
		o, "get:flip=1:nth=2,del:lost=1,head:fail=ENOENT,list:fail=EIO,"
		   "put:lost=1:nth=2,append:fail=ENOSPC:nth=2,append:torn=1:nth=3"));
	ks_check_ok(ks_object_put(o, key, &v, 1));
	ks_check_ok(put(o, key, "lost"));
	check_get(o, key, "12345678");
	ks_check_eq(ks_object_get(o, key, 0, &w, 1), 8);
	for (int i = 0; i < 8; i++)
		bits += __builtin_popcount((unsigned)(b[i] ^ "12345678"[i]));
	ks_check_eq(bits, 1);
	ks_check_ok(ks_object_del(o, &key, 1));
	check_get(o, key, "12345678");
	ks_check_eq(ks_object_head(o, key, &info), -ENOENT);
	ks_check_eq(ks_object_list(o, "", "", count_key, &n), -EIO);
	ks_check_eq(n, 0);

	ks_check_ok(ks_appender_open(o, "pack", &a));
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_eq(off, 0);
	ks_check_eq(ks_appender_write(a, &v, 1, &off), -ENOSPC);
	ks_check_eq(ks_appender_size(a), 8);
	ks_check_eq(ks_appender_write(a, &v, 1, &off), -EIO);
	ks_check_eq(off, 0);
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_eq(off, 12); /* behind what was torn */
	ks_appender_close(a);

	int64_t t = ks_clock_mono_ns();

	ks_check_ok(ks_object_fault_set(o, "put:delay=30ms"));
	ks_check_ok(put(o, key, "x"));
	ks_check(ks_clock_mono_ns() - t >= 30 * KS_NS_PER_MS);

	struct ks_object_stats st;

	ks_object_stats(o, &st);
	ks_check_eq(st.puts, 5);
	ks_check_eq(st.appends, 4);
	ks_check_eq(st.errors, 4); /* -ENOENT of head is none */
	ks_object_close(o);
}

KS_TEST_MAIN()
