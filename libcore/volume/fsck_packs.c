/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_packs.c: the packs' records beside the slices that lie in them. */
#include "volume/fsck_internal.h"

/* What the slices of one pack add up to. */
struct sum {
	uint64_t id, live, slices, end;
};

static int check_overlap(struct ks_fsck *f, const uint64_t *rec)
{
	uint32_t sums[KS_PACK_PAGES_MAX];
	int r;

	/* Of two slices that share bytes at most one is what lies there. */
	r = ks_fsck_pack_header(f->m->store, rec[PS_PACK], rec[PS_OFF], rec[PS_SLICE],
				(uint32_t)rec[PS_LEN], sums);
	return r > 0 ? ks_fsck_bad(f, rec[PS_SLICE], 0, rec[PS_LEN], KS_BAD_SWAPPED, 0) : r;
}

static int take_pack(struct ks_fsck *f, struct ks_sort_cur *c, struct sum *s)
{
	uint64_t before[PS_WORDS] = { 0 };
	int r = 0;

	s->live = s->slices = s->end = 0;
	while (r == 0 && c->rec && c->rec[PS_PACK] == s->id) {
		bool freed = c->rec[PS_FREED];

		s->live += c->rec[PS_LEN];
		s->slices++;
		if (!freed) {
			if (before[PS_SLICE] && before[PS_OFF] + before[PS_LEN] > c->rec[PS_OFF]) {
				r = check_overlap(f, before);
				if (r == 0)
					r = check_overlap(f, c->rec);
			}
			memcpy(before, c->rec, sizeof(before));
			s->end = ks_max(s->end, c->rec[PS_OFF] + c->rec[PS_LEN]);
		}
		if (r == 0)
			r = ks_sort_next(c);
	}
	return r;
}

static int check_pack(struct ks_fsck *f, const struct sum *s, const struct ks_rec_pack *p)
{
	struct ks_rec_pack should = { .id = s->id,
				      .session = p ? p->session : 0,
				      .size = ks_max(s->end, p ? p->size : 0),
				      .live = s->live,
				      .slices = s->slices };
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_PACK, &should, 0, NULL };
	char text[160];
	struct ks_fsck_problem problem = { .repair = KS_FSCK_R_SAFE,
					   .pack = s->id,
					   .should = s->live,
					   .is = p ? p->live : 0,
					   .text = text };

	f->max_pack = ks_max(f->max_pack, s->id);
	if (p)
		f->max_session = ks_max(f->max_session, p->session);
	if (!p) {
		problem.kind = "missing_pack_record";
		snprintf(text, sizeof(text), "pack %ju has %ju slices and no record",
			 (uintmax_t)s->id, (uintmax_t)s->slices);
	} else if (p->live != s->live || p->slices != s->slices || p->size < s->end) {
		problem.kind = "wrong_pack_counts";
		snprintf(text, sizeof(text),
			 "pack %ju says %ju bytes in %ju slices are alive, should be %ju in %ju",
			 (uintmax_t)s->id, (uintmax_t)p->live, (uintmax_t)p->slices,
			 (uintmax_t)s->live, (uintmax_t)s->slices);
	} else {
		return 0;
	}
	return ks_fsck_found_fix(f, &problem, s->slices, &w, 1);
}

int ks_fsck_packs(struct ks_fsck *f)
{
	struct ks_walk w;
	struct ks_sort_cur c;
	int r;

	ks_walk_begin(&w, f->e, KS_T_PACK);
	ks_sort_begin(&c, f->packed);
	r = ks_walk_next(&w);
	if (r == 0)
		r = ks_sort_next(&c);
	while (r == 0 && (w.rec || c.rec)) {
		struct sum s = { .id = ks_min(ks_walk_key(&w),
					      c.rec ? c.rec[PS_PACK] : UINT64_MAX) };
		const struct ks_rec_pack *p = ks_walk_key(&w) == s.id ? w.rec : NULL;

		f->out.packs++;
		r = take_pack(f, &c, &s);
		if (r == 0)
			r = check_pack(f, &s, p);
		if (r == 0 && p)
			r = ks_walk_next(&w);
	}
	ks_walk_end(&w);
	ks_sort_end(&c);
	return r;
}
