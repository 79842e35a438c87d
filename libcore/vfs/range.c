/* SPDX-License-Identifier: Apache-2.0 */
/* range.c: operations on ranges of a file that metadata does: fallocate, copying by sharing slices, seeking data and holes. */
#include "vfs/internal.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#define COPY_HERE KS_MIB /* shared although it must not block: see KS_FLUSH_HERE */

struct falloc {
	struct ks_vfs *v;
	ks_ino_t ino;
	enum ks_falloc what;
	bool keep_size;
	uint64_t off, len;
};

static int falloc_now(void *arg, uint64_t *size, uint64_t *change)
{
	struct falloc *f = arg;
	struct ks_attr a;
	int r = ks_meta_fallocate(f->v->meta, f->ino, f->what, f->keep_size, f->off, f->len, &a);

	if (r < 0)
		return r;
	*size = a.size;
	*change = a.change;
	ks_seen_own(f->v, f->ino, a.change);
	return 0;
}

int ks_vfs_fallocate(struct ks_fh *fh, const struct ks_ctx *c, int mode, uint64_t off, uint64_t len)
{
	struct falloc f = { .v = ks_fh_check(fh)->v, .ino = fh->ino, .off = off, .len = len };
	struct ks_file_state st;
	int r;

	if (fh->dir || !fh->writable)
		return -EBADF;
	if (len == 0)
		return -EINVAL;
	if (off > KS_FILE_MAX || len > KS_FILE_MAX - off)
		return -EFBIG;
	switch (mode) {
	case 0:
		f.what = KS_FALLOC_EXTEND;
		break;
	case FALLOC_FL_KEEP_SIZE:
		/* Space is not reserved; times move as if it were. */
		f.what = KS_FALLOC_EXTEND;
		f.keep_size = true;
		break;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
		f.what = KS_FALLOC_PUNCH;
		f.keep_size = true;
		break;
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		f.what = KS_FALLOC_ZERO;
		f.keep_size = mode & FALLOC_FL_KEEP_SIZE;
		break;
	default:
		return -EOPNOTSUPP;
	}
	ks_file_state(fh->vn->file, &st);
	if ((c->flags & KS_VFS_NOBLOCK) && st.dirty_bytes > KS_FLUSH_HERE)
		return -EWOULDBLOCK;
	r = ks_fh_clear_priv(fh, c);
	return r < 0 ? r : ks_file_exclusive(fh->vn->file, UINT64_MAX, falloc_now, &f);
}

struct copy {
	struct ks_vfs *v;
	ks_ino_t src, dst;
	uint64_t src_off, dst_off, len;
	uint64_t done;
	bool over; /* something is there already */
};

static int copy_now(void *arg, uint64_t *size, uint64_t *change)
{
	struct copy *k = arg;
	struct ks_attr a;
	bool foreign = false;
	uint64_t n = 1;
	int r = 0;

	/* What is replaced must not be gone before what takes its place is on the disk. */
	if (k->over)
		r = ks_adopt_foreign(k->v, k->src, &foreign);
	if (r == 0 && k->over && (foreign || ks_unsynced_has(k->v, k->src)))
		r = ks_store_sync(k->v);
	if (r < 0)
		return r;
	/* One transaction shares a bounded number of slices. */
	while (k->done < k->len && n > 0) {
		r = ks_meta_copy_range(k->v->meta, k->src, k->src_off + k->done, k->dst,
				       k->dst_off + k->done, k->len - k->done, &n, &a);
		if (r < 0)
			break;
		k->done += n;
		ks_seen_own(k->v, k->dst, a.change);
	}
	if (r < 0 && k->done == 0)
		return r;
	/* What was shared before a failure stays, and is reported as a short copy. */
	if (r < 0) {
		r = ks_meta_getattr(k->v->meta, k->dst, &a);
		if (r < 0)
			return r;
	}
	*size = a.size;
	*change = a.change;
	return 0;
}

ssize_t ks_vfs_copy_range(struct ks_fh *src, uint64_t src_off, struct ks_fh *dst, uint64_t dst_off,
			  uint64_t n, const struct ks_ctx *c)
{
	struct copy k = { .v = ks_fh_check(src)->v,
			  .src = src->ino,
			  .dst = ks_fh_check(dst)->ino,
			  .src_off = src_off,
			  .dst_off = dst_off };
	struct ks_file_state st;
	uint64_t dirty;
	int r = 0;

	if (src->dir || dst->dir)
		return -EISDIR;
	if (!src->readable || !dst->writable)
		return -EBADF;
	if (src->virt)
		return -EINVAL;
	ks_file_state(src->vn->file, &st);
	if (src_off >= st.size || n == 0)
		return 0;
	k.len = ks_min(n, st.size - src_off);
	dirty = st.dirty_bytes;
	ks_file_state(dst->vn->file, &st);
	k.over = st.size > dst_off;
	if ((c->flags & KS_VFS_NOBLOCK) &&
	    (k.over || k.len > COPY_HERE || dirty + st.dirty_bytes > KS_FLUSH_HERE))
		return -EWOULDBLOCK;
	if (dst_off > KS_FILE_MAX || k.len > KS_FILE_MAX - dst_off)
		return -EFBIG;
	if (k.src == k.dst && src_off < dst_off + k.len && dst_off < src_off + k.len)
		return -EINVAL;
	r = ks_fh_clear_priv(dst, c);
	if (r == 0 && k.src != k.dst)
		r = ks_file_flush(src->vn->file);
	if (r == 0)
		r = ks_file_exclusive(dst->vn->file, UINT64_MAX, copy_now, &k);
	return r < 0 ? r : (ssize_t)k.done;
}

int ks_vfs_seek(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, int whence, uint64_t *out)
{
	(void)c;
	ks_fh_check(fh);
	if (!fh->vn || (whence != SEEK_DATA && whence != SEEK_HOLE))
		return -EINVAL;
	return ks_file_seek(fh->vn->file, off, whence == SEEK_HOLE, out);
}
