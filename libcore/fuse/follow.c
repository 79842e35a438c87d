/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow.c: proc(5) tells a thread's CPU, for the price of two or three requests. So it is asked only when the program seems to be elsewhere: one on the same CPU runs before the thread
 * that answers does again, and its next request is there at once.
 */
#include "fuse/follow.h"

#include "base/clock.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEAR_NS 8000
#define SKIP_MAX 31u
#define CPU_FIELD 39 /* of /proc/TID/stat, from 1; the second is a name in brackets */

static int cpu_of(pid_t tid)
{
	char buf[1024];
	const char *p;
	ssize_t n;
	int fd;

	snprintf(buf, sizeof(buf), "/proc/%d/stat", (int)tid);
	fd = open(buf, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = 0;
	p = strrchr(buf, ')');
	for (int field = 2; p && field < CPU_FIELD; field++)
		p = strchr(p + 1, ' ');
	return p ? (int)strtol(p, NULL, 10) : -1;
}

/* False: it is there already, or may not go there. */
static bool go_to(struct ks_follow *f, int cpu)
{
	cpu_set_t one;

	if (cpu < 0 || cpu >= CPU_SETSIZE || (f->bound && f->cpu == cpu))
		return false;
	if (!f->bound && sched_getaffinity(0, sizeof(f->all), &f->all) < 0)
		return false;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	if (!CPU_ISSET(cpu, &f->all) || sched_setaffinity(0, sizeof(one), &one) < 0)
		return false;
	f->bound = true;
	f->cpu = cpu;
	return true;
}

void ks_follow(struct ks_follow *f, pid_t tid)
{
	if (tid <= 0 || (f->bound && ks_clock_mono_ns() - f->answered < NEAR_NS))
		return;
	if (f->skip > 0) {
		f->skip--;
		return;
	}
	f->skipped = go_to(f, cpu_of(tid)) ? 0 : ks_min(2 * f->skipped + 1, SKIP_MAX);
	f->skip = f->skipped;
}

void ks_follow_answered(struct ks_follow *f, pid_t tid)
{
	/* What a program only tells comes together with its next request, wherever it is. */
	if (f->bound && tid > 0)
		f->answered = ks_clock_mono_ns();
}

void ks_follow_end(struct ks_follow *f)
{
	if (f->bound)
		KS_IGNORE(sched_setaffinity(0, sizeof(f->all), &f->all) < 0);
	f->bound = false;
	f->skip = 0;
	f->skipped = 0;
}
