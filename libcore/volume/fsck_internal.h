/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_internal.h: what the fsck*.c files share. */
#ifndef KS_VOLUME_FSCK_INTERNAL_H
#define KS_VOLUME_FSCK_INTERNAL_H

#include "base/clock.h"
#include "base/hmap.h"
#include "base/log.h"
#include "data/block.h"
#include "data/data.h"
#include "volume/extsort.h"
#include "volume/fsck.h"
#include "volume/walk.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KS_FSCK_ID_BATCH                                                                           \
	1024u /* numbers are given out in batches of so many, from 1; inodes from 16 */
#define KS_FSCK_FIRST_INO 16u

/* Words of the sorts' records. */
enum {
	NAME_INO,
	NAME_PARENT,
	NAME_HASH,
	NAME_TYPE,
	NAME_WORDS
}; /* names: every entry in a directory that exists */
enum {
	USE_SLICE,
	USE_INO,
	USE_CHUNK,
	USE_SEQ,
	USE_PLACE,
	USE_OFF,
	USE_WORDS
}; /* uses: every extent with data; PLACE is pos << 32 | len */
enum {
	PS_PACK,
	PS_OFF,
	PS_LEN,
	PS_SLICE,
	PS_FREED,
	PS_WORDS
}; /* packed: every slice in a pack; FREED: 1 it waits to be deleted */
enum { OBJ_ID, OBJ_IDX, OBJ_SIZE, OBJ_BYTES, OBJ_WORDS }; /* objects of the store */
enum {
	BAD_SLICE,
	BAD_FROM,
	BAD_TO,
	BAD_KIND,
	BAD_IDX,
	BAD_WORDS
}; /* bytes of slices that cannot be had */
enum {
	MEND_SLICE,
	MEND_IDX,
	MEND_SIZE,
	MEND_PACK,
	MEND_PACK_OFF,
	MEND_WORDS
}; /* objects whose data is right */
enum {
	HURT_INO,
	HURT_OFF,
	HURT_LEN,
	HURT_KIND,
	HURT_SLICE,
	HURT_IDX,
	HURT_WORDS
}; /* the same as bytes of files */

enum ks_bad {
	KS_BAD_MISSING,    /* the object is not there */
	KS_BAD_SHORT,      /* or has another size */
	KS_BAD_DAMAGED,    /* a checksum is wrong */
	KS_BAD_SWAPPED,    /* it is another block's */
	KS_BAD_RECORD,     /* the metadata has no checksums for it */
	KS_BAD_SLICE,      /* the metadata has no record of the slice */
	KS_BAD_UNREADABLE, /* the store says EIO */
	KS_BAD_TRAILER,    /* the data is right, and what the object says of itself is not */
	KS_BAD_COUNT
};

struct ks_fsck {
	struct ks_maint *m;
	struct ks_engine *e;
	const struct ks_fsck_opts *o;
	struct ks_fsck_result out;
	bool online; /* others may write meanwhile */
	int64_t now_ns;
	uint64_t epoch;      /* for what is freed by repairs */
	uint64_t lost_found; /* inode of /.lost+found; 0: not there (yet) */
	uint64_t *hours;     /* directories of the trash, in order */
	size_t nhours, caphours;

	/* Beside others: what the first run of a pass found, by hash. */
	bool rehearsal; /* that run is on: nothing is reported */
	struct ks_hmap seen;

	int pass;
	uint64_t done, total;

	struct ks_sort *names;   /* pass 1 on */
	struct ks_sort *subdirs; /* pass 1: the parent of every directory, once each */
	struct ks_sort *tree; /* pass 1: directory, parent; parent 0: it has none and is reported */
	struct ks_sort *orphans; /* pass 1: inodes that go to /.lost+found */
	struct ks_sort *uses;    /* pass 2 on */
	struct ks_sort *packed;
	struct ks_sort *objects, *pack_objects; /* pass 3 */
	struct ks_sort *bad;                    /* passes 2 and 3 */

	/* For pass 4. */
	uint64_t used_sum;
	uint64_t data_bytes; /* of all live slices */
	uint64_t max_ino, max_slice, max_pack, max_session, max_epoch;
};

/* ---- fsck.c ---- */

/*
 * Something is wrong. @fix repairs it in one transaction, when the level allows; NULL: there is no way. p->paths are looked up here when p->ino is set and
 * there are none. @key and p->is, p->should tell two findings apart beside kind, inode, slice and pack.
 */
int ks_fsck_found(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t key, ks_body_fn *fix,
		  void *arg) KS_MUST_CHECK;
bool ks_fsck_may(const struct ks_fsck *f, enum ks_fsck_repair r);
/* Counts one more item; -ECANCELED when asked to stop. */
int ks_fsck_step(struct ks_fsck *f) KS_MUST_CHECK;
int ks_fsck_sort(struct ks_fsck *f, struct ks_sort **s, unsigned int words) KS_MUST_CHECK;

/* A repair made of plain writes. */
enum ks_fsck_how { KS_FSCK_DEL, KS_FSCK_DEL_PREFIX, KS_FSCK_PUT, KS_FSCK_UPDATE };
struct ks_fsck_write {
	enum ks_fsck_how how;
	enum ks_table table;
	const void *rec;
	unsigned int n; /* DEL_PREFIX: key columns; UPDATE: of u */
	const struct ks_upd *u;
};
struct ks_fsck_fix {
	struct ks_fsck_write w[4];
	unsigned int n;
};
int ks_fsck_fix_body(struct ks_txn *t, void *arg);
/* ks_fsck_found() with a repair of plain writes. */
int ks_fsck_found_fix(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t key,
		      const struct ks_fsck_write *w, unsigned int n) KS_MUST_CHECK;

/* ---- fsck_paths.c: names of inodes; needs f->names finished ---- */

struct ks_fsck_paths {
	struct ks_fsck_path *v; /* owned, and what they point to */
	size_t n, cap;
};
int ks_fsck_paths(struct ks_fsck *f, uint64_t ino, struct ks_fsck_paths *out) KS_MUST_CHECK;
void ks_fsck_paths_clear(struct ks_fsck_paths *p);
/* "/dir/name" of one entry, which need not lead anywhere. */
int ks_fsck_entry_path(struct ks_fsck *f, const struct ks_rec_dentry *d,
		       struct ks_fsck_paths *out) KS_MUST_CHECK;
/* Do all its names lie below /.lost+found? false when it has none. */
int ks_fsck_is_quarantined(struct ks_fsck *f, uint64_t ino, bool *yes) KS_MUST_CHECK;
/* The entry of @parent with this hash that leads to @ino; d->name lies in @a. d->parent 0: gone. */
int ks_fsck_entry(struct ks_fsck *f, const uint64_t *name_rec, struct ks_rec_dentry *d,
		  struct ks_arena *a) KS_MUST_CHECK;

/* ---- fsck_trash.c ---- */

int ks_fsck_find_hours(struct ks_fsck *f) KS_MUST_CHECK; /* fills f->hours */
/* Is it one of the directories whose entries are in the trash? */
bool ks_fsck_is_hour(const struct ks_fsck *f, uint64_t dir);
/* NULL: a possible entry of the trash's root or of an hour; else what is wrong with it. *note: it names nothing. */
const char *ks_fsck_trash_entry(const struct ks_rec_dentry *d, bool *note);
int ks_fsck_trash(struct ks_fsck *f) KS_MUST_CHECK; /* the sums of the hours */

/* ---- fsck_move.c: /.lost+found ---- */

int ks_fsck_find_lost_found(struct ks_fsck *f) KS_MUST_CHECK;
/*
 * Moves an inode there: all its entries go, and it gets one new name. For ks_fsck_found(), with KS_FSCK_R_LOSSY; the directory is
 * made first by ks_fsck_move_prepare(), with @lost_found: not before all directories have been judged.
 */
struct ks_fsck_move {
	struct ks_fsck *f;
	uint64_t ino;
	struct ks_rec_dentry *names; /* that it has now */
	size_t n, cap;
	char name[KS_NAME_MAX + 1];
	bool moved;
	struct ks_arena a;
};
int ks_fsck_move_prepare(struct ks_fsck *f, uint64_t ino, bool lost_found,
			 struct ks_fsck_move *mv) KS_MUST_CHECK;
void ks_fsck_move_clear(struct ks_fsck_move *mv);
int ks_fsck_move_body(struct ks_txn *t, void *arg);
/* For repairs that write themselves: the entry "#INO" of /.lost+found, which exists after ks_fsck_move_prepare(). */
void ks_fsck_put_lost_name(struct ks_txn *t, struct ks_fsck_move *mv, uint32_t mode);

/* ---- the passes ---- */

int ks_fsck_names(struct ks_fsck *f) KS_MUST_CHECK;       /* fsck_names.c: entries */
int ks_fsck_names_build(struct ks_fsck *f) KS_MUST_CHECK; /* f->names anew, after repairs */
int ks_fsck_inodes(struct ks_fsck *f)
	KS_MUST_CHECK;                             /* fsck_inodes.c: inodes against their entries */
int ks_fsck_tree(struct ks_fsck *f) KS_MUST_CHECK; /* fsck_tree.c: subdirectories, reachability */
int ks_fsck_extents(struct ks_fsck *f) KS_MUST_CHECK; /* fsck_extents.c */
int ks_fsck_slices(struct ks_fsck *f) KS_MUST_CHECK;  /* fsck_slices.c */
int ks_fsck_packs(struct ks_fsck *f) KS_MUST_CHECK;   /* fsck_packs.c */
int ks_fsck_store(struct ks_fsck *f) KS_MUST_CHECK;   /* fsck_store.c */
int ks_fsck_read(struct ks_fsck *f) KS_MUST_CHECK;    /* fsck_read.c */
int ks_fsck_mend(struct ks_fsck *f, struct ks_sort *list)
	KS_MUST_CHECK; /* fsck_mend.c: trailers and headers; MEND_* */
int ks_fsck_files(struct ks_fsck *f)
	KS_MUST_CHECK; /* fsck_files.c: which files the bad blocks are in */
int ks_fsck_counters(struct ks_fsck *f) KS_MUST_CHECK; /* fsck_counters.c */
int ks_fsck_next_inode(struct ks_fsck *f)
	KS_MUST_CHECK; /* before inodes are made: their numbers must be new */

int ks_fsck_bad(struct ks_fsck *f, uint64_t slice, uint64_t from, uint64_t to, enum ks_bad kind,
		uint32_t idx) KS_MUST_CHECK;

/* ---- fsck_verify.c: one block or packed slice; 1: *kind says what is wrong; 0: all is well; -errno ---- */

struct ks_fsck_block {
	uint64_t slice, pack, pack_off;
	uint32_t idx, size;
	uint32_t sums[KS_CHUNK_SIZE / KS_PAGE_SIZE]; /* a packed slice may have as many pages */
};
struct ks_fsck_bytes {
	uint8_t *p; /* page aligned */
	size_t n;
};
#define KS_FSCK_BUFFER (1 * KS_MIB)
/* @from, @to: the bytes of the block that cannot be had, from the first bad page to the last. */
int ks_fsck_verify(struct ks_object *store, const struct ks_fsck_block *b, struct ks_fsck_bytes buf,
		   enum ks_bad *kind, uint32_t *from, uint32_t *to) KS_MUST_CHECK;
/* The block's own trailer. 0: *sums are its pages'; 1: no such block, or none that belongs here. */
int ks_fsck_trailer(struct ks_object *store, uint64_t slice, uint32_t idx, uint32_t size,
		    uint32_t *sums) KS_MUST_CHECK;
/* The header of a pack's record. 0: *sums; 1: it is another slice's. */
int ks_fsck_pack_header(struct ks_object *store, uint64_t pack, uint64_t off, uint64_t slice,
			uint32_t len, uint32_t sums[KS_PACK_PAGES_MAX]) KS_MUST_CHECK;
/* Is it still in the metadata, as live data, and not in the store? For what a listing did not show. 1: yes. */
int ks_fsck_still_gone(struct ks_fsck *f, uint64_t slice, uint32_t idx, uint32_t size,
		       enum ks_bad *kind) KS_MUST_CHECK;
int ks_fsck_still_cut(struct ks_fsck *f, uint64_t slice, uint64_t pack, uint64_t end,
		      enum ks_bad *kind) KS_MUST_CHECK;

/*
 * fsck_rescue.c: reports @p, which is about p->slice, with a repair from the trailers of the slice's blocks. 1: they do not give it, nothing
 * was reported. @need: bytes that are asked of it.
 */
int ks_fsck_rescue(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t need,
		   uint64_t refs) KS_MUST_CHECK;

static inline void ks_fsck_get_sums(uint32_t *out, struct ks_bytes b)
{
	const unsigned char *p = b.p;

	for (size_t i = 0; i + 4 <= b.n; i += 4)
		out[i / 4] = (uint32_t)p[i] | (uint32_t)p[i + 1] << 8 | (uint32_t)p[i + 2] << 16 |
			     (uint32_t)p[i + 3] << 24;
}

static inline void ks_fsck_put_sums(unsigned char *p, const uint32_t *sums, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		for (int k = 0; k < 4; k++)
			p[4 * i + (uint32_t)k] = (unsigned char)(sums[i] >> 8 * k);
	}
}

/* ---- small things ---- */

#define KS_FSCK_UPD(s, field, how, v)                                                              \
	((struct ks_upd){ .col_off = offsetof(struct ks_rec_##s, field),                           \
			  .op = (how),                                                             \
			  .value = (int64_t)(v) })

static inline struct ks_bytes ks_fsck_str(const char *s)
{
	return (struct ks_bytes){ .p = s, .n = strlen(s) };
}

static inline void ks_fsck_count(struct ks_txn *t, const char *name, int64_t by)
{
	struct ks_rec_counter c = { .name = ks_fsck_str(name) };
	struct ks_upd u = KS_FSCK_UPD(counter, value, KS_UPD_ADD, by);

	ks_txn_update(t, KS_T_COUNTER, &c, &u, 1);
}

static inline uint32_t ks_fsck_block_len(uint32_t len, uint32_t block_size, uint32_t idx)
{
	return ks_min(block_size, len - idx * block_size);
}

#endif
