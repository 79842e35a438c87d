/* SPDX-License-Identifier: Apache-2.0 */
/* engine_test.c: records, what all engines share, and SQLite's statements, plans and views. */
#include "base/tap.h"
#include "base/thread.h"
#include "meta/sqlite.h"
#include <errno.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Stands before libc's: counts those of the thread, and lets its next ones fail. */
static _Thread_local int fdatasyncs, fdatasync_fails;

int fdatasync(int fd)
{
	fdatasyncs++;
	if (fdatasync_fails > 0) {
		fdatasync_fails--;
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

/* ---- records ---- */

KS_TEST(tables_are_described_whole)
{
	for (int t = 0; t < KS_T_COUNT; t++) {
		const struct ks_table_desc *d = &ks_tables[t];

		ks_check(d->name && d->nkey >= 1 && d->nkey <= d->ncol && d->ncol <= KS_COLS_MAX);
		ks_check(d->size <= sizeof(union ks_record));
		for (unsigned int i = 0; i < d->ncol; i++) {
			size_t size = ks_col_is_bytes(&d->cols[i])    ? sizeof(struct ks_bytes)
				      : d->cols[i].type == KS_COL_U32 ? 4
								      : 8;

			ks_check(d->cols[i].name && d->cols[i].off + size <= d->size);
			for (unsigned int k = 0; k < i; k++) {
				ks_check(strcmp(d->cols[i].name, d->cols[k].name) != 0);
				ks_check(d->cols[i].off > d->cols[k].off);
			}
		}
		/* No column more in the array than counted. */
		ks_check(d->ncol == KS_COLS_MAX || !d->cols[d->ncol].name);
	}
}

KS_TEST(columns_widen_and_narrow)
{
	struct ks_rec_inode i = { .mode = 0xffffffffu, .ctime_ns = -5 };
	const struct ks_col *mode = ks_col_at(KS_T_INODE, offsetof(struct ks_rec_inode, mode));
	const struct ks_col *ctime = ks_col_at(KS_T_INODE, offsetof(struct ks_rec_inode, ctime_ns));

	ks_check_eq(ks_rec_int(&i, mode), 0xffffffffll);
	ks_check_eq(ks_rec_int(&i, ctime), -5);
	ks_rec_set_int(&i, mode, 7);
	ks_rec_set_int(&i, ctime, INT64_MIN);
	ks_check_eq(i.mode, 7);
	ks_check_eq(i.ctime_ns, INT64_MIN);
	ks_check_eq(i.parent, 0);
	ks_check_eq(i.nlink, 0);
}

KS_TEST(records_compare_by_integers_then_bytes)
{
	struct ks_rec_dentry a = { .parent = 1, .hash = 2, .name = { "b", 1 } }, b = a;

	ks_check_eq(ks_rec_cmp(KS_T_DENTRY, &a, &b, 3), 0);
	b.name = (struct ks_bytes){ "b\0", 2 };
	ks_check(ks_rec_cmp(KS_T_DENTRY, &a, &b, 3) < 0);
	ks_check_eq(ks_rec_cmp(KS_T_DENTRY, &a, &b, 2), 0);
	b.name = (struct ks_bytes){ "\xff", 1 };
	ks_check(ks_rec_cmp(KS_T_DENTRY, &a, &b, 3) < 0);
	b.name = (struct ks_bytes){ 0 };
	ks_check(ks_rec_cmp(KS_T_DENTRY, &a, &b, 3) > 0);
	b.hash = 3;
	ks_check(ks_rec_cmp(KS_T_DENTRY, &a, &b, 3) < 0);
}

KS_TEST(a_copy_of_a_key_has_no_values)
{
	struct ks_arena a = { 0 };
	char name[] = "name";
	struct ks_rec_xattr x = { .ino = 3, .name = { name, 4 }, .value = { "v", 1 } }, *y;

	y = ks_rec_dup(&a, KS_T_XATTR, &x, 2);
	name[0] = 'X';
	ks_check_eq(y->ino, 3);
	ks_check_mem(y->name.p, "name", 4);
	ks_check_eq(y->value.n, 0);
	y = ks_rec_dup(&a, KS_T_XATTR, &x, 3);
	ks_check_mem(y->value.p, "v", 1);
	ks_arena_clear(&a);
}

KS_TEST(updates_apply_one_after_the_other)
{
	struct ks_rec_inode i = { .nlink = 2, .size = 10 };
	struct ks_upd u[] = { { offsetof(struct ks_rec_inode, nlink), KS_UPD_ADD, -5 },
			      { offsetof(struct ks_rec_inode, size), KS_UPD_MAX, 30 },
			      { offsetof(struct ks_rec_inode, size), KS_UPD_ADD, 1 },
			      { offsetof(struct ks_rec_inode, atime_ns), KS_UPD_ADD, -1 } };

	ks_upd_apply(KS_T_INODE, &i, u, 4);
	ks_check_eq(i.nlink, 0);
	ks_check_eq(i.size, 31);
	ks_check_eq(i.atime_ns, -1);
}

static void count_engine(void *arg, const char *scheme, const char *help)
{
	ks_check(scheme[0] && help[0]);
	++*(int *)arg;
}

KS_TEST(engines_are_listed)
{
	int n = 0;

	ks_engines(count_engine, &n);
	ks_check(n >= 2);
}

/* ---- round trips ---- */

static int two_trips(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = 1 }, j = { .ino = 2 };
	struct ks_read r[2] = { { .table = KS_T_INODE, .rec = &i },
				{ .table = KS_T_INODE, .rec = &j } };
	int ret = ks_txn_read(t, r, 2);

	(void)arg;
	i.size++;
	ks_txn_put(t, KS_T_INODE, &i);
	ks_txn_put(t, KS_T_INODE, &j);
	return ret;
}

static void count_trips(const char *url)
{
	struct ks_engine_opts o = { .create = true };
	struct ks_engine_stats s;
	struct ks_engine *e;

	ks_check_ok(ks_engine_open(&e, url, &o));
	ks_check_ok(ks_engine_run(e, two_trips, NULL));
	ks_engine_stats(e, &s);
	ks_check_eq(s.reads, 1);
	ks_check_eq(s.scans, 0);
	ks_check_eq(s.commits, 1);
	ks_check_eq(s.bodies, 1);
	ks_check_eq(s.batches, 1);
	ks_check(s.size_bytes > 0);
	ks_engine_close(e);
}

KS_TEST(trips_are_counted)
{
	char url[300];

	snprintf(url, sizeof(url), "sqlite://%s/trips.db", ks_tap_dir());
	count_trips(url);
	count_trips("mem://trips");
}

/* ---- SQLite ---- */

static sqlite3 *db;
static char path[300];

static void open_raw(void)
{
	struct ks_engine_opts o = { .create = true };
	struct ks_engine *e;
	char url[320];

	snprintf(path, sizeof(path), "%s/raw.db", ks_tap_dir());
	snprintf(url, sizeof(url), "sqlite://%s", path);
	if (access(path, F_OK)) {
		ks_check_ok(ks_engine_open(&e, url, &o));
		ks_engine_close(e);
	}
	ks_check_eq(sqlite3_open(path, &db), SQLITE_OK);
}

static void plan_of(const char *sql, bool may_walk)
{
	char *explain = sqlite3_mprintf("EXPLAIN QUERY PLAN %s", sql);
	sqlite3_stmt *st = NULL;

	ks_check_eq(sqlite3_prepare_v2(db, explain, -1, &st, NULL), SQLITE_OK);
	while (sqlite3_step(st) == SQLITE_ROW) {
		const char *step = (const char *)sqlite3_column_text(st, 3);
		bool good = !strstr(step, "TEMP B-TREE") && !strstr(step, "AUTOMATIC") &&
			    (may_walk || !strstr(step, "SCAN"));

		if (!good)
			printf("# %s: %s\n", sql, step);
		ks_check(good);
	}
	sqlite3_finalize(st);
	sqlite3_free(explain);
}

/* No statement sorts, and none walks a table unless it is asked for all of it. */
KS_TEST(every_statement_finds_its_records_by_key)
{
	struct ks_buf b = { 0 };
	const char *sql;

	open_raw();
	for (int t = 0; t < KS_T_COUNT; t++) {
		unsigned int nkey = ks_tables[t].nkey;

		for (int k = KS_ST_GET; k <= KS_ST_DEL; k++) {
			if (k == KS_ST_GET_FOLLOW && t != KS_T_DENTRY)
				continue;
			ks_buf_clear(&b);
			ks_check_ok(ks_sqlite_sql_table((enum ks_sqlite_stmt_kind)k,
							(enum ks_table)t, &b));
			ks_check_ok(ks_buf_cstr(&b, &sql));
			plan_of(sql, false);
		}
		for (unsigned int n = 1; n <= nkey; n++) {
			ks_buf_clear(&b);
			ks_check_ok(ks_sqlite_sql_prefix(KS_ST_EXISTS, (enum ks_table)t, n, &b));
			ks_check_ok(ks_buf_cstr(&b, &sql));
			plan_of(sql, false);
		}
		for (unsigned int code = 0; code < nkey * 4 * 2 * 2; code++) {
			struct ks_scan s = { .table = (enum ks_table)t,
					     .nprefix = code % nkey,
					     .nafter = code / nkey % 4,
					     .reverse = code / nkey / 4 % 2,
					     .flags = code / nkey / 8 ? KS_READ_FOLLOW : 0 };

			if (s.nprefix + s.nafter > nkey ||
			    (s.flags && t != KS_T_DENTRY && t != KS_T_EXTENT))
				continue;
			ks_buf_clear(&b);
			ks_check_ok(ks_sqlite_sql_scan(&s, &b));
			ks_check_ok(ks_buf_cstr(&b, &sql));
			plan_of(sql, s.nprefix + s.nafter == 0);
		}
	}
	ks_buf_clear(&b);
	sqlite3_close(db);
}

static void one_row(const char *sql, const char *want)
{
	sqlite3_stmt *st = NULL;

	if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) != SQLITE_OK)
		printf("# %s: %s\n", sql, sqlite3_errmsg(db));
	ks_check(st);
	ks_check_eq(sqlite3_step(st), SQLITE_ROW);
	ks_check_str((const char *)sqlite3_column_text(st, 0), want);
	ks_check_eq(sqlite3_step(st), SQLITE_DONE);
	sqlite3_finalize(st);
}

static int example(struct ks_txn *t, void *arg)
{
	int64_t when = 1795140003123456789ll;
	struct ks_rec_inode root = { .ino = 1, .mode = 040755 };
	struct ks_rec_inode file = {
		.ino = 5, .parent = 1, .mode = 0104640, .mtime_ns = when, .atime_ns = -1
	};
	struct ks_rec_dentry d = {
		.parent = 1, .hash = 77, .name = { "file", 4 }, .ino = 5, .type = 8
	};
	struct ks_rec_slice s = {
		.id = 2003004, .status = 1, .refs = 2, .ctime_ns = when, .len = 9, .session = 4
	};
	struct ks_rec_slice packed = { .id = 6,
				       .status = 0,
				       .refs = 1,
				       .pack = 4001,
				       .pack_off = 70,
				       .len = 30,
				       .sums = { "\x01\xab\0\0", 4 } };
	struct ks_rec_block b = { .slice = 2003004, .idx = 1, .size = 9, .sums = { "\xff\0", 2 } };
	struct ks_rec_extent x = {
		.ino = 5, .chunk = 3, .seq = 1, .pos = 10, .len = 9, .slice = 2003004
	};
	struct ks_rec_session w = { .id = 4,
				    .kind = 1,
				    .pid = 12,
				    .start_ns = when,
				    .host = { "host", 4 },
				    .mountpoint = { "/mnt", 4 } };
	struct ks_rec_setting name = { .name = { "name", 4 }, .value = { "home", 4 } };
	struct ks_rec_setting key = { .name = { "hash_key", 8 }, .value = { "\0\x01", 2 } };

	(void)arg;
	ks_txn_insert(t, KS_T_INODE, &root);
	ks_txn_insert(t, KS_T_INODE, &file);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	ks_txn_insert(t, KS_T_SLICE, &s);
	ks_txn_insert(t, KS_T_SLICE, &packed);
	ks_txn_insert(t, KS_T_BLOCK, &b);
	ks_txn_insert(t, KS_T_EXTENT, &x);
	ks_txn_insert(t, KS_T_SESSION, &w);
	ks_txn_insert(t, KS_T_SETTING, &name);
	ks_txn_insert(t, KS_T_SETTING, &key);
	return 0;
}

KS_TEST(people_can_read_the_views)
{
	struct ks_engine *e;
	char url[320];

	open_raw();
	sqlite3_close(db);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	ks_check_ok(ks_engine_open(&e, url, NULL));
	ks_check_ok(ks_engine_run(e, example, NULL));
	open_raw();
	one_row("SELECT name||' '||type||' '||mode||' '||mtime||' '||atime FROM inodes WHERE ino=5",
		"file file 4640 2026-11-20T02:00:03.123456Z 1969-12-31T23:59:59.999999Z");
	one_row("SELECT count(*) FROM inodes", "2");
	one_row("SELECT name||' '||type FROM dentries", "file file");
	one_row("SELECT chunk_id||' '||chunk_index||' '||slices||' '||updated_at FROM chunks",
		"5_3 3 1 2026-11-20T02:00:03.123456Z");
	one_row("SELECT chunk_id||' '||offset||' '||status||' '||owner_session FROM slices "
		"WHERE slice_id=2003004",
		"5_3 10 committed 4");
	one_row("SELECT status FROM slices WHERE slice_id=6", "pending");
	one_row("SELECT object_key||' '||checksum||' '||refcount FROM blocks WHERE "
		"block_id='2003004_1'",
		"blocks/2/2003/2003004_1_9 FF00 2");
	one_row("SELECT object_key||' '||object_offset||' '||size||' '||checksum FROM blocks "
		"WHERE block_id='6_0'",
		"packs/4/4001 70 30 01AB0000");
	one_row("SELECT block_id||' '||block_index FROM slice_blocks WHERE slice_id=6", "6_0 0");
	one_row("SELECT host||' '||pid||' '||kind||' '||mountpoint||' '||start_time FROM sessions",
		"host 12 mount /mnt 2026-11-20T02:00:03.123456Z");
	one_row("SELECT value FROM settings WHERE name='name'", "home");
	one_row("SELECT value FROM settings WHERE name='hash_key'", "0001");
	sqlite3_close(db);
	ks_engine_close(e);
}

/* ---- the log, of which the first 16 MiB are kept in memory ---- */

static sqlite3 *through(const char *vfs)
{
	sqlite3 *c;

	ks_check_eq(sqlite3_open_v2(path, &c, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, vfs),
		    SQLITE_OK);
	ks_check_eq(sqlite3_exec(c,
				 "PRAGMA page_size=2048; PRAGMA journal_mode=WAL;"
				 "PRAGMA wal_autocheckpoint=0; PRAGMA journal_size_limit=0;"
				 "PRAGMA cache_spill=0; PRAGMA cache_size=16; PRAGMA mmap_size=0",
				 NULL, NULL, NULL),
		    SQLITE_OK);
	return c;
}

/* @n records of 64 KiB, each a commit; their bytes say which they are, and of which @round. */
static void fill_log(sqlite3 *c, int round, int n)
{
	for (int i = 0; i < n; i++) {
		char *sql = sqlite3_mprintf(
			"INSERT OR REPLACE INTO t VALUES(%d,"
			"CAST(replace(hex(zeroblob(8192)),'0000','%c%c%c%c') AS TEXT)||"
			"replace(hex(zeroblob(24576)),'00','%02d'))",
			i, 'a' + round, 'a' + i % 26, 'a' + i / 26, '.', i % 100);

		ks_check_eq(sqlite3_exec(c, sql, NULL, NULL, NULL), SQLITE_OK);
		sqlite3_free(sql);
	}
}

static void check_log(sqlite3 *c, int round, int n)
{
	char want[24], *sql;

	snprintf(want, sizeof(want), "%d", n);
	sql = sqlite3_mprintf("SELECT count(*) FROM t WHERE v="
			      "replace(hex(zeroblob(8192)),'0000',char(%d,97+i%%26,97+i/26,46))||"
			      "replace(hex(zeroblob(24576)),'00',printf('%%02d',i%%100))",
			      'a' + round);
	db = c;
	one_row(sql, want);
	sqlite3_free(sql);
}

static off_t log_length(void)
{
	char name[310];
	struct stat st;

	snprintf(name, sizeof(name), "%s-wal", path);
	return stat(name, &st) == 0 ? st.st_size : -1;
}

/* How much of it this process maps, in KiB. */
static long log_resident(void)
{
	FILE *f = fopen("/proc/self/smaps", "r");
	bool here = false;
	char line[600];
	long kib, sum = 0;

	while (f && fgets(line, sizeof(line), f)) {
		if (strchr(line, '/'))
			here = strstr(line, "/log.db-wal") != NULL;
		if (here && sscanf(line, "Rss: %ld", &kib) == 1)
			sum += kib;
	}
	if (f)
		fclose(f);
	return sum;
}

KS_TEST(a_log_is_read_back_whatever_its_length)
{
	sqlite3 *w, *r, *other;

	snprintf(path, sizeof(path), "%s/log.db", ks_tap_dir());
	w = through(ks_sqlite_vfs_name());
	ks_check_eq(
		sqlite3_exec(w, "CREATE TABLE t(i INTEGER PRIMARY KEY, v TEXT)", NULL, NULL, NULL),
		SQLITE_OK);
	r = through(ks_sqlite_vfs_name());
	other = through("unix");
	fill_log(w, 0, 40);
	check_log(r, 0, 40);
	/* Longer than what is kept. */
	fill_log(w, 1, 300);
	ks_check(log_length() > 20 * (off_t)KS_MIB);
	ks_check(log_resident() > 15 * 1024);
	check_log(r, 1, 300);
	check_log(other, 1, 300);
	/* Another program empties it, and it grows again, from both sides. */
	ks_check_eq(sqlite3_exec(other, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL),
		    SQLITE_OK);
	ks_check_eq(log_length(), 0);
	check_log(r, 1, 300);
	fill_log(other, 2, 300);
	check_log(r, 2, 300);
	check_log(w, 2, 300);
	ks_check_eq(sqlite3_exec(w, "PRAGMA wal_checkpoint(TRUNCATE)", NULL, NULL, NULL),
		    SQLITE_OK);
	ks_check_eq(log_length(), 0);
	fill_log(w, 3, 300);
	check_log(r, 3, 300);
	check_log(other, 3, 300);
	sqlite3_close(r);
	sqlite3_close(other);
	sqlite3_close(w);
}

static int one_inode(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = *(uint64_t *)arg };

	ks_txn_put(t, KS_T_INODE, &i);
	return 0;
}

/* ---- what is durable ---- */

/* How often a sync has asked the disk. */
static int asked(struct ks_engine *e)
{
	fdatasyncs = 0;
	ks_check_ok(ks_engine_sync(e));
	return fdatasyncs;
}

KS_TEST(what_is_durable_is_not_made_durable_again)
{
	struct ks_engine_opts o = { .create = true };
	struct ks_engine *e, *other, *plain;
	uint64_t ino = 7;
	char url[320];

	snprintf(url, sizeof(url), "sqlite://%s/durable.db", ks_tap_dir());
	ks_check_ok(ks_engine_open(&e, url, &o));
	o.create = false;
	ks_check_ok(ks_engine_open(&other, url, &o));
	o.cache_bytes = KS_NO_CACHE;
	ks_check_ok(ks_engine_open(&plain, url, &o));
	for (int i = 0; i < 3; i++) {
		ks_check_ok(ks_engine_run(e, one_inode, &ino));
		ks_check_eq(asked(e), 1);
		ks_check_eq(asked(e), 0);
		ks_check_eq(asked(other), 1); /* it cannot know */
		ks_check_ok(ks_engine_run(other, one_inode, &ino));
		ks_check_eq(asked(e), 1);
		ks_check_eq(asked(e), 0);
	}
	/* Who does not see the name of the state asks each time. */
	ks_check_eq(asked(plain), 1);
	ks_check_eq(asked(plain), 1);
	/* What failed is not durable, and not what comes after it. */
	ks_check_ok(ks_engine_run(e, one_inode, &ino));
	fdatasync_fails = 1;
	ks_fail_quiet(true);
	ks_check_eq(ks_engine_sync(e), -EIO);
	ks_fail_quiet(false);
	ks_check(asked(e) > 0);
	ks_check_ok(ks_engine_run(e, one_inode, &ino));
	ks_check_eq(asked(e), 1);
	ks_check_eq(asked(e), 0);
	ks_engine_close(plain);
	ks_engine_close(other);
	ks_engine_close(e);
}

/* ---- the thread for checkpoints ---- */

struct writing {
	struct ks_engine *e;
	int cpu;
};

/* Of the thread that copies the log: may it run there? */
static bool may_run_on(struct ks_engine *e, int cpu)
{
	cpu_set_t set;

	ks_check_ok(pthread_getaffinity_np(ks_to_sqlite(e)->ckpt_thread, sizeof(set), &set));
	return CPU_ISSET((size_t)cpu, &set);
}

/* Until it has been woken and has gone. */
static void *write_there(void *arg)
{
	struct writing *w = arg;
	uint64_t ino = 1;
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)w->cpu, &one);
	ks_check_ok(sched_setaffinity(0, sizeof(one), &one));
	do
		ks_check_ok(ks_engine_run(w->e, one_inode, &ino));
	while (++ino < 200000 && (!ks_to_sqlite(w->e)->ckpt_started || may_run_on(w->e, w->cpu)));
	ks_check(!may_run_on(w->e, w->cpu));
	return NULL;
}

KS_TEST(checkpoints_are_not_where_the_writer_is)
{
	struct ks_engine_opts o = { .create = true };
	struct writing w;
	char url[320];
	cpu_set_t all;
	pthread_t thread;
	int n = 0;

	ks_check_ok(sched_getaffinity(0, sizeof(all), &all));
	if (CPU_COUNT(&all) < 2)
		return;
	snprintf(url, sizeof(url), "sqlite://%s/away.db", ks_tap_dir());
	ks_check_ok(ks_engine_open(&w.e, url, &o));
	for (w.cpu = 0; w.cpu < CPU_SETSIZE && n < 2; w.cpu++) {
		if (!CPU_ISSET((size_t)w.cpu, &all))
			continue;
		n++;
		ks_check_ok(ks_thread_start(&thread, "writer", write_there, &w));
		pthread_join(thread, NULL);
	}
	ks_engine_close(w.e);
}

KS_TEST_MAIN()
