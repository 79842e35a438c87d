/* SPDX-License-Identifier: Apache-2.0 */
/* report.c: what kiseki-fsck says. */
#include "base/buf.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "fsck.h"
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

struct fsck_report report = { .progress_fd = -1, .last_percent = -1 };

static const char *const passes[] = { "", "inodes and directories", "slices and reference counts",
				      "blocks in data store", "counters" };

/* ---- problems ---- */

static const char *way_out(const struct ks_fsck_problem *p)
{
	if (p->fixed)
		return p->moved ? "moved to /" KS_FSCK_LOST_FOUND : "repaired";
	switch (p->repair) {
	case KS_FSCK_R_SAFE:
		return report.level == KS_FSCK_CHECK ? "-p repairs" : "could not be repaired";
	case KS_FSCK_R_LOSSY:
		return report.level == KS_FSCK_ALL
			       ? "could not be repaired"
			       : "-y repairs, with loss or to /" KS_FSCK_LOST_FOUND;
	case KS_FSCK_R_NONE:
		break;
	}
	return "not repairable";
}

/* A name for a terminal: what is no character of a line becomes '?'. */
static int put_name(struct ks_buf *b, const char *p, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		char c = p[i];

		if ((unsigned char)c < 0x20 || c == 0x7f)
			c = '?';
		r = ks_buf_append(b, &c, 1);
	}
	return r;
}

static int put_text(struct ks_buf *b, const struct ks_fsck_problem *p)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < p->npaths; i++) {
		if (i)
			r = ks_buf_printf(b, "%s", i == 1 ? " (link: " : ", ");
		if (r == 0)
			r = put_name(b, p->paths[i].p, p->paths[i].n);
	}
	if (r == 0 && p->npaths > 1)
		r = ks_buf_append(b, ")", 1);
	if (r == 0 && p->npaths == 0 && p->ino)
		r = ks_buf_printf(b, "inode %ju", (uintmax_t)p->ino);
	else if (r == 0 && p->npaths == 0 && p->slice)
		r = ks_buf_printf(b, "slice %ju", (uintmax_t)p->slice);
	if (r == 0)
		r = ks_buf_printf(b, "%s%s  [%s]", b->n ? ": " : "", p->text, way_out(p));
	return r;
}

static void json_problem(const struct ks_fsck_problem *p)
{
	static const char *const repairs[] = { "safe", "lossy", "none" };
	json_t *j = json_pack("{s:s,s:s}", "type", "problem", "kind", p->kind);

	if (!j)
		return;
	json_object_set_new(j, "paths", json_array());
	for (size_t i = 0; i < p->npaths; i++)
		KS_IGNORE(ks_json_add_name(j, "paths", p->paths[i].p, p->paths[i].n) <
			  0); /* printed without */
	if (p->ino)
		json_object_set_new(j, "inode", json_integer((json_int_t)p->ino));
	if (p->slice)
		json_object_set_new(j, "slice", json_integer((json_int_t)p->slice));
	if (p->pack)
		json_object_set_new(j, "pack", json_integer((json_int_t)p->pack));
	if (p->len) {
		json_object_set_new(j, "offset", json_integer((json_int_t)p->off));
		json_object_set_new(j, "length", json_integer((json_int_t)p->len));
	}
	if (p->is != p->should) {
		json_object_set_new(j, "is", json_integer((json_int_t)p->is));
		json_object_set_new(j, "should", json_integer((json_int_t)p->should));
	}
	json_object_set_new(j, "repair", json_string(repairs[p->repair]));
	json_object_set_new(j, "fixed", json_boolean(p->fixed));
	json_object_set_new(j, "message", json_string(p->text));
	ks_json_print(j);
}

void report_problem(void *unused, const struct ks_fsck_problem *p)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	const char *text = "out of memory";
	bool counter = strncmp(p->kind, "wrong_counter_", 14) == 0;

	(void)unused;
	report.counters_wrong += counter;
	report.counters_fixed += counter && p->fixed;
	if (ks_common.json) {
		if (!ks_common.quiet)
			json_problem(p);
		return;
	}
	KS_IGNORE(put_text(&b, p) < 0 ||
		  ks_buf_cstr(&b, &text) < 0); /* then the text is what it was set to */
	if (ks_common.quiet)
		ks_cmd_error("%s", text);
	else
		ks_cmd_say("%s", text);
}

/* ---- progress ---- */

/* As e2fsck(8): pass, done, total. */
static void feed_fd(int pass, uint64_t done, uint64_t total, bool end)
{
	char line[100];
	int percent = end ? 100 : total ? (int)(ks_min(done, total) * 100 / total) : 0;
	int n;

	if (report.progress_fd < 0 || (percent == report.last_percent && !end))
		return;
	report.last_percent = percent;
	n = snprintf(line, sizeof(line), "%d %" PRIu64 " %" PRIu64 " %s\n", pass,
		     end ? 100 : (uint64_t)percent, (uint64_t)100, report.volume);
	/* Whoever asked for it may have gone. */
	if (write(report.progress_fd, line, (size_t)n) < 0)
		report.progress_fd = -1;
}

void report_progress(void *unused, int pass, uint64_t done, uint64_t total, bool end)
{
	(void)unused;
	report.done = done;
	report.total = total;
	feed_fd(pass, done, total, end);
	if (end && !ks_common.json)
		ks_cmd_say("Pass %d/4 %-29s %12" PRIu64 " checked", pass, passes[pass], done);
}

/* ---- the end ---- */

static void put_part(struct ks_buf *b, uint64_t n, const char *one, const char *many)
{
	if (n)
		KS_IGNORE(ks_buf_printf(b, "%s%ju %s", b->n ? ", " : "", (uintmax_t)n,
					n == 1 ? one : many));
}

static void summarise(const struct ks_fsck_result *r)
{
	ks_json_summary(
		"counts",
		KS_JSON_COUNTS(
			{ "inodes", r->inodes }, { "directories", r->directories },
			{ "entries", r->entries }, { "extents", r->extents },
			{ "slices", r->slices }, { "blocks", r->blocks }, { "packs", r->packs },
			{ "objects", r->objects }, { "read_blocks", r->read_blocks },
			{ "read_bytes", r->read_bytes }, { "missing_blocks", r->missing_blocks },
			{ "damaged_blocks", r->damaged_blocks },
			{ "damaged_files", r->damaged_files },
			{ "counters_fixed", report.counters_fixed }, { "problems", r->problems },
			{ "fixed", r->fixed }, { "unrepaired", r->problems - r->fixed },
			{ "in_lost_found", r->quarantined }, { "hidden_blocks", r->hidden },
			{ "leftover_objects", r->leftovers }, { "unsettled", r->unsettled }));
}

/* Of what was found; NULL, no colour, when all is repaired or not all was looked at. */
static const char *end_color(const struct ks_fsck_result *r)
{
	if (r->problems > r->fixed)
		return KS_SGR_BAD;
	return r->problems || r->stopped ? NULL : KS_SGR_GOOD;
}

void report_end(const struct ks_fsck_result *r, int bits)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	const char *text = "";
	uint64_t rest = r->problems - ks_min(r->problems, r->damaged_files + report.counters_wrong);

	summarise(r);
	put_part(&b, r->damaged_files, "file damaged", "files damaged");
	put_part(&b, report.counters_wrong, "counter wrong", "counters wrong");
	put_part(&b, rest, "other finding", "other findings");
	if (!r->problems)
		KS_IGNORE(ks_buf_printf(&b, "clean"));
	else if (r->fixed) {
		KS_IGNORE(ks_buf_printf(&b, "; %ju of %ju repaired", (uintmax_t)r->fixed,
					(uintmax_t)r->problems));
	} else {
		KS_IGNORE(ks_buf_printf(&b, "; nothing changed"));
	}
	if (r->stopped)
		KS_IGNORE(ks_buf_printf(&b, "; stopped before the end"));
	if (ks_buf_cstr(&b, &text) < 0)
		text = "out of memory";
	if (r->quarantined)
		ks_cmd_say("%ju damaged files lie in /" KS_FSCK_LOST_FOUND " already",
			   (uintmax_t)r->quarantined);
	if (r->leftovers && ks_common.verbose)
		ks_cmd_say("%ju objects belong to nothing: kiseki-gc removes them",
			   (uintmax_t)r->leftovers);
	if (r->unsettled && ks_common.verbose)
		ks_cmd_say("%ju things were being changed while they were looked at",
			   (uintmax_t)r->unsettled);
	if (bits && (ks_common.json || ks_common.quiet))
		ks_cmd_error("%s: %s", report.volume, text);
	else
		ks_cmd_say_end(end_color(r), text, "%s: ", report.volume);
}
