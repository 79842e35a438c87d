/* SPDX-License-Identifier: Apache-2.0 */
/* info.h: what a file is made of, down to the objects; and back from an object to its files. */
#ifndef KS_VOLUME_INFO_H
#define KS_VOLUME_INFO_H

#include "volume/volume.h"

struct ks_info_piece {
	uint64_t offset, len; /* in the file; holes are left out */
	uint64_t slice, slice_off;
	uint64_t pack; /* 0: the slice has blocks of its own */
	const char *key;
	uint64_t key_off; /* of the first byte in the object */
};
typedef int ks_info_piece_fn(void *arg, const struct ks_info_piece *p);

/* Calls @fn for every piece of a file's content, in its order: one per object. Return: 0; what @fn returned; -errno, raised. */
int ks_info_pieces(struct ks_meta *m, ks_ino_t ino, ks_info_piece_fn *fn, void *arg) KS_MUST_CHECK;

/* The path of a directory, appended; nothing for the root. -ENOENT it is gone; -ENOTDIR. A walk over the directories above it. */
int ks_info_dir_path(struct ks_meta *m, ks_ino_t ino, struct ks_buf *out) KS_MUST_CHECK;

/* Every name of an inode, as a path from the root; none when it has none; "(trash)/HOUR/ENTRY" of one in the trash. A file with several names costs a walk over all entries. */
typedef int ks_info_path_fn(void *arg, const char *path, size_t n);
int ks_info_paths(struct ks_meta *m, const struct ks_attr *a, ks_info_path_fn *fn,
		  void *arg) KS_MUST_CHECK;

/* What is looked for: a slice, one block of it, or all that lies in a pack. */
struct ks_info_what {
	uint64_t slice, pack; /* one of them is 0 */
	bool block;
	uint32_t idx;
};
/* -EINVAL: not the key of an object that holds data. Not raised. */
int ks_info_parse_key(const char *key, struct ks_info_what *out) KS_MUST_CHECK;

/* Calls @fn for each inode whose extents refer to it, by a walk over all extents. Stops with -EINTR. */
typedef int ks_info_ino_fn(void *arg, ks_ino_t ino);
int ks_info_owners(struct ks_meta *m, const struct ks_info_what *what, bool (*stop)(void *arg),
		   ks_info_ino_fn *fn, void *arg) KS_MUST_CHECK;

#endif
