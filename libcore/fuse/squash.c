/* SPDX-License-Identifier: Apache-2.0 */
/*
 * squash.c: a mount that shows everything as one owner's, or with fewer permissions. Only what is shown is changed, and what comes back of it: what is made is stored
 * as that owner's and with those permissions, so that new files are what they look like; an owner cannot be changed.
 *
 * Setuid and setgid of a program mean the owner that is stored. They are not shown where another is, and not set either: the owner that is shown could make a program of
 * somebody else run as him.
 */
#include "fuse/internal.h"

static bool shows_owner(const struct ks_fuse *f)
{
	return f->squash.uid >= 0 || f->squash.gid >= 0;
}

/* The bits of @mode that this mount knows. */
static mode_t visible(const struct ks_fuse *f, mode_t mode)
{
	/* Those of a symbolic link mean nothing, and are the same everywhere. */
	if (S_ISLNK(mode))
		return mode;
	if (shows_owner(f) && !S_ISDIR(mode))
		mode &= ~(mode_t)(S_ISUID | S_ISGID);
	return mode & ~(mode_t)f->squash.umask;
}

void ks_fuse_squash_init(struct ks_fuse *f, const struct ks_squash *s)
{
	f->squash = s ? *s : (struct ks_squash){ .uid = -1, .gid = -1 };
	f->squashes = shows_owner(f) || f->squash.umask;
}

void ks_fuse_squash_stat(const struct ks_fuse *f, struct stat *st)
{
	/* The hidden directory stays private to who mounted. */
	if (ks_ino_is_virtual(st->st_ino))
		return;
	if (f->squash.uid >= 0)
		st->st_uid = (uid_t)f->squash.uid;
	if (f->squash.gid >= 0)
		st->st_gid = (gid_t)f->squash.gid;
	st->st_mode = visible(f, st->st_mode);
}

void ks_fuse_squash_maker(const struct ks_fuse *f, struct ks_ctx *c, mode_t *mode)
{
	if (f->squash.uid >= 0)
		c->cred.uid = (uid_t)f->squash.uid;
	if (f->squash.gid >= 0)
		c->cred.gid = (gid_t)f->squash.gid;
	if (mode)
		*mode = visible(f, *mode);
}

int ks_fuse_squash_change(const struct ks_fuse *f, uint32_t *set, struct ks_attr *in)
{
	if ((*set & KS_SET_UID) && f->squash.uid >= 0) {
		if (in->uid != (uint32_t)f->squash.uid)
			return -EPERM;
		*set &= ~(uint32_t)KS_SET_UID;
	}
	if ((*set & KS_SET_GID) && f->squash.gid >= 0) {
		if (in->gid != (uint32_t)f->squash.gid)
			return -EPERM;
		*set &= ~(uint32_t)KS_SET_GID;
	}
	in->mode = visible(f, in->mode);
	return 0;
}

static bool is_acl(const char *name)
{
	return strcmp(name, KS_ACL_ACCESS) == 0 || strcmp(name, KS_ACL_DEFAULT) == 0;
}

bool ks_fuse_squash_hides(const struct ks_fuse *f, const char *name)
{
	return f->squashes && is_acl(name);
}

void ks_fuse_squash_list(struct ks_buf *names)
{
	size_t to = 0, n;

	for (size_t from = 0; from < names->n; from += n) {
		n = strlen(names->p + from) + 1;
		if (is_acl(names->p + from))
			continue;
		memmove(names->p + to, names->p + from, n);
		to += n;
	}
	names->n = to;
}
