/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics.c: --metrics-file: when a tool that cron runs ended, and how, as Prometheus' text for a collector of such files.
 * A run that failed must not make the last success forgotten: its time is taken over from the file as it was.
 */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "cli/state.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* What the volume is called. One that was not opened: the operand, when it is a name and no path or URL. */
static const char *volume(void)
{
	const char *word = *ks_cli.args ? *ks_cli.args : "";

	return ks_cli.volume ? ks_cli.volume : strpbrk(word, "/:@") ? "" : word;
}

/* "kiseki_gc" */
static void prefix(char *out, size_t n)
{
	snprintf(out, n, "%s", ks_cmd_name());
	for (char *p = out; *p; p++) {
		if (*p == '-')
			*p = '_';
	}
}

static int put_label(struct ks_buf *b, const char *text)
{
	int r = ks_buf_printf(b, "{volume=\"");

	for (const char *p = text; r == 0 && *p; p++) {
		if (*p == '\n')
			r = ks_buf_printf(b, "\\n");
		else
			r = ks_buf_printf(b, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
	}
	return r < 0 ? r : ks_buf_printf(b, "\"}");
}

/* The labels and the time of the last success that the file tells of. False: none. */
static bool last_success(const char *metric, char **labels, int64_t *when)
{
	FILE *f = fopen(ks_common.metrics_file, "re");
	KS_AUTO(ks_freep) char *line = NULL;
	size_t n = strlen(metric), cap = 0;
	bool found = false;

	while (f && !found && getline(&line, &cap, f) > 0) {
		char *value = strrchr(line, ' ');

		if (!value || strncmp(line, metric, n) != 0 || line[n] != '{')
			continue;
		*when = strtoll(value, NULL, 10);
		if (*when > 0)
			*labels = strndup(line + n, (size_t)(value - line) - n);
		found = *labels != NULL;
	}
	if (f)
		fclose(f);
	return found;
}

static int64_t now(void)
{
	return (int64_t)(ks_clock_real_ns() / KS_NS_PER_S);
}

static int put(struct ks_buf *b, const char *tool, const char *name, const char *help,
	       const char *labels, const char *value)
{
	return ks_buf_printf(b, "# HELP %s_%s %s\n# TYPE %s_%s gauge\n%s_%s%s %s\n", tool, name,
			     help, tool, name, tool, name, labels, value);
}

static int put_all(struct ks_buf *b, const char *tool, const char *labels, int code,
		   int64_t success)
{
	char value[64];
	int r;

	snprintf(value, sizeof(value), "%" PRId64, now());
	r = put(b, tool, "last_run_timestamp_seconds", "When the last run ended.", labels, value);
	snprintf(value, sizeof(value), "%" PRId64, success);
	if (r == 0 && success)
		r = put(b, tool, "last_success_timestamp_seconds",
			"When the last run that exited with 0 ended.", labels, value);
	snprintf(value, sizeof(value), "%d", code);
	if (r == 0)
		r = put(b, tool, "last_exit_code", "What the last run exited with.", labels, value);
	snprintf(value, sizeof(value), "%.3f", ks_cmd_seconds());
	if (r == 0)
		r = put(b, tool, "last_duration_seconds", "How long the last run took.", labels,
			value);
	return r;
}

int ks_cmd_write_metrics(int code)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf label = { 0 };
	KS_AUTO(ks_freep) char *old = NULL;
	const char *labels = "";
	char tool[64], metric[128];
	int64_t success = 0;
	bool known;
	int r;

	if (!ks_common.metrics_file)
		return 0;
	prefix(tool, sizeof(tool));
	snprintf(metric, sizeof(metric), "%s_last_success_timestamp_seconds", tool);
	known = last_success(metric, &old, &success);
	/* A volume that could not be opened has the name that it had. */
	r = put_label(&label, volume());
	if (r == 0)
		r = ks_buf_cstr(&label, &labels);
	if (!ks_cli.volume && known)
		labels = old;
	if (code == 0)
		success = now();
	if (r == 0)
		r = put_all(&b, tool, labels, code, success);
	return r < 0 ? ks_fail(r, "make the metrics") : ks_buf_to_file(&b, ks_common.metrics_file);
}
