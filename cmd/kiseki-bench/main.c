/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-bench: how fast a mount, a volume or a store is; what is read is compared. */
#include "base/log.h"
#include "base/size.h"
#include "bench.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/parts.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct {
	const char *data, *baseline;
	uint64_t big, small, files, io;
	double tolerance;
} arg = { .big = KS_GIB, .small = 128 * 1024, .files = 100, .io = KS_MIB, .tolerance = 0.2 };

static _Atomic uint64_t done; /* for the progress line */

static const char *set_tolerance(const char *value)
{
	char *end = NULL;
	double p = strtod(value, &end);

	if (end == value || (*end && strcmp(end, "%") != 0) || p < 0 || p >= 100)
		return "a share is wanted: 0% to 99%";
	arg.tolerance = p / 100;
	return NULL;
}

static const struct ks_opt opts[] = {
	KS_OPT_STRING_CMD(0, "data", "URL", &arg.data,
			  "measure a place for blocks, file:///DIR, without a volume"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "big-size",
	  .arg = "SIZE",
	  .value = &arg.big,
	  .min = 1,
	  .help = "size of the big file (1G)" },
	{ .kind = KS_OPT_K_SIZE,
	  .name = "small-size",
	  .arg = "SIZE",
	  .value = &arg.small,
	  .min = 1,
	  .help = "size of each small file (128k)" },
	KS_OPT_INTEGER(0, "small-files", 1, 900000, &arg.files, "how many small files (100)"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "io-size",
	  .arg = "SIZE",
	  .value = &arg.io,
	  .min = 4096,
	  .max = 64 * KS_MIB,
	  .help = "size of one write or read (1M), a multiple of 4k" },
	KS_OPT_GROUP("Comparison"),
	KS_OPT_STRING_CMD(0, "baseline", "FILE", &arg.baseline,
			  "output of an earlier run with --json; exit 4 when a row is worse"),
	KS_OPT_CALL(0, "tolerance", "P%", set_tolerance,
		    "how much worse a row may be than the baseline (20%)"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-bench",
	.usage = "[OPTIONS] [DIRECTORY|VOLUME]\n[OPTIONS] --data=URL",
	.about = "Measure how fast files are written and read, and compare what is read.",
	.operands = "  DIRECTORY   a mount point, or any directory, which must contain a slash\n"
		    "  VOLUME      a volume, without a mount; default: $KISEKI_VOLUME",
	.examples = "kiseki-bench /mnt/photos\n"
		    "kiseki-bench --json photos >before.json\n"
		    "kiseki-bench --baseline=before.json --tolerance=30% photos",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS | KS_CMD_CONFIG,
	.max_args = 1,
	.features = ks_volume_features,
};

static void progress(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	out->done_bytes = atomic_load(&done);
	out->total_bytes = 2 * (arg.big + arg.small * arg.files);
}

static int measure(const struct ks_bench_place *place, double per_s[KS_BENCH_ROWS])
{
	struct ks_bench_opts o = {
		.big_bytes = arg.big,
		.small_bytes = arg.small,
		.small_files = arg.files,
		.io_bytes = arg.io,
		.stop = ks_cmd_stopped_cb,
		.done = &done,
	};
	int r;

	ks_progress_start("measuring", progress, NULL);
	r = ks_bench_run(place, &o, per_s);
	ks_progress_stop();
	return r;
}

static int measure_volume(const char *operand, double per_s[KS_BENCH_ROWS])
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_opts vo = { .session = KS_SESSION_TOOL, .tool = "kiseki-bench" };
	struct ks_volume *v = NULL;
	int r = ks_volume_open_named(&v, operand, NULL, &find, &vo), closed;

	if (r == 0) {
		ks_meta_no_trash(v->meta);
		r = measure(&(struct ks_bench_place){ .volume = v }, per_s);
	}
	closed = ks_volume_close(v);
	return r < 0 ? r : closed;
}

static int measure_store(double per_s[KS_BENCH_ROWS])
{
	KS_AUTO(ks_object_closep) struct ks_object *store = NULL;
	int r = ks_store_open_bare(&store, arg.data);

	return r < 0 ? r : measure(&(struct ks_bench_place){ .store = store }, per_s);
}

static bool is_directory(const char *operand)
{
	struct stat st;

	return operand && strchr(operand, '/') && stat(operand, &st) == 0 && S_ISDIR(st.st_mode);
}

int main(int argc, char **argv)
{
	KS_AUTO(baseline_clear) struct baseline base = { 0 };
	double per_s[KS_BENCH_ROWS] = { 0 };
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int r = 0;

	if (arg.data && n > 0)
		ks_cmd_usage("--data measures a store: '%s' is too much", args[0]);
	if (arg.io % 4096)
		ks_cmd_usage("option '--io-size': a multiple of 4k is wanted");
	if (arg.baseline)
		r = baseline_read(&base, arg.baseline);
	if (r == 0 && arg.data)
		r = measure_store(per_s);
	else if (r == 0 && is_directory(args[0]))
		r = measure(&(struct ks_bench_place){ .dir = args[0] }, per_s);
	else if (r == 0)
		r = measure_volume(args[0], per_s);
	if (r < 0)
		return ks_cmd_exit(r);
	return ks_cmd_exit(print_rows(per_s, arg.baseline ? &base : NULL, arg.tolerance));
}
