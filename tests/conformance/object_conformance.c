/* SPDX-License-Identifier: Apache-2.0 */
/* object_conformance.c: what every object store must do, one call at a time. */
#include "object_suite.h"

/* ---- keys ---- */

static void t_bad_keys(void)
{
	static const char *const bad[] = { "",     "/",    "/a",        "a/",    "a//b", ".",
					   "..",   "a/..", "../a",      "a/./b", "./a",  "a b",
					   "a\nb", "a%b",  "a\xc3\xa4", "a~",    "a\\b", "a:b" };
	char longest[KS_OBJECT_KEY_MAX + 2];
	struct ks_object *o = open_fresh();
	struct ks_object_info info;
	char c;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		ks_check_eq(put(o, bad[i], "x", 1), -EINVAL);
		ks_check_eq(get(o, bad[i], 0, &c, 1), -EINVAL);
		ks_check_eq(ks_object_head(o, bad[i], &info), -EINVAL);
		ks_check_eq(ks_object_del(o, &bad[i], 1), -EINVAL);
		ks_check(ks_fail_text()[0]);
	}
	memset(longest, 'k', sizeof(longest));
	longest[KS_OBJECT_KEY_MAX + 1] = 0;
	ks_check_eq(put(o, longest, "x", 1), -EINVAL);
	longest[KS_OBJECT_KEY_MAX] = 0;
	ks_check_ok(put(o, longest, "x", 1));
	ks_check_eq(get(o, longest, 0, &c, 1), 1);
	ks_object_close(o);
}

static void t_good_keys(void)
{
	static const char *const good[] = { "a",     "...",          ".a",        "a..",
					    "..a/b", "tmp/0",        "a.b/-_/Z9", "-",
					    "_",     "lost.found/x", "tmp.d" };
	struct ks_object *o = open_fresh();
	char c;

	for (size_t i = 0; i < KS_ARRAY_SIZE(good); i++) {
		ks_check_ok(put(o, good[i], good[i], 1));
		ks_check_eq(get(o, good[i], 0, &c, 1), 1);
		ks_check_eq(c, good[i][0]);
	}
	ks_object_close(o);
}

/* ---- put and get ---- */

static void t_put_get(void)
{
	struct ks_object *o = open_fresh();
	struct ks_object_info info = { 0 };
	const char *key = "dir/obj";
	char b[16] = { 0 };

	ks_check_eq(get(o, key, 0, b, 4), -ENOENT);
	ks_check_eq(ks_object_head(o, key, &info), -ENOENT);
	ks_check_ok(put(o, key, "hello world", 11));
	ks_check_eq(get(o, key, 0, b, 5), 5);
	ks_check_mem(b, "hello", 5);
	ks_check_eq(get(o, key, 6, b, 16), 5); /* short at the end */
	ks_check_mem(b, "world", 5);
	ks_check_eq(get(o, key, 11, b, 16), 0);
	ks_check_eq(get(o, key, 4096, b, 16), 0);
	ks_check_eq(get(o, key, UINT64_MAX, b, 16), 0);
	ks_check_eq(get(o, "dir/none", UINT64_MAX, b, 16), -ENOENT);
	ks_check_ok(ks_object_head(o, key, &info));
	ks_check_eq(info.size_bytes, 11);
	ks_check(info.mtime_ns > 1000000000ll * 1000000000ll);
	ks_check_ok(put(o, key, "new", 3));
	ks_check_eq(get(o, key, 0, b, 16), 3);
	ks_check_mem(b, "new", 3);
	ks_check_eq(get(o, "dir", 0, b, 16), -ENOENT); /* no object, though a directory perhaps */
	ks_check_eq(get(o, "dir/obj/x", 0, b, 16), -ENOENT);
	ks_check_eq(ks_object_head(o, "dir", &info), -ENOENT);
	ks_check_ok(ks_object_del(o, &key, 1));
	ks_check_eq(get(o, key, 0, b, 16), -ENOENT);
	ks_check_ok(ks_object_del(o, &key, 1));
	ks_object_close(o);
}

static void t_empty(void)
{
	struct ks_object *o = open_fresh();
	struct ks_object_info info = { .size_bytes = 9 };
	char c;

	ks_check_ok(ks_object_put(o, "e/0", NULL, 0));
	ks_check_ok(put(o, "e/1", "", 0));
	ks_check_eq(get(o, "e/0", 0, &c, 1), 0);
	ks_check_eq(get(o, "e/1", 0, &c, 1), 0);
	ks_check_ok(ks_object_head(o, "e/0", &info));
	ks_check_eq(info.size_bytes, 0);
	ks_check_eq(ks_object_get(o, "e/0", 0, NULL, 0), 0);
	ks_check_eq(ks_object_get(o, "e/2", 0, NULL, 0), -ENOENT);
	ks_object_close(o);
}

/* Every way that alignment can go wrong, at sizes around the limits, compared bytewise. */
static void t_alignment(void)
{
	static const size_t sizes[] = { 1,      4095,   4096,          65536,
					131072, 131073, 262144 + 4097, 1048576 + 20000 };
	static const size_t shifts[] = { 0, 1, 512 };
	const size_t max = 1048576 + 20000;
	struct ks_object *o = open_fresh();
	char *src = aligned(max + 4096), *dst = aligned(max + 16384);

	fill(src, max + 4096, 1);
	for (size_t i = 0; i < KS_ARRAY_SIZE(sizes); i++) {
		for (size_t s = 0; s < KS_ARRAY_SIZE(shifts); s++) {
			const char *from = src + shifts[s];
			size_t n = sizes[i];

			ks_check_ok(put(o, "obj", from, n));
			for (size_t t = 0; t < KS_ARRAY_SIZE(shifts); t++) {
				static const uint64_t offs[] = {
					0, 1, 4096, 65536, 131072, 200000
				};

				for (size_t k = 0; k < KS_ARRAY_SIZE(offs); k++) {
					size_t off = ks_min((size_t)offs[k], n);
					size_t ask = ks_round_up(n, 4096),
					       want = ks_min(ask, n - off);

					memset(dst, 0, want + 4096);
					ks_check_eq(get(o, "obj", off, dst + shifts[t], ask), want);
					ks_check_mem(dst + shifts[t], from + off, want);
					ks_check_eq(dst[shifts[t] + want], 0);
				}
			}
		}
	}
	free(src);
	free(dst);
	ks_object_close(o);
}

/* Pages as the data layer hands them over: many buffers, a trailer, empty ones. */
static void t_iovecs(void)
{
	enum { N = 600, PAGE = 4096 };
	struct iovec *v = calloc(N + 1, sizeof(*v)), *w = calloc(N + 1, sizeof(*w));
	struct ks_object *o = open_fresh();
	char *src = aligned((size_t)N * PAGE), *dst = aligned((size_t)N * PAGE), trailer[700];

	fill(src, (size_t)N * PAGE, 2);
	fill(trailer, sizeof(trailer), 3);
	for (int i = 0; i < N; i++) { /* backwards, so that nothing merges */
		v[i] = (struct iovec){ src + (size_t)(N - 1 - i) * PAGE, PAGE };
		w[i] = (struct iovec){ dst + (size_t)(N - 1 - i) * PAGE, PAGE };
	}
	v[N] = (struct iovec){ trailer, sizeof(trailer) };
	w[N] = (struct iovec){ trailer, 0 };
	ks_check_ok(ks_object_put(o, "pages", v, N + 1));
	ks_check_eq(ks_object_get(o, "pages", 0, w, N + 1), N * PAGE);
	ks_check_mem(dst, src, (size_t)N * PAGE);
	memset(trailer, 0, sizeof(trailer));
	ks_check_eq(get(o, "pages", (uint64_t)N * PAGE, trailer, sizeof(trailer)), sizeof(trailer));
	fill(dst, sizeof(trailer), 3);
	ks_check_mem(trailer, dst, sizeof(trailer));
	v[N / 2].iov_len = 100; /* unaligned in the middle, a long rest behind it */
	v[1].iov_len = 0;
	ks_check_ok(ks_object_put(o, "pages", v, N + 1));
	ks_check_eq(get(o, "pages", (uint64_t)(N / 2 - 1) * PAGE, dst, 5000), 5000);
	ks_check_mem(dst, v[N / 2].iov_base, 100);
	ks_check_mem(dst + 100, v[N / 2 + 1].iov_base, PAGE);
	free(v);
	free(w);
	free(src);
	free(dst);
	ks_object_close(o);
}

static void t_block(void)
{
	const size_t n = 4 * KS_MIB + 1;
	struct ks_object *o = open_fresh();
	char *a = aligned(n), *b = aligned(n + 4096);

	fill(a, n, 4);
	ks_check_ok(put(o, "big", a, n));
	ks_check_eq(get(o, "big", 0, b, n + 4095), n);
	ks_check_mem(b, a, n);
	ks_check_eq(get(o, "big", 4 * KS_MIB, b, 4096), 1);
	ks_check_eq(get(o, "big", 4 * KS_MIB - 4096, b, 8192), 4097);
	ks_check_mem(b, a + 4 * KS_MIB - 4096, 4097);
	ks_check_eq(get(o, "big", 64 * KS_KIB, b, 64 * KS_KIB), 64 * KS_KIB);
	ks_check_mem(b, a + 64 * KS_KIB, 64 * KS_KIB);
	free(a);
	free(b);
	ks_object_close(o);
}

/* ---- lists ---- */

struct seen {
	struct ks_buf keys; /* newline after each */
	char last[KS_OBJECT_KEY_MAX + 1];
	size_t n, stop_at;
	bool disorder;
};

static int see(void *arg, const char *key, const struct ks_object_info *info)
{
	struct seen *s = arg;

	s->disorder |= s->n > 0 && strcmp(s->last, key) >= 0;
	snprintf(s->last, sizeof(s->last), "%s", key);
	if (ks_buf_printf(&s->keys, "%s=%d\n", key, (int)info->size_bytes) < 0)
		return -ENOMEM;
	return ++s->n == s->stop_at ? 42 : 0;
}

static void check_list(struct ks_object *o, const char *prefix, const char *after, const char *want)
{
	struct seen s = { .n = 0 };
	const char *text = NULL;

	ks_check_ok(ks_object_list(o, prefix, after, see, &s));
	ks_check_ok(ks_buf_cstr(&s.keys, &text));
	ks_check_str(text, want);
	ks_check(!s.disorder);
	ks_buf_clear(&s.keys);
}

static void t_list(void)
{
	static const char *const keys[] = { "a/b",     "a.b",   "a-b",  "a0", "a/b-",  "aa",   "A",
					    "b/c/d/e", "b/c.d", "b/c-", "_",  "a/B/x", "a/B.x" };
	struct ks_object *o = open_fresh();
	struct seen s = { .stop_at = 2 };

	check_list(o, "", "", "");
	for (size_t i = 0; i < KS_ARRAY_SIZE(keys); i++)
		ks_check_ok(put(o, keys[i], "xxx", i % 3));
	check_list(o, "", "",
		   "A=0\n_=1\na-b=2\na.b=1\na/B.x=0\na/B/x=2\na/b=0\na/b-=1\na0=0\naa=2\n"
		   "b/c-=0\nb/c.d=2\nb/c/d/e=1\n");
	check_list(o, "a", "", "a-b=2\na.b=1\na/B.x=0\na/B/x=2\na/b=0\na/b-=1\na0=0\naa=2\n");
	check_list(o, "a/", "", "a/B.x=0\na/B/x=2\na/b=0\na/b-=1\n");
	check_list(o, "a/b", "", "a/b=0\na/b-=1\n");
	check_list(o, "b/c/d/e", "", "b/c/d/e=1\n");
	check_list(o, "b/c/d/e", "b/c/d/e", "");
	check_list(o, "b/c/", "", "b/c/d/e=1\n");
	check_list(o, "zz/", "", "");
	check_list(o, "a/b/c", "", "");
	check_list(o, "", "a/b", "a/b-=1\na0=0\naa=2\nb/c-=0\nb/c.d=2\nb/c/d/e=1\n");
	check_list(o, "", "a/C", "a/b=0\na/b-=1\na0=0\naa=2\nb/c-=0\nb/c.d=2\nb/c/d/e=1\n");
	check_list(o, "", "b/c/d", "b/c/d/e=1\n");
	check_list(o, "", "b/c/d/e", "");
	check_list(o, "a", "a.zzz", "a/B.x=0\na/B/x=2\na/b=0\na/b-=1\na0=0\naa=2\n");
	check_list(o, "a", "!", "a-b=2\na.b=1\na/B.x=0\na/B/x=2\na/b=0\na/b-=1\na0=0\naa=2\n");
	check_list(o, "a", "~", "");
	ks_check_eq(ks_object_list(o, "", "", see, &s), 42);
	ks_check_eq(s.n, 2);
	ks_buf_clear(&s.keys);
	ks_check_eq(ks_object_list(o, "/", "", see, &s), -EINVAL);
	ks_check_eq(ks_object_list(o, "../", "", see, &s), -EINVAL);
	ks_check_eq(ks_object_list(o, "a//", "", see, &s), -EINVAL);
	ks_object_close(o);
}

static void t_many(void)
{
	enum { N = 5000 };
	static char names[N][24];
	static const char *keys[N];
	struct ks_object *o = open_fresh();
	struct seen s = { .n = 0 };

	for (int i = 0; i < N; i++) {
		snprintf(names[i], sizeof(names[i]), "m/%d/%d", i % 7, i);
		keys[i] = names[i];
		ks_check_ok(put(o, keys[i], "x", 1));
	}
	ks_check_ok(ks_object_sync(o));
	ks_check_ok(ks_object_list(o, "m/", "", see, &s));
	ks_check_eq(s.n, N);
	ks_check(!s.disorder);
	ks_buf_clear(&s.keys);

	/* Pages of 100, each from the last key of the one before. */
	struct seen page = { .n = 0 };
	size_t total = 0;
	int r = 42;

	while (r == 42) {
		char after[sizeof(page.last)];

		memcpy(after, page.last, sizeof(after));
		page.n = 0;
		page.stop_at = 100;
		r = ks_object_list(o, "", after, see, &page);
		total += page.n;
	}
	ks_check_eq(r, 0);
	ks_check_eq(total, N);
	ks_buf_clear(&page.keys);
	ks_check_ok(ks_object_del(o, keys, N - 1));
	check_list(o, "", "", "m/1/4999=1\n");
	ks_object_close(o);
}

static void t_reopen(void)
{
	struct ks_object *o = open_fresh(), *p = open_url(ks_object_url(o));
	struct ks_object_usage u = { 0 };
	const char *key = "k";
	char c = 0;

	ks_check_ok(put(o, "k", "1", 1));
	ks_check_eq(get(p, "k", 0, &c, 1), 1);
	ks_check_ok(put(o, "k", "2", 1)); /* replaced by another handle */
	ks_check_eq(get(p, "k", 0, &c, 1), 1);
	ks_check_eq(c, '2');
	ks_check_ok(ks_object_del(o, &key, 1));
	ks_check_eq(get(p, "k", 0, &c, 1), -ENOENT);
	ks_check_ok(ks_object_usage(p, &u));
	ks_check(u.free_bytes > 0 && u.free_bytes <= u.total_bytes);
	ks_object_close(o);
	ks_object_close(p);
}

static const struct suite_test suite[] = {
	{ "bad_keys", t_bad_keys }, { "good_keys", t_good_keys }, { "put_get", t_put_get },
	{ "empty", t_empty },       { "alignment", t_alignment }, { "iovecs", t_iovecs },
	{ "block", t_block },       { "list", t_list },           { "many", t_many },
	{ "reopen", t_reopen },
};

int main(int argc, char **argv)
{
	return suite_main(suite, KS_ARRAY_SIZE(suite), argc, argv);
}
