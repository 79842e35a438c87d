/* SPDX-License-Identifier: Apache-2.0 */
/* hash.h: checksums, keyed hashes, random bytes, UUIDs. */
#ifndef KS_BASE_HASH_H
#define KS_BASE_HASH_H

#include "base/def.h"

/* CRC-32C (Castagnoli), as stored: ks_crc32c(0, "123456789", 9) == 0xe3069283. Chainable. */
uint32_t ks_crc32c(uint32_t crc, const void *p, size_t n);

/* SipHash-2-4. Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012. */
uint64_t ks_siphash(const uint8_t key[16], const void *p, size_t n);

/* Mixes a 64-bit integer for a hash table (not stored anywhere). */
static inline uint64_t ks_mix64(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdull;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53ull;
	return x ^ (x >> 33);
}

int ks_random(void *p, size_t n) KS_MUST_CHECK;

#define KS_UUID_STR 37
int ks_uuid_new(uint8_t out[16]) KS_MUST_CHECK; /* version 4 */
void ks_uuid_format(const uint8_t uuid[16], char out[KS_UUID_STR]);
int ks_uuid_parse(const char *text, uint8_t out[16]) KS_MUST_CHECK; /* -EINVAL */

#endif
