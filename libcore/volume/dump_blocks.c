/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dump_blocks.c: a volume's objects into a dump: those that its metadata names, blocks first, then packs, each in the order of its table. What is read is compared with
 * its checksums; what is damaged is reported and dumped as it is, for the pages that are whole.
 */
#include "base/log.h"
#include "data/block.h"
#include "data/data.h"
#include "volume/dump_internal.h"
#include "volume/walk.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIECE ((size_t)1 * KS_MIB)
#define OBJECT_MAX (KS_BLOCK_MAX + KS_BLOCK_TAIL_MAX)

static int begin(struct ks_dump *d, const char *key, uint64_t size)
{
	char name[sizeof(KS_DUMP_OBJECTS) + KS_OBJECT_KEY_MAX];
	int r;

	snprintf(name, sizeof(name), KS_DUMP_OBJECTS "%s", key);
	r = ks_arc_out_begin(d->arc, name, size);
	if (r == 0) {
		ks_dump_count(&d->out->objects, 1);
		ks_dump_count(&d->out->object_bytes, size);
		d->out->out_bytes = ks_arc_out_bytes(d->arc);
	}
	return r;
}

/* ---- blocks ---- */

static bool sums_right(const struct ks_rec_block *b, const uint8_t *data)
{
	const unsigned char *p = b->sums.p;

	if (b->sums.n != (size_t)ks_pages_of(b->size) * 4)
		return false;
	for (uint32_t at = 0; at < b->size; at += (uint32_t)KS_PAGE_SIZE, p += 4) {
		uint32_t n = ks_min((uint32_t)KS_PAGE_SIZE, b->size - at);
		uint32_t want = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
				(uint32_t)p[3] << 24;

		if (ks_crc32c(0, data + at, n) != want)
			return false;
	}
	return true;
}

static int put_block(struct ks_dump *d, struct ks_object *store, const struct ks_rec_block *b,
		     uint8_t *buf)
{
	uint64_t size = ks_block_object_size(b->size);
	struct iovec iov = { buf, OBJECT_MAX };
	char key[KS_KEY_STR];
	ssize_t n;
	int r;

	ks_block_key(key, b->slice, b->idx, b->size);
	ks_fail_clear();
	n = ks_object_get(store, key, 0, &iov, 1);
	if (n >= 0 && (uint64_t)n != size) {
		n = ks_fail(-EBADMSG, "%s: object %s has %zd bytes, not %ju", ks_object_url(store),
			    key, n, (uintmax_t)size);
	} else if (n == -ENOENT) {
		n = ks_fail((int)n, "%s: object %s is missing", ks_object_url(store), key);
	}
	if (n < 0) {
		ks_dump_failed(d, key, (int)n, NULL);
		return 0;
	}
	if (!sums_right(b, buf)) {
		r = ks_fail(-EBADMSG, "%s: object %s is damaged", ks_object_url(store), key);
		ks_dump_failed(d, key, r, NULL);
	}
	r = begin(d, key, size);
	if (r == 0)
		r = ks_arc_out_data(d->arc, buf, (size_t)size);
	return r == 0 ? ks_arc_out_end(d->arc) : r;
}

/* Blocks whose slice is gone wait to be deleted, or have been. */
static int put_blocks(struct ks_dump *d, struct ks_object *store, uint8_t *buf)
{
	struct ks_engine *e = ks_meta_engine(d->meta);
	struct ks_walk slices, blocks;
	int r;

	ks_walk_begin(&slices, e, KS_T_SLICE);
	ks_walk_begin(&blocks, e, KS_T_BLOCK);
	while ((r = ks_walk_next(&blocks)) == 0 && blocks.rec) {
		const struct ks_rec_block *b = blocks.rec;

		r = ks_walk_to(&slices, b->slice);
		if (r == 0 && ks_walk_key(&slices) == b->slice && b->size &&
		    b->size <= KS_BLOCK_MAX)
			r = put_block(d, store, b, buf);
		if (r == 0)
			r = ks_dump_stopped(d);
		if (r < 0)
			break;
	}
	ks_walk_end(&slices);
	ks_walk_end(&blocks);
	return r;
}

/* ---- packs ---- */

/* Whoever appends may be further than the metadata: only what it knows counts. */
static int put_pack(struct ks_dump *d, struct ks_object *store, const struct ks_rec_pack *p,
		    uint8_t *buf)
{
	struct ks_object_info info = { 0 };
	uint64_t at = 0, size;
	char key[KS_KEY_STR];
	int r;

	ks_pack_key(key, p->id);
	ks_fail_clear();
	r = ks_object_head(store, key, &info);
	if (r == 0 && info.size_bytes < p->size) {
		r = ks_fail(-EBADMSG, "%s: object %s has %ju bytes, not %ju", ks_object_url(store),
			    key, (uintmax_t)info.size_bytes, (uintmax_t)p->size);
	} else if (r == -ENOENT && p->slices) {
		r = ks_fail(r, "%s: object %s is missing", ks_object_url(store), key);
	} else if (r == -ENOENT) {
		return 0;
	}
	if (r < 0)
		ks_dump_failed(d, key, r, NULL);
	size = ks_min(p->size, info.size_bytes);
	if (size == 0)
		return 0;
	r = begin(d, key, size);
	while (r == 0 && at < size) {
		struct iovec iov = { buf, ks_min((uint64_t)PIECE, size - at) };
		ssize_t n = ks_object_get(store, key, at, &iov, 1);

		/* The member's size is written already. */
		if (n != (ssize_t)iov.iov_len) {
			if (n >= 0)
				n = ks_fail(-EIO, "%s: object %s became shorter",
					    ks_object_url(store), key);
			ks_dump_failed(d, key, (int)n, NULL);
			memset(buf, 0, iov.iov_len);
		}
		r = ks_arc_out_data(d->arc, buf, iov.iov_len);
		at += iov.iov_len;
		if (r == 0)
			r = ks_dump_stopped(d);
	}
	return r == 0 ? ks_arc_out_end(d->arc) : r;
}

int ks_dump_objects(struct ks_dump *d, struct ks_object *store)
{
	uint8_t *buf = aligned_alloc(4096, ks_round_up(OBJECT_MAX, 4096));
	struct ks_walk packs;
	int r = buf ? put_blocks(d, store, buf) : -ENOMEM;

	ks_walk_begin(&packs, ks_meta_engine(d->meta), KS_T_PACK);
	while (r == 0 && (r = ks_walk_next(&packs)) == 0 && packs.rec)
		r = put_pack(d, store, packs.rec, buf);
	ks_walk_end(&packs);
	free(buf);
	return r;
}
