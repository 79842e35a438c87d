/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_delete.c: what the source does not have goes from its copy, when all has been copied without a failure.
 *
 * Nothing is remembered: the copy's directories are listed, and each name is looked up in the source's. Only "there is no such entry" counts; any other answer
 * keeps the entry. What a pattern excludes stays, and so do the directories it is in.
 */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sweep {
	struct ks_copy *c;
	struct ks_cdir *from, *to; /* from NULL: nothing of @to is in the source */
	char *rel;                 /* of @to from the source; with from NULL */
	bool count;                /* do not delete, count */
	uint64_t n;
};

static int sweep_name(void *arg, const char *name, const struct stat *known);

static bool excluded(struct sweep *s, const char *name, const struct stat *st)
{
	KS_AUTO(ks_freep) char *path = NULL;
	const char *dir = s->from ? s->from->path + s->from->rel_at : s->rel;

	if (!s->c->o.filter)
		return false;
	path = *dir ? ks_asprintf("%s/%s", dir, name) : strdup(name);
	return !path || ks_filter_excludes(s->c->o.filter, path, S_ISDIR(st->st_mode));
}

/* One entry, a directory when it is empty. */
static void take_away(struct sweep *s, const char *name, bool dir)
{
	struct ks_copy *c = s->c;
	KS_AUTO(ks_freep) char *path = NULL;
	int r = 0;

	s->n++;
	if (s->count)
		return;
	path = ks_copy_join(s->to->path, name);
	if (c->o.compare) {
		ks_copy_differs(c, path ? path : name, "extra");
		return;
	}
	if (__atomic_load_n(&c->n.deleted, __ATOMIC_RELAXED) >= c->o.max_delete) {
		ks_copy_count(c, undeleted, 1);
		return;
	}
	ks_fail_clear();
	if (!c->o.dry_run)
		r = dir ? s->to->side->ops->rmdir(s->to, name)
			: s->to->side->ops->unlink(s->to, name);
	/* Something in it stays, and was told if it should not. */
	if (r == -ENOENT || r == -ENOTEMPTY || (r == -EEXIST && dir))
		return;
	if (r < 0) {
		ks_copy_fail(c, path ? path : name, "delete", r);
		return;
	}
	ks_copy_count(c, deleted, 1);
	ks_copy_did(c, "deleted", "", path ? path : name, 0);
}

static struct ks_cdir *open_dir(struct sweep *s, struct ks_cdir *above, const char *name,
				bool follow)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(above->path, name);
	struct ks_cdir *d = path ? ks_cdir_new(s->c, above->side, path) : NULL;
	int r = d ? above->side->ops->opendir(above, name, follow, d) : -ENOMEM;

	if (r == 0)
		return d;
	ks_fail_clear();
	ks_copy_fail(s->c, path ? path : name, "open", r);
	ks_cdir_put(d);
	return NULL;
}

static void remove_tree(struct sweep *s, const char *name, const struct stat *st)
{
	struct sweep below = { .c = s->c, .count = s->count };
	const char *rel = s->from ? s->from->path + s->from->rel_at : s->rel;
	int r;

	if (S_ISDIR(st->st_mode)) {
		below.to = open_dir(s, s->to, name, false);
		below.rel = *rel ? ks_asprintf("%s/%s", rel, name) : strdup(name);
		if (below.to && below.rel) {
			r = below.to->side->ops->list(below.to, sweep_name, &below);
			if (r < 0)
				ks_copy_fail(s->c, below.to->path, "list", r);
			s->n += below.n;
		}
		free(below.rel);
		ks_cdir_put(below.to);
	}
	if (!ks_copy_stopped(s->c))
		take_away(s, name, S_ISDIR(st->st_mode));
}

static void sweep_both(struct sweep *s, const char *name, const struct stat *source)
{
	struct ks_copy *c = s->c;
	struct sweep below = { .c = c, .count = s->count };
	int r;

	if (c->o.one_fs && source->st_dev != c->dev)
		return;
	below.from = open_dir(s, s->from, name, c->o.follow);
	below.to = below.from ? open_dir(s, s->to, name, false) : NULL;
	if (below.to) {
		const struct ks_cdir *above = s->from;

		below.from->rel_at = above->path[above->rel_at]
					     ? above->rel_at
					     : strlen(below.from->path) - strlen(name);
		/* What goes changes its times. */
		below.to->parent = ks_cdir_get(s->to);
		below.to->source = ks_cdir_get(below.from);
		below.to->st = *source;
		ks_copy_adjust(c, &below.to->st);
		r = below.to->side->ops->list(below.to, sweep_name, &below);
		if (r < 0)
			ks_copy_fail(c, below.to->path, "list", r);
		s->n += below.n;
		ks_copy_send(c, below.from);
	}
	ks_cdir_put(below.to);
	ks_cdir_put(below.from);
}

static int sweep_name(void *arg, const char *name, const struct stat *known)
{
	struct sweep *s = arg;
	struct ks_copy *c = s->c;
	struct stat st;
	struct stat source;
	int r = known ? 0 : s->to->side->ops->stat(s->to, name, false, &st);

	if (ks_copy_stopped(c))
		return 1;
	if (known)
		st = *known;
	if (r < 0 || excluded(s, name, &st))
		return 0;
	r = s->from ? s->from->side->ops->stat(s->from, name, c->o.follow, &source) : -ENOENT;
	if (r == -ENOENT) {
		remove_tree(s, name, &st);
	} else if (r < 0) {
		KS_AUTO(ks_freep) char *path = ks_copy_join(s->from->path, name);

		ks_copy_fail(c, path ? path : name, "find", r);
	} else if (S_ISDIR(source.st_mode) && S_ISDIR(st.st_mode)) {
		sweep_both(s, name, &source);
	} else if (S_ISDIR(source.st_mode) != S_ISDIR(st.st_mode) && !c->o.compare) {
		/* It stood in the way of its copy. */
		remove_tree(s, name, &st);
		if (!s->count && !c->o.dry_run)
			ks_copy_entry(c, s->from, name, s->to, name, c->o.follow, NULL);
	}
	return 0;
}

/* ---- guards ---- */

static int stop_at_first(void *arg, const char *name, const struct stat *st)
{
	(void)arg;
	(void)name;
	(void)st;
	return 1;
}

static bool is_empty(struct ks_cdir *d)
{
	return d->side->ops->list(d, stop_at_first, NULL) == 0;
}

static void run(struct sweep *s)
{
	int r = s->to->side->ops->list(s->to, sweep_name, s);

	if (r < 0)
		ks_copy_fail(s->c, s->to->path, "list", r);
}

static bool may_go_on(struct sweep *s)
{
	struct ks_copy *c = s->c;

	if (__atomic_load_n(&c->n.failed, __ATOMIC_RELAXED)) {
		ks_copy_refuse(c, s->to->path, "delete", -ECANCELED,
			       "nothing is deleted, since something could not be copied");
		return false;
	}
	if (is_empty(s->from) && !is_empty(s->to) && !c->o.force && !c->o.compare) {
		ks_fail_clear();
		ks_copy_refuse(c, s->from->path, "delete", -EINVAL,
			       "is empty: its copy is not emptied without --force");
		return false;
	}
	if (!c->o.may_delete || c->o.dry_run)
		return true;
	s->count = true;
	run(s);
	s->count = false;
	return s->n == 0 || c->o.may_delete(c->o.arg, s->n);
}

void ks_copy_delete(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct sweep s = { .c = c };
	struct stat st;

	/* Of a dry run it may not be there. */
	if (it->to->absent || it->to->side->ops->stat(it->to, it->to_name, false, &st) < 0 ||
	    !S_ISDIR(st.st_mode))
		return;
	s.from = open_dir(&s, it->from, it->name, it->follow);
	s.to = s.from ? open_dir(&s, it->to, it->to_name, false) : NULL;
	if (s.to) {
		s.from->rel_at = strlen(s.from->path);
		s.to->parent = ks_cdir_get(it->to);
		s.to->source = ks_cdir_get(s.from);
		s.to->st = it->st;
		ks_copy_adjust(c, &s.to->st);
		if (may_go_on(&s))
			run(&s);
		ks_copy_send(c, s.from);
	}
	ks_cdir_put(s.to);
	ks_cdir_put(s.from);
}
