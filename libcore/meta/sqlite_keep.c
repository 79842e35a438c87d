/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_keep.c: makes lookups and transactions cheaper while there are many.
 *
 * A reader's snapshot takes a shared lock on one of the log's five marks and gives it back, which is a pair of fcntl() calls under a mutex of the
 * whole process: a quarter of a lookup, and what keeps two threads from being twice as fast as one. SQLite makes the call only for the first
 * of a process that wants a mark. So, during a storm of reads, one idle connection keeps a snapshot, and the readers share its mark.
 *
 * A mark that is held keeps checkpoints from ending, those of other processes too. So it is held for HOLD_NS, then let go for GAP_NS; never during a
 * checkpoint of our own; and the checkpoint thread drops it when the readers have gone. It changes nothing that readers see.
 *
 * A transaction takes six such calls: to move a mark up to the end of the log, to share it, to lock the writers out, and each of them back. Two are enough for one that
 * follows another: the writer's connection keeps its snapshot when it commits, by a statement that has begun to read and is not ended. SQLite then lets it write again unless somebody else
 * has committed (SQLITE_BUSY_SNAPSHOT); then, and when another process is writing (SQLITE_BUSY, at once, for SQLite does not wait for a lock with a snapshot in its
 * hands), it lets its snapshot go and begins as usual. The mark stays where it was, so it is moved up every KEEP_FRAMES, and let go of before anything waits for readers, and
 * by the checkpoint thread when there were no transactions for a second.
 */
#include "meta/sqlite.h"

#include "base/clock.h"

#define HOLD_NS (4 * KS_NS_PER_MS)
#define GAP_NS (KS_NS_PER_MS / 2)
#define STORM_NS (2 * KS_NS_PER_MS) /* since this was asked last */
#define KEEP_FRAMES 256u            /* that others' checkpoints may lag behind */

/* Needs keep_mu. */
static void let_go(struct ks_sqlite *sq, int64_t now)
{
	if (sq->keep_on)
		ks_sqlite_fixed(sq->keep, KS_ST_COMMIT);
	sq->keep_on = false;
	sq->keep_since_ns = now;
}

/* Needs keep_mu. */
static void hold(struct ks_sqlite *sq, int64_t now)
{
	int64_t v;

	if (!sq->keep) {
		if (ks_sqlite_conn_open(&sq->keep, sq, KS_SQLITE_READER) < 0)
			return;
		sq->keep->busy_limit_ns = 0;
	}
	sq->keep_frames = atomic_load_explicit(&sq->wal_frames, memory_order_relaxed);
	if (ks_sqlite_fixed(sq->keep, KS_ST_BEGIN) != SQLITE_OK)
		return;
	/* The first statement that reads takes the mark. */
	if (ks_sqlite_data_version(sq->keep, &v) != SQLITE_OK) {
		ks_sqlite_fixed(sq->keep, KS_ST_ROLLBACK);
		return;
	}
	sq->keep_on = true;
	sq->keep_since_ns = now;
	ks_sqlite_ckpt_start(sq);
}

void ks_sqlite_keep(struct ks_sqlite *sq)
{
	int64_t now;
	bool storm;

	if (pthread_mutex_trylock(&sq->keep_mu))
		return;
	now = ks_clock_mono_ns();
	storm = now - sq->keep_asked_ns < STORM_NS;
	sq->keep_asked_ns = now;
	if (sq->keep_on) {
		if (!storm || now - sq->keep_since_ns > HOLD_NS) {
			let_go(sq, now);
		} else if (sq->keep_frames !=
			   atomic_load_explicit(&sq->wal_frames, memory_order_relaxed)) {
			/* After a commit of ours new readers take another mark: follow them. */
			int64_t since = sq->keep_since_ns;

			let_go(sq, now);
			hold(sq, since);
		}
	} else if (storm && now - sq->keep_since_ns > GAP_NS) {
		hold(sq, now);
	}
	ks_mutex_unlock(&sq->keep_mu);
}

void ks_sqlite_keep_rest(struct ks_sqlite *sq)
{
	int64_t now = ks_clock_mono_ns();

	ks_mutex_lock(&sq->keep_mu);
	if (sq->keep_on && now - sq->keep_since_ns > HOLD_NS)
		let_go(sq, now);
	ks_mutex_unlock(&sq->keep_mu);
	if (!atomic_load_explicit(&sq->run.kept, memory_order_relaxed) || !ks_sqlite_try_hold(sq))
		return;
	if (now - sq->run.begun_ns > HOLD_NS)
		ks_sqlite_keep_drop(sq);
	ks_sqlite_let_go(sq);
}

void ks_sqlite_keep_suspend(struct ks_sqlite *sq)
{
	ks_mutex_lock(&sq->keep_mu);
	let_go(sq, ks_clock_mono_ns());
}

void ks_sqlite_keep_resume(struct ks_sqlite *sq)
{
	ks_mutex_unlock(&sq->keep_mu);
}

/* ---- the writer's ---- */

void ks_sqlite_keep_drop(struct ks_sqlite *sq)
{
	if (!atomic_load_explicit(&sq->run.kept, memory_order_relaxed))
		return;
	ks_sqlite_snapshot_drop(sq->run.conn);
	atomic_store_explicit(&sq->run.kept, false, memory_order_relaxed);
}

void ks_sqlite_keep_forbid(struct ks_sqlite *sq, int64_t wait_ns)
{
	const struct timespec nap = { .tv_nsec = 100000 };
	int64_t until = ks_clock_mono_ns() + wait_ns;

	atomic_store(&sq->run.keep_none, true);
	/* Who holds the writer may have looked before. */
	while (!ks_sqlite_try_hold(sq)) {
		if (ks_clock_mono_ns() > until)
			return;
		KS_IGNORE(nanosleep(&nap, NULL) < 0);
	}
	ks_sqlite_keep_drop(sq);
	ks_sqlite_let_go(sq);
}

void ks_sqlite_keep_allow(struct ks_sqlite *sq)
{
	atomic_store(&sq->run.keep_none, false);
}

int ks_sqlite_keep_begin(struct ks_sqlite *sq, bool *same)
{
	uint32_t frames = atomic_load_explicit(&sq->wal_frames, memory_order_relaxed);
	int64_t now = ks_clock_mono_ns();
	bool storm = now - sq->run.begun_ns < STORM_NS;
	int rc;

	sq->run.begun_ns = now;
	/* Shorter than it was: the log has started over since. */
	if (frames < sq->run.kept_frames || frames - sq->run.kept_frames > KEEP_FRAMES)
		ks_sqlite_keep_drop(sq);
	*same = atomic_load_explicit(&sq->run.kept, memory_order_relaxed);
	if (*same) {
		rc = ks_sqlite_fixed(sq->run.conn, KS_ST_BEGIN_IMMEDIATE);
		if (rc == SQLITE_OK)
			return rc;
		ks_sqlite_keep_drop(sq);
		*same = false;
	}
	rc = ks_sqlite_fixed(sq->run.conn, KS_ST_BEGIN_IMMEDIATE);
	if (rc == SQLITE_OK && storm && !atomic_load(&sq->run.keep_none) &&
	    ks_sqlite_snapshot_keep(sq->run.conn)) {
		sq->run.kept_frames = frames;
		atomic_store_explicit(&sq->run.kept, true, memory_order_relaxed);
	}
	return rc;
}
