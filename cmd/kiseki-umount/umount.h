/* SPDX-License-Identifier: Apache-2.0 */
/* umount.h: what the files of kiseki-umount share. */
#ifndef KS_CMD_UMOUNT_H
#define KS_CMD_UMOUNT_H

#include "base/def.h"

/* One mount of type fuse.kiseki. */
struct entry {
	char *dir, *spec; /* owned */
	dev_t dev;
	uid_t uid;   /* who mounted it */
	bool chosen; /* to be unmounted */
};

struct entries {
	struct entry *v;
	size_t n;
};

/* mounts.c: all of this mount namespace, in the order of mounting. It touches none of them: a dead one might hang. */
int entries_read(struct entries *out) KS_MUST_CHECK;
void entries_clear(struct entries *e);
/* Marks what @operand means: a mount point (the topmost one there), or a volume. -ENOENT, raised. */
int entries_choose(struct entries *e, const char *operand, const char *config) KS_MUST_CHECK;

/* holders.c: prints who uses what is mounted at @dir, on stderr; how many were found. @but: a process that is not named. */
int print_holders(const char *dir, int but);

#endif
