/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c: a path to its inode, for tools. The vfs's root is "/", also as the target of symlinks, and ".." does not leave it. */
#include "vfs/internal.h"
#include <string.h>

#define LINKS_MAX 40

struct path {
	struct ks_buf rest; /* what is still to be walked */
	size_t pos;
	int links;
};

/* The next component into @name: 1, or 0 at the end. */
static int next_name(struct path *p, char name[KS_NAME_MAX + 1], bool *last)
{
	const char *s = p->rest.p;
	size_t n = 0;

	while (p->pos < p->rest.n && s[p->pos] == '/')
		p->pos++;
	while (p->pos + n < p->rest.n && s[p->pos + n] != '/')
		n++;
	if (n == 0)
		return 0;
	if (n > KS_NAME_MAX)
		return -ENAMETOOLONG;
	memcpy(name, s + p->pos, n);
	name[n] = '\0';
	p->pos += n;
	*last = p->pos == p->rest.n;
	return 1;
}

/* Puts the target of the symlink @ino before what is left of the path. */
static int push_link(struct ks_vfs *v, struct path *p, ks_ino_t ino, bool *absolute)
{
	struct ks_buf whole = { 0 };
	int r;

	if (++p->links > LINKS_MAX)
		return -ELOOP;
	r = ks_meta_readlink(v->meta, ino, &whole);
	*absolute = r == 0 && whole.n > 0 && whole.p[0] == '/';
	if (r == 0)
		r = ks_buf_append(&whole, p->rest.p + p->pos, p->rest.n - p->pos);
	if (r < 0) {
		ks_buf_clear(&whole);
		return r;
	}
	ks_buf_clear(&p->rest);
	p->rest = whole;
	p->pos = 0;
	return 0;
}

static int walk(struct ks_vfs *v, const struct ks_ctx *c, struct path *p, bool follow,
		struct ks_attr *at)
{
	char name[KS_NAME_MAX + 1];
	bool last = false, absolute;
	int r = ks_vfs_getattr(v, c, v->root, at);

	while (r == 0 && (r = next_name(p, name, &last)) > 0) {
		struct ks_attr dir = *at;

		if (!S_ISDIR(dir.mode))
			return -ENOTDIR;
		r = ks_vfs_lookup(v, c, dir.ino, name, at);
		if (r < 0 || !S_ISLNK(at->mode) || (last && !follow))
			continue;
		r = push_link(v, p, at->ino, &absolute);
		if (r == 0 && absolute)
			r = ks_vfs_getattr(v, c, v->root, at);
		else
			*at = dir;
	}
	/* "file/" asks for a directory. */
	if (r == 0 && p->rest.n > 0 && p->rest.p[p->rest.n - 1] == '/' && !S_ISDIR(at->mode))
		return -ENOTDIR;
	return r;
}

int ks_vfs_resolve(struct ks_vfs *v, const struct ks_ctx *c, const char *path, bool follow,
		   struct ks_attr *out)
{
	struct path p = { 0 };
	struct ks_attr at;
	int r = ks_buf_append(&p.rest, path, strlen(path));

	if (r == 0)
		r = walk(v, c, &p, follow, &at);
	ks_buf_clear(&p.rest);
	if (r == 0)
		*out = at;
	return r;
}
