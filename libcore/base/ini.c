/* SPDX-License-Identifier: Apache-2.0 */
/* ini.c: the INI reader, a line at a time. */
#include "base/ini.h"
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct reader {
	const char *name;
	int line;
	char *section; /* owned; NULL is "" */
	ks_ini_fn *fn;
	void *arg;
};

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Cuts blanks off both ends, in place. */
static char *trim(char *s)
{
	size_t n;

	while (is_blank(*s))
		s++;
	n = strlen(s);
	while (n > 0 && is_blank(s[n - 1]))
		n--;
	s[n] = '\0';
	return s;
}

static int bad(const struct reader *rd, const char *what)
{
	return ks_fail(-EINVAL, "%s:%d: %s", rd->name, rd->line, what);
}

/* @s starts with '['. */
static int take_section(struct reader *rd, char *s)
{
	size_t n = strlen(s);
	char *copy;

	if (s[n - 1] != ']')
		return bad(rd, "a section needs its closing ']'");
	s[n - 1] = '\0';
	s = trim(s + 1);
	if (*s == '\0')
		return bad(rd, "a section needs a name");
	copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	free(rd->section);
	rd->section = copy;
	return 0;
}

static int take_pair(struct reader *rd, char *s)
{
	char *equals = strchr(s, '=');
	char *key;
	char *value;
	size_t n;
	int r;

	if (!equals)
		return bad(rd, "expected 'key = value', '[section]' or a comment");
	*equals = '\0';
	key = trim(s);
	value = trim(equals + 1);
	if (*key == '\0')
		return bad(rd, "a key is missing before '='");
	n = strlen(value);
	if (n >= 2 && value[0] == '"' && value[n - 1] == '"') {
		value[n - 1] = '\0';
		value++;
	}
	ks_fail_clear();
	r = rd->fn(rd->arg, rd->section ? rd->section : "", key, value, rd->line);
	if (r < 0 && ks_fail_text()[0] == '\0')
		return ks_fail(r, "%s:%d: key '%s'", rd->name, rd->line, key);
	return r;
}

static int take_line(struct reader *rd, char *line, size_t n)
{
	char *s;

	if (strlen(line) != n)
		return bad(rd, "a NUL byte; this is not a text file");
	/* Editors of other systems put a byte order mark first. */
	if (rd->line == 1 && strncmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3;
	s = trim(line);
	if (*s == '\0' || *s == '#' || *s == ';')
		return 0;
	return *s == '[' ? take_section(rd, s) : take_pair(rd, s);
}

int ks_ini_read_stream(FILE *f, const char *name, ks_ini_fn *fn, void *arg)
{
	struct reader rd = { .name = name, .fn = fn, .arg = arg };
	KS_AUTO(ks_freep) char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	int r = 0;

	while (r >= 0) {
		errno = 0;
		n = getline(&line, &cap, f);
		if (n < 0) {
			if (!feof(f) || ferror(f))
				r = ks_fail(errno ? -errno : -EIO, "read '%s'", name);
			break;
		}
		rd.line++;
		r = take_line(&rd, line, (size_t)n);
	}
	free(rd.section);
	return r < 0 ? r : 0;
}

int ks_ini_read(const char *path, ks_ini_fn *fn, void *arg)
{
	FILE *f = fopen(path, "re");
	int r;

	if (!f)
		return errno == ENOENT ? -ENOENT : ks_fail(-errno, "open '%s'", path);
	r = ks_ini_read_stream(f, path, fn, arg);
	fclose(f);
	return r;
}
