/* SPDX-License-Identifier: Apache-2.0 */
/* thread.c: conditions, thread start, and the pool of workers with its serial twin. */
#include "base/thread.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int ks_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r == 0) {
		r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		if (r == 0)
			r = pthread_cond_init(c, &attr);
		pthread_condattr_destroy(&attr);
	}
	return -r;
}

int ks_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ns)
{
	struct timespec ts;
	int r;

	if (deadline_ns < 0) {
		r = pthread_cond_wait(c, m);
	} else {
		ts = ks_ns_to_ts(deadline_ns);
		r = pthread_cond_timedwait(c, m, &ts);
	}
	assert(r == 0 || r == ETIMEDOUT);
	return -r;
}

/* Where the process may run: its first thread is never bound. False: not known. */
static bool process_cpus(cpu_set_t *set)
{
	return sched_getaffinity(getpid(), sizeof(*set), set) == 0;
}

void ks_thread_leave_cpu(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE || !process_cpus(&set))
		return;
	CPU_CLR((size_t)cpu, &set);
	if (CPU_COUNT(&set) > 0)
		KS_IGNORE(sched_setaffinity(0, sizeof(set), &set) < 0);
}

void ks_thread_unbind(pid_t tid)
{
	cpu_set_t set;

	if (process_cpus(&set))
		KS_IGNORE(sched_setaffinity(tid, sizeof(set), &set) < 0);
}

/* A thread that is bound to a CPU, or gives way to others, may start one that is not and does not. */
static void as_the_process(pthread_attr_t *attr)
{
	cpu_set_t cpus, own;

	/* A set that is asked for stays when the process's is widened: only where it differs. */
	if (process_cpus(&cpus) && sched_getaffinity(0, sizeof(own), &own) == 0 &&
	    !CPU_EQUAL(&cpus, &own))
		KS_IGNORE(pthread_attr_setaffinity_np(attr, sizeof(cpus), &cpus) != 0);
	if (sched_getscheduler(0) == SCHED_IDLE && sched_getscheduler(getpid()) != SCHED_IDLE &&
	    pthread_attr_setschedpolicy(attr, SCHED_OTHER) == 0)
		KS_IGNORE(pthread_attr_setinheritsched(attr, PTHREAD_EXPLICIT_SCHED) != 0);
}

int ks_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg)
{
	static const int of_the_thread_itself[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	char short_name[16]; /* the kernel's limit */
	sigset_t block;
	sigset_t old;
	pthread_attr_t attr;
	pthread_t t;
	int r;

	r = pthread_attr_init(&attr);
	if (r != 0)
		return ks_fail(-r, "start thread '%s'", name);
	as_the_process(&attr);
	/* The new thread inherits the mask. A fault stays deliverable, or nobody could report it.
	 */
	sigfillset(&block);
	for (size_t i = 0; i < KS_ARRAY_SIZE(of_the_thread_itself); i++)
		sigdelset(&block, of_the_thread_itself[i]);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	r = pthread_create(&t, &attr, fn, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	if (r != 0)
		return ks_fail(-r, "start thread '%s'", name);
	snprintf(short_name, sizeof(short_name), "%.15s", name);
	/* A thread without its name works as well. */
	KS_IGNORE(pthread_setname_np(t, short_name));
	*out = t;
	return 0;
}

struct ks_workers {
	pthread_mutex_t mu;
	pthread_cond_t more;
	struct ks_job *first; /* [mu] */
	struct ks_job **last; /* [mu] where the next job is linked */
	bool stopping;        /* [mu] */
	bool serial;          /* no threads; constant */
	int n;                /* threads that run; constant once started */
	pthread_t threads[];
};

static void *worker(void *arg)
{
	struct ks_workers *w = arg;

	ks_mutex_lock(&w->mu);
	for (;;) {
		struct ks_job *job = w->first;

		if (job) {
			w->first = job->next;
			if (!w->first)
				w->last = &w->first;
			ks_mutex_unlock(&w->mu);
			/* The job may free itself: it is not looked at again. */
			job->run(job);
			ks_mutex_lock(&w->mu);
		} else if (w->stopping) {
			break;
		} else {
			ks_cond_wait(&w->more, &w->mu, -1);
		}
	}
	ks_mutex_unlock(&w->mu);
	return NULL;
}

int ks_workers_start(struct ks_workers **out, const char *name, int threads)
{
	const char *serial = secure_getenv("KISEKI_SERIAL");
	struct ks_workers *w;
	int r;

	assert(threads > 0);
	w = calloc(1, sizeof(*w) + (size_t)threads * sizeof(w->threads[0]));
	if (!w)
		return -ENOMEM;
	w->last = &w->first;
	w->serial = serial && strcmp(serial, "1") == 0;
	pthread_mutex_init(&w->mu, NULL); /* cannot fail on Linux */
	r = ks_cond_init(&w->more);
	if (r < 0) {
		pthread_mutex_destroy(&w->mu);
		free(w);
		return r;
	}
	for (int i = 0; !w->serial && i < threads; i++) {
		r = ks_thread_start(&w->threads[i], name, worker, w);
		if (r < 0) {
			ks_workers_stop(w);
			return r;
		}
		w->n++;
	}
	*out = w;
	return 0;
}

void ks_workers_add(struct ks_workers *w, struct ks_job *job)
{
	if (w->serial) {
		job->run(job);
		return;
	}
	KS_LOCKED(&w->mu);
	job->next = NULL;
	*w->last = job;
	w->last = &job->next;
	pthread_cond_signal(&w->more);
}

void ks_workers_stop(struct ks_workers *w)
{
	if (!w)
		return;
	ks_mutex_lock(&w->mu);
	w->stopping = true;
	pthread_cond_broadcast(&w->more);
	ks_mutex_unlock(&w->mu);
	for (int i = 0; i < w->n; i++)
		pthread_join(w->threads[i], NULL);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->mu);
	free(w);
}
