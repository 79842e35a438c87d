/* SPDX-License-Identifier: Apache-2.0 */
/* giveway_test.c: threads under SCHED_IDLE come back. Where the machine does not let them, that nobody goes there. */
#include "base/tap.h"
#include "base/thread.h"
#include "fuse/giveway.h"

#include <linux/fuse.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAUSE_TICKS ((int)(KS_GIVEWAY_PAUSE_NS / KS_GIVEWAY_TICK_NS))

static bool work; /* atomic: what waits() says */

static bool waits(void *arg)
{
	(void)arg;
	return __atomic_load_n(&work, __ATOMIC_RELAXED);
}

struct rig {
	struct ks_giveway g;
	struct ks_giver t;
};

/* False: it cannot be tested here. This thread is the one that gives way. */
static bool start(struct rig *r)
{
	work = false;
	ks_giveway_init(&r->g);
	ks_giveway_add(&r->g, &r->t, waits, NULL);
	ks_giveway_enter(&r->t);
	if (!ks_giveway_works(&r->g)) {
		/* Then it does nothing, whatever is called. */
		ks_check(!ks_giveway_begin(&r->g, &r->t));
		ks_giveway_end(&r->g, &r->t);
		ks_check(!ks_giveway_tick(&r->g));
		ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
		ks_giveway_destroy(&r->g);
		return false;
	}
	return true;
}

static void stop(struct rig *r)
{
	ks_giveway_end(&r->g, &r->t);
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	ks_giveway_destroy(&r->g);
}

KS_TEST(gives_way_and_comes_back)
{
	struct rig r;

	if (!start(&r))
		return;
	ks_check(!ks_giveway_tick(&r.g));
	for (int i = 0; i < 3; i++) {
		ks_check(ks_giveway_begin(&r.g, &r.t));
		ks_check(ks_giveway_begin(&r.g, &r.t));
		ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
		ks_check(ks_giveway_tick(&r.g));
		ks_giveway_end(&r.g, &r.t);
		ks_giveway_end(&r.g, &r.t);
		ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
		ks_check(!ks_giveway_tick(&r.g));
	}
	stop(&r);
}

/* The pause, after the tick that helped. */
static void pass_pause(struct rig *r)
{
	for (int i = 0; i < PAUSE_TICKS; i++) {
		ks_check(!ks_giveway_begin(&r->g, &r->t));
		ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
		ks_check(ks_giveway_tick(&r->g));
	}
	ks_check(ks_giveway_tick(&r->g));
	ks_check(ks_giveway_begin(&r->g, &r->t));
	ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
}

KS_TEST(one_that_does_not_get_on_is_helped)
{
	struct rig r;

	if (!start(&r))
		return;
	/* In the middle of a request. */
	ks_giveway_serve(&r.t);
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_check(ks_giveway_tick(&r.g));
	ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
	ks_check(ks_giveway_tick(&r.g));
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	pass_pause(&r);
	/* With a request before it that it does not see. */
	ks_giveway_done(&r.t);
	ks_check(ks_giveway_tick(&r.g));
	ks_check(ks_giveway_tick(&r.g));
	ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
	__atomic_store_n(&work, true, __ATOMIC_RELAXED);
	ks_check(ks_giveway_tick(&r.g));
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	pass_pause(&r);
	stop(&r);
}

KS_TEST(one_that_gets_on_is_left_alone)
{
	struct rig r;

	if (!start(&r))
		return;
	ks_check(ks_giveway_begin(&r.g, &r.t));
	__atomic_store_n(&work, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 100; i++) {
		ks_giveway_serve(&r.t);
		if (i % 2)
			ks_giveway_done(&r.t);
		ks_check(ks_giveway_tick(&r.g));
		ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
	}
	stop(&r);
}

KS_TEST(who_has_nothing_to_do_sleeps_as_himself)
{
	struct rig r;
	int ticks = 0;

	if (!start(&r))
		return;
	ks_check(ks_giveway_begin(&r.g, &r.t));
	while (ks_giveway_tick(&r.g))
		ticks++;
	ks_check(ticks > 10);
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	/* It was nobody's fault: at once again. */
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_check_eq(sched_getscheduler(0), SCHED_IDLE);
	stop(&r);
}

static void *be_stuck(void *arg)
{
	struct rig *r = arg;
	cpu_set_t one, now;

	ks_giveway_enter(&r->t);
	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	ks_check_ok(sched_setaffinity(0, sizeof(one), &one));
	ks_giveway_serve(&r->t);
	ks_check(ks_giveway_begin(&r->g, &r->t));
	ks_check(ks_giveway_tick(&r->g));
	ks_check(ks_giveway_tick(&r->g));
	ks_check_ok(sched_getaffinity(0, sizeof(now), &now));
	ks_check_eq(CPU_COUNT(&now), sysconf(_SC_NPROCESSORS_ONLN));
	ks_giveway_end(&r->g, &r->t);
	return NULL;
}

KS_TEST(one_that_roams_may_go_elsewhere)
{
	struct rig r;
	pthread_t thread;
	cpu_set_t all;

	ks_giveway_init(&r.g);
	ks_giveway_add_roaming(&r.g, &r.t, waits, NULL);
	ks_check_ok(sched_getaffinity(0, sizeof(all), &all));
	if (ks_giveway_works(&r.g) && CPU_COUNT(&all) == sysconf(_SC_NPROCESSORS_ONLN)) {
		ks_check_ok(ks_thread_start(&thread, "stuck", be_stuck, &r));
		pthread_join(thread, NULL);
	}
	ks_giveway_destroy(&r.g);
}

KS_TEST(who_has_left_is_not_looked_at)
{
	struct rig r;

	if (!start(&r))
		return;
	ks_giveway_serve(&r.t);
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_giveway_leave(&r.g, &r.t);
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	/* As one that was just helped. */
	ks_giveway_enter(&r.t);
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_giveway_tick(&r.g);
	ks_check(ks_giveway_tick(&r.g));
	ks_giveway_leave(&r.g, &r.t);
	ks_check(!ks_giveway_tick(&r.g));
	ks_giveway_destroy(&r.g);
}

KS_TEST(after_the_stop_nobody_gives_way)
{
	struct rig r;

	if (!start(&r))
		return;
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_giveway_stop(&r.g);
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	ks_giveway_end(&r.g, &r.t);
	ks_check(!ks_giveway_begin(&r.g, &r.t));
	ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
	stop(&r);
}

static void *own_policy(void *arg)
{
	*(int *)arg = sched_getscheduler(0);
	return NULL;
}

static void *give_way_and_start(void *arg)
{
	struct rig r;
	pthread_t thread;

	if (!start(&r))
		return NULL;
	ks_check(ks_giveway_begin(&r.g, &r.t));
	ks_check_ok(ks_thread_start(&thread, "started", own_policy, arg));
	pthread_join(thread, NULL);
	stop(&r);
	return NULL;
}

KS_TEST(who_is_started_by_one_that_gives_way_does_not)
{
	int policy = SCHED_OTHER;
	pthread_t thread;

	ks_check_ok(ks_thread_start(&thread, "gives", give_way_and_start, &policy));
	pthread_join(thread, NULL);
	ks_check_eq(policy, SCHED_OTHER);
}

KS_TEST(what_waits_is_not_served_while_giving_way)
{
	ks_check(ks_giveway_may(FUSE_LOOKUP));
	ks_check(ks_giveway_may(FUSE_READ));
	ks_check(ks_giveway_may(FUSE_RENAME2));
	ks_check(ks_giveway_may(FUSE_FLUSH));
	ks_check(!ks_giveway_may(FUSE_FSYNC));
	ks_check(!ks_giveway_may(FUSE_SETLKW));
	ks_check(!ks_giveway_may(1000));
}

static void *serve(void *arg)
{
	struct rig *r = arg;

	ks_giveway_enter(&r->t);
	for (int i = 0; i < 20000; i++) {
		ks_giveway_begin(&r->g, &r->t);
		ks_giveway_serve(&r->t);
		if (i % 3)
			ks_giveway_end(&r->g, &r->t);
		ks_giveway_done(&r->t);
	}
	ks_giveway_end(&r->g, &r->t);
	return (void *)(intptr_t)sched_getscheduler(0);
}

static void *tick(void *arg)
{
	struct rig *r = arg;

	while (!__atomic_load_n(&r->g.stopped, __ATOMIC_ACQUIRE))
		ks_giveway_tick(&r->g);
	return NULL;
}

/* Ticks without a pause between them find it in every state. */
KS_TEST(whatever_happens_it_ends_as_it_began)
{
	struct rig r;
	pthread_t threads[2];
	void *last;

	if (!start(&r))
		return;
	__atomic_store_n(&work, true, __ATOMIC_RELAXED);
	ks_check_ok(ks_thread_start(&threads[0], "tick", tick, &r));
	ks_check_ok(ks_thread_start(&threads[1], "serve", serve, &r));
	pthread_join(threads[1], &last);
	ks_check_eq((intptr_t)last, SCHED_OTHER);
	ks_giveway_stop(&r.g);
	pthread_join(threads[0], NULL);
	ks_giveway_enter(&r.t);
	stop(&r);
}

static bool count(void *arg)
{
	return __atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED) < 5;
}

static void await(const int *n, int least)
{
	for (int i = 0; i < 5000 && __atomic_load_n(n, __ATOMIC_RELAXED) < least; i++)
		usleep(1000);
	ks_check(__atomic_load_n(n, __ATOMIC_RELAXED) >= least);
}

/* The thread helps by itself, sleeps when there is nothing to watch, and is woken. */
KS_TEST(somebody_watches)
{
	struct rig r;
	int calls = 0, before, cpu = sched_getcpu();
	cpu_set_t its;
	bool works;

	ks_giveway_init(&r.g);
	ks_giveway_add(&r.g, &r.t, waits, NULL);
	ks_giveway_enter(&r.t);
	ks_check_ok(ks_giveway_start(&r.g, count, &calls));
	await(&calls, 5);
	while (!__atomic_load_n(&r.g.asleep, __ATOMIC_ACQUIRE))
		usleep(1000);
	before = __atomic_load_n(&calls, __ATOMIC_RELAXED);
	ks_giveway_wake(&r.g);
	await(&calls, before + 1);
	works = ks_giveway_works(&r.g);
	if (works) {
		ks_giveway_bound(&r.t, cpu);
		ks_giveway_serve(&r.t);
		ks_check(ks_giveway_begin(&r.g, &r.t));
		for (int i = 0; i < 5000 && sched_getscheduler(0) == SCHED_IDLE; i++)
			usleep(1000);
		ks_check_eq(sched_getscheduler(0), SCHED_OTHER);
		/* From another CPU than this one. */
		ks_check_ok(pthread_getaffinity_np(r.g.thread, sizeof(its), &its));
		ks_check(!CPU_ISSET((size_t)cpu, &its));
	}
	ks_giveway_stop(&r.g);
	ks_giveway_stop(&r.g);
	stop(&r);
}

/* The way back is closed to those without a privilege: nobody may take the one there. */
KS_TEST(without_the_privilege_nobody_gives_way)
{
	int status;
	pid_t pid = fork();

	ks_check(pid >= 0);
	if (pid == 0) {
		struct rlimit none = { 0 };
		struct ks_giveway g;

		if (setrlimit(RLIMIT_NICE, &none) < 0 || (getuid() == 0 && setuid(65534) < 0))
			_exit(2);
		ks_giveway_init(&g);
		_exit(ks_giveway_works(&g) || sched_getscheduler(0) != SCHED_OTHER);
	}
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check(WIFEXITED(status));
	ks_check_eq(WEXITSTATUS(status), 0);
}

KS_TEST_MAIN()
