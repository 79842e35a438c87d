/* SPDX-License-Identifier: Apache-2.0 */
/* text.h: UTF-8 and base64, for file names and other bytes that have to travel in JSON. */
#ifndef KS_BASE_TEXT_H
#define KS_BASE_TEXT_H

#include "base/def.h"

/* Bytes of the UTF-8 character that @p begins with, of at most @n; 0: it is none (also one that is too long, a surrogate, beyond U+10FFFF). */
size_t ks_utf8_sequence(const unsigned char *p, size_t n);

#define KS_BASE64_LEN(n) (((n) + 2) / 3 * 4)
/* Writes KS_BASE64_LEN(n) characters, without a NUL. */
void ks_base64(const void *data, size_t n, char *out);
/* The bytes of @n characters; *len of them; @out has room for n / 4 * 3. -EINVAL: not base64 as ks_base64() writes it. */
int ks_base64_decode(const char *text, size_t n, unsigned char *out, size_t *len) KS_MUST_CHECK;

/* In place: a word of mountinfo or fstab, where blanks, newlines and backslashes are written as \ooo. */
void ks_unescape_octal(char *s);

#endif
