/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_session.c: who is there.
 *
 * A session is a record and, on SQLite, a lock file LOCKS/session-ID whose flock lives as long as the process: the kernel says who is dead. The
 * lock is held before the record appears and the record goes before the lock: a record without a held lock is a dead session's. Engines without lock
 * files judge by the heartbeat's age.
 *
 * The heartbeat, once a second, writes nothing on an idle volume. When something waits to be deleted:
 *
 *	advance	if every session is in the epoch, the counter goes up by one
 *	pass	this session forgets its old chunk maps, claims what it has open of the inodes without a name, and enters the epoch
 *	reap	inodes deleted in an epoch that every session has left are freed
 */
#include "base/array.h"
#include "meta/meta_internal.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#define HEARTBEAT_NS KS_NS_PER_S
#define HEARTBEAT_BUDGET_NS (400 * KS_NS_PER_MS)
#define STAMP_NS                                                                                   \
	(30 * KS_NS_PER_S) /* how old the record's heartbeat may get while nothing happens */
#define CLAIM_BATCH 128u
#define BOOT_STR 40

/* ---- start and stop ---- */

struct start_arg {
	struct ks_rec_session s;
	bool sole;
	bool late; /* another number is needed */
};

/* "" when it cannot be known. */
static void boot_id(char out[BOOT_STR])
{
	KS_AUTO(ks_closep)
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, BOOT_STR - 1) : 0;

	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\n")] = '\0';
}

static int session_id_body(struct ks_txn *t, void *arg)
{
	struct start_arg *a = arg;
	struct ks_rec_counter c;
	struct ks_read rd = ks_read_counter(&c, "next_session", 0);
	int r = ks_txn_read(t, &rd, 1);

	if (r < 0)
		return r;
	a->s.id = (uint64_t)c.value;
	ks_count_add(t, "next_session", 1);
	return 0;
}

static int other_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	struct start_arg *a = arg;
	const struct ks_rec_session *s = rec;

	(void)node;
	a->sole = a->sole && s->id == a->s.id;
	return 0;
}

static void epoch_set(struct ks_txn *t, uint64_t to)
{
	struct ks_rec_counter key = { .name = ks_bytes_str(KS_CNT_EPOCH) };
	struct ks_upd u = KS_UPD_COL(counter, value, KS_UPD_SET, to);

	ks_txn_update(t, KS_T_COUNTER, &key, &u, 1);
}

/*
 * The epoch goes up, so that nobody who believed to be alone goes on believing it. Not when a younger session has a number already: who is not among the sessions, and
 * has a lower number than the last of them, has ended (is_durable()).
 */
static int session_insert_body(struct ks_txn *t, void *arg)
{
	struct start_arg *a = arg;
	struct ks_rec_counter epoch, next;
	struct ks_read rd[] = { ks_read_counter(&epoch, KS_CNT_EPOCH, 0),
				ks_read_counter(&next, "next_session", 0) };
	struct ks_scan s = {
		.table = KS_T_SESSION, .flags = KS_READ_WEAK, .fn = other_one, .arg = a
	};
	int r;

	a->sole = true;
	r = ks_txn_fetch(t, rd, 2, &s, 1);
	if (r < 0)
		return r;
	a->late = (uint64_t)next.value != a->s.id + 1;
	if (a->late)
		return 0;
	a->s.epoch = (uint64_t)epoch.value + 1;
	epoch_set(t, a->s.epoch);
	ks_txn_insert(t, KS_T_SESSION, &a->s);
	return 0;
}

static void *heartbeat(void *arg)
{
	struct ks_meta *m = arg;

	for (;;) {
		int64_t deadline;

		/* What failed is tried again in a second; the engine has said what it was. */
		KS_IGNORE(ks_meta_tick(m, HEARTBEAT_BUDGET_NS));
		deadline = ks_clock_mono_ns() + HEARTBEAT_NS;

		KS_LOCKED(&m->mu);
		while (!m->stop && ks_cond_wait(&m->cond, &m->mu, deadline) != -ETIMEDOUT)
			;
		if (m->stop)
			return NULL;
	}
}

static int session_try(struct ks_meta *m, struct start_arg *a)
{
	int r = ks_meta_run(m, session_id_body, a);

	if (r == 0)
		r = ks_session_lock(m, a->s.id);
	if (r == 0)
		r = ks_meta_run(m, session_insert_body, a);
	if (r < 0 || a->late) {
		ks_session_file_remove(m, a->s.id);
		ks_closep(&m->session_fd);
		m->session_fd = -1;
	}
	return r;
}

static int session_register(struct ks_meta *m, struct start_arg *a)
{
	int r;

	do {
		r = session_try(m, a);
	} while (r == 0 && a->late);
	return r;
}

int ks_meta_session_start(struct ks_meta *m, uint32_t kind, const char *tool,
			  const char *mountpoint, const char *socket)
{
	char host[256] = "", boot[BOOT_STR];
	int64_t now = ks_clock_real_ns();
	struct start_arg a = {
		.s = { .generation = 1,
		       .start_ns = now,
		       .heartbeat_ns = now,
		       .pid = (uint32_t)getpid(),
		       .kind = kind,
		       .tool = ks_bytes_str(tool ? tool : ""),
		       .mountpoint = ks_bytes_str(mountpoint ? mountpoint : ""),
		       .socket = ks_bytes_str(socket ? socket : ""),
		       .version = ks_bytes_str(KS_VERSION) },
	};
	int r;

	assert(!atomic_load(&m->session));
	if (m->readonly)
		return 0;
	atomic_store(&m->fenced, false);
	KS_IGNORE(gethostname(host, sizeof(host) - 1));
	a.s.host = ks_bytes_str(host);
	boot_id(boot);
	a.s.boot = ks_bytes_str(boot);
	atomic_store(&m->low, 0);
	atomic_store(&m->durable, 0);
	/* What others did before is no news to a session that has nothing open yet. */
	atomic_store(&m->seen_foreign, ks_engine_foreign_version(m->e));
	r = session_register(m, &a);
	if (r < 0)
		return r;
	atomic_store(&m->session, a.s.id);
	atomic_store(&m->sole_epoch, a.sole ? a.s.epoch : 0);
	m->stop = false;
	/* Before anybody can meet what a power cut left behind. */
	r = ks_meta_bury(m, true);
	if (r == 0)
		r = ks_thread_start(&m->thread, "ks-heartbeat", heartbeat, m);
	if (r < 0) {
		ks_meta_session_stop(m);
		return r;
	}
	m->thread_on = true;
	return 0;
}

static int session_del_body(struct ks_txn *t, void *arg)
{
	const struct ks_rec_session *s = arg;
	struct ks_rec_claim claim = { .session = s->id };

	ks_txn_del_prefix(t, KS_T_CLAIM, &claim, 1);
	ks_txn_del(t, KS_T_SESSION, s);
	return 0;
}

void ks_meta_heartbeat_stop(struct ks_meta *m)
{
	if (!m->thread_on)
		return;
	ks_mutex_lock(&m->mu);
	m->stop = true;
	pthread_cond_broadcast(&m->cond);
	ks_mutex_unlock(&m->mu);
	pthread_join(m->thread, NULL);
	m->thread_on = false;
}

static void session_end(struct ks_meta *m, bool forget)
{
	struct ks_rec_session s = { .id = atomic_load(&m->session) };

	if (!s.id)
		return;
	ks_meta_heartbeat_stop(m);
	/* Failing that, whoever finds the lock free cleans up. */
	if (forget && (atomic_load(&m->fenced) || ks_meta_run(m, session_del_body, &s) == 0))
		ks_session_file_remove(m, s.id);
	ks_closep(&m->session_fd);
	m->session_fd = -1;
	atomic_store(&m->sole_epoch, 0);
	atomic_store(&m->session, 0);
	atomic_store(&m->hold, false);
}

void ks_meta_session_stop(struct ks_meta *m)
{
	session_end(m, true);
}

void ks_meta_session_leave(struct ks_meta *m)
{
	session_end(m, false);
}

uint64_t ks_meta_session_id(const struct ks_meta *m)
{
	return atomic_load(&m->session);
}

static int hold_body(struct ks_txn *t, void *arg)
{
	const struct ks_rec_claim *c = arg;

	ks_txn_put(t, KS_T_CLAIM, c);
	return 0;
}

int ks_meta_hold(struct ks_meta *m)
{
	struct ks_rec_claim c = { .session = atomic_load(&m->session), .ino = KS_CLAIM_PACKS };

	assert(c.session);
	atomic_store(&m->hold, true);
	return ks_meta_run(m, hold_body, &c);
}

/* ---- listing ---- */

struct listed {
	struct ks_session_info *v;
	size_t n, cap;
	char boot[BOOT_STR];
};

static void text_copy(char *out, size_t size, struct ks_bytes b)
{
	size_t n = ks_min(b.n, size - 1);

	if (n)
		memcpy(out, b.p, n);
	out[n] = '\0';
}

static int listed_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_session *s = rec;
	struct listed *l = arg;
	struct ks_session_info *i;

	(void)node;
	if (ks_array_room(&l->v, l->n, &l->cap) < 0)
		return -ENOMEM;
	i = &l->v[l->n++];
	*i = (struct ks_session_info){ .id = s->id,
				       .generation = s->generation,
				       .epoch = s->epoch,
				       .start_ns = s->start_ns,
				       .heartbeat_ns = s->heartbeat_ns,
				       .pid = s->pid,
				       .kind = s->kind,
				       .low = s->low,
				       .this_boot = l->boot[0] && s->boot.n == strlen(l->boot) &&
						    memcmp(s->boot.p, l->boot, s->boot.n) == 0 };
	text_copy(i->host, sizeof(i->host), s->host);
	text_copy(i->tool, sizeof(i->tool), s->tool);
	text_copy(i->mountpoint, sizeof(i->mountpoint), s->mountpoint);
	text_copy(i->socket, sizeof(i->socket), s->socket);
	text_copy(i->version, sizeof(i->version), s->version);
	return 0;
}

static int exists_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	(void)rec;
	(void)node;
	*(bool *)arg = true;
	return 1;
}

struct look {
	uint64_t epoch;
	bool pending; /* something waits to be deleted */
	struct listed l;
};

static int look_around(struct ks_meta *m, struct look *k)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter epoch;
	struct ks_read rd = ks_read_counter(&epoch, KS_CNT_EPOCH, 0);
	struct ks_scan s[] = {
		{ .table = KS_T_SESSION, .fn = listed_one, .arg = &k->l },
		{ .table = KS_T_DELETED, .limit = 1, .fn = exists_one, .arg = &k->pending },
		{ .table = KS_T_FREED, .limit = 1, .fn = exists_one, .arg = &k->pending },
	};
	int r;

	boot_id(k->l.boot);
	r = ks_engine_fetch(m->e, &rd, 1, s, KS_ARRAY_SIZE(s), &a);
	k->epoch = (uint64_t)epoch.value;
	ks_arena_clear(&a);
	for (size_t i = 0; r == 0 && i < k->l.n; i++)
		k->l.v[i].dead = ks_session_is_dead(m, &k->l.v[i]);
	return r;
}

int ks_meta_sessions(struct ks_meta *m, int (*fn)(void *arg, const struct ks_session_info *s),
		     void *arg)
{
	struct look k = { 0 };
	int r = look_around(m, &k);

	for (size_t i = 0; r == 0 && i < k.l.n; i++)
		r = fn(arg, &k.l.v[i]);
	free(k.l.v);
	return ks_min(r, 0);
}

/* ---- the heartbeat ---- */

/* What is left of @k are those that stay. */
static int bury(struct ks_meta *m, struct look *k, bool lost_only)
{
	const struct ks_meta_hooks *h = &m->o.hooks;
	size_t n = 0;

	for (size_t i = 0; i < k->l.n; i++) {
		struct ks_session_info *s = &k->l.v[i];
		struct ks_rec_session key = { .id = s->id };
		bool stays = !s->dead || (lost_only && s->this_boot);
		int r = !stays && h->died ? h->died(h->died_arg, s) : 0;

		if (r < 0)
			return r;
		if (stays || r > 0) {
			k->l.v[n++] = *s;
			continue;
		}
		ks_log(KS_LOG_INFO, "session %ju (%s, process %u on %s) is dead: it is cleaned up",
		       (uintmax_t)s->id, s->tool, s->pid, s->host);
		r = ks_meta_run(m, session_del_body, &key);
		if (r < 0)
			return r;
		ks_session_file_remove(m, s->id);
	}
	k->l.n = n;
	ks_marks_set(m, k->l.v, n);
	return 0;
}

int ks_meta_bury(struct ks_meta *m, bool lost_only)
{
	struct look k = { 0 };
	int r = look_around(m, &k);

	if (r == 0)
		r = bury(m, &k, lost_only);
	free(k.l.v);
	return r;
}

struct advance_arg {
	uint64_t from;
	bool all;
};

static int advance_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_session *s = rec;
	struct advance_arg *a = arg;

	(void)node;
	a->all = a->all && s->epoch >= a->from;
	return 0;
}

/* Not needed for safety, only so that the counter does not run away from a session that is slow. */
static int advance_body(struct ks_txn *t, void *arg)
{
	struct advance_arg *a = arg;
	struct ks_rec_counter epoch;
	struct ks_read rd = ks_read_counter(&epoch, KS_CNT_EPOCH, 0);
	struct ks_scan s = {
		.table = KS_T_SESSION, .flags = KS_READ_SNAPSHOT, .fn = advance_one, .arg = a
	};
	int r;

	a->all = true;
	r = ks_txn_fetch(t, &rd, 1, &s, 1);
	if (r == 0 && a->all && (uint64_t)epoch.value == a->from)
		epoch_set(t, a->from + 1);
	return r;
}

struct opens {
	struct ks_meta *m;
	uint64_t *v;
	size_t n, cap;
	bool nomem;
};

static void open_one(void *arg, ks_ino_t ino)
{
	struct opens *o = arg;

	if (ks_array_room(&o->v, o->n, &o->cap) < 0) {
		o->nomem = true;
		return;
	}
	o->v[o->n++] = ino;
}

struct claims_arg {
	uint64_t session;
	const uint64_t *ino;
	size_t n;
};

static int claims_body(struct ks_txn *t, void *arg)
{
	const struct claims_arg *c = arg;
	struct ks_rec_inode *v = ks_arena_alloc(ks_txn_arena(t), c->n * sizeof(*v));
	struct ks_read *rd = ks_arena_alloc(ks_txn_arena(t), c->n * sizeof(*rd));
	int r;

	if (!v || !rd)
		return -ENOMEM;
	/* As of now is enough: who takes a name away later does it in an epoch that this session is not past. */
	for (size_t i = 0; i < c->n; i++)
		rd[i] = ks_read_inode(&v[i], c->ino[i], KS_READ_SNAPSHOT);
	r = ks_txn_read(t, rd, c->n);
	for (size_t i = 0; r == 0 && i < c->n; i++) {
		struct ks_rec_claim claim = { .session = c->session, .ino = c->ino[i] };

		if (rd[i].found && v[i].nlink == 0)
			ks_txn_put(t, KS_T_CLAIM, &claim);
	}
	return r;
}

/* Has another process committed since the last pass, as far as one can know? */
static bool foreign_moved(struct ks_meta *m)
{
	uint64_t foreign = ks_engine_foreign_version(m->e);

	return !foreign || foreign != atomic_load(&m->seen_foreign);
}

static int claim_open(struct ks_meta *m)
{
	struct opens o = { .m = m };
	uint64_t foreign = ks_engine_foreign_version(m->e);
	int r = 0;

	/* What this process itself unlinks it claims at once. */
	if (!m->o.hooks.each_open || (foreign && foreign == atomic_load(&m->seen_foreign)))
		return 0;
	r = m->o.hooks.each_open(m->o.hooks.arg, open_one, &o);
	if (o.nomem)
		r = -ENOMEM;
	for (size_t i = 0; r == 0 && i < o.n; i += CLAIM_BATCH) {
		struct claims_arg c = { .session = atomic_load(&m->session),
					.ino = o.v + i,
					.n = ks_min(o.n - i, (size_t)CLAIM_BATCH) };

		r = ks_meta_run(m, claims_body, &c);
	}
	free(o.v);
	if (r == 0)
		atomic_store(&m->seen_foreign, foreign);
	return r;
}

/*
 * What this session has open nobody respects any more, and what it has stored may be taken for the leavings of a dead one: a commit now could name blocks
 * that are gone.
 */
static int fence(struct ks_meta *m)
{
	if (!atomic_exchange(&m->fenced, true))
		ks_log(KS_LOG_ERROR,
		       "session %ju was declared dead by another process: it can change nothing "
		       "any more",
		       (uintmax_t)atomic_load(&m->session));
	return ks_session_fenced(m);
}

struct pass_arg {
	struct start_arg others; /* s.id: ours */
	uint64_t epoch, now_epoch;
	int64_t now;
	bool gone;
};

static int pass_body(struct ks_txn *t, void *arg)
{
	struct pass_arg *p = arg;
	struct ks_rec_counter epoch;
	struct ks_rec_session me = { .id = p->others.s.id };
	struct ks_read rd[] = { ks_read_counter(&epoch, KS_CNT_EPOCH, 0),
				{ .table = KS_T_SESSION, .flags = KS_READ_WEAK, .rec = &me } };
	struct ks_scan s = {
		.table = KS_T_SESSION, .flags = KS_READ_WEAK, .fn = other_one, .arg = &p->others
	};
	struct ks_upd u[] = { KS_UPD_COL(session, epoch, KS_UPD_MAX, p->epoch),
			      KS_UPD_COL(session, heartbeat_ns, KS_UPD_MAX, p->now) };
	int r;

	p->others.sole = true;
	r = ks_txn_fetch(t, rd, 2, &s, 1);
	if (r < 0)
		return r;
	p->now_epoch = (uint64_t)epoch.value;
	p->gone = !rd[1].found;
	if (!p->gone)
		ks_txn_update(t, KS_T_SESSION, &me, u, 2);
	return 0;
}

/* @epoch was read before the maps are forgotten and the open files looked at. */
static int pass(struct ks_meta *m, uint64_t id, uint64_t epoch)
{
	struct pass_arg p = { .others.s.id = id, .epoch = epoch, .now = ks_clock_real_ns() };
	int r = 0;

	/* What this process freed itself its own maps do not name any more. */
	if (m->o.hooks.forget_maps && foreign_moved(m))
		r = m->o.hooks.forget_maps(m->o.hooks.arg);
	if (r == 0)
		r = claim_open(m);
	if (r == 0)
		r = ks_meta_run(m, pass_body, &p);
	if (r < 0)
		return r;
	if (p.gone)
		return fence(m);
	atomic_store(&m->sole_epoch, p.others.sole ? p.now_epoch : 0);
	return 0;
}

static const struct ks_session_info *session_of(const struct look *k, uint64_t id)
{
	for (size_t i = 0; i < k->l.n; i++) {
		if (k->l.v[i].id == id)
			return &k->l.v[i];
	}
	return NULL;
}

static int tick_epochs(struct ks_meta *m, struct look *k)
{
	uint64_t id = atomic_load(&m->session);
	const struct ks_session_info *me = session_of(k, id);
	struct advance_arg a = { .from = k->epoch };
	bool alone = k->l.n == 1 && me;
	int r = 0;

	if (k->pending) {
		r = ks_meta_run(m, advance_body, &a);
		if (r == 0 && a.all)
			k->epoch = a.from + 1;
	}
	if (r < 0 || !me)
		return r;
	if (atomic_load(&m->hold))
		return ks_clock_real_ns() - me->heartbeat_ns > STAMP_NS ? pass(m, id, me->epoch)
									: 0;
	if (me->epoch < k->epoch || (alone && atomic_load(&m->sole_epoch) != k->epoch) ||
	    ks_clock_real_ns() - me->heartbeat_ns > STAMP_NS)
		r = pass(m, id, k->epoch);
	return r;
}

static int tick_reap(struct ks_meta *m, int64_t budget_ns)
{
	int64_t end = ks_clock_mono_ns() + budget_ns;
	int r;

	do {
		int64_t before = ks_clock_mono_ns();

		r = ks_meta_reap(m);
		/* Half of the time is the foreground's. */
		if (r > 0 && budget_ns && atomic_load(&m->session)) {
			struct timespec ts = ks_ns_to_ts(ks_clock_mono_ns() - before);

			nanosleep(&ts, NULL);
		}
	} while (r > 0 && (!budget_ns || ks_clock_mono_ns() < end));
	return ks_min(r, 0);
}

int ks_meta_tick(struct ks_meta *m, int64_t budget_ns)
{
	uint64_t id = atomic_load(&m->session);
	struct look k = { 0 };
	int r;

	if (m->readonly)
		return -EROFS;
	r = look_around(m, &k);
	if (r == 0 && id && !session_of(&k, id))
		r = fence(m);
	if (r == 0)
		r = bury(m, &k, false);
	if (r == 0)
		r = ks_meta_read_settings(m);
	if (r == 0)
		r = tick_epochs(m, &k);
	free(k.l.v);
	if (r == 0 && k.pending)
		r = tick_reap(m, budget_ns);
	return r;
}
