/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load.c: a dump becomes a volume, in an order in which every step can be the last:
 *
 *	1  what is at the data location is looked at; for a dump with blocks it is marked "loading"
 *	2  records into a database under another name	removed by the next one
 *	3  objects					removed by the next one, as the marker says whose they are
 *	4  checksums compared, the database opened
 *	5  marker without "loading"			what is there may belong to a volume from here on, and no load removes it
 *	6  database renamed				from here on there is a volume
 *	7  marker without "formatting"			else the first mount does it
 */
#include "volume/load.h"
#include "base/log.h"
#include "data/block.h"
#include "volume/dump_internal.h"
#include "volume/load_records.h"
#include "volume/place.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MANIFEST_MAX 65536
#define NUMBERS (UINT64_C(1) << 40)
#define NOT_A_DUMP "kiseki-load VOLUME:/PATH unpacks other archives into a volume"

struct load {
	const struct ks_load_opts *o;
	struct ks_load_result *out;
	struct ks_arc_in *in;
	struct ks_place at;
	char *tmp; /* the database until it is complete; NULL: it has its name, or is no file */
	char *tmp_url;
	struct ks_engine *e; /* NULL: only verify */
	struct ks_object *store;
	struct ks_marker marker; /* as it was found, or written */
	bool made;               /* the data directory was made by us */
	int data_fd;             /* of it, locked: another load would take ours for an old one's */
	bool marked;             /* by us, and nothing is there but what we put */
	char setting_url[1024];  /* what data_url will say */
	char *data_url;          /* absolute */
	char *dump_url;          /* what the manifest says */
	uint8_t dump_uuid[16];   /* likewise */
	struct ks_volume_settings s;
	struct ks_load_records rec;
	struct ks_buf sums; /* of what has come */
	struct ks_buf buf;  /* one member */
};

void ks_load_result_clear(struct ks_load_result *r)
{
	free(r->meta_url);
	free(r->data_url);
	r->meta_url = r->data_url = NULL;
}

static int bad_dump(const char *what)
{
	return ks_fail_hint(-EBADMSG, "it is damaged, or was not written by kiseki-dump",
			    "the dump cannot be loaded: %s", what);
}

/* ---- the manifest ---- */

static int read_manifest(struct load *l, const json_t *j)
{
	json_int_t version = json_integer_value(json_object_get(j, "kiseki_dump"));
	json_int_t format = json_integer_value(json_object_get(j, "format_version"));
	const char *kind = json_string_value(json_object_get(j, "kind"));
	const char *name = json_string_value(json_object_get(j, "name"));
	const char *uuid = json_string_value(json_object_get(j, "uuid"));
	const char *data = json_string_value(json_object_get(j, "data"));

	if (version < 1 || format < 1)
		return bad_dump("its manifest cannot be read");
	if (version > KS_DUMP_VERSION || format > 1) {
		return ks_fail_hint(-EPROTO, "use a newer kiseki-load",
				    "the dump has version %jd of a volume of format %jd; this "
				    "program knows versions up to %d and formats up to 1",
				    (intmax_t)version, (intmax_t)format, KS_DUMP_VERSION);
	}
	l->out->blocks = kind && strcmp(kind, "blocks") == 0;
	if (!kind || (!l->out->blocks && strcmp(kind, "meta") != 0) || !name ||
	    strlen(name) >= sizeof(l->out->name) || !uuid ||
	    ks_uuid_parse(uuid, l->dump_uuid) < 0 || (!l->out->blocks && !data))
		return bad_dump("its manifest cannot be read");
	snprintf(l->out->name, sizeof(l->out->name), "%s", name);
	ks_uuid_format(l->dump_uuid, l->out->uuid);
	l->dump_url = data ? strdup(data) : NULL;
	return data && !l->dump_url ? -ENOMEM : 0;
}

static int take_manifest(struct load *l)
{
	struct archive_entry *e;
	const char *name;
	json_t *j;
	int r = ks_arc_in_next(l->in, &e);

	if (r < 0)
		return r;
	name = r ? archive_entry_pathname(e) : NULL;
	if (!name || strcmp(name, KS_DUMP_MANIFEST) != 0)
		return ks_fail_hint(-EBADMSG, NOT_A_DUMP, "%s is no dump of a volume: %s",
				    l->o->file, name ? name : "(nothing in it)");
	r = ks_arc_in_all(l->in, &l->buf, MANIFEST_MAX);
	if (r < 0)
		return r;
	j = json_loadb(l->buf.p, l->buf.n, 0, NULL);
	r = read_manifest(l, j);
	json_decref(j);
	return r == 0 ? ks_dump_sum(&l->sums, KS_DUMP_MANIFEST, l->buf.p, l->buf.n) : r;
}

/* ---- where the data is ---- */

static int choose_data(struct load *l)
{
	const char *url = l->o->data || l->out->blocks ? l->o->data : l->dump_url;
	int r = ks_place_data(&l->at, url, l->setting_url, sizeof(l->setting_url));

	if (r == 0)
		r = ks_volume_data_url(l->at.ref.meta_url, l->setting_url, &l->data_url);
	return r;
}

/* The data that the dump's volume has, or had. */
static int open_data(struct load *l)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", l->data_url);
	char ours[KS_UUID_STR], theirs[KS_UUID_STR];
	struct stat st;
	int r;

	if (dir && stat(dir, &st) < 0)
		return ks_fail_hint(-errno, "--data says where it is now",
				    "data directory %s of volume '%s'", dir, l->out->name);
	r = ks_store_open_bare(&l->store, l->data_url);
	if (r < 0)
		return r;
	r = ks_marker_read(l->store, &l->marker);
	if (r == -ENOENT) {
		return ks_fail_hint(-EMEDIUMTYPE, "--data says where it is now",
				    "%s does not hold the data of volume '%s': its object '%s' is "
				    "missing",
				    l->data_url, l->out->name, KS_VOLUME_MARKER);
	}
	if (r < 0 || memcmp(l->marker.uuid, l->dump_uuid, sizeof(l->dump_uuid)) == 0)
		return r;
	ks_uuid_format(l->dump_uuid, ours);
	ks_uuid_format(l->marker.uuid, theirs);
	return ks_fail_hint(-EMEDIUMTYPE, "--data says where its own is: nothing was changed",
			    "%s belongs to another volume: '%s' (%s), not '%s' (%s)", l->data_url,
			    l->marker.name, theirs, l->out->name, ours);
}

static int first_object(void *arg, const char *key, const struct ks_object_info *info)
{
	char *first = arg;

	(void)info;
	if (strcmp(key, KS_VOLUME_MARKER) == 0)
		return 0;
	snprintf(first, KS_OBJECT_KEY_MAX + 1, "%s", key);
	return 1;
}

/* Everything there was put by a load: listed in stretches, since a listing may not see what changes. */
static int remove_objects(struct ks_object *store)
{
	static const char marker[] = KS_VOLUME_MARKER;
	const char *last = marker;
	char first[KS_OBJECT_KEY_MAX + 1] = "";
	const char *key = first;
	int r;

	while ((r = ks_object_list(store, "", "", first_object, first)) > 0) {
		r = ks_object_del(store, &key, 1);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : ks_object_del(store, &last, 1);
}

static int lock_data(struct load *l, const char *dir)
{
	if (!dir)
		return 0;
	l->data_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->data_fd < 0)
		return ks_fail(-errno, "open directory %s", dir);
	if (flock(l->data_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return ks_fail_hint(-EBUSY, "wait until it is done, or choose another --data",
				    "another program loads a volume into %s", dir);
	return ks_fail(-errno, "lock directory %s", dir);
}

/* A place of our own: empty, or what another load left. */
static int make_data(struct load *l)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", l->data_url);
	char first[KS_OBJECT_KEY_MAX + 1] = "";
	int r;

	l->made = dir && access(dir, F_OK) < 0;
	r = ks_store_open_bare(&l->store, l->data_url);
	if (r == 0)
		r = lock_data(l, dir);
	if (r < 0)
		return r;
	r = ks_marker_read(l->store, &l->marker);
	if (r == 0 && !l->marker.loading) {
		return ks_fail_hint(-EMEDIUMTYPE, "choose another --data: nothing was changed",
				    "%s belongs to another volume: '%s'", l->data_url,
				    l->marker.name);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0)
		r = remove_objects(l->store);
	else
		r = ks_object_list(l->store, "", "", first_object, first);
	if (r > 0)
		return ks_fail_hint(-EEXIST, "choose an empty place with --data",
				    "%s is not empty: it holds '%s'", l->data_url, first);
	if (r < 0)
		return r;
	l->marker = (struct ks_marker){ .formatting = true, .loading = true };
	memcpy(l->marker.uuid, l->s.uuid, sizeof(l->marker.uuid));
	snprintf(l->marker.name, sizeof(l->marker.name), "%s", l->out->name);
	l->marked = true;
	return ks_marker_write(l->store, &l->marker);
}

/* ---- members ---- */

static int put_object(struct load *l, const char *key, uint64_t size, bool block)
{
	struct iovec iov;
	int r;

	l->buf.n = 0;
	r = ks_arc_in_all(l->in, &l->buf, (size_t)size);
	if (r < 0)
		return r;
	if (l->buf.n != size)
		return bad_dump("an object is shorter than its size");
	/* Pages of a block that are damaged in the volume are so in the dump: fsck's business. Its form must be right. */
	if (block) {
		uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
		uint32_t tail = (uint32_t)ks_min(size, (uint64_t)KS_BLOCK_TAIL_MAX);
		struct ks_block_head h;

		r = ks_block_open_tail((const uint8_t *)l->buf.p + size - tail, tail, &h, sums,
				       KS_ARRAY_SIZE(sums));
		if (r < 0)
			return r;
	}
	iov = (struct iovec){ l->buf.p, l->buf.n };
	return l->store ? ks_object_put(l->store, key, &iov, 1) : 0;
}

/* In pieces: a pack may be large. */
static int put_pack(struct load *l, const char *key, uint64_t size)
{
	struct ks_appender *a = NULL;
	const void *p;
	uint64_t off, at = 0;
	size_t n;
	int r = 0;

	if (l->store && !ks_object_can_append(l->store)) {
		return size > KS_DUMP_MEMBER_MAX
			       ? ks_fail(-ENOTSUP, "%s cannot take the pack %s of %ju bytes",
					 l->data_url, key, (uintmax_t)size)
			       : put_object(l, key, size, false);
	}
	if (l->store)
		r = ks_appender_open(l->store, key, &a);
	while (r == 0 && (r = ks_arc_in_data(l->in, &p, &n, &off)) > 0) {
		struct iovec iov = { .iov_len = n };

		memcpy(&iov.iov_base, &p, sizeof(p));
		if (off != at)
			r = bad_dump("an object has a hole");
		else
			r = a && n ? ks_appender_write(a, &iov, 1, &off) : 0;
		at += n;
	}
	if (a)
		ks_appender_close(a);
	return r == 0 && at != size ? bad_dump("an object is shorter than its size") : r;
}

static int take_object(struct load *l, const char *key, struct archive_entry *e)
{
	la_int64_t size = archive_entry_size(e);
	char again[KS_KEY_STR];
	uint64_t slice, pack;
	uint32_t idx, bytes;
	int r;

	if (!l->out->blocks)
		return bad_dump("it has objects, and its manifest says that it has none");
	if (ks_block_key_parse(key, &slice, &idx, &bytes)) {
		ks_block_key(again, slice, idx, bytes);
		if (strcmp(again, key) != 0 || bytes > KS_BLOCK_MAX ||
		    (uint64_t)size != ks_block_object_size(bytes))
			return bad_dump("an object's name or size is not that of a block");
		r = put_object(l, key, (uint64_t)size, true);
	} else if (ks_pack_key_parse(key, &pack)) {
		ks_pack_key(again, pack);
		if (strcmp(again, key) != 0 || size < 0)
			return bad_dump("an object's name or size is not that of a pack");
		r = put_pack(l, key, (uint64_t)size);
	} else {
		return bad_dump("an object's name is not one of Kiseki's");
	}
	ks_dump_count(&l->out->objects, 1);
	ks_dump_count(&l->out->object_bytes, (uint64_t)size);
	return r;
}

static int take_segment(struct load *l, const char *name)
{
	int r;

	r = ks_load_records_segment(&l->rec, name);
	if (r < 0)
		return r;
	l->buf.n = 0;
	r = ks_arc_in_all(l->in, &l->buf, KS_DUMP_MEMBER_MAX);
	if (r == 0)
		r = ks_dump_sum(&l->sums, name, l->buf.p, l->buf.n);
	return r == 0 ? ks_load_records_take(&l->rec, &l->buf, name) : r;
}

static int take_sums(struct load *l)
{
	l->buf.n = 0;
	/* One byte more than there can be shows what is too long. */
	int r = ks_arc_in_all(l->in, &l->buf, l->sums.n + 1);

	if (r == 0 && (l->buf.n != l->sums.n || memcmp(l->buf.p, l->sums.p, l->sums.n) != 0))
		return bad_dump("its checksums are not right");
	return r;
}

static int take_members(struct load *l)
{
	const size_t dir = strlen(KS_DUMP_OBJECTS);
	struct archive_entry *e;
	bool complete = false;
	int r;

	while ((r = ks_arc_in_next(l->in, &e)) > 0) {
		const char *name = archive_entry_pathname(e);

		__atomic_store_n(&l->out->in_bytes, ks_arc_in_bytes(l->in), __ATOMIC_RELAXED);
		if (l->o->stopped && l->o->stopped(l->o->arg))
			return ks_fail(-EINTR, "load");
		if (!name || archive_entry_filetype(e) != AE_IFREG)
			return bad_dump("it has a member that is no file");
		if (complete)
			return bad_dump("something follows its checksums");
		if (strcmp(name, KS_DUMP_SUMS) == 0) {
			complete = true;
			r = take_sums(l);
		} else if (strncmp(name, KS_DUMP_OBJECTS, dir) == 0) {
			r = ks_load_records_end(&l->rec);
			if (r == 0)
				r = take_object(l, name + dir, e);
		} else {
			r = take_segment(l, name);
		}
		if (r < 0)
			return r;
	}
	if (r == 0 && !complete) {
		return ks_fail_hint(-EBADMSG, "get another copy, or make another dump",
				    "%s is not complete: the dump was interrupted, or it was cut",
				    l->o->file);
	}
	return r < 0 ? r : ks_load_records_end(&l->rec);
}

/* ---- the database ---- */

static int open_engine(struct load *l)
{
	struct ks_engine_opts o = { .create = true, .mmap_bytes = 4096 };
	const char *db = ks_volume_sqlite_path(l->at.ref.meta_url);
	struct stat st;
	int r;

	if (db) {
		if (lstat(db, &st) == 0) {
			return ks_fail_hint(-EEXIST,
					    "choose another name: nothing was changed; "
					    "VOLUME:/PATH unpacks an archive into a volume",
					    "%s exists", db);
		}
		l->tmp = ks_asprintf("%s.new", db);
		l->tmp_url = l->tmp ? ks_asprintf("sqlite://%s", l->tmp) : NULL;
		if (!l->tmp_url)
			return -ENOMEM;
		ks_place_remove(l->tmp);
	} else {
		l->tmp_url = strdup(l->at.ref.meta_url);
		if (!l->tmp_url)
			return -ENOMEM;
	}
	r = ks_engine_open(&l->e, l->tmp_url, &o);
	if (r == -EEXIST)
		return ks_fail(r, "a volume already exists at %s", l->at.ref.shown_url);
	return r;
}

static int prepare(struct load *l)
{
	int r = ks_place_find(&l->at, l->o->operand, &l->o->find);

	if (r == 0)
		r = ks_place_lock(&l->at, false);
	if (r == 0)
		r = choose_data(l);
	if (r == 0)
		r = open_engine(l);
	if (r == 0 && l->o->new_uuid)
		r = ks_uuid_new(l->s.uuid);
	if (r == 0)
		r = l->out->blocks ? make_data(l) : open_data(l);
	return r;
}

/* Can it be opened? The settings of a hostile dump may say anything. */
static int try_open(struct load *l)
{
	struct ks_meta_opts mo = { .readonly = true };
	struct ks_meta *m = NULL;
	const struct ks_volume_settings *s;
	int r = ks_meta_open(&m, l->tmp_url, &mo);

	if (r < 0)
		return r;
	s = ks_meta_settings(m);
	if (strcmp(s->name, l->out->name) != 0 ||
	    (!l->o->new_uuid && memcmp(s->uuid, l->dump_uuid, sizeof(l->dump_uuid)) != 0))
		r = bad_dump("its settings are not those of its manifest");
	l->s = *s;
	ks_meta_close(m);
	return r;
}

/*
 * Since the dump, other metadata may have written objects under numbers that this one believes to be free. So each owner has 2^40 of its own, by the count of
 * owners in the marker; what the others wrote and nobody names is kiseki-gc's.
 */
static int own_numbers_body(struct ks_txn *t, void *arg)
{
	static const char *const names[] = { "next_slice", "next_pack" };
	const uint64_t *owners = arg;
	const struct ks_upd u = { .col_off = offsetof(struct ks_rec_counter, value),
				  .op = KS_UPD_MAX,
				  .value = (int64_t)(*owners * NUMBERS + 1) };

	for (size_t i = 0; i < KS_ARRAY_SIZE(names); i++) {
		struct ks_rec_counter c = { .name = { names[i], strlen(names[i]) } };

		ks_txn_update(t, KS_T_COUNTER, &c, &u, 1);
	}
	return 0;
}

/* In the metadata; the marker is still to be written. */
static int become_owner(struct ks_engine *e, struct ks_marker *m, const uint8_t owner[16])
{
	memcpy(m->owner, owner, sizeof(m->owner));
	if (++m->owners >= INT64_MAX / NUMBERS)
		return ks_fail(-EOVERFLOW, "the data has had too many owners");
	return ks_engine_run(e, own_numbers_body, &m->owners);
}

/* What a dump leaves out: where the data is and whose, and what counts sessions. */
static int put_local(struct load *l)
{
	const struct ks_load_local local = { .data_url = l->setting_url,
					     .uuid = l->o->new_uuid ? l->s.uuid : NULL,
					     .owner = l->out->blocks ? NULL : l->s.owner };
	int r = l->out->blocks ? 0 : ks_uuid_new(l->s.owner);

	if (r == 0)
		r = ks_load_records_local(&l->rec, &local);
	if (r == 0 && l->o->take_over && !l->out->blocks)
		r = become_owner(l->e, &l->marker, l->s.owner);
	return r;
}

static int write_marker(struct load *l)
{
	if (l->out->blocks) {
		l->marker.formatting = false;
		l->out->owner = true;
		return ks_marker_write(l->store, &l->marker);
	}
	if (!l->o->take_over)
		return 0;
	l->out->owner = true;
	return ks_marker_write(l->store, &l->marker);
}

static int finish(struct load *l)
{
	int r = put_local(l);

	if (r == 0)
		r = ks_engine_sync(l->e);
	if (r == 0 && l->store)
		r = ks_object_sync(l->store);
	if (r < 0)
		return r;
	/* The memory engine forgets what nobody has open. */
	if (l->tmp) {
		ks_engine_close(l->e);
		l->e = NULL;
	}
	r = try_open(l);
	l->marker.loading = false;
	if (r == 0 && l->out->blocks)
		r = ks_marker_write(l->store, &l->marker);
	if (r == 0 && l->tmp)
		r = ks_place_publish(&l->at, l->tmp);
	if (r < 0)
		return r;
	/* What the look at it has left under the other name. */
	if (l->tmp)
		ks_place_remove(l->tmp);
	free(l->tmp);
	l->tmp = NULL;
	l->marked = false; /* they stay */
	ks_uuid_format(l->s.uuid, l->out->uuid);
	l->out->meta_url = ks_steal(&l->at.ref.shown_url);
	l->out->data_url = ks_steal(&l->data_url);
	return write_marker(l);
}

/* After a failure: as if nothing had been. */
static void undo(struct load *l)
{
	bool quiet = ks_fail_quiet(true);
	struct ks_fail_kept why;

	ks_fail_keep(&why);
	ks_engine_close(l->e);
	l->e = NULL;
	if (l->tmp)
		ks_place_remove(l->tmp);
	if (l->marked)
		KS_IGNORE(remove_objects(l->store) < 0); /* the next load does */
	ks_object_close(l->store);
	l->store = NULL;
	if (l->made)
		ks_place_remove_empty(l->data_url);
	ks_place_undo(&l->at, l->data_url);
	ks_fail_restore(&why);
	ks_fail_quiet(quiet);
}

static int run(struct load *l)
{
	int r = ks_arc_in_open(&l->in, l->o->file, l->o->stopped, l->o->arg);

	if (r == 0) {
		l->out->in_size = ks_arc_in_size(l->in);
		r = take_manifest(l);
	}
	if (r == 0 && l->o->new_uuid && !l->out->blocks && l->o->operand) {
		return ks_fail_hint(-EINVAL, "a dump with blocks can have another",
				    "the data belongs to the volume's UUID: a dump without blocks "
				    "keeps it");
	}
	memcpy(l->s.uuid, l->dump_uuid, sizeof(l->s.uuid));
	if (r == 0 && l->o->operand)
		r = prepare(l);
	if (r == 0) {
		r = ks_load_records_start(&l->rec, l->e, l->out);
		if (r == 0)
			r = take_members(l);
	}
	return r == 0 && l->o->operand ? finish(l) : r;
}

int ks_load(const struct ks_load_opts *o, struct ks_load_result *out)
{
	struct load l = { .o = o, .out = out, .at = { .dir_fd = -1 }, .data_fd = -1 };
	int r = run(&l);

	ks_load_records_stop(&l.rec);
	if (r < 0)
		undo(&l);
	ks_engine_close(l.e);
	ks_object_close(l.store);
	ks_closep(&l.data_fd);
	ks_arc_in_free(l.in);
	ks_place_clear(&l.at);
	ks_buf_clear(&l.sums);
	ks_buf_clear(&l.buf);
	free(l.tmp);
	free(l.tmp_url);
	free(l.data_url);
	free(l.dump_url);
	return r;
}

/* ---- taking over ---- */

int ks_load_take_over(const struct ks_volume_ref *ref, struct ks_load_result *out, bool *already)
{
	KS_AUTO(ks_object_closep) struct ks_object *store = NULL;
	struct ks_meta_opts mo = { 0 };
	struct ks_meta *m = NULL;
	struct ks_marker marker;
	bool ours = false;
	int r;

	ks_fail_clear();
	r = ks_meta_open(&m, ref->meta_url, &mo);
	if (r == -ENOENT)
		return ks_fail(r, "no volume at %s", ref->shown_url);
	if (r < 0)
		return *ks_fail_text() ? r : ks_fail(r, "open %s", ref->shown_url);
	snprintf(out->name, sizeof(out->name), "%s", ks_meta_settings(m)->name);
	ks_uuid_format(ks_meta_settings(m)->uuid, out->uuid);
	out->meta_url = strdup(ref->shown_url);
	r = out->meta_url ? ks_volume_data_url(ref->meta_url, ks_meta_settings(m)->data_url,
					       &out->data_url)
			  : -ENOMEM;
	if (r == 0)
		r = ks_store_open_owned(&store, out->data_url, ks_meta_settings(m), true, &ours);
	if (r == 0 && !ours)
		r = ks_marker_read(store, &marker);
	if (r == 0 && !ours)
		r = become_owner(ks_meta_engine(m), &marker, ks_meta_settings(m)->owner);
	if (r == 0 && !ours)
		r = ks_meta_sync(m);
	if (r == 0 && !ours)
		r = ks_marker_write(store, &marker);
	*already = ours;
	out->owner = r == 0;
	ks_meta_close(m);
	return r;
}
