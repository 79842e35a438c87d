/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_unlink.c: names that go: unlink, rmdir, and what becomes of an inode without one.
 *
 * A regular file that lost its last name keeps its inode, with no links, and gets a KS_T_DELETED record with the epoch; meta_delete.c frees it when nobody
 * can have it open any more. If this process has it open, its session claims it in the same transaction. Other kinds have no
 * data that anybody could read on: they go at once. With a trash all of them go there instead (meta_trash.c).
 */
#include "meta/meta_internal.h"

static void forget_records(struct ks_txn *t, const struct ks_attr *node)
{
	struct ks_rec_symlink link = { .ino = node->ino };
	struct ks_rec_xattr xattr = { .ino = node->ino };

	ks_txn_del(t, KS_T_INODE, node);
	if (S_ISLNK(node->mode))
		ks_txn_del(t, KS_T_SYMLINK, &link);
	if (node->flags & KS_INODE_HAS_XATTR)
		ks_txn_del_prefix(t, KS_T_XATTR, &xattr, 1);
}

void ks_end_inode(struct ks_txn *t, const struct ks_lose *l, struct ks_attr *node)
{
	struct ks_meta *m = l->m;
	bool open = m->o.hooks.is_open && m->o.hooks.is_open(m->o.hooks.arg, node->ino);
	struct ks_rec_deleted del = { .ino = node->ino, .time_ns = l->now, .epoch = l->epoch };
	struct ks_rec_claim claim = { .session = atomic_load(&m->session), .ino = node->ino };

	/*
	 * Nothing was ever written and nobody else is there who could have it open: a session that starts raises the epoch, which
	 * was read strictly.
	 */
	if (!S_ISREG(node->mode) ||
	    (!open && !node->used && !node->size && l->epoch == atomic_load(&m->sole_epoch))) {
		forget_records(t, node);
		ks_count_add(t, KS_CNT_INODES, -1);
		return;
	}
	ks_txn_put(t, KS_T_INODE, node);
	ks_txn_put(t, KS_T_DELETED, &del);
	if (open && claim.session)
		ks_txn_put(t, KS_T_CLAIM, &claim);
}

void ks_lose_name(struct ks_txn *t, const struct ks_lose *l, const struct ks_rec_dentry *d,
		  struct ks_attr *node)
{
	node->nlink = node->nlink ? node->nlink - 1 : 0;
	ks_touch(node, l->now);
	if (node->nlink) {
		ks_txn_put(t, KS_T_INODE, node);
	} else if (l->trash && l->trash->on) {
		ks_trash_file(t, l->trash, d, node);
	} else {
		node->parent = 0;
		ks_end_inode(t, l, node);
	}
}

int ks_lose_dir(struct ks_txn *t, const struct ks_lose *l, const struct ks_rec_dentry *d,
		struct ks_attr *node, uint64_t id)
{
	struct ks_rec_dentry prefix = { .parent = node->ino };
	bool keep = l->trash && l->trash->on && id;
	bool xattrs = node->flags & KS_INODE_HAS_XATTR;
	int r = 0;

	/* A full disk takes no copies of them; the directory without them would be another one. */
	if (keep && xattrs && ks_engine_is_full(l->m->e))
		keep = false;
	ks_txn_need_empty(t, KS_T_DENTRY, &prefix, 1);
	node->nlink = 0;
	ks_touch(node, l->now);
	if (keep)
		r = ks_trash_dir(t, l->trash, d, node, id);
	else
		ks_count_add(t, KS_CNT_INODES, -1);
	forget_records(t, node);
	return r;
}

static int found_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	bool *empty = arg;

	(void)rec;
	(void)node;
	*empty = false;
	return 1;
}

int ks_dir_is_empty(struct ks_txn *t, uint64_t dir, bool *empty)
{
	struct ks_rec_dentry prefix = { .parent = dir };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_SNAPSHOT,
			     .from = &prefix,
			     .nprefix = 1,
			     .limit = 1,
			     .fn = found_one,
			     .arg = empty };

	*empty = true;
	return ks_txn_scan(t, &s);
}

/* ---- unlink, rmdir ---- */

struct unlink_arg {
	struct ks_meta *m;
	struct ks_rec_dentry d;
	int64_t now;
	bool dir;
	unsigned int runs; /* a directory is looked into only when the first try was refused */
	struct ks_trash trash;
	struct ks_rec_inode out;
};

static int unlink_decide(struct ks_txn *t, struct unlink_arg *u, const struct ks_read *rd)
{
	const struct ks_rec_inode *n = &u->out;
	bool empty;
	int r = ks_check_parent(&rd[0], true);

	if (r < 0)
		return r;
	if (!rd[1].found)
		return -ENOENT;
	if (!n->ino)
		return -EBADMSG;
	if (u->dir && !S_ISDIR(n->mode))
		return -ENOTDIR;
	if (!u->dir && S_ISDIR(n->mode))
		return -EISDIR;
	if (n->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	if (!u->dir)
		return 0;
	if (n->nlink > 2)
		return -ENOTEMPTY;
	if (u->runs++ == 0)
		return 0;
	r = ks_dir_is_empty(t, n->ino, &empty);
	return r < 0 || empty ? r : -ENOTEMPTY;
}

static int unlink_body(struct ks_txn *t, void *arg)
{
	struct unlink_arg *u = arg;
	struct ks_rec_inode parent;
	struct ks_rec_counter epoch;
	struct ks_rec_dentry d = u->d;
	struct ks_read rd[3 + KS_TRASH_READS] = {
		ks_read_inode(&parent, d.parent, KS_READ_WEAK),
		{ .table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &d, .inode = &u->out },
		ks_read_counter(&epoch, KS_CNT_EPOCH, 0),
	};
	struct ks_lose l = { .m = u->m, .now = u->now, .trash = &u->trash };
	int r;

	u->out = (struct ks_rec_inode){ 0 };
	r = ks_txn_read(t, rd, 3 + ks_trash_reads(&u->trash, &rd[3]));
	if (r == 0)
		r = unlink_decide(t, u, rd);
	if (r == 0)
		r = ks_trash_ready(&u->trash);
	if (r < 0)
		return r;
	l.epoch = (uint64_t)epoch.value;
	ks_txn_del(t, KS_T_DENTRY, &u->d);
	if (u->dir)
		r = ks_lose_dir(t, &l, &u->d, &u->out, u->trash.id);
	else
		ks_lose_name(t, &l, &u->d, &u->out);
	ks_touch_dir(t, d.parent, u->now, u->dir ? -1 : 0);
	ks_trash_write(t, &u->trash, u->now);
	return r;
}

static int unlink_run(struct unlink_arg *u, ks_ino_t parent, const char *name, struct ks_attr *out)
{
	int r = ks_dentry_key(u->m, parent, name, &u->d);

	if (r < 0)
		return r;
	do {
		r = ks_trash_begin(u->m, u->now, u->dir, &u->trash);
		if (r == 0)
			r = ks_meta_run(u->m, unlink_body, u);
	} while (ks_trash_end(u->m, &u->trash, r));
	if (r == -EBADMSG)
		return ks_fail_hint(r, "run kiseki-fsck",
				    "'%s' in directory %ju names an inode that is missing", name,
				    (uintmax_t)parent);
	if (r == 0 && out)
		*out = u->out;
	return r;
}

int ks_meta_unlink(struct ks_meta *m, ks_ino_t parent, const char *name, struct ks_attr *out)
{
	struct unlink_arg u = { .m = m, .now = ks_clock_real_ns() };

	return unlink_run(&u, parent, name, out);
}

int ks_meta_rmdir(struct ks_meta *m, ks_ino_t parent, const char *name, struct ks_attr *out)
{
	struct unlink_arg u = { .m = m, .now = ks_clock_real_ns(), .dir = true };

	return unlink_run(&u, parent, name, out);
}
