/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trash.c: an entry of the trash knows the number that its directory had. Where that is now, or was, is found once for each directory: it lives; or it is in the trash
 * itself; or it came from there, and has another number.
 */
#include "volume/trash.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/hash.h"
#include "base/hmap.h"
#include "base/log.h"
#include "volume/info.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 4096u

/* What is known of a directory by the number it had. */
struct place {
	struct ks_hnode node;
	bool lost;    /* neither alive nor in the trash */
	bool would;   /* a dry run would put it back */
	uint64_t now; /* the number of the live one; 0: none, or not known yet */
	char *path;   /* "" for the root */
	size_t n;
	bool has_path;
};

struct run {
	struct ks_meta *m;
	const struct ks_trash_opts *o;
	struct ks_trash_result *out;
	/* The pick, taken apart. */
	uint64_t hour; /* UINT64_MAX: any */
	const char *name, *prefix;
	size_t prefix_n;
	ks_ino_t to; /* 0: none */
	bool hit;

	struct ks_trash_hour *hours;
	size_t nhours, caphours;
	struct ks_hmap places;
	struct ks_hmap taken; /* names that this run has given */
	struct ks_arena mem;  /* of both */
	struct ks_buf path;

	/* Of the hour in turn, when restoring. */
	struct ks_trash_entry *v;
	size_t n, cap;
	struct ks_arena names;
};

static bool stopped(const struct run *u)
{
	return u->o->stop && u->o->stop(u->o->arg);
}

/* ---- where things were ---- */

static struct place *place_of(struct run *u, ks_ino_t ino)
{
	struct ks_hnode *h = ks_hmap_find(&u->places, ino);
	struct place *p = h ? ks_container_of(h, struct place, node) : NULL;

	if (p)
		return p;
	p = ks_arena_alloc(&u->mem, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct place){ 0 };
	return ks_hmap_insert(&u->places, &p->node, ino) < 0 ? NULL : p;
}

static int set_path(struct run *u, struct place *p, const char *text, size_t n)
{
	p->path = ks_arena_copy(&u->mem, n ? text : "", n);
	p->n = n;
	p->has_path = true;
	return p->path ? 0 : -ENOMEM;
}

static int find_path(struct run *u, ks_ino_t ino, struct place **out, unsigned int depth);

/* That of a directory that is in the trash, or was put back. */
static int removed_path(struct run *u, ks_ino_t ino, struct place *p, unsigned int depth)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	struct ks_trash_entry e = { 0 };
	char name[KS_TRASH_NAME_MAX + 1];
	struct place *above = NULL;
	ks_ino_t moved = 0;
	int r = depth > DEPTH_MAX ? -ENOENT : ks_meta_trash_find(u->m, ino, &e, name, &moved);

	if (r == -ENOENT) {
		p->lost = true;
		return set_path(u, p, "?", 1);
	}
	if (r == 0)
		r = find_path(u, moved ? moved : e.parent, &above, depth + 1);
	if (r < 0)
		return r;
	r = ks_buf_append(&b, above->path, above->n);
	if (r == 0 && !moved)
		r = ks_buf_append(&b, "/", 1);
	if (r == 0 && !moved)
		r = ks_buf_append(&b, e.orig.p, e.orig.n);
	return r == 0 ? set_path(u, p, b.p, b.n) : r;
}

static int find_path(struct run *u, ks_ino_t ino, struct place **out, unsigned int depth)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	struct place *p = place_of(u, ino);
	int r;

	*out = p;
	if (!p)
		return -ENOMEM;
	if (p->has_path)
		return 0;
	r = ks_info_dir_path(u->m, ino, &b);
	if (r == 0)
		return set_path(u, p, b.p, b.n);
	return r == -ENOENT || r == -ENOTDIR ? removed_path(u, ino, p, depth) : r;
}

/* The entry's path, in u->path. */
static int path_of(struct run *u, const struct ks_trash_entry *e)
{
	struct place *above;
	int r = find_path(u, e->parent, &above, 0);

	u->path.n = 0;
	if (r == 0)
		r = ks_buf_append(&u->path, above->path, above->n);
	if (r == 0)
		r = ks_buf_append(&u->path, "/", 1);
	return r == 0 ? ks_buf_append(&u->path, e->orig.p, e->orig.n) : r;
}

/* ---- what is meant ---- */

static int take_pick(struct run *u)
{
	const char *path = u->o->pick.path;
	const char *end;
	size_t n;

	u->hour = UINT64_MAX;
	while (path && *path == '/')
		path++;
	if (!path || !*path)
		return 0;
	end = strchr(path, '/');
	n = end ? (size_t)(end - path) : strlen(path);
	if (ks_trash_hour_parse(path, n, &u->hour)) {
		while (end && *end == '/')
			end++;
		u->name = end && *end ? end : NULL;
		return 0;
	}
	u->hour = UINT64_MAX;
	u->prefix = path - 1;
	u->prefix_n = strlen(u->prefix);
	while (u->prefix_n > 1 && u->prefix[u->prefix_n - 1] == '/')
		u->prefix_n--;
	return 0;
}

/* Is the entry meant? Its path is in u->path then. */
static int is_picked(struct run *u, const struct ks_trash_entry *e, bool *yes)
{
	int r;

	*yes = !u->name ||
	       (strlen(u->name) == e->name.n && memcmp(u->name, e->name.p, e->name.n) == 0);
	if (!*yes)
		return 0;
	r = path_of(u, e);
	if (r < 0 || !u->prefix)
		return r;
	*yes = u->path.n >= u->prefix_n && memcmp(u->path.p, u->prefix, u->prefix_n) == 0 &&
	       (u->path.n == u->prefix_n || u->path.p[u->prefix_n] == '/');
	return 0;
}

static void tell(struct run *u, const struct ks_trash_entry *e, int err)
{
	struct ks_trash_item i = { .e = e, .path = u->path.p, .path_n = u->path.n };

	if (u->o->item)
		u->o->item(u->o->arg, &i, err);
}

static int add_hour(void *arg, const struct ks_trash_hour *h)
{
	struct run *u = arg;

	if (h->hour >= u->o->pick.before || (u->hour != UINT64_MAX && h->hour != u->hour))
		return 0;
	if (ks_array_room(&u->hours, u->nhours, &u->caphours) < 0)
		return -ENOMEM;
	u->hours[u->nhours++] = *h;
	return 0;
}

static int each_entry(struct run *u, const struct ks_trash_hour *h,
		      int (*fn)(void *arg, const struct ks_trash_entry *e))
{
	struct ks_trash_cursor c = { 0 };
	int r;

	do {
		r = stopped(u) ? -EINTR : ks_meta_trash_list(u->m, h, &c, fn, u);
	} while (r > 0);
	return r;
}

static int nothing(const struct run *u)
{
	const char *path = u->o->pick.path;

	if (u->hit || !path || (u->hour == UINT64_MAX && !u->prefix))
		return 0;
	return ks_fail_hint(-ENOENT, "kiseki-trash ls shows what there is",
			    "the trash of '%s' has nothing of %s", ks_meta_settings(u->m)->name,
			    path);
}

static void run_end(struct run *u)
{
	free(u->hours);
	free(u->v);
	ks_hmap_clear(&u->places);
	ks_hmap_clear(&u->taken);
	ks_arena_clear(&u->mem);
	ks_arena_clear(&u->names);
	ks_buf_clear(&u->path);
}

/* ---- ls ---- */

static int ls_one(void *arg, const struct ks_trash_entry *e)
{
	struct run *u = arg;
	bool yes;
	int r = is_picked(u, e, &yes);

	if (r < 0 || !yes)
		return r;
	u->hit = true;
	u->out->entries++;
	u->out->bytes += e->attr.used;
	tell(u, e, 0);
	return 0;
}

int ks_trash_ls(struct ks_meta *m, const struct ks_trash_opts *o, struct ks_trash_result *out)
{
	struct run u = { .m = m, .o = o, .out = out };
	int r = take_pick(&u);

	if (r == 0)
		r = ks_meta_trash_hours(m, add_hour, &u);
	for (size_t i = 0; r == 0 && i < u.nhours; i++)
		r = each_entry(&u, &u.hours[i], ls_one);
	if (r == 0)
		r = nothing(&u);
	run_end(&u);
	return r;
}

/* ---- restore ---- */

static uint64_t name_key(ks_ino_t parent, struct ks_bytes name)
{
	return ks_mix64(parent) ^ ks_siphash((const uint8_t[16]){ 1 }, name.p, name.n);
}

static bool is_taken(const struct run *u, ks_ino_t parent, struct ks_bytes name)
{
	return ks_hmap_find(&u->taken, name_key(parent, name));
}

static int take_name(struct run *u, ks_ino_t parent, struct ks_bytes name)
{
	struct ks_hnode *h = ks_arena_alloc(&u->mem, sizeof(*h));

	return h ? ks_hmap_insert(&u->taken, h, name_key(parent, name)) : -ENOMEM;
}

static int copy_name(struct ks_bytes name, char out[KS_NAME_MAX + 1])
{
	if (name.n > KS_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(out, name.p, name.n);
	out[name.n] = '\0';
	return 0;
}

/* What stands in the entry's way; 0: nothing. A dry run decides by this alone. */
static int look_first(struct run *u, const struct ks_trash_entry *e, ks_ino_t parent,
		      const char *name, struct ks_attr *there)
{
	/* A directory that a dry run would have made has nothing in it. */
	int r = parent ? ks_meta_lookup(u->m, parent, name, there) : -ENOENT;

	if (is_taken(u, parent ? parent : e->parent, e->orig))
		return -EALREADY;
	return r == 0 ? -EEXIST : r == -ENOENT ? 0 : r;
}

static int back(struct run *u, const struct ks_trash_entry *e, ks_ino_t parent, ks_ino_t *now)
{
	char name[KS_NAME_MAX + 1];
	struct ks_attr a = { 0 };
	int r = copy_name(e->orig, name);

	if (r == 0)
		r = look_first(u, e, parent, name, &a);
	/* A directory that is there again takes what was in the old one. */
	if ((r == -EEXIST || r == -EALREADY) && S_ISDIR(e->attr.mode) && S_ISDIR(a.mode)) {
		*now = a.ino;
		return 1;
	}
	if (r == 0 && !u->o->dry_run)
		r = ks_meta_trash_restore(u->m, e, parent, name, &a);
	if (r < 0)
		return r;
	*now = a.ino;
	u->out->entries++;
	u->out->bytes += e->attr.used;
	r = take_name(u, parent ? parent : e->parent, e->orig);
	if (r == 0 && path_of(u, e) == 0)
		tell(u, e, 0);
	return r;
}

/* Its entries go to where they were told to. */
static int no_dir(struct run *u, struct place *p)
{
	p->lost = true;
	p->now = u->to;
	return u->to ? set_path(u, p, u->o->to, strlen(u->o->to)) : -ENOENT;
}

static int live_dir(struct run *u, ks_ino_t ino, struct place **out, unsigned int depth);

/* A directory that is not there: it comes back, or has already under another number. */
static int removed_dir(struct run *u, ks_ino_t ino, struct place *p, unsigned int depth)
{
	struct ks_trash_entry e = { 0 };
	char name[KS_TRASH_NAME_MAX + 1];
	struct place *above = NULL;
	ks_ino_t moved = 0;
	int r = depth > DEPTH_MAX ? -ENOENT : ks_meta_trash_find(u->m, ino, &e, name, &moved);

	if (r == -ENOENT) {
		return no_dir(u, p);
	}
	if (r == 0)
		r = live_dir(u, moved ? moved : e.parent, &above, depth + 1);
	if (r < 0)
		return r;
	if (moved) {
		p->now = above->now;
		p->would = above->would;
		return 0;
	}
	r = back(u, &e, above->now, &p->now);
	p->would = r == 0 && u->o->dry_run;
	return r < 0 ? r : 0;
}

/* The directory that had this number, alive; in a dry run the number of one that would come back is 0. */
static int live_dir(struct run *u, ks_ino_t ino, struct place **out, unsigned int depth)
{
	struct place *p = place_of(u, ino);
	struct ks_attr a;
	int r;

	*out = p;
	if (!p)
		return -ENOMEM;
	if (p->now || p->would)
		return 0;
	if (p->lost)
		return no_dir(u, p);
	r = ks_meta_getattr(u->m, ino, &a);
	if (r == 0 && S_ISDIR(a.mode) && a.nlink) {
		p->now = ino;
		return 0;
	}
	return r == 0 || r == -ENOENT ? removed_dir(u, ino, p, depth) : r;
}

static int restore_entry(struct run *u, const struct ks_trash_entry *e)
{
	struct place *above = NULL;
	ks_ino_t now = 0;
	int r = live_dir(u, e->parent, &above, 0);

	/* It has come back meanwhile, as the directory of something else. */
	if (r == 0 && S_ISDIR(e->attr.mode)) {
		struct place *own = place_of(u, e->ino);

		if (!own)
			return -ENOMEM;
		if (own->now || own->would)
			return 0;
		r = back(u, e, above->now, &own->now);
		own->would = r == 0 && u->o->dry_run;
	} else if (r == 0) {
		r = back(u, e, above->now, &now);
	}
	switch (r) {
	case -EALREADY:
		u->out->older++;
		return 0;
	case -ESTALE:
		return 0;
	case -EEXIST:
	case -ENOENT:
	case -ENOTDIR:
	case -EPERM:
	case -EMLINK:
	case -ENAMETOOLONG:
		u->out->failed++;
		if (path_of(u, e) == 0)
			tell(u, e, r);
		return 0;
	default:
		return ks_min(r, 0);
	}
}

static int collect(void *arg, const struct ks_trash_entry *e)
{
	struct run *u = arg;
	struct ks_trash_entry *x;
	char *name;
	bool yes;
	int r = is_picked(u, e, &yes);

	if (r < 0 || !yes)
		return r;
	u->hit = true;
	if (ks_array_room(&u->v, u->n, &u->cap) < 0)
		return -ENOMEM;
	name = ks_arena_copy(&u->names, e->name.p, e->name.n);
	if (!name)
		return -ENOMEM;
	x = &u->v[u->n++];
	*x = *e;
	x->name.p = name;
	x->orig.p = name + (e->name.n - e->orig.n);
	return 0;
}

/* The last removed comes first: of one name it is the one that comes back. */
static int by_time(const void *a, const void *b)
{
	const struct ks_trash_entry *x = a;
	const struct ks_trash_entry *y = b;

	if (x->attr.ctime_ns != y->attr.ctime_ns)
		return x->attr.ctime_ns > y->attr.ctime_ns ? -1 : 1;
	return x->ino > y->ino ? -1 : x->ino < y->ino;
}

static int restore_hour(struct run *u, const struct ks_trash_hour *h)
{
	int r;

	u->n = 0;
	ks_arena_reset(&u->names);
	r = each_entry(u, h, collect);
	if (r == 0 && u->n)
		qsort(u->v, u->n, sizeof(*u->v), by_time);
	for (size_t i = 0; r == 0 && i < u->n; i++)
		r = stopped(u) ? -EINTR : restore_entry(u, &u->v[i]);
	return r;
}

int ks_trash_restore(struct ks_meta *m, const struct ks_trash_opts *o, struct ks_trash_result *out)
{
	struct run u = { .m = m, .o = o, .out = out };
	struct ks_attr to = { 0 };
	int r = take_pick(&u);

	if (r == 0 && o->to)
		r = ks_volume_path(m, o->to, true, &to);
	if (r == 0 && o->to && !S_ISDIR(to.mode))
		r = ks_fail(-ENOTDIR, "%s:%s", ks_meta_settings(m)->name, o->to);
	u.to = to.ino;
	if (r == 0)
		r = ks_meta_trash_hours(m, add_hour, &u);
	for (size_t i = u.nhours; r == 0 && i-- > 0;)
		r = restore_hour(&u, &u.hours[i]);
	if (r == 0)
		r = nothing(&u);
	run_end(&u);
	return r;
}

/* ---- empty ---- */

struct count {
	uint64_t before;
	struct ks_trash_result *out;
};

static int count_hour(void *arg, const struct ks_trash_hour *h)
{
	const struct count *c = arg;

	if (h->hour >= c->before)
		return 1;
	c->out->entries += h->entries;
	c->out->bytes += h->bytes;
	return 0;
}

int ks_trash_empty(struct ks_meta *m, const struct ks_trash_opts *o, struct ks_trash_result *out)
{
	struct count c = { .before = o->pick.before, .out = out };
	struct ks_trash_sum gone = { 0 };
	int r = 1;

	if (o->dry_run)
		return ks_meta_trash_hours(m, count_hour, &c);
	while (r > 0) {
		if (o->stop && o->stop(o->arg))
			return -EINTR;
		r = ks_meta_trash_purge(m, o->pick.before, &gone);
		out->entries = gone.entries;
		out->bytes = gone.bytes;
	}
	return r;
}
