/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_durable.c: what a power cut may take, and how it is taken back.
 *
 * A commit may reach the disk before the data it names. Two things make that harmless:
 *
 *	the mark	of each session: its slices below that number are on the disk. It rises with every sync of the store; its
 *			record follows at barriers. After a power cut only slices above it need a look (volume/recover.c).
 *	layers		an extent that a newer one hides stays below it until the newer one's slice is on the disk. Then the next commit to the
 *			chunk drops it, or a trim after a barrier. A slice that turns out not to be there is taken out of the
 *			chunk, and what was there before it shows again.
 *
 * What waits to be trimmed is remembered in memory only, and not all of it: compaction finds the rest.
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <stdlib.h>

#define HIDDEN_SLOTS 4096u /* a power of two; two chunks in one slot: one is left to compaction */
#define IDS_AFTER_CUT ((int64_t)1 << 20)

struct ks_hidden {
	uint64_t ino; /* 0: free */
	uint64_t chunk;
};

/* ---- the mark ---- */

uint64_t ks_meta_next_slice(struct ks_meta *m)
{
	KS_LOCKED(&m->mu);
	return m->pools[KS_ID_SLICE].next;
}

void ks_meta_set_durable(struct ks_meta *m, uint64_t below)
{
	uint64_t old = atomic_load(&m->durable);

	while (old < below && !atomic_compare_exchange_weak(&m->durable, &old, below))
		;
}

bool ks_meta_is_alone(const struct ks_meta *m)
{
	return atomic_load(&m->sole_epoch) != 0;
}

bool ks_meta_is_quiet(struct ks_meta *m)
{
	uint64_t foreign;

	if (!atomic_load(&m->session))
		return true; /* nobody says what is durable: is_durable() */
	if (!ks_meta_is_alone(m))
		return false;
	foreign = ks_engine_foreign_version(m->e);
	return foreign && foreign == atomic_load(&m->seen_foreign);
}

static int low_body(struct ks_txn *t, void *arg)
{
	const struct ks_rec_session *s = arg;
	struct ks_upd u = KS_UPD_COL(session, low, KS_UPD_MAX, s->low);
	struct ks_rec_session me = { .id = s->id };
	struct ks_read rd = { .table = KS_T_SESSION, .flags = KS_READ_WEAK, .rec = &me };
	int r = ks_txn_read(t, &rd, 1);

	if (r == 0 && rd.found)
		ks_txn_update(t, KS_T_SESSION, s, &u, 1);
	return r;
}

int ks_meta_save_durable(struct ks_meta *m)
{
	struct ks_rec_session s = { .id = atomic_load(&m->session),
				    .low = atomic_load(&m->durable) };
	int r;

	if (!s.id || s.low <= atomic_load(&m->low))
		return 0;
	r = ks_meta_run(m, low_body, &s);
	/* An older value that overtakes a newer one here costs one write. */
	if (r == 0)
		atomic_store(&m->low, s.low);
	return r;
}

/* ---- layers ---- */

void ks_marks_set(struct ks_meta *m, const struct ks_session_info *v, size_t n)
{
	struct ks_marks k = { .many = n > KS_MARKS_MAX };

	for (size_t i = 0; i < n; i++) {
		k.last = ks_max(k.last, v[i].id);
		if (i < KS_MARKS_MAX)
			k.v[k.n++] = (struct ks_mark){ v[i].id, v[i].low };
	}
	KS_LOCKED(&m->mu);
	m->marks = k;
}

/* What is known now. Marks only rise. */
static struct ks_marks marks_of(struct ks_meta *m)
{
	KS_LOCKED(&m->mu);
	return m->marks;
}

/* Is what this row shows on the disk? Without a session nobody keeps count: it is. */
static bool is_durable(const struct ks_meta *m, const struct ks_marks *k, const struct ks_row *row)
{
	uint64_t session = atomic_load(&m->session);

	if (!row->e.slice || !session)
		return true;
	if (row->s.session == session)
		return row->s.id < atomic_load(&m->durable);
	for (size_t i = 0; i < k->n; i++) {
		if (k->v[i].session == row->s.session)
			return row->s.id < k->v[i].low;
	}
	/* It has ended, and what it left was made good; or it began after the last look. */
	return row->s.session < k->last && !k->many;
}

struct unsettled {
	struct ks_meta *m;
	struct ks_marks marks;
	struct ks_rec_slice slice; /* the scan's */
	struct ks_free_item *v;
	size_t n, cap;
};

static int unsettled_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct unsettled *u = arg;
	const struct ks_row row = { .e = *(const struct ks_rec_extent *)rec, .s = u->slice };

	(void)node;
	/* Several extents of one slice mostly lie one behind the other. */
	if (row.s.session == atomic_load(&u->m->session) || is_durable(u->m, &u->marks, &row) ||
	    (u->n && u->v[u->n - 1].slice == row.s.id))
		return 0;
	if (ks_array_room(&u->v, u->n, &u->cap) < 0)
		return -ENOMEM;
	u->v[u->n++] = (struct ks_free_item){ .slice = row.s.id,
					      .len = row.s.len,
					      .block_size = row.s.block_size,
					      .pack = row.s.pack };
	return 0;
}

int ks_meta_unsettled(struct ks_meta *m, ks_ino_t ino, struct ks_free_item **v, size_t *n)
{
	struct ks_arena a = { 0 };
	struct unsettled u = { .m = m, .marks = marks_of(m) };
	struct ks_rec_extent from = { .ino = ino };
	struct ks_scan s = { .table = KS_T_EXTENT,
			     .flags = KS_READ_FOLLOW,
			     .slice = &u.slice,
			     .from = &from,
			     .nprefix = 1,
			     .fn = unsettled_one,
			     .arg = &u };
	int r = ks_engine_scan(m->e, &s, &a);

	ks_arena_clear(&a);
	if (r < 0) {
		free(u.v);
		u = (struct unsettled){ 0 };
	}
	*v = u.v;
	*n = u.n;
	return r;
}

size_t ks_rows_durable(struct ks_meta *m, const struct ks_row *v, size_t n)
{
	struct ks_marks k = marks_of(m);
	size_t i = 0;

	while (i < n && is_durable(m, &k, &v[i]))
		i++;
	return i;
}

int ks_rows_hidden(struct ks_meta *m, struct ks_row *v, size_t n)
{
	struct ks_marks marks;
	KS_AUTO(ks_chunk_map_freep) struct ks_chunk_map *map = NULL;
	KS_AUTO(ks_freep) struct ks_extent *e = NULL;
	size_t k = 0;
	int r;

	if (n < 2)
		return 0;
	e = calloc(n, sizeof(*e));
	if (!e)
		return -ENOMEM;
	marks = marks_of(m);
	for (size_t i = 0; i < n; i++) {
		bool durable = is_durable(m, &marks, &v[i]);

		v[i].gone = durable && v[i].e.slice;
		/* In place of the slice its row's number: two rows of one slice shall not be joined. */
		if (durable)
			e[k++] = (struct ks_extent){ .pos = v[i].e.pos,
						     .len = v[i].e.len,
						     .slice = v[i].e.slice ? i + 1 : 0 };
	}
	r = ks_chunk_map_build(e, k, &map);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < map->n; i++)
		v[map->e[i].slice - 1].gone = false;
	return 0;
}

void ks_hidden_add(struct ks_meta *m, uint64_t ino, uint64_t chunk)
{
	KS_LOCKED(&m->mu);
	if (!m->hidden)
		m->hidden = calloc(HIDDEN_SLOTS, sizeof(*m->hidden));
	/* Without memory it is compaction's. */
	if (!m->hidden)
		return;
	m->hidden[ks_mix64(ino ^ ks_mix64(chunk)) % HIDDEN_SLOTS] =
		(struct ks_hidden){ ino, chunk };
	m->any_hidden = true;
}

struct trim_arg {
	struct ks_meta *m;
	struct ks_hidden at;
	int64_t now;
	bool more; /* something is still hidden by what is not on the disk */
};

/*
 * The inode does not change: nothing that can be seen goes. Who takes away the same extents at the same time meets this one at the slices' records,
 * which both read strictly.
 */
static int trim_body(struct ks_txn *t, void *arg)
{
	struct trim_arg *a = arg;
	struct ks_rec_counter epoch;
	struct ks_read rd = ks_read_counter(&epoch, KS_CNT_EPOCH, 0);
	struct ks_rows rows = { 0 };
	struct ks_scan s =
		ks_rows_scan(&rows, ks_txn_arena(t), a->at.ino, a->at.chunk, a->at.chunk, false, 0);
	struct ks_refs refs = { .a = ks_txn_arena(t) };
	int r = ks_txn_fetch(t, &rd, 1, &s, 1);

	if (r == 0)
		r = ks_rows_hidden(a->m, rows.v, rows.n);
	a->more = r == 0 && ks_rows_durable(a->m, rows.v, rows.n) < rows.n;
	for (uint32_t i = 0; r == 0 && i < rows.n; i++) {
		if (!rows.v[i].gone)
			continue;
		ks_txn_del(t, KS_T_EXTENT, &rows.v[i].e);
		r = ks_refs_add(&refs, &rows.v[i].s, -1);
	}
	if (r == 0)
		ks_refs_apply(t, &refs, (uint64_t)epoch.value, a->now);
	return r;
}

int ks_meta_trim(struct ks_meta *m)
{
	struct ks_hidden *was;
	int r = 0;

	ks_mutex_lock(&m->mu);
	was = m->any_hidden ? m->hidden : NULL;
	if (was)
		m->hidden = NULL;
	m->any_hidden = false;
	ks_mutex_unlock(&m->mu);
	for (size_t i = 0; was && i < HIDDEN_SLOTS; i++) {
		struct trim_arg a = { .m = m, .at = was[i], .now = ks_clock_real_ns() };

		if (!was[i].ino)
			continue;
		if (r == 0)
			r = ks_meta_run(m, trim_body, &a);
		if (r < 0 || a.more)
			ks_hidden_add(m, was[i].ino, was[i].chunk);
	}
	free(was);
	return r;
}

/* ---- after a power cut ---- */

struct undo_arg {
	uint64_t ino, chunk;
	const uint64_t *slices; /* sorted */
	size_t n;
	int64_t now;
	uint64_t undone;
};

static int by_number(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

static int undo_body(struct ks_txn *t, void *arg)
{
	struct undo_arg *a = arg;
	struct ks_rec_inode n;
	struct ks_rec_counter epoch;
	struct ks_read rd[] = { ks_read_inode(&n, a->ino, 0),
				ks_read_counter(&epoch, KS_CNT_EPOCH, 0) };
	struct ks_rows rows = { 0 };
	struct ks_scan s =
		ks_rows_scan(&rows, ks_txn_arena(t), a->ino, a->chunk, a->chunk, false, 0);
	struct ks_refs refs = { .a = ks_txn_arena(t) };
	uint64_t before = 0, after = 0;
	int r = ks_txn_fetch(t, rd, 2, &s, 1);

	a->undone = 0;
	if (r < 0 || !rd[0].found)
		return r;
	r = ks_rows_cover(rows.v, rows.n, &before);
	for (uint32_t i = 0; r == 0 && i < rows.n; i++) {
		struct ks_row *row = &rows.v[i];

		if (!row->e.slice ||
		    !bsearch(&row->e.slice, a->slices, a->n, sizeof(*a->slices), by_number))
			continue;
		row->gone = true;
		a->undone += row->e.len;
		ks_txn_del(t, KS_T_EXTENT, &row->e);
		r = ks_refs_add(&refs, &row->s, -1);
	}
	if (r == 0)
		r = ks_rows_cover(rows.v, rows.n, &after);
	if (r < 0 || !a->undone)
		return r;
	ks_refs_apply(t, &refs, (uint64_t)epoch.value, a->now);
	n.used = n.used + after - ks_min(before, n.used + after);
	ks_count_used(t, &n, (int64_t)after - (int64_t)before);
	ks_touch(&n, a->now);
	ks_txn_put(t, KS_T_INODE, &n);
	return 0;
}

int ks_meta_undo(struct ks_meta *m, ks_ino_t ino, uint64_t chunk, const uint64_t *slices, size_t n,
		 uint64_t *undone)
{
	struct undo_arg a = {
		.ino = ino, .chunk = chunk, .slices = slices, .n = n, .now = ks_clock_real_ns()
	};
	int r = ks_meta_run(m, undo_body, &a);

	*undone = r == 0 ? a.undone : 0;
	return r;
}

static int skip_body(struct ks_txn *t, void *arg)
{
	(void)arg;
	ks_count_add(t, "next_inode", IDS_AFTER_CUT);
	ks_count_add(t, "next_slice", IDS_AFTER_CUT);
	ks_count_add(t, "next_pack", IDS_AFTER_CUT);
	return 0;
}

int ks_meta_skip_ids(struct ks_meta *m)
{
	return ks_meta_run(m, skip_body, NULL);
}
