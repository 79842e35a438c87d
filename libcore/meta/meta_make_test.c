/* SPDX-License-Identifier: Apache-2.0 */
/* meta_make_test.c: many entries that are made at once: each whole, and what one means for the others. The audit behind each test counts links, bytes and references. */
#include "meta/meta_testlib.h"

#define SMALL 1000u
#define PACK 7u

static uint32_t sums[1];

/* A new file with one slice in a pack; its place is in @s. */
static struct ks_make file(struct vol *v, struct ks_commit_slice *s, uint64_t dir, const char *name)
{
	struct ks_make m = { .parent = dir,
			     .name = name,
			     .attr = { .mode = S_IFREG | 0666, .uid = 5, .gid = 6, .size = SMALL },
			     .s = s,
			     .n = 1,
			     .err = 1 };

	*s = (struct ks_commit_slice){ .len = SMALL, .pack = PACK, .sums = sums };
	ks_check_ok(ks_meta_new_slice_id(v->m, &s->slice));
	s->pack_off = s->slice * 2048;
	ks_check_ok(ks_meta_new_ino(v->m, &m.attr.ino));
	return m;
}

static struct ks_make further(uint64_t ino, uint64_t dir, const char *name)
{
	return (struct ks_make){
		.parent = dir, .name = name, .flags = KS_MAKE_LINK, .attr = { .ino = ino }, .err = 1
	};
}

static uint64_t look(struct vol *v, uint64_t dir, const char *name)
{
	struct ks_attr a = { 0 };
	int r = ks_meta_lookup(v->m, dir, name, &a);

	ks_check(r == 0 || r == -ENOENT);
	return a.ino;
}

static struct ks_rec_pack pack_of(struct vol *v)
{
	struct ks_pack_info p[2];

	ks_check_eq(ks_meta_packs(v->m, 0, p, 2), 1);
	ks_check_eq(p[0].id, PACK);
	return (struct ks_rec_pack){ .live = p[0].live, .slices = p[0].slices };
}

ON_BOTH_TRASH(files_links_and_others_in_one)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t old = mkfile(v, ROOT, "old");
	struct ks_commit_slice s[3];
	struct ks_make m[] = {
		file(v, &s[0], d, "a"),
		file(v, &s[1], d, "b"),
		file(v, &s[2], ROOT, "c"),
		{ .parent = d, .name = "link", .target = "a", .attr = { .mode = S_IFLNK | 0777 } },
		{ .parent = d,
		  .name = "device",
		  .attr = { .mode = S_IFCHR | 0600, .rdev = 0x103 } },
		further(old, d, "hard"),
	};
	struct ks_engine_stats before, after;
	struct ks_buf target = { 0 };

	m[0].set = KS_SET_ATIME | KS_SET_MTIME;
	m[0].attr.atime_ns = 1;
	m[0].attr.mtime_ns = -5;
	for (size_t i = 3; i < 5; i++)
		ks_check_ok(ks_meta_new_ino(v->m, &m[i].attr.ino));
	ks_engine_stats(ks_meta_engine(v->m), &before);
	ks_check_ok(ks_meta_make(v->m, &cred, m, KS_ARRAY_SIZE(m)));
	ks_engine_stats(ks_meta_engine(v->m), &after);
	ks_check_eq(after.batches - before.batches, 1);
	for (size_t i = 0; i < KS_ARRAY_SIZE(m); i++) {
		struct ks_attr a = { 0 };

		ks_check_eq(m[i].err, 0);
		ks_check_ok(ks_meta_lookup(v->m, m[i].parent, m[i].name, &a));
		ks_check(memcmp(&a, &m[i].out, sizeof(a)) == 0);
	}
	ks_check_eq(attr_of(v, m[0].attr.ino).mtime_ns, -5);
	ks_check_eq(attr_of(v, m[0].attr.ino).used, SMALL);
	ks_check_eq(attr_of(v, m[4].attr.ino).rdev, 0x103);
	ks_check_ok(ks_meta_readlink(v->m, m[3].attr.ino, &target));
	ks_check(target.n == 1 && *target.p == 'a');
	ks_buf_clear(&target);
	ks_check_eq(attr_of(v, old).nlink, 2);
	ks_check_eq(pack_of(v).live, 3 * SMALL);
	ks_check_eq(pack_of(v).slices, 3);
}

ON_BOTH(what_cannot_be_made_does_not_hold_up_the_rest)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_attr fixed = { .flags = KS_INODE_IMMUTABLE };
	struct ks_commit_slice s[6];
	struct ks_make m[] = { file(v, &s[0], ROOT, "d"),  file(v, &s[1], ROOT, "f"),
			       file(v, &s[2], f, "x"),     file(v, &s[3], 999999, "x"),
			       file(v, &s[4], ROOT, "ok"), file(v, &s[5], ROOT, "fixed"),
			       further(d, ROOT, "dir"),    further(999999, ROOT, "none") };

	ks_check_ok(ks_meta_setattr(v->m, mkfile(v, ROOT, "fixed"), KS_SET_FLAGS, &fixed, NULL));
	m[0].flags = m[5].flags = KS_MAKE_REPLACE;
	ks_check_ok(ks_meta_make(v->m, &cred, m, KS_ARRAY_SIZE(m)));
	ks_check_eq(m[0].err, -EISDIR);
	ks_check_eq(m[1].err, -EEXIST);
	ks_check_eq(m[2].err, -ENOTDIR);
	ks_check_eq(m[3].err, -ENOENT);
	ks_check_eq(m[4].err, 0);
	ks_check_eq(m[5].err, -EPERM);
	ks_check_eq(m[6].err, -EPERM);
	ks_check_eq(m[7].err, -ENOENT);
	ks_check_eq(look(v, ROOT, "f"), f);
	ks_check_eq(pack_of(v).slices, 1);
}

/* Names of one old inode, or one name twice, cannot be judged together. */
ON_BOTH_TRASH(replacing)
{
	uint64_t old = mkfile(v, ROOT, "a");
	struct ks_commit_slice s[4];
	struct ks_make m[] = { file(v, &s[0], ROOT, "a"), file(v, &s[1], ROOT, "b"),
			       file(v, &s[2], ROOT, "n"), file(v, &s[3], ROOT, "n") };

	put_slice(v, old, 0, 500, 0);
	ks_check_ok(ks_meta_link(v->m, old, ROOT, "b", NULL));
	for (size_t i = 0; i < KS_ARRAY_SIZE(m); i++)
		m[i].flags = KS_MAKE_REPLACE;
	ks_check_ok(ks_meta_make(v->m, &cred, m, KS_ARRAY_SIZE(m)));
	for (size_t i = 0; i < KS_ARRAY_SIZE(m); i++)
		ks_check_eq(m[i].err, 0);
	ks_check_eq(m[0].replaced.ino, old);
	ks_check_eq(m[1].replaced.nlink, 0);
	ks_check_eq(m[3].replaced.ino, m[2].attr.ino);
	ks_check_eq(look(v, ROOT, "n"), m[3].attr.ino);
}

ON_BOTH(a_file_without_a_name_gets_one)
{
	uint64_t old = mkfile(v, ROOT, "f");
	uint64_t same = mkfile(v, ROOT, "same");
	struct ks_attr a = { 0 };
	struct ks_make m = { .parent = ROOT,
			     .name = "f",
			     .flags = KS_MAKE_LINK | KS_MAKE_REPLACE,
			     .set = KS_SET_MODE | KS_SET_UID | KS_SET_GID | KS_SET_MTIME,
			     .attr = { .mode = 04751, .uid = 8, .gid = 9, .mtime_ns = 77 } };

	ks_check_ok(ks_meta_session_start(v->m, KS_SESSION_TOOL, "test", "", ""));
	ks_check_ok(ks_meta_mktmp(v->m, &cred, ROOT, 0600, &a));
	m.attr.ino = a.ino;
	ks_check_ok(ks_meta_make(v->m, &cred, &m, 1));
	ks_check_eq(m.err, 0);
	ks_check_eq(m.replaced.ino, old);
	ks_check_eq(look(v, ROOT, "f"), a.ino);
	a = attr_of(v, a.ino);
	ks_check_eq(a.mode, S_IFREG | 04751);
	ks_check(a.uid == 8 && a.gid == 9 && a.mtime_ns == 77 && a.nlink == 1);
	ks_check_eq(count_rows(v, KS_T_CLAIM), 0);
	/* By the name it has already: nothing to do. */
	m = further(same, ROOT, "same");
	m.flags |= KS_MAKE_REPLACE;
	ks_check_ok(ks_meta_make(v->m, &cred, &m, 1));
	ks_check_eq(m.err, 0);
	ks_check_eq(attr_of(v, same).nlink, 1);
}

/* Names in a new directory are not looked for, until the database says that one is there. */
ON_BOTH(a_new_directory_that_is_not_empty)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t there = mkfile(v, d, "b");
	struct ks_commit_slice s[3];
	struct ks_make m[] = { file(v, &s[0], d, "a"), file(v, &s[1], d, "b"),
			       file(v, &s[2], d, "c") };

	for (size_t i = 0; i < KS_ARRAY_SIZE(m); i++)
		m[i].flags = KS_MAKE_NEW_DIR;
	ks_check_ok(ks_meta_make(v->m, &cred, m, KS_ARRAY_SIZE(m)));
	ks_check_eq(m[0].err, 0);
	ks_check_eq(m[1].err, -EEXIST);
	ks_check_eq(m[2].err, 0);
	ks_check_eq(look(v, d, "b"), there);
}

ON_BOTH(mode_and_owner)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	struct ks_attr setgid = { .mode = 02755, .gid = 44 };
	struct ks_commit_slice s[2];
	struct ks_make m[] = { file(v, &s[0], d, "as-any"), file(v, &s[1], d, "exact") };
	struct ks_cred masked = cred;

	masked.umask = 027;
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_GID, &setgid, NULL));
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_MODE, &setgid, NULL));
	m[1].flags = KS_MAKE_MODE | KS_MAKE_OWNER;
	ks_check_ok(ks_meta_make(v->m, &masked, m, 2));
	ks_check_eq(m[0].out.mode & 07777, 0640);
	ks_check_eq(m[0].out.gid, 44);
	ks_check_eq(m[1].out.mode & 07777, 0666);
	ks_check_eq(m[1].out.gid, 6);
}

/* A quota that has room for some of them. */
ON_BOTH(a_quota)
{
	struct ks_volume_settings set = *ks_meta_settings(v->m);
	struct ks_commit_slice s[3];
	struct ks_make m[] = { file(v, &s[0], ROOT, "a"), file(v, &s[1], ROOT, "b"),
			       file(v, &s[2], ROOT, "c") };

	set.capacity_bytes = 2 * SMALL + 500;
	ks_check_ok(ks_meta_settings_set(v->m, &set));
	ks_check_ok(ks_meta_make(v->m, &cred, m, 3));
	ks_check_eq(m[0].err, 0);
	ks_check_eq(m[1].err, 0);
	ks_check_eq(m[2].err, -ENOSPC);
	ks_check_eq(look(v, ROOT, "c"), 0);
	ks_check_eq(pack_of(v).slices, 2);
}

ON_BOTH(bad_input)
{
	static struct ks_make many[KS_MAKE_MAX + 1];
	char name[KS_NAME_MAX + 2] = "";
	struct ks_commit_slice s[2];
	struct ks_make m[] = { file(v, &s[0], ROOT, name), file(v, &s[1], ROOT, "ok") };
	struct ks_make dir = { .parent = ROOT,
			       .name = "dir",
			       .attr = { .ino = 12345, .mode = S_IFDIR | 0755 } };

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ks_check_eq(ks_meta_make(v->m, &cred, many, KS_ARRAY_SIZE(many)), -EINVAL);
	ks_check_ok(ks_meta_make(v->m, &cred, m, 2));
	ks_check_eq(m[0].err, -ENAMETOOLONG);
	ks_check_eq(m[1].err, 0);
	ks_check_ok(ks_meta_make(v->m, &cred, &dir, 1));
	ks_check_eq(dir.err, -EINVAL);
	ks_check_ok(ks_meta_make(v->m, &cred, NULL, 0));
}

KS_TEST_MAIN()
