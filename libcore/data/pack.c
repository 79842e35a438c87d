/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack.c: small slices of all files go one behind the other into the process's current pack (records: block.h).
 *
 * The current pack is opened by the first who needs it, and replaced when it is 256 MiB large, an hour old, or an append to it failed. Appends run
 * without a lock; the last one to use a replaced pack closes it. A slice uses its pack until it is committed: a pack in which nothing
 * committed lies may still get some.
 */
#include "data/data_internal.h"

#define PACK_MAX (256 * KS_MIB)
#define ID_TRIES 1000u
#define PACK_AGE_NS (3600 * KS_NS_PER_S)
#define BATCH 64u /* slices of one append */
#define BATCH_BYTES (4 * KS_MIB)

struct ks_pack_log {
	struct ks_list link; /* [p->mu] in p->logs */
	struct ks_pack *p;
	struct ks_appender *a;
	uint64_t id;
	uint32_t
		refs; /* atomic; the current pack holds one, and every slice in it that is not committed */
	int64_t made_ns;
	bool over; /* [p->mu] nobody has a reference; to be closed */
};

struct ks_pack {
	struct ks_data *d;
	pthread_mutex_t mu;
	pthread_cond_t cv;
	bool opening;            /* [mu] */
	struct ks_list logs;     /* [mu] those that are in use */
	struct ks_pack_log *now; /* [mu] NULL: none yet */
};

struct batch {
	struct iovec iov[BATCH * (KS_PACK_PAGES_MAX + 2)];
	uint8_t head[BATCH][KS_PACK_HEADER_SIZE];
	struct ks_pack_head h[BATCH];
	uint64_t at[BATCH]; /* where each slice's data begins, relative to the append */
	int niov;
	uint64_t bytes;
};

int ks_pack_open(struct ks_pack **out, struct ks_data *d)
{
	struct ks_pack *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->d = d;
	ks_list_init(&p->logs);
	pthread_mutex_init(&p->mu, NULL);
	pthread_cond_init(&p->cv, NULL);
	*out = p;
	return 0;
}

static void log_put(struct ks_pack_log *o)
{
	if (!o || !ks_ref_put(&o->refs))
		return;
	ks_appender_close(o->a);
	ks_mutex_lock(&o->p->mu);
	ks_list_del(&o->link);
	ks_mutex_unlock(&o->p->mu);
	free(o);
}

void ks_pack_log_leave(struct ks_pack_log *o)
{
	if (!o || !ks_ref_put(&o->refs))
		return;
	KS_LOCKED(&o->p->mu);
	o->over = true;
}

/* Closes what slices left last. */
static void sweep(struct ks_pack *p)
{
	struct ks_pack_log *o, *tmp;
	struct ks_list gone;

	ks_list_init(&gone);
	ks_mutex_lock(&p->mu);
	ks_list_foreach_safe (o, tmp, &p->logs, struct ks_pack_log, link) {
		if (!o->over)
			continue;
		ks_list_del(&o->link);
		ks_list_add_tail(&gone, &o->link);
	}
	ks_mutex_unlock(&p->mu);
	ks_list_foreach_safe (o, tmp, &gone, struct ks_pack_log, link) {
		ks_appender_close(o->a);
		free(o);
	}
}

void ks_pack_close(struct ks_pack *p)
{
	if (!p)
		return;
	log_put(p->now);
	sweep(p);
	pthread_cond_destroy(&p->cv);
	pthread_mutex_destroy(&p->mu);
	free(p);
}

bool ks_pack_takes(const struct slice *s)
{
	return s->d->pack && s->len <= KS_PACK_SLICE_MAX && s->sealed == 0;
}

static int log_open(struct ks_pack *p, struct ks_pack_log **out)
{
	struct ks_data *d = p->d;
	struct ks_pack_log *o = calloc(1, sizeof(*o));
	char key[KS_KEY_STR];
	int r = o ? -EEXIST : -ENOMEM;

	/* A number whose giving out a power cut took back may be an object's already. */
	for (unsigned int i = 0; r == -EEXIST && i < ID_TRIES; i++) {
		r = d->o.host.pack_id(d->o.host.arg, &o->id);
		if (r < 0)
			break;
		ks_pack_key(key, o->id);
		r = ks_appender_open(d->o.store, key, &o->a);
	}
	if (r < 0) {
		free(o);
		return r;
	}
	o->p = p;
	o->refs = 1;
	o->made_ns = ks_clock_mono_ns();
	*out = o;
	return 0;
}

/* Needs p->mu. Takes @o out of use, if it still is the current one. */
static struct ks_pack_log *retire(struct ks_pack *p, struct ks_pack_log *o)
{
	if (!o || p->now != o)
		return NULL;
	p->now = NULL;
	return o;
}

/* The pack to append to, referenced. */
static int current(struct ks_pack *p, struct ks_pack_log **out)
{
	struct ks_pack_log *old = NULL;
	struct ks_pack_log *new = NULL;
	int r = ks_data_may_store(p->d);

	if (r < 0)
		return r;
	ks_mutex_lock(&p->mu);
	while (p->opening)
		ks_cond_wait(&p->cv, &p->mu, -1);
	if (p->now && (ks_appender_size(p->now->a) >= PACK_MAX ||
		       ks_clock_mono_ns() - p->now->made_ns >= PACK_AGE_NS))
		old = retire(p, p->now);
	if (!p->now) {
		p->opening = true;
		ks_mutex_unlock(&p->mu);
		log_put(old);
		r = log_open(p, &new);
		ks_mutex_lock(&p->mu);
		p->opening = false;
		p->now = new;
		if (new)
			ks_list_add_tail(&p->logs, &new->link);
		pthread_cond_broadcast(&p->cv);
	}
	if (r == 0) {
		ks_atomic_add(&p->now->refs, 1);
		*out = p->now;
	}
	ks_mutex_unlock(&p->mu);
	return r;
}

/* A frozen slice's memory stays where it is until it is stored: it is read without a lock. */
static void add(struct batch *b, uint32_t k, struct slice *s)
{
	static const uint8_t zeros[KS_PACK_ALIGN];
	struct ks_pack_head *h = &b->h[k];
	uint32_t pad;

	*h = (struct ks_pack_head){ .ino = s->ino,
				    .slice = s->id,
				    .off = s->chunk * KS_CHUNK_SIZE + s->pos,
				    .len = s->len,
				    .npages = ks_pages_of(s->len) };
	b->iov[b->niov++] = (struct iovec){ b->head[k], KS_PACK_HEADER_SIZE };
	b->bytes += KS_PACK_HEADER_SIZE;
	b->at[k] = b->bytes;
	for (uint32_t i = 0; i < h->npages; i++) {
		uint32_t len = ks_min((uint32_t)KS_PAGE_SIZE, s->len - i * (uint32_t)KS_PAGE_SIZE);

		h->sums[i] = ks_crc32c(0, s->mem[i].p, len);
		b->iov[b->niov++] = (struct iovec){ s->mem[i].p, len };
	}
	ks_pack_seal(b->head[k], h);
	b->bytes += s->len;
	pad = -s->len & (KS_PACK_ALIGN - 1);
	if (pad) {
		union {
			const void *c;
			void *p;
		} z = { zeros }; /* an iovec cannot say that it is only read */

		b->iov[b->niov++] = (struct iovec){ z.p, pad };
		b->bytes += pad;
	}
}

static void stored(struct slice *s, struct ks_pack_log *o, uint64_t off,
		   const struct ks_pack_head *h)
{
	KS_LOCKED(&s->mu);
	ks_atomic_add(&o->refs, 1);
	s->in_pack = o;
	s->pack = o->id;
	s->pack_off = off;
	s->packed_len = h->len;
	for (uint32_t i = 0; i < h->npages; i++) {
		s->sums[i] = h->sums[i];
		ks_slice_page_stored(
			s, i, ks_min((uint32_t)KS_PAGE_SIZE, h->len - i * (uint32_t)KS_PAGE_SIZE));
	}
}

static int log_write(struct ks_pack_log *o, const struct iovec *iov, int niov, uint64_t bytes,
		     uint64_t *off)
{
	struct ks_pack *p = o->p;
	int r = ks_appender_write(o->a, iov, niov, off);

	if (r < 0) {
		/* Whatever is the matter with this pack, the next attempt gets a new one; on a full disk that would not help. */
		if (r != -ENOSPC && r != -EDQUOT)
			ks_data_pack_retire(p->d, o->id);
		return r;
	}
	ks_atomic_add(&p->d->uploads, 1);
	ks_atomic_add(&p->d->upload_bytes, bytes);
	return 0;
}

static int append(struct ks_pack *p, struct batch *b, struct slice *const *v, uint32_t n)
{
	struct ks_pack_log *o = NULL;
	uint64_t off = 0;
	int r = current(p, &o);

	if (r < 0)
		return r;
	r = log_write(o, b->iov, b->niov, b->bytes, &off);
	for (uint32_t i = 0; r == 0 && i < n; i++)
		stored(v[i], o, off + b->at[i], &b->h[i]);
	log_put(o);
	return r;
}

int ks_pack_append(struct ks_pack *p, struct slice *const *v, size_t n)
{
	struct batch *b = malloc(sizeof(*b));
	size_t i = 0;
	int r = b ? 0 : -ENOMEM;

	while (r == 0 && i < n) {
		uint32_t k = 0;

		b->niov = 0;
		b->bytes = 0;
		while (r == 0 && i + k < n && k < BATCH && b->bytes < BATCH_BYTES) {
			r = ks_slice_take_id(v[i + k]);
			if (r == 0)
				add(b, k, v[i + k]);
			k += r == 0;
		}
		if (r == 0)
			r = append(p, b, v + i, k);
		i += k;
	}
	free(b);
	if (r < 0)
		ks_pool_failed(p->d->pool, r);
	return r;
}

/* ---- for who rewrites packs ---- */

bool ks_data_has_packs(const struct ks_data *d)
{
	return d->pack != NULL;
}

uint64_t ks_data_pack_current(struct ks_data *d)
{
	if (!d->pack)
		return 0;
	KS_LOCKED(&d->pack->mu);
	return d->pack->now ? d->pack->now->id : 0;
}

bool ks_data_pack_in_use(struct ks_data *d, uint64_t pack)
{
	struct ks_pack_log *o;

	if (!d->pack)
		return false;
	sweep(d->pack);
	KS_LOCKED(&d->pack->mu);
	ks_list_foreach (o, &d->pack->logs, struct ks_pack_log, link) {
		if (o->id == pack)
			return true;
	}
	return false;
}

void ks_data_pack_retire(struct ks_data *d, uint64_t pack)
{
	struct ks_pack *p = d->pack;
	struct ks_pack_log *old = NULL;

	if (!p)
		return;
	ks_mutex_lock(&p->mu);
	if (p->now && p->now->id == pack)
		old = retire(p, p->now);
	ks_mutex_unlock(&p->mu);
	log_put(old);
}

int ks_data_pack_begin(struct ks_data *d, struct ks_pack_log **out, uint64_t *pack)
{
	int r = d->pack ? current(d->pack, out) : -EOPNOTSUPP;

	if (r == 0)
		*pack = (*out)->id;
	return r;
}

int ks_data_pack_add(struct ks_data *d, struct ks_pack_log *l, const struct iovec *iov, int niov,
		     uint64_t *off)
{
	uint64_t bytes = 0;

	(void)d;
	for (int i = 0; i < niov; i++) {
		assert(iov[i].iov_len % KS_PACK_ALIGN == 0);
		bytes += iov[i].iov_len;
	}
	return log_write(l, iov, niov, bytes, off);
}

void ks_data_pack_end(struct ks_pack_log *l)
{
	log_put(l);
}
