/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_counters.c: usage, the numbers given out next, the epoch; and claims of sessions that are not there. */
#include "volume/fsck_internal.h"

static int recount(struct ks_fsck *f, uint64_t *inodes)
{
	struct ks_walk w;
	int r;

	*inodes = 0;
	f->used_sum = 0;
	ks_walk_begin(&w, f->e, KS_T_INODE);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		const struct ks_rec_inode *n = w.rec;

		++*inodes;
		f->used_sum += S_ISREG(n->mode) ? n->used : 0;
		f->max_ino = ks_max(f->max_ino, n->ino);
		r = ks_fsck_step(f);
		if (r < 0)
			break;
	}
	ks_walk_end(&w);
	return r;
}

static int check_claims(struct ks_fsck *f)
{
	struct ks_walk sessions, claims;
	int r;

	ks_walk_begin(&sessions, f->e, KS_T_SESSION);
	ks_walk_begin(&claims, f->e, KS_T_CLAIM);
	while ((r = ks_walk_next(&claims)) == 0 && claims.rec) {
		const struct ks_rec_claim *c = claims.rec;
		struct ks_fsck_problem p = {
			.kind = "claim_without_session",
			.repair = KS_FSCK_R_SAFE,
			.ino = c->ino,
			.text = "is claimed by a session that does not exist"
		};
		struct ks_fsck_write w = { KS_FSCK_DEL, KS_T_CLAIM, c, 0, NULL };

		r = ks_walk_to(&sessions, c->session);
		if (r == 0 && ks_walk_key(&sessions) != c->session)
			r = ks_fsck_found_fix(f, &p, c->session, &w, 1);
		if (r < 0)
			break;
	}
	while (r == 0 && (r = ks_walk_next(&sessions)) == 0 && sessions.rec)
		;
	ks_walk_end(&sessions);
	ks_walk_end(&claims);
	if (r < 0)
		return r;
	ks_walk_begin(&sessions, f->e, KS_T_SESSION);
	while ((r = ks_walk_next(&sessions)) == 0 && sessions.rec) {
		const struct ks_rec_session *s = sessions.rec;

		f->max_session = ks_max(f->max_session, s->id);
		f->max_epoch = ks_max(f->max_epoch, s->epoch);
	}
	ks_walk_end(&sessions);
	return r;
}

static int deleted_epochs(struct ks_fsck *f)
{
	struct ks_walk w;
	int r;

	ks_walk_begin(&w, f->e, KS_T_DELETED);
	while ((r = ks_walk_next(&w)) == 0 && w.rec)
		f->max_epoch = ks_max(f->max_epoch, ((const struct ks_rec_deleted *)w.rec)->epoch);
	ks_walk_end(&w);
	return r;
}

struct wanted {
	const char *name;
	uint64_t should;
	bool at_least;  /* more is fine */
	int64_t before; /* beside others: what it was before the count; it must not have moved */
};

static int read_counter(struct ks_fsck *f, const char *name, int64_t *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter rec = { .name = ks_fsck_str(name) };
	struct ks_read rd = { .table = KS_T_COUNTER, .rec = &rec };
	int r = ks_engine_read(f->e, &rd, 1, &a);

	ks_arena_clear(&a);
	*out = rd.found ? rec.value : -1;
	return r;
}

static int check_counter(struct ks_fsck *f, const struct wanted *c)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter rec = { .name = ks_fsck_str(c->name) };
	struct ks_read rd = { .table = KS_T_COUNTER, .rec = &rec };
	char kind[64], text[160];
	struct ks_fsck_problem p = {
		.kind = kind, .repair = KS_FSCK_R_SAFE, .should = c->should, .text = text
	};
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_COUNTER, &rec, 0, NULL };
	int r = ks_engine_read(f->e, &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0)
		return r;
	if (rd.found && rec.value >= 0 &&
	    (c->at_least ? (uint64_t)rec.value >= c->should : (uint64_t)rec.value == c->should))
		return 0;
	if (f->online && !c->at_least && rd.found && rec.value != c->before) {
		f->out.unsettled++;
		return 0;
	}
	p.is = rd.found ? (uint64_t)rec.value : 0;
	snprintf(kind, sizeof(kind), "wrong_counter_%s", c->name);
	if (!rd.found)
		snprintf(text, sizeof(text), "counter %s is missing, should be %ju", c->name,
			 (uintmax_t)c->should);
	else
		snprintf(text, sizeof(text), "counter %s is %jd, should be %s%ju", c->name,
			 (intmax_t)rec.value, c->at_least ? "at least " : "", (uintmax_t)c->should);
	rec.value = (int64_t)c->should;
	return ks_fsck_found_fix(f, &p, 0, &w, 1);
}

/* The next number, where a batch of them begins. */
static uint64_t next_after(uint64_t max, uint64_t first)
{
	if (max < first)
		return first;
	return first + ks_round_up(max - first + 1, KS_FSCK_ID_BATCH);
}

int ks_fsck_next_inode(struct ks_fsck *f)
{
	const struct wanted w = { "next_inode", next_after(f->max_ino, KS_FSCK_FIRST_INO), true,
				  0 };

	return check_counter(f, &w);
}

int ks_fsck_counters(struct ks_fsck *f)
{
	uint64_t inodes = f->out.inodes;
	int64_t used_before = 0, inodes_before = 0;
	int r = read_counter(f, "used_bytes", &used_before);

	if (r == 0)
		r = read_counter(f, "inodes", &inodes_before);
	/* Others go on writing, and repairs have added and removed: then what pass 1 counted is old. */
	if (r == 0 && (f->out.fixed || f->online))
		r = recount(f, &inodes);

	if (r == 0)
		r = check_claims(f);
	if (r == 0)
		r = deleted_epochs(f);

	const struct wanted all[] = {
		{ "used_bytes", f->used_sum, false, used_before },
		{ "inodes", inodes, false, inodes_before },
		{ "next_inode", next_after(f->max_ino, KS_FSCK_FIRST_INO), true, 0 },
		{ "next_slice", next_after(f->max_slice, 1), true, 0 },
		{ "next_pack", next_after(f->max_pack, 1), true, 0 },
		{ "next_session", f->max_session + 1, true, 0 },
		{ "epoch", ks_max(f->max_epoch, UINT64_C(1)), true, 0 },
		{ "dirmove", 0, true, 0 },
	};

	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(all); i++)
		r = check_counter(f, &all[i]);
	return r == 0 ? ks_fsck_trash(f) : r;
}
