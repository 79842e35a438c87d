/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c: the two clocks, and a time as text. */
#include "base/clock.h"
#include <stdio.h>
#include <string.h>

static int64_t now_ns(clockid_t id)
{
	struct timespec ts = { 0 };
	int r = clock_gettime(id, &ts);

	assert(r == 0);
	(void)r;
	return ks_ts_to_ns(ts);
}

int64_t ks_clock_real_ns(void)
{
	return now_ns(CLOCK_REALTIME);
}

int64_t ks_clock_mono_ns(void)
{
	return now_ns(CLOCK_MONOTONIC);
}

void ks_time_format(int64_t ns, char out[KS_TIME_STR])
{
	struct timespec ts = ks_ns_to_ts(ns);
	struct tm tm;
	size_t n;

	/* 64 bits of nanoseconds end in the year 2262: four digits always do. */
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(out, KS_TIME_STR, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, KS_TIME_STR - n, ".%06uZ", (unsigned)(ts.tv_nsec / 1000) % 1000000u);
}
