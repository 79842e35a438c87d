/* SPDX-License-Identifier: Apache-2.0 */
/*
 * transport_classic.c: /dev/fuse, read by as few threads as the work needs.
 *
 * The kernel wakes the thread that has waited longest. With many waiting, every request of one client is served by another thread, with cold caches and
 * mostly on another CPU; with one, it and its client settle on two CPUs and wake each other from idleness twice a request, which costs more than most
 * requests. A few that take turns do best where requests take long or come from several clients. So READERS threads wait, while the others are parked:
 *
 *	reading   waits for a request; normally READERS threads
 *	serving   runs an operation. If nobody reads and requests have been waiting for several turns, it has a parked one help
 *	parked    sleeps on a semaphore of its own; the one parked last is unparked first, or a new one is started
 *
 * A thread that has served parks when enough others are reading. An operation may take long (a cold read, fsync, a lock): the supervisor, which is the thread in run(),
 * looks every millisecond, while there is work, whether requests wait and nobody finishes any, and unparks one. Without work it sleeps.
 *
 * One client that asks brief things one after the other, as most programs do with names and attributes, is served by one thread, which looks out for the next request for
 * a moment (linger.h) before it sleeps: nobody has to be woken. The first request that is not brief, or that another one waits behind, ends that.
 */
#include "fuse/internal.h"
#include "fuse/linger.h"
#include <linux/fuse.h>
#include <malloc.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS 16
#define TICK_NS KS_NS_PER_MS
#define IDLE_TICKS 50 /* after so many without a request the supervisor sleeps */
#define READ_MAX 4096 /* a READ request is shorter */
#define READERS 3
#define IN_A_ROW 16 /* brief requests, with none waiting behind them: there is one client */
#define BACKLOG 4   /* turns with requests waiting before another thread helps */

/* Of the request that this thread serves. */
static __thread const struct fuse_buf *tls_buf;

struct loop;

struct worker {
	struct loop *l;
	pthread_t thread;
	sem_t unpark;
	bool reading; /* atomic */
	bool ended;   /* atomic */
};

struct loop {
	struct ks_fuse *f;
	struct fuse_session *se;
	int fd;
	unsigned int max;
	unsigned int nreading; /* atomic */
	uint64_t served;       /* atomic: requests finished */
	uint64_t begun;        /* atomic: requests taken */
	unsigned int in_a_row; /* atomic: brief requests since the last other one */
	bool stop;             /* atomic */
	int err;               /* atomic */
	bool asleep;           /* atomic: the supervisor waits for wake without a timer */
	sem_t wake;

	pthread_mutex_t mu;
	unsigned int n;         /* [mu] threads started */
	unsigned int nparked;   /* [mu] */
	struct worker **parked; /* [mu] a stack */
	struct worker *workers; /* [mu] */
};

static bool over(struct loop *l)
{
	return __atomic_load_n(&l->stop, __ATOMIC_ACQUIRE) || fuse_session_exited(l->se);
}

static bool requests_wait(struct loop *l)
{
	struct pollfd p = { .fd = l->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLIN);
}

static void *serve(void *arg);

/* One more thread that reads, if there may be one. Without, those that run go on. */
static bool add_reader(struct loop *l)
{
	KS_LOCKED(&l->mu);
	if (l->nparked > 0) {
		sem_post(&l->parked[--l->nparked]->unpark);
		return true;
	}
	if (l->n == l->max ||
	    ks_thread_start(&l->workers[l->n].thread, "ks-fuse", serve, &l->workers[l->n]) < 0)
		return false;
	l->n++;
	return true;
}

static void park(struct loop *l, struct worker *w)
{
	ks_mutex_lock(&l->mu);
	if (!over(l)) {
		l->parked[l->nparked++] = w;
		ks_mutex_unlock(&l->mu);
		while (sem_wait(&w->unpark) < 0)
			;
		return;
	}
	ks_mutex_unlock(&l->mu);
}

static void stop_all(struct loop *l, int err)
{
	if (err < 0)
		__atomic_store_n(&l->err, err, __ATOMIC_RELEASE);
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	sem_post(&l->wake);
}

/* Of a request: does it wait for a disk, another client, or a lot of data? Does its sender wait for an answer? */
enum kind { LONG, BRIEF, TOLD };

static enum kind kind_of(const struct fuse_buf *buf)
{
	const struct fuse_in_header *in = buf->mem;

	if (buf->flags & FUSE_BUF_IS_FD || buf->size < sizeof(*in))
		return LONG;
	switch (in->opcode) {
	case FUSE_READ:
	case FUSE_READDIR:
	case FUSE_READDIRPLUS:
	case FUSE_FSYNC:
	case FUSE_FSYNCDIR:
	case FUSE_SYNCFS:
	case FUSE_SETLKW:
	case FUSE_IOCTL:
	case FUSE_FALLOCATE:
	case FUSE_LSEEK:
	case FUSE_COPY_FILE_RANGE:
		return LONG;
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
		return TOLD;
	default:
		return BRIEF;
	}
}

static bool one_client(const struct loop *l)
{
	return __atomic_load_n(&l->in_a_row, __ATOMIC_RELAXED) >= IN_A_ROW;
}

/* From now on READERS threads read. */
static void end_row(struct loop *l)
{
	if (__atomic_exchange_n(&l->in_a_row, 0, __ATOMIC_RELAXED) < IN_A_ROW)
		return;
	for (unsigned int i = 1; i < READERS && add_reader(l); i++)
		;
}

/* The next request is there, or it is time to sleep. */
static void look_out(struct loop *l, struct ks_linger *g)
{
	bool go = ks_linger_begin(g);

	/* Others want the CPU: who sleeps in the kernel comes before them when it is woken. */
	if (!go)
		end_row(l);
	while (go && !requests_wait(l))
		go = ks_linger_go_on(g) && !over(l);
}

/* A request is there. */
static void note_request(struct loop *l, const struct fuse_buf *buf, unsigned int *backlog)
{
	enum kind kind = kind_of(buf);
	bool wait;

	__atomic_add_fetch(&l->begun, 1, __ATOMIC_RELAXED);
	if (__atomic_load_n(&l->asleep, __ATOMIC_ACQUIRE) &&
	    __atomic_exchange_n(&l->asleep, false, __ATOMIC_ACQ_REL))
		sem_post(&l->wake);
	wait = l->max > 1 && requests_wait(l);
	/* What comes behind one that is only told may be the same client's. */
	if (kind == TOLD || (kind == BRIEF && !wait))
		__atomic_add_fetch(&l->in_a_row, 1, __ATOMIC_RELAXED);
	else
		end_row(l);
	if (!wait || __atomic_load_n(&l->nreading, __ATOMIC_RELAXED) > 0) {
		*backlog = 0;
	} else if (++*backlog >= BACKLOG) {
		*backlog = 0;
		add_reader(l);
	}
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->l;
	struct fuse_buf buf = { 0 };
	struct ks_linger linger = { 0 };
	unsigned int backlog = 0;
	sigset_t set;
	int r = 0;

	tls_buf = &buf;
	/* Interrupts the read at the end. */
	sigemptyset(&set);
	sigaddset(&set, KS_FUSE_STOP_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!over(l)) {
		if (__atomic_load_n(&l->nreading, __ATOMIC_RELAXED) >=
		    (one_client(l) ? 1 : READERS)) {
			park(l, w);
			continue;
		}
		__atomic_add_fetch(&l->nreading, 1, __ATOMIC_RELAXED);
		if (one_client(l))
			look_out(l, &linger);
		__atomic_store_n(&w->reading, true, __ATOMIC_RELEASE);
		r = over(l) ? -EINTR : fuse_session_receive_buf(l->se, &buf);
		__atomic_store_n(&w->reading, false, __ATOMIC_RELEASE);
		__atomic_sub_fetch(&l->nreading, 1, __ATOMIC_RELAXED);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0) {
			stop_all(l, r);
			break;
		}
		note_request(l, &buf, &backlog);
		ks_fuse_process(l->f, &buf);
		__atomic_add_fetch(&l->served, 1, __ATOMIC_RELAXED);
	}
	tls_buf = NULL;
	free(buf.mem);
	__atomic_store_n(&w->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* Until the session ends. */
static void supervise(struct loop *l)
{
	struct timespec tick = { .tv_nsec = TICK_NS };
	uint64_t begun = 0, served = 0;
	int idle = 0;

	while (!over(l)) {
		uint64_t b = __atomic_load_n(&l->begun, __ATOMIC_RELAXED);
		uint64_t s = __atomic_load_n(&l->served, __ATOMIC_RELAXED);

		/* Nothing was finished for a tick, nobody listens, and somebody waits. */
		if (s == served && b != s && __atomic_load_n(&l->nreading, __ATOMIC_RELAXED) == 0 &&
		    requests_wait(l))
			add_reader(l);
		idle = b == begun && b == s ? idle + 1 : 0;
		begun = b;
		served = s;
		if (idle < IDLE_TICKS) {
			nanosleep(&tick, NULL);
			continue;
		}
		__atomic_store_n(&l->asleep, true, __ATOMIC_RELEASE);
		/* A request that came before the flag was seen finds its answer in the next tick. */
		if (__atomic_load_n(&l->begun, __ATOMIC_ACQUIRE) == begun && !over(l))
			KS_IGNORE(sem_wait(&l->wake) < 0);
		__atomic_store_n(&l->asleep, false, __ATOMIC_RELEASE);
		idle = 0;
	}
}

static void end_workers(struct loop *l)
{
	struct timespec pause = { .tv_nsec = KS_NS_PER_MS };
	unsigned int n;

	ks_mutex_lock(&l->mu);
	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	n = l->n;
	while (l->nparked > 0)
		sem_post(&l->parked[--l->nparked]->unpark);
	ks_mutex_unlock(&l->mu);
	for (unsigned int i = 0; i < n; i++) {
		struct worker *w = &l->workers[i];

		/* Only a wait for a request is interrupted, never an operation. */
		while (!__atomic_load_n(&w->ended, __ATOMIC_ACQUIRE)) {
			if (__atomic_load_n(&w->reading, __ATOMIC_ACQUIRE))
				pthread_kill(w->thread, KS_FUSE_STOP_SIGNAL);
			nanosleep(&pause, NULL);
		}
		pthread_join(w->thread, NULL);
	}
}

static int run_threads(struct ks_fuse *f, struct fuse_session *se, unsigned int max)
{
	struct loop l = { .f = f,
			  .se = se,
			  .fd = fuse_session_fd(se),
			  .max = max,
			  .mu = PTHREAD_MUTEX_INITIALIZER };
	int r = -ENOMEM;

	l.workers = calloc(max, sizeof(*l.workers));
	l.parked = calloc(max, sizeof(struct worker *));
	sem_init(&l.wake, 0, 0);
	for (unsigned int i = 0; l.workers && i < max; i++) {
		l.workers[i].l = &l;
		sem_init(&l.workers[i].unpark, 0, 0);
	}
	if (l.workers && l.parked) {
		r = add_reader(&l) ? 0 : -EAGAIN;
		for (unsigned int i = 1; r == 0 && i < READERS && add_reader(&l); i++)
			;
	}
	if (r == 0) {
		supervise(&l);
		end_workers(&l);
		r = __atomic_load_n(&l.err, __ATOMIC_ACQUIRE);
	}
	for (unsigned int i = 0; l.workers && i < max; i++)
		sem_destroy(&l.workers[i].unpark);
	sem_destroy(&l.wake);
	pthread_mutex_destroy(&l.mu);
	free(l.workers);
	free(l.parked);
	return r;
}

void *ks_classic_reply_buffer(size_t *size)
{
	/* A READ is decoded when it is served, and was much shorter: one large buffer for each thread, not two. */
	if (!tls_buf || tls_buf->size > READ_MAX)
		return NULL;
	*size = malloc_usable_size(tls_buf->mem) - READ_MAX;
	return (char *)tls_buf->mem + READ_MAX;
}

static int run_single(struct ks_fuse *f, struct fuse_session *se)
{
	struct fuse_buf buf = { 0 };
	int r = 0;

	while (!fuse_session_exited(se)) {
		r = fuse_session_receive_buf(se, &buf);
		if (r == -EINTR)
			continue;
		if (r <= 0)
			break; /* 0: unmounted */
		ks_fuse_process(f, &buf);
	}
	free(buf.mem);
	return r < 0 && r != -EINTR ? r : 0;
}

static int run(struct fuse_session *se, struct ks_transport_opts *o)
{
	struct ks_fuse *f = ks_container_of(o, struct ks_fuse, topts);

	if (o->single)
		return run_single(f, se);
	return run_threads(f, se, o->threads ? o->threads : THREADS);
}

const struct ks_transport_ops ks_transport_classic = {
	.name = "classic",
	.run = run,
	.reply_buffer = ks_classic_reply_buffer,
};
