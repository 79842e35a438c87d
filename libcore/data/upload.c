/* SPDX-License-Identifier: Apache-2.0 */
/*
 * upload.c: blocks on their way into the store.
 *
 * A made block's bytes never change. Whoever finds it QUEUED under the slice's lock runs it: a worker, or the flush that wants it, so that a flush never waits
 * for a thread to be woken while there is work it can do itself. A job that the workers hold keeps a reference to the slice.
 */
#include "data/data_internal.h"

static void numbering_begins(struct slice *s)
{
	KS_LOCKED(&s->d->numbered_mu);
	if (s->asking++ == 0 && !s->number)
		ks_list_add_tail(&s->d->numbered, &s->numbered);
}

/* @id 0: it got none. */
static void numbering_ends(struct slice *s, uint64_t id)
{
	KS_LOCKED(&s->d->numbered_mu);
	s->number = id ? id : s->number;
	if (--s->asking == 0 && !s->number)
		ks_list_del(&s->numbered);
}

int ks_data_may_store(struct ks_data *d)
{
	const struct ks_data_host *h = &d->o.host;

	return h->is_full && h->is_full(h->arg) ? -ENOSPC : 0;
}

int ks_slice_take_id(struct slice *s)
{
	const struct ks_data_host *h = &s->d->o.host;
	uint64_t id = 0;
	int r;

	ks_mutex_lock(&s->mu);
	id = s->id;
	ks_mutex_unlock(&s->mu);
	if (id)
		return 0;
	numbering_begins(s);
	r = h->slice_id(h->arg, &id);
	ks_mutex_lock(&s->mu);
	/* Two blocks may ask at one time: one number is wasted. */
	if (r == 0 && s->id == 0)
		s->id = id;
	id = s->id;
	ks_mutex_unlock(&s->mu);
	numbering_ends(s, id);
	return r;
}

void ks_slice_unnumber(struct slice *s)
{
	/* Nobody else has it any more. */
	if (!s->number)
		return;
	KS_LOCKED(&s->d->numbered_mu);
	ks_list_del(&s->numbered);
}

uint64_t ks_data_lowest_slice(struct ks_data *d)
{
	uint64_t lowest = UINT64_MAX;
	struct slice *s;
	KS_LOCKED(&d->numbered_mu);

	ks_list_foreach (s, &d->numbered, struct slice, numbered)
		lowest = s->asking ? 0 : ks_min(lowest, s->number);
	return lowest;
}

void ks_slice_page_stored(struct slice *s, uint32_t i, uint32_t len)
{
	struct ks_data *d = s->d;
	struct ks_mem m = s->mem[i];
	struct ks_mem small;

	if (!m.p)
		return;
	s->mem[i] = (struct ks_mem){ 0 };
	if (ks_pool_is_spill(d->pool, m)) {
		ks_pool_put(d->pool, m, KS_POOL_WRITE);
		return;
	}
	/* A mostly empty page is worth a copy. */
	if (len <= m.cap / 2 && ks_pool_get(d->pool, len, KS_POOL_READ, &small)) {
		memcpy(small.p, m.p, len);
		ks_pool_put(d->pool, m, KS_POOL_WRITE);
		m = small;
	} else {
		ks_pool_clean(d->pool, m);
	}
	ks_pcache_insert(d->cache, s->id, i, m, len);
}

/* Puts the block's object. The caller owns the block: RUNNING. */
static int put_block(struct block *b, uint32_t *sums)
{
	struct slice *s = b->s;
	struct ks_data *d = s->d;
	struct iovec iov[KS_BLOCK_MAX / KS_PAGE_SIZE + 1];
	_Alignas(4096) uint8_t tail[KS_BLOCK_TAIL_MAX];
	uint32_t first = b->idx * (d->o.block_size / (uint32_t)KS_PAGE_SIZE);
	uint32_t pages = ks_pages_of(b->size);
	struct ks_block_head head = { .idx = b->idx, .size = b->size, .npages = pages };
	char key[KS_KEY_STR];
	uint32_t rest = b->size % 4096;
	int n = 0;
	int r = ks_data_may_store(d);

	if (r == 0)
		r = ks_slice_take_id(s);
	if (r < 0)
		return r;
	ks_mutex_lock(&s->mu);
	head.slice = s->id;
	for (uint32_t i = 0; i < pages; i++) {
		uint32_t len = ks_min((uint32_t)KS_PAGE_SIZE, b->size - i * (uint32_t)KS_PAGE_SIZE);

		iov[i] = (struct iovec){ .iov_base = s->mem[first + i].p, .iov_len = len };
	}
	ks_mutex_unlock(&s->mu);
	for (uint32_t i = 0; i < pages; i++)
		sums[i] = ks_crc32c(0, iov[i].iov_base, iov[i].iov_len);
	iov[pages - 1].iov_len -= rest;
	memcpy(tail, (uint8_t *)iov[pages - 1].iov_base + iov[pages - 1].iov_len, rest);
	/* Neighbours in memory go as one. */
	for (uint32_t i = 0; i < pages; i++) {
		if (n && (uint8_t *)iov[n - 1].iov_base + iov[n - 1].iov_len == iov[i].iov_base)
			iov[n - 1].iov_len += iov[i].iov_len;
		else if (iov[i].iov_len)
			iov[n++] = iov[i];
	}
	iov[n].iov_base = tail;
	iov[n++].iov_len = ks_block_seal(tail, rest, &head, sums);
	ks_block_key(key, head.slice, b->idx, b->size);
	return ks_object_put(d->o.store, key, iov, n);
}

/* Runs a block that the caller made RUNNING. */
static void run_block(struct block *b)
{
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
	struct slice *s = b->s;
	struct ks_data *d = s->d;
	uint32_t first = b->idx * (d->o.block_size / (uint32_t)KS_PAGE_SIZE);
	int r = put_block(b, sums);

	if (r < 0) {
		ks_pool_failed(d->pool, r);
	} else {
		ks_atomic_add(&d->uploads, 1);
		ks_atomic_add(&d->upload_bytes, b->size);
	}
	KS_LOCKED(&s->mu);
	for (uint32_t i = 0; r == 0 && i < ks_pages_of(b->size); i++) {
		s->sums[first + i] = sums[i];
		ks_slice_page_stored(
			s, first + i,
			ks_min((uint32_t)KS_PAGE_SIZE, b->size - i * (uint32_t)KS_PAGE_SIZE));
	}
	b->state = r < 0 ? BLOCK_FAILED : BLOCK_DONE;
	s->err = r < 0 ? r : s->err;
	s->failing |= r < 0;
	if (s->waiting)
		pthread_cond_broadcast(&s->cv);
}

static void job_run(struct ks_job *job)
{
	struct block *b = ks_container_of(job, struct block, job);
	struct slice *s = b->s;
	struct ks_data *d = s->d;
	bool mine;

	ks_mutex_lock(&s->mu);
	b->in_queue = false;
	mine = b->state == BLOCK_QUEUED && !s->failing;
	if (mine)
		b->state = BLOCK_RUNNING;
	ks_mutex_unlock(&s->mu);
	if (mine)
		run_block(b);
	ks_atomic_sub(&d->uploading, 1);
	ks_slice_put(s);
}

/* Gives @b to the workers, with the caller's reference to its slice. */
static void queue_block(struct ks_data *d, struct block *b)
{
	struct ks_workers *w = ks_data_uploaders(d);
	struct slice *s = b->s;
	bool go;

	ks_mutex_lock(&s->mu);
	go = b->state == BLOCK_QUEUED && !b->in_queue;
	b->in_queue |= go;
	ks_mutex_unlock(&s->mu);
	if (!go) {
		ks_slice_put(s);
		return;
	}
	ks_atomic_add(&d->uploading, 1);
	b->job.run = job_run;
	if (w)
		ks_workers_add(w, &b->job);
	else
		job_run(&b->job);
}

void ks_upload_queue(struct ks_data *d, struct block *first)
{
	while (first) {
		struct block *b = first;

		first = b->next_new;
		queue_block(d, b);
	}
}

/* Needs s->mu. */
static struct block *block_in(struct slice *s, enum block_state state)
{
	struct block *b;

	ks_list_foreach (b, &s->blocks, struct block, link) {
		if (b->state == state)
			return b;
	}
	return NULL;
}

/* Runs or waits for the rest of a slice's blocks. */
static int finish_blocks(struct slice *s)
{
	ks_mutex_lock(&s->mu);
	for (;;) {
		struct block *b = s->failing ? NULL : block_in(s, BLOCK_QUEUED);

		if (b) {
			b->state = BLOCK_RUNNING;
			ks_mutex_unlock(&s->mu);
			ks_atomic_add(&s->d->uploading, 1);
			run_block(b);
			ks_atomic_sub(&s->d->uploading, 1);
			ks_mutex_lock(&s->mu);
		} else if (block_in(s, BLOCK_RUNNING)) {
			s->waiting++;
			ks_cond_wait(&s->cv, &s->mu, -1);
			s->waiting--;
		} else {
			break;
		}
	}
	int r = s->failing ? s->err : 0;

	s->err = r;
	ks_mutex_unlock(&s->mu);
	return r;
}

/* What failed before is tried again. Returns how many blocks wait to be run. */
static size_t requeue(struct slice *s)
{
	struct block *b;
	size_t n = 0;

	KS_LOCKED(&s->mu);
	s->failing = false;
	ks_list_foreach (b, &s->blocks, struct block, link) {
		if (b->state == BLOCK_FAILED)
			b->state = BLOCK_QUEUED;
		n += b->state == BLOCK_QUEUED;
	}
	return n;
}

static void queue_all(struct ks_data *d, struct slice *s)
{
	struct block *b;

	/* Only the holder of the flush turn makes blocks of a frozen slice: the list does not change. */
	ks_list_foreach (b, &s->blocks, struct block, link) {
		ks_slice_ref(s);
		queue_block(d, b);
	}
}

static int pack_small(struct ks_data *d, struct slice *const *v, size_t n)
{
	struct slice **small = malloc(n * sizeof(*small));
	size_t k = 0;
	int r = small ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (ks_pack_takes(v[i]) && v[i]->pack == 0)
			small[k++] = v[i];
	}
	if (k)
		r = ks_pack_append(d->pack, small, k);
	free(small);
	return r;
}

int ks_upload_slices(struct ks_data *d, struct slice *const *v, size_t n)
{
	size_t todo = 0;
	int first_err = 0;

	for (size_t i = 0; i < n; i++)
		todo += requeue(v[i]);
	for (size_t i = 0; todo > 1 && i < n; i++)
		queue_all(d, v[i]);
	if (d->pack)
		first_err = pack_small(d, v, n);
	/* From the end: the workers begin at the start. */
	for (size_t i = n; i-- > 0;) {
		int r = ks_pack_takes(v[i]) ? (v[i]->pack ? 0 : first_err) : finish_blocks(v[i]);

		v[i]->err = r;
		if (r < 0 && first_err == 0)
			first_err = r;
	}
	return first_err;
}

void ks_upload_cancel(struct slice *s)
{
	struct ks_data *d = s->d;
	struct block *b;

	ks_mutex_lock(&s->mu);
	ks_list_foreach (b, &s->blocks, struct block, link) {
		if (b->state == BLOCK_QUEUED)
			b->state = BLOCK_OFF;
	}
	while (block_in(s, BLOCK_RUNNING)) {
		s->waiting++;
		ks_cond_wait(&s->cv, &s->mu, -1);
		s->waiting--;
	}
	ks_mutex_unlock(&s->mu);
	/* No block is made any more, and none runs. */
	ks_list_foreach (b, &s->blocks, struct block, link) {
		char key[KS_KEY_STR];
		const char *keys[] = { key };

		if (b->state != BLOCK_DONE || s->unsure)
			continue;
		ks_block_key(key, s->id, b->idx, b->size);
		/* What is left behind the garbage collector finds. */
		KS_IGNORE(ks_object_del(d->o.store, keys, 1));
	}
}
