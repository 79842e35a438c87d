/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posixio DIR: what POSIX and Linux promise about the content of files: truncate, holes, fallocate, large and direct
 * I/O, mmap, sync, copies, extended attributes, programs. One line of TAP per promise. It passes on ext4.
 */
#include "posix.h"
#include <linux/falloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <sys/xattr.h>

static void test_truncate(void)
{
	int fd = make("tc", "0123456789", 0644);
	char buf[64];
	bool zero = true;

	CHECK(ftruncate(fd, 4) == 0 && ftruncate(fd, 40) == 0);
	CHECK(pread(fd, buf, 64, 0) == 40 && memcmp(buf, "0123", 4) == 0);
	for (int i = 4; i < 40; i++)
		zero = zero && buf[i] == 0;
	CHECK(zero);
	tap_end("truncate: shrink then grow shows zeros");
	CHECK_ERR(ftruncate(fd, -1), EINVAL);
	CHECK_ERR(truncate(P(""), 0), EISDIR);
	CHECK_ERR(truncate(P("tc-missing"), 0), ENOENT);
	close(fd);
	fd = open(P("tc"), O_RDONLY);
	CHECK_ERR(ftruncate(fd, 1), EINVAL);
	close(fd);
	tap_end("truncate: EINVAL, EISDIR, ENOENT as they should");
}

static void test_sparse(void)
{
	const off_t tib = (off_t)1 << 40;
	int fd = make("tib", "", 0644);
	struct stat st;
	char buf[8] = { 0 };
	off_t at;

	CHECK(pwrite(fd, "end", 3, tib - 3) == 3 && fsync(fd) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == tib);
	CHECK(st.st_blocks < 100000);
	CHECK(pread(fd, buf, 8, tib - 3) == 3 && memcmp(buf, "end", 3) == 0);
	CHECK(pread(fd, buf, 8, tib / 2) == 8 && memcmp(buf, "\0\0\0\0\0\0\0", 8) == 0);
	tap_end("sparse: a file of 1 TiB with 3 bytes takes next to nothing");
	at = lseek(fd, 0, SEEK_DATA);
	CHECK(at >= 0 && at <= tib - 3 && at >= tib - 128 * (off_t)MIB);
	CHECK_EQ(lseek(fd, 0, SEEK_HOLE), 0);
	CHECK_EQ(lseek(fd, tib - 1, SEEK_HOLE), tib);
	CHECK_ERR(lseek(fd, tib, SEEK_DATA), ENXIO);
	CHECK_ERR(lseek(fd, tib, SEEK_HOLE), ENXIO);
	tap_end("lseek: SEEK_DATA and SEEK_HOLE");
	CHECK_ERR(lseek(fd, -1, SEEK_SET), EINVAL);
	CHECK_EQ(lseek(fd, 2 * tib, SEEK_SET), 2 * tib);
	CHECK_EQ(read(fd, buf, 1), 0);
	CHECK(ftruncate(fd, 0) == 0 && fstat(fd, &st) == 0 && st.st_blocks == 0);
	close(fd);
	tap_end("lseek: past the end reads nothing; an empty file has no blocks");
	fd = make("blocks", "", 0644);
	for (int i = 0; i < 16; i++)
		CHECK(pwrite(fd, P(""), 512, (off_t)i * 512) == 512);
	CHECK(fsync(fd) == 0 && fstat(fd, &st) == 0 && st.st_blocks >= 16 && st.st_blocks <= 256);
	close(fd);
	tap_end("stat: st_blocks counts what is stored");
}

static void test_fallocate(void)
{
	int fd = make("fa", "0123456789", 0644), r;
	char buf[16];

	r = fallocate(fd, 0, 0, 5000);
	CHECK(r == 0 && look("fa").st_size == 5000);
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 100000) == 0 && look("fa").st_size == 5000);
	CHECK(pread(fd, buf, 10, 0) == 10 && memcmp(buf, "0123456789", 10) == 0);
	tap_end("fallocate: extends, or keeps the size");
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 3) == 0);
	CHECK(pread(fd, buf, 10, 0) == 10 && memcmp(buf,
						    "01\0\0\0"
						    "56789",
						    10) == 0);
	r = fallocate(fd, FALLOC_FL_ZERO_RANGE, 6, 2);
	CHECK(r == 0 || errno == EOPNOTSUPP);
	CHECK(pread(fd, buf, 10, 0) == 10 && memcmp(buf,
						    r ? "01\0\0\0"
							"56789"
						      : "01\0\0\0"
							"5\0\0"
							"89",
						    10) == 0);
	tap_end("fallocate: punches holes and zeroes, to the byte");
	CHECK_ERR(fallocate(fd, 0, 0, 0), EINVAL);
	CHECK_ERR(fallocate(fd, 0, -1, 5), EINVAL);
	CHECK_ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 5), EOPNOTSUPP);
	close(fd);
	fd = open(P("fa"), O_RDONLY);
	CHECK_ERR(fallocate(fd, 0, 0, 10), EBADF);
	close(fd);
	tap_end("fallocate: EINVAL, EOPNOTSUPP, EBADF as they should");
}

static void test_large_io(void)
{
	enum { N = 70 * MIB };
	char *a = xalloc(N), *b = xalloc(N);
	struct iovec v[64];
	int fd = make("large", "", 0644);

	pattern(a, N, 42, 0);
	CHECK(pwrite_all(fd, a, N, 0) == 0);
	CHECK(pread_all(fd, b, N, 0) == 0 && memcmp(a, b, N) == 0);
	close(fd);
	fd = open(P("large"), O_RDONLY);
	memset(b, 0, N);
	CHECK(pread_all(fd, b, N, 0) == 0 && memcmp(a, b, N) == 0);
	close(fd);
	tap_end("write: 70 MiB in one call, over a chunk's edge");
	fd = open(P("large"), O_RDWR);
	for (int i = 0; i < 64; i++)
		v[i] = (struct iovec){ a + i * 1000, (size_t)(i * 37) };
	CHECK_EQ(pwritev(fd, v, 64, 4 * MIB - 20000), 37 * 63 * 32);
	for (int i = 0; i < 64; i++)
		v[i].iov_base = b + i * 3000;
	CHECK_EQ(preadv(fd, v, 64, 4 * MIB - 20000), 37 * 63 * 32);
	for (int i = 0; i < 64; i++)
		CHECK(memcmp(a + i * 1000, b + i * 3000, (size_t)(i * 37)) == 0);
	close(fd);
	tap_end("pwritev and preadv over a block's edge");
	unlink(P("large"));
	free(a);
	free(b);
}

static void test_direct(void)
{
	int fd = open(P("direct"), O_CREAT | O_RDWR | O_DIRECT, 0644), fd2;
	void *p;

	if (fd < 0) {
		tap_skip("O_DIRECT", "not supported here");
		return;
	}
	if (posix_memalign(&p, 4096, 8192) != 0)
		die("memory");
	pattern(p, 8192, 7, 0);
	CHECK(pwrite(fd, p, 8192, 4096) == 8192);
	fd2 = open(P("direct"), O_RDONLY);
	memset(p, 0, 8192);
	CHECK(pread(fd2, p, 8192, 4096) == 8192 && ((uint8_t *)p)[5000] == pattern_byte(7, 5000));
	CHECK(pread(fd, p, 4096, 0) == 4096 && ((char *)p)[17] == 0);
	close(fd);
	close(fd2);
	free(p);
	tap_end("O_DIRECT: written directly, read through the cache, and back");
}

static void test_mmap(void)
{
	char *p, buf[16];
	int fd = make("mm", "", 0644), fd2;

	CHECK(ftruncate(fd, 200000) == 0);
	p = mmap(NULL, 200000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	if (p == MAP_FAILED)
		return;
	memcpy(p + 70000, "mapped", 6);
	CHECK(pread(fd, buf, 6, 70000) == 6 && memcmp(buf, "mapped", 6) == 0);
	CHECK(msync(p, 200000, MS_SYNC) == 0);
	fd2 = open(P("mm"), O_RDONLY);
	CHECK(pread(fd2, buf, 6, 70000) == 6 && memcmp(buf, "mapped", 6) == 0);
	tap_end("mmap: a shared write is seen by read, after msync by everybody");
	CHECK(pwrite(fd, "written", 7, 100) == 7 && memcmp(p + 100, "written", 7) == 0);
	close(fd);
	memcpy(p + 150000, "late", 4);
	CHECK(munmap(p, 200000) == 0);
	CHECK(pread(fd2, buf, 4, 150000) == 4 && memcmp(buf, "late", 4) == 0);
	tap_end("mmap: sees what is written; lives on after close");
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd2, 0);
	CHECK(p != MAP_FAILED);
	if (p != MAP_FAILED) {
		memcpy(p, "private", 7);
		CHECK(munmap(p, 4096) == 0);
	}
	CHECK(pread(fd2, buf, 7, 0) == 7 && memcmp(buf, "private", 7) != 0);
	close(fd2);
	fd = open(P("mm"), O_WRONLY);
	p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(p == MAP_FAILED && errno == EACCES);
	/* A write-only descriptor beside a mapping. */
	fd2 = open(P("mm"), O_RDWR);
	p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd2, 0);
	CHECK(p != MAP_FAILED);
	if (p != MAP_FAILED) {
		p[5000] = 'm';
		CHECK(pwrite(fd, "w", 1, 10) == 1 && p[10] == 'w' && p[5000] == 'm');
		CHECK(munmap(p, 8192) == 0);
	}
	close(fd);
	close(fd2);
	tap_end("mmap: private stays private; EACCES write-only; coherent with a write-only "
		"descriptor");
}

static void test_sync(void)
{
	int fd = make("sync", "x", 0644), d = open(base, O_RDONLY | O_DIRECTORY);

	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && syncfs(fd) == 0);
	close(fd);
	fd = open(P("sync"), O_RDONLY);
	CHECK(fsync(fd) == 0);
	close(fd);
	CHECK(fsync(d) == 0);
	close(d);
	fd = open(P("sync"), O_WRONLY | O_SYNC);
	CHECK(fd >= 0 && write(fd, "sync", 4) == 4 && close(fd) == 0 && holds("sync", "sync"));
	tap_end("fsync, fdatasync, syncfs, O_SYNC: on files and directories");
}

static void test_copy(void)
{
	int a = make("ca", "", 0644), b = make("cb", "", 0644);
	char *p = xalloc(300000), *q = xalloc(300000);
	off_t in = 1000, out = 77;
	ssize_t n, done = 0;

	pattern(p, 300000, 9, 0);
	CHECK(pwrite_all(a, p, 300000, 0) == 0);
	while (done < 250000 &&
	       (n = copy_file_range(a, &in, b, &out, (size_t)(250000 - done), 0)) > 0)
		done += n;
	CHECK_EQ(done, 250000);
	CHECK(pread_all(b, q, 250077, 0) == 0 && memcmp(q + 77, p + 1000, 250000) == 0 &&
	      q[76] == 0);
	tap_end("copy_file_range: between two files, at any offset");
	in = 299000;
	CHECK_EQ(copy_file_range(a, &in, b, &out, 100000, 0), 1000);
	in = 300000;
	CHECK_EQ(copy_file_range(a, &in, b, &out, 100000, 0), 0);
	in = 0;
	out = 100;
	CHECK_ERR(copy_file_range(a, &in, a, &out, 1000, 0), EINVAL);
	out = 200000;
	CHECK_EQ(copy_file_range(a, &in, a, &out, 1000, 0), 1000);
	CHECK(pread_all(a, q, 1000, 200000) == 0 && memcmp(q, p, 1000) == 0);
	tap_end("copy_file_range: short at the end, EINVAL when ranges overlap");
	CHECK(pwrite_all(a, p, 300000, 0) == 0);
	/* Changing the source afterwards must not change the copy. */
	CHECK(ftruncate(b, 0) == 0);
	in = out = 0;
	CHECK_EQ(copy_file_range(a, &in, b, &out, 200000, 0), 200000);
	CHECK(pwrite(a, "changed", 7, 100) == 7 && pwrite(b, "other", 5, 150000) == 5);
	CHECK(pread_all(b, q, 200000, 0) == 0 && memcmp(q, p, 150000) == 0 &&
	      memcmp(q + 150000, "other", 5) == 0);
	CHECK(pread_all(a, q, 300000, 0) == 0 && memcmp(q + 150000, p + 150000, 5) == 0);
	tap_end("copy_file_range: copy and source are independent");
	CHECK(lseek(b, 0, SEEK_SET) == 0 && ftruncate(b, 0) == 0);
	in = 10;
	CHECK_EQ(sendfile(b, a, &in, 5000), 5000);
	CHECK(pread_all(b, q, 5000, 0) == 0 && memcmp(q + 100, p + 110, 4000) == 0);
	close(a);
	close(b);
	free(p);
	free(q);
	tap_end("sendfile between two files");
}

/* ---- xattrs ---- */

static void test_xattr(void)
{
	char value[70000], got[70000], name[300] = "user.";
	ssize_t n;

	memset(value, 'v', sizeof(value));
	put("xa", "");
	CHECK(setxattr(P("xa"), "user.one", "1", 1, 0) == 0);
	CHECK(setxattr(P("xa"), "user.empty", "", 0, 0) == 0);
	CHECK(getxattr(P("xa"), "user.one", got, 10) == 1 && got[0] == '1');
	CHECK_EQ(getxattr(P("xa"), "user.empty", got, 10), 0);
	CHECK_EQ(getxattr(P("xa"), "user.one", NULL, 0), 1);
	CHECK(setxattr(P("xa"), "user.one", "22", 2, 0) == 0 &&
	      getxattr(P("xa"), "user.one", got, 10) == 2);
	CHECK_ERR(getxattr(P("xa"), "user.one", got, 1), ERANGE);
	CHECK_ERR(getxattr(P("xa"), "user.none", got, 10), ENODATA);
	CHECK_ERR(removexattr(P("xa"), "user.none"), ENODATA);
	tap_end("xattr: set, get, size, empty, ERANGE, ENODATA");
	CHECK_ERR(setxattr(P("xa"), "user.one", "3", 1, XATTR_CREATE), EEXIST);
	CHECK_ERR(setxattr(P("xa"), "user.two", "3", 1, XATTR_REPLACE), ENODATA);
	CHECK(setxattr(P("xa"), "user.two", "3", 1, XATTR_CREATE) == 0);
	CHECK(setxattr(P("xa"), "user.two", "4", 1, XATTR_REPLACE) == 0);
	tap_end("xattr: XATTR_CREATE and XATTR_REPLACE");
	n = listxattr(P("xa"), got, sizeof(got));
	CHECK(n >= 28 && memmem(got, (size_t)n, "user.one", 9) &&
	      memmem(got, (size_t)n, "user.two", 9) && memmem(got, (size_t)n, "user.empty", 11));
	CHECK_EQ(listxattr(P("xa"), NULL, 0), n);
	CHECK_ERR(listxattr(P("xa"), got, 5), ERANGE);
	CHECK(removexattr(P("xa"), "user.two") == 0);
	n = listxattr(P("xa"), got, sizeof(got));
	CHECK(n > 0 && !memmem(got, (size_t)n, "user.two", 9));
	tap_end("xattr: list, ERANGE, remove");
	memset(name + 5, 'n', 250);
	name[255] = '\0';
	CHECK(setxattr(P("xa"), name, value, 2000, 0) == 0 &&
	      getxattr(P("xa"), name, got, 2000) == 2000);
	name[255] = 'n';
	CHECK_ERR(setxattr(P("xa"), name, "x", 1, 0), ERANGE);
	CHECK_ERR(setxattr(P("xa"), "user.big", value, 65537, 0), E2BIG);
	CHECK(setxattr(P("xa"), "user.big", value, 65536, 0) == 0 || errno == ENOSPC);
	tap_end("xattr: names of 255 bytes, values up to 64 KiB where the file system can");
	CHECK(setxattr(P("xa"), "user.\xff\n", "b", 1, 0) == 0 && rename(P("xa"), P("xb")) == 0);
	CHECK(getxattr(P("xb"), "user.\xff\n", got, 10) == 1);
	put("xa", "");
	CHECK(listxattr(P("xa"), got, sizeof(got)) == 0 || !memmem(got, sizeof(got), "user.", 5) ||
	      getxattr(P("xa"), "user.one", got, 10) < 0);
	tap_end("xattr: any bytes in a name; they follow the file");
	CHECK(symlink("xb", P("xl")) == 0);
	CHECK_ERR(lsetxattr(P("xl"), "user.a", "1", 1, 0), EPERM);
	CHECK(mkdir(P("xd"), 0755) == 0 && setxattr(P("xd"), "user.d", "1", 1, 0) == 0);
	tap_end("xattr: not user.* on a symlink; on a directory");
}
static void test_exec(void)
{
	int in = open("/bin/true", O_RDONLY), out = open(P("prog"), O_CREAT | O_WRONLY, 0755);
	char buf[65536];
	ssize_t n;
	pid_t pid;

	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK(write(out, buf, (size_t)n) == n);
	close(in);
	CHECK(close(out) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		execl(P("prog"), "prog", (char *)NULL);
		_exit(errno == EACCES ? 98 : 97);
	}
	n = wait_for(pid);
	if (n == 98) {
		tap_skip("execve: a program runs", "mounted noexec");
		return;
	}
	CHECK_EQ(n, 0);
	tap_end("execve: a program runs");
}
static void test_limit(void)
{
	struct rlimit old, small = { 5000, 5000 };
	int fd = make("limit", "", 0644);

	CHECK(getrlimit(RLIMIT_FSIZE, &old) == 0);
	small.rlim_max = old.rlim_max;
	signal(SIGXFSZ, SIG_IGN);
	CHECK(setrlimit(RLIMIT_FSIZE, &small) == 0);
	CHECK_EQ(pwrite(fd, base, 100, 4950), 50);
	CHECK_ERR(pwrite(fd, base, 100, 5000), EFBIG);
	CHECK_ERR(ftruncate(fd, 6000), EFBIG);
	CHECK(setrlimit(RLIMIT_FSIZE, &old) == 0);
	signal(SIGXFSZ, SIG_DFL);
	close(fd);
	tap_end("RLIMIT_FSIZE: a short write, then EFBIG");
}
int main(int argc, char **argv)
{
	static void (*const tests[])(void) = {
		test_truncate, test_sparse, test_fallocate, test_large_io, test_direct, test_mmap,
		test_sync,     test_copy,   test_xattr,     test_exec,     test_limit,
	};

	if (argc != 2) {
		fprintf(stderr, "usage: posixio DIR\n");
		return 64;
	}
	set_up("posixio", argv[1]);
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tests[i]();
	return tap_done();
}
