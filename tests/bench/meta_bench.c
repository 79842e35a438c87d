/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_bench.c: metadata operations per second, one thread, no mount: meta_bench [url] [files]
 *
 * The engine and the semantics over it, nothing else. The volume is made anew; the default is a SQLite database in TMPDIR.
 */
#include "base/clock.h"
#include "base/hash.h"
#include "meta/meta.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct ks_meta *meta;
static uint64_t *inos;
static uint64_t dir;
static int files = 20000;
static const struct ks_cred cred;

static void die(const char *what, int r)
{
	fprintf(stderr, "meta_bench: %s: %s\n", what, strerror(-r));
	exit(1);
}

static int op_mknod(int i)
{
	struct ks_attr a = { 0 };
	char name[32];
	int r;

	snprintf(name, sizeof(name), "file-%d", i);
	r = ks_meta_mknod(meta, &cred, dir, name, S_IFREG | 0644, 0, NULL, &a);
	inos[i] = a.ino;
	return r;
}

static int op_lookup(int i)
{
	struct ks_attr a;
	char name[32];

	snprintf(name, sizeof(name), "file-%d", i);
	return ks_meta_lookup(meta, dir, name, &a);
}

static int op_getattr(int i)
{
	struct ks_attr a;

	return ks_meta_getattr(meta, inos[i], &a);
}

static int op_setattr(int i)
{
	struct ks_attr a = { .mode = 0600 };

	return ks_meta_setattr(meta, inos[i], KS_SET_MODE, &a, NULL);
}

static int op_commit(int i)
{
	static const uint32_t sums[64];
	struct ks_commit_slice s = { .len = 100000, .block_size = KS_BLOCK_DEFAULT, .sums = sums };
	struct ks_commit c = { .ino = inos[i], .s = &s, .n = 1, .end = s.len };
	int r = ks_meta_new_slice_id(meta, &s.slice);

	return r < 0 ? r : ks_meta_commit(meta, &c, NULL);
}

static int op_map(int i)
{
	struct ks_chunk_map *map = NULL;
	int r = ks_meta_map(meta, inos[i], 0, &map);

	ks_chunk_map_free(map);
	return r;
}

static int op_rename(int i)
{
	char a[32], b[32];

	snprintf(a, sizeof(a), "file-%d", i);
	snprintf(b, sizeof(b), "moved-%d", i);
	return ks_meta_rename(meta, &cred, dir, a, dir, b, 0, NULL, NULL);
}

static int op_unlink(int i)
{
	char name[32];

	snprintf(name, sizeof(name), "moved-%d", i);
	return ks_meta_unlink(meta, dir, name, NULL);
}

static int count_entry(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *a)
{
	(void)a;
	*(uint64_t *)arg = d->hash;
	return 0;
}

static void row(const char *name, int n, int64_t ns)
{
	printf("%-12s %8.0f op/s %8.2f us\n", name, n * 1e9 / (double)ns, (double)ns / 1e3 / n);
}

static void bench(const char *name, int (*op)(int))
{
	int64_t start = ks_clock_mono_ns();

	for (int i = 0; i < files; i++) {
		int r = op(i);

		if (r < 0)
			die(name, r);
	}
	row(name, files, ks_clock_mono_ns() - start);
}

static void bench_readdir(void)
{
	int64_t start = ks_clock_mono_ns();
	uint64_t after = 0;
	bool eof = false;

	while (!eof) {
		int r = ks_meta_readdir(meta, dir, after, true, 256, count_entry, &after, &eof);

		if (r < 0)
			die("readdir", r);
	}
	row("readdirplus", files, ks_clock_mono_ns() - start);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	struct ks_volume_settings s = { .name = "bench",
					.format_version = 1,
					.block_size = KS_BLOCK_DEFAULT,
					.compress = "none",
					.created_by = "meta_bench" };
	struct ks_attr a = { 0 };
	char scratch[256] = "", url[512];
	int64_t start;
	int r;

	if (argc > 1) {
		snprintf(url, sizeof(url), "%s", argv[1]);
	} else {
		snprintf(scratch, sizeof(scratch), "%s/meta-bench.XXXXXX", tmp ? tmp : "/tmp");
		if (!mkdtemp(scratch))
			die(scratch, -1);
		snprintf(url, sizeof(url), "sqlite://%s/m.db", scratch);
	}
	if (argc > 2)
		files = (int)strtol(argv[2], NULL, 10);
	inos = calloc((size_t)files, sizeof(*inos));
	r = inos ? ks_random(s.hash_key, sizeof(s.hash_key)) : -12;
	if (r == 0)
		r = ks_meta_format(url, &s, 0, 0);
	if (r == 0)
		r = ks_meta_open(&meta, url, NULL);
	if (r == 0)
		r = ks_meta_session_start(meta, KS_SESSION_TOOL, "meta_bench", "", "");
	if (r == 0)
		r = ks_meta_mknod(meta, &cred, KS_ROOT_INO, "d", S_IFDIR | 0755, 0, NULL, &a);
	if (r < 0)
		die(url, r);
	dir = a.ino;
	bench("mknod", op_mknod);
	bench("lookup", op_lookup);
	bench("getattr", op_getattr);
	bench("setattr", op_setattr);
	bench_readdir();
	bench("rename", op_rename);
	bench("unlink", op_unlink);
	bench("mknod", op_mknod);
	bench("commit", op_commit);
	bench("map", op_map);
	bench("rename", op_rename);
	bench("unlink", op_unlink);
	start = ks_clock_mono_ns();
	r = ks_meta_tick(meta, 0);
	if (r < 0)
		die("reap", r);
	row("reap", files, ks_clock_mono_ns() - start);
	ks_meta_close(meta);
	free(inos);
	if (scratch[0]) {
		KS_AUTO(ks_freep) char *cmd = ks_asprintf("rm -rf '%s'", scratch);

		if (cmd)
			KS_IGNORE(system(cmd));
	}
	return 0;
}
