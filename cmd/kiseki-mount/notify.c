/* SPDX-License-Identifier: Apache-2.0 */
/*
 * notify.c: what the service manager is told: sd_notify(3). A thread says every second how much is still to be stored, when that has
 * changed; and where the manager wants signs of life (WatchdogSec=), it gives one only after the mount point has answered.
 */
#include "base/notify.h"
#include "base/clock.h"
#include "base/size.h"
#include "base/thread.h"
#include "mount.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EVERY_NS KS_NS_PER_S

static struct {
	struct ks_vfs *vfs;
	char *sign;          /* a file of the mount that is never answered from a cache */
	int64_t watchdog_ns; /* between two signs of life; 0: none is wanted */
	pthread_t thread;
	bool running; /* the thread has been started */
	pthread_mutex_t mu;
	pthread_cond_t cond;
	bool ready, over; /* [mu] */
	char last[96];    /* [mu] the status that was told last */
} me = { .mu = PTHREAD_MUTEX_INITIALIZER };

/* Half the time the manager waits, as it asks for; 0: it does not, or not for this process. */
static int64_t watchdog(void)
{
	const char *usec = getenv("WATCHDOG_USEC");
	const char *pid = getenv("WATCHDOG_PID");
	uint64_t n = usec ? strtoumax(usec, NULL, 10) : 0;

	if (pid && strtoumax(pid, NULL, 10) != (uintmax_t)getpid())
		return 0;
	return n > INT64_MAX / 1000 ? 0 : (int64_t)(n * 1000 / 2);
}

/* Opening that file asks the daemon, through the kernel and what carries its requests; neither database nor store is needed for it. */
static bool answers(void)
{
	KS_AUTO(ks_closep) int fd = open(me.sign, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	char c;

	return fd >= 0 && read(fd, &c, 1) == 1;
}

static void tell_status(void)
{
	char size[KS_SIZE_STR], text[sizeof(me.last)];
	struct ks_vfs_stats s;

	ks_vfs_stats(me.vfs, &s);
	ks_size_format(s.data.dirty_bytes, size);
	if (s.data.dirty_bytes)
		snprintf(text, sizeof(text), "STATUS=mounted, %s to be stored", size);
	else
		snprintf(text, sizeof(text), "STATUS=mounted");
	KS_LOCKED(&me.mu);
	if (!me.ready || me.over || strcmp(text, me.last) == 0)
		return;
	snprintf(me.last, sizeof(me.last), "%s", text);
	ks_notify(text);
}

/* Until @deadline; false: it is over. */
static bool sleep_until(int64_t deadline)
{
	KS_LOCKED(&me.mu);
	while (!me.over && ks_cond_wait(&me.cond, &me.mu, deadline) == 0)
		;
	return !me.over;
}

static void *tell(void *unused)
{
	int64_t status = ks_clock_mono_ns(), sign = status;

	(void)unused;
	while (sleep_until(me.watchdog_ns ? ks_min(status, sign) : status)) {
		int64_t now = ks_clock_mono_ns();

		if (now >= status) {
			tell_status();
			status = now + EVERY_NS;
		}
		if (me.watchdog_ns && now >= sign) {
			if (answers())
				ks_notify("WATCHDOG=1");
			sign = now + me.watchdog_ns;
		}
	}
	return NULL;
}

int mount_notify_start(struct ks_vfs *vfs)
{
	int r;

	if (!getenv("NOTIFY_SOCKET"))
		return 0;
	me.vfs = vfs;
	me.watchdog_ns = watchdog();
	me.sign = ks_asprintf("%s/.kiseki/stats", arg.mountpoint);
	r = me.sign ? ks_cond_init(&me.cond) : -ENOMEM;
	if (r == 0)
		r = ks_thread_start(&me.thread, "ks-notify", tell, NULL);
	me.running = r == 0;
	return r;
}

/* Needs mu. */
static void tell_ready(void)
{
	if (me.over)
		return;
	snprintf(me.last, sizeof(me.last), "STATUS=mounted");
	ks_notify("READY=1\nSTATUS=mounted");
}

void mount_notify_ready(void)
{
	KS_LOCKED(&me.mu);
	me.ready = true;
	tell_ready();
}

void mount_notify_reload(void (*reload)(void))
{
	char text[64];

	KS_LOCKED(&me.mu);
	if (!me.ready) {
		reload();
		return;
	}
	/* The time is what Type=notify-reload wants. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRId64,
		 ks_clock_mono_ns() / 1000);
	ks_notify(text);
	reload();
	tell_ready();
}

void mount_notify_stopping(void)
{
	KS_LOCKED(&me.mu);
	me.over = true;
	ks_notify("STOPPING=1\nSTATUS=storing what was written");
	if (me.running)
		pthread_cond_signal(&me.cond);
}

void mount_notify_stop(void)
{
	if (me.running)
		pthread_join(me.thread, NULL);
	me.running = false;
	free(me.sign);
	me.sign = NULL;
}
