/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_batch.c: small files on their way into a volume: their contents are read one behind the other into what becomes one append to a pack, and hundreds of them
 * are made in one transaction, each whole.
 *
 * Within one volume they share their content with what they are copies of, and no byte is read (meta/meta_clone.c).
 *
 * A worker takes a batch, fills its lot, and gives it back. Who fills a lot up stores its contents, hands it on, and goes on with the next one. One thread makes the contents of all that was
 * handed to it durable, with one sync of the store, another one commits lot by lot: so nobody who reads waits for the disk, and the slower that is, the more a sync serves. What is begun
 * at the end is handed on by ks_copy_wait(), which waits until all is committed.
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
#define LOTS_MORE 24u            /* beside one for each worker: handed in */

struct entry {
	struct ks_copy_item it; /* its directories are references, its names in the arena */
};

/* Files that are made together. */
struct ks_copy_lot {
	struct ks_copy_lot *next; /* [copy.mu] */
	struct ks_arena arena;    /* names and targets */
	struct ks_make m[BATCH_FILES];
	struct entry e[BATCH_FILES];
	size_t n;
	struct ks_making *making; /* once stored */
};

struct ks_copy_batch {
	struct ks_copy_batch *next; /* [copy.mu] */
	struct ks_copy_lot *lot;    /* NULL: none begun */
	struct ks_pack_run run;     /* its contents */
	struct ks_arena arena;      /* names of clones */
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
	b->lot = NULL;
	b->nclones = 0;
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

static struct ks_copy_lot *new_lot(void)
{
	struct ks_copy_lot *l = malloc(sizeof(*l));

	if (!l)
		return NULL;
	l->arena = (struct ks_arena){ 0 };
	l->n = 0;
	l->making = NULL;
	return l;
}

/* Waits while as many are handed in as may be: memory is bounded. NULL: no memory. */
static struct ks_copy_lot *take_lot(struct ks_copy *c)
{
	struct ks_copy_lot *l;

	ks_mutex_lock(&c->mu);
	while (!c->lots && c->nlots >= c->jobs + 1 + LOTS_MORE)
		KS_IGNORE(ks_cond_wait(&c->lot_free, &c->mu, -1));
	l = c->lots;
	if (l) {
		c->lots = l->next;
		c->nlots_free--;
	} else {
		c->nlots++;
	}
	ks_mutex_unlock(&c->mu);
	if (l)
		return l;
	l = new_lot();
	if (!l) {
		KS_LOCKED(&c->mu);
		c->nlots--;
	}
	return l;
}

static void give_lot(struct ks_copy *c, struct ks_copy_lot *l)
{
	l->n = 0;
	l->making = NULL;
	ks_arena_reset(&l->arena);
	KS_LOCKED(&c->mu);
	l->next = c->lots;
	c->lots = l;
	c->nlots_free++;
	pthread_cond_broadcast(&c->lot_free);
}

/* ---- stages ---- */

/* Nobody touches @l afterwards but the stage. */
static void hand_to(struct ks_copy *c, struct ks_copy_stage *s, struct ks_copy_lot *l)
{
	bool on;

	l->next = NULL;
	ks_mutex_lock(&c->mu);
	*s->end = l;
	s->end = &l->next;
	on = s->on;
	s->on = true;
	ks_mutex_unlock(&c->mu);
	if (!on)
		ks_workers_add(s->worker, &s->job);
}

/* The next up to @max, in their order. 0: the stage has come to rest. */
static size_t take_lots(struct ks_copy_stage *s, struct ks_copy_lot **v, size_t max)
{
	size_t n = 0;

	KS_LOCKED(&s->c->mu);
	while (n < max && s->first) {
		v[n] = s->first;
		s->first = v[n++]->next;
	}
	if (!s->first)
		s->end = &s->first;
	s->on = n > 0;
	return n;
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

/* What became of its files. */
static void finish_lot(struct ks_copy *c, struct ks_copy_lot *l, int err)
{
	for (size_t i = 0; i < l->n; i++) {
		settle(c, &l->e[i].it, l->m[i].attr.size, err < 0 ? err : l->m[i].err);
		drop(&l->e[i]);
	}
	give_lot(c, l);
}

/* Up to LOTS_MORE of them, one sync for all. Those whose contents are not durable are done with. */
static void settle_lots(struct ks_copy *c, struct ks_copy_lot *const *v, size_t n)
{
	struct ks_making *making[LOTS_MORE];
	int r;

	for (size_t i = 0; i < n; i++)
		making[i] = v[i]->making;
	ks_fail_clear();
	r = ks_vfs_make_settle(c->to.vfs, making, n);
	for (size_t i = 0; i < n; i++) {
		if (r == 0) {
			hand_to(c, &c->commits, v[i]);
			continue;
		}
		ks_vfs_make_drop(v[i]->making);
		finish_lot(c, v[i], r);
	}
}

static void commit_lot(struct ks_copy *c, struct ks_copy_lot *l)
{
	int r;

	ks_fail_clear();
	r = ks_vfs_make_end(c->to.vfs, &c->to.ctx, l->making);
	finish_lot(c, l, r);
}

static void run_settle(struct ks_job *job)
{
	struct ks_copy_stage *s = ks_container_of(job, struct ks_copy_stage, job);
	struct ks_copy_lot *v[LOTS_MORE];
	bool quiet = ks_fail_quiet(true);
	size_t n;

	while ((n = take_lots(s, v, LOTS_MORE)) > 0)
		settle_lots(s->c, v, n);
	ks_fail_quiet(quiet);
}

static void run_commit(struct ks_job *job)
{
	struct ks_copy_stage *s = ks_container_of(job, struct ks_copy_stage, job);
	bool quiet = ks_fail_quiet(true);
	struct ks_copy_lot *l;

	while (take_lots(s, &l, 1))
		commit_lot(s->c, l);
	ks_fail_quiet(quiet);
}

/* Stores the contents of what was begun. The lot to be committed; NULL: there is none, or that failed and was reported. */
static struct ks_copy_lot *store_lot(struct ks_copy *c, struct ks_copy_batch *b)
{
	struct ks_copy_lot *l = b->lot;
	int r;

	b->lot = NULL;
	if (!l)
		return NULL;
	ks_fail_clear();
	r = ks_vfs_make_begin(c->to.vfs, l->m, l->n, &b->run, &l->making);
	b->run.n = 0;
	if (r == 0)
		return l;
	finish_lot(c, l, r);
	return NULL;
}

static void make_all(struct ks_copy *c, struct ks_copy_batch *b)
{
	struct ks_copy_lot *l = store_lot(c, b);

	if (!l)
		return;
	/* To read everything back is not one worker's work. */
	if (c->o.verify)
		commit_lot(c, l);
	else
		hand_to(c, &c->settles, l);
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
	if ((b->lot || b->nclones) && ks_clock_mono_ns() - b->since_ns > BATCH_AGE_NS)
		commit(c, b);
	KS_LOCKED(&c->mu);
	b->next = c->batches;
	c->batches = b;
}

void ks_batch_commit_all(struct ks_copy *c)
{
	for (struct ks_copy_batch *b = c->batches; b; b = b->next)
		commit(c, b);
	ks_mutex_lock(&c->mu);
	while (c->nlots_free < c->nlots)
		KS_IGNORE(ks_cond_wait(&c->lot_free, &c->mu, -1));
	ks_mutex_unlock(&c->mu);
}

static void free_all(struct ks_copy *c)
{
	while (c->batches) {
		struct ks_copy_batch *b = c->batches;

		c->batches = b->next;
		ks_arena_clear(&b->arena);
		free(b->run.p);
		free(b);
	}
	while (c->lots) {
		struct ks_copy_lot *l = c->lots;

		c->lots = l->next;
		ks_arena_clear(&l->arena);
		free(l);
	}
}

static int start_stage(struct ks_copy *c, struct ks_copy_stage *s, const char *name,
		       void (*run)(struct ks_job *job))
{
	*s = (struct ks_copy_stage){ .c = c, .job = { .run = run }, .end = &s->first };
	return ks_workers_start(&s->worker, name, 1);
}

int ks_batch_start(struct ks_copy *c)
{
	int r = ks_cond_init(&c->lot_free);

	if (r == 0)
		r = start_stage(c, &c->settles, "copy-settle", run_settle);
	return r < 0 ? r : start_stage(c, &c->commits, "copy-commit", run_commit);
}

void ks_batch_stop(struct ks_copy *c)
{
	ks_workers_stop(c->settles.worker);
	ks_workers_stop(c->commits.worker);
	free_all(c);
	pthread_cond_destroy(&c->lot_free);
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

static bool keep_item(struct ks_arena *a, struct entry *e, const struct ks_copy_item *it)
{
	e->it = *it;
	e->it.in = NULL;
	e->it.name = ks_arena_copy(a, it->name, strlen(it->name) + 1);
	e->it.to_name = it->to_name == it->name
				? e->it.name
				: ks_arena_copy(a, it->to_name, strlen(it->to_name) + 1);
	return e->it.name && e->it.to_name;
}

static const char *read_target(struct ks_arena *a, const struct ks_copy_item *it)
{
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };

	if (it->from->side->ops->readlink(it->from, it->name, &target) < 0 ||
	    ks_buf_append(&target, "", 1) < 0)
		return NULL;
	return ks_arena_copy(a, target.p, target.n);
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
	if (!keep_item(&b->arena, e, it))
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
	if (b->nclones++ == 0 && !b->lot)
		b->since_ns = ks_clock_mono_ns();
	return true;
}

/* Where the content of @size bytes goes, and the lot of which it is to be one. False: no memory. */
static bool make_room(struct ks_copy *c, struct ks_copy_batch *b, size_t size, void **p)
{
	*p = ks_run_room(&b->run, size);
	if (b->lot && (!*p || b->lot->n == BATCH_FILES)) {
		commit(c, b);
		*p = ks_run_room(&b->run, size);
	}
	if (!b->lot)
		b->lot = take_lot(c);
	return b->lot && *p;
}

bool ks_batch_add(struct ks_copy *c, struct ks_copy_batch *b, const struct ks_copy_item *it)
{
	size_t size = S_ISREG(it->st.st_mode) ? (size_t)it->st.st_size : 0;
	const char *target = NULL;
	struct ks_copy_set set;
	struct ks_copy_lot *l;
	ssize_t n = 0;
	void *p;

	if (b && may_clone(c, it))
		return add_clone(c, b, it);
	if (!b || !fits(c, it) || !make_room(c, b, size, &p))
		return false;
	l = b->lot;
	if (!keep_item(&l->arena, &l->e[l->n], it))
		return false;
	if (S_ISLNK(it->st.st_mode)) {
		target = read_target(&l->arena, it);
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
	ks_side_make(&l->m[l->n], it->to, l->e[l->n].it.to_name, &set, target);
	l->m[l->n].attr.size = (uint64_t)n;
	ks_cdir_get(it->from);
	ks_cdir_get(it->to);
	if (l->n++ == 0 && b->nclones == 0)
		b->since_ns = ks_clock_mono_ns();
	return true;
}
