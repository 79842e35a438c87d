/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load_records.c: a segment is parsed and checked on the caller's thread while the one before is written on another. Records come in the order of their
 * keys, so that the database only appends. What they say about each other is kiseki-fsck's business; here each must be one that can be stored
 * and read again.
 */
#include "volume/load_records.h"
#include "base/array.h"
#include "base/log.h"
#include "volume/dump_internal.h"
#include "volume/rectext.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PER_BODY 4096u

struct ks_load_batch {
	struct ks_buf text;   /* the records' bytes lie in it */
	union ks_record *rec; /* room for any table's, but those of one lie close: rec_at() */
	size_t n, cap;
	enum ks_table table;
	/* Of one body. */
	size_t from, to;
};

static void *rec_at(const struct ks_load_batch *b, size_t i)
{
	return (char *)b->rec + i * ks_tables[b->table].size;
}

static int bad(const char *name, uint64_t line, const char *why)
{
	return ks_fail_hint(-EBADMSG, "it is damaged, or was not written by kiseki-dump",
			    "the dump cannot be loaded: %s line %ju: %s", name, (uintmax_t)line,
			    why);
}

/* ---- the writer ---- */

static int insert_body(struct ks_txn *t, void *arg)
{
	const struct ks_load_batch *b = arg;

	for (size_t i = b->from; i < b->to; i++)
		ks_txn_insert(t, b->table, rec_at(b, i));
	return 0;
}

static int write_batch(struct ks_load_records *l, struct ks_load_batch *b)
{
	int r = 0;

	for (b->from = 0; r == 0 && b->from < b->n; b->from = b->to) {
		b->to = ks_min(b->from + PER_BODY, b->n);
		r = ks_engine_run(l->e, insert_body, b);
	}
	return r;
}

static void *writer(void *arg)
{
	struct ks_load_records *l = arg;

	ks_fail_quiet(true);
	ks_mutex_lock(&l->mu);
	for (;;) {
		struct ks_load_batch *b;
		int r = l->err;

		while (!l->queued && !l->stop)
			ks_cond_wait(&l->cond, &l->mu, -1);
		b = l->queued;
		if (!b)
			break;
		ks_mutex_unlock(&l->mu);
		if (r == 0)
			r = write_batch(l, b);
		ks_mutex_lock(&l->mu);
		if (r < 0 && l->err == 0) {
			l->err = r;
			snprintf(l->err_text, sizeof(l->err_text), "%s", ks_fail_text());
		}
		l->queued = NULL;
		pthread_cond_broadcast(&l->cond);
	}
	ks_mutex_unlock(&l->mu);
	return NULL;
}

/* Waits for the writer; hands it @b, which may be NULL. */
static int hand_over(struct ks_load_records *l, struct ks_load_batch *b)
{
	int r;

	if (!l->threaded)
		return 0;
	ks_mutex_lock(&l->mu);
	while (l->queued)
		ks_cond_wait(&l->cond, &l->mu, -1);
	r = l->err;
	if (r == 0 && b) {
		l->queued = b;
		pthread_cond_broadcast(&l->cond);
	}
	ks_mutex_unlock(&l->mu);
	if (r < 0 && *l->err_text)
		return ks_fail_hint(r, r == -ENOSPC ? "make room and start again" : NULL,
				    "load: %s", l->err_text);
	return r < 0 ? ks_fail(r, "write the records") : 0;
}

/* ---- checks ---- */

static bool name_ok(struct ks_bytes b)
{
	const char *p = b.p;

	/* In the trash they may be longer. */
	return b.n && b.n <= KS_TRASH_NAME_MAX && !memchr(p, '/', b.n) && !memchr(p, '\0', b.n) &&
	       !(b.n == 1 && p[0] == '.') && !(b.n == 2 && p[0] == '.' && p[1] == '.');
}

/* What would be no record for whoever reads it. NULL: fine. */
static const char *check_record(enum ks_table t, const union ks_record *r)
{
	switch (t) {
	case KS_T_SETTING:
		return r->setting.name.n && r->setting.name.n <= KS_NAME_MAX &&
				       r->setting.value.n <= 4096
			       ? NULL
			       : "a setting is too long";
	case KS_T_COUNTER:
		return r->counter.name.n && r->counter.name.n <= KS_NAME_MAX
			       ? NULL
			       : "a counter has no name";
	case KS_T_DENTRY:
		return name_ok(r->dentry.name) ? NULL : "a file has a name that cannot be";
	case KS_T_SYMLINK:
		return r->symlink.target.n && r->symlink.target.n <= KS_SYMLINK_MAX &&
				       !memchr(r->symlink.target.p, '\0', r->symlink.target.n)
			       ? NULL
			       : "a symbolic link has a target that cannot be";
	case KS_T_XATTR:
		return r->xattr.name.n && r->xattr.name.n <= KS_XATTR_NAME_MAX &&
				       !memchr(r->xattr.name.p, '\0', r->xattr.name.n) &&
				       r->xattr.value.n <= KS_XATTR_VALUE_MAX
			       ? NULL
			       : "an attribute cannot be";
	default:
		return NULL;
	}
}

static bool in_order(const struct ks_load_records *l, enum ks_table t, const union ks_record *r)
{
	return !l->any || ks_rec_cmp(t, &l->last, r, ks_tables[t].nkey) < 0;
}

/* The key outlives the segment. */
static void remember(struct ks_load_records *l, enum ks_table t, const union ks_record *r)
{
	const struct ks_table_desc *d = &ks_tables[t];

	memcpy(&l->last, r, d->size);
	for (unsigned int i = 0; i < d->nkey; i++) {
		struct ks_bytes b;

		if (!ks_col_is_bytes(&d->cols[i]))
			continue;
		b = ks_rec_bytes(r, &d->cols[i]);
		assert(b.n <= sizeof(l->last_name));
		memcpy(l->last_name, b.p, b.n);
		b.p = l->last_name;
		ks_rec_set_bytes(&l->last, &d->cols[i], b);
	}
	l->any = true;
}

static void count(struct ks_load_records *l, enum ks_table t, const union ks_record *r)
{
	if (t == KS_T_INODE)
		ks_dump_count(&l->out->inodes, 1);
	if (t == KS_T_SLICE)
		ks_dump_count(&l->out->slices, 1);
	ks_dump_count(&l->out->records, 1);
	if (t == KS_T_SLICE)
		l->max_session = ks_max(l->max_session, r->slice.session);
	if (t == KS_T_PACK)
		l->max_session = ks_max(l->max_session, r->pack.session);
	if (t == KS_T_DELETED)
		l->max_epoch = ks_max(l->max_epoch, r->deleted.epoch);
	if (t == KS_T_FREED)
		l->max_epoch = ks_max(l->max_epoch, r->freed.epoch);
}

/* ---- segments ---- */

int ks_load_records_segment(struct ks_load_records *l, const char *name)
{
	char want[64];
	size_t t = l->table;

	if (l->ended)
		return ks_fail(-EBADMSG, "the dump cannot be loaded: '%s' follows its objects",
			       name);
	snprintf(want, sizeof(want), KS_ARC_DIR "%s/%08u.ndjson", ks_tables[ks_dump_tables[t]].name,
		 l->number + 1);
	if (strcmp(name, want) == 0) {
		l->number++;
		return 0;
	}
	/* The next table that has records. */
	while (++t < KS_DUMP_TABLES) {
		snprintf(want, sizeof(want), KS_ARC_DIR "%s/00000001.ndjson",
			 ks_tables[ks_dump_tables[t]].name);
		if (strcmp(name, want) != 0)
			continue;
		l->table = t;
		l->number = 1;
		l->any = false;
		return 0;
	}
	return ks_fail_hint(-EBADMSG, "it is damaged, or was not written by kiseki-dump",
			    "the dump cannot be loaded: '%.100s' is out of place, or no part of a "
			    "dump",
			    name);
}

static int take_line(struct ks_load_records *l, struct ks_load_batch *b, char *line, size_t n,
		     const char **why)
{
	enum ks_table t = b->table;
	union ks_record rec;
	int r = ks_rectext_read(t, line, n, &rec, why);

	if (r < 0)
		return r;
	*why = check_record(t, &rec);
	if (!*why && !in_order(l, t, &rec))
		*why = "a record is there twice, or out of order";
	if (*why)
		return -EBADMSG;
	remember(l, t, &rec);
	count(l, t, &rec);
	if (!l->e || ks_dump_is_local(t, &rec))
		return 0;
	if (ks_array_room(&b->rec, b->n, &b->cap) < 0)
		return -ENOMEM;
	memcpy(rec_at(b, b->n++), &rec, ks_tables[t].size);
	return 0;
}

int ks_load_records_take(struct ks_load_records *l, struct ks_buf *in, const char *name)
{
	struct ks_load_batch *b = l->batch[l->fill];
	struct ks_buf swap = b->text;
	const char *why = NULL;
	uint64_t line = 0;
	int r = 0;

	b->text = *in;
	*in = swap;
	in->n = 0;
	b->n = 0;
	b->table = ks_dump_tables[l->table];
	for (char *p = b->text.p, *end = p + b->text.n; r == 0 && p < end;) {
		char *nl = memchr(p, '\n', (size_t)(end - p));

		line++;
		if (!nl)
			return bad(name, line, "it is cut");
		r = take_line(l, b, p, (size_t)(nl - p), &why);
		p = nl + 1;
	}
	if (r == -EBADMSG)
		return bad(name, line, why);
	if (r < 0 || !l->e)
		return r;
	r = hand_over(l, b);
	l->fill ^= 1;
	return r;
}

int ks_load_records_end(struct ks_load_records *l)
{
	l->ended = true;
	return hand_over(l, NULL);
}

/* ---- what a dump leaves out ---- */

struct local_arg {
	const struct ks_load_local *x;
	uint64_t session, epoch;
};

static void put_setting(struct ks_txn *t, const char *name, const char *value)
{
	struct ks_rec_setting s = { .name = { name, strlen(name) },
				    .value = { value, strlen(value) } };

	ks_txn_put(t, KS_T_SETTING, &s);
}

static void put_counter(struct ks_txn *t, const char *name, uint64_t value)
{
	struct ks_rec_counter c = { .name = { name, strlen(name) }, .value = (int64_t)value };

	ks_txn_put(t, KS_T_COUNTER, &c);
}

static int local_body(struct ks_txn *t, void *arg)
{
	const struct local_arg *a = arg;
	char text[KS_UUID_STR], owner[KS_UUID_STR];

	put_setting(t, "data_url", a->x->data_url);
	if (a->x->uuid) {
		ks_uuid_format(a->x->uuid, text);
		put_setting(t, "uuid", text);
	}
	if (a->x->owner) {
		ks_uuid_format(a->x->owner, owner);
		put_setting(t, "owner", owner);
	}
	put_counter(t, "next_session", a->session);
	put_counter(t, "epoch", a->epoch);
	return 0;
}

int ks_load_records_local(struct ks_load_records *l, const struct ks_load_local *x)
{
	struct local_arg a = { x, l->max_session + 1, l->max_epoch + 1 };

	return ks_engine_run(l->e, local_body, &a);
}

/* ---- life ---- */

int ks_load_records_start(struct ks_load_records *l, struct ks_engine *e,
			  struct ks_load_result *out)
{
	int r = 0;

	l->e = e;
	l->out = out;
	for (int i = 0; i < 2; i++) {
		l->batch[i] = calloc(1, sizeof(*l->batch[i]));
		if (!l->batch[i])
			return -ENOMEM;
	}
	if (!e)
		return 0;
	pthread_mutex_init(&l->mu, NULL);
	r = ks_cond_init(&l->cond);
	if (r == 0) {
		r = ks_thread_start(&l->thread, "ks-load", writer, l);
		if (r < 0)
			pthread_cond_destroy(&l->cond);
	}
	if (r < 0)
		pthread_mutex_destroy(&l->mu);
	l->threaded = r == 0;
	return r;
}

void ks_load_records_stop(struct ks_load_records *l)
{
	if (l->threaded) {
		ks_mutex_lock(&l->mu);
		l->stop = true;
		pthread_cond_broadcast(&l->cond);
		ks_mutex_unlock(&l->mu);
		pthread_join(l->thread, NULL);
		pthread_cond_destroy(&l->cond);
		pthread_mutex_destroy(&l->mu);
		l->threaded = false;
	}
	for (int i = 0; i < 2; i++) {
		if (l->batch[i]) {
			ks_buf_clear(&l->batch[i]->text);
			free(l->batch[i]->rec);
		}
		free(l->batch[i]);
		l->batch[i] = NULL;
	}
}
