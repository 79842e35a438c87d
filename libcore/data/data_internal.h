/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_internal.h: what the files of data/ share.
 *
 * Locks, outermost first; none is held across a call to the store or to the host:
 *	file     ks_file.mu     the file's slices, chunks, maps, sizes, ranges
 *	slice    slice.mu       the slice's memory (copies in and out), its blocks' states, id, checksums
 *	data     ks_data.mu     the list of dirty files, threads being started
 *	pack     ks_pack.mu     which pack is current
 *	numbered ks_data.numbered_mu  which slices have numbers
 *	index    (index.c)      cached checksums of blocks
 *	shard    (page_cache.c) cached pages
 *	pool     (pool.c)       free pages
 * A file's flush turn (ks_file.turn) is a flag, not a lock: it is held across I/O.
 */
#ifndef KS_DATA_DATA_INTERNAL_H
#define KS_DATA_DATA_INTERNAL_H

#include "base/clock.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/thread.h"
#include "data/block.h"
#include "data/data.h"
#include "data/page_cache.h"
#include "data/pool.h"
#include "data/slice.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Counters and reference counts. */
#define ks_atomic_add(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define ks_atomic_sub(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define ks_atomic_load(p) __atomic_load_n((p), __ATOMIC_RELAXED)
/* True for the one that gave back the last reference. */
#define ks_ref_put(p) (__atomic_sub_fetch((p), 1, __ATOMIC_ACQ_REL) == 0)

#define KS_WRITE_PIECE (1 * KS_MIB) /* a longer write is cut; each piece takes its memory at once */
#define KS_PACK_SLICE_MAX (256 * KS_KIB)
#define KS_GET_PAGES 64u     /* most pages of one get */
#define KS_COMMIT_MAX 1000u  /* slices of one commit */
#define KS_SLICES_SOON 4096u /* a file with so many slices is flushed in the background */
#define KS_SLICES_MAX 16384u /* and with so many by the writer */
#define KS_TICK_NS (200 * KS_NS_PER_MS)

struct ks_index;
struct ks_pack;

struct ks_data {
	struct ks_data_opts o; /* constant */
	int64_t give_up_ns; /* a writer on a full pool waits so long for a store that fails; constant */
	struct ks_pool *pool;
	struct ks_pcache *cache;
	struct ks_index *index;
	struct ks_pack *pack; /* NULL: the store cannot append */

	pthread_mutex_t mu;
	pthread_cond_t wake;     /* the flusher has something to do, or must stop */
	pthread_cond_t unpinned; /* a file's background count fell to 0 */
	struct ks_list dirty;    /* [mu] files, the one longest dirty first */
	uint64_t tick;           /* [mu] */
	bool pressure;           /* [mu] a writer waits for memory and nothing is on its way */
	bool soon;               /* [mu] some file has very many slices */
	bool stopping;           /* [mu] */
	bool asleep;             /* [mu] the flusher waits without a timer */
	bool flusher_on;         /* [mu] */
	pthread_t flusher;       /* [mu] */
	struct ks_workers *up;   /* [mu] while NULL */
	struct ks_workers *down; /* [mu] while NULL */

	pthread_mutex_t numbered_mu;
	struct ks_list
		numbered; /* [numbered_mu] slices that have a number, or are asking for one */

	struct ks_spell failing; /* background flushes */
	uint64_t uploading;      /* atomic: blocks queued or being written */
	/* atomic statistics */
	uint64_t uploads, upload_bytes, fetches, fetch_bytes, commits, slices;
};

/* A committed map of one chunk, shared by readers. */
struct cmap {
	uint32_t refs; /* atomic */
	struct ks_chunk_map *m;
};

struct dirty_ext {
	uint32_t pos;
	uint32_t end; /* of what is written */
	struct slice *s;
};

struct fchunk {
	struct ks_hnode node; /* key: the chunk's number */
	/* Uncommitted slices in the order they were made. Those before first_open are frozen. */
	struct dirty_ext *v;
	size_t cap;
	uint32_t n, first_open;
	bool loading;          /* somebody is asking the host for the map */
	struct cmap *map;      /* NULL: not known */
	struct ks_extent *add; /* committed by this file since map was built; sums are owned */
	size_t nadd, cap_add;
};

/* A writer's range, on its stack. In arrival order: one goes ahead when nothing that overlaps it stands before it. */
struct frange {
	uint64_t off, end;
	struct frange *next;
};

struct ks_file {
	struct ks_data *d;
	uint64_t ino;

	struct ks_list dirty_link; /* [d->mu] */
	unsigned int pins;         /* [d->mu] background users */
	uint64_t tick;             /* [d->mu] last seen by the flusher */

	/* All below: [mu] */
	pthread_mutex_t mu;
	pthread_cond_t cv;    /* a range, the turn, a slice's writers or a map's loading ended */
	unsigned int waiting; /* on cv */
	struct frange *ranges;
	struct ks_list slices; /* uncommitted, in the order they were made */
	size_t nslices;
	size_t nopen;      /* of them not frozen */
	uint64_t seq;      /* of the newest slice */
	bool many;         /* the flusher was told that there are very many slices */
	bool turn;         /* a flush or an exclusive operation is on */
	uint64_t tries;    /* flushes that ended */
	uint64_t try_upto; /* what the last one tried */
	int try_err;
	uint64_t size;    /* what readers see */
	uint64_t csize;   /* what is committed */
	bool csize_known; /* no committed data lies at or past csize */
	uint64_t dirty_bytes;
	uint64_t change;     /* newest known */
	uint64_t map_change; /* cached maps are right as of this */
	int64_t mtime_ns;    /* of the last uncommitted write, or 0 */
	int64_t first_ns;    /* monotonic: since when it is dirty */
	int64_t last_ns;     /* monotonic: last write */
	int64_t retry_ns;    /* monotonic: after a failure the background waits until then */
	struct ks_hmap chunks;
	struct fchunk *last; /* looked up last */
	size_t extents;      /* in cached maps */
};

/* ---- file.c ---- */
void ks_file_wait(struct ks_file *f); /* Needs f->mu: sleeps on cv. */
void ks_file_wake(struct ks_file *f); /* Needs f->mu. */
void ks_range_lock(struct ks_file *f,
		   struct frange *r); /* Needs f->mu; may let go of it meanwhile. */
void ks_range_unlock(struct ks_file *f, struct frange *r); /* Needs f->mu. */
struct fchunk *ks_fchunk_get(struct ks_file *f, uint64_t chunk,
			     bool create); /* Needs f->mu. NULL: none, or no memory. */

/* ---- map.c: committed maps of chunks. All need f->mu. ---- */
struct cmap *ks_cmap_ref(struct cmap *m);
void ks_cmap_put(struct cmap *m); /* NULL is fine; needs nothing */
/* The map as of now, referenced; *out NULL: proven empty. Lets go of f->mu while it asks the host. */
int ks_fmap_get(struct ks_file *f, uint64_t chunk, struct cmap **out) KS_MUST_CHECK;
void ks_fmap_drop_all(struct ks_file *f);
/* Slices v were committed, which moved the inode's counter to @change. */
void ks_fmap_commit(struct ks_file *f, struct slice *const *v, size_t n, uint64_t change);

/* ---- upload.c ---- */
/* Before anything is stored: 0, or -ENOSPC, bare. */
int ks_data_may_store(struct ks_data *d) KS_MUST_CHECK;
/* Runs or queues every block that is not stored yet, and waits. The slices are frozen and being flushed. 0 or the first error; each slice has its own in err. */
int ks_upload_slices(struct ks_data *d, struct slice *const *v, size_t n);
void ks_upload_queue(struct ks_data *d, struct block *first); /* linked by next_new */
/* Waits until nothing of @s is being written; what has not begun is called off; what was written is deleted again. */
void ks_upload_cancel(struct slice *s);
int ks_slice_take_id(struct slice *s) KS_MUST_CHECK;
void ks_slice_unnumber(struct slice *s); /* its end: committed, or dropped */
/* Page @i of @s is stored: its memory moves to the cache. Needs s->mu. */
void ks_slice_page_stored(struct slice *s, uint32_t i, uint32_t len);

/* ---- pack.c ---- */
int ks_pack_open(struct ks_pack **out, struct ks_data *d) KS_MUST_CHECK;
void ks_pack_close(struct ks_pack *p);
bool ks_pack_takes(const struct slice *s); /* small, and nothing of it uploaded */
/* A slice's end: no call to the store, which sees it later. NULL is fine. */
void ks_pack_log_leave(struct ks_pack_log *o);
int ks_pack_append(struct ks_pack *p, struct slice *const *v, size_t n) KS_MUST_CHECK;

/* ---- index.c: checksums of blocks, asked from the host once ---- */
int ks_index_open(struct ks_index **out) KS_MUST_CHECK;
void ks_index_close(struct ks_index *x);

/* ---- fetch.c: reading stored pages through the cache ---- */

/* One object's worth of a slice: a block, or a whole packed slice. */
struct ks_src {
	uint64_t slice;
	uint64_t pack;        /* 0: a block object */
	uint64_t base;        /* where the data begins in the object */
	uint32_t idx;         /* number of the block */
	uint32_t first;       /* its first page within the slice */
	uint32_t size;        /* bytes of data */
	const uint32_t *sums; /* one per page; NULL: the index knows */
};
int ks_index_sums(struct ks_data *d, const struct ks_src *src, uint32_t page, uint32_t n,
		  uint32_t *out) KS_MUST_CHECK;
void ks_index_drop(struct ks_index *x, uint64_t slice, uint32_t idx);
/* The source of byte @off of extent @e. */
void ks_src_of_extent(struct ks_src *src, const struct ks_extent *e, uint32_t off);
/* Bytes [off, off + n) of the source. @seq: the reader is a sequential one. */
int ks_src_read(struct ks_data *d, const struct ks_src *src, uint32_t off, uint32_t n, uint8_t *dst,
		bool seq) KS_MUST_CHECK;
/* Loads what is missing of [off, off + n); errors are left to the reader who needs it. */
void ks_src_ahead(struct ks_data *d, const struct ks_src *src, uint32_t off, uint32_t n);

/* ---- prefetch.c ---- */
struct ks_ahead_plan {
	uint64_t from, to; /* to == from: nothing */
};
/* Needs f->mu. @seq: whether this read goes on where the stream was. */
void ks_stream_step(struct ks_file *f, struct ks_stream *st, uint64_t off, size_t n,
		    struct ks_ahead_plan *plan, bool *seq);
void ks_prefetch(struct ks_file *f, const struct ks_ahead_plan *plan);

/* ---- flush.c ---- */
/* Needs f->mu. Commits the slices up to the last one that reached its chunk's end, when all of them are frozen. */
int ks_flush_completed(struct ks_file *f) KS_MUST_CHECK;
void ks_freeze_all(struct ks_file *f); /* Needs f->mu. */
void ks_drop_slices(struct ks_file *f, struct slice **v,
		    size_t n); /* Needs f->mu and the turn; lets go of mu. */

/* ---- flusher.c ---- */
void ks_data_file_dirty(struct ks_file *f);      /* Needs f->mu: its first slice was made. */
void ks_data_file_clean(struct ks_file *f);      /* Needs f->mu: its last slice went. */
void ks_data_file_unpin_wait(struct ks_file *f); /* until no background thread uses it */
void ks_data_pressure(struct ks_data *d);        /* memory is out */
void ks_data_soon(struct ks_data *d);
void ks_data_stop_threads(struct ks_data *d);
/* Starts the threads on first use; NULL: they cannot be had, run the job yourself. */
struct ks_workers *ks_data_uploaders(struct ks_data *d);
struct ks_workers *ks_data_downloaders(struct ks_data *d);

#endif
