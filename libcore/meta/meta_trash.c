/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_trash.c: what has lost its last name is kept for a while. doc/format.md describes what is stored.
 *
 * Entries lie flat in one directory for each hour, below the reserved inode KS_TRASH_INO. Removing something moves its entry there in the same transaction: one more
 * point read, and one more update. The hour's directory is made by the transaction that first needs it, and its number is remembered in struct ks_meta. What is
 * in it, entries and bytes, is added up in its own inode, so that nobody walks the trash to know how much it holds.
 *
 * An inode in the trash has no links, as every program may see that has it open, and knows its directory: by this it is told from one without a name. A file keeps its
 * number. A directory gets a new one: who still has the old one open must find that it is gone, and cannot make entries in it.
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define HOUR_NS (3600 * KS_NS_PER_S)
#define PURGE_MAX 512u
#define LIST_MAX 512u
#define NOTE                                                                                       \
	"restored" /* stands where a directory was that has been put back; leads to its new number */

static struct ks_rec_dentry hour_key(uint64_t hour, const char name[KS_TRASH_HOUR_STR])
{
	return (struct ks_rec_dentry){ .parent = KS_TRASH_INO,
				       .hash = hour,
				       .name = ks_bytes_str(name) };
}

void ks_trash_hour_format(uint64_t hour, char out[KS_TRASH_HOUR_STR])
{
	char text[KS_TIME_STR];

	ks_time_format((int64_t)hour * HOUR_NS, text);
	memcpy(out, text, KS_TRASH_HOUR_STR - 1);
	out[10] = '-';
	out[KS_TRASH_HOUR_STR - 1] = '\0';
}

/* A decimal number and '-': how long they are; 0: it is none. */
static size_t parse_number(const char *p, size_t n, uint64_t *out)
{
	uint64_t v = 0;
	size_t i = 0;

	for (; i < n && p[i] >= '0' && p[i] <= '9'; i++) {
		if (__builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(p[i] - '0'), &v))
			return 0;
	}
	if (i == 0 || i == n || p[i] != '-' || (p[0] == '0' && i > 1))
		return 0;
	*out = v;
	return i + 1;
}

int ks_trash_name_parse(struct ks_bytes name, ks_ino_t *parent, ks_ino_t *ino,
			struct ks_bytes *orig)
{
	const char *p = name.p;
	size_t a, b;

	*parent = *ino = 0;
	if (name.n == strlen(NOTE) && memcmp(p, NOTE, name.n) == 0)
		return 1;
	a = parse_number(p, name.n, parent);
	b = a ? parse_number(p + a, name.n - a, ino) : 0;
	if (!b || name.n == a + b || name.n - a - b > KS_NAME_MAX)
		return -EINVAL;
	*orig = (struct ks_bytes){ .p = p + a + b, .n = name.n - a - b };
	return 0;
}

bool ks_trash_hour_parse(const char *name, size_t n, uint64_t *hour)
{
	static const int days[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	char text[KS_TRASH_HOUR_STR], again[KS_TRASH_HOUR_STR];
	int64_t y, m, d, h, leap;

	if (n != KS_TRASH_HOUR_STR - 1)
		return false;
	memcpy(text, name, n);
	text[n] = '\0';
	for (size_t i = 0; i < n; i++) {
		if (i == 4 || i == 7 || i == 10 ? text[i] != '-' : text[i] < '0' || text[i] > '9')
			return false;
	}
	y = strtol(text, NULL, 10);
	m = strtol(text + 5, NULL, 10);
	d = strtol(text + 8, NULL, 10);
	h = strtol(text + 11, NULL, 10);
	if (y < 1970 || y > 2261 || m < 1 || m > 12 || d < 1 || h > 23)
		return false;
	/* Leap days up to the end of this February, or of the last one. */
	leap = m > 2 ? y : y - 1;
	leap = leap / 4 - leap / 100 + leap / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
	*hour = (uint64_t)(((y - 1970) * 365 + leap + days[m - 1] + d - 1) * 24 + h);
	/* The 31st of April would be another day. */
	ks_trash_hour_format(*hour, again);
	return strcmp(text, again) == 0;
}

void ks_meta_no_trash(struct ks_meta *m)
{
	m->no_trash = true;
}

/* ---- putting in ---- */

int ks_trash_begin(struct ks_meta *m, int64_t now, bool dirs, struct ks_trash *x)
{
	int r = 0;

	x->on = __atomic_load_n(&m->set.trash_ns, __ATOMIC_RELAXED) > 0 && !m->no_trash;
	if (!x->on)
		return 0;
	x->hour = (uint64_t)ks_max(now, (int64_t)0) / HOUR_NS;
	ks_mutex_lock(&m->mu);
	x->dir = m->trash_hour == x->hour ? m->trash_dir : 0;
	ks_mutex_unlock(&m->mu);
	if (!x->dir && !x->spare)
		r = ks_meta_new_id(m, KS_ID_INO, &x->spare);
	if (r == 0 && dirs && !x->id)
		r = ks_meta_new_id(m, KS_ID_INO, &x->id);
	return r;
}

unsigned int ks_trash_reads(struct ks_trash *x, struct ks_read *rd)
{
	x->entries = x->bytes = 0;
	x->id_used = false;
	if (!x->on)
		return 0;
	x->rd = rd;
	if (x->dir) {
		rd[0] = ks_read_inode(&x->node, x->dir, KS_READ_WEAK);
		return 1;
	}
	ks_trash_hour_format(x->hour, x->name);
	x->node = (struct ks_rec_inode){ 0 };
	x->d = hour_key(x->hour, x->name);
	rd[0] = (struct ks_read){
		.table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &x->d, .inode = &x->node
	};
	rd[1] = ks_read_inode(&x->root, KS_TRASH_INO, KS_READ_WEAK);
	return 2;
}

int ks_trash_ready(struct ks_trash *x)
{
	if (!x->on)
		return 0;
	x->make = false;
	if (x->dir) {
		x->at = x->dir;
		return x->rd[0].found ? 0 : -ESTALE;
	}
	/* An entry that leads nowhere is damage that need not stop anybody. */
	x->make = !x->rd[0].found || !x->node.ino;
	x->at = x->make ? x->spare : x->node.ino;
	return 0;
}

static void put_entry(struct ks_txn *t, struct ks_trash *x, const struct ks_rec_dentry *from,
		      uint64_t was, const struct ks_attr *node)
{
	char name[KS_TRASH_NAME_MAX + 1];
	int n = snprintf(name, sizeof(name), "%ju-%ju-", (uintmax_t)from->parent, (uintmax_t)was);
	struct ks_rec_dentry d = {
		.parent = x->at, .hash = was, .ino = node->ino, .type = ks_dtype(node->mode)
	};

	memcpy(name + n, from->name.p, from->name.n);
	d.name = (struct ks_bytes){ .p = name, .n = (size_t)n + from->name.n };
	ks_txn_put(t, KS_T_DENTRY, &d);
	x->entries++;
	x->bytes += node->used;
}

void ks_trash_file(struct ks_txn *t, struct ks_trash *x, const struct ks_rec_dentry *from,
		   struct ks_attr *node)
{
	node->parent = x->at;
	ks_txn_put(t, KS_T_INODE, node);
	put_entry(t, x, from, node->ino, node);
}

struct copy_xattrs {
	struct ks_txn *t;
	uint64_t to;
};

static int copy_xattr(void *arg, const void *rec, const struct ks_rec_inode *unused)
{
	const struct copy_xattrs *c = arg;
	struct ks_rec_xattr x = *(const struct ks_rec_xattr *)rec;

	(void)unused;
	x.ino = c->to;
	ks_txn_put(c->t, KS_T_XATTR, &x);
	return 0;
}

int ks_trash_dir(struct ks_txn *t, struct ks_trash *x, const struct ks_rec_dentry *from,
		 const struct ks_attr *node, uint64_t id)
{
	struct ks_rec_xattr prefix = { .ino = node->ino };
	struct copy_xattrs c = { .t = t, .to = id };
	struct ks_scan s = {
		.table = KS_T_XATTR, .from = &prefix, .nprefix = 1, .fn = copy_xattr, .arg = &c
	};
	struct ks_attr n = *node;

	x->id_used = id == x->id;
	n.ino = id;
	n.parent = x->at;
	ks_txn_put(t, KS_T_INODE, &n); /* not an insert, which a full disk would refuse */
	put_entry(t, x, from, node->ino, &n);
	return n.flags & KS_INODE_HAS_XATTR ? ks_txn_scan(t, &s) : 0;
}

static struct ks_rec_inode new_dir(uint64_t ino, uint64_t parent, int64_t now)
{
	return (struct ks_rec_inode){ .ino = ino,
				      .parent = parent,
				      .mode = S_IFDIR | 0700,
				      .nlink = 2,
				      .size = KS_DIR_SIZE,
				      .atime_ns = now,
				      .mtime_ns = now,
				      .ctime_ns = now,
				      .btime_ns = now,
				      .change = 1 };
}

static void make_hour(struct ks_txn *t, const struct ks_trash *x, int64_t now)
{
	struct ks_rec_inode dir = new_dir(x->at, KS_TRASH_INO, now);
	struct ks_rec_inode root = new_dir(KS_TRASH_INO, 0, now);
	struct ks_rec_dentry d = hour_key(x->hour, x->name);
	bool first = !x->rd[1].found;

	if (first) {
		root.nlink = 3;
		ks_txn_put(t, KS_T_INODE, &root);
	} else {
		ks_touch_dir(t, KS_TRASH_INO, now, 1);
	}
	dir.size = x->entries;
	dir.used = x->bytes;
	ks_txn_put(t, KS_T_INODE, &dir);
	d.ino = dir.ino;
	d.type = ks_dtype(dir.mode);
	ks_txn_put(t, KS_T_DENTRY, &d);
	ks_count_add(t, KS_CNT_INODES, first ? 2 : 1);
}

static void count_hour(struct ks_txn *t, uint64_t dir, int64_t entries, int64_t bytes)
{
	struct ks_rec_inode key = { .ino = dir };
	struct ks_upd u[] = { KS_UPD_COL(inode, size, KS_UPD_ADD, entries),
			      KS_UPD_COL(inode, used, KS_UPD_ADD, bytes) };

	ks_txn_update(t, KS_T_INODE, &key, u, 2);
}

void ks_trash_write(struct ks_txn *t, const struct ks_trash *x, int64_t now)
{
	if (!x->on || !x->entries)
		return;
	if (x->make)
		make_hour(t, x, now);
	else
		count_hour(t, x->at, (int64_t)x->entries, (int64_t)x->bytes);
}

/* A number that nobody has seen. Needs m->mu. */
static void give_back(struct ks_meta *m, uint64_t *id)
{
	struct ks_id_pool *p = &m->pools[KS_ID_INO];

	if (p->next == *id + 1)
		p->next = *id;
	*id = 0;
}

bool ks_trash_end(struct ks_meta *m, struct ks_trash *x, int r)
{
	if (!x->on)
		return false;
	KS_LOCKED(&m->mu);
	/* After a failure nobody knows. */
	if (r == 0 && x->id && !x->id_used)
		give_back(m, &x->id);
	if (r == 0 && x->spare && (!x->entries || !x->make))
		give_back(m, &x->spare);
	if (r == -ESTALE) {
		/* Somebody has emptied the trash. */
		if (m->trash_dir == x->dir)
			m->trash_dir = m->trash_hour = 0;
		x->dir = 0;
		return true;
	}
	if (r == 0 && x->entries && !x->dir) {
		m->trash_hour = x->hour;
		m->trash_dir = x->at;
	}
	return false;
}

void ks_count_used(struct ks_txn *t, const struct ks_attr *n, int64_t by)
{
	ks_count_add(t, KS_CNT_USED, by);
	if (by && ks_is_trashed(n))
		count_hour(t, n->parent, 0, by);
}

/* ---- looking ---- */

struct hours {
	int (*fn)(void *arg, const struct ks_trash_hour *h);
	void *arg;
};

static int hour_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_dentry *d = rec;
	const struct hours *l = arg;
	struct ks_trash_hour h = { .hour = d->hash, .dir = d->ino };

	if (node && node->ino) {
		h.entries = node->size;
		h.bytes = node->used;
	}
	return l->fn(l->arg, &h);
}

/* @root: whether the trash was ever used. */
static int each_hour(struct ks_meta *m, int (*fn)(void *arg, const struct ks_trash_hour *h),
		     void *arg, bool *root)
{
	struct hours l = { fn, arg };
	struct ks_arena a = { 0 };
	struct ks_rec_inode node;
	struct ks_read rd = ks_read_inode(&node, KS_TRASH_INO, 0);
	struct ks_rec_dentry from = { .parent = KS_TRASH_INO };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_FOLLOW,
			     .from = &from,
			     .nprefix = 1,
			     .fn = hour_one,
			     .arg = &l };
	int r = ks_engine_fetch(m->e, &rd, 1, &s, 1, &a);

	ks_arena_clear(&a);
	*root = rd.found;
	return r;
}

int ks_meta_trash_hours(struct ks_meta *m, int (*fn)(void *arg, const struct ks_trash_hour *h),
			void *arg)
{
	bool unused;

	return each_hour(m, fn, arg, &unused);
}

static int sum_one(void *arg, const struct ks_trash_hour *h)
{
	struct ks_trash_sum *s = arg;

	if (h->entries && !s->entries)
		s->oldest_hour = h->hour;
	s->entries += h->entries;
	s->bytes += h->bytes;
	s->own++;
	return 0;
}

int ks_meta_trash_sum(struct ks_meta *m, struct ks_trash_sum *out)
{
	bool root;
	int r;

	*out = (struct ks_trash_sum){ 0 };
	r = each_hour(m, sum_one, out, &root);
	out->own += root;
	return r;
}

struct listing {
	const struct ks_trash_hour *h;
	struct ks_trash_cursor *c;
	int (*fn)(void *arg, const struct ks_trash_entry *e);
	void *arg;
	uint64_t n;
	bool stopped;
};

static int list_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_dentry *d = rec;
	struct listing *l = arg;
	struct ks_trash_entry e = { .hour = l->h->hour, .dir = d->parent };
	int r = d->name.n > KS_TRASH_NAME_MAX
			? -EINVAL
			: ks_trash_name_parse(d->name, &e.parent, &e.ino, &e.orig);

	l->n++;
	l->c->hash = d->hash;
	l->c->n = ks_min(d->name.n, (size_t)KS_TRASH_NAME_MAX);
	memcpy(l->c->name, d->name.p, l->c->n);
	/* Notes, and what only fsck can put right. */
	if (r != 0 || !node || !node->ino || !ks_is_trashed(node) || e.ino != d->hash)
		return 0;
	e.name = d->name;
	e.attr = *node;
	r = l->fn(l->arg, &e);
	l->stopped = r > 0;
	return r;
}

int ks_meta_trash_list(struct ks_meta *m, const struct ks_trash_hour *h, struct ks_trash_cursor *c,
		       int (*fn)(void *arg, const struct ks_trash_entry *e), void *arg)
{
	struct listing l = { .h = h, .c = c, .fn = fn, .arg = arg };
	struct ks_arena a = { 0 };
	struct ks_trash_cursor at = *c;
	struct ks_rec_dentry from = { .parent = h->dir,
				      .hash = at.hash,
				      .name = { .p = at.name, .n = at.n } };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_FOLLOW,
			     .from = &from,
			     .nprefix = 1,
			     .nafter = at.n ? 2 : 0,
			     .limit = LIST_MAX,
			     .fn = list_one,
			     .arg = &l };
	int r = ks_engine_scan(m->e, &s, &a);

	ks_arena_clear(&a);
	return r < 0 ? r : l.n == LIST_MAX && !l.stopped;
}

struct find {
	struct ks_trash_entry *e;
	char *name;
	ks_ino_t moved;
	bool found;
};

static int find_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_dentry *d = rec;
	struct find *f = arg;
	struct ks_trash_entry e = { .dir = d->parent };
	int r = ks_trash_name_parse(d->name, &e.parent, &e.ino, &e.orig);

	if (r == 1)
		f->moved = d->ino;
	if (r != 0 || d->name.n > KS_TRASH_NAME_MAX || !node || !node->ino || !ks_is_trashed(node))
		return 0;
	e.attr = *node;
	e.hour = f->e->hour;
	memcpy(f->name, d->name.p, d->name.n);
	e.name = (struct ks_bytes){ .p = f->name, .n = d->name.n };
	e.orig.p = f->name + (d->name.n - e.orig.n);
	*f->e = e;
	f->found = true;
	return 0;
}

struct hour_list {
	struct ks_trash_hour *v;
	size_t n, cap;
};

static int collect_hour(void *arg, const struct ks_trash_hour *h)
{
	struct hour_list *l = arg;

	if (ks_array_room(&l->v, l->n, &l->cap) < 0)
		return -ENOMEM;
	l->v[l->n++] = *h;
	return 0;
}

int ks_meta_trash_find(struct ks_meta *m, ks_ino_t ino, struct ks_trash_entry *e,
		       char name[KS_TRASH_NAME_MAX + 1], ks_ino_t *moved)
{
	struct hour_list l = { 0 };
	struct find f = { .e = e, .name = name };
	struct ks_rec_dentry from = { .hash = ino };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_FOLLOW,
			     .from = &from,
			     .nprefix = 2,
			     .fn = find_one,
			     .arg = &f };
	struct ks_arena a = { 0 };
	int r = ks_meta_trash_hours(m, collect_hour, &l);

	for (size_t i = l.n; r == 0 && !f.found && !f.moved && i-- > 0;) {
		from.parent = l.v[i].dir;
		e->hour = l.v[i].hour;
		r = ks_engine_scan(m->e, &s, &a);
		ks_arena_reset(&a);
	}
	ks_arena_clear(&a);
	free(l.v);
	*moved = f.found ? 0 : f.moved;
	return r < 0 ? r : f.found || f.moved ? 0 : -ENOENT;
}

/* ---- taking out ---- */

struct restore_arg {
	const struct ks_trash_entry *e;
	struct ks_rec_dentry to;
	int64_t now;
	struct ks_rec_inode out;
};

static int restore_decide(const struct restore_arg *a, const struct ks_read *rd,
			  const struct ks_rec_inode *parent)
{
	const struct ks_attr *n = &a->out;
	int r = ks_check_parent(&rd[0], false);

	if (!rd[2].found || !n->ino || !ks_is_trashed(n) || n->parent != a->e->dir)
		return -ESTALE;
	if (r < 0)
		return r;
	if (parent->nlink < 2)
		return -ENOENT; /* it is in the trash itself */
	if (rd[1].found)
		return -EEXIST;
	return S_ISDIR(n->mode) && parent->nlink >= KS_LINK_MAX ? -EMLINK : 0;
}

static int restore_body(struct ks_txn *t, void *arg)
{
	struct restore_arg *a = arg;
	struct ks_rec_inode parent;
	struct ks_rec_dentry to = a->to;
	const struct ks_rec_dentry key = { .parent = a->e->dir,
					   .hash = a->e->ino,
					   .name = a->e->name };
	struct ks_rec_dentry from = key;
	struct ks_rec_dentry note = { .parent = key.parent,
				      .hash = key.hash,
				      .name = ks_bytes_str(NOTE) };
	struct ks_read rd[] = {
		ks_read_inode(&parent, to.parent, KS_READ_WEAK),
		{ .table = KS_T_DENTRY, .rec = &to },
		{ .table = KS_T_DENTRY, .flags = KS_READ_FOLLOW, .rec = &from, .inode = &a->out },
	};
	bool dir;
	int r;

	a->out = (struct ks_rec_inode){ 0 };
	r = ks_txn_read(t, rd, KS_ARRAY_SIZE(rd));
	if (r == 0)
		r = restore_decide(a, rd, &parent);
	if (r < 0)
		return r;
	dir = S_ISDIR(a->out.mode);
	ks_txn_del(t, KS_T_DENTRY, &key);
	count_hour(t, key.parent, -1, -(int64_t)a->out.used);
	a->out.nlink = dir ? 2 : 1;
	a->out.parent = a->to.parent;
	ks_touch(&a->out, a->now);
	ks_txn_put(t, KS_T_INODE, &a->out);
	to = a->to;
	to.ino = note.ino = a->out.ino;
	to.type = note.type = ks_dtype(a->out.mode);
	ks_txn_insert(t, KS_T_DENTRY, &to);
	ks_touch_dir(t, to.parent, a->now, dir ? 1 : 0);
	/* What was in it still says its old number. */
	if (dir)
		ks_txn_put(t, KS_T_DENTRY, &note);
	return 0;
}

int ks_meta_trash_restore(struct ks_meta *m, const struct ks_trash_entry *e, ks_ino_t newparent,
			  const char *newname, struct ks_attr *out)
{
	struct restore_arg a = { .e = e, .now = ks_clock_real_ns() };
	int r = ks_dentry_key(m, newparent, newname, &a.to);

	if (r == 0)
		r = ks_meta_run(m, restore_body, &a);
	if (r == 0 && out)
		*out = a.out;
	return r;
}

/* ---- emptying ---- */

struct purge_arg {
	struct ks_meta *m;
	struct ks_trash_hour hour;
	int64_t now;
	/* of one run */
	struct ks_txn *t;
	struct ks_lose lose;
	uint64_t seen, entries, bytes;
};

struct look {
	struct purge_arg *a;
	struct ks_rec_dentry *d;
	struct ks_rec_inode *n;
};

/* The scan's records are gone when it goes on. */
static int look_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct look *l = arg;
	uint64_t i = l->a->seen++;

	l->d[i] = *(const struct ks_rec_dentry *)rec;
	l->n[i] = node ? *node : (struct ks_rec_inode){ 0 };
	return 0;
}

static void purge_one(struct purge_arg *a, const struct ks_rec_dentry *d, struct ks_rec_inode *n)
{
	struct ks_bytes orig;
	ks_ino_t parent, was;

	ks_txn_del(a->t, KS_T_DENTRY, d);
	if (!n->ino || ks_trash_name_parse(d->name, &parent, &was, &orig) == 1 ||
	    !ks_is_trashed(n) || n->parent != d->parent)
		return;
	a->entries++;
	a->bytes += n->used;
	n->parent = 0;
	ks_end_inode(a->t, &a->lose, n);
}

static int purge_body(struct ks_txn *t, void *arg)
{
	struct purge_arg *a = arg;
	struct ks_arena *mem = ks_txn_arena(t);
	struct look l = { .a = a,
			  .d = ks_arena_alloc(mem, PURGE_MAX * sizeof(*l.d)),
			  .n = ks_arena_alloc(mem, PURGE_MAX * sizeof(*l.n)) };
	char name[KS_TRASH_HOUR_STR];
	struct ks_rec_inode dir;
	struct ks_rec_counter epoch;
	struct ks_rec_dentry prefix = { .parent = a->hour.dir };
	struct ks_rec_dentry hour;
	struct ks_read rd[] = { ks_read_counter(&epoch, KS_CNT_EPOCH, 0),
				ks_read_inode(&dir, a->hour.dir, KS_READ_WEAK),
				{ .table = KS_T_DENTRY, .rec = &hour } };
	struct ks_scan s = { .table = KS_T_DENTRY,
			     .flags = KS_READ_FOLLOW,
			     .from = &prefix,
			     .nprefix = 1,
			     .limit = PURGE_MAX,
			     .fn = look_one,
			     .arg = &l };
	int r = l.d && l.n ? 0 : -ENOMEM;

	ks_trash_hour_format(a->hour.hour, name);
	hour = hour_key(a->hour.hour, name);
	a->t = t;
	a->seen = a->entries = a->bytes = 0;
	if (r == 0)
		r = ks_txn_fetch(t, rd, KS_ARRAY_SIZE(rd), &s, 1);
	if (r < 0)
		return r;
	a->lose = (struct ks_lose){ .m = a->m, .now = a->now, .epoch = (uint64_t)epoch.value };
	for (uint64_t i = 0; i < a->seen; i++)
		purge_one(a, &l.d[i], &l.n[i]);
	if (a->seen == PURGE_MAX) {
		if (rd[1].found)
			count_hour(t, a->hour.dir, -(int64_t)a->entries, -(int64_t)a->bytes);
		return 0;
	}
	/* That was the rest of it. Of this very hour there may be another directory by now. */
	if (rd[2].found && hour.ino == a->hour.dir)
		ks_txn_del(t, KS_T_DENTRY, &hour);
	if (rd[1].found) {
		ks_txn_need_empty(t, KS_T_DENTRY, &prefix, 1);
		ks_txn_del(t, KS_T_INODE, &dir);
		ks_count_add(t, KS_CNT_INODES, -1);
		ks_touch_dir(t, KS_TRASH_INO, a->now, -1);
	}
	return 0;
}

struct oldest {
	struct ks_trash_hour h;
	uint64_t before;
	bool found, more;
};

static int oldest_one(void *arg, const struct ks_trash_hour *h)
{
	struct oldest *o = arg;

	if (h->hour >= o->before)
		return 1;
	o->more = o->found;
	if (!o->found)
		o->h = *h;
	o->found = true;
	return o->more;
}

int ks_meta_trash_purge(struct ks_meta *m, uint64_t before_hour, struct ks_trash_sum *out)
{
	struct oldest o = { .before = before_hour };
	struct purge_arg a = { .m = m, .now = ks_clock_real_ns() };
	int r = ks_meta_trash_hours(m, oldest_one, &o);

	if (r < 0 || !o.found)
		return r;
	a.hour = o.h;
	r = ks_meta_run(m, purge_body, &a);
	if (r < 0)
		return r;
	out->entries += a.entries;
	out->bytes += a.bytes;
	return o.more || a.seen == PURGE_MAX;
}

uint64_t ks_trash_hour_before(int64_t now, int64_t keep_ns)
{
	return keep_ns >= now ? 0 : (uint64_t)((now - ks_max(keep_ns, (int64_t)0)) / HOUR_NS);
}

int ks_meta_trash_expire(struct ks_meta *m, struct ks_trash_sum *out)
{
	int64_t keep = __atomic_load_n(&m->set.trash_ns, __ATOMIC_RELAXED);

	return ks_meta_trash_purge(m, ks_trash_hour_before(ks_clock_real_ns(), keep), out);
}
