/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_records.c: the bounded table of inodes and dentries behind sqlite_cache.c, which says when they are right.
 *
 * Shards by the key's hash, each a mutex and a table of chains that grows with what it holds. A record carries the generation it was stored in;
 * one of another generation is as good as not there, so the whole table is emptied by counting the generation up. A shard that is full gives up
 * what was not asked for since its clock's hand passed last; the hand walks over the chains. Absence is stored as well as presence.
 *
 * Of a directory that was made here all names are in the table, as long as none of them was given up: then what is not there does not exist. Such directories are marked, in a
 * small table of their own without a lock, in sets of WAYS: of more that belong to one set, those keep their mark that are asked about.
 *
 *	A mark	is made when the directory's inode is inserted (it has no names then), by who applies a commit, before the names of that commit.
 *	It goes	before a name goes that still exists: who does not find the name any more does not find the mark either.
 */
#include "meta/sqlite.h"

#include "base/hash.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS 64
#define CHAINS_MIN 16
#define MALLOC_COST 16 /* what malloc adds to a record */

struct node {
	struct node *next;
	uint64_t hash, gen;
	uint32_t bytes;
	uint8_t table;
	bool found;
	bool used; /* asked for since the hand passed */
};

struct inode_node {
	struct node n;
	struct ks_rec_inode rec;
};

struct dentry_node {
	struct node n;
	uint64_t parent, hash, ino;
	uint32_t type;
	uint32_t len;
	char name[];
};

struct shard {
	pthread_mutex_t mu;
	struct node **chains; /* [mu] */
	uint32_t nchains;     /* [mu] 0, or a power of two */
	uint32_t n;           /* [mu] */
	uint32_t hand;        /* [mu] */
	size_t bytes;         /* [mu] */
	char apart[64];       /* from the next one's cache line */
};

#define SETS 1024 /* a power of two */
#define WAYS 4

struct whole {
	_Atomic uint64_t dir, gen; /* gen 0: no directory */
	_Atomic bool used;         /* asked about since a mark was wanted in its set */
};

struct ks_records {
	size_t shard_max;
	struct whole whole[SETS][WAYS];
	struct shard s[SHARDS];
};

int ks_records_new(struct ks_records **out, uint64_t bytes)
{
	struct ks_records *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	r->shard_max = (size_t)(bytes / SHARDS);
	for (int i = 0; i < SHARDS; i++)
		pthread_mutex_init(&r->s[i].mu, NULL);
	*out = r;
	return 0;
}

void ks_records_free(struct ks_records *r)
{
	struct node *e, *next;

	for (int i = 0; r && i < SHARDS; i++) {
		for (uint32_t k = 0; k < r->s[i].nchains; k++) {
			for (e = r->s[i].chains[k]; e; e = next) {
				next = e->next;
				free(e);
			}
		}
		free(r->s[i].chains);
		pthread_mutex_destroy(&r->s[i].mu);
	}
	free(r);
}

uint64_t ks_records_hash(enum ks_table t, const void *key)
{
	const struct ks_rec_inode *i = key;
	const struct ks_rec_dentry *d = key;

	/* A dentry's own hash stands for its name. */
	return t == KS_T_INODE ? ks_mix64(i->ino ^ 0x9e3779b97f4a7c15ull)
			       : ks_mix64(d->hash ^ ks_mix64(d->parent));
}

static struct shard *shard_of(struct ks_records *r, uint64_t hash)
{
	return &r->s[hash >> 58];
}

static bool same_key(const struct node *e, enum ks_table t, uint64_t hash, const void *key)
{
	const struct dentry_node *have = (const void *)e;
	const struct ks_rec_dentry *d = key;

	if (e->hash != hash || e->table != t)
		return false;
	if (t == KS_T_INODE)
		return ((const struct inode_node *)(const void *)e)->rec.ino ==
		       ((const struct ks_rec_inode *)key)->ino;
	return have->parent == d->parent && have->hash == d->hash && have->len == d->name.n &&
	       memcmp(have->name, d->name.p, d->name.n) == 0;
}

/* ---- directories of which all names are here ---- */

static struct whole *set_of(struct ks_records *r, uint64_t dir)
{
	return r->whole[ks_mix64(dir) & (SETS - 1)];
}

/* Where @dir's mark may be; NULL: it has none. */
static struct whole *mark_of(struct ks_records *r, uint64_t dir)
{
	struct whole *set = set_of(r, dir);

	for (int i = 0; i < WAYS; i++) {
		if (atomic_load(&set[i].dir) == dir)
			return &set[i];
	}
	return NULL;
}

static struct whole *victim(struct whole *set, uint64_t gen)
{
	struct whole *w = &set[0];

	for (int i = 0; i < WAYS; i++) {
		if (atomic_load(&set[i].gen) != gen + 1)
			return &set[i];
	}
	for (int i = 0; i < WAYS; i++) {
		if (!atomic_exchange(&set[i].used, false))
			w = &set[i];
	}
	return w;
}

void ks_records_mark_whole(struct ks_records *r, uint64_t gen, uint64_t dir)
{
	struct whole *w = mark_of(r, dir);

	if (!w)
		w = victim(set_of(r, dir), gen);
	/* Who looks while this goes on finds that a commit was applied (seq), and does not use what it found. */
	atomic_store(&w->gen, 0);
	atomic_store(&w->used, false);
	atomic_store(&w->dir, dir);
	atomic_store(&w->gen, gen + 1);
}

static bool is_whole(struct ks_records *r, uint64_t gen, uint64_t dir)
{
	struct whole *w = mark_of(r, dir);

	if (!w || atomic_load(&w->gen) != gen + 1 || atomic_load(&w->dir) != dir)
		return false;
	if (!atomic_load_explicit(&w->used, memory_order_relaxed))
		atomic_store_explicit(&w->used, true, memory_order_relaxed);
	return true;
}

/* A name of it that exists is about to be given up, or could not be stored. */
static void not_whole(struct ks_records *r, uint64_t dir)
{
	struct whole *w = mark_of(r, dir);

	/* Another one that is marked there at this moment loses its mark: a pity, no more. */
	if (w)
		atomic_store(&w->gen, 0);
}

/* ---- records ---- */

/* Needs the shard. The place where it hangs; NULL: it is not there. */
static struct node **find(struct shard *s, enum ks_table t, uint64_t hash, const void *key)
{
	struct node **at;

	if (!s->nchains)
		return NULL;
	for (at = &s->chains[hash & (s->nchains - 1)]; *at; at = &(*at)->next) {
		if (same_key(*at, t, hash, key))
			return at;
	}
	return NULL;
}

/* Needs the shard. */
static void unhang(struct ks_records *r, struct shard *s, struct node **at)
{
	struct node *e = *at;

	if (e->table == KS_T_DENTRY && e->found)
		not_whole(r, ((struct dentry_node *)(void *)e)->parent);
	*at = e->next;
	s->n--;
	s->bytes -= e->bytes;
	free(e);
}

/* Needs the shard. Failing, the chains stay as they are, and get longer. */
static void grow(struct shard *s)
{
	uint32_t want = s->nchains ? s->nchains * 2 : CHAINS_MIN;
	struct node **more = calloc(want, sizeof(struct node *));
	struct node *e, *next;

	if (!more)
		return;
	for (uint32_t k = 0; k < s->nchains; k++) {
		for (e = s->chains[k]; e; e = next) {
			next = e->next;
			e->next = more[e->hash & (want - 1)];
			more[e->hash & (want - 1)] = e;
		}
	}
	free(s->chains);
	s->bytes += (want - s->nchains) * sizeof(struct node *);
	s->chains = more;
	s->nchains = want;
}

/* Needs the shard. Every record goes at the latest when the hand comes by for the second time. */
static void make_room(struct ks_records *r, struct shard *s, size_t need, uint64_t gen)
{
	while (s->n && s->bytes + need > r->shard_max) {
		struct node **at = &s->chains[s->hand++ & (s->nchains - 1)];

		while (*at) {
			if ((*at)->used && (*at)->gen == gen) {
				(*at)->used = false;
				at = &(*at)->next;
			} else {
				unhang(r, s, at);
			}
		}
	}
}

/* Needs the shard. A node with this key, its value not set; NULL: no room. */
static struct node *obtain(struct ks_records *r, struct shard *s, enum ks_table t, uint64_t hash,
			   const void *key, uint64_t gen)
{
	const struct ks_rec_dentry *d = key;
	struct node **at = find(s, t, hash, key);
	struct dentry_node *dn;
	struct node *e;
	size_t bytes = t == KS_T_INODE ? sizeof(struct inode_node)
				       : sizeof(struct dentry_node) + d->name.n;

	if (at)
		return *at;
	if (s->n >= s->nchains)
		grow(s);
	make_room(r, s, bytes + MALLOC_COST, gen);
	if (!s->nchains || s->bytes + bytes + MALLOC_COST > r->shard_max)
		return NULL;
	e = malloc(bytes);
	if (!e)
		return NULL;
	*e = (struct node){ .hash = hash,
			    .bytes = (uint32_t)(bytes + MALLOC_COST),
			    .table = (uint8_t)t };
	if (t == KS_T_DENTRY) {
		dn = (struct dentry_node *)(void *)e;
		dn->parent = d->parent;
		dn->hash = d->hash;
		dn->len = (uint32_t)d->name.n;
		memcpy(dn->name, d->name.p, d->name.n);
	}
	e->next = s->chains[hash & (s->nchains - 1)];
	s->chains[hash & (s->nchains - 1)] = e;
	s->bytes += e->bytes;
	s->n++;
	return e;
}

/* What the database would give back as damage must not come out of the cache as a value. */
static bool storable(enum ks_table t, const void *rec)
{
	const struct ks_rec_inode *i = rec;
	const struct ks_rec_dentry *d = rec;

	if (t == KS_T_INODE)
		return !((i->ino | i->parent | i->size | i->used | i->change) >> 63);
	return !((d->parent | d->hash | d->ino) >> 63);
}

bool ks_records_get(struct ks_records *r, uint64_t gen, enum ks_table t, const void *key,
		    struct ks_cached *out)
{
	uint64_t hash = ks_records_hash(t, key);
	struct shard *s = shard_of(r, hash);
	struct node **at;

	KS_LOCKED(&s->mu);
	at = find(s, t, hash, key);
	if (!at || (*at)->gen != gen) {
		out->dentry_found = false;
		return t == KS_T_DENTRY &&
		       is_whole(r, gen, ((const struct ks_rec_dentry *)key)->parent);
	}
	(*at)->used = true;
	if (t == KS_T_INODE) {
		out->inode_found = (*at)->found;
		if (out->inode_found)
			out->inode = ((struct inode_node *)(void *)*at)->rec;
	} else {
		out->dentry_found = (*at)->found;
		out->ino = ((struct dentry_node *)(void *)*at)->ino;
		out->type = ((struct dentry_node *)(void *)*at)->type;
	}
	return true;
}

/* Needs the shard. It does not exist, which its directory's mark says. */
static void forget_name(struct ks_records *r, struct shard *s, uint64_t hash,
			const struct ks_rec_dentry *d)
{
	struct node **at = find(s, KS_T_DENTRY, hash, d);

	if (!at)
		return;
	(*at)->found = false;
	unhang(r, s, at);
}

/* One that exists cannot be stored. */
static void lost(struct ks_records *r, enum ks_table t, const void *rec)
{
	if (t == KS_T_DENTRY)
		not_whole(r, ((const struct ks_rec_dentry *)rec)->parent);
}

void ks_records_put(struct ks_records *r, const struct ks_cache_window *w,
		    const _Atomic uint64_t *seq, enum ks_table t, const void *rec, bool found)
{
	uint64_t hash = ks_records_hash(t, rec);
	struct shard *s = shard_of(r, hash);
	struct dentry_node *dn;
	struct node *e;

	KS_LOCKED(&s->mu);
	/* A commit that is applied from now on waits for the shard, and changes what is stored here. */
	if (seq && atomic_load(seq) != w->seq)
		return;
	if (!found && t == KS_T_DENTRY &&
	    is_whole(r, w->gen, ((const struct ks_rec_dentry *)rec)->parent)) {
		forget_name(r, s, hash, rec);
		return;
	}
	if (found && !storable(t, rec)) {
		struct node **at = find(s, t, hash, rec);

		if (at)
			unhang(r, s, at);
		lost(r, t, rec);
		return;
	}
	e = obtain(r, s, t, hash, rec, w->gen);
	if (!e) {
		if (found)
			lost(r, t, rec);
		return;
	}
	e->gen = w->gen;
	e->found = found;
	if (t == KS_T_INODE) {
		/* The key of an absent one, too. */
		((struct inode_node *)(void *)e)->rec = *(const struct ks_rec_inode *)rec;
	} else {
		dn = (struct dentry_node *)(void *)e;
		dn->ino = found ? ((const struct ks_rec_dentry *)rec)->ino : 0;
		dn->type = found ? ((const struct ks_rec_dentry *)rec)->type : 0;
	}
}

void ks_records_drop(struct ks_records *r, enum ks_table t, const void *key)
{
	uint64_t hash = ks_records_hash(t, key);
	struct shard *s = shard_of(r, hash);
	struct node **at;

	KS_LOCKED(&s->mu);
	at = find(s, t, hash, key);
	if (at)
		unhang(r, s, at);
}

/* ks_upd_apply() as long as it and SQL agree: a sum or a column that is too small for its value is left to the database to judge. */
static bool update_agrees(const struct ks_rec_inode *rec, const struct ks_upd *u)
{
	const struct ks_col *c = ks_col_at(KS_T_INODE, u->col_off);
	int64_t v = u->value;

	if (u->op == KS_UPD_ADD && __builtin_add_overflow(v, ks_rec_int(rec, c), &v))
		return false;
	if (u->op == KS_UPD_SET && v < 0 && ks_col_is_unsigned(c))
		return false;
	return c->type != KS_COL_U32 || v <= UINT32_MAX;
}

void ks_records_update(struct ks_records *r, uint64_t gen, const struct ks_rec_inode *key,
		       const struct ks_upd *u, unsigned int n)
{
	uint64_t hash = ks_records_hash(KS_T_INODE, key);
	struct shard *s = shard_of(r, hash);
	struct ks_rec_inode *rec;
	struct node **at;

	KS_LOCKED(&s->mu);
	at = find(s, KS_T_INODE, hash, key);
	if (!at)
		return;
	rec = &((struct inode_node *)(void *)*at)->rec;
	for (unsigned int i = 0; i < n; i++) {
		/* One that is updated cannot be absent: then do not trust it. */
		if ((*at)->gen != gen || !(*at)->found || !update_agrees(rec, &u[i])) {
			unhang(r, s, at);
			return;
		}
		ks_upd_apply(KS_T_INODE, rec, &u[i], 1);
	}
}
