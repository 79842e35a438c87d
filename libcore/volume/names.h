/* SPDX-License-Identifier: Apache-2.0 */
/* names.h: what finding a volume by name is made of. For volume/ and its tests. */
#ifndef KS_VOLUME_NAMES_H
#define KS_VOLUME_NAMES_H

#include "volume/volume.h"

/* The directories of one user's volumes and of the machine's: "ROOT/home/u/.local/share/kiseki". Owned; NULL: no memory, or no home. */
char *ks_names_user_dir(const struct ks_volume_find *find);
char *ks_names_system_dir(const struct ks_volume_find *find);

/*
 * A key of section @section in the configuration files, the strongest one. *out is owned, NULL when there is none.
 * @secret: the value may hold a password: its file must not be readable by others then (-EMEDIUMTYPE).
 */
int ks_config_get(const struct ks_volume_find *find, const char *section, const char *key,
		  bool secret, char **out) KS_MUST_CHECK;
/* Calls fn for every section that has a meta= line. */
int ks_config_volumes(const struct ks_volume_find *find, void (*fn)(void *arg, const char *name),
		      void *arg) KS_MUST_CHECK;
/* Is it a URL that names metadata? -EINVAL, raised, what else it is. The engine may still be missing in this build. */
int ks_url_check_meta(const char *url) KS_MUST_CHECK;
/* Length of "scheme" when the text starts with "scheme://", else 0. */
size_t ks_url_scheme(const char *text);

#endif
