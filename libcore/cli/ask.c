/* SPDX-License-Identifier: Apache-2.0 */
/* ask.c: questions to the person at the terminal. They go to stderr, so that stdout may be a file. */
#include "base/buf.h"
#include "cli/progress.h"
#include "cli/state.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool ks_cmd_can_ask(void)
{
	return !ks_common.batch && isatty(STDIN_FILENO);
}

void ks_cmd_must_ask(const char *instead)
{
	if (!ks_cmd_can_ask()) {
		ks_cmd_usage("%s: %s",
			     ks_common.batch ? "--batch asks nothing"
					     : "there is no terminal to ask on",
			     instead);
	}
}

/* One line without its newline, owned; NULL: the end of the input, or no memory to ask. The progress bar is away until it came. */
KS_PRINTF(2, 0)
static char *answer(const char *tail, const char *fmt, va_list ap)
{
	KS_AUTO(ks_freep) char *text = NULL, *owned = NULL;
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;

	if (vasprintf(&text, fmt, ap) < 0) {
		text = NULL;
		return NULL;
	}
	ks_progress_lock();
	fprintf(stderr, "%s: %s%s", ks_cmd_name(), ks_cmd_fit(STDERR_FILENO, text, &owned), tail);
	fflush(stderr);
	n = getline(&line, &cap, stdin);
	ks_progress_unlock();
	if (n < 0) {
		free(line);
		return NULL;
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

bool ks_cmd_ask(const char *fmt, ...)
{
	KS_AUTO(ks_freep) char *line = NULL;
	va_list ap;

	va_start(ap, fmt);
	line = answer(" [y/N] ", fmt, ap);
	va_end(ap);
	return line && (*line == 'y' || *line == 'Y');
}

bool ks_cmd_ask_word(const char *word, const char *fmt, ...)
{
	KS_AUTO(ks_freep) char *line = NULL;
	va_list ap;

	va_start(ap, fmt);
	line = answer(": ", fmt, ap);
	va_end(ap);
	return line && strcmp(line, word) == 0;
}
