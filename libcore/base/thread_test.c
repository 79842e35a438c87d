/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/tap.h"
#include "base/thread.h"
#include <sched.h>
#include <signal.h>

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;

static void count_locked(int *n)
{
	KS_LOCKED(&mu);
	++*n;
}

KS_TEST(a_scope_lock_ends_with_its_scope)
{
	int n = 0;

	count_locked(&n);
	count_locked(&n);
	ks_check_eq(n, 2);
	ks_check_ok(pthread_mutex_trylock(&mu));
	ks_mutex_unlock(&mu);
}

KS_TEST(a_wait_ends_at_its_deadline)
{
	int64_t start = ks_clock_mono_ns();
	pthread_cond_t c;

	ks_check_ok(ks_cond_init(&c));
	ks_mutex_lock(&mu);
	ks_check_eq(ks_cond_wait(&c, &mu, start + 20 * KS_NS_PER_MS), -ETIMEDOUT);
	ks_check_eq(ks_cond_wait(&c, &mu, 0), -ETIMEDOUT);
	ks_mutex_unlock(&mu);
	ks_check(ks_clock_mono_ns() - start >= 20 * KS_NS_PER_MS);
	pthread_cond_destroy(&c);
}

static void *look_at_self(void *arg)
{
	bool *ok = arg;
	char name[16] = "";
	sigset_t set;

	sigemptyset(&set);
	/* The name is given by the starter, perhaps after this began. */
	for (int i = 0; i < 1000 && strcmp(name, "a-name-that-is-") != 0; i++) {
		pthread_getname_np(pthread_self(), name, sizeof(name));
		usleep(1000);
	}
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	*ok = strcmp(name, "a-name-that-is-") == 0 && sigismember(&set, SIGTERM) == 1 &&
	      sigismember(&set, SIGCHLD) == 1 && sigismember(&set, SIGSEGV) == 0;
	return NULL;
}

static void *look_at_cpus(void *arg)
{
	cpu_set_t *set = arg;

	ks_check_ok(sched_getaffinity(0, sizeof(set[0]), &set[0]));
	ks_thread_leave_cpu(sched_getcpu());
	ks_check_ok(sched_getaffinity(0, sizeof(set[1]), &set[1]));
	ks_thread_leave_cpu(-1);
	return NULL;
}

static void *bind_and_start(void *arg)
{
	cpu_set_t one;
	pthread_t t;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	ks_check_ok(sched_setaffinity(0, sizeof(one), &one));
	ks_check_ok(ks_thread_start(&t, "free", look_at_cpus, arg));
	pthread_join(t, NULL);
	return NULL;
}

KS_TEST(a_thread_that_is_bound_starts_others_that_are_not)
{
	cpu_set_t set[2], all, common;
	pthread_t t;

	ks_check_ok(sched_getaffinity(0, sizeof(all), &all));
	ks_check_ok(ks_thread_start(&t, "bound", bind_and_start, set));
	pthread_join(t, NULL);
	ks_check(CPU_EQUAL(&set[0], &all));
	/* It left the CPU it was on, if it could. */
	CPU_AND(&common, &set[1], &all);
	ks_check_eq(CPU_COUNT(&common), CPU_COUNT(&all) > 1 ? CPU_COUNT(&all) - 1 : 1);
}

KS_TEST(a_thread_is_named_and_takes_no_signals)
{
	bool ok = false;
	pthread_t t;
	sigset_t set;

	ks_check_ok(ks_thread_start(&t, "a-name-that-is-too-long", look_at_self, &ok));
	pthread_join(t, NULL);
	ks_check(ok);
	sigemptyset(&set);
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	ks_check_eq(sigismember(&set, SIGTERM), 0);
}

struct counted {
	struct ks_job job;
	int *n;
	struct ks_workers *again; /* queue once more there */
	pthread_t ran_on;
};

static void count(struct ks_job *job)
{
	struct counted *c = ks_container_of(job, struct counted, job);
	struct ks_workers *again = ks_steal(&c->again);

	c->ran_on = pthread_self();
	__atomic_fetch_add(c->n, 1, __ATOMIC_RELAXED);
	if (again)
		ks_workers_add(again, job);
}

KS_TEST(stopping_runs_what_is_queued)
{
	static struct counted jobs[2000];
	struct ks_workers *w = NULL;
	int n = 0;

	ks_check_ok(ks_workers_start(&w, "test", 4));
	for (size_t i = 0; i < KS_ARRAY_SIZE(jobs); i++) {
		jobs[i] = (struct counted){ .job.run = count, .n = &n, .again = i % 2 ? w : NULL };
		ks_workers_add(w, &jobs[i].job);
	}
	ks_workers_stop(w);
	ks_check_eq(n, 3000);
	for (size_t i = 0; i < KS_ARRAY_SIZE(jobs); i++)
		ks_check(!pthread_equal(jobs[i].ran_on, pthread_self()));
	ks_workers_stop(NULL);
}

KS_TEST(the_serial_twin_runs_jobs_in_the_caller)
{
	struct ks_workers *w = NULL;
	int n = 0;
	struct counted c = { .job.run = count, .n = &n };

	setenv("KISEKI_SERIAL", "1", 1);
	ks_check_ok(ks_workers_start(&w, "test", 4));
	unsetenv("KISEKI_SERIAL");
	ks_workers_add(w, &c.job);
	ks_check_eq(n, 1);
	ks_check(pthread_equal(c.ran_on, pthread_self()));
	ks_workers_stop(w);
}

KS_TEST_MAIN()
