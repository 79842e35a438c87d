/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_conformance.c: what every metadata engine has to keep, one verb after the other. engine_races.c does the same with many
 * threads, engine_model.c with random transactions.
 */
#include "engine_each.h"

#include "base/hash.h"

/* ---- a transaction as a list of steps ---- */

struct step {
	enum { INSERT, PUT, DEL, DEL_PREFIX, UPDATE, NEED_EMPTY } what;
	enum ks_table t;
	void *rec;
	unsigned int n;
	struct ks_upd upd[8];
};

struct steps {
	struct step s[16];
	unsigned int n;
	int result;
};

static int run_steps(struct ks_txn *t, void *arg)
{
	struct steps *l = arg;

	for (unsigned int i = 0; i < l->n; i++) {
		struct step *s = &l->s[i];

		switch (s->what) {
		case INSERT:
			ks_txn_insert(t, s->t, s->rec);
			break;
		case PUT:
			ks_txn_put(t, s->t, s->rec);
			break;
		case DEL:
			ks_txn_del(t, s->t, s->rec);
			break;
		case DEL_PREFIX:
			ks_txn_del_prefix(t, s->t, s->rec, s->n);
			break;
		case UPDATE:
			ks_txn_update(t, s->t, s->rec, s->upd, s->n);
			break;
		case NEED_EMPTY:
			ks_txn_need_empty(t, s->t, s->rec, s->n);
			break;
		}
	}
	return l->result;
}

static int do1(int what, enum ks_table t, void *rec, unsigned int n)
{
	struct steps l = { .n = 1 };

	l.s[0].what = what;
	l.s[0].t = t;
	l.s[0].rec = rec;
	l.s[0].n = n;
	return ks_engine_run(eng, run_steps, &l);
}

static bool get(enum ks_table t, void *rec, struct ks_arena *a)
{
	struct ks_read r = { .table = t, .rec = rec };

	ks_check_ok(ks_engine_read(eng, &r, 1, a));
	return r.found;
}

static int64_t counter(const char *name)
{
	struct ks_rec_counter c = { .name = str(name) };

	return get(KS_T_COUNTER, &c, NULL) ? c.value : -1;
}

static struct ks_rec_dentry dentry(uint64_t parent, uint64_t hash, const char *name, uint64_t ino)
{
	return (struct ks_rec_dentry){
		.parent = parent, .hash = hash, .name = str(name), .ino = ino, .type = 8
	};
}

/* ---- records ---- */

static void fill(enum ks_table t, void *rec, uint64_t seed, struct ks_arena *a)
{
	const struct ks_table_desc *d = &ks_tables[t];

	memset(rec, 0, d->size);
	for (unsigned int i = 0; i < d->ncol; i++) {
		const struct ks_col *c = &d->cols[i];
		uint64_t v = ks_mix64(seed * 100 + i + 1);

		if (ks_col_is_bytes(c)) {
			size_t n = v % (c->type == KS_COL_TEXT ? 20 : 300);
			char *p = ks_arena_alloc(a, n + 1);

			for (size_t k = 0; k < n; k++)
				p[k] = c->type == KS_COL_TEXT ? (char)('a' + k % 26)
							      : (char)ks_mix64(v + k);
			ks_rec_set_bytes(rec, c, (struct ks_bytes){ .p = p, .n = n });
		} else if (c->type == KS_COL_U32) {
			ks_rec_set_int(rec, c, (int64_t)(v & UINT32_MAX));
		} else if (c->type == KS_COL_U64) {
			ks_rec_set_int(rec, c, (int64_t)(v >> 1));
		} else {
			ks_rec_set_int(rec, c, (int64_t)v);
		}
	}
}

CONFORMANCE(every_table_keeps_every_column)
{
	struct ks_arena a = { 0 };

	for (int t = 0; t < KS_T_COUNT; t++) {
		const struct ks_table_desc *d = &ks_tables[t];
		union ks_record in, key, other;

		fill((enum ks_table)t, &in, 7 + (uint64_t)t, &a);
		key = in;
		for (unsigned int i = d->nkey; i < d->ncol; i++) {
			if (ks_col_is_bytes(&d->cols[i]))
				ks_rec_set_bytes(&key, &d->cols[i], (struct ks_bytes){ 0 });
			else
				ks_rec_set_int(&key, &d->cols[i], 0);
		}
		other = key;
		ks_check(!get((enum ks_table)t, &other, &a));
		ks_check_ok(do1(INSERT, (enum ks_table)t, &in, 0));
		other = key;
		ks_check(get((enum ks_table)t, &other, &a));
		ks_check_eq(ks_rec_cmp((enum ks_table)t, &in, &other, d->ncol), 0);
		/* Replaced by other values, then deleted, twice. */
		fill((enum ks_table)t, &other, 99, &a);
		for (unsigned int i = 0; i < d->nkey; i++) {
			if (ks_col_is_bytes(&d->cols[i]))
				ks_rec_set_bytes(&other, &d->cols[i],
						 ks_rec_bytes(&in, &d->cols[i]));
			else
				ks_rec_set_int(&other, &d->cols[i], ks_rec_int(&in, &d->cols[i]));
		}
		ks_check_ok(do1(PUT, (enum ks_table)t, &other, 0));
		in = key;
		ks_check(get((enum ks_table)t, &in, &a));
		ks_check_eq(ks_rec_cmp((enum ks_table)t, &in, &other, d->ncol), 0);
		ks_check_ok(do1(DEL, (enum ks_table)t, &key, 0));
		ks_check(!get((enum ks_table)t, &key, &a));
		ks_check_ok(do1(DEL, (enum ks_table)t, &key, 0));
	}
	ks_arena_clear(&a);
}

CONFORMANCE(bytes_of_any_value_and_length)
{
	struct ks_arena a = { 0 };
	char *big = malloc(KS_XATTR_VALUE_MAX);
	struct ks_rec_xattr x = { .ino = 5, .name = { "a\0b\xff", 4 } };
	struct ks_rec_xattr y = { .ino = 5, .name = { "a\0b\xff", 4 } };

	memset(big, 0xe5, KS_XATTR_VALUE_MAX);
	for (size_t n = 0; n <= KS_XATTR_VALUE_MAX; n = n ? n * 4 : 1) {
		x.value = (struct ks_bytes){ .p = big, .n = n };
		ks_check_ok(do1(PUT, KS_T_XATTR, &x, 0));
		ks_check(get(KS_T_XATTR, &y, &a));
		ks_check_eq(y.value.n, n);
		ks_check_mem(y.value.p, big, n);
	}
	free(big);
	ks_arena_clear(&a);
}

CONFORMANCE(updates_set_add_and_max)
{
	struct ks_rec_inode i = { .ino = 9, .nlink = 1, .size = 100, .mtime_ns = 50 };
	struct ks_rec_counter c = { .name = str("n") };
	struct steps l = { .n = 2 };

	ks_check_ok(do1(INSERT, KS_T_INODE, &i, 0));
	l.s[0] = (struct step){
		.what = UPDATE,
		.t = KS_T_INODE,
		.rec = &i,
		.n = 8,
		.upd = { { offsetof(struct ks_rec_inode, nlink), KS_UPD_ADD, 2 },
			 { offsetof(struct ks_rec_inode, size), KS_UPD_MAX, 40 },
			 { offsetof(struct ks_rec_inode, mtime_ns), KS_UPD_MAX, 90 },
			 { offsetof(struct ks_rec_inode, ctime_ns), KS_UPD_SET, -7 },
			 { offsetof(struct ks_rec_inode, used), KS_UPD_ADD, -5 },
			 { offsetof(struct ks_rec_inode, change), KS_UPD_ADD, 1 },
			 { offsetof(struct ks_rec_inode, flags), KS_UPD_SET, 3 },
			 { offsetof(struct ks_rec_inode, change), KS_UPD_ADD, 1 } },
	};
	l.s[1] = (struct step){
		.what = UPDATE,
		.t = KS_T_COUNTER,
		.rec = &c,
		.n = 1,
		.upd = { { offsetof(struct ks_rec_counter, value), KS_UPD_ADD, -3 } },
	};
	ks_check_ok(ks_engine_run(eng, run_steps, &l));
	ks_check_ok(ks_engine_run(eng, run_steps, &l));
	ks_check(get(KS_T_INODE, &i, NULL));
	ks_check_eq(i.nlink, 5);
	ks_check_eq(i.size, 100);
	ks_check_eq(i.mtime_ns, 90);
	ks_check_eq(i.ctime_ns, -7);
	ks_check_eq(i.used, 0); /* never below */
	ks_check_eq(i.change, 4);
	ks_check_eq(i.flags, 3);
	ks_check_eq(counter("n"), -6);
}

CONFORMANCE(follow_leads_to_the_inode)
{
	struct ks_rec_inode i = { .ino = 20, .mode = 0100644, .size = 5 }, got;
	struct ks_rec_dentry d[3] = { dentry(1, 100, "there", 20), dentry(1, 101, "damaged", 21),
				      dentry(1, 102, "absent", 0) };
	struct ks_read r[3];

	ks_check_ok(do1(INSERT, KS_T_INODE, &i, 0));
	ks_check_ok(do1(INSERT, KS_T_DENTRY, &d[0], 0));
	ks_check_ok(do1(INSERT, KS_T_DENTRY, &d[1], 0));
	for (int k = 0; k < 3; k++) {
		struct ks_engine_stats s, then;

		ks_engine_stats(eng, &s);
		d[k].ino = 0;
		memset(&got, 0x55, sizeof(got));
		r[k] = (struct ks_read){
			.table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &d[k], .inode = &got
		};
		ks_check_ok(ks_engine_read(eng, &r[k], 1, NULL));
		ks_check_eq(r[k].found, k < 2);
		ks_check_eq(got.ino, k == 0 ? 20 : 0);
		ks_check_eq(d[k].ino, k == 0 ? 20 : k == 1 ? 21 : 0);
		ks_engine_stats(eng, &then);
		ks_check_eq(then.reads, s.reads + 1);
	}
}

struct collect {
	uint64_t key[64], to[64];
	unsigned int n, most;
	struct ks_rec_slice *slice;
};

static int collect_dentry(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_dentry *d = rec;
	struct collect *c = arg;

	c->key[c->n] = d->hash;
	c->to[c->n++] = inode ? inode->ino : 999;
	return c->most && c->n == c->most;
}

static int collect_extent(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_extent *x = rec;
	struct collect *c = arg;

	ks_check(!inode);
	c->key[c->n] = x->seq;
	c->to[c->n++] = c->slice->id;
	return 0;
}

CONFORMANCE(scans_follow_dentries_and_extents)
{
	struct ks_arena a = { 0 };
	struct collect c = { .n = 0 };
	struct ks_rec_slice slice;
	struct ks_rec_dentry at = { .parent = 3 };
	struct ks_rec_extent in = { .ino = 4, .chunk = 1 };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .from = &at,
			     .nprefix = 1,
			     .fn = collect_dentry,
			     .arg = &c,
			     .flags = KS_READ_FOLLOW };

	for (uint64_t k = 1; k <= 4; k++) {
		struct ks_rec_inode i = { .ino = k };
		struct ks_rec_dentry d = dentry(3, 100 + k, "x", k);
		struct ks_rec_slice sl = { .id = k, .len = 8, .sums = { "abcd", 4 } };
		struct ks_rec_extent x = {
			.ino = 4, .chunk = 1, .seq = k, .slice = k == 2 ? 0 : k
		};

		if (k != 3)
			ks_check_ok(do1(INSERT, KS_T_INODE, &i, 0));
		ks_check_ok(do1(INSERT, KS_T_DENTRY, &d, 0));
		ks_check_ok(do1(INSERT, KS_T_SLICE, &sl, 0));
		ks_check_ok(do1(INSERT, KS_T_EXTENT, &x, 0));
	}
	ks_check_ok(ks_engine_scan(eng, &s, &a));
	ks_check_eq(c.n, 4);
	ks_check_eq(c.to[0], 1);
	ks_check_eq(c.to[2], 0);
	s.flags = 0;
	s.reverse = true;
	c = (struct collect){ .most = 2 };
	ks_check_ok(ks_engine_scan(eng, &s, &a));
	ks_check_eq(c.n, 2);
	ks_check_eq(c.key[0], 104);
	ks_check_eq(c.to[0], 999);

	c = (struct collect){ .slice = &slice };
	s = (struct ks_scan){ .table = KS_T_EXTENT,
			      .from = &in,
			      .nprefix = 2,
			      .fn = collect_extent,
			      .arg = &c,
			      .flags = KS_READ_FOLLOW,
			      .slice = &slice };
	ks_check_ok(ks_engine_scan(eng, &s, &a));
	ks_check_eq(c.n, 4);
	ks_check_eq(c.to[1], 0);
	ks_check_eq(c.to[3], 4);
	ks_check_eq(slice.sums.n, 4);
	ks_arena_clear(&a);
}

/* ---- transactions ---- */

CONFORMANCE(a_failing_body_leaves_nothing)
{
	struct ks_rec_dentry d = dentry(1, 50, "a", 1);
	struct ks_rec_counter c = { .name = str("k"), .value = 5 };
	struct steps l = { .n = 2, .result = -ENOTEMPTY };

	l.s[0] = (struct step){ .what = PUT, .t = KS_T_COUNTER, .rec = &c };
	l.s[1] = (struct step){ .what = INSERT, .t = KS_T_DENTRY, .rec = &d };
	ks_check_eq(ks_engine_run(eng, run_steps, &l), -ENOTEMPTY);
	ks_check_eq(counter("k"), -1);
	l.result = 0;
	ks_check_ok(ks_engine_run(eng, run_steps, &l));
	ks_check_eq(counter("k"), 5);
	ks_check(get(KS_T_DENTRY, &d, NULL));
}

CONFORMANCE(a_condition_that_never_holds_fails_and_leaves_nothing)
{
	struct ks_engine_opts o = { .busy_timeout_ns = 100 * KS_NS_PER_MS };
	struct ks_engine *old = eng;
	struct ks_rec_inode i = { .ino = 3 };
	struct ks_rec_counter c = { .name = str("w"), .value = 1 };
	struct steps l = { .n = 2 };
	bool quiet = ks_fail_quiet(true);

	ks_check_ok(do1(INSERT, KS_T_INODE, &i, 0));
	ks_check_ok(ks_engine_open(&eng, url, &o));
	l.s[0] = (struct step){ .what = PUT, .t = KS_T_COUNTER, .rec = &c };
	for (int k = 0; k < 3; k++) {
		struct ks_rec_inode other = { .ino = 4 };

		l.s[1] = (struct step){ .t = KS_T_INODE, .rec = &i };
		if (k == 0) {
			l.s[1].what = INSERT;
		} else if (k == 1) {
			l.s[1].what = UPDATE;
			l.s[1].rec = &other;
			l.s[1].n = 1;
			l.s[1].upd[0] = (struct ks_upd){ offsetof(struct ks_rec_inode, nlink),
							 KS_UPD_ADD, 1 };
		} else {
			l.s[1].what = NEED_EMPTY;
			l.s[1].n = 1;
		}
		ks_check(ks_engine_run(eng, run_steps, &l) < 0);
		ks_check_eq(counter("w"), -1);
	}
	ks_fail_quiet(quiet);
	ks_engine_close(eng);
	eng = old;
}

static int insert_next(struct ks_txn *t, void *arg)
{
	uint64_t *next = arg;
	struct ks_rec_inode i = { .ino = (*next)++ };

	ks_txn_insert(t, KS_T_INODE, &i);
	return 0;
}

CONFORMANCE(a_body_that_lost_runs_again)
{
	struct ks_rec_inode i = { .ino = 3 };
	uint64_t next = 3;

	ks_check_ok(do1(INSERT, KS_T_INODE, &i, 0));
	ks_check_ok(ks_engine_run(eng, insert_next, &next));
	ks_check_eq(next, 5);
	i.ino = 4;
	ks_check(get(KS_T_INODE, &i, NULL));
}

/* Writes are applied in the order of the body, each condition where it stands. */
CONFORMANCE(writes_apply_in_order)
{
	struct ks_rec_dentry a = dentry(8, 60, "a", 1), b = dentry(8, 61, "b", 2);
	struct steps l = { .n = 5 };

	ks_check_ok(do1(INSERT, KS_T_DENTRY, &a, 0));
	l.s[0] = (struct step){ .what = DEL, .t = KS_T_DENTRY, .rec = &a };
	l.s[1] = (struct step){ .what = NEED_EMPTY, .t = KS_T_DENTRY, .rec = &a, .n = 1 };
	l.s[2] = (struct step){ .what = INSERT, .t = KS_T_DENTRY, .rec = &a };
	l.s[3] = (struct step){ .what = INSERT, .t = KS_T_DENTRY, .rec = &b };
	l.s[4] =
		(struct step){ .what = UPDATE,
			       .t = KS_T_DENTRY,
			       .rec = &b,
			       .n = 1,
			       .upd = { { offsetof(struct ks_rec_dentry, ino), KS_UPD_SET, 77 } } };
	ks_check_ok(ks_engine_run(eng, run_steps, &l));
	ks_check(get(KS_T_DENTRY, &b, NULL));
	ks_check_eq(b.ino, 77);
	ks_check_ok(do1(DEL_PREFIX, KS_T_DENTRY, &a, 1));
	ks_check(!get(KS_T_DENTRY, &a, NULL));
	ks_check_ok(do1(NEED_EMPTY, KS_T_DENTRY, &a, 1));
}

static int read_only_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_counter c = { .name = str("zero") };
	struct ks_read r = { .table = KS_T_COUNTER, .rec = &c };
	int ret = ks_txn_read(t, &r, 1);

	*(bool *)arg = r.found;
	return ret;
}

CONFORMANCE(opening_twice_and_reading_only)
{
	struct ks_engine_opts make = { .create = true }, ro = { .readonly = true };
	struct ks_rec_counter c = { .name = str("zero") };
	struct ks_engine *old = eng, *e = NULL;
	char missing[600];
	bool found = true, quiet = ks_fail_quiet(true);

	ks_check_eq(ks_engine_open(&e, url, &make), -EEXIST);
	snprintf(missing, sizeof(missing), "%s-missing", url);
	ks_check_eq(ks_engine_open(&e, missing, NULL), -ENOENT);
	ks_check_eq(ks_engine_open(&e, "nosuch://x", NULL), -EINVAL);
	ks_check_eq(ks_engine_open(&e, "x", NULL), -EINVAL);
	ks_check_ok(ks_engine_open(&eng, url, &ro));
	ks_check_eq(counter("zero"), -1);
	ks_check_ok(ks_engine_run(eng, read_only_body, &found));
	ks_check(!found);
	ks_check_eq(do1(PUT, KS_T_COUNTER, &c, 0), -EROFS);
	ks_check_ok(ks_engine_sync(eng));
	ks_engine_close(eng);
	eng = old;
	ks_fail_quiet(quiet);
	ks_check_ok(do1(PUT, KS_T_COUNTER, &c, 0));
	ks_check_ok(ks_engine_sync(eng));
}

KS_TEST_MAIN()
