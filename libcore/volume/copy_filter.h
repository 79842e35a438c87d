/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_filter.h: which entries of a tree are left out: patterns in the order they were given, and the first that matches decides.
 *
 *	*.o        a last name, at any depth
 *	/build     below the source itself; so is what has a slash inside: a/b
 *	cache/     directories only
 *	a/ ** /b     any number of directories (without the spaces)
 */
#ifndef KS_VOLUME_COPY_FILTER_H
#define KS_VOLUME_COPY_FILTER_H

#include "base/def.h"

struct ks_copy_filter;

int ks_filter_add(struct ks_copy_filter **f, const char *pattern,
		  bool include) KS_MUST_CHECK; /* -EINVAL an empty one */
void ks_filter_free(struct ks_copy_filter *f); /* NULL is fine */
/* @path: from the source, without a slash in front. */
bool ks_filter_excludes(const struct ks_copy_filter *f, const char *path, bool dir);

#endif
