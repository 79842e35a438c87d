/* SPDX-License-Identifier: Apache-2.0 */
/* unpack_internal.h: what the unpack*.c files share. */
#ifndef KS_VOLUME_UNPACK_INTERNAL_H
#define KS_VOLUME_UNPACK_INTERNAL_H

#include "base/hmap.h"
#include "base/thread.h"
#include "volume/arc.h"
#include "volume/copy_side.h"
#include "volume/extsort.h"
#include "volume/unpack.h"

/* The directories of the last entry. */
struct ks_unpack_walk {
	struct ks_buf names; /* each with its NUL */
	ks_ino_t *ino;
	size_t n, cap;
};

struct ks_unpack_xattr {
	char *name;
	void *value;
	size_t n;
};

/* What becomes of one entry; owned by who has it. */
struct ks_unpack_file {
	char *path; /* as in the archive, for messages */
	ks_ino_t dir;
	char *name; /* NULL: the root */
	uint32_t mode, uid, gid;
	uint64_t size;
	int64_t mtime_ns, atime_ns;
	bool has_mtime, has_atime;
	struct ks_unpack_xattr *xattrs;
	size_t nxattrs, capxattrs;
	struct ks_buf data; /* of a small file */
};

struct ks_unpack {
	const struct ks_unpack_opts *o;
	struct ks_unpack_result *out;
	struct ks_arc_in *in;
	struct ks_vfs *vfs; /* NULL: only verify */
	struct ks_side side;
	struct ks_ctx ctx;
	bool is_root; /* who runs it: owners, devices and setuid bits are root's */
	ks_ino_t root;
	struct ks_unpack_walk walk;
	struct ks_sort *dirs; /* times of directories */
	uint64_t seq;
	int fatal; /* atomic: no use in going on */

	struct ks_workers *workers;
	pthread_mutex_t mu;
	pthread_cond_t less;
	unsigned int waiting; /* [mu] jobs that are not done */
	unsigned int waiting_max;
	struct ks_hmap busy; /* [mu] their names */
};

static inline void ks_unpack_count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

bool ks_unpack_stopped(struct ks_unpack *u);
/* @why: NULL: what was raised, or the errno. */
void ks_unpack_failed(struct ks_unpack *u, const char *path, int err, const char *why);

/* ---- unpack_file.c: 0 or -errno; a static text in *why says more ---- */

int ks_unpack_file_set(struct ks_unpack_file *f, struct archive_entry *e, const char *path,
		       bool tar, const char **why) KS_MUST_CHECK;
void ks_unpack_file_clear(struct ks_unpack_file *f);
/* Owner, mode, xattrs and ACLs of what was just made, or of a directory; with @times those too. */
int ks_unpack_attributes(struct ks_unpack *u, ks_ino_t ino, const struct ks_unpack_file *f,
			 bool times) KS_MUST_CHECK;
int ks_unpack_put(struct ks_unpack *u, const struct ks_unpack_file *f) KS_MUST_CHECK;
int ks_unpack_stream(struct ks_unpack *u, const struct ks_unpack_file *f) KS_MUST_CHECK;
int ks_unpack_link(struct ks_unpack *u, const struct ks_unpack_file *f, ks_ino_t to) KS_MUST_CHECK;
int ks_unpack_special(struct ks_unpack *u, const struct ks_unpack_file *f, struct archive_entry *e,
		      const char **why) KS_MUST_CHECK;

#endif
