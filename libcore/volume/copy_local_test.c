/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/tap.h"
#include "volume/copy_side.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static struct ks_side side = { .ops = &ks_side_local };

/* A test that waits for ever ends with a signal. */
static struct ks_cdir enter(void)
{
	struct ks_cdir d = { .side = &side, .fd = -1 };

	alarm(60);
	ks_check_ok(side.ops->opendir(NULL, ks_tap_dir(), true, &d));
	return d;
}

static void leave(struct ks_cdir *d)
{
	side.ops->closedir(d);
	alarm(0);
}

static void write_file(const struct ks_cdir *d, const char *name)
{
	int fd = openat(d->fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	ks_check(fd >= 0);
	ks_check_eq(write(fd, "ten bytes.", 10), 10);
	close(fd);
}

static void check_read(struct ks_cdir *d, const char *name, struct ks_cfile *f)
{
	struct stat st;
	char got[16];

	ks_check_ok(side.ops->open(d, name, false, f, &st));
	ks_check_eq(st.st_size, 10);
	ks_check_eq(side.ops->read(f, 0, got, sizeof(got)), 10);
	ks_check_mem(got, "ten bytes.", 10);
	side.ops->close(f);
}

/* What a copy meets when somebody renames something else over a file that it has listed. */
KS_TEST(what_is_not_a_file_any_more_is_refused_at_once)
{
	static const struct {
		const char *name;
		int err;
	} others[] = { { "pipe", -ESTALE }, { "dir", -EISDIR }, { "link", -ELOOP } };
	struct ks_cdir d = enter();

	write_file(&d, "file");
	ks_check_eq(mkfifoat(d.fd, "pipe", 0644), 0);
	ks_check_eq(mkdirat(d.fd, "dir", 0755), 0);
	ks_check_eq(symlinkat("file", d.fd, "link"), 0);
	for (size_t i = 0; i < KS_ARRAY_SIZE(others); i++) {
		struct ks_cfile f = { .side = &side, .fd = -1 };

		ks_check_eq(side.ops->open(&d, others[i].name, false, &f, NULL), others[i].err);
		side.ops->close(&f);
	}
	leave(&d);
}

KS_TEST(a_file_is_read_and_its_reads_may_wait)
{
	struct ks_cfile f = { .side = &side, .fd = -1 };
	struct ks_cdir d = enter();

	write_file(&d, "file");
	ks_check_ok(side.ops->open(&d, "file", false, &f, NULL));
	/* Those of a file that is a stream (/.kiseki/accesslog of a mount) would end. */
	ks_check_eq(fcntl(f.fd, F_GETFL) & O_NONBLOCK, 0);
	side.ops->close(&f);
	check_read(&d, "file", &f);
	leave(&d);
}

/* In a process of its own. */
static int give(const struct ks_cdir *d)
{
	int fd;

	alarm(60);
	usleep(50000);
	fd = openat(d->fd, "meant", O_WRONLY | O_CLOEXEC);
	return fd < 0 || write(fd, "ten bytes.", 10) != 10;
}

KS_TEST(a_pipe_that_is_meant_waits_for_its_writer)
{
	struct ks_cfile f = { .side = &side, .fd = -1, .special = true };
	struct ks_cdir d = enter();
	char got[16];
	int status;
	pid_t pid;

	ks_check_eq(mkfifoat(d.fd, "meant", 0644), 0);
	pid = fork();
	if (pid == 0)
		_exit(give(&d));
	ks_check_ok(side.ops->open(&d, "meant", false, &f, NULL));
	ks_check_eq(side.ops->read(&f, 0, got, sizeof(got)), 10);
	side.ops->close(&f);
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check_eq(status, 0);
	leave(&d);
}

/* As a file server has them for its clients: it gives one back when somebody else opens the file. */
static int lend(const struct ks_cdir *d, int ready)
{
	int fd = openat(d->fd, "leased", O_RDWR | O_CLOEXEC);
	sigset_t io;
	int sig;

	alarm(60);
	sigemptyset(&io);
	sigaddset(&io, SIGIO);
	sigprocmask(SIG_BLOCK, &io, NULL);
	if (fd < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0 || write(ready, "", 1) != 1)
		return 1;
	if (sigwait(&io, &sig) != 0 || fcntl(fd, F_SETLEASE, F_UNLCK) < 0)
		return 2;
	return 0;
}

KS_TEST(the_end_of_a_lease_is_waited_for)
{
	struct ks_cfile f = { .side = &side, .fd = -1 };
	struct ks_cdir d = enter();
	int ready[2], status;
	char byte;
	pid_t pid;

	write_file(&d, "leased");
	ks_check_eq(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0)
		_exit(lend(&d, ready[1]));
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		waitpid(pid, NULL, 0);
		ks_skip("no leases on this file system");
	}
	close(ready[0]);
	check_read(&d, "leased", &f);
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check_eq(status, 0);
	leave(&d);
}

KS_TEST_MAIN()
