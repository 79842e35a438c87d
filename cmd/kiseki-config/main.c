/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-config: show and change a volume's settings. */
#include "base/array.h"
#include "base/buf.h"
#include "base/log.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "volume/settings.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static const struct ks_opt opts[] = {
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-config",
	.usage = "[OPTIONS] [VOLUME] [KEY[=VALUE]...]",
	.about = "Show a volume's settings, or change some; mounts follow in a second.",
	.operands =
		"  VOLUME      NAME, metadata URL, database file or mount point; a first\n"
		"              operand that is or sets a KEY means the default volume\n"
		"  KEY         print the value of that setting; without any: all of them\n"
		"  KEY=VALUE   capacity=SIZE, inodes=N, trash=DUR; VALUE none: no quota, no trash",
	.examples = "kiseki-config photos\n"
		    "kiseki-config photos capacity=500G inodes=none trash=7d\n"
		    "kiseki-config -b photos capacity",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_BYTES |
		  KS_CMD_CONFIG,
	.max_args = -1,
	.features = ks_volume_features,
};

/* An operand that asks for a setting or changes one. */
struct ask {
	const struct ks_setting *k;
	const char *value; /* NULL: show it */
};

static int parse_ask(const char *text, struct ask *out)
{
	size_t n = strcspn(text, "=");
	KS_AUTO(ks_freep) char *key = strndup(text, n);

	if (!key)
		return -ENOMEM;
	out->k = ks_setting_find(key);
	out->value = text[n] ? text + n + 1 : NULL;
	return out->k ? 0 : -ENOENT;
}

/* "key=" of anything that cannot be a path or a URL. */
static bool is_ask(const char *text)
{
	struct ask a;

	return parse_ask(text, &a) == 0 || (strchr(text, '=') && !strpbrk(text, "/:"));
}

static void value_text(const struct ks_setting *k, const struct ks_volume_settings *s, char *out)
{
	uint64_t n;

	if (!ks_setting_is_number(k)) {
		ks_setting_text(k, s, out);
		return;
	}
	n = ks_setting_number(k, s);
	if (k->change && !n)
		snprintf(out, KS_SETTING_STR, "none");
	else if (k->kind == KS_SETTING_BYTES)
		ks_cmd_size(n, out);
	else if (k->kind == KS_SETTING_SECONDS)
		ks_cmd_duration(n, out);
	else
		snprintf(out, KS_SETTING_STR, "%" PRIu64, n);
}

static json_t *value_json(const struct ks_setting *k, const struct ks_volume_settings *s)
{
	char text[KS_SETTING_STR];

	if (ks_setting_is_number(k))
		return json_integer((json_int_t)ks_setting_number(k, s));
	ks_setting_text(k, s, text);
	return json_string(text);
}

static const char *source(const struct ks_setting *k, const struct ks_volume_settings *s)
{
	if (!k->change)
		return "format";
	return ks_setting_number(k, s) ? "volume" : "default";
}

/* @alone: the value is all that was asked for. */
static void show(const struct ks_setting *k, const struct ks_volume_settings *s, bool alone)
{
	char text[KS_SETTING_STR];

	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:o,s:s,s:b}", "type", "item", "key", k->key,
				       "value", value_json(k, s), "source", source(k, s),
				       "changeable", k->change),
			     NULL, NULL);
		return;
	}
	value_text(k, s, text);
	if (alone)
		ks_cmd_say("%s", text);
	else
		ks_cmd_say("%-12s %-40s %s", k->key, text, source(k, s));
}

/* Lines of the configuration files, in increasing precedence: only the last of a key counts. */
struct line {
	char *key, *value;
};

struct lines {
	struct line *v;
	size_t n, cap;
};

static void lines_clear(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++) {
		free(l->v[i].key);
		free(l->v[i].value);
	}
	free(l->v);
}

static int take_line(void *arg, const char *key, const char *value)
{
	struct lines *l = arg;
	char *copy = strdup(value), *name;
	size_t i = 0;

	if (!copy)
		return -ENOMEM;
	while (i < l->n && strcmp(l->v[i].key, key) != 0)
		i++;
	if (i < l->n) {
		free(l->v[i].value);
		l->v[i].value = copy;
		return ks_cmd_default(NULL, key, value);
	}
	name = ks_array_room(&l->v, l->n, &l->cap) == 0 ? strdup(key) : NULL;
	if (!name) {
		free(copy);
		return -ENOMEM;
	}
	l->v[l->n++] = (struct line){ .key = name, .value = copy };
	return ks_cmd_default(NULL, key, value);
}

static void show_lines(const struct lines *l)
{
	for (size_t i = 0; i < l->n; i++) {
		const struct line *e = &l->v[i];
		KS_AUTO(ks_freep) char *option = ks_asprintf("--%s", e->key);
		json_t *j;

		if (!option)
			continue;
		ks_cmd_say("%-12s %-40s %s", option, e->value, "config");
		if (!ks_common.json)
			continue;
		j = json_pack("{s:s,s:s,s:b}", "type", "item", "source", "config", "changeable",
			      false);
		/* A file may hold any bytes. */
		if (j)
			KS_IGNORE(ks_json_name(j, "key", option, strlen(option)) < 0);
		ks_json_item(j, "value", e->value);
	}
}

static void tell_change(const struct ks_setting *k, const struct ks_volume_settings *before,
			const struct ks_volume_settings *after)
{
	char from[KS_SETTING_STR];
	char to[KS_SETTING_STR];

	value_text(k, before, from);
	value_text(k, after, to);
	ks_cmd_say("%s: %s %s: %s -> %s", after->name,
		   ks_common.dry_run ? "would change" : "changed", k->key, from, to);
	if (ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s,s:s,s:o,s:o}", "type", "item", "action",
				       ks_common.dry_run ? "would change" : "changed", "key",
				       k->key, "from", value_json(k, before), "value",
				       value_json(k, after)),
			     NULL, NULL);
	}
}

/* A quota below what is there is legal: nothing more can be written until something is deleted. */
static void warn_full(struct ks_meta *m, const struct ks_volume_settings *s)
{
	struct ks_meta_usage u;

	if (ks_meta_usage(m, &u) < 0)
		return;
	if (s->capacity_bytes && u.used_bytes > s->capacity_bytes) {
		ks_cmd_note("%s: more is stored than the capacity allows: writes fail until "
			    "enough is deleted",
			    s->name);
	}
	if (s->inodes_max && u.inodes > s->inodes_max) {
		ks_cmd_note("%s: there are more files than the quota allows: none can be made "
			    "until enough are deleted",
			    s->name);
	}
}

static int change(struct ks_meta *m, const struct ask *asks, size_t n, uint64_t *changed)
{
	struct ks_volume_settings before = *ks_meta_settings(m);
	struct ks_volume_settings after = before;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		if (asks[i].value)
			r = ks_setting_set(asks[i].k, &after, asks[i].value);
	}
	if (r == 0 && !ks_common.dry_run)
		r = ks_meta_settings_set(m, &after);
	if (r == 0 && !ks_common.dry_run)
		r = ks_meta_sync(m);
	if (r < 0)
		return r;
	for (const struct ks_setting *k = ks_settings; k->key; k++) {
		if (!k->change || ks_setting_number(k, &before) == ks_setting_number(k, &after))
			continue;
		tell_change(k, &before, &after);
		++*changed;
	}
	if (*changed)
		warn_full(m, &after);
	return 0;
}

static int run(struct ks_volume_ref *ref, const char *volume, const struct ask *asks, size_t n,
	       uint64_t *changed)
{
	struct ks_volume_find find = { .config = ks_common.config };
	struct ks_volume_opts vo = { .readonly = true, .meta_only = true };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(lines_clear) struct lines lines = { 0 };
	size_t shown = 0;
	int r = ks_volume_resolve(ref, volume, &find);

	for (size_t i = 0; i < n; i++) {
		shown += !asks[i].value;
		vo.readonly = vo.readonly && (!asks[i].value || ks_common.dry_run);
	}
	if (r == 0)
		r = ks_volume_config(&find, ref->name, take_line, &lines);
	if (r == 0)
		r = ks_volume_open(&v, ref, &vo);
	if (r < 0)
		return r;
	ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
	if (shown < n)
		r = change(v->meta, asks, n, changed);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (!asks[i].value)
			show(asks[i].k, v->settings, true);
	}
	for (const struct ks_setting *k = ks_settings; n == 0 && k->key; k++)
		show(k, v->settings, false);
	if (n == 0)
		show_lines(&lines);
	return r;
}

int main(int argc, char **argv)
{
	struct ks_volume_ref ref = { 0 };
	struct ask *asks;
	uint64_t changed = 0;
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int first = n > 0 && !is_ask(args[0]);
	int r = 0;

	asks = calloc((size_t)n + 1, sizeof(*asks));
	if (!asks)
		return ks_cmd_exit(-ENOMEM);
	for (int i = first; i < n; i++) {
		r = parse_ask(args[i], &asks[i - first]);
		if (r == -ENOENT) {
			ks_cmd_usage("there is no setting '%.*s'; 'kiseki-config VOLUME' lists "
				     "those there are",
				     (int)strcspn(args[i], "="), args[i]);
		}
		if (r == 0 && asks[i - first].value && !asks[i - first].k->change) {
			ks_cmd_usage("'%s' was fixed when the volume was made; capacity, "
				     "inodes and trash can be changed",
				     asks[i - first].k->key);
		}
	}
	if (r == 0)
		r = run(&ref, first ? args[0] : NULL, asks, (size_t)(n - first), &changed);
	if (r < 0)
		r = ks_cmd_report(r);
	ks_json_summary("counts", KS_JSON_COUNTS({ "changed", changed }));
	free(asks);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(r);
}
