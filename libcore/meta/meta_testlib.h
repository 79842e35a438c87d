/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_testlib.h: what the tests of meta share: a volume on each engine, short forms of the calls, and an audit of every record. For test programs.
 *
 *	ON_BOTH(name) { ... v->m ... }	makes the tests name_mem and name_sqlite of one body, which gets a fresh volume; it is audited afterwards
 */
#ifndef KS_META_META_TESTLIB_H
#define KS_META_META_TESTLIB_H

#include "base/array.h"
#include "base/hash.h"
#include "base/hmap.h"
#include "base/tap.h"
#include "meta/meta_internal.h"

#define ROOT KS_ROOT_INO

struct vol {
	struct ks_meta *m;
	char url[512];
	bool sqlite;
};

static const struct ks_cred cred = { .uid = 1000, .gid = 1000, .pid = 1 };

static inline struct ks_volume_settings settings_new(void)
{
	struct ks_volume_settings s = { .name = "test",
					.format_version = 1,
					.block_size = KS_BLOCK_DEFAULT,
					.data_url = "test.blocks/",
					.compress = "none",
					.created_by = "test" };

	s.created_ns = ks_clock_real_ns();
	ks_check_ok(ks_uuid_new(s.uuid));
	ks_check_ok(ks_random(s.hash_key, sizeof(s.hash_key)));
	return s;
}

static inline void vol_url(struct vol *v, bool sqlite)
{
	static int n;

	v->sqlite = sqlite;
	n++;
	if (sqlite)
		snprintf(v->url, sizeof(v->url), "sqlite://%s/v%d.db", ks_tap_dir(), n);
	else
		snprintf(v->url, sizeof(v->url), "mem://test-%d-%d", (int)getpid(), n);
}

static inline void vol_make(struct vol *v, bool sqlite, const struct ks_meta_opts *o)
{
	struct ks_volume_settings s = settings_new();

	vol_url(v, sqlite);
	ks_check_ok(ks_meta_format(v->url, &s, 1000, 1000));
	ks_check_ok(ks_meta_open(&v->m, v->url, o));
}

static inline void trash_on(struct vol *v)
{
	struct ks_volume_settings s = *ks_meta_settings(v->m);

	s.trash_ns = 24 * 3600 * KS_NS_PER_S;
	ks_check_ok(ks_meta_settings_set(v->m, &s));
}

/* ---- short forms ---- */

static inline uint64_t mk(struct vol *v, uint64_t dir, const char *name, uint32_t mode)
{
	struct ks_attr a = { 0 };

	ks_check_ok(ks_meta_mknod(v->m, &cred, dir, name, mode, 0, S_ISLNK(mode) ? "target" : NULL,
				  &a));
	return a.ino;
}

static inline uint64_t mkfile(struct vol *v, uint64_t dir, const char *name)
{
	return mk(v, dir, name, S_IFREG | 0644);
}

static inline uint64_t mkdir_(struct vol *v, uint64_t dir, const char *name)
{
	return mk(v, dir, name, S_IFDIR | 0755);
}

static inline struct ks_attr attr_of(struct vol *v, uint64_t ino)
{
	struct ks_attr a = { 0 };

	ks_check_ok(ks_meta_getattr(v->m, ino, &a));
	return a;
}

static inline int mv(struct vol *v, uint64_t d1, const char *n1, uint64_t d2, const char *n2,
		     unsigned int flags)
{
	return ks_meta_rename(v->m, &cred, d1, n1, d2, n2, flags, NULL, NULL);
}

/* A committed slice of @len bytes; returns its id. */
static inline uint64_t put_slice(struct vol *v, uint64_t ino, uint64_t off, uint32_t len,
				 uint64_t pack)
{
	static uint32_t sums[KS_CHUNK_SIZE / KS_PAGE_SIZE];
	struct ks_commit_slice s = { .chunk = off / KS_CHUNK_SIZE,
				     .pos = (uint32_t)(off % KS_CHUNK_SIZE),
				     .len = len,
				     .block_size = KS_BLOCK_DEFAULT,
				     .pack = pack,
				     .sums = sums };
	struct ks_commit c = { .ino = ino, .s = &s, .n = 1, .end = off + len };

	for (uint32_t i = 0; i < ks_pages_of(len); i++)
		sums[i] = (uint32_t)(off * 31 + i);
	ks_check_ok(ks_meta_new_slice_id(v->m, &s.slice));
	ks_check_ok(ks_meta_commit(v->m, &c, NULL));
	return s.slice;
}

static inline void set_size(struct vol *v, uint64_t ino, uint64_t size)
{
	struct ks_attr a = { .size = size };

	ks_check_ok(ks_meta_setattr(v->m, ino, KS_SET_SIZE, &a, NULL));
}

struct names {
	char v[64][KS_NAME_MAX + 1];
	uint64_t ino[64];
	size_t n;
};

static inline int names_one(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	struct names *l = arg;

	(void)attr;
	if (l->n == KS_ARRAY_SIZE(l->v))
		return 1;
	snprintf(l->v[l->n], sizeof(l->v[0]), "%.*s", (int)d->name.n, (const char *)d->name.p);
	l->ino[l->n++] = d->ino;
	return 0;
}

/* ---- audit: every record against every other ---- */

struct tally {
	struct ks_hnode node; /* key: inode or slice */
	union ks_record rec;
	uint64_t names, subdirs, refs, used;
	uint64_t entries; /* of an hour of the trash */
	bool deleted, trashed;
};

struct audit {
	struct ks_hmap inodes, slices;
	struct ks_extent *run; /* of one chunk */
	size_t nrun, caprun;
	uint64_t run_ino, run_chunk;
	uint64_t total_used, total_inodes;
	bool bad;
};

#define AUDIT(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			printf("# audit: " __VA_ARGS__);                                           \
			printf("\n");                                                              \
			a->bad = true;                                                             \
		}                                                                                  \
	} while (0)

static inline struct tally *tally_of(struct ks_hmap *map, uint64_t key)
{
	struct ks_hnode *n = ks_hmap_find(map, key);

	return n ? ks_container_of(n, struct tally, node) : NULL;
}

static inline void tally_add(struct ks_hmap *map, uint64_t key, const void *rec, size_t size)
{
	struct tally *x = calloc(1, sizeof(*x));

	memcpy(&x->rec, rec, size);
	ks_check_ok(ks_hmap_insert(map, &x->node, key));
}

static inline int audit_inode(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;
	const struct ks_rec_inode *i = rec;

	(void)n;
	tally_add(&a->inodes, i->ino, rec, sizeof(*i));
	a->total_used += S_ISDIR(i->mode) ? 0 : i->used;
	a->total_inodes++;
	return 0;
}

static inline int audit_slice(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;

	(void)n;
	tally_add(&a->slices, ((const struct ks_rec_slice *)rec)->id, rec,
		  sizeof(struct ks_rec_slice));
	return 0;
}

static inline void audit_trashed(struct audit *a, const struct ks_rec_dentry *d, struct tally *i,
				 struct tally *p)
{
	ks_ino_t parent, ino;
	struct ks_bytes orig;

	AUDIT(ks_trash_name_parse(d->name, &parent, &ino, &orig) == 0 && ino == d->hash,
	      "the trash has %.*s", (int)d->name.n, (const char *)d->name.p);
	AUDIT(i->rec.inode.parent == d->parent, "hour of inode %ju", (uintmax_t)d->ino);
	AUDIT(S_ISDIR(i->rec.inode.mode) || ino == d->ino, "number of inode %ju",
	      (uintmax_t)d->ino);
	i->trashed = true;
	p->entries++;
	p->used += i->rec.inode.used;
}

static inline int audit_dentry(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;
	const struct ks_rec_dentry *d = rec;
	struct tally *i = tally_of(&a->inodes, d->ino);
	struct tally *p = tally_of(&a->inodes, d->parent);

	(void)n;
	/* A note in the trash: where it leads may be gone. */
	if (p && p->rec.inode.parent == KS_TRASH_INO && d->name.n == 8 &&
	    memcmp(d->name.p, "restored", 8) == 0)
		return 0;
	AUDIT(i, "name %.*s leads to missing inode %ju", (int)d->name.n, (const char *)d->name.p,
	      (uintmax_t)d->ino);
	AUDIT(p, "name %.*s is in missing directory %ju", (int)d->name.n, (const char *)d->name.p,
	      (uintmax_t)d->parent);
	if (!i || !p)
		return 0;
	i->names++;
	AUDIT(d->type == ks_dtype(i->rec.inode.mode), "type of a name of %ju", (uintmax_t)d->ino);
	AUDIT(S_ISDIR(p->rec.inode.mode), "a name in inode %ju, which is no directory",
	      (uintmax_t)d->parent);
	if (p->rec.inode.parent == KS_TRASH_INO) {
		audit_trashed(a, d, i, p);
		return 0;
	}
	AUDIT(p->rec.inode.nlink, "a name in directory %ju, which is gone", (uintmax_t)d->parent);
	if (S_ISDIR(i->rec.inode.mode)) {
		p->subdirs++;
		AUDIT(i->rec.inode.parent == d->parent, "parent of directory %ju",
		      (uintmax_t)d->ino);
	} else {
		AUDIT(!i->rec.inode.parent || i->rec.inode.parent == d->parent,
		      "parent of %ju is %ju, not %ju", (uintmax_t)d->ino,
		      (uintmax_t)i->rec.inode.parent, (uintmax_t)d->parent);
	}
	return 0;
}

static inline void audit_run(struct audit *a)
{
	struct ks_chunk_map *map = NULL;
	struct tally *i = tally_of(&a->inodes, a->run_ino);

	if (a->nrun == 0)
		return;
	ks_check_ok(ks_chunk_map_build(a->run, a->nrun, &map));
	AUDIT(i, "extents of missing inode %ju", (uintmax_t)a->run_ino);
	for (uint32_t k = 0; i && k < map->n; k++) {
		uint64_t end = a->run_chunk * KS_CHUNK_SIZE + map->e[k].pos + map->e[k].len;

		i->used += map->e[k].len;
		AUDIT(end <= i->rec.inode.size, "data of %ju beyond its size",
		      (uintmax_t)a->run_ino);
	}
	ks_chunk_map_free(map);
	a->nrun = 0;
}

static inline int audit_extent(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;
	const struct ks_rec_extent *e = rec;
	struct tally *s = tally_of(&a->slices, e->slice);

	(void)n;
	if (a->nrun && (e->ino != a->run_ino || e->chunk != a->run_chunk))
		audit_run(a);
	ks_check_ok(ks_array_room(&a->run, a->nrun, &a->caprun));
	a->run_ino = e->ino;
	a->run_chunk = e->chunk;
	a->run[a->nrun++] = (struct ks_extent){
		.pos = e->pos, .len = e->len, .slice = e->slice, .off = e->off
	};
	AUDIT(!e->slice || s, "inode %ju refers to missing slice %ju", (uintmax_t)e->ino,
	      (uintmax_t)e->slice);
	if (s) {
		s->refs++;
		AUDIT((uint64_t)e->off + e->len <= s->rec.slice.len, "extent beyond slice %ju",
		      (uintmax_t)e->slice);
	}
	return 0;
}

static inline int audit_deleted(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;
	const struct ks_rec_deleted *d = rec;
	struct tally *i = tally_of(&a->inodes, d->ino);

	(void)n;
	AUDIT(i && i->rec.inode.nlink == 0, "deleted record of %ju", (uintmax_t)d->ino);
	if (i)
		i->deleted = true;
	return 0;
}

static inline int audit_block(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	struct audit *a = arg;
	const struct ks_rec_block *b = rec;
	struct tally *s = tally_of(&a->slices, b->slice);

	(void)n;
	AUDIT(!s || b->idx < ks_blocks_of(s->rec.slice.len, s->rec.slice.block_size),
	      "block %u of slice %ju", b->idx, (uintmax_t)b->slice);
	return 0;
}

static inline void audit_scan(struct vol *v, enum ks_table t,
			      int (*fn)(void *, const void *, const struct ks_rec_inode *),
			      void *arg)
{
	struct ks_arena mem = { 0 };
	struct ks_scan s = { .table = t, .fn = fn, .arg = arg };

	ks_check_ok(ks_engine_scan(ks_meta_engine(v->m), &s, &mem));
	ks_arena_clear(&mem);
}

static inline int count_one(void *arg, const void *rec, const struct ks_rec_inode *n)
{
	(void)rec;
	(void)n;
	++*(uint64_t *)arg;
	return 0;
}

static inline uint64_t count_rows(struct vol *v, enum ks_table t)
{
	uint64_t n = 0;

	audit_scan(v, t, count_one, &n);
	return n;
}

static inline void audit_free(struct ks_hmap *map)
{
	struct ks_hnode *n = ks_hmap_next(map, NULL);

	while (n) {
		struct ks_hnode *next = ks_hmap_next(map, n);

		free(ks_container_of(n, struct tally, node));
		n = next;
	}
	ks_hmap_clear(map);
}

static inline void audit_inodes(struct audit *a)
{
	struct ks_hnode *n = NULL;

	while ((n = ks_hmap_next(&a->inodes, n))) {
		const struct tally *x = ks_container_of(n, struct tally, node);
		const struct ks_rec_inode *i = &x->rec.inode;
		uint64_t want = S_ISDIR(i->mode) ? 2 + x->subdirs : x->names;

		if (x->trashed)
			want -= S_ISDIR(i->mode) ? 2 : 1;
		AUDIT(i->parent != KS_TRASH_INO || i->size == x->entries,
		      "hour %ju has %ju entries, not %ju", (uintmax_t)i->ino, (uintmax_t)x->entries,
		      (uintmax_t)i->size);
		AUDIT(i->nlink == want, "inode %ju has %u links, not %ju", (uintmax_t)i->ino,
		      i->nlink, (uintmax_t)want);
		AUDIT(i->used == x->used, "inode %ju uses %ju bytes, not %ju", (uintmax_t)i->ino,
		      (uintmax_t)x->used, (uintmax_t)i->used);
		AUDIT(i->nlink || x->deleted != x->trashed, "inode %ju without links is not marked",
		      (uintmax_t)i->ino);
		AUDIT(!S_ISDIR(i->mode) || i->ino == ROOT || i->ino == KS_TRASH_INO ||
			      x->names == 1,
		      "directory %ju has %ju names", (uintmax_t)i->ino, (uintmax_t)x->names);
	}
}

static inline void vol_audit(struct vol *v)
{
	struct audit audit = { 0 };
	struct audit *a = &audit;
	struct ks_meta_usage u;
	struct ks_hnode *n = NULL;

	audit_scan(v, KS_T_INODE, audit_inode, a);
	audit_scan(v, KS_T_SLICE, audit_slice, a);
	audit_scan(v, KS_T_DENTRY, audit_dentry, a);
	audit_scan(v, KS_T_EXTENT, audit_extent, a);
	audit_run(a);
	audit_scan(v, KS_T_DELETED, audit_deleted, a);
	audit_scan(v, KS_T_BLOCK, audit_block, a);
	audit_inodes(a);
	while ((n = ks_hmap_next(&a->slices, n))) {
		const struct tally *x = ks_container_of(n, struct tally, node);

		AUDIT(x->rec.slice.refs == x->refs && x->refs > 0,
		      "slice %ju has %ju references, not %ju", (uintmax_t)n->key,
		      (uintmax_t)x->refs, (uintmax_t)x->rec.slice.refs);
	}
	ks_check_ok(ks_meta_usage(v->m, &u));
	AUDIT(u.inodes == a->total_inodes, "%ju inodes counted, %ju there", (uintmax_t)u.inodes,
	      (uintmax_t)a->total_inodes);
	AUDIT(u.used_bytes == a->total_used, "%ju bytes counted, %ju there",
	      (uintmax_t)u.used_bytes, (uintmax_t)a->total_used);
	audit_free(&a->inodes);
	audit_free(&a->slices);
	free(a->run);
	ks_check(!a->bad);
}

static inline void vol_run(bool sqlite, bool trash, void (*fn)(struct vol *v))
{
	struct vol v = { 0 };

	vol_make(&v, sqlite, NULL);
	if (trash)
		trash_on(&v);
	fn(&v);
	vol_audit(&v);
	ks_meta_close(v.m);
}

#define ON_BOTH(name)                                                                              \
	static void name(struct vol *v);                                                           \
	KS_TEST(name##_mem)                                                                        \
	{                                                                                          \
		vol_run(false, false, name);                                                       \
	}                                                                                          \
	KS_TEST(name##_sqlite)                                                                     \
	{                                                                                          \
		vol_run(true, false, name);                                                        \
	}                                                                                          \
	static void name(struct vol *v)

/* The same twice more, with a trash. */
#define ON_BOTH_TRASH(name)                                                                        \
	static void name(struct vol *v);                                                           \
	KS_TEST(name##_trash_mem)                                                                  \
	{                                                                                          \
		vol_run(false, true, name);                                                        \
	}                                                                                          \
	KS_TEST(name##_trash_sqlite)                                                               \
	{                                                                                          \
		vol_run(true, true, name);                                                         \
	}                                                                                          \
	ON_BOTH(name)

#endif
