/* SPDX-License-Identifier: Apache-2.0 */
/* log.h: messages for people and the one place where an error gets its text. */
#ifndef KS_BASE_LOG_H
#define KS_BASE_LOG_H

#include "base/def.h"

enum ks_log_level { KS_LOG_ERROR, KS_LOG_WARN, KS_LOG_INFO, KS_LOG_DEBUG };

/* Receives one message without a newline. @where is "function:line". */
typedef void ks_log_sink_fn(void *arg, enum ks_log_level level, const char *where,
			    const char *text);

/**
 * ks_log_set() - choose where messages go and how many of them
 * @sink: NULL means stderr, "program: text"
 *
 * Threads: any; what another thread is writing may still go to the old sink.
 */
void ks_log_set(ks_log_sink_fn *sink, void *arg, enum ks_log_level max);
void ks_log_set_program(const char *name); /* borrowed for ever */
bool ks_log_on(enum ks_log_level level);
void ks_log_emit(enum ks_log_level level, const char *func, int line, const char *fmt, ...)
	KS_PRINTF(4, 5);

/* Arguments are evaluated only when the level is on. */
#define ks_log(level, ...)                                                                         \
	do {                                                                                       \
		if (ks_log_on(level))                                                              \
			ks_log_emit(level, __func__, __LINE__, __VA_ARGS__);                       \
	} while (0)

/**
 * ks_fail() - raise an unexpected error once, where its context is known
 * @err: negative errno, returned as it is
 *
 * The text names the object and what was tried; ": strerror(err)" is added. The text is logged
 * and also kept as the calling thread's last failure, so that a tool can print it with a hint.
 */
#define ks_fail(err, ...) ks_fail_at((err), __func__, __LINE__, __VA_ARGS__)
int ks_fail_at(int err, const char *func, int line, const char *fmt, ...) KS_PRINTF(4, 5);

/* As ks_fail(), with a second line "hint: ..." that says the way out. @hint may be NULL. */
#define ks_fail_hint(err, hint, ...) ks_fail_hint_at((err), (hint), __func__, __LINE__, __VA_ARGS__)
int ks_fail_hint_at(int err, const char *hint, const char *func, int line, const char *fmt, ...)
	KS_PRINTF(5, 6);

/* What the calling thread raised last; "" when nothing. Valid until its next failure. */
const char *ks_fail_text(void);
const char *ks_fail_hint_text(void);
void ks_fail_clear(void);

/* What was raised last, past work that may raise and clear: the first failure is the one to tell. Zeroed is nothing. */
struct ks_fail_kept {
	char *text, *hint;
};
void ks_fail_keep(struct ks_fail_kept *k);    /* without memory: nothing */
void ks_fail_restore(struct ks_fail_kept *k); /* and frees */

/*
 * While on for the calling thread, ks_fail() keeps its text and does not log it: the caller will
 * print it. Returns the old value. Tools switch this on in main().
 */
bool ks_fail_quiet(bool on);

/*
 * What fails again and again, as storing does on a full disk: the log gets the first failure, then one in 30 s, and when it is over that it is. Zeroed is
 * nothing. Threads: any.
 */
struct ks_spell {
	int64_t next_ns; /* atomic: not before that is another one logged */
	uint64_t hushed; /* atomic: failures that were not */
	bool said;       /* atomic: a failure was logged, its end not yet */
};

/* ks_fail() of such a failure. */
#define ks_fail_spell(spell, err, ...)                                                             \
	__extension__({                                                                            \
		bool spell_quiet_ = ks_spell_enter(spell);                                         \
		int spell_err_ = ks_fail((err), __VA_ARGS__);                                      \
		ks_fail_quiet(spell_quiet_);                                                       \
		spell_err_;                                                                        \
	})
bool ks_spell_enter(struct ks_spell *s);
/* May this failure be logged? For messages that are no ks_fail(). */
bool ks_spell_say(struct ks_spell *s);
/* It works: logs "TEXT; N more failures were not logged" when a failure was logged before. Costs one read when none was. */
#define ks_spell_over(spell, ...)                                                                  \
	do {                                                                                       \
		if (__atomic_load_n(&(spell)->said, __ATOMIC_RELAXED))                             \
			ks_spell_end((spell), __VA_ARGS__);                                        \
	} while (0)
void ks_spell_end(struct ks_spell *s, const char *fmt, ...) KS_PRINTF(2, 3);

/* strerror() that is safe on every thread. */
const char *ks_strerror(int err);

#endif
