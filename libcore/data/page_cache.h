/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_cache.h: clean pages of slices, verified, under (slice, page of the slice). Slices never change, so that an entry is right for ever.
 *
 * Who asks for a page that is not there owns its loading; others wait for it. Included by data/ only.
 */
#ifndef KS_DATA_PAGE_CACHE_H
#define KS_DATA_PAGE_CACHE_H

#include "base/hmap.h"
#include "base/list.h"
#include "data/pool.h"

struct ks_pcache;

enum ks_pentry_state { KS_PAGE_LOADING, KS_PAGE_READY, KS_PAGE_FAILED };

struct ks_pentry {
	struct ks_hnode node; /* [shard] */
	struct ks_list lru;   /* [shard] on a list only when READY and in the table */
	uint64_t slice;
	uint32_t idx;
	uint32_t len;               /* bytes; set before READY, then constant */
	struct ks_mem mem;          /* likewise */
	uint32_t refs;              /* [shard] */
	enum ks_pentry_state state; /* [shard] */
	int err;                    /* [shard] of FAILED */
	bool in_table;              /* [shard] */
	bool used;                  /* [shard] read once */
	bool hot;                   /* [shard] on the protected list */
	bool ahead;                 /* [shard] read ahead and not used yet */
};

enum ks_pcache_found {
	KS_PCACHE_HIT,  /* READY, referenced */
	KS_PCACHE_BUSY, /* somebody is loading it; referenced, ks_pcache_wait() */
	KS_PCACHE_MISS, /* a LOADING entry was made: the caller loads it; referenced */
	KS_PCACHE_NONE, /* no memory for an entry */
};

enum {
	KS_PCACHE_AHEAD =
		1
		<< 0, /* read-ahead is asking: a hit counts for nothing and comes without a reference */
	KS_PCACHE_WITHIN = 1 << 1, /* a sequential reader goes on within a page: not another use */
	KS_PCACHE_ABSENT =
		1 << 2, /* only a miss is of interest: anything else comes without a reference */
};

struct ks_pcache_stats {
	uint64_t hits, misses, ahead, ahead_unused;
	uint64_t ahead_now; /* pages read ahead that wait for their use */
};

int ks_pcache_open(struct ks_pcache **out) KS_MUST_CHECK;
void ks_pcache_close(struct ks_pcache *c);
void ks_pcache_set_pool(struct ks_pcache *c, struct ks_pool *pool);

enum ks_pcache_found ks_pcache_begin(struct ks_pcache *c, uint64_t slice, uint32_t idx,
				     unsigned int flags, struct ks_pentry **out);
/* mem and len were set and the bytes are verified. The reference stays. */
void ks_pcache_ready(struct ks_pcache *c, struct ks_pentry *e);
/* Also gives the reference back. Waiters get @err; -EAGAIN: they should look again. */
void ks_pcache_fail(struct ks_pcache *c, struct ks_pentry *e, int err);
int ks_pcache_wait(struct ks_pcache *c, struct ks_pentry *e);
void ks_pcache_put(struct ks_pcache *c, struct ks_pentry *e);
/* Takes over @m, a clean piece: when it cannot be kept it goes back to the pool. */
void ks_pcache_insert(struct ks_pcache *c, uint64_t slice, uint32_t idx, struct ks_mem m,
		      uint32_t len);
void ks_pcache_drop(struct ks_pcache *c, uint64_t slice, uint32_t first, uint32_t n);
bool ks_pcache_evict(void *c); /* a ks_pool_evict_fn */
void ks_pcache_stats(struct ks_pcache *c, struct ks_pcache_stats *out);
uint64_t ks_pcache_ahead_now(struct ks_pcache *c);

#endif
