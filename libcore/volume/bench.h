/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: how fast files are written and read in a directory, in a volume without a mount, or blocks in a store. What is read is compared. */
#ifndef KS_VOLUME_BENCH_H
#define KS_VOLUME_BENCH_H

#include "volume/volume.h"

enum ks_bench_row {
	KS_BENCH_BIG_WRITE,
	KS_BENCH_BIG_READ,
	KS_BENCH_SMALL_WRITE,
	KS_BENCH_SMALL_READ,
	KS_BENCH_STAT,
	KS_BENCH_ROWS,
};
/* "big file write" for people, "big_write" for programs. */
const char *ks_bench_title(enum ks_bench_row row);
const char *ks_bench_key(enum ks_bench_row row);
/* Bytes per second; else it is files per second. */
bool ks_bench_in_bytes(enum ks_bench_row row);

struct ks_bench_opts {
	uint64_t big_bytes;   /* of the one big file */
	uint64_t small_bytes; /* of each small file */
	uint64_t small_files;
	uint64_t io_bytes; /* one write or read */
	bool (*stop)(void *arg);
	void *arg;
	_Atomic uint64_t *done; /* bytes and files so far, for a progress line; may be NULL */
};

/* What is measured: one of these. Borrowed. */
struct ks_bench_place {
	const char *dir;
	struct ks_volume *volume;
	struct ks_object *store; /* there is no stat: it is a head of each object */
};

/**
 * ks_bench_run() - measure
 * @per_s: by row: bytes or files in a second of the time that the calls took
 *
 * One thread. Makes a directory "kiseki-bench-PID" (or keys that begin so), and removes it in the end, also after a failure.
 * Return: 0; -EINTR stopped; -EBADMSG what was read is not what was written; -errno. Raised, except -EINTR.
 */
int ks_bench_run(const struct ks_bench_place *place, const struct ks_bench_opts *o,
		 double per_s[KS_BENCH_ROWS]) KS_MUST_CHECK;

#endif
