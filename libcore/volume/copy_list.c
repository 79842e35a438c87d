/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_list.c: the paths of a list instead of a whole tree. The directories on the way to one are made like their sources, and stay open
 * for the next path, which mostly is beside it.
 */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 1024u

struct level {
	struct ks_cdir *from, *to;
	char *name; /* of it in the one before; of the first: NULL */
};

struct listing {
	struct ks_copy *c;
	struct level *v;
	size_t n;
};

static void pop(struct listing *l)
{
	struct level *x = &l->v[--l->n];

	ks_pair_close(l->c, x->from, x->to);
	free(x->name);
}

/* Into the directory @name of the last one; false: that was reported. */
static bool push(struct listing *l, const char *name)
{
	struct level *top = &l->v[l->n - 1];
	struct level *x = &l->v[l->n];
	struct ks_copy_item it = { .from = top->from,
				   .to = top->to,
				   .name = name,
				   .to_name = name,
				   .follow = l->c->o.follow };
	KS_AUTO(ks_freep) char *path = ks_copy_join(top->from->path, name);
	int r = top->from->side->ops->stat(top->from, name, it.follow, &it.st);

	ks_fail_clear();
	if (r == 0 && !S_ISDIR(it.st.st_mode))
		r = -ENOTDIR;
	if (r == 0 && l->n == DEPTH_MAX)
		r = -ENAMETOOLONG;
	if (r < 0) {
		ks_copy_fail(l->c, path ? path : name, "enter", r);
		return false;
	}
	x->name = strdup(name);
	if (!x->name || !ks_pair_open(l->c, &it, &x->from, &x->to)) {
		free(x->name);
		return false;
	}
	l->n++;
	return true;
}

/* The next name of a path, which is cut behind it; NULL: no more. "." is none. */
static char *next_name(char **path)
{
	char *name;

	do {
		*path += strspn(*path, "/");
		if (!**path)
			return NULL;
		name = *path;
		*path += strcspn(*path, "/");
		if (**path)
			*(*path)++ = '\0';
	} while (strcmp(name, ".") == 0);
	return name;
}

static void copy_path(struct listing *l, const char *text)
{
	KS_AUTO(ks_freep) char *path = strdup(text);
	char *rest = path;
	char *name = path ? next_name(&rest) : NULL;
	struct level *top;
	char *next;
	size_t depth = 1;

	for (; name; name = next) {
		if (strcmp(name, "..") == 0) {
			ks_fail_clear();
			ks_copy_refuse(
				l->c, text, "copy", -EINVAL,
				"'..' leads out of the source; a path of the list stays below it");
			return;
		}
		next = next_name(&rest);
		if (!next)
			break;
		if (depth < l->n && strcmp(l->v[depth].name, name) != 0) {
			while (l->n > depth)
				pop(l);
		}
		if (depth == l->n && !push(l, name))
			return;
		depth++;
	}
	while (l->n > depth)
		pop(l);
	top = &l->v[l->n - 1];
	if (name && !ks_copy_excluded(l->c, top->from, name, l->c->o.follow, NULL))
		ks_copy_entry(l->c, top->from, name, top->to, name, l->c->o.follow, NULL);
}

void ks_copy_list(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct listing l = { .c = c, .v = calloc(DEPTH_MAX, sizeof(*l.v)) };
	KS_AUTO(ks_freep) char *path = ks_copy_join(it->from->path, it->name);
	const char *text;
	int r = 0;

	ks_fail_clear();
	if (!S_ISDIR(it->st.st_mode)) {
		ks_copy_fail(c, path ? path : it->name, "enter", -ENOTDIR);
	} else if (!l.v) {
		ks_copy_fail(c, it->name, "copy", -ENOMEM);
	} else if (ks_pair_open(c, it, &l.v[0].from, &l.v[0].to)) {
		l.n = 1;
		while (!ks_copy_stopped(c) && (r = c->o.next_path(c->o.arg, &text)) > 0)
			copy_path(&l, text);
		if (r < 0)
			ks_copy_fail(c, "the list of paths", "read", r);
	}
	while (l.n)
		pop(&l);
	free(l.v);
}
