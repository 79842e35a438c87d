/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_processes.c: one SQLite database and several processes: beside each other, killed, slow, on a full disk, on a read-only one, and
 * with a file that is damaged, foreign or newer. Each process opens the database after fork().
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/tap.h"
#include "meta/engine.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char path[300], url[320];

static struct ks_bytes str(const char *s)
{
	return (struct ks_bytes){ .p = s, .n = strlen(s) };
}

static void fresh(const char *dir)
{
	static int n;

	snprintf(path, sizeof(path), "%s/p%d.db", dir, n++);
	snprintf(url, sizeof(url), "sqlite://%s", path);
}

static struct ks_engine *open_db(bool create, int64_t timeout_ns)
{
	struct ks_engine_opts o = { .create = create, .busy_timeout_ns = timeout_ns };
	struct ks_engine *e = NULL;

	ks_check_ok(ks_engine_open(&e, url, &o));
	return e;
}

static void make_db(void)
{
	fresh(ks_tap_dir());
	ks_engine_close(open_db(true, 0));
}

static void raw(const char *sql)
{
	sqlite3 *db = NULL;
	char *err = NULL;

	ks_check_eq(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &err) != SQLITE_OK)
		printf("# %s: %s\n", sql, err);
	ks_check(!err);
	sqlite3_close(db);
}

/* A child of fork() must not run the parent's test on: it ends here. */
static pid_t start(int (*fn)(int), int arg)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0)
		_exit(fn(arg));
	ks_check(pid > 0);
	return pid;
}

static int end_of(pid_t pid)
{
	int status = -1;

	ks_check_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* ---- transactions ---- */

static int add_pair(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter a = { .name = str("a") }, b = { .name = str("b") };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &a };
	int ret = ks_txn_read(t, &r, 1);

	(void)arg;
	if (ret < 0)
		return ret;
	b.value = a.value = r.found ? a.value + 1 : 1;
	ks_txn_put(t, KS_T_COUNTER, &a);
	for (uint64_t k = 0; k < 20; k++) {
		struct ks_rec_inode i = { .ino = 1 + k * 50, .size = (uint64_t)a.value };

		ks_txn_put(t, KS_T_INODE, &i);
	}
	ks_txn_put(t, KS_T_COUNTER, &b);
	return 0;
}

static int all_equal(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	(void)inode;
	return ((const struct ks_rec_inode *)rec)->size == *(uint64_t *)arg ? 0 : -EILSEQ;
}

/* What add_pair() wrote must be whole. Returns the value, or -errno. */
static int64_t pair(struct ks_engine *e)
{
	struct ks_arena arena = { 0 };
	struct ks_rec_counter a = { .name = str("a") }, b = { .name = str("b") };
	struct ks_read r[2] = { { .table = KS_T_COUNTER, .rec = &a },
				{ .table = KS_T_COUNTER, .rec = &b } };
	struct ks_scan s = { .table = KS_T_INODE, .fn = all_equal, .arg = &a.value };
	int ret = ks_engine_fetch(e, r, 2, &s, 1, &arena);

	ks_arena_clear(&arena);
	if (ret < 0)
		return ret;
	return a.value == b.value ? a.value : -EILSEQ;
}

static int adder(int n)
{
	struct ks_engine *e = open_db(false, 0);
	int r = 0;

	for (int i = 0; i < n && r == 0; i++)
		r = ks_engine_run(e, add_pair, NULL);
	ks_engine_close(e);
	return r != 0;
}

KS_TEST(several_processes_count_together)
{
	pid_t pid[4];
	struct ks_engine *e;

	make_db();
	for (int i = 0; i < 4; i++)
		pid[i] = start(adder, 300);
	e = open_db(false, 0);
	for (int i = 0; i < 200; i++)
		ks_check(pair(e) >= 0);
	for (int i = 0; i < 4; i++)
		ks_check_eq(end_of(pid[i]), 0);
	ks_check_eq(pair(e), 1200);
	ks_engine_close(e);
}

KS_TEST(killed_writers_leave_whole_transactions)
{
	struct ks_engine_opts ro = { .readonly = true };
	struct ks_engine *e;
	int64_t last = 0, now;

	make_db();
	for (int round = 0; round < 25; round++) {
		pid_t a = start(adder, 1 << 30), b = start(adder, 1 << 30);

		usleep(5000 + (useconds_t)(ks_mix64((uint64_t)round) % 40000));
		kill(a, SIGKILL);
		usleep((useconds_t)(ks_mix64((uint64_t)round + 99) % 3000));
		kill(b, SIGKILL);
		end_of(a);
		end_of(b);
		e = NULL;
		if (round % 2)
			ks_check_ok(ks_engine_open(&e, url, &ro));
		else
			e = open_db(false, 0);
		now = pair(e);
		ks_check(now >= last);
		last = now;
		ks_engine_close(e);
	}
	ks_check(last > 0);
	raw("PRAGMA integrity_check");
	ks_check_eq(end_of(start(adder, 3)), 0);
	e = open_db(false, 0);
	ks_check_eq(pair(e), last + 3);
	ks_engine_close(e);
}

/* ---- somebody holds the database ---- */

static int holder(int seconds)
{
	sqlite3 *db = NULL;

	if (sqlite3_open(path, &db) || sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL))
		return 1;
	sleep((unsigned int)seconds);
	return sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) || sqlite3_close(db);
}

KS_TEST(a_held_database_is_waited_for)
{
	struct ks_engine *e;
	int64_t since;
	bool quiet;
	pid_t pid;

	make_db();
	pid = start(holder, 3);
	usleep(300000);
	e = open_db(false, 400 * KS_NS_PER_MS);
	since = ks_clock_mono_ns();
	quiet = ks_fail_quiet(true);
	ks_check_eq(ks_engine_run(e, add_pair, NULL), -EBUSY);
	ks_fail_quiet(quiet);
	ks_check(strstr(ks_fail_hint_text(), "another process"));
	ks_check(ks_clock_mono_ns() - since >= 400 * KS_NS_PER_MS);
	ks_check(pair(e) >= 0); /* readers need not wait */
	ks_check(ks_engine_foreign_version(e) > 0);
	ks_check(ks_clock_mono_ns() - since < 1500 * KS_NS_PER_MS);
	ks_engine_close(e);

	e = open_db(false, 0);
	ks_check_ok(ks_engine_run(e, add_pair, NULL));
	ks_check(ks_clock_mono_ns() - since > 1500 * KS_NS_PER_MS);
	ks_engine_close(e);
	ks_check_eq(end_of(pid), 0);
}

KS_TEST(only_others_commits_are_foreign)
{
	struct ks_engine *a, *b;
	uint64_t v;

	make_db();
	a = open_db(false, 0);
	b = open_db(false, 0);
	v = ks_engine_foreign_version(a);
	for (int i = 0; i < 50; i++) {
		ks_check_ok(ks_engine_run(a, add_pair, NULL));
		ks_check_eq(ks_engine_foreign_version(a), v);
	}
	for (int i = 0; i < 50; i++) {
		ks_check_ok(ks_engine_run(b, add_pair, NULL));
		ks_check(ks_engine_foreign_version(a) != v);
		v = ks_engine_foreign_version(a);
		ks_check_eq(ks_engine_foreign_version(a), v);
		/* One that hides between two of our own. */
		ks_check_ok(ks_engine_run(a, add_pair, NULL));
		ks_check_ok(ks_engine_run(b, add_pair, NULL));
		ks_check_ok(ks_engine_run(a, add_pair, NULL));
		ks_check(ks_engine_foreign_version(a) != v);
		v = ks_engine_foreign_version(a);
	}
	ks_engine_close(a);
	ks_engine_close(b);
}

/* ---- the log ---- */

static int write_much(struct ks_txn *t, void *arg)
{
	uint64_t *next = arg;
	char value[3000];

	memset(value, 'x', sizeof(value));
	for (int i = 0; i < 20; i++) {
		struct ks_rec_xattr x = { .ino = (*next)++ % 2000,
					  .name = str("user.x"),
					  .value = { value, sizeof(value) } };

		ks_txn_put(t, KS_T_XATTR, &x);
	}
	return 0;
}

KS_TEST(the_log_stays_short_under_steady_writing)
{
	struct ks_engine *e;
	struct stat st;
	char wal[320];
	uint64_t next = 0;
	off_t most = 0;

	make_db();
	e = open_db(false, 0);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	for (int i = 0; i < 6000; i++) {
		ks_check_ok(ks_engine_run(e, write_much, &next));
		if (i % 100 == 0) {
			ks_check(pair(e) >= 0);
			if (stat(wal, &st) == 0 && st.st_size > most)
				most = st.st_size;
		}
		if (i % 1000 == 0)
			ks_check_ok(ks_engine_sync(e));
	}
	printf("# about 480 MiB written, the log was at most %lld MiB long\n",
	       (long long)(most >> 20));
	ks_check(most < 200 << 20);
	ks_engine_close(e);
	ks_check(stat(wal, &st) < 0); /* the last one cleans up */
}

/* By 64 KiB, whatever the commits are; and it is read back without its end. */
KS_TEST(the_log_grows_in_steps)
{
	struct ks_engine *e;
	struct stat st;
	char wal[320];

	make_db();
	e = open_db(false, 0);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	for (int i = 1; i <= 30; i++) {
		ks_check_ok(ks_engine_run(e, add_pair, NULL));
		ks_check_eq(stat(wal, &st), 0);
		ks_check(st.st_size > 0 && st.st_size % 65536 == 0);
	}
	ks_check(st.st_size > 65536);
	ks_engine_close(e);
}

/* Does another connection's checkpoint find a reader in its way? */
static bool is_in_the_way(int timeout_ms)
{
	sqlite3_stmt *st = NULL;
	sqlite3 *db = NULL;
	bool busy;

	ks_check_eq(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, timeout_ms);
	ks_check_eq(sqlite3_prepare_v2(db, "PRAGMA wal_checkpoint(RESTART)", -1, &st, NULL),
		    SQLITE_OK);
	ks_check_eq(sqlite3_step(st), SQLITE_ROW);
	busy = sqlite3_column_int(st, 0) != 0;
	sqlite3_finalize(st);
	sqlite3_close(db);
	return busy;
}

/* The writer keeps its snapshot from one of many transactions to the next, and not for long after the last. */
KS_TEST(a_snapshot_is_kept_while_there_are_transactions)
{
	struct ks_engine *e, *other;
	bool kept = false;

	make_db();
	e = open_db(false, 0);
	other = open_db(false, 0);
	for (int i = 0; i < 50 && !kept; i++) {
		for (int k = 0; k < 20; k++)
			ks_check_ok(ks_engine_run(e, add_pair, NULL));
		kept = is_in_the_way(0);
	}
	ks_check(kept);
	ks_check(!is_in_the_way(20000));
	for (int i = 0; i < 3; i++) {
		ks_check_ok(ks_engine_run(other, add_pair, NULL));
		ks_check_ok(ks_engine_run(e, add_pair, NULL));
	}
	ks_check(pair(e) > 20);
	ks_check_eq(pair(other), pair(e));
	ks_engine_close(other);
	ks_engine_close(e);
}

static int writer(int n)
{
	struct ks_engine *e = open_db(false, 0);
	uint64_t next = 0;
	int r = 0;

	for (int i = 0; i < n && r == 0; i++)
		r = ks_engine_run(e, write_much, &next);
	ks_engine_close(e);
	return r != 0;
}

/* Readers share a snapshot while there are many of them; the other process must still get its log copied. */
KS_TEST(a_storm_of_reads_does_not_hold_anothers_log)
{
	struct ks_engine *e;
	struct stat st;
	char wal[320];
	off_t most = 0;
	int status = 0;
	pid_t pid;

	make_db();
	pid = start(writer, 8000);
	e = open_db(false, 0);
	snprintf(wal, sizeof(wal), "%s-wal", path);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		for (int i = 0; i < 500; i++)
			ks_check(pair(e) >= 0);
		if (stat(wal, &st) == 0 && st.st_size > most)
			most = st.st_size;
	}
	ks_check_eq(status, 0);
	printf("# about 640 MiB written, the log was at most %lld MiB long\n",
	       (long long)(most >> 20));
	ks_check(most < (off_t)400 << 20);
	ks_engine_close(e);
}

/* ---- a full disk, a read-only disk: in a mount namespace of a child ---- */

static int private_tmpfs(const char *dir, const char *opts)
{
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -1;
	return mount("tmpfs", dir, "tmpfs", 0, opts);
}

#define NEED(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			printf("# %d: %s; %s\n", __LINE__, #x, ks_fail_text());                    \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static int fill_disk(int unused)
{
	struct ks_engine *e;
	char ballast[300];
	uint64_t next = 0;
	int r = 0, fd;

	(void)unused;
	if (private_tmpfs(ks_tap_dir(), "size=6m"))
		return 77;
	make_db();
	snprintf(ballast, sizeof(ballast), "%s/ballast", ks_tap_dir());
	fd = open(ballast, O_CREAT | O_WRONLY, 0600);
	NEED(fd >= 0 && posix_fallocate(fd, 0, 3 << 20) == 0);
	close(fd);
	e = open_db(false, 0);
	NEED(ks_engine_run(e, add_pair, NULL) == 0);
	ks_fail_quiet(true);
	for (int i = 0; i < 10000 && r == 0; i++)
		r = ks_engine_run(e, write_much, &next);
	NEED(r == -ENOSPC);
	NEED(strstr(ks_fail_hint_text(), "free space"));
	NEED(pair(e) == 1);
	NEED(unlink(ballast) == 0);
	for (int i = 0; i < 100; i++) {
		r = ks_engine_run(e, add_pair, NULL);
		NEED(r == 0);
	}
	NEED(pair(e) == 101);
	ks_engine_close(e);
	e = open_db(false, 0);
	NEED(pair(e) == 101);
	ks_engine_close(e);
	return 0;
}

static int read_only_disk(int unused)
{
	struct ks_engine_opts ro = { .readonly = true };
	struct ks_engine *e = NULL;

	(void)unused;
	if (private_tmpfs(ks_tap_dir(), "size=6m"))
		return 77;
	make_db();
	e = open_db(false, 0);
	NEED(ks_engine_run(e, add_pair, NULL) == 0);
	ks_engine_close(e);
	NEED(mount(NULL, ks_tap_dir(), NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	NEED(ks_engine_open(&e, url, &ro) == 0);
	NEED(pair(e) == 1);
	ks_fail_quiet(true);
	NEED(ks_engine_run(e, add_pair, NULL) == -EROFS);
	ks_engine_close(e);
	e = NULL;
	NEED(ks_engine_open(&e, url, NULL) == -EROFS);
	return 0;
}

static void in_namespace(int (*fn)(int))
{
	int status = end_of(start(fn, 0));

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		ks_skip("needs root");
	ks_check_eq(status, 0);
}

KS_TEST(a_full_disk_is_survived)
{
	/* The directory must be the parent's, or the child would make one of its own. */
	ks_tap_dir();
	in_namespace(fill_disk);
}

KS_TEST(a_read_only_disk_can_be_read)
{
	ks_tap_dir();
	in_namespace(read_only_disk);
}

/* ---- what is not ours, or not whole ---- */

static int open_result(bool create)
{
	struct ks_engine_opts o = { .create = create };
	struct ks_engine *e = NULL;
	bool quiet = ks_fail_quiet(true);
	int r = ks_engine_open(&e, url, &o);

	ks_fail_quiet(quiet);
	ks_engine_close(e);
	return r;
}

static void put_file(const char *text)
{
	FILE *f = fopen(path, "w");

	fresh(ks_tap_dir());
	if (f)
		fclose(f);
	f = fopen(path, "w");
	ks_check(f);
	fputs(text, f);
	fclose(f);
}

KS_TEST(strangers_are_recognised)
{
	static char text[5000];

	make_db();
	raw("PRAGMA user_version=2");
	ks_check_eq(open_result(false), -EPROTO);
	ks_check(strstr(ks_fail_text(), "version 2"));
	ks_check_eq(open_result(true), -EEXIST);
	raw("PRAGMA user_version=1");
	ks_check_eq(open_result(false), 0);
	raw("DROP VIEW inodes; ALTER TABLE inode DROP COLUMN size");
	ks_check_eq(open_result(false), -EBADMSG);

	make_db();
	raw("PRAGMA application_id=17");
	ks_check_eq(open_result(false), -EBADMSG);

	memset(text, 'x', sizeof(text) - 1);
	put_file(text);
	ks_check_eq(open_result(false), -EBADMSG);
	ks_check_eq(open_result(true), -EBADMSG);
	put_file("");
	ks_check_eq(open_result(false), -EBADMSG);
	ks_check_eq(open_result(true), 0);
	ks_check_eq(open_result(false), 0);

	fresh(ks_tap_dir());
	raw("CREATE TABLE somebody(x); INSERT INTO somebody VALUES(1)");
	ks_check_eq(open_result(true), -EBADMSG);
	ks_check_eq(open_result(false), -EBADMSG);
	snprintf(url, sizeof(url), "sqlite://%s/no/such/dir.db", ks_tap_dir());
	ks_check_eq(open_result(false), -ENOENT);
	ks_check_eq(open_result(true), -ENOENT);
}

static int scan_all(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	(void)arg;
	(void)rec;
	(void)inode;
	return 0;
}

/* Everything an engine can be asked; any error will do, a crash will not. */
static int use_damaged(int unused)
{
	struct ks_arena a = { 0 };
	struct ks_engine *e = NULL;
	uint64_t next = 0;

	(void)unused;
	alarm(60);
	ks_fail_quiet(true);
	if (ks_engine_open(&e, url, NULL) < 0)
		return 0;
	for (int t = 0; t < KS_T_COUNT; t++) {
		struct ks_scan s = { .table = (enum ks_table)t, .fn = scan_all };

		if (t == KS_T_DENTRY)
			s.flags = KS_READ_FOLLOW;
		KS_IGNORE(ks_engine_scan(e, &s, &a));
		s.reverse = true;
		KS_IGNORE(ks_engine_scan(e, &s, &a));
	}
	KS_IGNORE(ks_engine_run(e, add_pair, NULL));
	KS_IGNORE(ks_engine_run(e, write_much, &next));
	KS_IGNORE(pair(e));
	ks_arena_clear(&a);
	ks_engine_close(e);
	return 0;
}

static int populate(struct ks_txn *t, void *arg)
{
	(void)arg;
	for (uint64_t k = 1; k <= 150; k++) {
		struct ks_rec_inode i = { .ino = k, .size = k };
		struct ks_rec_dentry d = {
			.parent = 1, .hash = k * 999, .name = str("some name"), .ino = k
		};
		struct ks_rec_extent x = { .ino = k, .seq = 1, .slice = k };
		struct ks_rec_session s = { .id = k, .host = str("host"), .tool = str("tool") };

		ks_txn_put(t, KS_T_INODE, &i);
		ks_txn_put(t, KS_T_DENTRY, &d);
		ks_txn_put(t, KS_T_EXTENT, &x);
		ks_txn_put(t, KS_T_SESSION, &s);
	}
	return 0;
}

static void write_file(const char *name, const unsigned char *p, size_t n)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ks_check(fd >= 0);
	ks_check_eq(write(fd, p, n), n);
	close(fd);
}

KS_TEST(a_damaged_file_never_crashes)
{
	static unsigned char whole[1 << 20], copy[1 << 20];
	const char *times = getenv("KISEKI_TEST_ROUNDS");
	int rounds = times ? (int)strtol(times, NULL, 10) : 150;
	struct ks_engine *e;
	ssize_t n;
	int fd;

	make_db();
	e = open_db(false, 0);
	ks_check_ok(ks_engine_run(e, populate, NULL));
	ks_engine_close(e);
	fd = open(path, O_RDONLY);
	n = read(fd, whole, sizeof(whole));
	close(fd);
	ks_check(n > 8192 && n < (ssize_t)sizeof(whole));
	fresh(ks_tap_dir());
	for (int k = 0; k < rounds; k++) {
		uint64_t dice = ks_mix64((uint64_t)k + 1);
		char tail[320];
		int flips = k % 3 ? 1 : 8;

		memcpy(copy, whole, (size_t)n);
		for (int f = 0; f < flips; f++, dice = ks_mix64(dice + 7)) {
			/* Headers of pages, where the harm is, more often than their middle. */
			size_t at =
				dice % 2 ? dice / 2 % (size_t)n
					 : dice / 2 % ((size_t)n / 4096) * 4096 + dice / 4096 % 140;

			copy[at] = k % 2 ? (unsigned char)(copy[at] ^ (1u << dice / 7 % 8))
					 : (unsigned char)(dice / 9);
		}
		snprintf(tail, sizeof(tail), "%s-wal", path);
		unlink(tail);
		snprintf(tail, sizeof(tail), "%s-shm", path);
		unlink(tail);
		write_file(path, copy, k % 10 == 9 ? (size_t)n / 2 + (size_t)k : (size_t)n);
		ks_check_eq(end_of(start(use_damaged, 0)), 0);
	}
}

KS_TEST_MAIN()
