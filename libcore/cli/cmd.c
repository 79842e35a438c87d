/* SPDX-License-Identifier: Apache-2.0 */
/* cmd.c: reads a command line by the tool's table, and the defaults from environment and files. */
#include "cli/cmd.h"
#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "cli/progress.h"
#include "cli/state.h"
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

struct ks_common ks_common;
struct ks_cli_state ks_cli;

static const char *const format_names[] = { "auto", "text", "json", "journal", NULL };
static const char *const color_names[] = { "auto", "always", "never", NULL };
static const char *const progress_names[] = { "auto", "always", "never", "json", NULL };

enum { O_HELP, O_VERSION, O_USAGE, O_LIST };
static bool seen[4]; /* by the above */

static const struct {
	unsigned int group; /* 0: every tool has it */
	struct ks_opt o;
} common[] = {
	{ KS_CMD_DRY_RUN, KS_OPT_FLAG_CMD('n', "dry-run", &ks_common.dry_run,
					  "show what would be done, change nothing") },
	{ KS_CMD_YES, KS_OPT_FLAG_CMD('y', "yes", &ks_common.yes, "do not ask") },
	{ KS_CMD_QUIET, KS_OPT_FLAG('q', "quiet", &ks_common.quiet, "errors only") },
	{ KS_CMD_VERBOSE,
	  KS_OPT_COUNTER('v', "verbose", &ks_common.verbose, "say more; twice: still more") },
	{ KS_CMD_VERBOSE,
	  KS_OPT_ENUM(0, "log-format", "FORMAT", format_names, &ks_common.log_format,
		      "messages as text, json, or journal (with priorities)") },
	{ KS_CMD_JSON, KS_OPT_FLAG(0, "json", &ks_common.json,
				   "JSON lines on stdout, the last is the summary") },
	{ KS_CMD_PROGRESS,
	  { .kind = KS_OPT_K_ENUM,
	    .name = "progress",
	    .arg = "WHEN",
	    .names = progress_names,
	    .value = &ks_common.progress,
	    .env = "KISEKI_PROGRESS",
	    .help = "auto (on a terminal), always, never, json" } },
	{ 0,
	  { .kind = KS_OPT_K_ENUM,
	    .name = "color",
	    .arg = "WHEN",
	    .names = color_names,
	    .value = &ks_common.color,
	    .env = "KISEKI_COLOR",
	    .help = "auto (on a terminal, without NO_COLOR), always, never" } },
	{ KS_CMD_BYTES, KS_OPT_FLAG('b', "bytes", &ks_common.bytes, "exact numbers of bytes") },
	{ KS_CMD_JOBS,
	  KS_OPT_INTEGER('j', "jobs", 1, 256, &ks_common.jobs, "do N things at a time") },
	{ KS_CMD_BATCH,
	  KS_OPT_FLAG(0, "batch", &ks_common.batch, "never ask, also not on a terminal") },
	{ KS_CMD_LOCK_WAIT, KS_OPT_DURATION(0, "lock-wait", &ks_common.lock_wait_ns,
					    "wait so long while another tool is in the way") },
	{ KS_CMD_MAX_DURATION, KS_OPT_DURATION(0, "max-duration", &ks_common.max_duration_ns,
					       "stop cleanly after that (exit 5)") },
	{ KS_CMD_CHECK, KS_OPT_FLAG_CMD(0, "check", &ks_common.check,
					"like -n, but exit 4 if there is anything to do") },
	{ KS_CMD_METRICS, KS_OPT_STRING_CMD(0, "metrics-file", "FILE", &ks_common.metrics_file,
					    "write when it ended, and how, for Prometheus") },
	{ KS_CMD_CONFIG, KS_OPT_STRING_CMD(0, "config", "FILE", &ks_common.config,
					   "read FILE instead of the usual kiseki.conf") },
	{ 0, KS_OPT_FLAG_CMD('h', "help", &seen[O_HELP], "this text") },
	{ 0, KS_OPT_FLAG_CMD('V', "version", &seen[O_VERSION],
			     "the version; with -v, what is built in") },
	{ 0, KS_OPT_FLAG_CMD(0, "usage", &seen[O_USAGE], "the usage only") },
	{ 0,
	  { .kind = KS_OPT_K_FLAG,
	    .name = "list-options",
	    .value = &seen[O_LIST],
	    .flags = KS_OPT_NOCONFIG | KS_OPT_HIDDEN,
	    .help = "for completions and checks" } },
};

const char *ks_cmd_name(void)
{
	return ks_cli.cmd ? ks_cli.cmd->name : "kiseki";
}

static void collect(const struct ks_cmd *cmd)
{
	int n = 0;

	for (const struct ks_opt *o = cmd->opts; o && o->kind != KS_OPT_K_END; o++) {
		assert(n < KS_CLI_OPTS_MAX);
		ks_cli.opts[n++] = o;
	}
	ks_cli.ncommon = n;
	for (size_t i = 0; i < KS_ARRAY_SIZE(common); i++) {
		if (common[i].group && !(cmd->common & common[i].group))
			continue;
		assert(n < KS_CLI_OPTS_MAX);
		ks_cli.opts[n++] = &common[i].o;
	}
	ks_cli.nopts = n;
}

/* The tables that getopt_long() wants. A long option's value is its index + 256. */
static void getopt_tables(struct option *longs, char *shorts)
{
	bool in_order = ks_cli.cmd->common & KS_CMD_NO_PARSE_AFTER;

	/* '-': operands come as they stand, also with POSIXLY_CORRECT; ':' tells what is missing. */
	*shorts++ = in_order ? '+' : '-';
	*shorts++ = ':';
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];

		if (o->kind == KS_OPT_K_GROUP)
			continue;
		if (o->letter) {
			*shorts++ = o->letter;
			if (ks_opt_wants_value(o))
				*shorts++ = ':';
		}
		if (o->name) {
			*longs++ = (struct option){
				.name = o->name,
				.has_arg = !o->arg                 ? no_argument
					   : ks_opt_wants_value(o) ? required_argument
								   : optional_argument,
				.val = 256 + i,
			};
		}
	}
	*shorts = '\0';
	*longs = (struct option){ 0 };
}

/* What getopt_long() did not understand: @word is the argument it stands in. */
static void bad_option(int what, const char *word)
{
	const char *best = NULL;
	int best_n = 64;
	size_t n = strcspn(word, "=");
	char name[64];

	if (what == ':')
		ks_cmd_usage("option '%s' needs a value", word);
	if (optopt > 0 && optopt < 256)
		ks_cmd_usage("unknown option '-%c'", optopt);
	if (optopt >= 256)
		ks_cmd_usage("option '%.*s' takes no value", (int)n, word);
	snprintf(name, sizeof(name), "%.*s", (int)(n > 2 ? n - 2 : 0), n > 2 ? word + 2 : "");
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];
		int d = o->name && !(o->flags & KS_OPT_HIDDEN) ? ks_typo_distance(name, o->name)
							       : -1;

		if (d >= 0 && d < best_n) {
			best = o->name;
			best_n = d;
		}
	}
	if (best)
		ks_cmd_usage("unknown option '%.*s'; did you mean '--%s'?", (int)n, word, best);
	ks_cmd_usage("unknown option '%.*s'", (int)n, word);
}

static int index_of(int got)
{
	if (got >= 256)
		return got - 256;
	for (int i = 0; i < ks_cli.nopts; i++) {
		if (ks_cli.opts[i]->letter == got && ks_cli.opts[i]->kind != KS_OPT_K_GROUP)
			return i;
	}
	return -1;
}

static void take_option(int got, const char *value)
{
	int i = index_of(got);
	const struct ks_opt *o = ks_cli.opts[i];
	const char *why = ks_opt_set(o, value);

	if (why && got >= 256)
		ks_cmd_usage("option '--%s': %s", o->name, why);
	if (why)
		ks_cmd_usage("option '-%c': %s", o->letter, why);
	ks_cli.source[i] = KS_FROM_COMMAND;
	ks_cli.text[i] = value;
	/* A dispatcher's are meant for what it runs, too. */
	if (o->env && ks_cli.cmd->common & KS_CMD_NO_PARSE_AFTER)
		KS_IGNORE(setenv(o->env, value, 1) < 0); /* then only it has them */
}

/* Leaves the operands at the front of @args; returns how many. */
static int read_words(int argc, char **argv, char **args)
{
	struct option longs[KS_CLI_OPTS_MAX + 1];
	char shorts[2 * KS_CLI_OPTS_MAX + 3];
	int n = 0;
	int got;

	getopt_tables(longs, shorts);
	opterr = 0;
	optind = 0; /* glibc: forget an earlier line, if there was one */
	for (;;) {
		int at = optind ? optind : 1;

		got = getopt_long(argc, argv, shorts, longs, NULL);
		if (got < 0)
			break;
		if (got == 1)
			args[n++] = optarg;
		else if (got == '?' || got == ':')
			bad_option(got, argv[at]);
		else
			take_option(got, optarg);
		/* The user wants to read; what else is on the line may be half a command. */
		if (seen[O_HELP])
			break;
	}
	while (optind < argc)
		args[n++] = argv[optind++];
	args[n] = NULL;
	return n;
}

/* Before there is anything to say, also about the command line. What is wrong with it is said later, if it counts. */
static void peek_at_environment(void)
{
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];
		const char *value = o->env ? getenv(o->env) : NULL;

		if (value && *value)
			KS_IGNORE(ks_opt_set(o, value) != NULL);
	}
}

static void read_environment(void)
{
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];
		const char *value = o->env ? getenv(o->env) : NULL;
		const char *why;

		if (!value || !*value || ks_cli.source[i] == KS_FROM_COMMAND)
			continue;
		why = ks_opt_set(o, value);
		if (why)
			ks_cmd_usage("environment variable %s: %s", o->env, why);
		ks_cli.source[i] = KS_FROM_ENV;
	}
}

static void log_sink(void *arg, enum ks_log_level level, const char *where, const char *text)
{
	(void)arg;
	ks_cmd_message(level, where, text);
}

void ks_cmd_log(enum ks_log_level max)
{
	ks_log_set(log_sink, NULL, max);
}

/* Messages of the library come out as the tool's. */
static void set_log(void)
{
	static const char *const levels[] = { "error", "warn", "info", "debug" };
	const char *wanted = getenv("KISEKI_LOG");
	int level = KS_LOG_WARN;

	for (int i = 0; wanted && i < (int)KS_ARRAY_SIZE(levels); i++) {
		if (strcmp(wanted, levels[i]) == 0)
			level = i;
	}
	if (ks_common.verbose)
		level = ks_max(level, ks_common.verbose > 1 ? (int)KS_LOG_DEBUG : (int)KS_LOG_INFO);
	if (ks_common.quiet)
		level = KS_LOG_ERROR;
	ks_log_set_program(ks_cmd_name());
	ks_cmd_log((enum ks_log_level)level);
	ks_fail_quiet(true);
}

static void print_version(void)
{
	printf("%s (kiseki) " KS_VERSION "\n", ks_cmd_name());
	if (ks_common.verbose && ks_cli.cmd->features)
		ks_cli.cmd->features(stdout);
}

/* --help and its like end the program. */
static void answer_questions(void)
{
	if (seen[O_HELP])
		ks_cmd_help(stdout);
	else if (seen[O_VERSION])
		print_version();
	else if (seen[O_USAGE])
		ks_cmd_short_usage(stdout);
	else if (seen[O_LIST])
		ks_cmd_list_options(stdout);
	else
		return;
	exit(fflush(stdout) ? KS_EXIT_IOERR : KS_EXIT_OK);
}

static void check_count(int n, char **args)
{
	const struct ks_cmd *cmd = ks_cli.cmd;

	if (n < cmd->min_args)
		ks_cmd_usage(n == 0 ? "an operand is missing" : "operands are missing behind '%s'",
			     n == 0 ? "" : args[n - 1]);
	if (cmd->max_args >= 0 && n > cmd->max_args)
		ks_cmd_usage("unexpected operand '%s'", args[cmd->max_args]);
}

int ks_cmd_parse(const struct ks_cmd *cmd, int argc, char **argv, char ***args)
{
	int n;

	ks_cli.cmd = cmd;
	ks_cli.start_ns = ks_clock_real_ns();
	ks_cli.start_mono_ns = ks_clock_mono_ns();
	ks_cli.journal = ks_cmd_to_journal();
	collect(cmd);
	ks_cli.args = *args = calloc((size_t)argc + 1, sizeof(**args));
	if (!*args) {
		fprintf(stderr, "%s: out of memory\n", cmd->name);
		exit(KS_EXIT_OSERR);
	}
	peek_at_environment();
	n = read_words(argc, argv, *args);
	answer_questions();
	read_environment();
	if (ks_common.progress == KS_PROGRESS_JSON && !ks_common.json)
		ks_cmd_usage("--progress=json needs --json");
	ks_common.dry_run |= ks_common.check;
	if (ks_common.metrics_file && ks_common.dry_run && !(cmd->common & KS_CMD_DRY_IS_WHOLE)) {
		ks_cmd_usage("--metrics-file tells when it was done last: not with %s, which does "
			     "nothing",
			     ks_common.check ? "--check" : "-n");
	}
	set_log();
	ks_cmd_catch_signals();
	ks_fault_watch(KS_EXIT_IOERR);
	check_count(n, *args);
	return n;
}

bool ks_cmd_given(const char *name)
{
	for (int i = 0; i < ks_cli.nopts; i++) {
		if (ks_cli.opts[i]->name && strcmp(ks_cli.opts[i]->name, name) == 0)
			return ks_cli.source[i] == KS_FROM_COMMAND;
	}
	return false;
}

bool ks_cmd_given_value(const struct ks_opt *o, const char **value)
{
	for (int i = 0; i < ks_cli.nopts; i++) {
		if (ks_cli.opts[i] == o && ks_cli.source[i] == KS_FROM_COMMAND) {
			*value = ks_cli.text[i];
			return true;
		}
	}
	return false;
}

int ks_cmd_default(void *unused, const char *key, const char *value)
{
	(void)unused;
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];
		const char *why;
		char *kept;

		if (!o->name || strcmp(o->name, key) != 0)
			continue;
		if ((o->flags & KS_OPT_NOCONFIG) || ks_cli.source[i] > KS_FROM_FILE)
			return 0;
		kept = strdup(value); /* for ever: a string option borrows it */
		if (!kept)
			return -ENOMEM;
		why = ks_opt_set(o, kept);
		if (why || o->kind != KS_OPT_K_STRING)
			free(kept);
		ks_cli.source[i] = KS_FROM_FILE;
		return why ? ks_fail(-EINVAL, "'%s': %s", key, why) : 0;
	}
	return 0;
}
