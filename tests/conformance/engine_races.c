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

/* ---- what a commit depends on, one disturbance at a time ---- */

enum reading { PRESENT, ABSENT, NAME, NAMES, FIRST_NAME };
enum disturbance { CHANGE_INODE, MAKE_INODE, DROP_INODE, NAME_BEHIND, NAME_BEFORE, CHANGE_NAME };

static const struct scene {
	enum reading read;
	unsigned int flags;
	enum disturbance disturb;
	bool again; /* the body must run again on an engine that holds no lock */
} scenes[] = {
	{ PRESENT, 0, CHANGE_INODE, true },
	{ PRESENT, 0, DROP_INODE, true },
	{ PRESENT, 0, NAME_BEHIND, false },
	{ PRESENT, KS_READ_WEAK, CHANGE_INODE, false },
	{ PRESENT, KS_READ_WEAK, DROP_INODE, true },
	{ PRESENT, KS_READ_SNAPSHOT, DROP_INODE, false },
	{ ABSENT, 0, MAKE_INODE, true },
	{ ABSENT, KS_READ_WEAK, MAKE_INODE, true },
	{ NAME, 0, CHANGE_INODE, false },
	{ NAME, 0, CHANGE_NAME, true },
	{ NAME, KS_READ_FOLLOW, CHANGE_INODE, true },
	{ NAME, KS_READ_FOLLOW, DROP_INODE, true },
	{ NAME, KS_READ_FOLLOW | KS_READ_WEAK, CHANGE_INODE, false },
	{ NAMES, 0, NAME_BEHIND, true },
	{ NAMES, 0, NAME_BEFORE, true },
	{ NAMES, 0, CHANGE_NAME, true },
	{ NAMES, 0, CHANGE_INODE, false },
	{ NAMES, KS_READ_WEAK, CHANGE_NAME, false },
	{ NAMES, KS_READ_WEAK, NAME_BEHIND, true },
	{ NAMES, KS_READ_FOLLOW, CHANGE_INODE, true },
	{ NAMES, KS_READ_SNAPSHOT, NAME_BEFORE, false },
	{ FIRST_NAME, 0, NAME_BEHIND, false },
	{ FIRST_NAME, 0, NAME_BEFORE, true },
	{ FIRST_NAME, 0, CHANGE_NAME, true },
};

struct play {
	const struct scene *s;
	unsigned int runs;
	pthread_t thread;
	_Atomic bool disturbed;
	bool in_time;
};

static struct ks_rec_dentry name_at(uint64_t hash)
{
	return (struct ks_rec_dentry){ .parent = 70, .hash = hash, .name = str("n"), .ino = 71 };
}

static int disturb(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = 71, .size = 5 };
	struct ks_rec_dentry d = name_at(100);

	switch (*(const enum disturbance *)arg) {
	case CHANGE_INODE:
		ks_txn_put(t, KS_T_INODE, &i);
		break;
	case MAKE_INODE:
		i.ino = 72;
		ks_txn_insert(t, KS_T_INODE, &i);
		break;
	case DROP_INODE:
		ks_txn_del(t, KS_T_INODE, &i);
		break;
	case NAME_BEHIND:
		d.hash = 200;
		ks_txn_insert(t, KS_T_DENTRY, &d);
		break;
	case NAME_BEFORE:
		d.hash = 50;
		ks_txn_insert(t, KS_T_DENTRY, &d);
		break;
	case CHANGE_NAME:
		d.type = 4;
		ks_txn_put(t, KS_T_DENTRY, &d);
		break;
	}
	return 0;
}

static void *disturber(void *arg)
{
	struct play *p = arg;
	enum disturbance what = p->s->disturb;

	ks_check_ok(ks_engine_run(eng, disturb, &what));
	atomic_store(&p->disturbed, true);
	return NULL;
}

static int play_read(struct ks_txn *t, const struct scene *s)
{
	struct ks_rec_inode i = { .ino = s->read == ABSENT ? 72 : 71 }, to;
	struct ks_rec_dentry d = name_at(100);
	unsigned int n = 0;
	struct ks_read r = { .table = KS_T_INODE, .flags = s->flags, .rec = &i };
	struct ks_scan scan = { .table = KS_T_DENTRY,
				.flags = s->flags,
				.from = &d,
				.nprefix = 1,
				.limit = s->read == FIRST_NAME,
				.fn = count_one,
				.arg = &n };

	if (s->read >= NAMES)
		return ks_txn_scan(t, &scan);
	if (s->read == NAME)
		r = (struct ks_read){
			.table = KS_T_DENTRY, .flags = s->flags, .rec = &d, .inode = &to
		};
	return ks_txn_read(t, &r, 1);
}

/* On its first run it lets somebody else commit between its reading and its own commit; who holds the writer lets nobody. */
static int play_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter c = { .name = str("played"), .value = 1 };
	struct play *p = arg;
	int r = play_read(t, p->s);

	if (r < 0)
		return r;
	if (p->runs++ == 0) {
		pthread_create(&p->thread, NULL, disturber, p);
		for (int i = 0; i < 60 && !atomic_load(&p->disturbed); i++)
			usleep(1000);
		p->in_time = atomic_load(&p->disturbed);
	}
	ks_txn_put(t, KS_T_COUNTER, &c);
	return 0;
}

static int set_scene(struct ks_txn *t, void *arg)
{
	struct ks_rec_inode i = { .ino = 71 }, absent = { .ino = 72 };
	struct ks_rec_dentry d = name_at(100);

	(void)arg;
	ks_txn_put(t, KS_T_INODE, &i);
	ks_txn_del(t, KS_T_INODE, &absent);
	ks_txn_del_prefix(t, KS_T_DENTRY, &d, 1);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	return 0;
}

CONFORMANCE(a_commit_depends_on_what_was_read_and_no_more)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(scenes); i++) {
		struct play p = { .s = &scenes[i] };

		ks_check_ok(ks_engine_run(eng, set_scene, NULL));
		ks_check_ok(ks_engine_run(eng, play_body, &p));
		pthread_join(p.thread, NULL);
		if (p.runs != (p.in_time && p.s->again ? 2 : 1))
			printf("# scene %zu ran %u times\n", i, p.runs);
		ks_check_eq(p.runs, p.in_time && p.s->again ? 2 : 1);
	}
}

/* ---- durability is shared ---- */

static void *syncer(void *arg)
{
	(void)arg;
	for (int i = 0; i < 30; i++) {
		uint64_t begun = i % 3 ? ks_engine_sync_begin(eng) : 0;

		ks_check_ok(ks_engine_run(eng, add, NULL));
		/* Every third gives up, and begins anew. */
		if (i % 3 == 2)
			begun = ks_engine_sync_begin(eng);
		ks_check_ok(ks_engine_sync_end(eng, begun));
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
