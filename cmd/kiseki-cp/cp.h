/* SPDX-License-Identifier: Apache-2.0 */
/* cp.h: what the files of kiseki-cp share. */
#ifndef KISEKI_CP_H
#define KISEKI_CP_H

#include "cli/cmd.h"
#include "volume/copy.h"

struct cp_args {
	bool recursive, archive, preserve, no_deref, deref, one_fs, update, no_target, no_clobber,
		verify;
	const char *target_dir;
	unsigned int keep; /* KS_COPY_* of --preserve */
	int reflink;
	bool to_stdout; /* then messages stay off it */
};
extern struct cp_args arg;
extern const struct ks_cmd cp_cmd;

/* A volume that an operand names; the same one is opened once. */
struct cp_volume {
	struct ks_volume_ref ref;
	struct ks_volume *v;
};

struct cp_ends {
	struct ks_copy_end *from;
	size_t n;
	struct ks_copy_end to;
	struct cp_volume *volumes;
	size_t nvolumes;
	struct ks_volume *check; /* the target once more, for --verify */
	char **owned;            /* paths */
	size_t nowned;
};

/* Finds and opens what the operands name. */
int cp_open(struct cp_ends *e, char **args, int n) KS_MUST_CHECK;
/* Ends the volumes; the first failure of their flushes. */
int cp_close(struct cp_ends *e);

/* ---- report.c ---- */

void cp_on_item(void *unused, const char *action, const char *from, const char *to, uint64_t bytes);
void cp_on_error(void *unused, const char *path, const char *op, int err, const char *text,
		 const char *hint);
void cp_print(const struct ks_copy_counts *n, int64_t took_ns);
void cp_summarise(const struct cp_ends *e, const struct ks_copy_counts *n);

#endif
