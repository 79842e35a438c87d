/* SPDX-License-Identifier: Apache-2.0 */
/*
 * waiting.c: reads of the access log that wait. No thread sleeps for them: the request is put aside, and whoever makes the next line answers it. So they hold up
 * neither a ring nor the one thread of a mount that has no other. At most KS_LOG_READERS wait; each holds an entry of its ring (uring.c has more than that).
 *
 * A request that waits is answered by whoever takes it out of its place, under wait_mu: a line, an interrupt (the kernel sends one when the reader gets a
 * signal, and waits for the answer), or the end.
 */
#include "fuse/internal.h"

/* Takes a request out of its place. Needs wait_mu. */
static fuse_req_t leave(struct ks_fuse *f, struct ks_waiting *w)
{
	fuse_req_t req = w->req;

	w->req = NULL;
	__atomic_store_n(&f->nwaiting, f->nwaiting - 1, __ATOMIC_RELAXED);
	return req;
}

/* libfuse holds a reference to @req meanwhile, so that its address is not another request's. */
static void interrupted(fuse_req_t req, void *arg)
{
	struct ks_fuse *f = arg;
	fuse_req_t mine = NULL;

	ks_mutex_lock(&f->wait_mu);
	for (size_t i = 0; i < KS_LOG_READERS; i++) {
		if (f->waiting[i].req == req)
			mine = leave(f, &f->waiting[i]);
	}
	ks_mutex_unlock(&f->wait_mu);
	if (mine)
		KS_IGNORE(fuse_reply_err(mine, EINTR));
}

static struct ks_waiting *free_place(struct ks_fuse *f)
{
	for (size_t i = 0; i < KS_LOG_READERS; i++) {
		if (!f->waiting[i].req)
			return &f->waiting[i];
	}
	return NULL;
}

/* 1: it waits; else what to answer: how many bytes are in @buf, or -errno. */
static ssize_t try_to_wait(struct ks_fuse *f, fuse_req_t req, struct ks_fh *fh, char *buf,
			   size_t size, bool *waits)
{
	const struct ks_ctx c = { 0 };
	struct ks_waiting *w;
	ssize_t n;

	KS_LOCKED(&f->wait_mu);
	w = free_place(f);
	if (!w)
		return -EBUSY;
	/* Counted before it looks once more: a line that this look misses sees the count. */
	__atomic_store_n(&f->nwaiting, f->nwaiting + 1, __ATOMIC_RELAXED);
	w->req = req;
	n = ks_vfs_read(fh, &c, 0, buf, size);
	if (n == -EAGAIN && fuse_req_interrupted(req))
		n = -EINTR;
	*waits = n == -EAGAIN;
	if (*waits) {
		w->fh = fh;
		w->size = size;
	} else {
		leave(f, w);
	}
	return n;
}

void ks_fuse_wait(fuse_req_t req, struct ks_fh *fh, size_t size)
{
	struct ks_fuse *f = ks_fuse_of(req);
	char *buf = ks_fuse_buffer(size);
	bool waits = false;
	ssize_t n = -ENOMEM;

	/*
	 * First, while it has no place: called from within this function, where libfuse holds a lock that dies with the request, it must not answer. An interrupt that has come
	 * by now is seen below.
	 */
	fuse_req_interrupt_func(req, interrupted, f);
	if (buf)
		n = try_to_wait(f, req, fh, buf, size, &waits);
	if (waits)
		return;
	if (n < 0)
		KS_IGNORE(fuse_reply_err(req, (int)-n));
	else
		KS_IGNORE(fuse_reply_buf(req, buf, (size_t)n));
}

/* Answers one that has something to read now; false: none has. */
static bool answer_one(struct ks_fuse *f)
{
	const struct ks_ctx c = { 0 };
	fuse_req_t req = NULL;
	char *buf = NULL;
	ssize_t n = -EAGAIN;

	ks_mutex_lock(&f->wait_mu);
	for (size_t i = 0; i < KS_LOG_READERS && n == -EAGAIN; i++) {
		struct ks_waiting *w = &f->waiting[i];

		if (!w->req)
			continue;
		buf = ks_fuse_buffer(w->size);
		n = buf ? ks_vfs_read(w->fh, &c, 0, buf, w->size) : -ENOMEM;
		if (n != -EAGAIN)
			req = leave(f, w);
	}
	ks_mutex_unlock(&f->wait_mu);
	if (req && n < 0)
		KS_IGNORE(fuse_reply_err(req, (int)-n));
	else if (req)
		KS_IGNORE(fuse_reply_buf(req, buf, (size_t)n));
	return req != NULL;
}

static void log_moved(void *arg)
{
	struct ks_fuse *f = arg;

	while (__atomic_load_n(&f->nwaiting, __ATOMIC_RELAXED) > 0 && answer_one(f))
		;
}

void ks_fuse_waiting_init(struct ks_fuse *f)
{
	pthread_mutex_init(&f->wait_mu, NULL);
	f->listeners = ks_vfs_log_readers(f->vfs);
	ks_vfs_log_notify(f->vfs, log_moved, f);
}

void ks_fuse_waiting_destroy(struct ks_fuse *f)
{
	ks_vfs_log_end(f->vfs);
	ks_vfs_log_notify(f->vfs, NULL, NULL);
	pthread_mutex_destroy(&f->wait_mu);
}
