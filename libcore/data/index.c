/* SPDX-License-Identifier: Apache-2.0 */
/*
 * index.c: page checksums of recently read blocks. A bounded table, oldest out first; one lock, under which nothing else is taken.
 */
#include "data/data_internal.h"

#include <inttypes.h>

#define ENTRIES_MAX 4096u

struct entry {
	struct ks_hnode node;
	struct ks_list age;
	uint64_t slice;
	uint32_t idx;
	uint32_t size;
	uint32_t npages;
	uint32_t sums[];
};

struct ks_index {
	pthread_mutex_t mu;
	struct ks_hmap map; /* [mu] */
	struct ks_list age; /* [mu] oldest first */
};

static uint64_t key_of(uint64_t slice, uint32_t idx)
{
	return slice << 10 ^ idx;
}

int ks_index_open(struct ks_index **out)
{
	struct ks_index *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	pthread_mutex_init(&x->mu, NULL);
	ks_list_init(&x->age);
	*out = x;
	return 0;
}

/* Needs x->mu. */
static void drop(struct ks_index *x, struct entry *e)
{
	ks_hmap_remove(&x->map, &e->node);
	ks_list_del(&e->age);
	free(e);
}

void ks_index_close(struct ks_index *x)
{
	struct entry *e;

	if (!x)
		return;
	while ((e = ks_list_first(&x->age, struct entry, age)))
		drop(x, e);
	ks_hmap_clear(&x->map);
	pthread_mutex_destroy(&x->mu);
	free(x);
}

/* Needs x->mu. */
static struct entry *find(struct ks_index *x, uint64_t slice, uint32_t idx)
{
	struct ks_hnode *n = ks_hmap_find(&x->map, key_of(slice, idx));

	for (; n; n = ks_hmap_find_next(n)) {
		struct entry *e = ks_container_of(n, struct entry, node);

		if (e->slice == slice && e->idx == idx)
			return e;
	}
	return NULL;
}

void ks_index_drop(struct ks_index *x, uint64_t slice, uint32_t idx)
{
	struct entry *e;

	KS_LOCKED(&x->mu);
	e = find(x, slice, idx);
	if (e)
		drop(x, e);
}

static void remember(struct ks_index *x, const struct ks_src *src, const struct ks_block_index *bi)
{
	struct entry *e = calloc(1, sizeof(*e) + bi->npages * sizeof(e->sums[0]));

	if (!e)
		return;
	e->slice = src->slice;
	e->idx = src->idx;
	e->size = bi->size;
	e->npages = bi->npages;
	memcpy(e->sums, bi->sums, bi->npages * sizeof(e->sums[0]));
	KS_LOCKED(&x->mu);
	if (find(x, src->slice, src->idx) ||
	    ks_hmap_insert(&x->map, &e->node, key_of(src->slice, src->idx)) < 0) {
		free(e);
		return;
	}
	ks_list_add_tail(&x->age, &e->age);
	if (x->map.n > ENTRIES_MAX)
		drop(x, ks_list_first(&x->age, struct entry, age));
}

static bool known(struct ks_index *x, const struct ks_src *src, uint32_t page, uint32_t n,
		  uint32_t *out)
{
	struct entry *e;

	KS_LOCKED(&x->mu);
	e = find(x, src->slice, src->idx);
	/* An index of another size is no answer; the host is asked, and judged, again. */
	if (!e || e->size != src->size || page + n > e->npages)
		return false;
	memcpy(out, e->sums + page, n * sizeof(*out));
	return true;
}

int ks_index_sums(struct ks_data *d, const struct ks_src *src, uint32_t page, uint32_t n,
		  uint32_t *out)
{
	struct ks_block_index bi;
	int r;

	if (src->sums) {
		memcpy(out, src->sums + page, n * sizeof(*out));
		return 0;
	}
	if (known(d->index, src, page, n, out))
		return 0;
	r = d->o.host.block(d->o.host.arg, src->slice, src->idx, &bi);
	if (r == -ENOENT)
		return ks_fail(-EIO,
			       "slice %" PRIu64 " block %" PRIu32
			       ": the metadata has no checksums for it",
			       src->slice, src->idx);
	if (r < 0)
		return r;
	if (bi.size != src->size || bi.npages != ks_pages_of(bi.size))
		return ks_fail(-EIO,
			       "slice %" PRIu64 " block %" PRIu32 ": %" PRIu32
			       " bytes in the metadata's block, %" PRIu32 " in its slice",
			       src->slice, src->idx, bi.size, src->size);
	remember(d->index, src, &bi);
	memcpy(out, bi.sums + page, n * sizeof(*out));
	return 0;
}
