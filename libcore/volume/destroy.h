/* SPDX-License-Identifier: Apache-2.0 */
/*
 * destroy.h: the end of a volume: its objects, then its metadata. In an order in which every step can be the last, and another run goes on:
 *
 *	1  a setting says that the volume is being destroyed; nobody opens it any more
 *	2  its objects; nothing that does not bear a name of Kiseki's
 *	3  its marker, and the directories that the store made
 *	4  its database, and the lock files
 */
#ifndef KS_VOLUME_DESTROY_H
#define KS_VOLUME_DESTROY_H

#include "volume/maint.h"
#include <stdatomic.h>

struct ks_destroy_opts {
	bool keep_data; /* only the metadata goes */
	bool dry_run;   /* the volume is opened for reading only; what is there is counted */
	bool (*stop)(void *arg);
	void (*item)(void *arg, const char *key,
		     uint64_t bytes); /* an object is gone, or would be; may be NULL */
	void *arg;
};

struct ks_destroy {
	struct ks_maint m;
	const struct ks_destroy_opts *o;
	struct ks_volume_ref ref; /* a copy of what is needed */
	bool begun;               /* a run before was stopped */
	bool no_data;             /* that run came past the objects */
	struct ks_meta_usage usage;
	/* What was done; read by another thread meanwhile. */
	_Atomic uint64_t objects, bytes;
	uint64_t unknown; /* objects that are not Kiseki's, which stay */
	bool left;        /* the data's directory stays, since something else is in it */
};

/**
 * ks_destroy_open() - open a volume for its end, and keep everybody else out
 *
 * Return: 0; -ENOENT no volume, or its data is gone; -EMEDIUMTYPE the data belongs to another volume; -EBUSY somebody has the volume open; -errno. All raised.
 */
int ks_destroy_open(struct ks_destroy *d, const struct ks_volume_ref *ref,
		    const struct ks_destroy_opts *o) KS_MUST_CHECK;
/* Destroys, or counts. -EINTR stopped: another run goes on; errors of the store likewise. Raised. */
int ks_destroy_run(struct ks_destroy *d) KS_MUST_CHECK;
void ks_destroy_close(struct ks_destroy *d); /* zeroed is fine */

#endif
