/* SPDX-License-Identifier: Apache-2.0 */
/* meta_trash_test.c: what goes to the trash and how, what comes back, and what is left when it is emptied. */
#include "meta/meta_testlib.h"

#include <stdio.h>

static struct ks_trash_sum sum(struct vol *v)
{
	struct ks_trash_sum s;

	ks_check_ok(ks_meta_trash_sum(v->m, &s));
	return s;
}

struct found {
	struct ks_trash_entry e;
	char name[KS_TRASH_NAME_MAX + 1];
};

static struct found find(struct vol *v, uint64_t ino)
{
	struct found f = { 0 };
	ks_ino_t moved = 0;

	ks_check_ok(ks_meta_trash_find(v->m, ino, &f.e, f.name, &moved));
	ks_check_eq(moved, 0);
	return f;
}

static int restore(struct vol *v, uint64_t ino, uint64_t dir, const char *name, uint64_t *now)
{
	struct found f = find(v, ino);
	struct ks_attr a = { 0 };
	int r;

	f.e.name.p = f.name;
	r = ks_meta_trash_restore(v->m, &f.e, dir, name, &a);
	if (now)
		*now = a.ino;
	return r;
}

static void empty(struct vol *v)
{
	struct ks_trash_sum s = { 0 };
	int r;

	while ((r = ks_meta_trash_purge(v->m, UINT64_MAX, &s)) > 0)
		;
	ks_check_ok(r);
	ks_check_eq(sum(v).entries, 0);
}

/* Everything is freed; nothing but the root and the trash's own is left. */
static void all_gone(struct vol *v)
{
	empty(v);
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_eq(count_rows(v, KS_T_DELETED), 0);
	ks_check_eq(count_rows(v, KS_T_EXTENT), 0);
	ks_check_eq(count_rows(v, KS_T_SLICE), 0);
	ks_check_eq(count_rows(v, KS_T_XATTR), 0);
	ks_check_eq(count_rows(v, KS_T_SYMLINK), 0);
	ks_check_eq(count_rows(v, KS_T_DENTRY), 0);
	ks_check_eq(count_rows(v, KS_T_INODE), 2);
}

KS_TEST(hours_have_names)
{
	char text[KS_TRASH_HOUR_STR];
	uint64_t h;

	ks_trash_hour_format(0, text);
	ks_check_str(text, "1970-01-01-00");
	/* Every hour of some years, over leap days and the ends of centuries. */
	for (uint64_t i = 0; i < 24 * 365 * 140; i += 5) {
		ks_trash_hour_format(i, text);
		ks_check(ks_trash_hour_parse(text, strlen(text), &h));
		ks_check_eq(h, i);
	}
	ks_check(ks_trash_hour_parse("2026-11-21-20", 13, &h));
	ks_check_eq(h, 498692);
	ks_check(!ks_trash_hour_parse("2026-02-29-00", 13, &h));
	ks_check(!ks_trash_hour_parse("2026-11-21-24", 13, &h));
	ks_check(!ks_trash_hour_parse("2026-11-21-2", 12, &h));
	ks_check(!ks_trash_hour_parse("2026-11-21 20", 13, &h));
	ks_check(!ks_trash_hour_parse("2026-13-21-20", 13, &h));
	ks_check(!ks_trash_hour_parse("1969-12-31-23", 13, &h));
	ks_check_eq(ks_trash_hour_before(100 * 3600 * KS_NS_PER_S, 0), 100);
	ks_check_eq(ks_trash_hour_before(100 * 3600 * KS_NS_PER_S, 3600 * KS_NS_PER_S), 99);
	ks_check_eq(ks_trash_hour_before(100 * 3600 * KS_NS_PER_S - 1, 3600 * KS_NS_PER_S), 98);
	ks_check_eq(ks_trash_hour_before(5, 6), 0);
}

KS_TEST(names_are_parsed)
{
	static const char *const bad[] = {
		"",      "1",   "1-",     "1-2", "1-2-", "-1-2-x",
		"a-2-x", "1-b", "01-2-x", "1--", "1- 2", "99999999999999999999-1-x"
	};
	ks_ino_t parent, ino;
	struct ks_bytes orig;

	ks_check_ok(ks_trash_name_parse(ks_bytes_str("1-17-a-b"), &parent, &ino, &orig));
	ks_check_eq(parent, 1);
	ks_check_eq(ino, 17);
	ks_check(orig.n == 3 && memcmp(orig.p, "a-b", 3) == 0);
	ks_check_eq(ks_trash_name_parse(ks_bytes_str("restored"), &parent, &ino, &orig), 1);
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check_eq(ks_trash_name_parse(ks_bytes_str(bad[i]), &parent, &ino, &orig),
			    -EINVAL);
}

ON_BOTH(off_means_gone)
{
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_attr a;

	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", &a));
	ks_check_eq(a.nlink, 0);
	ks_check_eq(a.parent, 0);
	ks_check_eq(sum(v).entries, 0);
	ks_check_eq(ks_meta_getattr(v->m, KS_TRASH_INO, &a), -ENOENT);
	/* And for who says so. */
	trash_on(v);
	ks_meta_no_trash(v->m);
	f = mkfile(v, ROOT, "g");
	put_slice(v, f, 0, 100, 0);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "g", &a));
	ks_check_eq(a.parent, 0);
	ks_check_eq(count_rows(v, KS_T_DELETED), 2);
}

ON_BOTH(unlink_and_restore)
{
	uint64_t f = mkfile(v, ROOT, "f"), now;
	struct ks_attr a, before;
	struct ks_meta_usage u;
	struct found e;

	trash_on(v);
	put_slice(v, f, 0, 5000, 0);
	before = attr_of(v, f);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", &a));
	ks_check_eq(a.ino, f);
	ks_check_eq(a.nlink, 0);
	ks_check(a.change > before.change);
	ks_check(a.ctime_ns > before.ctime_ns);
	ks_check_eq(ks_meta_lookup(v->m, ROOT, "f", &a), -ENOENT);
	ks_check_eq(count_rows(v, KS_T_DELETED), 0);
	ks_check_eq(sum(v).entries, 1);
	ks_check_eq(sum(v).bytes, 5000);
	ks_check_ok(ks_meta_usage(v->m, &u));
	ks_check_eq(u.used_bytes, 5000);
	ks_check_eq(u.inodes, 4); /* the root, the file, the trash, its hour */
	e = find(v, f);
	ks_check_eq(e.e.parent, ROOT);
	ks_check_eq(e.e.ino, f);
	ks_check_eq(e.e.attr.nlink, 0);
	ks_check(e.e.orig.n == 1 && *(const char *)e.e.orig.p == 'f');
	/* It is a name no more: neither a link nor a second removal. */
	ks_check_eq(ks_meta_link(v->m, f, ROOT, "again", NULL), -ENOENT);
	ks_check_eq(ks_meta_unlink(v->m, ROOT, "f", NULL), -ENOENT);
	vol_audit(v);
	/* Never over what is there. */
	mkfile(v, ROOT, "f");
	ks_check_eq(restore(v, f, ROOT, "f", NULL), -EEXIST);
	ks_check_ok(restore(v, f, ROOT, "f2", &now));
	ks_check_eq(now, f);
	a = attr_of(v, f);
	ks_check_eq(a.nlink, 1);
	ks_check_eq(a.parent, ROOT);
	ks_check_eq(a.mtime_ns, before.mtime_ns);
	ks_check_eq(a.used, 5000);
	ks_check_eq(sum(v).entries, 0);
	ks_check_eq(sum(v).bytes, 0);
	e.e.name.p = e.name;
	ks_check_eq(ks_meta_trash_restore(v->m, &e.e, ROOT, "f3", NULL), -ESTALE);
	vol_audit(v);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f2", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	all_gone(v);
}

ON_BOTH(other_names_stay)
{
	uint64_t f = mkfile(v, ROOT, "a");
	struct ks_attr a;

	trash_on(v);
	ks_check_ok(ks_meta_link(v->m, f, ROOT, "b", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "a", &a));
	ks_check_eq(a.nlink, 1);
	ks_check_eq(sum(v).entries, 0);
	/* For nothing not even a directory is made. */
	ks_check_eq(count_rows(v, KS_T_INODE), 2);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "b", &a));
	ks_check_eq(sum(v).entries, 1);
	ks_check_eq(find(v, f).e.parent, ROOT);
	all_gone(v);
}

ON_BOTH(directories_get_a_number)
{
	uint64_t d = mkdir_(v, ROOT, "d"), f, now, moved = 0;
	struct ks_attr a;
	struct found e;
	char name[KS_TRASH_NAME_MAX + 1];
	struct ks_buf value = { 0 };

	trash_on(v);
	f = mkfile(v, d, "f");
	ks_check_ok(ks_meta_setxattr(v->m, d, "user.k", "v", 1, 0));
	ks_check_eq(ks_meta_rmdir(v->m, ROOT, "d", &a), -ENOTEMPTY);
	ks_check_ok(ks_meta_unlink(v->m, d, "f", NULL));
	ks_check_ok(ks_meta_rmdir(v->m, ROOT, "d", &a));
	ks_check_eq(a.ino, d);
	ks_check_eq(a.nlink, 0);
	/* Who has it open finds nothing, and makes nothing. */
	ks_check_eq(ks_meta_getattr(v->m, d, &a), -ENOENT);
	ks_check_eq(ks_meta_mknod(v->m, &cred, d, "x", S_IFREG | 0644, 0, NULL, &a), -ENOENT);
	e = find(v, d);
	ks_check(e.e.attr.ino != d);
	ks_check(S_ISDIR(e.e.attr.mode));
	ks_check_eq(sum(v).entries, 2);
	vol_audit(v);
	/* Not into what is in the trash itself. */
	ks_check_eq(restore(v, f, e.e.attr.ino, "f", NULL), -ENOENT);
	ks_check_ok(restore(v, d, ROOT, "d", &now));
	ks_check_eq(attr_of(v, now).nlink, 2);
	ks_check_eq(attr_of(v, ROOT).nlink, 3);
	ks_check_ok(ks_meta_getxattr(v->m, now, "user.k", &value));
	ks_check(value.n == 1 && value.p[0] == 'v');
	ks_buf_clear(&value);
	/* What was in it is told where it is now. */
	ks_check_ok(ks_meta_trash_find(v->m, d, &e.e, name, &moved));
	ks_check_eq(moved, now);
	ks_check_ok(restore(v, f, now, "f", NULL));
	vol_audit(v);
	ks_check_ok(ks_meta_unlink(v->m, now, "f", NULL));
	ks_check_ok(ks_meta_rmdir(v->m, ROOT, "d", NULL));
	ks_check_eq(find(v, now).e.parent, ROOT);
	all_gone(v);
}

ON_BOTH(replaced_files_are_kept)
{
	uint64_t a = mkfile(v, ROOT, "a"), b = mkfile(v, ROOT, "b"), d = mkdir_(v, ROOT, "d");
	uint64_t e = mkdir_(v, ROOT, "e");
	struct ks_attr moved, replaced;

	trash_on(v);
	put_slice(v, b, 0, 300, 0);
	ks_check_ok(ks_meta_rename(v->m, &cred, ROOT, "a", ROOT, "b", 0, &moved, &replaced));
	ks_check_eq(moved.ino, a);
	ks_check_eq(replaced.ino, b);
	ks_check_eq(replaced.nlink, 0);
	ks_check_eq(sum(v).bytes, 300);
	ks_check_eq(find(v, b).e.parent, ROOT);
	ks_check_ok(mv(v, ROOT, "d", ROOT, "e", 0));
	ks_check(S_ISDIR(find(v, e).e.attr.mode));
	vol_audit(v);
	/* These replace nothing. */
	ks_check_ok(mv(v, ROOT, "b", ROOT, "e", KS_RENAME_EXCHANGE));
	ks_check_ok(mv(v, ROOT, "b", d, "b", KS_RENAME_EXCHANGE) == -ENOENT ? 0 : -EIO);
	ks_check_ok(mv(v, ROOT, "e", ROOT, "f", KS_RENAME_NOREPLACE));
	ks_check_ok(mv(v, ROOT, "f", ROOT, "g", 0));
	ks_check_eq(sum(v).entries, 2);
	ks_check_ok(restore(v, b, ROOT, "back", NULL));
	ks_check_eq(attr_of(v, b).used, 300);
}

ON_BOTH(made_over_another)
{
	uint64_t old = mkfile(v, ROOT, "f");
	struct ks_make mk1 = { .parent = ROOT,
			       .name = "f",
			       .flags = KS_MAKE_REPLACE,
			       .attr = { .mode = S_IFREG | 0644 } };

	trash_on(v);
	ks_check_ok(ks_meta_new_ino(v->m, &mk1.attr.ino));
	ks_check_ok(ks_meta_make(v->m, &cred, &mk1, 1));
	ks_check_ok(mk1.err);
	ks_check_eq(mk1.replaced.ino, old);
	ks_check_eq(sum(v).entries, 1);
	ks_check_ok(restore(v, old, ROOT, "old", NULL));
}

/* Symlinks, devices, and names as long as they may be come back as they were. */
ON_BOTH(all_kinds)
{
	char name[KS_NAME_MAX + 1];
	uint64_t l = mk(v, ROOT, "l", S_IFLNK | 0777), p = mk(v, ROOT, "p", S_IFIFO | 0600), n;
	struct ks_buf target = { 0 };
	struct found f;

	memset(name, 'x', KS_NAME_MAX);
	name[KS_NAME_MAX] = '\0';
	n = mkfile(v, ROOT, name);
	trash_on(v);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "l", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "p", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, name, NULL));
	f = find(v, n);
	ks_check_eq(f.e.orig.n, KS_NAME_MAX);
	ks_check_ok(restore(v, l, ROOT, "l", NULL));
	ks_check_ok(ks_meta_readlink(v->m, l, &target));
	ks_check(target.n == 6 && memcmp(target.p, "target", 6) == 0);
	ks_buf_clear(&target);
	ks_check_ok(restore(v, p, ROOT, "p", NULL));
	ks_check_ok(restore(v, n, ROOT, name, NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "l", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "p", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, name, NULL));
	all_gone(v);
}

/* Written, cut and punched while it is in the trash: the sums go along. */
ON_BOTH(sums_follow_open_files)
{
	uint64_t f = mkfile(v, ROOT, "f");

	trash_on(v);
	put_slice(v, f, 0, 1000, 0);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	put_slice(v, f, 1000, 500, 0);
	ks_check_eq(sum(v).bytes, 1500);
	set_size(v, f, 700);
	ks_check_eq(sum(v).bytes, 700);
	ks_check_ok(ks_meta_fallocate(v->m, f, KS_FALLOC_PUNCH, true, 0, 100, NULL));
	ks_check_eq(sum(v).bytes, 600);
	vol_audit(v);
	ks_check_ok(restore(v, f, ROOT, "f", NULL));
	ks_check_eq(sum(v).bytes, 0);
}

static bool open_hook(void *arg, ks_ino_t ino)
{
	return *(ks_ino_t *)arg == ino;
}

/* What is open lives on when the trash is emptied, too. */
static void emptied_while_open(bool sqlite)
{
	ks_ino_t open = 0;
	struct ks_meta_opts o = { .hooks = { .is_open = open_hook, .arg = &open } };
	struct vol v = { 0 };
	struct ks_attr a;

	vol_make(&v, sqlite, &o);
	trash_on(&v);
	ks_check_ok(ks_meta_session_start(v.m, KS_SESSION_TOOL, "test", "", ""));
	open = mkfile(&v, ROOT, "f");
	put_slice(&v, open, 0, 1000, 0);
	ks_check_ok(ks_meta_unlink(v.m, ROOT, "f", NULL));
	empty(&v);
	ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_ok(ks_meta_getattr(v.m, open, &a));
	ks_check_eq(a.nlink, 0);
	ks_check_eq(a.parent, 0);
	ks_check_ok(ks_meta_release(v.m, open));
	open = 0;
	for (int i = 0; i < 4; i++)
		ks_check_ok(ks_meta_tick(v.m, 0));
	ks_check_eq(ks_meta_getattr(v.m, a.ino, &a), -ENOENT);
	vol_audit(&v);
	ks_meta_close(v.m);
}

KS_TEST(emptied_while_open_mem)
{
	emptied_while_open(false);
}

KS_TEST(emptied_while_open_sqlite)
{
	emptied_while_open(true);
}

static int names_of(void *arg, const struct ks_trash_entry *e)
{
	uint64_t *n = arg;

	ks_check(e->attr.nlink == 0);
	++*n;
	return 0;
}

static int first_hour(void *arg, const struct ks_trash_hour *h)
{
	*(struct ks_trash_hour *)arg = *h;
	return 1;
}

/* Whole trees in batches, listed in stretches, purged in steps; beside a second opener whose remembered directory is gone. */
ON_BOTH(many)
{
	struct ks_remove rm[KS_REMOVE_MAX];
	char names[KS_REMOVE_MAX][16];
	struct ks_trash_cursor c = { 0 };
	struct ks_trash_hour h = { 0 };
	struct ks_trash_sum s = { 0 };
	uint64_t d = mkdir_(v, ROOT, "d"), n = 0;
	struct vol other = *v;
	int r;

	trash_on(v);
	ks_check_ok(ks_meta_open(&other.m, v->url, NULL));
	for (int k = 0; k < 3; k++) {
		for (unsigned int i = 0; i < 500; i++) {
			snprintf(names[i], sizeof(names[i]), "%d-%u", k, i);
			mk(v, d, names[i], i % 50 ? S_IFREG | 0644 : S_IFDIR | 0755);
			rm[i] = (struct ks_remove){ .parent = d,
						    .name = names[i],
						    .dir = i % 50 == 0 };
		}
		ks_check_ok(ks_meta_remove(v->m, rm, 500));
		for (unsigned int i = 0; i < 500; i++)
			ks_check_ok(rm[i].err);
	}
	rm[0] = (struct ks_remove){ .parent = ROOT, .name = "d", .dir = true };
	mkfile(v, ROOT, "x");
	rm[1] = (struct ks_remove){ .parent = ROOT, .name = "x" };
	ks_check_ok(ks_meta_remove(other.m, rm, 2));
	ks_check_ok(rm[0].err);
	ks_check_eq(sum(v).entries, 1502);
	ks_check_ok(ks_meta_trash_hours(v->m, first_hour, &h));
	while ((r = ks_meta_trash_list(v->m, &h, &c, names_of, &n)) > 0)
		;
	ks_check_ok(r);
	/* The hour may have changed meanwhile. */
	ks_check(n == h.entries);
	vol_audit(v);
	while ((r = ks_meta_trash_purge(v->m, UINT64_MAX, &s)) > 0)
		vol_audit(v);
	ks_check_ok(r);
	ks_check_eq(s.entries, 1502);
	/* Both remember the directory that went. */
	mkfile(v, ROOT, "y");
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "y", NULL));
	mkfile(v, ROOT, "z");
	ks_check_ok(ks_meta_unlink(other.m, ROOT, "z", NULL));
	ks_check_eq(sum(v).entries, 2);
	ks_meta_close(other.m);
	all_gone(v);
}

/* Only whole hours that are over, and older than they are kept. */
ON_BOTH(expiry)
{
	struct ks_trash_sum s = { 0 };

	trash_on(v);
	mkfile(v, ROOT, "f");
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	ks_check_ok(ks_meta_trash_expire(v->m, &s));
	ks_check_eq(s.entries, 0);
	ks_check_ok(ks_meta_trash_purge(v->m, sum(v).oldest_hour, &s));
	ks_check_eq(s.entries, 0);
	ks_check_ok(ks_meta_trash_purge(v->m, sum(v).oldest_hour + 1, &s));
	ks_check_eq(s.entries, 1);
}

struct race {
	struct vol *v;
	uint64_t dir;
	unsigned int id;
};

static void *racer(void *arg)
{
	struct race *x = arg;
	char name[24];

	for (unsigned int i = 0; i < 150; i++) {
		struct ks_trash_sum s = { 0 };

		snprintf(name, sizeof(name), "%u-%u", x->id, i);
		mkfile(x->v, x->dir, name);
		ks_check_ok(ks_meta_unlink(x->v->m, x->dir, name, NULL));
		if (x->id == 0 && i % 10 == 0)
			ks_check(ks_meta_trash_purge(x->v->m, UINT64_MAX, &s) >= 0);
	}
	return NULL;
}

/* Removals beside somebody who empties the trash again and again. */
ON_BOTH(removals_beside_purges)
{
	struct race x[4];
	pthread_t t[4];

	trash_on(v);
	for (unsigned int i = 0; i < 4; i++) {
		char name[8];

		snprintf(name, sizeof(name), "d%u", i);
		x[i] = (struct race){ .v = v, .dir = mkdir_(v, ROOT, name), .id = i };
		ks_check(pthread_create(&t[i], NULL, racer, &x[i]) == 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	vol_audit(v);
	empty(v);
}

KS_TEST_MAIN()
