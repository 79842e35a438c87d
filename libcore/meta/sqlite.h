/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sqlite.h: what the files of the SQLite engine share. Nobody else includes it.
 *
 *	engine_sqlite.c	 open, close, the table of functions, foreign changes
 *	sqlite_conn.c	 one connection: settings, busy wait, error texts, cached statements
 *	sqlite_schema.c	 tables and views, made and recognised
 *	sqlite_read.c	 point reads and scans, the pool of readers
 *	sqlite_cache.c	 inodes and dentries in memory: when they are right
 *	sqlite_records.c their table
 *	sqlite_apply.c	 one body's buffered writes
 *	sqlite_run.c	 the writer: flat combining
 *	sqlite_wal.c	 checkpoints
 *	sqlite_full.c	 what a full disk still takes
 *	sqlite_sync.c	 what makes commits durable
 *	sqlite_keep.c	 saves readers and the writer system calls
 *	sqlite_vfs.c	 writes a commit's frames with one system call, keeps the database mapped
 *
 * Locks, in order: the writer (run.holder), ckpt_mu, keep_mu, cache.mu, a shard of the records, then leaves: sync_mu, foreign_mu, ckpt_start_mu. A connection is used by one thread at a time: the
 * writer's by who holds it, a reader's by who took it, ckpt by who holds ckpt_mu, foreign by who holds foreign_mu.
 */
#ifndef KS_META_SQLITE_H
#define KS_META_SQLITE_H

#include "base/thread.h"
#include "meta/engine_ops.h"
#include <sqlite3.h>

#define KS_SQLITE_APPLICATION_ID 0x4b697365 /* "Kise" */
#define KS_SQLITE_VERSION 1
#define KS_SQLITE_READERS 16
/*
 * Of a new database. A transaction writes four pages or so to the log, copied and summed whole: the smaller the cheaper (2048 a seventh less than 4096), as long as
 * a name of 255 bytes stays inside its page (a quarter of it).
 */
#define KS_SQLITE_PAGE 2048

enum ks_sqlite_stmt_kind {
	KS_ST_BEGIN,
	KS_ST_BEGIN_IMMEDIATE,
	KS_ST_COMMIT,
	KS_ST_ROLLBACK,
	KS_ST_DATA_VERSION,
	KS_ST_SNAPSHOT, /* begun and not ended, it keeps what the connection sees */
	KS_ST_GET,
	KS_ST_GET_FOLLOW,
	KS_ST_INSERT,
	KS_ST_REPLACE,
	KS_ST_DEL, /* with nprefix: of a prefix */
	KS_ST_EXISTS,
	KS_ST_UPDATE,
	KS_ST_SCAN,
};

/* Prepared statements by shape: a small open hash table that is never emptied while the connection lives. */
struct ks_sqlite_stmt {
	uint64_t shape; /* 0: free */
	sqlite3_stmt *st;
};

struct ks_sqlite;

struct ks_sqlite_conn {
	struct ks_sqlite *sq;
	sqlite3 *db;
	sqlite3_stmt *fixed[KS_ST_GET]; /* those without a table */
	sqlite3_stmt *by_table[KS_ST_DEL + 1][KS_T_COUNT];
	struct ks_sqlite_stmt *cache;
	uint32_t ncache, capcache; /* a power of two */
	int64_t busy_since_ns;
	int64_t busy_limit_ns;
	bool readonly;
};

struct ks_sqlite_reader {
	_Atomic bool taken;
	struct ks_sqlite_conn *conn; /* by who took it */
	char apart[48];              /* from the next one's cache line */
};

/* A body with the connection that serves it. */
struct ks_sqlite_txn {
	struct ks_txn t;
	struct ks_sqlite_conn *conn;
};

struct ks_sqlite_req;
struct ks_records;

/* A state of the database, by its name in the header of the WAL-index (sqlite_cache.c). */
struct ks_log_state {
	uint64_t salt, pos;
	bool known;
};

/* The state that the cache was right for when a reader looked. */
struct ks_cache_window {
	uint64_t seq, gen;
	uint64_t salt, pos;
	bool on;
};

/* What was found of a read. */
struct ks_cached {
	bool dentry_found, inode_found;
	uint32_t type;
	uint64_t ino;
	struct ks_rec_inode inode;
};

#define KS_CACHE_DIRTY_BITS 4096
#define KS_CACHE_READS_MAX 8
#define KS_CACHE_COUNTERS 8

struct ks_cache_counter {
	char name[24];
	int64_t value;
	uint64_t gen; /* + 1: of the state it is right for; 0: it is not known */
	uint64_t txn; /* that wrote it */
};

struct ks_sqlite_cache {
	const volatile uint32_t *header; /* of the WAL-index; NULL: there is no cache */
	struct ks_records *records;
	pthread_mutex_t mu;    /* to change the next four */
	_Atomic uint64_t seq;  /* odd: they are about to change */
	_Atomic uint64_t gen;  /* of the records that count */
	_Atomic uint64_t salt; /* with pos: the state they are right for */
	_Atomic uint64_t pos;  /* the log's length, and above it the count of commits */

	/* By the holder: the state that the writer's connection saw last; the transaction's beginning, its writes, and what its COMMIT did. */
	uint64_t own_salt, own_pos;
	struct ks_cache_window txn;
	struct ks_arena log_mem;
	struct ks_write *log; /* in log_mem */
	size_t nlog, caplog;
	bool log_overflow; /* more was written than log says */
	uint64_t txns;
	struct ks_cache_counter counters[KS_CACHE_COUNTERS];
	uint64_t dirty[KS_CACHE_DIRTY_BITS / 64];
	uint32_t frames; /* the log's length after the COMMIT; 0: it wrote nothing */
	uint64_t log_headers, log_salt;
};

struct ks_sqlite {
	struct ks_engine base;
	char *path;
	char *wal_path;
	char *reserve_path;
	char *uri; /* immutable: the form to open; else NULL */
	int64_t busy_timeout_ns;
	uint64_t mmap_bytes;
	uint32_t log_frames; /* a log so long is worth stopping the writers to let it start over */
	bool making;         /* the database does not have its final name yet */
	bool readonly;
	pthread_mutex_t pin_mu;     /* recursive: a scan's callback may read */
	struct ks_sqlite_conn *pin; /* [pin_mu] the one connection of a snapshot; else NULL */

	struct {
		_Atomic bool holder;
		_Atomic(struct ks_sqlite_req *)
			waiting;                 /* pushed by callers, taken by the holder */
		struct ks_sqlite_req *inherited; /* by the holder */
		struct ks_sqlite_conn *conn;     /* by the holder */
		struct ks_sqlite_txn txn;        /* by the holder */
		int64_t data_version;            /* by the holder: of conn */
		_Atomic bool kept;               /* by the holder: conn keeps its snapshot */
		_Atomic bool keep_none;          /* it must not */
		uint32_t kept_frames;            /* by the holder: wal_frames when it began */
		int64_t begun_ns;                /* by the holder: the last transaction */
		_Atomic uint64_t in_txn;         /* odd: a transaction excludes other processes */
		_Atomic int waiters;
		int spinners;        /* so many waiters may spin */
		uint32_t stopped_at; /* by the holder: the log's length when writers waited last */
	} run;

	struct ks_sqlite_cache cache;

	_Atomic uint64_t foreign;
	_Atomic bool foreign_used;  /* somebody asks: so look with every transaction */
	_Atomic bool foreign_known; /* SQLite was asked since the cache was without a state */
	pthread_mutex_t foreign_mu;
	struct ks_sqlite_conn *foreign_conn; /* [foreign_mu] */
	int64_t foreign_seen;                /* [foreign_mu] */

	pthread_mutex_t ckpt_mu;
	struct ks_sqlite_conn *ckpt; /* [ckpt_mu] */
	pthread_mutex_t ckpt_start_mu;
	pthread_t ckpt_thread;     /* [ckpt_start_mu] */
	_Atomic bool ckpt_started; /* [ckpt_start_mu to change] */
	bool ckpt_warned;          /* by the thread */
	bool ckpt_failing;         /* [ckpt_mu] said once until it works again */
	bool ckpt_ok;              /* [ckpt_mu] the last one did all it was asked for */
	_Atomic int ckpt_bell;     /* futex: goes up to wake the thread */
	_Atomic bool ckpt_stop;
	_Atomic uint32_t ckpt_base;  /* frames the last checkpoint had copied */
	_Atomic uint32_t wal_frames; /* in the log after the last commit of ours */
	_Atomic bool wal_dirty;      /* committed since the last checkpoint began */
	_Atomic bool ckpt_rung;      /* the thread has been woken already */
	_Atomic int ckpt_rung_on;    /* 1 + the CPU of who rang last; 0: nobody */
	_Atomic bool ckpt_wanted;    /* the holder is to finish the log while nobody writes */

	_Atomic bool ckpt_full;   /* the last checkpoint found no room */
	_Atomic bool full;        /* the disk is: see sqlite_full.c */
	_Atomic bool reserve_was; /* the reserve has been there */

	pthread_mutex_t keep_mu;
	struct ks_sqlite_conn *keep; /* [keep_mu] */
	bool keep_on;                /* [keep_mu] it holds a snapshot */
	int64_t keep_since_ns;       /* [keep_mu] since when it does, or does not */
	uint32_t keep_frames;        /* [keep_mu] wal_frames when it began */
	int64_t keep_asked_ns;       /* [keep_mu] */

	pthread_mutex_t sync_mu;
	pthread_cond_t sync_cond;
	uint64_t sync_started, sync_done; /* [sync_mu] */
	bool sync_running;                /* [sync_mu] */
	uint64_t sync_failed;             /* [sync_mu] the last round that did, with this error */
	int sync_error;                   /* [sync_mu] */
	uint64_t sync_wanted; /* [sync_mu] rounds up to this one are the thread's business */
	bool sync_threaded, sync_stop; /* [sync_mu] */
	pthread_cond_t sync_bell;
	pthread_t sync_thread;
	int wal_fd; /* by who runs the sync */
	ino_t wal_ino;
	bool wal_suspect;               /* by who runs the sync: one has failed */
	struct ks_log_state wal_synced; /* by who runs the sync: durable, with all before it */

	struct ks_sqlite_reader readers[KS_SQLITE_READERS];
};

static inline struct ks_sqlite *ks_to_sqlite(struct ks_engine *e)
{
	return ks_container_of(e, struct ks_sqlite, base);
}

/* ---- sqlite_conn.c ---- */

enum ks_sqlite_role { KS_SQLITE_WRITER, KS_SQLITE_READER, KS_SQLITE_MAKER };
/* What connections are opened with; NULL: SQLite's own. They must not spill pages before a commit. */
const char *ks_sqlite_vfs_name(void);
int ks_sqlite_conn_open(struct ks_sqlite_conn **out, struct ks_sqlite *sq,
			enum ks_sqlite_role role) KS_MUST_CHECK;
void ks_sqlite_conn_close(struct ks_sqlite_conn *c); /* NULL is fine */
/* Raises what SQLite reported: the file, the cause, the way out. */
int ks_sqlite_fail(struct ks_sqlite *sq, sqlite3 *db, int rc, const char *what);
bool ks_sqlite_is_full(sqlite3 *db, int rc); /* was there no room? */
int ks_sqlite_exec(struct ks_sqlite_conn *c, const char *sql, const char *what) KS_MUST_CHECK;
/* The first column of the first row. */
int ks_sqlite_query_int(struct ks_sqlite_conn *c, const char *sql, int64_t *out) KS_MUST_CHECK;
/* Steps a statement without result rows, and resets it. Returns SQLite's code, SQLITE_OK for done. */
int ks_sqlite_step(sqlite3_stmt *st);
int ks_sqlite_fixed(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k);
int ks_sqlite_data_version(struct ks_sqlite_conn *c, int64_t *out) KS_MUST_CHECK;
/* From inside a transaction on: the connection goes on seeing what it sees, but for its own commits. */
bool ks_sqlite_snapshot_keep(struct ks_sqlite_conn *c);
void ks_sqlite_snapshot_drop(struct ks_sqlite_conn *c);

/* The statement of a shape, prepared when it is first asked for. NULL: *rc says why. */
sqlite3_stmt *ks_sqlite_table_stmt(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k,
				   enum ks_table t, int *rc);
sqlite3_stmt *ks_sqlite_prefix_stmt(struct ks_sqlite_conn *c, enum ks_sqlite_stmt_kind k,
				    enum ks_table t, unsigned int nprefix, int *rc);
sqlite3_stmt *ks_sqlite_update_stmt(struct ks_sqlite_conn *c, enum ks_table t,
				    const struct ks_upd *u, unsigned int n, int *rc);
/* *own: the cached one is in use further up the stack; the caller finalises this one. */
sqlite3_stmt *ks_sqlite_scan_stmt(struct ks_sqlite_conn *c, const struct ks_scan *s, bool *own,
				  int *rc);
#define KS_SQLITE_UPD_MAX 6 /* columns of one update statement; more take several */

/* Binds the first @ncol columns of a record from parameter @first on; bytes must outlive the step. */
int ks_sqlite_bind(sqlite3_stmt *st, enum ks_table t, const void *rec, unsigned int from,
		   unsigned int to, int first);

/* ---- sqlite_sql.c: the texts ---- */

int ks_sqlite_sql_table(enum ks_sqlite_stmt_kind k, enum ks_table t,
			struct ks_buf *out) KS_MUST_CHECK;
int ks_sqlite_sql_prefix(enum ks_sqlite_stmt_kind k, enum ks_table t, unsigned int nprefix,
			 struct ks_buf *out) KS_MUST_CHECK;
int ks_sqlite_sql_update(enum ks_table t, const struct ks_upd *u, unsigned int n,
			 struct ks_buf *out) KS_MUST_CHECK;
int ks_sqlite_sql_scan(const struct ks_scan *s, struct ks_buf *out) KS_MUST_CHECK;

/* ---- sqlite_schema.c ---- */

int ks_sqlite_schema_make(struct ks_sqlite_conn *c) KS_MUST_CHECK;  /* -EEXIST */
int ks_sqlite_schema_check(struct ks_sqlite_conn *c) KS_MUST_CHECK; /* -EBADMSG, -EPROTO */

/* ---- sqlite_read.c ---- */

int ks_sqlite_fetch(struct ks_engine *e, struct ks_txn *t, struct ks_read *r, size_t n,
		    const struct ks_scan *s, size_t ns, struct ks_arena *a);
bool ks_sqlite_peek(struct ks_engine *e, struct ks_read *r);
int ks_sqlite_reader_take(struct ks_sqlite *sq, struct ks_sqlite_conn **out,
			  int *slot) KS_MUST_CHECK;
void ks_sqlite_reader_give(struct ks_sqlite *sq, struct ks_sqlite_conn *c, int slot);

/* ---- sqlite_cache.c ---- */

int ks_sqlite_cache_open(struct ks_sqlite *sq, struct ks_sqlite_conn *conn,
			 uint64_t bytes) KS_MUST_CHECK; /* @conn has read, and stays open */
void ks_sqlite_cache_close(struct ks_sqlite *sq);
/* The current one. Not known: where there is no log, or somebody is writing the header. */
struct ks_log_state ks_sqlite_log_state(const struct ks_sqlite *sq);
/* Before a read. False: the cache has nothing to say now. */
bool ks_sqlite_cache_look(struct ks_sqlite *sq, struct ks_cache_window *w);
/* All of them, or none. */
bool ks_sqlite_cache_serve(struct ks_sqlite *sq, const struct ks_cache_window *w, struct ks_read *r,
			   size_t n);
/* After a read whose snapshot is not older than ks_sqlite_cache_look(). */
void ks_sqlite_cache_fill(struct ks_sqlite *sq, const struct ks_cache_window *w,
			  const struct ks_read *r);
/* The rest needs the writer. In this order: begin, reads and logs of the bodies, commit, COMMIT, committed. */
void ks_sqlite_cache_begin(struct ks_sqlite *sq);
/* Is it what the writer's connection saw last? */
bool ks_sqlite_cache_is_own(struct ks_sqlite *sq, const struct ks_cache_window *w);
bool ks_sqlite_cache_txn_read(struct ks_sqlite *sq, struct ks_read *r);
void ks_sqlite_cache_txn_fill(struct ks_sqlite *sq, const struct ks_read *r);
void ks_sqlite_cache_log(struct ks_sqlite *sq, const struct ks_txn *t);
void ks_sqlite_cache_commit(struct ks_sqlite *sq);
void ks_sqlite_cache_committed(struct ks_sqlite *sq, bool ok);

/* ---- sqlite_records.c ---- */

int ks_records_new(struct ks_records **out, uint64_t bytes) KS_MUST_CHECK;
void ks_records_free(struct ks_records *r); /* NULL is fine */
uint64_t ks_records_hash(enum ks_table t, const void *key);
bool ks_records_get(struct ks_records *r, uint64_t gen, enum ks_table t, const void *key,
		    struct ks_cached *out);
/* The directory was made by the commit that is being applied: from now on its names are all here. */
void ks_records_mark_whole(struct ks_records *r, uint64_t gen, uint64_t dir);
/* @seq: only while it is @w's. An absent one may be told by its directory's mark instead of being stored. */
void ks_records_put(struct ks_records *r, const struct ks_cache_window *w,
		    const _Atomic uint64_t *seq, enum ks_table t, const void *rec, bool found);
void ks_records_drop(struct ks_records *r, enum ks_table t, const void *key);
void ks_records_update(struct ks_records *r, uint64_t gen, const struct ks_rec_inode *key,
		       const struct ks_upd *u, unsigned int n);

/* ---- sqlite_vfs.c ---- */

/* How often a header was written to the log through this connection, and the salts of the last one. False: there is no log. */
bool ks_sqlite_log_headers(sqlite3 *db, uint64_t *n, uint64_t *salt);

/* ---- sqlite_keep.c ---- */

void ks_sqlite_keep(struct ks_sqlite *sq); /* by readers, now and then */
void ks_sqlite_keep_rest(
	struct ks_sqlite *sq); /* once a second: drops what those have left that are idle now */
void ks_sqlite_keep_suspend(struct ks_sqlite *sq); /* around a checkpoint */
void ks_sqlite_keep_resume(struct ks_sqlite *sq);
/* Need the writer. BEGIN IMMEDIATE; *same: nobody else has committed since the transaction before. */
int ks_sqlite_keep_begin(struct ks_sqlite *sq, bool *same);
void ks_sqlite_keep_drop(struct ks_sqlite *sq); /* outside a transaction */
/* Without the writer: no snapshot is kept for it until it may be again. Waits up to @wait_ns for a transaction to end. */
void ks_sqlite_keep_forbid(struct ks_sqlite *sq, int64_t wait_ns);
void ks_sqlite_keep_allow(struct ks_sqlite *sq);

/* ---- sqlite_apply.c ---- */

/* *dirty: something was written before it failed. -EAGAIN: a condition did not hold. */
int ks_sqlite_apply(struct ks_sqlite_conn *c, const struct ks_txn *t, bool *dirty);

/* ---- sqlite_run.c ---- */

int ks_sqlite_run(struct ks_engine *e, ks_body_fn *body, void *arg);
bool ks_sqlite_try_hold(struct ks_sqlite *sq);
void ks_sqlite_let_go(struct ks_sqlite *sq); /* passes it on to who came in meanwhile */
/* Needs the writer. Sees whether another process has committed. */
void ks_sqlite_look_abroad(struct ks_sqlite *sq);

/* Wakes by number, not by broadcast. @timeout_ns < 0: for ever. */
void ks_sqlite_futex_wait(_Atomic int *word, int value, int64_t timeout_ns);
void ks_sqlite_futex_wake(_Atomic int *word);

/* ---- sqlite_wal.c ---- */

void ks_sqlite_wal_watch(struct ks_sqlite *sq);  /* on the writer's connection */
void ks_sqlite_ckpt_start(struct ks_sqlite *sq); /* once; cheap after that */
void ks_sqlite_ckpt_stop(struct ks_sqlite *sq);
void ks_sqlite_ckpt_finish(
	struct ks_sqlite
		*sq); /* Needs the writer. If ckpt_wanted asks for it, or the log is too long. */

/* Needs the writer. Copies the whole log, and lets it start over; waits up to @wait_ns for readers. */
bool ks_sqlite_ckpt_restart(struct ks_sqlite *sq, int64_t wait_ns);

/* Copies the whole log, and makes it empty. */
bool ks_sqlite_ckpt_truncate(struct ks_sqlite *sq);

/* ---- sqlite_full.c ---- */

uint32_t ks_sqlite_log_frames(const char *path); /* by the size of the disk that @path is on */

bool ks_sqlite_grows(const struct ks_txn *t); /* what is not taken on a full disk */
/* Needs the writer. A transaction met a full disk: does what can be done next (*step: 0 at first); false: nothing more. */
bool ks_sqlite_make_room(struct ks_sqlite *sq, int *step, bool grows);
void ks_sqlite_set_full(struct ks_sqlite *sq, bool full);
bool ks_sqlite_is_still_full(struct ks_sqlite *sq);
void ks_sqlite_reserve_give_up(struct ks_sqlite *sq);
void ks_sqlite_reserve_keep(struct ks_sqlite *sq); /* once a second */

/* ---- sqlite_sync.c ---- */

uint64_t ks_sqlite_sync_begin(struct ks_engine *e);
int ks_sqlite_sync(struct ks_engine *e, uint64_t begun);
void ks_sqlite_sync_stop(struct ks_sqlite *sq);

#endif
