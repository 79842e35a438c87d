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

static _Atomic bool too_late;

static bool stop(void *list)
{
	int64_t deadline_ns = ks_cmd_deadline();

	(void)list;
	if (deadline_ns && ks_clock_mono_ns() >= deadline_ns)
		too_late = true;
	return too_late || ks_cmd_stopped();
}

static struct ks_copy_opts make_opts(const struct cp_ends *e, struct cp_list *list)
{
	struct ks_copy_opts o = {
		.recursive = arg.recursive || arg.archive,
		.follow = arg.deref,
		.no_follow = arg.no_deref || arg.archive,
		.one_fs = arg.one_fs,
		.update = arg.update,
		.no_clobber = arg.no_clobber,
		/* What a list names keeps its place below SOURCE. */
		.no_target_dir = arg.no_target || list,
		.into_dir = arg.target_dir != NULL,
		.verify = arg.verify,
		.checksum = arg.checksum,
		.compare = arg.compare,
		.remove = arg.remove,
		.force = arg.force,
		.max_delete = arg.max_delete,
		.max_errors = arg.max_errors,
		.rate_out = arg.rate_down,
		.rate_in = arg.rate_up,
		.uid = arg.uid,
		.gid = arg.gid,
		.chmod = arg.chmod,
		.filter = arg.filter,
		.dry_run = ks_common.dry_run,
		.preserve = arg.keep | (arg.archive ? KS_COPY_ALL : 0),
		.reflink = (enum ks_reflink)arg.reflink,
		.jobs = (unsigned int)ks_common.jobs,
		.verify_volume = e->check,
		.on_item = ks_common.verbose ? cp_on_item : NULL,
		.on_error = cp_on_error,
		.on_difference = cp_on_difference,
		.may_delete = ks_cmd_can_ask() && !ks_common.yes ? cp_may_delete : NULL,
		.next_path = list ? cp_list_next : NULL,
		.stop = stop,
		.arg = list,
	};
	return o;
}

/* Nothing done at all: why says more than "partial". */
static int exit_code(const struct ks_copy_counts *n)
{
	if (!n->failed && (too_late || n->undeleted))
		return KS_EXIT_LIMIT;
	if (!n->failed)
		return n->different ? KS_EXIT_FINDINGS : KS_EXIT_OK;
	if (n->files + n->dirs + n->links + n->symlinks + n->others + n->skipped + n->deleted == 0)
		return ks_exit_of_errno(n->first_error);
	return KS_EXIT_PARTIAL;
}

static void say_why_stopped(const struct ks_copy_counts *n)
{
	if (arg.max_errors && n->failed >= arg.max_errors)
		ks_cmd_note("kiseki-cp: stopped after %" PRIu64 " failures (--max-errors)",
			    n->failed);
	if (too_late)
		ks_cmd_note("kiseki-cp: stopped at --max-duration; the next run goes on");
	if (n->undeleted)
		ks_cmd_note("kiseki-cp: %" PRIu64 " entries were not deleted (--max-delete)",
			    n->undeleted);
}

static int copy(struct cp_ends *e, struct cp_list *list)
{
	struct ks_copy_opts o = make_opts(e, list);
	struct ks_copy_counts n = { 0 };
	struct ks_copy *c = NULL;
	int r = ks_copy_new(&c, &o);

	if (r < 0)
		return r;
	ks_progress_start(e->to.volume ? e->to.label : "kiseki-cp", poll_counts, c);
	r = ks_copy_run(c, e->from, e->n, &e->to);
	ks_progress_stop();
	ks_copy_now(c, &n);
	ks_copy_free(c);
	if (r == 0 || (r == -EINTR && !ks_cmd_stopped()))
		cp_print(&n);
	if (n.acls_lost) {
		ks_cmd_note("kiseki-cp: %" PRIu64
			    " access control lists were not copied: the target has none",
			    n.acls_lost);
	}
	say_why_stopped(&n);
	cp_summarise(e, &n);
	return r < 0 && (r != -EINTR || ks_cmd_stopped()) ? r : exit_code(&n);
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

static void check_usage(char **args, int n)
{
	if (!arg.target_dir && n < 2)
		ks_cmd_usage("a DEST is missing behind '%s'", args[0]);
	if (arg.target_dir && arg.no_target)
		ks_cmd_usage("-t and -T exclude each other");
	if (arg.no_target && n != 2)
		ks_cmd_usage("-T takes one SOURCE and one DEST");
	if (arg.deref && arg.no_deref)
		ks_cmd_usage("-L and -P exclude each other");
	if (arg.remove && !(arg.recursive || arg.archive))
		ks_cmd_usage("--delete needs -r: only what is in directories is deleted");
	if (arg.files_from && arg.remove)
		ks_cmd_usage("--files-from and --delete exclude each other");
	if (arg.files_from && (n != 2 || arg.target_dir))
		ks_cmd_usage("--files-from takes one SOURCE and one DEST");
	if (arg.files_from && strcmp(args[0], "-") == 0)
		ks_cmd_usage("with --files-from, SOURCE is a directory");
	if (arg.nul && !arg.files_from)
		ks_cmd_usage("-0 is about the names of --files-from");
	if (arg.max_delete != UINT64_MAX && !arg.remove)
		ks_cmd_usage("--max-delete needs --delete");
	if (arg.compare && (arg.verify || arg.no_clobber))
		ks_cmd_usage(
			"--compare copies nothing: it goes with neither --verify nor --no-clobber");
}

int main(int argc, char **argv)
{
	struct cp_list *list = NULL;
	struct cp_ends e = { 0 };
	char **args;
	int n = ks_cmd_parse(&cp_cmd, argc, argv, &args);
	int r;
	int closed;

	check_usage(args, n);
	raise_limits();
	r = cp_open(&e, args, n);
	if (r == 0 && arg.files_from)
		r = cp_list_open(&list, arg.files_from, arg.nul);
	if (r == 0) {
		arg.to_stdout = !e.to.volume && strcmp(e.to.path, "-") == 0;
		r = copy(&e, list);
	}
	if (r < 0)
		r = ks_cmd_report(r);
	closed = cp_close(&e);
	if (closed < 0)
		r = ks_exit_worse(r, ks_cmd_report(closed));
	cp_list_close(list);
	ks_filter_free(arg.filter);
	return ks_cmd_exit(r);
}
