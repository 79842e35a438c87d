/* SPDX-License-Identifier: Apache-2.0 */
/*
 * daemon.c: a mount in the background. The child does everything, since threads do not survive fork(); the parent waits until the mount point has
 * answered, and says on the caller's stderr what went wrong.
 */
#include "base/clock.h"
#include "base/log.h"
#include "mount.h"
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void run_child(int fd)
{
	int r;

	/* Keeps no other file system busy. */
	KS_IGNORE(chdir("/") < 0);
	r = mount_serve(fd);
	_exit(r < 0 ? 1 : 0);
}

/* How long until @deadline, for poll(). */
static int left_ms(int64_t deadline)
{
	int64_t ns = deadline - ks_clock_mono_ns();

	return ns <= 0 ? 0 : (int)ks_min(ns / KS_NS_PER_MS + 1, (int64_t)1000);
}

/* 1: @rep is there; 0: the child is gone without; -errno. */
static int wait_for_report(int fd, struct mount_report *rep)
{
	int64_t deadline = ks_clock_mono_ns() + arg.ready_ns;
	size_t n = 0;

	while (n < sizeof(*rep)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int ms = left_ms(deadline);
		ssize_t got;

		if (ks_cmd_stopped())
			return -EINTR;
		if (ms == 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, ms) <= 0)
			continue;
		got = read(fd, (char *)rep + n, sizeof(*rep) - n);
		if (got == 0)
			return 0;
		if (got > 0)
			n += (size_t)got;
		else if (errno != EINTR)
			return -errno;
	}
	return 1;
}

/* Says what happened to the child. */
static int no_report(pid_t pid, int r)
{
	int status = 0;

	if (r < 0) {
		kill(pid, SIGTERM);
		if (r == -EINTR)
			return ks_fail(r, "stopped before the mount was ready");
		return ks_fail_hint(r, "--ready-timeout waits longer",
				    "%s is not usable after %jd s", arg.mountpoint,
				    (intmax_t)(arg.ready_ns / KS_NS_PER_S));
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		return ks_fail(-ECHILD, "the mount's process died of signal %d", WTERMSIG(status));
	return ks_fail(-ECHILD, "the mount's process ended before the mount was ready");
}

/* Raises here what the child has raised. */
static int child_failed(struct mount_report *rep)
{
	const char *reason = ks_strerror(rep->code);
	size_t n, k = strlen(reason);

	rep->text[sizeof(rep->text) - 1] = '\0';
	rep->hint[sizeof(rep->hint) - 1] = '\0';
	n = strlen(rep->text);
	/* The reason is added again. */
	if (n > k + 2 && strcmp(rep->text + n - k, reason) == 0)
		rep->text[n - k - 2] = '\0';
	return ks_fail_hint(rep->code, rep->hint[0] ? rep->hint : NULL, "%s", rep->text);
}

int mount_in_background(int *pid)
{
	struct mount_report rep;
	int fds[2], r;
	pid_t child;

	if (pipe(fds) < 0)
		return ks_fail(-errno, "make a pipe");
	fflush(NULL);
	child = fork();
	if (child < 0)
		return ks_fail(-errno, "start a process");
	if (child == 0) {
		close(fds[0]);
		run_child(fds[1]);
	}
	close(fds[1]);
	r = wait_for_report(fds[0], &rep);
	close(fds[0]);
	if (r <= 0)
		return no_report(child, r);
	*pid = child;
	if (rep.code == 0)
		return 0;
	/* It takes down what it had built; what it says is already here. */
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return child_failed(&rep);
}
