/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench.c: five rows: one big file and many small ones, written and read, and the small ones looked at. Only the calls are timed; what
 * makes the content and compares it is not. The content says which file and where it is from, so that nothing can stand in for another.
 */
#include "volume/bench.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/bench_place.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *title, *key;
	bool bytes;
} rows[KS_BENCH_ROWS] = {
	[KS_BENCH_BIG_WRITE] = { "big file write", "big_write", true },
	[KS_BENCH_BIG_READ] = { "big file read", "big_read", true },
	[KS_BENCH_SMALL_WRITE] = { "small file write", "small_write", false },
	[KS_BENCH_SMALL_READ] = { "small file read", "small_read", false },
	[KS_BENCH_STAT] = { "stat", "stat", false },
};

const char *ks_bench_title(enum ks_bench_row row)
{
	return rows[row].title;
}

const char *ks_bench_key(enum ks_bench_row row)
{
	return rows[row].key;
}

bool ks_bench_in_bytes(enum ks_bench_row row)
{
	return rows[row].bytes;
}

struct bench {
	const struct ks_bench_opts *o;
	const struct ks_bench_ops *ops;
	struct ks_bench_at at;
	uint64_t *want, *got; /* io_bytes each, aligned for a store's fast path */
	int64_t ns;           /* what the calls of this row took */
};

/* 8 bytes of the content; splitmix64, so that neighbours have nothing in common. */
static uint64_t word(uint64_t file, uint64_t n)
{
	uint64_t x = (file << 40) + n * 0x9e3779b97f4a7c15;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
	return x ^ (x >> 31);
}

static void fill(struct bench *b, uint64_t file, uint64_t off)
{
	for (uint64_t i = 0; i < b->o->io_bytes / 8; i++)
		b->want[i] = word(file + 1, off / 8 + i);
}

static const char *file_name(uint64_t file, char name[32])
{
	snprintf(name, 32, "%06ju", (uintmax_t)file);
	return name;
}

static int failed(const struct bench *b, const char *what, const char *name, int err)
{
	return *ks_fail_text() ? err : ks_fail(err, "%s %s/%s", what, b->at.name, name);
}

static bool stopped(const struct bench *b)
{
	return b->o->stop && b->o->stop(b->o->arg);
}

static void tell(const struct bench *b, uint64_t n)
{
	if (b->o->done)
		atomic_fetch_add(b->o->done, n);
}

/* One piece of a file: as much as was asked for, or it is an error. */
static int piece(struct bench *b, bool write, uint64_t off, size_t n)
{
	int64_t start = ks_clock_mono_ns();

	for (size_t done = 0; done < n;) {
		ssize_t r =
			write ? b->ops->write(&b->at, off + done, (const char *)b->want + done,
					      n - done)
			      : b->ops->read(&b->at, off + done, (char *)b->got + done, n - done);

		if (r < 0)
			return (int)r;
		if (r == 0)
			return -EBADMSG;
		done += (size_t)r;
	}
	b->ns += ks_clock_mono_ns() - start;
	tell(b, n);
	return 0;
}

static int whole_file(struct bench *b, bool write, uint64_t file, uint64_t size)
{
	char name[32];
	int64_t start = ks_clock_mono_ns();
	int r = write ? b->ops->create(&b->at, file_name(file, name))
		      : b->ops->open(&b->at, file_name(file, name));
	int closed;

	b->ns += ks_clock_mono_ns() - start;
	for (uint64_t off = 0; r == 0 && off < size; off += b->o->io_bytes) {
		size_t n = (size_t)ks_min(size - off, b->o->io_bytes);

		if (stopped(b)) {
			r = -EINTR;
			break;
		}
		fill(b, file, off);
		r = piece(b, write, off, n);
		if (r == 0 && !write && memcmp(b->got, b->want, n) != 0)
			r = ks_fail(-EBADMSG, "%s/%s: what was read at %ju is not what was written",
				    b->at.name, name, (uintmax_t)off);
	}
	start = ks_clock_mono_ns();
	closed = b->ops->close(&b->at, write);
	b->ns += ks_clock_mono_ns() - start;
	if (r == 0)
		r = closed;
	return r < 0 && r != -EINTR ? failed(b, write ? "write" : "read", name, r) : r;
}

static int look(struct bench *b, uint64_t file, uint64_t size)
{
	int64_t start = ks_clock_mono_ns();
	uint64_t is = 0;
	char name[32];
	int r = b->ops->stat(&b->at, file_name(file, name), &is);

	b->ns += ks_clock_mono_ns() - start;
	tell(b, 1);
	/* An object is one write. */
	if (r == 0 && is != (b->at.place->store ? ks_min(size, b->o->io_bytes) : size))
		return ks_fail(-EBADMSG, "%s/%s has the wrong size", b->at.name, name);
	return r < 0 ? failed(b, "stat", name, r) : 0;
}

/* The big file is number 0. */
static int row(struct bench *b, enum ks_bench_row which, double *per_s)
{
	const struct ks_bench_opts *o = b->o;
	int r = 0;

	b->ns = 0;
	ks_fail_clear();
	if (rows[which].bytes)
		r = whole_file(b, which == KS_BENCH_BIG_WRITE, 0, o->big_bytes);
	for (uint64_t i = 1; !rows[which].bytes && i <= o->small_files && r == 0; i++) {
		if (stopped(b))
			return -EINTR;
		if (which == KS_BENCH_STAT)
			r = look(b, i, o->small_bytes);
		else
			r = whole_file(b, which == KS_BENCH_SMALL_WRITE, i, o->small_bytes);
	}
	*per_s = (double)(rows[which].bytes ? o->big_bytes : o->small_files) * (double)KS_NS_PER_S /
		 (double)ks_max(b->ns, (int64_t)1);
	return r;
}

/* Everything, however far it came. */
static int clear_away(struct bench *b)
{
	char name[32];
	int r = b->ops->remove(&b->at, file_name(0, name), b->o->big_bytes, b->o->io_bytes);

	for (uint64_t i = 1; i <= b->o->small_files && r == 0; i++)
		r = b->ops->remove(&b->at, file_name(i, name), b->o->small_bytes, b->o->io_bytes);
	if (r == 0)
		r = b->ops->end(&b->at);
	return r < 0 ? failed(b, "remove", name, r) : 0;
}

static int prepare(struct bench *b)
{
	size_t n = (size_t)b->o->io_bytes;

	snprintf(b->at.name, sizeof(b->at.name), "kiseki-bench-%d", (int)getpid());
	if (posix_memalign((void **)&b->want, 4096, n) != 0)
		b->want = NULL;
	if (posix_memalign((void **)&b->got, 4096, n) != 0)
		b->got = NULL;
	return b->want && b->got ? 0 : -ENOMEM;
}

int ks_bench_run(const struct ks_bench_place *place, const struct ks_bench_opts *o,
		 double per_s[KS_BENCH_ROWS])
{
	struct bench b = { .o = o, .at.place = place };
	int r, cleared;

	assert(o->io_bytes >= 4096 && o->io_bytes % 8 == 0);
	b.ops = place->dir ? &ks_bench_dir : place->volume ? &ks_bench_volume : &ks_bench_store;
	r = prepare(&b);
	ks_fail_clear();
	if (r == 0) {
		r = b.ops->begin(&b.at);
		if (r < 0)
			r = failed(&b, "make", "", r);
	}
	if (r == 0) {
		for (int i = 0; i < KS_BENCH_ROWS && r == 0; i++)
			r = row(&b, (enum ks_bench_row)i, &per_s[i]);
		if (r == 0)
			ks_fail_clear();
		cleared = clear_away(&b);
		r = r < 0 ? r : cleared;
	}
	free(b.want);
	free(b.got);
	return r;
}
