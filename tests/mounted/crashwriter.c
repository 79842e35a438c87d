/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashwriter DIR LOG: makes, changes and removes files in DIR and writes every promise the file system makes
 * to LOG (see crashlog.h), until --seconds are over, --ops are done, or the mount dies under it.
 *
 *	--seed N      which run (default: the clock)
 *	--ops N       operations per process (default: no end)
 *	--seconds N   stop after (default 30)
 *	--threads N   so many processes (default 2)
 *
 * Exit status: 0 done or the mount died, 1 an operation failed on a mount that lives, 2 could not run.
 */
#include "crashlog.h"
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

enum { NAMES = 30, LARGEST = 9 * MIB };

struct entry {
	char name[CRASH_NAME];
	bool exists;
	uint64_t seed, len;
};

static const char *dir;
static int dir_fd, log_fd;
static struct entry entries[NAMES];
static uint8_t *buf;
static uint64_t promises;
static unsigned me;

/* The mount died: all is well so far. Anything else is a finding. */
static __attribute__((noreturn)) void stopped(const char *what)
{
	int e = errno;
	struct stat st;

	for (int i = 0; i < 20; i++) {
		if (e == ENOTCONN || e == ECONNABORTED || e == ENODEV || stat(dir, &st) < 0) {
			printf("crashwriter %u: %llu promises, then %s: %s\n", me,
			       (unsigned long long)promises, what, strerror(e));
			fflush(stdout);
			_exit(0);
		}
		sleep_ms(100);
	}
	fprintf(stderr, "crashwriter %u: %s failed on a living mount: %s\n", me, what, strerror(e));
	_exit(1);
}

static void put_log(char kind, const char *name, uint64_t seed, uint64_t len)
{
	char line[200];
	int n = snprintf(line, sizeof(line), "%c %s %llu %llu\n", kind, name,
			 (unsigned long long)seed, (unsigned long long)len);

	if (write(log_fd, line, (size_t)n) != n)
		die("the log");
	promises += strchr("FCXP", kind) != NULL;
}

static int must_open(const char *name, int flags)
{
	int fd = openat(dir_fd, name, flags, 0644);

	if (fd < 0)
		stopped("open");
	return fd;
}

static void must_close(int fd)
{
	if (close(fd) < 0)
		stopped("close");
}

static void must_sync(int fd, bool data)
{
	if ((data ? fdatasync(fd) : fsync(fd)) < 0)
		stopped("fsync");
}

static uint64_t random_size(struct rng *r)
{
	switch (below(r, 12)) {
	case 0:
		return 0;
	case 1:
		return one_in(r, 4) ? below(r, LARGEST) : below(r, 2 * MIB);
	case 2:
		return PAGE * (1 + below(r, 3));
	case 3:
		return below(r, 300 * KIB);
	default:
		return 1 + below(r, 20000);
	}
}

/* Writes the content in pieces. */
static void write_content(struct rng *r, int fd, uint64_t seed, uint64_t len)
{
	pattern(buf, len, seed, 0);
	for (uint64_t off = 0; off < len;) {
		uint64_t n = one_in(r, 2) ? len : 1 + below(r, 200 * KIB);

		n = MIN(n, len - off);
		if (pwrite_all(fd, buf + off, n, (off_t)off) < 0)
			stopped("write");
		off += n;
	}
}

static void make(struct rng *r, struct entry *e, const char *name, bool sync, bool promise)
{
	uint64_t seed = rnd(r) >> 16, len = random_size(r);
	int fd;

	put_log('N', name, seed, len);
	fd = must_open(name, O_CREAT | O_TRUNC | (one_in(r, 2) ? O_WRONLY : O_RDWR));
	write_content(r, fd, seed, len);
	if (sync) {
		must_sync(fd, one_in(r, 3));
		put_log('F', name, seed, len);
	}
	must_close(fd);
	if (promise && !sync)
		put_log('C', name, seed, len);
	e->exists = true;
	e->seed = seed;
	e->len = len;
}

/* The way programs save a file: a new one beside it, fsync, rename over it. */
static void replace(struct rng *r, struct entry *e)
{
	char tmp[CRASH_NAME + 8];
	struct entry made = { .name = "" };
	bool sync = !one_in(r, 4);

	snprintf(tmp, sizeof(tmp), "%s.tmp", e->name);
	make(r, &made, tmp, sync, true);
	put_log('B', e->name, made.seed, made.len);
	put_log('G', tmp, 0, 0);
	if (renameat(dir_fd, tmp, dir_fd, e->name) < 0)
		stopped("rename");
	put_log('C', e->name, made.seed, made.len);
	put_log('X', tmp, 0, 0);
	if (one_in(r, 3)) {
		int fd = must_open(".", O_RDONLY | O_DIRECTORY);

		must_sync(fd, false);
		if (sync)
			put_log('F', e->name, made.seed, made.len);
		must_close(fd);
	}
	e->exists = true;
	e->seed = made.seed;
	e->len = made.len;
}

static void append(struct rng *r, struct entry *e)
{
	bool osync = one_in(r, 2);
	int fd = must_open(e->name, O_WRONLY | O_APPEND | (osync ? O_SYNC : 0));

	for (int i = 0; i < 4; i++) {
		uint64_t n = 1 + below(r, 9000);

		put_log('A', e->name, e->seed, e->len + n);
		pattern(buf, n, e->seed, e->len);
		if (write(fd, buf, n) != (ssize_t)n)
			stopped("append");
		e->len += n;
		if (!osync)
			must_sync(fd, true);
		put_log('F', e->name, e->seed, e->len);
	}
	must_close(fd);
}

static void cut(struct rng *r, struct entry *e)
{
	uint64_t len = below(r, e->len + 1);
	int fd = must_open(e->name, O_WRONLY);

	put_log('B', e->name, e->seed, len);
	if (ftruncate(fd, (off_t)len) < 0)
		stopped("ftruncate");
	must_sync(fd, false);
	put_log('F', e->name, e->seed, len);
	must_close(fd);
	e->len = len;
}

static void gone(struct entry *e)
{
	put_log('G', e->name, 0, 0);
	if (unlinkat(dir_fd, e->name, 0) < 0)
		stopped("unlink");
	put_log('X', e->name, 0, 0);
	e->exists = false;
}

/* Pages overwritten in place, each with its own promise. */
static void in_place(struct rng *r, uint64_t *generation)
{
	char name[CRASH_NAME];
	uint64_t pages[4];
	uint8_t page[CRASH_PAGE];
	unsigned n = 1 + (unsigned)below(r, 4);
	int fd;

	snprintf(name, sizeof(name), "p%u-inplace", me);
	fd = must_open(name, O_CREAT | (one_in(r, 2) ? O_WRONLY : O_RDWR));
	++*generation;
	for (unsigned i = 0; i < n; i++) {
		pages[i] = below(r, CRASH_PAGES);
		put_log('W', name, *generation, pages[i]);
		crash_page(page, pages[i], *generation);
		if (pwrite_all(fd, page, CRASH_PAGE, (off_t)(pages[i] * CRASH_PAGE)) < 0)
			stopped("pwrite");
	}
	must_sync(fd, true);
	for (unsigned i = 0; i < n; i++)
		put_log('P', name, *generation, pages[i]);
	must_close(fd);
}

static void one_op(struct rng *r, uint64_t *generation)
{
	struct entry *e = &entries[below(r, NAMES)];
	uint64_t what = below(r, 100);

	if (what < 15)
		in_place(r, generation);
	else if (!e->exists || what < 30)
		make(r, e, e->name, one_in(r, 2), true);
	else if (what < 60)
		replace(r, e);
	else if (what < 75)
		append(r, e);
	else if (what < 87)
		cut(r, e);
	else
		gone(e);
}

static void run(uint64_t seed, uint64_t ops, int64_t end_ns)
{
	struct rng r = { seed };
	uint64_t generation = 0;

	buf = xalloc(LARGEST + MIB);
	for (int i = 0; i < NAMES; i++)
		snprintf(entries[i].name, CRASH_NAME, "p%u-f%d", me, i);
	for (uint64_t i = 0; i < ops && now_ns() < end_ns; i++)
		one_op(&r, &generation);
	printf("crashwriter %u: %llu promises\n", me, (unsigned long long)promises);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "seed", 1, NULL, 's' },
					       { "ops", 1, NULL, 'o' },
					       { "threads", 1, NULL, 't' },
					       { "seconds", 1, NULL, 'e' },
					       { NULL, 0, NULL, 0 } };
	uint64_t seed = (uint64_t)time(NULL), ops = UINT64_MAX, seconds = 30;
	unsigned procs = 2;
	pid_t pids[64];
	int bad = 0, c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			seed = number(optarg);
		else if (c == 'o')
			ops = number(optarg);
		else if (c == 't')
			procs = (unsigned)MAX(1, MIN(number(optarg), 64));
		else if (c == 'e')
			seconds = number(optarg);
		else
			return 64;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: crashwriter [--seed N] [--ops N] [--seconds N] [--threads "
				"N] DIR LOG\n");
		return 64;
	}
	dir = argv[optind];
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	log_fd = open(argv[optind + 1], O_WRONLY | O_CREAT | O_APPEND | O_DSYNC, 0644);
	if (dir_fd < 0 || log_fd < 0)
		die("%s or %s", dir, argv[optind + 1]);
	printf("crashwriter: seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	for (me = 0; me < procs; me++) {
		pids[me] = fork();
		if (pids[me] == 0) {
			run(seed + me, ops, now_ns() + (int64_t)seconds * 1000000000);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < procs; i++)
		bad |= wait_for(pids[i]);
	return bad;
}
