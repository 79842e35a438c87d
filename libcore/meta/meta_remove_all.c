/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_remove_all.c: the end of a volume's metadata. The database's own file goes first: with it the volume is gone, whatever
 * happens then. Its log was written back by whoever closed it last; kiseki-format removes one that is left beside no database.
 */
#include "meta/meta_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

/* The lock of everybody who may write, alone. *fd -1: nobody ever made it. */
static int lock_alone(const char *locks, int *fd)
{
	KS_AUTO(ks_freep) char *path = ks_asprintf("%s/volume", locks);

	if (!path)
		return -ENOMEM;
	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return errno == ENOENT ? 0 : ks_fail(-errno, "open %s", path);
	if (flock(*fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	return ks_fail(errno == EWOULDBLOCK ? -EBUSY : -errno, "lock %s", path);
}

static int remove_file(const char *path, const char *tail, bool must)
{
	KS_AUTO(ks_freep) char *name = ks_asprintf("%s%s", path, tail);

	if (!name)
		return -ENOMEM;
	if (unlink(name) == 0 || (errno == ENOENT && !must))
		return 0;
	return ks_fail(-errno, "remove %s", name);
}

static void remove_locks(const char *locks)
{
	DIR *d = opendir(locks);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		if (strcmp(e->d_name, "volume") == 0 || strncmp(e->d_name, "session-", 8) == 0)
			KS_IGNORE(unlinkat(dirfd(d), e->d_name, 0) < 0);
	}
	if (d)
		(void)closedir(d);
	/* What somebody else put there keeps the directory. */
	KS_IGNORE(rmdir(locks) < 0);
}

int ks_meta_remove_all(const char *url)
{
	static const char *const tails[] = { "-wal", "-shm", "-journal", "-reserve" };
	KS_AUTO(ks_freep) char *locks = ks_locks_dir(url);
	KS_AUTO(ks_closep) int fd = -1;
	const char *path = locks ? url + strlen("sqlite://") : NULL;
	int r;

	if (!path)
		return -EOPNOTSUPP;
	r = lock_alone(locks, &fd);
	if (r == 0)
		r = remove_file(path, "", true);
	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(tails); i++)
		r = remove_file(path, tails[i], false);
	if (r == 0)
		remove_locks(locks);
	return r;
}
