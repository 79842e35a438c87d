/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ini.h: reads an INI file.
 *
 *	# comment          ; comment
 *	[section]
 *	key = value
 *	key = "  value with the blanks that belong to it  "
 *
 * A comment has a line of its own: '#' and ';' inside a value belong to it (they occur in passwords
 *and URLs). Lines have any length.
 */
#ifndef KS_BASE_INI_H
#define KS_BASE_INI_H

#include "base/def.h"
#include <stdio.h>

/**
 * ks_ini_fn - receives one "key = value"
 * @section: "" before the first [section]
 *
 * The strings are borrowed for the call. A negative errno ends the reading. When the callback
 * raised no text of its own with ks_fail(), the reader raises "file:line: key 'key' ..." for it,
 * without the value, which may be a secret.
 */
typedef int ks_ini_fn(void *arg, const char *section, const char *key, const char *value, int line);

/*
 * Return: 0; what @fn returned; -EINVAL not an INI file, raised with file and line; -ENOENT no such
 * file, not raised; another errno of open or read, raised.
 */
int ks_ini_read(const char *path, ks_ini_fn *fn, void *arg) KS_MUST_CHECK;
/* @name stands for the file in messages; @f stays open. */
int ks_ini_read_stream(FILE *f, const char *name, ks_ini_fn *fn, void *arg) KS_MUST_CHECK;

#endif
