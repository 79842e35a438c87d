/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posixcheck DIR: what POSIX and Linux promise about names and attributes, one line of TAP per promise (posixio: about
 * contents). Run as root it also checks what ordinary users may do (uids 1001 and 1002; the mount must let others in).
 * It passes on ext4.
 */
#include "posix.h"
#include <dirent.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

static bool others_may; /* root, and other users can look into DIR */

static mode_t mode_of(const char *name)
{
	return look(name).st_mode & 07777;
}

/* Runs @fn in a child as another user; its result is the exit status. */
static int as_user(uid_t uid, gid_t gid, int (*fn)(void))
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		umask(0);
		if (setgid(gid) < 0 || setuid(uid) < 0)
			_exit(99);
		_exit(fn());
	}
	return wait_for(pid);
}

static struct stat before;

/* Remembers the times of @name, long enough ago that any change shows. */
static void times_start(const char *name)
{
	struct timespec past[2] = { { 1000000000, 0 }, { 1000000001, 0 } };

	if (utimensat(AT_FDCWD, P(name), past, AT_SYMLINK_NOFOLLOW) < 0)
		tap_fail("utimensat %s: %s", name, strerror(errno));
	before = look(name);
	sleep_ms(12);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

/* @want: which of m and c must have moved since; the others must not have. */
static void times_end(const char *name, const char *want)
{
	struct stat st = look(name);
	bool m = !same_time(st.st_mtim, before.st_mtim), c = !same_time(st.st_ctim, before.st_ctim);

	if (m != (strchr(want, 'm') != NULL) || c != (strchr(want, 'c') != NULL))
		tap_fail("of %s moved: '%s%s', must: '%s'", name, m ? "m" : "", c ? "c" : "", want);
	if (m && llabs((long long)st.st_mtim.tv_sec - (long long)time(NULL)) > 30)
		tap_fail("mtime of %s is not now", name);
}

#define TIMES(name, watched, want, doing)                                                          \
	do {                                                                                       \
		times_start(watched);                                                              \
		CHECK((doing) >= 0);                                                               \
		times_end(watched, want);                                                          \
		tap_end("times: " name);                                                           \
	} while (0)
/* ---- open ---- */

static void test_open(void)
{
	int fd;

	put("file", "text");
	CHECK(symlink("nowhere", P("dangling")) == 0);
	CHECK(symlink("file", P("link")) == 0);
	CHECK(mkdir(P("d"), 0755) == 0);
	CHECK_ERR(open(P("missing"), O_RDONLY), ENOENT);
	CHECK_ERR(open("", O_RDONLY), ENOENT);
	CHECK_ERR(open(P("missing/x"), O_CREAT | O_WRONLY, 0644), ENOENT);
	tap_end("open: what is not there is ENOENT");
	CHECK_ERR(open(P("file"), O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	CHECK_ERR(open(P("dangling"), O_CREAT | O_EXCL | O_WRONLY, 0644), EEXIST);
	tap_end("open: O_EXCL refuses a file and a dangling symlink");
	fd = open(P("dangling"), O_CREAT | O_WRONLY, 0644);
	CHECK(fd >= 0 && close(fd) == 0 && access(P("nowhere"), F_OK) == 0);
	tap_end("open: O_CREAT through a dangling symlink makes its target");
	CHECK_ERR(open(P("link"), O_RDONLY | O_NOFOLLOW), ELOOP);
	tap_end("open: O_NOFOLLOW refuses a symlink with ELOOP");
	CHECK_ERR(open(P("file"), O_RDONLY | O_DIRECTORY), ENOTDIR);
	CHECK_ERR(open(P("file/x"), O_RDONLY), ENOTDIR);
	CHECK_ERR(open(P("file/"), O_RDONLY), ENOTDIR);
	tap_end("open: a file where a directory is needed is ENOTDIR");
	CHECK_ERR(open(P("d"), O_WRONLY), EISDIR);
	CHECK_ERR(open(P("d"), O_RDWR), EISDIR);
	CHECK_ERR(open(P("newfile/"), O_CREAT | O_WRONLY, 0644), EISDIR);
	tap_end("open: a directory cannot be opened for writing: EISDIR");
	fd = open(P("file"), O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && look("file").st_size == 0 && close(fd) == 0 && holds("file", ""));
	tap_end("open: O_TRUNC empties");
	fd = open(P("mode0"), O_CREAT | O_RDWR, 0);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1 && mode_of("mode0") == 0);
	close(fd);
	tap_end("open: who makes a file of mode 0 may write it");
	fd = open(P("mode0"), O_RDONLY);
	CHECK_ERR(write(fd, "x", 1), EBADF);
	close(fd);
	fd = open(P("mode0"), O_WRONLY);
	CHECK_ERR(read(fd, base, 0 + 1), EBADF);
	close(fd);
	tap_end("open: the access mode binds read and write: EBADF");
}

static void test_append(void)
{
	int a = make("app", "0123", 0644), b, fd2;
	char c[3];

	close(a);
	a = open(P("app"), O_WRONLY | O_APPEND);
	b = open(P("app"), O_RDWR | O_APPEND);
	CHECK(write(a, "A", 1) == 1 && write(b, "B", 1) == 1 && write(a, "C", 1) == 1);
	CHECK(pwrite(b, "D", 1, 0) == 1); /* Linux: appends */
	CHECK(lseek(a, 0, SEEK_CUR) == 7);
	close(a);
	CHECK(lseek(b, 1, SEEK_SET) == 1 && read(b, c, 2) == 2 && memcmp(c, "12", 2) == 0);
	close(b);
	CHECK(holds("app", "0123ABCD"));
	tap_end("open: O_APPEND goes to the end, from every descriptor");
	a = open(P("app"), O_RDONLY);
	fd2 = dup(a);
	CHECK(read(a, c, 2) == 2 && read(fd2, c, 2) == 2 && memcmp(c, "23", 2) == 0);
	close(a);
	close(fd2);
	tap_end("open: duplicates share the offset");
}

static void test_tmpfile(void)
{
	int fd = open(base, O_TMPFILE | O_RDWR, 0640);
	char self[64];

	if (fd < 0 && errno == EOPNOTSUPP) {
		tap_skip("open: O_TMPFILE", "not supported here");
		return;
	}
	CHECK(fd >= 0 && write(fd, "tmp", 3) == 3);
	struct stat st;

	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 0);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, self, AT_FDCWD, P("tmp-linked"), AT_SYMLINK_FOLLOW) == 0);
	CHECK(fstat(fd, &st) == 0);
	CHECK_EQ(st.st_nlink, 1);
	close(fd);
	CHECK(holds("tmp-linked", "tmp"));
	tap_end("open: O_TMPFILE has no name until linkat() gives it one");
}

static void test_umask(void)
{
	mode_t old = umask(027);

	close(open(P("um"), O_CREAT | O_WRONLY, 0666));
	CHECK_EQ(mode_of("um"), 0640);
	CHECK(mkdir(P("umd"), 0777) == 0 && mode_of("umd") == 0750);
	CHECK(mkfifo(P("umf"), 0666) == 0 && mode_of("umf") == 0640);
	umask(0);
	close(open(P("um2"), O_CREAT | O_WRONLY, 0666));
	CHECK_EQ(mode_of("um2"), 0666);
	umask(old);
	tap_end("umask applies to files, directories and fifos");
}

/* ---- names without files, files without names ---- */

static void test_unlinked(void)
{
	int fd = make("gone", "content", 0644);
	struct stat st;
	char buf[16] = { 0 };

	CHECK(unlink(P("gone")) == 0);
	CHECK_ERR(open(P("gone"), O_RDONLY), ENOENT);
	CHECK(fstat(fd, &st) == 0 && st.st_nlink == 0 && st.st_size == 7);
	CHECK(pread(fd, buf, 16, 0) == 7 && memcmp(buf, "content", 7) == 0);
	tap_end("unlink: an open file stays readable, its link count is 0");
	CHECK(pwrite(fd, "more", 4, 100000) == 4 && fstat(fd, &st) == 0 && st.st_size == 100004);
	CHECK(ftruncate(fd, 3) == 0 && fsync(fd) == 0 && fchmod(fd, 0600) == 0);
	CHECK(pread(fd, buf, 16, 0) == 3 && memcmp(buf, "con", 3) == 0);
	tap_end("unlink: an open file stays writable, is truncated and synced");
	put("gone", "another");
	CHECK(pread(fd, buf, 16, 0) == 3 && holds("gone", "another"));
	close(fd);
	CHECK(holds("gone", "another"));
	tap_end("unlink: a new file of the same name is another file");
	fd = make("victim", "old", 0644);
	put("winner", "new");
	CHECK(rename(P("winner"), P("victim")) == 0);
	CHECK(pread(fd, buf, 16, 0) == 3 && memcmp(buf, "old", 3) == 0 && holds("victim", "new"));
	close(fd);
	tap_end("rename: over an open file leaves its reader the old content");
}

static void test_removed_dir(void)
{
	int d, fd;
	DIR *dir;
	struct dirent *e;
	struct stat st;
	unsigned n = 0;

	CHECK(mkdir(P("rd"), 0755) == 0);
	d = open(P("rd"), O_RDONLY | O_DIRECTORY);
	CHECK(d >= 0 && rmdir(P("rd")) == 0);
	fd = openat(d, "x", O_CREAT | O_WRONLY, 0644);
	CHECK(fd < 0 && errno == ENOENT);
	dir = fdopendir(d);
	while (dir && (e = readdir(dir)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	CHECK_EQ(n, 0);
	CHECK(fstat(d, &st) == 0 && S_ISDIR(st.st_mode));
	if (dir)
		closedir(dir);
	tap_end("rmdir: a removed directory is empty for who has it open and takes nothing new");
}

static void test_rmdir(void)
{
	CHECK(mkdir(P("r"), 0755) == 0);
	put("r/f", "");
	CHECK_ERR(rmdir(P("r")), ENOTEMPTY);
	CHECK_ERR(rmdir(P("r/f")), ENOTDIR);
	CHECK_ERR(rmdir(P("r/.")), EINVAL);
	CHECK_ERR(rmdir(P("r/..")), ENOTEMPTY);
	CHECK_ERR(rmdir(P("rmissing")), ENOENT);
	CHECK_ERR(unlink(P("r")), EISDIR);
	CHECK_ERR(unlink(P("r/f/")), ENOTDIR);
	CHECK(unlink(P("r/f")) == 0 && rmdir(P("r")) == 0);
	tap_end("rmdir and unlink: ENOTEMPTY, ENOTDIR, EINVAL, EISDIR, ENOENT as they should");
	put("md", "");
	CHECK_ERR(mkdir(P("md"), 0755), EEXIST);
	CHECK(symlink("nothing", P("md-link")) == 0);
	CHECK_ERR(mkdir(P("md-link"), 0755), EEXIST);
	CHECK_ERR(mkdir(P("md/x"), 0755), ENOTDIR);
	CHECK(mkdir(P("md-slash/"), 0755) == 0);
	tap_end("mkdir: EEXIST, ENOTDIR; a trailing slash is allowed");
}

static void test_links(void)
{
	nlink_t top = look("").st_nlink;

	put("l1", "shared");
	CHECK_EQ(look("l1").st_nlink, 1);
	CHECK(link(P("l1"), P("l2")) == 0);
	CHECK_EQ(look("l1").st_nlink, 2);
	CHECK(look("l1").st_ino == look("l2").st_ino);
	put("l2", "changed");
	CHECK(holds("l1", "changed"));
	CHECK(unlink(P("l1")) == 0);
	CHECK_EQ(look("l2").st_nlink, 1);
	tap_end("link: two names of one inode, counted");
	CHECK_ERR(link(P("l2"), P("l2")), EEXIST);
	CHECK_ERR(link(P("lmissing"), P("l3")), ENOENT);
	CHECK(mkdir(P("ld"), 0755) == 0);
	CHECK_ERR(link(P("ld"), P("l3")), EPERM);
	CHECK(symlink("l2", P("ls")) == 0 && link(P("ls"), P("ls2")) == 0);
	CHECK(S_ISLNK(look("ls2").st_mode) && look("ls").st_nlink == 2);
	tap_end("link: EEXIST, ENOENT, EPERM for a directory; a symlink itself can be linked");
	if (top == 1) {
		tap_skip("mkdir: link counts of directories", "not counted here");
		return;
	}
	CHECK_EQ(look("ld").st_nlink, 2);
	CHECK_EQ(look("").st_nlink, top + 1);
	CHECK(mkdir(P("ld/sub"), 0755) == 0);
	CHECK_EQ(look("ld").st_nlink, 3);
	CHECK(rename(P("ld/sub"), P("sub")) == 0);
	CHECK_EQ(look("ld").st_nlink, 2);
	CHECK_EQ(look("").st_nlink, top + 2);
	CHECK(rmdir(P("sub")) == 0 && rmdir(P("ld")) == 0);
	CHECK_EQ(look("").st_nlink, top);
	tap_end("mkdir, rename, rmdir: link counts of directories follow");
}

static void test_symlinks(void)
{
	char target[4200], got[4200];

	memset(target, 't', sizeof(target));
	target[4095] = '\0';
	CHECK(symlink(target, P("sl-long")) == 0);
	CHECK_EQ(readlink(P("sl-long"), got, sizeof(got)), 4095);
	CHECK(memcmp(got, target, 4095) == 0);
	CHECK_EQ(look("sl-long").st_size, 4095);
	CHECK_EQ(readlink(P("sl-long"), got, 10), 10);
	tap_end("symlink: a target of 4095 bytes, readlink cuts at the buffer");
	CHECK_ERR(symlink("", P("sl-empty")), ENOENT);
	CHECK_ERR(symlink("x", P("sl-long")), EEXIST);
	put("sl-file", "");
	CHECK_ERR(readlink(P("sl-file"), got, 10), EINVAL);
	CHECK(S_ISLNK(look("sl-long").st_mode) && mode_of("sl-long") == 0777);
	tap_end("symlink: ENOENT, EEXIST, EINVAL; mode lrwxrwxrwx");
	CHECK(symlink("loop2", P("loop1")) == 0 && symlink("loop1", P("loop2")) == 0);
	CHECK_ERR(open(P("loop1"), O_RDONLY), ELOOP);
	CHECK_ERR(open(P("loop1/x"), O_CREAT | O_WRONLY, 0644), ELOOP);
	tap_end("symlink: a loop is ELOOP");
	CHECK(symlink("\xff\xfe\n", P("sl-bytes")) == 0);
	CHECK(readlink(P("sl-bytes"), got, 10) == 3 && memcmp(got, "\xff\xfe\n", 3) == 0);
	tap_end("symlink: a target of any bytes");
}

/* ---- rename ---- */

static void test_rename(void)
{
	ino_t ino;

	CHECK(mkdir(P("ra"), 0755) == 0 && mkdir(P("rb"), 0755) == 0);
	put("ra/f", "f");
	put("rb/g", "g");
	ino = look("ra/f").st_ino;
	CHECK(rename(P("ra/f"), P("rb/f")) == 0 && look("rb/f").st_ino == ino);
	CHECK_ERR(open(P("ra/f"), O_RDONLY), ENOENT);
	CHECK(rename(P("rb/f"), P("rb/g")) == 0 && holds("rb/g", "f"));
	tap_end("rename: moves and replaces, the inode stays the same");
	CHECK_ERR(rename(P("rb/g"), P("ra")), EISDIR);
	CHECK_ERR(rename(P("ra"), P("rb/g")), ENOTDIR);
	CHECK_ERR(rename(P("ra"), P("rb")), ENOTEMPTY);
	CHECK_ERR(rename(P("rmiss"), P("rmiss2")), ENOENT);
	CHECK_ERR(rename(P("rb/g"), P("rb/h/")), ENOTDIR);
	tap_end("rename: EISDIR, ENOTDIR, ENOTEMPTY, ENOENT as they should");
	CHECK(mkdir(P("ra/x"), 0755) == 0 && mkdir(P("ra/x/y"), 0755) == 0);
	CHECK_ERR(rename(P("ra"), P("ra/z")), EINVAL);
	CHECK_ERR(rename(P("ra"), P("ra/x/y/z")), EINVAL);
	CHECK_ERR(rename(P("ra/x/y"), P("ra")), ENOTEMPTY);
	tap_end("rename: a directory cannot move below itself");
	CHECK_ERR(rename(P("ra/."), P("rz")), EBUSY);
	CHECK_ERR(rename(P("ra/x/.."), P("rz")), EBUSY);
	tap_end("rename: of . and .. is EBUSY");
	CHECK(mkdir(P("rempty"), 0755) == 0 && rename(P("ra"), P("rempty")) == 0);
	CHECK(access(P("rempty/x/y"), F_OK) == 0);
	CHECK_EQ(look("rempty/x/../..").st_ino, look("").st_ino);
	CHECK(rename(P("rempty/x"), P("rb/x")) == 0);
	CHECK_EQ(look("rb/x/..").st_ino, look("rb").st_ino);
	tap_end("rename: a directory replaces an empty one; '..' follows it");
	put("rl1", "l");
	CHECK(link(P("rl1"), P("rl2")) == 0 && rename(P("rl1"), P("rl2")) == 0);
	CHECK(look("rl1").st_nlink == 2 && look("rl2").st_nlink == 2);
	CHECK(rename(P("rl1"), P("rl1")) == 0);
	tap_end("rename: between two names of one file does nothing");
}

static void test_rename2(void)
{
	put("n1", "one");
	put("n2", "two");
	CHECK(mkdir(P("nd"), 0755) == 0);
	put("nd/in", "inside");
	CHECK_ERR(renameat2(AT_FDCWD, P("n1"), AT_FDCWD, P("n2"), RENAME_NOREPLACE), EEXIST);
	CHECK(renameat2(AT_FDCWD, P("n1"), AT_FDCWD, P("n3"), RENAME_NOREPLACE) == 0);
	tap_end("renameat2: RENAME_NOREPLACE");
	CHECK(renameat2(AT_FDCWD, P("n2"), AT_FDCWD, P("n3"), RENAME_EXCHANGE) == 0);
	CHECK(holds("n2", "one") && holds("n3", "two"));
	CHECK(renameat2(AT_FDCWD, P("nd"), AT_FDCWD, P("n2"), RENAME_EXCHANGE) == 0);
	CHECK(holds("nd", "one") && holds("n2/in", "inside"));
	CHECK_ERR(renameat2(AT_FDCWD, P("n3"), AT_FDCWD, P("nmissing"), RENAME_EXCHANGE), ENOENT);
	CHECK_ERR(
		renameat2(AT_FDCWD, P("n3"), AT_FDCWD, P("nd"), RENAME_EXCHANGE | RENAME_NOREPLACE),
		EINVAL);
	tap_end("renameat2: RENAME_EXCHANGE of files, of a file and a directory");
}

static void test_xdev(void)
{
	static const char *const others[] = { "/dev/shm", "/tmp", "/var/tmp" };
	struct stat here = look(""), st;
	char path[128];
	int fd;

	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		if (stat(others[i], &st) < 0 || st.st_dev == here.st_dev)
			continue;
		snprintf(path, sizeof(path), "%s/posixcheck.%d", others[i], (int)getpid());
		fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0600);
		if (fd < 0)
			continue;
		close(fd);
		CHECK_ERR(rename(path, P("xdev")), EXDEV);
		CHECK_ERR(link(path, P("xdev")), EXDEV);
		unlink(path);
		tap_end("rename and link from another file system are EXDEV");
		return;
	}
	tap_skip("rename and link from another file system are EXDEV", "no other file system");
}

/* ---- names ---- */

static void test_names(void)
{
	char name[300], all[260], path[5000];
	unsigned n = 0, hits = 0;
	struct dirent *e;
	DIR *d;

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	put(name, "255");
	CHECK(holds(name, "255"));
	name[255] = 'n';
	name[256] = '\0';
	CHECK_ERR(open(P(name), O_CREAT | O_WRONLY, 0644), ENAMETOOLONG);
	CHECK_ERR(mkdir(P(name), 0755), ENAMETOOLONG);
	CHECK_ERR(access(P(name), F_OK), ENAMETOOLONG);
	CHECK_ERR(symlink("x", P(name)), ENAMETOOLONG);
	tap_end("names: 255 bytes fit, 256 are ENAMETOOLONG");
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	for (size_t i = 0; i < sizeof(path) - 1; i += 100)
		path[i] = '/';
	CHECK_ERR(open(path, O_RDONLY), ENAMETOOLONG);
	tap_end("names: a path of 4096 bytes is ENAMETOOLONG");
	for (int c = 1; c < 256; c++)
		if (c != '/')
			all[n++] = (char)c;
	all[n] = '\0';
	CHECK(mkdir(P("bytes"), 0755) == 0);
	snprintf(path, 1000, "bytes/%s", all);
	put(path, "all");
	CHECK(holds(path, "all"));
	for (unsigned i = 0; i < n; i++) {
		if (all[i] == '.')
			continue;
		snprintf(path, 1000, "bytes/%c", all[i]);
		put(path, "");
	}
	d = opendir(P("bytes"));
	while (d && (e = readdir(d)))
		hits += strcmp(e->d_name, all) == 0 ||
			(strlen(e->d_name) == 1 && *e->d_name != '.');
	if (d)
		closedir(d);
	CHECK_EQ(hits, n);
	tap_end("names: every byte but '/' and NUL, kept as it is");
	put("Case", "upper");
	put("case", "lower");
	CHECK(holds("Case", "upper") && holds("case", "lower"));
	put("\xc3\xa9", "nfc");
	put("e\xcc\x81", "nfd");
	CHECK(holds("\xc3\xa9", "nfc") && holds("e\xcc\x81", "nfd"));
	tap_end("names: case and Unicode forms are kept apart");
}

/* ---- directories ---- */

static void test_readdir(void)
{
	enum { N = 2500 };
	static unsigned seen[N];
	char name[64];
	struct dirent *e;
	bool dot = false, dotdot = false;
	DIR *d;

	CHECK(mkdir(P("many"), 0755) == 0);
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "many/entry-%u", i);
		close(open(P(name), O_CREAT | O_WRONLY, 0644));
	}
	d = opendir(P("many"));
	CHECK(d != NULL);
	memset(seen, 0, sizeof(seen));
	while (d && (e = readdir(d))) {
		unsigned i;

		dot |= strcmp(e->d_name, ".") == 0;
		dotdot |= strcmp(e->d_name, "..") == 0;
		if (sscanf(e->d_name, "entry-%u", &i) == 1 && i < N)
			seen[i]++;
		if (e->d_type != DT_UNKNOWN && e->d_type != (e->d_name[0] == '.' ? DT_DIR : DT_REG))
			tap_fail("type of %s is %d", e->d_name, e->d_type);
	}
	for (unsigned i = 0; i < N; i++)
		CHECK_EQ(seen[i], 1);
	CHECK(dot && dotdot);
	tap_end("readdir: . and .. and every entry once, with its type");
	/* Half are removed while the listing goes on: the other half is seen once. */
	rewinddir(d);
	memset(seen, 0, sizeof(seen));
	for (unsigned k = 0; d && (e = readdir(d)); k++) {
		unsigned i;

		if (sscanf(e->d_name, "entry-%u", &i) == 1 && i < N)
			seen[i]++;
		if (k < N / 2) {
			snprintf(name, sizeof(name), "many/entry-%u", 2 * k);
			unlink(P(name));
			snprintf(name, sizeof(name), "many/extra-%u", k);
			close(open(P(name), O_CREAT | O_WRONLY, 0644));
		}
	}
	for (unsigned i = 1; i < N; i += 2)
		CHECK_EQ(seen[i], 1);
	tap_end("readdir: entries that stay are seen once while others come and go");
	if (d)
		closedir(d);
}

static void test_seekdir(void)
{
	enum { N = 400 };
	static char names[N + 2][64];
	static long where[N + 2];
	struct dirent *e;
	unsigned n = 0;
	char name[64];
	DIR *d;

	CHECK(mkdir(P("seek"), 0755) == 0);
	for (unsigned i = 0; i < N; i++) {
		snprintf(name, sizeof(name), "seek/s%u", i);
		close(open(P(name), O_CREAT | O_WRONLY, 0644));
	}
	d = opendir(P("seek"));
	CHECK(d != NULL);
	while (d && n < N + 2) {
		where[n] = telldir(d);
		e = readdir(d);
		if (!e)
			break;
		snprintf(names[n++], 64, "%.60s", e->d_name);
	}
	CHECK_EQ(n, N + 2);
	for (unsigned i = 0; d && i < n; i += 37) {
		seekdir(d, where[i]);
		e = readdir(d);
		if (!e || strcmp(e->d_name, names[i]) != 0)
			tap_fail("seekdir to %s found %s", names[i], e ? e->d_name : "nothing");
	}
	if (d)
		closedir(d);
	tap_end("seekdir: goes back to any entry that telldir named");
	d = opendir(P("seek"));
	while (d && (e = readdir(d))) {
		struct stat st;

		if (e->d_name[0] == '.')
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, 0) < 0 || st.st_ino != e->d_ino)
			tap_fail("d_ino of %s is not st_ino", e->d_name);
	}
	if (d) {
		put("seek/late", "");
		rewinddir(d);
		n = 0;
		while ((e = readdir(d)))
			n += strcmp(e->d_name, "late") == 0;
		CHECK_EQ(n, 1);
		closedir(d);
	}
	tap_end("readdir: d_ino is st_ino; rewinddir sees what is new");
}

/* ---- times ---- */

static void test_times_data(void)
{
	int fd = make("t", "text", 0644);
	char c;

	TIMES("write moves mtime and ctime", "t", "mc", pwrite(fd, "x", 1, 0));
	TIMES("write of nothing moves nothing", "t", "", pwrite(fd, "x", 0, 0));
	TIMES("read moves neither mtime nor ctime", "t", "", pread(fd, &c, 1, 0));
	TIMES("ftruncate moves mtime and ctime", "t", "mc", ftruncate(fd, 100));
	TIMES("ftruncate to the same size moves them too", "t", "mc", ftruncate(fd, 100));
	TIMES("truncate moves mtime and ctime", "t", "mc", truncate(P("t"), 50));
	TIMES("open with O_TRUNC moves mtime and ctime", "t", "mc",
	      close(open(P("t"), O_WRONLY | O_TRUNC)));
	TIMES("open with O_TRUNC of an empty file moves them too", "t", "mc",
	      close(open(P("t"), O_WRONLY | O_TRUNC)));
	TIMES("open and close move nothing", "t", "", close(open(P("t"), O_RDWR)));
	TIMES("fallocate moves mtime and ctime", "t", "mc", posix_fallocate(fd, 0, 10000));
	TIMES("fallocate within the file moves them too", "t", "mc", posix_fallocate(fd, 0, 100));
	TIMES("fsync moves nothing", "t", "", fsync(fd));
	close(fd);
	/* What was written last is what a later look sees: closing does not move mtime again. */
	fd = open(P("t"), O_WRONLY);
	CHECK(pwrite(fd, "abc", 3, 0) == 3);
	struct stat st = look("t");

	sleep_ms(12);
	CHECK(close(fd) == 0);
	CHECK(same_time(look("t").st_mtim, st.st_mtim) && same_time(look("t").st_ctim, st.st_ctim));
	tap_end("times: close does not move times away from the last write");
}

static void test_times_meta(void)
{
	struct timespec set[2] = { { 1, 2 }, { 3, 4 } };

	put("tm", "");
	CHECK(mkdir(P("td"), 0755) == 0);
	put("td/f", "");
	TIMES("chmod moves ctime only", "tm", "c", chmod(P("tm"), 0600));
	TIMES("chown moves ctime only", "tm", "c", chown(P("tm"), getuid(), getgid()));
	TIMES("utimensat moves ctime", "tm", "mc", utimensat(AT_FDCWD, P("tm"), NULL, 0));
	TIMES("setxattr moves ctime only", "tm", "c", setxattr(P("tm"), "user.t", "1", 1, 0));
	TIMES("removexattr moves ctime only", "tm", "c", removexattr(P("tm"), "user.t"));
	TIMES("link moves ctime of the file", "tm", "c", link(P("tm"), P("tm2")));
	TIMES("unlink moves ctime of a file that has another name", "tm", "c", unlink(P("tm2")));
	TIMES("rename moves ctime of the file", "tm", "c",
	      (rename(P("tm"), P("tm2")), rename(P("tm2"), P("tm"))));
	TIMES("making an entry moves mtime and ctime of the directory", "td", "mc",
	      close(open(P("td/g"), O_CREAT | O_WRONLY, 0644)));
	TIMES("opening with O_CREAT what is there moves nothing of the directory", "td", "",
	      close(open(P("td/g"), O_CREAT | O_WRONLY, 0644)));
	TIMES("writing to an entry moves nothing of the directory", "td", "",
	      (put("td/f", "x"), 0));
	TIMES("mkdir moves the directory's", "td", "mc", mkdir(P("td/sub"), 0755));
	TIMES("rmdir moves the directory's", "td", "mc", rmdir(P("td/sub")));
	TIMES("symlink moves the directory's", "td", "mc", symlink("x", P("td/l")));
	TIMES("unlink moves the directory's", "td", "mc", unlink(P("td/l")));
	TIMES("rename within moves the directory's", "td", "mc", rename(P("td/g"), P("td/h")));
	TIMES("rename away moves the directory's", "td", "mc", rename(P("td/h"), P("th")));
	TIMES("a failed mkdir moves nothing", "td", "", (mkdir(P("td/f"), 0755), 0));
	CHECK(utimensat(AT_FDCWD, P("tm"), set, 0) == 0);
	struct stat st = look("tm");

	CHECK(st.st_atim.tv_sec == 1 && st.st_atim.tv_nsec == 2 && st.st_mtim.tv_sec == 3 &&
	      st.st_mtim.tv_nsec == 4);
	tap_end("times: utimensat to the nanosecond");
}

static void test_times_range(void)
{
	struct timespec far[2] = { { 7258118400, 999999999 }, { -100000000, 123456789 } };
	struct timespec now[2] = { { 0, UTIME_OMIT }, { 0, UTIME_NOW } };
	struct stat st;
	int fd;

	put("tr", "");
	CHECK(utimensat(AT_FDCWD, P("tr"), far, 0) == 0);
	st = look("tr");
	CHECK(same_time(st.st_atim, far[0]) && same_time(st.st_mtim, far[1]));
	tap_end("times: before 1970 and after 2200, to the nanosecond");
	CHECK(utimensat(AT_FDCWD, P("tr"), now, 0) == 0);
	st = look("tr");
	CHECK(same_time(st.st_atim, far[0]) &&
	      llabs((long long)st.st_mtim.tv_sec - (long long)time(NULL)) < 30);
	tap_end("times: UTIME_NOW and UTIME_OMIT");
	CHECK(symlink("tr", P("trl")) == 0);
	CHECK(utimensat(AT_FDCWD, P("trl"), far, AT_SYMLINK_NOFOLLOW) == 0);
	CHECK(same_time(look("trl").st_mtim, far[1]) && !same_time(look("tr").st_mtim, far[1]));
	tap_end("times: of a symlink itself");
	fd = open(P("tr"), O_RDONLY);
	CHECK(unlink(P("tr")) == 0 && futimens(fd, far) == 0 && fstat(fd, &st) == 0);
	CHECK(same_time(st.st_mtim, far[1]));
	close(fd);
	tap_end("times: futimens on a file without a name");
	struct statx sx;

	put("tb", "");
	if (statx(AT_FDCWD, P("tb"), 0, STATX_BTIME, &sx) == 0 && (sx.stx_mask & STATX_BTIME)) {
		CHECK(llabs(sx.stx_btime.tv_sec - (long long)time(NULL)) < 30);
		tap_end("times: the time of birth is told");
	} else {
		tap_skip("times: the time of birth is told", "not supported here");
	}
}
/* ---- special files ---- */

static void test_special(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int a, b, s, c;
	char buf[4];

	CHECK(mkfifo(P("fifo"), 0644) == 0 && S_ISFIFO(look("fifo").st_mode));
	a = open(P("fifo"), O_RDONLY | O_NONBLOCK);
	b = open(P("fifo"), O_WRONLY | O_NONBLOCK);
	CHECK(a >= 0 && b >= 0 && write(b, "pipe", 4) == 4 && read(a, buf, 4) == 4);
	close(a);
	close(b);
	tap_end("mkfifo: a pipe with a name");
	if (chdir(base) < 0)
		die("chdir");
	snprintf(sa.sun_path, sizeof(sa.sun_path), "socket");
	s = socket(AF_UNIX, SOCK_STREAM, 0);
	c = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(s, (struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(s, 1) == 0);
	CHECK(connect(c, (struct sockaddr *)&sa, sizeof(sa)) == 0 &&
	      S_ISSOCK(look("socket").st_mode));
	close(s);
	close(c);
	if (chdir("/") < 0)
		die("chdir");
	tap_end("bind: a socket with a name");
	CHECK(mknod(P("node"), S_IFREG | 0640, 0) == 0 && S_ISREG(look("node").st_mode));
	tap_end("mknod: a regular file");
	if (mknod(P("chr"), S_IFCHR | 0600, makedev(1, 3)) < 0 && errno == EPERM) {
		tap_skip("mknod: devices", "needs root");
		return;
	}
	CHECK(look("chr").st_rdev == makedev(1, 3) && S_ISCHR(look("chr").st_mode));
	CHECK(mknod(P("blk"), S_IFBLK | 0600, makedev(259, 70000)) == 0);
	CHECK(look("blk").st_rdev == makedev(259, 70000) && S_ISBLK(look("blk").st_mode));
	tap_end("mknod: devices keep their numbers");
}
static void test_statvfs(void)
{
	struct statvfs v;
	struct stat st = look("");

	CHECK(statvfs(base, &v) == 0);
	CHECK_EQ(v.f_namemax, 255);
	CHECK(v.f_blocks > 0 && v.f_bfree <= v.f_blocks && v.f_bavail <= v.f_bfree &&
	      v.f_frsize >= 512);
	CHECK(v.f_files == 0 || v.f_ffree <= v.f_files);
	CHECK((v.f_bsize & (v.f_bsize - 1)) == 0 && (st.st_blksize & (st.st_blksize - 1)) == 0);
	tap_end("statvfs: makes sense");
}

static void test_identity(void)
{
	struct stat a, b;
	int fd = make("id", "", 0644);

	CHECK(fstat(fd, &a) == 0);
	close(fd);
	CHECK(rename(P("id"), P("id2")) == 0);
	b = look("id2");
	CHECK(a.st_ino == b.st_ino && a.st_dev == b.st_dev && b.st_dev == look("").st_dev);
	put("id", "");
	CHECK(look("id").st_ino != b.st_ino);
	tap_end("stat: st_ino and st_dev name a file for its life");
}
/* ---- users ---- */

static int try_sticky(void)
{
	if (unlink(P("tmp/theirs")) == 0 || errno != EPERM)
		return 1;
	if (rename(P("tmp/theirs"), P("tmp/mine")) == 0 || errno != EPERM)
		return 2;
	close(open(P("tmp/own"), O_CREAT | O_WRONLY, 0644));
	return unlink(P("tmp/own")) == 0 ? 0 : 3;
}

static int try_denied(void)
{
	if (open(P("priv/file"), O_RDONLY) >= 0 || errno != EACCES)
		return 1;
	if (open(P("ro-dir/new"), O_CREAT | O_WRONLY, 0644) >= 0 || errno != EACCES)
		return 2;
	if (open(P("ro-dir/file"), O_RDONLY) >= 0 || errno != EACCES)
		return 3;
	if (chmod(P("ro-dir"), 0777) == 0 || errno != EPERM)
		return 4;
	if (chown(P("ro-dir"), 1001, 1001) == 0 || errno != EPERM)
		return 5;
	if (truncate(P("ro-dir/readable"), 0) == 0 || errno != EACCES)
		return 6;
	if (utimensat(AT_FDCWD, P("ro-dir/readable"), NULL, 0) == 0 || errno != EACCES)
		return 7;
	if (access(P("ro-dir/readable"), W_OK) == 0 || access(P("ro-dir/readable"), R_OK) != 0)
		return 8;
	return 0;
}

static int try_write(void)
{
	int fd = open(P("suid"), O_WRONLY);

	return fd < 0 || pwrite(fd, "x", 1, 0) != 1 || close(fd) != 0;
}

static int try_truncate(void)
{
	return truncate(P("suid"), 1) != 0;
}

static int try_chgrp(void)
{
	return chown(P("suid"), (uid_t)-1, 1001) != 0;
}

static int try_exclusive_owner(void)
{
	int fd = open(P("tmp/owner"), O_CREAT | O_EXCL | O_WRONLY, 0600);
	struct stat st;

	return fd < 0 || fstat(fd, &st) < 0 || st.st_uid != 1002 || st.st_gid != 1003;
}

static void test_users(void)
{
	if (!others_may) {
		tap_skip("users: sticky, permissions, setuid",
			 "needs root and a mount that lets others in");
		return;
	}
	CHECK(mkdir(P("tmp"), 0777) == 0 && chmod(P("tmp"), 01777) == 0);
	put("tmp/theirs", "");
	CHECK(chown(P("tmp/theirs"), 1002, 1002) == 0);
	CHECK_EQ(as_user(1001, 1001, try_sticky), 0);
	tap_end("sticky directory: only the owner removes and renames");
	CHECK_EQ(as_user(1002, 1003, try_exclusive_owner), 0);
	tap_end("open: a new file belongs to its maker");
	CHECK(mkdir(P("priv"), 0700) == 0 && mkdir(P("ro-dir"), 0755) == 0);
	put("priv/file", "");
	close(make("ro-dir/file", "", 0600));
	close(make("ro-dir/readable", "", 0644));
	CHECK_EQ(as_user(1001, 1001, try_denied), 0);
	tap_end("permissions: EACCES and EPERM for others");
}

static void test_setid(void)
{
	if (!others_may) {
		tap_skip("users: setuid and setgid", "needs root and a mount that lets others in");
		return;
	}
	int fd = make("suid", "x", 0777);

	CHECK(fchown(fd, 1001, 1001) == 0 && fchmod(fd, 06777) == 0 && mode_of("suid") == 06777);
	CHECK_EQ(as_user(1001, 1001, try_write), 0);
	CHECK_EQ(mode_of("suid"), 0777);
	tap_end("setuid and setgid are cleared when an ordinary user writes");
	CHECK(fchmod(fd, 06777) == 0);
	CHECK_EQ(as_user(1001, 1001, try_truncate), 0);
	CHECK_EQ(mode_of("suid"), 0777);
	tap_end("setuid and setgid are cleared when an ordinary user truncates");
	CHECK(fchmod(fd, 06777) == 0);
	CHECK_EQ(as_user(1001, 1001, try_chgrp), 0);
	CHECK_EQ(mode_of("suid"), 0777);
	tap_end("setuid and setgid are cleared by chown");
	CHECK(fchmod(fd, 06777) == 0 && pwrite(fd, "r", 1, 0) == 1);
	CHECK_EQ(mode_of("suid"), 06777);
	tap_end("setuid and setgid stay when root writes");
	CHECK(fchmod(fd, 02767) == 0);
	CHECK_EQ(as_user(1001, 1001, try_write), 0);
	CHECK_EQ(mode_of("suid"), 02767);
	close(fd);
	tap_end("setgid without group execution stays");
}

static void test_setgid_dir(void)
{
	if (geteuid() != 0) {
		tap_skip("setgid directory: group is inherited", "needs root");
		return;
	}
	CHECK(mkdir(P("sg"), 0755) == 0 && chown(P("sg"), 0, 1003) == 0 &&
	      chmod(P("sg"), 02775) == 0);
	put("sg/file", "");
	CHECK(mkdir(P("sg/dir"), 0755) == 0 && symlink("x", P("sg/link")) == 0);
	CHECK_EQ(look("sg/file").st_gid, 1003);
	CHECK_EQ(look("sg/dir").st_gid, 1003);
	CHECK_EQ(look("sg/link").st_gid, 1003);
	CHECK_EQ(mode_of("sg/dir"), 02755);
	CHECK_EQ(mode_of("sg/file"), 0644);
	tap_end("setgid directory: group is inherited, by directories with the bit");
}

static int can_look(void)
{
	struct stat st;

	return stat(base, &st) != 0;
}

static void test_chmod(void)
{
	put("cm", "");
	for (mode_t m = 0; m < 07777; m += 0111)
		if (chmod(P("cm"), m) < 0 || mode_of("cm") != m)
			tap_fail("mode %o became %o", m, mode_of("cm"));
	CHECK(S_ISREG(look("cm").st_mode));
	CHECK(symlink("cm", P("cml")) == 0 && chmod(P("cml"), 0600) == 0 && mode_of("cm") == 0600);
	tap_end("chmod: every bit, through a symlink to its target");
	if (geteuid() != 0) {
		tap_skip("chown: numbers", "needs root");
		return;
	}
	CHECK(chown(P("cm"), 4000000000u, 3000000000u) == 0);
	CHECK(look("cm").st_uid == 4000000000u && look("cm").st_gid == 3000000000u);
	CHECK(chown(P("cm"), (uid_t)-1, 7) == 0 && look("cm").st_uid == 4000000000u &&
	      look("cm").st_gid == 7);
	CHECK(lchown(P("cml"), 5, 6) == 0 && look("cml").st_uid == 5 && look("cm").st_gid == 7);
	tap_end("chown: 32-bit numbers, one of both, a symlink itself");
}
int main(int argc, char **argv)
{
	static void (*const tests[])(void) = {
		test_open,        test_append,     test_tmpfile,     test_umask,    test_unlinked,
		test_removed_dir, test_rmdir,      test_links,       test_symlinks, test_rename,
		test_rename2,     test_xdev,       test_names,       test_readdir,  test_seekdir,
		test_times_data,  test_times_meta, test_times_range, test_special,  test_statvfs,
		test_identity,    test_chmod,      test_users,       test_setid,    test_setgid_dir,
	};

	if (argc != 2) {
		fprintf(stderr, "usage: posixcheck DIR\n");
		return 64;
	}
	set_up("posixcheck", argv[1]);
	others_may = geteuid() == 0 && as_user(1001, 1001, can_look) == 0;
	for (size_t i = 0; i < ARRAY_SIZE(tests); i++)
		tests[i]();
	return tap_done();
}
