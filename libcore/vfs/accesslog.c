/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accesslog.c: lines about operations, for whoever reads them at the time. Each reader has a ring of its own; a line that does not fit into it is dropped
 * for that reader, and counted: "# N lines lost" stands where they would have been. So nobody who reads slowly, or not at all, holds an operation up.
 *
 * A read never waits here: when there is nothing it is -EAGAIN, and who wants to wait is told (ks_vfs_log_notify) that it is worth trying again.
 *
 * A tap is a reader of this process, with a thread of its own that sleeps here. It is woken by the first line, and gathers more for a moment: a thread that is woken
 * for each line would cost more than the operation.
 */
#include "vfs/internal.h"
#include <stdlib.h>

#define RING_BYTES (256 * KS_KIB)
#define TAP_BYTES KS_MIB /* what comes while a disk is slow */
#define GATHER_NS (50 * KS_NS_PER_MS)
#define LOST_MAX 48 /* bytes of the line that says how many */

struct ks_log_reader {
	struct ks_list link; /* [log's mu] */
	size_t head, n;      /* [log's mu] of the ring: where the oldest byte is, and how many */
	uint64_t lost;       /* [log's mu] lines since the last one that fitted */
	size_t wake_at;      /* [log's mu] a tap that waits for so many bytes; 0: none does */
	bool over;           /* [log's mu] a tap gets no more lines */
	pthread_cond_t cond; /* of a tap */
	size_t size;         /* of the ring */
	char ring[];
};

static void put(struct ks_log_reader *r, const char *p, size_t n)
{
	size_t at = (r->head + r->n) % r->size;
	size_t first = ks_min(n, r->size - at);

	memcpy(r->ring + at, p, first);
	memcpy(r->ring, p + first, n - first);
	r->n += n;
}

static void put_lost(struct ks_log_reader *r)
{
	char text[LOST_MAX];
	int n;

	if (r->lost == 0)
		return;
	n = snprintf(text, sizeof(text), "# %ju lines lost\n", (uintmax_t)r->lost);
	put(r, text, (size_t)n);
	r->lost = 0;
}

/* The oldest bytes, at most @n. */
static size_t copy_out(const struct ks_log_reader *r, char *p, size_t n)
{
	size_t first;

	n = ks_min(n, r->n);
	first = ks_min(n, r->size - r->head);
	memcpy(p, r->ring + r->head, first);
	memcpy(p + first, r->ring, n - first);
	return n;
}

static size_t drop(struct ks_log_reader *r, size_t n)
{
	r->head = (r->head + n) % r->size;
	r->n -= n;
	return n;
}

void ks_accesslog_init(struct ks_accesslog *log)
{
	pthread_mutex_init(&log->mu, NULL);
	ks_list_init(&log->readers);
}

void ks_accesslog_destroy(struct ks_accesslog *log)
{
	assert(ks_list_is_empty(&log->readers));
	pthread_mutex_destroy(&log->mu);
}

static struct ks_log_reader *new_reader(size_t size)
{
	struct ks_log_reader *r = calloc(1, sizeof(*r) + size);

	if (r)
		r->size = size;
	return r;
}

/* Needs mu. */
static void enter(struct ks_accesslog *log, struct ks_log_reader *r)
{
	ks_list_add_tail(&log->readers, &r->link);
	__atomic_store_n(&log->on, log->on + 1, __ATOMIC_RELAXED);
}

/* Needs mu. */
static void leave(struct ks_accesslog *log, struct ks_log_reader *r)
{
	ks_list_del(&r->link);
	__atomic_store_n(&log->on, log->on - 1, __ATOMIC_RELAXED);
}

int ks_accesslog_open(struct ks_accesslog *log, struct ks_log_reader **out)
{
	struct ks_log_reader *r = new_reader(RING_BYTES);

	if (!r)
		return -ENOMEM;
	KS_LOCKED(&log->mu);
	if (log->streams == KS_LOG_READERS) {
		free(r);
		return -EBUSY;
	}
	enter(log, r);
	__atomic_store_n(&log->streams, log->streams + 1, __ATOMIC_RELAXED);
	*out = r;
	return 0;
}

void ks_accesslog_close(struct ks_accesslog *log, struct ks_log_reader *r)
{
	ks_mutex_lock(&log->mu);
	leave(log, r);
	__atomic_store_n(&log->streams, log->streams - 1, __ATOMIC_RELAXED);
	ks_mutex_unlock(&log->mu);
	free(r);
}

ssize_t ks_accesslog_read(struct ks_accesslog *log, struct ks_log_reader *r, void *p, size_t n)
{
	KS_LOCKED(&log->mu);
	if (r->n == 0)
		put_lost(r);
	if (r->n > 0)
		return (ssize_t)drop(r, copy_out(r, p, n));
	return log->ended ? 0 : -EAGAIN;
}

void ks_accesslog_add(struct ks_accesslog *log, const char *line, size_t n)
{
	struct ks_log_reader *r;

	ks_mutex_lock(&log->mu);
	ks_list_foreach (r, &log->readers, struct ks_log_reader, link) {
		if (n + (r->lost ? LOST_MAX : 0) > r->size - r->n) {
			r->lost++;
			continue;
		}
		put_lost(r);
		put(r, line, n);
		if (r->wake_at && r->n >= r->wake_at) {
			r->wake_at = 0;
			pthread_cond_signal(&r->cond);
		}
	}
	ks_mutex_unlock(&log->mu);
	if (log->notify)
		log->notify(log->notify_arg);
}

void ks_accesslog_end(struct ks_accesslog *log)
{
	ks_mutex_lock(&log->mu);
	log->ended = true;
	ks_mutex_unlock(&log->mu);
	if (log->notify)
		log->notify(log->notify_arg);
}

/* ---- taps ---- */

int ks_accesslog_tap(struct ks_accesslog *log, struct ks_log_reader **out)
{
	struct ks_log_reader *r = new_reader(TAP_BYTES);
	int e = r ? ks_cond_init(&r->cond) : -ENOMEM;

	if (e < 0) {
		free(r);
		return e;
	}
	KS_LOCKED(&log->mu);
	enter(log, r);
	*out = r;
	return 0;
}

/* Needs mu. */
static void wait_for(struct ks_accesslog *log, struct ks_log_reader *r, size_t bytes,
		     int64_t deadline)
{
	r->wake_at = bytes;
	while (!r->over && r->n < bytes && ks_cond_wait(&r->cond, &log->mu, deadline) == 0)
		;
	r->wake_at = 0;
}

size_t ks_accesslog_take(struct ks_accesslog *log, struct ks_log_reader *r, char *p, size_t n)
{
	const char *end;

	KS_LOCKED(&log->mu);
	wait_for(log, r, 1, -1);
	wait_for(log, r, r->size / 4, ks_clock_mono_ns() + GATHER_NS);
	if (r->n == 0)
		put_lost(r);
	n = copy_out(r, p, n);
	end = memrchr(p, '\n', n);
	return drop(r, end ? (size_t)(end + 1 - p) : n);
}

void ks_accesslog_tap_end(struct ks_accesslog *log, struct ks_log_reader *r)
{
	KS_LOCKED(&log->mu);
	r->over = true;
	pthread_cond_signal(&r->cond);
}

void ks_accesslog_untap(struct ks_accesslog *log, struct ks_log_reader *r)
{
	ks_mutex_lock(&log->mu);
	leave(log, r);
	ks_mutex_unlock(&log->mu);
	pthread_cond_destroy(&r->cond);
	free(r);
}
