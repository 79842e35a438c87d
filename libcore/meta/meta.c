/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta.c: opening and making volumes, their settings, ids and counters.
 */
#include "meta/meta_internal.h"

#include <stdio.h>
#include <stdlib.h>

/* Features this program knows; doc/format.md has the list. */
#define KNOWN_INCOMPAT UINT64_C(0)
#define KNOWN_RO_COMPAT UINT64_C(0)

/* ---- settings as text ---- */

enum kind { TEXT, NUMBER, HEX16, UUID };

static const struct setting {
	const char *name;
	enum kind kind;
	size_t off, size;
} settings[] = {
#define S(f, k)                                                                                    \
	{                                                                                          \
#f, k, offsetof(struct ks_volume_settings, f),                                     \
			sizeof(((struct ks_volume_settings *)0)->f)                                \
	}
	S(name, TEXT),         S(uuid, UUID),        S(format_version, NUMBER),
	S(compat, NUMBER),     S(ro_compat, NUMBER), S(incompat, NUMBER),
	S(block_size, NUMBER), S(data_url, TEXT),    S(capacity_bytes, NUMBER),
	S(inodes_max, NUMBER), S(trash_ns, NUMBER),  S(compress, TEXT),
	S(created_ns, NUMBER), S(created_by, TEXT),  S(hash_key, HEX16),
	S(owner, UUID),
#undef S
};
#define SETTING_TEXT 1100

static void setting_print(const struct setting *d, const struct ks_volume_settings *s,
			  char out[SETTING_TEXT])
{
	const char *p = (const char *)s + d->off;
	uint8_t bytes[16];
	uint64_t v = 0;

	switch (d->kind) {
	case TEXT:
		snprintf(out, SETTING_TEXT, "%.*s", (int)d->size, p);
		break;
	case NUMBER:
		if (d->size == sizeof(uint32_t)) {
			uint32_t small;

			memcpy(&small, p, sizeof(small));
			v = small;
		} else {
			memcpy(&v, p, sizeof(v));
		}
		snprintf(out, SETTING_TEXT, "%ju", (uintmax_t)v);
		break;
	case HEX16:
		memcpy(bytes, p, sizeof(bytes));
		for (size_t i = 0; i < sizeof(bytes); i++)
			snprintf(out + 2 * i, 3, "%02x", bytes[i]);
		break;
	case UUID:
		memcpy(bytes, p, sizeof(bytes));
		ks_uuid_format(bytes, out);
		break;
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int parse_hex16(const char *text, size_t n, uint8_t out[16])
{
	if (n != 32)
		return -EBADMSG;
	for (size_t i = 0; i < 16; i++) {
		int hi = hex_digit(text[2 * i]);
		int lo = hex_digit(text[2 * i + 1]);

		if (hi < 0 || lo < 0)
			return -EBADMSG;
		out[i] = (uint8_t)(hi << 4 | lo);
	}
	return 0;
}

static int parse_number(const char *text, size_t n, uint64_t *out)
{
	uint64_t v = 0;

	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(text[i] - '0'), &v))
			return -EBADMSG;
	}
	*out = v;
	return n ? 0 : -EBADMSG;
}

static int setting_parse(const struct setting *d, struct ks_bytes text,
			 struct ks_volume_settings *s)
{
	char *p = (char *)s + d->off;
	char buf[KS_UUID_STR];
	uint64_t v;
	uint32_t small;

	switch (d->kind) {
	case TEXT:
		if (text.n >= d->size)
			return -EBADMSG;
		if (text.n)
			memcpy(p, text.p, text.n);
		p[text.n] = '\0';
		return 0;
	case HEX16:
		return parse_hex16(text.p, text.n, (uint8_t *)p);
	case UUID:
		if (text.n != KS_UUID_STR - 1)
			return -EBADMSG;
		memcpy(buf, text.p, text.n);
		buf[text.n] = '\0';
		return ks_uuid_parse(buf, (uint8_t *)p) < 0 ? -EBADMSG : 0;
	case NUMBER:
		if (parse_number(text.p, text.n, &v) < 0 ||
		    (d->size == sizeof(small) && v > UINT32_MAX))
			return -EBADMSG;
		if (d->size == sizeof(small)) {
			small = (uint32_t)v;
			memcpy(p, &small, sizeof(small));
		} else {
			memcpy(p, &v, sizeof(v));
		}
		return 0;
	}
	return -EBADMSG;
}

/* Absent means 0. */
static bool is_optional(const struct setting *d)
{
	return d->off == offsetof(struct ks_volume_settings, owner);
}

static bool is_zero(const struct setting *d, const struct ks_volume_settings *s)
{
	static const uint8_t none[16];

	assert(d->size == sizeof(none));
	return memcmp((const char *)s + d->off, none, d->size) == 0;
}

static void settings_put(struct ks_txn *t, const struct ks_volume_settings *s,
			 const char *const *only)
{
	char text[SETTING_TEXT];

	for (size_t i = 0; i < KS_ARRAY_SIZE(settings); i++) {
		struct ks_rec_setting rec = { .name = ks_bytes_str(settings[i].name) };
		bool wanted = !only;

		for (const char *const *o = only; o && *o; o++)
			wanted = wanted || strcmp(*o, settings[i].name) == 0;
		if (!wanted || (is_optional(&settings[i]) && is_zero(&settings[i], s)))
			continue;
		setting_print(&settings[i], s, text);
		rec.value = ks_bytes_str(text);
		ks_txn_put(t, KS_T_SETTING, &rec);
	}
}

#define DOOMED "destroying"

static int doom_body(struct ks_txn *t, void *arg)
{
	struct ks_rec_setting rec = { .name = ks_bytes_str(DOOMED), .value = ks_bytes_str("1") };

	(void)arg;
	ks_txn_put(t, KS_T_SETTING, &rec);
	return 0;
}

int ks_meta_doom(struct ks_meta *m)
{
	int r = ks_meta_run(m, doom_body, NULL);

	return r < 0 ? r : ks_meta_sync(m);
}

struct load {
	struct ks_volume_settings s;
	uint32_t seen; /* bit per row of settings[] */
};

static int load_one(void *arg, const void *rec, const struct ks_rec_inode *node)
{
	const struct ks_rec_setting *r = rec;
	struct load *l = arg;

	(void)node;
	for (size_t i = 0; i < KS_ARRAY_SIZE(settings); i++) {
		const struct setting *d = &settings[i];

		if (strlen(d->name) != r->name.n || memcmp(d->name, r->name.p, r->name.n) != 0)
			continue;
		if (setting_parse(d, r->value, &l->s) < 0)
			return ks_fail(-EBADMSG, "the volume's setting '%s' cannot be read",
				       d->name);
		l->seen |= 1u << i;
	}
	if (r->name.n == strlen(DOOMED) && memcmp(r->name.p, DOOMED, r->name.n) == 0)
		l->s.destroying = true;
	return 0; /* an unknown one belongs to a newer compatible program */
}

static int settings_check(const struct load *l)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(settings); i++) {
		/* A newer format may have dropped settings: its version is judged first. */
		if (l->s.format_version <= KS_FORMAT_VERSION && !(l->seen & (1u << i)) &&
		    !is_optional(&settings[i]))
			return ks_fail(-EBADMSG, "volume '%s': the setting '%s' is missing",
				       l->s.name, settings[i].name);
	}
	if (l->s.format_version > KS_FORMAT_VERSION)
		return ks_fail_hint(-EPROTO, "use the program that made it, or a newer one",
				    "volume '%s' has format %u (made by %s), this program knows "
				    "formats up to %d",
				    l->s.name, l->s.format_version, l->s.created_by,
				    KS_FORMAT_VERSION);
	if (l->s.incompat & ~KNOWN_INCOMPAT)
		return ks_fail_hint(-EPROTO, "use a newer program",
				    "volume '%s' uses features 0x%jx, this program knows 0x%jx",
				    l->s.name, (uintmax_t)l->s.incompat, (uintmax_t)KNOWN_INCOMPAT);
	if (l->s.block_size < KS_BLOCK_MIN || l->s.block_size > KS_BLOCK_MAX ||
	    (l->s.block_size & (l->s.block_size - 1)))
		return ks_fail(-EBADMSG, "volume '%s': a block size of %ju is not possible",
			       l->s.name, (uintmax_t)l->s.block_size);
	return 0;
}

/* Needs set_mu. In place, and only what differs: who reads them without it sees the old value or the new one. */
static void take_changed(struct ks_meta *m, const struct ks_volume_settings *s)
{
	if (m->set.capacity_bytes != s->capacity_bytes)
		__atomic_store_n(&m->set.capacity_bytes, s->capacity_bytes, __ATOMIC_RELAXED);
	if (m->set.inodes_max != s->inodes_max)
		__atomic_store_n(&m->set.inodes_max, s->inodes_max, __ATOMIC_RELAXED);
	if (m->set.trash_ns != s->trash_ns)
		__atomic_store_n(&m->set.trash_ns, s->trash_ns, __ATOMIC_RELAXED);
	atomic_store(&m->capacity, s->capacity_bytes);
	atomic_store(&m->inodes_max, s->inodes_max);
}

int ks_meta_read_settings(struct ks_meta *m)
{
	struct ks_arena a = { 0 };
	struct load l = { 0 };
	struct ks_scan s = { .table = KS_T_SETTING, .fn = load_one, .arg = &l };
	int r;

	/* From the read to the end: what a change here has set meanwhile is not taken back. */
	KS_LOCKED(&m->set_mu);
	r = ks_engine_scan(m->e, &s, &a);
	ks_arena_clear(&a);
	if (r == 0 && !l.seen)
		r = ks_fail(-EBADMSG,
			    "the database has no volume in it: its making was interrupted");
	if (r == 0)
		r = settings_check(&l);
	if (r < 0)
		return r;
	/* Only what may change is taken again: others read the rest without a lock. */
	if (!m->set.format_version)
		m->set = l.s;
	take_changed(m, &l.s);
	return 0;
}

/* ---- format ---- */

struct format_arg {
	const struct ks_volume_settings *s;
	struct ks_rec_inode root;
};

static int format_body(struct ks_txn *t, void *arg)
{
	const struct format_arg *f = arg;
	static const struct {
		const char *name;
		int64_t value;
	} counters[] = {
		{ "next_inode", KS_FIRST_INO }, { "next_slice", 1 },   { "next_pack", 1 },
		{ "next_session", 1 },          { KS_CNT_EPOCH, 1 },   { KS_CNT_USED, 0 },
		{ KS_CNT_INODES, 1 },           { KS_CNT_DIRMOVE, 0 },
	};

	settings_put(t, f->s, NULL);
	for (size_t i = 0; i < KS_ARRAY_SIZE(counters); i++) {
		struct ks_rec_counter c = { .name = ks_bytes_str(counters[i].name),
					    .value = counters[i].value };

		ks_txn_insert(t, KS_T_COUNTER, &c);
	}
	ks_txn_insert(t, KS_T_INODE, &f->root);
	return 0;
}

int ks_meta_format(const char *url, const struct ks_volume_settings *s, uint32_t uid, uint32_t gid)
{
	int64_t now = ks_clock_real_ns();
	struct ks_engine_opts o = { .create = true };
	struct format_arg f = {
		.s = s,
		.root = { .ino = KS_ROOT_INO,
			  .mode = S_IFDIR | 0755,
			  .nlink = 2,
			  .uid = uid,
			  .gid = gid,
			  .size = KS_DIR_SIZE,
			  .atime_ns = now,
			  .mtime_ns = now,
			  .ctime_ns = now,
			  .btime_ns = now,
			  .change = 1 },
	};
	struct ks_engine *e = NULL;
	int r = ks_engine_open(&e, url, &o);

	if (r < 0)
		return r;
	r = ks_engine_run(e, format_body, &f);
	if (r == 0)
		r = ks_engine_sync(e);
	ks_engine_close(e);
	return r;
}

/* ---- open and close ---- */

static void meta_free(struct ks_meta *m)
{
	ks_locks_close(m);
	ks_engine_close(m->e);
	pthread_mutex_destroy(&m->mu);
	pthread_mutex_destroy(&m->set_mu);
	pthread_cond_destroy(&m->cond);
	free(m->hidden);
	free(m->locks);
	free(m);
}

int ks_meta_open(struct ks_meta **out, const char *url, const struct ks_meta_opts *o)
{
	static const struct ks_meta_opts none;
	struct ks_engine_opts eo = { 0 };
	struct ks_meta *m = calloc(1, sizeof(*m));
	int r;

	if (!m)
		return -ENOMEM;
	m->o = o ? *o : none;
	m->volume_fd = m->session_fd = -1;
	m->readonly = m->o.readonly || m->o.snapshot;
	eo.readonly = m->readonly;
	eo.snapshot = m->o.snapshot;
	eo.busy_timeout_ns = m->o.busy_timeout_ns;
	eo.mmap_bytes = m->o.mmap_bytes;
	pthread_mutex_init(&m->mu, NULL);
	pthread_mutex_init(&m->set_mu, NULL);
	r = ks_cond_init(&m->cond);
	if (r < 0) {
		pthread_mutex_destroy(&m->mu);
		pthread_mutex_destroy(&m->set_mu);
		free(m);
		return r;
	}
	m->locks = ks_locks_dir(url);
	r = ks_engine_open(&m->e, url, &eo);
	if (r == 0)
		r = ks_meta_read_settings(m);
	if (r == 0 && (m->set.ro_compat & ~KNOWN_RO_COMPAT) && !m->readonly) {
		ks_log(KS_LOG_WARN,
		       "the volume uses features 0x%jx that this program must not write: read-only",
		       (uintmax_t)(m->set.ro_compat & ~KNOWN_RO_COMPAT));
		m->readonly = true;
	}
	if (r == 0 && !m->readonly)
		r = ks_locks_open(m, url);
	if (r < 0) {
		meta_free(m);
		return r;
	}
	*out = m;
	return 0;
}

void ks_meta_close(struct ks_meta *m)
{
	if (!m)
		return;
	ks_meta_session_stop(m);
	meta_free(m);
}

const struct ks_volume_settings *ks_meta_settings(const struct ks_meta *m)
{
	return &m->set;
}

struct ks_engine *ks_meta_engine(struct ks_meta *m)
{
	return m->e;
}

int ks_meta_sync(struct ks_meta *m)
{
	return ks_engine_sync(m->e);
}

uint64_t ks_meta_sync_begin(struct ks_meta *m)
{
	return ks_engine_sync_begin(m->e);
}

int ks_meta_sync_end(struct ks_meta *m, uint64_t begun)
{
	return ks_engine_sync_end(m->e, begun);
}

void ks_meta_make_readonly(struct ks_meta *m)
{
	assert(!atomic_load(&m->session));
	m->readonly = true;
}

bool ks_meta_is_readonly(const struct ks_meta *m)
{
	return m->readonly;
}

struct settings_arg {
	struct ks_volume_settings s;
	const char *changed[4]; /* ends with NULL */
};

static int settings_set_body(struct ks_txn *t, void *arg)
{
	const struct settings_arg *a = arg;

	settings_put(t, &a->s, a->changed);
	return 0;
}

int ks_meta_settings_set(struct ks_meta *m, const struct ks_volume_settings *s)
{
	struct settings_arg a = { .s = *s };
	size_t n = 0;
	int r;

	KS_LOCKED(&m->set_mu);
	/* Only these: who changes another one at the same time is not undone. */
	if (s->capacity_bytes != m->set.capacity_bytes)
		a.changed[n++] = "capacity_bytes";
	if (s->inodes_max != m->set.inodes_max)
		a.changed[n++] = "inodes_max";
	if (s->trash_ns != m->set.trash_ns)
		a.changed[n++] = "trash_ns";
	r = n ? ks_meta_run(m, settings_set_body, &a) : 0;
	if (r < 0)
		return r;
	take_changed(m, s);
	return 0;
}

/* ---- running ---- */

int ks_session_fenced(struct ks_meta *m)
{
	/* Logged once, when it was found. */
	bool quiet = ks_fail_quiet(true);
	int r = ks_fail_hint(-EIO,
			     "unmount, or stop the tool, and begin anew; were files of the "
			     "directory of locks deleted?",
			     "session %ju was declared dead by another process",
			     (uintmax_t)atomic_load(&m->session));

	ks_fail_quiet(quiet);
	return r;
}

int ks_meta_run(struct ks_meta *m, ks_body_fn *body, void *arg)
{
	if (m->readonly)
		return -EROFS;
	if (atomic_load_explicit(&m->fenced, memory_order_relaxed))
		return ks_session_fenced(m);
	return ks_engine_run(m->e, body, arg);
}

int ks_meta_run_quota(struct ks_meta *m, ks_body_fn *body, void *arg)
{
	int64_t end = ks_clock_mono_ns() + KS_NS_PER_S;
	int r = ks_meta_run(m, body, arg);

	if (r != -ENOSPC || (!atomic_load(&m->capacity) && !atomic_load(&m->inodes_max)))
		return r;
	/*
	 * What was deleted a moment ago may be given back now; if not, the answer stands. No epoch is passed here: the hooks for that
	 * may want locks that the caller holds.
	 */
	atomic_store(&m->reap_cursor, 0);
	while (ks_meta_reap(m) > 0 && ks_clock_mono_ns() < end)
		;
	return ks_meta_run(m, body, arg);
}

void ks_count_add(struct ks_txn *t, const char *name, int64_t by)
{
	struct ks_rec_counter key = { .name = ks_bytes_str(name) };
	struct ks_upd u = KS_UPD_COL(counter, value, KS_UPD_ADD, by);

	if (by)
		ks_txn_update(t, KS_T_COUNTER, &key, &u, 1);
}

void ks_touch_dir(struct ks_txn *t, uint64_t dir, int64_t now, int links)
{
	struct ks_rec_inode key = { .ino = dir };
	/* mtime is what a user may have set to the future; ctime only grows. */
	struct ks_upd u[] = {
		KS_UPD_COL(inode, mtime_ns, KS_UPD_SET, now),
		KS_UPD_COL(inode, ctime_ns, KS_UPD_MAX, now),
		KS_UPD_COL(inode, change, KS_UPD_ADD, 1),
		KS_UPD_COL(inode, nlink, KS_UPD_ADD, links),
	};

	ks_txn_update(t, KS_T_INODE, &key, u, links ? 4 : 3);
}

void ks_touch(struct ks_attr *a, int64_t now)
{
	a->ctime_ns = ks_max(a->ctime_ns, now);
	a->change++;
}

uint32_t ks_mode_kill_priv(uint32_t mode)
{
	if (!S_ISREG(mode))
		return mode;
	mode &= ~(uint32_t)S_ISUID;
	if (mode & S_IXGRP)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

/* ---- ids ---- */

struct refill {
	const char *name;
	uint64_t first;
};

static int refill_body(struct ks_txn *t, void *arg)
{
	struct refill *f = arg;
	struct ks_rec_counter c;
	struct ks_read rd = ks_read_counter(&c, f->name, 0);
	int r = ks_txn_read(t, &rd, 1);

	if (r < 0)
		return r;
	if (!rd.found || c.value <= 0 || c.value > INT64_MAX - KS_ID_BATCH)
		return -EBADMSG;
	f->first = (uint64_t)c.value;
	ks_count_add(t, f->name, KS_ID_BATCH);
	return 0;
}

static bool pool_take(struct ks_meta *m, enum ks_id kind, uint64_t *out)
{
	struct ks_id_pool *p = &m->pools[kind];
	KS_LOCKED(&m->mu);

	if (p->next == p->end)
		return false;
	*out = p->next++;
	return true;
}

int ks_meta_new_id(struct ks_meta *m, enum ks_id kind, uint64_t *out)
{
	static const char *const names[] = { "next_inode", "next_slice", "next_pack" };
	struct refill f = { .name = names[kind] };
	int r;

	if (pool_take(m, kind, out))
		return 0;
	/*
	 * Several threads may do this at once; what is left of all batches but the highest is then lost. Not of another: the pool would go on below a number that
	 * was given out, which would count as one that is still to come (ks_meta_next_slice()).
	 */
	r = ks_meta_run(m, refill_body, &f);
	if (r < 0)
		return r == -EBADMSG ? ks_fail(r, "the counter '%s' is damaged", f.name) : r;
	*out = f.first;

	struct ks_id_pool *p = &m->pools[kind];
	KS_LOCKED(&m->mu);

	if (p->next <= f.first) {
		p->next = f.first + 1;
		p->end = f.first + KS_ID_BATCH;
	}
	return 0;
}

int ks_meta_new_slice_id(struct ks_meta *m, uint64_t *out)
{
	return ks_meta_new_id(m, KS_ID_SLICE, out);
}

int ks_meta_new_pack_id(struct ks_meta *m, uint64_t *out)
{
	return ks_meta_new_id(m, KS_ID_PACK, out);
}

/* ---- usage ---- */

int ks_meta_usage(struct ks_meta *m, struct ks_meta_usage *out)
{
	struct ks_arena a = { 0 };
	struct ks_rec_counter used, inodes;
	struct ks_read rd[] = { ks_read_counter(&used, KS_CNT_USED, 0),
				ks_read_counter(&inodes, KS_CNT_INODES, 0) };
	int r = ks_engine_read(m->e, rd, 2, &a);

	ks_arena_clear(&a);
	if (r < 0)
		return r;
	*out = (struct ks_meta_usage){
		.used_bytes = rd[0].found ? (uint64_t)ks_max(used.value, (int64_t)0) : 0,
		.inodes = rd[1].found ? (uint64_t)ks_max(inodes.value, (int64_t)0) : 0,
		.capacity_bytes = atomic_load(&m->capacity),
		.inodes_max = atomic_load(&m->inodes_max),
	};
	return 0;
}
