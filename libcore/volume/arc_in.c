/* SPDX-License-Identifier: Apache-2.0 */
/* arc_in.c: reads an archive from a file or a stream. */
#include "base/log.h"
#include "volume/arc.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_SIZE ((size_t)256 * KS_KIB)
#define POLL_MS 200

struct ks_arc_in {
	struct archive *a;
	char *path;
	int fd;
	bool seekable;
	bool any; /* a member was seen */
	bool (*stopped)(void *arg);
	void *arg;
	int err; /* of the last read(2) */
	uint64_t size;
	_Atomic uint64_t bytes; /* any thread reads it */
	char *buf;
};

static int fail(struct ks_arc_in *in, const char *what)
{
	const char *text = archive_error_string(in->a);
	char hint[120];

	if (in->err == EINTR)
		return ks_fail(-EINTR, "read %s", in->path);
	if (in->err)
		return ks_fail(-in->err, "read %s", in->path);
	if (archive_errno(in->a) == ENOMEM)
		return ks_fail(-ENOMEM, "read %s", in->path);
	snprintf(hint, sizeof(hint), "%s",
		 in->any ? "it is damaged or cut short; get another copy"
			 : "is it the right file?");
	return ks_fail_hint(-EBADMSG, hint, "%s: %s: %s", in->path, what,
			    text ? text : "no archive");
}

/* ---- what libarchive asks for ---- */

static la_ssize_t on_read(struct archive *a, void *arg, const void **p)
{
	struct ks_arc_in *in = arg;
	struct pollfd pfd = { .fd = in->fd, .events = POLLIN };

	for (;;) {
		ssize_t n;

		if (in->stopped && in->stopped(in->arg)) {
			in->err = EINTR;
			archive_set_error(a, EINTR, "stopped");
			return -1;
		}
		if (!in->seekable && poll(&pfd, 1, POLL_MS) == 0)
			continue;
		n = read(in->fd, in->buf, READ_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			in->err = errno;
			archive_set_error(a, errno, "read");
			return -1;
		}
		in->bytes += (uint64_t)n;
		*p = in->buf;
		return n;
	}
}

static la_int64_t on_skip(struct archive *a, void *arg, la_int64_t n)
{
	struct ks_arc_in *in = arg;
	off_t at = in->seekable ? lseek(in->fd, 0, SEEK_CUR) : -1;

	(void)a;
	/* Not beyond the end, where a cut archive would go unnoticed. */
	if (at < 0 || n <= 0 || (uint64_t)at >= in->size)
		return 0;
	n = ks_min(n, (la_int64_t)(in->size - (uint64_t)at));
	if (lseek(in->fd, n, SEEK_CUR) < 0)
		return 0;
	in->bytes += (uint64_t)n;
	return n;
}

static la_int64_t on_seek(struct archive *a, void *arg, la_int64_t off, int whence)
{
	struct ks_arc_in *in = arg;
	off_t at = lseek(in->fd, off, whence);

	if (at < 0) {
		archive_set_error(a, errno, "seek");
		return ARCHIVE_FATAL;
	}
	return at;
}

/*
 * Those that are read from the stream alone. Not mtree, whose members may be any file of this machine, not raw, which is everything, and no
 * filter that is a program.
 */
static int add_formats(struct archive *a)
{
	static int (*const add[])(struct archive *) = {
		archive_read_support_format_tar,      archive_read_support_format_cpio,
		archive_read_support_format_zip,      archive_read_support_format_7zip,
		archive_read_support_format_iso9660,  archive_read_support_format_ar,
		archive_read_support_format_cab,      archive_read_support_format_lha,
		archive_read_support_format_rar,      archive_read_support_format_rar5,
		archive_read_support_format_xar,      archive_read_support_format_warc,
		archive_read_support_format_empty,    archive_read_support_filter_bzip2,
		archive_read_support_filter_compress, archive_read_support_filter_gzip,
		archive_read_support_filter_lzip,     archive_read_support_filter_lzma,
		archive_read_support_filter_lz4,      archive_read_support_filter_uu,
		archive_read_support_filter_xz,       archive_read_support_filter_zstd,
		archive_read_support_filter_rpm,
	};

	/* ARCHIVE_WARN: built without its library; then such an archive is not recognised. */
	for (size_t i = 0; i < KS_ARRAY_SIZE(add); i++)
		if (add[i](a) < ARCHIVE_WARN)
			return -ENOMEM;
	return 0;
}

int ks_arc_in_open(struct ks_arc_in **out, const char *path, bool (*stopped)(void *arg), void *arg)
{
	struct ks_arc_in *in = calloc(1, sizeof(*in));
	struct stat st = { 0 };
	int r;

	if (!in)
		return -ENOMEM;
	in->stopped = stopped;
	in->arg = arg;
	in->path = strcmp(path, "-") == 0 ? strdup("standard input") : strdup(path);
	in->buf = malloc(READ_SIZE);
	in->a = archive_read_new();
	in->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
	r = in->path && in->buf && in->a ? add_formats(in->a) : -ENOMEM;
	if (r == 0 && (in->fd < 0 || fstat(in->fd, &st) < 0))
		r = ks_fail(-errno, "open %s", in->path);
	if (r == 0 && S_ISDIR(st.st_mode))
		r = ks_fail_hint(-EISDIR, "kiseki-cp -a copies directories", "%s is no archive",
				 in->path);
	if (r == 0) {
		in->seekable = S_ISREG(st.st_mode) || S_ISBLK(st.st_mode);
		in->size = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
		archive_read_set_callback_data(in->a, in);
		archive_read_set_read_callback(in->a, on_read);
		if (S_ISREG(st.st_mode)) {
			archive_read_set_skip_callback(in->a, on_skip);
			archive_read_set_seek_callback(in->a, on_seek);
		}
		if (archive_read_open1(in->a) != ARCHIVE_OK)
			r = fail(in, "open");
	}
	if (r < 0) {
		ks_arc_in_free(in);
		return r;
	}
	*out = in;
	return 0;
}

int ks_arc_in_next(struct ks_arc_in *in, struct archive_entry **e)
{
	int rc;

	do {
		rc = archive_read_next_header(in->a, e);
	} while (rc == ARCHIVE_RETRY);
	if (rc == ARCHIVE_EOF)
		return in->any || in->size || in->bytes ? 0 : fail(in, "it is empty");
	if (rc < ARCHIVE_WARN)
		return fail(in, in->any ? "cannot go on" : "not an archive that can be read");
	in->any = true;
	return 1;
}

int ks_arc_in_data(struct ks_arc_in *in, const void **p, size_t *n, uint64_t *off)
{
	la_int64_t at = 0;
	int rc;

	*n = 0;
	*off = 0;
	do {
		rc = archive_read_data_block(in->a, p, n, &at);
	} while (rc == ARCHIVE_RETRY);
	if (rc == ARCHIVE_EOF)
		return 0;
	if (rc == ARCHIVE_WARN || rc == ARCHIVE_FAILED) {
		const char *text = archive_error_string(in->a);

		return ks_fail(-EILSEQ, "%s: %s", in->path, text ? text : "a member is damaged");
	}
	if (rc != ARCHIVE_OK)
		return fail(in, "cannot go on");
	if (at < 0)
		return ks_fail(-EBADMSG, "%s: a member's data lies at a negative offset", in->path);
	*off = (uint64_t)at;
	return 1;
}

int ks_arc_in_all(struct ks_arc_in *in, struct ks_buf *out, size_t most)
{
	const void *p;
	uint64_t off;
	size_t n;
	int r;

	while ((r = ks_arc_in_data(in, &p, &n, &off)) > 0) {
		if (off != out->n || n > most - out->n)
			return ks_fail(-EBADMSG, "%s: a member is larger than it can be", in->path);
		r = ks_buf_append(out, p, n);
		if (r < 0)
			return r;
	}
	return r;
}

const char *ks_arc_in_format(const struct ks_arc_in *in)
{
	const char *name = archive_format_name(in->a);

	return name ? name : "archive";
}

bool ks_arc_in_is_tar(const struct ks_arc_in *in)
{
	return (archive_format(in->a) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;
}

uint64_t ks_arc_in_bytes(const struct ks_arc_in *in)
{
	return in->bytes;
}

uint64_t ks_arc_in_size(const struct ks_arc_in *in)
{
	return in->size;
}

void ks_arc_in_free(struct ks_arc_in *in)
{
	if (!in)
		return;
	if (in->a)
		archive_read_free(in->a);
	if (in->fd > STDERR_FILENO)
		close(in->fd);
	free(in->buf);
	free(in->path);
	free(in);
}
