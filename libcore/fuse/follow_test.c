/* SPDX-License-Identifier: Apache-2.0 */
/* follow_test.c: this thread follows another one from CPU to CPU. With one CPU, that it stays. */
#include "base/tap.h"
#include "base/thread.h"
#include "fuse/follow.h"

#include <semaphore.h>
#include <unistd.h>

struct other {
	pthread_t thread;
	sem_t go, there;
	int cpu; /* where to; < 0: end */
	pid_t tid;
};

static void *run(void *arg)
{
	struct other *o = arg;
	cpu_set_t one;

	/* The name is the second field of what proc(5) says. */
	pthread_setname_np(pthread_self(), ") 1 (2) x");
	o->tid = gettid();
	sem_post(&o->there);
	for (;;) {
		while (sem_wait(&o->go) < 0)
			;
		if (o->cpu < 0)
			return NULL;
		CPU_ZERO(&one);
		CPU_SET((size_t)o->cpu, &one);
		ks_check_ok(sched_setaffinity(0, sizeof(one), &one));
		sem_post(&o->there);
	}
}

static void send_to(struct other *o, int cpu)
{
	o->cpu = cpu;
	sem_post(&o->go);
	while (cpu >= 0 && sem_wait(&o->there) < 0)
		;
}

static void start(struct other *o)
{
	sem_init(&o->go, 0, 0);
	sem_init(&o->there, 0, 0);
	ks_check_ok(ks_thread_start(&o->thread, "other", run, o));
	while (sem_wait(&o->there) < 0)
		;
}

static void end(struct other *o)
{
	send_to(o, -1);
	pthread_join(o->thread, NULL);
	sem_destroy(&o->go);
	sem_destroy(&o->there);
}

/* The two CPUs of the test; the same one twice where there is no other. */
static void two_cpus(const cpu_set_t *set, int cpu[2])
{
	int n = 0;

	for (int i = 0; i < CPU_SETSIZE && n < 2; i++)
		if (CPU_ISSET((size_t)i, set))
			cpu[n++] = i;
	if (n < 2)
		cpu[1] = cpu[0];
}

static bool only_on(int cpu)
{
	cpu_set_t set;

	ks_check_ok(sched_getaffinity(0, sizeof(set), &set));
	return CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cpu, &set) && sched_getcpu() == cpu;
}

KS_TEST(goes_where_the_other_is)
{
	struct ks_follow f = { 0 };
	struct other o = { 0 };
	cpu_set_t before, after;
	int cpu[2];

	ks_check_ok(sched_getaffinity(0, sizeof(before), &before));
	two_cpus(&before, cpu);
	start(&o);
	for (int i = 0; i < 4; i++) {
		send_to(&o, cpu[i % 2]);
		ks_follow(&f, o.tid);
		ks_check(only_on(cpu[i % 2]));
	}
	/* One that came at once is near, whatever proc(5) says. */
	ks_follow_answered(&f, o.tid);
	f.answered += 1000000000;
	send_to(&o, cpu[0]);
	ks_follow(&f, o.tid);
	ks_check(only_on(cpu[1]));
	/* What is only told says nothing. */
	f.answered = 0;
	ks_follow_answered(&f, 0);
	ks_check_eq(f.answered, 0);
	ks_follow(&f, 0);
	ks_check(only_on(cpu[1]));
	ks_follow(&f, o.tid);
	ks_check(only_on(cpu[0]));
	/* One that is here, but slow, is looked for less often. */
	for (int i = 0; i < 100; i++)
		ks_follow(&f, o.tid);
	ks_check(f.skipped > 0);
	ks_check(only_on(cpu[0]));
	ks_follow_end(&f);
	ks_follow_end(&f);
	ks_check_ok(sched_getaffinity(0, sizeof(after), &after));
	ks_check(CPU_EQUAL(&before, &after));
	end(&o);
	/* Nobody there. */
	ks_follow(&f, o.tid);
	ks_check(!f.bound);
}

/* Where the administrator does not want this program it does not go. */
KS_TEST(stays_where_it_may_be)
{
	struct ks_follow f = { 0 };
	struct other o = { 0 };
	cpu_set_t before, one;
	int cpu[2];

	ks_check_ok(sched_getaffinity(0, sizeof(before), &before));
	two_cpus(&before, cpu);
	start(&o);
	send_to(&o, cpu[1]);
	CPU_ZERO(&one);
	CPU_SET((size_t)cpu[0], &one);
	ks_check_ok(sched_setaffinity(0, sizeof(one), &one));
	ks_follow(&f, o.tid);
	ks_check(only_on(cpu[0]));
	ks_follow_end(&f);
	ks_check_ok(sched_setaffinity(0, sizeof(before), &before));
	end(&o);
}

KS_TEST_MAIN()
