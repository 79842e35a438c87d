/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.h: what a mount says about itself: over its control socket, and in its hidden directory. kiseki-json(7) has the members. */
#ifndef KS_VOLUME_INSPECT_H
#define KS_VOLUME_INSPECT_H

#include "vfs/vfs.h"
#include <jansson.h>

struct ks_mount_info {
	const char *volume, *mountpoint, *version; /* borrowed */
	uint64_t dev; /* atomic: the device of the mounted file system; 0: not known yet */
	const char *
		transport; /* atomic: what carries its requests, static text; NULL: not known yet */
};

void ks_mount_info_set(struct ks_mount_info *info, dev_t dev, const char *transport);

/* pid, mountpoint, device, transport, volume, version. The caller's; NULL: no memory. */
json_t *ks_mount_json(const struct ks_mount_info *info);
/* Those, and the counters. */
json_t *ks_stats_json(const struct ks_mount_info *info, struct ks_vfs *v);

/* The same as one line of text; takes @o over, which may be NULL: no memory. */
int ks_json_text(json_t *o, struct ks_buf *out) KS_MUST_CHECK;
/* The counters of @n mounts, as ks_stats_json() or their control sockets tell them, as one OpenMetrics text. */
int ks_metrics_of(json_t *const *stats, size_t n, struct ks_buf *out) KS_MUST_CHECK;
/* Those of one mount. */
int ks_metrics_text(const struct ks_mount_info *info, struct ks_vfs *v,
		    struct ks_buf *out) KS_MUST_CHECK;

#endif
