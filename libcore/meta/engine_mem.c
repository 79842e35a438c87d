/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_mem.c: metadata in the memory of one process, for tests, and the model of every optimistic engine.
 *
 * A volume is a chain of immutable versions; a version is one persistent treap per table. A change copies the path from the root and shares
 * the rest, so a snapshot is one reference, readers hold no lock while they look, and a commit that fails half-way
 * drops what it had built. Nodes and records are counted by those who point at them.
 *
 * A volume lives from its creation to the last close of a handle that did not create it: so formatting it and opening it
 * later meet the same one.
 */
#include "meta/engine_ops.h"

#include "base/hash.h"
#include "base/log.h"
#include "base/thread.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* An immutable record: the struct, and behind it the bytes that its columns point to. */
struct value {
	_Atomic uint32_t refs;
	_Alignas(16) char rec[];
};

struct node {
	_Atomic uint32_t refs;
	uint64_t prio;
	struct node *left, *right; /* counted */
	struct value *v;           /* counted */
};

struct version {
	_Atomic uint32_t refs;
	struct node *root[KS_T_COUNT];
};

struct volume {
	struct volume *next;       /* [volumes_mu] */
	int handles;               /* [volumes_mu] */
	pthread_mutex_t commit_mu; /* one commit at a time; before cur_mu */
	pthread_mutex_t cur_mu;
	struct version *cur; /* [cur_mu to read, both to change] */
	uint64_t dice;       /* [commit_mu] */
	char name[];
};

struct mem {
	struct ks_engine base;
	struct volume *vol;
	bool creator;
};

static pthread_mutex_t volumes_mu = PTHREAD_MUTEX_INITIALIZER;
static struct volume *volumes; /* [volumes_mu] */

static struct mem *to_mem(struct ks_engine *e)
{
	return ks_container_of(e, struct mem, base);
}

/* ---- counted memory ---- */

static void ref(_Atomic uint32_t *refs)
{
	atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

static bool unref(_Atomic uint32_t *refs)
{
	return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static struct value *value_ref(struct value *v)
{
	ref(&v->refs);
	return v;
}

static void value_put(struct value *v)
{
	if (v && unref(&v->refs))
		free(v);
}

static struct value *value_new(enum ks_table t, const void *rec)
{
	const struct ks_table_desc *d = &ks_tables[t];
	size_t extra = 0;
	struct value *v;
	char *tail;

	for (unsigned int i = 0; i < d->ncol; i++) {
		if (ks_col_is_bytes(&d->cols[i]))
			extra += ks_rec_bytes(rec, &d->cols[i]).n;
	}
	v = malloc(sizeof(*v) + d->size + extra);
	if (!v)
		return NULL;
	atomic_init(&v->refs, 1);
	memcpy(v->rec, rec, d->size);
	tail = v->rec + d->size;
	for (unsigned int i = 0; i < d->ncol; i++) {
		struct ks_bytes b;

		if (!ks_col_is_bytes(&d->cols[i]))
			continue;
		b = ks_rec_bytes(rec, &d->cols[i]);
		if (b.n)
			memcpy(tail, b.p, b.n);
		b.p = tail;
		tail += b.n;
		ks_rec_set_bytes(v->rec, &d->cols[i], b);
	}
	return v;
}

static struct node *node_ref(struct node *n)
{
	if (n)
		ref(&n->refs);
	return n;
}

static void node_put(struct node *n)
{
	while (n && unref(&n->refs)) {
		struct node *right = n->right;

		node_put(n->left);
		value_put(n->v);
		free(n);
		n = right;
	}
}

/* Takes over @v, @left and @right, also when it fails. */
static struct node *node_new(uint64_t prio, struct value *v, struct node *left, struct node *right,
			     int *err)
{
	struct node *n = *err < 0 ? NULL : malloc(sizeof(*n));

	if (!n) {
		*err = -ENOMEM;
		value_put(v);
		node_put(left);
		node_put(right);
		return NULL;
	}
	atomic_init(&n->refs, 1);
	n->prio = prio;
	n->v = v;
	n->left = left;
	n->right = right;
	return n;
}

/* ---- the treap; every function borrows its argument and returns a counted result ---- */

static const struct value *tree_find(enum ks_table t, const struct node *n, const void *key)
{
	while (n) {
		int c = ks_rec_cmp(t, key, n->v->rec, ks_tables[t].nkey);

		if (c == 0)
			return n->v;
		n = c < 0 ? n->left : n->right;
	}
	return NULL;
}

static struct node *tree_put(enum ks_table t, struct node *n, struct value *v, uint64_t prio,
			     int *err)
{
	struct node *top, *sub;
	int c;

	if (!n)
		return node_new(prio, value_ref(v), NULL, NULL, err);
	c = ks_rec_cmp(t, v->rec, n->v->rec, ks_tables[t].nkey);
	if (c == 0)
		return node_new(n->prio, value_ref(v), node_ref(n->left), node_ref(n->right), err);
	sub = tree_put(t, c < 0 ? n->left : n->right, v, prio, err);
	top = node_new(n->prio, value_ref(n->v), c < 0 ? sub : node_ref(n->left),
		       c < 0 ? node_ref(n->right) : sub, err);
	if (!top || sub->prio <= top->prio)
		return top;
	/* Both are new and nobody else's: rotate in place. */
	if (c < 0) {
		top->left = sub->right;
		sub->right = top;
	} else {
		top->right = sub->left;
		sub->left = top;
	}
	return sub;
}

static struct node *tree_join(struct node *a, struct node *b, int *err)
{
	struct node *sub;

	if (!a || !b)
		return node_ref(a ? a : b);
	if (a->prio > b->prio) {
		sub = tree_join(a->right, b, err);
		return node_new(a->prio, value_ref(a->v), node_ref(a->left), sub, err);
	}
	sub = tree_join(a, b->left, err);
	return node_new(b->prio, value_ref(b->v), sub, node_ref(b->right), err);
}

/* The key is known to be there. */
static struct node *tree_del(enum ks_table t, struct node *n, const void *key, int *err)
{
	int c;

	assert(n);
	c = ks_rec_cmp(t, key, n->v->rec, ks_tables[t].nkey);
	if (c == 0)
		return tree_join(n->left, n->right, err);
	if (c < 0)
		return node_new(n->prio, value_ref(n->v), tree_del(t, n->left, key, err),
				node_ref(n->right), err);
	return node_new(n->prio, value_ref(n->v), node_ref(n->left),
			tree_del(t, n->right, key, err), err);
}

static const struct value *tree_first(enum ks_table t, const struct node *n, const void *key,
				      unsigned int nprefix)
{
	const struct value *best = NULL;

	while (n) {
		int c = ks_rec_cmp(t, key, n->v->rec, nprefix);

		if (c == 0)
			best = n->v;
		n = c <= 0 ? n->left : n->right;
	}
	return best;
}

/* ---- versions ---- */

static void version_put(struct version *v)
{
	if (!v || !unref(&v->refs))
		return;
	for (int i = 0; i < KS_T_COUNT; i++)
		node_put(v->root[i]);
	free(v);
}

static void version_putp(struct version **v)
{
	version_put(*v);
}

static struct version *version_copy(const struct version *from)
{
	struct version *v = malloc(sizeof(*v));

	if (!v)
		return NULL;
	atomic_init(&v->refs, 1);
	for (int i = 0; i < KS_T_COUNT; i++)
		v->root[i] = node_ref(from->root[i]);
	return v;
}

static struct version *snapshot(struct volume *vol)
{
	KS_LOCKED(&vol->cur_mu);
	ref(&vol->cur->refs);
	return vol->cur;
}

/* ---- reading ---- */

/* Fills the columns from @first on; bytes go to the arena. */
static int copy_out(enum ks_table t, const struct value *v, unsigned int first, void *rec,
		    struct ks_arena *a)
{
	const struct ks_table_desc *d = &ks_tables[t];

	for (unsigned int i = first; i < d->ncol; i++) {
		const struct ks_col *c = &d->cols[i];
		struct ks_bytes b;

		if (!ks_col_is_bytes(c)) {
			ks_rec_set_int(rec, c, ks_rec_int(v->rec, c));
			continue;
		}
		assert(a);
		b = ks_rec_bytes(v->rec, c);
		b.p = b.n ? ks_arena_copy(a, b.p, b.n) : "";
		if (!b.p)
			return -ENOMEM;
		ks_rec_set_bytes(rec, c, b);
	}
	return 0;
}

static void follow_dentry(const struct version *ver, const struct ks_rec_dentry *d,
			  struct ks_rec_inode *out)
{
	struct ks_rec_inode key = { .ino = d->ino };
	const struct value *v = tree_find(KS_T_INODE, ver->root[KS_T_INODE], &key);

	if (v)
		memcpy(out, v->rec, sizeof(*out));
	else
		*out = (struct ks_rec_inode){ 0 };
}

static int follow_extent(const struct version *ver, const struct ks_rec_extent *x,
			 struct ks_rec_slice *out, struct ks_arena *a)
{
	struct ks_rec_slice key = { .id = x->slice };
	const struct value *v = tree_find(KS_T_SLICE, ver->root[KS_T_SLICE], &key);

	*out = (struct ks_rec_slice){ .sums.p = "" };
	return v ? copy_out(KS_T_SLICE, v, 0, out, a) : 0;
}

static int read_one(const struct version *ver, struct ks_read *r, struct ks_arena *a)
{
	const struct value *v = tree_find(r->table, ver->root[r->table], r->rec);
	int ret;

	r->found = v;
	if (r->flags & KS_READ_FOLLOW)
		*r->inode = (struct ks_rec_inode){ 0 };
	if (!v)
		return 0;
	ret = copy_out(r->table, v, ks_tables[r->table].nkey, r->rec, a);
	if (ret == 0 && (r->flags & KS_READ_FOLLOW))
		follow_dentry(ver, r->rec, r->inode);
	return ret;
}

struct walk {
	const struct version *ver;
	const struct ks_scan *s;
	struct ks_arena *a;
	uint64_t n;
};

static int walk_visit(struct walk *w, const struct value *v)
{
	const struct ks_scan *s = w->s;
	struct ks_rec_inode inode;
	union ks_record rec;
	bool follow = s->flags & KS_READ_FOLLOW;
	int r = copy_out(s->table, v, 0, &rec, w->a);

	if (r == 0 && follow && s->table == KS_T_EXTENT)
		r = follow_extent(w->ver, &rec.extent, s->slice, w->a);
	if (r < 0)
		return r;
	if (follow && s->table == KS_T_DENTRY)
		follow_dentry(w->ver, &rec.dentry, &inode);
	r = s->fn(s->arg, &rec, follow && s->table == KS_T_DENTRY ? &inode : NULL);
	if (r == 0 && ++w->n == s->limit)
		return 1;
	return r;
}

/* In order, or against it. Returns 1 to stop. */
static int walk(struct walk *w, const struct node *n)
{
	const struct ks_scan *s = w->s;

	while (n) {
		int at = ks_rec_cmp(s->table, n->v->rec, s->from, s->nprefix);
		bool inside = at == 0;
		int r;

		if (inside && s->nafter) {
			at = ks_rec_cmp(s->table, n->v->rec, s->from, s->nprefix + s->nafter);
			inside = s->reverse ? at < 0 : at > 0;
			if (at == 0)
				at = s->reverse ? 1 : -1;
		}
		if (!inside) {
			n = at < 0 ? n->right : n->left;
			continue;
		}
		r = walk(w, s->reverse ? n->right : n->left);
		if (r == 0)
			r = walk_visit(w, n->v);
		if (r)
			return r;
		n = s->reverse ? n->left : n->right;
	}
	return 0;
}

static int scan_version(const struct version *ver, const struct ks_scan *s, struct ks_arena *a)
{
	struct walk w = { .ver = ver, .s = s, .a = a };
	int r = walk(&w, ver->root[s->table]);

	return r < 0 ? r : 0;
}

static int mem_fetch(struct ks_engine *e, struct ks_txn *t, struct ks_read *r, size_t n,
		     const struct ks_scan *s, size_t ns, struct ks_arena *a)
{
	KS_AUTO(version_putp) struct version *ver = snapshot(to_mem(e)->vol);
	int ret = 0;

	(void)t;
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = read_one(ver, &r[i], a);
	for (size_t i = 0; i < ns && ret == 0; i++)
		ret = scan_version(ver, &s[i], a);
	return ret;
}

/* ---- committing ---- */

struct proof {
	const struct ks_scan *s;
	uint64_t hash, n, want;
	bool complete;
};

static int prove_record(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	struct proof *p = arg;

	p->hash = ks_seen_hash(p->hash, p->s, rec, inode);
	p->n++;
	/* One more than was seen shows that something came in. */
	return p->complete ? p->n > p->want : p->n == p->want;
}

static int prove_scan(const struct version *ver, const struct ks_seen_scan *seen,
		      struct ks_arena *a)
{
	struct ks_rec_slice slice;
	struct ks_scan s = seen->s;
	struct proof p = { .s = &s, .want = seen->n, .complete = seen->complete };
	int r;

	s.fn = prove_record;
	s.arg = &p;
	s.slice = &slice;
	r = scan_version(ver, &s, a);
	if (r < 0)
		return r;
	return p.n == seen->n && p.hash == seen->hash ? 0 : -EAGAIN;
}

static int prove(const struct version *ver, struct ks_txn *t)
{
	for (uint32_t i = 0; i < t->nseen; i++) {
		const struct ks_seen *s = &t->seen[i];
		const struct value *v;
		int r;

		if (s->scan) {
			r = prove_scan(ver, s->scan, &t->arena);
			if (r < 0)
				return r;
			continue;
		}
		v = tree_find(s->table, ver->root[s->table], s->rec);
		if (!v != !s->found)
			return -EAGAIN;
		if (v && !s->weak && ks_rec_cmp(s->table, v->rec, s->rec, ks_tables[s->table].ncol))
			return -EAGAIN;
	}
	return 0;
}

/* Replaces a table's root by @n, which is taken over, unless building it failed. */
static int set_root(struct version *ver, enum ks_table t, struct node *n, int err)
{
	if (err < 0) {
		node_put(n);
		return err;
	}
	node_put(ver->root[t]);
	ver->root[t] = n;
	return 0;
}

static int apply_put(struct volume *vol, struct version *ver, enum ks_table t, const void *rec)
{
	struct value *v = value_new(t, rec);
	struct node *n;
	int err = 0;

	if (!v)
		return -ENOMEM;
	n = tree_put(t, ver->root[t], v, ks_mix64(++vol->dice), &err);
	value_put(v);
	return set_root(ver, t, n, err);
}

static int apply_del(struct version *ver, enum ks_table t, const void *key)
{
	struct node *n;
	int err = 0;

	n = tree_del(t, ver->root[t], key, &err);
	return set_root(ver, t, n, err);
}

static int apply_update(struct volume *vol, struct version *ver, const struct ks_write *w)
{
	const struct value *v = tree_find(w->table, ver->root[w->table], w->rec);
	union ks_record rec;

	if (v)
		memcpy(&rec, v->rec, ks_tables[w->table].size);
	else if (w->table == KS_T_COUNTER)
		memcpy(&rec, w->rec, ks_tables[w->table].size);
	else
		return -EAGAIN;
	ks_upd_apply(w->table, &rec, w->upd, w->nupd);
	return apply_put(vol, ver, w->table, &rec);
}

static int apply(struct volume *vol, struct version *ver, const struct ks_write *w)
{
	const struct value *v;
	int r = 0;

	switch ((enum ks_write_kind)w->kind) {
	case KS_W_INSERT:
		if (tree_find(w->table, ver->root[w->table], w->rec))
			return -EAGAIN;
		return apply_put(vol, ver, w->table, w->rec);
	case KS_W_PUT:
		return apply_put(vol, ver, w->table, w->rec);
	case KS_W_DEL:
		if (!tree_find(w->table, ver->root[w->table], w->rec))
			return 0;
		return apply_del(ver, w->table, w->rec);
	case KS_W_DEL_PREFIX:
		while (r == 0 &&
		       (v = tree_first(w->table, ver->root[w->table], w->rec, w->nprefix)))
			r = apply_del(ver, w->table, v->rec);
		return r;
	case KS_W_UPDATE:
		return apply_update(vol, ver, w);
	case KS_W_NEED_EMPTY:
		return tree_first(w->table, ver->root[w->table], w->rec, w->nprefix) ? -EAGAIN : 0;
	}
	return -EINVAL;
}

static int mem_commit(struct ks_engine *e, struct ks_txn *t)
{
	struct volume *vol = to_mem(e)->vol;
	/* Declared before the lock: what is dropped is freed after the unlock. */
	KS_AUTO(version_putp) struct version *old = NULL;
	KS_AUTO(version_putp) struct version *ver = NULL;
	KS_LOCKED(&vol->commit_mu);
	int r = prove(vol->cur, t);

	if (r < 0 || t->nw == 0)
		return r;
	ver = version_copy(vol->cur);
	if (!ver)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->nw; i++) {
		r = apply(vol, ver, &t->w[i]);
		if (r < 0)
			return r;
	}
	KS_LOCKED(&vol->cur_mu);
	old = vol->cur;
	vol->cur = ks_steal(&ver);
	return 0;
}

/* ---- life ---- */

static void volume_free(struct volume *vol)
{
	version_put(vol->cur);
	pthread_mutex_destroy(&vol->commit_mu);
	pthread_mutex_destroy(&vol->cur_mu);
	free(vol);
}

static struct volume *volume_new(const char *name)
{
	size_t n = strlen(name) + 1;
	struct volume *vol = calloc(1, sizeof(*vol) + n);

	if (!vol)
		return NULL;
	memcpy(vol->name, name, n);
	pthread_mutex_init(&vol->commit_mu, NULL);
	pthread_mutex_init(&vol->cur_mu, NULL);
	vol->cur = calloc(1, sizeof(*vol->cur));
	if (!vol->cur) {
		volume_free(vol);
		return NULL;
	}
	atomic_init(&vol->cur->refs, 1);
	return vol;
}

static int mem_open(struct ks_engine **out, const char *rest, const struct ks_engine_opts *opts)
{
	KS_AUTO(ks_freep) struct mem *m = calloc(1, sizeof(*m));
	struct volume *vol;

	if (!m)
		return -ENOMEM;
	KS_LOCKED(&volumes_mu);
	for (vol = volumes; vol && strcmp(vol->name, rest) != 0; vol = vol->next)
		;
	if (vol && opts->create)
		return -EEXIST;
	if (!vol && !opts->create)
		return -ENOENT;
	if (!vol) {
		vol = volume_new(rest);
		if (!vol)
			return -ENOMEM;
		vol->next = volumes;
		volumes = vol;
	}
	vol->handles++;
	m->vol = vol;
	m->creator = opts->create;
	*out = &ks_steal(&m)->base;
	return 0;
}

static void mem_close(struct ks_engine *e)
{
	struct mem *m = to_mem(e);
	struct volume *vol = m->vol;
	struct volume **pp;

	KS_LOCKED(&volumes_mu);
	if (--vol->handles == 0 && !m->creator) {
		for (pp = &volumes; *pp != vol; pp = &(*pp)->next)
			;
		*pp = vol->next;
		volume_free(vol);
	}
	free(m);
}

static uint64_t tree_bytes(enum ks_table t, const struct node *n)
{
	const struct ks_table_desc *d = &ks_tables[t];
	uint64_t sum = 0;

	for (; n; n = n->right) {
		sum += sizeof(*n) + sizeof(*n->v) + d->size + tree_bytes(t, n->left);
		for (unsigned int i = 0; i < d->ncol; i++) {
			if (ks_col_is_bytes(&d->cols[i]))
				sum += ks_rec_bytes(n->v->rec, &d->cols[i]).n;
		}
	}
	return sum;
}

static uint64_t mem_size_bytes(struct ks_engine *e)
{
	KS_AUTO(version_putp) struct version *ver = snapshot(to_mem(e)->vol);
	uint64_t sum = 0;

	for (int i = 0; i < KS_T_COUNT; i++)
		sum += tree_bytes((enum ks_table)i, ver->root[i]);
	return sum;
}

const struct ks_engine_ops ks_engine_mem_ops = {
	.scheme = "mem",
	.help = "memory of this process (mem://NAME; tests only)",
	.open = mem_open,
	.close = mem_close,
	.fetch = mem_fetch,
	.commit = mem_commit,
	.size_bytes = mem_size_bytes,
};
