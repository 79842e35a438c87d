/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gc.h: gives back the room of what nobody refers to any more.
 *
 *	trash	  what has been in the trash longer than the volume keeps it
 *	sessions  what dead sessions left: claims, files that were open without a name
 *	pending	  objects of slices that lost their last reference, and packs in which nothing lives
 *	orphans	  objects that no metadata knows: of uploads that were never committed
 *
 * Safe by construction. The marker in the store has been compared with the metadata when the volume was opened. The sessions are read first, then the
 * objects are listed, then the references are read: what is written after a step is younger than it. Nothing is deleted unless all of
 * that succeeded without an error. An object younger than the grace period is kept; so is, however old, one that a living session may have
 * uploaded and not committed yet; and each is looked up once more before it goes.
 */
#ifndef KS_VOLUME_GC_H
#define KS_VOLUME_GC_H

#include "volume/maint.h"

enum {
	KS_GC_SESSIONS = 1 << 0,
	KS_GC_PENDING = 1 << 1,
	KS_GC_ORPHANS = 1 << 2,
	KS_GC_TRASH = 1 << 3,
	KS_GC_ALL = 15,
};

#define KS_GC_GRACE_DEFAULT_NS (24 * 3600 * INT64_C(1000000000))
#define KS_GC_GRACE_MIN_NS (3600 * INT64_C(1000000000))
#define KS_GC_CEILING 1000u /* objects; fewer orphans are never suspicious */

struct ks_gc_count {
	uint64_t objects, bytes;
};

struct ks_gc_result {
	uint64_t scanned_objects, scanned_slices;
	struct ks_gc_count pending, packs, orphans; /* to be deleted */
	struct ks_trash_sum expired, kept;          /* in the trash */
	struct ks_gc_count young;                   /* kept: younger than the grace period */
	struct ks_gc_count live;    /* kept: a living session may still commit them */
	struct ks_gc_count waiting; /* pending, but a session has not passed the epoch yet */
	uint64_t unknown;           /* objects whose names are not Kiseki's: never touched */
	uint64_t dead_sessions;
	uint64_t deleted_files; /* without a name, that wait for their session to close them */
	uint64_t deleted_objects, deleted_bytes, failed;
	bool limited; /* stopped at a limit, or asked to stop */
};

struct ks_gc_opts {
	unsigned int what;   /* KS_GC_*; 0: all */
	bool dry_run;        /* the volume may then be open for reading only */
	bool force;          /* no ceiling */
	int64_t grace_ns;    /* objects' age below which they are never touched */
	uint64_t max_delete; /* objects; 0: no limit */
	int64_t deadline_ns; /* on ks_clock_mono_ns(); 0: none */
	int64_t wait_ns;     /* how long sessions are waited for to pass an epoch; 0: 3 s */
	const char *tmpdir;
	bool (*stopped)(void *arg);
	/* An object was deleted, or would be; @why: "pending", "pack", "orphan". May be NULL. */
	void (*item)(void *arg, const char *key, uint64_t bytes, const char *why);
	/* One could not be deleted, and why is raised; it may come more than once. May be NULL. */
	void (*failed)(void *arg, const char *key, int err);
	/* Called now and then, on the calling thread. */
	void (*progress)(void *arg, const char *what, uint64_t done, uint64_t total);
	void *arg;
};

/**
 * ks_gc() - collect
 *
 * @m must be open for writing and have a session of its own (ks_meta_session_start()), unless it is a dry run.
 * Return: 0, also when objects could not be deleted (r->failed); -EDQUOT the ceiling: nothing was deleted; -errno: an enumeration failed, nothing
 * was deleted. Raised.
 */
int ks_gc(struct ks_maint *m, const struct ks_gc_opts *o, struct ks_gc_result *out) KS_MUST_CHECK;

#endif
