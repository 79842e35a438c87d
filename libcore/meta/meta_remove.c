/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_remove.c: many names that go in one transaction, for who removes whole trees.
 *
 * The reads of a body do not see what it has buffered. So what an entry's removal means for a later one of the same batch is looked up among the
 * earlier ones: links that a file has lost, subdirectories that are gone, and entries that stay. That a directory is empty is a condition of
 * the commit, judged behind the removals before it. When it does not hold, somebody has made an entry: then each goes by itself.
 */
#include "meta/meta_internal.h"

struct slot {
	struct ks_rec_dentry d;
	struct ks_rec_inode parent; /* when it is not that of the slot before */
	struct ks_rec_inode node;
	const struct ks_read *parent_read, *read;
};

struct remove_arg {
	struct ks_meta *m;
	struct ks_remove *v;
	size_t n;
	int64_t now;
	unsigned int runs;
	struct ks_trash trash;
	uint64_t ids[KS_REMOVE_MAX]; /* of directories that go to the trash; 0: not taken yet */
};

/* Subdirectories of @dir that went before @i. */
static uint32_t gone_below(const struct remove_arg *a, uint64_t dir, size_t i)
{
	uint32_t n = 0;

	while (i-- > 0)
		n += a->v[i].parent == dir && a->v[i].dir && a->v[i].err == 0;
	return n;
}

/* Does an entry of @dir stay that should have gone before @i? */
static bool stays_below(const struct remove_arg *a, uint64_t dir, size_t i)
{
	while (i-- > 0) {
		if (a->v[i].parent == dir && a->v[i].err < 0 && a->v[i].err != -ENOENT)
			return true;
	}
	return false;
}

/* What a file with several names has become by the removal of another one. */
static void see_earlier(const struct remove_arg *a, struct slot *s, size_t i)
{
	for (size_t j = i; j-- > 0;) {
		if (a->v[j].err == 0 && !a->v[j].dir && s[j].node.ino == s[i].node.ino) {
			s[i].node = s[j].node;
			return;
		}
	}
}

/* @failed: an entry before this one stays. */
static int decide(const struct remove_arg *a, struct slot *s, size_t i, bool failed)
{
	const struct ks_rec_inode *node = &s[i].node;
	int r = ks_check_parent(s[i].parent_read, true);

	if (r < 0)
		return r;
	if (!s[i].read->found)
		return -ENOENT;
	if (!node->ino)
		return -EBADMSG;
	if (a->v[i].dir != S_ISDIR(node->mode))
		return a->v[i].dir ? -ENOTDIR : -EISDIR;
	if (node->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	if (!a->v[i].dir)
		return 0;
	if (node->nlink > 2 && node->nlink - gone_below(a, node->ino, i) > 2)
		return -ENOTEMPTY;
	return failed && stays_below(a, node->ino, i) ? -ENOTEMPTY : 0;
}

static int read_all(struct ks_txn *t, struct remove_arg *a, struct slot *s,
		    struct ks_rec_counter *epoch)
{
	struct ks_read *rd =
		ks_arena_alloc(ks_txn_arena(t), (2 * a->n + 1 + KS_TRASH_READS) * sizeof(*rd));
	size_t n = 0;

	if (!rd)
		return -ENOMEM;
	rd[n++] = ks_read_counter(epoch, KS_CNT_EPOCH, 0);
	n += ks_trash_reads(&a->trash, &rd[n]);
	for (size_t i = 0; i < a->n; i++) {
		const struct ks_remove *v = &a->v[i];
		int r = ks_dentry_key(a->m, v->parent, v->name, &s[i].d);

		if (r < 0)
			return r;
		if (i && v->parent == v[-1].parent) {
			s[i].parent_read = s[i - 1].parent_read;
		} else {
			s[i].parent_read = &rd[n];
			rd[n++] = ks_read_inode(&s[i].parent, v->parent, KS_READ_WEAK);
		}
		s[i].read = &rd[n];
		rd[n++] = (struct ks_read){ .table = KS_T_DENTRY,
					    .flags = KS_READ_FOLLOW,
					    .rec = &s[i].d,
					    .inode = &s[i].node };
	}
	return ks_txn_read(t, rd, n);
}

static int lose(struct ks_txn *t, const struct ks_lose *l, struct ks_remove *v, struct slot *s,
		uint64_t id)
{
	ks_txn_del(t, KS_T_DENTRY, &s->d);
	if (v->dir)
		return ks_lose_dir(t, l, &s->d, &s->node, id);
	ks_lose_name(t, l, &s->d, &s->node);
	v->bytes = s->node.nlink ? 0 : s->node.size;
	return 0;
}

static int remove_body(struct ks_txn *t, void *arg)
{
	struct remove_arg *a = arg;
	struct slot *s = ks_arena_alloc(ks_txn_arena(t), a->n * sizeof(*s));
	struct ks_lose l = { .m = a->m, .now = a->now, .trash = &a->trash };
	struct ks_rec_counter epoch;
	bool failed = false;
	bool touched = false;
	int links = 0;
	int r;

	if (a->runs++)
		return -ECANCELED;
	if (!s)
		return -ENOMEM;
	memset(s, 0, a->n * sizeof(*s));
	r = read_all(t, a, s, &epoch);
	if (r == 0)
		r = ks_trash_ready(&a->trash);
	if (r < 0)
		return r;
	l.epoch = (uint64_t)epoch.value;
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		struct ks_remove *v = &a->v[i];

		v->bytes = 0;
		if (s[i].node.nlink > 1 && !v->dir)
			see_earlier(a, s, i);
		v->err = decide(a, s, i, failed);
		if (v->err == 0) {
			r = lose(t, &l, v, &s[i], a->ids[i]);
			links -= v->dir;
			touched = true;
		}
		failed = failed || (v->err < 0 && v->err != -ENOENT);
		/* Before the directory itself may go. */
		if (touched && (i + 1 == a->n || v[1].parent != v->parent)) {
			ks_touch_dir(t, v->parent, a->now, links);
			touched = false;
			links = 0;
		}
	}
	ks_trash_write(t, &a->trash, a->now);
	return r;
}

static int one_by_one(struct ks_meta *m, struct ks_remove *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct ks_attr node = { 0 };
		int r = v[i].dir ? ks_meta_rmdir(m, v[i].parent, v[i].name, &node)
				 : ks_meta_unlink(m, v[i].parent, v[i].name, &node);

		v[i].err = r;
		v[i].bytes = r == 0 && !v[i].dir && !node.nlink ? node.size : 0;
		switch (r) {
		case 0:
		case -ENOENT:
		case -ENOTDIR:
		case -EISDIR:
		case -ENOTEMPTY:
		case -EPERM:
		case -EBADMSG:
			break;
		default:
			return r;
		}
	}
	return 0;
}

int ks_meta_remove(struct ks_meta *m, struct ks_remove *v, size_t n)
{
	struct remove_arg a = { .m = m, .v = v, .n = n, .now = ks_clock_real_ns() };
	int r = 0;

	if (n > KS_REMOVE_MAX)
		return -EINVAL;
	do {
		r = ks_trash_begin(m, a.now, false, &a.trash);
		for (size_t i = 0; r == 0 && a.trash.on && i < n; i++) {
			if (v[i].dir && !a.ids[i])
				r = ks_meta_new_id(m, KS_ID_INO, &a.ids[i]);
		}
		a.runs = 0;
		if (r == 0 && n)
			r = ks_meta_run(m, remove_body, &a);
	} while (ks_trash_end(m, &a.trash, r));
	return r == -ECANCELED ? one_by_one(m, v, n) : r;
}
