/* SPDX-License-Identifier: Apache-2.0 */
/*
 * array.h: arrays that grow. An array is its elements @v, how many there are, @n, and how many have room, @cap; where these lie is the owner's
 * matter. All zero is an empty array.
 *
 *	if (ks_array_room(&l->v, l->n, &l->cap) < 0)
 *		return -ENOMEM;
 *	l->v[l->n++] = x;
 *
 * Room doubles, so that n elements are copied some 2 n times at most. 0, or -ENOMEM when memory is short or what is asked for has more bytes than can be
 * counted: the array is then as it was, @v and @cap too. The new room is not cleared.
 */
#ifndef KS_BASE_ARRAY_H
#define KS_BASE_ARRAY_H

#include "base/buf.h"

/* For one more than @n elements of a malloc'ed array. It may move; free(3) ends it. */
#define ks_array_room(vp, n, cap) ks_array_reserve((vp), (n), (cap), 1)
/* For @more than @n. */
#define ks_array_reserve(vp, n, cap, more)                                                         \
	ks_array_reserve_of((vp), (n), (cap), (more), sizeof(**(vp)))
/* For one more than @n elements of an array in arena @a. It may move; the old elements stay where they were, until the arena is reset. */
#define ks_arena_room(a, vp, n, cap) ks_arena_room_of((a), (vp), (n), (cap), sizeof(**(vp)))

/* Behind the macros: @vp is the address of a pointer, @size the bytes of an element. */
int ks_array_grow(void *vp, size_t n, size_t *cap, size_t more, size_t size) KS_MUST_CHECK;
int ks_arena_grow(struct ks_arena *a, void *vp, size_t n, size_t *cap, size_t size) KS_MUST_CHECK;

static inline KS_MUST_CHECK int ks_array_reserve_of(void *vp, size_t n, size_t *cap, size_t more,
						    size_t size)
{
	return *cap - n >= more ? 0 : ks_array_grow(vp, n, cap, more, size);
}

static inline KS_MUST_CHECK int ks_arena_room_of(struct ks_arena *a, void *vp, size_t n,
						 size_t *cap, size_t size)
{
	return n < *cap ? 0 : ks_arena_grow(a, vp, n, cap, size);
}

#endif
