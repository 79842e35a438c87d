/* SPDX-License-Identifier: Apache-2.0 */
/* engine_races.c: many threads on every engine: nothing is lost, nothing is seen half, no condition is overtaken. */
#include "engine_each.h"

#include "base/hash.h"
#include <stdatomic.h>

#define THREADS 8

static unsigned int rounds(void)
{
	const char *v = getenv("KISEKI_TEST_ROUNDS");

	return v ? (unsigned int)strtoul(v, NULL, 10) : 300;
}

static _Atomic bool stop;
static _Atomic int bad; /* what a thread found wrong */

static void race(void *(*fn)(void *), unsigned int threads)
{
	pthread_t t[THREADS];

	for (uintptr_t i = 0; i < threads; i++)
		pthread_create(&t[i], NULL, fn, (void *)i);
	for (unsigned int i = 0; i < threads; i++)
		pthread_join(t[i], NULL);
}

/* ---- lost updates ---- */

static int read_add_write(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter c = { .name = str("rmw") };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &c };
	int ret = ks_txn_read(t, &r, 1);

	(void)arg;
	if (ret < 0)
		return ret;
	c.value = r.found ? c.value + 1 : 1;
	ks_txn_put(t, KS_T_COUNTER, &c);
	return 0;
}

static int add(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter c = { .name = str("add") };
	struct ks_upd u = { offsetof(struct ks_rec_counter, value), KS_UPD_ADD, 1 };

	(void)arg;
	ks_txn_update(t, KS_T_COUNTER, &c, &u, 1);
	return 0;
}

static void *adders(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < rounds(); i++) {
		ks_check_ok(ks_engine_run(eng, read_add_write, NULL));
		ks_check_ok(ks_engine_run(eng, add, NULL));
	}
	return NULL;
}

CONFORMANCE(no_increment_is_lost)
{
	struct ks_rec_counter c[2] = { { .name = str("rmw") }, { .name = str("add") } };
	struct ks_read r[2] = { { .table = KS_T_COUNTER, .rec = &c[0] },
				{ .table = KS_T_COUNTER, .rec = &c[1] } };
	struct ks_engine_stats s;

	race(adders, THREADS);
	ks_check_ok(ks_engine_read(eng, r, 2, NULL));
	ks_check_eq(c[0].value, THREADS * rounds());
	ks_check_eq(c[1].value, THREADS * rounds());
	ks_engine_stats(eng, &s);
	printf("# %" PRIu64 " bodies, %" PRIu64 " again, %" PRIu64 " commits in %" PRIu64
	       " transactions\n",
	       s.bodies, s.retries, s.commits, s.batches);
	ks_check(s.bodies >= 2 * THREADS * rounds());
}

/* ---- rmdir beside create ---- */

enum { DIR_INO = 500 };

static int enter(struct ks_txn *t, void *arg)
{
	uint64_t k = *(uint64_t *)arg;
	struct ks_rec_inode dir = { .ino = DIR_INO };
	struct ks_rec_dentry d = { .parent = DIR_INO, .hash = 100 + k, .name = str("n"), .ino = k };
	struct ks_read r[2] = {
		{ .table = KS_T_INODE, .rec = &dir, .flags = KS_READ_WEAK },
		{ .table = KS_T_DENTRY, .rec = &d },
	};
	int ret = ks_txn_read(t, r, 2);

	if (ret < 0)
		return ret;
	if (!r[0].found)
		return -ENOENT;
	if (r[1].found) {
		ks_txn_del(t, KS_T_DENTRY, &d);
	} else {
		d.ino = k;
		ks_txn_insert(t, KS_T_DENTRY, &d);
	}
	return 0;
}

static int remove_dir(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode dir = { .ino = DIR_INO };
	struct ks_rec_dentry d = { .parent = DIR_INO };
	struct ks_read r = { .table = KS_T_INODE, .rec = &dir };
	int ret = ks_txn_read(t, &r, 1);

	(void)arg;
	if (ret < 0)
		return ret;
	if (r.found) {
		ks_txn_need_empty(t, KS_T_DENTRY, &d, 1);
		ks_txn_del(t, KS_T_INODE, &dir);
	} else {
		dir.nlink = 2;
		ks_txn_insert(t, KS_T_INODE, &dir);
	}
	return 0;
}

static int count_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	(void)rec;
	(void)inode;
	++*(unsigned int *)arg;
	return 0;
}

/* As a real rmdir: it looks whether the directory is empty, and says so. */
static int remove_if_empty(struct ks_txn *t, void *arg)
{
	struct ks_rec_dentry d = { .parent = DIR_INO };
	unsigned int n = 0;
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .from = &d,
			     .nprefix = 1,
			     .limit = 1,
			     .flags = KS_READ_WEAK,
			     .fn = count_one,
			     .arg = &n };
	int ret = ks_txn_scan(t, &s);

	if (ret < 0)
		return ret;
	return n ? -ENOTEMPTY : remove_dir(t, arg);
}

static void look_at_dir(void)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode dir = { .ino = DIR_INO };
	struct ks_rec_dentry d = { .parent = DIR_INO };
	unsigned int n = 0;
	struct ks_read r = { .table = KS_T_INODE, .rec = &dir };
	struct ks_scan s = {
		.table = KS_T_DENTRY, .from = &d, .nprefix = 1, .fn = count_one, .arg = &n
	};

	ks_check_ok(ks_engine_fetch(eng, &r, 1, &s, 1, &a));
	if (!r.found && n)
		atomic_fetch_add(&bad, 1);
	ks_arena_clear(&a);
}

static void *dir_worker(void *arg)
{
	uint64_t me = (uint64_t)(uintptr_t)arg, k = 0;
	int r;

	for (unsigned int i = 0; i < rounds() || me == 1; i++) {
		if (me == 0) {
			r = ks_engine_run(eng, remove_if_empty, NULL);
			ks_check(r == 0 || r == -ENOTEMPTY);
			look_at_dir();
		} else if (me == 1) {
			if (atomic_load(&stop))
				break;
			look_at_dir();
		} else {
			k = me * 2 + i % 2;
			r = ks_engine_run(eng, enter, &k);
			ks_check(r == 0 || r == -ENOENT);
		}
	}
	if (me == 0)
		atomic_store(&stop, true);
	return NULL;
}

CONFORMANCE(no_name_in_a_directory_that_is_gone)
{
	atomic_store(&stop, false);
	atomic_store(&bad, 0);
	ks_check_ok(ks_engine_run(eng, remove_dir, NULL));
	race(dir_worker, 4);
	ks_check_eq(atomic_load(&bad), 0);
}

/* ---- snapshots ---- */

static int write_pair(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter a = { .name = str("a") }, b = { .name = str("b") };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &a };
	int ret = ks_txn_read(t, &r, 1);

	(void)arg;
	if (ret < 0)
		return ret;
	b.value = a.value = r.found ? a.value + 1 : 1;
	/* Other writes between the two, so that a torn transaction would show. */
	ks_txn_put(t, KS_T_COUNTER, &a);
	for (uint64_t k = 0; k < 5; k++) {
		struct ks_rec_inode i = { .ino = 1000 + k, .size = (uint64_t)a.value };

		ks_txn_put(t, KS_T_INODE, &i);
	}
	ks_txn_put(t, KS_T_COUNTER, &b);
	return 0;
}

/* In two batches: a mix may be read, but then the body must run again. */
static int read_pair(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter a = { .name = str("a") }, b = { .name = str("b") };
	struct ks_read ra = { .table = KS_T_COUNTER, .rec = &a };
	struct ks_read rb = { .table = KS_T_COUNTER, .rec = &b };
	int ret = ks_txn_read(t, &ra, 1);

	if (ret == 0)
		ret = ks_txn_read(t, &rb, 1);
	if (ret < 0)
		return ret;
	*(int64_t *)arg = a.value - b.value;
	return a.value == b.value ? 0 : -ESTALE;
}

static int same_size(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_inode *i = rec;
	uint64_t *size = arg;

	(void)inode;
	if (*size != UINT64_MAX && *size != i->size)
		atomic_fetch_add(&bad, 1);
	*size = i->size;
	return 0;
}

static void *pair_worker(void *arg)
{
	uint64_t me = (uint64_t)(uintptr_t)arg;
	struct ks_arena arena = { 0 };
	int64_t diff = 0;

	if (me < 3) {
		for (unsigned int i = 0; i < rounds(); i++)
			ks_check_ok(ks_engine_run(eng, write_pair, NULL));
		atomic_store(&stop, true);
		return NULL;
	}
	while (!atomic_load(&stop)) {
		struct ks_rec_counter a = { .name = str("a") }, b = { .name = str("b") };
		uint64_t size = UINT64_MAX;
		struct ks_read r[2] = { { .table = KS_T_COUNTER, .rec = &a },
					{ .table = KS_T_COUNTER, .rec = &b } };
		struct ks_scan s = { .table = KS_T_INODE, .fn = same_size, .arg = &size };

		ks_check_ok(ks_engine_fetch(eng, r, 2, &s, 1, &arena));
		if (r[0].found != r[1].found || a.value != b.value ||
		    (r[0].found && size != (uint64_t)a.value))
			atomic_fetch_add(&bad, 1);
		ks_check_ok(ks_engine_run(eng, read_pair, &diff));
		ks_arena_reset(&arena);
	}
	ks_arena_clear(&arena);
	return NULL;
}

CONFORMANCE(readers_beside_writers_see_whole_transactions)
{
	atomic_store(&stop, false);
	atomic_store(&bad, 0);
	race(pair_worker, 6);
	ks_check_eq(atomic_load(&bad), 0);
}

/* ---- each id once; errors reach who caused them ---- */

struct claim_id {
	uint64_t id, owner;
};

static int claim_id(struct ks_txn *t, void *arg)
{
	struct claim_id *c = arg;
	struct ks_rec_inode i = { .ino = c->id };
	struct ks_read r = { .table = KS_T_INODE, .rec = &i, .flags = KS_READ_WEAK };
	int ret = ks_txn_read(t, &r, 1);

	if (ret < 0)
		return ret;
	if (r.found)
		return c->id % 7
			       ? -EEXIST
			       : ks_fail(-EBADMSG, "thread %d found %d", (int)c->owner, (int)c->id);
	i.size = c->owner;
	ks_txn_insert(t, KS_T_INODE, &i);
	return 0;
}

static _Atomic int wins;

static void *claimer(void *arg)
{
	struct claim_id c = { .owner = (uint64_t)(uintptr_t)arg };
	char want[64];

	ks_fail_quiet(true);
	for (c.id = 1; c.id <= rounds(); c.id++) {
		int r;

		ks_fail_clear();
		r = ks_engine_run(eng, claim_id, &c);
		snprintf(want, sizeof(want), "thread %d found %d: Bad message", (int)c.owner,
			 (int)c.id);
		if (r == 0)
			atomic_fetch_add(&wins, 1);
		else if (r == -EBADMSG)
			ks_check_str(ks_fail_text(), want);
		else
			ks_check_eq(r, -EEXIST);
	}
	return NULL;
}

CONFORMANCE(each_id_is_made_once_and_errors_reach_their_caller)
{
	atomic_store(&wins, 0);
	race(claimer, THREADS);
	ks_check_eq(atomic_load(&wins), rounds());
}

/* ---- durability is shared ---- */

static void *syncer(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++) {
		ks_check_ok(ks_engine_run(eng, add, NULL));
		ks_check_ok(ks_engine_sync(eng));
	}
	return NULL;
}

CONFORMANCE(many_may_sync_at_once)
{
	race(syncer, THREADS);
}

/* ---- a scan may read from its callback ---- */

static int nested(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	unsigned int *depth = arg, deeper = *depth + 1;
	struct ks_arena a = { 0 };
	struct ks_scan s = { .table = KS_T_INODE, .fn = nested, .arg = &deeper };

	(void)rec;
	(void)inode;
	if (deeper <= 2)
		ks_check_ok(ks_engine_scan(eng, &s, &a));
	ks_arena_clear(&a);
	return 0;
}

static void *nester(void *arg)
{
	struct ks_arena a = { 0 };
	unsigned int depth = 0;
	struct ks_scan s = { .table = KS_T_INODE, .fn = nested, .arg = &depth };

	(void)arg;
	ks_check_ok(ks_engine_scan(eng, &s, &a));
	ks_arena_clear(&a);
	return NULL;
}

CONFORMANCE(scans_nest)
{
	struct claim_id c = { .id = 1 };

	for (; c.id <= 3; c.id++)
		ks_check_ok(ks_engine_run(eng, claim_id, &c));
	race(nester, THREADS);
}

KS_TEST_MAIN()
