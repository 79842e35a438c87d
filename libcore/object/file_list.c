/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_list.c: the objects of the directory store in byte order of their keys.
 *
 * The names of one directory are sorted with a '/' behind those of directories: then walking them in that order
 * gives whole keys in byte order ("a-b" "a.b" "a/b" "a0"). A directory of more than BATCH names is read again for each
 * batch, so that memory stays bounded. Names that no key has ("tmp~", "lost+found") are skipped unseen.
 */
#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "object/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH ((size_t)32768)

struct walk {
	struct ks_file_store *f;
	const char *prefix, *after;
	ks_object_list_fn *fn;
	void *arg;
	char path[KS_OBJECT_KEY_MAX +
		  2]; /* of the directory, with a '/' behind it unless it is ROOT */
	size_t n;
};

/* The smallest names of a directory behind a given one. */
struct names {
	char **v;
	size_t n;
	bool more; /* others were left out */
};

static void names_clear(struct names *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i]);
	free(s->v);
	s->v = NULL;
	s->n = 0;
}

static int cmp_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorts, and keeps the smallest BATCH. */
static void names_cut(struct names *s)
{
	if (s->n > 1)
		qsort(s->v, s->n, sizeof(*s->v), cmp_names);
	while (s->n > BATCH) {
		free(s->v[--s->n]);
		s->more = true;
	}
}

/* @name may end in '/'. Could some wanted key start with the directory's path and it? */
static bool is_wanted(const struct walk *w, const char *name, size_t len)
{
	char key[KS_OBJECT_KEY_MAX + 2];
	size_t n = w->n + len, np = strlen(w->prefix);
	bool dir = name[len - 1] == '/';
	int c;

	if (n > KS_OBJECT_KEY_MAX)
		return false;
	memcpy(key, w->path, w->n);
	memcpy(key + w->n, name, len);
	key[n] = 0;
	if (memcmp(key, w->prefix, ks_min(n, np)) != 0 || (n < np && !dir))
		return false;
	c = strcmp(key, w->after);
	return c > 0 || (dir && strncmp(w->after, key, n) == 0);
}

/* 'f', 'd', or 0 for what is neither, or gone. */
static int kind_of(int dfd, const struct dirent *e)
{
	struct stat st;

	if (e->d_type == DT_REG)
		return 'f';
	if (e->d_type == DT_DIR)
		return 'd';
	if (e->d_type != DT_UNKNOWN && e->d_type != DT_LNK)
		return 0;
	if (fstatat(dfd, e->d_name, &st, 0) < 0)
		return errno == ENOENT ? 0 : -errno;
	return S_ISREG(st.st_mode) ? 'f' : S_ISDIR(st.st_mode) ? 'd' : 0;
}

static int names_add(struct names *s, size_t *cap, const char *name)
{
	if (ks_array_room(&s->v, s->n, cap) < 0)
		return -ENOMEM;
	s->v[s->n] = strdup(name);
	return s->v[s->n] ? (s->n++, 0) : -ENOMEM;
}

/* @last: the last name had already, "" at first. */
static int collect(const struct walk *w, DIR *d, const char *last, struct names *s)
{
	char name[KS_OBJECT_KEY_MAX + 2], *limit;
	const struct dirent *e;
	size_t cap = 0;

	while (errno = 0, (e = readdir(d))) {
		size_t len = strlen(e->d_name);
		int kind, r;

		if (len > KS_OBJECT_KEY_MAX || !ks_object_key_ok(e->d_name))
			continue;
		kind = kind_of(dirfd(d), e);
		if (kind < 0)
			return kind;
		if (kind == 0)
			continue;
		memcpy(name, e->d_name, len);
		if (kind == 'd')
			name[len++] = '/';
		name[len] = 0;
		limit = s->more ? s->v[BATCH - 1] : NULL;
		if (strcmp(name, last) <= 0 || !is_wanted(w, name, len) ||
		    (limit && strcmp(name, limit) > 0))
			continue;
		r = names_add(s, &cap, name);
		if (r < 0)
			return r;
		if (s->n == 2 * BATCH)
			names_cut(s);
	}
	if (errno != 0)
		return -errno;
	names_cut(s);
	return 0;
}

static int read_names(const struct walk *w, const char *last, struct names *s)
{
	int fd = KS_RETRY(
		openat(w->f->rootfd, w->n > 0 ? w->path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int r = d ? 0 : -errno;

	if (d)
		r = collect(w, d, last, s);
	else
		ks_closep(&fd);
	if (d)
		(void)closedir(d);
	if (w->n > 0 && (r == -ENOENT || r == -ENOTDIR)) /* removed meanwhile */
		r = 0;
	if (r < 0)
		return ks_fail(r, "cannot list %s/%s", w->f->root, w->path);
	return 0;
}

static int emit(const struct walk *w)
{
	struct ks_object_info info;
	struct stat st;

	if (fstatat(w->f->rootfd, w->path, &st, 0) < 0) {
		if (errno == ENOENT || errno == ENOTDIR)
			return 0;
		return ks_fail(-errno, "cannot list %s/%s", w->f->root, w->path);
	}
	if (!S_ISREG(st.st_mode))
		return 0;
	info.size_bytes = (uint64_t)st.st_size;
	info.mtime_ns = ks_ts_to_ns(st.st_mtim);
	return w->fn(w->arg, w->path, &info);
}

/* Recursion is as deep as a key has components, at most 100. */
static int walk_dir(struct walk *w)
{
	char last[KS_OBJECT_KEY_MAX + 2] = "";
	KS_AUTO(names_clear) struct names s = { NULL, 0, true };
	size_t n = w->n;
	int r = 0;

	while (r == 0 && s.more) {
		names_clear(&s);
		s.more = false;
		r = read_names(w, last, &s);
		for (size_t i = 0; i < s.n && r == 0; i++) {
			size_t len = strlen(s.v[i]);

			memcpy(w->path + n, s.v[i], len + 1);
			w->n = n + len;
			r = s.v[i][len - 1] == '/' ? walk_dir(w) : emit(w);
			w->n = n;
			w->path[n] = 0;
		}
		if (s.n > 0)
			memcpy(last, s.v[s.n - 1], strlen(s.v[s.n - 1]) + 1);
	}
	return r;
}

int ks_file_list(struct ks_object *o, const char *prefix, const char *after, ks_object_list_fn *fn,
		 void *arg)
{
	struct walk w = {
		.f = ks_file_of(o), .prefix = prefix, .after = after, .fn = fn, .arg = arg
	};
	const char *slash = strrchr(prefix, '/');

	if (slash) {
		w.n = (size_t)(slash - prefix) + 1;
		memcpy(w.path, prefix, w.n);
	}
	return walk_dir(&w);
}
