/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_bench.c: rates of the data plane alone, over a directory and metadata in memory.
 *
 *	data_bench DIR [MIB [PART]]	DIR is created; what it makes there stays
 *
 * Reads are cold for the data plane and, where the store uses O_DIRECT, for the kernel.
 */
#include "data/mock_host.h"

#include <fcntl.h>
#include <unistd.h>

static struct rig rig;

static void must(int r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "data_bench: %s: %s\n", what, strerror(-r));
		exit(1);
	}
}

static double since(int64_t t)
{
	return (double)(ks_clock_mono_ns() - t) / 1e9;
}

static void restart(void)
{
	must(rig_stop(&rig), "close");
	must(rig_start(&rig), "open");
}

static void stream(uint64_t mib, const char *name)
{
	struct ks_file *f = NULL;
	uint8_t *p = malloc(KS_MIB);
	int64_t t;

	memset(p, 0x5a, KS_MIB);
	for (uint64_t i = 0; i < KS_MIB / 8; i++)
		memcpy(p + 8 * i, &i, 8);
	must(rig_file(&rig, &f, 1), "open");
	mock_file_truncate(&rig.m, f, 1, 0);
	t = ks_clock_mono_ns();
	for (uint64_t i = 0; i < mib; i++)
		must(ks_file_write(f, i * KS_MIB, p, KS_MIB), "write");
	must(ks_file_flush(f), "flush");
	printf("%-34s %8.0f MB/s\n", name, (double)mib * KS_MIB / 1e6 / since(t));
	ks_file_close(f);
	free(p);
}

static void read_stream(uint64_t mib, size_t req, const char *name)
{
	struct ks_stream st = { 0 };
	struct ks_file *f = NULL;
	uint8_t *p = malloc(req);
	int64_t t;

	restart();
	must(rig_file(&rig, &f, 1), "open");
	t = ks_clock_mono_ns();
	for (uint64_t off = 0; off < mib * KS_MIB; off += req) {
		ssize_t r = ks_file_read(f, &st, off, p, req);

		must((int)r, "read");
	}
	printf("%-34s %8.0f MB/s\n", name, (double)mib * KS_MIB / 1e6 / since(t));
	ks_file_close(f);
	free(p);
}

static void random_reads(uint64_t mib, int n)
{
	struct ks_file *f = NULL;
	uint64_t seed = 4711;
	uint8_t p[4096];
	int64_t t;

	restart();
	must(rig_file(&rig, &f, 1), "open");
	t = ks_clock_mono_ns();
	for (int i = 0; i < n; i++)
		must((int)ks_file_read(f, NULL, mock_rand(&seed) % (mib * 256) * 4096, p, 4096),
		     "read");
	printf("%-34s %8.0f /s\n", "4 KiB random reads, cold", n / since(t));
	t = ks_clock_mono_ns();
	seed = 4711;
	for (int i = 0; i < n; i++)
		must((int)ks_file_read(f, NULL,
				       mock_rand(&seed) % (mib * 256) * 4096 % (64 * KS_MIB), p,
				       4096),
		     "read");
	printf("%-34s %8.0f /s\n", "4 KiB random reads of 64 MiB", n / since(t));
	ks_file_close(f);
}

static void small_files(int n, size_t size, const char *name)
{
	uint8_t *p = calloc(1, size);
	struct mock_inode *in = &rig.m.ino[2];
	int64_t t;

	t = ks_clock_mono_ns();
	for (int i = 0; i < n; i++) {
		struct ks_file *f = NULL;

		/* Each round is a new file as far as data knows. */
		in->size = 0;
		must(ks_file_open(&f, rig.d, 2, 0, in->change), "open");
		must(ks_file_write(f, 0, p, size), "write");
		must(ks_file_flush(f), "flush");
		ks_file_close(f);
	}
	printf("%-34s %8.0f /s   %6.1f us\n", name, n / since(t), since(t) * 1e6 / n);
	free(p);
}

static void small_puts(int n, size_t size, bool append)
{
	void *p = NULL;
	struct ks_appender *a = NULL;
	int64_t t;

	if (posix_memalign(&p, 4096, size) != 0)
		exit(1);
	memset(p, 1, size);
	if (append)
		must(ks_appender_open(rig.fault, size > 4096 ? "bench/large" : "bench/small", &a),
		     "append");
	t = ks_clock_mono_ns();
	for (int i = 0; i < n; i++) {
		struct iovec iov = { p, size };
		char key[64];
		uint64_t off;

		snprintf(key, sizeof(key), "bench-%zu/%d", size, i);
		must(append ? ks_appender_write(a, &iov, 1, &off)
			    : ks_object_put(rig.fault, key, &iov, 1),
		     "put");
	}
	printf("  %-32s %8.0f /s\n", append ? "the store's append alone" : "the store's put alone",
	       n / since(t));
	if (a)
		ks_appender_close(a);
	free(p);
}

static void random_writes(int n)
{
	struct ks_file *f = NULL;
	uint64_t seed = 99;
	uint8_t p[4096] = { 1 };
	int64_t t;

	must(rig_file(&rig, &f, 3), "open");
	t = ks_clock_mono_ns();
	for (int i = 0; i < n; i++)
		must(ks_file_write(f, mock_rand(&seed) % 65536 * 4096, p, 4096), "write");
	must(ks_file_flush(f), "flush");
	printf("%-34s %8.0f /s\n", "4 KiB random writes and flush", n / since(t));
	t = ks_clock_mono_ns();
	for (int i = 0; i < n; i++)
		must(ks_file_write(f, (uint64_t)i * 4096 + KS_GIB, p, 4096), "write");
	must(ks_file_flush(f), "flush");
	printf("%-34s %8.0f /s\n", "4 KiB sequential writes and flush", n / since(t));
	ks_file_close(f);
}

/* One kind of work only, when a third argument names it. */
static bool wanted(int argc, char **argv, const char *name)
{
	return argc < 4 || strcmp(argv[3], name) == 0;
}

int main(int argc, char **argv)
{
	uint64_t mib = argc > 2 ? (uint64_t)strtoull(argv[2], NULL, 10) : 1024;
	struct ks_data_opts o = { .buffer_bytes = 256 * KS_MIB };
	char url[512];

	if (argc < 2) {
		fprintf(stderr, "usage: data_bench DIR [MIB [stream|small|random|objects]]\n");
		return 2;
	}
	snprintf(url, sizeof(url), "file://%s", argv[1]);
	must(rig_open(&rig, url, &o), "open");
	if (wanted(argc, argv, "stream")) {
		stream(mib, "1 MiB writes and flush, fresh pool");
		stream(mib, "the same, pool in use");
		read_stream(mib, KS_MIB, "sequential reads of 1 MiB, cold");
		read_stream(mib, 128 * KS_KIB, "sequential reads of 128 KiB, cold");
		random_reads(mib, 20000);
	}
	if (wanted(argc, argv, "small")) {
		small_files(5000, 128 * KS_KIB, "128 KiB files, write and flush");
		small_puts(5000, 128 * KS_KIB, true);
		small_files(20000, 4096, "4 KiB files, write and flush");
		small_puts(20000, 4096, true);
	}
	if (wanted(argc, argv, "random"))
		random_writes(200000);
	if (wanted(argc, argv, "objects")) {
		rig.o.no_packs = true;
		restart();
		small_puts(3000, 128 * KS_KIB, false);
		small_files(3000, 128 * KS_KIB, "128 KiB files, an object each");
		small_puts(3000, 132 * KS_KIB, false);
	}
	must(rig_close(&rig), "close");
	return 0;
}
