/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_delete.c: what has lost its last name or its last reference is freed, when nobody can need it any more.
 *
 *	inode without a name	KS_T_DELETED with the epoch of its end; freed when every live session is in a later epoch and none claims it
 *	slice without extents	KS_T_FREED with the epoch of its end; listed for deletion when every live session is in a later epoch
 *
 * A session enters an epoch after it has claimed what it has open and forgotten its old chunk maps (meta_session.c). Nothing is added to
 * an epoch that has been left: who adds reads the counter strictly.
 */
#include "meta/meta_internal.h"

#include <stdlib.h>

#define REAP_INODES 64u
#define REAP_ROWS 512u
#define FREE_BATCH 256u
#define FREE_LOOK_BEYOND 1024u /* records too young that are passed over to find others */

/* ---- claims ---- */

struct claim_arg {
	struct ks_rec_claim c;
};

static int claim_body(struct ks_txn *t, void *arg)
{
	const struct claim_arg *a = arg;
	struct ks_rec_inode n;
	struct ks_read rd = ks_read_inode(&n, a->c.ino, 0);
	int r = ks_txn_read(t, &rd, 1);

	if (r < 0)
		return r;
	if (!rd.found)
		return -ENOENT;
	if (n.nlink == 0 && a->c.session)
		ks_txn_put(t, KS_T_CLAIM, &a->c);
	return 0;
}

int ks_meta_claim(struct ks_meta *m, ks_ino_t ino)
{
	struct claim_arg a = { .c = { .session = atomic_load(&m->session), .ino = ino } };

	return ks_meta_run(m, claim_body, &a);
}

static int release_body(struct ks_txn *t, void *arg)
{
	const struct claim_arg *a = arg;

	ks_txn_del(t, KS_T_CLAIM, &a->c);
	return 0;
}

int ks_meta_release(struct ks_meta *m, ks_ino_t ino)
{
	struct claim_arg a = { .c = { .session = atomic_load(&m->session), .ino = ino } };

	return a.c.session ? ks_meta_run(m, release_body, &a) : 0;
}

/* ---- reaping inodes ---- */

static int floor_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_session *s = rec;
	uint64_t *lowest = arg;

	(void)node;
	*lowest = ks_min(*lowest, s->epoch);
	return 0;
}

struct reap_arg {
	struct ks_meta *m;
	uint64_t ino[REAP_INODES];
	uint32_t n;
	int64_t now;
	uint64_t sole_epoch; /* not 0: freed only because no other session is there in this epoch */
	/* out */
	uint32_t freed; /* inodes and parts of inodes */
};

struct reap_look {
	struct reap_arg *a;
	struct ks_rec_deleted v[REAP_INODES];
	uint32_t n;
};

static int deleted_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct reap_look *l = arg;

	(void)node;
	l->v[l->n++] = *(const struct ks_rec_deleted *)rec;
	return l->n == REAP_INODES;
}

struct claimed {
	const struct reap_arg *a;
	bool hit[REAP_INODES];
};

static int claimed_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_claim *c = rec;
	struct claimed *k = arg;

	(void)node;
	for (uint32_t i = 0; i < k->a->n; i++)
		k->hit[i] = k->hit[i] || k->a->ino[i] == c->ino;
	return 0;
}

/* What one run reads of each candidate. */
struct reap_one {
	struct ks_rec_inode n;
	struct ks_rec_deleted d;
	struct ks_rows rows;
};

static bool is_open(const struct ks_meta *m, uint64_t ino)
{
	return m->o.hooks.is_open && m->o.hooks.is_open(m->o.hooks.arg, ino);
}

static int reap_inode(struct ks_txn *t, struct reap_arg *a, const struct reap_one *o, bool found,
		      struct ks_refs *refs)
{
	const struct ks_attr *n = &o->n;
	struct ks_rec_xattr xattr = { .ino = n->ino };
	struct ks_rec_symlink link = { .ino = n->ino };
	int r = 0;

	a->freed++;
	if (!found || n->nlink) {
		ks_txn_del(t, KS_T_DELETED, &o->d);
		return 0;
	}
	for (uint32_t i = 0; r == 0 && i < o->rows.n; i++) {
		ks_txn_del(t, KS_T_EXTENT, &o->rows.v[i].e);
		r = ks_refs_add(refs, &o->rows.v[i].s, -1);
	}
	if (r < 0 || o->rows.cut_short)
		return r;
	ks_txn_del(t, KS_T_INODE, n);
	ks_txn_del(t, KS_T_DELETED, &o->d);
	if (n->flags & KS_INODE_HAS_XATTR)
		ks_txn_del_prefix(t, KS_T_XATTR, &xattr, 1);
	if (S_ISLNK(n->mode))
		ks_txn_del(t, KS_T_SYMLINK, &link);
	ks_count_add(t, KS_CNT_INODES, -1);
	ks_count_add(t, KS_CNT_USED, -(int64_t)n->used);
	return 0;
}

static int reap_body(struct ks_txn *t, void *arg)
{
	struct reap_arg *a = arg;
	struct ks_arena *mem = ks_txn_arena(t);
	struct reap_one *one = ks_arena_alloc(mem, a->n * sizeof(*one));
	struct claimed claimed = { .a = a };
	struct ks_rec_counter epoch;
	struct ks_read rd[1 + 2 * REAP_INODES] = { ks_read_counter(&epoch, KS_CNT_EPOCH, 0) };
	struct ks_scan s[1 + REAP_INODES] = {
		{ .table = KS_T_CLAIM, .fn = claimed_one, .arg = &claimed }
	};
	struct ks_refs refs = { .a = mem };
	uint32_t budget = REAP_ROWS;
	int r;

	if (!one)
		return -ENOMEM;
	a->freed = 0;
	for (uint32_t i = 0; i < a->n; i++) {
		one[i] = (struct reap_one){ .d = { .ino = a->ino[i] },
					    .rows = { .budget = &budget } };
		rd[1 + 2 * i] = ks_read_inode(&one[i].n, a->ino[i], 0);
		rd[2 + 2 * i] = (struct ks_read){ .table = KS_T_DELETED, .rec = &one[i].d };
		s[1 + i] = ks_rows_scan(&one[i].rows, mem, a->ino[i], 0, UINT64_MAX, false, 0);
		s[1 + i].limit = REAP_ROWS + 1;
	}
	r = ks_txn_fetch(t, rd, 1 + 2 * a->n, s, 1 + a->n);
	if (r < 0 || (a->sole_epoch && a->sole_epoch != (uint64_t)epoch.value))
		return r;
	for (uint32_t i = 0; r == 0 && i < a->n; i++) {
		if (rd[2 + 2 * i].found && !claimed.hit[i] && !is_open(a->m, a->ino[i]))
			r = reap_inode(t, a, &one[i], rd[1 + 2 * i].found, &refs);
	}
	if (r == 0)
		ks_refs_apply(t, &refs, (uint64_t)epoch.value, a->now);
	return r;
}

int ks_meta_reap(struct ks_meta *m)
{
	struct ks_arena mem = { 0 };
	struct reap_arg a = { .m = m, .now = ks_clock_real_ns() };
	struct reap_look look = { .a = &a };
	uint64_t lowest = UINT64_MAX;
	uint64_t cursor = atomic_load(&m->reap_cursor);
	struct ks_rec_deleted from = { .ino = cursor };
	struct ks_rec_counter epoch;
	struct ks_read rd = ks_read_counter(&epoch, KS_CNT_EPOCH, 0);
	struct ks_scan s[] = {
		{ .table = KS_T_SESSION, .fn = floor_one, .arg = &lowest },
		{ .table = KS_T_DELETED,
		  .from = &from,
		  .nafter = 1,
		  .limit = REAP_INODES,
		  .fn = deleted_one,
		  .arg = &look },
	};
	int r;

	if (m->readonly)
		return -EROFS;
	r = ks_engine_fetch(m->e, &rd, 1, s, 2, &mem);
	ks_arena_clear(&mem);
	if (r < 0)
		return r;
	/* Alone, what this process itself has open is all there is, and the hook knows it without waiting for an epoch. */
	if (atomic_load(&m->session) && (uint64_t)epoch.value == atomic_load(&m->sole_epoch)) {
		a.sole_epoch = (uint64_t)epoch.value;
		lowest = UINT64_MAX;
	}
	for (uint32_t i = 0; i < look.n; i++) {
		if (look.v[i].epoch < lowest && !is_open(m, look.v[i].ino))
			a.ino[a.n++] = look.v[i].ino;
	}
	if (a.n) {
		r = ks_meta_run(m, reap_body, &a);
		if (r < 0)
			return r;
	}
	/* Something went: look again from the same place. Else this stretch is not ripe. */
	if (a.freed)
		return 1;
	atomic_store(&m->reap_cursor, look.n == REAP_INODES ? look.v[look.n - 1].ino : 0);
	return look.n == REAP_INODES;
}

/* ---- freed slices ---- */

struct free_look {
	struct ks_rec_freed *v;
	size_t n;
};

static int freed_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct free_look *l = arg;

	(void)node;
	l->v[l->n++] = *(const struct ks_rec_freed *)rec;
	return 0;
}

ssize_t ks_meta_free_list(struct ks_meta *m, uint64_t *after, struct ks_free_item *out, size_t max)
{
	struct ks_arena mem = { 0 };
	struct free_look look = { 0 };
	uint64_t lowest = UINT64_MAX;
	struct ks_rec_freed from = { .slice = after ? *after : 0 };
	struct ks_scan s[] = {
		{ .table = KS_T_SESSION, .fn = floor_one, .arg = &lowest },
		{ .table = KS_T_FREED,
		  .from = &from,
		  .nafter = 1,
		  .limit = max + FREE_LOOK_BEYOND,
		  .fn = freed_one,
		  .arg = &look },
	};
	size_t n = 0, i = 0;
	int r;

	look.v = calloc(max + FREE_LOOK_BEYOND, sizeof(*look.v));
	if (!look.v)
		return -ENOMEM;
	r = ks_engine_fetch(m->e, NULL, 0, s, 2, &mem);
	for (; r == 0 && i < look.n && n < max; i++) {
		const struct ks_rec_freed *f = &look.v[i];

		if (f->epoch < lowest)
			out[n++] = (struct ks_free_item){ .slice = f->slice,
							  .len = f->len,
							  .block_size = f->block_size,
							  .pack = f->pack };
	}
	if (r == 0 && after)
		*after = i < look.n || i == max + FREE_LOOK_BEYOND ? look.v[i - 1].slice : 0;
	ks_arena_clear(&mem);
	free(look.v);
	return r < 0 ? r : (ssize_t)n;
}

struct free_arg {
	const struct ks_free_item *items;
	size_t n;
};

static int free_body(struct ks_txn *t, void *arg)
{
	const struct free_arg *a = arg;
	struct ks_arena *mem = ks_txn_arena(t);
	struct ks_rec_freed *f = ks_arena_alloc(mem, a->n * sizeof(*f));
	struct ks_rec_pack *p = ks_arena_alloc(mem, a->n * sizeof(*p));
	struct ks_read *rd = ks_arena_alloc(mem, 2 * a->n * sizeof(*rd));
	int r;

	if (!f || !p || !rd)
		return -ENOMEM;
	for (size_t i = 0; i < a->n; i++) {
		f[i] = (struct ks_rec_freed){ .slice = a->items[i].slice };
		p[i] = (struct ks_rec_pack){ .id = a->items[i].pack };
		rd[i] = (struct ks_read){ .table = KS_T_FREED, .rec = &f[i] };
		rd[a->n + i] =
			(struct ks_read){ .table = KS_T_PACK, .flags = KS_READ_WEAK, .rec = &p[i] };
	}
	r = ks_txn_read(t, rd, 2 * a->n);
	for (size_t i = 0; r == 0 && i < a->n; i++) {
		struct ks_rec_block block = { .slice = f[i].slice };
		struct ks_upd u[] = { KS_UPD_COL(pack, live, KS_UPD_ADD, -(int64_t)f[i].len),
				      KS_UPD_COL(pack, slices, KS_UPD_ADD, -1) };

		/* Another process may have been faster: the share of the pack is taken off once. */
		if (!rd[i].found)
			continue;
		ks_txn_del(t, KS_T_FREED, &f[i]);
		if (!f[i].pack)
			ks_txn_del_prefix(t, KS_T_BLOCK, &block, 1);
		else if (rd[a->n + i].found)
			ks_txn_update(t, KS_T_PACK, &p[i], u, 2);
	}
	return r;
}

int ks_meta_free_done(struct ks_meta *m, const struct ks_free_item *items, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i += FREE_BATCH) {
		struct free_arg a = { .items = items + i, .n = ks_min(n - i, (size_t)FREE_BATCH) };

		r = ks_meta_run(m, free_body, &a);
	}
	return r;
}
