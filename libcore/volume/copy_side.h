/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_side.h: the two kinds of places that kiseki-cp reads from and writes to, behind one table of functions: the file systems of this
 * machine (copy_local.c) and volumes (copy_volume.c). For volume/ only.
 *
 * Functions return 0 or -errno, bare: whoever calls them knows the names for the message.
 */
#ifndef KS_VOLUME_COPY_SIDE_H
#define KS_VOLUME_COPY_SIDE_H

#include "base/buf.h"
#include "volume/copy.h"
#include <stdatomic.h>

struct ks_side;
struct ks_copy_job;
#define KS_REL_NONE SIZE_MAX

/* A directory that is being read or filled. Shared; see ks_cdir_put(). */
struct ks_cdir {
	struct ks_side *side;
	atomic_uint refs;
	struct ks_cdir *parent; /* a reference, of a destination; or NULL */
	int fd;                 /* local; -1 */
	ks_ino_t ino;           /* volume */
	bool absent;            /* of a dry run: it would have been made */
	char *path;             /* for messages: "/srv/a" or "photos:/a" */
	size_t rel_at; /* of a source: what of it counts from the source itself; KS_REL_NONE: above that */
	struct ks_copy_job
		*job; /* of a source: files that wait to be sent together; the walker's */
	/* A destination's last step, when its entries are done: attributes from here. */
	struct ks_copy *copy;
	struct ks_cdir *source; /* a reference; NULL: nothing to do at the end */
	struct stat st;
	bool made; /* it did not exist before */
	bool no_nameless; /* atomic; a destination of this machine: files cannot be made in it without a name */
	/* Of a destination: does it pass on an ACL to what is made in it? */
	enum { KS_PASSES_UNKNOWN, KS_PASSES_NONE, KS_PASSES_ACL } passes; /* atomic */
};

struct ks_cfile {
	struct ks_side *side;
	struct ks_cdir *dir;
	int fd;
	int direct;       /* of this machine, for what is aligned; 0: none */
	bool special;     /* a pipe or device is meant: open() may wait for its other end */
	bool stream;      /* read and written where it stands: stdin, stdout */
	bool bare;        /* of a volume: it has no extended attributes */
	unsigned int has; /* KS_COPY_MODE, OWNER: what it was made with already */
	struct ks_fh *fh;
	ks_ino_t ino;
	char tmp[64]; /* its name until it is published; "": none */
	bool brief; /* set by who creates it: new, and written at once; it may do without such a name */
	bool nameless; /* and does */
};

/* Something by its name in a directory; of a volume by its inode; without a name: the directory itself. */
struct ks_node {
	struct ks_cdir *dir;
	const char *name;
	ks_ino_t ino;
	struct ks_cfile *f; /* it is open here; or NULL */
};

/* @st: what is known of it: NULL nothing, st_nlink 0 only the kind, else all. Return 0 to go on. */
typedef int ks_list_fn(void *arg, const char *name, const struct stat *st);

/* Attributes that something gets: @what of st. */
struct ks_copy_set {
	struct stat st;
	unsigned int
		what; /* KS_COPY_MODE, OWNER, TIMES: exactly these; the rest as for any new file */
	bool durable; /* publish(): also a name that is new only when the content is durable */
};

struct ks_side_ops {
	/* publish() and special() set all attributes in the same step; else setattr() comes before the one and after the other. */
	bool sets_at_once;

	int (*stat)(struct ks_cdir *d, const char *name, bool follow, struct stat *st);
	int (*opendir)(struct ks_cdir *d, const char *name, bool follow, struct ks_cdir *out);
	void (*closedir)(struct ks_cdir *d);
	/* Names, without "." and "..". */
	int (*list)(struct ks_cdir *d, ks_list_fn *fn, void *arg);
	int (*readlink)(struct ks_cdir *d, const char *name, struct ks_buf *out);

	/* f->ino, if it is known, saves a look-up. @st: of what was opened; may be NULL. What is not a file is refused, unless f->special says that it is known. */
	int (*open)(struct ks_cdir *d, const char *name, bool follow, struct ks_cfile *f,
		    struct stat *st);
	ssize_t (*read)(struct ks_cfile *f, uint64_t off, void *p, size_t n);
	int (*seek)(struct ks_cfile *f, uint64_t off, bool hole,
		    uint64_t *out); /* -ENXIO at the end */

	/*
	 * A file that nobody sees. @mode: as for open(2), the directory's default ACL or else the umask bounds it. @in_place: an existing device or pipe of that
	 * name, instead. @own: whose it will be (NULL: ours); a side that can only change owners later does nothing with it, here and below.
	 */
	int (*create)(struct ks_cdir *d, const char *name, uint32_t mode, bool in_place,
		      const struct stat *own, struct ks_cfile *f);
	/* It will be that large, and written by several threads: may be NULL. */
	void (*expect)(struct ks_cfile *f, uint64_t size);
	/* Any thread, different ranges. */
	int (*write)(struct ks_cfile *f, uint64_t off, const void *p, size_t n);
	int (*truncate)(struct ks_cfile *f, uint64_t size);
	/* What was written has arrived: errors of writing come here at the latest. */
	int (*flush)(struct ks_cfile *f);
	/* Gives it its name, in place of what has it. */
	int (*publish)(struct ks_cfile *f, const char *name, const struct ks_copy_set *set);
	void (*close)(struct ks_cfile *f); /* what was not published goes away */

	int (*mkdir)(struct ks_cdir *d, const char *name, uint32_t mode, const struct stat *own);
	/* A symlink, device, pipe or socket as set->st, in place of what has the name. *ino: of a volume. */
	int (*special)(struct ks_cdir *d, const char *name, const struct ks_copy_set *set,
		       const char *target, ks_ino_t *ino);
	/* A further name of @ino or @path, in place of what has it. */
	int (*link)(struct ks_cdir *d, const char *name, ks_ino_t ino, const char *path);
	int (*unlink)(struct ks_cdir *d, const char *name);
	int (*rmdir)(struct ks_cdir *d, const char *name);

	/* @what: KS_COPY_MODE, OWNER, TIMES, in one step where that is possible. */
	int (*setattr)(const struct ks_node *n, const struct stat *st, unsigned int what);
	int (*listxattr)(const struct ks_node *n, struct ks_buf *out);
	int (*getxattr)(const struct ks_node *n, const char *name, struct ks_buf *out);
	int (*setxattr)(const struct ks_node *n, const char *name, const void *p, size_t size);

	/* Removes what killed copies have left in a directory. */
	void (*tidy)(struct ks_cdir *d);
	int (*sync)(struct ks_side *s, struct ks_cdir *any);
	/* Some of that work ahead of time. An error is one that sync() would not tell of again. */
	int (*sync_early)(struct ks_side *s, struct ks_cdir *any);
};

struct ks_side {
	const struct ks_side_ops *ops;
	struct ks_vfs *vfs; /* NULL: local */
	struct ks_ctx ctx;
	const char *label;
};

extern const struct ks_side_ops ks_side_local;
extern const struct ks_side_ops ks_side_volume;

/* Are new entries of @d free of ACLs that it would pass on? Asked once. */
bool ks_cdir_passes_none(struct ks_cdir *d);

void ks_side_stat(const struct ks_attr *a, struct stat *st);
/* What a volume keeps of @st. */
void ks_side_attr(const struct stat *st, struct ks_attr *a);
/* A new entry of a volume's directory, but for its content, in place of what has the name. Strings are borrowed. */
void ks_side_make(struct ks_make *m, struct ks_cdir *d, const char *name,
		  const struct ks_copy_set *set, const char *target);

/* ".kiseki-cp-PID-N": a name that is in nobody's way. */
#define KS_COPY_TMP ".kiseki-cp-"
void ks_copy_tmp_name(char out[64]);

#endif
