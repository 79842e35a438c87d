/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_append.c: appending to a file of the directory store, at the speed of a log.
 *
 * An append first reserves its range and the blocks below it (8 MiB at a time, beyond the file's end), so that a full
 * disk is met before anything is written; then any number of threads write at once. A failed append gives its range
 * back when nobody has reserved behind it; else the range stays as a hole or garbage.
 *
 * Where small appends are made durable one by one, the file is written ahead with zeros: an append then changes neither the file's size nor
 * what its blocks are, and fdatasync() need not wait for a commit of the file system's journal, which costs more than the data. They go at the close;
 * after a kill they stay behind the last append.
 */
#include "base/log.h"
#include "object/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PREALLOC (8 * KS_MIB)
#define AHEAD (256 * KS_KIB)
#define AHEAD_APPEND (64 * KS_KIB) /* larger ones write more than a commit costs */
#define ZEROS (64 * KS_KIB)

struct ks_file_appender {
	struct ks_appender base;
	struct ks_file_store *f;
	struct ks_file_appender *next; /* [f->app_mu] */
	int fd;
	pthread_mutex_t mu;
	_Atomic uint64_t size; /* written under [mu] */
	uint64_t allocated;    /* [mu] UINT64_MAX: the file system cannot */
	uint64_t zeroed;       /* [mu] the file has been written up to here */
	_Atomic bool listed;   /* changed under [mu]: is on the list of what is not durable */
	_Atomic bool named;    /* its name is durable */
	bool naming;           /* [f->app_mu] the run of sync that is on will make it so */
	char key[];
};

static struct ks_file_appender *appender_of(struct ks_appender *a)
{
	return (struct ks_file_appender *)a;
}

int ks_file_append_open(struct ks_object *o, const char *key, struct ks_appender **out)
{
	struct ks_file_store *f = ks_file_of(o);
	size_t n = strlen(key) + 1;
	KS_AUTO(ks_freep) struct ks_file_appender *a = calloc(1, sizeof(*a) + n);
	int r = 0;

	if (!a)
		return -ENOMEM;
	memcpy(a->key, key, n);
	a->f = f;
	for (int tries = 0; tries < 3; tries++) {
		a->fd = KS_RETRY(
			openat(f->rootfd, key, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
		r = a->fd < 0 ? -errno : 0;
		if (r != -ENOENT)
			break;
		r = ks_file_mkdirs(f, key);
		if (r < 0)
			break;
	}
	if (r == -EEXIST)
		return r;
	if (r == 0)
		ks_owner_give(&f->owner, a->fd);
	if (r < 0)
		return ks_fail(r, "cannot create %s/%s", f->root, key);
	pthread_mutex_init(&a->mu, NULL);
	a->listed = true;
	ks_store_unsynced_add(&f->unsynced, key, -1, false);

	KS_LOCKED(&f->app_mu);
	a->next = f->appenders;
	f->appenders = a;
	f->nappenders++;
	*out = &a->base;
	(void)ks_steal(&a);
	return 0;
}

/* Needs a->mu. */
static int allocate(struct ks_file_appender *a, uint64_t end)
{
	uint64_t want = ks_round_up(end, PREALLOC);
	int r;

	if (end <= a->allocated)
		return 0;
	do {
		r = fallocate(a->fd, FALLOC_FL_KEEP_SIZE, (off_t)a->allocated,
			      (off_t)(want - a->allocated)) < 0
			    ? -errno
			    : 0;
		if (r == -ENOSPC && want > end) { /* the last few bytes of a disk count too */
			want = end;
			r = -EINTR;
		}
	} while (r == -EINTR);
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		want = UINT64_MAX;
	else if (r < 0)
		return r;
	a->allocated = want;
	return 0;
}

/*
 * Needs a->mu: so nobody has anything behind @end yet. What it cannot write is written by the appends.
 */
static void write_ahead(struct ks_file_appender *a, uint64_t end)
{
	static const uint8_t zeros[ZEROS];
	uint64_t to = ks_min(ks_round_up(end + AHEAD, KS_DIO_ALIGN), a->allocated);

	/* A file system that keeps no blocks for us has nothing that could be written ahead. */
	if (end <= a->zeroed || a->allocated == UINT64_MAX)
		return;
	pthread_rwlock_rdlock(&a->f->rewrite);
	a->zeroed = end;
	while (a->zeroed < to) {
		ssize_t n = KS_RETRY(
			pwrite(a->fd, zeros, ks_min(ZEROS, to - a->zeroed), (off_t)a->zeroed));

		if (n <= 0)
			break;
		a->zeroed += (uint64_t)n;
	}
	pthread_rwlock_unlock(&a->f->rewrite);
}

/*
 * Who finds it listed knows that it is on the list, or taken from it by a run of sync whose fdatasync() has not begun: so the entry is there before the
 * flag is, and a run takes the list before it lowers the flag.
 */
static void list(struct ks_file_appender *a)
{
	struct ks_unsynced *u = &a->f->unsynced;

	if (atomic_load(&a->listed))
		return;
	KS_LOCKED(&a->mu);
	if (a->listed)
		return;
	ks_store_unsynced_add(u, a->key,
			      ks_store_unsynced_wants_fd(u) ? fcntl(a->fd, F_DUPFD_CLOEXEC, 0) : -1,
			      a->named);
	a->listed = true;
}

/* The part after the reservation. Marks the object as not durable, also where only a part was written. */
static int write_at(struct ks_file_appender *a, uint64_t off, const struct iovec *iov, int niov)
{
	struct ks_file_store *f = a->f;
	int r;

	pthread_rwlock_rdlock(&f->rewrite);
	r = ks_io_write(a->fd, off, iov, niov);
	pthread_rwlock_unlock(&f->rewrite);
	list(a);
	return r;
}

int ks_file_append_write(struct ks_appender *ap, const struct iovec *iov, int niov, uint64_t *off)
{
	struct ks_file_appender *a = appender_of(ap);
	size_t n = ks_iov_total(iov, niov);
	uint64_t at;
	int r;

	{
		KS_LOCKED(&a->mu);
		at = a->size;
		r = allocate(a, at + n);
		if (r == 0) {
			/* Not on the list: a sync came after the last append, and another may come after this one. */
			if (!atomic_load(&a->listed) && n <= AHEAD_APPEND)
				write_ahead(a, at + n);
			a->size = at + n;
		}
	}
	if (r == 0) {
		r = write_at(a, at, iov, niov);
		if (r < 0) {
			KS_LOCKED(&a->mu);
			if (a->size == at + n)
				a->size = at;
		}
	}
	if (ks_file_is_full(a->f, r, n))
		return ks_fail_spell(&a->f->full, r, "cannot append %zu bytes to %s/%s", n,
				     a->f->root, a->key);
	if (r < 0)
		return ks_fail(r, "cannot append %zu bytes to %s/%s", n, a->f->root, a->key);
	*off = at;
	return 0;
}

uint64_t ks_file_append_size(const struct ks_appender *a)
{
	return ((const struct ks_file_appender *)a)->size;
}

void ks_file_append_close(struct ks_appender *ap)
{
	struct ks_file_appender *a = appender_of(ap);
	struct ks_file_store *f = a->f;

	{
		KS_LOCKED(&f->app_mu);
		struct ks_file_appender **pp = &f->appenders;

		while (*pp != a)
			pp = &(*pp)->next;
		*pp = a->next;
		f->nappenders--;
	}
	/* Where nothing was ever appended, nobody looks for anything. */
	if (a->size == 0 && unlinkat(f->rootfd, a->key, 0) == 0)
		ks_store_unsynced_drop(&f->unsynced, a->key);
	/* Gives back the blocks beyond the end, and what a failed last append has left there. */
	else if (KS_RETRY(ftruncate(a->fd, (off_t)a->size)) < 0)
		ks_log(KS_LOG_WARN, "cannot trim %s/%s: %s", f->root, a->key, ks_strerror(errno));
	(void)close(a->fd); /* the list of what is not durable will find its errors */
	pthread_mutex_destroy(&a->mu);
	free(a);
}

bool ks_file_is_appending(struct ks_file_store *f, const char *key)
{
	if (f->nappenders == 0)
		return false;

	KS_LOCKED(&f->app_mu);
	struct ks_file_appender *a = f->appenders;

	while (a && strcmp(a->key, key) != 0)
		a = a->next;
	return a != NULL;
}

void ks_file_append_naming(struct ks_file_store *f)
{
	KS_LOCKED(&f->app_mu);
	for (struct ks_file_appender *a = f->appenders; a; a = a->next)
		a->naming = true;
}

void ks_file_append_unlist(struct ks_file_store *f)
{
	KS_LOCKED(&f->app_mu);
	for (struct ks_file_appender *a = f->appenders; a; a = a->next) {
		ks_mutex_lock(&a->mu);
		a->listed = false;
		ks_mutex_unlock(&a->mu);
	}
}

void ks_file_append_named(struct ks_file_store *f, bool durable)
{
	KS_LOCKED(&f->app_mu);
	for (struct ks_file_appender *a = f->appenders; a; a = a->next) {
		if (a->naming && durable)
			a->named = true;
		a->naming = false;
	}
}
