/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: how a volume is. */
#ifndef KS_VOLUME_STATUS_H
#define KS_VOLUME_STATUS_H

#include "volume/volume.h"

enum {                              /* why a volume is not healthy */
       KS_STATUS_DATA = 1 << 0,     /* its data cannot be reached, or is another volume's */
       KS_STATUS_SESSIONS = 1 << 1, /* dead sessions that nobody has cleared away yet */
       KS_STATUS_QUOTA = 1 << 2,    /* more than 95 % of a quota is used */
       KS_STATUS_FSCK = 1 << 3,     /* the last repair left damage */
       KS_STATUS_GC = 1 << 4,       /* kiseki-gc has failed, or was not run for too long */
};

/* A volume that kiseki-gc was run on once is looked after by a timer: it misses it after that. */
#define KS_STATUS_GC_DAYS 8

struct ks_status {
	struct ks_volume_settings settings;
	char *meta_url; /* for people */
	char *data_url; /* absolute */
	uint64_t meta_bytes;
	int64_t meta_ns; /* one read */
	int data_err;    /* 0: reachable, and this volume's */
	char *data_text; /* why not; NULL */
	char *data_hint;
	int64_t data_ns; /* one small read */
	struct ks_object_usage data;
	struct ks_meta_usage usage; /* with what is in the trash */
	struct ks_trash_sum trash;
	struct ks_last last[KS_TOOLS]; /* when maintenance ended */
	struct ks_session_info *sessions;
	char **transports; /* of the sessions: what carries a mount's requests; NULL: none, or it does not tell us */
	size_t nsessions, capsessions, ndead;
	unsigned int problems; /* KS_STATUS_* */
};
void ks_status_clear(struct ks_status *s);

/* Opens the volume read-only and looks. Data that cannot be reached is a finding, not a failure. Return: 0; as ks_volume_open(). */
int ks_status_get(struct ks_status *out, const struct ks_volume_ref *ref) KS_MUST_CHECK;
/* Did that run of kiseki-gc fail? One that stopped at a limit, or was stopped, did not. */
bool ks_status_gc_failed(const struct ks_last *gc);

#endif
