/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c: sigwait(3) in a thread: what a handler may not do, it may. */
#include "fuse/signals.h"
#include "base/apart.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/thread.h"
#include "fuse/umount.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ks_fuse_signals {
	struct ks_fuse *f;
	char *mountpoint;
	void (*hup)(void);
	pthread_t thread;
	bool over; /* atomic: the session has ended, the thread shall too */
	bool came; /* atomic */
};

static void the_set(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

void ks_fuse_signals_block(void)
{
	sigset_t set;

	the_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
}

/* Pages that programs have changed through a mapping are in the kernel only; this brings them to us, while requests are still answered. */
static int write_back(const void *mountpoint, void *out)
{
	int fd = open(mountpoint, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)out;
	return fd < 0 || syncfs(fd) < 0 ? -errno : 0;
}

static int unmount(const void *mountpoint, void *out)
{
	(void)out;
	return ks_fuse_umount_root(mountpoint, 0);
}

/* What this process must answer, and may be killed meanwhile. */
static int apart(int (*fn)(const void *, void *), const char *mountpoint)
{
	struct ks_apart a;
	int r = ks_apart_begin(&a, fn, mountpoint, 0);

	return r < 0 ? fn(mountpoint, NULL) : ks_apart_end(&a, NULL);
}

/* Who reads the access log would keep the mount in use: it ends, and they have a moment to close it. */
static void end_streams(struct ks_fuse *f)
{
	struct timespec pause = { .tv_nsec = 10000000 };

	ks_fuse_end_streams(f);
	for (int i = 0; i < 20 && ks_fuse_has_streams(f); i++)
		nanosleep(&pause, NULL);
}

static void end_mount(struct ks_fuse_signals *s)
{
	int r;

	end_streams(s->f);
	r = geteuid() == 0 ? apart(unmount, s->mountpoint) : ks_fuse_umount(s->mountpoint, 0);
	/* Unmounted: the kernel ends the session, after it has written everything back. */
	if (r == 0)
		return;
	if (r == -EBUSY)
		ks_log(KS_LOG_WARN, "%s is in use; detaching it", s->mountpoint);
	else
		ks_log(KS_LOG_WARN, "%s cannot be unmounted: %s", s->mountpoint, ks_strerror(r));
	r = apart(write_back, s->mountpoint);
	if (r < 0)
		ks_log(KS_LOG_WARN, "%s: cannot write back mapped files: %s", s->mountpoint,
		       ks_strerror(r));
	ks_fuse_stop(s->f);
}

static void *wait_for_signals(void *arg)
{
	struct ks_fuse_signals *s = arg;
	sigset_t set;
	int sig;

	the_set(&set);
	while (sigwait(&set, &sig) == 0 && !__atomic_load_n(&s->over, __ATOMIC_ACQUIRE)) {
		if (sig == SIGHUP) {
			if (s->hup)
				s->hup();
			continue;
		}
		if (!__atomic_exchange_n(&s->came, true, __ATOMIC_ACQ_REL))
			end_mount(s);
	}
	return NULL;
}

int ks_fuse_signals_start(struct ks_fuse_signals **out, struct ks_fuse *f, const char *mountpoint,
			  void (*hup)(void))
{
	struct ks_fuse_signals *s = calloc(1, sizeof(*s));
	int r;

	if (!s || !(s->mountpoint = strdup(mountpoint))) {
		free(s);
		return -ENOMEM;
	}
	s->f = f;
	s->hup = hup;
	r = ks_thread_start(&s->thread, "ks-signals", wait_for_signals, s);
	if (r < 0) {
		free(s->mountpoint);
		free(s);
		return r;
	}
	*out = s;
	return 0;
}

void ks_fuse_signals_stop(struct ks_fuse_signals *s)
{
	if (!s)
		return;
	__atomic_store_n(&s->over, true, __ATOMIC_RELEASE);
	/* It takes it with sigwait(). */
	pthread_kill(s->thread, SIGTERM); // NOLINT(bugprone-bad-signal-to-kill-thread)
	pthread_join(s->thread, NULL);
	free(s->mountpoint);
	free(s);
}

bool ks_fuse_signals_came(const struct ks_fuse_signals *s)
{
	return __atomic_load_n(&s->came, __ATOMIC_ACQUIRE);
}
