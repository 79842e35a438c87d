/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_names.c: the entries of all directories, in their order, beside the inodes: is the directory there, are name and hash possible. What leads to
 * the inodes is sorted by inode for fsck_inodes.c.
 */
#include "volume/fsck_internal.h"

/* A dentry walk with the directory of each entry. */
struct entries {
	struct ks_walk d, dirs;
};

/* @dir_ok: its directory is there; one that is in the trash itself is as good as gone. */
static int entries_next(struct entries *e, const struct ks_rec_dentry **d, bool *dir_ok)
{
	int r = ks_walk_next(&e->d);
	const struct ks_rec_inode *n;

	*d = e->d.rec;
	if (r < 0 || !*d)
		return r;
	r = ks_walk_to(&e->dirs, (*d)->parent);
	n = e->dirs.rec;
	*dir_ok = r == 0 && n && n->ino == (*d)->parent && S_ISDIR(n->mode) && !ks_is_trashed(n);
	return r;
}

static void entries_begin(struct entries *e, struct ks_fsck *f)
{
	ks_walk_begin(&e->d, f->e, KS_T_DENTRY);
	ks_walk_begin(&e->dirs, f->e, KS_T_INODE);
}

static void entries_end(struct entries *e)
{
	ks_walk_end(&e->d);
	ks_walk_end(&e->dirs);
}

static bool in_trash(const struct ks_fsck *f, const struct ks_rec_dentry *d)
{
	return d->parent == KS_TRASH_INO || ks_fsck_is_hour(f, d->parent);
}

/* A note in the trash is not a name. */
static bool is_name(const struct ks_fsck *f, const struct ks_rec_dentry *d)
{
	bool note = false;

	if (in_trash(f, d))
		KS_IGNORE(!ks_fsck_trash_entry(d, &note));
	return !note;
}

int ks_fsck_names_build(struct ks_fsck *f)
{
	struct entries e;
	const struct ks_rec_dentry *d;
	bool dir_ok;
	int r = ks_fsck_find_hours(f);

	if (r == 0)
		r = ks_fsck_sort(f, &f->names, NAME_WORDS);
	entries_begin(&e, f);
	while (r == 0 && (r = entries_next(&e, &d, &dir_ok)) == 0 && d) {
		const uint64_t rec[NAME_WORDS] = { d->ino, d->parent, d->hash, d->type };

		if (dir_ok && is_name(f, d))
			r = ks_sort_add(f->names, rec);
	}
	entries_end(&e);
	return r == 0 ? ks_sort_finish(f->names) : r;
}

static bool name_ok(struct ks_bytes n)
{
	const char *p = n.p;

	if (n.n == 0 || n.n > KS_NAME_MAX || memchr(p, '/', n.n) || memchr(p, 0, n.n))
		return false;
	return !(p[0] == '.' && (n.n == 1 || (n.n == 2 && p[1] == '.')));
}

/* Reports with the entry's own path; an inode's would be all its names. */
static int entry_found(struct ks_fsck *f, struct ks_fsck_problem *p, const struct ks_rec_dentry *d,
		       const struct ks_fsck_write *w, unsigned int n)
{
	struct ks_fsck_paths paths = { 0 };
	int r = f->rehearsal ? 0 : ks_fsck_entry_path(f, d, &paths);

	p->paths = paths.v;
	p->npaths = paths.n;
	if (r == 0)
		r = ks_fsck_found_fix(f, p, ks_mix64(d->parent) ^ d->hash, w, n);
	ks_fsck_paths_clear(&paths);
	return r;
}

/*
 * The directory is lost. It is made again, if it can have been there, and so everything in it keeps its name; it has its own if that is still there, and else
 * goes to /.lost+found. *made: it was, or would be. The entry of what cannot be a directory goes, and so does what an hour of the trash had.
 */
static int no_directory(struct ks_fsck *f, const struct ks_rec_dentry *d, bool *made)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode dir = { .ino = d->parent };
	struct ks_rec_inode it = { .ino = d->ino };
	struct ks_rec_counter next = { .name = ks_fsck_str("next_inode") };
	struct ks_read rd[] = { { .table = KS_T_INODE, .rec = &dir },
				{ .table = KS_T_COUNTER, .rec = &next },
				{ .table = KS_T_INODE, .rec = &it } };
	bool removed;
	struct ks_fsck_problem p = { .ino = d->ino,
				     .kind = "entry_without_directory",
				     .repair = KS_FSCK_R_LOSSY,
				     .text = "stands in a directory that is missing" };
	struct ks_fsck_write w = { KS_FSCK_DEL, KS_T_DENTRY, d, 0, NULL };
	int r = ks_engine_read(f->e, rd, 3, &a);

	ks_arena_clear(&a);
	if (r < 0)
		return r;
	removed = rd[2].found && it.nlink == 0;
	*made = !removed && !rd[0].found && rd[1].found && d->parent >= KS_FSCK_FIRST_INO &&
		next.value > 0 && d->parent < (uint64_t)next.value;
	if (*made) {
		dir = (struct ks_rec_inode){ .ino = d->parent,
					     .mode = S_IFDIR | 0700,
					     .nlink = 2,
					     .size = 4096,
					     .change = 1,
					     .atime_ns = f->now_ns,
					     .mtime_ns = f->now_ns,
					     .ctime_ns = f->now_ns,
					     .btime_ns = f->now_ns };
		w = (struct ks_fsck_write){ KS_FSCK_PUT, KS_T_INODE, &dir, 0, NULL };
	}
	return entry_found(f, &p, d, &w, 1);
}

static int check_entry(struct ks_fsck *f, const struct ks_rec_dentry *d)
{
	struct ks_fsck_problem p = { .ino = d->ino, .repair = KS_FSCK_R_LOSSY };
	struct ks_fsck_write del = { KS_FSCK_DEL, KS_T_DENTRY, d, 0, NULL };
	struct ks_rec_dentry right = *d;
	bool note;
	uint64_t h;
	int r;

	if (in_trash(f, d)) {
		p.kind = "bad_trash_entry";
		p.text = ks_fsck_trash_entry(d, &note);
		return p.text ? entry_found(f, &p, d, &del, 1) : 0;
	}
	if (!name_ok(d->name)) {
		p.kind = "bad_name";
		p.text = "is not a possible name";
		return entry_found(f, &p, d, &del, 1);
	}
	h = ks_siphash(f->m->settings->hash_key, d->name.p, d->name.n) >> 1;
	right.hash = ks_max(h, (uint64_t)KS_DENTRY_HASH_MIN);
	if (right.hash != d->hash) {
		struct ks_fsck_write w[] = { del, { KS_FSCK_PUT, KS_T_DENTRY, &right, 0, NULL } };
		struct ks_arena a = { 0 };
		struct ks_rec_dentry there = right;
		struct ks_read rd = { .table = KS_T_DENTRY, .rec = &there };

		r = ks_engine_read(f->e, &rd, 1, &a);
		ks_arena_clear(&a);
		if (r < 0)
			return r;
		p.kind = "wrong_hash";
		p.text = "cannot be found by its name (wrong hash)";
		p.repair = KS_FSCK_R_SAFE;
		if (rd.found && there.ino != d->ino) {
			/* The name has an owner: this one goes, and its inode, if that was all it had, to /.lost+found. */
			p.repair = KS_FSCK_R_LOSSY;
			return entry_found(f, &p, d, w, 1);
		}
		return entry_found(f, &p, d, w, 2);
	}
	return 0;
}

static int check_root(struct ks_fsck *f)
{
	struct ks_arena a = { 0 };
	struct ks_rec_inode root = { .ino = KS_ROOT_INO };
	struct ks_read rd = { .table = KS_T_INODE, .rec = &root };
	struct ks_fsck_problem p = { .kind = "root_missing",
				     .repair = KS_FSCK_R_LOSSY,
				     .text = "the root directory is missing" };
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_INODE, &root, 0, NULL };
	int r = ks_engine_read(f->e, &rd, 1, &a);

	ks_arena_clear(&a);
	if (r < 0 || (rd.found && S_ISDIR(root.mode)))
		return r;
	if (rd.found)
		p.text = "the root is not a directory";
	root = (struct ks_rec_inode){ .ino = KS_ROOT_INO,
				      .mode = S_IFDIR | 0755,
				      .nlink = 2,
				      .size = 4096,
				      .change = root.change + 1,
				      .atime_ns = f->now_ns,
				      .mtime_ns = f->now_ns,
				      .ctime_ns = f->now_ns,
				      .btime_ns = f->now_ns };
	return ks_fsck_found_fix(f, &p, 0, &w, 1);
}

int ks_fsck_names(struct ks_fsck *f)
{
	struct entries e;
	const struct ks_rec_dentry *d;
	uint64_t fixed;
	uint64_t made = 0; /* entries of one directory come together */
	bool dir_ok;
	int r = check_root(f);

	if (r == 0)
		r = ks_fsck_names_build(f);
	fixed = f->out.fixed;
	entries_begin(&e, f);
	while (r == 0 && (r = entries_next(&e, &d, &dir_ok)) == 0 && d) {
		uint64_t before = f->out.fixed;
		bool hour = d->parent == KS_TRASH_INO;

		f->out.entries++;
		if (!dir_ok && d->parent != made) {
			bool dir_made = false;

			r = no_directory(f, d, &dir_made);
			made = dir_made ? d->parent : 0;
			dir_ok = dir_made;
		}
		if (r == 0 && (dir_ok || made == d->parent))
			r = check_entry(f, d);
		/* What was an hour may be a directory like others now, and its entries come later. */
		if (r == 0 && hour && f->out.fixed != before)
			r = ks_fsck_find_hours(f);
		/* What was corrected comes by again. */
		if (r == 0)
			r = f->out.entries & 1023 ? 0 : ks_fsck_step(f);
	}
	entries_end(&e);
	if (r == 0 && f->out.fixed != fixed)
		r = ks_fsck_names_build(f);
	return r;
}
