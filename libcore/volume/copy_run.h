/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_run.h: a copy that is under way; shared by copy.c (operands, life), copy_walk.c (trees, links) and copy_file.c (contents, attributes).
 *
 * Locks: mu guards the queue's length; report_mu is held around the caller's callbacks. Neither is held around anything else.
 */
#ifndef KS_VOLUME_COPY_RUN_H
#define KS_VOLUME_COPY_RUN_H

#include "base/hmap.h"
#include "base/thread.h"
#include "volume/copy_side.h"

struct ks_copy {
	struct ks_copy_opts o;
	struct ks_copy_counts n; /* atomic, each */
	struct ks_workers *workers;
	pthread_mutex_t mu;
	pthread_cond_t less; /* fewer files are waiting */
	unsigned int waiting, waiting_max;
	pthread_mutex_t report_mu;
	struct ks_hmap links; /* the walker's: files whose further names are still to come */
	struct ks_side local, from, to;
	bool to_verify;
	struct ks_side verify;
	uint32_t umask;
	bool root;
	bool stopped; /* atomic */
	dev_t dev;    /* of the source under way, for one_fs; the walker's */
};

/* One entry to be copied. */
struct ks_copy_item {
	struct ks_cdir *from, *to; /* borrowed */
	const char *name, *to_name;
	bool follow;
	struct stat st; /* of the source */
};

#define ks_copy_count(c, field, by)                                                                \
	__atomic_fetch_add(&(c)->n.field, (uint64_t)(by), __ATOMIC_RELAXED)

bool ks_copy_stopped(struct ks_copy *c);
/* Counts and reports a failure: "cannot OP PATH: why". The last raised text of this thread is the why, when there is one. */
void ks_copy_fail(struct ks_copy *c, const char *path, const char *op, int err);
/* The same with a text of its own: "PATH: WHY". */
void ks_copy_refuse(struct ks_copy *c, const char *path, const char *op, int err, const char *why);
void ks_copy_did(struct ks_copy *c, const char *action, const char *from, const char *to,
		 uint64_t bytes);
char *ks_copy_join(const char *dir, const char *name); /* owned; NULL: no memory */

struct ks_cdir *ks_cdir_new(struct ks_copy *c, struct ks_side *side, const char *path);
struct ks_cdir *ks_cdir_get(struct ks_cdir *d);
void ks_cdir_put(
	struct ks_cdir
		*d); /* the last one sets the attributes of a finished destination; NULL is fine */

/* Failures are counted and reported by these; *ino: what was made in a volume. True when something was made. */
bool ks_copy_content(struct ks_copy *c, const struct ks_copy_item *it, ks_ino_t *ino);
bool ks_copy_special(struct ks_copy *c, const struct ks_copy_item *it, ks_ino_t *ino);
/* 0: go on, *exists says over what; 1: nothing to do, or it failed and that was reported. */
int ks_copy_look(struct ks_copy *c, const struct ks_copy_item *it, struct stat *old, bool *exists);
/* What of @st the copy keeps. */
unsigned int ks_copy_what(const struct ks_copy *c);
int ks_copy_xattrs(struct ks_copy *c, const struct ks_node *from, const struct ks_node *to);
void ks_copy_stdout(struct ks_copy *c, struct ks_cdir *dir, const char *name);
void ks_copy_stdin(struct ks_copy *c, struct ks_cdir *dir, const char *name);

/* Copies one entry, of any kind. */
void ks_copy_entry(struct ks_copy *c, struct ks_cdir *from, const char *name, struct ks_cdir *to,
		   const char *to_name, bool follow);
void ks_copy_wait(struct ks_copy *c); /* until no file is waiting */
void ks_copy_links_clear(struct ks_copy *c);

#endif
