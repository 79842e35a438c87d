/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_fds.c: open descriptors of the objects read lately, by key and mode.
 *
 * A descriptor always shows the object it was opened for: deleted or replaced since, it has no link left, which
 * is looked at on every use, so that no other process need tell us. Entries are counted references: an entry
 * that was dropped while in use is closed by its last user.
 */
#include "object/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ks_fd_ent {
	struct ks_fd_ent *next;          /* [mu] in its bucket */
	struct ks_fd_ent *newer, *older; /* [mu] */
	int refs;                        /* [mu] */
	bool cached;                     /* [mu] in bucket and list */
	bool direct;
	int fd;
	size_t b;
	char key[];
};

void ks_fd_cache_init(struct ks_fd_cache *c)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->mu, NULL);
	c->max = KS_FD_CACHE_MAX;
}

static void ent_free(struct ks_fd_ent *e)
{
	(void)close(e->fd); /* read only: nothing can be lost */
	free(e);
}

/* Needs c->mu. */
static void lru_unlink(struct ks_fd_cache *c, struct ks_fd_ent *e)
{
	*(e->newer ? &e->newer->older : &c->newest) = e->older;
	*(e->older ? &e->older->newer : &c->oldest) = e->newer;
}

/* Needs c->mu. */
static void lru_push(struct ks_fd_cache *c, struct ks_fd_ent *e)
{
	e->newer = NULL;
	e->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = e;
	c->newest = e;
}

/* Needs c->mu. Closes it if nobody uses it. */
static void uncache(struct ks_fd_cache *c, struct ks_fd_ent *e)
{
	struct ks_fd_ent **pp = &c->bucket[e->b];

	if (!e->cached)
		return;
	while (*pp != e)
		pp = &(*pp)->next;
	*pp = e->next;
	lru_unlink(c, e);
	c->n--;
	e->cached = false;
	if (e->refs == 0)
		ent_free(e);
}

void ks_fd_cache_clear(struct ks_fd_cache *c)
{
	while (c->newest) {
		assert(c->newest->refs == 0);
		uncache(c, c->newest);
	}
	pthread_mutex_destroy(&c->mu);
}

/* Needs c->mu. */
static void evict(struct ks_fd_cache *c, size_t down_to)
{
	struct ks_fd_ent *e = c->oldest;

	while (e && c->n > down_to) {
		struct ks_fd_ent *newer = e->newer;

		if (e->refs == 0)
			uncache(c, e);
		e = newer;
	}
}

void ks_fd_cache_trim(struct ks_fd_cache *c)
{
	KS_LOCKED(&c->mu);
	evict(c, 0);
}

static int open_object(struct ks_fd_cache *c, int rootfd, const char *key, bool direct)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (direct ? O_DIRECT : 0);
	int fd = KS_RETRY(openat(rootfd, key, flags));
	struct stat st;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		ks_fd_cache_trim(c);
		fd = KS_RETRY(openat(rootfd, key, flags));
	}
	if (fd < 0)
		return errno == ENOTDIR ? -ENOENT : -errno;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) { /* a directory is no object */
		(void)close(fd);
		return -ENOENT;
	}
	return fd;
}

static bool is_gone(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 || st.st_nlink == 0;
}

static struct ks_fd_ent *find(struct ks_fd_cache *c, size_t b, const char *key, bool direct)
{
	struct ks_fd_ent *e = c->bucket[b];

	while (e && (e->direct != direct || strcmp(e->key, key) != 0))
		e = e->next;
	return e;
}

int ks_fd_cache_get(struct ks_fd_cache *c, int rootfd, const char *key, bool direct,
		    struct ks_fd_ent **out)
{
	size_t n = strlen(key), b = ks_store_hash(key, n) % KS_FD_CACHE_BUCKETS;
	struct ks_fd_ent *e, *old;
	int fd;

	ks_mutex_lock(&c->mu);
	e = find(c, b, key, direct);
	if (e) {
		e->refs++;
		lru_unlink(c, e);
		lru_push(c, e);
	}
	ks_mutex_unlock(&c->mu);
	if (e && !is_gone(e->fd)) {
		*out = e;
		return 0;
	}
	if (e) {
		ks_mutex_lock(&c->mu);
		uncache(c, e);
		ks_mutex_unlock(&c->mu);
		ks_fd_cache_put(c, e);
	}

	fd = open_object(c, rootfd, key, direct);
	if (fd < 0)
		return fd;
	e = calloc(1, sizeof(*e) + n + 1);
	if (!e) {
		(void)close(fd);
		return -ENOMEM;
	}
	e->fd = fd;
	e->direct = direct;
	e->refs = 1;
	e->b = b;
	memcpy(e->key, key, n + 1);
	*out = e;

	KS_LOCKED(&c->mu);
	old = find(c, b, key, direct);
	if (old) /* another thread was faster, and perhaps opened an older object */
		uncache(c, old);
	evict(c, c->max - 1);
	if (c->n >= c->max)
		return 0; /* all in use: this one is closed after use */
	e->next = c->bucket[b];
	c->bucket[b] = e;
	lru_push(c, e);
	e->cached = true;
	c->n++;
	return 0;
}

int ks_fd_ent_fd(const struct ks_fd_ent *e)
{
	return e->fd;
}

void ks_fd_cache_put(struct ks_fd_cache *c, struct ks_fd_ent *e)
{
	bool last;

	ks_mutex_lock(&c->mu);
	last = --e->refs == 0 && !e->cached;
	ks_mutex_unlock(&c->mu);
	if (last)
		ent_free(e);
}

void ks_fd_cache_drop(struct ks_fd_cache *c, const char *key)
{
	size_t b = ks_store_hash(key, strlen(key)) % KS_FD_CACHE_BUCKETS;

	KS_LOCKED(&c->mu);
	for (int direct = 0; direct < 2; direct++) {
		struct ks_fd_ent *e = find(c, b, key, direct != 0);

		if (e)
			uncache(c, e);
	}
}

void ks_fd_cache_sweep(struct ks_fd_cache *c)
{
	KS_LOCKED(&c->mu);
	for (struct ks_fd_ent *e = c->oldest, *newer; e; e = newer) {
		newer = e->newer;
		if (e->refs == 0 && is_gone(e->fd))
			uncache(c, e);
	}
}
