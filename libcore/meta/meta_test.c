/* SPDX-License-Identifier: Apache-2.0 */
/* meta_test.c: every operation on names and attributes, with its errors, on every engine. */
#include "meta/meta_testlib.h"

ON_BOTH(makes_every_kind)
{
	static const uint32_t kinds[] = { S_IFREG,  S_IFDIR, S_IFLNK, S_IFIFO,
					  S_IFSOCK, S_IFCHR, S_IFBLK };
	struct ks_attr a, b;
	char name[16];

	for (size_t i = 0; i < KS_ARRAY_SIZE(kinds); i++) {
		snprintf(name, sizeof(name), "n%zu", i);
		ks_check_ok(ks_meta_mknod(v->m, &cred, ROOT, name, kinds[i] | 0640, 0x103,
					  kinds[i] == S_IFLNK ? "to/there" : NULL, &a));
		ks_check_ok(ks_meta_lookup(v->m, ROOT, name, &b));
		ks_check_mem(&a, &b, sizeof(a));
		ks_check_eq(a.mode, kinds[i] | 0640);
		ks_check_eq(a.nlink, kinds[i] == S_IFDIR ? 2 : 1);
		ks_check_eq(a.uid, 1000);
		ks_check_eq(a.parent, ROOT);
		ks_check_eq(a.rdev, kinds[i] == S_IFCHR || kinds[i] == S_IFBLK ? 0x103 : 0);
		ks_check_eq(a.size, kinds[i] == S_IFDIR ? 4096 : kinds[i] == S_IFLNK ? 8 : 0);
		ks_check(a.ino >= KS_FIRST_INO);
	}
	ks_check_eq(attr_of(v, ROOT).nlink, 3);
	ks_check(attr_of(v, ROOT).change > 1);
}

ON_BOTH(mknod_errors)
{
	uint64_t f = mkfile(v, ROOT, "f");
	char longest[258];
	struct ks_attr a;

	memset(longest, 'x', sizeof(longest));
	longest[256] = '\0';
	ks_check_eq(ks_meta_mknod(v->m, &cred, ROOT, "f", S_IFREG, 0, NULL, &a), -EEXIST);
	ks_check_eq(ks_meta_mknod(v->m, &cred, f, "x", S_IFREG, 0, NULL, &a), -ENOTDIR);
	ks_check_eq(ks_meta_mknod(v->m, &cred, 999, "x", S_IFREG, 0, NULL, &a), -ENOENT);
	ks_check_eq(ks_meta_mknod(v->m, &cred, ROOT, longest, S_IFREG, 0, NULL, &a), -ENAMETOOLONG);
	ks_check_eq(ks_meta_mknod(v->m, &cred, ROOT, "", S_IFREG, 0, NULL, &a), -EINVAL);
	longest[255] = '\0';
	ks_check_ok(ks_meta_mknod(v->m, &cred, ROOT, longest, S_IFREG, 0, NULL, &a));
	ks_check_ok(ks_meta_lookup(v->m, ROOT, longest, &a));
	ks_check_eq(ks_meta_lookup(v->m, ROOT, "no", &a), -ENOENT);
	ks_check_eq(ks_meta_lookup(v->m, 999, "no", &a), -ENOENT);
	ks_check_eq(ks_meta_getattr(v->m, 999, &a), -ENOENT);
	/* Any bytes make a name. */
	ks_check_ok(ks_meta_mknod(v->m, &cred, ROOT, "\xff\xfe\n'\"", S_IFREG, 0, NULL, &a));
	ks_check_ok(ks_meta_lookup(v->m, ROOT, "\xff\xfe\n'\"", &a));
}

ON_BOTH(setgid_is_inherited)
{
	struct ks_attr in = { .mode = 02775, .gid = 77 };
	uint64_t d = mkdir_(v, ROOT, "d");

	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_MODE | KS_SET_GID, &in, NULL));
	ks_check_eq(attr_of(v, mkfile(v, d, "f")).gid, 77);
	ks_check_eq(attr_of(v, mkfile(v, d, "g")).mode, S_IFREG | 0644);
	ks_check_eq(attr_of(v, mkdir_(v, d, "s")).mode, S_IFDIR | 02755);
	ks_check_eq(attr_of(v, mkdir_(v, d, "t")).gid, 77);
	ks_check_eq(attr_of(v, mkfile(v, ROOT, "f")).gid, 1000);
}

ON_BOTH(symlinks)
{
	struct ks_buf b = { 0 };
	uint64_t l = mk(v, ROOT, "l", S_IFLNK | 0777);

	ks_check_ok(ks_meta_readlink(v->m, l, &b));
	ks_check_eq(b.n, 6);
	ks_check_mem(b.p, "target", 6);
	ks_check_eq(ks_meta_readlink(v->m, ROOT, &b), -EINVAL);
	ks_check_eq(ks_meta_readlink(v->m, 999, &b), -ENOENT);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "l", NULL));
	ks_check_eq(ks_meta_readlink(v->m, l, &b), -ENOENT);
	ks_check_eq(count_rows(v, KS_T_SYMLINK), 0);
	ks_buf_clear(&b);
}

ON_BOTH(links_and_unlinks)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_attr a;

	ks_check_ok(ks_meta_link(v->m, f, d, "g", &a));
	ks_check_eq(a.nlink, 2);
	ks_check_eq(a.parent, 0);
	ks_check_eq(ks_meta_link(v->m, f, d, "g", &a), -EEXIST);
	ks_check_eq(ks_meta_link(v->m, d, ROOT, "h", &a), -EPERM);
	ks_check_eq(ks_meta_link(v->m, 999, ROOT, "h", &a), -ENOENT);
	ks_check_eq(ks_meta_link(v->m, f, f, "h", &a), -ENOTDIR);
	ks_check_eq(ks_meta_link(v->m, f, 999, "h", &a), -ENOENT);
	ks_check_eq(ks_meta_unlink(v->m, ROOT, "d", &a), -EISDIR);
	ks_check_eq(ks_meta_unlink(v->m, ROOT, "no", &a), -ENOENT);
	ks_check_eq(ks_meta_unlink(v->m, 999, "no", &a), -ENOENT);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", &a));
	ks_check_eq(a.nlink, 1);
	ks_check_ok(ks_meta_unlink(v->m, d, "g", &a));
	ks_check_eq(a.nlink, 0);
	ks_check_eq(ks_meta_lookup(v->m, d, "g", &a), -ENOENT);
	/* Nobody is there who could have it open. */
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_eq(ks_meta_getattr(v->m, f, &a), -ENOENT);
}

ON_BOTH(rmdir_rules)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t e = mkdir_(v, d, "e");
	struct ks_attr a;

	mkfile(v, e, "f");
	ks_check_eq(ks_meta_rmdir(v->m, ROOT, "d", &a), -ENOTEMPTY);
	ks_check_eq(ks_meta_rmdir(v->m, d, "e", &a), -ENOTEMPTY);
	ks_check_eq(ks_meta_rmdir(v->m, e, "f", &a), -ENOTDIR);
	ks_check_eq(ks_meta_rmdir(v->m, e, "no", &a), -ENOENT);
	ks_check_ok(ks_meta_unlink(v->m, e, "f", NULL));
	ks_check_eq(attr_of(v, d).nlink, 3);
	ks_check_ok(ks_meta_rmdir(v->m, d, "e", &a));
	ks_check_eq(a.nlink, 0);
	ks_check_eq(attr_of(v, d).nlink, 2);
	ks_check_eq(ks_meta_getattr(v->m, e, &a), -ENOENT);
	/* Nothing comes into being in a directory that is gone. */
	ks_check_eq(ks_meta_mknod(v->m, &cred, e, "x", S_IFREG, 0, NULL, &a), -ENOENT);
	ks_check_ok(ks_meta_rmdir(v->m, ROOT, "d", NULL));
}

ON_BOTH(setattr_rules)
{
	uint64_t f = mkfile(v, ROOT, "f");
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t l = mk(v, ROOT, "l", S_IFLNK | 0777);
	struct ks_attr in = {
		.mode = 06755, .uid = 5, .gid = 6, .atime_ns = 11, .mtime_ns = -12, .size = 100
	};
	struct ks_attr a;
	uint64_t change = attr_of(v, f).change;

	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_MODE, &in, &a));
	ks_check_eq(a.mode, S_IFREG | 06755);
	ks_check(a.change > change);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_UID | KS_SET_GID, &in, &a));
	ks_check_eq(a.mode, S_IFREG | 0755);
	ks_check_eq(a.uid, 5);
	ks_check_eq(a.gid, 6);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_ATIME | KS_SET_MTIME, &in, &a));
	ks_check_eq(a.atime_ns, 11);
	ks_check_eq(a.mtime_ns, -12);
	ks_check(a.ctime_ns > 0);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_MTIME_NOW, &in, &a));
	ks_check(a.mtime_ns > 0);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_MODE, &in, &a));
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_SIZE | KS_SET_KILL_PRIV, &in, &a));
	ks_check_eq(a.size, 100);
	ks_check_eq(a.mode, S_IFREG | 0755);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_SIZE, &in, &a)); /* the same size is legal */
	ks_check_eq(ks_meta_setattr(v->m, d, KS_SET_SIZE, &in, &a), -EISDIR);
	ks_check_eq(ks_meta_setattr(v->m, l, KS_SET_SIZE, &in, &a), -EINVAL);
	ks_check_eq(ks_meta_setattr(v->m, 999, KS_SET_SIZE, &in, &a), -ENOENT);
	in.size = KS_FILE_MAX + 1;
	ks_check_eq(ks_meta_setattr(v->m, f, KS_SET_SIZE, &in, &a), -EFBIG);
	in.mode = 06770;
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_MODE, &in, &a));
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_UID, &in, &a));
	ks_check_eq(a.mode, S_IFDIR | 06770); /* a directory keeps them */
}

ON_BOTH(immutable_and_append_only)
{
	struct ks_attr imm = { .flags = KS_INODE_IMMUTABLE, .mode = 0600, .size = 1 },
		       app = { .flags = KS_INODE_APPEND };
	struct ks_attr none = { 0 }, a;
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t f = mkfile(v, d, "f");

	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_FLAGS, &imm, NULL));
	ks_check_eq(ks_meta_setattr(v->m, f, KS_SET_MODE, &imm, &a), -EPERM);
	ks_check_eq(ks_meta_setattr(v->m, f, KS_SET_SIZE, &imm, &a), -EPERM);
	ks_check_eq(ks_meta_unlink(v->m, d, "f", &a), -EPERM);
	ks_check_eq(mv(v, d, "f", d, "g", 0), -EPERM);
	ks_check_eq(ks_meta_link(v->m, f, d, "g", &a), -EPERM);
	ks_check_eq(ks_meta_setxattr(v->m, f, "user.a", "", 0, 0), -EPERM);
	ks_check_eq(ks_meta_fallocate(v->m, f, KS_FALLOC_PUNCH, true, 0, 10, &a), -EPERM);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_FLAGS, &none, NULL));
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_FLAGS, &app, NULL));
	mkfile(v, d, "g");
	ks_check_eq(ks_meta_unlink(v->m, d, "g", &a), -EPERM);
	ks_check_eq(mv(v, d, "g", ROOT, "g", 0), -EPERM);
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_FLAGS, &imm, NULL));
	ks_check_eq(ks_meta_mknod(v->m, &cred, d, "h", S_IFREG, 0, NULL, &a), -EPERM);
	ks_check_eq(ks_meta_mktmp(v->m, &cred, d, 0600, &a), -EPERM);
	ks_check_eq(ks_meta_link(v->m, f, d, "h", &a), -EPERM);
	ks_check_eq(ks_meta_removexattr(v->m, d, KS_ACL_DEFAULT), -EPERM);
	ks_check_eq(ks_meta_rmdir(v->m, ROOT, "d", &a), -EPERM);
	ks_check_eq(mv(v, ROOT, "d", ROOT, "e", 0), -EPERM);
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_FLAGS, &none, NULL));
	/* Only "no dump" is passed on. */
	app.flags |= KS_INODE_NODUMP;
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_FLAGS, &app, NULL));
	ks_check_eq(attr_of(v, mkfile(v, d, "n")).flags, KS_INODE_NODUMP);
	ks_check_eq(attr_of(v, mkdir_(v, d, "nd")).flags, KS_INODE_NODUMP);
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_FLAGS, &none, NULL));
}

ON_BOTH(xattrs)
{
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_buf b = { 0 };
	char big[257];
	char *huge = calloc(1, KS_XATTR_VALUE_MAX + 1);

	memset(big, 'a', 256);
	big[256] = '\0';
	ks_check_eq(ks_meta_getxattr(v->m, f, "user.a", &b), -ENODATA);
	ks_check_ok(ks_meta_setxattr(v->m, f, "user.a", "one", 3, KS_XATTR_CREATE));
	ks_check_eq(ks_meta_setxattr(v->m, f, "user.a", "one", 3, KS_XATTR_CREATE), -EEXIST);
	ks_check_eq(ks_meta_setxattr(v->m, f, "user.b", "one", 3, KS_XATTR_REPLACE), -ENODATA);
	ks_check_eq(ks_meta_setxattr(v->m, f, big, "one", 3, 0), -ERANGE);
	ks_check_eq(ks_meta_setxattr(v->m, f, "user.b", huge, KS_XATTR_VALUE_MAX + 1, 0), -E2BIG);
	ks_check_eq(ks_meta_setxattr(v->m, 999, "user.b", "one", 3, 0), -ENOENT);
	ks_check_ok(ks_meta_setxattr(v->m, f, "user.a", "two2", 4, KS_XATTR_REPLACE));
	ks_check_ok(ks_meta_setxattr(v->m, f, "user.empty", NULL, 0, 0));
	ks_check_eq(attr_of(v, f).flags, KS_INODE_HAS_XATTR);
	ks_check_ok(ks_meta_getxattr(v->m, f, "user.a", &b));
	ks_check_eq(b.n, 4);
	ks_check_mem(b.p, "two2", 4);
	b.n = 0;
	ks_check_ok(ks_meta_listxattr(v->m, f, &b));
	ks_check_eq(b.n, sizeof("user.a") + sizeof("user.empty"));
	ks_check_eq(ks_meta_listxattr(v->m, 999, &b), -ENOENT);
	ks_check_ok(ks_meta_removexattr(v->m, f, "user.a"));
	ks_check_eq(ks_meta_removexattr(v->m, f, "user.a"), -ENODATA);
	/* They go with the inode. */
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_eq(count_rows(v, KS_T_XATTR), 0);
	ks_buf_clear(&b);
	free(huge);
}

/* user::7 user:1000:7 group::5 mask::7 other::0 */
static const uint8_t acl_of_5[] = { 2,    0,    0,    0, 1,    0,    7,    0,    0xff,
				    0xff, 0xff, 0xff, 2, 0,    7,    0,    0xe8, 3,
				    0,    0,    4,    0, 5,    0,    0xff, 0xff, 0xff,
				    0xff, 0x10, 0,    7, 0,    0xff, 0xff, 0xff, 0xff,
				    0x20, 0,    0,    0, 0xff, 0xff, 0xff, 0xff };
/* user::6 group::6 other::4 */
static const uint8_t acl_of_3[] = { 2,    0,    0, 0, 1,    0,    6,    0,    0xff, 0xff,
				    0xff, 0xff, 4, 0, 6,    0,    0xff, 0xff, 0xff, 0xff,
				    0x20, 0,    4, 0, 0xff, 0xff, 0xff, 0xff };

/* The permissions of entry @i of an ACL, or -errno. */
static int acl_perm(struct vol *v, uint64_t ino, const char *name, unsigned int i)
{
	struct ks_buf b = { 0 };
	int r = ks_meta_getxattr(v->m, ino, name, &b);

	if (r == 0)
		r = b.p[4 + i * 8 + 2];
	ks_buf_clear(&b);
	return r;
}

ON_BOTH(an_acl_and_the_mode_agree)
{
	uint64_t f = mk(v, ROOT, "f", S_IFREG | 02644), l = mk(v, ROOT, "l", S_IFLNK | 0777);
	struct ks_attr in = { .mode = 0640, .flags = KS_INODE_IMMUTABLE }, before = attr_of(v, f);

	ks_check_eq(acl_perm(v, f, KS_ACL_ACCESS, 0), -ENODATA);
	ks_check_ok(ks_meta_setxattr(v->m, f, KS_ACL_ACCESS, acl_of_5, sizeof(acl_of_5), 0));
	ks_check_eq(attr_of(v, f).mode, S_IFREG | 02770);
	ks_check_eq(attr_of(v, f).flags, KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL);
	ks_check(attr_of(v, f).change > before.change);
	ks_check(attr_of(v, f).ctime_ns > before.ctime_ns);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_MODE, &in, NULL));
	ks_check_eq(acl_perm(v, f, KS_ACL_ACCESS, 0), 6);
	ks_check_eq(acl_perm(v, f, KS_ACL_ACCESS, 1), 7);
	ks_check_eq(acl_perm(v, f, KS_ACL_ACCESS, 2), 5);
	ks_check_eq(acl_perm(v, f, KS_ACL_ACCESS, 3), 4);
	/* What a mode can say is kept as the mode. */
	in.mode = 02640;
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_MODE, &in, NULL));
	ks_check_ok(ks_meta_setxattr(v->m, f, KS_ACL_ACCESS, acl_of_3, sizeof(acl_of_3),
				     KS_XATTR_KILL_SGID));
	ks_check_eq(attr_of(v, f).mode, S_IFREG | 0664);
	ks_check_eq(attr_of(v, f).flags, KS_INODE_HAS_XATTR);
	ks_check_eq(count_rows(v, KS_T_XATTR), 0);
	before = attr_of(v, f);
	ks_check_ok(ks_meta_removexattr(v->m, f, KS_ACL_ACCESS));
	ks_check_eq(attr_of(v, f).change, before.change);
	ks_check_eq(ks_meta_setxattr(v->m, f, KS_ACL_DEFAULT, acl_of_5, sizeof(acl_of_5), 0),
		    -EACCES);
	ks_check_eq(ks_meta_setxattr(v->m, l, KS_ACL_ACCESS, acl_of_5, sizeof(acl_of_5), 0),
		    -EOPNOTSUPP);
	ks_check_eq(ks_meta_setxattr(v->m, f, KS_ACL_ACCESS, acl_of_5, sizeof(acl_of_5) - 8, 0),
		    -EINVAL);
	ks_check_eq(ks_meta_setxattr(v->m, 999, KS_ACL_ACCESS, acl_of_5, sizeof(acl_of_5), 0),
		    -ENOENT);
	ks_check_eq(ks_meta_removexattr(v->m, 999, KS_ACL_ACCESS), -ENOENT);
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_FLAGS, &in, NULL));
	ks_check_eq(ks_meta_setxattr(v->m, f, KS_ACL_ACCESS, acl_of_5, sizeof(acl_of_5), 0),
		    -EPERM);
	in.flags = 0;
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_FLAGS, &in, NULL));
}

ON_BOTH(a_default_acl_is_inherited)
{
	struct ks_cred masked = { .uid = 1, .gid = 1, .umask = 077 };
	uint64_t d = mkdir_(v, ROOT, "d");
	struct ks_attr a;

	ks_check_ok(ks_meta_mknod(v->m, &masked, d, "m", S_IFREG | 0666, 0, NULL, &a));
	ks_check_eq(a.mode, S_IFREG | 0600);
	ks_check_eq(a.flags, 0);
	ks_check_ok(ks_meta_setxattr(v->m, d, KS_ACL_DEFAULT, acl_of_5, sizeof(acl_of_5), 0));
	ks_check_eq(attr_of(v, d).mode, S_IFDIR | 0755);
	ks_check_ok(ks_meta_mknod(v->m, &masked, d, "f", S_IFREG | 0666, 0, NULL, &a));
	ks_check_eq(a.mode, S_IFREG | 0660);
	ks_check_eq(attr_of(v, a.ino).mode, S_IFREG | 0660);
	ks_check_eq(attr_of(v, a.ino).flags, KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL);
	ks_check_eq(acl_perm(v, a.ino, KS_ACL_ACCESS, 1), 7);
	ks_check_eq(acl_perm(v, a.ino, KS_ACL_ACCESS, 3), 6);
	ks_check_eq(acl_perm(v, a.ino, KS_ACL_DEFAULT, 0), -ENODATA);
	ks_check_ok(ks_meta_mktmp(v->m, &masked, d, 0600, &a));
	ks_check_eq(acl_perm(v, a.ino, KS_ACL_ACCESS, 3), 0);
	ks_check_eq(attr_of(v, mk(v, d, "l", S_IFLNK | 0777)).flags, 0);
	ks_check_ok(ks_meta_mknod(v->m, &masked, d, "d", S_IFDIR | 0777, 0, NULL, &a));
	ks_check_eq(a.mode, S_IFDIR | 0770);
	ks_check_eq(acl_perm(v, a.ino, KS_ACL_DEFAULT, 3), 7);
	ks_check_ok(ks_meta_removexattr(v->m, a.ino, KS_ACL_ACCESS));
	ks_check_eq(attr_of(v, a.ino).flags, KS_INODE_HAS_XATTR | KS_INODE_HAS_ACL);
	ks_check_ok(ks_meta_setxattr(v->m, a.ino, KS_ACL_DEFAULT, acl_of_5, 4, 0));
	ks_check_eq(attr_of(v, a.ino).flags, KS_INODE_HAS_XATTR);
	/* A default ACL that says no more than a mode is one still, and its children have none. */
	ks_check_ok(ks_meta_setxattr(v->m, d, KS_ACL_DEFAULT, acl_of_3, sizeof(acl_of_3), 0));
	ks_check_ok(ks_meta_mknod(v->m, &masked, d, "3", S_IFREG | 0666, 0, NULL, &a));
	ks_check_eq(a.mode, S_IFREG | 0664);
	ks_check_eq(a.flags, 0);
}

ON_BOTH(atimes)
{
	struct ks_meta_opts rel = { .relatime = true };
	struct ks_meta *m = NULL;
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_attr in = { .atime_ns = 5 }, a;

	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_ATIME, &in, &a));
	ks_check_ok(ks_meta_touch_atime(v->m, &a));
	ks_check(attr_of(v, f).atime_ns > a.ctime_ns - 1);
	ks_check_eq(attr_of(v, f).change, a.change);
	ks_check_ok(ks_meta_open(&m, v->url, &rel));
	a = attr_of(v, f);
	ks_check_ok(ks_meta_touch_atime(m, &a));
	ks_check_eq(attr_of(v, f).atime_ns, a.atime_ns); /* newer than the others: left alone */
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_ATIME, &in, &a));
	ks_check_ok(ks_meta_touch_atime(m, &a));
	ks_check(attr_of(v, f).atime_ns > 5);
	a.ino = 999;
	ks_check_ok(ks_meta_touch_atime(v->m, &a));
	ks_meta_close(m);
}

ON_BOTH(settings_are_kept)
{
	struct ks_volume_settings s = *ks_meta_settings(v->m);
	struct ks_meta_usage u;
	struct ks_meta *m = NULL;

	s.capacity_bytes = 1 << 20;
	s.inodes_max = 12;
	s.trash_ns = 5;
	snprintf(s.name, sizeof(s.name), "other");
	ks_check_ok(ks_meta_settings_set(v->m, &s));
	ks_check_str(ks_meta_settings(v->m)->name, "test");
	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	ks_check_eq(ks_meta_settings(m)->capacity_bytes, 1 << 20);
	ks_check_eq(ks_meta_settings(m)->inodes_max, 12);
	ks_check_mem(ks_meta_settings(m)->uuid, s.uuid, 16);
	ks_check_mem(ks_meta_settings(m)->hash_key, s.hash_key, 16);
	ks_check_str(ks_meta_settings(m)->data_url, "test.blocks/");
	ks_check_eq(ks_meta_settings(m)->block_size, KS_BLOCK_DEFAULT);
	ks_meta_close(m);
	/* Another process's change is seen by the heartbeat. */
	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	s.inodes_max = 13;
	ks_check_ok(ks_meta_settings_set(v->m, &s));
	ks_check_ok(ks_meta_tick(m, 0));
	ks_check_ok(ks_meta_usage(m, &u));
	ks_check_eq(u.inodes_max, 13);
	ks_meta_close(m);
}

struct put_setting {
	const char *name, *value;
};

static int put_setting_body(struct ks_txn *t, void *arg)
{
	const struct put_setting *p = arg;
	struct ks_rec_setting s = { .name = ks_bytes_str(p->name),
				    .value = ks_bytes_str(p->value) };

	ks_txn_put(t, KS_T_SETTING, &s);
	return 0;
}

static void put_setting(struct vol *v, const char *name, const char *value)
{
	struct put_setting p = { name, value };

	ks_check_ok(ks_engine_run(ks_meta_engine(v->m), put_setting_body, &p));
}

ON_BOTH(newer_volumes_are_refused)
{
	struct ks_volume_settings s = settings_new();
	struct ks_meta *m = NULL;
	bool quiet = ks_fail_quiet(true);

	ks_check_eq(ks_meta_format(v->url, &s, 0, 0), -EEXIST);
	put_setting(v, "format_version", "2");
	ks_check_eq(ks_meta_open(&m, v->url, NULL), -EPROTO);
	ks_check(strstr(ks_fail_text(), "format 2") && strstr(ks_fail_text(), "up to 1"));
	put_setting(v, "format_version", "1");
	put_setting(v, "incompat", "4");
	ks_check_eq(ks_meta_open(&m, v->url, NULL), -EPROTO);
	put_setting(v, "incompat", "0");
	put_setting(v, "block_size", "x");
	ks_check_eq(ks_meta_open(&m, v->url, NULL), -EBADMSG);
	put_setting(v, "block_size", "4194304");
	put_setting(v, "a_later_invention", "1");
	put_setting(v, "ro_compat", "1");
	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	ks_check(ks_meta_is_readonly(m));
	ks_check_eq(ks_meta_mknod(m, &cred, ROOT, "x", S_IFREG, 0, NULL, NULL), -EROFS);
	ks_check_eq(ks_meta_unlink(m, ROOT, "x", NULL), -EROFS);
	ks_meta_close(m);
	put_setting(v, "ro_compat", "0");
	ks_fail_quiet(quiet);
}

/* What a program of another kind has written there is no note. */
static void no_note(struct vol *v, const char *value)
{
	struct ks_last last[KS_TOOLS];

	put_setting(v, "last.gc", value);
	ks_check_ok(ks_meta_last(v->m, last));
	ks_check_eq(last[KS_TOOL_GC].end_ns, 0);
	ks_check_eq(last[KS_TOOL_GC].code, 0);
}

ON_BOTH(when_maintenance_ended_last)
{
	const struct ks_last first = { .end_ns = 1795140003123456789, .code = 0 };
	const struct ks_last second = { .end_ns = 1795140004000000000, .code = 143 };
	struct ks_meta_opts o = { .readonly = true };
	struct ks_engine_stats before, after;
	struct ks_last last[KS_TOOLS];
	struct ks_meta *m = NULL;

	ks_check_ok(ks_meta_last(v->m, last));
	for (int i = 0; i < KS_TOOLS; i++)
		ks_check_eq(last[i].end_ns, 0);
	ks_engine_stats(ks_meta_engine(v->m), &before);
	ks_check_ok(ks_meta_last_set(v->m, KS_TOOL_FSCK, &first));
	ks_engine_stats(ks_meta_engine(v->m), &after);
	ks_check_eq(after.commits - before.commits, 1);
	ks_check_eq(after.reads + after.scans - before.reads - before.scans, 0);
	ks_check_ok(ks_meta_last_set(v->m, KS_TOOL_DUMP, &first));
	ks_check_ok(ks_meta_last_set(v->m, KS_TOOL_DUMP, &second));
	/* The volume opens, and whoever only reads sees them. */
	ks_check_ok(ks_meta_open(&m, v->url, &o));
	ks_check_ok(ks_meta_last(m, last));
	ks_check_eq(last[KS_TOOL_FSCK].end_ns, first.end_ns);
	ks_check_eq(last[KS_TOOL_FSCK].code, 0);
	ks_check_eq(last[KS_TOOL_DUMP].end_ns, second.end_ns);
	ks_check_eq(last[KS_TOOL_DUMP].code, 143);
	ks_check_eq(last[KS_TOOL_GC].end_ns, 0);
	ks_check_eq(last[KS_TOOL_COMPACT].end_ns, 0);
	ks_check_eq(ks_meta_last_set(m, KS_TOOL_GC, &first), -EROFS);
	ks_meta_close(m);
	no_note(v, "");
	no_note(v, "yesterday");
	no_note(v, "17");
	no_note(v, "17 ");
	no_note(v, "-17 0");
	no_note(v, "17 -1");
	no_note(v, "17 256");
	no_note(v, "17 0 ");
	no_note(v, "17  0");
	no_note(v, "99999999999999999999 0");
	no_note(v, "1795140003123456789 000000000000000000000000000000");
}

KS_TEST(missing_volumes)
{
	struct ks_meta *m = NULL;
	struct vol v = { 0 };

	ks_fail_quiet(true);
	vol_url(&v, true);
	ks_check_eq(ks_meta_open(&m, v.url, NULL), -ENOENT);
	vol_url(&v, false);
	ks_check_eq(ks_meta_open(&m, v.url, NULL), -ENOENT);
	ks_meta_close(NULL);
}

ON_BOTH(ids_are_never_given_twice)
{
	struct ks_meta *m = NULL;
	uint64_t a, b, last = 0;

	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	for (int i = 0; i < 3000; i++) {
		ks_check_ok(ks_meta_new_slice_id(v->m, &a));
		ks_check_ok(ks_meta_new_slice_id(m, &b));
		ks_check(a != b && a != last && b != last);
		last = b;
	}
	ks_meta_close(m);
	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	ks_check_ok(ks_meta_new_slice_id(m, &b));
	ks_check(b > a && b > last);
	ks_check_ok(ks_meta_new_pack_id(m, &b));
	ks_check_eq(b, 1);
	ks_meta_close(m);
}

ON_BOTH(tmpfiles)
{
	struct ks_attr a, b;

	ks_check_ok(ks_meta_mktmp(v->m, &cred, ROOT, 0600, &a));
	ks_check_eq(a.nlink, 0);
	put_slice(v, a.ino, 0, 1000, 0);
	ks_check_ok(ks_meta_link(v->m, a.ino, ROOT, "whole", &b));
	ks_check_eq(b.nlink, 1);
	ks_check_eq(b.parent, ROOT);
	ks_check_eq(b.size, 1000);
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_ok(ks_meta_lookup(v->m, ROOT, "whole", &b));
	ks_check_ok(ks_meta_mktmp(v->m, &cred, ROOT, 0600, &a));
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_eq(ks_meta_getattr(v->m, a.ino, &b), -ENOENT);
	ks_check_eq(ks_meta_mktmp(v->m, &cred, 999, 0600, &a), -ENOENT);
}

KS_TEST_MAIN()
