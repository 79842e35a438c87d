/* SPDX-License-Identifier: Apache-2.0 */
/* list.h: what is in a directory of a volume, without a mount and without its data. */
#ifndef KS_VOLUME_LIST_H
#define KS_VOLUME_LIST_H

#include "volume/volume.h"

struct ks_list_opts {
	bool recursive;
	bool targets; /* read the targets of symlinks */
	bool (*stop)(void *arg);
	void *arg;
};

struct ks_list_entry {
	const char
		*path; /* relative to what was listed; the path itself when that is no directory */
	size_t n;
	const struct ks_attr *attr;
	const char *target; /* of a symlink, when asked for; else NULL */
};
typedef int ks_list_fn(void *arg, const struct ks_list_entry *e);

/**
 * ks_list() - call @fn for what is in @path, or for @path when it is no directory
 *
 * Entries of a directory come in byte order of their names, in batches of 16384: memory is bounded.
 * Return: 0; what @fn returned; -EINTR stopped; -ENOENT and others, raised.
 */
int ks_list(struct ks_meta *m, const char *path, const struct ks_list_opts *o, ks_list_fn *fn,
	    void *arg) KS_MUST_CHECK;

#endif
