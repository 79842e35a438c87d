/* SPDX-License-Identifier: Apache-2.0 */
/* def.h: the few macros that every file uses. */
#ifndef KS_BASE_DEF_H
#define KS_BASE_DEF_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The release: --version, sessions and the volumes that were made by it. */
#define KS_VERSION "0.1.0"

#define KS_MUST_CHECK __attribute__((warn_unused_result))
#define KS_PRINTF(f, a) __attribute__((format(printf, f, a)))

/* Runs @fn on the variable's address at scope end. Initialise on the declaring line. */
#define KS_AUTO(fn) __attribute__((cleanup(fn)))

/* Takes the pointer out of a KS_AUTO variable, which then owns nothing. */
#define ks_steal(pp)                                                                               \
	__extension__({                                                                            \
		__typeof__(*(pp)) ks_v_ = *(pp);                                                   \
		*(pp) = NULL;                                                                      \
		ks_v_;                                                                             \
	})

/* For a result that is deliberately not looked at; say why beside it. */
#define KS_IGNORE(expr)                                                                            \
	do {                                                                                       \
		if (expr) {                                                                        \
		}                                                                                  \
	} while (0)

#define KS_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define KS_CAT_(a, b) a##b
#define KS_CAT(a, b) KS_CAT_(a, b)

#define ks_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define ks_min(a, b)                                                                               \
	__extension__({                                                                            \
		__typeof__(a) ks_a_ = (a);                                                         \
		__typeof__(b) ks_b_ = (b);                                                         \
		ks_a_ < ks_b_ ? ks_a_ : ks_b_;                                                     \
	})
#define ks_max(a, b)                                                                               \
	__extension__({                                                                            \
		__typeof__(a) ks_a_ = (a);                                                         \
		__typeof__(b) ks_b_ = (b);                                                         \
		ks_a_ > ks_b_ ? ks_a_ : ks_b_;                                                     \
	})

/* A system call, again when a signal has interrupted it. Needs errno.h. */
#define KS_RETRY(call)                                                                             \
	__extension__({                                                                            \
		__typeof__(call) ks_r_;                                                            \
		do                                                                                 \
			ks_r_ = (call);                                                            \
		while (ks_r_ < 0 && errno == EINTR);                                               \
		ks_r_;                                                                             \
	})

/* @a must be a power of two. */
static inline uint64_t ks_round_up(uint64_t v, uint64_t a)
{
	return (v + a - 1) & ~(a - 1);
}

static inline uint64_t ks_round_down(uint64_t v, uint64_t a)
{
	return v & ~(a - 1);
}

/* A macro's value as a literal string. */
#define KS_STRING(x) KS_STRING_OF(x)
#define KS_STRING_OF(x) #x

#define KS_KIB ((uint64_t)1 << 10)
#define KS_MIB ((uint64_t)1 << 20)
#define KS_GIB ((uint64_t)1 << 30)

/* The sizes of doc/format.md that are the same in every volume. */
#define KS_PAGE_SIZE (64 * KS_KIB)
#define KS_CHUNK_SIZE (64 * KS_MIB)
#define KS_BLOCK_MIN (64 * KS_KIB)
#define KS_BLOCK_MAX (16 * KS_MIB)
#define KS_BLOCK_DEFAULT (4 * KS_MIB)
#define KS_NAME_MAX 255u
#define KS_SYMLINK_MAX 4095u
#define KS_XATTR_NAME_MAX 255u
#define KS_XATTR_VALUE_MAX 65536u
#define KS_LINK_MAX 2147483647u
#define KS_ROOT_INO 1u
#define KS_TRASH_INO 15u /* the directory of what was removed; no path leads there */
/* Largest file: 2^31 chunks are 128 PiB; offsets stay far from overflow. */
#define KS_FILE_MAX (KS_CHUNK_SIZE << 31)

/* Borrowed bytes; the owner is said where they appear. */
struct ks_bytes {
	const void *p;
	size_t n;
};

#endif
