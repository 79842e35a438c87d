/* SPDX-License-Identifier: Apache-2.0 */
/* copy.c: a copy's life, its operands, and what it reports. */
#include "volume/copy.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define JOBS_MIN 4
#define JOBS_MAX 16

/* ---- reports ---- */

bool ks_copy_stopped(struct ks_copy *c)
{
	if (__atomic_load_n(&c->stopped, __ATOMIC_RELAXED))
		return true;
	if (!c->o.stop || !c->o.stop(c->o.arg))
		return false;
	__atomic_store_n(&c->stopped, true, __ATOMIC_RELAXED);
	return true;
}

/* The raised text of an error says which block of which store; else the errno has to do. */
static const char *cause(int err)
{
	const char *text = ks_fail_text();
	const char *reason = ks_strerror(err);
	size_t n = strlen(text);
	size_t k = strlen(reason);

	return n >= k && k && strcmp(text + n - k, reason) == 0 ? text : reason;
}

void ks_copy_pace(struct ks_copy *c, size_t n)
{
	uint64_t out = c->from.vfs ? c->o.rate_out : 0;
	uint64_t in = c->to.vfs ? c->o.rate_in : 0;
	uint64_t rate = out && in ? ks_min(out, in) : out | in;
	int64_t now, until;

	if (!rate)
		return;
	now = ks_clock_mono_ns();
	ks_mutex_lock(&c->pace_mu);
	c->pace_ns = ks_max(c->pace_ns, now);
	until = c->pace_ns;
	c->pace_ns += (int64_t)((double)n / (double)rate * (double)KS_NS_PER_S);
	ks_mutex_unlock(&c->pace_mu);
	while (now < until && !ks_copy_stopped(c)) {
		struct timespec ts = ks_ns_to_ts(ks_min(until - now, 100 * KS_NS_PER_MS));

		nanosleep(&ts, NULL);
		now = ks_clock_mono_ns();
	}
}

static void report(struct ks_copy *c, const char *path, const char *op, int err, const char *text)
{
	uint64_t failed = ks_copy_count(c, failed, 1) + 1;
	int none = 0;

	if (c->o.max_errors && failed >= c->o.max_errors)
		__atomic_store_n(&c->stopped, true, __ATOMIC_RELAXED);
	__atomic_compare_exchange_n(&c->n.first_error, &none, err, false, __ATOMIC_RELAXED,
				    __ATOMIC_RELAXED);
	if (c->o.on_error) {
		KS_LOCKED(&c->report_mu);
		c->o.on_error(c->o.arg, path, op, err, text ? text : path, ks_fail_hint_text());
	}
	ks_fail_clear();
}

void ks_copy_fail(struct ks_copy *c, const char *path, const char *op, int err)
{
	KS_AUTO(ks_freep) char *text = NULL;

	/* A stop is nobody's failure. */
	if (err == -ECANCELED)
		return;
	text = ks_asprintf("cannot %s %s: %s", op, path, cause(err));
	report(c, path, op, err, text);
}

void ks_copy_refuse(struct ks_copy *c, const char *path, const char *op, int err, const char *why)
{
	KS_AUTO(ks_freep) char *text = ks_asprintf("%s: %s", path, why);

	ks_fail_clear();
	report(c, path, op, err, text);
}

void ks_copy_did(struct ks_copy *c, const char *action, const char *from, const char *to,
		 uint64_t bytes)
{
	if (!c->o.on_item)
		return;
	KS_LOCKED(&c->report_mu);
	c->o.on_item(c->o.arg, action, from, to, bytes);
}

void ks_copy_now(struct ks_copy *c, struct ks_copy_counts *out)
{
	const uint64_t *from = (const uint64_t *)(const void *)&c->n;
	uint64_t *to = (uint64_t *)(void *)out;

	for (size_t i = 0; i < offsetof(struct ks_copy_counts, first_error) / sizeof(*to); i++)
		to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
	out->first_error = __atomic_load_n(&c->n.first_error, __ATOMIC_RELAXED);
}

/* ---- names and directories ---- */

char *ks_copy_join(const char *dir, const char *name)
{
	size_t n = strlen(dir);

	if (strcmp(name, ".") == 0 || strcmp(dir, ".") == 0)
		return strdup(strcmp(name, ".") == 0 ? dir : name);
	return ks_asprintf("%s%s%s", dir, n && dir[n - 1] != '/' ? "/" : "", name);
}

void ks_copy_tmp_name(char out[64])
{
	static atomic_uint next;

	snprintf(out, 64, KS_COPY_TMP "%d-%u", (int)getpid(), atomic_fetch_add(&next, 1));
}

struct ks_cdir *ks_cdir_new(struct ks_copy *c, struct ks_side *side, const char *path)
{
	struct ks_cdir *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->copy = c;
	d->side = side;
	d->fd = -1;
	d->rel_at = KS_REL_NONE;
	atomic_init(&d->refs, 1);
	d->path = strdup(path);
	if (!d->path) {
		free(d);
		return NULL;
	}
	return d;
}

struct ks_cdir *ks_cdir_get(struct ks_cdir *d)
{
	atomic_fetch_add_explicit(&d->refs, 1, memory_order_relaxed);
	return d;
}

/* Its entries are done: what they changed of it (mtime) and what would have been in their way (mode) can be set. */
static void finish_dir(struct ks_cdir *d)
{
	struct ks_copy *c = d->copy;
	struct ks_node from = { d->source, NULL, 0, NULL };
	struct ks_node to = { d, NULL, 0, NULL };
	unsigned int what = ks_copy_what(c);
	struct stat st = d->st;
	int r = 0;

	ks_fail_clear();
	/* On this machine it was made writable first. */
	if (d->made && !(what & KS_COPY_MODE) && !d->side->vfs && (~st.st_mode & 0700)) {
		struct stat now;

		r = d->side->ops->stat(d, ".", false, &now);
		st.st_mode = now.st_mode & (st.st_mode | ~0700u);
		what |= KS_COPY_MODE;
	}
	if (r == 0 && what)
		r = d->side->ops->setattr(&to, &st, what);
	if (r == 0)
		r = ks_copy_xattrs(c, &from, &to);
	if (r < 0)
		ks_copy_fail(c, d->path, "set the attributes of", r);
}

void ks_cdir_put(struct ks_cdir *d)
{
	while (d && atomic_fetch_sub_explicit(&d->refs, 1, memory_order_acq_rel) == 1) {
		struct ks_cdir *parent = d->parent;

		if (d->source && !d->copy->o.dry_run)
			finish_dir(d);
		ks_cdir_put(d->source);
		d->side->ops->closedir(d);
		free(d->path);
		free(d);
		d = parent;
	}
}

/* ---- operands ---- */

/* What messages call it. */
static char *shown(const struct ks_copy_end *e)
{
	return e->volume ? ks_asprintf("%s:%s", e->label, e->path) : strdup(e->path);
}

static struct ks_cdir *open_dir(struct ks_copy *c, struct ks_side *side,
				const struct ks_copy_end *e, const char *path, int *err)
{
	struct ks_copy_end part = { .volume = e->volume, .label = e->label, .path = path };
	KS_AUTO(ks_freep) char *name = shown(&part);
	struct ks_cdir *d = name ? ks_cdir_new(c, side, name) : NULL;

	*err = d ? side->ops->opendir(NULL, path, true, d) : -ENOMEM;
	if (*err < 0) {
		ks_cdir_put(d);
		return NULL;
	}
	return d;
}

/* The directory of @path and the last name in it; "/", "." and "x/.." are named "." in themselves. Owned, both. */
static int split_path(const char *path, char **dir, char **name)
{
	size_t n = strlen(path);
	size_t start;

	while (n > 1 && path[n - 1] == '/')
		n--;
	start = n;
	while (start > 0 && path[start - 1] != '/')
		start--;
	if (n - start == 0 || (n - start == 1 && path[start] == '.') ||
	    (n - start == 2 && path[start] == '.' && path[start + 1] == '.')) {
		*dir = strndup(path, n);
		*name = strdup(".");
	} else {
		*dir = start ? strndup(path, start) : strdup(".");
		*name = strndup(path + start, n - start);
	}
	return *dir && *name ? 0 : -ENOMEM;
}

static bool ends_in_slash(const char *path)
{
	size_t n = strlen(path);

	return n > 0 && path[n - 1] == '/';
}

struct target {
	struct ks_cdir *dir;
	char *name; /* NULL: sources keep theirs, in dir */
};

/* Where the sources go: into a directory, or under a name of their own. */
static int find_target(struct ks_copy *c, const struct ks_copy_end *to, size_t n, struct target *t)
{
	KS_AUTO(ks_freep) char *name = shown(to);
	KS_AUTO(ks_freep) char *dir = NULL;
	int r = 0;

	if (!name)
		return -ENOMEM;
	if (!c->o.no_target_dir) {
		t->dir = open_dir(c, &c->to, to, to->path, &r);
		if (t->dir)
			return 0;
		if (c->o.into_dir || n > 1)
			return ks_fail(r == -ENOENT ? r : -ENOTDIR, "target directory %s", name);
		if (r != -ENOENT && r != -ENOTDIR)
			return ks_fail(r, "%s", name);
		if (ends_in_slash(to->path) && !c->o.recursive)
			return ks_fail(-ENOTDIR, "%s", name);
	}
	r = split_path(to->path, &dir, &t->name);
	if (r < 0)
		return r;
	t->dir = open_dir(c, &c->to, to, dir, &r);
	return t->dir ? 0 : ks_fail(r, "the directory of %s", name);
}

static void copy_one_source(struct ks_copy *c, struct ks_copy_item *it)
{
	const struct ks_side_ops *ops = it->from->side->ops;
	bool found = ops->stat(it->from, it->name, it->follow, &it->st) == 0;

	c->dev = found ? it->st.st_dev : 0;
	if (c->o.next_path && found)
		ks_copy_list(c, it);
	else
		ks_copy_entry(c, it->from, it->name, it->to, it->to_name, it->follow, NULL);
	ks_copy_send(c, it->from);
	/* The side of the source is one struct, shared by what is under way. */
	ks_copy_wait(c);
	ks_links_clear(c);
	if (c->o.remove && found && S_ISDIR(it->st.st_mode) && !ks_copy_stopped(c)) {
		ks_copy_delete(c, it);
		ks_copy_send(c, it->from);
		ks_copy_wait(c);
		ks_links_clear(c);
	}
}

static void copy_source(struct ks_copy *c, const struct ks_copy_end *from, const struct target *t)
{
	KS_AUTO(ks_freep) char *dir_path = NULL;
	KS_AUTO(ks_freep) char *name = NULL;
	KS_AUTO(ks_freep) char *path = shown(from);
	/* cp(1): what is named on the command line is followed, unless a tree is copied as it is. */
	bool follow = c->o.follow || !(c->o.recursive || c->o.no_follow);
	struct ks_cdir *dir;
	int r;

	c->from.vfs = from->volume ? from->volume->vfs : NULL;
	c->from.ops = from->volume ? &ks_side_volume : &ks_side_local;
	c->from.label = from->label;
	if (!path || split_path(from->path, &dir_path, &name) < 0) {
		ks_copy_fail(c, from->path, "copy", -ENOMEM);
		return;
	}
	/* "link/" names the directory that a link leads to. */
	follow = follow || ends_in_slash(from->path);
	dir = open_dir(c, &c->from, from, dir_path, &r);
	if (!dir) {
		ks_copy_fail(c, path, "find", r);
		return;
	}
	copy_one_source(c, &(struct ks_copy_item){ .from = dir,
						   .to = t->dir,
						   .name = name,
						   .to_name = t->name ? t->name : name,
						   .follow = follow });
	ks_cdir_put(dir);
}

static int to_stdout(struct ks_copy *c, const struct ks_copy_end *from)
{
	KS_AUTO(ks_freep) char *dir_path = NULL;
	KS_AUTO(ks_freep) char *name = NULL;
	struct ks_cdir *dir;
	int r = split_path(from->path, &dir_path, &name);

	if (r < 0)
		return r;
	c->from.vfs = from->volume->vfs;
	c->from.ops = &ks_side_volume;
	c->from.label = from->label;
	dir = open_dir(c, &c->from, from, dir_path, &r);
	if (!dir)
		return ks_fail(r, "%s:%s", from->label, from->path);
	ks_copy_stdout(c, dir, name);
	ks_cdir_put(dir);
	return 0;
}

static bool is_stdio(const struct ks_copy_end *e)
{
	return !e->volume && strcmp(e->path, "-") == 0;
}

static int run(struct ks_copy *c, const struct ks_copy_end *from, size_t n,
	       const struct ks_copy_end *to)
{
	struct target t = { 0 };
	int r;

	if (is_stdio(to))
		return to_stdout(c, &from[0]);
	r = find_target(c, to, n, &t);
	if (r == 0 && !c->o.dry_run) {
		c->to.ops->tidy(t.dir);
		ks_copy_sync_begin(c, t.dir);
	}
	if (r == 0 && is_stdio(&from[0])) {
		if (t.name)
			ks_copy_stdin(c, t.dir, t.name);
		else
			r = ks_fail(-EISDIR, "%s%s%s", to->volume ? to->label : "",
				    to->volume ? ":" : "", to->path);
	} else {
		for (size_t i = 0; r == 0 && i < n && !ks_copy_stopped(c); i++)
			copy_source(c, &from[i], &t);
	}
	if (r == 0 && !c->o.dry_run)
		r = ks_copy_sync_end(c, t.dir);
	ks_cdir_put(t.dir);
	free(t.name);
	return r;
}

int ks_copy_run(struct ks_copy *c, const struct ks_copy_end *from, size_t n,
		const struct ks_copy_end *to)
{
	bool quiet = ks_fail_quiet(true);
	int r;

	c->to.vfs = to->volume ? to->volume->vfs : NULL;
	c->to.ops = to->volume ? &ks_side_volume : &ks_side_local;
	c->to.label = to->label;
	if (c->o.verify && to->volume && c->o.verify_volume) {
		c->verify = c->to;
		c->verify.vfs = c->o.verify_volume->vfs;
		c->to_verify = true;
	}
	r = run(c, from, n, to);
	ks_fail_quiet(quiet);
	return r == 0 && ks_copy_stopped(c) ? -EINTR : r;
}

/* ---- life ---- */

/* Read and not asked for with umask(2), which would set it for a moment under other threads. */
static uint32_t read_umask(void)
{
	FILE *f = fopen("/proc/self/status", "re");
	char line[256];
	unsigned int mask = 022;

	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "Umask:", 6) == 0) {
			mask = (unsigned int)strtoul(line + 6, NULL, 8);
			break;
		}
	}
	if (f)
		fclose(f);
	return mask & 0777;
}

int ks_copy_new(struct ks_copy **out, const struct ks_copy_opts *o)
{
	struct ks_copy *c = calloc(1, sizeof(*c));
	struct ks_ctx ctx = {
		.cred = { .uid = geteuid(), .gid = getegid(), .pid = (uint32_t)getpid() }
	};
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned int jobs = o->jobs;
	int r;

	if (!c)
		return -ENOMEM;
	if (!jobs)
		jobs = cpus < JOBS_MIN ? JOBS_MIN : cpus > JOBS_MAX ? JOBS_MAX : (unsigned int)cpus;
	c->o = *o;
	/* Its destination is looked at like that of a dry run. */
	c->o.dry_run = o->dry_run || o->compare;
	c->umask = read_umask();
	ctx.cred.umask = c->umask;
	c->root = geteuid() == 0;
	c->jobs = jobs;
	c->waiting_max = 4 * jobs;
	c->local = (struct ks_side){ .ops = &ks_side_local, .ctx = ctx, .label = "" };
	c->from = c->to = c->local;
	pthread_mutex_init(&c->mu, NULL);
	pthread_mutex_init(&c->report_mu, NULL);
	pthread_mutex_init(&c->links_mu, NULL);
	pthread_mutex_init(&c->pace_mu, NULL);
	r = ks_cond_init(&c->less);
	if (r == 0)
		r = ks_batch_start(c);
	if (r == 0)
		r = ks_workers_start(&c->workers, "copy", (int)jobs);
	if (r < 0) {
		ks_copy_free(c);
		return r;
	}
	*out = c;
	return 0;
}

void ks_copy_free(struct ks_copy *c)
{
	if (!c)
		return;
	ks_workers_stop(c->workers);
	ks_workers_stop(c->early.worker);
	ks_batch_stop(c);
	ks_links_clear(c);
	pthread_mutex_destroy(&c->mu);
	pthread_mutex_destroy(&c->report_mu);
	pthread_mutex_destroy(&c->links_mu);
	pthread_mutex_destroy(&c->pace_mu);
	pthread_cond_destroy(&c->less);
	free(c);
}
