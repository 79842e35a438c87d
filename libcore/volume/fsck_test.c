/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_test.c: every kind of damage is found, named, repaired by the level that says so, and gone in the second run. */
#include "volume/fsck.h"
#include "volume/maint_testlib.h"

struct note {
	char kind[40];
	bool fixed;
	enum ks_fsck_repair repair;
	char paths[400];
	uint64_t off, len;
};

struct seen {
	struct note v[64];
	size_t n;
};

static void note(void *arg, const struct ks_fsck_problem *p)
{
	struct seen *s = arg;
	struct note *x = &s->v[s->n];
	size_t at = 0;

	if (s->n == KS_ARRAY_SIZE(s->v))
		return;
	s->n++;
	*x = (struct note){ .fixed = p->fixed, .repair = p->repair, .off = p->off, .len = p->len };
	snprintf(x->kind, sizeof(x->kind), "%s", p->kind);
	for (size_t i = 0; i < p->npaths && at < sizeof(x->paths); i++)
		at += (size_t)snprintf(x->paths + at, sizeof(x->paths) - at, "%s%s", i ? " " : "",
				       p->paths[i].p);
}

static void print_seen(const struct seen *s)
{
	for (size_t i = 0; i < s->n; i++)
		printf("#   %s%s %s %ju+%ju\n", s->v[i].kind, s->v[i].fixed ? " (fixed)" : "",
		       s->v[i].paths, (uintmax_t)s->v[i].off, (uintmax_t)s->v[i].len);
}

static const struct note *find(const struct seen *s, const char *kind)
{
	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->v[i].kind, kind) == 0)
			return &s->v[i];
	}
	return NULL;
}

static int run(struct tv *v, enum ks_fsck_level level, enum ks_fsck_data data, struct seen *s,
	       struct ks_fsck_result *out)
{
	struct ks_fsck_opts o = { .level = level, .data = data, .problem = note, .arg = s };
	struct ks_fsck_result pre;
	struct ks_maint m = { 0 };
	int r;

	*s = (struct seen){ 0 };
	*out = (struct ks_fsck_result){ 0 };
	r = ks_fsck_settings(v->url, &o, &pre);
	if (r == 0)
		r = ks_maint_open(&m, &v->ref, level != KS_FSCK_CHECK);
	if (r == 0 && level != KS_FSCK_CHECK)
		r = ks_meta_lock_exclusive(m.meta);
	if (r == 0)
		r = ks_fsck(&m, &o, out);
	out->problems += pre.problems;
	out->fixed += pre.fixed;
	ks_maint_close(&m);
	return r;
}

struct damage {
	const char *sql;
	const char *kind;
	bool lossy;
	const char *path; /* in the finding's paths; NULL: none expected */
};

#define NAME(n) "CAST('" n "' AS BLOB)"

static const struct damage damages[] = {
	{ "DELETE FROM inode WHERE ino=%I(pipe)", "dangling_entry", true, "/pipe" },
	{ "DELETE FROM inode WHERE ino=%I(big)", "dangling_entry", true, "/dir/big" },
	{ "DELETE FROM inode WHERE ino=%I(big)", "extents_without_inode", true, NULL },
	{ "DELETE FROM dentry WHERE name=" NAME("small"), "orphan_inode", true, NULL },
	{ "DELETE FROM dentry WHERE name=" NAME("dir"), "orphan_inode", true, NULL },
	{ "DELETE FROM dentry WHERE name=" NAME("pipe"), "orphan_inode", true, NULL },
	{ "UPDATE inode SET nlink=7 WHERE ino=%I(hard)", "wrong_nlink", false, "/hard" },
	{ "UPDATE inode SET nlink=7 WHERE ino=%I(hard)", "wrong_nlink", false, "/dir/link" },
	{ "UPDATE inode SET nlink=2 WHERE ino=%I(dir)", "wrong_nlink", false, "/dir" },
	{ "UPDATE inode SET nlink=99 WHERE ino=1", "wrong_nlink", false, "/" },
	{ "UPDATE inode SET parent=99 WHERE ino=%I(big)", "wrong_parent", false, "/dir/big" },
	{ "UPDATE inode SET parent=1 WHERE ino=%I(sub)", "wrong_parent", false, "/dir/sub" },
	{ "UPDATE inode SET parent=1 WHERE ino=%I(hard)", "wrong_parent", false, "/hard" },
	{ "UPDATE dentry SET parent=%I(sub) WHERE name=" NAME(
		  "dir") ";UPDATE inode SET parent=%I(sub) WHERE ino=%I(dir);"
			 "UPDATE inode SET nlink=2 WHERE ino=1;UPDATE inode SET nlink=3 WHERE "
			 "ino=%I(sub)",
	  "directory_loop", true, "dir" },
	{ "UPDATE dentry SET parent=%I(dir) WHERE name=" NAME("dir"), "directory_loop", true,
	  "dir" },
	{ "UPDATE dentry SET type=4 WHERE name=" NAME("tiny"), "wrong_entry_type", false, "/tiny" },
	{ "UPDATE dentry SET hash=hash+1 WHERE name=" NAME("tiny"), "wrong_hash", false, "/tiny" },
	{ "DELETE FROM inode WHERE ino=%I(dir)", "entry_without_directory", true, "dir/" },
	{ "DELETE FROM inode WHERE ino=%I(dir);DELETE FROM dentry WHERE name=" NAME("dir"),
	  "entry_without_directory", true, "?#" },
	{ "UPDATE dentry SET parent=4000 WHERE name=" NAME("tiny"), "entry_without_directory", true,
	  "tiny" },
	{ "UPDATE dentry SET name=" NAME("a/b") " WHERE name=" NAME("tiny"), "bad_name", true,
	  "/a/b" },
	{ "INSERT INTO dentry SELECT 1,hash+1," NAME(
		  "again") ",ino,type FROM dentry WHERE name=" NAME("sub"),
	  "extra_directory_entry", true, "/again" },
	{ "DELETE FROM inode WHERE ino=1", "root_missing", true, NULL },
	{ "UPDATE inode SET mode=493 WHERE ino=%I(pipe)", "bad_mode", true, "/pipe" },
	{ "DELETE FROM symlink WHERE ino=%I(sym)", "symlink_without_target", true, "/sym" },
	{ "UPDATE symlink SET target=" NAME("other") " WHERE ino=%I(sym)", "wrong_size", false,
	  "/sym" },
	{ "INSERT INTO symlink VALUES(%I(tiny)," NAME("x") ")", "stray_symlink_target", false,
	  "/tiny" },
	{ "INSERT INTO symlink VALUES(900," NAME("x") ")", "symlink_without_inode", false, NULL },
	{ "INSERT INTO xattr VALUES(900," NAME("user.x") "," NAME("y") ")", "xattr_without_inode",
	  false, NULL },
	{ "UPDATE inode SET flags=0 WHERE ino=%I(attr)", "wrong_flags", false, "/attr" },
	{ "INSERT INTO deleted VALUES(%I(tiny),1,1)", "deleted_but_linked", false, "/tiny" },
	{ "INSERT INTO deleted VALUES(%I(sub),1,1)", "deleted_but_linked", false, "/dir/sub" },
	{ "INSERT INTO deleted VALUES(900,1,1)", "deleted_without_inode", false, NULL },
	{ "UPDATE inode SET nlink=0 WHERE ino=%I(tiny);DELETE FROM dentry WHERE name=" NAME("tiny"),
	  "unlinked_leftover", false, NULL },
	{ "INSERT INTO claim VALUES(900,%I(tiny))", "claim_without_session", false, "/tiny" },
	/* extents */
	{ "UPDATE extent SET pos=67108864-1000 WHERE ino=%I(big)", "extent_over_edge", true,
	  "/dir/big" },
	{ "UPDATE extent SET len=0 WHERE ino=%I(big)", "bad_extent", true, "/dir/big" },
	{ "UPDATE extent SET pos=70000000 WHERE ino=%I(big)", "bad_extent", true, "/dir/big" },
	{ "UPDATE extent SET len=len+5000 WHERE ino=%I(big)", "extent_beyond_slice", true,
	  "/dir/big" },
	{ "UPDATE extent SET off=5000000 WHERE ino=%I(big)", "extent_beyond_slice", true,
	  "/dir/big" },
	{ "UPDATE extent SET ino=%I(pipe) WHERE ino=%I(big)", "extents_of_no_file", true, "/pipe" },
	{ "UPDATE inode SET used=5 WHERE ino=%I(big)", "wrong_used", false, "/dir/big" },
	{ "UPDATE inode SET used=5 WHERE ino=%I(dir)", "wrong_used", false, "/dir" },
	{ "UPDATE inode SET size=5 WHERE ino=%I(big)", "data_beyond_end", false, "/dir/big" },
	{ "UPDATE extent SET seq=seq+(1<<30) WHERE ino=%I(big)", "wrong_change", false,
	  "/dir/big" },
	/* slices */
	{ "UPDATE slice SET refs=7 WHERE id=%S(big)", "wrong_refs", false, "/dir/big" },
	{ "UPDATE slice SET refs=0 WHERE id=%S(tiny)", "wrong_refs", false, "/tiny" },
	{ "DELETE FROM extent WHERE ino=%I(big)", "slice_without_extents", false, NULL },
	{ "DELETE FROM slice WHERE id=%S(big)", "missing_slice", false, "/dir/big" },
	{ "DELETE FROM block WHERE slice=%S(big);DELETE FROM slice WHERE id=%S(big)",
	  "missing_slice", false, "/dir/big" },
	{ "UPDATE extent SET slice=900 WHERE ino=%I(big)", "missing_slice", true, "/dir/big" },
	{ "UPDATE extent SET slice=900 WHERE ino=%I(big)", "missing_slice_data", true, "/dir/big" },
	{ "DELETE FROM slice WHERE id=%S(tiny)", "missing_slice", true, "/tiny" },
	{ "INSERT INTO block VALUES(800,0,4096,x'00000000')", "block_without_slice", false, NULL },
	{ "INSERT INTO block VALUES(%S(big),9,4096,x'00000000')", "extra_block_record", false,
	  "/dir/big" },
	{ "DELETE FROM block WHERE slice=%S(big) AND idx=1", "missing_block_record", false,
	  "/dir/big" },
	{ "UPDATE block SET size=4096 WHERE slice=%S(big) AND idx=1", "bad_block_record", false,
	  "/dir/big" },
	{ "UPDATE block SET sums=x'00' WHERE slice=%S(big) AND idx=1", "bad_block_record", false,
	  "/dir/big" },
	{ "INSERT INTO freed SELECT id,1,1,len,block_size,pack FROM slice WHERE id=%S(big)",
	  "freed_in_use", false, "/dir/big" },
	{ "UPDATE slice SET block_size=12345 WHERE id=%S(big)", "bad_slice_record", false,
	  "/dir/big" },
	{ "UPDATE slice SET len=0 WHERE id=%S(big)", "bad_slice_record", false, "/dir/big" },
	{ "UPDATE slice SET sums=x'00' WHERE id=%S(tiny)", "bad_slice_record", false, "/tiny" },
	{ "UPDATE slice SET status=0 WHERE id=%S(big)", "wrong_slice_status", false, "/dir/big" },
	{ "UPDATE pack SET live=1", "wrong_pack_counts", false, NULL },
	{ "UPDATE pack SET slices=900", "wrong_pack_counts", false, NULL },
	{ "UPDATE pack SET size=1", "wrong_pack_counts", false, NULL },
	{ "DELETE FROM pack", "missing_pack_record", false, NULL },
	{ "UPDATE slice SET pack_off=(SELECT pack_off FROM slice WHERE id=%S(small)) WHERE "
	  "id=%S(tiny)",
	  "swapped_block", true, "/tiny" },
	/* counters and settings */
	{ "UPDATE counter SET value=value+1000 WHERE name='used_bytes'", "wrong_counter_used_bytes",
	  false, NULL },
	{ "UPDATE counter SET value=-5 WHERE name='used_bytes'", "wrong_counter_used_bytes", false,
	  NULL },
	{ "UPDATE counter SET value=1 WHERE name='inodes'", "wrong_counter_inodes", false, NULL },
	{ "UPDATE counter SET value=16 WHERE name='next_inode'", "wrong_counter_next_inode", false,
	  NULL },
	{ "UPDATE counter SET value=1 WHERE name='next_slice'", "wrong_counter_next_slice", false,
	  NULL },
	{ "UPDATE counter SET value=1 WHERE name='next_pack'", "wrong_counter_next_pack", false,
	  NULL },
	{ "UPDATE counter SET value=1 WHERE name='next_session'", "wrong_counter_next_session",
	  false, NULL },
	{ "INSERT INTO freed VALUES(700,1,900,4096,65536,0)", "wrong_counter_epoch", false, NULL },
	{ "DELETE FROM counter WHERE name='dirmove'", "wrong_counter_dirmove", false, NULL },
	{ "DELETE FROM counter WHERE name='used_bytes'", "wrong_counter_used_bytes", false, NULL },
	{ "DELETE FROM setting WHERE name='trash_ns'", "bad_setting", false, NULL },
	{ "UPDATE setting SET value=" NAME("12345") " WHERE name='block_size'", "bad_setting",
	  false, NULL },
	{ "DELETE FROM setting WHERE name='uuid'", "bad_setting", false, NULL },
	{ "DELETE FROM setting WHERE name='name'", "bad_setting", false, NULL },
};

static void expect(const struct damage *d, const struct seen *s, enum ks_fsck_level level)
{
	const struct note *n = NULL;
	bool path = false;

	for (size_t i = 0; i < s->n; i++) {
		if (strcmp(s->v[i].kind, d->kind) != 0)
			continue;
		n = &s->v[i];
		path = path || !d->path || strstr(n->paths, d->path);
	}
	if (!n || !path) {
		printf("# %s: no %s of %s:\n", d->sql, d->kind, d->path ? d->path : "(nothing)");
		print_seen(s);
	}
	ks_check(n);
	ks_check(path);
	ks_check_eq(n->repair, d->lossy ? KS_FSCK_R_LOSSY : KS_FSCK_R_SAFE);
	ks_check_eq(n->fixed, level == KS_FSCK_ALL || (level == KS_FSCK_SAFE && !d->lossy));
}

static void expect_clean(struct tv *v, const char *what)
{
	struct ks_fsck_result out;
	struct seen s;

	ks_check_ok(run(v, KS_FSCK_CHECK, KS_FSCK_READ, &s, &out));
	if (out.problems) {
		printf("# second run after: %s\n", what);
		print_seen(&s);
	}
	ks_check_eq(out.problems, 0);
}

KS_TEST(a_healthy_volume_is_clean)
{
	struct ks_fsck_result out;
	struct seen s;
	struct tv v;
	uint64_t before, after;

	tv_make(&v);
	before = tv_hash_file(v.db, 0);
	ks_check_ok(run(&v, KS_FSCK_CHECK, KS_FSCK_READ, &s, &out));
	print_seen(&s);
	after = tv_hash_file(v.db, 0);
	ks_check_eq(out.problems, 0);
	ks_check_eq(out.inodes, 13);
	ks_check_eq(out.directories, 3);
	ks_check_eq(out.leftovers, 0);
	ks_check(out.read_blocks >= 10);
	ks_check_eq(before, after);
	ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_READ, &s, &out));
	ks_check_eq(out.problems, 0);
	tv_remove(&v);
}

KS_TEST(records_check_only)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(damages); i++) {
		const struct damage *d = &damages[i];
		struct ks_fsck_result out;
		struct seen s;
		struct tv v;
		uint64_t before;

		tv_make(&v);
		tv_sql(&v, d->sql);
		before = tv_hash_file(v.db, 0);
		/* Settings can keep it from being opened. */
		bool quiet = ks_fail_quiet(true);
		int r = run(&v, KS_FSCK_CHECK, KS_FSCK_EXISTS, &s, &out);

		ks_fail_quiet(quiet);
		ks_check(r == 0 || (strcmp(d->kind, "bad_setting") == 0 &&
				    (r == -EBADMSG || r == -EMEDIUMTYPE)));
		expect(d, &s, KS_FSCK_CHECK);
		ks_check_eq(out.fixed, 0);
		ks_check_eq(before, tv_hash_file(v.db, 0));
		tv_remove(&v);
	}
}

KS_TEST(records_safe_repairs)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(damages); i++) {
		const struct damage *d = &damages[i];
		struct ks_fsck_result out;
		struct seen s;
		struct tv v;

		tv_make(&v);
		tv_sql(&v, d->sql);
		ks_check_ok(run(&v, KS_FSCK_SAFE, KS_FSCK_EXISTS, &s, &out));
		expect(d, &s, KS_FSCK_SAFE);
		if (!d->lossy && out.problems == out.fixed)
			expect_clean(&v, d->sql);
		tv_remove(&v);
	}
}

KS_TEST(records_all_repairs)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(damages); i++) {
		const struct damage *d = &damages[i];
		struct ks_fsck_result out;
		struct seen s;
		struct tv v;

		tv_make(&v);
		tv_sql(&v, d->sql);
		ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_EXISTS, &s, &out));
		expect(d, &s, KS_FSCK_ALL);
		if (out.fixed != out.problems)
			print_seen(&s);
		ks_check_eq(out.fixed, out.problems);
		expect_clean(&v, d->sql);
		tv_remove(&v);
	}
}

/* Of a directory whose inode is lost, the entries are left. */
KS_TEST(a_lost_directory_keeps_its_names)
{
	struct ks_fsck_result out;
	struct ks_volume *vol;
	struct ks_attr a, dir;
	struct seen s;
	struct tv v;

	tv_make(&v);
	tv_sql(&v, "DELETE FROM inode WHERE ino=%I(dir)");
	ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_EXISTS, &s, &out));
	print_seen(&s);
	ks_check(!find(&s, "dangling_entry") && !find(&s, "orphan_inode"));
	expect_clean(&v, "lost directory");
	vol = tv_open(&v, KS_SESSION_TOOL);
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, "dir", &dir));
	ks_check_eq(dir.mode, S_IFDIR | 0700);
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, dir.ino, "big", &a));
	ks_check_eq(a.size, 7 * KS_MIB / 2);
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, dir.ino, "sub", &a));
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, a.ino, "deep", &a));
	ks_check_ok(ks_volume_close(vol));
	tv_remove(&v);
}

/* Somebody comes when the inodes are counted already, and writes. */
struct late {
	struct seen s;
	struct tv *v;
	struct ks_volume *vol;
};

static void late_note(void *arg, const struct ks_fsck_problem *p)
{
	struct late *l = arg;

	note(&l->s, p);
}

static void come_late(void *arg, int pass, uint64_t done, uint64_t total, bool end)
{
	struct late *l = arg;

	(void)done;
	(void)total;
	(void)end;
	if (pass != 2 || l->vol)
		return;
	l->vol = tv_open(l->v, KS_SESSION_TOOL);
	tv_file(l->vol, KS_ROOT_INO, "late", KS_MIB, 9);
}

KS_TEST(who_comes_late_is_no_damage)
{
	struct late l = { .vol = NULL };
	struct ks_fsck_opts o = { .problem = late_note, .progress = come_late, .arg = &l };
	struct ks_fsck_result out = { 0 };
	struct ks_maint m = { 0 };
	struct tv v;

	tv_make(&v);
	l.v = &v;
	ks_check_ok(ks_maint_open(&m, &v.ref, false));
	ks_check_ok(ks_fsck(&m, &o, &out));
	print_seen(&l.s);
	ks_check(l.vol);
	ks_check_eq(out.problems, 0);
	ks_maint_close(&m);
	ks_check_ok(ks_volume_close(l.vol));
	tv_remove(&v);
}

/* ---- the trash ---- */

#define HOURS "(SELECT ino FROM inode WHERE parent=15)"
#define TRASHED "nlink=0 AND parent IN " HOURS

static const struct damage trash_damages[] = {
	{ "UPDATE inode SET used=used+1 WHERE parent=15", "wrong_trash_sum", false, "(trash)/2" },
	{ "UPDATE inode SET size=0 WHERE parent=15", "wrong_trash_sum", false, "(trash)/2" },
	{ "UPDATE inode SET nlink=1 WHERE mode>>12=8 AND " TRASHED, "wrong_nlink", false, "-tiny" },
	{ "UPDATE inode SET nlink=2 WHERE mode>>12=4 AND " TRASHED, "wrong_nlink", false, "-sub" },
	{ "UPDATE inode SET parent=0 WHERE mode>>12=8 AND " TRASHED, "wrong_parent", false,
	  "-tiny" },
	{ "UPDATE inode SET parent=1 WHERE mode>>12=4 AND " TRASHED, "wrong_parent", false,
	  "-sub" },
	{ "UPDATE dentry SET name=" NAME("tiny") " WHERE parent IN " HOURS, "bad_trash_entry", true,
	  "(trash)/2" },
	{ "UPDATE dentry SET hash=hash+1 WHERE parent IN " HOURS, "bad_trash_entry", true,
	  "-tiny" },
	{ "DELETE FROM dentry WHERE parent IN " HOURS, "orphan_inode", true, NULL },
	{ "UPDATE dentry SET name=" NAME("yesterday") " WHERE parent=15", "bad_trash_entry", true,
	  "(trash)/yesterday" },
	{ "UPDATE dentry SET hash=hash+1 WHERE parent=15", "bad_trash_entry", true, "(trash)/2" },
	{ "DELETE FROM dentry WHERE parent=15", "orphan_inode", true, NULL },
	{ "DELETE FROM inode WHERE ino=15", "entry_without_directory", true, NULL },
	{ "DELETE FROM inode WHERE parent=15", "dangling_entry", true, "(trash)/2" },
	{ "INSERT INTO dentry SELECT 1,77," NAME(
		  "back") ",ino,type FROM dentry WHERE parent IN " HOURS " AND type=8 LIMIT 1",
	  "trash_entry_of_live_file", false, "-deep" },
	{ "UPDATE dentry SET parent=(SELECT ino FROM inode WHERE mode>>12=4 AND " TRASHED
	  ") WHERE name=" NAME("small"),
	  "entry_without_directory", true, "small" },
	{ "UPDATE inode SET nlink=9 WHERE ino=15", "wrong_nlink", false, NULL },
	{ "UPDATE inode SET used=5 WHERE mode>>12=8 AND " TRASHED, "wrong_used", false, "-tiny" },
};

static void make_trash(struct tv *v)
{
	struct ks_volume *vol;
	struct ks_attr dir, sub;

	tv_make(v);
	tv_sql(v, "UPDATE setting SET value=" NAME("3600000000000") " WHERE name='trash_ns'");
	vol = tv_open(v, KS_SESSION_TOOL);
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, "dir", &dir));
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, dir.ino, "sub", &sub));
	ks_check_ok(ks_vfs_unlink(vol->vfs, &tv_ctx, sub.ino, "deep"));
	ks_check_ok(ks_vfs_rmdir(vol->vfs, &tv_ctx, dir.ino, "sub"));
	ks_check_ok(ks_vfs_unlink(vol->vfs, &tv_ctx, KS_ROOT_INO, "tiny"));
	ks_check_ok(ks_vfs_unlink(vol->vfs, &tv_ctx, KS_ROOT_INO, "sym"));
	ks_check_ok(ks_vfs_unlink(vol->vfs, &tv_ctx, KS_ROOT_INO, "hard"));
	ks_check_ok(ks_vfs_unlink(vol->vfs, &tv_ctx, dir.ino, "link"));
	ks_check_ok(ks_volume_close(vol));
}

KS_TEST(a_trash_is_clean)
{
	struct ks_trash_entry e = { 0 };
	char name[KS_TRASH_NAME_MAX + 1];
	struct ks_volume *vol;
	struct ks_attr dir;
	ks_ino_t moved;
	struct tv v;

	make_trash(&v);
	expect_clean(&v, "removals");
	/* A directory that was restored leaves a note, which names nothing. */
	vol = tv_open(&v, KS_SESSION_TOOL);
	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, "dir", &dir));
	ks_check_ok(ks_meta_trash_find(vol->meta, dir.ino + 1, &e, name, &moved));
	ks_check(S_ISDIR(e.attr.mode));
	ks_check_ok(ks_meta_trash_restore(vol->meta, &e, dir.ino, "sub", NULL));
	ks_check_ok(ks_volume_close(vol));
	expect_clean(&v, "a restored directory");
	vol = tv_open(&v, KS_SESSION_TOOL);
	ks_check_ok(ks_vfs_rmdir(vol->vfs, &tv_ctx, dir.ino, "sub"));
	ks_check_ok(ks_volume_close(vol));
	expect_clean(&v, "a restored directory that went again");
	tv_remove(&v);
}

KS_TEST(trash_repairs)
{
	const enum ks_fsck_level levels[] = { KS_FSCK_CHECK, KS_FSCK_SAFE, KS_FSCK_ALL };

	for (size_t i = 0; i < KS_ARRAY_SIZE(trash_damages) * 3; i++) {
		const struct damage *d = &trash_damages[i / 3];
		enum ks_fsck_level level = levels[i % 3];
		struct ks_fsck_result out;
		struct seen s;
		struct tv v;

		make_trash(&v);
		tv_sql(&v, d->sql);
		ks_check_ok(run(&v, level, KS_FSCK_EXISTS, &s, &out));
		expect(d, &s, level);
		if (level == KS_FSCK_ALL && out.fixed != out.problems)
			print_seen(&s);
		ks_check(level != KS_FSCK_ALL || out.fixed == out.problems);
		if (level == KS_FSCK_ALL || (level == KS_FSCK_SAFE && out.fixed == out.problems))
			expect_clean(&v, d->sql);
		tv_remove(&v);
	}
}

/* ---- damage in the store ---- */

enum touch {
	UNLINK,
	TRUNCATE,
	FLIP_DATA,
	FLIP_TRAILER,
	SWAP,
	PACK_DATA,
	PACK_HEADER,
	PACK_CUT,
	PACK_GONE
};

static const struct {
	enum touch what;
	const char *name;
	const char *kind;
	const char *paths;
	bool lossy, reading; /* found only by reading */
	uint64_t off, len;
} touches[] = {
	{ UNLINK, "big", "missing_block", "/dir/big", true, false, KS_MIB, KS_MIB },
	{ UNLINK, "hard", "missing_block", "/hard /dir/link", true, false, 0, KS_MIB },
	{ TRUNCATE, "big", "short_block", "/dir/big", true, false, KS_MIB, KS_MIB },
	{ FLIP_DATA, "big", "damaged_block", "/dir/big", true, true, KS_MIB + KS_PAGE_SIZE,
	  KS_PAGE_SIZE },
	{ FLIP_TRAILER, "big", "bad_trailer", "/dir/big", false, true, 0, 0 },
	{ SWAP, "big", "swapped_block", "/dir/big", true, true, KS_MIB, KS_MIB },
	{ SWAP, "big", "swapped_block", "/dir/twin", true, true, KS_MIB, KS_MIB },
	{ PACK_DATA, "small", "damaged_block", "/small", true, true, 0, KS_PAGE_SIZE },
	{ PACK_HEADER, "small", "bad_pack_header", "/small", false, true, 0, 0 },
	{ PACK_CUT, "tiny", "short_block", "/tiny", true, false, 0, 100 },
	{ PACK_GONE, "tiny", "missing_block", "/tiny", true, false, 0, 100 },
	{ PACK_GONE, "tiny", "missing_block", "/small", true, false, 0, 100000 },
};

static void touch(struct tv *v, enum touch what, const char *name)
{
	char path[700], other[700], tmp[720];
	uint32_t idx = strcmp(name, "big") == 0;

	tv_block_path(v, name, idx, path);
	switch (what) {
	case UNLINK:
	case PACK_GONE:
		ks_check_eq(unlink(path), 0);
		break;
	case TRUNCATE:
		ks_check_eq(truncate(path, 8192), 0);
		break;
	case FLIP_DATA:
		tv_flip(path, KS_PAGE_SIZE + 77);
		break;
	case FLIP_TRAILER:
		tv_flip(path, -5);
		break;
	case SWAP:
		tv_block_path(v, "twin", 1, other);
		snprintf(tmp, sizeof(tmp), "%s.x", path);
		ks_check_eq(rename(path, tmp), 0);
		ks_check_eq(rename(other, path), 0);
		ks_check_eq(rename(tmp, other), 0);
		break;
	case PACK_DATA:
		tv_flip(path, tv_pack_off(v, name) + 5);
		break;
	case PACK_HEADER:
		tv_flip(path, tv_pack_off(v, name) - 40);
		break;
	case PACK_CUT:
		ks_check_eq(truncate(path, tv_pack_off(v, name) + 10), 0);
		break;
	}
}

static bool has(const struct seen *s, size_t i, const struct note **out)
{
	for (size_t k = 0; k < s->n; k++) {
		bool all = true;
		char paths[200], *save = NULL;

		snprintf(paths, sizeof(paths), "%s", touches[i].paths);
		for (char *p = strtok_r(paths, " ", &save); p; p = strtok_r(NULL, " ", &save))
			all = all && strstr(s->v[k].paths, p);
		if (all && strcmp(s->v[k].kind, touches[i].kind) == 0) {
			*out = &s->v[k];
			return true;
		}
	}
	return false;
}

KS_TEST(blocks)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(touches); i++) {
		const struct note *n = NULL;
		struct ks_fsck_result out;
		struct seen s;
		struct tv v;

		tv_make(&v);
		touch(&v, touches[i].what, touches[i].name);
		ks_check_ok(run(&v, KS_FSCK_CHECK, KS_FSCK_EXISTS, &s, &out));
		if (has(&s, i, &n) == touches[i].reading)
			print_seen(&s);
		ks_check_eq(has(&s, i, &n), !touches[i].reading);
		ks_check_ok(run(&v, KS_FSCK_CHECK, KS_FSCK_READ, &s, &out));
		if (!has(&s, i, &n))
			print_seen(&s);
		ks_check(has(&s, i, &n));
		ks_check_eq(n->repair, touches[i].lossy ? KS_FSCK_R_LOSSY : KS_FSCK_R_SAFE);
		ks_check_eq(n->off, touches[i].off);
		ks_check_eq(n->len, touches[i].len);
		ks_check_ok(run(&v, KS_FSCK_SAFE, KS_FSCK_READ, &s, &out));
		ks_check(has(&s, i, &n));
		ks_check_eq(n->fixed, !touches[i].lossy);
		ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_READ, &s, &out));
		ks_check_eq(out.fixed, out.problems);
		expect_clean(&v, touches[i].kind);
		tv_remove(&v);
	}
}

/* The rest of a damaged file can be read where it lies then; the bad part goes on failing. */
KS_TEST(damaged_files_can_be_read_around)
{
	struct ks_fsck_result out;
	struct ks_volume *vol;
	struct ks_attr a;
	struct ks_open_how how;
	struct ks_fh *fh;
	struct seen s;
	struct tv v;
	char path[100];
	uint8_t buf[4096];
	uint64_t ino;

	tv_make(&v);
	vol = tv_open(&v, KS_SESSION_TOOL);
	ks_check_ok(ks_volume_path(vol->meta, "/dir/big", false, &a));
	ino = a.ino;
	ks_check_ok(ks_volume_close(vol));
	touch(&v, UNLINK, "big");
	ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_EXISTS, &s, &out));
	ks_check_eq(out.damaged_files, 1);
	ks_check_ok(run(&v, KS_FSCK_CHECK, KS_FSCK_EXISTS, &s, &out));
	ks_check_eq(out.quarantined, 1);
	ks_check_eq(out.damaged_files, 0);

	vol = tv_open(&v, KS_SESSION_TOOL);
	snprintf(path, sizeof(path), "/.lost+found/#%ju.big", (uintmax_t)ino);
	ks_check_ok(ks_volume_path(vol->meta, path, false, &a));
	ks_check_ok(ks_vfs_open(vol->vfs, &tv_ctx, a.ino, O_RDONLY, &fh, &how));
	ks_check_eq(ks_vfs_read(fh, &tv_ctx, 0, buf, sizeof(buf)), sizeof(buf));
	ks_check_eq(ks_vfs_read(fh, &tv_ctx, 2 * KS_MIB, buf, sizeof(buf)), sizeof(buf));
	bool quiet = ks_fail_quiet(true);

	ks_check(ks_vfs_read(fh, &tv_ctx, KS_MIB + 5, buf, sizeof(buf)) < 0);
	ks_fail_quiet(quiet);
	ks_vfs_release(fh);
	ks_check_ok(ks_volume_close(vol));
	tv_remove(&v);
}

KS_TEST(many_damages_at_once)
{
	struct ks_fsck_result out;
	struct seen s;
	struct tv v;

	tv_make(&v);
	for (size_t i = 0; i < KS_ARRAY_SIZE(damages); i += 3) {
		if (strcmp(damages[i].kind, "root_missing") != 0 &&
		    !strstr(damages[i].sql, "seq=seq"))
			KS_IGNORE(!tv_try_sql(
				&v,
				damages[i].sql)); /* an earlier one may have taken what it needs */
	}
	ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_READ, &s, &out));
	/* One repair may uncover another; they end. */
	for (int i = 0; i < 4 && out.problems; i++)
		ks_check_ok(run(&v, KS_FSCK_ALL, KS_FSCK_READ, &s, &out));
	print_seen(&s);
	ks_check_eq(out.problems, 0);
	tv_remove(&v);
}

/* Beside a session that is alive, nothing true is lost and nothing is made up. */
KS_TEST(beside_a_living_session)
{
	struct ks_fsck_result out;
	struct ks_volume *vol;
	struct seen s;
	struct tv v;

	tv_make(&v);
	tv_sql(&v, "UPDATE inode SET nlink=7 WHERE ino=%I(hard);UPDATE slice SET refs=9 WHERE "
		   "id=%S(big)");
	vol = tv_open(&v, KS_SESSION_MOUNT);
	tv_file(vol, KS_ROOT_INO, "new", 5 * KS_MIB, 9);
	ks_check_ok(run(&v, KS_FSCK_CHECK, KS_FSCK_READ, &s, &out));
	print_seen(&s);
	ks_check_eq(out.problems, 2);
	ks_check(find(&s, "wrong_nlink") && find(&s, "wrong_refs"));
	/* Repairing wants the volume for itself. */
	ks_check_eq(run(&v, KS_FSCK_SAFE, KS_FSCK_READ, &s, &out), -EBUSY);
	ks_check_ok(ks_volume_close(vol));
	ks_check_ok(run(&v, KS_FSCK_SAFE, KS_FSCK_READ, &s, &out));
	expect_clean(&v, "repairs after a session");
	tv_remove(&v);
}

static void *churn(void *arg)
{
	struct ks_volume *vol = ((void **)arg)[0];
	_Atomic bool *stop = ((void **)arg)[1];
	struct ks_attr dir, a;

	ks_check_ok(ks_vfs_mkdir(vol->vfs, &tv_ctx, KS_ROOT_INO, "churn", S_IFDIR | 0755, &dir));
	for (unsigned int i = 0; !*stop; i++) {
		char name[32], to[32];

		snprintf(name, sizeof(name), "f%u", i % 50);
		snprintf(to, sizeof(to), "g%u", i % 40);
		KS_IGNORE(ks_vfs_unlink(vol->vfs, &tv_ctx, dir.ino, name));
		tv_file(vol, dir.ino, name, (i % 7) * 90000, i);
		if (i % 3 == 0)
			KS_IGNORE(ks_vfs_rename(vol->vfs, &tv_ctx, dir.ino, name, KS_ROOT_INO, to,
						0));
		if (i % 5 == 0)
			KS_IGNORE(ks_vfs_mkdir(vol->vfs, &tv_ctx, KS_ROOT_INO, to, S_IFDIR | 0755,
					       &a));
		if (i % 11 == 0)
			KS_IGNORE(ks_vfs_rmdir(vol->vfs, &tv_ctx, KS_ROOT_INO, to));
	}
	return NULL;
}

KS_TEST(beside_a_busy_session_nothing_is_made_up)
{
	struct ks_fsck_result out;
	_Atomic bool stop = false;
	struct ks_volume *vol;
	struct seen s;
	pthread_t t;
	struct tv v;
	void *args[2];

	tv_make(&v);
	vol = tv_open(&v, KS_SESSION_MOUNT);
	args[0] = vol;
	args[1] = &stop;
	ks_check_eq(pthread_create(&t, NULL, churn, args), 0);
	for (int i = 0; i < 15; i++) {
		ks_check_ok(
			run(&v, KS_FSCK_CHECK, i & 1 ? KS_FSCK_READ : KS_FSCK_EXISTS, &s, &out));
		if (out.problems)
			print_seen(&s);
		ks_check_eq(out.problems, 0);
	}
	stop = true;
	pthread_join(t, NULL);
	ks_check_ok(ks_volume_close(vol));
	expect_clean(&v, "busy");
	tv_remove(&v);
}

KS_TEST(samples)
{
	struct ks_fsck_opts o = { .data = KS_FSCK_READ };
	struct ks_fsck_result out;
	struct ks_maint m = { 0 };
	uint64_t all, sum = 0;
	struct tv v;

	tv_make(&v);
	ks_check_ok(ks_maint_open(&m, &v.ref, false));
	ks_check_ok(ks_fsck(&m, &o, &out));
	all = out.read_blocks;
	for (uint64_t i = 1; i <= 3; i++) {
		o.sample.part = i;
		o.sample.of = 3;
		ks_check_ok(ks_fsck(&m, &o, &out));
		sum += out.read_blocks;
	}
	ks_check_eq(sum, all);
	o.sample = (struct ks_fsck_sample){ .share = 1e-9 };
	ks_check_ok(ks_fsck(&m, &o, &out));
	ks_check_eq(out.read_blocks, 0);
	o.sample = (struct ks_fsck_sample){ .bytes = 1 };
	ks_check_ok(ks_fsck(&m, &o, &out));
	ks_check(out.read_blocks <= 2);
	ks_maint_close(&m);
	tv_remove(&v);
}

/* Whatever is in the database's file: an answer, never a crash. */
KS_TEST(a_damaged_database)
{
	uint64_t seed = 42;
	struct tv v;

	for (int i = 0; i < 100; i++) {
		struct ks_fsck_result out;
		struct stat st;
		struct seen s;
		bool quiet;

		tv_make(&v);
		ks_check_eq(stat(v.db, &st), 0);
		for (int k = 0; k < 1 + i % 5; k++) {
			seed = ks_mix64(seed + (uint64_t)i);
			tv_flip(v.db, (int64_t)(seed % (uint64_t)st.st_size));
		}
		quiet = ks_fail_quiet(true);
		KS_IGNORE(run(&v, KS_FSCK_CHECK, KS_FSCK_READ, &s, &out) < 0);
		KS_IGNORE(run(&v, KS_FSCK_ALL, KS_FSCK_READ, &s, &out) < 0);
		ks_fail_quiet(quiet);
		tv_remove(&v);
	}
}

KS_TEST_MAIN()
