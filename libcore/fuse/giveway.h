/* SPDX-License-Identifier: Apache-2.0 */
/*
 * giveway.h: server threads that give way to the programs they serve.
 *
 * A program that is woken with its answer is put on an idle CPU rather than on the one it slept on, where the thread that answers is still running. Another CPU has to be woken for
 * that, and once more for the next request: in a virtual machine that costs more than most requests. But a CPU whose only thread has the policy SCHED_IDLE counts as idle. So a thread
 * that answers under this policy keeps the program on its own CPU, is preempted by it at once, and goes on when the program sleeps in its next request.
 *
 * Everybody else comes before such a thread as well. So a watching thread gives its own policy back to one that does not get on with its work: then it gives no way for KS_GIVEWAY_PAUSE_NS.
 *
 * Only who has CAP_SYS_NICE, or an RLIMIT_NICE of 20, may leave SCHED_IDLE again. Without that nobody gives way.
 */
#ifndef KS_FUSE_GIVEWAY_H
#define KS_FUSE_GIVEWAY_H

#include "base/clock.h"
#include "base/def.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <sys/types.h>

#define KS_GIVEWAY_TICK_NS (2 * KS_NS_PER_MS)
#define KS_GIVEWAY_PAUSE_NS (100 * KS_NS_PER_MS)

/* One thread. Zeroed by its owner, which adds it before the thread starts. */
struct ks_giver {
	bool (*waits)(void *arg); /* is there work that it has not begun? Called by the tick. */
	void *arg;
	bool roams; /* it is bound only while it gives way */
	struct ks_giver *next;
	pid_t tid;          /* atomic: the thread's; 0: it does not run */
	unsigned int turns; /* atomic: odd while it serves; written by the thread */
	int state;          /* atomic, enum in giveway.c */
	int cpu;            /* atomic: the one it is bound to; < 0: none */
	unsigned int seen;  /* turns at the last tick; what follows is the tick's, too */
	bool moved;         /* since the one before */
	unsigned int still; /* ticks without a turn */
	unsigned int pause; /* ticks until it may give way again */
};

struct ks_giveway {
	int policy; /* of the process; < 0: nobody gives way */
	struct ks_giver *givers;
	bool stopped; /* atomic */
	bool asleep;  /* atomic: the watching thread waits for wake */
	sem_t wake;
	bool (*also)(void *arg);
	void *arg;
	pthread_t thread;
	bool running;
	pthread_mutex_t mu; /* held for a tick, and to leave */
	int left;           /* the watching thread's: the CPU it keeps away from; < 0: none */
};

/* Finds out whether threads may give way here. */
void ks_giveway_init(struct ks_giveway *g);
void ks_giveway_destroy(struct ks_giveway *g);
/* Before any of the threads runs. @g, too, stays where it is. */
void ks_giveway_add(struct ks_giveway *g, struct ks_giver *t, bool (*waits)(void *arg), void *arg);
/* The same for one that is bound to a CPU only while it gives way: one that does not get on is let go to any other as well. */
void ks_giveway_add_roaming(struct ks_giveway *g, struct ks_giver *t, bool (*waits)(void *arg),
			    void *arg);

static inline bool ks_giveway_works(const struct ks_giveway *g)
{
	return g->policy >= 0;
}

/*
 * Starts the thread that watches, every KS_GIVEWAY_TICK_NS while somebody gives way. It also calls @also (may be NULL), and goes on while that says so; without both it sleeps until
 * ks_giveway_wake().
 */
int ks_giveway_start(struct ks_giveway *g, bool (*also)(void *arg), void *arg) KS_MUST_CHECK;
void ks_giveway_wake(struct ks_giveway *g);
/* Ends that thread, if it runs; nobody gives way any more. Before the threads end. */
void ks_giveway_stop(struct ks_giveway *g);

/* ---- the thread itself ---- */

void ks_giveway_enter(struct ks_giver *t); /* it runs */
/* It ends. No tick looks at it any more, nor asks waits(). */
void ks_giveway_leave(struct ks_giveway *g, struct ks_giver *t);

/* It is bound to a CPU, or to none any more (< 0). */
static inline void ks_giveway_bound(struct ks_giver *t, int cpu)
{
	__atomic_store_n(&t->cpu, cpu, __ATOMIC_RELAXED);
}

/* It begins to serve a request. */
static inline void ks_giveway_serve(struct ks_giver *t)
{
	__atomic_store_n(&t->turns, (t->turns + 1) | 1, __ATOMIC_RELAXED);
}

/* Nobody waits for it any more. */
static inline void ks_giveway_done(struct ks_giver *t)
{
	__atomic_store_n(&t->turns, (t->turns + 1) & ~1u, __ATOMIC_RELAXED);
}

/* From now on everybody comes first. False: not now, others want the CPU. */
bool ks_giveway_begin(struct ks_giveway *g, struct ks_giver *t);
void ks_giveway_end(struct ks_giveway *g, struct ks_giver *t);
/*
 * While a request of this kind is served? Not where it is one that waits, or wakes threads, which would come to a CPU that counts as idle. One that holds what others want, as the
 * writer of the metadata, keeps them waiting for two ticks at most, once in KS_GIVEWAY_PAUSE_NS; to take its own policy for each would cost it a tenth of its time.
 */
bool ks_giveway_may(uint32_t opcode);

/* ---- for the thread that watches, and tests ---- */

/* False: nobody gives way. */
bool ks_giveway_tick(struct ks_giveway *g);

#endif
