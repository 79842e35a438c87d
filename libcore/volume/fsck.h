/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck.h: is the volume what it should be? Four passes over the metadata and the store, in bounded memory:
 *
 *	1  inodes and directories: entries, links, parents, symlinks, attributes, reachability
 *	2  slices and references: extents, slices, blocks' records, packs, what waits to be deleted
 *	3  blocks in the store: each there and of the right size (exists), or read and compared with its checksums (read)
 *	4  counters and settings
 *
 * Beside living sessions a pass that found something is run again, and only what it finds both times is reported: what was
 * under way the first time is settled the second.
 */
#ifndef KS_VOLUME_FSCK_H
#define KS_VOLUME_FSCK_H

#include "volume/maint.h"

enum ks_fsck_level {
	KS_FSCK_CHECK, /* change nothing */
	KS_FSCK_SAFE,  /* repair what loses nothing */
	KS_FSCK_ALL,   /* repair everything; damaged files go to /.lost+found */
};

enum ks_fsck_data { KS_FSCK_EXISTS, KS_FSCK_READ };

enum ks_fsck_repair {
	KS_FSCK_R_SAFE,  /* -p does it */
	KS_FSCK_R_LOSSY, /* -y does it */
	KS_FSCK_R_NONE,
};

#define KS_FSCK_LOST_FOUND ".lost+found"
/* The bit of kiseki-fsck's exit code, and of what it notes in the volume, that says there is damage left: fsck(8). */
#define KS_FSCK_EXIT_LEFT 4

struct ks_fsck_path {
	char *p;  /* with a NUL behind it */
	size_t n; /* names may hold any byte */
};

struct ks_fsck_problem {
	const char *kind; /* "missing_block": for programs; kiseki-fsck(8) has the list */
	enum ks_fsck_repair repair;
	bool fixed;
	bool moved;                       /* by being moved to /.lost+found */
	uint64_t ino, slice, pack;        /* 0: not about one */
	uint64_t off, len;                /* bytes of the file that are concerned */
	uint64_t is, should;              /* counts */
	const struct ks_fsck_path *paths; /* of the file, hard links too */
	size_t npaths;
	const char *text; /* for people: what is wrong, without the path */
};

struct ks_fsck_result {
	uint64_t inodes, directories, entries, extents, slices, blocks, packs, objects;
	uint64_t read_bytes, read_blocks;
	uint64_t problems, fixed; /* problems counts those fixed too */
	uint64_t missing_blocks, damaged_blocks;
	uint64_t damaged_files;
	uint64_t
		quarantined; /* damaged files that lie in /.lost+found already: known, not problems */
	uint64_t hidden;     /* damaged blocks that no file shows any part of */
	uint64_t leftovers; /* objects without a reference: kiseki-gc's */
	uint64_t unsettled; /* what was seen once only, beside living sessions */
	bool stopped;
};

struct ks_fsck_sample {    /* all 0: everything */
	double share;      /* 0..1, at random */
	uint64_t part, of; /* the part-th of so many parts, from 1 */
	uint64_t bytes;    /* about so many bytes, at random */
};

struct ks_fsck_opts {
	enum ks_fsck_level
		level; /* above CHECK: open for writing, and ks_meta_lock_exclusive() held */
	enum ks_fsck_data data;
	struct ks_fsck_sample sample;
	unsigned int jobs; /* 0: 4 */
	const char *tmpdir;
	void (*problem)(void *arg,
			const struct ks_fsck_problem *p); /* may be NULL, as all of these */
	/* A pass begins (done 0), goes on, has ended (@end). Total 0: not known. On the calling thread. */
	void (*progress)(void *arg, int pass, uint64_t done, uint64_t total, bool end);
	bool (*stopped)(void *arg);
	void *arg;
};

/**
 * ks_fsck() - check, and repair
 * Return: 0, whatever was found; -errno the check itself could not be done, raised. @out is filled in either case.
 */
int ks_fsck(struct ks_maint *m, const struct ks_fsck_opts *o,
	    struct ks_fsck_result *out) KS_MUST_CHECK;

/**
 * ks_fsck_settings() - the volume's settings, before it is opened: a volume with damaged ones cannot be
 * Repairs, with @o->level, those that have a harmless default or stand in the store's marker.
 * Return: 0: what was found was reported; -errno, raised.
 */
int ks_fsck_settings(const char *meta_url, const struct ks_fsck_opts *o,
		     struct ks_fsck_result *out) KS_MUST_CHECK;

#endif
