/* SPDX-License-Identifier: Apache-2.0 */
/* exit.h: exit codes of every tool: sysexits(3) for errors, and four small ones. kiseki(7) is their manual. */
#ifndef KS_CLI_EXIT_H
#define KS_CLI_EXIT_H

#include "base/def.h"

enum ks_exit {
	KS_EXIT_OK = 0,
	KS_EXIT_FAILURE = 1,      /* unclassified */
	KS_EXIT_PARTIAL = 3,      /* finished; at least one item failed, the rest is done */
	KS_EXIT_FINDINGS = 4,     /* a check found something */
	KS_EXIT_LIMIT = 5,        /* stopped at a limit that was asked for; progress is kept */
	KS_EXIT_USAGE = 64,       /* bad option or operand */
	KS_EXIT_DATAERR = 65,     /* corrupt input */
	KS_EXIT_NOINPUT = 66,     /* no such volume or path */
	KS_EXIT_UNAVAILABLE = 69, /* metadata or data cannot be reached */
	KS_EXIT_SOFTWARE = 70,    /* internal inconsistency */
	KS_EXIT_OSERR = 71,       /* fork, /dev/fuse, memory, descriptors */
	KS_EXIT_CANTCREAT = 73,   /* exists already, or cannot be created */
	KS_EXIT_IOERR = 74,       /* I/O error, no space, quota */
	KS_EXIT_TEMPFAIL = 75,    /* locked or busy: try again later */
	KS_EXIT_PROTOCOL = 76,    /* the volume is newer than this program */
	KS_EXIT_NOPERM = 77,      /* not permitted */
	KS_EXIT_CONFIG = 78,      /* bad configuration, or another volume's data */
	KS_EXIT_SIGINT = 130,
	KS_EXIT_SIGTERM = 143,
};

/* "PARTIAL"; also what JSON's error.code says. "FAILURE" for a number that is none of these. */
const char *ks_exit_name(int code);

/*
 * The code of a negative errno. EMEDIUMTYPE stands for CONFIG: "this is not the thing you took it for".
 */
int ks_exit_of_errno(int err);

/* The same for a helper of mount(8) or umount(8): 1 usage or permission, 2 system, 8 interrupted, 32 failure. */
int ks_exit_of_helper(int code);

/* The more severe of two codes: a signal, then 64 and up, then 1, 3, 5, 4, 0. */
int ks_exit_worse(int a, int b);

#endif
