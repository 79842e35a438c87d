/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_tmp.c: temporary files of puts, ROOT/tmp~/PID-RANDOM/NUMBER.
 *
 * Each open store has a directory of its own, and an flock on it for as long as it lives: whoever opens the
 * store later removes the directories that nobody holds. Process ids alone would not do, since two containers may share ROOT.
 */
#include "base/hash.h"
#include "base/log.h"
#include "object/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* Another process that sweeps may meet the new directory before it is locked: then a new one is made. */
static int make_owner(struct ks_file_store *f)
{
	char path[sizeof(KS_FILE_TMP) + sizeof(f->tmp_owner)];
	int made = ks_owner_mkdir(&f->owner, f->rootfd, KS_FILE_TMP, 0777);

	if (made < 0 && made != -EEXIST)
		return made;
	for (int tries = 0; tries < 16; tries++) {
		struct stat st;
		uint32_t rnd;
		int fd, r = ks_random(&rnd, sizeof(rnd));

		if (r < 0)
			return r;
		(void)snprintf(f->tmp_owner, sizeof(f->tmp_owner), "%ld-%08" PRIx32, (long)getpid(),
			       rnd);
		(void)snprintf(path, sizeof(path), KS_FILE_TMP "/%s", f->tmp_owner);
		r = ks_owner_mkdir(&f->owner, f->rootfd, path, 0700);
		if (r == -EEXIST)
			continue;
		if (r < 0)
			return r;
		fd = KS_RETRY(openat(f->rootfd, path, OPEN_DIR));
		if (fd < 0) {
			if (errno == ENOENT)
				continue;
			return -errno;
		}
		/* Where there is no flock nobody can sweep either. */
		if ((flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) ||
		    fstat(fd, &st) < 0 || st.st_nlink == 0) {
			(void)close(fd);
			continue;
		}
		f->tmp_fd = fd;
		return 0;
	}
	return -EAGAIN;
}

/* @name: below ROOT. Bare errors. */
int ks_file_tmp_open(struct ks_file_store *f, int flags, char name[KS_FILE_TMP_NAME_MAX], int *out)
{
	for (int tries = 0; tries < 16; tries++) {
		int fd;

		{
			KS_LOCKED(&f->tmp_mu);
			if (f->tmp_fd < 0) {
				int r = make_owner(f);

				if (r < 0)
					return r;
			}
			(void)snprintf(name, KS_FILE_TMP_NAME_MAX, KS_FILE_TMP "/%s/%" PRIu64,
				       f->tmp_owner, f->tmp_no++);
		}
		fd = KS_RETRY(openat(f->rootfd, name, flags | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
		if (fd >= 0) {
			ks_owner_give(&f->owner, fd);
			*out = fd;
			return 0;
		}
		if (errno != ENOENT && errno != EEXIST)
			return -errno;
		if (errno == ENOENT) { /* somebody tidied up too much */
			struct stat st;

			KS_LOCKED(&f->tmp_mu);
			if (f->tmp_fd >= 0 && fstat(f->tmp_fd, &st) == 0 && st.st_nlink == 0) {
				(void)close(f->tmp_fd);
				f->tmp_fd = -1;
			}
		}
	}
	return -EAGAIN;
}

/* Removes what is in the directory @fd. */
static void empty_dir(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	const struct dirent *e;

	if (!d) {
		ks_closep(&copy);
		return;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			(void)unlinkat(fd, e->d_name, 0); /* tried again by the next open */
	}
	(void)closedir(d);
}

static void sweep_owner(int tmpfd, const char *name)
{
	KS_AUTO(ks_closep) int fd = openat(tmpfd, name, OPEN_DIR | O_NOFOLLOW);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	empty_dir(fd);
	if (unlinkat(tmpfd, name, AT_REMOVEDIR) == 0)
		ks_log(KS_LOG_DEBUG, "removed the temporary files of %s, which ended early", name);
}

/* Best effort: on a read-only directory nothing can be removed, and nothing need be. */
void ks_file_tmp_sweep(struct ks_file_store *f)
{
	int fd = openat(f->rootfd, KS_FILE_TMP, OPEN_DIR);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		ks_closep(&fd);
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			sweep_owner(dirfd(d), e->d_name);
	}
	(void)closedir(d);
}

void ks_file_tmp_close(struct ks_file_store *f)
{
	char path[sizeof(KS_FILE_TMP) + sizeof(f->tmp_owner)];

	if (f->tmp_fd < 0)
		return;
	(void)snprintf(path, sizeof(path), KS_FILE_TMP "/%s", f->tmp_owner);
	(void)unlinkat(f->rootfd, path, AT_REMOVEDIR);
	ks_closep(&f->tmp_fd);
	f->tmp_fd = -1;
}
