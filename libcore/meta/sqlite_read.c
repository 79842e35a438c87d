/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_read.c: point reads and scans, on the writer's connection for a body, on a pooled reader otherwise.
 *
 * What comes back is judged column by column, since a damaged file may hold anything: a wrong type, a negative count or a record
 * of absurd length is -EBADMSG.
 */
#include "meta/sqlite.h"

#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#define KEEP_EVERY 32
#define EXTRA_AFTER_NS                                                                             \
	(20 * KS_NS_PER_MS) /* all readers taken so long: readers may wait for each other */

/* ---- one record ---- */

static int bad_column(struct ks_sqlite_conn *c, enum ks_table t, unsigned int i)
{
	return ks_fail_hint(-EBADMSG, "check the volume with kiseki-fsck, or restore a dump",
			    "%s: table %s: column %s holds what cannot be", c->sq->path,
			    ks_tables[t].name, ks_tables[t].cols[i].name);
}

static int get_bytes(sqlite3_value *v, struct ks_bytes *out, struct ks_arena *a)
{
	const void *p = sqlite3_value_blob(v);
	int n = sqlite3_value_bytes(v);

	*out = (struct ks_bytes){ .p = "", .n = 0 };
	if (n <= 0)
		return 0;
	if (!p)
		return -ENOMEM;
	assert(a);
	out->p = ks_arena_copy(a, p, (size_t)n);
	if (!out->p)
		return -ENOMEM;
	out->n = (size_t)n;
	return 0;
}

/* The columns of @t from @from on, which are the statement's from @at on. */
static int get_columns(struct ks_sqlite_conn *c, sqlite3_stmt *st, int at, enum ks_table t,
		       unsigned int from, void *rec, struct ks_arena *a)
{
	const struct ks_table_desc *d = &ks_tables[t];

	for (unsigned int i = from; i < d->ncol; i++, at++) {
		const struct ks_col *col = &d->cols[i];
		sqlite3_value *v = sqlite3_column_value(st, at);
		int type = sqlite3_value_type(v);
		struct ks_bytes b;
		int64_t n;
		int r;

		if (ks_col_is_bytes(col)) {
			if (type != (col->type == KS_COL_TEXT ? SQLITE_TEXT : SQLITE_BLOB))
				return bad_column(c, t, i);
			r = get_bytes(v, &b, a);
			if (r < 0)
				return r;
			ks_rec_set_bytes(rec, col, b);
			continue;
		}
		n = sqlite3_value_int64(v);
		if (type != SQLITE_INTEGER || (n < 0 && ks_col_is_unsigned(col)) ||
		    (col->type == KS_COL_U32 && n > UINT32_MAX))
			return bad_column(c, t, i);
		ks_rec_set_int(rec, col, n);
	}
	return 0;
}

/* The joined record, or zeroes when there is none. */
static int get_followed(struct ks_sqlite_conn *c, sqlite3_stmt *st, int at, enum ks_table t,
			void *rec, struct ks_arena *a)
{
	memset(rec, 0, ks_tables[t].size);
	if (sqlite3_column_type(st, at) == SQLITE_NULL)
		return 0;
	return get_columns(c, st, at, t, 0, rec, a);
}

/* ---- point reads ---- */

static int read_one(struct ks_sqlite_conn *c, struct ks_read *r, struct ks_arena *a)
{
	const struct ks_table_desc *d = &ks_tables[r->table];
	bool follow = r->flags & KS_READ_FOLLOW;
	int rc, ret = 0;
	sqlite3_stmt *st =
		ks_sqlite_table_stmt(c, follow ? KS_ST_GET_FOLLOW : KS_ST_GET, r->table, &rc);

	if (!st)
		return ks_sqlite_fail(c->sq, c->db, rc, "read");
	r->found = false;
	rc = ks_sqlite_bind(st, r->table, r->rec, 0, d->nkey, 1);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		r->found = true;
		ret = get_columns(c, st, 0, r->table, d->nkey, r->rec, a);
		if (ret == 0 && follow)
			ret = get_followed(c, st, d->ncol - d->nkey, KS_T_INODE, r->inode, a);
	} else if (rc != SQLITE_DONE) {
		ret = ks_sqlite_fail(c->sq, c->db, rc, "read");
	} else if (follow) {
		*r->inode = (struct ks_rec_inode){ 0 };
	}
	sqlite3_reset(st);
	return ret;
}

/* ---- scans ---- */

static int scan_row(struct ks_sqlite_conn *c, sqlite3_stmt *st, const struct ks_scan *s,
		    struct ks_arena *a)
{
	const struct ks_table_desc *d = &ks_tables[s->table];
	struct ks_rec_inode inode;
	const struct ks_rec_inode *to = NULL;
	union ks_record rec;
	int r = get_columns(c, st, 0, s->table, 0, &rec, a);

	if (r == 0 && (s->flags & KS_READ_FOLLOW)) {
		if (s->table == KS_T_DENTRY) {
			r = get_followed(c, st, d->ncol, KS_T_INODE, &inode, a);
			to = &inode;
		} else {
			r = get_followed(c, st, d->ncol, KS_T_SLICE, s->slice, a);
		}
	}
	return r < 0 ? r : s->fn(s->arg, &rec, to);
}

static int scan_one(struct ks_sqlite_conn *c, const struct ks_scan *s, struct ks_arena *a)
{
	unsigned int n = s->nprefix + s->nafter;
	bool own;
	int rc, r = 0;
	sqlite3_stmt *st = ks_sqlite_scan_stmt(c, s, &own, &rc);

	if (!st)
		return ks_sqlite_fail(c->sq, c->db, rc, "read");
	rc = ks_sqlite_bind(st, s->table, s->from, 0, n, 1);
	if (rc == SQLITE_OK)
		rc = sqlite3_bind_int64(st, (int)n + 1,
					s->limit && s->limit <= INT64_MAX ? (int64_t)s->limit : -1);
	if (rc == SQLITE_OK)
		rc = sqlite3_step(st);
	while (rc == SQLITE_ROW) {
		r = scan_row(c, st, s, a);
		if (r)
			break;
		rc = sqlite3_step(st);
	}
	if (rc != SQLITE_ROW && rc != SQLITE_DONE)
		r = ks_sqlite_fail(c->sq, c->db, rc, "read");
	if (own)
		sqlite3_finalize(st);
	else
		sqlite3_reset(st);
	return r < 0 ? r : 0;
}

/* ---- readers ---- */

/* Each thread comes back to its own reader, whose cache and statements are warm on its CPU. */
static unsigned int first_slot(void)
{
	static _Atomic unsigned int next;
	static _Thread_local unsigned int mine;

	if (!mine)
		mine = 1 + atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);
	return mine - 1;
}

static bool take_slot(struct ks_sqlite *sq, int *slot)
{
	unsigned int first = first_slot();

	for (unsigned int i = 0; i < KS_SQLITE_READERS; i++) {
		unsigned int at = (first + i) % KS_SQLITE_READERS;

		if (atomic_load_explicit(&sq->readers[at].taken, memory_order_relaxed))
			continue;
		if (!atomic_exchange_explicit(&sq->readers[at].taken, true, memory_order_acquire)) {
			*slot = (int)at;
			return true;
		}
	}
	return false;
}

int ks_sqlite_reader_take(struct ks_sqlite *sq, struct ks_sqlite_conn **out, int *slot)
{
	int64_t since = 0;
	int r;

	while (!take_slot(sq, slot)) {
		struct timespec nap = { .tv_nsec = 50000 };

		if (!since)
			since = ks_clock_mono_ns();
		if (ks_clock_mono_ns() - since > EXTRA_AFTER_NS) {
			/* Perhaps all of them scan, and each asks for one more from its callback. */
			*slot = -1;
			return ks_sqlite_conn_open(out, sq, KS_SQLITE_READER);
		}
		nanosleep(&nap, NULL);
	}
	if (!sq->readers[*slot].conn) {
		r = ks_sqlite_conn_open(&sq->readers[*slot].conn, sq, KS_SQLITE_READER);
		if (r < 0) {
			ks_sqlite_reader_give(sq, NULL, *slot);
			return r;
		}
	}
	*out = sq->readers[*slot].conn;
	return 0;
}

void ks_sqlite_reader_give(struct ks_sqlite *sq, struct ks_sqlite_conn *c, int slot)
{
	if (slot < 0)
		ks_sqlite_conn_close(c);
	else
		atomic_store_explicit(&sq->readers[slot].taken, false, memory_order_release);
}

/* On the writer's connection, or on one that has a snapshot for it. */
static int fetch_in_txn(struct ks_sqlite_conn *c, struct ks_read *r, size_t n,
			const struct ks_scan *s, size_t ns, struct ks_arena *a)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++) {
		if (ks_sqlite_cache_txn_read(c->sq, &r[i]))
			continue;
		ret = read_one(c, &r[i], a);
		if (ret == 0)
			ks_sqlite_cache_txn_fill(c->sq, &r[i]);
	}
	for (size_t i = 0; i < ns && ret == 0; i++)
		ret = scan_one(c, &s[i], a);
	return ret;
}

static int fetch_on(struct ks_sqlite_conn *c, const struct ks_cache_window *w, struct ks_read *r,
		    size_t n, const struct ks_scan *s, size_t ns, struct ks_arena *a)
{
	int ret = 0;

	for (size_t i = 0; i < n && ret == 0; i++) {
		ret = read_one(c, &r[i], a);
		if (ret == 0)
			ks_sqlite_cache_fill(c->sq, w, &r[i]);
	}
	for (size_t i = 0; i < ns && ret == 0; i++)
		ret = scan_one(c, &s[i], a);
	return ret;
}

/*
 * After every commit a reader begins with an empty cache of pages, and takes four locks: four times what it costs to ask the writer's connection, if that keeps its snapshot, which is
 * the state of now, and is free. False: it is not.
 */
static bool fetch_on_writer(struct ks_sqlite *sq, const struct ks_cache_window *w,
			    struct ks_read *r, size_t n, struct ks_arena *a, int *ret)
{
	bool can;

	if (!atomic_load_explicit(&sq->run.kept, memory_order_relaxed) || !ks_sqlite_try_hold(sq))
		return false;
	can = atomic_load_explicit(&sq->run.kept, memory_order_relaxed) &&
	      ks_sqlite_cache_is_own(sq, w);
	if (can)
		*ret = fetch_on(sq->run.conn, w, r, n, NULL, 0, a);
	ks_sqlite_let_go(sq);
	return can;
}

int ks_sqlite_fetch(struct ks_engine *e, struct ks_txn *t, struct ks_read *r, size_t n,
		    const struct ks_scan *s, size_t ns, struct ks_arena *a)
{
	static _Thread_local unsigned int asked;
	struct ks_sqlite *sq = ks_to_sqlite(e);
	struct ks_cache_window w;
	struct ks_sqlite_conn *c;
	int slot, ret, rc;

	if (sq->pin) {
		KS_LOCKED(&sq->pin_mu);
		return fetch_in_txn(sq->pin, r, n, s, ns, a);
	}
	if (t)
		return fetch_in_txn(ks_container_of(t, struct ks_sqlite_txn, t)->conn, r, n, s, ns,
				    a);
	if (ks_sqlite_cache_look(sq, &w) && ns == 0 && ks_sqlite_cache_serve(sq, &w, r, n))
		return 0;
	if (ns == 0 && fetch_on_writer(sq, &w, r, n, a, &ret))
		return ret;
	ret = ks_sqlite_reader_take(sq, &c, &slot);
	if (ret < 0)
		return ret;
	if (n + ns > 1) {
		/* Its first statement fixes the snapshot; nothing is written, so the end cannot fail. */
		rc = ks_sqlite_fixed(c, KS_ST_BEGIN);
		if (rc == SQLITE_OK) {
			ret = fetch_on(c, &w, r, n, s, ns, a);
			ks_sqlite_fixed(c, KS_ST_COMMIT);
		} else {
			ret = ks_sqlite_fail(sq, c->db, rc, "read");
		}
		if (!sqlite3_get_autocommit(c->db))
			ks_sqlite_fixed(c, KS_ST_ROLLBACK);
	} else {
		ret = fetch_on(c, &w, r, n, s, ns, a);
	}
	ks_sqlite_reader_give(sq, c, slot);
	if (++asked % KEEP_EVERY == 0 && !sq->readonly)
		ks_sqlite_keep(sq);
	return ret;
}

bool ks_sqlite_peek(struct ks_engine *e, struct ks_read *r)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);
	struct ks_cache_window w;

	return !sq->pin && ks_sqlite_cache_look(sq, &w) && ks_sqlite_cache_serve(sq, &w, r, 1);
}
