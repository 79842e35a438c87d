/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_file.c: objects in a directory: ROOT/KEY, the key's slashes being directories.
 *
 * A put writes a temporary file (file_tmp.c) and renames it over the key. Big aligned objects go by O_DIRECT, and every aligned read
 * does: blocks would only fill the page cache, since readers have a cache of their own. What is being appended to is read
 * through the page cache, where its newest bytes are. Directories that become empty stay.
 * More: file_io.c, file_fds.c (open descriptors), file_sync.c (durability), file_append.c, file_list.c.
 */
#include "object/store_file.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static void file_close(struct ks_object *o)
{
	struct ks_file_store *f = ks_file_of(o);

	assert(!f->appenders);
	ks_file_tmp_close(f);
	ks_fd_cache_clear(&f->fds);
	ks_store_unsynced_clear(&f->unsynced);
	pthread_mutex_destroy(&f->tmp_mu);
	pthread_mutex_destroy(&f->app_mu);
	pthread_rwlock_destroy(&f->rewrite);
	ks_closep(&f->rootfd);
	free(f->root);
	free(f);
}

/* The new directory's own name must survive a power cut too. */
static int make_root(const char *root)
{
	KS_AUTO(ks_freep) char *parent = strdup(root);
	KS_AUTO(ks_closep) int fd = -1;
	char *slash;

	if (!parent)
		return -ENOMEM;
	if (mkdir(root, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	slash = strrchr(parent, '/');
	slash[slash == parent ? 1 : 0] = 0;
	fd = KS_RETRY(open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (fd >= 0 && KS_RETRY(fsync(fd)) < 0 && errno != EINVAL)
		return -errno;
	return 0; /* a parent that cannot be read is synced by its own file system in time */
}

static int open_root(const char *root)
{
	int fd = KS_RETRY(open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));

	if (fd < 0 && errno == ENOENT) {
		int r = make_root(root);

		const char *hint = r == -ENOENT ? "make its parent directory first" : NULL;

		if (r < 0)
			return ks_fail_hint(r, hint, "cannot create the directory %s", root);
		fd = KS_RETRY(open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	}
	return fd < 0 ? ks_fail(-errno, "cannot open the directory %s", root) : fd;
}

static int file_open(struct ks_object **out, const char *rest)
{
	KS_AUTO(ks_freep) char *root = NULL;
	struct ks_file_store *f;
	struct stat st;
	int fd, r = ks_store_url_path("file", rest, &root);

	if (r < 0)
		return r;
	fd = open_root(root);
	if (fd < 0)
		return fd;
	f = calloc(1, sizeof(*f));
	if (!f) {
		(void)close(fd);
		return -ENOMEM;
	}
	r = ks_store_unsynced_init(&f->unsynced);
	if (r < 0) {
		(void)close(fd);
		free(f);
		return r;
	}
	f->rootfd = fd;
	if (fstat(fd, &st) == 0)
		f->owner = ks_owner_of(&st);
	f->tmp_fd = -1;
	f->root = ks_steal(&root);
	pthread_mutex_init(&f->tmp_mu, NULL);
	pthread_mutex_init(&f->app_mu, NULL);
	pthread_rwlock_init(&f->rewrite, NULL);
	ks_fd_cache_init(&f->fds);
	ks_file_tmp_sweep(f);
	*out = &f->base;
	return 0;
}

/* Makes the directories above @key. Bare errors. */
int ks_file_mkdirs(struct ks_file_store *f, const char *key)
{
	char dir[KS_OBJECT_KEY_MAX + 1];

	for (size_t i = 0; key[i]; i++) {
		int r;

		dir[i] = key[i];
		if (key[i] != '/')
			continue;
		dir[i] = 0;
		r = ks_owner_mkdir(&f->owner, f->rootfd, dir, 0777);
		if (r == 0)
			ks_store_unsynced_dir_made(&f->unsynced, dir);
		else if (r != -EEXIST)
			return r;
		dir[i] = '/';
	}
	return 0;
}

static ssize_t get_once(struct ks_file_store *f, const char *key, uint64_t off,
			const struct iovec *iov, int niov, bool direct)
{
	struct ks_fd_ent *e;
	ssize_t n = ks_fd_cache_get(&f->fds, f->rootfd, key, direct, &e);

	if (n < 0)
		return n;
	n = ks_io_read(ks_fd_ent_fd(e), off, iov, niov, direct);
	ks_fd_cache_put(&f->fds, e);
	return n;
}

static ssize_t file_get(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
			int niov)
{
	struct ks_file_store *f = ks_file_of(o);
	bool direct =
		!f->no_direct && ks_io_aligned(off, iov, niov) && !ks_file_is_appending(f, key);
	ssize_t n = get_once(f, key, off, iov, niov, direct);

	if (n == -EINVAL && direct) {
		n = get_once(f, key, off, iov, niov, false);
		if (n >= 0)
			f->no_direct = true;
	}
	if (n < 0 && n != -ENOENT)
		return ks_fail((int)n, "cannot read %s/%s", f->root, key);
	return n;
}

static int rename_into(struct ks_file_store *f, const char *tmp, const char *key)
{
	for (int tries = 0; tries < 3; tries++) {
		int r;

		if (renameat(f->rootfd, tmp, f->rootfd, key) == 0)
			return 0;
		if (errno != ENOENT)
			return -errno;
		r = ks_file_mkdirs(f, key);
		if (r < 0)
			return r;
	}
	return -ENOENT;
}

/* Bare errors; -EINVAL also when the file system refuses O_DIRECT. */
static int put_once(struct ks_file_store *f, const char *key, const struct iovec *iov, int niov,
		    struct ks_io_shape shape, bool direct)
{
	char tmp[KS_FILE_TMP_NAME_MAX];
	int fd, r = ks_file_tmp_open(f, O_RDWR | (direct ? O_DIRECT : 0), tmp, &fd);

	if (r < 0)
		return r;
	if (direct) {
		r = ks_io_write_direct(fd, iov, niov, shape);
	} else {
		/* No fallocate(): +10 % on the write, but its sync then takes 1.6 times as long. */
		r = ks_io_write(fd, 0, iov, niov);
	}
	if (r == 0)
		r = rename_into(f, tmp, key);
	if (r < 0) {
		(void)unlinkat(f->rootfd, tmp, 0); /* else the next open sweeps it */
		(void)close(fd);
		return r;
	}
	ks_fd_cache_drop(&f->fds, key);
	ks_store_unsynced_add(&f->unsynced, key, fd, false);
	return 0;
}

static int file_put(struct ks_object *o, const char *key, const struct iovec *iov, int niov)
{
	struct ks_file_store *f = ks_file_of(o);
	struct ks_io_shape shape = ks_io_measure(iov, niov);
	bool direct = shape.bulk >= KS_DIO_PUT_MIN && !f->no_direct;
	int r = put_once(f, key, iov, niov, shape, direct);

	if (r == -EMFILE || r == -ENFILE) {
		ks_fd_cache_trim(&f->fds);
		r = put_once(f, key, iov, niov, shape, direct);
	}
	if (r == -EINVAL && direct) {
		r = put_once(f, key, iov, niov, shape, false);
		if (r == 0)
			f->no_direct = true;
	}
	if (ks_file_is_full(f, r, shape.total))
		return ks_fail_spell(&f->full, r, "cannot store %zu bytes as %s/%s", shape.total,
				     f->root, key);
	if (r < 0)
		return ks_fail(r, "cannot store %zu bytes as %s/%s", shape.total, f->root, key);
	return 0;
}

static void file_adopt(struct ks_object *o, const char *key)
{
	ks_store_unsynced_add(&ks_file_of(o)->unsynced, key, -1, false);
}

static int file_del(struct ks_object *o, const char *const *keys, size_t n)
{
	struct ks_file_store *f = ks_file_of(o);
	int first = 0;

	for (size_t i = 0; i < n; i++) {
		/* EISDIR: a directory is no object. */
		if (unlinkat(f->rootfd, keys[i], 0) < 0 && errno != ENOENT && errno != ENOTDIR &&
		    errno != EISDIR) {
			int r = ks_fail_spell(&f->kept, -errno, "cannot delete %s/%s", f->root,
					      keys[i]);

			if (first == 0)
				first = r;
			continue;
		}
		ks_store_unsynced_drop(&f->unsynced, keys[i]);
		ks_fd_cache_drop(&f->fds, keys[i]);
	}
	return first;
}

static int file_head(struct ks_object *o, const char *key, struct ks_object_info *out)
{
	struct ks_file_store *f = ks_file_of(o);
	struct stat st;

	if (fstatat(f->rootfd, key, &st, 0) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return -ENOENT;
		return ks_fail(-errno, "cannot look at %s/%s", f->root, key);
	}
	if (!S_ISREG(st.st_mode))
		return -ENOENT;
	out->size_bytes = (uint64_t)st.st_size;
	out->mtime_ns = ks_ts_to_ns(st.st_mtim);
	return 0;
}

static int file_usage(struct ks_object *o, struct ks_object_usage *out)
{
	struct ks_file_store *f = ks_file_of(o);
	struct statvfs st;

	ks_fd_cache_sweep(&f->fds);
	if (fstatvfs(f->rootfd, &st) < 0)
		return ks_fail(-errno, "cannot ask for the free space of %s", f->root);
	out->total_bytes = (uint64_t)st.f_blocks * st.f_frsize;
	out->free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}

const struct ks_store_ops ks_store_file_ops = {
	.scheme = "file",
	.help = "a directory, file:///srv/blocks",
	.open = file_open,
	.close = file_close,
	.get = file_get,
	.put = file_put,
	.sync = ks_file_sync,
	.adopt = file_adopt,
	.del = file_del,
	.head = file_head,
	.list = ks_file_list,
	.usage = file_usage,
	.dismantle = ks_file_dismantle,
	.append_open = ks_file_append_open,
	.append_write = ks_file_append_write,
	.append_size = ks_file_append_size,
	.append_close = ks_file_append_close,
};
