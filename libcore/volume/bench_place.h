/* SPDX-License-Identifier: Apache-2.0 */
/* bench_place.h: what a place to measure must do. For volume/bench*.c only. */
#ifndef KS_VOLUME_BENCH_PLACE_H
#define KS_VOLUME_BENCH_PLACE_H

#include "volume/bench.h"

struct ks_bench_at {
	const struct ks_bench_place *place;
	char name[64]; /* of the directory, or how keys begin */
	/* of the open file */
	char file[128];
	int dir_fd, fd;
	ks_ino_t dir;
	struct ks_ctx ctx;
	struct ks_fh *fh;
};

/* A whole file: open, writes or reads from its start on, close. Errors are raised by who calls. */
struct ks_bench_ops {
	int (*begin)(struct ks_bench_at *at);
	int (*create)(struct ks_bench_at *at, const char *file);
	int (*open)(struct ks_bench_at *at, const char *file);
	ssize_t (*write)(struct ks_bench_at *at, uint64_t off, const void *p, size_t n);
	ssize_t (*read)(struct ks_bench_at *at, uint64_t off, void *p, size_t n);
	int (*close)(struct ks_bench_at *at, bool written); /* 0 too when none is open */
	int (*stat)(struct ks_bench_at *at, const char *file, uint64_t *size);
	/* @io: in what pieces it was written. One that is not there is fine. */
	int (*remove)(struct ks_bench_at *at, const char *file, uint64_t size, uint64_t io);
	int (*end)(struct ks_bench_at *at);
};
extern const struct ks_bench_ops ks_bench_dir, ks_bench_volume, ks_bench_store;

#endif
