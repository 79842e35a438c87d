/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_falloc.c: holes made on purpose, and ranges shared between files.
 */
#include "base/array.h"
#include "meta/meta_internal.h"

/* ---- fallocate ---- */

struct falloc_arg {
	uint64_t ino, off, end; /* end comes down from step to step */
	enum ks_falloc what;
	uint64_t size; /* at least this afterwards */
	int64_t now;
	struct ks_rec_inode out;
};

static int falloc_check(const struct falloc_arg *f, const struct ks_read *rd)
{
	if (!rd->found)
		return -ENOENT;
	if (S_ISDIR(f->out.mode))
		return -EISDIR;
	if (!S_ISREG(f->out.mode))
		return -ENODEV;
	if (f->out.flags & KS_INODE_IMMUTABLE)
		return -EPERM;
	if ((f->out.flags & KS_INODE_APPEND) && f->what != KS_FALLOC_EXTEND)
		return -EPERM;
	return 0;
}

static void falloc_finish(struct ks_txn *t, const struct falloc_arg *f, struct ks_attr *n)
{
	n->size = ks_max(n->size, f->size);
	n->mtime_ns = f->now;
	ks_touch(n, f->now);
	ks_txn_put(t, KS_T_INODE, n);
}

static int extend_body(struct ks_txn *t, void *arg)
{
	struct falloc_arg *f = arg;
	struct ks_read rd = ks_read_inode(&f->out, f->ino, 0);
	int r = ks_txn_read(t, &rd, 1);

	if (r == 0)
		r = falloc_check(f, &rd);
	if (r == 0)
		falloc_finish(t, f, &f->out);
	return r;
}

struct punch_arg {
	struct falloc_arg f;
	uint64_t left; /* the range up to here is still to be done */
};

static int punch_body(struct ks_txn *t, void *arg)
{
	struct punch_arg *p = arg;
	struct falloc_arg *f = &p->f;
	struct ks_rec_counter epoch;
	struct ks_read rd[] = { ks_read_inode(&f->out, f->ino, 0),
				ks_read_counter(&epoch, KS_CNT_EPOCH, 0) };
	struct ks_rows rows = { .limit = KS_STEP_ROWS, .beyond = &f->out, .beyond_at = f->off };
	struct ks_scan scan = ks_rows_scan(&rows, ks_txn_arena(t), f->ino, f->off / KS_CHUNK_SIZE,
					   (f->end - 1) / KS_CHUNK_SIZE, true, 0);
	struct ks_refs refs = { .a = ks_txn_arena(t) };
	struct ks_clear c = { .ino = f->ino, .end = f->end };
	uint64_t from;
	int r = ks_txn_fetch(t, rd, 2, &scan, 1);

	if (r == 0)
		r = falloc_check(f, &rd[0]);
	if (r == 0)
		r = ks_clear_read(t, &rows, &from);
	if (r < 0)
		return r;
	c.off = ks_max(f->off, from);
	c.seq = ks_seq_of(f->out.change + 1);
	r = ks_rows_clear(t, &c, rows.v, rows.n, &refs);
	if (r < 0)
		return r;
	p->left = c.off;
	ks_refs_apply(t, &refs, (uint64_t)epoch.value, f->now);
	f->out.used -= ks_min(f->out.used, c.freed);
	ks_count_used(t, &f->out, -(int64_t)c.freed);
	falloc_finish(t, f, &f->out);
	return 0;
}

int ks_meta_fallocate(struct ks_meta *m, ks_ino_t ino, enum ks_falloc what, bool keep_size,
		      uint64_t off, uint64_t len, struct ks_attr *out)
{
	struct punch_arg p = {
		.f = { .ino = ino, .off = off, .what = what, .now = ks_clock_real_ns() }
	};
	int r;

	if (len == 0)
		return -EINVAL;
	if (off > KS_FILE_MAX || len > KS_FILE_MAX - off)
		return -EFBIG;
	p.f.end = off + len;
	if (!keep_size && what != KS_FALLOC_PUNCH)
		p.f.size = p.f.end;
	if (what == KS_FALLOC_EXTEND) {
		r = ks_meta_run(m, extend_body, &p.f);
	} else {
		do {
			r = ks_meta_run(m, punch_body, &p);
			p.f.end = p.left;
		} while (r == 0 && p.f.end > off);
	}
	if (r == 0 && out)
		*out = p.f.out;
	return r;
}

/* ---- copy_file_range ---- */

#define COPY_PIECES (KS_SEQS_PER_CHANGE - 16)

struct copy_arg {
	struct ks_meta *m;
	uint64_t src, dst, src_off, dst_off, len;
	int64_t now;
	uint64_t done;
	struct ks_rec_inode out;
};

struct copy {
	struct copy_arg *a;
	struct ks_rec_inode src_node;
	const struct ks_rec_inode *src; /* src_node, or the target itself */
	struct ks_rows from, to;
	struct ks_refs refs;
	uint64_t len;   /* of this transaction */
	uint64_t added; /* bytes of data */
	uint64_t seq;
	struct ks_rec_extent *e; /* to be made */
	size_t n, cap;
};

static int piece_add(struct copy *c, struct ks_rec_extent e, const struct ks_rec_slice *s)
{
	if (ks_arena_room(c->refs.a, &c->e, c->n, &c->cap) < 0)
		return -ENOMEM;
	c->e[c->n++] = e;
	c->added += e.len;
	return ks_refs_add(&c->refs, s, 1);
}

/* One piece of the source, [start, end) in its file: clipped, moved, cut at the target's chunk edges. */
static int piece_copy(struct copy *c, uint64_t start, uint64_t end, uint32_t off,
		      const struct ks_rec_slice *s)
{
	uint64_t lo = ks_max(start, c->a->src_off);
	uint64_t hi = ks_min(end, c->a->src_off + c->len);
	int r = 0;

	while (r == 0 && lo < hi) {
		uint64_t at = lo - c->a->src_off + c->a->dst_off;
		uint64_t n = ks_min(hi - lo, KS_CHUNK_SIZE - at % KS_CHUNK_SIZE);
		struct ks_rec_extent e = { .ino = c->a->dst,
					   .chunk = at / KS_CHUNK_SIZE,
					   .pos = (uint32_t)(at % KS_CHUNK_SIZE),
					   .len = (uint32_t)n,
					   .slice = s->id,
					   .off = off + (uint32_t)(lo - start) };

		r = piece_add(c, e, s);
		lo += n;
	}
	return r;
}

static int copy_chunk(struct copy *c, const struct ks_row *v, size_t n)
{
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;
	uint64_t base = v[0].e.chunk * KS_CHUNK_SIZE;
	struct ks_extent *l = ks_arena_alloc(c->refs.a, n * sizeof(*l));
	int r;

	if (!l)
		return -ENOMEM;
	/* pack_off only carries the row's index through. */
	for (size_t i = 0; i < n; i++)
		l[i] = (struct ks_extent){ .pos = v[i].e.pos,
					   .len = v[i].e.len,
					   .slice = v[i].e.slice,
					   .off = v[i].e.off,
					   .pack_off = i };
	r = ks_chunk_map_build(l, n, &map);
	for (uint32_t i = 0; r == 0 && i < map->n; i++) {
		const struct ks_extent *e = &map->e[i];
		uint64_t start = base + e->pos;

		if (v[e->pack_off].s.id != e->slice)
			return -EBADMSG;
		/* Enough for one transaction: what is left is another's. */
		if (c->n >= COPY_PIECES && start > c->a->src_off) {
			c->len = ks_min(c->len, start - c->a->src_off);
			break;
		}
		r = piece_copy(c, start, start + e->len, e->off, &v[e->pack_off].s);
	}
	return r;
}

static int copy_check(const struct copy *c, const struct ks_read *src, const struct ks_read *dst)
{
	const struct ks_attr *d = &c->a->out;

	if (!src->found || !dst->found)
		return -ENOENT;
	if (S_ISDIR(c->src->mode) || S_ISDIR(d->mode))
		return -EISDIR;
	if (!S_ISREG(c->src->mode) || !S_ISREG(d->mode))
		return -EINVAL;
	return d->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND) ? -EPERM : 0;
}

static void copy_write(struct ks_txn *t, struct copy *c, uint64_t freed, uint64_t epoch)
{
	struct ks_attr *d = &c->a->out;

	for (size_t i = 0; i < c->n; i++) {
		c->e[i].seq = c->seq++;
		ks_txn_insert(t, KS_T_EXTENT, &c->e[i]);
	}
	ks_refs_apply(t, &c->refs, epoch, c->a->now);
	d->used = d->used + c->added - ks_min(freed, d->used + c->added);
	d->size = ks_max(d->size, c->a->dst_off + c->len);
	d->mtime_ns = c->a->now;
	ks_touch(d, c->a->now);
	ks_txn_put(t, KS_T_INODE, d);
	ks_count_used(t, d, (int64_t)c->added - (int64_t)freed);
	c->a->done = c->len;
}

static int copy_rows(struct ks_txn *t, struct copy *c, uint64_t *freed)
{
	struct ks_clear clear = { .ino = c->a->dst,
				  .off = c->a->dst_off,
				  .seq = ks_seq_of(c->a->out.change + 1) };
	int r = 0;

	for (size_t i = 0, j; r == 0 && i < c->from.n; i = j) {
		for (j = i; j < c->from.n && c->from.v[j].e.chunk == c->from.v[i].e.chunk; j++)
			;
		r = copy_chunk(c, &c->from.v[i], j - i);
	}
	if (r < 0)
		return r;
	clear.end = c->a->dst_off + c->len;
	r = ks_rows_clear(t, &clear, c->to.v, c->to.n, &c->refs);
	c->seq = clear.seq;
	*freed = clear.freed;
	return r;
}

static int copy_body(struct ks_txn *t, void *arg)
{
	struct copy_arg *a = arg;
	bool same = a->src == a->dst;
	struct copy c = { .a = a,
			  .len = ks_min(a->len, KS_CHUNK_SIZE),
			  .refs = { .a = ks_txn_arena(t) } };
	struct ks_rec_counter epoch;
	struct ks_quota q;
	struct ks_read rd[5] = { ks_read_inode(&a->out, a->dst, 0),
				 ks_read_counter(&epoch, KS_CNT_EPOCH, 0),
				 ks_read_inode(&c.src_node, a->src, 0) };
	unsigned int nq = ks_quota_reads(a->m, &q, &rd[same ? 2 : 3]);
	struct ks_scan s[2];
	uint64_t freed;
	int r;

	c.src = same ? &a->out : &c.src_node;
	c.from.beyond = c.src;
	c.from.beyond_at = a->src_off;
	c.to.beyond = &a->out;
	c.to.beyond_at = a->dst_off;
	s[0] = ks_rows_scan(&c.from, c.refs.a, a->src, a->src_off / KS_CHUNK_SIZE,
			    (a->src_off + c.len - 1) / KS_CHUNK_SIZE, false, 0);
	s[1] = ks_rows_scan(&c.to, c.refs.a, a->dst, a->dst_off / KS_CHUNK_SIZE,
			    (a->dst_off + c.len - 1) / KS_CHUNK_SIZE, false, 0);
	a->done = 0;
	r = ks_txn_fetch(t, rd, (same ? 2 : 3) + nq, s, 2);
	if (r == 0)
		r = copy_check(&c, &rd[same ? 0 : 2], &rd[0]);
	if (r < 0 || a->src_off >= c.src->size)
		return r;
	c.len = ks_min(c.len, c.src->size - a->src_off);
	r = copy_rows(t, &c, &freed);
	if (r == 0 && nq)
		r = ks_quota_check(a->m, &q, (int64_t)c.added - (int64_t)freed, 0);
	if (r == 0)
		copy_write(t, &c, freed, (uint64_t)epoch.value);
	return r;
}

int ks_meta_copy_range(struct ks_meta *m, ks_ino_t src, uint64_t src_off, ks_ino_t dst,
		       uint64_t dst_off, uint64_t len, uint64_t *done, struct ks_attr *out)
{
	struct copy_arg a = { .m = m,
			      .src = src,
			      .dst = dst,
			      .src_off = src_off,
			      .dst_off = dst_off,
			      .len = len,
			      .now = ks_clock_real_ns() };
	int r;

	if (src_off > KS_FILE_MAX || dst_off > KS_FILE_MAX)
		return -EFBIG;
	a.len = ks_min(len, KS_FILE_MAX - src_off);
	if (a.len > KS_FILE_MAX - dst_off)
		return -EFBIG;
	if (src == dst && src_off < dst_off + a.len && dst_off < src_off + a.len)
		return -EINVAL;
	*done = 0;
	if (a.len == 0)
		return out ? ks_meta_getattr(m, dst, out) : 0;
	r = ks_meta_run_quota(m, copy_body, &a);
	if (r == -EBADMSG)
		return ks_fail_hint(r, "run kiseki-fsck",
				    "inode %ju refers to a slice that is missing", (uintmax_t)src);
	if (r < 0)
		return r;
	*done = a.done;
	if (out)
		*out = a.out;
	return 0;
}
