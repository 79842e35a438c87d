/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_cache.c: the SQLite engine's cache of records is never stale, mixed or lost: beside other processes, between threads, when it is too
 * small, when a commit fails, and when a writer is killed. Also what the cache takes for granted of SQLite's WAL-index.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/tap.h"
#include "meta/engine.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define NEED(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			printf("# %d: %s; %s\n", __LINE__, #x, ks_fail_text());                    \
			fflush(stdout);                                                            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

static char path[300], url[320];

static unsigned int rounds(unsigned int dflt)
{
	const char *v = getenv("KISEKI_TEST_ROUNDS");

	return v ? (unsigned int)strtoul(v, NULL, 10) : dflt;
}

static struct ks_engine *open_with(bool create, uint64_t cache)
{
	struct ks_engine_opts o = { .create = create, .cache_bytes = cache };
	struct ks_engine *e = NULL;

	ks_check_ok(ks_engine_open(&e, url, &o));
	return e;
}

static void fresh(void)
{
	static int n;

	snprintf(path, sizeof(path), "%s/c%d.db", ks_tap_dir(), n++);
	snprintf(url, sizeof(url), "sqlite://%s", path);
	ks_engine_close(open_with(true, 0));
}

static pid_t start(int (*fn)(int, int, int), int a, int b, int c)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* Nobody waits for ever for one that has failed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		alarm(100);
		_exit(fn(a, b, c));
	}
	ks_check(pid > 0);
	return pid;
}

static int end_of(pid_t pid)
{
	int status = -1;

	ks_check_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void raw(const char *sql)
{
	sqlite3 *db = NULL;

	ks_check_eq(sqlite3_open(path, &db), SQLITE_OK);
	ks_check_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
}

static void stats(struct ks_engine *e, uint64_t *hits, uint64_t *misses)
{
	struct ks_engine_stats s;

	ks_engine_stats(e, &s);
	*hits = s.cache_hits;
	*misses = s.cache_misses;
}

/* ---- one state, k: a dentry of type k that leads to one of two inodes, whose size is k, and a third of size k ---- */

#define KEY ((struct ks_rec_dentry){ .parent = 1, .hash = 100, .name = { .p = "n", .n = 1 } })
#define THIRD 30

static int step(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode to = { 0 }, third = { .ino = THIRD };
	struct ks_rec_dentry d = KEY;
	struct ks_read r[2] = {
		{ .table = KS_T_DENTRY, .rec = &d, .inode = &to, .flags = KS_READ_FOLLOW },
		{ .table = KS_T_INODE, .rec = &third }
	};
	struct ks_upd u = { offsetof(struct ks_rec_inode, size), KS_UPD_ADD, 1 };
	int ret = ks_txn_read(t, r, 2);

	if (ret < 0)
		return ret;
	if (r[0].found != r[1].found ||
	    (r[0].found && (to.size != d.type || third.size != to.size)))
		return -EILSEQ;
	if (arg)
		*(uint64_t *)arg = third.size;
	d.type = r[0].found ? d.type + 1 : 1;
	d.ino = 10 + d.type % 2;
	if (d.type % 3 == 0)
		ks_txn_del(t, KS_T_DENTRY, &d);
	ks_txn_put(t, KS_T_DENTRY, &d);
	to = (struct ks_rec_inode){ .ino = d.ino, .size = d.type };
	ks_txn_put(t, KS_T_INODE, &to);
	if (r[1].found) {
		ks_txn_update(t, KS_T_INODE, &third, &u, 1);
	} else {
		third.size = 1;
		ks_txn_insert(t, KS_T_INODE, &third);
	}
	return 0;
}

/* The state, or -errno. */
static int64_t state(struct ks_engine *e)
{
	struct ks_rec_inode to = { 0 }, third = { .ino = THIRD };
	struct ks_rec_dentry d = KEY;
	struct ks_read r[2] = {
		{ .table = KS_T_DENTRY, .rec = &d, .inode = &to, .flags = KS_READ_FOLLOW },
		{ .table = KS_T_INODE, .rec = &third }
	};
	int ret = ks_engine_read(e, r, 2, NULL);

	if (ret < 0)
		return ret;
	if (!r[0].found && !r[1].found)
		return 0;
	if (!r[0].found || !r[1].found || to.ino != d.ino || to.size != d.type ||
	    third.size != d.type)
		return -EILSEQ;
	return d.type;
}

/* ---- what is taken for granted of SQLite ---- */

/* The WAL-index's header, read by another process: closing the file in this one would drop SQLite's locks. */
static int print_header(int fd, int b, int c)
{
	char name[320], head[48];
	int shm;

	(void)b;
	(void)c;
	snprintf(name, sizeof(name), "%s-shm", path);
	shm = open(name, O_RDONLY);
	return pread(shm, head, sizeof(head), 0) != (ssize_t)sizeof(head) ||
	       write(fd, head, sizeof(head)) != (ssize_t)sizeof(head);
}

struct header {
	uint32_t version, unused, change, init, frames, pages, sums[2], salts[2], own[2];
};

static struct header header(void)
{
	struct header h = { 0 };
	int p[2];

	ks_check_eq(pipe(p), 0);
	ks_check_eq(end_of(start(print_header, p[1], 0, 0)), 0);
	ks_check_eq(read(p[0], &h, sizeof(h)), sizeof(h));
	close(p[0]);
	close(p[1]);
	return h;
}

static int abort_it(struct ks_txn *t, void *arg)
{
	int r = step(t, arg);

	return r < 0 ? r : -ECANCELED;
}

static int refused(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = THIRD, .size = 77 }, other = { .ino = 31, .size = 9 };
	struct ks_read r = { .table = KS_T_INODE, .rec = &i };
	int ret = ks_txn_read(t, &r, 1);

	if (ret < 0 || ++*(int *)arg > 2)
		return ret < 0 ? ret : -ECANCELED;
	i.size = 78;
	ks_txn_put(t, KS_T_INODE, &other);
	ks_txn_put(t, KS_T_INODE, &i);
	ks_txn_insert(t, KS_T_INODE, &i); /* is there: everything is rolled back */
	return 0;
}

KS_TEST(the_header_names_the_state)
{
	struct ks_engine *e;
	struct header a, b;
	int tries = 0;

	fresh();
	e = open_with(false, 0);
	ks_check_ok(ks_engine_run(e, step, NULL));
	a = header();
	for (uint32_t i = 1; i <= 50; i++) {
		ks_check_ok(ks_engine_run(e, step, NULL));
		b = header();
		ks_check_eq(b.change, a.change + i);
		ks_check(b.salts[0] != a.salts[0] || b.frames > a.frames);
	}
	ks_check_eq(ks_engine_run(e, abort_it, NULL), -ECANCELED);
	ks_check_eq(ks_engine_run(e, refused, &tries), -ECANCELED);
	ks_check_eq(header().change, b.change);
	ks_check_eq(state(e), 51);
	raw("PRAGMA wal_checkpoint(PASSIVE)");
	/* The engine keeps a snapshot for a second after the last of many transactions. */
	raw("PRAGMA busy_timeout=20000;PRAGMA wal_checkpoint(RESTART)");
	a = header();
	ks_check_eq(a.change, b.change);
	ks_check_eq(a.frames, b.frames);
	ks_check_eq(a.salts[1], b.salts[1]);
	raw("BEGIN IMMEDIATE; DELETE FROM inode; ROLLBACK");
	raw("BEGIN IMMEDIATE; COMMIT");
	ks_check_eq(memcmp(&b, &a, sizeof(a)), 0);
	/* The log starts over with the next commit. */
	ks_check_ok(ks_engine_run(e, step, NULL));
	b = header();
	ks_check_eq(b.change, a.change + 1);
	ks_check(b.salts[0] != a.salts[0]);
	raw("PRAGMA wal_checkpoint(TRUNCATE)");
	a = header();
	ks_check_eq(b.change, a.change);
	ks_check(b.salts[0] != a.salts[0] && a.frames == 0);
	ks_check_eq(state(e), 52);
	ks_check_eq(state(e), 52);
	ks_engine_close(e);
}

static int ballast(struct ks_txn *t, void *arg)
{
	static const char value[3000];
	int r = step(t, arg);

	for (uint64_t i = 0; i < 10; i++) {
		struct ks_rec_xattr x = { .ino = i, .name = { "x", 1 }, .value = { value, 3000 } };

		ks_txn_put(t, KS_T_XATTR, &x);
	}
	return r;
}

KS_TEST(own_commits_empty_nothing)
{
	struct ks_engine *e;
	uint64_t hits, misses, h, m;

	fresh();
	e = open_with(false, 0);
	ks_check_ok(ks_engine_run(e, step, NULL));
	ks_check_ok(ks_engine_run(e, step, NULL));
	ks_check_eq(state(e), 2);
	stats(e, &hits, &misses);
	for (int i = 3; i < 3000; i++) {
		ks_check_ok(ks_engine_run(e, i % 4 ? step : ballast, NULL));
		ks_check_eq(state(e), i);
		if (i % 500 == 0)
			raw("PRAGMA wal_checkpoint(RESTART)");
	}
	stats(e, &h, &m);
	ks_check_eq(m, misses);
	ks_check_eq(h, hits + 4 * 2997);
	ks_engine_close(e);
}

/* ---- several processes ---- */

static int alternate(int in, int out, int n)
{
	struct ks_engine *e = open_with(false, 0);
	uint32_t turn, seen;

	while (read(in, &turn, sizeof(turn)) == (ssize_t)sizeof(turn)) {
		uint64_t k = 0;

		for (int i = 0; i < 3; i++)
			NEED(state(e) == (int64_t)turn);
		/* Every way in and out of a transaction. */
		if (turn % 5 == 0)
			NEED(ks_engine_run(e, abort_it, NULL) == -ECANCELED);
		if (turn % 7 == 0)
			NEED(state(e) == (int64_t)turn);
		NEED(ks_engine_run(e, turn % 11 ? step : ballast, &k) == 0);
		NEED(k == turn);
		if (turn % 3 == 0)
			NEED(state(e) == (int64_t)turn + 1);
		turn++;
		if (turn % 400 == 0)
			raw(turn % 800 ? "PRAGMA wal_checkpoint(TRUNCATE)"
				       : "PRAGMA wal_checkpoint(RESTART)");
		seen = turn;
		NEED(write(out, &seen, sizeof(seen)) == (ssize_t)sizeof(seen));
		if (turn >= (uint32_t)n)
			break;
	}
	ks_engine_close(e);
	return 0;
}

KS_TEST(two_processes_see_each_others_commits_at_once)
{
	int ab[2], ba[2], n = (int)rounds(4000);
	uint32_t turn = 0;
	pid_t a, b;

	fresh();
	ks_check(pipe2(ab, O_CLOEXEC) == 0 && pipe2(ba, O_CLOEXEC) == 0);
	ks_check_eq(write(ba[1], &turn, sizeof(turn)), sizeof(turn));
	a = start(alternate, ba[0], ab[1], n);
	b = start(alternate, ab[0], ba[1], n + 1);
	close(ab[0]);
	close(ab[1]);
	close(ba[0]);
	close(ba[1]);
	ks_check_eq(end_of(a), 0);
	ks_check_eq(end_of(b), 0);
}

static int stepper(int n, int reads, int cached)
{
	struct ks_engine *e = open_with(false, cached ? 0 : KS_NO_CACHE);
	int64_t last = 0, now;

	for (int i = 0; i < n; i++) {
		uint64_t k = 0;

		for (int j = 0; j < reads; j++) {
			now = state(e);
			NEED(now >= last);
			last = now;
		}
		NEED(ks_engine_run(e, step, &k) == 0);
		NEED((int64_t)k >= last);
		last = (int64_t)k + 1;
	}
	ks_engine_close(e);
	return 0;
}

KS_TEST(processes_increment_together)
{
	int n = (int)rounds(1500);
	struct ks_engine *e;
	pid_t pid[3];

	fresh();
	for (int i = 0; i < 3; i++)
		pid[i] = start(stepper, n, 3 + i, i < 2);
	for (int i = 0; i < 3; i++)
		ks_check_eq(end_of(pid[i]), 0);
	e = open_with(false, 0);
	ks_check_eq(state(e), 3 * n);
	ks_engine_close(e);
}

KS_TEST(killed_writers_leave_the_cache_right)
{
	struct ks_engine *e, *plain;
	int64_t last = 0, now;

#ifdef __SANITIZE_THREAD__
	ks_skip("the thread sanitizer does not follow a fork() beside threads");
#endif
	fresh();
	e = open_with(false, 0);
	plain = open_with(false, KS_NO_CACHE);
	for (int round = 0; round < 30; round++) {
		pid_t a = start(stepper, 1 << 30, 0, 1), b = start(stepper, 1 << 30, 1, 1);
		int64_t until = ks_clock_mono_ns() + 5 * KS_NS_PER_MS +
				(int64_t)(ks_mix64((uint64_t)round) % 20000000);

		while (ks_clock_mono_ns() < until) {
			now = state(e);
			ks_check(now >= last);
			last = now;
			if (now % 16 == 0)
				ks_check_ok(ks_engine_run(e, step, NULL));
		}
		kill(a, SIGKILL);
		kill(b, SIGKILL);
		end_of(a);
		end_of(b);
		now = state(plain);
		ks_check(now >= last);
		ks_check_eq(state(e), now);
		ks_check_eq(state(e), now);
		last = now;
	}
	ks_engine_close(plain);
	ks_engine_close(e);
}

/* ---- threads ---- */

static struct ks_engine *shared;
static _Atomic bool stop;

static void *watch(void *arg)
{
	int64_t last = 0, now;

	(void)arg;
	while (!atomic_load(&stop)) {
		now = state(shared);
		ks_check(now >= last);
		if (now < last)
			break;
		last = now;
	}
	return NULL;
}

static void *write_steps(void *arg)
{
	uint64_t k = 0, last = 0;

	(void)arg;
	for (unsigned int i = 0; i < rounds(3000); i++) {
		int r = ks_engine_run(shared, i % 50 ? step : ballast, &k);

		ks_check_ok(r);
		if (r)
			break;
		ks_check(k >= last);
		last = k + 1;
		ks_check(state(shared) >= (int64_t)last);
		if (i % 64 == 0)
			ks_check_eq(ks_engine_run(shared, abort_it, NULL), -ECANCELED);
	}
	return NULL;
}

static void race(bool foreign)
{
	pthread_t readers[3], writers[3];
	int64_t want = 3 * rounds(3000);
	pid_t pid = 0;

	fresh();
	if (foreign)
		pid = start(stepper, (int)rounds(1000), 2, 1);
	shared = open_with(false, 0);
	atomic_store(&stop, false);
	for (int i = 0; i < 3; i++) {
		pthread_create(&readers[i], NULL, watch, NULL);
		pthread_create(&writers[i], NULL, write_steps, NULL);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(writers[i], NULL);
	if (foreign) {
		ks_check_eq(end_of(pid), 0);
		want += rounds(1000);
	}
	atomic_store(&stop, true);
	for (int i = 0; i < 3; i++)
		pthread_join(readers[i], NULL);
	ks_check_eq(state(shared), want);
	ks_engine_close(shared);
}

KS_TEST(threads_never_go_back_nor_mix_states)
{
	race(false);
}

KS_TEST(threads_beside_another_process)
{
	race(true);
}

/* ---- against the same database without a cache ---- */

#define INOS 300
#define NAMES 40

static uint64_t first_dir = 1; /* of the three that names are in */

static struct ks_rec_dentry name_of(uint64_t dice, char *buf)
{
	uint64_t k = dice % NAMES;
	size_t n = 1 + k * 254 / (NAMES - 1);

	memset(buf, 'a' + (int)(k % 26), n);
	return (struct ks_rec_dentry){ .parent = first_dir + k % 3,
				       .hash = 16 + k / 2,
				       .name = { buf, n },
				       .ino = 1 + dice / NAMES % INOS,
				       .type = (uint32_t)(dice >> 40) };
}

static void change_inode(struct ks_txn *t, uint64_t dice)
{
	struct ks_rec_inode i = { .ino = 1 + dice % INOS, .size = dice >> 20, .mode = 0644 };
	struct ks_upd u[3] = {
		{ offsetof(struct ks_rec_inode, nlink), KS_UPD_ADD, (int64_t)(dice >> 9 & 7) - 4 },
		{ offsetof(struct ks_rec_inode, mtime_ns), KS_UPD_MAX, (int64_t)(dice >> 30) },
		{ offsetof(struct ks_rec_inode, used), dice >> 12 & 1 ? KS_UPD_SET : KS_UPD_ADD,
		  (int64_t)(dice >> 50) },
	};
	struct ks_read r = { .table = KS_T_INODE, .rec = &i };

	switch (dice >> 16 & 7) {
	case 0:
		ks_txn_del(t, KS_T_INODE, &i);
		break;
	case 1:
		ks_txn_del_prefix(t, KS_T_INODE, &i, dice % 97 ? 1 : 0);
		break;
	case 2:
	case 3:
		ks_txn_put(t, KS_T_INODE, &i);
		break;
	default:
		if (ks_txn_read(t, &r, 1) == 0 && r.found)
			ks_txn_update(t, KS_T_INODE, &i, u, 3);
		else
			ks_txn_insert(t, KS_T_INODE, &i);
	}
}

static int change(struct ks_txn *t, void *arg)
{
	uint64_t dice = *(const uint64_t *)arg;
	char buf[256];

	for (int i = 0; i < 1 + (int)(dice >> 60); i++) {
		struct ks_rec_dentry d = name_of(dice, buf);
		struct ks_upd u = { offsetof(struct ks_rec_dentry, ino), KS_UPD_SET, 5 };
		struct ks_read r = { .table = KS_T_DENTRY, .rec = &d };

		/* A second change of one inode would have to know of the first. */
		if (i == 0)
			change_inode(t, dice);
		if (dice % 5 == 0)
			ks_txn_del(t, KS_T_DENTRY, &d);
		else if (dice % 41 == 1)
			ks_txn_del_prefix(t, KS_T_DENTRY, &d, 1 + dice % 2);
		else if (i == 0 && dice % 7 == 2 && ks_txn_read(t, &r, 1) == 0 && r.found)
			ks_txn_update(t, KS_T_DENTRY, &d, &u, 1);
		else
			ks_txn_put(t, KS_T_DENTRY, &d);
		dice = ks_mix64(dice);
	}
	return *(const uint64_t *)arg % 13 ? 0 : -ECANCELED;
}

/* Three directories that were not there, the names of one of them first. */
static int make_dirs(struct ks_txn *t, void *arg)
{
	char buf[256];

	for (uint64_t k = 0; k < 9; k++) {
		struct ks_rec_dentry d = name_of(*(const uint64_t *)arg + k, buf);

		ks_txn_put(t, KS_T_DENTRY, &d);
	}
	for (uint64_t k = 0; k < 3; k++) {
		struct ks_rec_inode i = { .ino = first_dir + k, .mode = S_IFDIR | 0755 };

		ks_txn_insert(t, KS_T_INODE, &i);
	}
	return 0;
}

static bool compare(struct ks_engine *a, struct ks_engine *b, uint64_t dice)
{
	char buf[256];
	struct ks_rec_inode i[2] = { { .ino = 1 + dice % INOS }, { .ino = 1 + dice % INOS } };
	struct ks_rec_inode to[2] = { { 0 }, { 0 } };
	struct ks_rec_dentry d[2] = { name_of(dice, buf), name_of(dice, buf) };

	for (int k = 0; k < 2; k++) {
		struct ks_read r[2] = { { .table = KS_T_INODE, .rec = &i[k] },
					{ .table = KS_T_DENTRY,
					  .rec = &d[k],
					  .inode = &to[k],
					  .flags = KS_READ_FOLLOW } };

		d[k].ino = d[k].type = 0;
		if (ks_engine_read(k ? b : a, r, 2, NULL) < 0)
			return false;
	}
	return memcmp(&i[0], &i[1], sizeof(i[0])) == 0 &&
	       memcmp(&to[0], &to[1], sizeof(to[0])) == 0 && d[0].ino == d[1].ino &&
	       d[0].type == d[1].type;
}

/* @dirs: names lie in directories that are made meanwhile, and known as a whole. */
static void against_plain(uint64_t cache, bool dirs)
{
	struct ks_engine_opts ro = { .readonly = true };
	struct ks_engine *e, *plain, *reader = NULL;
	uint64_t dice = 1;

	fresh();
	e = open_with(false, cache);
	plain = open_with(false, KS_NO_CACHE);
	ks_check_ok(ks_engine_open(&reader, url, &ro));
	for (unsigned int i = 0; i < rounds(6000); i++) {
		int r = ks_engine_run(i % 100 == 99 ? plain : e, change, &dice);

		ks_check(r == 0 || r == -ECANCELED);
		if (dirs && i % 150 == 0) {
			first_dir = 1000 + 3 * i;
			ks_check_ok(ks_engine_run(e, make_dirs, &dice));
		}
		for (int k = 0; k < 4; k++) {
			ks_check(compare(e, plain, ks_mix64(dice + (uint64_t)k)));
			ks_check(compare(reader, plain, ks_mix64(dice + (uint64_t)k % 2)));
		}
		dice = ks_mix64(dice + 77);
	}
	ks_engine_close(reader);
	ks_engine_close(plain);
	ks_engine_close(e);
	first_dir = 1;
}

KS_TEST(it_answers_as_the_database)
{
	against_plain(0, false);
	against_plain(0, true);
}

KS_TEST(a_small_cache_answers_as_the_database)
{
	against_plain(96 * 1024, false);
	against_plain(96 * 1024, true);
	against_plain(1, false);
	against_plain(1, true);
}

/* What a new directory does not have costs no question, until one of its names had to be given up. */
KS_TEST(a_new_directory_is_known_as_a_whole)
{
	char buf[256];
	uint64_t dice = 0, hits, misses, h, m;
	struct ks_engine *e;
	struct ks_rec_dentry d;
	struct ks_read r = { .table = KS_T_DENTRY, .rec = &d };

	fresh();
	e = open_with(false, 0);
	ks_check_ok(ks_engine_run(e, step, NULL));
	ks_check_ok(ks_engine_run(e, step, NULL));
	first_dir = 1000;
	ks_check_ok(ks_engine_run(e, make_dirs, &dice));
	stats(e, &hits, &misses);
	for (uint64_t k = 0; k < NAMES; k++) {
		d = name_of(k, buf);
		ks_check_ok(ks_engine_read(e, &r, 1, NULL));
		ks_check_eq(r.found, k < 9);
	}
	stats(e, &h, &m);
	ks_check_eq(m, misses);
	ks_check_eq(h, hits + NAMES);
	/* Another process makes a name. */
	raw("INSERT INTO dentry(parent, hash, name, ino, type) VALUES(1000, 1, x'666f726569676e', "
	    "7, 8)");
	d = (struct ks_rec_dentry){ .parent = 1000, .hash = 1, .name = { "foreign", 7 } };
	ks_check_ok(ks_engine_read(e, &r, 1, NULL));
	ks_check(r.found);
	ks_engine_close(e);
	first_dir = 1;
}

static int make_many_dirs(struct ks_txn *t, void *arg)
{
	for (int k = 0; k < 64; k++) {
		struct ks_rec_inode i = { .ino = (*(uint64_t *)arg)++, .mode = S_IFDIR | 0755 };

		ks_txn_insert(t, KS_T_INODE, &i);
	}
	return 0;
}

/* More directories are made than can be known; those that are asked about go last. */
KS_TEST(a_directory_in_use_stays_known)
{
	uint64_t dice = 0, ino = 5000, hits, misses, h, m;
	struct ks_engine *e;
	char buf[256];

	fresh();
	e = open_with(false, 0);
	ks_check_ok(ks_engine_run(e, step, NULL));
	first_dir = 1000;
	ks_check_ok(ks_engine_run(e, make_dirs, &dice));
	stats(e, &hits, &misses);
	for (int i = 0; i < 300; i++) {
		struct ks_rec_dentry d = name_of(20, buf);
		struct ks_read r = { .table = KS_T_DENTRY, .rec = &d };

		ks_check_ok(ks_engine_read(e, &r, 1, NULL));
		ks_check(!r.found);
		ks_check_ok(ks_engine_run(e, make_many_dirs, &ino));
	}
	stats(e, &h, &m);
	ks_check_eq(m, misses);
	ks_check_eq(h, hits + 300);
	ks_engine_close(e);
	first_dir = 1;
}

/* ---- counters ---- */

#define COUNTERS 11 /* more than are kept */

struct counting {
	int64_t value[COUNTERS]; /* 0: it is not there */
	uint64_t dice;
	unsigned int tries;
};

/* Reads a few, as they are to be, and changes two; or fails after it has. */
static int count(struct ks_txn *t, void *arg)
{
	static const int width[COUNTERS] = { [3] = 15, [4] = 16, [5] = 30 };
	struct counting *c = arg;
	char name[COUNTERS][48];

	for (uint64_t k = 0; k < 4; k++) {
		uint64_t at = (c->dice >> (8 * k)) % COUNTERS;
		struct ks_rec_counter rec = { 0 };
		struct ks_read r = { .table = KS_T_COUNTER, .rec = &rec };
		struct ks_upd add = { offsetof(struct ks_rec_counter, value), KS_UPD_ADD, 1 };

		/* The longest name that is kept, one that is not, and one that others begin with. */
		snprintf(name[at], sizeof(name[at]), "counter-%0*d", width[at], (int)at);
		rec.name = (struct ks_bytes){ name[at], at ? strlen(name[at]) : 8 };
		if (ks_txn_read(t, &r, 1) < 0)
			return -EIO;
		if ((r.found ? rec.value : 0) != c->value[at])
			return -EILSEQ;
		if (k < 2)
			continue;
		rec.value = 0;
		if (c->tries == 0)
			c->value[at]++;
		if (c->dice >> 60 & 1)
			ks_txn_update(t, KS_T_COUNTER, &rec, &add, 1);
		rec.value = c->value[at];
		if (!(c->dice >> 60 & 1))
			ks_txn_put(t, KS_T_COUNTER, &rec);
	}
	return 0;
}

/* Written, applied and rolled back: the insert is refused after the counters. */
static int count_in_vain(struct ks_txn *t, void *arg)
{
	struct counting c = *(struct counting *)arg;
	struct ks_rec_inode i = { .ino = THIRD };
	int r = count(t, &c);

	if (r < 0 || ((struct counting *)arg)->tries++ > 0)
		return r < 0 ? r : -ECANCELED;
	ks_txn_insert(t, KS_T_INODE, &i);
	return 0;
}

KS_TEST(counters_are_those_of_the_database)
{
	struct counting c = { .dice = 1 };
	struct ks_engine *e[2];
	int r;

	fresh();
	e[0] = open_with(false, 0);
	e[1] = open_with(false, 0);
	ks_check_ok(ks_engine_run(e[0], step, NULL));
	for (unsigned int i = 0; i < rounds(6000); i++) {
		c.dice = ks_mix64(c.dice + i);
		c.tries = 0;
		if ((c.dice >> 16) % COUNTERS == (c.dice >> 24) % COUNTERS)
			continue;
		if (c.dice >> 61 & 1) {
			r = ks_engine_run(e[c.dice >> 52 & 1], count_in_vain, &c);
			ks_check_eq(r, -ECANCELED);
		} else {
			ks_check_ok(ks_engine_run(e[i / 40 % 2], count, &c));
		}
	}
	ks_engine_close(e[0]);
	ks_engine_close(e[1]);
}

static int count_one(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter c = { .name = { "one", 3 } };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &c };
	int ret = ks_txn_read(t, &r, 1);

	(void)arg;
	if (ret < 0)
		return ret;
	c.value = r.found ? c.value + 1 : 1;
	ks_txn_put(t, KS_T_COUNTER, &c);
	return 0;
}

static int count_one_in_vain(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = THIRD };
	int r = count_one(t, arg);

	if (r < 0 || ++*(int *)arg > 1)
		return r < 0 ? r : -ECANCELED;
	ks_txn_insert(t, KS_T_INODE, &i);
	return 0;
}

static void *count_ones(void *arg)
{
	for (unsigned int i = 0; i < rounds(4000); i++) {
		int tries = 0;

		if (arg)
			ks_check_eq(ks_engine_run(shared, count_one_in_vain, &tries), -ECANCELED);
		else
			ks_check_ok(ks_engine_run(shared, count_one, NULL));
	}
	return NULL;
}

/* What one body of a transaction wrote and the next one read, is rolled back with the third. */
KS_TEST(counters_are_right_after_a_transaction_of_many_has_failed)
{
	struct ks_rec_counter c = { .name = { "one", 3 } };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &c };
	pthread_t t[3];

	fresh();
	shared = open_with(false, 0);
	ks_check_ok(ks_engine_run(shared, step, NULL));
	for (int i = 0; i < 3; i++)
		pthread_create(&t[i], NULL, count_ones, i == 2 ? &t : NULL);
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
	ks_check_ok(ks_engine_read(shared, &r, 1, NULL));
	ks_check_eq(c.value, 2 * rounds(4000));
	ks_engine_close(shared);
}

/* ---- a full disk ---- */

static int fill_disk(int a, int b, int c)
{
	struct ks_engine *e, *plain;
	char big[300];
	int64_t now;
	int fd, r;

	(void)a;
	(void)b;
	(void)c;
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", ks_tap_dir(), "tmpfs", 0, "size=6m"))
		return 77;
	fresh();
	e = open_with(false, 0);
	plain = open_with(false, KS_NO_CACHE);
	snprintf(big, sizeof(big), "%s/big", ks_tap_dir());
	for (int round = 0; round < 20; round++) {
		fd = open(big, O_CREAT | O_WRONLY, 0600);
		for (off_t at = 0; posix_fallocate(fd, at, 4096) == 0; at += 4096)
			;
		close(fd);
		r = 0;
		ks_fail_quiet(true);
		for (int i = 0; i < 3000 && r == 0; i++) {
			now = state(e);
			r = ks_engine_run(e, ballast, NULL);
			NEED(r == 0 ? state(e) == now + 1 : state(e) == now);
		}
		NEED(r == -ENOSPC);
		NEED(state(plain) == state(e));
		NEED(unlink(big) == 0);
		now = state(e);
		NEED(ks_engine_run(e, step, NULL) == 0);
		NEED(state(e) == now + 1 && state(plain) == now + 1);
	}
	ks_engine_close(plain);
	ks_engine_close(e);
	return 0;
}

KS_TEST(a_failed_commit_leaves_it_right)
{
	int status;

	ks_tap_dir();
	status = end_of(start(fill_disk, 0, 0, 0));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		ks_skip("needs root");
	ks_check_eq(status, 0);
}

KS_TEST_MAIN()
