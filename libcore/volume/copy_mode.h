/* SPDX-License-Identifier: Apache-2.0 */
/* copy_mode.h: changes of permissions as chmod(1) takes them: 640, u=rwX,go-w. */
#ifndef KS_VOLUME_COPY_MODE_H
#define KS_VOLUME_COPY_MODE_H

#include "base/def.h"

#define KS_MODE_CHANGES 16

struct ks_mode_change {
	struct {
		uint32_t who;  /* the bits it is about; 07777 */
		char op;       /* '+', '-', '='; '0': number */
		uint32_t bits; /* for all of who */
		bool x_if_any; /* 'X' */
	} v[KS_MODE_CHANGES];
	unsigned int n; /* 0: no change */
};

int ks_mode_parse(const char *text, struct ks_mode_change *out) KS_MUST_CHECK; /* -EINVAL */
/* @mode with its type, which stays. */
uint32_t ks_mode_apply(const struct ks_mode_change *c, uint32_t mode);

#endif
