/* SPDX-License-Identifier: Apache-2.0 */
/* with_stats.c: a store that counts what goes to its inner store. Lock-free. */
#include "object/store.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

struct with_stats {
	struct ks_object base;
	_Atomic uint64_t gets, puts, dels, heads, lists, syncs, appends, errors;
	_Atomic uint64_t get_bytes, put_bytes;
	_Atomic uint64_t in_flight, in_flight_max;
};

struct stats_appender {
	struct ks_appender base;
	struct ks_appender *inner;
};

static void count(_Atomic uint64_t *c, uint64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static struct with_stats *begin(struct ks_object *o)
{
	struct with_stats *s = (struct with_stats *)o;
	uint64_t now = atomic_fetch_add(&s->in_flight, 1) + 1;
	uint64_t max = atomic_load(&s->in_flight_max);

	while (now > max && !atomic_compare_exchange_weak(&s->in_flight_max, &max, now))
		;
	return s;
}

static void end(struct with_stats *s, ssize_t r)
{
	atomic_fetch_sub(&s->in_flight, 1);
	if (r < 0 && r != -ENOENT && r != -EEXIST)
		count(&s->errors, 1);
}

static ssize_t stats_get(struct ks_object *o, const char *key, uint64_t off,
			 const struct iovec *iov, int niov)
{
	struct with_stats *s = begin(o);
	ssize_t n = ks_object_get(o->inner, key, off, iov, niov);

	count(&s->gets, 1);
	if (n > 0)
		count(&s->get_bytes, (uint64_t)n);
	end(s, n);
	return n;
}

static int stats_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	struct with_stats *s = begin(o);
	int r = ks_object_put(o->inner, key, iov, niov);

	count(&s->puts, 1);
	if (r == 0)
		count(&s->put_bytes, ks_iov_total(iov, niov));
	end(s, r);
	return r;
}

static int stats_sync(struct ks_object *o, bool all)
{
	struct with_stats *s = begin(o);
	int r = all ? ks_object_sync_all(o->inner) : ks_object_sync(o->inner);

	count(&s->syncs, 1);
	end(s, r);
	return r;
}

static int stats_del(struct ks_object *o, const char *const *keys, size_t n)
{
	struct with_stats *s = begin(o);
	int r = ks_object_del(o->inner, keys, n);

	count(&s->dels, n);
	end(s, r);
	return r;
}

static int stats_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	struct with_stats *s = begin(o);
	int r = ks_object_head(o->inner, key, out);

	count(&s->heads, 1);
	end(s, r);
	return r;
}

static int stats_list(struct ks_object *o, const char *prefix, const char *after,
		      ks_object_list_fn *fn, void *arg)
{
	struct with_stats *s = begin(o);
	int r = ks_object_list(o->inner, prefix, after, fn, arg);

	count(&s->lists, 1);
	end(s, r);
	return r;
}

static int stats_append_open(struct ks_object *o, const char *key, struct ks_appender **out)
{
	struct stats_appender *a = calloc(1, sizeof(*a));
	struct with_stats *s;
	int r;

	if (!a)
		return -ENOMEM;
	s = begin(o);
	r = ks_appender_open(o->inner, key, &a->inner);
	end(s, r);
	if (r < 0) {
		free(a);
		return r;
	}
	*out = &a->base;
	return 0;
}

static int stats_append_write(struct ks_appender *ap, const struct iovec *iov, int niov,
			      uint64_t *off)
{
	struct stats_appender *a = (struct stats_appender *)ap;
	struct with_stats *s = begin(ap->store);
	int r = ks_appender_write(a->inner, iov, niov, off);

	count(&s->appends, 1);
	if (r == 0)
		count(&s->put_bytes, ks_iov_total(iov, niov));
	end(s, r);
	return r;
}

static uint64_t stats_append_size(const struct ks_appender *a)
{
	return ks_appender_size(((const struct stats_appender *)a)->inner);
}

static void stats_append_close(struct ks_appender *a)
{
	ks_appender_close(((struct stats_appender *)a)->inner);
	free(a);
}

static const struct ks_store_ops stats_ops = {
	.get = stats_get,
	.put = stats_put,
	.sync = stats_sync,
	.del = stats_del,
	.head = stats_head,
	.list = stats_list,
	.append_open = stats_append_open,
	.append_write = stats_append_write,
	.append_size = stats_append_size,
	.append_close = stats_append_close,
};

int ks_object_with_stats(struct ks_object **out, struct ks_object *inner)
{
	struct with_stats *s = calloc(1, sizeof(*s));

	if (!s) {
		ks_object_close(inner);
		return -ENOMEM;
	}
	s->base.ops = &stats_ops;
	s->base.inner = inner;
	*out = &s->base;
	return 0;
}

void ks_object_stats(const struct ks_object *o, struct ks_object_stats *out)
{
	const struct with_stats *s;

	*out = (struct ks_object_stats){ 0 };
	while (o && o->ops != &stats_ops)
		o = o->inner;
	if (!o)
		return;
	s = (const struct with_stats *)o;
	out->gets = s->gets;
	out->puts = s->puts;
	out->dels = s->dels;
	out->heads = s->heads;
	out->lists = s->lists;
	out->syncs = s->syncs;
	out->appends = s->appends;
	out->errors = s->errors;
	out->get_bytes = s->get_bytes;
	out->put_bytes = s->put_bytes;
	out->in_flight_max = s->in_flight_max;
}
