/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store.h: what a store supplies. Included by object/ only.
 *
 * A new store is one file with a `const struct ks_store_ops ks_store_NAME_ops` and one line KS_STORE(NAME) in stores.def;
 * tests/conformance then judges it. object.c checks arguments before it calls: keys are valid, iovecs not empty.
 */
#ifndef KS_OBJECT_STORE_H
#define KS_OBJECT_STORE_H

#include "object/object.h"

/* First member of every store's own struct. */
struct ks_object {
	const struct ks_store_ops *ops;
	struct ks_object *inner; /* decorators: owned; else NULL */
	char *url;               /* owned, freed by object.c */
};

struct ks_appender {
	struct ks_object *store; /* the one that owns this appender */
};

/* NULL where said: decorators pass through, stores get the generic way of object.c or -EOPNOTSUPP. */
struct ks_store_ops {
	const char *scheme; /* NULL: a decorator, not in stores.def */
	const char *help;

	/* May set ->url itself (a URL with secrets); ->ops and else ->url are set by object.c. */
	int (*open)(struct ks_object **out, const char *rest); /* @rest: behind "scheme://" */
	void (*close)(struct ks_object *o); /* frees @o; not ->inner, not ->url. NULL: free(o) */
	ssize_t (*get)(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
		       int niov);
	int (*put)(struct ks_object *o, const char *key, const struct iovec *iov, int niov);
	/* @all: also what others put. NULL: puts are durable at once. */
	int (*sync)(struct ks_object *o, bool all);
	/* The next sync cares for this object too. NULL: whoever put it, it is durable. */
	void (*adopt)(struct ks_object *o, const char *key);
	int (*del)(struct ks_object *o, const char *const *keys, size_t n);
	int (*head)(struct ks_object *o, const char *key, struct ks_object_info *out);
	int (*list)(struct ks_object *o, const char *prefix, const char *after,
		    ks_object_list_fn *fn, void *arg);
	int (*usage)(struct ks_object *o, struct ks_object_usage *out); /* NULL: no known limit */

	int (*dismantle)(struct ks_object *o); /* NULL: nothing to do */

	/* Optional, all or none. object.c sets ->store of a new appender. A decorator that has them wraps the inner appender. */
	int (*append_open)(struct ks_object *o, const char *key, struct ks_appender **out);
	int (*append_write)(struct ks_appender *a, const struct iovec *iov, int niov,
			    uint64_t *off);
	uint64_t (*append_size)(const struct ks_appender *a);
	void (*append_close)(struct ks_appender *a);
};

/* The absolute path of "scheme:///path", percent-decoded, without trailing slashes. Owned. -EINVAL, raised. */
int ks_store_url_path(const char *scheme, const char *rest, char **out) KS_MUST_CHECK;

/* FNV-1a, for tables in memory. */
static inline uint64_t ks_store_hash(const char *s, size_t n)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < n; i++)
		h = (h ^ (unsigned char)s[i]) * 0x100000001b3ull;
	return h;
}

static inline size_t ks_iov_total(const struct iovec *iov, int niov)
{
	size_t n = 0;

	for (int i = 0; i < niov; i++)
		n += iov[i].iov_len;
	return n;
}

#endif
