/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_model.c: random transactions on every engine and on sorted arrays; after each one, random reads and scans of
 * both must agree. KISEKI_TEST_SEED repeats a run, KISEKI_TEST_ROUNDS makes it longer.
 */
#include "engine_each.h"

#include "base/hash.h"

#define MOST 400 /* records of a table */

static struct ks_arena keep; /* of the model: dies with the test */
static union ks_record *model[KS_T_COUNT][MOST];
static unsigned int count[KS_T_COUNT];
static uint64_t dice;

static uint64_t roll(uint64_t n)
{
	dice = ks_mix64(dice + 0x9e3779b97f4a7c15ull);
	return dice % n;
}

static bool key_col(enum ks_table t, unsigned int i)
{
	return i < ks_tables[t].nkey;
}

/* Keys from few values, so that they meet; some bytes empty, some with NUL. */
static void fill(enum ks_table t, union ks_record *rec, unsigned int ncol)
{
	const struct ks_table_desc *d = &ks_tables[t];

	memset(rec, 0, sizeof(*rec));
	for (unsigned int i = 0; i < d->ncol; i++) {
		const struct ks_col *c = &d->cols[i];

		if (ks_col_is_bytes(c)) {
			size_t n = i >= ncol ? 0 : key_col(t, i) ? roll(3) : roll(40);
			char *p = ks_arena_alloc(&keep, n + 1);

			for (size_t k = 0; k < n; k++)
				p[k] = c->type == KS_COL_TEXT ? (char)('a' + roll(3))
							      : (char)(roll(3) ? roll(3) : 255);
			ks_rec_set_bytes(rec, c, (struct ks_bytes){ .p = p, .n = n });
		} else if (i < ncol) {
			ks_rec_set_int(rec, c,
				       key_col(t, i)           ? (int64_t)(1 + roll(5))
				       : c->type == KS_COL_U32 ? (int64_t)roll(1000)
				       : c->type == KS_COL_U64
					       ? (int64_t)(roll(UINT64_MAX) >> 1)
					       : (int64_t)roll(1u << 30) - (1 << 29));
		}
	}
}

static unsigned int find(enum ks_table t, const void *key, bool *there)
{
	unsigned int i = 0;
	int c = 1;

	while (i < count[t] && (c = ks_rec_cmp(t, model[t][i], key, ks_tables[t].nkey)) < 0)
		i++;
	*there = i < count[t] && c == 0;
	return i;
}

static void model_put(enum ks_table t, const union ks_record *rec)
{
	bool there;
	unsigned int i = find(t, rec, &there);

	if (!there) {
		ks_check(count[t] < MOST);
		memmove(&model[t][i + 1], &model[t][i], (count[t] - i) * sizeof(model[t][0]));
		count[t]++;
	}
	model[t][i] = ks_arena_copy(&keep, rec, sizeof(*rec));
}

static void model_del(enum ks_table t, unsigned int i)
{
	memmove(&model[t][i], &model[t][i + 1], (count[t] - i - 1) * sizeof(model[t][0]));
	count[t]--;
}

static void model_del_prefix(enum ks_table t, const void *key, unsigned int n)
{
	for (unsigned int i = count[t]; i-- > 0;) {
		if (ks_rec_cmp(t, model[t][i], key, n) == 0)
			model_del(t, i);
	}
}

/* ---- one transaction ---- */

struct op {
	int what;
	enum ks_table t;
	union ks_record rec;
	unsigned int n;
	struct ks_upd upd[3];
};

struct plan {
	struct op op[12];
	unsigned int n;
	int result;
};

static int run_plan(struct ks_txn *t, void *arg)
{
	struct plan *p = arg;

	for (unsigned int i = 0; i < p->n; i++) {
		struct op *o = &p->op[i];

		switch (o->what) {
		case 0:
			ks_txn_insert(t, o->t, &o->rec);
			break;
		case 1:
			ks_txn_put(t, o->t, &o->rec);
			break;
		case 2:
			ks_txn_del(t, o->t, &o->rec);
			break;
		case 3:
			ks_txn_del_prefix(t, o->t, &o->rec, o->n);
			break;
		case 4:
			ks_txn_update(t, o->t, &o->rec, o->upd, o->n);
			break;
		default:
			ks_txn_need_empty(t, o->t, &o->rec, o->n);
		}
	}
	return p->result;
}

static bool model_is_empty(enum ks_table t, const void *key, unsigned int n)
{
	for (unsigned int i = 0; i < count[t]; i++) {
		if (ks_rec_cmp(t, model[t][i], key, n) == 0)
			return false;
	}
	return true;
}

static void plan_update(struct op *o, bool there, unsigned int at)
{
	const struct ks_table_desc *d = &ks_tables[o->t];
	union ks_record rec = o->rec;
	bool grow = !there && o->t == KS_T_COUNTER;

	o->n = 0;
	if (there)
		rec = *model[o->t][at];
	else if (grow)
		rec.counter.value = 0;
	for (unsigned int i = d->nkey; i < d->ncol && o->n < 3 && (there || grow); i++) {
		const struct ks_col *c = &d->cols[i];
		int64_t v = (int64_t)roll(100) - (c->type == KS_COL_I64 ? 50 : 0);
		int64_t is;

		if (ks_col_is_bytes(c) || (roll(2) && o->n))
			continue;
		is = ks_rec_int(&rec, c);
		o->upd[o->n] = (struct ks_upd){ c->off, (uint16_t)roll(3), v };
		if (o->upd[o->n].op == KS_UPD_ADD && is > INT64_MAX / 2)
			o->upd[o->n].op = KS_UPD_SET;
		if (o->upd[o->n].op == KS_UPD_SET)
			is = v;
		else if (o->upd[o->n].op == KS_UPD_ADD)
			is += v;
		else if (is < v)
			is = v;
		ks_rec_set_int(&rec, c, is);
		o->n++;
	}
	if (o->n)
		model_put(o->t, &rec);
}

/* Adds one write whose condition holds, and does it to the model. */
static void plan_one(struct plan *p)
{
	struct op *o = &p->op[p->n];
	bool there;
	unsigned int at;

	o->t = (enum ks_table)roll(KS_T_COUNT);
	fill(o->t, &o->rec, ks_tables[o->t].ncol);
	at = find(o->t, &o->rec, &there);
	o->what = (int)roll(6);
	o->n = 1 + (unsigned int)roll(ks_tables[o->t].nkey);
	if (o->what == 0 && there)
		o->what = 1;
	if (o->what == 3 && roll(3))
		o->what = 1;
	if (o->what == 5 && !model_is_empty(o->t, &o->rec, o->n))
		o->what = 2;
	if (o->what <= 1) {
		model_put(o->t, &o->rec);
	} else if (o->what == 2) {
		if (there)
			model_del(o->t, at);
	} else if (o->what == 3) {
		model_del_prefix(o->t, &o->rec, o->n);
	} else if (o->what == 4) {
		plan_update(o, there, at);
		if (!o->n)
			return;
	}
	p->n++;
}

/* ---- comparing ---- */

struct walk {
	const struct ks_scan *s;
	const union ks_record *want[MOST];
	unsigned int n, at, stop;
};

static int compare(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	struct walk *w = arg;
	enum ks_table t = w->s->table;

	ks_check(w->at < w->n);
	ks_check_eq(ks_rec_cmp(t, rec, w->want[w->at], ks_tables[t].ncol), 0);
	if (w->s->flags & KS_READ_FOLLOW) {
		struct ks_rec_inode key = { .ino = w->want[w->at]->dentry.ino };
		bool there;
		unsigned int i = find(KS_T_INODE, &key, &there);

		ks_check_eq(inode->ino, there ? key.ino : 0);
		if (there)
			ks_check_eq(ks_rec_cmp(KS_T_INODE, inode, model[KS_T_INODE][i],
					       ks_tables[KS_T_INODE].ncol),
				    0);
	}
	w->at++;
	return w->at == w->stop;
}

static void want_scan(struct walk *w, const union ks_record *from)
{
	const struct ks_scan *s = w->s;
	enum ks_table t = s->table;

	w->n = 0;
	for (unsigned int k = 0; k < count[t]; k++) {
		const union ks_record *m = model[t][s->reverse ? count[t] - 1 - k : k];
		int c = ks_rec_cmp(t, m, from, s->nprefix + s->nafter);

		if (ks_rec_cmp(t, m, from, s->nprefix))
			continue;
		if (s->nafter && (s->reverse ? c >= 0 : c <= 0))
			continue;
		if (s->limit && w->n == s->limit)
			break;
		w->want[w->n++] = m;
	}
}

static int scan_in_body(struct ks_txn *t, void *arg)
{
	struct walk *w = arg;

	w->at = 0;
	return ks_txn_scan(t, w->s);
}

static void check_scan(struct ks_arena *a)
{
	static struct walk w;
	union ks_record from;
	struct ks_scan s = { .table = (enum ks_table)roll(KS_T_COUNT), .fn = compare, .arg = &w };
	unsigned int nkey = ks_tables[s.table].nkey;

	fill(s.table, &from, nkey);
	s.from = &from;
	s.nprefix = (unsigned int)roll(nkey);
	s.nafter = (unsigned int)roll(nkey - s.nprefix + 1);
	s.reverse = roll(2);
	s.limit = roll(3) ? 0 : 1 + roll(5);
	if (s.table == KS_T_DENTRY && roll(2))
		s.flags = KS_READ_FOLLOW;
	w.s = &s;
	want_scan(&w, &from);
	w.at = 0;
	w.stop = roll(4) ? 0 : (unsigned int)(1 + roll(5));
	if (roll(2))
		ks_check_ok(ks_engine_scan(eng, &s, a));
	else
		ks_check_ok(ks_engine_run(eng, scan_in_body, &w));
	ks_check_eq(w.at, w.stop && w.stop < w.n ? w.stop : w.n);
}

static void check_reads(struct ks_arena *a)
{
	union ks_record rec[4];
	struct ks_read r[4];

	for (int i = 0; i < 4; i++) {
		r[i] = (struct ks_read){ .table = (enum ks_table)roll(KS_T_COUNT), .rec = &rec[i] };
		fill(r[i].table, &rec[i], ks_tables[r[i].table].nkey);
	}
	ks_check_ok(ks_engine_read(eng, r, 4, a));
	for (int i = 0; i < 4; i++) {
		bool there;
		unsigned int at = find(r[i].table, &rec[i], &there);

		ks_check_eq(r[i].found, there);
		if (there)
			ks_check_eq(ks_rec_cmp(r[i].table, &rec[i], model[r[i].table][at],
					       ks_tables[r[i].table].ncol),
				    0);
	}
}

static uint64_t env_number(const char *name, uint64_t fallback)
{
	const char *v = getenv(name);

	return v ? strtoull(v, NULL, 0) : fallback;
}

CONFORMANCE(random_transactions_agree_with_a_model)
{
	static union ks_record *saved[KS_T_COUNT][MOST];
	static unsigned int saved_count[KS_T_COUNT];
	uint64_t seed = env_number("KISEKI_TEST_SEED", (uint64_t)ks_clock_real_ns());
	uint64_t rounds = env_number("KISEKI_TEST_ROUNDS", 1500);
	struct ks_arena a = { 0 };

	printf("# KISEKI_TEST_SEED=%" PRIu64 "\n", seed);
	dice = seed;
	memset(count, 0, sizeof(count));
	for (uint64_t k = 0; k < rounds; k++) {
		struct plan p = { .result = roll(5) ? 0 : -ECANCELED };
		unsigned int n = (unsigned int)roll(KS_ARRAY_SIZE(p.op) + 1);

		memcpy(saved, model, sizeof(model));
		memcpy(saved_count, count, sizeof(count));
		for (unsigned int i = 0; i < n; i++)
			plan_one(&p);
		ks_check_eq(ks_engine_run(eng, run_plan, &p), p.result);
		if (p.result < 0) {
			memcpy(model, saved, sizeof(model));
			memcpy(count, saved_count, sizeof(count));
		}
		check_reads(&a);
		check_scan(&a);
		ks_arena_reset(&a);
	}
	ks_arena_clear(&a);
	ks_arena_clear(&keep);
}

KS_TEST_MAIN()
