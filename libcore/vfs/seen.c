/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seen.c: which version of a file the kernel's cached pages belong to, for keep_cache.
 *
 * A slot (inode, change) says: every page the kernel may hold of the inode is what a read of version @change returns. It comes from
 *
 *	ks_seen_set  an open that let the kernel drop its pages, once a request of that handle (a read, the release) shows that they are
 *		     dropped. Not earlier: a second open between the reply and the dropping would otherwise keep old pages.
 *	ks_seen_own  a commit of this process that made version @change out of the one in the slot. The kernel's pages follow our own writes:
 *		     a direct write drops the range, a cached one changes the page, truncation and fallocate drop what they touch,
 *		     attributes do not concern pages. Counters go up by one, so a change by somebody else in between leaves a gap, and the slot
 *		     stays behind for ever: the next open drops the pages.
 *
 * The table is bounded: two inodes on one slot only cost the kernel its pages at the next open.
 */
#include "vfs/internal.h"

int ks_seen_init(struct ks_vfs *v)
{
	v->seen = calloc(KS_SEEN_SLOTS, sizeof(*v->seen));
	if (!v->seen)
		return -ENOMEM;
	for (int i = 0; i < KS_VNODE_SHARDS; i++)
		pthread_mutex_init(&v->seen_mu[i], NULL);
	return 0;
}

void ks_seen_destroy(struct ks_vfs *v)
{
	for (int i = 0; i < KS_VNODE_SHARDS; i++)
		pthread_mutex_destroy(&v->seen_mu[i]);
	free(v->seen);
}

static size_t slot_of(ks_ino_t ino)
{
	return ks_mix64(ino) % KS_SEEN_SLOTS;
}

bool ks_seen_is(struct ks_vfs *v, ks_ino_t ino, uint64_t change)
{
	size_t i = slot_of(ino);

	KS_LOCKED(&v->seen_mu[i % KS_VNODE_SHARDS]);
	return v->seen[i].ino == ino && v->seen[i].change == change;
}

void ks_seen_set(struct ks_vfs *v, ks_ino_t ino, uint64_t change)
{
	size_t i = slot_of(ino);

	KS_LOCKED(&v->seen_mu[i % KS_VNODE_SHARDS]);
	if (v->seen[i].ino != ino || v->seen[i].change < change)
		v->seen[i] = (struct ks_seen){ ino, change };
}

void ks_seen_own(struct ks_vfs *v, ks_ino_t ino, uint64_t change)
{
	size_t i = slot_of(ino);

	KS_LOCKED(&v->seen_mu[i % KS_VNODE_SHARDS]);
	if (v->seen[i].ino == ino && v->seen[i].change + 1 == change)
		v->seen[i].change = change;
}
