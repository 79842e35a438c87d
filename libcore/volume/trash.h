/* SPDX-License-Identifier: Apache-2.0 */
/* trash.h: what lies in the trash, by where it was, and the way back. */
#ifndef KS_VOLUME_TRASH_H
#define KS_VOLUME_TRASH_H

#include "volume/volume.h"
#include <stdatomic.h>

/* What of the trash is meant. */
struct ks_trash_pick {
	uint64_t before; /* only hours before this one; UINT64_MAX: all */
	/*
	 * NULL or "/": all; "/2026-11-21-20": that hour; "/2026-11-21-20/1-17-name": that entry; another path: what was there, and below it.
	 */
	const char *path;
};

/* One of them, for a callback. */
struct ks_trash_item {
	const struct ks_trash_entry *e;
	const char *
		path; /* where it was, seen from now: directories may have been renamed. "?/name": nobody knows any more */
	size_t path_n;
};

struct ks_trash_opts {
	struct ks_trash_pick pick;
	bool dry_run;
	const char *to; /* a directory for what has none to go to any more; NULL */
	bool (*stop)(void *arg);
	/*
	 * ls: an entry. restore: it is back (err 0), or stays; @err: -EEXIST its name is taken, -ENOENT its directory is nowhere, and others. What is older than one of the same
	 * name that came back stays without a word.
	 */
	void (*item)(void *arg, const struct ks_trash_item *i, int err);
	void *arg;
};

struct ks_trash_result {
	_Atomic uint64_t entries, bytes;
	_Atomic uint64_t older;  /* restore: stay, since one removed later has their name */
	_Atomic uint64_t failed; /* restore */
};

/* Oldest hour first. -EINTR stopped; -ENOENT, raised: the path names an hour or an entry, and there is none. */
int ks_trash_ls(struct ks_meta *m, const struct ks_trash_opts *o,
		struct ks_trash_result *out) KS_MUST_CHECK;
/*
 * Puts entries back, newest first: into the directories they were in, which are put back before them where they are in the trash, too. Never over a name that is there; but a directory
 * that is there takes what was in the removed one of the same name. Each in one transaction: stopping leaves nothing half done. Memory grows with the largest hour.
 */
int ks_trash_restore(struct ks_meta *m, const struct ks_trash_opts *o,
		     struct ks_trash_result *out) KS_MUST_CHECK;
/* Frees what is picked; only whole hours are. */
int ks_trash_empty(struct ks_meta *m, const struct ks_trash_opts *o,
		   struct ks_trash_result *out) KS_MUST_CHECK;

#endif
