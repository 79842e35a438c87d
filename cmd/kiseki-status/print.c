/* SPDX-License-Identifier: Apache-2.0 */
/* print.c: what kiseki-status found, for people and as JSON. */
#include "base/clock.h"
#include "base/hash.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "status.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static double ms(int64_t ns)
{
	return (double)ns / (double)KS_NS_PER_MS;
}

static void quota(uint64_t used, uint64_t max, bool bytes, char *text, size_t n)
{
	char size[KS_SIZE_STR];

	if (!max) {
		snprintf(text, n, "none");
		return;
	}
	ks_cmd_size(max, size);
	if (bytes)
		snprintf(text, n, "%s (%.0f %%)", size, (double)used * 100 / (double)max);
	else
		snprintf(text, n, "%" PRIu64 " files (%.0f %%)", max,
			 (double)used * 100 / (double)max);
}

static int64_t age(int64_t now, const struct ks_session_info *e)
{
	return now > e->heartbeat_ns ? (now - e->heartbeat_ns) / KS_NS_PER_S : 0;
}

static void print_sessions(const struct ks_status *s)
{
	int64_t now = ks_clock_real_ns();
	char started[KS_TIME_STR];
	size_t shown = arg.sessions ? s->nsessions : ks_min(s->nsessions, (size_t)5);

	if (s->ndead)
		ks_cmd_say("sessions  %zu (%zu dead)", s->nsessions, s->ndead);
	else
		ks_cmd_say("sessions  %zu", s->nsessions);
	for (size_t i = 0; i < shown; i++) {
		const struct ks_session_info *e = &s->sessions[i];
		bool mount = e->kind == KS_SESSION_MOUNT;
		const char *transport = s->transports[i];

		ks_time_format(e->start_ns, started);
		ks_cmd_say("  %s:%s  pid %" PRIu32 "  since %.16sZ  heartbeat %" PRId64 " s%s%s%s",
			   e->host, mount ? e->mountpoint : e->tool, e->pid, started, age(now, e),
			   transport ? "  transport " : "", transport ? transport : "",
			   e->dead ? "  dead" : "");
	}
	if (shown < s->nsessions)
		ks_cmd_say("  and %zu more (--sessions)", s->nsessions - shown);
}

/* What is not in the trash. */
static struct ks_meta_usage live(const struct ks_status *s)
{
	uint64_t inodes = s->trash.entries + s->trash.own;
	struct ks_meta_usage u = s->usage;

	/* They were read one after the other. */
	u.used_bytes -= ks_min(u.used_bytes, s->trash.bytes);
	u.inodes -= ks_min(u.inodes, inodes);
	return u;
}

/* Of the oldest, in seconds. */
static int64_t trash_age(const struct ks_status *s)
{
	int64_t since = (int64_t)s->trash.oldest_hour * 3600;
	int64_t now = ks_clock_real_ns() / KS_NS_PER_S;

	return s->trash.entries && now > since ? now - since : 0;
}

static void print_trash(const struct ks_status *s)
{
	uint64_t keep = (uint64_t)(s->settings.trash_ns / KS_NS_PER_S);
	char size[KS_SIZE_STR];
	char kept[KS_SIZE_STR];
	char age[60] = "";

	ks_cmd_size(s->trash.bytes, size);
	ks_cmd_duration(keep, kept);
	if (s->trash.entries)
		snprintf(age, sizeof(age), " in %" PRIu64 " entries (oldest %" PRId64 " h)",
			 s->trash.entries, trash_age(s) / 3600);
	if (keep)
		ks_cmd_say("trash     %s%s  kept %s", size, age, kept);
	else if (s->trash.entries)
		ks_cmd_say("trash     %s%s  not kept any more", size, age);
	else
		ks_cmd_say("trash     none");
}

/* In local time, as people plan jobs: "today 02:00", or the day. */
static void when(int64_t ns, char *out, size_t n)
{
	struct timespec then = ks_ns_to_ts(ns);
	struct timespec now = ks_ns_to_ts(ks_clock_real_ns());
	struct tm t, today;

	localtime_r(&then.tv_sec, &t);
	localtime_r(&now.tv_sec, &today);
	strftime(out, n,
		 t.tm_year == today.tm_year && t.tm_yday == today.tm_yday ? "today %H:%M"
									  : "%Y-%m-%d",
		 &t);
}

/*
 * Of a volume that is new there is nothing to tell. Of the others "never" is said where it would be missed, and is true: a mount compacts by itself, and a check that
 * only looks leaves no note.
 */
static void print_last(const struct ks_status *s)
{
	char line[256] = "";
	size_t n = 0;
	bool any = false;

	for (int i = 0; i < KS_TOOLS; i++) {
		const struct ks_last *l = &s->last[i];
		char time[32] = "never", code[32] = "";

		any = any || l->end_ns;
		if (!l->end_ns && i != KS_TOOL_GC && i != KS_TOOL_DUMP)
			continue;
		if (l->end_ns)
			when(l->end_ns, time, sizeof(time));
		if (l->end_ns)
			snprintf(code, sizeof(code), l->code ? " exit %d" : " ok", l->code);
		n += (size_t)snprintf(line + n, sizeof(line) - n, "%s%s %s%s", n ? ", " : "",
				      ks_tool_names[i], time, code);
	}
	ks_cmd_say("last      %s", any ? line : "none");
}

void status_print(const struct ks_status *s, const struct ks_volume_ref *ref)
{
	char uuid[KS_UUID_STR];
	char size[KS_SIZE_STR];
	char created[KS_TIME_STR];
	char text[96];
	char files[96];

	ks_uuid_format(s->settings.uuid, uuid);
	ks_time_format(s->settings.created_ns, created);
	ks_cmd_say_end(s->problems ? KS_SGR_BAD : KS_SGR_GOOD, s->problems ? "DEGRADED" : "healthy",
		       "%s  %s  format %" PRIu32 ", created %.10s  ", s->settings.name, uuid,
		       s->settings.format_version, created);
	if (ks_common.verbose)
		ks_cmd_say("found by  %s: %s", ref->rule, ref->spec);
	ks_cmd_size(s->meta_bytes, size);
	ks_cmd_say("metadata  %s  %s  %.1f ms", s->meta_url, size, ms(s->meta_ns));
	if (s->data_err)
		ks_cmd_say("data      %s  NOT USABLE: %s", s->data_url, s->data_text);
	else if (s->data.free_bytes != UINT64_MAX) {
		ks_cmd_size(s->data.free_bytes, size);
		ks_cmd_say("data      %s  reachable  %.1f ms  %s free", s->data_url, ms(s->data_ns),
			   size);
	} else {
		ks_cmd_say("data      %s  reachable  %.1f ms", s->data_url, ms(s->data_ns));
	}
	ks_cmd_size(live(s).used_bytes, size);
	quota(s->usage.used_bytes, s->settings.capacity_bytes, true, text, sizeof(text));
	quota(s->usage.inodes, s->settings.inodes_max, false, files, sizeof(files));
	ks_cmd_say("live      %s in %" PRIu64 " files and directories  quota %s%s%s", size,
		   live(s).inodes, text, s->settings.inodes_max ? ", " : "",
		   s->settings.inodes_max ? files : "");
	print_trash(s);
	ks_cmd_size(s->settings.block_size, size);
	ks_cmd_say("blocks    %s, compression %s", size, s->settings.compress);
	print_sessions(s);
	print_last(s);
}

static json_t *json_sessions(const struct ks_status *s)
{
	int64_t now = ks_clock_real_ns();
	json_t *list = json_array();

	for (size_t i = 0; list && i < s->nsessions; i++) {
		const struct ks_session_info *e = &s->sessions[i];
		json_t *j = json_pack("{s:I,s:s,s:s,s:I,s:b,s:I}", "id", (json_int_t)e->id, "kind",
				      e->kind == KS_SESSION_MOUNT ? "mount" : "tool", "version",
				      e->version, "pid", (json_int_t)e->pid, "dead", e->dead,
				      "heartbeat_age_s", (json_int_t)age(now, e));

		if (!j)
			continue;
		json_object_set_new(j, "started", ks_json_time(e->start_ns));
		if (s->transports[i])
			json_object_set_new(j, "transport", json_string(s->transports[i]));
		/* Names of machines and directories may be any bytes. */
		if (ks_json_name(j, "host", e->host, strlen(e->host)) == 0 &&
		    ks_json_name(j, "tool", e->tool, strlen(e->tool)) == 0 &&
		    ks_json_name(j, "mountpoint", e->mountpoint, strlen(e->mountpoint)) == 0)
			json_array_append_new(list, j);
		else
			json_decref(j);
	}
	return list;
}

/* Null for what never ended. */
static json_t *json_last(const struct ks_status *s)
{
	json_t *all = json_object();

	for (int i = 0; all && i < KS_TOOLS; i++) {
		const struct ks_last *l = &s->last[i];
		json_t *j = l->end_ns ? json_pack("{s:o,s:i}", "ended", ks_json_time(l->end_ns),
						  "exit_code", l->code)
				      : json_null();

		json_object_set_new(all, ks_tool_names[i], j);
	}
	return all;
}

static json_t *json_problems(const struct ks_status *s)
{
	static const struct {
		unsigned int flag;
		const char *name;
	} all[] = {
		{ KS_STATUS_DATA, "data" },   { KS_STATUS_SESSIONS, "sessions" },
		{ KS_STATUS_QUOTA, "quota" }, { KS_STATUS_FSCK, "fsck" },
		{ KS_STATUS_GC, "gc" },
	};
	json_t *list = json_array();

	for (size_t i = 0; list && i < KS_ARRAY_SIZE(all); i++) {
		if (s->problems & all[i].flag)
			json_array_append_new(list, json_string(all[i].name));
	}
	return list;
}

void status_summarise(const struct ks_status *s)
{
	json_t *data;

	ks_json_volume(s->settings.name, s->settings.uuid, s->meta_url);
	ks_json_summary("healthy", json_boolean(s->problems == 0));
	ks_json_summary("problems", json_problems(s));
	ks_json_summary("format", json_integer(s->settings.format_version));
	ks_json_summary("created", ks_json_time(s->settings.created_ns));
	ks_json_summary("block_size", json_integer((json_int_t)s->settings.block_size));
	ks_json_summary("metadata", json_pack("{s:I,s:f}", "bytes", (json_int_t)s->meta_bytes,
					      "latency_ms", ms(s->meta_ns)));
	data = json_pack("{s:s,s:b,s:f}", "url", s->data_url, "reachable", s->data_err == 0,
			 "latency_ms", ms(s->data_ns));
	if (data && s->data_err == 0 && s->data.free_bytes != UINT64_MAX)
		json_object_set_new(data, "free_bytes",
				    json_integer((json_int_t)s->data.free_bytes));
	ks_json_summary("data", data);
	ks_json_summary("live", json_pack("{s:I,s:I}", "bytes", (json_int_t)live(s).used_bytes,
					  "inodes", (json_int_t)live(s).inodes));
	ks_json_summary("trash", json_pack("{s:I,s:I,s:I,s:I}", "bytes", (json_int_t)s->trash.bytes,
					   "entries", (json_int_t)s->trash.entries, "oldest_age_s",
					   (json_int_t)trash_age(s), "keep_s",
					   (json_int_t)(s->settings.trash_ns / KS_NS_PER_S)));
	ks_json_summary("quota",
			json_pack("{s:I,s:I}", "bytes", (json_int_t)s->settings.capacity_bytes,
				  "inodes", (json_int_t)s->settings.inodes_max));
	ks_json_summary("sessions", json_sessions(s));
	ks_json_summary("last", json_last(s));
}

static void explain_notes(const struct ks_status *s, const struct ks_volume_ref *ref)
{
	const struct ks_last *fsck = &s->last[KS_TOOL_FSCK];
	const struct ks_last *gc = &s->last[KS_TOOL_GC];
	char time[32];

	if (s->problems & KS_STATUS_FSCK) {
		when(fsck->end_ns, time, sizeof(time));
		ks_cmd_error("%s: the last repair (kiseki-fsck, %s, exit %d) left damage",
			     s->settings.name, time, fsck->code);
		ks_cmd_hint("kiseki-fsck %s shows it, kiseki-fsck -y repairs what can be repaired",
			    ref->spec);
	}
	if (!(s->problems & KS_STATUS_GC))
		return;
	when(gc->end_ns, time, sizeof(time));
	if (ks_status_gc_failed(gc))
		ks_cmd_error("%s: the last kiseki-gc (%s) failed: exit %d", s->settings.name, time,
			     gc->code);
	else
		ks_cmd_error("%s: the last kiseki-gc (%s) is more than %d days ago",
			     s->settings.name, time, KS_STATUS_GC_DAYS);
	ks_cmd_hint("kiseki-gc %s; the timer kiseki-gc@NAME.timer runs it daily", ref->spec);
}

void status_explain(const struct ks_status *s, const struct ks_volume_ref *ref)
{
	if (s->problems & KS_STATUS_DATA) {
		ks_cmd_error("%s: %s", s->settings.name, s->data_text);
		if (s->data_hint)
			ks_cmd_hint("%s", s->data_hint);
	}
	if (s->problems & KS_STATUS_SESSIONS)
		ks_cmd_error("%s: %zu dead session%s", s->settings.name, s->ndead,
			     s->ndead == 1 ? "" : "s");
	if (s->problems & KS_STATUS_QUOTA)
		ks_cmd_error("%s: more than 95 %% of a quota is used", s->settings.name);
	explain_notes(s, ref);
}
