/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.h: any archive that libarchive reads, into a directory of a volume, without a mount.
 *
 * Nothing of an archive reaches beyond that directory: names with ".." are refused, absolute ones lose their "/", and no name leads through a symbolic link. A file
 * appears under its name when it is complete, and replaces one that was there; so after an interruption what is there is whole, and a second
 * run does the rest. Memory does not grow with the archive.
 */
#ifndef KS_VOLUME_UNPACK_H
#define KS_VOLUME_UNPACK_H

#include "volume/volume.h"

struct ks_unpack_opts {
	const char *file;           /* "-": stdin */
	struct ks_volume *volume;   /* open for writing; NULL: only verify */
	const char *path;           /* of the directory, which must exist */
	unsigned int jobs;          /* small files at a time; 0: by the CPUs */
	bool (*stopped)(void *arg); /* may be NULL, as these */
	/* Of an entry that could not be unpacked; the others are. On any thread, one at a time. */
	void (*error)(void *arg, const char *path, int err, const char *text);
	void (*item)(void *arg, const char *path, uint64_t bytes);
	void *arg;
};

/* Counts are read by any thread while it runs (relaxed). */
struct ks_unpack_result {
	uint64_t files, others, dirs; /* others: links, symlinks, devices, pipes */
	uint64_t bytes, failed;
	uint64_t in_bytes, in_size; /* of the archive; size 0: not known */
	uint64_t absolute;          /* names that lost their "/" */
	int first_error;
	char format[64];
};

/**
 * ks_unpack() - unpack, and make it durable
 * Return: 0, also when entries failed (out->failed); -EBADMSG no archive, or it cannot be read to its end; -ENOSPC and -EDQUOT, where going on is
 * useless; -EINTR; -errno. All raised.
 */
int ks_unpack(const struct ks_unpack_opts *o, struct ks_unpack_result *out) KS_MUST_CHECK;

/* Is it a dump of kiseki-dump? By its first member; what cannot be read twice (stdin) is taken for one. */
bool ks_unpack_is_dump(const char *file);

#endif
