/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rectext.h: a record as a line of JSON, as dumps have it: all columns in their order, no spaces. Integers are numbers; bytes are a string, or, when they are not
 * printable UTF-8 or are checksums, base64 under the key "COLUMN_b64". There is one way to write a record, and only that one is read.
 */
#ifndef KS_VOLUME_RECTEXT_H
#define KS_VOLUME_RECTEXT_H

#include "base/buf.h"
#include "meta/record.h"

/* Appends the line, with its newline. */
int ks_rectext_write(struct ks_buf *out, enum ks_table t, const void *rec) KS_MUST_CHECK;

/**
 * ks_rectext_read() - a line back to a record
 * @line: without the newline; is overwritten, and the record's bytes lie in it
 * @why: what is wrong with it, static text
 * Return: 0; -EBADMSG, not raised.
 */
int ks_rectext_read(enum ks_table t, char *line, size_t n, void *rec,
		    const char **why) KS_MUST_CHECK;

#endif
