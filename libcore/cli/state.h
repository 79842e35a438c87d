/* SPDX-License-Identifier: Apache-2.0 */
/* state.h: what the files of cli/ share about the one command of this process. For cli/ only. */
#ifndef KS_CLI_STATE_H
#define KS_CLI_STATE_H

#include "base/log.h"
#include "cli/cmd.h"
#include <signal.h>

#define KS_CLI_OPTS_MAX 96

enum ks_opt_source { KS_FROM_NOWHERE, KS_FROM_FILE, KS_FROM_ENV, KS_FROM_COMMAND };

struct ks_cli_state {
	const struct ks_cmd *cmd;
	char **args;
	const struct ks_opt *opts[KS_CLI_OPTS_MAX]; /* the tool's, then the common ones */
	enum ks_opt_source source[KS_CLI_OPTS_MAX];
	const char *text[KS_CLI_OPTS_MAX]; /* the last value on the command line */
	int nopts;
	int ncommon; /* index of the first common one */
	bool show_version;
	bool journal;          /* stderr is the journal's */
	int64_t start_ns;      /* wall clock */
	int64_t start_mono_ns; /* and monotonic */
	/* What the summary says about a failure: the first that was reported. */
	char *error_text;
	char *error_hint;
	unsigned int errors;
	char *volume; /* its name, for --metrics-file */
};

extern struct ks_cli_state ks_cli;
extern _Atomic int ks_cli_signal; /* the one that asked for a stop */

const char *ks_cmd_name(void);
/* A message of the library on stderr, by --log-format. */
void ks_cmd_message(enum ks_log_level level, const char *where, const char *text);
/* @text as @fd may have it, owned or borrowed: *@owned is what is to be freed. A terminal gets no orders by the names of files. */
const char *ks_cmd_fit(int fd, const char *text, char **owned);
/* NULL, or what is wrong with @value: the text lives until the next call. */
const char *ks_opt_set(const struct ks_opt *o, const char *value);
bool ks_opt_wants_value(const struct ks_opt *o);
void ks_cmd_catch_signals(void);
void ks_cmd_help(FILE *f);
void ks_cmd_short_usage(FILE *f);
void ks_cmd_list_options(FILE *f);
void ks_json_finish(int code);
int ks_cmd_write_metrics(int code); /* --metrics-file; raised */

#endif
