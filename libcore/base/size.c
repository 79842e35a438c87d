/* SPDX-License-Identifier: Apache-2.0 */
/* size.c: numbers with units, exactly: no floating point touches a size. */
#include "base/size.h"
#include "base/clock.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FRACTION_DIGITS 9 /* more are read and dropped */

/* WHOLE.PART / 10^FRACTION_DIGITS */
struct number {
	uint64_t whole;
	uint64_t part;
	bool has_point;
};

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Reads digits[.digits] and leaves *@text behind it. */
static int parse_number(const char **text, struct number *out)
{
	struct number v = { 0 };
	const char *p = *text;
	int digits = 0;
	bool too_large = false;

	if (!is_digit(*p))
		return -EINVAL;
	for (; is_digit(*p); p++) {
		if (__builtin_mul_overflow(v.whole, 10, &v.whole) ||
		    __builtin_add_overflow(v.whole, (uint64_t)(*p - '0'), &v.whole))
			too_large = true;
	}
	if (*p == '.') {
		v.has_point = true;
		p++;
		if (!is_digit(*p))
			return -EINVAL;
		for (; is_digit(*p); p++) {
			if (digits < FRACTION_DIGITS) {
				v.part = v.part * 10 + (uint64_t)(*p - '0');
				digits++;
			}
		}
	}
	for (; digits < FRACTION_DIGITS; digits++)
		v.part *= 10;
	*text = p;
	*out = v;
	return too_large ? -ERANGE : 0;
}

/* @v units of @unit each, at most @max. */
static int scale(struct number v, uint64_t unit, uint64_t max, uint64_t *out)
{
	unsigned __int128 total =
		(unsigned __int128)v.whole * unit + (unsigned __int128)v.part * unit / 1000000000u;

	if (total > max)
		return -ERANGE;
	*out = (uint64_t)total;
	return 0;
}

/* The bytes of a unit; 0 when it is none. */
static uint64_t size_unit(const char *unit)
{
	static const char letters[] = "kmgtpe";
	const char *letter;
	uint64_t base;
	uint64_t bytes = 1;

	if (*unit == '\0' || strcmp(unit, "B") == 0)
		return 1;
	letter = strchr(letters, *unit | 0x20);
	if (!letter)
		return 0;
	unit++;
	if (*unit == '\0' || strcmp(unit, "iB") == 0 || strcmp(unit, "i") == 0)
		base = 1024;
	else if (strcmp(unit, "B") == 0)
		base = 1000;
	else
		return 0;
	for (const char *p = letters; p <= letter; p++)
		bytes *= base;
	return bytes;
}

int ks_size_parse(const char *text, uint64_t *out)
{
	struct number v;
	int r = parse_number(&text, &v);
	uint64_t unit;

	if (r == -EINVAL)
		return r;
	if (*text == ' ' && text[1] != '\0')
		text++; /* "1.2 GiB" is how sizes are printed */
	unit = size_unit(text);
	if (unit == 0 || (v.has_point && unit == 1))
		return -EINVAL;
	return r < 0 ? r : scale(v, unit, UINT64_MAX, out);
}

int ks_duration_parse(const char *text, int64_t *ns)
{
	static const struct {
		const char *name;
		int64_t ns;
	} units[] = {
		{ "", KS_NS_PER_S },
		{ "ns", 1 },
		{ "us", 1000 },
		{ "ms", KS_NS_PER_MS },
		{ "s", KS_NS_PER_S },
		{ "sec", KS_NS_PER_S },
		{ "m", 60 * KS_NS_PER_S },
		{ "min", 60 * KS_NS_PER_S },
		{ "h", 3600 * KS_NS_PER_S },
		{ "d", 86400 * KS_NS_PER_S },
		{ "w", 604800 * KS_NS_PER_S },
	};
	struct number v;
	int r = parse_number(&text, &v);

	if (r == -EINVAL)
		return r;
	for (size_t i = 0; i < KS_ARRAY_SIZE(units); i++) {
		uint64_t total;

		if (strcmp(text, units[i].name) != 0)
			continue;
		if (r == 0)
			r = scale(v, (uint64_t)units[i].ns, INT64_MAX, &total);
		if (r == 0)
			*ns = (int64_t)total;
		return r;
	}
	return -EINVAL;
}

static bool is_off(const char *text)
{
	return strcmp(text, "none") == 0 || strcmp(text, "off") == 0;
}

int ks_size_parse_opt(const char *text, uint64_t *out)
{
	if (!is_off(text))
		return ks_size_parse(text, out);
	*out = 0;
	return 0;
}

int ks_duration_parse_opt(const char *text, int64_t *ns)
{
	if (!is_off(text))
		return ks_duration_parse(text, ns);
	*ns = 0;
	return 0;
}

void ks_size_format(uint64_t bytes, char out[KS_SIZE_STR])
{
	static const char letters[] = "KMGTPE";
	uint64_t unit = 1024;
	uint64_t tenths;
	int i = 0;

	if (bytes < 1024) {
		snprintf(out, KS_SIZE_STR, "%u B", (unsigned)bytes);
		return;
	}
	for (;;) {
		tenths = (uint64_t)(((unsigned __int128)bytes * 10 + unit / 2) / unit);
		/* Rounding may reach the next unit: 1023.96 KiB are 1 MiB. */
		if (tenths < 10240 || letters[i + 1] == '\0')
			break;
		unit *= 1024;
		i++;
	}
	if (tenths % 10 == 0) {
		snprintf(out, KS_SIZE_STR, "%u %ciB", (unsigned)(tenths / 10), letters[i]);
	} else {
		snprintf(out, KS_SIZE_STR, "%u.%u %ciB", (unsigned)(tenths / 10),
			 (unsigned)(tenths % 10), letters[i]);
	}
}
