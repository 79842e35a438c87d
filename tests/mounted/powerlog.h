/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powerlog.h: what powerfs records and powercut reads: every change of a directory tree, in order.
 *
 * A record is a struct power_rec and @n bytes behind it, then one to eight zeros, up to a multiple of 8. Files have numbers of their own, which are never used twice, so that a record
 * of a file that has lost its name is still of that file; the root has number 1.
 */
#ifndef TESTS_MOUNTED_POWERLOG_H
#define TESTS_MOUNTED_POWERLOG_H

#include "util.h"
#include <sys/ioctl.h>

enum power_op {
	POWER_BASE = 1, /* was there at the start; a: mode; bytes: path below the root */
	POWER_CREATE,   /* a: parent; b: mode; bytes: name */
	POWER_LINK,     /* a: parent; bytes: name */
	POWER_UNLINK,   /* a: parent; bytes: name; directories too */
	POWER_RENAME, /* ino: flags of renameat2(); a, b: parents; bytes: old name, NUL, new name */
	POWER_WRITE,  /* a: offset; bytes: content */
	POWER_SIZE,   /* a: new size */
	POWER_ZERO,   /* a: offset; b: length */
	POWER_MODE,   /* a: mode */
	POWER_SYNC,   /* a: everything about the file before record number a is durable */
	POWER_SYNC_ALL, /* a: the same of all files: syncfs() */
};

struct power_rec {
	uint32_t op;
	uint32_t n;
	int64_t stamp_ns; /* CLOCK_MONOTONIC, as in the log of crashwriter; never goes down */
	uint64_t ino, a, b;
};

enum { POWER_ROOT = 1 };

static inline size_t power_filled(size_t n)
{
	return n / 8 * 8 + 8;
}

/* What powerrun makes of syncfs(), which the kernel keeps from FUSE file systems. On any descriptor of the file system. */
#define POWER_IOC_SYNCFS _IO('P', 1)

#endif
