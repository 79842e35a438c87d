/* SPDX-License-Identifier: Apache-2.0 */
/* slice_test.c: the table of a slice's states, and the pool's pieces. */
#include "base/tap.h"
#include "data/slice.h"

#include <sys/wait.h>

KS_TEST(legal_transitions_are_these_and_no_others)
{
	static const char *const from_to[SLICE_STATES] = {
		/*		    IWDFCX  (X: done) */
		[SLICE_IDLE] = "010001",       [SLICE_WRITING] = "101000",
		[SLICE_DIRTY] = "010101",      [SLICE_FLUSHING] = "001010",
		[SLICE_COMMITTING] = "001001", [SLICE_DONE] = "000000",
	};

	for (int i = 0; i < SLICE_STATES; i++) {
		for (int k = 0; k < SLICE_STATES; k++)
			ks_check_eq(ks_slice_may((enum slice_state)i, (enum slice_state)k),
				    from_to[i][k] == '1');
	}
}

KS_TEST(an_illegal_transition_stops_the_program)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0) {
		struct slice s = { .state = SLICE_DONE };

		ks_check(freopen("/dev/null", "w", stderr));
		ks_slice_set(&s, SLICE_WRITING);
		_exit(0);
	}
	ks_check_eq(waitpid(pid, &status, 0), pid);
	ks_check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static bool never(void *arg)
{
	(void)arg;
	return false;
}

KS_TEST(small_pieces_share_pages)
{
	struct ks_mem m[5000];
	struct ks_pool_stats st;
	struct ks_pool *pool;

	ks_check_ok(ks_pool_open(&pool, 32 * KS_MIB, NULL, 0, never, NULL));
	for (int i = 0; i < 5000; i++) {
		ks_check(ks_pool_get(pool, 4096, KS_POOL_WRITE, &m[i]));
		memset(m[i].p, i, m[i].cap);
	}
	ks_pool_stats(pool, &st);
	ks_check_eq(st.dirty_bytes, 5000 * 4096);
	/* All 64 KiB pages that are left can still be had. */
	struct ks_mem big[512];
	int n = 0;

	while (ks_pool_get(pool, 65536, KS_POOL_READ, &big[n]))
		n++;
	ks_check_eq(n, 512 - (5000 + 15) / 16);
	for (int i = 0; i < n; i++)
		ks_pool_put(pool, big[i], KS_POOL_READ);
	for (int i = 0; i < 5000; i++) {
		for (int k = 0; k < 4096; k += 511)
			ks_check_eq(m[i].p[k], (uint8_t)i);
		ks_pool_put(pool, m[i], KS_POOL_WRITE);
	}
	ks_pool_stats(pool, &st);
	ks_check_eq(st.dirty_bytes + st.clean_bytes, 0);
	ks_pool_close(pool);
}

KS_TEST(writers_leave_an_eighth_and_spill)
{
	struct ks_mem m[64];
	struct ks_mem x;
	struct ks_pool *pool;
	int n = 0;

	ks_check_ok(ks_pool_open(&pool, 2 * KS_MIB, ks_tap_dir(), 1 * KS_MIB, never, NULL));
	while (ks_pool_get(pool, 60000, KS_POOL_WRITE, &m[n])) {
		memset(m[n].p, n, m[n].cap);
		ks_check_eq(ks_pool_is_spill(pool, m[n]), n >= 28);
		n++;
	}
	ks_check_eq(n, 28 + 16);
	ks_check(ks_pool_get(pool, 65536, KS_POOL_READ, &x));
	ks_pool_put(pool, x, KS_POOL_READ);
	for (int i = 0; i < n; i++) {
		ks_check_eq(m[i].p[m[i].cap - 1], i);
		ks_pool_put(pool, m[i], KS_POOL_WRITE);
	}
	/* The last one given back is the first one reused. */
	ks_check(ks_pool_get(pool, 65536, KS_POOL_READ, &x));
	ks_check(x.p == m[27].p);
	ks_pool_put(pool, x, KS_POOL_READ);
	ks_pool_close(pool);
}

KS_TEST_MAIN()
