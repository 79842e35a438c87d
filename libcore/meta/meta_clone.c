/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_clone.c: many files that are made in one transaction, each with the content of another one, whose slices it shares; for who copies whole trees within a volume.
 *
 * Only plain cases: a file of few extents that do not overlap, without extended attributes that are to be kept, in a directory without ACLs. What is not plain is left to who asked, and
 * does not hold up the others.
 */
#include "meta/meta_internal.h"

#define ROWS_MAX 32u /* extents of one file */

struct slot {
	struct ks_rec_dentry d;
	struct ks_rec_inode parent; /* when it is not that of the slot before */
	struct ks_rec_inode src;
	struct ks_rows rows;
	const struct ks_read *parent_read, *src_read, *name_read;
	const struct ks_rec_inode *dir;
};

struct clone_arg {
	struct ks_meta *m;
	struct ks_clone *v;
	size_t n;
	int64_t now;
};

struct clones {
	struct slot *s;
	struct ks_quota q;
	unsigned int nq;
	struct ks_refs refs;
};

static int read_all(struct ks_txn *t, struct clone_arg *a, struct clones *c)
{
	struct ks_arena *mem = ks_txn_arena(t);
	struct ks_read *rd = ks_arena_alloc(mem, (3 * a->n + 2) * sizeof(*rd));
	struct ks_scan *sc = ks_arena_alloc(mem, a->n * sizeof(*sc));
	size_t n = 0;

	if (!rd || !sc)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++) {
		const struct ks_clone *v = &a->v[i];
		struct slot *s = &c->s[i];
		int r = ks_dentry_key(a->m, v->parent, v->name, &s->d);

		if (r < 0)
			return r;
		if (i && v->parent == v[-1].parent) {
			s->parent_read = s[-1].parent_read;
			s->dir = s[-1].dir;
		} else {
			s->parent_read = &rd[n];
			s->dir = &s->parent;
			rd[n++] = ks_read_inode(&s->parent, v->parent, KS_READ_WEAK);
		}
		s->src_read = &rd[n];
		rd[n++] = ks_read_inode(&s->src, v->src, 0);
		s->name_read = &rd[n];
		rd[n++] = (struct ks_read){ .table = KS_T_DENTRY, .rec = &s->d };
		s->rows.limit = ROWS_MAX;
		sc[i] = ks_rows_scan(&s->rows, mem, v->src, 0, UINT64_MAX, false, 0);
	}
	c->nq = ks_quota_reads(a->m, &c->q, &rd[n]);
	return ks_txn_fetch(t, rd, n + c->nq, sc, a->n);
}

static bool is_simple(const struct ks_rows *rows)
{
	for (uint32_t i = 0; i < rows->n; i++) {
		const struct ks_rec_extent *e = &rows->v[i].e;

		if (!e->slice || rows->v[i].s.id != e->slice)
			return false;
		for (uint32_t k = 0; k < i; k++) {
			const struct ks_rec_extent *o = &rows->v[k].e;

			if (o->chunk == e->chunk && o->pos < e->pos + e->len &&
			    e->pos < o->pos + o->len)
				return false;
		}
	}
	return !rows->cut_short;
}

static bool is_twice(const struct clones *c, const struct clone_arg *a, size_t i)
{
	for (size_t k = 0; k < i; k++) {
		if (c->s[k].d.hash == c->s[i].d.hash && a->v[k].parent == a->v[i].parent)
			return true;
	}
	return false;
}

static int decide(const struct clones *c, const struct clone_arg *a, size_t i)
{
	const struct slot *s = &c->s[i];
	const unsigned int attrs = KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL;
	int r = ks_check_parent(s->parent_read, false);

	if (r < 0)
		return r;
	if (!s->src_read->found)
		return -ENOENT;
	if (s->name_read->found || is_twice(c, a, i))
		return -EEXIST;
	if (!S_ISREG(s->src.mode) || (a->v[i].plain && (s->src.flags & attrs)) ||
	    (s->dir->flags & KS_INODE_HAS_ACL) || !is_simple(&s->rows))
		return -EOPNOTSUPP;
	return 0;
}

static int make(struct ks_txn *t, const struct clone_arg *a, struct clones *c, size_t i)
{
	struct ks_clone *v = &a->v[i];
	const struct slot *s = &c->s[i];
	struct ks_rec_dentry d = s->d;
	struct ks_rec_inode n = {
		.ino = v->ino,
		.parent = v->parent,
		.mode = S_IFREG | (v->mode & 07777),
		.nlink = 1,
		.uid = v->uid,
		.gid = (s->dir->mode & S_ISGID) && !v->own ? s->dir->gid : v->gid,
		.flags = s->dir->flags & KS_INODE_NODUMP,
		.size = s->src.size,
		.used = s->src.used,
		.atime_ns = v->times ? v->atime_ns : a->now,
		.mtime_ns = v->times ? v->mtime_ns : a->now,
		.ctime_ns = a->now,
		.btime_ns = a->now,
		.change = 1,
	};
	int r = 0;

	ks_txn_insert(t, KS_T_INODE, &n);
	d.ino = n.ino;
	d.type = ks_dtype(n.mode);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	for (uint32_t k = 0; r == 0 && k < s->rows.n; k++) {
		struct ks_rec_extent e = s->rows.v[k].e;

		e.ino = n.ino;
		e.seq = ks_seq_of(n.change) + k;
		ks_txn_insert(t, KS_T_EXTENT, &e);
		r = ks_refs_add(&c->refs, &s->rows.v[k].s, 1);
	}
	v->bytes = n.size;
	return r;
}

static int clone_body(struct ks_txn *t, void *arg)
{
	struct clone_arg *a = arg;
	struct clones c = { .refs = { .a = ks_txn_arena(t) } };
	uint64_t used = 0, made = 0;
	int r;

	c.s = ks_arena_alloc(c.refs.a, a->n * sizeof(*c.s));
	if (!c.s)
		return -ENOMEM;
	memset(c.s, 0, a->n * sizeof(*c.s));
	r = read_all(t, a, &c);
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		struct ks_clone *v = &a->v[i];

		v->err = decide(&c, a, i);
		v->bytes = 0;
		if (v->err < 0)
			continue;
		used += c.s[i].src.used;
		made++;
	}
	if (r == 0 && c.nq)
		r = ks_quota_check(a->m, &c.q, (int64_t)used, (int64_t)made);
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		if (a->v[i].err < 0)
			continue;
		r = make(t, a, &c, i);
		/* Once for those of one directory that stand together. */
		if (i + 1 == a->n || a->v[i + 1].parent != a->v[i].parent || a->v[i + 1].err < 0)
			ks_touch_dir(t, a->v[i].parent, a->now, 0);
	}
	if (r < 0)
		return r;
	/* References are only added: no epoch is needed. */
	ks_refs_apply(t, &c.refs, 0, a->now);
	ks_count_add(t, KS_CNT_INODES, (int64_t)made);
	ks_count_add(t, KS_CNT_USED, (int64_t)used);
	return 0;
}

int ks_meta_clone(struct ks_meta *m, struct ks_clone *v, size_t n)
{
	struct clone_arg a = { .m = m, .v = v, .n = n, .now = ks_clock_real_ns() };
	int r = 0;

	if (n > KS_CLONE_MAX)
		return -EINVAL;
	if (m->readonly)
		return -EROFS;
	for (size_t i = 0; r == 0 && i < n; i++)
		r = ks_meta_new_id(m, KS_ID_INO, &v[i].ino);
	if (r == 0 && n)
		r = ks_meta_run_quota(m, clone_body, &a);
	return r;
}
