/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd.h: what every command line tool shares. One table gives parsing, --help, --usage, the defaults of the
 * configuration file, completion and the check of the manuals.
 *
 *	static const struct ks_opt opts[] = {
 *		KS_OPT_FLAG('l', "long", &arg.details, "one line of details per entry"),
 *		KS_OPT_END,
 *	};
 *	static const struct ks_cmd cmd = { .name = "kiseki-ls", .usage = "[OPTIONS] VOLUME:/PATH...", .opts = opts, ... };
 *
 *	int main(int argc, char **argv)
 *	{
 *		char **args;
 *		int n = ks_cmd_parse(&cmd, argc, argv, &args);
 *		...
 *		return ks_cmd_exit(r);
 *	}
 *
 * This is for cmd/ only: it prints and exits, and a process has one command, so its state is static.
 * stdout carries results, stderr everything else; with --json, stdout is JSON lines and the last is the summary.
 */
#ifndef KS_CLI_CMD_H
#define KS_CLI_CMD_H

#include "base/log.h"
#include "cli/exit.h"
#include <stdarg.h>
#include <stdio.h>

enum ks_opt_kind {
	KS_OPT_K_END,
	KS_OPT_K_FLAG,     /* bool *: true */
	KS_OPT_K_COUNTER,  /* int *: one more each time */
	KS_OPT_K_STRING,   /* const char **: borrowed from argv, or kept for ever */
	KS_OPT_K_SIZE,     /* uint64_t *: bytes; "none" and "off" are 0 with KS_OPT_OFF */
	KS_OPT_K_DURATION, /* int64_t *: nanoseconds; likewise */
	KS_OPT_K_INTEGER,  /* uint64_t *: min..max */
	KS_OPT_K_ENUM,     /* int *: index into names */
	KS_OPT_K_CALL,     /* call(value): a text of what is wrong with it, or NULL */
	KS_OPT_K_GROUP,    /* a heading in --help */
};

enum {
	KS_OPT_OFF = 1 << 0, /* "none" and "off" are values */
	KS_OPT_NOCONFIG =
		1 << 1, /* never from a configuration file: it destroys, or decides what is done */
	KS_OPT_HIDDEN = 1 << 2,   /* not in --help */
	KS_OPT_OPTIONAL = 1 << 3, /* --name or --name=VALUE; without it call gets NULL */
	KS_OPT_LIST = 1 << 4,     /* several of names with commas between; for completion */
};

struct ks_opt {
	enum ks_opt_kind kind;
	char letter;      /* 0: none */
	const char *name; /* long; NULL: none */
	const char *arg;  /* name of the value in --help; NULL: takes none */
	const char *help;
	void *value;
	unsigned int flags;
	uint64_t min, max;        /* INTEGER, SIZE; max 0: no limit */
	const char *const *names; /* ENUM, and what completion offers for CALL; ends with NULL */
	const char *(*call)(const char *value);
	const char *env; /* environment variable with the default; NULL: none */
};

#define KS_OPT_FLAG(l, n, v, h)                                                                    \
	{                                                                                          \
		.kind = KS_OPT_K_FLAG, .letter = (l), .name = (n), .value = (v), .help = (h)       \
	}
#define KS_OPT_COUNTER(l, n, v, h)                                                                 \
	{                                                                                          \
		.kind = KS_OPT_K_COUNTER, .letter = (l), .name = (n), .value = (v), .help = (h)    \
	}
#define KS_OPT_STRING(l, n, a, v, h)                                                               \
	{                                                                                          \
		.kind = KS_OPT_K_STRING, .letter = (l), .name = (n), .arg = (a), .value = (v),     \
		.help = (h)                                                                        \
	}
#define KS_OPT_SIZE(l, n, v, h)                                                                    \
	{                                                                                          \
		.kind = KS_OPT_K_SIZE, .letter = (l), .name = (n), .arg = "SIZE", .value = (v),    \
		.help = (h)                                                                        \
	}
#define KS_OPT_DURATION(l, n, v, h)                                                                \
	{                                                                                          \
		.kind = KS_OPT_K_DURATION, .letter = (l), .name = (n), .arg = "DUR", .value = (v), \
		.help = (h)                                                                        \
	}
#define KS_OPT_INTEGER(l, n, lo, hi, v, h)                                                         \
	{                                                                                          \
		.kind = KS_OPT_K_INTEGER, .letter = (l), .name = (n), .arg = "N", .min = (lo),     \
		.max = (hi), .value = (v), .help = (h)                                             \
	}
#define KS_OPT_ENUM(l, n, a, ns, v, h)                                                             \
	{                                                                                          \
		.kind = KS_OPT_K_ENUM, .letter = (l), .name = (n), .arg = (a), .names = (ns),      \
		.value = (v), .help = (h)                                                          \
	}
#define KS_OPT_CALL(l, n, a, f, h)                                                                 \
	{                                                                                          \
		.kind = KS_OPT_K_CALL, .letter = (l), .name = (n), .arg = (a), .call = (f),        \
		.help = (h)                                                                        \
	}
/* From the command line only, never from a configuration file. */
#define KS_OPT_FLAG_CMD(l, n, v, h)                                                                \
	{                                                                                          \
		.kind = KS_OPT_K_FLAG, .letter = (l), .name = (n), .value = (v),                   \
		.flags = KS_OPT_NOCONFIG, .help = (h)                                              \
	}
#define KS_OPT_STRING_CMD(l, n, a, v, h)                                                           \
	{                                                                                          \
		.kind = KS_OPT_K_STRING, .letter = (l), .name = (n), .arg = (a), .value = (v),     \
		.flags = KS_OPT_NOCONFIG, .help = (h)                                              \
	}
#define KS_OPT_CALL_CMD(l, n, a, f, h)                                                             \
	{                                                                                          \
		.kind = KS_OPT_K_CALL, .letter = (l), .name = (n), .arg = (a), .call = (f),        \
		.flags = KS_OPT_NOCONFIG, .help = (h)                                              \
	}
#define KS_OPT_GROUP(h)                                                                            \
	{                                                                                          \
		.kind = KS_OPT_K_GROUP, .help = (h)                                                \
	}
#define KS_OPT_END                                                                                 \
	{                                                                                          \
		.kind = KS_OPT_K_END                                                               \
	}

/* Common options; a tool names those that have an effect in it, and has no other. --color -h -V --usage every tool has. */
enum {
	KS_CMD_DRY_RUN = 1 << 0,       /* -n --dry-run */
	KS_CMD_QUIET = 1 << 1,         /* -q --quiet */
	KS_CMD_VERBOSE = 1 << 2,       /* -v --verbose */
	KS_CMD_JSON = 1 << 3,          /* --json */
	KS_CMD_PROGRESS = 1 << 4,      /* --progress=WHEN */
	KS_CMD_BYTES = 1 << 5,         /* -b --bytes */
	KS_CMD_JOBS = 1 << 6,          /* -j --jobs=N */
	KS_CMD_CONFIG = 1 << 7,        /* --config=FILE */
	KS_CMD_YES = 1 << 8,           /* -y --yes */
	KS_CMD_LOCK_WAIT = 1 << 9,     /* --lock-wait=DUR */
	KS_CMD_MAX_DURATION = 1 << 10, /* --max-duration=DUR */
	KS_CMD_CHECK = 1 << 11,        /* --check: sets dry_run too */
	KS_CMD_METRICS = 1 << 12,      /* --metrics-file=FILE: for what runs by cron */
	KS_CMD_BATCH = 1 << 13,        /* --batch: for what may ask */
	/* ---- behaviour ---- */
	KS_CMD_NO_PARSE_AFTER = 1 << 16, /* options end at the first operand (a dispatcher) */
	/* A stop ends with main()'s code and not by the signal, a second one at once: fsck(8). */
	KS_CMD_CODE_AFTER_STOP = 1 << 17,
	/* A run with -n is a whole one: to look is what the tool does. */
	KS_CMD_DRY_IS_WHOLE = 1 << 18,
};

enum ks_color_when { KS_COLOR_AUTO, KS_COLOR_ALWAYS, KS_COLOR_NEVER };
enum ks_progress_when { KS_PROGRESS_AUTO, KS_PROGRESS_ALWAYS, KS_PROGRESS_NEVER, KS_PROGRESS_JSON };

/* AUTO: text, with marks when stderr is the journal's. */
enum ks_log_format { KS_LOG_AUTO, KS_LOG_TEXT, KS_LOG_JSON, KS_LOG_JOURNAL };

/* Values of the common options. */
struct ks_common {
	bool dry_run, quiet, json, bytes, yes, check, batch;
	int verbose;
	int color;      /* enum ks_color_when */
	int progress;   /* enum ks_progress_when */
	int log_format; /* enum ks_log_format */
	uint64_t jobs;  /* 0: the tool's own default */
	const char *config, *metrics_file;
	int64_t lock_wait_ns, max_duration_ns; /* 0: none */
};

struct ks_cmd {
	const char *name;  /* "kiseki-ls" */
	const char *usage; /* what follows the name; several lines are split at '\n' */
	const char *about; /* one sentence */
	const char *
		operands; /* --help, behind the usage: explains the operands; lines of at most 80 bytes; NULL: none */
	const char *examples; /* lines "kiseki-ls photos:/" */
	const struct ks_opt *opts;
	unsigned int common;    /* KS_CMD_* */
	int min_args, max_args; /* operands; max < 0: any number */
	/* --version --verbose: what this build contains, written to @f on one line. NULL: nothing. */
	void (*features)(FILE *f);
	/* Exit codes that differ: mount.kiseki and fsck. NULL: as they are. */
	int (*map_exit)(int code);
};

extern struct ks_common ks_common;

/**
 * ks_cmd_parse() - read the command line
 * @args: the operands, ends with NULL; borrowed for ever
 *
 * Prints and exits for --help, --version, --usage, --list-options and for every mistake (64, with the culprit, the nearest
 * option and a pointer to --help). Options may stand behind operands, also when POSIXLY_CORRECT is set; "--" ends them.
 * Catches SIGINT and SIGTERM (ks_cmd_stopped()), and makes the library's messages come out as "NAME: text".
 * Return: how many operands.
 */
int ks_cmd_parse(const struct ks_cmd *cmd, int argc, char **argv, char ***args);

/*
 * For an option table that is not a command line (mount -o): applies one "name" or "name=value". '_' may stand for '-'.
 * Return: 0; -ENOENT no such option; -EINVAL a bad value, raised.
 */
int ks_opt_apply(const struct ks_opt *opts, const char *name, const char *value) KS_MUST_CHECK;
/* The nearest name of a visible option, or NULL. */
const char *ks_opt_nearest(const struct ks_opt *opts, const char *name);
/* Is @a close enough to @b to be what was meant? The smaller, the closer; < 0: no. */
int ks_typo_distance(const char *a, const char *b);

/**
 * ks_cmd_default() - a line of a configuration file: the default of the option of that name
 *
 * Ignored when the option was given on the command line or in the environment, when this tool has no such option, and for
 * KS_OPT_NOCONFIG. Call in order of increasing precedence. Return: 0; -EINVAL a bad value, raised.
 */
int ks_cmd_default(void *unused, const char *key, const char *value) KS_MUST_CHECK;
/* Was the option given on the command line (not in the environment or a file)? */
bool ks_cmd_given(const char *name);
/* The same of an entry of the tool's table; *value: as it was written there last, NULL: without one. */
bool ks_cmd_given_value(const struct ks_opt *o, const char **value);

/* SIGINT or SIGTERM came: finish cleanly and soon. A second SIGINT ends the process at once. */
bool ks_cmd_stopped(void);
bool ks_cmd_stopped_cb(void *unused); /* the same, as a callback for the library */

/* Seconds since the start, for "in 1.3 s". */
double ks_cmd_seconds(void);
/* When --max-duration is over, on the monotonic clock; 0: never. It counts from the start. */
int64_t ks_cmd_deadline(void);
/*
 * --lock-wait: @r is what trying to open or lock said. True after a little while when that was -EBUSY and there is time left: try again.
 * The time counts from the start, too.
 */
bool ks_cmd_wait_busy(int r);

/* ---- questions: ask.c ---- */

/* Is there a terminal to ask on, and no --batch? */
bool ks_cmd_can_ask(void);
/* For who will ask: a mistake in the command line when nobody can be asked. @instead: what does without, "--yes destroys without asking". */
void ks_cmd_must_ask(const char *instead);
/* "kiseki-rm: QUESTION [y/N] " on the terminal: did they say yes? Only when ks_cmd_can_ask(). */
bool ks_cmd_ask(const char *fmt, ...) KS_PRINTF(1, 2);
/* The same for what cannot be undone: is the answer exactly @word? */
bool ks_cmd_ask_word(const char *word, const char *fmt, ...) KS_PRINTF(2, 3);

/* ---- values: id.c ---- */

/* The number of a user or group, from that number or a name; -1: there is none. While no other thread runs. */
int64_t ks_cmd_user(const char *text);
int64_t ks_cmd_group(const char *text);

/*
 * Is stderr the journal of systemd ($JOURNAL_STREAM)? Messages then begin with their priority, "<3>", which it takes off.
 * ks_cmd_log() lets the library's messages up to @max come out on stderr; ks_cmd_parse() chooses by -q and -v.
 */
bool ks_cmd_to_journal(void);
void ks_cmd_log(enum ks_log_level max);

/* ---- colours: color.c ---- */

/* What stands between "\033[" and "m"; GNU ls has the same for the kinds of files. */
#define KS_SGR_OFF "0"
#define KS_SGR_BAD "1;31" /* bold red */
#define KS_SGR_GOOD "32"  /* green */
#define KS_SGR_LABEL "36" /* cyan */

/*
 * Shall what people read on @fd, stdout or stderr, have colours? By --color, NO_COLOR and TERM; JSON on stdout never. Ask when the configuration file had its say. What
 * is put between colours has no control characters of its own, or it could be the end of them.
 */
bool ks_cmd_colored(int fd);
bool ks_cmd_dumb_terminal(void); /* TERM=dumb: it takes no orders */

/*
 * Messages on stderr, "kiseki-ls: text"; the progress bar steps aside. Also with --quiet. Threads: any. On a terminal, and where there are colours, these and
 * ks_cmd_say() show control characters but newline and tab as \NNN.
 */
void ks_cmd_error(const char *fmt, ...) KS_PRINTF(1, 2);
void ks_cmd_hint(const char *fmt, ...) KS_PRINTF(1, 2); /* "  hint: text" */
void ks_cmd_more(const char *fmt, ...)
	KS_PRINTF(1, 2); /* a line that belongs to the error, as it is */
/* For people, on stderr; not with --quiet. */
void ks_cmd_note(const char *fmt, ...) KS_PRINTF(1, 2);
/* The result for people, on stdout; not with --quiet or --json. */
void ks_cmd_say(const char *fmt, ...) KS_PRINTF(1, 2);
/* The same, with @end behind it in a colour, KS_SGR_*; NULL: in none. */
void ks_cmd_say_end(const char *sgr, const char *end, const char *fmt, ...) KS_PRINTF(3, 4);
/* A mistake in the command line that only the tool can see: prints, exits with 64. */
void ks_cmd_usage(const char *fmt, ...) KS_PRINTF(1, 2) __attribute__((noreturn));
/*
 * Prints what the library raised last (or strerror) and its hint; returns the exit code. -EINTR after a signal that stops us is no failure
 * to be told of: then it prints nothing, and returns 0. ks_cmd_exit() makes the signal's code of it.
 */
int ks_cmd_report(int err);

/* "1.2 GiB", or with --bytes "1288490189"; @out has KS_SIZE_STR bytes. */
void ks_cmd_size(uint64_t bytes, char *out);
/* "36 h": in the largest unit without a rest; with --bytes "129600"; as above. */
void ks_cmd_duration(uint64_t seconds, char *out);

/* A file name on stdout, as it is, or with @escape with control characters as \NNN: for a terminal. */
void ks_cmd_put_name(const char *p, size_t n, bool escape);
/* "file", "directory", ...: what JSON calls a kind of inode. */
const char *ks_cmd_kind(uint32_t mode);

/* What main() is going to return for @r, an exit code or a negative errno: after a stop it is the signal's, and some tools have their own. */
int ks_cmd_code(int r);

/**
 * ks_cmd_exit() - the end of every main()
 * @r: an exit code, or a negative errno, whose text is then printed
 *
 * Writes --metrics-file, prints JSON's summary line, flushes stdout (a failure there is 74), and after SIGINT or SIGTERM raises the signal again.
 * Return: what main() returns.
 */
int ks_cmd_exit(int r) KS_MUST_CHECK;

#endif
