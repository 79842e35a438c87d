/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-load: a volume from a dump; any archive into a directory of a volume. */
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/load.h"
#include "volume/unpack.h"
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	const char *data;
	bool take_over, new_uuid, verify_only;
} arg;

static const struct ks_opt opts[] = {
	KS_OPT_STRING_CMD(0, "data", "URL", &arg.data,
			  "where the data is, or with a dump of all goes"),
	KS_OPT_FLAG_CMD(0, "take-over", &arg.take_over,
			"VOLUME owns its data from now on; no other may write"),
	KS_OPT_FLAG_CMD(0, "new-uuid", &arg.new_uuid, "another identity than the dumped volume's"),
	KS_OPT_FLAG_CMD(0, "verify-only", &arg.verify_only, "read and check FILE, load nothing"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-load",
	.usage = "[OPTIONS] VOLUME FILE|-\n"
		 "[OPTIONS] VOLUME:/PATH FILE|-\n"
		 "--take-over VOLUME [FILE]\n"
		 "--verify-only FILE|-",
	.about = "Make a volume from a dump, or unpack an archive into a directory of one.",
	.operands =
		"  VOLUME   the new volume: NAME, metadata URL or database file\n"
		"  /PATH    an existing directory: FILE is any archive (tar, zip, 7z, cpio, ...)",
	.examples = "kiseki-load restored photos-2026-11-20.tar.zst\n"
		    "kiseki-load --take-over restored\n"
		    "curl -s https://example.org/linux.tar.xz | kiseki-load photos:/src -\n"
		    "kiseki-load --verify-only photos-2026-11-20.tar.zst",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS | KS_CMD_BYTES |
		  KS_CMD_JOBS | KS_CMD_CONFIG,
	.min_args = 1,
	.max_args = 2,
	.features = ks_volume_features,
};

/* ---- a dump ---- */

static struct ks_load_result loaded;

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){
		.done_items = __atomic_load_n(&loaded.inodes, __ATOMIC_RELAXED),
		.done_bytes = __atomic_load_n(&loaded.in_bytes, __ATOMIC_RELAXED),
		.total_bytes = __atomic_load_n(&loaded.in_size, __ATOMIC_RELAXED),
	};
}

static void summarise_load(bool into)
{
	if (*loaded.uuid && into)
		ks_json_volume_text(loaded.name, loaded.uuid,
				    loaded.meta_url ? loaded.meta_url : "");
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "inodes", loaded.inodes }, { "slices", loaded.slices },
				       { "records", loaded.records }, { "objects", loaded.objects },
				       { "object_bytes", loaded.object_bytes }));
	if (loaded.data_url) {
		ks_json_summary("data", json_string(loaded.data_url));
		ks_json_summary("owner", json_boolean(loaded.owner));
	}
}

static void say_loaded(const char *spec, const char *file)
{
	if (arg.verify_only) {
		ks_cmd_say("%s: a whole dump of '%s': %" PRIu64 " inodes, %" PRIu64
			   " slices, %" PRIu64 " objects",
			   file, loaded.name, loaded.inodes, loaded.slices, loaded.objects);
		return;
	}
	ks_cmd_say("Loaded %" PRIu64 " inodes into %s (volume '%s', %s %s)", loaded.inodes,
		   loaded.meta_url, loaded.name, loaded.blocks ? "data" : "same data",
		   loaded.data_url);
	if (!loaded.owner) {
		ks_cmd_note("  note: the volume that was dumped may still use the same data: this "
			    "one is read-only\n"
			    "  hint: when nobody uses the other any more: kiseki-load --take-over "
			    "%s",
			    spec);
	}
}

static int load(const char *volume, const char *file)
{
	struct ks_load_opts o = { .operand = arg.verify_only ? NULL : volume,
				  .find = { .config = ks_common.config },
				  .file = file,
				  .data = arg.data,
				  .take_over = arg.take_over,
				  .new_uuid = arg.new_uuid,
				  .stopped = ks_cmd_stopped_cb };
	int r;

	ks_progress_start("load", how_far, NULL);
	r = ks_load(&o, &loaded);
	ks_progress_stop();
	if (r == 0)
		say_loaded(volume, file);
	summarise_load(!arg.verify_only);
	return r;
}

static int take_over(const char *volume)
{
	struct ks_volume_find find = { .config = ks_common.config, .no_default = true };
	struct ks_volume_ref ref = { 0 };
	bool already = false;
	int r = ks_volume_resolve(&ref, volume, &find);

	if (r == 0)
		r = ks_load_take_over(&ref, &loaded, &already);
	ks_volume_ref_clear(&ref);
	if (r == 0 && already)
		ks_cmd_say("%s owned its data already: %s", loaded.name, loaded.data_url);
	else if (r == 0)
		ks_cmd_say("%s owns its data now: %s", loaded.name, loaded.data_url);
	summarise_load(true);
	return r;
}

/* ---- any archive ---- */

static struct ks_unpack_result unpacked;

static void how_far_unpack(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){
		.done_items = __atomic_load_n(&unpacked.files, __ATOMIC_RELAXED) +
			      __atomic_load_n(&unpacked.others, __ATOMIC_RELAXED),
		.done_bytes = __atomic_load_n(&unpacked.in_bytes, __ATOMIC_RELAXED),
		.total_bytes = __atomic_load_n(&unpacked.in_size, __ATOMIC_RELAXED),
	};
}

static void on_error(void *unused, const char *path, int err, const char *text)
{
	(void)unused;
	ks_cmd_error("%s", text);
	ks_json_error(path, "unpack", err, text);
}

static void on_item(void *unused, const char *path, uint64_t bytes)
{
	(void)unused;
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:I}", "type", "item", "action", "unpacked",
				       "bytes", (json_int_t)bytes),
			     "path", path);
	} else {
		ks_cmd_say("%s", path);
	}
}

static void say_unpacked(const char *operand, const char *file)
{
	char size[KS_SIZE_STR];

	ks_cmd_size(unpacked.bytes, size);
	if (arg.verify_only) {
		ks_cmd_say("%s: %s, %" PRIu64 " files and %" PRIu64 " directories, %s", file,
			   unpacked.format, unpacked.files + unpacked.others, unpacked.dirs, size);
	} else {
		ks_cmd_say("Unpacked %" PRIu64 " files and %" PRIu64
			   " directories into %s, %s in %.1f s",
			   unpacked.files + unpacked.others, unpacked.dirs, operand, size,
			   ks_cmd_seconds());
	}
	if (unpacked.absolute)
		ks_cmd_note("kiseki-load: absolute names were unpacked below %s", operand);
}

static int unpack(const char *operand, const char *volume, const char *path, const char *file)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_opts vo = { .session = KS_SESSION_TOOL, .tool = "kiseki-load" };
	struct ks_unpack_opts o = {
		.file = file, .path = path, .error = on_error, .stopped = ks_cmd_stopped_cb
	};
	struct ks_volume *v = NULL;
	int r = 0, closed;

	if (!arg.verify_only)
		r = ks_volume_open_named(&v, volume, NULL, &find, &vo);
	if (v)
		ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
	o.volume = v;
	/* Not before a configuration file had its say. */
	o.jobs = (unsigned int)ks_common.jobs;
	o.item = ks_common.verbose ? on_item : NULL;
	if (r == 0) {
		ks_progress_start("load", how_far_unpack, NULL);
		r = ks_unpack(&o, &unpacked);
		ks_progress_stop();
	}
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "files", unpacked.files }, { "others", unpacked.others },
				       { "dirs", unpacked.dirs }, { "bytes", unpacked.bytes },
				       { "failed", unpacked.failed }));
	if (r == 0)
		say_unpacked(operand, file);
	if (r < 0)
		r = ks_cmd_report(r);
	closed = ks_volume_close(v);
	if (closed < 0)
		r = ks_exit_worse(r, ks_cmd_report(closed));
	if (r == 0 && unpacked.failed) {
		r = unpacked.files + unpacked.others + unpacked.dirs
			    ? KS_EXIT_PARTIAL
			    : ks_exit_of_errno(unpacked.first_error);
	}
	return r;
}

/* ---- which ---- */

static int run(char **args, int n)
{
	KS_AUTO(ks_freep) char *volume = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	const char *file = args[n - 1];
	int r;

	if (arg.verify_only && n == 1)
		return ks_unpack_is_dump(file) ? load(NULL, file) : unpack(file, NULL, "/", file);
	r = ks_volume_split(args[0], false, &volume, &path);
	if (r < 0)
		return r;
	if (path && (arg.data || arg.take_over || arg.new_uuid)) {
		ks_cmd_usage("'%s' names a directory: --data, --take-over and --new-uuid are for "
			     "whole volumes",
			     args[0]);
	}
	if (n == 1 && !arg.take_over)
		ks_cmd_usage("FILE is missing: what is to be loaded into '%s'?", args[0]);
	if (n == 1)
		return take_over(volume);
	return path ? unpack(args[0], volume, path, file) : load(volume, file);
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int r;

	if (arg.verify_only && (arg.data || arg.take_over || arg.new_uuid))
		ks_cmd_usage("--verify-only loads nothing: --data, --take-over and --new-uuid say "
			     "nothing with it");
	if (strcmp(args[n - 1], "-") == 0 && isatty(STDIN_FILENO))
		ks_cmd_usage("an archive does not come from a terminal: FILE, or a pipe");
	/* Names in archives are characters; which bytes those are must not depend on who calls. */
	setlocale(LC_CTYPE, "C.UTF-8"); /* the only thread yet */
	r = run(args, n);
	ks_load_result_clear(&loaded);
	return ks_cmd_exit(r);
}
