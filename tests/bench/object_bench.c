/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object_bench.c: how fast an object store takes and gives objects.
 *
 *	object_bench URL [SIZE_KIB [COUNT [TAIL_BYTES]]]      default 4096 128 0; TAIL_BYTES more per object, unaligned
 *
 * Rounds of put, put and sync, get, get in 64 KiB pieces; the median MiB/s of the rounds. Each round has keys of its own and
 * they are deleted at the end: ext4 creates files slowly for 5 s after many were deleted (it does not reuse their inodes yet).
 */
#include "base/clock.h"
#include "base/log.h"
#include "object/object.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS 5

struct bench {
	struct ks_object *o;
	char *buf; /* prefaulted */
	size_t size, tail;
	int count;
	int round;
};

static void die(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "object_bench: %s: %s\n", what, ks_strerror(r));
	exit(1);
}

static void key_of(const struct bench *b, char *key, size_t n, int i)
{
	(void)snprintf(key, n, "bench/%02d/%d-%06d", i % 16, b->round, i);
}

static void put_all(struct bench *b, bool sync)
{
	char key[64];

	for (int i = 0; i < b->count; i++) {
		struct iovec v[2] = { { b->buf, b->size }, { b->buf + 1, b->tail } };

		key_of(b, key, sizeof(key), i);
		die(ks_object_put(b->o, key, v, b->tail ? 2 : 1), "put");
	}
	if (sync)
		die(ks_object_sync(b->o), "sync");
}

static void get_all(struct bench *b, size_t piece)
{
	char key[64];

	for (int i = 0; i < b->count; i++) {
		key_of(b, key, sizeof(key), i);
		for (size_t off = 0; off < b->size; off += piece) {
			struct iovec v = { b->buf + off, piece };
			ssize_t n = ks_object_get(b->o, key, off, &v, 1);

			die(n < 0 ? (int)n : n == (ssize_t)piece ? 0 : -5, "get");
		}
	}
}

static void del_all(struct bench *b)
{
	char key[64];
	const char *p = key;

	for (int i = 0; i < b->count; i++) {
		key_of(b, key, sizeof(key), i);
		die(ks_object_del(b->o, &p, 1), "del");
	}
}

static int cmp(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void report(const struct bench *b, const char *what, double *s)
{
	double mib = (double)b->count * (double)b->size / (double)KS_MIB;

	qsort(s, ROUNDS, sizeof(*s), cmp);
	printf("%-12s %8.0f MiB/s  %9.0f op/s  (best %.0f, worst %.0f MiB/s)\n", what,
	       mib / s[ROUNDS / 2], b->count / s[ROUNDS / 2], mib / s[0], mib / s[ROUNDS - 1]);
}

int main(int argc, char **argv)
{
	struct bench b = { .size = 4 * KS_MIB, .count = 128 };
	double s[5][ROUNDS] = { 0 };

	if (argc < 2) {
		fprintf(stderr, "usage: object_bench URL [SIZE_KIB [COUNT [TAIL_BYTES]]]\n");
		return 2;
	}
	if (argc > 2)
		b.size = (size_t)strtoul(argv[2], NULL, 10) * KS_KIB;
	if (argc > 3)
		b.count = (int)strtol(argv[3], NULL, 10);
	if (argc > 4)
		b.tail = (size_t)strtoul(argv[4], NULL, 10);
	if (b.size == 0 || b.count < 1 || posix_memalign((void **)&b.buf, 4096, b.size) != 0)
		return 2;
	memset(b.buf, 7, b.size);
	die(ks_object_open(&b.o, argv[1]), "open");
	for (int r = 0; r < ROUNDS; r++) {
		size_t piece = b.size > 64 * KS_KIB ? 64 * KS_KIB : b.size;
		int64_t t[5];

		b.round = r;
		t[0] = ks_clock_mono_ns();
		put_all(&b, false);
		t[1] = ks_clock_mono_ns();
		put_all(&b, true);
		t[2] = ks_clock_mono_ns();
		get_all(&b, b.size);
		t[3] = ks_clock_mono_ns();
		get_all(&b, piece);
		t[4] = ks_clock_mono_ns();
		for (int i = 0; i < 4; i++)
			s[i][r] = (double)(t[i + 1] - t[i]) / (double)KS_NS_PER_S;
	}
	for (b.round = 0; b.round < ROUNDS; b.round++) {
		int64_t t = ks_clock_mono_ns();

		del_all(&b);
		s[4][b.round] = (double)(ks_clock_mono_ns() - t) / (double)KS_NS_PER_S;
	}
	report(&b, "put", s[0]);
	report(&b, "replace+sync", s[1]);
	report(&b, "get", s[2]);
	report(&b, "get 64 KiB", s[3]);
	report(&b, "del", s[4]);
	ks_object_close(b.o);
	free(b.buf);
	return 0;
}
