/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_rescue.c: a slice of which the metadata knows nothing any more, from what its blocks say in their trailers. */
#include "volume/fsck_internal.h"

#include <sys/param.h>

#define BLOCKS_MAX (KS_CHUNK_SIZE / KS_BLOCK_MIN)

struct rescue {
	uint64_t slice;
	struct ks_rec_slice s;
	uint32_t size[BLOCKS_MAX];
	uint32_t n; /* the highest index and one */
	bool doubtful;
	unsigned char sums[KS_CHUNK_SIZE / KS_PAGE_SIZE * 4];
};

static int list_one(void *arg, const char *key, const struct ks_object_info *info)
{
	struct rescue *x = arg;
	uint64_t slice;
	uint32_t idx, size;

	if (!ks_block_key_parse(key, &slice, &idx, &size) || slice != x->slice)
		return 0;
	if (idx >= BLOCKS_MAX || x->size[idx] || size == 0 ||
	    info->size_bytes != ks_block_object_size(size)) {
		x->doubtful = true;
		return 0;
	}
	x->size[idx] = size;
	x->n = ks_max(x->n, idx + 1);
	return 0;
}

/* All there, all of one size but the last? */
static bool whole(struct rescue *x, uint64_t need, uint32_t block_size)
{
	uint64_t len = 0;

	if (x->doubtful || x->n == 0)
		return false;
	for (uint32_t i = 0; i < x->n; i++) {
		if (!x->size[i] || x->size[i] > x->size[0] ||
		    (i + 1 < x->n && x->size[i] != x->size[0]))
			return false;
		len += x->size[i];
	}
	x->s.block_size =
		x->n > 1 ? x->size[0]
			 : ks_max(block_size, (uint32_t)ks_round_up(x->size[0], KS_BLOCK_MIN));
	if (!powerof2(x->s.block_size) || x->s.block_size < KS_BLOCK_MIN ||
	    x->s.block_size > KS_BLOCK_MAX)
		return false;
	x->s.len = (uint32_t)ks_min(len, KS_CHUNK_SIZE);
	return len <= KS_CHUNK_SIZE && len >= need;
}

static int read_sums(struct ks_fsck *f, struct rescue *x)
{
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < x->n; i++) {
		r = ks_fsck_trailer(f->m->store, x->slice, i, x->size[i], sums);
		if (r == 0)
			ks_fsck_put_sums(x->sums + (uint64_t)i * x->s.block_size / KS_PAGE_SIZE * 4,
					 sums, ks_pages_of(x->size[i]));
	}
	return r;
}

static int rescue_body(struct ks_txn *t, void *arg)
{
	struct rescue *x = arg;
	struct ks_rec_freed freed = { .slice = x->slice };

	for (uint32_t i = 0; i < x->n; i++) {
		struct ks_rec_block b = { .slice = x->slice, .idx = i, .size = x->size[i] };

		b.sums = (struct ks_bytes){ x->sums + (uint64_t)i * x->s.block_size / KS_PAGE_SIZE *
							      4,
					    (size_t)ks_pages_of(b.size) * 4 };
		ks_txn_put(t, KS_T_BLOCK, &b);
	}
	ks_txn_put(t, KS_T_SLICE, &x->s);
	ks_txn_del(t, KS_T_FREED, &freed);
	return 0;
}

int ks_fsck_rescue(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t need, uint64_t refs)
{
	struct rescue *x = calloc(1, sizeof(*x));
	char prefix[KS_KEY_STR];
	char *cut;
	int r;

	if (!x)
		return -ENOMEM;
	x->slice = p->slice;
	x->s = (struct ks_rec_slice){
		.id = p->slice, .status = KS_SLICE_COMMITTED, .refs = refs, .ctime_ns = f->now_ns
	};
	ks_block_key(prefix, p->slice, 0, 0);
	cut = strchr(prefix, '_');
	cut[1] = '\0';
	r = ks_object_list(f->m->store, prefix, "", list_one, x);
	if (r == 0)
		r = whole(x, need, (uint32_t)f->m->settings->block_size) ? read_sums(f, x) : 1;
	if (r == 0)
		r = ks_fsck_found(f, p, 0, rescue_body, x);
	free(x);
	return r;
}
