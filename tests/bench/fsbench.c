/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsbench DIR: a directory measured in rows of "name<TAB>value<TAB>unit". What is read is verified.
 *
 *	-j N   threads for the rows of many files (default 1)
 *	-b N   MiB of the big file (default 512)
 *	-s N   small files of 128 KiB (default 1000)
 *	-m N   empty files (default 10000)
 *
 * "cold" rows drop the kernel's caches first, which only root may: without, those rows are left out and a line on
 * stderr says so. One number says nothing; ratios between file systems of one run do.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	MIB = 1 << 20,
	SMALL = 128 << 10,
	SLACK = 1 << 16,
	BLOCK = 4 << 20,
	RANDOM_OPS = 5000,
	JOBS_MAX = 64
};

static char dir[3000];
static int jobs = 1, big_mib = 512, nsmall = 1000, nmeta = 10000;
static char *pattern; /* 1 MiB and some of noise that is the same in every run */
static uint64_t noise = 88172645463325252ull;

static uint64_t next_noise(void)
{
	noise ^= noise << 13;
	noise ^= noise >> 7;
	return noise ^= noise << 17;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "fsbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static __attribute__((noreturn)) void damaged(const char *what)
{
	errno = EILSEQ;
	die(what);
}

static void row(const char *name, double value, const char *unit)
{
	printf("%s\t%.1f\t%s\n", name, value, unit);
	fflush(stdout);
}

/* False: not allowed; then no row may call itself cold. */
static bool drop_caches(void)
{
	static bool said;
	int fd = open("/proc/sys/vm/drop_caches", O_WRONLY);
	bool done;

	sync();
	done = fd >= 0 && write(fd, "3", 1) == 1;
	if (fd >= 0)
		close(fd);
	if (!done && !said) {
		fprintf(stderr, "fsbench: only root may drop the kernel's caches: the cold rows "
				"are left out\n");
		said = true;
	}
	return done;
}

/* Content number @i: every MiB and every small file differs from its neighbours. */
static const char *content(uint64_t i)
{
	return pattern + i * 4099 % SLACK;
}

static void path_of(char out[4096], const char *kind, int id, int i)
{
	snprintf(out, 4096, "%s/%s%d/f%07d", dir, kind, id, i);
}

static int open_in(const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags, 0644);
	if (fd < 0)
		die(path);
	return fd;
}

static void read_all(int fd, char *p, size_t n)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = read(fd, p + got, n - got);

		if (r <= 0)
			die("read");
		got += (size_t)r;
	}
}

/* ---- many files, by several threads ---- */

typedef int op_fn(int id, int i);

struct job {
	pthread_t thread;
	int id, n;
	op_fn *fn;
};

static void *work(void *arg)
{
	const struct job *j = arg;

	for (int i = 0; i < j->n; i++)
		if (j->fn(j->id, i) < 0)
			die("an operation");
	return NULL;
}

static void many(const char *name, op_fn *fn, int total, const char *unit)
{
	struct job j[JOBS_MAX];
	double start = now();

	for (int i = 0; i < jobs; i++) {
		j[i] = (struct job){ .id = i, .n = total / jobs, .fn = fn };
		if (pthread_create(&j[i].thread, NULL, work, &j[i]) != 0)
			die("thread");
	}
	for (int i = 0; i < jobs; i++)
		pthread_join(j[i].thread, NULL);
	row(name, total / jobs * jobs / (now() - start), unit);
}

static int small_write(int id, int i)
{
	char path[4096];
	int fd;

	path_of(path, "s", id, i);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0 || write(fd, content((uint64_t)i + (uint64_t)id), SMALL) != SMALL)
		return -1;
	return close(fd);
}

static int small_read(int id, int i)
{
	static __thread char buf[SMALL];
	char path[4096];
	int fd;

	path_of(path, "s", id, i);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	read_all(fd, buf, SMALL);
	if (memcmp(buf, content((uint64_t)i + (uint64_t)id), SMALL) != 0)
		damaged("content of a small file");
	return close(fd);
}

static int small_unlink(int id, int i)
{
	char path[4096];

	path_of(path, "s", id, i);
	return unlink(path);
}

static int create_fsync(int id, int i)
{
	char path[4096];
	int fd;

	path_of(path, "y", id, i);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	if (fd < 0 || write(fd, content((uint64_t)i), 4096) != 4096 || fsync(fd) < 0)
		return -1;
	return close(fd);
}

static int meta_create(int id, int i)
{
	char path[4096];
	int fd;

	path_of(path, "m", id, i);
	fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
	return fd < 0 ? -1 : close(fd);
}

static int meta_stat(int id, int i)
{
	char path[4096];
	struct stat st;

	path_of(path, "m", id, i);
	return stat(path, &st);
}

static int meta_open(int id, int i)
{
	char path[4096];
	int fd;

	path_of(path, "m", id, i);
	fd = open(path, O_RDONLY);
	return fd < 0 ? -1 : close(fd);
}

static int meta_rename(int id, int i)
{
	char from[4096], to[4100];

	path_of(from, "m", id, i);
	snprintf(to, sizeof(to), "%s.r", from);
	return rename(from, to);
}

static int meta_unlink(int id, int i)
{
	char path[4096], to[4100];

	path_of(path, "m", id, i);
	snprintf(to, sizeof(to), "%s.r", path);
	return unlink(to);
}

static int meta_mkdir(int id, int i)
{
	char path[4096];

	path_of(path, "d", id, i);
	return mkdir(path, 0755);
}

static int meta_rmdir(int id, int i)
{
	char path[4096];

	path_of(path, "d", id, i);
	return rmdir(path);
}

/* ---- one big file ---- */

static void big_write(void)
{
	int fd = open_in("big", O_CREAT | O_WRONLY);
	double start = now(), written;

	for (int i = 0; i < big_mib; i++)
		if (write(fd, content((uint64_t)i), MIB) != MIB)
			die("write");
	written = now() - start;
	if (fsync(fd) < 0)
		die("fsync");
	row("big_write", big_mib / written, "MiB/s");
	row("big_write_fsync", big_mib / (now() - start), "MiB/s");
	close(fd);
}

static void big_read(void)
{
	static char buf[MIB];
	double start;
	int fd;

	if (!drop_caches())
		return;
	start = now();
	fd = open_in("big", O_RDONLY);
	for (int i = 0; i < big_mib; i++) {
		read_all(fd, buf, MIB);
		if (memcmp(buf, content((uint64_t)i), MIB) != 0)
			damaged("content of the big file");
	}
	row("big_read_cold", big_mib / (now() - start), "MiB/s");
	close(fd);
}

static uint64_t random_offset(void)
{
	return next_noise() % ((uint64_t)big_mib * 256) * 4096;
}

static void random_read(void)
{
	char path[4096];
	double start;
	void *buf;
	int fd;

	if (!drop_caches())
		return;
	if (posix_memalign(&buf, 4096, 4096) != 0)
		die("memory");
	snprintf(path, sizeof(path), "%s/big", dir);
	fd = open(path, O_RDONLY | O_DIRECT);
	if (fd < 0)
		fd = open_in("big", O_RDONLY);
	start = now();
	for (int i = 0; i < RANDOM_OPS; i++) {
		uint64_t off = random_offset();

		if (pread(fd, buf, 4096, (off_t)off) != 4096)
			die("random read");
		if (memcmp(buf, content(off / MIB) + off % MIB, 4096) != 0)
			damaged("content of a random read");
	}
	row("rand_read_4k_direct", RANDOM_OPS / (now() - start), "IOPS");
	close(fd);
	free(buf);
}

static void random_write(void)
{
	int fd = open_in("big", O_WRONLY);
	double start = now(), written;

	for (int i = 0; i < RANDOM_OPS; i++)
		if (pwrite(fd, content((uint64_t)i), 4096, (off_t)random_offset()) != 4096)
			die("random write");
	written = now() - start;
	if (fsync(fd) < 0)
		die("fsync");
	row("rand_write_4k", RANDOM_OPS / written, "IOPS");
	row("rand_write_4k_fsync", RANDOM_OPS / (now() - start), "IOPS");
	close(fd);
}

/* The same with O_DIRECT: of the local file system it is what the disk gives. */
static void big_direct(void)
{
	char path[4096];
	double start;
	void *mem;
	char *buf;
	int fd;

	snprintf(path, sizeof(path), "%s/direct", dir);
	fd = open(path, O_CREAT | O_WRONLY | O_DIRECT, 0644);
	if (fd < 0)
		return;
	if (posix_memalign(&mem, 4096, BLOCK) != 0)
		die("memory");
	buf = mem;
	for (int i = 0; i < BLOCK / MIB; i++)
		memcpy(buf + i * MIB, pattern, MIB);
	start = now();
	for (int i = 0; i < big_mib / 4; i++)
		if (write(fd, buf, BLOCK) != BLOCK)
			die("direct write");
	if (fsync(fd) < 0)
		die("fsync");
	row("big_write_direct_fsync", big_mib / 4 * 4 / (now() - start), "MiB/s");
	close(fd);
	if (drop_caches()) {
		fd = open_in("direct", O_RDONLY | O_DIRECT);
		start = now();
		for (int i = 0; i < big_mib / 4; i++) {
			read_all(fd, buf, BLOCK);
			if (memcmp(buf, pattern, MIB) != 0)
				damaged("content of a direct read");
		}
		row("big_read_direct_cold", big_mib / 4 * 4 / (now() - start), "MiB/s");
		close(fd);
	}
	unlink(path);
	free(mem);
}

static void list_cold(void)
{
	double start;
	int n = 0;

	if (!drop_caches())
		return;
	start = now();
	for (int j = 0; j < jobs; j++) {
		char path[4096];
		struct dirent *e;
		DIR *d;

		snprintf(path, sizeof(path), "%s/m%d", dir, j);
		d = opendir(path);
		if (!d)
			die(path);
		for (; (e = readdir(d)); n++) {
			struct stat st;

			if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				die("stat");
		}
		closedir(d);
	}
	row("ls_l_cold", n / (now() - start), "entries/s");
}

static void set_up(const char *at)
{
	snprintf(dir, sizeof(dir), "%s/fsbench.%d", at, (int)getpid());
	if (mkdir(dir, 0755) < 0)
		die(dir);
	pattern = malloc(MIB + SLACK);
	if (!pattern)
		die("memory");
	for (int i = 0; i < MIB + SLACK; i += 8) {
		uint64_t v = next_noise();

		memcpy(pattern + i, &v, 8);
	}
	for (int j = 0; j < jobs; j++) {
		for (const char *kind = "smdy"; *kind; kind++) {
			char path[4096];

			snprintf(path, sizeof(path), "%s/%c%d", dir, *kind, j);
			if (mkdir(path, 0755) < 0)
				die(path);
		}
	}
}

static void clean_up(void)
{
	char path[4096];

	for (int j = 0; j < jobs; j++) {
		for (int i = 0; i < nsmall; i++) {
			path_of(path, "y", j, i);
			unlink(path);
		}
		for (const char *kind = "smdy"; *kind; kind++) {
			snprintf(path, sizeof(path), "%s/%c%d", dir, *kind, j);
			rmdir(path);
		}
	}
	if (rmdir(dir) < 0)
		die(dir);
}

int main(int argc, char **argv)
{
	char path[4096];
	int c;

	while ((c = getopt(argc, argv, "j:b:s:m:")) != -1) {
		int n = c == '?' ? 0 : (int)strtol(optarg, NULL, 10);

		if (n < 1 || (c == 'j' && n > JOBS_MAX)) {
			fprintf(stderr,
				"usage: fsbench [-j threads] [-b MiB] [-s files] [-m files] DIR\n");
			return 64;
		}
		*(c == 'j' ? &jobs : c == 'b' ? &big_mib : c == 's' ? &nsmall : &nmeta) = n;
	}
	if (argc - optind != 1) {
		fprintf(stderr, "usage: fsbench [-j threads] [-b MiB] [-s files] [-m files] DIR\n");
		return 64;
	}
	set_up(argv[optind]);
	big_write();
	big_read();
	random_read();
	random_write();
	big_direct();
	snprintf(path, sizeof(path), "%s/big", dir);
	unlink(path);
	many("small_write_128k", small_write, nsmall, "files/s");
	if (drop_caches())
		many("small_read_128k_cold", small_read, nsmall, "files/s");
	many("small_unlink", small_unlink, nsmall, "files/s");
	many("create_fsync_4k", create_fsync, nsmall < 500 ? nsmall : 500, "files/s");
	many("create", meta_create, nmeta, "ops/s");
	many("stat_warm", meta_stat, nmeta, "ops/s");
	if (drop_caches())
		many("stat_cold", meta_stat, nmeta, "ops/s");
	many("open_close", meta_open, nmeta, "ops/s");
	list_cold();
	many("rename", meta_rename, nmeta, "ops/s");
	many("unlink", meta_unlink, nmeta, "ops/s");
	many("mkdir", meta_mkdir, nmeta / 4, "ops/s");
	many("rmdir", meta_rmdir, nmeta / 4, "ops/s");
	clean_up();
	return 0;
}
