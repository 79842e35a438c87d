/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data.h: the content of files: write buffer, slices, blocks, reader, page cache, read-ahead.
 *
 * The life of a written byte. A write is cut at chunk edges (64 MiB); in each chunk it extends an open slice or starts one. A slice's bytes live in pages (64 KiB)
 * of a fixed pool. A block (4 MiB) that is full is uploaded while its slice still grows. A flush freezes the file's slices,
 * uploads what is left (small ones in the calling thread: no hop), and commits them in the order they were made, in one call to the host. Pages that were uploaded stay in the page cache.
 *
 * Reads see a snapshot: the chunk's map of committed slices, and the dirty slices over it; nothing is flushed for a read, no lock is held
 * during I/O. Every page that comes from a store is checked against its CRC-32C; a mismatch is -EIO, with the slice and page in the text.
 *
 * Data does not know metadata: ids, maps, checksums and commits come and go through struct ks_data_host.
 */
#ifndef KS_DATA_DATA_H
#define KS_DATA_DATA_H

#include "base/slice.h"
#include "object/object.h"

struct ks_data; /* the data plane of one open volume */
struct ks_file; /* the content of one inode, as long as anybody has it open */

struct ks_file_commit {
	uint64_t ino;
	const struct ks_commit_slice *s;
	size_t n;
	uint64_t end;     /* the file is at least this long; 0: no change */
	int64_t mtime_ns; /* of the last write */
};

/* Functions of the layer above; any thread, may block on the database, never call back into the same file. */
struct ks_data_host {
	int (*slice_id)(void *arg, uint64_t *id);
	int (*pack_id)(void *arg, uint64_t *id);
	int (*map)(void *arg, uint64_t ino, uint64_t chunk, struct ks_chunk_map **out);
	int (*block)(void *arg, uint64_t slice, uint32_t idx, struct ks_block_index *out);
	/* All or nothing. *change: the inode's change counter afterwards. -ENOENT: the inode is gone, the data is dropped without error. */
	int (*commit)(void *arg, const struct ks_file_commit *c, uint64_t *change);
	/* Optional. Nothing may be stored now: what is left of the disk is for deletions. */
	bool (*is_full)(void *arg);
	/* Optional. Data or hole at or after @off among what is committed, up to the committed size; -ENXIO: none. NULL: the maps are walked chunk by chunk. */
	int (*seek)(void *arg, uint64_t ino, uint64_t off, bool hole, uint64_t *out);
	void *arg;
};

struct ks_data_opts {
	struct ks_object *store; /* borrowed */
	struct ks_data_host host;
	uint32_t block_size;
	/* The pool: dirty, clean and read-ahead pages; default 256 MiB, at least 1 MiB. */
	uint64_t buffer_bytes;
	/* NULL: none; else an unlinked file of spill_bytes is mapped there as more pages for writers. */
	const char *spill_dir;
	uint64_t spill_bytes;
	uint64_t readahead_bytes; /* per stream; 0: default 16 MiB; UINT64_MAX: off */
	unsigned int uploads;     /* threads, default 4 */
	unsigned int downloads;   /* read-ahead threads, default 4 */
	int64_t flush_idle_ns;    /* a file not written to for so long is committed, default 1 s */
	int64_t flush_age_ns;     /* the oldest dirty byte is committed after, default 5 s */
	unsigned int open_slices; /* per chunk, default 8: more freezes the oldest */
	bool readonly;
	bool no_packs; /* small slices get objects of their own even where the store can append */
};

int ks_data_open(struct ks_data **out, const struct ks_data_opts *o) KS_MUST_CHECK;
/* Flushes what is dirty (errors are logged by file), stops the threads. All files are closed already. */
int ks_data_close(struct ks_data *d);

struct ks_data_stats {
	uint64_t pool_bytes, dirty_bytes, clean_bytes, free_bytes; /* of the pool */
	uint64_t uploads, upload_bytes, fetches, fetch_bytes;      /* with the store */
	uint64_t page_hits, page_misses, readahead_pages, readahead_unused;
	uint64_t commits, slices, waits; /* waits: writers that had to wait for a page */
};
void ks_data_stats(struct ks_data *d, struct ks_data_stats *out);
/* Would a write of @n bytes have to wait for memory now? A guess: others write too. */
bool ks_data_write_waits(struct ks_data *d, size_t n);
/*
 * The lowest number among slices that have one and are not committed yet. UINT64_MAX: there is none; 0: not known at this moment. A slice that was
 * committed may still count.
 */
uint64_t ks_data_lowest_slice(struct ks_data *d);
/* Commits every file's dirty data; the first error, after all were tried. */
int ks_data_flush_all(struct ks_data *d) KS_MUST_CHECK;

/**
 * ks_file_open() - content of an inode
 * @size, @change: from its record, now
 *
 * The caller keeps one ks_file per inode. Costs no I/O and starts no thread.
 */
int ks_file_open(struct ks_file **out, struct ks_data *d, uint64_t ino, uint64_t size,
		 uint64_t change) KS_MUST_CHECK;
/* Frees. Dirty data must have been flushed, or is dropped (an inode without a name). */
void ks_file_close(struct ks_file *f);

/* The record was read anew: if @change is not what this file knew, and it has nothing dirty, maps and size are replaced. */
void ks_file_refresh(struct ks_file *f, uint64_t size, uint64_t change);

/* Forgets the cached maps of committed slices: what they name may be deleted from now on. A read that is on its way asks again when it meets that. */
void ks_file_forget_maps(struct ks_file *f);

struct ks_file_state {
	uint64_t size;    /* what a reader would see */
	int64_t mtime_ns; /* of the last write not yet committed; 0: none */
	uint64_t change;  /* the newest counter this file knows */
	uint64_t dirty_bytes;
};
void ks_file_state(struct ks_file *f, struct ks_file_state *out);

/**
 * ks_file_write() - write bytes; memory only
 *
 * Locks its byte range against other writers. Waits when the pool is full. All or nothing up to 1 MiB; of a longer
 * write that fails a beginning may be there.
 * Return: 0; -EFBIG; when the pool is full and cannot be drained: the error of the store (-ENOSPC, -EIO ...).
 * Threads: any.
 */
int ks_file_write(struct ks_file *f, uint64_t off, const void *p, size_t n) KS_MUST_CHECK;

/* What one sequential reader is recognised by: one per open handle. Zeroed is valid. Its fields are data's. */
struct ks_stream {
	uint64_t next;   /* where the stream would go on */
	uint64_t ahead;  /* read-ahead has been asked for up to here */
	uint32_t window; /* bytes */
	uint32_t runs;   /* reads in sequence so far */
};

/**
 * ks_file_read() - read bytes as of now
 * @st: may be NULL
 * Return: bytes read, short only at the end of the file; -EIO damaged or missing, raised; -ENOMEM.
 */
ssize_t ks_file_read(struct ks_file *f, struct ks_stream *st, uint64_t off, void *p,
		     size_t n) KS_MUST_CHECK;

/*
 * Everything written before the call is uploaded and committed. Concurrent callers share the work. On failure the data stays dirty and the next flush tries again: errors
 * are not sticky. One error is reported once to each caller that flushed.
 */
int ks_file_flush(struct ks_file *f) KS_MUST_CHECK;

/*
 * ks_file_exclusive() - run @fn while nobody writes and nothing is dirty: truncate, fallocate, the target of a copy
 * @keep: dirty bytes at or past this offset are dropped instead of flushed (truncate: the new size; else UINT64_MAX)
 * @fn:   changes the metadata; returns 0 and sets *size and *change to what the inode has then, or -errno: then nothing is dropped that was not flushed
 *
 * Afterwards the cached maps are gone.
 */
typedef int ks_file_excl_fn(void *arg, uint64_t *size, uint64_t *change);
int ks_file_exclusive(struct ks_file *f, uint64_t keep, ks_file_excl_fn *fn,
		      void *arg) KS_MUST_CHECK;

/* SEEK_DATA and SEEK_HOLE over committed and dirty data; -ENXIO. */
int ks_file_seek(struct ks_file *f, uint64_t off, bool hole, uint64_t *out) KS_MUST_CHECK;

/* Names of objects. */
#define KS_KEY_STR 96
void ks_block_key(char out[KS_KEY_STR], uint64_t slice, uint32_t idx, uint32_t size);
void ks_pack_key(char out[KS_KEY_STR], uint64_t pack);
/* Back from a key: false when it is no block's. */
bool ks_block_key_parse(const char *key, uint64_t *slice, uint32_t *idx, uint32_t *size);
bool ks_pack_key_parse(const char *key, uint64_t *pack);

/* Deletes the objects of a slice that nobody refers to any more, and forgets its pages. */
int ks_data_delete_slice(struct ks_data *d, uint64_t slice, uint32_t len,
			 uint32_t block_size) KS_MUST_CHECK;

/*
 * Packs, for who gives the space of dead records back (vfs/packs.c). A pack is in use while it is this process's current one, and
 * while a slice that lies in it is not committed yet, or somebody appends to it; then nobody may drop it. A pack that fell out of use stays so.
 */
struct ks_pack_log;
bool ks_data_has_packs(const struct ks_data *d);
uint64_t ks_data_pack_current(struct ks_data *d); /* 0: none */
bool ks_data_pack_in_use(struct ks_data *d, uint64_t pack);
void ks_data_pack_retire(struct ks_data *d, uint64_t pack); /* it is not the current one any more */
/* The current pack, made if need be, in use until ks_data_pack_end(). */
int ks_data_pack_begin(struct ks_data *d, struct ks_pack_log **out, uint64_t *pack) KS_MUST_CHECK;
/* Appends whole records: head, data, zeros (block.h). *off: where the first one begins. */
int ks_data_pack_add(struct ks_data *d, struct ks_pack_log *l, const struct iovec *iov, int niov,
		     uint64_t *off) KS_MUST_CHECK;
void ks_data_pack_end(struct ks_pack_log *l);

/* ---- for compaction: vfs/compact.c ---- */

/* Bytes [at, at + n) of a chunk, as the map says: holes are zeros. -EIO damaged, or deleted since the map was read. */
int ks_data_read_map(struct ks_data *d, const struct ks_chunk_map *map, uint32_t at, uint32_t n,
		     void *dst) KS_MUST_CHECK;

struct ks_rewrite {
	uint64_t ino, chunk;
	const struct ks_chunk_map *map;
	const struct ks_copied
		*v; /* what is copied: ranges without holes, one behind the other from off 0 on */
	size_t n;
	bool (*stop)(void *arg); /* asked before each block; may be NULL */
	void *arg;
};
struct ks_rewritten {
	struct ks_commit_slice s;
	uint32_t *sums;          /* of s; owned */
	struct ks_pack_log *log; /* the pack it lies in, in use until the end; or NULL */
};
/*
 * Copies them to one new slice, which nobody knows yet; durable after a ks_object_sync(). Holds one block in memory. -EINTR stopped; as above; errors of the store. After an
 * error nothing is left but what the garbage collector finds.
 */
int ks_data_rewrite(struct ks_data *d, const struct ks_rewrite *w,
		    struct ks_rewritten *out) KS_MUST_CHECK;
/* @undo: it was not committed, for certain: its objects are deleted. */
void ks_data_rewritten_end(struct ks_data *d, struct ks_rewritten *w, bool undo);

#endif
