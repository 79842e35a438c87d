/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dir.c: readdir. The cookie of an entry is the keyed hash of its name, so that a directory is read on from any cookie, whatever was made or removed
 * meanwhile. "." and ".." have the cookies 1 and 2, which no hash has. Nothing is kept between two calls: attributes that come with an entry are as
 * of this call, as the kernel believes.
 */
#include "vfs/internal.h"
#include <dirent.h>
#include <string.h>

enum { COOKIE_DOT = 1, COOKIE_DOTDOT = 2 };

#define FIRST_PLUS 48 /* entries asked for first: what fits into the kernel's usual buffer */
#define FIRST_PLAIN 192
#define MORE_MAX 1024

struct walk {
	struct ks_fh *fh;
	ks_dir_fn *fn;
	void *arg;
	bool plus;
	bool root; /* the one that has a hidden directory */
	bool full;
	uint64_t last; /* cookie of the entry before, 0: none */
	uint32_t taken;
};

static int one_entry(void *arg, const struct ks_rec_dentry *d, const struct ks_attr *attr)
{
	struct walk *w = arg;
	struct ks_attr a;
	int r;

	/* Behind the hidden directory of that name. */
	if (w->root && d->name.n == strlen(KS_VIRTUAL_NAME) &&
	    memcmp(d->name.p, KS_VIRTUAL_NAME, d->name.n) == 0)
		return 0;
	if (attr) {
		a = *attr;
		r = ks_vfs_overlay(w->fh->v, &a);
		/* Removed while the directory was being read: it is shown without attributes, the kernel will ask. */
		attr = r == 0 ? &a : NULL;
	}
	r = w->fn(w->arg, d->name.p, d->name.n, d->hash, d->ino, d->type, attr, d->hash == w->last);
	if (r != 0) {
		w->full = true;
		return r;
	}
	w->last = d->hash;
	w->taken++;
	return 0;
}

/* "." and "..", from @off on. */
static int dots(struct walk *w, const struct ks_ctx *c, uint64_t off)
{
	struct ks_vfs *v = w->fh->v;
	ks_ino_t ino = w->fh->ino;
	struct ks_attr a;
	int r;

	(void)c;
	r = ks_vfs_record(v, ino, &a);
	if (r < 0)
		return r;
	if (!S_ISDIR(a.mode))
		return -ENOTDIR;
	if (off < COOKIE_DOT)
		w->full = w->fn(w->arg, ".", 1, COOKIE_DOT, ino, DT_DIR, w->plus ? &a : NULL,
				false) != 0;
	if (w->full)
		return 0;
	if (ino != v->root && a.parent) {
		ino = a.parent;
		if (w->plus && ks_vfs_record(v, ino, &a) < 0)
			return 0;
	}
	w->full =
		w->fn(w->arg, "..", 2, COOKIE_DOTDOT, ino, DT_DIR, w->plus ? &a : NULL, false) != 0;
	return 0;
}

int ks_vfs_readdir(struct ks_fh *fh, const struct ks_ctx *c, uint64_t off, bool plus, ks_dir_fn *fn,
		   void *arg)
{
	struct walk w = { .fh = ks_fh_check(fh), .fn = fn, .arg = arg, .plus = plus };
	uint64_t limit = plus ? FIRST_PLUS : FIRST_PLAIN;
	bool eof = false;
	int r = 0;

	if (!fh->dir)
		return -ENOTDIR;
	if (ks_is_virtual(fh->v, fh->ino))
		return ks_virtual_readdir(fh, off, plus, fn, arg);
	if (off < COOKIE_DOTDOT) {
		r = dots(&w, c, off);
		/* A directory that was removed while it is open is empty. */
		if (r < 0)
			return r == -ESTALE ? 0 : r;
	}
	w.root = fh->ino == fh->v->root && fh->v->virt;
	w.last = off < KS_DENTRY_HASH_MIN ? 0 : off;
	if (fh->dir_taken)
		limit = ks_min(fh->dir_taken + 8u, (uint32_t)MORE_MAX);
	while (r == 0 && !w.full && !eof) {
		r = ks_meta_readdir(fh->v->meta, fh->ino, w.last, plus, limit, one_entry, &w, &eof);
		limit = ks_min(limit * 2, (uint64_t)MORE_MAX);
	}
	fh->dir_taken = w.taken;
	return r > 0 ? 0 : r;
}
