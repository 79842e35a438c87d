/* SPDX-License-Identifier: Apache-2.0 */
/*
 * accesslog.c: --access-log: a thread writes the lines of the hidden directory's accesslog to a file. Requests never wait for it: while the file cannot be written, lines wait in
 * the ring of vfs/accesslog.c, which counts those that do not fit.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "mount.h"

#define AGAIN_NS KS_NS_PER_S

static struct {
	struct mount_logfile file;
	struct ks_vfs *vfs;
	struct ks_log_reader *tap; /* NULL: not started */
	pthread_t thread;
	pthread_mutex_t mu;
	pthread_cond_t cond;
	bool over, anew; /* [mu] the mount has ended; there is another file to try */
	struct ks_spell spell;
	char lines[64 * KS_KIB];
} me = {
	.file = MOUNT_LOGFILE("access log", 0600),
	.mu = PTHREAD_MUTEX_INITIALIZER,
};

int mount_access_open(void)
{
	return arg.access_log ? mount_logfile_open(&me.file, arg.access_log) : 0;
}

/* Before the next attempt. False: there is only one more. */
static bool wait_a_while(void)
{
	int64_t deadline = ks_clock_mono_ns() + AGAIN_NS;

	KS_LOCKED(&me.mu);
	while (!me.over && !me.anew && ks_cond_wait(&me.cond, &me.mu, deadline) == 0)
		;
	me.anew = false;
	return !me.over;
}

/* -errno: the mount has ended, and it did not work. */
static int put(const char *lines, size_t n)
{
	bool last = false;
	size_t off = 0;
	int r;

	while ((r = mount_logfile_write(&me.file, lines, n, &off)) < 0 && !last) {
		KS_IGNORE(ks_fail_spell(&me.spell, r, "write to access log %s", me.file.path) < 0);
		last = !wait_a_while();
	}
	if (r == 0)
		ks_spell_over(&me.spell, "access log %s is written to again", me.file.path);
	return r;
}

static void *follow(void *unused)
{
	int r = 0;
	size_t n;

	(void)unused;
	while (r == 0 && (n = ks_vfs_log_take(me.vfs, me.tap, me.lines, sizeof(me.lines))) > 0)
		r = put(me.lines, n);
	if (r < 0)
		ks_log(KS_LOG_ERROR, "access log %s lacks the last lines", me.file.path);
	return NULL;
}

int mount_access_start(struct ks_vfs *vfs)
{
	int r;

	if (!arg.access_log)
		return 0;
	me.vfs = vfs;
	r = ks_cond_init(&me.cond);
	if (r == 0)
		r = ks_vfs_log_tap(vfs, &me.tap);
	if (r < 0)
		return r;
	r = ks_thread_start(&me.thread, "ks-access", follow, NULL);
	if (r < 0) {
		ks_vfs_log_untap(vfs, me.tap);
		me.tap = NULL;
	}
	return r;
}

void mount_access_reopen(void)
{
	if (!arg.access_log)
		return;
	mount_logfile_reopen(&me.file);
	KS_LOCKED(&me.mu);
	me.anew = true;
	if (me.tap)
		pthread_cond_signal(&me.cond);
}

void mount_access_stop(void)
{
	if (!me.tap)
		return;
	ks_mutex_lock(&me.mu);
	me.over = true;
	pthread_cond_signal(&me.cond);
	ks_mutex_unlock(&me.mu);
	ks_vfs_log_tap_end(me.vfs, me.tap);
	pthread_join(me.thread, NULL);
	ks_vfs_log_untap(me.vfs, me.tap);
	me.tap = NULL;
}
