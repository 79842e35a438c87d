/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfs.h: a file system in one process: metadata and data joined, open files, the dirty overlay. No FUSE types. The FUSE adapter, kiseki-cp and the
 * tests drive the same functions.
 *
 * Every operation runs to completion in the calling thread. With KS_VFS_NOBLOCK in the context it is a try: -EWOULDBLOCK means that it would have had to wait
 * (for a store, a lock, a full pool, the disk) and has changed nothing; the caller runs the whole request again on a thread that may block.
 */
#ifndef KS_VFS_VFS_H
#define KS_VFS_VFS_H

#include "data/data.h"
#include "meta/meta.h"

struct ks_vfs;
struct ks_fh; /* an open file or directory */

struct ks_ctx {
	struct ks_cred cred;
	unsigned int flags; /* KS_VFS_* */
};
enum {
	KS_VFS_NOBLOCK = 1 << 0,
	KS_VFS_PAGES =
		1
		<< 1, /* a write of what a memory mapping holds: it was allowed when it was made */
};

struct ks_vfs_opts {
	struct ks_meta *meta;     /* owned by the vfs from a successful open on */
	struct ks_object *store;  /* likewise */
	struct ks_data_opts data; /* store and host are filled in */
	ks_ino_t root;            /* KS_ROOT_INO, or the directory of a subtree mount */
	bool readonly;
};

/*
 * ks_meta needs its hooks before it is opened and the vfs needs the meta: so the vfs supplies them first.
 *	ks_vfs_new(&v); opts.hooks = ks_vfs_hooks(v); ks_meta_open(&m, url, &opts); ks_vfs_start(v, &o);
 */
int ks_vfs_new(struct ks_vfs **out) KS_MUST_CHECK;
struct ks_meta_hooks ks_vfs_hooks(struct ks_vfs *v);
int ks_vfs_start(struct ks_vfs *v, const struct ks_vfs_opts *o)
	KS_MUST_CHECK; /* on failure meta and store stay the caller's */
/* Flushes everything, frees. Returns the first error of the flush. All handles are released by it. */
int ks_vfs_close(struct ks_vfs *v);
struct ks_meta *ks_vfs_meta(struct ks_vfs *v);
struct ks_data *ks_vfs_data(struct ks_vfs *v);
struct ks_object *ks_vfs_store(struct ks_vfs *v);
ks_ino_t ks_vfs_root(struct ks_vfs *v);

/* All that was stored so far, also by other processes of this machine, survives a power cut; the metadata that names it perhaps not yet. */
int ks_vfs_settle(struct ks_vfs *v) KS_MUST_CHECK;

/*
 * Starts what works in the background: a barrier every few seconds, and with @cleanup deletion of freed slices' objects, and compaction. After daemonising, after
 * ks_meta_session_start().
 */
int ks_vfs_start_maintenance(struct ks_vfs *v, bool cleanup) KS_MUST_CHECK;

struct ks_statfs {
	uint64_t total_bytes, free_bytes, used_bytes;
	uint64_t inodes_max, inodes; /* inodes_max: 0 no limit */
};
int ks_vfs_statfs(struct ks_vfs *v, struct ks_statfs *out) KS_MUST_CHECK;

/* Attributes come with the dirty overlay applied: size and mtime of what is written but not committed. Node ids are inode numbers; forget needs no call. */
int ks_vfs_lookup(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  struct ks_attr *out) KS_MUST_CHECK; /* ".." too */
int ks_vfs_getattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino,
		   struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_setattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, uint32_t set,
		   const struct ks_attr *in, struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_readlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino,
		    struct ks_buf *out) KS_MUST_CHECK;
int ks_vfs_mknod(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		 uint32_t mode, uint32_t rdev, struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_mkdir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		 uint32_t mode, struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_symlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		   const char *target, struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_link(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, ks_ino_t newparent,
		const char *newname, struct ks_attr *out) KS_MUST_CHECK;
int ks_vfs_unlink(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent,
		  const char *name) KS_MUST_CHECK;
int ks_vfs_rmdir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent,
		 const char *name) KS_MUST_CHECK;
int ks_vfs_rename(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  ks_ino_t newparent, const char *newname, unsigned int flags) KS_MUST_CHECK;

int ks_vfs_setxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, const char *name,
		    const void *value, size_t n, int flags) KS_MUST_CHECK;
int ks_vfs_getxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, const char *name,
		    struct ks_buf *out) KS_MUST_CHECK;
int ks_vfs_listxattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino,
		     struct ks_buf *out) KS_MUST_CHECK;
int ks_vfs_removexattr(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino,
		       const char *name) KS_MUST_CHECK;

/* ---- many entries at once ---- */

/* The contents of small files until they are stored: whole records of a pack, one behind the other, in memory of the caller's. */
struct ks_pack_run {
	uint8_t *p;
	size_t n, cap;
};
#define KS_RUN_FILE_MAX (256 * KS_KIB)
/* Where @len bytes of content go, which count once they are taken. NULL: no room. */
void *ks_run_room(struct ks_pack_run *run, size_t len);
void ks_run_take(struct ks_pack_run *run, size_t len);
/**
 * ks_vfs_make() - make up to KS_MAKE_MAX entries, each whole (see ks_meta_make())
 * @run: the contents of those that are new regular files and not empty, in their order
 *
 * Fills in attr.ino of new ones, and the content. Return: 0, see err of each; -errno: some may be made, and err is not set.
 */
int ks_vfs_make(struct ks_vfs *v, const struct ks_ctx *c, struct ks_make *m, size_t n,
		struct ks_pack_run *run) KS_MUST_CHECK;
bool ks_vfs_can_make(const struct ks_vfs *v); /* files with content: the store can append */

/*
 * The same in steps, for who has many batches: one sync of the store serves all that were begun before it, and others are filled meanwhile.
 *
 *	begin	stores the contents; @run is free again. @m, with its strings, stays the caller's, and has to stay until the end
 *	settle	makes the contents of several durable
 *	end	gives them their names, as ks_vfs_make(); settles what is not settled. Frees @g
 *	drop	instead of end: nothing has happened. NULL is fine
 *
 * Any thread for each step, one at a time for one batch.
 */
struct ks_making;
int ks_vfs_make_begin(struct ks_vfs *v, struct ks_make *m, size_t n, struct ks_pack_run *run,
		      struct ks_making **out) KS_MUST_CHECK;
int ks_vfs_make_settle(struct ks_vfs *v, struct ks_making *const *g, size_t n) KS_MUST_CHECK;
int ks_vfs_make_end(struct ks_vfs *v, const struct ks_ctx *c, struct ks_making *g) KS_MUST_CHECK;
void ks_vfs_make_drop(struct ks_making *g);

/*
 * The other way: those of up to KS_WHOLE_MAX files that can be read at once (see ks_meta_whole()), and the content of one, attr.size bytes, checked. -EAGAIN: it is to be opened
 * and read, which says what is the matter. For who reads many small files that nobody in this process writes.
 */
int ks_vfs_whole(struct ks_vfs *v, struct ks_whole *w, size_t n) KS_MUST_CHECK;
int ks_vfs_read_whole(struct ks_vfs *v, const struct ks_whole *w, void *p) KS_MUST_CHECK;

/* ---- files ---- */

struct ks_open_how {
	bool keep_cache; /* out: what the kernel has cached of this file is still right (change counter unmoved) */
	bool direct_io; /* out: opened write-only: bypass the page cache */
	bool made_up;   /* out: of the hidden directory: always bypass it, a size is not known */
	bool stream;    /* out: no offsets: each read takes what comes next */
};
/* @flags: as open(2): access mode, O_APPEND, O_TRUNC (honoured: one commit), O_DIRECT. */
int ks_vfs_open(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino, int flags,
		struct ks_fh **out, struct ks_open_how *how) KS_MUST_CHECK;
int ks_vfs_create(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, const char *name,
		  uint32_t mode, int flags, struct ks_attr *attr, struct ks_fh **out,
		  struct ks_open_how *how) KS_MUST_CHECK;
int ks_vfs_tmpfile(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t parent, uint32_t mode,
		   int flags, struct ks_attr *attr, struct ks_fh **out) KS_MUST_CHECK;
ssize_t ks_vfs_read(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, void *p,
		    size_t n) KS_MUST_CHECK;
ssize_t ks_vfs_write(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, const void *p,
		     size_t n) KS_MUST_CHECK;
/* close(2) of one descriptor: what this handle wrote is committed and visible everywhere. */
int ks_vfs_flush(struct ks_fh *fh, const struct ks_ctx *c) KS_MUST_CHECK;
/* Survives a power cut: data, then metadata. */
int ks_vfs_fsync(struct ks_fh *fh, const struct ks_ctx *c, bool datasync) KS_MUST_CHECK;
int ks_vfs_syncfs(struct ks_vfs *v) KS_MUST_CHECK;
/* The part of it that can be had ahead of time while much is written: objects that are stored become durable. */
int ks_vfs_sync_stored(struct ks_vfs *v) KS_MUST_CHECK;
void ks_vfs_release(struct ks_fh *fh);
int ks_vfs_fallocate(struct ks_fh *fh, const struct ks_ctx *c, int mode, uint64_t off,
		     uint64_t len) KS_MUST_CHECK; /* fallocate(2) modes */
int ks_vfs_seek(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, int whence,
		uint64_t *out) KS_MUST_CHECK; /* SEEK_DATA, SEEK_HOLE */
ssize_t ks_vfs_copy_range(struct ks_fh *src, uint64_t src_off, struct ks_fh *dst, uint64_t dst_off,
			  uint64_t n, const struct ks_ctx *c) KS_MUST_CHECK;
ks_ino_t ks_fh_ino(const struct ks_fh *fh);

/* ---- directories ---- */

int ks_vfs_opendir(struct ks_vfs *v, const struct ks_ctx *c, ks_ino_t ino,
		   struct ks_fh **out) KS_MUST_CHECK;
/*
 * Entries behind cookie @off (0: from the start, with "." and ".."). fn gets each entry's own cookie and, with @plus, attributes (overlay applied); returns
 * 1 when its buffer is full: that entry is not consumed. An entry whose hash equals the one before it comes with @glued: if it does not
 * fit, the caller drops the entries of that hash it already took.
 */
typedef int ks_dir_fn(void *arg, const char *name, size_t namelen, uint64_t cookie, ks_ino_t ino,
		      uint32_t dtype, const struct ks_attr *attr, bool glued);
int ks_vfs_readdir(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, bool plus, ks_dir_fn *fn,
		   void *arg) KS_MUST_CHECK;

/* Resolves a path from the vfs's root, for tools; symlinks are followed except, without @follow, the last. */
int ks_vfs_resolve(struct ks_vfs *v, const struct ks_ctx *c, const char *path, bool follow,
		   struct ks_attr *out) KS_MUST_CHECK;

/* ---- compaction: chunks of many slices, packs with little alive in them ---- */

struct ks_compact_opts {
	uint32_t min_slices; /* a chunk with fewer is left as it is */
	uint32_t min_gain;   /* percent fewer slices, or bytes of them */
	bool dry_run;
	bool (*stop)(void *arg); /* asked now and then, also while a chunk is copied; may be NULL */
	void *arg;
};
struct ks_compact_result {
	bool worth;             /* there is something to do; at the end: it was done */
	uint32_t before, after; /* slices: as they would be; then as they are */
	uint32_t extents;       /* as they are */
	uint64_t bytes;         /* copied */
};
struct ks_compact_job; /* copies of what a chunk consists of, not committed yet */
/*
 * Looks at a chunk, and copies what is worth it. *out NULL: nothing is to be done. -EINTR stopped; -EIO and -EBADMSG its data or metadata is damaged: it stays as it is; errors
 * of the store. Several threads may work on one volume, several processes too.
 */
int ks_vfs_compact_begin(struct ks_vfs *v, ks_ino_t ino, uint64_t chunk,
			 const struct ks_compact_opts *o, struct ks_compact_job **out,
			 struct ks_compact_result *r) KS_MUST_CHECK;
/* Makes the copies durable, once for all of them, and commits each by itself. Frees the jobs. r[i]: of jobs[i], what was done; untouched behind an error. */
int ks_vfs_compact_end(struct ks_vfs *v, struct ks_compact_job *const *jobs, size_t n,
		       struct ks_compact_result *r) KS_MUST_CHECK;
/* @undo: what was copied is deleted. NULL is fine. */
void ks_compact_job_free(struct ks_vfs *v, struct ks_compact_job *j, bool undo);

struct ks_packs_gain {
	uint64_t packs, bytes; /* that went, or would; what they occupied */
	uint64_t copied;       /* bytes that live, and were copied to other packs */
};
/*
 * Rewrites packs with little alive in them, and drops those that are dead, of this process and of processes that are gone. Not beside
 * ks_vfs_start_maintenance(), which does the same. @stop as above; -EINTR.
 */
int ks_vfs_packs_reclaim(struct ks_vfs *v, bool dry_run, bool (*stop)(void *arg), void *arg,
			 struct ks_packs_gain *out) KS_MUST_CHECK;

struct ks_vfs_stats {
	uint64_t open_files, vnodes;
	uint64_t compactions, compacted_bytes; /* of chunks in the background; copied for it */
	struct ks_data_stats data;
	struct ks_engine_stats engine;
	struct ks_object_stats store;
};
void ks_vfs_stats(struct ks_vfs *v, struct ks_vfs_stats *out);

/* The statistics one by one, as people and programs are shown them: the only list of their names. */
struct ks_counter {
	const char *name; /* "upload_bytes" */
	const char *help;
	bool bytes; /* its unit */
	bool grows; /* only ever, until the process ends */
	uint64_t value;
};
typedef void ks_counter_fn(void *arg, const struct ks_counter *counter);
void ks_vfs_counters(struct ks_vfs *v, ks_counter_fn *fn, void *arg);
/* The @i-th of the list without a value. False: there are no more. */
bool ks_vfs_counter(size_t i, struct ks_counter *out);

/* ---- the hidden directory of a mount ---- */

/*
 * .kiseki at the root of the vfs, once it was asked for: never listed, found by name, changed by nobody. It hides an entry of that name. What its files say is
 * made when one is opened, by whoever knows.
 */
#define KS_VIRTUAL_NAME ".kiseki"
enum ks_virtual_file { KS_VIRTUAL_STATS, KS_VIRTUAL_METRICS, KS_VIRTUAL_CONFIG };
struct ks_virtual_opts {
	uid_t uid; /* the owner, who alone may look */
	gid_t gid;
	/* Appends the whole text. Any thread. */
	int (*text)(void *arg, enum ks_virtual_file file, struct ks_buf *out);
	void *arg;
};
int ks_vfs_start_virtual(struct ks_vfs *v, const struct ks_virtual_opts *o)
	KS_MUST_CHECK; /* before the first operation */

/*
 * Its file accesslog is a stream of lines about operations, made by whoever serves them while *ks_vfs_log_readers() (read it relaxed) is not 0: files that are
 * open, and taps.
 * A read that finds nothing is -EAGAIN; @fn is called, by any thread and with no lock held, whenever another try may find something.
 */
#define KS_LOG_READERS 4 /* files at one time; then an open is -EBUSY */
const unsigned int *ks_vfs_log_readers(const struct ks_vfs *v);
bool ks_vfs_log_is_open(const struct ks_vfs *v);               /* a file of it is */
void ks_vfs_log(struct ks_vfs *v, const char *line, size_t n); /* with its newline */
void ks_vfs_log_end(struct ks_vfs *v); /* who has read everything is at the end of the file */
/* Before the first operation; NULL when there are no more. */
void ks_vfs_log_notify(struct ks_vfs *v, void (*fn)(void *arg), void *arg);
bool ks_fh_is_stream(const struct ks_fh *fh);

/*
 * A tap gives the same lines to a thread of this process. It keeps no file open, and the end above is not its end: what is done after it is told as well. One
 * thread takes; another may say that it is over.
 */
struct ks_log_reader;
#define KS_LOG_TAKE_MIN ((size_t)8192) /* longer than any line */
/* -EINVAL: there is no hidden directory. */
int ks_vfs_log_tap(struct ks_vfs *v, struct ks_log_reader **out) KS_MUST_CHECK;
/* Waits for a line, and a moment for more. Whole lines, at most @n bytes (KS_LOG_TAKE_MIN or more); 0: it is over, and all have been taken. */
size_t ks_vfs_log_take(struct ks_vfs *v, struct ks_log_reader *r, char *p, size_t n);
void ks_vfs_log_tap_end(struct ks_vfs *v, struct ks_log_reader *r); /* nothing is waited for */
void ks_vfs_log_untap(struct ks_vfs *v, struct ks_log_reader *r);   /* frees */

/* An inode that only a hidden directory has. Operations on it are not worth a line, and reading the log would make it longer. */
static inline bool ks_ino_is_virtual(ks_ino_t ino)
{
	return ino - (KS_ROOT_INO + 1) < 16 - (KS_ROOT_INO + 1);
}

#endif
