/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h: mutexes, conditions and threads. doc/locking.md has the one lock order. */
#ifndef KS_BASE_THREAD_H
#define KS_BASE_THREAD_H

#include "base/def.h"
#include <pthread.h>
#include <sys/types.h>

static inline void ks_mutex_lock(pthread_mutex_t *m)
{
	int r = pthread_mutex_lock(m);

	assert(r == 0);
	(void)r;
}

static inline void ks_mutex_unlock(pthread_mutex_t *m)
{
	int r = pthread_mutex_unlock(m);

	assert(r == 0);
	(void)r;
}

static inline void ks_unlockp(pthread_mutex_t **m)
{
	ks_mutex_unlock(*m);
}

/* Locks now, unlocks at scope end. */
#define KS_LOCKED(m)                                                                               \
	KS_AUTO(ks_unlockp)                                                                        \
	__attribute__((unused)) pthread_mutex_t *KS_CAT(ks_guard_, __LINE__) = (m);                \
	ks_mutex_lock(KS_CAT(ks_guard_, __LINE__))

/* A condition that waits on the monotonic clock. */
int ks_cond_init(pthread_cond_t *c) KS_MUST_CHECK;
/* @deadline_ns on ks_clock_mono_ns(); < 0 waits for ever. 0, or -ETIMEDOUT. Needs m. */
int ks_cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t deadline_ns);

/*
 * ks_thread_start() - the only way to start a thread: all signals blocked, named, joinable, on any CPU the process may run on.
 * Never before daemonising: threads do not survive fork().
 */
int ks_thread_start(pthread_t *out, const char *name, void *(*fn)(void *), void *arg) KS_MUST_CHECK;

/* The calling thread goes on on other CPUs than this one, if there are any: somebody waits for what is done there. */
void ks_thread_leave_cpu(int cpu);
/* Another thread of this process may run wherever the process may. */
void ks_thread_unbind(pid_t tid);

/*
 * A fixed pool of workers over a queue. Jobs are embedded in the caller's objects.
 * KISEKI_SERIAL=1 in the environment makes ks_workers_add() run the job in the calling thread (replay of tests).
 */
struct ks_job {
	void (*run)(struct ks_job *job);
	struct ks_job *next; /* [workers' mutex] */
};

struct ks_workers;
int ks_workers_start(struct ks_workers **out, const char *name, int threads) KS_MUST_CHECK;
void ks_workers_add(struct ks_workers *w, struct ks_job *job); /* borrowed until it ran */
void ks_workers_stop(struct ks_workers *w); /* runs what is queued, joins, frees; NULL is fine */

#endif
