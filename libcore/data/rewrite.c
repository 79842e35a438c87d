/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewrite.c: committed bytes of a chunk are copied to a slice of their own, for compaction.
 *
 * Past the write buffer: a block at a time, in memory of the caller's thread, so that writers never wait for it. Every page that is read is checked; the copy
 * gets checksums of its own.
 */
#include "data/data_internal.h"

#include "base/hash.h"

struct job {
	struct ks_data *d;
	const struct ks_rewrite *w;
	uint32_t *sums;
	uint64_t slice;
};

static void sum_pages(const uint8_t *p, uint32_t n, uint32_t *sums)
{
	for (uint32_t i = 0; i < ks_pages_of(n); i++) {
		uint32_t at = i * (uint32_t)KS_PAGE_SIZE;

		sums[i] = ks_crc32c(0, p + at, ks_min((uint32_t)KS_PAGE_SIZE, n - at));
	}
}

static int put_block(const struct job *j, uint8_t *buf, uint32_t idx)
{
	_Alignas(4096) uint8_t tail[KS_BLOCK_TAIL_MAX];
	const struct ks_rewrite *w = j->w;
	uint32_t bs = j->d->o.block_size;
	uint32_t at = idx * bs;
	uint32_t size = ks_min(bs, w->len - at);
	uint32_t *sums = j->sums + at / KS_PAGE_SIZE;
	struct ks_block_head head = {
		.slice = j->slice, .idx = idx, .size = size, .npages = ks_pages_of(size)
	};
	uint32_t rest = size % 4096;
	struct iovec iov[2] = { { buf, size - rest }, { tail, 0 } };
	char key[KS_KEY_STR];
	int first = size == rest;
	int r = ks_data_read_map(j->d, w->map, w->pos + at, size, buf);

	if (r < 0)
		return r;
	sum_pages(buf, size, sums);
	memcpy(tail, buf + size - rest, rest);
	iov[1].iov_len = ks_block_seal(tail, rest, &head, sums);
	ks_block_key(key, j->slice, idx, size);
	r = ks_object_put(j->d->o.store, key, iov + first, 2 - first);
	if (r == 0) {
		ks_atomic_add(&j->d->uploads, 1);
		ks_atomic_add(&j->d->upload_bytes, size);
	}
	return r;
}

static int put_blocks(const struct job *j)
{
	uint32_t bs = j->d->o.block_size;
	uint32_t n = ks_blocks_of(j->w->len, bs);
	void *buf = NULL;
	int r = -posix_memalign(&buf, 4096, ks_round_up((size_t)ks_min(bs, j->w->len), 4096));

	for (uint32_t i = 0; r == 0 && i < n; i++) {
		if (j->w->stop && j->w->stop(j->w->arg))
			r = -EINTR;
		else
			r = put_block(j, buf, i);
	}
	free(buf);
	/* What is left behind the garbage collector finds. */
	if (r < 0)
		KS_IGNORE(ks_data_delete_slice(j->d, j->slice, j->w->len, bs) < 0);
	return r;
}

static int put_packed(const struct job *j, struct ks_rewritten *out)
{
	const struct ks_rewrite *w = j->w;
	struct ks_pack_head h = { .ino = w->ino,
				  .slice = j->slice,
				  .off = w->chunk * KS_CHUNK_SIZE + w->pos,
				  .len = w->len,
				  .npages = ks_pages_of(w->len) };
	size_t size = ks_round_up(KS_PACK_HEADER_SIZE + (size_t)w->len, KS_PACK_ALIGN);
	uint8_t *buf = calloc(1, size);
	struct iovec iov = { buf, size };
	uint64_t off = 0;
	int r = buf ? ks_data_read_map(j->d, w->map, w->pos, w->len, buf + KS_PACK_HEADER_SIZE)
		    : -ENOMEM;

	if (r == 0) {
		sum_pages(buf + KS_PACK_HEADER_SIZE, w->len, j->sums);
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
	uint32_t pages = ks_pages_of(w->len);
	struct job j = { .d = d, .w = w, .sums = calloc(pages, sizeof(*j.sums)) };
	int r;

	*out = (struct ks_rewritten){ .sums = j.sums };
	if (!j.sums)
		return -ENOMEM;
	r = d->o.host.slice_id(d->o.host.arg, &j.slice);
	out->s = (struct ks_commit_slice){ .chunk = w->chunk,
					   .pos = w->pos,
					   .len = w->len,
					   .slice = j.slice,
					   .block_size = d->o.block_size,
					   .sums = j.sums };
	if (r == 0)
		r = d->pack && w->len <= KS_PACK_SLICE_MAX ? put_packed(&j, out) : put_blocks(&j);
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
