/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk.h: a cursor over a whole table in key order, in bounded memory: what fsck and gc merge with each other. It reads stretches of a
 * few thousand records, each of one moment; between them others may write.
 */
#ifndef KS_VOLUME_WALK_H
#define KS_VOLUME_WALK_H

#include "base/buf.h"
#include "meta/engine.h"

struct ks_walk {
	struct ks_engine *e;
	enum ks_table table;
	struct ks_arena arena
		[2]; /* this stretch's and the one before, whose last key the next begins after */
	unsigned int which;
	char *recs; /* copies of the records; their bytes lie in the arena */
	size_t n, cap, at;
	size_t bytes;  /* of the stretch so far */
	uint64_t from; /* the first key column begins here; 0: at the table's start */
	bool started, eof;
	const void *rec; /* the current one; NULL before the first and behind the last */
	uint64_t seen;
};

void ks_walk_begin(struct ks_walk *w, struct ks_engine *e, enum ks_table t);
/* The same from where the first key column, an integer, is at least @from. */
void ks_walk_begin_at(struct ks_walk *w, struct ks_engine *e, enum ks_table t, uint64_t from);
int ks_walk_next(struct ks_walk *w) KS_MUST_CHECK;
/* Goes on, if need be, until the first key column, an integer, is at least @key. A walk just begun is started. */
int ks_walk_to(struct ks_walk *w, uint64_t key) KS_MUST_CHECK;
void ks_walk_end(struct ks_walk *w); /* zeroed is fine */

/* The first key column of the current record; UINT64_MAX behind the last. */
uint64_t ks_walk_key(const struct ks_walk *w);

#endif
