/* SPDX-License-Identifier: Apache-2.0 */
/* array.c: how growing arrays grow. */
#include "base/array.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first room: that of some elements, without much waste where only one comes. */
#define FIRST_BYTES 256
#define FIRST_ELEMENTS 4

/* Twice @cap, and at least @want: the bytes, and how many elements they hold. False: too many to be counted. */
static bool grown(size_t *cap, size_t want, size_t size, size_t *bytes)
{
	size_t least = ks_max(FIRST_BYTES / size, (size_t)FIRST_ELEMENTS);
	size_t twice;

	if (__builtin_add_overflow(*cap, *cap, &twice))
		return false;
	least = ks_max(least, want);
	*cap = ks_max(least, twice);
	return !__builtin_mul_overflow(*cap, size, bytes);
}

int ks_array_grow(void *vp, size_t n, size_t *cap, size_t more, size_t size)
{
	size_t to = *cap;
	size_t want, bytes;
	void *v;

	if (__builtin_add_overflow(n, more, &want) || !grown(&to, want, size, &bytes))
		return -ENOMEM;
	/* Copied: @vp is the address of some pointer type, which a void ** would alias wrongly. */
	memcpy(&v, vp, sizeof(v));
	v = realloc(v, bytes);
	if (!v)
		return -ENOMEM;
	memcpy(vp, &v, sizeof(v));
	*cap = to;
	return 0;
}

int ks_arena_grow(struct ks_arena *a, void *vp, size_t n, size_t *cap, size_t size)
{
	size_t to = *cap;
	size_t bytes;
	void *old, *v;

	if (!grown(&to, n + 1, size, &bytes))
		return -ENOMEM;
	v = ks_arena_alloc(a, bytes);
	if (!v)
		return -ENOMEM;
	memcpy(&old, vp, sizeof(old));
	if (n)
		memcpy(v, old, n * size);
	memcpy(vp, &v, sizeof(v));
	*cap = to;
	return 0;
}
