/* SPDX-License-Identifier: Apache-2.0 */
/* meta_clone_test.c: files made with the content of others, many in one transaction. The audit behind each test counts every reference. */
#include "meta/meta_testlib.h"

static struct ks_clone item(uint64_t src, uint64_t parent, const char *name)
{
	return (struct ks_clone){
		.src = src, .parent = parent, .name = name, .mode = 0640, .uid = 7, .gid = 8
	};
}

static uint64_t slice_at(struct vol *v, uint64_t ino, uint64_t chunk)
{
	struct ks_chunk_map *map;
	uint64_t id;

	ks_check_ok(ks_meta_map(v->m, ino, chunk, &map));
	id = map->n ? map->e[0].slice : 0;
	ks_chunk_map_free(map);
	return id;
}

ON_BOTH(plain)
{
	uint64_t f = mkfile(v, ROOT, "f"), empty = mkfile(v, ROOT, "empty");
	uint64_t d = mkdir_(v, ROOT, "d"), s1, s2;
	struct ks_clone c[] = { item(f, d, "a"), item(empty, d, "b"), item(f, ROOT, "c"),
				item(f, d, "e") };
	struct ks_meta_usage before, after;
	struct ks_attr src, a;

	s1 = put_slice(v, f, 0, 5000, 3);
	s2 = put_slice(v, f, 5 * KS_CHUNK_SIZE + 100, 70000, 0);
	set_size(v, f, 6 * KS_CHUNK_SIZE);
	src = attr_of(v, f);
	c[3].times = true;
	c[3].atime_ns = 5;
	c[3].mtime_ns = -5;
	ks_check_ok(ks_meta_usage(v->m, &before));
	ks_check_ok(ks_meta_clone(v->m, c, KS_ARRAY_SIZE(c)));
	ks_check_ok(ks_meta_usage(v->m, &after));
	ks_check_eq(after.inodes, before.inodes + 4);
	ks_check_eq(after.used_bytes, before.used_bytes + 3 * src.used);
	for (size_t i = 0; i < KS_ARRAY_SIZE(c); i++) {
		ks_check_ok(c[i].err);
		ks_check_ok(ks_meta_lookup(v->m, c[i].parent, c[i].name, &a));
		ks_check_eq(a.ino, c[i].ino);
		ks_check_eq(a.mode, S_IFREG | 0640);
		ks_check_eq(a.uid, 7);
		ks_check_eq(a.gid, 8);
		ks_check_eq(a.nlink, 1);
		ks_check_eq(a.size, i == 1 ? 0 : src.size);
		ks_check_eq(a.used, i == 1 ? 0 : src.used);
		ks_check_eq(c[i].bytes, a.size);
		ks_check_eq(slice_at(v, a.ino, 0), i == 1 ? 0 : s1);
		ks_check_eq(slice_at(v, a.ino, 5), i == 1 ? 0 : s2);
	}
	ks_check_eq(a.atime_ns, 5);
	ks_check_eq(a.mtime_ns, -5);
	/* Each goes its own way. */
	put_slice(v, c[0].ino, 0, 5000, 0);
	ks_check(slice_at(v, c[0].ino, 0) != s1);
	ks_check_eq(slice_at(v, f, 0), s1);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_eq(slice_at(v, c[2].ino, 0), s1);
}

ON_BOTH(what_is_not_plain_does_not_hold_up_the_others)
{
	uint64_t f = mkfile(v, ROOT, "f"), many = mkfile(v, ROOT, "many"), x = mkfile(v, ROOT, "x");
	uint64_t over = mkfile(v, ROOT, "over"), d = mkdir_(v, ROOT, "d"), fixed;
	struct ks_attr a, in = { .flags = KS_INODE_IMMUTABLE };
	struct ks_clone c[11];

	fixed = mkdir_(v, ROOT, "fixed");
	ks_check_ok(ks_meta_setattr(v->m, fixed, KS_SET_FLAGS, &in, NULL));
	put_slice(v, f, 0, 100, 0);
	for (uint64_t i = 0; i < 40; i++)
		put_slice(v, many, i * KS_CHUNK_SIZE, 10, 0);
	put_slice(v, over, 0, 100, 0);
	put_slice(v, over, 50, 100, 0);
	ks_check_ok(ks_meta_setxattr(v->m, x, "user.a", "1", 1, 0));
	c[0] = item(f, d, "one");
	c[1] = item(f, ROOT, "f");
	c[2] = item(many, d, "two");
	c[3] = item(over, d, "three");
	c[4] = item(x, d, "four");
	c[4].plain = true;
	c[5] = item(x, d, "five");
	c[6] = item(d, d, "six");
	c[7] = item(9999, d, "seven");
	c[8] = item(f, d, "one");
	c[9] = item(f, fixed, "nine");
	c[10] = item(f, f, "ten");
	ks_check_ok(ks_meta_clone(v->m, c, KS_ARRAY_SIZE(c)));
	ks_check_ok(c[0].err);
	ks_check_eq(c[1].err, -EEXIST);
	ks_check_eq(c[2].err, -EOPNOTSUPP);
	ks_check_eq(c[3].err, -EOPNOTSUPP);
	ks_check_eq(c[4].err, -EOPNOTSUPP);
	ks_check_ok(c[5].err);
	ks_check_eq(c[6].err, -EOPNOTSUPP);
	ks_check_eq(c[7].err, -ENOENT);
	ks_check_eq(c[8].err, -EEXIST);
	ks_check_eq(c[9].err, -EPERM);
	ks_check_eq(c[10].err, -ENOTDIR);
	ks_check_ok(ks_meta_lookup(v->m, d, "five", &a));
	ks_check_eq(a.flags, 0);
	ks_check_eq(ks_meta_lookup(v->m, d, "four", &a), -ENOENT);
	c[0].name = "";
	ks_check_eq(ks_meta_clone(v->m, c, 1), -EINVAL);
	ks_check_eq(ks_meta_clone(v->m, c, KS_CLONE_MAX + 1), -EINVAL);
	in.flags = 0;
	ks_check_ok(ks_meta_setattr(v->m, fixed, KS_SET_FLAGS, &in, NULL));
}

ON_BOTH(setgid_directories_and_quotas)
{
	struct ks_volume_settings s = *ks_meta_settings(v->m);
	uint64_t f = mkfile(v, ROOT, "f"), d = mkdir_(v, ROOT, "d");
	struct ks_attr a, in = { .mode = S_ISGID | 0755, .gid = 55 };
	struct ks_clone c[] = { item(f, d, "a"), item(f, d, "b") };

	put_slice(v, f, 0, 1000, 0);
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_GID, &in, NULL));
	ks_check_ok(ks_meta_setattr(v->m, d, KS_SET_MODE, &in, NULL));
	c[1].own = true;
	ks_check_ok(ks_meta_clone(v->m, c, 2));
	ks_check_ok(ks_meta_getattr(v->m, c[0].ino, &a));
	ks_check_eq(a.gid, 55);
	ks_check_ok(ks_meta_getattr(v->m, c[1].ino, &a));
	ks_check_eq(a.gid, 8);
	s.capacity_bytes = 4500;
	ks_check_ok(ks_meta_session_start(v->m, KS_SESSION_TOOL, "test", "", ""));
	ks_check_ok(ks_meta_settings_set(v->m, &s));
	c[0].name = "c";
	c[1].name = "d";
	ks_check_eq(ks_meta_clone(v->m, c, 2), -ENOSPC);
	ks_check_eq(ks_meta_lookup(v->m, d, "c", &a), -ENOENT);
	ks_check_ok(ks_meta_clone(v->m, c, 1));
	ks_check_ok(c[0].err);
}

KS_TEST_MAIN()
