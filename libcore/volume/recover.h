/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover.h: what a session that died has left. When it was this process's machine and that has not been switched off since, the kernel
 * still has all that it wrote. Else a power cut may have taken data that a commit names: the slices above the session's mark are read, and those that
 * are not there are taken out of their files, which show what they had before, or a hole. (meta/meta_durable.c has the rest of the story.)
 */
#ifndef KS_VOLUME_RECOVER_H
#define KS_VOLUME_RECOVER_H

#include "meta/meta.h"
#include "object/object.h"

/* The hook ks_meta_hooks.died of who has metadata and store. Where something was lost, each file is named in the log. */
struct ks_recover {
	struct ks_meta *meta;
	struct ks_object *store; /* NULL: nothing can be done without */
};
int ks_recover_died(void *arg, const struct ks_session_info *s) KS_MUST_CHECK;

#endif
