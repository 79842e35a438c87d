/* SPDX-License-Identifier: Apache-2.0 */
/* format.h: makes a volume. */
#ifndef KS_VOLUME_FORMAT_H
#define KS_VOLUME_FORMAT_H

#include "base/hash.h"
#include "volume/volume.h"

#define KS_TRASH_DEFAULT_NS (24 * 3600 * INT64_C(1000000000))

struct ks_format_opts {
	const char *operand; /* NAME, metadata URL or database file */
	struct ks_volume_find find;
	const char *data;        /* URL or directory; NULL: next to the database */
	const char *name;        /* NULL: from the operand */
	uint64_t block_size;     /* 0: the default */
	uint64_t capacity_bytes; /* 0: no quota */
	uint64_t inodes_max;
	int64_t trash_ns;    /* how long what is removed is kept; 0: not at all */
	bool if_not_exists;  /* a volume of that name is a success */
	bool allow_nonempty; /* the data location may hold other objects */
	bool no_check;       /* do not try the data location out */
};

struct ks_format_result {
	bool created; /* false: --if-not-exists found it */
	char name[64];
	char uuid[KS_UUID_STR];
	char *meta_url; /* for people; owned */
	char *data_url; /* absolute; owned */
	uint64_t block_size;
	int64_t trash_ns;
	int64_t check_ns; /* how long the trial took; 0: none */
};
void ks_format_result_clear(struct ks_format_result *r);

/**
 * ks_format() - make a volume
 *
 * The database appears under its name only when it is complete, and a data location says "formatting" until then; so what an interrupted
 * call left never blocks the next.
 * Return: 0; -EEXIST a volume, or other objects, are there; -EMEDIUMTYPE the data location belongs to another volume; -EINVAL; -errno. All raised.
 */
int ks_format(const struct ks_format_opts *o, struct ks_format_result *out) KS_MUST_CHECK;

#endif
