/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-dump: a volume as an archive. */
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/dump.h"
#include "volume/last.h"
#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const formats[] = { "pax", "zip", NULL };
static const char *const compressions[] = { "auto", "zstd", "gzip", "xz", "lz4", "none", NULL };

static struct {
	bool meta, files, blocks;
	const char *output;
	int format, compress;
} arg = { .output = "-" };

static const struct ks_opt opts[] = {
	KS_OPT_FLAG_CMD(0, "meta", &arg.meta, "the metadata (this is the default)"),
	KS_OPT_FLAG_CMD(0, "files", &arg.files, "the files, for any tar"),
	KS_OPT_FLAG_CMD(0, "blocks", &arg.blocks, "the metadata and the data: the whole volume"),
	KS_OPT_STRING_CMD('o', "output", "FILE", &arg.output,
			  "write to FILE; - is stdout (the default)"),
	{ .kind = KS_OPT_K_ENUM,
	  .name = "format",
	  .arg = "FORMAT",
	  .names = formats,
	  .value = &arg.format,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "pax, or with --files zip" },
	KS_OPT_ENUM(0, "compress", "HOW", compressions, &arg.compress,
		    "zstd, gzip, xz, lz4, none; auto: by FILE's suffix, else zstd"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-dump",
	.usage = "[OPTIONS] [VOLUME[:/PATH]]",
	.about = "Write a volume's metadata, files or all of it as an archive of one moment.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point\n"
		    "  /PATH    with --files: only what is below it",
	.examples = "kiseki-dump photos -o photos-2026-11-20.tar.zst\n"
		    "kiseki-dump --blocks photos -o photos-all.tar\n"
		    "kiseki-dump --files photos:/2026 | tar -x --zstd -C /srv/restored\n"
		    "kiseki-dump --files --format=zip photos:/album -o album.zip",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS | KS_CMD_BYTES |
		  KS_CMD_CONFIG | KS_CMD_METRICS,
	.max_args = 1,
	.features = ks_volume_features,
};

static struct ks_dump_result done;

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){
		.done_items = __atomic_load_n(&done.inodes, __ATOMIC_RELAXED) +
			      __atomic_load_n(&done.files, __ATOMIC_RELAXED),
		.total_items = __atomic_load_n(&done.total_inodes, __ATOMIC_RELAXED),
		.done_bytes = __atomic_load_n(&done.out_bytes, __ATOMIC_RELAXED),
	};
}

static void on_error(void *unused, const char *path, int err, const char *text)
{
	(void)unused;
	ks_cmd_error("%s", text);
	ks_json_error(path, "read", err, text);
}

static void on_item(void *unused, const char *path, uint64_t bytes)
{
	(void)unused;
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:I}", "type", "item", "action", "dumped", "bytes",
				       (json_int_t)bytes),
			     "path", path);
	} else {
		ks_cmd_note("%s", path);
	}
}

static enum ks_dump_what what(void)
{
	return arg.files ? KS_DUMP_FILES : arg.blocks ? KS_DUMP_BLOCKS : KS_DUMP_META;
}

/* The archive may be on stdout: then this goes to stderr. */
static void say(void)
{
	void (*out)(const char *fmt, ...) = strcmp(arg.output, "-") == 0 ? ks_cmd_note : ks_cmd_say;
	double s = ks_cmd_seconds();
	char size[KS_SIZE_STR], data[KS_SIZE_STR];

	ks_cmd_size(done.out_bytes, size);
	ks_cmd_size(arg.files ? done.bytes : done.object_bytes, data);
	if (arg.files) {
		out("Dumped %" PRIu64 " files of '%s', %s: an archive of %s in %.1f s", done.files,
		    done.name, data, size, s);
	} else if (arg.blocks) {
		out("Dumped '%s': %" PRIu64 " inodes, %" PRIu64 " slices, %" PRIu64
		    " objects of %s: an archive of %s in %.1f s",
		    done.name, done.inodes, done.slices, done.objects, data, size, s);
	} else {
		out("Dumped metadata of '%s': %" PRIu64 " inodes, %" PRIu64 " slices, %s in %.1f s",
		    done.name, done.inodes, done.slices, size, s);
	}
	if (done.skipped) {
		ks_cmd_note("kiseki-dump: %" PRIu64
			    " devices, pipes and sockets are left out: zip has none",
			    done.skipped);
	}
	if (done.unprotected)
		ks_cmd_note("kiseki-dump: the volume cannot be written to: what others delete "
			    "meanwhile may be missing");
}

static void summarise(const char *meta_url)
{
	if (*done.uuid)
		ks_json_volume_text(done.name, done.uuid, meta_url);
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "inodes", done.inodes }, { "slices", done.slices },
				       { "records", done.records }, { "objects", done.objects },
				       { "object_bytes", done.object_bytes },
				       { "files", done.files }, { "bytes", done.bytes },
				       { "skipped", done.skipped }, { "failed", done.failed },
				       { "archive_bytes", done.out_bytes }));
}

static int dump(const char *operand)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	KS_AUTO(ks_freep) char *volume = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	struct ks_dump_opts o = { .what = what(),
				  .output = arg.output,
				  .format = (enum ks_arc_format)arg.format,
				  .stopped = ks_cmd_stopped_cb,
				  .error = on_error };
	int r = operand ? ks_volume_split(operand, false, &volume, &path) : 0;

	if (r >= 0 && path && !arg.files)
		ks_cmd_usage("'%s' names a directory: only --files dumps a part of a volume",
			     operand);
	if (r >= 0)
		r = ks_volume_resolve(&ref, volume, &find);
	if (r == 0 && ks_common.json && strcmp(arg.output, "-") == 0)
		ks_cmd_usage("--json needs stdout, and the archive too: -o FILE");
	o.path = path;
	/* Not before a configuration file had its say. */
	o.compress = (enum ks_arc_compress)arg.compress;
	o.item = ks_common.verbose ? on_item : NULL;
	if (r == 0) {
		ks_progress_start("dump", how_far, NULL);
		r = ks_dump(&ref, &o, &done);
		ks_progress_stop();
	}
	summarise(ref.shown_url);
	if (r == 0)
		say();
	if (r == 0 && done.failed) {
		ks_cmd_error("%" PRIu64 " of them could not be read, and are missing or damaged "
			     "in the archive too",
			     done.failed);
		r = KS_EXIT_PARTIAL;
	}
	/* No such directory is not no such volume. */
	if (done.no_output && (r == -ENOENT || r == -ENOTDIR)) {
		ks_cmd_report(r);
		r = KS_EXIT_CANTCREAT;
	}
	if (*done.uuid && ks_last_is_whole(path))
		ks_last_note_at(&ref, KS_TOOL_DUMP, ks_cmd_code(r));
	ks_volume_ref_clear(&ref);
	return r;
}

static void check_args(void)
{
	size_t n = strlen(arg.output);

	if (arg.meta + arg.files + arg.blocks > 1)
		ks_cmd_usage("one of --meta, --files and --blocks at a time");
	if (!ks_cmd_given("format") && arg.files && n > 4 &&
	    strcmp(arg.output + n - 4, ".zip") == 0)
		arg.format = KS_ARC_ZIP;
	if (arg.format == KS_ARC_ZIP && !arg.files)
		ks_cmd_usage("--format=zip is for --files");
	if (arg.format == KS_ARC_ZIP && ks_cmd_given("compress"))
		ks_cmd_usage(
			"--compress and --format=zip exclude each other: zip compresses itself");
	if (strcmp(arg.output, "-") == 0 && isatty(STDOUT_FILENO))
		ks_cmd_usage("an archive does not belong on a terminal: -o FILE, or a pipe");
}

int main(int argc, char **argv)
{
	char **args;

	ks_cmd_parse(&cmd, argc, argv, &args);
	check_args();
	/* Names in archives are characters; which bytes those are must not depend on who calls. */
	setlocale(LC_CTYPE, "C.UTF-8"); /* the only thread yet */
	return ks_cmd_exit(dump(args[0]));
}
