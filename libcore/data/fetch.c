/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fetch.c: stored pages, through the page cache, each checked against its CRC-32C before anybody sees it.
 *
 * A reader that misses makes LOADING entries for the run of missing pages of one block and reads them with one get straight into pool pages;
 * it never waits for others' pages while it has entries of its own to load. Without memory it reads privately, page by page.
 */
#include "data/data_internal.h"

#include <inttypes.h>

static uint32_t len_of(const struct ks_src *src, uint32_t page)
{
	return ks_min((uint32_t)KS_PAGE_SIZE, src->size - page * (uint32_t)KS_PAGE_SIZE);
}

static void key_of(const struct ks_src *src, char key[KS_KEY_STR])
{
	if (src->pack)
		ks_pack_key(key, src->pack);
	else
		ks_block_key(key, src->slice, src->idx, src->size);
}

void ks_src_of_extent(struct ks_src *src, const struct ks_extent *e, uint32_t off)
{
	uint32_t per = e->block_size / (uint32_t)KS_PAGE_SIZE;

	*src = (struct ks_src){ .slice = e->slice };
	if (e->pack) {
		src->pack = e->pack;
		src->base = e->pack_off;
		src->size = e->slice_len;
		src->sums = e->sums;
		return;
	}
	src->idx = off / e->block_size;
	src->first = src->idx * per;
	src->size = ks_min(e->block_size, e->slice_len - src->idx * e->block_size);
}

/* One get of pages [page, page + n) into @iov and their check. */
static int get_pages(struct ks_data *d, const struct ks_src *src, uint32_t page, uint32_t n,
		     struct iovec *iov)
{
	uint32_t sums[KS_GET_PAGES];
	uint8_t *base[KS_GET_PAGES];
	char key[KS_KEY_STR];
	uint64_t want = 0;
	ssize_t got;
	int k = 0;
	int r = ks_index_sums(d, src, page, n, sums);

	if (r < 0)
		return r;
	key_of(src, key);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = len_of(src, page + i);

		base[i] = iov[i].iov_base;
		want += len;
		/* Whole 4096s lie in the object, since padding and index follow the data. */
		iov[i].iov_len = src->pack ? len : ks_round_up(len, 4096);
		if (k && (uint8_t *)iov[k - 1].iov_base + iov[k - 1].iov_len == base[i])
			iov[k - 1].iov_len += iov[i].iov_len;
		else
			iov[k++] = iov[i];
	}
	got = ks_object_get(d->o.store, key, src->base + (uint64_t)page * KS_PAGE_SIZE, iov, k);
	ks_atomic_add(&d->fetches, 1);
	if (got == -ENOENT)
		return ks_fail(-EIO, "slice %" PRIu64 " block %" PRIu32 ": object %s is missing",
			       src->slice, src->idx, key);
	if (got < 0)
		return (int)got;
	if ((uint64_t)got < want)
		return ks_fail(-EIO, "slice %" PRIu64 " block %" PRIu32 ": object %s is cut short",
			       src->slice, src->idx, key);
	ks_atomic_add(&d->fetch_bytes, want);
	for (uint32_t i = 0; i < n; i++) {
		if (ks_crc32c(0, base[i], len_of(src, page + i)) == sums[i])
			continue;
		return ks_fail(-EIO,
			       "slice %" PRIu64 " block %" PRIu32 " page %" PRIu32
			       ": wrong checksum in object %s",
			       src->slice, src->idx, page + i, key);
	}
	return 0;
}

/* Loads the entries; on return each is READY or failed. *loaded: how many are READY, from the first. -EAGAIN: no memory for even one. */
static int load(struct ks_data *d, const struct ks_src *src, uint32_t page, struct ks_pentry **e,
		uint32_t n, uint32_t *loaded)
{
	struct iovec iov[KS_GET_PAGES];
	uint32_t have = 0;
	int r = -EAGAIN;

	*loaded = 0;
	while (have < n) {
		uint32_t len = len_of(src, page + have);

		if (!ks_pool_get(d->pool, len, KS_POOL_READ, &e[have]->mem))
			break;
		e[have]->len = len;
		iov[have].iov_base = e[have]->mem.p;
		have++;
	}
	if (have)
		r = get_pages(d, src, page, have, iov);
	for (uint32_t i = 0; i < n; i++) {
		if (i < have && r == 0)
			ks_pcache_ready(d->cache, e[i]);
		else
			ks_pcache_fail(d->cache, e[i], i < have ? r : -EAGAIN);
	}
	if (r == 0)
		*loaded = have;
	return r;
}

/* Reads bytes [off, off + n) of page @page past the pool. */
static int read_private(struct ks_data *d, const struct ks_src *src, uint32_t page, uint32_t off,
			uint32_t n, uint8_t *dst)
{
	void *buf = NULL;
	struct iovec iov;
	int r = -posix_memalign(&buf, 4096, KS_PAGE_SIZE);

	if (r < 0)
		return r;
	iov.iov_base = buf;
	r = get_pages(d, src, page, 1, &iov);
	if (r == 0)
		memcpy(dst, (uint8_t *)buf + off, n);
	free(buf);
	return r;
}

/* Entries for the missing pages from @page on, up to @last; e[0] is there already. */
static uint32_t extend_run(struct ks_data *d, const struct ks_src *src, uint32_t page,
			   uint32_t last, unsigned int flags, struct ks_pentry **e)
{
	uint32_t n = 1;

	while (n < KS_GET_PAGES && page + n <= last &&
	       ks_pcache_begin(d->cache, src->slice, src->first + page + n, flags, &e[n]) ==
		       KS_PCACHE_MISS)
		n++;
	return n;
}

struct cursor {
	uint32_t off; /* within the source */
	uint32_t n;
	uint8_t *dst;
};

/* How much of the wanted bytes lies in the page of c->off. */
static uint32_t in_page(const struct cursor *c)
{
	return ks_min(c->n, (uint32_t)(KS_PAGE_SIZE - c->off % KS_PAGE_SIZE));
}

static void advance(struct cursor *c, uint32_t m)
{
	c->off += m;
	c->dst += m;
	c->n -= m;
}

static void copy_out(struct ks_data *d, struct ks_pentry *e, struct cursor *c)
{
	uint32_t m = in_page(c);

	memcpy(c->dst, e->mem.p + c->off % KS_PAGE_SIZE, m);
	ks_pcache_put(d->cache, e);
	advance(c, m);
}

static int read_miss(struct ks_data *d, const struct ks_src *src, struct ks_pentry *e0,
		     struct cursor *c)
{
	struct ks_pentry *e[KS_GET_PAGES] = { e0 };
	uint32_t page = c->off / (uint32_t)KS_PAGE_SIZE;
	uint32_t last = (c->off + c->n - 1) / (uint32_t)KS_PAGE_SIZE;
	uint32_t n = extend_run(d, src, page, last, KS_PCACHE_ABSENT, e);
	uint32_t loaded;
	int r = load(d, src, page, e, n, &loaded);

	if (r == -EAGAIN) {
		uint32_t m = in_page(c);

		r = read_private(d, src, page, c->off % (uint32_t)KS_PAGE_SIZE, m, c->dst);
		if (r == 0)
			advance(c, m);
		return r;
	}
	for (uint32_t i = 0; i < loaded; i++)
		copy_out(d, e[i], c);
	return r;
}

int ks_src_read(struct ks_data *d, const struct ks_src *src, uint32_t off, uint32_t n, uint8_t *dst,
		bool seq)
{
	struct cursor c = { .off = off, .n = n, .dst = dst };
	int r = 0;

	while (r == 0 && c.n) {
		uint32_t page = c.off / (uint32_t)KS_PAGE_SIZE;
		unsigned int flags = seq && c.off % KS_PAGE_SIZE ? KS_PCACHE_WITHIN : 0;
		struct ks_pentry *e;
		uint32_t m;

		switch (ks_pcache_begin(d->cache, src->slice, src->first + page, flags, &e)) {
		case KS_PCACHE_HIT:
			copy_out(d, e, &c);
			break;
		case KS_PCACHE_BUSY:
			r = ks_pcache_wait(d->cache, e);
			if (r == 0) {
				copy_out(d, e, &c);
				break;
			}
			ks_pcache_put(d->cache, e);
			r = r == -EAGAIN ? 0 : r;
			break;
		case KS_PCACHE_MISS:
			r = read_miss(d, src, e, &c);
			break;
		case KS_PCACHE_NONE:
			m = in_page(&c);
			r = read_private(d, src, page, c.off % (uint32_t)KS_PAGE_SIZE, m, c.dst);
			if (r == 0)
				advance(&c, m);
			break;
		}
	}
	return r;
}

void ks_src_ahead(struct ks_data *d, const struct ks_src *src, uint32_t off, uint32_t n)
{
	uint32_t page = off / (uint32_t)KS_PAGE_SIZE;
	uint32_t last = (off + n - 1) / (uint32_t)KS_PAGE_SIZE;
	bool quiet;

	while (page <= last) {
		struct ks_pentry *e[KS_GET_PAGES];
		uint32_t k;
		uint32_t loaded;
		int r;

		if (ks_pcache_begin(d->cache, src->slice, src->first + page, KS_PCACHE_AHEAD,
				    &e[0]) != KS_PCACHE_MISS) {
			page++;
			continue;
		}
		k = extend_run(d, src, page, last, KS_PCACHE_AHEAD, e);
		/* The reader that needs a page which cannot be had will say so. */
		quiet = ks_fail_quiet(true);
		r = load(d, src, page, e, k, &loaded);
		ks_fail_quiet(quiet);
		for (uint32_t i = 0; i < loaded; i++)
			ks_pcache_put(d->cache, e[i]);
		if (r < 0)
			return;
		page += loaded;
	}
}
