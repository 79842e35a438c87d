/* SPDX-License-Identifier: Apache-2.0 */
/* vfs.c: a vfs's life; what data asks of metadata; sizes and statistics of the whole. */
#include "vfs/internal.h"
#include <stdlib.h>

/* What a store without a limit offers: a number that programs can calculate with. */
#define UNLIMITED_BYTES ((uint64_t)1 << 50)

int ks_vfs_new(struct ks_vfs **out)
{
	struct ks_vfs *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	r = ks_seen_init(v);
	if (r == 0)
		r = ks_cond_init(&v->maint_wake);
	if (r == 0)
		r = ks_compactor_init(&v->compactor);
	if (r < 0) {
		free(v->seen);
		free(v);
		return r;
	}
	ks_vnodes_init(v);
	ks_list_init(&v->dirs);
	pthread_mutex_init(&v->dirs_mu, NULL);
	pthread_mutex_init(&v->ghosts_mu, NULL);
	pthread_mutex_init(&v->unsynced_mu, NULL);
	pthread_mutex_init(&v->maint_mu, NULL);
	*out = v;
	return 0;
}

static void free_vfs(struct ks_vfs *v)
{
	ks_vnodes_destroy(v);
	ks_seen_destroy(v);
	pthread_mutex_destroy(&v->dirs_mu);
	pthread_mutex_destroy(&v->ghosts_mu);
	free(v->ghosts);
	ks_virtual_free(v->virt);
	pthread_mutex_destroy(&v->unsynced_mu);
	pthread_mutex_destroy(&v->maint_mu);
	pthread_cond_destroy(&v->maint_wake);
	ks_compactor_destroy(&v->compactor);
	free(v);
}

struct ks_meta_hooks ks_vfs_hooks(struct ks_vfs *v)
{
	return (struct ks_meta_hooks){ .is_open = ks_vnode_is_open,
				       .each_open = ks_vnode_each_open,
				       .forget_maps = ks_vnode_forget_maps,
				       .arg = v };
}

/* ---- the data plane's host ---- */

static int host_slice_id(void *arg, uint64_t *id)
{
	struct ks_vfs *v = arg;

	return ks_meta_new_slice_id(v->meta, id);
}

static int host_pack_id(void *arg, uint64_t *id)
{
	struct ks_vfs *v = arg;

	return ks_meta_new_pack_id(v->meta, id);
}

static int host_map(void *arg, uint64_t ino, uint64_t chunk, struct ks_chunk_map **out)
{
	struct ks_vfs *v = arg;

	int r = ks_meta_map(v->meta, ino, chunk, out);

	if (r == 0 && (*out)->layers >= KS_COMPACT_ROWS)
		ks_compact_note(v, ino, chunk, 0, (*out)->layers);
	return r;
}

static int host_block(void *arg, uint64_t slice, uint32_t idx, struct ks_block_index *out)
{
	struct ks_vfs *v = arg;

	return ks_meta_block(v->meta, slice, idx, out);
}

static int host_commit(void *arg, const struct ks_file_commit *fc, uint64_t *change)
{
	struct ks_vfs *v = arg;
	struct ks_commit c = {
		.ino = fc->ino, .s = fc->s, .n = fc->n, .end = fc->end, .mtime_ns = fc->mtime_ns
	};
	struct ks_attr a;
	uint64_t bytes = 0;
	int r;

	/* Before the commit: who sees what it has hidden or freed must see this too. The data is in the store already. */
	for (size_t i = 0; i < fc->n; i++)
		bytes += fc->s[i].len;
	if (fc->n > 0)
		ks_unsynced_add(v, fc->ino, bytes);
	r = ks_meta_commit(v->meta, &c, &a);
	if (r < 0)
		return r;
	*change = a.change;
	ks_seen_own(v, fc->ino, a.change);
	for (size_t i = 0, first = 0; i < fc->n; i++) {
		if (i + 1 < fc->n && fc->s[i + 1].chunk == fc->s[first].chunk)
			continue;
		ks_compact_note(v, fc->ino, fc->s[first].chunk, (uint32_t)(i + 1 - first), 0);
		first = i + 1;
	}
	return 0;
}

static bool host_is_full(void *arg)
{
	struct ks_vfs *v = arg;

	return ks_engine_is_full(ks_meta_engine(v->meta));
}

static int host_seek(void *arg, uint64_t ino, uint64_t off, bool hole, uint64_t *out)
{
	struct ks_vfs *v = arg;

	return ks_meta_seek(v->meta, ino, off, hole, out);
}

/* ---- life ---- */

int ks_vfs_start(struct ks_vfs *v, const struct ks_vfs_opts *o)
{
	struct ks_data_opts d = o->data;
	int r;

	v->meta = o->meta;
	v->store = o->store;
	v->root = o->root ? o->root : KS_ROOT_INO;
	v->readonly = o->readonly || ks_meta_is_readonly(o->meta);
	d.store = o->store;
	d.readonly = v->readonly;
	if (!d.block_size)
		d.block_size = (uint32_t)ks_meta_settings(o->meta)->block_size;
	d.host = (struct ks_data_host){ .slice_id = host_slice_id,
					.pack_id = host_pack_id,
					.map = host_map,
					.block = host_block,
					.commit = host_commit,
					.is_full = host_is_full,
					.seek = host_seek,
					.arg = v };
	r = ks_data_open(&v->data, &d);
	if (r < 0) {
		v->meta = NULL;
		v->store = NULL;
		v->data = NULL;
	}
	return r;
}

static void release_all(struct ks_vfs *v)
{
	struct ks_fh *fh;

	while ((fh = ks_vnode_any_handle(v)))
		ks_vfs_release(fh);
	while ((fh = ks_list_first(&v->dirs, struct ks_fh, link)))
		ks_vfs_release(fh);
}

int ks_vfs_close(struct ks_vfs *v)
{
	int r = 0, more;

	if (!v)
		return 0;
	ks_compactor_stop(v);
	ks_maint_stop(v);
	if (v->data) {
		r = ks_vfs_syncfs(v);
		release_all(v);
		/* It may hold a file that was open a moment ago. */
		ks_meta_heartbeat_stop(v->meta);
		more = ks_data_close(v->data);
		r = r ? r : more;
	}
	/* What did not reach the disk is the business of whoever finds the session dead. */
	if (r < 0)
		ks_meta_session_leave(v->meta);
	ks_meta_close(v->meta);
	ks_object_close(v->store);
	free_vfs(v);
	return r;
}

struct ks_meta *ks_vfs_meta(struct ks_vfs *v)
{
	return v->meta;
}

struct ks_data *ks_vfs_data(struct ks_vfs *v)
{
	return v->data;
}

struct ks_object *ks_vfs_store(struct ks_vfs *v)
{
	return v->store;
}

ks_ino_t ks_vfs_root(struct ks_vfs *v)
{
	return v->root;
}

/* ---- the whole ---- */

int ks_vfs_statfs(struct ks_vfs *v, struct ks_statfs *out)
{
	const struct ks_volume_settings *s = ks_meta_settings(v->meta);
	struct ks_object_usage store;
	struct ks_meta_usage used;
	int r = ks_meta_usage(v->meta, &used);

	if (r == 0)
		r = ks_object_usage(v->store, &store);
	if (r < 0)
		return r;
	/* Other things may live beside the store: what can still be written is what counts, not the disk's size. */
	out->used_bytes = used.used_bytes;
	out->free_bytes = store.total_bytes == UINT64_MAX ? UNLIMITED_BYTES : store.free_bytes;
	if (s->capacity_bytes)
		out->free_bytes =
			ks_min(out->free_bytes, s->capacity_bytes > used.used_bytes
							? s->capacity_bytes - used.used_bytes
							: 0);
	out->total_bytes = out->used_bytes + out->free_bytes;
	out->inodes = used.inodes;
	out->inodes_max = s->inodes_max;
	return 0;
}

void ks_vfs_stats(struct ks_vfs *v, struct ks_vfs_stats *out)
{
	*out = (struct ks_vfs_stats){ 0 };
	out->open_files = __atomic_load_n(&v->nfiles, __ATOMIC_RELAXED);
	out->vnodes = ks_vnode_count(v);
	out->compactions = __atomic_load_n(&v->compactor.chunks, __ATOMIC_RELAXED);
	out->compacted_bytes = __atomic_load_n(&v->compactor.bytes, __ATOMIC_RELAXED);
	ks_data_stats(v->data, &out->data);
	ks_engine_stats(ks_meta_engine(v->meta), &out->engine);
	ks_object_stats(v->store, &out->store);
}
