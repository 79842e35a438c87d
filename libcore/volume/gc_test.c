/* SPDX-License-Identifier: Apache-2.0 */
/* gc_test.c: what is garbage goes, and nothing else, whatever fails and whoever writes. */
#include "meta/engine_ops.h"
#include "object/store.h"
#include "volume/fsck.h"
#include "volume/gc.h"
#include "volume/maint_testlib.h"
#include <sys/wait.h>

#define DAY_NS (86400 * KS_NS_PER_S)

/* An object by name, so old. */
static void put_object(struct tv *v, const char *key, size_t n, int64_t age_ns)
{
	char path[700], url[360];
	KS_AUTO(ks_object_closep) struct ks_object *o = NULL;
	struct timespec t = ks_ns_to_ts(ks_clock_real_ns() - age_ns);
	struct timespec ts[2] = { t, t };
	void *p = calloc(1, n);
	struct iovec iov = { p, n };

	snprintf(url, sizeof(url), "file://%s", v->blocks);
	ks_check_ok(ks_object_open(&o, url));
	ks_check_ok(ks_object_put(o, key, &iov, 1));
	snprintf(path, sizeof(path), "%s/%s", v->blocks, key);
	ks_check_eq(utimensat(AT_FDCWD, path, ts, 0), 0);
	free(p);
}

static void put_orphan(struct tv *v, uint64_t slice, uint32_t idx, int64_t age_ns)
{
	char key[KS_KEY_STR];

	ks_block_key(key, slice, idx, 4096);
	put_object(v, key, 8192, age_ns);
}

static void remove_orphan(struct tv *v, uint64_t slice, uint32_t idx)
{
	char key[KS_KEY_STR], path[700];

	ks_block_key(key, slice, idx, 4096);
	snprintf(path, sizeof(path), "%s/%s", v->blocks, key);
	ks_check_eq(unlink(path), 0);
}

static bool there(struct tv *v, uint64_t slice, uint32_t idx)
{
	char key[KS_KEY_STR], path[700];

	ks_block_key(key, slice, idx, 4096);
	snprintf(path, sizeof(path), "%s/%s", v->blocks, key);
	return access(path, F_OK) == 0;
}

static void age_all(struct tv *v)
{
	char cmd[500];

	snprintf(cmd, sizeof(cmd), "find '%s' -type f -exec touch -d '3 days ago' {} +", v->blocks);
	ks_check_eq(system(cmd), 0);
}

static int gc(struct tv *v, const struct ks_gc_opts *o, struct ks_gc_result *out)
{
	struct ks_maint m;
	int r = ks_maint_open(&m, &v->ref, !o->dry_run);

	*out = (struct ks_gc_result){ 0 };
	if (r < 0)
		return r;
	if (!o->dry_run)
		r = ks_meta_session_start(m.meta, KS_SESSION_TOOL, "kiseki-gc", "", "");
	if (r == 0)
		r = ks_gc(&m, o, out);
	ks_maint_close(&m);
	return r;
}

static void expect_healthy(struct tv *v)
{
	struct ks_fsck_opts o = { .data = KS_FSCK_READ };
	struct ks_fsck_result out;
	struct ks_maint m;

	ks_check_ok(ks_maint_open(&m, &v->ref, false));
	ks_check_ok(ks_fsck(&m, &o, &out));
	ks_maint_close(&m);
	ks_check_eq(out.problems, 0);
	ks_check_eq(out.quarantined + out.hidden, 0);
}

KS_TEST(nothing_to_do)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };
	struct ks_gc_result out;
	struct tv v;
	uint64_t before;

	tv_make(&v);
	age_all(&v);
	before = tv_objects(&v);
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.scanned_objects, before + 1);
	ks_check_eq(out.deleted_objects, 0);
	ks_check_eq(out.orphans.objects, 0);
	ks_check_eq(out.failed, 0);
	ks_check_eq(tv_objects(&v), before);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(orphans_by_age)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };
	struct ks_gc_result out;
	struct tv v;

	tv_make(&v);
	put_orphan(&v, 500, 0, 2 * DAY_NS);
	put_orphan(&v, 500, 1, 2 * DAY_NS);
	put_orphan(&v, 501, 0, DAY_NS / 2);
	put_orphan(&v, 1000000, 0, 2 * DAY_NS); /* a number not given out yet */
	put_object(&v, "packs/0/77", 4096, 2 * DAY_NS);
	put_object(&v, "other/thing", 4096, 2 * DAY_NS);
	o.dry_run = true;
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.orphans.objects, 3);
	ks_check_eq(out.orphans.bytes, 2 * 8192 + 4096);
	ks_check_eq(out.young.objects, 1);
	ks_check_eq(out.live.objects, 1);
	ks_check_eq(out.unknown, 1);
	ks_check_eq(out.deleted_objects, 0);
	ks_check(there(&v, 500, 0));
	o.dry_run = false;
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_objects, 3);
	ks_check_eq(out.deleted_bytes, 2 * 8192 + 4096);
	ks_check(!there(&v, 500, 0) && !there(&v, 500, 1));
	ks_check(there(&v, 501, 0) && there(&v, 1000000, 0));
	remove_orphan(&v, 1000000, 0);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(limits)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS, .max_delete = 2 };
	struct ks_gc_result out;
	struct tv v;

	tv_make(&v);
	for (uint32_t i = 0; i < 5; i++)
		put_orphan(&v, 500, i, 2 * DAY_NS);
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_objects, 2);
	ks_check(out.limited);
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_objects, 2);
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_objects, 1);
	o.max_delete = 0;
	o.deadline_ns = 1;
	put_orphan(&v, 500, 9, 2 * DAY_NS);
	ks_check_ok(gc(&v, &o, &out));
	ks_check(out.limited);
	ks_check(there(&v, 500, 9));
	o.deadline_ns = 0;
	o.what = KS_GC_PENDING;
	ks_check_ok(gc(&v, &o, &out));
	ks_check(there(&v, 500, 9));
	tv_remove(&v);
}

KS_TEST(pending_deletions_and_dead_packs)
{
	static const char *const names[] = { "small", "tiny" };
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };
	struct ks_gc_result out;
	struct ks_volume *vol;
	struct ks_attr dir;
	struct tv v;
	uint64_t before;

	tv_make(&v);
	before = tv_objects(&v);
	vol = tv_open(&v, 0);
	ks_check_ok(ks_volume_path(vol->meta, "/dir", false, &dir));
	ks_check_ok(ks_meta_unlink(vol->meta, dir.ino, "big", NULL));
	for (size_t i = 0; i < KS_ARRAY_SIZE(names); i++)
		ks_check_ok(ks_meta_unlink(vol->meta, KS_ROOT_INO, names[i], NULL));
	ks_check_ok(ks_volume_close(vol));
	o.dry_run = true;
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_files, 3);
	o.dry_run = false;
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.pending.objects, 4); /* of big */
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM deleted"), 0);
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM freed"), 0);
	expect_healthy(&v);
	/* The pack died only now: its record is read before the deletions. */
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.packs.objects, 1);
	ks_check_eq(tv_objects(&v), before - 5);
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM pack"), 0);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(ceiling)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };
	struct ks_gc_result out;
	struct tv v;
	uint64_t before;
	bool quiet = ks_fail_quiet(true);

	tv_make(&v);
	for (uint32_t i = 0; i < 1001; i++)
		put_orphan(&v, 500 + i / 100, i % 100, 2 * DAY_NS);
	before = tv_objects(&v);
	ks_check_eq(gc(&v, &o, &out), -EDQUOT);
	ks_check_eq(out.orphans.objects, 1001);
	ks_check_eq(tv_objects(&v), before);
	o.force = true;
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(tv_objects(&v), before - 1001);
	ks_fail_quiet(quiet);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(another_volumes_store)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS };
	struct ks_gc_result out;
	struct tv v, w;
	char path[800];
	bool quiet = ks_fail_quiet(true);

	tv_make(&v);
	tv_format(&w, "w");
	put_orphan(&v, 500, 0, 2 * DAY_NS);
	snprintf(path, sizeof(path), "cp '%s/kiseki.volume' '%s/kiseki.volume'", w.blocks,
		 v.blocks);
	ks_check_eq(system(path), 0);
	ks_check_eq(gc(&v, &o, &out), -EMEDIUMTYPE);
	snprintf(path, sizeof(path), "%s/kiseki.volume", v.blocks);
	ks_check_eq(unlink(path), 0);
	ks_check_eq(gc(&v, &o, &out), -EMEDIUMTYPE);
	ks_check(there(&v, 500, 0));
	ks_fail_quiet(quiet);
	tv_remove(&v);
	tv_remove(&w);
}

/* ---- sessions ---- */

KS_TEST(what_a_living_session_may_still_commit_stays)
{
	struct ks_gc_opts o = { .grace_ns = 1 };
	struct ks_gc_result out;
	struct ks_volume *vol;
	struct tv v;
	uint64_t mine, old;

	tv_make(&v);
	/* Of the batch of the session that made the volume, which is gone. */
	old = ((uint64_t)tv_query(&v, "SELECT max(id) FROM slice") - 1) / 1024 * 1024 + 1000;
	put_orphan(&v, old, 0, 2 * DAY_NS);
	put_orphan(&v, old + 1, 0, 0);
	vol = tv_open(&v, KS_SESSION_MOUNT);
	ks_check_ok(ks_meta_new_slice_id(vol->meta, &mine));
	put_orphan(&v, mine, 0, 0);
	put_orphan(&v, mine + 5, 0, 3 * DAY_NS); /* older than the session, whatever its number */
	ks_check_ok(gc(&v, &o, &out));
	ks_check(!there(&v, old, 0) && !there(&v, old + 1, 0));
	ks_check(there(&v, mine, 0));
	ks_check(!there(&v, mine + 5, 0));
	ks_check_eq(out.live.objects, 1);
	/* What it has committed shows that the batch is its own. */
	tv_file(vol, KS_ROOT_INO, "new", 2 * KS_MIB, 8);
	put_orphan(&v, mine + 500, 0, 3 * DAY_NS);
	ks_check_ok(gc(&v, &o, &out));
	ks_check(there(&v, mine, 0));
	ks_check(there(&v, mine + 500, 0));
	ks_check_ok(ks_volume_close(vol));
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(out.deleted_objects, 2);
	expect_healthy(&v);
	tv_remove(&v);
}

/* A process that dies between upload and commit. */
KS_TEST(dead_sessions_leftovers)
{
	struct ks_gc_opts o = { .grace_ns = 1 };
	struct ks_gc_result out;
	struct tv v;
	uint64_t before;
	int status;
	pid_t pid;

	tv_make(&v);
	before = tv_objects(&v);
	pid = fork();
	ks_check(pid >= 0);
	if (pid == 0) {
		struct ks_volume *vol = tv_open(&v, KS_SESSION_MOUNT);
		struct ks_open_how how;
		struct ks_attr a;
		struct ks_fh *fh;
		static uint8_t data[3 * KS_MIB];

		if (ks_vfs_create(vol->vfs, &tv_ctx, KS_ROOT_INO, "x", S_IFREG | 0644, O_RDWR, &a,
				  &fh, &how) < 0 ||
		    ks_vfs_write(fh, &tv_ctx, 0, data, sizeof(data)) < 0 ||
		    ks_vfs_unlink(vol->vfs, &tv_ctx, KS_ROOT_INO, "x") < 0)
			_exit(1);
		usleep(500000);
		_exit(0);
	}
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check_eq(status, 0);
	ks_check(tv_objects(&v) > before);
	ks_check_ok(gc(&v, &o, &out));
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM claim"), 0);
	ks_check_eq(tv_query(&v, "SELECT count(*) FROM session"), 0);
	ks_check_eq(tv_objects(&v), before);
	expect_healthy(&v);
	tv_remove(&v);
}

/* ---- failures ---- */

static struct {
	struct ks_engine_ops ops;
	const struct ks_engine_ops *real;
	int at, calls;
} broken;

static int broken_fetch(struct ks_engine *e, struct ks_txn *t, struct ks_read *r, size_t n,
			const struct ks_scan *s, size_t ns, struct ks_arena *a)
{
	if (++broken.calls == broken.at)
		return -EIO;
	return broken.real->fetch(e, t, r, n, s, ns, a);
}

static int gc_broken(struct tv *v, int at, bool dry, const char *store_rules,
		     struct ks_gc_result *out)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS, .dry_run = dry, .wait_ns = 1 };
	struct ks_engine *e;
	struct ks_maint m;
	int r;

	ks_check_ok(ks_maint_open(&m, &v->ref, true));
	if (store_rules)
		ks_check_ok(ks_object_with_fault(&m.store, m.store, store_rules));
	e = ks_meta_engine(m.meta);
	broken.real = e->ops;
	broken.ops = *e->ops;
	broken.ops.fetch = broken_fetch;
	broken.at = at;
	broken.calls = 0;
	e->ops = &broken.ops;
	r = ks_gc(&m, &o, out);
	e->ops = broken.real;
	ks_maint_close(&m);
	return r;
}

/* Somebody who comes while the objects are listed, and whose only small file so far is gone again by then. */
struct newcomer {
	struct tv *v;
	struct ks_volume *vol;
};

static void come(void *arg, const char *what, uint64_t done, uint64_t total)
{
	struct newcomer *c = arg;
	int64_t until = ks_clock_mono_ns() + 20 * KS_NS_PER_S;
	struct ks_free_item item;
	ssize_t n = 0;

	(void)done;
	(void)total;
	if (c->vol || strcmp(what, "listing objects") != 0)
		return;
	c->vol = tv_open(c->v, KS_SESSION_TOOL);
	tv_file(c->vol, KS_ROOT_INO, "first", 100, 90);
	ks_check_ok(ks_vfs_unlink(c->vol->vfs, &tv_ctx, KS_ROOT_INO, "first"));
	while (n == 0 && ks_clock_mono_ns() < until) {
		ks_check_ok(ks_meta_tick(c->vol->meta, 0));
		n = ks_meta_free_list(c->vol->meta, NULL, &item, 1);
	}
	ks_check_eq(n, 1);
	ks_check_ok(ks_meta_free_done(c->vol->meta, &item, 1));
}

KS_TEST(the_pack_of_one_who_came_later_stays)
{
	struct newcomer c = { 0 };
	struct ks_gc_opts o = { .progress = come, .arg = &c, .wait_ns = KS_NS_PER_MS };
	struct ks_gc_result out;
	char path[700], cmd[500];
	struct tv v;

	tv_make(&v);
	c.v = &v;
	snprintf(path, sizeof(path), "%s/junk", v.blocks);
	ks_check_ok(mkdir(path, 0700));
	for (int i = 0; i < 4096; i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/junk/%d", v.blocks, i);
		fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
		ks_check(fd >= 0);
		close(fd);
	}
	ks_check_ok(gc(&v, &o, &out));
	ks_check(c.vol);
	tv_file(c.vol, KS_ROOT_INO, "second", 100, 91);
	ks_check_ok(ks_volume_close(c.vol));
	snprintf(cmd, sizeof(cmd), "rm -r '%s/junk'", v.blocks);
	ks_check_eq(system(cmd), 0);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(a_failure_anywhere_deletes_nothing)
{
	static const char *const rules[] = { "list:fail=EIO", "list:fail=ETIMEDOUT:nth=1" };
	struct ks_gc_result out;
	struct tv v;
	uint64_t before;
	int calls;
	bool quiet = ks_fail_quiet(true);

	tv_make(&v);
	for (uint32_t i = 0; i < 20; i++)
		put_orphan(&v, 500 + i, 0, 2 * DAY_NS);
	before = tv_objects(&v);
	for (size_t i = 0; i < KS_ARRAY_SIZE(rules); i++) {
		ks_check(gc_broken(&v, 0, false, rules[i], &out) < 0);
		ks_check_eq(tv_objects(&v), before);
		ks_check_eq(out.deleted_objects, 0);
	}
	ks_check_ok(gc_broken(&v, 0, true, NULL, &out));
	calls = broken.calls -
		2; /* what the preview itself reads at its end is not of the enumeration */
	ks_check(calls > 10);
	for (int n = 1; n <= calls; n++) {
		ks_check(gc_broken(&v, n, false, NULL, &out) < 0);
		ks_check_eq(out.deleted_objects, 0);
		ks_check_eq(tv_objects(&v), before);
	}
	/* Later ones end it, and what is referred to is never among what went. */
	for (int n = calls + 1; n < calls + 30; n++)
		KS_IGNORE(gc_broken(&v, n, false, NULL, &out) < 0);
	ks_fail_quiet(quiet);
	expect_healthy(&v);
	tv_remove(&v);
}

KS_TEST(objects_that_cannot_be_deleted_are_counted)
{
	struct ks_gc_result out;
	struct tv v;
	bool quiet = ks_fail_quiet(true);

	tv_make(&v);
	for (uint32_t i = 0; i < 5; i++)
		put_orphan(&v, 500 + i, 0, 2 * DAY_NS);
	ks_check_ok(gc_broken(&v, 0, false, "del:fail=EACCES", &out));
	ks_check_eq(out.failed, 5);
	ks_check_eq(out.deleted_objects, 0);
	ks_check_ok(gc_broken(&v, 0, false, "del:fail=EACCES:nth=1", &out));
	ks_check_eq(out.failed, 0);
	ks_check_eq(out.deleted_objects, 5);
	ks_fail_quiet(quiet);
	tv_remove(&v);
}

#define STUCK_FIRST 900000u
#define STUCK 1000u /* more than a batch */

static struct ks_store_ops picky;
static int (*real_del)(struct ks_object *o, const char *const *keys, size_t n);

/* As a directory that somebody has made immutable. */
static int refuse(struct ks_object *o, const char *const *keys, size_t n)
{
	char last[KS_KEY_STR];

	ks_block_key(last, STUCK_FIRST + STUCK, 0, KS_BLOCK_MIN);
	return strcmp(keys[0], last) == 0 ? real_del(o, keys, n) : -EPERM;
}

static int free_many(struct ks_txn *t, void *arg)
{
	(void)arg;
	for (uint64_t i = 0; i <= STUCK; i++) {
		struct ks_rec_freed f = { .slice = STUCK_FIRST + i,
					  .len = KS_BLOCK_MIN,
					  .block_size = KS_BLOCK_MIN };

		ks_txn_insert(t, KS_T_FREED, &f);
	}
	return 0;
}

static bool is_freed(struct ks_meta *m, uint64_t slice)
{
	struct ks_arena a = { 0 };
	struct ks_rec_freed f = { .slice = slice };
	struct ks_read rd = { .table = KS_T_FREED, .rec = &f };

	ks_check_ok(ks_engine_read(ks_meta_engine(m), &rd, 1, &a));
	ks_arena_clear(&a);
	return rd.found;
}

KS_TEST(what_cannot_be_deleted_is_not_in_the_way)
{
	struct ks_gc_opts o = { .grace_ns = KS_GC_GRACE_DEFAULT_NS, .what = KS_GC_PENDING };
	struct ks_gc_result out = { 0 };
	struct ks_maint m;
	struct tv v;
	bool quiet = ks_fail_quiet(true);

	tv_make(&v);
	ks_check_ok(ks_maint_open(&m, &v.ref, true));
	ks_check_ok(ks_engine_run(ks_meta_engine(m.meta), free_many, NULL));
	ks_check_ok(ks_meta_session_start(m.meta, KS_SESSION_TOOL, "kiseki-gc", "", ""));
	picky = *m.store->ops;
	real_del = picky.del;
	picky.del = refuse;
	m.store->ops = &picky;
	ks_check_ok(ks_gc(&m, &o, &out));
	ks_check(!is_freed(m.meta, STUCK_FIRST + STUCK));
	ks_check(is_freed(m.meta, STUCK_FIRST) && is_freed(m.meta, STUCK_FIRST + STUCK - 1));
	ks_check_eq(out.failed, STUCK);
	ks_maint_close(&m);
	ks_fail_quiet(quiet);
	tv_remove(&v);
}

/* ---- beside writers ---- */

static void *write_on(void *arg)
{
	struct ks_volume *vol = ((void **)arg)[0];
	_Atomic bool *stop = ((void **)arg)[1];
	char name[32];

	for (unsigned int i = 0; !*stop; i++) {
		snprintf(name, sizeof(name), "w%u", i % 20);
		KS_IGNORE(ks_vfs_unlink(vol->vfs, &tv_ctx, KS_ROOT_INO, name));
		tv_file(vol, KS_ROOT_INO, name, i % 4 ? (i % 9) * 30000 : 3 * KS_MIB + i * 1000, i);
	}
	return NULL;
}

KS_TEST(beside_a_writer_without_any_grace)
{
	struct ks_gc_opts o = { .grace_ns = 0, .wait_ns = 1 };
	struct ks_gc_result out;
	_Atomic bool stop = false;
	struct ks_volume *vol;
	void *args[2];
	pthread_t t;
	struct tv v;

	tv_make(&v);
	vol = tv_open(&v, KS_SESSION_MOUNT);
	args[0] = vol;
	args[1] = &stop;
	ks_check_eq(pthread_create(&t, NULL, write_on, args), 0);
	for (int i = 0; i < 20; i++) {
		ks_check_ok(gc(&v, &o, &out));
		ks_check_eq(out.failed, 0);
	}
	stop = true;
	pthread_join(t, NULL);
	ks_check_ok(ks_volume_close(vol));
	expect_healthy(&v);
	/* And in the end nothing is left over. */
	for (int i = 0; i < 3; i++)
		ks_check_ok(gc(&v, &o, &out));
	expect_healthy(&v);
	ks_check_eq(out.waiting.objects, 0);
	tv_remove(&v);
}

KS_TEST_MAIN()
