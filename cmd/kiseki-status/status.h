/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: what the files of kiseki-status share. */
#ifndef KISEKI_STATUS_H
#define KISEKI_STATUS_H

#include "volume/status.h"

struct status_args {
	bool check, sessions;
};
extern struct status_args arg;

void status_print(const struct ks_status *s, const struct ks_volume_ref *ref);
void status_summarise(const struct ks_status *s); /* for JSON */
/* What --check found. */
void status_explain(const struct ks_status *s, const struct ks_volume_ref *ref);

#endif
