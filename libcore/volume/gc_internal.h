/* SPDX-License-Identifier: Apache-2.0 */
/* gc_internal.h: what the gc*.c files share. */
#ifndef KS_VOLUME_GC_INTERNAL_H
#define KS_VOLUME_GC_INTERNAL_H

#include "base/clock.h"
#include "base/log.h"
#include "data/block.h"
#include "data/data.h"
#include "volume/extsort.h"
#include "volume/gc.h"
#include "volume/walk.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Slice and pack numbers are given out in batches of so many, each to one process, beginning at 1. */
#define KS_GC_BATCH 1024u
/* By how much the clocks of machines and stores may differ. */
#define KS_GC_CLOCK_SLACK_NS (3600 * KS_NS_PER_S)

struct ks_gc_session {
	uint64_t id;
	int64_t start_ns;
};

/* Words of the records of each sort; all begin with a number that they sort by. */
enum { OBJ_ID, OBJ_IDX, OBJ_SIZE, OBJ_BYTES, OBJ_MTIME, OBJ_WORDS };
enum { OWN_BATCH, OWN_SESSION, OWN_WORDS };

struct ks_gc {
	struct ks_maint *m;
	struct ks_engine *e;
	const struct ks_gc_opts *o;
	struct ks_gc_result out;
	int64_t now_ns;
	uint64_t self; /* our session */

	struct ks_gc_session *alive; /* other sessions that live, when all began */
	size_t nalive, capalive;
	int64_t oldest_ns;  /* when the oldest of them started */
	uint64_t next[2];   /* of slices, of packs: from here on numbers may still be given out */
	bool batches_ok[2]; /* the counters are where batches make them */

	struct ks_sort *blocks, *packs; /* what the store holds: OBJ_* */
	struct ks_sort *extents;        /* slices that extents name */
	struct ks_sort *packed;         /* packs that slices name */
	struct ks_sort *slice_owner,
		*pack_owner; /* OWN_*: which session got which batch, as far as records say */
	struct ks_sort *suspects, *pack_suspects; /* objects without a reference: OBJ_* */
	struct ks_sort *orphans, *pack_orphans;   /* those to be deleted: OBJ_* */
	struct ks_sort *dead_packs;               /* OBJ_* */
};

/* ---- gc_refs.c: reading, nothing is changed ---- */

int ks_gc_sessions(struct ks_gc *g) KS_MUST_CHECK;
int ks_gc_list(struct ks_gc *g) KS_MUST_CHECK;
int ks_gc_references(struct ks_gc *g) KS_MUST_CHECK;
int ks_gc_judge(struct ks_gc *g) KS_MUST_CHECK;
/* Does any record speak of this slice, or pack, now? One snapshot. */
int ks_gc_slice_known(struct ks_gc *g, uint64_t slice, bool *known) KS_MUST_CHECK;
int ks_gc_pack_known(struct ks_gc *g, uint64_t pack, bool *known) KS_MUST_CHECK;
/* What waits to be deleted now. */
struct ks_gc_left {
	uint64_t slices;         /* freed ones, those in packs too */
	uint64_t objects, bytes; /* of them, without those in packs */
	uint64_t files;          /* inodes without a name */
};
int ks_gc_left(struct ks_gc *g, struct ks_gc_left *out) KS_MUST_CHECK;

static inline bool ks_gc_stopped(struct ks_gc *g)
{
	if ((g->o->stopped && g->o->stopped(g->o->arg)) ||
	    (g->o->deadline_ns && ks_clock_mono_ns() >= g->o->deadline_ns))
		g->out.limited = true;
	return g->out.limited;
}

static inline void ks_gc_progress(struct ks_gc *g, const char *what, uint64_t done, uint64_t total)
{
	if (g->o->progress)
		g->o->progress(g->o->arg, what, done, total);
}

#endif
