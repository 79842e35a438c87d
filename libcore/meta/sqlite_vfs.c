/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_vfs.c: SQLite's own way to files, with the frames of one commit written to the log at once.
 *
 * SQLite writes a log frame as a header of 24 bytes and a page of 4096, each with a system call of its own: a create costs ten of them. Here they are
 * gathered while they follow one another, and written with the page of the frame that commits; its header says so (bytes 4 to 7, the size of the
 * database after the commit, are not 0). A failure is thus still the commit's. The index of the log, by which others see the frames, is changed by
 * SQLite only after that.
 *
 * Nothing may stay gathered when the writer's lock is given up, since the next writer's frames go to the same place: so the connection must not spill
 * pages before it commits (PRAGMA cache_spill=0), which leaves no other writer of frames but a commit.
 *
 * Source: sqlite.org/fileformat2.html section 4, "The Write-Ahead Log".
 */
#include "meta/sqlite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FRAME_HEADER 24
#define LOG_HEADER 32
#define LOG_SALTS 16        /* where in it */
#define GATHER (120 * 1024) /* SQLite writes less than 128 KiB at a time */

struct log_file {
	sqlite3_file base;
	char *buf;        /* GATHER bytes, made with the first frame */
	int n;            /* gathered */
	sqlite3_int64 at; /* where buf belongs */
	uint64_t headers; /* of the log, written through this file */
	uint64_t salt;    /* of the last one */
	bool commits;     /* the header that was written last is of a frame that commits */
			  /* The real file follows, aligned. */
};

static sqlite3_vfs *real_vfs;
static sqlite3_vfs log_vfs;

static sqlite3_file *real_file(sqlite3_file *f)
{
	return (sqlite3_file *)(void *)((struct log_file *)(void *)f + 1);
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

static int flush(struct log_file *l)
{
	int n = l->n;

	/* Also after a failure: the commit has failed, and must not be written later. */
	l->n = 0;
	return n ? real_write(real_file(&l->base), l->buf, n, l->at) : SQLITE_OK;
}

static int log_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 off)
{
	struct log_file *l = (struct log_file *)(void *)f;
	sqlite3_file *real = real_file(f);
	int rc = SQLITE_OK;

	if (off == 0 && n == LOG_HEADER) {
		memcpy(&l->salt, (const char *)p + LOG_SALTS, sizeof(l->salt));
		l->headers++;
	}
	if (l->n && (off != l->at + l->n || l->n + n > GATHER))
		rc = flush(l);
	if (rc != SQLITE_OK)
		return rc;
	if (!l->buf)
		l->buf = malloc(GATHER);
	if (!l->buf || n > GATHER)
		return real_write(real, p, n, off);
	if (l->n == 0)
		l->at = off;
	memcpy(l->buf + l->n, p, (size_t)n);
	l->n += n;
	if (n == FRAME_HEADER) {
		uint32_t size;

		memcpy(&size, (const char *)p + 4, sizeof(size));
		l->commits = size != 0;
		return SQLITE_OK;
	}
	return l->commits || n != KS_SQLITE_PAGE ? flush(l) : SQLITE_OK;
}

static int log_close(sqlite3_file *f)
{
	struct log_file *l = (struct log_file *)(void *)f;
	sqlite3_file *real = real_file(f);

	/* What is still gathered was never committed. */
	free(l->buf);
	return real->pMethods->xClose(real);
}

static int log_read(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
	sqlite3_file *real = real_file(f);
	int rc = flush((struct log_file *)(void *)f);

	if (rc == SQLITE_OK)
		rc = real->pMethods->xRead(real, p, n, off);
	/* SQLite would call a disk's error a damaged database. */
	return rc == SQLITE_IOERR_CORRUPTFS ? SQLITE_IOERR_READ : rc;
}

static int log_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	sqlite3_file *real = real_file(f);
	int rc = flush((struct log_file *)(void *)f);

	return rc == SQLITE_OK ? real->pMethods->xTruncate(real, size) : rc;
}

static int log_sync(sqlite3_file *f, int flags)
{
	sqlite3_file *real = real_file(f);
	int rc = flush((struct log_file *)(void *)f);

	if (rc != SQLITE_OK)
		return rc;
	do /* SQLite repeats what a signal has interrupted, but for this */
		rc = real->pMethods->xSync(real, flags);
	while (rc == SQLITE_IOERR_FSYNC && last_errno(real) == EINTR);
	return rc;
}

static int log_size(sqlite3_file *f, sqlite3_int64 *size)
{
	sqlite3_file *real = real_file(f);
	int rc = flush((struct log_file *)(void *)f);

	return rc == SQLITE_OK ? real->pMethods->xFileSize(real, size) : rc;
}

static int log_lock(sqlite3_file *f, int level)
{
	return real_file(f)->pMethods->xLock(real_file(f), level);
}

static int log_unlock(sqlite3_file *f, int level)
{
	return real_file(f)->pMethods->xUnlock(real_file(f), level);
}

static int log_reserved(sqlite3_file *f, int *out)
{
	return real_file(f)->pMethods->xCheckReservedLock(real_file(f), out);
}

static int log_control(sqlite3_file *f, int op, void *arg)
{
	return real_file(f)->pMethods->xFileControl(real_file(f), op, arg);
}

static int log_sector(sqlite3_file *f)
{
	return real_file(f)->pMethods->xSectorSize(real_file(f));
}

static int log_device(sqlite3_file *f)
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
	.xLock = log_lock,
	.xUnlock = log_unlock,
	.xCheckReservedLock = log_reserved,
	.xFileControl = log_control,
	.xSectorSize = log_sector,
	.xDeviceCharacteristics = log_device,
};

bool ks_sqlite_log_headers(sqlite3 *db, uint64_t *n, uint64_t *salt)
{
	sqlite3_file *f = NULL;
	const struct log_file *l;

	if (sqlite3_file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &f) != SQLITE_OK || !f ||
	    f->pMethods != &log_methods)
		return false;
	l = (const struct log_file *)(void *)f;
	*n = l->headers;
	*salt = l->salt;
	return true;
}

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *out)
{
	struct log_file *l = (struct log_file *)(void *)f;
	int rc;

	(void)v;
	if (!(flags & SQLITE_OPEN_WAL))
		return real_vfs->xOpen(real_vfs, name, f, flags, out);
	memset(l, 0, sizeof(*l));
	rc = real_vfs->xOpen(real_vfs, name, real_file(f), flags, out);
	/* Without methods SQLite does not close a file. */
	if (rc == SQLITE_OK || real_file(f)->pMethods)
		l->base.pMethods = &log_methods;
	return rc;
}

const char *ks_sqlite_vfs_name(void)
{
	static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

	_Static_assert(sizeof(struct log_file) % sizeof(sqlite3_int64) == 0,
		       "the real file is aligned");
	KS_LOCKED(&mu);
	if (real_vfs)
		return log_vfs.zName;
	real_vfs = sqlite3_vfs_find(NULL);
	if (!real_vfs)
		return NULL;
	log_vfs = *real_vfs;
	log_vfs.zName = "kiseki";
	log_vfs.pNext = NULL;
	log_vfs.szOsFile = (int)sizeof(struct log_file) + real_vfs->szOsFile;
	log_vfs.xOpen = vfs_open;
	if (sqlite3_vfs_register(&log_vfs, 0) != SQLITE_OK)
		real_vfs = NULL;
	return real_vfs ? log_vfs.zName : NULL;
}
