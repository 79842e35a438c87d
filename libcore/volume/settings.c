/* SPDX-License-Identifier: Apache-2.0 */
/* settings.c: the table of a volume's settings. */
#include "volume/settings.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/size.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AT(field) offsetof(struct ks_volume_settings, field)

const struct ks_setting ks_settings[] = {
	{ "capacity", KS_SETTING_BYTES, AT(capacity_bytes), true },
	{ "inodes", KS_SETTING_COUNT, AT(inodes_max), true },
	{ "trash", KS_SETTING_SECONDS, AT(trash_ns), true },
	{ "name", KS_SETTING_TEXT, AT(name), false },
	{ "uuid", KS_SETTING_UUID, AT(uuid), false },
	{ "data", KS_SETTING_TEXT, AT(data_url), false },
	{ "block-size", KS_SETTING_BYTES, AT(block_size), false },
	{ "compress", KS_SETTING_TEXT, AT(compress), false },
	{ "created", KS_SETTING_TIME, AT(created_ns), false },
	{ "created-by", KS_SETTING_TEXT, AT(created_by), false },
	{ NULL, KS_SETTING_TEXT, 0, false },
};

const struct ks_setting *ks_setting_find(const char *key)
{
	for (const struct ks_setting *k = ks_settings; k->key; k++) {
		if (strcmp(k->key, key) == 0)
			return k;
	}
	return NULL;
}

static const void *place(const struct ks_setting *k, const struct ks_volume_settings *s)
{
	return (const char *)s + k->off;
}

uint64_t ks_setting_number(const struct ks_setting *k, const struct ks_volume_settings *s)
{
	uint64_t n;

	memcpy(&n, place(k, s), sizeof(n));
	return k->kind == KS_SETTING_SECONDS ? n / KS_NS_PER_S : n;
}

bool ks_setting_is_number(const struct ks_setting *k)
{
	return k->kind == KS_SETTING_BYTES || k->kind == KS_SETTING_COUNT ||
	       k->kind == KS_SETTING_SECONDS;
}

void ks_setting_text(const struct ks_setting *k, const struct ks_volume_settings *s, char *out)
{
	char uuid[KS_UUID_STR];
	char time[KS_TIME_STR];
	int64_t ns;

	switch (k->kind) {
	case KS_SETTING_UUID:
		ks_uuid_format(place(k, s), uuid);
		snprintf(out, KS_SETTING_STR, "%s", uuid);
		break;
	case KS_SETTING_TIME:
		memcpy(&ns, place(k, s), sizeof(ns));
		ks_time_format(ns, time);
		snprintf(out, KS_SETTING_STR, "%.19sZ", time);
		break;
	case KS_SETTING_TEXT:
		snprintf(out, KS_SETTING_STR, "%s", (const char *)place(k, s));
		break;
	default:
		snprintf(out, KS_SETTING_STR, "%" PRIu64, ks_setting_number(k, s));
	}
}

/* A number of files; 0 would be a volume that is full, and is refused: who means "no quota" says so. */
static int parse_count(const char *value, uint64_t *out)
{
	char *end;
	uintmax_t n;

	if (strcmp(value, "none") == 0 || strcmp(value, "off") == 0) {
		*out = 0;
		return 0;
	}
	if (*value < '0' || *value > '9')
		return -EINVAL;
	errno = 0;
	n = strtoumax(value, &end, 10);
	if (errno || *end || n == 0 || n > INT64_MAX)
		return -EINVAL;
	*out = n;
	return 0;
}

static int parse_bytes(const char *value, uint64_t *out)
{
	uint64_t n;
	int r = ks_size_parse_opt(value, &n);

	if (r < 0 || n > INT64_MAX)
		return -EINVAL;
	if (n == 0 && *value >= '0' && *value <= '9')
		return -EINVAL;
	*out = n;
	return 0;
}

static int parse_duration(const char *value, uint64_t *out)
{
	int64_t ns;
	int r = ks_duration_parse_opt(value, &ns);

	/* Whole seconds, and no less than one: less would be shown as none. */
	if (r < 0 || (ns && ns < KS_NS_PER_S))
		return -EINVAL;
	*out = (uint64_t)(ns / KS_NS_PER_S * KS_NS_PER_S);
	return 0;
}

int ks_setting_set(const struct ks_setting *k, struct ks_volume_settings *s, const char *value)
{
	static const char *const forms[] = {
		[KS_SETTING_BYTES] = "a size above 0, as " KS_SIZE_FORMS "; or none",
		[KS_SETTING_COUNT] = "a number above 0, or none",
		[KS_SETTING_SECONDS] = "a time of at least 1s, as " KS_DURATION_FORMS "; or none",
	};
	uint64_t n;
	int r;

	if (!k->change)
		return ks_fail(-EPERM, "'%s' was fixed when the volume was made", k->key);
	if (k->kind == KS_SETTING_SECONDS)
		r = parse_duration(value, &n);
	else
		r = k->kind == KS_SETTING_BYTES ? parse_bytes(value, &n) : parse_count(value, &n);
	if (r < 0)
		return ks_fail_hint(r, forms[k->kind], "%s=%s", k->key, value);
	memcpy((char *)s + k->off, &n, sizeof(n));
	return 0;
}
