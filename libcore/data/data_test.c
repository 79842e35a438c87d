/* SPDX-License-Identifier: Apache-2.0 */
/* data_test.c: what data promises beyond bytes: budgets, errors, order, sharing, times. */
#include "base/tap.h"
#include "data/mock_host.h"

#include <sys/resource.h>

static struct rig rig;
static unsigned int serial;

#define OPTS(...) (&(struct ks_data_opts){ __VA_ARGS__ })

/* Small blocks and a small pool, where @o says nothing else. */
static void start(const struct ks_data_opts *o)
{
	struct ks_data_opts x = *o;
	char url[64];

	x.block_size = o->block_size ? o->block_size : (uint32_t)KS_BLOCK_MIN;
	x.buffer_bytes = o->buffer_bytes ? o->buffer_bytes : 8 * KS_MIB;
	snprintf(url, sizeof(url), "mem://data-%u", ++serial);
	ks_check_ok(rig_open(&rig, url, &x));
}

static void say_nothing(void *arg, enum ks_log_level level, const char *where, const char *text)
{
	(void)arg;
	(void)level;
	(void)where;
	(void)text;
}

/* Failures on other threads are expected here. */
__attribute__((constructor)) static void quiet_log(void)
{
	ks_log_set(say_nothing, NULL, KS_LOG_ERROR);
}

static void sleep_ms(int ms)
{
	struct timespec ts = ks_ns_to_ts(ms * KS_NS_PER_MS);

	nanosleep(&ts, NULL);
}

static uint8_t *bytes(size_t n, uint64_t seed)
{
	uint8_t *p = malloc(n);

	ks_check(p);
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = mock_rand(&seed);

		memcpy(p + i, &v, ks_min(n - i, (size_t)8));
	}
	return p;
}

static void check_file(struct ks_file *f, uint64_t off, const uint8_t *want, size_t n)
{
	uint8_t *got = malloc(n);

	ks_check_eq(ks_file_read(f, NULL, off, got, n), n);
	ks_check_mem(got, want, n);
	free(got);
}

/* Forgets everything that is in memory. */
static void restart(struct ks_file **f)
{
	ks_file_close(*f);
	ks_check_ok(rig_stop(&rig));
	ks_check_ok(rig_start(&rig));
	ks_check_ok(rig_file(&rig, f, 1));
}

static long max_rss_kib(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return ru.ru_maxrss;
}

KS_TEST(a_small_pool_takes_a_large_file)
{
	char url[512];
	struct ks_file *f;
	uint8_t *p = bytes(KS_MIB, 5);
	struct ks_data_stats st;
	long before;

	snprintf(url, sizeof(url), "file://%s/pool", ks_tap_dir());
	ks_check_ok(rig_open(&rig, url,
			     &(struct ks_data_opts){ .buffer_bytes = 4 * KS_MIB,
						     .spill_dir = ks_tap_dir(),
						     .spill_bytes = 2 * KS_MIB }));
	ks_check_ok(rig_file(&rig, &f, 1));
	before = max_rss_kib();
	for (uint64_t i = 0; i < 256; i++) {
		memcpy(p, &i, sizeof(i));
		ks_check_ok(ks_file_write(f, i * KS_MIB, p, KS_MIB));
		ks_data_stats(rig.d, &st);
		ks_check(st.dirty_bytes <= 6 * KS_MIB);
	}
	ks_check_ok(ks_file_flush(f));
	printf("# grew by %ld KiB, %" PRIu64 " waits\n", max_rss_kib() - before, st.waits);
	ks_check(max_rss_kib() - before < 64 * 1024);
	for (uint64_t i = 0; i < 256; i += 17) {
		memcpy(p, &i, sizeof(i));
		check_file(f, i * KS_MIB, p, KS_MIB);
	}
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(many_small_random_writes_take_little_memory)
{
	struct ks_file *f;
	struct ks_data_stats st;
	uint8_t *p = bytes(4096, 5);

	start(OPTS(.buffer_bytes = 64 * KS_MIB, .flush_idle_ns = 60 * KS_NS_PER_S,
		   .flush_age_ns = 60 * KS_NS_PER_S));
	ks_check_ok(rig_file(&rig, &f, 1));
	for (uint64_t i = 0; i < 4000; i++) {
		memcpy(p, &i, 8);
		ks_check_ok(ks_file_write(f, (i * 7919 % 4000) * 8192, p, 4096));
	}
	ks_data_stats(rig.d, &st);
	ks_check_eq(st.dirty_bytes, 4000 * 4096);
	for (uint64_t i = 0; i < 4000; i += 7) {
		memcpy(p, &i, 8);
		check_file(f, (i * 7919 % 4000) * 8192, p, 4096);
	}
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(mock_count(&rig.m, &rig.m.committed), 4000);
	ks_check_eq(mock_count(&rig.m, &rig.m.commits), 4);
	for (uint64_t i = 0; i < 4000; i += 7) {
		memcpy(p, &i, 8);
		check_file(f, (i * 7919 % 4000) * 8192, p, 4096);
	}
	/* Its own commits are in the map: nobody was asked. */
	ks_check_eq(mock_count(&rig.m, &rig.m.maps), 0);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(full_blocks_go_early_and_ids_late)
{
	struct ks_file *f;
	uint8_t *p = bytes(3 * KS_BLOCK_MIN, 5);

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, KS_BLOCK_MIN - 1));
	sleep_ms(20);
	ks_check_eq(mock_count(&rig.m, &rig.m.ids), 0);
	ks_check_eq(rig_stats(&rig).puts, 0);
	ks_check_ok(ks_file_write(f, KS_BLOCK_MIN - 1, p + KS_BLOCK_MIN - 1, 10));
	for (int i = 0; i < 200 && rig_stats(&rig).puts == 0; i++)
		sleep_ms(5);
	ks_check_eq(rig_stats(&rig).puts, 1);
	ks_check_eq(mock_count(&rig.m, &rig.m.ids), 1);
	ks_check_eq(mock_count(&rig.m, &rig.m.commits), 0);
	/* What was uploaded is immutable: this goes beside it. */
	ks_check_ok(ks_file_write(f, 5, "HELLO", 5));
	memcpy(p + 5, "HELLO", 5);
	check_file(f, 0, p, KS_BLOCK_MIN + 9);
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(mock_count(&rig.m, &rig.m.committed), 2);
	check_file(f, 0, p, KS_BLOCK_MIN + 9);
	restart(&f);
	check_file(f, 0, p, KS_BLOCK_MIN + 9);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

static void failing_store(bool no_packs, const char *rule, int err)
{
	struct ks_file *f;
	uint8_t *p = bytes(5 * KS_BLOCK_MIN, 5);
	struct ks_file_state st;
	size_t n = no_packs ? 5 * KS_BLOCK_MIN - 7 : 100000;
	bool quiet = ks_fail_quiet(true);

	start(OPTS(.no_packs = no_packs));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_object_fault_set(rig.fault, rule));
	ks_check_ok(ks_file_write(f, 10, p, n));
	if (strstr(rule, "every=1")) {
		ks_check_eq(ks_file_flush(f), err);
		ks_check_eq(ks_file_flush(f), err);
		ks_check_eq(mock_count(&rig.m, &rig.m.commits), 0);
		ks_file_state(f, &st);
		ks_check_eq(st.dirty_bytes, n);
		check_file(f, 10, p, n);
	} else {
		int r = err;

		/* Each attempt gets a little further. */
		for (int i = 0; i < 50 && r != 0; i++) {
			r = ks_file_flush(f);
			ks_check(r == 0 || r == err);
			check_file(f, 10, p, n);
		}
		ks_check_ok(r);
	}
	/* Not sticky: the store recovers, and so does the file. */
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_check_ok(ks_file_write(f, 10 + n, "tail", 4));
	ks_check_ok(ks_file_flush(f));
	ks_file_state(f, &st);
	ks_check_eq(st.dirty_bytes, 0);
	ks_check_eq(st.mtime_ns, 0);
	restart(&f);
	check_file(f, 10, p, n);
	check_file(f, 10 + n, (const uint8_t *)"tail", 4);
	ks_file_close(f);
	free(p);
	ks_fail_quiet(quiet);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(a_failing_store_costs_no_data)
{
	failing_store(true, "put:fail=EIO:every=1", -EIO);
	failing_store(true, "put:fail=ENOSPC:every=1", -ENOSPC);
	failing_store(true, "put:fail=ENOSPC:every=2", -ENOSPC);
	failing_store(true, "put:torn=1:every=3", -EIO);
	failing_store(false, "append:fail=EIO:every=1", -EIO);
	failing_store(false, "append:fail=ENOSPC:every=1", -ENOSPC);
	failing_store(false, "append:torn=1:every=1", -EIO);
}

KS_TEST(a_failing_commit_costs_no_data)
{
	struct ks_file *f;
	uint8_t *p = bytes(5 * KS_BLOCK_MIN, 5);
	uint64_t puts;

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, 5 * KS_BLOCK_MIN));
	rig.m.fail_commit = -EDQUOT;
	ks_check_eq(ks_file_flush(f), -EDQUOT);
	puts = rig_stats(&rig).puts;
	check_file(f, 0, p, 5 * KS_BLOCK_MIN);
	rig.m.fail_commit = 0;
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(rig_stats(&rig).puts, puts);
	check_file(f, 0, p, 5 * KS_BLOCK_MIN);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(a_file_that_is_gone_is_dropped_without_error)
{
	struct ks_file *f;
	uint8_t *p = bytes(5 * KS_BLOCK_MIN, 5);
	struct ks_data_stats st;

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, 5 * KS_BLOCK_MIN));
	rig.m.ino[1].gone = true;
	ks_check_ok(ks_file_flush(f));
	ks_data_stats(rig.d, &st);
	ks_check_eq(st.dirty_bytes, 0);
	ks_check_eq(rig_stats(&rig).dels, rig_stats(&rig).puts);
	ks_check_ok(ks_file_write(f, 0, p, 5 * KS_BLOCK_MIN));
	ks_file_close(f);
	ks_check_eq(rig_stats(&rig).dels, rig_stats(&rig).puts);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(a_full_pool_on_a_dead_store_is_an_error_not_a_hang)
{
	struct ks_file *f;
	uint8_t *p = bytes(KS_MIB, 5);
	int64_t t = ks_clock_mono_ns();
	bool quiet = ks_fail_quiet(true);
	uint64_t n = 0;
	int r = 0;

	start(OPTS(.buffer_bytes = 2 * KS_MIB));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_object_fault_set(rig.fault,
					"put:fail=ENOSPC:every=1,append:fail=ENOSPC:every=1"));
	while (r == 0 && n < 100) {
		r = ks_file_write(f, n * 100000, p, 100000);
		n += r == 0;
	}
	ks_check_eq(r, -ENOSPC);
	ks_check(ks_clock_mono_ns() - t < 20 * KS_NS_PER_S);
	ks_check_eq(ks_file_flush(f), -ENOSPC);
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_check_ok(ks_file_write(f, n * 100000, p, 100000));
	ks_check_ok(ks_file_flush(f));
	for (uint64_t i = 0; i <= n; i++)
		check_file(f, i * 100000, p, 100000);
	ks_file_close(f);
	free(p);
	ks_fail_quiet(quiet);
	ks_check_ok(rig_close(&rig));
}

struct bg {
	struct ks_file *f;
	const uint8_t *p;
	uint64_t off;
	size_t n;
	int r;
	int64_t done_ns;
	pthread_t t;
};

static void *bg_write(void *arg)
{
	struct bg *b = arg;

	b->r = ks_file_write(b->f, b->off, b->p, b->n);
	b->done_ns = ks_clock_mono_ns();
	return NULL;
}

static void *bg_flush(void *arg)
{
	struct bg *b = arg;

	b->r = ks_file_flush(b->f);
	b->done_ns = ks_clock_mono_ns();
	return NULL;
}

static void *bg_read(void *arg)
{
	struct bg *b = arg;
	uint8_t *got = malloc(b->n);

	b->r = ks_file_read(b->f, NULL, b->off, got, b->n) == (ssize_t)b->n &&
			       memcmp(got, b->p, b->n) == 0
		       ? 0
		       : -1;
	free(got);
	return NULL;
}

KS_TEST(reads_go_on_while_an_upload_is_slow)
{
	struct bg b = { 0 };
	uint8_t *p = bytes(10 * KS_BLOCK_MIN, 5);
	int64_t t0;
	int reads = 0;

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &b.f, 1));
	ks_check_ok(ks_object_fault_set(rig.fault, "put:delay=400ms"));
	ks_check_ok(ks_file_write(b.f, 0, p, 10 * KS_BLOCK_MIN));
	t0 = ks_clock_mono_ns();
	ks_check_ok(ks_thread_start(&b.t, "flush", bg_flush, &b));
	while (ks_clock_mono_ns() - t0 < 200 * KS_NS_PER_MS) {
		check_file(b.f, 12345, p + 12345, 100000);
		ks_check_ok(ks_file_write(b.f, 11 * KS_BLOCK_MIN, p, 1000));
		reads++;
	}
	pthread_join(b.t, NULL);
	ks_check_ok(b.r);
	ks_check(b.done_ns - t0 > 300 * KS_NS_PER_MS);
	ks_check(reads > 10);
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_file_close(b.f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

/* Writer A waits for memory with its range locked; B on another range of the file is not held up, C on the same range is. */
KS_TEST(writers_lock_only_their_range)
{
	struct bg a = { 0 };
	struct bg c;
	uint8_t *p = bytes(KS_MIB, 5);
	uint64_t free_at = 0;
	int64_t t0;
	int64_t b_done;

	start(OPTS(.buffer_bytes = 2 * KS_MIB, .no_packs = true));
	ks_check_ok(rig_file(&rig, &a.f, 1));
	ks_check_ok(ks_file_write(a.f, 100 * KS_MIB, p, 4096));
	/* Leave less than A needs. */
	ks_check_ok(ks_object_fault_set(rig.fault, "put:delay=500ms"));
	for (; free_at < 26; free_at++)
		ks_check_ok(ks_file_write(a.f, free_at * 2 * KS_PAGE_SIZE, p, KS_PAGE_SIZE - 1));
	a.p = p;
	a.off = 50 * KS_MIB;
	a.n = 300000;
	c = a;
	t0 = ks_clock_mono_ns();
	ks_check_ok(ks_thread_start(&a.t, "a", bg_write, &a));
	sleep_ms(50);
	ks_check_ok(ks_thread_start(&c.t, "c", bg_write, &c));
	ks_check_ok(ks_file_write(a.f, 100 * KS_MIB, p, 4096));
	b_done = ks_clock_mono_ns();
	pthread_join(a.t, NULL);
	pthread_join(c.t, NULL);
	ks_check_ok(a.r);
	ks_check_ok(c.r);
	ks_check(b_done - t0 < 300 * KS_NS_PER_MS);
	ks_check(a.done_ns > b_done);
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_check_ok(ks_file_flush(a.f));
	ks_file_close(a.f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(one_fetch_for_many_readers)
{
	struct bg b[32];
	struct ks_file *f;
	uint8_t *p = bytes(KS_BLOCK_MIN, 5);
	uint64_t gets;

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, KS_BLOCK_MIN));
	ks_check_ok(ks_file_flush(f));
	restart(&f);
	gets = rig_stats(&rig).gets;
	ks_check_ok(ks_object_fault_set(rig.fault, "get:delay=100ms"));
	for (int i = 0; i < 32; i++) {
		b[i] = (struct bg){ .f = f, .p = p + 100, .off = 100, .n = 5000 };
		ks_check_ok(ks_thread_start(&b[i].t, "r", bg_read, &b[i]));
	}
	for (int i = 0; i < 32; i++) {
		pthread_join(b[i].t, NULL);
		ks_check_ok(b[i].r);
	}
	ks_check_eq(rig_stats(&rig).gets - gets, 1);
	/* A small read fetches one page and no more. */
	ks_check_eq(rig_stats(&rig).get_bytes, KS_PAGE_SIZE);
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

static void damage(bool no_packs)
{
	struct ks_file *f;
	uint8_t *p = bytes(3 * KS_BLOCK_MIN, 5);
	size_t n = 3 * KS_BLOCK_MIN - 100;
	char got[10];

	start(OPTS(.no_packs = no_packs));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, n));
	ks_check_ok(ks_file_flush(f));
	restart(&f);

	bool quiet = ks_fail_quiet(true);

	ks_check_ok(ks_object_fault_set(rig.fault, "get:flip=1:every=1"));
	ks_check_eq(ks_file_read(f, NULL, KS_PAGE_SIZE + 5, got, 10), -EIO);
	ks_check(strstr(ks_fail_text(), "slice "));
	ks_check(strstr(ks_fail_text(), "page "));
	ks_check_ok(ks_object_fault_set(rig.fault, "get:fail=ENOENT:every=1"));
	ks_check_eq(ks_file_read(f, NULL, KS_PAGE_SIZE + 5, got, 10), -EIO);
	ks_check(strstr(ks_fail_text(), "missing"));
	ks_check_ok(ks_object_fault_set(rig.fault, "get:torn=1:every=1"));
	ks_check(ks_file_read(f, NULL, KS_PAGE_SIZE + 5, got, 10) < 0);
	ks_check_ok(ks_object_fault_set(rig.fault, ""));
	ks_fail_quiet(quiet);
	check_file(f, 0, p, n);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(damage_is_an_error_never_data)
{
	damage(true);
	damage(false);
}

KS_TEST(idle_and_old_files_are_committed)
{
	struct ks_file *f;
	struct ks_file *g;
	int64_t t0 = ks_clock_mono_ns();

	start(OPTS(.flush_idle_ns = 300 * KS_NS_PER_MS, .flush_age_ns = 900 * KS_NS_PER_MS));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(rig_file(&rig, &g, 2));
	ks_check_ok(ks_file_write(f, 0, "x", 1));
	while (mock_count(&rig.m, &rig.m.ino[2].size) == 0 &&
	       ks_clock_mono_ns() - t0 < 10 * KS_NS_PER_S) {
		/* Never idle. */
		ks_check_ok(ks_file_write(g, 0, "y", 1));
		sleep_ms(20);
	}
	ks_check_eq(mock_count(&rig.m, &rig.m.ino[1].size), 1);
	ks_check_eq(mock_count(&rig.m, &rig.m.ino[2].size), 1);
	ks_check(ks_clock_mono_ns() - t0 >= 900 * KS_NS_PER_MS);
	ks_file_close(f);
	ks_file_close(g);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(slices_are_committed_in_the_order_they_were_made)
{
	struct ks_file *f;
	uint8_t *p = bytes(200 * 1000, 5);

	start(OPTS(.open_slices = 2, .no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	/* Each write lies over half of the one before, backwards: none can be extended. */
	for (int i = 100; i > 0; i--)
		ks_check_ok(ks_file_write(f, (uint64_t)i * 1000, p + i * 1000, 2000));
	ks_check_ok(ks_file_flush(f));
	ks_check_eq(mock_count(&rig.m, &rig.m.committed), 100);
	ks_check_eq(mock_count(&rig.m, &rig.m.commits), 1);
	for (size_t i = 1; i < rig.m.ino[1].n; i++)
		ks_check(rig.m.ino[1].v[i].e.pos < rig.m.ino[1].v[i - 1].e.pos);
	check_file(f, 1000, p + 1000, 100 * 1000);
	restart(&f);
	check_file(f, 1000, p + 1000, 100 * 1000);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(concurrent_flushes_share_the_work)
{
	struct bg b[8];
	struct ks_file *f;

	start(OPTS(.readonly = false));
	rig.m.delay_ns = 50 * KS_NS_PER_MS;
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, "x", 1));
	for (int i = 0; i < 8; i++) {
		b[i] = (struct bg){ .f = f };
		ks_check_ok(ks_thread_start(&b[i].t, "f", bg_flush, &b[i]));
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(b[i].t, NULL);
		ks_check_ok(b[i].r);
	}
	ks_check_eq(mock_count(&rig.m, &rig.m.commits), 1);
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(read_ahead_is_ahead)
{
	struct ks_stream st = { 0 };
	struct ks_file *f;
	uint8_t *p = bytes(8 * KS_MIB, 5);
	uint8_t *got = malloc(128 * KS_KIB);
	struct ks_data_stats ds;

	start(OPTS(.buffer_bytes = 64 * KS_MIB, .block_size = KS_MIB, .no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, 8 * KS_MIB));
	/* A hole, then the last byte. */
	ks_check_ok(ks_file_write(f, 20 * KS_MIB, p, 1));
	ks_check_ok(ks_file_flush(f));
	restart(&f);
	for (uint64_t off = 0; off < 20 * KS_MIB; off += 128 * KS_KIB) {
		/* Pairs arrive swapped. */
		uint64_t at = off ^ 128 * KS_KIB;

		ks_check_eq(ks_file_read(f, &st, at, got, 128 * KS_KIB), 128 * KS_KIB);
		if (at < 8 * KS_MIB)
			ks_check_mem(got, p + at, 128 * KS_KIB);
		if (off == 2 * KS_MIB) {
			uint64_t want = 3 * KS_MIB / KS_PAGE_SIZE;

			for (int i = 0; i < 200; i++) {
				ks_data_stats(rig.d, &ds);
				if (ds.readahead_pages + ds.page_misses >= want)
					break;
				sleep_ms(5);
			}
			ks_check(ds.readahead_pages + ds.page_misses >= want);
		}
	}
	ks_data_stats(rig.d, &ds);
	printf("# %" PRIu64 " gets, %" PRIu64 " pages ahead, %" PRIu64 " misses\n", ds.fetches,
	       ds.readahead_pages, ds.page_misses);
	/* Once, and never past the file's end. */
	ks_check(ds.fetch_bytes == 8 * KS_MIB || ds.fetch_bytes == 8 * KS_MIB + 1);
	/* On a busy machine the reader is sometimes first. */
	ks_check(ds.readahead_pages > 48);
	ks_file_close(f);
	free(p);
	free(got);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(a_scan_leaves_hot_pages_alone)
{
	struct ks_file *f;
	uint8_t *p = bytes(KS_MIB, 5);
	struct ks_data_stats a;
	struct ks_data_stats b;
	uint8_t got[100];

	start(OPTS(.buffer_bytes = 4 * KS_MIB, .no_packs = true, .readahead_bytes = UINT64_MAX));
	ks_check_ok(rig_file(&rig, &f, 1));
	for (int i = 0; i < 32; i++)
		ks_check_ok(ks_file_write(f, (uint64_t)i * KS_MIB, p, KS_MIB));
	ks_check_ok(ks_file_flush(f));
	restart(&f);
	for (int k = 0; k < 3; k++) {
		for (uint64_t i = 0; i < 16; i++)
			ks_check_eq(ks_file_read(f, NULL, i * KS_PAGE_SIZE, got, 100), 100);
	}
	for (uint64_t i = KS_MIB; i < 32 * KS_MIB; i += KS_MIB)
		check_file(f, i, p, KS_MIB);
	ks_data_stats(rig.d, &a);
	for (uint64_t i = 0; i < 16; i++)
		ks_check_eq(ks_file_read(f, NULL, i * KS_PAGE_SIZE, got, 100), 100);
	ks_data_stats(rig.d, &b);
	printf("# %" PRIu64 " of 16 still there\n", b.page_hits - a.page_hits);
	ks_check(b.page_hits - a.page_hits >= 12);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(delete_takes_every_block)
{
	struct ks_file *f;
	uint8_t *p = bytes(5 * KS_BLOCK_MIN, 5);
	char got[5];

	start(OPTS(.no_packs = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_ok(ks_file_write(f, 0, p, 5 * KS_BLOCK_MIN - 9));
	ks_check_ok(ks_file_flush(f));
	ks_check_ok(
		ks_data_delete_slice(rig.d, rig.m.last_slice, 5 * KS_BLOCK_MIN - 9, KS_BLOCK_MIN));

	bool quiet = ks_fail_quiet(true);

	for (uint64_t i = 0; i < 5; i++)
		ks_check_eq(ks_file_read(f, NULL, i * KS_BLOCK_MIN, got, 5), -EIO);
	ks_fail_quiet(quiet);
	ks_file_close(f);
	free(p);
	ks_check_ok(rig_close(&rig));
}

KS_TEST(readonly_and_limits)
{
	struct ks_file *f;
	bool quiet = ks_fail_quiet(true);

	start(OPTS(.readonly = true));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_eq(ks_file_write(f, 0, "x", 1), -EROFS);
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
	start(OPTS(.readonly = false));
	ks_check_ok(rig_file(&rig, &f, 1));
	ks_check_eq(ks_file_write(f, KS_FILE_MAX, "x", 1), -EFBIG);
	ks_check_eq(ks_file_write(f, UINT64_MAX, "xy", 2), -EFBIG);
	ks_check_ok(ks_file_write(f, KS_FILE_MAX - 1, "x", 1));
	ks_check_ok(ks_file_flush(f));
	ks_file_close(f);
	ks_check_ok(rig_close(&rig));
	ks_check_eq(rig_open(&rig, "mem://none", OPTS(.block_size = 100000)), -EINVAL);
	ks_object_close(rig.fault);
	mock_clear(&rig.m);
	ks_fail_quiet(quiet);
}

KS_TEST_MAIN()
