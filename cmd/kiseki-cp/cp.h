/* SPDX-License-Identifier: Apache-2.0 */
/* cp.h: what the files of kiseki-cp share. */
#ifndef KISEKI_CP_H
#define KISEKI_CP_H

#include "cli/cmd.h"
#include "volume/copy.h"

struct cp_args {
	bool recursive, archive, preserve, no_deref, deref, one_fs, update, no_target, no_clobber,
		verify, checksum, compare, remove, force, nul;
	uint64_t max_delete, max_errors, rate_down, rate_up;
	int64_t uid, gid; /* -1: not given */
	struct ks_mode_change chmod;
	struct ks_copy_filter *filter;
	const char *files_from;
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

/* ---- lists.c ---- */

/* The lines of FILE ("-": stdin), or what ends with a NUL. Empty ones are left out. */
struct cp_list;
int cp_list_open(struct cp_list **out, const char *file, bool nul) KS_MUST_CHECK;
int cp_list_next(void *list, const char **line); /* 1, 0, -errno, raised */
void cp_list_close(struct cp_list *l);           /* NULL is fine */
/* Adds the patterns of a file; blank lines and those that begin with '#' are none. A text of what is wrong, or NULL. */
const char *cp_exclude_from(const char *file);

/* ---- report.c ---- */

void cp_on_difference(void *unused, const char *path, const char *why);
bool cp_may_delete(void *unused, uint64_t n);

void cp_on_item(void *unused, const char *action, const char *from, const char *to, uint64_t bytes);
void cp_on_error(void *unused, const char *path, const char *op, int err, const char *text,
		 const char *hint);
void cp_print(const struct ks_copy_counts *n);
void cp_summarise(const struct cp_ends *e, const struct ks_copy_counts *n);

#endif
