/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/tap.h"
#include "base/thread.h"

static struct {
	int n;
	enum ks_log_level level;
	char where[64];
	char text[4096];
} seen;

static void sink(void *arg, enum ks_log_level level, const char *where, const char *text)
{
	ks_check(arg == &seen);
	seen.n++;
	seen.level = level;
	snprintf(seen.where, sizeof(seen.where), "%s", where);
	snprintf(seen.text, sizeof(seen.text), "%s", text);
}

static void use_sink(enum ks_log_level max)
{
	memset(&seen, 0, sizeof(seen));
	ks_log_set(sink, &seen, max);
}

KS_TEST(a_message_reaches_the_sink)
{
	use_sink(KS_LOG_INFO);
	errno = ENOTTY;
	ks_log(KS_LOG_WARN, "%d of %s", 3, "x");
	ks_check_eq(errno, ENOTTY);
	ks_check_eq(seen.n, 1);
	ks_check_eq(seen.level, KS_LOG_WARN);
	ks_check_str(seen.text, "3 of x");
	ks_check(strncmp(seen.where, "a_message_reaches_the_sink:", 27) == 0);
}

KS_TEST(arguments_of_a_silent_level_are_not_evaluated)
{
	int evaluated = 0;

	use_sink(KS_LOG_INFO);
	ks_log(KS_LOG_DEBUG, "%d", ++evaluated);
	ks_check_eq(evaluated, 0);
	ks_check_eq(seen.n, 0);
	ks_log_set(sink, &seen, KS_LOG_DEBUG);
	ks_log(KS_LOG_DEBUG, "%d", ++evaluated);
	ks_check_eq(evaluated, 1);
	ks_check_str(seen.text, "1");
}

KS_TEST(a_failure_is_logged_and_kept)
{
	use_sink(KS_LOG_INFO);
	ks_check_eq(ks_fail(-ENOSPC, "put '%s'", "k"), -ENOSPC);
	ks_check_str(ks_fail_text(), "put 'k': No space left on device");
	ks_check_str(seen.text, ks_fail_text());
	ks_check_eq(seen.level, KS_LOG_ERROR);
	ks_check_str(ks_fail_hint_text(), "");
	ks_check_eq(ks_fail_hint(-EACCES, "chmod it", "open '%s'", "f"), -EACCES);
	ks_check_str(ks_fail_text(), "open 'f': Permission denied");
	ks_check_str(ks_fail_hint_text(), "chmod it");
	ks_check_str(seen.text, "hint: chmod it");
	ks_fail_clear();
	ks_check_str(ks_fail_text(), "");
	ks_check_str(ks_fail_hint_text(), "");
}

KS_TEST(a_quiet_failure_is_only_kept)
{
	use_sink(KS_LOG_INFO);
	ks_check(!ks_fail_quiet(true));
	ks_check_eq(ks_fail(-EIO, "x"), -EIO);
	ks_check_eq(seen.n, 0);
	ks_check_str(ks_fail_text(), "x: Input/output error");
	ks_check(ks_fail_quiet(false));
}

KS_TEST(a_failure_may_quote_the_last_one)
{
	use_sink(KS_LOG_ERROR);
	ks_check_eq(ks_fail_hint(-EIO, "the hint", "inner"), -EIO);
	ks_check_eq(ks_fail_hint(-EPERM, ks_fail_hint_text(), "outer (%s)", ks_fail_text()),
		    -EPERM);
	ks_check_str(ks_fail_text(), "outer (inner: Input/output error): Operation not permitted");
	ks_check_str(ks_fail_hint_text(), "the hint");
}

KS_TEST(a_long_failure_keeps_its_reason)
{
	char name[3000];
	const char *end = ": No such file or directory";

	use_sink(KS_LOG_ERROR);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	ks_check_eq(ks_fail_hint(-ENOENT, name, "%s", name), -ENOENT);
	ks_check_eq(strlen(ks_fail_text()), 511);
	ks_check_str(ks_fail_text() + 511 - strlen(end), end);
	ks_check_eq(strlen(ks_fail_hint_text()), 511);
	ks_log(KS_LOG_ERROR, "%s", name);
	ks_check_eq(strlen(seen.text), 2047);
}

static void *fails_elsewhere(void *arg)
{
	ks_fail_quiet(true);
	*(int *)arg = ks_fail(-EIO, "elsewhere");
	return NULL;
}

KS_TEST(each_thread_has_its_own_failure)
{
	pthread_t t;
	int r = 0;

	use_sink(KS_LOG_ERROR);
	ks_check_eq(ks_fail(-EIO, "here"), -EIO);
	ks_check_ok(ks_thread_start(&t, "fails", fails_elsewhere, &r));
	pthread_join(t, NULL);
	ks_check_eq(r, -EIO);
	ks_check_str(ks_fail_text(), "here: Input/output error");
	ks_check_eq(seen.n, 1);
}

KS_TEST(the_default_sink_writes_one_line_to_stderr)
{
	char got[200] = "";
	int old = dup(2);
	int fd[2];

	ks_check_ok(pipe(fd));
	ks_check_eq(dup2(fd[1], 2), 2);
	ks_log_set(NULL, NULL, KS_LOG_INFO);
	ks_log_set_program("kiseki-x");
	ks_log(KS_LOG_INFO, "hello");
	ks_check_eq(dup2(old, 2), 2);
	ks_check(read(fd[0], got, sizeof(got) - 1) > 0);
	ks_check_str(got, "kiseki-x: hello\n");
	close(old);
	close(fd[0]);
	close(fd[1]);
}

KS_TEST(strerror_takes_both_signs)
{
	ks_check_str(ks_strerror(-ENOENT), "No such file or directory");
	ks_check_str(ks_strerror(ENOENT), "No such file or directory");
	ks_check_str(ks_strerror(-99999), "error -99999");
}

KS_TEST(a_cause_is_said_once)
{
	use_sink(KS_LOG_INFO);
	KS_IGNORE(ks_fail(-EIO, "the mount says: put x: %s", ks_strerror(-EIO)));
	ks_check_str(ks_fail_text(), "the mount says: put x: Input/output error");
	KS_IGNORE(ks_fail(-EIO, "%s", ks_fail_text()));
	ks_check_str(ks_fail_text(), "the mount says: put x: Input/output error");
	/* Another cause is not it. */
	KS_IGNORE(ks_fail(-ENOENT, "x: %s", ks_strerror(-EIO)));
	ks_check_str(ks_fail_text(), "x: Input/output error: No such file or directory");
}

KS_TEST(what_fails_again_and_again_is_logged_once)
{
	struct ks_spell spell = { 0 };

	use_sink(KS_LOG_INFO);
	ks_spell_over(&spell, "not yet");
	for (int i = 0; i < 100; i++) {
		ks_check_eq(ks_fail_spell(&spell, -ENOSPC, "put %d", i), -ENOSPC);
		ks_check(strncmp(ks_fail_text(), "put ", 4) == 0);
	}
	ks_check_eq(seen.n, 1);
	ks_check_str(seen.text, "put 0: No space left on device");
	ks_check_str(ks_fail_text(), "put 99: No space left on device");
	ks_spell_over(&spell, "there is room in %s", "d");
	ks_check_str(seen.text, "there is room in d; 99 more failures were not logged");
	ks_spell_over(&spell, "again");
	ks_check_eq(seen.n, 2);
	/* Soon again: quiet until half a minute is over, and so is its end. */
	ks_check_eq(ks_fail_spell(&spell, -ENOSPC, "put"), -ENOSPC);
	ks_spell_over(&spell, "again");
	ks_check_eq(seen.n, 2);
	spell.next_ns = 0;
	ks_check_eq(ks_fail_spell(&spell, -ENOSPC, "put"), -ENOSPC);
	ks_check_eq(seen.n, 3);
	/* Who prints failures itself does not use up what the log may have. */
	spell = (struct ks_spell){ 0 };
	ks_check(!ks_fail_quiet(true));
	ks_check_eq(ks_fail_spell(&spell, -ENOSPC, "put"), -ENOSPC);
	ks_check(ks_fail_quiet(false));
	ks_check(!spell.said && !spell.next_ns);
	ks_check_eq(seen.n, 3);
}

KS_TEST_MAIN()
