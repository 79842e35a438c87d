/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.h: a volume's metadata with POSIX semantics, written once over engine.h.
 *
 * Permissions are the kernel's business (default_permissions) and the tools' (they own the database); what an operation itself must do is done here: setgid
 * inheritance, link counts, times, sticky bits are checked by the caller.
 *
 * Threads: every function, from any thread. Errors: negative errno; the expected ones stand with each function and are bare, others are raised.
 * Names are any 1..255 bytes without '/' and NUL, never "." or "..".
 */
#ifndef KS_META_META_H
#define KS_META_META_H

#include "base/slice.h"
#include "meta/engine.h"
#include <sys/stat.h>

struct ks_meta;

typedef uint64_t ks_ino_t;

/* What the rest of the program sees of an inode is the record itself. */
#define ks_attr ks_rec_inode

struct ks_cred {
	uint32_t uid;
	uint32_t gid;
	uint32_t pid;
	uint32_t umask;
};

/* ---- the volume's settings: records of KS_T_SETTING, fixed at format unless said otherwise ---- */

struct ks_volume_settings {
	char name[64];
	uint8_t uuid[16];
	uint32_t format_version;              /* 1 */
	uint64_t compat, ro_compat, incompat; /* feature bits, see doc/format.md */
	uint64_t block_size;
	char data_url[1024];     /* as stored: may be relative to the database ("meta.blocks/") */
	uint64_t capacity_bytes; /* 0: no quota; may change */
	uint64_t inodes_max;     /* 0: no quota; may change */
	int64_t trash_ns;        /* kept for the trash; may change */
	char compress[16];       /* "none" */
	int64_t created_ns;
	char created_by[64];  /* "kiseki 0.1.0" */
	uint8_t hash_key[16]; /* of dentry hashes */
	/* Which of several metadata over the same data this is: what the data's marker says owns it. 0: the first, and no setting. */
	uint8_t owner[16];
	bool destroying; /* its end was begun: ks_meta_doom() */
};

struct ks_session_info { /* NUL-terminated copies; empty when unknown */
	uint64_t id;
	uint64_t generation, epoch;
	int64_t start_ns, heartbeat_ns;
	uint32_t pid, kind;
	char host[256], tool[64], mountpoint[1024], socket[256], version[64];
	uint64_t low; /* its slices below this number survive a power cut */
	bool dead;    /* its lock is not held by anybody */
	bool this_boot; /* it began since this machine was switched on: what it wrote the kernel still has */
};

struct ks_meta_hooks {
	/* Is this inode open in this process? Called inside a transaction, perhaps on another thread; takes no lock that is held around a meta call. */
	bool (*is_open)(void *arg, ks_ino_t ino);
	/* Collects the open inodes of this process for the heartbeat: calls fn for each. Only called by the heartbeat and ks_meta_tick(). 0 or -errno: not all. */
	int (*each_open)(void *arg, void (*fn)(void *fn_arg, ks_ino_t ino), void *fn_arg);
	/*
	 * Forgets every chunk map that was read before the call. Called by the heartbeat before this session passes an epoch, after which what those maps
	 * named may be deleted. Only called by the heartbeat and ks_meta_tick(), outside transactions. 0 or -errno: not all. NULL: none are kept.
	 */
	int (*forget_maps)(void *arg);
	void *arg;
	/*
	 * A session has died. Makes good what it left: 0, it may be forgotten; 1, that cannot be done here, and it stays for others; -errno. Called outside transactions,
	 * by the heartbeat, ks_meta_tick() and ks_meta_session_start(). NULL: there is never anything to be done.
	 */
	int (*died)(void *died_arg, const struct ks_session_info *s);
	void *died_arg;
};

struct ks_meta_opts {
	bool readonly;
	bool snapshot; /* everything is as it was at the open; readonly too (engine.h) */
	int64_t busy_timeout_ns;
	uint64_t mmap_bytes;
	struct ks_meta_hooks hooks; /* zero: nothing is ever open */
	bool relatime, noatime;     /* how ks_meta_touch_atime behaves; both false: strict */
};

/**
 * ks_meta_format() - make a new volume: schema, settings, root directory (mode 0755, owner uid:gid)
 * Return: 0; -EEXIST a volume is there; raised otherwise.
 */
int ks_meta_format(const char *url, const struct ks_volume_settings *s, uint32_t uid,
		   uint32_t gid) KS_MUST_CHECK;
/* Return: 0; -ENOENT no volume; -EPROTO the volume is newer than this program (text names both); -EBADMSG damaged. */
int ks_meta_open(struct ks_meta **out, const char *url, const struct ks_meta_opts *o) KS_MUST_CHECK;
void ks_meta_close(struct ks_meta *m); /* ends the session if one is open; NULL is fine */
const struct ks_volume_settings *ks_meta_settings(const struct ks_meta *m);
/* Changes those of capacity_bytes, inodes_max and trash_ns that are not what this process knows them to be. */
int ks_meta_settings_set(struct ks_meta *m, const struct ks_volume_settings *s) KS_MUST_CHECK;
struct ks_engine *ks_meta_engine(struct ks_meta *m); /* borrowed, for tests and statistics */
int ks_meta_sync(struct ks_meta *m) KS_MUST_CHECK;
/* The volume is going to be removed: kept in its settings, durably, so that nobody uses what is left of it. */
int ks_meta_doom(struct ks_meta *m) KS_MUST_CHECK;
/*
 * Removes the metadata itself: for SQLite the database and its lock files. Nobody may have it open, this process neither: -EBUSY somebody has; -ENOENT there is none; raised.
 * Not for metadata in memory, which is gone with who has it open.
 */
int ks_meta_remove_all(const char *url) KS_MUST_CHECK;
uint64_t ks_meta_sync_begin(struct ks_meta *m); /* the same in two halves (engine.h) */
int ks_meta_sync_end(struct ks_meta *m, uint64_t begun) KS_MUST_CHECK;
bool ks_meta_is_readonly(const struct ks_meta *m);
/* From now on nothing is written; before a session, and before other threads know of it. */
void ks_meta_make_readonly(struct ks_meta *m);

/* ---- when maintenance ended last: settings that are this database's, and in no dump ---- */

#define KS_SETTING_LAST "last." /* begins their names */

enum ks_tool { KS_TOOL_GC, KS_TOOL_COMPACT, KS_TOOL_FSCK, KS_TOOL_DUMP, KS_TOOLS };
extern const char *const ks_tool_names[KS_TOOLS]; /* "gc" */

struct ks_last {
	int64_t end_ns; /* 0: never, as far as is known */
	int code;       /* what the tool exited with, 0 to 255 */
};

/* One transaction; not durable by itself. -EROFS the metadata is open for reading. */
int ks_meta_last_set(struct ks_meta *m, enum ks_tool tool, const struct ks_last *l) KS_MUST_CHECK;
int ks_meta_last(struct ks_meta *m, struct ks_last out[KS_TOOLS]) KS_MUST_CHECK;

/* ---- sessions ---- */

/*
 * Registers this process: a row, and for a SQLite volume an flock on LOCKS/session-ID that the kernel drops with the process. Starts the heartbeat
 * thread (one second: claims open inodes that lost their last name elsewhere, passes epochs, reaps dead sessions, frees
 * deleted inodes in bounded steps). Never before daemonising. On a read-only volume: does nothing, and nothing protects what is open.
 */
int ks_meta_session_start(struct ks_meta *m, uint32_t kind, const char *tool,
			  const char *mountpoint, const char *socket) KS_MUST_CHECK;
/* The session goes on without; no hook is called by it any more. Before what the hooks need is taken away. */
void ks_meta_heartbeat_stop(struct ks_meta *m);
void ks_meta_session_stop(struct ks_meta *m);
/* The same, but its record stays, as if the process had been killed. */
void ks_meta_session_leave(struct ks_meta *m);
uint64_t ks_meta_session_id(const struct ks_meta *m); /* 0: none */
/*
 * Until the session ends, every object that metadata names now stays where it is, whatever others delete or rewrite: the session passes no epoch, and no
 * pack is dropped. Needs a session. Only for as long as a copy of the volume takes: no space comes back meanwhile.
 */
int ks_meta_hold(struct ks_meta *m) KS_MUST_CHECK;
/*
 * What the heartbeat does, once and now: dead sessions, epochs, claims, deleted inodes. For tests, for tools, and before a quota says no. Takes no longer than about
 * @budget_ns (0: until nothing is left to do now).
 */
int ks_meta_tick(struct ks_meta *m, int64_t budget_ns) KS_MUST_CHECK;
/* Of that only the dead sessions. @lost_only: those that another boot of a machine ended, or another machine's. */
int ks_meta_bury(struct ks_meta *m, bool lost_only) KS_MUST_CHECK;
/*
 * Keeps every other process that writes the volume out (SQLite: LOCKS/volume, where each of them holds a shared lock for as long as it is open). -EBUSY: somebody
 * has it open. Closing gives it up.
 */
int ks_meta_lock_exclusive(struct ks_meta *m) KS_MUST_CHECK;
void ks_meta_unlock_exclusive(struct ks_meta *m);
int ks_meta_sessions(struct ks_meta *m, int (*fn)(void *arg, const struct ks_session_info *s),
		     void *arg) KS_MUST_CHECK;

/* ---- reads: one round trip each ---- */

int ks_meta_lookup(struct ks_meta *m, ks_ino_t parent, const char *name,
		   struct ks_attr *out) KS_MUST_CHECK; /* -ENOENT */
int ks_meta_getattr(struct ks_meta *m, ks_ino_t ino,
		    struct ks_attr *out) KS_MUST_CHECK; /* -ENOENT (ESTALE is the caller's) */
int ks_meta_readlink(struct ks_meta *m, ks_ino_t ino,
		     struct ks_buf *out) KS_MUST_CHECK; /* -EINVAL not a symlink */
/*
 * Entries whose hash is greater than @after, in hash order, without "." and "..". @plus: with attributes (else attr is NULL). fn returns 1 to stop.
 * @limit bounds how many are read in the trip (0: 1024); the names of one hash always come together. Returns 0; *eof says whether the directory ended.
 */
typedef int ks_readdir_fn(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr);
int ks_meta_readdir(struct ks_meta *m, ks_ino_t dir, uint64_t after, bool plus, uint64_t limit,
		    ks_readdir_fn *fn, void *arg, bool *eof) KS_MUST_CHECK;
int ks_meta_getxattr(struct ks_meta *m, ks_ino_t ino, const char *name,
		     struct ks_buf *out) KS_MUST_CHECK; /* -ENODATA */
int ks_meta_listxattr(struct ks_meta *m, ks_ino_t ino,
		      struct ks_buf *out) KS_MUST_CHECK; /* names, each with its NUL */

struct ks_meta_usage {
	uint64_t used_bytes, inodes;
	uint64_t capacity_bytes,
		inodes_max; /* the quotas now, 0: none; another process may have changed them */
};
int ks_meta_usage(struct ks_meta *m, struct ks_meta_usage *out) KS_MUST_CHECK;

/* ---- changes: at most two round trips each; *out is the inode afterwards ---- */

enum {
	KS_SET_MODE = 1 << 0,
	KS_SET_UID = 1 << 1,
	KS_SET_GID = 1 << 2,
	KS_SET_SIZE = 1 << 3, /* truncates or extends with a hole */
	KS_SET_ATIME = 1 << 4,
	KS_SET_MTIME = 1 << 5,
	KS_SET_ATIME_NOW = 1 << 6,
	KS_SET_MTIME_NOW = 1 << 7,
	KS_SET_CTIME = 1 << 8,
	KS_SET_FLAGS = 1 << 9,
	KS_SET_KILL_PRIV =
		1
		<< 10, /* drop setuid, and setgid where group-executable, as chown and writes do */
};
int ks_meta_setattr(struct ks_meta *m, ks_ino_t ino, uint32_t set, const struct ks_attr *in,
		    struct ks_attr *out)
	KS_MUST_CHECK; /* -ENOENT, -EPERM immutable, -EFBIG, -EISDIR size of a directory, -EINVAL */

/*
 * Makes any kind of inode. @mode: type and permissions as they were asked for: the directory's default ACL bounds them, or where it has none the umask of @c.
 * @target: of a symlink, else NULL. setgid and "no dump" are inherited from the directory.
 * -EEXIST, -ENOENT (parent gone), -ENOTDIR, -EMLINK, -ENOSPC and -EDQUOT (quota), -EPERM (immutable parent).
 */
int ks_meta_mknod(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, const char *name,
		  uint32_t mode, uint32_t rdev, const char *target,
		  struct ks_attr *out) KS_MUST_CHECK;
/* An inode without a name, claimed by this session, without which nothing keeps it (O_TMPFILE, and kiseki-cp, whose files appear whole). Give it one with ks_meta_link(). */
int ks_meta_mktmp(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, uint32_t mode,
		  struct ks_attr *out) KS_MUST_CHECK;
int ks_meta_link(struct ks_meta *m, ks_ino_t ino, ks_ino_t newparent, const char *newname,
		 struct ks_attr *out) KS_MUST_CHECK; /* -EPERM directory, -EMLINK, -EEXIST */
/* *out: the inode after it lost the name (nlink 0: deleted, or claimed when open). -EISDIR, -ENOENT, -EPERM. */
int ks_meta_unlink(struct ks_meta *m, ks_ino_t parent, const char *name,
		   struct ks_attr *out) KS_MUST_CHECK;
/* The directory's inode is gone at once, also for who has it open: *out is what it was, with nlink 0. */
int ks_meta_rmdir(struct ks_meta *m, ks_ino_t parent, const char *name,
		  struct ks_attr *out) KS_MUST_CHECK; /* -ENOTEMPTY, -ENOTDIR */

/* An entry that is to go, and what became of it. */
struct ks_remove {
	ks_ino_t parent;
	const char *name;
	bool dir;       /* as ks_meta_rmdir() does; else as ks_meta_unlink() */
	int err;        /* out: 0; what those two return */
	uint64_t bytes; /* out: size of a file that has no name any more */
};
#define KS_REMOVE_MAX 512u
/*
 * Removes up to KS_REMOVE_MAX entries, of any directories, in this order and mostly in one transaction; one that cannot go does not hold up the others. A directory
 * may follow what is in it. Return: 0, see err of each; -errno: some may be gone, and err is not set.
 */
int ks_meta_remove(struct ks_meta *m, struct ks_remove *v, size_t n) KS_MUST_CHECK;

enum {
	KS_MAKE_REPLACE =
		1 << 0, /* what has the name goes, unless it is a directory; else -EEXIST */
	KS_MAKE_NEW_DIR =
		1 << 1,         /* the caller made the directory: its names are taken to be free */
	KS_MAKE_MODE = 1 << 2,  /* the mode is attr's: neither umask nor default ACL has a say */
	KS_MAKE_OWNER = 1 << 3, /* the group is attr's, also in a setgid directory */
	KS_MAKE_LINK = 1 << 4,  /* no new inode: attr.ino, which may have names, gets this one */
	KS_MAKE_DURABLE =
		1
		<< 5, /* with LINK: not before what was written to it is durable (ks_vfs_make()) */
};
/* An entry that is to be, with all that belongs to it, and what became of it. No directories. */
struct ks_make {
	ks_ino_t parent;
	const char *name;
	unsigned int flags; /* KS_MAKE_* */
	uint32_t set; /* KS_SET_*: ATIME and MTIME (else: now); of a link MODE, UID and GID, too */
	struct ks_attr
		attr; /* ino (of a new one: ks_meta_new_ino()), mode, uid, gid, rdev, size, times */
	const char *target; /* of a symlink, else NULL */
	const struct ks_commit_slice
		*s; /* the content of a new file, stored; in order, not overlapping */
	size_t n;
	int err;                 /* out: 0; as ks_meta_mknod(), ks_meta_link(), and -EISDIR */
	struct ks_attr out;      /* out: the inode */
	struct ks_attr replaced; /* out: what lost the name; ino 0: nothing */
};
#define KS_MAKE_MAX 1024u
int ks_meta_new_ino(struct ks_meta *m, ks_ino_t *out) KS_MUST_CHECK; /* from a batch */
/*
 * Makes up to KS_MAKE_MAX entries, of any directories, mostly in one transaction; one that cannot be made does not hold up the others. Their data is
 * durable already: a name that is there after a power cut has its content, whatever it replaced. Return: 0, see err of each; -errno: some may be made, and err is not set.
 */
int ks_meta_make(struct ks_meta *m, const struct ks_cred *c, struct ks_make *v,
		 size_t n) KS_MUST_CHECK;

enum {
	KS_RENAME_NOREPLACE = 1,
	KS_RENAME_EXCHANGE = 2,
	KS_RENAME_WHITEOUT = 4
}; /* as renameat2(2) */
/*
 * *moved: the inode that now has the new name; *replaced: the one that lost it (ino 0: none). Ancestors are checked: -EINVAL for a directory into itself.
 * -EEXIST, -ENOTEMPTY, -EISDIR, -ENOTDIR, -ENOENT, -EXDEV never.
 */
int ks_meta_rename(struct ks_meta *m, const struct ks_cred *c, ks_ino_t parent, const char *name,
		   ks_ino_t newparent, const char *newname, unsigned int flags,
		   struct ks_attr *moved, struct ks_attr *replaced) KS_MUST_CHECK;

enum {
	KS_XATTR_CREATE = 1, /* as setxattr(2) */
	KS_XATTR_REPLACE = 2,
	KS_XATTR_KILL_SGID = 1 << 16, /* an access ACL: as a chmod by who is not in the group */
};
#define KS_ACL_ACCESS "system.posix_acl_access"
#define KS_ACL_DEFAULT "system.posix_acl_default"
/*
 * ACLs (acl.h) are judged, and kept with the mode: an access ACL sets its permissions, and is kept only if it says more than a mode can. -EINVAL not an ACL,
 * -EACCES a default ACL of what is no directory, -EOPNOTSUPP of a symlink.
 */
int ks_meta_setxattr(struct ks_meta *m, ks_ino_t ino, const char *name, const void *value, size_t n,
		     int flags) KS_MUST_CHECK; /* -EEXIST, -ENODATA, -E2BIG, -ERANGE */
int ks_meta_removexattr(struct ks_meta *m, ks_ino_t ino,
			const char *name) KS_MUST_CHECK; /* -ENODATA, but for ACLs */

/* Sets atime to now if the mode of the mount says so (relatime: only when older than mtime, ctime or a day). */
int ks_meta_touch_atime(struct ks_meta *m, const struct ks_attr *a) KS_MUST_CHECK;

/* Called when the last descriptor of an inode without a name is closed: gives up the claim; the data is freed in the background. */
int ks_meta_release(struct ks_meta *m, ks_ino_t ino) KS_MUST_CHECK;
/* Claims an inode that is found without a name while it is being opened. -ENOENT it is gone. */
int ks_meta_claim(struct ks_meta *m, ks_ino_t ino) KS_MUST_CHECK;

/* ---- file data ---- */

/* The newest-wins map of a chunk. One trip (a scan joined with its slices). Owned by the caller: ks_chunk_map_free(). -ENOENT: no such inode. */
int ks_meta_map(struct ks_meta *m, ks_ino_t ino, uint64_t chunk,
		struct ks_chunk_map **out) KS_MUST_CHECK;

int ks_meta_block(struct ks_meta *m, uint64_t slice, uint32_t idx,
		  struct ks_block_index *out) KS_MUST_CHECK;

#define KS_WHOLE_PAGES 4
#define KS_WHOLE_MAX 256u
/* A file whose whole content is one slice in a pack. */
struct ks_whole {
	ks_ino_t ino;        /* in */
	struct ks_attr attr; /* out; ino 0: there is no such file, or it is not like that */
	uint64_t slice, pack, off;
	uint32_t sums[KS_WHOLE_PAGES]; /* CRC-32C of each page */
};
/* For up to KS_WHOLE_MAX files, in one trip and one snapshot. */
int ks_meta_whole(struct ks_meta *m, struct ks_whole *v, size_t n) KS_MUST_CHECK;

int ks_meta_new_slice_id(struct ks_meta *m,
			 uint64_t *out) KS_MUST_CHECK; /* from a batch: mostly no trip */
int ks_meta_new_pack_id(struct ks_meta *m, uint64_t *out) KS_MUST_CHECK;

/*
 * Blocks, slices, extents, and the inode's size and times in one transaction, in the order given. @end: the file is at least this long now (0: no
 * change). @mtime_ns 0: now. @kill_priv: clear setuid as a write must. -ENOENT: the inode is gone; -EDQUOT and -ENOSPC of the quota.
 */
struct ks_commit {
	ks_ino_t ino;
	const struct ks_commit_slice *s;
	size_t n;
	uint64_t end;
	int64_t mtime_ns;
	bool kill_priv;
};
int ks_meta_commit(struct ks_meta *m, const struct ks_commit *c, struct ks_attr *out) KS_MUST_CHECK;

enum ks_falloc {
	KS_FALLOC_EXTEND,
	KS_FALLOC_PUNCH,
	KS_FALLOC_ZERO
}; /* EXTEND: only the size; nothing is reserved */
int ks_meta_fallocate(struct ks_meta *m, ks_ino_t ino, enum ks_falloc what, bool keep_size,
		      uint64_t off, uint64_t len, struct ks_attr *out) KS_MUST_CHECK;
/* Shares slices; both files' dirty data has been committed by the caller. *done: bytes shared; short when it reached src's end or a bound on one transaction. */
int ks_meta_copy_range(struct ks_meta *m, ks_ino_t src, uint64_t src_off, ks_ino_t dst,
		       uint64_t dst_off, uint64_t len, uint64_t *done,
		       struct ks_attr *out) KS_MUST_CHECK;
/* A file that is to be made with the content of another, and what became of it. */
struct ks_clone {
	ks_ino_t src, parent;
	const char *name;
	uint32_t mode, uid,
		gid; /* permissions; the group is the directory's where that is setgid, */
	bool own;    /* unless it is to be kept */
	bool times;  /* these; else now */
	int64_t atime_ns, mtime_ns;
	bool plain; /* not if the source has extended attributes or an ACL, which it would not have */
	int err; /* out: 0; -EEXIST; -EOPNOTSUPP not a plain case: ks_meta_copy_range() does it; as ks_meta_mknod() */
	ks_ino_t ino;   /* out */
	uint64_t bytes; /* out: its size */
};
#define KS_CLONE_MAX 256u
/*
 * Makes up to KS_CLONE_MAX files in one transaction; one that cannot be does not hold up the others. The sources' dirty data has been committed by the caller. Return: 0, see
 * err of each; -ENOSPC and -EDQUOT not all of them fit, and other errors: nothing was made.
 */
int ks_meta_clone(struct ks_meta *m, struct ks_clone *v, size_t n) KS_MUST_CHECK;
/* SEEK_DATA / SEEK_HOLE over what is committed, up to the file's size. -ENXIO past the end. */
int ks_meta_seek(struct ks_meta *m, ks_ino_t ino, uint64_t off, bool hole,
		 uint64_t *out) KS_MUST_CHECK;

/* ---- what survives a power cut (meta_durable.c) ---- */

/* Slices that get their number from now on have this one or a greater one, but for callers who are on their way to one. */
uint64_t ks_meta_next_slice(struct ks_meta *m);
/* All committed slices of this session below this number are on the disk. Any thread. */
void ks_meta_set_durable(struct ks_meta *m, uint64_t below);
/* Is this the only session of the volume, as far as the last heartbeat knows? */
bool ks_meta_is_alone(const struct ks_meta *m);
/* It is, for certain: nobody else has committed anything since it was known. */
bool ks_meta_is_quiet(struct ks_meta *m);
struct ks_free_item; /* below */
/* The slices of a file that other sessions have committed and that may not be on the disk yet. *v is owned by the caller. */
int ks_meta_unsettled(struct ks_meta *m, ks_ino_t ino, struct ks_free_item **v,
		      size_t *n) KS_MUST_CHECK;
/* Writes that down, if it is news. */
int ks_meta_save_durable(struct ks_meta *m) KS_MUST_CHECK;
/* Drops extents that are hidden by what is on the disk by now; their slices are freed. By one thread at a time. */
int ks_meta_trim(struct ks_meta *m) KS_MUST_CHECK;
/*
 * Takes slices that turned out not to be on the disk out of a chunk: what was there before them, or a hole, shows again. @slices: sorted. *undone: bytes of extents
 * that are gone.
 */
int ks_meta_undo(struct ks_meta *m, ks_ino_t ino, uint64_t chunk, const uint64_t *slices, size_t n,
		 uint64_t *undone) KS_MUST_CHECK;
/* Numbers of inodes, slices and packs may have been given out by commits that did not reach the disk: none of those is given out again. */
int ks_meta_skip_ids(struct ks_meta *m) KS_MUST_CHECK;

/* ---- compaction ---- */

enum {
	KS_PIECE_DEAD = 1,  /* less than half of its slice shows, and no other chunk refers to it */
	KS_PIECE_ALONE = 2, /* nothing else of its slice shows in this chunk */
};
/* What a chunk consists of, and what there is to be had by copying. */
struct ks_chunk_look {
	struct ks_chunk_map *map; /* what shows */
	uint8_t *is;              /* of each piece: KS_PIECE_* */
	uint32_t rows, slices;    /* extents in the database, and different slices of theirs */
	uint32_t light,
		light_slices; /* so many would do if what is hidden went; nothing is copied for it */
	uint64_t stored;      /* bytes of slices that only this chunk refers to */
	uint64_t hidden,
		wasted; /* of them, in slices that do not show; that do not show in dead ones */
};
/* One trip. -ENOENT: no such inode, or it has no name any more. */
int ks_meta_chunk_look(struct ks_meta *m, ks_ino_t ino, uint64_t chunk,
		       struct ks_chunk_look *out) KS_MUST_CHECK;
void ks_chunk_look_clear(struct ks_chunk_look *l); /* zeroed is fine */

struct ks_compact {
	ks_ino_t ino;
	uint64_t chunk;
	const struct ks_chunk_map *seen; /* what the new slices were copied from */
	const struct ks_commit_slice *s; /* durable copies */
	size_t n;                        /* 0: only what is hidden goes, and pieces are joined */
	const struct ks_copied
		*v; /* what they are copies of: ranges without holes, by position, disjoint */
	size_t nv;
	/* out */
	bool *used; /* of each new slice: it is there now; else its objects are the caller's */
	uint32_t before, after;               /* extents */
	uint32_t slices_before, slices_after; /* both pairs the same: nothing was changed */
};
/*
 * Makes a chunk consist of fewer extents or slices. A new slice takes the place of what it was copied from as far as the chunk still shows that; a chunk that would get more
 * extents keeps its slices. The inode's attributes and change counter stay: maps that were read before are right until they are forgotten. -ENOENT as
 * above. After another error it is not known whether anything was changed.
 */
int ks_meta_compact(struct ks_meta *m, struct ks_compact *c) KS_MUST_CHECK;

/* ---- deletion ---- */

/* One object that no metadata refers to any more and that every session has forgotten. */
struct ks_free_item {
	uint64_t slice;
	uint32_t len, block_size;
	uint64_t pack; /* not 0: only its share of the pack has become dead, nothing to delete */
};
/*
 * Up to @max slices that may be deleted now, in the order of their numbers, from the one behind *after on. *after becomes where the next call goes on, 0: there are no
 * more; NULL: from the first. The caller deletes their objects and then confirms; a crash between the two only repeats the deletion. Returns how many, or -errno.
 */
ssize_t ks_meta_free_list(struct ks_meta *m, uint64_t *after, struct ks_free_item *out,
			  size_t max) KS_MUST_CHECK;
int ks_meta_free_done(struct ks_meta *m, const struct ks_free_item *items, size_t n) KS_MUST_CHECK;
/* Frees extents of deleted inodes in steps of one bounded transaction. Returns 1 if there is more, 0 done. The heartbeat calls it. */
int ks_meta_reap(struct ks_meta *m) KS_MUST_CHECK;

/* ---- the trash: what lost its last name, one directory for each hour (UTC) since 1970 ---- */

/* Has no name, and is kept in the trash. */
static inline bool ks_is_trashed(const struct ks_attr *a)
{
	return a->nlink == 0 && a->parent != 0;
}

struct ks_trash_hour {
	uint64_t hour; /* since 1970 */
	ks_ino_t dir;
	uint64_t entries, bytes;
};
struct ks_trash_sum {
	uint64_t entries, bytes;
	uint64_t oldest_hour; /* that has entries; 0: none */
	uint64_t own;         /* inodes that the trash itself consists of, beside its entries */
};
/* "PARENT-INODE-NAME", numbers in decimal. */
#define KS_TRASH_NAME_MAX (KS_NAME_MAX + 42u)
struct ks_trash_entry {
	uint64_t hour;
	ks_ino_t dir;         /* of the hour */
	ks_ino_t parent, ino; /* the numbers of its directory and its own, when it was removed */
	struct ks_bytes name; /* of the entry */
	struct ks_bytes orig; /* the name it had, within @name */
	struct ks_attr attr;  /* ctime: when it was removed. A directory has another number now */
};
/* Zero: from the beginning. */
struct ks_trash_cursor {
	uint64_t hash;
	size_t n;
	char name[KS_TRASH_NAME_MAX];
};

/* From now on what this process removes is gone at once. Before other threads know of it. */
void ks_meta_no_trash(struct ks_meta *m);
/* Oldest first; one trip. fn returns 1 to stop. */
int ks_meta_trash_hours(struct ks_meta *m, int (*fn)(void *arg, const struct ks_trash_hour *h),
			void *arg) KS_MUST_CHECK;
int ks_meta_trash_sum(struct ks_meta *m, struct ks_trash_sum *out) KS_MUST_CHECK;
/* A stretch of an hour's entries, by their inodes, one trip. fn returns 1 to stop; what it gets lives until it returns. Return: 1 there is more; 0. */
int ks_meta_trash_list(struct ks_meta *m, const struct ks_trash_hour *h, struct ks_trash_cursor *c,
		       int (*fn)(void *arg, const struct ks_trash_entry *e),
		       void *arg) KS_MUST_CHECK;
/*
 * What has become of an inode that had the number @ino: *e is in the trash, its names lie in @name; or *moved: it was a directory, was restored, and has this number
 * now. One trip for each hour. -ENOENT neither.
 */
int ks_meta_trash_find(struct ks_meta *m, ks_ino_t ino, struct ks_trash_entry *e,
		       char name[KS_TRASH_NAME_MAX + 1], ks_ino_t *moved) KS_MUST_CHECK;
/* Out of the trash, into a directory that lives. -ESTALE it is not in the trash any more; -EEXIST; -ENOENT, -ENOTDIR, -EPERM, -EMLINK of the directory. */
int ks_meta_trash_restore(struct ks_meta *m, const struct ks_trash_entry *e, ks_ino_t newparent,
			  const char *newname, struct ks_attr *out) KS_MUST_CHECK;
/*
 * Frees some of what was removed in hours before @before_hour, oldest first, in one bounded transaction. What somebody has open lives until it is closed. @out: added
 * to. Return: 1 there is more; 0 done.
 */
int ks_meta_trash_purge(struct ks_meta *m, uint64_t before_hour,
			struct ks_trash_sum *out) KS_MUST_CHECK;
/* The same for what has been there longer than the volume keeps it. */
int ks_meta_trash_expire(struct ks_meta *m, struct ks_trash_sum *out) KS_MUST_CHECK;
/* The first hour that is not all older than @keep_ns. */
uint64_t ks_trash_hour_before(int64_t now, int64_t keep_ns);
#define KS_TRASH_HOUR_STR 14 /* "2026-11-21-20" */
void ks_trash_hour_format(uint64_t hour, char out[KS_TRASH_HOUR_STR]);
bool ks_trash_hour_parse(const char *name, size_t n, uint64_t *hour);
/* 0; 1 a note of a directory that was restored; -EINVAL. */
int ks_trash_name_parse(struct ks_bytes name, ks_ino_t *parent, ks_ino_t *ino,
			struct ks_bytes *orig);

/* ---- packs: objects that carry many small slices ---- */

struct ks_pack_info {
	uint64_t id;
	uint64_t session;      /* that made it; 0: unknown */
	bool alive;            /* that session lives; also this process's own */
	uint64_t size;         /* up to the last committed slice's end */
	uint64_t live, slices; /* freed slices count until ks_meta_free_done() */
};
/* Up to @max packs whose numbers are greater than @after, in their order. Returns how many, or -errno. */
ssize_t ks_meta_packs(struct ks_meta *m, uint64_t after, struct ks_pack_info *out,
		      size_t max) KS_MUST_CHECK;
/* Deletes the record if no slice lies in the pack. The object goes after a ks_meta_sync(). Only for packs that nobody appends to. */
int ks_meta_pack_drop(struct ks_meta *m, uint64_t id, bool *dropped) KS_MUST_CHECK;

#define KS_SLICE_PLACE_PAGES 4
struct ks_slice_place {
	uint64_t slice;
	uint64_t pack, pack_off; /* pack 0: it is gone, or lies in no pack */
	uint32_t len;
	uint32_t sums[KS_SLICE_PLACE_PAGES];
};
/* Where slices lie, in the order of @ids. */
int ks_meta_pack_slices(struct ks_meta *m, const uint64_t *ids, size_t n,
			struct ks_slice_place *out) KS_MUST_CHECK;

struct ks_slice_move {
	uint64_t slice;
	uint64_t pack, off;       /* where it lies */
	uint64_t to_pack, to_off; /* where its data lies too, durably */
	bool moved; /* out; false: it is not there any more, and nothing was changed */
};
/* Live bytes and counts go along; bounded transactions, so that after an error some may have moved. No extent changes, no change counter. */
int ks_meta_slices_move(struct ks_meta *m, struct ks_slice_move *v, size_t n) KS_MUST_CHECK;

#endif
