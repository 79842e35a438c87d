/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page_cache.c: a hash table and a segmented LRU, in shards by page.
 *
 * A new page goes on probation; read a second time it is protected; the protected part is at most three quarters of a shard, its coldest page goes
 * back on probation. Victims come from the cold end of probation. So one scan, which uses every page once, leaves the protected part alone.
 *
 *	state    in table  list       refs
 *	LOADING  yes       none       the loader's, and one per waiter
 *	READY    yes       probation  readers'; with none it may be evicted
 *	                   or hot
 *	READY    no        none       readers' (dropped meanwhile): the last one frees
 *	FAILED   no        none       waiters': the last one frees
 *
 * Each shard's lock guards its table, lists and entries; under it only the pool's lock is taken.
 */
#include "data/page_cache.h"
#include "base/thread.h"
#include "data/data_internal.h"

#define SHARDS 16u
#define TRIES 16 /* entries looked at for a victim per list */

struct shard {
	pthread_mutex_t mu;
	pthread_cond_t loaded;
	struct ks_hmap map;        /* [mu] */
	struct ks_list probation;  /* [mu] newest first */
	struct ks_list hot;        /* [mu] newest first */
	size_t n_ready;            /* [mu] on either list */
	size_t n_hot;              /* [mu] */
	struct ks_pcache_stats st; /* [mu]; ahead_now is kept by the cache */
} __attribute__((aligned(64)));

struct ks_pcache {
	struct ks_pool *pool;
	uint32_t turn;      /* atomic: the shard that gives the next victim */
	uint64_t ahead_now; /* atomic */
	struct shard shards[SHARDS];
};

static uint64_t key_of(uint64_t slice, uint32_t idx)
{
	return slice << 10 ^ idx;
}

static struct shard *shard_of(struct ks_pcache *c, uint64_t key)
{
	return &c->shards[ks_mix64(key) >> 60 & (SHARDS - 1)];
}

static struct shard *shard_of_entry(struct ks_pcache *c, const struct ks_pentry *e)
{
	return shard_of(c, key_of(e->slice, e->idx));
}

int ks_pcache_open(struct ks_pcache **out)
{
	struct ks_pcache *c = aligned_alloc(64, sizeof(*c));

	if (!c)
		return -ENOMEM;
	memset(c, 0, sizeof(*c));
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];

		pthread_mutex_init(&s->mu, NULL);
		pthread_cond_init(&s->loaded, NULL);
		ks_list_init(&s->probation);
		ks_list_init(&s->hot);
	}
	*out = c;
	return 0;
}

void ks_pcache_set_pool(struct ks_pcache *c, struct ks_pool *pool)
{
	c->pool = pool;
}

static void entry_free(struct ks_pcache *c, struct ks_pentry *e)
{
	if (e->mem.p)
		ks_pool_put(c->pool, e->mem, KS_POOL_READ);
	free(e);
}

/* Needs s->mu. Takes @e out of the table and the lists. */
static void unlink_entry(struct ks_pcache *c, struct shard *s, struct ks_pentry *e)
{
	if (e->in_table)
		ks_hmap_remove(&s->map, &e->node);
	e->in_table = false;
	if (!ks_list_is_empty(&e->lru)) {
		ks_list_del(&e->lru);
		s->n_ready--;
		s->n_hot -= e->hot;
	}
	if (e->ahead) {
		e->ahead = false;
		s->st.ahead_unused++;
		ks_atomic_sub(&c->ahead_now, 1);
	}
}

void ks_pcache_close(struct ks_pcache *c)
{
	if (!c)
		return;
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];
		struct ks_hnode *n;

		while ((n = ks_hmap_next(&s->map, NULL))) {
			struct ks_pentry *e = ks_container_of(n, struct ks_pentry, node);

			assert(e->refs == 0);
			unlink_entry(c, s, e);
			entry_free(c, e);
		}
		ks_hmap_clear(&s->map);
		pthread_cond_destroy(&s->loaded);
		pthread_mutex_destroy(&s->mu);
	}
	free(c);
}

/* Needs s->mu. */
static struct ks_pentry *find(struct shard *s, uint64_t slice, uint32_t idx)
{
	struct ks_hnode *n = ks_hmap_find(&s->map, key_of(slice, idx));

	for (; n; n = ks_hmap_find_next(n)) {
		struct ks_pentry *e = ks_container_of(n, struct ks_pentry, node);

		if (e->slice == slice && e->idx == idx)
			return e;
	}
	return NULL;
}

/* Needs s->mu. A reader uses @e. */
static void touch(struct ks_pcache *c, struct shard *s, struct ks_pentry *e, bool within)
{
	if (e->ahead) {
		e->ahead = false;
		ks_atomic_sub(&c->ahead_now, 1);
	}
	if (!e->used) {
		e->used = true;
		return;
	}
	if (within)
		return;
	ks_list_del(&e->lru);
	ks_list_add_head(&s->hot, &e->lru);
	s->n_hot += !e->hot;
	e->hot = true;
	if (s->n_hot > s->n_ready / 4 * 3 + 1) {
		struct ks_pentry *cold = ks_list_last(&s->hot, struct ks_pentry, lru);

		ks_list_del(&cold->lru);
		ks_list_add_head(&s->probation, &cold->lru);
		cold->hot = false;
		s->n_hot--;
	}
}

static struct ks_pentry *entry_new(uint64_t slice, uint32_t idx)
{
	struct ks_pentry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->slice = slice;
	e->idx = idx;
	ks_list_init(&e->lru);
	return e;
}

enum ks_pcache_found ks_pcache_begin(struct ks_pcache *c, uint64_t slice, uint32_t idx,
				     unsigned int flags, struct ks_pentry **out)
{
	struct shard *s = shard_of(c, key_of(slice, idx));
	bool ref = !(flags & (KS_PCACHE_AHEAD | KS_PCACHE_ABSENT));
	struct ks_pentry *e;

	KS_LOCKED(&s->mu);
	e = find(s, slice, idx);
	if (e) {
		e->refs += ref;
		*out = e;
		if (e->state != KS_PAGE_READY)
			return KS_PCACHE_BUSY;
		if (ref) {
			s->st.hits++;
			touch(c, s, e, flags & KS_PCACHE_WITHIN);
		}
		return KS_PCACHE_HIT;
	}
	e = entry_new(slice, idx);
	if (!e || ks_hmap_insert(&s->map, &e->node, key_of(slice, idx)) < 0) {
		free(e);
		return KS_PCACHE_NONE;
	}
	e->in_table = true;
	e->refs = 1;
	if (flags & KS_PCACHE_AHEAD) {
		e->ahead = true;
		s->st.ahead++;
		ks_atomic_add(&c->ahead_now, 1);
	} else {
		e->used = true;
		s->st.misses++;
	}
	*out = e;
	return KS_PCACHE_MISS;
}

/* Needs s->mu. */
static void make_ready(struct shard *s, struct ks_pentry *e)
{
	e->state = KS_PAGE_READY;
	if (e->in_table) {
		ks_list_add_head(&s->probation, &e->lru);
		s->n_ready++;
	}
}

void ks_pcache_ready(struct ks_pcache *c, struct ks_pentry *e)
{
	struct shard *s = shard_of_entry(c, e);

	KS_LOCKED(&s->mu);
	make_ready(s, e);
	/* The loader and nobody else: nobody waits. */
	if (e->refs > 1)
		pthread_cond_broadcast(&s->loaded);
}

void ks_pcache_fail(struct ks_pcache *c, struct ks_pentry *e, int err)
{
	struct shard *s = shard_of_entry(c, e);

	KS_LOCKED(&s->mu);
	unlink_entry(c, s, e);
	e->state = KS_PAGE_FAILED;
	e->err = err;
	if (--e->refs == 0)
		entry_free(c, e);
	else
		pthread_cond_broadcast(&s->loaded);
}

int ks_pcache_wait(struct ks_pcache *c, struct ks_pentry *e)
{
	struct shard *s = shard_of_entry(c, e);

	KS_LOCKED(&s->mu);
	while (e->state == KS_PAGE_LOADING)
		ks_cond_wait(&s->loaded, &s->mu, -1);
	if (e->state == KS_PAGE_FAILED)
		return e->err;
	s->st.hits++;
	if (e->in_table)
		touch(c, s, e, true);
	return 0;
}

void ks_pcache_put(struct ks_pcache *c, struct ks_pentry *e)
{
	struct shard *s = shard_of_entry(c, e);

	KS_LOCKED(&s->mu);
	if (--e->refs == 0 && !e->in_table)
		entry_free(c, e);
}

void ks_pcache_insert(struct ks_pcache *c, uint64_t slice, uint32_t idx, struct ks_mem m,
		      uint32_t len)
{
	struct shard *s = shard_of(c, key_of(slice, idx));
	struct ks_pentry *e = entry_new(slice, idx);

	KS_LOCKED(&s->mu);
	if (!e || find(s, slice, idx) ||
	    ks_hmap_insert(&s->map, &e->node, key_of(slice, idx)) < 0) {
		ks_pool_put(c->pool, m, KS_POOL_READ);
		free(e);
		return;
	}
	e->in_table = true;
	e->mem = m;
	e->len = len;
	make_ready(s, e);
}

void ks_pcache_drop(struct ks_pcache *c, uint64_t slice, uint32_t first, uint32_t n)
{
	for (uint32_t i = first; i < first + n; i++) {
		struct shard *s = shard_of(c, key_of(slice, i));
		struct ks_pentry *e;

		KS_LOCKED(&s->mu);
		e = find(s, slice, i);
		/* What is being loaded is left to its loader; it will age away. */
		if (e && e->state == KS_PAGE_READY) {
			unlink_entry(c, s, e);
			if (e->refs == 0)
				entry_free(c, e);
		}
	}
}

/* Needs s->mu. */
static bool evict_from(struct ks_pcache *c, struct shard *s, struct ks_list *list)
{
	struct ks_list *at = list->prev;

	for (int i = 0; i < TRIES && at != list; i++, at = at->prev) {
		struct ks_pentry *e = ks_list_entry(at, struct ks_pentry, lru);

		if (e->refs == 0) {
			unlink_entry(c, s, e);
			entry_free(c, e);
			return true;
		}
	}
	return false;
}

bool ks_pcache_evict(void *arg)
{
	struct ks_pcache *c = arg;

	/* Every shard's probation before any shard's protected part. */
	for (int hot = 0; hot < 2; hot++) {
		for (uint32_t i = 0; i < SHARDS; i++) {
			struct shard *s = &c->shards[ks_atomic_add(&c->turn, 1) % SHARDS];

			KS_LOCKED(&s->mu);
			if (evict_from(c, s, hot ? &s->hot : &s->probation))
				return true;
		}
	}
	return false;
}

uint64_t ks_pcache_ahead_now(struct ks_pcache *c)
{
	return ks_atomic_load(&c->ahead_now);
}

void ks_pcache_stats(struct ks_pcache *c, struct ks_pcache_stats *out)
{
	*out = (struct ks_pcache_stats){ .ahead_now = ks_pcache_ahead_now(c) };
	for (uint32_t i = 0; i < SHARDS; i++) {
		struct shard *s = &c->shards[i];

		KS_LOCKED(&s->mu);
		out->hits += s->st.hits;
		out->misses += s->st.misses;
		out->ahead += s->st.ahead;
		out->ahead_unused += s->st.ahead_unused;
	}
}
