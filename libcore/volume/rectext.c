/* SPDX-License-Identifier: Apache-2.0 */
/* rectext.c: records as lines. By hand: a big volume has hundreds of millions of them. */
#include "volume/rectext.h"
#include "base/text.h"
#include <errno.h>
#include <string.h>

#define KEY_MAX 32 /* of a column's name with its punctuation */
#define INT_MAX_LEN 21

static bool always_base64(const struct ks_col *c)
{
	return c->name[0] == 's' && strcmp(c->name, "sums") == 0;
}

/* ---- writing ---- */

static char *put_int(char *p, int64_t v)
{
	char digits[INT_MAX_LEN];
	uint64_t u = v < 0 ? -(uint64_t)v : (uint64_t)v;
	int n = 0;

	do {
		digits[n++] = (char)('0' + u % 10);
		u /= 10;
	} while (u);
	if (v < 0)
		*p++ = '-';
	while (n)
		*p++ = digits[--n];
	return p;
}

static bool is_text(struct ks_bytes b)
{
	const unsigned char *p = b.p;

	for (size_t i = 0; i < b.n;) {
		size_t len = p[i] < 0x20 || p[i] == 0x7f ? 0 : ks_utf8_sequence(p + i, b.n - i);

		if (len == 0)
			return false;
		i += len;
	}
	return true;
}

static char *put_key(char *p, const char *name, const char *tail)
{
	*p++ = '"';
	p = stpcpy(p, name);
	p = stpcpy(p, tail);
	*p++ = '"';
	*p++ = ':';
	return p;
}

static char *put_bytes(char *p, const struct ks_col *c, struct ks_bytes b)
{
	const char *s = b.p;

	if (always_base64(c) || !is_text(b)) {
		p = put_key(p, c->name, "_b64");
		*p++ = '"';
		ks_base64(b.p, b.n, p);
		p += KS_BASE64_LEN(b.n);
	} else {
		p = put_key(p, c->name, "");
		*p++ = '"';
		for (size_t i = 0; i < b.n; i++) {
			if (s[i] == '"' || s[i] == '\\')
				*p++ = '\\';
			*p++ = s[i];
		}
	}
	*p++ = '"';
	return p;
}

int ks_rectext_write(struct ks_buf *out, enum ks_table t, const void *rec)
{
	const struct ks_table_desc *d = &ks_tables[t];
	size_t most = (size_t)d->ncol * (KEY_MAX + INT_MAX_LEN) + 3;
	char *p;
	int r;

	for (unsigned int i = 0; i < d->ncol; i++)
		if (ks_col_is_bytes(&d->cols[i]))
			most += 2 * ks_rec_bytes(rec, &d->cols[i]).n + 4;
	r = ks_buf_reserve(out, most);
	if (r < 0)
		return r;
	p = out->p + out->n;
	for (unsigned int i = 0; i < d->ncol; i++) {
		const struct ks_col *c = &d->cols[i];

		*p++ = i ? ',' : '{';
		if (ks_col_is_bytes(c))
			p = put_bytes(p, c, ks_rec_bytes(rec, c));
		else
			p = put_int(put_key(p, c->name, ""), ks_rec_int(rec, c));
	}
	*p++ = '}';
	*p++ = '\n';
	out->n = (size_t)(p - out->p);
	return 0;
}

/* ---- reading ---- */

struct in {
	char *p, *end;
	const char *why;
};

static int bad(struct in *in, const char *why)
{
	in->why = why;
	return -EBADMSG;
}

static bool take(struct in *in, const char *s, size_t n)
{
	if ((size_t)(in->end - in->p) < n || memcmp(in->p, s, n) != 0)
		return false;
	in->p += n;
	return true;
}

static bool take_char(struct in *in, char c)
{
	if (in->p == in->end || *in->p != c)
		return false;
	in->p++;
	return true;
}

static int read_int(struct in *in, const struct ks_col *c, void *rec)
{
	bool minus = take_char(in, '-');
	uint64_t most = c->type == KS_COL_U32 ? UINT32_MAX : (uint64_t)INT64_MAX + minus;
	const char *start = in->p;
	uint64_t v = 0;

	if (minus && c->type != KS_COL_I64)
		return bad(in, "a number is negative that cannot be");
	while (in->p < in->end && *in->p >= '0' && *in->p <= '9') {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*in->p++ - '0'), &v))
			return bad(in, "a number is too large");
	}
	if (in->p == start)
		return bad(in, "a number is missing");
	if (v > most)
		return bad(in, "a number is too large");
	if ((*start == '0' && in->p - start > 1) || (minus && v == 0))
		return bad(in, "a number is not written as kiseki-dump does");
	ks_rec_set_int(rec, c, minus ? (int64_t)-v : (int64_t)v);
	return 0;
}

/* Behind the opening quote; in place. */
static int read_string(struct in *in, struct ks_bytes *out)
{
	char *o = in->p;

	out->p = o;
	for (;;) {
		char ch;

		if (in->p == in->end)
			return bad(in, "a string does not end");
		ch = *in->p++;
		if (ch == '"')
			break;
		if ((unsigned char)ch < 0x20)
			return bad(in, "a string has a control character");
		if (ch == '\\') {
			if (in->p == in->end || (*in->p != '"' && *in->p != '\\'))
				return bad(in, "a string has an escape that kiseki-dump does not "
					       "write");
			ch = *in->p++;
		}
		*o++ = ch;
	}
	out->n = (size_t)(o - (const char *)out->p);
	return 0;
}

static int read_base64(struct in *in, struct ks_bytes *out)
{
	char *end = memchr(in->p, '"', (size_t)(in->end - in->p));

	if (!end)
		return bad(in, "a string does not end");
	out->p = in->p;
	if (ks_base64_decode(in->p, (size_t)(end - in->p), (unsigned char *)in->p, &out->n) < 0)
		return bad(in, "a value is not base64");
	in->p = end + 1;
	return 0;
}

static int read_column(struct in *in, const struct ks_col *c, void *rec)
{
	struct ks_bytes b = { "", 0 };
	int r;

	if (!take_char(in, '"') || !take(in, c->name, strlen(c->name)))
		return bad(in, "a column is missing or unknown");
	if (!ks_col_is_bytes(c))
		return take(in, "\":", 2) ? read_int(in, c, rec)
					  : bad(in, "a column is missing or unknown");
	if (take(in, "_b64\":\"", 7))
		r = read_base64(in, &b);
	else if (take(in, "\":\"", 3))
		r = read_string(in, &b);
	else
		r = bad(in, "a column is missing or unknown");
	ks_rec_set_bytes(rec, c, b);
	return r;
}

int ks_rectext_read(enum ks_table t, char *line, size_t n, void *rec, const char **why)
{
	const struct ks_table_desc *d = &ks_tables[t];
	struct in in = { line, line + n, NULL };
	int r = 0;

	memset(rec, 0, d->size);
	for (unsigned int i = 0; r == 0 && i < d->ncol; i++) {
		r = take_char(&in, i ? ',' : '{') ? read_column(&in, &d->cols[i], rec)
						  : bad(&in, "a column is missing or unknown");
	}
	if (r == 0 && (!take_char(&in, '}') || in.p != in.end))
		r = bad(&in, "something follows the last column");
	*why = in.why;
	return r;
}
