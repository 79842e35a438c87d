/* SPDX-License-Identifier: Apache-2.0 */
/*
 * twoproc DIR: several processes on one directory: their own ranges of one file, O_APPEND to one file, and names made,
 * renamed, linked and removed in one directory. Everything is verified. TAP.
 *
 *	--procs N   processes (default 4)      --ops N   per process (default 300)      --seed N
 */
#include "util.h"
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { PROCS_MAX = 64, RECORD = 1000, APPEND_MAX = 3000 };

static char dir[4000];
static unsigned procs = 4, ops = 300;
static uint64_t seed;

struct shared {
	uint32_t wins[20000];
	uint32_t stop;
};
static struct shared *shared;

static void at(char out[4096 + 300], const char *name)
{
	snprintf(out, 4096 + 300, "%s/%s", dir, name);
}

/* Runs @fn in every process; its result 0 is success. */
static void everyone(int (*fn)(unsigned me))
{
	pid_t pid[PROCS_MAX];

	for (unsigned i = 0; i < procs; i++) {
		fflush(stdout);
		pid[i] = fork();
		if (pid[i] < 0)
			die("fork");
		if (pid[i] == 0)
			_exit(fn(i));
	}
	for (unsigned i = 0; i < procs; i++) {
		int r = wait_for(pid[i]);

		if (r != 0)
			tap_fail("process %u ended with line %d", i, r);
	}
}

/* In a child: the line number mod 256, never 0, says where it failed. */
#define NEED(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "# process %u: line %d: %s: %s\n", me, __LINE__, #cond,    \
				strerror(errno));                                                  \
			return __LINE__ % 255 + 1;                                                 \
		}                                                                                  \
	} while (0)

/* ---- own ranges of one file ---- */

static int write_ranges(unsigned me)
{
	char path[4096 + 300], rec[RECORD];
	int fd;

	at(path, "ranges");
	fd = open(path, me % 2 ? O_WRONLY : O_RDWR);
	NEED(fd >= 0);
	for (unsigned i = 0; i < ops; i++) {
		off_t off = ((off_t)i * procs + me) * RECORD;

		pattern(rec, RECORD, seed, (uint64_t)off);
		NEED(pwrite_all(fd, rec, RECORD, off) == 0);
		/* What I wrote I read, whatever the neighbours do. */
		if (me % 2 == 0 && i % 16 == 0) {
			char back[RECORD];

			NEED(pread_all(fd, back, RECORD, off) == 0);
			NEED(memcmp(back, rec, RECORD) == 0);
		}
	}
	NEED(close(fd) == 0);
	return 0;
}

static void test_ranges(void)
{
	char path[4096 + 300];
	size_t n = (size_t)ops * procs * RECORD;
	char *got = xalloc(n), *want = xalloc(n);
	struct stat st;
	int fd;

	at(path, "ranges");
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
	CHECK(fd >= 0);
	everyone(write_ranges);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, n);
	CHECK(pread_all(fd, got, n, 0) == 0);
	pattern(want, n, seed, 0);
	CHECK(memcmp(got, want, n) == 0);
	close(fd);
	free(got);
	free(want);
	tap_end("own ranges of one file, every byte as its writer wrote it");
}

/* ---- appending ---- */

struct head {
	uint32_t magic, proc, seq, len;
};

static int append_records(unsigned me)
{
	struct rng r = { seed + me };
	char path[4096 + 300], rec[APPEND_MAX + 16];
	int fd;

	at(path, "log");
	fd = open(path, O_WRONLY | O_APPEND);
	NEED(fd >= 0);
	for (unsigned i = 0; i < ops; i++) {
		struct head h = { 0x4b495345, me, i,
				  (uint32_t)(sizeof(h) + below(&r, APPEND_MAX)) };

		memcpy(rec, &h, sizeof(h));
		pattern(rec + sizeof(h), h.len - sizeof(h), seed + me, i);
		NEED(write(fd, rec, h.len) == (ssize_t)h.len);
	}
	NEED(close(fd) == 0);
	return 0;
}

static void test_append(void)
{
	char path[4096 + 300], want[APPEND_MAX + 16];
	uint32_t next[PROCS_MAX] = { 0 };
	struct stat st;
	char *all;
	off_t off = 0;
	int fd;

	at(path, "log");
	fd = open(path, O_CREAT | O_TRUNC | O_RDWR, 0644);
	CHECK(fd >= 0);
	everyone(append_records);
	CHECK(fstat(fd, &st) == 0);
	all = xalloc((size_t)st.st_size);
	CHECK(pread_all(fd, all, (size_t)st.st_size, 0) == 0);
	while (off < st.st_size && !tap.failed) {
		struct head h;

		memcpy(&h, all + off, sizeof(h));
		if (h.magic != 0x4b495345 || h.proc >= procs || h.len > APPEND_MAX + 16 ||
		    h.seq != next[h.proc]) {
			tap_fail("no record, or one out of order, at %lld", (long long)off);
			break;
		}
		pattern(want, h.len - sizeof(h), seed + h.proc, h.seq);
		if (memcmp(all + off + sizeof(h), want, h.len - sizeof(h)) != 0)
			tap_fail("record %u of process %u is damaged", h.seq, h.proc);
		next[h.proc]++;
		off += h.len;
	}
	for (unsigned i = 0; i < procs; i++)
		CHECK_EQ(next[i], ops);
	close(fd);
	free(all);
	tap_end("O_APPEND from several processes: nothing lost, nothing mixed, in order");
}

/* ---- names in one directory ---- */

static int own_names(unsigned me)
{
	struct rng r = { seed + 77 + me };
	char a[4096 + 300], b[4096 + 300];

	for (unsigned i = 0; i < ops; i++) {
		char name[64];
		int fd;

		snprintf(name, sizeof(name), "names/p%u-%u", me, i);
		at(a, name);
		fd = open(a, O_CREAT | O_EXCL | O_WRONLY, 0644);
		NEED(fd >= 0);
		NEED(write(fd, name, sizeof(name)) == sizeof(name));
		NEED(close(fd) == 0);
		if (i % 3 == 1) {
			snprintf(name, sizeof(name), "names/p%u-%u.moved", me, i);
			at(b, name);
			NEED(rename(a, b) == 0);
			NEED(access(a, F_OK) < 0 && errno == ENOENT);
		} else if (i % 3 == 2) {
			NEED(unlink(a) == 0);
			NEED(access(a, F_OK) < 0 && errno == ENOENT);
		}
		if (one_in(&r, 5)) {
			struct stat st;

			snprintf(name, sizeof(name), "names/p%u-0", me);
			at(b, name);
			NEED(stat(b, &st) == 0 && st.st_size == 64);
		}
	}
	return 0;
}

static void test_names(void)
{
	char path[4096 + 300];
	unsigned count[2] = { 0, 0 };
	struct dirent *e;
	DIR *d;

	at(path, "names");
	CHECK(mkdir(path, 0755) == 0);
	everyone(own_names);
	d = opendir(path);
	CHECK(d != NULL);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == 'p')
			count[strstr(e->d_name, ".moved") != NULL]++;
		else if (e->d_name[0] != '.')
			tap_fail("a name that nobody made: %s", e->d_name);
	}
	if (d)
		closedir(d);
	CHECK_EQ(count[0], procs * ((ops + 2) / 3));
	CHECK_EQ(count[1], procs * ((ops + 1) / 3));
	tap_end("create, rename and unlink in one directory: the names are those that should be");
}

static int contend(unsigned me)
{
	char path[4096 + 300];

	for (unsigned i = 0; i < ops; i++) {
		char name[64];
		bool won;

		snprintf(name, sizeof(name), "contend/%u", i);
		at(path, name);
		if (i % 2) {
			won = mkdir(path, 0755) == 0;
		} else {
			int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);

			won = fd >= 0;
			if (won)
				close(fd);
		}
		NEED(won || errno == EEXIST);
		if (won)
			__atomic_add_fetch(&shared->wins[i], 1, __ATOMIC_SEQ_CST);
	}
	return 0;
}

static void test_contend(void)
{
	char path[4096 + 300];

	at(path, "contend");
	CHECK(mkdir(path, 0755) == 0);
	memset(shared, 0, sizeof(*shared));
	everyone(contend);
	for (unsigned i = 0; i < ops; i++)
		if (shared->wins[i] != 1)
			tap_fail("name %u was made %u times", i, shared->wins[i]);
	tap_end("O_EXCL and mkdir of one name by all: exactly one wins");
}

static int pass_token(unsigned me)
{
	struct rng r = { seed + 5 + me };

	for (unsigned i = 0; i < ops * 2; i++) {
		char a[4096 + 300], b[4096 + 300], name[64];

		snprintf(name, sizeof(name), "token/%u", (unsigned)below(&r, 4));
		at(a, name);
		snprintf(name, sizeof(name), "token/%u", (unsigned)below(&r, 4));
		at(b, name);
		if (rename(a, b) == 0) {
			if (strcmp(a, b) != 0)
				__atomic_add_fetch(&shared->wins[0], 1, __ATOMIC_SEQ_CST);
		} else {
			NEED(errno == ENOENT);
		}
	}
	return 0;
}

static void test_token(void)
{
	char path[4096 + 300];
	unsigned found = 0;
	int fd;

	at(path, "token");
	CHECK(mkdir(path, 0755) == 0);
	at(path, "token/0");
	fd = open(path, O_CREAT | O_WRONLY, 0644);
	CHECK(fd >= 0);
	close(fd);
	memset(shared, 0, sizeof(*shared));
	everyone(pass_token);
	for (unsigned i = 0; i < 4; i++) {
		char name[64];

		snprintf(name, sizeof(name), "token/%u", i);
		at(path, name);
		found += access(path, F_OK) == 0;
	}
	CHECK_EQ(found, 1);
	CHECK(shared->wins[0] > 0);
	tap_end("a file renamed by all at once is there exactly once");
}

static int link_names(unsigned me)
{
	char target[4096 + 300], path[4096 + 300];

	at(target, "linked");
	for (unsigned i = 0; i < ops; i++) {
		char name[64];

		snprintf(name, sizeof(name), "links/%u-%u", me, i);
		at(path, name);
		NEED(link(target, path) == 0);
		if (i % 2)
			NEED(unlink(path) == 0);
	}
	return 0;
}

static void test_links(void)
{
	char path[4096 + 300];
	struct stat st;
	int fd;

	at(path, "links");
	CHECK(mkdir(path, 0755) == 0);
	at(path, "linked");
	fd = open(path, O_CREAT | O_WRONLY, 0644);
	CHECK(fd >= 0);
	everyone(link_names);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 1 + procs * ((ops + 1) / 2));
	close(fd);
	tap_end("link and unlink of one file by all: its count of links is exact");
}

/* One process lists while the others come and go: who stays is seen, once. */
static int churn(unsigned me)
{
	char path[4096 + 300], name[64];

	if (me == 0) {
		for (int turn = 0; turn < 20; turn++) {
			unsigned seen[200] = { 0 };
			struct dirent *e;
			DIR *d;

			at(path, "churn");
			d = opendir(path);
			NEED(d != NULL);
			while ((e = readdir(d))) {
				unsigned k;

				if (sscanf(e->d_name, "stay-%u", &k) == 1 && k < 200)
					seen[k]++;
			}
			closedir(d);
			for (unsigned k = 0; k < 200; k++)
				NEED(seen[k] == 1);
		}
		__atomic_store_n(&shared->stop, 1, __ATOMIC_SEQ_CST);
		return 0;
	}
	for (unsigned i = 0; !__atomic_load_n(&shared->stop, __ATOMIC_SEQ_CST); i++) {
		int fd;

		snprintf(name, sizeof(name), "churn/go-%u-%u", me, i % 300);
		at(path, name);
		if (i / 300 % 2) {
			NEED(unlink(path) == 0);
			continue;
		}
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		NEED(fd >= 0);
		close(fd);
	}
	return 0;
}

static void test_churn(void)
{
	char path[4096 + 300], name[64];

	at(path, "churn");
	CHECK(mkdir(path, 0755) == 0);
	for (unsigned k = 0; k < 200; k++) {
		int fd;

		snprintf(name, sizeof(name), "churn/stay-%u", k);
		at(path, name);
		fd = open(path, O_CREAT | O_WRONLY, 0644);
		CHECK(fd >= 0);
		close(fd);
	}
	shared->stop = 0;
	everyone(churn);
	tap_end("readdir beside changes: a name that stays is seen exactly once");
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "procs", 1, NULL, 'p' },
					       { "ops", 1, NULL, 'o' },
					       { "seed", 1, NULL, 's' },
					       { NULL, 0, NULL, 0 } };
	int c;

	seed = (uint64_t)time(NULL);
	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'p')
			procs = (unsigned)MAX(2, MIN(number(optarg), PROCS_MAX));
		else if (c == 'o')
			ops = (unsigned)MAX(8, MIN(number(optarg), ARRAY_SIZE(shared->wins)));
		else if (c == 's')
			seed = number(optarg);
		else
			return 64;
	}
	if (argc - optind != 1) {
		fprintf(stderr, "usage: twoproc [--procs N] [--ops N] [--seed N] DIR\n");
		return 64;
	}
	printf("# twoproc: seed %llu\n", (unsigned long long)seed);
	snprintf(dir, sizeof(dir), "%s/twoproc.%d", argv[optind], (int)getpid());
	if (mkdir(dir, 0755) < 0)
		die("%s", dir);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	if (shared == MAP_FAILED)
		die("memory");
	test_ranges();
	test_append();
	test_names();
	test_contend();
	test_token();
	test_links();
	test_churn();
	return tap_done();
}
