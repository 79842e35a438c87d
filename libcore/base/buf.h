/* SPDX-License-Identifier: Apache-2.0 */
/* buf.h: a growing byte buffer, and an arena for what dies together. A zeroed struct is empty. */
#ifndef KS_BASE_BUF_H
#define KS_BASE_BUF_H

#include "base/def.h"

struct ks_buf {
	char *p;
	size_t n;
	size_t cap;
};

void ks_buf_clear(struct ks_buf *b); /* frees; b is empty and valid again */
int ks_buf_reserve(struct ks_buf *b, size_t more) KS_MUST_CHECK;
int ks_buf_append(struct ks_buf *b, const void *p, size_t n) KS_MUST_CHECK;
int ks_buf_printf(struct ks_buf *b, const char *fmt, ...) KS_MUST_CHECK KS_PRINTF(2, 3);
/* NUL-terminates without counting the NUL. */
int ks_buf_cstr(struct ks_buf *b, const char **out) KS_MUST_CHECK;
int ks_buf_to_fd(const struct ks_buf *b, int fd) KS_MUST_CHECK; /* all of it, or -errno */
/* Replaces the file at @path, or makes it: who reads it finds the old content or the new, whole. Raised. */
int ks_buf_to_file(const struct ks_buf *b, const char *path) KS_MUST_CHECK;

/*
 * Bump allocator. ks_arena_reset() forgets everything and keeps the first piece of memory, so that a
 * reused arena allocates nothing in its steady state.
 */
struct ks_arena {
	struct ks_arena_piece *head;
	size_t used; /* of head */
};

void *ks_arena_alloc(struct ks_arena *a, size_t n); /* 16-byte aligned; NULL: out of memory */
void *ks_arena_copy(struct ks_arena *a, const void *p, size_t n);
void ks_arena_reset(struct ks_arena *a);
void ks_arena_clear(struct ks_arena *a); /* frees all */

void ks_freep(void *pp); /* for KS_AUTO on a malloc'ed pointer */
void ks_closep(int *fd); /* for KS_AUTO on a descriptor; -1 is nothing */
char *ks_asprintf(const char *fmt, ...) KS_PRINTF(1, 2); /* owned; NULL: out of memory */

#endif
