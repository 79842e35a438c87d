/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: what kiseki-cp says. */
#include "base/size.h"
#include "cli/json.h"
#include "cp.h"
#include <inttypes.h>
#include <string.h>

void cp_on_item(void *unused, const char *action, const char *from, const char *to, uint64_t bytes)
{
	json_t *j;

	(void)unused;
	if (!ks_common.json) {
		if (!arg.to_stdout)
			ks_cmd_say("%s%s: %s%s%s", ks_common.dry_run ? "would be " : "", action,
				   from, *from ? " -> " : "", to);
		return;
	}
	j = json_pack("{s:s,s:s,s:I}", "type", "item", "action", action, "bytes",
		      (json_int_t)bytes);
	if (j && *from)
		KS_IGNORE(ks_json_name(j, "from", from, strlen(from)) < 0); /* printed without */
	ks_json_item(j, "path", to);
}

void cp_on_error(void *unused, const char *path, const char *op, int err, const char *text,
		 const char *hint)
{
	(void)unused;
	ks_cmd_error("%s", text);
	if (*hint)
		ks_cmd_hint("%s", hint);
	ks_json_error(path, op, err, text);
}

void cp_on_difference(void *unused, const char *path, const char *why)
{
	(void)unused;
	if (ks_common.json) {
		ks_json_item(
			json_pack("{s:s,s:s,s:s}", "type", "item", "action", "differs", "why", why),
			"path", path);
	} else {
		ks_cmd_say("%s: %s", path, why);
	}
}

#define ASK_ABOVE 100

bool cp_may_delete(void *unused, uint64_t n)
{
	(void)unused;
	ks_cmd_note("kiseki-cp: %" PRIu64 " entries of DEST are not in SOURCE", n);
	return n <= ASK_ABOVE || ks_cmd_ask("delete %" PRIu64 " entries?", n);
}

static void print_compared(const struct ks_copy_counts *n)
{
	ks_cmd_say("Compared %" PRIu64 " files, %" PRIu64 " directories; %" PRIu64
		   " differences, %" PRIu64 " failed",
		   n->files + n->symlinks + n->others, n->dirs, n->different, n->failed);
}

void cp_print(const struct ks_copy_counts *n)
{
	char size[KS_SIZE_STR];
	char rate[KS_SIZE_STR];
	double s = ks_cmd_seconds();
	uint64_t files = n->files + n->links + n->symlinks + n->others;

	if (arg.to_stdout)
		return;
	if (arg.compare) {
		print_compared(n);
		return;
	}
	if (ks_common.dry_run) {
		ks_cmd_say("dry run: nothing copied; %" PRIu64 " files and %" PRIu64
			   " directories would be, %" PRIu64 " skipped, %" PRIu64
			   " deleted, %" PRIu64 " failed",
			   files, n->dirs, n->skipped, n->deleted, n->failed);
		return;
	}
	ks_cmd_size(n->bytes, size);
	ks_cmd_size(s > 0.001 ? (uint64_t)((double)n->bytes / s) : n->bytes, rate);
	ks_cmd_say("Copied %" PRIu64 " files, %" PRIu64
		   " directories, %s in %.1f s (%s/s); %" PRIu64 " skipped, %" PRIu64
		   " deleted, %" PRIu64 " failed",
		   files, n->dirs, size, s, rate, n->skipped, n->deleted, n->failed);
}

void cp_summarise(const struct cp_ends *e, const struct ks_copy_counts *n)
{
	const struct ks_volume *v = e->to.volume ? e->to.volume : e->n ? e->from[0].volume : NULL;

	if (v)
		ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "files", n->files }, { "dirs", n->dirs },
				       { "symlinks", n->symlinks }, { "others", n->others },
				       { "links", n->links }, { "bytes", n->bytes },
				       { "skipped", n->skipped }, { "failed", n->failed },
				       { "acls_lost", n->acls_lost }, { "touched", n->touched },
				       { "deleted", n->deleted }, { "different", n->different }));
}
