/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_socket.c: the transport of the tests: a session without a kernel: messages of the FUSE protocol over a socket that keeps their boundaries (SOCK_SEQPACKET). Requests are
 * served by the classic loop; whoever holds the other end plays the kernel. Its closing is the unmount.
 */
#include "fuse/internal.h"
#include <sys/socket.h>

static ssize_t io_read(int fd, void *buf, size_t n, void *userdata)
{
	ssize_t got = recv(fd, buf, n, 0);

	(void)userdata;
	if (got != 0)
		return got;
	errno = ENODEV; /* as /dev/fuse says that it was unmounted */
	return -1;
}

static ssize_t io_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = (size_t)n };

	(void)userdata;
	return sendmsg(fd, &m, MSG_NOSIGNAL);
}

static int run(struct fuse_session *se, struct ks_transport_opts *o)
{
	static const struct fuse_custom_io io = { .read = io_read, .writev = io_writev };
	const int *fd = o->arg;
	int r = fuse_session_custom_io(se, &io, *fd);

	return r < 0 ? r : ks_transport_classic.run(se, o);
}

const struct ks_transport_ops ks_transport_test = { .name = "test", .run = run };
