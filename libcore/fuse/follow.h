/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.h: a server thread that stays on the CPU of the one program it serves. Over /dev/fuse any thread may get any request, and nothing says where it was made; but the
 * kernel knows where its thread ran last.
 *
 * One thread's own. Zeroed.
 */
#ifndef KS_FUSE_FOLLOW_H
#define KS_FUSE_FOLLOW_H

#include "base/def.h"

#include <sched.h>
#include <stdbool.h>
#include <sys/types.h>

struct ks_follow {
	bool bound;
	int cpu;              /* while bound */
	int64_t answered;     /* ks_clock_mono_ns(): the last request */
	unsigned int skip;    /* requests from afar until it is worth looking again */
	unsigned int skipped; /* the last time */
	cpu_set_t all;        /* where the thread may run, while bound */
};

/* A request of thread @tid is there (0: nobody's): goes where that runs, unless it is near already. */
void ks_follow(struct ks_follow *f, pid_t tid);
/* It has been answered. */
void ks_follow_answered(struct ks_follow *f, pid_t tid);
/* Back to where it may run. */
void ks_follow_end(struct ks_follow *f);

#endif
