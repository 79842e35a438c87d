/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fstab.c: --update-fstab: the line of this mount point in fstab(5) is what this command line would be. All but that line stays byte for byte. The new file lies beside
 * the old one, whole and stored, before anything is mounted, and takes its place once that has worked.
 */
#include "base/log.h"
#include "base/text.h"
#include "mount.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NFIELDS 6

static struct {
	char *path;     /* the file itself, where links lead to */
	char *tmp;      /* the new file; NULL: there is none */
	struct stat st; /* of the old one, when it was read; st_ino 0: there was none */
	struct ks_buf old;
	char *line;         /* without a newline */
	const char *result; /* what is going to have been done; NULL: not asked for */
} me;

/* A line of the old file. */
struct entry {
	const char *start;
	size_t n; /* without its newline */
	char *field[NFIELDS];
};

/* ---- words ---- */

/* As fstab(5) has it: white space, and what could be taken for something else, as octal numbers. */
static int add_field(struct ks_buf *out, const char *text)
{
	int r = out->n ? ks_buf_append(out, " ", 1) : 0;

	for (const char *p = text; r == 0 && *p; p++) {
		unsigned char c = (unsigned char)*p;

		if (c <= ' ' || c == 0x7f || c == '\\' || (c == '#' && p == text))
			r = ks_buf_printf(out, "\\%03o", c);
		else
			r = ks_buf_append(out, p, 1);
	}
	return r;
}

/* ---- lines ---- */

static void clear_entry(struct entry *e)
{
	for (size_t i = 0; i < NFIELDS; i++)
		free(e->field[i]);
	*e = (struct entry){ 0 };
}

/* Splits what start and n say. A comment has no field; what is left out at the end is 0, which is what it means. */
static int split(struct entry *e)
{
	const char *p = e->start, *end = p + e->n;
	size_t nfields = 0;

	for (;;) {
		const char *from;

		while (p < end && (*p == ' ' || *p == '\t'))
			p++;
		if (p == end || nfields == NFIELDS || (nfields == 0 && *p == '#'))
			break;
		for (from = p; p < end && *p != ' ' && *p != '\t';)
			p++;
		e->field[nfields] = strndup(from, (size_t)(p - from));
		if (!e->field[nfields])
			return -ENOMEM;
		ks_unescape_octal(e->field[nfields++]);
	}
	while (nfields >= 2 && nfields < NFIELDS) {
		e->field[nfields] = strdup(nfields < 4 ? "" : "0");
		if (!e->field[nfields++])
			return -ENOMEM;
	}
	return 0;
}

static bool is_ours(const struct entry *e)
{
	return strcmp(e->field[2], "kiseki") == 0 || strcmp(e->field[2], "fuse.kiseki") == 0;
}

/* Is it of our mount point? No other file system is asked: it might not answer. */
static bool is_here(const struct entry *e)
{
	KS_AUTO(ks_freep) char *real = NULL;
	size_t n;

	if (!e->field[1])
		return false;
	real = is_ours(e) ? realpath(e->field[1], NULL) : NULL;
	if (real && strcmp(real, arg.mountpoint) == 0)
		return true;
	n = strlen(e->field[1]);
	while (n > 1 && e->field[1][n - 1] == '/')
		e->field[1][--n] = '\0';
	return strcmp(e->field[1], arg.mountpoint) == 0;
}

/* The line of our mount point into @out, which is cleared by the caller. 1: there is one; 0: none; -errno, raised. */
static int find(struct entry *out)
{
	const char *p = me.old.p, *end = p + me.old.n;

	for (int number = 1; p < end; number++) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		struct entry e = { .start = p, .n = (size_t)((newline ? newline : end) - p) };
		int r = split(&e);

		p = newline ? newline + 1 : end;
		if (r == 0 && is_here(&e)) {
			if (!is_ours(&e))
				r = ks_fail_hint(-EEXIST, "edit the line, or mount elsewhere",
						 "%s, line %d mounts '%s' on %s", me.path, number,
						 e.field[0], arg.mountpoint);
			else if (out->start)
				r = ks_fail_hint(-EEXIST, "remove one of them",
						 "%s, line %d is the second one for %s", me.path,
						 number, arg.mountpoint);
			else {
				*out = e;
				continue;
			}
		}
		clear_entry(&e);
		if (r < 0)
			return r;
	}
	return out->start != NULL;
}

/* ---- this mount ---- */

/* Does the line say the same already? */
static bool says_so(const struct entry *e, const char *options)
{
	const char *const want[NFIELDS] = { arg.spec, arg.mountpoint, "kiseki", options, "0", "0" };

	for (size_t i = 0; i < NFIELDS; i++) {
		if (strcmp(e->field[i], want[i]) != 0)
			return false;
	}
	return true;
}

static int make_line(const char *options)
{
	struct ks_buf b = { 0 };
	const char *text;
	int r = add_field(&b, arg.spec);

	if (r == 0)
		r = add_field(&b, arg.mountpoint);
	if (r == 0)
		r = add_field(&b, "kiseki");
	if (r == 0)
		r = add_field(&b, options);
	if (r == 0)
		r = ks_buf_printf(&b, " 0 0");
	if (r == 0)
		r = ks_buf_cstr(&b, &text);
	me.line = r == 0 ? strdup(text) : NULL;
	ks_buf_clear(&b);
	return me.line ? 0 : -ENOMEM;
}

/* ---- the file ---- */

static int find_file(void)
{
	const char *path = secure_getenv("LIBMOUNT_FSTAB");

	if (!path || !*path)
		path = "/etc/fstab";
	me.path = realpath(path, NULL);
	if (!me.path && errno == ENOENT)
		me.path = strdup(path);
	return me.path ? 0 : ks_fail(-errno, "%s", path);
}

static int read_file(void)
{
	KS_AUTO(ks_closep) int fd = open(me.path, O_RDONLY | O_CLOEXEC);
	ssize_t n = 1;

	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &me.st) < 0)
		return ks_fail(-errno, "read %s", me.path);
	while (n > 0) {
		if (ks_buf_reserve(&me.old, 4096) < 0)
			return -ENOMEM;
		n = read(fd, me.old.p + me.old.n, 4096);
		if (n < 0)
			return ks_fail(-errno, "read %s", me.path);
		me.old.n += (size_t)n;
	}
	return 0;
}

/* The new content; @e is the line that goes, start NULL: none. */
static int content(const struct entry *e, struct ks_buf *out)
{
	size_t at = e->start ? (size_t)(e->start - me.old.p) : me.old.n;
	bool open_end = !e->start && at > 0 && me.old.p[at - 1] != '\n';
	int r = ks_buf_append(out, me.old.p, at);

	if (r == 0)
		r = ks_buf_printf(out, "%s%s%s", open_end ? "\n" : "", me.line,
				  e->start ? "" : "\n");
	if (r == 0 && e->start)
		r = ks_buf_append(out, e->start + e->n, me.old.n - at - e->n);
	return r;
}

static int write_new(const struct ks_buf *b)
{
	mode_t mode = me.st.st_ino ? me.st.st_mode & 07777 : 0644;
	KS_AUTO(ks_closep) int fd = -1;
	int r = 0;

	me.tmp = ks_asprintf("%s.XXXXXX", me.path);
	if (!me.tmp)
		return -ENOMEM;
	fd = mkostemp(me.tmp, O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		free(me.tmp);
		me.tmp = NULL;
		return ks_fail(r, "write a new %s", me.path);
	}
	if (me.st.st_ino && fchown(fd, me.st.st_uid, me.st.st_gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		r = ks_buf_to_fd(b, fd);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	return r < 0 ? ks_fail(r, "write %s", me.tmp) : 0;
}

/* ---- the steps ---- */

/* Shows what is going to be written; is it wanted? */
static bool confirm(const struct entry *e)
{
	if (e->start)
		ks_cmd_note("%s: instead of '%.*s'", me.path, (int)e->n, e->start);
	if (!ks_common.yes)
		return ks_cmd_ask("write to %s '%s'?", me.path, me.line);
	ks_cmd_note("%s: '%s'", me.path, me.line);
	return true;
}

/* @options: the fourth field. */
static int plan(const char *options)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	struct entry e = { 0 };
	int r = find(&e);

	if (r >= 0)
		r = make_line(options);
	if (r == 0 && e.start && says_so(&e, options)) {
		me.result = "unchanged";
		ks_cmd_note("%s: has the line already", me.path);
	} else if (r == 0) {
		me.result = e.start ? "replaced" : "added";
		if (!confirm(&e))
			r = ks_fail(-ECANCELED, "%s stays as it is, and nothing was done", me.path);
		if (r == 0)
			r = content(&e, &b);
		if (r == 0)
			r = write_new(&b);
	}
	clear_entry(&e);
	return r;
}

int mount_fstab_prepare(void)
{
	KS_AUTO(ks_buf_clear) struct ks_buf words = { 0 };
	const char *options;
	int r;

	if (!arg.update_fstab)
		return 0;
	r = mount_words(&words);
	if (r == 0)
		r = ks_buf_cstr(&words, &options);
	if (r == 0)
		r = find_file();
	if (r == 0)
		r = read_file();
	return r < 0 ? r : plan(options);
}

/* What was read is still what is there. */
static bool is_as_read(void)
{
	struct stat st;

	if (stat(me.path, &st) < 0)
		return errno == ENOENT && me.st.st_ino == 0;
	return st.st_ino == me.st.st_ino && st.st_dev == me.st.st_dev &&
	       st.st_size == me.st.st_size && st.st_mtim.tv_sec == me.st.st_mtim.tv_sec &&
	       st.st_mtim.tv_nsec == me.st.st_mtim.tv_nsec;
}

static void sync_directory(void)
{
	KS_AUTO(ks_freep) char *dir = strdup(me.path);
	KS_AUTO(ks_closep) int fd = -1;

	if (!dir)
		return;
	*(strrchr(dir, '/') + 1) = '\0';
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	/* The new file is in its place; when that is stored is the system's. */
	KS_IGNORE(fd >= 0 && fsync(fd) < 0);
}

int mount_fstab_commit(const char **result)
{
	int r = 0;

	*result = me.result;
	if (!me.tmp)
		return 0;
	if (!is_as_read())
		r = ks_fail_hint(-EBUSY, "run it again with --if-not-mounted",
				 "%s has changed meanwhile, and stays as it is", me.path);
	else if (rename(me.tmp, me.path) < 0)
		r = ks_fail(-errno, "replace %s", me.path);
	if (r < 0) {
		mount_fstab_abort();
		return r;
	}
	free(me.tmp);
	me.tmp = NULL;
	sync_directory();
	return 0;
}

void mount_fstab_abort(void)
{
	if (me.tmp)
		unlink(me.tmp);
	free(me.tmp);
	me.tmp = NULL;
}
