/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.c: makes a volume, in an order in which every step can be the last:
 *
 *	1  directories			empty ones do not matter
 *	2  trial of the store		its object is removed; a left one is a probe's, by name
 *	3  marker "formatting"		the next kiseki-format replaces it, as long as nothing else is there
 *	4  database under another name	removed by the next one
 *	5  database renamed		from here on there is a volume
 *	6  marker without "formatting"	else the first mount does it
 */
#include "volume/format.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/place.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct format {
	const struct ks_format_opts *o;
	struct ks_place at;
	struct ks_volume_settings s;
	char *data_url; /* absolute */
	struct ks_object *store;
	bool marked; /* our marker is in the store */
	int64_t check_ns;
};

void ks_format_result_clear(struct ks_format_result *r)
{
	free(r->meta_url);
	free(r->data_url);
	*r = (struct ks_format_result){ 0 };
}

/* The label, from the operand: NAME, FILE.db, or the directory of a meta.db. */
static int choose_name(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->at.ref.meta_url);
	const char *from = f->o->name ? f->o->name : f->at.ref.name;
	KS_AUTO(ks_freep) char *copy = NULL;
	char *slash;
	size_t n;

	if (!from && db) {
		copy = strdup(db);
		if (!copy)
			return -ENOMEM;
		slash = strrchr(copy, '/');
		if (strcmp(slash, "/meta.db") == 0) {
			*slash = '\0';
			slash = strrchr(copy, '/');
		}
		from = slash ? slash + 1 : copy;
		n = strlen(from);
		if (n > 3 && strcmp(from + n - 3, ".db") == 0)
			copy[strlen(copy) - 3] = '\0';
	}
	if (!from || !ks_volume_name_ok(from))
		return ks_fail_hint(-EINVAL,
				    "choose one with --name: letters, digits, '_', '-', '.'",
				    "'%.100s' cannot be the name of a volume", from ? from : "");
	snprintf(f->s.name, sizeof(f->s.name), "%s", from);
	return 0;
}

/* ---- what is there ---- */

/* 0: nothing; 1: the same volume and that is welcome; -EEXIST. */
static int look_for_volume(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->at.ref.meta_url);
	struct ks_meta_opts mo = { .readonly = true };
	struct ks_meta *m = NULL;
	char date[KS_TIME_STR];
	char hint[160];
	struct stat st;
	bool quiet;
	int r;

	if (db && stat(db, &st) < 0)
		return errno == ENOENT ? 0 : ks_fail(-errno, "%s", db);
	quiet = ks_fail_quiet(true);
	r = ks_meta_open(&m, f->at.ref.meta_url, &mo);
	ks_fail_quiet(quiet);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ks_fail_hint(
			-EEXIST, "choose another name, or look what it is: nothing was changed",
			"%s exists and is not a volume that can be read (%s)", f->at.ref.shown_url,
			*ks_fail_text() ? ks_fail_text() : ks_strerror(r));
	if (f->o->if_not_exists && strcmp(ks_meta_settings(m)->name, f->s.name) == 0) {
		f->s = *ks_meta_settings(m);
		ks_meta_close(m);
		free(f->data_url);
		f->data_url = NULL;
		r = ks_volume_data_url(f->at.ref.meta_url, f->s.data_url, &f->data_url);
		return r < 0 ? r : 1;
	}
	ks_time_format(ks_meta_settings(m)->created_ns, date);
	snprintf(hint, sizeof(hint), "kiseki-status %.100s says what is in it", f->at.ref.spec);
	r = ks_fail_hint(-EEXIST, hint, "volume '%s' already exists (created %.10s by %s)",
			 ks_meta_settings(m)->name, date, ks_meta_settings(m)->created_by);
	ks_meta_close(m);
	return r;
}

static int not_ours(void *arg, const char *key, const struct ks_object_info *info)
{
	char *first = arg;

	(void)info;
	if (strcmp(key, KS_VOLUME_MARKER) == 0 ||
	    strncmp(key, KS_VOLUME_PROBE, strlen(KS_VOLUME_PROBE)) == 0)
		return 0;
	snprintf(first, KS_OBJECT_KEY_MAX + 1, "%s", key);
	return 1;
}

static int look_at_store(struct format *f)
{
	char first[KS_OBJECT_KEY_MAX + 1] = "";
	char uuid[KS_UUID_STR];
	struct ks_marker m = { 0 };
	int r = ks_marker_read(f->store, &m);
	bool stale = r == 0 && m.formatting;

	if (r < 0 && r != -ENOENT && r != -EBADMSG)
		return r;
	if (r == -EBADMSG || (r == 0 && !stale)) {
		ks_uuid_format(m.uuid, uuid);
		return ks_fail_hint(-EMEDIUMTYPE, "choose another --data: nothing was changed",
				    "%s belongs to another volume: '%s' (%s)", f->data_url, m.name,
				    r == 0 ? uuid : "unreadable marker");
	}
	r = ks_object_list(f->store, "", "", not_ours, first);
	if (r < 0)
		return r;
	if (r == 0 || (f->o->allow_nonempty && !stale))
		return 0;
	if (stale)
		return ks_fail(-EMEDIUMTYPE,
			       "%s belongs to volume '%s', whose making did not end, "
			       "and holds objects ('%s')",
			       f->data_url, m.name, first);
	return ks_fail_hint(-EEXIST, "choose an empty place, or --allow-nonempty",
			    "%s is not empty: it holds '%s'", f->data_url, first);
}

static int probe_seen(void *arg, const char *key, const struct ks_object_info *info)
{
	(void)info;
	return strcmp(key, arg) == 0;
}

/* Every verb once: a store that cannot list or delete is found out now and not by kiseki-gc. */
static int probe(struct format *f)
{
	char key[sizeof(KS_VOLUME_PROBE) + KS_UUID_STR] = KS_VOLUME_PROBE;
	const char *keys[] = { key };
	char back[sizeof(key)];
	struct iovec iov = { key, sizeof(key) };
	struct iovec in = { back, sizeof(back) };
	int64_t start = ks_clock_mono_ns();
	ssize_t n;
	int r;

	ks_uuid_format(f->s.uuid, key + strlen(KS_VOLUME_PROBE));
	r = ks_object_put(f->store, key, &iov, 1);
	if (r < 0)
		return r;
	n = ks_object_get(f->store, key, 0, &in, 1);
	if (n < 0)
		r = (int)n;
	else if (n != (ssize_t)sizeof(key) || memcmp(key, back, sizeof(key)) != 0)
		r = ks_fail(-EIO, "%s gives back other bytes than it was given", f->data_url);
	if (r == 0)
		r = ks_object_list(f->store, KS_VOLUME_PROBE, "", probe_seen, key);
	if (r == 0)
		r = ks_fail(-EIO, "%s does not list what was put there", f->data_url);
	n = ks_object_del(f->store, keys, 1);
	f->check_ns = ks_clock_mono_ns() - start;
	return r < 0 ? r : (int)n;
}

/* ---- making ---- */

static int fill_settings(struct format *f)
{
	uint64_t bs = f->o->block_size ? f->o->block_size : KS_BLOCK_DEFAULT;
	int r;

	if (bs < KS_BLOCK_MIN || bs > KS_BLOCK_MAX || (bs & (bs - 1)))
		return ks_fail(-EINVAL, "--block-size: a power of two from 64k to 16M");
	f->s.format_version = 1;
	f->s.block_size = bs;
	f->s.capacity_bytes = f->o->capacity_bytes;
	f->s.inodes_max = f->o->inodes_max;
	f->s.trash_ns = f->o->trash_ns;
	f->s.created_ns = ks_clock_real_ns();
	snprintf(f->s.compress, sizeof(f->s.compress), "none");
	snprintf(f->s.created_by, sizeof(f->s.created_by), KS_VOLUME_PROGRAM);
	r = ks_uuid_new(f->s.uuid);
	return r < 0 ? r : ks_random(f->s.hash_key, sizeof(f->s.hash_key));
}

/* Made under another name, so that the right one is never half a volume. */
static int make_sqlite(struct format *f, const char *db)
{
	KS_AUTO(ks_freep) char *tmp = ks_asprintf("%s.new", db);
	KS_AUTO(ks_freep) char *url = tmp ? ks_asprintf("sqlite://%s", tmp) : NULL;
	int r;

	if (!url)
		return -ENOMEM;
	ks_place_remove(tmp);
	r = ks_meta_format(url, &f->s, getuid(), getgid());
	if (r == 0)
		r = ks_place_publish(&f->at, tmp);
	if (r < 0)
		ks_place_remove(tmp);
	return r;
}

static int make_meta(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->at.ref.meta_url);
	int r;

	if (db)
		return make_sqlite(f, db);
	r = ks_meta_format(f->at.ref.meta_url, &f->s, getuid(), getgid());
	if (r == -EEXIST)
		return ks_fail(r, "a volume already exists at %s", f->at.ref.shown_url);
	return r;
}

static int make(struct format *f)
{
	struct ks_marker m = { .formatting = true };
	int r = ks_store_open_bare(&f->store, f->data_url);

	if (r == 0)
		r = look_at_store(f);
	if (r == 0 && !f->o->no_check)
		r = probe(f);
	if (r < 0)
		return r;
	memcpy(m.uuid, f->s.uuid, sizeof(m.uuid));
	memcpy(m.name, f->s.name, sizeof(m.name));
	f->marked = true;
	r = ks_marker_write(f->store, &m);
	if (r == 0)
		r = make_meta(f);
	if (r < 0)
		return r;
	f->marked = false; /* it stays */
	m.formatting = false;
	return ks_marker_write(f->store, &m);
}

/* After a failure: what we made goes away; directories only when they are empty. */
static void undo(struct format *f)
{
	static const char *const keys[] = { KS_VOLUME_MARKER };
	bool quiet = ks_fail_quiet(true);

	if (f->marked)
		KS_IGNORE(ks_object_del(f->store, keys, 1) < 0);
	ks_object_close(f->store);
	f->store = NULL;
	ks_place_undo(&f->at, f->data_url);
	ks_fail_quiet(quiet);
}

static int run(struct format *f)
{
	int r = fill_settings(f);

	if (r == 0)
		r = ks_place_find(&f->at, f->o->operand, &f->o->find);
	if (r == 0)
		r = choose_name(f);
	if (r == 0)
		r = ks_place_data(&f->at, f->o->data, f->s.data_url, sizeof(f->s.data_url));
	if (r == 0)
		r = ks_volume_data_url(f->at.ref.meta_url, f->s.data_url, &f->data_url);
	if (r == 0)
		r = ks_place_lock(&f->at, true);
	if (r == 0)
		r = look_for_volume(f);
	return r == 0 ? make(f) : r;
}

int ks_format(const struct ks_format_opts *o, struct ks_format_result *out)
{
	struct format f = { .o = o, .at = { .dir_fd = -1 } };
	struct ks_format_result res = { 0 };
	int r = run(&f);

	if (r >= 0) {
		res.created = r == 0;
		res.block_size = f.s.block_size;
		res.trash_ns = f.s.trash_ns;
		res.check_ns = f.check_ns;
		memcpy(res.name, f.s.name, sizeof(res.name));
		ks_uuid_format(f.s.uuid, res.uuid);
		res.meta_url = ks_steal(&f.at.ref.shown_url);
		res.data_url = ks_steal(&f.data_url);
		*out = res;
		ks_object_close(f.store);
	} else {
		undo(&f);
	}
	ks_place_clear(&f.at);
	free(f.data_url);
	return r < 0 ? r : 0;
}
