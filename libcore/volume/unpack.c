/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unpack.c: the calling thread reads the archive, makes directories and everything that is no file, and writes large files; small ones are read into memory and
 * written by workers, several at a time, so that their commits come together and their data goes to packs.
 *
 * Names are walked component by component over inodes that are known to be directories: there is no path that a link could bend.
 * Times of directories come last, from a sort in bounded memory.
 */
#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/unpack_internal.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOBS_MIN 4
#define JOBS_MAX 16
#define SMALL ((size_t)256 * KS_KIB) /* what goes to packs */
#define DIR_DEFAULT 0755u

enum { DIR_INO, DIR_SEQ, DIR_MTIME, DIR_ATIME, DIR_WORDS };

struct job {
	struct ks_job job;
	struct ks_hnode node; /* [mu] in busy */
	struct ks_unpack *u;
	struct ks_unpack_file file;
};

/* ---- reports ---- */

bool ks_unpack_stopped(struct ks_unpack *u)
{
	if (__atomic_load_n(&u->fatal, __ATOMIC_RELAXED))
		return true;
	return u->o->stopped && u->o->stopped(u->o->arg);
}

void ks_unpack_failed(struct ks_unpack *u, const char *path, int err, const char *why)
{
	const char *cause = why ? why : *ks_fail_text() ? ks_fail_text() : ks_strerror(err);
	KS_AUTO(ks_freep) char *text = NULL;
	int none = 0;

	/* A stop is nobody's failure. */
	if (err == -EINTR)
		return;
	/* Going on would only say the same of every file. */
	if (err == -ENOSPC || err == -EDQUOT || err == -EROFS)
		__atomic_compare_exchange_n(&u->fatal, &none, err, false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED);
	text = ks_asprintf("cannot unpack %s: %s", path, cause);
	/* A name is the archive's: it must not talk to the terminal. */
	for (char *p = text; p && *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	{
		KS_LOCKED(&u->mu);
		u->out->failed++;
		if (!u->out->first_error)
			u->out->first_error = err;
		if (u->o->error)
			u->o->error(u->o->arg, path, err, text ? text : path);
	}
	ks_fail_clear();
}

static void did(struct ks_unpack *u, const char *path, uint64_t bytes)
{
	if (!u->o->item)
		return;
	KS_LOCKED(&u->mu);
	u->o->item(u->o->arg, path, bytes);
}

/* ---- workers ---- */

static uint64_t busy_key(ks_ino_t dir, const char *name)
{
	uint64_t h = ks_mix64(dir);

	for (; *name; name++)
		h = ks_mix64(h + (unsigned char)*name);
	return h;
}

static void run_job(struct ks_job *base)
{
	struct job *j = ks_container_of(base, struct job, job);
	struct ks_unpack *u = j->u;
	bool quiet = ks_fail_quiet(true);

	ks_fail_clear();
	if (!ks_unpack_stopped(u)) {
		int r = ks_unpack_put(u, &j->file);

		if (r < 0)
			ks_unpack_failed(u, j->file.path, r, NULL);
		else
			did(u, j->file.path, j->file.data.n);
	}
	ks_fail_quiet(quiet);
	ks_unpack_file_clear(&j->file);
	KS_LOCKED(&u->mu);
	ks_hmap_remove(&u->busy, &j->node);
	u->waiting--;
	pthread_cond_broadcast(&u->less);
	free(j);
}

static void wait_until(struct ks_unpack *u, unsigned int most)
{
	KS_LOCKED(&u->mu);
	while (u->waiting > most)
		KS_IGNORE(ks_cond_wait(&u->less, &u->mu, -1)); /* no deadline */
}

/* What has this name in this archive already is there before the next. */
static void wait_for(struct ks_unpack *u, ks_ino_t dir, const char *name)
{
	uint64_t key = busy_key(dir, name);
	KS_LOCKED(&u->mu);

	while (ks_hmap_find(&u->busy, key))
		KS_IGNORE(ks_cond_wait(&u->less, &u->mu, -1));
}

static int add_job(struct ks_unpack *u, struct ks_unpack_file *file)
{
	struct job *j = calloc(1, sizeof(*j));
	int r;

	if (!j)
		return -ENOMEM;
	wait_until(u, u->waiting_max - 1);
	ks_mutex_lock(&u->mu);
	r = ks_hmap_insert(&u->busy, &j->node, busy_key(file->dir, file->name));
	if (r == 0)
		u->waiting++;
	ks_mutex_unlock(&u->mu);
	if (r < 0) {
		free(j);
		return r;
	}
	j->job.run = run_job;
	j->u = u;
	j->file = *file;
	*file = (struct ks_unpack_file){ 0 };
	ks_workers_add(u->workers, &j->job);
	return 0;
}

/* ---- names ---- */

/*
 * The components of an entry's name, each with its NUL, without "." and empty ones. -EINVAL: one is "..". Of a directory and of "./x" alike: nothing of
 * it says where the root is.
 */
static int split_name(struct ks_unpack *u, const char *path, struct ks_buf *out, const char **why)
{
	out->n = 0;
	if (*path == '/')
		u->out->absolute++;
	while (*path) {
		size_t n = strcspn(path, "/");
		int r = 0;

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			*why = "its name has '..' in it";
			return -EINVAL;
		}
		if (n > KS_NAME_MAX) {
			*why = "a part of its name is longer than 255 bytes";
			return -ENAMETOOLONG;
		}
		if (n && !(n == 1 && *path == '.')) {
			r = ks_buf_append(out, path, n);
			if (r == 0)
				r = ks_buf_append(out, "", 1);
		}
		if (r < 0)
			return r;
		path += n + (path[n] == '/');
	}
	return 0;
}

static int enter(struct ks_unpack *u, ks_ino_t dir, const char *name, bool make, ks_ino_t *out,
		 const char **why)
{
	struct ks_attr a;
	int r;

	wait_for(u, dir, name);
	r = ks_vfs_lookup(u->vfs, &u->ctx, dir, name, &a);
	if (r == -ENOENT && make) {
		r = ks_vfs_mkdir(u->vfs, &u->ctx, dir, name, DIR_DEFAULT, &a);
		if (r == 0)
			ks_unpack_count(&u->out->dirs, 1);
	}
	if (r == 0 && S_ISLNK(a.mode)) {
		*why = "its name leads through a symbolic link";
		return -ELOOP;
	}
	if (r == 0 && !S_ISDIR(a.mode)) {
		*why = "a part of its name is a file";
		return -ENOTDIR;
	}
	*out = a.ino;
	return r;
}

/*
 * The directory of the last component. Where the last entry's was is remembered: archives are mostly in the order of directories. *name: the last
 * component, in @names; NULL: it is the root itself.
 */
static int find_dir(struct ks_unpack *u, const struct ks_buf *names, bool make, ks_ino_t *dir,
		    const char **name, const char **why)
{
	const char *p = names->p, *end = names->p + names->n;
	struct ks_unpack_walk *w = &u->walk;
	size_t same = 0;

	*dir = u->root;
	*name = NULL;
	if (!names->n)
		return 0;
	/* As far as the two names are alike. */
	for (const char *q = w->names.p; same < w->n; same++) {
		size_t n = strlen(p) + 1;

		if (p + n == end || strcmp(p, q) != 0)
			break;
		*dir = w->ino[same];
		p += n;
		q += n;
	}
	w->n = same;
	w->names.n = (size_t)(p - names->p);
	while (p + strlen(p) + 1 < end) {
		size_t n = strlen(p) + 1;
		ks_ino_t ino;
		int r = enter(u, *dir, p, make, &ino, why);

		if (r == 0)
			r = ks_array_room(&w->ino, w->n, &w->cap);
		if (r == 0)
			r = ks_buf_append(&w->names, p, n);
		if (r < 0)
			return r;
		w->ino[w->n++] = *dir = ino;
		p += n;
	}
	*name = p;
	return 0;
}

/* ---- entries ---- */

static int take_dir(struct ks_unpack *u, struct ks_unpack_file *f)
{
	struct ks_attr a = { .ino = u->root };
	uint64_t rec[DIR_WORDS];
	const char *why = NULL;
	int r = 0;

	if (f->name)
		r = enter(u, f->dir, f->name, true, &a.ino, &why);
	if (r == 0)
		r = ks_unpack_attributes(u, a.ino, f, false);
	if (r == 0 && f->has_mtime) {
		rec[DIR_INO] = a.ino;
		rec[DIR_SEQ] = u->seq++;
		rec[DIR_MTIME] = (uint64_t)f->mtime_ns;
		rec[DIR_ATIME] = (uint64_t)(f->has_atime ? f->atime_ns : f->mtime_ns);
		r = ks_sort_add(u->dirs, rec);
	}
	if (why)
		ks_unpack_failed(u, f->path, r, why);
	return why ? 0 : r;
}

static int take_link(struct ks_unpack *u, struct ks_unpack_file *f, const char *target,
		     const char **why)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	const char *name = NULL;
	struct ks_attr a;
	ks_ino_t dir = 0;
	int r = split_name(u, target, &names, why);

	/* Its first name may still be on its way. */
	wait_until(u, 0);
	if (r == 0)
		r = find_dir(u, &names, false, &dir, &name, why);
	if (r == 0 && name)
		r = ks_vfs_lookup(u->vfs, &u->ctx, dir, name, &a);
	if (r == 0 && (!name || S_ISDIR(a.mode))) {
		*why = "it is a hard link to a directory";
		return -EPERM;
	}
	if (r == -ENOENT)
		*why = "it is a hard link to a file that is not there";
	return r < 0 ? r : ks_unpack_link(u, f, a.ino);
}

/* A file that fits is read here and written by a worker; a larger one is written as it comes. */
static int take_regular(struct ks_unpack *u, struct ks_unpack_file *f, struct archive_entry *e)
{
	bool small = archive_entry_size_is_set(e) && f->size <= SMALL;
	const void *p;
	uint64_t off;
	size_t n;
	int r = 0;

	if (!small)
		return ks_unpack_stream(u, f);
	r = ks_buf_reserve(&f->data, (size_t)f->size + 1);
	if (r == 0)
		memset(f->data.p, 0, (size_t)f->size);
	f->data.n = (size_t)f->size;
	while (r == 0 && (r = ks_arc_in_data(u->in, &p, &n, &off)) > 0) {
		if (off > f->size || n > f->size - off)
			return ks_fail(-EILSEQ, "it is larger than its size");
		if (n)
			memcpy(f->data.p + off, p, n);
		r = 0;
	}
	return r < 0 ? r : add_job(u, f);
}

static int take(struct ks_unpack *u, struct ks_unpack_file *f, struct archive_entry *e,
		const char **why)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	const char *target = archive_entry_hardlink(e);
	const char *name;
	int r = split_name(u, f->path, &names, why);

	if (r == 0)
		r = find_dir(u, &names, true, &f->dir, &name, why);
	if (r < 0)
		return r;
	f->name = name ? strdup(name) : NULL;
	if (name && !f->name)
		return -ENOMEM;
	if (!target && S_ISDIR(f->mode))
		return take_dir(u, f);
	if (!f->name) {
		*why = "it is no directory, and has no name";
		return -EINVAL;
	}
	wait_for(u, f->dir, f->name);
	if (target)
		r = take_link(u, f, target, why);
	else if (S_ISREG(f->mode))
		return take_regular(u, f, e);
	else
		r = ks_unpack_special(u, f, e, why);
	if (r == 0)
		did(u, f->path, 0);
	return r;
}

/* Everything of the archive is read, also what cannot be unpacked: a cut is found out. */
static int read_over(struct ks_unpack *u)
{
	const void *p;
	uint64_t off;
	size_t n;
	int r;

	while ((r = ks_arc_in_data(u->in, &p, &n, &off)) > 0)
		ks_unpack_count(&u->out->bytes, n);
	return r;
}

static int verify_one(struct ks_unpack *u, struct archive_entry *e)
{
	int r = read_over(u);
	const char *path = archive_entry_pathname(e);

	if (r == 0 && archive_entry_filetype(e) == AE_IFDIR)
		u->out->dirs++;
	else if (r == 0 && archive_entry_filetype(e) == AE_IFREG && !archive_entry_hardlink(e))
		u->out->files++;
	else if (r == 0)
		u->out->others++;
	if (r == -EILSEQ) {
		ks_unpack_failed(u, path ? path : "(an entry without a name)", r, NULL);
		return 0;
	}
	return r;
}

static int take_one(struct ks_unpack *u, struct archive_entry *e)
{
	struct ks_unpack_file f = { 0 };
	const char *why = NULL;
	const char *path = archive_entry_pathname(e);
	int r;

	if (!path) {
		ks_unpack_failed(u, "(an entry)", -EILSEQ, "its name cannot be read");
		return 0;
	}
	ks_fail_clear();
	r = ks_unpack_file_set(&f, e, path, ks_arc_in_is_tar(u->in), &why);
	if (r == 0)
		r = take(u, &f, e, &why);
	/* The archive's own end is told once, by the caller. */
	if (r == -EBADMSG || r == -EINTR || r == -ENOMEM) {
		ks_unpack_file_clear(&f);
		return r;
	}
	if (r < 0)
		ks_unpack_failed(u, path, r, why);
	ks_unpack_file_clear(&f);
	return 0;
}

static int take_all(struct ks_unpack *u)
{
	struct archive_entry *e;
	int r;

	while ((r = ks_arc_in_next(u->in, &e)) > 0) {
		__atomic_store_n(&u->out->in_bytes, ks_arc_in_bytes(u->in), __ATOMIC_RELAXED);
		if (ks_unpack_stopped(u))
			break;
		r = u->vfs ? take_one(u, e) : verify_one(u, e);
		if (r < 0)
			break;
		snprintf(u->out->format, sizeof(u->out->format), "%s", ks_arc_in_format(u->in));
	}
	return r;
}

/* ---- the end ---- */

static int set_dir_times(struct ks_unpack *u)
{
	struct ks_sort_cur c = { 0 };
	int r = ks_sort_finish(u->dirs);

	if (r < 0)
		return r;
	ks_sort_begin(&c, u->dirs);
	while ((r = ks_sort_next(&c)) == 0 && c.rec) {
		struct ks_attr a = { .mtime_ns = (int64_t)c.rec[DIR_MTIME],
				     .atime_ns = (int64_t)c.rec[DIR_ATIME] };

		r = ks_vfs_setattr(u->vfs, &u->ctx, c.rec[DIR_INO], KS_SET_MTIME | KS_SET_ATIME, &a,
				   &a);
		/* Somebody has removed it meanwhile. */
		if (r < 0 && r != -ENOENT)
			break;
	}
	ks_sort_end(&c);
	return r == -ENOENT ? 0 : r;
}

static int open_target(struct ks_unpack *u)
{
	struct ks_attr a;
	int r = ks_vfs_resolve(u->vfs, &u->ctx, u->o->path, true, &a);

	if (r == 0 && !S_ISDIR(a.mode))
		r = -ENOTDIR;
	u->root = a.ino;
	if (r == -ENOENT)
		return ks_fail_hint(r, "it must exist: an archive is unpacked into a directory",
				    "%s", u->o->path);
	return r < 0 ? ks_fail(r, "%s", u->o->path) : 0;
}

static int start(struct ks_unpack *u)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int jobs = u->o->jobs;
	int r = ks_arc_in_open(&u->in, u->o->file, u->o->stopped, u->o->arg);

	if (r < 0)
		return r;
	u->out->in_size = ks_arc_in_size(u->in);
	if (!u->vfs)
		return 0;
	if (!jobs)
		jobs = cpus < JOBS_MIN ? JOBS_MIN : cpus > JOBS_MAX ? JOBS_MAX : (unsigned int)cpus;
	u->waiting_max = 4 * jobs;
	r = open_target(u);
	if (r == 0 && ks_meta_is_readonly(u->o->volume->meta))
		r = ks_fail(-EROFS, "%s", u->o->path);
	if (r == 0)
		r = ks_sort_new(&u->dirs, DIR_WORDS, 0, NULL);
	return r == 0 ? ks_workers_start(&u->workers, "unpack", (int)jobs) : r;
}

/* What was done stays and is durable, however it ended. */
static int finish(struct ks_unpack *u, int r)
{
	bool stopped = ks_unpack_stopped(u);
	struct ks_fail_kept why;
	int end = 0;

	ks_fail_keep(&why);
	if (u->vfs && u->workers) {
		wait_until(u, 0);
		end = set_dir_times(u);
		if (end == 0 && !u->fatal)
			end = ks_vfs_syncfs(u->vfs);
	}
	ks_fail_restore(&why);
	if (r < 0)
		return r;
	if (u->fatal)
		return ks_fail_hint(u->fatal, "what was unpacked so far is whole, and is kept",
				    "unpack %s", u->o->file);
	if (stopped)
		return ks_fail(-EINTR, "unpack %s", u->o->file);
	return end < 0 ? ks_fail(end, "make what was unpacked durable") : 0;
}

int ks_unpack(const struct ks_unpack_opts *o, struct ks_unpack_result *out)
{
	struct ks_unpack u = {
		.o = o,
		.out = out,
		.vfs = o->volume ? o->volume->vfs : NULL,
		.is_root = geteuid() == 0,
		.ctx = { .cred = { .uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid() } }
	};
	int r;

	u.side =
		(struct ks_side){ .ops = &ks_side_volume, .vfs = u.vfs, .ctx = u.ctx, .label = "" };
	pthread_mutex_init(&u.mu, NULL);
	r = ks_cond_init(&u.less);
	if (r < 0) {
		pthread_mutex_destroy(&u.mu);
		return r;
	}
	r = start(&u);
	if (r == 0)
		r = take_all(&u);
	r = finish(&u, r);
	ks_workers_stop(u.workers);
	ks_sort_free(u.dirs);
	ks_hmap_clear(&u.busy);
	ks_arc_in_free(u.in);
	ks_buf_clear(&u.walk.names);
	free(u.walk.ino);
	pthread_cond_destroy(&u.less);
	pthread_mutex_destroy(&u.mu);
	return r;
}

bool ks_unpack_is_dump(const char *file)
{
	struct ks_arc_in *in = NULL;
	struct archive_entry *e;
	const char *name = NULL;
	bool quiet, is;

	if (strcmp(file, "-") == 0)
		return true;
	quiet = ks_fail_quiet(true);
	if (ks_arc_in_open(&in, file, NULL, NULL) == 0 && ks_arc_in_next(in, &e) > 0)
		name = archive_entry_pathname(e);
	is = name && strncmp(name, KS_ARC_DIR, strlen(KS_ARC_DIR)) == 0;
	ks_arc_in_free(in);
	ks_fail_quiet(quiet);
	return is;
}
