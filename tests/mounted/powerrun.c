/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powerrun COMMAND [ARG...]: runs a program, and all that it starts, for which a powerfs looks like a disk.
 *
 *	statfs()   says ext4 where it would say FUSE, which Kiseki refuses to keep a database on
 *	syncfs()   is passed to powerfs, by an ioctl; the kernel would return 0 and do nothing
 *
 * Both are caught by seccomp(2), and answered from here. Lives until the last of the processes is gone, also of those that left into the background;
 * the exit status is the command's.
 */
#include "powerlog.h"
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/magic.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

static char **command;
static int listener = -1;
static pid_t child = -1;

static bool read_path(pid_t pid, uint64_t at, char path[4096])
{
	for (size_t n = 0; n < 4096;) {
		size_t part = MIN(4096 - (at + n) % 4096, 4096 - n);
		struct iovec to = { path + n, part };
		struct iovec from = { (void *)(uintptr_t)(at + n), part };

		if (process_vm_readv(pid, &to, 1, &from, 1, 0) != (ssize_t)part)
			return false;
		if (memchr(path + n, 0, part))
			return true;
		n += part;
	}
	return false;
}

/* Relative paths are of the caller's directory. */
static bool look(pid_t pid, const char *path, struct statfs *st)
{
	char full[8192];
	int n = 0;

	if (*path != '/')
		n = snprintf(full, sizeof(full), "/proc/%d/cwd/", (int)pid);
	snprintf(full + n, sizeof(full) - (size_t)n, "%s", path);
	return statfs(full, st) == 0;
}

static void answer_statfs(const struct seccomp_notif *q, struct seccomp_notif_resp *a)
{
	pid_t pid = (pid_t)q->pid;
	struct statfs st;
	char path[4096];
	struct iovec from = { &st, sizeof(st) };
	struct iovec to = { (void *)(uintptr_t)q->data.args[1], sizeof(st) };

	if (!read_path(pid, q->data.args[0], path) || !look(pid, path, &st) ||
	    st.f_type != FUSE_SUPER_MAGIC)
		return;
	st.f_type = EXT4_SUPER_MAGIC;
	if (process_vm_writev(pid, &from, 1, &to, 1, 0) == sizeof(st))
		a->flags = 0;
}

static void answer_syncfs(const struct seccomp_notif *q, struct seccomp_notif_resp *a)
{
	int pidfd = (int)syscall(SYS_pidfd_open, q->pid, 0);
	int fd = pidfd < 0 ? -1 : (int)syscall(SYS_pidfd_getfd, pidfd, q->data.args[0], 0);

	if (fd >= 0 && ioctl(fd, POWER_IOC_SYNCFS) == 0)
		a->flags = 0;
	if (fd >= 0)
		close(fd);
	if (pidfd >= 0)
		close(pidfd);
}

static void serve(void)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	for (;;) {
		struct seccomp_notif q = { 0 };
		struct seccomp_notif_resp a = { 0 };

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			die("poll");
		if (!(p.revents & POLLIN)) {
			if (p.revents & POLLHUP)
				return; /* nobody is left who could ask */
			continue;
		}
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) < 0)
			continue; /* the caller was killed */
		a.id = q.id;
		a.flags =
			SECCOMP_USER_NOTIF_FLAG_CONTINUE; /* what we do not answer, the kernel does */
		if (q.data.nr == SYS_statfs)
			answer_statfs(&q, &a);
		else
			answer_syncfs(&q, &a);
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &a);
	}
}

/* A thread, since what it forks inherits its filter, and we must not have one. */
static void *start(void *arg)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_statfs, 1, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_syncfs, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { ARRAY_SIZE(code), code };

	(void)arg;
	listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				SECCOMP_FILTER_FLAG_NEW_LISTENER, &prog);
	if (listener < 0)
		die("seccomp");
	fcntl(listener, F_SETFD, FD_CLOEXEC);
	child = fork();
	if (child == 0) {
		execvp(command[0], command);
		die("%s", command[0]);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;

	if (argc < 2) {
		fprintf(stderr, "usage: powerrun COMMAND [ARG...]\n");
		return 64;
	}
	command = argv + 1;
	if (pthread_create(&t, NULL, start, NULL) != 0 || pthread_join(t, NULL) != 0)
		die("a thread");
	if (child < 0)
		die("fork");
	serve();
	return wait_for(child);
}
