/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logsink.c: where a mount's messages go: --log-file; without it the journal when stderr is its, the terminal in the foreground, the system's
 * log in the background.
 */
#include "base/clock.h"
#include "base/log.h"
#include "cli/json.h"
#include "mount.h"
#include <string.h>
#include <syslog.h>

static struct mount_logfile file = MOUNT_LOGFILE("log file", 0640);

static enum ks_log_level level(void)
{
	return ks_common.verbose > 1 ? KS_LOG_DEBUG : ks_common.quiet ? KS_LOG_ERROR : KS_LOG_INFO;
}

/* A full disk must not stop the file system. */
static void put(const char *line, size_t n)
{
	size_t off = 0;

	KS_IGNORE(mount_logfile_write(&file, line, n, &off) < 0);
}

static void to_file(void *unused, enum ks_log_level l, const char *where, const char *text)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char when[KS_TIME_STR], line[2560];
	int n;

	(void)unused;
	if (ks_common.log_format == KS_LOG_JSON) {
		KS_AUTO(ks_freep)
		char *json = ks_json_log(l, "message", l == KS_LOG_DEBUG ? where : NULL, text);
		KS_AUTO(ks_freep) char *whole = json ? ks_asprintf("%s\n", json) : NULL;

		if (whole)
			put(whole, strlen(whole));
		return;
	}
	ks_time_format(ks_clock_real_ns(), when);
	if (l == KS_LOG_DEBUG)
		n = snprintf(line, sizeof(line), "%s %s %s: %s\n", when, names[l], where, text);
	else
		n = snprintf(line, sizeof(line), "%s %s %s\n", when, names[l], text);
	if (n >= (int)sizeof(line))
		n = (int)sizeof(line) - 1;
	put(line, (size_t)n);
}

static void to_syslog(void *unused, enum ks_log_level l, const char *where, const char *text)
{
	static const int levels[] = { LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

	(void)unused;
	(void)where;
	syslog(levels[l], "%s: %s", arg.mountpoint, text);
}

int mount_log_open(void)
{
	return arg.log_file ? mount_logfile_open(&file, arg.log_file) : 0;
}

void mount_log_to_daemon(void)
{
	if (arg.log_file) {
		ks_log_set(to_file, NULL, level());
	} else if (ks_cmd_to_journal()) {
		ks_cmd_log(level());
	} else if (!arg.foreground) {
		openlog("kiseki-mount", LOG_PID, LOG_DAEMON);
		ks_log_set(to_syslog, NULL, level());
	}
}

void mount_log_reopen(void)
{
	if (arg.log_file)
		mount_logfile_reopen(&file);
}
