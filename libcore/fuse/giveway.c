/* SPDX-License-Identifier: Apache-2.0 */
/*
 * giveway.c: who may change a thread's state, and with it its policy:
 *
 *	OWN -> GIVES	the thread; then it takes SCHED_IDLE
 *	GIVES -> OWN	the thread, after it took its own policy again
 *	GIVES -> HELPED	the tick, which then gives it its own policy, and again in every tick until it has moved: the thread may have been about to take SCHED_IDLE
 *	HELPED -> OWN	the tick, when the pause is over
 *
 * A thread that finds, after it took SCHED_IDLE, that it has been helped, leaves it again.
 */
#include "fuse/giveway.h"

#include "base/thread.h"

#include <linux/fuse.h>
#include <sched.h>
#include <unistd.h>

#define PAUSE_TICKS ((unsigned int)(KS_GIVEWAY_PAUSE_NS / KS_GIVEWAY_TICK_NS))
#define STILL_TICKS 25 /* it has nothing to do: whoever ticks may sleep */

enum { OWN, GIVES, HELPED };

static bool set_policy(pid_t tid, int policy)
{
	struct sched_param param = { 0 };

	return sched_setscheduler(tid, policy, &param) == 0;
}

/* Does a way lead back? Tried by a thread that ends. */
static void *try_policy(void *arg)
{
	struct ks_giveway *g = arg;

	if (!set_policy(0, SCHED_IDLE) || !set_policy(0, g->policy))
		g->policy = -1;
	return NULL;
}

void ks_giveway_init(struct ks_giveway *g)
{
	pthread_t thread;

	*g = (struct ks_giveway){ .policy = sched_getscheduler(0), .left = -1 };
	sem_init(&g->wake, 0, 0);
	pthread_mutex_init(&g->mu, NULL);
	/* With one CPU there is no other; realtime policies are somebody's decision. */
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2 ||
	    (g->policy != SCHED_OTHER && g->policy != SCHED_BATCH) ||
	    ks_thread_start(&thread, "ks-try", try_policy, g) < 0)
		g->policy = -1;
	else
		pthread_join(thread, NULL);
}

void ks_giveway_destroy(struct ks_giveway *g)
{
	pthread_mutex_destroy(&g->mu);
	sem_destroy(&g->wake);
}

void ks_giveway_add(struct ks_giveway *g, struct ks_giver *t, bool (*waits)(void *arg), void *arg)
{
	*t = (struct ks_giver){ .waits = waits, .arg = arg, .next = g->givers, .cpu = -1 };
	g->givers = t;
}

void ks_giveway_add_roaming(struct ks_giveway *g, struct ks_giver *t, bool (*waits)(void *arg),
			    void *arg)
{
	ks_giveway_add(g, t, waits, arg);
	t->roams = true;
}

void ks_giveway_enter(struct ks_giver *t)
{
	__atomic_store_n(&t->tid, gettid(), __ATOMIC_RELEASE);
}

static bool is_stopped(const struct ks_giveway *g)
{
	return __atomic_load_n(&g->stopped, __ATOMIC_SEQ_CST);
}

void ks_giveway_wake(struct ks_giveway *g)
{
	if (__atomic_load_n(&g->asleep, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&g->asleep, false, __ATOMIC_ACQ_REL))
		sem_post(&g->wake);
}

bool ks_giveway_begin(struct ks_giveway *g, struct ks_giver *t)
{
	int state = __atomic_load_n(&t->state, __ATOMIC_RELAXED);

	if (!ks_giveway_works(g) || is_stopped(g))
		return false;
	if (state != OWN || !__atomic_compare_exchange_n(&t->state, &state, GIVES, false,
							 __ATOMIC_SEQ_CST, __ATOMIC_ACQUIRE))
		return state == GIVES;
	ks_giveway_wake(g);
	set_policy(0, SCHED_IDLE);
	if (__atomic_load_n(&t->state, __ATOMIC_ACQUIRE) == GIVES && !is_stopped(g))
		return true;
	set_policy(0, g->policy);
	return false;
}

void ks_giveway_end(struct ks_giveway *g, struct ks_giver *t)
{
	int gives = GIVES;

	if (__atomic_load_n(&t->state, __ATOMIC_RELAXED) != GIVES)
		return;
	set_policy(0, g->policy);
	__atomic_compare_exchange_n(&t->state, &gives, OWN, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
}

void ks_giveway_leave(struct ks_giveway *g, struct ks_giver *t)
{
	ks_giveway_end(g, t);
	/* Its number may be another thread's soon, and what waits() looks at gone. */
	KS_LOCKED(&g->mu);
	__atomic_store_n(&t->tid, 0, __ATOMIC_RELEASE);
}

bool ks_giveway_may(uint32_t opcode)
{
	switch (opcode) {
	case FUSE_LOOKUP:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_GETATTR:
	case FUSE_SETATTR:
	case FUSE_READLINK:
	case FUSE_SYMLINK:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_LINK:
	case FUSE_OPEN:
	case FUSE_CREATE:
	case FUSE_READ:
	case FUSE_WRITE:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_STATFS:
	case FUSE_GETXATTR:
	case FUSE_LISTXATTR:
	case FUSE_OPENDIR:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_RELEASEDIR:
	case FUSE_ACCESS:
	case FUSE_LSEEK:
		return true;
	default:
		return false;
	}
}

/* It gives way and has not moved since the last tick. */
static void look_at(struct ks_giver *t)
{
	int gives = GIVES;
	bool stuck = t->seen % 2 || t->waits(t->arg);

	if (!stuck && ++t->still < STILL_TICKS)
		return;
	if (__atomic_compare_exchange_n(&t->state, &gives, HELPED, false, __ATOMIC_ACQ_REL,
					__ATOMIC_RELAXED))
		t->pause = stuck ? PAUSE_TICKS : 0;
}

static void help(const struct ks_giveway *g, const struct ks_giver *t)
{
	pid_t tid = __atomic_load_n(&t->tid, __ATOMIC_ACQUIRE);

	set_policy(tid, g->policy);
	/* Where a realtime thread has the CPU, a policy is not enough. */
	if (t->roams && t->pause > 0)
		ks_thread_unbind(tid);
}

static bool tick_one(const struct ks_giveway *g, struct ks_giver *t)
{
	unsigned int turns = __atomic_load_n(&t->turns, __ATOMIC_RELAXED);
	bool moved = turns != t->seen;
	bool helped = __atomic_load_n(&t->state, __ATOMIC_ACQUIRE) == HELPED;

	t->seen = turns;
	t->moved = moved;
	if (moved)
		t->still = 0;
	if (!helped && __atomic_load_n(&t->state, __ATOMIC_ACQUIRE) == OWN)
		return false;
	if (helped && t->pause > 0)
		t->pause--;
	else if (helped)
		__atomic_store_n(&t->state, OWN, __ATOMIC_RELEASE);
	else if (!moved)
		look_at(t);
	if (!moved && __atomic_load_n(&t->state, __ATOMIC_ACQUIRE) == HELPED)
		help(g, t);
	return true;
}

bool ks_giveway_tick(struct ks_giveway *g)
{
	bool any = false;

	KS_LOCKED(&g->mu);
	for (struct ks_giver *t = g->givers; t; t = t->next)
		if (__atomic_load_n(&t->tid, __ATOMIC_ACQUIRE))
			any = tick_one(g, t) || any;
	return any;
}

/* Who ticks does not come between a thread and the program it gives way to. */
static void keep_away(struct ks_giveway *g)
{
	int cpu = -1;

	for (const struct ks_giver *t = g->givers; t; t = t->next) {
		int its = __atomic_load_n(&t->cpu, __ATOMIC_RELAXED);

		if (!t->moved || its < 0)
			continue;
		if (its == g->left)
			return;
		cpu = its;
	}
	if (cpu < 0)
		return;
	ks_thread_leave_cpu(cpu);
	g->left = cpu;
}

/* False: there is nothing to watch. */
static bool look(struct ks_giveway *g)
{
	bool more = ks_giveway_tick(g);

	return (g->also && g->also(g->arg)) || more;
}

static void sleep_(struct ks_giveway *g)
{
	__atomic_store_n(&g->asleep, true, __ATOMIC_SEQ_CST);
	/* What came before the flag was seen is found by this. */
	if (!look(g) && !is_stopped(g))
		KS_IGNORE(sem_wait(&g->wake) < 0);
	__atomic_store_n(&g->asleep, false, __ATOMIC_RELEASE);
}

static void *watch(void *arg)
{
	struct ks_giveway *g = arg;
	const struct timespec tick = ks_ns_to_ts(KS_GIVEWAY_TICK_NS);

	while (!is_stopped(g)) {
		if (look(g)) {
			keep_away(g);
			KS_IGNORE(clock_nanosleep(CLOCK_MONOTONIC, 0, &tick, NULL));
		} else {
			sleep_(g);
		}
	}
	return NULL;
}

int ks_giveway_start(struct ks_giveway *g, bool (*also)(void *arg), void *arg)
{
	int r;

	g->also = also;
	g->arg = arg;
	r = ks_thread_start(&g->thread, "ks-watch", watch, g);
	g->running = r == 0;
	if (r < 0)
		g->policy = -1;
	return r;
}

void ks_giveway_stop(struct ks_giveway *g)
{
	__atomic_store_n(&g->stopped, true, __ATOMIC_SEQ_CST);
	if (g->running) {
		ks_giveway_wake(g);
		pthread_join(g->thread, NULL);
		g->running = false;
	}
	KS_LOCKED(&g->mu);
	for (struct ks_giver *t = g->givers; t; t = t->next)
		if (__atomic_load_n(&t->tid, __ATOMIC_ACQUIRE) &&
		    __atomic_load_n(&t->state, __ATOMIC_SEQ_CST) != OWN)
			set_policy(__atomic_load_n(&t->tid, __ATOMIC_ACQUIRE), g->policy);
}
