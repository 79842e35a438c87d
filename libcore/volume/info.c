/* SPDX-License-Identifier: Apache-2.0 */
/*
 * info.c: from a file down to its objects by its chunks' maps, and from an object back. There is no index for the way back, which nobody
 * needs often enough to pay for it with every write: it is a walk over the slices (of a pack) and over the extents.
 */
#include "volume/info.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/log.h"
#include "volume/walk.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define DEPTH_MAX 100000u /* deeper is a ring: damage */

/* ---- down ---- */

static int piece(uint64_t base, const struct ks_extent *e, uint32_t from, uint32_t len,
		 ks_info_piece_fn *fn, void *arg)
{
	char key[KS_KEY_STR];
	uint32_t in_slice = e->off + from;
	uint32_t idx;
	struct ks_info_piece p = { .offset = base + e->pos + from,
				   .len = len,
				   .slice = e->slice,
				   .slice_off = in_slice,
				   .pack = e->pack,
				   .key = key };

	if (e->pack) {
		ks_pack_key(key, e->pack);
		p.key_off = e->pack_off + in_slice;
	} else {
		idx = in_slice / e->block_size;
		ks_block_key(key, e->slice, idx,
			     ks_min(e->block_size, e->slice_len - idx * e->block_size));
		p.key_off = in_slice % e->block_size;
	}
	return fn(arg, &p);
}

static int extent(uint64_t base, const struct ks_extent *e, ks_info_piece_fn *fn, void *arg)
{
	int r = 0;

	if (e->pack)
		return piece(base, e, 0, e->len, fn, arg);
	if (!e->block_size || e->off + (uint64_t)e->len > e->slice_len)
		return ks_fail_hint(-EBADMSG, "run kiseki-fsck", "slice %ju is damaged",
				    (uintmax_t)e->slice);
	for (uint32_t at = 0; at < e->len && r == 0;) {
		uint32_t left = e->block_size - (e->off + at) % e->block_size;
		uint32_t n = ks_min(left, e->len - at);

		r = piece(base, e, at, n, fn, arg);
		at += n;
	}
	return r;
}

struct next_chunk {
	uint64_t chunk;
	bool found;
};

static int found_chunk(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	struct next_chunk *n = arg;

	(void)inode;
	n->chunk = ((const struct ks_rec_extent *)rec)->chunk;
	n->found = true;
	return 1;
}

int ks_info_pieces(struct ks_meta *m, ks_ino_t ino, ks_info_piece_fn *fn, void *arg)
{
	struct ks_arena a = { 0 };
	struct ks_rec_extent from = { .ino = ino };
	struct next_chunk next;
	struct ks_scan s = { .table = KS_T_EXTENT,
			     .from = &from,
			     .nprefix = 1,
			     .limit = 1,
			     .fn = found_chunk,
			     .arg = &next };
	int r;

	/* From one chunk that has extents to the next: a sparse file may have billions that have none. */
	for (;;) {
		KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;

		next.found = false;
		r = ks_engine_scan(ks_meta_engine(m), &s, &a);
		ks_arena_reset(&a);
		if (r != 0 || !next.found)
			break;
		r = ks_meta_map(m, ino, next.chunk, &map);
		for (uint32_t i = 0; r == 0 && i < map->n; i++)
			r = extent(next.chunk * KS_CHUNK_SIZE, &map->e[i], fn, arg);
		if (r != 0)
			break;
		from.chunk = next.chunk;
		s.nafter = 1;
	}
	ks_arena_clear(&a);
	return r;
}

/* ---- up ---- */

struct name_of {
	uint64_t ino;
	struct ks_buf *out;
	bool found;
	int err;
};

static int is_name(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_dentry *d = rec;
	struct name_of *f = arg;

	(void)inode;
	if (d->ino != f->ino)
		return 0;
	f->found = true;
	f->err = ks_buf_append(f->out, d->name.p, d->name.n);
	return 1;
}

/* The name of @ino in @dir is appended; nothing when it has none there. */
static int name_in(struct ks_meta *m, uint64_t dir, uint64_t ino, struct ks_buf *out, bool *found)
{
	struct ks_arena a = { 0 };
	struct ks_rec_dentry from = { .parent = dir };
	struct name_of f = { .ino = ino, .out = out };
	struct ks_scan s = {
		.table = KS_T_DENTRY, .from = &from, .nprefix = 1, .fn = is_name, .arg = &f
	};
	int r = ks_engine_scan(ks_meta_engine(m), &s, &a);

	ks_arena_clear(&a);
	*found = f.found;
	return r < 0 ? r : f.err;
}

/* Puts @name of directory @dir, and what is above it, together from the end. */
static int path_of(struct ks_meta *m, uint64_t dir, const void *name, size_t n, struct ks_buf *out)
{
	KS_AUTO(ks_buf_clear) struct ks_buf tail = { 0 };
	bool found = true;
	int r = ks_buf_append(out, "/", 1);

	if (r == 0)
		r = ks_buf_append(out, name, n);
	for (unsigned int depth = 0; r == 0 && dir != KS_ROOT_INO; depth++) {
		struct ks_attr a;

		if (depth == DEPTH_MAX)
			return ks_fail_hint(-EBADMSG, "run kiseki-fsck",
					    "directory %ju is in a ring", (uintmax_t)dir);
		ks_buf_clear(&tail);
		tail = *out;
		*out = (struct ks_buf){ 0 };
		r = ks_meta_getattr(m, dir, &a);
		if (r == 0)
			r = ks_buf_append(out, "/", 1);
		if (r == 0)
			r = name_in(m, a.parent, dir, out, &found);
		if (r == 0 && !found)
			r = -ENOENT;
		if (r == 0)
			r = ks_buf_append(out, tail.p, tail.n);
		dir = a.parent;
	}
	return r;
}

int ks_info_dir_path(struct ks_meta *m, ks_ino_t ino, struct ks_buf *out)
{
	KS_AUTO(ks_buf_clear) struct ks_buf name = { 0 };
	struct ks_attr a;
	bool found = false;
	int r;

	if (ino == KS_ROOT_INO)
		return 0;
	r = ks_meta_getattr(m, ino, &a);
	if (r == 0 && !S_ISDIR(a.mode))
		r = -ENOTDIR;
	if (r == 0)
		r = name_in(m, a.parent, ino, &name, &found);
	if (r == 0 && !found)
		r = -ENOENT;
	return r == 0 ? path_of(m, a.parent, name.p, name.n, out) : r;
}

static int tell(struct ks_meta *m, uint64_t dir, const void *name, size_t n, ks_info_path_fn *fn,
		void *arg)
{
	KS_AUTO(ks_buf_clear) struct ks_buf path = { 0 };
	const char *text;
	int r = path_of(m, dir, name, n, &path);

	if (r == -ENOENT) /* renamed or removed meanwhile */
		return 0;
	if (r == 0)
		r = ks_buf_cstr(&path, &text);
	return r < 0 ? r : fn(arg, text, path.n);
}

static int every_name(struct ks_meta *m, uint64_t ino, ks_info_path_fn *fn, void *arg)
{
	struct ks_walk w;
	int r;

	ks_walk_begin(&w, ks_meta_engine(m), KS_T_DENTRY);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_dentry *d = w.rec;

		if (d->ino == ino)
			r = tell(m, d->parent, d->name.p, d->name.n, fn, arg);
		if (r != 0)
			break;
	}
	ks_walk_end(&w);
	return r;
}

/* Not a path that leads anywhere; kiseki-trash takes what follows the first part. */
static int trashed_name(struct ks_meta *m, const struct ks_attr *a, ks_info_path_fn *fn, void *arg)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	const char *text;
	bool found;
	int r = ks_buf_append(&b, "(trash)/", 8);

	if (r == 0)
		r = name_in(m, KS_TRASH_INO, a->parent, &b, &found);
	if (r == 0)
		r = ks_buf_append(&b, "/", 1);
	if (r == 0)
		r = name_in(m, a->parent, a->ino, &b, &found);
	if (r == 0)
		r = ks_buf_cstr(&b, &text);
	return r < 0 || !found ? r : fn(arg, text, b.n);
}

int ks_info_paths(struct ks_meta *m, const struct ks_attr *a, ks_info_path_fn *fn, void *arg)
{
	KS_AUTO(ks_buf_clear) struct ks_buf name = { 0 };
	bool found;
	int r;

	if (a->ino == KS_ROOT_INO)
		return fn(arg, "/", 1);
	if (ks_is_trashed(a))
		return trashed_name(m, a, fn, arg);
	if (!a->nlink)
		return 0;
	if (!a->parent)
		return every_name(m, a->ino, fn, arg);
	r = name_in(m, a->parent, a->ino, &name, &found);
	if (r == 0 && found)
		r = tell(m, a->parent, name.p, name.n, fn, arg);
	return r;
}

/* ---- back ---- */

int ks_info_parse_key(const char *key, struct ks_info_what *out)
{
	struct ks_info_what w = { 0 };
	uint32_t size;

	w.block = ks_block_key_parse(key, &w.slice, &w.idx, &size);
	if (!w.block && !ks_pack_key_parse(key, &w.pack))
		return -EINVAL;
	*out = w;
	return 0;
}

struct wanted {
	uint64_t *ids; /* slices, in order */
	size_t n, cap;
	uint64_t from, to; /* bytes of the slice that are meant */
};

static int want(struct wanted *w, uint64_t id)
{
	if (ks_array_room(&w->ids, w->n, &w->cap) < 0)
		return -ENOMEM;
	w->ids[w->n++] = id;
	return 0;
}

static int want_pack(struct ks_meta *m, uint64_t pack, bool (*stop)(void *arg), struct wanted *out)
{
	struct ks_walk w;
	int r;

	ks_walk_begin(&w, ks_meta_engine(m), KS_T_SLICE);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_slice *s = w.rec;

		if (s->pack == pack)
			r = want(out, s->id);
		if (r == 0 && stop && stop(NULL))
			r = -EINTR;
		if (r < 0)
			break;
	}
	ks_walk_end(&w);
	return r;
}

static int want_slice(struct ks_meta *m, const struct ks_info_what *what, struct wanted *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_slice s = { .id = what->slice };
	struct ks_read rd = { .table = KS_T_SLICE, .rec = &s };
	int r = ks_engine_read(ks_meta_engine(m), &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0 || !rd.found || (what->block && s.pack))
		return r;
	if (what->block) {
		out->from = (uint64_t)what->idx * s.block_size;
		out->to = out->from + s.block_size;
	}
	return want(out, what->slice);
}

static int by_id(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int owners(struct ks_meta *m, const struct wanted *want, bool (*stop)(void *arg),
		  ks_info_ino_fn *fn, void *arg)
{
	uint64_t last = 0;
	struct ks_walk w;
	int r;

	ks_walk_begin(&w, ks_meta_engine(m), KS_T_EXTENT);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_extent *e = w.rec;

		/* In order of inodes: each is told once. */
		if (e->slice && e->ino != last && e->off < want->to &&
		    (uint64_t)e->off + e->len > want->from &&
		    bsearch(&e->slice, want->ids, want->n, sizeof(*want->ids), by_id)) {
			last = e->ino;
			r = fn(arg, last);
		}
		if (r == 0 && stop && stop(NULL))
			r = -EINTR;
		if (r != 0)
			break;
	}
	ks_walk_end(&w);
	return r;
}

int ks_info_owners(struct ks_meta *m, const struct ks_info_what *what, bool (*stop)(void *arg),
		   ks_info_ino_fn *fn, void *arg)
{
	struct wanted w = { .to = UINT64_MAX };
	int r = what->pack ? want_pack(m, what->pack, stop, &w) : want_slice(m, what, &w);

	if (r == 0 && w.n)
		r = owners(m, &w, stop, fn, arg);
	free(w.ids);
	return r;
}
