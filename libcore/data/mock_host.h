/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mock_host.h: for tests and benches of data/: metadata in memory behind struct ks_data_host, and a rig with a store, a data plane and faults.
 */
#ifndef KS_DATA_MOCK_HOST_H
#define KS_DATA_MOCK_HOST_H

#include "base/array.h"
#include "base/clock.h"
#include "base/thread.h"
#include "data/data.h"
#include "data/pool.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOCK_INODES 64

struct mock_layer {
	uint64_t chunk;
	struct ks_extent e; /* sums owned */
};

struct mock_inode {
	uint64_t size, change;
	struct mock_layer *v;
	size_t n, cap;
	bool gone;
};

struct mock_block {
	uint64_t slice;
	uint32_t idx;
	struct ks_block_index bi;
};

struct mock {
	pthread_mutex_t mu;
	struct mock_inode ino[MOCK_INODES]; /* [mu] */
	struct mock_block *blocks; /* [mu] sorted by nothing: searched from a hash of first hits */
	size_t nblocks, cap_blocks;
	uint64_t next_id;
	uint64_t ids, packs, maps, commits, committed; /* calls; slices */
	int fail_commit;                               /* [mu] error of every commit; 0: none */
	int64_t delay_ns;                              /* of every commit */
	uint64_t last_slice;                           /* [mu] id of the slice committed last */
	bool out_of_order; /* [mu] a slice id smaller than one before it in the same chunk */
};

/* A counter of a mock that is in use. */
static inline uint64_t mock_count(struct mock *m, const uint64_t *field)
{
	KS_LOCKED(&m->mu);
	return *field;
}

static inline int mock_slice_id(void *arg, uint64_t *id)
{
	struct mock *m = arg;

	KS_LOCKED(&m->mu);
	m->ids++;
	*id = ++m->next_id;
	return 0;
}

static inline int mock_pack_id(void *arg, uint64_t *id)
{
	struct mock *m = arg;

	KS_LOCKED(&m->mu);
	m->packs++;
	*id = ++m->next_id;
	return 0;
}

static inline int mock_map(void *arg, uint64_t ino, uint64_t chunk, struct ks_chunk_map **out)
{
	struct mock *m = arg;
	struct ks_extent *l;
	size_t n = 0;
	int r;

	KS_LOCKED(&m->mu);
	struct mock_inode *in = &m->ino[ino];

	m->maps++;
	if (in->gone)
		return -ENOENT;
	l = malloc((in->n + 1) * sizeof(*l));
	if (!l)
		return -ENOMEM;
	for (size_t i = 0; i < in->n; i++) {
		if (in->v[i].chunk == chunk)
			l[n++] = in->v[i].e;
	}
	r = ks_chunk_map_build(l, n, out);
	free(l);
	if (r == 0)
		(*out)->change = in->change;
	return r;
}

static inline int mock_block(void *arg, uint64_t slice, uint32_t idx, struct ks_block_index *out)
{
	struct mock *m = arg;

	KS_LOCKED(&m->mu);
	for (size_t i = m->nblocks; i-- > 0;) {
		if (m->blocks[i].slice == slice && m->blocks[i].idx == idx) {
			*out = m->blocks[i].bi;
			return 0;
		}
	}
	return -ENOENT;
}

/* Needs m->mu. */
static inline void mock_add_layer(struct mock *m, uint64_t ino, uint64_t chunk, struct ks_extent e)
{
	struct mock_inode *in = &m->ino[ino];

	if (ks_array_room(&in->v, in->n, &in->cap) < 0)
		abort();
	in->v[in->n++] = (struct mock_layer){ .chunk = chunk, .e = e };
}

/* Needs m->mu. */
static inline void mock_add_blocks(struct mock *m, const struct ks_commit_slice *s)
{
	uint32_t per = s->block_size / (uint32_t)KS_PAGE_SIZE;

	for (uint32_t b = 0; b < ks_blocks_of(s->len, s->block_size); b++) {
		struct mock_block *mb;

		if (ks_array_room(&m->blocks, m->nblocks, &m->cap_blocks) < 0)
			abort();
		mb = &m->blocks[m->nblocks++];
		mb->slice = s->slice;
		mb->idx = b;
		mb->bi.size = ks_min(s->block_size, s->len - b * s->block_size);
		mb->bi.npages = ks_pages_of(mb->bi.size);
		memcpy(mb->bi.sums, s->sums + b * per, mb->bi.npages * sizeof(uint32_t));
	}
}

static inline int mock_commit(void *arg, const struct ks_file_commit *c, uint64_t *change)
{
	struct mock *m = arg;
	struct timespec ts = ks_ns_to_ts(m->delay_ns);

	if (m->delay_ns)
		nanosleep(&ts, NULL);
	KS_LOCKED(&m->mu);
	struct mock_inode *in = &m->ino[c->ino];

	if (in->gone)
		return -ENOENT;
	if (m->fail_commit)
		return m->fail_commit;
	for (size_t i = 0; i < c->n; i++) {
		const struct ks_commit_slice *s = &c->s[i];
		struct ks_extent e = { .pos = s->pos,
				       .len = s->len,
				       .slice = s->slice,
				       .slice_len = s->len,
				       .block_size = s->block_size,
				       .pack = s->pack,
				       .pack_off = s->pack_off };

		if (s->pack) {
			size_t size = ks_pages_of(s->len) * sizeof(uint32_t);

			e.sums = malloc(size);
			if (!e.sums)
				abort();
			memcpy(e.sums, s->sums, size);
		} else {
			mock_add_blocks(m, s);
		}
		mock_add_layer(m, c->ino, s->chunk, e);
		m->last_slice = s->slice;
	}
	in->size = ks_max(in->size, c->end);
	*change = ++in->change;
	m->commits++;
	m->committed += c->n;
	return 0;
}

/* What truncate(2) does to the metadata. */
static inline void mock_truncate(struct mock *m, uint64_t ino, uint64_t size)
{
	KS_LOCKED(&m->mu);
	struct mock_inode *in = &m->ino[ino];

	for (uint64_t at = size; at < in->size;) {
		uint32_t pos = (uint32_t)(at % KS_CHUNK_SIZE);
		struct ks_extent hole = { .pos = pos, .len = (uint32_t)KS_CHUNK_SIZE - pos };

		mock_add_layer(m, ino, at / KS_CHUNK_SIZE, hole);
		at += hole.len;
	}
	in->size = size;
	in->change++;
}

struct mock_trunc {
	struct mock *m;
	uint64_t ino, size;
	int fail;
};

static inline int mock_trunc_fn(void *arg, uint64_t *size, uint64_t *change)
{
	struct mock_trunc *t = arg;

	if (t->fail)
		return t->fail;
	mock_truncate(t->m, t->ino, t->size);
	*size = t->size;
	*change = t->m->ino[t->ino].change;
	return 0;
}

static inline int mock_file_truncate(struct mock *m, struct ks_file *f, uint64_t ino, uint64_t size)
{
	struct mock_trunc t = { .m = m, .ino = ino, .size = size };

	return ks_file_exclusive(f, size, mock_trunc_fn, &t);
}

static inline void mock_init(struct mock *m)
{
	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->mu, NULL);
	m->next_id = 1000;
}

static inline void mock_clear(struct mock *m)
{
	for (int i = 0; i < MOCK_INODES; i++) {
		for (size_t k = 0; k < m->ino[i].n; k++)
			free(m->ino[i].v[k].e.sums);
		free(m->ino[i].v);
	}
	free(m->blocks);
	pthread_mutex_destroy(&m->mu);
}

static inline struct ks_data_host mock_host(struct mock *m)
{
	return (struct ks_data_host){ .slice_id = mock_slice_id,
				      .pack_id = mock_pack_id,
				      .map = mock_map,
				      .block = mock_block,
				      .commit = mock_commit,
				      .arg = m };
}

/* A data plane over a fresh store, with faults and statistics. */
struct rig {
	struct mock m;
	struct ks_object *fault; /* top of the store: faults over statistics */
	struct ks_data *d;
	struct ks_data_opts o;
};

/* Opens (again) the data plane with r->o. */
static inline int rig_start(struct rig *r)
{
	r->o.store = r->fault;
	r->o.host = mock_host(&r->m);
	return ks_data_open(&r->d, &r->o);
}

static inline int rig_open(struct rig *r, const char *url, const struct ks_data_opts *o)
{
	struct ks_object *s = NULL;
	int rc;

	memset(r, 0, sizeof(*r));
	r->o = *o;
	mock_init(&r->m);
	rc = ks_object_open(&s, url);
	if (rc == 0)
		rc = ks_object_with_stats(&s, s);
	if (rc == 0)
		rc = ks_object_with_fault(&r->fault, s, "");
	return rc < 0 ? rc : rig_start(r);
}

static inline int rig_stop(struct rig *r)
{
	int rc = ks_data_close(r->d);

	r->d = NULL;
	return rc;
}

static inline int rig_close(struct rig *r)
{
	int rc = rig_stop(r);

	ks_object_close(r->fault);
	mock_clear(&r->m);
	return rc;
}

static inline int rig_file(struct rig *r, struct ks_file **f, uint64_t ino)
{
	return ks_file_open(f, r->d, ino, r->m.ino[ino].size, r->m.ino[ino].change);
}

static inline struct ks_object_stats rig_stats(const struct rig *r)
{
	struct ks_object_stats s;

	ks_object_stats(r->fault, &s);
	return s;
}

/* A small generator, so that a run can be repeated from its seed. */
static inline uint64_t mock_rand(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

#endif
