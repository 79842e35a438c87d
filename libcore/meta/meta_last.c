/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_last.c: when maintenance ended last, and how. A setting for each tool, "last.gc": time in nanoseconds, a space, exit code. They are this database's: a dump
 * leaves them out, and one that says something else counts as none.
 */
#include "meta/meta_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define NAME_STR 32
#define VALUE_STR 40

const char *const ks_tool_names[KS_TOOLS] = { "gc", "compact", "fsck", "dump" };

static void name_of(enum ks_tool tool, char out[NAME_STR])
{
	snprintf(out, NAME_STR, KS_SETTING_LAST "%s", ks_tool_names[tool]);
}

struct last_arg {
	char name[NAME_STR], value[VALUE_STR];
};

static int last_body(struct ks_txn *t, void *arg)
{
	const struct last_arg *a = arg;
	struct ks_rec_setting s = { .name = ks_bytes_str(a->name),
				    .value = ks_bytes_str(a->value) };

	ks_txn_put(t, KS_T_SETTING, &s);
	return 0;
}

int ks_meta_last_set(struct ks_meta *m, enum ks_tool tool, const struct ks_last *l)
{
	struct last_arg a;

	name_of(tool, a.name);
	snprintf(a.value, sizeof(a.value), "%" PRId64 " %d", l->end_ns, l->code);
	return ks_meta_run(m, last_body, &a);
}

/* Another program's idea of the value is none. */
static struct ks_last parse(struct ks_bytes b)
{
	struct ks_last l = { 0 };
	char text[VALUE_STR];
	char *end;
	long code;

	if (b.n >= sizeof(text))
		return l;
	memcpy(text, b.p, b.n);
	text[b.n] = '\0';
	if (*text < '1' || *text > '9')
		return l;
	errno = 0;
	l.end_ns = strtoll(text, &end, 10);
	if (errno || end[0] != ' ' || end[1] < '0' || end[1] > '9')
		return (struct ks_last){ 0 };
	code = strtol(end + 1, &end, 10);
	if (errno || *end || code > 255)
		return (struct ks_last){ 0 };
	l.code = (int)code;
	return l;
}

int ks_meta_last(struct ks_meta *m, struct ks_last out[KS_TOOLS])
{
	struct ks_rec_setting rec[KS_TOOLS];
	struct ks_read rd[KS_TOOLS];
	char name[KS_TOOLS][NAME_STR];
	struct ks_arena a = { 0 };
	int r;

	for (int i = 0; i < KS_TOOLS; i++) {
		name_of((enum ks_tool)i, name[i]);
		rec[i] = (struct ks_rec_setting){ .name = ks_bytes_str(name[i]) };
		rd[i] = (struct ks_read){ .table = KS_T_SETTING, .rec = &rec[i] };
	}
	r = ks_engine_read(m->e, rd, KS_TOOLS, &a);
	for (int i = 0; r == 0 && i < KS_TOOLS; i++)
		out[i] = rd[i].found ? parse(rec[i].value) : (struct ks_last){ 0 };
	ks_arena_clear(&a);
	return r;
}
