/* SPDX-License-Identifier: Apache-2.0 */
/* model_test.c: files against a model of bytes: every edge, random operations, several threads. */
#include "base/tap.h"
#include "data/mock_host.h"

#define SMALL (3 * KS_BLOCK_MIN + 1)

struct model {
	uint8_t *p;
	uint64_t size, cap;
};

static struct rig rig;
static unsigned int serial;

static void start(const struct ks_data_opts *o)
{
	char url[64];

	snprintf(url, sizeof(url), "mem://model-%u", ++serial);
	ks_check_ok(rig_open(&rig, url, o));
}

static void model_init(struct model *m, uint64_t cap)
{
	*m = (struct model){ .p = calloc(1, cap), .cap = cap };
	ks_check(m->p);
}

static void put(struct ks_file *f, struct model *m, uint64_t off, uint64_t n, uint64_t *seed)
{
	uint8_t b = (uint8_t)mock_rand(seed);

	ks_check(off + n <= m->cap);
	for (uint64_t i = 0; i < n; i++)
		m->p[off + i] = (uint8_t)(b + i * 7 + (i >> 8));
	ks_check_ok(ks_file_write(f, off, m->p + off, n));
	m->size = ks_max(m->size, off + n);
}

static void same(struct ks_file *f, const struct model *m, uint64_t off, uint64_t n)
{
	uint8_t *got = malloc(n + 1);
	uint64_t want = off < m->size ? ks_min(n, m->size - off) : 0;

	memset(got, 0xee, n + 1);
	ks_check_eq(ks_file_read(f, NULL, off, got, n), want);
	ks_check_mem(got, m->p + off, want);
	ks_check_eq(got[n], 0xee);
	free(got);
}

static void cut(struct ks_file *f, struct model *m, uint64_t ino, uint64_t size)
{
	ks_check_ok(mock_file_truncate(&rig.m, f, ino, size));
	if (size < m->size)
		memset(m->p + size, 0, m->size - size);
	m->size = size;
}

/* Two writes at every pair of offsets around the edges of pages and blocks, read back dirty, committed, and from the store. */
static void edges(bool no_packs)
{
	static const int64_t around[] = { -4097, -1, 0, 1, 4096 };
	uint64_t base[] = { 0, KS_PAGE_SIZE, 2 * KS_PAGE_SIZE };
	uint64_t at[16];
	size_t n = 0;
	uint64_t seed = 42;

	for (size_t i = 0; i < KS_ARRAY_SIZE(base); i++) {
		for (size_t k = 0; k < KS_ARRAY_SIZE(around); k++) {
			if ((int64_t)base[i] + around[k] >= 0)
				at[n++] = base[i] + (uint64_t)around[k];
		}
	}
	start(&(struct ks_data_opts){
		.block_size = KS_BLOCK_MIN, .buffer_bytes = 4 * KS_MIB, .no_packs = no_packs });
	for (size_t i = 0; i < n; i++) {
		for (size_t k = 0; k < n; k++) {
			struct ks_file *f;
			struct model m;

			memset(&rig.m.ino[1].size, 0, 2 * sizeof(uint64_t));
			for (size_t l = 0; l < rig.m.ino[1].n; l++)
				free(rig.m.ino[1].v[l].e.sums);
			rig.m.ino[1].n = 0;
			ks_check_ok(rig_file(&rig, &f, 1));
			model_init(&m, 2 * SMALL);
			put(f, &m, at[i], SMALL - at[i], &seed);
			put(f, &m, at[k], ks_max(at[i] / 2, (uint64_t)1), &seed);
			same(f, &m, 0, SMALL);
			ks_check_ok(ks_file_flush(f));
			same(f, &m, 0, SMALL);
			put(f, &m, at[k] / 2, 4097, &seed);
			same(f, &m, at[i], 4096);
			cut(f, &m, 1, at[k]);
			same(f, &m, 0, SMALL);
			cut(f, &m, 1, at[k] + at[i] / 2);
			same(f, &m, 0, SMALL);
			ks_check_ok(ks_file_flush(f));
			ks_file_close(f);
			if ((i + k) % 16 == 0) {
				/* Nothing cached: everything comes from the store. */
				ks_check_ok(rig_stop(&rig));
				ks_check_ok(rig_start(&rig));
			}
			ks_check_ok(rig_file(&rig, &f, 1));
			same(f, &m, 0, SMALL);
			ks_file_close(f);
			free(m.p);
		}
	}
	ks_check_ok(rig_close(&rig));
}

KS_TEST(edges_of_pages_and_blocks)
{
	edges(true);
}

KS_TEST(edges_in_packs)
{
	edges(false);
}

KS_TEST(a_write_over_a_chunk_edge_makes_two_slices)
{
	struct ks_file *f;
	uint64_t base = KS_CHUNK_SIZE - 4 * KS_MIB;
	struct model m;
	uint64_t seed = 7;

	start(&(struct ks_data_opts){ .buffer_bytes = 32 * KS_MIB });
	ks_check_ok(rig_file(&rig, &f, 1));
	model_init(&m, KS_CHUNK_SIZE + 8 * KS_MIB);
	for (uint64_t off = 0; off < 10 * KS_MIB; off += 300 * KS_KIB)
		put(f, &m, base + off, 300 * KS_KIB, &seed);
	same(f, &m, base - 100, 10 * KS_MIB);
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(rig.m.ino[1].n, 2);
	ks_check_eq(rig.m.ino[1].v[0].chunk, 0);
	ks_check_eq(rig.m.ino[1].v[0].e.pos + rig.m.ino[1].v[0].e.len, KS_CHUNK_SIZE);
	ks_check_eq(rig.m.ino[1].v[1].chunk, 1);
	ks_check_eq(rig.m.ino[1].v[1].e.pos, 0);
	same(f, &m, base - 100, 10 * KS_MIB);
	same(f, &m, KS_CHUNK_SIZE - 5, 10);
	ks_file_close(f);
	free(m.p);
	ks_check_ok(rig_close(&rig));
}

/* A store that fails now and then delays, and costs nothing. */
static void flush_through(struct ks_file *f)
{
	int r = -EIO;

	for (int i = 0; i < 100 && r != 0; i++)
		r = ks_file_flush(f);
	ks_check_ok(r);
}

static void cut_through(struct ks_file *f, struct model *m, uint64_t size)
{
	int r = -EIO;

	for (int i = 0; i < 100 && r != 0; i++)
		r = mock_file_truncate(&rig.m, f, 1, size);
	ks_check_ok(r);
	if (size < m->size)
		memset(m->p + size, 0, m->size - size);
	m->size = size;
}

static void fuzz(uint64_t seed, bool no_packs, const char *faults)
{
	const uint64_t cap = 2 * KS_MIB;
	struct ks_file *f;
	struct model m;

	printf("# seed %" PRIu64 "\n", seed);
	start(&(struct ks_data_opts){ .block_size = seed & 1 ? KS_BLOCK_MIN : 4 * KS_BLOCK_MIN,
				      .buffer_bytes = 2 * KS_MIB,
				      .open_slices = 3,
				      .readahead_bytes = KS_MIB,
				      .no_packs = no_packs });
	ks_check_ok(rig_file(&rig, &f, 1));
	model_init(&m, cap);
	ks_check_ok(ks_object_fault_set(rig.fault, faults));
	for (int i = 0; i < 1500; i++) {
		uint64_t off = mock_rand(&seed) % cap;
		uint64_t n = mock_rand(&seed) % (seed & 7 ? 9000 : 400000) + 1;
		uint64_t what = mock_rand(&seed) % 100;

		if (seed & 32)
			off &= ~(uint64_t)4095;
		n = ks_min(n, cap - off);
		if (what < 45)
			put(f, &m, off, n, &seed);
		else if (what < 90)
			same(f, &m, off, n);
		else if (what < 94)
			flush_through(f);
		else if (what < 98)
			cut_through(f, &m, ks_min(off, m.size + 1000));
		else if (what == 98) {
			flush_through(f);
			ks_file_close(f);
			ks_check_ok(rig_file(&rig, &f, 1));
		} else {
			flush_through(f);
			ks_file_close(f);
			ks_check_ok(rig_stop(&rig));
			ks_check_ok(rig_start(&rig));
			ks_check_ok(rig_file(&rig, &f, 1));
		}
		struct ks_file_state st;

		ks_file_state(f, &st);
		ks_check_eq(st.size, m.size);
	}
	flush_through(f);
	same(f, &m, 0, cap);
	ks_file_close(f);
	free(m.p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(random_operations)
{
	uint64_t seed = (uint64_t)ks_clock_real_ns() | 1;

	for (int i = 0; i < 10; i++)
		fuzz(mock_rand(&seed), i & 1, "");
}

static void say_nothing(void *arg, enum ks_log_level level, const char *where, const char *text)
{
	(void)arg;
	(void)level;
	(void)where;
	(void)text;
}

/* Failures are expected here, on other threads too. */
__attribute__((constructor)) static void quiet_log(void)
{
	ks_log_set(say_nothing, NULL, KS_LOG_ERROR);
}

KS_TEST(random_operations_on_a_failing_store)
{
	uint64_t seed = (uint64_t)ks_clock_real_ns() | 1;

	for (int i = 0; i < 6; i++)
		fuzz(mock_rand(&seed), i & 1,
		     "put:fail=EIO:every=5,append:torn=1:every=3,put:torn=1:every=11");
}

/* ---- threads ---- */

#define LANE (512 * KS_KIB)

struct lane {
	struct ks_file *f;
	uint64_t base;
	uint64_t seed;
	pthread_t t;
	bool *stop;
};

/* Each thread owns a range and knows what is in it. */
static void *lane_main(void *arg)
{
	struct lane *l = arg;
	struct model m;

	model_init(&m, LANE);
	for (int i = 0; i < 400; i++) {
		uint64_t off = mock_rand(&l->seed) % LANE;
		uint64_t n = ks_min(mock_rand(&l->seed) % 50000 + 1, LANE - off);

		if (mock_rand(&l->seed) % 2) {
			uint8_t b = (uint8_t)l->seed;

			memset(m.p + off, b, n);
			ks_check_ok(ks_file_write(l->f, l->base + off, m.p + off, n));
			m.size = ks_max(m.size, off + n);
		} else if (m.size > off) {
			uint8_t *got = malloc(n);

			n = ks_min(n, m.size - off);
			ks_check_eq(ks_file_read(l->f, NULL, l->base + off, got, n), n);
			ks_check_mem(got, m.p + off, n);
			free(got);
		}
		if (i % 100 == 99)
			ks_check_ok(ks_file_flush(l->f));
	}
	free(m.p);
	return NULL;
}

KS_TEST(threads_on_ranges_of_their_own)
{
	struct lane l[4];
	struct ks_file *f;

	start(&(struct ks_data_opts){ .block_size = KS_BLOCK_MIN, .buffer_bytes = 2 * KS_MIB });
	ks_check_ok(rig_file(&rig, &f, 1));
	for (int i = 0; i < 4; i++) {
		l[i] = (struct lane){ .f = f,
				      .base = (uint64_t)i * LANE,
				      .seed = 77 + (uint64_t)i };
		ks_check_ok(ks_thread_start(&l[i].t, "lane", lane_main, &l[i]));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(l[i].t, NULL);
	ks_check_ok(ks_file_flush(f));
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
}

#define SAME (200 * KS_KIB + 33)

static void *same_main(void *arg)
{
	struct lane *l = arg;
	uint8_t *p = malloc(SAME);

	for (int i = 0; i < 100; i++) {
		memset(p, (int)(mock_rand(&l->seed) % 251 + 1), SAME);
		ks_check_ok(ks_file_write(l->f, 999, p, SAME));
		if (i % 16 == 0)
			ks_check_ok(ks_file_flush(l->f));
	}
	free(p);
	return NULL;
}

/* Writes of one range do not mix: in the end one writer's byte is everywhere. */
KS_TEST(threads_on_the_same_range)
{
	struct lane l[4];
	struct ks_file *f;
	uint8_t *p = malloc(SAME);

	start(&(struct ks_data_opts){ .block_size = KS_BLOCK_MIN, .buffer_bytes = 4 * KS_MIB });
	ks_check_ok(rig_file(&rig, &f, 1));
	for (int i = 0; i < 4; i++) {
		l[i] = (struct lane){ .f = f, .seed = 77 + (uint64_t)i };
		ks_check_ok(ks_thread_start(&l[i].t, "same", same_main, &l[i]));
	}
	for (int i = 0; i < 4; i++)
		pthread_join(l[i].t, NULL);
	for (int k = 0; k < 2; k++) {
		ks_check_eq(ks_file_read(f, NULL, 999, p, SAME), SAME);
		for (uint64_t i = 1; i < SAME; i++) {
			if (p[i] != p[0])
				ks_check_eq(p[i], p[0]);
		}
		ks_check_ok(ks_file_flush(f));
	}
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(two_handles_see_one_file)
{
	struct ks_stream a = { 0 };
	struct ks_stream b = { 0 };
	struct ks_file *f;
	char got[16] = "";

	start(&(struct ks_data_opts){ .buffer_bytes = 2 * KS_MIB });
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, "hello", 5));
	ks_check_eq(ks_file_read(f, &a, 0, got, sizeof(got)), 5);
	ks_check_ok(ks_file_write(f, 3, "pmate", 5));
	ks_check_eq(ks_file_read(f, &b, 0, got, sizeof(got)), 8);
	ks_check_mem(got, "helpmate", 8);
	/* Read-your-writes needs no store. */
	ks_check_eq(rig_stats(&rig).puts, 0);
	ks_check_eq(rig.m.ids, 0);
	ks_file_close(f);
	ks_check_eq(rig.m.commits, 0);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(holes_are_zeros)
{
	struct ks_file *f;
	uint8_t p[300];
	uint8_t zeros[300] = { 0 };
	uint64_t off;

	start(&(struct ks_data_opts){ .buffer_bytes = 2 * KS_MIB, .block_size = KS_BLOCK_MIN });
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 3 * KS_CHUNK_SIZE + 100, "x", 1));
	for (int k = 0; k < 2; k++) {
		memset(p, 1, sizeof(p));
		ks_check_eq(ks_file_read(f, NULL, KS_CHUNK_SIZE - 100, p, 300), 300);
		ks_check_mem(p, zeros, 300);
		ks_check_eq(ks_file_read(f, NULL, 3 * KS_CHUNK_SIZE, p, 300), 101);
		ks_check_mem(p, zeros, 100);
		ks_check_eq(p[100], 'x');
		ks_check_ok(ks_file_seek(f, 5, false, &off));
		ks_check_eq(off, 3 * KS_CHUNK_SIZE + 100);
		ks_check_ok(ks_file_seek(f, 5, true, &off));
		ks_check_eq(off, 5);
		ks_check_ok(ks_file_seek(f, off = 3 * KS_CHUNK_SIZE + 100, true, &off));
		ks_check_eq(off, 3 * KS_CHUNK_SIZE + 101);
		ks_check_eq(ks_file_seek(f, off, false, &off), -ENXIO);
		ks_check_ok(ks_file_flush(f));
	}
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(seek_equals_a_model)
{
	const uint64_t unit = 10000;
	uint64_t seed = 99;

	for (int round = 0; round < 20; round++) {
		struct ks_file *f;
		uint8_t has[64] = { 0 };
		uint8_t p[10000];
		uint64_t size = 0;

		memset(p, 1, sizeof(p));
		start(&(struct ks_data_opts){ .buffer_bytes = 2 * KS_MIB,
					      .block_size = KS_BLOCK_MIN });
		ks_check_ok(rig_file(&rig, &f, 1));
		for (int i = 0; i < 20; i++) {
			uint64_t k = mock_rand(&seed) % 60;

			ks_check_ok(ks_file_write(f, k * unit, p, unit));
			has[k] = 1;
			size = ks_max(size, (k + 1) * unit);
			if (i == 10)
				ks_check_ok(ks_file_flush(f));
		}
		for (uint64_t off = 0; off < size; off += 2500) {
			uint64_t k = off / unit;
			uint64_t d = k;
			uint64_t h = k;
			uint64_t got = 0;

			while (d * unit < size && !has[d])
				d++;
			while (h * unit < size && has[h])
				h++;
			ks_check_ok(ks_file_seek(f, off, true, &got));
			ks_check_eq(got, ks_max(off, h * unit));
			ks_check_ok(ks_file_seek(f, off, false, &got));
			ks_check_eq(got, ks_max(off, d * unit));
		}
		ks_file_close(f);
		ks_check_ok(rig_close(&rig));
	}
}

KS_TEST(a_failed_truncate_drops_nothing)
{
	struct mock_trunc t = { .m = &rig.m, .ino = 1, .size = 10, .fail = -EIO };
	struct ks_file *f;
	struct model m;
	uint64_t seed = 3;

	start(&(struct ks_data_opts){ .buffer_bytes = 4 * KS_MIB, .block_size = KS_BLOCK_MIN });
	ks_check_ok(rig_file(&rig, &f, 1));
	model_init(&m, KS_MIB);
	put(f, &m, 0, 100, &seed);
	put(f, &m, 200, 100000, &seed);
	put(f, &m, 150, 100, &seed);
	put(f, &m, 500000, 100000, &seed);
	ks_check_eq(ks_file_exclusive(f, 10, mock_trunc_fn, &t), -EIO);
	same(f, &m, 0, KS_MIB);
	ks_check_ok(ks_file_flush(f));
	same(f, &m, 0, KS_MIB);
	put(f, &m, 600000, 100000, &seed);
	cut(f, &m, 1, 600000);
	/* What lay behind the new end was never uploaded. */
	uint64_t before = rig.m.commits;

	ks_check_ok(ks_file_flush(f));
	ks_check_eq(rig.m.commits, before);
	cut(f, &m, 1, 700000);
	same(f, &m, 0, KS_MIB);
	ks_file_close(f);
	free(m.p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(another_clients_change_is_seen_after_refresh)
{
	struct ks_file *f;
	char got[8];

	start(&(struct ks_data_opts){ .buffer_bytes = 2 * KS_MIB });
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, "abcdef", 6));
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(ks_file_read(f, NULL, 0, got, 8), 6);
	mock_truncate(&rig.m, 1, 2);
	ks_file_refresh(f, 2, rig.m.ino[1].change);
	ks_check_eq(ks_file_read(f, NULL, 0, got, 8), 2);
	/* An old record changes nothing. */
	ks_file_refresh(f, 6, rig.m.ino[1].change - 1);
	ks_check_eq(ks_file_read(f, NULL, 0, got, 8), 2);
	mock_truncate(&rig.m, 1, 6);
	/* Dirty: the size stays, the data is committed over the other's. */
	ks_check_ok(ks_file_write(f, 2, "C", 1));
	ks_file_refresh(f, 6, rig.m.ino[1].change);
	ks_check_eq(ks_file_read(f, NULL, 0, got, 8), 3);
	ks_check_ok(ks_file_flush(f));
	ks_file_close(f);
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_eq(ks_file_read(f, NULL, 0, got, 8), 6);
	ks_check_mem(got, "abC\0\0\0", 6);
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
}

KS_TEST_MAIN()
