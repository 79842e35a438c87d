/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_inodes.c: every inode beside the entries that lead to it, and beside what else bears its number: symlink targets, extended attributes, the list
 * of the deleted. Records without an inode come up in the same merge.
 */
#include "volume/fsck_internal.h"

struct merge {
	struct ks_fsck *f;
	struct ks_walk inodes, deleted, links, xattrs;
	struct ks_sort_cur names;
	/* Of the inode in turn. */
	struct ks_rec_inode n;
	bool has_deleted;
	uint64_t nnames;
	bool trashed;    /* its name is in the trash */
	uint64_t parent; /* of its first name, or of the one that is right */
};

static int fix_inode(struct merge *m, struct ks_fsck_problem *p, const struct ks_upd *u,
		     unsigned int n)
{
	struct ks_fsck_write w = { KS_FSCK_UPDATE, KS_T_INODE, &m->n, n, u };

	p->ino = m->n.ino;
	return ks_fsck_found_fix(m->f, p, 0, &w, 1);
}

static int stray(struct merge *m, const char *kind, const char *text, uint64_t ino,
		 struct ks_fsck_write w)
{
	struct ks_fsck_problem p = {
		.kind = kind, .repair = KS_FSCK_R_SAFE, .ino = ino, .text = text
	};

	return ks_fsck_found_fix(m->f, &p, 0, &w, 1);
}

/* ---- names ---- */

/* Deletes the entry, or, with @type, corrects what it says. */
static int bad_name_rec(struct merge *m, struct ks_fsck_problem *p, const uint64_t *rec,
			bool retype, uint32_t type)
{
	struct ks_fsck_paths paths = { 0 };
	struct ks_arena a = { 0 };
	struct ks_rec_dentry d = { 0 };
	struct ks_upd u = KS_FSCK_UPD(dentry, type, KS_UPD_SET, type);
	struct ks_fsck_write w = { retype ? KS_FSCK_UPDATE : KS_FSCK_DEL, KS_T_DENTRY, &d,
				   retype ? 1 : 0, &u };
	int r = ks_fsck_entry(m->f, rec, &d, &a);

	if (r == 0 && d.parent) {
		if (!m->f->rehearsal)
			r = ks_fsck_entry_path(m->f, &d, &paths);
		p->ino = d.ino;
		p->paths = paths.v;
		p->npaths = paths.n;
		if (r == 0)
			r = ks_fsck_found_fix(m->f, p, ks_mix64(d.parent) ^ d.hash, &w, 1);
	}
	ks_fsck_paths_clear(&paths);
	ks_arena_clear(&a);
	return r;
}

static int dangling(struct merge *m)
{
	struct ks_fsck_problem p = { .kind = "dangling_entry",
				     .repair = KS_FSCK_R_LOSSY,
				     .text = "leads to an inode that is missing" };

	return bad_name_rec(m, &p, m->names.rec, false, 0);
}

/* The second name of a directory, or a name of the root. */
static int extra_dir_name(struct merge *m, const uint64_t *rec)
{
	struct ks_fsck_problem p = {
		.kind = "extra_directory_entry",
		.repair = KS_FSCK_R_LOSSY,
		.text = "is another name of a directory that has one already"
	};

	return bad_name_rec(m, &p, rec, false, 0);
}

static int alive_in_trash(struct merge *m, const uint64_t *rec)
{
	struct ks_fsck_problem p = { .kind = "trash_entry_of_live_file",
				     .repair = KS_FSCK_R_SAFE,
				     .text = "is in the trash, and has another name as well" };

	return bad_name_rec(m, &p, rec, false, 0);
}

/* The names of m->n: counted, their types compared; of a directory's one is kept. */
static int take_names(struct merge *m)
{
	const struct ks_rec_inode *n = &m->n;
	bool dir = S_ISDIR(n->mode);
	bool kept = false;
	struct ks_sort_cur look;
	uint64_t key[2] = { n->ino, n->parent };
	uint64_t trash[NAME_WORDS] = { 0 }; /* a file's name there */
	bool pointed = false; /* one of a directory's names is where its parent pointer says */
	int r = 0;

	m->nnames = 0;
	m->parent = 0;
	m->trashed = false;
	if (dir && m->names.rec && m->names.rec[NAME_INO] == n->ino) {
		ks_sort_begin(&look, m->f->names);
		r = ks_sort_seek(&look, key, 2);
		pointed = r == 0 && look.rec && look.rec[NAME_INO] == n->ino &&
			  look.rec[NAME_PARENT] == n->parent;
		ks_sort_end(&look);
	}
	while (r == 0 && m->names.rec && m->names.rec[NAME_INO] == n->ino) {
		const uint64_t *rec = m->names.rec;
		struct ks_fsck_problem p = { .kind = "wrong_entry_type",
					     .repair = KS_FSCK_R_SAFE,
					     .text = "says it is of another kind than its inode" };
		bool hour = ks_fsck_is_hour(m->f, rec[NAME_PARENT]);
		bool extra = dir && (n->ino == KS_ROOT_INO || n->ino == KS_TRASH_INO || kept ||
				     (pointed && rec[NAME_PARENT] != n->parent));

		if (extra) {
			r = extra_dir_name(m, rec);
		} else {
			kept = true;
			if (hour)
				memcpy(trash, rec, sizeof(trash));
			else if (m->nnames++ == 0)
				m->parent = rec[NAME_PARENT];
			if (rec[NAME_TYPE] != (n->mode & S_IFMT) >> 12)
				r = bad_name_rec(m, &p, rec, true, (n->mode & S_IFMT) >> 12);
		}
		if (r == 0)
			r = ks_sort_next(&m->names);
	}
	if (r < 0 || !trash[NAME_INO])
		return r;
	if (m->nnames)
		return alive_in_trash(m, trash);
	m->trashed = true;
	m->nnames = 1;
	m->parent = trash[NAME_PARENT];
	return 0;
}

/* ---- links and parents ---- */

static int orphan(struct merge *m)
{
	return ks_sort_add(m->f->orphans, &m->n.ino);
}

static int nameless(struct merge *m)
{
	struct ks_rec_deleted del = { .ino = m->n.ino,
				      .time_ns = m->f->now_ns,
				      .epoch = m->f->epoch };
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_DELETED, &del, 0, NULL };

	if (m->n.nlink > 0 || ks_fsck_is_hour(m->f, m->n.parent))
		return orphan(m);
	if (m->has_deleted)
		return 0;
	return stray(m, "unlinked_leftover",
		     "has no name and is not on the list of what is to be freed", m->n.ino, w);
}

static int check_file_links(struct merge *m)
{
	const struct ks_rec_inode *n = &m->n;
	struct ks_rec_deleted del = { .ino = n->ino };
	uint64_t should = m->nnames == 1 ? m->parent : 0;
	uint64_t links = m->trashed ? 0 : m->nnames;
	char text[120];
	int r = 0;

	if (m->nnames == 0)
		return nameless(m);
	if (m->has_deleted)
		r = stray(m, "deleted_but_linked", "is on the list of what is to be freed", n->ino,
			  (struct ks_fsck_write){ KS_FSCK_DEL, KS_T_DELETED, &del, 0, NULL });
	if (r == 0 && n->nlink != links) {
		struct ks_fsck_problem p = { .kind = "wrong_nlink",
					     .repair = KS_FSCK_R_SAFE,
					     .is = n->nlink,
					     .should = links,
					     .text = text };
		struct ks_upd u = KS_FSCK_UPD(inode, nlink, KS_UPD_SET, links);

		snprintf(text, sizeof(text), "link count is %u, should be %ju", n->nlink,
			 (uintmax_t)links);
		r = fix_inode(m, &p, &u, 1);
	}
	/* A file that once had several names does not know its parent. */
	if (r == 0 && n->parent != should && (n->parent != 0 || m->trashed)) {
		struct ks_fsck_problem p = { .kind = "wrong_parent",
					     .repair = KS_FSCK_R_SAFE,
					     .is = n->parent,
					     .should = should,
					     .text = text };
		struct ks_upd u = KS_FSCK_UPD(inode, parent, KS_UPD_SET, should);

		snprintf(text, sizeof(text), "parent is inode %ju, should be %ju",
			 (uintmax_t)n->parent, (uintmax_t)should);
		r = fix_inode(m, &p, &u, 1);
	}
	return r;
}

static int check_dir_links(struct merge *m)
{
	const struct ks_rec_inode *n = &m->n;
	struct ks_rec_deleted del = { .ino = n->ino };
	uint64_t rec[2] = { n->ino, m->parent };
	bool root = n->ino == KS_ROOT_INO || n->ino == KS_TRASH_INO;
	char text[120];
	int r = 0;

	m->f->out.directories++;
	if (m->has_deleted)
		r = stray(m, "deleted_but_linked", "is on the list of what is to be freed", n->ino,
			  (struct ks_fsck_write){ KS_FSCK_DEL, KS_T_DELETED, &del, 0, NULL });
	if (r == 0 && !root && m->nnames == 0)
		r = orphan(m);
	if (r == 0 && m->nnames && !m->trashed)
		r = ks_sort_add(m->f->subdirs, &m->parent);
	if (r == 0 && !root)
		r = ks_sort_add(m->f->tree, rec);
	if (r == 0 && n->parent != m->parent && (m->nnames || root)) {
		struct ks_fsck_problem p = { .kind = "wrong_parent",
					     .repair = KS_FSCK_R_SAFE,
					     .is = n->parent,
					     .should = m->parent,
					     .text = text };
		struct ks_upd u = KS_FSCK_UPD(inode, parent, KS_UPD_SET, m->parent);

		snprintf(text, sizeof(text), "parent is inode %ju, should be %ju",
			 (uintmax_t)n->parent, (uintmax_t)m->parent);
		r = fix_inode(m, &p, &u, 1);
	}
	return r;
}

/* ---- symlinks, attributes ---- */

static int drop_symlink_body(struct ks_txn *t, void *arg)
{
	struct ks_fsck_move *mv = arg;
	struct ks_rec_inode n = { .ino = mv->ino };
	struct ks_rec_symlink link = { .ino = mv->ino };
	struct ks_rec_xattr xattr = { .ino = mv->ino };

	for (size_t i = 0; i < mv->n; i++)
		ks_txn_del(t, KS_T_DENTRY, &mv->names[i]);
	ks_txn_del(t, KS_T_INODE, &n);
	ks_txn_del(t, KS_T_SYMLINK, &link);
	ks_txn_del_prefix(t, KS_T_XATTR, &xattr, 1);
	ks_fsck_count(t, "inodes", -1);
	return 0;
}

/* Nothing of it is left that could be kept. */
static int lost_target(struct merge *m)
{
	struct ks_fsck_problem p = { .kind = "symlink_without_target",
				     .repair = KS_FSCK_R_LOSSY,
				     .ino = m->n.ino,
				     .text = "symbolic link whose target is lost" };
	struct ks_fsck_move mv;
	int r = ks_fsck_move_prepare(m->f, m->n.ino, false, &mv);

	if (r == 0)
		r = ks_fsck_found(m->f, &p, 0, drop_symlink_body, &mv);
	ks_fsck_move_clear(&mv);
	return r;
}

static int check_symlink(struct merge *m, const struct ks_rec_symlink *s)
{
	const struct ks_rec_inode *n = &m->n;

	if (!S_ISLNK(n->mode)) {
		if (!s)
			return 0;
		return stray(m, "stray_symlink_target", "is no symbolic link and has a target",
			     n->ino,
			     (struct ks_fsck_write){ KS_FSCK_DEL, KS_T_SYMLINK, s, 0, NULL });
	}
	if (!s || s->target.n == 0 || s->target.n > KS_SYMLINK_MAX ||
	    memchr(s->target.p, 0, s->target.n))
		return lost_target(m);
	if (n->size != s->target.n) {
		struct ks_fsck_problem p = {
			.kind = "wrong_size",
			.repair = KS_FSCK_R_SAFE,
			.is = n->size,
			.should = s->target.n,
			.text = "symbolic link whose size is not its target's"
		};
		struct ks_upd u = KS_FSCK_UPD(inode, size, KS_UPD_SET, s->target.n);

		return fix_inode(m, &p, &u, 1);
	}
	return 0;
}

static int take_xattrs(struct merge *m, bool exists)
{
	const struct ks_rec_inode *n = &m->n;
	uint32_t flags = n->flags;
	uint64_t ino = n->ino;
	struct ks_rec_xattr prefix = { .ino = ino };
	bool any = false;
	int r = 0;

	while (r == 0 && m->xattrs.rec && ks_walk_key(&m->xattrs) == ino) {
		const struct ks_rec_xattr *x = m->xattrs.rec;
		static const char acl[] = "system.posix_acl_";

		any = true;
		flags |= KS_INODE_HAS_XATTR;
		if (x->name.n >= sizeof(acl) - 1 && memcmp(x->name.p, acl, sizeof(acl) - 1) == 0)
			flags |= KS_INODE_HAS_ACL;
		r = ks_walk_next(&m->xattrs);
	}
	if (r < 0 || !any)
		return r;
	if (!exists)
		return stray(
			m, "xattr_without_inode", "extended attributes of an inode that is missing",
			ino,
			(struct ks_fsck_write){ KS_FSCK_DEL_PREFIX, KS_T_XATTR, &prefix, 1, NULL });
	if (flags != n->flags) {
		struct ks_fsck_problem p = {
			.kind = "wrong_flags",
			.repair = KS_FSCK_R_SAFE,
			.is = n->flags,
			.should = flags,
			.text = "has extended attributes and does not say so"
		};
		struct ks_upd u = KS_FSCK_UPD(inode, flags, KS_UPD_SET, flags);

		return fix_inode(m, &p, &u, 1);
	}
	return 0;
}

/* ---- the merge ---- */

static int check_mode(struct merge *m)
{
	uint32_t type = m->n.mode & S_IFMT;
	uint32_t as_file = S_IFREG | (m->n.mode & 07777);
	struct ks_fsck_problem p = { .kind = "bad_mode",
				     .repair = KS_FSCK_R_LOSSY,
				     .is = m->n.mode,
				     .should = as_file,
				     .text = "is of a kind that does not exist" };
	struct ks_upd u = KS_FSCK_UPD(inode, mode, KS_UPD_SET, as_file);
	int r;

	if ((m->n.mode & ~(uint32_t)(S_IFMT | 07777)) == 0 &&
	    (type == S_IFREG || type == S_IFDIR || type == S_IFLNK || type == S_IFCHR ||
	     type == S_IFBLK || type == S_IFIFO || type == S_IFSOCK))
		return 0;
	r = fix_inode(m, &p, &u, 1);
	m->n.mode = as_file;
	return r;
}

static int one_inode(struct merge *m)
{
	struct ks_fsck *f = m->f;
	const struct ks_rec_symlink *s;
	uint64_t ino;
	int r;

	m->n = *(const struct ks_rec_inode *)m->inodes.rec;
	ino = m->n.ino;
	m->has_deleted = ks_walk_key(&m->deleted) == ino;
	f->out.inodes++;
	f->max_ino = ks_max(f->max_ino, ino);
	r = check_mode(m);
	if (r == 0)
		r = take_names(m);
	if (r == 0)
		r = S_ISDIR(m->n.mode) ? check_dir_links(m) : check_file_links(m);
	s = ks_walk_key(&m->links) == ino ? m->links.rec : NULL;
	if (r == 0)
		r = check_symlink(m, s);
	if (r == 0)
		r = take_xattrs(m, true);
	if (r == 0 && s)
		r = ks_walk_next(&m->links);
	if (r == 0 && m->has_deleted)
		r = ks_walk_next(&m->deleted);
	if (r == 0)
		r = ks_walk_next(&m->inodes);
	return r == 0 ? ks_fsck_step(f) : r;
}

/* Something bears a number that no inode has. */
static int without_inode(struct merge *m, uint64_t ino)
{
	int r = 0;

	while (r == 0 && m->names.rec && m->names.rec[NAME_INO] == ino) {
		r = dangling(m);
		if (r == 0)
			r = ks_sort_next(&m->names);
	}
	if (r == 0 && ks_walk_key(&m->deleted) == ino) {
		r = stray(m, "deleted_without_inode",
			  "on the list of what is to be freed, and missing", ino,
			  (struct ks_fsck_write){ KS_FSCK_DEL, KS_T_DELETED, m->deleted.rec, 0,
						  NULL });
		if (r == 0)
			r = ks_walk_next(&m->deleted);
	}
	if (r == 0 && ks_walk_key(&m->links) == ino) {
		r = stray(
			m, "symlink_without_inode", "target of a symbolic link that is missing",
			ino,
			(struct ks_fsck_write){ KS_FSCK_DEL, KS_T_SYMLINK, m->links.rec, 0, NULL });
		if (r == 0)
			r = ks_walk_next(&m->links);
	}
	m->n = (struct ks_rec_inode){ .ino = ino };
	return r == 0 ? take_xattrs(m, false) : r;
}

static int run(struct merge *m)
{
	int r = ks_walk_next(&m->inodes);

	if (r == 0)
		r = ks_walk_next(&m->deleted);
	if (r == 0)
		r = ks_walk_next(&m->links);
	if (r == 0)
		r = ks_walk_next(&m->xattrs);
	if (r == 0)
		r = ks_sort_next(&m->names);
	while (r == 0) {
		uint64_t ino = ks_walk_key(&m->inodes);
		uint64_t rest = ks_min(ks_walk_key(&m->deleted), ks_walk_key(&m->links));
		uint64_t xattr = ks_walk_key(&m->xattrs);

		rest = ks_min(rest, xattr);
		if (m->names.rec)
			rest = ks_min(rest, m->names.rec[NAME_INO]);
		if (ino == UINT64_MAX && rest == UINT64_MAX)
			break;
		r = rest < ino ? without_inode(m, rest) : one_inode(m);
	}
	return r;
}

int ks_fsck_inodes(struct ks_fsck *f)
{
	struct merge m = { .f = f };
	int r = ks_fsck_sort(f, &f->subdirs, 1);

	if (r == 0)
		r = ks_fsck_sort(f, &f->tree, 2);
	if (r == 0)
		r = ks_fsck_sort(f, &f->orphans, 1);
	if (r < 0)
		return r;
	ks_walk_begin(&m.inodes, f->e, KS_T_INODE);
	ks_walk_begin(&m.deleted, f->e, KS_T_DELETED);
	ks_walk_begin(&m.links, f->e, KS_T_SYMLINK);
	ks_walk_begin(&m.xattrs, f->e, KS_T_XATTR);
	ks_sort_begin(&m.names, f->names);
	r = run(&m);
	ks_walk_end(&m.inodes);
	ks_walk_end(&m.deleted);
	ks_walk_end(&m.links);
	ks_walk_end(&m.xattrs);
	ks_sort_end(&m.names);
	if (r == 0)
		r = ks_sort_finish(f->subdirs);
	if (r == 0)
		r = ks_sort_finish(f->tree);
	return r == 0 ? ks_sort_finish(f->orphans) : r;
}
