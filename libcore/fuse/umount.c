/* SPDX-License-Identifier: Apache-2.0 */
/* umount.c: umount2(2) for root, fusermount3(1) for everybody else. */
#include "fuse/umount.h"
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* What the program said, cut; its exit status. */
static int run_helper(char *const argv[], char *said, size_t size)
{
	char *const env[] = { (char[]){ "LC_ALL=C" },
			      (char[]){ "PATH=/usr/local/bin:/usr/bin:/bin" }, NULL };
	posix_spawn_file_actions_t fa;
	KS_AUTO(ks_closep) int out = -1;
	int fds[2], status, r;
	size_t n = 0;
	ssize_t got;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return ks_fail(-errno, "make a pipe");
	out = fds[0];
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, fds[1], STDERR_FILENO);
	posix_spawn_file_actions_adddup2(&fa, fds[1], STDOUT_FILENO);
	r = -posix_spawnp(&pid, argv[0], &fa, NULL, argv, env);
	posix_spawn_file_actions_destroy(&fa);
	close(fds[1]);
	if (r < 0)
		return ks_fail_hint(r, "install the package fuse3", "run %s", argv[0]);
	while (n < size - 1 && (got = read(out, said + n, size - 1 - n)) != 0) {
		if (got < 0 && errno != EINTR)
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	said[n] = '\0';
	said[strcspn(said, "\n")] = '\0';
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return ks_fail(-errno, "wait for %s", argv[0]);
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int by_helper(const char *mountpoint, unsigned int flags)
{
	char prog[] = "fusermount3", unmount[] = "-u", lazy[] = "-z", quiet[] = "--";
	KS_AUTO(ks_freep) char *dir = strdup(mountpoint);
	bool detach = flags & (KS_UMOUNT_LAZY | KS_UMOUNT_FORCE);
	char *const plain_argv[] = { prog, unmount, quiet, dir, NULL };
	char *const lazy_argv[] = { prog, unmount, lazy, quiet, dir, NULL };
	char said[512];
	int r;

	if (!dir)
		return -ENOMEM;
	r = run_helper(detach ? lazy_argv : plain_argv, said, sizeof(said));
	if (r <= 0)
		return r;
	if (strstr(said, "busy"))
		return -EBUSY;
	return ks_fail(strstr(said, "not permitted") ? -EPERM : -EINVAL, "unmount %s: %s",
		       mountpoint, said);
}

int ks_fuse_umount_root(const char *mountpoint, unsigned int flags)
{
	int mnt = UMOUNT_NOFOLLOW;

	mnt |= flags & KS_UMOUNT_LAZY ? MNT_DETACH : 0;
	mnt |= flags & KS_UMOUNT_FORCE ? MNT_FORCE : 0;
	return umount2(mountpoint, mnt) < 0 ? -errno : 0;
}

int ks_fuse_umount(const char *mountpoint, unsigned int flags)
{
	int r;

	if (geteuid() != 0)
		return by_helper(mountpoint, flags);
	r = ks_fuse_umount_root(mountpoint, flags);
	return r == 0 || r == -EBUSY ? r : ks_fail(r, "unmount %s", mountpoint);
}
