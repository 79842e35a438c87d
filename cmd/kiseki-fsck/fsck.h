/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.h: what the files of kiseki-fsck share. */
#ifndef KISEKI_FSCK_H
#define KISEKI_FSCK_H

#include "volume/fsck.h"

struct fsck_report {
	const char *volume;
	enum ks_fsck_level level;
	int progress_fd; /* -C; -1: none */
	uint64_t counters_fixed, counters_wrong;
	_Atomic uint64_t done, total; /* for the progress line */
	int last_percent;
};
extern struct fsck_report report;

void report_problem(void *unused, const struct ks_fsck_problem *p);
void report_progress(void *unused, int pass, uint64_t done, uint64_t total, bool end);
void report_pass_counts(int pass, const struct ks_fsck_result *r);
/* The last line, and the counts of the summary. */
void report_end(const struct ks_fsck_result *r, int bits);

/* "5%", "3/30", "10G": NULL, or what is wrong with it. */
const char *parse_sample(const char *value, struct ks_fsck_sample *out);

#endif
