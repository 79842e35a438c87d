/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_commit.c: slices that were written become visible: slices, blocks, extents, and the inode's size and times, all or nothing.
 *
 * Which of two overlapping pieces is newer is told by seq, made from the inode's change counter, which every change of the content reads strictly and
 * raises: so seq grows in commit order. What a new piece hides completely is dropped once the new one is on the disk (meta_durable.c);
 * what is hidden in part is compaction's.
 */
#include "meta/meta_internal.h"

#include <stdlib.h>

#define HIDDEN_TOLD 64

struct commit_arg {
	struct ks_meta *m;
	const struct ks_commit *c;
	const struct ks_commit_slice *s; /* this transaction's part */
	size_t n;
	int64_t now;
	struct ks_rec_inode out;
	uint64_t
		hidden[HIDDEN_TOLD]; /* chunks where something is hidden that has to stay for now */
	size_t nhidden;
};

/* The slices of one chunk, by index. */
struct group {
	uint64_t chunk;
	uint32_t lo, hi; /* within the chunk: what they cover together, gaps included */
	struct ks_rows rows;
};

struct batch {
	struct group *g;
	size_t ng;
	struct ks_scan *scans;
	struct ks_read *rd;
	size_t nrd;
	struct ks_pack_share *packs;
	size_t npacks;
	struct ks_quota q;
	unsigned int nq;
	struct ks_rec_counter epoch;
};
enum { R_INODE, R_EPOCH, R_QUOTA };

static struct group *group_find(struct batch *b, uint64_t chunk)
{
	for (size_t i = b->ng; i-- > 0;) {
		if (b->g[i].chunk == chunk)
			return &b->g[i];
	}
	return NULL;
}

static void add_share(struct batch *b, const struct ks_commit_slice *s)
{
	struct ks_pack_share *p = ks_pack_share_add(b->packs, &b->npacks, s->pack);

	p->size = ks_max(p->size, s->pack_off + s->len);
	p->live += s->len;
	p->slices++;
}

static int batch_init(struct ks_txn *t, struct batch *b, struct commit_arg *c)
{
	struct ks_arena *a = ks_txn_arena(t);

	*b = (struct batch){
		.g = ks_arena_alloc(a, (c->n + 1) * sizeof(*b->g)),
		.scans = ks_arena_alloc(a, (c->n + 1) * sizeof(*b->scans)),
		.packs = ks_arena_alloc(a, (c->n + 1) * sizeof(*b->packs)),
		.rd = ks_arena_alloc(a, (c->n + 4) * sizeof(*b->rd)),
	};
	if (!b->g || !b->scans || !b->packs || !b->rd)
		return -ENOMEM;
	b->rd[R_INODE] = ks_read_inode(&c->out, c->c->ino, 0);
	b->rd[R_EPOCH] = ks_read_counter(&b->epoch, KS_CNT_EPOCH, 0);
	b->nq = ks_quota_reads(c->m, &b->q, &b->rd[R_QUOTA]);
	b->nrd = R_QUOTA + b->nq;
	for (size_t i = 0; i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];
		struct group *g = group_find(b, s->chunk);

		if (!g) {
			g = &b->g[b->ng++];
			*g = (struct group){ .chunk = s->chunk, .lo = s->pos };
		}
		g->lo = ks_min(g->lo, s->pos);
		g->hi = ks_max(g->hi, s->pos + s->len);
		if (s->pack)
			add_share(b, s);
	}
	for (size_t i = 0; i < b->npacks; i++) {
		b->rd[b->nrd++] = (struct ks_read){ .table = KS_T_PACK,
						    .flags = KS_READ_WEAK,
						    .rec = &b->packs[i].p };
	}
	for (size_t i = 0; i < b->ng; i++) {
		struct group *g = &b->g[i];

		g->rows.beyond = &c->out;
		g->rows.beyond_at = g->chunk * KS_CHUNK_SIZE + g->lo;
		b->scans[i] = ks_rows_scan(&g->rows, a, c->c->ino, g->chunk, g->chunk, false, 0);
	}
	return 0;
}

static void put_sums(unsigned char *p, const uint32_t *sums, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		p[4 * i] = (unsigned char)sums[i];
		p[4 * i + 1] = (unsigned char)(sums[i] >> 8);
		p[4 * i + 2] = (unsigned char)(sums[i] >> 16);
		p[4 * i + 3] = (unsigned char)(sums[i] >> 24);
	}
}

static void write_blocks(struct ks_txn *t, const struct ks_commit_slice *s, unsigned char *sums)
{
	uint32_t per_block = (uint32_t)(s->block_size / KS_PAGE_SIZE);
	uint32_t blocks = ks_blocks_of(s->len, s->block_size);

	for (uint32_t i = 0; i < blocks; i++) {
		uint32_t size = ks_min(s->block_size, s->len - i * s->block_size);
		struct ks_rec_block b = { .slice = s->slice, .idx = i, .size = size };

		b.sums = (struct ks_bytes){ .p = sums + (size_t)i * per_block * 4,
					    .n = (size_t)ks_pages_of(size) * 4 };
		ks_txn_insert(t, KS_T_BLOCK, &b);
	}
}

int ks_slice_records(struct ks_txn *t, const struct ks_meta *m, const struct ks_commit_slice *s,
		     uint64_t refs, int64_t now)
{
	uint32_t pages = ks_pages_of(s->len);
	unsigned char *sums = ks_arena_alloc(ks_txn_arena(t), (size_t)pages * 4 + 1);
	struct ks_rec_slice rec = { .id = s->slice,
				    .len = s->len,
				    .status = KS_SLICE_COMMITTED,
				    .session = atomic_load(&m->session),
				    .refs = refs,
				    .pack = s->pack,
				    .pack_off = s->pack_off,
				    .block_size = s->block_size,
				    .ctime_ns = now };

	if (!sums)
		return -ENOMEM;
	put_sums(sums, s->sums, pages);
	if (s->pack)
		rec.sums = (struct ks_bytes){ .p = sums, .n = (size_t)pages * 4 };
	ks_txn_insert(t, KS_T_SLICE, &rec);
	if (!s->pack)
		write_blocks(t, s, sums);
	return 0;
}

int ks_slice_write(struct ks_txn *t, struct ks_meta *m, uint64_t ino,
		   const struct ks_commit_slice *s, uint64_t seq, int64_t now)
{
	struct ks_rec_extent e = { .ino = ino,
				   .chunk = s->chunk,
				   .seq = seq,
				   .pos = s->pos,
				   .len = s->len,
				   .slice = s->slice };

	ks_txn_insert(t, KS_T_EXTENT, &e);
	return ks_slice_records(t, m, s, 1, now);
}

static bool hides(const struct commit_arg *c, uint64_t chunk, const struct ks_rec_extent *e)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];

		if (s->chunk == chunk && s->pos <= e->pos && s->pos + s->len >= e->pos + e->len)
			return true;
	}
	return false;
}

/* How many bytes are covered that were not; hidden extents go. */
static int group_apply(struct ks_txn *t, struct commit_arg *c, struct group *g,
		       struct ks_refs *refs, int64_t *added)
{
	struct ks_row *v = ks_arena_alloc(refs->a, (g->rows.n + c->n) * sizeof(*v));
	bool at_once = !atomic_load(&c->m->session);
	bool stays = false;
	uint64_t before, after;
	size_t n = 0;
	int r = 0;

	if (!v)
		return -ENOMEM;
	for (uint32_t i = 0; i < g->rows.n; i++) {
		const struct ks_row *row = &g->rows.v[i];

		if (row->e.pos + row->e.len > g->lo && row->e.pos < g->hi)
			v[n++] = *row;
	}
	r = ks_rows_hidden(c->m, v, n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		bool hidden = !v[i].gone && hides(c, g->chunk, &v[i].e);

		if (v[i].gone || (hidden && at_once)) {
			ks_txn_del(t, KS_T_EXTENT, &v[i].e);
			r = ks_refs_add(refs, &v[i].s, -1);
		}
		stays = stays || (hidden && !at_once);
	}
	if (stays && c->nhidden < HIDDEN_TOLD)
		c->hidden[c->nhidden++] = g->chunk;
	if (r == 0)
		r = ks_rows_cover(v, n, &before);
	for (size_t i = 0; i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];

		if (s->chunk == g->chunk)
			v[n++] = (struct ks_row){
				.e = { .pos = s->pos, .len = s->len, .slice = s->slice }
			};
	}
	if (r == 0)
		r = ks_rows_cover(v, n, &after);
	if (r == 0)
		*added += (int64_t)(after - before);
	return r;
}

static void commit_inode(const struct commit_arg *c, struct ks_attr *n, int64_t added)
{
	uint64_t end = c->c->end;

	for (size_t i = 0; i < c->n; i++)
		end = ks_max(end, c->s[i].chunk * KS_CHUNK_SIZE + c->s[i].pos + c->s[i].len);
	n->size = ks_max(n->size, end);
	n->mtime_ns = c->c->mtime_ns ? c->c->mtime_ns : c->now;
	n->used += (uint64_t)added;
	if (c->c->kill_priv)
		n->mode = ks_mode_kill_priv(n->mode);
	/* The file changed when it was written, not when it is committed. */
	ks_touch(n, c->c->mtime_ns ? c->c->mtime_ns : c->now);
}

static int commit_body(struct ks_txn *t, void *arg)
{
	struct commit_arg *c = arg;
	struct ks_refs refs = { .a = ks_txn_arena(t) };
	struct batch b;
	int64_t added = 0;
	int r = batch_init(t, &b, c);

	c->nhidden = 0;
	if (r == 0)
		r = ks_txn_fetch(t, b.rd, b.nrd, b.scans, b.ng);
	if (r == 0 && !b.rd[R_INODE].found)
		r = -ENOENT;
	if (r == 0 && !S_ISREG(c->out.mode))
		r = -EINVAL;
	for (size_t i = 0; r == 0 && i < b.ng; i++)
		r = group_apply(t, c, &b.g[i], &refs, &added);
	if (r == 0 && b.nq)
		r = ks_quota_check(c->m, &b.q, added, 0);
	if (r < 0)
		return r;
	commit_inode(c, &c->out, added);
	for (size_t i = 0; i < b.npacks; i++)
		ks_pack_share_write(t, c->m, &b.packs[i], b.rd[R_QUOTA + b.nq + i].found);
	for (size_t i = 0; r == 0 && i < c->n; i++)
		r = ks_slice_write(t, c->m, c->c->ino, &c->s[i], ks_seq_of(c->out.change) + i,
				   c->now);
	ks_refs_apply(t, &refs, (uint64_t)b.epoch.value, c->now);
	ks_txn_put(t, KS_T_INODE, &c->out);
	ks_count_used(t, &c->out, added);
	return r;
}

static int commit_check(const struct ks_commit *c)
{
	if (c->end > KS_FILE_MAX)
		return -EFBIG;
	for (size_t i = 0; i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];

		if (s->chunk >= KS_FILE_MAX / KS_CHUNK_SIZE)
			return -EFBIG;
		if (!s->slice || !s->len || !s->sums || s->pos > KS_CHUNK_SIZE ||
		    s->len > KS_CHUNK_SIZE - s->pos ||
		    (!s->pack && (s->block_size < KS_BLOCK_MIN || s->block_size % KS_PAGE_SIZE)))
			return ks_fail(-EINVAL,
				       "slice %ju of inode %ju cannot be committed: chunk %ju, %u "
				       "bytes at %u",
				       (uintmax_t)s->slice, (uintmax_t)c->ino, (uintmax_t)s->chunk,
				       s->len, s->pos);
	}
	return 0;
}

int ks_meta_commit(struct ks_meta *m, const struct ks_commit *c, struct ks_attr *out)
{
	struct commit_arg a = { .m = m, .c = c, .now = ks_clock_real_ns() };
	size_t done = 0;
	int r = commit_check(c);

	/* Only more slices than have sequence numbers in one change take more than one transaction. */
	do {
		a.s = c->s + done;
		a.n = ks_min(c->n - done, (size_t)KS_SEQS_PER_CHANGE);
		if (r == 0)
			r = ks_meta_run_quota(m, commit_body, &a);
		for (size_t i = 0; r == 0 && i < a.nhidden; i++)
			ks_hidden_add(m, c->ino, a.hidden[i]);
		done += a.n;
	} while (r == 0 && done < c->n);
	if (r == 0 && out)
		*out = a.out;
	return r;
}
