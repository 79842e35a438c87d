/* SPDX-License-Identifier: Apache-2.0 */
/*
 * util.h: what the mounted test programs share. They know nothing of the library: they judge a directory,
 * wherever it lies, and must pass on a local file system too.
 */
#ifndef TESTS_MOUNTED_UTIL_H
#define TESTS_MOUNTED_UTIL_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED_FN __attribute__((unused))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

enum { KIB = 1 << 10, MIB = 1 << 20, PAGE = 64 << 10, CHUNK = 64 << 20 };

/* splitmix64. Source: Vigna, "Further scramblings of Marsaglia's xorshift generators", 2014. */
struct rng {
	uint64_t s;
};

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

static inline uint64_t rnd(struct rng *r)
{
	r->s += 0x9e3779b97f4a7c15ull;
	return mix(r->s);
}

static inline uint64_t below(struct rng *r, uint64_t n)
{
	return n ? rnd(r) % n : 0;
}

static inline bool one_in(struct rng *r, uint64_t n)
{
	return below(r, n) == 0;
}

/* Byte @off of the content that @seed names; never 0, so that a hole shows. */
static inline uint8_t pattern_byte(uint64_t seed, uint64_t off)
{
	uint64_t word = mix(seed * 0x9e3779b97f4a7c15ull + off / 8 + 1);
	uint8_t b = (uint8_t)(word >> (off % 8 * 8));

	return b ? b : 0x5a;
}

static UNUSED_FN void pattern(void *p, size_t n, uint64_t seed, uint64_t off)
{
	uint8_t *b = p;

	for (size_t i = 0; i < n; i++)
		b[i] = pattern_byte(seed, off + i);
}

static inline int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void sleep_ms(long ms)
{
	struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

static UNUSED_FN __attribute__((noreturn, format(printf, 1, 2))) void die(const char *fmt, ...)
{
	int e = errno;
	va_list ap;

	fflush(stdout);
	fputs("error: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s)\n", strerror(e));
	exit(2);
}

static UNUSED_FN void *xalloc(size_t n)
{
	void *p = calloc(1, n ? n : 1);

	if (!p)
		die("out of memory");
	return p;
}

/* Whole writes and reads of a known length. 0, or -1 with errno (short: EPIPE for a write, ENODATA for a read). */
static UNUSED_FN int pwrite_all(int fd, const void *p, size_t n, off_t off)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = pwrite(fd, (const char *)p + done, n - done, off + (off_t)done);

		if (r < 0)
			return -1;
		if (r == 0) {
			errno = EPIPE;
			return -1;
		}
		done += (size_t)r;
	}
	return 0;
}

static UNUSED_FN int pread_all(int fd, void *p, size_t n, off_t off)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = pread(fd, (char *)p + done, n - done, off + (off_t)done);

		if (r < 0)
			return -1;
		if (r == 0) {
			errno = ENODATA;
			return -1;
		}
		done += (size_t)r;
	}
	return 0;
}

/* A number from the command line, with k, M, G for 1024s. */
static UNUSED_FN uint64_t number(const char *s)
{
	char *end;
	uint64_t v;

	errno = 0;
	v = strtoull(s, &end, 0);
	if (end != s && *end) {
		static const char units[] = "kMGT";
		const char *u = strchr(units, *end);

		if (u) {
			v <<= 10 * (u - units + 1);
			end++;
		}
	}
	if (errno || end == s || *end) {
		fprintf(stderr, "not a number: %s\n", s);
		exit(64);
	}
	return v;
}

/* The hook that puts a mount away and brings it back; nothing may be open below it. */
static UNUSED_FN void remount(void)
{
	const char *cmd = getenv("REMOUNT_CMD");

	if (cmd && *cmd) {
		int r = system(cmd);

		if (r != 0) {
			errno = EIO;
			die("REMOUNT_CMD '%s' ended with %d", cmd, r);
		}
	}
}

static UNUSED_FN bool can_remount(void)
{
	const char *cmd = getenv("REMOUNT_CMD");

	return cmd && *cmd;
}

/* ---- TAP ---- */

struct tap {
	int n, bad;
	bool failed;
	char why[1024];
};

static struct tap tap UNUSED_FN;

/* Remembers the first thing that is wrong in the running test. */
static UNUSED_FN __attribute__((format(printf, 1, 2))) void tap_fail(const char *fmt, ...)
{
	va_list ap;

	if (tap.failed)
		return;
	tap.failed = true;
	va_start(ap, fmt);
	vsnprintf(tap.why, sizeof(tap.why), fmt, ap);
	va_end(ap);
}

static UNUSED_FN void tap_end(const char *name)
{
	printf("%sok %d - %s\n", tap.failed ? "not " : "", ++tap.n, name);
	if (tap.failed) {
		printf("#   %s\n", tap.why);
		tap.bad++;
	}
	tap.failed = false;
	fflush(stdout);
}

static UNUSED_FN void tap_skip(const char *name, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap.n, name, why);
	tap.failed = false;
	fflush(stdout);
}

static UNUSED_FN int tap_done(void)
{
	printf("1..%d\n", tap.n);
	fflush(stdout);
	return tap.bad != 0;
}

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			tap_fail("line %d: not true: %s (errno %d: %s)", __LINE__, #cond, errno,   \
				 strerror(errno));                                                 \
	} while (0)

#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_)                                                                 \
			tap_fail("line %d: %s: got %lld, want %lld", __LINE__, #got, got_, want_); \
	} while (0)

/* @expr fails with @err. */
#define CHECK_ERR(expr, err)                                                                       \
	do {                                                                                       \
		long long r_;                                                                      \
		errno = 0;                                                                         \
		r_ = (long long)(expr);                                                            \
		if (r_ != -1 || errno != (err))                                                    \
			tap_fail("line %d: %s: got %lld, errno %d (%s); want %s", __LINE__, #expr, \
				 r_, errno, strerror(errno), strerror(err));                       \
	} while (0)

/* Waits for a child; its exit status, or 128 + signal. */
static UNUSED_FN int wait_for(pid_t pid)
{
	int st;

	while (waitpid(pid, &st, 0) < 0) {
		if (errno != EINTR)
			return -1;
	}
	return WIFEXITED(st) ? WEXITSTATUS(st) : 128 + WTERMSIG(st);
}

#endif
