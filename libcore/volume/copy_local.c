/* SPDX-License-Identifier: Apache-2.0 */
/* copy_local.c: the file systems of this machine as an end of a copy. Everything is relative to open directories. */
#include "base/log.h"
#include "volume/copy_side.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DIRECT_MIN (4 * KS_MIB) /* at a time; only large files are read so */

static int fail(int r)
{
	return r < 0 ? -errno : 0;
}

static int local_stat(struct ks_cdir *d, const char *name, bool follow, struct stat *st)
{
	return fail(fstatat(d->fd, name, st, follow ? 0 : AT_SYMLINK_NOFOLLOW));
}

/* An operand's directory that may be entered but not listed will do for a name that is known. */
static int local_opendir(struct ks_cdir *d, const char *name, bool follow, struct ks_cdir *out)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);
	int at = d ? d->fd : AT_FDCWD;

	out->fd = openat(at, name, flags);
	if (out->fd < 0 && errno == EACCES && !d)
		out->fd = openat(at, name, flags | O_PATH);
	return fail(out->fd);
}

static void local_closedir(struct ks_cdir *d)
{
	ks_closep(&d->fd);
}

/* What the directory itself says of an entry. */
static const struct stat *kind_of(const struct dirent *e, struct stat *st)
{
	*st = (struct stat){ .st_mode = DTTOIF(e->d_type), .st_ino = e->d_ino };
	return e->d_type == DT_UNKNOWN ? NULL : st;
}

static int local_list(struct ks_cdir *d, ks_list_fn *fn, void *arg)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	struct stat st;
	int r = 0;

	if (!dir) {
		r = -errno;
		ks_closep(&fd);
		return r;
	}
	while (r == 0) {
		errno = 0;
		e = readdir(dir);
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(arg, e->d_name, kind_of(e, &st));
	}
	closedir(dir);
	return r;
}

static int local_readlink(struct ks_cdir *d, const char *name, struct ks_buf *out)
{
	char text[4097];
	ssize_t n = readlinkat(d->fd, name, text, sizeof(text));

	return n < 0 ? -errno : ks_buf_append(out, text, (size_t)n);
}

/* ---- reading ---- */

/* Somebody has a lease (fcntl(2)), whose end is waited for. Pipes have none, but what the name stands for may be another thing by now. */
static int open_leased(struct ks_cdir *d, const char *name, int flags)
{
	KS_AUTO(ks_closep) int at = openat(d->fd, name, flags | O_PATH);
	char path[32];
	struct stat st;

	if (at < 0 || fstat(at, &st) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", at);
	return open(path, (flags & ~O_NOFOLLOW) | (S_ISREG(st.st_mode) ? 0 : O_NONBLOCK));
}

/* Where a file was found somebody may have put a pipe, whose open would wait for a writer. */
static int open_file(struct ks_cdir *d, const char *name, int flags, struct ks_cfile *f,
		     struct stat *st)
{
	f->fd = openat(d->fd, name, flags | O_NONBLOCK);
	if (f->fd < 0 && errno == EWOULDBLOCK)
		f->fd = open_leased(d, name, flags);
	if (f->fd < 0 || fstat(f->fd, st) < 0)
		return -errno;
	if (S_ISDIR(st->st_mode))
		return -EISDIR;
	if (!S_ISREG(st->st_mode))
		return ks_fail(-ESTALE, "it is not a file any more");
	/* Reading may wait. */
	return fail(fcntl(f->fd, F_SETFL, 0));
}

static int local_open(struct ks_cdir *d, const char *name, bool follow, struct ks_cfile *f,
		      struct stat *st)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
	struct stat own;

	if (!f->special)
		return open_file(d, name, flags, f, st ? st : &own);
	f->fd = openat(d->fd, name, flags);
	if (f->fd < 0 || (st && fstat(f->fd, st) < 0))
		return -errno;
	return 0;
}

/* cachestat(2), Linux 6.5; the C library has no name for it yet. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

/* Is all of that in the page cache? 1, 0; -1: who knows. */
static int is_cached(int fd, uint64_t off, size_t n)
{
	static _Atomic bool unknown;
	uint64_t range[2] = { off, n };
	uint64_t pages[5] = { 0 }; /* the first: those in the cache */

	if (unknown)
		return -1;
	if (syscall(SYS_cachestat, fd, range, pages, 0) == 0)
		return pages[0] * (uint64_t)sysconf(_SC_PAGESIZE) >= n;
	unknown = errno == ENOSYS || errno == EPERM;
	return -1;
}

/*
 * What the page cache has comes from there; the rest of a large file past it, at several times the rate: the kernel reads ahead in small pieces and copies each. It is asked first:
 * a read that may not wait (RWF_NOWAIT) begins reading ahead, and then everything is read twice. 0: to be read as usual, whatever the reason.
 */
static ssize_t read_direct(struct ks_cfile *f, uint64_t off, void *p, size_t n)
{
	struct iovec iov = { p, n };
	char path[32];
	ssize_t got;

	if (f->stream || n < DIRECT_MIN || off % 4096 != 0 || n % 4096 != 0 ||
	    (uintptr_t)p % 4096 != 0 || f->direct < 0)
		return 0;
	if (is_cached(f->fd, off, n) != 0) {
		got = preadv2(f->fd, &iov, 1, (off_t)off, RWF_NOWAIT);
		if (got == (ssize_t)n)
			return got;
	}
	if (!f->direct) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
		f->direct = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	}
	if (f->direct < 0)
		return 0;
	got = pread(f->direct, p, n, (off_t)off);
	if (got < 0 && errno != EINTR) {
		close(f->direct);
		f->direct = -1; /* not asked again for this file */
	}
	return ks_max(got, (ssize_t)0);
}

static ssize_t local_read(struct ks_cfile *f, uint64_t off, void *p, size_t n)
{
	ssize_t got = read_direct(f, off, p, n);

	if (got > 0)
		return got;
	do {
		got = f->stream ? read(f->fd, p, n) : pread(f->fd, p, n, (off_t)off);
		if (got < 0 && errno == ESPIPE)
			got = read(f->fd, p, n);
	} while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

static int local_seek(struct ks_cfile *f, uint64_t off, bool hole, uint64_t *out)
{
	off_t at = lseek(f->fd, (off_t)off, hole ? SEEK_HOLE : SEEK_DATA);

	if (at < 0)
		return -errno;
	*out = (uint64_t)at;
	return 0;
}

/* ---- writing ---- */

/* Names of what has none are given through /proc, where the other way is not allowed. */
static bool can_name(void)
{
	static _Atomic int can = -1;

	if (can < 0)
		can = access("/proc/self/fd", X_OK) == 0;
	return can;
}

/* -EOPNOTSUPP: not here. */
static int create_nameless(struct ks_cdir *d, uint32_t mode, struct ks_cfile *f, struct stat *st)
{
	if (!f->brief || __atomic_load_n(&d->no_nameless, __ATOMIC_RELAXED) || !can_name())
		return -EOPNOTSUPP;
	f->fd = openat(d->fd, ".", O_WRONLY | O_TMPFILE | O_CLOEXEC, mode);
	if (f->fd >= 0 && fstat(f->fd, st) == 0) {
		f->nameless = true;
		return 0;
	}
	/* What is a reason for all files is told where one is made with a name. */
	__atomic_store_n(&d->no_nameless, true, __ATOMIC_RELAXED);
	ks_closep(&f->fd);
	return -EOPNOTSUPP;
}

/*
 * A temporary name that a killed copy left is told by its lock: the kernel drops it with the process. Between the making and the locking somebody may have
 * tidied it away.
 */
static int create_tmp(struct ks_cdir *d, uint32_t mode, struct ks_cfile *f, struct stat *st)
{
	for (int i = 0; i < 100; i++) {
		ks_copy_tmp_name(f->tmp);
		f->fd = openat(d->fd, f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			       mode);
		if (f->fd < 0 && errno != EEXIST)
			break;
		if (f->fd < 0)
			continue;
		/* A file system without such locks has no tidying either. */
		if (flock(f->fd, LOCK_EX) < 0 || fstat(f->fd, st) < 0 || st->st_nlink > 0)
			return 0;
		ks_closep(&f->fd);
	}
	f->tmp[0] = '\0';
	return -errno;
}

/* As what we make. Asked once: a process does not change who it is here. */
static bool is_ours(const struct stat *st)
{
	static _Atomic int64_t uid = -1;
	static _Atomic int64_t gid = -1;

	if (uid < 0) {
		gid = getegid();
		uid = geteuid();
	}
	return st->st_uid == uid && st->st_gid == gid;
}

/* A set call each that can be saved. */
static void note_made(struct ks_cdir *d, uint32_t mode, const struct stat *st, struct ks_cfile *f)
{
	if (!is_ours(st))
		return;
	f->has |= KS_COPY_OWNER;
	if ((st->st_mode & 07777) == mode && ks_cdir_passes_none(d))
		f->has |= KS_COPY_MODE;
}

static int local_create(struct ks_cdir *d, const char *name, uint32_t mode, bool in_place,
			const struct stat *own, struct ks_cfile *f)
{
	struct stat st = { 0 };
	int r;

	f->dir = d;
	if (!in_place) {
		bool ours = !own || is_ours(own);

		/* Nobody else may open it before it has its owner. */
		mode_t first = ours ? mode & 0777 : mode & 0700;

		r = create_nameless(d, first, f, &st);
		if (r == -EOPNOTSUPP)
			r = create_tmp(d, first, f, &st);
		if (r == 0 && ours)
			note_made(d, mode, &st, f);
		return r;
	}
	f->fd = openat(d->fd, name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	return fail(f->fd);
}

/*
 * Past the page cache, which could only be in the way: a file of that size is not in it any more when it is read. Its size is set first: within it, direct
 * writes of several threads need not wait for each other.
 */
static void local_expect(struct ks_cfile *f, uint64_t size)
{
	int fd;

	if (!f->tmp[0] || ftruncate(f->fd, (off_t)size) < 0)
		return; /* never nameless: it is large */
	fd = openat(f->dir->fd, f->tmp, O_WRONLY | O_DIRECT | O_CLOEXEC | O_NOFOLLOW);
	if (fd > 0)
		f->direct = fd;
}

/* True: all of it was written. What goes wrong comes again where it is written as usual. */
static bool write_direct(const struct ks_cfile *f, uint64_t off, const void *p, size_t n)
{
	return f->direct > 0 && off % 4096 == 0 && n % 4096 == 0 && (uintptr_t)p % 4096 == 0 &&
	       pwrite(f->direct, p, n, (off_t)off) == (ssize_t)n;
}

static int local_write(struct ks_cfile *f, uint64_t off, const void *p, size_t n)
{
	const char *at = p;

	if (write_direct(f, off, p, n))
		return 0;
	while (n > 0) {
		ssize_t put = f->stream ? write(f->fd, at, n) : pwrite(f->fd, at, n, (off_t)off);

		if (put < 0 && errno == ESPIPE)
			put = write(f->fd, at, n);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		at += put;
		off += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

static int local_truncate(struct ks_cfile *f, uint64_t size)
{
	return f->tmp[0] || f->nameless ? fail(ftruncate(f->fd, (off_t)size)) : 0;
}

static int local_flush(struct ks_cfile *f)
{
	(void)f; /* durable with the whole, by sync */
	return 0;
}

/* The first name of what has none. */
static int link_nameless(const struct ks_cfile *f, const char *name)
{
	static _Atomic bool refused; /* it takes a privilege, before Linux 6.10 */
	char path[32];

	if (!refused) {
		if (linkat(f->fd, "", f->dir->fd, name, AT_EMPTY_PATH) == 0)
			return 0;
		if (errno != ENOENT)
			return -errno;
		refused = true;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", f->fd);
	return fail(linkat(AT_FDCWD, path, f->dir->fd, name, AT_SYMLINK_FOLLOW));
}

static int publish_nameless(struct ks_cfile *f, const char *name)
{
	int r = link_nameless(f, name);

	/* Somebody was faster: only a name takes the place of another. */
	for (int i = 0; r == -EEXIST && !f->tmp[0] && i < 100; i++) {
		KS_IGNORE(flock(f->fd, LOCK_EX) < 0); /* as in create_tmp() */
		ks_copy_tmp_name(f->tmp);
		r = link_nameless(f, f->tmp);
		if (r < 0)
			f->tmp[0] = '\0';
	}
	return r;
}

static int local_publish(struct ks_cfile *f, const char *name, const struct ks_copy_set *set)
{
	(void)set; /* done before */
	if (f->nameless) {
		int r = publish_nameless(f, name);

		if (r < 0)
			return r;
	}
	if (!f->tmp[0])
		return 0;
	if (renameat(f->dir->fd, f->tmp, f->dir->fd, name) < 0)
		return -errno;
	f->tmp[0] = '\0';
	return 0;
}

static void local_close(struct ks_cfile *f)
{
	if (f->tmp[0])
		KS_IGNORE(unlinkat(f->dir->fd, f->tmp, 0) < 0); /* nothing better to do with it */
	if (f->direct > 0)
		close(f->direct);
	f->direct = 0;
	ks_closep(&f->fd);
}

/* ---- other kinds, and names ---- */

static int local_mkdir(struct ks_cdir *d, const char *name, uint32_t mode, const struct stat *own)
{
	(void)own;
	/* Filled before its last mode is set: its owner may do that. */
	return fail(mkdirat(d->fd, name, (mode & 07777) | 0700));
}

/* Makes something under a temporary name and lets it take the place of what has @name. */
static int replace(struct ks_cdir *d, const char *name,
		   int (*make)(struct ks_cdir *d, const char *name, const void *arg),
		   const void *arg)
{
	char tmp[64];
	int r = make(d, name, arg);

	if (r != -EEXIST)
		return r;
	ks_copy_tmp_name(tmp);
	r = make(d, tmp, arg);
	if (r < 0)
		return r;
	r = fail(renameat(d->fd, tmp, d->fd, name));
	/* Also after a success: rename(2) of two names of one file does nothing. */
	KS_IGNORE(unlinkat(d->fd, tmp, 0) < 0);
	return r;
}

struct special {
	const struct stat *st;
	const char *target;
};

static int make_special(struct ks_cdir *d, const char *name, const void *arg)
{
	const struct special *s = arg;

	if (S_ISLNK(s->st->st_mode))
		return fail(symlinkat(s->target, d->fd, name));
	return fail(mknodat(d->fd, name, s->st->st_mode & (S_IFMT | 0777), s->st->st_rdev));
}

static int local_special(struct ks_cdir *d, const char *name, const struct ks_copy_set *set,
			 const char *target, ks_ino_t *ino)
{
	struct special s = { &set->st, target };

	*ino = 0; /* of a volume only */
	return replace(d, name, make_special, &s);
}

static int make_link(struct ks_cdir *d, const char *name, const void *path)
{
	return fail(linkat(AT_FDCWD, path, d->fd, name, 0));
}

static int local_link(struct ks_cdir *d, const char *name, ks_ino_t ino, const char *path)
{
	(void)ino;
	return replace(d, name, make_link, path);
}

static int local_unlink(struct ks_cdir *d, const char *name)
{
	return fail(unlinkat(d->fd, name, 0));
}

static int local_rmdir(struct ks_cdir *d, const char *name)
{
	return fail(unlinkat(d->fd, name, AT_REMOVEDIR));
}

/* Of a dead process? A file is locked by a living one. Other kinds have such a name for a moment only: the number in it has to do. */
static bool is_left(struct ks_cdir *d, const char *name, const struct stat *st)
{
	KS_AUTO(ks_closep) int fd = -1;
	long pid;

	if (S_ISREG(st->st_mode)) {
		fd = openat(d->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		return fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0;
	}
	pid = strtol(name + sizeof(KS_COPY_TMP) - 1, NULL, 10);
	return pid > 0 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
}

static int tidy_one(void *arg, const char *name, const struct stat *unused)
{
	struct ks_cdir *d = arg;
	struct stat st;

	(void)unused;
	if (strncmp(name, KS_COPY_TMP, sizeof(KS_COPY_TMP) - 1) == 0 &&
	    fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode) &&
	    is_left(d, name, &st))
		KS_IGNORE(unlinkat(d->fd, name, 0) < 0); /* the next run tries again */
	return 0;
}

static void local_tidy(struct ks_cdir *d)
{
	KS_IGNORE(local_list(d, tidy_one, d) < 0); /* likewise */
}

/* ---- attributes ---- */

/* By its descriptor: of a directory, or of what is open. -1: by name. */
static int fd_of(const struct ks_node *n)
{
	if (n->f && n->f->fd >= 0)
		return n->f->fd;
	return n->name ? -1 : n->dir->fd;
}

static int chown_node(const struct ks_node *n, const struct stat *st)
{
	int fd = fd_of(n);

	return fd >= 0 ? fchown(fd, st->st_uid, st->st_gid)
		       : fchownat(n->dir->fd, n->name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int local_setattr(const struct ks_node *n, const struct stat *st, unsigned int what)
{
	uint32_t mode = st->st_mode & 07777;
	struct timespec ts[2] = { st->st_atim, st->st_mtim };
	int fd = fd_of(n);

	if (n->f)
		what &= ~n->f->has;
	if ((what & KS_COPY_OWNER) && chown_node(n, st) < 0)
		return -errno;
	/* chown(2) clears the setuid bits, so the mode comes second. Symlinks have none. */
	if ((what & KS_COPY_MODE) && !S_ISLNK(st->st_mode) &&
	    (fd >= 0 ? fchmod(fd, mode) : fchmodat(n->dir->fd, n->name, mode, 0)) < 0)
		return -errno;
	if ((what & KS_COPY_TIMES) &&
	    (fd >= 0 ? futimens(fd, ts) : utimensat(n->dir->fd, n->name, ts, AT_SYMLINK_NOFOLLOW)) <
		    0)
		return -errno;
	return 0;
}

/* The xattr calls know no directories: through /proc, which does not follow the last name. */
static void proc_path(const struct ks_node *n, char out[320])
{
	if (n->name)
		snprintf(out, 320, "/proc/self/fd/%d/%.255s", n->dir->fd, n->name);
	else
		snprintf(out, 320, "/proc/self/fd/%d/.", n->dir->fd);
}

static ssize_t list_names(const struct ks_node *n, char *p, size_t size)
{
	char path[320];

	if (n->f && n->f->fd >= 0)
		return flistxattr(n->f->fd, p, size);
	proc_path(n, path);
	return llistxattr(path, p, size);
}

static int local_listxattr(const struct ks_node *n, struct ks_buf *out)
{
	ssize_t size = list_names(n, NULL, 0);
	int r;

	if (size <= 0)
		return size < 0 ? -errno : 0;
	r = ks_buf_reserve(out, (size_t)size + 4096);
	if (r < 0)
		return r;
	size = list_names(n, out->p + out->n, (size_t)size + 4096);
	if (size < 0)
		return -errno;
	out->n += (size_t)size;
	return 0;
}

static int local_getxattr(const struct ks_node *n, const char *name, struct ks_buf *out)
{
	bool open = n->f && n->f->fd >= 0;
	char path[320];
	ssize_t size;
	int r = ks_buf_reserve(out, KS_XATTR_VALUE_MAX);

	if (r < 0)
		return r;
	if (!open)
		proc_path(n, path);
	size = open ? fgetxattr(n->f->fd, name, out->p + out->n, KS_XATTR_VALUE_MAX)
		    : lgetxattr(path, name, out->p + out->n, KS_XATTR_VALUE_MAX);
	if (size < 0)
		return -errno;
	out->n += (size_t)size;
	return 0;
}

static int local_setxattr(const struct ks_node *n, const char *name, const void *p, size_t size)
{
	char path[320];

	if (n->f && n->f->fd >= 0)
		return fail(fsetxattr(n->f->fd, name, p, size, 0));
	proc_path(n, path);
	return fail(lsetxattr(path, name, p, size, 0));
}

/* The kernel tells each descriptor of a failed write once. */
static int local_sync(struct ks_side *s, struct ks_cdir *any)
{
	(void)s;
	if (syncfs(any->fd) == 0)
		return 0;
	if (errno != EBADF)
		return -errno;
	sync(); /* one that may not be read; see local_opendir() */
	return 0;
}

const struct ks_side_ops ks_side_local = {
	.stat = local_stat,
	.opendir = local_opendir,
	.closedir = local_closedir,
	.list = local_list,
	.readlink = local_readlink,
	.open = local_open,
	.read = local_read,
	.seek = local_seek,
	.create = local_create,
	.expect = local_expect,
	.write = local_write,
	.truncate = local_truncate,
	.flush = local_flush,
	.publish = local_publish,
	.close = local_close,
	.mkdir = local_mkdir,
	.special = local_special,
	.link = local_link,
	.unlink = local_unlink,
	.rmdir = local_rmdir,
	.setattr = local_setattr,
	.listxattr = local_listxattr,
	.getxattr = local_getxattr,
	.setxattr = local_setxattr,
	.tidy = local_tidy,
	.sync = local_sync,
	.sync_early = local_sync,
};
