/* SPDX-License-Identifier: Apache-2.0 */
/* vfs_testlib.h: volumes, on disk or in memory, and processes that have them open; what the tests of packs and compaction share. For test programs. */
#ifndef KS_VFS_VFS_TESTLIB_H
#define KS_VFS_VFS_TESTLIB_H

#include "base/hash.h"
#include "vfs/internal.h"
#include "vfs/mem_testlib.h"
#include <fcntl.h>

struct vol {
	char meta[512], data[512];
	/* What is in memory lives as long as somebody has it open. */
	struct ks_meta *keep;
	struct ks_object *keep_data;
};

struct rig {
	struct ks_vfs *v;
	struct ks_object *faults;
	struct ks_ctx c;
};

/* Where vol_new() makes volumes. */
static bool on_disk;
static uint32_t vol_block_size = KS_BLOCK_DEFAULT;

static inline void vol_new(struct vol *o)
{
	const struct ks_meta_opts mo = { 0 };
	struct ks_volume_settings s = { .format_version = 1,
					.name = "packs",
					.block_size = vol_block_size,
					.data_url = "mem://packs" };
	static int n;

	n++;
	if (on_disk) {
		snprintf(o->meta, sizeof(o->meta), "sqlite://%s/p%d.db", ks_tap_dir(), n);
		snprintf(o->data, sizeof(o->data), "file://%s/p%d", ks_tap_dir(), n);
	} else {
		snprintf(o->meta, sizeof(o->meta), "mem://packs-%d", n);
		snprintf(o->data, sizeof(o->data), "mem://packs-%d", n);
	}
	ks_check_ok(ks_meta_format(o->meta, &s, 0, 0));
	ks_check_ok(ks_meta_open(&o->keep, o->meta, &mo));
	ks_check_ok(ks_object_open(&o->keep_data, o->data));
}

static inline void vol_end(struct vol *o)
{
	ks_meta_close(o->keep);
	ks_object_close(o->keep_data);
}

static inline void start(struct rig *g, const struct vol *o)
{
	struct ks_meta_opts mo = { .noatime = true };
	struct ks_vfs_opts vo = { .data = { .buffer_bytes = 32 * KS_MIB,
					    .readahead_bytes = UINT64_MAX,
					    .flush_idle_ns = 3600 * KS_NS_PER_S,
					    .flush_age_ns = 3600 * KS_NS_PER_S } };

	*g = (struct rig){ 0 };
	g->v = vfs_up(o->meta, o->data, mo, vo, &g->faults);
}

static inline void stop(struct rig *g)
{
	ks_check_ok(ks_vfs_close(g->v));
}

#endif
