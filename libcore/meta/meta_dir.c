/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_dir.c: names: looking them up, listing them, making them.
 */
#include "meta/meta_internal.h"

#define READDIR_DEFAULT 1024u
#define READDIR_SLACK 16u /* names of one hash beyond the limit that still come in the same trip */

int ks_dentry_key(const struct ks_meta *m, uint64_t parent, const char *name,
		  struct ks_rec_dentry *d)
{
	size_t n = strlen(name);
	uint64_t h;

	if (n > KS_NAME_MAX)
		return -ENAMETOOLONG;
	if (n == 0 || memchr(name, '/', n))
		return -EINVAL;
	h = ks_siphash(m->set.hash_key, name, n) >> 1;
	*d = (struct ks_rec_dentry){ .parent = parent,
				     .hash = ks_max(h, (uint64_t)KS_DENTRY_HASH_MIN),
				     .name = { .p = name, .n = n } };
	return 0;
}

int ks_check_parent(const struct ks_read *r, bool removing)
{
	const struct ks_rec_inode *p = r->rec;

	if (!r->found)
		return -ENOENT;
	if (!S_ISDIR(p->mode))
		return -ENOTDIR;
	if (p->flags & (KS_INODE_IMMUTABLE | (removing ? KS_INODE_APPEND : 0)))
		return -EPERM;
	return 0;
}

unsigned int ks_quota_reads(struct ks_meta *m, struct ks_quota *q, struct ks_read *rd)
{
	if (!atomic_load(&m->capacity) && !atomic_load(&m->inodes_max))
		return 0;
	rd[0] = ks_read_counter(&q->used, KS_CNT_USED, KS_READ_SNAPSHOT);
	rd[1] = ks_read_counter(&q->inodes, KS_CNT_INODES, KS_READ_SNAPSHOT);
	return 2;
}

int ks_quota_check(struct ks_meta *m, const struct ks_quota *q, int64_t bytes, int64_t inodes)
{
	uint64_t capacity = atomic_load(&m->capacity);
	uint64_t inodes_max = atomic_load(&m->inodes_max);

	if (bytes > 0 && capacity &&
	    (uint64_t)ks_max(q->used.value, (int64_t)0) + (uint64_t)bytes > capacity)
		return -ENOSPC;
	if (inodes > 0 && inodes_max &&
	    (uint64_t)ks_max(q->inodes.value, (int64_t)0) + (uint64_t)inodes > inodes_max)
		return -ENOSPC;
	return 0;
}

/* ---- reads ---- */

int ks_meta_lookup(struct ks_meta *m, ks_ino_t parent, const char *name, struct ks_attr *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_dentry d;
	struct ks_rec_inode node = { 0 };
	struct ks_read rd = {
		.table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &d, .inode = &node
	};
	int r = ks_dentry_key(m, parent, name, &d);

	if (r < 0)
		return r;
	r = ks_engine_read(m->e, &rd, 1, &a);
	ks_arena_clear(&a);
	if (r < 0)
		return r;
	if (!rd.found)
		return -ENOENT;
	if (!node.ino)
		return ks_fail_hint(-EBADMSG, "run kiseki-fsck",
				    "'%s' in directory %ju names inode %ju, which is missing", name,
				    (uintmax_t)parent, (uintmax_t)d.ino);
	*out = node;
	return 0;
}

int ks_meta_getattr(struct ks_meta *m, ks_ino_t ino, struct ks_attr *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode node;
	struct ks_read rd = ks_read_inode(&node, ino, 0);
	int r = ks_engine_read(m->e, &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0)
		return r;
	if (!rd.found)
		return -ENOENT;
	*out = node;
	return 0;
}

int ks_meta_readlink(struct ks_meta *m, ks_ino_t ino, struct ks_buf *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_symlink link = { .ino = ino };
	struct ks_rec_inode node;
	struct ks_read rd[] = { ks_read_inode(&node, ino, 0),
				{ .table = KS_T_SYMLINK, .rec = &link } };
	int r = ks_engine_read(m->e, rd, 2, &a);

	if (r == 0 && !rd[0].found)
		r = -ENOENT;
	else if (r == 0 && !S_ISLNK(node.mode))
		r = -EINVAL;
	else if (r == 0 && !rd[1].found)
		r = ks_fail_hint(-EBADMSG, "run kiseki-fsck",
				 "the target of symlink %ju is missing", (uintmax_t)ino);
	else if (r == 0)
		r = ks_buf_append(out, link.target.p, link.target.n);
	ks_arena_clear(&a);
	return r;
}

struct readdir {
	ks_readdir_fn *fn;
	void *arg;
	bool plus, stopped, full;
	const struct ks_read *dir;
	uint64_t limit, n;
	uint64_t hash; /* of the last entry */
	char name[KS_NAME_MAX];
	size_t name_len;
};

static int readdir_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_dentry *d = rec;
	struct readdir *rd = arg;
	int r;

	if (!rd->dir->found || d->name.n > KS_NAME_MAX)
		return 1;
	if (rd->n >= rd->limit && d->hash != rd->hash) {
		rd->full = true;
		return 1;
	}
	r = rd->fn(rd->arg, d, rd->plus && node && node->ino ? node : NULL);
	if (r) {
		rd->stopped = r > 0;
		return r;
	}
	rd->n++;
	rd->hash = d->hash;
	rd->name_len = d->name.n;
	memcpy(rd->name, d->name.p, d->name.n);
	return 0;
}

int ks_meta_readdir(struct ks_meta *m, ks_ino_t dir, uint64_t after, bool plus, uint64_t limit,
		    ks_readdir_fn *fn, void *arg, bool *eof)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode node;
	struct ks_read read = ks_read_inode(&node, dir, 0);
	struct readdir rd = { .fn = fn,
			      .arg = arg,
			      .plus = plus,
			      .dir = &read,
			      .limit = limit ? limit : READDIR_DEFAULT };
	struct ks_rec_dentry from = { .parent = dir, .hash = after };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = plus ? KS_READ_FOLLOW : 0,
			     .from = &from,
			     .nprefix = 1,
			     .nafter = 1,
			     .limit = rd.limit + READDIR_SLACK,
			     .fn = readdir_one,
			     .arg = &rd };
	char name[KS_NAME_MAX];
	uint64_t before;
	int r;

	/* More than one turn only when more names than the slack share a hash. */
	do {
		before = rd.n;
		r = ks_engine_fetch(m->e, &read, 1, &s, 1, &a);
		ks_arena_reset(&a);
		from.hash = rd.hash;
		memcpy(name, rd.name, rd.name_len);
		from.name = (struct ks_bytes){ .p = name, .n = rd.name_len };
		s.nafter = 2;
	} while (r == 0 && !rd.full && !rd.stopped && rd.n - before == s.limit);
	ks_arena_clear(&a);
	if (r < 0)
		return r;
	if (!read.found)
		return -ENOENT;
	if (!S_ISDIR(node.mode))
		return -ENOTDIR;
	*eof = !rd.full && !rd.stopped;
	return 0;
}

/* ---- making ---- */

struct mknod_arg {
	struct ks_meta *m;
	const struct ks_cred *c;
	struct ks_rec_dentry d;
	struct ks_rec_inode
		node; /* in: ino, mode, rdev, times; gid and setgid are decided in each run */
	struct ks_bytes target;
	int64_t now;
	bool tmp;
	struct ks_rec_inode out;
};

static int mknod_decide(struct mknod_arg *k, const struct ks_read *rd,
			const struct ks_rec_inode *parent)
{
	struct ks_rec_inode *n = &k->out;
	int r = ks_check_parent(&rd[0], false);

	if (r < 0)
		return r;
	if (!k->tmp && rd[1].found)
		return -EEXIST;
	*n = k->node;
	n->flags |= parent->flags & KS_INODE_NODUMP;
	if (S_ISDIR(n->mode) && parent->nlink >= KS_LINK_MAX)
		return -EMLINK;
	if (parent->mode & S_ISGID) {
		n->gid = parent->gid;
		if (S_ISDIR(n->mode))
			n->mode |= S_ISGID;
	}
	return 0;
}

static int mknod_body(struct ks_txn *t, void *arg)
{
	struct mknod_arg *k = arg;
	struct ks_rec_inode parent;
	struct ks_rec_dentry d = k->d;
	struct ks_quota q;
	struct ks_read rd[4] = { ks_read_inode(&parent, d.parent, KS_READ_WEAK),
				 { .table = KS_T_DENTRY, .rec = &d } };
	unsigned int nq = ks_quota_reads(k->m, &q, &rd[2]);
	int r = ks_txn_read(t, rd, 2 + nq);

	if (r == 0)
		r = mknod_decide(k, rd, &parent);
	if (r == 0 && nq)
		r = ks_quota_check(k->m, &q, 0, 1);
	if (r == 0)
		r = ks_acl_inherit(t, &parent, k->c->umask, &k->out);
	if (r < 0)
		return r;
	ks_txn_insert(t, KS_T_INODE, &k->out);
	if (S_ISLNK(k->out.mode)) {
		struct ks_rec_symlink s = { .ino = k->out.ino, .target = k->target };

		ks_txn_insert(t, KS_T_SYMLINK, &s);
	}
	d = k->d;
	d.ino = k->out.ino;
	d.type = ks_dtype(k->out.mode);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	ks_touch_dir(t, d.parent, k->now, S_ISDIR(k->out.mode) ? 1 : 0);
	ks_count_add(t, KS_CNT_INODES, 1);
	return 0;
}

static void mknod_init(struct mknod_arg *k, struct ks_meta *m, const struct ks_cred *c,
		       uint64_t parent, uint32_t mode)
{
	int64_t now = ks_clock_real_ns();

	k->m = m;
	k->c = c;
	k->now = now;
	k->d.parent = parent;
	k->node = (struct ks_rec_inode){ .parent = parent,
					 .mode = mode,
					 .nlink = S_ISDIR(mode) ? 2 : 1,
					 .uid = c->uid,
					 .gid = c->gid,
					 .size = S_ISDIR(mode) ? KS_DIR_SIZE : 0,
					 .atime_ns = now,
					 .mtime_ns = now,
					 .ctime_ns = now,
					 .btime_ns = now,
					 .change = 1 };
}

int ks_meta_mknod(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, const char *name,
		  uint32_t mode, uint32_t rdev, const char *target, struct ks_attr *out)
{
	struct mknod_arg k = { 0 };
	size_t n = target ? strlen(target) : 0;
	int r;

	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	mknod_init(&k, m, c, parent, mode);
	r = ks_dentry_key(m, parent, name, &k.d);
	if (r < 0)
		return r;
	if (S_ISLNK(mode)) {
		if (n == 0)
			return -ENOENT;
		if (n > KS_SYMLINK_MAX)
			return -ENAMETOOLONG;
		k.target = (struct ks_bytes){ .p = target, .n = n };
		k.node.size = n;
	}
	if (S_ISCHR(mode) || S_ISBLK(mode))
		k.node.rdev = rdev;
	if (m->readonly)
		return -EROFS;
	r = ks_meta_new_id(m, KS_ID_INO, &k.node.ino);
	if (r == 0)
		r = ks_meta_run_quota(m, mknod_body, &k);
	if (r == 0 && out)
		*out = k.out;
	return r;
}

static int mktmp_body(struct ks_txn *t, void *arg)
{
	struct mknod_arg *k = arg;
	struct ks_rec_inode parent;
	struct ks_rec_counter epoch;
	struct ks_rec_deleted del = { .ino = k->node.ino, .time_ns = k->now };
	struct ks_rec_claim claim = { .session = atomic_load(&k->m->session), .ino = k->node.ino };
	struct ks_quota q;
	struct ks_read rd[4] = { ks_read_inode(&parent, k->d.parent, KS_READ_WEAK),
				 ks_read_counter(&epoch, KS_CNT_EPOCH, 0) };
	unsigned int nq = ks_quota_reads(k->m, &q, &rd[2]);
	int r = ks_txn_read(t, rd, 2 + nq);

	if (r == 0)
		r = mknod_decide(k, rd, &parent);
	if (r == 0 && nq)
		r = ks_quota_check(k->m, &q, 0, 1);
	if (r == 0)
		r = ks_acl_inherit(t, &parent, k->c->umask, &k->out);
	if (r < 0)
		return r;
	del.epoch = (uint64_t)epoch.value;
	ks_txn_insert(t, KS_T_INODE, &k->out);
	ks_txn_insert(t, KS_T_DELETED, &del);
	if (claim.session)
		ks_txn_insert(t, KS_T_CLAIM, &claim);
	ks_count_add(t, KS_CNT_INODES, 1);
	return 0;
}

int ks_meta_mktmp(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, uint32_t mode,
		  struct ks_attr *out)
{
	struct mknod_arg k = { .tmp = true };
	int r;

	if (mode & S_IFMT & ~S_IFREG)
		return -EINVAL;
	mknod_init(&k, m, c, parent, (mode & ~(uint32_t)S_IFMT) | S_IFREG);
	k.node.nlink = 0;
	k.node.parent = 0;
	if (m->readonly)
		return -EROFS;
	r = ks_meta_new_id(m, KS_ID_INO, &k.node.ino);
	if (r == 0)
		r = ks_meta_run_quota(m, mktmp_body, &k);
	if (r == 0 && out)
		*out = k.out;
	return r;
}

/* ---- link ---- */

struct link_arg {
	struct ks_meta *m;
	struct ks_rec_dentry d;
	uint64_t ino;
	int64_t now;
	struct ks_rec_inode out;
};

static int link_decide(const struct link_arg *l, const struct ks_read *rd,
		       const struct ks_rec_inode *n)
{
	int r = ks_check_parent(&rd[0], false);

	if (r < 0)
		return r;
	if (!rd[2].found)
		return -ENOENT;
	if (S_ISDIR(n->mode) || (n->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND)))
		return -EPERM;
	if (ks_is_trashed(n))
		return -ENOENT;
	/* Without a name: only one that this session made or holds comes back. */
	if (n->nlink == 0 && atomic_load(&l->m->session) && !rd[3].found)
		return -ENOENT;
	if (n->nlink >= KS_LINK_MAX)
		return -EMLINK;
	return rd[1].found ? -EEXIST : 0;
}

static int link_body(struct ks_txn *t, void *arg)
{
	struct link_arg *l = arg;
	struct ks_rec_inode parent;
	struct ks_rec_inode *n = &l->out;
	struct ks_rec_dentry d = l->d;
	struct ks_rec_claim claim = { .session = atomic_load(&l->m->session), .ino = l->ino };
	struct ks_read rd[] = {
		ks_read_inode(&parent, d.parent, KS_READ_WEAK),
		{ .table = KS_T_DENTRY, .rec = &d },
		ks_read_inode(n, l->ino, 0),
		{ .table = KS_T_CLAIM, .rec = &claim },
	};
	int r = ks_txn_read(t, rd, KS_ARRAY_SIZE(rd));

	if (r == 0)
		r = link_decide(l, rd, n);
	if (r < 0)
		return r;
	if (n->nlink == 0) {
		struct ks_rec_deleted del = { .ino = l->ino };

		ks_txn_del(t, KS_T_DELETED, &del);
		ks_txn_del(t, KS_T_CLAIM, &claim);
	}
	n->parent = n->nlink == 0 ? l->d.parent : 0;
	n->nlink++;
	ks_touch(n, l->now);
	ks_txn_put(t, KS_T_INODE, n);
	d = l->d;
	d.ino = l->ino;
	d.type = ks_dtype(n->mode);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	ks_touch_dir(t, d.parent, l->now, 0);
	return 0;
}

int ks_meta_link(struct ks_meta *m, ks_ino_t ino, ks_ino_t newparent, const char *newname,
		 struct ks_attr *out)
{
	struct link_arg l = { .m = m, .ino = ino, .now = ks_clock_real_ns() };
	int r = ks_dentry_key(m, newparent, newname, &l.d);

	if (r == 0)
		r = ks_meta_run(m, link_body, &l);
	if (r == 0 && out)
		*out = l.out;
	return r;
}
