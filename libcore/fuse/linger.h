/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linger.h: a thread that looks out for its next request for a moment before it sleeps. It keeps its CPU from being idle, which is dear to end in a virtual
 * machine; whoever else wants the CPU is let through. Where somebody does for long, sleeping is better: who wakes up comes before those that compute.
 *
 *	for (go = ks_linger_begin(&l); go && !ready(); go = ks_linger_go_on(&l))
 *		;
 *
 * One thread's own.
 */
#ifndef KS_FUSE_LINGER_H
#define KS_FUSE_LINGER_H

#include "base/clock.h"

#include <sched.h>
#include <stdbool.h>

#define KS_LINGER_NS ((int64_t)50 * 1000)
#define KS_LINGER_CROWDED_NS                                                                       \
	KS_NS_PER_MS /* the CPU was given away for so long: to one that computes */
#define KS_LINGER_PAUSE_NS (100 * KS_NS_PER_MS)

struct ks_linger {
	int64_t now, end; /* ks_clock_mono_ns() */
	int64_t pause;    /* until then it is not done */
};

/* False: not now. */
static inline bool ks_linger_begin(struct ks_linger *l)
{
	l->now = ks_clock_mono_ns();
	l->end = l->now + KS_LINGER_NS;
	return l->now >= l->pause;
}

/* Lets others run. False: long enough. */
static inline bool ks_linger_go_on(struct ks_linger *l)
{
	int64_t before = l->now;

	sched_yield();
	l->now = ks_clock_mono_ns();
	if (l->now - before > KS_LINGER_CROWDED_NS)
		l->pause = l->now + KS_LINGER_PAUSE_NS;
	return l->now < l->end;
}

#endif
