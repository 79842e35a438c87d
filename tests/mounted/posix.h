/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix.h: what posixcheck and posixio share: paths below the directory under test, small files, times.
 */
#ifndef TESTS_MOUNTED_POSIX_H
#define TESTS_MOUNTED_POSIX_H

#include "util.h"
#include <fcntl.h>
#include <sys/stat.h>

static char base[3000];

/* A path below DIR; eight results live at a time. */
static UNUSED_FN const char *P(const char *name)
{
	static char ring[8][3400];
	static unsigned at;
	char *out = ring[at++ % 8];

	snprintf(out, sizeof(ring[0]), "%s/%s", base, name);
	return out;
}

static UNUSED_FN int make(const char *name, const char *text, mode_t mode)
{
	int fd = open(P(name), O_CREAT | O_TRUNC | O_RDWR, mode);
	size_t n = strlen(text);

	if (fd < 0 || pwrite_all(fd, text, n, 0) < 0 || fchmod(fd, mode) < 0)
		tap_fail("cannot make %s: %s", name, strerror(errno));
	return fd;
}

static UNUSED_FN void put(const char *name, const char *text)
{
	int fd = make(name, text, 0644);

	if (fd >= 0 && close(fd) < 0)
		tap_fail("close of %s: %s", name, strerror(errno));
}

static UNUSED_FN bool holds(const char *name, const char *text)
{
	char got[4096] = { 0 };
	int fd = open(P(name), O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, got, sizeof(got) - 1);

	if (fd >= 0)
		close(fd);
	return n == (ssize_t)strlen(text) && memcmp(got, text, strlen(text)) == 0;
}

static UNUSED_FN struct stat look(const char *name)
{
	struct stat st = { 0 };

	if (lstat(P(name), &st) < 0)
		tap_fail("stat of %s: %s", name, strerror(errno));
	return st;
}

/* Makes the directory of this run below @dir. */
static UNUSED_FN void set_up(const char *name, const char *dir)
{
	char *real = realpath(dir, NULL); /* one test changes the working directory */

	if (!real)
		die("%s", dir);
	umask(022);
	snprintf(base, sizeof(base), "%.2900s/%s.%d", real, name, (int)getpid());
	free(real);
	if (mkdir(base, 0755) < 0)
		die("%s", base);
}

#endif
