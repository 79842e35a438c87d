/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_batch.c: small files on their way into a volume: their contents are read one behind the other into what becomes one append to a pack, and hundreds of them
 * are made in one transaction, each whole.
 *
 * Within one volume they share their content with what they are copies of, and no byte is read (meta/meta_clone.c).
 *
 * A worker takes a batch, fills it, and gives it back; who fills it up commits it, and what is begun at the end is committed by ks_copy_wait().
 */
#include "base/clock.h"
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_FILES 256u
_Static_assert(BATCH_FILES <= KS_CLONE_MAX, "all clones of a batch are one transaction");
#define BATCH_BYTES (2 * KS_MIB)
#define BATCH_AGE_NS KS_NS_PER_S /* a slow source's files are not held back for longer */

struct entry {
	struct ks_copy_item it; /* its directories are references, its names in the arena */
};

struct ks_copy_batch {
	struct ks_copy_batch *next; /* [copy.mu] */
	struct ks_arena arena;      /* names and targets */
	struct ks_pack_run run;
	struct ks_make m[BATCH_FILES];
	struct entry e[BATCH_FILES];
	size_t n;
	struct ks_clone clone[BATCH_FILES];
	struct entry cloned[BATCH_FILES];
	size_t nclones;
	int64_t since_ns; /* of the first */
};

static struct ks_copy_batch *new_batch(void)
{
	struct ks_copy_batch *b = malloc(sizeof(*b));

	if (!b)
		return NULL;
	b->arena = (struct ks_arena){ 0 };
	b->n = b->nclones = 0;
	b->run = (struct ks_pack_run){ .p = malloc(BATCH_BYTES), .cap = BATCH_BYTES };
	if (b->run.p)
		return b;
	free(b);
	return NULL;
}

struct ks_copy_batch *ks_batch_take(struct ks_copy *c)
{
	struct ks_copy_batch *b;

	if (!c->to.vfs || c->o.dry_run || !ks_vfs_can_make(c->to.vfs))
		return NULL;
	ks_mutex_lock(&c->mu);
	b = c->batches;
	if (b)
		c->batches = b->next;
	ks_mutex_unlock(&c->mu);
	return b ? b : new_batch();
}

/* ---- committing ---- */

static void settle(struct ks_copy *c, const struct ks_copy_item *it, uint64_t bytes, int err)
{
	KS_AUTO(ks_freep) char *from = NULL;
	KS_AUTO(ks_freep) char *to = NULL;

	if (err < 0 || c->o.on_item) {
		from = ks_copy_join(it->from->path, it->name);
		to = ks_copy_join(it->to->path, it->to_name);
	}
	if (err == -EISDIR) {
		ks_copy_refuse(c, to ? to : it->to_name, "create", err,
			       "exists, and is a directory");
		return;
	}
	if (err < 0) {
		ks_copy_fail(c, to ? to : it->to_name, "create", err);
		return;
	}
	if (S_ISREG(it->st.st_mode) && !ks_copy_verify(c, it))
		return;
	if (S_ISREG(it->st.st_mode))
		ks_copy_count(c, files, 1);
	else if (S_ISLNK(it->st.st_mode))
		ks_copy_count(c, symlinks, 1);
	else
		ks_copy_count(c, others, 1);
	ks_copy_did(c, "copied", from ? from : "", to ? to : "",
		    S_ISREG(it->st.st_mode) ? bytes : 0);
}

static void drop(struct entry *e)
{
	ks_cdir_put(e->it.from);
	ks_cdir_put(e->it.to);
}

static void make_all(struct ks_copy *c, struct ks_copy_batch *b)
{
	int r;

	if (b->n == 0)
		return;
	ks_fail_clear();
	r = ks_vfs_make(c->to.vfs, &c->to.ctx, b->m, b->n, &b->run);
	for (size_t i = 0; i < b->n; i++) {
		settle(c, &b->e[i].it, b->m[i].attr.size, r < 0 ? r : b->m[i].err);
		drop(&b->e[i]);
	}
	b->n = 0;
	b->run.n = 0;
}

static void clone_all(struct ks_copy *c, struct ks_copy_batch *b)
{
	int r;

	if (b->nclones == 0)
		return;
	ks_fail_clear();
	/* What is shared another process may have written, and not made durable. */
	r = ks_vfs_settle(c->to.vfs);
	if (r == 0)
		r = ks_meta_clone(ks_vfs_meta(c->to.vfs), b->clone, b->nclones);
	for (size_t i = 0; i < b->nclones; i++) {
		const struct ks_clone *v = &b->clone[i];
		struct ks_copy_item *it = &b->cloned[i].it;

		if (r == 0 && v->err == 0) {
			ks_copy_count(c, bytes, v->bytes);
			settle(c, it, v->bytes, 0);
		} else if (!ks_copy_stopped(c)) {
			/* Not a plain case, or not all of them fitted: one by one, as if it had never been here. */
			(void)ks_copy_content(c, it);
		}
		drop(&b->cloned[i]);
	}
	b->nclones = 0;
}

static void commit(struct ks_copy *c, struct ks_copy_batch *b)
{
	make_all(c, b);
	clone_all(c, b);
	ks_arena_reset(&b->arena);
}

void ks_batch_give(struct ks_copy *c, struct ks_copy_batch *b)
{
	if (!b)
		return;
	if ((b->n || b->nclones) && ks_clock_mono_ns() - b->since_ns > BATCH_AGE_NS)
		commit(c, b);
	KS_LOCKED(&c->mu);
	b->next = c->batches;
	c->batches = b;
}

void ks_batch_commit_all(struct ks_copy *c)
{
	for (struct ks_copy_batch *b = c->batches; b; b = b->next)
		commit(c, b);
}

void ks_batch_free_all(struct ks_copy *c)
{
	while (c->batches) {
		struct ks_copy_batch *b = c->batches;

		c->batches = b->next;
		ks_arena_clear(&b->arena);
		free(b->run.p);
		free(b);
	}
}

/* ---- filling ---- */

/* An entry's attributes that a batch cannot make. */
static bool has_xattrs(struct ks_copy *c, const struct ks_copy_item *it)
{
	KS_AUTO(ks_buf_clear) struct ks_buf names = { 0 };
	struct ks_node from = { it->from, it->name, it->in ? it->in->ino : 0, it->in };

	if (!(c->o.preserve & (KS_COPY_XATTR | KS_COPY_ACL)))
		return false;
	/* A symlink's can only be root's. */
	if (S_ISLNK(it->st.st_mode) && !c->root)
		return false;
	if (it->from->side->ops->listxattr(&from, &names) < 0)
		return true;
	for (const char *p = names.p; p && p < names.p + names.n; p += strlen(p) + 1) {
		if (ks_copy_wants_xattr(c, p))
			return true;
	}
	return false;
}

/* Fewer blocks than bytes: there may be holes. What is small enough to lie in its inode has none, or one. */
static bool may_have_holes(const struct ks_copy_item *it)
{
	return !it->from->side->vfs && (uint64_t)it->st.st_blocks * 512 < (uint64_t)it->st.st_size;
}

/* The content. Its length, or -errno, reported. */
static ssize_t read_content(struct ks_copy *c, const struct ks_copy_item *it, uint8_t *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = it->from->side->ops->read(it->in, done, p + done, n - done);

		if (got < 0) {
			KS_AUTO(ks_freep) char *path = ks_copy_join(it->from->path, it->name);

			ks_copy_fail(c, path ? path : it->name, "read", (int)got);
			return got;
		}
		if (got == 0)
			break;
		done += (size_t)got;
	}
	ks_copy_count(c, bytes, done);
	ks_copy_pace(c, done);
	return (ssize_t)done;
}

static bool keep_item(struct ks_copy_batch *b, struct entry *e, const struct ks_copy_item *it)
{
	e->it = *it;
	e->it.in = NULL;
	e->it.name = ks_arena_copy(&b->arena, it->name, strlen(it->name) + 1);
	e->it.to_name = it->to_name == it->name
				? e->it.name
				: ks_arena_copy(&b->arena, it->to_name, strlen(it->to_name) + 1);
	return e->it.name && e->it.to_name;
}

static const char *read_target(struct ks_copy_batch *b, const struct ks_copy_item *it)
{
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };

	if (it->from->side->ops->readlink(it->from, it->name, &target) < 0 ||
	    ks_buf_append(&target, "", 1) < 0)
		return NULL;
	return ks_arena_copy(&b->arena, target.p, target.n);
}

/* A file of no known size, as those of /proc. */
static bool has_more(const struct ks_copy_item *it)
{
	char byte;

	return it->st.st_size == 0 && it->from->side->ops->read(it->in, 0, &byte, 1) != 0;
}

static bool fits(struct ks_copy *c, const struct ks_copy_item *it)
{
	/* Within a volume data is shared, where it can be; nowhere else, and then it is an error to want nothing else. */
	if (it->from->side->vfs == it->to->side->vfs || c->o.reflink == KS_REFLINK_ALWAYS)
		return false;
	if (S_ISREG(it->st.st_mode) && (!it->in || it->st.st_size > (off_t)KS_RUN_FILE_MAX ||
					it->st.st_size < 0 || may_have_holes(it) || has_more(it)))
		return false;
	return !has_xattrs(c, it);
}

static bool may_clone(const struct ks_copy *c, const struct ks_copy_item *it)
{
	return it->from->side->vfs == it->to->side->vfs && S_ISREG(it->st.st_mode) && !it->exists &&
	       c->o.reflink != KS_REFLINK_NEVER && !c->o.verify;
}

static bool add_clone(struct ks_copy *c, struct ks_copy_batch *b, const struct ks_copy_item *it)
{
	const struct ks_cred *cred = &it->to->side->ctx.cred;
	struct entry *e;
	struct ks_copy_set set;

	if (b->nclones == BATCH_FILES)
		commit(c, b);
	e = &b->cloned[b->nclones];
	if (!keep_item(b, e, it))
		return false;
	ks_copy_plan(c, it, &set);
	b->clone[b->nclones] = (struct ks_clone){
		.src = it->st.st_ino,
		.parent = it->to->ino,
		.name = e->it.to_name,
		.mode = set.st.st_mode & (set.what & KS_COPY_MODE ? 07777 : 0777 & ~c->umask),
		.own = set.what & KS_COPY_OWNER,
		.uid = set.what & KS_COPY_OWNER ? set.st.st_uid : cred->uid,
		.gid = set.what & KS_COPY_OWNER ? set.st.st_gid : cred->gid,
		.times = set.what & KS_COPY_TIMES,
		.atime_ns = ks_ts_to_ns(set.st.st_atim),
		.mtime_ns = ks_ts_to_ns(set.st.st_mtim),
		.plain = c->o.preserve & (KS_COPY_XATTR | KS_COPY_ACL),
	};
	ks_cdir_get(it->from);
	ks_cdir_get(it->to);
	if (b->nclones++ + b->n == 0)
		b->since_ns = ks_clock_mono_ns();
	return true;
}

bool ks_batch_add(struct ks_copy *c, struct ks_copy_batch *b, const struct ks_copy_item *it)
{
	size_t size = S_ISREG(it->st.st_mode) ? (size_t)it->st.st_size : 0;
	const char *target = NULL;
	struct ks_copy_set set;
	ssize_t n = 0;
	void *p;

	if (b && may_clone(c, it))
		return add_clone(c, b, it);
	if (!b || !fits(c, it))
		return false;
	p = ks_run_room(&b->run, size);
	if (!p || b->n == BATCH_FILES) {
		commit(c, b);
		p = ks_run_room(&b->run, size);
	}
	if (!keep_item(b, &b->e[b->n], it))
		return false;
	if (S_ISLNK(it->st.st_mode)) {
		target = read_target(b, it);
		if (!target)
			return false; /* it is told why where it is tried once more */
	}
	if (size) {
		n = read_content(c, it, p, size);
		if (n < 0)
			return true;
	}
	if (n > 0)
		ks_run_take(&b->run, (size_t)n);
	ks_copy_plan(c, it, &set);
	ks_side_make(&b->m[b->n], it->to, b->e[b->n].it.to_name, &set, target);
	b->m[b->n].attr.size = (uint64_t)n;
	ks_cdir_get(it->from);
	ks_cdir_get(it->to);
	if (b->n++ + b->nclones == 0)
		b->since_ns = ks_clock_mono_ns();
	return true;
}
