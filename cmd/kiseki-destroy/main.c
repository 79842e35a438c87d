/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-destroy: delete a volume, with all that is in it. */
#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/destroy.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool keep_data;

static struct ks_destroy d; /* also for the progress line */

static const struct ks_opt opts[] = {
	KS_OPT_FLAG_CMD(0, "keep-data", &keep_data, "delete the metadata only, leave the objects"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-destroy",
	.usage = "[OPTIONS] VOLUME",
	.about = "Delete a volume with all that is in it, for ever.",
	.operands = "  VOLUME   NAME, metadata URL or database file; there is no default",
	.examples = "kiseki-destroy -n scratch\n"
		    "kiseki-destroy scratch\n"
		    "kiseki-destroy --yes scratch",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_CONFIG | KS_CMD_YES | KS_CMD_BATCH | KS_CMD_LOCK_WAIT,
	.min_args = 1,
	.max_args = 1,
	.features = ks_volume_features,
};

/* ---- what it says ---- */

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = d.objects, .done_bytes = d.bytes };
}

static void on_item(void *unused, const char *key, uint64_t bytes)
{
	const char *action = ks_common.dry_run ? "would delete" : "deleted";

	(void)unused;
	if (!ks_common.verbose)
		return;
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:s,s:I}", "type", "item", "action", action,
				       "object", key, "bytes", (json_int_t)bytes),
			     NULL, NULL);
	} else {
		ks_cmd_say("%s %s", action, key);
	}
}

static void describe(FILE *f, const char *name)
{
	char size[KS_SIZE_STR];
	char uuid[KS_UUID_STR];

	ks_cmd_size(d.usage.used_bytes, size);
	ks_uuid_format(d.m.settings->uuid, uuid);
	fprintf(f,
		"volume    %s  %s%s\n"
		"metadata  %s\n"
		"data      %s%s\n"
		"holds     %" PRIu64 " files and directories, %s\n",
		name, uuid, d.begun ? "  (partly destroyed already)" : "", d.ref.shown_url,
		d.m.data_url, keep_data ? "  (stays)" : "", d.usage.inodes, size);
}

/* ---- asking ---- */

/* Only who types the name means this volume. */
static bool confirm(const char *name)
{
	if (ks_common.yes)
		return true;
	ks_cmd_must_ask("--yes destroys without asking");
	describe(stderr, name);
	return ks_cmd_ask_word(name, "there is no way back; the name of the volume to destroy");
}

/* ---- running ---- */

static int done(int r, const char *name)
{
	char size[KS_SIZE_STR];

	ks_cmd_size(d.bytes, size);
	if (r == -EINTR) {
		ks_cmd_error("%s is partly destroyed: %" PRIu64 " objects are gone", name,
			     d.objects);
		ks_cmd_hint("run it again to finish");
		return KS_EXIT_LIMIT;
	}
	if (r < 0)
		return ks_cmd_report(r);
	ks_cmd_say("%s %s: %" PRIu64 " objects, %s%s",
		   ks_common.dry_run ? "would destroy" : "destroyed", name, d.objects, size,
		   ks_common.dry_run ? "; dry run: nothing changed" : "");
	if (d.unknown || d.left)
		ks_cmd_note("%s: %" PRIu64 " objects and files that are not Kiseki's stay",
			    d.m.data_url, ks_max(d.unknown, (uint64_t)1));
	if (keep_data && !ks_common.dry_run)
		ks_cmd_note("%s: the objects stay", d.m.data_url);
	return KS_EXIT_OK;
}

static int destroy(const struct ks_volume_ref *ref)
{
	const struct ks_destroy_opts o = { .keep_data = keep_data,
					   .dry_run = ks_common.dry_run,
					   .stop = ks_cmd_stopped_cb,
					   .item = on_item };
	char name[64];
	int r;

	do
		r = ks_destroy_open(&d, ref, &o);
	while (ks_cmd_wait_busy(r));
	if (r < 0)
		return ks_cmd_report(r);
	ks_json_volume(d.m.settings->name, d.m.settings->uuid, d.ref.shown_url);
	snprintf(name, sizeof(name), "%s", d.m.settings->name);
	if (ks_common.dry_run && !ks_common.quiet && !ks_common.json)
		describe(stdout, name);
	if (!ks_common.dry_run && !confirm(name)) {
		ks_cmd_error("that is not its name: nothing was destroyed");
		return KS_EXIT_USAGE;
	}
	ks_progress_start("destroy", how_far, NULL);
	r = ks_destroy_run(&d);
	ks_progress_stop();
	return done(r, name);
}

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .no_default = true, .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	char **args;
	int code;
	int r;

	ks_cmd_parse(&cmd, argc, argv, &args);
	find.config = ks_common.config;
	r = ks_volume_resolve(&ref, args[0], &find);
	code = r < 0 ? ks_cmd_report(r) : destroy(&ref);
	ks_json_summary("counts", KS_JSON_COUNTS({ "objects", d.objects }, { "bytes", d.bytes },
						 { "unknown", d.unknown }));
	ks_destroy_close(&d);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(code);
}
