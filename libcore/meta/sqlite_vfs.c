/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_vfs.c: SQLite's own way to files, with the frames of one commit written to the log at once, and a database that stays mapped.
 *
 * SQLite writes a log frame as a header of 24 bytes and a page, each with a system call of its own: a create costs ten of them. Here they are
 * gathered while they follow one another, and written with the page of the frame that commits; its header says so (bytes 4 to 7, the size of the
 * database after the commit, are not 0). A failure is thus still the commit's. The index of the log, by which others see the frames, is changed by
 * SQLite only after that.
 *
 * Nothing may stay gathered when the writer's lock is given up, since the next writer's frames go to the same place: so the connection must not spill
 * pages before it commits (PRAGMA cache_spill=0), which leaves no other writer of frames but a commit.
 *
 * A log that grows by a commit at a time lies in the page cache in pages of 4 KiB, each of which is found and marked on its own whenever the log is written over: twice the time. So
 * it grows by LOG_GROW, with zeros, of which no reader makes a frame.
 *
 * A reader whose snapshot is not the one it had unmaps the database, lest the file be a shorter one by now, and maps it anew: after every commit of the writer, at the
 * price of a dozen reads, and of an interrupt to every CPU. Here the size is looked at, and a mapping that is not much shorter than the file is left alone. SQLite reads what lies
 * beyond a mapping.
 *
 * What is written to the log is mapped soon afterwards, and never looked at: that keeps it in memory. The kernel gives up pages that nobody maps first, and a log is in the
 * cache only for having been written. Otherwise, after other programs have read much, each page of the newest metadata is a read of the disk. It is read with system calls all the
 * same: one that fails is an error, where a mapping would be the end of the process.
 *
 * Source: sqlite.org/fileformat2.html section 4, "The Write-Ahead Log".
 */
#include "meta/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define FRAME_HEADER 24
#define LOG_HEADER 32
#define LOG_SALTS 16                                        /* where in it */
#define GREW(mapped) ((mapped) / 8 + (sqlite3_int64)KS_MIB) /* worth mapping anew */
#define GATHER (120 * 1024) /* SQLite writes less than 128 KiB at a time */
#define LOG_GROW (64 * 1024)
#define LOG_WINDOW                                                                                 \
	((sqlite3_int64)16 * (sqlite3_int64)KS_MIB) /* of a log, mapped: most are shorter */
#define LOG_STEP ((sqlite3_int64)128 * 1024)
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

struct file {
	sqlite3_file base;
	sqlite3_int64 mapped; /* a database: its size when it was mapped; 0: it is not */
	/* a log */
	char *buf;             /* GATHER + LOG_GROW bytes, made with the first frame */
	int n;                 /* gathered */
	sqlite3_int64 at;      /* where buf belongs */
	sqlite3_int64 size;    /* that the file has had; 0: not known yet */
	uint64_t headers;      /* of the log, written through this file */
	uint64_t salt;         /* of the last one */
	bool in_frame;         /* the write before was a frame's header */
	bool commits;          /* that frame's, it is one that commits */
	const char *name;      /* SQLite's */
	char *map;             /* LOG_WINDOW bytes, made with the first step; NULL: not mapped */
	sqlite3_int64 staying; /* up to here what was written is mapped */
			       /* The real file follows, aligned. */
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs our_vfs;

static sqlite3_file *real_file(sqlite3_file *f)
{
	return (sqlite3_file *)(void *)((struct file *)(void *)f + 1);
}

static int last_errno(sqlite3_file *real)
{
	int err = 0;

	return real->pMethods->xFileControl(real, SQLITE_FCNTL_LAST_ERRNO, &err) == SQLITE_OK ? err
											      : 0;
}

/* SQLite knows a full disk, but neither a quota that is used up, nor a file system that became read-only. */
static int real_write(sqlite3_file *real, const void *p, int n, sqlite3_int64 off)
{
	int rc = real->pMethods->xWrite(real, p, n, off);

	if (rc != SQLITE_IOERR_WRITE)
		return rc;
	switch (last_errno(real)) {
	case EDQUOT:
		return SQLITE_FULL;
	case EROFS:
		return SQLITE_READONLY;
	default:
		return rc;
	}
}

/* A descriptor of the log may be closed: SQLite has no locks on it. */
static void map_log(struct file *l)
{
	int fd = open(l->name, O_RDONLY | O_CLOEXEC);
	void *p;

	if (fd < 0)
		return;
	p = mmap(NULL, (size_t)LOG_WINDOW, PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (p != MAP_FAILED)
		l->map = p;
}

/* A hint. When the log begins anew at its begin, the pages behind are those of the file still. */
static void stay(struct file *l, sqlite3_int64 end)
{
	sqlite3_int64 to = ks_min(end, LOG_WINDOW) / LOG_STEP * LOG_STEP;

	if (to <= l->staying)
		return;
	if (!l->map)
		map_log(l);
	if (l->map)
		KS_IGNORE(madvise(l->map + l->staying, (size_t)(to - l->staying),
				  MADV_POPULATE_READ) < 0);
	l->staying = to;
}

/* What lies behind the frames of a commit was never valid, or no longer is. */
static int write_grown(struct file *l, int n)
{
	sqlite3_file *real = real_file(&l->base);
	sqlite3_int64 end = l->at + n, grown = end;
	int rc;

	if (!l->size)
		KS_IGNORE(real->pMethods->xFileSize(real, &l->size) != SQLITE_OK);
	if (end > l->size)
		grown = (sqlite3_int64)ks_round_up((uint64_t)end, LOG_GROW);
	memset(l->buf + n, 0, (size_t)(grown - end));
	rc = real_write(real, l->buf, (int)(grown - l->at), l->at);
	if (rc == SQLITE_OK)
		l->size = ks_max(l->size, grown);
	else if (grown > end)
		rc = real_write(real, l->buf, n, l->at);
	return rc;
}

static int flush(struct file *l)
{
	int n = l->n;
	int rc;

	/* Also after a failure: the commit has failed, and must not be written later. */
	l->n = 0;
	if (!n)
		return SQLITE_OK;
	rc = write_grown(l, n);
	if (rc == SQLITE_OK)
		stay(l, l->at + n);
	return rc;
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
	struct file *l = (struct file *)(void *)f;
	sqlite3_file *real = real_file(f);
	bool page = l->in_frame;
	int rc = SQLITE_OK;

	l->in_frame = false;
	if (off == 0 && n == LOG_HEADER) {
		memcpy(&l->salt, (const char *)p + LOG_SALTS, sizeof(l->salt));
		l->headers++;
	}
	if (l->n && (off != l->at + l->n || l->n + n > GATHER))
		rc = flush(l);
	if (rc != SQLITE_OK)
		return rc;
	if (!l->buf)
		l->buf = malloc(GATHER + LOG_GROW);
	if (!l->buf || n > GATHER)
		return real_write(real, p, n, off);
	if (l->n == 0)
		l->at = off;
	memcpy(l->buf + l->n, p, (size_t)n);
	l->n += n;
	if (n == FRAME_HEADER) {
		uint32_t size;

		l->in_frame = true;
		memcpy(&size, (const char *)p + 4, sizeof(size));
		l->commits = size != 0;
		return SQLITE_OK;
	}
	return l->commits || !page ? flush(l) : SQLITE_OK;
}

static int log_close(sqlite3_file *f)
{
	struct file *l = (struct file *)(void *)f;
	sqlite3_file *real = real_file(f);

	/* What is still gathered was never committed. */
	free(l->buf);
	if (l->map)
		munmap(l->map, (size_t)LOG_WINDOW);
	return real->pMethods->xClose(real);
}

/* SQLite would call a disk's error a damaged database. */
static int real_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
	sqlite3_file *real = real_file(f);
	int rc = real->pMethods->xRead(real, p, n, off);

	return rc == SQLITE_IOERR_CORRUPTFS ? SQLITE_IOERR_READ : rc;
}

static int log_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
	int rc = flush((struct file *)(void *)f);

	return rc == SQLITE_OK ? real_read(f, p, n, off) : rc;
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	struct file *l = (struct file *)(void *)f;
	sqlite3_file *real = real_file(f);
	int rc = flush(l);

	l->staying = ks_min(l->staying, size / LOG_STEP * LOG_STEP);
	l->size = ks_min(l->size, size);
	return rc == SQLITE_OK ? real->pMethods->xTruncate(real, size) : rc;
}

static int real_sync(sqlite3_file *f, int flags)
{
	sqlite3_file *real = real_file(f);
	int rc;

	do /* SQLite repeats what a signal has interrupted, but for this */
		rc = real->pMethods->xSync(real, flags);
	while (rc == SQLITE_IOERR_FSYNC && last_errno(real) == EINTR);
	return rc;
}

static int log_sync(sqlite3_file *f, int flags)
{
	int rc = flush((struct file *)(void *)f);

	return rc == SQLITE_OK ? real_sync(f, flags) : rc;
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size)
{
	sqlite3_file *real = real_file(f);
	int rc = flush((struct file *)(void *)f);

	return rc == SQLITE_OK ? real->pMethods->xFileSize(real, size) : rc;
}

static int pass_lock(sqlite3_file *f, int level)
{
	return real_file(f)->pMethods->xLock(real_file(f), level);
}

static int pass_unlock(sqlite3_file *f, int level)
{
	return real_file(f)->pMethods->xUnlock(real_file(f), level);
}

static int pass_reserved(sqlite3_file *f, int *out)
{
	return real_file(f)->pMethods->xCheckReservedLock(real_file(f), out);
}

static int pass_control(sqlite3_file *f, int op, void *arg)
{
	return real_file(f)->pMethods->xFileControl(real_file(f), op, arg);
}

static int pass_sector(sqlite3_file *f)
{
	return real_file(f)->pMethods->xSectorSize(real_file(f));
}

static int pass_device(sqlite3_file *f)
{
	return real_file(f)->pMethods->xDeviceCharacteristics(real_file(f));
}

/* Version 1: a log is neither shared memory nor mapped. */
static const sqlite3_io_methods log_methods = {
	.iVersion = 1,
	.xClose = log_close,
	.xRead = log_read,
	.xWrite = log_write,
	.xTruncate = log_truncate,
	.xSync = log_sync,
	.xFileSize = log_size,
	.xLock = pass_lock,
	.xUnlock = pass_unlock,
	.xCheckReservedLock = pass_reserved,
	.xFileControl = pass_control,
	.xSectorSize = pass_sector,
	.xDeviceCharacteristics = pass_device,
};

/* ---- the database ---- */

static int db_close(sqlite3_file *f)
{
	return real_file(f)->pMethods->xClose(real_file(f));
}

static int db_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
	return real_write(real_file(f), p, n, off);
}

static int db_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return real_file(f)->pMethods->xTruncate(real_file(f), size);
}

static int db_size(sqlite3_file *f, sqlite3_int64 *size)
{
	return real_file(f)->pMethods->xFileSize(real_file(f), size);
}

static int db_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **out)
{
	return real_file(f)->pMethods->xShmMap(real_file(f), region, size, extend, out);
}

static int db_shm_lock(sqlite3_file *f, int first, int n, int flags)
{
	return real_file(f)->pMethods->xShmLock(real_file(f), first, n, flags);
}

static void db_shm_barrier(sqlite3_file *f)
{
	real_file(f)->pMethods->xShmBarrier(real_file(f));
}

static int db_shm_unmap(sqlite3_file *f, int delete_it)
{
	return real_file(f)->pMethods->xShmUnmap(real_file(f), delete_it);
}

static int db_fetch(sqlite3_file *f, sqlite3_int64 off, int n, void **out)
{
	struct file *d = (struct file *)(void *)f;

	if (!d->mapped && db_size(f, &d->mapped) != SQLITE_OK)
		d->mapped = 0;
	return real_file(f)->pMethods->xFetch(real_file(f), off, n, out);
}

static int db_unfetch(sqlite3_file *f, sqlite3_int64 off, void *p)
{
	struct file *d = (struct file *)(void *)f;
	sqlite3_int64 size;

	/* NULL: unmap the file. */
	if (!p && d->mapped && db_size(f, &size) == SQLITE_OK && size >= d->mapped &&
	    size < d->mapped + GREW(d->mapped))
		return SQLITE_OK;
	if (!p)
		d->mapped = 0;
	return real_file(f)->pMethods->xUnfetch(real_file(f), off, p);
}

static const sqlite3_io_methods db_methods = {
	.iVersion = 3,
	.xClose = db_close,
	.xRead = real_read,
	.xWrite = db_write,
	.xTruncate = db_truncate,
	.xSync = real_sync,
	.xFileSize = db_size,
	.xLock = pass_lock,
	.xUnlock = pass_unlock,
	.xCheckReservedLock = pass_reserved,
	.xFileControl = pass_control,
	.xSectorSize = pass_sector,
	.xDeviceCharacteristics = pass_device,
	.xShmMap = db_shm_map,
	.xShmLock = db_shm_lock,
	.xShmBarrier = db_shm_barrier,
	.xShmUnmap = db_shm_unmap,
	.xFetch = db_fetch,
	.xUnfetch = db_unfetch,
};

bool ks_sqlite_log_headers(sqlite3 *db, uint64_t *n, uint64_t *salt)
{
	sqlite3_file *f = NULL;
	const struct file *l;

	if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) != SQLITE_OK || !f ||
	    f->pMethods != &log_methods)
		return false;
	l = (const struct file *)(void *)f;
	*n = l->headers;
	*salt = l->salt;
	return true;
}

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	const sqlite3_io_methods *m;
	int rc;

	(void)v;
	if (!(flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_MAIN_DB)))
		return real_vfs->xOpen(real_vfs, name, f, flags, out);
	memset(f, 0, sizeof(struct file));
	rc = real_vfs->xOpen(real_vfs, name, real_file(f), flags, out);
	m = real_file(f)->pMethods;
	/* Without methods SQLite does not close a file. */
	if (rc != SQLITE_OK && !m)
		return rc;
	f->pMethods = flags & SQLITE_OPEN_WAL ? &log_methods : &db_methods;
	assert(m && (flags & SQLITE_OPEN_WAL || m->iVersion >= 3));
	((struct file *)(void *)f)->name = name;
	return rc;
}

const char *ks_sqlite_vfs_name(void)
{
	static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

	_Static_assert(sizeof(struct file) % sizeof(sqlite3_int64) == 0,
		       "the real file is aligned");
	KS_LOCKED(&mu);
	if (real_vfs)
		return our_vfs.zName;
	real_vfs = sqlite3_vfs_find(NULL);
	if (!real_vfs)
		return NULL;
	our_vfs = *real_vfs;
	our_vfs.zName = "kiseki";
	our_vfs.pNext = NULL;
	our_vfs.szOsFile = (int)sizeof(struct file) + real_vfs->szOsFile;
	our_vfs.xOpen = vfs_open;
	if (sqlite3_vfs_register(&our_vfs, 0) != SQLITE_OK)
		real_vfs = NULL;
	return real_vfs ? our_vfs.zName : NULL;
}
