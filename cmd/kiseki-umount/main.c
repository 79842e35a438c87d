/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kiseki-umount: unmount, and return when everything is stored: ask the mount to flush, take it off, wait until its process is gone.
 * As umount.kiseki and umount.fuse.kiseki it is the helper of umount(8), so that a plain umount does the same.
 */
#include "base/clock.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "fuse/umount.h"
#include "umount.h"
#include "volume/control.h"
#include "volume/mountlist.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
	bool all, force, lazy, no_flush;
	int64_t timeout_ns;
	bool readonly_on_failure, no_mtab;
	const char *type, *name_space;
} arg = { .timeout_ns = -1 };

static const struct ks_opt tool_opts[] = {
	KS_OPT_FLAG('a', "all", &arg.all, "every mount of Kiseki of this user (root: all)"),
	KS_OPT_FLAG('f', "force", &arg.force, "fail what is under way, do not flush"),
	KS_OPT_FLAG('l', "lazy", &arg.lazy, "detach now; it ends when nobody uses it any more"),
	KS_OPT_DURATION(0, "timeout", &arg.timeout_ns,
			"give up flushing after that; it stays mounted (exit 5)"),
	KS_OPT_FLAG(0, "no-flush", &arg.no_flush, "do not ask the mount to flush first"),
	KS_OPT_END,
};

static const struct ks_opt helper_opts[] = {
	KS_OPT_FLAG('f', NULL, &arg.force, "force"),
	KS_OPT_FLAG('l', NULL, &arg.lazy, "lazy"),
	KS_OPT_FLAG('n', NULL, &arg.no_mtab, "ignored"),
	KS_OPT_FLAG('r', NULL, &arg.readonly_on_failure, "ignored"),
	KS_OPT_STRING('t', NULL, "TYPE", &arg.type, "ignored"),
	KS_OPT_STRING('N', NULL, "NAMESPACE", &arg.name_space, "ignored: umount(8) has entered it"),
	KS_OPT_END,
};

static const struct ks_cmd as_tool = {
	.name = "kiseki-umount",
	.usage = "[OPTIONS] MOUNTPOINT|VOLUME...",
	.about = "Unmount volumes. Returns when everything that was written is stored.",
	.examples = "kiseki-umount /mnt/photos\nkiseki-umount -a --timeout=5m",
	.opts = tool_opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_CONFIG,
	.min_args = 0,
	.max_args = -1,
};

static const struct ks_cmd as_helper = {
	.name = "umount.kiseki",
	.usage = "DIR [-flnrv] [-N NAMESPACE] [-t TYPE]",
	.about = "The helper of umount(8) for type kiseki; see kiseki-umount(8).",
	.examples = "umount /mnt/photos",
	.opts = helper_opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE,
	.min_args = 1,
	.max_args = 1,
	.map_exit = ks_exit_of_helper,
};

/* An exit code. */
static int flush(const struct ks_mount_entry *e, const struct ks_control_found *mount)
{
	int r = ks_control_call(mount->path, "flush", arg.timeout_ns, NULL);

	if (r == 0)
		return KS_EXIT_OK;
	if (r == -ETIMEDOUT) {
		ks_cmd_error("%s: not everything is stored yet; it stays mounted", e->dir);
		return KS_EXIT_LIMIT;
	}
	/* The process has just gone: there is nothing that could be flushed. */
	if (r == -ECONNREFUSED || r == -ENOENT || r == -EPIPE)
		return KS_EXIT_OK;
	ks_cmd_error("%s: what was written cannot be stored; it stays mounted", e->dir);
	ks_cmd_report(r);
	ks_cmd_hint("--force gives it up");
	return KS_EXIT_IOERR;
}

static int open_process(int pid)
{
	return (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
}

/* The mount's process ends when all is stored and the session has ended. */
static int wait_for_end(const struct ks_mount_entry *e, int process, int pid)
{
	int64_t deadline = arg.timeout_ns < 0 ? INT64_MAX : ks_clock_mono_ns() + arg.timeout_ns;
	struct pollfd p = { .fd = process, .events = POLLIN };

	while (poll(&p, 1, 200) <= 0) {
		if (ks_cmd_stopped() || ks_clock_mono_ns() > deadline) {
			ks_cmd_error("%s: unmounted, but its process %d has not ended", e->dir,
				     pid);
			ks_cmd_hint(
				"it still writes back, or another mount namespace (a container, "
				"unshare) holds a copy of the mount: 'grep -l kiseki "
				"/proc/*/mountinfo' names its processes");
			return ks_cmd_stopped() ? KS_EXIT_FAILURE : KS_EXIT_LIMIT;
		}
	}
	return KS_EXIT_OK;
}

static int busy(const struct ks_mount_entry *e, int daemon)
{
	ks_cmd_error("%s is busy:", e->dir);
	if (print_holders(e->dir, daemon) == 0)
		ks_cmd_more(
			"    nobody this user may see; another mount inside it, or another user");
	return KS_EXIT_TEMPFAIL;
}

static int take_off(const struct ks_mount_entry *e, const struct ks_control_found *mount,
		    int process)
{
	unsigned int flags = (arg.force ? KS_UMOUNT_FORCE | KS_UMOUNT_LAZY : 0) |
			     (arg.lazy ? KS_UMOUNT_LAZY : 0);
	int r;

	ks_fail_clear();
	r = ks_fuse_umount(e->dir, flags);
	if (r == -EBUSY)
		return busy(e, mount->pid);
	if (r < 0)
		return ks_cmd_report(r);
	if (process >= 0 && !arg.lazy && !arg.force)
		r = wait_for_end(e, process, mount->pid);
	if (r == KS_EXIT_OK)
		ks_cmd_say("Unmounted %s", e->dir);
	return r;
}

static int unmount(const struct ks_mount_entry *e)
{
	struct ks_control_found mount = { 0 };
	bool found = ks_control_find(&mount, e->dev, e->uid) == 0;
	int process = found ? open_process(mount.pid) : -1;
	int code = KS_EXIT_OK;

	if (found && !arg.no_flush && !arg.force && !arg.lazy)
		code = flush(e, &mount);
	if (code == KS_EXIT_OK)
		code = take_off(e, &mount, process);
	if (process >= 0)
		close(process);
	free(mount.path);
	return code;
}

static int choose(struct ks_mount_list *all, char **args, int n)
{
	int code = KS_EXIT_OK;

	for (size_t i = 0; arg.all && i < all->n; i++)
		all->v[i].chosen = geteuid() == 0 || all->v[i].uid == geteuid();
	for (int i = 0; i < n; i++) {
		int r = ks_mount_list_choose(all, args[i], ks_common.config);

		if (r < 0)
			code = ks_exit_worse(code, ks_cmd_report(r));
	}
	return code;
}

int main(int argc, char **argv)
{
	bool is_helper = strncmp(program_invocation_short_name, "umount.", 7) == 0;
	struct ks_mount_list all = { 0 };
	char **args;
	int n = ks_cmd_parse(is_helper ? &as_helper : &as_tool, argc, argv, &args);
	json_t *done = json_pack("{s:[]}", "unmounted");
	int code, r;

	if (n == 0 && !arg.all)
		ks_cmd_usage("an operand is missing: a mount point, a volume, or --all");
	r = ks_mount_list_read(&all);
	if (r < 0)
		return ks_cmd_exit(r);
	code = choose(&all, args, n);
	/* The last one mounted first: one may lie within another. */
	for (size_t i = all.n; i-- > 0;) {
		if (!all.v[i].chosen)
			continue;
		r = unmount(&all.v[i]);
		if (r == KS_EXIT_OK)
			KS_IGNORE(ks_json_add_name(done, "unmounted", all.v[i].dir,
						   strlen(all.v[i].dir)) < 0); /* said without */
		code = ks_exit_worse(code, r);
	}
	ks_json_summary_all(done);
	ks_mount_list_clear(&all);
	free(args);
	return ks_cmd_exit(code);
}
