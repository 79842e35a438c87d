/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine.h: the narrow interface between metadata semantics and a database.
 *
 * Semantics are written once, as bodies: a body reads in batches, decides, and buffers writes; the engine makes the
 * writes visible together or not at all. Every batch is one round trip on a network engine:
 *
 *	read  one batch of point reads, each of which may follow a dentry to its inode (a join), or scan a key prefix
 *	commit  one conditional write of everything the body buffered
 *
 * so a read operation costs one trip and a mutating one two. The engine wrapper counts them, and a test holds every operation to it.
 *
 * Two kinds of engines stand behind it. One with a writer lock of its own (SQLite) supplies run(): whoever holds the writer runs
 * every waiting body, each with its own buffered writes, in one transaction (flat combining); conditions hold by construction.
 * One without (memory, later Postgres and Redis) reads optimistically: the commit carries what was read strictly, and is refused with -EAGAIN
 * when any of it changed, whereupon the body runs again. So a body touches nothing outside the transaction but its own argument, which it
 * fills anew each run, does not assert on what it reads, and may run on another thread than its caller's.
 */
#ifndef KS_META_ENGINE_H
#define KS_META_ENGINE_H

#include "base/buf.h"
#include "meta/record.h"

struct ks_engine;
struct ks_txn;

/*
 * A point read. @rec has its key columns set by the caller; value columns are filled when found. Bytes live in the
 * transaction's (or the caller's) arena.
 */
enum {
	KS_READ_WEAK =
		1 << 0, /* the commit does not depend on the value, only on whether it exists */
	KS_READ_FOLLOW = 1 << 1,   /* a dentry: also read its inode into @inode */
	KS_READ_SNAPSHOT = 1 << 2, /* the commit does not depend on it at all (hints, counters) */
};

struct ks_read {
	enum ks_table table;
	unsigned int flags;
	void *rec;
	struct ks_rec_inode *
		inode; /* FOLLOW; ino 0: the inode is missing though the dentry is there (damage) */
	bool found;
};

/* A range read: every record whose first @nprefix key columns equal those of @from, in key order. */
struct ks_scan {
	enum ks_table table;
	unsigned int
		flags; /* WEAK and SNAPSHOT as above; FOLLOW: a dentry's inode goes to fn, an extent's slice to @slice */
	struct ks_rec_slice *
		slice; /* FOLLOW of extents: filled before each call of fn; id 0: a hole, or missing */
	const void *from;
	unsigned int nprefix; /* < nkey */
	unsigned int
		nafter; /* further key columns of @from: start after these (0: at the start of the prefix) */
	bool reverse;   /* from the end; nafter then means before */
	uint64_t limit; /* 0: all */
	/* @rec and @inode live until fn returns; bytes live in the arena. Return 0 to go on, 1 to stop, <0 to fail. */
	int (*fn)(void *arg, const void *rec, const struct ks_rec_inode *inode);
	void *arg;
};

/* ---- outside a transaction: one consistent snapshot per call, one round trip ---- */

int ks_engine_read(struct ks_engine *e, struct ks_read *r, size_t n,
		   struct ks_arena *a) KS_MUST_CHECK;
int ks_engine_scan(struct ks_engine *e, const struct ks_scan *s, struct ks_arena *a) KS_MUST_CHECK;
/* A record that this process has in memory, as it is now: no trip. False: it cannot say. */
bool ks_engine_peek(struct ks_engine *e, struct ks_read *r) KS_MUST_CHECK;
/* Both in one snapshot and one trip: the point reads are done before the first scan calls its fn. */
int ks_engine_fetch(struct ks_engine *e, struct ks_read *r, size_t n, const struct ks_scan *s,
		    size_t ns, struct ks_arena *a) KS_MUST_CHECK;

/* ---- in a body ---- */

int ks_txn_read(struct ks_txn *t, struct ks_read *r, size_t n) KS_MUST_CHECK; /* one trip */
int ks_txn_scan(struct ks_txn *t, const struct ks_scan *s) KS_MUST_CHECK;     /* one trip */
int ks_txn_fetch(struct ks_txn *t, struct ks_read *r, size_t n, const struct ks_scan *s,
		 size_t ns) KS_MUST_CHECK; /* both in one trip */
/*
 * The inodes on the ways up from each of @from by their parent column, @from[i] itself first, until one is missing, has the parent 0 or itself, or fn
 * returns 1. One trip. The commit does not depend on what is seen: the caller reads a record strictly that whoever moves directories changes.
 */
int ks_txn_ancestors(struct ks_txn *t, const uint64_t *from, size_t n,
		     int (*fn)(void *arg, const struct ks_rec_inode *inode),
		     void *arg) KS_MUST_CHECK;
struct ks_arena *ks_txn_arena(struct ks_txn *t); /* dies with the run of the body */

/*
 * Writes are buffered (records and bytes are copied) and applied in order at the commit; they are not seen by reads of the same body.
 * They fail only for want of memory, which the commit then reports: so they return nothing to check. Conditions (insert, update,
 * need_empty) are judged when their turn comes in that order; one that does not hold means that the body has decided
 * without looking: it runs again, and when that does not help within the engine's bound, the operation fails with -EIO, raised.
 */
void ks_txn_insert(struct ks_txn *t, enum ks_table tb,
		   const void *rec);                                  /* must not exist at commit */
void ks_txn_put(struct ks_txn *t, enum ks_table tb, const void *rec); /* insert or replace */
void ks_txn_del(struct ks_txn *t, enum ks_table tb, const void *key); /* may be absent */
void ks_txn_del_prefix(struct ks_txn *t, enum ks_table tb, const void *key, unsigned int nprefix);
/*
 * Commutative: no read of the record is needed and two of them never conflict. The record must exist at commit, or the body runs again
 * (KS_T_COUNTER: it is made, from 0). An update changes several columns of one record at once. ADD stops at 0 in a column
 * of an unsigned type: a count that was wrong stays readable, and fsck recounts it.
 */
enum ks_upd_op { KS_UPD_SET, KS_UPD_ADD, KS_UPD_MAX };
struct ks_upd {
	uint16_t col_off; /* offsetof the column in the record's struct; integers only */
	uint16_t op;
	int64_t value;
};
void ks_txn_update(struct ks_txn *t, enum ks_table tb, const void *key, const struct ks_upd *u,
		   unsigned int n);
/* Condition: no record with this prefix exists at commit (rmdir beside create). */
void ks_txn_need_empty(struct ks_txn *t, enum ks_table tb, const void *key, unsigned int nprefix);

/*
 * A body returns 0 to commit, -errno to abort (nothing is written, the error is the operation's), or -EAGAIN to run again.
 */
typedef int ks_body_fn(struct ks_txn *t, void *arg);

/**
 * ks_engine_run() - run a body as one serialisable transaction
 *
 * Return: what the body returned; -ENOSPC the database's disk is full; -EROFS; -EIO and others, raised.
 * Threads: any; not from within a body. Blocks while another process holds the database, up to the engine's deadline, then -EBUSY, raised.
 */
int ks_engine_run(struct ks_engine *e, ks_body_fn *body, void *arg) KS_MUST_CHECK;

/* Everything committed before the call survives a power cut. Concurrent callers share the work. */
int ks_engine_sync(struct ks_engine *e) KS_MUST_CHECK;
/*
 * The same in two halves, with other work between: everything committed before the first survives once the second has returned 0. Who gives up after the
 * first owes nothing.
 */
uint64_t ks_engine_sync_begin(struct ks_engine *e);
int ks_engine_sync_end(struct ks_engine *e, uint64_t begun) KS_MUST_CHECK;

/* ---- life ---- */

#define KS_NO_CACHE UINT64_MAX

struct ks_engine_opts {
	bool create; /* make the schema; -EEXIST when a volume is there */
	bool readonly;
	/*
	 * All reads see the state at the open, however long it takes, while others write; readonly too. It holds the log of the others back. An engine without
	 * such snapshots refuses with -ENOTSUP, raised.
	 */
	bool snapshot;
	int64_t busy_timeout_ns; /* how long another process's lock is waited for; 0: 60 s */
	uint64_t mmap_bytes;     /* SQLite: how much of the database may be mapped; 0: default */
	uint64_t cache_bytes;    /* SQLite: most that records kept in memory may take; 0: default */
};

/**
 * ks_engine_open() - @url is "sqlite:///abs/path" or "mem://name" (one memory volume per name and process)
 * Return: 0; -ENOENT no such database; -EEXIST with @create; -EBADMSG not a Kiseki database or corrupted; -errno, raised.
 */
int ks_engine_open(struct ks_engine **out, const char *url,
		   const struct ks_engine_opts *opts) KS_MUST_CHECK;
void ks_engine_close(struct ks_engine *e); /* NULL is fine */

/* The database's disk is full: what makes it grow fails with -ENOSPC, and other data should leave the rest of the disk to deletions. */
bool ks_engine_is_full(struct ks_engine *e);

/* A number that changes when another process has committed; 0: the engine cannot say. One trip, or none. */
uint64_t ks_engine_foreign_version(struct ks_engine *e);

struct ks_engine_stats {
	uint64_t reads, scans, commits; /* round trips */
	uint64_t bodies, retries;       /* bodies run; those that ran again after a lost race */
	uint64_t batches;    /* transactions of the database (bodies / batches = combining) */
	uint64_t size_bytes; /* what the database occupies */
	uint64_t cache_hits, cache_misses; /* point reads that memory answered, or could not */
};
void ks_engine_stats(struct ks_engine *e, struct ks_engine_stats *out);
void ks_engines(void (*fn)(void *arg, const char *scheme, const char *help), void *arg);

#endif
