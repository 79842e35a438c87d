/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite_cache.c: inodes and dentries that this process has just read or written, answered without a system call, and never stale.
 *
 * A state of the database is named by four words of the header of its WAL-index, which every process maps: the log's two salts, the length of the
 * log (mxFrame), and the count of commits (iChange). A commit of any process lengthens the log, or starts it over with new salts; nothing
 * else moves them, save recovery after a crash. Recovery sets the count back, so that the count alone could come by the same number twice; salts and
 * length it takes from the log itself. So a name never comes back, but for salts of 0, which a recovery finds in an empty log: they name nothing, and the cache
 * rests until the first commit. And as long as the header shows the name that the cache is right for, the
 * cache is right. A rolled back transaction and a checkpoint leave the name alone; one that truncates the log, or a recovery, change it without a
 * change of content: then the cache is emptied for nothing.
 *
 *	A hit	reads seq, compares the header, looks up, and reads seq again: unchanged, all of its look-ups are from the state that was
 *		current when the header was compared.
 *	A fill	compares the header before and after SQLite's read: the same, so was the snapshot's. It is stored under the shard's lock only
 *		while seq is unchanged: no commit was applied before that the record does not have; one that comes later changes it.
 *	A commit	of our own makes seq odd (nobody hits or fills), commits, works out the new name without looking at the header, where a foreign
 *		commit may be already (the length is told by SQLite's hook, new salts are seen as they are written to the log, the count
 *		goes up by one), applies its writes, names the new state, makes seq even. Only then are results delivered.
 *	A body	runs while no other process can commit; the header was compared when the transaction began. What earlier bodies of the
 *		same transaction wrote is left to SQLite (the filter `dirty`).
 *	A counter	is kept for bodies only, from one transaction to the next: what most changes look at, and few change.
 *	A mismatch	while seq is even and mu is free is a foreign commit: the generation goes up, which empties the cache.
 *	A failed COMMIT	may have started the log over: the cache is emptied.
 *
 * Locks: mu is taken by the holder of the writer from before its COMMIT until its writes are applied, by readers only if it is free.
 * Source: sqlite.org/walformat.html section 2.1, "The WAL-Index Header".
 */
#include "base/array.h"
#include "meta/sqlite.h"

#include <string.h>
#include <sys/stat.h>

#define BYTES_DEFAULT (16 * KS_MIB)
#define HEADER_WORDS 12 /* of one copy; the other follows */
#define LOG_MAX                                                                                    \
	4096 /* writes of one transaction that are remembered; with more the cache is emptied */
#define NO_STATE UINT64_MAX /* no state is named so: a log is not that long */

/* ---- states ---- */

static uint64_t salt_of(const uint32_t *w)
{
	return w[8] | (uint64_t)w[9] << 32;
}

static uint64_t pos_of(const uint32_t *w)
{
	return w[4] | (uint64_t)w[2] << 32;
}

static bool header_shows(const struct ks_sqlite_cache *c, uint64_t salt, uint64_t pos)
{
	const volatile uint32_t *w = c->header;

	return (w[4] | (uint64_t)w[2] << 32) == pos && (w[8] | (uint64_t)w[9] << 32) == salt;
}

/* False: somebody is writing it. */
static bool read_header(const struct ks_sqlite_cache *c, uint64_t *salt, uint64_t *pos)
{
	uint32_t w[2 * HEADER_WORDS];

	for (int i = 0; i < 2 * HEADER_WORDS; i++)
		w[i] = c->header[i];
	*salt = salt_of(w);
	*pos = pos_of(w);
	return memcmp(w, w + HEADER_WORDS, sizeof(w) / 2) == 0;
}

struct ks_log_state ks_sqlite_log_state(const struct ks_sqlite *sq)
{
	struct ks_log_state s = { 0 };

	s.known = sq->cache.header && read_header(&sq->cache, &s.salt, &s.pos) && s.salt;
	return s;
}

/* Needs mu. */
static void forget(struct ks_sqlite_cache *c)
{
	atomic_fetch_add(&c->gen, 1);
}

/* Needs mu. Names the state that is current now. */
static void start_over(struct ks_sqlite *sq)
{
	struct ks_sqlite_cache *c = &sq->cache;
	uint64_t salt, pos;

	/* A state that is not the one it was is another process's. Where none was known, SQLite has to be asked. */
	if (atomic_load(&c->salt) == NO_STATE)
		atomic_store(&sq->foreign_known, false);
	else
		atomic_fetch_add(&sq->foreign, 1);
	atomic_fetch_add(&c->seq, 1);
	forget(c);
	if (!read_header(c, &salt, &pos) || !salt)
		salt = pos = NO_STATE;
	atomic_store(&c->salt, salt);
	atomic_store(&c->pos, pos);
	atomic_fetch_add(&c->seq, 1);
}

static bool look(const struct ks_sqlite_cache *c, struct ks_cache_window *w)
{
	w->seq = atomic_load(&c->seq);
	w->gen = atomic_load(&c->gen);
	w->salt = atomic_load(&c->salt);
	w->pos = atomic_load(&c->pos);
	w->on = w->seq % 2 == 0 && header_shows(c, w->salt, w->pos);
	return w->on;
}

bool ks_sqlite_cache_look(struct ks_sqlite *sq, struct ks_cache_window *w)
{
	struct ks_sqlite_cache *c = &sq->cache;

	w->on = false;
	if (!c->header)
		return false;
	if (look(c, w))
		return true;
	if (w->salt == NO_STATE && !(c->header[8] | c->header[9]))
		return false;
	/* Taken: a commit of our own is on its way. */
	if (w->seq % 2 || pthread_mutex_trylock(&c->mu))
		return false;
	if (atomic_load(&c->seq) == w->seq)
		start_over(sq);
	ks_mutex_unlock(&c->mu);
	return look(c, w);
}

/* ---- reads ---- */

static bool is_cached(enum ks_table t)
{
	return t == KS_T_INODE || t == KS_T_DENTRY;
}

static bool is_dirty(const struct ks_sqlite_cache *c, enum ks_table t, const void *key)
{
	uint64_t bit = ks_records_hash(t, key) % KS_CACHE_DIRTY_BITS;

	return c->log_overflow || (c->dirty[bit / 64] >> (bit % 64) & 1);
}

/* @in_txn: what the transaction has written is not looked for here. */
static bool look_up(struct ks_sqlite_cache *c, const struct ks_cache_window *w,
		    const struct ks_read *r, bool in_txn, struct ks_cached *out)
{
	struct ks_rec_inode to;

	if (!is_cached(r->table) || (in_txn && is_dirty(c, r->table, r->rec)))
		return false;
	if (!ks_records_get(c->records, w->gen, r->table, r->rec, out))
		return false;
	if (!(r->flags & KS_READ_FOLLOW) || !out->dentry_found)
		return true;
	to.ino = out->ino;
	return !(in_txn && is_dirty(c, KS_T_INODE, &to)) &&
	       ks_records_get(c->records, w->gen, KS_T_INODE, &to, out);
}

static void deliver(struct ks_read *r, const struct ks_cached *got)
{
	struct ks_rec_dentry *d = r->rec;

	if (r->table == KS_T_INODE) {
		r->found = got->inode_found;
		if (r->found)
			memcpy(r->rec, &got->inode, sizeof(got->inode));
		return;
	}
	r->found = got->dentry_found;
	if (r->found) {
		d->ino = got->ino;
		d->type = got->type;
	}
	if (!(r->flags & KS_READ_FOLLOW))
		return;
	if (r->found && got->inode_found)
		*r->inode = got->inode;
	else
		*r->inode = (struct ks_rec_inode){ 0 };
}

bool ks_sqlite_cache_serve(struct ks_sqlite *sq, const struct ks_cache_window *w, struct ks_read *r,
			   size_t n)
{
	struct ks_cached got[KS_CACHE_READS_MAX];
	struct ks_sqlite_cache *c = &sq->cache;
	size_t i = 0;

	if (!w->on || n > KS_CACHE_READS_MAX)
		return false;
	while (i < n && is_cached(r[i].table))
		i++;
	if (i < n)
		return false;
	i = 0;
	while (i < n && look_up(c, w, &r[i], false, &got[i]))
		i++;
	if (i < n || atomic_load(&c->seq) != w->seq) {
		atomic_fetch_add_explicit(&sq->base.cache_misses, n, memory_order_relaxed);
		return false;
	}
	for (i = 0; i < n; i++)
		deliver(&r[i], &got[i]);
	atomic_fetch_add_explicit(&sq->base.cache_hits, n, memory_order_relaxed);
	return true;
}

void ks_sqlite_cache_fill(struct ks_sqlite *sq, const struct ks_cache_window *w,
			  const struct ks_read *r)
{
	struct ks_sqlite_cache *c = &sq->cache;
	struct ks_rec_inode to = { 0 };

	if (!w->on || !is_cached(r->table) || !header_shows(c, w->salt, w->pos))
		return;
	ks_records_put(c->records, w, &c->seq, r->table, r->rec, r->found);
	if (!(r->flags & KS_READ_FOLLOW) || !r->found)
		return;
	to.ino = ((const struct ks_rec_dentry *)r->rec)->ino;
	if (r->inode->ino)
		ks_records_put(c->records, w, &c->seq, KS_T_INODE, r->inode, true);
	else
		ks_records_put(c->records, w, &c->seq, KS_T_INODE, &to, false);
}

/* ---- the writer ---- */

void ks_sqlite_cache_begin(struct ks_sqlite *sq)
{
	struct ks_sqlite_cache *c = &sq->cache;

	c->txn.on = false;
	if (!c->header)
		return;
	c->txns++;
	if (c->nlog || c->log_overflow) {
		ks_arena_reset(&c->log_mem);
		memset(c->dirty, 0, sizeof(c->dirty));
		c->log = NULL;
		c->nlog = c->caplog = 0;
		c->log_overflow = false;
	}
	if (!look(c, &c->txn)) {
		/* Since the transaction has begun, the header stands still. */
		ks_mutex_lock(&c->mu);
		if (!look(c, &c->txn)) {
			start_over(sq);
			look(c, &c->txn);
		}
		ks_mutex_unlock(&c->mu);
	}
	c->own_salt = c->txn.salt;
	c->own_pos = c->txn.pos;
}

bool ks_sqlite_cache_is_own(struct ks_sqlite *sq, const struct ks_cache_window *w)
{
	return w->on && w->salt == sq->cache.own_salt && w->pos == sq->cache.own_pos;
}

static bool is_name(const struct ks_cache_counter *k, struct ks_bytes name)
{
	return name.n < sizeof(k->name) && memcmp(k->name, name.p, name.n) == 0 && !k->name[name.n];
}

/* @make: the place of one that this transaction has not written; it forgets about that one. NULL: there is none. */
static struct ks_cache_counter *counter(struct ks_sqlite_cache *c, struct ks_bytes name, bool make)
{
	struct ks_cache_counter *k, *free = NULL;

	for (k = c->counters; k < c->counters + KS_CACHE_COUNTERS; k++) {
		if (is_name(k, name))
			return k;
		if (k->txn != c->txns && (!free || k->gen < free->gen))
			free = k;
	}
	if (!make || !free || name.n >= sizeof(free->name))
		return NULL;
	memset(free, 0, sizeof(*free));
	memcpy(free->name, name.p, name.n);
	return free;
}

static bool counter_read(struct ks_sqlite_cache *c, struct ks_read *r)
{
	struct ks_rec_counter *rec = r->rec;
	const struct ks_cache_counter *k = counter(c, rec->name, false);

	if (!k || k->gen != c->txn.gen + 1)
		return false;
	rec->value = k->value;
	r->found = true;
	return true;
}

/* What this transaction has written may still be rolled back. */
static void counter_fill(struct ks_sqlite_cache *c, const struct ks_read *r)
{
	const struct ks_rec_counter *rec = r->rec;
	struct ks_cache_counter *k = r->found ? counter(c, rec->name, true) : NULL;

	if (!k || k->txn == c->txns)
		return;
	k->value = rec->value;
	k->gen = c->txn.gen + 1;
}

static void counter_written(struct ks_sqlite_cache *c, const struct ks_write *w)
{
	const struct ks_rec_counter *rec = w->rec;
	struct ks_cache_counter *k;

	k = w->kind == KS_W_DEL_PREFIX ? NULL : counter(c, rec->name, true);
	if (k) {
		k->gen = 0;
		k->txn = c->txns;
		return;
	}
	for (k = c->counters; k < c->counters + KS_CACHE_COUNTERS; k++) {
		k->gen = 0;
		k->txn = c->txns;
	}
}

bool ks_sqlite_cache_txn_read(struct ks_sqlite *sq, struct ks_read *r)
{
	struct ks_sqlite_cache *c = &sq->cache;
	struct ks_cached got;

	if (c->txn.on && r->table == KS_T_COUNTER)
		return counter_read(c, r);
	if (!c->txn.on || !is_cached(r->table))
		return false;
	if (!look_up(c, &c->txn, r, true, &got)) {
		atomic_fetch_add_explicit(&sq->base.cache_misses, 1, memory_order_relaxed);
		return false;
	}
	deliver(r, &got);
	atomic_fetch_add_explicit(&sq->base.cache_hits, 1, memory_order_relaxed);
	return true;
}

void ks_sqlite_cache_txn_fill(struct ks_sqlite *sq, const struct ks_read *r)
{
	struct ks_sqlite_cache *c = &sq->cache;
	struct ks_rec_inode to;

	if (c->txn.on && r->table == KS_T_COUNTER)
		counter_fill(c, r);
	if (!c->txn.on || !is_cached(r->table) || is_dirty(c, r->table, r->rec))
		return;
	if (r->found && (r->flags & KS_READ_FOLLOW)) {
		to.ino = ((const struct ks_rec_dentry *)r->rec)->ino;
		if (is_dirty(c, KS_T_INODE, &to))
			return;
	}
	ks_sqlite_cache_fill(sq, &c->txn, r);
}

static struct ks_write *log_add(struct ks_sqlite_cache *c)
{
	if (c->nlog == LOG_MAX || ks_arena_room(&c->log_mem, &c->log, c->nlog, &c->caplog) < 0)
		return NULL;
	return &c->log[c->nlog++];
}

static bool log_write(struct ks_sqlite_cache *c, const struct ks_write *w)
{
	const struct ks_table_desc *d = &ks_tables[w->table];
	bool whole = w->kind == KS_W_INSERT || w->kind == KS_W_PUT;
	uint64_t bit = ks_records_hash(w->table, w->rec) % KS_CACHE_DIRTY_BITS;
	struct ks_write *l;

	/* Of a prefix the bits are not known. */
	if (w->kind == KS_W_DEL_PREFIX && w->nprefix < d->nkey)
		return false;
	l = log_add(c);
	if (!l)
		return false;
	*l = *w;
	l->rec = ks_rec_dup(&c->log_mem, w->table, w->rec, whole ? d->ncol : d->nkey);
	l->upd = w->nupd ? ks_arena_copy(&c->log_mem, w->upd, w->nupd * sizeof(*w->upd)) : NULL;
	c->dirty[bit / 64] |= 1ull << (bit % 64);
	return l->rec && (l->upd || !w->nupd);
}

void ks_sqlite_cache_log(struct ks_sqlite *sq, const struct ks_txn *t)
{
	struct ks_sqlite_cache *c = &sq->cache;

	for (uint32_t i = 0; c->header && i < t->nw; i++) {
		if (t->w[i].table == KS_T_COUNTER)
			counter_written(c, &t->w[i]);
		else if (!c->log_overflow && is_cached(t->w[i].table) &&
			 t->w[i].kind != KS_W_NEED_EMPTY)
			c->log_overflow = !log_write(c, &t->w[i]);
	}
}

static void apply(struct ks_sqlite_cache *c, const struct ks_write *w)
{
	struct ks_cache_window now = { .gen = atomic_load(&c->gen) };

	switch ((enum ks_write_kind)w->kind) {
	case KS_W_INSERT:
	case KS_W_PUT:
		ks_records_put(c->records, &now, NULL, w->table, w->rec, true);
		break;
	case KS_W_DEL:
	case KS_W_DEL_PREFIX:
		/* A name that is gone is often made again, an inode never. */
		if (w->table == KS_T_DENTRY)
			ks_records_put(c->records, &now, NULL, w->table, w->rec, false);
		else
			ks_records_drop(c->records, w->table, w->rec);
		break;
	case KS_W_UPDATE:
		if (w->table == KS_T_INODE)
			ks_records_update(c->records, now.gen, w->rec, w->upd, w->nupd);
		else
			ks_records_drop(c->records, w->table, w->rec);
		break;
	case KS_W_NEED_EMPTY:
		break;
	}
}

/* Directories that have been made, before their names come. */
static void mark_new_dirs(struct ks_sqlite_cache *c)
{
	for (uint32_t i = 0; i < c->nlog; i++) {
		const struct ks_write *w = &c->log[i];
		const struct ks_rec_inode *n = w->rec;

		if (w->kind == KS_W_INSERT && w->table == KS_T_INODE && S_ISDIR(n->mode))
			ks_records_mark_whole(c->records, atomic_load(&c->gen), n->ino);
	}
}

void ks_sqlite_cache_commit(struct ks_sqlite *sq)
{
	struct ks_sqlite_cache *c = &sq->cache;

	if (!c->header)
		return;
	ks_mutex_lock(&c->mu);
	atomic_fetch_add(&c->seq, 1);
	c->frames = 0;
	if (!ks_sqlite_log_headers(sq->run.conn->db, &c->log_headers, &c->log_salt))
		c->txn.on = false;
}

void ks_sqlite_cache_committed(struct ks_sqlite *sq, bool ok)
{
	struct ks_sqlite_cache *c = &sq->cache;
	uint64_t headers, salt;
	bool same;

	if (!c->header)
		return;
	same = ok && c->txn.on && !c->log_overflow;
	headers = c->log_headers;
	if (!ks_sqlite_log_headers(sq->run.conn->db, &c->log_headers, &c->log_salt) ||
	    (!c->frames && c->log_headers != headers))
		same = false;
	if (same) {
		mark_new_dirs(c);
		for (uint32_t i = 0; i < c->nlog; i++)
			apply(c, &c->log[i]);
	} else {
		forget(c);
	}
	/* After an overflow the state is known all the same. */
	if (!ok || !c->txn.on) {
		atomic_store(&c->salt, NO_STATE);
		atomic_store(&c->pos, NO_STATE);
	} else if (c->frames) {
		salt = c->log_headers != headers ? c->log_salt : c->txn.salt;
		atomic_store(&c->salt, salt ? salt : NO_STATE);
		atomic_store(&c->pos, c->frames | (((c->txn.pos >> 32) + 1) & UINT32_MAX) << 32);
	}
	c->own_salt = atomic_load(&c->salt);
	c->own_pos = atomic_load(&c->pos);
	atomic_fetch_add(&c->seq, 1);
	ks_mutex_unlock(&c->mu);
	c->txn.on = false;
}

/* ---- life ---- */

int ks_sqlite_cache_open(struct ks_sqlite *sq, struct ks_sqlite_conn *conn, uint64_t bytes)
{
	struct ks_sqlite_cache *c = &sq->cache;
	void volatile *p = NULL;
	sqlite3_file *f = NULL;
	int r;

	/* Without a log there is no WAL-index, and asking for it would make one. */
	if (bytes == KS_NO_CACHE || sq->uri ||
	    !ks_sqlite_log_headers(conn->db, &c->log_headers, &c->log_salt))
		return 0;
	if (sqlite3_file_control(conn->db, "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK ||
	    !f || !f->pMethods || f->pMethods->iVersion < 2 ||
	    f->pMethods->xShmMap(f, 0, 32768, 0, &p) != SQLITE_OK || !p)
		return 0;
	r = ks_records_new(&c->records, bytes ? bytes : BYTES_DEFAULT);
	if (r < 0)
		return r;
	c->header = p;
	atomic_store(&c->salt, NO_STATE);
	atomic_store(&c->pos, NO_STATE);
	return 0;
}

void ks_sqlite_cache_close(struct ks_sqlite *sq)
{
	ks_records_free(sq->cache.records);
	ks_arena_clear(&sq->cache.log_mem);
}
