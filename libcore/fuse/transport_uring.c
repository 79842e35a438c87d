/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_uring.c: the io_uring transport as a row of the seam: attach before INIT, carry on with the classic loop where the kernel or the machine
 * does not want it.
 */
#include "base/clock.h"
#include "fuse/internal.h"
#include "fuse/uring.h"
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORGETS_NS (10 * KS_NS_PER_MS) /* an interrupt that comes meanwhile waits so long */
#define ENABLE "/sys/module/fuse/parameters/enable_uring"

static ssize_t io_read(int fd, void *buf, size_t n, void *userdata)
{
	struct ks_fuse *f = userdata;

	return ks_uring_read(f->topts.arg, fd, buf, n);
}

static ssize_t io_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	struct ks_fuse *f = userdata;

	/* In case the classic loop has taken over. */
	ks_classic_before_reply();
	return ks_uring_writev(f->topts.arg, fd, iov, n);
}

/* The kernel's switch is off by default. Only root can turn it on, and only for mounts to come; without it the offer is missing in INIT. */
static void prepare(void)
{
	int fd = open(ENABLE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	KS_IGNORE(write(fd, "Y", 1) < 0);
	close(fd);
}

/*
 * The kernel tells of every inode that it drops, one message each, and wakes who waits for it: once for each unlink. Nothing hangs on them, so they may pile up and
 * come as one.
 */
static void let_forgets_pile_up(const struct fuse_buf *buf)
{
	const struct timespec ts = ks_ns_to_ts(FORGETS_NS);
	struct fuse_in_header in;

	memcpy(&in, buf->mem, sizeof(in));
	if (in.opcode == FUSE_FORGET || in.opcode == FUSE_BATCH_FORGET)
		KS_IGNORE(clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL));
}

/* One reader for INIT and, on rings, for FORGET and INTERRUPT. Returns when INIT was answered and rings are not to be had, or at the end. */
static int read_classic(struct ks_fuse *f, struct fuse_session *se, struct ks_uring *u)
{
	struct fuse_buf buf = { 0 };
	int r = 0;

	while (!fuse_session_exited(se)) {
		if (ks_uring_is_refused(u))
			break;
		r = fuse_session_receive_buf(se, &buf);
		if (r == -EINTR)
			continue;
		if (r <= 0)
			break; /* 0: unmounted */
		ks_fuse_process(f, &buf);
		let_forgets_pile_up(&buf);
	}
	free(buf.mem);
	return r < 0 && r != -EINTR ? r : 0;
}

static void process(void *arg, const struct fuse_buf *buf)
{
	ks_fuse_process(arg, buf);
}

static void failed(void *arg)
{
	ks_fuse_stop(arg);
}

static int run(struct fuse_session *se, struct ks_transport_opts *o)
{
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	struct ks_fuse *f = ks_container_of(o, struct ks_fuse, topts);
	struct ks_uring_opts uo = { .process = process, .failed = failed, .arg = f };
	struct ks_uring *u;
	int r = ks_uring_new(&u, se, &uo);

	if (r < 0)
		return r;
	__atomic_store_n(&f->topts.arg, u, __ATOMIC_RELEASE);
	r = fuse_session_custom_io(se, &io, fuse_session_fd(se));
	if (r < 0)
		return ks_fail(r, "libfuse does not take another transport");
	r = read_classic(f, se, u);
	if (ks_uring_error(u))
		return ks_fail_hint(ks_uring_error(u), "mount with --transport=classic",
				    "FUSE over io_uring");
	if (r == 0 && !fuse_session_exited(se) && ks_uring_is_refused(u)) {
		if (o->must)
			return ks_fail(-EOPNOTSUPP, "no FUSE over io_uring: %s",
				       ks_uring_why_not(u));
		ks_log(KS_LOG_INFO, "requests come over /dev/fuse: %s", ks_uring_why_not(u));
		r = ks_transport_classic.run(se, o);
	}
	return r;
}

static void finish(struct ks_transport_opts *o)
{
	ks_uring_free(o->arg);
	o->arg = NULL;
}

static const char *current(const struct ks_transport_opts *o)
{
	const struct ks_uring *u = __atomic_load_n(&o->arg, __ATOMIC_ACQUIRE);

	return u && ks_uring_is_on(u) ? "uring" : "classic";
}

static void *reply_buffer(size_t *size)
{
	void *p = ks_uring_reply_buffer(size);

	return p ? p : ks_classic_reply_buffer(size);
}

const struct ks_transport_ops ks_transport_uring = {
	.name = "uring",
	.prepare = prepare,
	.run = run,
	.finish = finish,
	.current = current,
	.must_not_block = ks_uring_must_not_block,
	.again = ks_uring_again,
	.reply_buffer = reply_buffer,
};
