/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_apply.c: writes what a body has buffered, inside the transaction that the writer has begun. */
#include "meta/sqlite.h"

#include "base/log.h"
#include <errno.h>

static bool is_conflict(int rc)
{
	return rc == SQLITE_CONSTRAINT_PRIMARYKEY || rc == SQLITE_CONSTRAINT_ROWID ||
	       rc == SQLITE_CONSTRAINT_UNIQUE;
}

static int apply_record(struct ks_sqlite_conn *c, const struct ks_write *w,
			enum ks_sqlite_stmt_kind k, unsigned int ncol)
{
	int rc;
	sqlite3_stmt *st = ks_sqlite_table_stmt(c, k, w->table, &rc);

	if (st)
		rc = ks_sqlite_bind(st, w->table, w->rec, 0, ncol, 1);
	return st && rc == SQLITE_OK ? ks_sqlite_step(st) : rc;
}

static int apply_del_prefix(struct ks_sqlite_conn *c, const struct ks_write *w)
{
	int rc;
	sqlite3_stmt *st = ks_sqlite_prefix_stmt(c, KS_ST_DEL, w->table, w->nprefix, &rc);

	if (st)
		rc = ks_sqlite_bind(st, w->table, w->rec, 0, w->nprefix, 1);
	return st && rc == SQLITE_OK ? ks_sqlite_step(st) : rc;
}

/* How many of the updates one statement can do: each column once. */
static unsigned int one_statement(const struct ks_upd *u, unsigned int n)
{
	unsigned int i, j;

	for (i = 0; i < n && i < KS_SQLITE_UPD_MAX; i++) {
		for (j = 0; j < i && u[j].col_off != u[i].col_off; j++)
			;
		if (j < i)
			break;
	}
	return i;
}

static int update_step(struct ks_sqlite_conn *c, const struct ks_write *w, const struct ks_upd *u,
		       unsigned int n)
{
	const struct ks_table_desc *d = &ks_tables[w->table];
	int rc;
	sqlite3_stmt *st = ks_sqlite_update_stmt(c, w->table, u, n, &rc);

	if (!st)
		return rc;
	rc = ks_sqlite_bind(st, w->table, w->rec, 0, d->nkey, 1);
	for (unsigned int i = 0; i < n && rc == SQLITE_OK; i++)
		rc = sqlite3_bind_int64(st, (int)(d->nkey + 1 + i), u[i].value);
	return rc == SQLITE_OK ? ks_sqlite_step(st) : rc;
}

/* *missing: there is no such record, and nothing was written. */
static int apply_update(struct ks_sqlite_conn *c, const struct ks_write *w, bool *missing)
{
	for (unsigned int done = 0; done < w->nupd;) {
		unsigned int n = one_statement(w->upd + done, w->nupd - done);
		int rc = update_step(c, w, w->upd + done, n);

		if (rc != SQLITE_OK)
			return rc;
		if (sqlite3_changes(c->db) > 0) {
			done += n;
			continue;
		}
		if (w->table != KS_T_COUNTER) {
			*missing = true;
			return SQLITE_OK;
		}
		/* The value of a key-only copy is 0: a counter's beginning. */
		rc = apply_record(c, w, KS_ST_INSERT, ks_tables[w->table].ncol);
		if (rc != SQLITE_OK)
			return rc;
	}
	return SQLITE_OK;
}

static int apply_need_empty(struct ks_sqlite_conn *c, const struct ks_write *w, bool *full)
{
	int rc;
	sqlite3_stmt *st = ks_sqlite_prefix_stmt(c, KS_ST_EXISTS, w->table, w->nprefix, &rc);

	if (st)
		rc = ks_sqlite_bind(st, w->table, w->rec, 0, w->nprefix, 1);
	if (!st || rc != SQLITE_OK)
		return rc;
	rc = sqlite3_step(st);
	*full = rc == SQLITE_ROW;
	sqlite3_reset(st);
	return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int apply_one(struct ks_sqlite_conn *c, const struct ks_write *w, bool *refused)
{
	const struct ks_table_desc *d = &ks_tables[w->table];
	int rc;

	switch ((enum ks_write_kind)w->kind) {
	case KS_W_INSERT:
		rc = apply_record(c, w, KS_ST_INSERT, d->ncol);
		if (!is_conflict(rc))
			return rc;
		*refused = true;
		return SQLITE_OK;
	case KS_W_PUT:
		return apply_record(c, w, KS_ST_REPLACE, d->ncol);
	case KS_W_DEL:
		return apply_record(c, w, KS_ST_DEL, d->nkey);
	case KS_W_DEL_PREFIX:
		return apply_del_prefix(c, w);
	case KS_W_UPDATE:
		return apply_update(c, w, refused);
	case KS_W_NEED_EMPTY:
		return apply_need_empty(c, w, refused);
	}
	return SQLITE_MISUSE;
}

int ks_sqlite_apply(struct ks_sqlite_conn *c, const struct ks_txn *t, bool *dirty)
{
	*dirty = false;
	for (uint32_t i = 0; i < t->nw; i++) {
		bool refused = false;
		int rc = apply_one(c, &t->w[i], &refused);

		if (rc != SQLITE_OK) {
			*dirty = true;
			return ks_sqlite_fail(c->sq, c->db, rc, "write");
		}
		if (refused)
			return -EAGAIN;
		*dirty |= t->w[i].kind != KS_W_NEED_EMPTY;
	}
	return 0;
}
