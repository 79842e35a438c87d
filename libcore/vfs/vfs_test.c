/* SPDX-License-Identifier: Apache-2.0 */
/* vfs_test.c: metadata and data joined, in memory. */
#include "base/clock.h"
#include "base/thread.h"
#include "vfs/mem_testlib.h"
#include <fcntl.h>
#include <linux/falloc.h>

struct rig {
	struct ks_vfs *v;
	struct ks_object *faults; /* for ks_object_fault_set() */
	struct ks_ctx c, user;
};

static void start(struct rig *g, const char *name, bool readonly, ks_ino_t root)
{
	struct ks_meta_opts mo = { .readonly = readonly, .noatime = true };
	struct ks_vfs_opts vo = { .readonly = readonly,
				  .root = root,
				  .data = { .buffer_bytes = 32 * KS_MIB,
					    .flush_idle_ns = 3600 * KS_NS_PER_S,
					    .flush_age_ns = 3600 * KS_NS_PER_S } };

	*g = (struct rig){ .user = { .cred = { .uid = 1000, .gid = 1000 } } };
	g->v = vfs_in_memory(name, mo, vo, &g->faults);
}

static void stop(struct rig *g)
{
	ks_check_ok(ks_vfs_close(g->v));
}

static struct ks_fh *create(struct rig *g, const char *name, int flags, struct ks_attr *a)
{
	struct ks_open_how how;
	struct ks_fh *fh;

	ks_check_ok(ks_vfs_create(g->v, &g->c, KS_ROOT_INO, name, 0644, flags, a, &fh, &how));
	return fh;
}

static struct ks_fh *open_ino(struct rig *g, ks_ino_t ino, int flags)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;

	ks_check_ok(ks_vfs_open(g->v, &g->c, ino, flags, &fh, &how));
	return fh;
}

static void make(struct rig *g, const char *name, const char *text, struct ks_attr *a)
{
	struct ks_fh *fh = create(g, name, O_WRONLY, a);

	ks_check_eq(ks_vfs_write(fh, &g->c, 0, text, strlen(text)), (ssize_t)strlen(text));
	ks_check_ok(ks_vfs_flush(fh, &g->c));
	ks_vfs_release(fh);
}

static void check_text(struct rig *g, ks_ino_t ino, const char *text)
{
	struct ks_fh *fh = open_ino(g, ino, O_RDONLY);
	char buf[256];
	ssize_t n = ks_vfs_read(fh, &g->c, 0, buf, sizeof(buf) - 1);

	ks_check(n >= 0);
	buf[n < 0 ? 0 : n] = '\0';
	ks_check_str(buf, text);
	ks_vfs_release(fh);
}

static struct ks_attr attr_of(struct rig *g, ks_ino_t ino)
{
	struct ks_attr a = { 0 };

	ks_check_ok(ks_vfs_getattr(g->v, &g->c, ino, &a));
	return a;
}

static int find_entry(void *arg, const char *name, size_t n, uint64_t cookie, ks_ino_t ino,
		      uint32_t dtype, const struct ks_attr *a, bool glued)
{
	struct ks_attr *want = arg;

	(void)name;
	(void)n;
	(void)cookie;
	(void)dtype;
	(void)glued;
	if (a && ino == want->ino)
		*want = *a;
	return 0;
}

KS_TEST(overlay)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_fh *fh, *dir;
	int64_t before;

	start(&g, "overlay", false, 0);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_eq(a.size, 0);
	before = ks_clock_real_ns();
	ks_check_eq(ks_vfs_write(fh, &g.c, 100, "abc", 3), 3);
	/* Every way to see attributes shows what was written; the record does not know it. */
	b = attr_of(&g, a.ino);
	ks_check_eq(b.size, 103);
	ks_check(b.mtime_ns >= before - KS_NS_PER_S);
	ks_check(b.ctime_ns >= b.mtime_ns);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, "f", &b));
	ks_check_eq(b.size, 103);
	ks_check_ok(ks_vfs_opendir(g.v, &g.c, KS_ROOT_INO, &dir));
	b = (struct ks_attr){ .ino = a.ino };
	ks_check_ok(ks_vfs_readdir(dir, &g.c, 0, true, find_entry, &b));
	ks_check_eq(b.size, 103);
	ks_vfs_release(dir);
	ks_check_ok(ks_meta_getattr(ks_vfs_meta(g.v), a.ino, &b));
	ks_check_eq(b.size, 0);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_check_ok(ks_meta_getattr(ks_vfs_meta(g.v), a.ino, &b));
	ks_check_eq(b.size, 103);
	ks_vfs_release(fh);
	stop(&g);
}

KS_TEST(times_after_a_write)
{
	struct rig g;
	struct ks_attr a, in = { .mtime_ns = 42 * KS_NS_PER_S }, out;
	struct ks_fh *fh;

	start(&g, "times", false, 0);
	fh = create(&g, "f", O_WRONLY, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "abc", 3), 3);
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MTIME, &in, &out));
	ks_check_eq(out.mtime_ns, 42 * KS_NS_PER_S);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_vfs_release(fh);
	ks_check_eq(attr_of(&g, a.ino).mtime_ns, 42 * KS_NS_PER_S);
	stop(&g);
}

KS_TEST(unlinked_but_open)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_fh *fh, *second;
	struct ks_open_how how;
	struct ks_object_stats before, after;
	char buf[16];

	start(&g, "unlinked", false, 0);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "alive", 5), 5);
	ks_check_ok(ks_vfs_unlink(g.v, &g.c, KS_ROOT_INO, "f"));
	ks_check_eq(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, "f", &b), -ENOENT);
	ks_check_eq(attr_of(&g, a.ino).nlink, 0);
	ks_check_eq(attr_of(&g, a.ino).size, 5);
	/* By inode, as through /proc/self/fd. */
	second = open_ino(&g, a.ino, O_RDONLY);
	ks_check_eq(ks_vfs_read(second, &g.c, 0, buf, sizeof(buf)), 5);
	ks_check_mem(buf, "alive", 5);
	ks_vfs_release(second);
	/* What nobody can ever see is not uploaded. */
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_vfs_release(fh);
	ks_object_stats(ks_vfs_store(g.v), &after);
	ks_check_eq(after.put_bytes, before.put_bytes);
	while (ks_meta_reap(ks_vfs_meta(g.v)) > 0)
		;
	for (int i = 0; i < 100 && ks_meta_getattr(ks_vfs_meta(g.v), a.ino, &b) == 0; i++)
		usleep(100000);
	ks_check_eq(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh, &how), -ESTALE);
	ks_check_eq(ks_vfs_getattr(g.v, &g.c, a.ino, &b), -ESTALE);
	stop(&g);
}

static void keep_deleted(struct rig *g)
{
	struct ks_meta *m = ks_vfs_meta(g->v);
	struct ks_volume_settings s = *ks_meta_settings(m);

	s.trash_ns = 3600 * KS_NS_PER_S;
	ks_check_ok(ks_meta_settings_set(m, &s));
}

static void restore(struct rig *g, ks_ino_t ino, const char *name)
{
	struct ks_trash_entry e = { 0 };
	char buf[KS_TRASH_NAME_MAX + 1];
	ks_ino_t moved;

	ks_check_ok(ks_meta_trash_find(ks_vfs_meta(g->v), ino, &e, buf, &moved));
	ks_check_ok(ks_meta_trash_restore(ks_vfs_meta(g->v), &e, KS_ROOT_INO, name, NULL));
}

/* Programs see what they see on any file system, and what they write until the end is what comes back. */
KS_TEST(trashed_but_open)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_fh *fh;
	char buf[16];

	start(&g, "trashed", false, 0);
	keep_deleted(&g);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "alive", 5), 5);
	ks_check_ok(ks_vfs_unlink(g.v, &g.c, KS_ROOT_INO, "f"));
	ks_check_eq(attr_of(&g, a.ino).nlink, 0);
	ks_check_eq(attr_of(&g, a.ino).size, 5);
	ks_check_eq(ks_vfs_link(g.v, &g.c, a.ino, KS_ROOT_INO, "g", &b), -ENOENT);
	ks_check_eq(ks_vfs_write(fh, &g.c, 5, " and well", 9), 9);
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), 14);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_check_eq(ks_vfs_write(fh, &g.c, 14, "!", 1), 1);
	ks_vfs_release(fh);
	restore(&g, a.ino, "f");
	ks_check_eq(attr_of(&g, a.ino).nlink, 1);
	check_text(&g, a.ino, "alive and well!");
	/* What a rename replaces is kept whole, too. */
	fh = create(&g, "new", O_WRONLY, &b);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "new", 3), 3);
	ks_vfs_release(fh);
	ks_check_ok(ks_vfs_rename(g.v, &g.c, KS_ROOT_INO, "new", KS_ROOT_INO, "f", 0));
	restore(&g, a.ino, "old");
	check_text(&g, a.ino, "alive and well!");
	check_text(&g, b.ino, "new");
	stop(&g);
}

KS_TEST(tmpfile_gets_a_name)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_fh *fh;

	start(&g, "tmpfile", false, 0);
	ks_check_ok(ks_vfs_tmpfile(g.v, &g.c, KS_ROOT_INO, 0600, O_RDWR, &a, &fh));
	ks_check_eq(a.nlink, 0);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "named", 5), 5);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_check_ok(ks_vfs_link(g.v, &g.c, a.ino, KS_ROOT_INO, "t", &b));
	ks_check_eq(b.nlink, 1);
	ks_check_eq(b.size, 5);
	ks_vfs_release(fh);
	check_text(&g, a.ino, "named");
	stop(&g);
}

KS_TEST(truncation)
{
	struct rig g;
	struct ks_attr a, in = { .size = 3 }, out;
	struct ks_fh *fh;
	char buf[16];

	start(&g, "truncate", false, 0);
	make(&g, "f", "0123456789", &a);
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_SIZE, &in, &out));
	ks_check_eq(out.size, 3);
	in.size = 6;
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_SIZE, &in, &out));
	fh = open_ino(&g, a.ino, O_RDWR);
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), 6);
	ks_check_mem(buf, "012\0\0\0", 6);
	/* With data not committed on both sides of the cut. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 1, "xyzuvw", 6), 6);
	in.size = 4;
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_SIZE, &in, &out));
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), 4);
	ks_check_mem(buf, "0xyz", 4);
	/* O_TRUNC beside an open handle. */
	ks_vfs_release(open_ino(&g, a.ino, O_WRONLY | O_TRUNC));
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), 0);
	ks_check_eq(attr_of(&g, a.ino).size, 0);
	ks_vfs_release(fh);
	in.size = KS_FILE_MAX + 1;
	ks_check_eq(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_SIZE, &in, &out), -EFBIG);
	ks_check_eq(ks_vfs_setattr(g.v, &g.c, 999999, KS_SET_SIZE, &a, &out), -ESTALE);
	stop(&g);
}

KS_TEST(allocate_and_seek)
{
	struct rig g;
	struct ks_attr a;
	struct ks_fh *fh;
	uint64_t at;
	char *buf = malloc(300000);

	start(&g, "falloc", false, 0);
	memset(buf, 'x', 300000);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, buf, 300000), 300000);
	ks_check_ok(ks_vfs_fallocate(fh, &g.c, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 65536,
				     131072));
	ks_check_eq(ks_vfs_read(fh, &g.c, 65535, buf, 3), 3);
	ks_check_mem(buf, "x\0\0", 3);
	ks_check_ok(ks_vfs_seek(fh, &g.c, 0, SEEK_HOLE, &at));
	ks_check_eq(at, 65536);
	ks_check_ok(ks_vfs_seek(fh, &g.c, 65536, SEEK_DATA, &at));
	ks_check_eq(at, 65536 + 131072);
	/* A write that is not committed is data. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 100000, "y", 1), 1);
	ks_check_ok(ks_vfs_seek(fh, &g.c, 65536, SEEK_DATA, &at));
	ks_check(at >= 65536 && at <= 100000);
	ks_check_eq(ks_vfs_seek(fh, &g.c, 300000, SEEK_DATA, &at), -ENXIO);
	ks_check_ok(ks_vfs_fallocate(fh, &g.c, 0, 300000, 100000));
	ks_check_eq(attr_of(&g, a.ino).size, 400000);
	ks_check_ok(ks_vfs_fallocate(fh, &g.c, FALLOC_FL_KEEP_SIZE, 400000, 100000));
	ks_check_ok(ks_vfs_fallocate(fh, &g.c, FALLOC_FL_ZERO_RANGE, 399999, 2));
	ks_check_eq(attr_of(&g, a.ino).size, 400001);
	ks_check_eq(ks_vfs_fallocate(fh, &g.c, FALLOC_FL_COLLAPSE_RANGE, 0, 65536), -EOPNOTSUPP);
	ks_check_eq(ks_vfs_fallocate(fh, &g.c, 0, KS_FILE_MAX, 1), -EFBIG);
	ks_check_eq(ks_vfs_fallocate(fh, &g.c, 0, 0, 0), -EINVAL);
	ks_vfs_release(fh);
	free(buf);
	stop(&g);
}

KS_TEST(copy_range)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_fh *src, *dst;
	struct ks_object_stats before, after;
	char *data = malloc(1000000), *back = malloc(1000000);

	start(&g, "copy", false, 0);
	for (int i = 0; i < 1000000; i++)
		data[i] = (char)(i * 7 + i / 256);
	src = create(&g, "a", O_RDWR, &a);
	dst = create(&g, "b", O_RDWR, &b);
	ks_check_eq(ks_vfs_write(src, &g.c, 0, data, 1000000), 1000000);
	ks_check_eq(ks_vfs_write(dst, &g.c, 0, "head", 4), 4);
	ks_check_ok(ks_vfs_flush(src, &g.c));
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_eq(ks_vfs_copy_range(src, 100, dst, 4, 2000000, &g.c), 999900);
	ks_object_stats(ks_vfs_store(g.v), &after);
	/* Shared, not copied. */
	ks_check(after.put_bytes - before.put_bytes < 100000);
	ks_check_eq(attr_of(&g, b.ino).size, 999904);
	ks_check_eq(ks_vfs_read(dst, &g.c, 0, back, 1000000), 999904);
	ks_check_mem(back, "head", 4);
	ks_check_mem(back + 4, data + 100, 999900);
	ks_check_eq(ks_vfs_copy_range(src, 0, src, 10, 100, &g.c), -EINVAL);
	ks_check_eq(ks_vfs_copy_range(src, 0, src, 2000000, 100, &g.c), 100);
	ks_check_eq(ks_vfs_copy_range(src, 5000000, dst, 0, 100, &g.c), 0);
	ks_vfs_release(src);
	ks_vfs_release(dst);
	free(data);
	free(back);
	stop(&g);
}

KS_TEST(setuid_does_not_survive_a_write)
{
	struct rig g;
	struct ks_attr a, in = { .mode = 06755 }, out;
	struct ks_buf cap = { 0 };
	struct ks_fh *fh;

	start(&g, "suid", false, 0);
	make(&g, "f", "abc", &a);
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &out));
	ks_check_ok(ks_vfs_setxattr(g.v, &g.c, a.ino, "security.capability", "x", 1, 0));
	fh = open_ino(&g, a.ino, O_WRONLY);
	/* root keeps the bits, but capabilities go. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "x", 1), 1);
	ks_check_eq(attr_of(&g, a.ino).mode & 07777, 06755);
	ks_check_eq(ks_vfs_getxattr(g.v, &g.c, a.ino, "security.capability", &cap), -ENODATA);
	ks_check_eq(ks_vfs_write(fh, &g.user, 0, "y", 1), 1);
	ks_check_eq(attr_of(&g, a.ino).mode & 07777, 0755);
	/* Also when they come back under an open handle. */
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &out));
	ks_check_eq(ks_vfs_write(fh, &g.user, 0, "z", 1), 1);
	ks_check_eq(attr_of(&g, a.ino).mode & 07777, 0755);
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &out));
	in.uid = 7;
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_UID, &in, &out));
	ks_check_eq(out.mode & 07777, 0755);
	ks_vfs_release(fh);
	ks_buf_clear(&cap);
	stop(&g);
}

KS_TEST(chattr)
{
	struct rig g;
	struct ks_attr a, in = { .flags = KS_INODE_APPEND }, out;
	struct ks_ctx pages = { 0 };
	struct ks_open_how how;
	struct ks_fh *fh;

	start(&g, "chattr", false, 0);
	make(&g, "f", "abc", &a);
	ks_check_ok(ks_vfs_setxattr(g.v, &g.c, a.ino, "user.a", "b", 1, 0));
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_FLAGS, &in, &out));
	ks_check_eq(ks_vfs_open(g.v, &g.c, a.ino, O_WRONLY, &fh, &how), -EPERM);
	fh = open_ino(&g, a.ino, O_WRONLY | O_APPEND);
	/* Other attributes than capabilities are no reason to refuse a write. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 3, "d", 1), 1);
	in.flags = KS_INODE_IMMUTABLE;
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_FLAGS, &in, &out));
	/* Nor does who had it open before write any more. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 4, "e", 1), -EPERM);
	ks_check_eq(ks_vfs_write(fh, &g.c, 4, "e", 1), -EPERM);
	pages.flags |= KS_VFS_PAGES;
	ks_check_eq(ks_vfs_write(fh, &pages, 4, "e", 1), 1);
	ks_vfs_release(fh);
	ks_check_eq(ks_vfs_open(g.v, &g.c, a.ino, O_WRONLY | O_APPEND, &fh, &how), -EPERM);
	ks_vfs_release(open_ino(&g, a.ino, O_RDONLY));
	stop(&g);
}

KS_TEST(keep_cache)
{
	struct rig g;
	struct ks_attr a, in = { .mode = 0600 }, out;
	struct ks_open_how how;
	struct ks_fh *fh, *fh2;
	char c;

	start(&g, "keep", false, 0);
	make(&g, "f", "abc", &a);
	/* A change past this vfs, as by another mount. */
	ks_check_ok(ks_meta_setattr(ks_vfs_meta(g.v), a.ino, KS_SET_MODE, &in, &out));
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh, &how));
	ks_check(!how.keep_cache);
	ks_check(!how.direct_io);
	/* Nothing shows yet that the kernel has acted upon the first open. */
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh2, &how));
	ks_check(!how.keep_cache);
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, &c, 1), 1);
	ks_vfs_release(fh2);
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_WRONLY, &fh2, &how));
	ks_check(how.keep_cache);
	ks_check(how.direct_io);
	/* Our own changes keep it: the kernel's pages follow them. */
	ks_check_eq(ks_vfs_write(fh2, &g.c, 0, "x", 1), 1);
	ks_check_ok(ks_vfs_flush(fh2, &g.c));
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &out));
	ks_vfs_release(fh2);
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh2, &how));
	ks_check(how.keep_cache);
	ks_vfs_release(fh2);
	/* One in between that is not ours, then one of ours: the gap shows. */
	ks_check_ok(ks_meta_setattr(ks_vfs_meta(g.v), a.ino, KS_SET_MODE, &in, &out));
	ks_check_ok(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &out));
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh2, &how));
	ks_check(!how.keep_cache);
	ks_vfs_release(fh2);
	ks_vfs_release(fh);
	stop(&g);
}

KS_TEST(rename_over_syncs_first)
{
	struct rig g;
	struct ks_attr a, b;
	struct ks_object_stats before, after;

	start(&g, "renameover", false, 0);
	make(&g, "old", "old", &a);
	ks_check_ok(ks_vfs_syncfs(g.v));
	make(&g, "new", "new content", &b);
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_ok(ks_vfs_rename(g.v, &g.c, KS_ROOT_INO, "new", KS_ROOT_INO, "old", 0));
	ks_object_stats(ks_vfs_store(g.v), &after);
	ks_check_eq(after.syncs, before.syncs + 1);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, "old", &a));
	ks_check_eq(a.ino, b.ino);
	check_text(&g, a.ino, "new content");
	/* Nothing new since, or nothing replaced: no sync. */
	make(&g, "third", "3", &b);
	ks_check_ok(ks_vfs_rename(g.v, &g.c, KS_ROOT_INO, "third", KS_ROOT_INO, "fourth", 0));
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_eq(before.syncs, after.syncs);
	ks_check_eq(ks_vfs_rename(g.v, &g.c, KS_ROOT_INO, "old", KS_ROOT_INO, "fourth",
				  KS_RENAME_NOREPLACE),
		    -EEXIST);
	ks_check_ok(ks_vfs_rename(g.v, &g.c, KS_ROOT_INO, "old", KS_ROOT_INO, "fourth",
				  KS_RENAME_EXCHANGE));
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, "fourth", &a));
	check_text(&g, a.ino, "new content");
	stop(&g);
}

KS_TEST(errors_reach_fsync_and_pass)
{
	struct rig g;
	struct ks_attr a;
	struct ks_fh *fh;

	start(&g, "errors", false, 0);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "precious", 8), 8);
	ks_check_ok(ks_object_fault_set(g.faults, "put:fail=EIO:every=1,append:fail=EIO:every=1"));
	ks_check_eq(ks_vfs_fsync(fh, &g.c, false), -EIO);
	ks_check_eq(ks_vfs_flush(fh, &g.c), -EIO);
	ks_check_eq(attr_of(&g, a.ino).size, 8);
	/* Not sticky, and nothing is lost. */
	ks_check_ok(ks_object_fault_set(g.faults, ""));
	ks_check_ok(ks_vfs_fsync(fh, &g.c, false));
	ks_vfs_release(fh);
	check_text(&g, a.ino, "precious");
	stop(&g);
}

struct count {
	int n, dots;
	int room;
	uint64_t last;
};

static int count_entry(void *arg, const char *name, size_t n, uint64_t cookie, ks_ino_t ino,
		       uint32_t dtype, const struct ks_attr *a, bool glued)
{
	struct count *k = arg;

	(void)ino;
	(void)dtype;
	(void)a;
	(void)glued;
	if (k->room-- == 0)
		return 1;
	k->n++;
	k->dots += name[0] == '.' && n <= 2;
	k->last = cookie;
	return 0;
}

KS_TEST(reading_directories)
{
	struct rig g;
	struct ks_attr a, d;
	struct ks_fh *dir;
	struct count k = { 0 };
	char name[16];

	start(&g, "readdir", false, 0);
	ks_check_ok(ks_vfs_mkdir(g.v, &g.c, KS_ROOT_INO, "d", 0755, &d));
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ks_check_ok(ks_vfs_mknod(g.v, &g.c, d.ino, name, S_IFREG | 0644, 0, &a));
	}
	ks_check_ok(ks_vfs_opendir(g.v, &g.c, d.ino, &dir));
	for (int before = -1; k.n != before;) {
		before = k.n;
		k.room = 7;
		ks_check_ok(ks_vfs_readdir(dir, &g.c, k.last, k.n % 2, count_entry, &k));
	}
	ks_check_eq(k.n, 1002);
	ks_check_eq(k.dots, 2);
	/* Half of it goes while it is read: what stays is seen once. */
	k = (struct count){ .room = 500 };
	ks_check_ok(ks_vfs_readdir(dir, &g.c, 0, false, count_entry, &k));
	ks_check_eq(k.n, 500);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ks_check_ok(ks_vfs_unlink(g.v, &g.c, d.ino, name));
	}
	k.room = 10000;
	ks_check_ok(ks_vfs_readdir(dir, &g.c, k.last, true, count_entry, &k));
	ks_check_eq(k.n, 500);
	ks_check_ok(ks_vfs_rmdir(g.v, &g.c, KS_ROOT_INO, "d"));
	k = (struct count){ .room = 10 };
	ks_check_ok(ks_vfs_readdir(dir, &g.c, 0, true, count_entry, &k));
	ks_check_eq(k.n, 0);
	ks_vfs_release(dir);
	stop(&g);
}

KS_TEST(resolve)
{
	struct rig g;
	struct ks_attr d, f, a;

	start(&g, "resolve", false, 0);
	ks_check_ok(ks_vfs_mkdir(g.v, &g.c, KS_ROOT_INO, "d", 0755, &d));
	ks_check_ok(ks_vfs_mknod(g.v, &g.c, d.ino, "f", S_IFREG | 0644, 0, &f));
	ks_check_ok(ks_vfs_symlink(g.v, &g.c, KS_ROOT_INO, "abs", "/d", &a));
	ks_check_ok(ks_vfs_symlink(g.v, &g.c, d.ino, "up", "../d/./f", &a));
	ks_check_ok(ks_vfs_symlink(g.v, &g.c, KS_ROOT_INO, "loop", "loop", &a));
	ks_check_ok(ks_vfs_resolve(g.v, &g.c, "/", true, &a));
	ks_check_eq(a.ino, KS_ROOT_INO);
	ks_check_ok(ks_vfs_resolve(g.v, &g.c, "//d/../../d//f", true, &a));
	ks_check_eq(a.ino, f.ino);
	ks_check_ok(ks_vfs_resolve(g.v, &g.c, "abs/up", true, &a));
	ks_check_eq(a.ino, f.ino);
	ks_check_ok(ks_vfs_resolve(g.v, &g.c, "abs/up", false, &a));
	ks_check(S_ISLNK(a.mode));
	ks_check_eq(ks_vfs_resolve(g.v, &g.c, "loop", true, &a), -ELOOP);
	ks_check_eq(ks_vfs_resolve(g.v, &g.c, "d/none", true, &a), -ENOENT);
	ks_check_eq(ks_vfs_resolve(g.v, &g.c, "d/f/x", true, &a), -ENOTDIR);
	ks_check_eq(ks_vfs_resolve(g.v, &g.c, "d/f/", true, &a), -ENOTDIR);
	ks_check_ok(ks_vfs_resolve(g.v, &g.c, "d/", true, &a));
	stop(&g);
}

KS_TEST(readonly)
{
	struct rig g, ro;
	struct ks_attr a, b;
	struct ks_open_how how;
	struct ks_fh *fh;

	start(&g, "readonly", false, 0);
	make(&g, "f", "abc", &a);
	start(&ro, "readonly", true, 0);
	check_text(&ro, a.ino, "abc");
	ks_check_eq(ks_vfs_open(ro.v, &ro.c, a.ino, O_WRONLY, &fh, &how), -EROFS);
	ks_check_eq(ks_vfs_mkdir(ro.v, &ro.c, KS_ROOT_INO, "d", 0755, &b), -EROFS);
	ks_check_eq(ks_vfs_unlink(ro.v, &ro.c, KS_ROOT_INO, "f"), -EROFS);
	ks_check_eq(ks_vfs_setattr(ro.v, &ro.c, a.ino, KS_SET_MODE, &a, &b), -EROFS);
	stop(&ro);
	stop(&g);
}

KS_TEST(a_try_changes_nothing)
{
	struct rig g;
	struct ks_attr a, other, in = { .size = 1, .mtime_ns = 7 }, b;
	struct ks_ctx try = { .flags = KS_VFS_NOBLOCK };
	KS_AUTO(ks_freep) char *big = calloc(1, KS_MIB);
	struct ks_open_how how = { 0 };
	struct ks_fh *fh, *to, *third;

	ks_check(big != NULL);
	start(&g, "try", false, 0);
	fh = create(&g, "f", O_RDWR, &a);
	ks_check_ok(ks_vfs_flush(fh, &try));
	/* What one append stores is not worth another thread. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "abc", 3), 3);
	ks_check_ok(ks_vfs_flush(fh, &try));
	ks_check_ok(ks_vfs_fsync(fh, &try, false));
	to = create(&g, "to", O_RDWR, &other);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "abcd", 4), 4);
	ks_check_eq(ks_vfs_copy_range(fh, 0, to, 0, 4, &try), 4);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "abcde", 5), 5);
	ks_check_ok(ks_vfs_setattr(g.v, &try, a.ino, KS_SET_MTIME, &in, &b));
	ks_check_eq(attr_of(&g, a.ino).mtime_ns, 7);
	ks_check_eq(attr_of(&g, a.ino).size, 5);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "ABCDE", 5), 5);
	ks_check_ok(ks_vfs_fallocate(fh, &try, FALLOC_FL_ZERO_RANGE, 8, 1));
	ks_check_ok(ks_vfs_setattr(g.v, &try, a.ino, KS_SET_SIZE, &in, &b));
	check_text(&g, a.ino, "A");
	/* What has more to store is. */
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, big, KS_MIB), KS_MIB);
	ks_check_eq(ks_vfs_flush(fh, &try), -EWOULDBLOCK);
	ks_check_eq(ks_vfs_setattr(g.v, &try, a.ino, KS_SET_MTIME, &in, &b), -EWOULDBLOCK);
	ks_check_eq(ks_vfs_open(g.v, &try, a.ino, O_RDWR | O_TRUNC, &third, &how), -EWOULDBLOCK);
	ks_check_eq(ks_vfs_copy_range(fh, 0, to, 4, 4, &try), -EWOULDBLOCK);
	/* Other files have nothing to do with it. */
	ks_check_ok(ks_vfs_setattr(g.v, &try, other.ino, KS_SET_MTIME, &in, &b));
	ks_check_ok(ks_vfs_open(g.v, &try, other.ino, O_RDWR | O_TRUNC, &third, &how));
	ks_vfs_release(third);
	ks_vfs_release(to);
	ks_check_eq(ks_vfs_fsync(fh, &try, false), -EWOULDBLOCK);
	ks_check_eq(ks_vfs_setattr(g.v, &try, a.ino, KS_SET_SIZE, &in, &b), -EWOULDBLOCK);
	ks_check_eq(ks_vfs_fallocate(fh, &try, FALLOC_FL_ZERO_RANGE, 0, 1), -EWOULDBLOCK);
	ks_check_eq(attr_of(&g, a.ino).size, KS_MIB);
	ks_vfs_release(fh);
	stop(&g);
}

KS_TEST(close_releases_and_stores)
{
	struct rig g, h;
	struct ks_attr a;
	struct ks_fh *fh, *dir;

	start(&h, "close", false, 0); /* keeps the memory volume alive */
	start(&g, "close", false, 0);
	fh = create(&g, "f", O_WRONLY, &a);
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "kept", 4), 4);
	ks_check_ok(ks_vfs_opendir(g.v, &g.c, KS_ROOT_INO, &dir));
	stop(&g);
	check_text(&h, a.ino, "kept");
	stop(&h);
}

#define RACERS 4
static struct rig race;

static void *racer(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	struct ks_ctx c = { 0 };
	char buf[5000] = "x", name[8];

	for (int i = 0; i < 400; i++) {
		struct ks_attr a, in = { .size = (uint64_t)(rand_r(&seed) % 6000) };
		struct ks_open_how how;
		struct ks_fh *fh = NULL;
		int r;

		snprintf(name, sizeof(name), "r%d", rand_r(&seed) % 4);
		r = ks_vfs_create(race.v, &c, KS_ROOT_INO, name, 0644, O_RDWR, &a, &fh, &how);
		ks_check(r == 0 || r == -ENOENT || r == -ESTALE);
		if (r < 0)
			continue;
		ks_check_eq(
			ks_vfs_write(fh, &c, (uint64_t)(rand_r(&seed) % 3000), buf, sizeof(buf)),
			sizeof(buf));
		ks_check(ks_vfs_read(fh, &c, 0, buf, sizeof(buf)) >= 0);
		switch (rand_r(&seed) % 5) {
		case 0:
			r = ks_vfs_unlink(race.v, &c, KS_ROOT_INO, name);
			ks_check(r == 0 || r == -ENOENT);
			break;
		case 1:
			r = ks_vfs_setattr(race.v, &c, a.ino, KS_SET_SIZE, &in, &a);
			ks_check(r == 0 || r == -ESTALE);
			break;
		case 2:
			r = ks_vfs_rename(race.v, &c, KS_ROOT_INO, name, KS_ROOT_INO, "r0", 0);
			ks_check(r == 0 || r == -ENOENT);
			break;
		case 3:
			r = ks_vfs_getattr(race.v, &c, a.ino, &a);
			ks_check(r == 0 || r == -ESTALE);
			break;
		default:
			ks_check_ok(ks_vfs_fsync(fh, &c, false));
		}
		ks_check_ok(ks_vfs_flush(fh, &c));
		ks_vfs_release(fh);
	}
	return NULL;
}

KS_TEST(races)
{
	pthread_t t[RACERS];
	struct ks_vfs_stats st;

	start(&race, "races", false, 0);
	ks_check_ok(ks_vfs_start_maintenance(race.v, true));
	for (uintptr_t i = 0; i < RACERS; i++)
		ks_check_ok(ks_thread_start(&t[i], "racer", racer, (void *)(i + 1)));
	for (int i = 0; i < RACERS; i++)
		pthread_join(t[i], NULL);
	ks_vfs_stats(race.v, &st);
	ks_check_eq(st.open_files, 0);
	ks_check_eq(st.vnodes, 0);
	stop(&race);
}

KS_TEST_MAIN()
