/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mkinodes.c: fills a volume that kiseki-format has made with a million files and more, in seconds: records are written in big
 * transactions, blocks are small and packs are holes. For the reach of fsck and gc; what is in the files nobody should ask.
 *
 *	mkinodes sqlite:///dir/meta.db FILES [FILES-WITH-BLOCKS-OF-THEIR-OWN]
 */
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/block.h"
#include "volume/maint.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PER_DIR 1000u
#define PER_BODY 5000u
#define PER_PACK 100000u
#define LEN 1000u
#define STRIDE 1064u
#define FIRST_INO 100000u

struct gen {
	struct ks_maint m;
	uint64_t files, blocks, at, n;
	int64_t now;
};

static uint64_t dir_of(uint64_t i)
{
	return FIRST_INO + i / PER_DIR;
}

static void put_name(struct ks_txn *t, const struct gen *g, uint64_t parent, const char *name,
		     uint64_t ino, uint32_t type)
{
	size_t n = strlen(name);
	uint64_t h = ks_siphash(g->m.settings->hash_key, name, n) >> 1;
	struct ks_rec_dentry d = { .parent = parent,
				   .hash = ks_max(h, (uint64_t)KS_DENTRY_HASH_MIN),
				   .name = { name, n },
				   .ino = ino,
				   .type = type };

	ks_txn_insert(t, KS_T_DENTRY, &d);
}

static void put_inode(struct ks_txn *t, const struct gen *g, uint64_t ino, uint64_t parent,
		      uint32_t mode, uint32_t nlink, uint64_t size)
{
	struct ks_rec_inode n = { .ino = ino,
				  .parent = parent,
				  .mode = mode,
				  .nlink = nlink,
				  .size = size,
				  .used = S_ISREG(mode) ? size : 0,
				  .atime_ns = g->now,
				  .mtime_ns = g->now,
				  .ctime_ns = g->now,
				  .btime_ns = g->now,
				  .change = 2 };

	ks_txn_insert(t, KS_T_INODE, &n);
}

static void put_file(struct ks_txn *t, const struct gen *g, uint64_t i, uint64_t first_file)
{
	static const unsigned char sums[4];
	bool own = i < g->blocks;
	uint64_t ino = first_file + i;
	struct ks_rec_slice s = { .id = 1 + i,
				  .len = LEN,
				  .status = KS_SLICE_COMMITTED,
				  .session = 1,
				  .refs = 1,
				  .block_size = (uint32_t)g->m.settings->block_size,
				  .ctime_ns = g->now };
	struct ks_rec_extent e = { .ino = ino, .seq = 2 << 12, .len = LEN, .slice = s.id };
	struct ks_rec_block b = { .slice = s.id, .size = LEN, .sums = { sums, 4 } };
	char name[40];

	if (!own) {
		s.pack = 1 + (i - g->blocks) / PER_PACK;
		s.pack_off = (i - g->blocks) % PER_PACK * STRIDE + KS_PACK_HEADER_SIZE;
		s.sums = (struct ks_bytes){ sums, 4 };
	}
	snprintf(name, sizeof(name), "file-%ju.dat", (uintmax_t)i);
	put_inode(t, g, ino, dir_of(i), S_IFREG | 0644, 1, LEN);
	put_name(t, g, dir_of(i), name, ino, 8);
	ks_txn_insert(t, KS_T_EXTENT, &e);
	ks_txn_insert(t, KS_T_SLICE, &s);
	if (own)
		ks_txn_insert(t, KS_T_BLOCK, &b);
}

static int body(struct ks_txn *t, void *arg)
{
	const struct gen *g = arg;
	uint64_t dirs = (g->files + PER_DIR - 1) / PER_DIR;
	uint64_t first_file = FIRST_INO + dirs;

	for (uint64_t i = g->at; i < g->at + g->n; i++) {
		if (i % PER_DIR == 0) {
			char name[40];

			snprintf(name, sizeof(name), "dir-%ju", (uintmax_t)(i / PER_DIR));
			put_inode(t, g, dir_of(i), KS_ROOT_INO, S_IFDIR | 0755, 2, 4096);
			put_name(t, g, KS_ROOT_INO, name, dir_of(i), 4);
		}
		put_file(t, g, i, first_file);
	}
	return 0;
}

static void put_counter(struct ks_txn *t, const char *name, uint64_t v)
{
	struct ks_rec_counter c = { .name = { name, strlen(name) }, .value = (int64_t)v };

	ks_txn_put(t, KS_T_COUNTER, &c);
}

static uint64_t packs_of(const struct gen *g)
{
	return (g->files - g->blocks + PER_PACK - 1) / PER_PACK;
}

static int last_body(struct ks_txn *t, void *arg)
{
	const struct gen *g = arg;
	uint64_t dirs = (g->files + PER_DIR - 1) / PER_DIR;
	struct ks_rec_inode root = { .ino = KS_ROOT_INO };
	struct ks_upd u = { .col_off = offsetof(struct ks_rec_inode, nlink),
			    .op = KS_UPD_SET,
			    .value = (int64_t)(2 + dirs) };

	ks_txn_update(t, KS_T_INODE, &root, &u, 1);
	put_counter(t, "inodes", 1 + dirs + g->files);
	put_counter(t, "used_bytes", g->files * LEN);
	put_counter(t, "next_inode", 16 + ks_round_up(FIRST_INO + dirs + g->files, 1024));
	put_counter(t, "next_slice", 1 + ks_round_up(g->files, 1024));
	put_counter(t, "next_pack", 1 + ks_round_up(packs_of(g) + 1, 1024));
	put_counter(t, "next_session", 2);
	for (uint64_t p = 0; p < packs_of(g); p++) {
		uint64_t n = ks_min(g->files - g->blocks - p * PER_PACK, (uint64_t)PER_PACK);
		struct ks_rec_pack rec = {
			.id = 1 + p, .size = n * STRIDE, .live = n * LEN, .slices = n
		};

		ks_txn_insert(t, KS_T_PACK, &rec);
	}
	return 0;
}

static int put_objects(struct gen *g)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", g->m.data_url);
	static uint8_t data[4096];
	char key[KS_KEY_STR], path[4096];
	struct iovec iov = { data, (size_t)ks_block_object_size(LEN) };
	int r = dir ? 0 : -ENOMEM;

	for (uint64_t i = 0; r == 0 && i < g->blocks; i++) {
		ks_block_key(key, 1 + i, 0, LEN);
		r = ks_object_put(g->m.store, key, &iov, 1);
	}
	for (uint64_t p = 0; r == 0 && p < packs_of(g); p++) {
		ks_pack_key(key, 1 + p);
		r = ks_object_put(g->m.store, key, &iov, 1);
		snprintf(path, sizeof(path), "%s/%s", dir, key);
		if (r == 0 && truncate(path, (off_t)PER_PACK * STRIDE) < 0)
			r = -errno;
	}
	return r;
}

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .config = "/dev/null" };
	struct ks_volume_ref ref = { 0 };
	struct gen g = { .now = ks_clock_real_ns() };
	int r;

	if (argc < 3) {
		fprintf(stderr, "usage: %s META-URL FILES [WITH-BLOCKS]\n", argv[0]);
		return 64;
	}
	g.files = strtoull(argv[2], NULL, 10);
	g.blocks = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	r = ks_volume_resolve(&ref, argv[1], &find);
	if (r == 0)
		r = ks_maint_open(&g.m, &ref, true);
	for (g.at = 0; r == 0 && g.at < g.files; g.at += g.n) {
		g.n = ks_min(g.files - g.at, (uint64_t)PER_BODY);
		r = ks_engine_run(ks_meta_engine(g.m.meta), body, &g);
	}
	if (r == 0)
		r = ks_engine_run(ks_meta_engine(g.m.meta), last_body, &g);
	if (r == 0)
		r = put_objects(&g);
	if (r == 0)
		r = ks_meta_sync(g.m.meta);
	ks_maint_close(&g.m);
	ks_volume_ref_clear(&ref);
	return r < 0;
}
