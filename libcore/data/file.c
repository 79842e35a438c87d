/* SPDX-License-Identifier: Apache-2.0 */
/* file.c: the content of one inode: opening, its state, range locks, its chunks. */
#include "data/data_internal.h"

void ks_file_wait(struct ks_file *f)
{
	f->waiting++;
	ks_cond_wait(&f->cv, &f->mu, -1);
	f->waiting--;
}

void ks_file_wake(struct ks_file *f)
{
	if (f->waiting)
		pthread_cond_broadcast(&f->cv);
}

/* Needs f->mu. */
static bool must_wait(const struct ks_file *f, const struct frange *r)
{
	for (const struct frange *it = f->ranges; it != r; it = it->next) {
		if (it->off < r->end && r->off < it->end)
			return true;
	}
	return false;
}

void ks_range_lock(struct ks_file *f, struct frange *r)
{
	struct frange **pp = &f->ranges;

	while (*pp)
		pp = &(*pp)->next;
	r->next = NULL;
	*pp = r;
	while (must_wait(f, r))
		ks_file_wait(f);
}

void ks_range_unlock(struct ks_file *f, struct frange *r)
{
	struct frange **pp = &f->ranges;

	while (*pp != r)
		pp = &(*pp)->next;
	*pp = r->next;
	ks_file_wake(f);
}

struct fchunk *ks_fchunk_get(struct ks_file *f, uint64_t chunk, bool create)
{
	struct ks_hnode *n;
	struct fchunk *c;

	if (f->last && f->last->node.key == chunk)
		return f->last;
	n = ks_hmap_find(&f->chunks, chunk);
	if (n) {
		f->last = ks_container_of(n, struct fchunk, node);
		return f->last;
	}
	if (!create)
		return NULL;
	c = calloc(1, sizeof(*c));
	if (!c || ks_hmap_insert(&f->chunks, &c->node, chunk) < 0) {
		free(c);
		return NULL;
	}
	f->last = c;
	return c;
}

int ks_file_open(struct ks_file **out, struct ks_data *d, uint64_t ino, uint64_t size,
		 uint64_t change)
{
	struct ks_file *f = calloc(1, sizeof(*f));
	int r;

	if (!f)
		return -ENOMEM;
	r = ks_cond_init(&f->cv);
	if (r < 0) {
		free(f);
		return r;
	}
	pthread_mutex_init(&f->mu, NULL);
	f->d = d;
	f->ino = ino;
	f->size = size;
	f->csize = size;
	f->csize_known = true;
	f->change = change;
	f->map_change = change;
	ks_list_init(&f->dirty_link);
	ks_list_init(&f->slices);
	*out = f;
	return 0;
}

/* Needs f->mu. Drops what was never committed: nobody can ask for it any more. */
static void drop_dirty(struct ks_file *f)
{
	struct slice **v;
	struct slice *s;
	size_t n = 0;

	while (f->turn)
		ks_file_wait(f);
	if (ks_list_is_empty(&f->slices))
		return;
	f->turn = true;
	ks_freeze_all(f);
	v = malloc(f->nslices * sizeof(struct slice *));
	if (v) {
		ks_list_foreach (s, &f->slices, struct slice, link)
			v[n++] = s;
		ks_drop_slices(f, v, n);
		free(v);
	} else {
		while ((s = ks_list_first(&f->slices, struct slice, link)))
			ks_drop_slices(f, &s, 1);
	}
	f->turn = false;
	ks_file_wake(f);
}

void ks_file_close(struct ks_file *f)
{
	struct ks_hnode *n;

	if (!f)
		return;
	ks_mutex_lock(&f->mu);
	drop_dirty(f);
	ks_fmap_drop_all(f);
	ks_mutex_unlock(&f->mu);
	ks_data_file_unpin_wait(f);
	while ((n = ks_hmap_next(&f->chunks, NULL))) {
		struct fchunk *c = ks_container_of(n, struct fchunk, node);

		ks_hmap_remove(&f->chunks, n);
		free(c->v);
		free(c->add);
		free(c);
	}
	ks_hmap_clear(&f->chunks);
	pthread_cond_destroy(&f->cv);
	pthread_mutex_destroy(&f->mu);
	free(f);
}

void ks_file_refresh(struct ks_file *f, uint64_t size, uint64_t change)
{
	KS_LOCKED(&f->mu);
	/* A record that was read before our last commit says nothing new. With the turn taken a commit may be on its way. */
	if (change <= f->change || f->turn || !ks_list_is_empty(&f->slices))
		return;
	ks_fmap_drop_all(f);
	f->size = size;
	f->csize = size;
	f->csize_known = true;
	f->change = change;
	f->map_change = change;
}

void ks_file_forget_maps(struct ks_file *f)
{
	KS_LOCKED(&f->mu);
	ks_fmap_drop_all(f);
}

void ks_file_state(struct ks_file *f, struct ks_file_state *out)
{
	KS_LOCKED(&f->mu);
	out->size = f->size;
	out->mtime_ns = f->mtime_ns;
	out->change = f->change;
	out->dirty_bytes = f->dirty_bytes;
}
