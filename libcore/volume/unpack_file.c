/* SPDX-License-Identifier: Apache-2.0 */
/* unpack_file.c: one entry of an archive as a file of a volume: what it says, its content, its attributes, its name. */
#include "base/array.h"
#include "base/clock.h"
#include "base/log.h"
#include "meta/acl.h"
#include "volume/rdev.h"
#include "volume/unpack_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define XATTRS_MAX 1024u

/* ---- what an entry says ---- */

void ks_unpack_file_clear(struct ks_unpack_file *f)
{
	for (size_t i = 0; i < f->nxattrs; i++) {
		free(f->xattrs[i].name);
		free(f->xattrs[i].value);
	}
	free(f->xattrs);
	free(f->path);
	free(f->name);
	ks_buf_clear(&f->data);
	*f = (struct ks_unpack_file){ 0 };
}

static int add_xattr(struct ks_unpack_file *f, const char *name, const void *value, size_t n)
{
	struct ks_unpack_xattr *x;

	if (ks_array_room(&f->xattrs, f->nxattrs, &f->capxattrs) < 0)
		return -ENOMEM;
	x = &f->xattrs[f->nxattrs];
	*x = (struct ks_unpack_xattr){ .name = strdup(name), .value = malloc(n + 1), .n = n };
	f->nxattrs++;
	if (!x->name || !x->value)
		return -ENOMEM;
	if (n)
		memcpy(x->value, value, n);
	return 0;
}

static uint16_t tag_of(int tag)
{
	switch (tag) {
	case ARCHIVE_ENTRY_ACL_USER_OBJ:
		return KS_ACL_USER_OBJ;
	case ARCHIVE_ENTRY_ACL_USER:
		return KS_ACL_USER;
	case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
		return KS_ACL_GROUP_OBJ;
	case ARCHIVE_ENTRY_ACL_GROUP:
		return KS_ACL_GROUP;
	case ARCHIVE_ENTRY_ACL_MASK:
		return KS_ACL_MASK;
	default:
		return KS_ACL_OTHER;
	}
}

static int by_tag(const void *a, const void *b)
{
	const struct ks_acl_entry *x = a, *y = b;

	if (x->tag != y->tag)
		return x->tag < y->tag ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

/* An entry's ACL in the form of an extended attribute. */
static int add_acl(struct ks_unpack_file *f, struct archive_entry *e, int type, const char *name,
		   const char **why)
{
	uint8_t bytes[KS_ACL_BYTES_MAX];
	struct ks_acl acl = { 0 };
	int t, perm, tag, id;
	const char *who;

	if ((archive_entry_acl_types(e) & type) == 0 || archive_entry_acl_reset(e, type) == 0)
		return 0;
	while (archive_entry_acl_next(e, type, &t, &perm, &tag, &id, &who) == ARCHIVE_OK) {
		struct ks_acl_entry *x = &acl.e[acl.n];
		uint16_t mine = tag_of(tag);

		if (acl.n == KS_ACL_MAX) {
			*why = "its access control list is too long";
			return -E2BIG;
		}
		acl.n++;
		*x = (struct ks_acl_entry){
			.tag = mine,
			.perm = (uint16_t)((perm & ARCHIVE_ENTRY_ACL_READ ? 4 : 0) |
					   (perm & ARCHIVE_ENTRY_ACL_WRITE ? 2 : 0) |
					   (perm & ARCHIVE_ENTRY_ACL_EXECUTE ? 1 : 0)),
			.id = mine == KS_ACL_USER || mine == KS_ACL_GROUP ? (uint32_t)id
									  : UINT32_MAX
		};
	}
	if (!acl.n)
		return 0;
	qsort(acl.e, acl.n, sizeof(acl.e[0]), by_tag);
	return add_xattr(f, name, bytes, ks_acl_encode(&acl, bytes));
}

static int add_xattrs(struct ks_unpack_file *f, struct archive_entry *e, const char **why)
{
	const char *name;
	const void *value;
	size_t n;
	int r = 0;

	archive_entry_xattr_reset(e);
	while (r == 0 && archive_entry_xattr_next(e, &name, &value, &n) == ARCHIVE_OK) {
		if (f->nxattrs == XATTRS_MAX) {
			*why = "it has too many extended attributes";
			return -E2BIG;
		}
		/* ACLs come as such. */
		if (name && strncmp(name, "system.", 7) != 0)
			r = add_xattr(f, name, value, n);
	}
	if (r == 0)
		r = add_acl(f, e, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, KS_ACL_ACCESS, why);
	if (r == 0)
		r = add_acl(f, e, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, KS_ACL_DEFAULT, why);
	return r;
}

/* Of a tar, -1.5 comes as -1 and 500000000. */
static int64_t to_ns(bool tar, time_t sec, long nsec)
{
	if (tar && sec < 0 && nsec)
		return ks_ts_to_ns(
			(struct timespec){ .tv_sec = sec - 1, .tv_nsec = KS_NS_PER_S - nsec });
	return ks_ts_to_ns((struct timespec){ .tv_sec = sec, .tv_nsec = nsec });
}

int ks_unpack_file_set(struct ks_unpack_file *f, struct archive_entry *e, const char *path,
		       bool tar, const char **why)
{
	la_int64_t uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	la_int64_t size = archive_entry_size(e);

	f->path = strdup(path);
	if (!f->path)
		return -ENOMEM;
	if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) {
		*why = "its owner's number cannot be";
		return -EINVAL;
	}
	if (size < 0 || (uint64_t)size > KS_FILE_MAX) {
		*why = "it is larger than a file can be";
		return -EFBIG;
	}
	f->mode = (uint32_t)archive_entry_mode(e);
	f->uid = (uint32_t)uid;
	f->gid = (uint32_t)gid;
	f->size = (uint64_t)size;
	f->has_mtime = archive_entry_mtime_is_set(e);
	f->mtime_ns = to_ns(tar, archive_entry_mtime(e), archive_entry_mtime_nsec(e));
	f->has_atime = archive_entry_atime_is_set(e);
	f->atime_ns = to_ns(tar, archive_entry_atime(e), archive_entry_atime_nsec(e));
	return add_xattrs(f, e, why);
}

/* ---- attributes ---- */

static bool may_set(const struct ks_unpack *u, const char *name)
{
	if (strncmp(name, "user.", 5) == 0 || strncmp(name, "system.", 7) == 0)
		return true;
	/* A label belongs to the machine's own policy. */
	return u->is_root && strcmp(name, "security.selinux") != 0;
}

static int put_xattrs(struct ks_unpack *u, ks_ino_t ino, const struct ks_unpack_file *f)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < f->nxattrs; i++) {
		const struct ks_unpack_xattr *x = &f->xattrs[i];

		if (may_set(u, x->name) && !S_ISLNK(f->mode))
			r = ks_vfs_setxattr(u->vfs, &u->ctx, ino, x->name, x->value, x->n, 0);
	}
	return r;
}

static bool has_xattr(const struct ks_unpack_file *f, const char *name)
{
	for (size_t i = 0; i < f->nxattrs; i++)
		if (strcmp(f->xattrs[i].name, name) == 0)
			return true;
	return false;
}

/* What a directory's default ACL passed on, and the archive does not say. */
static int drop_inherited(struct ks_unpack *u, ks_ino_t ino, const struct ks_unpack_file *f)
{
	static const char *const acls[] = { KS_ACL_ACCESS, KS_ACL_DEFAULT };
	int r = 0;

	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(acls); i++) {
		if (has_xattr(f, acls[i]))
			continue;
		r = ks_vfs_removexattr(u->vfs, &u->ctx, ino, acls[i]);
		if (r == -ENODATA)
			r = 0;
	}
	return r;
}

int ks_unpack_attributes(struct ks_unpack *u, ks_ino_t ino, const struct ks_unpack_file *f,
			 bool times)
{
	struct ks_attr in = { .mode = f->mode & 07777,
			      .uid = f->uid,
			      .gid = f->gid,
			      .mtime_ns = f->mtime_ns,
			      .atime_ns = f->has_atime ? f->atime_ns : f->mtime_ns };
	uint32_t set = 0;
	struct ks_attr a;
	int r = ks_vfs_getattr(u->vfs, &u->ctx, ino, &a);

	/* Without its owner, a setuid bit would be somebody else's. */
	if (!u->is_root && f->uid != u->ctx.cred.uid)
		in.mode &= ~(uint32_t)(S_ISUID | S_ISGID);
	/* A change of the owner clears the setuid bits, so the mode comes second; mostly it was made with its owner. */
	if (r == 0 && u->is_root && (a.uid != f->uid || a.gid != f->gid))
		r = ks_vfs_setattr(u->vfs, &u->ctx, ino, KS_SET_UID | KS_SET_GID, &in, &a);
	if (r == 0 && (a.flags & KS_INODE_HAS_ACL))
		r = drop_inherited(u, ino, f);
	if (!S_ISLNK(f->mode))
		set |= KS_SET_MODE;
	if (times && f->has_mtime)
		set |= KS_SET_MTIME | KS_SET_ATIME;
	if (r == 0 && set)
		r = ks_vfs_setattr(u->vfs, &u->ctx, ino, set, &in, &a);
	return r == 0 ? put_xattrs(u, ino, f) : r;
}

/* ---- contents ---- */

static struct stat own_of(const struct ks_unpack *u, const struct ks_unpack_file *f)
{
	struct stat st = { .st_uid = u->is_root ? f->uid : u->ctx.cred.uid,
			   .st_gid = u->is_root ? f->gid : u->ctx.cred.gid };

	return st;
}

static int open_file(struct ks_unpack *u, const struct ks_unpack_file *f, struct ks_cdir *dir,
		     struct ks_cfile *out)
{
	struct stat own = own_of(u, f);

	*dir = (struct ks_cdir){ .side = &u->side, .fd = -1, .ino = f->dir };
	*out = (struct ks_cfile){ .side = &u->side, .fd = -1 };
	/* Nobody else may open it before it has its owner. */
	return ks_side_volume.create(dir, f->name, f->mode & 0700, false, &own, out);
}

/* What was not published goes away, which may raise and clear: why it was not is what counts. */
static void close_file(struct ks_cfile *file)
{
	struct ks_fail_kept why;

	ks_fail_keep(&why);
	ks_side_volume.close(file);
	ks_fail_restore(&why);
}

/* Complete, with all it has, and then under its name. */
static int publish(struct ks_unpack *u, const struct ks_unpack_file *f, struct ks_cfile *file)
{
	int r = ks_side_volume.flush(file);

	if (r == 0)
		r = ks_unpack_attributes(u, file->ino, f, true);
	if (r == 0)
		r = ks_side_volume.publish(file, f->name, &(struct ks_copy_set){ 0 });
	if (r == 0)
		ks_unpack_count(&u->out->files, 1);
	return r;
}

int ks_unpack_put(struct ks_unpack *u, const struct ks_unpack_file *f)
{
	struct ks_cfile file = { 0 };
	struct ks_cdir dir;
	int r = open_file(u, f, &dir, &file);

	if (r == 0 && f->data.n)
		r = ks_side_volume.write(&file, 0, f->data.p, f->data.n);
	if (r == 0)
		r = publish(u, f, &file);
	if (r == 0)
		ks_unpack_count(&u->out->bytes, f->data.n);
	close_file(&file);
	return r;
}

/* The member's data where it belongs; what is left out is a hole. */
static int stream_into(struct ks_unpack *u, struct ks_cfile *file, uint64_t size)
{
	uint64_t off, end = 0;
	const void *p;
	size_t n;
	int r;

	while ((r = ks_arc_in_data(u->in, &p, &n, &off)) > 0) {
		if (ks_unpack_stopped(u))
			return -EINTR;
		if (off > KS_FILE_MAX || n > KS_FILE_MAX - off)
			return -EFBIG;
		r = n ? ks_side_volume.write(file, off, p, n) : 0;
		if (r < 0)
			return r;
		end = ks_max(end, off + n);
		ks_unpack_count(&u->out->bytes, n);
		__atomic_store_n(&u->out->in_bytes, ks_arc_in_bytes(u->in), __ATOMIC_RELAXED);
	}
	if (r == 0 && end < size)
		r = ks_side_volume.truncate(file, size);
	return r;
}

int ks_unpack_stream(struct ks_unpack *u, const struct ks_unpack_file *f)
{
	struct ks_cfile file = { 0 };
	struct ks_cdir dir;
	int r = open_file(u, f, &dir, &file);

	if (r == 0)
		r = stream_into(u, &file, f->size);
	if (r == 0)
		r = publish(u, f, &file);
	close_file(&file);
	if (r == 0 && u->o->item) {
		KS_LOCKED(&u->mu);
		u->o->item(u->o->arg, f->path, f->size);
	}
	return r;
}

/* ---- other kinds ---- */

/* What has the name makes room, unless it is a directory. */
static int make_room(struct ks_unpack *u, const struct ks_unpack_file *f)
{
	return ks_vfs_unlink(u->vfs, &u->ctx, f->dir, f->name);
}

/* cpio gives a file's content with the last of its names. */
static int fill_link(struct ks_unpack *u, const struct ks_unpack_file *f, ks_ino_t ino)
{
	struct ks_cfile file = { .side = &u->side, .fd = -1, .ino = ino };
	struct ks_open_how how;
	int r = ks_vfs_open(u->vfs, &u->ctx, ino, O_WRONLY | O_TRUNC, &file.fh, &how);

	if (r == 0)
		r = stream_into(u, &file, f->size);
	if (r == 0)
		r = ks_side_volume.flush(&file);
	close_file(&file);
	return r == 0 ? ks_unpack_attributes(u, ino, f, true) : r;
}

int ks_unpack_link(struct ks_unpack *u, const struct ks_unpack_file *f, ks_ino_t to)
{
	struct ks_attr a;
	int r = ks_vfs_link(u->vfs, &u->ctx, to, f->dir, f->name, &a);

	if (r == -EEXIST) {
		r = ks_vfs_lookup(u->vfs, &u->ctx, f->dir, f->name, &a);
		if (r == 0 && a.ino != to) {
			r = make_room(u, f);
			if (r == 0)
				r = ks_vfs_link(u->vfs, &u->ctx, to, f->dir, f->name, &a);
		}
	}
	if (r == 0 && f->size && S_ISREG(a.mode))
		r = fill_link(u, f, to);
	if (r == 0)
		ks_unpack_count(&u->out->others, 1);
	return r;
}

static int make_special(struct ks_unpack *u, const struct ks_unpack_file *f,
			struct archive_entry *e, struct ks_attr *a)
{
	struct stat own = own_of(u, f);
	struct ks_ctx c = u->ctx;
	const char *target = archive_entry_symlink(e);
	uint32_t rdev = 0;

	c.cred.uid = own.st_uid;
	c.cred.gid = own.st_gid;
	if (S_ISLNK(f->mode))
		return ks_vfs_symlink(u->vfs, &c, f->dir, f->name, target, a);
	if (S_ISBLK(f->mode) || S_ISCHR(f->mode))
		rdev = ks_rdev_encode(
			makedev(archive_entry_rdevmajor(e), archive_entry_rdevminor(e)));
	return ks_vfs_mknod(u->vfs, &c, f->dir, f->name, (f->mode & S_IFMT) | (f->mode & 0700),
			    rdev, a);
}

int ks_unpack_special(struct ks_unpack *u, const struct ks_unpack_file *f, struct archive_entry *e,
		      const char **why)
{
	struct ks_attr a;
	int r;

	if (S_ISLNK(f->mode)) {
		const char *target = archive_entry_symlink(e);

		if (!target || !*target || strlen(target) > KS_SYMLINK_MAX) {
			*why = "it is a symbolic link whose target cannot be";
			return -EINVAL;
		}
	} else if (S_ISBLK(f->mode) || S_ISCHR(f->mode)) {
		if (!u->is_root) {
			*why = "it is a device, and only root makes those";
			return -EPERM;
		}
	} else if (!S_ISFIFO(f->mode) && !S_ISSOCK(f->mode)) {
		*why = "it is of a kind that is not known";
		return -EINVAL;
	}
	r = make_special(u, f, e, &a);
	if (r == -EEXIST) {
		r = make_room(u, f);
		if (r == 0)
			r = make_special(u, f, e, &a);
	}
	if (r == 0)
		r = ks_unpack_attributes(u, a.ino, f, true);
	if (r == 0)
		ks_unpack_count(&u->out->others, 1);
	return r;
}
