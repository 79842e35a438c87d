/* SPDX-License-Identifier: Apache-2.0 */
/* json.c: JSON lines, names that are not UTF-8, and the summary. */
#include "cli/json.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "cli/progress.h"
#include "cli/state.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *extra; /* the tool's members of the summary */

void ks_json_print(json_t *line)
{
	char *text;

	if (!ks_common.json || !line) {
		json_decref(line);
		return;
	}
	text = json_dumps(line, JSON_COMPACT | JSON_REAL_PRECISION(9));
	json_decref(line);
	if (!text)
		return;
	ks_progress_lock();
	puts(text);
	fflush(stdout);
	ks_progress_unlock();
	free(text);
}

void ks_json_item(json_t *line, const char *key, const char *name)
{
	if (!ks_common.quiet && line && (!name || ks_json_name(line, key, name, strlen(name)) == 0))
		ks_json_print(line);
	else
		json_decref(line);
}

char *ks_utf8_approximate(const char *p, size_t n, bool *exact)
{
	char *out = malloc(3 * n + 1);
	size_t k = 0;

	*exact = true;
	for (size_t i = 0; out && i < n;) {
		size_t len = ks_utf8_sequence((const unsigned char *)p + i, n - i);

		/* A NUL inside cannot travel in a C string. */
		if (len == 0 || p[i] == '\0') {
			memcpy(out + k, "\xef\xbf\xbd", 3);
			k += 3;
			i++;
			*exact = false;
		} else {
			memcpy(out + k, p + i, len);
			k += len;
			i += len;
		}
	}
	if (out)
		out[k] = '\0';
	return out;
}

static char *base64(const char *p, size_t n)
{
	char *out = malloc(KS_BASE64_LEN(n) + 1);

	if (out) {
		ks_base64(p, n, out);
		out[KS_BASE64_LEN(n)] = '\0';
	}
	return out;
}

int ks_json_name(json_t *obj, const char *key, const char *name, size_t n)
{
	bool exact = false;
	char *text = ks_utf8_approximate(name, n, &exact);
	char *code = exact || !text ? NULL : base64(name, n);
	char key_b64[64];
	int r = text ? json_object_set_new(obj, key, json_string(text)) : -1;

	if (r == 0 && !exact) {
		snprintf(key_b64, sizeof(key_b64), "%s_b64", key);
		r = code ? json_object_set_new(obj, key_b64, json_string(code)) : -1;
	}
	free(text);
	free(code);
	return r == 0 ? 0 : -ENOMEM;
}

/* The list @key of @obj, with @n times null when it is new. */
static json_t *list_of(json_t *obj, const char *key, size_t n)
{
	json_t *list = json_object_get(obj, key);

	if (list)
		return list;
	list = json_array();
	while (list && n-- > 0)
		json_array_append_new(list, json_null());
	return json_object_set_new(obj, key, list) == 0 ? list : NULL;
}

int ks_json_add_name(json_t *obj, const char *key, const char *name, size_t n)
{
	json_t *one = json_object(), *list = list_of(obj, key, 0), *exact, *b64;
	char key_b64[64];
	int r = one && list ? ks_json_name(one, "n", name, n) : -ENOMEM;

	snprintf(key_b64, sizeof(key_b64), "%s_b64", key);
	b64 = json_object_get(one, "n_b64");
	exact = b64 || json_object_get(obj, key_b64) ? list_of(obj, key_b64, json_array_size(list))
						     : NULL;
	if (r == 0)
		r = json_array_append(list, json_object_get(one, "n"));
	if (r == 0 && exact)
		r = json_array_append(exact, b64 ? b64 : json_null());
	json_decref(one);
	return r == 0 ? 0 : -ENOMEM;
}

json_t *ks_json_time(int64_t ns)
{
	char text[KS_TIME_STR];

	ks_time_format(ns, text);
	/* "2026-11-20T02:00:03.123456Z" to whole seconds. */
	if (strlen(text) > 20 && text[19] == '.') {
		text[19] = 'Z';
		text[20] = '\0';
	}
	return json_string(text);
}

/* jansson takes valid UTF-8 only. */
static json_t *text_of(const char *p)
{
	bool exact;
	char *text = p ? ks_utf8_approximate(p, strlen(p), &exact) : NULL;
	json_t *j = text ? json_string(text) : json_null();

	free(text);
	return j;
}

char *ks_json_log(enum ks_log_level level, const char *key, const char *where, const char *text)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };
	char when[KS_TIME_STR];
	json_t *line;
	char *out;

	ks_time_format(ks_clock_real_ns(), when);
	line = json_pack("{s:s,s:s,s:s,s:s}", "type", "log", "time", when, "level", names[level],
			 "tool", ks_cmd_name());
	if (line && where)
		json_object_set_new(line, "where", text_of(where));
	if (line)
		json_object_set_new(line, key, text_of(text));
	out = line ? json_dumps(line, JSON_COMPACT) : NULL;
	json_decref(line);
	return out;
}

void ks_json_error(const char *path, const char *op, int err, const char *message)
{
	json_t *line;

	if (!ks_common.json || ks_common.quiet)
		return;
	line = json_pack("{s:s}", "type", "error");
	if (line && path && ks_json_name(line, "path", path, strlen(path)) < 0) {
		json_decref(line);
		return;
	}
	if (line) {
		const char *name = strerrorname_np(err < 0 ? -err : err);

		json_object_set_new(line, "op", text_of(op));
		json_object_set_new(line, "errno", text_of(name));
		json_object_set_new(line, "message", text_of(message));
	}
	ks_json_print(line);
}

void ks_json_summary(const char *key, json_t *value)
{
	if (!extra)
		extra = json_object();
	if (extra && value)
		json_object_set_new(extra, key, value);
}

void ks_json_summary_all(json_t *members)
{
	if (!extra)
		extra = json_object();
	if (extra && members)
		json_object_update(extra, members);
	json_decref(members);
}

json_t *ks_json_counts(const struct ks_json_count *v)
{
	json_t *j = json_object();

	for (; j && v->name; v++)
		json_object_set_new(j, v->name, json_integer((json_int_t)v->n));
	return j;
}

void ks_json_volume(const char *name, const uint8_t uuid[16], const char *meta_url)
{
	char text[KS_UUID_STR];

	ks_uuid_format(uuid, text);
	ks_json_volume_text(name, text, meta_url);
}

void ks_json_volume_text(const char *name, const char *uuid, const char *meta_url)
{
	json_t *v = ks_common.json ? json_object() : NULL;

	free(ks_cli.volume);
	ks_cli.volume = strdup(name);
	if (!v)
		return;
	json_object_set_new(v, "name", text_of(name));
	json_object_set_new(v, "uuid", text_of(uuid));
	json_object_set_new(v, "meta", text_of(meta_url));
	ks_json_summary("volume", v);
}

static json_t *error_of(int code)
{
	json_t *e;

	if (code == 0)
		return json_null();
	e = json_pack("{s:s}", "code", ks_exit_name(code));
	if (!e)
		return json_null();
	json_object_set_new(e, "message", text_of(ks_cli.error_text));
	json_object_set_new(e, "hint", text_of(ks_cli.error_hint));
	return e;
}

void ks_json_finish(int code)
{
	double seconds = ks_cmd_seconds();
	json_t *line;

	if (ks_common.json) {
		line = json_pack("{s:s,s:i,s:s,s:s}", "type", "summary", "schema", 1, "tool",
				 ks_cmd_name(), "version", KS_VERSION);
		if (line) {
			json_object_set_new(line, "started", ks_json_time(ks_cli.start_ns));
			json_object_set_new(
				line, "duration_s",
				json_real((double)(int64_t)(seconds * 1000 + 0.5) / 1000));
			json_object_set_new(line, "dry_run", json_boolean(ks_common.dry_run));
			json_object_set_new(line, "ok", json_boolean(code == 0));
			json_object_set_new(line, "exit_code", json_integer(code));
			json_object_set_new(line, "error", error_of(code));
			if (extra)
				json_object_update(line, extra);
		}
		ks_json_print(line);
	}
	json_decref(extra);
	extra = NULL;
}
