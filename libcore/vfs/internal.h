/* SPDX-License-Identifier: Apache-2.0 */
/*
 * internal.h: what the files of vfs/ share.
 *
 * A vnode stands for an inode that somebody in this process has open, and owns the inode's ks_file. It is in the table from before its inode record is
 * read until after its last handle is gone, so that ks_meta's question "is it open?" has an answer that errs on the safe side only.
 *
 *	state       in table  opens  file        who leaves it
 *	opening     yes       >= 1   NULL        ks_vnode_attach()
 *	open        yes       >= 1   set         the last ks_vnode_put_open()
 *	releasing   yes       0      set         the thread that closed last; openers wait for it
 *	dead        no        0      closed      the last ks_vnode_unpin() frees
 *
 * Locks: a shard's mutex is a leaf: nothing is called with it held. A vnode's mutex is held around ks_file_open() and ks_file_refresh() only.
 */
#ifndef KS_VFS_INTERNAL_H
#define KS_VFS_INTERNAL_H

#include "base/clock.h"
#include "base/hmap.h"
#include "base/list.h"
#include "base/log.h"
#include "base/thread.h"
#include "vfs/vfs.h"
#include <string.h>

#define KS_VNODE_SHARDS 64
#define KS_SEEN_SLOTS 16384 /* inodes whose pages the kernel may hold, remembered for keep_cache */
#define KS_UNSYNCED_WORDS 512 /* of a bitmap over hashed inode numbers */
#define KS_GHOSTS 1024
#define KS_FH_MAGIC 0x6b736668u

struct ks_vnode {
	struct ks_hnode node;   /* [shard] key: inode number */
	struct ks_list handles; /* [shard] */
	unsigned int opens;     /* [shard] handles, and operations that count as one */
	unsigned int pins;      /* [shard] short uses; the table's own counts as one */
	unsigned int writers;   /* [shard] handles open for writing */
	bool releasing;         /* [shard] */
	bool unlinked;          /* [shard] known to have no name */
	bool trashed;           /* [shard] unlinked, and kept in the trash when that was known */
	bool reported;          /* [shard] the heartbeat was told of it and may have claimed it */
	bool priv; /* [shard] a write must look whether there is something to clear (setuid, capabilities), or it may not be */
	pthread_mutex_t mu;   /* while file is made or refreshed */
	struct ks_file *file; /* set once under [mu] and [shard] */
};

struct ks_shard {
	pthread_mutex_t mu;
	pthread_cond_t released; /* a vnode left the state releasing */
	struct ks_hmap map;      /* [mu] */
	char pad[64];
};

/* See ks_seen_*() in seen.c. */
struct ks_seen {
	uint64_t ino;
	uint64_t change;
};

#define KS_PACKS_ALONE 64

/* How far the maintenance of packs is (packs.c). One thread's. */
struct ks_packs {
	uint64_t cursor;       /* packs up to here were looked at in this round */
	uint64_t id, off, end; /* being rewritten, from here; 0: none */
	uint64_t alone
		[KS_PACKS_ALONE]; /* not to be rewritten: damaged, or nothing is left to copy; the newest win */
	unsigned int nalone;
	struct ks_packs_gain gain;
};

/* ---- compact.c: what the mount's own compaction knows ---- */

#define KS_COMPACT_ROWS 256u /* a chunk with so many slices is looked at */
#define KS_COMPACT_PAUSE_NS KS_NS_PER_S
#define KS_COMPACT_FAILED_NS (60 * KS_NS_PER_S)
#define KS_HOT_SLOTS 256
#define KS_HOT_QUEUE 32

struct ks_hot {
	uint64_t ino, chunk;
	uint32_t n;    /* slices it has, as far as we know */
	uint32_t wait; /* not before it has so many */
	bool queued;
};

struct ks_compactor {
	pthread_mutex_t mu;
	pthread_cond_t wake;
	struct ks_hot hot[KS_HOT_SLOTS];   /* [mu] by a hash of the chunk */
	struct ks_hot queue[KS_HOT_QUEUE]; /* [mu] */
	unsigned int at, nqueue;           /* [mu] */
	bool stop;                         /* [mu] */
	bool on;                           /* atomic */
	pthread_t thread;
	uint64_t chunks, bytes; /* atomic: compacted, copied for it */
};

struct ks_virtual; /* virtual.c */
struct ks_virtual_fh;

struct ks_vfs {
	struct ks_meta *meta;
	struct ks_object *store;
	struct ks_data *data;
	ks_ino_t root;
	bool readonly;
	struct ks_virtual *virt; /* NULL: no hidden directory */
	unsigned int nwriters;   /* atomic: handles open for writing; 0: no overlay to look for */
	uint64_t nfiles;         /* atomic: open handles of files */
	struct ks_shard shards[KS_VNODE_SHARDS];

	pthread_mutex_t seen_mu[KS_VNODE_SHARDS];
	struct ks_seen *seen; /* [seen_mu of the slot] */

	pthread_mutex_t ghosts_mu;
	struct ks_attr *ghosts; /* [ghosts_mu] KS_GHOSTS of them; NULL: none yet */

	pthread_mutex_t dirs_mu;
	struct ks_list dirs; /* [dirs_mu] open directories */

	pthread_mutex_t unsynced_mu;
	uint64_t unsynced
		[KS_UNSYNCED_WORDS]; /* [unsynced_mu] inodes committed since the last sync of the store began */
	uint64_t syncing[KS_UNSYNCED_WORDS]; /* [unsynced_mu] those that running syncs care for */
	unsigned int nsyncing;               /* [unsynced_mu] running syncs */
	bool any_unsynced;                   /* [unsynced_mu] unsynced has a bit */
	uint64_t unsynced_bytes;             /* atomic: of what was committed since */
	int64_t sync_ns;                     /* atomic: how long an fsync took lately */

	pthread_mutex_t maint_mu;
	pthread_cond_t maint_wake;
	bool maint_stop; /* [maint_mu] */
	bool maint_on;
	bool cleanup; /* constant while it runs */
	pthread_t maint;
	struct ks_packs packs;   /* the maintenance thread's */
	uint64_t commits_synced; /* the maintenance thread's: commits when it last synced them */
	struct ks_compactor compactor;
};

struct ks_fh {
	uint32_t magic;
	bool dir;
	bool readable, writable;
	bool seen_pending; /* atomic: the kernel dropped its pages when this was opened; see seen.c */
	bool touched;      /* atomic: atime was looked after */
	int flags;
	ks_ino_t ino;
	struct ks_attr attr; /* the record when it was opened */
	struct ks_vfs *v;
	struct ks_vnode *vn;        /* NULL: a directory, or virt */
	struct ks_virtual_fh *virt; /* NULL: not a file of the hidden directory */
	struct ks_list link;        /* [shard] in vn->handles, or [dirs_mu] in v->dirs */
	pthread_mutex_t mu;
	struct ks_stream stream; /* [mu] */
	uint32_t dir_taken; /* entries the last readdir consumed; a hint, one reader at a time */
};

/* ---- vnode.c ---- */

void ks_vnodes_init(struct ks_vfs *v);
void ks_vnodes_destroy(struct ks_vfs *v); /* all handles are released */
/* Registers an open of @ino: from now on it counts as open. */
int ks_vnode_get_open(struct ks_vfs *v, ks_ino_t ino, struct ks_vnode **out) KS_MUST_CHECK;
/* The last one of an inode without a name gives up the claim. Needs the data flushed. */
void ks_vnode_put_open(struct ks_vfs *v, struct ks_vnode *vn);
/*
 * Gives the vnode its file, or tells the file what the record @a says. *current (may be NULL): what is read from now on is as new as @a; false when data
 * that is not committed yet kept the file at an older version. Needs an open.
 */
int ks_vnode_attach(struct ks_vfs *v, struct ks_vnode *vn, const struct ks_attr *a,
		    bool *current) KS_MUST_CHECK;
/* The vnode of @ino if there is one with a file; unpin it. */
struct ks_vnode *ks_vnode_pin(struct ks_vfs *v, ks_ino_t ino);
void ks_vnode_unpin(struct ks_vfs *v, struct ks_vnode *vn);
void ks_vnode_add_handle(struct ks_vfs *v, struct ks_vnode *vn, struct ks_fh *fh);
void ks_vnode_del_handle(struct ks_vfs *v, struct ks_vnode *vn, struct ks_fh *fh);
/* Whether the inode has a name is known from its record. Nothing when it is not open. */
void ks_vnode_set_unlinked(struct ks_vfs *v, const struct ks_attr *a);
/* It has no name, and is not kept in the trash: nobody but those who have it open can ever see it. */
bool ks_vnode_is_unlinked(struct ks_vfs *v, struct ks_vnode *vn);
/* The same, and the caller's open is the only one: nobody can see any more what was written. */
bool ks_vnode_is_doomed(struct ks_vfs *v, struct ks_vnode *vn);
/* Mode, flags or xattrs changed: the next write looks again. */
void ks_vnode_set_priv(struct ks_vfs *v, ks_ino_t ino);
bool ks_vnode_take_priv(struct ks_vfs *v, struct ks_vnode *vn);
bool ks_vnode_is_open(void *vfs, ks_ino_t ino);
int ks_vnode_each_open(void *vfs, void (*fn)(void *fn_arg, ks_ino_t ino),
		       void *fn_arg) KS_MUST_CHECK;
int ks_vnode_forget_maps(void *vfs) KS_MUST_CHECK;
/* One handle that is still open, or NULL; for closing the vfs. */
struct ks_fh *ks_vnode_any_handle(struct ks_vfs *v);
uint64_t ks_vnode_count(struct ks_vfs *v);

/* ---- name.c ---- */

int ks_vfs_may_change(struct ks_vfs *v, ks_ino_t parent, const char *name, bool make) KS_MUST_CHECK;
void ks_vfs_lost_name(struct ks_vfs *v, const struct ks_attr *a); /* @a lost a name */

/* ---- seen.c ---- */

int ks_seen_init(struct ks_vfs *v) KS_MUST_CHECK;
void ks_seen_destroy(struct ks_vfs *v);
bool ks_seen_is(struct ks_vfs *v, ks_ino_t ino, uint64_t change);
void ks_seen_set(struct ks_vfs *v, ks_ino_t ino, uint64_t change);
void ks_seen_own(struct ks_vfs *v, ks_ino_t ino, uint64_t change);

/* ---- attr.c ---- */

int ks_vfs_record(struct ks_vfs *v, ks_ino_t ino,
		  struct ks_attr *out) KS_MUST_CHECK; /* committed; -ESTALE */
/* So many dirty bytes are stored although it must not block: handing it to another thread and back would take longer. */
#define KS_FLUSH_HERE (512 * KS_KIB)
/* Has the inode more than that to store? */
bool ks_vfs_flush_waits(struct ks_vfs *v, ks_ino_t ino);
int ks_vfs_overlay(struct ks_vfs *v, struct ks_attr *a) KS_MUST_CHECK;
int ks_vfs_check_name(const char *name) KS_MUST_CHECK;
/* ks_meta_setattr() of a size, past whoever has the inode open. */
int ks_vfs_resize(struct ks_vfs *v, ks_ino_t ino, uint32_t set, const struct ks_attr *in,
		  struct ks_attr *out) KS_MUST_CHECK;

/* File capabilities go with setuid. @a: the inode as it is now. */
int ks_vfs_drop_caps(struct ks_vfs *v, const struct ks_attr *a) KS_MUST_CHECK;

/*
 * Inodes that this process deleted although somebody may still look at them through a descriptor or a working directory: removed directories,
 * FIFOs, sockets. Their last attributes are kept for a while; a bounded table, the newest wins.
 */
void ks_ghost_add(struct ks_vfs *v, const struct ks_attr *a);
bool ks_ghost_find(struct ks_vfs *v, ks_ino_t ino, struct ks_attr *out);

/* ---- virtual.c ---- */

/* Is it an inode of the hidden directory? One comparison. */
static inline bool ks_is_virtual(const struct ks_vfs *v, ks_ino_t ino)
{
	return ks_ino_is_virtual(ino) && v->virt;
}
/* Is @name in @parent the hidden directory? */
static inline bool ks_is_virtual_root(const struct ks_vfs *v, ks_ino_t parent, const char *name)
{
	return parent == v->root && name[0] == '.' && v->virt && strcmp(name, KS_VIRTUAL_NAME) == 0;
}
/* May a name be made or removed there? 0; -EPERM, or with @make -EEXIST. */
int ks_virtual_may_change(const struct ks_vfs *v, ks_ino_t parent, const char *name,
			  bool make) KS_MUST_CHECK;
/* These are for the inodes of the hidden directory, and for its root by name. */
int ks_virtual_lookup(struct ks_vfs *v, ks_ino_t parent, const char *name,
		      struct ks_attr *out) KS_MUST_CHECK;
int ks_virtual_getattr(struct ks_vfs *v, ks_ino_t ino, struct ks_attr *out) KS_MUST_CHECK;
int ks_virtual_open(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, int flags,
		    struct ks_fh **out, struct ks_open_how *how) KS_MUST_CHECK;
ssize_t ks_virtual_read(struct ks_fh *fh, uint64_t off, void *p, size_t n) KS_MUST_CHECK;
void ks_virtual_release(struct ks_vfs *v, struct ks_virtual_fh *vf);
int ks_virtual_readdir(struct ks_fh *fh, uint64_t off, bool plus, ks_dir_fn *fn,
		       void *arg) KS_MUST_CHECK;
void ks_virtual_free(struct ks_virtual *virt); /* NULL is fine */

/* ---- accesslog.c ---- */

struct ks_accesslog {
	unsigned int
		on; /* [mu] readers and taps; atomic, read without the lock by who makes lines */
	unsigned int streams; /* [mu] readers; atomic */
	bool ended;           /* [mu] for readers */
	pthread_mutex_t mu;
	struct ks_list readers;    /* [mu] */
	void (*notify)(void *arg); /* set while nothing runs */
	void *notify_arg;
};

void ks_accesslog_init(struct ks_accesslog *log);
void ks_accesslog_destroy(struct ks_accesslog *log); /* readers are closed */
int ks_accesslog_open(struct ks_accesslog *log, struct ks_log_reader **out) KS_MUST_CHECK;
void ks_accesslog_close(struct ks_accesslog *log, struct ks_log_reader *r);
ssize_t ks_accesslog_read(struct ks_accesslog *log, struct ks_log_reader *r, void *p,
			  size_t n) KS_MUST_CHECK;
void ks_accesslog_add(struct ks_accesslog *log, const char *line, size_t n);
void ks_accesslog_end(struct ks_accesslog *log);
/* As the functions of the same name in vfs.h. */
int ks_accesslog_tap(struct ks_accesslog *log, struct ks_log_reader **out) KS_MUST_CHECK;
size_t ks_accesslog_take(struct ks_accesslog *log, struct ks_log_reader *r, char *p, size_t n);
void ks_accesslog_tap_end(struct ks_accesslog *log, struct ks_log_reader *r);
void ks_accesslog_untap(struct ks_accesslog *log, struct ks_log_reader *r);

/* ---- file.c ---- */

/* A handle without a vnode, in the list of directories. */
struct ks_fh *ks_fh_new_bare(struct ks_vfs *v, const struct ks_attr *a, int flags);

/* Before the content changes: setuid, setgid and file capabilities do not survive that. -EPERM: immutable since it was opened. */
int ks_fh_clear_priv(struct ks_fh *fh, const struct ks_ctx *c) KS_MUST_CHECK;

/* ---- sync.c ---- */

void ks_unsynced_add(struct ks_vfs *v, ks_ino_t ino, uint64_t bytes);
bool ks_unsynced_has(struct ks_vfs *v, ks_ino_t ino);
bool ks_unsynced_any(struct ks_vfs *v);
int ks_store_sync(struct ks_vfs *v) KS_MUST_CHECK;
/* What other processes have committed of the inode is cared for by the next sync, too; *any: there was something. */
int ks_adopt_foreign(struct ks_vfs *v, ks_ino_t ino, bool *any) KS_MUST_CHECK;
void ks_maint_stop(struct ks_vfs *v);

/* ---- compact.c ---- */

int ks_compactor_init(struct ks_compactor *c) KS_MUST_CHECK;
void ks_compactor_destroy(struct ks_compactor *c);
int ks_compactor_start(struct ks_vfs *v) KS_MUST_CHECK;
void ks_compactor_stop(struct ks_vfs *v);
/* A chunk has @more slices than before, or @all were seen: perhaps it is to be compacted. A leaf lock. */
void ks_compact_note(struct ks_vfs *v, ks_ino_t ino, uint64_t chunk, uint32_t more, uint32_t all);

/* ---- packs.c ---- */

/*
 * One bounded step towards giving the space of dead small files back; reads at most about @budget bytes of packs. 1: there is more to do; 0: a round over all packs is
 * done. For the maintenance thread, or for tests without one.
 */
int ks_packs_step(struct ks_vfs *v, uint64_t budget) KS_MUST_CHECK;

static inline struct ks_fh *ks_fh_check(struct ks_fh *fh)
{
	assert(fh && fh->magic == KS_FH_MAGIC);
	return fh;
}

#endif
