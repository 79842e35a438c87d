/* SPDX-License-Identifier: Apache-2.0 */
/* store_file.h: what the files of the directory store share. Private to store_file.c and file_*.c. */
#ifndef KS_OBJECT_STORE_FILE_H
#define KS_OBJECT_STORE_FILE_H

#include "base/buf.h"
#include "base/log.h"
#include "base/owner.h"
#include "base/thread.h"
#include "object/store.h"
#include <stdatomic.h>

/* Not in the alphabet of keys, so that it is never an object's name. */
#define KS_FILE_TMP "tmp~"
#define KS_FILE_TMP_NAME_MAX 96

#define KS_DIO_ALIGN ((size_t)4096)
#define KS_DIO_PUT_MIN (128 * KS_KIB)

/* Iovecs of one system call: the pages of a 16 MiB block and some trailers. */
#define KS_FILE_IOV_BATCH 272

/* ---- file_end.c ---- */

int ks_file_dismantle(struct ks_object *o) KS_MUST_CHECK;

/* ---- file_io.c ---- */

/* The shape of a put: @bulk bytes from the start are aligned, the rest is not. */
struct ks_io_shape {
	size_t total;
	size_t bulk;
};

struct ks_io_shape ks_io_measure(const struct iovec *iov, int niov);
bool ks_io_aligned(uint64_t off, const struct iovec *iov, int niov);
/* Writes all at @off, buffered. */
int ks_io_write(int fd, uint64_t off, const struct iovec *iov, int niov) KS_MUST_CHECK;
/* Writes a whole new file whose descriptor has O_DIRECT. -EINVAL: the file system refuses. */
int ks_io_write_direct(int fd, const struct iovec *iov, int niov,
		       struct ks_io_shape shape) KS_MUST_CHECK;
/* Bytes read, short only at the end of the file. */
ssize_t ks_io_read(int fd, uint64_t off, const struct iovec *iov, int niov,
		   bool direct) KS_MUST_CHECK;

/* ---- file_fds.c: open descriptors of objects that are read, least recently used first out ---- */

#define KS_FD_CACHE_MAX 256
#define KS_FD_CACHE_BUCKETS 512

struct ks_fd_ent;

struct ks_fd_cache {
	pthread_mutex_t mu;
	struct ks_fd_ent *bucket[KS_FD_CACHE_BUCKETS]; /* [mu] */
	struct ks_fd_ent *newest, *oldest;             /* [mu] */
	size_t n;                                      /* [mu] */
	size_t max;
};

void ks_fd_cache_init(struct ks_fd_cache *c);
void ks_fd_cache_clear(struct ks_fd_cache *c);
/* A descriptor of the object that has this key now. -ENOENT bare, other errors bare too. */
int ks_fd_cache_get(struct ks_fd_cache *c, int rootfd, const char *key, bool direct,
		    struct ks_fd_ent **out) KS_MUST_CHECK;
int ks_fd_ent_fd(const struct ks_fd_ent *e);
void ks_fd_cache_put(struct ks_fd_cache *c, struct ks_fd_ent *e);
/* Out of descriptors: closes all that are not in use. */
void ks_fd_cache_trim(struct ks_fd_cache *c);
void ks_fd_cache_drop(struct ks_fd_cache *c, const char *key);
/* Closes what others have deleted, so that its space is freed. */
void ks_fd_cache_sweep(struct ks_fd_cache *c);

/* ---- file_sync.c: what is not yet durable ---- */

#define KS_UNSYNCED_MAX 16384
#define KS_UNSYNCED_FDS 64
#define KS_UNSYNCED_BUCKETS 4096
#define KS_DURABLE_MAX 4096
#define KS_DURABLE_BUCKETS 1024

struct ks_store_unsynced_ent;
struct ks_durable_dir;

struct ks_unsynced {
	pthread_mutex_t mu;
	pthread_cond_t cond;
	struct ks_store_unsynced_ent *bucket[KS_UNSYNCED_BUCKETS]; /* [mu] */
	size_t n, nfds;         /* [mu] nfds: also of the running one */
	bool overflow;          /* [mu] more than the list holds: the next run is a syncfs() */
	bool running;           /* [mu] */
	uint64_t started, done; /* [mu] runs */
	int result;             /* [mu] of run @done */
	/* Directories whose own entry is durable, with all above. */
	struct ks_durable_dir *durable[KS_DURABLE_BUCKETS]; /* [mu] */
	size_t ndurable;                                    /* [mu] */
};

struct ks_file_store;

int ks_store_unsynced_init(struct ks_unsynced *u) KS_MUST_CHECK;
void ks_store_unsynced_clear(struct ks_unsynced *u);
/* Takes over @fd (-1: none). Cannot fail: short of memory it asks for a syncfs(). */
/* @named: its name is durable already. */
void ks_store_unsynced_add(struct ks_unsynced *u, const char *key, int fd, bool named);
void ks_store_unsynced_drop(struct ks_unsynced *u, const char *key);
void ks_store_unsynced_dir_made(struct ks_unsynced *u, const char *dir);
bool ks_store_unsynced_wants_fd(struct ks_unsynced *u);
int ks_file_sync(struct ks_object *o, bool all) KS_MUST_CHECK;

/* ---- the store ---- */

struct ks_file_appender;

struct ks_file_store {
	struct ks_object base;
	char *root;
	int rootfd;
	struct ks_owner owner;   /* of what is made in it */
	_Atomic bool no_direct;  /* the file system refused O_DIRECT */
	struct ks_spell full;    /* the disk is */
	struct ks_spell kept;    /* what should go cannot be deleted */
	_Atomic size_t too_much; /* what found no room last */

	pthread_mutex_t tmp_mu;
	int tmp_fd;         /* [tmp_mu] our directory below KS_FILE_TMP, locked; -1: not made yet */
	char tmp_owner[48]; /* [tmp_mu] its name */
	uint64_t tmp_no;    /* [tmp_mu] */

	struct ks_fd_cache fds;
	struct ks_unsynced unsynced;

	pthread_mutex_t app_mu;
	struct ks_file_appender *appenders; /* [app_mu] live ones */
	_Atomic int nappenders;
	/* Appending holds it shared; rewriting a file after a failed fdatasync holds it alone. */
	pthread_rwlock_t rewrite;
};

static inline struct ks_file_store *ks_file_of(struct ks_object *o)
{
	return (struct ks_file_store *)o;
}

/*
 * Is @r, of writing @n bytes, that the disk is full: then it is raised with f->full. A success ends the spell when what failed last
 * would fit now, too: where small things find room and large ones do not, the log must not say now this and now that.
 */
bool ks_file_is_full(struct ks_file_store *f, int r, size_t n);
int ks_file_mkdirs(struct ks_file_store *f, const char *key) KS_MUST_CHECK;

/* file_tmp.c */
int ks_file_tmp_open(struct ks_file_store *f, int flags, char name[KS_FILE_TMP_NAME_MAX],
		     int *out) KS_MUST_CHECK;
void ks_file_tmp_sweep(struct ks_file_store *f);
void ks_file_tmp_close(struct ks_file_store *f);

/* file_list.c */
int ks_file_list(struct ks_object *o, const char *prefix, const char *after, ks_object_list_fn *fn,
		 void *arg) KS_MUST_CHECK;

/* file_append.c */
int ks_file_append_open(struct ks_object *o, const char *key,
			struct ks_appender **out) KS_MUST_CHECK;
int ks_file_append_write(struct ks_appender *a, const struct iovec *iov, int niov,
			 uint64_t *off) KS_MUST_CHECK;
uint64_t ks_file_append_size(const struct ks_appender *a);
void ks_file_append_close(struct ks_appender *a);
bool ks_file_is_appending(struct ks_file_store *f, const char *key);
/* A run of sync begins: the names of what is on the list now will be durable. */
void ks_file_append_naming(struct ks_file_store *f);
/* The run has taken the list: appends after this put their object on it again. */
void ks_file_append_unlist(struct ks_file_store *f);
/* A run ended: were the names of what was appended to before it made durable? */
void ks_file_append_named(struct ks_file_store *f, bool durable);

#endif
