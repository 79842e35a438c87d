/* SPDX-License-Identifier: Apache-2.0 */
/* bench_place.c: a directory, a volume without a mount, a store: the three places a benchmark runs in. */
#include "volume/bench_place.h"
#include "base/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a directory ---- */

static int dir_begin(struct ks_bench_at *at)
{
	KS_AUTO(ks_freep) char *path = ks_asprintf("%s/%s", at->place->dir, at->name);

	at->fd = -1;
	at->dir_fd = -1;
	if (!path)
		return -ENOMEM;
	if (mkdir(path, 0700) < 0)
		return -errno;
	at->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return at->dir_fd < 0 ? -errno : 0;
}

static int dir_create(struct ks_bench_at *at, const char *file)
{
	at->fd = openat(at->dir_fd, file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return at->fd < 0 ? -errno : 0;
}

static int dir_open(struct ks_bench_at *at, const char *file)
{
	at->fd = openat(at->dir_fd, file, O_RDONLY | O_CLOEXEC);
	if (at->fd < 0)
		return -errno;
	/* The kernel's cache is not what is measured. */
	KS_IGNORE(posix_fadvise(at->fd, 0, 0, POSIX_FADV_DONTNEED) != 0);
	return 0;
}

static ssize_t dir_write(struct ks_bench_at *at, uint64_t off, const void *p, size_t n)
{
	ssize_t r = pwrite(at->fd, p, n, (off_t)off);

	return r < 0 ? -errno : r;
}

static ssize_t dir_read(struct ks_bench_at *at, uint64_t off, void *p, size_t n)
{
	ssize_t r = pread(at->fd, p, n, (off_t)off);

	return r < 0 ? -errno : r;
}

static int dir_close(struct ks_bench_at *at, bool written)
{
	int fd = at->fd;

	(void)written;
	at->fd = -1;
	return fd >= 0 && close(fd) < 0 ? -errno : 0;
}

static int dir_stat(struct ks_bench_at *at, const char *file, uint64_t *size)
{
	struct stat st;

	if (fstatat(at->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	*size = (uint64_t)st.st_size;
	return 0;
}

#define TRASH_MAX KS_MIB /* smaller ones may lie there until they expire */

static int dir_remove(struct ks_bench_at *at, const char *file, uint64_t size, uint64_t io)
{
	int fd = -1;

	(void)io;
	/* The directory may be a mount with a trash, which has no use for this. */
	if (size > TRASH_MAX)
		fd = openat(at->dir_fd, file, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		close(fd);
	return unlinkat(at->dir_fd, file, 0) < 0 && errno != ENOENT ? -errno : 0;
}

static int dir_end(struct ks_bench_at *at)
{
	KS_AUTO(ks_freep) char *path = ks_asprintf("%s/%s", at->place->dir, at->name);

	ks_closep(&at->dir_fd);
	if (!path)
		return -ENOMEM;
	return rmdir(path) < 0 ? -errno : 0;
}

const struct ks_bench_ops ks_bench_dir = {
	.begin = dir_begin,
	.create = dir_create,
	.open = dir_open,
	.write = dir_write,
	.read = dir_read,
	.close = dir_close,
	.stat = dir_stat,
	.remove = dir_remove,
	.end = dir_end,
};

/* ---- a volume without a mount ---- */

static struct ks_vfs *vfs_of(struct ks_bench_at *at)
{
	return at->place->volume->vfs;
}

static int volume_begin(struct ks_bench_at *at)
{
	struct ks_attr a;
	int r;

	at->ctx = (struct ks_ctx){ .cred = { .uid = geteuid(), .gid = getegid() } };
	r = ks_vfs_mkdir(vfs_of(at), &at->ctx, ks_vfs_root(vfs_of(at)), at->name, 0700, &a);
	at->dir = a.ino;
	return r;
}

static int volume_create(struct ks_bench_at *at, const char *file)
{
	struct ks_open_how how;
	struct ks_attr a;

	return ks_vfs_create(vfs_of(at), &at->ctx, at->dir, file, 0600, O_WRONLY | O_EXCL, &a,
			     &at->fh, &how);
}

static int volume_open(struct ks_bench_at *at, const char *file)
{
	struct ks_open_how how;
	struct ks_attr a;
	int r = ks_vfs_lookup(vfs_of(at), &at->ctx, at->dir, file, &a);

	return r < 0 ? r : ks_vfs_open(vfs_of(at), &at->ctx, a.ino, O_RDONLY, &at->fh, &how);
}

static ssize_t volume_write(struct ks_bench_at *at, uint64_t off, const void *p, size_t n)
{
	return ks_vfs_write(at->fh, &at->ctx, off, p, n);
}

static ssize_t volume_read(struct ks_bench_at *at, uint64_t off, void *p, size_t n)
{
	return ks_vfs_read(at->fh, &at->ctx, off, p, n);
}

static int volume_close(struct ks_bench_at *at, bool written)
{
	struct ks_fh *fh = at->fh;
	int r = 0;

	at->fh = NULL;
	if (fh && written)
		r = ks_vfs_flush(fh, &at->ctx);
	if (fh)
		ks_vfs_release(fh);
	return r;
}

static int volume_stat(struct ks_bench_at *at, const char *file, uint64_t *size)
{
	struct ks_attr a;
	int r = ks_vfs_lookup(vfs_of(at), &at->ctx, at->dir, file, &a);

	*size = r == 0 ? a.size : 0;
	return r;
}

static int volume_remove(struct ks_bench_at *at, const char *file, uint64_t size, uint64_t io)
{
	int r = ks_vfs_unlink(vfs_of(at), &at->ctx, at->dir, file);

	(void)size;
	(void)io;
	return r == -ENOENT ? 0 : r;
}

static int volume_end(struct ks_bench_at *at)
{
	return ks_vfs_rmdir(vfs_of(at), &at->ctx, ks_vfs_root(vfs_of(at)), at->name);
}

const struct ks_bench_ops ks_bench_volume = {
	.begin = volume_begin,
	.create = volume_create,
	.open = volume_open,
	.write = volume_write,
	.read = volume_read,
	.close = volume_close,
	.stat = volume_stat,
	.remove = volume_remove,
	.end = volume_end,
};

/* ---- a store: a file is an object for each write ---- */

static void key_of(const struct ks_bench_at *at, const char *file, uint64_t off, char key[256])
{
	snprintf(key, 256, "%s.%s.%ju", at->name, file, (uintmax_t)off);
}

static int store_begin(struct ks_bench_at *at)
{
	(void)at;
	return 0;
}

static int store_open(struct ks_bench_at *at, const char *file)
{
	snprintf(at->file, sizeof(at->file), "%s", file);
	return 0;
}

static ssize_t store_write(struct ks_bench_at *at, uint64_t off, const void *p, size_t n)
{
	union {
		const void *from;
		void *iov; /* a put only reads it */
	} u = { .from = p };
	struct iovec iov = { .iov_base = u.iov, .iov_len = n };
	char key[256];
	int r;

	key_of(at, at->file, off, key);
	r = ks_object_put(at->place->store, key, &iov, 1);
	return r < 0 ? r : (ssize_t)n;
}

static ssize_t store_read(struct ks_bench_at *at, uint64_t off, void *p, size_t n)
{
	struct iovec iov = { .iov_base = p, .iov_len = n };
	char key[256];

	key_of(at, at->file, off, key);
	return ks_object_get(at->place->store, key, 0, &iov, 1);
}

static int store_close(struct ks_bench_at *at, bool written)
{
	(void)at;
	(void)written;
	return 0;
}

static int store_stat(struct ks_bench_at *at, const char *file, uint64_t *size)
{
	struct ks_object_info info;
	char key[256];
	int r;

	key_of(at, file, 0, key);
	r = ks_object_head(at->place->store, key, &info);
	*size = r == 0 ? info.size_bytes : 0;
	return r;
}

static int store_remove(struct ks_bench_at *at, const char *file, uint64_t size, uint64_t io)
{
	int r = 0;

	for (uint64_t off = 0; off < size && r == 0; off += io) {
		char key[256];
		const char *keys[] = { key };

		key_of(at, file, off, key);
		r = ks_object_del(at->place->store, keys, 1);
	}
	return r;
}

const struct ks_bench_ops ks_bench_store = {
	.begin = store_begin,
	.create = store_open,
	.open = store_open,
	.write = store_write,
	.read = store_read,
	.close = store_close,
	.stat = store_stat,
	.remove = store_remove,
	.end = store_begin,
};
