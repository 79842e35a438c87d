/* SPDX-License-Identifier: Apache-2.0 */
/* extsort.c: runs of sorted records in a temporary file, merged 64 at a time until one is left. */
#include "volume/extsort.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUDGET_DEFAULT (8 * KS_MIB)
#define FIRST_BYTES (64 * KS_KIB)
#define BUFFER_BYTES (64 * KS_KIB)
#define FAN_IN 64u

struct run {
	uint64_t start, n; /* records */
};

struct ks_sort {
	unsigned int words;
	size_t rec; /* bytes */
	size_t budget;
	char *dir;
	uint64_t *mem;
	size_t n, cap; /* records in mem */
	int fd;        /* -1: nothing was spilled */
	uint64_t end;  /* records in the file */
	struct run *runs;
	size_t nruns, capruns;
	uint64_t total;
	bool finished;
};

static int cmp_words(const uint64_t *a, const uint64_t *b, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

static int cmp_recs(const void *a, const void *b, void *words)
{
	return cmp_words(a, b, *(const unsigned int *)words);
}

int ks_sort_new(struct ks_sort **out, unsigned int words, size_t budget_bytes, const char *dir)
{
	struct ks_sort *s = calloc(1, sizeof(*s));

	assert(words > 0 && words <= KS_SORT_WORDS_MAX);
	if (!s)
		return -ENOMEM;
	s->words = words;
	s->rec = words * sizeof(uint64_t);
	s->budget = budget_bytes ? budget_bytes : BUDGET_DEFAULT;
	s->fd = -1;
	if (dir && *dir) {
		s->dir = strdup(dir);
		if (!s->dir) {
			free(s);
			return -ENOMEM;
		}
	}
	*out = s;
	return 0;
}

void ks_sort_free(struct ks_sort *s)
{
	if (!s)
		return;
	ks_closep(&s->fd);
	free(s->dir);
	free(s->mem);
	free(s->runs);
	free(s);
}

void ks_sort_freep(struct ks_sort **s)
{
	ks_sort_free(*s);
	*s = NULL;
}

uint64_t ks_sort_count(const struct ks_sort *s)
{
	return s->total;
}

/* ---- the temporary file ---- */

static int open_in(const char *dir)
{
	KS_AUTO(ks_freep) char *path = NULL;
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd >= 0)
		return fd;
	/* A file system without O_TMPFILE. */
	path = ks_asprintf("%s/kiseki-sort.XXXXXX", dir);
	if (!path)
		return -ENOMEM;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	KS_IGNORE(unlink(path) < 0); /* it then stays behind, empty of meaning */
	return fd;
}

static int open_temp(const struct ks_sort *s)
{
	const char *env = getenv("TMPDIR");
	const char *dirs[] = { s->dir, s->dir ? NULL : env, s->dir ? NULL : "/var/tmp",
			       s->dir ? NULL : "/tmp" };
	const char *last = "/tmp";
	int r = -ENOENT;

	for (size_t i = 0; i < KS_ARRAY_SIZE(dirs); i++) {
		if (!dirs[i] || !*dirs[i])
			continue;
		last = dirs[i];
		r = open_in(last);
		if (r >= 0)
			return r;
	}
	return ks_fail_hint(r, "set TMPDIR to a directory with room",
			    "making a temporary file in %s", last);
}

static int write_all(int fd, const void *p, size_t n, uint64_t off)
{
	const char *at = p;

	while (n > 0) {
		ssize_t w = pwrite(fd, at, n, (off_t)off);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return ks_fail_hint(-errno, "set TMPDIR to a directory with room",
					    "writing a temporary file");
		at += w;
		off += (uint64_t)w;
		n -= (size_t)w;
	}
	return 0;
}

static int read_all(int fd, void *p, size_t n, uint64_t off)
{
	char *at = p;

	while (n > 0) {
		ssize_t got = pread(fd, at, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return ks_fail(got < 0 ? -errno : -EIO, "reading a temporary file");
		at += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int run_add(struct ks_sort *s, uint64_t start, uint64_t n)
{
	if (ks_array_room(&s->runs, s->nruns, &s->capruns) < 0)
		return -ENOMEM;
	s->runs[s->nruns++] = (struct run){ start, n };
	return 0;
}

static int spill(struct ks_sort *s)
{
	int r;

	if (s->fd < 0) {
		r = open_temp(s);
		if (r < 0)
			return r;
		s->fd = r;
	}
	qsort_r(s->mem, s->n, s->rec, cmp_recs, &s->words);
	r = write_all(s->fd, s->mem, s->n * s->rec, s->end * s->rec);
	if (r == 0)
		r = run_add(s, s->end, s->n);
	if (r < 0)
		return r;
	s->end += s->n;
	s->n = 0;
	return 0;
}

static int grow(struct ks_sort *s)
{
	size_t max = ks_max(s->budget / s->rec, (size_t)16);
	size_t cap = s->cap ? s->cap * 2 : ks_max((size_t)FIRST_BYTES / s->rec, (size_t)16);
	uint64_t *mem;

	if (s->cap >= max)
		return spill(s);
	cap = ks_min(cap, max);
	mem = realloc(s->mem, cap * s->rec);
	if (!mem)
		return s->n ? spill(s) : -ENOMEM;
	s->mem = mem;
	s->cap = cap;
	return 0;
}

int ks_sort_add(struct ks_sort *s, const uint64_t *rec)
{
	int r = s->n == s->cap ? grow(s) : 0;

	assert(!s->finished);
	if (r < 0)
		return r;
	memcpy(s->mem + s->n * s->words, rec, s->rec);
	s->n++;
	s->total++;
	return 0;
}

/* ---- merging ---- */

/* One run that is being read. */
struct source {
	uint64_t next, left; /* records in the file */
	uint64_t *buf;
	size_t have, at;
};

struct merge {
	struct ks_sort *s;
	struct source src[FAN_IN];
	unsigned int heap[FAN_IN]; /* of sources, the smallest record first */
	unsigned int n;
	size_t per; /* records of a buffer */
	uint64_t *out;
	size_t nout;
	uint64_t at; /* where out goes, in records */
	int fd;
};

static int source_fill(struct merge *m, struct source *x)
{
	size_t n = (size_t)ks_min(x->left, (uint64_t)m->per);
	int r = n ? read_all(m->s->fd, x->buf, n * m->s->rec, x->next * m->s->rec) : 0;

	x->next += n;
	x->left -= n;
	x->have = n;
	x->at = 0;
	return r;
}

static const uint64_t *head_of(const struct merge *m, unsigned int i)
{
	const struct source *x = &m->src[m->heap[i]];

	return x->buf + x->at * m->s->words;
}

static void sift_down(struct merge *m, unsigned int i)
{
	for (;;) {
		unsigned int best = i;

		for (unsigned int c = 2 * i + 1; c <= 2 * i + 2 && c < m->n; c++) {
			if (cmp_words(head_of(m, c), head_of(m, best), m->s->words) < 0)
				best = c;
		}
		if (best == i)
			return;

		unsigned int t = m->heap[i];

		m->heap[i] = m->heap[best];
		m->heap[best] = t;
		i = best;
	}
}

static int merge_flush(struct merge *m)
{
	int r = write_all(m->fd, m->out, m->nout * m->s->rec, m->at * m->s->rec);

	m->at += m->nout;
	m->nout = 0;
	return r;
}

static int merge_group(struct merge *m, const struct run *runs, unsigned int n)
{
	int r = 0;

	m->n = 0;
	for (unsigned int i = 0; r == 0 && i < n; i++) {
		struct source *x = &m->src[i];

		x->next = runs[i].start;
		x->left = runs[i].n;
		r = source_fill(m, x);
		if (x->have)
			m->heap[m->n++] = i;
	}
	for (unsigned int i = m->n; r == 0 && i-- > 0;)
		sift_down(m, i);
	while (r == 0 && m->n) {
		struct source *x = &m->src[m->heap[0]];

		memcpy(m->out + m->nout * m->s->words, head_of(m, 0), m->s->rec);
		if (++m->nout == m->per)
			r = merge_flush(m);
		if (r == 0 && ++x->at == x->have)
			r = source_fill(m, x);
		if (!x->have)
			m->heap[0] = m->heap[--m->n];
		sift_down(m, 0);
	}
	return r == 0 ? merge_flush(m) : r;
}

/* All runs, FAN_IN at a time, into a new file. */
static int merge_pass(struct merge *m)
{
	struct ks_sort *s = m->s;
	size_t k = 0;
	int r = open_temp(s);

	if (r < 0)
		return r;
	m->fd = r;
	m->at = 0;
	r = 0;
	for (size_t i = 0; r == 0 && i < s->nruns; i += FAN_IN) {
		uint64_t start = m->at;

		r = merge_group(m, s->runs + i, (unsigned int)ks_min(s->nruns - i, (size_t)FAN_IN));
		s->runs[k++] = (struct run){ start, m->at - start };
	}
	if (r < 0) {
		close(m->fd);
		return r;
	}
	close(s->fd);
	s->fd = m->fd;
	s->nruns = k;
	return 0;
}

static int merge_all(struct ks_sort *s)
{
	struct merge m = { .s = s, .per = BUFFER_BYTES / s->rec };
	uint64_t *mem = malloc((FAN_IN + 1) * (size_t)BUFFER_BYTES);
	int r = mem ? 0 : -ENOMEM;

	for (size_t i = 0; mem && i < FAN_IN; i++)
		m.src[i].buf = mem + i * (BUFFER_BYTES / sizeof(uint64_t));
	if (mem)
		m.out = mem + FAN_IN * (BUFFER_BYTES / sizeof(uint64_t));
	while (r == 0 && s->nruns > 1)
		r = merge_pass(&m);
	free(mem);
	return r;
}

int ks_sort_finish(struct ks_sort *s)
{
	int r = 0;

	if (s->finished)
		return 0;
	if (s->fd < 0) {
		if (s->n)
			qsort_r(s->mem, s->n, s->rec, cmp_recs, &s->words);
		s->finished = true;
		return 0;
	}
	if (s->n)
		r = spill(s);
	free(s->mem);
	s->mem = NULL;
	s->cap = 0;
	if (r == 0)
		r = merge_all(s);
	s->finished = r == 0;
	return r;
}

/* ---- reading ---- */

void ks_sort_begin(struct ks_sort_cur *c, struct ks_sort *s)
{
	assert(s->finished);
	*c = (struct ks_sort_cur){ .s = s };
}

void ks_sort_end(struct ks_sort_cur *c)
{
	free(c->buf);
	*c = (struct ks_sort_cur){ 0 };
}

int ks_sort_next(struct ks_sort_cur *c)
{
	struct ks_sort *s = c->s;
	int r;

	c->rec = NULL;
	if (s->fd < 0) {
		if (c->next < s->total)
			c->rec = s->mem + c->next++ * s->words;
		return 0;
	}
	if (c->at == c->have) {
		size_t n = ks_min(BUFFER_BYTES / s->rec, s->total - c->next);

		if (n == 0)
			return 0;
		if (!c->buf)
			c->buf = malloc(BUFFER_BYTES);
		if (!c->buf)
			return -ENOMEM;
		r = read_all(s->fd, c->buf, n * s->rec, c->next * s->rec);
		if (r < 0)
			return r;
		c->next += n;
		c->have = n;
		c->at = 0;
	}
	c->rec = c->buf + c->at++ * s->words;
	return 0;
}

static int rec_at(struct ks_sort *s, uint64_t i, uint64_t *out)
{
	if (s->fd >= 0)
		return read_all(s->fd, out, s->rec, i * s->rec);
	memcpy(out, s->mem + i * s->words, s->rec);
	return 0;
}

int ks_sort_seek(struct ks_sort_cur *c, const uint64_t *key, unsigned int n)
{
	uint64_t rec[KS_SORT_WORDS_MAX];
	uint64_t lo = 0;
	uint64_t hi = c->s->total;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;
		int r = rec_at(c->s, mid, rec);

		if (r < 0)
			return r;
		if (cmp_words(rec, key, n) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	c->next = lo;
	c->have = c->at = 0;
	return ks_sort_next(c);
}
