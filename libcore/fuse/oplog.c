/* SPDX-License-Identifier: Apache-2.0 */
/*
 * oplog.c: a line of the access log for each request. It is made here for all of them, from the message as the kernel sent it, and not in the operations:
 *
 *	2026-11-20T02:00:03.123456Z uid=1000 pid=4711 write ino=42 off=0 len=131072 = 0 0.000312s
 *
 * The first half is made before the request is served, since a reply may reuse the memory of its message.
 */
#include "fuse/internal.h"
#include <linux/fuse.h>
#include <stdio.h>

#define LINE_MAX_BYTES 4096
#define NAME_MAX_BYTES 1024 /* of a name as it is printed */

enum form { DEC, HEX, OCT, NODE };

struct field {
	const char *name;
	uint16_t at, size;
	uint8_t form;
	uint16_t if_valid; /* setattr: only with one of these bits */
};

#define FIELD(label, type, member, form)                                                           \
	{                                                                                          \
		label, offsetof(struct type, member), sizeof(((struct type *)0)->member), form, 0  \
	}
#define FIELD_IF(label, type, member, form, bits)                                                  \
	{                                                                                          \
		label, offsetof(struct type, member), sizeof(((struct type *)0)->member), form,    \
			bits                                                                       \
	}
#define HEAD(type) sizeof(struct type)

static const struct op {
	const char *name;
	size_t head;        /* bytes before the names */
	unsigned int names; /* strings, each with its NUL */
	struct field fields[5];
} ops[] = {
	[FUSE_LOOKUP] = { "lookup", 0, 1, { { 0 } } },
	[FUSE_GETATTR] = { "getattr", 0, 0, { { 0 } } },
	[FUSE_SETATTR] = { "setattr",
			   HEAD(fuse_setattr_in),
			   0,
			   { FIELD("valid", fuse_setattr_in, valid, HEX),
			     FIELD_IF("mode", fuse_setattr_in, mode, OCT, FATTR_MODE),
			     FIELD_IF("uid", fuse_setattr_in, uid, DEC, FATTR_UID),
			     FIELD_IF("gid", fuse_setattr_in, gid, DEC, FATTR_GID),
			     FIELD_IF("size", fuse_setattr_in, size, DEC, FATTR_SIZE) } },
	[FUSE_READLINK] = { "readlink", 0, 0, { { 0 } } },
	[FUSE_SYMLINK] = { "symlink", 0, 2, { { 0 } } },
	[FUSE_MKNOD] = { "mknod",
			 HEAD(fuse_mknod_in),
			 1,
			 { FIELD("mode", fuse_mknod_in, mode, OCT) } },
	[FUSE_MKDIR] = { "mkdir",
			 HEAD(fuse_mkdir_in),
			 1,
			 { FIELD("mode", fuse_mkdir_in, mode, OCT) } },
	[FUSE_UNLINK] = { "unlink", 0, 1, { { 0 } } },
	[FUSE_RMDIR] = { "rmdir", 0, 1, { { 0 } } },
	[FUSE_RENAME] = { "rename",
			  HEAD(fuse_rename_in),
			  2,
			  { FIELD("newdir", fuse_rename_in, newdir, NODE) } },
	[FUSE_RENAME2] = { "rename",
			   HEAD(fuse_rename2_in),
			   2,
			   { FIELD("newdir", fuse_rename2_in, newdir, NODE),
			     FIELD("flags", fuse_rename2_in, flags, HEX) } },
	[FUSE_LINK] = { "link",
			HEAD(fuse_link_in),
			1,
			{ FIELD("old", fuse_link_in, oldnodeid, NODE) } },
	[FUSE_OPEN] = { "open",
			HEAD(fuse_open_in),
			0,
			{ FIELD("flags", fuse_open_in, flags, HEX) } },
	[FUSE_CREATE] = { "create",
			  HEAD(fuse_create_in),
			  1,
			  { FIELD("flags", fuse_create_in, flags, HEX),
			    FIELD("mode", fuse_create_in, mode, OCT) } },
	[FUSE_READ] = { "read",
			HEAD(fuse_read_in),
			0,
			{ FIELD("off", fuse_read_in, offset, DEC),
			  FIELD("len", fuse_read_in, size, DEC) } },
	[FUSE_WRITE] = { "write",
			 HEAD(fuse_write_in),
			 0,
			 { FIELD("off", fuse_write_in, offset, DEC),
			   FIELD("len", fuse_write_in, size, DEC) } },
	[FUSE_STATFS] = { "statfs", 0, 0, { { 0 } } },
	[FUSE_FLUSH] = { "flush", 0, 0, { { 0 } } },
	[FUSE_RELEASE] = { "release", 0, 0, { { 0 } } },
	[FUSE_FSYNC] = { "fsync",
			 HEAD(fuse_fsync_in),
			 0,
			 { FIELD("flags", fuse_fsync_in, fsync_flags, HEX) } },
	/* Without FUSE_SETXATTR_EXT, which is not asked for. */
	[FUSE_SETXATTR] = { "setxattr",
			    FUSE_COMPAT_SETXATTR_IN_SIZE,
			    1,
			    { FIELD("len", fuse_setxattr_in, size, DEC),
			      FIELD("flags", fuse_setxattr_in, flags, HEX) } },
	[FUSE_GETXATTR] = { "getxattr",
			    HEAD(fuse_getxattr_in),
			    1,
			    { FIELD("len", fuse_getxattr_in, size, DEC) } },
	[FUSE_LISTXATTR] = { "listxattr",
			     HEAD(fuse_getxattr_in),
			     0,
			     { FIELD("len", fuse_getxattr_in, size, DEC) } },
	[FUSE_REMOVEXATTR] = { "removexattr", 0, 1, { { 0 } } },
	[FUSE_OPENDIR] = { "opendir", 0, 0, { { 0 } } },
	[FUSE_READDIR] = { "readdir",
			   HEAD(fuse_read_in),
			   0,
			   { FIELD("off", fuse_read_in, offset, DEC),
			     FIELD("len", fuse_read_in, size, DEC) } },
	[FUSE_READDIRPLUS] = { "readdirplus",
			       HEAD(fuse_read_in),
			       0,
			       { FIELD("off", fuse_read_in, offset, DEC),
				 FIELD("len", fuse_read_in, size, DEC) } },
	[FUSE_RELEASEDIR] = { "releasedir", 0, 0, { { 0 } } },
	[FUSE_FSYNCDIR] = { "fsyncdir", 0, 0, { { 0 } } },
	[FUSE_IOCTL] = { "ioctl",
			 HEAD(fuse_ioctl_in),
			 0,
			 { FIELD("cmd", fuse_ioctl_in, cmd, HEX) } },
	[FUSE_FALLOCATE] = { "fallocate",
			     HEAD(fuse_fallocate_in),
			     0,
			     { FIELD("mode", fuse_fallocate_in, mode, HEX),
			       FIELD("off", fuse_fallocate_in, offset, DEC),
			       FIELD("len", fuse_fallocate_in, length, DEC) } },
	[FUSE_LSEEK] = { "lseek",
			 HEAD(fuse_lseek_in),
			 0,
			 { FIELD("off", fuse_lseek_in, offset, DEC),
			   FIELD("whence", fuse_lseek_in, whence, DEC) } },
	[FUSE_COPY_FILE_RANGE] = { "copy_file_range",
				   HEAD(fuse_copy_file_range_in),
				   0,
				   { FIELD("off", fuse_copy_file_range_in, off_in, DEC),
				     FIELD("to", fuse_copy_file_range_in, nodeid_out, NODE),
				     FIELD("to_off", fuse_copy_file_range_in, off_out, DEC),
				     FIELD("len", fuse_copy_file_range_in, len, DEC) } },
};

struct line {
	char text[LINE_MAX_BYTES];
	size_t n;
};

KS_PRINTF(2, 3)
static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(l->text + l->n, sizeof(l->text) - l->n, fmt, ap);
	va_end(ap);
	l->n += n > 0 ? (size_t)n : 0;
	l->n = ks_min(l->n, sizeof(l->text) - 1);
}

/* A name in quotes, so that a line is a line whatever it is called. */
static void add_name(struct line *l, const char *key, const char *s, size_t n)
{
	size_t from = l->n;

	add(l, " %s=\"", key);
	for (size_t i = 0; i < n && l->n - from < NAME_MAX_BYTES; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c == '"' || c == '\\')
			add(l, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			add(l, "\\x%02x", c);
		else
			add(l, "%c", c);
	}
	add(l, "\"");
}

static void add_field(struct line *l, const struct ks_fuse *f, const struct field *d, const char *p)
{
	uint64_t v = 0;
	uint32_t valid;

	memcpy(&valid, p, sizeof(valid));
	if (d->if_valid && !(valid & d->if_valid))
		return;
	/* The protocol has the machine's byte order. */
	if (d->size == sizeof(uint32_t)) {
		uint32_t v32;

		memcpy(&v32, p + d->at, sizeof(v32));
		v = v32;
	} else {
		memcpy(&v, p + d->at, sizeof(v));
	}
	if (d->form == NODE)
		v = ks_fuse_ino(f, v);
	add(l,
	    d->form == HEX   ? " %s=0x%jx"
	    : d->form == OCT ? " %s=0%jo"
			     : " %s=%ju",
	    d->name, (uintmax_t)v);
}

/* What is known before it is served; false: no line is wanted. */
static bool begin(struct line *l, const struct ks_fuse *f, const struct fuse_buf *buf,
		  int64_t now_ns)
{
	static const char *const keys[] = { "name", "new" };
	const char *p = buf->mem, *end = p + buf->size;
	struct fuse_in_header in;
	const struct op *op;
	char stamp[KS_TIME_STR];

	if ((buf->flags & FUSE_BUF_IS_FD) || buf->size < sizeof(in))
		return false;
	memcpy(&in, p, sizeof(in));
	p += sizeof(in);
	op = in.opcode < KS_ARRAY_SIZE(ops) ? &ops[in.opcode] : NULL;
	if (!op || !op->name || (size_t)(end - p) < op->head || ks_ino_is_virtual(in.nodeid))
		return false;
	if (in.opcode == FUSE_LOOKUP && in.nodeid == FUSE_ROOT_ID &&
	    strncmp(p, KS_VIRTUAL_NAME, (size_t)(end - p)) == 0)
		return false;
	l->n = 0;
	ks_time_format(now_ns, stamp);
	add(l, "%s uid=%u pid=%u %s ino=%ju", stamp, in.uid, in.pid, op->name,
	    (uintmax_t)ks_fuse_ino(f, in.nodeid));
	for (size_t i = 0; i < KS_ARRAY_SIZE(op->fields) && op->fields[i].name; i++)
		add_field(l, f, &op->fields[i], p);
	p += op->head;
	for (size_t i = 0; i < KS_ARRAY_SIZE(keys) && i < op->names && p < end; i++) {
		size_t n = strnlen(p, (size_t)(end - p));

		add_name(l, keys[i], p, n);
		p += ks_min(n + 1, (size_t)(end - p));
	}
	return true;
}

static void process_and_tell(struct ks_fuse *f, const struct fuse_buf *buf)
{
	int64_t start = ks_clock_mono_ns();
	const char *error;
	struct line l;
	bool wanted = begin(&l, f, buf, ks_clock_real_ns());

	ks_fuse_result = 0;
	fuse_session_process_buf(f->se, buf);
	if (!wanted || ks_fuse_result == KS_FUSE_AGAIN)
		return;
	error = ks_fuse_result < 0 ? strerrorname_np(-ks_fuse_result) : NULL;
	if (error)
		add(&l, " = -%s", error);
	else
		add(&l, " = %d", ks_fuse_result);
	add(&l, " %.6fs\n", (double)(ks_clock_mono_ns() - start) / 1e9);
	ks_vfs_log(f->vfs, l.text, l.n);
}

void ks_fuse_process(struct ks_fuse *f, const struct fuse_buf *buf)
{
	if (__atomic_load_n(f->listeners, __ATOMIC_RELAXED) == 0)
		fuse_session_process_buf(f->se, buf);
	else
		process_and_tell(f, buf);
}
