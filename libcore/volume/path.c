/* SPDX-License-Identifier: Apache-2.0 */
/* path.c: a path of a volume to its inode with nothing but metadata, for tools that need no data. */
#include "base/buf.h"
#include "base/log.h"
#include "volume/volume.h"
#include <errno.h>
#include <string.h>

#define LINKS_MAX 40

struct walk {
	struct ks_buf rest;
	size_t pos;
	int links;
};

/* The next component: 1, or 0 at the end. */
static int next(struct walk *w, char name[KS_NAME_MAX + 1], bool *last)
{
	size_t n = 0;

	while (w->pos < w->rest.n && w->rest.p[w->pos] == '/')
		w->pos++;
	while (w->pos + n < w->rest.n && w->rest.p[w->pos + n] != '/')
		n++;
	if (n == 0)
		return 0;
	if (n > KS_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, w->rest.p + w->pos, n);
	name[n] = '\0';
	w->pos += n;
	*last = w->pos == w->rest.n;
	return 1;
}

/* The symlink's target takes its place in what is left. */
static int push_target(struct ks_meta *m, struct walk *w, ks_ino_t link)
{
	struct ks_buf whole = { 0 };
	int r = ++w->links > LINKS_MAX ? -ELOOP : ks_meta_readlink(m, link, &whole);

	if (r == 0)
		r = ks_buf_append(&whole, w->rest.p + w->pos, w->rest.n - w->pos);
	if (r < 0) {
		ks_buf_clear(&whole);
		return r;
	}
	ks_buf_clear(&w->rest);
	w->rest = whole;
	w->pos = 0;
	return 0;
}

static int step(struct ks_meta *m, const char *name, struct ks_attr *at)
{
	struct ks_attr dir = *at;

	if (!S_ISDIR(dir.mode))
		return -ENOTDIR;
	if (strcmp(name, ".") == 0)
		return 0;
	if (strcmp(name, "..") == 0)
		return dir.ino == KS_ROOT_INO ? 0 : ks_meta_getattr(m, dir.parent, at);
	return ks_meta_lookup(m, dir.ino, name, at);
}

static int walk(struct ks_meta *m, struct walk *w, bool follow, struct ks_attr *at)
{
	char name[KS_NAME_MAX + 1];
	bool last = false;
	int r = ks_meta_getattr(m, KS_ROOT_INO, at);

	while (r == 0 && (r = next(w, name, &last)) > 0) {
		struct ks_attr dir = *at;

		r = step(m, name, at);
		if (r < 0 || !S_ISLNK(at->mode) || (last && !follow))
			continue;
		r = push_target(m, w, at->ino);
		if (r == 0 && w->rest.n && w->rest.p[0] == '/')
			r = ks_meta_getattr(m, KS_ROOT_INO, at);
		else
			*at = dir;
	}
	if (r == 0 && w->rest.n && w->rest.p[w->rest.n - 1] == '/' && !S_ISDIR(at->mode))
		return -ENOTDIR;
	return r;
}

int ks_volume_path(struct ks_meta *m, const char *path, bool follow, struct ks_attr *out)
{
	struct walk w = { 0 };
	struct ks_attr at;
	int r = ks_buf_append(&w.rest, path, strlen(path));

	if (r == 0)
		r = walk(m, &w, follow, &at);
	ks_buf_clear(&w.rest);
	if (r < 0)
		return ks_fail(r, "%s:%s", ks_meta_settings(m)->name, path);
	*out = at;
	return 0;
}
