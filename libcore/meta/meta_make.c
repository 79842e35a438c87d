/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_make.c: many entries that are made in one transaction, each whole: inode, name, content, attributes. For who copies trees in.
 *
 * The reads of a body do not see what it has buffered. So entries of one batch that concern the same name or the same old inode cannot be judged together: then
 * each goes by itself. Names in a directory that the caller has just made are not looked for: that they are free is a condition of the commit, and when it does not
 * hold, the second run looks.
 */
#include "meta/meta_internal.h"

struct slot {
	struct ks_rec_dentry d;
	struct ks_rec_inode parent; /* when it is not that of the slot before */
	struct ks_rec_inode old;    /* what has the name */
	struct ks_rec_claim claim;
	const struct ks_read *parent_read;
	const struct ks_read *read; /* NULL: not looked for */
	const struct ks_read *node_read, *claim_read;
};

struct make_arg {
	struct ks_meta *m;
	const struct ks_cred *c;
	struct ks_make *v;
	size_t n;
	int64_t now;
	unsigned int runs;
	/* of one run */
	struct slot *s;
	struct ks_pack_share *packs;
	const struct ks_read *pack_reads;
	size_t npacks;
	struct ks_rec_counter epoch;
	struct ks_quota q;
	unsigned int nq;
	struct ks_trash trash;
};

int ks_meta_new_ino(struct ks_meta *m, ks_ino_t *out)
{
	return ks_meta_new_id(m, KS_ID_INO, out);
}

static void collect_packs(struct make_arg *a)
{
	a->npacks = 0;
	for (size_t i = 0; i < a->n; i++) {
		for (size_t k = 0; k < a->v[i].n; k++) {
			const struct ks_commit_slice *s = &a->v[i].s[k];

			if (s->pack)
				ks_pack_share_add(a->packs, &a->npacks, s->pack);
		}
	}
}

/* The slots of a parent's entries share its record. */
static size_t read_one(struct make_arg *a, size_t i, struct ks_read *rd, size_t n)
{
	const struct ks_make *v = &a->v[i];
	struct slot *s = &a->s[i];

	if (i && v->parent == v[-1].parent) {
		s->parent_read = s[-1].parent_read;
	} else {
		s->parent_read = &rd[n];
		rd[n++] = ks_read_inode(&s->parent, v->parent, KS_READ_WEAK);
	}
	if (!(v->flags & KS_MAKE_NEW_DIR) || a->runs > 1) {
		s->read = &rd[n];
		rd[n++] = (struct ks_read){ .table = KS_T_DENTRY,
					    .flags = KS_READ_FOLLOW,
					    .rec = &s->d,
					    .inode = &s->old };
	}
	if (v->flags & KS_MAKE_LINK) {
		s->node_read = &rd[n];
		rd[n++] = ks_read_inode(&a->v[i].out, v->attr.ino, 0);
		s->claim = (struct ks_rec_claim){ .session = atomic_load(&a->m->session),
						  .ino = v->attr.ino };
		s->claim_read = &rd[n];
		rd[n++] = (struct ks_read){ .table = KS_T_CLAIM, .rec = &s->claim };
	}
	return n;
}

static int read_all(struct ks_txn *t, struct make_arg *a)
{
	struct ks_arena *mem = ks_txn_arena(t);
	size_t slices = 0;
	struct ks_read *rd;
	size_t n = 0;

	for (size_t i = 0; i < a->n; i++)
		slices += a->v[i].n;
	a->s = ks_arena_alloc(mem, a->n * sizeof(*a->s));
	a->packs = ks_arena_alloc(mem, (slices + 1) * sizeof(*a->packs));
	rd = ks_arena_alloc(mem, (4 * a->n + slices + 3 + KS_TRASH_READS) * sizeof(*rd));
	if (!a->s || !a->packs || !rd)
		return -ENOMEM;
	memset(a->s, 0, a->n * sizeof(*a->s));
	collect_packs(a);
	rd[n++] = ks_read_counter(&a->epoch, KS_CNT_EPOCH, 0);
	a->nq = ks_quota_reads(a->m, &a->q, &rd[n]);
	n += a->nq;
	n += ks_trash_reads(&a->trash, &rd[n]);
	a->pack_reads = &rd[n];
	for (size_t i = 0; i < a->npacks; i++) {
		rd[n++] = (struct ks_read){ .table = KS_T_PACK,
					    .flags = KS_READ_WEAK,
					    .rec = &a->packs[i].p };
	}
	for (size_t i = 0; i < a->n; i++) {
		a->v[i].out = a->v[i].replaced = (struct ks_attr){ 0 };
		a->v[i].err = ks_dentry_key(a->m, a->v[i].parent, a->v[i].name, &a->s[i].d);
		if (a->v[i].err < 0)
			return a->v[i].err;
		n = read_one(a, i, rd, n);
	}
	return ks_txn_read(t, rd, n);
}

/* ---- judging ---- */

static int decide_old(const struct ks_make *v, const struct slot *s)
{
	if (!s->old.ino)
		return -EBADMSG;
	if (!(v->flags & KS_MAKE_REPLACE))
		return -EEXIST;
	if (S_ISDIR(s->old.mode))
		return -EISDIR;
	if (s->old.flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	return ks_check_parent(s->parent_read, true);
}

static int decide_link(const struct make_arg *a, const struct ks_make *v, const struct slot *s)
{
	const struct ks_attr *n = &v->out;

	if (!s->node_read->found)
		return -ENOENT;
	if (S_ISDIR(n->mode) || (n->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND)))
		return -EPERM;
	if (ks_is_trashed(n))
		return -ENOENT;
	/* Without a name: only one that this session made or holds. */
	if (n->nlink == 0 && atomic_load(&a->m->session) && !s->claim_read->found)
		return -ENOENT;
	return n->nlink >= KS_LINK_MAX ? -EMLINK : 0;
}

static int decide(const struct make_arg *a, size_t i)
{
	const struct ks_make *v = &a->v[i];
	const struct slot *s = &a->s[i];
	int r = ks_check_parent(s->parent_read, false);

	if (r == 0 && s->read && s->read->found)
		r = decide_old(v, s);
	if (r == 0 && (v->flags & KS_MAKE_LINK))
		r = decide_link(a, v, s);
	return r;
}

/* The inodes that an entry changes and that were there before; 0: none. */
static uint64_t old_of(const struct make_arg *a, size_t i)
{
	const struct slot *s = &a->s[i];

	return s->read && s->read->found ? s->old.ino : 0;
}

static uint64_t linked_of(const struct make_arg *a, size_t i)
{
	return a->v[i].flags & KS_MAKE_LINK ? a->v[i].attr.ino : 0;
}

/* Is an inode of entry @i changed by an earlier one, too? An old one with one name is there once. */
static bool meets_earlier(const struct make_arg *a, size_t i)
{
	uint64_t old = a->s[i].old.nlink > 1 || linked_of(a, i) ? old_of(a, i) : 0;
	uint64_t linked = linked_of(a, i);

	for (size_t k = 0; k < i && (old || linked); k++) {
		uint64_t o = old_of(a, k);
		uint64_t l = linked_of(a, k);

		if ((old && (old == o || old == l)) || (linked && (linked == o || linked == l)))
			return true;
	}
	return false;
}

static int judge(struct make_arg *a)
{
	int64_t bytes = 0;
	int64_t inodes = 0;
	int r = 0;

	for (size_t i = 0; i < a->n; i++) {
		struct ks_make *v = &a->v[i];

		v->err = decide(a, i);
		if (v->err < 0)
			continue;
		if (meets_earlier(a, i))
			return -ECANCELED;
		for (size_t k = 0; k < v->n; k++)
			bytes += v->s[k].len;
		inodes += !(v->flags & KS_MAKE_LINK);
	}
	if (a->nq)
		r = ks_quota_check(a->m, &a->q, bytes, inodes);
	/* Some of them may fit. */
	return r < 0 && a->n > 1 ? -ECANCELED : r;
}

/* ---- writing ---- */

static int fill_new(struct ks_txn *t, const struct make_arg *a, size_t i)
{
	struct ks_make *v = &a->v[i];
	const struct ks_attr *parent = a->s[i].parent_read->rec;
	struct ks_attr *n = &v->out;

	*n = (struct ks_attr){ .ino = v->attr.ino,
			       .parent = v->parent,
			       .mode = v->attr.mode,
			       .nlink = 1,
			       .uid = v->attr.uid,
			       .gid = v->attr.gid,
			       .rdev = v->attr.rdev,
			       .flags = parent->flags & KS_INODE_NODUMP,
			       .size = v->target ? strlen(v->target) : v->attr.size,
			       .atime_ns = v->set & KS_SET_ATIME ? v->attr.atime_ns : a->now,
			       .mtime_ns = v->set & KS_SET_MTIME ? v->attr.mtime_ns : a->now,
			       .ctime_ns = a->now,
			       .btime_ns = a->now,
			       .change = 1 };
	for (size_t k = 0; k < v->n; k++)
		n->used += v->s[k].len;
	if (!(v->flags & KS_MAKE_OWNER) && (parent->mode & S_ISGID))
		n->gid = parent->gid;
	return v->flags & KS_MAKE_MODE ? 0 : ks_acl_inherit(t, parent, a->c->umask, n);
}

static int make_new(struct ks_txn *t, const struct make_arg *a, size_t i)
{
	struct ks_make *v = &a->v[i];
	int r = fill_new(t, a, i);

	if (r < 0)
		return r;
	ks_txn_insert(t, KS_T_INODE, &v->out);
	if (S_ISLNK(v->out.mode)) {
		struct ks_rec_symlink s = { .ino = v->out.ino, .target = ks_bytes_str(v->target) };

		ks_txn_insert(t, KS_T_SYMLINK, &s);
	}
	for (size_t k = 0; r == 0 && k < v->n; k++)
		r = ks_slice_write(t, a->m, v->out.ino, &v->s[k], ks_seq_of(v->out.change) + k,
				   a->now);
	return r;
}

static int make_link(struct ks_txn *t, const struct make_arg *a, size_t i)
{
	struct ks_make *v = &a->v[i];
	struct ks_attr *n = &v->out;
	int r = 0;

	if (n->nlink == 0) {
		struct ks_rec_deleted del = { .ino = n->ino };

		ks_txn_del(t, KS_T_DELETED, &del);
		ks_txn_del(t, KS_T_CLAIM, &a->s[i].claim);
	}
	n->parent = n->nlink == 0 ? v->parent : 0;
	n->nlink++;
	if (v->set & KS_SET_UID)
		n->uid = v->attr.uid;
	if (v->set & KS_SET_GID)
		n->gid = v->attr.gid;
	if (v->set & KS_SET_MODE) {
		n->mode = (n->mode & S_IFMT) | (v->attr.mode & 07777);
		r = ks_acl_follow_mode(t, n);
	}
	if (v->set & KS_SET_ATIME)
		n->atime_ns = v->attr.atime_ns;
	if (v->set & KS_SET_MTIME)
		n->mtime_ns = v->attr.mtime_ns;
	ks_touch(n, a->now);
	ks_txn_put(t, KS_T_INODE, n);
	return r;
}

static void make_name(struct ks_txn *t, const struct make_arg *a, const struct ks_lose *l, size_t i)
{
	struct ks_make *v = &a->v[i];
	struct slot *s = &a->s[i];
	struct ks_rec_dentry d;

	if (old_of(a, i)) {
		ks_lose_name(t, l, &s->d, &s->old);
		v->replaced = s->old;
		ks_txn_del(t, KS_T_DENTRY, &s->d);
	}
	/* The read has set its value columns. */
	KS_IGNORE(ks_dentry_key(a->m, v->parent, v->name, &d) < 0);
	d.ino = v->out.ino;
	d.type = ks_dtype(v->out.mode);
	ks_txn_insert(t, KS_T_DENTRY, &d);
}

static void write_shares(struct ks_txn *t, struct make_arg *a)
{
	for (size_t i = 0; i < a->n; i++) {
		for (size_t k = 0; a->v[i].err == 0 && k < a->v[i].n; k++) {
			const struct ks_commit_slice *c = &a->v[i].s[k];
			struct ks_pack_share *s;

			if (!c->pack)
				continue;
			s = ks_pack_share_add(a->packs, &a->npacks, c->pack);
			s->live += c->len;
			s->slices++;
			s->size = ks_max(s->size, c->pack_off + c->len);
		}
	}
	for (size_t i = 0; i < a->npacks; i++) {
		if (a->packs[i].slices)
			ks_pack_share_write(t, a->m, &a->packs[i], a->pack_reads[i].found);
	}
}

static void write_counts(struct ks_txn *t, const struct make_arg *a)
{
	int64_t bytes = 0;
	int64_t inodes = 0;
	bool touched = false;

	for (size_t i = 0; i < a->n; i++) {
		const struct ks_make *v = &a->v[i];

		if (v->err == 0 && !(v->flags & KS_MAKE_LINK)) {
			bytes += (int64_t)v->out.used;
			inodes++;
		}
		touched |= v->err == 0;
		if (touched && (i + 1 == a->n || v[1].parent != v->parent)) {
			ks_touch_dir(t, v->parent, a->now, 0);
			touched = false;
		}
	}
	ks_count_add(t, KS_CNT_INODES, inodes);
	ks_count_add(t, KS_CNT_USED, bytes);
}

static int make_body(struct ks_txn *t, void *arg)
{
	struct make_arg *a = arg;
	struct ks_lose l = { .m = a->m, .now = a->now, .trash = &a->trash };
	int r;

	if (a->runs++ > 1 && a->n > 1)
		return -ECANCELED;
	r = read_all(t, a);
	if (r == 0)
		r = judge(a);
	if (r == 0)
		r = ks_trash_ready(&a->trash);
	if (r < 0)
		return r;
	l.epoch = (uint64_t)a->epoch.value;
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		struct ks_make *v = &a->v[i];

		/* It is there, by this very name. */
		if (v->err < 0 || (linked_of(a, i) && old_of(a, i) == linked_of(a, i)))
			continue;
		r = v->flags & KS_MAKE_LINK ? make_link(t, a, i) : make_new(t, a, i);
		if (r == 0)
			make_name(t, a, &l, i);
	}
	if (r < 0)
		return r;
	write_shares(t, a);
	write_counts(t, a);
	ks_trash_write(t, &a->trash, a->now);
	return 0;
}

/* ---- from outside ---- */

static int check(const struct ks_make *v)
{
	size_t n = v->target ? strlen(v->target) : 0;

	if (!v->attr.ino || S_ISDIR(v->attr.mode))
		return ks_fail(-EINVAL, "'%s' cannot be made in a batch", v->name);
	if (v->flags & KS_MAKE_LINK)
		return 0;
	if (S_ISLNK(v->attr.mode) && n == 0)
		return -ENOENT;
	if (n > KS_SYMLINK_MAX)
		return -ENAMETOOLONG;
	return v->attr.size > KS_FILE_MAX ? -EFBIG : 0;
}

/* What is one entry's matter and not the database's. */
static bool is_own(int err)
{
	switch (err) {
	case -ENOENT:
	case -ENOTDIR:
	case -EEXIST:
	case -EISDIR:
	case -EPERM:
	case -EMLINK:
	case -EBADMSG:
	case -ENAMETOOLONG:
	case -EINVAL:
	case -EFBIG:
	case -ENOSPC:
		return true;
	default:
		return false;
	}
}

/* @runs: of the body that count as done already. */
static int run(struct make_arg *a, unsigned int runs)
{
	bool replaces = false;
	int r = 0;

	for (size_t i = 0; i < a->n; i++)
		replaces |= (a->v[i].flags & KS_MAKE_REPLACE) != 0;
	do {
		a->runs = runs;
		if (replaces)
			r = ks_trash_begin(a->m, a->now, false, &a->trash);
		if (r == 0)
			r = ks_meta_run_quota(a->m, make_body, a);
	} while (ks_trash_end(a->m, &a->trash, r));
	return r;
}

static int one_by_one(const struct make_arg *all)
{
	for (size_t i = 0; i < all->n; i++) {
		struct make_arg a = {
			.m = all->m, .c = all->c, .v = &all->v[i], .n = 1, .now = all->now
		};
		int r = check(a.v);

		if (r == 0)
			r = run(&a, 1); /* looks at once */
		if (r < 0 && !is_own(r))
			return r;
		a.v->err = r < 0 ? r : a.v->err;
	}
	return 0;
}

int ks_meta_make(struct ks_meta *m, const struct ks_cred *c, struct ks_make *v, size_t n)
{
	struct make_arg a = { .m = m, .c = c, .v = v, .n = n, .now = ks_clock_real_ns() };
	int r = m->readonly ? -EROFS : 0;

	if (n > KS_MAKE_MAX)
		return -EINVAL;
	for (size_t i = 0; r == 0 && i < n; i++) {
		/* One by one it is told what is wrong with it. */
		if (check(&v[i]) < 0 || strlen(v[i].name) > KS_NAME_MAX)
			r = -ECANCELED;
	}
	if (r == 0 && n)
		r = run(&a, 0);
	/* What one has done another one's refusal does not take back. */
	if (r == -ECANCELED)
		r = one_by_one(&a);
	return r;
}
