/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_mend.c: objects whose data is right and whose words about themselves are not: nobody reads wrong data, but a rescue without metadata would. A block is
 * written again; a slice in a pack, of which nothing can be overwritten, gets blocks of its own.
 */
#include "volume/fsck_internal.h"

struct mend {
	struct ks_fsck *f;
	uint64_t slice, pack, pack_off;
	uint32_t idx, size;
	uint8_t *data; /* page aligned; size bytes, and room for the tail */
	/* Out of a pack: */
	uint32_t block_size;
};

static int read_data(struct mend *m)
{
	size_t room = (size_t)ks_round_up(m->size, 4096) + KS_BLOCK_TAIL_MAX;
	struct iovec iov;
	char key[KS_KEY_STR];
	ssize_t n;

	m->data = aligned_alloc(4096, (size_t)ks_round_up(room, 4096));
	if (!m->data)
		return -ENOMEM;
	if (m->pack)
		ks_pack_key(key, m->pack);
	else
		ks_block_key(key, m->slice, m->idx, m->size);
	iov = (struct iovec){ m->data, m->size };
	n = ks_object_get(m->f->m->store, key, m->pack ? m->pack_off : 0, &iov, 1);
	if (n < 0)
		return (int)n;
	return (size_t)n == m->size ? 0 : -ECANCELED;
}

/* One block with a new trailer, from @at of the data on. */
static int put_block(struct mend *m, uint32_t idx, uint32_t at, uint32_t size)
{
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];

	return ks_block_put(m->f->m->store, m->slice, idx, m->data + at, size, sums);
}

static int block_body(struct ks_txn *t, void *arg)
{
	(void)t;
	(void)arg;
	return 0; /* all was done in the store */
}

/* The slice leaves its pack, whose records are put right with it. */
static int pack_body(struct ks_txn *t, void *arg)
{
	struct mend *m = arg;
	struct ks_rec_slice s = { .id = m->slice };
	struct ks_rec_pack p = { .id = m->pack };
	struct ks_read rd[] = { { .table = KS_T_SLICE, .rec = &s },
				{ .table = KS_T_PACK, .flags = KS_READ_WEAK, .rec = &p } };
	struct ks_upd u[] = { KS_FSCK_UPD(pack, live, KS_UPD_ADD, -(int64_t)m->size),
			      KS_FSCK_UPD(pack, slices, KS_UPD_ADD, -1) };
	int r = ks_txn_read(t, rd, 2);

	if (r < 0)
		return r;
	if (!rd[0].found || s.pack != m->pack)
		return -ECANCELED;
	for (uint32_t i = 0; i < ks_blocks_of(m->size, m->block_size); i++) {
		uint32_t at = i * m->block_size;
		struct ks_rec_block b = { .slice = m->slice,
					  .idx = i,
					  .size = ks_fsck_block_len(m->size, m->block_size, i) };
		size_t pages = ks_pages_of(b.size);

		/* Page by page as they were in the pack. */
		b.sums = (struct ks_bytes){ (const char *)s.sums.p + at / KS_PAGE_SIZE * 4,
					    pages * 4 };
		ks_txn_put(t, KS_T_BLOCK, &b);
	}
	s.pack = s.pack_off = 0;
	s.block_size = m->block_size;
	s.sums = (struct ks_bytes){ "", 0 };
	ks_txn_put(t, KS_T_SLICE, &s);
	if (rd[1].found)
		ks_txn_update(t, KS_T_PACK, &p, u, 2);
	return 0;
}

/* The objects are durable before any record names them. */
static int rewrite(struct mend *m)
{
	int r = read_data(m);

	if (r == 0 && !m->pack)
		r = put_block(m, m->idx, 0, m->size);
	for (uint32_t i = 0; r == 0 && m->pack && i < ks_blocks_of(m->size, m->block_size); i++)
		r = put_block(m, i, i * m->block_size,
			      ks_fsck_block_len(m->size, m->block_size, i));
	if (r == 0)
		r = ks_object_sync(m->f->m->store);
	free(m->data);
	return r;
}

static int one(struct ks_fsck *f, const uint64_t *rec)
{
	struct mend m = { .f = f,
			  .slice = rec[MEND_SLICE],
			  .idx = (uint32_t)rec[MEND_IDX],
			  .size = (uint32_t)rec[MEND_SIZE],
			  .pack = rec[MEND_PACK],
			  .pack_off = rec[MEND_PACK_OFF],
			  .block_size = (uint32_t)f->m->settings->block_size };
	struct ks_fsck_problem p = { .kind = "bad_trailer",
				     .repair = KS_FSCK_R_SAFE,
				     .slice = m.slice,
				     .pack = m.pack,
				     .text = "block whose data is right and whose trailer is not" };
	struct ks_sort_cur c;
	int r;

	if (m.pack) {
		p.kind = "bad_pack_header";
		p.text = "packed piece whose data is right and whose header is not";
	}
	ks_sort_begin(&c, f->uses);
	r = ks_sort_seek(&c, &m.slice, 1);
	if (r == 0 && c.rec && c.rec[USE_SLICE] == m.slice)
		p.ino = c.rec[USE_INO];
	ks_sort_end(&c);
	if (r == 0 && ks_fsck_may(f, p.repair))
		r = rewrite(&m);
	/* What cannot be stored stays a finding. */
	if (r < 0 && r != -ENOMEM)
		return ks_fsck_found(f, &p, m.idx, NULL, NULL);
	return r < 0 ? r : ks_fsck_found(f, &p, m.idx, m.pack ? pack_body : block_body, &m);
}

int ks_fsck_mend(struct ks_fsck *f, struct ks_sort *list)
{
	struct ks_sort_cur c;
	int r = 0;

	ks_sort_begin(&c, list);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec)
		r = one(f, c.rec);
	ks_sort_end(&c);
	return r;
}
