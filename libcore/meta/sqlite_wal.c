/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_wal.c: what becomes of the write-ahead log.
 *
 * A thread of its own copies the log into the database, so that no caller waits for the disk: a passive checkpoint whenever the log has grown
 * by SOFT_FRAMES, and after a second when anything was written. While callers go on writing, a passive checkpoint never reaches the end of the
 * log, and only a log that was copied to its end starts over. So, once the log is long, the thread asks the holder of the writer
 * to copy the short rest between two transactions (ckpt_wanted). Writers that are faster than the disk for long wait for the whole copy (STOP).
 * A reader with an old snapshot can still hold the log back; that is said once.
 */
#include "meta/sqlite.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#include <sched.h>

#define SOFT_FRAMES 1000u /* 2 MiB */
/* In units of sq->log_frames, 8 MiB unless the disk is small: that much is worth stopping the writers for a moment. */
#define FORCE 4u      /* worth stopping them for longer */
#define STOP 8u       /* they wait, whatever it takes; and again with every unit more */
#define SOFT_PASSES 4 /* each copies what was written during the one before */
#define PERIOD_NS KS_NS_PER_S
#define TRUNCATE_WAIT_NS (5 * KS_NS_PER_S)
#define FINISH_WAIT_NS                                                                             \
	(5 * KS_NS_PER_MS) /* for readers of an older snapshot, while the writers wait */

static void ring(struct ks_sqlite *sq)
{
	atomic_fetch_add(&sq->ckpt_bell, 1);
	ks_sqlite_futex_wake(&sq->ckpt_bell);
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int frames)
{
	struct ks_sqlite *sq = arg;
	uint32_t n = frames < 0 ? 0 : (uint32_t)frames;
	uint32_t base = atomic_load_explicit(&sq->ckpt_base, memory_order_relaxed);

	(void)db;
	(void)name;
	sq->cache.frames = n;
	atomic_store_explicit(&sq->wal_frames, n, memory_order_relaxed);
	atomic_store_explicit(&sq->wal_dirty, true, memory_order_relaxed);
	if (n < base)
		base = 0; /* it has started over */
	if (n - base > ks_min(SOFT_FRAMES, sq->log_frames) &&
	    !atomic_load_explicit(&sq->ckpt_rung, memory_order_relaxed) &&
	    !atomic_exchange(&sq->ckpt_rung, true)) {
		atomic_store_explicit(&sq->ckpt_rung_on, sched_getcpu() + 1, memory_order_relaxed);
		ring(sq);
	}
	return SQLITE_OK;
}

void ks_sqlite_wal_watch(struct ks_sqlite *sq)
{
	sqlite3_wal_hook(sq->run.conn->db, on_commit, sq);
}

/* Returns how many frames of the log are still to be copied; *len: its length. Needs ckpt_mu. */
static uint32_t checkpoint(struct ks_sqlite *sq, int mode, int64_t wait_ns, uint32_t *len)
{
	int nlog = -1, ncopied = -1;
	int rc;

	*len = 0;
	sq->ckpt_ok = false;
	if (!sq->ckpt && ks_sqlite_conn_open(&sq->ckpt, sq, KS_SQLITE_WRITER) < 0)
		return 0;
	sq->ckpt->busy_limit_ns = wait_ns;
	ks_sqlite_keep_suspend(sq);
	rc = sqlite3_wal_checkpoint_v2(sq->ckpt->db, NULL, mode, &nlog, &ncopied);
	ks_sqlite_keep_resume(sq);
	atomic_store(&sq->ckpt_full, ks_sqlite_is_full(sq->ckpt->db, rc));
	if (atomic_load(&sq->ckpt_full))
		ks_sqlite_set_full(sq, true);
	sq->ckpt_ok = rc == SQLITE_OK;
	if (sq->ckpt_ok) {
		sq->ckpt_failing = false;
	} else if ((rc & 0xff) != SQLITE_BUSY && (rc & 0xff) != SQLITE_LOCKED &&
		   !sq->ckpt_failing) {
		sq->ckpt_failing = true;
		ks_sqlite_fail(sq, sq->ckpt->db, rc, "copy its log into the database");
	}
	if (nlog < 0 || ncopied < 0)
		return 0;
	*len = (uint32_t)nlog;
	atomic_store_explicit(&sq->ckpt_base, (uint32_t)ncopied, memory_order_relaxed);
	return (uint32_t)(nlog - ncopied);
}

void ks_sqlite_ckpt_finish(struct ks_sqlite *sq)
{
	uint32_t now = atomic_load_explicit(&sq->wal_frames, memory_order_relaxed);
	uint32_t len;

	/* Shorter than it was: it has started over since. */
	if (now >= STOP * sq->log_frames &&
	    (now < sq->run.stopped_at || now - sq->run.stopped_at >= sq->log_frames)) {
		ks_mutex_lock(&sq->ckpt_mu);
		sq->run.stopped_at = now;
	} else if (!atomic_load_explicit(&sq->ckpt_wanted, memory_order_relaxed) ||
		   pthread_mutex_trylock(&sq->ckpt_mu)) {
		return; /* when the thread is at it, it will ask again */
	}
	atomic_store(&sq->ckpt_wanted, false);
	ks_sqlite_keep_drop(sq);
	checkpoint(sq, SQLITE_CHECKPOINT_RESTART, FINISH_WAIT_NS, &len);
	ks_mutex_unlock(&sq->ckpt_mu);
}

bool ks_sqlite_ckpt_restart(struct ks_sqlite *sq, int64_t wait_ns)
{
	uint32_t len;

	ks_sqlite_keep_drop(sq);
	KS_LOCKED(&sq->ckpt_mu);
	checkpoint(sq, SQLITE_CHECKPOINT_RESTART, ks_max(wait_ns, FINISH_WAIT_NS), &len);
	return sq->ckpt_ok;
}

bool ks_sqlite_ckpt_truncate(struct ks_sqlite *sq)
{
	uint32_t len;
	bool ok;

	ks_sqlite_keep_forbid(sq, TRUNCATE_WAIT_NS);
	ks_mutex_lock(&sq->ckpt_mu);
	checkpoint(sq, SQLITE_CHECKPOINT_TRUNCATE, TRUNCATE_WAIT_NS, &len);
	ok = sq->ckpt_ok;
	ks_mutex_unlock(&sq->ckpt_mu);
	ks_sqlite_keep_allow(sq);
	return ok;
}

static void copy_log(struct ks_sqlite *sq)
{
	uint32_t rest = 0, before = UINT32_MAX, len = 0;

	for (int i = 0; i < SOFT_PASSES; i++) {
		ks_mutex_lock(&sq->ckpt_mu);
		rest = checkpoint(sq, SQLITE_CHECKPOINT_PASSIVE, FINISH_WAIT_NS, &len);
		ks_mutex_unlock(&sq->ckpt_mu);
		if (len < sq->log_frames || rest == before)
			break;
		before = rest;
		/* How much has been written since is what the next pass would copy. */
		if (atomic_load_explicit(&sq->wal_frames, memory_order_relaxed) - (len - rest) <
		    SOFT_FRAMES / 2)
			break;
	}
	if (len < sq->log_frames)
		return;
	atomic_store(&sq->ckpt_wanted, true);
	if (ks_sqlite_try_hold(sq))
		ks_sqlite_let_go(sq);
	if (len >= FORCE * sq->log_frames && rest > FORCE / 2 * sq->log_frames &&
	    !sq->ckpt_warned) {
		sq->ckpt_warned = true;
		ks_log(KS_LOG_WARN,
		       "%s: its log has grown to %u MiB and cannot be cut: a process reads an old "
		       "state of "
		       "the database, or the disk is slower than the writers",
		       sq->path, len / (uint32_t)(KS_MIB / KS_SQLITE_PAGE));
	}
}

static void *ckpt_main(void *arg)
{
	struct ks_sqlite *sq = arg;
	int64_t reserve_ns = ks_clock_mono_ns(), now; /* who is gone within a second needs none */
	int left = 0;

	for (;;) {
		int bell = atomic_load(&sq->ckpt_bell);
		int cpu;

		if (atomic_load(&sq->ckpt_stop))
			return NULL;
		if (!atomic_load(&sq->ckpt_rung))
			ks_sqlite_futex_wait(&sq->ckpt_bell, bell, PERIOD_NS);
		/* The program whose changes are copied goes on on that CPU, or waits there for an answer. */
		cpu = atomic_load_explicit(&sq->ckpt_rung_on, memory_order_relaxed);
		if (cpu != left)
			ks_thread_leave_cpu(cpu - 1);
		left = cpu;
		atomic_store(&sq->ckpt_rung, false);
		ks_sqlite_keep_rest(sq);
		if (atomic_exchange(&sq->wal_dirty, false) || atomic_load(&sq->ckpt_full)) {
			if (!atomic_load(&sq->ckpt_stop))
				copy_log(sq);
		}
		now = ks_clock_mono_ns();
		if (now - reserve_ns >= PERIOD_NS) {
			reserve_ns = now;
			ks_sqlite_reserve_keep(sq);
		}
	}
}

void ks_sqlite_ckpt_start(struct ks_sqlite *sq)
{
	int r;

	if (atomic_load_explicit(&sq->ckpt_started, memory_order_acquire))
		return;
	KS_LOCKED(&sq->ckpt_start_mu);
	if (atomic_load_explicit(&sq->ckpt_started, memory_order_relaxed))
		return;
	r = ks_thread_start(&sq->ckpt_thread, "ks-checkpoint", ckpt_main, sq);
	if (r < 0)
		ks_log(KS_LOG_WARN, "%s: no thread for checkpoints: %s", sq->path, ks_strerror(r));
	else
		atomic_store_explicit(&sq->ckpt_started, true, memory_order_release);
}

void ks_sqlite_ckpt_stop(struct ks_sqlite *sq)
{
	if (!atomic_load(&sq->ckpt_started))
		return;
	atomic_store(&sq->ckpt_stop, true);
	ring(sq);
	pthread_join(sq->ckpt_thread, NULL);
	atomic_store(&sq->ckpt_started, false);
}
