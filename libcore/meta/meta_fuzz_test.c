/* SPDX-License-Identifier: Apache-2.0 */
/* meta_fuzz_test.c: random operations against a tree in memory, many threads at once, and listings that change under the reader. */
#include "meta/meta_testlib.h"

/* ---- a model of the tree: few nodes, few names ---- */

#define NODES 24
#define NAMES 5

struct mnode {
	uint64_t ino; /* 0: free */
	bool dir;
	unsigned int links; /* names of a file */
	int child[NAMES];   /* of a directory: node, or -1 */
};

struct mtree {
	struct mnode n[NODES]; /* 0 is the root */
	uint64_t rnd;
};

static const char *const names[NAMES] = { "a", "b", "c", "d", "e" };

static unsigned int roll(struct mtree *t, unsigned int n)
{
	t->rnd = t->rnd * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned int)(t->rnd >> 33) % n;
}

static void mtree_init(struct mtree *t, uint64_t seed)
{
	memset(t, 0, sizeof(*t));
	t->rnd = seed;
	for (int i = 0; i < NODES; i++) {
		for (int k = 0; k < NAMES; k++)
			t->n[i].child[k] = -1;
	}
	t->n[0] = (struct mnode){ .ino = ROOT, .dir = true, .child = { -1, -1, -1, -1, -1 } };
}

static int any_node(struct mtree *t, bool dir)
{
	for (;;) {
		int i = (int)roll(t, NODES);

		if (t->n[i].ino && t->n[i].dir == dir)
			return i;
		if (!dir && roll(t, 40) == 0)
			return -1;
	}
}

static bool is_empty(const struct mnode *n)
{
	for (int k = 0; k < NAMES; k++) {
		if (n->child[k] >= 0)
			return false;
	}
	return true;
}

/* Is @node @top, or below it? */
static bool is_below(const struct mtree *t, int top, int node)
{
	if (top == node)
		return true;
	for (int k = 0; t->n[top].dir && k < NAMES; k++) {
		if (t->n[top].child[k] >= 0 && is_below(t, t->n[top].child[k], node))
			return true;
	}
	return false;
}

static void lose(struct mtree *t, int node)
{
	struct mnode *n = &t->n[node];

	if (n->dir || --n->links == 0)
		n->ino = 0;
}

static void do_make(struct vol *v, struct mtree *t)
{
	int d = any_node(t, true), k = (int)roll(t, NAMES), i;
	bool dir = roll(t, 2);
	struct ks_attr a = { 0 };
	int r;

	for (i = 0; i < NODES && t->n[i].ino; i++)
		;
	if (i == NODES)
		return;
	r = ks_meta_mknod(v->m, &cred, t->n[d].ino, names[k], dir ? S_IFDIR | 0755 : S_IFREG | 0644,
			  0, NULL, &a);
	if (t->n[d].child[k] >= 0) {
		ks_check_eq(r, -EEXIST);
		return;
	}
	ks_check_ok(r);
	t->n[d].child[k] = i;
	t->n[i].ino = a.ino;
	t->n[i].dir = dir;
	t->n[i].links = 1;
	for (k = 0; k < NAMES; k++)
		t->n[i].child[k] = -1;
}

static void do_remove(struct vol *v, struct mtree *t)
{
	int d = any_node(t, true), k = (int)roll(t, NAMES), c = t->n[d].child[k];
	bool dir = roll(t, 2);
	int want = c < 0                        ? -ENOENT
		   : dir && !t->n[c].dir        ? -ENOTDIR
		   : !dir && t->n[c].dir        ? -EISDIR
		   : dir && !is_empty(&t->n[c]) ? -ENOTEMPTY
						: 0;
	int r = dir ? ks_meta_rmdir(v->m, t->n[d].ino, names[k], NULL)
		    : ks_meta_unlink(v->m, t->n[d].ino, names[k], NULL);

	ks_check_eq(r, want);
	if (r == 0) {
		t->n[d].child[k] = -1;
		lose(t, c);
	}
}

static void do_link(struct vol *v, struct mtree *t)
{
	int f = any_node(t, false), d = any_node(t, true), k = (int)roll(t, NAMES);
	int r;

	if (f < 0)
		return;
	r = ks_meta_link(v->m, t->n[f].ino, t->n[d].ino, names[k], NULL);
	ks_check_eq(r, t->n[d].child[k] >= 0 ? -EEXIST : 0);
	if (r == 0) {
		t->n[d].child[k] = f;
		t->n[f].links++;
	}
}

static int rename_wants(const struct mtree *t, int a, int d2, int b, unsigned int flags, int d1)
{
	if (a < 0 || (b < 0 && (flags & KS_RENAME_EXCHANGE)))
		return -ENOENT;
	if (b >= 0 && (flags & KS_RENAME_NOREPLACE))
		return -EEXIST;
	if (a == b)
		return 0;
	if (t->n[a].dir && d1 != d2 && is_below(t, a, d2))
		return -EINVAL;
	if ((flags & KS_RENAME_EXCHANGE) && t->n[b].dir && d1 != d2 && is_below(t, b, d1))
		return -EINVAL;
	if (b < 0 || (flags & KS_RENAME_EXCHANGE))
		return 0;
	if (t->n[a].dir != t->n[b].dir)
		return t->n[a].dir ? -ENOTDIR : -EISDIR;
	return t->n[b].dir && !is_empty(&t->n[b]) ? -ENOTEMPTY : 0;
}

static void do_rename(struct vol *v, struct mtree *t)
{
	static const unsigned int kinds[] = { 0, 0, KS_RENAME_NOREPLACE, KS_RENAME_EXCHANGE };
	int d1 = any_node(t, true), d2 = roll(t, 3) ? any_node(t, true) : d1;
	int k1 = (int)roll(t, NAMES), k2 = (int)roll(t, NAMES);
	int a = t->n[d1].child[k1], b = t->n[d2].child[k2];
	unsigned int flags = kinds[roll(t, 4)];
	int r = mv(v, t->n[d1].ino, names[k1], t->n[d2].ino, names[k2], flags);

	ks_check_eq(r, rename_wants(t, a, d2, b, flags, d1));
	if (r < 0 || a == b)
		return;
	t->n[d2].child[k2] = a;
	t->n[d1].child[k1] = flags & KS_RENAME_EXCHANGE ? b : -1;
	if (b >= 0 && !(flags & KS_RENAME_EXCHANGE))
		lose(t, b);
}

static void tree_check(struct vol *v, const struct mtree *t)
{
	for (int i = 0; i < NODES; i++) {
		struct names l = { .n = 0 };
		struct ks_attr at;
		size_t want = 0;
		bool eof;

		if (!t->n[i].ino)
			continue;
		at = attr_of(v, t->n[i].ino);
		ks_check_eq(S_ISDIR(at.mode), t->n[i].dir);
		if (!t->n[i].dir) {
			ks_check_eq(at.nlink, t->n[i].links);
			continue;
		}
		ks_check_ok(ks_meta_readdir(v->m, t->n[i].ino, 0, true, 0, names_one, &l, &eof));
		ks_check(eof);
		for (int k = 0; k < NAMES; k++) {
			int c = t->n[i].child[k];

			want += c >= 0;
			ks_check_eq(ks_meta_lookup(v->m, t->n[i].ino, names[k], &at),
				    c >= 0 ? 0 : -ENOENT);
			if (c >= 0)
				ks_check_eq(at.ino, t->n[c].ino);
		}
		ks_check_eq(l.n, want);
	}
}

static void tree_fuzz(struct vol *v, uint64_t seed, int steps)
{
	struct mtree t;

	printf("# seed %ju\n", (uintmax_t)seed);
	mtree_init(&t, seed);
	for (int i = 0; i < steps; i++) {
		unsigned int what = roll(&t, 10);

		if (what < 3)
			do_make(v, &t);
		else if (what < 5)
			do_remove(v, &t);
		else if (what < 6)
			do_link(v, &t);
		else
			do_rename(v, &t);
		if (i % 50 == 0)
			tree_check(v, &t);
		if (i % 500 == 0) {
			vol_audit(v);
			ks_check_ok(ks_meta_tick(v->m, 0));
		}
	}
	tree_check(v, &t);
	vol_audit(v);
}

ON_BOTH_TRASH(tree_against_a_model)
{
	tree_fuzz(v, (uint64_t)ks_clock_real_ns(), 4000);
}

/* ---- threads ---- */

#define THREADS 8
#define ROUNDS 120

struct worker {
	struct vol *v;
	uint64_t dir, dirs[4];
	int id;
	_Atomic int *errors;
	pthread_t t;
};

static void *churn(void *arg)
{
	struct worker *w = arg;
	struct ks_meta *m = w->v->m;
	char a[32], b[32];

	for (int i = 0; i < ROUNDS; i++) {
		bool keep = i % 4 == 0;
		int bad = 0;

		snprintf(a, sizeof(a), "f-%d-%d", w->id, i);
		snprintf(b, sizeof(b), "g-%d-%d", w->id, i);
		bad |= ks_meta_mknod(m, &cred, w->dir, a, S_IFREG | 0644, 0, NULL, NULL);
		bad |= mv(w->v, w->dir, a, w->dir, b, 0);
		if (!keep)
			bad |= ks_meta_unlink(m, w->dir, b, NULL);
		snprintf(a, sizeof(a), "d-%d-%d", w->id, i);
		bad |= ks_meta_mknod(m, &cred, w->dir, a, S_IFDIR | 0755, 0, NULL, NULL);
		if (!keep)
			bad |= ks_meta_rmdir(m, w->dir, a, NULL);
		if (bad)
			atomic_fetch_add(w->errors, 1);
	}
	return NULL;
}

static int run_threads(struct vol *v, uint64_t dir, const uint64_t *dirs, void *(*fn)(void *))
{
	struct worker w[THREADS];
	_Atomic int errors = 0;

	for (int i = 0; i < THREADS; i++) {
		w[i] = (struct worker){ .v = v, .dir = dir, .id = i, .errors = &errors };
		if (dirs)
			memcpy(w[i].dirs, dirs, sizeof(w[i].dirs));
		ks_check_ok(ks_thread_start(&w[i].t, "test", fn, &w[i]));
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(w[i].t, NULL);
	return atomic_load(&errors);
}

ON_BOTH(eight_threads_in_one_directory)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	struct ks_meta_usage u;
	struct ks_attr a;

	ks_check_eq(run_threads(v, d, NULL, churn), 0);
	a = attr_of(v, d);
	ks_check_eq(a.nlink, 2 + THREADS * ROUNDS / 4);
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_ok(ks_meta_usage(v->m, &u));
	ks_check_eq(u.inodes, 2 + 2 * THREADS * ROUNDS / 4);
}

/* Every thread moves the same directories into each other. */
static void *tangle(void *arg)
{
	struct worker *w = arg;
	static const char *const n[] = { "0", "1", "2", "3" };
	uint64_t rnd = (uint64_t)w->id * 977 + 5;

	for (int i = 0; i < ROUNDS; i++) {
		struct ks_attr at;
		unsigned int x, y;

		rnd = ks_mix64(rnd + 1);
		x = (unsigned int)(rnd % 4);
		y = (unsigned int)(rnd / 4 % 5);
		/* Where is x now? */
		if (ks_meta_getattr(w->v->m, w->dirs[x], &at) < 0)
			continue;
		int r = mv(w->v, at.parent, n[x], y == 4 ? w->dir : w->dirs[y], n[x], 0);

		if (r && r != -ENOENT && r != -EINVAL && r != -ENOTEMPTY)
			atomic_fetch_add(w->errors, 1);
	}
	return NULL;
}

ON_BOTH_TRASH(directories_never_make_a_ring)
{
	uint64_t top = mkdir_(v, ROOT, "top"), dirs[4];
	char name[16];

	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "%d", i);
		dirs[i] = mkdir_(v, top, name);
		mkdir_(v, dirs[i], "leaf"); /* so that it may be an ancestor at once */
	}
	ks_check_eq(run_threads(v, top, dirs, tangle), 0);
	for (int i = 0; i < 4; i++) {
		uint64_t at = dirs[i];
		int depth = 0;

		for (; at != ROOT && depth < 10; depth++)
			at = attr_of(v, at).parent;
		ks_check_eq(at, ROOT);
	}
}

/* Directories that come and go while others create in them: nothing may be left in one that is gone. */
static void *come_and_go(void *arg)
{
	struct worker *w = arg;
	struct ks_attr a;
	char name[32];

	snprintf(name, sizeof(name), "f%d", w->id);
	for (int i = 0; i < ROUNDS; i++) {
		int r;

		if (w->id % 2) {
			r = ks_meta_mknod(w->v->m, &cred, w->dir, "d", S_IFDIR | 0755, 0, NULL,
					  NULL);
			if (r == 0 || r == -EEXIST)
				r = ks_meta_rmdir(w->v->m, w->dir, "d", NULL);
			if (r && r != -ENOENT && r != -ENOTEMPTY)
				atomic_fetch_add(w->errors, 1);
			continue;
		}
		if (ks_meta_lookup(w->v->m, w->dir, "d", &a) < 0)
			continue;
		r = ks_meta_mknod(w->v->m, &cred, a.ino, name, S_IFREG | 0644, 0, NULL, NULL);
		if (r == 0)
			r = ks_meta_unlink(w->v->m, a.ino, name, NULL);
		if (r && r != -ENOENT)
			atomic_fetch_add(w->errors, 1);
	}
	return NULL;
}

ON_BOTH_TRASH(rmdir_beside_create)
{
	ks_check_eq(run_threads(v, ROOT, NULL, come_and_go), 0);
}

/* Overlapping commits of several threads: one of them is on top everywhere, and the sums are right. */
static void *overlap(void *arg)
{
	struct worker *w = arg;
	static const uint32_t sums[1];

	for (int i = 0; i < ROUNDS; i++) {
		struct ks_commit_slice s = {
			.pos = (uint32_t)(ks_mix64((uint64_t)(w->id * ROUNDS + i)) % 5000),
			.len = 700,
			.block_size = KS_BLOCK_DEFAULT,
			.sums = sums,
			.pack = 1
		};
		struct ks_commit c = { .ino = w->dir, .s = &s, .n = 1 };
		struct ks_attr in = { .size = 3000 };
		int r = ks_meta_new_slice_id(w->v->m, &s.slice);

		if (r == 0)
			r = ks_meta_commit(w->v->m, &c, NULL);
		if (r == 0 && i % 20 == 7)
			r = ks_meta_setattr(w->v->m, w->dir, KS_SET_SIZE, &in, NULL);
		if (r)
			atomic_fetch_add(w->errors, 1);
	}
	return NULL;
}

ON_BOTH(overlapping_commits)
{
	uint64_t f = mkfile(v, ROOT, "f");

	ks_check_eq(run_threads(v, f, NULL, overlap), 0);
	vol_audit(v);
	set_size(v, f, 0);
	ks_check_eq(count_rows(v, KS_T_SLICE), 0);
}

/* ---- listings ---- */

#define MANY 10000

struct listing {
	unsigned char seen[2 * MANY];
	uint64_t last, n;
	bool ordered;
};

static int listing_one(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	struct listing *l = arg;
	char name[32];
	int i;

	snprintf(name, sizeof(name), "%.*s", (int)ks_min(d->name.n, sizeof(name) - 1),
		 (const char *)d->name.p);
	i = (int)strtol(name + 1, NULL, 10);
	l->seen[i]++;
	l->ordered = l->ordered && d->hash >= l->last && attr && attr->ino == d->ino &&
		     d->hash >= KS_DENTRY_HASH_MIN;
	l->last = d->hash;
	l->n++;
	return 0;
}

ON_BOTH(listing_under_change)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	struct listing *l = calloc(1, sizeof(*l));
	char name[32];
	bool eof = false;
	int gone = 0, come = MANY, calls = 0;

	l->ordered = true;
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		mkfile(v, d, name);
	}
	while (!eof) {
		ks_check_ok(ks_meta_readdir(v->m, d, l->last, true, 100, listing_one, l, &eof));
		calls++;
		/* The even ones of the first third go, new ones come. */
		for (int k = 0; k < 10 && gone < MANY / 3; k++, gone += 2) {
			snprintf(name, sizeof(name), "f%d", gone);
			ks_check_ok(ks_meta_unlink(v->m, d, name, NULL));
		}
		snprintf(name, sizeof(name), "f%d", come++);
		mkfile(v, d, name);
	}
	ks_check(l->ordered);
	ks_check(calls >= MANY / 110);
	for (int i = 0; i < MANY; i++) {
		bool stayed = i >= gone || i % 2;

		ks_check(stayed ? l->seen[i] == 1 : l->seen[i] <= 1);
	}
	for (int i = MANY; i < come; i++)
		ks_check(l->seen[i] <= 1);
	free(l);
}

struct stopper {
	int n, stop_at;
};

static int stop_one(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	struct stopper *s = arg;

	(void)d;
	(void)attr;
	return ++s->n == s->stop_at;
}

/* Makes many names of one hash, which the hash function itself never would. */
static int collide_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_dentry d = {
		.parent = *(uint64_t *)arg, .hash = 5000, .ino = ROOT, .type = 8
	};
	char name[16];

	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof(name), "x%d", i);
		d.name = ks_bytes_str(name);
		ks_txn_insert(t, KS_T_DENTRY, &d);
	}
	d.hash = 6000;
	ks_txn_insert(t, KS_T_DENTRY, &d);
	return 0;
}

static int clear_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_dentry d = { .parent = *(uint64_t *)arg };

	ks_txn_del_prefix(t, KS_T_DENTRY, &d, 1);
	return 0;
}

ON_BOTH(listing_rules)
{
	uint64_t d = mkdir_(v, ROOT, "d"), f = mkfile(v, ROOT, "f");
	struct stopper s = { .stop_at = 5 };
	bool eof = false;

	ks_check_eq(ks_meta_readdir(v->m, f, 0, false, 0, stop_one, &s, &eof), -ENOTDIR);
	ks_check_eq(ks_meta_readdir(v->m, 999, 0, false, 0, stop_one, &s, &eof), -ENOENT);
	ks_check_ok(ks_meta_readdir(v->m, d, 0, false, 0, stop_one, &s, &eof));
	ks_check(eof && s.n == 0);
	ks_check_ok(ks_engine_run(ks_meta_engine(v->m), collide_body, &d));
	/* The names of one hash come together, however small the limit. */
	s = (struct stopper){ .stop_at = 1000 };
	ks_check_ok(ks_meta_readdir(v->m, d, 0, false, 3, stop_one, &s, &eof));
	ks_check_eq(s.n, 60);
	ks_check(!eof);
	ks_check_ok(ks_meta_readdir(v->m, d, 5000, true, 3, stop_one, &s, &eof));
	ks_check_eq(s.n, 61);
	ks_check(eof);
	s = (struct stopper){ .stop_at = 5 };
	ks_check_ok(ks_meta_readdir(v->m, d, 0, false, 0, stop_one, &s, &eof));
	ks_check_eq(s.n, 5);
	ks_check(!eof);
	ks_check_ok(ks_engine_run(ks_meta_engine(v->m), clear_body, &d));
}

KS_TEST_MAIN()
