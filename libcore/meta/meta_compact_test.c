/* SPDX-License-Identifier: Apache-2.0 */
/* meta_compact_test.c: chunks of many extents become chunks of few, beside writers; every byte is followed to the write it came from. */
#include "meta/meta_testlib.h"

#define WIN 1024u
#define SLICES 8192u
#define RUNS 16u

/* Where a byte was first written: slice and offset; 0: a hole. Copies carry it along. */
struct slice_bytes {
	uint32_t n;
	uint64_t *from;
};

struct model {
	struct vol *v;
	uint64_t ino;
	uint64_t size;
	uint64_t b[WIN];
	struct slice_bytes s[SLICES]; /* by id */
};

static uint64_t rnd_state;

static uint32_t rnd(uint32_t n)
{
	rnd_state = rnd_state * 6364136223846793005ull + 1442695040888963407ull;
	return (uint32_t)(rnd_state >> 33) % n;
}

static struct model *model_new(struct vol *v)
{
	struct model *mo = calloc(1, sizeof(*mo));

	mo->v = v;
	mo->ino = mkfile(v, ROOT, "f");
	return mo;
}

static void model_free(struct model *mo)
{
	for (uint32_t i = 0; i < SLICES; i++)
		free(mo->s[i].from);
	free(mo);
}

static struct slice_bytes *slice_new(struct model *mo, uint32_t n, uint64_t *id)
{
	struct slice_bytes *s;

	ks_check_ok(ks_meta_new_slice_id(mo->v->m, id));
	ks_check(*id < SLICES);
	s = &mo->s[*id];
	s->n = n;
	s->from = calloc(n, sizeof(*s->from));
	return s;
}

static void model_check(struct model *mo)
{
	struct ks_attr a = attr_of(mo->v, mo->ino);
	struct ks_chunk_map *map;
	uint64_t used = 0;

	ks_check_ok(ks_meta_map(mo->v->m, mo->ino, 0, &map));
	ks_check_eq(a.size, mo->size);
	for (uint32_t i = 0; i < WIN; i++) {
		uint32_t k = ks_chunk_map_find(map, i);
		bool data = k < map->n && map->e[k].pos <= i;
		uint64_t got = 0;

		if (data)
			got = mo->s[map->e[k].slice].from[map->e[k].off + (i - map->e[k].pos)];
		ks_check_eq(got, mo->b[i]);
		used += data;
	}
	ks_check_eq(a.used, used);
	ks_chunk_map_free(map);
}

static void op_write(struct model *mo, uint32_t at, uint32_t n)
{
	static const uint32_t sums[1];
	struct ks_commit_slice s = { .pos = at,
				     .len = n,
				     .block_size = KS_BLOCK_DEFAULT,
				     .sums = sums,
				     .pack = rnd(3) ? 0 : 5 };
	struct ks_commit c = { .ino = mo->ino, .s = &s, .n = 1, .end = at + n };
	struct slice_bytes *x = slice_new(mo, n, &s.slice);

	for (uint32_t i = 0; i < n; i++)
		mo->b[at + i] = x->from[i] = s.slice << 32 | i;
	ks_check_ok(ks_meta_commit(mo->v->m, &c, NULL));
	mo->size = ks_max(mo->size, (uint64_t)at + n);
}

static void op_hole(struct model *mo, uint32_t at, uint32_t n)
{
	ks_check_ok(ks_meta_fallocate(mo->v->m, mo->ino, KS_FALLOC_PUNCH, true, at, n, NULL));
	memset(&mo->b[at], 0, n * sizeof(*mo->b));
}

static void op_any(struct model *mo)
{
	uint32_t at = rnd(WIN), n = 1 + rnd(ks_min(WIN - at, 100u));

	switch (rnd(8)) {
	case 0:
		op_hole(mo, at, n);
		break;
	case 1:
		set_size(mo->v, mo->ino, at);
		memset(&mo->b[at], 0, (WIN - at) * sizeof(*mo->b));
		mo->size = at;
		break;
	default:
		op_write(mo, at, n);
	}
}

static bool slice_shows(struct model *mo, uint64_t slice)
{
	struct ks_chunk_map *map;
	bool shows = false;

	ks_check_ok(ks_meta_map(mo->v->m, mo->ino, 0, &map));
	for (uint32_t i = 0; i < map->n; i++)
		shows = shows || map->e[i].slice == slice;
	ks_chunk_map_free(map);
	return shows;
}

/* Copies to up to @max slices (one: as long as it can be), as vfs/compact.c does; between @between changes the file. Returns whether extents went. */
static bool op_compact(struct model *mo, size_t max, void (*between)(struct model *mo))
{
	static const uint32_t sums[1];
	struct ks_commit_slice s[RUNS];
	struct ks_copied ranges[4 * RUNS];
	bool used[RUNS];
	struct ks_chunk_look look;
	struct ks_compact c = { .ino = mo->ino, .s = s, .v = ranges, .used = used };
	struct ks_attr before, after;
	uint32_t i = 0;

	ks_check_ok(ks_meta_chunk_look(mo->v->m, mo->ino, 0, &look));
	while (i < look.map->n && c.n < ks_min(max, (size_t)RUNS)) {
		uint64_t from[WIN];
		uint32_t len = 0;
		struct slice_bytes *x;

		/* One new slice of one to four ranges. */
		for (uint32_t k = 1 + rnd(4); k > 0 && i < look.map->n; k--) {
			uint32_t pos = look.map->e[i].pos, end = pos;
			uint32_t want = max == 1 ? UINT32_MAX : 1 + rnd(20);

			for (; i < look.map->n && want-- && look.map->e[i].pos == end; i++)
				end += look.map->e[i].len;
			ranges[c.nv++] = (struct ks_copied){
				.pos = pos, .len = end - pos, .s = (uint32_t)c.n, .off = len
			};
			memcpy(from + len, &mo->b[pos], (end - pos) * sizeof(*from));
			len += end - pos;
		}
		s[c.n] = (struct ks_commit_slice){ .len = len,
						   .block_size = KS_BLOCK_DEFAULT,
						   .sums = sums,
						   .pack = rnd(2) ? 0 : 6 + rnd(2) };
		x = slice_new(mo, len, &s[c.n].slice);
		memcpy(x->from, from, len * sizeof(*from));
		c.n++;
	}
	if (between)
		between(mo);
	c.seen = look.map;
	before = attr_of(mo->v, mo->ino);
	ks_check_ok(ks_meta_compact(mo->v->m, &c));
	after = attr_of(mo->v, mo->ino);
	ks_check_mem(&before, &after, sizeof(before));
	ks_check(c.after <= c.before);
	if (!between)
		ks_check_eq(c.before, look.rows);
	/* What was not used is nowhere. */
	for (size_t k = 0; k < c.n; k++)
		ks_check_eq(used[k], slice_shows(mo, s[k].slice));
	ks_chunk_look_clear(&look);
	model_check(mo);
	return c.after < c.before || c.slices_after < c.slices_before;
}

static uint32_t rows_of(struct model *mo)
{
	struct ks_chunk_look look;
	uint32_t n;

	ks_check_ok(ks_meta_chunk_look(mo->v->m, mo->ino, 0, &look));
	n = look.rows;
	ks_chunk_look_clear(&look);
	return n;
}

ON_BOTH(any_order)
{
	struct model *mo = model_new(v);
	unsigned int went = 0;

	rnd_state = v->sqlite ? 7 : 9;
	for (int i = 0; i < 300; i++) {
		for (uint32_t k = rnd(12); k > 0; k--)
			op_any(mo);
		went += op_compact(mo, rnd(3) ? RUNS : 0, rnd(2) ? op_any : NULL);
	}
	ks_check(went > 50);
	model_free(mo);
}

ON_BOTH(many_become_one)
{
	struct model *mo = model_new(v);
	struct ks_chunk_look look;

	op_write(mo, 0, WIN);
	for (uint32_t i = 0; i < 200; i++)
		op_write(mo, rnd(WIN - 8), 8);
	op_write(mo, 0, 300);
	for (uint32_t i = 0; i < 100; i++)
		op_write(mo, 2 * i, 1);
	ks_check(op_compact(mo, 1, NULL));
	ks_check_ok(ks_meta_chunk_look(v->m, mo->ino, 0, &look));
	ks_check_eq(look.rows, 1);
	ks_check_eq(look.hidden, 0);
	ks_check_eq(look.light, look.rows);
	ks_chunk_look_clear(&look);
	/* A second time there is nothing to do. */
	ks_check(!op_compact(mo, 0, NULL));
	model_free(mo);
}

/* Two writes together hide a third: it goes without anything being copied. */
ON_BOTH(hidden_slices_go)
{
	struct model *mo = model_new(v);
	struct ks_chunk_look look;

	op_write(mo, 0, 1000);
	op_write(mo, 100, 100);
	op_write(mo, 100, 50);
	op_write(mo, 150, 50);
	ks_check_ok(ks_meta_chunk_look(v->m, mo->ino, 0, &look));
	ks_check_eq(look.rows, 4);
	ks_check_eq(look.light, 3);
	ks_check_eq(look.hidden, 100);
	ks_chunk_look_clear(&look);
	ks_check(op_compact(mo, 0, NULL));
	ks_check_eq(rows_of(mo), 3);
	/* A hole that hides nothing that shows elsewhere goes too; one that does stays. */
	op_hole(mo, 300, 100);
	ks_check(!op_compact(mo, 0, NULL));
	op_write(mo, 0, 300);
	op_write(mo, 400, 600);
	ks_check_eq(rows_of(mo), 4);
	ks_check(op_compact(mo, 0, NULL));
	ks_check_eq(rows_of(mo), 2);
	model_free(mo);
}

/* Of what a slice shared with another file holds nothing counts as this chunk's alone. */
ON_BOTH(shared_slices_are_kept)
{
	struct model *mo = model_new(v);
	struct model *other = calloc(1, sizeof(*other));
	struct ks_chunk_look look;
	uint64_t done;

	op_write(mo, 0, 1000);
	*other = *mo;
	other->ino = mkfile(v, ROOT, "g");
	ks_check_ok(ks_meta_copy_range(v->m, mo->ino, 0, other->ino, 0, 1000, &done, NULL));
	for (uint32_t i = 0; i < 80; i++)
		op_write(mo, 10 * i, 9);
	ks_check_ok(ks_meta_chunk_look(v->m, mo->ino, 0, &look));
	ks_check_eq(look.stored, 80 * 9);
	ks_check_eq(look.wasted, 0);
	for (uint32_t i = 0; i < look.map->n; i++)
		ks_check(!(look.is[i] & KS_PIECE_DEAD));
	ks_chunk_look_clear(&look);
	ks_check(op_compact(mo, 1, NULL));
	memcpy(other->s, mo->s, sizeof(other->s));
	model_check(other);
	free(other);
	model_free(mo);
}

/* Everything that was copied is written anew before the commit. */
static void overwrite(struct model *mo)
{
	op_write(mo, 0, WIN);
}

static void append(struct model *mo)
{
	op_write(mo, 600, 10);
}

ON_BOTH(changed_meanwhile)
{
	struct model *mo = model_new(v);

	for (uint32_t i = 0; i < 60; i++)
		op_write(mo, 10 * i, 10);
	/* What others add does not stand in the way. */
	ks_check(op_compact(mo, RUNS, append));
	ks_check(rows_of(mo) <= RUNS + 1);
	for (uint32_t i = 0; i < 60; i++)
		op_write(mo, 10 * i, 10);
	ks_check(!op_compact(mo, RUNS, overwrite));
	ks_check_eq(rows_of(mo), 1);
	model_free(mo);
}

ON_BOTH(deleted_files_are_left)
{
	struct model *mo = model_new(v);
	struct ks_chunk_look look;
	struct ks_compact c = { .ino = mo->ino };
	struct ks_chunk_map *none;

	op_write(mo, 0, 10);
	ks_check_ok(ks_chunk_map_build(NULL, 0, &none));
	ks_check_ok(ks_meta_unlink(v->m, ROOT, "f", NULL));
	c.seen = none;
	ks_check_eq(ks_meta_chunk_look(v->m, mo->ino, 0, &look), -ENOENT);
	ks_check_eq(ks_meta_compact(v->m, &c), -ENOENT);
	ks_check_eq(ks_meta_chunk_look(v->m, 12345, 0, &look), -ENOENT);
	ks_chunk_map_free(none);
	model_free(mo);
}

KS_TEST_MAIN()
