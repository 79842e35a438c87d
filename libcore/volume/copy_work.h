/* SPDX-License-Identifier: Apache-2.0 */
/* copy_work.h: one file that is being copied; shared by copy_file.c (its life) and copy_data.c (its bytes). */
#ifndef KS_VOLUME_COPY_WORK_H
#define KS_VOLUME_COPY_WORK_H

#include "volume/copy_run.h"

#define KS_WORK_CHUNK ((size_t)1 * KS_MIB)

struct ks_work {
	struct ks_copy *c;
	const struct ks_copy_item *it;
	char *from_path, *to_path; /* for messages: ks_work_path(); owned */
	struct ks_cfile in, out;
	char *buf;    /* aligned to 4096 when it is KS_WORK_CHUNK or more */
	size_t chunk; /* of buf */
};

/* The source's or the copy's. */
const char *ks_work_path(struct ks_work *w, bool from);
/* Reported; returns -ECANCELED, which nobody reports again. @reading: it is about the source. */
int ks_work_fail(struct ks_work *w, bool reading, const char *op, int err);

/* ---- copy_data.c ---- */

size_t ks_work_chunk(
	const struct stat *st); /* how much of such a file is read at a time; a multiple of 4096 */
/* All of the source, as it comes. *at: how much that was. */
int ks_work_stream(struct ks_work *w, uint64_t *at);
/* The source's content, holes left out; a large one by several workers. */
int ks_work_copy(struct ks_work *w);

#endif
