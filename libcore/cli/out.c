/* SPDX-License-Identifier: Apache-2.0 */
/* out.c: what a tool says, how it is stopped, and how it ends. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/state.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

_Atomic int ks_cli_signal; /* set by a signal, read by any thread */

static void on_stop(int sig)
{
	/* Again: the user has waited enough. */
	if (ks_cli_signal && ks_cli.cmd->common & KS_CMD_CODE_AFTER_STOP)
		_exit(ks_cli.cmd->map_exit(128 + sig));
	if (ks_cli_signal && sig == SIGINT) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
	ks_cli_signal = sig;
}

void ks_cmd_catch_signals(void)
{
	struct sigaction sa = { .sa_handler = on_stop };
	struct sigaction old;

	sigemptyset(&sa.sa_mask);
	/* Who started us with a signal ignored (nohup, a shell's "&") means it. */
	if (sigaction(SIGINT, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(SIGINT, &sa, NULL);
	if (sigaction(SIGTERM, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(SIGTERM, &sa, NULL);
	/* Inherited as ignored it would make an error message of a reader who has seen enough. */
	signal(SIGPIPE, SIG_DFL);
	/* It asks how far the tool is; before there is an answer it must not end it. */
	if (ks_cli.cmd->common & KS_CMD_PROGRESS)
		signal(SIGUSR1, SIG_IGN);
}

bool ks_cmd_stopped(void)
{
	return ks_cli_signal != 0;
}

bool ks_cmd_stopped_cb(void *unused)
{
	(void)unused;
	return ks_cli_signal != 0;
}

double ks_cmd_seconds(void)
{
	return (double)(ks_clock_mono_ns() - ks_cli.start_mono_ns) / (double)KS_NS_PER_S;
}

int64_t ks_cmd_deadline(void)
{
	return ks_common.max_duration_ns ? ks_cli.start_mono_ns + ks_common.max_duration_ns : 0;
}

bool ks_cmd_wait_busy(int r)
{
	if (r != -EBUSY || ks_cmd_stopped() ||
	    ks_clock_mono_ns() >= ks_cli.start_mono_ns + ks_common.lock_wait_ns)
		return false;
	usleep(200000);
	return true;
}

bool ks_cmd_to_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	char text[64];
	struct stat st;

	if (!stream || fstat(STDERR_FILENO, &st) < 0)
		return false;
	snprintf(text, sizeof(text), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
	return strcmp(stream, text) == 0;
}

/* "<3>", which the journal takes off a line and files it by; "" when nobody would. */
static const char *mark(enum ks_log_level level)
{
	static const char *const marks[] = { "<3>", "<4>", "<6>", "<7>" };
	bool wanted = ks_common.log_format == KS_LOG_JOURNAL ||
		      (ks_common.log_format == KS_LOG_AUTO && ks_cli.journal);

	return wanted ? marks[level] : "";
}

/* C0 and DEL, and C1 as UTF-8 has it: what a terminal may take for an order. */
static bool is_control(const char *p, size_t left)
{
	unsigned char c = (unsigned char)p[0];

	return c < 0x20 || c == 0x7f ||
	       (c == 0xc2 && left > 1 && ((unsigned char)p[1] & 0xe0) == 0x80);
}

/* A message for a terminal: names of files are in it, and those may be anything. Owned; NULL: no memory. */
static char *for_terminal(const char *text)
{
	size_t n = strlen(text), k = 0;
	char *out = malloc(4 * n + 1);

	for (size_t i = 0; out && i < n; i++) {
		if (is_control(text + i, n - i) && text[i] != '\n' && text[i] != '\t')
			k += (size_t)snprintf(out + k, 5, "\\%03o", (unsigned char)text[i]);
		else
			out[k++] = text[i];
	}
	if (out)
		out[k] = '\0';
	return out;
}

const char *ks_cmd_fit(int fd, const char *text, char **owned)
{
	*owned = isatty(fd) || ks_cmd_colored(fd) ? for_terminal(text) : NULL;
	return *owned ? *owned : text;
}

/* The colour of what stands before a message; NULL: none. What a program reads has none. */
static const char *lead_color(enum ks_log_level level, const char *lead, const char *key)
{
	if (level != KS_LOG_ERROR || !*lead || *mark(level) || !ks_cmd_colored(STDERR_FILENO))
		return NULL;
	return strcmp(key, "hint") == 0 ? KS_SGR_LABEL : KS_SGR_BAD;
}

/* Without the blanks around it. */
static void put_lead(const char *lead, const char *sgr)
{
	size_t before = sgr ? strspn(lead, " ") : 0;

	if (sgr)
		fprintf(stderr, "%.*s\033[%sm%.*s\033[" KS_SGR_OFF "m ", (int)before, lead, sgr,
			(int)(strlen(lead) - before - 1), lead + before);
	else
		fputs(lead, stderr);
}

/* One message: as text behind @lead, as JSON in member @key. @where may be NULL. */
static void put(enum ks_log_level level, const char *lead, const char *key, const char *where,
		const char *text)
{
	bool as_json = ks_common.log_format == KS_LOG_JSON;
	KS_AUTO(ks_freep) char *other = NULL;

	if (as_json)
		other = ks_json_log(level, key, where, text);
	else
		text = ks_cmd_fit(STDERR_FILENO, text, &other);
	ks_progress_lock();
	if (as_json) {
		fprintf(stderr, "%s\n", other ? other : "{}");
	} else {
		fputs(mark(level), stderr);
		put_lead(lead, lead_color(level, lead, key));
		fprintf(stderr, "%s\n", text);
	}
	ks_progress_unlock();
}

KS_PRINTF(4, 0)
static void to_stderr(enum ks_log_level level, const char *lead, const char *key, const char *fmt,
		      va_list ap)
{
	char *text = NULL;

	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	put(level, lead, key, NULL, text ? text : "out of memory");
	free(text);
}

void ks_cmd_message(enum ks_log_level level, const char *where, const char *text)
{
	char lead[192];

	if (level == KS_LOG_DEBUG)
		snprintf(lead, sizeof(lead), "%s: %s: ", ks_cmd_name(), where);
	else
		snprintf(lead, sizeof(lead), "%s: ", ks_cmd_name());
	put(level, lead, "message", level == KS_LOG_DEBUG ? where : NULL, text);
}

/* The first one is what the summary says. Needs the terminal's lock. */
KS_PRINTF(2, 0)
static void remember(char **kept, const char *fmt, va_list ap)
{
	if (!*kept && vasprintf(kept, fmt, ap) < 0)
		*kept = NULL;
}

void ks_cmd_error(const char *fmt, ...)
{
	char lead[64];
	va_list ap;

	snprintf(lead, sizeof(lead), "%s: ", ks_cmd_name());
	ks_progress_lock();
	va_start(ap, fmt);
	to_stderr(KS_LOG_ERROR, lead, "message", fmt, ap);
	va_end(ap);
	ks_cli.errors++;
	va_start(ap, fmt);
	remember(&ks_cli.error_text, fmt, ap);
	va_end(ap);
	ks_progress_unlock();
}

void ks_cmd_hint(const char *fmt, ...)
{
	va_list ap;

	ks_progress_lock();
	va_start(ap, fmt);
	to_stderr(KS_LOG_ERROR, "  hint: ", "hint", fmt, ap);
	va_end(ap);
	va_start(ap, fmt);
	if (ks_cli.errors == 1)
		remember(&ks_cli.error_hint, fmt, ap);
	va_end(ap);
	ks_progress_unlock();
}

void ks_cmd_more(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	to_stderr(KS_LOG_ERROR, "", "message", fmt, ap);
	va_end(ap);
}

void ks_cmd_note(const char *fmt, ...)
{
	va_list ap;

	if (ks_common.quiet)
		return;
	va_start(ap, fmt);
	to_stderr(KS_LOG_INFO, "", "message", fmt, ap);
	va_end(ap);
}

KS_PRINTF(3, 0)
static void say(const char *sgr, const char *end, const char *fmt, va_list ap)
{
	KS_AUTO(ks_freep) char *text = NULL;
	KS_AUTO(ks_freep) char *other = NULL;
	KS_AUTO(ks_freep) char *other_end = NULL;

	if (ks_common.quiet || ks_common.json)
		return;
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	end = ks_cmd_fit(STDOUT_FILENO, end, &other_end);
	ks_progress_lock();
	fputs(text ? ks_cmd_fit(STDOUT_FILENO, text, &other) : "out of memory", stdout);
	if (sgr && ks_cmd_colored(STDOUT_FILENO))
		printf("\033[%sm%s\033[" KS_SGR_OFF "m\n", sgr, end);
	else
		puts(end);
	fflush(stdout);
	ks_progress_unlock();
}

void ks_cmd_say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(NULL, "", fmt, ap);
	va_end(ap);
}

void ks_cmd_say_end(const char *sgr, const char *end, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(sgr, end, fmt, ap);
	va_end(ap);
}

void ks_cmd_usage(const char *fmt, ...)
{
	int code = KS_EXIT_USAGE;
	char lead[64];
	va_list ap;

	snprintf(lead, sizeof(lead), "%s: ", ks_cmd_name());
	va_start(ap, fmt);
	to_stderr(KS_LOG_ERROR, lead, "message", fmt, ap);
	va_end(ap);
	if (ks_common.log_format == KS_LOG_JSON)
		ks_cmd_hint("try '%s --help'", ks_cmd_name());
	else
		ks_cmd_short_usage(stderr);
	if (ks_cli.cmd && ks_cli.cmd->map_exit)
		code = ks_cli.cmd->map_exit(code);
	exit(code);
}

/* These say nothing that the text does not: "volume 'x' already exists: File exists". */
static bool says_nothing(int err, const char *text)
{
	switch (-err) {
	case EINVAL:
	case EMEDIUMTYPE:
	case EEXIST:
	case EPROTO:
	case EBADMSG:
	case EBUSY:
	case ENOTEMPTY:
		return true;
	case ENOENT:
		return strncmp(text, "no ", 3) == 0;
	default:
		return false;
	}
}

/* The raised text without an errno that adds nothing; strerror() when what was raised last is another error's. Owned. */
static char *failure_text(int err)
{
	const char *text = ks_fail_text();
	const char *reason = ks_strerror(err);
	size_t n = strlen(text);
	size_t k = strlen(reason);

	if (n == 0)
		return strdup(reason);
	if (n > k + 2 && strcmp(text + n - k, reason) == 0 && says_nothing(err, text))
		return ks_asprintf("%.*s", (int)(n - k - 2), text);
	return strdup(text);
}

int ks_cmd_report(int err)
{
	KS_AUTO(ks_freep) char *text = failure_text(err);
	const char *hint = ks_fail_hint_text();

	if (err == -EINTR && ks_cmd_stopped())
		return KS_EXIT_OK;
	ks_cmd_error("%s", text ? text : "out of memory");
	if (*hint)
		ks_cmd_hint("%s", hint);
	ks_fail_clear();
	return ks_exit_of_errno(err);
}

void ks_cmd_size(uint64_t bytes, char *out)
{
	if (ks_common.bytes)
		snprintf(out, KS_SIZE_STR, "%" PRIu64, bytes);
	else
		ks_size_format(bytes, out);
}

void ks_cmd_duration(uint64_t seconds, char *out)
{
	static const struct {
		const char *name;
		uint64_t seconds;
	} units[] = { { "d", 86400 }, { "h", 3600 }, { "min", 60 }, { "s", 1 } };
	size_t i = 0;

	while (seconds % units[i].seconds)
		i++;
	if (ks_common.bytes)
		snprintf(out, KS_SIZE_STR, "%" PRIu64, seconds);
	else
		snprintf(out, KS_SIZE_STR, "%" PRIu64 " %s", seconds / units[i].seconds,
			 units[i].name);
}

void ks_cmd_put_name(const char *p, size_t n, bool escape)
{
	for (size_t i = 0; i < n; i++) {
		if (escape && is_control(p + i, n - i))
			printf("\\%03o", (unsigned char)p[i]);
		else
			putchar(p[i]);
	}
}

const char *ks_cmd_kind(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFREG:
		return "file";
	case S_IFIFO:
		return "fifo";
	case S_IFSOCK:
		return "socket";
	case S_IFCHR:
		return "chardev";
	default:
		return "blockdev";
	}
}

static void die_of(int sig)
{
	sigset_t set;

	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
}

static bool dies_of_signal(void)
{
	return ks_cli_signal && !(ks_cli.cmd->common & KS_CMD_CODE_AFTER_STOP);
}

int ks_cmd_code(int r)
{
	int code = r < 0 ? ks_exit_of_errno(r) : r;

	if (dies_of_signal())
		code = 128 + ks_cli_signal;
	return ks_cli.cmd && ks_cli.cmd->map_exit ? ks_cli.cmd->map_exit(code) : code;
}

int ks_cmd_exit(int r)
{
	int code = r < 0 ? ks_cmd_report(r) : r;
	bool raise_it = dies_of_signal();

	ks_progress_stop();
	/* What a reader who left did not take is no failure of ours. */
	if (r == -EPIPE)
		die_of(SIGPIPE);
	code = ks_cmd_code(code);
	if (ks_cmd_write_metrics(code) < 0) {
		int bad = ks_cmd_report(-EIO);

		code = ks_cli.cmd->map_exit ? code | ks_cli.cmd->map_exit(bad)
					    : ks_exit_worse(code, bad);
	}
	ks_json_finish(code);
	if (fflush(stdout) || ferror(stdout)) {
		ks_cmd_error("cannot write the output: %s", ks_strerror(errno));
		code = ks_exit_worse(code, KS_EXIT_IOERR);
	}
	if (raise_it)
		die_of(ks_cli_signal);
	free(ks_cli.error_text);
	free(ks_cli.error_hint);
	ks_cli.error_text = NULL;
	ks_cli.error_hint = NULL;
	free(ks_cli.volume);
	ks_cli.volume = NULL;
	return code;
}
