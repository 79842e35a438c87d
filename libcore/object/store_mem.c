/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_mem.c: objects in this process's memory, for tests. The place to begin when writing a store.
 *
 * "mem://x" is the same store wherever it is opened in a process, and its objects live until they are deleted or the process
 * ends: a test formats a volume, closes it and opens it again.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "object/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUCKETS 4096

struct entry {
	struct entry *next;
	struct ks_buf data;
	int64_t mtime_ns;
	char key[];
};

/* What all handles of one name share. Never freed. */
struct space {
	struct space *next; /* [spaces_mu] */
	pthread_rwlock_t lock;
	struct entry *bucket[BUCKETS]; /* [lock] */
	size_t n;                      /* [lock] */
	char name[];
};

struct store_mem {
	struct ks_object base;
	struct space *sp;
};

struct mem_appender {
	struct ks_appender base;
	struct space *sp;
	_Atomic uint64_t size;
	char key[KS_OBJECT_KEY_MAX + 1];
};

static pthread_mutex_t spaces_mu = PTHREAD_MUTEX_INITIALIZER;
static struct space *spaces; /* [spaces_mu] */

static struct space *space_of(struct ks_object *o)
{
	return ((struct store_mem *)o)->sp;
}

static void entry_freep(struct entry **e)
{
	if (*e) {
		ks_buf_clear(&(*e)->data);
		free(*e);
	}
}

static void unlockp(pthread_rwlock_t **l)
{
	pthread_rwlock_unlock(*l);
}

#define READING(sp)                                                                                \
	KS_AUTO(unlockp) __attribute__((unused)) pthread_rwlock_t *guard = &(sp)->lock;            \
	pthread_rwlock_rdlock(guard)
#define WRITING(sp)                                                                                \
	KS_AUTO(unlockp) __attribute__((unused)) pthread_rwlock_t *guard = &(sp)->lock;            \
	pthread_rwlock_wrlock(guard)

/* Needs sp->lock. Where the entry is linked, or would be. */
static struct entry **find(struct space *sp, const char *key)
{
	struct entry **pp = &sp->bucket[ks_store_hash(key, strlen(key)) % BUCKETS];

	while (*pp && strcmp((*pp)->key, key) != 0)
		pp = &(*pp)->next;
	return pp;
}

static struct space *find_space(const char *name)
{
	struct space *sp;

	KS_LOCKED(&spaces_mu);
	for (sp = spaces; sp; sp = sp->next) {
		if (strcmp(sp->name, name) == 0)
			return sp;
	}
	sp = calloc(1, sizeof(*sp) + strlen(name) + 1);
	if (!sp)
		return NULL;
	memcpy(sp->name, name, strlen(name) + 1);
	pthread_rwlock_init(&sp->lock, NULL);
	sp->next = spaces;
	spaces = sp;
	return sp;
}

static int mem_open(struct ks_object **out, const char *rest)
{
	KS_AUTO(ks_freep) struct store_mem *m = calloc(1, sizeof(*m));

	if (!m)
		return -ENOMEM;
	if (!ks_object_key_ok(rest) || strchr(rest, '/'))
		return ks_fail_hint(-EINVAL, "for example mem://test", "mem://%s: bad name", rest);
	m->sp = find_space(rest);
	if (!m->sp)
		return -ENOMEM;
	*out = &m->base;
	(void)ks_steal(&m);
	return 0;
}

static ssize_t mem_get(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
		       int niov)
{
	struct space *sp = space_of(o);
	size_t done = 0;

	READING(sp);
	const struct entry *e = *find(sp, key);

	if (!e)
		return -ENOENT;
	for (int i = 0; i < niov && off + done < e->data.n; i++) {
		size_t n = ks_min(iov[i].iov_len, e->data.n - (size_t)off - done);

		if (n > 0)
			memcpy(iov[i].iov_base, e->data.p + off + done, n);
		done += n;
	}
	return (ssize_t)done;
}

static int append_iov(struct ks_buf *b, const struct iovec *iov, int niov)
{
	int r = ks_buf_reserve(b, ks_iov_total(iov, niov));

	for (int i = 0; i < niov && r == 0; i++) {
		if (iov[i].iov_len > 0)
			r = ks_buf_append(b, iov[i].iov_base, iov[i].iov_len);
	}
	return r;
}

static struct entry *entry_new(const char *key)
{
	size_t n = strlen(key) + 1;
	struct entry *e = calloc(1, sizeof(*e) + n);

	if (e) {
		memcpy(e->key, key, n);
		e->mtime_ns = ks_clock_real_ns();
	}
	return e;
}

static int mem_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	struct space *sp = space_of(o);
	KS_AUTO(entry_freep) struct entry *e = entry_new(key);
	KS_AUTO(entry_freep) struct entry *old = NULL;
	int r = e ? append_iov(&e->data, iov, niov) : -ENOMEM;

	if (r < 0)
		return r;

	WRITING(sp);
	struct entry **pp = find(sp, key);

	old = *pp;
	e->next = old ? old->next : NULL;
	sp->n += old ? 0 : 1;
	*pp = ks_steal(&e);
	return 0;
}

static int mem_del(struct ks_object *o, const char *const *keys, size_t n)
{
	struct space *sp = space_of(o);

	for (size_t i = 0; i < n; i++) {
		KS_AUTO(entry_freep) struct entry *old = NULL;

		WRITING(sp);
		struct entry **pp = find(sp, keys[i]);

		old = *pp;
		if (old) {
			*pp = old->next;
			sp->n--;
		}
	}
	return 0;
}

static int mem_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	struct space *sp = space_of(o);

	READING(sp);
	const struct entry *e = *find(sp, key);

	if (!e)
		return -ENOENT;
	out->size_bytes = e->data.n;
	out->mtime_ns = e->mtime_ns;
	return 0;
}

struct listed {
	struct ks_object_info info;
	char key[KS_OBJECT_KEY_MAX + 1];
};

static int cmp_listed(const void *a, const void *b)
{
	return strcmp(((const struct listed *)a)->key, ((const struct listed *)b)->key);
}

static int mem_list(struct ks_object *o, const char *prefix, const char *after,
		    ks_object_list_fn *fn, void *arg)
{
	struct space *sp = space_of(o);
	KS_AUTO(ks_freep) struct listed *v = NULL;
	size_t n = 0;
	int r = 0;

	{
		READING(sp);
		v = malloc((sp->n + 1) * sizeof(*v));
		if (!v)
			return -ENOMEM;
		for (size_t b = 0; b < BUCKETS; b++) {
			for (const struct entry *e = sp->bucket[b]; e; e = e->next) {
				if (strncmp(e->key, prefix, strlen(prefix)) != 0 ||
				    strcmp(e->key, after) <= 0)
					continue;
				v[n].info.size_bytes = e->data.n;
				v[n].info.mtime_ns = e->mtime_ns;
				memcpy(v[n++].key, e->key, strlen(e->key) + 1);
			}
		}
	}
	if (n > 1)
		qsort(v, n, sizeof(*v), cmp_listed);
	for (size_t i = 0; i < n && r == 0; i++)
		r = fn(arg, v[i].key, &v[i].info);
	return r;
}

static int mem_append_open(struct ks_object *o, const char *key, struct ks_appender **out)
{
	struct space *sp = space_of(o);
	KS_AUTO(ks_freep) struct mem_appender *a = calloc(1, sizeof(*a));
	KS_AUTO(entry_freep) struct entry *e = entry_new(key);

	if (!a || !e)
		return -ENOMEM;
	a->sp = sp;
	memcpy(a->key, key, strlen(key) + 1);

	WRITING(sp);
	struct entry **pp = find(sp, key);

	if (*pp)
		return -EEXIST;
	*pp = ks_steal(&e);
	sp->n++;
	*out = &a->base;
	(void)ks_steal(&a);
	return 0;
}

static int mem_append_write(struct ks_appender *ap, const struct iovec *iov, int niov,
			    uint64_t *off)
{
	struct mem_appender *a = (struct mem_appender *)ap;
	size_t at;
	int r;

	WRITING(a->sp);
	struct entry *e = *find(a->sp, a->key);

	if (!e)
		return ks_fail(-EIO, "cannot append to %s, which was deleted", a->key);
	at = e->data.n;
	r = append_iov(&e->data, iov, niov);
	if (r < 0)
		return r;
	a->size = e->data.n;
	e->mtime_ns = ks_clock_real_ns();
	*off = at;
	return 0;
}

static uint64_t mem_append_size(const struct ks_appender *a)
{
	return ((const struct mem_appender *)a)->size;
}

static void mem_append_close(struct ks_appender *a)
{
	free(a);
}

const struct ks_store_ops ks_store_mem_ops = {
	.scheme = "mem",
	.help = "memory of this process, mem://name (tests only)",
	.open = mem_open,
	.get = mem_get,
	.put = mem_put,
	.del = mem_del,
	.head = mem_head,
	.list = mem_list,
	.append_open = mem_append_open,
	.append_write = mem_append_write,
	.append_size = mem_append_size,
	.append_close = mem_append_close,
};
