/* SPDX-License-Identifier: Apache-2.0 */
/* mountlist.h: the mounts of Kiseki in this mount namespace, for tools that do something to them. */
#ifndef KS_VOLUME_MOUNTLIST_H
#define KS_VOLUME_MOUNTLIST_H

#include "base/def.h"

/* One mount of type fuse.kiseki. */
struct ks_mount_entry {
	char *dir, *spec; /* owned */
	dev_t dev;
	uid_t uid;   /* who mounted it */
	bool chosen; /* an operand means it */
};

struct ks_mount_list {
	struct ks_mount_entry *v;
	size_t n, cap;
};

/* All, in the order of mounting. It touches none of them: a dead one might hang. */
int ks_mount_list_read(struct ks_mount_list *out) KS_MUST_CHECK;
void ks_mount_list_clear(struct ks_mount_list *e);
/* Marks what @operand means: a mount point (the topmost one there), or a volume. @config: of --config, or NULL. -ENOENT, raised. */
int ks_mount_list_choose(struct ks_mount_list *e, const char *operand,
			 const char *config) KS_MUST_CHECK;

#endif
