/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extsort.h: sorts any number of fixed-size records in bounded memory, for the tools that compare whole tables and listings.
 *
 * A record is an array of @words 64-bit numbers and sorts by all of them, the first first. What does not fit into the budget goes to an unlinked
 * temporary file in sorted runs, which ks_sort_finish() merges into one.
 *
 * Threads: one at a time; after the finish any number of cursors, each used by one.
 */
#ifndef KS_VOLUME_EXTSORT_H
#define KS_VOLUME_EXTSORT_H

#include "base/def.h"

#define KS_SORT_WORDS_MAX 8u

struct ks_sort;

/* @dir: where the temporary file goes; NULL: $TMPDIR, else /var/tmp, else /tmp. @budget_bytes: 0 means 8 MiB. */
int ks_sort_new(struct ks_sort **out, unsigned int words, size_t budget_bytes,
		const char *dir) KS_MUST_CHECK;
void ks_sort_free(struct ks_sort *s); /* NULL is fine */
void ks_sort_freep(struct ks_sort **s);
int ks_sort_add(struct ks_sort *s, const uint64_t *rec) KS_MUST_CHECK;
/* No more records; cursors may be used from now on. */
int ks_sort_finish(struct ks_sort *s) KS_MUST_CHECK;
uint64_t ks_sort_count(const struct ks_sort *s);

/* A zeroed cursor is closed. */
struct ks_sort_cur {
	struct ks_sort *s;
	uint64_t next;       /* index of the record behind the buffer */
	uint64_t *buf;       /* owned; NULL when the records are in memory */
	size_t have, at;     /* records in buf; the next one */
	const uint64_t *rec; /* the current record; NULL before the first and behind the last */
};

void ks_sort_begin(struct ks_sort_cur *c, struct ks_sort *s);
/* Goes to the next record: c->rec, or NULL at the end. */
int ks_sort_next(struct ks_sort_cur *c) KS_MUST_CHECK;
/* Goes to the first record whose first @n words are not less than @key's. */
int ks_sort_seek(struct ks_sort_cur *c, const uint64_t *key, unsigned int n) KS_MUST_CHECK;
void ks_sort_end(struct ks_sort_cur *c);

#endif
