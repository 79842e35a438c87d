/* SPDX-License-Identifier: Apache-2.0 */
/* load_records.h: the records of a dump into a database: checked, in batches, on a thread of their own while the next are read. For load.c. */
#ifndef KS_VOLUME_LOAD_RECORDS_H
#define KS_VOLUME_LOAD_RECORDS_H

#include "base/buf.h"
#include "base/thread.h"
#include "volume/load.h"

struct ks_load_batch;

struct ks_load_records {
	struct ks_engine *e; /* NULL: only check */
	struct ks_load_result *out;
	size_t table; /* in ks_dump_tables, of the segment that is due or under way */
	unsigned int number;
	bool ended;
	bool any;                          /* of this table */
	union ks_record last;              /* its key */
	char last_name[KS_TRASH_NAME_MAX]; /* the longest there is */
	uint64_t max_session, max_epoch;

	pthread_t thread;
	bool threaded;
	pthread_mutex_t mu;
	pthread_cond_t cond;
	struct ks_load_batch *batch[2]; /* one is filled while the other is written */
	unsigned int fill;              /* which is being filled */
	struct ks_load_batch *queued;   /* [mu] NULL: the writer is idle */
	bool stop;                      /* [mu] */
	int err;                        /* [mu] the writer's first failure */
	char err_text[512];             /* [mu] what it raised */
};

/* All of these raise what is wrong. */
int ks_load_records_start(struct ks_load_records *l, struct ks_engine *e,
			  struct ks_load_result *out) KS_MUST_CHECK;
/* A member of this name is next: is it the one that is due? */
int ks_load_records_segment(struct ks_load_records *l, const char *name) KS_MUST_CHECK;
/* Its content, which is taken over and overwritten; @in is empty afterwards. */
int ks_load_records_take(struct ks_load_records *l, struct ks_buf *in,
			 const char *name) KS_MUST_CHECK;
/* There are no more segments: everything has been written. May be called again. */
int ks_load_records_end(struct ks_load_records *l) KS_MUST_CHECK;

struct ks_load_local {
	const char *data_url;
	const uint8_t *uuid, *owner; /* NULL: not */
};
int ks_load_records_local(struct ks_load_records *l, const struct ks_load_local *x) KS_MUST_CHECK;
void ks_load_records_stop(struct ks_load_records *l); /* zeroed is fine */

#endif
