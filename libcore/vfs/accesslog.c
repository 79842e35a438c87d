/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accesslog.c: lines about operations, for whoever reads them at the time. Each reader has a ring of its own; a line that does not fit into it is dropped
 * for that reader, and counted: "# N lines lost" stands where they would have been. So nobody who reads slowly, or not at all, holds an operation up.
 *
 * A read never waits here: when there is nothing it is -EAGAIN, and who wants to wait is told (ks_vfs_log_notify) that it is worth trying again.
 */
#include "vfs/internal.h"
#include <stdlib.h>

#define RING_BYTES (256 * KS_KIB)
#define LOST_MAX 48 /* bytes of the line that says how many */

struct ks_log_reader {
	struct ks_list link; /* [log's mu] */
	size_t head, n;      /* [log's mu] of the ring: where the oldest byte is, and how many */
	uint64_t lost;       /* [log's mu] lines since the last one that fitted */
	char ring[RING_BYTES];
};

static void put(struct ks_log_reader *r, const char *p, size_t n)
{
	size_t at = (r->head + r->n) % RING_BYTES;
	size_t first = ks_min(n, RING_BYTES - at);

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

static size_t take(struct ks_log_reader *r, char *p, size_t n)
{
	size_t first;

	n = ks_min(n, r->n);
	first = ks_min(n, RING_BYTES - r->head);
	memcpy(p, r->ring + r->head, first);
	memcpy(p + first, r->ring, n - first);
	r->head = (r->head + n) % RING_BYTES;
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

int ks_accesslog_open(struct ks_accesslog *log, struct ks_log_reader **out)
{
	struct ks_log_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return -ENOMEM;
	KS_LOCKED(&log->mu);
	if (log->on == KS_LOG_READERS) {
		free(r);
		return -EBUSY;
	}
	ks_list_add_tail(&log->readers, &r->link);
	__atomic_store_n(&log->on, log->on + 1, __ATOMIC_RELAXED);
	*out = r;
	return 0;
}

void ks_accesslog_close(struct ks_accesslog *log, struct ks_log_reader *r)
{
	ks_mutex_lock(&log->mu);
	ks_list_del(&r->link);
	__atomic_store_n(&log->on, log->on - 1, __ATOMIC_RELAXED);
	ks_mutex_unlock(&log->mu);
	free(r);
}

ssize_t ks_accesslog_read(struct ks_accesslog *log, struct ks_log_reader *r, void *p, size_t n)
{
	KS_LOCKED(&log->mu);
	if (r->n == 0)
		put_lost(r);
	if (r->n > 0)
		return (ssize_t)take(r, p, n);
	return log->ended ? 0 : -EAGAIN;
}

void ks_accesslog_add(struct ks_accesslog *log, const char *line, size_t n)
{
	struct ks_log_reader *r;

	ks_mutex_lock(&log->mu);
	ks_list_foreach (r, &log->readers, struct ks_log_reader, link) {
		if (n + (r->lost ? LOST_MAX : 0) > RING_BYTES - r->n) {
			r->lost++;
			continue;
		}
		put_lost(r);
		put(r, line, n);
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
