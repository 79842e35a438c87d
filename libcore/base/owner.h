/* SPDX-License-Identifier: Apache-2.0 */
/*
 * owner.h: what root makes for somebody belongs to them. A nightly job of root's works on the volume of a user, who could not open, write to or delete from what is root's
 * afterwards. Only what was just made is given away, never what was found: in a directory of theirs that may be a link to anything.
 */
#ifndef KS_BASE_OWNER_H
#define KS_BASE_OWNER_H

#include "base/def.h"
#include <stdbool.h>
#include <sys/types.h>

struct stat;

struct ks_owner {
	bool give; /* false: it stays ours */
	uid_t uid;
	gid_t gid;
};

/* Of what is made in, or beside, @place. */
struct ks_owner ks_owner_of(const struct stat *place);
struct ks_owner ks_owner_of_path(
	const char *place); /* one that cannot be looked at: it stays ours */
/* The file @fd, made by us with O_EXCL. As well as it goes. */
void ks_owner_give(const struct ks_owner *o, int fd);
/* mkdirat(2), and the directory is theirs. 0 or -errno. */
int ks_owner_mkdir(const struct ks_owner *o, int at, const char *path, mode_t mode) KS_MUST_CHECK;

#endif
