/* SPDX-License-Identifier: Apache-2.0 */
/* fsck.c: the order of the passes, and what happens with a finding. */
#include "volume/fsck_internal.h"

#define SEEN_MAX (1u << 20)

struct seen {
	struct ks_hnode node;
};

static void seen_clear(struct ks_fsck *f)
{
	struct ks_hnode *n = ks_hmap_next(&f->seen, NULL);

	while (n) {
		struct ks_hnode *next = ks_hmap_next(&f->seen, n);

		free(ks_container_of(n, struct seen, node));
		n = next;
	}
	ks_hmap_clear(&f->seen);
}

/* Remembers a finding of the first run. Beyond a million the rest counts as unsettled. */
static int seen_add(struct ks_fsck *f, uint64_t h)
{
	struct seen *s;
	int r;

	if (f->seen.n >= SEEN_MAX || ks_hmap_find(&f->seen, h))
		return 0;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	r = ks_hmap_insert(&f->seen, &s->node, h);
	if (r < 0)
		free(s);
	return r;
}

/* 1: it is to be reported. */
static int settle(struct ks_fsck *f, uint64_t h)
{
	if (f->rehearsal)
		return seen_add(f, h);
	/* Pass 3 looks twice at each of its findings itself. */
	if (!f->online || f->pass == 3 || ks_hmap_find(&f->seen, h))
		return 1;
	f->out.unsettled++;
	return 0;
}

static uint64_t hash_text(const char *s)
{
	uint64_t h = 0;

	for (; *s; s++)
		h = ks_mix64(h + (unsigned char)*s);
	return h;
}

static uint64_t problem_hash(const struct ks_fsck_problem *p, uint64_t key)
{
	const uint64_t v[] = { p->ino, p->slice, p->pack, key, p->is - p->should };
	uint64_t h = hash_text(p->kind);

	for (size_t i = 0; i < KS_ARRAY_SIZE(v); i++)
		h = ks_mix64(h ^ v[i]) + i;
	return h;
}

bool ks_fsck_may(const struct ks_fsck *f, enum ks_fsck_repair r)
{
	if (f->rehearsal || r == KS_FSCK_R_NONE)
		return false;
	return f->o->level == KS_FSCK_ALL || (f->o->level == KS_FSCK_SAFE && r == KS_FSCK_R_SAFE);
}

int ks_fsck_found(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t key, ks_body_fn *fix,
		  void *arg)
{
	struct ks_fsck_paths paths = { 0 };
	int r = settle(f, problem_hash(p, key));

	if (r <= 0)
		return r;
	r = 0;
	if (!fix)
		p->repair = KS_FSCK_R_NONE;
	if (p->ino && !p->npaths && f->names && f->o->problem) {
		r = ks_fsck_paths(f, p->ino, &paths);
		p->paths = paths.v;
		p->npaths = paths.n;
	}
	if (r == 0 && fix && ks_fsck_may(f, p->repair)) {
		r = ks_engine_run(f->e, fix, arg);
		p->fixed = r == 0;
		p->moved = p->fixed && fix == ks_fsck_move_body;
		if (r == -ECANCELED)
			r = 0;
	}
	f->out.problems++;
	f->out.fixed += p->fixed;
	if (f->o->problem)
		f->o->problem(f->o->arg, p);
	ks_fsck_paths_clear(&paths);
	return r;
}

int ks_fsck_fix_body(struct ks_txn *t, void *arg)
{
	const struct ks_fsck_fix *x = arg;

	for (unsigned int i = 0; i < x->n; i++) {
		const struct ks_fsck_write *w = &x->w[i];

		switch (w->how) {
		case KS_FSCK_DEL:
			ks_txn_del(t, w->table, w->rec);
			break;
		case KS_FSCK_DEL_PREFIX:
			ks_txn_del_prefix(t, w->table, w->rec, w->n);
			break;
		case KS_FSCK_PUT:
			ks_txn_put(t, w->table, w->rec);
			break;
		case KS_FSCK_UPDATE:
			ks_txn_update(t, w->table, w->rec, w->u, w->n);
			break;
		}
	}
	return 0;
}

int ks_fsck_found_fix(struct ks_fsck *f, struct ks_fsck_problem *p, uint64_t key,
		      const struct ks_fsck_write *w, unsigned int n)
{
	struct ks_fsck_fix x = { .n = n };

	assert(n <= KS_ARRAY_SIZE(x.w));
	memcpy(x.w, w, n * sizeof(*w));
	return ks_fsck_found(f, p, key, ks_fsck_fix_body, &x);
}

int ks_fsck_bad(struct ks_fsck *f, uint64_t slice, uint64_t from, uint64_t to, enum ks_bad kind,
		uint32_t idx)
{
	const uint64_t rec[BAD_WORDS] = { slice, from, to, (uint64_t)kind, idx };
	uint64_t h = ks_mix64(slice ^ ks_mix64(from + ((uint64_t)kind << 56)));
	int r = settle(f, h);

	return r <= 0 ? r : ks_sort_add(f->bad, rec);
}

int ks_fsck_step(struct ks_fsck *f)
{
	f->done++;
	if ((f->done & 1023) == 0 || f->pass == 3) {
		if (f->o->stopped && f->o->stopped(f->o->arg)) {
			f->out.stopped = true;
			return -ECANCELED;
		}
		if (f->o->progress)
			f->o->progress(f->o->arg, f->pass, f->done, f->total, false);
	}
	return 0;
}

int ks_fsck_sort(struct ks_fsck *f, struct ks_sort **s, unsigned int words)
{
	ks_sort_free(*s);
	*s = NULL;
	return ks_sort_new(s, words, 0, f->o->tmpdir);
}

/* ---- the passes ---- */

static int pass1(struct ks_fsck *f)
{
	int r = ks_fsck_names(f);

	if (r == 0)
		r = ks_fsck_find_lost_found(f);
	if (r == 0)
		r = ks_fsck_inodes(f);
	if (r == 0 && f->o->level == KS_FSCK_ALL)
		r = ks_fsck_next_inode(f);
	return r == 0 ? ks_fsck_tree(f) : r;
}

static int pass2(struct ks_fsck *f)
{
	uint64_t fixed;
	int r = ks_fsck_sort(f, &f->bad, BAD_WORDS);

	if (r == 0)
		r = ks_fsck_extents(f);
	fixed = f->out.fixed;
	if (r == 0)
		r = ks_fsck_slices(f);
	if (r == 0)
		r = ks_fsck_packs(f);
	/* Extents may have become shorter: what their files use is counted again. */
	if (r == 0 && f->out.fixed != fixed)
		r = ks_fsck_extents(f);
	return r;
}

static int pass3(struct ks_fsck *f)
{
	int r = ks_fsck_store(f);

	if (r == 0 && f->o->data == KS_FSCK_READ)
		r = ks_fsck_read(f);
	if (r == 0)
		r = ks_sort_finish(f->bad);
	/* Repairs may have given files other names. */
	if (r == 0 && f->out.fixed && ks_sort_count(f->bad))
		r = ks_fsck_names_build(f);
	return r == 0 ? ks_fsck_files(f) : r;
}

static int pass4(struct ks_fsck *f)
{
	return ks_fsck_counters(f);
}

static int run_pass(struct ks_fsck *f, int pass, int (*fn)(struct ks_fsck *f), uint64_t total)
{
	struct ks_fsck_result before = f->out;
	int r = 0;

	f->pass = pass;
	f->done = 0;
	f->total = total;
	if (f->o->progress)
		f->o->progress(f->o->arg, pass, 0, total, false);
	seen_clear(f);
	f->rehearsal = f->online && pass != 3;
	if (f->rehearsal)
		r = fn(f);
	if (r == 0 && f->rehearsal && f->seen.n) {
		f->rehearsal = false;
		f->out = before;
		f->done = 0;
		r = fn(f);
	} else if (r == 0 && !f->rehearsal) {
		r = fn(f);
	}
	f->rehearsal = false;
	if (r == 0 && f->o->progress)
		f->o->progress(f->o->arg, pass, f->done, total, true);
	return r;
}

static int start(struct ks_fsck *f)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter epoch = { .name = ks_fsck_str("epoch") };
	struct ks_rec_counter inodes = { .name = ks_fsck_str("inodes") };
	struct ks_read rd[] = { { .table = KS_T_COUNTER, .rec = &epoch },
				{ .table = KS_T_COUNTER, .rec = &inodes } };
	/* What a power cut took is no damage: it is taken back first, where something may be changed. */
	int r = f->o->level == KS_FSCK_CHECK ? 0 : ks_meta_bury(f->m->meta, false);

	if (r == 0)
		r = ks_engine_read(f->e, rd, 2, &a);
	ks_arena_clear(&a);
	f->epoch = rd[0].found && epoch.value > 0 ? (uint64_t)epoch.value : 1;
	f->total = rd[1].found && inodes.value > 0 ? (uint64_t)inodes.value : 0;
	/* Who is not there yet may come at any time; a repair has the volume for itself. */
	f->online = f->o->level == KS_FSCK_CHECK;
	return r;
}

int ks_fsck(struct ks_maint *m, const struct ks_fsck_opts *o, struct ks_fsck_result *out)
{
	struct ks_fsck f = {
		.m = m, .e = ks_meta_engine(m->meta), .o = o, .now_ns = ks_clock_real_ns()
	};
	uint64_t inodes;
	int r = start(&f);

	inodes = f.total;
	if (r == 0)
		r = run_pass(&f, 1, pass1, inodes);
	if (r == 0)
		r = run_pass(&f, 2, pass2, 0);
	if (r == 0)
		r = run_pass(&f, 3, pass3, f.out.blocks);
	if (r == 0)
		r = run_pass(&f, 4, pass4, 0);
	if (r == 0 && f.out.fixed)
		r = ks_meta_sync(m->meta);
	if (r == -ECANCELED && f.out.stopped)
		r = 0;
	seen_clear(&f);
	ks_sort_free(f.names);
	ks_sort_free(f.subdirs);
	ks_sort_free(f.tree);
	ks_sort_free(f.orphans);
	ks_sort_free(f.uses);
	ks_sort_free(f.packed);
	ks_sort_free(f.objects);
	ks_sort_free(f.pack_objects);
	ks_sort_free(f.bad);
	free(f.hours);
	*out = f.out;
	return r;
}
