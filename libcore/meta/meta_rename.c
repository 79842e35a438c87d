/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_rename.c: renameat2(2).
 *
 * One read, one commit. A directory that has directories in it and gets another parent costs a third trip: is it an ancestor of
 * where it goes? Two such moves at once could each be fine alone and make a ring together: so they read and raise one counter of the volume.
 * A directory without directories can be nobody's ancestor, and if it gets one meanwhile its own record has changed.
 */
#include "meta/meta_internal.h"

struct rename_arg {
	struct ks_meta *m;
	const struct ks_cred *c;
	struct ks_rec_dentry od, nd; /* keys */
	unsigned int flags;
	uint64_t whiteout_ino;
	int64_t now;
	unsigned int runs;
	bool noop;
	struct ks_rec_inode moved, other; /* other: what has the new name before; ino 0: nothing */
	struct ks_trash trash;
};

/* What one run has read. */
struct seen {
	struct ks_rec_dentry od, nd;
	struct ks_rec_inode op, np;
	struct ks_rec_counter epoch, dirmove;
	struct ks_read rd[6 + KS_TRASH_READS];
	unsigned int n;
	bool same_parent;
};
enum { R_OLD, R_NEW, R_EPOCH, R_OP, R_NP, R_DIRMOVE };

static int read_all(struct ks_txn *t, struct rename_arg *a, struct seen *s)
{
	s->od = a->od;
	s->nd = a->nd;
	s->same_parent = a->od.parent == a->nd.parent;
	a->moved = a->other = (struct ks_rec_inode){ 0 };
	a->noop = false;
	s->rd[R_OLD] = (struct ks_read){
		.table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &s->od, .inode = &a->moved
	};
	s->rd[R_NEW] = (struct ks_read){
		.table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &s->nd, .inode = &a->other
	};
	s->rd[R_EPOCH] = ks_read_counter(&s->epoch, KS_CNT_EPOCH, 0);
	s->rd[R_OP] = ks_read_inode(&s->op, a->od.parent, KS_READ_WEAK);
	s->rd[R_NP] = ks_read_inode(&s->np, a->nd.parent, KS_READ_WEAK);
	s->rd[R_DIRMOVE] = ks_read_counter(&s->dirmove, KS_CNT_DIRMOVE, 0);
	s->n = s->same_parent ? 4 : 6;
	s->n += ks_trash_reads(&a->trash, &s->rd[s->n]);
	return ks_txn_read(t, s->rd, s->n);
}

/* Parents and existence. */
static int check_names(const struct rename_arg *a, const struct seen *s)
{
	bool found = s->rd[R_NEW].found;
	int r = ks_check_parent(&s->rd[R_OP], true);

	if (r == 0 && !s->same_parent)
		r = ks_check_parent(&s->rd[R_NP], false);
	if (r < 0)
		return r;
	if (!s->rd[R_OLD].found || (!found && (a->flags & KS_RENAME_EXCHANGE)))
		return -ENOENT;
	if (found && (a->flags & KS_RENAME_NOREPLACE))
		return -EEXIST;
	if (!a->moved.ino || (found && !a->other.ino))
		return -EBADMSG;
	if (found && !s->same_parent && (s->np.flags & KS_INODE_APPEND))
		return -EPERM;
	return 0;
}

/* The inodes themselves; the two are different. */
static int check_kinds(struct ks_txn *t, struct rename_arg *a)
{
	bool dir = S_ISDIR(a->moved.mode);
	bool empty;
	int r;

	if ((a->moved.flags | a->other.flags) & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	if (!a->other.ino || (a->flags & KS_RENAME_EXCHANGE))
		return 0;
	if (dir && !S_ISDIR(a->other.mode))
		return -ENOTDIR;
	if (!dir && S_ISDIR(a->other.mode))
		return -EISDIR;
	if (!dir)
		return 0;
	if (a->other.nlink > 2)
		return -ENOTEMPTY;
	if (a->runs++ == 0)
		return 0;
	r = ks_dir_is_empty(t, a->other.ino, &empty);
	return r < 0 || empty ? r : -ENOTEMPTY;
}

struct ancestors {
	uint64_t moved, other; /* 0: it need not be looked for */
	bool found;
};

static int ancestor_one(void *arg, const struct ks_rec_inode *node)
{
	struct ancestors *w = arg;

	w->found = w->found || (node->ino == w->moved) || (node->ino == w->other);
	return w->found;
}

static int check_ancestors(struct ks_txn *t, const struct rename_arg *a, bool *bump)
{
	bool exchange = a->flags & KS_RENAME_EXCHANGE;
	struct ancestors w = { 0 };
	uint64_t from[2];
	size_t n = 0;
	int r;

	*bump = false;
	if (a->od.parent == a->nd.parent)
		return 0;
	if (a->moved.ino == a->nd.parent || (exchange && a->other.ino == a->od.parent))
		return -EINVAL;
	if (S_ISDIR(a->moved.mode) && a->moved.nlink > 2) {
		w.moved = a->moved.ino;
		from[n++] = a->nd.parent;
	}
	if (exchange && S_ISDIR(a->other.mode) && a->other.nlink > 2) {
		w.other = a->other.ino;
		from[n++] = a->od.parent;
	}
	if (n == 0)
		return 0;
	*bump = true;
	r = ks_txn_ancestors(t, from, n, ancestor_one, &w);
	if (r < 0)
		return r;
	return w.found ? -EINVAL : 0;
}

static int new_links(const struct rename_arg *a)
{
	return (S_ISDIR(a->moved.mode) ? 1 : 0) - (S_ISDIR(a->other.mode) ? 1 : 0);
}

static void moved_to(struct ks_txn *t, struct ks_attr *n, uint64_t parent, int64_t now)
{
	if (S_ISDIR(n->mode) || n->nlink == 1)
		n->parent = parent;
	ks_touch(n, now);
	ks_txn_put(t, KS_T_INODE, n);
}

static void put_name(struct ks_txn *t, const struct ks_rec_dentry *key, const struct ks_attr *n)
{
	struct ks_rec_dentry d = *key;

	d.ino = n->ino;
	d.type = ks_dtype(n->mode);
	ks_txn_put(t, KS_T_DENTRY, &d);
}

static void put_whiteout(struct ks_txn *t, const struct rename_arg *a)
{
	struct ks_rec_inode n = { .ino = a->whiteout_ino,
				  .parent = a->od.parent,
				  .mode = S_IFCHR,
				  .nlink = 1,
				  .uid = a->c->uid,
				  .gid = a->c->gid,
				  .atime_ns = a->now,
				  .mtime_ns = a->now,
				  .ctime_ns = a->now,
				  .btime_ns = a->now,
				  .change = 1 };

	ks_txn_insert(t, KS_T_INODE, &n);
	put_name(t, &a->od, &n);
	ks_count_add(t, KS_CNT_INODES, 1);
}

static int write_all(struct ks_txn *t, struct rename_arg *a, const struct seen *s, bool bump)
{
	struct ks_lose l = {
		.m = a->m, .now = a->now, .epoch = (uint64_t)s->epoch.value, .trash = &a->trash
	};
	bool exchange = a->flags & KS_RENAME_EXCHANGE;
	int links = new_links(a);
	int r = 0;

	put_name(t, &a->nd, &a->moved);
	if (exchange)
		put_name(t, &a->od, &a->other);
	else if (a->flags & KS_RENAME_WHITEOUT)
		put_whiteout(t, a);
	else
		ks_txn_del(t, KS_T_DENTRY, &a->od);
	if (exchange)
		moved_to(t, &a->other, a->od.parent, a->now);
	else if (S_ISDIR(a->other.mode))
		r = ks_lose_dir(t, &l, &a->nd, &a->other, a->trash.id);
	else if (a->other.ino)
		ks_lose_name(t, &l, &a->nd, &a->other);
	moved_to(t, &a->moved, a->nd.parent, a->now);
	if (s->same_parent) {
		/* Of two directories one is left. */
		ks_touch_dir(t, a->nd.parent, a->now, !exchange && S_ISDIR(a->other.mode) ? -1 : 0);
	} else {
		int out = exchange ? links : S_ISDIR(a->moved.mode);

		ks_touch_dir(t, a->nd.parent, a->now, links);
		ks_touch_dir(t, a->od.parent, a->now, -out);
	}
	if (bump)
		ks_count_add(t, KS_CNT_DIRMOVE, 1);
	ks_trash_write(t, &a->trash, a->now);
	return r;
}

static int rename_body(struct ks_txn *t, void *arg)
{
	struct rename_arg *a = arg;
	struct seen s;
	bool bump;
	int r = read_all(t, a, &s);

	if (r == 0)
		r = check_names(a, &s);
	if (r < 0)
		return r;
	if (a->moved.ino == a->other.ino) {
		a->noop = true;
		return 0;
	}
	r = check_ancestors(t, a, &bump);
	if (r == 0)
		r = check_kinds(t, a);
	if (r < 0)
		return r;
	if (!s.same_parent && new_links(a) > 0 && s.np.nlink >= KS_LINK_MAX)
		return -EMLINK;
	r = ks_trash_ready(&a->trash);
	return r < 0 ? r : write_all(t, a, &s, bump);
}

int ks_meta_rename(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, const char *name,
		   ks_ino_t newparent, const char *newname, unsigned int flags,
		   struct ks_attr *moved, struct ks_attr *replaced)
{
	struct rename_arg a = { .m = m, .c = c, .flags = flags, .now = ks_clock_real_ns() };
	int r;

	if (flags & ~(unsigned int)(KS_RENAME_NOREPLACE | KS_RENAME_EXCHANGE | KS_RENAME_WHITEOUT))
		return -EINVAL;
	if ((flags & KS_RENAME_EXCHANGE) && (flags & (KS_RENAME_NOREPLACE | KS_RENAME_WHITEOUT)))
		return -EINVAL;
	r = ks_dentry_key(m, parent, name, &a.od);
	if (r == 0)
		r = ks_dentry_key(m, newparent, newname, &a.nd);
	if (r == 0 && (flags & KS_RENAME_WHITEOUT))
		r = ks_meta_new_id(m, KS_ID_INO, &a.whiteout_ino);
	if (r < 0)
		return r;
	do {
		/* These two replace nothing. */
		if (!(flags & (KS_RENAME_NOREPLACE | KS_RENAME_EXCHANGE)))
			r = ks_trash_begin(m, a.now, true, &a.trash);
		if (r == 0)
			r = ks_meta_run(m, rename_body, &a);
	} while (ks_trash_end(m, &a.trash, r));
	if (r == -EBADMSG)
		return ks_fail_hint(r, "run kiseki-fsck",
				    "rename of '%s' in directory %ju: an inode is missing, or the "
				    "tree is damaged",
				    name, (uintmax_t)parent);
	if (r < 0)
		return r;
	if (moved)
		*moved = a.moved;
	if (replaced)
		*replaced =
			a.noop || (flags & KS_RENAME_EXCHANGE) ? (struct ks_attr){ 0 } : a.other;
	return 0;
}
