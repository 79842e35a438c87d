/* SPDX-License-Identifier: Apache-2.0 */
#include "base/apart.h"
#include "base/tap.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

struct seen {
	pid_t pid;
	bool open;
};

static int look(const void *arg, void *out)
{
	struct seen *s = out;

	s->pid = getpid();
	s->open = fcntl(*(const int *)arg, F_GETFD) >= 0;
	return -ENOTTY;
}

KS_TEST(it_is_another_process_without_our_descriptors)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct ks_apart a;
	struct seen s;

	ks_check(fd > 2);
	ks_check_eq(ks_apart_begin(&a, look, &fd, sizeof(s)), 0);
	ks_check_eq(ks_apart_end(&a, &s), -ENOTTY);
	ks_check(s.pid > 0 && s.pid != getpid());
	ks_check(!s.open);
	ks_check(fcntl(fd, F_GETFD) >= 0);
	close(fd);
}

static int die(const void *arg, void *out)
{
	(void)arg;
	(void)out;
	raise(SIGKILL);
	return 0;
}

KS_TEST(a_death_is_an_error)
{
	struct ks_apart a;

	ks_check_eq(ks_apart_begin(&a, die, NULL, 0), 0);
	ks_check_eq(ks_apart_end(&a, NULL), -EIO);
}

KS_TEST_MAIN()
