/* SPDX-License-Identifier: Apache-2.0 */
/*
 * progress.c: one thread that looks at the counters. It sleeps on a semaphore, since SIGUSR1's handler may post one; the
 * terminal is shared with messages through one mutex.
 */
#include "cli/progress.h"
#include "base/clock.h"
#include "base/size.h"
#include "base/thread.h"
#include "cli/json.h"
#include "cli/state.h"
#include <errno.h>
#include <inttypes.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct {
	pthread_mutex_t mu; /* around every write to the terminal; recursive */
	pthread_once_t once;
	bool drawn; /* [mu] a line is on the screen */
	bool running;
	pthread_t thread;
	sem_t wake;
	atomic_bool stop;
	atomic_bool asked; /* by SIGUSR1 */
	const char *label;
	ks_progress_fn *fn;
	void *arg;
	int64_t start_ns;
	/* The speed shown: smoothed over about five seconds. */
	uint64_t last_bytes;
	int64_t last_ns;
	double rate;
} p = { .once = PTHREAD_ONCE_INIT };

static void init_mutex(void)
{
	pthread_mutexattr_t a;

	pthread_mutexattr_init(&a);
	pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&p.mu, &a);
	pthread_mutexattr_destroy(&a);
}

void ks_progress_lock(void)
{
	pthread_once(&p.once, init_mutex);
	ks_mutex_lock(&p.mu);
	if (p.drawn) {
		fputs("\r\033[K", stderr);
		fflush(stderr);
		p.drawn = false;
	}
}

void ks_progress_unlock(void)
{
	ks_mutex_unlock(&p.mu);
}

static int terminal_width(void)
{
	struct winsize w;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
		return w.ws_col;
	return 80;
}

static size_t put(char *out, size_t size, size_t n, const char *fmt, ...) KS_PRINTF(4, 5);
static size_t put(char *out, size_t size, size_t n, const char *fmt, ...)
{
	va_list ap;
	int k;

	if (n >= size)
		return n;
	va_start(ap, fmt);
	k = vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
	return k < 0 ? n : n + (size_t)k;
}

static size_t put_time(char *out, size_t size, size_t n, uint64_t s)
{
	if (s >= 3600)
		return put(out, size, n, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
	if (s >= 60)
		return put(out, size, n, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	return put(out, size, n, "%" PRIu64 " s", s);
}

void ks_progress_line(char *out, size_t size, int width, const char *label,
		      const struct ks_progress_now *now, uint64_t bytes_per_s, int64_t elapsed_ns)
{
	static const char marks[] = "====================";
	char done[KS_SIZE_STR];
	char total[KS_SIZE_STR];
	char rate[KS_SIZE_STR];
	size_t n = put(out, size, 0, "%s", label);
	bool known = now->total_bytes > 0 && now->total_bytes >= now->done_bytes;

	ks_size_format(now->done_bytes, done);
	ks_size_format(now->total_bytes, total);
	ks_size_format(bytes_per_s, rate);
	if (known) {
		unsigned int percent =
			(unsigned int)((double)now->done_bytes * 100 / (double)now->total_bytes);

		n = put(out, size, n, "  [%.*s%*s]  %u %%", (int)(percent / 5), marks,
			20 - (int)(percent / 5), "", percent);
	}
	n = put(out, size, n, "  %" PRIu64, now->done_items);
	if (now->total_items)
		n = put(out, size, n, "/%" PRIu64, now->total_items);
	n = put(out, size, n, " files  %s", done);
	if (known)
		n = put(out, size, n, " of %s", total);
	n = put(out, size, n, "  %s/s  ", rate);
	if (known && bytes_per_s)
		n = put_time(out, size, n, (now->total_bytes - now->done_bytes) / bytes_per_s);
	else
		n = put_time(out, size, n, (uint64_t)(elapsed_ns / KS_NS_PER_S));
	if (width > 0 && n > (size_t)width && (size_t)width < size)
		out[width] = '\0';
}

static uint64_t update_rate(const struct ks_progress_now *now, int64_t t)
{
	double s = (double)(t - p.last_ns) / (double)KS_NS_PER_S;
	double speed;

	if (s < 0.05)
		return (uint64_t)p.rate;
	speed = now->done_bytes > p.last_bytes ? (double)(now->done_bytes - p.last_bytes) / s : 0;
	p.rate = p.last_ns == p.start_ns ? speed : p.rate + (speed - p.rate) * ks_min(s / 5, 1.0);
	p.last_bytes = now->done_bytes;
	p.last_ns = t;
	return (uint64_t)p.rate;
}

static void show_json(const struct ks_progress_now *now, uint64_t rate)
{
	json_t *line =
		json_pack("{s:s,s:I,s:I,s:I,s:I,s:I}", "type", "progress", "done_items",
			  (json_int_t)now->done_items, "total_items", (json_int_t)now->total_items,
			  "done_bytes", (json_int_t)now->done_bytes, "total_bytes",
			  (json_int_t)now->total_bytes, "rate_bps", (json_int_t)rate);

	if (line && rate && now->total_bytes > now->done_bytes) {
		json_object_set_new(
			line, "eta_s",
			json_integer((json_int_t)((now->total_bytes - now->done_bytes) / rate)));
	}
	ks_json_print(line);
}

/* @whole: a line of its own, for SIGUSR1. */
static void show(bool whole, bool json)
{
	struct ks_progress_now now = { 0 };
	int64_t t = ks_clock_mono_ns();
	char line[512];
	uint64_t rate;

	p.fn(p.arg, &now);
	rate = update_rate(&now, t);
	if (json) {
		show_json(&now, rate);
		return;
	}
	ks_progress_line(line, sizeof(line), whole ? 0 : terminal_width() - 1, p.label, &now, rate,
			 t - p.start_ns);
	if (whole && ks_common.log_format == KS_LOG_JSON) {
		ks_cmd_message(KS_LOG_INFO, "", line);
		return;
	}
	ks_progress_lock();
	fprintf(stderr, whole ? "%s\n" : "%s", line);
	fflush(stderr);
	p.drawn = !whole;
	ks_progress_unlock();
}

static bool draws(void)
{
	if (ks_common.progress == KS_PROGRESS_ALWAYS)
		return true;
	if (ks_common.progress != KS_PROGRESS_AUTO || ks_common.quiet ||
	    ks_common.log_format == KS_LOG_JSON)
		return false;
	return isatty(STDERR_FILENO) && !ks_cmd_dumb_terminal();
}

static void *run(void *arg)
{
	bool draw = draws();
	bool json = ks_common.progress == KS_PROGRESS_JSON && ks_common.json && !ks_common.quiet;
	int64_t step = json ? KS_NS_PER_S : 200 * KS_NS_PER_MS;
	int64_t next = p.start_ns + KS_NS_PER_S;

	(void)arg;
	while (!atomic_load(&p.stop)) {
		struct timespec until = ks_ns_to_ts(next);

		if (draw || json)
			KS_IGNORE(sem_clockwait(&p.wake, CLOCK_MONOTONIC, &until) < 0);
		else
			KS_IGNORE(sem_wait(&p.wake) < 0);
		if (atomic_exchange(&p.asked, false))
			show(true, false);
		if ((draw || json) && !atomic_load(&p.stop) && ks_clock_mono_ns() >= next) {
			show(false, json);
			next = ks_clock_mono_ns() + step;
		}
	}
	return NULL;
}

static void on_usr1(int sig)
{
	int saved = errno;

	(void)sig;
	atomic_store(&p.asked, true);
	sem_post(&p.wake);
	errno = saved;
}

void ks_progress_start(const char *label, ks_progress_fn *fn, void *arg)
{
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };

	if (p.running)
		return;
	pthread_once(&p.once, init_mutex);
	p.label = label;
	p.fn = fn;
	p.arg = arg;
	p.start_ns = p.last_ns = ks_clock_mono_ns();
	p.last_bytes = 0;
	p.rate = 0;
	atomic_store(&p.stop, false);
	if (sem_init(&p.wake, 0, 0) < 0)
		return;
	if (ks_thread_start(&p.thread, "progress", run, NULL) < 0)
		return;
	p.running = true;
	sigemptyset(&sa.sa_mask);
	sigaction(SIGUSR1, &sa, NULL);
}

void ks_progress_stop(void)
{
	if (!p.running)
		return;
	signal(SIGUSR1, SIG_IGN);
	atomic_store(&p.stop, true);
	sem_post(&p.wake);
	pthread_join(p.thread, NULL);
	p.running = false;
	ks_progress_lock();
	ks_progress_unlock();
}
