/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ringfault [TEST]: a mount over io_uring whose commands fail. Needs root, and Linux 6.14 with fuse.enable_uring.
 *
 * The library, the transport and the kernel are the real ones; what hands the commands to the kernel is replaced here, and makes of a chosen one another that does nothing and
 * completes with a chosen error. The mounts are below TMPDIR. Clients are threads of this process: a child would keep the connection alive.
 */
#include "base/thread.h"
#include "fuse/fuse.h"
#include "fuse/transport.h"
#include "fuse/uring_abi.h"
#include "vfs/mem_testlib.h"
#include <dlfcn.h>
#include <liburing.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#define NOP_INJECT_RESULT 1 /* Linux 6.10 */
#define LOST 12             /* replies; more than a queue of two CPUs has entries */

/* ---- commands that fail ---- */

static _Atomic unsigned int fail_cmd;
static _Atomic int fail_left, fail_err;

static void fail_next(unsigned int cmd, int err, int n)
{
	fail_left = 0;
	fail_cmd = cmd;
	fail_err = err;
	fail_left = n;
}

static void tamper(const struct io_uring *ring)
{
	unsigned int mask = *ring->sq.kring_mask;

	for (unsigned int i = ring->sq.sqe_head; i != ring->sq.sqe_tail; i++) {
		struct io_uring_sqe *sqe = &ring->sq.sqes[(i & mask) * 2]; /* of 128 bytes */
		uint64_t data = sqe->user_data;

		if (sqe->opcode != IORING_OP_URING_CMD || sqe->cmd_op != fail_cmd ||
		    fail_left <= 0 || atomic_fetch_sub(&fail_left, 1) <= 0)
			continue;
		memset(sqe, 0, 128);
		sqe->opcode = IORING_OP_NOP;
		sqe->rw_flags = NOP_INJECT_RESULT;
		sqe->len = (unsigned int)fail_err;
		sqe->user_data = data;
	}
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
	int (*real)(struct io_uring *, unsigned int) = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

	tamper(ring);
	return real(ring, n);
}

int io_uring_submit_and_get_events(struct io_uring *ring)
{
	int (*real)(struct io_uring *) = dlsym(RTLD_NEXT, "io_uring_submit_and_get_events");

	tamper(ring);
	return real(ring);
}

/* ---- a mount and its clients ---- */

struct rig {
	struct ks_vfs *v;
	struct ks_fuse *f;
	pthread_t runner;
	char dir[300];
};

static char mounted_at[300];

/* A thread of ours that waits for our own mount would else keep this process from ending, even by SIGKILL. */
static void force_down(void)
{
	if (!*mounted_at)
		return;
	KS_IGNORE(umount2(mounted_at, MNT_FORCE) < 0);
	KS_IGNORE(umount2(mounted_at, MNT_DETACH) < 0);
	*mounted_at = '\0';
}

static void *run(void *arg)
{
	struct rig *g = arg;

	return (void *)(intptr_t)ks_fuse_run(g->f);
}

/* On the first CPU, whose queue all requests then come to. */
static void *look(void *arg)
{
	const struct rig *g = arg;
	cpu_set_t set;
	struct stat st;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	KS_IGNORE(sched_setaffinity(0, sizeof(set), &set));
	return (void *)(intptr_t)(stat(g->dir, &st) < 0 ? -errno : 0);
}

/* What a thread that has ended returned; what goes on for longer is a failure. */
static int result(pthread_t thread, int seconds)
{
	struct timespec until;
	void *r = NULL;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += seconds;
	ks_check_eq(pthread_timedjoin_np(thread, &r, &until), 0);
	return (int)(intptr_t)r;
}

static pthread_t start_look(struct rig *g)
{
	pthread_t thread;

	ks_check_ok(ks_thread_start(&thread, "look", look, g));
	return thread;
}

static int look_now(struct rig *g)
{
	return result(start_look(g), 20);
}

static void up_over(struct rig *g, const char *name, bool must)
{
	struct ks_vfs_opts vo = { .data = { .buffer_bytes = 32 * KS_MIB } };
	struct ks_fuse_opts fo = { .transport = &ks_transport_uring, .transport_must = must };

	force_down();
	*g = (struct rig){ 0 };
	snprintf(g->dir, sizeof(g->dir), "%s/%s", ks_tap_dir(), name);
	/* Before its directory is removed. */
	ks_check_eq(atexit(force_down), 0);
	ks_check_eq(mkdir(g->dir, 0755), 0);
	g->v = vfs_in_memory(name, (struct ks_meta_opts){ 0 }, vo, NULL);
	fo.vfs = g->v;
	ks_check_ok(ks_fuse_new(&g->f, &fo));
	ks_check_ok(ks_fuse_mount(g->f, g->dir));
	memcpy(mounted_at, g->dir, sizeof(mounted_at));
	ks_check_ok(ks_thread_start(&g->runner, "session", run, g));
}

static void up(struct rig *g, const char *name)
{
	up_over(g, name, true);
}

/* @err: what the session has ended with, or 0 when it is to be stopped. */
static void down(struct rig *g, int err)
{
	if (!err)
		ks_fuse_stop(g->f);
	ks_check_eq(result(g->runner, 20), err);
	ks_fuse_unmount(g->f);
	*mounted_at = '\0';
}

static void clear(struct rig *g)
{
	ks_fuse_free(g->f);
	ks_check_ok(ks_vfs_close(g->v));
	rmdir(g->dir);
}

/* ---- the tests ---- */

KS_TEST(entries_that_cannot_be_registered_at_once_are_later)
{
	struct rig g;

	fail_next(KS_URING_REGISTER, -ENOMEM, 200);
	up(&g, "register");
	ks_check_ok(look_now(&g));
	ks_check_str(ks_fuse_transport(g.f), "uring");
	down(&g, 0);
	clear(&g);
}

KS_TEST(replies_that_are_not_taken_at_once_are_later)
{
	struct rig g;

	up(&g, "reply");
	ks_check_ok(look_now(&g));
	for (int i = 0; i < LOST; i++) {
		fail_next(KS_URING_COMMIT_AND_FETCH, -ENOMEM, 3);
		ks_check_ok(look_now(&g));
	}
	down(&g, 0);
	clear(&g);
}

/* The kernel does wait for those replies here. What counts is that each entry lives on. */
KS_TEST(an_entry_whose_request_is_not_known_takes_others)
{
	pthread_t lost[LOST];
	struct rig g;

	up(&g, "unknown");
	ks_check_ok(look_now(&g));
	for (int i = 0; i < LOST; i++) {
		fail_next(KS_URING_COMMIT_AND_FETCH, -ENOENT, 1);
		lost[i] = start_look(&g);
		for (int ms = 0; fail_left && ms < 20000; ms++)
			usleep(1000);
		ks_check_eq(fail_left, 0);
		ks_check_ok(look_now(&g));
	}
	down(&g, 0);
	ks_fuse_free(g.f);
	for (int i = 0; i < LOST; i++)
		ks_check(result(lost[i], 20) < 0);
	ks_check_ok(ks_vfs_close(g.v));
}

KS_TEST(replies_that_are_never_taken_end_the_mount)
{
	pthread_t waits;
	struct rig g;

	up(&g, "never");
	ks_check_ok(look_now(&g));
	fail_next(KS_URING_COMMIT_AND_FETCH, -EINVAL, INT_MAX);
	waits = start_look(&g);
	down(&g, -EINVAL);
	/* Its answer does not depend on what is freed later. */
	ks_check(result(waits, 20) < 0);
	fail_next(0, 0, 0);
	clear(&g);
}

/* As where a policy (SELinux) forbids the commands. */
KS_TEST(a_mount_that_may_not_give_commands_goes_without)
{
	struct rig g;

	fail_next(KS_URING_NONE, -EACCES, 1);
	up_over(&g, "policy", false);
	ks_check_ok(look_now(&g));
	ks_check_eq(fail_left, 0);
	ks_check_str(ks_fuse_transport(g.f), "classic");
	down(&g, 0);
	clear(&g);
}

/* One that found out only now: then every program would wait. */
KS_TEST(queues_that_cannot_be_registered_end_the_mount)
{
	pthread_t waits;
	struct rig g;

	fail_next(KS_URING_REGISTER, -EACCES, INT_MAX);
	up(&g, "forbidden");
	waits = start_look(&g);
	down(&g, -EACCES);
	ks_check(result(waits, 20) < 0);
	fail_next(0, 0, 0);
	clear(&g);
}

KS_TEST_MAIN()
