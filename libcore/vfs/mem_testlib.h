/* SPDX-License-Identifier: Apache-2.0 */
/* mem_testlib.h: a vfs as a test has it: over URLs of memory or of disk, in a session. For test programs. */
#ifndef KS_VFS_MEM_TESTLIB_H
#define KS_VFS_MEM_TESTLIB_H

#include "base/tap.h"
#include "vfs/vfs.h"

/*
 * Opens metadata and data and starts a vfs over them, in a session unless it is readonly. @mo without hooks and @vo without meta and store. @faults, unless
 * NULL, gets the store that ks_object_fault_set() takes.
 */
static inline struct ks_vfs *vfs_up(const char *meta, const char *data, struct ks_meta_opts mo,
				    struct ks_vfs_opts vo, struct ks_object **faults)
{
	struct ks_vfs *v = NULL;

	ks_check_ok(ks_vfs_new(&v));
	mo.hooks = ks_vfs_hooks(v);
	ks_check_ok(ks_meta_open(&vo.meta, meta, &mo));
	ks_check_ok(ks_object_open(&vo.store, data));
	if (faults) {
		ks_check_ok(ks_object_with_fault(&vo.store, vo.store, ""));
		*faults = vo.store;
	}
	ks_check_ok(ks_object_with_stats(&vo.store, vo.store));
	if (!mo.readonly)
		ks_check_ok(ks_meta_session_start(vo.meta, KS_SESSION_TOOL, "test", "", ""));
	ks_check_ok(ks_vfs_start(v, &vo));
	return v;
}

/* The same over the volume @name in memory, which is made when it is not there: it lives as long as somebody has it open. */
static inline struct ks_vfs *vfs_in_memory(const char *name, struct ks_meta_opts mo,
					   struct ks_vfs_opts vo, struct ks_object **faults)
{
	struct ks_volume_settings s = { .format_version = 1,
					.block_size = KS_BLOCK_DEFAULT,
					.data_url = "mem://test" };
	char url[64];
	int r;

	snprintf(url, sizeof(url), "mem://%s", name);
	snprintf(s.name, sizeof(s.name), "%s", name);
	r = ks_meta_format(url, &s, 0, 0);
	ks_check(r == 0 || r == -EEXIST);
	return vfs_up(url, url, mo, vo, faults);
}

#endif
