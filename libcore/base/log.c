/* SPDX-License-Identifier: Apache-2.0 */
/* log.c: one sink for messages, and each thread's last failure in buffers of its own. */
#include "base/log.h"
#include "base/clock.h"
#include "base/thread.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX 512
#define SPELL_NS (30 * KS_NS_PER_S)
#define LINE_MAX_BYTES 2048 /* of a logged message; longer ones are cut */

static struct {
	ks_log_sink_fn *sink;
	void *arg;
	int max; /* atomic */
	const char *program;
} state = { .max = KS_LOG_INFO };
static pthread_mutex_t state_mu = PTHREAD_MUTEX_INITIALIZER; /* sink and arg belong together */

/* Fixed, so that running out of memory can be reported too. */
static _Thread_local struct {
	char text[TEXT_MAX];
	char hint[TEXT_MAX];
	bool quiet;
} fail;

void ks_log_set(ks_log_sink_fn *sink, void *arg, enum ks_log_level max)
{
	KS_LOCKED(&state_mu);
	state.sink = sink;
	state.arg = arg;
	__atomic_store_n(&state.max, (int)max, __ATOMIC_RELAXED);
}

void ks_log_set_program(const char *name)
{
	state.program = name;
}

bool ks_log_on(enum ks_log_level level)
{
	return (int)level <= __atomic_load_n(&state.max, __ATOMIC_RELAXED);
}

/* The sink of programs that chose none. One write per message keeps lines of several threads whole.
 */
static void to_stderr(void *arg, enum ks_log_level level, const char *where, const char *text)
{
	(void)arg;

	const char *program = state.program ? state.program : program_invocation_short_name;
	char line[LINE_MAX_BYTES + 256];
	bool debug = level == KS_LOG_DEBUG;
	int n = snprintf(line, sizeof(line) - 1, "%s: %s%s%s", program, debug ? where : "",
			 debug ? ": " : "", text);
	size_t len = n < 0 ? 0 : ks_min((size_t)n, sizeof(line) - 2);

	(void)arg;
	line[len] = '\n';
	/* Nowhere is left to report this to. */
	KS_IGNORE(write(STDERR_FILENO, line, len + 1) < 0);
}

static void emit(enum ks_log_level level, const char *func, int line, const char *text)
{
	ks_log_sink_fn *sink;
	char where[128];
	void *arg;

	ks_mutex_lock(&state_mu);
	sink = state.sink ? state.sink : to_stderr;
	arg = state.arg;
	ks_mutex_unlock(&state_mu);
	snprintf(where, sizeof(where), "%s:%d", func, line);
	sink(arg, level, where, text);
}

void ks_log_emit(enum ks_log_level level, const char *func, int line, const char *fmt, ...)
{
	int saved = errno;
	char text[LINE_MAX_BYTES];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	emit(level, func, line, text);
	errno = saved;
}

static bool ends_with_cause(const char *text, size_t n, const char *reason)
{
	size_t k = strlen(reason);

	return n > k + 2 && strcmp(text + n - k, reason) == 0 &&
	       strncmp(text + n - k - 2, ": ", 2) == 0;
}

KS_PRINTF(5, 0)
static void set_fail(int err, const char *hint, const char *func, int line, const char *fmt,
		     va_list ap)
{
	int saved = errno;
	const char *reason = ks_strerror(err);
	size_t room = TEXT_MAX - ks_min(strlen(reason), (size_t)TEXT_MAX / 2) - 2;
	char text[TEXT_MAX];
	char hint_text[TEXT_MAX];
	int n;

	/* Made beside the kept ones, since the arguments may be the previous text or hint. */
	n = vsnprintf(text, room, fmt, ap);
	n = n < 0 ? 0 : (int)ks_min((size_t)n, room - 1);
	/* What is passed on from elsewhere may name its cause already. */
	if (!ends_with_cause(text, (size_t)n, reason))
		snprintf(text + n, sizeof(text) - (size_t)n, ": %s", reason);
	snprintf(hint_text, sizeof(hint_text), "%s", hint ? hint : "");
	memcpy(fail.text, text, sizeof(text));
	memcpy(fail.hint, hint_text, sizeof(hint_text));
	if (!fail.quiet && ks_log_on(KS_LOG_ERROR)) {
		emit(KS_LOG_ERROR, func, line, fail.text);
		if (fail.hint[0]) {
			snprintf(text, sizeof(text), "hint: %.*s", TEXT_MAX - 8, fail.hint);
			emit(KS_LOG_ERROR, func, line, text);
		}
	}
	errno = saved;
}

int ks_fail_at(int err, const char *func, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_fail(err, NULL, func, line, fmt, ap);
	va_end(ap);
	return err;
}

int ks_fail_hint_at(int err, const char *hint, const char *func, int line, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	set_fail(err, hint, func, line, fmt, ap);
	va_end(ap);
	return err;
}

const char *ks_fail_text(void)
{
	return fail.text;
}

const char *ks_fail_hint_text(void)
{
	return fail.hint;
}

void ks_fail_clear(void)
{
	fail.text[0] = '\0';
	fail.hint[0] = '\0';
}

void ks_fail_keep(struct ks_fail_kept *k)
{
	k->text = strdup(fail.text);
	k->hint = strdup(fail.hint);
}

void ks_fail_restore(struct ks_fail_kept *k)
{
	snprintf(fail.text, sizeof(fail.text), "%s", k->text ? k->text : "");
	snprintf(fail.hint, sizeof(fail.hint), "%s", k->hint ? k->hint : "");
	free(k->text);
	free(k->hint);
	*k = (struct ks_fail_kept){ 0 };
}

bool ks_fail_quiet(bool on)
{
	bool old = fail.quiet;

	fail.quiet = on;
	return old;
}

bool ks_spell_say(struct ks_spell *s)
{
	int64_t now = ks_clock_mono_ns();
	int64_t next = __atomic_load_n(&s->next_ns, __ATOMIC_RELAXED);

	/* Of several at one time one wins. */
	if (now < next || !__atomic_compare_exchange_n(&s->next_ns, &next, now + SPELL_NS, false,
						       __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&s->hushed, 1, __ATOMIC_RELAXED);
		return false;
	}
	__atomic_store_n(&s->said, true, __ATOMIC_RELAXED);
	return true;
}

bool ks_spell_enter(struct ks_spell *s)
{
	bool quiet = ks_fail_quiet(true);

	if (!quiet && ks_spell_say(s))
		ks_fail_quiet(false);
	return quiet;
}

void ks_spell_end(struct ks_spell *s, const char *fmt, ...)
{
	char text[LINE_MAX_BYTES / 2];
	va_list ap;
	uint64_t n;

	if (!__atomic_exchange_n(&s->said, false, __ATOMIC_RELAXED))
		return;
	n = __atomic_exchange_n(&s->hushed, 0, __ATOMIC_RELAXED);
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (n)
		ks_log(KS_LOG_INFO, "%s; %ju more failures were not logged", text, (uintmax_t)n);
	else
		ks_log(KS_LOG_INFO, "%s", text);
}

const char *ks_strerror(int err)
{
	static _Thread_local char unknown[32];
	const char *text = strerrordesc_np(err < 0 ? -err : err);

	if (text)
		return text;
	snprintf(unknown, sizeof(unknown), "error %d", err);
	return unknown;
}
