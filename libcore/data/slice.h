/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.h: a slice while it is written: its states, memory and blocks. Included by data/ only.
 *
 *	state       means                                     may be extended
 *	IDLE        made, nothing in it                       yes
 *	WRITING     a writer has it in hand (slice.writers)   yes
 *	DIRTY       has bytes, nobody writes                  unless frozen
 *	FLUSHING    a flush stores what is left of it         no
 *	COMMITTING  all stored, the host is told              no
 *	DONE        committed or dropped; readers may hold it no
 */
#ifndef KS_DATA_SLICE_H
#define KS_DATA_SLICE_H

#include "base/list.h"
#include "base/slice.h"
#include "base/thread.h"
#include "data/pool.h"

enum slice_state {
	SLICE_IDLE,
	SLICE_WRITING,
	SLICE_DIRTY,
	SLICE_FLUSHING,
	SLICE_COMMITTING,
	SLICE_DONE
};
#define SLICE_STATES 6

enum block_state {
	BLOCK_QUEUED,  /* waits for whoever takes it first */
	BLOCK_RUNNING, /* being written to the store */
	BLOCK_DONE,
	BLOCK_FAILED, /* in err; the next flush queues it again */
	BLOCK_OFF,    /* called off: the slice was dropped */
};

struct block {
	struct ks_job job;
	struct ks_list link;    /* [slice mu] */
	struct block *next_new; /* of the thread that made it, until queued */
	struct slice *s;
	uint32_t idx;           /* constant */
	uint32_t size;          /* constant; bytes of data */
	enum block_state state; /* [slice mu] */
	bool in_queue;          /* [slice mu] the workers hold job, and a reference to the slice */
};

#define SLICE_FEW 4 /* pages whose tables need no memory of their own */

struct slice {
	struct ks_data *d;
	uint64_t ino;
	uint64_t chunk;
	uint32_t pos;    /* within the chunk */
	uint64_t seq;    /* order of making within the file */
	int64_t made_ns; /* monotonic */
	uint32_t refs;   /* atomic: the file's list, readers, queued blocks */

	/* [file mu] */
	struct ks_list link;
	enum slice_state state;
	unsigned int writers;
	bool frozen;
	uint32_t len;    /* bytes written; grows */
	uint32_t sealed; /* bytes that belong to made blocks: immutable */

	/* [d->numbered_mu] */
	struct ks_list numbered;
	unsigned int asking; /* threads on their way to a number */
	uint64_t number;     /* id, once it is there */

	/* [mu] */
	pthread_mutex_t mu;
	pthread_cond_t cv; /* a block ended */
	unsigned int waiting;
	uint64_t id; /* 0 until the first upload */
	struct ks_list blocks;
	struct ks_mem *mem; /* per page; p NULL: not there, or stored and given to the cache */
	uint32_t *sums;     /* per page, once stored */
	uint32_t npages;    /* room in both */
	uint64_t pack, pack_off;
	uint32_t packed_len;         /* of a slice that was put into a pack */
	struct ks_pack_log *in_pack; /* referenced: not dropped before the slice's end */
	int err;                     /* why the last flush failed */
	bool failing;                /* a block failed: no other is tried until the next flush */
	bool unsure;                 /* a commit failed: it may have happened all the same */

	struct ks_mem few_mem[SLICE_FEW];
	uint32_t few_sums[SLICE_FEW];
	struct block few_block; /* the first one */
	bool few_block_used;
};

bool ks_slice_may(enum slice_state from, enum slice_state to);
void ks_slice_set(struct slice *s, enum slice_state to); /* asserts that it may */

struct slice *ks_slice_new(struct ks_data *d, uint64_t ino, uint64_t chunk,
			   uint32_t pos); /* one reference */
struct slice *ks_slice_ref(struct slice *s);
void ks_slice_put(struct slice *s); /* NULL is fine */

/* What a write of [off, off + n) took, to give it back when the write does not happen. */
struct slice_room {
	uint32_t from, to; /* pages that were new */
};
/* Takes all memory that the bytes need. Never waits: -EAGAIN the pool is out; -ENOMEM. Takes mu. */
int ks_slice_prepare(struct slice *s, uint32_t off, uint32_t n,
		     struct slice_room *room) KS_MUST_CHECK;
void ks_slice_unprepare(struct slice *s, const struct slice_room *room);
/* Copies into prepared memory. Takes mu. */
void ks_slice_fill(struct slice *s, uint32_t off, const void *p, uint32_t n);
/* Copies out bytes below what was written; stored pages come through the cache. Takes mu. */
int ks_slice_read(struct slice *s, uint32_t off, void *p, uint32_t n, bool seq) KS_MUST_CHECK;

/* Makes the next block from bytes below @upto; NULL: no memory. Needs file mu (or that nobody writes). */
struct block *ks_slice_seal(struct slice *s, uint32_t upto);
/* Frees what memory it still holds. */
void ks_slice_drop_memory(struct slice *s);

#endif
