/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.h: a volume from a dump.
 *
 * A dump of metadata lies over the data it was made over, which the first volume may still use: what was loaded is then read-only, until it is told to take over. A
 * dump with blocks brings its data along. The database appears under its name when everything has been loaded and compared with its checksums.
 */
#ifndef KS_VOLUME_LOAD_H
#define KS_VOLUME_LOAD_H

#include "base/hash.h"
#include "volume/volume.h"

struct ks_load_opts {
	const char *operand; /* the new volume; NULL: only verify */
	struct ks_volume_find find;
	const char *file; /* "-": stdin */
	const char *
		data; /* URL or directory; NULL: as in the dump, or for one with blocks beside the database */
	bool take_over;
	bool new_uuid; /* of a dump with blocks */
	bool (*stopped)(void *arg);
	void *arg;
};

/* Counts are read by any thread while it runs (relaxed). */
struct ks_load_result {
	char name[64];
	char uuid[KS_UUID_STR]; /* "": not known yet */
	bool blocks;            /* it came with its objects */
	bool owner;             /* it may write */
	uint64_t inodes, slices, records, objects, object_bytes;
	uint64_t in_bytes, in_size; /* of the archive; size 0: not known */
	char *meta_url;             /* for people; owned; NULL: nothing was made */
	char *data_url;             /* absolute; owned */
};
void ks_load_result_clear(struct ks_load_result *r);

/**
 * ks_load() - make a volume
 * Return: 0; -EEXIST a volume is there; -EBADMSG no dump, or a damaged one; -EPROTO a newer one; -EMEDIUMTYPE the data is another volume's; -EINTR;
 * -errno. All raised; nothing is left behind.
 */
int ks_load(const struct ks_load_opts *o, struct ks_load_result *out) KS_MUST_CHECK;

/* Makes the metadata @ref the owner of its data. *already: it was. Raised. */
int ks_load_take_over(const struct ks_volume_ref *ref, struct ks_load_result *out,
		      bool *already) KS_MUST_CHECK;

#endif
