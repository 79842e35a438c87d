/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_data.c: the bytes of a file. A large one is cut into ranges of a chunk each; whoever copies it takes one after another, and so do a few other workers that
 * come by meanwhile. Nobody waits for one that has not begun.
 */
#include "base/log.h"
#include "volume/copy_work.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RANGE KS_CHUNK_SIZE
#define LARGE (2 * RANGE)
#define LARGE_CHUNK (4 * KS_MIB)
#define HELPERS_MAX 3u

size_t ks_work_chunk(const struct stat *st)
{
	if (!S_ISREG(st->st_mode) || st->st_size <= 0)
		return KS_WORK_CHUNK;
	/* Large memory is dear for a small file. */
	if ((size_t)st->st_size < KS_WORK_CHUNK)
		return ks_round_up((size_t)st->st_size + 1, 4096);
	return (uint64_t)st->st_size < LARGE ? KS_WORK_CHUNK : LARGE_CHUNK;
}

/* @off..@end; short when the source ends before. *at: where it came to. */
static int copy_range(struct ks_work *w, uint64_t off, uint64_t end, uint64_t *at)
{
	while (off < end) {
		size_t want = (size_t)ks_min(end - off, (uint64_t)w->chunk);
		ssize_t n;
		int r;

		if (ks_copy_stopped(w->c))
			return -ECANCELED;
		n = w->in.side->ops->read(&w->in, off, w->buf, want);
		if (n < 0)
			return ks_work_fail(w, true, "read", (int)n);
		if (n == 0)
			break;
		r = w->out.side->ops->write(&w->out, off, w->buf, (size_t)n);
		if (r < 0)
			return ks_work_fail(w, false, "write", r);
		off += (uint64_t)n;
		*at = off;
		ks_copy_count(w->c, bytes, n);
		ks_copy_sync_early(w->c);
		ks_copy_pace(w->c, (size_t)n);
	}
	return 0;
}

int ks_work_stream(struct ks_work *w, uint64_t *at)
{
	return copy_range(w, 0, UINT64_MAX, at);
}

/*
 * @off..@end from hole to hole. A source that cannot tell is one range. *at: behind the last byte that was written; *size: less than it was when the source was cut
 * while it was read.
 */
static int copy_span(struct ks_work *w, uint64_t off, uint64_t end, uint64_t *at, uint64_t *size)
{
	int r = 0;

	while (r == 0 && off < end) {
		uint64_t data = off;
		uint64_t hole = end;
		uint64_t got;

		r = w->in.side->ops->seek(&w->in, off, false, &data);
		if (r == -ENXIO || (r == 0 && data >= end))
			return 0;
		if (r == 0)
			r = w->in.side->ops->seek(&w->in, data, true, &hole);
		if (r < 0) {
			/* No such thing here: all of it is data. */
			data = off;
			hole = end;
		}
		hole = ks_min(hole, end);
		hole = ks_max(hole, data + 1);
		got = data;
		r = copy_range(w, data, hole, &got);
		if (got > data)
			*at = ks_max(*at, got);
		if (r == 0 && got < hole) {
			*size = ks_min(*size, got);
			return 0;
		}
		off = hole;
	}
	return r;
}

/* ---- large files ---- */

struct large {
	/* As it was at first: the owner's own changes as it reads. What it points to is not to be looked at once closed. */
	struct ks_work w;
	uint64_t size;
	pthread_mutex_t mu;
	pthread_cond_t idle;
	unsigned int refs;   /* [mu] */
	unsigned int active; /* [mu] helpers at work */
	bool closed;         /* [mu] nothing is left to be taken */
	uint64_t next;       /* [mu] the first range that nobody has */
	uint64_t at, cut;    /* [mu] */
	int err;             /* [mu] */
};

struct helper {
	struct ks_job job;
	struct large *l;
};

static void put_large(struct large *l)
{
	bool last;

	ks_mutex_lock(&l->mu);
	last = --l->refs == 0;
	ks_mutex_unlock(&l->mu);
	if (!last)
		return;
	pthread_mutex_destroy(&l->mu);
	pthread_cond_destroy(&l->idle);
	free(l);
}

static bool take_range(struct large *l, uint64_t *off)
{
	KS_LOCKED(&l->mu);
	if (l->closed || l->err || l->next >= l->size)
		return false;
	*off = l->next;
	l->next += RANGE;
	return true;
}

static void copy_ranges(struct large *l, struct ks_work *w)
{
	uint64_t off;

	while (take_range(l, &off)) {
		uint64_t at = 0;
		uint64_t cut = UINT64_MAX;
		int r = copy_span(w, off, ks_min(off + RANGE, l->size), &at, &cut);

		KS_LOCKED(&l->mu);
		l->at = ks_max(l->at, at);
		l->cut = ks_min(l->cut, cut);
		if (r < 0 && l->err == 0)
			l->err = r;
	}
}

/* With a source of its own, which is read in order. */
static void help(struct large *l)
{
	const struct ks_copy_item *it = l->w.it;
	struct ks_work w = l->w;

	w.in = (struct ks_cfile){ .side = it->from->side, .fd = -1 };
	w.from_path = w.to_path = NULL;
	w.buf = aligned_alloc(4096, w.chunk);
	/* Who cannot help leaves it to the others. */
	if (w.buf && it->from->side->ops->open(it->from, it->name, it->follow, &w.in, NULL) == 0)
		copy_ranges(l, &w);
	w.in.side->ops->close(&w.in);
	free(w.from_path);
	free(w.to_path);
	free(w.buf);
}

static void run_helper(struct ks_job *base)
{
	struct helper *h = ks_container_of(base, struct helper, job);
	struct large *l = h->l;
	bool quiet = ks_fail_quiet(true);
	bool go;

	free(h);
	ks_mutex_lock(&l->mu);
	go = !l->closed;
	l->active += go;
	ks_mutex_unlock(&l->mu);
	if (go) {
		help(l);
		ks_mutex_lock(&l->mu);
		l->active--;
		pthread_cond_broadcast(&l->idle);
		ks_mutex_unlock(&l->mu);
	}
	ks_fail_quiet(quiet);
	put_large(l);
}

static void call_helpers(struct large *l)
{
	uint64_t ranges = (l->size + RANGE - 1) / RANGE;
	struct ks_copy *c = l->w.c;

	for (unsigned int i = 0; i < HELPERS_MAX && i + 1 < c->jobs && i + 1 < ranges; i++) {
		struct helper *h = malloc(sizeof(*h));

		if (!h)
			return;
		h->job = (struct ks_job){ .run = run_helper };
		h->l = l;
		ks_mutex_lock(&l->mu);
		l->refs++;
		ks_mutex_unlock(&l->mu);
		ks_workers_add(c->workers, &h->job);
	}
}

static int copy_large(struct ks_work *w, uint64_t *at, uint64_t *size)
{
	struct large *l = calloc(1, sizeof(*l));
	int r;

	if (!l || ks_cond_init(&l->idle) < 0) {
		free(l);
		return copy_span(w, 0, *size, at, size);
	}
	pthread_mutex_init(&l->mu, NULL);
	l->w = *w;
	l->size = *size;
	l->cut = UINT64_MAX;
	l->refs = 1;
	call_helpers(l);
	copy_ranges(l, w);
	ks_mutex_lock(&l->mu);
	l->closed = true;
	while (l->active)
		KS_IGNORE(ks_cond_wait(&l->idle, &l->mu, -1));
	r = l->err;
	*at = l->at;
	*size = ks_min(*size, l->cut);
	ks_mutex_unlock(&l->mu);
	put_large(l);
	return r;
}

int ks_work_copy(struct ks_work *w)
{
	const struct ks_side_ops *ops = w->out.side->ops;
	uint64_t size = S_ISREG(w->it->st.st_mode) ? (uint64_t)w->it->st.st_size : 0;
	uint64_t full = size;
	uint64_t at = 0;
	int r;

	if (size == 0)
		return ks_work_stream(w, &at);
	/* As many blocks as bytes: a small file needs no asking. */
	if (size <= KS_WORK_CHUNK && (uint64_t)w->it->st.st_blocks * 512 >= size)
		return copy_range(w, 0, size, &at);
	if (size >= LARGE && ops->expect)
		ops->expect(&w->out, size);
	r = size < LARGE ? copy_span(w, 0, size, &at, &size) : copy_large(w, &at, &size);
	if (r == 0 && (at < size || size < full)) {
		r = ops->truncate(&w->out, size);
		if (r < 0)
			return ks_work_fail(w, false, "set the size of", r);
	}
	return r;
}
