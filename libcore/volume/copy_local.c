/* SPDX-License-Identifier: Apache-2.0 */
/* copy_local.c: the file systems of this machine as an end of a copy. Everything is relative to open directories. */
#include "volume/copy_side.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static int fail(int r)
{
	return r < 0 ? -errno : 0;
}

static int local_stat(struct ks_cdir *d, const char *name, bool follow, struct stat *st)
{
	return fail(fstatat(d->fd, name, st, follow ? 0 : AT_SYMLINK_NOFOLLOW));
}

static int local_opendir(struct ks_cdir *d, const char *name, bool follow, struct ks_cdir *out)
{
	int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW);

	out->fd = openat(d ? d->fd : AT_FDCWD, name, flags);
	return fail(out->fd);
}

static void local_closedir(struct ks_cdir *d)
{
	ks_closep(&d->fd);
}

static int local_list(struct ks_cdir *d, int (*fn)(void *arg, const char *name), void *arg)
{
	int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int r = 0;

	if (!dir) {
		r = -errno;
		ks_closep(&fd);
		return r;
	}
	while (r == 0) {
		errno = 0;
		e = readdir(dir); // NOLINT(concurrency-mt-unsafe): the stream is this call's own
		if (!e) {
			r = -errno;
			break;
		}
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(arg, e->d_name);
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

static int local_open(struct ks_cdir *d, const char *name, bool follow, struct ks_cfile *f)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);

	f->fd = openat(d->fd, name, flags);
	if (f->fd < 0)
		return -errno;
	KS_IGNORE(posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL)); /* a hint */
	return 0;
}

static ssize_t local_read(struct ks_cfile *f, uint64_t off, void *p, size_t n)
{
	ssize_t got;

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

static int local_create(struct ks_cdir *d, const char *name, uint32_t mode, bool in_place,
			const struct stat *own, struct ks_cfile *f)
{
	(void)own;
	f->dir = d;
	if (in_place) {
		f->fd = openat(d->fd, name, O_WRONLY | O_CLOEXEC | O_NOCTTY);
		return fail(f->fd);
	}
	for (int i = 0; i < 100; i++) {
		ks_copy_tmp_name(f->tmp);
		f->fd = openat(d->fd, f->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
			       mode & 0700);
		if (f->fd >= 0 || errno != EEXIST)
			break;
	}
	if (f->fd < 0)
		f->tmp[0] = '\0';
	/* The umask was applied by the caller, and must not be a second time. */
	return f->fd < 0 ? -errno : fail(fchmod(f->fd, mode & 0777));
}

static int local_write(struct ks_cfile *f, uint64_t off, const void *p, size_t n)
{
	const char *at = p;

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
	return f->tmp[0] ? fail(ftruncate(f->fd, (off_t)size)) : 0;
}

static int local_flush(struct ks_cfile *f)
{
	(void)f; /* durable with the whole, by sync */
	return 0;
}

static int local_publish(struct ks_cfile *f, const char *name, bool exists)
{
	(void)exists;
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
	ks_closep(&f->fd);
}

/* ---- other kinds, and names ---- */

static int local_mkdir(struct ks_cdir *d, const char *name, uint32_t mode, const struct stat *own)
{
	(void)own;
	/* Filled before its last mode is set: its owner may do that. */
	return fail(mkdirat(d->fd, name, (mode & 07777) | 0700));
}

static int local_special(struct ks_cdir *d, const char *name, const struct stat *like,
			 uint32_t mode, const char *target, const struct stat *own)
{
	(void)own;
	if (S_ISLNK(like->st_mode))
		return fail(symlinkat(target, d->fd, name));
	return fail(mknodat(d->fd, name, (like->st_mode & S_IFMT) | mode, like->st_rdev));
}

static int local_link(struct ks_cdir *d, const char *name, ks_ino_t ino, const char *path)
{
	(void)ino;
	return fail(linkat(AT_FDCWD, path, d->fd, name, 0));
}

static int local_rename(struct ks_cdir *d, const char *from, const char *to)
{
	return fail(renameat(d->fd, from, d->fd, to));
}

static int local_unlink(struct ks_cdir *d, const char *name)
{
	return fail(unlinkat(d->fd, name, 0));
}

/* ---- attributes ---- */

static int local_setattr(const struct ks_node *n, const struct stat *st, unsigned int what)
{
	const char *name = n->name ? n->name : "";
	int empty = n->name ? 0 : AT_EMPTY_PATH;
	uint32_t mode = st->st_mode & 07777;
	struct timespec ts[2] = { st->st_atim, st->st_mtim };

	if ((what & KS_COPY_OWNER) &&
	    fchownat(n->dir->fd, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW | empty) < 0)
		return -errno;
	/* chown(2) clears the setuid bits, so the mode comes second. Symlinks have none. */
	if ((what & KS_COPY_MODE) && !S_ISLNK(st->st_mode)) {
		int r = n->name ? fchmodat(n->dir->fd, name, mode, 0) : fchmod(n->dir->fd, mode);

		if (r < 0)
			return -errno;
	}
	if (what & KS_COPY_TIMES)
		return n->name ? fail(utimensat(n->dir->fd, name, ts, AT_SYMLINK_NOFOLLOW))
			       : fail(futimens(n->dir->fd, ts));
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

static int local_listxattr(const struct ks_node *n, struct ks_buf *out)
{
	char path[320];
	ssize_t size;
	int r;

	proc_path(n, path);
	size = llistxattr(path, NULL, 0);
	if (size <= 0)
		return size < 0 ? -errno : 0;
	r = ks_buf_reserve(out, (size_t)size + 4096);
	if (r < 0)
		return r;
	size = llistxattr(path, out->p + out->n, (size_t)size + 4096);
	if (size < 0)
		return -errno;
	out->n += (size_t)size;
	return 0;
}

static int local_getxattr(const struct ks_node *n, const char *name, struct ks_buf *out)
{
	char path[320];
	ssize_t size;
	int r = ks_buf_reserve(out, KS_XATTR_VALUE_MAX);

	if (r < 0)
		return r;
	proc_path(n, path);
	size = lgetxattr(path, name, out->p + out->n, KS_XATTR_VALUE_MAX);
	if (size < 0)
		return -errno;
	out->n += (size_t)size;
	return 0;
}

static int local_setxattr(const struct ks_node *n, const char *name, const void *p, size_t size)
{
	char path[320];

	proc_path(n, path);
	return fail(lsetxattr(path, name, p, size, 0));
}

static int local_sync(struct ks_side *s, struct ks_cdir *any)
{
	(void)s;
	return fail(syncfs(any->fd));
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
	.write = local_write,
	.truncate = local_truncate,
	.flush = local_flush,
	.publish = local_publish,
	.close = local_close,
	.mkdir = local_mkdir,
	.special = local_special,
	.link = local_link,
	.rename = local_rename,
	.unlink = local_unlink,
	.setattr = local_setattr,
	.listxattr = local_listxattr,
	.getxattr = local_getxattr,
	.setxattr = local_setxattr,
	.sync = local_sync,
};
