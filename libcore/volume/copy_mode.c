/* SPDX-License-Identifier: Apache-2.0 */
/* copy_mode.c: changes of permissions. */
#include "volume/copy_mode.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int parse_number(const char *text, struct ks_mode_change *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 8);

	if (*end || v > 07777)
		return -EINVAL;
	out->v[0].who = 07777;
	out->v[0].op = '0';
	out->v[0].bits = (uint32_t)v;
	out->n = 1;
	return 0;
}

static const char *parse_who(const char *p, uint32_t *who)
{
	for (*who = 0; *p && strchr("ugoa", *p); p++) {
		switch (*p) {
		case 'u':
			*who |= S_ISUID | S_IRWXU;
			break;
		case 'g':
			*who |= S_ISGID | S_IRWXG;
			break;
		case 'o':
			*who |= S_ISVTX | S_IRWXO;
			break;
		default:
			*who |= 07777;
		}
	}
	if (!*who)
		*who = 07777;
	return p;
}

static const char *parse_bits(const char *p, uint32_t *bits, bool *x_if_any)
{
	for (; *p && *p != ',' && !strchr("+-=", *p); p++) {
		switch (*p) {
		case 'r':
			*bits |= 0444;
			break;
		case 'w':
			*bits |= 0222;
			break;
		case 'x':
			*bits |= 0111;
			break;
		case 'X':
			*x_if_any = true;
			break;
		case 's':
			*bits |= S_ISUID | S_ISGID;
			break;
		case 't':
			*bits |= S_ISVTX;
			break;
		default:
			return NULL;
		}
	}
	return p;
}

int ks_mode_parse(const char *text, struct ks_mode_change *out)
{
	const char *p = text;
	uint32_t who;

	*out = (struct ks_mode_change){ 0 };
	if (*p >= '0' && *p <= '7')
		return parse_number(p, out);
	do {
		p = parse_who(p, &who);
		if (!*p || !strchr("+-=", *p))
			return -EINVAL;
		while (*p && *p != ',') {
			if (out->n == KS_MODE_CHANGES || !strchr("+-=", *p))
				return -EINVAL;
			out->v[out->n].who = who;
			out->v[out->n].op = *p;
			p = parse_bits(p + 1, &out->v[out->n].bits, &out->v[out->n].x_if_any);
			if (!p)
				return -EINVAL;
			out->n++;
		}
	} while (*p++ == ',');
	return 0;
}

uint32_t ks_mode_apply(const struct ks_mode_change *c, uint32_t mode)
{
	for (unsigned int i = 0; i < c->n; i++) {
		uint32_t bits = c->v[i].bits;

		if (c->v[i].x_if_any && (S_ISDIR(mode) || (mode & 0111)))
			bits |= 0111;
		bits &= c->v[i].who;
		switch (c->v[i].op) {
		case '+':
			mode |= bits;
			break;
		case '-':
			mode &= ~bits;
			break;
		case '=':
			mode = (mode & ~c->v[i].who) | bits;
			break;
		default:
			mode = (mode & ~07777u) | bits;
		}
	}
	return mode;
}
