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
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_CONFIG | KS_CMD_YES |
		  KS_CMD_BATCH,
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

/*
 * What names the volume wherever it is read: in mountinfo, by which other tools find it from the mount point, and in fstab. mount -a compares the two, byte for byte: names, URLs
 * and full paths stay as they were written.
 */
static int name_source(const char *operand)
{
	static const char scheme[] = "sqlite://";
	const struct ks_volume_ref *ref = &arg.ref;
	const char *volume = ref->name ? ref->name : ref->meta_url;

	arg.spec = operand ? operand : ref->spec;
	if (!ref->mountpoint && (ref->name || strstr(arg.spec, "://") || arg.spec[0] == '/'))
		return 0;
	if (strncmp(volume, scheme, strlen(scheme)) == 0)
		volume += strlen(scheme);
	/* A path that could be taken for VOLUME:/PATH. */
	if (!ref->name && strchr(volume, ':'))
		volume = ref->shown_url;
	arg.spec =
		ks_asprintf("%s%s%s", volume, arg.subdir ? ":" : "", arg.subdir ? arg.subdir : "");
	return arg.spec ? 0 : -ENOMEM;
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
	if (arg.allow_other && arg.no_allow_other)
		return ks_fail(-EINVAL, "--allow-other and --no-allow-other exclude each other");
	if (arg.debug)
		arg.foreground = true;
	return name_source(operand);
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

/* What a line of fstab cannot say, or nobody would answer for. */
static void check_fstab_options(void)
{
	static const char *const not_there[] = { "config", "log-format" };

	if (!arg.update_fstab)
		return;
	for (size_t i = 0; i < KS_ARRAY_SIZE(not_there); i++) {
		if (ks_cmd_given(not_there[i]))
			ks_cmd_usage("--update-fstab: a line of fstab cannot have --%s",
				     not_there[i]);
	}
	if (arg.foreground || arg.debug)
		ks_cmd_usage("--update-fstab is for mounts in the background, not with -f or -d");
	if (!ks_common.yes)
		ks_cmd_must_ask("--yes writes fstab without asking");
}

/* The summary, once it is mounted; @pid 0: it was already. */
static void tell(int pid, const char *fstab)
{
	json_t *j = json_object();

	if (j && ks_json_name(j, "mountpoint", arg.mountpoint, strlen(arg.mountpoint)) == 0 && pid)
		json_object_set_new(j, "pid", json_integer(pid));
	if (j && fstab)
		json_object_set_new(j, "fstab", json_string(fstab));
	ks_json_summary_all(j);
}

static int run(void)
{
	const char *fstab = NULL;
	int pid, r;

	if (arg.foreground)
		return mount_serve(-1);
	r = mount_in_background(&pid);
	if (r < 0) {
		mount_fstab_abort();
		return r;
	}
	r = mount_fstab_commit(&fstab);
	tell(pid, r == 0 ? fstab : NULL);
	ks_cmd_say("Mounted '%s' on %s (pid %d)", arg.spec, arg.mountpoint, pid);
	return r;
}

/* There is nothing to mount. */
static int mounted_already(void)
{
	const char *fstab = NULL;
	int r = mount_fstab_prepare();

	ks_cmd_note("%s: '%s' is mounted already", arg.mountpoint, arg.spec);
	if (r == 0)
		r = mount_fstab_commit(&fstab);
	if (r == 0 && fstab)
		tell(0, fstab);
	return r;
}

static int prepare(void)
{
	int r = absolute(&arg.log_file);

	if (r == 0)
		r = absolute(&arg.access_log);
	if (r == 0)
		r = absolute(&arg.spill_dir);
	return r;
}

int main(int argc, char **argv)
{
	bool is_helper = strncmp(program_invocation_short_name, "mount.", 6) == 0;
	char **args;
	int n = ks_cmd_parse(is_helper ? &as_helper : &as_tool, argc, argv, &args);
	int r = enter_namespace();

	check_fstab_options();
	if (r == 0)
		r = find_volume(n == 2 ? args[0] : NULL);
	if (r == 0)
		r = prepare();
	if (r == 0)
		r = mount_check_where(args[n - 1]);
	if (r == 1)
		return ks_cmd_exit(mounted_already());
	if (r == 0)
		r = mount_fstab_prepare();
	if (r == 0)
		r = mount_log_open();
	if (r == 0)
		r = mount_access_open();
	if (r == 0 && !helper.fake)
		r = run();
	else
		mount_fstab_abort();
	return ks_cmd_exit(r);
}
