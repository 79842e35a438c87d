/* SPDX-License-Identifier: Apache-2.0 */
/* print.c: the numbers of one look at a mount. */
#include "base/clock.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "stats.h"
#include "vfs/vfs.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static uint64_t value(json_t *stats, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(stats, name));
}

static double seconds(const struct target *t)
{
	return (double)(t->now_ns - t->last_ns) / (double)KS_NS_PER_S;
}

/* How much it grew. A counter goes back only when the mount is another one; that is not looked at. */
static uint64_t grown(const struct target *t, const char *name)
{
	uint64_t before = value(t->last, name), now = value(t->now, name);

	return now > before ? now - before : 0;
}

static double rate(const struct target *t, const char *name)
{
	double s = seconds(t);

	return s > 0 ? (double)grown(t, name) / s : 0;
}

/* Room for "1023.9 MiB" is too much for a column: "1.0G", "512M", "0". */
static void put_size(double n, int width)
{
	static const char units[] = " KMGTPE";
	char text[KS_SIZE_STR];
	size_t u = 0;

	if (ks_common.bytes) {
		printf(" %*.0f", width, n);
		return;
	}
	for (; n >= 999.5 && u + 2 < sizeof(units); u++)
		n /= 1024;
	snprintf(text, sizeof(text), u && n < 9.95 ? "%.1f%c" : "%.0f%c", n, units[u]);
	if (!u)
		text[strlen(text) - 1] = '\0';
	printf(" %*s", width, text);
}

static void put_share(uint64_t part, uint64_t whole, int width)
{
	if (whole)
		printf(" %*.0f", width, (double)part * 100 / (double)whole);
	else
		printf(" %*s", width, "-");
}

/* Wide enough for whole bytes, where they are wanted. */
static int size_width(void)
{
	return ks_common.bytes ? 12 : 6;
}

void print_header(bool several)
{
	int w = size_width();

	printf("------metadata------ %.*s %.*s%s\n", 7 + 2 * w,
	       "--------cache-----------------------", 15 + 2 * w,
	       "---------------store-----------------------", several ? " mount" : "");
	printf("%6s %6s %6s %5s %*s %*s %6s %6s %*s %*s%s\n", "files", "read/s", "txn/s", "hit%", w,
	       "used", w, "dirty", "get/s", "put/s", w, "in/s", w, "out/s",
	       several ? " point" : "");
}

void print_line(const struct target *t, bool several)
{
	uint64_t hits = grown(t, "page_hits");
	int w = size_width();

	printf("%6ju %6.0f %6.0f", (uintmax_t)value(t->now, "open_files"),
	       rate(t, "meta_reads") + rate(t, "meta_scans"), rate(t, "meta_commits"));
	put_share(hits, hits + grown(t, "page_misses"), 5);
	put_size((double)value(t->now, "clean_bytes"), w);
	put_size((double)value(t->now, "dirty_bytes"), w);
	printf(" %6.0f %6.0f", rate(t, "object_gets"), rate(t, "object_puts"));
	put_size(rate(t, "object_get_bytes"), w);
	put_size(rate(t, "object_put_bytes"), w);
	if (several) {
		putchar(' ');
		ks_cmd_put_name(t->dir, strlen(t->dir), true);
	}
	putchar('\n');
	fflush(stdout);
}

void print_json(const struct target *t)
{
	json_t *j = json_pack("{s:s, s:o, s:f}", "type", "item", "time",
			      ks_json_time(ks_clock_real_ns()), "interval_s", seconds(t));
	json_t *per_s = json_object();
	struct ks_counter c;

	if (!j || !per_s || ks_json_name(j, "mountpoint", t->dir, strlen(t->dir)) < 0) {
		json_decref(j);
		json_decref(per_s);
		return;
	}
	json_object_update_missing(j, t->now);
	json_object_del(j, "ok");
	for (size_t i = 0; ks_vfs_counter(i, &c); i++) {
		if (c.grows)
			json_object_set_new(per_s, c.name,
					    json_real(round(rate(t, c.name) * 1000) / 1000));
	}
	json_object_set_new(j, "per_s", per_s);
	ks_json_print(j);
}
