/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logfile.c: a file that lines are added to, and that SIGHUP opens anew after it was renamed. A write never waits for who reads a pipe or a terminal. A disk that is full
 * cuts a line in two; the rest of it comes when there is room, or the whole line when the file is another one by then.
 */
#include "base/log.h"
#include "base/thread.h"
#include "mount.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A file within the mount would be written to by what writing to it does. */
static int check_outside(const struct mount_logfile *f)
{
	KS_AUTO(ks_freep) char *real = realpath(f->path, NULL);

	if (!real && errno == ENOENT) {
		KS_AUTO(ks_freep) char *dir = strdup(f->path);

		if (!dir)
			return -ENOMEM;
		*(strrchr(dir, '/') + 1) = '\0';
		real = realpath(dir, NULL);
	}
	if (real && mount_has_inside(real))
		return ks_fail_hint(-EINVAL, "it belongs on another file system",
				    "%s %s lies within the mount point %s", f->what, f->path,
				    arg.mountpoint);
	return 0;
}

static int open_it(const struct mount_logfile *f)
{
	int r = check_outside(f);
	int fd;

	if (r < 0)
		return r;
	fd = open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
		  f->mode);
	return fd < 0 ? ks_fail(-errno, "%s %s", f->what, f->path) : fd;
}

int mount_logfile_open(struct mount_logfile *f, const char *path)
{
	int r;

	f->path = path;
	r = open_it(f);
	if (r < 0)
		return r;
	f->fd = r;
	return 0;
}

void mount_logfile_reopen(struct mount_logfile *f)
{
	int fd = open_it(f);

	if (fd < 0)
		return; /* the old one goes on */
	ks_mutex_lock(&f->mu);
	KS_IGNORE(dup3(fd, f->fd, O_CLOEXEC) < 0);
	f->fresh = true;
	ks_mutex_unlock(&f->mu);
	close(fd);
	ks_log(KS_LOG_INFO, "%s opened anew", f->what);
}

int mount_logfile_write(struct mount_logfile *f, const char *lines, size_t n, size_t *off)
{
	KS_LOCKED(&f->mu);
	while (f->fresh && *off > 0 && lines[*off - 1] != '\n')
		--*off;
	f->fresh = false;
	while (*off < n) {
		ssize_t k = write(f->fd, lines + *off, n - *off);

		if (k < 0 && errno != EINTR)
			return -errno;
		*off += k > 0 ? (size_t)k : 0;
	}
	return 0;
}
