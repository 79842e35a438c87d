/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_attr.c: setattr with truncate, access times, extended attributes.
 *
 * Truncating cuts or drops the extents beyond the new size. When there are more of them than one transaction should take, the file gets shorter in several
 * steps from its end, each of them a truncate of its own.
 */
#include "meta/meta_internal.h"

#define USER_FLAGS (KS_INODE_IMMUTABLE | KS_INODE_APPEND | KS_INODE_NODUMP)
#define SET_TIMES (KS_SET_ATIME | KS_SET_MTIME)
#define SET_NOW (KS_SET_ATIME_NOW | KS_SET_MTIME_NOW)

struct setattr_arg {
	struct ks_meta *m;
	uint64_t ino;
	uint32_t set;
	const struct ks_attr *in;
	int64_t now;
	bool more; /* the new size was not reached in this transaction */
	struct ks_rec_inode out;
};

static int setattr_check(const struct setattr_arg *s)
{
	const struct ks_attr *n = &s->out;
	uint32_t guarded = KS_SET_MODE | KS_SET_UID | KS_SET_GID | KS_SET_SIZE | SET_TIMES;

	if ((n->flags & KS_INODE_IMMUTABLE) && (s->set & (guarded | SET_NOW)))
		return -EPERM;
	if ((n->flags & KS_INODE_APPEND) && (s->set & guarded))
		return -EPERM;
	if (!(s->set & KS_SET_SIZE))
		return 0;
	if (S_ISDIR(n->mode))
		return -EISDIR;
	if (!S_ISREG(n->mode))
		return -EINVAL;
	return s->in->size > KS_FILE_MAX ? -EFBIG : 0;
}

static void setattr_apply(const struct setattr_arg *s, struct ks_attr *n)
{
	const struct ks_attr *in = s->in;
	uint32_t set = s->set;

	if (set & KS_SET_MODE)
		n->mode = (n->mode & S_IFMT) | (in->mode & 07777);
	if (set & KS_SET_UID)
		n->uid = in->uid;
	if (set & KS_SET_GID)
		n->gid = in->gid;
	if ((set & KS_SET_KILL_PRIV) || ((set & (KS_SET_UID | KS_SET_GID)) && !(set & KS_SET_MODE)))
		n->mode = ks_mode_kill_priv(n->mode);
	if (set & KS_SET_FLAGS)
		n->flags = (n->flags & ~(uint32_t)USER_FLAGS) | (in->flags & USER_FLAGS);
	if (set & (KS_SET_SIZE | KS_SET_MTIME_NOW))
		n->mtime_ns = s->now;
	if (set & KS_SET_ATIME_NOW)
		n->atime_ns = s->now;
	if (set & KS_SET_ATIME)
		n->atime_ns = in->atime_ns;
	if (set & KS_SET_MTIME)
		n->mtime_ns = in->mtime_ns;
	ks_touch(n, s->now);
	if (set & KS_SET_CTIME)
		n->ctime_ns = in->ctime_ns;
}

static int setattr_body(struct ks_txn *t, void *arg)
{
	struct setattr_arg *s = arg;
	struct ks_read rd = ks_read_inode(&s->out, s->ino, 0);
	int r = ks_txn_read(t, &rd, 1);

	if (r == 0)
		r = rd.found ? setattr_check(s) : -ENOENT;
	if (r < 0)
		return r;
	setattr_apply(s, &s->out);
	ks_txn_put(t, KS_T_INODE, &s->out);
	return s->set & KS_SET_MODE ? ks_acl_follow_mode(t, &s->out) : 0;
}

/* Clears what lies beyond the new size, as far as one transaction goes. */
static int shrink(struct ks_txn *t, struct setattr_arg *s, struct ks_rows *rows, uint64_t epoch)
{
	struct ks_attr *n = &s->out;
	struct ks_refs refs = { .a = rows->a };
	struct ks_clear c = { .ino = s->ino, .end = UINT64_MAX, .seq = ks_seq_of(n->change + 1) };
	uint64_t from;
	int r = ks_clear_read(t, rows, &from);

	if (r < 0)
		return r;
	n->size = ks_max(s->in->size, from);
	s->more = n->size > s->in->size;
	c.off = n->size;
	r = ks_rows_clear(t, &c, rows->v, rows->n, &refs);
	if (r < 0)
		return r;
	ks_refs_apply(t, &refs, epoch, s->now);
	n->used -= ks_min(n->used, c.freed);
	ks_count_used(t, n, -(int64_t)c.freed);
	return 0;
}

static int truncate_body(struct ks_txn *t, void *arg)
{
	struct setattr_arg *s = arg;
	struct ks_rec_counter epoch;
	struct ks_read rd[] = { ks_read_inode(&s->out, s->ino, 0),
				ks_read_counter(&epoch, KS_CNT_EPOCH, 0) };
	struct ks_rows rows = { .limit = KS_STEP_ROWS,
				.beyond = &s->out,
				.beyond_at = s->in->size };
	struct ks_scan scan =
		ks_rows_scan(&rows, ks_txn_arena(t), s->ino, s->in->size / KS_CHUNK_SIZE,
			     KS_FILE_MAX / KS_CHUNK_SIZE, true, 0);
	int r = ks_txn_fetch(t, rd, 2, &scan, 1);

	s->more = false;
	if (r == 0)
		r = rd[0].found ? setattr_check(s) : -ENOENT;
	if (r < 0)
		return r;
	if (s->in->size < s->out.size)
		r = shrink(t, s, &rows, (uint64_t)epoch.value);
	else
		s->out.size = s->in->size;
	if (r < 0)
		return r;
	setattr_apply(s, &s->out);
	ks_txn_put(t, KS_T_INODE, &s->out);
	return s->set & KS_SET_MODE ? ks_acl_follow_mode(t, &s->out) : 0;
}

int ks_meta_setattr(struct ks_meta *m, ks_ino_t ino, uint32_t set, const struct ks_attr *in,
		    struct ks_attr *out)
{
	struct setattr_arg s = {
		.m = m, .ino = ino, .set = set, .in = in, .now = ks_clock_real_ns()
	};
	bool truncates = (set & KS_SET_SIZE) && in->size <= KS_FILE_MAX;
	int r;

	do {
		r = ks_meta_run(m, truncates ? truncate_body : setattr_body, &s);
	} while (r == 0 && s.more);
	if (r == 0 && out)
		*out = s.out;
	return r;
}

/* ---- access times ---- */

struct atime_arg {
	uint64_t ino;
	int64_t now;
};

static int atime_body(struct ks_txn *t, void *arg)
{
	const struct atime_arg *a = arg;
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, a->ino, KS_READ_WEAK);
	struct ks_upd u = KS_UPD_COL(inode, atime_ns, KS_UPD_SET, a->now);
	int r = ks_txn_read(t, &rd, 1);

	if (r == 0 && rd.found)
		ks_txn_update(t, KS_T_INODE, &n, &u, 1);
	return r;
}

int ks_meta_touch_atime(struct ks_meta *m, const struct ks_attr *a)
{
	struct atime_arg arg = { .ino = a->ino, .now = ks_clock_real_ns() };

	if (m->readonly || m->o.noatime)
		return 0;
	if (m->o.relatime && a->atime_ns > a->mtime_ns && a->atime_ns > a->ctime_ns &&
	    arg.now - a->atime_ns < 24 * 3600 * KS_NS_PER_S)
		return 0;
	return ks_meta_run(m, atime_body, &arg);
}

/* ---- extended attributes ---- */

static int xattr_key(struct ks_rec_xattr *x, uint64_t ino, const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > KS_XATTR_NAME_MAX)
		return -ERANGE;
	*x = (struct ks_rec_xattr){ .ino = ino, .name = { .p = name, .n = n } };
	return 0;
}

/* Is it known, without a trip, that there are none? cp -a and tar ask for those of every file, and the kernel does before each change of an owner. */
static bool is_bare(struct ks_meta *m, ks_ino_t ino)
{
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, ino, 0);

	return ks_engine_peek(m->e, &rd) && rd.found && !(n.flags & KS_INODE_HAS_XATTR);
}

int ks_meta_getxattr(struct ks_meta *m, ks_ino_t ino, const char *name, struct ks_buf *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode n;
	struct ks_rec_xattr x;
	struct ks_read node = ks_read_inode(&n, ino, 0);
	struct ks_read rd = { .table = KS_T_XATTR, .rec = &x };
	int r = xattr_key(&x, ino, name);

	if (r < 0)
		return r;
	if (is_bare(m, ino))
		return -ENODATA;
	/* The kernel asks for the ACLs of whatever somebody else than the owner looks at: the record, which mostly is in memory, says that there are none. */
	if (ks_is_acl(name))
		r = ks_engine_read(m->e, &node, 1, &a);
	if (r == 0 && ks_is_acl(name) && !(node.found && (n.flags & KS_INODE_HAS_ACL)))
		r = -ENODATA;
	if (r == 0)
		r = ks_engine_read(m->e, &rd, 1, &a);
	if (r == 0)
		r = rd.found ? ks_buf_append(out, x.value.p, x.value.n) : -ENODATA;
	ks_arena_clear(&a);
	return r;
}

static int list_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_xattr *x = rec;
	struct ks_buf *out = arg;
	int r = ks_buf_append(out, x->name.p, x->name.n);

	(void)node;
	return r < 0 ? r : ks_buf_append(out, "", 1);
}

int ks_meta_listxattr(struct ks_meta *m, ks_ino_t ino, struct ks_buf *out)
{
	struct ks_arena a = { 0 };
	size_t before = out->n;
	struct ks_rec_inode n;
	struct ks_rec_xattr from = { .ino = ino };
	struct ks_read rd = ks_read_inode(&n, ino, 0);
	struct ks_scan s = {
		.table = KS_T_XATTR, .from = &from, .nprefix = 1, .fn = list_one, .arg = out
	};
	int r;

	if (is_bare(m, ino))
		return 0;
	r = ks_engine_fetch(m->e, &rd, 1, &s, 1, &a);
	ks_arena_clear(&a);
	if (r == 0 && !rd.found)
		r = -ENOENT;
	if (r < 0)
		out->n = before;
	return r;
}

struct xattr_arg {
	struct ks_rec_xattr x;
	int flags;
	bool remove;
	int64_t now;
};

static int xattr_body(struct ks_txn *t, void *arg)
{
	struct xattr_arg *a = arg;
	struct ks_rec_inode n;
	struct ks_rec_xattr old = a->x;
	struct ks_read rd[] = { ks_read_inode(&n, a->x.ino, 0),
				{ .table = KS_T_XATTR, .rec = &old } };
	int r = ks_txn_read(t, rd, 2);

	if (r < 0)
		return r;
	if (!rd[0].found)
		return -ENOENT;
	if (n.flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	if (!rd[1].found && (a->remove || (a->flags & KS_XATTR_REPLACE)))
		return -ENODATA;
	if (rd[1].found && (a->flags & KS_XATTR_CREATE))
		return -EEXIST;
	if (a->remove) {
		ks_txn_del(t, KS_T_XATTR, &a->x);
	} else {
		ks_txn_put(t, KS_T_XATTR, &a->x);
		n.flags |= KS_INODE_HAS_XATTR;
	}
	ks_touch(&n, a->now);
	ks_txn_put(t, KS_T_INODE, &n);
	return 0;
}

int ks_meta_setxattr(struct ks_meta *m, ks_ino_t ino, const char *name, const void *value, size_t n,
		     int flags)
{
	struct xattr_arg a = { .flags = flags, .now = ks_clock_real_ns() };
	int r = xattr_key(&a.x, ino, name);

	if (r < 0)
		return r;
	if (n > KS_XATTR_VALUE_MAX)
		return -E2BIG;
	if (ks_is_acl(name))
		return ks_acl_set(m, ino, name, value, n, flags);
	a.x.value = (struct ks_bytes){ .p = value, .n = n };
	return ks_meta_run(m, xattr_body, &a);
}

int ks_meta_removexattr(struct ks_meta *m, ks_ino_t ino, const char *name)
{
	struct xattr_arg a = { .remove = true, .now = ks_clock_real_ns() };
	int r = xattr_key(&a.x, ino, name);

	if (r < 0)
		return r;
	return ks_is_acl(name) ? ks_acl_remove(m, ino, name) : ks_meta_run(m, xattr_body, &a);
}
