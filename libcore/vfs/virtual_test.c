/* SPDX-License-Identifier: Apache-2.0 */
/* virtual_test.c: the hidden directory, without a kernel. */
#include "base/thread.h"
#include "vfs/mem_testlib.h"
#include <fcntl.h>
#include <unistd.h>

struct rig {
	struct ks_vfs *v;
	struct ks_ctx c;
	int made; /* texts, so far */
};

static int text(void *arg, enum ks_virtual_file file, struct ks_buf *out)
{
	struct rig *g = arg;

	return ks_buf_printf(out, "file %d, text %d\n", (int)file, ++g->made);
}

static void start(struct rig *g, const char *name, ks_ino_t root, bool hidden)
{
	struct ks_vfs_opts vo = { .root = root, .data = { .buffer_bytes = 32 * KS_MIB } };
	struct ks_virtual_opts o = { .uid = 1000, .gid = 100, .text = text, .arg = g };

	*g = (struct rig){ 0 };
	g->v = vfs_in_memory(name, (struct ks_meta_opts){ .noatime = true }, vo, NULL);
	if (hidden)
		ks_check_ok(ks_vfs_start_virtual(g->v, &o));
}

static void stop(struct rig *g)
{
	ks_check_ok(ks_vfs_close(g->v));
}

static struct ks_attr find(struct rig *g, const char *name)
{
	struct ks_attr dir = { 0 }, a = { 0 };

	ks_check_ok(ks_vfs_lookup(g->v, &g->c, ks_vfs_root(g->v), KS_VIRTUAL_NAME, &dir));
	if (!name)
		return dir;
	ks_check_ok(ks_vfs_lookup(g->v, &g->c, dir.ino, name, &a));
	return a;
}

static struct ks_fh *open_file(struct rig *g, const char *name)
{
	struct ks_open_how how = { 0 };
	struct ks_fh *fh = NULL;

	ks_check_ok(ks_vfs_open(g->v, &g->c, find(g, name).ino, O_RDONLY, &fh, &how));
	ks_check(how.made_up);
	return fh;
}

/* Counts entries, and stops after so many. */
struct count {
	int n, max;
	uint64_t cookie;
	bool hidden_seen;
};

static int count_one(void *arg, const char *name, size_t n, uint64_t cookie, ks_ino_t ino,
		     uint32_t dtype, const struct ks_attr *a, bool glued)
{
	struct count *k = arg;

	(void)dtype;
	ks_check(!glued);
	ks_check(!a || a->ino == ino);
	if (k->n == k->max)
		return 1;
	k->n++;
	k->cookie = cookie;
	if (n == strlen(KS_VIRTUAL_NAME) && memcmp(name, KS_VIRTUAL_NAME, n) == 0)
		k->hidden_seen = true;
	return 0;
}

KS_TEST(found_and_not_listed)
{
	struct rig g;
	struct ks_attr dir, a;
	struct count k = { .max = 100 };
	struct ks_fh *fh;

	start(&g, "listed", 0, true);
	dir = find(&g, NULL);
	ks_check_eq(dir.mode, S_IFDIR | 0500);
	ks_check_eq(dir.uid, 1000);
	ks_check_eq(dir.gid, 100);
	ks_check(dir.ino > 1 && dir.ino < 16);
	a = find(&g, "stats");
	ks_check_eq(a.mode, S_IFREG | 0400);
	ks_check_eq(a.size, 0);
	ks_check(a.ino > 1 && a.ino < 16 && a.ino != dir.ino);
	ks_check_ok(ks_vfs_getattr(g.v, &g.c, a.ino, &a));
	ks_check_eq(ks_vfs_lookup(g.v, &g.c, dir.ino, "none", &a), -ENOENT);
	ks_check_eq(ks_vfs_lookup(g.v, &g.c, a.ino, "x", &a), -ENOTDIR);
	ks_check_eq(ks_vfs_getattr(g.v, &g.c, 15, &a), -ESTALE);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, dir.ino, "..", &a));
	ks_check_eq(a.ino, KS_ROOT_INO);
	ks_check_ok(ks_vfs_opendir(g.v, &g.c, KS_ROOT_INO, &fh));
	ks_check_ok(ks_vfs_readdir(fh, &g.c, 0, true, count_one, &k));
	ks_check_eq(k.n, 2);
	ks_check(!k.hidden_seen);
	ks_vfs_release(fh);
	/* Its own entries, one by one. */
	ks_check_ok(ks_vfs_opendir(g.v, &g.c, dir.ino, &fh));
	for (int i = 1; i < 20; i++) {
		k.max = i;
		k.n = i - 1;
		ks_check_ok(ks_vfs_readdir(fh, &g.c, i == 1 ? 0 : k.cookie, i % 2, count_one, &k));
		if (k.n < i)
			break;
	}
	ks_check(k.n >= 5 && k.n < 10);
	ks_vfs_release(fh);
	stop(&g);
}

KS_TEST(not_without_being_asked_for)
{
	struct rig g;
	struct ks_attr a;

	start(&g, "tool", 0, false);
	ks_check_eq(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, KS_VIRTUAL_NAME, &a), -ENOENT);
	ks_check_ok(ks_vfs_mkdir(g.v, &g.c, KS_ROOT_INO, KS_VIRTUAL_NAME, 0755, &a));
	ks_check(a.ino >= 16);
	ks_check_ok(ks_vfs_rmdir(g.v, &g.c, KS_ROOT_INO, KS_VIRTUAL_NAME));
	ks_check_eq(ks_vfs_getattr(g.v, &g.c, 2, &a), -ESTALE);
	stop(&g);
}

KS_TEST(nothing_changes_it)
{
	struct rig g;
	struct ks_attr dir, a, f, in = { .mode = 0777 };
	struct ks_open_how how;
	struct ks_fh *fh;
	struct ks_buf b = { 0 };
	const ks_ino_t root = KS_ROOT_INO;
	const char *hid = KS_VIRTUAL_NAME;

	start(&g, "changes", 0, true);
	dir = find(&g, NULL);
	a = find(&g, "config");
	ks_check_ok(ks_vfs_mknod(g.v, &g.c, root, "f", S_IFREG | 0644, 0, &f));
	ks_check_eq(ks_vfs_mkdir(g.v, &g.c, root, hid, 0755, &in), -EEXIST);
	ks_check_eq(ks_vfs_mknod(g.v, &g.c, dir.ino, "x", S_IFREG, 0, &in), -EPERM);
	ks_check_eq(ks_vfs_symlink(g.v, &g.c, root, hid, "f", &in), -EEXIST);
	ks_check_eq(ks_vfs_link(g.v, &g.c, f.ino, root, hid, &in), -EEXIST);
	ks_check_eq(ks_vfs_link(g.v, &g.c, a.ino, root, "x", &in), -EPERM);
	ks_check_eq(ks_vfs_unlink(g.v, &g.c, dir.ino, "config"), -EPERM);
	ks_check_eq(ks_vfs_rmdir(g.v, &g.c, root, hid), -EPERM);
	ks_check_eq(ks_vfs_rename(g.v, &g.c, root, hid, root, "x", 0), -EPERM);
	ks_check_eq(ks_vfs_rename(g.v, &g.c, root, "f", root, hid, 0), -EPERM);
	ks_check_eq(ks_vfs_rename(g.v, &g.c, root, "f", dir.ino, "f", 0), -EPERM);
	in.mode = 0777;
	ks_check_eq(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_MODE, &in, &f), -EPERM);
	ks_check_eq(ks_vfs_setattr(g.v, &g.c, a.ino, KS_SET_SIZE, &in, &f), -EPERM);
	ks_check_eq(ks_vfs_setxattr(g.v, &g.c, a.ino, "user.x", "", 0, 0), -EPERM);
	ks_check_eq(ks_vfs_removexattr(g.v, &g.c, a.ino, "user.x"), -EPERM);
	ks_check_eq(ks_vfs_getxattr(g.v, &g.c, a.ino, "user.x", &b), -ENODATA);
	ks_check_ok(ks_vfs_listxattr(g.v, &g.c, a.ino, &b));
	ks_check_eq(b.n, 0);
	ks_check_eq(ks_vfs_readlink(g.v, &g.c, a.ino, &b), -EINVAL);
	ks_check_eq(ks_vfs_open(g.v, &g.c, a.ino, O_RDWR, &fh, &how), -EPERM);
	ks_check_eq(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY | O_TRUNC, &fh, &how), -EPERM);
	ks_check_eq(ks_vfs_open(g.v, &g.c, dir.ino, O_RDONLY, &fh, &how), -EISDIR);
	ks_check_eq(
		ks_vfs_create(g.v, &g.c, dir.ino, "config", 0644, O_RDWR | O_EXCL, &f, &fh, &how),
		-EPERM);
	ks_check_eq(ks_vfs_create(g.v, &g.c, root, hid, 0644, O_RDWR | O_EXCL, &f, &fh, &how),
		    -EEXIST);
	ks_check_eq(ks_vfs_tmpfile(g.v, &g.c, dir.ino, 0644, O_RDWR, &f, &fh), -EPERM);
	stop(&g);
}

KS_TEST(an_open_is_a_snapshot)
{
	struct rig g;
	struct ks_fh *one, *two, *left;
	struct ks_ctx try = { .flags = KS_VFS_NOBLOCK };
	struct ks_open_how how;
	char buf[64] = "";
	uint64_t at;

	start(&g, "snapshot", 0, true);
	one = open_file(&g, "stats");
	two = open_file(&g, "metrics");
	ks_check_eq(ks_vfs_read(one, &g.c, 0, buf, 5), 5);
	ks_check_eq(ks_vfs_read(one, &g.c, 5, buf + 5, sizeof(buf) - 5), 10);
	ks_check_mem(buf, "file 0, text 1\n", 15);
	ks_check_eq(ks_vfs_read(one, &g.c, 15, buf, 5), 0);
	ks_check_eq(ks_vfs_read(two, &g.c, 0, buf, sizeof(buf)), 15);
	ks_check_mem(buf, "file 1, text 2\n", 15);
	ks_check_eq(ks_vfs_write(one, &g.c, 0, "x", 1), -EBADF);
	ks_check_ok(ks_vfs_flush(one, &g.c));
	ks_check_ok(ks_vfs_fsync(one, &g.c, false));
	ks_check_eq(ks_vfs_seek(one, &g.c, 0, SEEK_DATA, &at), -EINVAL);
	ks_check_eq(ks_vfs_fallocate(one, &g.c, 0, 0, 1), -EBADF);
	ks_check_eq(ks_vfs_open(g.v, &try, find(&g, "stats").ino, O_RDONLY, &left, &how),
		    -EWOULDBLOCK);
	ks_vfs_release(one);
	ks_vfs_release(two);
	/* Left open: closing the vfs frees it. */
	left = open_file(&g, "config");
	ks_check(left);
	stop(&g);
}

KS_TEST(subtree)
{
	struct rig g;
	struct ks_meta *hold;
	struct ks_attr d, a;

	start(&g, "vsub", 0, false);
	ks_check_ok(ks_meta_open(&hold, "mem://vsub", &(struct ks_meta_opts){ 0 }));
	ks_check_ok(ks_vfs_mkdir(g.v, &g.c, KS_ROOT_INO, "d", 0755, &d));
	ks_check_ok(ks_vfs_mkdir(g.v, &g.c, d.ino, "e", 0755, &a));
	stop(&g);
	start(&g, "vsub", d.ino, true);
	ks_check_eq(find(&g, NULL).parent, d.ino);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, find(&g, NULL).ino, "..", &a));
	ks_check_eq(a.ino, d.ino);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, d.ino, "e", &a));
	ks_check_eq(ks_vfs_lookup(g.v, &g.c, a.ino, KS_VIRTUAL_NAME, &a), -ENOENT);
	stop(&g);
	ks_meta_close(hold);
}

KS_TEST(log_of_several_readers)
{
	struct rig g;
	struct ks_fh *fh[KS_LOG_READERS + 1];
	struct ks_open_how how = { 0 };
	char buf[100];

	start(&g, "readers", 0, true);
	ks_check_eq(*ks_vfs_log_readers(g.v), 0);
	ks_vfs_log(g.v, "nobody reads\n", 13);
	for (int i = 0; i < KS_LOG_READERS; i++)
		fh[i] = open_file(&g, "accesslog");
	ks_check_eq(ks_vfs_open(g.v, &g.c, find(&g, "accesslog").ino, O_RDONLY, &fh[4], &how),
		    -EBUSY);
	ks_check_eq(*ks_vfs_log_readers(g.v), KS_LOG_READERS);
	ks_check(ks_fh_is_stream(fh[0]));
	ks_check_eq(ks_vfs_read(fh[0], &g.c, 0, buf, sizeof(buf)), -EAGAIN);
	ks_vfs_log(g.v, "one\n", 4);
	ks_vfs_release(fh[3]);
	ks_vfs_log(g.v, "two\n", 4);
	/* Whatever the offset: what comes next. */
	ks_check_eq(ks_vfs_read(fh[0], &g.c, 1000, buf, 6), 6);
	ks_check_mem(buf, "one\ntw", 6);
	ks_check_eq(ks_vfs_read(fh[0], &g.c, 0, buf, sizeof(buf)), 2);
	ks_check_eq(ks_vfs_read(fh[1], &g.c, 0, buf, sizeof(buf)), 8);
	ks_vfs_log_end(g.v);
	ks_check_eq(ks_vfs_read(fh[0], &g.c, 0, buf, sizeof(buf)), 0);
	ks_check_eq(ks_vfs_read(fh[2], &g.c, 0, buf, sizeof(buf)), 8);
	ks_check_eq(ks_vfs_read(fh[2], &g.c, 0, buf, sizeof(buf)), 0);
	ks_vfs_release(fh[0]);
	ks_vfs_release(fh[1]);
	/* The third is left to the end. */
	stop(&g);
}

KS_TEST(log_counts_what_it_loses)
{
	struct rig g;
	struct ks_fh *slow, *quick;
	uint64_t lines = 0, lost = 0, sent = 0;
	char buf[1000], *line = NULL;
	struct ks_buf all = { 0 };
	const char *s;
	ssize_t n;

	start(&g, "lost", 0, true);
	slow = open_file(&g, "accesslog");
	quick = open_file(&g, "accesslog");
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 10000; i++) {
			char text[64];
			int len = snprintf(text, sizeof(text), "line %d of %d, some %.*s\n", i,
					   round, i % 20, "xxxxxxxxxxxxxxxxxxxx");

			ks_vfs_log(g.v, text, (size_t)len);
			sent++;
			ks_check_eq(ks_vfs_read(quick, &g.c, 0, buf, sizeof(buf)), len);
		}
		/* Not all of it, so that the ring's edge is met. */
		for (int i = 0; i < 100; i++) {
			n = ks_vfs_read(slow, &g.c, 0, buf, sizeof(buf));
			ks_check(n > 0);
			ks_check_ok(ks_buf_append(&all, buf, (size_t)n));
		}
	}
	while ((n = ks_vfs_read(slow, &g.c, 0, buf, sizeof(buf))) > 0)
		ks_check_ok(ks_buf_append(&all, buf, (size_t)n));
	ks_check_eq(n, -EAGAIN);
	ks_check_ok(ks_buf_cstr(&all, &s));
	for (const char *p = s; *p; p = strchr(p, '\n') + 1) {
		unsigned long some = strtoul(p + 2, &line, 10);

		if (strncmp(p, "# ", 2) == 0 && strncmp(line, " lines lost\n", 12) == 0)
			lost += some;
		else
			lines++;
		ks_check(*p == '#' || strncmp(p, "line ", 5) == 0);
	}
	ks_check(lost > 0);
	ks_check_eq(lines + lost, sent);
	ks_buf_clear(&all);
	ks_vfs_release(slow);
	ks_vfs_release(quick);
	ks_check_eq(*ks_vfs_log_readers(g.v), 0);
	stop(&g);
}

struct taker {
	struct rig *g;
	struct ks_log_reader *tap;
	uint64_t lines, lost;
	char buf[KS_LOG_TAKE_MIN];
};

static void *take_all(void *arg)
{
	struct taker *t = arg;
	size_t n;

	while ((n = ks_vfs_log_take(t->g->v, t->tap, t->buf, sizeof(t->buf))) > 0) {
		ks_check_eq(t->buf[n - 1], '\n');
		for (const char *p = t->buf; p < t->buf + n;
		     p = (char *)memchr(p, '\n', (size_t)(t->buf + n - p)) + 1) {
			if (*p == '#')
				t->lost += strtoul(p + 2, NULL, 10);
			else
				t->lines++;
			ks_check(*p == '#' || strncmp(p, "line ", 5) == 0);
		}
	}
	return NULL;
}

KS_TEST(log_tap_gets_all_lines_to_its_own_end)
{
	struct rig g;
	struct taker t = { .g = &g };
	struct ks_fh *fh[KS_LOG_READERS];
	pthread_t thread;
	uint64_t sent = 0;
	char buf[100];

	start(&g, "tap", 0, false);
	ks_check_eq(ks_vfs_log_tap(g.v, &t.tap), -EINVAL);
	stop(&g);
	start(&g, "tap", 0, true);
	ks_check_ok(ks_vfs_log_tap(g.v, &t.tap));
	ks_check_eq(*ks_vfs_log_readers(g.v), 1);
	ks_check(!ks_vfs_log_is_open(g.v));
	/* It takes no other reader's place. */
	for (int i = 0; i < KS_LOG_READERS; i++)
		fh[i] = open_file(&g, "accesslog");
	ks_check(ks_vfs_log_is_open(g.v));
	for (int i = 0; i < KS_LOG_READERS; i++)
		ks_vfs_release(fh[i]);
	ks_check_ok(ks_thread_start(&thread, "taker", take_all, &t));
	for (int i = 0; i < 20000; i++, sent++) {
		int len = snprintf(buf, sizeof(buf), "line %d %.*s\n", i, i % 40,
				   "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");

		if (i == 15000)
			ks_vfs_log_end(g.v);
		ks_vfs_log(g.v, buf, (size_t)len);
	}
	ks_vfs_log_tap_end(g.v, t.tap);
	pthread_join(thread, NULL);
	ks_check_eq(t.lost, 0);
	ks_check_eq(t.lines, sent);
	ks_vfs_log_untap(g.v, t.tap);
	ks_check_eq(*ks_vfs_log_readers(g.v), 0);
	stop(&g);
}

KS_TEST(log_tap_that_nobody_takes_from_counts)
{
	struct rig g;
	struct taker t = { .g = &g };
	uint64_t sent = 0;

	start(&g, "full", 0, true);
	ks_check_ok(ks_vfs_log_tap(g.v, &t.tap));
	for (int i = 0; i < 200000; i++, sent++)
		ks_vfs_log(g.v, "line of sixteen\n", 16);
	ks_vfs_log_tap_end(g.v, t.tap);
	take_all(&t);
	ks_check(t.lines >= KS_MIB / 16 - 10);
	ks_check(t.lost > 0);
	ks_check_eq(t.lines + t.lost, sent);
	ks_vfs_log_untap(g.v, t.tap);
	stop(&g);
}

static void check_counter(void *arg, const struct ks_counter *c)
{
	int *n = arg;

	++*n;
	ks_check(c->name[0] && c->help[0]);
	/* OpenMetrics wants the unit at the end of the name. */
	ks_check_eq(c->bytes,
		    strlen(c->name) > 6 && strcmp(c->name + strlen(c->name) - 6, "_bytes") == 0);
}

KS_TEST(counters)
{
	struct rig g;
	int n = 0;

	start(&g, "counters", 0, false);
	ks_vfs_counters(g.v, check_counter, &n);
	ks_check(n > 20);
	stop(&g);
}

KS_TEST_MAIN()
