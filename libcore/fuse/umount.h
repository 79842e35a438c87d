/* SPDX-License-Identifier: Apache-2.0 */
/* umount.h: takes a FUSE mount off, as root or through fusermount3. Needs no libfuse. */
#ifndef KS_FUSE_UMOUNT_H
#define KS_FUSE_UMOUNT_H

#include "base/def.h"

enum {
	KS_UMOUNT_LAZY = 1 << 0,  /* detach now; it ends when nobody uses it any more */
	KS_UMOUNT_FORCE = 1 << 1, /* fail what is under way (root only) */
};

/* Return: 0; -EBUSY somebody uses it, not raised; -errno, raised. May run a program: from a process with threads this is safe. */
int ks_fuse_umount(const char *mountpoint, unsigned int flags) KS_MUST_CHECK;
/* The system call alone, bare errors: also after a fork. */
int ks_fuse_umount_root(const char *mountpoint, unsigned int flags) KS_MUST_CHECK;

#endif
