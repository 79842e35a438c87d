/* SPDX-License-Identifier: Apache-2.0 */
/* meta_remove_test.c: many names that go at once: what one means for the next, and what stays. The audit behind each test counts links. */
#include "meta/meta_testlib.h"

static struct ks_remove entry(uint64_t parent, const char *name, bool dir)
{
	return (struct ks_remove){ .parent = parent, .name = name, .dir = dir, .err = 1 };
}

ON_BOTH_TRASH(a_tree_in_one)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t e = mkdir_(v, d, "e");
	uint64_t f = mkfile(v, e, "f");
	struct ks_remove r[] = {
		entry(e, "f", false), entry(e, "g", false), entry(d, "s", false),
		entry(d, "e", true),  entry(d, "x", true),  entry(ROOT, "d", true)
	};
	struct ks_attr a;

	mkfile(v, e, "g");
	mkdir_(v, d, "x");
	mk(v, d, "s", S_IFLNK | 0777);
	put_slice(v, f, 0, 1000, 0);
	ks_check_ok(ks_meta_remove(v->m, r, KS_ARRAY_SIZE(r)));
	for (size_t i = 0; i < KS_ARRAY_SIZE(r); i++)
		ks_check_eq(r[i].err, 0);
	ks_check_eq(r[0].bytes, 1000);
	ks_check_eq(r[1].bytes, 0);
	ks_check_eq(ks_meta_lookup(v->m, ROOT, "d", &a), -ENOENT);
	ks_check_eq(attr_of(v, ROOT).nlink, 2);
}

ON_BOTH_TRASH(names_of_one_file)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t f = mkfile(v, d, "a");
	struct ks_remove r[] = { entry(d, "a", false), entry(d, "b", false), entry(d, "c", false) };

	ks_check_ok(ks_meta_link(v->m, f, d, "b", NULL));
	ks_check_ok(ks_meta_link(v->m, f, d, "c", NULL));
	ks_check_ok(ks_meta_link(v->m, f, ROOT, "keep", NULL));
	put_slice(v, f, 0, 500, 0);
	ks_check_ok(ks_meta_remove(v->m, r, 2));
	ks_check_eq(attr_of(v, f).nlink, 2);
	ks_check_eq(r[1].bytes, 0);
	r[0] = r[2];
	r[1] = entry(ROOT, "keep", false);
	ks_check_ok(ks_meta_remove(v->m, r, 2));
	ks_check_eq(r[0].bytes, 0);
	ks_check_eq(r[1].bytes, 500);
	ks_check_ok(ks_meta_tick(v->m, 0));
}

ON_BOTH_TRASH(what_cannot_go_stays_alone)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t e = mkdir_(v, d, "e");
	uint64_t f = mkfile(v, e, "fixed");
	struct ks_attr set = { .flags = KS_INODE_IMMUTABLE };
	struct ks_remove r[] = { entry(e, "fixed", false), entry(e, "none", false),
				 entry(e, "file", true),   entry(e, "dir", false),
				 entry(e, "gone", false),  entry(d, "e", true),
				 entry(ROOT, "d", true) };

	mkfile(v, e, "file");
	mkfile(v, e, "gone");
	mkdir_(v, e, "dir");
	ks_check_ok(ks_meta_setattr(v->m, f, KS_SET_FLAGS, &set, NULL));
	ks_check_ok(ks_meta_remove(v->m, r, KS_ARRAY_SIZE(r)));
	ks_check_eq(r[0].err, -EPERM);
	ks_check_eq(r[1].err, -ENOENT);
	ks_check_eq(r[2].err, -ENOTDIR);
	ks_check_eq(r[3].err, -EISDIR);
	ks_check_eq(r[4].err, 0);
	ks_check_eq(r[5].err, -ENOTEMPTY);
	ks_check_eq(r[6].err, -ENOTEMPTY);
	ks_check_eq(attr_of(v, e).nlink, 3);
}

/* An entry that the batch does not know: the condition of the commit fails, and each goes by itself. */
ON_BOTH_TRASH(a_directory_that_is_not_empty)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	struct ks_remove r[] = { entry(d, "a", false), entry(ROOT, "d", true),
				 entry(ROOT, "b", false) };
	struct ks_remove many[KS_REMOVE_MAX + 1] = { 0 };

	mkfile(v, d, "a");
	mkfile(v, d, "new");
	mkfile(v, ROOT, "b");
	ks_check_ok(ks_meta_remove(v->m, r, KS_ARRAY_SIZE(r)));
	ks_check_eq(r[0].err, 0);
	ks_check_eq(r[1].err, -ENOTEMPTY);
	ks_check_eq(r[2].err, 0);
	ks_check_ok(ks_meta_remove(v->m, r, 0));
	ks_check_eq(ks_meta_remove(v->m, many, KS_ARRAY_SIZE(many)), -EINVAL);
}

KS_TEST_MAIN()
