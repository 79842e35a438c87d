/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-gc: give back the room of what nobody refers to any more. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "volume/gc.h"
#include "volume/last.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	int64_t grace_ns;
	uint64_t max_delete;
	unsigned int only;
	bool force;
} arg = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };

static _Atomic uint64_t done, total; /* for the progress line */

static const char *set_only(const char *value)
{
	static const struct {
		const char *name;
		unsigned int what;
	} parts[] = { { "trash", KS_GC_TRASH },
		      { "sessions", KS_GC_SESSIONS },
		      { "pending", KS_GC_PENDING },
		      { "orphans", KS_GC_ORPHANS } };

	arg.only = 0;
	for (const char *p = value;; p++) {
		size_t n = strcspn(p, ",");
		unsigned int before = arg.only;

		for (size_t i = 0; i < KS_ARRAY_SIZE(parts); i++) {
			if (strlen(parts[i].name) == n && strncmp(parts[i].name, p, n) == 0)
				arg.only |= parts[i].what;
		}
		if (arg.only == before)
			return "accepted are trash, sessions, pending and orphans, with commas "
			       "between them";
		p += n;
		if (!*p)
			return NULL;
	}
}

static const struct ks_opt opts[] = {
	KS_OPT_DURATION(0, "grace", &arg.grace_ns,
			"never touch objects younger than this (24h; at least 1h)"),
	KS_OPT_CALL(0, "only", "WHAT", set_only, "some of trash,sessions,pending,orphans"),
	{ .kind = KS_OPT_K_INTEGER,
	  .name = "max-delete",
	  .arg = "N",
	  .min = 1,
	  .value = &arg.max_delete,
	  .help = "stop after N objects (exit 5)" },
	KS_OPT_FLAG_CMD(0, "force", &arg.force,
			"also when more than half of the objects look like garbage"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-gc",
	.usage = "[OPTIONS] [VOLUME]",
	.about = "Expire trash, finish deletions, remove objects nothing refers to. For cron.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point",
	.examples = "kiseki-gc photos\n"
		    "kiseki-gc -n photos\n"
		    "kiseki-gc -q --max-duration=1h photos",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_CONFIG | KS_CMD_LOCK_WAIT | KS_CMD_MAX_DURATION |
		  KS_CMD_CHECK | KS_CMD_METRICS,
	.max_args = 1,
	.features = ks_volume_features,
};

/* ---- what it says ---- */

static void on_item(void *unused, const char *key, uint64_t bytes, const char *why)
{
	(void)unused;
	if (!ks_common.verbose)
		return;
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:s,s:s,s:I}", "type", "item", "action",
				       ks_common.dry_run ? "would delete" : "deleted", "object",
				       key, "why", why, "bytes", (json_int_t)bytes),
			     NULL, NULL);
	} else {
		ks_cmd_say("%s %s (%s)", ks_common.dry_run ? "would delete" : "deleted", key, why);
	}
}

/* The first says what is wrong; a store that is read-only would say it a million times. */
static void on_failed(void *unused, const char *key, int err)
{
	static bool told;
	KS_AUTO(ks_freep) char *text = NULL;

	(void)unused;
	if (told)
		return;
	told = true;
	text = ks_asprintf("cannot delete %s: %s", key,
			   *ks_fail_text() ? ks_fail_text() : ks_strerror(err));
	ks_cmd_error("%s", text ? text : key);
	ks_json_error(key, "delete", err, text);
}

static void on_progress(void *unused, const char *what, uint64_t n, uint64_t of)
{
	(void)unused;
	(void)what;
	done = n;
	total = of;
}

static void how_far(void *unused, struct ks_progress_now *out)
{
	(void)unused;
	*out = (struct ks_progress_now){ .done_items = done, .total_items = total };
}

static json_t *trash_json(const struct ks_trash_sum *t)
{
	return KS_JSON_COUNTS({ "entries", t->entries }, { "bytes", t->bytes });
}

static void summarise(const struct ks_gc_result *r)
{
	const struct {
		const char *name;
		const struct ks_gc_count *c;
	} parts[] = { { "pending", &r->pending }, { "packs", &r->packs },
		      { "orphans", &r->orphans }, { "young", &r->young },
		      { "live", &r->live },       { "waiting", &r->waiting } };
	json_t *j = KS_JSON_COUNTS(
		{ "scanned_objects", r->scanned_objects }, { "scanned_slices", r->scanned_slices },
		{ "unknown_objects", r->unknown }, { "dead_sessions", r->dead_sessions },
		{ "deleted_files", r->deleted_files }, { "deleted_objects", r->deleted_objects },
		{ "deleted_bytes", r->deleted_bytes }, { "failed", r->failed });

	for (size_t i = 0; j && i < KS_ARRAY_SIZE(parts); i++) {
		const struct ks_gc_count *c = parts[i].c;

		json_object_set_new(
			j, parts[i].name,
			KS_JSON_COUNTS({ "objects", c->objects }, { "bytes", c->bytes }));
	}
	if (j) {
		json_object_set_new(j, "trash", trash_json(&r->expired));
		json_object_set_new(j, "trash_kept", trash_json(&r->kept));
	}
	ks_json_summary("counts", j);
}

static void row(const char *name, const struct ks_gc_count *c, const char *what)
{
	char size[KS_SIZE_STR];

	ks_cmd_size(c->bytes, size);
	ks_cmd_say("%-13s %10" PRIu64 "  %12s   %s", name, c->objects, size, what);
}

/* When the first of what is kept goes. */
static void expires(const struct ks_trash_sum *kept, int64_t keep_ns, char *out, size_t n)
{
	const int64_t hour_ns = 3600 * KS_NS_PER_S;
	int64_t rest = keep_ns % hour_ns ? 1 : 0;
	char hour[KS_TRASH_HOUR_STR];

	ks_trash_hour_format(kept->oldest_hour + 1 + (uint64_t)(keep_ns / hour_ns + rest), hour);
	hour[10] = '\0';
	if (kept->entries)
		snprintf(out, n, "entries: kept (expire from %s %s:00Z)", hour, hour + 11);
	else
		snprintf(out, n, "entries: kept");
}

static void print_preview(const struct ks_gc_result *r, int64_t keep_ns)
{
	const struct ks_gc_count expired = { r->expired.entries, r->expired.bytes };
	const struct ks_gc_count kept = { r->kept.entries, r->kept.bytes };
	char young[80];
	char when[80];

	expires(&r->kept, keep_ns, when, sizeof(when));
	snprintf(young, sizeof(young), "kept (younger than %jd h)",
		 (intmax_t)(arg.grace_ns / (3600 * KS_NS_PER_S)));
	if (arg.grace_ns < 3600 * KS_NS_PER_S)
		snprintf(young, sizeof(young), "kept (younger than %jd s)",
			 (intmax_t)(arg.grace_ns / KS_NS_PER_S));
	ks_cmd_say("%-13s %10s  %12s", "", "objects", "size");
	row("trash expired", &expired, "entries: would be freed");
	row("pending", &r->pending, "would delete");
	row("packs", &r->packs, "would delete");
	row("orphans", &r->orphans, "would delete");
	row("too young", &r->young, young);
	row("in use", &r->live, "kept (a living session may have uploaded them)");
	row("trash kept", &kept, when);
	if (r->deleted_files)
		ks_cmd_say("%" PRIu64 " deleted files wait to be freed", r->deleted_files);
	if (r->unknown)
		ks_cmd_say("%" PRIu64 " objects are not Kiseki's", r->unknown);
	ks_cmd_say("dry run: nothing deleted");
}

static void print_result(const char *volume, const struct ks_gc_result *r)
{
	char kept[KS_SIZE_STR];
	char size[KS_SIZE_STR];

	ks_cmd_size(r->kept.bytes, kept);
	ks_cmd_size(r->deleted_bytes, size);
	ks_cmd_say("%s: reclaimed %s (%" PRIu64 " objects) in %.1f s; kept %" PRIu64
		   " objects that are young or in use%s%s%s",
		   volume, size, r->deleted_objects, ks_cmd_seconds(),
		   r->young.objects + r->live.objects, r->kept.entries ? ", and in the trash " : "",
		   r->kept.entries ? kept : "", r->limited ? "; stopped at a limit" : "");
	if (r->waiting.objects && !ks_common.quiet)
		ks_cmd_note("%s: %" PRIu64 " objects wait for a session that still may read them",
			    volume, r->waiting.objects);
}

/* ---- running ---- */

static int64_t least_grace(void)
{
	const char *testing = getenv("KISEKI_TESTING");

	return testing && *testing ? 5 * KS_NS_PER_S : KS_GC_GRACE_MIN_NS;
}

static int open_volume(struct ks_maint *m, const struct ks_volume_ref *ref)
{
	int r = ks_maint_open(m, ref, !ks_common.dry_run);

	if (r == 0 && !ks_common.dry_run)
		r = ks_meta_session_start(m->meta, KS_SESSION_TOOL, "kiseki-gc", "", "");
	return r;
}

/* An exit code, or -errno. */
static int collect(struct ks_maint *m, const struct ks_volume_ref *ref, struct ks_gc_result *out)
{
	struct ks_gc_opts o = { .what = arg.only,
				.dry_run = ks_common.dry_run,
				.force = arg.force,
				.grace_ns = arg.grace_ns,
				.deadline_ns = ks_cmd_deadline(),
				.max_delete = arg.max_delete,
				.stopped = ks_cmd_stopped_cb,
				.item = on_item,
				.failed = on_failed,
				.progress = on_progress };
	int r;

	for (;;) {
		r = open_volume(m, ref);
		if (r == 0) {
			ks_progress_start("gc", how_far, NULL);
			r = ks_gc(m, &o, out);
			ks_progress_stop();
		}
		if (!ks_cmd_wait_busy(r))
			break;
		ks_maint_close(m);
	}
	if (m->settings)
		ks_json_volume(m->settings->name, m->settings->uuid, m->shown_url);
	return r;
}

static int exit_code(const struct ks_gc_result *r)
{
	int code = KS_EXIT_OK;

	if (r->failed) {
		ks_cmd_error("%ju objects could not be deleted", (uintmax_t)r->failed);
		ks_cmd_hint("the next run tries again");
		code = ks_exit_worse(code, KS_EXIT_PARTIAL);
	}
	if (r->limited)
		code = ks_exit_worse(code, KS_EXIT_LIMIT);
	if (ks_common.check && (r->expired.entries || r->pending.objects || r->packs.objects ||
				r->orphans.objects || r->deleted_files || r->dead_sessions))
		code = ks_exit_worse(code, KS_EXIT_FINDINGS);
	return code;
}

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	struct ks_gc_result out = { 0 };
	struct ks_maint m = { 0 };
	char **args;
	int r;

	ks_cmd_parse(&cmd, argc, argv, &args);
	find.config = ks_common.config;
	r = ks_volume_resolve(&ref, args[0], &find);
	if (r == 0 && arg.grace_ns < least_grace())
		ks_cmd_usage("--grace is at least 1h: younger objects may belong to a write that "
			     "is under way");
	if (r == 0)
		r = collect(&m, &ref, &out);
	summarise(&out);
	if (r == 0) {
		if (ks_common.dry_run)
			print_preview(&out, m.settings->trash_ns);
		else
			print_result(m.settings->name, &out);
		r = exit_code(&out);
	} else {
		r = ks_cmd_report(r); /* before closing raises anything else */
	}
	if (m.meta && !ks_common.dry_run && (!arg.only || arg.only == KS_GC_ALL))
		ks_last_note(m.meta, KS_TOOL_GC, ks_cmd_code(r));
	ks_maint_close(&m);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(r);
}
