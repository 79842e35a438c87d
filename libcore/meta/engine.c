/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.c: what all engines share: the registry, a transaction's buffered writes and read set, the count of round trips,
 * and the repetition of bodies that lost a race.
 */
#include "meta/engine_ops.h"

#include "base/array.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include <errno.h>
#include <string.h>

#define DEFAULT_BUSY_NS (60 * KS_NS_PER_S)
#define EAGER_TRIES 3 /* without a pause: a race is usually over at once */
#define PAUSE_MIN_NS 50000
#define PAUSE_MAX_NS (5 * KS_NS_PER_MS)
/* An engine that holds the writer meets no race: a condition that fails this often will always fail. */
#define LOCKED_TRIES 200
#define ANCESTORS_MAX 65536

static const struct ks_engine_ops *const engines[] = {
#define KS_ENGINE(x) &ks_engine_##x##_ops,
#include "meta/engines.def"
#undef KS_ENGINE
};

static void count(_Atomic uint64_t *c)
{
	atomic_fetch_add_explicit(c, 1, memory_order_relaxed);
}

/* ---- records ---- */

void *ks_rec_dup(struct ks_arena *a, enum ks_table t, const void *rec, unsigned int ncol)
{
	const struct ks_table_desc *d = &ks_tables[t];
	char *copy = ks_arena_alloc(a, d->size);

	if (!copy)
		return NULL;
	if (ncol == d->ncol)
		memcpy(copy, rec, d->size);
	else
		memset(copy, 0, d->size);
	for (unsigned int i = 0; i < ncol; i++) {
		const struct ks_col *c = &d->cols[i];
		struct ks_bytes b;

		if (!ks_col_is_bytes(c)) {
			if (ncol < d->ncol)
				ks_rec_set_int(copy, c, ks_rec_int(rec, c));
			continue;
		}
		b = ks_rec_bytes(rec, c);
		if (b.n) {
			b.p = ks_arena_copy(a, b.p, b.n);
			if (!b.p)
				return NULL;
		} else {
			b.p = "";
		}
		ks_rec_set_bytes(copy, c, b);
	}
	return copy;
}

static uint64_t hash_bytes(uint64_t h, struct ks_bytes b)
{
	const unsigned char *p = b.p;
	uint64_t word;
	size_t n = b.n;

	for (; n >= 8; p += 8, n -= 8) {
		memcpy(&word, p, 8);
		h = ks_mix64(h ^ word) + 0x9e3779b97f4a7c15ull;
	}
	word = 0;
	if (n)
		memcpy(&word, p, n);
	return ks_mix64(h ^ word) + b.n;
}

static uint64_t rec_hash(uint64_t h, enum ks_table t, const void *rec, unsigned int ncol)
{
	const struct ks_table_desc *d = &ks_tables[t];

	for (unsigned int i = 0; i < ncol; i++) {
		const struct ks_col *c = &d->cols[i];

		if (ks_col_is_bytes(c))
			h = hash_bytes(h, ks_rec_bytes(rec, c));
		else
			h = ks_mix64(h ^ (uint64_t)ks_rec_int(rec, c)) + 0x9e3779b97f4a7c15ull;
	}
	return h;
}

uint64_t ks_seen_hash(uint64_t h, const struct ks_scan *s, const void *rec,
		      const struct ks_rec_inode *inode)
{
	bool weak = s->flags & KS_READ_WEAK;

	h = rec_hash(h, s->table, rec, weak ? ks_tables[s->table].nkey : ks_tables[s->table].ncol);
	if (!(s->flags & KS_READ_FOLLOW))
		return h;
	if (s->table == KS_T_DENTRY)
		return rec_hash(h, KS_T_INODE, inode, weak ? 1 : ks_tables[KS_T_INODE].ncol);
	/* A missing slice has only its id, 0. */
	return rec_hash(h, KS_T_SLICE, s->slice,
			weak || !s->slice->id ? 1 : ks_tables[KS_T_SLICE].ncol);
}

const struct ks_col *ks_col_at(enum ks_table t, uint16_t off)
{
	const struct ks_table_desc *d = &ks_tables[t];

	for (unsigned int i = 0; i < d->ncol; i++) {
		if (d->cols[i].off == off)
			return &d->cols[i];
	}
	assert(!"an update names no column");
	return NULL;
}

void ks_upd_apply(enum ks_table t, void *rec, const struct ks_upd *u, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		const struct ks_col *c = ks_col_at(t, u[i].col_off);
		int64_t v = ks_rec_int(rec, c);

		switch ((enum ks_upd_op)u[i].op) {
		case KS_UPD_SET:
			v = u[i].value;
			break;
		case KS_UPD_ADD:
			v = (int64_t)((uint64_t)v + (uint64_t)u[i].value);
			if (v < 0 && ks_col_is_unsigned(c))
				v = 0;
			break;
		case KS_UPD_MAX:
			v = ks_max(v, u[i].value);
			break;
		}
		ks_rec_set_int(rec, c, v);
	}
}

/* ---- a transaction's memory ---- */

void ks_txn_start(struct ks_txn *t, struct ks_engine *e, bool locked)
{
	struct ks_arena keep = t->arena;

	*t = (struct ks_txn){ .e = e, .arena = keep, .locked = locked };
	count(&e->bodies);
}

void ks_txn_end(struct ks_txn *t)
{
	ks_arena_reset(&t->arena);
	t->w = NULL;
	t->seen = NULL;
	t->nw = t->capw = t->nseen = t->capseen = 0;
}

struct ks_arena *ks_txn_arena(struct ks_txn *t)
{
	return &t->arena;
}

static struct ks_write *write_add(struct ks_txn *t, enum ks_write_kind kind, enum ks_table tb,
				  const void *rec, unsigned int ncol)
{
	struct ks_write *w;

	if (t->err < 0)
		return NULL;
	if (ks_arena_room(&t->arena, &t->w, t->nw, &t->capw) < 0) {
		t->err = -ENOMEM;
		return NULL;
	}
	w = &t->w[t->nw];
	*w = (struct ks_write){ .kind = (uint8_t)kind, .table = (uint8_t)tb };
	w->rec = ks_rec_dup(&t->arena, tb, rec, ncol);
	if (!w->rec) {
		t->err = -ENOMEM;
		return NULL;
	}
	t->nw++;
	return w;
}

void ks_txn_insert(struct ks_txn *t, enum ks_table tb, const void *rec)
{
	write_add(t, KS_W_INSERT, tb, rec, ks_tables[tb].ncol);
}

void ks_txn_put(struct ks_txn *t, enum ks_table tb, const void *rec)
{
	write_add(t, KS_W_PUT, tb, rec, ks_tables[tb].ncol);
}

void ks_txn_del(struct ks_txn *t, enum ks_table tb, const void *key)
{
	write_add(t, KS_W_DEL, tb, key, ks_tables[tb].nkey);
}

static void prefix_add(struct ks_txn *t, enum ks_write_kind kind, enum ks_table tb, const void *key,
		       unsigned int nprefix)
{
	struct ks_write *w;

	assert(nprefix <= ks_tables[tb].nkey);
	w = write_add(t, kind, tb, key, nprefix);
	if (w)
		w->nprefix = (uint8_t)nprefix;
}

void ks_txn_del_prefix(struct ks_txn *t, enum ks_table tb, const void *key, unsigned int nprefix)
{
	prefix_add(t, KS_W_DEL_PREFIX, tb, key, nprefix);
}

void ks_txn_need_empty(struct ks_txn *t, enum ks_table tb, const void *key, unsigned int nprefix)
{
	prefix_add(t, KS_W_NEED_EMPTY, tb, key, nprefix);
}

void ks_txn_update(struct ks_txn *t, enum ks_table tb, const void *key, const struct ks_upd *u,
		   unsigned int n)
{
	struct ks_write *w;

	assert(n > 0 && n < 256);
	w = write_add(t, KS_W_UPDATE, tb, key, ks_tables[tb].nkey);
	if (!w)
		return;
	w->upd = ks_arena_copy(&t->arena, u, n * sizeof(*u));
	if (!w->upd) {
		t->nw--;
		t->err = -ENOMEM;
		return;
	}
	w->nupd = (uint8_t)n;
}

/* ---- reads, and what a body depends on ---- */

static struct ks_seen *seen_add(struct ks_txn *t)
{
	if (ks_arena_room(&t->arena, &t->seen, t->nseen, &t->capseen) < 0)
		return NULL;
	t->seen[t->nseen] = (struct ks_seen){ 0 };
	return &t->seen[t->nseen++];
}

static int see_record(struct ks_txn *t, enum ks_table tb, const void *rec, bool weak, bool found)
{
	struct ks_seen *s = seen_add(t);

	if (!s)
		return -ENOMEM;
	s->table = (uint8_t)tb;
	s->weak = weak;
	s->found = found;
	s->rec = ks_rec_dup(&t->arena, tb, rec,
			    found && !weak ? ks_tables[tb].ncol : ks_tables[tb].nkey);
	return s->rec ? 0 : -ENOMEM;
}

static int see_read(struct ks_txn *t, const struct ks_read *r)
{
	bool weak = r->flags & KS_READ_WEAK;
	const struct ks_rec_dentry *d = r->rec;
	struct ks_rec_inode missing = { 0 };
	int ret;

	if (r->flags & KS_READ_SNAPSHOT)
		return 0;
	ret = see_record(t, r->table, r->rec, weak, r->found);
	if (ret < 0 || !(r->flags & KS_READ_FOLLOW) || !r->found)
		return ret;
	missing.ino = d->ino;
	return see_record(t, KS_T_INODE, r->inode->ino ? r->inode : &missing, weak,
			  r->inode->ino != 0);
}

static void check_fetch(const struct ks_read *r, size_t n, const struct ks_scan *s, size_t ns)
{
	for (size_t i = 0; i < n; i++) {
		assert(r[i].table < KS_T_COUNT && r[i].rec);
		assert(!(r[i].flags & KS_READ_FOLLOW) || (r[i].table == KS_T_DENTRY && r[i].inode));
		(void)r[i];
	}
	for (size_t i = 0; i < ns; i++) {
		assert(s[i].table < KS_T_COUNT && s[i].fn);
		assert(s[i].nprefix < ks_tables[s[i].table].nkey);
		assert(s[i].nprefix + s[i].nafter <= ks_tables[s[i].table].nkey);
		assert(s[i].from || s[i].nprefix + s[i].nafter == 0);
		assert(!(s[i].flags & KS_READ_FOLLOW) || s[i].table == KS_T_DENTRY ||
		       (s[i].table == KS_T_EXTENT && s[i].slice));
		(void)s[i];
	}
}

/* Passes a scan's records on to the body, and remembers them. */
struct recorder {
	const struct ks_scan *s;
	struct ks_txn *t;
	struct ks_seen_scan *seen;
};

static int record_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	struct recorder *c = arg;
	struct ks_seen_scan *seen = c->seen;
	int r;

	seen->hash = ks_seen_hash(seen->hash, c->s, rec, inode);
	seen->n++;
	r = c->s->fn(c->s->arg, rec, inode);
	if (r == 0 && seen->n != c->s->limit)
		return 0;
	seen->complete = false;
	seen->last = ks_rec_dup(&c->t->arena, c->s->table, rec, ks_tables[c->s->table].nkey);
	if (!seen->last)
		return -ENOMEM;
	return r;
}

/* Makes @w the scan that does @s and remembers what it sees. */
static int scan_wrap(struct ks_txn *t, const struct ks_scan *s, struct ks_scan *w)
{
	struct ks_seen *e;
	struct ks_seen_scan *seen;
	struct recorder *c;

	*w = *s;
	if (s->flags & KS_READ_SNAPSHOT)
		return 0;
	e = seen_add(t);
	seen = ks_arena_alloc(&t->arena, sizeof(*seen));
	c = ks_arena_alloc(&t->arena, sizeof(*c));
	if (!e || !seen || !c)
		return -ENOMEM;
	*seen = (struct ks_seen_scan){ .s = *s, .complete = true };
	seen->s.fn = NULL;
	seen->s.arg = NULL;
	if (s->from) {
		seen->s.from = ks_rec_dup(&t->arena, s->table, s->from, s->nprefix + s->nafter);
		if (!seen->s.from)
			return -ENOMEM;
	}
	*e = (struct ks_seen){ .table = (uint8_t)s->table,
			       .weak = s->flags & KS_READ_WEAK,
			       .scan = seen };
	*c = (struct recorder){ .s = s, .t = t, .seen = seen };
	w->fn = record_one;
	w->arg = c;
	return 0;
}

static int fetch_recorded(struct ks_txn *t, struct ks_read *r, size_t n, const struct ks_scan *s,
			  size_t ns)
{
	size_t before = t->nseen;
	struct ks_scan *w = NULL;
	int ret = 0;

	if (ns) {
		w = ks_arena_alloc(&t->arena, ns * sizeof(*w));
		if (!w)
			return -ENOMEM;
	}
	for (size_t i = 0; i < ns && ret == 0; i++)
		ret = scan_wrap(t, &s[i], &w[i]);
	if (ret == 0)
		ret = t->e->ops->fetch(t->e, t, r, n, w, ns, &t->arena);
	for (size_t i = 0; i < n && ret == 0; i++)
		ret = see_read(t, &r[i]);
	if (t->nseen > before)
		t->batches++;
	return ret;
}

int ks_txn_fetch(struct ks_txn *t, struct ks_read *r, size_t n, const struct ks_scan *s, size_t ns)
{
	if (n + ns == 0)
		return 0;
	check_fetch(r, n, s, ns);
	count(ns ? &t->e->scans : &t->e->reads);
	if (t->locked)
		return t->e->ops->fetch(t->e, t, r, n, s, ns, &t->arena);
	return fetch_recorded(t, r, n, s, ns);
}

int ks_txn_read(struct ks_txn *t, struct ks_read *r, size_t n)
{
	return ks_txn_fetch(t, r, n, NULL, 0);
}

int ks_txn_scan(struct ks_txn *t, const struct ks_scan *s)
{
	return ks_txn_fetch(t, NULL, 0, s, 1);
}

/* Counted as one trip: an engine behind a network walks on its own side. Damage may have made a ring: nothing is deeper than the bound. */
int ks_txn_ancestors(struct ks_txn *t, const uint64_t *from, size_t n,
		     int (*fn)(void *arg, const struct ks_rec_inode *inode), void *arg)
{
	int r = 0;

	count(&t->e->reads);
	for (size_t i = 0; i < n && r == 0; i++) {
		struct ks_rec_inode node = { .ino = from[i] };
		unsigned int depth = 0;

		for (; node.ino && r == 0; depth++) {
			struct ks_read rd = { .table = KS_T_INODE,
					      .flags = KS_READ_SNAPSHOT,
					      .rec = &node };

			if (depth == ANCESTORS_MAX)
				return ks_fail(-EBADMSG, "directory %ju is its own ancestor",
					       (uintmax_t)from[i]);
			r = t->e->ops->fetch(t->e, t, &rd, 1, NULL, 0, &t->arena);
			if (r < 0 || !rd.found)
				break;
			r = fn(arg, &node);
			node.ino = node.parent == node.ino ? 0 : node.parent;
		}
		r = ks_min(r, 0);
	}
	return r;
}

bool ks_engine_peek(struct ks_engine *e, struct ks_read *r)
{
	return e->ops->peek && e->ops->peek(e, r);
}

int ks_engine_fetch(struct ks_engine *e, struct ks_read *r, size_t n, const struct ks_scan *s,
		    size_t ns, struct ks_arena *a)
{
	if (n + ns == 0)
		return 0;
	check_fetch(r, n, s, ns);
	count(ns ? &e->scans : &e->reads);
	return e->ops->fetch(e, NULL, r, n, s, ns, a);
}

int ks_engine_read(struct ks_engine *e, struct ks_read *r, size_t n, struct ks_arena *a)
{
	return ks_engine_fetch(e, r, n, NULL, 0, a);
}

int ks_engine_scan(struct ks_engine *e, const struct ks_scan *s, struct ks_arena *a)
{
	return ks_engine_fetch(e, NULL, 0, s, 1, a);
}

/* ---- running ---- */

/* A failed body's result also has to be true of one moment, when it was put together from several batches. */
static int settle(struct ks_txn *t, int body)
{
	struct ks_engine *e = t->e;
	int r;

	if (body < 0) {
		if (body == -EAGAIN || t->batches < 2)
			return body;
		t->nw = 0;
	}
	if (t->err < 0)
		return t->err;
	if (t->nw == 0 && t->batches < 2)
		return body;
	if (t->nw && e->readonly)
		return ks_fail(-EROFS, "%s: the volume is open read-only", e->ops->scheme);
	count(&e->commits);
	r = e->ops->commit(e, t);
	if (r == -EAGAIN)
		return r;
	if (r == 0 && t->nw)
		count(&e->batches);
	return body < 0 ? body : r;
}

static int run_optimistic(struct ks_engine *e, ks_body_fn *body, void *arg, struct ks_txn *t)
{
	int r;

	ks_txn_start(t, e, false);
	r = settle(t, body(t, arg));
	ks_txn_end(t);
	return r;
}

static void pause_before(unsigned int attempt)
{
	int64_t most = PAUSE_MIN_NS;
	uint64_t dice = ks_mix64((uint64_t)ks_clock_mono_ns() ^ (uint64_t)(uintptr_t)&dice);
	struct timespec ts;

	if (attempt <= EAGER_TRIES)
		return;
	for (unsigned int i = EAGER_TRIES + 1; i < attempt && most < PAUSE_MAX_NS; i++)
		most *= 2;
	most = ks_min(most, PAUSE_MAX_NS);
	ts = ks_ns_to_ts((int64_t)(dice % (uint64_t)most));
	nanosleep(&ts, NULL);
}

static int give_up(struct ks_engine *e, unsigned int tries)
{
	if (e->ops->run) {
		return ks_fail_hint(
			-EIO, "check the volume with kiseki-fsck",
			"%s: a transaction asks for what the database does not have: "
			"a record to be made is already there, or one to be changed is not",
			e->ops->scheme);
	}
	return ks_fail(-EBUSY, "%s: a transaction lost its race %u times", e->ops->scheme, tries);
}

int ks_engine_run(struct ks_engine *e, ks_body_fn *body, void *arg)
{
	struct ks_txn t = { 0 };
	int64_t deadline = 0;
	int r;

	for (unsigned int tries = 1;; tries++) {
		if (e->ops->run)
			r = e->ops->run(e, body, arg);
		else
			r = run_optimistic(e, body, arg, &t);
		if (r != -EAGAIN)
			break;
		if (!deadline)
			deadline = ks_clock_mono_ns() + e->busy_timeout_ns;
		if (ks_clock_mono_ns() > deadline || (e->ops->run && tries >= LOCKED_TRIES)) {
			r = give_up(e, tries);
			break;
		}
		count(&e->retries);
		pause_before(tries);
	}
	if (!e->ops->run)
		ks_arena_clear(&t.arena);
	return r;
}

int ks_engine_sync(struct ks_engine *e)
{
	return ks_engine_sync_end(e, 0);
}

uint64_t ks_engine_sync_begin(struct ks_engine *e)
{
	return e->ops->sync_begin ? e->ops->sync_begin(e) : 0;
}

int ks_engine_sync_end(struct ks_engine *e, uint64_t begun)
{
	return e->ops->sync ? e->ops->sync(e, begun) : 0;
}

/* ---- life ---- */

int ks_engine_open(struct ks_engine **out, const char *url, const struct ks_engine_opts *opts)
{
	static const struct ks_engine_opts none;
	const char *sep = strstr(url, "://");
	struct ks_engine_opts o = opts ? *opts : none;
	int r;

	if (!sep)
		return ks_fail_hint(-EINVAL, "for example sqlite:///var/lib/kiseki/home.db",
				    "'%s' does not name a metadata database", url);
	o.readonly = o.readonly || o.snapshot;
	if (o.busy_timeout_ns <= 0)
		o.busy_timeout_ns = DEFAULT_BUSY_NS;
	for (size_t i = 0; i < KS_ARRAY_SIZE(engines); i++) {
		const struct ks_engine_ops *ops = engines[i];

		if (strlen(ops->scheme) != (size_t)(sep - url) ||
		    memcmp(url, ops->scheme, (size_t)(sep - url)) != 0)
			continue;
		assert(!ops->commit != !ops->run);
		if (o.snapshot && !ops->snapshots)
			return ks_fail(-ENOTSUP, "%s:// has no snapshots", ops->scheme);
		r = ops->open(out, sep + 3, &o);
		if (r < 0)
			return r;
		(*out)->ops = ops;
		(*out)->busy_timeout_ns = o.busy_timeout_ns;
		(*out)->readonly = o.readonly;
		return 0;
	}
	return ks_fail_hint(-EINVAL, "kiseki-format -V -v lists those of this program",
			    "there is no metadata engine '%.*s'", (int)(sep - url), url);
}

void ks_engine_close(struct ks_engine *e)
{
	if (e)
		e->ops->close(e);
}

bool ks_engine_is_full(struct ks_engine *e)
{
	return e->ops->is_full && e->ops->is_full(e);
}

uint64_t ks_engine_foreign_version(struct ks_engine *e)
{
	return e->ops->foreign_version ? e->ops->foreign_version(e) : 0;
}

void ks_engine_stats(struct ks_engine *e, struct ks_engine_stats *out)
{
	*out = (struct ks_engine_stats){
		.reads = atomic_load_explicit(&e->reads, memory_order_relaxed),
		.scans = atomic_load_explicit(&e->scans, memory_order_relaxed),
		.commits = atomic_load_explicit(&e->commits, memory_order_relaxed),
		.bodies = atomic_load_explicit(&e->bodies, memory_order_relaxed),
		.retries = atomic_load_explicit(&e->retries, memory_order_relaxed),
		.batches = atomic_load_explicit(&e->batches, memory_order_relaxed),
		.cache_hits = atomic_load_explicit(&e->cache_hits, memory_order_relaxed),
		.cache_misses = atomic_load_explicit(&e->cache_misses, memory_order_relaxed),
		.size_bytes = e->ops->size_bytes ? e->ops->size_bytes(e) : 0,
	};
}

void ks_engines(void (*fn)(void *arg, const char *scheme, const char *help), void *arg)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(engines); i++)
		fn(arg, engines[i]->scheme, engines[i]->help);
}
