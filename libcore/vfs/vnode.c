/* SPDX-License-Identifier: Apache-2.0 */
/* vnode.c: the table of inodes that are open in this process. internal.h has the states and the locks. */
#include "base/array.h"
#include "vfs/internal.h"

static struct ks_shard *shard_of(struct ks_vfs *v, ks_ino_t ino)
{
	/* The map below uses the low bits of the same hash. */
	return &v->shards[(ks_mix64(ino) >> 40) % KS_VNODE_SHARDS];
}

static struct ks_vnode *find(struct ks_shard *s, ks_ino_t ino)
{
	struct ks_hnode *n = ks_hmap_find(&s->map, ino);

	return n ? ks_container_of(n, struct ks_vnode, node) : NULL;
}

void ks_vnodes_init(struct ks_vfs *v)
{
	for (int i = 0; i < KS_VNODE_SHARDS; i++) {
		pthread_mutex_init(&v->shards[i].mu, NULL);
		pthread_cond_init(&v->shards[i].released, NULL);
	}
}

void ks_vnodes_destroy(struct ks_vfs *v)
{
	for (int i = 0; i < KS_VNODE_SHARDS; i++) {
		assert(v->shards[i].map.n == 0);
		ks_hmap_clear(&v->shards[i].map);
		pthread_cond_destroy(&v->shards[i].released);
		pthread_mutex_destroy(&v->shards[i].mu);
	}
}

int ks_vnode_get_open(struct ks_vfs *v, ks_ino_t ino, struct ks_vnode **out)
{
	struct ks_shard *s = shard_of(v, ino);
	struct ks_vnode *vn;

	KS_LOCKED(&s->mu);
	while ((vn = find(s, ino)) && vn->releasing)
		pthread_cond_wait(&s->released, &s->mu);
	if (!vn) {
		vn = calloc(1, sizeof(*vn));
		if (!vn || ks_hmap_insert(&s->map, &vn->node, ino) < 0) {
			free(vn);
			return -ENOMEM;
		}
		pthread_mutex_init(&vn->mu, NULL);
		ks_list_init(&vn->handles);
		vn->pins = 1;
	}
	vn->opens++;
	*out = vn;
	return 0;
}

static void free_vnode(struct ks_vnode *vn)
{
	ks_file_close(vn->file);
	pthread_mutex_destroy(&vn->mu);
	free(vn);
}

void ks_vnode_unpin(struct ks_vfs *v, struct ks_vnode *vn)
{
	struct ks_shard *s = shard_of(v, vn->node.key);
	bool last;

	ks_mutex_lock(&s->mu);
	last = --vn->pins == 0;
	ks_mutex_unlock(&s->mu);
	if (last)
		free_vnode(vn);
}

/* Nobody has @vn open any more, and nobody can come to it. Gives up the claim of an inode without a name. */
static void release_inode(struct ks_vfs *v, ks_ino_t ino, bool unlinked, bool reported)
{
	struct ks_attr a;

	if (v->readonly)
		return;
	/* Another mount may have removed the name; then the heartbeat, which knew of this open, has claimed it. */
	if (!unlinked && reported)
		unlinked = ks_meta_getattr(v->meta, ino, &a) == 0 && a.nlink == 0;
	/* A failure is already logged, and the end of the session does it again. */
	if (unlinked)
		KS_IGNORE(ks_meta_release(v->meta, ino));
}

void ks_vnode_put_open(struct ks_vfs *v, struct ks_vnode *vn)
{
	struct ks_shard *s = shard_of(v, vn->node.key);
	ks_ino_t ino = vn->node.key;
	bool slow, unlinked, reported;

	ks_mutex_lock(&s->mu);
	if (--vn->opens > 0) {
		ks_mutex_unlock(&s->mu);
		return;
	}
	unlinked = vn->unlinked;
	reported = vn->reported;
	slow = unlinked || reported;
	if (slow) {
		vn->releasing = true;
		ks_mutex_unlock(&s->mu);
		release_inode(v, ino, unlinked, reported);
		ks_mutex_lock(&s->mu);
		pthread_cond_broadcast(&s->released);
	}
	ks_hmap_remove(&s->map, &vn->node);
	ks_mutex_unlock(&s->mu);
	ks_vnode_unpin(v, vn);
}

static void note_record(struct ks_vfs *v, struct ks_vnode *vn, struct ks_file *made,
			const struct ks_attr *a)
{
	struct ks_shard *s = shard_of(v, a->ino);

	KS_LOCKED(&s->mu);
	if (made)
		vn->file = made;
	if (a->nlink == 0) {
		vn->unlinked = true;
		vn->trashed = ks_is_trashed(a);
	}
	if ((a->mode & (S_ISUID | S_ISGID)) || (a->flags & KS_INODE_HAS_XATTR))
		vn->priv = true;
}

int ks_vnode_attach(struct ks_vfs *v, struct ks_vnode *vn, const struct ks_attr *a, bool *current)
{
	struct ks_file *made = NULL;
	struct ks_file_state st = { .change = a->change };
	int r = 0;

	KS_LOCKED(&vn->mu);
	if (!vn->file) {
		r = ks_file_open(&made, v->data, a->ino, a->size, a->change);
		if (r < 0)
			return r;
	} else {
		/* The record may have been read before a commit of our own: only a newer one counts. */
		ks_file_state(vn->file, &st);
		if (a->change > st.change) {
			ks_file_refresh(vn->file, a->size, a->change);
			ks_file_state(vn->file, &st);
		}
	}
	if (current)
		*current = st.change >= a->change;
	note_record(v, vn, made, a);
	return 0;
}

struct ks_vnode *ks_vnode_pin(struct ks_vfs *v, ks_ino_t ino)
{
	struct ks_shard *s = shard_of(v, ino);
	struct ks_vnode *vn;

	KS_LOCKED(&s->mu);
	vn = find(s, ino);
	if (!vn || !vn->file)
		return NULL;
	vn->pins++;
	return vn;
}

void ks_vnode_add_handle(struct ks_vfs *v, struct ks_vnode *vn, struct ks_fh *fh)
{
	struct ks_shard *s = shard_of(v, vn->node.key);

	__atomic_add_fetch(&v->nfiles, 1, __ATOMIC_RELAXED);
	if (fh->writable)
		__atomic_add_fetch(&v->nwriters, 1, __ATOMIC_RELAXED);
	KS_LOCKED(&s->mu);
	ks_list_add_tail(&vn->handles, &fh->link);
	vn->writers += fh->writable;
}

void ks_vnode_del_handle(struct ks_vfs *v, struct ks_vnode *vn, struct ks_fh *fh)
{
	struct ks_shard *s = shard_of(v, vn->node.key);

	__atomic_sub_fetch(&v->nfiles, 1, __ATOMIC_RELAXED);
	if (fh->writable)
		__atomic_sub_fetch(&v->nwriters, 1, __ATOMIC_RELAXED);
	KS_LOCKED(&s->mu);
	ks_list_del(&fh->link);
	vn->writers -= fh->writable;
}

void ks_vnode_set_unlinked(struct ks_vfs *v, const struct ks_attr *a)
{
	struct ks_shard *s = shard_of(v, a->ino);
	struct ks_vnode *vn;

	KS_LOCKED(&s->mu);
	vn = find(s, a->ino);
	if (vn) {
		vn->unlinked = a->nlink == 0;
		vn->trashed = ks_is_trashed(a);
	}
}

bool ks_vnode_is_unlinked(struct ks_vfs *v, struct ks_vnode *vn)
{
	KS_LOCKED(&shard_of(v, vn->node.key)->mu);
	return vn->unlinked && !vn->trashed;
}

bool ks_vnode_is_doomed(struct ks_vfs *v, struct ks_vnode *vn)
{
	KS_LOCKED(&shard_of(v, vn->node.key)->mu);
	return vn->unlinked && !vn->trashed && vn->opens == 1;
}

void ks_vnode_set_priv(struct ks_vfs *v, ks_ino_t ino)
{
	struct ks_shard *s = shard_of(v, ino);
	struct ks_vnode *vn;

	KS_LOCKED(&s->mu);
	vn = find(s, ino);
	if (vn)
		__atomic_store_n(&vn->priv, true, __ATOMIC_RELAXED);
}

bool ks_vnode_take_priv(struct ks_vfs *v, struct ks_vnode *vn)
{
	/* Every write asks; nearly always the answer is no. */
	if (!__atomic_load_n(&vn->priv, __ATOMIC_RELAXED))
		return false;
	KS_LOCKED(&shard_of(v, vn->node.key)->mu);
	return __atomic_exchange_n(&vn->priv, false, __ATOMIC_RELAXED);
}

bool ks_vnode_is_open(void *vfs, ks_ino_t ino)
{
	struct ks_vfs *v = vfs;
	struct ks_shard *s = shard_of(v, ino);
	struct ks_vnode *vn;

	KS_LOCKED(&s->mu);
	vn = find(s, ino);
	return vn && vn->opens > 0;
}

/* Copies the open inodes of a shard, *more of them left out for want of room. */
static size_t list_shard(struct ks_shard *s, bool report, ks_ino_t *inos, size_t room, size_t *need)
{
	size_t n = 0;

	KS_LOCKED(&s->mu);
	*need = s->map.n;
	if (s->map.n > room)
		return 0;
	for (struct ks_hnode *h = ks_hmap_next(&s->map, NULL); h; h = ks_hmap_next(&s->map, h)) {
		struct ks_vnode *vn = ks_container_of(h, struct ks_vnode, node);

		if (vn->opens == 0)
			continue;
		vn->reported |= report;
		inos[n++] = h->key;
	}
	return n;
}

static int each(struct ks_vfs *v, bool report, void (*fn)(void *fn_arg, ks_ino_t ino), void *fn_arg)
{
	KS_AUTO(ks_freep) ks_ino_t *inos = NULL;
	size_t room = 0;

	for (int i = 0; i < KS_VNODE_SHARDS; i++) {
		size_t need, n;

		while ((n = list_shard(&v->shards[i], report, inos, room, &need)) == 0 &&
		       need > room) {
			/* And some more: there may be others by then. */
			if (ks_array_reserve(&inos, 0, &room, need + 64) < 0)
				return -ENOMEM;
		}
		/* Outside the lock: fn is the metadata's. */
		for (size_t k = 0; k < n; k++)
			fn(fn_arg, inos[k]);
	}
	return 0;
}

int ks_vnode_each_open(void *vfs, void (*fn)(void *fn_arg, ks_ino_t ino), void *fn_arg)
{
	return each(vfs, true, fn, fn_arg);
}

static void forget_one(void *arg, ks_ino_t ino)
{
	struct ks_vnode *vn = ks_vnode_pin(arg, ino);

	if (!vn)
		return;
	ks_file_forget_maps(vn->file);
	ks_vnode_unpin(arg, vn);
}

int ks_vnode_forget_maps(void *vfs)
{
	return each(vfs, false, forget_one, vfs);
}

struct ks_fh *ks_vnode_any_handle(struct ks_vfs *v)
{
	for (int i = 0; i < KS_VNODE_SHARDS; i++) {
		struct ks_shard *s = &v->shards[i];

		KS_LOCKED(&s->mu);
		for (struct ks_hnode *h = ks_hmap_next(&s->map, NULL); h;
		     h = ks_hmap_next(&s->map, h)) {
			struct ks_vnode *vn = ks_container_of(h, struct ks_vnode, node);

			if (!ks_list_is_empty(&vn->handles))
				return ks_list_first(&vn->handles, struct ks_fh, link);
		}
	}
	return NULL;
}

uint64_t ks_vnode_count(struct ks_vfs *v)
{
	uint64_t n = 0;

	for (int i = 0; i < KS_VNODE_SHARDS; i++) {
		KS_LOCKED(&v->shards[i].mu);
		n += v->shards[i].map.n;
	}
	return n;
}
