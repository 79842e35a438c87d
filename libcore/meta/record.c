/* SPDX-License-Identifier: Apache-2.0 */
/* record.c: the one description of every record; doc/format.md says what the columns mean. */
#include "meta/record.h"
#include <string.h>

#define COL(s, f, t)                                                                               \
	{                                                                                          \
		.name = #f, .off = offsetof(struct ks_rec_##s, f), .type = KS_COL_##t              \
	}
#define TABLE(s, k, n) .name = #s, .nkey = (k), .ncol = (n), .size = sizeof(struct ks_rec_##s)

const struct ks_table_desc ks_tables[KS_T_COUNT] = {
	[KS_T_SETTING] = { TABLE(setting, 1, 2),
			   .cols = { COL(setting, name, TEXT), COL(setting, value, BYTES) } },
	[KS_T_COUNTER] = { TABLE(counter, 1, 2),
			   .cols = { COL(counter, name, TEXT), COL(counter, value, I64) } },
	[KS_T_INODE] = { TABLE(inode, 1, 15),
			 .cols = { COL(inode, ino, U64), COL(inode, parent, U64),
				   COL(inode, mode, U32), COL(inode, nlink, U32),
				   COL(inode, uid, U32), COL(inode, gid, U32),
				   COL(inode, rdev, U32), COL(inode, flags, U32),
				   COL(inode, size, U64), COL(inode, used, U64),
				   COL(inode, atime_ns, I64), COL(inode, mtime_ns, I64),
				   COL(inode, ctime_ns, I64), COL(inode, btime_ns, I64),
				   COL(inode, change, U64) } },
	[KS_T_DENTRY] = { TABLE(dentry, 3, 5),
			  .cols = { COL(dentry, parent, U64), COL(dentry, hash, U64),
				    COL(dentry, name, BYTES), COL(dentry, ino, U64),
				    COL(dentry, type, U32) } },
	[KS_T_SYMLINK] = { TABLE(symlink, 1, 2),
			   .cols = { COL(symlink, ino, U64), COL(symlink, target, BYTES) } },
	[KS_T_XATTR] = { TABLE(xattr, 2, 3),
			 .cols = { COL(xattr, ino, U64), COL(xattr, name, BYTES),
				   COL(xattr, value, BYTES) } },
	[KS_T_EXTENT] = { TABLE(extent, 3, 7),
			  .cols = { COL(extent, ino, U64), COL(extent, chunk, U64),
				    COL(extent, seq, U64), COL(extent, pos, U32),
				    COL(extent, len, U32), COL(extent, slice, U64),
				    COL(extent, off, U32) } },
	[KS_T_SLICE] = { TABLE(slice, 1, 10),
			 .cols = { COL(slice, id, U64), COL(slice, len, U32),
				   COL(slice, status, U32), COL(slice, session, U64),
				   COL(slice, refs, U64), COL(slice, pack, U64),
				   COL(slice, pack_off, U64), COL(slice, block_size, U32),
				   COL(slice, ctime_ns, I64), COL(slice, sums, BYTES) } },
	[KS_T_BLOCK] = { TABLE(block, 2, 4),
			 .cols = { COL(block, slice, U64), COL(block, idx, U32),
				   COL(block, size, U32), COL(block, sums, BYTES) } },
	[KS_T_PACK] = { TABLE(pack, 1, 5),
			.cols = { COL(pack, id, U64), COL(pack, session, U64), COL(pack, size, U64),
				  COL(pack, live, U64), COL(pack, slices, U64) } },
	[KS_T_DELETED] = { TABLE(deleted, 1, 3),
			   .cols = { COL(deleted, ino, U64), COL(deleted, time_ns, I64),
				     COL(deleted, epoch, U64) } },
	[KS_T_FREED] = { TABLE(freed, 1, 6),
			 .cols = { COL(freed, slice, U64), COL(freed, time_ns, I64),
				   COL(freed, epoch, U64), COL(freed, len, U32),
				   COL(freed, block_size, U32), COL(freed, pack, U64) } },
	[KS_T_SESSION] = { TABLE(session, 1, 14),
			   .cols = { COL(session, id, U64), COL(session, generation, U64),
				     COL(session, epoch, U64), COL(session, start_ns, I64),
				     COL(session, heartbeat_ns, I64), COL(session, pid, U32),
				     COL(session, kind, U32), COL(session, host, TEXT),
				     COL(session, tool, TEXT), COL(session, mountpoint, BYTES),
				     COL(session, socket, BYTES), COL(session, version, TEXT),
				     COL(session, boot, TEXT), COL(session, low, U64) } },
	[KS_T_CLAIM] = { TABLE(claim, 2, 2),
			 .cols = { COL(claim, session, U64), COL(claim, ino, U64) } },
};

static const void *field(const void *rec, const struct ks_col *c)
{
	return (const char *)rec + c->off;
}

int64_t ks_rec_int(const void *rec, const struct ks_col *c)
{
	uint32_t small;
	int64_t v;

	assert(!ks_col_is_bytes(c));
	if (c->type == KS_COL_U32) {
		memcpy(&small, field(rec, c), sizeof(small));
		return small;
	}
	memcpy(&v, field(rec, c), sizeof(v));
	return v;
}

void ks_rec_set_int(void *rec, const struct ks_col *c, int64_t v)
{
	uint32_t small = (uint32_t)v;

	assert(!ks_col_is_bytes(c));
	if (c->type == KS_COL_U32)
		memcpy((char *)rec + c->off, &small, sizeof(small));
	else
		memcpy((char *)rec + c->off, &v, sizeof(v));
}

struct ks_bytes ks_rec_bytes(const void *rec, const struct ks_col *c)
{
	struct ks_bytes v;

	assert(ks_col_is_bytes(c));
	memcpy(&v, field(rec, c), sizeof(v));
	return v;
}

void ks_rec_set_bytes(void *rec, const struct ks_col *c, struct ks_bytes v)
{
	assert(ks_col_is_bytes(c));
	memcpy((char *)rec + c->off, &v, sizeof(v));
}

static int bytes_cmp(struct ks_bytes a, struct ks_bytes b)
{
	size_t n = ks_min(a.n, b.n);
	int c = n ? memcmp(a.p, b.p, n) : 0;

	return c ? c : (a.n > b.n) - (a.n < b.n);
}

int ks_rec_cmp(enum ks_table t, const void *a, const void *b, unsigned int ncol)
{
	const struct ks_table_desc *d = &ks_tables[t];

	assert(ncol <= d->ncol);
	for (unsigned int i = 0; i < ncol; i++) {
		const struct ks_col *c = &d->cols[i];
		int r;

		if (ks_col_is_bytes(c)) {
			r = bytes_cmp(ks_rec_bytes(a, c), ks_rec_bytes(b, c));
		} else {
			int64_t x = ks_rec_int(a, c), y = ks_rec_int(b, c);

			r = (x > y) - (x < y);
		}
		if (r)
			return r;
	}
	return 0;
}
