/* SPDX-License-Identifier: Apache-2.0 */
/*
 * compact.h: finds the chunks of a volume that consist of many slices, and makes them of few (vfs/compact.c), beside mounts that write. Then it rewrites packs with little alive in them.
 *
 * What is replaced is freed like everything that is deleted: by mounts, and by kiseki-gc.
 */
#ifndef KS_VOLUME_COMPACT_H
#define KS_VOLUME_COMPACT_H

#include "volume/volume.h"
#include <stdatomic.h>

struct ks_compaction_opts {
	uint32_t min_slices, min_gain; /* as struct ks_compact_opts */
	bool dry_run;                  /* the volume may then be open for reading only */
	int64_t deadline_ns;           /* on ks_clock_mono_ns(); 0: none */
	bool (*stopped)(void *arg);
	/* A chunk was compacted, or would be. May be NULL. */
	void (*item)(void *arg, ks_ino_t ino, uint64_t chunk, const struct ks_compact_result *r);
	/* A chunk stays as it is: it is damaged. The reason is raised. May be NULL. */
	void (*failed)(void *arg, ks_ino_t ino, uint64_t chunk, int err);
	void *arg;
};

/* Counts may be read by another thread meanwhile. */
struct ks_compaction {
	_Atomic uint64_t scanned;       /* chunks that have slices */
	_Atomic uint64_t compacted;     /* or would be */
	_Atomic uint64_t before, after; /* slices of those */
	_Atomic uint64_t bytes;         /* copied */
	_Atomic uint64_t failed;
	struct ks_packs_gain packs; /* at the end */
	bool limited;               /* stopped at the deadline, or asked to stop */
};

/**
 * ks_compaction() - compact a volume, or what is below @path (NULL: everything, and the packs)
 *
 * The volume is open with its vfs, without maintenance. Memory is bounded, whatever its size.
 * Return: 0, also when chunks are damaged (out->failed); -ENOENT @path; -ENOSPC and other errors that concern them all, raised: what was done before stays.
 */
int ks_compaction(struct ks_volume *v, const char *path, const struct ks_compaction_opts *o,
		  struct ks_compaction *out) KS_MUST_CHECK;

#endif
