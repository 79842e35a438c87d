/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine_bench.c: creates and lookups per second of a metadata engine, below any semantics.
 *
 *	engine_bench [URL [SECONDS [FILES [THREADS]]]]	default: sqlite:///tmp/kiseki-engine-bench.db, 3 s a line
 *
 * A create reads its directory and the name, inserts inode and name, and updates directory and usage; each thread works in its own
 * directory. A lookup follows a name to its inode. FILES: how many exist before the lookups are measured. THREADS: at most so many.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "meta/engine.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS 4

static struct ks_engine *eng;
static double seconds = 3;
static _Atomic uint64_t next_ino = 1000;
static _Atomic uint64_t made[THREADS];

struct worker {
	pthread_t thread;
	unsigned int id;
	uint64_t ops;
	uint64_t stop; /* 0: by time */
	int64_t worst_ns;
};

struct create {
	uint64_t parent, hash, ino;
	char name[24];
	size_t len;
};

static void name_of(struct create *c, unsigned int thread, uint64_t k)
{
	c->parent = thread + 1;
	c->len = (size_t)snprintf(c->name, sizeof(c->name), "file-%08llu", (unsigned long long)k);
	c->hash = (ks_mix64(k * 4 + thread) >> 1) | KS_DENTRY_HASH_MIN;
}

static int create(struct ks_txn *t, void *arg)
{
	const struct create *c = arg;
	struct ks_rec_inode dir = { .ino = c->parent };
	struct ks_rec_dentry d = { .parent = c->parent,
				   .hash = c->hash,
				   .name = { c->name, c->len } };
	struct ks_rec_counter inodes = { .name = { "inodes", 6 } };
	struct ks_read r[] = { { .table = KS_T_INODE, .rec = &dir, .flags = KS_READ_WEAK },
			       { .table = KS_T_DENTRY, .rec = &d } };
	struct ks_upd one = { offsetof(struct ks_rec_counter, value), KS_UPD_ADD, 1 };
	int64_t now = 1700000000000000000ll;
	struct ks_upd dir_upd[] = { { offsetof(struct ks_rec_inode, mtime_ns), KS_UPD_MAX, now },
				    { offsetof(struct ks_rec_inode, ctime_ns), KS_UPD_MAX, now },
				    { offsetof(struct ks_rec_inode, change), KS_UPD_ADD, 1 } };
	struct ks_rec_inode i = { .ino = c->ino,
				  .parent = c->parent,
				  .mode = 0100644,
				  .nlink = 1,
				  .uid = 1000,
				  .gid = 1000,
				  .atime_ns = now,
				  .mtime_ns = now,
				  .ctime_ns = now,
				  .btime_ns = now };
	int ret = ks_txn_read(t, r, 2);

	if (ret < 0)
		return ret;
	if (!r[0].found)
		return -2;
	if (r[1].found)
		return -17;
	d.ino = c->ino;
	d.type = 8;
	ks_txn_insert(t, KS_T_INODE, &i);
	ks_txn_insert(t, KS_T_DENTRY, &d);
	ks_txn_update(t, KS_T_INODE, &dir, dir_upd, 3);
	ks_txn_update(t, KS_T_COUNTER, &inodes, &one, 1);
	return 0;
}

static void check(int r)
{
	if (r < 0) {
		fprintf(stderr, "engine_bench: %s\n", ks_fail_text());
		exit(1);
	}
}

static void *creator(void *arg)
{
	struct worker *w = arg;
	int64_t start = ks_clock_mono_ns(), now = start, before;
	struct create c;

	while (w->stop ? w->ops < w->stop : now - start < (int64_t)(seconds * 1e9)) {
		before = now;
		name_of(&c, w->id, made[w->id]);
		c.ino = atomic_fetch_add(&next_ino, 1);
		check(ks_engine_run(eng, create, &c));
		made[w->id]++;
		w->ops++;
		now = ks_clock_mono_ns();
		w->worst_ns = ks_max(w->worst_ns, now - before);
	}
	return NULL;
}

static void *looker(void *arg)
{
	struct worker *w = arg;
	int64_t start = ks_clock_mono_ns(), now = start;
	uint64_t dice = w->id + 1, found = 0;
	struct create c;

	while (now - start < (int64_t)(seconds * 1e9)) {
		for (int k = 0; k < 64; k++) {
			struct ks_rec_inode i;
			struct ks_rec_dentry d;
			struct ks_read r = { .table = KS_T_DENTRY,
					     .flags = KS_READ_FOLLOW,
					     .rec = &d,
					     .inode = &i };

			dice = ks_mix64(dice + 1);
			name_of(&c, 0, dice % made[0]);
			d = (struct ks_rec_dentry){ .parent = c.parent,
						    .hash = c.hash,
						    .name = { c.name, c.len } };
			check(ks_engine_read(eng, &r, 1, NULL));
			found += r.found && i.ino;
		}
		w->ops += 64;
		now = ks_clock_mono_ns();
	}
	if (found != w->ops)
		fprintf(stderr, "engine_bench: %llu not found\n",
			(unsigned long long)(w->ops - found));
	return NULL;
}

static void line(const char *what, void *(*fn)(void *), unsigned int threads)
{
	struct worker w[THREADS];
	struct ks_engine_stats s, then;
	int64_t start = ks_clock_mono_ns(), worst = 0;
	uint64_t ops = 0;

	memset(w, 0, sizeof(w));
	ks_engine_stats(eng, &s);
	for (unsigned int i = 0; i < threads; i++) {
		w[i].id = i;
		pthread_create(&w[i].thread, NULL, fn, &w[i]);
	}
	for (unsigned int i = 0; i < threads; i++) {
		pthread_join(w[i].thread, NULL);
		ops += w[i].ops;
		worst = ks_max(worst, w[i].worst_ns);
	}
	ks_engine_stats(eng, &then);
	printf("%-8s %u threads  %8.0f op/s  %6.2f us each", what, threads,
	       (double)ops * 1e9 / (double)(ks_clock_mono_ns() - start),
	       (double)(ks_clock_mono_ns() - start) / 1e3 * threads / (double)ops);
	if (then.batches > s.batches)
		printf("  %.2f a transaction, worst %.1f ms, database %llu MiB",
		       (double)(then.commits - s.commits) / (double)(then.batches - s.batches),
		       (double)worst / 1e6, (unsigned long long)(then.size_bytes >> 20));
	printf("\n");
	fflush(stdout);
}

static int put_directories(struct ks_txn *t, void *arg)
{
	(void)arg;
	for (uint64_t i = 1; i <= THREADS; i++) {
		struct ks_rec_inode dir = { .ino = i, .mode = 040755, .nlink = 2 };

		ks_txn_insert(t, KS_T_INODE, &dir);
	}
	return 0;
}

static void remove_old(const char *path)
{
	static const char *const tails[] = { "", "-wal", "-shm" };
	char name[1024];

	for (size_t i = 0; i < KS_ARRAY_SIZE(tails); i++) {
		snprintf(name, sizeof(name), "%s%s", path, tails[i]);
		unlink(name);
	}
}

int main(int argc, char **argv)
{
	const char *url = argc > 1 ? argv[1] : "sqlite:///tmp/kiseki-engine-bench.db";
	struct ks_engine_opts make = { .create = true };
	struct worker more = { .id = 0 };
	unsigned int most = argc > 4 ? (unsigned int)strtoul(argv[4], NULL, 10) : THREADS;

	if (argc > 2)
		seconds = strtod(argv[2], NULL);
	if (strncmp(url, "sqlite://", 9) == 0)
		remove_old(url + 9);
	check(ks_engine_open(&eng, url, &make));
	check(ks_engine_run(eng, put_directories, NULL));
	printf("%s\n", url);
	for (unsigned int n = 1; n <= THREADS && n <= most; n *= 2)
		line("create", creator, n);
	more.stop = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	if (more.stop > made[0]) {
		more.stop -= made[0];
		creator(&more);
	}
	printf("%llu names\n", (unsigned long long)made[0]);
	for (unsigned int n = 1; n <= THREADS && n <= most; n *= 2)
		line("lookup", looker, n);
	ks_engine_close(eng);
	if (strncmp(url, "sqlite://", 9) == 0)
		remove_old(url + 9);
	return 0;
}
