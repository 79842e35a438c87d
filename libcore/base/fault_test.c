/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fault.h"
#include "base/log.h"
#include "base/tap.h"
#include "base/thread.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE (64 * 1024)
#define CODE 74

static volatile char *map;
static char said[1024];

/* Others meet the same at the same time. */
static void *touch(void *arg)
{
	map[SIZE / 2 + (uintptr_t)arg] = 1;
	return NULL;
}

static void fault(void)
{
	char path[] = "/tmp/kiseki-fault.XXXXXX";
	pthread_t t[3];
	int fd = mkstemp(path);

	if (fd < 0 || ftruncate(fd, SIZE) < 0)
		_exit(1);
	unlink(path);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		_exit(1);
	touch(NULL);
	if (ftruncate(fd, 0) < 0)
		_exit(1);
	for (size_t i = 0; i < KS_ARRAY_SIZE(t); i++) {
		if (ks_thread_start(&t[i], "touch", touch, (void *)(uintptr_t)i) < 0)
			_exit(1);
	}
	for (size_t i = 0; i < KS_ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	_exit(0);
}

static void sent(void)
{
	KS_IGNORE(raise(SIGBUS) != 0);
	_exit(0);
}

/* How a process ends that does this; what it said is in said[]. */
static int run(void (*fn)(void))
{
	int p[2], status = -1;
	size_t have = 0;
	ssize_t n;
	pid_t pid;

	ks_check_ok(pipe2(p, O_CLOEXEC));
	pid = fork();
	ks_check(pid >= 0);
	if (pid == 0) {
		static const struct rlimit none;

		KS_IGNORE(setrlimit(RLIMIT_CORE, &none) < 0);
		dup2(p[1], STDERR_FILENO);
		ks_fault_watch(CODE);
		fn();
	}
	close(p[1]);
	while ((n = read(p[0], said + have, sizeof(said) - 1 - have)) > 0)
		have += (size_t)n;
	said[have] = 0;
	close(p[0]);
	ks_check_eq(waitpid(pid, &status, 0), pid);
	return status;
}

KS_TEST(the_file_is_named)
{
	int status = run(fault);

	ks_check(WIFEXITED(status));
	ks_check_eq(WEXITSTATUS(status), CODE);
	ks_check(strstr(said, "/tmp/kiseki-fault.") != NULL);
	/* Once. */
	ks_check(strchr(said, '\n') && !strchr(said, '\n')[1]);
}

KS_TEST(one_that_was_sent_ends_the_process)
{
	int status = run(sent);

	ks_check(WIFSIGNALED(status));
	ks_check_eq(WTERMSIG(status), SIGBUS);
	ks_check_str(said, "");
}

KS_TEST_MAIN()
