/* SPDX-License-Identifier: Apache-2.0 */
/* walk.c: stretches of a table, one scan each. */
#include "volume/walk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STRETCH 2048u
#define STRETCH_BYTES (1 * KS_MIB) /* of names, values and checksums */

void ks_walk_begin(struct ks_walk *w, struct ks_engine *e, enum ks_table t)
{
	*w = (struct ks_walk){ .e = e, .table = t };
}

void ks_walk_begin_at(struct ks_walk *w, struct ks_engine *e, enum ks_table t, uint64_t from)
{
	ks_walk_begin(w, e, t);
	w->from = from;
}

void ks_walk_end(struct ks_walk *w)
{
	ks_arena_clear(&w->arena[0]);
	ks_arena_clear(&w->arena[1]);
	free(w->recs);
	*w = (struct ks_walk){ 0 };
}

static int take(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	struct ks_walk *w = arg;
	const struct ks_table_desc *d = &ks_tables[w->table];
	void *copy = w->recs + w->n * d->size;

	(void)inode;
	memcpy(copy, rec, d->size);
	/* The engine's bytes live in this arena only where it says so; a copy is ours for certain. */
	for (unsigned int i = 0; i < d->ncol; i++) {
		struct ks_bytes b;
		void *p;

		if (!ks_col_is_bytes(&d->cols[i]))
			continue;
		b = ks_rec_bytes(rec, &d->cols[i]);
		p = ks_arena_copy(&w->arena[w->which], b.n ? b.p : "", b.n);
		if (!p)
			return -ENOMEM;
		b.p = p;
		w->bytes += b.n;
		ks_rec_set_bytes(copy, &d->cols[i], b);
	}
	w->n++;
	return w->n == STRETCH || w->bytes >= STRETCH_BYTES;
}

static int load(struct ks_walk *w)
{
	const struct ks_table_desc *d = &ks_tables[w->table];
	union ks_record last;
	struct ks_arena scratch = { 0 };
	struct ks_scan s = {
		.table = w->table, .flags = KS_READ_SNAPSHOT, .limit = STRETCH, .fn = take, .arg = w
	};
	int r;

	if (!w->recs) {
		w->recs = malloc((size_t)STRETCH * d->size);
		if (!w->recs)
			return -ENOMEM;
	}
	if (w->n) {
		memcpy(&last, w->recs + (w->n - 1) * d->size, d->size);
		s.from = &last;
		s.nafter = d->nkey;
	} else if (w->from) {
		ks_rec_set_int(&last, &d->cols[0], (int64_t)(w->from - 1));
		s.from = &last;
		s.nafter = 1;
	}
	w->which ^= 1;
	ks_arena_reset(&w->arena[w->which]);
	w->n = w->at = w->bytes = 0;
	r = ks_engine_scan(w->e, &s, &scratch);
	ks_arena_clear(&scratch);
	if (r < 0)
		return r;
	w->eof = w->n == 0;
	return 0;
}

int ks_walk_next(struct ks_walk *w)
{
	int r;

	w->started = true;
	w->rec = NULL;
	if (w->eof)
		return 0;
	if (w->at == w->n) {
		r = load(w);
		if (r < 0 || w->eof)
			return r;
	}
	w->rec = w->recs + w->at++ * ks_tables[w->table].size;
	w->seen++;
	return 0;
}

uint64_t ks_walk_key(const struct ks_walk *w)
{
	return w->rec ? (uint64_t)ks_rec_int(w->rec, &ks_tables[w->table].cols[0]) : UINT64_MAX;
}

int ks_walk_to(struct ks_walk *w, uint64_t key)
{
	int r = w->started ? 0 : ks_walk_next(w);

	while (r == 0 && w->rec && ks_walk_key(w) < key)
		r = ks_walk_next(w);
	return r;
}
