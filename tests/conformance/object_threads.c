/* SPDX-License-Identifier: Apache-2.0 */
/* object_threads.c: what every object store must do for many threads at once, and appending. */
#include "object_suite.h"

/* ---- threads ---- */

#define THREADS 8
#define WHOLE (300 * 1024)

struct job {
	struct ks_object *o;
	struct ks_appender *a;
	int no;
	_Atomic bool *stop;
	int bad;
};

static void run_jobs(struct job *jobs, int n, void *(*fn)(void *))
{
	pthread_t t[THREADS + 4];

	for (int i = 0; i < n; i++)
		ks_check_ok(ks_thread_start(&t[i], "test", fn, &jobs[i]));
	for (int i = 0; i < n; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < n; i++)
		ks_check_eq(jobs[i].bad, 0);
}

/* Writers replace one object by wholes of one byte each; readers must never see a mix. */
static void *overwriter(void *arg)
{
	struct job *j = arg;
	char *p = aligned(WHOLE);

	if (j->no < 2) {
		for (int i = 0; i < 40; i++) {
			size_t n = j->no == 0 ? WHOLE : 1000; /* O_DIRECT and buffered */

			memset(p, 'a' + (i * 2 + j->no) % 26, n);
			j->bad += put(j->o, "hot", p, n) != 0;
		}
		*j->stop = true;
	}
	while (j->no >= 2 && !*j->stop) {
		ssize_t n = get(j->o, "hot", 0, p + (j->no & 1), WHOLE - 4096);

		j->bad += n != WHOLE - 4096 && n != 1000;
		for (ssize_t i = 1; i < n; i++)
			j->bad += p[(j->no & 1) + i] != p[(j->no & 1)];
	}
	free(p);
	return NULL;
}

static void t_overwrite(void)
{
	struct ks_object *o = open_fresh();
	_Atomic bool stop = false;
	struct job jobs[6];

	ks_check_ok(put(o, "hot", "", 0));
	char *p = aligned(WHOLE);
	memset(p, 'z', WHOLE);
	ks_check_ok(put(o, "hot", p, WHOLE));
	free(p);
	for (int i = 0; i < 6; i++)
		jobs[i] = (struct job){ .o = o, .no = i, .stop = &stop };
	run_jobs(jobs, 6, overwriter);
	ks_object_close(o);
}

/* Puts, reads back, deletes, syncs and lists its own keys, beside others. */
static int ignore_key(void *arg, const char *key, const struct ks_object_info *info)
{
	(void)arg;
	(void)key;
	(void)info;
	return 0;
}

static void *mixer(void *arg)
{
	struct job *j = arg;
	const size_t n = 200 * 1024;
	char *a = aligned(n), *b = aligned(n), key[64];
	const char *kp = key;

	for (int i = 0; i < 60; i++) {
		size_t len = i % 3 == 0 ? n : (size_t)i * 17;

		snprintf(key, sizeof(key), "t%d/%d/o", j->no % 3, j->no * 1000 + i % 10);
		fill(a, len, (uint64_t)(j->no * 100 + i));
		j->bad += put(j->o, key, a, len) != 0;
		j->bad += get(j->o, key, 0, b, len) != (ssize_t)len;
		j->bad += len > 0 && memcmp(a, b, len) != 0;
		if (i % 4 == 0) {
			j->bad += ks_object_del(j->o, &kp, 1) != 0;
			j->bad += get(j->o, key, 0, b, len) != -ENOENT;
		}
		if (i % 16 == 5)
			j->bad += ks_object_sync(j->o) != 0;
		if (i % 20 == 7)
			j->bad += ks_object_list(j->o, "", "", ignore_key, NULL) != 0;
	}
	free(a);
	free(b);
	return NULL;
}

static void t_threads(void)
{
	struct ks_object *o = open_fresh();
	struct job jobs[THREADS];

	for (int i = 0; i < THREADS; i++)
		jobs[i] = (struct job){ .o = o, .no = i };
	run_jobs(jobs, THREADS, mixer);
	if (around == STATS) {
		struct ks_object_stats st;

		ks_object_stats(o, &st);
		ks_check_eq(st.puts, THREADS * 60);
		ks_check_eq(st.dels, THREADS * 15);
		ks_check_eq(st.errors, 0);
		ks_check(st.in_flight_max >= 1 && st.in_flight_max <= THREADS);
	}
	ks_object_close(o);
}

/* ---- appending ---- */

#define RECORD 777
#define RECORDS 200

static void *appender(void *arg)
{
	struct job *j = arg;
	char rec[RECORD], back[RECORD];

	for (int i = 0; i < RECORDS; i++) {
		struct iovec v[2] = { { rec, 100 }, { rec + 100, RECORD - 100 } };
		uint64_t off = UINT64_MAX;

		fill(rec, RECORD, (uint64_t)(j->no * RECORDS + i));
		j->bad += ks_appender_write(j->a, v, 2, &off) != 0;
		j->bad += off % RECORD != 0;
		j->bad += get(j->o, "packs/1", off, back, RECORD) != RECORD;
		j->bad += memcmp(rec, back, RECORD) != 0;
		if (i % 50 == 20)
			j->bad += ks_object_sync(j->o) != 0;
	}
	return NULL;
}

static void t_append(void)
{
	struct ks_object *o = open_fresh();
	struct ks_appender *a = NULL, *again = NULL;
	struct ks_object_info info = { 0 };
	static char seen[4 * RECORDS];
	char rec[RECORD], want[RECORD];
	struct job jobs[4];

	if (!ks_object_can_append(o)) {
		ks_check_eq(ks_appender_open(o, "packs/1", &a), -EOPNOTSUPP);
		ks_object_close(o);
		ks_skip("this store cannot append");
	}
	memset(seen, 0, sizeof(seen));
	ks_check_ok(ks_appender_open(o, "packs/1", &a));
	ks_check_eq(ks_appender_open(o, "packs/1", &again), -EEXIST);
	ks_check_ok(ks_object_head(o, "packs/1", &info));
	ks_check_eq(info.size_bytes, 0);
	for (int i = 0; i < 4; i++)
		jobs[i] = (struct job){ .o = o, .a = a, .no = i };
	run_jobs(jobs, 4, appender);
	ks_check_eq(ks_appender_size(a), 4 * RECORDS * RECORD);
	ks_appender_close(a);
	ks_check_ok(ks_object_sync(o));
	ks_check_ok(ks_object_head(o, "packs/1", &info));
	ks_check_eq(info.size_bytes, 4 * RECORDS * RECORD);
	for (int i = 0; i < 4 * RECORDS; i++) { /* each record once */
		int k = 0;

		ks_check_eq(get(o, "packs/1", (uint64_t)i * RECORD, rec, RECORD), RECORD);
		for (; k < 4 * RECORDS; k++) {
			fill(want, 8, (uint64_t)k);
			if (memcmp(want, rec, 8) == 0)
				break;
		}
		ks_check(k < 4 * RECORDS && !seen[k]);
		seen[k] = 1;
		fill(want, RECORD, (uint64_t)k);
		ks_check_mem(rec, want, RECORD);
	}
	ks_object_close(o);
}

static const struct suite_test suite[] = {
	{ "overwrite", t_overwrite },
	{ "threads", t_threads },
	{ "append", t_append },
};

int main(int argc, char **argv)
{
	return suite_main(suite, KS_ARRAY_SIZE(suite), argc, argv);
}
