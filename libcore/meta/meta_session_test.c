/* SPDX-License-Identifier: Apache-2.0 */
/* meta_session_test.c: who may free what, and when: claims, epochs, dead sessions, locks. */
#include "meta/meta_testlib.h"

#include <signal.h>
#include <sys/wait.h>

/* What one process has open. */
struct opener {
	_Atomic uint64_t ino[8];
	_Atomic unsigned int forgotten;
	_Atomic bool nomem; /* for what each_open collects */
};

static bool opener_is_open(void *arg, ks_ino_t ino)
{
	struct opener *o = arg;

	for (size_t i = 0; i < KS_ARRAY_SIZE(o->ino); i++) {
		if (atomic_load(&o->ino[i]) == ino)
			return true;
	}
	return false;
}

static int opener_each(void *arg, void (*fn)(void *fn_arg, ks_ino_t ino), void *fn_arg)
{
	struct opener *o = arg;

	if (atomic_load(&o->nomem))
		return -ENOMEM;
	for (size_t i = 0; i < KS_ARRAY_SIZE(o->ino); i++) {
		uint64_t ino = atomic_load(&o->ino[i]);

		if (ino)
			fn(fn_arg, ino);
	}
	return 0;
}

static int opener_forget(void *arg)
{
	struct opener *o = arg;

	atomic_fetch_add(&o->forgotten, 1);
	return 0;
}

static struct ks_meta_opts opener_opts(struct opener *o)
{
	return (struct ks_meta_opts){ .hooks = { .is_open = opener_is_open,
						 .each_open = opener_each,
						 .forget_maps = opener_forget,
						 .arg = o } };
}

static bool exists(struct ks_meta *m, uint64_t ino)
{
	struct ks_attr a;
	int r = ks_meta_getattr(m, ino, &a);

	ks_check(r == 0 || r == -ENOENT);
	return r == 0;
}

/* Several rounds of both sessions' heartbeats, beyond what their threads do. */
static void rounds(struct ks_meta *a, struct ks_meta *b)
{
	for (int i = 0; i < 4; i++) {
		ks_check_ok(ks_meta_tick(a, 0));
		if (b)
			ks_check_ok(ks_meta_tick(b, 0));
	}
}

static void start(struct ks_meta *m)
{
	ks_check_ok(ks_meta_session_start(m, KS_SESSION_MOUNT, "test", "/mnt/x", "/run/x.sock"));
}

ON_BOTH(own_open_files_stay)
{
	struct opener o = { .forgotten = 0 };
	struct ks_meta_opts opts = opener_opts(&o);
	struct ks_meta *m = NULL;
	struct vol w = *v;
	uint64_t f, g;

	ks_check_ok(ks_meta_open(&m, v->url, &opts));
	w.m = m;
	start(m);
	f = mkfile(&w, ROOT, "f");
	g = mkfile(&w, ROOT, "g");
	put_slice(&w, f, 0, 5000, 0);
	put_slice(&w, g, 0, 5000, 0);
	atomic_store(&o.ino[0], f);
	ks_check_ok(ks_meta_unlink(m, ROOT, "f", NULL));
	ks_check_ok(ks_meta_unlink(m, ROOT, "g", NULL));
	ks_check_eq(count_rows(v, KS_T_CLAIM), 1);
	rounds(m, NULL);
	ks_check(exists(m, f));
	ks_check(!exists(m, g));
	put_slice(&w, f, 100, 5000, 0);
	/* Another tool on the volume does not free it either. */
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check(exists(m, f));
	atomic_store(&o.ino[0], 0);
	ks_check_ok(ks_meta_release(m, f));
	rounds(m, NULL);
	ks_check(!exists(m, f));
	ks_check_eq(ks_meta_claim(m, f), -ENOENT);
	ks_check_eq(count_rows(v, KS_T_CLAIM), 0);
	ks_check_eq(count_rows(v, KS_T_DELETED), 0);
	ks_meta_close(m);
	ks_check_eq(count_rows(v, KS_T_SESSION), 0);
}

/* Who cannot say what it has open enters no epoch. */
ON_BOTH(without_memory_open_files_stay)
{
	struct opener ob = { .nomem = true };
	struct ks_meta_opts opb = opener_opts(&ob);
	struct ks_meta *a = NULL, *b = NULL;
	struct vol va = *v;
	uint64_t f;

	ks_check_ok(ks_meta_open(&a, v->url, NULL));
	ks_check_ok(ks_meta_open(&b, v->url, &opb));
	va.m = a;
	start(a);
	start(b);
	f = mkfile(&va, ROOT, "f");
	atomic_store(&ob.ino[0], f);
	ks_check_ok(ks_meta_unlink(a, ROOT, "f", NULL));
	for (int i = 0; i < 4; i++) {
		ks_check_ok(ks_meta_tick(a, 0));
		ks_check_eq(ks_meta_tick(b, 0), -ENOMEM);
	}
	ks_check(exists(a, f));
	atomic_store(&ob.nomem, false);
	rounds(a, b);
	ks_check(exists(a, f));
	ks_check_eq(count_rows(v, KS_T_CLAIM), 1);
	atomic_store(&ob.ino[0], 0);
	ks_check_ok(ks_meta_release(b, f));
	rounds(a, b);
	ks_check(!exists(a, f));
	ks_meta_close(b);
	ks_meta_close(a);
}

ON_BOTH(another_sessions_open_files_stay)
{
	struct opener oa = { .forgotten = 0 }, ob = { .forgotten = 0 };
	struct ks_meta_opts opa = opener_opts(&oa), opb = opener_opts(&ob);
	struct ks_meta *a = NULL, *b = NULL;
	struct vol va = *v;
	struct ks_free_item item;
	unsigned int forgotten;
	uint64_t f, g, slice;

	ks_check_ok(ks_meta_open(&a, v->url, &opa));
	ks_check_ok(ks_meta_open(&b, v->url, &opb));
	va.m = a;
	start(a);
	start(b);
	f = mkfile(&va, ROOT, "f");
	g = mkfile(&va, ROOT, "g");
	slice = put_slice(&va, f, 0, 5000, 0);
	put_slice(&va, g, 0, 5000, 0);
	atomic_store(&ob.ino[3], f);
	forgotten = atomic_load(&ob.forgotten);
	ks_check_ok(ks_meta_unlink(a, ROOT, "f", NULL));
	ks_check_ok(ks_meta_unlink(a, ROOT, "g", NULL));
	rounds(a, b);
	ks_check(exists(a, f));
	ks_check(!exists(a, g));
	ks_check(atomic_load(&ob.forgotten) > forgotten);
	/* A slice that b's old map may name waits for b's heartbeat. */
	put_slice(&va, f, 0, 5000, 0);
	rounds(a, b);
	ks_check(ks_meta_free_list(a, NULL, &item, 1) == 1);
	(void)slice;
	atomic_store(&ob.ino[3], 0);
	ks_check_ok(ks_meta_release(b, f));
	rounds(a, b);
	ks_check(!exists(a, f));
	ks_meta_close(b);
	ks_meta_close(a);
}

/* Without its thread a session passes no epoch, and then nothing of others is freed. */
ON_BOTH(a_session_that_does_not_pass_holds_everything)
{
	struct opener oa = { .forgotten = 0 };
	struct ks_meta_opts opa = opener_opts(&oa);
	struct ks_meta *a = NULL, *b = NULL;
	struct vol va = *v;
	struct ks_free_item items[4];
	uint64_t f, g;

	ks_check_ok(ks_meta_open(&a, v->url, &opa));
	ks_check_ok(ks_meta_open(&b, v->url, NULL));
	va.m = a;
	start(a);
	start(b);
	/* b's heartbeat stops. */
	ks_mutex_lock(&b->mu);
	b->stop = true;
	pthread_cond_broadcast(&b->cond);
	ks_mutex_unlock(&b->mu);
	pthread_join(b->thread, NULL);
	b->thread_on = false;
	f = mkfile(&va, ROOT, "f");
	g = mkfile(&va, ROOT, "g");
	put_slice(&va, f, 0, 5000, 0);
	put_slice(&va, g, 0, 5000, 0);
	set_size(&va, g, 0);
	ks_check_ok(ks_meta_unlink(a, ROOT, "f", NULL));
	rounds(a, NULL);
	ks_check(exists(a, f));
	ks_check_eq(ks_meta_free_list(a, NULL, items, 4), 0);
	ks_check_ok(ks_meta_tick(b, 0));
	rounds(a, NULL);
	rounds(b, NULL);
	rounds(a, NULL);
	ks_check(!exists(a, f));
	rounds(b, a);
	ks_check_eq(ks_meta_free_list(a, NULL, items, 4), 2);
	ks_meta_close(b);
	ks_meta_close(a);
}

ON_BOTH(alone_an_unused_file_goes_at_once)
{
	struct opener o = { .forgotten = 0 };
	struct ks_meta_opts opts = opener_opts(&o);
	struct ks_meta *m = NULL, *other = NULL;
	struct vol w = *v;
	uint64_t f;

	ks_check_ok(ks_meta_open(&m, v->url, &opts));
	w.m = m;
	start(m);
	f = mkfile(&w, ROOT, "f");
	ks_check_ok(ks_meta_unlink(m, ROOT, "f", NULL));
	ks_check(!exists(m, f));
	/* Not when somebody else has come. */
	ks_check_ok(ks_meta_open(&other, v->url, NULL));
	start(other);
	f = mkfile(&w, ROOT, "f");
	ks_check_ok(ks_meta_unlink(m, ROOT, "f", NULL));
	ks_check_eq(count_rows(v, KS_T_INODE), 2);
	ks_meta_session_stop(other);
	rounds(m, NULL);
	ks_check(!exists(m, f));
	f = mkfile(&w, ROOT, "f");
	ks_check_ok(ks_meta_unlink(m, ROOT, "f", NULL));
	ks_check(!exists(m, f));
	ks_meta_close(other);
	ks_meta_close(m);
}

ON_BOTH(tmpfiles_live_with_their_session)
{
	struct ks_meta *m = NULL;
	struct ks_attr t, u;

	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	start(m);
	ks_check_ok(ks_meta_mktmp(m, &cred, ROOT, 0600, &t));
	ks_check_ok(ks_meta_mktmp(m, &cred, ROOT, 0600, &u));
	rounds(m, v->m);
	ks_check(exists(m, t.ino));
	/* Only who made it gives it a name. */
	ks_check_ok(ks_meta_link(m, t.ino, ROOT, "t", &t));
	ks_check_eq(count_rows(v, KS_T_CLAIM), 1);
	ks_meta_session_stop(m);
	rounds(v->m, NULL);
	ks_check(exists(m, t.ino));
	ks_check(!exists(m, u.ino));
	ks_meta_close(m);
}

struct seen {
	int n, dead;
	struct ks_session_info last;
};

static int session_one(void *arg, const struct ks_session_info *s)
{
	struct seen *l = arg;

	l->n++;
	l->dead += s->dead;
	l->last = *s;
	return 0;
}

ON_BOTH(sessions_are_listed)
{
	struct seen l = { 0 };
	struct ks_meta *m = NULL;

	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	ks_check_eq(ks_meta_session_id(m), 0);
	start(m);
	ks_check_ok(ks_meta_sessions(v->m, session_one, &l));
	ks_check_eq(l.n, 1);
	ks_check_eq(l.dead, 0);
	ks_check_eq(l.last.id, ks_meta_session_id(m));
	ks_check_eq(l.last.pid, getpid());
	ks_check_eq(l.last.kind, KS_SESSION_MOUNT);
	ks_check_str(l.last.tool, "test");
	ks_check_str(l.last.mountpoint, "/mnt/x");
	ks_check_str(l.last.socket, "/run/x.sock");
	ks_check(l.last.start_ns > 0);
	ks_meta_close(m);
	l.n = 0;
	ks_check_ok(ks_meta_sessions(v->m, session_one, &l));
	ks_check_eq(l.n, 0);
}

#define TOGETHER 16
#define NUMBERS 512

struct beginner {
	pthread_t t;
	struct ks_meta *m;
	bool seen[NUMBERS]; /* when this one was there */
};

static pthread_barrier_t together;

static int see_one(void *arg, const struct ks_session_info *s)
{
	bool *seen = arg;

	ks_check(s->id < NUMBERS);
	seen[s->id] = true;
	return 0;
}

static void *begin(void *arg)
{
	struct beginner *b = arg;

	pthread_barrier_wait(&together);
	start(b->m);
	ks_check_ok(ks_meta_sessions(b->m, see_one, b->seen));
	return NULL;
}

/* What has a lower number than another session, and is not there, will not come. */
ON_BOTH(sessions_appear_in_the_order_of_their_numbers)
{
	struct beginner b[TOGETHER] = { { .m = NULL } };
	bool all[NUMBERS] = { false };

	ks_check_eq(pthread_barrier_init(&together, NULL, TOGETHER), 0);
	for (int i = 0; i < TOGETHER; i++)
		ks_check_ok(ks_meta_open(&b[i].m, v->url, NULL));
	for (int i = 0; i < TOGETHER; i++)
		ks_check_ok(ks_thread_start(&b[i].t, "begin", begin, &b[i]));
	for (int i = 0; i < TOGETHER; i++)
		pthread_join(b[i].t, NULL);
	ks_check_ok(ks_meta_sessions(v->m, see_one, all));
	for (int i = 0; i < TOGETHER; i++) {
		for (uint64_t id = 0; id < ks_meta_session_id(b[i].m); id++)
			ks_check(b[i].seen[id] || !all[id]);
	}
	for (int i = 0; i < TOGETHER; i++)
		ks_meta_close(b[i].m);
	pthread_barrier_destroy(&together);
}

ON_BOTH(an_idle_volume_is_left_alone)
{
	struct ks_engine_stats before, after;
	struct ks_meta *m = NULL;

	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	start(m);
	rounds(m, NULL);
	ks_engine_stats(ks_meta_engine(m), &before);
	rounds(m, NULL);
	ks_engine_stats(ks_meta_engine(m), &after);
	ks_check_eq(after.commits - before.commits, 0);
	ks_meta_close(m);
}

/* The child has a file open that it has unlinked, and is killed. */
static void die_with_open_file(const char *url, int ready)
{
	struct opener o = { .forgotten = 0 };
	struct ks_meta_opts opts = opener_opts(&o);
	struct ks_meta *m = NULL;
	struct vol w = { 0 };

	if (ks_meta_open(&m, url, &opts) < 0 ||
	    ks_meta_session_start(m, KS_SESSION_TOOL, "victim", "", "") < 0)
		_exit(1);
	w.m = m;
	atomic_store(&o.ino[0], mkfile(&w, ROOT, "f"));
	put_slice(&w, atomic_load(&o.ino[0]), 0, 5000, 0);
	if (ks_meta_unlink(m, ROOT, "f", NULL) < 0 || write(ready, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

KS_TEST(a_killed_process_is_cleaned_up)
{
	struct vol v = { 0 };
	struct seen l = { 0 };
	int fds[2], status;
	char c;
	pid_t pid;

	vol_make(&v, true, NULL);
	ks_meta_close(v.m); /* no database is carried through fork() */
	ks_check_ok(pipe(fds));
	pid = fork();
	if (pid == 0)
		die_with_open_file(v.url, fds[1]);
	ks_check(pid > 0);
	ks_check_eq(read(fds[0], &c, 1), 1);
	ks_check_ok(ks_meta_open(&v.m, v.url, NULL));
	ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_eq(count_rows(&v, KS_T_CLAIM), 1);
	ks_check_eq(count_rows(&v, KS_T_INODE), 2);
	ks_check_ok(ks_meta_sessions(v.m, session_one, &l));
	ks_check_eq(l.n, 1);
	ks_check_eq(l.dead, 0);
	ks_check_eq(l.last.pid, pid);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	l = (struct seen){ 0 };
	ks_check_ok(ks_meta_sessions(v.m, session_one, &l));
	ks_check_eq(l.dead, 1);
	ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_eq(count_rows(&v, KS_T_SESSION), 0);
	ks_check_eq(count_rows(&v, KS_T_CLAIM), 0);
	ks_check_eq(count_rows(&v, KS_T_INODE), 1);
	ks_check_eq(count_rows(&v, KS_T_SLICE), 0);
	vol_audit(&v);
	ks_meta_close(v.m);
	close(fds[0]);
	close(fds[1]);
}

static int bury_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_session s = { .id = *(uint64_t *)arg };

	ks_txn_del(t, KS_T_SESSION, &s);
	return 0;
}

/* Blocks that it has stored may be gone. */
ON_BOTH(who_was_declared_dead_changes_nothing_any_more)
{
	struct ks_meta *m = NULL;
	bool quiet = ks_fail_quiet(true);
	struct ks_attr a;
	uint64_t id;

	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	start(m);
	ks_check_ok(ks_meta_tick(m, 0));
	id = ks_meta_session_id(m);
	ks_check_ok(ks_engine_run(ks_meta_engine(v->m), bury_body, &id));
	ks_check_eq(ks_meta_tick(m, 0), -EIO);
	ks_check_eq(ks_meta_mknod(m, &cred, ROOT, "f", S_IFREG | 0644, 0, NULL, &a), -EIO);
	ks_check(strstr(ks_fail_text(), "declared dead") != NULL);
	ks_check_ok(ks_meta_getattr(m, ROOT, &a));
	ks_meta_session_stop(m);
	/* Another session of the same process may. */
	start(m);
	ks_check_ok(ks_meta_mknod(m, &cred, ROOT, "f", S_IFREG | 0644, 0, NULL, &a));
	ks_meta_close(m);
	ks_check_eq(count_rows(v, KS_T_SESSION), 0);
	ks_fail_quiet(quiet);
}

KS_TEST(a_lock_file_that_was_deleted_kills_nobody)
{
	struct vol v = { 0 };
	struct seen l = { 0 };
	struct ks_meta *m = NULL;
	char path[600];

	vol_make(&v, true, NULL);
	ks_check_ok(ks_meta_open(&m, v.url, NULL));
	start(m);
	snprintf(path, sizeof(path), "%s/session-%ju", m->locks, (uintmax_t)ks_meta_session_id(m));
	ks_check_ok(unlink(path));
	ks_check_ok(ks_meta_sessions(v.m, session_one, &l));
	ks_check_eq(l.n, 1);
	ks_check_eq(l.dead, 0);
	ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_eq(count_rows(&v, KS_T_SESSION), 1);
	ks_meta_close(m);
	ks_check_eq(count_rows(&v, KS_T_SESSION), 0);
	ks_meta_close(v.m);
}

KS_TEST(the_volume_can_be_had_alone)
{
	struct ks_meta *b = NULL;
	struct vol v = { 0 };
	bool quiet = ks_fail_quiet(true);

	vol_make(&v, true, NULL);
	ks_check_ok(ks_meta_open(&b, v.url, NULL));
	ks_check_eq(ks_meta_lock_exclusive(v.m), -EBUSY);
	ks_meta_close(b);
	ks_check_ok(ks_meta_lock_exclusive(v.m));
	ks_check_eq(ks_meta_open(&b, v.url, NULL), -EBUSY);
	ks_meta_unlock_exclusive(v.m);
	ks_check_ok(ks_meta_open(&b, v.url, NULL));
	/* Reading only needs no lock. */
	ks_meta_close(b);
	ks_check_ok(ks_meta_lock_exclusive(v.m));
	ks_check_ok(ks_meta_open(&b, v.url, &(struct ks_meta_opts){ .readonly = true }));
	ks_check_ok(ks_meta_session_start(b, KS_SESSION_MOUNT, "ro", "", ""));
	ks_check_eq(ks_meta_session_id(b), 0);
	ks_check_eq(ks_meta_tick(b, 0), -EROFS);
	ks_meta_close(b);
	ks_meta_close(v.m);
	ks_fail_quiet(quiet);
}

/* A backlog: reaped in steps, one very large file among many. */
ON_BOTH(a_backlog_is_reaped)
{
	struct ks_meta *m = v->m;
	uint64_t big = mkfile(v, ROOT, "big");
	char name[32];

	for (uint64_t i = 0; i < 1200; i++)
		put_slice(v, big, i * 4096, 100, 1);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		put_slice(v, mkfile(v, ROOT, name), 0, 100, 0);
		ks_check_ok(ks_meta_unlink(m, ROOT, name, NULL));
	}
	ks_check_ok(ks_meta_unlink(m, ROOT, "big", NULL));
	ks_check_eq(count_rows(v, KS_T_DELETED), 301);
	ks_check_ok(ks_meta_tick(m, 0));
	ks_check_eq(count_rows(v, KS_T_DELETED), 0);
	ks_check_eq(count_rows(v, KS_T_EXTENT), 0);
	ks_check_eq(count_rows(v, KS_T_FREED), 1500);
}

/* What a copy of the volume is made from stays, whatever others delete. */
ON_BOTH(a_held_volume_keeps_its_objects)
{
	struct ks_meta *a = v->m, *b = NULL;
	uint64_t own = mkfile(v, ROOT, "own");
	uint64_t packed = mkfile(v, ROOT, "packed");
	struct ks_free_item items[4], one;
	uint64_t after = 0;
	bool dropped = true;

	put_slice(v, own, 0, 100, 0);
	put_slice(v, packed, 0, 100, 1);
	ks_check_ok(ks_meta_session_start(a, KS_SESSION_MOUNT, "a", "", ""));
	ks_check_ok(ks_meta_open(&b, v->url, NULL));
	ks_check_ok(ks_meta_session_start(b, KS_SESSION_TOOL, "b", "", ""));
	ks_check_ok(ks_meta_hold(b));
	ks_check_ok(ks_meta_unlink(a, ROOT, "own", NULL));
	ks_check_ok(ks_meta_unlink(a, ROOT, "packed", NULL));
	for (int i = 0; i < 6; i++) {
		ks_check_ok(ks_meta_tick(a, 0));
		ks_check_ok(ks_meta_tick(b, 0));
	}
	ks_check_eq(ks_meta_free_list(a, NULL, items, 4), 0);
	/* Also a pack in which nothing lives because all of it was moved. */
	ks_check_ok(ks_meta_pack_drop(a, 1, &dropped));
	ks_check(!dropped);
	ks_meta_close(b);
	for (int i = 0; i < 6; i++)
		ks_check_ok(ks_meta_tick(a, 0));
	ks_check_eq(ks_meta_free_list(a, NULL, items, 4), 2);
	/* One by one, each behind the one before. */
	ks_check_eq(ks_meta_free_list(a, &after, &one, 1), 1);
	ks_check_eq(one.slice, items[0].slice);
	ks_check_eq(after, one.slice);
	ks_check_eq(ks_meta_free_list(a, &after, &one, 1), 1);
	ks_check_eq(one.slice, items[1].slice);
	ks_check_eq(after, 0);
	ks_check_ok(ks_meta_free_done(a, items, 2));
	ks_check_eq(ks_meta_free_list(a, &after, &one, 1), 0);
	ks_check_ok(ks_meta_pack_drop(a, 1, &dropped));
	ks_check(dropped);
}

KS_TEST(a_held_pack_without_slices_is_not_dropped)
{
	struct vol v = { 0 };
	struct ks_meta *b = NULL;
	struct ks_slice_move mv = { .pack = 1, .to_pack = 2 };
	struct ks_slice_place at;
	bool dropped = true;

	vol_make(&v, true, NULL);
	mv.slice = put_slice(&v, mkfile(&v, ROOT, "f"), 0, 100, 1);
	ks_check_ok(ks_meta_pack_slices(v.m, &mv.slice, 1, &at));
	mv.off = mv.to_off = at.pack_off;
	ks_check_ok(ks_meta_open(&b, v.url, NULL));
	ks_check_ok(ks_meta_session_start(b, KS_SESSION_TOOL, "b", "", ""));
	ks_check_ok(ks_meta_hold(b));
	ks_check_ok(ks_meta_slices_move(v.m, &mv, 1));
	ks_check(mv.moved);
	ks_check_ok(ks_meta_pack_drop(v.m, 1, &dropped));
	ks_check(!dropped);
	ks_meta_close(b);
	ks_check_ok(ks_meta_pack_drop(v.m, 1, &dropped));
	ks_check(dropped);
	ks_meta_close(v.m);
}

KS_TEST(a_snapshot_does_not_move)
{
	struct vol v = { 0 };
	struct vol old = { 0 };
	struct ks_meta *none = NULL;
	bool quiet = ks_fail_quiet(true);
	struct ks_attr a;

	vol_make(&v, true, NULL);
	mkfile(&v, ROOT, "before");
	ks_check_ok(ks_meta_open(&old.m, v.url, &(struct ks_meta_opts){ .snapshot = true }));
	ks_check(ks_meta_is_readonly(old.m));
	for (int i = 0; i < 100; i++) {
		char name[32];

		snprintf(name, sizeof(name), "after%d", i);
		mkfile(&v, ROOT, name);
	}
	ks_check_ok(ks_meta_unlink(v.m, ROOT, "before", NULL));
	ks_check_eq(ks_meta_lookup(v.m, ROOT, "before", &a), -ENOENT);
	ks_check_ok(ks_meta_lookup(old.m, ROOT, "before", &a));
	ks_check_ok(ks_meta_getattr(old.m, a.ino, &a));
	ks_check_eq(ks_meta_lookup(old.m, ROOT, "after7", &a), -ENOENT);
	ks_check_eq(count_rows(&old, KS_T_DENTRY), 1);
	ks_check_eq(count_rows(&v, KS_T_DENTRY), 100);
	ks_meta_close(old.m);
	ks_meta_close(v.m);
	/* An engine that cannot says so. */
	vol_make(&v, false, NULL);
	ks_check_eq(ks_meta_open(&none, v.url, &(struct ks_meta_opts){ .snapshot = true }),
		    -ENOTSUP);
	ks_meta_close(v.m);
	ks_fail_quiet(quiet);
}

KS_TEST_MAIN()
