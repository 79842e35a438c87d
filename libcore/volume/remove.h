/* SPDX-License-Identifier: Apache-2.0 */
/* remove.h: whole trees go, by metadata alone. */
#ifndef KS_VOLUME_REMOVE_H
#define KS_VOLUME_REMOVE_H

#include "volume/volume.h"
#include <stdatomic.h>

struct ks_rm_opts {
	bool recursive;
	bool everything; /* the root's entries, when the root is named; else that is refused */
	bool (*stop)(void *arg);
	/* An entry is gone, or stays because of @err (0: gone). @path as in the volume. */
	void (*item)(void *arg, const char *path, bool dir, int err);
	void *arg;
};

struct ks_rm_result {
	_Atomic uint64_t files, dirs, bytes,
		failed; /* bytes: of files that have no name any more */
};

/**
 * ks_rm() - remove what a path names; a symlink itself
 *
 * Hundreds of entries go in one transaction, beside mounts that write. What somebody has open lives on until it is closed, as always; the data is
 * freed in the background by mounts and kiseki-gc. Stopping leaves a smaller tree; another run goes on.
 * Return: 0, also when some entries stay (out->failed); -EINTR stopped; -EISDIR a directory, without @recursive; -EINVAL the root, or "." or ".." at the end;
 * -ENOENT and others; all raised.
 */
int ks_rm(struct ks_meta *m, const char *path, const struct ks_rm_opts *o,
	  struct ks_rm_result *out) KS_MUST_CHECK;

/* What a path's directory and last name are. As ks_rm(). @name is owned; "" for the root. */
int ks_rm_find(struct ks_meta *m, const char *path, struct ks_attr *dir, char **name,
	       struct ks_attr *what) KS_MUST_CHECK;

#endif
