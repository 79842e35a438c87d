/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.c: FUSE over io_uring beneath an unmodified libfuse.
 *
 * A request. The kernel fills an entry: the headers into one area, everything else (names, data of a WRITE) into the payload. libfuse wants one
 * contiguous message, so the two headers (at most 168 bytes) are copied to end where the payload begins; the payload never moves.
 *
 *	page of the entry              payload
 *	[ring header .. | in | op ]    [name / data ......]
 *	                  ^ the message
 *
 * A reply. libfuse calls writev(); the request that this thread is serving is known, others are found by their unique number. The out header goes to
 * the ring header, the rest to the payload, and COMMIT_AND_FETCH leaves together with the wait for the next request: one system call per request.
 *
 * Life of an entry, and who may touch it:
 *
 *	with the kernel   nobody                           unique == 0
 *	serving           the queue's thread               unique != 0, the message is in it
 *	handed off        one worker, until its reply      unique != 0
 *	done              on the queue's done list [mu]    the queue's thread commits it
 *
 * Only the queue's own thread submits: the kernel delivers an entry's next request as task work of the thread that submitted its command.
 * Once the INIT reply says io_uring, every request waits until every possible CPU's queue has an entry. So everything that can fail is done before that reply;
 * registering comes after it (the kernel refuses it earlier).
 */
#define FUSE_USE_VERSION 312
#include "fuse/uring.h"
#include "fuse/giveway.h"
#include "fuse/linger.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "fuse/uring_abi.h"
#include "vfs/vfs.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reads of the access log that wait hold an entry each, and must leave some to others. */
enum { DEPTH_MIN = KS_LOG_READERS + 2 };
enum { PAGE = 4096, DEPTH_MAX = 8, DEPTH_BUDGET = 128, WORKERS = 8, RETRY_US = 10000 };
/* Of a command that fails: a second. */
enum { TRIES_MAX = 100 };

#ifndef IORING_SETUP_SINGLE_ISSUER
#define IORING_SETUP_SINGLE_ISSUER (1U << 12)
#endif
#ifndef IORING_SETUP_DEFER_TASKRUN
#define IORING_SETUP_DEFER_TASKRUN (1U << 13)
#endif

struct queue;

struct entry {
	struct ks_job job; /* when handed off */
	struct queue *q;
	struct ks_uring_header *hdr;
	char *payload;
	char *msg; /* the contiguous message, while served */
	size_t msg_len;
	_Atomic uint64_t unique; /* of the request being served; 0: with the kernel */
	uint64_t commit_id;
	unsigned int cmd;   /* sent last, to be repeated when it fails */
	unsigned int tries; /* that failed, one after the other */
	struct iovec iov[2];
	struct entry *next; /* [queue's mu] done list */
};

struct queue {
	struct ks_uring *u;
	unsigned int id;
	int efd; /* wakes the queue's thread: something is on done, or stop */
	bool up; /* [state] the ring exists */
	struct io_uring ring;
	pthread_t thread;
	bool started;
	struct ks_linger linger;
	struct ks_giver giver;
	uint64_t efd_value;
	struct entry *ent;
	unsigned int lost; /* entries that the kernel did not take */
	bool pause;        /* something failed: not at once again */
	pthread_mutex_t mu;
	struct entry *done; /* [mu] */
};

enum stage { STAGE_SETUP, STAGE_GO, STAGE_REFUSED };

struct ks_uring {
	struct ks_uring_opts opts;
	struct fuse_session *se;
	int fd;
	unsigned int depth, nq, nworkers;
	size_t payload_max;
	uint64_t init_unique;
	bool offered;
	const char *why_not;
	struct queue *q;
	struct ks_workers *workers;
	struct ks_giveway giveway;
	_Atomic bool on, refused, stop;
	_Atomic int err;         /* it had to be given up */
	struct ks_spell failing; /* commands */

	pthread_mutex_t state; /* guards what follows, and queue.up */
	pthread_cond_t cond;
	unsigned int ready;
	enum stage stage;
};

/* The request this thread is serving, and whether the thread is a queue's own. */
static __thread struct entry *tls_entry;
static __thread struct queue *tls_queue;
static __thread bool tls_again;

/* ---- submission: the queue's own thread only ---- */

static struct io_uring_sqe *get_sqe(struct queue *q)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	/* The ring has room for every entry and the eventfd at once, so it is only ever full of what was not submitted yet. */
	if (!sqe) {
		(void)io_uring_submit(&q->ring);
		sqe = io_uring_get_sqe(&q->ring);
	}
	assert(sqe);
	/* liburing 2.3 clears 64 of the 128 bytes. */
	memset(sqe, 0, 128);
	return sqe;
}

static void submit_entry(struct entry *e, unsigned int cmd)
{
	struct queue *q = e->q;
	struct io_uring_sqe *sqe = get_sqe(q);
	struct ks_uring_cmd *c = (void *)sqe->cmd;

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE; /* number 0 is /dev/fuse */
	sqe->cmd_op = cmd;
	if (cmd == KS_URING_REGISTER) {
		e->iov[0] = (struct iovec){ e->hdr, sizeof(*e->hdr) };
		e->iov[1] = (struct iovec){ e->payload, q->u->payload_max };
		sqe->addr = (uintptr_t)e->iov;
		sqe->len = 2;
	}
	c->qid = (uint16_t)q->id;
	c->commit_id = e->commit_id;
	io_uring_sqe_set_data(sqe, e);
	e->cmd = cmd;
}

static void arm_eventfd(struct queue *q)
{
	struct io_uring_sqe *sqe = get_sqe(q);

	io_uring_prep_read(sqe, q->efd, &q->efd_value, sizeof(q->efd_value), 0);
	io_uring_sqe_set_data(sqe, NULL);
}

static void wake_queue(struct queue *q)
{
	uint64_t one = 1;

	/* Fails only when the counter is full, and then the thread wakes anyhow. */
	KS_IGNORE(write(q->efd, &one, sizeof(one)) < 0);
}

/* ---- replies ---- */

static struct entry *find_entry(struct ks_uring *u, uint64_t unique)
{
	if (tls_entry && atomic_load_explicit(&tls_entry->unique, memory_order_relaxed) == unique)
		return tls_entry;
	if (!atomic_load_explicit(&u->on, memory_order_acquire))
		return NULL;
	/* From a third thread: a read that had waited. A reply to a classic request (FORGET has none) ends here too. */
	for (unsigned int i = 0; i < u->nq; i++) {
		for (unsigned int k = 0; k < u->depth; k++) {
			if (u->q[i].ent[k].unique == unique)
				return &u->q[i].ent[k];
		}
	}
	return NULL;
}

static ssize_t reply_entry(struct entry *e, const struct iovec *iov, int n)
{
	struct fuse_out_header oh;
	size_t max = e->q->u->payload_max;
	size_t len = 0;

	memcpy(&oh, iov[0].iov_base, sizeof(oh));
	for (int i = 1; i < n; i++) {
		if (iov[i].iov_len > max - len) {
			oh.error = -EIO; /* the kernel sized the payload for its own limits */
			len = 0;
			break;
		}
		/* A READ may have put its data in place. */
		if (iov[i].iov_base != e->payload + len)
			memmove(e->payload + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	oh.len = (uint32_t)(sizeof(oh) + len);
	memcpy(e->hdr->in_out, &oh, sizeof(oh));
	e->hdr->payload_size = (uint32_t)len;
	atomic_store_explicit(&e->unique, 0, memory_order_relaxed);

	struct queue *q = e->q;

	if (q == tls_queue) {
		submit_entry(e, KS_URING_COMMIT_AND_FETCH); /* leaves with the next wait */
	} else {
		bool first;

		ks_mutex_lock(&q->mu);
		first = !q->done;
		e->next = q->done;
		q->done = e;
		ks_mutex_unlock(&q->mu);
		if (first)
			wake_queue(q);
	}
	return (ssize_t)(sizeof(oh) + len);
}

static void take_done(struct queue *q)
{
	struct entry *e;

	ks_mutex_lock(&q->mu);
	e = q->done;
	q->done = NULL;
	ks_mutex_unlock(&q->mu);
	while (e) {
		struct entry *next = e->next;

		submit_entry(e, KS_URING_COMMIT_AND_FETCH);
		e = next;
	}
}

/* ---- requests ---- */

static void process(struct entry *e)
{
	struct fuse_buf b = { .mem = e->msg, .size = e->msg_len };

	tls_entry = e;
	tls_again = false;
	e->q->u->opts.process(e->q->u->opts.arg, &b);
	tls_entry = NULL;
}

static void run_handed(struct ks_job *job)
{
	struct entry *e = ks_container_of(job, struct entry, job);

	process(e);
}

static void serve(struct entry *e)
{
	struct ks_uring_header *h = e->hdr;
	struct fuse_in_header in;
	struct ks_uring *u = e->q->u;

	memcpy(&in, h->in_out, sizeof(in));

	size_t op = in.len - sizeof(in) - h->payload_size;

	/* No table of opcodes: what is neither header nor payload is the opcode's struct. */
	if (in.len < sizeof(in) + h->payload_size || op > sizeof(h->op_in)) {
		struct fuse_out_header oh = { .unique = in.unique, .error = -EIO };
		struct iovec v = { &oh, sizeof(oh) };

		ks_log(KS_LOG_ERROR, "request %u from the ring has a size that does not add up: %u",
		       in.opcode, in.len);
		e->commit_id = h->commit_id;
		(void)reply_entry(e, &v, 1);
		return;
	}
	e->msg = e->payload - op - sizeof(in);
	e->msg_len = in.len;
	memcpy(e->msg, &in, sizeof(in));
	memcpy(e->msg + sizeof(in), h->op_in, op);
	/* Names end with a NUL in the payload already; this keeps a parser inside it whatever comes. */
	if (h->payload_size < u->payload_max)
		e->payload[h->payload_size] = 0;
	e->commit_id = h->commit_id;
	atomic_store_explicit(&e->unique, in.unique, memory_order_relaxed);
	process(e);
	if (tls_again) {
		tls_again = false;
		ks_workers_add(u->workers, &e->job);
	}
}

static const char *purpose(const struct entry *e)
{
	return e->cmd == KS_URING_REGISTER ? "register an entry" : "send a reply";
}

/*
 * Programs wait for what will not come any more. The threads end, so that nothing but the session's own descriptor keeps the connection: when that is closed, they
 * get an error.
 */
static void give_up(struct queue *q, const struct entry *e, int res)
{
	struct ks_uring *u = q->u;
	int none = 0;

	if (!atomic_compare_exchange_strong(&u->err, &none, res))
		return;
	ks_log(KS_LOG_ERROR, "io_uring queue %u: cannot %s: %s", q->id, purpose(e),
	       ks_strerror(-res));
	atomic_store_explicit(&u->stop, true, memory_order_release);
	for (unsigned int i = 0; i < u->nq; i++)
		wake_queue(&u->q[i]);
	u->opts.failed(u->opts.arg);
}

/*
 * The kernel (fs/fuse/dev_uring.c) did not do it. Tried again, that a request is not lost, nor the entry:
 *
 *	ENOENT		it does not know the request that was replied to, perhaps since an earlier try did it: the entry is registered anew, for others
 *	all others	ENOMEM, or forbidden by a policy: nothing has happened
 *
 * What never works ends the session, but for an entry among others that cannot be registered.
 */
static void failed(struct queue *q, struct entry *e, int res)
{
	unsigned int cmd = res == -ENOENT ? KS_URING_REGISTER : e->cmd;

	if (ks_spell_say(&q->u->failing))
		ks_log(KS_LOG_WARN, "io_uring queue %u: cannot %s, tries again: %s", q->id,
		       purpose(e), ks_strerror(-res));
	if (++e->tries < TRIES_MAX) {
		q->pause = true;
		submit_entry(e, cmd);
	} else if (cmd != KS_URING_REGISTER || ++q->lost == q->u->depth) {
		give_up(q, e, res);
	}
}

static uint32_t opcode_of(const struct entry *e)
{
	struct fuse_in_header in;

	memcpy(&in, e->hdr->in_out, sizeof(in));
	return in.opcode;
}

static void complete(struct queue *q, struct entry *e, int res)
{
	if (!e) {
		take_done(q);
		arm_eventfd(q);
	} else if (res == 0) {
		e->tries = 0;
		ks_giveway_serve(&q->giver);
		if (!ks_giveway_may(opcode_of(e)))
			ks_giveway_end(&q->u->giveway, &q->giver);
		serve(e);
		ks_giveway_done(&q->giver);
	} else if (res == -EINTR || res == -EAGAIN) {
		submit_entry(e, e->cmd);
	} else if (res != -ENOTCONN && res != -ECONNABORTED && res != -ECANCELED) {
		failed(q, e, res);
	} /* else unmounted: the entry is gone */
}

/*
 * The scheduler likes to wake a client on a CPU that is idle. Its next request then comes to that CPU's queue, whose thread's reply finds the first CPU idle, and so it goes
 * to and fro, each time with a CPU that has to be woken, which is dear in a virtual machine. A thread that looks out for its next request for a moment keeps
 * its own CPU from being idle, and the client where it is; whoever else wants the CPU is let through.
 *
 * Where threads may give way (giveway.h) that is not needed.
 */
static int linger(struct queue *q)
{
	bool go = ks_linger_begin(&q->linger);
	int r = go ? io_uring_submit_and_get_events(&q->ring) : 0;

	while (go && r >= 0 && !io_uring_cq_ready(&q->ring)) {
		go = ks_linger_go_on(&q->linger);
		if (IO_URING_READ_ONCE(*q->ring.sq.kflags) & IORING_SQ_TASKRUN)
			r = io_uring_get_events(&q->ring);
	}
	return r;
}

static void queue_loop(struct queue *q)
{
	bool served = false;
	bool told = false;

	for (unsigned int k = 0; k < q->u->depth; k++)
		submit_entry(&q->ent[k], KS_URING_REGISTER);
	arm_eventfd(q);
	while (!atomic_load_explicit(&q->u->stop, memory_order_acquire)) {
		struct io_uring_cqe *cqe;
		bool lingers = served && q->u->nq > 1 && !ks_giveway_works(&q->u->giveway);
		int r = lingers ? linger(q) : 0;

		ks_giveway_begin(&q->u->giveway, &q->giver);
		if (r >= 0 && !io_uring_cq_ready(&q->ring))
			r = io_uring_submit_and_wait(&q->ring, 1);
		served = false;
		/* Tried again, whatever it is (no memory?): without this thread the programs of its CPU would hang. */
		if (r < 0 && r != -EINTR && r != -EAGAIN && r != -EBUSY) {
			if (!told)
				ks_log(KS_LOG_ERROR, "io_uring queue %u: %s", q->id,
				       ks_strerror(-r));
			told = true;
			usleep(RETRY_US);
		}
		while (io_uring_peek_cqe(&q->ring, &cqe) == 0) {
			struct entry *e = io_uring_cqe_get_data(cqe);
			int res = cqe->res;

			io_uring_cqe_seen(&q->ring, cqe);
			complete(q, e, res);
			served = true;
		}
		if (q->pause)
			usleep(RETRY_US);
		q->pause = false;
	}
}

static void bind_to_cpu(struct queue *q)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(q->id, &set);
	/* Fails for a CPU that is offline or outside our cpuset: requests still come, only from further away. */
	if (sched_setaffinity(0, sizeof(set), &set) == 0)
		ks_giveway_bound(&q->giver, (int)q->id);
}

/*
 * May we give commands? A policy (SELinux) that allows rings may forbid those, which is known only from trying, and once INIT is answered the kernel waits for rings, whatever
 * becomes of them.
 */
static bool may_command(struct queue *q)
{
	struct io_uring_sqe *sqe = get_sqe(q);
	struct io_uring_cqe *cqe;
	int res;

	sqe->opcode = IORING_OP_URING_CMD;
	sqe->flags = IOSQE_FIXED_FILE;
	sqe->cmd_op = KS_URING_NONE;
	do
		res = io_uring_submit_and_wait(&q->ring, 1);
	while (res == -EINTR);
	if (res < 0 || io_uring_peek_cqe(&q->ring, &cqe) < 0)
		return false;
	res = cqe->res;
	io_uring_cqe_seen(&q->ring, cqe);
	return res != -EACCES && res != -EPERM;
}

static void *queue_main(void *arg)
{
	struct queue *q = arg;
	struct ks_uring *u = q->u;
	struct io_uring_params p = { .flags = IORING_SETUP_SQE128 | IORING_SETUP_SUBMIT_ALL |
					      IORING_SETUP_SINGLE_ISSUER |
					      IORING_SETUP_DEFER_TASKRUN |
					      IORING_SETUP_TASKRUN_FLAG };
	bool have;
	bool go;

	tls_queue = q;
	bind_to_cpu(q);
	ks_giveway_enter(&q->giver);
	have = io_uring_queue_init_params(u->depth + 2, &q->ring, &p) == 0;
	/* A child that looks at our mount must not keep it alive when we are dead (base/apart.h). */
	if (have)
		KS_IGNORE(io_uring_ring_dontfork(&q->ring) < 0);

	bool ok = have && io_uring_register_files(&q->ring, &u->fd, 1) == 0;

	if (ok)
		(void)io_uring_register_ring_fd(
			&q->ring); /* saves a look-up; older kernels refuse */
	/* One for all: what is forbidden is so for the process. */
	ok = ok && (q->id > 0 || may_command(q));
	ks_mutex_lock(&u->state);
	q->up = ok;
	u->ready++;
	pthread_cond_broadcast(&u->cond);
	while (u->stage == STAGE_SETUP)
		KS_IGNORE(ks_cond_wait(&u->cond, &u->state, -1));
	go = u->stage == STAGE_GO;
	ks_mutex_unlock(&u->state);
	if (go)
		queue_loop(q);
	ks_giveway_leave(&u->giveway, &q->giver);
	if (have)
		io_uring_queue_exit(&q->ring); /* cancels what the kernel still holds */
	return NULL;
}

/* ---- start: while INIT is being answered ---- */

static int queue_init(struct ks_uring *u, struct queue *q, unsigned int id)
{
	q->u = u;
	q->id = id;
	q->efd = eventfd(0, EFD_CLOEXEC);
	q->ent = calloc(u->depth, sizeof(*q->ent));
	if (q->efd < 0 || !q->ent)
		return -ENOMEM;
	for (unsigned int k = 0; k < u->depth; k++) {
		/* Touched lazily: an entry that never sees a large request stays small. */
		char *m = mmap(NULL, PAGE + u->payload_max, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (m == MAP_FAILED)
			return -ENOMEM;
		q->ent[k].q = q;
		q->ent[k].hdr = (void *)m;
		q->ent[k].payload = m + PAGE;
		q->ent[k].job.run = run_handed;
	}
	return ks_thread_start(&q->thread, "ks-ring", queue_main, q);
}

/* Of a thread that gives way: the kernel has a request for it. */
static bool request_waits(void *arg)
{
	const struct queue *q = arg;

	return IO_URING_READ_ONCE(*q->ring.sq.kflags) & IORING_SQ_TASKRUN;
}

static int start_queues(struct ks_uring *u)
{
	/* One queue per possible CPU, online or not: the kernel waits for all of them. */
	long n = sysconf(_SC_NPROCESSORS_CONF);
	unsigned int up = 0;
	int r;

	u->nq = n > 0 ? (unsigned int)n : 1;
	if (!u->depth) {
		u->depth = ks_min((unsigned int)DEPTH_MAX, DEPTH_BUDGET / u->nq);
		u->depth = ks_max((unsigned int)DEPTH_MIN, u->depth);
	}
	u->q = calloc(u->nq, sizeof(*u->q));
	if (!u->q)
		return -ENOMEM;
	ks_giveway_init(&u->giveway);
	for (unsigned int i = 0; i < u->nq; i++) {
		u->q[i].efd = -1;
		pthread_mutex_init(&u->q[i].mu, NULL);
		ks_giveway_add(&u->giveway, &u->q[i].giver, request_waits, &u->q[i]);
	}
	/* Without the thread nobody gives way. */
	if (ks_giveway_works(&u->giveway))
		KS_IGNORE(ks_giveway_start(&u->giveway, NULL, NULL) < 0);
	r = ks_workers_start(&u->workers, "ks-block", (int)u->nworkers);
	for (unsigned int i = 0; r == 0 && i < u->nq; i++) {
		r = queue_init(u, &u->q[i], i);
		u->q[i].started = r == 0;
	}
	if (r < 0)
		return r;
	ks_mutex_lock(&u->state);
	while (u->ready < u->nq)
		KS_IGNORE(ks_cond_wait(&u->cond, &u->state, -1));
	for (unsigned int i = 0; i < u->nq; i++)
		up += u->q[i].up;
	ks_mutex_unlock(&u->state);
	return up == u->nq ? 0 : -ENOSYS;
}

static void set_stage(struct ks_uring *u, enum stage stage)
{
	ks_mutex_lock(&u->state);
	u->stage = stage;
	pthread_cond_broadcast(&u->cond);
	ks_mutex_unlock(&u->state);
}

static ssize_t reply_init(struct ks_uring *u, int fd, struct iovec *iov, int n)
{
	struct fuse_init_out out;
	struct iovec v[2] = { iov[0], { &out, sizeof(out) } };
	ssize_t r;

	if (n != 2 || iov[1].iov_len != sizeof(out) || !u->offered) {
		if (!u->why_not)
			u->why_not = "the kernel does not offer it (6.14 or later, and "
				     "fuse.enable_uring=1)";
		return writev(fd, iov, n);
	}
	/* A copy is changed, not libfuse's own. */
	memcpy(&out, iov[1].iov_base, sizeof(out));
	u->payload_max = ks_max((size_t)out.max_write, (size_t)out.max_pages * PAGE);
	u->payload_max = ks_max(u->payload_max, (size_t)FUSE_MIN_READ_BUFFER);

	bool ok = start_queues(u) == 0;

	if (ok) {
		out.flags |= KS_FUSE_INIT_EXT;
		out.flags2 |= KS_FUSE_OVER_IO_URING_2;
	} else {
		u->why_not = "io_uring cannot be set up here (memory lock limit, or forbidden)";
	}
	r = writev(fd, v, 2);
	if (ok && r >= 0)
		atomic_store_explicit(&u->on, true, memory_order_release);
	else
		atomic_store_explicit(&u->refused, true, memory_order_release);
	set_stage(u, ok && r >= 0 ? STAGE_GO : STAGE_REFUSED);
	return r;
}

/* ---- the session's custom I/O ---- */

ssize_t ks_uring_writev(struct ks_uring *u, int fd, struct iovec *iov, int n)
{
	struct fuse_out_header oh;
	struct entry *e;

	memcpy(&oh, iov[0].iov_base, sizeof(oh));
	if (oh.unique && oh.unique == u->init_unique) {
		u->init_unique = 0;
		return reply_init(u, fd, iov, n);
	}
	/* Notifications (unique 0) and answers to interrupts stay on /dev/fuse. */
	e = oh.unique ? find_entry(u, oh.unique) : NULL;
	return e ? reply_entry(e, iov, n) : writev(fd, iov, n);
}

ssize_t ks_uring_read(struct ks_uring *u, int fd, void *buf, size_t n)
{
	ssize_t r = read(fd, buf, n);
	struct fuse_in_header in;

	if (r < (ssize_t)sizeof(in))
		return r;
	memcpy(&in, buf, sizeof(in));
	if (in.opcode == FUSE_INIT) {
		struct fuse_init_in init = { 0 };

		memcpy(&init, (char *)buf + sizeof(in),
		       ks_min(sizeof(init), (size_t)r - sizeof(in)));
		u->init_unique = in.unique;
		u->offered =
			(init.flags & KS_FUSE_INIT_EXT) && (init.flags2 & KS_FUSE_OVER_IO_URING_2);
	}
	return r;
}

/* ---- life ---- */

int ks_uring_new(struct ks_uring **out, struct fuse_session *se, const struct ks_uring_opts *o)
{
	struct ks_uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->se = se;
	u->fd = fuse_session_fd(se);
	u->opts = *o;
	u->depth = o->depth;
	u->nworkers = o->workers ? o->workers : WORKERS;
	pthread_mutex_init(&u->state, NULL);
	r = ks_cond_init(&u->cond);
	if (r < 0) {
		free(u);
		return r;
	}
	*out = u;
	return 0;
}

bool ks_uring_is_on(const struct ks_uring *u)
{
	return atomic_load_explicit(&u->on, memory_order_acquire);
}

bool ks_uring_is_refused(const struct ks_uring *u)
{
	return atomic_load_explicit(&u->refused, memory_order_acquire);
}

int ks_uring_error(const struct ks_uring *u)
{
	return atomic_load_explicit(&u->err, memory_order_acquire);
}

const char *ks_uring_why_not(const struct ks_uring *u)
{
	return ks_uring_is_on(u) ? "" : u->why_not ? u->why_not : "not asked for";
}

static void queue_clear(struct queue *q)
{
	for (unsigned int k = 0; q->ent && k < q->u->depth; k++) {
		if (q->ent[k].hdr)
			(void)munmap(q->ent[k].hdr, PAGE + q->u->payload_max);
	}
	free(q->ent);
	if (q->efd >= 0)
		close(q->efd);
	pthread_mutex_destroy(&q->mu);
}

void ks_uring_free(struct ks_uring *u)
{
	if (!u)
		return;
	/* Handed-off requests first: their replies need the queues. */
	ks_workers_stop(u->workers);
	atomic_store_explicit(&u->stop, true, memory_order_release);
	ks_mutex_lock(&u->state);
	if (u->stage == STAGE_SETUP)
		u->stage = STAGE_REFUSED;
	pthread_cond_broadcast(&u->cond);
	ks_mutex_unlock(&u->state);
	if (u->q)
		ks_giveway_stop(&u->giveway);
	for (unsigned int i = 0; u->q && i < u->nq; i++) {
		if (!u->q[i].started)
			continue;
		wake_queue(&u->q[i]);
		pthread_join(u->q[i].thread, NULL);
	}
	for (unsigned int i = 0; u->q && i < u->nq; i++) {
		if (u->q[i].u)
			queue_clear(&u->q[i]);
	}
	if (u->q)
		ks_giveway_destroy(&u->giveway);
	free(u->q);
	pthread_cond_destroy(&u->cond);
	pthread_mutex_destroy(&u->state);
	free(u);
}

/* ---- for operations ---- */

void *ks_uring_reply_buffer(size_t *size)
{
	if (!tls_entry)
		return NULL;
	*size = tls_entry->q->u->payload_max;
	return tls_entry->payload;
}

bool ks_uring_must_not_block(void)
{
	return tls_queue && tls_entry;
}

void ks_uring_again(void)
{
	assert(ks_uring_must_not_block());
	tls_again = true;
}
