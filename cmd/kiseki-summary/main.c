/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-summary: how much is in a tree of a volume. */
#include "base/buf.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/summary.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	uint64_t depth, entries;
} arg = { .depth = 1, .entries = 20 };

static _Atomic uint64_t seen;
static struct ks_summary_sum total;

static const struct ks_opt opts[] = {
	KS_OPT_INTEGER('d', "depth", 0, KS_SUMMARY_DEPTH_MAX, &arg.depth,
		       "show N levels of entries (1); 0: only the sum"),
	KS_OPT_INTEGER('e', "entries", 1, KS_SUMMARY_ENTRIES_MAX, &arg.entries,
		       "show the N largest of each directory (20)"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-summary",
	.usage = "[OPTIONS] [VOLUME:/PATH...]",
	.about = "Say how much is in a tree of a volume, from metadata alone.",
	.operands = "  VOLUME:/PATH   a directory or file of a volume; VOLUME alone is its root;\n"
		    "                 nothing: the root of the default volume",
	.examples = "kiseki-summary photos\n"
		    "kiseki-summary -d 3 -e 5 photos:/2024\n"
		    "kiseki-summary -d 0 --json photos | jq .counts.used",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS | KS_CMD_BYTES |
		  KS_CMD_CONFIG,
	.max_args = -1,
	.features = ks_volume_features,
};

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = seen };
}

static void put_columns(const struct ks_summary_sum *s)
{
	char used[KS_SIZE_STR];
	char bytes[KS_SIZE_STR];

	ks_cmd_size(s->used, used);
	ks_cmd_size(s->bytes, bytes);
	printf("%12s %12s %10" PRIu64 " %10" PRIu64 "  ", used, bytes, s->files, s->dirs);
}

/* The last component; of what was asked for, the whole operand. */
static void put_text(const struct ks_summary *s, const char *name, unsigned int level)
{
	size_t n = strlen(name);

	put_columns(&s->sum);
	printf("%*s", (int)level * 2, "");
	ks_cmd_put_name(name, n, isatty(STDOUT_FILENO));
	if (S_ISDIR(s->mode) && n && name[n - 1] != '/')
		putchar('/');
	putchar('\n');
	for (size_t i = 0; i < s->nv; i++)
		put_text(s->v[i], s->v[i]->name, level + 1);
	if (s->nrest) {
		put_columns(&s->rest);
		printf("%*s(%" PRIu64 " more)\n", (int)level * 2 + 2, "", s->nrest);
	}
}

static json_t *sum_json(const struct ks_summary_sum *s)
{
	return json_pack("{s:s,s:I,s:I,s:I,s:I}", "type", "item", "files", (json_int_t)s->files,
			 "dirs", (json_int_t)s->dirs, "bytes", (json_int_t)s->bytes, "used",
			 (json_int_t)s->used);
}

static void put_item(const struct ks_summary_sum *s, const char *kind, const char *path,
		     unsigned int level, uint64_t entries)
{
	json_t *j = sum_json(s);

	json_object_set_new(j, "kind", json_string(kind));
	json_object_set_new(j, "depth", json_integer(level));
	if (entries)
		json_object_set_new(j, "entries", json_integer((json_int_t)entries));
	ks_json_item(j, "path", path);
}

static void put_json(const struct ks_summary *s, const char *path, unsigned int level)
{
	size_t n = strlen(path);

	put_item(&s->sum, ks_cmd_kind(s->mode), path, level, 0);
	for (size_t i = 0; i < s->nv; i++) {
		KS_AUTO(ks_freep)
		char *below = ks_asprintf("%s%s%s", path, n && path[n - 1] == '/' ? "" : "/",
					  s->v[i]->name);

		if (below)
			put_json(s->v[i], below, level + 1);
	}
	if (s->nrest)
		put_item(&s->rest, "rest", path, level + 1, s->nrest);
}

static void put(const struct ks_summary *s, const char *name, bool first)
{
	total.files += s->sum.files;
	total.dirs += s->sum.dirs;
	total.bytes += s->sum.bytes;
	total.used += s->sum.used;
	if (ks_common.quiet)
		return;
	if (ks_common.json) {
		put_json(s, name, 0);
		return;
	}
	if (first)
		printf("%12s %12s %10s %10s  %s\n", "USED", "SIZE", "FILES", "DIRS", "NAME");
	put_text(s, name, 0);
}

static int sum_up(const char *operand, bool first)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_opts vo = { .readonly = true, .meta_only = true };
	struct ks_summary_opts o = { .stop = ks_cmd_stopped_cb, .seen = &seen };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	KS_AUTO(ks_freep) char *name = NULL;
	struct ks_summary *s = NULL;
	int r = ks_volume_open_named(&v, operand, &path, &find, &vo);

	if (r < 0)
		return r;
	ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
	o.depth = (unsigned int)arg.depth;
	o.entries = (unsigned int)arg.entries;
	name = ks_asprintf("%s%s", operand ? operand : v->settings->name, path ? "" : ":/");
	if (!name)
		return -ENOMEM;
	r = ks_summary(v->meta, path ? path : "/", &o, &s);
	if (r == 0) {
		ks_progress_lock();
		put(s, name, first);
		ks_progress_unlock();
	}
	ks_summary_free(s);
	return r;
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int code = 0;

	ks_progress_start("summary", how_far, NULL);
	for (int i = 0; (i == 0 || i < n) && !ks_cmd_stopped(); i++) {
		int r = sum_up(args[i], i == 0);

		/* The others are still added up. */
		if (r < 0)
			code = ks_exit_worse(code, ks_cmd_report(r));
	}
	ks_progress_stop();
	ks_json_summary("counts", KS_JSON_COUNTS({ "files", total.files }, { "dirs", total.dirs },
						 { "bytes", total.bytes }, { "used", total.used }));
	return ks_cmd_exit(code);
}
