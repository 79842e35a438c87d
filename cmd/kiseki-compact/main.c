/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-compact: files that were written in many small pieces become files of few. */
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/compact.h"
#include "volume/last.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

static struct {
	uint64_t min_slices;
	uint32_t min_gain;
} arg = { .min_slices = 8, .min_gain = 20 };

static struct ks_compaction done; /* also for the progress line */

static const char *set_min_gain(const char *value)
{
	char *end;
	unsigned long n;

	errno = 0;
	n = strtoul(value, &end, 10);
	if (end == value || *value < '0' || *value > '9' || errno || n > 100 ||
	    (*end && (end[0] != '%' || end[1])))
		return "accepted is a percentage from 0% to 100%";
	arg.min_gain = (uint32_t)n;
	return NULL;
}

static const struct ks_opt opts[] = {
	KS_OPT_INTEGER(0, "min-slices", 2, 1u << 30, &arg.min_slices,
		       "only chunks with so many slices or more (8)"),
	KS_OPT_CALL(0, "min-gain", "P%", set_min_gain,
		    "leave a chunk if less of its slices, or their bytes, would go (20%)"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-compact",
	.usage = "[OPTIONS] [VOLUME[:/PATH]]",
	.about = "Make files that were written in many small pieces fast to read. For cron.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point\n"
		    "  PATH     only this file, or what is below this directory",
	.examples = "kiseki-compact photos\n"
		    "kiseki-compact --check photos\n"
		    "kiseki-compact -q --max-duration=2h photos:/databases",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_CONFIG | KS_CMD_LOCK_WAIT | KS_CMD_MAX_DURATION |
		  KS_CMD_CHECK | KS_CMD_METRICS,
	.max_args = 1,
	.features = ks_volume_features,
};

/* ---- what it says ---- */

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = done.scanned, .done_bytes = done.bytes };
}

static void on_item(void *unused, ks_ino_t ino, uint64_t chunk, const struct ks_compact_result *r)
{
	const char *action = ks_common.dry_run ? "would compact" : "compacted";

	(void)unused;
	if (!ks_common.verbose)
		return;
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I}", "type", "item", "action",
				       action, "inode", (json_int_t)ino, "chunk", (json_int_t)chunk,
				       "before", (json_int_t)r->before, "after",
				       (json_int_t)r->after, "bytes", (json_int_t)r->bytes),
			     NULL, NULL);
	} else {
		ks_cmd_say("%s inode %ju chunk %ju: %u to %u slices", action, (uintmax_t)ino,
			   (uintmax_t)chunk, r->before, r->after);
	}
}

static void on_failed(void *unused, ks_ino_t ino, uint64_t chunk, int err)
{
	char path[64];

	(void)unused;
	snprintf(path, sizeof(path), "inode %ju chunk %ju", (uintmax_t)ino, (uintmax_t)chunk);
	ks_cmd_error("%s stays as it is: %s", path,
		     *ks_fail_text() ? ks_fail_text() : ks_strerror(err));
	ks_cmd_hint("kiseki-fsck --data=read names the files that are damaged");
	ks_json_error(path, "compact", err, ks_fail_text());
}

static void summarise(void)
{
	json_t *j = KS_JSON_COUNTS({ "scanned_chunks", done.scanned },
				   { "compacted_chunks", done.compacted },
				   { "slices_before", done.before }, { "slices_after", done.after },
				   { "bytes", done.bytes }, { "failed", done.failed });

	if (j) {
		json_object_set_new(j, "packs",
				    KS_JSON_COUNTS({ "packs", done.packs.packs },
						   { "bytes", done.packs.bytes },
						   { "copied", done.packs.copied }));
	}
	ks_json_summary("counts", j);
}

static void print_result(const char *volume)
{
	char size[KS_SIZE_STR];
	char packs[KS_SIZE_STR];

	ks_cmd_size(done.bytes, size);
	ks_cmd_size(done.packs.bytes, packs);
	ks_cmd_say("%s: %s %" PRIu64 " of %" PRIu64 " chunks (%" PRIu64 " to %" PRIu64
		   " slices), %s %s, %" PRIu64 " failed, %.1f s%s",
		   volume, ks_common.dry_run ? "would compact" : "compacted", done.compacted,
		   done.scanned, done.before, done.after,
		   ks_common.dry_run ? "would rewrite" : "rewrote", size, done.failed,
		   ks_cmd_seconds(), done.limited ? "; stopped at a limit" : "");
	if (done.packs.packs) {
		ks_cmd_say("%s: %s %" PRIu64 " packs with little alive in them (%s)", volume,
			   ks_common.dry_run ? "would replace" : "replaced", done.packs.packs,
			   packs);
	}
	if (ks_common.dry_run)
		ks_cmd_say("dry run: nothing changed");
}

/* ---- running ---- */

static int compact(struct ks_volume *v, const char *path)
{
	struct ks_compaction_opts o = { .min_slices = (uint32_t)arg.min_slices,
					.min_gain = arg.min_gain,
					.deadline_ns = ks_cmd_deadline(),
					.dry_run = ks_common.dry_run,
					.stopped = ks_cmd_stopped_cb,
					.item = on_item,
					.failed = on_failed };
	int r;

	ks_progress_start("compact", how_far, NULL);
	r = ks_compaction(v, path, &o, &done);
	ks_progress_stop();
	return r;
}

static int exit_code(void)
{
	int code = KS_EXIT_OK;

	if (done.failed)
		code = ks_exit_worse(code, KS_EXIT_PARTIAL);
	if (done.limited)
		code = ks_exit_worse(code, KS_EXIT_LIMIT);
	if (ks_common.check && (done.compacted || done.packs.packs))
		code = ks_exit_worse(code, KS_EXIT_FINDINGS);
	return code;
}

/* An exit code. */
static int run(const char *operand)
{
	const struct ks_volume_find find = { .config = ks_common.config,
					     .defaults = ks_cmd_default };
	const struct ks_volume_opts vo = { .readonly = ks_common.dry_run,
					   .session = ks_common.dry_run ? 0 : KS_SESSION_TOOL,
					   .tool = "kiseki-compact",
					   .data = { .buffer_bytes = 64 * KS_MIB } };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	int code, r;

	do
		r = ks_volume_open_named(&v, operand, &path, &find, &vo);
	while (ks_cmd_wait_busy(r));
	if (r == 0) {
		ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
		r = compact(v, path);
	}
	/* Before closing raises anything else. */
	code = r < 0 ? ks_cmd_report(r) : exit_code();
	if (r == 0)
		print_result(v->settings->name);
	if (v && !ks_common.dry_run && ks_last_is_whole(path))
		ks_last_note(v->meta, KS_TOOL_COMPACT, ks_cmd_code(code));
	r = ks_volume_close(ks_steal(&v));
	return r < 0 ? ks_exit_worse(code, ks_cmd_report(r)) : code;
}

int main(int argc, char **argv)
{
	char **args;
	int code;

	ks_cmd_parse(&cmd, argc, argv, &args);
	code = run(args[0]);
	summarise();
	return ks_cmd_exit(code);
}
