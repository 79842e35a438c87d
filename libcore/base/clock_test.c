/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/tap.h"

KS_TEST(times_are_printed_in_utc)
{
	char s[KS_TIME_STR];

	ks_time_format(0, s);
	ks_check_str(s, "1970-01-01T00:00:00.000000Z");
	ks_time_format(1795140003123456789ll, s);
	ks_check_str(s, "2026-11-20T02:00:03.123456Z");
	ks_time_format(-1, s);
	ks_check_str(s, "1969-12-31T23:59:59.999999Z");
	ks_time_format(INT64_MAX, s);
	ks_check_str(s, "2262-04-11T23:47:16.854775Z");
	ks_time_format(INT64_MIN, s);
	ks_check_str(s, "1677-09-21T00:12:43.145224Z");
}

KS_TEST(timespecs_convert_both_ways)
{
	static const int64_t times[] = {
		0, 1, -1, KS_NS_PER_S, -KS_NS_PER_S, 1234567890123456789, -999999999
	};

	for (size_t i = 0; i < KS_ARRAY_SIZE(times); i++) {
		struct timespec ts = ks_ns_to_ts(times[i]);

		ks_check(ts.tv_nsec >= 0 && ts.tv_nsec < KS_NS_PER_S);
		ks_check_eq(ks_ts_to_ns(ts), times[i]);
	}
}

KS_TEST(clocks_move_forward)
{
	int64_t mono = ks_clock_mono_ns();
	int64_t real = ks_clock_real_ns();

	usleep(1000);
	ks_check(ks_clock_mono_ns() - mono >= KS_NS_PER_MS);
	ks_check(real > 1700000000 * KS_NS_PER_S);
}

KS_TEST_MAIN()
