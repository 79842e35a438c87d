/* SPDX-License-Identifier: Apache-2.0 */
/* copy_attr.c: what is at the destination already, and the attributes of what is made there. */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>

unsigned int ks_copy_what(const struct ks_copy *c)
{
	unsigned int what = c->o.preserve & (KS_COPY_MODE | KS_COPY_OWNER | KS_COPY_TIMES);

	if (!c->root)
		what &= ~(unsigned int)KS_COPY_OWNER;
	if (c->o.uid >= 0 || c->o.gid >= 0)
		what |= KS_COPY_OWNER;
	if (c->o.chmod.n)
		what |= KS_COPY_MODE;
	return what;
}

void ks_copy_adjust(const struct ks_copy *c, struct stat *st)
{
	bool keep_owner = c->root && (c->o.preserve & KS_COPY_OWNER);

	if (c->o.uid >= 0 || c->o.gid >= 0) {
		if (!keep_owner || c->o.uid >= 0)
			st->st_uid = c->o.uid >= 0 ? (uid_t)c->o.uid : geteuid();
		if (!keep_owner || c->o.gid >= 0)
			st->st_gid = c->o.gid >= 0 ? (gid_t)c->o.gid : getegid();
	}
	if (c->o.chmod.n && !S_ISLNK(st->st_mode)) {
		if (!(c->o.preserve & KS_COPY_MODE))
			st->st_mode &= S_IFMT | (0777 & ~c->umask);
		st->st_mode = ks_mode_apply(&c->o.chmod, st->st_mode);
	}
}

/* Whose it is and with what rights, when that is not kept from the source: as cp(1), a replaced file's stay. */
void ks_copy_plan(const struct ks_copy *c, const struct ks_copy_item *it, struct ks_copy_set *set)
{
	const struct stat *old = it->exists ? &it->old : NULL;

	set->what = ks_copy_what(c);
	set->durable = true;
	set->st = it->st;
	ks_copy_adjust(c, &set->st);
	if (old && S_ISREG(old->st_mode) && S_ISREG(it->st.st_mode)) {
		if (!(set->what & KS_COPY_OWNER) && c->root) {
			set->st.st_uid = old->st_uid;
			set->st.st_gid = old->st_gid;
			set->what |= KS_COPY_OWNER;
		}
		if (!(set->what & KS_COPY_MODE)) {
			set->st.st_mode = S_IFREG | (old->st_mode & 0777);
			set->what |= KS_COPY_MODE;
		}
	}
	/* Without its owner, a setuid bit would be somebody else's. */
	if ((set->st.st_mode & (S_ISUID | S_ISGID)) && !(set->what & KS_COPY_OWNER) &&
	    !c->o.chmod.n && it->st.st_uid != geteuid())
		set->st.st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
}

/* ---- what is there ---- */

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static bool is_same_file(const struct ks_copy_item *it, const struct stat *old)
{
	return it->from->side->vfs && it->from->side->vfs == it->to->side->vfs &&
	       old->st_ino == it->st.st_ino;
}

static void skip(struct ks_copy *c, const char *path)
{
	ks_copy_count(c, skipped, 1);
	ks_copy_did(c, "skipped", "", path, 0);
}

unsigned int ks_copy_unlike(const struct stat *a, const struct stat *b, unsigned int what)
{
	unsigned int unlike = 0;

	if (!S_ISLNK(a->st_mode) && (a->st_mode & 07777) != (b->st_mode & 07777))
		unlike |= KS_COPY_MODE;
	if (a->st_uid != b->st_uid || a->st_gid != b->st_gid)
		unlike |= KS_COPY_OWNER;
	if (!same_time(a->st_mtim, b->st_mtim))
		unlike |= KS_COPY_TIMES;
	return unlike & what;
}

/* Is the content of what is there already what the copy's would be? 1, 0; -ECANCELED. */
static int is_current(struct ks_copy *c, const struct ks_copy_item *it)
{
	if (!S_ISREG(it->st.st_mode) || !S_ISREG(it->old.st_mode) ||
	    it->old.st_size != it->st.st_size)
		return 0;
	if (c->o.checksum)
		return ks_copy_same_content(c, it);
	return c->o.update && same_time(it->old.st_mtim, it->st.st_mtim);
}

/* What is kept of the source, but for the content, which is equal. False: extended attributes differ, and it is to be copied. */
static bool touch_up(struct ks_copy *c, const struct ks_copy_item *it, const char *path)
{
	struct ks_node to = { it->to, it->to_name, it->to->side->vfs ? it->old.st_ino : 0, NULL };
	struct ks_copy_set set;
	unsigned int what;
	int r;

	if (ks_copy_same_xattrs(c, it) == 0)
		return false;
	ks_copy_plan(c, it, &set);
	what = ks_copy_unlike(&it->old, &set.st, set.what);
	/* A change of owner takes setuid bits away. */
	if (what & KS_COPY_OWNER)
		what |= set.what & KS_COPY_MODE;
	if (!what)
		return true;
	r = c->o.dry_run ? 0 : it->to->side->ops->setattr(&to, &set.st, what);
	if (r < 0) {
		ks_copy_fail(c, path, "set the attributes of", r);
		return true;
	}
	ks_copy_count(c, touched, 1);
	ks_copy_did(c, "touched", "", path, 0);
	return true;
}

/* What stands in the way of a copy that cannot be replaced. Reported; true: it does. */
static bool in_the_way(struct ks_copy *c, const struct ks_copy_item *it, const char *path)
{
	if (is_same_file(it, &it->old)) {
		ks_copy_refuse(c, path, "create", -EEXIST, "source and target are the same file");
	} else if (c->o.no_clobber) {
		skip(c, path);
	} else if (S_ISDIR(it->old.st_mode)) {
		/* It goes when deletions are made, and the copy takes its place. */
		if (!c->o.remove)
			ks_copy_refuse(c, path, "create", -EISDIR, "exists, and is a directory");
	} else {
		return false;
	}
	return true;
}

bool ks_copy_look(struct ks_copy *c, struct ks_copy_item *it)
{
	KS_AUTO(ks_freep) char *path = NULL;
	int r;

	if (it->looked)
		return true;
	it->looked = true;
	r = it->to->absent || it->to->made
		    ? -ENOENT
		    : it->to->side->ops->stat(it->to, it->to_name, false, &it->old);
	it->exists = r == 0;
	if (r == -ENOENT)
		return true;
	path = ks_copy_join(it->to->path, it->to_name);
	if (r < 0 || !path) {
		ks_copy_fail(c, path ? path : it->to_name, "look at", r < 0 ? r : -ENOMEM);
		return false;
	}
	if (in_the_way(c, it, path))
		return false;
	r = it->further ? it->old.st_ino == it->further : is_current(c, it);
	if (r == 0 || (r > 0 && !touch_up(c, it, path)))
		return true;
	it->current = r > 0;
	if (r > 0)
		skip(c, path);
	return false;
}

/* ---- extended attributes ---- */

bool ks_copy_wants_xattr(const struct ks_copy *c, const char *name)
{
	if (strncmp(name, "system.posix_acl_", 17) == 0)
		return c->o.preserve & KS_COPY_ACL;
	if (strncmp(name, "system.", 7) == 0 || !(c->o.preserve & KS_COPY_XATTR))
		return false;
	/* Only root may write these; and a label belongs to the machine's own policy. */
	if (strncmp(name, "user.", 5) != 0 && !c->root)
		return false;
	return strcmp(name, "security.selinux") != 0;
}

static bool has_name(const struct ks_buf *names, const char *name)
{
	for (const char *p = names->p; p && p < names->p + names->n; p += strlen(p) + 1)
		if (strcmp(p, name) == 0)
			return true;
	return false;
}

bool ks_cdir_passes_none(struct ks_cdir *d)
{
	struct ks_node node = { d, NULL, 0, NULL };
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int passes = __atomic_load_n(&d->passes, __ATOMIC_RELAXED);

	if (passes == KS_PASSES_UNKNOWN) {
		passes = d->side->ops->getxattr(&node, KS_ACL_DEFAULT, &value) == 0
				 ? KS_PASSES_ACL
				 : KS_PASSES_NONE;
		__atomic_store_n(&d->passes, passes, __ATOMIC_RELAXED);
	}
	return passes == KS_PASSES_NONE;
}

/* A list that @to has from its directory's default ACL, and the source, whose attributes are @names, does not have. */
static int drop_inherited_acls(const struct ks_node *to, const struct ks_buf *names)
{
	static const char *const acls[] = { KS_ACL_ACCESS, KS_ACL_DEFAULT };
	static const char none[4] = { 2 }; /* the form's version, and no entries */
	const struct ks_side_ops *ops = to->dir->side->ops;
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int r = 0;

	/* A directory gets both lists from the one above it. */
	if (to->name && ks_cdir_passes_none(to->dir))
		return 0;
	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(acls); i++) {
		value.n = 0;
		if (!has_name(names, acls[i]) && ops->getxattr(to, acls[i], &value) == 0)
			r = ops->setxattr(to, acls[i], none, sizeof(none));
	}
	return r;
}

/* Every wanted attribute of @a has @b, too, with that value. 1, 0, -errno. */
static int covers(struct ks_copy *c, const struct ks_node *a, const struct ks_buf *names,
		  const struct ks_node *b)
{
	KS_AUTO(ks_buf_clear) struct ks_buf x = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf y = { 0 };

	for (const char *p = names->p; p && p < names->p + names->n; p += strlen(p) + 1) {
		int r;

		if (!ks_copy_wants_xattr(c, p))
			continue;
		x.n = y.n = 0;
		r = a->dir->side->ops->getxattr(a, p, &x);
		if (r < 0)
			return r;
		r = b->dir->side->ops->getxattr(b, p, &y);
		if (r == -ENODATA)
			return 0;
		/* A file system without them will not have them after a copy, either. */
		if (r == -EOPNOTSUPP)
			continue;
		if (r < 0)
			return r;
		if (x.n != y.n || memcmp(x.p, y.p, x.n) != 0)
			return 0;
	}
	return 1;
}

int ks_copy_same_xattrs(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct ks_node from = { it->from, it->name, it->from->side->vfs ? it->st.st_ino : 0, NULL };
	struct ks_node to = { it->to, it->to_name, it->to->side->vfs ? it->old.st_ino : 0, NULL };
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf others = { 0 };
	int r;

	if (!(c->o.preserve & (KS_COPY_XATTR | KS_COPY_ACL)))
		return 1;
	r = it->from->side->ops->listxattr(&from, &names);
	if (r == 0)
		r = it->to->side->ops->listxattr(&to, &others);
	if (r < 0)
		return r == -EOPNOTSUPP ? 1 : r;
	r = covers(c, &from, &names, &to);
	return r == 1 ? covers(c, &to, &others, &from) : r;
}

int ks_copy_xattrs(struct ks_copy *c, const struct ks_node *from, const struct ks_node *to)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int r;

	if (!(c->o.preserve & (KS_COPY_XATTR | KS_COPY_ACL)))
		return 0;
	r = from->dir->side->ops->listxattr(from, &names);
	if (r < 0)
		return r == -EOPNOTSUPP ? 0 : r;
	for (const char *p = names.p; r == 0 && p && p < names.p + names.n; p += strlen(p) + 1) {
		if (!ks_copy_wants_xattr(c, p))
			continue;
		value.n = 0;
		r = from->dir->side->ops->getxattr(from, p, &value);
		if (r == 0)
			r = to->dir->side->ops->setxattr(to, p, value.p, value.n);
		if (r == -ENODATA)
			r = 0; /* removed meanwhile */
		if (r == -EOPNOTSUPP && strncmp(p, "system.", 7) == 0) {
			ks_copy_count(c, acls_lost, 1);
			r = 0;
		}
	}
	if (r == 0 && (c->o.preserve & KS_COPY_ACL))
		r = drop_inherited_acls(to, &names);
	return r;
}
