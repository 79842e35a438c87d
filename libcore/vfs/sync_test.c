/* SPDX-License-Identifier: Apache-2.0 */
/* sync_test.c: the background deletion of what is freed. */
#include "object/store.h"
#include "vfs/vfs_testlib.h"

#define STUCK 5000u /* more than one list has */

static struct ks_store_ops picky;
static int (*real_del)(struct ks_object *o, const char *const *keys, size_t n);
static _Atomic unsigned int refused;

/* As a directory that somebody has made immutable. */
static int refuse(struct ks_object *o, const char *const *keys, size_t n)
{
	char last[KS_KEY_STR];

	ks_block_key(last, STUCK + 1, 0, KS_BLOCK_MIN);
	if (strcmp(keys[0], last) == 0)
		return real_del(o, keys, n);
	refused++;
	return -EPERM;
}

static int free_many(struct ks_txn *t, void *arg)
{
	(void)arg;
	for (uint64_t i = 1; i <= STUCK + 1; i++) {
		struct ks_rec_freed f = { .slice = i,
					  .len = KS_BLOCK_MIN,
					  .block_size = KS_BLOCK_MIN };

		ks_txn_insert(t, KS_T_FREED, &f);
	}
	return 0;
}

static bool is_freed(struct rig *g, uint64_t slice)
{
	struct ks_arena a = { 0 };
	struct ks_rec_freed f = { .slice = slice };
	struct ks_read rd = { .table = KS_T_FREED, .rec = &f };

	ks_check_ok(ks_engine_read(ks_meta_engine(g->v->meta), &rd, 1, &a));
	ks_arena_clear(&a);
	return rd.found;
}

KS_TEST(what_cannot_be_deleted_is_not_in_the_way)
{
	const struct timespec nap = { .tv_nsec = 50000000 };
	unsigned int tries;
	struct vol o;
	struct rig g;

	vol_new(&o);
	start(&g, &o);
	picky = *g.faults->ops;
	real_del = picky.del;
	picky.del = refuse;
	g.faults->ops = &picky;
	ks_check_ok(ks_engine_run(ks_meta_engine(g.v->meta), free_many, NULL));
	ks_check_ok(ks_vfs_start_maintenance(g.v, true));
	for (int i = 0; i < 600 && is_freed(&g, STUCK + 1); i++)
		nanosleep(&nap, NULL);
	ks_check(!is_freed(&g, STUCK + 1));
	ks_check(is_freed(&g, 1) && is_freed(&g, STUCK));
	/* Each was tried once, and not all the time since. */
	tries = refused;
	ks_check_eq(tries, STUCK);
	for (int i = 0; i < 50; i++)
		nanosleep(&nap, NULL);
	ks_check_eq(refused, tries);
	stop(&g);
	vol_end(&o);
}

KS_TEST_MAIN()
