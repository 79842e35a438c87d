/* SPDX-License-Identifier: Apache-2.0 */
/* copy_walk.c: trees, and the further names of files (hard links). One thread walks. */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define JOB_FILES 256u
#define JOB_BYTES (32 * KS_MIB)  /* with less, several workers have something to do */
#define JOB_UNKNOWN (KS_MIB / 2) /* of a file whose size is not known yet */
_Static_assert(JOB_FILES <= KS_WHOLE_MAX, "their places are found with one request");

/* ---- files, on the workers ---- */

/* Some entries of one directory. */
struct ks_copy_job {
	struct ks_job job;
	struct ks_copy *c;
	struct ks_cdir *from, *to; /* references */
	bool follow;
	struct ks_buf names; /* of each its name and the one it gets, with their NULs */
	unsigned int n;
	uint64_t bytes;
	struct stat st[JOB_FILES];
};

struct job_name {
	const char *name, *to_name;
	const struct stat *st;
};

/* What is not known of the source yet; a file is opened for it where it will be read anyway. */
static int find_out(struct ks_copy *c, struct ks_copy_item *it, struct ks_cfile *in, bool will_read)
{
	const struct ks_side_ops *ops = it->from->side->ops;
	bool known = it->st.st_nlink > 0;
	int r = 0;

	/* What a list of this machine says is the inode that is mounted upon. */
	if (it->from->side->vfs)
		in->ino = it->st.st_ino;
	if (will_read && S_ISREG(it->st.st_mode) && it->st.st_size <= (off_t)KS_RUN_FILE_MAX) {
		r = ops->open(it->from, it->name, it->follow, in, &it->st);
		it->in = r == 0 ? in : NULL;
	} else if (!known) {
		r = ops->stat(it->from, it->name, it->follow, &it->st);
	}
	if (r == 0 && S_ISDIR(it->st.st_mode) && known)
		r = -EISDIR;
	if (r < 0) {
		KS_AUTO(ks_freep) char *path = ks_copy_join(it->from->path, it->name);

		ks_copy_fail(c, path ? path : it->name, "open", r);
	}
	return r;
}

/* Within a volume content is shared, not read. */
static bool is_read(const struct ks_copy_item *it)
{
	return !it->from->side->vfs || it->from->side->vfs != it->to->side->vfs;
}

/* True: that is done, or it failed and that was reported. */
static bool try_batch(struct ks_copy *c, struct ks_copy_item *it, struct ks_cfile *in,
		      struct ks_copy_batch *b)
{
	if (!ks_copy_look(c, it))
		return true;
	if (!it->in && find_out(c, it, in, is_read(it)) < 0)
		return true;
	return ks_batch_add(c, b, it);
}

static void copy_leaf(struct ks_copy *c, struct ks_copy_item *it, struct ks_cfile *in,
		      struct ks_copy_batch *b)
{
	/* Without -r, what is not a file is read as one: a device, a pipe. */
	bool content = S_ISREG(it->st.st_mode) || (!c->o.recursive && !S_ISLNK(it->st.st_mode));
	bool linked = (c->o.preserve & KS_COPY_LINKS) && it->st.st_nlink > 1;
	bool made;

	if (c->o.compare) {
		ks_compare_leaf(c, it);
		return;
	}
	if (linked && !ks_links_first(c, it))
		return;
	if (!linked && b && (S_ISREG(it->st.st_mode) || !content) && try_batch(c, it, in, b))
		return;
	made = content ? ks_copy_content(c, it) : ks_copy_special(c, it);
	if (linked)
		ks_links_made(c, it, made);
}

void ks_copy_leaf(struct ks_copy *c, struct ks_copy_item *it, struct ks_copy_batch *b)
{
	struct ks_cfile in = { .side = it->from->side, .fd = -1 };
	/* What may be skipped is not opened first. */
	bool maybe = c->o.update || c->o.checksum || c->o.no_clobber || c->o.dry_run;

	ks_fail_clear();
	if (find_out(c, it, &in, b && !maybe && is_read(it)) == 0)
		copy_leaf(c, it, &in, b);
	it->in = NULL;
	in.side->ops->close(&in);
}

static int by_ino(const void *pa, const void *pb)
{
	ino_t a = ((const struct job_name *)pa)->st->st_ino;
	ino_t b = ((const struct job_name *)pb)->st->st_ino;

	return (a > b) - (a < b);
}

/* In the order of their inodes, in which they mostly lie on a disk, and in the packs of a volume. Owned; NULL: no memory. */
static struct job_name *order(const struct ks_copy_job *j)
{
	struct job_name *v = calloc(j->n, sizeof(*v));
	const char *p = j->names.p;

	for (unsigned int i = 0; v && i < j->n; i++) {
		v[i].name = p;
		v[i].to_name = p + strlen(p) + 1;
		v[i].st = &j->st[i];
		p = v[i].to_name + strlen(v[i].to_name) + 1;
	}
	if (v)
		qsort(v, j->n, sizeof(*v), by_ino);
	return v;
}

/* Where the small ones among a volume's files lie, found with one request. Owned; NULL: not so. */
static struct ks_whole *find_whole(struct ks_copy *c, const struct ks_copy_job *j,
				   const struct job_name *v)
{
	struct ks_vfs *vfs = j->from->side->vfs;
	struct ks_whole *w = NULL;

	/* To skip what is there, or to read it once more, it is opened. */
	if (!vfs || vfs == j->to->side->vfs || j->n < 2 || c->o.verify || c->o.dry_run ||
	    (!j->to->made && (c->o.update || c->o.checksum || c->o.no_clobber)))
		return NULL;
	w = calloc(j->n, sizeof(*w));
	for (unsigned int i = 0; w && i < j->n; i++) {
		const struct stat *st = v[i].st;

		if (S_ISREG(st->st_mode) && st->st_size > 0 &&
		    st->st_size <= (off_t)KS_RUN_FILE_MAX)
			w[i].ino = st->st_ino;
	}
	if (w && ks_vfs_whole(vfs, w, j->n) < 0) {
		free(w);
		w = NULL;
	}
	return w;
}

static void copy_job(struct ks_copy *c, const struct ks_copy_job *j, struct ks_copy_batch *b)
{
	KS_AUTO(ks_freep) struct job_name *v = order(j);
	KS_AUTO(ks_freep) struct ks_whole *whole = v ? find_whole(c, j, v) : NULL;

	if (!v)
		ks_copy_fail(c, j->from->path, "copy the files of", -ENOMEM);
	for (unsigned int i = 0; v && i < j->n && !ks_copy_stopped(c); i++) {
		struct ks_copy_item it = { .from = j->from,
					   .to = j->to,
					   .name = v[i].name,
					   .to_name = v[i].to_name,
					   .follow = j->follow,
					   .st = *v[i].st };

		if (whole && whole[i].attr.ino && !(whole[i].attr.flags & KS_INODE_HAS_XATTR)) {
			it.whole = &whole[i];
			ks_side_stat(&whole[i].attr, &it.st);
		}
		ks_copy_leaf(c, &it, b);
	}
}

static void run_job(struct ks_job *base)
{
	struct ks_copy_job *j = ks_container_of(base, struct ks_copy_job, job);
	struct ks_copy *c = j->c;
	bool quiet = ks_fail_quiet(true);
	struct ks_copy_batch *b = ks_batch_take(c);

	copy_job(c, j, b);
	ks_copy_sync_early(c);
	ks_batch_give(c, b);
	ks_cdir_put(j->from);
	ks_cdir_put(j->to);
	ks_buf_clear(&j->names);
	free(j);
	ks_fail_quiet(quiet);
	KS_LOCKED(&c->mu);
	c->waiting--;
	pthread_cond_signal(&c->less);
}

static struct ks_copy_job *new_job(struct ks_copy *c, struct ks_cdir *from, struct ks_cdir *to,
				   bool follow)
{
	struct ks_copy_job *j = malloc(sizeof(*j));

	if (!j)
		return NULL;
	j->job = (struct ks_job){ .run = run_job };
	j->c = c;
	j->from = ks_cdir_get(from);
	j->to = ks_cdir_get(to);
	j->follow = follow;
	j->names = (struct ks_buf){ 0 };
	j->n = 0;
	j->bytes = 0;
	return j;
}

static void add_job(struct ks_copy *c, struct ks_copy_job *j)
{
	ks_mutex_lock(&c->mu);
	/* Without a deadline the wait does not fail. */
	while (c->waiting >= c->waiting_max)
		KS_IGNORE(ks_cond_wait(&c->less, &c->mu, -1));
	c->waiting++;
	ks_mutex_unlock(&c->mu);
	ks_workers_add(c->workers, &j->job);
}

void ks_copy_send(struct ks_copy *c, struct ks_cdir *from)
{
	struct ks_copy_job *j = from->job;

	from->job = NULL;
	if (j)
		add_job(c, j);
}

/* An entry that is no directory. What is sent together is of one directory. */
static void add_file(struct ks_copy *c, struct ks_cdir *from, const char *name, struct ks_cdir *to,
		     const char *to_name, bool follow, const struct stat *st)
{
	struct ks_copy_job *j = from->job;
	int r;

	if (!j)
		j = from->job = new_job(c, from, to, follow);
	/* Both names or none: one alone would shift those behind it. */
	r = j ? ks_buf_reserve(&j->names, strlen(name) + strlen(to_name) + 2) : -ENOMEM;
	if (r == 0)
		r = ks_buf_append(&j->names, name, strlen(name) + 1);
	if (r == 0)
		r = ks_buf_append(&j->names, to_name, strlen(to_name) + 1);
	if (r < 0) {
		ks_copy_fail(c, name, "copy", r);
		return;
	}
	j->st[j->n++] = *st;
	j->bytes += st->st_nlink ? (uint64_t)st->st_size : JOB_UNKNOWN;
	if (j->n == JOB_FILES || j->bytes >= JOB_BYTES)
		ks_copy_send(c, from);
}

void ks_copy_wait(struct ks_copy *c)
{
	ks_mutex_lock(&c->mu);
	while (c->waiting > 0)
		KS_IGNORE(ks_cond_wait(&c->less, &c->mu, -1));
	ks_mutex_unlock(&c->mu);
	/* Nobody has one now. */
	ks_batch_commit_all(c);
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
	uint32_t mode = out->st.st_mode & (what & KS_COPY_MODE ? 07777 : 0777);
	struct stat st;
	int r = it->to->absent ? -ENOENT : ops->stat(it->to, it->to_name, false, &st);

	if (c->o.compare && (r == -ENOENT || (r == 0 && !S_ISDIR(st.st_mode)))) {
		ks_copy_differs(c, out->path, r == 0 ? "kind" : "missing");
		return -ECANCELED;
	}
	out->made = r == -ENOENT;
	if (r == 0 && !S_ISDIR(st.st_mode)) {
		/* It goes when deletions are made, and the copy takes its place. */
		if (c->o.remove)
			return -ECANCELED;
		ks_copy_refuse(c, out->path, "create", -EEXIST, "exists, and is not a directory");
		return -ECANCELED;
	}
	if (out->made && c->o.dry_run) {
		out->absent = true;
		return 0;
	}
	if (out->made)
		r = ops->mkdir(it->to, it->to_name, mode, what & KS_COPY_OWNER ? &out->st : NULL);
	/* Another copy was faster. What else it may be is told by opening it. */
	if (r == -EEXIST) {
		out->made = false;
		r = 0;
	}
	if (r == 0)
		r = ops->opendir(it->to, it->to_name, false, out);
	if (r == 0 && !out->made && !c->o.dry_run)
		ops->tidy(out);
	return r;
}

struct walk {
	struct ks_copy *c;
	struct ks_cdir *from, *to;
};

bool ks_copy_excluded(struct ks_copy *c, struct ks_cdir *from, const char *name, bool follow,
		      const struct stat *st)
{
	KS_AUTO(ks_freep) char *path = NULL;
	struct stat found;

	if (!c->o.filter || from->rel_at == KS_REL_NONE)
		return false;
	if (!st || (follow && S_ISLNK(st->st_mode))) {
		if (from->side->ops->stat(from, name, follow, &found) < 0)
			found.st_mode = 0;
		st = &found;
	}
	path = from->path[from->rel_at] ? ks_asprintf("%s/%s", from->path + from->rel_at, name)
					: strdup(name);
	/* Without memory nothing is copied that should not be. */
	return !path || ks_filter_excludes(c->o.filter, path, S_ISDIR(st->st_mode));
}

static int walk_name(void *arg, const char *name, const struct stat *st)
{
	struct walk *w = arg;
	struct ks_copy *c = w->c;

	if (ks_copy_stopped(c))
		return 1;
	if (!ks_copy_excluded(c, w->from, name, c->o.follow, st))
		ks_copy_entry(c, w->from, name, w->to, name, c->o.follow, st);
	return 0;
}

static bool same_dir(const struct ks_cdir *a, const struct ks_cdir *b)
{
	return a->side->vfs && a->side->vfs == b->side->vfs && a->ino == b->ino;
}

/* Is it one of the directories that are being copied above it? Only a symlink leads there. */
static bool is_ring(const struct ks_copy_item *it)
{
	for (const struct ks_cdir *d = it->to; d && it->follow; d = d->parent) {
		if (d->source && d->st.st_dev == it->st.st_dev && d->st.st_ino == it->st.st_ino)
			return true;
	}
	return false;
}

static int refuse_itself(struct ks_copy *c, const char *path)
{
	ks_copy_refuse(c, path, "copy", -EINVAL, "a directory cannot be copied into itself");
	return -ECANCELED;
}

static int open_pair(struct ks_copy *c, const struct ks_copy_item *it, struct ks_cdir *from,
		     struct ks_cdir *to)
{
	int r = from->side->ops->opendir(it->from, it->name, it->follow, from);

	if (r < 0) {
		ks_copy_fail(c, from->path, "open", r);
		return r;
	}
	if (from->side->vfs && from->side->vfs == to->side->vfs && is_below(it->to, from->ino))
		return refuse_itself(c, from->path);
	if (is_ring(it)) {
		ks_copy_refuse(c, from->path, "copy", -ELOOP,
			       "a symlink leads back to a directory above it");
		return -ECANCELED;
	}
	to->st = it->st;
	ks_copy_adjust(c, &to->st);
	r = enter_target(c, it, to);
	if (r < 0 && r != -ECANCELED)
		ks_copy_fail(c, to->path, "create", r);
	return r == 0 && same_dir(from, to) ? refuse_itself(c, from->path) : r;
}

/* Where in the path of a source directory that begins which counts from the source itself. */
static size_t rel_of(const struct ks_copy_item *it, const char *path)
{
	const struct ks_cdir *above = it->from;

	if (above->rel_at == KS_REL_NONE)
		return strlen(path);
	return above->path[above->rel_at] ? above->rel_at : strlen(path) - strlen(it->name);
}

bool ks_pair_open(struct ks_copy *c, const struct ks_copy_item *it, struct ks_cdir **out_from,
		  struct ks_cdir **out_to)
{
	KS_AUTO(ks_freep) char *from_path = ks_copy_join(it->from->path, it->name);
	KS_AUTO(ks_freep) char *to_path = ks_copy_join(it->to->path, it->to_name);
	struct ks_cdir *from = from_path ? ks_cdir_new(c, it->from->side, from_path) : NULL;
	struct ks_cdir *to = to_path ? ks_cdir_new(c, it->to->side, to_path) : NULL;

	ks_fail_clear();
	if (!from || !to) {
		ks_copy_fail(c, it->name, "open", -ENOMEM);
	} else {
		from->rel_at = rel_of(it, from_path);
		if (open_pair(c, it, from, to) == 0) {
			to->parent = ks_cdir_get(it->to);
			to->source = ks_cdir_get(from);
			ks_copy_count(c, dirs, 1);
			ks_copy_did(c, to->made ? "created" : "entered", from_path, to_path, 0);
			*out_from = from;
			*out_to = to;
			return true;
		}
	}
	ks_cdir_put(to);
	ks_cdir_put(from);
	return false;
}

void ks_pair_close(struct ks_copy *c, struct ks_cdir *from, struct ks_cdir *to)
{
	ks_copy_send(c, from);
	ks_cdir_put(to);
	ks_cdir_put(from);
}

static void copy_dir(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct walk w = { .c = c };
	int r = 0;

	if (!ks_pair_open(c, it, &w.from, &w.to))
		return;
	if (c->o.compare)
		ks_compare_dir(c, it);
	if (!c->o.one_fs || it->st.st_dev == c->dev)
		r = w.from->side->ops->list(w.from, walk_name, &w);
	if (r < 0)
		ks_copy_fail(c, w.from->path, "list", r);
	ks_pair_close(c, w.from, w.to);
}

void ks_copy_entry(struct ks_copy *c, struct ks_cdir *from, const char *name, struct ks_cdir *to,
		   const char *to_name, bool follow, const struct stat *st)
{
	struct ks_copy_item it = {
		.from = from, .to = to, .name = name, .to_name = to_name, .follow = follow
	};
	bool known = st && !(S_ISLNK(st->st_mode) && follow);
	int r = 0;

	if (known)
		it.st = *st;
	/* Of a directory all is wanted to be known. */
	if (!known || (S_ISDIR(it.st.st_mode) && !it.st.st_nlink))
		r = from->side->ops->stat(from, name, follow, &it.st);
	if (r == 0 && S_ISDIR(it.st.st_mode) && c->o.recursive) {
		copy_dir(c, &it);
		return;
	}
	if (r == 0 && !S_ISDIR(it.st.st_mode)) {
		add_file(c, from, name, to, to_name, follow, &it.st);
		return;
	}

	KS_AUTO(ks_freep) char *path = ks_copy_join(from->path, name);

	ks_fail_clear();
	if (r == 0)
		ks_copy_refuse(c, path ? path : name, "copy", -EISDIR, "a directory; -r copies it");
	else
		ks_copy_fail(c, path ? path : name, "find", r);
}
