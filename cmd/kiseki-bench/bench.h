/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: what the files of kiseki-bench share. */
#ifndef KISEKI_BENCH_H
#define KISEKI_BENCH_H

#include "volume/bench.h"
#include <jansson.h>

/* An earlier run. */
struct baseline {
	json_t *rows;
};
/* rows.c: from a file with the output of --json. -ENOENT, -EBADMSG: it is none. Raised. */
int baseline_read(struct baseline *out, const char *path) KS_MUST_CHECK;
void baseline_clear(struct baseline *b);
/* Prints the rows; @base may be NULL. 0, or KS_EXIT_FINDINGS when one is worse than @base by more than @tolerance, a share. */
int print_rows(const double per_s[KS_BENCH_ROWS], const struct baseline *base, double tolerance);

#endif
