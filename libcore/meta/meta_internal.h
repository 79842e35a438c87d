/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_internal.h: what the meta_*.c files share. Included by them only.
 *
 * Who guards what, in the terms of engine.h's conditions:
 *	an inode's extents	its inode record: whoever changes them reads the inode strictly and raises its change counter; compaction, which changes no content,
 *				reads inode and extents strictly and leaves the counter
 *	a slice's refs		its own record: read strictly by who takes references away, added to blindly by who adds them.
 *	a directory's entries	each by itself. Creating reads the directory weakly (it exists), removing it deletes its record: the two conflict.
 *	the tree's shape	the counter "dirmove": read strictly by renames between directories, raised by those that move a directory with directories in it.
 *	an epoch		the counter "epoch": read strictly by who deletes or frees, so that nothing is added to an epoch that has been left.
 */
#ifndef KS_META_META_INTERNAL_H
#define KS_META_META_INTERNAL_H

#include "meta/acl.h"
#include "meta/meta.h"

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/thread.h"
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define KS_FIRST_INO 16 /* 2..15 are reserved */
#define KS_ID_BATCH 1024
#define KS_STEP_ROWS 1000 /* extents that one transaction takes away at most */
#define KS_DIR_SIZE 4096
#define KS_FORMAT_VERSION 1

#define KS_CNT_USED "used_bytes"
#define KS_CNT_INODES "inodes"
#define KS_CNT_EPOCH "epoch"
#define KS_CNT_DIRMOVE "dirmove"

enum ks_id { KS_ID_INO, KS_ID_SLICE, KS_ID_PACK, KS_ID_COUNT };

struct ks_id_pool {
	uint64_t next, end; /* [ks_meta.mu] */
};

/* How far the sessions are that lived at the last heartbeat. */
#define KS_MARKS_MAX 16
struct ks_mark {
	uint64_t session, low;
};
struct ks_marks {
	struct ks_mark v[KS_MARKS_MAX];
	size_t n;
	uint64_t last; /* newest session */
	bool many;     /* there are more than fit */
};

struct ks_meta {
	struct ks_engine *e;
	struct ks_volume_settings set; /* what may change: written with set_mu, read atomically */
	struct ks_meta_opts o;
	bool readonly;
	bool no_trash;                         /* what this process removes is gone */
	_Atomic uint64_t capacity, inodes_max; /* as in set, but may change */
	char *locks;         /* directory of the lock files; NULL: the engine has none */
	int volume_fd;       /* LOCKS/volume; -1 */
	int session_fd;      /* LOCKS/session-ID; -1 */
	_Atomic bool hold;   /* this session passes no epoch */
	_Atomic bool fenced; /* others have declared it dead: it changes nothing any more */

	pthread_mutex_t set_mu; /* held over a transaction, before mu */
	pthread_mutex_t mu;
	pthread_cond_t cond;
	struct ks_id_pool pools[KS_ID_COUNT]; /* [mu] */
	uint64_t trash_hour, trash_dir;       /* [mu] an hour's directory; 0: unknown */
	struct ks_marks marks;                /* [mu] */
	struct ks_hidden *hidden;             /* [mu] chunks with extents that wait to be dropped */
	bool any_hidden;                      /* [mu] */
	bool stop;                            /* [mu] of the heartbeat */

	pthread_t thread;
	bool thread_on; /* session_start and session_stop only */
	_Atomic uint64_t session;
	_Atomic uint64_t
		sole_epoch; /* in this epoch ours is the only session; 0: it is not, or unknown */
	_Atomic uint64_t durable; /* slices of this session below this number survive a power cut */
	_Atomic uint64_t low;     /* as its record says so */
	_Atomic uint64_t seen_foreign; /* ks_engine_foreign_version() of the last pass */
	_Atomic uint64_t reap_cursor;  /* deleted inodes up to here were looked at in this round */
};

/* ---- meta.c ---- */

int ks_meta_new_id(struct ks_meta *m, enum ks_id kind, uint64_t *out) KS_MUST_CHECK;
/* Runs a body that writes: -EROFS on a read-only volume. */
int ks_meta_run(struct ks_meta *m, ks_body_fn *body, void *arg) KS_MUST_CHECK;
/* As ks_meta_run(); when the volume's quota says -ENOSPC, first gives back what deleted files still hold. */
int ks_meta_run_quota(struct ks_meta *m, ks_body_fn *body, void *arg) KS_MUST_CHECK;
int ks_meta_read_settings(struct ks_meta *m) KS_MUST_CHECK;
/* Says that the session has been fenced. Return: always -EIO */
int ks_session_fenced(struct ks_meta *m);

static inline struct ks_bytes ks_bytes_str(const char *s)
{
	return (struct ks_bytes){ .p = s, .n = strlen(s) };
}

static inline struct ks_read ks_read_inode(struct ks_rec_inode *node, uint64_t ino,
					   unsigned int flags)
{
	*node = (struct ks_rec_inode){ .ino = ino };
	return (struct ks_read){ .table = KS_T_INODE, .flags = flags, .rec = node };
}

static inline struct ks_read ks_read_counter(struct ks_rec_counter *c, const char *name,
					     unsigned int flags)
{
	*c = (struct ks_rec_counter){ .name = ks_bytes_str(name) };
	return (struct ks_read){ .table = KS_T_COUNTER, .flags = flags, .rec = c };
}

/* Nothing is written when @by is 0. */
void ks_count_add(struct ks_txn *t, const char *name, int64_t by);

#define KS_UPD_COL(s, field, how, v)                                                               \
	((struct ks_upd){ .col_off = offsetof(struct ks_rec_##s, field),                           \
			  .op = (how),                                                             \
			  .value = (int64_t)(v) })

/* A directory's entries have changed: its times, its change counter, and @links more subdirectories. */
void ks_touch_dir(struct ks_txn *t, uint64_t dir, int64_t now, int links);
/* An inode read strictly has changed: ctime and the change counter; the caller puts it. */
void ks_touch(struct ks_attr *a, int64_t now);
/* What a write or chown takes from a file's mode. */
uint32_t ks_mode_kill_priv(uint32_t mode);

/* ---- meta_dir.c ---- */

int ks_dentry_key(const struct ks_meta *m, uint64_t parent, const char *name,
		  struct ks_rec_dentry *d) KS_MUST_CHECK; /* -EINVAL, -ENAMETOOLONG */
/* May entries of this directory be changed? @removing: also for append-only ones. -ENOENT, -ENOTDIR, -EPERM. */
int ks_check_parent(const struct ks_read *r, bool removing) KS_MUST_CHECK;
/* Usage, read along when there is a quota: ks_quota_reads() adds none or two reads and says how many. */
struct ks_quota {
	struct ks_rec_counter used, inodes;
};
unsigned int ks_quota_reads(struct ks_meta *m, struct ks_quota *q, struct ks_read *rd);
int ks_quota_check(struct ks_meta *m, const struct ks_quota *q, int64_t bytes,
		   int64_t inodes) KS_MUST_CHECK; /* -ENOSPC */
static inline uint32_t ks_dtype(uint32_t mode)
{
	return (mode & S_IFMT) >> 12;
}

/* ---- meta_acl.c ---- */

bool ks_is_acl(const char *name);
/*
 * What a new inode @n, whose mode is the one asked for, has from its directory: a default ACL, which its permissions are cut down to, and which a directory
 * passes on; without one, the bits of @mask are taken away. One trip more where the directory has an ACL.
 */
int ks_acl_inherit(struct ks_txn *t, const struct ks_attr *parent, uint32_t mask,
		   struct ks_attr *n) KS_MUST_CHECK;
/* The mode of @n, as it is now, goes into its access ACL. One trip where it has an ACL. */
int ks_acl_follow_mode(struct ks_txn *t, const struct ks_attr *n) KS_MUST_CHECK;
int ks_acl_set(struct ks_meta *m, uint64_t ino, const char *name, const void *value, size_t n,
	       int flags) KS_MUST_CHECK;
int ks_acl_remove(struct ks_meta *m, uint64_t ino, const char *name) KS_MUST_CHECK;

/* ---- meta_unlink.c ---- */

struct ks_trash;

/* What is needed to take a name from an inode; epoch was read strictly. */
struct ks_lose {
	struct ks_meta *m;
	uint64_t epoch;
	int64_t now;
	struct ks_trash *trash; /* ready; NULL or off: what loses its last name is gone */
};
/* @node, read strictly, has lost the name @d: the record is written or deleted, and @node is what it is then. Not for directories. */
void ks_lose_name(struct ks_txn *t, const struct ks_lose *l, const struct ks_rec_dentry *d,
		  struct ks_attr *node);
/* An empty directory goes; in the trash it has the number @id. One trip more when that has extended attributes. */
int ks_lose_dir(struct ks_txn *t, const struct ks_lose *l, const struct ks_rec_dentry *d,
		struct ks_attr *node, uint64_t id) KS_MUST_CHECK;
/* An inode without links and without an entry: freed now, or when nobody can have it open any more. */
void ks_end_inode(struct ks_txn *t, const struct ks_lose *l, struct ks_attr *node);
/* Is there any entry in the directory? One trip. */
int ks_dir_is_empty(struct ks_txn *t, uint64_t dir, bool *empty) KS_MUST_CHECK;

/* ---- meta_trash.c ---- */

/*
 * What one operation puts into the trash. begin before it runs; in each run of its body reads with the others, ready behind the reads, and write at its end; end
 * behind it says whether it has to be done again. Zeroed and never begun: there is no trash.
 */
struct ks_trash {
	bool on;
	uint64_t hour;
	uint64_t
		dir; /* the hour's directory; 0: it is to be found, or made with the number @spare */
	uint64_t spare, id; /* numbers for it, and for a directory that goes in */
	/* of one run */
	const struct ks_read *rd;
	struct ks_rec_dentry d;
	struct ks_rec_inode node, root;
	char name[KS_TRASH_HOUR_STR];
	uint64_t at;
	bool make, id_used;
	uint64_t entries, bytes;
};
#define KS_TRASH_READS 2
int ks_trash_begin(struct ks_meta *m, int64_t now, bool dirs, struct ks_trash *x) KS_MUST_CHECK;
unsigned int ks_trash_reads(struct ks_trash *x, struct ks_read *rd); /* how many */
int ks_trash_ready(struct ks_trash *x) KS_MUST_CHECK; /* -ESTALE: see ks_trash_end() */
void ks_trash_file(struct ks_txn *t, struct ks_trash *x, const struct ks_rec_dentry *from,
		   struct ks_attr *node);
int ks_trash_dir(struct ks_txn *t, struct ks_trash *x, const struct ks_rec_dentry *from,
		 const struct ks_attr *node, uint64_t id) KS_MUST_CHECK;
void ks_trash_write(struct ks_txn *t, const struct ks_trash *x, int64_t now);
bool ks_trash_end(struct ks_meta *m, struct ks_trash *x, int r);

/* The data of a file, whose record was read strictly, has become more by @by bytes: so have the volume's, and the trash's when it lies there. */
void ks_count_used(struct ks_txn *t, const struct ks_attr *n, int64_t by);

/* ---- meta_extent.c ---- */

struct ks_row {
	struct ks_rec_extent e;
	struct ks_rec_slice s; /* id 0: a hole */
	bool gone, cut;        /* what became of it */
};

/* Collects extents with their slices from a scan. */
struct ks_rows {
	struct ks_arena *a;
	struct ks_row *v;
	size_t n, cap;
	struct ks_rec_slice slice; /* the scan's */
	struct ks_rec_extent from; /* the scan's */
	uint64_t min_chunk, max_chunk;
	uint32_t limit;   /* stop after so many; 0: none */
	bool cut_short;   /* the limit was met */
	uint32_t *budget; /* the same for several scans together; NULL: none */
	const struct ks_attr
		*beyond; /* stop at once when the inode's size is not above beyond_at */
	uint64_t beyond_at;
};
/* A scan of @ino's extents in chunks min..max. @flags as of the scan; slices are joined. */
struct ks_scan ks_rows_scan(struct ks_rows *rows, struct ks_arena *a, uint64_t ino,
			    uint64_t min_chunk, uint64_t max_chunk, bool reverse,
			    unsigned int flags);

/* References taken and given, summed over a transaction. */
struct ks_ref {
	struct ks_rec_slice s;
	int64_t delta;
};
struct ks_refs {
	struct ks_arena *a;
	struct ks_ref *v;
	size_t n, cap;
};
int ks_refs_add(struct ks_refs *r, const struct ks_rec_slice *s,
		int64_t delta) KS_MUST_CHECK; /* s->id 0: nothing */
/* Writes them: a slice without references is freed in @epoch. */
void ks_refs_apply(struct ks_txn *t, struct ks_refs *r, uint64_t epoch, int64_t now);

/* Bytes of data (not holes) that rows [from, to) of one chunk cover, gone ones left out. */
int ks_rows_cover(const struct ks_row *v, size_t n, uint64_t *out) KS_MUST_CHECK;

/* Makes [off, end) of a file a hole. Rows are those of the chunks concerned, in order of chunk, all of each. */
struct ks_clear {
	uint64_t ino, off, end;
	uint64_t seq;   /* of hole records to be made; raised */
	uint64_t freed; /* out: bytes that were data */
};
int ks_rows_clear(struct ks_txn *t, struct ks_clear *c, struct ks_row *v, size_t n,
		  struct ks_refs *refs) KS_MUST_CHECK;

/* One step of clearing: everything from @off to @end, or as much as fits, from the end on. @done_from: what was cleared begins here. */
int ks_clear_read(struct ks_txn *t, struct ks_rows *rows, uint64_t *done_from) KS_MUST_CHECK;

static inline uint64_t ks_seq_of(uint64_t change)
{
	return change << 12;
}
#define KS_SEQS_PER_CHANGE 4096u

/* ---- meta_durable.c ---- */

/*
 * Marks as gone what newer rows hide that are on the disk. @v: rows of one chunk in their order; one of which a part may be seen beyond the others of @v stays.
 */
int ks_rows_hidden(struct ks_meta *m, struct ks_row *v, size_t n) KS_MUST_CHECK;
/* How many rows from the first on are on the disk. */
size_t ks_rows_durable(struct ks_meta *m, const struct ks_row *v, size_t n);
/* The heartbeat has looked at the sessions that live. */
void ks_marks_set(struct ks_meta *m, const struct ks_session_info *v, size_t n);
/* Something in this chunk is hidden only by what may not be on the disk yet. */
void ks_hidden_add(struct ks_meta *m, uint64_t ino, uint64_t chunk);

/* ---- meta_commit.c ---- */

/* A new slice with its blocks, and its extent in @ino. */
int ks_slice_write(struct ks_txn *t, struct ks_meta *m, uint64_t ino,
		   const struct ks_commit_slice *s, uint64_t seq, int64_t now) KS_MUST_CHECK;
/* Its records without an extent and without its share of a pack. */
int ks_slice_records(struct ks_txn *t, const struct ks_meta *m, const struct ks_commit_slice *s,
		     uint64_t refs, int64_t now) KS_MUST_CHECK;

/* ---- meta_data.c ---- */

/* The page checksums of a slice in a pack, in the arena; NULL of another. -EBADMSG: the record is damaged. */
int ks_slice_sums(struct ks_arena *a, const struct ks_rec_slice *s, uint32_t **out) KS_MUST_CHECK;

/* ---- meta_pack.c ---- */

/* What one transaction changes in one pack's record. */
struct ks_pack_share {
	struct ks_rec_pack p;
	int64_t live, slices;
	uint64_t size;
};
/* The share of @pack, put behind the @n others if it is new; there is room. */
struct ks_pack_share *ks_pack_share_add(struct ks_pack_share *v, size_t *n, uint64_t pack);
void ks_pack_share_write(struct ks_txn *t, struct ks_meta *m, const struct ks_pack_share *s,
			 bool found);

/* ---- meta_lock.c ---- */

int ks_session_lock(struct ks_meta *m, uint64_t id) KS_MUST_CHECK;
void ks_session_file_remove(struct ks_meta *m, uint64_t id);
bool ks_session_is_dead(struct ks_meta *m, const struct ks_session_info *s);
int ks_locks_open(struct ks_meta *m, const char *url) KS_MUST_CHECK; /* @url: of the metadata */
void ks_locks_close(struct ks_meta *m);
char *ks_locks_dir(const char *url); /* owned; NULL: none */

#endif
