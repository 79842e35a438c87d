/* SPDX-License-Identifier: Apache-2.0 */
/* recover.c: after a power cut. Bounded by what the session wrote after its last barrier; only where something is missing all extents are looked through. */
#include "volume/recover.h"

#include "base/array.h"
#include "base/size.h"
#include "volume/fsck_internal.h"
#include "volume/info.h"

#define TOLD_MAX 1000u /* files named in the log */

struct recovery {
	const struct ks_recover *on;
	const struct ks_session_info *session;
	struct ks_fsck_bytes buf;
	uint64_t slices, bytes; /* looked at */
	uint64_t *lost;         /* numbers of slices, rising */
	size_t nlost, caplost;
	uint64_t files;
};

static int push(struct recovery *c, uint64_t slice)
{
	if (ks_array_room(&c->lost, c->nlost, &c->caplost) < 0)
		return -ENOMEM;
	c->lost[c->nlost++] = slice;
	return 0;
}

/* Is it there, as the metadata's checksums have it? What a disk refuses to read is no matter of a power cut. */
static int look(struct recovery *c, const struct ks_rec_slice *s, uint32_t idx, uint32_t size,
		struct ks_bytes sums, bool *lost)
{
	struct ks_fsck_block b = {
		.slice = s->id, .pack = s->pack, .pack_off = s->pack_off, .idx = idx, .size = size
	};
	enum ks_bad kind;
	uint32_t from, to;
	int r;

	if (sums.n != (size_t)ks_pages_of(size) * 4 || sums.n > sizeof(b.sums))
		return 0; /* fsck's */
	ks_fsck_get_sums(b.sums, sums);
	r = ks_fsck_verify(c->on->store, &b, c->buf, &kind, &from, &to);
	c->bytes += size;
	*lost = *lost || (r > 0 && kind != KS_BAD_TRAILER && kind != KS_BAD_UNREADABLE);
	return ks_min(r, 0);
}

static int look_all(struct recovery *c)
{
	struct ks_engine *e = ks_meta_engine(c->on->meta);
	struct ks_walk slices, blocks;
	int r = 0;

	ks_walk_begin_at(&slices, e, KS_T_SLICE, c->session->low);
	ks_walk_begin_at(&blocks, e, KS_T_BLOCK, c->session->low);
	while (r == 0 && (r = ks_walk_next(&slices)) == 0 && slices.rec) {
		const struct ks_rec_slice *s = slices.rec;
		bool lost = false;

		if (s->session != c->session->id)
			continue;
		c->slices++;
		if (s->pack)
			r = look(c, s, 0, s->len, s->sums, &lost);
		else
			r = ks_walk_to(&blocks, s->id);
		while (r == 0 && !s->pack && ks_walk_key(&blocks) == s->id) {
			const struct ks_rec_block *b = blocks.rec;

			if (!lost)
				r = look(c, s, b->idx, b->size, b->sums, &lost);
			if (r == 0)
				r = ks_walk_next(&blocks);
		}
		if (r == 0 && lost)
			r = push(c, s->id);
	}
	ks_walk_end(&slices);
	ks_walk_end(&blocks);
	return r;
}

/* ---- taking back ---- */

static int name_it(void *arg, const char *path, size_t n)
{
	const uint64_t *bytes = arg;
	char size[KS_SIZE_STR];

	ks_size_format(*bytes, size);
	ks_log(KS_LOG_WARN,
	       "%.*s: %s written just before the power failed did not reach the disk; what was "
	       "there before, or zeros, are there again",
	       (int)n, path, size);
	return 1;
}

static int tell(struct recovery *c, uint64_t ino, uint64_t bytes)
{
	struct ks_attr a;
	int r = ks_meta_getattr(c->on->meta, ino, &a);

	if (!bytes || r == -ENOENT)
		return 0;
	if (c->files++ >= TOLD_MAX || r < 0)
		return r;
	return ks_min(ks_info_paths(c->on->meta, &a, name_it, &bytes), 0);
}

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Extents come in the order of inodes and chunks: each chunk is put right once. */
static int undo_all(struct recovery *c)
{
	uint64_t ino = 0, chunk = UINT64_MAX, bytes = 0;
	struct ks_walk w;
	int r = 0;

	ks_walk_begin(&w, ks_meta_engine(c->on->meta), KS_T_EXTENT);
	while (r == 0 && (r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_extent *e = w.rec;
		uint64_t undone;

		if (!bsearch(&e->slice, c->lost, c->nlost, sizeof(*c->lost), by_number) ||
		    (e->ino == ino && e->chunk == chunk))
			continue;
		if (e->ino != ino && ino)
			r = tell(c, ino, bytes);
		if (e->ino != ino)
			bytes = 0;
		ino = e->ino;
		chunk = e->chunk;
		if (r == 0)
			r = ks_meta_undo(c->on->meta, ino, chunk, c->lost, c->nlost, &undone);
		bytes += r == 0 ? undone : 0;
	}
	ks_walk_end(&w);
	if (r == 0 && ino)
		r = tell(c, ino, bytes);
	return r;
}

static int recover(struct recovery *c)
{
	char size[KS_SIZE_STR];
	int r;

	c->buf = (struct ks_fsck_bytes){ aligned_alloc(4096, KS_FSCK_BUFFER), KS_FSCK_BUFFER };
	if (!c->buf.p)
		return -ENOMEM;
	r = look_all(c);
	if (r == 0 && c->nlost)
		r = undo_all(c);
	if (r == 0)
		r = ks_meta_skip_ids(c->on->meta);
	/* Others may find the session gone; then this must not come back. */
	if (r == 0)
		r = ks_meta_sync(c->on->meta);
	ks_size_format(c->bytes, size);
	if (r == 0)
		ks_log(c->nlost ? KS_LOG_WARN : KS_LOG_INFO,
		       "session %ju (%s on %s) ended with the power of its machine: %ju slices, "
		       "%s, "
		       "were checked, and %zu of them, in %ju files, had not reached the disk",
		       (uintmax_t)c->session->id, c->session->tool, c->session->host,
		       (uintmax_t)c->slices, size, c->nlost, (uintmax_t)c->files);
	else
		r = ks_fail(r, "what session %ju left at a power cut cannot be put right",
			    (uintmax_t)c->session->id);
	free(c->buf.p);
	free(c->lost);
	return r;
}

int ks_recover_died(void *arg, const struct ks_session_info *s)
{
	const struct ks_recover *on = arg;
	struct recovery c = { .on = on, .session = s };

	if (!on->store)
		return 1;
	/* Killed, and the machine went on: the data is in the kernel's memory, until now. */
	if (s->this_boot)
		return ks_object_sync_all(on->store);
	return recover(&c);
}
