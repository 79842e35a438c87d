/* SPDX-License-Identifier: Apache-2.0 */
/*
 * acl.h: POSIX access control lists: their form as extended attributes, and what they and the permission bits of a mode do to each other. Computes only.
 *
 * The form is the kernel's, version 2: u32 version, then for each entry u16 tag, u16 permissions, u32 uid or gid, all little endian.
 */
#ifndef KS_META_ACL_H
#define KS_META_ACL_H

#include "base/def.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KS_ACL_BYTES_MAX 4096 /* the kernel reads no longer one from a file system */
#define KS_ACL_MAX ((KS_ACL_BYTES_MAX - 4) / 8)

enum {
	KS_ACL_USER_OBJ = 0x01,
	KS_ACL_USER = 0x02,
	KS_ACL_GROUP_OBJ = 0x04,
	KS_ACL_GROUP = 0x08,
	KS_ACL_MASK = 0x10,
	KS_ACL_OTHER = 0x20,
};

struct ks_acl_entry {
	uint16_t tag;
	uint16_t perm; /* rwx: 4 2 1 */
	uint32_t id;   /* of USER and GROUP */
};

struct ks_acl {
	unsigned int n; /* 0: no ACL */
	struct ks_acl_entry e[KS_ACL_MAX];
};

/* Return: 0, also for one without entries; -EOPNOTSUPP another version; -EINVAL not an ACL, or one that is not valid; -E2BIG. */
int ks_acl_decode(struct ks_acl *out, const void *p, size_t n) KS_MUST_CHECK;
/* @out has room for KS_ACL_BYTES_MAX. Returns the length. */
size_t ks_acl_encode(const struct ks_acl *a, uint8_t *out);
/* The permission bits that go with an access ACL into @mode. True: they say all there is, no ACL need be kept. */
bool ks_acl_to_mode(const struct ks_acl *a, uint32_t *mode);
/* A default ACL becomes the access ACL of a new inode: it and the permissions asked for by @mode are cut down to what both allow. True: as above. */
bool ks_acl_create(struct ks_acl *a, uint32_t *mode);
/* The access ACL after a chmod to @mode. */
void ks_acl_chmod(struct ks_acl *a, uint32_t mode);

#endif
