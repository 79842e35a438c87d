/* SPDX-License-Identifier: Apache-2.0 */
/* opt.c: values of options, and which option was meant. */
#include "base/buf.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/state.h"
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static char complaint[512]; /* one command, parsed by one thread */

KS_PRINTF(1, 2)
static const char *complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(complaint, sizeof(complaint), fmt, ap);
	va_end(ap);
	return complaint;
}

bool ks_opt_wants_value(const struct ks_opt *o)
{
	return o->arg && !(o->flags & KS_OPT_OPTIONAL);
}

static bool is_off(const struct ks_opt *o, const char *value)
{
	return (o->flags & KS_OPT_OFF) && (!strcmp(value, "none") || !strcmp(value, "off"));
}

static const char *set_number(const struct ks_opt *o, const char *value, const char *text,
			      uint64_t n)
{
	if (n < o->min || (o->max && n > o->max)) {
		if (!o->max)
			return complain("'%s' is too small: at least %s%" PRIu64, value, text,
					o->min);
		return complain("'%s' is out of range: %s%" PRIu64 " to %" PRIu64, value, text,
				o->min, o->max);
	}
	*(uint64_t *)o->value = n;
	return NULL;
}

static const char *set_size(const struct ks_opt *o, const char *value)
{
	uint64_t n = 0;

	if (is_off(o, value)) {
		*(uint64_t *)o->value = 0;
		return NULL;
	}
	if (ks_size_parse(value, &n) < 0)
		return complain("'%s' is not a size: %s%s", value, KS_SIZE_FORMS,
				o->flags & KS_OPT_OFF ? ", none" : "");
	return set_number(o, value, "", n);
}

static const char *set_duration(const struct ks_opt *o, const char *value)
{
	int64_t ns = 0;

	if (!is_off(o, value) && ks_duration_parse(value, &ns) < 0)
		return complain("'%s' is not a duration: %s%s", value, KS_DURATION_FORMS,
				o->flags & KS_OPT_OFF ? ", none" : "");
	*(int64_t *)o->value = ns;
	return NULL;
}

static const char *set_integer(const struct ks_opt *o, const char *value)
{
	char *end = NULL;
	uintmax_t n;

	errno = 0;
	n = strtoumax(value, &end, 10);
	if (is_off(o, value))
		n = 0;
	else if (!isdigit((unsigned char)value[0]) || *end || errno)
		return complain("'%s' is not a whole number", value);
	return set_number(o, value, "", n);
}

static const char *set_enum(const struct ks_opt *o, const char *value)
{
	size_t used;

	for (int i = 0; o->names[i]; i++) {
		if (strcmp(o->names[i], value) == 0) {
			*(int *)o->value = i;
			return NULL;
		}
	}
	complain("'%s' is none of", value);
	for (int i = 0; o->names[i]; i++) {
		used = strlen(complaint);
		snprintf(complaint + used, sizeof(complaint) - used, "%s%s", i ? ", " : " ",
			 o->names[i]);
	}
	return complaint;
}

/* A flag may have a word in a configuration file; on the command line it has none. */
static const char *set_flag(const struct ks_opt *o, const char *value)
{
	static const char *const yes[] = { "yes", "true", "on", "1" };
	static const char *const no[] = { "no", "false", "off", "0" };

	for (size_t i = 0; value && i < KS_ARRAY_SIZE(yes); i++) {
		if (strcmp(value, no[i]) == 0) {
			*(bool *)o->value = false;
			return NULL;
		}
		if (strcmp(value, yes[i]) == 0)
			value = NULL;
		if (!value)
			break;
	}
	if (value)
		return complain("'%s' is neither yes nor no", value);
	*(bool *)o->value = true;
	return NULL;
}

const char *ks_opt_set(const struct ks_opt *o, const char *value)
{
	if (!value && ks_opt_wants_value(o))
		return "a value is missing";
	switch (o->kind) {
	case KS_OPT_K_FLAG:
		return set_flag(o, value);
	case KS_OPT_K_COUNTER:
		++*(int *)o->value;
		return NULL;
	case KS_OPT_K_STRING:
		*(const char **)o->value = value;
		return NULL;
	case KS_OPT_K_SIZE:
		return set_size(o, value);
	case KS_OPT_K_DURATION:
		return set_duration(o, value);
	case KS_OPT_K_INTEGER:
		return set_integer(o, value);
	case KS_OPT_K_ENUM:
		return set_enum(o, value);
	case KS_OPT_K_CALL:
		return o->call(value);
	case KS_OPT_K_GROUP:
	case KS_OPT_K_END:
		break;
	}
	return NULL;
}

static bool same_name(const char *option, const char *word)
{
	for (; *option && *word; option++, word++) {
		if (*option != (*word == '_' ? '-' : *word))
			return false;
	}
	return *option == *word;
}

int ks_opt_apply(const struct ks_opt *opts, const char *name, const char *value)
{
	for (const struct ks_opt *o = opts; o->kind != KS_OPT_K_END; o++) {
		const char *why;

		if (!o->name || !same_name(o->name, name))
			continue;
		if (value && !o->arg && o->kind != KS_OPT_K_FLAG)
			return ks_fail(-EINVAL, "option '%s' takes no value", name);
		why = ks_opt_set(o, value);
		return why ? ks_fail(-EINVAL, "option '%s': %s", name, why) : 0;
	}
	return -ENOENT;
}

/* Edits (with neighbours swapped as one) between two words; both are short. */
static int edits(const char *a, const char *b)
{
	int na = (int)strlen(a);
	int nb = (int)strlen(b);
	int d[3][64];
	int *row = d[0];

	if (na >= 64 || nb >= 64)
		return 64;
	for (int j = 0; j <= nb; j++)
		d[0][j] = j;
	for (int i = 1; i <= na; i++) {
		int *up = d[(i + 2) % 3];
		int *up2 = d[(i + 1) % 3];

		row = d[i % 3];
		row[0] = i;
		for (int j = 1; j <= nb; j++) {
			int best = ks_min(up[j], row[j - 1]) + 1;

			best = ks_min(best, up[j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = ks_min(best, up2[j - 2] + 1);
			row[j] = best;
		}
	}
	return row[nb];
}

int ks_typo_distance(const char *a, const char *b)
{
	size_t na = strlen(a);
	size_t nb = strlen(b);
	int n = edits(a, b);
	int allowed = (int)ks_max(na, nb) / 3 + (ks_max(na, nb) > 1);

	/* The beginning of a longer word is what its author meant, too. */
	if (na >= 3 && na < nb && strncmp(a, b, na) == 0)
		return 1;
	return n <= allowed && n < (int)ks_max(na, (size_t)1) ? n : -1;
}

const char *ks_opt_nearest(const struct ks_opt *opts, const char *name)
{
	const char *best = NULL;
	int best_n = 64;

	for (const struct ks_opt *o = opts; o->kind != KS_OPT_K_END; o++) {
		int n = o->name && !(o->flags & KS_OPT_HIDDEN) ? ks_typo_distance(name, o->name)
							       : -1;

		if (n >= 0 && n < best_n) {
			best = o->name;
			best_n = n;
		}
	}
	return best;
}
