/* SPDX-License-Identifier: Apache-2.0 */
/*
 * flusher.c: the thread that commits what nobody flushes, and the threads' lazy start.
 *
 * While any file is dirty it looks every 200 ms: files idle or old are flushed, others have their completed slices committed. It is
 * woken only when something becomes dirty after a pause, when a writer finds no memory, and at the end. Threads start with the first write (or read-ahead), so
 * that a program may still fork before.
 */
#include "data/data_internal.h"

#define RETRY_NS (2 * KS_NS_PER_S)
#define QUIET_TICKS 10 /* without anything dirty, then the timer stops */

static void *flusher_main(void *arg);

/* Needs d->mu. */
static void start_flusher(struct ks_data *d)
{
	if (d->flusher_on || d->stopping)
		return;
	/* Without the thread nothing is flushed by age, but flush and fsync work; a text was raised. */
	if (ks_thread_start(&d->flusher, "ks-flush", flusher_main, d) == 0)
		d->flusher_on = true;
}

void ks_data_file_dirty(struct ks_file *f)
{
	struct ks_data *d = f->d;

	KS_LOCKED(&d->mu);
	ks_list_add_tail(&d->dirty, &f->dirty_link);
	f->tick = d->tick;
	start_flusher(d);
	if (d->asleep)
		pthread_cond_signal(&d->wake);
}

void ks_data_file_clean(struct ks_file *f)
{
	KS_LOCKED(&f->d->mu);
	ks_list_del(&f->dirty_link);
}

void ks_data_file_unpin_wait(struct ks_file *f)
{
	struct ks_data *d = f->d;

	KS_LOCKED(&d->mu);
	while (f->pins)
		ks_cond_wait(&d->unpinned, &d->mu, -1);
}

void ks_data_pressure(struct ks_data *d)
{
	KS_LOCKED(&d->mu);
	if (d->pressure)
		return;
	d->pressure = true;
	start_flusher(d);
	pthread_cond_signal(&d->wake);
}

void ks_data_soon(struct ks_data *d)
{
	KS_LOCKED(&d->mu);
	d->soon = true;
	pthread_cond_signal(&d->wake);
}

/* The next file that this tick has not seen, pinned. NULL: none. */
static struct ks_file *next_file(struct ks_data *d, uint64_t tick)
{
	struct ks_file *f;

	KS_LOCKED(&d->mu);
	f = ks_list_first(&d->dirty, struct ks_file, dirty_link);
	if (!f || f->tick == tick)
		return NULL;
	f->tick = tick;
	f->pins++;
	ks_list_del(&f->dirty_link);
	ks_list_add_tail(&d->dirty, &f->dirty_link);
	return f;
}

static void unpin(struct ks_file *f)
{
	struct ks_data *d = f->d;

	KS_LOCKED(&d->mu);
	if (--f->pins == 0)
		pthread_cond_broadcast(&d->unpinned);
}

static uint64_t new_tick(struct ks_data *d)
{
	KS_LOCKED(&d->mu);
	return ++d->tick;
}

static bool is_due(struct ks_file *f)
{
	const struct ks_data_opts *o = &f->d->o;
	int64_t now = ks_clock_mono_ns();

	KS_LOCKED(&f->mu);
	if (now < f->retry_ns)
		return false;
	return now - f->last_ns >= o->flush_idle_ns || now - f->first_ns >= o->flush_age_ns ||
	       f->nslices >= KS_SLICES_SOON;
}

static int flush_completed(struct ks_file *f)
{
	KS_LOCKED(&f->mu);
	/* Behind somebody else's flush the next look is soon enough. */
	return f->turn || ks_clock_mono_ns() < f->retry_ns ? 0 : ks_flush_completed(f);
}

static void put_off(struct ks_file *f, int err)
{
	if (ks_spell_say(&f->d->failing))
		ks_log(KS_LOG_WARN,
		       "inode %ju: background flush failed: %s; it will be tried again",
		       (uintmax_t)f->ino, ks_strerror(err));
	KS_LOCKED(&f->mu);
	f->retry_ns = ks_clock_mono_ns() + RETRY_NS;
}

static void flush_due(struct ks_data *d)
{
	uint64_t tick = new_tick(d);
	struct ks_file *f;

	while ((f = next_file(d, tick))) {
		bool due = is_due(f);
		int r = due ? ks_file_flush(f) : flush_completed(f);

		if (r < 0)
			put_off(f, r);
		else if (due)
			ks_spell_over(&d->failing, "background flushes work again");
		unpin(f);
	}
}

/* Flushes the longest dirty files until no writer waits for memory. */
static int relieve(struct ks_data *d)
{
	uint64_t tick = new_tick(d);
	struct ks_file *f;
	int first = 0;

	/* One at least: who asked may not be asleep yet. */
	while ((f = next_file(d, tick))) {
		int r = ks_file_flush(f);

		unpin(f);
		if (r < 0) {
			ks_pool_failed(d->pool, r);
			first = first ? first : r;
		}
		if (!ks_pool_has_waiters(d->pool))
			break;
	}
	return first;
}

int ks_data_flush_all(struct ks_data *d)
{
	uint64_t tick = new_tick(d);
	struct ks_file *f;
	int first = 0;

	while ((f = next_file(d, tick))) {
		int r = ks_file_flush(f);

		unpin(f);
		first = first ? first : r;
	}
	return first;
}

static void *flusher_main(void *arg)
{
	struct ks_data *d = arg;
	int64_t next = ks_clock_mono_ns() + KS_TICK_NS;
	int64_t not_before = 0; /* after a failure, pressure waits a little */
	int quiet = 0;

	ks_mutex_lock(&d->mu);
	while (!d->stopping) {
		int64_t now = ks_clock_mono_ns();

		if (d->pressure && now >= not_before) {
			ks_mutex_unlock(&d->mu);
			not_before = relieve(d) < 0 ? ks_clock_mono_ns() + KS_TICK_NS / 2 : 0;
			ks_mutex_lock(&d->mu);
			d->pressure = false;
		} else if (now >= next || d->soon) {
			d->soon = false;
			quiet = ks_list_is_empty(&d->dirty) ? quiet + 1 : 0;
			ks_mutex_unlock(&d->mu);
			flush_due(d);
			next = ks_clock_mono_ns() + KS_TICK_NS;
			ks_mutex_lock(&d->mu);
		} else if (quiet >= QUIET_TICKS && ks_list_is_empty(&d->dirty)) {
			d->asleep = true;
			ks_cond_wait(&d->wake, &d->mu, -1);
			d->asleep = false;
			quiet = 0;
			next = ks_clock_mono_ns() + KS_TICK_NS;
		} else {
			int64_t until = d->pressure ? ks_min(next, not_before) : next;

			ks_cond_wait(&d->wake, &d->mu, until);
		}
	}
	ks_mutex_unlock(&d->mu);
	return NULL;
}

/* Without threads the caller runs its jobs itself; a text was raised. */
static struct ks_workers *workers(struct ks_data *d, struct ks_workers **w, const char *name,
				  unsigned int threads)
{
	KS_LOCKED(&d->mu);
	if (!*w && !d->stopping && ks_workers_start(w, name, (int)threads) < 0)
		*w = NULL;
	return *w;
}

struct ks_workers *ks_data_uploaders(struct ks_data *d)
{
	return workers(d, &d->up, "ks-upload", d->o.uploads);
}

struct ks_workers *ks_data_downloaders(struct ks_data *d)
{
	return workers(d, &d->down, "ks-ahead", d->o.downloads);
}

void ks_data_stop_threads(struct ks_data *d)
{
	ks_mutex_lock(&d->mu);
	d->stopping = true;
	pthread_cond_broadcast(&d->wake);
	ks_mutex_unlock(&d->mu);
	if (d->flusher_on)
		pthread_join(d->flusher, NULL);
	ks_workers_stop(d->up);
	ks_workers_stop(d->down);
	d->up = NULL;
	d->down = NULL;
}
