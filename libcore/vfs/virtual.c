/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtual.c: the hidden directory at the root of a mount. Its inodes are reserved ones, which no volume has, so that nothing of it is stored and nothing can be
 * mistaken for it. No directory lists it: find, tar, rsync and du go past. A file has size 0 and is read past the page cache; an open takes a snapshot,
 * so that what is read in pieces belongs together.
 */
#include "vfs/internal.h"
#include <dirent.h>
#include <fcntl.h>

enum { INO_DIR = 2, INO_FIRST_FILE = 3 };

static const struct {
	const char *name;
	enum ks_virtual_file file;
	bool stream;
} files[] = {
	{ "stats", KS_VIRTUAL_STATS, false },
	{ "metrics", KS_VIRTUAL_METRICS, false },
	{ "config", KS_VIRTUAL_CONFIG, false },
	{ .name = "accesslog", .stream = true },
};

struct ks_virtual {
	struct ks_virtual_opts o;
	int64_t since_ns;
	struct ks_accesslog log;
};

struct ks_virtual_fh {
	struct ks_buf text;
	struct ks_log_reader *reader; /* NULL: it is a text */
};

int ks_vfs_start_virtual(struct ks_vfs *v, const struct ks_virtual_opts *o)
{
	struct ks_virtual *virt = calloc(1, sizeof(*virt));

	if (!virt)
		return -ENOMEM;
	virt->o = *o;
	virt->since_ns = ks_clock_real_ns();
	ks_accesslog_init(&virt->log);
	v->virt = virt;
	return 0;
}

void ks_virtual_free(struct ks_virtual *virt)
{
	if (virt)
		ks_accesslog_destroy(&virt->log);
	free(virt);
}

int ks_virtual_may_change(const struct ks_vfs *v, ks_ino_t parent, const char *name, bool make)
{
	if (ks_is_virtual(v, parent))
		return -EPERM;
	if (ks_is_virtual_root(v, parent, name))
		return make ? -EEXIST : -EPERM;
	return 0;
}

/* ---- names and attributes ---- */

int ks_virtual_getattr(struct ks_vfs *v, ks_ino_t ino, struct ks_attr *out)
{
	const struct ks_virtual *virt = v->virt;
	bool dir = ino == INO_DIR;

	if (ino >= INO_FIRST_FILE + KS_ARRAY_SIZE(files))
		return -ESTALE;
	*out = (struct ks_attr){ .ino = ino,
				 .parent = dir ? v->root : INO_DIR,
				 .mode = dir ? S_IFDIR | 0500 : S_IFREG | 0400,
				 .nlink = dir ? 2 : 1,
				 .uid = virt->o.uid,
				 .gid = virt->o.gid,
				 .atime_ns = virt->since_ns,
				 .mtime_ns = virt->since_ns,
				 .ctime_ns = virt->since_ns };
	return 0;
}

int ks_virtual_lookup(struct ks_vfs *v, ks_ino_t parent, const char *name, struct ks_attr *out)
{
	if (parent == v->root)
		return ks_virtual_getattr(v, INO_DIR, out);
	if (parent != INO_DIR)
		return strcmp(name, ".") == 0 ? ks_virtual_getattr(v, parent, out) : -ENOTDIR;
	if (strcmp(name, ".") == 0)
		return ks_virtual_getattr(v, INO_DIR, out);
	if (strcmp(name, "..") == 0)
		return ks_vfs_record(v, v->root, out);
	for (size_t i = 0; i < KS_ARRAY_SIZE(files); i++) {
		if (strcmp(name, files[i].name) == 0)
			return ks_virtual_getattr(v, INO_FIRST_FILE + i, out);
	}
	return -ENOENT;
}

/* Positions are cookies: "." and ".." have 1 and 2, the files those after the smallest one that a file can have. */
int ks_virtual_readdir(struct ks_fh *fh, uint64_t off, bool plus, ks_dir_fn *fn, void *arg)
{
	struct ks_vfs *v = fh->v;
	struct ks_attr a;
	size_t i = off < KS_DENTRY_HASH_MIN ? 0 : off - KS_DENTRY_HASH_MIN + 1;

	if (off < 1 && fn(arg, ".", 1, 1, INO_DIR, DT_DIR, NULL, false))
		return 0;
	if (off < 2 && fn(arg, "..", 2, 2, v->root, DT_DIR, NULL, false))
		return 0;
	for (; i < KS_ARRAY_SIZE(files); i++) {
		ks_ino_t ino = INO_FIRST_FILE + i;
		int r = ks_virtual_getattr(v, ino, &a);

		if (r < 0)
			return r;
		if (fn(arg, files[i].name, strlen(files[i].name), KS_DENTRY_HASH_MIN + i, ino,
		       DT_REG, plus ? &a : NULL, false))
			break;
	}
	return 0;
}

/* ---- open files ---- */

static int open_one(struct ks_vfs *v, size_t i, struct ks_virtual_fh **out)
{
	struct ks_virtual_fh *vf = calloc(1, sizeof(*vf));
	int r;

	if (!vf)
		return -ENOMEM;
	r = files[i].stream ? ks_accesslog_open(&v->virt->log, &vf->reader)
			    : v->virt->o.text(v->virt->o.arg, files[i].file, &vf->text);
	if (r < 0)
		ks_virtual_release(v, vf);
	else
		*out = vf;
	return r;
}

int ks_virtual_open(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, int flags,
		    struct ks_fh **out, struct ks_open_how *how)
{
	struct ks_virtual_fh *vf = NULL;
	struct ks_attr a;
	struct ks_fh *fh;
	int r = ks_virtual_getattr(v, ino, &a);

	if (r < 0)
		return r;
	if (ino == INO_DIR)
		return -EISDIR;
	if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC))
		return -EPERM;
	/* A text is made of what other locks guard. */
	if (c->flags & KS_VFS_NOBLOCK)
		return -EWOULDBLOCK;
	r = open_one(v, ino - INO_FIRST_FILE, &vf);
	if (r < 0)
		return r;
	fh = ks_fh_new_bare(v, &a, flags);
	if (!fh) {
		ks_virtual_release(v, vf);
		return -ENOMEM;
	}
	fh->virt = vf;
	how->made_up = true;
	how->stream = vf->reader != NULL;
	*out = fh;
	return 0;
}

ssize_t ks_virtual_read(struct ks_fh *fh, uint64_t off, void *p, size_t n)
{
	const struct ks_buf *text = &fh->virt->text;

	if (fh->virt->reader)
		return ks_accesslog_read(&fh->v->virt->log, fh->virt->reader, p, n);
	if (off >= text->n)
		return 0;
	n = ks_min(n, text->n - (size_t)off);
	memcpy(p, text->p + off, n);
	return (ssize_t)n;
}

void ks_virtual_release(struct ks_vfs *v, struct ks_virtual_fh *vf)
{
	if (vf->reader)
		ks_accesslog_close(&v->virt->log, vf->reader);
	ks_buf_clear(&vf->text);
	free(vf);
}

/* ---- the log ---- */

const unsigned int *ks_vfs_log_readers(const struct ks_vfs *v)
{
	static const unsigned int none;

	return v->virt ? &v->virt->log.on : &none;
}

bool ks_vfs_log_is_open(const struct ks_vfs *v)
{
	return v->virt && __atomic_load_n(&v->virt->log.streams, __ATOMIC_RELAXED) > 0;
}

void ks_vfs_log(struct ks_vfs *v, const char *line, size_t n)
{
	if (v->virt)
		ks_accesslog_add(&v->virt->log, line, n);
}

void ks_vfs_log_end(struct ks_vfs *v)
{
	if (v->virt)
		ks_accesslog_end(&v->virt->log);
}

void ks_vfs_log_notify(struct ks_vfs *v, void (*fn)(void *arg), void *arg)
{
	if (!v->virt)
		return;
	v->virt->log.notify_arg = arg;
	v->virt->log.notify = fn;
}

int ks_vfs_log_tap(struct ks_vfs *v, struct ks_log_reader **out)
{
	return v->virt ? ks_accesslog_tap(&v->virt->log, out) : -EINVAL;
}

size_t ks_vfs_log_take(struct ks_vfs *v, struct ks_log_reader *r, char *p, size_t n)
{
	assert(n >= KS_LOG_TAKE_MIN);
	return ks_accesslog_take(&v->virt->log, r, p, n);
}

void ks_vfs_log_tap_end(struct ks_vfs *v, struct ks_log_reader *r)
{
	ks_accesslog_tap_end(&v->virt->log, r);
}

void ks_vfs_log_untap(struct ks_vfs *v, struct ks_log_reader *r)
{
	ks_accesslog_untap(&v->virt->log, r);
}

bool ks_fh_is_stream(const struct ks_fh *fh)
{
	return fh->virt && fh->virt->reader;
}
