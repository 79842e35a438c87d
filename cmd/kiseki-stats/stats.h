/* SPDX-License-Identifier: Apache-2.0 */
/* stats.h: what the files of kiseki-stats share. */
#ifndef KISEKI_STATS_H
#define KISEKI_STATS_H

#include "base/def.h"
#include <jansson.h>

/* A mount that is looked at. */
struct target {
	char *dir;    /* where it is mounted */
	char *socket; /* its control socket */
	int pid;
	json_t *last, *now; /* its counters, the look before and this one; NULL: none yet */
	int64_t last_ns, now_ns;
};

/* print.c: the line above the numbers; @several: with a column for the mount point. */
void print_header(bool several);
/* What happened between the last two looks, as a line of numbers, or as a line of JSON. */
void print_line(const struct target *t, bool several);
void print_json(const struct target *t);

#endif
