/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool.c: pages and pieces of pages.
 *
 * A page is free (on its arena's stack), whole (one piece of 64 KiB), or cut into equal pieces of one class; a cut page with a free piece is on its class's list.
 * Pieces of a class keep to their pages, so that getting and giving back cost the same however full the pool is.
 *
 * One lock guards everything; it is the innermost of all, and nothing is called under it.
 *
 * The first touch of a page costs more than all else that is done with it, many times more on a virtual machine whose host has taken the memory back. So the pool grows
 * in the background: beyond a first few pages, a request takes a page that was touched already, a clean one that is given up if need be,
 * while the warmer, a thread of idle priority, touches pages ahead of the frontier. Only when there is nothing to give up a request touches memory itself.
 */
#include "data/pool.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CLASSES 5 /* 4, 8, 16, 32, 64 KiB */
#define WHOLE (CLASSES - 1)
#define HUGE_SIZE (2 * KS_MIB)
#define COLD_OK (32 * KS_MIB / KS_PAGE_SIZE)    /* pages that requests may touch first */
#define WARM_STEP (HUGE_SIZE / KS_PAGE_SIZE)    /* pages touched at a time */
#define WARM_AHEAD (16 * KS_MIB / KS_PAGE_SIZE) /* how far the warmer runs ahead */
#define NO_PROGRESS_NS (300 * KS_NS_PER_S)

struct page {
	struct ks_list link; /* free, or cut with room */
	uint16_t used;       /* bit per piece */
	uint8_t cls;
};

struct arena {
	uint8_t *base;
	struct page *pages;
	uint64_t n;
	struct ks_list free;         /* [mu] the last one given back first */
	struct ks_list cut[CLASSES]; /* [mu] */
	uint64_t fresh; /* [mu] pages below were used at least once; atomic, also read without */
	uint64_t dirty; /* [mu] units held by writers */
	uint64_t clean; /* [mu] */
	uint64_t dirty_max;
	void *map;
	size_t map_size;
};

/* The thread that touches pages of the memory arena ahead of fresh. It takes no lock, since its priority is the lowest. */
struct warmer {
	pthread_t thread;
	bool on;       /* [mu] */
	bool asleep;   /* atomic: whoever clears it posts */
	bool stop;     /* atomic */
	bool useless;  /* atomic: the kernel cannot, or the thread cannot be had */
	uint64_t upto; /* atomic: pages below are touched */
	sem_t work;
};

struct ks_pool {
	struct warmer warm;
	pthread_mutex_t mu;
	pthread_cond_t moved;
	struct arena mem;
	struct arena spill;
	ks_pool_evict_fn *evict;
	void *arg;
	uint64_t freed;       /* [mu] times something dirty was given back or cleaned */
	uint64_t failures;    /* [mu] */
	int err;              /* [mu] of the last failure */
	unsigned int waiting; /* [mu] */
	uint64_t wanted;      /* [mu] units the most modest of them waits for */
	uint64_t waits;       /* [mu] */
};

static uint32_t class_of(uint32_t bytes)
{
	uint32_t cls = 0;

	while ((KS_UNIT_SIZE << cls) < bytes)
		cls++;
	assert(cls < CLASSES);
	return cls;
}

static int arena_init(struct arena *a, uint64_t bytes, int fd)
{
	size_t align = fd < 0 ? HUGE_SIZE : 0;

	a->n = bytes / KS_PAGE_SIZE;
	a->map_size = a->n * KS_PAGE_SIZE + align;
	a->pages = calloc(a->n, sizeof(*a->pages));
	if (!a->pages)
		return -ENOMEM;
	ks_list_init(&a->free);
	for (int i = 0; i < CLASSES; i++)
		ks_list_init(&a->cut[i]);
	a->map = mmap(NULL, a->map_size, PROT_READ | PROT_WRITE,
		      fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED, fd, 0);
	if (a->map == MAP_FAILED) {
		a->map = NULL;
		return -errno;
	}
	a->base = a->map;
	if (align) {
		a->base += -(uintptr_t)a->map & (align - 1);
		/* One fault for 2 MiB instead of 512; where it is not to be had, small pages do. */
		KS_IGNORE(madvise(a->base, a->n * KS_PAGE_SIZE, MADV_HUGEPAGE));
	}
	/* A core dump holds no file data. */
	KS_IGNORE(madvise(a->map, a->map_size, MADV_DONTDUMP));
	return 0;
}

static void arena_clear(struct arena *a)
{
	if (a->map)
		munmap(a->map, a->map_size);
	free(a->pages);
}

static int spill_open(const char *dir, uint64_t bytes)
{
	KS_AUTO(ks_freep) char *path = NULL;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		path = ks_asprintf("%s/.kiseki-spill-XXXXXX", dir);
		if (!path)
			return -ENOMEM;
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			KS_IGNORE(unlink(path));
	}
	if (fd < 0)
		return ks_fail(-errno, "make a spill file in %s", dir);
	r = posix_fallocate(fd, 0, (off_t)bytes);
	if (r != 0) {
		close(fd);
		return ks_fail(-r, "reserve %ju bytes for a spill file in %s", (uintmax_t)bytes,
			       dir);
	}
	return fd;
}

int ks_pool_open(struct ks_pool **out, uint64_t bytes, const char *spill_dir, uint64_t spill_bytes,
		 ks_pool_evict_fn *evict, void *arg)
{
	struct ks_pool *pool = calloc(1, sizeof(*pool));
	int r;

	if (!pool)
		return -ENOMEM;
	pthread_mutex_init(&pool->mu, NULL);
	r = ks_cond_init(&pool->moved);
	if (r < 0) {
		free(pool);
		return r;
	}
	sem_init(&pool->warm.work, 0, 0);
	pool->evict = evict;
	pool->arg = arg;
	r = arena_init(&pool->mem, bytes, -1);
	if (r < 0)
		ks_fail(r, "reserve a pool of %ju bytes", (uintmax_t)bytes);
	pool->mem.dirty_max = pool->mem.n * (KS_PAGE_SIZE / KS_UNIT_SIZE) / 8 * 7;
	if (r == 0 && spill_dir && spill_bytes >= KS_PAGE_SIZE) {
		int fd = spill_open(spill_dir, spill_bytes);

		r = fd < 0 ? fd : arena_init(&pool->spill, spill_bytes, fd);
		if (fd >= 0)
			close(fd); /* the mapping keeps the file */
		pool->spill.dirty_max = pool->spill.n * (KS_PAGE_SIZE / KS_UNIT_SIZE);
	}
	if (r < 0) {
		ks_pool_close(pool);
		return r;
	}
	*out = pool;
	return 0;
}

void ks_pool_close(struct ks_pool *pool)
{
	if (!pool)
		return;
	if (pool->warm.on) {
		__atomic_store_n(&pool->warm.stop, true, __ATOMIC_RELEASE);
		sem_post(&pool->warm.work);
		pthread_join(pool->warm.thread, NULL);
	}
	sem_destroy(&pool->warm.work);
	arena_clear(&pool->mem);
	arena_clear(&pool->spill);
	pthread_cond_destroy(&pool->moved);
	pthread_mutex_destroy(&pool->mu);
	free(pool);
}

/* Needs mu. NULL: no page is free among those below @limit. */
static struct page *page_take(struct arena *a, uint64_t limit)
{
	struct page *pg = ks_list_first(&a->free, struct page, link);

	if (pg) {
		ks_list_del(&pg->link);
		return pg;
	}
	if (a->fresh >= limit)
		return NULL;
	pg = &a->pages[a->fresh];
	__atomic_store_n(&a->fresh, a->fresh + 1, __ATOMIC_RELAXED);
	ks_list_init(&pg->link);
	return pg;
}

/* Needs mu. */
static bool arena_get(struct arena *a, uint32_t cls, uint64_t limit, struct ks_mem *out)
{
	uint32_t cap = KS_UNIT_SIZE << cls;
	uint32_t full = (1u << (KS_PAGE_SIZE / cap)) - 1;
	struct page *pg =
		cls < WHOLE && a->n ? ks_list_first(&a->cut[cls], struct page, link) : NULL;
	uint32_t piece;

	if (!pg) {
		pg = page_take(a, limit);
		if (!pg)
			return false;
		pg->cls = (uint8_t)cls;
		pg->used = 0;
		if (cls < WHOLE)
			ks_list_add_head(&a->cut[cls], &pg->link);
	}
	piece = (uint32_t)__builtin_ctz(~(uint32_t)pg->used);
	pg->used = (uint16_t)(pg->used | 1u << piece);
	if (pg->used == full && cls < WHOLE)
		ks_list_del(&pg->link);
	out->p = a->base + (uint64_t)(pg - a->pages) * KS_PAGE_SIZE + (size_t)piece * cap;
	out->cap = cap;
	return true;
}

/* Needs mu. */
static void arena_put(struct arena *a, struct ks_mem m)
{
	uint64_t at = (uint64_t)(m.p - a->base);
	struct page *pg = &a->pages[at / KS_PAGE_SIZE];
	uint32_t piece = (uint32_t)(at % KS_PAGE_SIZE) / m.cap;

	assert(m.cap == KS_UNIT_SIZE << pg->cls);
	assert(pg->used & 1u << piece);
	pg->used = (uint16_t)(pg->used & ~(1u << piece));
	if (pg->used == 0) {
		ks_list_del(&pg->link);
		ks_list_add_head(&a->free, &pg->link);
	} else if (ks_list_is_empty(&pg->link)) {
		ks_list_add_head(&a->cut[pg->cls], &pg->link);
	}
}

bool ks_pool_is_spill(const struct ks_pool *pool, struct ks_mem m)
{
	return pool->spill.n && m.p >= pool->spill.base &&
	       m.p < pool->spill.base + pool->spill.n * KS_PAGE_SIZE;
}

static struct arena *arena_of(struct ks_pool *pool, struct ks_mem m)
{
	return ks_pool_is_spill(pool, m) ? &pool->spill : &pool->mem;
}

uint64_t ks_pool_write_max(const struct ks_pool *pool)
{
	return (pool->mem.dirty_max + pool->spill.dirty_max) * KS_UNIT_SIZE;
}

/* ---- the warmer ---- */

static void warm_ahead(struct ks_pool *pool)
{
	struct warmer *w = &pool->warm;

	while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
		uint64_t fresh = __atomic_load_n(&pool->mem.fresh, __ATOMIC_RELAXED);
		uint64_t from = ks_max(w->upto, fresh);
		uint64_t to = ks_min((from / WARM_STEP + 1) * WARM_STEP, pool->mem.n);

		if (from >= pool->mem.n || from - fresh >= WARM_AHEAD)
			return;
		/* Contents stay: requests may have gone past the frontier meanwhile. */
		if (madvise(pool->mem.base + from * KS_PAGE_SIZE, (to - from) * KS_PAGE_SIZE,
			    MADV_POPULATE_WRITE) < 0 &&
		    errno != EINTR) {
			__atomic_store_n(&w->useless, true, __ATOMIC_RELEASE);
			return;
		}
		__atomic_store_n(&w->upto, to, __ATOMIC_RELEASE);
	}
}

static void *warmer_main(void *arg)
{
	struct ks_pool *pool = arg;
	struct sched_param idle = { 0 };

	/* It must not take the processor from those it works for. */
	KS_IGNORE(sched_setscheduler(0, SCHED_IDLE, &idle));
	while (!__atomic_load_n(&pool->warm.stop, __ATOMIC_ACQUIRE)) {
		warm_ahead(pool);
		__atomic_store_n(&pool->warm.asleep, true, __ATOMIC_SEQ_CST);
		while (sem_wait(&pool->warm.work) < 0)
			;
	}
	return NULL;
}

static void warm_wake(struct ks_pool *pool)
{
	struct warmer *w = &pool->warm;
	bool start;

	if (__atomic_load_n(&w->asleep, __ATOMIC_RELAXED) &&
	    __atomic_exchange_n(&w->asleep, false, __ATOMIC_SEQ_CST)) {
		sem_post(&w->work);
		return;
	}
	ks_mutex_lock(&pool->mu);
	start = !w->on && !w->useless;
	w->on = w->on || start;
	ks_mutex_unlock(&pool->mu);
	if (start && ks_thread_start(&w->thread, "ks-warm", warmer_main, pool) < 0) {
		ks_mutex_lock(&pool->mu);
		w->on = false;
		ks_mutex_unlock(&pool->mu);
		__atomic_store_n(&w->useless, true, __ATOMIC_RELEASE);
	}
}

/* The frontier that a request may move to without paying for it. */
static uint64_t warm_limit(struct ks_pool *pool)
{
	uint64_t upto = __atomic_load_n(&pool->warm.upto, __ATOMIC_ACQUIRE);

	if (pool->mem.n <= COLD_OK || __atomic_load_n(&pool->warm.useless, __ATOMIC_ACQUIRE))
		return pool->mem.n;
	return ks_max(upto, (uint64_t)COLD_OK);
}

/* ---- getting and giving back ---- */

static bool try_arena(struct ks_pool *pool, struct arena *a, uint32_t cls, enum ks_pool_use use,
		      uint64_t limit, struct ks_mem *out)
{
	uint64_t units = 1u << cls;

	KS_LOCKED(&pool->mu);
	if (use == KS_POOL_WRITE && a->dirty + units > a->dirty_max)
		return false;
	if (!arena_get(a, cls, limit, out))
		return false;
	if (use == KS_POOL_WRITE)
		a->dirty += units;
	else
		a->clean += units;
	return true;
}

static bool has_allowance(struct ks_pool *pool, uint32_t cls, enum ks_pool_use use)
{
	KS_LOCKED(&pool->mu);
	return use != KS_POOL_WRITE || pool->mem.dirty + (1u << cls) <= pool->mem.dirty_max;
}

bool ks_pool_get(struct ks_pool *pool, uint32_t bytes, enum ks_pool_use use, struct ks_mem *out)
{
	uint32_t cls = class_of(bytes);
	uint64_t limit = warm_limit(pool);

	for (;;) {
		if (try_arena(pool, &pool->mem, cls, use, limit, out))
			return true;
		/* Evicting helps only when memory is what is missing. */
		if (!has_allowance(pool, cls, use))
			break;
		if (limit < pool->mem.n)
			warm_wake(pool);
		if (pool->evict(pool->arg))
			continue;
		if (limit == pool->mem.n)
			break;
		limit = pool->mem.n;
	}
	return use == KS_POOL_WRITE && pool->spill.n &&
	       try_arena(pool, &pool->spill, cls, use, pool->spill.n, out);
}

/* Needs mu. Units that writers may still take. */
static uint64_t room(const struct ks_pool *pool)
{
	return pool->mem.dirty_max - pool->mem.dirty + pool->spill.dirty_max - pool->spill.dirty;
}

/* Needs mu. */
static void moved(struct ks_pool *pool)
{
	pool->freed++;
	/* Not for every page: who needs sixteen would look sixteen times. */
	if (pool->waiting && room(pool) >= pool->wanted)
		pthread_cond_broadcast(&pool->moved);
}

void ks_pool_put(struct ks_pool *pool, struct ks_mem m, enum ks_pool_use use)
{
	struct arena *a = arena_of(pool, m);

	KS_LOCKED(&pool->mu);
	arena_put(a, m);
	if (use == KS_POOL_WRITE) {
		a->dirty -= m.cap / KS_UNIT_SIZE;
		moved(pool);
	} else {
		a->clean -= m.cap / KS_UNIT_SIZE;
	}
}

void ks_pool_clean(struct ks_pool *pool, struct ks_mem m)
{
	struct arena *a = arena_of(pool, m);

	KS_LOCKED(&pool->mu);
	a->dirty -= m.cap / KS_UNIT_SIZE;
	a->clean += m.cap / KS_UNIT_SIZE;
	moved(pool);
}

void ks_pool_watch(struct ks_pool *pool, struct ks_pool_wait *w)
{
	KS_LOCKED(&pool->mu);
	if (w->since_ns == 0 || w->freed != pool->freed) {
		w->since_ns = ks_clock_mono_ns();
		w->failures = pool->failures;
	}
	w->freed = pool->freed;
}

int ks_pool_wait(struct ks_pool *pool, struct ks_pool_wait *w, uint64_t need, int64_t slice_ns,
		 int64_t give_up_ns)
{
	uint64_t units = ks_min(need, ks_pool_write_max(pool)) / KS_UNIT_SIZE;
	int64_t now = ks_clock_mono_ns();
	int64_t until = now + slice_ns;
	int r = 0;

	KS_LOCKED(&pool->mu);
	pool->waits++;
	pool->wanted = pool->waiting++ ? ks_min(pool->wanted, units) : units;
	while ((pool->freed == w->freed || room(pool) < units) && r == 0) {
		/* Progress starts the patience anew. */
		if (pool->freed != w->freed && pool->failures == w->failures)
			w->since_ns = now;
		if (pool->failures != w->failures && now - w->since_ns >= give_up_ns)
			r = pool->err;
		else if (now - w->since_ns >= NO_PROGRESS_NS)
			r = -EIO;
		else if (now >= until)
			r = -EAGAIN;
		else
			ks_cond_wait(&pool->moved, &pool->mu, until);
		now = ks_clock_mono_ns();
	}
	pool->waiting--;
	return r;
}

void ks_pool_failed(struct ks_pool *pool, int err)
{
	KS_LOCKED(&pool->mu);
	pool->failures++;
	pool->err = err;
}

bool ks_pool_has_waiters(struct ks_pool *pool)
{
	KS_LOCKED(&pool->mu);
	return pool->waiting > 0;
}

bool ks_pool_has_room(struct ks_pool *pool, uint64_t bytes)
{
	KS_LOCKED(&pool->mu);
	return pool->waiting == 0 && room(pool) * KS_UNIT_SIZE >= bytes;
}

void ks_pool_stats(struct ks_pool *pool, struct ks_pool_stats *out)
{
	KS_LOCKED(&pool->mu);
	out->total_bytes = (pool->mem.n + pool->spill.n) * KS_PAGE_SIZE;
	out->dirty_bytes = (pool->mem.dirty + pool->spill.dirty) * KS_UNIT_SIZE;
	out->clean_bytes = (pool->mem.clean + pool->spill.clean) * KS_UNIT_SIZE;
	out->free_bytes = out->total_bytes - out->dirty_bytes - out->clean_bytes;
	out->spill_bytes = pool->spill.dirty * KS_UNIT_SIZE;
	out->waits = pool->waits;
}
