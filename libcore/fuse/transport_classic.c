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
 * A thread that has served parks when enough others are reading. An operation may take long (a cold read, fsync, a lock): the thread that watches (giveway.h) looks at
 * every tick, while there is work, whether requests wait and nobody finishes any, and unparks one. Without work it sleeps.
 *
 * One client that asks brief things one after the other, as most programs do with names and attributes, is served by one thread, on the client's own CPU, to which it gives way
 * (follow.h, giveway.h): no other CPU has to be woken. Where it may not do that, it looks out for the next request for a moment (linger.h) before it sleeps, which saves one
 * of two wake-ups. The first request that is not brief, or that another one waits behind, ends that.
 */
#include "fuse/follow.h"
#include "fuse/giveway.h"
#include "fuse/internal.h"
#include "fuse/linger.h"
#include <linux/fuse.h>
#include <malloc.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#define THREADS 16
#define IDLE_TICKS 30 /* after so many without a request the supervisor sleeps */
#define READ_MAX 4096 /* a READ request is shorter */
#define READERS 3
#define IN_A_ROW 16 /* brief requests, with none waiting behind them: there is one client */
#define CROWD                                                                                      \
	10 /* brief requests behind which others waited: it is not alone. The kernel lets 8 go before FORGETs that wait */
#define CROWDED 512 /* so many brief requests more, after others wanted the CPU */
#define BACKLOG 4   /* turns with requests waiting before another thread helps */

struct loop;

struct worker {
	struct loop *l;
	pthread_t thread;
	sem_t unpark;
	bool reading; /* atomic */
	bool ended;   /* atomic */
	struct ks_giver giver;

	/* The thread's own. */
	struct fuse_buf buf;
	struct ks_linger linger;
	struct ks_follow follow;
};

struct loop {
	struct ks_fuse *f;
	struct fuse_session *se;
	int fd;
	unsigned int max;
	unsigned int nreading; /* atomic */
	uint64_t served;       /* atomic: requests finished */
	uint64_t begun;        /* atomic: requests taken */
	int in_a_row;          /* atomic: brief requests since the last other one */
	unsigned int crowd; /* atomic: brief requests, one after the other, with others waiting */
	bool stop;          /* atomic */
	int err;            /* atomic */
	sem_t end;          /* posted with stop and err */
	struct ks_giveway giveway;

	/* The watching thread's. */
	uint64_t begun_before, served_before;
	int idle;

	pthread_mutex_t mu;
	unsigned int n;         /* [mu] threads started */
	unsigned int nparked;   /* [mu] */
	struct worker **parked; /* [mu] a stack */
	struct worker *workers; /* [mu] */
};

static __thread struct worker *tls_worker;

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
	sem_post(&l->end);
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

/* From now on READERS threads read. @more brief requests than usual are needed for the next row. */
static void end_row(struct loop *l, int more)
{
	/* What was asked for before stays. */
	if (__atomic_load_n(&l->in_a_row, __ATOMIC_RELAXED) < 0 ||
	    __atomic_exchange_n(&l->in_a_row, -more, __ATOMIC_RELAXED) < IN_A_ROW)
		return;
	for (unsigned int i = 1; i < READERS && add_reader(l); i++)
		;
}

/* The next request is there, or it is time to sleep. */
static void look_out(struct worker *w)
{
	struct loop *l = w->l;
	bool works = ks_giveway_works(&l->giveway);
	bool go = works ? ks_giveway_begin(&l->giveway, &w->giver) : ks_linger_begin(&w->linger);

	/* Others want the CPU: who sleeps in the kernel comes before them when it is woken. */
	if (!go)
		end_row(l, CROWDED);
	while (go && !works && !requests_wait(l))
		go = ks_linger_go_on(&w->linger) && !over(l);
}

/* As any other thread of the loop. */
static void settle(struct worker *w)
{
	ks_giveway_end(&w->l->giveway, &w->giver);
	ks_follow_end(&w->follow);
	ks_giveway_bound(&w->giver, -1);
}

/* 0: nobody waits for an answer. */
static pid_t pid_of(const struct fuse_buf *buf)
{
	return (pid_t)((const struct fuse_in_header *)buf->mem)->pid;
}

/* Before the request is served. */
static void take_place(struct worker *w)
{
	const struct fuse_in_header *in = w->buf.mem;

	if (!one_client(w->l)) {
		settle(w);
	} else if (ks_giveway_works(&w->l->giveway)) {
		ks_follow(&w->follow, pid_of(&w->buf));
		ks_giveway_bound(&w->giver, w->follow.bound ? w->follow.cpu : -1);
		if (!ks_giveway_may(in->opcode))
			ks_giveway_end(&w->l->giveway, &w->giver);
	}
}

void ks_classic_before_reply(void)
{
	struct worker *w = tls_worker;

	if (!w)
		return;
	/* The client may go on now, before this thread does. */
	ks_giveway_done(&w->giver);
	if (one_client(w->l))
		ks_giveway_begin(&w->l->giveway, &w->giver);
}

/* A request is there. */
static void note_request(struct loop *l, const struct fuse_buf *buf, unsigned int *backlog)
{
	enum kind kind = kind_of(buf);
	bool wait;

	__atomic_add_fetch(&l->begun, 1, __ATOMIC_SEQ_CST);
	ks_giveway_wake(&l->giveway);
	wait = l->max > 1 && requests_wait(l);
	/* What comes behind one that is only told may be the same client's. */
	if (kind == BRIEF && !wait)
		__atomic_store_n(&l->crowd, 0, __ATOMIC_RELAXED);
	if (kind == LONG ||
	    (kind == BRIEF && wait && __atomic_add_fetch(&l->crowd, 1, __ATOMIC_RELAXED) > CROWD))
		end_row(l, 0);
	else
		__atomic_add_fetch(&l->in_a_row, 1, __ATOMIC_RELAXED);
	if (!wait || one_client(l) || __atomic_load_n(&l->nreading, __ATOMIC_RELAXED) > 0) {
		*backlog = 0;
	} else if (++*backlog >= BACKLOG) {
		*backlog = 0;
		add_reader(l);
	}
}

static int receive(struct worker *w)
{
	struct loop *l = w->l;
	int r;

	__atomic_add_fetch(&l->nreading, 1, __ATOMIC_RELAXED);
	if (one_client(l))
		look_out(w);
	__atomic_store_n(&w->reading, true, __ATOMIC_RELEASE);
	r = over(l) ? -EINTR : fuse_session_receive_buf(l->se, &w->buf);
	__atomic_store_n(&w->reading, false, __ATOMIC_RELEASE);
	__atomic_sub_fetch(&l->nreading, 1, __ATOMIC_RELAXED);
	return r;
}

static void *serve(void *arg)
{
	struct worker *w = arg;
	struct loop *l = w->l;
	unsigned int backlog = 0;
	sigset_t set;
	int r = 0;

	tls_worker = w;
	ks_giveway_enter(&w->giver);
	/* Interrupts the read at the end. */
	sigemptyset(&set);
	sigaddset(&set, KS_FUSE_STOP_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	while (!over(l)) {
		bool row = one_client(l);
		bool enough =
			__atomic_load_n(&l->nreading, __ATOMIC_RELAXED) >= (row ? 1 : READERS);

		if (!row || enough)
			settle(w);
		if (enough) {
			park(l, w);
			continue;
		}
		r = receive(w);
		if (r == -EINTR || r == -EAGAIN)
			continue;
		if (r <= 0) {
			stop_all(l, r);
			break;
		}
		note_request(l, &w->buf, &backlog);
		take_place(w);
		ks_giveway_serve(&w->giver);
		ks_fuse_process(l->f, &w->buf);
		ks_giveway_done(&w->giver);
		ks_follow_answered(&w->follow, pid_of(&w->buf));
		__atomic_add_fetch(&l->served, 1, __ATOMIC_RELAXED);
	}
	settle(w);
	ks_giveway_leave(&l->giveway, &w->giver);
	tls_worker = NULL;
	free(w->buf.mem);
	__atomic_store_n(&w->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

/* At every tick. False: there is no work. */
static bool supervise(void *arg)
{
	struct loop *l = arg;
	uint64_t b = __atomic_load_n(&l->begun, __ATOMIC_SEQ_CST);
	uint64_t s = __atomic_load_n(&l->served, __ATOMIC_RELAXED);

	/* Nothing was finished for a tick, nobody listens, and somebody waits. */
	if (s == l->served_before && b != s &&
	    __atomic_load_n(&l->nreading, __ATOMIC_RELAXED) == 0 && requests_wait(l))
		add_reader(l);
	l->idle = b == l->begun_before && b == s ? l->idle + 1 : 0;
	l->begun_before = b;
	l->served_before = s;
	return l->idle < IDLE_TICKS;
}

/* Of a thread that gives way. */
static bool request_waits(void *arg)
{
	const struct worker *w = arg;

	return requests_wait(w->l);
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
	sem_init(&l.end, 0, 0);
	ks_giveway_init(&l.giveway);
	for (unsigned int i = 0; l.workers && i < max; i++) {
		l.workers[i].l = &l;
		ks_giveway_add_roaming(&l.giveway, &l.workers[i].giver, request_waits,
				       &l.workers[i]);
		sem_init(&l.workers[i].unpark, 0, 0);
	}
	if (l.workers && l.parked)
		r = ks_giveway_start(&l.giveway, supervise, &l);
	if (r == 0) {
		r = add_reader(&l) ? 0 : -EAGAIN;
		for (unsigned int i = 1; r == 0 && i < READERS && add_reader(&l); i++)
			;
	}
	if (r == 0) {
		/* A signal ends the wait as well. */
		while (!over(&l))
			KS_IGNORE(sem_wait(&l.end) < 0);
		ks_giveway_stop(&l.giveway); /* it may start threads */
		end_workers(&l);
		r = __atomic_load_n(&l.err, __ATOMIC_ACQUIRE);
	}
	ks_giveway_stop(&l.giveway);
	for (unsigned int i = 0; l.workers && i < max; i++)
		sem_destroy(&l.workers[i].unpark);
	ks_giveway_destroy(&l.giveway);
	sem_destroy(&l.end);
	pthread_mutex_destroy(&l.mu);
	free(l.workers);
	free(l.parked);
	return r;
}

void *ks_classic_reply_buffer(size_t *size)
{
	/* A READ is decoded when it is served, and was much shorter: one large buffer for each thread, not two. */
	const struct fuse_buf *buf = tls_worker ? &tls_worker->buf : NULL;

	if (!buf || buf->size > READ_MAX)
		return NULL;
	*size = malloc_usable_size(buf->mem) - READ_MAX;
	return (char *)buf->mem + READ_MAX;
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

static ssize_t io_read(int fd, void *buf, size_t n, void *userdata)
{
	(void)userdata;
	return read(fd, buf, n);
}

static ssize_t io_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	(void)userdata;
	ks_classic_before_reply();
	return writev(fd, iov, n);
}

static int run(struct fuse_session *se, struct ks_transport_opts *o)
{
	static const struct fuse_custom_io io = { .writev = io_writev, .read = io_read };
	struct ks_fuse *f = ks_container_of(o, struct ks_fuse, topts);
	int r;

	if (o->single)
		return run_single(f, se);
	/* Another transport that has fallen back to this one has its own, and says when a reply leaves. */
	r = f->transport == &ks_transport_classic
		    ? fuse_session_custom_io(se, &io, fuse_session_fd(se))
		    : 0;
	if (r < 0)
		return ks_fail(r, "libfuse does not let its replies be seen");
	return run_threads(f, se, o->threads ? o->threads : THREADS);
}

const struct ks_transport_ops ks_transport_classic = {
	.name = "classic",
	.run = run,
	.reply_buffer = ks_classic_reply_buffer,
};
