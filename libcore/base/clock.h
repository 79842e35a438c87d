/* SPDX-License-Identifier: Apache-2.0 */
/* clock.h: time in nanoseconds. */
#ifndef KS_BASE_CLOCK_H
#define KS_BASE_CLOCK_H

#include "base/def.h"
#include <time.h>

#define KS_NS_PER_S 1000000000ll
#define KS_NS_PER_MS 1000000ll

int64_t ks_clock_real_ns(void); /* since 1970, for stored times */
int64_t ks_clock_mono_ns(void); /* for waits and ages */

static inline int64_t ks_ts_to_ns(struct timespec ts)
{
	int64_t ns;

	/* 1677 to 2262: what lies beyond is stored as the nearest that can be. */
	if (__builtin_mul_overflow((int64_t)ts.tv_sec, KS_NS_PER_S, &ns) ||
	    __builtin_add_overflow(ns, (int64_t)ts.tv_nsec, &ns))
		return ts.tv_sec < 0 ? INT64_MIN : INT64_MAX;
	return ns;
}

static inline struct timespec ks_ns_to_ts(int64_t ns)
{
	struct timespec ts = { .tv_sec = ns / KS_NS_PER_S, .tv_nsec = ns % KS_NS_PER_S };

	if (ts.tv_nsec < 0) {
		ts.tv_nsec += KS_NS_PER_S;
		ts.tv_sec--;
	}
	return ts;
}

/* RFC 3339 in UTC with microseconds, "2026-11-20T02:00:03.123456Z". */
#define KS_TIME_STR 40
void ks_time_format(int64_t ns, char out[KS_TIME_STR]);

#endif
