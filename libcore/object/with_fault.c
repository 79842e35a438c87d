/* SPDX-License-Identifier: Apache-2.0 */
/* with_fault.c: a store that fails, delays and damages on purpose. The rules' language is in object.h. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/thread.h"
#include "object/store.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum fault_op { OP_PUT, OP_GET, OP_DEL, OP_LIST, OP_HEAD, OP_SYNC, OP_APPEND, OP_COUNT };

static const char *const op_names[OP_COUNT] = { "put",  "get",  "del",   "list",
						"head", "sync", "append" };

#define BIT(op) (1u << (op))
#define WITH_BYTES (BIT(OP_PUT) | BIT(OP_GET) | BIT(OP_APPEND))
#define CAN_LOSE (BIT(OP_PUT) | BIT(OP_DEL) | BIT(OP_SYNC))
#define RULES_MAX 32

struct rule {
	uint64_t nth, every; /* 0: not given */
	uint64_t seen;
	int64_t delay_ns;
	enum fault_op op;
	int fail; /* negative errno */
	bool torn, flip, lost;
};

/* What befalls one call. */
struct fault {
	int fail;
	int64_t delay_ns;
	bool torn, flip, lost;
	uint64_t no; /* says which bit flips */
};

struct with_fault {
	struct ks_object base;
	_Atomic bool armed; /* any rule at all */
	pthread_mutex_t mu;
	struct rule rules[RULES_MAX]; /* [mu] */
	size_t n;                     /* [mu] */
	uint64_t calls;               /* [mu] */
};

struct fault_appender {
	struct ks_appender base;
	struct ks_appender *inner;
	char key[KS_OBJECT_KEY_MAX + 1];
};

static const struct {
	const char *name;
	int err;
} errnos[] = {
#define E(x)                                                                                       \
	{                                                                                          \
#x, -(x)                                                                           \
	}
	E(EIO),     E(ENOSPC), E(EDQUOT), E(EAGAIN), E(ETIMEDOUT),    E(ENOENT),       E(EACCES),
	E(EPERM),   E(EROFS),  E(ENOMEM), E(EINTR),  E(ECONNRESET),   E(ECONNREFUSED), E(EBUSY),
	E(EBADMSG), E(ESTALE), E(EMFILE), E(ENODEV), E(EHOSTUNREACH), E(EINVAL),       E(EEXIST),
#undef E
};

static int parse_errno(const char *v, int *out)
{
	char *end;
	long n;

	for (size_t i = 0; i < KS_ARRAY_SIZE(errnos); i++) {
		if (strcmp(errnos[i].name, v) == 0) {
			*out = errnos[i].err;
			return 0;
		}
	}
	errno = 0;
	n = strtol(v, &end, 10);
	if (errno != 0 || end == v || *end || n < 1 || n > 4095)
		return -EINVAL;
	*out = (int)-n;
	return 0;
}

static int parse_count(const char *v, uint64_t *out, const char **unit)
{
	char *end;
	unsigned long long n;

	if (*v < '0' || *v > '9')
		return -EINVAL;
	errno = 0;
	n = strtoull(v, &end, 10);
	if (errno != 0 || (!unit && *end))
		return -EINVAL;
	if (unit)
		*unit = end;
	*out = n;
	return 0;
}

static int parse_delay(const char *v, int64_t *out)
{
	const char *unit;
	uint64_t n, scale;
	int r = parse_count(v, &n, &unit);

	if (r < 0)
		return r;
	if (strcmp(unit, "us") == 0)
		scale = 1000;
	else if (strcmp(unit, "ms") == 0)
		scale = (uint64_t)KS_NS_PER_MS;
	else if (strcmp(unit, "s") == 0)
		scale = (uint64_t)KS_NS_PER_S;
	else
		return -EINVAL;
	if (n > (uint64_t)INT64_MAX / scale)
		return -EINVAL;
	*out = (int64_t)(n * scale);
	return 0;
}

static int parse_flag(const char *v, bool allowed, bool *out)
{
	if (!allowed || (strcmp(v, "0") != 0 && strcmp(v, "1") != 0))
		return -EINVAL;
	*out = v[0] == '1';
	return 0;
}

/* "name=value" of @r. */
static int parse_setting(struct rule *r, char *text)
{
	char *v = strchr(text, '=');
	int ret;

	if (!v)
		return -EINVAL;
	*v++ = 0;
	if (strcmp(text, "fail") == 0)
		return parse_errno(v, &r->fail);
	if (strcmp(text, "delay") == 0)
		return parse_delay(v, &r->delay_ns);
	if (strcmp(text, "torn") == 0)
		return parse_flag(v, WITH_BYTES & BIT(r->op), &r->torn);
	if (strcmp(text, "flip") == 0)
		return parse_flag(v, WITH_BYTES & BIT(r->op), &r->flip);
	if (strcmp(text, "lost") == 0)
		return parse_flag(v, CAN_LOSE & BIT(r->op), &r->lost);
	if (strcmp(text, "nth") == 0)
		ret = parse_count(v, &r->nth, NULL);
	else if (strcmp(text, "every") == 0)
		ret = parse_count(v, &r->every, NULL);
	else
		return -EINVAL;
	return ret == 0 && r->nth + r->every == 0 ? -EINVAL : ret;
}

static int parse_rule(struct rule *r, char *text)
{
	char *save = NULL;
	char *part = strtok_r(text, ":", &save);
	int ret = 0, op = 0;

	while (part && op < OP_COUNT && strcmp(part, op_names[op]) != 0)
		op++;
	if (!part || op == OP_COUNT)
		return -EINVAL;
	*r = (struct rule){ .op = (enum fault_op)op };
	while (ret == 0 && (part = strtok_r(NULL, ":", &save)))
		ret = parse_setting(r, part);
	if (ret == 0 && !r->fail && !r->delay_ns && !r->torn && !r->flip && !r->lost)
		ret = -EINVAL; /* it would do nothing */
	return ret;
}

static int parse_rules(const char *text, struct rule rules[RULES_MAX], size_t *n)
{
	KS_AUTO(ks_freep) char *copy = strdup(text);
	char *save = NULL;

	*n = 0;
	if (!copy)
		return -ENOMEM;
	for (char *t = strtok_r(copy, ",", &save); t; t = strtok_r(NULL, ",", &save)) {
		if (*n == RULES_MAX)
			return ks_fail(-EINVAL, "more than %d fault rules", RULES_MAX);
		if (parse_rule(&rules[*n], t) < 0)
			return ks_fail_hint(-EINVAL, "for example put:fail=EIO:nth=3",
					    "bad fault rules '%s' (rule %zu)", text, *n + 1);
		(*n)++;
	}
	return 0;
}

static bool hits(struct rule *r)
{
	r->seen++;
	if (r->nth == 0 && r->every == 0)
		return true;
	return (r->nth > 0 && r->seen == r->nth) || (r->every > 0 && r->seen % r->every == 0);
}

/* Counts the call, waits, and says what else is to happen. */
static struct fault decide(struct ks_object *o, enum fault_op op)
{
	struct with_fault *w = (struct with_fault *)o;
	struct fault f = { 0 };

	if (!atomic_load_explicit(&w->armed, memory_order_relaxed))
		return f;
	{
		KS_LOCKED(&w->mu);
		f.no = w->calls++;
		for (size_t i = 0; i < w->n; i++) {
			struct rule *r = &w->rules[i];

			if (r->op != op || !hits(r))
				continue;
			f.fail = f.fail ? f.fail : r->fail;
			f.delay_ns += r->delay_ns;
			f.torn |= r->torn;
			f.flip |= r->flip;
			f.lost |= r->lost;
		}
	}
	if (f.delay_ns > 0) {
		struct timespec ts = ks_ns_to_ts(f.delay_ns);

		while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
			;
	}
	return f;
}

/* Expected outcomes are as silent as real ones. */
static int inject(int err, enum fault_op op, const char *key)
{
	if (err == -ENOENT || err == -EEXIST || err == -EAGAIN)
		return err;
	return ks_fail(err, "injected fault: %s %s", op_names[op], key);
}

static void flip_bit(const struct iovec *iov, int niov, size_t n, uint64_t no)
{
	uint64_t at = n > 0 ? ks_mix64(no + 1) % (n * 8) : 0;
	size_t byte = (size_t)(at / 8);

	for (int i = 0; i < niov && n > 0; i++) {
		if (byte < iov[i].iov_len) {
			((unsigned char *)iov[i].iov_base)[byte] ^= (unsigned char)(1u << (at % 8));
			return;
		}
		byte -= iov[i].iov_len;
	}
}

/* A damaged copy of what is to be written. Aligned, so that the store takes the same way. */
static int damaged(const struct fault *f, const struct iovec *iov, int niov, struct iovec *out)
{
	size_t n = ks_iov_total(iov, niov), done = 0;
	char *p;

	if (posix_memalign((void **)&p, 4096, n + 1) != 0)
		return -ENOMEM;
	for (int i = 0; i < niov; i++) {
		if (iov[i].iov_len > 0)
			memcpy(p + done, iov[i].iov_base, iov[i].iov_len);
		done += iov[i].iov_len;
	}
	out->iov_base = p;
	out->iov_len = n;
	if (f->flip)
		flip_bit(out, 1, n, f->no);
	if (f->torn)
		out->iov_len = n / 2;
	return 0;
}

static ssize_t fault_get(struct ks_object *o, const char *key, uint64_t off,
			 const struct iovec *iov, int niov)
{
	struct fault f = decide(o, OP_GET);
	ssize_t n;

	if (f.fail && !f.torn)
		return inject(f.fail, OP_GET, key);
	n = ks_object_get(o->inner, key, off, iov, niov);
	if (n > 0 && f.flip)
		flip_bit(iov, niov, (size_t)n, f.no);
	if (n >= 0 && f.torn)
		return inject(f.fail ? f.fail : -EIO, OP_GET, key);
	return n;
}

static int fault_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	struct fault f = decide(o, OP_PUT);
	struct iovec v = { NULL, 0 };
	int r;

	if (f.fail && !f.torn)
		return inject(f.fail, OP_PUT, key);
	if (f.lost)
		return 0;
	if (!f.torn && !f.flip)
		return ks_object_put(o->inner, key, iov, niov);
	r = damaged(&f, iov, niov, &v);
	if (r < 0)
		return r;
	r = ks_object_put(o->inner, key, &v, 1);
	free(v.iov_base);
	if (r == 0 && f.torn)
		r = inject(f.fail ? f.fail : -EIO, OP_PUT, key);
	return r;
}

static int fault_sync(struct ks_object *o, bool all)
{
	struct fault f = decide(o, OP_SYNC);

	if (f.fail)
		return inject(f.fail, OP_SYNC, ks_object_url(o));
	if (f.lost)
		return 0;
	return all ? ks_object_sync_all(o->inner) : ks_object_sync(o->inner);
}

static int fault_del(struct ks_object *o, const char *const *keys, size_t n)
{
	struct fault f = decide(o, OP_DEL);

	if (f.fail) /* -ENOENT is no outcome of a deletion */
		return inject(f.fail == -ENOENT ? -EIO : f.fail, OP_DEL, keys[0]);
	return f.lost ? 0 : ks_object_del(o->inner, keys, n);
}

static int fault_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	struct fault f = decide(o, OP_HEAD);

	return f.fail ? inject(f.fail, OP_HEAD, key) : ks_object_head(o->inner, key, out);
}

static int fault_list(struct ks_object *o, const char *prefix, const char *after,
		      ks_object_list_fn *fn, void *arg)
{
	struct fault f = decide(o, OP_LIST);

	return f.fail ? inject(f.fail, OP_LIST, prefix)
		      : ks_object_list(o->inner, prefix, after, fn, arg);
}

static int fault_append_open(struct ks_object *o, const char *key, struct ks_appender **out)
{
	struct fault_appender *a = calloc(1, sizeof(*a));
	int r;

	if (!a)
		return -ENOMEM;
	r = ks_appender_open(o->inner, key, &a->inner);
	if (r < 0) {
		free(a);
		return r;
	}
	memcpy(a->key, key, strlen(key) + 1);
	*out = &a->base;
	return 0;
}

static int fault_append_write(struct ks_appender *ap, const struct iovec *iov, int niov,
			      uint64_t *off)
{
	struct fault_appender *a = (struct fault_appender *)ap;
	struct fault f = decide(ap->store, OP_APPEND);
	struct iovec v = { NULL, 0 };
	uint64_t at;
	int r;

	if (f.fail && !f.torn)
		return inject(f.fail, OP_APPEND, a->key);
	if (!f.torn && !f.flip)
		return ks_appender_write(a->inner, iov, niov, off);
	r = damaged(&f, iov, niov, &v);
	if (r < 0)
		return r;
	r = ks_appender_write(a->inner, &v, 1, &at);
	free(v.iov_base);
	if (r == 0 && f.torn)
		r = inject(f.fail ? f.fail : -EIO, OP_APPEND, a->key);
	if (r == 0)
		*off = at;
	return r;
}

static uint64_t fault_append_size(const struct ks_appender *a)
{
	return ks_appender_size(((const struct fault_appender *)a)->inner);
}

static void fault_append_close(struct ks_appender *a)
{
	ks_appender_close(((struct fault_appender *)a)->inner);
	free(a);
}

static void fault_close(struct ks_object *o)
{
	pthread_mutex_destroy(&((struct with_fault *)o)->mu);
	free(o);
}

static const struct ks_store_ops fault_ops = {
	.close = fault_close,
	.get = fault_get,
	.put = fault_put,
	.sync = fault_sync,
	.del = fault_del,
	.head = fault_head,
	.list = fault_list,
	.append_open = fault_append_open,
	.append_write = fault_append_write,
	.append_size = fault_append_size,
	.append_close = fault_append_close,
};

int ks_object_with_fault(struct ks_object **out, struct ks_object *inner, const char *rules)
{
	struct with_fault *w = calloc(1, sizeof(*w));
	int r;

	if (!w) {
		ks_object_close(inner);
		return -ENOMEM;
	}
	pthread_mutex_init(&w->mu, NULL);
	w->base.ops = &fault_ops;
	w->base.inner = inner;
	r = ks_object_fault_set(&w->base, rules);
	if (r < 0) {
		ks_object_close(&w->base);
		return r;
	}
	*out = &w->base;
	return 0;
}

int ks_object_fault_set(struct ks_object *o, const char *rules)
{
	struct rule parsed[RULES_MAX];
	struct with_fault *w;
	size_t n;
	int r = parse_rules(rules, parsed, &n);

	if (r < 0)
		return r;
	while (o && o->ops != &fault_ops)
		o = o->inner;
	if (!o)
		return ks_fail(-EINVAL, "this store was opened without faults");
	w = (struct with_fault *)o;

	KS_LOCKED(&w->mu);
	if (n > 0)
		memcpy(w->rules, parsed, n * sizeof(parsed[0]));
	w->n = n;
	w->armed = n > 0;
	return 0;
}
