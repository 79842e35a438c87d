/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bytemodel DIR: files against a model of their bytes in memory.
 *
 *	--seed N        which run (default: the clock; printed at the start)
 *	--ops N         random operations (default 3000)
 *	--files N       files (default 2)
 *	--block SIZE    block size of the volume under test (default 4M): its edges are visited
 *	--max SIZE      largest file (default 72M: past the first chunk of 64 MiB)
 *	--edges-only, --random-only
 *
 * First every offset around the edges of page, block and chunk is written, read and truncated; then a random
 * phase in the manner of fsx: reads and writes through several descriptors at once (write-only beside read-only,
 * O_RDWR, O_APPEND, O_DIRECT), mmap, truncate, fallocate, fsync, close and reopen. With REMOUNT_CMD in the environment
 * the volume is remounted now and then. Exit status: 0 equal, 1 a byte differs (history is printed), 2 could not run.
 */
#include "util.h"
#include <fcntl.h>
#include <getopt.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { HISTORY = 60, IO_MAX = 10 * MIB, FILES_MAX = 8, ALIGN = 4096 };
enum fd_kind {
	FD_RDWR,
	FD_RDONLY,
	FD_WRONLY,
	FD_APPEND,
	FD_DIRECT,
	FD_WDIRECT,
	FD_RDWR2,
	FD_KINDS
};

static const struct {
	const char *name;
	int flags;
	bool r, w, direct;
} kinds[FD_KINDS] = {
	[FD_RDWR] = { "rdwr", O_RDWR, true, true, false },
	[FD_RDONLY] = { "rdonly", O_RDONLY, true, false, false },
	[FD_WRONLY] = { "wronly", O_WRONLY, false, true, false },
	[FD_APPEND] = { "append", O_WRONLY | O_APPEND, false, false, false },
	[FD_DIRECT] = { "rdwr-direct", O_RDWR | O_DIRECT, true, true, true },
	[FD_WDIRECT] = { "wronly-direct", O_WRONLY | O_DIRECT, false, true, true },
	[FD_RDWR2] = { "rdwr2", O_RDWR, true, true, false },
};

struct file {
	char path[4096];
	uint8_t *model; /* max_size bytes; behind size all zero */
	uint64_t size;
	int fd[FD_KINDS];
};

static struct file files[FILES_MAX];
static unsigned nfiles = 2;
static uint64_t max_size = 72ull * MIB, block = 4 * MIB;
static uint8_t *io;
static char history[HISTORY][200];
static uint64_t nops, seed_used;

static __attribute__((format(printf, 1, 2))) void note(const char *fmt, ...)
{
	char *h = history[nops++ % HISTORY];
	int n = snprintf(h, sizeof(history[0]), "%llu ", (unsigned long long)(nops - 1));
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(h + n, sizeof(history[0]) - (size_t)n, fmt, ap);
	va_end(ap);
}

static __attribute__((noreturn)) void show_history(void)
{
	for (uint64_t i = nops > HISTORY ? nops - HISTORY : 0; i < nops; i++)
		printf("  %s\n", history[i % HISTORY]);
	fflush(stdout);
	exit(1);
}

static __attribute__((noreturn, format(printf, 2, 3))) void wrong(const struct file *f,
								  const char *fmt, ...)
{
	va_list ap;

	printf("seed %llu: file %d: ", (unsigned long long)seed_used, (int)(f - files));
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	show_history();
}

static __attribute__((noreturn)) void failed(const struct file *f, const char *what)
{
	wrong(f, "%s: %s", what, strerror(errno));
}

static void compare(const struct file *f, const uint8_t *got, uint64_t off, uint64_t n,
		    const char *how)
{
	const uint8_t *want = f->model + off;
	uint64_t first, last, zeros = 0;

	if (memcmp(got, want, n) == 0)
		return;
	for (first = 0; got[first] == want[first]; first++)
		;
	for (last = n - 1; got[last] == want[last]; last--)
		;
	for (uint64_t i = first; i <= last; i++)
		zeros += got[i] == 0;
	wrong(f,
	      "%s at %#llx+%#llx: bytes %#llx..%#llx differ (first: got %02x, want %02x; %llu of "
	      "them read as zero); size %#llx",
	      how, (unsigned long long)off, (unsigned long long)n,
	      (unsigned long long)(off + first), (unsigned long long)(off + last), got[first],
	      want[first], (unsigned long long)zeros, (unsigned long long)f->size);
}

/* ---- one operation each, on file and model ---- */

static int get_fd(struct file *f, enum fd_kind k)
{
	if (f->fd[k] < 0) {
		f->fd[k] = open(f->path, kinds[k].flags);
		/* A file system without O_DIRECT is tested without. */
		if (f->fd[k] < 0 && errno == EINVAL && kinds[k].direct)
			f->fd[k] = open(f->path, kinds[k].flags & ~O_DIRECT);
		if (f->fd[k] < 0)
			failed(f, "open");
	}
	return f->fd[k];
}

static void do_read(struct file *f, enum fd_kind k, uint64_t off, uint64_t n)
{
	uint64_t want;
	ssize_t r;

	if (kinds[k].direct) {
		off = off / ALIGN * ALIGN;
		n = (n + ALIGN - 1) / ALIGN * ALIGN;
	}
	n = MIN(n, (uint64_t)IO_MAX);
	want = off >= f->size ? 0 : MIN(n, f->size - off);
	note("read file=%d %s %#llx+%#llx", (int)(f - files), kinds[k].name,
	     (unsigned long long)off, (unsigned long long)n);
	r = pread(get_fd(f, k), io, n, (off_t)off);
	if (r < 0)
		failed(f, "pread");
	if ((uint64_t)r != want)
		wrong(f, "pread at %#llx+%#llx: got %#llx bytes, want %#llx; size %#llx",
		      (unsigned long long)off, (unsigned long long)n, (unsigned long long)r,
		      (unsigned long long)want, (unsigned long long)f->size);
	compare(f, io, off, want, "read");
}

static void grown(struct file *f, uint64_t end)
{
	if (end > f->size)
		f->size = end;
}

static void do_write(struct file *f, enum fd_kind k, uint64_t off, uint64_t n, uint64_t seed)
{
	if (kinds[k].direct) {
		off = off / ALIGN * ALIGN;
		n = (n + ALIGN - 1) / ALIGN * ALIGN;
	}
	if (k == FD_APPEND)
		off = f->size;
	n = MIN(n, (uint64_t)IO_MAX);
	if (n == 0 || off + n > max_size)
		return;
	note("write file=%d %s %#llx+%#llx", (int)(f - files), kinds[k].name,
	     (unsigned long long)off, (unsigned long long)n);
	pattern(io, n, seed, off);
	memcpy(f->model + off, io, n);
	if (k == FD_APPEND ? write(get_fd(f, k), io, n) != (ssize_t)n
			   : pwrite_all(get_fd(f, k), io, n, (off_t)off) < 0)
		failed(f, "write");
	grown(f, off + n);
}

static void do_truncate(struct file *f, uint64_t size, bool by_path)
{
	note("%s file=%d %#llx (was %#llx)", by_path ? "truncate" : "ftruncate", (int)(f - files),
	     (unsigned long long)size, (unsigned long long)f->size);
	if ((by_path ? truncate(f->path, (off_t)size)
		     : ftruncate(get_fd(f, FD_WRONLY), (off_t)size)) < 0)
		failed(f, "truncate");
	if (size < f->size)
		memset(f->model + size, 0, f->size - size);
	f->size = size;
}

static void do_falloc(struct file *f, int mode, uint64_t off, uint64_t n)
{
	if (n == 0 || off + n > max_size)
		return;
	note("fallocate file=%d mode=%#x %#llx+%#llx", (int)(f - files), (unsigned)mode,
	     (unsigned long long)off, (unsigned long long)n);
	if (fallocate(get_fd(f, FD_RDWR), mode, (off_t)off, (off_t)n) < 0) {
		if (errno == EOPNOTSUPP)
			return;
		failed(f, "fallocate");
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		memset(f->model + off, 0, n);
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grown(f, off + n);
}

/* Through a shared mapping; @seed 0 only reads. */
static void do_mmap(struct file *f, uint64_t off, uint64_t n, uint64_t seed, bool sync)
{
	uint64_t start = off / 4096 * 4096;
	uint8_t *p;

	if (off >= f->size)
		return;
	n = MIN(MIN(n, f->size - off), (uint64_t)MIB);
	if (n == 0)
		return;
	note("mmap-%s file=%d %#llx+%#llx%s", seed ? "write" : "read", (int)(f - files),
	     (unsigned long long)off, (unsigned long long)n, sync ? " msync" : "");
	p = mmap(NULL, off - start + n, seed ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
		 get_fd(f, seed ? FD_RDWR : FD_RDONLY), (off_t)start);
	if (p == MAP_FAILED)
		failed(f, "mmap");
	if (seed) {
		pattern(p + (off - start), n, seed, off);
		pattern(f->model + off, n, seed, off);
		if (sync && msync(p, off - start + n, MS_SYNC) < 0)
			failed(f, "msync");
	} else {
		compare(f, p + (off - start), off, n, "mmap");
	}
	if (munmap(p, off - start + n) < 0)
		failed(f, "munmap");
}

static void do_copy(struct file *in, uint64_t off, struct file *out, uint64_t to, uint64_t n)
{
	off_t a = (off_t)off, b = (off_t)to;
	ssize_t r;

	n = off >= in->size ? 0 : MIN(n, in->size - off);
	if (n == 0 || to + n > max_size || (in == out && off < to + n && to < off + n))
		return;
	note("copy_file_range file=%d %#llx+%#llx -> file=%d %#llx", (int)(in - files),
	     (unsigned long long)off, (unsigned long long)n, (int)(out - files),
	     (unsigned long long)to);
	r = copy_file_range(get_fd(in, FD_RDONLY), &a, get_fd(out, FD_WRONLY), &b, n, 0);
	if (r < 0)
		failed(in, "copy_file_range");
	if ((uint64_t)r > n)
		wrong(in, "copy_file_range copied %lld", (long long)r);
	memcpy(out->model + to, in->model + off, (size_t)r);
	grown(out, to + (uint64_t)r);
}

static void close_one(struct file *f, enum fd_kind k)
{
	if (f->fd[k] < 0)
		return;
	note("close file=%d %s", (int)(f - files), kinds[k].name);
	if (close(f->fd[k]) < 0)
		failed(f, "close");
	f->fd[k] = -1;
}

static void check_size(struct file *f)
{
	struct stat st;

	note("stat file=%d", (int)(f - files));
	if (stat(f->path, &st) < 0)
		failed(f, "stat");
	if ((uint64_t)st.st_size != f->size)
		wrong(f, "stat: size %#llx, want %#llx", (unsigned long long)st.st_size,
		      (unsigned long long)f->size);
}

static void check_all(struct file *f, enum fd_kind k)
{
	check_size(f);
	for (uint64_t off = 0; off < f->size; off += 4 * MIB)
		do_read(f, k, off, 4 * MIB);
	do_read(f, k, f->size / ALIGN * ALIGN, 2 * ALIGN);
}

static void close_file(struct file *f)
{
	for (int k = 0; k < FD_KINDS; k++)
		close_one(f, (enum fd_kind)k);
}

static void do_remount(void)
{
	for (unsigned i = 0; i < nfiles; i++)
		close_file(&files[i]);
	note("remount");
	remount();
	for (unsigned i = 0; i < nfiles; i++)
		check_all(&files[i], FD_RDONLY);
}

/* ---- every offset around the edges ---- */

static void one_edge(struct file *f, uint64_t edge, struct rng *r)
{
	static const uint64_t lens[] = { 1, 2, 3, 7, 511, 4096, 4097 };
	static const enum fd_kind writers[] = { FD_WRONLY, FD_RDWR };

	for (int d = -9; d <= 9; d++) {
		uint64_t at = edge + (uint64_t)(int64_t)d;

		if ((int64_t)at < 0)
			continue;
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			do_write(f, writers[below(r, 2)], at, lens[i], rnd(r));
			if (one_in(r, 4))
				close_one(f, FD_WRONLY);
			do_read(f, one_in(r, 3) ? FD_DIRECT : FD_RDONLY, at < 16 ? 0 : at - 16,
				lens[i] + 32);
		}
		do_truncate(f, at, one_in(r, 2));
		check_size(f);
		do_read(f, FD_RDONLY, at < 5000 ? 0 : at - 5000, 10000);
		/* Grown again: zeros, not what was there. */
		do_truncate(f, at + 1 + below(r, 6000), one_in(r, 2));
		do_read(f, FD_RDONLY, at < 5000 ? 0 : at - 5000, 16000);
		do_write(f, FD_WRONLY, at + 100, 3000, rnd(r));
		do_read(f, FD_RDWR, at < 5000 ? 0 : at - 5000, 16000);
	}
}

static void edges(struct rng *r)
{
	uint64_t list[] = { 0,         4096,         PAGE,         2 * PAGE, block,
			    2 * block, block - PAGE, block + PAGE, CHUNK };
	struct file *f = &files[0];

	for (size_t i = 0; i < ARRAY_SIZE(list); i++) {
		if (list[i] + 2 * MIB > max_size)
			continue;
		one_edge(f, list[i], r);
		/* One slice over the edge, then holes and pieces laid over it. */
		do_write(f, FD_WRONLY, list[i] > 100000 ? list[i] - 100000 : 0, 200000, rnd(r));
		do_falloc(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, list[i], 5000);
		do_write(f, FD_WRONLY, list[i] + 2500, 100, rnd(r));
		do_read(f, FD_RDONLY, list[i] > 110000 ? list[i] - 110000 : 0, 220000);
		close_file(f);
		check_all(f, FD_RDONLY);
	}
	do_truncate(f, 0, true);
	check_all(f, FD_RDONLY);
	if (can_remount())
		do_remount();
}

/* ---- random ---- */

static uint64_t random_offset(struct rng *r, const struct file *f)
{
	uint64_t list[] = { 0, PAGE, 2 * PAGE, block, 2 * block, CHUNK, f->size, f->size / 2 };
	uint64_t at = list[below(r, ARRAY_SIZE(list))];
	int64_t d = (int64_t)below(r, one_in(r, 3) ? 400000 : 200) - (one_in(r, 3) ? 200000 : 100);

	if (one_in(r, 4))
		return below(r, MAX(f->size, 4096) + 50000) % max_size;
	at = (int64_t)at + d < 0 ? 0 : at + (uint64_t)d;
	return at % max_size;
}

static uint64_t random_length(struct rng *r)
{
	switch (below(r, 20)) {
	case 0:
		return one_in(r, 3) ? below(r, 9 * MIB) : below(r, MIB);
	case 1:
	case 2:
		return below(r, 300 * KIB);
	case 3:
		return PAGE;
	case 4:
	case 5:
		return 4096;
	default:
		return 1 + below(r, 12000);
	}
}

static enum fd_kind random_kind(struct rng *r, bool write)
{
	enum fd_kind k;

	do
		k = (enum fd_kind)below(r, FD_KINDS);
	while (write ? !kinds[k].w && k != FD_APPEND : !kinds[k].r);
	return k;
}

static void do_fsync(struct file *f, enum fd_kind k)
{
	note("fsync file=%d %s", (int)(f - files), kinds[k].name);
	if (fsync(get_fd(f, k)) < 0)
		failed(f, "fsync");
}

static void random_op(struct rng *r)
{
	static const int fallocs[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
				       FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				       FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	struct file *f = &files[below(r, nfiles)];
	uint64_t off = random_offset(r, f), n = random_length(r), what = below(r, 100);

	if (what < 36)
		do_write(f, random_kind(r, true), off, n, rnd(r));
	else if (what < 64)
		do_read(f, random_kind(r, false), off, n);
	else if (what < 72)
		do_truncate(f, one_in(r, 3) ? below(r, 200000) : off, one_in(r, 2));
	else if (what < 77)
		do_falloc(f, fallocs[below(r, ARRAY_SIZE(fallocs))], off, n);
	else if (what < 82)
		do_mmap(f, off, n, 0, false);
	else if (what < 87)
		do_mmap(f, off, n, rnd(r) | 1, one_in(r, 2));
	else if (what < 90)
		do_copy(f, off, &files[below(r, nfiles)], random_offset(r, f), n);
	else if (what < 93)
		do_fsync(f, one_in(r, 2) ? FD_WRONLY : FD_RDWR);
	else if (what < 98)
		close_one(f, (enum fd_kind)below(r, FD_KINDS));
	else
		check_size(f);
}

static void usage(void)
{
	fprintf(stderr, "usage: bytemodel [--seed N] [--ops N] [--files N] [--block SIZE] [--max "
			"SIZE] DIR\n");
	exit(64);
}

static void make_files(const char *dir)
{
	for (unsigned i = 0; i < nfiles; i++) {
		int fd;

		snprintf(files[i].path, sizeof(files[i].path), "%s/bytemodel.%d.%u", dir,
			 (int)getpid(), i);
		fd = open(files[i].path, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0)
			die("%s", files[i].path);
		close(fd);
		files[i].model = mmap(NULL, max_size + IO_MAX, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (files[i].model == MAP_FAILED)
			die("memory for the model");
		for (int k = 0; k < FD_KINDS; k++)
			files[i].fd[k] = -1;
	}
	if (posix_memalign((void **)&io, ALIGN, IO_MAX + ALIGN) != 0)
		die("memory");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },        { "ops", 1, NULL, 'o' },
		{ "files", 1, NULL, 'f' },       { "block", 1, NULL, 'b' },
		{ "max", 1, NULL, 'm' },         { "edges-only", 0, NULL, 'e' },
		{ "random-only", 0, NULL, 'r' }, { NULL, 0, NULL, 0 }
	};
	bool edges_too = true, random_too = true;
	uint64_t count = 3000;
	struct rng r;
	int c;

	seed_used = (uint64_t)time(NULL);
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			seed_used = number(optarg);
		else if (c == 'o')
			count = number(optarg);
		else if (c == 'f')
			nfiles = (unsigned)MAX(1, MIN(number(optarg), FILES_MAX));
		else if (c == 'b')
			block = number(optarg);
		else if (c == 'm')
			max_size = MAX(number(optarg), 1 * MIB);
		else if (c == 'e')
			random_too = false;
		else if (c == 'r')
			edges_too = false;
		else
			usage();
	}
	if (argc - optind != 1)
		usage();
	setvbuf(stdout, NULL, _IOLBF, 0);
	r.s = seed_used;
	printf("bytemodel: seed %llu, %llu operations\n", (unsigned long long)seed_used,
	       (unsigned long long)count);
	make_files(argv[optind]);
	if (edges_too)
		edges(&r);
	for (uint64_t i = 1; random_too && i <= count; i++) {
		random_op(&r);
		if (i % 250 == 0)
			for (unsigned k = 0; k < nfiles; k++)
				check_all(&files[k], random_kind(&r, false));
		if (i % 1000 == 0 && can_remount())
			do_remount();
	}
	for (unsigned i = 0; i < nfiles; i++) {
		close_file(&files[i]);
		check_all(&files[i], FD_RDONLY);
		close_file(&files[i]);
		unlink(files[i].path);
	}
	printf("bytemodel: seed %llu: equal\n", (unsigned long long)seed_used);
	return 0;
}
