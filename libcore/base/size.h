/* SPDX-License-Identifier: Apache-2.0 */
/* size.h: sizes and durations as people write them in options, configuration and environment. */
#ifndef KS_BASE_SIZE_H
#define KS_BASE_SIZE_H

#include "base/def.h"

/* The accepted forms, for messages about a bad value. */
#define KS_SIZE_FORMS "123, 4k, 10M, 2GiB, 1.5T (k, M, G, T = 1024; kB, MB = 1000; bare = bytes)"
#define KS_DURATION_FORMS "100ms, 30s, 5m, 2h, 3d (bare = seconds)"

/*
 * Neither logs: the caller knows which option it was. Outputs are untouched on error. A fraction
 * needs a unit, and what is less than a byte or a nanosecond is dropped. Return: 0; -EINVAL not of
 * the accepted forms; -ERANGE too large.
 */
int ks_size_parse(const char *text, uint64_t *out) KS_MUST_CHECK;
int ks_duration_parse(const char *text, int64_t *ns) KS_MUST_CHECK;

/* The same, where the thing can be switched off: "none" and "off" give 0. */
int ks_size_parse_opt(const char *text, uint64_t *out) KS_MUST_CHECK;
int ks_duration_parse_opt(const char *text, int64_t *ns) KS_MUST_CHECK;

/* "512 B", "64 KiB", "1.2 GiB": at most one decimal, rounded. */
#define KS_SIZE_STR 32
void ks_size_format(uint64_t bytes, char out[KS_SIZE_STR]);

#endif
