/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c: one datagram to $NOTIFY_SOCKET. */
#include "base/notify.h"
#include "base/buf.h"
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void ks_notify(const char *state)
{
	const char *path = secure_getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	KS_AUTO(ks_closep) int fd = -1;
	size_t n;

	if (!path || (path[0] != '/' && path[0] != '@'))
		return;
	n = strlen(path);
	if (n >= sizeof(a.sun_path))
		return;
	memcpy(a.sun_path, path, n);
	/* '@' stands for the NUL of the abstract name space. */
	if (a.sun_path[0] == '@')
		a.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	/* Nobody could be told of a failure. */
	KS_IGNORE(sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)(void *)&a,
			 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0);
}
