/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_full.c: a full disk still takes what frees space.
 *
 * A deletion is a transaction like any other: it needs room in the log, and a log that was written before can start over only when it has been copied into the
 * database, which may have to grow for that. So a file beside the database, DB-reserve, holds some blocks as long as the disk has them:
 *
 *	held	   the disk is not full, or nobody has needed the reserve yet
 *	given up   its blocks went to the log and the database; nothing is taken but what cannot make the database grow much (unlink, rename,
 *		   truncate, what the session needs), and nobody stores data (ks_engine_is_full)
 *
 * Whoever runs out of room lets the log start over; if that does not do, and it is such a transaction, gives the reserve up; and tries again. The thread for checkpoints
 * makes the file, and makes it anew when there is space again. Several processes share it: each looks at it once a second, and whenever
 * somebody wants more of a full disk.
 */
#include "meta/sqlite.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/owner.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define RESERVE_MAX (16 * KS_MIB)
#define RESERVE_MIN KS_MIB
#define RESERVE_SHARE 16    /* of the disk, at most */
#define LOG_FRAMES_MAX 4000 /* 8 MiB */
#define LOG_FRAMES_MIN 256
#define LOG_SHARE 32 /* of the disk, at most */
#define CLAIM KS_MIB /* goes to the log at once, before anybody else can take it */

bool ks_sqlite_grows(const struct ks_txn *t)
{
	for (uint32_t i = 0; i < t->nw; i++) {
		const struct ks_write *w = &t->w[i];
		bool is_new = w->kind == KS_W_INSERT;

		if ((is_new && (w->table == KS_T_INODE || w->table == KS_T_SLICE)) ||
		    ((is_new || w->kind == KS_W_PUT) && w->table == KS_T_XATTR))
			return true;
	}
	return false;
}

uint32_t ks_sqlite_log_frames(const char *path)
{
	KS_AUTO(ks_freep) char *dir = strdup(path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	struct statvfs st;
	uint64_t n = LOG_FRAMES_MAX;

	if (slash)
		slash[slash == dir] = '\0';
	if (slash && statvfs(dir, &st) == 0)
		n = (uint64_t)st.f_blocks * st.f_frsize / LOG_SHARE / KS_SQLITE_PAGE;
	n = ks_min(n, (uint64_t)LOG_FRAMES_MAX);
	return (uint32_t)ks_max(n, (uint64_t)LOG_FRAMES_MIN);
}

static int disk(struct ks_sqlite *sq, uint64_t *total, uint64_t *avail)
{
	struct statvfs st;

	if (statvfs(sq->path, &st) < 0)
		return -errno;
	*total = (uint64_t)st.f_blocks * st.f_frsize;
	*avail = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

static uint64_t reserve_size(uint64_t total)
{
	uint64_t n = ks_min(RESERVE_MAX, total / RESERVE_SHARE);

	return ks_round_down(ks_max(n, RESERVE_MIN), KS_MIB);
}

static uint64_t held(struct ks_sqlite *sq)
{
	struct stat st;

	return stat(sq->reserve_path, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

void ks_sqlite_set_full(struct ks_sqlite *sq, bool full)
{
	if (atomic_exchange(&sq->full, full) == full)
		return;
	if (full)
		ks_log(KS_LOG_ERROR,
		       "%s: its disk is full; until there is space again, files can only be "
		       "deleted, renamed and cut",
		       sq->path);
	else
		ks_log(KS_LOG_INFO, "%s: there is space on its disk again", sq->path);
}

bool ks_sqlite_is_still_full(struct ks_sqlite *sq)
{
	if (atomic_load_explicit(&sq->full, memory_order_relaxed))
		ks_sqlite_reserve_keep(sq);
	return atomic_load_explicit(&sq->full, memory_order_relaxed);
}

/* It belongs to the database's owner. In a directory of theirs root follows no link. -1: errno. */
static int reserve_open(struct ks_sqlite *sq, bool make)
{
	int how = O_WRONLY | O_NOFOLLOW | O_CLOEXEC;
	int fd = make ? open(sq->reserve_path, how | O_CREAT | O_EXCL, 0600) : -1;
	struct ks_owner o;

	if (make && fd < 0 && errno != EEXIST)
		return -1;
	if (fd < 0)
		return open(sq->reserve_path, how);
	o = ks_owner_of_path(sq->path);
	ks_owner_give(&o, fd);
	return fd;
}

/* All of @size, or nothing of the new. */
static int hold(struct ks_sqlite *sq, uint64_t size)
{
	KS_AUTO(ks_closep) int fd = reserve_open(sq, true);
	int r = fd < 0 ? -errno : -posix_fallocate(fd, 0, (off_t)size);

	if (r < 0 && fd >= 0)
		KS_IGNORE(ftruncate(fd, 0) < 0);
	return r;
}

void ks_sqlite_reserve_keep(struct ks_sqlite *sq)
{
	uint64_t total = 0, avail = 0, size, have;
	int r = 0;

	if (sq->making || disk(sq, &total, &avail) < 0)
		return;
	size = reserve_size(total);
	have = held(sq);
	/* Not with the last bytes, or it would be given up again at once. */
	if (have < size)
		r = avail + have < size + size / 4 ? -ENOSPC : hold(sq, size);
	if (r == -ENOSPC || r == -EDQUOT) {
		/* Without a reserve so far, it may just be a small disk. */
		if (atomic_load(&sq->reserve_was))
			ks_sqlite_set_full(sq, true);
		return;
	}
	atomic_store(&sq->reserve_was, true);
	/* A log that could not be copied will be: the reserve is there for that. */
	if (avail >= size / 4)
		ks_sqlite_set_full(sq, false);
}

void ks_sqlite_reserve_give_up(struct ks_sqlite *sq)
{
	KS_AUTO(ks_closep) int back = -1, fd = -1;
	struct stat st;

	ks_sqlite_set_full(sq, true);
	if (held(sq) == 0)
		return;
	back = reserve_open(sq, false);
	if (back < 0 || ftruncate(back, 0) < 0)
		return;
	/* A descriptor of the log may be closed: SQLite has no locks on it. */
	fd = open(sq->wal_path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0)
		KS_IGNORE(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, st.st_size + (off_t)CLAIM) < 0);
}

bool ks_sqlite_make_room(struct ks_sqlite *sq, int *step, bool grows)
{
	if ((*step)++ == 0 && ks_sqlite_ckpt_restart(sq, 0))
		return true;
	if (*step > 2 || grows)
		return false;
	*step = 3;
	ks_sqlite_reserve_give_up(sq);
	/* Whoever reads an old state has a moment to end. The log may have got room as it is. */
	KS_IGNORE(!ks_sqlite_ckpt_restart(sq, KS_NS_PER_S));
	return true;
}
