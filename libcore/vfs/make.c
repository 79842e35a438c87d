/* SPDX-License-Identifier: Apache-2.0 */
/*
 * make.c: many entries at once, each with its content: one append to a pack and one transaction for hundreds of small files. And back: their places are
 * found with one request, and each is read with one.
 *
 * Data before metadata, as always, and here also across a power cut: the contents are durable before the names are there, but
 * for files that were written one by one and replace nothing, where the caller says.
 */
#include "data/block.h"
#include "vfs/internal.h"
#include <stdlib.h>
#include <string.h>

_Static_assert(KS_RUN_FILE_MAX == KS_PACK_PAGES_MAX * KS_PAGE_SIZE, "a record of a pack");

/* What has to be kept until the transaction is done. */
struct content {
	struct ks_commit_slice s;
	uint32_t sums[KS_PACK_PAGES_MAX];
};

struct ks_making {
	struct ks_make *m; /* the caller's */
	size_t n;
	struct ks_pack_log *
		log; /* kept from being dropped while nothing in it is committed; NULL: no contents */
	bool stored; /* contents; durable they are when settled */
	bool settled;
	struct content c[]; /* n */
};

static size_t record_size(size_t len)
{
	return ks_round_up(KS_PACK_HEADER_SIZE + len, KS_PACK_ALIGN);
}

bool ks_vfs_can_make(const struct ks_vfs *v)
{
	return ks_data_has_packs(v->data);
}

void *ks_run_room(struct ks_pack_run *run, size_t len)
{
	if (len > KS_RUN_FILE_MAX || record_size(len) > run->cap - run->n)
		return NULL;
	return run->p + run->n + KS_PACK_HEADER_SIZE;
}

void ks_run_take(struct ks_pack_run *run, size_t len)
{
	size_t size = record_size(len);

	assert(size <= run->cap - run->n);
	memset(run->p + run->n + KS_PACK_HEADER_SIZE + len, 0, size - KS_PACK_HEADER_SIZE - len);
	run->n += size;
}

static bool has_content(const struct ks_make *m)
{
	return S_ISREG(m->attr.mode) && m->attr.size > 0 && !(m->flags & KS_MAKE_LINK);
}

/* Numbers and checksums of one record at @p. */
static int seal(struct ks_vfs *v, const struct ks_make *m, uint8_t *p, struct content *c)
{
	uint32_t len = (uint32_t)m->attr.size;
	struct ks_pack_head h = { .ino = m->attr.ino, .len = len, .npages = ks_pages_of(len) };
	int r = ks_meta_new_slice_id(v->meta, &h.slice);

	if (r < 0)
		return r;
	ks_pages_sum(p + KS_PACK_HEADER_SIZE, len, h.sums);
	memcpy(c->sums, h.sums, sizeof(c->sums));
	c->s = (struct ks_commit_slice){ .len = len,
					 .slice = h.slice,
					 .block_size =
						 (uint32_t)ks_meta_settings(v->meta)->block_size,
					 .sums = c->sums };
	ks_pack_seal(p, &h);
	return 0;
}

static int prepare(struct ks_vfs *v, struct ks_make *m, size_t n, struct ks_pack_run *run,
		   struct content *c)
{
	size_t off = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		if (!(m[i].flags & KS_MAKE_LINK))
			r = ks_meta_new_ino(v->meta, &m[i].attr.ino);
		if (r < 0 || !has_content(&m[i]))
			continue;
		if (m[i].attr.size > KS_RUN_FILE_MAX ||
		    off + record_size((size_t)m[i].attr.size) > run->n)
			return -EINVAL;
		r = seal(v, &m[i], run->p + off, &c[i]);
		c[i].s.pack_off = off + KS_PACK_HEADER_SIZE;
		m[i].s = &c[i].s;
		m[i].n = 1;
		off += record_size((size_t)m[i].attr.size);
	}
	return r == 0 && off != run->n ? -EINVAL : r;
}

static int store(struct ks_vfs *v, struct ks_pack_run *run, struct ks_making *g)
{
	struct iovec iov = { .iov_base = run->p, .iov_len = run->n };
	uint64_t off = 0;
	uint64_t pack = 0;
	int r;

	if (run->n == 0)
		return 0;
	r = ks_data_pack_begin(v->data, &g->log, &pack);
	if (r == 0)
		r = ks_data_pack_add(v->data, g->log, &iov, 1, &off);
	for (size_t i = 0; r == 0 && i < g->n; i++) {
		if (g->m[i].n) {
			g->c[i].s.pack = pack;
			g->c[i].s.pack_off += off;
		}
	}
	g->stored = r == 0;
	return r;
}

/* An inode that gets its first name becomes visible to others: with everything that was written to it. */
static int flush_linked(struct ks_vfs *v, const struct ks_make *m, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct ks_vnode *vn =
			m[i].flags & KS_MAKE_LINK ? ks_vnode_pin(v, m[i].attr.ino) : NULL;

		if (!vn)
			continue;
		if (ks_vnode_is_unlinked(v, vn))
			r = ks_file_flush(vn->file);
		ks_vnode_unpin(v, vn);
	}
	return r;
}

static void made(struct ks_vfs *v, const struct ks_make *m)
{
	if (m->replaced.ino)
		ks_vfs_lost_name(v, &m->replaced);
	if (m->flags & KS_MAKE_LINK) {
		ks_seen_own(v, m->out.ino, m->out.change);
		ks_vnode_set_unlinked(v, &m->out);
	} else if (m->n) {
		ks_unsynced_add(v, m->out.ino, m->attr.size);
	}
}

/*
 * Has the data to be durable before the names are there? Then a name that is there after a power cut has its whole content. An append to a pack is worth it; for a file that was
 * written by itself and replaces nothing the caller says so.
 */
static bool must_settle(struct ks_vfs *v, const struct ks_making *g)
{
	struct ks_attr old;

	if (g->settled || g->stored)
		return !g->settled;
	for (size_t i = 0; i < g->n && ks_unsynced_any(v); i++) {
		const struct ks_make *m = &g->m[i];

		if ((m->flags & KS_MAKE_LINK) &&
		    ((m->flags & KS_MAKE_DURABLE) ||
		     ks_meta_lookup(v->meta, m->parent, m->name, &old) == 0))
			return true;
	}
	return false;
}

void ks_vfs_make_drop(struct ks_making *g)
{
	if (!g)
		return;
	if (g->log)
		ks_data_pack_end(g->log);
	for (size_t i = 0; i < g->n; i++)
		g->m[i].s = NULL;
	free(g);
}

int ks_vfs_make_begin(struct ks_vfs *v, struct ks_make *m, size_t n, struct ks_pack_run *run,
		      struct ks_making **out)
{
	struct ks_making *g;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = ks_vfs_may_change(v, m[i].parent, m[i].name, true);
	if (r < 0)
		return r;
	g = calloc(1, sizeof(*g) + n * sizeof(g->c[0]));
	if (!g)
		return -ENOMEM;
	g->m = m;
	g->n = n;
	r = prepare(v, m, n, run, g->c);
	if (r == 0)
		r = store(v, run, g);
	if (r == 0)
		r = flush_linked(v, m, n);
	if (r == 0)
		*out = g;
	else
		ks_vfs_make_drop(g);
	return r;
}

int ks_vfs_make_settle(struct ks_vfs *v, struct ks_making *const *g, size_t n)
{
	bool must = false;
	int r;

	for (size_t i = 0; i < n && !must; i++)
		must = must_settle(v, g[i]);
	r = must ? ks_store_sync(v) : 0;
	for (size_t i = 0; r == 0 && i < n; i++)
		g[i]->settled = true;
	return r;
}

int ks_vfs_make_end(struct ks_vfs *v, const struct ks_ctx *c, struct ks_making *g)
{
	int r = ks_vfs_make_settle(v, &g, 1);

	if (r == 0)
		r = ks_meta_make(v->meta, &c->cred, g->m, g->n);
	for (size_t i = 0; r == 0 && i < g->n; i++) {
		if (g->m[i].err == 0)
			made(v, &g->m[i]);
	}
	ks_vfs_make_drop(g);
	return r;
}

int ks_vfs_make(struct ks_vfs *v, const struct ks_ctx *c, struct ks_make *m, size_t n,
		struct ks_pack_run *run)
{
	struct ks_making *g = NULL;
	int r = n ? ks_vfs_make_begin(v, m, n, run, &g) : 0;

	return r == 0 && g ? ks_vfs_make_end(v, c, g) : r;
}

int ks_vfs_whole(struct ks_vfs *v, struct ks_whole *w, size_t n)
{
	int r = ks_meta_whole(v->meta, w, n);

	/* What is open here may have more than is committed. */
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (__atomic_load_n(&v->nwriters, __ATOMIC_RELAXED) &&
		    ks_vnode_is_open(v, w[i].ino))
			w[i].attr = (struct ks_attr){ 0 };
	}
	return r;
}

int ks_vfs_read_whole(struct ks_vfs *v, const struct ks_whole *w, void *p)
{
	struct iovec iov = { .iov_base = p, .iov_len = (size_t)w->attr.size };
	bool quiet = ks_fail_quiet(true);
	char key[KS_KEY_STR];
	ssize_t n;

	ks_pack_key(key, w->pack);
	n = ks_object_get(v->store, key, w->off, &iov, 1);
	ks_fail_quiet(quiet);
	if (n < 0 || (uint64_t)n != w->attr.size)
		return -EAGAIN;
	return ks_pages_unlike(p, (uint32_t)n, w->sums) < ks_pages_of((uint64_t)n) ? -EAGAIN : 0;
}
