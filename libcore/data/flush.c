/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flush.c: frozen slices are stored and committed, in the order they were made.
 *
 * One flush per file at a time holds the file's turn. Who comes meanwhile freezes what it needs, waits, and looks whether its
 * slices are gone; if the flush failed and had tried them, its error is shared. Order matters where slices overlap, so only those in front of the
 * first that could not be stored are committed; the rest is dirty again and the next flush goes on where this one stopped.
 */
#include "data/data_internal.h"

/* Takes slices that are DONE out of their chunks and the file. Needs f->mu. */
static void remove_done(struct ks_file *f, struct slice **v, size_t n)
{
	struct slice *first;

	for (size_t i = 0; i < n; i++) {
		struct fchunk *c = ks_fchunk_get(f, v[i]->chunk, false);
		uint32_t k = 0;
		uint32_t frozen = 0;

		if (ks_list_is_empty(&v[i]->link))
			continue;
		/* All that are done in this chunk go at once. */
		for (uint32_t j = 0; j < c->n; j++) {
			struct slice *s = c->v[j].s;

			if (s->state != SLICE_DONE) {
				frozen += k == frozen && s->frozen;
				c->v[k++] = c->v[j];
				continue;
			}
			ks_list_del(&s->link);
			f->nslices--;
			f->nopen -= !s->frozen;
			f->dirty_bytes -= s->len;
		}
		c->n = k;
		c->first_open = frozen;
	}
	for (size_t i = 0; i < n; i++)
		ks_slice_put(v[i]);
	f->many = f->many && f->nslices >= KS_SLICES_SOON;
	first = ks_list_first(&f->slices, struct slice, link);
	if (first) {
		f->first_ns = first->made_ns;
	} else {
		f->mtime_ns = 0;
		ks_data_file_clean(f);
	}
}

void ks_drop_slices(struct ks_file *f, struct slice **v, size_t n)
{
	ks_mutex_unlock(&f->mu);
	for (size_t i = 0; i < n; i++) {
		ks_upload_cancel(v[i]);
		if (v[i]->id)
			ks_pcache_drop(f->d->cache, v[i]->id, 0, ks_pages_of(v[i]->len));
	}
	ks_mutex_lock(&f->mu);
	for (size_t i = 0; i < n; i++)
		ks_slice_set(v[i], SLICE_DONE);
	remove_done(f, v, n);
}

static void fill_commit(struct ks_file *f, struct slice *const *v, size_t n,
			struct ks_commit_slice *c, struct ks_file_commit *fc)
{
	*fc = (struct ks_file_commit){ .ino = f->ino, .s = c, .n = n, .mtime_ns = f->mtime_ns };
	for (size_t i = 0; i < n; i++) {
		const struct slice *s = v[i];
		uint64_t end = s->chunk * KS_CHUNK_SIZE + s->pos + s->len;

		c[i] = (struct ks_commit_slice){ .chunk = s->chunk,
						 .pos = s->pos,
						 .len = s->len,
						 .slice = s->id,
						 .block_size = f->d->o.block_size,
						 .pack = s->pack,
						 .pack_off = s->pack_off,
						 .sums = s->sums };
		fc->end = ks_max(fc->end, end);
	}
}

/* Needs f->mu and the turn; lets go of mu. The slices are stored. */
static int commit(struct ks_file *f, struct slice **v, size_t n)
{
	const struct ks_data_host *h = &f->d->o.host;
	struct ks_commit_slice one;
	struct ks_commit_slice *c = n == 1 ? &one : malloc(n * sizeof(*c));
	struct ks_file_commit fc;
	uint64_t change = 0;
	int r;

	if (!c)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		ks_slice_set(v[i], SLICE_COMMITTING);
	fill_commit(f, v, n, c, &fc);
	ks_mutex_unlock(&f->mu);
	r = h->commit(h->arg, &fc, &change);
	if (c != &one)
		free(c);
	ks_mutex_lock(&f->mu);
	if (r == -ENOENT) {
		/* The file is gone, and with it whoever could ask for its bytes. */
		ks_drop_slices(f, v, n);
		return 0;
	}
	for (size_t i = 0; i < n; i++) {
		ks_slice_set(v[i], r == 0 ? SLICE_DONE : SLICE_DIRTY);
		v[i]->unsure |= r < 0;
	}
	if (r < 0)
		return r;
	ks_fmap_commit(f, v, n, change);
	f->csize = ks_max(f->csize, fc.end);
	f->change = ks_max(f->change, change);
	ks_atomic_add(&f->d->commits, 1);
	ks_atomic_add(&f->d->slices, n);
	remove_done(f, v, n);
	return 0;
}

/* Needs f->mu and the turn; lets go of mu. All of v are frozen, and nobody writes them. */
static int flush_round(struct ks_file *f, struct slice **v, size_t n)
{
	size_t good = 0;
	int sealed = 0;
	int r;

	for (size_t i = 0; i < n; i++) {
		ks_slice_set(v[i], SLICE_FLUSHING);
		while (sealed == 0 && !ks_pack_takes(v[i]) && v[i]->sealed < v[i]->len) {
			if (!ks_slice_seal(v[i], v[i]->len))
				sealed = -ENOMEM;
		}
	}
	ks_mutex_unlock(&f->mu);
	r = sealed < 0 ? sealed : ks_upload_slices(f->d, v, n);
	ks_mutex_lock(&f->mu);
	while (sealed == 0 && good < n && v[good]->err == 0)
		good++;
	for (size_t i = good; i < n; i++)
		ks_slice_set(v[i], SLICE_DIRTY);
	if (good) {
		int rc = commit(f, v, good);

		/* Told before the commit could begin. */
		for (size_t i = 0; rc == -ENOMEM && i < good; i++) {
			if (v[i]->state == SLICE_FLUSHING)
				ks_slice_set(v[i], SLICE_DIRTY);
		}
		r = rc < 0 ? rc : r;
	}
	return r;
}

/* Needs f->mu. The first slices up to @upto, at most @max. */
static size_t collect(struct ks_file *f, uint64_t upto, struct slice **v, size_t max)
{
	struct slice *s;
	size_t n = 0;

	ks_list_foreach (s, &f->slices, struct slice, link) {
		if (s->seq > upto || n == max)
			break;
		v[n++] = s;
	}
	return n;
}

/* Needs f->mu. */
static bool in_hand(struct slice *const *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i]->writers)
			return true;
	}
	return false;
}

/* Needs f->mu and the turn. */
static int run_flush(struct ks_file *f, uint64_t upto)
{
	struct slice *few[8];
	struct slice **v = few;
	size_t max = KS_ARRAY_SIZE(few);
	int r = 0;

	if (f->nslices > max) {
		max = ks_min(f->nslices, (size_t)KS_COMMIT_MAX);
		v = malloc(max * sizeof(*v));
		if (!v)
			return -ENOMEM;
	}
	while (r == 0) {
		size_t n = collect(f, upto, v, max);

		if (n == 0)
			break;
		/* A writer is about to let go: of an empty slice, which is then gone, or of one with bytes. */
		if (in_hand(v, n))
			ks_file_wait(f);
		else
			r = flush_round(f, v, n);
	}
	if (v != few)
		free(v);
	return r;
}

/* Needs f->mu. All slices up to @upto are frozen. */
static int flush_upto(struct ks_file *f, uint64_t upto)
{
	for (;;) {
		struct slice *first = ks_list_first(&f->slices, struct slice, link);
		uint64_t tries = f->tries;
		int r;

		if (!first || first->seq > upto)
			return 0;
		if (!f->turn) {
			f->turn = true;
			r = run_flush(f, upto);
			f->turn = false;
			f->tries++;
			f->try_upto = upto;
			f->try_err = r;
			ks_file_wake(f);
			return r;
		}
		while (f->turn && f->tries == tries)
			ks_file_wait(f);
		if (f->tries != tries && f->try_err < 0 && f->try_upto >= upto)
			return f->try_err;
	}
}

int ks_file_flush(struct ks_file *f)
{
	KS_LOCKED(&f->mu);
	ks_freeze_all(f);
	return flush_upto(f, f->seq);
}

int ks_flush_completed(struct ks_file *f)
{
	uint64_t upto = 0;
	struct slice *s;

	ks_list_foreach (s, &f->slices, struct slice, link) {
		if (!s->frozen)
			break;
		if (s->pos + s->len == KS_CHUNK_SIZE)
			upto = s->seq;
	}
	return upto ? flush_upto(f, upto) : 0;
}

/*
 * Splits what is dirty: *drop gets slices that lie at or past @keep and under no newer slice that stays. They need not be flushed, and if fn fails they can
 * still be committed later: nothing committed meanwhile lies over them. Needs f->mu.
 */
static void split_dirty(struct ks_file *f, uint64_t keep, struct slice **flush, size_t *nflush,
			struct slice **drop, size_t *ndrop)
{
	uint64_t above = 0; /* end of the newer slices that stay */
	size_t n = f->nslices;
	size_t from = n;
	size_t nd = 0;

	for (struct ks_list *at = f->slices.prev; at != &f->slices; at = at->prev) {
		struct slice *s = ks_list_entry(at, struct slice, link);
		uint64_t start = s->chunk * KS_CHUNK_SIZE + s->pos;

		if (start >= keep && above <= start) {
			drop[nd++] = s;
		} else {
			flush[--from] = s;
			above = ks_max(above, start + s->len);
		}
	}
	memmove(flush, flush + from, (n - from) * sizeof(*flush));
	*nflush = n - from;
	*ndrop = nd;
}

/* Needs f->mu, the turn and the whole range. */
static int run_exclusive(struct ks_file *f, uint64_t keep, ks_file_excl_fn *fn, void *arg)
{
	size_t max = f->nslices;
	struct slice **v = malloc((2 * max + 1) * sizeof(*v));
	struct slice **drop = v + max;
	size_t n = 0;
	size_t nd = 0;
	uint64_t size = 0;
	uint64_t change = 0;
	int r = v ? 0 : -ENOMEM;

	if (r == 0)
		split_dirty(f, keep, v, &n, drop, &nd);
	for (size_t i = 0; r == 0 && i < n; i += KS_COMMIT_MAX)
		r = flush_round(f, v + i, ks_min(n - i, (size_t)KS_COMMIT_MAX));
	if (r == 0) {
		ks_mutex_unlock(&f->mu);
		r = fn(arg, &size, &change);
		ks_mutex_lock(&f->mu);
	}
	if (r == 0) {
		f->size = size;
		f->csize = size;
		f->csize_known = true;
		f->change = change;
		f->map_change = change;
	}
	ks_fmap_drop_all(f);
	if (r == 0 && nd)
		ks_drop_slices(f, drop, nd);
	free(v);
	return r;
}

int ks_file_exclusive(struct ks_file *f, uint64_t keep, ks_file_excl_fn *fn, void *arg)
{
	struct frange all = { .off = 0, .end = UINT64_MAX };
	int r;

	KS_LOCKED(&f->mu);
	ks_range_lock(f, &all);
	while (f->turn)
		ks_file_wait(f);
	f->turn = true;
	ks_freeze_all(f);
	r = run_exclusive(f, keep, fn, arg);
	f->turn = false;
	ks_range_unlock(f, &all);
	return r;
}
