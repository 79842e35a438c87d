/* SPDX-License-Identifier: Apache-2.0 */
/* control_test.c: the control socket's place. What is said over it, the tests of the tools ask. */
#include "base/tap.h"
#include "volume/control.h"
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* Who starts removes the sockets of processes that are gone. */
static __attribute__((noreturn)) void start_others(void)
{
	for (;;) {
		char *path = NULL;

		if (ks_control_path(&path) < 0)
			_exit(1);
		free(path);
	}
}

KS_TEST(nobody_takes_away_a_socket_that_is_being_made)
{
	struct ks_mount_info info = { 0 };
	KS_AUTO(ks_freep) char *path = NULL;
	bool quiet = ks_fail_quiet(true);
	int r = ks_control_path(&path);
	pid_t other;

	ks_fail_quiet(quiet);
	if (r < 0)
		return; /* no directory for sockets here */
	other = fork();
	if (other == 0)
		start_others();
	ks_check(other > 0);
	for (int i = 0; i < 2000 && r == 0; i++) {
		struct ks_control *c = NULL;

		r = ks_control_start(&c, path, NULL, &info);
		if (r == 0 && access(path, F_OK) < 0)
			r = -errno;
		ks_control_stop(c);
	}
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	ks_check_eq(r, 0);
}

KS_TEST_MAIN()
