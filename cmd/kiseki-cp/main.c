/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-cp: copy files into, out of and within volumes. */
#include "base/clock.h"
#include "cli/progress.h"
#include "cp.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static void poll_counts(void *arg_copy, struct ks_progress_now *now)
{
	struct ks_copy_counts n;

	ks_copy_now(arg_copy, &n);
	now->done_items = n.files + n.skipped + n.links + n.symlinks + n.others;
	now->done_bytes = n.bytes;
}

static struct ks_copy_opts make_opts(const struct cp_ends *e)
{
	struct ks_copy_opts o = {
		.recursive = arg.recursive || arg.archive,
		.follow = arg.deref,
		.no_follow = arg.no_deref || arg.archive,
		.one_fs = arg.one_fs,
		.update = arg.update,
		.no_clobber = arg.no_clobber,
		.no_target_dir = arg.no_target,
		.into_dir = arg.target_dir != NULL,
		.verify = arg.verify,
		.dry_run = ks_common.dry_run,
		.preserve = arg.keep | (arg.archive ? KS_COPY_ALL : 0),
		.reflink = (enum ks_reflink)arg.reflink,
		.jobs = (unsigned int)ks_common.jobs,
		.verify_volume = e->check,
		.on_item = ks_common.verbose ? cp_on_item : NULL,
		.on_error = cp_on_error,
		.stop = ks_cmd_stopped_cb,
	};
	return o;
}

/* Nothing done at all: why says more than "partial". */
static int exit_code(const struct ks_copy_counts *n)
{
	if (!n->failed)
		return KS_EXIT_OK;
	if (n->files + n->dirs + n->links + n->symlinks + n->others + n->skipped == 0)
		return ks_exit_of_errno(n->first_error);
	return KS_EXIT_PARTIAL;
}

static int copy(struct cp_ends *e)
{
	struct ks_copy_opts o = make_opts(e);
	struct ks_copy_counts n = { 0 };
	int64_t start = ks_clock_mono_ns();
	struct ks_copy *c = NULL;
	int r = ks_copy_new(&c, &o);

	if (r < 0)
		return r;
	ks_progress_start(e->to.volume ? e->to.label : "kiseki-cp", poll_counts, c);
	r = ks_copy_run(c, e->from, e->n, &e->to);
	ks_progress_stop();
	ks_copy_now(c, &n);
	ks_copy_free(c);
	if (r == 0)
		cp_print(&n, ks_clock_mono_ns() - start);
	if (n.acls_lost)
		ks_cmd_note("kiseki-cp: %" PRIu64
			    " access control lists were not copied: the target has none",
			    n.acls_lost);
	cp_summarise(e, &n);
	/* A stop is told by the signal. */
	if (r == -EINTR && ks_cmd_stopped())
		return KS_EXIT_OK;
	return r < 0 ? r : exit_code(&n);
}

/* A deep tree holds some descriptors per level. */
static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		KS_IGNORE(setrlimit(RLIMIT_NOFILE, &l) < 0); /* then less deep */
	}
}

int main(int argc, char **argv)
{
	struct cp_ends e = { 0 };
	char **args;
	int n = ks_cmd_parse(&cp_cmd, argc, argv, &args);
	int r;
	int closed;

	if (!arg.target_dir && n < 2)
		ks_cmd_usage("a DEST is missing behind '%s'", args[0]);
	if (arg.target_dir && arg.no_target)
		ks_cmd_usage("-t and -T exclude each other");
	if (arg.no_target && n != 2)
		ks_cmd_usage("-T takes one SOURCE and one DEST");
	if (arg.deref && arg.no_deref)
		ks_cmd_usage("-L and -P exclude each other");
	raise_limits();
	r = cp_open(&e, args, n);
	if (r == 0) {
		arg.to_stdout = !e.to.volume && strcmp(e.to.path, "-") == 0;
		r = copy(&e);
	}
	if (r < 0)
		r = ks_cmd_report(r);
	closed = cp_close(&e);
	if (closed < 0)
		r = ks_exit_worse(r, ks_cmd_report(closed));
	return ks_cmd_exit(r);
}
