/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_extents.c: the extents of every file beside its inode: places that are possible, a size that covers them, and how much they use. Every use
 * of a slice is sorted by slice for fsck_slices.c.
 */
#include "base/array.h"
#include "volume/fsck_internal.h"

struct merge {
	struct ks_fsck *f;
	struct ks_walk inodes, extents;
	/* Of the file in turn. */
	uint64_t ino;
	uint64_t chunk;
	uint64_t used;
	uint64_t end; /* of the last byte of data */
	uint64_t max_seq;
	struct ks_extent *v; /* of the chunk */
	size_t n, cap;
};

static int cover(struct merge *m)
{
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;
	int r = 0;

	if (m->n == 1) {
		m->used += m->v[0].slice ? m->v[0].len : 0;
	} else if (m->n > 1) {
		r = ks_chunk_map_build(m->v, m->n, &map);
		for (uint32_t i = 0; r == 0 && i < map->n; i++)
			m->used += map->e[i].len;
	}
	m->n = 0;
	return r;
}

static int keep(struct merge *m, const struct ks_rec_extent *x)
{
	if (ks_array_room(&m->v, m->n, &m->cap) < 0)
		return -ENOMEM;
	m->v[m->n++] = (struct ks_extent){
		.pos = x->pos, .len = x->len, .slice = x->slice, .off = x->off
	};
	return 0;
}

/* An extent that cannot be where it says. 1: it was removed; 2: it counts as a reference, and as nothing else. */
static int bad_place(struct merge *m, struct ks_rec_extent *x)
{
	struct ks_fsck_problem p = { .repair = KS_FSCK_R_LOSSY,
				     .ino = x->ino,
				     .slice = x->slice,
				     .off = x->chunk * KS_CHUNK_SIZE + x->pos,
				     .len = x->len };
	struct ks_fsck_write w = { KS_FSCK_DEL, KS_T_EXTENT, x, 0, NULL };
	int r;

	if (x->len == 0 || x->pos >= KS_CHUNK_SIZE || x->chunk >= KS_FILE_MAX / KS_CHUNK_SIZE) {
		p.kind = "bad_extent";
		p.text = "has a piece of data at a place that does not exist";
		p.off = p.len = 0;
		r = ks_fsck_found_fix(m->f, &p, x->chunk ^ x->seq, &w, 1);
		return r < 0 ? r : p.fixed ? 1 : 2;
	}
	if (x->len > KS_CHUNK_SIZE - x->pos) {
		p.kind = "extent_over_edge";
		p.text = "has a piece of data that overlaps a chunk's edge";
		x->len = (uint32_t)(KS_CHUNK_SIZE - x->pos);
		w.how = KS_FSCK_PUT;
		return ks_fsck_found_fix(m->f, &p, x->chunk ^ x->seq, &w, 1);
	}
	return 0;
}

static int take_extent(struct merge *m, bool count_use)
{
	struct ks_rec_extent x = *(const struct ks_rec_extent *)m->extents.rec;
	int r = 0, bad = 0;

	m->f->out.extents++;
	if (x.chunk != m->chunk) {
		r = cover(m);
		m->chunk = x.chunk;
	}
	m->max_seq = ks_max(m->max_seq, x.seq);
	if (r == 0 && count_use)
		r = bad = bad_place(m, &x);
	if (r >= 0 && bad != 1 && count_use && x.slice) {
		const uint64_t use[USE_WORDS] = {
			x.slice, x.ino, x.chunk, x.seq, (uint64_t)x.pos << 32 | x.len, x.off
		};

		r = ks_sort_add(m->f->uses, use);
	}
	if (r == 0 && bad == 0 && count_use) {
		if (x.slice)
			m->end = ks_max(m->end, x.chunk * KS_CHUNK_SIZE + x.pos + x.len);
		r = keep(m, &x);
	}
	return r < 0 ? r : ks_walk_next(&m->extents);
}

/* All extents of m->ino. */
static int take_group(struct merge *m, bool count_use)
{
	int r = 0;

	m->chunk = UINT64_MAX;
	m->used = m->end = m->max_seq = 0;
	m->n = 0;
	while (r == 0 && m->extents.rec && ks_walk_key(&m->extents) == m->ino)
		r = take_extent(m, count_use);
	return r == 0 ? cover(m) : r;
}

/* ---- findings about a file ---- */

static int check_used(struct merge *m, const struct ks_rec_inode *n)
{
	char text[120];
	struct ks_fsck_problem p = { .kind = "wrong_used",
				     .repair = KS_FSCK_R_SAFE,
				     .ino = n->ino,
				     .is = n->used,
				     .should = m->used,
				     .text = text };
	struct ks_upd u = KS_FSCK_UPD(inode, used, KS_UPD_SET, m->used);
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, n, 1, &u };

	/* The hours of the trash hold sums there, which come last. */
	if (n->used == m->used || ks_fsck_is_hour(m->f, n->ino))
		return 0;
	snprintf(text, sizeof(text), "says it uses %ju bytes, should be %ju", (uintmax_t)n->used,
		 (uintmax_t)m->used);
	return ks_fsck_found_fix(m->f, &p, 0, &w, 1);
}

static int check_size(struct merge *m, const struct ks_rec_inode *n)
{
	char text[120];
	struct ks_fsck_problem p = { .kind = "data_beyond_end",
				     .repair = KS_FSCK_R_SAFE,
				     .ino = n->ino,
				     .is = n->size,
				     .should = m->end,
				     .off = n->size,
				     .len = m->end - n->size,
				     .text = text };
	struct ks_upd u = KS_FSCK_UPD(inode, size, KS_UPD_SET, m->end);
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, n, 1, &u };

	if (m->end <= n->size)
		return 0;
	snprintf(text, sizeof(text), "has data up to byte %ju and a size of %ju", (uintmax_t)m->end,
		 (uintmax_t)n->size);
	return ks_fsck_found_fix(m->f, &p, 0, &w, 1);
}

/* The next piece written would get a number that is not the highest, and lie below older ones. */
static int check_change(struct merge *m, const struct ks_rec_inode *n)
{
	uint64_t should = m->max_seq >> 12;
	struct ks_fsck_problem p = { .kind = "wrong_change",
				     .repair = KS_FSCK_R_SAFE,
				     .ino = n->ino,
				     .is = n->change,
				     .should = should,
				     .text = "has a change counter that lags behind its data" };
	struct ks_upd u = KS_FSCK_UPD(inode, change, KS_UPD_SET, should);
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, n, 1, &u };

	return n->change >= should ? 0 : ks_fsck_found_fix(m->f, &p, 0, &w, 1);
}

static int one_file(struct merge *m)
{
	const struct ks_rec_inode *n = m->inodes.rec;
	struct ks_rec_extent prefix = { .ino = n->ino };
	struct ks_fsck_problem p = { .kind = "extents_of_no_file",
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = n->ino,
				     .text = "is no regular file and has data" };
	struct ks_fsck_write w = { KS_FSCK_DEL_PREFIX, KS_T_EXTENT, &prefix, 1, NULL };
	bool file = S_ISREG(n->mode);
	int r = 0;

	m->ino = n->ino;
	if (!file && ks_walk_key(&m->extents) == n->ino)
		r = ks_fsck_found_fix(m->f, &p, 0, &w, 1);
	if (r == 0)
		r = take_group(m, file || !ks_fsck_may(m->f, KS_FSCK_R_LOSSY));
	m->f->used_sum += file ? m->used : 0;
	if (!file)
		m->used = m->end = 0;
	if (r == 0)
		r = check_used(m, n);
	if (r == 0 && file)
		r = check_size(m, n);
	if (r == 0 && file)
		r = check_change(m, n);
	return r;
}

struct revive {
	struct ks_fsck_move mv;
	uint64_t size, used, change;
};

static int revive_body(struct ks_txn *t, void *arg)
{
	struct revive *v = arg;
	int64_t now = v->mv.f->now_ns;
	struct ks_rec_inode n = { .ino = v->mv.ino,
				  .parent = v->mv.f->lost_found,
				  .mode = S_IFREG | 0600,
				  .nlink = 1,
				  .size = v->size,
				  .used = v->used,
				  .atime_ns = now,
				  .mtime_ns = now,
				  .ctime_ns = now,
				  .btime_ns = now,
				  .change = v->change };

	ks_txn_put(t, KS_T_INODE, &n);
	ks_fsck_put_lost_name(t, &v->mv, n.mode);
	ks_fsck_count(t, "inodes", 1);
	return 0;
}

/* Data whose inode is missing: it gets one. */
static int no_file(struct merge *m, uint64_t ino)
{
	struct revive v = { .size = 0 };
	struct ks_fsck_problem p = { .kind = "extents_without_inode",
				     .repair = KS_FSCK_R_LOSSY,
				     .text = "data of a file whose inode is missing" };
	int r;

	m->ino = ino;
	r = take_group(m, true);
	if (r < 0)
		return r;
	m->f->used_sum += m->used;
	r = ks_fsck_move_prepare(m->f, ino, true, &v.mv);
	v.size = p.len = m->end;
	v.used = m->used;
	v.change = (m->max_seq >> 12) + 1;
	p.ino = ino;
	if (r == 0)
		r = ks_fsck_found(m->f, &p, 0, revive_body, &v);
	ks_fsck_move_clear(&v.mv);
	return r;
}

static int run(struct merge *m)
{
	int r = ks_walk_next(&m->inodes);

	if (r == 0)
		r = ks_walk_next(&m->extents);
	while (r == 0 && (m->inodes.rec || m->extents.rec)) {
		uint64_t ino = ks_walk_key(&m->inodes);
		uint64_t x = ks_walk_key(&m->extents);

		if (x < ino) {
			r = no_file(m, x);
		} else {
			r = one_file(m);
			if (r == 0)
				r = ks_walk_next(&m->inodes);
		}
		if (r == 0)
			r = ks_fsck_step(m->f);
	}
	return r;
}

int ks_fsck_extents(struct ks_fsck *f)
{
	struct merge m = { .f = f };
	int r = ks_fsck_sort(f, &f->uses, USE_WORDS);

	if (r < 0)
		return r;
	f->used_sum = 0;
	f->out.extents = 0;
	ks_walk_begin(&m.inodes, f->e, KS_T_INODE);
	ks_walk_begin(&m.extents, f->e, KS_T_EXTENT);
	r = run(&m);
	ks_walk_end(&m.inodes);
	ks_walk_end(&m.extents);
	free(m.v);
	return r == 0 ? ks_sort_finish(f->uses) : r;
}
