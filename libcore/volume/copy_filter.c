/* SPDX-License-Identifier: Apache-2.0 */
/* copy_filter.c: patterns of names and paths. */
#include "volume/copy_filter.h"
#include "base/array.h"
#include "base/buf.h"
#include <errno.h>
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

struct rule {
	bool include, dirs, anchored;
	char *pattern; /* without slashes at its ends */
};

struct ks_copy_filter {
	struct rule *v;
	size_t n, cap;
};

int ks_filter_add(struct ks_copy_filter **f, const char *pattern, bool include)
{
	size_t n = strlen(pattern);
	struct rule r = { .include = include };

	if (!*f)
		*f = calloc(1, sizeof(**f));
	if (!*f)
		return -ENOMEM;
	r.anchored = *pattern == '/';
	while (n && pattern[n - 1] == '/') {
		r.dirs = true;
		n--;
	}
	while (n && *pattern == '/') {
		pattern++;
		n--;
	}
	if (n == 0)
		return -EINVAL;
	r.anchored = r.anchored || memchr(pattern, '/', n);
	if (ks_array_room(&(*f)->v, (*f)->n, &(*f)->cap) < 0)
		return -ENOMEM;
	r.pattern = strndup(pattern, n);
	if (!r.pattern)
		return -ENOMEM;
	(*f)->v[(*f)->n++] = r;
	return 0;
}

void ks_filter_free(struct ks_copy_filter *f)
{
	for (size_t i = 0; f && i < f->n; i++)
		free(f->v[i].pattern);
	if (f)
		free(f->v);
	free(f);
}

/* One name of a path with one of a pattern. Both end at a slash or the end. */
static bool name_matches(const char *pattern, size_t np, const char *name, size_t nn)
{
	char p[512];
	char s[512];

	if (np >= sizeof(p) || nn >= sizeof(s))
		return false;
	memcpy(p, pattern, np);
	p[np] = '\0';
	memcpy(s, name, nn);
	s[nn] = '\0';
	return fnmatch(p, s, 0) == 0;
}

static const char *behind(const char *p, size_t n)
{
	return p[n] == '/' ? p + n + 1 : p + n;
}

static bool path_matches(const char *pattern, const char *path)
{
	while (*pattern) {
		size_t np = strcspn(pattern, "/");
		size_t nn = strcspn(path, "/");
		const char *rest = behind(pattern, np);

		if (np == 2 && memcmp(pattern, "**", 2) == 0) {
			/* None, or one more. At the end it is all there is, but not nothing. */
			if (!*rest)
				return *path;
			for (;; path = behind(path, strcspn(path, "/"))) {
				if (path_matches(rest, path))
					return true;
				if (!*path)
					return false;
			}
		}
		if (!*path || !name_matches(pattern, np, path, nn))
			return false;
		pattern = rest;
		path = behind(path, nn);
	}
	return !*path;
}

bool ks_filter_excludes(const struct ks_copy_filter *f, const char *path, bool dir)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	for (size_t i = 0; f && i < f->n; i++) {
		const struct rule *r = &f->v[i];

		if (r->dirs && !dir)
			continue;
		if (path_matches(r->pattern, r->anchored ? path : name))
			return !r->include;
	}
	return false;
}
