/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.h: the one budget of memory for file data: pages of 64 KiB, and smaller pieces cut out of shared pages. Included by data/ only.
 *
 * Memory pages are an anonymous mapping that is touched only as it is used; given back they are reused last-in first-out.
 * An optional second arena lies in an unlinked file and is used by writers when memory is out. Neither ever grows.
 */
#ifndef KS_DATA_POOL_H
#define KS_DATA_POOL_H

#include "base/def.h"
#include <pthread.h>

#define KS_UNIT_SIZE 4096u

/* A piece of the pool. cap is 4, 8, 16, 32 or 64 KiB and p is aligned to 4096; p NULL: none. */
struct ks_mem {
	uint8_t *p;
	uint32_t cap;
};

enum ks_pool_use {
	KS_POOL_WRITE, /* holds bytes that are nowhere else; at most 7/8 of memory, then the spill file */
	KS_POOL_READ, /* can be dropped at any time */
};

struct ks_pool_stats {
	uint64_t total_bytes, dirty_bytes, clean_bytes, free_bytes;
	uint64_t spill_bytes; /* dirty bytes that lie in the spill file */
	uint64_t waits;
};

/* What a waiting writer has seen so far. Zeroed is valid. */
struct ks_pool_wait {
	int64_t since_ns; /* of the last progress; 0: not waiting yet */
	uint64_t freed;
	uint64_t failures;
};

struct ks_pool;

/* Drops one clean piece and returns true, or false: there is none. Called without the pool's lock. */
typedef bool ks_pool_evict_fn(void *arg);

/**
 * ks_pool_open() - reserve the arenas
 * @spill_dir: NULL: none; else the file system of the spill file, which is allocated at once: -ENOSPC here, never SIGBUS later
 */
int ks_pool_open(struct ks_pool **out, uint64_t bytes, const char *spill_dir, uint64_t spill_bytes,
		 ks_pool_evict_fn *evict, void *arg) KS_MUST_CHECK;
void ks_pool_close(struct ks_pool *pool);

/* Never waits; evicts clean pieces. false: nothing to be had (untouched *out). @bytes: at most 64 KiB. */
bool ks_pool_get(struct ks_pool *pool, uint32_t bytes, enum ks_pool_use use, struct ks_mem *out);
/* Gives a piece back; @use: what it was. */
void ks_pool_put(struct ks_pool *pool, struct ks_mem m, enum ks_pool_use use);
/* A written piece is safe elsewhere now: it turns into one for reading. */
void ks_pool_clean(struct ks_pool *pool, struct ks_mem m);
bool ks_pool_is_spill(const struct ks_pool *pool, struct ks_mem m);
uint64_t ks_pool_write_max(const struct ks_pool *pool); /* bytes writers may hold */

/*
 * Waiting for room. A writer calls ks_pool_watch() before it tries; when ks_pool_get() failed, ks_pool_wait() sleeps until something that was dirty was given back and writers may take @need bytes.
 * Return: 0 try again; -EAGAIN nothing for @slice_ns: see to it that something is being flushed, and wait again; or the store's error, when failures were reported
 * (ks_pool_failed()) and nothing moved for @give_up_ns; -EIO after a very long time without either.
 */
void ks_pool_watch(struct ks_pool *pool, struct ks_pool_wait *w);
int ks_pool_wait(struct ks_pool *pool, struct ks_pool_wait *w, uint64_t need, int64_t slice_ns,
		 int64_t give_up_ns) KS_MUST_CHECK;
void ks_pool_failed(struct ks_pool *pool, int err);
bool ks_pool_has_waiters(struct ks_pool *pool);
/* May writers take @bytes now without waiting? As of now, no promise. */
bool ks_pool_has_room(struct ks_pool *pool, uint64_t bytes);

void ks_pool_stats(struct ks_pool *pool, struct ks_pool_stats *out);

#endif
