/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c: the rows for people and programs, and beside those of an earlier run. */
#include "base/buf.h"
#include "base/log.h"
#include "bench.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB_BYTES 1048576.0

int baseline_read(struct baseline *out, const char *path)
{
	FILE *f = fopen(path, "re");
	KS_AUTO(ks_freep) char *line = NULL;
	size_t cap = 0;

	if (!f)
		return ks_fail(-errno, "baseline %s", path);
	/* The summary is the last line. */
	while (getline(&line, &cap, f) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		json_t *rows = json_object_get(o, "rows");

		if (json_is_object(rows)) {
			json_decref(out->rows);
			out->rows = json_incref(rows);
		}
		json_decref(o);
	}
	fclose(f);
	return out->rows ? 0
			 : ks_fail_hint(-EBADMSG, "kiseki-bench --json writes one",
					"%s has no result of kiseki-bench", path);
}

void baseline_clear(struct baseline *b)
{
	json_decref(b->rows);
	b->rows = NULL;
}

/* As programs get it: MiB in a second, or files in a second. */
static double value_of(enum ks_bench_row row, double per_s)
{
	double v = ks_bench_in_bytes(row) ? per_s / MIB_BYTES : per_s;

	return round(v * 1000) / 1000;
}

/* What one of them takes: seconds a GiB, or milliseconds a file. */
static double cost_of(enum ks_bench_row row, double per_s)
{
	double c = per_s > 0 ? (ks_bench_in_bytes(row) ? 1024 * MIB_BYTES : 1000) / per_s : 0;

	return round(c * 10000) / 10000;
}

static void print_row(enum ks_bench_row row, double value, double cost, double before, bool worse)
{
	bool bytes = ks_bench_in_bytes(row);
	char change[64] = "";

	if (before > 0)
		snprintf(change, sizeof(change), "   %+6.1f %%%s", (value / before - 1) * 100,
			 worse ? "  WORSE" : "");
	ks_cmd_say("%-16s %10.1f %-5s  %9.*f %-6s%s", ks_bench_title(row), value,
		   bytes ? "MiB/s" : "/s", bytes ? 1 : 3, cost, bytes ? "s/GiB" : "ms", change);
}

static void print_json(enum ks_bench_row row, double value, double cost, double before, bool worse)
{
	bool bytes = ks_bench_in_bytes(row);
	json_t *j = json_pack("{s:s,s:s,s:f,s:s,s:f,s:s}", "type", "item", "row", ks_bench_key(row),
			      "value", value, "unit", bytes ? "MiB/s" : "/s", "cost", cost,
			      "cost_unit", bytes ? "s/GiB" : "ms");

	if (j && before > 0) {
		json_object_set_new(j, "baseline", json_real(before));
		json_object_set_new(j, "worse", json_boolean(worse));
	}
	ks_json_item(j, NULL, NULL);
}

int print_rows(const double per_s[KS_BENCH_ROWS], const struct baseline *base, double tolerance)
{
	json_t *rows = json_object();
	int worse = 0;

	ks_cmd_say("%-16s %10s %-5s  %9s%s", "", "value", "", "cost",
		   base ? "        against baseline" : "");
	for (int i = 0; i < KS_BENCH_ROWS; i++) {
		enum ks_bench_row row = (enum ks_bench_row)i;
		double value = value_of(row, per_s[i]), cost = cost_of(row, per_s[i]);
		double before =
			base ? json_number_value(json_object_get(base->rows, ks_bench_key(row)))
			     : 0;
		bool is_worse = before > 0 && value < before * (1 - tolerance);

		worse += is_worse;
		print_row(row, value, cost, before, is_worse);
		if (ks_common.json)
			print_json(row, value, cost, before, is_worse);
		json_object_set_new(rows, ks_bench_key(row), json_real(value));
	}
	ks_json_summary("rows", rows);
	if (!worse)
		return 0;
	ks_cmd_error("%d of %d rows are worse than the baseline by more than %.0f %%", worse,
		     KS_BENCH_ROWS, tolerance * 100);
	return KS_EXIT_FINDINGS;
}
