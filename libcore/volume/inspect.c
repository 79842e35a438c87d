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

struct metrics {
	struct ks_buf *out;
	struct ks_buf labels;
	int r;
};

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

static void add_metric(void *arg, const struct ks_counter *c)
{
	struct metrics *m = arg;

	if (m->r == 0)
		m->r = ks_buf_printf(m->out, "# TYPE kiseki_%s %s\n", c->name,
				     c->grows ? "counter" : "gauge");
	if (m->r == 0 && c->bytes)
		m->r = ks_buf_printf(m->out, "# UNIT kiseki_%s bytes\n", c->name);
	if (m->r == 0)
		m->r = ks_buf_printf(m->out, "# HELP kiseki_%s %s\nkiseki_%s%s{%.*s} %ju\n",
				     c->name, c->help, c->name, c->grows ? "_total" : "",
				     (int)m->labels.n, m->labels.p, (uintmax_t)c->value);
}

int ks_metrics_text(const struct ks_mount_info *info, struct ks_vfs *v, struct ks_buf *out)
{
	struct metrics m = { .out = out };

	m.r = add_label(&m.labels, "volume", info->volume);
	if (m.r == 0)
		m.r = add_label(&m.labels, "mountpoint", info->mountpoint);
	if (m.r == 0)
		ks_vfs_counters(v, add_metric, &m);
	if (m.r == 0)
		m.r = ks_buf_printf(out, "# EOF\n");
	ks_buf_clear(&m.labels);
	return m.r;
}
