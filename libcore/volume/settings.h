/* SPDX-License-Identifier: Apache-2.0 */
/* settings.h: a volume's settings as keys and values, for people. */
#ifndef KS_VOLUME_SETTINGS_H
#define KS_VOLUME_SETTINGS_H

#include "volume/volume.h"

enum ks_setting_kind {
	KS_SETTING_TEXT,
	KS_SETTING_UUID,
	KS_SETTING_TIME,
	KS_SETTING_BYTES,
	KS_SETTING_COUNT,
	KS_SETTING_SECONDS, /* a duration; kept in nanoseconds */
};

struct ks_setting {
	const char *key;
	enum ks_setting_kind kind;
	uint16_t off; /* in struct ks_volume_settings */
	bool change;  /* may be changed; 0 is "none" */
};

/* All of them, in the order in which they are shown; ends with a NULL key. */
extern const struct ks_setting ks_settings[];
const struct ks_setting *ks_setting_find(const char *key); /* NULL: none */

/* The number of a BYTES, COUNT or SECONDS setting. */
bool ks_setting_is_number(const struct ks_setting *k);
uint64_t ks_setting_number(const struct ks_setting *k, const struct ks_volume_settings *s);
/* Any other as text; @out has KS_SETTING_STR bytes. */
#define KS_SETTING_STR 1024
void ks_setting_text(const struct ks_setting *k, const struct ks_volume_settings *s, char *out);

/*
 * Sets one from "10G", "5000", "7d", "none". Return: 0; -EINVAL not of that form, -EPERM fixed when the volume was made; both raised.
 */
int ks_setting_set(const struct ks_setting *k, struct ks_volume_settings *s,
		   const char *value) KS_MUST_CHECK;

#endif
