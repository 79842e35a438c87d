/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h: machine output: JSON lines on stdout, the last one always the summary (kiseki-json(7)).
 * Everything here does nothing without --json. Threads: any.
 */
#ifndef KS_CLI_JSON_H
#define KS_CLI_JSON_H

#include "base/log.h"
#include <jansson.h>

/* Prints one line; takes @line over. NULL (no memory) is ignored. */
void ks_json_print(json_t *line);
/* The same for a line of type item, which -q leaves out. @name, a file name, becomes @key of it; NULL: none. */
void ks_json_item(json_t *line, const char *key, const char *name);

/*
 * Sets @key to a file name. JSON is UTF-8 and file names are not: when this one is not, @key holds an approximation and
 * "KEY_b64" the exact bytes.
 */
int ks_json_name(json_t *obj, const char *key, const char *name, size_t n);
/* Appends one to the list @key. When one of it is not UTF-8 there is "KEY_b64" beside it, with null for each that is. */
int ks_json_add_name(json_t *obj, const char *key, const char *name, size_t n);

/* RFC 3339, seconds, UTC. */
json_t *ks_json_time(int64_t ns);

/* --log-format=json: {"type":"log","time":...,"level":"error","tool":...,KEY:@text}, without newline. @where may be NULL. Owned; NULL: no memory. */
char *ks_json_log(enum ks_log_level level, const char *key, const char *where, const char *text);

/* {"type":"error","path":...,"op":...,"errno":"EACCES","message":...} */
void ks_json_error(const char *path, const char *op, int err, const char *message);

/* The summary's own members ("counts", "volume"): set before ks_cmd_exit(). Takes @value over. */
void ks_json_summary(const char *key, json_t *value);
/* Each member of an object, which is taken over. */
void ks_json_summary_all(json_t *members);

/* An object of numbers: KS_JSON_COUNTS({ "files", n.files }, { "bytes", n.bytes }). */
struct ks_json_count {
	const char *name;
	uint64_t n;
};
json_t *ks_json_counts(const struct ks_json_count *v); /* ends with a name NULL */
#define KS_JSON_COUNTS(...) ks_json_counts((const struct ks_json_count[]){ __VA_ARGS__, { 0 } })

/* The summary's "volume". */
void ks_json_volume(const char *name, const uint8_t uuid[16], const char *meta_url);
void ks_json_volume_text(const char *name, const char *uuid, const char *meta_url);

/* Valid UTF-8 from any bytes: what is not becomes U+FFFD. Owned; NULL: no memory. */
char *ks_utf8_approximate(const char *p, size_t n, bool *exact);

#endif
