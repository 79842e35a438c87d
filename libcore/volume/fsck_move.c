/* SPDX-License-Identifier: Apache-2.0 */
/* fsck_move.c: /.lost+found, and moving an inode there. */
#include "base/array.h"
#include "volume/fsck_internal.h"

static uint64_t name_hash(const struct ks_fsck *f, struct ks_bytes name)
{
	uint64_t h = ks_siphash(f->m->settings->hash_key, name.p, name.n) >> 1;

	return ks_max(h, (uint64_t)KS_DENTRY_HASH_MIN);
}

int ks_fsck_find_lost_found(struct ks_fsck *f)
{
	struct ks_attr a;
	int r = ks_meta_lookup(f->m->meta, KS_ROOT_INO, KS_FSCK_LOST_FOUND, &a);

	f->lost_found = r == 0 && S_ISDIR(a.mode) ? a.ino : 0;
	/* An entry that leads nowhere is found, and removed, later. */
	return r == -ENOENT || r == -EBADMSG ? 0 : r;
}

static int make_lost_found(struct ks_fsck *f)
{
	const struct ks_cred c = { 0 };
	struct ks_attr a;
	int r = ks_meta_mknod(f->m->meta, &c, KS_ROOT_INO, KS_FSCK_LOST_FOUND, S_IFDIR | 0700, 0,
			      NULL, &a);

	if (r < 0)
		return ks_fail_hint(r, "rename what is there", "making the directory /%s",
				    KS_FSCK_LOST_FOUND);
	f->lost_found = a.ino;
	return 0;
}

/* "#INO", and behind a dot the name it had. */
static void new_name(struct ks_fsck_move *mv)
{
	int n = snprintf(mv->name, sizeof(mv->name), "#%ju", (uintmax_t)mv->ino);
	size_t room = KS_NAME_MAX - (size_t)n - 1;

	if (!mv->n || mv->names[0].name.n == 0 ||
	    memchr(mv->names[0].name.p, '/', mv->names[0].name.n) ||
	    memchr(mv->names[0].name.p, 0, mv->names[0].name.n))
		return;
	room = ks_min(room, mv->names[0].name.n);
	mv->name[n] = '.';
	memcpy(mv->name + n + 1, mv->names[0].name.p, room);
	mv->name[(size_t)n + 1 + room] = '\0';
}

static int add_name(struct ks_fsck_move *mv, const struct ks_rec_dentry *d)
{
	if (ks_arena_room(&mv->a, &mv->names, mv->n, &mv->cap) < 0)
		return -ENOMEM;
	mv->names[mv->n++] = *d;
	return 0;
}

int ks_fsck_move_prepare(struct ks_fsck *f, uint64_t ino, bool lost_found, struct ks_fsck_move *mv)
{
	struct ks_sort_cur c;
	int r = 0;

	*mv = (struct ks_fsck_move){ .f = f, .ino = ino };
	if (!ks_fsck_may(f, KS_FSCK_R_LOSSY))
		return 0;
	if (lost_found && !f->lost_found)
		r = make_lost_found(f);
	ks_sort_begin(&c, f->names);
	if (r == 0)
		r = ks_sort_seek(&c, &ino, 1);
	while (r == 0 && c.rec && c.rec[NAME_INO] == ino) {
		struct ks_rec_dentry d;

		r = ks_fsck_entry(f, c.rec, &d, &mv->a);
		if (r == 0 && d.parent)
			r = add_name(mv, &d);
		if (r == 0)
			r = ks_sort_next(&c);
	}
	ks_sort_end(&c);
	new_name(mv);
	return r;
}

void ks_fsck_move_clear(struct ks_fsck_move *mv)
{
	ks_arena_clear(&mv->a);
}

static void touch_dir(struct ks_txn *t, uint64_t dir, int64_t now, int links)
{
	struct ks_rec_inode key = { .ino = dir };
	struct ks_upd u[] = { KS_FSCK_UPD(inode, mtime_ns, KS_UPD_SET, now),
			      KS_FSCK_UPD(inode, ctime_ns, KS_UPD_SET, now),
			      KS_FSCK_UPD(inode, change, KS_UPD_ADD, 1),
			      KS_FSCK_UPD(inode, nlink, KS_UPD_ADD, links) };

	ks_txn_update(t, KS_T_INODE, &key, u, links ? 4 : 3);
}

void ks_fsck_put_lost_name(struct ks_txn *t, struct ks_fsck_move *mv, uint32_t mode)
{
	struct ks_bytes name = ks_fsck_str(mv->name);
	struct ks_rec_dentry to = { .parent = mv->f->lost_found,
				    .hash = name_hash(mv->f, name),
				    .name = name,
				    .ino = mv->ino,
				    .type = (mode & S_IFMT) >> 12 };

	ks_txn_put(t, KS_T_DENTRY, &to);
	touch_dir(t, mv->f->lost_found, mv->f->now_ns, S_ISDIR(mode) ? 1 : 0);
}

int ks_fsck_move_body(struct ks_txn *t, void *arg)
{
	struct ks_fsck_move *mv = arg;
	struct ks_fsck *f = mv->f;
	struct ks_rec_inode n = { .ino = mv->ino };
	struct ks_rec_deleted del = { .ino = mv->ino };
	struct ks_read rd = { .table = KS_T_INODE, .rec = &n };
	bool dir;
	int r;

	if (mv->moved)
		return 0;
	r = ks_txn_read(t, &rd, 1);
	if (r < 0 || !rd.found)
		return r < 0 ? r : -ECANCELED;
	dir = S_ISDIR(n.mode);
	for (size_t i = 0; i < mv->n; i++) {
		ks_txn_del(t, KS_T_DENTRY, &mv->names[i]);
		/* What lies within itself is written as a whole below. */
		if (mv->names[i].parent == mv->ino)
			n.nlink -= dir && n.nlink > 2;
		else
			touch_dir(t, mv->names[i].parent, f->now_ns,
				  dir && !ks_fsck_is_hour(f, mv->names[i].parent) ? -1 : 0);
	}
	ks_fsck_put_lost_name(t, mv, n.mode);
	if (!dir || n.nlink < 2)
		n.nlink = dir ? 2 : 1;
	n.parent = f->lost_found;
	n.ctime_ns = f->now_ns;
	n.change++;
	ks_txn_put(t, KS_T_INODE, &n);
	ks_txn_del(t, KS_T_DELETED, &del);
	return 0;
}
