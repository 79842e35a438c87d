/* SPDX-License-Identifier: Apache-2.0 */
/* hash.c: CRC-32C by ISA-L, SipHash, the kernel's random bytes, UUIDs. */
#include "base/hash.h"
#include "base/log.h"
#include <endian.h>
#include <errno.h>
#include <isa-l/crc.h>
#include <string.h>
#include <sys/random.h>

uint32_t ks_crc32c(uint32_t crc, const void *p, size_t n)
{
	const uintptr_t at = (uintptr_t)p;

	/* ISA-L wants and gives the register, which is the complement of the checksum; its length
	 * is an int. */
	crc = ~crc;
	for (size_t done = 0; done < n;) {
		size_t part = ks_min(n - done, (size_t)KS_GIB);

		crc = crc32_iscsi((unsigned char *)(at + done), (int)part, crc);
		done += part;
	}
	return ~crc;
}

static inline uint64_t rotl(uint64_t x, int by)
{
	return (x << by) | (x >> (64 - by));
}

static inline uint64_t load_le64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
	while (rounds-- > 0) {
		v[0] += v[1];
		v[1] = rotl(v[1], 13) ^ v[0];
		v[0] = rotl(v[0], 32);
		v[2] += v[3];
		v[3] = rotl(v[3], 16) ^ v[2];
		v[0] += v[3];
		v[3] = rotl(v[3], 21) ^ v[0];
		v[2] += v[1];
		v[1] = rotl(v[1], 17) ^ v[2];
		v[2] = rotl(v[2], 32);
	}
}

uint64_t ks_siphash(const uint8_t key[16], const void *p, size_t n)
{
	const uint8_t *in = p;
	uint64_t k0 = load_le64(key);
	uint64_t k1 = load_le64(key + 8);
	uint64_t v[4] = { k0 ^ 0x736f6d6570736575ull, k1 ^ 0x646f72616e646f6dull,
			  k0 ^ 0x6c7967656e657261ull, k1 ^ 0x7465646279746573ull };
	uint8_t tail[8] = { 0 };
	uint64_t m;
	size_t i;

	for (i = 0; n - i >= 8; i += 8) {
		m = load_le64(in + i);
		v[3] ^= m;
		sip_rounds(v, 2);
		v[0] ^= m;
	}
	if (n > i)
		memcpy(tail, in + i, n - i);
	tail[7] = (uint8_t)n;
	m = load_le64(tail);
	v[3] ^= m;
	sip_rounds(v, 2);
	v[0] ^= m;
	v[2] ^= 0xff;
	sip_rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int ks_random(void *p, size_t n)
{
	char *at = p;

	while (n > 0) {
		ssize_t got = getrandom(at, n, 0);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			return ks_fail(-errno, "read %zu random bytes", n);
		}
		at += got;
		n -= (size_t)got;
	}
	return 0;
}

int ks_uuid_new(uint8_t out[16])
{
	uint8_t u[16];
	int r = ks_random(u, sizeof(u));

	if (r < 0)
		return r;
	u[6] = (u[6] & 0x0f) | 0x40;
	u[8] = (u[8] & 0x3f) | 0x80;
	memcpy(out, u, sizeof(u));
	return 0;
}

/* A dash follows these bytes: 8-4-4-4-12 digits. */
static bool dash_after(int i)
{
	return i == 3 || i == 5 || i == 7 || i == 9;
}

void ks_uuid_format(const uint8_t uuid[16], char out[KS_UUID_STR])
{
	static const char digits[] = "0123456789abcdef";

	for (int i = 0; i < 16; i++) {
		*out++ = digits[uuid[i] >> 4];
		*out++ = digits[uuid[i] & 15];
		if (dash_after(i))
			*out++ = '-';
	}
	*out = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int ks_uuid_parse(const char *text, uint8_t out[16])
{
	uint8_t u[16];

	for (int i = 0; i < 16; i++) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0)
			return -EINVAL;
		u[i] = (uint8_t)(high << 4 | low);
		text += 2;
		if (dash_after(i) && *text++ != '-')
			return -EINVAL;
	}
	if (*text != '\0')
		return -EINVAL;
	memcpy(out, u, sizeof(u));
	return 0;
}
