/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_sync.c: ks_object_sync() of the directory store.
 *
 * Every put and the first append since the last run leave an entry, some with an open descriptor. A run takes the
 * list, starts the write-back of all files, waits for each with fdatasync(), and then fsyncs every directory that
 * got a name and the parents, up to ROOT, of those directories not yet known to be durable themselves.
 * One caller runs; those who came after its start wait for the next run.
 *
 *   entry      where             next
 *   waiting    bucket            taken by a run; dropped with its object
 *   running    run.ents          freed when durable; failed: back to its bucket
 *   suspect    either            fdatasync() failed: Linux has marked the pages clean, and the next fdatasync() would
 *                                succeed without writing them. So the run first writes the content again.
 *
 * More entries than KS_UNSYNCED_MAX become one syncfs(). (What syncfs() reports as failed it does not name, so it cannot
 * be written again: the volume's checksums find it.)
 */
#include "base/array.h"
#include "base/log.h"
#include "object/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REWRITE_STEP ((size_t)(256 * KS_KIB))

struct ks_store_unsynced_ent {
	struct ks_store_unsynced_ent *next;
	int fd; /* -1: open it by its key */
	bool suspect;
	bool named;  /* its name is durable already: an object that was only appended to */
	bool failed; /* in this run */
	size_t n;
	char key[];
};

struct ks_durable_dir {
	struct ks_durable_dir *next;
	size_t n;
	char name[];
};

/* A directory, as the first @n bytes of somebody's key; "" is ROOT. */
struct dir_ref {
	const char *key;
	size_t n;
};

struct run {
	struct ks_store_unsynced_ent *ents;
	size_t n;
	bool overflow;
	struct dir_ref *dirs; /* to fsync */
	size_t ndirs, capdirs;
	struct dir_ref *fresh; /* become durable by that */
	size_t nfresh, capfresh;
};

int ks_store_unsynced_init(struct ks_unsynced *u)
{
	memset(u, 0, sizeof(*u));
	pthread_mutex_init(&u->mu, NULL);
	return ks_cond_init(&u->cond);
}

static void ent_free(struct ks_store_unsynced_ent *e)
{
	ks_closep(&e->fd);
	free(e);
}

/* Needs u->mu. */
static void forget_durable(struct ks_unsynced *u)
{
	for (size_t b = 0; b < KS_DURABLE_BUCKETS; b++) {
		struct ks_durable_dir *d;

		while ((d = u->durable[b])) {
			u->durable[b] = d->next;
			free(d);
		}
	}
	u->ndurable = 0;
}

void ks_store_unsynced_clear(struct ks_unsynced *u)
{
	for (size_t b = 0; b < KS_UNSYNCED_BUCKETS; b++) {
		struct ks_store_unsynced_ent *e;

		while ((e = u->bucket[b])) {
			u->bucket[b] = e->next;
			ent_free(e);
		}
	}
	forget_durable(u);
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->mu);
}

/* Needs u->mu. Where the entry of @key is linked, or would be. */
static struct ks_store_unsynced_ent **find(struct ks_unsynced *u, const char *key, size_t n)
{
	struct ks_store_unsynced_ent **pp = &u->bucket[ks_store_hash(key, n) % KS_UNSYNCED_BUCKETS];

	while (*pp && ((*pp)->n != n || memcmp((*pp)->key, key, n) != 0))
		pp = &(*pp)->next;
	return pp;
}

void ks_store_unsynced_add(struct ks_unsynced *u, const char *key, int fd, bool named)
{
	size_t n = strlen(key);
	struct ks_store_unsynced_ent *e = malloc(sizeof(*e) + n + 1), **pp;
	int close_fd = fd;

	ks_mutex_lock(&u->mu);
	pp = find(u, key, n);
	if (*pp) { /* appended again, or replaced: the old file does not matter any more */
		free(e);
		e = *pp;
		close_fd = e->fd;
		e->fd = fd;
		e->named = e->named && named;
		u->nfds += (size_t)(fd >= 0) - (size_t)(close_fd >= 0);
	} else if (!e || u->n >= KS_UNSYNCED_MAX) {
		u->overflow = true;
		free(e);
	} else {
		*e = (struct ks_store_unsynced_ent){ .n = n, .fd = -1, .named = named };
		memcpy(e->key, key, n + 1);
		if (fd >= 0 && u->nfds < KS_UNSYNCED_FDS) {
			u->nfds++;
			e->fd = fd;
			close_fd = -1;
		}
		e->next = *pp;
		*pp = e;
		u->n++;
	}
	ks_mutex_unlock(&u->mu);
	ks_closep(&close_fd);
}

void ks_store_unsynced_drop(struct ks_unsynced *u, const char *key)
{
	struct ks_store_unsynced_ent *e;

	{
		KS_LOCKED(&u->mu);
		struct ks_store_unsynced_ent **pp = find(u, key, strlen(key));

		e = *pp;
		if (!e)
			return;
		*pp = e->next;
		u->n--;
		u->nfds -= (size_t)(e->fd >= 0);
	}
	ent_free(e);
}

bool ks_store_unsynced_wants_fd(struct ks_unsynced *u)
{
	KS_LOCKED(&u->mu);
	return u->nfds < KS_UNSYNCED_FDS;
}

/* Needs u->mu. */
static struct ks_durable_dir **find_durable(struct ks_unsynced *u, const char *name, size_t n)
{
	struct ks_durable_dir **pp = &u->durable[ks_store_hash(name, n) % KS_DURABLE_BUCKETS];

	while (*pp && ((*pp)->n != n || memcmp((*pp)->name, name, n) != 0))
		pp = &(*pp)->next;
	return pp;
}

void ks_store_unsynced_dir_made(struct ks_unsynced *u, const char *dir)
{
	KS_LOCKED(&u->mu);
	if (*find_durable(u, dir, strlen(dir)))
		forget_durable(u); /* it and what was below had been removed behind our back */
}

/* ---- one run; only the running thread is here ---- */

static int rewrite(struct ks_file_store *f, const char *key)
{
	KS_AUTO(ks_closep)
	int fd = KS_RETRY(openat(f->rootfd, key, O_RDWR | O_CLOEXEC | O_NONBLOCK));
	KS_AUTO(ks_freep) char *buf = malloc(REWRITE_STEP);
	ssize_t n = 1;
	int r = fd < 0 ? -errno : 0;

	if (!buf)
		return -ENOMEM;
	pthread_rwlock_wrlock(&f->rewrite);
	for (uint64_t off = 0; r == 0 && n > 0; off += (uint64_t)n) {
		struct iovec v = { buf, REWRITE_STEP };

		n = ks_io_read(fd, off, &v, 1, false);
		if (n < 0)
			r = (int)n;
		v.iov_len = (size_t)ks_max(n, 0);
		if (r == 0)
			r = ks_io_write(fd, off, &v, 1);
	}
	pthread_rwlock_unlock(&f->rewrite);
	return r;
}

static int open_ent(struct ks_file_store *f, struct ks_store_unsynced_ent *e)
{
	int fd = KS_RETRY(openat(f->rootfd, e->key, O_RDONLY | O_CLOEXEC | O_NONBLOCK));

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		ks_fd_cache_trim(&f->fds);
		fd = KS_RETRY(openat(f->rootfd, e->key, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	}
	return fd < 0 ? -errno : fd;
}

/* Starts writing all, so that the journal commit of the first fdatasync() serves the others as well. */
static void start_writeback(struct ks_file_store *f, const struct run *run)
{
	if (run->n < 2)
		return;
	for (struct ks_store_unsynced_ent *e = run->ents; e; e = e->next) {
		int fd = e->fd >= 0 ? e->fd : open_ent(f, e);

		if (fd < 0)
			continue;
		(void)sync_file_range(fd, 0, 0,
				      SYNC_FILE_RANGE_WRITE); /* a hint: fdatasync() tells */
		if (fd != e->fd)
			(void)close(fd);
	}
}

static int sync_ent(struct ks_file_store *f, struct ks_store_unsynced_ent *e)
{
	int fd, r = 0;

	if (e->suspect)
		r = rewrite(f, e->key);
	if (r == 0) {
		fd = e->fd >= 0 ? e->fd : open_ent(f, e);
		r = fd < 0 ? fd : 0;
		if (fd >= 0 && KS_RETRY(fdatasync(fd)) < 0) {
			r = -errno;
			e->suspect = true;
		}
		if (fd >= 0 && fd != e->fd)
			(void)close(fd);
	}
	if (r == -ENOENT || r == -ENOTDIR) /* deleted meanwhile */
		return 0;
	if (r < 0)
		return ks_fail(r, "cannot make %s/%s durable", f->root, e->key);
	return 0;
}

static int push(struct dir_ref **v, size_t *n, size_t *cap, const char *key, size_t len)
{
	if (ks_array_room(v, *n, cap) < 0)
		return -ENOMEM;
	(*v)[(*n)++] = (struct dir_ref){ key, len };
	return 0;
}

static size_t parent_len(const char *key, size_t n)
{
	while (n > 0 && key[n - 1] != '/')
		n--;
	return n > 0 ? n - 1 : 0;
}

/* The directory of each object, and the parents of directories that are not known to be durable. */
static int collect_dirs(struct ks_file_store *f, struct run *run)
{
	struct ks_unsynced *u = &f->unsynced;
	int r = 0;

	KS_LOCKED(&u->mu);
	for (struct ks_store_unsynced_ent *e = run->ents; e && r == 0; e = e->next) {
		size_t n = parent_len(e->key, e->n);

		if (e->named)
			continue;
		r = push(&run->dirs, &run->ndirs, &run->capdirs, e->key, n);
		while (r == 0 && n > 0 && !*find_durable(u, e->key, n)) {
			r = push(&run->fresh, &run->nfresh, &run->capfresh, e->key, n);
			n = parent_len(e->key, n);
			if (r == 0)
				r = push(&run->dirs, &run->ndirs, &run->capdirs, e->key, n);
		}
	}
	return r;
}

static int cmp_dirs(const void *pa, const void *pb)
{
	const struct dir_ref *a = pa, *b = pb;
	int c = memcmp(a->key, b->key, ks_min(a->n, b->n));

	return c != 0 ? c : (a->n > b->n) - (a->n < b->n);
}

static size_t unique(struct dir_ref *v, size_t n)
{
	size_t k = 0;

	if (n > 1)
		qsort(v, n, sizeof(*v), cmp_dirs);
	for (size_t i = 0; i < n; i++) {
		if (k == 0 || cmp_dirs(&v[k - 1], &v[i]) != 0)
			v[k++] = v[i];
	}
	return k;
}

static int open_dir(struct ks_file_store *f, const char *name)
{
	int fd = KS_RETRY(openat(f->rootfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
		ks_fd_cache_trim(&f->fds);
		fd = KS_RETRY(openat(f->rootfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	}
	return fd;
}

static int sync_dir(struct ks_file_store *f, struct dir_ref d)
{
	char name[KS_OBJECT_KEY_MAX + 1];
	int fd, r = 0;

	memcpy(name, d.key, d.n);
	name[d.n] = 0;
	fd = open_dir(f, d.n > 0 ? name : ".");
	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		return 0;
	if (fd < 0)
		return ks_fail(-errno, "cannot open %s/%s", f->root, name);
	/* EINVAL: some network file systems cannot, and need not. */
	if (KS_RETRY(fsync(fd)) < 0 && errno != EINVAL)
		r = ks_fail(-errno, "cannot make the directory %s/%s durable", f->root, name);
	(void)close(fd);
	return r;
}

static void remember_durable(struct ks_unsynced *u, const struct run *run)
{
	KS_LOCKED(&u->mu);
	if (u->ndurable + run->nfresh > KS_DURABLE_MAX)
		forget_durable(u);
	for (size_t i = 0; i < run->nfresh && u->ndurable < KS_DURABLE_MAX; i++) {
		struct dir_ref ref = run->fresh[i];
		struct ks_durable_dir **pp = find_durable(u, ref.key, ref.n), *d;

		if (*pp)
			continue;
		d = malloc(sizeof(*d) + ref.n);
		if (!d)
			return; /* only a fsync more, later */
		d->next = NULL;
		d->n = ref.n;
		memcpy(d->name, ref.key, ref.n);
		*pp = d;
		u->ndurable++;
	}
}

static int sync_dirs(struct ks_file_store *f, struct run *run)
{
	int r = collect_dirs(f, run);

	if (r < 0)
		return r;
	run->ndirs = unique(run->dirs, run->ndirs);
	run->nfresh = unique(run->fresh, run->nfresh);
	for (size_t i = run->ndirs; i-- > 0 && r == 0;) /* children first */
		r = sync_dir(f, run->dirs[i]);
	if (r == 0)
		remember_durable(&f->unsynced, run);
	return r;
}

static void take(struct ks_unsynced *u, struct run *run)
{
	KS_LOCKED(&u->mu);
	for (size_t b = 0; u->n > 0 && b < KS_UNSYNCED_BUCKETS; b++) {
		struct ks_store_unsynced_ent *e;

		while ((e = u->bucket[b])) {
			u->bucket[b] = e->next;
			e->next = run->ents;
			e->failed = false;
			run->ents = e;
			run->n++;
			u->n--;
		}
	}
	run->overflow = u->overflow;
	u->overflow = false;
}

/* Needs u->mu. A newer entry of that key stays; it must then know what this one knew. */
static void give_back(struct ks_unsynced *u, struct ks_store_unsynced_ent *e)
{
	struct ks_store_unsynced_ent **pp = find(u, e->key, e->n);

	if (*pp) {
		(*pp)->suspect |= e->suspect;
		(*pp)->named = (*pp)->named && e->named;
		u->nfds -= (size_t)(e->fd >= 0);
		ent_free(e);
		return;
	}
	e->next = NULL;
	*pp = e;
	u->n++; /* may pass the limit by what was running: still bounded */
}

static int run_once(struct ks_file_store *f)
{
	struct ks_unsynced *u = &f->unsynced;
	struct run run = { .ents = NULL };
	struct ks_store_unsynced_ent *next;
	int r = 0, rd = 0;

	ks_file_append_naming(f);
	take(u, &run);
	ks_file_append_unlist(f);
	if (run.overflow && KS_RETRY(syncfs(f->rootfd)) < 0)
		rd = ks_fail(-errno, "cannot make the file system of %s durable", f->root);
	start_writeback(f, &run);
	for (struct ks_store_unsynced_ent *e = run.ents; e; e = e->next) {
		int one = sync_ent(f, e);

		e->failed = one < 0;
		if (r == 0)
			r = one;
	}
	if (rd == 0)
		rd = sync_dirs(f, &run);
	free(run.dirs);
	free(run.fresh);
	ks_file_append_named(f, rd == 0);

	KS_LOCKED(&u->mu);
	if (rd < 0 && run.overflow)
		u->overflow = true;
	for (struct ks_store_unsynced_ent *e = run.ents; e; e = next) {
		next = e->next;
		if (e->failed || rd < 0) {
			give_back(u, e);
			continue;
		}
		u->nfds -= (size_t)(e->fd >= 0);
		ent_free(e);
	}
	return r < 0 ? r : rd;
}

static int sync_ours(struct ks_file_store *f)
{
	struct ks_unsynced *u = &f->unsynced;
	bool mine = false;
	uint64_t want;
	int r;

	ks_fd_cache_sweep(&f->fds);
	ks_mutex_lock(&u->mu);
	want = u->started + 1;
	while (u->done < want) {
		if (u->running) {
			(void)ks_cond_wait(&u->cond, &u->mu, -1);
			continue;
		}
		u->running = mine = true;
		u->started++;
		ks_mutex_unlock(&u->mu);
		r = run_once(f);
		ks_mutex_lock(&u->mu);
		u->running = false;
		u->done = u->started;
		u->result = r;
		pthread_cond_broadcast(&u->cond);
	}
	/* A later run that succeeded made good what an earlier one could not. */
	r = u->result;
	ks_mutex_unlock(&u->mu);
	if (r < 0 && !mine)
		return ks_fail(r, "cannot make the objects of %s durable", f->root);
	return r;
}

int ks_file_sync(struct ks_object *o, bool all)
{
	struct ks_file_store *f = ks_file_of(o);
	int r = sync_ours(f);

	/* Ours by name first, so that what fails is known and tried again; the whole file system has little left to do then. */
	if (r == 0 && all && KS_RETRY(syncfs(f->rootfd)) < 0)
		r = ks_fail(-errno, "cannot make the file system of %s durable", f->root);
	return r;
}
