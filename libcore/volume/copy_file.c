/* SPDX-License-Identifier: Apache-2.0 */
/* copy_file.c: the content and the attributes of one file. */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK (1024 * 1024)

/* What is under way for one file; its own names for messages. */
struct work {
	struct ks_copy *c;
	const struct ks_copy_item *it;
	char *from_path, *to_path;
	struct ks_cfile in, out;
	char *buf;
	struct stat old;
	bool exists;
};

static bool same_vfs(const struct ks_copy_item *it)
{
	return it->from->side->vfs && it->from->side->vfs == it->to->side->vfs;
}

unsigned int ks_copy_what(const struct ks_copy *c)
{
	unsigned int what = c->o.preserve & (KS_COPY_MODE | KS_COPY_OWNER | KS_COPY_TIMES);

	return c->root ? what : what & ~(unsigned int)KS_COPY_OWNER;
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

int ks_copy_look(struct ks_copy *c, const struct ks_copy_item *it, struct stat *old, bool *exists)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(it->to->path, it->to_name);
	const char *why = NULL;
	int r = it->to->absent ? -ENOENT : it->to->side->ops->stat(it->to, it->to_name, false, old);

	*exists = r == 0;
	if (r == -ENOENT)
		return 0;
	if (r == 0 && same_vfs(it) && old->st_ino == it->st.st_ino) {
		why = "source and target are the same file";
		r = -EEXIST;
	} else if (r == 0 && c->o.no_clobber) {
		ks_copy_count(c, skipped, 1);
		ks_copy_did(c, "skipped", "", path ? path : "", 0);
		return 1;
	} else if (r == 0 && S_ISDIR(old->st_mode)) {
		why = "exists, and is a directory";
		r = -EISDIR;
	} else if (r == 0 && c->o.update && S_ISREG(it->st.st_mode) && S_ISREG(old->st_mode) &&
		   old->st_size == it->st.st_size && same_time(old->st_mtim, it->st.st_mtim)) {
		ks_copy_count(c, skipped, 1);
		ks_copy_did(c, "skipped", "", path ? path : "", 0);
		return 1;
	}
	if (r == 0)
		return 0;
	if (why)
		ks_copy_refuse(c, path ? path : it->to_name, "create", r, why);
	else
		ks_copy_fail(c, path ? path : it->to_name, "look at", r);
	return 1;
}

/* ---- extended attributes ---- */

static bool wanted_xattr(const struct ks_copy *c, const char *name)
{
	if (strncmp(name, "system.posix_acl_", 17) == 0)
		return c->o.preserve & KS_COPY_ACL;
	if (strncmp(name, "system.", 7) == 0 || !(c->o.preserve & KS_COPY_XATTR))
		return false;
	/* Only root may write these; and a label belongs to the machine's own policy. */
	if (strncmp(name, "user.", 5) != 0 && !c->root)
		return false;
	return strcmp(name, "security.selinux") != 0;
}

static bool has_name(const struct ks_buf *names, const char *name)
{
	for (const char *p = names->p; p && p < names->p + names->n; p += strlen(p) + 1)
		if (strcmp(p, name) == 0)
			return true;
	return false;
}

/* A list that @to has from its directory's default ACL, and the source, whose attributes are @names, does not have. */
static int drop_inherited_acls(const struct ks_node *to, const struct ks_buf *names)
{
	static const char *const acls[] = { KS_ACL_ACCESS, KS_ACL_DEFAULT };
	static const char none[4] = { 2 }; /* the form's version, and no entries */
	const struct ks_side_ops *ops = to->dir->side->ops;
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(acls); i++) {
		value.n = 0;
		if (!has_name(names, acls[i]) && ops->getxattr(to, acls[i], &value) == 0)
			r = ops->setxattr(to, acls[i], none, sizeof(none));
	}
	return r;
}

int ks_copy_xattrs(struct ks_copy *c, const struct ks_node *from, const struct ks_node *to)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	KS_AUTO(ks_buf_clear) struct ks_buf value = { 0 };
	int r;

	if (!(c->o.preserve & (KS_COPY_XATTR | KS_COPY_ACL)))
		return 0;
	r = from->dir->side->ops->listxattr(from, &names);
	if (r < 0)
		return r == -EOPNOTSUPP ? 0 : r;
	for (const char *p = names.p; r == 0 && p && p < names.p + names.n; p += strlen(p) + 1) {
		if (!wanted_xattr(c, p))
			continue;
		value.n = 0;
		r = from->dir->side->ops->getxattr(from, p, &value);
		if (r == 0)
			r = to->dir->side->ops->setxattr(to, p, value.p, value.n);
		if (r == -ENODATA)
			r = 0; /* removed meanwhile */
		if (r == -EOPNOTSUPP && strncmp(p, "system.", 7) == 0) {
			ks_copy_count(c, acls_lost, 1);
			r = 0;
		}
	}
	if (r == 0 && (c->o.preserve & KS_COPY_ACL))
		r = drop_inherited_acls(to, &names);
	return r;
}

/* ---- content ---- */

static int fail_work(const struct work *w, bool reading, const char *op, int err)
{
	ks_copy_fail(w->c, reading ? w->from_path : w->to_path, op, err);
	return -ECANCELED;
}

/* @off..@end; short when the source ends before. *at: where it came to. */
static int copy_range(struct work *w, uint64_t off, uint64_t end, uint64_t *at)
{
	while (off < end) {
		size_t want = (size_t)ks_min(end - off, (uint64_t)CHUNK);
		ssize_t n;
		int r;

		if (ks_copy_stopped(w->c))
			return -ECANCELED;
		n = w->in.side->ops->read(&w->in, off, w->buf, want);
		if (n < 0)
			return fail_work(w, true, "read", (int)n);
		if (n == 0)
			break;
		r = w->out.side->ops->write(&w->out, off, w->buf, (size_t)n);
		if (r < 0)
			return fail_work(w, false, "write", r);
		off += (uint64_t)n;
		*at = off;
		ks_copy_count(w->c, bytes, n);
	}
	return 0;
}

/* From hole to hole. A source that cannot tell is one range; one of unknown size (/proc, a device) is read to its end. */
static int copy_sparse(struct work *w)
{
	uint64_t size = S_ISREG(w->it->st.st_mode) ? (uint64_t)w->it->st.st_size : 0;
	uint64_t off = 0;
	uint64_t at = 0;
	int r = 0;

	if (size == 0)
		return copy_range(w, 0, UINT64_MAX, &at);
	while (r == 0 && off < size) {
		uint64_t data = off;
		uint64_t hole = size;

		r = w->in.side->ops->seek(&w->in, off, false, &data);
		if (r == -ENXIO) {
			r = 0;
			break;
		}
		if (r == 0)
			r = w->in.side->ops->seek(&w->in, data, true, &hole);
		if (r < 0) {
			/* No such thing here: all of it is data. */
			data = off;
			hole = size;
		}
		hole = ks_min(hole, size);
		hole = ks_max(hole, data + 1);
		r = copy_range(w, data, hole, &at);
		off = hole;
		/* It was cut while it was read. */
		if (r == 0 && at < hole)
			size = at;
	}
	if (r == 0 && at < size) {
		r = w->out.side->ops->truncate(&w->out, size);
		if (r < 0)
			return fail_work(w, false, "set the size of", r);
	}
	return r;
}

/* Shares the slices. 1: not possible here. */
static int copy_reflink(struct work *w)
{
	uint64_t size = (uint64_t)w->it->st.st_size;
	uint64_t off = 0;
	int r = 0;

	if (w->c->o.reflink == KS_REFLINK_NEVER)
		return 1;
	if (!same_vfs(w->it) || !S_ISREG(w->it->st.st_mode)) {
		if (w->c->o.reflink == KS_REFLINK_AUTO)
			return 1;
		return fail_work(w, false, "share data (--reflink=always) for", -EXDEV);
	}
	while (off < size) {
		ssize_t n = ks_vfs_copy_range(w->in.fh, off, w->out.fh, off, size - off,
					      &w->in.side->ctx);

		if (n < 0 && off == 0 && w->c->o.reflink == KS_REFLINK_AUTO &&
		    (n == -EXDEV || n == -EOPNOTSUPP || n == -EINVAL))
			return 1;
		if (n < 0)
			return fail_work(w, false, "share data for", (int)n);
		if (n == 0)
			break;
		off += (uint64_t)n;
		ks_copy_count(w->c, bytes, n);
	}
	if (off < size) {
		r = w->out.side->ops->truncate(&w->out, size);
		if (r < 0)
			return fail_work(w, false, "set the size of", r);
	}
	return 0;
}

/* ---- comparing ---- */

static int read_full(struct ks_cfile *f, uint64_t off, char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = f->side->ops->read(f, off + done, p + done, n - done);

		if (got < 0)
			return (int)got;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (int)done;
}

static int compare(struct work *w, struct ks_cfile *back)
{
	KS_AUTO(ks_freep) char *other = malloc(CHUNK);
	uint64_t off = 0;

	if (!other)
		return -ENOMEM;
	for (;;) {
		int a;
		int b;

		if (ks_copy_stopped(w->c))
			return -ECANCELED;
		a = read_full(&w->in, off, w->buf, CHUNK);
		b = read_full(back, off, other, CHUNK);
		if (a < 0)
			return a;
		if (b < 0)
			return b;
		if (a != b || memcmp(w->buf, other, (size_t)a) != 0)
			return ks_fail(-EBADMSG, "differs from %s after writing", w->from_path);
		if (a < CHUNK)
			return 0;
		off += CHUNK;
	}
}

/* Reads what was written from where it lies now, not from a memory of it. */
static int verify(struct work *w)
{
	struct ks_copy *c = w->c;
	struct ks_cdir dir = { .side = w->it->to->side,
			       .fd = w->it->to->fd,
			       .ino = w->it->to->ino };
	struct ks_cfile back = { .fd = -1 };
	int r;

	if (!c->o.verify || !w->out.side || !S_ISREG(w->it->st.st_mode))
		return 0;
	if (c->to_verify)
		dir.side = &c->verify;
	dir.path = w->it->to->path;
	back.side = dir.side;
	r = dir.side->ops->open(&dir, w->it->to_name, false, &back);
	if (r == 0 && back.fd >= 0 && fdatasync(back.fd) == 0)
		KS_IGNORE(posix_fadvise(back.fd, 0, 0, POSIX_FADV_DONTNEED)); /* a hint */
	if (r == 0)
		r = compare(w, &back);
	dir.side->ops->close(&back);
	return r < 0 && r != -ECANCELED ? fail_work(w, false, "verify", r) : r;
}

/* ---- one file ---- */

/* Whose and with what rights it is made, when that is not kept from the source: as cp(1), a replaced file's stay. */
static int set_attributes(struct work *w)
{
	struct ks_copy *c = w->c;
	const struct ks_copy_item *it = w->it;
	struct ks_node from = { it->from, it->name, 0 };
	struct ks_node to = { it->to, w->out.tmp[0] ? w->out.tmp : it->to_name, w->out.ino };
	unsigned int what = ks_copy_what(c);
	struct stat st = it->st;
	int r;

	if (w->exists && !(what & KS_COPY_OWNER) && c->root) {
		st.st_uid = w->old.st_uid;
		st.st_gid = w->old.st_gid;
		what |= KS_COPY_OWNER;
		if (!(what & KS_COPY_MODE))
			st.st_mode = (st.st_mode & S_IFMT) | (w->old.st_mode & 0777);
		what |= KS_COPY_MODE;
	}
	/* Without its owner, a setuid bit would be somebody else's. */
	if ((what & KS_COPY_MODE) && !(what & KS_COPY_OWNER) && st.st_uid != geteuid())
		st.st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
	r = what ? it->to->side->ops->setattr(&to, &st, what) : 0;
	if (r == 0)
		r = ks_copy_xattrs(c, &from, &to);
	return r < 0 ? fail_work(w, false, "set the attributes of", r) : 0;
}

static int open_both(struct work *w)
{
	const struct ks_copy_item *it = w->it;
	unsigned int what = ks_copy_what(w->c);
	bool in_place = w->exists && !S_ISREG(w->old.st_mode) && !S_ISLNK(w->old.st_mode);
	uint32_t mode = w->exists ? w->old.st_mode & 0777 : it->st.st_mode & 0777 & ~w->c->umask;
	const struct stat *own = what & KS_COPY_OWNER      ? &it->st
				 : w->exists && w->c->root ? &w->old
							   : NULL;
	int r = it->from->side->ops->open(it->from, it->name, it->follow, &w->in);

	if (r < 0)
		return fail_work(w, true, "open", r);
	/* Nobody else may open it before it has its owner. */
	if (what & KS_COPY_MODE)
		mode &= 0700;
	r = it->to->side->ops->create(it->to, it->to_name, mode, in_place, own, &w->out);
	return r < 0 ? fail_work(w, false, "create", r) : 0;
}

static int copy_one(struct work *w)
{
	int r = open_both(w);

	if (r == 0) {
		r = copy_reflink(w);
		if (r == 1)
			r = copy_sparse(w);
	}
	if (r == 0) {
		r = w->out.side->ops->flush(&w->out);
		if (r < 0)
			r = fail_work(w, false, "write", r);
	}
	if (r == 0)
		r = set_attributes(w);
	if (r == 0) {
		r = w->out.side->ops->publish(&w->out, w->it->to_name, w->exists);
		if (r < 0)
			r = fail_work(w, false, "create", r);
	}
	return r == 0 ? verify(w) : r;
}

bool ks_copy_content(struct ks_copy *c, const struct ks_copy_item *it, ks_ino_t *ino)
{
	KS_AUTO(ks_freep) char *from_path = ks_copy_join(it->from->path, it->name);
	KS_AUTO(ks_freep) char *to_path = ks_copy_join(it->to->path, it->to_name);
	KS_AUTO(ks_freep) char *buf = malloc(CHUNK);
	struct work w = {
		.c = c, .it = it, .from_path = from_path, .to_path = to_path, .buf = buf
	};
	int r;

	ks_fail_clear();
	if (!from_path || !to_path || !buf) {
		ks_copy_fail(c, it->name, "copy", -ENOMEM);
		return false;
	}
	if (ks_copy_look(c, it, &w.old, &w.exists) != 0)
		return false;
	w.in = (struct ks_cfile){ .side = it->from->side, .fd = -1 };
	w.out = (struct ks_cfile){ .side = it->to->side, .fd = -1 };
	r = c->o.dry_run ? 0 : copy_one(&w);
	w.in.side->ops->close(&w.in);
	w.out.side->ops->close(&w.out);
	if (r < 0)
		return false;
	*ino = w.out.ino;
	ks_copy_count(c, files, 1);
	ks_copy_did(c, "copied", from_path, to_path, (uint64_t)it->st.st_size);
	return true;
}

/* ---- what is no content ---- */

static int make_special(struct ks_copy *c, const struct ks_copy_item *it, bool exists,
			ks_ino_t *ino)
{
	const struct ks_side_ops *ops = it->to->side->ops;
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };
	const char *text = NULL;
	unsigned int what = ks_copy_what(c);
	uint32_t mode = it->st.st_mode & (what & KS_COPY_MODE ? 07777 : 0777 & ~c->umask);
	struct ks_node from = { it->from, it->name, 0 };
	struct stat made;
	char tmp[64];
	int r = 0;

	if (S_ISLNK(it->st.st_mode)) {
		r = it->from->side->ops->readlink(it->from, it->name, &target);
		if (r == 0)
			r = ks_buf_cstr(&target, &text);
		if (r < 0)
			return r;
	}
	/* Made beside what it replaces, which it takes away in one step. */
	snprintf(tmp, sizeof(tmp), "%s", "");
	if (exists)
		ks_copy_tmp_name(tmp);

	struct ks_node to = { it->to, exists ? tmp : it->to_name, 0 };

	r = ops->special(it->to, to.name, &it->st, mode, text,
			 what & KS_COPY_OWNER ? &it->st : NULL);
	if (r < 0)
		return r;
	r = ops->stat(it->to, to.name, false, &made);
	to.ino = it->to->side->vfs ? made.st_ino : 0;
	if (r == 0 && what)
		r = ops->setattr(&to, &it->st, what);
	if (r == 0)
		r = ks_copy_xattrs(c, &from, &to);
	if (r == 0 && exists)
		r = ops->rename(it->to, tmp, it->to_name);
	if (r < 0)
		KS_IGNORE(ops->unlink(it->to, to.name) < 0); /* r is reported */
	*ino = made.st_ino;
	return r;
}

bool ks_copy_special(struct ks_copy *c, const struct ks_copy_item *it, ks_ino_t *ino)
{
	KS_AUTO(ks_freep) char *from_path = ks_copy_join(it->from->path, it->name);
	KS_AUTO(ks_freep) char *to_path = ks_copy_join(it->to->path, it->to_name);
	struct stat old;
	bool exists;
	int r;

	ks_fail_clear();
	if (ks_copy_look(c, it, &old, &exists) != 0)
		return false;
	r = c->o.dry_run ? 0 : make_special(c, it, exists, ino);
	if (r < 0) {
		ks_copy_fail(c, to_path ? to_path : it->to_name, "create", r);
		return false;
	}
	if (S_ISLNK(it->st.st_mode))
		ks_copy_count(c, symlinks, 1);
	else
		ks_copy_count(c, others, 1);
	ks_copy_did(c, "copied", from_path ? from_path : "", to_path ? to_path : "", 0);
	return true;
}

/* ---- stdin and stdout ---- */

void ks_copy_stdout(struct ks_copy *c, struct ks_cdir *dir, const char *name)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(dir->path, name);
	struct ks_cdir out_dir = { .side = &c->local, .fd = -1 };
	struct ks_copy_item it = {
		.from = dir, .to = &out_dir, .name = name, .to_name = "stdout", .follow = true
	};
	KS_AUTO(ks_freep) char *buf = malloc(CHUNK);
	char to_path[] = "standard output";
	struct work w = { .c = c, .it = &it, .from_path = path, .to_path = to_path, .buf = buf };
	uint64_t at = 0;
	int r = path && buf ? dir->side->ops->stat(dir, name, true, &it.st) : -ENOMEM;

	ks_fail_clear();
	w.in = (struct ks_cfile){ .side = dir->side, .fd = -1 };
	w.out = (struct ks_cfile){ .side = &c->local, .fd = STDOUT_FILENO, .stream = true };
	if (r == 0 && S_ISDIR(it.st.st_mode))
		r = -EISDIR;
	if (r == 0)
		r = dir->side->ops->open(dir, name, true, &w.in);
	if (r < 0)
		ks_copy_fail(c, path ? path : name, "open", r);
	else if (copy_range(&w, 0, UINT64_MAX, &at) == 0)
		ks_copy_count(c, files, 1);
	dir->side->ops->close(&w.in);
}

void ks_copy_stdin(struct ks_copy *c, struct ks_cdir *dir, const char *name)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(dir->path, name);
	struct ks_cdir in_dir = { .side = &c->local, .fd = -1 };
	struct ks_copy_item it = { .from = &in_dir,
				   .to = dir,
				   .name = "stdin",
				   .to_name = name,
				   .st.st_mode = S_IFIFO | 0666 };
	KS_AUTO(ks_freep) char *buf = malloc(CHUNK);
	char from_path[] = "standard input";
	struct work w = { .c = c, .it = &it, .from_path = from_path, .to_path = path, .buf = buf };
	uint32_t mode;
	uint64_t at = 0;
	int r;

	ks_fail_clear();
	if (!path || !buf) {
		ks_copy_fail(c, name, "copy", -ENOMEM);
		return;
	}
	if (ks_copy_look(c, &it, &w.old, &w.exists) != 0)
		return;
	mode = w.exists ? w.old.st_mode & 0777 : 0666 & ~c->umask;
	w.in = (struct ks_cfile){ .side = &c->local, .fd = STDIN_FILENO, .stream = true };
	w.out = (struct ks_cfile){ .side = dir->side, .fd = -1 };
	if (c->o.dry_run) {
		ks_copy_count(c, files, 1);
		return;
	}
	r = dir->side->ops->create(dir, name, mode, false, w.exists && c->root ? &w.old : NULL,
				   &w.out);
	if (r < 0)
		r = fail_work(&w, false, "create", r);
	if (r == 0)
		r = copy_range(&w, 0, UINT64_MAX, &at);
	if (r == 0) {
		r = w.out.side->ops->flush(&w.out);
		if (r == 0)
			r = w.out.side->ops->publish(&w.out, name, w.exists);
		if (r < 0)
			r = fail_work(&w, false, "write", r);
	}
	w.out.side->ops->close(&w.out);
	if (r == 0) {
		ks_copy_count(c, files, 1);
		ks_copy_did(c, "copied", from_path, path, at);
	}
}
