/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record.h: the metadata's records, described as data.
 *
 * A record is a C struct; its table describes name, key columns and value columns with their types and offsets.
 * From that one description come the SQL schema, an engine's encoding, dump and load, and fsck's scans. Engines know columns, never meanings.
 * doc/format.md says what every column means. The key columns come first, in the order of the key.
 */
#ifndef KS_META_RECORD_H
#define KS_META_RECORD_H

#include "base/def.h"

enum ks_table {
	KS_T_SETTING, /* the volume's settings: name -> value */
	KS_T_COUNTER, /* name -> integer: next ids, usage */
	KS_T_INODE,
	KS_T_DENTRY,
	KS_T_SYMLINK,
	KS_T_XATTR,
	KS_T_EXTENT, /* the slices of a chunk, in commit order */
	KS_T_SLICE,
	KS_T_BLOCK,   /* the blocks of a slice that has objects of its own */
	KS_T_PACK,    /* objects that carry many small slices */
	KS_T_DELETED, /* inodes without a name, whose data waits to be freed */
	KS_T_FREED,   /* slices nobody refers to, whose objects wait to be deleted */
	KS_T_SESSION,
	KS_T_CLAIM, /* session x inode: open although it has no name */
	KS_T_COUNT
};

enum ks_col_type {
	KS_COL_U64, /* stored as a signed 64-bit integer: values stay below 2^63 */
	KS_COL_I64,
	KS_COL_U32,
	KS_COL_BYTES, /* struct ks_bytes */
	KS_COL_TEXT, /* struct ks_bytes, UTF-8 by construction (host names, settings), never file names */
};

struct ks_col {
	const char *name;
	uint16_t off;
	uint8_t type; /* enum ks_col_type */
};

#define KS_COLS_MAX 20

struct ks_table_desc {
	const char *name;
	uint8_t nkey, ncol; /* key columns are the first nkey */
	uint16_t size;      /* of the C struct */
	struct ks_col cols[KS_COLS_MAX];
};

extern const struct ks_table_desc ks_tables[KS_T_COUNT];

struct ks_rec_setting {
	struct ks_bytes name;
	struct ks_bytes value;
};

struct ks_rec_counter {
	struct ks_bytes name;
	int64_t value;
};

struct ks_rec_inode {
	uint64_t ino;
	uint64_t parent; /* of a directory, or of a file with one name; 0: several, or none */
	uint32_t mode;   /* type and permissions, as st_mode */
	uint32_t nlink;
	uint32_t uid;
	uint32_t gid;
	uint32_t rdev;  /* new_encode_dev form */
	uint32_t flags; /* KS_INODE_* */
	uint64_t size;  /* bytes; of a directory: 4096; of a symlink: its target's length */
	uint64_t used;  /* bytes of file data its extents cover, overlaps counted once, holes not */
	int64_t atime_ns;
	int64_t mtime_ns;
	int64_t ctime_ns;
	int64_t btime_ns;
	uint64_t change; /* goes up with every change of content or attributes */
};

enum {
	KS_INODE_IMMUTABLE = 1 << 0, /* chattr +i */
	KS_INODE_APPEND = 1 << 1,    /* chattr +a */
	KS_INODE_NODUMP = 1 << 2,
	KS_INODE_HAS_XATTR = 1 << 8, /* without it no xattr record is looked for */
	KS_INODE_HAS_ACL = 1 << 9,
};

struct ks_rec_dentry {
	uint64_t parent;
	uint64_t hash; /* of the name, keyed by the volume, 63 bits, at least KS_DENTRY_HASH_MIN */
	struct ks_bytes name;
	uint64_t ino;
	uint32_t type; /* DT_* */
};
#define KS_DENTRY_HASH_MIN 16u /* smaller cookies are "." and ".." and room for more */

struct ks_rec_symlink {
	uint64_t ino;
	struct ks_bytes target;
};

struct ks_rec_xattr {
	uint64_t ino;
	struct ks_bytes name;
	struct ks_bytes value;
};

/* One piece of a chunk. A later seq lies over an earlier one. slice 0 is a hole that hides what lies below. */
struct ks_rec_extent {
	uint64_t ino;
	uint64_t chunk; /* index: file offset / 64 MiB */
	uint64_t seq;
	uint32_t pos; /* first byte within the chunk */
	uint32_t len; /* pos + len <= 64 MiB */
	uint64_t slice;
	uint32_t off; /* first byte within the slice */
};

struct ks_rec_slice {
	uint64_t id;
	uint32_t len;
	uint32_t status;  /* KS_SLICE_* */
	uint64_t session; /* that wrote it */
	uint64_t refs;    /* extents that point here */
	uint64_t pack;    /* 0: the slice has blocks of its own */
	uint64_t pack_off;
	uint32_t block_size; /* of its own blocks */
	int64_t ctime_ns;
	struct ks_bytes sums; /* packed: CRC-32C of each page, little endian; else empty */
};
enum { KS_SLICE_PENDING = 0, KS_SLICE_COMMITTED = 1 };

struct ks_rec_block {
	uint64_t slice;
	uint32_t idx;
	uint32_t size; /* bytes of data, without index and padding */
	struct ks_bytes sums;
};

struct ks_rec_pack {
	uint64_t id;
	uint64_t session; /* that appends to it; 0: closed */
	uint64_t size;
	uint64_t live; /* bytes of slices that are referred to */
	uint64_t slices;
};

struct ks_rec_deleted {
	uint64_t ino;
	int64_t time_ns;
	uint64_t epoch; /* the volume's epoch when it lost its last name */
};

struct ks_rec_freed {
	uint64_t slice;
	int64_t time_ns;
	uint64_t epoch;
	uint32_t len;
	uint32_t block_size;
	uint64_t pack;
};

struct ks_rec_session {
	uint64_t id;
	uint64_t generation;
	uint64_t epoch; /* the last epoch this session has passed */
	int64_t start_ns;
	int64_t heartbeat_ns;
	uint32_t pid;
	uint32_t kind; /* KS_SESSION_* */
	struct ks_bytes host;
	struct ks_bytes tool;
	struct ks_bytes mountpoint;
	struct ks_bytes socket;
	struct ks_bytes version;
	struct ks_bytes boot; /* the machine's boot id; empty: unknown */
	uint64_t low;         /* its slices below this number survive a power cut */
};
enum { KS_SESSION_MOUNT = 1, KS_SESSION_TOOL = 2 };

struct ks_rec_claim {
	uint64_t session;
	uint64_t ino; /* KS_CLAIM_PACKS: every pack, of whoever; see ks_meta_hold() */
};
#define KS_CLAIM_PACKS 0u

/* Large enough for any record. */
union ks_record {
	struct ks_rec_setting setting;
	struct ks_rec_counter counter;
	struct ks_rec_inode inode;
	struct ks_rec_dentry dentry;
	struct ks_rec_symlink symlink;
	struct ks_rec_xattr xattr;
	struct ks_rec_extent extent;
	struct ks_rec_slice slice;
	struct ks_rec_block block;
	struct ks_rec_pack pack;
	struct ks_rec_deleted deleted;
	struct ks_rec_freed freed;
	struct ks_rec_session session;
	struct ks_rec_claim claim;
};

/* Column access by description; integers are widened to 64 bits. */
int64_t ks_rec_int(const void *rec, const struct ks_col *c);
void ks_rec_set_int(void *rec, const struct ks_col *c, int64_t v);
struct ks_bytes ks_rec_bytes(const void *rec, const struct ks_col *c);
void ks_rec_set_bytes(void *rec, const struct ks_col *c, struct ks_bytes v);
/* Byte and integer order of the first @ncol columns: <0, 0, >0. */
int ks_rec_cmp(enum ks_table t, const void *a, const void *b, unsigned int ncol);

static inline bool ks_col_is_bytes(const struct ks_col *c)
{
	return c->type == KS_COL_BYTES || c->type == KS_COL_TEXT;
}

#endif
