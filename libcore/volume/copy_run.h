/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_run.h: a copy that is under way; shared by copy.c (operands, life), copy_walk.c (trees), copy_links.c (further names), copy_batch.c (small files into a volume),
 * copy_sync.c (durability), copy_file.c (contents) and copy_attr.c (what is there already, attributes).
 *
 * Locks: mu guards the queue's length, the spare batches, and the lots on their way to be committed, links_mu the table of files with several names; report_mu is held around the caller's callbacks. None is held around
 * anything else.
 */
#ifndef KS_VOLUME_COPY_RUN_H
#define KS_VOLUME_COPY_RUN_H

#include "base/hmap.h"
#include "base/thread.h"
#include "volume/copy_side.h"

/* Lots of small files pass through it one after another, on a thread of its own. */
struct ks_copy_stage {
	struct ks_copy *c;
	struct ks_job job;
	struct ks_workers *worker;
	struct ks_copy_lot *first, **end; /* [copy.mu] */
	bool on;                          /* [copy.mu] the job runs, or will */
};

/* Syncs of a destination on this machine while it is being filled; see copy_sync.c. */
struct ks_copy_early {
	struct ks_workers *worker; /* NULL: none are had */
	struct ks_job job;
	struct ks_cdir *dir;   /* borrowed */
	uint64_t files, bytes; /* atomic: copied when the last one began */
	bool on;               /* atomic: the job is under way, and err is its own */
	int err;
};

struct ks_copy {
	struct ks_copy_opts o;
	struct ks_copy_counts n; /* atomic, each */
	struct ks_workers *workers;
	pthread_mutex_t mu;
	pthread_cond_t less; /* fewer files are waiting */
	unsigned int waiting, waiting_max;
	unsigned int jobs; /* workers */
	pthread_mutex_t report_mu;
	struct ks_copy_batch *batches;  /* [mu] begun, or empty; nobody works on them */
	struct ks_copy_lot *lots;       /* [mu] empty */
	unsigned int nlots, nlots_free; /* [mu] in all; empty */
	pthread_cond_t lot_free;
	struct ks_copy_stage settles, commits;
	pthread_mutex_t links_mu;
	struct ks_hmap links; /* [links_mu] files whose further names are still to come */
	struct ks_side local, from, to;
	bool to_verify;
	struct ks_copy_early early;
	struct ks_side verify;
	uint32_t umask;
	pthread_mutex_t pace_mu;
	int64_t pace_ns; /* [pace_mu] when the next bytes may come */
	bool root;
	bool stopped; /* atomic */
	dev_t dev;    /* of the source under way, for one_fs; the walker's */
};

/* One entry to be copied. */
struct ks_copy_item {
	struct ks_cdir *from, *to; /* borrowed */
	const char *name, *to_name;
	bool follow;
	struct stat st;      /* of the source; st_nlink 0: only its kind is known, or nothing */
	struct ks_cfile *in; /* the source, open; or NULL */
	const struct ks_whole *whole; /* of a volume, to be read at once; or NULL */
	bool looked, exists;          /* at the destination: what is there? */
	bool current;                 /* what is there needs no copying */
	uint64_t
		further; /* the inode there of which it is to be a further name; 0: it is to be one itself */
	struct stat old; /* that */
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

/* Holds the caller up as long as @n bytes are too many for the limit on the rate. */
void ks_copy_pace(struct ks_copy *c, size_t n);

/* ---- copy_attr.c ---- */

/* Attributes of every new thing, beside what its source is. */
unsigned int ks_copy_what(const struct ks_copy *c);
/* Of a source as they are to be: with another owner or mode, if that is asked for. */
void ks_copy_adjust(const struct ks_copy *c, struct stat *st);
/* Of those in @what: which of @a are not as in @b? */
unsigned int ks_copy_unlike(const struct stat *a, const struct stat *b, unsigned int what);
/* 1: all wanted extended attributes of the source and of what is there are equal; 0; -errno. */
int ks_copy_same_xattrs(struct ks_copy *c, const struct ks_copy_item *it);
/* What the copy of @it gets, which was looked at. */
void ks_copy_plan(const struct ks_copy *c, const struct ks_copy_item *it, struct ks_copy_set *set);
/* Looks at the destination, once. False: nothing to do, or it failed and that was reported. */
bool ks_copy_look(struct ks_copy *c, struct ks_copy_item *it);
bool ks_copy_wants_xattr(const struct ks_copy *c, const char *name);
int ks_copy_xattrs(struct ks_copy *c, const struct ks_node *from, const struct ks_node *to);

/* ---- copy_file.c: failures are counted and reported ---- */

/* True when something was made. */
bool ks_copy_content(struct ks_copy *c, struct ks_copy_item *it);
bool ks_copy_special(struct ks_copy *c, struct ks_copy_item *it);
/* Is the content of what is there that of the source? 1, 0; -ECANCELED: it failed and that was reported, or a stop. */
int ks_copy_same_content(struct ks_copy *c, const struct ks_copy_item *it);
/* Reads back what was just made of @it; false: it is not what it should be. */
bool ks_copy_verify(struct ks_copy *c, const struct ks_copy_item *it);
void ks_copy_stdout(struct ks_copy *c, struct ks_cdir *dir, const char *name);
void ks_copy_stdin(struct ks_copy *c, struct ks_cdir *dir, const char *name);

/* ---- copy_batch.c ---- */

struct ks_copy_batch;
struct ks_copy_batch *ks_batch_take(struct ks_copy *c); /* NULL: none for this target */
void ks_batch_give(struct ks_copy *c, struct ks_copy_batch *b);
/* Takes @it, which was looked at, if it is one for a batch; true: that is done, or it failed and that was reported. */
bool ks_batch_add(struct ks_copy *c, struct ks_copy_batch *b, const struct ks_copy_item *it);
void ks_batch_commit_all(struct ks_copy *c);
int ks_batch_start(struct ks_copy *c) KS_MUST_CHECK;
void ks_batch_stop(struct ks_copy *c);

/* ---- copy_sync.c ---- */

/* Once, when it is known where everything goes. */
void ks_copy_sync_begin(struct ks_copy *c, struct ks_cdir *dir);
void ks_copy_sync_early(struct ks_copy *c); /* any worker, now and then */
/* When all is done. 0; -errno, raised: it is not durable. */
int ks_copy_sync_end(struct ks_copy *c, struct ks_cdir *dir);

/* ---- copy_links.c ---- */

/*
 * A file with several names. True: it is the first, and the caller makes it and calls ks_links_made(); false: it was linked, will be by whoever makes the first, or
 * it failed and that was reported.
 */
bool ks_links_first(struct ks_copy *c, struct ks_copy_item *it);
void ks_links_made(struct ks_copy *c, const struct ks_copy_item *it, bool made);
void ks_links_clear(struct ks_copy *c);

/* ---- copy_compare.c ---- */

void ks_compare_leaf(struct ks_copy *c, struct ks_copy_item *it);
void ks_compare_dir(struct ks_copy *c, const struct ks_copy_item *dir);
void ks_copy_differs(struct ks_copy *c, const char *path, const char *why);

/* ---- copy_delete.c ---- */

/* What the directory that was copied from @it does not have goes from its copy. */
void ks_copy_delete(struct ks_copy *c, const struct ks_copy_item *it);

/* ---- copy_list.c ---- */

/* Copies the paths of next_path below the directory @it. */
void ks_copy_list(struct ks_copy *c, const struct ks_copy_item *it);

/* ---- copy_walk.c ---- */

/* Is @name in the directory @from of the source left out? @st: what is known of it, or NULL. */
bool ks_copy_excluded(struct ks_copy *c, struct ks_cdir *from, const char *name, bool follow,
		      const struct stat *st);
/* A directory and its copy, found or made. False: neither, and that was reported. */
bool ks_pair_open(struct ks_copy *c, const struct ks_copy_item *it, struct ks_cdir **from,
		  struct ks_cdir **to);
void ks_pair_close(struct ks_copy *c, struct ks_cdir *from, struct ks_cdir *to);

/* Copies one entry, of any kind. @st: as of a list; may be NULL. */
void ks_copy_entry(struct ks_copy *c, struct ks_cdir *from, const char *name, struct ks_cdir *to,
		   const char *to_name, bool follow, const struct stat *st);
/* One that is no directory. @b may be NULL. */
void ks_copy_leaf(struct ks_copy *c, struct ks_copy_item *it, struct ks_copy_batch *b);
void ks_copy_send(struct ks_copy *c, struct ks_cdir *from); /* what was collected of it */
void ks_copy_wait(struct ks_copy *c);                       /* until all that was begun is done */

#endif
