/* SPDX-License-Identifier: Apache-2.0 */
/* compact_test.c: compaction against a file whose every byte is known: with dirty data over it, with readers who have old maps, beside writers, with a store that fails. */
#include "vfs/vfs_testlib.h"
#include <linux/falloc.h>
#include <stdlib.h>
#include <unistd.h>

#define SIZE (3u * 1024 * 1024)

static const struct ks_compact_opts any = { .min_slices = 2 };

struct file {
	struct rig *g;
	struct ks_fh *fh;
	ks_ino_t ino;
	uint8_t *want;
	uint64_t rnd;
};

static uint32_t rnd(struct file *f, uint32_t n)
{
	f->rnd = f->rnd * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(f->rnd >> 33) % n;
}

static void file_open(struct file *f, struct rig *g, const char *name)
{
	struct ks_open_how how;
	struct ks_attr a;

	*f = (struct file){ .g = g, .want = calloc(1, SIZE), .rnd = 11 };
	ks_check_ok(ks_vfs_create(g->v, &g->c, KS_ROOT_INO, name, 0644, O_RDWR, &a, &f->fh, &how));
	f->ino = a.ino;
}

static void file_close(struct file *f)
{
	ks_vfs_release(f->fh);
	free(f->want);
}

static void put(struct file *f, uint32_t off, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		f->want[off + i] = (uint8_t)(rnd(f, 255) + 1);
	ks_check_eq(ks_vfs_write(f->fh, &f->g->c, off, f->want + off, n), (ssize_t)n);
}

/* A slice that is committed counts as on its way until its uploader lets go of it, and what is on its way stays as it is. */
static void flush(struct file *f)
{
	ks_check_ok(ks_vfs_flush(f->fh, &f->g->c));
	for (int i = 0; i < 5000 && ks_data_lowest_slice(f->g->v->data) != UINT64_MAX; i++)
		usleep(1000);
}

static void put_many(struct file *f, uint32_t n, uint32_t max)
{
	for (uint32_t i = 0; i < n; i++)
		put(f, rnd(f, SIZE - max), 1 + rnd(f, max));
	flush(f);
}

static void check_by(struct rig *g, ks_ino_t ino, const uint8_t *want)
{
	static uint8_t got[SIZE];
	struct ks_open_how how;
	struct ks_fh *fh;
	ssize_t n;

	ks_check_ok(ks_vfs_open(g->v, &g->c, ino, O_RDONLY, &fh, &how));
	memset(got, 0, SIZE);
	n = ks_vfs_read(fh, &g->c, 0, got, SIZE);
	ks_check(n > 0);
	ks_check_mem(got, want, SIZE);
	ks_vfs_release(fh);
}

static void check(struct file *f)
{
	check_by(f->g, f->ino, f->want);
}

static int try_compact(struct rig *g, ks_ino_t ino, struct ks_compact_result *res)
{
	struct ks_compact_job *j;
	int r = ks_vfs_compact_begin(g->v, ino, 0, &any, &j, res);

	return r == 0 && j ? ks_vfs_compact_end(g->v, &j, 1, res) : r;
}

static void compact(struct rig *g, ks_ino_t ino, struct ks_compact_result *res)
{
	ks_check_ok(try_compact(g, ino, res));
}

/* What was replaced is deleted, by everybody who has passed the epochs. */
static void settle(struct rig *g, struct rig *other)
{
	struct ks_free_item items[256];
	ssize_t n;

	for (int i = 0; i < 6; i++) {
		ks_check_ok(ks_meta_tick(g->v->meta, 0));
		if (other)
			ks_check_ok(ks_meta_tick(other->v->meta, 0));
		while ((n = ks_meta_free_list(g->v->meta, NULL, items, 256)) > 0) {
			for (ssize_t k = 0; k < n; k++) {
				if (!items[k].pack)
					ks_check_ok(ks_data_delete_slice(g->v->data, items[k].slice,
									 items[k].len,
									 items[k].block_size));
			}
			ks_check_ok(ks_meta_free_done(g->v->meta, items, (size_t)n));
		}
		ks_check_eq(n, 0);
	}
}

static uint32_t rows_of(struct rig *g, ks_ino_t ino)
{
	struct ks_chunk_look l;
	uint32_t n;

	ks_check_ok(ks_meta_chunk_look(g->v->meta, ino, 0, &l));
	n = l.rows;
	ks_chunk_look_clear(&l);
	return n;
}

static void both(void (*fn)(struct rig *g, struct vol *o))
{
	for (int disk = 0; disk < 2; disk++) {
		struct vol o;
		struct rig g;

		on_disk = disk;
		vol_block_size = 64 * KS_KIB;
		vol_new(&o);
		start(&g, &o);
		fn(&g, &o);
		stop(&g);
		vol_end(&o);
	}
}

/* ---- the tests ---- */

static void random_writes(struct rig *g, struct vol *o)
{
	struct ks_compact_result res;
	struct rig fresh;
	struct file f;

	(void)o;
	file_open(&f, g, "f");
	put(&f, 0, SIZE);
	flush(&f);
	put_many(&f, 400, 5000);
	/* Over it lies what is not committed yet, before and after. */
	put(&f, 1000, 100000);
	check(&f);
	compact(g, f.ino, &res);
	ks_check(res.worth && res.before > 300);
	ks_check_eq(res.after, 1);
	ks_check_eq(res.bytes, SIZE);
	check(&f);
	put(&f, 50000, 200000);
	flush(&f);
	check(&f);
	put_many(&f, 100, 90000);
	compact(g, f.ino, &res);
	settle(g, NULL);
	check(&f);
	start(&fresh, o);
	check_by(&fresh, f.ino, f.want);
	stop(&fresh);
	file_close(&f);
}

KS_TEST(random_writes_become_one_slice)
{
	both(random_writes);
}

static void holes(struct rig *g, struct vol *o)
{
	struct ks_compact_result res;
	struct ks_attr before, after;
	struct file f;
	uint64_t at;

	(void)o;
	file_open(&f, g, "f");
	/* Neighbours in pairs, a hole behind each. */
	for (uint32_t i = 0; i < 40; i++) {
		put(&f, i * 60000 + 5000, 5000);
		flush(&f);
		put(&f, i * 60000, 5000);
		flush(&f);
	}
	put(&f, SIZE - 1, 1);
	flush(&f);
	ks_check_ok(ks_vfs_getattr(g->v, &g->c, f.ino, &before));
	compact(g, f.ino, &res);
	ks_check_eq(res.before, 81);
	ks_check_eq(res.after, 1);
	ks_check_eq(rows_of(g, f.ino), 41);
	ks_check_ok(ks_vfs_getattr(g->v, &g->c, f.ino, &after));
	ks_check_mem(&before, &after, sizeof(before));
	for (uint32_t i = 0; i < 40; i++) {
		ks_check_ok(ks_vfs_seek(f.fh, &g->c, i * 60000, SEEK_HOLE, &at));
		ks_check_eq(at, i * 60000 + 10000);
	}
	check(&f);
	/* Nothing is to be had any more. */
	compact(g, f.ino, &res);
	ks_check(!res.worth);
	file_close(&f);
}

KS_TEST(holes_stay_holes)
{
	both(holes);
}

/* Small slices that stand alone are put side by side, once; one that hardly shows any more is copied for the room it takes. */
static void alone(struct rig *g, struct vol *o)
{
	struct ks_compact_result res;
	struct file f;

	(void)o;
	file_open(&f, g, "f");
	for (uint32_t i = 0; i < 40; i++) {
		put(&f, i * 60000, 5000);
		flush(&f);
	}
	compact(g, f.ino, &res);
	ks_check_eq(res.before, 40);
	ks_check_eq(res.after, 1);
	ks_check_eq(rows_of(g, f.ino), 40);
	check(&f);
	compact(g, f.ino, &res);
	ks_check(!res.worth);
	for (uint32_t i = 0; i < 30; i++)
		ks_check_ok(ks_vfs_fallocate(
			f.fh, &g->c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, i * 60000, 5000));
	memset(f.want, 0, 30 * 60000);
	compact(g, f.ino, &res);
	ks_check(res.worth);
	ks_check_eq(res.bytes, 10 * 5000);
	compact(g, f.ino, &res);
	ks_check(!res.worth);
	settle(g, NULL);
	check(&f);
	file_close(&f);
}

KS_TEST(slices_that_stand_alone)
{
	both(alone);
}

/* What is appended a little at a time is not copied as a whole each time. */
static void appended(struct rig *g, struct vol *o)
{
	struct ks_compact_result res;
	struct file f;
	uint64_t copied = 0;
	uint32_t at = 0;

	(void)o;
	file_open(&f, g, "f");
	for (int i = 0; i < 60; i++) {
		for (int k = 0; k < 8; k++, at += 5000) {
			put(&f, at, 5000);
			flush(&f);
		}
		compact(g, f.ino, &res);
		copied += res.bytes;
		ks_check(rows_of(g, f.ino) < 16);
	}
	ks_check(copied < 8ull * at);
	check(&f);
	file_close(&f);
}

KS_TEST(appending_costs_a_logarithm)
{
	both(appended);
}

/* Another process has the file open and an old map: it reads on, before and after the deletion. */
static void old_maps(struct rig *g, struct vol *o)
{
	static uint8_t got[SIZE];
	struct ks_compact_result res;
	struct ks_open_how how;
	struct ks_fh *fh;
	struct rig other;
	struct file f;

	start(&other, o);
	file_open(&f, g, "f");
	put(&f, 0, SIZE);
	flush(&f);
	put_many(&f, 200, 20000);
	ks_check_ok(ks_vfs_open(other.v, &other.c, f.ino, O_RDONLY, &fh, &how));
	ks_check_eq(ks_vfs_read(fh, &other.c, 0, got, 10), 10);
	compact(g, f.ino, &res);
	ks_check_eq(res.after, 1);
	/* The other one has not passed the epoch: nothing is deleted under it. */
	ks_check_ok(ks_meta_tick(g->v->meta, 0));
	ks_check_eq(ks_vfs_read(fh, &other.c, 0, got, SIZE / 2), SIZE / 2);
	ks_check_mem(got, f.want, SIZE / 2);
	settle(g, &other);
	ks_check_eq(ks_vfs_read(fh, &other.c, 0, got, SIZE), SIZE);
	ks_check_mem(got, f.want, SIZE);
	/* It writes over it, and we see that. */
	ks_vfs_release(fh);
	file_close(&f);
	stop(&other);
}

KS_TEST(readers_with_old_maps)
{
	both(old_maps);
}

/* A store that fails: nothing is changed, and later it works. */
static void failing(struct rig *g, struct vol *o)
{
	struct ks_compact_result res;
	struct file f;
	uint32_t rows;

	(void)o;
	file_open(&f, g, "f");
	put(&f, 0, SIZE);
	flush(&f);
	put_many(&f, 100, 5000);
	rows = rows_of(g, f.ino);
	ks_check_ok(ks_object_fault_set(g->faults, "put:fail=EIO"));
	ks_check_eq(try_compact(g, f.ino, &res), -EIO);
	ks_check_ok(ks_object_fault_set(g->faults, "sync:fail=ENOSPC"));
	ks_check_eq(try_compact(g, f.ino, &res), -ENOSPC);
	ks_check_ok(ks_object_fault_set(g->faults, ""));
	ks_check_eq(rows_of(g, f.ino), rows);
	check(&f);
	compact(g, f.ino, &res);
	ks_check_eq(res.after, 1);
	check(&f);
	file_close(&f);
}

KS_TEST(a_store_that_fails)
{
	both(failing);
}

/* A writer, a reader and compaction at one time. */
struct race {
	struct file f;
	pthread_mutex_t mu; /* of want */
	bool stop;          /* atomic */
};

static void *race_write(void *arg)
{
	struct race *r = arg;

	for (int i = 0; i < 3000; i++) {
		uint32_t n = 1 + rnd(&r->f, 6000);
		uint32_t off = rnd(&r->f, SIZE - n);

		ks_mutex_lock(&r->mu);
		put(&r->f, off, n);
		ks_mutex_unlock(&r->mu);
		if (i % 40 == 0)
			flush(&r->f);
	}
	__atomic_store_n(&r->stop, true, __ATOMIC_RELEASE);
	return NULL;
}

static void *race_read(void *arg)
{
	struct race *r = arg;
	uint8_t got[4096];
	uint64_t at = 0;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		at = (at * 25214903917ull + 11) % (SIZE - sizeof(got));
		ks_mutex_lock(&r->mu);
		ks_check_eq(ks_vfs_read(r->f.fh, &r->f.g->c, at, got, sizeof(got)), sizeof(got));
		ks_check_mem(got, r->f.want + at, sizeof(got));
		ks_mutex_unlock(&r->mu);
	}
	return NULL;
}

static void race(struct rig *g, struct vol *o)
{
	struct race r = { .mu = PTHREAD_MUTEX_INITIALIZER };
	struct ks_compact_result res;
	struct rig fresh;
	pthread_t t[2];
	unsigned int did = 0;

	file_open(&r.f, g, "f");
	put(&r.f, 0, SIZE);
	flush(&r.f);
	ks_check_ok(ks_thread_start(&t[0], "writer", race_write, &r));
	ks_check_ok(ks_thread_start(&t[1], "reader", race_read, &r));
	while (!__atomic_load_n(&r.stop, __ATOMIC_ACQUIRE)) {
		compact(g, r.f.ino, &res);
		did += res.worth && res.after < res.before;
		settle(g, NULL);
	}
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	ks_check(did > 0);
	flush(&r.f);
	check(&r.f);
	compact(g, r.f.ino, &res);
	settle(g, NULL);
	start(&fresh, o);
	check_by(&fresh, r.f.ino, r.f.want);
	stop(&fresh);
	file_close(&r.f);
}

KS_TEST(beside_a_writer_and_a_reader)
{
	both(race);
}

/* A mount does it by itself. */
KS_TEST(in_the_background)
{
	struct ks_vfs_stats st = { 0 };
	struct vol o;
	struct rig g;
	struct file f;

	on_disk = true;
	vol_block_size = KS_BLOCK_DEFAULT;
	vol_new(&o);
	start(&g, &o);
	ks_check_ok(ks_vfs_start_maintenance(g.v, true));
	file_open(&f, &g, "f");
	put(&f, 0, SIZE);
	flush(&f);
	put_many(&f, 400, 4000);
	for (int i = 0; i < 400 && st.compactions == 0; i++) {
		const struct timespec nap = { .tv_nsec = 50000000 };

		nanosleep(&nap, NULL);
		ks_vfs_stats(g.v, &st);
	}
	ks_check(st.compactions > 0);
	ks_check_eq(rows_of(&g, f.ino), 1);
	check(&f);
	file_close(&f);
	stop(&g);
	vol_end(&o);
}

KS_TEST_MAIN()
