/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-fsck, fsck.kiseki: check a volume, and repair it. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "fsck.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* fsck(8) */
enum { BIT_FIXED = 1, BIT_LEFT = 4, BIT_OPERATION = 8, BIT_USAGE = 16, BIT_CANCELLED = 32 };
/* Marks an exit code that is made of these already. */
#define BITS 0x1000

static struct {
	bool preen, automatic, yes;
	struct ks_fsck_sample sample;
	bool sampled, read;
	uint64_t fd;
	int64_t lock_wait_ns;
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
	{ .kind = KS_OPT_K_FLAG,
	  .letter = 'p',
	  .name = "preen",
	  .value = &arg.preen,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "repair what loses nothing" },
	{ .kind = KS_OPT_K_FLAG,
	  .letter = 'a',
	  .value = &arg.automatic,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "the same as -p" },
	{ .kind = KS_OPT_K_FLAG,
	  .letter = 'y',
	  .name = "yes",
	  .value = &arg.yes,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "repair everything; damaged files go to /.lost+found" },
	KS_OPT_DURATION(0, "lock-wait", &arg.lock_wait_ns,
			"for -p and -y: wait so long until the volume is free"),
	KS_OPT_GROUP("Checks"),
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
		  KS_CMD_JOBS | KS_CMD_CONFIG,
	.max_args = 1,
	.map_exit = map_exit,
	.features = ks_volume_features,
};

/* fsck(8) wants an exit code also after a signal, and not the signal. */
static volatile sig_atomic_t cancelled;

static void on_signal(int sig)
{
	if (cancelled)
		_exit(BIT_CANCELLED | BIT_OPERATION);
	cancelled = sig;
}

static bool stopped(void *unused)
{
	(void)unused;
	return cancelled != 0;
}

static void catch_signals(void)
{
	const int signals[] = { SIGINT, SIGTERM };

	for (size_t i = 0; i < KS_ARRAY_SIZE(signals); i++) {
		struct sigaction sa = { .sa_handler = on_signal }, old;

		if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaction(signals[i], &sa, NULL);
	}
}

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = report.done, .total_items = report.total };
}

/* Opens, and for repairs locks: again and again, while somebody is in the way and there is time. */
static int open_volume(struct ks_maint *m, const struct ks_volume_ref *ref)
{
	int64_t end = ks_clock_mono_ns() + arg.lock_wait_ns;
	bool repair = report.level != KS_FSCK_CHECK;
	int r;

	for (;;) {
		r = ks_maint_open(m, ref, repair);
		if (r == 0 && repair)
			r = ks_maint_lock(m);
		if (r != -EBUSY || ks_clock_mono_ns() >= end || cancelled)
			return r;
		ks_maint_close(m);
		usleep(200000);
	}
}

static int exit_bits(int r, const struct ks_fsck_result *out)
{
	int bits = 0;

	if (out->fixed)
		bits |= BIT_FIXED;
	if (out->problems > out->fixed)
		bits |= BIT_LEFT;
	if (out->stopped || cancelled)
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
				  .stopped = stopped };
	struct ks_fsck_result pre = { 0 }, out = { 0 };
	struct ks_maint m = { 0 };
	char uuid[KS_UUID_STR];
	int bits, r;

	r = ks_fsck_settings(ref->meta_url, &o, &pre);
	if (r == -ENOENT)
		r = ks_fail(r, "no volume at %s", ref->shown_url);
	if (r == 0)
		r = open_volume(&m, ref);
	if (r == 0) {
		ks_uuid_format(m.settings->uuid, uuid);
		ks_json_volume(m.settings->name, uuid, m.shown_url);
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
	ks_maint_close(&m);
	return BITS | bits;
}

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .config = NULL };
	struct ks_volume_ref ref = { 0 };
	char **args;
	int r;

	ks_cmd_parse(&cmd, argc, argv, &args);
	catch_signals();
	arg.preen = arg.preen || arg.automatic;
	if (ks_common.dry_run && (arg.preen || arg.yes))
		ks_cmd_usage("-n changes nothing, %s repairs: choose one", arg.yes ? "-y" : "-p");
	if (arg.sampled && !arg.read)
		ks_cmd_usage("--sample needs --data=read");
	if (arg.fd != UINT64_MAX)
		report.progress_fd = (int)arg.fd;
	report.level = arg.yes ? KS_FSCK_ALL : arg.preen ? KS_FSCK_SAFE : KS_FSCK_CHECK;
	ks_common.dry_run = report.level == KS_FSCK_CHECK;
	find.config = ks_common.config;
	report.volume = args[0] ? args[0] : "";
	r = ks_volume_resolve(&ref, args[0], &find);
	if (r == 0)
		r = ks_volume_config(&find, ref.name, ks_cmd_default, NULL);
	if (r == 0)
		r = check(&ref);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(r);
}
