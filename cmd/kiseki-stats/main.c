/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-stats: the counters of mounts: lines that scroll, JSON, or Prometheus text. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "stats.h"
#include "volume/control.h"
#include "volume/mountlist.h"
#include "volume/volume.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWER_NS (5 * KS_NS_PER_S) /* a mount that is busy answers later than one that is not */
#define HEADER_EVERY 20

static struct {
	bool prometheus;
	const char *output;
	/* operands */
	int64_t interval_ns;
	uint64_t count; /* 0: no end */
} arg = { .interval_ns = KS_NS_PER_S };

static const struct ks_opt opts[] = {
	KS_OPT_FLAG(0, "prometheus", &arg.prometheus,
		    "the counters as OpenMetrics text, to be scraped"),
	KS_OPT_STRING_CMD('o', "output", "FILE", &arg.output,
			  "with --prometheus: replace FILE, at once, and anew every INTERVAL"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-stats",
	.usage = "[OPTIONS] [MOUNTPOINT|VOLUME]... [INTERVAL [COUNT]]",
	.about = "Show what mounts do, a line per INTERVAL.",
	.operands = "  MOUNTPOINT|VOLUME  which mounts of this machine; without any: all of them\n"
		    "  INTERVAL           1s, 500ms, ...; without it, one line for one second\n"
		    "  COUNT              how many lines; without it, until interrupted",
	.examples = "kiseki-stats /mnt/photos 1\n"
		    "kiseki-stats --json photos 10s 6\n"
		    "kiseki-stats --prometheus -o /run/metrics/kiseki.prom 15s",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_BYTES | KS_CMD_CONFIG,
	.max_args = -1,
	.features = ks_volume_features,
};

/* ---- operands ---- */

/* A number, perhaps with a unit; "2024" is one, "./2024" and "photos" are not. */
static bool is_number(const char *word)
{
	return isdigit((unsigned char)word[0]) && !strpbrk(word, "/:");
}

/* Takes INTERVAL and COUNT off the end of the operands; how many are left. */
static int take_numbers(char **args, int n)
{
	int numbers = n > 0 && is_number(args[n - 1]) ? 1 : 0;
	char *end = NULL;

	if (numbers && n > 1 && is_number(args[n - 2]))
		numbers = 2;
	arg.count = numbers ? 0 : 1;
	if (numbers && (ks_duration_parse(args[n - numbers], &arg.interval_ns) < 0 ||
			arg.interval_ns < 10 * KS_NS_PER_MS))
		ks_cmd_usage("'%s' is not an interval: 1, 500ms, 10s, 1m; at least 10ms",
			     args[n - numbers]);
	if (numbers == 2) {
		errno = 0;
		arg.count = strtoumax(args[n - 1], &end, 10);
		if (*end || errno || arg.count == 0)
			ks_cmd_usage("'%s' is not a count: a whole number, at least 1",
				     args[n - 1]);
	}
	return n - numbers;
}

static void check_options(bool repeated)
{
	if (arg.output && !arg.prometheus)
		ks_cmd_usage("-o is for --prometheus");
	if (arg.prometheus && ks_common.json && !arg.output)
		ks_cmd_usage("--prometheus and --json exclude each other, but for -o FILE");
	if (arg.prometheus && repeated && !arg.output)
		ks_cmd_usage("--prometheus with an interval needs -o FILE");
}

/* ---- mounts ---- */

struct targets {
	struct target *v;
	size_t n;
};

static void target_clear(struct target *t)
{
	free(t->dir);
	free(t->socket);
	json_decref(t->last);
	json_decref(t->now);
}

static void targets_clear(struct targets *all)
{
	for (size_t i = 0; i < all->n; i++)
		target_clear(&all->v[i]);
	free(all->v);
}

static int find(struct targets *all, struct ks_mount_entry *e)
{
	struct ks_control_found found = { 0 };
	struct target *t = &all->v[all->n];
	bool quiet = ks_fail_quiet(true);
	int r = ks_control_find(&found, e->dev, e->uid);

	ks_fail_quiet(quiet);
	if (r < 0) {
		ks_fail_clear();
		return ks_fail_hint(-ECONNREFUSED,
				    "only the user who mounted, and root, are answered",
				    "the mount at %s does not answer", e->dir);
	}
	*t = (struct target){ .dir = ks_steal(&e->dir), .socket = found.path, .pid = found.pid };
	all->n++;
	return 0;
}

/* The first mistake ends it: who names a mount wants that one. Of all there are, those that answer. */
static int find_all(struct targets *all, char **args, int n)
{
	KS_AUTO(ks_mount_list_clear) struct ks_mount_list list = { 0 };
	int r = ks_mount_list_read(&list);

	for (int i = 0; i < n && r == 0; i++)
		r = ks_mount_list_choose(&list, args[i], ks_common.config);
	all->v = calloc(list.n + 1, sizeof(*all->v));
	if (!all->v)
		return -ENOMEM;
	for (size_t i = 0; i < list.n && r == 0; i++) {
		if (n > 0 && !list.v[i].chosen)
			continue;
		r = find(all, &list.v[i]);
		if (r < 0 && n == 0) {
			ks_cmd_note("%s", ks_fail_text());
			r = 0;
		}
	}
	if (r == 0 && all->n == 0)
		r = ks_fail_hint(-ENOENT, "kiseki-mount makes one",
				 "no mount of Kiseki on this machine answers");
	return r;
}

/* ---- looks ---- */

static int look(struct target *t)
{
	KS_AUTO(ks_freep) char *text = NULL;
	int r = ks_control_call(t->socket, "stats", ANSWER_NS, &text);
	json_t *o = r == 0 ? json_loads(text, 0, NULL) : NULL;

	/* Another process may have the name of the socket by now. */
	if (r == 0 && (!o || json_integer_value(json_object_get(o, "pid")) != t->pid))
		r = -ECONNREFUSED;
	if (r < 0) {
		json_decref(o);
		return r;
	}
	json_decref(t->last);
	t->last = t->now;
	t->last_ns = t->now_ns;
	t->now = o;
	t->now_ns = ks_clock_mono_ns();
	return 0;
}

/* All of them; one that has ended is said once and left out. How many remain. */
static size_t look_at_all(struct targets *all, int *code)
{
	size_t kept = 0;

	for (size_t i = 0; i < all->n; i++) {
		bool quiet = ks_fail_quiet(true);
		int r = look(&all->v[i]);

		ks_fail_quiet(quiet);
		if (r == 0) {
			all->v[kept++] = all->v[i];
			continue;
		}
		ks_cmd_error("the mount at %s does not answer any more: %s", all->v[i].dir,
			     ks_strerror(r));
		*code = ks_exit_worse(*code, KS_EXIT_PARTIAL);
		target_clear(&all->v[i]);
	}
	return all->n = kept;
}

/* False: the user has had enough. */
static bool wait_until(int64_t deadline)
{
	while (!ks_cmd_stopped()) {
		int64_t left = deadline - ks_clock_mono_ns();
		struct timespec ts = { .tv_sec = left / KS_NS_PER_S,
				       .tv_nsec = left % KS_NS_PER_S };

		if (left <= 0)
			return true;
		/* A signal ends it early. */
		nanosleep(&ts, NULL);
	}
	return false;
}

static void print_all(struct targets *all, uint64_t lines, bool several)
{
	static uint64_t since; /* lines below the last header */

	if (ks_common.quiet)
		return;
	if (!ks_common.json && (lines == 0 || (isatty(STDOUT_FILENO) && since >= HEADER_EVERY))) {
		print_header(several);
		since = 0;
	}
	for (size_t i = 0; i < all->n; i++) {
		if (ks_common.json)
			print_json(&all->v[i]);
		else
			print_line(&all->v[i], several);
		since++;
	}
}

static int scroll(struct targets *all, uint64_t *lines)
{
	bool several = all->n > 1;
	int code = 0;
	int64_t next = ks_clock_mono_ns() + arg.interval_ns;

	look_at_all(all, &code);
	while (all->n > 0 && (arg.count == 0 || *lines < arg.count) && wait_until(next)) {
		next += arg.interval_ns;
		if (look_at_all(all, &code) == 0)
			break;
		print_all(all, (*lines)++, several);
		if (ferror(stdout))
			return -EPIPE;
	}
	return all->n == 0 ? KS_EXIT_UNAVAILABLE : code;
}

/* ---- Prometheus ---- */

static int metrics(struct targets *all, struct ks_buf *out)
{
	json_t **stats = calloc(all->n, sizeof(*stats));
	int r;

	if (!stats)
		return -ENOMEM;
	for (size_t i = 0; i < all->n; i++)
		stats[i] = all->v[i].now;
	r = ks_metrics_of(stats, all->n, out);
	free(stats);
	return r;
}

static int export(struct targets *all, uint64_t *lines)
{
	int64_t next = ks_clock_mono_ns();
	int code = 0, r = 0;

	do {
		struct ks_buf text = { 0 };

		next += arg.interval_ns;
		if (look_at_all(all, &code) == 0)
			code = KS_EXIT_UNAVAILABLE;
		/* Without a mount there are no samples: the old ones must not stay. */
		r = metrics(all, &text);
		if (r == 0 && arg.output)
			r = ks_buf_to_file(&text, arg.output);
		else if (r == 0 && !ks_common.quiet)
			fwrite(text.p, 1, text.n, stdout);
		ks_buf_clear(&text);
		++*lines;
	} while (r == 0 && all->n > 0 && (arg.count == 0 || *lines < arg.count) &&
		 wait_until(next));
	return r < 0 ? r : code;
}

int main(int argc, char **argv)
{
	KS_AUTO(targets_clear) struct targets all = { 0 };
	uint64_t lines = 0;
	size_t mounts;
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int left = take_numbers(args, n);
	int r;

	check_options(left < n);
	r = find_all(&all, args, left);
	mounts = all.n;
	if (r == 0)
		r = arg.prometheus ? export(&all, &lines) : scroll(&all, &lines);
	if (r < 0 && r != -EPIPE)
		r = ks_cmd_report(r);
	ks_json_summary("counts", KS_JSON_COUNTS({ "mounts", mounts }, { "lines", lines }));
	return ks_cmd_exit(r);
}
