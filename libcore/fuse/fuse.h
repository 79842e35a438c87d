/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuse.h: a vfs as a FUSE session. No libfuse types: who mounts needs none.
 *
 *	new -> mount -> run (returns when unmounted or stopped) -> unmount -> free
 */
#ifndef KS_FUSE_FUSE_H
#define KS_FUSE_FUSE_H

#include "vfs/vfs.h"

struct ks_fuse;
struct ks_transport_ops;

/* Everything is shown as this owner's, and made as his. */
struct ks_squash {
	int64_t uid, gid; /* < 0: as they are */
	mode_t umask;     /* permissions that nobody has; 0777 at most */
};

struct ks_fuse_opts {
	struct ks_vfs *vfs;   /* borrowed */
	int64_t attr_ns;      /* how long the kernel may believe attributes */
	int64_t entry_ns;     /* ... names, also that there is none */
	unsigned int threads; /* that serve requests, at most; 0: the transport's own number */
	bool single;          /* one thread: requests one after the other */
	bool debug;           /* libfuse prints every request on stderr */
	bool export;          /* answer "." and ".." by node id (NFS); not for subtree mounts */
	const struct ks_squash *squash; /* NULL: all is shown as it is */
	const char *fsname;             /* the source in mountinfo, byte for byte */
	const char *subtype;            /* "kiseki": the type is then fuse.kiseki */
	const char *
		mount_opts; /* for the kernel and fusermount3, "ro,nodev,allow_other"; may be NULL */
	const struct ks_transport_ops *transport; /* NULL: classic */
	bool transport_must;                      /* fail rather than carry requests another way */
	void *transport_arg;                      /* borrowed */
};

int ks_fuse_new(struct ks_fuse **out, const struct ks_fuse_opts *o) KS_MUST_CHECK;
/* libfuse's own message about a failure goes to stderr; -EIO, or what errno says. */
int ks_fuse_mount(struct ks_fuse *f, const char *mountpoint) KS_MUST_CHECK;
/* Serves requests in the calling thread and others. 0: unmounted or stopped; -errno. */
int ks_fuse_run(struct ks_fuse *f) KS_MUST_CHECK;
/* Makes ks_fuse_run() return soon. Any thread, not a signal handler. */
void ks_fuse_stop(struct ks_fuse *f);
/* Who reads a stream of the hidden directory comes to its end, and may let go of the mount. */
void ks_fuse_end_streams(struct ks_fuse *f);
bool ks_fuse_has_streams(const struct ks_fuse *f); /* somebody has one open */
/* Detaches from the mount point if still mounted, and drops the connection. */
void ks_fuse_unmount(struct ks_fuse *f);
void ks_fuse_free(struct ks_fuse *f); /* NULL is fine */

/* The name of the transport that carries the requests now. */
const char *ks_fuse_transport(const struct ks_fuse *f);

/* "3.14.0": the libfuse that runs. */
const char *ks_fuse_version(void);

#endif
