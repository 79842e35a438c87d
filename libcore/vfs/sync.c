/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sync.c: what makes data survive a power cut, and the background work: the objects of freed slices, packs with little
 * alive in them, what has been in the trash long enough, and a barrier every few seconds.
 *
 * An object goes only when the commit that freed it is on the disk, and the data of what took its place: else a power cut could bring the file back
 * without it. So what is to be deleted is listed first, then comes a barrier, then the deletion.
 *
 * The bitmap of inodes committed since the last sync of the store lets a rename over an existing file know whether the new content is
 * durable. Two inodes on one bit only cost a sync too many.
 */
#include "vfs/internal.h"
#include <stdlib.h>
#include <string.h>

#define BARRIER_NS (5 * KS_NS_PER_S)
#define DELETE_BATCH 32
#define RIPE_MAX 4096
#define DELETE_PAUSE_NS (20 * KS_NS_PER_MS)
#define IDLE_NS KS_NS_PER_S
#define EXPIRE_FIRST_NS (2 * KS_NS_PER_S)
#define EXPIRE_NS (60 * KS_NS_PER_S)
#define EXPIRE_MORE_NS KS_NS_PER_S
#define EXPIRE_STEPS 4 /* hundreds of entries each */
#define PACKS_NS (10 * KS_NS_PER_S)
#define PACKS_MORE_NS KS_NS_PER_S
#define PACKS_BYTES (8 * KS_MIB)
#define FAILED_NS (60 * KS_NS_PER_S)

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
	v->any_unsynced = true;
}

bool ks_unsynced_has(struct ks_vfs *v, ks_ino_t ino)
{
	size_t bit = bit_of(ino);

	KS_LOCKED(&v->unsynced_mu);
	return (v->unsynced[bit / 64] | v->syncing[bit / 64]) & 1ull << bit % 64;
}

/* With the lock: between the two there is a moment when neither says so of what a sync has just begun to care for. */
bool ks_unsynced_any(struct ks_vfs *v)
{
	KS_LOCKED(&v->unsynced_mu);
	return v->any_unsynced || v->nsyncing;
}

/* Moves all bits of @from into @to. */
static void move_bits(uint64_t *to, uint64_t *from)
{
	for (size_t i = 0; i < KS_UNSYNCED_WORDS; i++)
		to[i] |= from[i];
	memset(from, 0, KS_UNSYNCED_WORDS * sizeof(*from));
}

static int store_sync(struct ks_vfs *v, bool all)
{
	/*
	 * In this order: a slice that asks for its number after the first cannot get one below it. Those of make.c, which the data plane does not know, do not count: they are
	 * not committed before they are durable.
	 */
	uint64_t next = ks_meta_next_slice(v->meta);
	uint64_t lowest = ks_data_lowest_slice(v->data);
	int r;

	/* What is committed from now on may be missed by this sync; what was before is cared for, but not durable until it ends. */
	ks_mutex_lock(&v->unsynced_mu);
	move_bits(v->syncing, v->unsynced);
	v->any_unsynced = false;
	__atomic_store_n(&v->unsynced_bytes, 0, __ATOMIC_RELAXED);
	v->nsyncing++;
	ks_mutex_unlock(&v->unsynced_mu);
	r = all ? ks_object_sync_all(v->store) : ks_object_sync(v->store);
	if (r == 0)
		ks_meta_set_durable(v->meta, ks_min(next, lowest));
	KS_LOCKED(&v->unsynced_mu);
	if (r < 0) {
		move_bits(v->unsynced, v->syncing);
		v->any_unsynced = true;
	}
	if (--v->nsyncing == 0)
		memset(v->syncing, 0, sizeof(v->syncing));
	return r;
}

int ks_store_sync(struct ks_vfs *v)
{
	return store_sync(v, false);
}

static int adopt_slice(struct ks_vfs *v, const struct ks_free_item *s)
{
	uint32_t blocks = s->pack ? 1 : ks_blocks_of(s->len, s->block_size);
	char key[KS_KEY_STR];
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < blocks; i++) {
		if (s->pack)
			ks_pack_key(key, s->pack);
		else
			ks_block_key(key, s->slice, i,
				     ks_min(s->block_size, s->len - i * s->block_size));
		r = ks_object_adopt(v->store, key);
	}
	return r;
}

/* What is gone by then has been made durable elsewhere, or nobody needs it any more. */
int ks_adopt_foreign(struct ks_vfs *v, ks_ino_t ino, bool *any)
{
	struct ks_free_item *s = NULL;
	size_t n = 0;
	int r = ks_meta_is_quiet(v->meta) ? 0 : ks_meta_unsettled(v->meta, ino, &s, &n);

	*any = n > 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = adopt_slice(v, &s[i]);
	free(s);
	return r;
}

int ks_vfs_settle(struct ks_vfs *v)
{
	return store_sync(v, true);
}

int ks_vfs_sync_stored(struct ks_vfs *v)
{
	return v->readonly ? 0 : ks_store_sync(v);
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
	r = ks_meta_save_durable(v->meta);
	first = first ? first : r;
	r = ks_meta_sync(v->meta);
	return first ? first : r;
}

/* Data first, then the metadata's log. @all: also what other processes wrote. */
static int barrier(struct ks_vfs *v, bool all)
{
	struct ks_engine_stats st;
	int r = all || ks_unsynced_any(v) ? store_sync(v, all) : 0;

	if (r == 0)
		r = ks_meta_trim(v->meta);
	if (r == 0)
		r = ks_meta_save_durable(v->meta);
	ks_engine_stats(ks_meta_engine(v->meta), &st);
	/* An idle volume leaves its disk alone. */
	if (r < 0 || (st.commits == v->commits_synced && !all))
		return r;
	r = ks_meta_sync(v->meta);
	if (r == 0)
		v->commits_synced = st.commits;
	return r;
}

/* Freed slices on their way: listed, then a barrier, then deleted batch by batch. */
struct ripe {
	struct ks_free_item *v;
	size_t n, at;
	uint64_t after;  /* where the next list begins; 0: with the first */
	bool failed;     /* something could not be deleted since then */
	int64_t next_ns; /* no list before that */
};

/*
 * What cannot be deleted stays in the list. So that it is not in the way of all that is behind it, a list begins where the one before ended; so that it is not tried
 * all the time, there is a pause when the end was reached. kiseki-gc tries it, too, and says what is wrong.
 */
static void list_done(struct ripe *p)
{
	if (p->after)
		return;
	if (p->failed)
		p->next_ns = ks_clock_mono_ns() + FAILED_NS;
	p->failed = false;
}

/* Lists what can go, and makes sure that it can. */
static int ripen(struct ks_vfs *v, struct ripe *p)
{
	uint64_t after = p->after;
	ssize_t n;
	int r;

	p->n = p->at = 0;
	if (!p->v)
		p->v = calloc(RIPE_MAX, sizeof(*p->v));
	if (!p->v)
		return -ENOMEM;
	n = ks_meta_free_list(v->meta, &after, p->v, RIPE_MAX);
	if (n < 0)
		return (int)n;
	r = n ? barrier(v, !ks_meta_is_alone(v->meta)) : 0;
	if (r < 0)
		return r;
	p->n = (size_t)n;
	p->after = after;
	if (n == 0)
		list_done(p);
	return 0;
}

/* Deletes the objects of one batch; how many were confirmed, or -errno. */
static ssize_t delete_batch(struct ks_vfs *v, struct ripe *p)
{
	struct ks_free_item *item = p->v + p->at;
	size_t n = ks_min(p->n - p->at, (size_t)DELETE_BATCH);
	size_t done = 0;
	int r;

	p->at += n;
	for (size_t i = 0; i < n; i++) {
		/* A part of a pack is only counted as dead; packs.c gives it back. */
		r = item[i].pack ? 0
				 : ks_data_delete_slice(v->data, item[i].slice, item[i].len,
							item[i].block_size);
		if (r == 0)
			item[done++] = item[i];
		p->failed = p->failed || r < 0;
	}
	if (n && p->at == p->n)
		list_done(p);
	if (done == 0)
		return n == 0 ? 0 : -EIO;
	r = ks_meta_free_done(v->meta, item, done);
	return r < 0 ? r : (ssize_t)done;
}

static bool nearly_full(struct ks_vfs *v)
{
	struct ks_object_usage u;

	return ks_object_usage(v->store, &u) == 0 && u.total_bytes != UINT64_MAX &&
	       u.free_bytes < u.total_bytes / 10;
}

/* When the trash is looked at next. What goes from it is freed as deleted files are. */
static int64_t expire(struct ks_vfs *v)
{
	struct ks_trash_sum gone = { 0 };
	int r = 1;

	for (int i = 0; i < EXPIRE_STEPS && r > 0; i++)
		r = ks_meta_trash_expire(v->meta, &gone);

	if (r < 0)
		ks_log(KS_LOG_WARN, "trash: what was kept long enough is not freed yet: %s",
		       ks_strerror(-r));
	if (gone.entries)
		ks_log(KS_LOG_INFO, "trash: %ju entries were kept long enough (%ju bytes)",
		       (uintmax_t)gone.entries, (uintmax_t)gone.bytes);
	return ks_clock_mono_ns() + (r > 0 ? EXPIRE_MORE_NS : EXPIRE_NS);
}

/* When the next step over the packs is due. */
static int64_t packs(struct ks_vfs *v)
{
	int r = ks_packs_step(v, PACKS_BYTES);

	return ks_clock_mono_ns() + (r < 0 ? FAILED_NS : r > 0 ? PACKS_MORE_NS : PACKS_NS);
}

/* May a barrier be had for the sake of deletions? Not of every little one while files are being written. */
static bool may_ripen(struct ks_vfs *v, const struct ripe *p, bool due)
{
	if (p->at < p->n || (ks_clock_mono_ns() < p->next_ns && !nearly_full(v)))
		return false;
	return due || nearly_full(v) || (!ks_unsynced_any(v) && ks_meta_is_alone(v->meta));
}

static void *maintain(void *arg)
{
	struct ks_vfs *v = arg;
	int64_t next_packs = ks_clock_mono_ns() + PACKS_NS;
	int64_t next_barrier = ks_clock_mono_ns() + BARRIER_NS;
	int64_t next_expiry = ks_clock_mono_ns() + EXPIRE_FIRST_NS;
	struct ripe ripe = { 0 };

	ks_mutex_lock(&v->maint_mu);
	while (!v->maint_stop) {
		int64_t pause = IDLE_NS;
		bool due = ks_clock_mono_ns() >= next_barrier;

		ks_mutex_unlock(&v->maint_mu);
		/* Failures are logged where they are raised, and the next round tries again. */
		if (v->cleanup && may_ripen(v, &ripe, due))
			KS_IGNORE(ripen(v, &ripe));
		if (delete_batch(v, &ripe) > 0 || ripe.at < ripe.n)
			pause = nearly_full(v) ? 0 : DELETE_PAUSE_NS;
		/* Bounds what a power cut can take: sync(2) never reaches a FUSE file system. */
		if (due) {
			KS_IGNORE(barrier(v, false));
			next_barrier = ks_clock_mono_ns() + BARRIER_NS;
		}
		if (v->cleanup && ks_clock_mono_ns() >= next_packs)
			next_packs = packs(v);
		if (v->cleanup && ks_clock_mono_ns() >= next_expiry)
			next_expiry = expire(v);
		ks_mutex_lock(&v->maint_mu);
		if (!v->maint_stop && pause > 0)
			ks_cond_wait(&v->maint_wake, &v->maint_mu, ks_clock_mono_ns() + pause);
	}
	ks_mutex_unlock(&v->maint_mu);
	free(ripe.v);
	return NULL;
}

int ks_vfs_start_maintenance(struct ks_vfs *v, bool cleanup)
{
	int r;

	if (v->readonly || v->maint_on)
		return 0;
	v->cleanup = cleanup;
	r = ks_thread_start(&v->maint, "ks-maintain", maintain, v);
	v->maint_on = r == 0;
	return r < 0 || !cleanup ? r : ks_compactor_start(v);
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
