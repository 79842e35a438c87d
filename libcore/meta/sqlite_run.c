/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_run.c: the one writer of a process, through flat combining.
 *
 * A caller puts its body on a list and tries to become the holder of the writer. The holder takes the whole list and runs every body in one
 * transaction; the others wait for their result. Who fails to become the holder after its body is on the list need not try
 * again: the holder looks at the list after letting go, and serves it or passes the writer on to one who waits.
 *
 *	state		set by		then
 *	WAITING		the caller	it spins for a moment
 *	SLEEPING	the caller	it sleeps on the state (futex)
 *	LEADING		the holder	the caller is the holder now, its own body is on run.inherited
 *	DONE		the holder	the caller returns; the request is gone
 *
 * A result is delivered after the COMMIT. A body's writes are applied right after it ran, so that the next body sees them. When they cannot
 * be applied and something was written already, or when the COMMIT fails, everything is rolled back and the bodies run once more,
 * one by one, so that only the guilty one fails.
 *
 * Bodies run on a thread that may not be their caller's: what they raise is kept with the request and raised again by its caller.
 */
#include "meta/sqlite.h"

#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPIN_NS 100000
#define BATCH_MAX 64  /* bodies in one transaction: bounds how long the first one waits */
#define SERVE_MAX 128 /* bodies one caller runs for others before it passes the writer on */

enum { WAITING, SLEEPING, LEADING, DONE };

struct ks_sqlite_req {
	struct ks_sqlite_req *next;
	ks_body_fn *body;
	void *arg;
	int result;
	_Atomic int state;
	bool no_room; /* its writes, or the commit, met a full disk */
	bool grows;   /* it is one that a full disk does not take */
	bool raised;
	char text[512]; /* when raised */
	char hint[512];
};

/* ---- futex ---- */

void ks_sqlite_futex_wait(_Atomic int *word, int value, int64_t timeout_ns)
{
	struct timespec ts = ks_ns_to_ts(timeout_ns < 0 ? 0 : timeout_ns);

	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, timeout_ns < 0 ? NULL : &ts, NULL, 0);
}

void ks_sqlite_futex_wake(_Atomic int *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Nothing of the request may be touched afterwards, save by its own thread. */
static void tell(struct ks_sqlite_req *q, int state)
{
	if (atomic_exchange_explicit(&q->state, state, memory_order_acq_rel) == SLEEPING)
		ks_sqlite_futex_wake(&q->state);
}

/* ---- what a body raised ---- */

static void keep_text(struct ks_sqlite_req *q, int err)
{
	const char *text = ks_fail_text();
	const char *reason = ks_strerror(err);
	size_t n = strlen(text), m = strlen(reason);

	q->raised = err < 0 && n > 0;
	if (!q->raised)
		return;
	/* The reason is added again when it is raised again. */
	if (n > m + 2 && strcmp(text + n - m, reason) == 0)
		n -= m + 2;
	n = ks_min(n, sizeof(q->text) - 1);
	memcpy(q->text, text, n);
	q->text[n] = '\0';
	snprintf(q->hint, sizeof(q->hint), "%s", ks_fail_hint_text());
}

/* ---- the transaction ---- */

static void look_abroad(struct ks_sqlite *sq)
{
	int64_t v = 0;

	/* First: who makes it false from now on may know of a commit that is not looked for here. */
	atomic_store(&sq->foreign_known, true);
	if (ks_sqlite_data_version(sq->run.conn, &v) != SQLITE_OK || v != sq->run.data_version)
		atomic_fetch_add(&sq->foreign, 1);
	sq->run.data_version = v;
}

/* A snapshot that is kept does not tell. */
void ks_sqlite_look_abroad(struct ks_sqlite *sq)
{
	ks_sqlite_keep_drop(sq);
	look_abroad(sq);
}

static int txn_begin(struct ks_sqlite *sq)
{
	bool same;
	int rc = ks_sqlite_keep_begin(sq, &same);

	if (rc != SQLITE_OK)
		return ks_sqlite_fail(sq, sq->run.conn->db, rc, "begin a transaction");
	if (!same && atomic_load_explicit(&sq->foreign_used, memory_order_relaxed))
		look_abroad(sq);
	ks_sqlite_cache_begin(sq);
	atomic_fetch_add(&sq->run.in_txn, 1);
	return 0;
}

/* SQLite rolls back by itself after some errors. It forgets about an error of the disk when nobody reads. */
static void give_up(struct ks_sqlite *sq)
{
	if (!sqlite3_get_autocommit(sq->run.conn->db))
		ks_sqlite_fixed(sq->run.conn, KS_ST_ROLLBACK);
	ks_sqlite_keep_drop(sq);
}

static void txn_rollback(struct ks_sqlite *sq)
{
	atomic_fetch_add(&sq->run.in_txn, 1);
	sq->cache.txn.on = false;
	give_up(sq);
}

static int txn_commit(struct ks_sqlite *sq, bool wrote)
{
	int rc;

	atomic_fetch_add(&sq->run.in_txn, 1);
	if (wrote)
		ks_sqlite_cache_commit(sq);
	rc = ks_sqlite_fixed(sq->run.conn, KS_ST_COMMIT);
	if (wrote)
		ks_sqlite_cache_committed(sq, rc == SQLITE_OK);
	sq->cache.txn.on = false;
	if (rc == SQLITE_OK)
		return 0;
	rc = ks_sqlite_fail(sq, sq->run.conn->db, rc, "commit");
	give_up(sq);
	return rc;
}

/* Logged once, by ks_sqlite_set_full(). */
static int fail_full(struct ks_sqlite *sq)
{
	bool quiet = ks_fail_quiet(true);
	int r = ks_fail_hint(-ENOSPC, "free space on its file system, then try again",
			     "%s: its disk is full", sq->path);

	ks_fail_quiet(quiet);
	return r;
}

/* *spoiled: the transaction must be rolled back. */
static int run_body(struct ks_sqlite *sq, struct ks_sqlite_req *q, bool *spoiled, bool *wrote)
{
	struct ks_txn *t = &sq->run.txn.t;
	int r;

	*spoiled = false;
	ks_fail_clear();
	ks_txn_start(t, &sq->base, true);
	r = q->body(t, q->arg);
	assert(r <= 0);
	if (r == 0)
		r = t->err;
	if (r == 0 && t->nw) {
		atomic_fetch_add_explicit(&sq->base.commits, 1, memory_order_relaxed);
		*wrote = true;
		q->grows = ks_sqlite_grows(t);
		if (q->grows && ks_sqlite_is_still_full(sq)) {
			r = fail_full(sq);
		} else {
			r = ks_sqlite_apply(sq->run.conn, t, spoiled);
			*spoiled &= r < 0;
			q->no_room = r == -ENOSPC;
		}
	}
	if (sqlite3_get_autocommit(sq->run.conn->db)) {
		*spoiled = true;
		if (r == 0)
			r = ks_fail(-EIO, "%s: SQLite gave the transaction up", sq->path);
	}
	if (r == 0)
		ks_sqlite_cache_log(sq, t);
	ks_txn_end(t);
	keep_text(q, r);
	q->result = r;
	return r;
}

static struct ks_sqlite_req *take_list(struct ks_sqlite *sq)
{
	struct ks_sqlite_req *q = atomic_exchange(&sq->run.waiting, NULL);
	struct ks_sqlite_req *first = NULL, *next;

	/* Pushed at the front: turned round, the first come are the first served. */
	for (; q; q = next) {
		next = q->next;
		q->next = first;
		first = q;
	}
	return first;
}

/*
 * One transaction for the bodies of @list, and for those that come in meanwhile, which are appended to it as long as there
 * are fewer than @most. *spoiled: nothing has happened, no result counts, and there is more than one to run again.
 */
static void run_together(struct ks_sqlite *sq, struct ks_sqlite_req *list, unsigned int most,
			 bool *spoiled)
{
	struct ks_sqlite_req *last = NULL;
	unsigned int n = 0;
	bool wrote = false;
	int r = txn_begin(sq);

	*spoiled = false;
	for (struct ks_sqlite_req *q = list; q; q = q->next) {
		n++;
		last = q;
		if (r < 0) {
			q->result = r;
			keep_text(q, r);
			continue;
		}
		run_body(sq, q, spoiled, &wrote);
		if (*spoiled) {
			txn_rollback(sq);
			/* Alone, it has its result. */
			*spoiled = n > 1 || q->next;
			return;
		}
		if (!q->next && n < most &&
		    atomic_load_explicit(&sq->run.waiting, memory_order_relaxed))
			q->next = take_list(sq);
	}
	if (r < 0)
		return;
	r = txn_commit(sq, wrote);
	if (r < 0 && n > 1) {
		*spoiled = true;
	} else if (r < 0 && (last->result == 0 || last->result == -EAGAIN)) {
		last->result = r;
		last->no_room = r == -ENOSPC;
		keep_text(last, r);
	} else if (r == 0 && wrote) {
		atomic_fetch_add_explicit(&sq->base.batches, 1, memory_order_relaxed);
	}
}

static void run_alone(struct ks_sqlite *sq, struct ks_sqlite_req *q)
{
	bool again;

	q->next = NULL;
	q->no_room = false;
	ks_fail_clear();
	run_together(sq, q, 1, &again);
}

/* Needs the writer. Delivers every result. Returns how many bodies there were. */
static unsigned int serve(struct ks_sqlite *sq, struct ks_sqlite_req *list)
{
	bool quiet = ks_fail_quiet(true);
	unsigned int total = 0;
	bool spoiled;
	struct ks_sqlite_req *q, *next;

	ks_fail_clear();
	run_together(sq, list, BATCH_MAX, &spoiled);
	for (q = list; q; q = next) {
		next = q->next;
		total++;
		if (spoiled)
			run_alone(sq, q);
		for (int step = 0; q->no_room && ks_sqlite_make_room(sq, &step, q->grows);)
			run_alone(sq, q);
		tell(q, DONE);
	}
	ks_fail_quiet(quiet);
	return total;
}

/* ---- who holds the writer ---- */

bool ks_sqlite_try_hold(struct ks_sqlite *sq)
{
	return !atomic_load_explicit(&sq->run.holder, memory_order_relaxed) &&
	       !atomic_exchange(&sq->run.holder, true);
}

/*
 * Who spins goes on at once, and this caller can return and come back with its next body while that one is still collecting: so two busy
 * threads share transactions. Who sleeps is slow to come: it is served here, up to a bound.
 */
static bool hand_over(struct ks_sqlite *sq, struct ks_sqlite_req *list, unsigned int served)
{
	struct ks_sqlite_req *to = list;

	while (to && atomic_load_explicit(&to->state, memory_order_relaxed) != WAITING)
		to = to->next;
	if (!to && served < SERVE_MAX)
		return false;
	sq->run.inherited = list;
	tell(to ? to : list, LEADING);
	return true;
}

static void let_go(struct ks_sqlite *sq, unsigned int served)
{
	struct ks_sqlite_req *list;

	for (;;) {
		ks_sqlite_ckpt_finish(sq);
		atomic_store(&sq->run.holder, false);
		/*
		 * Sequentially consistent with a caller's push and its failed attempt to hold: either it sees that the
		 * writer is free, or its request is seen here.
		 */
		if (!atomic_load(&sq->run.waiting) || atomic_exchange(&sq->run.holder, true))
			return;
		list = take_list(sq);
		if (list && hand_over(sq, list, served))
			return;
		if (list)
			served += serve(sq, list);
	}
}

/* Who has borrowed the writer may hold locks, or have a reader waiting, and serves nobody. */
void ks_sqlite_let_go(struct ks_sqlite *sq)
{
	let_go(sq, SERVE_MAX);
}

static void lead(struct ks_sqlite *sq)
{
	struct ks_sqlite_req *list = sq->run.inherited;
	unsigned int served = 0;

	sq->run.inherited = NULL;
	if (!list)
		list = take_list(sq);
	if (list)
		served = serve(sq, list);
	let_go(sq, served);
}

/* Returns LEADING or DONE. */
static int wait_turn(struct ks_sqlite *sq, struct ks_sqlite_req *q)
{
	int others = atomic_fetch_add_explicit(&sq->run.waiters, 1, memory_order_relaxed);
	int64_t until = 0;
	int state;

	/* Only while every one who waits has a CPU beside the holder's, or it would be kept from running. */
	for (unsigned int i = 0; others < sq->run.spinners; i++) {
		state = atomic_load_explicit(&q->state, memory_order_acquire);
		if (state != WAITING)
			break;
		if (i % 64 == 0) {
			int64_t now = ks_clock_mono_ns();

			if (!until)
				until = now + SPIN_NS;
			else if (now > until)
				break;
		}
		__builtin_ia32_pause();
		others = atomic_load_explicit(&sq->run.waiters, memory_order_relaxed) - 1;
	}
	state = WAITING;
	atomic_compare_exchange_strong(&q->state, &state, SLEEPING);
	while ((state = atomic_load_explicit(&q->state, memory_order_acquire)) == SLEEPING)
		ks_sqlite_futex_wait(&q->state, SLEEPING, -1);
	atomic_fetch_sub_explicit(&sq->run.waiters, 1, memory_order_relaxed);
	return state;
}

/* A body on a read-only database: one snapshot, and nothing to write. */
static int run_readonly(struct ks_sqlite *sq, ks_body_fn *body, void *arg)
{
	struct ks_sqlite_txn x = { 0 };
	int slot, rc;
	int r = ks_sqlite_reader_take(sq, &x.conn, &slot);

	if (r < 0)
		return r;
	rc = ks_sqlite_fixed(x.conn, KS_ST_BEGIN);
	if (rc == SQLITE_OK) {
		ks_txn_start(&x.t, &sq->base, true);
		r = body(&x.t, arg);
		if (r == 0)
			r = x.t.err;
		if (r == 0 && x.t.nw)
			r = ks_fail(-EROFS, "%s: is open read-only", sq->path);
		ks_arena_clear(&x.t.arena);
		ks_sqlite_fixed(x.conn, KS_ST_COMMIT);
	} else {
		r = ks_sqlite_fail(sq, x.conn->db, rc, "read");
	}
	if (!sqlite3_get_autocommit(x.conn->db))
		ks_sqlite_fixed(x.conn, KS_ST_ROLLBACK);
	ks_sqlite_reader_give(sq, x.conn, slot);
	return r;
}

int ks_sqlite_run(struct ks_engine *e, ks_body_fn *body, void *arg)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);
	struct ks_sqlite_req q;

	if (sq->readonly)
		return run_readonly(sq, body, arg);
	ks_sqlite_ckpt_start(sq);
	/* Not the texts: they are large. */
	q.body = body;
	q.arg = arg;
	q.result = -EIO;
	q.no_room = false;
	q.grows = false;
	q.raised = false;
	atomic_init(&q.state, WAITING);
	q.next = atomic_load_explicit(&sq->run.waiting, memory_order_relaxed);
	while (!atomic_compare_exchange_weak(&sq->run.waiting, &q.next, &q))
		;
	if (!atomic_exchange(&sq->run.holder, true)) {
		/* It may be done already: then somebody served it before this thread came to hold. */
		lead(sq);
		assert(atomic_load(&q.state) == DONE);
	} else if (wait_turn(sq, &q) == LEADING) {
		lead(sq);
	}
	return q.raised ? ks_fail_hint(q.result, q.hint[0] ? q.hint : NULL, "%s", q.text)
			: q.result;
}
