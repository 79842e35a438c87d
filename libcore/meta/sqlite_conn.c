/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_conn.c: one connection: its settings, how it waits, how it fails, its prepared statements. */
#include "meta/sqlite.h"

#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define YIELDS 20 /* another process's small transaction is over in less */
#define SHORT_NAPS_NS                                                                              \
	(50 * KS_NS_PER_MS) /* so long short naps, for the sake of latency; then longer ones */
#define NAP_MAX_US 5000
#define LENGTH_MAX (8 * 1024 * 1024) /* of a record: a larger one is damage */

/* ---- errors: SQLite's codes end here ---- */

static int cantopen_errno(int sys)
{
	if (sys == ENOENT || sys == EACCES || sys == EPERM || sys == ENOTDIR || sys == EISDIR ||
	    sys == EMFILE || sys == ENFILE || sys == EROFS)
		return -sys;
	return sys ? -EIO : -EACCES;
}

static bool is_full(int rc, int sys)
{
	return (rc & 0xff) == SQLITE_FULL ||
	       ((sys == ENOSPC || sys == EDQUOT) &&
		((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_CANTOPEN));
}

bool ks_sqlite_is_full(sqlite3 *db, int rc)
{
	return rc != SQLITE_OK && is_full(rc, sqlite3_system_errno(db));
}

static int rc_errno(int rc, int sys, const char **hint)
{
	*hint = NULL;
	if (is_full(rc, sys))
		rc = SQLITE_FULL;
	else if ((rc & 0xff) == SQLITE_IOERR && sys == EROFS)
		rc = SQLITE_READONLY; /* its file system became read-only */
	switch (rc & 0xff) {
	case SQLITE_FULL:
		*hint = "free space on its file system, then try again";
		return -ENOSPC;
	case SQLITE_READONLY:
		*hint = "make the file and its directory writable, or open the volume read-only";
		return -EROFS;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_CANTOPEN:
		return cantopen_errno(sys);
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_PROTOCOL:
		*hint = "another process holds the database: look who with 'fuser'";
		return -EBUSY;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
	case SQLITE_ERROR:
	case SQLITE_SCHEMA:
	case SQLITE_MISMATCH:
	case SQLITE_CONSTRAINT:
	case SQLITE_TOOBIG:
	case SQLITE_FORMAT:
		*hint = "the database is damaged: restore a dump, or try sqlite3's '.recover' on a "
			"copy";
		return -EBADMSG;
	default:
		*hint = "look into the kernel's log for disk errors";
		return -EIO;
	}
}

/* SQLite calls a disk's error while reading a damaged database. */
static bool is_disk_error(sqlite3 *db, int rc)
{
	int err = 0;

	return (rc & 0xff) == SQLITE_CORRUPT && db &&
	       sqlite3_file_control(db, "main", SQLITE_FCNTL_LAST_ERRNO, &err) == SQLITE_OK &&
	       (err == EIO || err == ENXIO || err == ERANGE);
}

int ks_sqlite_fail(struct ks_sqlite *sq, sqlite3 *db, int rc, const char *what)
{
	const char *hint;
	int sys = db ? sqlite3_system_errno(db) : 0;
	int full = db && (sqlite3_errcode(db) & 0xff) == (rc & 0xff) ? sqlite3_extended_errcode(db)
								     : rc;
	const char *text = db && (sqlite3_errcode(db) & 0xff) == (rc & 0xff) ? sqlite3_errmsg(db)
									     : sqlite3_errstr(rc);
	int err = rc_errno(rc, sys, &hint);

	if (is_disk_error(db, rc)) {
		full = SQLITE_IOERR_READ;
		text = sqlite3_errstr(full);
		err = rc_errno(full, 0, &hint);
	}
	/* Not the database is missing, but what it needs beside it. */
	if (err == -ENOENT && access(sq->path, F_OK) == 0)
		err = -EACCES;
	return ks_fail_hint(err, hint, "%s: cannot %s: %s (SQLite %d)", sq->path, what, text, full);
}

/* ---- waiting for other processes ---- */

static int on_busy(void *arg, int count)
{
	struct ks_sqlite_conn *c = arg;
	int64_t now, waited;
	unsigned int nap_us;

	if (count < YIELDS) {
		if (count == 0)
			c->busy_since_ns = ks_clock_mono_ns();
		sched_yield();
		return 1;
	}
	now = ks_clock_mono_ns();
	waited = now - c->busy_since_ns;
	if (waited > c->busy_limit_ns)
		return 0;
	if (waited < SHORT_NAPS_NS)
		nap_us = 50 + (unsigned int)(now / 1000 % 150);
	else
		nap_us = (unsigned int)ks_min(waited / 1000 / 50, (int64_t)NAP_MAX_US);
	usleep(nap_us);
	return 1;
}

/* ---- statements ---- */

static sqlite3_stmt *prepare(struct ks_sqlite_conn *c, const char *sql, int *rc)
{
	sqlite3_stmt *st = NULL;

	*rc = sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
	return st;
}

int ks_sqlite_step(sqlite3_stmt *st)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		rc = SQLITE_DONE;
	if (rc == SQLITE_DONE)
		return sqlite3_reset(st);
	sqlite3_reset(st);
	return rc;
}

static sqlite3_stmt *fixed_stmt(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k, int *rc)
{
	static const char *const sql[KS_ST_GET] = {
		[KS_ST_BEGIN] = "BEGIN",
		[KS_ST_BEGIN_IMMEDIATE] = "BEGIN IMMEDIATE",
		[KS_ST_COMMIT] = "COMMIT",
		[KS_ST_ROLLBACK] = "ROLLBACK",
		[KS_ST_DATA_VERSION] = "PRAGMA data_version",
		[KS_ST_SNAPSHOT] = "PRAGMA data_version",
	};

	*rc = SQLITE_OK;
	if (!c->fixed[k])
		c->fixed[k] = prepare(c, sql[k], rc);
	return c->fixed[k];
}

int ks_sqlite_fixed(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k)
{
	int rc;
	sqlite3_stmt *st = fixed_stmt(c, k, &rc);

	return st ? ks_sqlite_step(st) : rc;
}

int ks_sqlite_data_version(struct ks_sqlite_conn *c, int64_t *out)
{
	int rc;
	sqlite3_stmt *st = fixed_stmt(c, KS_ST_DATA_VERSION, &rc);

	if (!st)
		return rc;
	rc = sqlite3_step(st);
	if (rc == SQLITE_ROW) {
		*out = sqlite3_column_int64(st, 0);
		rc = SQLITE_OK;
	}
	sqlite3_reset(st);
	return rc;
}

/* A statement that reads and has no cursor on any table, which changes would have to look after. */
bool ks_sqlite_snapshot_keep(struct ks_sqlite_conn *c)
{
	int rc;
	sqlite3_stmt *st = fixed_stmt(c, KS_ST_SNAPSHOT, &rc);

	if (!st)
		return false;
	if (sqlite3_step(st) == SQLITE_ROW)
		return true;
	sqlite3_reset(st);
	return false;
}

void ks_sqlite_snapshot_drop(struct ks_sqlite_conn *c)
{
	sqlite3_reset(c->fixed[KS_ST_SNAPSHOT]);
}

sqlite3_stmt *ks_sqlite_table_stmt(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k,
				   enum ks_table t, int *rc)
{
	KS_AUTO(ks_buf_clear) struct ks_buf sql = { 0 };
	const char *text;

	*rc = SQLITE_OK;
	if (c->by_table[k][t])
		return c->by_table[k][t];
	*rc = SQLITE_NOMEM;
	if (ks_sqlite_sql_table(k, t, &sql) == 0 && ks_buf_cstr(&sql, &text) == 0)
		c->by_table[k][t] = prepare(c, text, rc);
	return c->by_table[k][t];
}

static struct ks_sqlite_stmt *cache_slot(struct ks_sqlite_stmt *cache, uint32_t cap, uint64_t shape)
{
	uint32_t i = (uint32_t)((shape * 0x9e3779b97f4a7c15ull) >> 40) & (cap - 1);

	while (cache[i].shape && cache[i].shape != shape)
		i = (i + 1) & (cap - 1);
	return &cache[i];
}

/* NULL: out of memory. A free slot when the shape is new. */
static struct ks_sqlite_stmt *cache_find(struct ks_sqlite_conn *c, uint64_t shape)
{
	struct ks_sqlite_stmt *s = NULL, *more;
	uint32_t cap = c->capcache ? c->capcache * 2 : 64;

	if (c->capcache)
		s = cache_slot(c->cache, c->capcache, shape);
	if (s && (s->shape || c->ncache < c->capcache / 2))
		return s;
	more = calloc(cap, sizeof(*more));
	if (!more)
		return NULL;
	for (uint32_t i = 0; i < c->capcache; i++) {
		if (c->cache[i].shape)
			*cache_slot(more, cap, c->cache[i].shape) = c->cache[i];
	}
	free(c->cache);
	c->cache = more;
	c->capcache = cap;
	return cache_slot(more, cap, shape);
}

static sqlite3_stmt *cache_fill(struct ks_sqlite_conn *c, struct ks_sqlite_stmt *s, uint64_t shape,
				struct ks_buf *sql, int *rc)
{
	const char *text;

	*rc = SQLITE_NOMEM;
	if (ks_buf_cstr(sql, &text) < 0)
		return NULL;
	s->st = prepare(c, text, rc);
	if (!s->st)
		return NULL;
	s->shape = shape;
	c->ncache++;
	return s->st;
}

sqlite3_stmt *ks_sqlite_prefix_stmt(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k,
				    enum ks_table t, unsigned int nprefix, int *rc)
{
	KS_AUTO(ks_buf_clear) struct ks_buf sql = { 0 };
	uint64_t shape = (uint64_t)k | (uint64_t)t << 4 | (uint64_t)nprefix << 8;
	struct ks_sqlite_stmt *s = cache_find(c, shape);

	*rc = s ? SQLITE_OK : SQLITE_NOMEM;
	if (!s || s->shape)
		return s ? s->st : NULL;
	*rc = SQLITE_NOMEM;
	if (ks_sqlite_sql_prefix(k, t, nprefix, &sql) < 0)
		return NULL;
	return cache_fill(c, s, shape, &sql, rc);
}

sqlite3_stmt *ks_sqlite_update_stmt(struct ks_sqlite_conn *c, enum ks_table t,
				    const struct ks_upd *u, unsigned int n, int *rc)
{
	KS_AUTO(ks_buf_clear) struct ks_buf sql = { 0 };
	uint64_t shape = (uint64_t)KS_ST_UPDATE | (uint64_t)t << 4;
	struct ks_sqlite_stmt *s;

	assert(n <= KS_SQLITE_UPD_MAX);
	/* A column by its offset, which is a multiple of 4: 9 bits with its operation. */
	for (unsigned int i = 0; i < n; i++)
		shape |= (uint64_t)(u[i].col_off / 4 * 3 + u[i].op + 1) << (8 + 9 * i);
	s = cache_find(c, shape);
	*rc = s ? SQLITE_OK : SQLITE_NOMEM;
	if (!s || s->shape)
		return s ? s->st : NULL;
	*rc = SQLITE_NOMEM;
	if (ks_sqlite_sql_update(t, u, n, &sql) < 0)
		return NULL;
	return cache_fill(c, s, shape, &sql, rc);
}
_Static_assert(sizeof(union ks_record) / 4 * 3 + 3 < 512, "an update's shape needs more bits");
_Static_assert(KS_ST_SCAN < 16 && KS_T_COUNT <= 16, "a shape has 4 bits for each");

sqlite3_stmt *ks_sqlite_scan_stmt(struct ks_sqlite_conn *c, const struct ks_scan *s, bool *own,
				  int *rc)
{
	KS_AUTO(ks_buf_clear) struct ks_buf sql = { 0 };
	bool follow = s->flags & KS_READ_FOLLOW;
	uint64_t shape = (uint64_t)KS_ST_SCAN | (uint64_t)s->table << 4 |
			 (uint64_t)s->nprefix << 8 | (uint64_t)s->nafter << 12 |
			 (uint64_t)s->reverse << 16 | (uint64_t)follow << 17;
	struct ks_sqlite_stmt *e = cache_find(c, shape);
	const char *text;

	*own = false;
	*rc = e ? SQLITE_OK : SQLITE_NOMEM;
	if (!e || (e->shape && !sqlite3_stmt_busy(e->st)))
		return e ? e->st : NULL;
	*rc = SQLITE_NOMEM;
	if (ks_sqlite_sql_scan(s, &sql) < 0 || ks_buf_cstr(&sql, &text) < 0)
		return NULL;
	*own = e->shape;
	return *own ? prepare(c, text, rc) : cache_fill(c, e, shape, &sql, rc);
}

int ks_sqlite_bind(sqlite3_stmt *st, enum ks_table t, const void *rec, unsigned int from,
		   unsigned int to, int first)
{
	int rc = SQLITE_OK;

	for (unsigned int i = from; i < to; i++, first++) {
		const struct ks_col *c = &ks_tables[t].cols[i];
		struct ks_bytes b;

		if (!ks_col_is_bytes(c)) {
			rc |= sqlite3_bind_int64(st, first, ks_rec_int(rec, c));
			continue;
		}
		b = ks_rec_bytes(rec, c);
		if (!b.n)
			b.p = "";
		if (c->type == KS_COL_TEXT)
			rc |= sqlite3_bind_text64(st, first, b.p, b.n, SQLITE_STATIC, SQLITE_UTF8);
		else
			rc |= sqlite3_bind_blob64(st, first, b.p, b.n, SQLITE_STATIC);
	}
	return rc == SQLITE_OK ? rc : SQLITE_TOOBIG;
}

int ks_sqlite_exec(struct ks_sqlite_conn *c, const char *sql, const char *what)
{
	int rc = sqlite3_exec(c->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : ks_sqlite_fail(c->sq, c->db, rc, what);
}

int ks_sqlite_query_int(struct ks_sqlite_conn *c, const char *sql, int64_t *out)
{
	int rc;
	sqlite3_stmt *st = prepare(c, sql, &rc);

	if (st) {
		rc = sqlite3_step(st);
		if (rc == SQLITE_ROW) {
			*out = sqlite3_column_int64(st, 0);
			rc = SQLITE_OK;
		}
		sqlite3_finalize(st);
	}
	return rc == SQLITE_OK ? 0 : ks_sqlite_fail(c->sq, c->db, rc, "read");
}

/* ---- life ---- */

static void configure_once(void)
{
	/* Counting memory takes a lock around every allocation of every thread. Too late is no harm. */
	sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	sqlite3_initialize();
}

/* What holds for every connection; nothing here writes. */
static int conn_settings(struct ks_sqlite_conn *c, enum ks_sqlite_role role)
{
	char sql[256];

	sqlite3_extended_result_codes(c->db, 1);
	sqlite3_busy_handler(c->db, on_busy, c);
	sqlite3_limit(c->db, SQLITE_LIMIT_LENGTH, LENGTH_MAX);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(c->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	/* Checkpoints belong to the thread that does nothing else. */
	sqlite3_wal_autocheckpoint(c->db, 0);
	snprintf(sql, sizeof(sql),
		 "PRAGMA mmap_size=%llu;PRAGMA synchronous=NORMAL;PRAGMA temp_store=MEMORY;"
		 "PRAGMA journal_size_limit=%llu;%s",
		 (unsigned long long)c->sq->mmap_bytes,
		 (unsigned long long)c->sq->log_frames * 4 * KS_SQLITE_PAGE,
		 role == KS_SQLITE_READER ? "PRAGMA query_only=1"
					  : "PRAGMA cache_size=-16384;PRAGMA cache_spill=0");
	return ks_sqlite_exec(c, sql, "open");
}

/* SQLite makes do with what it gets, which would fail later and say less. A reader does as well. */
static bool is_less_than_asked(struct ks_sqlite_conn *c)
{
	return !c->sq->readonly && sqlite3_db_readonly(c->db, "main") == 1;
}

/* Whatever keeps it from opening for writing makes SQLite open for reading; what was no matter of permission may have passed. */
static int open_db(struct ks_sqlite_conn *c, int flags)
{
	struct ks_sqlite *sq = c->sq;
	const char *name = sq->uri ? sq->uri : sq->path;
	int rc = sqlite3_open_v2(name, &c->db, flags, ks_sqlite_vfs_name());

	if (rc != SQLITE_OK || !is_less_than_asked(c) || access(sq->path, W_OK) < 0)
		return rc;
	sqlite3_close(c->db);
	return sqlite3_open_v2(name, &c->db, flags, ks_sqlite_vfs_name());
}

int ks_sqlite_conn_open(struct ks_sqlite_conn **out, struct ks_sqlite *sq, enum ks_sqlite_role role)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct ks_sqlite_conn *c;
	int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
	int rc, r;

	pthread_once(&once, configure_once);
	c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->sq = sq;
	c->readonly = sq->readonly;
	c->busy_limit_ns = sq->busy_timeout_ns;
	flags |= sq->readonly ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
	if (role == KS_SQLITE_MAKER)
		flags |= SQLITE_OPEN_CREATE;
	if (sq->uri)
		flags |= SQLITE_OPEN_URI;
	rc = open_db(c, flags);
	if (rc != SQLITE_OK) {
		/* Expected, hence bare. */
		if ((rc & 0xff) == SQLITE_CANTOPEN && access(sq->path, F_OK) < 0 && errno == ENOENT)
			r = -ENOENT;
		else
			r = ks_sqlite_fail(sq, c->db, rc, "open");
	} else if (role != KS_SQLITE_READER && is_less_than_asked(c)) {
		rc = access(sq->path, W_OK) < 0 ? SQLITE_READONLY : SQLITE_IOERR;
		r = ks_sqlite_fail(sq, NULL, rc, "open for writing");
	} else {
		r = conn_settings(c, role);
	}
	if (r < 0) {
		ks_sqlite_conn_close(c);
		return r;
	}
	*out = c;
	return 0;
}

void ks_sqlite_conn_close(struct ks_sqlite_conn *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < KS_ARRAY_SIZE(c->fixed); i++)
		sqlite3_finalize(c->fixed[i]);
	for (size_t k = 0; k < KS_ARRAY_SIZE(c->by_table); k++) {
		for (int t = 0; t < KS_T_COUNT; t++)
			sqlite3_finalize(c->by_table[k][t]);
	}
	for (uint32_t i = 0; i < c->capcache; i++)
		sqlite3_finalize(c->cache[i].st);
	free(c->cache);
	sqlite3_close(c->db);
	free(c);
}
