/* SPDX-License-Identifier: Apache-2.0 */
/* meta_data_test.c: slices, maps, holes and sharing, against a model that knows every byte. */
#include "meta/meta_testlib.h"

/* A window over the edge of the first two chunks, so that every operation meets it. */
#define HALF 512u
#define WIN (2 * HALF)
#define BASE (KS_CHUNK_SIZE - HALF)

struct byte {
	uint64_t slice; /* 0: hole */
	uint32_t off;
};

struct model {
	uint64_t ino;
	uint64_t size; /* within the window */
	struct byte b[WIN];
};

static void model_check(struct vol *v, const struct model *mo)
{
	struct ks_chunk_map *map[2];
	struct ks_attr a = attr_of(v, mo->ino);
	uint64_t used = 0;

	ks_check_eq(a.size, BASE + mo->size);
	for (uint64_t c = 0; c < 2; c++) {
		ks_check_ok(ks_meta_map(v->m, mo->ino, c, &map[c]));
		ks_check_eq(map[c]->change, a.change);
	}
	for (uint32_t i = 0; i < WIN; i++) {
		uint64_t at = BASE + i;
		const struct ks_chunk_map *m = map[at / KS_CHUNK_SIZE];
		uint32_t pos = (uint32_t)(at % KS_CHUNK_SIZE);
		uint32_t k = ks_chunk_map_find(m, pos);
		bool data = k < m->n && m->e[k].pos <= pos;

		used += mo->b[i].slice != 0;
		ks_check_eq(data ? m->e[k].slice : 0, mo->b[i].slice);
		if (data)
			ks_check_eq(m->e[k].off + (pos - m->e[k].pos), mo->b[i].off);
	}
	ks_check_eq(a.used, used);
	ks_chunk_map_free(map[0]);
	ks_chunk_map_free(map[1]);
}

static void model_seek_check(struct vol *v, const struct model *mo)
{
	for (uint32_t i = 0; i < mo->size; i += 7) {
		uint32_t data = i, hole = i;
		uint64_t got = 0;
		int r;

		while (data < mo->size && !mo->b[data].slice)
			data++;
		while (hole < mo->size && mo->b[hole].slice)
			hole++;
		r = ks_meta_seek(v->m, mo->ino, BASE + i, false, &got);
		ks_check_eq(r, data < mo->size ? 0 : -ENXIO);
		if (r == 0)
			ks_check_eq(got, BASE + data);
		ks_check_ok(ks_meta_seek(v->m, mo->ino, BASE + i, true, &got));
		ks_check_eq(got, BASE + hole);
	}
}

static uint64_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rnd_state >> 33) % n;
}

static void model_hole(struct model *mo, uint32_t at, uint32_t n)
{
	for (uint32_t i = at; i < at + n && i < WIN; i++)
		mo->b[i] = (struct byte){ 0 };
}

/* A write, cut at the chunk edge as data does it, in one commit. */
static void op_write(struct vol *v, struct model *mo)
{
	static const uint32_t sums[4];
	uint32_t at = rnd(WIN), n = 1 + rnd(ks_min(WIN - at, 300u));
	struct ks_commit_slice s[2];
	struct ks_commit c = { .ino = mo->ino, .s = s, .end = BASE + at + n };
	struct ks_attr a;

	for (uint32_t i = at; i < at + n;) {
		uint64_t pos = BASE + i;
		uint32_t part = (uint32_t)ks_min((uint64_t)(at + n - i),
						 KS_CHUNK_SIZE - pos % KS_CHUNK_SIZE);
		struct ks_commit_slice *x = &s[c.n++];

		*x = (struct ks_commit_slice){ .chunk = pos / KS_CHUNK_SIZE,
					       .pos = (uint32_t)(pos % KS_CHUNK_SIZE),
					       .len = part,
					       .block_size = KS_BLOCK_DEFAULT,
					       .sums = sums,
					       .pack = rnd(3) ? 0 : 5 };
		ks_check_ok(ks_meta_new_slice_id(v->m, &x->slice));
		for (uint32_t k = 0; k < part; k++)
			mo->b[i + k] = (struct byte){ x->slice, k };
		i += part;
	}
	ks_check_ok(ks_meta_commit(v->m, &c, &a));
	mo->size = ks_max(mo->size, (uint64_t)at + n);
	ks_check_eq(a.size, BASE + mo->size);
}

static void op_punch(struct vol *v, struct model *mo)
{
	uint32_t at = rnd(WIN), n = 1 + rnd(WIN - at);
	bool zero = rnd(2), keep = rnd(2);

	ks_check_ok(ks_meta_fallocate(v->m, mo->ino, zero ? KS_FALLOC_ZERO : KS_FALLOC_PUNCH, keep,
				      BASE + at, n, NULL));
	model_hole(mo, at, n);
	if (zero && !keep)
		mo->size = ks_max(mo->size, (uint64_t)at + n);
}

static void op_truncate(struct vol *v, struct model *mo)
{
	uint32_t size = rnd(WIN + 1);

	set_size(v, mo->ino, BASE + size);
	if (size < WIN)
		model_hole(mo, size, WIN - size);
	mo->size = size;
}

static void op_copy(struct vol *v, struct model *dst, const struct model *src)
{
	uint32_t from = rnd(WIN), to = rnd(WIN);
	uint32_t n = 1 + rnd(WIN - ks_max(from, to));
	uint32_t clipped =
		(uint32_t)(from >= src->size ? 0 : ks_min((uint64_t)n, src->size - from));
	uint64_t done;
	int r = ks_meta_copy_range(v->m, src->ino, BASE + from, dst->ino, BASE + to, n, &done,
				   NULL);
	struct byte copy[WIN];

	if (src == dst && from < to + n && to < from + n) {
		ks_check_eq(r, -EINVAL);
		return;
	}
	ks_check_ok(r);
	ks_check_eq(done, clipped);
	memcpy(copy, &src->b[from], clipped * sizeof(*copy));
	memcpy(&dst->b[to], copy, clipped * sizeof(*copy));
	if (clipped)
		dst->size = ks_max(dst->size, (uint64_t)to + clipped);
}

static void content_fuzz(struct vol *v, uint64_t seed, int steps)
{
	struct model mo[2] = { { 0 } };

	printf("# seed %ju\n", (uintmax_t)seed);
	rnd_state = seed;
	mo[0].ino = mkfile(v, ROOT, "a");
	mo[1].ino = mkfile(v, ROOT, "b");
	set_size(v, mo[0].ino, BASE);
	set_size(v, mo[1].ino, BASE);
	for (int i = 0; i < steps; i++) {
		struct model *m = &mo[rnd(2)];
		uint32_t what = rnd(10);

		if (what < 5)
			op_write(v, m);
		else if (what < 7)
			op_punch(v, m);
		else if (what < 8)
			op_truncate(v, m);
		else
			op_copy(v, m, &mo[rnd(2)]);
		model_check(v, m);
		if (i % 16 == 0)
			model_seek_check(v, m);
		if (i % 64 == 0)
			vol_audit(v);
	}
	for (int k = 0; k < 2; k++) {
		set_size(v, mo[k].ino, 0);
		ks_check_eq(attr_of(v, mo[k].ino).used, 0);
	}
	ks_check_eq(count_rows(v, KS_T_EXTENT), 0);
	ks_check_eq(count_rows(v, KS_T_SLICE), 0);
	vol_audit(v);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "a", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "b", NULL));
}

ON_BOTH(content_against_a_model)
{
	for (uint64_t i = 0; i < 4; i++)
		content_fuzz(v, (uint64_t)ks_clock_real_ns() + i, v->sqlite ? 150 : 300);
}

static int freed_total(struct vol *v, uint64_t *blocks, uint64_t *packed)
{
	struct ks_free_item items[7];
	int total = 0;

	for (;;) {
		ssize_t n = ks_meta_free_list(v->m, NULL, items, KS_ARRAY_SIZE(items));

		ks_check(n >= 0);
		if (n == 0)
			return total;
		for (ssize_t i = 0; i < n; i++) {
			*packed += items[i].pack ? items[i].len : 0;
			*blocks +=
				items[i].pack ? 0 : ks_blocks_of(items[i].len, items[i].block_size);
		}
		ks_check_ok(ks_meta_free_done(v->m, items, (size_t)n));
		ks_check_ok(ks_meta_free_done(v->m, items, (size_t)n)); /* twice is once */
		total += (int)n;
	}
}

static int pack_one(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	(void)n;
	*(struct ks_rec_pack *)arg = *(const struct ks_rec_pack *)rec;
	return 0;
}

ON_BOTH(freed_slices_are_listed_once)
{
	uint64_t f = mkfile(v, ROOT, "f"), blocks = 0, packed = 0;
	struct ks_rec_pack p = { 0 };

	put_slice(v, f, 0, 10 << 20, 0);
	put_slice(v, f, 20 << 20, 1000, 9);
	put_slice(v, f, 21 << 20, 2000, 9);
	ks_check_eq(count_rows(v, KS_T_BLOCK), 3);
	audit_scan(v, KS_T_PACK, pack_one, &p);
	ks_check_eq(p.live, 3000);
	ks_check_eq(p.slices, 2);
	ks_check_eq(freed_total(v, &blocks, &packed), 0);
	put_slice(v, f, 20 << 20, 1000, 0); /* hides the packed one */
	ks_check_eq(freed_total(v, &blocks, &packed), 1);
	ks_check_eq(packed, 1000);
	audit_scan(v, KS_T_PACK, pack_one, &p);
	ks_check_eq(p.live, 2000);
	ks_check_eq(p.slices, 1);
	set_size(v, f, 0);
	ks_check_eq(count_rows(v, KS_T_BLOCK), 4);
	packed = 0;
	ks_check_eq(freed_total(v, &blocks, &packed), 3);
	ks_check_eq(blocks, 4);
	ks_check_eq(packed, 2000);
	ks_check_eq(count_rows(v, KS_T_BLOCK), 0);
	ks_check_eq(count_rows(v, KS_T_FREED), 0);
	audit_scan(v, KS_T_PACK, pack_one, &p);
	ks_check_eq(p.live, 0);
	ks_check_eq(p.slices, 0);
}

ON_BOTH(checksums_come_back)
{
	uint64_t f = mkfile(v, ROOT, "f");
	struct ks_block_index bi;
	struct ks_chunk_map *map = NULL;
	uint64_t s = put_slice(v, f, 0, (4 << 20) + 100, 0);

	ks_check_ok(ks_meta_block(v->m, s, 0, &bi));
	ks_check_eq(bi.size, 4 << 20);
	ks_check_eq(bi.npages, 64);
	for (uint32_t i = 0; i < 64; i++)
		ks_check_eq(bi.sums[i], i);
	ks_check_ok(ks_meta_block(v->m, s, 1, &bi));
	ks_check_eq(bi.size, 100);
	ks_check_eq(bi.npages, 1);
	ks_check_eq(bi.sums[0], 64);
	ks_check_eq(ks_meta_block(v->m, s, 2, &bi), -ENOENT);
	put_slice(v, f, 1000, 70000, 3);
	ks_check_ok(ks_meta_map(v->m, f, 0, &map));
	ks_check_eq(map->n, 3);
	ks_check_eq(map->layers, 2);
	ks_check_eq(map->e[1].pack, 3);
	ks_check_eq(map->e[1].slice_len, 70000);
	ks_check_eq(map->e[1].sums[0], 31000);
	ks_check_eq(map->e[1].sums[1], 31001);
	ks_check(!map->e[0].sums);
	ks_check_eq(map->e[2].off, 71000);
	ks_chunk_map_free(map);
	ks_check_eq(ks_meta_map(v->m, 999, 0, &map), -ENOENT);
}

ON_BOTH(commit_rules)
{
	static const uint32_t sums[1];
	struct ks_commit_slice s = {
		.len = 10, .slice = 77, .block_size = KS_BLOCK_DEFAULT, .sums = sums
	};
	struct ks_commit c = { .ino = 999, .s = &s, .n = 1 };
	struct ks_attr in = { .mode = 06777 }, a;
	bool quiet = ks_fail_quiet(true);

	ks_check_eq(ks_meta_commit(v->m, &c, NULL), -ENOENT);
	ks_check_eq(count_rows(v, KS_T_SLICE), 0);
	c.ino = ROOT;
	ks_check_eq(ks_meta_commit(v->m, &c, NULL), -EINVAL);
	c.ino = mkfile(v, ROOT, "f");
	s.pos = (uint32_t)KS_CHUNK_SIZE - 5;
	ks_check_eq(ks_meta_commit(v->m, &c, NULL), -EINVAL);
	s.pos = 0;
	ks_check_ok(ks_meta_setattr(v->m, c.ino, KS_SET_MODE, &in, NULL));
	c.kill_priv = true;
	c.mtime_ns = 42;
	ks_check_ok(ks_meta_commit(v->m, &c, &a));
	ks_check_eq(a.mode, S_IFREG | 0777);
	ks_check_eq(a.mtime_ns, 42);
	ks_check_eq(a.size, 10);
	ks_check_eq(a.used, 10);
	c.end = KS_FILE_MAX + 1;
	ks_check_eq(ks_meta_commit(v->m, &c, NULL), -EFBIG);
	/* Only a size. */
	c = (struct ks_commit){ .ino = c.ino, .end = 500 };
	ks_check_ok(ks_meta_commit(v->m, &c, &a));
	ks_check_eq(a.size, 500);
	ks_fail_quiet(quiet);
}

/* More slices than one change has sequence numbers, and a truncate of more extents than one transaction takes. */
ON_BOTH(many_pieces)
{
	enum { N = 4500 };
	static const uint32_t sums[1];
	struct ks_commit_slice *s = calloc(N, sizeof(*s));
	struct ks_commit c = { .ino = mkfile(v, ROOT, "f"), .s = s, .n = N };
	struct ks_chunk_map *map = NULL;
	uint64_t done, at = 0, g = mkfile(v, ROOT, "g");

	for (uint32_t i = 0; i < N; i++) {
		s[i] = (struct ks_commit_slice){ .chunk = i / 1500,
						 .pos = i % 1500 * 20,
						 .len = 10,
						 .block_size = KS_BLOCK_DEFAULT,
						 .sums = sums,
						 .pack = 1 };
		ks_check_ok(ks_meta_new_slice_id(v->m, &s[i].slice));
	}
	ks_check_ok(ks_meta_commit(v->m, &c, NULL));
	ks_check_eq(attr_of(v, c.ino).used, N * 10);
	for (uint64_t end = attr_of(v, c.ino).size; at < end; at += done) {
		ks_check_ok(ks_meta_copy_range(v->m, c.ino, at, g, at, end - at, &done, NULL));
		ks_check(done > 0);
	}
	ks_check_eq(attr_of(v, g).used, N * 10);
	vol_audit(v);
	ks_check_ok(ks_meta_fallocate(v->m, g, KS_FALLOC_PUNCH, true, 25, 2 * KS_CHUNK_SIZE + 100,
				      NULL));
	ks_check_eq(attr_of(v, g).used, 15 + (1500 - 7) * 10 + 5);
	vol_audit(v);
	set_size(v, c.ino, 105);
	ks_check_eq(attr_of(v, c.ino).used, 55);
	ks_check_eq(attr_of(v, c.ino).size, 105);
	set_size(v, c.ino, 3 * KS_CHUNK_SIZE);
	ks_check_ok(ks_meta_map(v->m, c.ino, 0, &map));
	ks_check_eq(map->n, 6);
	ks_chunk_map_free(map);
	ks_check_ok(ks_meta_map(v->m, c.ino, 2, &map));
	ks_check_eq(map->n, 0);
	ks_chunk_map_free(map);
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "g", NULL));
	ks_check_ok(ks_meta_tick(v->m, 0));
	free(s);
}

ON_BOTH(fallocate_and_seek_rules)
{
	uint64_t f = mkfile(v, ROOT, "f"), at;
	struct ks_attr a;

	ks_check_ok(ks_meta_fallocate(v->m, f, KS_FALLOC_EXTEND, true, 0, 1000, &a));
	ks_check_eq(a.size, 0);
	ks_check_ok(ks_meta_fallocate(v->m, f, KS_FALLOC_EXTEND, false, 10, 1000, &a));
	ks_check_eq(a.size, 1010);
	ks_check_eq(a.used, 0);
	ks_check_eq(ks_meta_fallocate(v->m, f, KS_FALLOC_EXTEND, false, 10, 0, &a), -EINVAL);
	ks_check_eq(ks_meta_fallocate(v->m, f, KS_FALLOC_EXTEND, false, KS_FILE_MAX, 1, &a),
		    -EFBIG);
	ks_check_eq(ks_meta_fallocate(v->m, ROOT, KS_FALLOC_EXTEND, false, 0, 1, &a), -EISDIR);
	ks_check_eq(ks_meta_fallocate(v->m, 999, KS_FALLOC_EXTEND, false, 0, 1, &a), -ENOENT);
	ks_check_eq(ks_meta_seek(v->m, f, 0, false, &at), -ENXIO);
	ks_check_ok(ks_meta_seek(v->m, f, 0, true, &at));
	ks_check_eq(at, 0);
	ks_check_eq(ks_meta_seek(v->m, f, 1010, true, &at), -ENXIO);
	ks_check_eq(ks_meta_seek(v->m, 999, 0, true, &at), -ENOENT);
	/* Data far away, over chunks without records, and data that fills a chunk to its end. */
	put_slice(v, f, 5 * KS_CHUNK_SIZE, (uint32_t)KS_CHUNK_SIZE, 0);
	put_slice(v, f, 6 * KS_CHUNK_SIZE, 10, 0);
	ks_check_ok(ks_meta_seek(v->m, f, 0, false, &at));
	ks_check_eq(at, 5 * KS_CHUNK_SIZE);
	ks_check_ok(ks_meta_seek(v->m, f, 5 * KS_CHUNK_SIZE + 1, true, &at));
	ks_check_eq(at, 6 * KS_CHUNK_SIZE + 10);
	ks_check_ok(ks_meta_seek(v->m, f, 3 * KS_CHUNK_SIZE, true, &at));
	ks_check_eq(at, 3 * KS_CHUNK_SIZE);
}

ON_BOTH(quotas)
{
	static const uint32_t sums[1];
	struct ks_volume_settings s = *ks_meta_settings(v->m);
	struct ks_commit_slice sl = { .len = 60000, .block_size = KS_BLOCK_DEFAULT, .sums = sums };
	struct ks_commit c = { .s = &sl, .n = 1 };
	struct ks_meta_usage u;
	struct ks_meta *m = NULL;
	uint64_t g;

	s.capacity_bytes = 100000;
	s.inodes_max = 3;
	ks_check_ok(ks_meta_session_start(v->m, KS_SESSION_TOOL, "test", "", ""));
	ks_check_ok(ks_meta_settings_set(v->m, &s));
	c.ino = mkfile(v, ROOT, "f");
	g = mkfile(v, ROOT, "g");
	ks_check_eq(ks_meta_mknod(v->m, &cred, ROOT, "h", S_IFREG, 0, NULL, NULL), -ENOSPC);
	ks_check_ok(ks_meta_new_slice_id(v->m, &sl.slice));
	ks_check_ok(ks_meta_commit(v->m, &c, NULL));
	c.ino = g;
	ks_check_ok(ks_meta_new_slice_id(v->m, &sl.slice));
	ks_check_eq(ks_meta_commit(v->m, &c, NULL), -ENOSPC);
	ks_check_eq(attr_of(v, g).size, 0);
	/* What was deleted is given back at once when it is needed. */
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	ks_check_ok(ks_meta_commit(v->m, &c, NULL));
	mkfile(v, ROOT, "h");
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "h", NULL));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "g", NULL));
	ks_check_ok(ks_meta_tick(v->m, 0));
	ks_check_ok(ks_meta_usage(v->m, &u));
	ks_check_eq(u.used_bytes, 0);
	ks_check_eq(u.inodes, 1);
	/* They are in the database, not in the process. */
	mkfile(v, ROOT, "i");
	ks_check_ok(ks_meta_open(&m, v->url, NULL));
	ks_meta_close(v->m);
	v->m = m;
	ks_check_ok(ks_meta_usage(v->m, &u));
	ks_check_eq(u.inodes, 2);
	ks_check_eq(u.capacity_bytes, 100000);
}

KS_TEST_MAIN()
