/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.h: a line on the terminal that says how far a long tool is, five times a second; SIGUSR1 prints one such line
 * wherever stderr goes; --progress=json prints progress lines on stdout, one a second.
 */
#ifndef KS_CLI_PROGRESS_H
#define KS_CLI_PROGRESS_H

#include "base/def.h"

struct ks_progress_now {
	uint64_t done_items, total_items; /* total 0: not known (yet) */
	uint64_t done_bytes, total_bytes;
};

/* Reads the counters; called on another thread. */
typedef void ks_progress_fn(void *arg, struct ks_progress_now *out);

/* Starts showing; the bar appears after one second. @label and @arg are borrowed until the stop. Never fails: without memory nothing is shown. */
void ks_progress_start(const char *label, ks_progress_fn *fn, void *arg);
void ks_progress_stop(void); /* wipes the line; harmless without a start */

/* Around any other output to the terminal. */
void ks_progress_lock(void); /* wipes the line */
void ks_progress_unlock(void);

/* One status line, without newline, at most @width columns; for the tests. */
void ks_progress_line(char *out, size_t size, int width, const char *label,
		      const struct ks_progress_now *now, uint64_t bytes_per_s, int64_t elapsed_ns);

#endif
