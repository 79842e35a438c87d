/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_trash.c: what lies in the trash. Its entries are names like others for the passes, but for three things: they have hashes of their own, an inode there has no
 * links, and the hours' directories hold sums.
 */
#include "base/array.h"
#include "volume/fsck_internal.h"

static int hour_order(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int add_hour(void *arg, const struct ks_trash_hour *h)
{
	struct ks_fsck *f = arg;

	if (ks_array_room(&f->hours, f->nhours, &f->caphours) < 0)
		return -ENOMEM;
	f->hours[f->nhours++] = h->dir;
	return 0;
}

int ks_fsck_find_hours(struct ks_fsck *f)
{
	int r;

	f->nhours = 0;
	r = ks_meta_trash_hours(f->m->meta, add_hour, f);
	if (f->nhours)
		qsort(f->hours, f->nhours, sizeof(*f->hours), hour_order);
	return r;
}

bool ks_fsck_is_hour(const struct ks_fsck *f, uint64_t dir)
{
	return f->nhours && bsearch(&dir, f->hours, f->nhours, sizeof(dir), hour_order);
}

const char *ks_fsck_trash_entry(const struct ks_rec_dentry *d, bool *note)
{
	struct ks_bytes orig;
	ks_ino_t parent;
	ks_ino_t ino;
	uint64_t hour;
	int r;

	*note = false;
	if (d->parent == KS_TRASH_INO) {
		if (!ks_trash_hour_parse(d->name.p, d->name.n, &hour) || hour != d->hash)
			return "is in the trash and is not an hour of it";
		return NULL;
	}
	r = d->name.n > KS_TRASH_NAME_MAX ? -EINVAL
					  : ks_trash_name_parse(d->name, &parent, &ino, &orig);
	*note = r == 1;
	if (r < 0 || (r == 0 &&
		      (ino != d->hash || memchr(orig.p, '/', orig.n) || memchr(orig.p, 0, orig.n))))
		return "is in the trash and does not say where it was";
	return NULL;
}

/* ---- sums ---- */

struct sum {
	uint64_t entries, bytes;
};

static int sum_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_dentry *d = rec;
	struct sum *s = arg;

	if (!node || !node->ino || !ks_is_trashed(node) || node->parent != d->parent)
		return 0;
	s->entries++;
	s->bytes += node->used;
	return 0;
}

static int check_hour(struct ks_fsck *f, uint64_t dir)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode n = { .ino = dir };
	struct ks_rec_dentry from = { .parent = dir };
	struct sum sum = { 0 };
	struct ks_read rd = { .table = KS_T_INODE, .rec = &n };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_FOLLOW,
			     .from = &from,
			     .nprefix = 1,
			     .fn = sum_one,
			     .arg = &sum };
	/* In one snapshot: it need not stand still. */
	int r = ks_engine_fetch(f->e, &rd, 1, &s, 1, &a);
	char text[160];
	struct ks_fsck_problem p = {
		.kind = "wrong_trash_sum", .repair = KS_FSCK_R_SAFE, .ino = dir, .text = text
	};
	struct ks_upd u[2];
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, &n, 2, u };

	ks_arena_clear(&a);
	if (r < 0 || !rd.found || (n.size == sum.entries && n.used == sum.bytes))
		return r;
	u[0] = KS_FSCK_UPD(inode, size, KS_UPD_SET, sum.entries);
	u[1] = KS_FSCK_UPD(inode, used, KS_UPD_SET, sum.bytes);
	p.is = n.used;
	p.should = sum.bytes;
	snprintf(text, sizeof(text),
		 "an hour of the trash says %ju entries and %ju bytes, should be %ju and %ju",
		 (uintmax_t)n.size, (uintmax_t)n.used, (uintmax_t)sum.entries,
		 (uintmax_t)sum.bytes);
	return ks_fsck_found_fix(f, &p, 0, &w, 1);
}

int ks_fsck_trash(struct ks_fsck *f)
{
	int r = ks_fsck_find_hours(f);

	for (size_t i = 0; r == 0 && i < f->nhours; i++)
		r = check_hour(f, f->hours[i]);
	return r;
}
