/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_schema.c: the database's tables, made from the records' descriptions; the views that people read; how a Kiseki database is
 * recognised. Programs never read the views: they may change without a new version. doc/format.md explains the columns.
 */
#include "meta/sqlite.h"

#include "base/log.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* Nanoseconds as RFC 3339 in UTC; the remainder is made positive for times before 1970. */
#define UTC(c)                                                                                     \
	"strftime('%Y-%m-%dT%H:%M:%S',(" c "-((" c "%1000000000)+1000000000)%1000000000)"          \
	"/1000000000,'unixepoch')||printf('.%06dZ',((" c                                           \
	"%1000000000)+1000000000)%1000000000/1000)"
#define KIND(c, shift)                                                                             \
	"CASE " c shift " WHEN 8 THEN 'file' WHEN 4 THEN 'directory' WHEN 10 "                     \
	"THEN 'symlink' WHEN 1 THEN 'fifo' WHEN 2 THEN 'character device' WHEN "                   \
	"6 THEN 'block device' WHEN 12 THEN 'socket' ELSE 'unknown' END"
#define BLOCK_KEY(slice, idx, size)                                                                \
	"printf('blocks/%d/%d/%d_%d_%d'," slice "/1000000," slice "/1000," slice "," idx "," size  \
	")"
#define PACK_KEY(id) "printf('packs/%d/%d'," id "/1000," id ")"

static const char *const views[] = {
	/* The unary plus keeps SQLite from walking a whole directory for each of its entries. */
	"CREATE VIEW inodes AS SELECT i.ino AS ino, nullif(i.parent,0) AS parent,"
	" CAST(d.name AS TEXT) AS name, " KIND(
		"i.mode",
		">>12") " AS type,"
			" printf('%04o',i.mode&4095) AS mode, i.nlink AS nlink, i.uid AS uid, "
			"i.gid AS gid,"
			" i.size AS size, i.used AS used, " UTC("i.atime_ns") " AS atime, " UTC(
				"i."
				"mt"
				"im"
				"e_"
				"n"
				"s") " AS mtime, " UTC("i.ctime_ns") " AS ctime, " UTC("i.btime_ns") " AS btime,"
												     " i.rdev AS rdev, "
												     "i.flags AS flags, "
												     "i.change AS change"
												     " FROM inode i LEFT "
												     "JOIN dentry d ON "
												     "d.ino=i.ino AND "
												     "+d.parent=i.parent "
												     "AND i.ino<>1",

	"CREATE VIEW dentries AS SELECT parent, CAST(name AS TEXT) AS name, ino, " KIND(
		"type", "") " AS type, hash FROM dentry",

	"CREATE VIEW chunks AS SELECT printf('%d_%d',x.ino,x.chunk) AS chunk_id, x.ino AS ino,"
	" x.chunk AS chunk_index, count(*) AS slices, max(x.seq) AS last_seq, " UTC(
		"max(s.ctime_ns)") " AS updated_at"
				   " FROM extent x LEFT JOIN slice s ON s.id=x.slice GROUP BY "
				   "x.ino, x.chunk",

	"CREATE VIEW slices AS SELECT s.id AS slice_id,"
	" CASE WHEN x.ino IS NULL THEN NULL ELSE printf('%d_%d',x.ino,x.chunk) END AS chunk_id,"
	" x.ino AS ino, x.chunk AS chunk_index, x.seq AS seq, x.pos AS offset, x.len AS length,"
	" x.off AS slice_offset, s.len AS slice_length, " UTC(
		"s.ctime_ns") " AS created_at,"
			      " CASE s.status WHEN 0 THEN 'pending' WHEN 1 THEN 'committed' ELSE "
			      "'unknown' END AS status,"
			      " s.session AS owner_session, s.refs AS refcount, nullif(s.pack,0) "
			      "AS pack"
			      " FROM slice s LEFT JOIN extent x ON x.slice=s.id",

	"CREATE VIEW blocks AS SELECT printf('%d_%d',b.slice,b.idx) AS block_id, " BLOCK_KEY(
		"b.slice", "b.idx",
		"b.size") " AS object_key, 0 AS object_offset,"
			  " b.size AS size, hex(b.sums) AS checksum, coalesce(s.refs,0) AS "
			  "refcount, " UTC(
				  "s.ctime_ns") " AS created_at FROM block b LEFT JOIN slice s ON "
						"s.id=b.slice"
						" UNION ALL SELECT printf('%d_0',id), " PACK_KEY(
							"pack") ", pack_off, len, hex(sums), "
								"refs, " UTC("ctime_ns") " FROM "
											 "slice "
											 "WHERE "
											 "pack<>0",

	"CREATE VIEW slice_blocks AS SELECT slice AS slice_id, printf('%d_%d',slice,idx) AS "
	"block_id,"
	" idx AS block_index FROM block"
	" UNION ALL SELECT id, printf('%d_0',id), 0 FROM slice WHERE pack<>0",

	"CREATE VIEW sessions AS SELECT id AS session_id, host, pid, " UTC(
		"start_ns") " AS start_time, " UTC("heartbeat_ns") " AS last_heartbeat,"
								   " CASE kind WHEN 1 THEN 'mount' "
								   "WHEN 2 THEN 'tool' ELSE "
								   "'unknown' END AS kind, tool,"
								   " CAST(mountpoint AS TEXT) AS "
								   "mountpoint, CAST(socket AS "
								   "TEXT) AS socket, version,"
								   " generation, epoch FROM "
								   "session",

	("CREATE VIEW settings AS SELECT name, CASE WHEN instr(value,x'00')=0"
	 " THEN CAST(value AS TEXT) ELSE hex(value) END AS value FROM setting"),
};

static int make_table(struct ks_sqlite_conn *c, enum ks_table t)
{
	static const char *const types[] = {
		[KS_COL_U64] = "INTEGER", [KS_COL_I64] = "INTEGER", [KS_COL_U32] = "INTEGER",
		[KS_COL_BYTES] = "BLOB",  [KS_COL_TEXT] = "TEXT",
	};
	const struct ks_table_desc *d = &ks_tables[t];
	KS_AUTO(ks_buf_clear) struct ks_buf sql = { 0 };
	bool rowid = d->nkey == 1 && !ks_col_is_bytes(&d->cols[0]);
	const char *text = NULL;
	int r = ks_buf_printf(&sql, "CREATE TABLE %s (", d->name);

	for (unsigned int i = 0; i < d->ncol && r == 0; i++)
		r = ks_buf_printf(&sql, "%s %s%s, ", d->cols[i].name, types[d->cols[i].type],
				  rowid && i == 0 ? " PRIMARY KEY" : " NOT NULL");
	if (r == 0 && !rowid)
		r = ks_buf_printf(&sql, "PRIMARY KEY (");
	for (unsigned int i = 0; i < d->nkey && r == 0 && !rowid; i++)
		r = ks_buf_printf(&sql, "%s%s", i ? ", " : "", d->cols[i].name);
	if (r == 0 && rowid)
		sql.n -= 2; /* the last ", " */
	if (r == 0)
		r = ks_buf_printf(&sql, "%s) STRICT%s", rowid ? "" : ")",
				  rowid ? "" : ", WITHOUT ROWID");
	if (r == 0)
		r = ks_buf_cstr(&sql, &text);
	return r < 0 ? r : ks_sqlite_exec(c, text, "make its tables");
}

static int make_all(struct ks_sqlite_conn *c)
{
	int64_t objects = 0, id = 0;
	char sql[96];
	int r = ks_sqlite_query_int(c, "SELECT count(*) FROM sqlite_schema", &objects);

	if (r == 0)
		r = ks_sqlite_query_int(c, "PRAGMA application_id", &id);
	if (r < 0)
		return r;
	if (id == KS_SQLITE_APPLICATION_ID)
		return -EEXIST;
	if (objects > 0 || id != 0)
		return ks_fail_hint(-EBADMSG, "choose another name",
				    "%s: is the database of another program", c->sq->path);
	snprintf(sql, sizeof(sql), "PRAGMA application_id=%d;PRAGMA user_version=%d",
		 KS_SQLITE_APPLICATION_ID, KS_SQLITE_VERSION);
	r = ks_sqlite_exec(c, sql, "make its tables");
	for (int t = 0; t < KS_T_COUNT && r == 0; t++)
		r = make_table(c, (enum ks_table)t);
	for (size_t i = 0; i < KS_ARRAY_SIZE(views) && r == 0; i++)
		r = ks_sqlite_exec(c, views[i], "make its views");
	return r;
}

int ks_sqlite_schema_make(struct ks_sqlite_conn *c)
{
	int64_t id = 0;
	/* Asked first, so that a volume or a stranger's file is never written to. */
	int r = ks_sqlite_query_int(c, "PRAGMA application_id", &id);

	if (r == 0 && id == KS_SQLITE_APPLICATION_ID)
		return -EEXIST;
	if (r == 0 && id == 0)
		r = ks_sqlite_query_int(c, "SELECT count(*) FROM sqlite_schema", &id);
	if (r == 0 && id != 0)
		return ks_fail_hint(-EBADMSG, "choose another name",
				    "%s: is the database of another program", c->sq->path);
	/* Names and attributes are nobody else's matter, whatever the umask. SQLite gives its log the same mode. By name: closing a descriptor would drop SQLite's locks. */
	if (r == 0 && chmod(c->sq->path, 0600) < 0)
		r = ks_fail(-errno, "%s: set its mode", c->sq->path);
	/* The kind of log is chosen before the transaction: two makers meet at the BEGIN. */
	if (r == 0) {
		r = ks_sqlite_exec(
			c,
			"PRAGMA page_size=" KS_STRING(
				KS_SQLITE_PAGE) ";PRAGMA journal_mode=WAL;BEGIN IMMEDIATE",
			"begin");
	}
	if (r < 0)
		return r;
	r = make_all(c);
	if (r == 0)
		return ks_sqlite_exec(c, "COMMIT", "make its tables");
	sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
	return r;
}

static int check_mode(struct ks_sqlite_conn *c)
{
	sqlite3_stmt *st = NULL;
	const char *mode;
	bool wal = false;
	int rc = sqlite3_prepare_v2(c->db, "PRAGMA journal_mode", -1, &st, NULL);

	if (rc == SQLITE_OK) {
		rc = sqlite3_step(st);
		mode = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(st, 0) : NULL;
		wal = mode && strcmp(mode, "wal") == 0;
		rc = rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_OK)
		return ks_sqlite_fail(c->sq, c->db, rc, "read");
	/* Somebody has switched it with a tool of SQLite's. */
	if (!wal && !c->readonly)
		return ks_sqlite_exec(c, "PRAGMA journal_mode=WAL", "switch to a write-ahead log");
	return 0;
}

int ks_sqlite_schema_check(struct ks_sqlite_conn *c)
{
	int64_t id = 0, version = 0;
	int r = ks_sqlite_query_int(c, "PRAGMA application_id", &id);

	if (r == 0)
		r = ks_sqlite_query_int(c, "PRAGMA user_version", &version);
	if (r < 0)
		return r;
	if (id != KS_SQLITE_APPLICATION_ID)
		return ks_fail_hint(-EBADMSG, "give the file that kiseki-format has made",
				    "%s: is not a Kiseki database", c->sq->path);
	if (version > KS_SQLITE_VERSION) {
		return ks_fail_hint(-EPROTO, "install a newer Kiseki",
				    "%s: has database version %lld, this program knows up to %d",
				    c->sq->path, (long long)version, KS_SQLITE_VERSION);
	}
	if (version < 1)
		return ks_fail_hint(-EBADMSG, "restore a dump", "%s: has no database version",
				    c->sq->path);
	/* A table that lacks a column is found now, not in the middle of an operation. */
	for (int t = 0; t < KS_T_COUNT; t++) {
		int rc;

		if (!ks_sqlite_table_stmt(c, KS_ST_GET, (enum ks_table)t, &rc))
			return ks_sqlite_fail(c->sq, c->db, rc, "use its tables");
	}
	return check_mode(c);
}
