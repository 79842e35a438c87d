/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file_io.c: whole reads and writes of iovecs, buffered or O_DIRECT.
 *
 * An O_DIRECT put writes the aligned bulk from the caller's memory; the tail (a block's trailer) is copied behind it into a
 * padded bounce buffer, goes out in the same call, and ftruncate() then cuts the padding.
 */
#include "object/store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define BOUNCE_MAX ((size_t)16384)

static_assert(KS_FILE_IOV_BATCH <= IOV_MAX, "one system call takes a batch");

/* A place in a list of iovecs. */
struct iov_pos {
	const struct iovec *iov;
	int niov;
	size_t skip; /* of iov[0] */
};

/* Copies up to @cap iovecs of at most @limit bytes, and moves on. */
static int iov_take(struct iov_pos *p, struct iovec *v, int cap, size_t limit, size_t *bytes)
{
	int n = 0;

	*bytes = 0;
	while (p->niov > 0 && n < cap && *bytes < limit) {
		size_t len = p->iov->iov_len - p->skip;
		size_t take = ks_min(len, limit - *bytes);

		if (take > 0) {
			v[n].iov_base = (char *)p->iov->iov_base + p->skip;
			v[n++].iov_len = take;
			*bytes += take;
		}
		if (take < len) {
			p->skip += take;
			break;
		}
		p->iov++;
		p->niov--;
		p->skip = 0;
	}
	return n;
}

/* Drops the first @n bytes of v in place. */
static void iov_advance(struct iovec **v, int *nv, size_t n)
{
	while (n > 0) {
		size_t k = ks_min(n, (*v)->iov_len);

		(*v)->iov_base = (char *)(*v)->iov_base + k;
		(*v)->iov_len -= k;
		n -= k;
		if ((*v)->iov_len == 0) {
			(*v)++;
			(*nv)--;
		}
	}
}

static bool is_aligned(const void *p)
{
	return ((uintptr_t)p & (KS_DIO_ALIGN - 1)) == 0;
}

struct ks_io_shape ks_io_measure(const struct iovec *iov, int niov)
{
	struct ks_io_shape s = { 0, 0 };
	bool bulk = true;

	for (int i = 0; i < niov; i++) {
		size_t len = iov[i].iov_len;

		s.total += len;
		if (!bulk || len == 0)
			continue;
		if (is_aligned(iov[i].iov_base))
			s.bulk += ks_round_down(len, KS_DIO_ALIGN);
		bulk = s.bulk == s.total;
	}
	return s;
}

bool ks_io_aligned(uint64_t off, const struct iovec *iov, int niov)
{
	size_t total = 0;

	if ((off & (KS_DIO_ALIGN - 1)) != 0)
		return false;
	for (int i = 0; i < niov; i++) {
		if (!is_aligned(iov[i].iov_base) || (iov[i].iov_len & (KS_DIO_ALIGN - 1)) != 0)
			return false;
		total += iov[i].iov_len;
	}
	return total > 0;
}

/* Uses v up. With @align > 1 a short write is continued at the last multiple of it. */
static int write_batch(int fd, uint64_t off, struct iovec *v, int nv, size_t align)
{
	int stuck = 0;

	while (nv > 0) {
		ssize_t n = pwritev(fd, v, nv, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		n = (ssize_t)ks_round_down((uint64_t)n, align);
		if (n == 0 && ++stuck > 3)
			return -EIO;
		iov_advance(&v, &nv, (size_t)n);
		off += (uint64_t)n;
	}
	return 0;
}

static int write_from(int fd, uint64_t off, struct iov_pos *p)
{
	struct iovec v[KS_FILE_IOV_BATCH];
	size_t bytes;
	int r = 0, nv;

	while (r == 0 && (nv = iov_take(p, v, KS_FILE_IOV_BATCH, SIZE_MAX, &bytes)) > 0) {
		r = write_batch(fd, off, v, nv, 1);
		off += bytes;
	}
	return r;
}

int ks_io_write(int fd, uint64_t off, const struct iovec *iov, int niov)
{
	struct iov_pos p = { iov, niov, 0 };

	return write_from(fd, off, &p);
}

static void gather(struct iov_pos *p, char *to)
{
	for (; p->niov > 0; p->iov++, p->niov--, p->skip = 0) {
		size_t len = p->iov->iov_len - p->skip;

		if (len == 0)
			continue;
		memcpy(to, (char *)p->iov->iov_base + p->skip, len);
		to += len;
	}
}

static int clear_direct(int fd)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0 || fcntl(fd, F_SETFL, fl & ~O_DIRECT) < 0)
		return -errno;
	return 0;
}

int ks_io_write_direct(int fd, const struct iovec *iov, int niov, struct ks_io_shape shape)
{
	char bounce[BOUNCE_MAX] __attribute__((aligned(4096)));
	struct iov_pos p = { iov, niov, 0 };
	struct iovec v[KS_FILE_IOV_BATCH];
	size_t tail = shape.total - shape.bulk, padded = ks_round_up(tail, KS_DIO_ALIGN);
	uint64_t off = 0;
	int r;

	while (off < shape.bulk) {
		size_t bytes;
		int nv = iov_take(&p, v, KS_FILE_IOV_BATCH - 1, shape.bulk - off, &bytes);

		if (off + bytes == shape.bulk && tail > 0 && padded <= BOUNCE_MAX) {
			gather(&p, bounce);
			memset(bounce + tail, 0, padded - tail);
			v[nv].iov_base = bounce;
			v[nv++].iov_len = padded;
		}
		r = write_batch(fd, off, v, nv, KS_DIO_ALIGN);
		if (r < 0)
			return r;
		off += bytes;
	}
	if (tail == 0)
		return 0;
	if (padded <= BOUNCE_MAX)
		return padded != tail && KS_RETRY(ftruncate(fd, (off_t)shape.total)) < 0 ? -errno
											 : 0;
	r = clear_direct(fd);
	return r < 0 ? r : write_from(fd, off, &p);
}

ssize_t ks_io_read(int fd, uint64_t off, const struct iovec *iov, int niov, bool direct)
{
	struct iov_pos p = { iov, niov, 0 };
	struct iovec batch[KS_FILE_IOV_BATCH];
	ssize_t total = 0;
	size_t bytes;
	int nv;

	while ((nv = iov_take(&p, batch, KS_FILE_IOV_BATCH, SIZE_MAX, &bytes)) > 0) {
		struct iovec *v = batch;

		while (nv > 0) {
			ssize_t n = preadv(fd, v, nv, (off_t)(off + (uint64_t)total));

			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return -errno;
			total += n;
			/* An odd length is the file's end; O_DIRECT could not go on from there. */
			if (n == 0 || (direct && ((size_t)n & (KS_DIO_ALIGN - 1)) != 0))
				return total;
			iov_advance(&v, &nv, (size_t)n);
		}
	}
	return total;
}

static bool would_fit(struct ks_file_store *f, size_t n)
{
	struct statvfs st;

	return fstatvfs(f->rootfd, &st) == 0 && (uint64_t)st.f_bavail * st.f_frsize >= n;
}

bool ks_file_is_full(struct ks_file_store *f, int r, size_t n)
{
	if (r == -ENOSPC || r == -EDQUOT) {
		atomic_store(&f->too_much, n);
		return true;
	}
	if (r == 0 && __atomic_load_n(&f->full.said, __ATOMIC_RELAXED) &&
	    would_fit(f, atomic_load(&f->too_much)))
		ks_spell_over(&f->full, "%s has room again", f->root);
	return false;
}
