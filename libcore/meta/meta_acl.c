/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_acl.c: access control lists beside the mode of their inode.
 *
 * They are extended attributes of two names, which the kernel reads, caches and judges by. What it leaves to us is that list and mode agree: the mode of an inode with an access ACL shows its
 * owner, mask and other entries, and an ACL that says no more than a mode is kept as the mode alone. KS_INODE_HAS_ACL is set as long as there is either
 * of the two: an inode without it costs nothing.
 */
#include "meta/meta_internal.h"

bool ks_is_acl(const char *name)
{
	return strcmp(name, KS_ACL_ACCESS) == 0 || strcmp(name, KS_ACL_DEFAULT) == 0;
}

static struct ks_rec_xattr acl_key(uint64_t ino, const char *name)
{
	return (struct ks_rec_xattr){ .ino = ino, .name = ks_bytes_str(name) };
}

static void acl_put(struct ks_txn *t, uint64_t ino, const char *name, const struct ks_acl *a)
{
	uint8_t bytes[KS_ACL_BYTES_MAX];
	struct ks_rec_xattr x = acl_key(ino, name);

	x.value = (struct ks_bytes){ .p = bytes, .n = ks_acl_encode(a, bytes) };
	ks_txn_put(t, KS_T_XATTR, &x);
}

/* The stored list; one without entries when there is none. One trip. */
static int acl_get(struct ks_txn *t, uint64_t ino, const char *name, struct ks_acl *out)
{
	struct ks_rec_xattr x = acl_key(ino, name);
	struct ks_read rd = { .table = KS_T_XATTR, .rec = &x };
	int r = ks_txn_read(t, &rd, 1);

	out->n = 0;
	if (r < 0 || !rd.found)
		return r;
	r = ks_acl_decode(out, x.value.p, x.value.n);
	return r < 0 ? ks_fail_hint(-EBADMSG, "setfacl -b removes it",
				    "the access control list %s of inode %ju is damaged", name,
				    (uintmax_t)ino)
		     : 0;
}

int ks_acl_inherit(struct ks_txn *t, const struct ks_attr *parent, uint32_t mask, struct ks_attr *n)
{
	struct ks_acl a = { 0 };
	int r = 0;

	if (S_ISLNK(n->mode))
		return 0;
	if (parent->flags & KS_INODE_HAS_ACL)
		r = acl_get(t, parent->ino, KS_ACL_DEFAULT, &a);
	if (r < 0)
		return r;
	if (a.n == 0) {
		n->mode &= ~(mask & 0777);
		return 0;
	}
	if (S_ISDIR(n->mode)) {
		acl_put(t, n->ino, KS_ACL_DEFAULT, &a);
		n->flags |= KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL;
	}
	if (!ks_acl_create(&a, &n->mode)) {
		acl_put(t, n->ino, KS_ACL_ACCESS, &a);
		n->flags |= KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL;
	}
	return 0;
}

int ks_acl_follow_mode(struct ks_txn *t, const struct ks_attr *n)
{
	struct ks_acl a;
	int r;

	if (!(n->flags & KS_INODE_HAS_ACL))
		return 0;
	r = acl_get(t, n->ino, KS_ACL_ACCESS, &a);
	if (r < 0 || a.n == 0)
		return r;
	ks_acl_chmod(&a, n->mode);
	acl_put(t, n->ino, KS_ACL_ACCESS, &a);
	return 0;
}

struct acl_arg {
	uint64_t ino;
	const char *name;
	const struct ks_acl *acl; /* without entries: none */
	int flags;
	int64_t now;
};

static int acl_check(const struct acl_arg *a, const struct ks_attr *n, bool found)
{
	if (n->flags & (KS_INODE_IMMUTABLE | KS_INODE_APPEND))
		return -EPERM;
	if (S_ISLNK(n->mode))
		return -EOPNOTSUPP;
	if (!found && (a->flags & KS_XATTR_REPLACE))
		return -ENODATA;
	if (found && (a->flags & KS_XATTR_CREATE))
		return -EEXIST;
	if (strcmp(a->name, KS_ACL_DEFAULT) == 0 && !S_ISDIR(n->mode) && a->acl->n)
		return -EACCES;
	return 0;
}

static int acl_body(struct ks_txn *t, void *arg)
{
	const struct acl_arg *a = arg;
	bool access = strcmp(a->name, KS_ACL_ACCESS) == 0;
	struct ks_attr n;
	struct ks_rec_xattr old = acl_key(a->ino, a->name);
	struct ks_rec_xattr other = acl_key(a->ino, access ? KS_ACL_DEFAULT : KS_ACL_ACCESS);
	struct ks_read rd[] = { ks_read_inode(&n, a->ino, 0),
				{ .table = KS_T_XATTR, .rec = &old },
				{ .table = KS_T_XATTR, .rec = &other } };
	bool keep = a->acl->n > 0;
	int r = ks_txn_read(t, rd, 3);

	if (r == 0)
		r = rd[0].found ? acl_check(a, &n, rd[1].found) : -ENOENT;
	if (r < 0)
		return r;
	/* None where there was none: no change, and no error, other than of other attributes. */
	if (!keep && !rd[1].found)
		return 0;
	if (access && keep) {
		keep = !ks_acl_to_mode(a->acl, &n.mode);
		if (a->flags & KS_XATTR_KILL_SGID)
			n.mode &= ~(uint32_t)S_ISGID;
	}
	if (keep)
		acl_put(t, a->ino, a->name, a->acl);
	else if (rd[1].found)
		ks_txn_del(t, KS_T_XATTR, &old);
	n.flags &= ~(uint32_t)KS_INODE_HAS_ACL;
	if (keep || rd[2].found)
		n.flags |= KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL;
	ks_touch(&n, a->now);
	ks_txn_put(t, KS_T_INODE, &n);
	return 0;
}

int ks_acl_set(struct ks_meta *m, uint64_t ino, const char *name, const void *value, size_t n,
	       int flags)
{
	struct ks_acl acl;
	struct acl_arg a = {
		.ino = ino, .name = name, .acl = &acl, .flags = flags, .now = ks_clock_real_ns()
	};
	int r = ks_acl_decode(&acl, value, n);

	return r < 0 ? r : ks_meta_run(m, acl_body, &a);
}

int ks_acl_remove(struct ks_meta *m, uint64_t ino, const char *name)
{
	struct ks_acl none = { 0 };
	struct acl_arg a = { .ino = ino, .name = name, .acl = &none, .now = ks_clock_real_ns() };

	return ks_meta_run(m, acl_body, &a);
}
