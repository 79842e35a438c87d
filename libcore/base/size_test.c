/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/size.h"
#include "base/tap.h"

KS_TEST(sizes_are_read)
{
	static const struct {
		const char *text;
		uint64_t want;
	} rows[] = {
		{ "0", 0 },
		{ "123", 123 },
		{ "123B", 123 },
		{ "4k", 4096 },
		{ "4K", 4096 },
		{ "4KiB", 4096 },
		{ "4kB", 4000 },
		{ "4KB", 4000 },
		{ "10M", 10 * KS_MIB },
		{ "10MB", 10000000 },
		{ "2GiB", 2 * KS_GIB },
		{ "1.5T", 1536 * KS_GIB },
		{ "1.2 GiB", 1288490188 },
		{ "0.5k", 512 },
		{ "0.0000000001k", 0 },
		{ "1P", (uint64_t)1 << 50 },
		{ "15E", (uint64_t)15 << 60 },
		{ "18446744073709551615", UINT64_MAX },
	};

	for (size_t i = 0; i < KS_ARRAY_SIZE(rows); i++) {
		uint64_t got = 1;

		printf("# %s\n", rows[i].text);
		ks_check_ok(ks_size_parse(rows[i].text, &got));
		ks_check_eq(got, rows[i].want);
	}
}

KS_TEST(bad_sizes_are_refused)
{
	static const char *const bad[] = { "",     " 1",  "1 ",   "k",   "-1",    "+1",  "1.5",
					   "1.k",  ".5k", "1x",   "1kk", "1Ki B", "1kb", "1 k B",
					   "0x10", "1e3", "none", "off", "1,5k" };
	static const char *const large[] = { "16E", "18446744073709551616",
					     "99999999999999999999999k", "17179869184G" };
	uint64_t v = 7;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		printf("# '%s'\n", bad[i]);
		ks_check_eq(ks_size_parse(bad[i], &v), -EINVAL);
	}
	for (size_t i = 0; i < KS_ARRAY_SIZE(large); i++)
		ks_check_eq(ks_size_parse(large[i], &v), -ERANGE);
	ks_check_eq(ks_size_parse("99999999999999999999999x", &v), -EINVAL);
	ks_check_eq(v, 7);
}

KS_TEST(durations_are_read)
{
	static const struct {
		const char *text;
		int64_t want;
	} rows[] = {
		{ "0", 0 },
		{ "30", 30 * KS_NS_PER_S },
		{ "1.5", 1500 * KS_NS_PER_MS },
		{ "30s", 30 * KS_NS_PER_S },
		{ "100ms", 100 * KS_NS_PER_MS },
		{ "5us", 5000 },
		{ "5ns", 5 },
		{ "5m", 300 * KS_NS_PER_S },
		{ "2h", 7200 * KS_NS_PER_S },
		{ "0.5h", 1800 * KS_NS_PER_S },
		{ "3d", 3 * 86400 * KS_NS_PER_S },
		{ "1w", 7 * 86400 * KS_NS_PER_S },
	};
	static const char *const bad[] = { "", "s", "-1s", "1y", "1 s", "1h30m", "none", "1S" };
	int64_t v = 0;

	for (size_t i = 0; i < KS_ARRAY_SIZE(rows); i++) {
		ks_check_ok(ks_duration_parse(rows[i].text, &v));
		ks_check_eq(v, rows[i].want);
	}
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check_eq(ks_duration_parse(bad[i], &v), -EINVAL);
	ks_check_eq(ks_duration_parse("9999999999", &v), -ERANGE);
	ks_check_eq(ks_duration_parse("99999999999999999999", &v), -ERANGE);
}

KS_TEST(off_is_nothing_where_it_is_allowed)
{
	uint64_t v = 7;
	int64_t ns = 7;

	ks_check_ok(ks_size_parse_opt("none", &v));
	ks_check_eq(v, 0);
	ks_check_ok(ks_size_parse_opt("4k", &v));
	ks_check_eq(v, 4096);
	ks_check_ok(ks_size_parse_opt("off", &v));
	ks_check_eq(v, 0);
	ks_check_eq(ks_size_parse_opt("offline", &v), -EINVAL);
	ks_check_ok(ks_duration_parse_opt("off", &ns));
	ks_check_eq(ns, 0);
	ks_check_ok(ks_duration_parse_opt("1s", &ns));
	ks_check_eq(ns, KS_NS_PER_S);
}

KS_TEST(sizes_are_printed)
{
	static const struct {
		uint64_t v;
		const char *want;
	} rows[] = {
		{ 0, "0 B" },
		{ 1023, "1023 B" },
		{ 1024, "1 KiB" },
		{ 1536, "1.5 KiB" },
		{ 64 * KS_KIB, "64 KiB" },
		{ KS_MIB - 1, "1 MiB" },
		{ 1288490189, "1.2 GiB" },
		{ 1234 * KS_GIB, "1.2 TiB" },
		{ UINT64_MAX, "16 EiB" },
	};
	char s[KS_SIZE_STR];

	for (size_t i = 0; i < KS_ARRAY_SIZE(rows); i++) {
		ks_size_format(rows[i].v, s);
		ks_check_str(s, rows[i].want);
	}
}

KS_TEST_MAIN()
