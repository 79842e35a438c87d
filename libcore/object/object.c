/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.c: the registry of stores, and what every store would otherwise repeat: argument checks, tracing, asserts,
 * and the generic way of what a store leaves out. A decorator's missing function means its inner store's.
 */
#include "base/buf.h"
#include "base/log.h"
#include "object/store.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define KS_STORE(x) extern const struct ks_store_ops ks_store_##x##_ops;
#include "object/stores.def"
#undef KS_STORE

static const struct ks_store_ops *const stores[] = {
#define KS_STORE(x) &ks_store_##x##_ops,
#include "object/stores.def"
#undef KS_STORE
};

/* From @o inwards, the first that has @op; the innermost store if none has. */
#define OWNER(o, op)                                                                               \
	__extension__({                                                                            \
		struct ks_object *ks_o_ = (o);                                                     \
		while (!ks_o_->ops->op && ks_o_->inner)                                            \
			ks_o_ = ks_o_->inner;                                                      \
		ks_o_;                                                                             \
	})

/* Traced once, by the store itself and not by what is around it. */
#define TRACE(o, ...)                                                                              \
	do {                                                                                       \
		if (!(o)->inner)                                                                   \
			ks_log(KS_LOG_DEBUG, __VA_ARGS__);                                         \
	} while (0)

static bool is_key_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '.' || c == '_' || c == '-' || c == '/';
}

static bool is_bad_component(const char *p, size_t n)
{
	return n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.');
}

/* A key; or, with @prefix, what some key may start with. */
static bool is_valid(const char *key, bool prefix)
{
	size_t start = 0, i;

	for (i = 0; key[i]; i++) {
		if (i == KS_OBJECT_KEY_MAX || !is_key_char(key[i]))
			return false;
		if (key[i] != '/')
			continue;
		if (is_bad_component(key + start, i - start))
			return false;
		start = i + 1;
	}
	return prefix || !is_bad_component(key + start, i - start);
}

bool ks_object_key_ok(const char *key)
{
	return key && is_valid(key, false);
}

static int check_key(const struct ks_object *o, const char *what, const char *key)
{
	if (ks_object_key_ok(key))
		return 0;
	return ks_fail(-EINVAL, "%s %s: '%.80s' is not an object key", what, ks_object_url(o),
		       key ? key : "(null)");
}

static const struct iovec no_iov = { NULL, 0 };

/* Also makes an empty list one empty iovec. */
static int check_iov(const char *what, const char *key, const struct iovec **iov, int *niov,
		     size_t *total)
{
	size_t sum = 0;

	if (*niov < 0 || (*niov > 0 && !*iov))
		return ks_fail(-EINVAL, "%s %s: bad list of buffers", what, key);
	for (int i = 0; i < *niov; i++) {
		if (__builtin_add_overflow(sum, (*iov)[i].iov_len, &sum) || sum > SSIZE_MAX / 2)
			return ks_fail(-EINVAL, "%s %s: too many bytes", what, key);
	}
	if (*niov == 0) {
		*iov = &no_iov;
		*niov = 1;
	}
	*total = sum;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int ks_store_url_path(const char *scheme, const char *rest, char **out)
{
	KS_AUTO(ks_freep) char *path = NULL;
	size_t n = 0;

	if (rest[0] != '/') {
		return ks_fail_hint(-EINVAL,
				    "write the full path with three slashes: file:///srv/blocks",
				    "%s://%s: the path must be absolute", scheme, rest);
	}
	path = malloc(strlen(rest) + 1);
	if (!path)
		return -ENOMEM;
	for (const char *p = rest; *p; p++) {
		char c = *p;

		if (c == '?' || c == '#')
			return ks_fail_hint(-EINVAL, "write ? as %3F and # as %23",
					    "%s://%s: '%c' in a path", scheme, rest, c);
		if (c == '%') {
			int hi = hex_digit(p[1]);
			int lo = hi < 0 ? -1 : hex_digit(p[2]);

			if (lo < 0 || (hi == 0 && lo == 0))
				return ks_fail_hint(-EINVAL, "write % as %25",
						    "%s://%s: bad percent escape", scheme, rest);
			c = (char)(hi * 16 + lo);
			p += 2;
		}
		path[n++] = c;
	}
	while (n > 1 && path[n - 1] == '/')
		n--;
	path[n] = 0;
	*out = ks_steal(&path);
	return 0;
}

static const struct ks_store_ops *find_store(const char *url, size_t n)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(stores); i++) {
		if (strlen(stores[i]->scheme) == n && memcmp(stores[i]->scheme, url, n) == 0)
			return stores[i];
	}
	return NULL;
}

int ks_object_open(struct ks_object **out, const char *url)
{
	const char *sep = strstr(url, "://");
	const struct ks_store_ops *ops;
	struct ks_object *o = NULL;
	int r;

	if (!sep && url[0] == '/')
		return ks_fail_hint(-EINVAL, "write a directory as file:///path",
				    "'%s' is a path and not the URL of an object store", url);
	if (!sep)
		return ks_fail_hint(-EINVAL, "for example file:///srv/blocks",
				    "'%s' is not the URL of an object store", url);
	ops = find_store(url, (size_t)(sep - url));
	if (!ops)
		return ks_fail(-EINVAL, "no object store has the scheme '%.*s'",
			       (int)ks_min(sep - url, (ptrdiff_t)32), url);
	r = ops->open(&o, sep + 3);
	assert(r <= 0);
	if (r < 0)
		return r;
	o->ops = ops;
	if (!o->url) /* a store with secrets in its URL has set its own */
		o->url = strdup(url);
	if (!o->url) {
		ks_object_close(o);
		return -ENOMEM;
	}
	*out = o;
	return 0;
}

void ks_object_close(struct ks_object *o)
{
	while (o) {
		struct ks_object *inner = o->inner;
		char *url = o->url;

		if (o->ops->close)
			o->ops->close(o);
		else
			free(o);
		free(url);
		o = inner;
	}
}

void ks_object_closep(struct ks_object **o)
{
	ks_object_close(*o);
	*o = NULL;
}

const char *ks_object_url(const struct ks_object *o)
{
	while (!o->url && o->inner)
		o = o->inner;
	return o->url ? o->url : "(unnamed)";
}

ssize_t ks_object_get(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
		      int niov)
{
	struct ks_object_info info;
	size_t total = 0;
	ssize_t n;
	int r = check_key(o, "get", key);

	if (r == 0)
		r = check_iov("get", key, &iov, &niov, &total);
	if (r < 0)
		return r;
	if (off > (uint64_t)INT64_MAX - total) { /* past any end */
		r = ks_object_head(o, key, &info);
		return r;
	}
	o = OWNER(o, get);
	n = o->ops->get(o, key, off, iov, niov);
	assert(n < 0 || (size_t)n <= total);
	TRACE(o, "%s: get %s off=%" PRIu64 " len=%zu -> %zd", o->ops->scheme, key, off, total, n);
	return n;
}

int ks_object_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	size_t total = 0;
	int r = check_key(o, "put", key);

	if (r == 0)
		r = check_iov("put", key, &iov, &niov, &total);
	if (r < 0)
		return r;
	o = OWNER(o, put);
	r = o->ops->put(o, key, iov, niov);
	assert(r <= 0);
	TRACE(o, "%s: put %s len=%zu -> %d", o->ops->scheme, key, total, r);
	return r;
}

int ks_object_sync(struct ks_object *o)
{
	int r;

	o = OWNER(o, sync);
	if (!o->ops->sync)
		return 0;
	r = o->ops->sync(o, false);
	assert(r <= 0);
	TRACE(o, "%s: sync -> %d", o->ops->scheme, r);
	return r;
}

int ks_object_sync_all(struct ks_object *o)
{
	int r;

	o = OWNER(o, sync);
	if (!o->ops->sync)
		return 0;
	r = o->ops->sync(o, true);
	assert(r <= 0);
	TRACE(o, "%s: sync of all -> %d", o->ops->scheme, r);
	return r;
}

int ks_object_adopt(struct ks_object *o, const char *key)
{
	int r = check_key(o, "adopt", key);

	if (r < 0)
		return r;
	o = OWNER(o, adopt);
	if (o->ops->adopt)
		o->ops->adopt(o, key);
	return 0;
}

int ks_object_del(struct ks_object *o, const char *const *keys, size_t n)
{
	int r;

	for (size_t i = 0; i < n; i++) {
		r = check_key(o, "del", keys[i]);
		if (r < 0)
			return r;
	}
	if (n == 0)
		return 0;
	o = OWNER(o, del);
	r = o->ops->del(o, keys, n);
	assert(r <= 0 && r != -ENOENT);
	TRACE(o, "%s: del %s and %zu more -> %d", o->ops->scheme, keys[0], n - 1, r);
	return r;
}

int ks_object_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	int r = check_key(o, "head", key);

	if (r < 0)
		return r;
	o = OWNER(o, head);
	r = o->ops->head(o, key, out);
	assert(r <= 0);
	TRACE(o, "%s: head %s -> %d", o->ops->scheme, key, r);
	return r;
}

int ks_object_list(struct ks_object *o, const char *prefix, const char *after,
		   ks_object_list_fn *fn, void *arg)
{
	int r;

	if (!is_valid(prefix, true))
		return ks_fail(-EINVAL, "list %s: no object key starts with '%.80s'",
			       ks_object_url(o), prefix);
	o = OWNER(o, list);
	r = o->ops->list(o, prefix, after, fn, arg);
	TRACE(o, "%s: list '%s' after '%s' -> %d", o->ops->scheme, prefix, after, r);
	return r;
}

int ks_object_usage(struct ks_object *o, struct ks_object_usage *out)
{
	o = OWNER(o, usage);
	if (o->ops->usage)
		return o->ops->usage(o, out);
	out->total_bytes = UINT64_MAX;
	out->free_bytes = UINT64_MAX;
	return 0;
}

int ks_object_dismantle(struct ks_object *o)
{
	o = OWNER(o, dismantle);
	return o->ops->dismantle ? o->ops->dismantle(o) : 0;
}

/* A decorator may count or fail appends, but only the innermost store can do them. */
bool ks_object_can_append(const struct ks_object *o)
{
	while (o->inner)
		o = o->inner;
	return o->ops->append_open != NULL;
}

int ks_appender_open(struct ks_object *o, const char *key, struct ks_appender **out)
{
	int r = check_key(o, "append", key);

	if (r < 0)
		return r;
	if (!ks_object_can_append(o))
		return ks_fail(-EOPNOTSUPP, "append %s: %s cannot append", key, ks_object_url(o));
	o = OWNER(o, append_open);
	r = o->ops->append_open(o, key, out);
	assert(r <= 0);
	if (r == 0)
		(*out)->store = o;
	TRACE(o, "%s: append_open %s -> %d", o->ops->scheme, key, r);
	return r;
}

int ks_appender_write(struct ks_appender *a, const struct iovec *iov, int niov, uint64_t *off)
{
	size_t total = 0;
	int r = check_iov("append", ks_object_url(a->store), &iov, &niov, &total);

	if (r < 0)
		return r;
	r = a->store->ops->append_write(a, iov, niov, off);
	assert(r <= 0);
	TRACE(a->store, "%s: append len=%zu -> %d", a->store->ops->scheme, total, r);
	return r;
}

uint64_t ks_appender_size(const struct ks_appender *a)
{
	return a->store->ops->append_size(a);
}

void ks_appender_close(struct ks_appender *a)
{
	if (a)
		a->store->ops->append_close(a);
}

void ks_object_stores(void (*fn)(void *arg, const char *scheme, const char *help), void *arg)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(stores); i++)
		fn(arg, stores[i]->scheme, stores[i]->help);
}
