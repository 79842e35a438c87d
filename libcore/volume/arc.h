/* SPDX-License-Identifier: Apache-2.0 */
/*
 * arc.h: archives written and read through libarchive. A file that is written appears under its name when it is complete and durable, or not at all. For
 * volume/ only.
 *
 * Threads: one at a time each.
 */
#ifndef KS_VOLUME_ARC_H
#define KS_VOLUME_ARC_H

#include "base/buf.h"
#include <archive.h>
#include <archive_entry.h>

/* Dumps have their members below this. */
#define KS_ARC_DIR "kiseki/"

enum ks_arc_format {
	KS_ARC_PAX, /* all that a file has */
	KS_ARC_ZIP,
	KS_ARC_PLAIN, /* pax too: for members that are made up */
};
enum ks_arc_compress {
	KS_ARC_AUTO, /* by the output's suffix, else zstd */
	KS_ARC_ZSTD,
	KS_ARC_GZIP,
	KS_ARC_XZ,
	KS_ARC_LZ4,
	KS_ARC_NONE
};

/* ---- writing ---- */

struct ks_arc_out;

/* @path: "-" is stdout. All raised, here and below. */
int ks_arc_out_open(struct ks_arc_out **out, const char *path, enum ks_arc_format format,
		    enum ks_arc_compress compress) KS_MUST_CHECK;
/* Asked when a signal interrupts a write; then it ends with -EINTR, raised. */
void ks_arc_out_stop(struct ks_arc_out *o, bool (*stopped)(void *arg), void *arg);
/* A member with an entry of the caller's; then exactly its size in bytes, then the end. */
int ks_arc_out_entry(struct ks_arc_out *o, struct archive_entry *e) KS_MUST_CHECK;
int ks_arc_out_data(struct ks_arc_out *o, const void *p, size_t n) KS_MUST_CHECK;
int ks_arc_out_end(struct ks_arc_out *o) KS_MUST_CHECK;
/* A plain member of a dump: a name, a size, and nothing that differs from one dump to the next. */
int ks_arc_out_begin(struct ks_arc_out *o, const char *name, uint64_t size) KS_MUST_CHECK;
int ks_arc_out_member(struct ks_arc_out *o, const char *name, const void *p,
		      size_t n) KS_MUST_CHECK;
/* Ends the archive; a file is made durable and gets its name. */
int ks_arc_out_finish(struct ks_arc_out *o) KS_MUST_CHECK;
void ks_arc_out_free(struct ks_arc_out *o); /* what was not finished goes away; NULL is fine */
uint64_t ks_arc_out_bytes(const struct ks_arc_out *o);    /* written to the output; any thread */
struct archive *ks_arc_out_archive(struct ks_arc_out *o); /* for archive_entry conversions */

/* ---- reading ---- */

struct ks_arc_in;

/* @path: "-" is stdin. @stopped may be NULL: asked while waiting and before each read; then all calls end with -EINTR, raised. */
int ks_arc_in_open(struct ks_arc_in **out, const char *path, bool (*stopped)(void *arg),
		   void *arg) KS_MUST_CHECK;
/* 1: *e is the next member, valid until the next call; 0: the end; -EBADMSG: no archive, or a damaged or cut one. */
int ks_arc_in_next(struct ks_arc_in *in, struct archive_entry **e) KS_MUST_CHECK;
/* A piece of the member's data, at *off; holes are left out. 1; 0 at its end; -EILSEQ: this member is damaged or encrypted, and the archive goes on. */
int ks_arc_in_data(struct ks_arc_in *in, const void **p, size_t *n, uint64_t *off) KS_MUST_CHECK;
/* The whole member into @out, of at most @most bytes, else -EBADMSG. */
int ks_arc_in_all(struct ks_arc_in *in, struct ks_buf *out, size_t most) KS_MUST_CHECK;
const char *ks_arc_in_format(const struct ks_arc_in *in); /* "POSIX pax interchange format" */
bool ks_arc_in_is_tar(const struct ks_arc_in *in);
uint64_t ks_arc_in_bytes(const struct ks_arc_in *in); /* read from the input; any thread */
uint64_t ks_arc_in_size(const struct ks_arc_in *in);  /* of the input; 0: not known */
void ks_arc_in_free(struct ks_arc_in *in);            /* NULL is fine */

#endif
