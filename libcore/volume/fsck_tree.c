/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_tree.c: link counts of directories, which directories cannot be reached from the root, and the way back for what has no name.
 *
 * Reachability without a walk through the tree: every directory points to its parent; in each round it points to where that one pointed, so that
 * after k rounds all who are less than 2^k deep point to the root. Who is left when a round brings nobody there is in a ring, or below one.
 */
#include "volume/fsck_internal.h"

#define RING_MAX (1u << 20) /* directories of rings looked at in one run */

enum { T_INO, T_UP };

/* ---- link counts ---- */

static int check_nlink(struct ks_fsck *f, const struct ks_rec_inode *n, uint64_t subdirs)
{
	/* In the trash a directory is empty and has no links. */
	uint64_t links = ks_fsck_is_hour(f, n->parent) ? 0 : 2 + subdirs;
	char text[120];
	struct ks_fsck_problem p = { .kind = "wrong_nlink",
				     .repair = KS_FSCK_R_SAFE,
				     .ino = n->ino,
				     .is = n->nlink,
				     .should = links,
				     .text = text };
	struct ks_upd u = KS_FSCK_UPD(inode, nlink, KS_UPD_SET, links);
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, n, 1, &u };

	if (n->nlink == p.should)
		return 0;
	snprintf(text, sizeof(text), "link count is %u, should be %ju", n->nlink,
		 (uintmax_t)p.should);
	return ks_fsck_found_fix(f, &p, 0, &w, 1);
}

static int check_nlinks(struct ks_fsck *f)
{
	struct ks_walk w;
	struct ks_sort_cur c;
	int r;

	ks_walk_begin(&w, f->e, KS_T_INODE);
	ks_sort_begin(&c, f->subdirs);
	r = ks_sort_next(&c);
	while (r == 0 && (r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_inode *n = w.rec;
		uint64_t subdirs = 0;

		while (r == 0 && c.rec && c.rec[0] <= n->ino) {
			subdirs += c.rec[0] == n->ino;
			r = ks_sort_next(&c);
		}
		if (r == 0 && S_ISDIR(n->mode))
			r = check_nlink(f, n, subdirs);
	}
	ks_walk_end(&w);
	ks_sort_end(&c);
	return r;
}

/* ---- reachability ---- */

static bool is_lost(const uint64_t *rec)
{
	return rec[T_UP] != 0 && rec[T_UP] != KS_ROOT_INO;
}

/* Who is not there yet, by whom they point to. */
static int turn(struct ks_fsck *f, struct ks_sort *tree, struct ks_sort **out)
{
	struct ks_sort_cur c;
	int r = ks_fsck_sort(f, out, 2);

	ks_sort_begin(&c, tree);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec) {
		const uint64_t rec[2] = { c.rec[T_UP], c.rec[T_INO] };

		if (is_lost(c.rec))
			r = ks_sort_add(*out, rec);
	}
	ks_sort_end(&c);
	return r == 0 ? ks_sort_finish(*out) : r;
}

/* One round: everybody who is not there yet goes to where the one they point to points. */
static int jump(struct ks_fsck *f, struct ks_sort *tree, struct ks_sort *turned,
		struct ks_sort **out)
{
	struct ks_sort_cur c, t;
	int r = ks_fsck_sort(f, out, 2);

	ks_sort_begin(&c, tree);
	ks_sort_begin(&t, turned);
	if (r == 0)
		r = ks_sort_next(&t);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec) {
		if (!is_lost(c.rec))
			r = ks_sort_add(*out, c.rec);
		while (r == 0 && t.rec && t.rec[0] <= c.rec[T_INO]) {
			/* A parent that is not in the tree: beside others it may have come later. */
			const uint64_t rec[2] = { t.rec[1],
						  t.rec[0] == c.rec[T_INO] ? c.rec[T_UP] : 0 };

			r = ks_sort_add(*out, rec);
			if (r == 0)
				r = ks_sort_next(&t);
		}
	}
	while (r == 0 && t.rec) {
		const uint64_t rec[2] = { t.rec[1], 0 };

		r = ks_sort_add(*out, rec);
		if (r == 0)
			r = ks_sort_next(&t);
	}
	ks_sort_end(&c);
	ks_sort_end(&t);
	return r == 0 ? ks_sort_finish(*out) : r;
}

struct node {
	uint64_t ino, parent;
	uint32_t visit; /* the walk that came here first; 0: none */
};

static int collect(struct ks_fsck *f, struct ks_sort *turned, struct node **out, size_t *n)
{
	struct ks_sort_cur c;
	size_t max = (size_t)ks_min(ks_sort_count(turned), (uint64_t)RING_MAX);
	struct ks_sort *lost = NULL;
	struct node *v = calloc(max + 1, sizeof(*v));
	size_t k = 0;
	int r = v ? ks_sort_new(&lost, 1, 0, f->o->tmpdir) : -ENOMEM;

	/* Their numbers in order, then their parents from the tree as it was. */
	if (r == 0)
		ks_sort_begin(&c, turned);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec)
		r = ks_sort_add(lost, &c.rec[1]);
	if (lost)
		ks_sort_end(&c);
	if (r == 0)
		r = ks_sort_finish(lost);
	if (r == 0) {
		struct ks_sort_cur tree;

		ks_sort_begin(&c, lost);
		ks_sort_begin(&tree, f->tree);
		r = ks_sort_next(&tree);
		while (r == 0 && k < max && (r = ks_sort_next(&c)) == 0 && c.rec) {
			while (r == 0 && tree.rec && tree.rec[T_INO] < c.rec[0])
				r = ks_sort_next(&tree);
			if (r == 0 && tree.rec && tree.rec[T_INO] == c.rec[0])
				v[k++] = (struct node){ .ino = tree.rec[T_INO],
							.parent = tree.rec[T_UP] };
		}
		ks_sort_end(&tree);
		ks_sort_end(&c);
	}
	ks_sort_free(lost);
	if (r < 0) {
		free(v);
		return r;
	}
	*out = v;
	*n = k;
	return 0;
}

static int node_order(const void *a, const void *b)
{
	uint64_t x = ((const struct node *)a)->ino, y = ((const struct node *)b)->ino;

	return x < y ? -1 : x > y;
}

static int ring_found(struct ks_fsck *f, uint64_t ino)
{
	struct ks_fsck_problem p = { .kind = "directory_loop",
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = ino,
				     .text = "directory that lies within itself" };
	struct ks_fsck_move mv;
	int r = ks_fsck_move_prepare(f, ino, true, &mv);

	if (r == 0)
		r = ks_fsck_found(f, &p, 0, ks_fsck_move_body, &mv);
	ks_fsck_move_clear(&mv);
	return r;
}

/* Follows the parents from each; a walk that meets itself has found a ring. One member of each is taken out. */
static int find_rings(struct ks_fsck *f, struct node *v, size_t n)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i++) {
		struct node *at = &v[i];
		uint32_t me = (uint32_t)i + 1;

		while (at && !at->visit) {
			struct node key = { .ino = at->parent };

			at->visit = me;
			at = bsearch(&key, v, n, sizeof(*v), node_order);
		}
		if (at && at->visit == me)
			r = ring_found(f, at->ino);
	}
	return r;
}

static int check_rings(struct ks_fsck *f)
{
	struct ks_sort *now = NULL; /* NULL: f->tree itself */
	struct ks_sort *turned = NULL;
	struct node *v = NULL;
	size_t n = 0;
	uint64_t left = UINT64_MAX;
	int r = turn(f, f->tree, &turned);

	while (r == 0 && ks_sort_count(turned) && ks_sort_count(turned) < left) {
		struct ks_sort *next = NULL;

		left = ks_sort_count(turned);
		r = jump(f, now ? now : f->tree, turned, &next);
		ks_sort_free(now);
		now = next;
		if (r == 0)
			r = turn(f, now, &turned);
	}
	if (r == 0 && ks_sort_count(turned)) {
		r = collect(f, turned, &v, &n);
		if (r == 0)
			r = find_rings(f, v, n);
	}
	free(v);
	ks_sort_free(now);
	ks_sort_free(turned);
	return r;
}

/* ---- orphans ---- */

static int orphan_found(struct ks_fsck *f, uint64_t ino)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode n = { .ino = ino };
	struct ks_read rd = { .table = KS_T_INODE, .rec = &n };
	struct ks_fsck_problem p = { .kind = "orphan_inode",
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = ino };
	struct ks_fsck_move mv;
	int r = ks_engine_read(f->e, &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0 || !rd.found)
		return r;
	p.len = S_ISREG(n.mode) ? n.size : 0;
	p.text = S_ISDIR(n.mode) ? "directory without a name" : "file without a name";
	r = ks_fsck_move_prepare(f, ino, true, &mv);
	if (r == 0)
		r = ks_fsck_found(f, &p, 0, ks_fsck_move_body, &mv);
	ks_fsck_move_clear(&mv);
	return r;
}

static int give_names(struct ks_fsck *f)
{
	struct ks_sort_cur c;
	int r = 0;

	ks_sort_begin(&c, f->orphans);
	while (r == 0 && (r = ks_sort_next(&c)) == 0 && c.rec)
		r = orphan_found(f, c.rec[0]);
	ks_sort_end(&c);
	return r;
}

int ks_fsck_tree(struct ks_fsck *f)
{
	int r = check_nlinks(f);

	if (r == 0)
		r = check_rings(f);
	return r == 0 ? give_names(f) : r;
}
