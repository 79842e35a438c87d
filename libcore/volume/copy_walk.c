/* SPDX-License-Identifier: Apache-2.0 */
/* copy_walk.c: trees, and the further names of files (hard links). One thread walks. */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- contents, on the workers ---- */

struct job {
	struct ks_job job;
	struct ks_copy *c;
	struct ks_copy_item it; /* its directories are references, its names owned */
};

static void run_job(struct ks_job *base)
{
	struct job *j = ks_container_of(base, struct job, job);
	struct ks_copy *c = j->c;
	bool quiet = ks_fail_quiet(true);
	ks_ino_t ino = 0;

	if (!ks_copy_stopped(c))
		KS_IGNORE(ks_copy_content(c, &j->it, &ino)); /* counted there */
	ks_cdir_put(j->it.from);
	ks_cdir_put(j->it.to);
	free((void *)(uintptr_t)j->it.name);
	free((void *)(uintptr_t)j->it.to_name);
	free(j);
	ks_fail_quiet(quiet);
	KS_LOCKED(&c->mu);
	c->waiting--;
	pthread_cond_signal(&c->less);
}

static void add_job(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct job *j = calloc(1, sizeof(*j));
	char *name = strdup(it->name);
	char *to_name = strdup(it->to_name);

	if (!j || !name || !to_name) {
		free(j);
		free(name);
		free(to_name);
		ks_copy_fail(c, it->name, "copy", -ENOMEM);
		return;
	}
	j->job.run = run_job;
	j->c = c;
	j->it = *it;
	j->it.from = ks_cdir_get(it->from);
	j->it.to = ks_cdir_get(it->to);
	j->it.name = name;
	j->it.to_name = to_name;
	ks_mutex_lock(&c->mu);
	while (c->waiting >= c->waiting_max)
		KS_IGNORE(ks_cond_wait(&c->less, &c->mu,
				       -1)); /* without a deadline it does not fail */
	c->waiting++;
	ks_mutex_unlock(&c->mu);
	ks_workers_add(c->workers, &j->job);
}

void ks_copy_wait(struct ks_copy *c)
{
	KS_LOCKED(&c->mu);
	while (c->waiting > 0)
		KS_IGNORE(ks_cond_wait(&c->less, &c->mu, -1));
}

/* ---- further names of a file ---- */

struct link_entry {
	struct ks_hnode node; /* key: dev and inode, mixed */
	dev_t dev;
	ino_t src_ino;
	ks_ino_t ino;  /* made, in a volume */
	uint64_t left; /* names still to come */
	char path[];   /* made, on this machine */
};

static uint64_t link_key(const struct stat *st)
{
	return ks_mix64(st->st_dev) ^ st->st_ino;
}

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

static void drop_link(struct ks_copy *c, struct link_entry *e)
{
	ks_hmap_remove(&c->links, &e->node);
	free(e);
}

/* Without memory the further names become files of their own. */
static void remember_link(struct ks_copy *c, const struct ks_copy_item *it, ks_ino_t ino)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(it->to->path, it->to_name);
	struct link_entry *e = path ? malloc(sizeof(*e) + strlen(path) + 1) : NULL;

	if (!e)
		return;
	memcpy(e->path, path, strlen(path) + 1);
	e->dev = it->st.st_dev;
	e->src_ino = it->st.st_ino;
	e->ino = ino;
	e->left = it->st.st_nlink - 1;
	if (ks_hmap_insert(&c->links, &e->node, link_key(&it->st)) < 0)
		free(e);
}

void ks_copy_links_clear(struct ks_copy *c)
{
	struct ks_hnode *n;

	while ((n = ks_hmap_next(&c->links, NULL)))
		drop_link(c, ks_container_of(n, struct link_entry, node));
	ks_hmap_clear(&c->links);
}

static int make_link(const struct ks_copy_item *it, const struct link_entry *e, bool exists)
{
	const struct ks_side_ops *ops = it->to->side->ops;
	char tmp[64];
	int r;

	if (!exists)
		return ops->link(it->to, it->to_name, e->ino, e->path);
	ks_copy_tmp_name(tmp);
	r = ops->link(it->to, tmp, e->ino, e->path);
	if (r < 0)
		return r;
	r = ops->rename(it->to, tmp, it->to_name);
	/* Also after a success: rename(2) of two names of one file does nothing. */
	KS_IGNORE(ops->unlink(it->to, tmp) < 0);
	return r;
}

/* True: this entry is done. */
static bool link_to_known(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct link_entry *e = find_link(c, &it->st);
	KS_AUTO(ks_freep) char *to_path = NULL;
	struct stat old;
	bool exists;
	int r = 0;

	if (!e)
		return false;
	if (ks_copy_look(c, it, &old, &exists) != 0)
		return true;
	if (!c->o.dry_run)
		r = make_link(it, e, exists);
	if (r == -EMLINK || r == -EXDEV || r == -ENAMETOOLONG || r == -ENOENT) {
		drop_link(c, e);
		return false;
	}
	to_path = ks_copy_join(it->to->path, it->to_name);
	if (r < 0) {
		ks_copy_fail(c, to_path ? to_path : it->to_name, "link", r);
	} else {
		ks_copy_count(c, links, 1);
		ks_copy_did(c, "linked", e->path, to_path ? to_path : "", 0);
	}
	if (--e->left == 0)
		drop_link(c, e);
	return true;
}

static void copy_leaf(struct ks_copy *c, const struct ks_copy_item *it)
{
	/* Without -r, what is not a file is read as one: a device, a pipe. */
	bool content = S_ISREG(it->st.st_mode) || (!c->o.recursive && !S_ISLNK(it->st.st_mode));
	bool linked = (c->o.preserve & KS_COPY_LINKS) && it->st.st_nlink > 1;
	ks_ino_t ino = 0;
	bool made;

	if (linked && link_to_known(c, it))
		return;
	if (content && !linked) {
		add_job(c, it);
		return;
	}
	/* In this thread, so that it is there when its next name comes. */
	made = content ? ks_copy_content(c, it, &ino) : ks_copy_special(c, it, &ino);
	if (linked && made)
		remember_link(c, it, ino);
}

/* ---- directories ---- */

/* Is @dir the directory of inode @ino in its volume, or below it? */
static bool is_below(struct ks_cdir *dir, ks_ino_t ino)
{
	struct ks_side *s = dir->side;
	ks_ino_t at = dir->ino;
	struct ks_attr a;

	while (at != ino) {
		if (at == KS_ROOT_INO || !at || ks_vfs_getattr(s->vfs, &s->ctx, at, &a) < 0)
			return false;
		at = a.parent;
	}
	return true;
}

/* The destination's directory, found or made. -ECANCELED: reported. */
static int enter_target(struct ks_copy *c, const struct ks_copy_item *it, struct ks_cdir *out)
{
	const struct ks_side_ops *ops = it->to->side->ops;
	unsigned int what = ks_copy_what(c);
	uint32_t mode = it->st.st_mode & (what & KS_COPY_MODE ? 07777 : 0777 & ~c->umask);
	struct stat st;
	int r = it->to->absent ? -ENOENT : ops->stat(it->to, it->to_name, false, &st);

	out->made = r == -ENOENT;
	if (r == 0 && !S_ISDIR(st.st_mode)) {
		ks_copy_refuse(c, out->path, "create", -EEXIST, "exists, and is not a directory");
		return -ECANCELED;
	}
	if (out->made && c->o.dry_run) {
		out->absent = true;
		return 0;
	}
	if (out->made)
		r = ops->mkdir(it->to, it->to_name, mode, what & KS_COPY_OWNER ? &it->st : NULL);
	if (r == 0)
		r = ops->opendir(it->to, it->to_name, false, out);
	return r;
}

struct walk {
	struct ks_copy *c;
	struct ks_cdir *from, *to;
};

static int walk_name(void *arg, const char *name)
{
	struct walk *w = arg;

	if (ks_copy_stopped(w->c))
		return 1;
	ks_copy_entry(w->c, w->from, name, w->to, name, w->c->o.follow);
	return 0;
}

static void copy_dir(struct ks_copy *c, const struct ks_copy_item *it)
{
	KS_AUTO(ks_freep) char *from_path = ks_copy_join(it->from->path, it->name);
	KS_AUTO(ks_freep) char *to_path = ks_copy_join(it->to->path, it->to_name);
	struct ks_cdir *from = from_path ? ks_cdir_new(c, it->from->side, from_path) : NULL;
	struct ks_cdir *to = to_path ? ks_cdir_new(c, it->to->side, to_path) : NULL;
	struct walk w = { c, from, to };
	int r = from && to ? it->from->side->ops->opendir(it->from, it->name, it->follow, from)
			   : -ENOMEM;

	ks_fail_clear();
	if (r == 0 && from->side->vfs && from->side->vfs == it->to->side->vfs &&
	    is_below(it->to, from->ino)) {
		ks_copy_refuse(c, from_path, "copy", -EINVAL,
			       "a directory cannot be copied into itself");
		r = -ECANCELED;
	} else if (r < 0) {
		ks_copy_fail(c, from_path ? from_path : it->name, "open", r);
	}
	if (r == 0) {
		r = enter_target(c, it, to);
		if (r < 0 && r != -ECANCELED)
			ks_copy_fail(c, to_path, "create", r);
	}
	if (r == 0 && from->side->vfs && from->side->vfs == to->side->vfs && from->ino == to->ino) {
		ks_copy_refuse(c, from_path, "copy", -EINVAL,
			       "a directory cannot be copied into itself");
		r = -ECANCELED;
	}
	if (r == 0) {
		to->parent = ks_cdir_get(it->to);
		to->source = ks_cdir_get(from);
		to->st = it->st;
		ks_copy_count(c, dirs, 1);
		ks_copy_did(c, to->made ? "created" : "entered", from_path, to_path, 0);
		if (!c->o.one_fs || it->st.st_dev == c->dev)
			r = from->side->ops->list(from, walk_name, &w);
		if (r < 0)
			ks_copy_fail(c, from_path, "list", r);
	}
	ks_cdir_put(to);
	ks_cdir_put(from);
}

void ks_copy_entry(struct ks_copy *c, struct ks_cdir *from, const char *name, struct ks_cdir *to,
		   const char *to_name, bool follow)
{
	struct ks_copy_item it = {
		.from = from, .to = to, .name = name, .to_name = to_name, .follow = follow
	};
	int r = from->side->ops->stat(from, name, follow, &it.st);

	if (r == 0 && S_ISDIR(it.st.st_mode) && c->o.recursive) {
		copy_dir(c, &it);
		return;
	}
	if (r == 0 && !S_ISDIR(it.st.st_mode)) {
		copy_leaf(c, &it);
		return;
	}

	KS_AUTO(ks_freep) char *path = ks_copy_join(from->path, name);

	ks_fail_clear();
	if (r == 0)
		ks_copy_refuse(c, path ? path : name, "copy", -EISDIR, "a directory; -r copies it");
	else
		ks_copy_fail(c, path ? path : name, "find", r);
}
