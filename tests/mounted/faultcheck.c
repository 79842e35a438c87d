/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faultcheck RULES DIR: what one descriptor is told when the store below DIR fails, and that it recovers. Writes the rules of faultrun(.c) itself.
 */
#include "util.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { SIZE = 3 * MIB + 1234 };

static const char *rules, *dir;
static uint8_t *want, *got;

static void set_rules(const char *text)
{
	char name[4096];
	FILE *f;

	snprintf(name, sizeof(name), "%s.new", rules);
	f = fopen(name, "we");
	if (!f || fputs(text, f) < 0 || fclose(f) != 0 || rename(name, rules) < 0)
		die("%s", name);
}

static int open_file(const char *name, int flags)
{
	char path[4096];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, flags | O_CLOEXEC, 0644);
	CHECK(fd >= 0);
	return fd;
}

static void check_content(const char *name, uint64_t seed, size_t n)
{
	int fd = open_file(name, O_RDONLY);
	struct stat st;

	pattern(want, n, seed, 0);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_size, (off_t)n);
	CHECK(pread_all(fd, got, n, 0) == 0 && memcmp(got, want, n) == 0);
	close(fd);
}

/* A failed fsync says so, keeps the data, and the next one succeeds. */
static void fsync_again(const char *what, const char *rule, int err, size_t n)
{
	int fd = open_file(what, O_CREAT | O_TRUNC | O_WRONLY);
	bool told;

	pattern(want, n, 5, 0);
	set_rules(rule);
	told = pwrite_all(fd, want, n, 0) < 0;
	if (told)
		CHECK_EQ(errno, err);
	else
		CHECK_ERR(fsync(fd), err);
	set_rules("");
	if (told)
		CHECK(pwrite_all(fd, want, n, 0) == 0);
	CHECK(fsync(fd) == 0);
	check_content(what, 5, n);
	CHECK(close(fd) == 0);
	check_content(what, 5, n);
	tap_end(what);
}

/* What cannot be stored at close is told by close. */
static void told_at_close(void)
{
	int fd = open_file("told-at-close", O_CREAT | O_TRUNC | O_WRONLY);

	pattern(want, 5000, 6, 0);
	set_rules("write EIO */vol/* 1+1\n");
	CHECK(write(fd, want, 5000) == 5000);
	CHECK_ERR(close(fd), EIO);
	set_rules("");
	fd = open_file("told-at-close", O_WRONLY | O_TRUNC);
	CHECK(write(fd, want, 5000) == 5000);
	CHECK(close(fd) == 0);
	check_content("told-at-close", 6, 5000);
	tap_end("close tells what could not be stored, and the file is as good as new");
}

static void sync_write(void)
{
	int fd = open_file("o_sync", O_CREAT | O_TRUNC | O_WRONLY | O_SYNC);

	pattern(want, 8192, 7, 0);
	set_rules("sync EIO */vol/* 1+1\n");
	CHECK_ERR(pwrite(fd, want, 8192, 0), EIO);
	set_rules("");
	CHECK(pwrite(fd, want, 8192, 0) == 8192);
	close(fd);
	check_content("o_sync", 7, 8192);
	tap_end("O_SYNC: the write is told");
}

static void mapped(void)
{
	int fd = open_file("mapped", O_CREAT | O_TRUNC | O_RDWR);
	uint8_t *p;

	CHECK(ftruncate(fd, 65536) == 0);
	p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	if (p != MAP_FAILED) {
		pattern(p, 65536, 8, 0);
		set_rules("write EIO */vol/* 1+1\n");
		CHECK_ERR(msync(p, 65536, MS_SYNC), EIO);
		set_rules("");
		CHECK(msync(p, 65536, MS_SYNC) == 0);
		munmap(p, 65536);
	}
	CHECK(close(fd) == 0);
	check_content("mapped", 8, 65536);
	tap_end("msync is told, and the next one succeeds");
}

/* The log's sync failed where nobody waited for it: a later fsync must not believe that all is well, and can make it so. */
static void behind_the_back(void)
{
	int fd = open_file("behind", O_CREAT | O_TRUNC | O_WRONLY);

	pattern(want, 5000, 9, 0);
	CHECK(write(fd, want, 5000) == 5000);
	set_rules("sync EIO *.db-wal 1\n");
	CHECK_ERR(fsync(fd), EIO);
	/* Copying the log to the database is the only way left; while it is barred, fsync fails. */
	set_rules("sync EIO *.db 1+1\n");
	CHECK_ERR(fsync(fd), EIO);
	set_rules("");
	CHECK(fsync(fd) == 0);
	CHECK(close(fd) == 0);
	check_content("behind", 9, 5000);
	tap_end("after a failed sync of the log another way is taken");
}

static void reading(void)
{
	int fd;

	set_rules("");
	pattern(want, SIZE, 10, 0);
	fd = open_file("reading", O_CREAT | O_TRUNC | O_WRONLY);
	CHECK(pwrite_all(fd, want, SIZE, 0) == 0 && fsync(fd) == 0);
	close(fd);
	remount();
	fd = open_file("reading", O_RDONLY);
	set_rules("read EIO */vol/*.blocks/* 1+1\n");
	CHECK_ERR(pread(fd, got, SIZE, 0), EIO);
	set_rules("read short */vol/*.blocks/* 1+2\nread EINTR */vol/*.blocks/* 2+2\n");
	CHECK(pread_all(fd, got, SIZE, 0) == 0 && memcmp(got, want, SIZE) == 0);
	set_rules("");
	close(fd);
	tap_end("a read fails only as long as the store does; short and interrupted reads go on");
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: faultcheck RULES DIR\n");
		return 64;
	}
	rules = argv[1];
	dir = argv[2];
	want = xalloc(SIZE);
	got = xalloc(SIZE);
	reading();
	fsync_again("fsync: blocks that cannot be written", "write EIO */vol/*.blocks/* 1+1\n", EIO,
		    SIZE);
	fsync_again("fsync: blocks that cannot be named", "rename EIO */vol/* 1+1\n", EIO, SIZE);
	fsync_again("fsync: a full store", "write,allocate ENOSPC */vol/*.blocks/* 1+1\n", ENOSPC,
		    SIZE);
	fsync_again("fsync: a full store, a small file",
		    "write,allocate ENOSPC */vol/*.blocks/* 1+1\n", ENOSPC, 4000);
	fsync_again("fsync: data that is not durable", "sync EIO */vol/*.blocks/* 1+1\n", EIO,
		    SIZE);
	fsync_again("fsync: metadata that cannot be written", "write EIO *.db-wal 1+1\n", EIO,
		    9000);
	fsync_again("fsync: metadata on a full disk", "write ENOSPC *.db-wal 1+1\n", ENOSPC, 9000);
	told_at_close();
	sync_write();
	mapped();
	behind_the_back();
	return tap_done();
}
