/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-fsck, fsck.kiseki: check a volume, and repair it. */
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "fsck.h"
#include "volume/last.h"
#include <errno.h>
#include <string.h>

/* fsck(8) */
enum {
	BIT_FIXED = 1,
	BIT_LEFT = KS_FSCK_EXIT_LEFT,
	BIT_OPERATION = 8,
	BIT_USAGE = 16,
	BIT_CANCELLED = 32
};
/* Marks an exit code that is made of these already. */
#define BITS 0x1000

static struct {
	bool preen, automatic;
	bool full; /* it always is */
	struct ks_fsck_sample sample;
	bool sampled, read;
	uint64_t fd;
} arg = { .fd = UINT64_MAX };

static const char *const data_names[] = { "exists", "read", NULL };

static const char *set_data(const char *value)
{
	if (value && strcmp(value, "exists") != 0 && strcmp(value, "read") != 0)
		return "accepted are exists and read";
	arg.read = value && strcmp(value, "read") == 0;
	return NULL;
}

static const char *set_sample(const char *value)
{
	arg.sampled = true;
	return parse_sample(value, &arg.sample);
}

static const struct ks_opt opts[] = {
	KS_OPT_GROUP("Repairs"),
	KS_OPT_FLAG_CMD('p', "preen", &arg.preen, "repair what loses nothing"),
	KS_OPT_FLAG_CMD('a', NULL, &arg.automatic, "the same as -p"),
	KS_OPT_FLAG_CMD('y', "yes", &ks_common.yes,
			"repair everything; damaged files go to /.lost+found"),
	KS_OPT_GROUP("Checks"),
	KS_OPT_FLAG_CMD('f', NULL, &arg.full, "a full check, as always here; for fsck(8)"),
	{ .kind = KS_OPT_K_CALL,
	  .name = "data",
	  .arg = "HOW",
	  .call = set_data,
	  .names = data_names,
	  .flags = KS_OPT_OPTIONAL,
	  .help = "exists: every block is there (the default); read: read them all and compare "
		  "checksums" },
	KS_OPT_CALL(0, "sample", "PART", set_sample,
		    "with --data=read, only 5% at random, or the 3/30th part, or 10G at random"),
	{ .kind = KS_OPT_K_INTEGER,
	  .letter = 'C',
	  .arg = "FD",
	  .max = 1024,
	  .value = &arg.fd,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "write \"pass done total\" to this descriptor, as e2fsck(8)" },
	KS_OPT_END,
};

static int map_exit(int code)
{
	if (code & BITS)
		return code & ~BITS;
	if (code == KS_EXIT_USAGE)
		return BIT_USAGE;
	if (code > 128)
		return BIT_CANCELLED | BIT_OPERATION;
	return code == KS_EXIT_OK ? 0 : BIT_OPERATION;
}

static const struct ks_cmd cmd = {
	.name = "kiseki-fsck",
	.usage = "[OPTIONS] [VOLUME]",
	.about = "Check a volume, and repair it. Without -p or -y nothing is changed.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point",
	.examples = "kiseki-fsck photos\n"
		    "kiseki-fsck -p photos\n"
		    "kiseki-fsck --data=read --sample=3/30 photos",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_JOBS | KS_CMD_CONFIG | KS_CMD_LOCK_WAIT | KS_CMD_METRICS |
		  KS_CMD_CODE_AFTER_STOP | KS_CMD_DRY_IS_WHOLE,
	.max_args = 1,
	.map_exit = map_exit,
	.features = ks_volume_features,
};

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = report.done, .total_items = report.total };
}

/* Opens, and for repairs locks: again and again, while somebody is in the way and there is time. */
static int open_volume(struct ks_maint *m, const struct ks_volume_ref *ref)
{
	bool repair = report.level != KS_FSCK_CHECK;
	int r;

	for (;;) {
		r = ks_maint_open(m, ref, repair);
		if (r == 0 && repair)
			r = ks_maint_lock(m);
		if (!ks_cmd_wait_busy(r))
			return r;
		ks_maint_close(m);
	}
}

static int exit_bits(int r, const struct ks_fsck_result *out)
{
	int bits = 0;

	if (out->fixed)
		bits |= BIT_FIXED;
	if (out->problems > out->fixed)
		bits |= BIT_LEFT;
	if (out->stopped || ks_cmd_stopped())
		bits |= BIT_CANCELLED;
	return r < 0 ? bits | BIT_OPERATION : bits;
}

static int check(const struct ks_volume_ref *ref)
{
	struct ks_fsck_opts o = { .level = report.level,
				  .data = arg.read ? KS_FSCK_READ : KS_FSCK_EXISTS,
				  .sample = arg.sample,
				  .jobs = (unsigned int)ks_common.jobs,
				  .problem = report_problem,
				  .progress = report_progress,
				  .stopped = ks_cmd_stopped_cb };
	struct ks_fsck_result pre = { 0 }, out = { 0 };
	struct ks_maint m = { 0 };
	bool begun = false;
	int bits, r;

	r = ks_fsck_settings(ref->meta_url, &o, &pre);
	if (r == -ENOENT)
		r = ks_fail(r, "no volume at %s", ref->shown_url);
	if (r == 0)
		r = open_volume(&m, ref);
	if (r == 0) {
		begun = true;
		ks_json_volume(m.settings->name, m.settings->uuid, m.shown_url);
		report.volume = m.settings->name;
		ks_progress_start("fsck", how_far, NULL);
		r = ks_fsck(&m, &o, &out);
		ks_progress_stop();
	}
	out.problems += pre.problems;
	out.fixed += pre.fixed;
	bits = exit_bits(r, &out);
	if (r < 0)
		ks_cmd_report(r); /* before closing raises anything else */
	if (r == 0 || out.problems)
		report_end(&out, bits);
	/* A check writes nothing, not even this. */
	if (begun && report.level != KS_FSCK_CHECK)
		ks_last_note(m.meta, KS_TOOL_FSCK, ks_cmd_code(BITS | bits));
	ks_maint_close(&m);
	return BITS | bits;
}

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	char **args;
	int r;

	ks_cmd_parse(&cmd, argc, argv, &args);
	arg.preen = arg.preen || arg.automatic;
	if (ks_common.dry_run && (arg.preen || ks_common.yes))
		ks_cmd_usage("-n changes nothing, %s repairs: choose one",
			     ks_common.yes ? "-y" : "-p");
	if (arg.sampled && !arg.read)
		ks_cmd_usage("--sample needs --data=read");
	if (arg.fd != UINT64_MAX)
		report.progress_fd = (int)arg.fd;
	report.level = ks_common.yes ? KS_FSCK_ALL : arg.preen ? KS_FSCK_SAFE : KS_FSCK_CHECK;
	ks_common.dry_run = report.level == KS_FSCK_CHECK;
	find.config = ks_common.config;
	report.volume = args[0] ? args[0] : "";
	r = ks_volume_resolve(&ref, args[0], &find);
	if (r == 0)
		r = check(&ref);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(r);
}
