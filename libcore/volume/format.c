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
#include "volume/names.h"
#include "volume/parts.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define PROBE_PREFIX "kiseki.probe-"

struct format {
	const struct ks_format_opts *o;
	struct ks_volume_ref ref;
	struct ks_volume_settings s;
	char *data_url; /* absolute */
	struct ks_object *store;
	bool marked;  /* our marker is in the store */
	int dir_fd;   /* of the database, locked */
	bool new_dir; /* the volume's own directory was made by us */
	int64_t check_ns;
};

void ks_format_result_clear(struct ks_format_result *r)
{
	free(r->meta_url);
	free(r->data_url);
	*r = (struct ks_format_result){ 0 };
}

/* ---- where ---- */

static int make_dirs(char *path, mode_t last)
{
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(path, c ? 0755 : last) < 0 && errno != EEXIST) {
			int r = ks_fail(-errno, "create directory %s", path);

			*p = c;
			return r;
		}
		*p = c;
		if (!c)
			return 0;
	}
}

static bool is_name(const char *operand)
{
	size_t n = strlen(operand);

	return !ks_url_scheme(operand) && !strchr(operand, '/') &&
	       !(n > 3 && strcmp(operand + n - 3, ".db") == 0);
}

/* A name that no configuration and no directory knows: its place is the machine's for root, else the user's. */
static int place_name(struct format *f, const char *name)
{
	KS_AUTO(ks_freep)
	char *base =
		geteuid() == 0 ? ks_names_system_dir(&f->o->find) : ks_names_user_dir(&f->o->find);
	KS_AUTO(ks_freep) char *dir = base ? ks_asprintf("%s/%s", base, name) : NULL;
	KS_AUTO(ks_freep) char *db = dir ? ks_asprintf("%s/meta.db", dir) : NULL;
	int r;

	if (!db)
		return ks_fail(-ENOMEM, "find the home directory");
	r = make_dirs(base, 0755);
	if (r < 0)
		return r;
	f->new_dir = mkdir(dir, 0700) == 0;
	if (!f->new_dir && errno != EEXIST)
		return ks_fail(-errno, "create directory %s", dir);
	r = ks_volume_resolve(&f->ref, db, &f->o->find);
	if (r < 0)
		return r;
	free(f->ref.spec);
	f->ref.spec = strdup(name);
	f->ref.name = strdup(name);
	return f->ref.spec && f->ref.name ? 0 : -ENOMEM;
}

static int find_place(struct format *f)
{
	struct ks_volume_find find = f->o->find;
	const char *operand = f->o->operand;
	bool quiet = ks_fail_quiet(true);
	int r;

	find.no_default = true;
	r = ks_volume_resolve(&f->ref, operand, &find);
	ks_fail_quiet(quiet);
	if (r == -ENOENT && operand && is_name(operand))
		return place_name(f, operand);
	return r;
}

/* The label, from the operand: NAME, FILE.db, or the directory of a meta.db. */
static int choose_name(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->ref.meta_url);
	const char *from = f->o->name ? f->o->name : f->ref.name;
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
			slash[1 + n - 3] = '\0';
	}
	if (!from || !ks_volume_name_ok(from))
		return ks_fail_hint(-EINVAL,
				    "choose one with --name: letters, digits, '_', '-', '.'",
				    "'%.100s' cannot be the name of a volume", from ? from : "");
	snprintf(f->s.name, sizeof(f->s.name), "%s", from);
	return 0;
}

/* "meta.blocks/" beside the database, relative, so that the two can be moved together. */
static int choose_data(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->ref.meta_url);
	const char *data = f->o->data;
	KS_AUTO(ks_freep) char *url = NULL;
	KS_AUTO(ks_freep) char *here = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	const char *base;
	size_t n;

	if (data && !ks_url_scheme(data)) {
		here = data[0] == '/' ? strdup("") : realpath(".", NULL);
		path = here ? ks_asprintf("%s%s%s", here, *here ? "/" : "", data) : NULL;
		url = path ? ks_url_of_path("file", path) : NULL;
	} else if (data) {
		url = strdup(data);
	} else if (db) {
		base = strrchr(db, '/') + 1;
		n = strlen(base);
		if (n > 3 && strcmp(base + n - 3, ".db") == 0)
			n -= 3;
		url = ks_asprintf("%.*s.blocks/", (int)n, base);
	} else {
		return ks_fail_hint(-EINVAL, "for example --data=file:///srv/blocks",
				    "%s: --data is required for this kind of metadata",
				    f->ref.shown_url);
	}
	if (!url)
		return -ENOMEM;
	if (strlen(url) >= sizeof(f->s.data_url))
		return ks_fail(-EINVAL, "--data: longer than %zu bytes", sizeof(f->s.data_url) - 1);
	snprintf(f->s.data_url, sizeof(f->s.data_url), "%s", url);
	return ks_volume_data_url(f->ref.meta_url, f->s.data_url, &f->data_url);
}

/* ---- what is there ---- */

/* 0: nothing; 1: the same volume and that is welcome; -EEXIST. */
static int look_for_volume(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->ref.meta_url);
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
	r = ks_meta_open(&m, f->ref.meta_url, &mo);
	ks_fail_quiet(quiet);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return ks_fail_hint(
			-EEXIST, "choose another name, or look what it is: nothing was changed",
			"%s exists and is not a volume that can be read (%s)", f->ref.shown_url,
			*ks_fail_text() ? ks_fail_text() : ks_strerror(r));
	if (f->o->if_not_exists && strcmp(ks_meta_settings(m)->name, f->s.name) == 0) {
		f->s = *ks_meta_settings(m);
		ks_meta_close(m);
		free(f->data_url);
		f->data_url = NULL;
		r = ks_volume_data_url(f->ref.meta_url, f->s.data_url, &f->data_url);
		return r < 0 ? r : 1;
	}
	ks_time_format(ks_meta_settings(m)->created_ns, date);
	snprintf(hint, sizeof(hint), "kiseki-status %.100s says what is in it", f->ref.spec);
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
	    strncmp(key, PROBE_PREFIX, strlen(PROBE_PREFIX)) == 0)
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
	char key[sizeof(PROBE_PREFIX) + KS_UUID_STR] = PROBE_PREFIX;
	const char *keys[] = { key };
	char back[sizeof(key)];
	struct iovec iov = { key, sizeof(key) };
	struct iovec in = { back, sizeof(back) };
	int64_t start = ks_clock_mono_ns();
	ssize_t n;
	int r;

	ks_uuid_format(f->s.uuid, key + strlen(PROBE_PREFIX));
	r = ks_object_put(f->store, key, &iov, 1);
	if (r < 0)
		return r;
	n = ks_object_get(f->store, key, 0, &in, 1);
	if (n < 0)
		r = (int)n;
	else if (n != (ssize_t)sizeof(key) || memcmp(key, back, sizeof(key)) != 0)
		r = ks_fail(-EIO, "%s gives back other bytes than it was given", f->data_url);
	if (r == 0)
		r = ks_object_list(f->store, PROBE_PREFIX, "", probe_seen, key);
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
	f->s.created_ns = ks_clock_real_ns();
	snprintf(f->s.compress, sizeof(f->s.compress), "none");
	snprintf(f->s.created_by, sizeof(f->s.created_by), KS_VOLUME_PROGRAM);
	r = ks_uuid_new(f->s.uuid);
	return r < 0 ? r : ks_random(f->s.hash_key, sizeof(f->s.hash_key));
}

/* One kiseki-format at a time in the directory of a database. */
static int lock_place(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->ref.meta_url);
	const char *slash = db ? strrchr(db, '/') : NULL;
	KS_AUTO(ks_freep) char *dir = NULL;

	if (!slash)
		return 0;
	dir = strndup(db, slash == db ? 1 : (size_t)(slash - db));
	if (!dir)
		return -ENOMEM;
	f->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->dir_fd < 0)
		return ks_fail(-errno, "open directory %s", dir);
	if (flock(f->dir_fd, LOCK_EX) < 0)
		return ks_fail(-errno, "lock directory %s", dir);
	return 0;
}

static void remove_database(const char *path)
{
	static const char *const tails[] = { "", "-wal", "-shm", "-journal" };

	for (size_t i = 0; i < KS_ARRAY_SIZE(tails); i++) {
		KS_AUTO(ks_freep) char *name = ks_asprintf("%s%s", path, tails[i]);

		if (name)
			KS_IGNORE(unlink(name) < 0); /* mostly absent */
	}
}

/* Made under another name, so that the right one is never half a volume. */
static int make_sqlite(struct format *f, const char *db)
{
	KS_AUTO(ks_freep) char *tmp = ks_asprintf("%s.new", db);
	KS_AUTO(ks_freep) char *url = tmp ? ks_asprintf("sqlite://%s", tmp) : NULL;
	KS_AUTO(ks_freep) char *wal = tmp ? ks_asprintf("%s-wal", tmp) : NULL;
	struct stat st;
	int r;

	if (!url || !wal)
		return -ENOMEM;
	remove_database(tmp);
	r = ks_meta_format(url, &f->s, getuid(), getgid());
	/* The name of a log is its database's: what is still in it would be left behind. */
	if (r == 0 && stat(wal, &st) == 0 && st.st_size > 0)
		r = ks_fail(-EIO, "%s still holds changes", wal);
	if (r == 0 && renameat2(AT_FDCWD, tmp, AT_FDCWD, db, RENAME_NOREPLACE) < 0)
		r = ks_fail(-errno, "create %s", db);
	if (r == 0 && fsync(f->dir_fd) < 0)
		r = ks_fail(-errno, "make %s durable", db);
	if (r < 0)
		remove_database(tmp);
	return r;
}

static int make_meta(struct format *f)
{
	const char *db = ks_volume_sqlite_path(f->ref.meta_url);
	int r;

	if (db)
		return make_sqlite(f, db);
	r = ks_meta_format(f->ref.meta_url, &f->s, getuid(), getgid());
	if (r == -EEXIST)
		return ks_fail(r, "a volume already exists at %s", f->ref.shown_url);
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
	const char *db = ks_volume_sqlite_path(f->ref.meta_url ? f->ref.meta_url : "");
	KS_AUTO(ks_freep) char *dir = NULL;
	KS_AUTO(ks_freep) char *data = f->data_url ? ks_url_to_path("file", f->data_url) : NULL;
	bool quiet = ks_fail_quiet(true);

	if (f->marked)
		KS_IGNORE(ks_object_del(f->store, keys, 1) < 0);
	ks_object_close(f->store);
	f->store = NULL;
	if (db && f->new_dir) {
		dir = strndup(db, (size_t)(strrchr(db, '/') - db));
		if (data)
			KS_IGNORE(rmdir(data) < 0);
		if (dir)
			KS_IGNORE(rmdir(dir) < 0);
	}
	ks_fail_quiet(quiet);
}

static int run(struct format *f)
{
	int r = fill_settings(f);

	if (r == 0)
		r = find_place(f);
	if (r == 0)
		r = choose_name(f);
	if (r == 0)
		r = choose_data(f);
	if (r == 0)
		r = lock_place(f);
	if (r == 0)
		r = look_for_volume(f);
	return r == 0 ? make(f) : r;
}

int ks_format(const struct ks_format_opts *o, struct ks_format_result *out)
{
	struct format f = { .o = o, .dir_fd = -1 };
	struct ks_format_result res = { 0 };
	int r = run(&f);

	if (r >= 0) {
		res.created = r == 0;
		res.block_size = f.s.block_size;
		res.check_ns = f.check_ns;
		memcpy(res.name, f.s.name, sizeof(res.name));
		ks_uuid_format(f.s.uuid, res.uuid);
		res.meta_url = ks_steal(&f.ref.shown_url);
		res.data_url = ks_steal(&f.data_url);
		*out = res;
		ks_object_close(f.store);
	} else {
		undo(&f);
	}
	ks_closep(&f.dir_fd);
	ks_volume_ref_clear(&f.ref);
	free(f.data_url);
	return r < 0 ? r : 0;
}
