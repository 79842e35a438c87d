/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump.h: a volume as an archive.
 *
 *	KS_DUMP_META    its metadata: what kiseki-load makes a volume from, over the same data
 *	KS_DUMP_BLOCKS  and the objects: a volume complete in itself
 *	KS_DUMP_FILES   its files, as any tar or unzip unpacks them
 *
 * All of one moment, however long it takes and whatever others write meanwhile: the metadata is read in one snapshot, and a session keeps the objects
 * it names where they are. Memory does not grow with the volume, but for the names of files that have several (KS_DUMP_FILES). The
 * same state gives the same bytes. doc/format.md describes the archive.
 */
#ifndef KS_VOLUME_DUMP_H
#define KS_VOLUME_DUMP_H

#include "base/hash.h"
#include "volume/arc.h"
#include "volume/volume.h"

enum ks_dump_what { KS_DUMP_META, KS_DUMP_BLOCKS, KS_DUMP_FILES };

#define KS_DUMP_VERSION 1

/* Counts are read by any thread while it runs (relaxed). */
struct ks_dump_result {
	char name[64];
	char uuid[KS_UUID_STR]; /* "": not opened yet */
	uint64_t inodes, slices, records;
	uint64_t total_inodes;          /* what is to be done */
	uint64_t objects, object_bytes; /* BLOCKS */
	uint64_t files, bytes,
		skipped;    /* FILES: names; bytes of content; what the format cannot hold */
	uint64_t failed;    /* objects and files that could not be read: each was an error */
	uint64_t out_bytes; /* the archive's size */
	bool no_output;     /* it failed because the output could not be made */
	bool unprotected; /* the volume could not be written to: what others delete meanwhile is missing */
};

struct ks_dump_opts {
	enum ks_dump_what what;
	const char *path;   /* FILES: of the subtree; NULL: all */
	const char *output; /* "-": stdout */
	enum ks_arc_format format;
	enum ks_arc_compress compress;
	bool (*stopped)(void *arg); /* may be NULL, as these */
	void (*error)(void *arg, const char *path, int err, const char *text);
	void (*item)(void *arg, const char *path, uint64_t bytes);
	void *arg;
};

/**
 * ks_dump() - write one
 * Return: 0, also when some of it could not be read (out->failed); -ENOENT no volume; -EINTR stopped; -errno. Raised. The output has its name only
 * after 0.
 */
int ks_dump(const struct ks_volume_ref *ref, const struct ks_dump_opts *o,
	    struct ks_dump_result *out) KS_MUST_CHECK;

#endif
