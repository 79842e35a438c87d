/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewrite.c: committed bytes of a chunk are copied to a slice of their own, for compaction.
 *
 * Past the write buffer: a block at a time, in memory of the caller's thread, so that writers never wait for it. Every page that is read is checked; the copy
 * gets checksums of its own.
 */
#include "data/data_internal.h"

struct job {
	struct ks_data *d;
	const struct ks_rewrite *w;
	uint32_t *sums;
	uint64_t slice;
	uint32_t len;
	size_t at; /* the range that is copied next or now */
};

/* Bytes [off, off + n) of the new slice. The blocks come in their order. */
static int gather(struct job *j, uint32_t off, uint32_t n, uint8_t *dst)
{
	const struct ks_rewrite *w = j->w;
	int r = 0;

	while (r == 0 && n) {
		const struct ks_copied *c = &w->v[j->at];
		uint32_t in = off - c->off;
		uint32_t k = ks_min(n, c->len - in);

		r = ks_data_read_map(j->d, w->map, c->pos + in, k, dst);
		j->at += in + k == c->len;
		off += k;
		dst += k;
		n -= k;
	}
	return r;
}

static int put_block(struct job *j, uint8_t *buf, uint32_t idx)
{
	uint32_t bs = j->d->o.block_size;
	uint32_t at = idx * bs;
	uint32_t size = ks_min(bs, j->len - at);
	int r = gather(j, at, size, buf);

	if (r == 0)
		r = ks_block_put(j->d->o.store, j->slice, idx, buf, size,
				 j->sums + at / KS_PAGE_SIZE);
	if (r == 0) {
		ks_atomic_add(&j->d->uploads, 1);
		ks_atomic_add(&j->d->upload_bytes, size);
	}
	return r;
}

static int put_blocks(struct job *j)
{
	uint32_t bs = j->d->o.block_size;
	uint32_t n = ks_blocks_of(j->len, bs);
	void *buf = NULL;
	int r = -posix_memalign(&buf, 4096, ks_round_up((size_t)ks_min(bs, j->len), 4096));

	for (uint32_t i = 0; r == 0 && i < n; i++) {
		if (j->w->stop && j->w->stop(j->w->arg))
			r = -EINTR;
		else
			r = put_block(j, buf, i);
	}
	free(buf);
	/* What is left behind the garbage collector finds. */
	if (r < 0)
		KS_IGNORE(ks_data_delete_slice(j->d, j->slice, j->len, bs) < 0);
	return r;
}

static int put_packed(struct job *j, struct ks_rewritten *out)
{
	const struct ks_rewrite *w = j->w;
	struct ks_pack_head h = { .ino = w->ino,
				  .slice = j->slice,
				  .off = w->chunk * KS_CHUNK_SIZE + w->v[0].pos,
				  .len = j->len,
				  .npages = ks_pages_of(j->len) };
	size_t size = ks_round_up(KS_PACK_HEADER_SIZE + (size_t)j->len, KS_PACK_ALIGN);
	uint8_t *buf = calloc(1, size);
	struct iovec iov = { buf, size };
	uint64_t off = 0;
	int r = buf ? gather(j, 0, j->len, buf + KS_PACK_HEADER_SIZE) : -ENOMEM;

	if (r == 0) {
		ks_pages_sum(buf + KS_PACK_HEADER_SIZE, j->len, j->sums);
		memcpy(h.sums, j->sums, h.npages * sizeof(*h.sums));
		ks_pack_seal(buf, &h);
		r = ks_data_pack_begin(j->d, &out->log, &out->s.pack);
	}
	if (r == 0)
		r = ks_data_pack_add(j->d, out->log, &iov, 1, &off);
	out->s.pack_off = off + KS_PACK_HEADER_SIZE;
	free(buf);
	return r;
}

int ks_data_rewrite(struct ks_data *d, const struct ks_rewrite *w, struct ks_rewritten *out)
{
	struct job j = { .d = d, .w = w };
	int r;

	for (size_t i = 0; i < w->n; i++)
		j.len += w->v[i].len;
	j.sums = calloc(ks_pages_of(j.len), sizeof(*j.sums));
	*out = (struct ks_rewritten){ .sums = j.sums };
	if (!j.sums)
		return -ENOMEM;
	r = d->o.host.slice_id(d->o.host.arg, &j.slice);
	out->s = (struct ks_commit_slice){ .chunk = w->chunk,
					   .pos = w->v[0].pos,
					   .len = j.len,
					   .slice = j.slice,
					   .block_size = d->o.block_size,
					   .sums = j.sums };
	if (r == 0)
		r = d->pack && j.len <= KS_PACK_SLICE_MAX ? put_packed(&j, out) : put_blocks(&j);
	if (r < 0)
		ks_data_rewritten_end(d, out, false);
	return r;
}

void ks_data_rewritten_end(struct ks_data *d, struct ks_rewritten *w, bool undo)
{
	if (undo && !w->s.pack)
		KS_IGNORE(ks_data_delete_slice(d, w->s.slice, w->s.len, w->s.block_size) < 0);
	if (w->log)
		ks_data_pack_end(w->log);
	free(w->sums);
	*w = (struct ks_rewritten){ 0 };
}
