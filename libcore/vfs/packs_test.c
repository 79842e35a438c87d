/* SPDX-License-Identifier: Apache-2.0 */
/* packs_test.c: packs with little alive in them are rewritten and dropped, and nothing that lives is lost by it. */
#include "vfs/vfs_testlib.h"

#define FILES 200
#define KEPT 20 /* every tenth */
#define SMALL 8192u
#define LARGE 200000u /* four pages */
#define SLICES 4096u

static uint32_t size_of(int i)
{
	return i == 0 ? LARGE : SMALL;
}

static void fill(uint8_t *p, uint32_t n, int i)
{
	for (uint32_t k = 0; k < n; k++)
		p[k] = (uint8_t)(ks_mix64((uint64_t)i << 32 | k / 8) >> k % 8 * 8);
}

static void name_of(char name[32], int i)
{
	snprintf(name, 32, "f%d", i);
}

static void make_files(struct rig *g)
{
	static uint8_t buf[LARGE];

	for (int i = 0; i < FILES; i++) {
		struct ks_open_how how;
		struct ks_attr a;
		struct ks_fh *fh;
		char name[32];
		uint32_t n = size_of(i);

		name_of(name, i);
		fill(buf, n, i);
		ks_check_ok(ks_vfs_create(g->v, &g->c, KS_ROOT_INO, name, 0644, O_WRONLY, &a, &fh,
					  &how));
		ks_check_eq(ks_vfs_write(fh, &g->c, 0, buf, n), (ssize_t)n);
		ks_check_ok(ks_vfs_flush(fh, &g->c));
		ks_vfs_release(fh);
	}
}

static struct ks_fh *open_file(struct rig *g, int i)
{
	struct ks_open_how how;
	struct ks_attr a;
	struct ks_fh *fh = NULL;
	char name[32];

	name_of(name, i);
	ks_check_ok(ks_vfs_lookup(g->v, &g->c, KS_ROOT_INO, name, &a));
	ks_check_ok(ks_vfs_open(g->v, &g->c, a.ino, O_RDONLY, &fh, &how));
	return fh;
}

static void check_bytes(struct rig *g, struct ks_fh *fh, int i, uint32_t off, uint32_t n)
{
	static uint8_t want[LARGE], got[LARGE];

	fill(want, size_of(i), i);
	ks_check_eq(ks_vfs_read(fh, &g->c, off, got, n), (ssize_t)n);
	ks_check_mem(got, want + off, n);
}

static void check_files(struct rig *g)
{
	for (int i = 0; i < FILES; i += FILES / KEPT) {
		struct ks_fh *fh = open_file(g, i);

		check_bytes(g, fh, i, 0, size_of(i));
		ks_vfs_release(fh);
	}
}

/* Also by a process that has nothing in memory. */
static void check_fresh(const struct vol *o)
{
	struct rig g;

	start(&g, o);
	check_files(&g);
	stop(&g);
}

/* All that is deleted is freed and confirmed. @other: another session, which has to pass the epochs too. */
static void settle(struct rig *g, struct rig *other)
{
	struct ks_free_item items[256];
	ssize_t n = 0;

	for (int i = 0; i < 20; i++) {
		ks_check_ok(ks_meta_tick(g->v->meta, 0));
		if (other)
			ks_check_ok(ks_meta_tick(other->v->meta, 0));
		while ((n = ks_meta_free_list(g->v->meta, NULL, items, 256)) > 0)
			ks_check_ok(ks_meta_free_done(g->v->meta, items, (size_t)n));
		ks_check_eq(n, 0);
	}
}

static void delete_files(struct rig *g, bool all)
{
	for (int i = 0; i < FILES; i++) {
		char name[32];

		name_of(name, i);
		if (all || i % (FILES / KEPT))
			ks_check_ok(ks_vfs_unlink(g->v, &g->c, KS_ROOT_INO, name));
	}
}

/* ---- what the records say ---- */

struct counted {
	uint64_t slices[SLICES], live[SLICES]; /* by pack */
	uint64_t rows, total, bytes;
};

static int count_slice(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_slice *s = rec;
	struct counted *c = arg;

	(void)node;
	c->slices[s->pack % SLICES]++;
	c->live[s->pack % SLICES] += s->len;
	return 0;
}

static int check_pack(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_pack *p = rec;
	struct counted *c = arg;

	(void)node;
	ks_check_eq(p->slices, c->slices[p->id % SLICES]);
	ks_check_eq(p->live, c->live[p->id % SLICES]);
	c->rows++;
	c->total += p->slices;
	c->bytes += p->live;
	return 0;
}

/* Every slice is counted in the row of its pack, and there is such a row. */
static struct counted *audit(struct rig *g, uint64_t slices)
{
	static struct counted c;
	struct ks_arena mem = { 0 };
	struct ks_scan s[] = { { .table = KS_T_SLICE, .fn = count_slice, .arg = &c },
			       { .table = KS_T_PACK, .fn = check_pack, .arg = &c } };

	c = (struct counted){ 0 };
	ks_check_ok(ks_engine_fetch(ks_meta_engine(g->v->meta), NULL, 0, s, 2, &mem));
	ks_arena_clear(&mem);
	ks_check_eq(c.total, slices);
	return &c;
}

static bool has_object(struct rig *g, uint64_t pack)
{
	struct ks_object_info info;
	char key[KS_KEY_STR];
	int r;

	ks_pack_key(key, pack);
	r = ks_object_head(g->v->store, key, &info);
	ks_check(r == 0 || r == -ENOENT);
	return r == 0;
}

static void steps(struct rig *g)
{
	int r, n = 0;

	/* Two rounds: what the first retires the second drops. */
	for (int i = 0; i < 2; i++) {
		while ((r = ks_packs_step(g->v, KS_MIB)) > 0 && n++ < 100)
			;
		ks_check_eq(r, 0);
	}
}

static uint64_t retire(struct rig *g)
{
	uint64_t id = ks_data_pack_current(g->v->data);

	ks_check(id != 0);
	ks_data_pack_retire(g->v->data, id);
	ks_check(!ks_data_pack_in_use(g->v->data, id));
	return id;
}

/* A volume whose only pack is a tenth alive. Its number is returned. */
static uint64_t prepare(struct rig *g, struct vol *o)
{
	vol_new(o);
	start(g, o);
	make_files(g);
	delete_files(g, false);
	settle(g, NULL);
	audit(g, KEPT);
	return ks_data_pack_current(g->v->data);
}

/* ---- tests ---- */

static void rewritten(void)
{
	struct vol o;
	struct rig g, second;
	struct ks_fh *fh;
	uint64_t old = prepare(&g, &o);

	/* It is appended to: left as it is, and by the other process too. */
	start(&second, &o);
	steps(&g);
	steps(&second);
	ks_check(has_object(&g, old));
	/* A reader whose map names the old place and who has one page of four. */
	settle(&g, &second);
	fh = open_file(&second, 0);
	check_bytes(&second, fh, 0, 0, 100);
	ks_check_eq(retire(&g), old);
	steps(&second);
	ks_check(has_object(&g, old));
	steps(&g);
	ks_check(!has_object(&g, old));
	ks_check_eq(audit(&g, KEPT)->rows, 1);
	ks_check_eq(audit(&g, KEPT)->bytes, (KEPT - 1) * SMALL + LARGE);
	check_bytes(&second, fh, 0, 3 * KS_PAGE_SIZE, LARGE - 3 * KS_PAGE_SIZE);
	check_bytes(&second, fh, 0, 0, LARGE);
	ks_vfs_release(fh);
	check_files(&g);
	check_files(&second);
	stop(&second);
	check_fresh(&o);
	stop(&g);
	vol_end(&o);
}

static void of_a_dead_session(void)
{
	struct vol o;
	struct rig g, other;
	uint64_t old = prepare(&g, &o);

	stop(&g);
	start(&g, &o);
	start(&other, &o);
	steps(&other);
	steps(&g);
	ks_check(!has_object(&g, old));
	audit(&g, KEPT);
	check_files(&g);
	stop(&other);
	stop(&g);
	check_fresh(&o);
	vol_end(&o);
}

static void wholly_dead(void)
{
	struct vol o;
	struct rig g;
	struct ks_pack_log *l;
	uint64_t old, id;

	vol_new(&o);
	start(&g, &o);
	make_files(&g);
	old = ks_data_pack_current(g.v->data);
	delete_files(&g, true);
	settle(&g, NULL);
	/* Who appends to it may still commit something in it. */
	ks_check_ok(ks_data_pack_begin(g.v->data, &l, &id));
	ks_check_eq(id, old);
	steps(&g);
	ks_check_eq(ks_data_pack_current(g.v->data), 0);
	ks_check(has_object(&g, old));
	ks_check_eq(audit(&g, 0)->rows, 1);
	ks_data_pack_end(l);
	steps(&g);
	ks_check(!has_object(&g, old));
	ks_check_eq(audit(&g, 0)->rows, 0);
	stop(&g);
	vol_end(&o);
}

/* What was appended and could not be committed keeps its pack from being dropped. */
static void uncommitted(void)
{
	struct vol o;
	struct rig g;
	struct ks_open_how how;
	struct ks_attr a;
	struct ks_fh *fh;
	struct ks_volume_settings s;
	uint64_t old;
	char buf[8];

	vol_new(&o);
	start(&g, &o);
	make_files(&g);
	old = ks_data_pack_current(g.v->data);
	delete_files(&g, true);
	settle(&g, NULL);
	ks_check_ok(ks_vfs_create(g.v, &g.c, KS_ROOT_INO, "x", 0644, O_RDWR, &a, &fh, &how));
	ks_check_eq(ks_vfs_write(fh, &g.c, 0, "text", 4), 4);
	s = *ks_meta_settings(g.v->meta);
	s.capacity_bytes = 1;
	ks_check_ok(ks_meta_settings_set(g.v->meta, &s));
	ks_check(ks_vfs_flush(fh, &g.c) < 0);
	steps(&g);
	ks_check(has_object(&g, old));
	ks_check(ks_data_pack_in_use(g.v->data, old));
	s.capacity_bytes = 0;
	ks_check_ok(ks_meta_settings_set(g.v->meta, &s));
	ks_check_ok(ks_vfs_flush(fh, &g.c));
	ks_vfs_release(fh);
	steps(&g);
	audit(&g, 1);
	stop(&g);
	start(&g, &o);
	ks_check_ok(ks_vfs_open(g.v, &g.c, a.ino, O_RDONLY, &fh, &how));
	ks_check_eq(ks_vfs_read(fh, &g.c, 0, buf, sizeof(buf)), 4);
	ks_check_mem(buf, "text", 4);
	ks_vfs_release(fh);
	stop(&g);
	vol_end(&o);
}

static void faults(void)
{
	static const char *const rules[] = { "append:fail=EIO", "append:torn=1", "get:fail=EIO",
					     "sync:fail=EIO",   "del:fail=EIO",  "get:flip=1" };

	for (size_t i = 0; i < KS_ARRAY_SIZE(rules); i++) {
		struct vol o;
		struct rig g;
		uint64_t old = prepare(&g, &o);

		retire(&g);
		ks_check_ok(ks_object_fault_set(g.faults, rules[i]));
		for (int k = 0; k < 5; k++)
			KS_IGNORE(ks_packs_step(g.v, KS_MIB));
		ks_check_ok(ks_object_fault_set(g.faults, ""));
		audit(&g, KEPT);
		check_fresh(&o);
		steps(&g);
		audit(&g, KEPT);
		/* Its record went first: kiseki-gc finds the object. What flipped may have been dead. */
		if (!strstr(rules[i], "flip"))
			ks_check_eq(has_object(&g, old), strcmp(rules[i], "del:fail=EIO") == 0);
		check_files(&g);
		stop(&g);
		check_fresh(&o);
		vol_end(&o);
	}
}

static void damaged(void)
{
	struct vol o;
	struct rig g;
	uint64_t old = prepare(&g, &o);
	uint8_t *buf = malloc(4 * KS_MIB);
	struct iovec iov = { buf, 4 * KS_MIB };
	char key[KS_KEY_STR];
	ssize_t n;

	/* The header of a dead record, behind some that live. */
	ks_pack_key(key, old);
	retire(&g);
	n = ks_object_get(g.v->store, key, 0, &iov, 1);
	ks_check(n > (ssize_t)(LARGE + 50 * SMALL));
	buf[ks_round_up(64 + LARGE, 8) + 54 * (64 + SMALL) + 3] ^= 1;
	iov.iov_len = (size_t)n;
	ks_check_ok(ks_object_put(g.v->store, key, &iov, 1));
	free(buf);
	steps(&g);
	ks_check(has_object(&g, old));
	audit(&g, KEPT);
	check_files(&g);
	stop(&g);
	check_fresh(&o);
	vol_end(&o);
}

/* A slice that changed meanwhile is left alone. */
static void stale_moves(void)
{
	struct vol o;
	struct rig g;
	uint64_t old = prepare(&g, &o), id = 1;
	struct ks_slice_place p;
	struct ks_slice_move m[3];

	ks_check_ok(ks_meta_pack_slices(g.v->meta, &id, 1, &p));
	ks_check_eq(p.pack, old);
	m[0] = (struct ks_slice_move){ id, old, p.pack_off + 8, old + 500, 64, true };
	m[1] = (struct ks_slice_move){ 2, old, p.pack_off, old + 500, 64, true };
	m[2] = (struct ks_slice_move){ id, old + 1, p.pack_off, old + 500, 64, true };
	ks_check_ok(ks_meta_slices_move(g.v->meta, m, 3));
	ks_check(!m[0].moved && !m[1].moved && !m[2].moved);
	ks_check_eq(audit(&g, KEPT)->rows, 1);
	stop(&g);
	vol_end(&o);
}

#define ON_BOTH(name)                                                                              \
	KS_TEST(name##_mem)                                                                        \
	{                                                                                          \
		on_disk = false;                                                                   \
		name();                                                                            \
	}                                                                                          \
	KS_TEST(name##_disk)                                                                       \
	{                                                                                          \
		on_disk = true;                                                                    \
		name();                                                                            \
	}

ON_BOTH(rewritten)
ON_BOTH(of_a_dead_session)
ON_BOTH(wholly_dead)
ON_BOTH(uncommitted)
ON_BOTH(faults)
ON_BOTH(damaged)
ON_BOTH(stale_moves)

KS_TEST_MAIN()
