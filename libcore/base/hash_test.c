/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/tap.h"

KS_TEST(crc32c_known_answers)
{
	uint8_t zeros[32] = { 0 };
	uint8_t ones[32];

	memset(ones, 0xff, sizeof(ones));
	ks_check_eq(ks_crc32c(0, "123456789", 9), 0xe3069283);
	ks_check_eq(ks_crc32c(0, "", 0), 0);
	/* RFC 3720, B.4 */
	ks_check_eq(ks_crc32c(0, zeros, sizeof(zeros)), 0x8a9136aa);
	ks_check_eq(ks_crc32c(0, ones, sizeof(ones)), 0x62a8ab43);
}

KS_TEST(crc32c_chains_at_every_split)
{
	uint8_t data[300];
	uint32_t whole;

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + 3);
	whole = ks_crc32c(0, data, sizeof(data));
	for (size_t i = 0; i <= sizeof(data); i++)
		ks_check_eq(ks_crc32c(ks_crc32c(0, data, i), data + i, sizeof(data) - i), whole);
}

KS_TEST(siphash_known_answers)
{
	/* The paper's test vectors: key 00..0f, input 00..n-1. */
	static const uint64_t want[] = { 0x726fdb47dd0e0e31, 0x74f839c593dc67fd, 0x0d6c8009d9a94f5a,
					 0x85676696d7fb7e2d };
	uint8_t key[16];
	uint8_t in[16];

	for (int i = 0; i < 16; i++)
		key[i] = in[i] = (uint8_t)i;
	for (size_t i = 0; i < KS_ARRAY_SIZE(want); i++)
		ks_check_eq(ks_siphash(key, in, i), want[i]);
	ks_check_eq(ks_siphash(key, in, 8), 0x93f5f5799a932462);
	ks_check_eq(ks_siphash(key, in, 15), 0xa129ca6149be45e5);
}

KS_TEST(random_bytes_differ)
{
	uint8_t a[1000] = { 0 };
	uint8_t b[1000] = { 0 };

	ks_check_ok(ks_random(a, sizeof(a)));
	ks_check_ok(ks_random(b, sizeof(b)));
	ks_check(memcmp(a, b, sizeof(a)) != 0);
	ks_check_ok(ks_random(NULL, 0));
}

KS_TEST(uuids_are_version_4_and_come_back)
{
	char s[KS_UUID_STR];
	uint8_t u[16];
	uint8_t back[16];

	for (int i = 0; i < 100; i++) {
		ks_check_ok(ks_uuid_new(u));
		ks_uuid_format(u, s);
		ks_check_eq(strlen(s), 36);
		ks_check_eq(s[14], '4');
		ks_check(strchr("89ab", s[19]));
		ks_check_ok(ks_uuid_parse(s, back));
		ks_check_mem(back, u, 16);
	}
	ks_check_ok(ks_uuid_parse("01234567-89AB-cdef-0123-456789abcdef", u));
	ks_uuid_format(u, s);
	ks_check_str(s, "01234567-89ab-cdef-0123-456789abcdef");
}

KS_TEST(what_is_no_uuid_is_refused)
{
	static const char *const bad[] = { "",
					   "0",
					   "01234567",
					   "0123456789abcdef0123456789abcdef",
					   "01234567-89ab-cdef-0123-456789abcde",
					   "01234567-89ab-cdef-0123-456789abcdef0",
					   "01234567-89ab-cdef-0123-456789abcdeg",
					   "01234567-89ab-cdef-0123+456789abcdef" };
	uint8_t u[16] = { 1 };

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check_eq(ks_uuid_parse(bad[i], u), -EINVAL);
	ks_check_eq(u[0], 1);
}

KS_TEST_MAIN()
