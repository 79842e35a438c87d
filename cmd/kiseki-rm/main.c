/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-rm: remove files and trees of a volume without a mount. */
#include "base/buf.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/remove.h"
#include "volume/summary.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MANY 3 /* -I asks before more operands than these */

static struct {
	bool recursive, force, ask, ask_once, everything, no_trash;
} arg;

static struct ks_rm_result done;
static struct ks_summary_sum would; /* of a dry run */
static _Atomic uint64_t seen;       /* likewise, so far */

static const struct ks_opt opts[] = {
	KS_OPT_FLAG_CMD('r', "recursive", &arg.recursive, "directories, with all that is in them"),
	KS_OPT_FLAG_CMD('f', "force", &arg.force, "what is not there is no mistake; never ask"),
	KS_OPT_FLAG_CMD('i', "interactive", &arg.ask, "ask before each operand"),
	KS_OPT_FLAG_CMD('I', "interactive-once", &arg.ask_once,
			"ask once, before -r or more than three operands"),
	KS_OPT_FLAG_CMD(0, "no-preserve-root", &arg.everything,
			"with -r: empty a volume whose root is named"),
	KS_OPT_FLAG_CMD(0, "no-trash", &arg.no_trash,
			"free at once what the volume would keep in its trash"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-rm",
	.usage = "[OPTIONS] VOLUME:/PATH...",
	.about = "Remove files and trees of a volume, fast, without a mount.",
	.operands = "  VOLUME:/PATH   a file, or with -r a directory; a symlink itself",
	.examples = "kiseki-rm photos:/2024/a.jpg\n"
		    "kiseki-rm -r photos:/2023 photos:/2022\n"
		    "kiseki-rm -rn photos:/2023",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_CONFIG | KS_CMD_BATCH,
	.min_args = 1,
	.max_args = -1,
	.features = ks_volume_features,
};

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = seen + done.files + done.dirs,
					 .done_bytes = done.bytes };
}

/* ---- what it says ---- */

static void told(const char *action, const char *where, const char *path, bool dir)
{
	KS_AUTO(ks_freep) char *whole = ks_asprintf("%s:%s", where, path);

	if (!ks_common.verbose || ks_common.quiet || !whole)
		return;
	if (!ks_common.json) {
		ks_progress_lock();
		printf("%s ", action);
		ks_cmd_put_name(whole, strlen(whole), isatty(STDOUT_FILENO));
		putchar('\n');
		ks_progress_unlock();
		return;
	}
	ks_json_item(json_pack("{s:s,s:s,s:s}", "type", "item", "action", action, "kind",
			       dir ? "directory" : "file"),
		     "path", whole);
}

static void on_item(void *where, const char *path, bool dir, int err)
{
	KS_AUTO(ks_freep) char *text = NULL;

	if (err == 0) {
		told("removed", where, path, dir);
		return;
	}
	text = ks_asprintf("cannot remove %s:%s: %s", (const char *)where, path, ks_strerror(err));
	if (!text)
		return;
	ks_cmd_error("%s", text);
	if (err == -EPERM)
		ks_cmd_hint("it is immutable or append-only: see chattr(1)");
	else if (err == -EBADMSG)
		ks_cmd_hint("run kiseki-fsck");
	ks_json_error(path, "remove", err, text);
}

/* ---- removing ---- */

/* What a run would do is counted, not tried. */
static int preview(struct ks_meta *m, const char *path)
{
	struct ks_summary_opts so = { .entries = 1, .stop = ks_cmd_stopped_cb, .seen = &seen };
	KS_AUTO(ks_freep) char *name = NULL;
	struct ks_summary *s = NULL;
	struct ks_attr dir;
	struct ks_attr what;
	int r = ks_rm_find(m, path, &dir, &name, &what);

	if (r < 0)
		return r;
	if (!S_ISDIR(what.mode)) {
		would.files++;
		would.bytes += what.nlink > 1 ? 0 : what.size;
	} else {
		r = ks_summary(m, path, &so, &s);
		if (r == 0) {
			would.files += s->sum.files;
			would.dirs += s->sum.dirs - (what.ino == KS_ROOT_INO);
			would.bytes += s->sum.bytes;
		}
		ks_summary_free(s);
	}
	if (r == 0)
		told("would remove", ks_meta_settings(m)->name, path, S_ISDIR(what.mode));
	return r;
}

/* The refusals of a real run, before anybody is asked. */
static int may_be(struct ks_meta *m, const char *path, bool *dir)
{
	KS_AUTO(ks_freep) char *name = NULL;
	struct ks_attr above;
	struct ks_attr what;
	int r = ks_rm_find(m, path, &above, &name, &what);

	if (r < 0)
		return r;
	*dir = S_ISDIR(what.mode);
	if (what.ino == KS_ROOT_INO && !arg.everything)
		return ks_fail_hint(-EINVAL, "--no-preserve-root empties the volume",
				    "%s:%s is the root", ks_meta_settings(m)->name, path);
	if (*dir && !arg.recursive)
		return ks_fail_hint(-EISDIR, "-r removes it with all that is in it",
				    "%s:%s is a directory", ks_meta_settings(m)->name, path);
	return 0;
}

static int remove_path(struct ks_volume *v, const char *operand, const char *path)
{
	struct ks_rm_opts o = { .recursive = arg.recursive,
				.everything = arg.everything,
				.stop = ks_cmd_stopped_cb,
				.item = on_item };
	KS_AUTO(ks_freep) char *where = strdup(v->settings->name);
	bool dir = false;
	int r = where ? may_be(v->meta, path, &dir) : -ENOMEM;

	if (r < 0)
		return r;
	if (ks_common.dry_run)
		return preview(v->meta, path);
	if (arg.ask && !ks_cmd_ask("remove %s%s%s?", dir ? "directory " : "", operand,
				   dir && arg.recursive ? " and all that is in it" : ""))
		return 0;
	o.arg = where;
	return ks_rm(v->meta, path, &o, &done);
}

/* The volume of the operand before: most often the next one names the same. */
static struct ks_volume *opened;
static char *opened_as;

/* An exit code: what went wrong is told before closing raises anything else. */
static int close_volume(void)
{
	int r = opened && !ks_common.dry_run ? ks_meta_sync(opened->meta) : 0;
	int code = r < 0 ? ks_cmd_report(r) : 0;

	ks_volume_closep(&opened);
	free(opened_as);
	opened_as = NULL;
	return code;
}

static int open_volume(const char *volume)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_opts vo = { .readonly = ks_common.dry_run,
				     .meta_only = true,
				     .session = ks_common.dry_run ? 0 : KS_SESSION_TOOL,
				     .tool = "kiseki-rm" };
	int r = ks_volume_open_named(&opened, volume, NULL, &find, &vo);

	if (r < 0)
		return r;
	if (arg.no_trash)
		ks_meta_no_trash(opened->meta);
	opened_as = strdup(volume);
	ks_json_volume(opened->settings->name, opened->settings->uuid, opened->shown_url);
	return opened_as ? 0 : -ENOMEM;
}

/* An exit code. */
static int run(const char *operand)
{
	KS_AUTO(ks_freep) char *volume = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	bool found = false;
	int code = 0, failed;
	int r = ks_volume_split(operand, false, &volume, &path);

	if (r >= 0 && !path)
		ks_cmd_usage("'%s' names a volume, not what is to be removed: VOLUME:/PATH",
			     operand);
	if (r >= 0 && (!opened_as || strcmp(opened_as, volume) != 0)) {
		code = close_volume();
		r = open_volume(volume);
	}
	if (r >= 0) {
		found = true;
		r = remove_path(opened, operand, path);
	}
	if (r == 0 || (r == -ENOENT && arg.force && found))
		return code;
	failed = ks_cmd_report(r);
	return ks_exit_worse(code, r == -EISDIR ? KS_EXIT_USAGE : failed);
}

static void say_sum(void)
{
	uint64_t files = ks_common.dry_run ? would.files : done.files;
	uint64_t dirs = ks_common.dry_run ? would.dirs : done.dirs;
	uint64_t bytes = ks_common.dry_run ? would.bytes : done.bytes;
	char size[KS_SIZE_STR];

	ks_cmd_size(bytes, size);
	if (files || dirs) {
		ks_cmd_say("%s %" PRIu64 " files and %" PRIu64 " directories, %s%s",
			   ks_common.dry_run ? "would remove" : "removed", files, dirs, size,
			   ks_common.dry_run ? "; dry run: nothing removed" : "");
	}
	ks_json_summary("counts", KS_JSON_COUNTS({ "files", files }, { "dirs", dirs },
						 { "bytes", bytes }, { "failed", done.failed }));
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int code = 0;

	if (arg.force || ks_common.dry_run)
		arg.ask = arg.ask_once = false;
	if (arg.ask || arg.ask_once)
		ks_cmd_must_ask("without -i and -I nothing is asked");
	if (arg.ask_once && !arg.ask && (arg.recursive || n > MANY) &&
	    !ks_cmd_ask("remove %d operand%s%s?", n, n == 1 ? "" : "s",
			arg.recursive ? " recursively" : ""))
		return ks_cmd_exit(0);
	/* One for all of them: each may be quick, and there may be thousands. */
	ks_progress_start("rm", how_far, NULL);
	for (int i = 0; i < n && !ks_cmd_stopped(); i++)
		code = ks_exit_worse(code, run(args[i])); /* the others are still removed */
	code = ks_exit_worse(code, close_volume());
	ks_progress_stop();
	if (done.failed)
		code = ks_exit_worse(code, KS_EXIT_PARTIAL);
	say_sum();
	return ks_cmd_exit(code);
}
