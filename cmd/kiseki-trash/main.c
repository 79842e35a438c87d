/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-trash: what was removed and is still kept: list it, put it back, free it. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/trash.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	int64_t older_ns;
	const char *to;
} arg;

static enum { LS, RESTORE, EMPTY } what;
static struct ks_trash_result done;

static const struct ks_opt opts[] = {
	KS_OPT_DURATION(0, "older", &arg.older_ns, "only what was removed longer ago than that"),
	KS_OPT_STRING_CMD(0, "to", "DIR", &arg.to,
			  "restore: a directory of the volume for what has none any more"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-trash",
	.usage = "ls [OPTIONS] [VOLUME[:/WHAT]...]\nrestore [OPTIONS] VOLUME[:/WHAT]...\n"
		 "empty [OPTIONS] VOLUME",
	.about = "List what was removed from a volume, put it back, or free it.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point\n"
		    "  WHAT     the path it had, with all below it; or an hour of removal (UTC),\n"
		    "           2026-11-21-20; or one entry of an hour, as ls -v shows it",
	.examples = "kiseki-trash ls photos\n"
		    "kiseki-trash restore photos:/2024/a.jpg\n"
		    "kiseki-trash empty --older=2h photos",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_CONFIG | KS_CMD_YES | KS_CMD_BATCH,
	.min_args = 1,
	.max_args = -1,
	.features = ks_volume_features,
};

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = done.entries, .done_bytes = done.bytes };
}

/* ---- what it says ---- */

static char *entry_name(const struct ks_trash_entry *e)
{
	char hour[KS_TRASH_HOUR_STR];

	ks_trash_hour_format(e->hour, hour);
	return ks_asprintf("%s/%.*s", hour, (int)e->name.n, (const char *)e->name.p);
}

static void print_json(const char *action, const struct ks_trash_item *i)
{
	const struct ks_trash_entry *e = i->e;
	KS_AUTO(ks_freep) char *entry = entry_name(e);
	json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:o}", "type", "item", "kind",
			      ks_cmd_kind(e->attr.mode), "inode", (json_int_t)e->ino, "bytes",
			      (json_int_t)e->attr.used, "removed", ks_json_time(e->attr.ctime_ns));

	if (j && action)
		json_object_set_new(j, "action", json_string(action));
	if (j && entry && ks_json_name(j, "path", i->path, i->path_n) == 0 &&
	    ks_json_name(j, "entry", entry, strlen(entry)) == 0)
		ks_json_print(j);
	else
		json_decref(j);
}

static void put_path(const struct ks_trash_item *i)
{
	bool escape = isatty(STDOUT_FILENO);

	ks_cmd_put_name(i->path, i->path_n, escape);
	if (S_ISDIR(i->e->attr.mode))
		putchar('/');
}

static void on_listed(const struct ks_trash_item *i)
{
	KS_AUTO(ks_freep) char *entry = ks_common.verbose ? entry_name(i->e) : NULL;
	char time[KS_TIME_STR];
	char size[KS_SIZE_STR];

	ks_time_format(i->e->attr.ctime_ns, time);
	time[10] = ' ';
	ks_cmd_size(i->e->attr.used, size);
	printf("%.19sZ %10s  ", time, size);
	put_path(i);
	if (entry) {
		printf("  /");
		ks_cmd_put_name(entry, strlen(entry), isatty(STDOUT_FILENO));
	}
	putchar('\n');
}

static void on_restored(const struct ks_trash_item *i)
{
	const char *action = ks_common.dry_run ? "would restore" : "restored";

	if (!ks_common.verbose || ks_common.quiet)
		return;
	if (ks_common.json) {
		print_json(action, i);
		return;
	}
	ks_progress_lock();
	printf("%s ", action);
	put_path(i);
	putchar('\n');
	ks_progress_unlock();
}

static void on_item(void *where, const struct ks_trash_item *i, int err)
{
	const char *why = err == -EEXIST   ? "something has that name"
			  : err == -ENOENT ? "its directory is neither there nor in the trash"
					   : ks_strerror(err);
	KS_AUTO(ks_freep) char *path = NULL;
	KS_AUTO(ks_freep) char *text = NULL;

	if (what == LS && ks_common.json && !ks_common.quiet)
		print_json(NULL, i);
	if (what == LS && !ks_common.json && !ks_common.quiet)
		on_listed(i);
	if (what == LS)
		return;
	if (err == 0) {
		on_restored(i);
		return;
	}
	path = strndup(i->path, i->path_n);
	text = path ? ks_asprintf("cannot restore %s:%s: %s", (const char *)where, path, why)
		    : NULL;
	if (!text)
		return;
	ks_cmd_error("%s", text);
	if (err == -EEXIST)
		ks_cmd_hint("rename what is there, and restore again");
	else if (err == -ENOENT)
		ks_cmd_hint("--to=DIR says where to");
	ks_json_error(path, "restore", err, text);
}

/* ---- asking ---- */

/* 1: yes; 0: no; -errno. */
static int confirm(struct ks_meta *m, const struct ks_trash_opts *o, const char *name)
{
	struct ks_trash_opts look = *o;
	struct ks_trash_result sum = { 0 };
	char size[KS_SIZE_STR];
	int r;

	if (ks_common.yes || ks_common.dry_run)
		return 1;
	ks_cmd_must_ask("--yes empties without asking");
	look.dry_run = true;
	r = ks_trash_empty(m, &look, &sum);
	if (r < 0)
		return r;
	ks_cmd_size(sum.bytes, size);
	return ks_cmd_ask("free %" PRIu64 " entries, %s, of %s, without a way back?",
			  (uint64_t)sum.entries, size, name);
}

/* ---- running ---- */

static int act(struct ks_volume *v, const char *path)
{
	KS_AUTO(ks_freep) char *where = strdup(v->settings->name);
	struct ks_trash_opts o = { .pick = { .path = path, .before = UINT64_MAX },
				   .dry_run = ks_common.dry_run,
				   .to = arg.to,
				   .stop = ks_cmd_stopped_cb,
				   .item = on_item,
				   .arg = where };
	int r = 1;

	if (!where)
		return -ENOMEM;
	if (arg.older_ns)
		o.pick.before = ks_trash_hour_before(ks_clock_real_ns(), arg.older_ns);
	if (what == LS)
		return ks_trash_ls(v->meta, &o, &done);
	if (what == EMPTY)
		r = confirm(v->meta, &o, where);
	if (r <= 0)
		return r;
	ks_progress_start("trash", how_far, NULL);
	r = what == EMPTY ? ks_trash_empty(v->meta, &o, &done)
			  : ks_trash_restore(v->meta, &o, &done);
	ks_progress_stop();
	if (r >= 0 && !ks_common.dry_run)
		r = ks_meta_sync(v->meta);
	return r;
}

/* An exit code. */
static int run(const char *operand)
{
	struct ks_volume_find find = { .config = ks_common.config,
				       .defaults = ks_cmd_default,
				       .no_default = what == EMPTY };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	bool change = what != LS && !ks_common.dry_run;
	struct ks_volume_opts vo = { .readonly = !change,
				     .meta_only = true,
				     .session = change ? KS_SESSION_TOOL : 0,
				     .tool = "kiseki-trash" };
	int r = ks_volume_open_named(&v, operand, &path, &find, &vo);

	if (r == 0 && what == EMPTY && path)
		ks_cmd_usage("'%s': empty frees whole hours (--older=DUR), not single paths; "
			     "kiseki-rm --no-trash removes without the trash",
			     operand);
	if (r == 0) {
		ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
		r = act(v, path);
	}
	/* Before closing raises anything else. */
	return r < 0 && r != -EINTR ? ks_cmd_report(r) : 0;
}

static void say_sum(void)
{
	char size[KS_SIZE_STR];

	ks_cmd_size(done.bytes, size);
	if (what != LS && (done.entries || ks_common.dry_run))
		ks_cmd_say("%s%s %" PRIu64 " entries, %s%s", ks_common.dry_run ? "would " : "",
			   what == EMPTY       ? ks_common.dry_run ? "free" : "freed"
			   : ks_common.dry_run ? "restore"
					       : "restored",
			   (uint64_t)done.entries, size,
			   ks_common.dry_run ? "; dry run: nothing changed" : "");
	if (done.older)
		ks_cmd_note("%" PRIu64 " older entries of the same names stay in the trash",
			    (uint64_t)done.older);
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "entries", done.entries }, { "bytes", done.bytes },
				       { "older", done.older }, { "failed", done.failed }));
}

static void parse_what(const char *text, int n)
{
	if (strcmp(text, "ls") == 0)
		what = LS;
	else if (strcmp(text, "restore") == 0)
		what = RESTORE;
	else if (strcmp(text, "empty") == 0)
		what = EMPTY;
	else
		ks_cmd_usage("'%s' is none of ls, restore and empty", text);
	if (arg.to && what != RESTORE)
		ks_cmd_usage("--to is for restore");
	if (ks_common.yes && what != EMPTY)
		ks_cmd_usage("--yes is for empty");
	if (what != LS && n == 0)
		ks_cmd_usage("%s needs a volume: there is no default", text);
	if (what == EMPTY && n > 1)
		ks_cmd_usage("empty takes one volume");
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args) - 1;
	int code = 0;

	parse_what(args[0], n);
	for (int i = 1; (i == 1 || i <= n) && !ks_cmd_stopped(); i++)
		code = ks_exit_worse(code, run(args[i])); /* the others are still done */
	if (done.failed)
		code = ks_exit_worse(code, KS_EXIT_PARTIAL);
	say_sum();
	return ks_cmd_exit(code);
}
