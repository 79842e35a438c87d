/* SPDX-License-Identifier: Apache-2.0 */
/* url.c: URLs of metadata: what they name, their secrets, and the paths inside them. */
#include "base/buf.h"
#include "base/log.h"
#include "volume/names.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

size_t ks_url_scheme(const char *text)
{
	size_t n = 0;

	if (!isalpha((unsigned char)text[0]))
		return 0;
	while (isalnum((unsigned char)text[n]) || text[n] == '+' || text[n] == '.' ||
	       text[n] == '-')
		n++;
	return strncmp(text + n, "://", 3) == 0 ? n : 0;
}

/* The password of "scheme://user:password@host": *from to *to, or false. */
static bool find_password(const char *url, size_t *from, size_t *to)
{
	size_t n = ks_url_scheme(url);
	size_t end;
	const char *at = NULL;
	const char *colon;

	if (n == 0)
		return false;
	n += 3;
	end = n + strcspn(url + n, "/?#");
	/* The last '@': a password may hold one that is not escaped. */
	for (size_t i = n; i < end; i++) {
		if (url[i] == '@')
			at = url + i;
	}
	if (!at)
		return false;
	colon = memchr(url + n, ':', (size_t)(at - (url + n)));
	if (!colon)
		return false;
	*from = (size_t)(colon + 1 - url);
	*to = (size_t)(at - url);
	return *to > *from;
}

/* A "password=..." behind '?' or '&' (libpq, redis), from @start on. */
static bool find_query(const char *url, size_t start, size_t *from, size_t *to)
{
	static const char *const keys[] = { "password=", "sslpassword=", "auth=" };
	const char *q = strchr(url, '?');

	for (const char *p = q; p && *p; p = strpbrk(p + 1, "?&")) {
		for (size_t i = 0; i < KS_ARRAY_SIZE(keys); i++) {
			size_t k = strlen(keys[i]);
			size_t at = (size_t)(p + 1 + k - url);

			if (strncasecmp(p + 1, keys[i], k) != 0 || at < start)
				continue;
			*from = at;
			*to = at + strcspn(url + at, "&#");
			if (*to > *from)
				return true;
		}
	}
	return false;
}

bool ks_url_has_secret(const char *url)
{
	size_t from;
	size_t to;

	return find_password(url, &from, &to) || find_query(url, 0, &from, &to);
}

char *ks_url_redact(const char *url)
{
	struct ks_buf out = { 0 };
	const char *text;
	size_t from;
	size_t to;
	size_t done = 0;
	int r = 0;

	if (find_password(url, &from, &to)) {
		r = ks_buf_printf(&out, "%.*s***", (int)from, url);
		done = to;
	}
	while (r == 0 && find_query(url, done, &from, &to)) {
		r = ks_buf_printf(&out, "%.*s***", (int)(from - done), url + done);
		done = to;
	}
	if (r == 0)
		r = ks_buf_append(&out, url + done, strlen(url + done));
	if (r == 0)
		r = ks_buf_cstr(&out, &text);
	if (r < 0) {
		ks_buf_clear(&out);
		return NULL;
	}
	return out.p;
}

char *ks_url_of_path(const char *scheme, const char *path)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = strlen(scheme);
	char *out = malloc(n + 4 + 3 * strlen(path));
	char *o = out;

	if (!out)
		return NULL;
	memcpy(o, scheme, n);
	memcpy(o + n, "://", 3);
	o += n + 3;
	for (; *path; path++) {
		unsigned char c = (unsigned char)*path;

		if (isalnum(c) || strchr("/._-~+,=@", c)) {
			*o++ = (char)c;
		} else {
			*o++ = '%';
			*o++ = hex[c >> 4];
			*o++ = hex[c & 15];
		}
	}
	*o = '\0';
	return out;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

char *ks_url_to_path(const char *scheme, const char *url)
{
	size_t n = strlen(scheme);
	char *out;
	char *o;

	if (ks_url_scheme(url) != n || strncmp(url, scheme, n) != 0)
		return NULL;
	url += n + 3;
	out = o = malloc(strlen(url) + 1);
	for (; out && *url; url++) {
		if (url[0] == '%' && hex_digit(url[1]) >= 0 && hex_digit(url[2]) >= 0) {
			*o++ = (char)(hex_digit(url[1]) * 16 + hex_digit(url[2]));
			url += 2;
		} else {
			*o++ = *url;
		}
	}
	if (out)
		*o = '\0';
	return out;
}

struct scheme_search {
	const char *name;
	size_t n;
	bool found;
};

static void match_scheme(void *arg, const char *scheme, const char *help)
{
	struct scheme_search *s = arg;

	(void)help;
	if (strlen(scheme) == s->n && memcmp(scheme, s->name, s->n) == 0)
		s->found = true;
}

int ks_url_check_meta(const char *url)
{
	static const char *const more[] = { "sqlite3", "postgres", "postgresql",
					    "redis",   "rediss",   "redis+unix" };
	size_t n = ks_url_scheme(url);
	struct scheme_search s = { .name = url, .n = n };
	char hint[256];

	ks_engines(match_scheme, &s);
	for (size_t i = 0; i < KS_ARRAY_SIZE(more) && !s.found; i++)
		match_scheme(&s, more[i], "");
	if (s.found && strncmp(url, "sqlite", 6) == 0 && url[n + 3] != '/')
		return ks_fail_hint(-EINVAL, "three slashes: sqlite:///srv/k/meta.db",
				    "'%s': the path of a database must be absolute", url);
	if (s.found)
		return 0;
	s.name = url;
	ks_object_stores(match_scheme, &s);
	match_scheme(&s, "s3", "");
	if (s.found)
		return ks_fail_hint(-EINVAL,
				    "a volume is named by its NAME, its metadata URL, its "
				    "sqlite file or its mount point",
				    "'%s': that is a data location, not a volume", url);
	snprintf(hint, sizeof(hint), "did you mean %.*s:/%.100s ?", (int)n, url, url + n + 3);
	return ks_fail_hint(-EINVAL, hint, "'%.*s://...': unknown scheme '%.*s'", (int)n, url,
			    (int)n, url);
}
