/* SPDX-License-Identifier: Apache-2.0 */
/* meta_rename_test.c: rename in all its forms, and how many round trips every operation takes. */
#include "meta/meta_testlib.h"

static uint64_t find(struct vol *v, uint64_t dir, const char *name)
{
	struct ks_attr a = { 0 };
	int r = ks_meta_lookup(v->m, dir, name, &a);

	ks_check(r == 0 || r == -ENOENT);
	return r == 0 ? a.ino : 0;
}

ON_BOTH(rename_moves_files)
{
	uint64_t d = mkdir_(v, ROOT, "d");
	uint64_t f = mkfile(v, ROOT, "f");
	uint64_t before = attr_of(v, d).change;
	struct ks_attr moved, replaced;

	ks_check_ok(ks_meta_rename(v->m, &cred, ROOT, "f", d, "g", 0, &moved, &replaced));
	ks_check_eq(moved.ino, f);
	ks_check_eq(moved.parent, d);
	ks_check_eq(replaced.ino, 0);
	ks_check_eq(find(v, d, "g"), f);
	ks_check_eq(find(v, ROOT, "f"), 0);
	ks_check(attr_of(v, d).change > before);
	ks_check_ok(mv(v, d, "g", d, "h", 0));
	ks_check_eq(find(v, d, "h"), f);
	ks_check_ok(mv(v, d, "h", d, "h", 0));
	ks_check_eq(find(v, d, "h"), f);
	ks_check_eq(mv(v, d, "no", d, "h", 0), -ENOENT);
	ks_check_eq(mv(v, d, "h", 999, "h", 0), -ENOENT);
	ks_check_eq(mv(v, 999, "h", d, "h", 0), -ENOENT);
	ks_check_eq(mv(v, d, "h", f, "h", 0), -ENOTDIR);
	ks_check_eq(mv(v, d, "h", d, "i", 8), -EINVAL);
	ks_check_eq(mv(v, d, "h", d, "i", KS_RENAME_EXCHANGE | KS_RENAME_NOREPLACE), -EINVAL);
	ks_check_eq(mv(v, d, "h", d, "i", KS_RENAME_EXCHANGE | KS_RENAME_WHITEOUT), -EINVAL);
}

ON_BOTH(rename_replaces)
{
	static const char *const kinds[] = { "f", "l", "p" };
	uint64_t d = mkdir_(v, ROOT, "d");
	struct ks_attr moved, replaced;

	for (size_t i = 0; i < KS_ARRAY_SIZE(kinds); i++) {
		uint64_t f = mkfile(v, ROOT, "new");
		uint64_t old = mk(v, d, "old", i == 0 ? S_IFREG : i == 1 ? S_IFLNK : S_IFIFO);

		ks_check_eq(mv(v, ROOT, "new", d, "old", KS_RENAME_NOREPLACE), -EEXIST);
		ks_check_ok(
			ks_meta_rename(v->m, &cred, ROOT, "new", d, "old", 0, &moved, &replaced));
		ks_check_eq(moved.ino, f);
		ks_check_eq(replaced.ino, old);
		ks_check_eq(replaced.nlink, 0);
		ks_check_eq(find(v, d, "old"), f);
		ks_check_eq(count_rows(v, KS_T_DELETED), i == 0 ? 1 : 0);
		ks_check_ok(ks_meta_tick(v->m, 0));
		ks_check_ok(ks_meta_unlink(v->m, d, "old", NULL));
		ks_check_ok(ks_meta_tick(v->m, 0));
	}
	/* One of several names. */
	uint64_t a = mkfile(v, ROOT, "a"), b = mkfile(v, ROOT, "b");

	ks_check_ok(ks_meta_link(v->m, b, d, "b2", NULL));
	ks_check_ok(ks_meta_rename(v->m, &cred, ROOT, "a", ROOT, "b", 0, &moved, &replaced));
	ks_check_eq(replaced.nlink, 1);
	ks_check_eq(find(v, ROOT, "b"), a);
	ks_check_eq(find(v, d, "b2"), b);
}

ON_BOTH(rename_of_one_inode_to_itself)
{
	uint64_t f = mkfile(v, ROOT, "a");
	struct ks_attr moved, replaced;

	ks_check_ok(ks_meta_link(v->m, f, ROOT, "b", NULL));
	ks_check_ok(ks_meta_rename(v->m, &cred, ROOT, "a", ROOT, "b", 0, &moved, &replaced));
	ks_check_eq(moved.ino, f);
	ks_check_eq(replaced.ino, 0);
	ks_check_eq(find(v, ROOT, "a"), f);
	ks_check_eq(find(v, ROOT, "b"), f);
	ks_check_eq(attr_of(v, f).nlink, 2);
	ks_check_ok(mv(v, ROOT, "a", ROOT, "b", KS_RENAME_EXCHANGE));
}

ON_BOTH(rename_kinds_must_match)
{
	uint64_t full = mkdir_(v, ROOT, "full");

	mkdir_(v, ROOT, "empty");
	mkdir_(v, ROOT, "empty2");
	mkfile(v, ROOT, "file");
	mkfile(v, full, "x");
	ks_check_eq(mv(v, ROOT, "file", ROOT, "empty", 0), -EISDIR);
	ks_check_eq(mv(v, ROOT, "empty", ROOT, "file", 0), -ENOTDIR);
	ks_check_eq(mv(v, ROOT, "empty", ROOT, "full", 0), -ENOTEMPTY);
	ks_check_eq(attr_of(v, ROOT).nlink, 5);
	ks_check_ok(mv(v, ROOT, "full", ROOT, "empty", 0));
	ks_check_eq(attr_of(v, ROOT).nlink, 4);
	ks_check_eq(find(v, ROOT, "empty"), full);
	ks_check_ok(mv(v, ROOT, "empty", full, "me", 0) == -EINVAL ? 0 : -1);
	/* With a directory inside: found by the link count alone. */
	mkdir_(v, full, "sub");
	ks_check_eq(mv(v, ROOT, "empty2", ROOT, "empty", 0), -ENOTEMPTY);
}

ON_BOTH_TRASH(rename_of_directories)
{
	uint64_t a = mkdir_(v, ROOT, "a"), b = mkdir_(v, a, "b"), c = mkdir_(v, b, "c"),
		 d = mkdir_(v, ROOT, "d");
	struct ks_attr moved;

	ks_check_eq(mv(v, ROOT, "a", a, "x", 0), -EINVAL);
	ks_check_eq(mv(v, ROOT, "a", b, "x", 0), -EINVAL);
	ks_check_eq(mv(v, ROOT, "a", c, "x", 0), -EINVAL);
	ks_check_eq(mv(v, a, "b", ROOT, "a", 0), -ENOTEMPTY);
	ks_check_ok(ks_meta_rename(v->m, &cred, a, "b", d, "b2", 0, &moved, NULL));
	ks_check_eq(moved.parent, d);
	ks_check_eq(attr_of(v, a).nlink, 2);
	ks_check_eq(attr_of(v, d).nlink, 3);
	ks_check_eq(attr_of(v, c).parent, b);
	ks_check_ok(mv(v, ROOT, "a", c, "a", 0));
	ks_check_eq(mv(v, ROOT, "d", a, "d", 0), -EINVAL);
	/* Onto an empty directory elsewhere. */
	mkdir_(v, ROOT, "e");
	ks_check_ok(mv(v, c, "a", ROOT, "e", 0));
	ks_check_eq(find(v, ROOT, "e"), a);
	ks_check_eq(attr_of(v, c).nlink, 2);
}

ON_BOTH_TRASH(rename_exchanges)
{
	uint64_t a = mkdir_(v, ROOT, "a"), b = mkdir_(v, ROOT, "b");
	uint64_t x = mkdir_(v, a, "x"), y = mkfile(v, b, "y");
	struct ks_attr moved, replaced;

	ks_check_eq(mv(v, a, "x", b, "no", KS_RENAME_EXCHANGE), -ENOENT);
	ks_check_ok(
		ks_meta_rename(v->m, &cred, a, "x", b, "y", KS_RENAME_EXCHANGE, &moved, &replaced));
	ks_check_eq(moved.ino, x);
	ks_check_eq(replaced.ino, 0);
	ks_check_eq(find(v, a, "x"), y);
	ks_check_eq(find(v, b, "y"), x);
	ks_check_eq(attr_of(v, a).nlink, 2);
	ks_check_eq(attr_of(v, b).nlink, 3);
	ks_check_eq(attr_of(v, x).parent, b);
	ks_check_eq(attr_of(v, y).parent, a);
	/* Neither may become its own ancestor. */
	uint64_t deep = mkdir_(v, x, "deep");

	mkfile(v, deep, "f");
	ks_check_eq(mv(v, ROOT, "b", x, "deep", KS_RENAME_EXCHANGE), -EINVAL);
	ks_check_eq(mv(v, x, "deep", ROOT, "b", KS_RENAME_EXCHANGE), -EINVAL);
	ks_check_eq(mv(v, deep, "f", ROOT, "b", KS_RENAME_EXCHANGE), -EINVAL);
	ks_check_ok(mv(v, ROOT, "a", ROOT, "b", KS_RENAME_EXCHANGE));
	ks_check_eq(find(v, ROOT, "a"), b);
	ks_check_ok(mv(v, ROOT, "a", b, "y", KS_RENAME_EXCHANGE) == -EINVAL ? 0 : -1);
	ks_check_eq(y, find(v, a, "x"));
}

ON_BOTH(rename_leaves_a_whiteout)
{
	struct ks_attr a;
	uint64_t f = mkfile(v, ROOT, "f");

	ks_check_ok(mv(v, ROOT, "f", ROOT, "g", KS_RENAME_WHITEOUT));
	ks_check_eq(find(v, ROOT, "g"), f);
	ks_check_ok(ks_meta_lookup(v->m, ROOT, "f", &a));
	ks_check_eq(a.mode, S_IFCHR);
	ks_check_eq(a.rdev, 0);
	ks_check_eq(mv(v, ROOT, "g", ROOT, "f", KS_RENAME_WHITEOUT | KS_RENAME_NOREPLACE), -EEXIST);
}

/* ---- round trips ---- */

struct trips {
	struct vol *v;
	struct ks_engine_stats before;
};

static void trips_start(struct trips *t)
{
	ks_engine_stats(ks_meta_engine(t->v->m), &t->before);
}

#define TRIPS(t, call, max_reads, max_commits)                                                     \
	do {                                                                                       \
		struct ks_engine_stats now_;                                                       \
                                                                                                   \
		trips_start(t);                                                                    \
		ks_check_ok(call);                                                                 \
		ks_engine_stats(ks_meta_engine((t)->v->m), &now_);                                 \
		printf("# reads+scans %ju commits %ju: %.40s\n",                                   \
		       (uintmax_t)(now_.reads + now_.scans - (t)->before.reads -                   \
				   (t)->before.scans),                                             \
		       (uintmax_t)(now_.commits - (t)->before.commits), #call);                    \
		ks_check(now_.reads + now_.scans - (t)->before.reads - (t)->before.scans <=        \
			 (max_reads));                                                             \
		ks_check(now_.commits - (t)->before.commits <= (max_commits));                     \
	} while (0)

static int readdir_(struct vol *v)
{
	struct names l = { .n = 0 };
	bool eof;

	return ks_meta_readdir(v->m, ROOT, 0, true, 0, names_one, &l, &eof);
}

static int map_(struct vol *v, uint64_t ino)
{
	struct ks_chunk_map *map = NULL;
	int r = ks_meta_map(v->m, ino, 0, &map);

	ks_chunk_map_free(map);
	return r;
}

static int commit_(struct vol *v, uint64_t ino, uint64_t slice, uint32_t pos, uint64_t pack)
{
	static const uint32_t sums[2048];
	struct ks_commit_slice s[] = {
		{ .pos = pos,
		  .len = 70000,
		  .slice = slice,
		  .block_size = KS_BLOCK_DEFAULT,
		  .sums = sums },
		{ .chunk = 1,
		  .len = 100,
		  .slice = slice + 1,
		  .block_size = KS_BLOCK_DEFAULT,
		  .sums = sums,
		  .pack = pack },
	};
	struct ks_commit c = { .ino = ino, .s = s, .n = 2, .end = 100 };

	return ks_meta_commit(v->m, &c, NULL);
}

static void read_trips(struct trips *t, uint64_t f, uint64_t l)
{
	struct ks_buf b = { 0 };
	struct ks_attr a;
	struct ks_meta_usage u;
	struct ks_block_index bi;
	uint64_t at;

	TRIPS(t, ks_meta_lookup(t->v->m, ROOT, "f", &a), 1, 0);
	TRIPS(t, ks_meta_getattr(t->v->m, f, &a), 1, 0);
	TRIPS(t, ks_meta_readlink(t->v->m, l, &b), 1, 0);
	TRIPS(t, readdir_(t->v), 1, 0);
	TRIPS(t, ks_meta_getxattr(t->v->m, f, "user.a", &b), 1, 0);
	TRIPS(t, ks_meta_listxattr(t->v->m, f, &b), 1, 0);
	/* It has none, as its record tells, where that is in memory. */
	TRIPS(t, ks_meta_listxattr(t->v->m, l, &b), !t->v->sqlite, 0);
	TRIPS(t, ks_meta_usage(t->v->m, &u), 1, 0);
	TRIPS(t, map_(t->v, f), 1, 0);
	TRIPS(t, ks_meta_seek(t->v->m, f, 0, false, &at), 1, 0);
	TRIPS(t, ks_meta_block(t->v->m, 1000, 0, &bi), 1, 0);
	ks_buf_clear(&b);
}

ON_BOTH_TRASH(round_trips)
{
	struct trips *t = &(struct trips){ .v = v };
	struct ks_meta *m = v->m;
	struct ks_attr in = { .mode = 0600, .size = 66000 };
	uint64_t slice, f, d, l, done;

	ks_check_ok(ks_meta_new_slice_id(m, &slice));
	f = mkfile(v, ROOT, "f"); /* ids are there from now on */
	d = mkdir_(v, ROOT, "d");
	l = mk(v, ROOT, "l", S_IFLNK | 0777);
	mkdir_(v, mkdir_(v, mkdir_(v, d, "1"), "2"), "3");
	TRIPS(t, ks_meta_mknod(m, &cred, ROOT, "g", S_IFREG, 0, NULL, NULL), 1, 1);
	TRIPS(t, ks_meta_mknod(m, &cred, ROOT, "e", S_IFDIR, 0, NULL, NULL), 1, 1);
	TRIPS(t, ks_meta_mktmp(m, &cred, ROOT, 0600, &(struct ks_attr){ 0 }), 1, 1);
	TRIPS(t, ks_meta_link(m, f, d, "f2", NULL), 1, 1);
	TRIPS(t, ks_meta_setattr(m, f, KS_SET_MODE, &in, NULL), 1, 1);
	TRIPS(t, ks_meta_setxattr(m, f, "user.a", "x", 1, 0), 1, 1);
	TRIPS(t, commit_(v, f, 1000, 0, 7), 1, 1);
	TRIPS(t, commit_(v, f, 1002, 10, 7), 1, 1);
	read_trips(t, f, l);
	TRIPS(t, ks_meta_fallocate(m, f, KS_FALLOC_PUNCH, true, 100, 200, NULL), 1, 1);
	TRIPS(t, ks_meta_fallocate(m, f, KS_FALLOC_EXTEND, false, 0, KS_CHUNK_SIZE * 3, NULL), 1,
	      1);
	TRIPS(t, ks_meta_copy_range(m, f, 0, f, KS_CHUNK_SIZE, 66000, &done, NULL), 1, 1);
	TRIPS(t, ks_meta_setattr(m, f, KS_SET_SIZE, &in, NULL), 1, 1);
	TRIPS(t, ks_meta_removexattr(m, f, "user.a"), 1, 1);
	TRIPS(t, ks_meta_rename(m, &cred, ROOT, "f", d, "g", 0, NULL, NULL), 1, 1);
	TRIPS(t, ks_meta_rename(m, &cred, d, "g", ROOT, "g", 0, NULL, NULL), 1, 1);
	TRIPS(t, ks_meta_rename(m, &cred, ROOT, "g", ROOT, "l", KS_RENAME_EXCHANGE, NULL, NULL), 1,
	      1);
	TRIPS(t, ks_meta_rename(m, &cred, ROOT, "g", ROOT, "h", KS_RENAME_NOREPLACE, NULL, NULL), 1,
	      1);
	TRIPS(t, ks_meta_rename(m, &cred, d, "1", ROOT, "1", 0, NULL, NULL), 2, 1);
	TRIPS(t, ks_meta_rename(m, &cred, ROOT, "1", ROOT, "e", 0, NULL, NULL), 1, 1);
	TRIPS(t, ks_meta_rename(m, &cred, ROOT, "e", d, "e", 0, NULL, NULL), 2, 1);
	TRIPS(t, ks_meta_unlink(m, d, "f2", NULL), 1, 1);
	TRIPS(t, ks_meta_unlink(m, ROOT, "l", NULL), 1, 1);
	mkdir_(v, ROOT, "r");
	TRIPS(t, ks_meta_rmdir(m, ROOT, "r", NULL), 1, 1);
	mkfile(v, ROOT, "x");
	TRIPS(t, ks_meta_touch_atime(m, &(struct ks_attr){ .ino = ROOT }), 1, 1);
	TRIPS(t, ks_meta_claim(m, ROOT), 1, 1);
	TRIPS(t, ks_meta_release(m, ROOT), 0, 1);
}

KS_TEST_MAIN()
