/* SPDX-License-Identifier: Apache-2.0 */
/* summary.h: how much is in a tree, from metadata alone. */
#ifndef KS_VOLUME_SUMMARY_H
#define KS_VOLUME_SUMMARY_H

#include "volume/volume.h"
#include <stdatomic.h>

/* An inode counts once, wherever its first name was met. */
struct ks_summary_sum {
	uint64_t files; /* of any kind but directories */
	uint64_t dirs;  /* itself included */
	uint64_t bytes; /* sizes of what is no directory */
	uint64_t used;  /* bytes of data, holes not */
};

struct ks_summary {
	char *name; /* "" for what was asked for */
	size_t n;
	uint32_t mode;
	struct ks_summary_sum sum;
	struct ks_summary **v; /* the largest entries, by used bytes; owned */
	size_t nv, cap;
	struct ks_summary_sum rest; /* of the others together, */
	uint64_t nrest;             /* and how many these are */
	uint64_t floor;             /* internal: entries that use less are not among the largest */
};
void ks_summary_free(struct ks_summary *s); /* NULL is fine */

#define KS_SUMMARY_DEPTH_MAX 16u
#define KS_SUMMARY_ENTRIES_MAX 10000u

struct ks_summary_opts {
	unsigned int depth;   /* levels of entries to keep; 0: only the sum */
	unsigned int entries; /* of each directory; at least 1 */
	bool (*stop)(void *arg);
	void *arg;
	_Atomic uint64_t *seen; /* counts entries, for a progress line; may be NULL */
};

/**
 * ks_summary() - add up a tree
 *
 * Directories are read in stretches; memory holds what is to be shown, a stretch for each level, and the numbers of inodes that have
 * several names. What changes meanwhile may be counted or not.
 * Return: 0; -EINTR stopped; -ENOENT and others, raised.
 */
int ks_summary(struct ks_meta *m, const char *path, const struct ks_summary_opts *o,
	       struct ks_summary **out) KS_MUST_CHECK;

#endif
