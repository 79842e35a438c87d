/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h: tells the service manager how it stands (sd_notify(3)), without its library. */
#ifndef KS_BASE_NOTIFY_H
#define KS_BASE_NOTIFY_H

#include "base/def.h"

/* @state: lines such as "READY=1\nSTATUS=mounted". Nothing happens without $NOTIFY_SOCKET; a failure concerns nobody but the manager. */
void ks_notify(const char *state);

#endif
