/* SPDX-License-Identifier: Apache-2.0 */
/* gc.c: the order of the steps, and the deletions. gc_refs.c finds out what may go. */
#include "volume/gc_internal.h"

#include "base/thread.h"
#include <stdio.h>
#include <time.h>

#define BATCH 256u
#define WAIT_DEFAULT_NS (3 * KS_NS_PER_S)
#define NAP_NS (50 * KS_NS_PER_MS)
#define TICK_NS (200 * KS_NS_PER_MS)

/* ---- deleting ---- */

struct keys {
	char name[BATCH][KS_KEY_STR];
	uint64_t bytes[BATCH];
	const char *p[BATCH];
	size_t n;
};

static void keys_add(struct keys *k, const char *key, uint64_t bytes)
{
	snprintf(k->name[k->n], KS_KEY_STR, "%s", key);
	k->p[k->n] = k->name[k->n];
	k->bytes[k->n++] = bytes;
}

static void deleted(struct ks_gc *g, const struct keys *k, size_t i, const char *why)
{
	g->out.deleted_objects++;
	g->out.deleted_bytes += k->bytes[i];
	if (g->o->item)
		g->o->item(g->o->arg, k->p[i], k->bytes[i], why);
}

/* Deletes them all, or one by one to find those that cannot be. Returns how many could not; empties @k. */
static size_t keys_delete(struct ks_gc *g, struct keys *k, const char *why)
{
	size_t failed = 0;
	bool all = k->n == 0 || ks_object_del(g->m->store, k->p, k->n) == 0;

	for (size_t i = 0; i < k->n; i++) {
		int r = all ? 0 : ks_object_del(g->m->store, &k->p[i], 1);

		if (r == 0)
			deleted(g, k, i, why);
		else if (g->o->failed)
			g->o->failed(g->o->arg, k->p[i], r);
		failed += r < 0;
	}
	k->n = 0;
	return failed;
}

/* Room for how many more objects before a limit; 0 sets limited. */
static uint64_t allowance(struct ks_gc *g)
{
	uint64_t left = UINT64_MAX;

	if (ks_gc_stopped(g))
		return 0;
	if (g->o->max_delete)
		left = g->o->max_delete - ks_min(g->o->max_delete, g->out.deleted_objects);
	if (left == 0)
		g->out.limited = true;
	return left;
}

/* ---- pending ---- */

static size_t delete_slice(struct ks_gc *g, struct keys *k, const struct ks_free_item *f)
{
	uint32_t blocks = f->pack || !f->block_size ? 0 : ks_blocks_of(f->len, f->block_size);
	size_t failed = 0;

	for (uint32_t i = 0; i < blocks; i++) {
		uint32_t size = ks_min(f->block_size, f->len - i * f->block_size);
		char key[KS_KEY_STR];

		ks_block_key(key, f->slice, i, size);
		keys_add(k, key, ks_block_object_size(size));
		if (k->n == BATCH)
			failed += keys_delete(g, k, "pending");
	}
	return failed + keys_delete(g, k, "pending");
}

/* Once over all that is to be deleted. What fails stays, and must not be in the way of what is behind it. */
struct pass {
	uint64_t after; /* where it is; 0: begins */
	uint64_t done, failed;
};

/* 1: the pass is over, and something was done in it; 0: it was not. */
static int pass_over(struct ks_gc *g, struct pass *p)
{
	bool any = p->done > 0;

	/* Else they are tried once more. */
	if (!any)
		g->out.failed += p->failed;
	*p = (struct pass){ 0 };
	return any;
}

/* 1: go on; 0: nothing can be done now. */
static int pending_batch(struct ks_gc *g, struct keys *k, struct pass *p)
{
	struct ks_free_item items[BATCH];
	ssize_t n = ks_meta_free_list(g->m->meta, &p->after, items, BATCH);
	size_t done = 0;
	int r;

	if (n < 0)
		return (int)n;
	if (n == 0)
		return p->after ? 1 : pass_over(g, p);
	/* The commit that freed them, and the data of what took their place, have to be durable before they go. */
	r = ks_object_sync_all(g->m->store);
	if (r == 0)
		r = ks_meta_sync(g->m->meta);
	if (r < 0)
		return r;
	for (ssize_t i = 0; i < n && allowance(g) > 0; i++) {
		size_t bad = delete_slice(g, k, &items[i]);

		p->failed += bad;
		if (!bad)
			items[done++] = items[i];
		g->out.pending.bytes += bad || items[i].pack ? 0 : items[i].len;
		g->out.pending.objects +=
			bad || items[i].pack
				? 0
				: ks_blocks_of(items[i].len, ks_max(items[i].block_size, 1u));
	}
	r = done ? ks_meta_free_done(g->m->meta, items, done) : 0;
	if (r < 0)
		return r;
	p->done += done;
	return p->after ? 1 : pass_over(g, p);
}

/* Sessions pass epochs once a second; what nobody holds is free after two of them. */
static int pending(struct ks_gc *g, struct keys *k)
{
	int64_t wait = g->o->wait_ns ? g->o->wait_ns : WAIT_DEFAULT_NS;
	int64_t since = ks_clock_mono_ns();
	uint64_t last_files = UINT64_MAX;
	struct timespec nap = ks_ns_to_ts(NAP_NS);
	struct pass pass = { 0 };

	while (!ks_gc_stopped(g) && allowance(g) > 0) {
		struct ks_gc_left left;
		int r = ks_meta_tick(g->m->meta, TICK_NS);

		if (r == 0)
			r = pending_batch(g, k, &pass);
		if (r < 0)
			return r;
		if (r > 0) {
			since = ks_clock_mono_ns();
			ks_gc_progress(g, "deleting", g->out.deleted_objects, 0);
			continue;
		}
		r = ks_gc_left(g, &left);
		if (r < 0)
			return r;
		if (left.files < last_files)
			since = ks_clock_mono_ns();
		last_files = left.files;
		if ((left.files == 0 && left.slices == 0) || g->out.failed ||
		    ks_clock_mono_ns() - since > wait)
			return 0;
		nanosleep(&nap, NULL);
	}
	return 0;
}

/* ---- packs ---- */

/* May somebody append to it who was not there when all began? */
static int is_idle(struct ks_gc *g, uint64_t pack, bool *idle)
{
	struct ks_pack_info p;
	ssize_t n = ks_meta_packs(g->m->meta, pack - 1, &p, 1);

	*idle = n == 1 && p.id == pack && !p.alive;
	return (int)ks_min(n, (ssize_t)0);
}

/* The record first: if the object stays behind then, it is an orphan that the next run finds. */
static int dead_packs(struct ks_gc *g, struct keys *k)
{
	struct ks_sort_cur c;
	int r = 0;

	ks_sort_begin(&c, g->dead_packs);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec && allowance(g) > 0) {
		char key[KS_KEY_STR];
		bool dropped, idle;

		r = is_idle(g, c.rec[OBJ_ID], &idle);
		if (r < 0 || !idle)
			continue;
		r = ks_meta_pack_drop(g->m->meta, c.rec[OBJ_ID], &dropped);
		if (r < 0 || !dropped)
			continue;
		r = ks_meta_sync(g->m->meta);
		if (r < 0 || !c.rec[OBJ_BYTES])
			continue;
		ks_pack_key(key, c.rec[OBJ_ID]);
		keys_add(k, key, c.rec[OBJ_BYTES]);
		g->out.failed += keys_delete(g, k, "pack");
	}
	ks_sort_end(&c);
	return r;
}

/* ---- orphans ---- */

/* Is it still the object that was listed? */
static int unchanged(struct ks_gc *g, const char *key, const uint64_t *rec, bool *same)
{
	struct ks_object_info info;
	int r = ks_object_head(g->m->store, key, &info);

	*same = r == 0 && (uint64_t)ks_max(info.mtime_ns, (int64_t)0) == rec[OBJ_MTIME] &&
		info.size_bytes == rec[OBJ_BYTES];
	return r == -ENOENT ? 0 : r;
}

static int orphan_may_go(struct ks_gc *g, const uint64_t *rec, bool packs, char key[KS_KEY_STR],
			 bool *may)
{
	bool known = true;
	int r = packs ? ks_gc_pack_known(g, rec[OBJ_ID], &known)
		      : ks_gc_slice_known(g, rec[OBJ_ID], &known);

	*may = false;
	if (r < 0 || known)
		return r;
	if (packs)
		ks_pack_key(key, rec[OBJ_ID]);
	else
		ks_block_key(key, rec[OBJ_ID], (uint32_t)rec[OBJ_IDX], (uint32_t)rec[OBJ_SIZE]);
	return unchanged(g, key, rec, may);
}

/* Looks each up once more: what has become known or has changed meanwhile stays. */
static int orphans_of(struct ks_gc *g, struct keys *k, struct ks_sort *s, bool packs)
{
	struct ks_sort_cur c;
	bool may;
	int r = 0;

	ks_sort_begin(&c, s);
	while (r == 0 && allowance(g) > k->n && (r = ks_sort_next(&c)) == 0 && c.rec) {
		char key[KS_KEY_STR];

		r = orphan_may_go(g, c.rec, packs, key, &may);
		if (r < 0 || !may)
			continue;
		keys_add(k, key, c.rec[OBJ_BYTES]);
		if (k->n == BATCH) {
			g->out.failed += keys_delete(g, k, "orphan");
			ks_gc_progress(g, "deleting", g->out.deleted_objects,
				       g->out.orphans.objects);
		}
	}
	if (r == 0)
		g->out.failed += keys_delete(g, k, "orphan");
	if (g->o->max_delete && g->out.deleted_objects >= g->o->max_delete && c.rec)
		g->out.limited = true;
	ks_sort_end(&c);
	k->n = 0;
	return r;
}

/* ---- the whole ---- */

static bool wants(const struct ks_gc *g, unsigned int what)
{
	return (g->o->what ? g->o->what : KS_GC_ALL) & what;
}

static int open_sorts(struct ks_gc *g)
{
	const struct {
		struct ks_sort **s;
		unsigned int words;
	} all[] = {
		{ &g->blocks, OBJ_WORDS },
		{ &g->packs, OBJ_WORDS },
		{ &g->extents, 1 },
		{ &g->packed, 1 },
		{ &g->slice_owner, OWN_WORDS },
		{ &g->pack_owner, OWN_WORDS },
		{ &g->suspects, OBJ_WORDS },
		{ &g->pack_suspects, OBJ_WORDS },
		{ &g->orphans, OBJ_WORDS },
		{ &g->pack_orphans, OBJ_WORDS },
		{ &g->dead_packs, OBJ_WORDS },
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(all); i++)
		r = ks_sort_new(all[i].s, all[i].words, 0, g->o->tmpdir);
	return r;
}

static void gc_close(struct ks_gc *g)
{
	struct ks_sort *all[] = { g->blocks,      g->packs,        g->extents,   g->packed,
				  g->slice_owner, g->pack_owner,   g->suspects,  g->pack_suspects,
				  g->orphans,     g->pack_orphans, g->dead_packs };

	for (size_t i = 0; i < KS_ARRAY_SIZE(all); i++)
		ks_sort_free(all[i]);
	free(g->alive);
}

static int check_ceiling(const struct ks_gc *g)
{
	uint64_t n = g->out.orphans.objects;

	if (g->o->force || n <= KS_GC_CEILING || n <= g->out.scanned_objects / 2)
		return 0;
	return ks_fail_hint(-EDQUOT, "run kiseki-fsck; if all is well, use --force",
			    "volume '%s': %ju of %ju objects look like garbage, which is hard to "
			    "believe: nothing was deleted",
			    g->m->settings->name, (uintmax_t)n, (uintmax_t)g->out.scanned_objects);
}

/* Reading only; whatever fails here, nothing was deleted. */
static int look(struct ks_gc *g)
{
	int r = ks_gc_sessions(g);

	if (r == 0 && wants(g, KS_GC_ORPHANS | KS_GC_PENDING))
		r = open_sorts(g);
	if (r < 0 || !wants(g, KS_GC_ORPHANS | KS_GC_PENDING))
		return r;
	r = ks_gc_list(g);
	if (r == 0)
		r = ks_gc_references(g);
	if (r == 0 && wants(g, KS_GC_ORPHANS))
		r = ks_gc_judge(g);
	if (r == 0)
		r = check_ceiling(g);
	return r;
}

static void would_delete(struct ks_gc *g, struct ks_sort *s, bool packs, const char *why)
{
	struct ks_sort_cur c;

	if (!g->o->item)
		return;
	ks_sort_begin(&c, s);
	while (ks_sort_next(&c) == 0 && c.rec) {
		char key[KS_KEY_STR];

		if (packs)
			ks_pack_key(key, c.rec[OBJ_ID]);
		else
			ks_block_key(key, c.rec[OBJ_ID], (uint32_t)c.rec[OBJ_IDX],
				     (uint32_t)c.rec[OBJ_SIZE]);
		g->o->item(g->o->arg, key, c.rec[OBJ_BYTES], why);
	}
	ks_sort_end(&c);
}

struct trash {
	uint64_t before;
	struct ks_trash_sum expired, kept;
};

static int trash_hour(void *arg, const struct ks_trash_hour *h)
{
	struct trash *t = arg;
	struct ks_trash_sum *to = h->hour < t->before ? &t->expired : &t->kept;

	if (h->entries && !to->entries)
		to->oldest_hour = h->hour;
	to->entries += h->entries;
	to->bytes += h->bytes;
	return 0;
}

/* What is in the trash; what has expired is freed, hundreds of entries in a step. */
static int trash(struct ks_gc *g)
{
	struct trash t = { .before = ks_trash_hour_before(g->now_ns, g->m->settings->trash_ns) };
	int r = 1;

	while (!g->o->dry_run && wants(g, KS_GC_TRASH) && r > 0) {
		if (allowance(g) == 0)
			break;
		r = ks_meta_trash_expire(g->m->meta, &g->out.expired);
	}
	if (r >= 0)
		r = ks_meta_trash_hours(g->m->meta, trash_hour, &t);
	g->out.kept = t.kept;
	if (g->o->dry_run)
		g->out.expired = wants(g, KS_GC_TRASH) ? t.expired : (struct ks_trash_sum){ 0 };
	return r;
}

static int preview(struct ks_gc *g)
{
	struct ks_gc_left left;
	int r = ks_gc_left(g, &left);

	if (r == 0)
		r = trash(g);
	if (r < 0)
		return r;
	if (wants(g, KS_GC_PENDING)) {
		g->out.pending = (struct ks_gc_count){ left.objects, left.bytes };
		g->out.deleted_files = left.files;
		would_delete(g, g->dead_packs, true, "pack");
	}
	if (wants(g, KS_GC_ORPHANS)) {
		would_delete(g, g->orphans, false, "orphan");
		would_delete(g, g->pack_orphans, true, "orphan");
	}
	return 0;
}

static int collect(struct ks_gc *g, struct keys *k)
{
	struct ks_gc_left left;
	int r = trash(g);

	if (r == 0 && wants(g, KS_GC_SESSIONS | KS_GC_PENDING))
		r = ks_meta_tick(g->m->meta, TICK_NS);
	if (r == 0 && wants(g, KS_GC_PENDING))
		r = pending(g, k);
	if (r == 0 && wants(g, KS_GC_PENDING))
		r = dead_packs(g, k);
	if (r == 0 && wants(g, KS_GC_ORPHANS))
		r = orphans_of(g, k, g->orphans, false);
	if (r == 0 && wants(g, KS_GC_ORPHANS))
		r = orphans_of(g, k, g->pack_orphans, true);
	if (r == 0)
		r = ks_gc_left(g, &left);
	if (r == 0) {
		g->out.waiting = (struct ks_gc_count){ left.objects, left.bytes };
		g->out.deleted_files = left.files;
	}
	return r;
}

int ks_gc(struct ks_maint *m, const struct ks_gc_opts *o, struct ks_gc_result *out)
{
	struct ks_gc g = { .m = m,
			   .e = ks_meta_engine(m->meta),
			   .o = o,
			   .now_ns = ks_clock_real_ns(),
			   .self = ks_meta_session_id(m->meta) };
	struct keys *k = calloc(1, sizeof(*k));
	int r = k ? look(&g) : -ENOMEM;

	if (r == -ECANCELED && g.out.limited) {
		r = 0; /* stopped while it was looking */
	} else if (r == 0) {
		r = o->dry_run ? preview(&g) : collect(&g, k);
	}
	*out = g.out;
	gc_close(&g);
	free(k);
	return r;
}
