/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c: see fault.h. The signal comes from a load or a store of the thread itself, from or to a mapped file. No code of ours and none of libc's does
 * that with the lock of the log held or of the allocator, so the handler may log; it takes no memory.
 */
#include "base/fault.h"
#include "base/log.h"
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int exit_code;
static atomic_flag told = ATOMIC_FLAG_INIT;
static char text[16384]; /* of /proc/self/maps; a line is shorter than half of it */

/* The path in a line "FROM-TO PERM OFFSET DEV INODE PATH" when it is about @address; NULL: it is not, or has none */
static const char *path_at(const char *line, unsigned long address)
{
	unsigned long from, to;
	int path = 0;

	if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %n", &from, &to, &path) < 2 || address < from ||
	    address >= to)
		return NULL;
	return path && line[path] == '/' ? line + path : NULL;
}

/* The name of the file that is mapped at @address; NULL: none */
static const char *mapped_file(unsigned long address)
{
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	const char *path = NULL;
	size_t have = 0;
	ssize_t n;

	while (fd >= 0 && !path && (n = read(fd, text + have, sizeof(text) - 1 - have)) > 0) {
		char *line = text, *end;

		have += (size_t)n;
		text[have] = 0;
		while (!path && (end = strchr(line, '\n'))) {
			*end = 0;
			path = path_at(line, address);
			line = end + 1;
		}
		have -= (size_t)(line - text);
		if (!path)
			memmove(text, line, have);
	}
	if (fd >= 0)
		(void)close(fd);
	return path;
}

static void on_fault(int sig, siginfo_t *info, void *unused)
{
	const struct sigaction as_ever = { .sa_handler = SIG_DFL };
	const char *path;

	(void)unused;
	/* The first one ends the process. */
	while (info->si_code > 0 && atomic_flag_test_and_set(&told))
		(void)pause();
	path = info->si_code > 0 ? mapped_file((unsigned long)info->si_addr) : NULL;
	if (path) {
		ks_log(KS_LOG_ERROR,
		       "%s: cannot read or write what is mapped into memory: its disk fails, or "
		       "the file was cut off; this ends the program",
		       path);
		_exit(exit_code);
	}
	KS_IGNORE(sigaction(sig, &as_ever, NULL) < 0);
	/* A fault comes again when this returns. */
	if (info->si_code <= 0)
		KS_IGNORE(raise(sig) != 0);
}

void ks_fault_watch(int code)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	exit_code = code;
	KS_IGNORE(sigaction(SIGBUS, &sa, NULL) < 0);
}
