/* SPDX-License-Identifier: Apache-2.0 */
/*
 * recover_test.c: a process dies with its machine, and what it wrote after its last sync is not on the disk. The child's session carries another boot id, and the
 * parent takes objects away.
 */
#include "base/thread.h"
#include "data/block.h"
#include "volume/fsck.h"
#include "volume/maint_testlib.h"
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define BIG (3 * KS_MIB)
#define SMALL 70000u

/* Stands before libc's: which files became durable. */
static struct {
	ino_t v[64];
	size_t n;
} synced;
static pthread_mutex_t synced_mu = PTHREAD_MUTEX_INITIALIZER;

int fdatasync(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0) {
		KS_LOCKED(&synced_mu);
		synced.v[synced.n++ % KS_ARRAY_SIZE(synced.v)] = st.st_ino;
	}
	return (int)syscall(SYS_fdatasync, fd);
}

static void nothing_synced(void)
{
	KS_LOCKED(&synced_mu);
	synced.n = 0;
}

static bool is_synced(const char *path)
{
	struct stat st;

	ks_check_ok(stat(path, &st));
	KS_LOCKED(&synced_mu);
	for (size_t i = 0; i < ks_min(synced.n, KS_ARRAY_SIZE(synced.v)); i++) {
		if (synced.v[i] == st.st_ino)
			return true;
	}
	return false;
}

/* Version 0: zeros. */
static void fill(uint8_t *p, size_t n, unsigned int version)
{
	if (version)
		tv_bytes(p, n, version);
	else
		memset(p, 0, n);
}

static void write_version(struct ks_volume *vol, const char *name, size_t n, unsigned int version)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	uint8_t *p = malloc(n);
	int r = ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, name, &a);

	fill(p, n, version);
	if (r == -ENOENT)
		r = ks_vfs_create(vol->vfs, &tv_ctx, KS_ROOT_INO, name, S_IFREG | 0644, O_RDWR, &a,
				  &fh, &how);
	else
		r = ks_vfs_open(vol->vfs, &tv_ctx, a.ino, O_RDWR, &fh, &how);
	ks_check_ok(r);
	tv_write(fh, p, n);
	free(p);
}

/* What an open volume shows of a file. */
static void check_version(struct ks_volume *vol, const char *name, size_t n, unsigned int version)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	uint8_t *p = malloc(n), *want = malloc(n);

	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, name, &a));
	ks_check_eq(a.size, n);
	ks_check_ok(ks_vfs_open(vol->vfs, &tv_ctx, a.ino, O_RDONLY, &fh, &how));
	for (size_t at = 0; at < n; at += KS_MIB) {
		size_t len = ks_min(n - at, (size_t)KS_MIB);

		ks_check_eq(ks_vfs_read(fh, &tv_ctx, at, p + at, len), (ssize_t)len);
	}
	fill(want, n, version);
	ks_check_eq(memcmp(p, want, n), 0);
	ks_vfs_release(fh);
	free(p);
	free(want);
}

/* @fn in a process of its own that ends in the middle of things. */
static void die_after(struct tv *v, void (*fn)(struct ks_volume *vol))
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	ks_check(pid >= 0);
	if (pid == 0) {
		fn(tv_open(v, KS_SESSION_MOUNT));
		kill(getpid(), SIGKILL);
	}
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ks_check_eq(tv_query(v, "SELECT count(*) FROM session"), 1);
}

static void other_boot(struct tv *v)
{
	tv_sql(v, "UPDATE session SET boot='another'");
}

/* The newest slice of @name is taken from the store: a block of it, or the end of its pack. */
static void lose_newest(struct tv *v, const char *name)
{
	char sql[400], key[KS_KEY_STR], path[700];
	int64_t slice, pack;

	snprintf(sql, sizeof(sql),
		 "SELECT slice FROM extent WHERE slice<>0 AND ino=(SELECT ino FROM dentry WHERE "
		 "name=CAST('%.50s' AS BLOB)) ORDER BY seq DESC LIMIT 1",
		 name);
	slice = tv_query(v, sql);
	snprintf(sql, sizeof(sql), "SELECT pack FROM slice WHERE id=%jd", (intmax_t)slice);
	pack = tv_query(v, sql);
	if (pack > 0) {
		snprintf(sql, sizeof(sql), "SELECT pack_off FROM slice WHERE id=%jd",
			 (intmax_t)slice);
		ks_pack_key(key, (uint64_t)pack);
		snprintf(path, sizeof(path), "%s/%s", v->blocks, key);
		ks_check_eq(truncate(path, tv_query(v, sql) + 100), 0);
		return;
	}
	ks_block_key(key, (uint64_t)slice, 1, KS_MIB);
	snprintf(path, sizeof(path), "%s/%s", v->blocks, key);
	ks_check_eq(unlink(path), 0);
}

static void expect_clean(struct tv *v)
{
	struct ks_fsck_opts o = { .level = KS_FSCK_CHECK, .data = KS_FSCK_READ };
	struct ks_fsck_result out = { 0 };
	struct ks_maint m = { 0 };

	ks_check_ok(ks_maint_open(&m, &v->ref, false));
	ks_check_ok(ks_fsck(&m, &o, &out));
	ks_check_eq(out.problems, 0);
	ks_maint_close(&m);
}

static void twice(struct ks_volume *vol)
{
	write_version(vol, "big", BIG, 1);
	write_version(vol, "small", SMALL, 1);
	ks_check_ok(ks_vfs_syncfs(vol->vfs));
	write_version(vol, "big", BIG, 2);
	write_version(vol, "small", SMALL, 2);
	write_version(vol, "new", BIG, 2);
	write_version(vol, "newer", SMALL, 2);
}

/* What was synced is there again; what never was, is zeros. */
KS_TEST(older_content_comes_back)
{
	struct tv v;
	struct ks_volume *vol;

	tv_format(&v, "older");
	die_after(&v, twice);
	other_boot(&v);
	lose_newest(&v, "big");
	lose_newest(&v, "new");
	lose_newest(&v, "small"); /* and with it all that follows in the pack */
	vol = tv_open(&v, KS_SESSION_TOOL);
	check_version(vol, "big", BIG, 1);
	check_version(vol, "small", SMALL, 1);
	check_version(vol, "new", BIG, 0);
	check_version(vol, "newer", SMALL, 0);
	ks_check_ok(ks_volume_close(vol));
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM session"), 0);
	ks_check(tv_query(&v, "SELECT value FROM counter WHERE name='next_slice'") > 1 << 20);
	expect_clean(&v);
	tv_remove(&v);
}

/* All reached the disk: nothing is taken back. */
KS_TEST(what_is_there_stays)
{
	struct tv v;
	struct ks_volume *vol;

	tv_format(&v, "stays");
	die_after(&v, twice);
	other_boot(&v);
	vol = tv_open(&v, KS_SESSION_TOOL);
	check_version(vol, "big", BIG, 2);
	check_version(vol, "small", SMALL, 2);
	check_version(vol, "new", BIG, 2);
	check_version(vol, "newer", SMALL, 2);
	ks_check_ok(ks_volume_close(vol));
	expect_clean(&v);
	tv_remove(&v);
}

/* The machine went on: nothing is read, and damage is damage. */
KS_TEST(a_kill_is_no_power_cut)
{
	struct tv v;
	struct ks_volume *vol;
	int64_t next;

	tv_format(&v, "kill");
	die_after(&v, twice);
	next = tv_query(&v, "SELECT value FROM counter WHERE name='next_slice'");
	vol = tv_open(&v, KS_SESSION_TOOL);
	check_version(vol, "big", BIG, 2);
	ks_check_ok(ks_meta_tick(vol->meta, 0));
	ks_check_ok(ks_volume_close(vol));
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM session"), 0);
	ks_check_eq(tv_query(&v, "SELECT value FROM counter WHERE name='next_slice'"), next);
	tv_remove(&v);
}

/* fsck repairs it without a mount; below the mark nothing is looked at. */
KS_TEST(fsck_takes_it_back)
{
	struct ks_fsck_opts o = { .level = KS_FSCK_SAFE, .data = KS_FSCK_READ };
	struct ks_fsck_result out = { 0 };
	struct ks_maint m = { 0 };
	struct ks_volume *vol;
	struct tv v;

	tv_format(&v, "fsck");
	die_after(&v, twice);
	other_boot(&v);
	ks_check(tv_query(&v, "SELECT low FROM session") > 0);
	lose_newest(&v, "big");
	ks_check_ok(ks_maint_open(&m, &v.ref, true));
	ks_check_ok(ks_maint_lock(&m));
	ks_check_ok(ks_fsck(&m, &o, &out));
	ks_check_eq(out.problems, 0);
	ks_maint_close(&m);
	vol = tv_open(&v, KS_SESSION_TOOL);
	check_version(vol, "big", BIG, 1);
	check_version(vol, "small", SMALL, 2);
	ks_check_ok(ks_volume_close(vol));
	tv_remove(&v);
}

static void many_times(struct ks_volume *vol)
{
	for (unsigned int i = 1; i <= 20; i++) {
		write_version(vol, "small", SMALL, i);
		ks_check_ok(ks_vfs_syncfs(vol->vfs));
	}
	write_version(vol, "small", SMALL, 21);
}

/* Layers do not pile up: what is on the disk lets go of what it hides. */
KS_TEST(layers_are_dropped)
{
	struct ks_volume *vol;
	struct tv v;

	tv_format(&v, "layers");
	die_after(&v, many_times);
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM extent"), 2);
	other_boot(&v);
	lose_newest(&v, "small");
	vol = tv_open(&v, KS_SESSION_TOOL);
	check_version(vol, "small", SMALL, 20);
	ks_check_ok(ks_volume_close(vol));
	expect_clean(&v);
	tv_remove(&v);
}

static struct ks_fh *open_file(struct ks_volume *vol, const char *name)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;

	ks_check_ok(ks_vfs_lookup(vol->vfs, &tv_ctx, KS_ROOT_INO, name, &a));
	ks_check_ok(ks_vfs_open(vol->vfs, &tv_ctx, a.ino, O_RDWR, &fh, &how));
	return fh;
}

/* fsync(2) is about the file, whoever wrote it. */
KS_TEST(what_another_wrote_is_synced)
{
	char block[700], last[700], pack[700];
	struct ks_volume *a, *b;
	struct ks_fh *fh, *to;
	struct tv v;

	tv_format(&v, "foreign");
	a = tv_open(&v, KS_SESSION_TOOL);
	b = tv_open(&v, KS_SESSION_TOOL);
	write_version(b, "old", SMALL, 1);
	write_version(b, "older", SMALL, 1);
	ks_check_ok(ks_vfs_syncfs(b->vfs));
	write_version(a, "big", BIG, 2);
	write_version(a, "small", SMALL, 2);
	tv_block_path(&v, "big", 0, block);
	tv_block_path(&v, "big", BIG / KS_MIB - 1, last);
	tv_block_path(&v, "small", 0, pack);

	nothing_synced();
	fh = open_file(b, "big");
	ks_check_ok(ks_vfs_fsync(fh, &tv_ctx, true));
	ks_vfs_release(fh);
	ks_check(is_synced(block) && is_synced(last) && !is_synced(pack));
	/* What is going to be replaced is on the disk. */
	nothing_synced();
	ks_check_ok(ks_vfs_rename(b->vfs, &tv_ctx, KS_ROOT_INO, "small", KS_ROOT_INO, "old", 0));
	ks_check(is_synced(pack));
	nothing_synced();
	fh = open_file(b, "old");
	to = open_file(b, "older");
	ks_check_eq(ks_vfs_copy_range(fh, 0, to, 0, SMALL, &tv_ctx), SMALL);
	ks_check(is_synced(pack));
	ks_vfs_release(fh);
	ks_vfs_release(to);

	/* What it has made durable itself is nobody else's business. */
	ks_check_ok(ks_vfs_syncfs(a->vfs));
	ks_check_ok(ks_meta_tick(b->meta, 0));
	nothing_synced();
	fh = open_file(b, "big");
	ks_check_ok(ks_vfs_fsync(fh, &tv_ctx, true));
	ks_vfs_release(fh);
	ks_check(!is_synced(block));
	ks_check_ok(ks_volume_close(a));
	ks_check_ok(ks_volume_close(b));
	tv_remove(&v);
}

KS_TEST_MAIN()
