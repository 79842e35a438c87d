/* SPDX-License-Identifier: Apache-2.0 */
/* make_test.c: many files at once come with their contents, in one append, and data is durable before it replaces other data. */
#include "base/hash.h"
#include "base/tap.h"
#include "vfs/internal.h"
#include <errno.h>
#include <fcntl.h>

#define FILES 6

static const size_t sizes[FILES] = { 1, 4096, 0, 65537, KS_RUN_FILE_MAX, 13 };

struct rig {
	struct ks_vfs *v;
	struct ks_ctx c;
	struct ks_pack_run run;
	struct ks_make m[FILES];
};

static void start(struct rig *g)
{
	const struct ks_volume_settings s = { .format_version = 1,
					      .name = "make",
					      .block_size = KS_BLOCK_DEFAULT,
					      .data_url = "mem://make" };
	struct ks_meta_opts mo = { .noatime = true };
	struct ks_vfs_opts vo = { .data = { .buffer_bytes = 8 * KS_MIB } };
	static int n;
	char url[64];

	*g = (struct rig){ 0 };
	snprintf(url, sizeof(url), "mem://make-%d", ++n);
	ks_check_ok(ks_meta_format(url, &s, 0, 0));
	ks_check_ok(ks_vfs_new(&g->v));
	mo.hooks = ks_vfs_hooks(g->v);
	ks_check_ok(ks_meta_open(&vo.meta, url, &mo));
	ks_check_ok(ks_object_open(&vo.store, url));
	ks_check_ok(ks_object_with_stats(&vo.store, vo.store));
	ks_check_ok(ks_meta_session_start(vo.meta, KS_SESSION_TOOL, "make_test", "", ""));
	ks_check_ok(ks_vfs_start(g->v, &vo));
	ks_check(ks_vfs_can_make(g->v));
	g->run.cap = 2 * KS_MIB;
	g->run.p = malloc(g->run.cap);
}

static void stop(struct rig *g)
{
	ks_check_ok(ks_vfs_close(g->v));
	free(g->run.p);
}

static uint8_t byte(int seed, size_t i)
{
	return (uint8_t)(ks_mix64((uint64_t)seed << 32 | i / 8) >> i % 8 * 8);
}

static const char *name_of(int i)
{
	static const char *const names[FILES] = { "a", "b", "c", "d", "e", "f" };

	return names[i];
}

/* Some files, of contents that @seed tells apart. */
static void fill_some(struct rig *g, struct ks_pack_run *run, int from, int to, int seed,
		      unsigned int flags)
{
	run->n = 0;
	for (int i = from; i < to; i++) {
		uint8_t *p = ks_run_room(run, sizes[i]);

		ks_check(p != NULL);
		for (size_t k = 0; k < sizes[i]; k++)
			p[k] = byte(seed + i, k);
		if (sizes[i])
			ks_run_take(run, sizes[i]);
		g->m[i] = (struct ks_make){ .parent = KS_ROOT_INO,
					    .name = name_of(i),
					    .flags = flags,
					    .attr = { .mode = S_IFREG | 0644, .size = sizes[i] },
					    .err = 1 };
	}
}

static void fill(struct rig *g, int seed, unsigned int flags)
{
	fill_some(g, &g->run, 0, FILES, seed, flags);
}

static void check_file(struct rig *g, int seed, int i)
{
	static uint8_t buf[KS_RUN_FILE_MAX + 1];
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;

	ks_check_ok(ks_vfs_lookup(g->v, &g->c, KS_ROOT_INO, name_of(i), &a));
	ks_check_eq(a.size, sizes[i]);
	ks_check_ok(ks_vfs_open(g->v, &g->c, a.ino, O_RDONLY, &fh, &how));
	ks_check_eq(ks_vfs_read(fh, &g->c, 0, buf, sizeof(buf)), (ssize_t)sizes[i]);
	for (size_t k = 0; k < sizes[i]; k++) {
		if (buf[k] != byte(seed + i, k)) {
			ks_check(!"the content is another");
			break;
		}
	}
	ks_vfs_release(fh);
}

KS_TEST(contents)
{
	struct ks_object_stats before, after;
	struct rig g;

	start(&g);
	fill(&g, 1, 0);
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run));
	ks_object_stats(ks_vfs_store(g.v), &after);
	ks_check_eq(after.appends - before.appends, 1);
	ks_check_eq(after.put_bytes - before.put_bytes, g.run.n);
	for (int i = 0; i < FILES; i++) {
		ks_check_eq(g.m[i].err, 0);
		check_file(&g, 1, i);
	}
	stop(&g);
}

/* Over what is there, one of them open: its reader keeps what it has. */
KS_TEST(replaced)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	uint8_t buf[64];
	struct rig g;

	start(&g);
	fill(&g, 1, 0);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run));
	ks_check_ok(ks_vfs_open(g.v, &g.c, g.m[5].attr.ino, O_RDONLY, &fh, &how));
	fill(&g, 1000, 0);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run));
	for (int i = 0; i < FILES; i++)
		ks_check_eq(g.m[i].err, -EEXIST);
	check_file(&g, 1, 1);
	fill(&g, 1000, KS_MAKE_REPLACE);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run));
	for (int i = 0; i < FILES; i++) {
		ks_check_eq(g.m[i].err, 0);
		check_file(&g, 1000, i);
	}
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), (ssize_t)sizes[5]);
	ks_check_eq(buf[3], byte(1 + 5, 3));
	ks_vfs_release(fh);
	stop(&g);
}

/* What was written to a file without a name is there when it gets one. */
KS_TEST(a_written_file_gets_its_name)
{
	struct ks_make m = { .parent = KS_ROOT_INO, .name = "f", .flags = KS_MAKE_LINK };
	struct ks_pack_run none = { 0 };
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	struct rig g;

	start(&g);
	ks_check_ok(ks_vfs_tmpfile(g.v, &g.c, KS_ROOT_INO, 0600, O_RDWR, &a, &fh));
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "hello", 5), 5);
	m.attr.ino = a.ino;
	ks_check_ok(ks_vfs_make(g.v, &g.c, &m, 1, &none));
	ks_check_eq(m.err, 0);
	ks_check_eq(m.out.size, 5);
	ks_vfs_release(fh);
	ks_check_ok(ks_vfs_lookup(g.v, &g.c, KS_ROOT_INO, "f", &a));
	ks_check_eq(a.nlink, 1);
	stop(&g);
}

/* All that are one slice in a pack, and no others; and only what is as it was written. */
KS_TEST(read_whole)
{
	static uint8_t buf[KS_RUN_FILE_MAX];
	struct ks_whole w[FILES + 2] = { 0 };
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct rig g;

	start(&g);
	fill(&g, 1, 0);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run));
	for (int i = 0; i < FILES; i++)
		w[i].ino = g.m[i].attr.ino;
	w[FILES].ino = 999999;
	w[FILES + 1].ino = KS_ROOT_INO;
	ks_check_ok(ks_vfs_whole(g.v, w, FILES + 2));
	for (int i = 0; i < FILES; i++) {
		ks_check_eq(w[i].attr.ino, sizes[i] ? g.m[i].attr.ino : 0);
		if (!sizes[i])
			continue;
		ks_check_eq(w[i].attr.size, sizes[i]);
		ks_check_ok(ks_vfs_read_whole(g.v, &w[i], buf));
		ks_check_eq(buf[sizes[i] - 1], byte(1 + i, sizes[i] - 1));
	}
	ks_check(!w[FILES].attr.ino && !w[FILES + 1].attr.ino);
	w[1].sums[0] ^= 1;
	ks_check_eq(ks_vfs_read_whole(g.v, &w[1], buf), -EAGAIN);
	w[3].pack++;
	ks_check_eq(ks_vfs_read_whole(g.v, &w[3], buf), -EAGAIN);
	/* Two pieces; and one that is being written. */
	ks_check_ok(ks_vfs_open(g.v, &g.c, g.m[1].attr.ino, O_WRONLY, &fh, &how));
	ks_check_ok(ks_vfs_whole(g.v, w, 2));
	ks_check(w[0].attr.ino && !w[1].attr.ino);
	ks_check_eq(ks_vfs_write(fh, &g.c, 4000, buf, 200), 200);
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_vfs_release(fh);
	ks_check_ok(ks_vfs_whole(g.v, w, 2));
	ks_check(w[0].attr.ino && !w[1].attr.ino);
	ks_check_eq(ks_vfs_whole(g.v, w, KS_WHOLE_MAX + 1), -EINVAL);
	stop(&g);
}

static bool is_there(struct rig *g, int i)
{
	struct ks_attr a;

	return ks_vfs_lookup(g->v, &g->c, KS_ROOT_INO, name_of(i), &a) == 0;
}

/* Two batches on their way at once, out of one memory: one sync makes both durable, and not before the end of each are its names there. */
KS_TEST(in_steps)
{
	enum { HALF = FILES / 2 };
	struct ks_object_stats st[4];
	struct ks_making *making[2] = { 0 };
	struct ks_object *store;
	struct rig g;

	start(&g);
	store = ks_vfs_store(g.v);
	ks_object_stats(store, &st[0]);
	for (int i = 0; i < 2; i++) {
		fill_some(&g, &g.run, i * HALF, (i + 1) * HALF, 1, 0);
		ks_check_ok(ks_vfs_make_begin(g.v, &g.m[i * HALF], HALF, &g.run, &making[i]));
		memset(g.run.p, 0xee, g.run.cap);
	}
	ks_object_stats(store, &st[1]);
	ks_check_eq(st[1].appends - st[0].appends, 2);
	ks_check_eq(st[1].syncs, st[0].syncs);
	ks_check_ok(ks_vfs_make_settle(g.v, making, 2));
	ks_object_stats(store, &st[2]);
	ks_check_eq(st[2].syncs - st[1].syncs, 1);
	for (int i = 0; i < FILES; i++)
		ks_check(!is_there(&g, i));
	for (int i = 1; i >= 0; i--) {
		ks_check_ok(ks_vfs_make_end(g.v, &g.c, making[i]));
		ks_check(is_there(&g, 0) == (i == 0) && is_there(&g, HALF));
	}
	ks_object_stats(store, &st[3]);
	ks_check_eq(st[3].syncs, st[2].syncs);
	for (int i = 0; i < FILES; i++) {
		ks_check_eq(g.m[i].err, 0);
		check_file(&g, 1, i);
	}
	stop(&g);
}

/* Whose end nobody settled is durable all the same; and what is dropped was never there. */
KS_TEST(not_settled_and_dropped)
{
	struct ks_object_stats before, after;
	struct ks_making *making = NULL;
	struct rig g;

	start(&g);
	fill(&g, 1, 0);
	ks_check_ok(ks_vfs_make_begin(g.v, g.m, FILES, &g.run, &making));
	ks_vfs_make_drop(making);
	ks_vfs_make_drop(NULL);
	for (int i = 0; i < FILES; i++)
		ks_check(!is_there(&g, i) && !g.m[i].s);
	fill(&g, 5, 0);
	ks_check_ok(ks_vfs_make_begin(g.v, g.m, FILES, &g.run, &making));
	ks_object_stats(ks_vfs_store(g.v), &before);
	ks_check_ok(ks_vfs_make_end(g.v, &g.c, making));
	ks_object_stats(ks_vfs_store(g.v), &after);
	ks_check_eq(after.syncs - before.syncs, 1);
	for (int i = 0; i < FILES; i++)
		check_file(&g, 5, i);
	stop(&g);
}

KS_TEST(bad_input)
{
	struct ks_pack_run none = { 0 };
	struct rig g;

	start(&g);
	fill(&g, 1, 0);
	ks_check(ks_run_room(&g.run, KS_RUN_FILE_MAX + 1) == NULL);
	ks_check(ks_run_room(&none, 1) == NULL);
	/* More is said than there is, and less. */
	ks_check_eq(ks_vfs_make(g.v, &g.c, g.m, FILES, &none), -EINVAL);
	ks_check_eq(ks_vfs_make(g.v, &g.c, g.m, 2, &g.run), -EINVAL);
	g.m[0].name = "a/b";
	ks_check_eq(ks_vfs_make(g.v, &g.c, g.m, FILES, &g.run), -EINVAL);
	ks_check_ok(ks_vfs_make(g.v, &g.c, g.m, 0, &none));
	stop(&g);
}

KS_TEST_MAIN()
