/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.c: handles: open, create, read, write, flush, fsync, release.
 *
 * An open registers itself before it reads the inode's record. An unlink whose transaction asked before that, and commits after it, leaves an inode
 * without a name that is open and not claimed; the heartbeat claims it before the epoch in which its data may be freed.
 */
#include "vfs/internal.h"
#include <fcntl.h>
#include <string.h>

/* Likewise (KS_FLUSH_HERE), on a disk that answers soon. */
#define SYNC_HERE (4 * KS_MIB) /* bytes of others that an fsync makes durable along the way */
#define SYNC_HERE_NS (2 * KS_NS_PER_MS)

ks_ino_t ks_fh_ino(const struct ks_fh *fh)
{
	return fh->ino;
}

static struct ks_fh *new_fh(struct ks_vfs *v, const struct ks_attr *a, int flags)
{
	struct ks_fh *fh = calloc(1, sizeof(*fh));

	if (!fh)
		return NULL;
	fh->magic = KS_FH_MAGIC;
	fh->v = v;
	fh->ino = a->ino;
	fh->attr = *a;
	fh->flags = flags;
	fh->readable = (flags & O_ACCMODE) != O_WRONLY;
	fh->writable = (flags & O_ACCMODE) != O_RDONLY;
	pthread_mutex_init(&fh->mu, NULL);
	ks_list_init(&fh->link);
	return fh;
}

static void free_fh(struct ks_fh *fh)
{
	fh->magic = 0;
	pthread_mutex_destroy(&fh->mu);
	free(fh);
}

/* chattr's flags, which the kernel does not know of. */
static int may_open(struct ks_vfs *v, const struct ks_attr *a, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);

	if (S_ISDIR(a->mode))
		return -EISDIR;
	if (!S_ISREG(a->mode))
		return -EINVAL;
	if (!write)
		return 0;
	if (v->readonly)
		return -EROFS;
	if (a->flags & KS_INODE_IMMUTABLE)
		return -EPERM;
	if ((a->flags & KS_INODE_APPEND) && (!(flags & O_APPEND) || (flags & O_TRUNC)))
		return -EPERM;
	return 0;
}

/* Makes the handle of an inode that @vn registered as open. On failure the registration stays the caller's. */
static int make_handle(struct ks_vfs *v, struct ks_vnode *vn, const struct ks_attr *a, int flags,
		       struct ks_fh **out, struct ks_open_how *how)
{
	struct ks_fh *fh = new_fh(v, a, flags);
	bool current = false;
	int r;

	if (!fh)
		return -ENOMEM;
	r = ks_vnode_attach(v, vn, a, &current);
	if (r < 0) {
		free_fh(fh);
		return r;
	}
	fh->vn = vn;
	how->direct_io = (flags & O_ACCMODE) == O_WRONLY;
	how->keep_cache = ks_seen_is(v, a->ino, a->change);
	fh->seen_pending = current && !how->keep_cache;
	ks_vnode_add_handle(v, vn, fh);
	*out = fh;
	return 0;
}

static int truncate_at_open(struct ks_vfs *v, const struct ks_ctx *c, struct ks_fh *fh)
{
	struct ks_attr in = { .size = 0 }, out;
	uint32_t set = KS_SET_SIZE | KS_SET_MTIME_NOW;

	return ks_vfs_resize(v, fh->ino, c->cred.uid ? set | KS_SET_KILL_PRIV : set, &in, &out);
}

int ks_vfs_open(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, int flags,
		struct ks_fh **out, struct ks_open_how *how)
{
	struct ks_vnode *vn;
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	int r;

	if (ks_is_virtual(v, ino))
		return ks_virtual_open(v, c, ino, flags, out, how);
	if ((c->flags & KS_VFS_NOBLOCK) && (flags & O_TRUNC) && ks_vfs_flush_waits(v, ino))
		return -EWOULDBLOCK;
	r = ks_vnode_get_open(v, ino, &vn);
	if (r < 0)
		return r;
	r = ks_vfs_record(v, ino, &a);
	if (r == 0)
		r = may_open(v, &a, flags);
	if (r == 0 && a.nlink == 0 && !v->readonly) {
		r = ks_meta_claim(v->meta, ino);
		r = r == -ENOENT ? -ESTALE : r;
	}
	if (r == 0)
		r = make_handle(v, vn, &a, flags, &fh, how);
	if (r < 0) {
		ks_vnode_put_open(v, vn);
		return r;
	}
	if (flags & O_TRUNC) {
		r = truncate_at_open(v, c, fh);
		if (r < 0) {
			ks_vfs_release(fh);
			return r;
		}
	}
	*out = fh;
	return 0;
}

/* A handle of an inode that was just made. */
static int open_new(struct ks_vfs *v, const struct ks_attr *a, int flags, struct ks_fh **out,
		    struct ks_open_how *how)
{
	struct ks_vnode *vn;
	int r = ks_vnode_get_open(v, a->ino, &vn);

	if (r < 0)
		return r;
	r = make_handle(v, vn, a, flags & ~O_TRUNC, out, how);
	if (r < 0)
		ks_vnode_put_open(v, vn);
	return r;
}

int ks_vfs_create(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  uint32_t mode, int flags, struct ks_attr *attr, struct ks_fh **out,
		  struct ks_open_how *how)
{
	int r = ks_vfs_mknod(v, c, parent, name, S_IFREG | (mode & 07777), 0, attr);

	if (r == 0)
		return open_new(v, attr, flags, out, how);
	if (r != -EEXIST || (flags & O_EXCL))
		return r;
	r = ks_vfs_lookup(v, c, parent, name, attr);
	if (r == 0)
		r = ks_vfs_open(v, c, attr->ino, flags & ~O_CREAT, out, how);
	if (r < 0)
		return r;
	r = ks_vfs_getattr(v, c, attr->ino, attr);
	if (r < 0)
		ks_vfs_release(*out);
	return r;
}

int ks_vfs_tmpfile(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, uint32_t mode,
		   int flags, struct ks_attr *attr, struct ks_fh **out)
{
	struct ks_open_how how;
	int r;

	if (v->readonly)
		return -EROFS;
	if (ks_is_virtual(v, parent))
		return -EPERM;
	r = ks_meta_mktmp(v->meta, &c->cred, parent, S_IFREG | (mode & 07777), attr);
	if (r < 0)
		return r;
	r = open_new(v, attr, flags, out, &how);
	/* Nobody will ever open it again. */
	if (r < 0)
		KS_IGNORE(ks_meta_release(v->meta, attr->ino));
	return r;
}

/* The kernel has acted upon the reply to the open of @fh: the pages it has now are of that version, or newer. */
static void seen_now(struct ks_fh *fh)
{
	if (__atomic_load_n(&fh->seen_pending, __ATOMIC_RELAXED) &&
	    __atomic_exchange_n(&fh->seen_pending, false, __ATOMIC_RELAXED))
		ks_seen_set(fh->v, fh->ino, fh->attr.change);
}

ssize_t ks_vfs_read(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, void *p, size_t n)
{
	struct ks_stream st;
	ssize_t got;

	(void)c;
	ks_fh_check(fh);
	if (fh->dir)
		return -EISDIR;
	if (fh->virt)
		return ks_virtual_read(fh, off, p, n);
	seen_now(fh);
	if (!__atomic_load_n(&fh->touched, __ATOMIC_RELAXED) &&
	    !__atomic_exchange_n(&fh->touched, true, __ATOMIC_RELAXED) && !fh->v->readonly) {
		/* A read does not fail because its time could not be noted; the failure is logged. */
		KS_IGNORE(ks_meta_touch_atime(fh->v->meta, &fh->attr));
	}
	/* Reads of one handle may run side by side: each with its own copy, the last one's is kept. */
	ks_mutex_lock(&fh->mu);
	st = fh->stream;
	ks_mutex_unlock(&fh->mu);
	got = ks_file_read(fh->vn->file, &st, off, p, n);
	KS_LOCKED(&fh->mu);
	if (st.ahead >= fh->stream.ahead || st.runs == 0)
		fh->stream = st;
	return got;
}

int ks_fh_clear_priv(struct ks_fh *fh, const struct ks_ctx *c)
{
	struct ks_vfs *v = fh->v;
	struct ks_attr a, out;
	bool suid;
	int r;

	if (!ks_vnode_take_priv(v, fh->vn))
		return 0;
	r = ks_vfs_record(v, fh->ino, &a);
	if (r < 0)
		return r;
	if ((a.flags & KS_INODE_IMMUTABLE) && !(c->flags & KS_VFS_PAGES)) {
		ks_vnode_set_priv(v, fh->ino);
		return -EPERM;
	}
	suid = (a.mode & S_ISUID) || ((a.mode & S_ISGID) && (a.mode & S_IXGRP));
	if (suid && c->cred.uid == 0) {
		/* root may; the next writer may be somebody else. */
		ks_vnode_set_priv(v, fh->ino);
	} else if (suid) {
		r = ks_meta_setattr(v->meta, fh->ino, KS_SET_KILL_PRIV, &a, &out);
		if (r == 0)
			ks_seen_own(v, fh->ino, out.change);
	}
	if (r == 0)
		r = ks_vfs_drop_caps(v, &a);
	if (r < 0)
		ks_vnode_set_priv(v, fh->ino);
	return r;
}

ssize_t ks_vfs_write(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, const void *p,
		     size_t n)
{
	int r;

	ks_fh_check(fh);
	if (fh->dir || !fh->writable)
		return -EBADF;
	if ((c->flags & KS_VFS_NOBLOCK) &&
	    ((fh->flags & O_DSYNC) || ks_data_write_waits(fh->v->data, n)))
		return -EWOULDBLOCK;
	seen_now(fh);
	r = ks_fh_clear_priv(fh, c);
	if (r == 0)
		r = ks_file_write(fh->vn->file, off, p, n);
	/* With direct I/O the kernel leaves O_SYNC and O_DSYNC to us. */
	if (r == 0 && (fh->flags & O_DSYNC))
		r = ks_vfs_fsync(fh, c, !(fh->flags & (O_SYNC & ~O_DSYNC)));
	return r < 0 ? r : (ssize_t)n;
}

int ks_vfs_flush(struct ks_fh *fh, const struct ks_ctx *c)
{
	struct ks_file_state st;

	ks_fh_check(fh);
	/* Nobody but those who have it open now can ever see an inode without a name. */
	if (fh->dir || !fh->writable || ks_vnode_is_unlinked(fh->v, fh->vn))
		return 0;
	if (c->flags & KS_VFS_NOBLOCK) {
		ks_file_state(fh->vn->file, &st);
		if (st.dirty_bytes > KS_FLUSH_HERE)
			return -EWOULDBLOCK;
	}
	return ks_file_flush(fh->vn->file);
}

/* Is this fsync so short that handing it to another thread would take as long? */
static bool is_short_sync(struct ks_vfs *v, struct ks_fh *fh)
{
	struct ks_file_state st = { 0 };

	if (!fh->dir)
		ks_file_state(fh->vn->file, &st);
	return st.dirty_bytes <= KS_FLUSH_HERE && ks_meta_is_alone(v->meta) &&
	       __atomic_load_n(&v->unsynced_bytes, __ATOMIC_RELAXED) <= SYNC_HERE &&
	       __atomic_load_n(&v->sync_ns, __ATOMIC_RELAXED) <= SYNC_HERE_NS;
}

int ks_vfs_fsync(struct ks_fh *fh, const struct ks_ctx *c, bool datasync)
{
	struct ks_vfs *v = ks_fh_check(fh)->v;
	bool foreign = false;
	uint64_t begun = 0;
	int64_t start;
	int r = 0;

	(void)datasync; /* the size and the slices are metadata: there is nothing that could be left out */
	if (v->readonly || fh->virt)
		return 0;
	if ((c->flags & KS_VFS_NOBLOCK) && !is_short_sync(v, fh))
		return -EWOULDBLOCK;
	start = ks_clock_mono_ns();
	if (!fh->dir)
		r = ks_file_flush(fh->vn->file);
	if (r == 0 && !fh->dir)
		r = ks_adopt_foreign(v, fh->ino, &foreign);
	/* Both at once: what counts is that both are durable at the end. */
	if (r == 0 && (foreign || ks_unsynced_any(v))) {
		/* Of a directory too: what it makes durable may name files whose data is not. */
		begun = ks_meta_sync_begin(v->meta);
		r = ks_store_sync(v);
	}
	if (r == 0)
		r = ks_meta_sync_end(v->meta, begun);
	/* A guess, so a lost update does not matter. */
	__atomic_store_n(
		&v->sync_ns,
		(3 * __atomic_load_n(&v->sync_ns, __ATOMIC_RELAXED) + ks_clock_mono_ns() - start) /
			4,
		__ATOMIC_RELAXED);
	return r;
}

static void release_bare(struct ks_fh *fh)
{
	if (fh->virt)
		ks_virtual_release(fh->v, fh->virt);
	ks_mutex_lock(&fh->v->dirs_mu);
	ks_list_del(&fh->link);
	ks_mutex_unlock(&fh->v->dirs_mu);
	free_fh(fh);
}

void ks_vfs_release(struct ks_fh *fh)
{
	struct ks_vfs *v = ks_fh_check(fh)->v;
	struct ks_vnode *vn = fh->vn;

	if (!vn) {
		release_bare(fh);
		return;
	}
	seen_now(fh);
	if (fh->writable && !ks_vnode_is_doomed(v, vn)) {
		int r = ks_file_flush(vn->file);

		/* flush() told the writer; who never called it, and a memory mapping, have only the log. */
		if (r < 0)
			ks_log(KS_LOG_ERROR, "inode %ju: data is lost at its last close: %s",
			       (uintmax_t)fh->ino, ks_strerror(r));
	}
	ks_vnode_del_handle(v, vn, fh);
	ks_vnode_put_open(v, vn);
	free_fh(fh);
}

struct ks_fh *ks_fh_new_bare(struct ks_vfs *v, const struct ks_attr *a, int flags)
{
	struct ks_fh *fh = new_fh(v, a, flags);

	if (!fh)
		return NULL;
	KS_LOCKED(&v->dirs_mu);
	ks_list_add_tail(&v->dirs, &fh->link);
	return fh;
}

int ks_vfs_opendir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, struct ks_fh **out)
{
	struct ks_attr a = { .ino = ino };
	struct ks_fh *fh;

	(void)c;
	/* Nothing is read: the kernel has just looked the directory up, and readdir says if it is gone. */
	fh = ks_fh_new_bare(v, &a, O_RDONLY | O_DIRECTORY);
	if (!fh)
		return -ENOMEM;
	fh->dir = true;
	*out = fh;
	return 0;
}
