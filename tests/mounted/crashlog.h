/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashlog.h: the log that crashwriter keeps outside the volume and crashcheck replays.
 *
 * One line each, "KIND NAME SEED LENGTH SOLID STAMP". A line of what may be is written before the operation starts, a line of what
 * must be after the call returned 0. SEED and LENGTH name a content: pattern(SEED, 0..LENGTH). Of that the first SOLID bytes were
 * synced; behind them a power cut may leave holes, or a shorter file. STAMP is CLOCK_MONOTONIC in ns, as in powerlog.h.
 *
 *	N  NAME is being made: missing, or some of the content, or holes
 *	B  NAME may become this, or stay what it is
 *	A  as B, and anything between the two lengths (an append)
 *	F  NAME is this: fsync, O_SYNC or a rename after them returned
 *	C  NAME is this: close returned (holds when the daemon is killed, not when the power fails)
 *	R  NAME is this: a rename over it returned (as C)
 *	G  NAME may go
 *	X  NAME is gone (as C)
 *	W  page LENGTH of NAME may get generation SEED
 *	P  page LENGTH of NAME has generation SEED: fdatasync returned; all pages written since the last one, through the same mount, are named
 *	Y  a directory was synced
 *
 * NAME begins with its process's name and a '-'. The sync behind F, P and Y makes all that C, R and X said before of files of that
 * process hold when the power fails, too, but for the content behind SOLID: metadata becomes durable in the order of its changes.
 */
#ifndef TESTS_MOUNTED_CRASHLOG_H
#define TESTS_MOUNTED_CRASHLOG_H

#include "util.h"

enum { CRASH_PAGE = 4096, CRASH_PAGES = 256, CRASH_NAME = 64 };

/* Content of one page of a file that is overwritten in place; generation 0 is zeros. */
static inline void crash_page(uint8_t out[CRASH_PAGE], uint64_t page, uint64_t generation)
{
	if (generation == 0)
		memset(out, 0, CRASH_PAGE);
	else
		pattern(out, CRASH_PAGE, generation * 1000 + page, 0);
}

#endif
