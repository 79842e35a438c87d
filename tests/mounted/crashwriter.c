/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashwriter DIR LOG: makes, changes and removes files in DIR and writes every promise the file system makes
 * to LOG (see crashlog.h), until --seconds are over, --ops are done, or the mount dies under it.
 *
 *	--seed N      which run (default: the clock)
 *	--ops N       operations per process (default: no end)
 *	--seconds N   stop after (default 30)
 *	--threads N   so many processes (default 2)
 *	--calm        with spells of a few seconds in which nothing is synced and the file system is left alone with what it has to do
 *	--also DIR2   DIR on another mount: some of what is overwritten in place goes through that
 *	--errors LIST operations may fail with these (EIO,ENOSPC,...), and are then given up
 *	--cp VOLUME:/DIR   also copy files in, and within, with kiseki-cp, which promises that they are durable; DIR is the directory in the volume
 *
 * Exit status: 0 done or the mount died, 1 an operation failed on a mount that lives, 2 could not run.
 */
#include "crashlog.h"
#include <fcntl.h>
#include <getopt.h>
#include <setjmp.h>
#include <sys/stat.h>

enum { NAMES = 30, COPIES = 4, SLOT = 8, LARGEST = 9 * MIB };

struct entry {
	char name[CRASH_NAME];
	bool exists;
	uint64_t seed, len, solid; /* of them so many bytes were synced */
};

/* The file that is overwritten in place. */
struct pages {
	char name[CRASH_NAME];
	uint64_t generation, now[CRASH_PAGES];
	int unsynced[CRASH_PAGES]; /* the directory through which it was written last; -1: synced */
	bool named;                /* the log says that there may be such a file */
};

static const char *dir, *cp_to, *log_path;
static int dir_fd, also_fd = -1, log_fd;
static struct entry entries[NAMES];
static uint8_t *buf;
static uint64_t promises, failures;
static unsigned me;
static bool calm;
static int allowed[8]; /* errors that may reach us */
static unsigned nallowed;
static jmp_buf next_op;
static int open_fd = -1; /* of the operation that is on */

/*
 * The mount died: all is well so far. An error that may be gives the operation up: what it had begun may have happened or not. Anything else is a
 * finding.
 */
static __attribute__((noreturn)) void stopped(const char *what)
{
	int e = errno;
	struct stat st;

	for (unsigned i = 0; i < nallowed; i++) {
		if (e == allowed[i]) {
			failures++;
			longjmp(next_op, 1);
		}
	}
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

static void put_log(char kind, const char *name, uint64_t seed, uint64_t len, uint64_t solid)
{
	char line[200];
	int n = snprintf(line, sizeof(line), "%c %s %llu %llu %llu %lld\n", kind, name,
			 (unsigned long long)seed, (unsigned long long)len,
			 (unsigned long long)solid, (long long)now_ns());

	if (write(log_fd, line, (size_t)n) != n)
		die("the log");
	promises += strchr("FCRXPY", kind) != NULL;
}

/* @kind of the state that @e is in. */
static void put_state(char kind, const struct entry *e)
{
	put_log(kind, e->name, e->seed, e->len, e->solid);
}

static void put_synced(struct entry *e)
{
	e->solid = e->len;
	put_state('F', e);
}

static int must_open_at(int at, const char *name, int flags)
{
	int fd = openat(at, name, flags, 0644);

	if (fd < 0)
		stopped("open");
	open_fd = fd;
	return fd;
}

static int must_open(const char *name, int flags)
{
	return must_open_at(dir_fd, name, flags);
}

static void must_close(int fd)
{
	open_fd = -1;
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

/* Makes @e, or writes it anew. */
static void make(struct rng *r, struct entry *e, bool sync)
{
	int fd;

	e->seed = rnd(r) >> 16;
	e->len = random_size(r);
	e->solid = 0;
	put_state('N', e);
	fd = must_open(e->name, O_CREAT | O_TRUNC | (one_in(r, 2) ? O_WRONLY : O_RDWR));
	write_content(r, fd, e->seed, e->len);
	if (sync) {
		must_sync(fd, one_in(r, 3));
		put_synced(e);
	}
	must_close(fd);
	if (!sync)
		put_state('C', e);
	e->exists = true;
}

static void sync_dir(void)
{
	char name[CRASH_NAME];
	int fd = must_open(".", O_RDONLY | O_DIRECTORY);

	must_sync(fd, false);
	snprintf(name, sizeof(name), "p%u-", me);
	put_log('Y', name, 0, 0, 0);
	must_close(fd);
}

/* The way programs save a file: a new one beside it, perhaps fsync, rename over it, which brings its content to the disk first. */
static void replace(struct rng *r, struct entry *e, bool sync)
{
	struct entry made = { .name = "" };

	snprintf(made.name, sizeof(made.name), "%.50s.tmp", e->name);
	make(r, &made, sync && one_in(r, 2));
	e->seed = made.seed;
	e->len = e->solid = made.len;
	put_state('B', e);
	put_log('G', made.name, 0, 0, 0);
	if (renameat(dir_fd, made.name, dir_fd, e->name) < 0)
		stopped("rename");
	put_state('R', e);
	put_log('X', made.name, 0, 0, 0);
	if (sync && one_in(r, 3))
		sync_dir();
}

static void append(struct rng *r, struct entry *e, bool sync)
{
	bool osync = one_in(r, 2), never = !sync || one_in(r, 4);
	int fd = must_open(e->name, O_WRONLY | O_APPEND | (osync && !never ? O_SYNC : 0));

	for (int i = 0; i < 4; i++) {
		uint64_t n = 1 + below(r, 9000);

		put_log('A', e->name, e->seed, e->len + n, e->solid);
		pattern(buf, n, e->seed, e->len);
		if (write(fd, buf, n) != (ssize_t)n)
			stopped("append");
		e->len += n;
		if (never)
			continue;
		if (!osync)
			must_sync(fd, true);
		put_synced(e);
	}
	must_close(fd);
	if (never)
		put_state('C', e);
}

static void cut(struct rng *r, struct entry *e, bool sync)
{
	int fd = must_open(e->name, O_WRONLY);

	e->len = below(r, e->len + 1);
	e->solid = MIN(e->solid, e->len);
	put_state('B', e);
	if (ftruncate(fd, (off_t)e->len) < 0)
		stopped("ftruncate");
	if (sync && !one_in(r, 3)) {
		must_sync(fd, false);
		put_synced(e);
		must_close(fd);
	} else {
		must_close(fd);
		put_state('C', e);
	}
}

static void gone(struct rng *r, struct entry *e, bool sync)
{
	put_log('G', e->name, 0, 0, 0);
	if (unlinkat(dir_fd, e->name, 0) < 0)
		stopped("unlink");
	put_log('X', e->name, 0, 0, 0);
	e->exists = false;
	if (sync && one_in(r, 3))
		sync_dir();
}

static struct entry copies[COPIES];

static void run_cp(const struct entry *e, const char *from)
{
	char command[12 << 10];
	int status;

	snprintf(command, sizeof(command), "kiseki-cp -q -T '%s' '%s/%s'", from, cp_to, e->name);
	status = system(command);
	if (status != 0) {
		errno = EIO;
		stopped(command);
	}
}

/*
 * A copy made by another process on the same volume, of names that are its own: the mount may know for a second what they were. Of a local file, or
 * of one of the volume, which was written through the mount and perhaps never synced.
 */
static void copy_in(struct rng *r)
{
	const struct entry *source = &entries[below(r, NAMES)];
	struct entry *e = &copies[below(r, COPIES)];
	bool within = one_in(r, 2) && source->exists;
	char from[8192];
	int fd;

	snprintf(e->name, sizeof(e->name), "p%u-c%d", me, (int)(e - copies));
	if (within) {
		snprintf(from, sizeof(from), "%s/%s", cp_to, source->name);
		e->seed = source->seed;
		e->len = source->len;
	} else {
		snprintf(from, sizeof(from), "%s.p%u", log_path, me);
		e->seed = rnd(r) >> 16;
		e->len = random_size(r);
		fd = open(from, O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0)
			die("%s", from);
		write_content(r, fd, e->seed, e->len);
		must_close(fd);
	}
	/* Before it has its name it is durable. */
	e->solid = e->len;
	put_state('B', e);
	run_cp(e, from);
	put_synced(e);
	e->exists = true;
}

static void page_begins(struct pages *f, int at, uint64_t page, uint64_t generation)
{
	put_log('W', f->name, generation, page, 0);
	f->now[page] = generation;
	f->unsynced[page] = at;
}

static void write_pages(struct pages *f, int at, int fd, uint64_t from, uint64_t n)
{
	f->generation++;
	for (uint64_t p = from; p < from + n; p++) {
		page_begins(f, at, p, f->generation);
		crash_page(buf + (p - from) * CRASH_PAGE, p, f->generation);
	}
	if (pwrite_all(fd, buf, n * CRASH_PAGE, (off_t)(from * CRASH_PAGE)) < 0)
		stopped("pwrite");
}

/* By punching a hole, or by cutting the end off and growing again. */
static void clear_pages(struct rng *r, struct pages *f, int at, int fd, uint64_t from, uint64_t n)
{
	bool shrink = one_in(r, 2);

	if (shrink)
		n = CRASH_PAGES - from;
	for (uint64_t p = from; p < from + n; p++)
		page_begins(f, at, p, 0);
	if (shrink && (ftruncate(fd, (off_t)(from * CRASH_PAGE)) < 0 ||
		       ftruncate(fd, (off_t)CRASH_PAGES * CRASH_PAGE) < 0))
		stopped("ftruncate");
	if (!shrink && fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				 (off_t)(from * CRASH_PAGE), (off_t)(n * CRASH_PAGE)) < 0)
		stopped("fallocate");
}

/* Pages overwritten in place, each with its own promise. */
static void in_place(struct rng *r, struct pages *f, bool sync)
{
	unsigned n = 1 + (unsigned)below(r, 4);
	int at = also_fd >= 0 && one_in(r, 2) ? also_fd : dir_fd;
	int fd;

	/* The call may make it, and not return. */
	if (!f->named)
		put_log('W', f->name, 0, 0, 0);
	f->named = true;
	fd = must_open_at(at, f->name, O_CREAT | (one_in(r, 2) ? O_WRONLY : O_RDWR));
	for (unsigned i = 0; i < n; i++) {
		uint64_t from = below(r, CRASH_PAGES);
		uint64_t run = 1 + below(r, one_in(r, 4) ? 100 : 3);

		if (one_in(r, 2)) { /* exactly over what was written before */
			from = from / SLOT * SLOT;
			run = SLOT;
		}
		run = MIN(run, CRASH_PAGES - from);
		if (one_in(r, 8))
			clear_pages(r, f, at, fd, from, run);
		else
			write_pages(f, at, fd, from, run);
	}
	if (sync && !one_in(r, 3)) {
		must_sync(fd, true);
		for (uint64_t p = 0; p < CRASH_PAGES; p++) {
			if (f->unsynced[p] != at)
				continue;
			put_log('P', f->name, f->now[p], p, 0);
			f->unsynced[p] = -1;
		}
	}
	must_close(fd);
}

/* What is in the file is not known any more: the next operation makes it anew. Nor is what is in pages that were not synced. */
static void given_up(struct entry *e, struct pages *f)
{
	e->exists = false;
	memset(f->unsynced, -1, sizeof(f->unsynced));
	if (open_fd >= 0)
		close(open_fd);
	open_fd = -1;
	sleep_ms(2);
}

static void change(struct rng *r, struct entry *e, struct pages *f, bool sync, uint64_t what)
{
	if (sync && cp_to && one_in(r, 25))
		copy_in(r);
	else if (what < 15)
		in_place(r, f, sync);
	else if (!e->exists || what < 30)
		make(r, e, sync && one_in(r, 2));
	else if (what < 60)
		replace(r, e, sync);
	else if (what < 75)
		append(r, e, sync);
	else if (what < 87)
		cut(r, e, sync);
	else
		gone(r, e, sync);
}

/* @what: below 100. */
static void one_op(struct rng *r, struct pages *f, bool sync, uint64_t what)
{
	struct entry *e = &entries[below(r, NAMES)];

	if (setjmp(next_op) == 0)
		change(r, e, f, sync, what);
	else
		given_up(e, f);
}

/* What was synced is replaced and removed; the file system has time to throw it away, and to write what it need not. */
static void rest(struct rng *r, struct pages *f)
{
	for (uint64_t n = 5 + below(r, 20); n > 0; n--) {
		one_op(r, f, false, one_in(r, 2) ? 0 : below(r, 100));
		sleep_ms(one_in(r, 10) ? 1000 : (long)below(r, 150));
	}
}

static void run(uint64_t seed, uint64_t ops, int64_t end_ns)
{
	struct rng r = { seed };
	static struct pages pages;

	memset(pages.unsynced, -1, sizeof(pages.unsynced));
	snprintf(pages.name, sizeof(pages.name), "p%u-inplace", me);
	buf = xalloc(LARGEST + MIB);
	for (int i = 0; i < NAMES; i++)
		snprintf(entries[i].name, CRASH_NAME, "p%u-f%d", me, i);
	for (uint64_t i = 0; i < ops && now_ns() < end_ns; i++) {
		one_op(&r, &pages, true, below(&r, 100));
		if (calm && one_in(&r, 40))
			rest(&r, &pages);
	}
	printf("crashwriter %u: %llu promises, %llu failures\n", me, (unsigned long long)promises,
	       (unsigned long long)failures);
	fflush(stdout);
}

static void allow(char *names)
{
	static const struct {
		const char *name;
		int err;
	} known[] = {
		{ "EIO", EIO }, { "ENOSPC", ENOSPC }, { "EDQUOT", EDQUOT }, { "EROFS", EROFS }
	};
	char *name;

	while ((name = strsep(&names, ","))) {
		unsigned i = 0;

		while (i < ARRAY_SIZE(known) && strcmp(known[i].name, name) != 0)
			i++;
		if (i == ARRAY_SIZE(known) || nallowed == ARRAY_SIZE(allowed))
			exit(64);
		allowed[nallowed++] = known[i].err;
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },    { "ops", 1, NULL, 'o' },
		{ "threads", 1, NULL, 't' }, { "seconds", 1, NULL, 'e' },
		{ "cp", 1, NULL, 'p' },      { "calm", 0, NULL, 'c' },
		{ "also", 1, NULL, 'a' },    { "errors", 1, NULL, 'x' },
		{ NULL, 0, NULL, 0 }
	};
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
		else if (c == 'p')
			cp_to = optarg;
		else if (c == 'c')
			calm = true;
		else if (c == 'x')
			allow(optarg);
		else if (c == 'a' && (also_fd = open(optarg, O_RDONLY | O_DIRECTORY)) < 0)
			die("%s", optarg);
		else if (c == 'a')
			continue;
		else
			return 64;
	}
	if (argc - optind != 2) {
		fprintf(stderr,
			"usage: crashwriter [--seed N] [--ops N] [--seconds N] [--threads "
			"N] [--calm] [--errors LIST] [--also DIR2] [--cp VOLUME:/DIR] DIR LOG\n");
		return 64;
	}
	dir = argv[optind];
	log_path = argv[optind + 1];
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (dir_fd < 0 || log_fd < 0)
		die("%s or %s", dir, log_path);
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
