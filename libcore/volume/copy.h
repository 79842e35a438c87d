/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy.h: copies files and trees into a volume, out of one, within one, or between two; no mount.
 *
 * A file appears at its destination whole or not at all, also when the copy is killed: small ones are made in a volume by the hundred, with all that belongs to them; a larger one is written
 * without a name (in a directory of this machine: under a temporary one, unless it is small) and gets its name last, in place of what was there. Success means durable.
 *
 * One thread walks the trees and makes directories; workers do the rest. Memory is bounded: names are streamed, a directory's times are set when the last of its
 * entries is done, and hard links are remembered only while some of them are still to come.
 */
#ifndef KS_VOLUME_COPY_H
#define KS_VOLUME_COPY_H

#include "volume/copy_filter.h"
#include "volume/copy_mode.h"
#include "volume/volume.h"

enum {
	KS_COPY_MODE = 1 << 0,
	KS_COPY_OWNER = 1 << 1, /* when root; else silently not */
	KS_COPY_TIMES = 1 << 2,
	KS_COPY_XATTR = 1 << 3,
	KS_COPY_LINKS = 1 << 4, /* hard links stay hard links */
	KS_COPY_ACL = 1 << 5,
	KS_COPY_ALL = (1 << 6) - 1,
};

enum ks_reflink { KS_REFLINK_AUTO, KS_REFLINK_ALWAYS, KS_REFLINK_NEVER };

/* One end of a copy. */
struct ks_copy_end {
	struct ks_volume *volume; /* NULL: this machine */
	const char *label;        /* of the volume, in messages: "photos" */
	const char *path;         /* "-": stdin or stdout */
};

struct ks_copy_opts {
	bool recursive;
	bool follow; /* all symlinks of the source; neither: as cp(1), those named, unless recursive */
	bool no_follow;     /* none */
	bool one_fs;        /* stay on the file system of each source */
	bool update;        /* skip files whose size and mtime are equal */
	bool checksum;      /* skip those whose content is equal, instead */
	bool no_clobber;    /* skip what exists */
	bool no_target_dir; /* the destination is never "into" (cp -T) */
	bool into_dir;      /* the destination must be a directory (cp -t) */
	bool verify;        /* read back and compare */
	bool dry_run;       /* walk and report, write nothing */
	bool compare;       /* look for differences, write nothing */
	bool remove; /* delete from the destination's directories what the source's do not have */
	bool force;  /* also for a source that is empty */
	uint64_t max_delete;        /* most that are deleted; UINT64_MAX: no bound */
	uint64_t max_errors;        /* stop after so many failures; 0: no bound */
	uint64_t rate_out, rate_in; /* bytes a second, out of volumes and into them; 0: no bound */
	unsigned int preserve;      /* KS_COPY_* */
	int64_t uid, gid;           /* owner and group of all that is copied; -1: as else */
	struct ks_mode_change chmod;
	const struct ks_copy_filter *filter; /* borrowed; NULL: nothing is left out */
	enum ks_reflink reflink;
	unsigned int jobs; /* 0: a default */
	/* The same volume opened once more and read-only, for verify: its caches know nothing of what was written. */
	struct ks_volume *verify_volume;

	/* All called one at a time, on any thread. May be NULL. */
	void (*on_item)(void *arg, const char *action, const char *from, const char *to,
			uint64_t bytes);
	void (*on_error)(void *arg, const char *path, const char *op, int err, const char *text,
			 const char *hint);
	bool (*stop)(void *arg); /* polled; true: finish what is under way and return */
	/* A difference that compare found. @why: "missing", "extra", "content", "mode" ... */
	void (*on_difference)(void *arg, const char *path, const char *why);
	/* Before anything is deleted, with how many there are; false: nothing is. NULL: they are not counted first. */
	bool (*may_delete)(void *arg, uint64_t n);
	/* Instead of whole trees: the paths below the one source, one a call; 1: there is one, 0: no more; -errno, raised. */
	int (*next_path)(void *arg, const char **path);
	void *arg;
};

/* Read it with ks_copy_now() while the copy runs. */
struct ks_copy_counts {
	uint64_t files, dirs, symlinks, others, links; /* made (links: further names of a file) */
	uint64_t bytes;                                /* read, written or shared */
	uint64_t skipped, failed;
	uint64_t touched;            /* of those skipped: attributes were set */
	uint64_t deleted, undeleted; /* undeleted: because of max_delete */
	uint64_t different;
	uint64_t acls_lost; /* the destination has no such thing */
	int first_error;    /* -errno of the first failure; 0: none */
};

struct ks_copy;

int ks_copy_new(struct ks_copy **out, const struct ks_copy_opts *o) KS_MUST_CHECK;
/**
 * ks_copy_run() - copy @n sources to @to, by the rules of cp(1)
 *
 * Return: 0 finished, look at the counts; -errno, raised, when nothing could be begun (the destination is not usable), or what was
 * copied could not be made durable; -EINTR stopped.
 */
int ks_copy_run(struct ks_copy *c, const struct ks_copy_end *from, size_t n,
		const struct ks_copy_end *to) KS_MUST_CHECK;
void ks_copy_now(struct ks_copy *c, struct ks_copy_counts *out); /* any thread */
void ks_copy_free(struct ks_copy *c);

#endif
