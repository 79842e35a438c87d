/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_ops.h: what an engine supplies. Included by engines and engine.c only.
 *
 * A new engine is one file with a `const struct ks_engine_ops ks_engine_NAME_ops` and one line KS_ENGINE(NAME) in
 * engines.def; tests/conformance then judges it. engine.c keeps the transaction's buffered writes and read set, counts the round
 * trips, and repeats bodies that lost a race.
 */
#ifndef KS_META_ENGINE_OPS_H
#define KS_META_ENGINE_OPS_H

#include "meta/engine.h"
#include <stdatomic.h>

/* First member of every engine's own struct. */
struct ks_engine {
	const struct ks_engine_ops *ops;
	int64_t busy_timeout_ns; /* this and readonly: set by ks_engine_open() once ops->open has returned */
	bool readonly;           /* a body that wants to write fails with -EROFS */
	_Atomic uint64_t reads, scans, commits, bodies, retries, batches;
	_Atomic uint64_t cache_hits, cache_misses;
};

enum ks_write_kind {
	KS_W_INSERT,
	KS_W_PUT,
	KS_W_DEL,
	KS_W_DEL_PREFIX,
	KS_W_UPDATE,
	KS_W_NEED_EMPTY
};

/* One buffered write; all memory is the transaction's arena. */
struct ks_write {
	uint8_t kind;
	uint8_t table;
	uint8_t nprefix; /* DEL_PREFIX, NEED_EMPTY */
	uint8_t nupd;
	void *rec; /* a whole record of the table's struct; UPDATE and DEL: only its key counts */
	struct ks_upd *upd;
};

/*
 * One thing a body has read and depends on, for engines without a writer lock. A point read: the record as it was (or its absence);
 * WEAK: only that it was there or not. A scan: the prefix and the records seen.
 */
struct ks_seen {
	uint8_t table;
	bool weak, found;
	void *rec;                 /* arena copy: key, and values when found and not weak */
	struct ks_seen_scan *scan; /* non-NULL: a range instead */
};

struct ks_seen_scan {
	struct ks_scan
		s; /* from points into the arena; fn and arg are the original's and not to be called */
	uint64_t hash, n; /* of the records seen, in order */
	bool complete;    /* it ran to the end of the range */
	void *last;       /* else: the last record seen */
};

struct ks_txn {
	struct ks_engine *e;
	struct ks_arena arena;
	struct ks_write *w; /* arena; grown by doubling */
	size_t nw, capw;
	struct ks_seen *seen;
	size_t nseen, capseen;
	uint32_t
		batches; /* read batches that left something in seen: one is a snapshot and needs no proof */
	int err;     /* -ENOMEM of a buffered write */
	bool locked; /* the engine's run() holds the writer: nothing need be recorded in seen */
};

struct ks_engine_ops {
	const char *scheme;
	const char *help;
	bool snapshots; /* open knows what to do with the option of that name */

	int (*open)(struct ks_engine **out, const char *rest, const struct ks_engine_opts *opts);
	void (*close)(struct ks_engine *e);

	/*
	 * One round trip: the point reads, then the scans, all of one snapshot.
	 * @t: the transaction whose body asks, or NULL: a snapshot of its own.
	 */
	int (*fetch)(struct ks_engine *e, struct ks_txn *t, struct ks_read *r, size_t n,
		     const struct ks_scan *s, size_t ns, struct ks_arena *a);

	bool (*peek)(struct ks_engine *e, struct ks_read *r); /* NULL: never */

	/*
	 * Exactly one of the two. commit: apply t->w if everything in t->seen still holds, else -EAGAIN (t->w may be empty: only prove).
	 * run: the whole transaction, body included, once; it calls ks_txn_start() and ks_txn_end() around each body, and
	 * returns -EAGAIN when the body asked for it or a condition of its writes did not hold. engine.c repeats both.
	 */
	int (*commit)(struct ks_engine *e, struct ks_txn *t);
	int (*run)(struct ks_engine *e, ks_body_fn *body, void *arg);

	uint64_t (*sync_begin)(struct ks_engine *e); /* NULL: nothing to begin with */
	int (*sync)(struct ks_engine *e, uint64_t begun);
	uint64_t (*foreign_version)(struct ks_engine *e); /* NULL: cannot say */
	uint64_t (*size_bytes)(struct ks_engine *e);
	bool (*is_full)(struct ks_engine *e); /* NULL: never */
};

/* For run(): a transaction from the engine's own reused storage. */
void ks_txn_start(struct ks_txn *t, struct ks_engine *e, bool locked);
void ks_txn_end(struct ks_txn *t); /* keeps the arena's first piece */

/* ---- what several engines need ---- */

/* A copy of the first @ncol columns, bytes included; the other columns are 0. NULL: out of memory. */
void *ks_rec_dup(struct ks_arena *a, enum ks_table t, const void *rec, unsigned int ncol);
/* Of one record that a scan has seen, chained: its key when WEAK, else all, and what it leads to with FOLLOW. */
uint64_t ks_seen_hash(uint64_t h, const struct ks_scan *s, const void *rec,
		      const struct ks_rec_inode *inode);
const struct ks_col *ks_col_at(enum ks_table t, uint16_t off);
void ks_upd_apply(enum ks_table t, void *rec, const struct ks_upd *u, unsigned int n);
static inline bool ks_col_is_unsigned(const struct ks_col *c)
{
	return c->type == KS_COL_U64 || c->type == KS_COL_U32;
}

#define KS_ENGINE(x) extern const struct ks_engine_ops ks_engine_##x##_ops;
#include "meta/engines.def"
#undef KS_ENGINE

#endif
