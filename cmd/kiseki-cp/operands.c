/* SPDX-License-Identifier: Apache-2.0 */
/* operands.c: from SOURCE and DEST to open volumes. */
#include "base/buf.h"
#include "base/log.h"
#include "cp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct operand {
	const char *text;
	int kind; /* enum ks_operand */
	char *volume, *path;
	size_t at; /* of e->volumes */
};

/* The volume among those found, or a new one. */
static int find_volume(struct cp_ends *e, struct operand *o)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	int r = ks_volume_resolve(&ref, o->volume, &find);

	if (r < 0)
		return r;
	for (o->at = 0; o->at < e->nvolumes; o->at++) {
		if (strcmp(e->volumes[o->at].ref.meta_url, ref.meta_url) == 0) {
			ks_volume_ref_clear(&ref);
			return 0;
		}
	}
	e->volumes[e->nvolumes++].ref = ref;
	return 0;
}

static int parse(struct cp_ends *e, struct operand *o, const char *text)
{
	o->text = text;
	o->kind = ks_volume_split(text, true, &o->volume, &o->path);
	if (o->kind < 0)
		return o->kind;
	return o->kind == KS_OPERAND_VOLUME ? find_volume(e, o) : 0;
}

/*
 * A source is opened for writing, too, if that is allowed: only a session keeps others from deleting blocks that an old map of ours
 * still names. Nothing but the session is written.
 */
static int open_volume(struct cp_volume *v, bool target)
{
	struct ks_volume_opts o = {
		.readonly = ks_common.dry_run || (arg.compare && target),
		.session = KS_SESSION_TOOL,
		.tool = "kiseki-cp",
		.noatime = true,
		/* Nothing is read twice, and memory that is touched for the first time costs more than it gains. */
		.data = { .buffer_bytes = 96 * KS_MIB },
	};
	int r = ks_volume_open(&v->v, &v->ref, &o);

	if (!target && !o.readonly &&
	    (r == -EACCES || r == -EPERM || r == -EROFS || r == -ENOSPC)) {
		o.readonly = true;
		r = ks_volume_open(&v->v, &v->ref, &o);
	}
	return r;
}

static int open_volumes(struct cp_ends *e, bool to_volume, size_t target)
{
	struct ks_volume_opts check = { .readonly = true };
	int r = 0;

	for (size_t i = 0; r == 0 && i < e->nvolumes; i++)
		r = open_volume(&e->volumes[i], to_volume && i == target);
	if (r == 0 && to_volume && arg.verify && !ks_common.dry_run && !arg.compare)
		r = ks_volume_open(&e->check, &e->volumes[target].ref, &check);
	return r;
}

static void set_end(struct cp_ends *e, struct ks_copy_end *end, struct operand *o)
{
	end->path = o->text;
	if (o->kind != KS_OPERAND_VOLUME)
		return;
	end->volume = e->volumes[o->at].v;
	end->label = e->volumes[o->at].ref.spec;
	end->path = e->owned[e->nowned++] = ks_steal(&o->path);
}

/* What can be seen wrong before anything is opened. */
static void check(const struct operand *o, size_t n, const struct operand *to)
{
	size_t local = 0;

	for (size_t i = 0; i < n; i++) {
		local += o[i].kind != KS_OPERAND_VOLUME;
		if (o[i].kind == KS_OPERAND_STDIO && n > 1)
			ks_cmd_usage("'-' must be the only SOURCE");
	}
	if (to->kind == KS_OPERAND_STDIO && n > 1)
		ks_cmd_usage("only one SOURCE can go to stdout");
	if (to->kind == KS_OPERAND_STDIO && ks_common.json)
		ks_cmd_usage("--json and '-' both want stdout");
	if (!local || to->kind == KS_OPERAND_VOLUME)
		return;
	for (size_t i = 0; i <= n; i++) {
		if (i < n ? strstr(o[i].text, ".db:/") : strstr(to->text, ".db:/"))
			ks_cmd_usage("'%s' is a local path; a database file is written "
				     "sqlite:///FULL/PATH.db:/ here",
				     i < n ? o[i].text : to->text);
	}
	ks_cmd_usage("neither '%s' nor '%s' is in a volume; cp(1) copies local files", o[0].text,
		     to->text);
}

int cp_open(struct cp_ends *e, char **args, int n)
{
	size_t count = (size_t)n + (arg.target_dir != NULL);
	struct operand *o = calloc(count, sizeof(*o));
	struct operand *to = o ? &o[count - 1] : NULL;
	int r = 0;

	e->n = count - 1;
	e->from = calloc(count, sizeof(*e->from));
	e->volumes = calloc(count, sizeof(*e->volumes));
	e->owned = calloc(count, sizeof(*e->owned));
	if (!o || !e->from || !e->volumes || !e->owned)
		r = -ENOMEM;
	for (int i = 0; r == 0 && i < n; i++)
		r = parse(e, &o[i], args[i]);
	if (r == 0 && arg.target_dir)
		r = parse(e, to, arg.target_dir);
	if (r == 0) {
		check(o, e->n, to);
		r = open_volumes(e, to->kind == KS_OPERAND_VOLUME, to->at);
	}
	for (size_t i = 0; r == 0 && i < e->n; i++)
		set_end(e, &e->from[i], &o[i]);
	if (r == 0)
		set_end(e, &e->to, to);
	for (size_t i = 0; o && i < count; i++) {
		free(o[i].volume);
		free(o[i].path);
	}
	free(o);
	return r;
}

int cp_close(struct cp_ends *e)
{
	int r = 0;

	KS_IGNORE(ks_volume_close(e->check) < 0); /* read-only */
	for (size_t i = 0; i < e->nvolumes; i++) {
		int one = ks_volume_close(e->volumes[i].v);

		r = r ? r : one;
		ks_volume_ref_clear(&e->volumes[i].ref);
	}
	for (size_t i = 0; i < e->nowned; i++)
		free(e->owned[i]);
	free(e->owned);
	free(e->volumes);
	free(e->from);
	*e = (struct cp_ends){ 0 };
	return r;
}
