/* SPDX-License-Identifier: Apache-2.0 */
/* apart.c: see apart.h. The result comes back in a shared page. */
#include "base/apart.h"
#include "base/log.h"
#include <errno.h>
#include <limits.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct result {
	int code;
	_Alignas(max_align_t) char out[];
};

static __attribute__((noreturn)) void child(struct result *res,
					    int (*fn)(const void *arg, void *out), const void *arg)
{
	/* Linux before 5.9 knows only one by one. */
	if (close_range(STDERR_FILENO + 1, UINT_MAX, 0) < 0) {
		for (int fd = STDERR_FILENO + 1; fd < 1024; fd++)
			(void)close(fd);
	}
	res->code = fn(arg, res->out);
	_exit(0);
}

int ks_apart_begin(struct ks_apart *a, int (*fn)(const void *arg, void *out), const void *arg,
		   size_t n)
{
	struct result *res;
	pid_t pid;

	*a = (struct ks_apart){ .n = n };
	assert(n <= 4000);
	res = mmap(NULL, sizeof(*res) + n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		   0);
	if (res == MAP_FAILED)
		return ks_fail(-errno, "get a page");
	res->code = -EIO;
	pid = fork();
	if (pid == 0)
		child(res, fn, arg);
	if (pid < 0) {
		int r = ks_fail(-errno, "start a process");

		(void)munmap(res, sizeof(*res) + n);
		return r;
	}
	a->pid = pid;
	a->shared = res;
	return 0;
}

int ks_apart_end(struct ks_apart *a, void *out)
{
	struct result *res = a->shared;
	int code;

	while (waitpid(a->pid, NULL, 0) < 0 && errno == EINTR)
		;
	code = res->code;
	if (out)
		memcpy(out, res->out, a->n);
	(void)munmap(res, sizeof(*res) + a->n);
	a->shared = NULL;
	return code;
}
