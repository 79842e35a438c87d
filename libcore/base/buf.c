/* SPDX-License-Identifier: Apache-2.0 */
/* buf.c: growing buffers and arenas. */
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUF_MIN 64
#define PIECE_MIN 4000 /* with its header still below a page */
#define PIECE_DOUBLE_UNTIL KS_MIB

void ks_buf_clear(struct ks_buf *b)
{
	free(b->p);
	*b = (struct ks_buf){ 0 };
}

int ks_buf_reserve(struct ks_buf *b, size_t more)
{
	size_t want;
	size_t cap;
	char *p;

	if (__builtin_add_overflow(b->n, more, &want))
		return -ENOMEM;
	if (want <= b->cap)
		return 0;
	/* Half as much again keeps appending linear; the request itself may be more. */
	if (__builtin_add_overflow(b->cap, b->cap / 2, &cap) || cap < want)
		cap = want;
	cap = ks_max(cap, (size_t)BUF_MIN);
	p = realloc(b->p, cap);
	if (!p)
		return -ENOMEM;
	b->p = p;
	b->cap = cap;
	return 0;
}

int ks_buf_append(struct ks_buf *b, const void *p, size_t n)
{
	int r = ks_buf_reserve(b, n);

	if (r < 0)
		return r;
	if (n > 0)
		memcpy(b->p + b->n, p, n);
	b->n += n;
	return 0;
}

KS_PRINTF(2, 0) static int buf_vprintf(struct ks_buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;
	int r;

	va_copy(again, ap);
	n = vsnprintf(b->p ? b->p + b->n : NULL, b->cap - b->n, fmt, ap);
	if (n < 0) {
		r = -EINVAL;
	} else if ((size_t)n < b->cap - b->n) {
		r = 0;
	} else {
		r = ks_buf_reserve(b, (size_t)n + 1);
		if (r == 0)
			vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	if (r == 0)
		b->n += (size_t)n;
	return r;
}

int ks_buf_printf(struct ks_buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

int ks_buf_cstr(struct ks_buf *b, const char **out)
{
	int r = ks_buf_reserve(b, 1);

	if (r < 0)
		return r;
	b->p[b->n] = '\0';
	*out = b->p;
	return 0;
}

struct ks_arena_piece {
	struct ks_arena_piece *older;
	size_t cap;
	alignas(16) char data[];
};

void *ks_arena_alloc(struct ks_arena *a, size_t n)
{
	struct ks_arena_piece *piece = a->head;
	size_t cap = PIECE_MIN;
	size_t total;
	void *p;

	if (n > SIZE_MAX - 16)
		return NULL;
	n = ks_round_up(n, 16);
	if (!piece || piece->cap - a->used < n) {
		if (piece)
			cap = ks_min(piece->cap * 2, (size_t)PIECE_DOUBLE_UNTIL);
		cap = ks_max(cap, n);
		if (__builtin_add_overflow(cap, sizeof(*piece), &total))
			return NULL;
		piece = malloc(total);
		if (!piece)
			return NULL;
		piece->older = a->head;
		piece->cap = cap;
		a->head = piece;
		a->used = 0;
	}
	p = piece->data + a->used;
	a->used += n;
	return p;
}

void *ks_arena_copy(struct ks_arena *a, const void *p, size_t n)
{
	void *copy = ks_arena_alloc(a, n);

	if (copy && n > 0)
		memcpy(copy, p, n);
	return copy;
}

/* Frees every piece but @keep. */
static void arena_free(struct ks_arena *a, const struct ks_arena_piece *keep)
{
	struct ks_arena_piece *older;

	for (struct ks_arena_piece *p = a->head; p; p = older) {
		older = p->older;
		if (p != keep)
			free(p);
	}
}

void ks_arena_reset(struct ks_arena *a)
{
	struct ks_arena_piece *largest = a->head;

	/* The largest piece is the one that makes the next round need no second. */
	for (struct ks_arena_piece *p = a->head; p; p = p->older) {
		if (p->cap > largest->cap)
			largest = p;
	}
	arena_free(a, largest);
	if (largest)
		largest->older = NULL;
	a->head = largest;
	a->used = 0;
}

void ks_arena_clear(struct ks_arena *a)
{
	arena_free(a, NULL);
	*a = (struct ks_arena){ 0 };
}

void ks_freep(void *pp)
{
	void *p;

	/* @pp is a pointer to some pointer type; copied, since a void ** would alias it wrongly. */
	memcpy(&p, pp, sizeof(p));
	free(p);
}

void ks_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

char *ks_asprintf(const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : p;
}

int ks_buf_to_fd(const struct ks_buf *b, int fd)
{
	for (size_t done = 0; done < b->n;) {
		ssize_t n = write(fd, b->p + done, b->n - done);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int ks_buf_to_file(const struct ks_buf *b, const char *path)
{
	KS_AUTO(ks_freep) char *tmp = ks_asprintf("%s.%d", path, (int)getpid());
	KS_AUTO(ks_closep) int fd = -1;
	int r;

	if (!tmp)
		return -ENOMEM;
	/* What a killed process of this number left behind. */
	KS_IGNORE(unlink(tmp) < 0);
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return ks_fail(-errno, "write %s", tmp);
	r = ks_buf_to_fd(b, fd);
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return ks_fail(r, "write %s", path);
	}
	return 0;
}
