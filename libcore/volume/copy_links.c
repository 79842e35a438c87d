/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_links.c: hard links stay hard links.
 *
 * Who meets a file with several names first makes it. Its further names are linked to it when it is there; those that are met before are left
 * with the entry, for its maker. An entry goes when all names have come.
 */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct waiting {
	struct waiting *next;
	struct ks_copy_item it; /* its directories are references, its names owned */
};

struct link_entry {
	struct ks_hnode node; /* key: dev and inode, mixed */
	dev_t dev;
	ino_t src_ino;
	bool made;
	ks_ino_t ino;  /* at the destination */
	char *path;    /* owned */
	uint64_t left; /* names still to come */
	struct waiting *waiting;
};

static uint64_t link_key(const struct stat *st)
{
	return ks_mix64(st->st_dev) ^ st->st_ino;
}

/* Needs links_mu. */
static struct link_entry *find_link(struct ks_copy *c, const struct stat *st)
{
	struct ks_hnode *n = ks_hmap_find(&c->links, link_key(st));

	for (; n; n = ks_hmap_find_next(n)) {
		struct link_entry *e = ks_container_of(n, struct link_entry, node);

		if (e->dev == st->st_dev && e->src_ino == st->st_ino)
			return e;
	}
	return NULL;
}

static void free_waiting(struct waiting *w)
{
	ks_cdir_put(w->it.from);
	ks_cdir_put(w->it.to);
	free((void *)(uintptr_t)w->it.name);
	free((void *)(uintptr_t)w->it.to_name);
	free(w);
}

/* Needs links_mu. */
static void drop_link(struct ks_copy *c, struct link_entry *e)
{
	ks_hmap_remove(&c->links, &e->node);
	free(e->path);
	free(e);
}

void ks_links_clear(struct ks_copy *c)
{
	struct ks_hnode *n;

	while ((n = ks_hmap_next(&c->links, NULL)))
		drop_link(c, ks_container_of(n, struct link_entry, node));
	ks_hmap_clear(&c->links);
}

/* Without memory the further names become files of their own. */
static void remember(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct link_entry *e = calloc(1, sizeof(*e));

	if (!e)
		return;
	e->path = ks_copy_join(it->to->path, it->to_name);
	e->dev = it->st.st_dev;
	e->src_ino = it->st.st_ino;
	e->left = it->st.st_nlink - 1;
	if (!e->path || ks_hmap_insert(&c->links, &e->node, link_key(&it->st)) < 0) {
		free(e->path);
		free(e);
	}
}

/* Needs links_mu. False: no memory. */
static bool put_by(struct link_entry *e, const struct ks_copy_item *it)
{
	struct waiting *w = calloc(1, sizeof(*w));
	char *name = strdup(it->name);
	char *to_name = strdup(it->to_name);

	if (!w || !name || !to_name) {
		free(w);
		free(name);
		free(to_name);
		return false;
	}
	w->it = *it;
	w->it.in = NULL;
	w->it.from = ks_cdir_get(it->from);
	w->it.to = ks_cdir_get(it->to);
	w->it.name = name;
	w->it.to_name = to_name;
	w->next = e->waiting;
	e->waiting = w;
	return true;
}

/* One name less to come. */
static void came(struct ks_copy *c, const struct stat *st)
{
	KS_LOCKED(&c->links_mu);
	struct link_entry *e = find_link(c, st);

	if (e && --e->left == 0 && e->made)
		drop_link(c, e);
}

/* False: it cannot be linked, and is to be a file of its own. */
static bool link_to(struct ks_copy *c, struct ks_copy_item *it, ks_ino_t ino, const char *path)
{
	KS_AUTO(ks_freep) char *to_path = NULL;
	int r = 0;

	ks_fail_clear();
	it->further = ino;
	if (!ks_copy_look(c, it))
		return true;
	it->further = 0;
	if (!c->o.dry_run)
		r = it->to->side->ops->link(it->to, it->to_name, ino, path);
	if (r == -EMLINK || r == -EXDEV || r == -ENAMETOOLONG || r == -ENOENT)
		return false;
	to_path = ks_copy_join(it->to->path, it->to_name);
	if (r < 0) {
		ks_copy_fail(c, to_path ? to_path : it->to_name, "link", r);
	} else {
		ks_copy_count(c, links, 1);
		ks_copy_did(c, "linked", path, to_path ? to_path : "", 0);
	}
	return true;
}

bool ks_links_first(struct ks_copy *c, struct ks_copy_item *it)
{
	KS_AUTO(ks_freep) char *path = NULL;
	struct link_entry *e;
	ks_ino_t ino = 0;

	ks_mutex_lock(&c->links_mu);
	e = find_link(c, &it->st);
	if (!e) {
		remember(c, it);
	} else if (e->made) {
		ino = e->ino;
		path = strdup(e->path);
	} else if (put_by(e, it)) {
		ks_mutex_unlock(&c->links_mu);
		return false;
	}
	ks_mutex_unlock(&c->links_mu);
	/* Without memory, too, it is a file of its own. */
	if (!path || !link_to(c, it, ino, path))
		return true;
	came(c, &it->st);
	return false;
}

/* Those that came while the first was being made; without it, each is made by itself. */
static void serve(struct ks_copy *c, struct waiting *w, bool made, ks_ino_t ino, const char *path)
{
	struct waiting *next;

	for (; w; w = next) {
		next = w->next;
		if (ks_copy_stopped(c)) {
			free_waiting(w);
			continue;
		}
		if (!made || !link_to(c, &w->it, ino, path)) {
			/* Counted and reported there. */
			if (S_ISREG(w->it.st.st_mode))
				KS_IGNORE(ks_copy_content(c, &w->it));
			else
				KS_IGNORE(ks_copy_special(c, &w->it));
		}
		came(c, &w->it.st);
		free_waiting(w);
	}
}

void ks_links_made(struct ks_copy *c, const struct ks_copy_item *it, bool made)
{
	KS_AUTO(ks_freep) char *path = NULL;
	struct waiting *w = NULL;
	struct link_entry *e;
	ks_ino_t ino = 0;
	struct stat st;

	/* Also what was there already is linked to. */
	if ((made || it->current) && !c->o.dry_run &&
	    it->to->side->ops->stat(it->to, it->to_name, false, &st) == 0)
		ino = st.st_ino;
	made = ino != 0 || (made && c->o.dry_run);

	ks_mutex_lock(&c->links_mu);
	e = find_link(c, &it->st);
	if (e && !e->made) {
		w = e->waiting;
		e->waiting = NULL;
		path = strdup(e->path);
		e->made = made && path;
		e->ino = ino;
		made = e->made;
		/* The next name tries again to be the first. */
		if (!made || e->left == 0)
			drop_link(c, e);
	}
	ks_mutex_unlock(&c->links_mu);
	serve(c, w, made, ino, path);
}
