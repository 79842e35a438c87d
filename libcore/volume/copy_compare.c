/* SPDX-License-Identifier: Apache-2.0 */
/* copy_compare.c: what a copy would change, without making it: contents are read, attributes are those that the copy would keep. */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ks_copy_differs(struct ks_copy *c, const char *path, const char *why)
{
	ks_copy_count(c, different, 1);
	if (!c->o.on_difference)
		return;
	KS_LOCKED(&c->report_mu);
	c->o.on_difference(c->o.arg, path, why);
}

/* Of a symlink. 1: equal; 0; -errno. */
static int same_target(const struct ks_copy_item *it)
{
	KS_AUTO(ks_buf_clear) struct ks_buf a = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	int r = it->from->side->ops->readlink(it->from, it->name, &a);

	if (r == 0)
		r = it->to->side->ops->readlink(it->to, it->to_name, &b);
	if (r < 0)
		return r;
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool is_device(mode_t mode)
{
	return S_ISCHR(mode) || S_ISBLK(mode);
}

/* What of the content is another; NULL: nothing. *err: it could not be told. */
static const char *content(struct ks_copy *c, const struct ks_copy_item *it, int *err)
{
	int r;

	*err = 0;
	if (S_ISLNK(it->st.st_mode)) {
		r = same_target(it);
		*err = ks_min(r, 0);
		return r == 0 ? "target" : NULL;
	}
	if (is_device(it->st.st_mode))
		return it->st.st_rdev != it->old.st_rdev ? "device" : NULL;
	if (!S_ISREG(it->st.st_mode))
		return NULL;
	if (it->st.st_size != it->old.st_size)
		return "size";
	/* As -u believes in equal times. */
	if (c->o.update && !c->o.checksum && !ks_copy_unlike(&it->st, &it->old, KS_COPY_TIMES))
		return NULL;
	r = ks_copy_same_content(c, it);
	*err = ks_min(r, 0);
	return r == 0 ? "content" : NULL;
}

static const char *attributes(struct ks_copy *c, const struct ks_copy_item *it, int *err)
{
	struct stat st = it->st;
	unsigned int unlike;
	int r;

	ks_copy_adjust(c, &st);
	unlike = ks_copy_unlike(&st, &it->old, ks_copy_what(c));
	*err = 0;
	if (unlike)
		return unlike & KS_COPY_MODE ? "mode" : unlike & KS_COPY_OWNER ? "owner" : "time";
	r = ks_copy_same_xattrs(c, it);
	*err = ks_min(r, 0);
	return r == 0 ? "attributes" : NULL;
}

static void judge(struct ks_copy *c, const struct ks_copy_item *it, const char *path)
{
	const char *why = NULL;
	int err = 0;

	if ((it->st.st_mode & S_IFMT) != (it->old.st_mode & S_IFMT))
		why = "kind";
	if (!why)
		why = content(c, it, &err);
	if (!why && err == 0)
		why = attributes(c, it, &err);
	if (why)
		ks_copy_differs(c, path, why);
	else if (err < 0)
		ks_copy_fail(c, path, "compare", err);
}

void ks_compare_leaf(struct ks_copy *c, struct ks_copy_item *it)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(it->to->path, it->to_name);
	int r = it->to->side->ops->stat(it->to, it->to_name, false, &it->old);

	ks_fail_clear();
	if (!path)
		ks_copy_fail(c, it->to_name, "compare", -ENOMEM);
	else if (r == -ENOENT)
		ks_copy_differs(c, path, "missing");
	else if (r < 0)
		ks_copy_fail(c, path, "look at", r);
	else
		judge(c, it, path);
	if (S_ISREG(it->st.st_mode))
		ks_copy_count(c, files, 1);
	else if (S_ISLNK(it->st.st_mode))
		ks_copy_count(c, symlinks, 1);
	else
		ks_copy_count(c, others, 1);
}

void ks_compare_dir(struct ks_copy *c, const struct ks_copy_item *dir)
{
	struct ks_copy_item it = *dir;
	KS_AUTO(ks_freep) char *path = ks_copy_join(it.to->path, it.to_name);
	int r = it.to->side->ops->stat(it.to, it.to_name, false, &it.old);

	if (r < 0 || !path)
		ks_copy_fail(c, path ? path : it.to_name, "look at", path ? r : -ENOMEM);
	else
		judge(c, &it, path);
}
