/* SPDX-License-Identifier: Apache-2.0 */
/* store_file_test.c: what is particular to the directory store: durability, descriptors, full disks, crashes. */
#include "base/buf.h"
#include "base/tap.h"
#include "object/store_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifndef UNDER_TSAN
#define UNDER_TSAN 0
#endif

/* These stand before libc's, so that a test can make them fail and count them. */
static _Atomic int fdatasync_fails, fdatasyncs, fsyncs, syncfses;

/* Of the threads that append to one file: what each has appended, and what of it an fdatasync() that has ended began after. */
#define WRITERS 4
static _Atomic int written[WRITERS], covered[WRITERS];
static _Atomic bool counting;
static _Thread_local int writer = -1;

static int count_written(void)
{
	int now[WRITERS];

	for (int i = 0; i < WRITERS; i++)
		now[i] = written[i];
	for (int i = 0; i < WRITERS; i++)
		covered[i] = now[i];
	return 0;
}

ssize_t pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	ssize_t r = syscall(SYS_pwritev, fd, iov, n, off, 0);

	if (writer >= 0)
		written[writer]++;
	return r;
}

int fdatasync(int fd)
{
	if (counting)
		return count_written();
	fdatasyncs++;
	if (fdatasync_fails > 0) {
		fdatasync_fails--;
		errno = EIO;
		return -1;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	fsyncs++;
	return (int)syscall(SYS_fsync, fd);
}

int syncfs(int fd)
{
	syncfses++;
	return (int)syscall(SYS_syncfs, fd);
}

static struct ks_object *open_dir(const char *name)
{
	struct ks_object *o = NULL;
	char url[512];

	snprintf(url, sizeof(url), "file://%s/%s", ks_tap_dir(), name);
	ks_check_ok(ks_object_open(&o, url));
	return o;
}

static int put(struct ks_object *o, const char *key, const char *text)
{
	char copy[256];
	struct iovec v = { copy, strlen(text) };

	memcpy(copy, text, v.iov_len);
	return ks_object_put(o, key, &v, 1);
}

static void check_get(struct ks_object *o, const char *key, const char *want)
{
	char b[256] = { 0 };
	struct iovec v = { b, sizeof(b) - 1 };

	ks_check_eq(ks_object_get(o, key, 0, &v, 1), strlen(want));
	ks_check_str(b, want);
}

static int count_key(void *arg, const char *key, const struct ks_object_info *info)
{
	(void)key;
	(void)info;
	++*(size_t *)arg;
	return 0;
}

/* ---- the directory store ---- */

KS_TEST(sync_failure_stays_listed)
{
	struct ks_object *o = open_dir("syncfail");
	const char *key = "d/2";

	ks_fail_quiet(true);
	for (int i = 0; i < 3; i++)
		ks_check_ok(put(o, i == 0 ? "d/1" : i == 1 ? "d/2" : "e/3", "data"));
	fdatasync_fails = 100;
	ks_check_eq(ks_object_sync(o), -EIO);
	ks_check(strstr(ks_fail_text(), "syncfail/"));
	ks_check_ok(ks_object_del(o, &key, 1)); /* drops from the list */
	fdatasync_fails = 100;
	ks_check_eq(ks_object_sync(o), -EIO);
	ks_check_eq(fdatasync_fails, 98);
	fdatasync_fails = 1;
	ks_check_eq(ks_object_sync(o), -EIO);
	fdatasyncs = 0;
	ks_check_ok(ks_object_sync(o)); /* both are tried again, rewritten */
	ks_check_eq(fdatasyncs, 1 + (fdatasync_fails > 0));
	fdatasyncs = fsyncs = 0;
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fdatasyncs + fsyncs, 0);
	check_get(o, "d/1", "data");
	check_get(o, "e/3", "data");
	ks_object_close(o);
}

KS_TEST(sync_of_directories)
{
	struct ks_object *o = open_dir("syncdirs");

	fsyncs = fdatasyncs = 0;
	ks_check_ok(put(o, "a/b/c/1", "x"));
	ks_check_ok(put(o, "a/b/c/2", "x"));
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fdatasyncs, 2);
	ks_check_eq(fsyncs, 4); /* a/b/c, a/b, a, ROOT */
	ks_check_ok(put(o, "a/b/c/3", "x"));
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fsyncs, 5); /* the others are known to be durable */
	ks_check_ok(put(o, "a/x/1", "x"));
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fsyncs, 7); /* a/x, and a for its name */
	ks_object_close(o);
}

static int count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

KS_TEST(descriptors_are_bounded)
{
	struct ks_object *o = open_dir("bounded");
	int before = count_fds();
	char key[32];

	for (int i = 0; i < 600; i++) {
		snprintf(key, sizeof(key), "d%d/%d", i % 5, i);
		ks_check_ok(put(o, key, key));
	}
	ks_check(count_fds() - before <= KS_UNSYNCED_FDS + 1);
	for (int i = 0; i < 600; i++) {
		snprintf(key, sizeof(key), "d%d/%d", i % 5, i);
		check_get(o, key, key);
	}
	ks_check(count_fds() - before <= KS_UNSYNCED_FDS + KS_FD_CACHE_MAX + 1);
	ks_check_ok(ks_object_sync(o));
	ks_check(count_fds() - before <= KS_FD_CACHE_MAX + 1);
	for (int i = 0; i < 600; i++) {
		const char *p = key;

		snprintf(key, sizeof(key), "d%d/%d", i % 5, i);
		ks_check_ok(ks_object_del(o, &p, 1));
	}
	ks_check(count_fds() - before <= 1);
	ks_object_close(o);
}

KS_TEST(few_descriptors)
{
	struct ks_object *o = open_dir("few");
	struct rlimit old, low;
	char key[32];

	getrlimit(RLIMIT_NOFILE, &old);
	low = old;
	low.rlim_cur = (rlim_t)count_fds() + 40;
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "%d", i);
		ks_check_ok(put(o, key, key));
		if (i == 10)
			ks_check_ok(ks_object_sync(o));
	}
	ks_check_ok(ks_object_sync(o));
	setrlimit(RLIMIT_NOFILE, &low);
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "%d", i);
		check_get(o, key, key);
	}
	setrlimit(RLIMIT_NOFILE, &old);
	ks_object_close(o);
}

/* More than one batch of names in one directory, and more unsynced objects than the list holds. */
KS_TEST(big_directory)
{
	enum { N = 40000 };
	char dir[] = "/dev/shm/kiseki-test.XXXXXX", url[128], name[160];
	struct ks_object *o = NULL;
	size_t n = 0;

	if (access("/dev/shm", W_OK) < 0 || !mkdtemp(dir))
		ks_skip("no /dev/shm");
	snprintf(url, sizeof(url), "file://%s", dir);
	ks_check_ok(ks_object_open(&o, url));
	for (int i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "%05d", (i * 7919) % N);
		ks_check_ok(put(o, name, ""));
	}
	ks_check_ok(ks_object_list(o, "", "", count_key, &n));
	ks_check_eq(n, N);
	syncfses = fdatasyncs = 0;
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(syncfses, 1);
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(syncfses, 1);
	for (int i = 0; i < N; i++) {
		const char *p = name;

		snprintf(name, sizeof(name), "%05d", i);
		ks_check_ok(ks_object_del(o, &p, 1));
	}
	ks_object_close(o);
	snprintf(name, sizeof(name), "%s/" KS_FILE_TMP, dir);
	ks_check_ok(rmdir(name));
	ks_check_ok(rmdir(dir));
}

/* What another process deletes while we have it open gives its old content or -ENOENT, then its successor. */
KS_TEST(deleted_by_another)
{
	struct ks_object *o = open_dir("another");
	char path[512], b[8];
	struct iovec v = { b, 8 };

	ks_check_ok(put(o, "k", "first"));
	check_get(o, "k", "first");
	snprintf(path, sizeof(path), "%s/another/k", ks_tap_dir());
	ks_check_ok(unlink(path));
	ks_check_eq(ks_object_get(o, "k", 0, &v, 1), -ENOENT);
	ks_check_ok(put(o, "k", "second"));
	check_get(o, "k", "second");
	ks_check_ok(ks_object_sync(o));
	ks_object_close(o);
}

KS_TEST(append_trims)
{
	struct ks_object *o = open_dir("trim");
	struct ks_appender *a = NULL;
	struct iovec v = { (char[8]){ "12345678" }, 8 };
	struct stat st;
	char path[512];
	uint64_t off = 0;

	snprintf(path, sizeof(path), "%s/trim/p/1", ks_tap_dir());
	ks_check_ok(ks_appender_open(o, "p/1", &a));
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_ok(stat(path, &st));
	ks_check_eq(st.st_size, 8); /* preallocated beyond the end */
	ks_appender_close(a);
	ks_check_ok(stat(path, &st));
	ks_check_eq(st.st_size, 8);
	ks_check(st.st_blocks * 512 <= 65536);
	check_get(o, "p/1", "12345678");
	ks_object_close(o);
}

/* What is made durable append by append finds its blocks written, and its size as it was. */
KS_TEST(append_writes_ahead)
{
	struct ks_object *o = open_dir("ahead");
	struct ks_appender *a = NULL;
	struct iovec v = { (char[8]){ "12345678" }, 8 };
	struct ks_object_info info;
	struct stat st, then;
	char path[512];
	uint64_t off = 0;

	snprintf(path, sizeof(path), "%s/ahead/p", ks_tap_dir());
	ks_check_ok(ks_appender_open(o, "p", &a));
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_ok(stat(path, &st));
	ks_check_eq(st.st_size, 16);
	for (int i = 0; i < 50; i++) {
		ks_check_ok(ks_object_sync(o));
		ks_check_ok(ks_appender_write(a, &v, 1, &off));
		ks_check_eq(off, 16 + 8 * (uint64_t)i);
		ks_check_ok(stat(path, i == 0 ? &then : &st));
	}
	ks_check(then.st_size > 200000);
	ks_check_eq(st.st_size, then.st_size);
	ks_check_eq(st.st_blocks, then.st_blocks);
	ks_check_eq(ks_appender_size(a), 416);
	ks_appender_close(a);
	ks_check_ok(ks_object_head(o, "p", &info));
	ks_check_eq(info.size_bytes, 416);
	for (uint64_t at = 0; at < 416; at += 8) {
		char b[8];
		struct iovec got = { b, 8 };

		ks_check_eq(ks_object_get(o, "p", at, &got, 1), 8);
		ks_check(memcmp(b, "12345678", 8) == 0);
	}
	ks_object_close(o);
}

/* A failed fdatasync() while appending: nothing is lost, and later syncs hold again. */
KS_TEST(append_sync_failure)
{
	struct ks_object *o = open_dir("appendfail");
	struct ks_appender *a = NULL;
	struct iovec v = { (char[8]){ "12345678" }, 8 };
	uint64_t off = 0;

	ks_fail_quiet(true);
	ks_check_ok(ks_appender_open(o, "p", &a));
	ks_check_ok(ks_object_sync(o));
	fdatasyncs = 0;
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fdatasyncs, 0);
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	fdatasync_fails = 1;
	ks_check_eq(ks_object_sync(o), -EIO);
	ks_check_ok(ks_appender_write(a, &v, 1, &off));
	ks_check_ok(ks_object_sync(o));
	ks_check_eq(fdatasyncs, 2);
	ks_appender_close(a);
	check_get(o, "p", "1234567812345678");
	ks_object_close(o);
}

struct writer {
	struct ks_object *o;
	struct ks_appender *a;
	int i, missed;
};

static void *append_and_sync(void *arg)
{
	struct writer *w = arg;
	char b[64] = { 0 };
	struct iovec v = { b, sizeof(b) };
	uint64_t off;

	writer = w->i;
	for (int n = 1; n <= 8000; n++) {
		ks_check_ok(ks_appender_write(w->a, &v, 1, &off));
		ks_check_ok(ks_object_sync(w->o));
		w->missed += covered[w->i] < n;
	}
	return NULL;
}

/* Whose append has ended is in every sync that begins then, whatever the others are doing. */
KS_TEST(append_beside_sync)
{
	struct ks_object *o = open_dir("beside");
	struct ks_appender *a = NULL;
	struct writer w[WRITERS];
	pthread_t t[WRITERS];

	ks_check_ok(ks_appender_open(o, "p", &a));
	ks_check_ok(ks_object_sync(o));
	counting = true;
	for (int i = 0; i < WRITERS; i++) {
		written[i] = covered[i] = 0;
		w[i] = (struct writer){ o, a, i, 0 };
		ks_check_eq(pthread_create(&t[i], NULL, append_and_sync, &w[i]), 0);
	}
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	counting = false;
	for (int i = 0; i < WRITERS; i++)
		ks_check_eq(w[i].missed, 0);
	ks_appender_close(a);
	ks_object_close(o);
}

KS_TEST(read_only_directory)
{
	struct ks_object *o = open_dir("ro");
	struct ks_object *p = NULL;
	char path[512];
	int status, pid;

	ks_check_ok(put(o, "k", "v"));
	ks_object_close(o);
	snprintf(path, sizeof(path), "%s/ro", ks_tap_dir());
	ks_check_ok(chmod(ks_tap_dir(), 0755));
	ks_check_ok(chmod(path, 0555));
	pid = fork();
	if (pid == 0) { /* as somebody to whom permissions apply */
		ks_fail_quiet(true);
		if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0))
			_exit(9);
		p = open_dir("ro");
		check_get(p, "k", "v");
		ks_check_eq(put(p, "n", "v"), -EACCES);
		ks_check(strstr(ks_fail_text(), "ro/n"));
		ks_object_close(p);
		_exit(ks_tap.failed);
	}
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check_ok(chmod(path, 0755));
	ks_check_eq(status, 0);
}

/* ---- a full disk, crashes ---- */

KS_TEST(full_disk)
{
	struct ks_object *o;
	struct ks_appender *a = NULL;
	struct ks_object_usage u = { 0 };
	struct iovec v = { NULL, 256 * KS_KIB };
	char dir[512], key[16];
	size_t n = 0;
	uint64_t off;
	int r = 0;

	ks_fail_quiet(true);
	snprintf(dir, sizeof(dir), "%s/full", ks_tap_dir());
	ks_check_ok(mkdir(dir, 0755));
	if (mount("none", dir, "tmpfs", 0, "size=2m") < 0)
		ks_skip("cannot mount a tmpfs");
	o = open_dir("full");
	ks_check_eq(posix_memalign(&v.iov_base, 4096, v.iov_len), 0);
	memset(v.iov_base, 1, v.iov_len);
	for (int i = 0; i < 20 && r == 0; i++) {
		snprintf(key, sizeof(key), "a/%d", i);
		r = ks_object_put(o, key, &v, 1);
	}
	ks_check_eq(r, -ENOSPC);
	ks_check(strstr(ks_fail_text(), dir) && strstr(ks_fail_text(), "No space"));
	ks_check_ok(ks_object_list(o, "", "", count_key, &n));
	ks_check(n >= 6 && n <= 8); /* whole ones only */
	ks_check_ok(ks_object_usage(o, &u));
	ks_check(u.total_bytes == 2 * KS_MIB && u.free_bytes < 256 * KS_KIB);
	ks_check_ok(ks_appender_open(o, "p", &a));
	for (r = 0; r == 0;)
		r = ks_appender_write(a, &v, 1, &off);
	ks_check_eq(r, -ENOSPC);
	for (n = 0; n < 3; n++) {
		const char *p = key;

		snprintf(key, sizeof(key), "a/%zu", n);
		ks_check_ok(ks_object_del(o, &p, 1));
	}
	off = 99;
	ks_check_ok(ks_appender_write(a, &v, 1, &off)); /* not sticky */
	ks_check_eq(off, ks_appender_size(a) - v.iov_len);
	ks_appender_close(a);
	ks_check_ok(ks_object_put(o, "b", &v, 1));
	ks_check_ok(ks_object_sync(o));
	free(v.iov_base);
	ks_object_close(o);
	ks_check_ok(umount2(dir, MNT_DETACH));
}

/* A file system that refuses O_DIRECT. */
KS_TEST(no_direct_io)
{
	const size_t n = 256 * KS_KIB;
	struct ks_object *o;
	struct iovec v = { NULL, n };
	char dir[512];

	snprintf(dir, sizeof(dir), "%s/nodirect", ks_tap_dir());
	ks_check_ok(mkdir(dir, 0755));
	if (mount("none", dir, "ramfs", 0, NULL) < 0)
		ks_skip("cannot mount a ramfs");
	o = open_dir("nodirect");
	ks_check_eq(posix_memalign(&v.iov_base, 4096, n), 0);
	memset(v.iov_base, 5, n);
	ks_check_ok(ks_object_put(o, "k", &v, 1));
	ks_check(ks_file_of(o)->no_direct);
	ks_file_of(o)->no_direct = false;
	memset(v.iov_base, 0, n);
	ks_check_eq(ks_object_get(o, "k", 0, &v, 1), n);
	ks_check(ks_file_of(o)->no_direct);
	ks_check_eq(((char *)v.iov_base)[n - 1], 5);
	free(v.iov_base);
	ks_object_close(o);
	ks_check_ok(umount2(dir, MNT_DETACH));
}

#define CRASH_SIZE (300 * 1024 + 100)

/* Puts for ever; object N is whole when all its bytes are N. */
static void put_for_ever(void)
{
	struct ks_object *o = open_dir("crash");
	char *p = NULL, key[32];
	struct iovec v;

	if (posix_memalign((void **)&p, 4096, CRASH_SIZE) != 0)
		_exit(1);
	for (unsigned i = 0;; i++) {
		memset(p, (int)(i % 251), CRASH_SIZE);
		v = (struct iovec){ p + (i & 1), CRASH_SIZE - (i & 1) };
		snprintf(key, sizeof(key), "d/%u", i % 40);
		if (ks_object_put(o, key, &v, 1) < 0)
			_exit(1);
	}
}

static int check_whole(void *arg, const char *key, const struct ks_object_info *info)
{
	static char b[CRASH_SIZE];
	struct iovec v = { b, CRASH_SIZE };
	size_t n = info->size_bytes;

	ks_check(n == CRASH_SIZE || n == CRASH_SIZE - 1);
	ks_check_eq(ks_object_get(arg, key, 0, &v, 1), n);
	for (size_t i = 1; i < n; i++) {
		if (b[i] != b[0])
			ks_check_eq(b[i], b[0]);
	}
	return 0;
}

static int count_entries(const char *path)
{
	DIR *d = opendir(path);
	const struct dirent *e;
	int n = 0;

	while (d && (e = readdir(d)))
		n += e->d_name[0] != '.';
	if (d)
		closedir(d);
	return n;
}

KS_TEST(killed_while_putting)
{
	int rounds = UNDER_TSAN ? 5 : 25, status, pid;
	struct ks_object *o;
	char path[512];

	snprintf(path, sizeof(path), "%s/crash/" KS_FILE_TMP, ks_tap_dir());
	srandom((unsigned)getpid());
	for (int i = 0; i < rounds; i++) {
		pid = fork();
		if (pid == 0)
			put_for_ever();
		usleep((useconds_t)(1000 + random() % 40000));
		kill(pid, SIGKILL);
		ks_check_eq(waitpid(pid, &status, 0), pid);
		ks_check(WIFSIGNALED(status));
		o = open_dir("crash");
		ks_check_eq(count_entries(path), 0); /* its temporary files are gone */
		ks_check_ok(ks_object_list(o, "", "", check_whole, o));
		ks_object_close(o);
	}
}

/* A store that is open keeps its temporary files while others open and close theirs. */
KS_TEST(temporaries_of_the_living)
{
	struct ks_object *o = open_dir("living"), *p;
	char path[512];

	snprintf(path, sizeof(path), "%s/living/" KS_FILE_TMP, ks_tap_dir());
	ks_check_ok(put(o, "a", "1"));
	p = open_dir("living");
	ks_check_eq(count_entries(path), 1);
	ks_check_ok(put(p, "b", "1"));
	ks_check_eq(count_entries(path), 2);
	ks_object_close(p);
	ks_check_eq(count_entries(path), 1);
	ks_check_ok(put(o, "c", "1"));
	ks_object_close(o);
	ks_check_eq(count_entries(path), 0);
}

/* Its own directories go when they are empty, and nothing else. */
KS_TEST(dismantling)
{
	static const char *const keys[] = { "blocks/0/1/2", "packs/0/1", "marker" };
	char path[512], other[600];
	struct stat st;

	for (int with_other = 0; with_other < 2; with_other++) {
		struct ks_object *o = open_dir("end");

		snprintf(path, sizeof(path), "%s/end", ks_tap_dir());
		snprintf(other, sizeof(other), "%s/blocks/mine", path);
		for (size_t i = 0; i < KS_ARRAY_SIZE(keys); i++)
			ks_check_ok(put(o, keys[i], "1"));
		ks_check_ok(ks_object_del(o, keys, 2));
		ks_check_eq(ks_object_dismantle(o), -ENOTEMPTY);
		ks_check_eq(count_entries(path), 1);
		ks_object_close(o);
		o = open_dir("end");
		ks_check_ok(put(o, keys[0], "1"));
		if (with_other)
			ks_check_ok(mkdir(other, 0700));
		if (with_other) {
			int fd = openat(AT_FDCWD, other, O_RDONLY | O_DIRECTORY);
			int file = openat(fd, "file", O_CREAT | O_WRONLY, 0600);

			ks_check(file >= 0);
			close(file);
			close(fd);
		}
		ks_check_ok(ks_object_del(o, keys, 3));
		ks_check_eq(ks_object_dismantle(o), with_other ? -ENOTEMPTY : 0);
		ks_check_eq(stat(path, &st), with_other ? 0 : -1);
		ks_object_close(o);
	}
	ks_check_ok(stat(other, &st));
}

KS_TEST_MAIN()
