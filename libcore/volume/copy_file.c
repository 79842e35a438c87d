/* SPDX-License-Identifier: Apache-2.0 */
/* copy_file.c: the content and the attributes of one file. */
#include "base/log.h"
#include "volume/copy_work.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool same_vfs(const struct ks_copy_item *it)
{
	return it->from->side->vfs && it->from->side->vfs == it->to->side->vfs;
}

/* ---- content ---- */

/* Most files are copied without a word. */
const char *ks_work_path(struct ks_work *w, bool from)
{
	const struct ks_copy_item *it = w->it;
	char **path = from ? &w->from_path : &w->to_path;

	if (!*path)
		*path = from ? ks_copy_join(it->from->path, it->name)
			     : ks_copy_join(it->to->path, it->to_name);
	return *path ? *path : it->name;
}

int ks_work_fail(struct ks_work *w, bool reading, const char *op, int err)
{
	ks_copy_fail(w->c, ks_work_path(w, reading), op, err);
	return -ECANCELED;
}

/* Shares the slices. 1: not possible here. */
static int copy_reflink(struct ks_work *w)
{
	uint64_t size = (uint64_t)w->it->st.st_size;
	uint64_t off = 0;
	int r = 0;

	if (w->c->o.reflink == KS_REFLINK_NEVER)
		return 1;
	if (!same_vfs(w->it) || !S_ISREG(w->it->st.st_mode)) {
		if (w->c->o.reflink == KS_REFLINK_AUTO)
			return 1;
		return ks_work_fail(w, false, "share data (--reflink=always) for", -EXDEV);
	}
	while (off < size) {
		ssize_t n = ks_vfs_copy_range(w->in.fh, off, w->out.fh, off, size - off,
					      &w->in.side->ctx);

		if (n < 0 && off == 0 && w->c->o.reflink == KS_REFLINK_AUTO &&
		    (n == -EXDEV || n == -EOPNOTSUPP || n == -EINVAL))
			return 1;
		if (n < 0)
			return ks_work_fail(w, false, "share data for", (int)n);
		if (n == 0)
			break;
		off += (uint64_t)n;
		ks_copy_count(w->c, bytes, n);
	}
	if (off < size) {
		r = w->out.side->ops->truncate(&w->out, size);
		if (r < 0)
			return ks_work_fail(w, false, "set the size of", r);
	}
	/* What is shared another process may have written, and not made durable. */
	r = ks_vfs_settle(w->out.side->vfs);
	return r < 0 ? ks_work_fail(w, false, "make durable", r) : 0;
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

/* 1: their contents are equal; 0: not. */
static int compare(struct ks_work *w, struct ks_cfile *back)
{
	KS_AUTO(ks_freep) char *other = malloc(w->chunk);
	uint64_t off = 0;

	if (!other)
		return -ENOMEM;
	for (;;) {
		int a;
		int b;

		if (ks_copy_stopped(w->c))
			return -ECANCELED;
		a = read_full(&w->in, off, w->buf, w->chunk);
		b = read_full(back, off, other, w->chunk);
		if (a < 0)
			return a;
		if (b < 0)
			return b;
		if (a != b || memcmp(w->buf, other, (size_t)a) != 0)
			return 0;
		if ((size_t)a < w->chunk)
			return 1;
		ks_copy_pace(w->c, (size_t)a);
		off += w->chunk;
	}
}

/* Reads what was written from where it lies now, not from a memory of it. w->in is open. */
static int verify(struct ks_work *w)
{
	struct ks_copy *c = w->c;
	struct ks_cdir dir = { .side = c->to_verify ? &c->verify : w->it->to->side,
			       .fd = w->it->to->fd,
			       .ino = w->it->to->ino,
			       .path = w->it->to->path };
	/* A device was written in its place. A pipe cannot be read back. */
	bool device = w->it->exists && (S_ISBLK(w->it->old.st_mode) || S_ISCHR(w->it->old.st_mode));
	struct ks_cfile back = { .side = dir.side, .fd = -1, .special = device };
	int r = dir.side->ops->open(&dir, w->it->to_name, false, &back, NULL);

	if (r == 0 && back.fd >= 0 && fdatasync(back.fd) == 0)
		KS_IGNORE(posix_fadvise(back.fd, 0, 0, POSIX_FADV_DONTNEED)); /* a hint */
	if (r == 0)
		r = compare(w, &back);
	if (r == 0)
		r = ks_fail(-EBADMSG, "differs from %s after writing", ks_work_path(w, true));
	dir.side->ops->close(&back);
	return r < 0 && r != -ECANCELED ? ks_work_fail(w, false, "verify", r) : ks_min(r, 0);
}

/* ---- one file ---- */

static bool begin(struct ks_work *w, struct ks_copy *c, const struct ks_copy_item *it)
{
	*w = (struct ks_work){
		.c = c,
		.it = it,
		.in = { .side = it->from->side, .fd = -1, .special = !S_ISREG(it->st.st_mode) },
		.out = { .side = it->to->side, .fd = -1 },
		.chunk = ks_work_chunk(&it->st)
	};
	w->buf = w->chunk < KS_WORK_CHUNK ? malloc(w->chunk) : aligned_alloc(4096, w->chunk);
	if (w->buf)
		return true;
	ks_copy_fail(c, it->name, "copy", -ENOMEM);
	return false;
}

static void end(struct ks_work *w)
{
	w->in.side->ops->close(&w->in);
	w->out.side->ops->close(&w->out);
	free(w->from_path);
	free(w->to_path);
	free(w->buf);
}

bool ks_copy_verify(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct ks_work w;
	int r = -1;

	if (!c->o.verify)
		return true;
	if (begin(&w, c, it)) {
		r = w.in.side->ops->open(it->from, it->name, it->follow, &w.in, NULL);
		r = r < 0 ? ks_work_fail(&w, true, "open", r) : verify(&w);
	}
	end(&w);
	return r == 0;
}

int ks_copy_same_content(struct ks_copy *c, const struct ks_copy_item *it)
{
	struct ks_cfile other = { .side = it->to->side, .fd = -1 };
	struct ks_work w;
	int r = -ECANCELED;

	if (begin(&w, c, it)) {
		r = w.in.side->ops->open(it->from, it->name, it->follow, &w.in, NULL);
		if (r < 0)
			r = ks_work_fail(&w, true, "open", r);
		else if ((r = other.side->ops->open(it->to, it->to_name, false, &other, NULL)) < 0)
			r = ks_work_fail(&w, false, "open", r);
		else if ((r = compare(&w, &other)) < 0 && r != -ECANCELED)
			r = ks_work_fail(&w, false, "compare", r);
	}
	other.side->ops->close(&other);
	end(&w);
	return r;
}

/* The attributes that do not come with the name. */
static int set_attributes(struct ks_work *w, const struct ks_copy_set *set)
{
	const struct ks_copy_item *it = w->it;
	struct ks_node from = { it->from, it->name, w->in.ino, &w->in };
	struct ks_node to = { it->to, w->out.tmp[0] ? w->out.tmp : it->to_name, w->out.ino,
			      &w->out };
	int r = 0;

	if (set->what && !w->out.side->ops->sets_at_once)
		r = w->out.side->ops->setattr(&to, &set->st, set->what);
	if (r == 0)
		r = ks_copy_xattrs(w->c, &from, &to);
	return r < 0 ? ks_work_fail(w, false, "set the attributes of", r) : 0;
}

/* A small file of a volume. 1: it is to be opened and read. */
static int copy_whole(struct ks_work *w)
{
	const struct ks_whole *x = w->it->whole;
	int r;

	if (!x || w->chunk < x->attr.size ||
	    ks_vfs_read_whole(w->it->from->side->vfs, x, w->buf) < 0)
		return 1;
	r = w->out.side->ops->write(&w->out, 0, w->buf, (size_t)x->attr.size);
	if (r < 0)
		return ks_work_fail(w, false, "write", r);
	ks_copy_count(w->c, bytes, x->attr.size);
	ks_copy_pace(w->c, (size_t)x->attr.size);
	return 0;
}

static int open_source(struct ks_work *w)
{
	const struct ks_copy_item *it = w->it;
	int r = 0;

	if (it->in)
		w->in = *it->in;
	else
		r = it->from->side->ops->open(it->from, it->name, it->follow, &w->in, NULL);
	return r < 0 ? ks_work_fail(w, true, "open", r) : 0;
}

static int copy_data(struct ks_work *w)
{
	int r = copy_whole(w);

	if (r == 1 && w->it->whole)
		r = open_source(w) < 0 ? -ECANCELED : 1;
	if (r == 1)
		r = copy_reflink(w);
	return r == 1 ? ks_work_copy(w) : r;
}

static int open_both(struct ks_work *w, const struct ks_copy_set *set)
{
	const struct ks_copy_item *it = w->it;
	bool in_place = it->exists && !S_ISREG(it->old.st_mode) && !S_ISLNK(it->old.st_mode);
	uint32_t mode = set->st.st_mode & (set->what & KS_COPY_MODE ? 07777 : 0777);
	int r = 0;

	if (it->whole)
		w->in.bare = true;
	else
		r = open_source(w);
	if (r < 0)
		return r;
	w->out.brief =
		!it->exists && S_ISREG(it->st.st_mode) && it->st.st_size <= (off_t)KS_WORK_CHUNK;
	r = it->to->side->ops->create(it->to, it->to_name, mode, in_place,
				      set->what & KS_COPY_OWNER ? &set->st : NULL, &w->out);
	return r < 0 ? ks_work_fail(w, false, "create", r) : 0;
}

static int copy_one(struct ks_work *w)
{
	struct ks_copy_set set;
	int r;

	ks_copy_plan(w->c, w->it, &set);
	r = open_both(w, &set);
	if (r == 0)
		r = copy_data(w);
	if (r == 0) {
		r = w->out.side->ops->flush(&w->out);
		if (r < 0)
			r = ks_work_fail(w, false, "write", r);
	}
	if (r == 0)
		r = set_attributes(w, &set);
	if (r == 0) {
		r = w->out.side->ops->publish(&w->out, w->it->to_name, &set);
		if (r < 0)
			r = ks_work_fail(w, false, "create", r);
	}
	if (r == 0 && w->c->o.verify && S_ISREG(w->it->st.st_mode))
		r = verify(w);
	return r;
}

bool ks_copy_content(struct ks_copy *c, struct ks_copy_item *it)
{
	struct ks_work w;
	int r = -1;

	ks_fail_clear();
	if (!ks_copy_look(c, it))
		return false;
	if (begin(&w, c, it))
		r = c->o.dry_run ? 0 : copy_one(&w);
	if (r == 0) {
		ks_copy_count(c, files, 1);
		if (c->o.on_item)
			ks_copy_did(c, "copied", ks_work_path(&w, true), ks_work_path(&w, false),
				    (uint64_t)it->st.st_size);
	}
	/* The source was the caller's. */
	if (it->in)
		w.in = (struct ks_cfile){ .side = it->from->side, .fd = -1 };
	end(&w);
	return r == 0;
}

/* ---- what is no content ---- */

static int make_special(struct ks_copy *c, const struct ks_copy_item *it)
{
	const struct ks_side_ops *ops = it->to->side->ops;
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };
	struct ks_node from = { it->from, it->name, 0, NULL };
	struct ks_node to = { it->to, it->to_name, 0, NULL };
	const char *text = NULL;
	struct ks_copy_set set;
	int r = 0;

	ks_copy_plan(c, it, &set);
	if (S_ISLNK(it->st.st_mode)) {
		r = it->from->side->ops->readlink(it->from, it->name, &target);
		if (r == 0)
			r = ks_buf_cstr(&target, &text);
	}
	if (r == 0)
		r = ops->special(it->to, it->to_name, &set, text, &to.ino);
	if (r == 0 && set.what && !ops->sets_at_once)
		r = ops->setattr(&to, &set.st, set.what);
	if (r == 0)
		r = ks_copy_xattrs(c, &from, &to);
	return r;
}

bool ks_copy_special(struct ks_copy *c, struct ks_copy_item *it)
{
	KS_AUTO(ks_freep) char *from_path = NULL;
	KS_AUTO(ks_freep) char *to_path = NULL;
	int r;

	ks_fail_clear();
	if (!ks_copy_look(c, it))
		return false;
	from_path = ks_copy_join(it->from->path, it->name);
	to_path = ks_copy_join(it->to->path, it->to_name);
	r = c->o.dry_run ? 0 : make_special(c, it);
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
	KS_AUTO(ks_freep) char *buf = malloc(KS_WORK_CHUNK);
	char to_path[] = "standard output";
	struct ks_work w = { .c = c,
			     .it = &it,
			     .from_path = path,
			     .to_path = to_path,
			     .buf = buf,
			     .chunk = KS_WORK_CHUNK };
	uint64_t at = 0;
	int r = path && buf ? dir->side->ops->stat(dir, name, true, &it.st) : -ENOMEM;

	ks_fail_clear();
	w.in = (struct ks_cfile){ .side = dir->side, .fd = -1, .special = !S_ISREG(it.st.st_mode) };
	w.out = (struct ks_cfile){ .side = &c->local, .fd = STDOUT_FILENO, .stream = true };
	if (r == 0 && S_ISDIR(it.st.st_mode))
		r = -EISDIR;
	if (r == 0)
		r = dir->side->ops->open(dir, name, true, &w.in, NULL);
	if (r < 0)
		ks_copy_fail(c, path ? path : name, "open", r);
	else if (ks_work_stream(&w, &at) == 0)
		ks_copy_count(c, files, 1);
	dir->side->ops->close(&w.in);
}

/* As copy_one(), of a source that has no attributes. */
static int take_stdin(struct ks_work *w, uint64_t *at)
{
	const struct ks_side_ops *ops = w->out.side->ops;
	struct ks_copy_set set;
	int r;

	/* Nothing of a pipe is kept: a replaced file keeps what it has. */
	set = (struct ks_copy_set){ .st = w->it->st };
	if (w->it->exists && S_ISREG(w->it->old.st_mode)) {
		set.st = w->it->old;
		set.st.st_mode &= S_IFMT | 0777;
		set.what = KS_COPY_MODE | (w->c->root ? KS_COPY_OWNER : 0);
	}
	r = ops->create(w->it->to, w->it->to_name, set.st.st_mode & 0777, false,
			set.what & KS_COPY_OWNER ? &set.st : NULL, &w->out);
	if (r < 0)
		return ks_work_fail(w, false, "create", r);
	r = ks_work_stream(w, at);
	if (r < 0)
		return r;
	r = ops->flush(&w->out);
	if (r == 0 && set.what && !ops->sets_at_once) {
		struct ks_node to = { w->it->to, w->out.tmp, 0, &w->out };

		r = ops->setattr(&to, &set.st, set.what);
	}
	if (r == 0)
		r = ops->publish(&w->out, w->it->to_name, &set);
	return r < 0 ? ks_work_fail(w, false, "write", r) : 0;
}

void ks_copy_stdin(struct ks_copy *c, struct ks_cdir *dir, const char *name)
{
	KS_AUTO(ks_freep) char *path = ks_copy_join(dir->path, name);
	struct ks_cdir in_dir = { .side = &c->local, .fd = -1 };
	/* To be a file, whatever it comes from. */
	struct ks_copy_item it = { .from = &in_dir,
				   .to = dir,
				   .name = "stdin",
				   .to_name = name,
				   .st = { .st_mode = S_IFREG | 0666, .st_size = -1 } };
	KS_AUTO(ks_freep) char *buf = malloc(KS_WORK_CHUNK);
	char from_path[] = "standard input";
	struct ks_work w = { .c = c,
			     .it = &it,
			     .from_path = from_path,
			     .to_path = path,
			     .buf = buf,
			     .chunk = KS_WORK_CHUNK };
	uint64_t at = 0;
	int r;

	ks_fail_clear();
	if (!path || !buf) {
		ks_copy_fail(c, name, "copy", -ENOMEM);
		return;
	}
	if (!ks_copy_look(c, &it))
		return;
	it.st.st_uid = geteuid();
	it.st.st_gid = getegid();
	w.in = (struct ks_cfile){ .side = &c->local, .fd = STDIN_FILENO, .stream = true };
	w.out = (struct ks_cfile){ .side = dir->side, .fd = -1 };
	if (c->o.dry_run) {
		ks_copy_count(c, files, 1);
		return;
	}
	r = take_stdin(&w, &at);
	w.out.side->ops->close(&w.out);
	if (r == 0) {
		ks_copy_count(c, files, 1);
		ks_copy_did(c, "copied", from_path, path, at);
	}
}
