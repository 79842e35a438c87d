/* SPDX-License-Identifier: Apache-2.0 */
/* engine_sqlite.c: metadata in a SQLite database: opening, closing, and what other processes have done. */
#include "meta/sqlite.h"

#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define MMAP_DEFAULT (64 * KS_MIB)
#define FOREIGN_SPINS 2000

/* ---- where a database may be ---- */

static const char *network_fs(unsigned long type)
{
	static const struct {
		unsigned long type;
		const char *name;
	} bad[] = {
		{ 0x6969, "NFS" },       { 0x517b, "SMB" },        { 0xff534d42, "CIFS" },
		{ 0xfe534d42, "SMB2" },  { 0x65735546, "FUSE" },   { 0x01021997, "9P" },
		{ 0x00c36400, "Ceph" },  { 0x5346414f, "AFS" },    { 0x6b414653, "AFS" },
		{ 0x73757245, "Coda" },  { 0x0bd00bd0, "Lustre" }, { 0x01161970, "GFS2" },
		{ 0x7461636f, "OCFS2" },
	};

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		if (bad[i].type == (type & 0xffffffff))
			return bad[i].name;
	}
	return NULL;
}

static int check_place(const char *path)
{
	KS_AUTO(ks_freep) char *dir = strdup(path);
	const char *name;
	struct statfs st;
	char *slash;

	if (!dir)
		return -ENOMEM;
	if (statfs(dir, &st) < 0) {
		slash = strrchr(dir, '/');
		if (slash)
			slash[slash == dir] = '\0';
		/* What is wrong with the directory, the open will say. */
		if (statfs(dir, &st) < 0)
			return 0;
	}
	name = network_fs((unsigned long)st.f_type);
	if (!name)
		return 0;
	return ks_fail_hint(
		-ENOTSUP,
		"put the database on a local disk; several machines need postgres or redis",
		"%s: is on a %s file system, where SQLite's locks do not hold", path, name);
}

/* ---- open ---- */

static int file_uri(const char *path, char **out)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	int r = ks_buf_printf(&b, "file:");

	for (; *path && r == 0; path++) {
		if (strchr("%?#", *path))
			r = ks_buf_printf(&b, "%%%02x", (unsigned char)*path);
		else
			r = ks_buf_append(&b, path, 1);
	}
	if (r == 0)
		r = ks_buf_printf(&b, "?immutable=1");
	if (r == 0)
		*out = strndup(b.p, b.n);
	return r == 0 && !*out ? -ENOMEM : r;
}

static bool has_log(const struct ks_sqlite *sq)
{
	struct stat st;

	return stat(sq->wal_path, &st) == 0 && st.st_size > 0;
}

/*
 * A reader needs the -shm file, which it must be able to make. Where it cannot, a database without a log
 * can still be read as a file that nobody changes.
 */
static int open_readonly(struct ks_sqlite *sq, bool snapshot, uint64_t cache_bytes)
{
	struct ks_sqlite_conn *c = NULL;
	bool quiet = ks_fail_quiet(true);
	int slot = -1;
	int r = ks_sqlite_reader_take(sq, &c, &slot);

	if (r == 0) {
		r = ks_sqlite_schema_check(c);
		/* That connection stays with its slot until the end. */
		/* The records in memory are those of now. */
		if (r == 0 && !snapshot)
			r = ks_sqlite_cache_open(sq, c, cache_bytes);
		ks_sqlite_reader_give(sq, c, slot);
	}
	ks_fail_quiet(quiet);
	if (r == 0 || r == -ENOENT)
		return r;
	if ((r == -EACCES || r == -EROFS || r == -EPERM) && !has_log(sq)) {
		for (int i = 0; i < KS_SQLITE_READERS; i++) {
			ks_sqlite_conn_close(sq->readers[i].conn);
			sq->readers[i].conn = NULL;
		}
		r = file_uri(sq->path, &sq->uri);
		if (r < 0)
			return r;
	}
	/* Once more, aloud. */
	r = ks_sqlite_reader_take(sq, &c, &slot);
	if (r < 0)
		return r;
	r = ks_sqlite_schema_check(c);
	ks_sqlite_reader_give(sq, c, slot);
	return r;
}

static int open_writer(struct ks_sqlite *sq, bool create, uint64_t cache_bytes)
{
	int r = check_place(sq->path);

	if (r < 0)
		return r;
	r = ks_sqlite_conn_open(&sq->run.conn, sq, create ? KS_SQLITE_MAKER : KS_SQLITE_WRITER);
	if (r == 0 && create)
		r = ks_sqlite_schema_make(sq->run.conn);
	if (r == 0)
		r = ks_sqlite_schema_check(sq->run.conn);
	if (r < 0)
		return r;
	sq->run.txn.conn = sq->run.conn;
	ks_sqlite_wal_watch(sq);
	return ks_sqlite_cache_open(sq, sq->run.conn, cache_bytes);
}

/* From here on the connection is never out of its transaction, whose first read is what all others see. */
static int pin(struct ks_sqlite *sq)
{
	int64_t v;
	int r = ks_sqlite_conn_open(&sq->pin, sq, KS_SQLITE_READER);

	if (r == 0)
		r = ks_sqlite_exec(sq->pin, "BEGIN", "read");
	return r < 0 ? r : ks_sqlite_query_int(sq->pin, "SELECT count(*) FROM setting", &v);
}

/* The log and its index must be made anew: on a full disk at the reserve's cost. */
static int open_writer_full(struct ks_sqlite *sq, const struct ks_engine_opts *o)
{
	int r = open_writer(sq, o->create, o->cache_bytes);

	if (r != -ENOSPC || o->create)
		return r;
	ks_sqlite_conn_close(sq->run.conn);
	sq->run.conn = NULL;
	ks_sqlite_reserve_give_up(sq);
	return open_writer(sq, false, o->cache_bytes);
}

static int cpus(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
}

static void close_sqlite(struct ks_engine *e);

static int init_locks(struct ks_sqlite *sq)
{
	pthread_mutexattr_t recursive;
	int r;

	pthread_mutexattr_init(&recursive);
	pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&sq->pin_mu, &recursive);
	pthread_mutexattr_destroy(&recursive);
	pthread_mutex_init(&sq->foreign_mu, NULL);
	pthread_mutex_init(&sq->ckpt_mu, NULL);
	pthread_mutex_init(&sq->ckpt_start_mu, NULL);
	pthread_mutex_init(&sq->sync_mu, NULL);
	pthread_mutex_init(&sq->keep_mu, NULL);
	pthread_mutex_init(&sq->cache.mu, NULL);
	r = ks_cond_init(&sq->sync_bell);
	return r < 0 ? r : ks_cond_init(&sq->sync_cond);
}

static int open_sqlite(struct ks_engine **out, const char *rest, const struct ks_engine_opts *opts)
{
	struct ks_sqlite *sq;
	int r;

	if (rest[0] != '/')
		return ks_fail_hint(-EINVAL, "for example sqlite:///var/lib/kiseki/home.db",
				    "'%s' is not the absolute path of a database", rest);
	sq = aligned_alloc(64, ks_round_up(sizeof(*sq), 64));
	if (!sq)
		return -ENOMEM;
	memset(sq, 0, sizeof(*sq));
	sq->wal_fd = -1;
	sq->busy_timeout_ns = opts->busy_timeout_ns;
	sq->mmap_bytes = opts->mmap_bytes ? opts->mmap_bytes : MMAP_DEFAULT;
	sq->readonly = opts->readonly;
	sq->making = opts->create;
	sq->log_frames = ks_sqlite_log_frames(rest);
	sq->foreign = 1;
	/* One CPU is the holder's. */
	sq->run.spinners = cpus() - 1;
	r = init_locks(sq);
	sq->path = strdup(rest);
	sq->wal_path = ks_asprintf("%s-wal", rest);
	sq->reserve_path = ks_asprintf("%s-reserve", rest);
	if (r == 0 && (!sq->path || !sq->wal_path || !sq->reserve_path))
		r = -ENOMEM;
	if (r == 0 && opts->create && opts->readonly)
		r = -EINVAL;
	if (r == 0)
		r = sq->readonly ? open_readonly(sq, opts->snapshot, opts->cache_bytes)
				 : open_writer_full(sq, opts);
	if (r == 0 && opts->snapshot)
		r = pin(sq);
	if (r < 0) {
		close_sqlite(&sq->base);
		return r;
	}
	*out = &sq->base;
	return 0;
}

static void close_sqlite(struct ks_engine *e)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);

	ks_sqlite_ckpt_stop(sq);
	ks_sqlite_sync_stop(sq);
	for (int i = 0; i < KS_SQLITE_READERS; i++)
		ks_sqlite_conn_close(sq->readers[i].conn);
	ks_sqlite_conn_close(sq->pin);
	ks_sqlite_conn_close(sq->foreign_conn);
	ks_sqlite_conn_close(sq->ckpt);
	ks_sqlite_conn_close(sq->keep);
	/* The last connection of all processes copies the log and removes it; of ours, one that may write. */
	ks_sqlite_conn_close(sq->run.conn);
	ks_arena_clear(&sq->run.txn.t.arena);
	ks_sqlite_cache_close(sq);
	ks_closep(&sq->wal_fd);
	pthread_cond_destroy(&sq->sync_cond);
	pthread_cond_destroy(&sq->sync_bell);
	pthread_mutex_destroy(&sq->sync_mu);
	pthread_mutex_destroy(&sq->keep_mu);
	pthread_mutex_destroy(&sq->cache.mu);
	pthread_mutex_destroy(&sq->ckpt_start_mu);
	pthread_mutex_destroy(&sq->ckpt_mu);
	pthread_mutex_destroy(&sq->foreign_mu);
	pthread_mutex_destroy(&sq->pin_mu);
	free(sq->uri);
	free(sq->reserve_path);
	free(sq->wal_path);
	free(sq->path);
	free(sq);
}

/* ---- what other processes did ---- */

/* A connection that only watches sees our own commits as well: the number then changes too often, never too seldom. */
static uint64_t watch_foreign(struct ks_sqlite *sq)
{
	int64_t v = 0;

	KS_LOCKED(&sq->foreign_mu);
	if (!sq->foreign_conn && ks_sqlite_conn_open(&sq->foreign_conn, sq, KS_SQLITE_READER) < 0)
		return atomic_fetch_add(&sq->foreign, 1) + 1;
	if (ks_sqlite_data_version(sq->foreign_conn, &v) != SQLITE_OK || v != sq->foreign_seen)
		atomic_fetch_add(&sq->foreign, 1);
	sq->foreign_seen = v;
	return atomic_load(&sq->foreign);
}

/*
 * As long as the header of the WAL-index shows the state that the cache is right for, nobody else has committed since that was found out, and counted (sqlite_cache.c). Otherwise the
 * writer's connection knows precisely, for SQLite tells it of others' commits only. While a transaction of ours is open, nobody
 * else can commit, and what it found at its beginning holds; else this thread borrows the writer for a moment. When it is
 * held without a transaction for long, it waits for another process, and the watching connection has to do.
 */
static uint64_t sqlite_foreign_version(struct ks_engine *e)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);
	bool used = atomic_exchange_explicit(&sq->foreign_used, true, memory_order_seq_cst);
	struct ks_cache_window w;

	if (sq->pin)
		return 1;
	if (sq->readonly)
		return watch_foreign(sq);
	if (ks_sqlite_cache_look(sq, &w) && atomic_load(&sq->foreign_known))
		return atomic_load(&sq->foreign);
	for (int i = 0; i < FOREIGN_SPINS; i++) {
		uint64_t seq = atomic_load(&sq->run.in_txn);
		uint64_t v;

		/* A transaction that began before the first question did not look. */
		if (used && seq % 2) {
			v = atomic_load(&sq->foreign);
			if (atomic_load(&sq->run.in_txn) == seq)
				return v;
		} else if (ks_sqlite_try_hold(sq)) {
			ks_sqlite_look_abroad(sq);
			v = atomic_load(&sq->foreign);
			ks_sqlite_let_go(sq);
			return v;
		}
		__builtin_ia32_pause();
	}
	return watch_foreign(sq);
}

static uint64_t sqlite_size_bytes(struct ks_engine *e)
{
	struct ks_sqlite *sq = ks_to_sqlite(e);
	struct stat db, wal;
	uint64_t n = stat(sq->path, &db) == 0 ? (uint64_t)db.st_blocks * 512 : 0;

	return n + (stat(sq->wal_path, &wal) == 0 ? (uint64_t)wal.st_blocks * 512 : 0);
}

static bool sqlite_is_full(struct ks_engine *e)
{
	return ks_sqlite_is_still_full(ks_to_sqlite(e));
}

const struct ks_engine_ops ks_engine_sqlite_ops = {
	.scheme = "sqlite",
	.help = "a SQLite database on a local disk (sqlite:///PATH)",
	.snapshots = true,
	.open = open_sqlite,
	.close = close_sqlite,
	.fetch = ks_sqlite_fetch,
	.peek = ks_sqlite_peek,
	.run = ks_sqlite_run,
	.sync = ks_sqlite_sync,
	.sync_begin = ks_sqlite_sync_begin,
	.foreign_version = sqlite_foreign_version,
	.size_bytes = sqlite_size_bytes,
	.is_full = sqlite_is_full,
};
