/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c: what makes data survive a power cut, and the background work: the objects of freed slices, packs with little
 * alive in them, and a barrier every few seconds.
 *
 * The bitmap of inodes committed since the last sync of the store lets a rename over an existing file know whether the new content is
 * durable. Two inodes on one bit only cost a sync too many.
 */
#include "vfs/internal.h"
#include <string.h>

#define BARRIER_NS (5 * KS_NS_PER_S)
#define DELETE_BATCH 32
#define DELETE_PAUSE_NS (20 * KS_NS_PER_MS)
#define IDLE_NS KS_NS_PER_S
#define PACKS_NS (10 * KS_NS_PER_S)
#define PACKS_MORE_NS KS_NS_PER_S
#define PACKS_FAILED_NS (60 * KS_NS_PER_S)
#define PACKS_BYTES (8 * KS_MIB)

static size_t bit_of(ks_ino_t ino)
{
	return ks_mix64(ino) % (KS_UNSYNCED_WORDS * 64);
}

void ks_unsynced_add(struct ks_vfs *v, ks_ino_t ino, uint64_t bytes)
{
	size_t bit = bit_of(ino);

	__atomic_add_fetch(&v->unsynced_bytes, bytes, __ATOMIC_RELAXED);
	KS_LOCKED(&v->unsynced_mu);
	v->unsynced[bit / 64] |= 1ull << bit % 64;
	__atomic_store_n(&v->any_unsynced, true, __ATOMIC_RELAXED);
}

bool ks_unsynced_has(struct ks_vfs *v, ks_ino_t ino)
{
	size_t bit = bit_of(ino);

	KS_LOCKED(&v->unsynced_mu);
	return (v->unsynced[bit / 64] | v->syncing[bit / 64]) & 1ull << bit % 64;
}

bool ks_unsynced_any(struct ks_vfs *v)
{
	return __atomic_load_n(&v->any_unsynced, __ATOMIC_RELAXED) ||
	       __atomic_load_n(&v->nsyncing, __ATOMIC_RELAXED);
}

/* Moves all bits of @from into @to. */
static void move_bits(uint64_t *to, uint64_t *from)
{
	for (size_t i = 0; i < KS_UNSYNCED_WORDS; i++)
		to[i] |= from[i];
	memset(from, 0, KS_UNSYNCED_WORDS * sizeof(*from));
}

int ks_store_sync(struct ks_vfs *v)
{
	int r;

	/* What is committed from now on may be missed by this sync; what was before is cared for, but not durable until it ends. */
	ks_mutex_lock(&v->unsynced_mu);
	move_bits(v->syncing, v->unsynced);
	__atomic_store_n(&v->any_unsynced, false, __ATOMIC_RELAXED);
	__atomic_store_n(&v->unsynced_bytes, 0, __ATOMIC_RELAXED);
	__atomic_add_fetch(&v->nsyncing, 1, __ATOMIC_RELAXED);
	ks_mutex_unlock(&v->unsynced_mu);
	r = ks_object_sync(v->store);
	KS_LOCKED(&v->unsynced_mu);
	if (r < 0) {
		move_bits(v->unsynced, v->syncing);
		__atomic_store_n(&v->any_unsynced, true, __ATOMIC_RELAXED);
	}
	if (__atomic_sub_fetch(&v->nsyncing, 1, __ATOMIC_RELAXED) == 0)
		memset(v->syncing, 0, sizeof(v->syncing));
	return r;
}

int ks_vfs_syncfs(struct ks_vfs *v)
{
	int r, first = 0;

	if (v->readonly)
		return 0;
	first = ks_data_flush_all(v->data);
	/* What could be flushed shall be durable all the same. */
	r = ks_store_sync(v);
	first = first ? first : r;
	r = ks_meta_sync(v->meta);
	return first ? first : r;
}

/* Bounds what a power cut can take: data first, then the metadata's log. sync(2) never reaches a FUSE file system. */
static void barrier(struct ks_vfs *v)
{
	/* Failures are logged where they are raised, and the next barrier tries again. */
	if (ks_unsynced_any(v) && ks_store_sync(v) == 0)
		KS_IGNORE(ks_meta_sync(v->meta));
}

/* Deletes the objects of one batch; how many were confirmed, or -errno. */
static ssize_t delete_batch(struct ks_vfs *v)
{
	struct ks_free_item items[DELETE_BATCH];
	ssize_t n = ks_meta_free_list(v->meta, items, DELETE_BATCH);
	size_t done = 0;
	int r;

	for (ssize_t i = 0; i < n; i++) {
		/* A part of a pack is only counted as dead; packs.c gives it back. */
		r = items[i].pack ? 0
				  : ks_data_delete_slice(v->data, items[i].slice, items[i].len,
							 items[i].block_size);
		if (r == 0)
			items[done++] = items[i];
	}
	if (n <= 0 || done == 0)
		return n <= 0 ? n : -EIO;
	r = ks_meta_free_done(v->meta, items, done);
	return r < 0 ? r : (ssize_t)done;
}

static bool nearly_full(struct ks_vfs *v)
{
	struct ks_object_usage u;

	return ks_object_usage(v->store, &u) == 0 && u.total_bytes != UINT64_MAX &&
	       u.free_bytes < u.total_bytes / 10;
}

/* When the next step over the packs is due. */
static int64_t packs(struct ks_vfs *v)
{
	int r = ks_packs_step(v, PACKS_BYTES);

	return ks_clock_mono_ns() + (r < 0 ? PACKS_FAILED_NS : r > 0 ? PACKS_MORE_NS : PACKS_NS);
}

static void *maintain(void *arg)
{
	struct ks_vfs *v = arg;
	int64_t next_packs = ks_clock_mono_ns() + PACKS_NS;
	int64_t next_barrier = ks_clock_mono_ns() + BARRIER_NS;

	ks_mutex_lock(&v->maint_mu);
	while (!v->maint_stop) {
		int64_t pause = IDLE_NS;
		ssize_t n;

		ks_mutex_unlock(&v->maint_mu);
		n = delete_batch(v);
		if (n > 0)
			pause = nearly_full(v) ? 0 : DELETE_PAUSE_NS;
		if (ks_clock_mono_ns() >= next_barrier) {
			barrier(v);
			next_barrier = ks_clock_mono_ns() + BARRIER_NS;
		}
		if (ks_clock_mono_ns() >= next_packs)
			next_packs = packs(v);
		ks_mutex_lock(&v->maint_mu);
		if (!v->maint_stop && pause > 0)
			ks_cond_wait(&v->maint_wake, &v->maint_mu, ks_clock_mono_ns() + pause);
	}
	ks_mutex_unlock(&v->maint_mu);
	return NULL;
}

int ks_vfs_start_maintenance(struct ks_vfs *v)
{
	int r;

	if (v->readonly || v->maint_on)
		return 0;
	r = ks_thread_start(&v->maint, "ks-maintain", maintain, v);
	v->maint_on = r == 0;
	return r;
}

void ks_maint_stop(struct ks_vfs *v)
{
	if (!v->maint_on)
		return;
	ks_mutex_lock(&v->maint_mu);
	v->maint_stop = true;
	pthread_cond_broadcast(&v->maint_wake);
	ks_mutex_unlock(&v->maint_mu);
	pthread_join(v->maint, NULL);
	v->maint_on = false;
}
