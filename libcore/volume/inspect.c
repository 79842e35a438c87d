/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c: a mount's statistics, as JSON and as OpenMetrics text. Both from ks_vfs_counters(). */
#include "volume/inspect.h"
#include "base/buf.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

void ks_mount_info_set(struct ks_mount_info *info, dev_t dev, const char *transport)
{
	__atomic_store_n(&info->transport, transport, __ATOMIC_RELAXED);
	__atomic_store_n(&info->dev, (uint64_t)dev, __ATOMIC_RELAXED);
}

json_t *ks_mount_json(const struct ks_mount_info *info)
{
	uint64_t dev = __atomic_load_n(&info->dev, __ATOMIC_RELAXED);
	const char *transport = __atomic_load_n(&info->transport, __ATOMIC_RELAXED);
	char text[32];

	snprintf(text, sizeof(text), "%u:%u", major(dev), minor(dev));
	/* A mount point need not be UTF-8; the device says the same. */
	return json_pack("{s:i, s:s*, s:s, s:s*, s:s*, s:s}", "pid", (int)getpid(), "mountpoint",
			 info->mountpoint, "device", text, "transport", transport, "volume",
			 info->volume, "version", info->version);
}

static void add_member(void *arg, const struct ks_counter *c)
{
	/* A member that is missing is what no memory looks like. */
	KS_IGNORE(json_object_set_new(arg, c->name, json_integer((json_int_t)c->value)) < 0);
}

json_t *ks_stats_json(const struct ks_mount_info *info, struct ks_vfs *v)
{
	json_t *o = ks_mount_json(info);

	if (o)
		ks_vfs_counters(v, add_member, o);
	return o;
}

int ks_json_text(json_t *o, struct ks_buf *out)
{
	char *text = json_dumps(o, JSON_COMPACT);
	int r = text ? ks_buf_printf(out, "%s\n", text) : -ENOMEM;

	free(text);
	json_decref(o);
	return r;
}

/* ---- OpenMetrics ---- */

/* key="value". One that is not UTF-8 cannot be a label's. */
static int add_label(struct ks_buf *b, const char *key, const char *value)
{
	json_t *utf8 = value ? json_string(value) : NULL;
	int r = 0;

	if (!utf8)
		return 0;
	json_decref(utf8);
	r = ks_buf_printf(b, "%s%s=\"", b->n ? "," : "", key);
	for (const char *p = value; r == 0 && *p; p++) {
		if (*p == '\n')
			r = ks_buf_append(b, "\\n", 2);
		else
			r = ks_buf_printf(b, "%s%c", *p == '"' || *p == '\\' ? "\\" : "", *p);
	}
	return r < 0 ? r : ks_buf_append(b, "\"", 1);
}

/* One sample of the counter, with the labels of its mount. */
static int add_sample(struct ks_buf *out, const struct ks_counter *c, json_t *stats)
{
	json_t *value = json_object_get(stats, c->name);
	struct ks_buf labels = { 0 };
	int r;

	/* An older mount may not have it. */
	if (!json_is_integer(value))
		return 0;
	r = add_label(&labels, "volume", json_string_value(json_object_get(stats, "volume")));
	if (r == 0)
		r = add_label(&labels, "mountpoint",
			      json_string_value(json_object_get(stats, "mountpoint")));
	if (r == 0)
		r = ks_buf_printf(out, "kiseki_%s%s{%.*s} %" JSON_INTEGER_FORMAT "\n", c->name,
				  c->grows ? "_total" : "", (int)labels.n, labels.p,
				  json_integer_value(value));
	ks_buf_clear(&labels);
	return r;
}

int ks_metrics_of(json_t *const *stats, size_t n, struct ks_buf *out)
{
	struct ks_counter c;
	int r = 0;

	for (size_t i = 0; r == 0 && ks_vfs_counter(i, &c); i++) {
		r = ks_buf_printf(out, "# TYPE kiseki_%s %s\n", c.name,
				  c.grows ? "counter" : "gauge");
		if (r == 0 && c.bytes)
			r = ks_buf_printf(out, "# UNIT kiseki_%s bytes\n", c.name);
		if (r == 0)
			r = ks_buf_printf(out, "# HELP kiseki_%s %s\n", c.name, c.help);
		for (size_t k = 0; r == 0 && k < n; k++)
			r = add_sample(out, &c, stats[k]);
	}
	return r < 0 ? r : ks_buf_printf(out, "# EOF\n");
}

int ks_metrics_text(const struct ks_mount_info *info, struct ks_vfs *v, struct ks_buf *out)
{
	json_t *stats = ks_stats_json(info, v);
	int r = stats ? ks_metrics_of(&stats, 1, out) : -ENOMEM;

	json_decref(stats);
	return r;
}
