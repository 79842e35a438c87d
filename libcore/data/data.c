/* SPDX-License-Identifier: Apache-2.0 */
/* data.c: the data plane of a volume: options, opening and closing, statistics, deletion of objects. */
#include "data/data_internal.h"

#define BUFFER_DEFAULT (256 * KS_MIB)
#define BUFFER_MIN (1 * KS_MIB)
#define AHEAD_DEFAULT (16 * KS_MIB)
#define AHEAD_MAX (1 * KS_GIB)
#define GIVE_UP_NS (2 * KS_NS_PER_S)
#define DELETE_BATCH 64

static int set_options(struct ks_data *d, const struct ks_data_opts *o)
{
	struct ks_data_opts *x = &d->o;

	*x = *o;
	x->block_size = o->block_size ? o->block_size : (uint32_t)KS_BLOCK_DEFAULT;
	x->buffer_bytes = o->buffer_bytes ? o->buffer_bytes : BUFFER_DEFAULT;
	x->readahead_bytes = o->readahead_bytes ? o->readahead_bytes : AHEAD_DEFAULT;
	if (x->readahead_bytes == UINT64_MAX)
		x->readahead_bytes = 0;
	x->readahead_bytes = ks_min(x->readahead_bytes, AHEAD_MAX);
	x->uploads = o->uploads ? o->uploads : 4;
	x->downloads = o->downloads ? o->downloads : 4;
	x->flush_idle_ns = o->flush_idle_ns ? o->flush_idle_ns : KS_NS_PER_S;
	x->flush_age_ns = o->flush_age_ns ? o->flush_age_ns : 5 * KS_NS_PER_S;
	x->open_slices = o->open_slices ? o->open_slices : 8;
	d->give_up_ns = GIVE_UP_NS;
	if (x->block_size < KS_BLOCK_MIN || x->block_size > KS_BLOCK_MAX ||
	    (x->block_size & (x->block_size - 1)))
		return ks_fail(
			-EINVAL,
			"a block size of %u bytes is none: a power of two from 64 KiB to 16 MiB is",
			x->block_size);
	if (x->buffer_bytes < BUFFER_MIN)
		return ks_fail(-EINVAL, "a buffer of %ju bytes is too small: 1 MiB at least",
			       (uintmax_t)x->buffer_bytes);
	return 0;
}

static void data_free(struct ks_data *d)
{
	ks_pack_close(d->pack);
	ks_pcache_close(d->cache);
	ks_index_close(d->index);
	ks_pool_close(d->pool);
	pthread_cond_destroy(&d->wake);
	pthread_cond_destroy(&d->unpinned);
	pthread_mutex_destroy(&d->numbered_mu);
	pthread_mutex_destroy(&d->mu);
	free(d);
}

int ks_data_open(struct ks_data **out, const struct ks_data_opts *o)
{
	struct ks_data *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->mu, NULL);
	pthread_mutex_init(&d->numbered_mu, NULL);
	ks_list_init(&d->numbered);
	pthread_cond_init(&d->unpinned, NULL);
	ks_list_init(&d->dirty);
	r = ks_cond_init(&d->wake);
	if (r < 0) {
		pthread_mutex_destroy(&d->mu);
		free(d);
		return r;
	}
	r = set_options(d, o);
	if (r == 0)
		r = ks_index_open(&d->index);
	if (r == 0)
		r = ks_pcache_open(&d->cache);
	if (r == 0)
		r = ks_pool_open(&d->pool, d->o.buffer_bytes, o->spill_dir, o->spill_bytes,
				 ks_pcache_evict, d->cache);
	if (r == 0 && !o->readonly && !o->no_packs && ks_object_can_append(o->store))
		r = ks_pack_open(&d->pack, d);
	if (r < 0) {
		data_free(d);
		return r;
	}
	ks_pcache_set_pool(d->cache, d->pool);
	*out = d;
	return 0;
}

int ks_data_close(struct ks_data *d)
{
	int r;

	if (!d)
		return 0;
	r = ks_data_flush_all(d);
	ks_data_stop_threads(d);
	assert(ks_list_is_empty(&d->dirty));
	data_free(d);
	return r;
}

bool ks_data_write_waits(struct ks_data *d, size_t n)
{
	/* A page at each end, and those of a slice that is just begun. */
	return !ks_pool_has_room(d->pool, n + 4 * KS_PAGE_SIZE);
}

void ks_data_stats(struct ks_data *d, struct ks_data_stats *out)
{
	struct ks_pool_stats ps;
	struct ks_pcache_stats cs;

	ks_pool_stats(d->pool, &ps);
	ks_pcache_stats(d->cache, &cs);
	*out = (struct ks_data_stats){
		.pool_bytes = ps.total_bytes,
		.dirty_bytes = ps.dirty_bytes,
		.clean_bytes = ps.clean_bytes,
		.free_bytes = ps.free_bytes,
		.uploads = ks_atomic_load(&d->uploads),
		.upload_bytes = ks_atomic_load(&d->upload_bytes),
		.fetches = ks_atomic_load(&d->fetches),
		.fetch_bytes = ks_atomic_load(&d->fetch_bytes),
		.page_hits = cs.hits,
		.page_misses = cs.misses,
		.readahead_pages = cs.ahead,
		.readahead_unused = cs.ahead_unused,
		.commits = ks_atomic_load(&d->commits),
		.slices = ks_atomic_load(&d->slices),
		.waits = ps.waits,
	};
}

int ks_data_delete_slice(struct ks_data *d, uint64_t slice, uint32_t len, uint32_t block_size)
{
	char keys[DELETE_BATCH][KS_KEY_STR];
	const char *p[DELETE_BATCH];
	uint32_t blocks = ks_blocks_of(len, block_size);
	int first = 0;

	ks_pcache_drop(d->cache, slice, 0, ks_pages_of(len));
	for (uint32_t i = 0; i < blocks;) {
		size_t n = 0;
		int r;

		for (; i < blocks && n < DELETE_BATCH; i++, n++) {
			ks_block_key(keys[n], slice, i, ks_min(block_size, len - i * block_size));
			p[n] = keys[n];
			ks_index_drop(d->index, slice, i);
		}
		r = ks_object_del(d->o.store, p, n);
		first = first ? first : r;
	}
	return first;
}
