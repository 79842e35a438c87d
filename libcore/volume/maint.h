/* SPDX-License-Identifier: Apache-2.0 */
/* maint.h: a volume as fsck and gc open it: metadata and store, without the vfs, its threads and its buffers. */
#ifndef KS_VOLUME_MAINT_H
#define KS_VOLUME_MAINT_H

#include "volume/volume.h"

struct ks_maint {
	struct ks_meta *meta;
	struct ks_object *store;
	char *data_url;
	char *shown_url; /* of the metadata */
	const struct ks_volume_settings *settings;
	struct ks_recover *recover; /* for sessions that died */
};

/*
 * Return: 0; -ENOENT; -EMEDIUMTYPE the store belongs to another volume; -EBUSY a tool has the volume for itself; -EBADMSG; -errno. All raised.
 * The meta is opened for reading only, unless @write; no session is started.
 */
int ks_maint_open(struct ks_maint *out, const struct ks_volume_ref *ref, bool write) KS_MUST_CHECK;
/* For repairs: keeps everybody else out until the close. -EBUSY: somebody has the volume open, and who is raised. */
int ks_maint_lock(struct ks_maint *m) KS_MUST_CHECK;
/* "kiseki-gc on web1 (process 990, since 2026-11-20T02:00:11Z, heartbeat 3 s ago)", into @out, which is returned. */
const char *ks_session_who(const struct ks_session_info *s, char *out, size_t n);
void ks_maint_close(struct ks_maint *m); /* zeroed is fine */

#endif
