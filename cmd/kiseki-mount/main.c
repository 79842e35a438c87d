/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-mount: mount a volume. As mount.kiseki and mount.fuse.kiseki it is the helper of mount(8). */
#include "base/log.h"
#include "cli/json.h"
#include "mount.h"
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	bool fake, sloppy, no_mtab;
	const char *type, *name_space;
} helper;

static const struct ks_opt helper_opts[] = {
	KS_OPT_FLAG('f', NULL, &helper.fake, "do everything but the mount"),
	KS_OPT_FLAG('s', NULL, &helper.sloppy, "ignored"),
	KS_OPT_FLAG('n', NULL, &helper.no_mtab, "ignored"),
	KS_OPT_CALL('o', NULL, "OPT[,OPT]", mount_o,
		    "options of kiseki-mount without dashes, and mount options"),
	KS_OPT_STRING('t', NULL, "TYPE", &helper.type, "ignored"),
	KS_OPT_STRING('N', NULL, "NAMESPACE", &helper.name_space,
		      "mount in this mount namespace: a process id or a file"),
	KS_OPT_END,
};

static void features(FILE *f)
{
	fprintf(f, "+sqlite +file fuse %s\n", ks_fuse_version());
}

static const struct ks_cmd as_tool = {
	.name = "kiseki-mount",
	.usage = "[OPTIONS] [VOLUME[:/SUBDIR]] MOUNTPOINT",
	.about = "Mount a volume. Returns when the mount point answers.",
	.operands = "VOLUME: name, metadata URL or SQLite file; default: $KISEKI_VOLUME.",
	.examples = "kiseki-mount photos /mnt/photos\n"
		    "kiseki-mount -o ro,allow_other photos:/2024 /mnt/2024\n"
		    "kiseki-mount -f --log-file=/var/log/k.log /srv/k/meta.db /mnt/k",
	.opts = mount_opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_CONFIG,
	.min_args = 1,
	.max_args = 2,
	.features = features,
};

static const struct ks_cmd as_helper = {
	.name = "mount.kiseki",
	.usage = "SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPT[,OPT]] [-t TYPE]",
	.about = "The helper of mount(8) for type kiseki; see kiseki-mount(8).",
	.examples = "mount -t kiseki photos /mnt/photos -o ro",
	.opts = helper_opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE,
	.min_args = 2,
	.max_args = 2,
	.features = features,
	.map_exit = ks_exit_of_helper,
};

static int enter_namespace(void)
{
	bool number = helper.name_space &&
		      strspn(helper.name_space, "0123456789") == strlen(helper.name_space);
	KS_AUTO(ks_freep) char *path = NULL;
	KS_AUTO(ks_closep) int fd = -1;

	if (!helper.name_space)
		return 0;
	path = number ? ks_asprintf("/proc/%s/ns/mnt", helper.name_space)
		      : strdup(helper.name_space);
	if (!path)
		return -ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNS) < 0)
		return ks_fail(-errno, "mount namespace %s", path);
	return 0;
}

static int find_volume(const char *operand)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	KS_AUTO(ks_freep) char *volume = NULL;
	int r = operand ? ks_volume_split(operand, false, &volume, &arg.subdir) : 0;

	if (r < 0)
		return r;
	r = ks_volume_resolve(&arg.ref, volume, &find);
	if (r < 0)
		return r;
	mount_o_again();
	if (arg.subdir && strspn(arg.subdir, "/") == strlen(arg.subdir)) {
		free(arg.subdir);
		arg.subdir = NULL;
	}
	/* mount -a compares the source in mountinfo with fstab's, byte for byte. */
	arg.spec = operand ? operand : arg.ref.spec;
	if (arg.allow_other && arg.no_allow_other)
		return ks_fail(-EINVAL, "--allow-other and --no-allow-other exclude each other");
	if (arg.debug)
		arg.foreground = true;
	return 0;
}

/* Relative paths mean the directory we were started in; the mount leaves it. */
static int absolute(const char **path)
{
	char cwd[4096];
	char *whole;

	if (!*path || (*path)[0] == '/')
		return 0;
	if (!getcwd(cwd, sizeof(cwd)))
		return ks_fail(-errno, "find the working directory");
	whole = ks_asprintf("%s/%s", cwd, *path);
	if (!whole)
		return -ENOMEM;
	*path = whole;
	return 0;
}

static int run(void)
{
	int pid = (int)getpid();
	json_t *j;
	int r;

	if (arg.foreground)
		return mount_serve(-1);
	r = mount_in_background(&pid);
	if (r < 0)
		return r;
	j = json_object();
	if (j && ks_json_name(j, "mountpoint", arg.mountpoint, strlen(arg.mountpoint)) == 0)
		json_object_set_new(j, "pid", json_integer(pid));
	ks_json_summary_all(j);
	ks_cmd_say("Mounted '%s' on %s (pid %d)", arg.spec, arg.mountpoint, pid);
	return 0;
}

int main(int argc, char **argv)
{
	bool is_helper = strncmp(program_invocation_short_name, "mount.", 6) == 0;
	char **args;
	int n = ks_cmd_parse(is_helper ? &as_helper : &as_tool, argc, argv, &args);
	int r = enter_namespace();

	if (r == 0)
		r = find_volume(n == 2 ? args[0] : NULL);
	if (r == 0)
		r = mount_check_where(args[n - 1]);
	if (r == 1) {
		ks_cmd_note("%s: '%s' is mounted already", arg.mountpoint, arg.spec);
		return ks_cmd_exit(0);
	}
	if (r == 0)
		r = absolute(&arg.log_file);
	if (r == 0)
		r = absolute(&arg.access_log);
	if (r == 0)
		r = absolute(&arg.spill_dir);
	if (r == 0)
		r = mount_log_open();
	if (r == 0)
		r = mount_access_open();
	if (r == 0 && !helper.fake)
		r = run();
	return ks_cmd_exit(r);
}
