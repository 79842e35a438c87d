/* SPDX-License-Identifier: Apache-2.0 */
/* ls.h: what the files of kiseki-ls share. */
#ifndef KISEKI_LS_H
#define KISEKI_LS_H

#include "volume/list.h"

struct ls_args {
	bool details, recursive, nul, plain, slash, volumes;
};
extern struct ls_args arg;

struct ls_out {
	const char *prefix; /* put before every path: several operands */
	bool escape;        /* control characters would do things to the terminal */
	bool color;
	uint64_t entries;
};
extern struct ls_out out;

/* Prints one entry; a ks_list_fn. */
int ls_entry(void *unused, const struct ks_list_entry *e);
/* volumes.c: prints the volumes that have names. An exit code or -errno. */
int ls_volumes(void);

#endif
