/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_sync.c: commits survive a power cut.
 *
 * With synchronous=NORMAL a commit is in the log file but perhaps not on the disk. fdatasync() of that file, outside of every lock, makes it
 * durable; what a checkpoint has moved to the database was synced by the checkpoint. The log is opened by hand for that, which is harmless:
 * SQLite's locks lie on the database and the -shm file only, and those are never opened here.
 *
 * One fdatasync() runs at a time and serves all who asked before it began; rounds of it are numbered. Who has other files to sync as well has a
 * thread begin the round (ks_sqlite_sync_begin) and waits for its number when those are done: the disk does both in hardly more time than one.
 *
 * A program that makes a file durable, and then its directory, asks twice for the same: as long as nobody has committed since the last sync began, there is nothing to do.
 */
#include "meta/sqlite.h"

#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * A sync has failed: Linux has marked the pages clean, and the next sync would succeed although they never reached the disk. What they say goes to the
 * database instead, and the log becomes empty, so that no older part of it is taken for the newest state after a power cut.
 */
static int start_anew(struct ks_sqlite *sq)
{
	if (!ks_sqlite_ckpt_truncate(sq))
		return ks_fail(-EIO, "%s: cannot be made durable another way", sq->wal_path);
	sq->wal_suspect = false;
	return 0;
}

/* By who runs the sync. 0; -errno, raised. */
static int bring_log(struct ks_sqlite *sq)
{
	struct stat st;

	if (stat(sq->wal_path, &st) < 0) {
		/* No log: everything is in the database, and was synced when it got there. */
		return errno == ENOENT ? 0 : ks_fail(-errno, "%s: cannot look at it", sq->wal_path);
	}
	if (sq->wal_fd < 0 || sq->wal_ino != st.st_ino) {
		ks_closep(&sq->wal_fd);
		sq->wal_fd = KS_RETRY(open(sq->wal_path, O_RDONLY | O_CLOEXEC));
		if (sq->wal_fd < 0) {
			int err = -errno;

			return err == -ENOENT ? 0
					      : ks_fail(err, "%s: cannot open it", sq->wal_path);
		}
		sq->wal_ino = st.st_ino;
	}
	if (KS_RETRY(fdatasync(sq->wal_fd)) < 0) {
		int err = -errno;

		sq->wal_suspect = true;
		return ks_fail_hint(err, "look into the kernel's log for disk errors",
				    "%s: cannot bring it to the disk", sq->wal_path);
	}
	return 0;
}

/* By who runs the sync. 0; -errno, raised. */
static int sync_log(struct ks_sqlite *sq)
{
	struct ks_log_state now = ks_sqlite_log_state(sq);
	const struct ks_log_state *was = &sq->wal_synced;
	int r;

	if (now.known && was->known && now.salt == was->salt && now.pos == was->pos)
		return 0;
	r = sq->wal_suspect ? start_anew(sq) : 0;
	if (r == 0)
		r = bring_log(sq);
	if (r == 0)
		sq->wal_synced = now;
	return r;
}

/* Until round @want is over; runs it if nobody does. Needs sync_mu, which is let go meanwhile. */
static int sync_round(struct ks_sqlite *sq, uint64_t want)
{
	while (sq->sync_done < want && sq->sync_running)
		ks_cond_wait(&sq->sync_cond, &sq->sync_mu, -1);
	if (sq->sync_done < want) {
		uint64_t mine = ++sq->sync_started;
		int r;

		sq->sync_running = true;
		ks_mutex_unlock(&sq->sync_mu);
		r = sync_log(sq);
		ks_mutex_lock(&sq->sync_mu);
		sq->sync_running = false;
		sq->sync_done = mine;
		if (r < 0) {
			sq->sync_failed = mine;
			sq->sync_error = r;
		}
		pthread_cond_broadcast(&sq->sync_cond);
	}
	/* A later round that succeeds proves nothing: the kernel reports a lost page once. */
	return sq->sync_failed >= want ? sq->sync_error : 0;
}

/* One that has begun already may have missed the caller's commit; the next one has not. Needs sync_mu. */
static uint64_t next_round(const struct ks_sqlite *sq)
{
	return sq->sync_started + 1;
}

static void *sync_main(void *arg)
{
	struct ks_sqlite *sq = arg;

	ks_mutex_lock(&sq->sync_mu);
	for (;;) {
		if (sq->sync_done < sq->sync_wanted)
			KS_IGNORE(sync_round(sq, sq->sync_wanted));
		else if (sq->sync_stop)
			break;
		else
			ks_cond_wait(&sq->sync_bell, &sq->sync_mu, -1);
	}
	ks_mutex_unlock(&sq->sync_mu);
	return NULL;
}

uint64_t ks_sqlite_sync_begin(struct ks_engine *e)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);

	if (sq->readonly)
		return 0;
	KS_LOCKED(&sq->sync_mu);
	if (!sq->sync_threaded)
		sq->sync_threaded =
			ks_thread_start(&sq->sync_thread, "ks-sync", sync_main, sq) == 0;
	if (!sq->sync_threaded)
		return 0;
	sq->sync_wanted = next_round(sq);
	pthread_cond_signal(&sq->sync_bell);
	return sq->sync_wanted;
}

int ks_sqlite_sync(struct ks_engine *e, uint64_t begun)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);

	if (sq->readonly)
		return 0;
	KS_LOCKED(&sq->sync_mu);
	return sync_round(sq, begun ? begun : next_round(sq));
}

void ks_sqlite_sync_stop(struct ks_sqlite *sq)
{
	if (!sq->sync_threaded)
		return;
	ks_mutex_lock(&sq->sync_mu);
	sq->sync_stop = true;
	pthread_cond_signal(&sq->sync_bell);
	ks_mutex_unlock(&sq->sync_mu);
	pthread_join(sq->sync_thread, NULL);
	sq->sync_threaded = false;
}
