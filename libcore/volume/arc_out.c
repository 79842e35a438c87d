/* SPDX-License-Identifier: Apache-2.0 */
/* arc_out.c: writes an archive to a file or a stream. */
#include "base/log.h"
#include "volume/arc.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct ks_arc_out {
	struct archive *a;
	char *path;
	char *tmp; /* NULL: written where it stands */
	int fd;
	int err;                /* of the last write(2) */
	_Atomic uint64_t bytes; /* any thread reads it */
	bool in_entry;
	bool discard; /* it is given up */
	bool (*stopped)(void *arg);
	void *arg;
};

static int fail(struct ks_arc_out *o, const char *what)
{
	int err = o->err ? o->err : archive_errno(o->a);
	const char *hint =
		err == ENOSPC ? "nothing is left of it: make room and start again" : NULL;

	/* libarchive's own numbers are negative. */
	if (err <= 0)
		err = EIO;
	if (o->err)
		return ks_fail_hint(-err, hint, "write %s", o->path);
	return ks_fail_hint(-err, hint, "%s %s: %s", what, o->path,
			    archive_error_string(o->a) ? archive_error_string(o->a) : "failed");
}

static la_ssize_t on_write(struct archive *a, void *arg, const void *p, size_t n)
{
	struct ks_arc_out *o = arg;
	const char *at = p;

	for (size_t left = o->discard ? 0 : n; left;) {
		ssize_t put = write(o->fd, at, left);

		if (put < 0 && errno == EINTR && !(o->stopped && o->stopped(o->arg)))
			continue;
		if (put <= 0) {
			o->err = put < 0 ? errno : EIO;
			archive_set_error(a, o->err, "write");
			return -1;
		}
		at += put;
		left -= (size_t)put;
		o->bytes += (uint64_t)put;
	}
	return (la_ssize_t)n;
}

static bool ends_in(const char *s, const char *tail)
{
	size_t n = strlen(s), k = strlen(tail);

	return n > k && strcmp(s + n - k, tail) == 0;
}

static enum ks_arc_compress by_suffix(const char *path)
{
	static const struct {
		const char *tail;
		enum ks_arc_compress c;
	} tails[] = { { ".tar", KS_ARC_NONE }, { ".gz", KS_ARC_GZIP }, { ".tgz", KS_ARC_GZIP },
		      { ".xz", KS_ARC_XZ },    { ".txz", KS_ARC_XZ },  { ".lz4", KS_ARC_LZ4 } };

	for (size_t i = 0; i < KS_ARRAY_SIZE(tails); i++)
		if (ends_in(path, tails[i].tail))
			return tails[i].c;
	return KS_ARC_ZSTD;
}

static int add_filter(struct archive *a, enum ks_arc_compress c)
{
	switch (c) {
	case KS_ARC_GZIP:
		/* Without the time of day: the same state gives the same bytes. */
		if (archive_write_add_filter_gzip(a) != ARCHIVE_OK)
			return ARCHIVE_FATAL;
		return archive_write_set_filter_option(a, "gzip", "timestamp", NULL);
	case KS_ARC_XZ:
		return archive_write_add_filter_xz(a);
	case KS_ARC_LZ4:
		return archive_write_add_filter_lz4(a);
	case KS_ARC_NONE:
		return archive_write_add_filter_none(a);
	default:
		return archive_write_add_filter_zstd(a);
	}
}

static int set_format(struct archive *a, enum ks_arc_format format)
{
	int rc;

	if (format == KS_ARC_ZIP)
		return archive_write_set_format_zip(a);
	/* Plain members need no header of their own for what ustar can say. */
	if (format == KS_ARC_PLAIN)
		return archive_write_set_format_pax_restricted(a);
	rc = archive_write_set_format_pax(a);
	/* The form that every tar knows, once. */
	return rc == ARCHIVE_OK ? archive_write_set_format_option(a, "pax", "xattrheader", "SCHILY")
				: rc;
}

/* A file is written beside its name; what is no file (a pipe, /dev/null) is written where it stands. */
static int open_output(struct ks_arc_out *o)
{
	const char *slash = strrchr(o->path, '/');
	size_t dir = slash ? (size_t)(slash - o->path) + 1 : 0;
	struct stat st;

	if (strcmp(o->path, "-") == 0) {
		o->fd = STDOUT_FILENO;
		return 0;
	}
	if (stat(o->path, &st) == 0 && S_ISDIR(st.st_mode))
		return ks_fail(-EISDIR, "create %s", o->path);
	if (stat(o->path, &st) == 0 && !S_ISREG(st.st_mode)) {
		o->fd = open(o->path, O_WRONLY | O_CLOEXEC);
		return o->fd < 0 ? ks_fail(-errno, "open %s", o->path) : 0;
	}
	o->tmp = ks_asprintf("%.*s.%s.kiseki-%d", (int)dir, o->path, o->path + dir, (int)getpid());
	if (!o->tmp)
		return -ENOMEM;
	/* Of another process with this number, which was killed. */
	KS_IGNORE(unlink(o->tmp) < 0);
	o->fd = open(o->tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (o->fd < 0) {
		int r = ks_fail_hint(-errno, errno == ENOENT ? "mkdir makes its directory" : NULL,
				     "create %s", o->path);

		free(o->tmp);
		o->tmp = NULL;
		return r;
	}
	return 0;
}

int ks_arc_out_open(struct ks_arc_out **out, const char *path, enum ks_arc_format format,
		    enum ks_arc_compress compress)
{
	struct ks_arc_out *o = calloc(1, sizeof(*o));
	int rc, r;

	if (!o)
		return -ENOMEM;
	o->fd = -1;
	o->path = strdup(path);
	o->a = archive_write_new();
	r = o->path && o->a ? open_output(o) : -ENOMEM;
	if (r < 0) {
		ks_arc_out_free(o);
		return r;
	}
	rc = set_format(o->a, format);
	if (rc == ARCHIVE_OK && format != KS_ARC_ZIP)
		rc = add_filter(o->a, compress == KS_ARC_AUTO ? by_suffix(path) : compress);
	/* Without padding of the compressed stream: a pipe gets what there is. */
	if (rc == ARCHIVE_OK)
		rc = archive_write_set_bytes_in_last_block(o->a, 1);
	if (rc == ARCHIVE_OK)
		rc = archive_write_open2(o->a, o, NULL, on_write, NULL, NULL);
	if (rc != ARCHIVE_OK) {
		r = fail(o, "open");
		ks_arc_out_free(o);
		return r;
	}
	*out = o;
	return 0;
}

void ks_arc_out_stop(struct ks_arc_out *o, bool (*stopped)(void *arg), void *arg)
{
	o->stopped = stopped;
	o->arg = arg;
}

int ks_arc_out_entry(struct ks_arc_out *o, struct archive_entry *e)
{
	int rc = archive_write_header(o->a, e);

	if (rc < ARCHIVE_WARN)
		return fail(o, "write");
	o->in_entry = true;
	return 0;
}

int ks_arc_out_data(struct ks_arc_out *o, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		la_ssize_t put = archive_write_data(o->a, at, n);

		if (put <= 0)
			return fail(o, "write");
		at += put;
		n -= (size_t)put;
	}
	return 0;
}

int ks_arc_out_end(struct ks_arc_out *o)
{
	o->in_entry = false;
	return archive_write_finish_entry(o->a) < ARCHIVE_WARN ? fail(o, "write") : 0;
}

int ks_arc_out_begin(struct ks_arc_out *o, const char *name, uint64_t size)
{
	struct archive_entry *e = archive_entry_new2(o->a);
	int r;

	if (!e)
		return -ENOMEM;
	archive_entry_set_pathname(e, name);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_mtime(e, 0, 0);
	r = ks_arc_out_entry(o, e);
	archive_entry_free(e);
	return r;
}

int ks_arc_out_member(struct ks_arc_out *o, const char *name, const void *p, size_t n)
{
	int r = ks_arc_out_begin(o, name, n);

	if (r == 0)
		r = ks_arc_out_data(o, p, n);
	return r == 0 ? ks_arc_out_end(o) : r;
}

int ks_arc_out_finish(struct ks_arc_out *o)
{
	KS_AUTO(ks_closep) int dir = -1;
	char *slash;
	int r = 0;

	if (archive_write_close(o->a) != ARCHIVE_OK)
		return fail(o, "write");
	if (!o->tmp)
		return 0;
	if (fsync(o->fd) < 0)
		return ks_fail(-errno, "make %s durable", o->path);
	if (rename(o->tmp, o->path) < 0)
		return ks_fail(-errno, "create %s", o->path);
	slash = strrchr(o->tmp, '/');
	if (slash)
		slash[slash == o->tmp] = '\0';
	dir = open(slash ? o->tmp : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) < 0)
		r = ks_fail(-errno, "make %s durable", o->path);
	free(o->tmp);
	o->tmp = NULL;
	return r;
}

void ks_arc_out_free(struct ks_arc_out *o)
{
	if (!o)
		return;
	/* Freeing writes the archive's end, and what is cut must not look complete; of an entry, as many zeros as are missing. */
	o->discard = true;
	if (o->a && o->in_entry)
		archive_write_fail(o->a);
	if (o->a)
		archive_write_free(o->a);
	if (o->fd > STDERR_FILENO)
		close(o->fd);
	if (o->tmp)
		KS_IGNORE(unlink(o->tmp) < 0); /* a failure is under way */
	free(o->tmp);
	free(o->path);
	free(o);
}

uint64_t ks_arc_out_bytes(const struct ks_arc_out *o)
{
	return o->bytes;
}

struct archive *ks_arc_out_archive(struct ks_arc_out *o)
{
	return o->a;
}
