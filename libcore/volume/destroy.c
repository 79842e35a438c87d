/* SPDX-License-Identifier: Apache-2.0 */
/* destroy.c: deletes a volume. See destroy.h for the order. */
#include "volume/destroy.h"
#include "base/buf.h"
#include "base/log.h"
#include "volume/names.h"
#include "volume/parts.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BATCH 256u

/* ---- opening ---- */

static int check_marker(const struct ks_destroy *d)
{
	struct ks_marker mark;
	int r = ks_marker_read(d->m.store, &mark);

	if (r == 0 && memcmp(mark.uuid, d->m.settings->uuid, sizeof(mark.uuid)) == 0)
		return 0;
	if (r == 0)
		return ks_fail_hint(-EMEDIUMTYPE,
				    "nothing was changed; --keep-data removes only the metadata",
				    "%s belongs to another volume, '%s'", d->m.data_url, mark.name);
	if (r == -ENOENT)
		return ks_fail_hint(-EMEDIUMTYPE,
				    "is the right disk mounted there? Nothing was changed; "
				    "--keep-data removes only the metadata",
				    "%s does not hold the data of volume '%s': its object '%s' is "
				    "missing",
				    d->m.data_url, d->m.settings->name, KS_VOLUME_MARKER);
	return r;
}

static int open_store(struct ks_destroy *d)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", d->m.data_url);
	struct ks_marker mark;
	struct stat st;
	int r;

	/* Opening would make an absent directory. */
	if (dir && stat(dir, &st) < 0) {
		d->no_data = d->begun && errno == ENOENT;
		return d->no_data ? 0
				  : ks_fail_hint(-errno,
						 "is the right disk mounted there? --keep-data "
						 "removes only the metadata",
						 "data directory %s of volume '%s'", dir,
						 d->m.settings->name);
	}
	r = ks_store_open_bare(&d->m.store, d->m.data_url);
	if (r < 0)
		return r;
	/* The marker is the last object to go. */
	d->no_data = d->begun && ks_marker_read(d->m.store, &mark) == -ENOENT;
	return d->no_data ? 0 : check_marker(d);
}

static int open_parts(struct ks_destroy *d)
{
	struct ks_meta_opts mo = { .readonly = d->o->dry_run };
	int r;

	ks_fail_clear();
	r = ks_meta_open(&d->m.meta, d->ref.meta_url, &mo);
	if (r == -ENOENT)
		return ks_fail(r, "no volume at %s", d->ref.shown_url);
	if (r < 0)
		return *ks_fail_text() ? r : ks_fail(r, "open %s", d->ref.shown_url);
	d->m.settings = ks_meta_settings(d->m.meta);
	d->begun = d->m.settings->destroying;
	r = ks_volume_data_url(d->ref.meta_url, d->m.settings->data_url, &d->m.data_url);
	if (r == 0)
		r = ks_meta_usage(d->m.meta, &d->usage);
	if (r == 0 && !d->o->dry_run)
		r = ks_maint_lock(&d->m);
	if (r == 0 && !d->o->keep_data)
		r = open_store(d);
	return r;
}

int ks_destroy_open(struct ks_destroy *d, const struct ks_volume_ref *ref,
		    const struct ks_destroy_opts *o)
{
	int r;

	*d = (struct ks_destroy){ .o = o,
				  .ref = { .meta_url = strdup(ref->meta_url),
					   .shown_url = strdup(ref->shown_url) } };
	d->m.shown_url = strdup(ref->shown_url);
	r = d->ref.meta_url && d->ref.shown_url && d->m.shown_url ? open_parts(d) : -ENOMEM;
	if (r < 0)
		ks_destroy_close(d);
	return r;
}

void ks_destroy_close(struct ks_destroy *d)
{
	ks_maint_close(&d->m);
	ks_volume_ref_clear(&d->ref);
}

/* ---- objects ---- */

struct batch {
	struct ks_destroy *d;
	char key[BATCH][KS_KEY_STR];
	const char *p[BATCH];
	uint64_t bytes[BATCH];
	size_t n;
	struct ks_buf last; /* the last key that was seen */
	int err;
};

static bool is_ours(const char *key)
{
	uint64_t id;
	uint32_t idx, size;

	return ks_block_key_parse(key, &id, &idx, &size) || ks_pack_key_parse(key, &id) ||
	       (strncmp(key, KS_VOLUME_PROBE, strlen(KS_VOLUME_PROBE)) == 0 &&
		strlen(key) < KS_KEY_STR);
}

static int take(void *arg, const char *key, const struct ks_object_info *info)
{
	struct batch *b = arg;

	b->last.n = 0;
	b->err = ks_buf_append(&b->last, key, strlen(key) + 1);
	if (b->err < 0)
		return 1;
	if (strcmp(key, KS_VOLUME_MARKER) == 0)
		return 0;
	if (!is_ours(key)) {
		b->d->unknown++;
		return 0;
	}
	memcpy(b->key[b->n], key, strlen(key) + 1);
	b->p[b->n] = b->key[b->n];
	b->bytes[b->n++] = info->size_bytes;
	return b->n == BATCH;
}

static int delete_batch(struct ks_destroy *d, struct batch *b)
{
	int r = d->o->dry_run || b->n == 0 ? 0 : ks_object_del(d->m.store, b->p, b->n);

	for (size_t i = 0; r == 0 && i < b->n; i++) {
		atomic_fetch_add(&d->objects, 1);
		atomic_fetch_add(&d->bytes, b->bytes[i]);
		if (d->o->item)
			d->o->item(d->o->arg, b->p[i], b->bytes[i]);
	}
	b->n = 0;
	return r;
}

/* Lists from where the last batch ended: nothing is deleted under a listing. */
static int delete_objects(struct ks_destroy *d)
{
	struct batch *b = calloc(1, sizeof(*b));
	int r = b ? 1 : -ENOMEM;

	if (b)
		b->d = d;
	while (r > 0) {
		if (d->o->stop && d->o->stop(d->o->arg)) {
			r = -EINTR;
			break;
		}
		r = ks_object_list(d->m.store, "", b->last.n ? b->last.p : "", take, b);
		if (r >= 0 && b->err < 0)
			r = b->err;
		if (r >= 0) {
			int more = r;

			r = delete_batch(d, b);
			r = r < 0 ? r : more;
		}
	}
	if (b)
		ks_buf_clear(&b->last);
	free(b);
	return r;
}

static int end_data(struct ks_destroy *d)
{
	static const char *const marker[] = { KS_VOLUME_MARKER };
	int r = d->no_data ? 0 : delete_objects(d);

	if (r == 0 && !d->no_data && !d->o->dry_run)
		r = ks_object_del(d->m.store, marker, 1);
	if (r < 0 || !d->m.store || d->o->dry_run)
		return r;
	r = ks_object_dismantle(d->m.store);
	d->left = r == -ENOTEMPTY;
	ks_object_close(d->m.store);
	d->m.store = NULL;
	return d->left ? 0 : r;
}

/* ---- metadata ---- */

/* The directory that kiseki-format made for a volume that was named, when nothing is left in it. */
static void end_place(const struct ks_destroy *d)
{
	const struct ks_volume_find find = { 0 };
	const char *db = ks_volume_sqlite_path(d->ref.meta_url);
	const char *slash = db ? strrchr(db, '/') : NULL;
	KS_AUTO(ks_freep) char *dir = slash ? strndup(db, (size_t)(slash - db)) : NULL;
	char *bases[] = { ks_names_system_dir(&find), ks_names_user_dir(&find) };

	for (size_t i = 0; i < KS_ARRAY_SIZE(bases); i++) {
		size_t n = bases[i] ? strlen(bases[i]) : 0;

		if (dir && n && strncmp(dir, bases[i], n) == 0 && dir[n] == '/' &&
		    !strchr(dir + n + 1, '/'))
			KS_IGNORE(rmdir(dir) < 0);
		free(bases[i]);
	}
}

static int end_meta(struct ks_destroy *d)
{
	int r;

	/* Its settings go with it. */
	d->m.settings = NULL;
	ks_meta_close(d->m.meta);
	d->m.meta = NULL;
	r = ks_meta_remove_all(d->ref.meta_url);
	if (r == -EBUSY)
		return ks_fail_hint(r, "kiseki-destroy, once more, finishes it",
				    "%s was opened by another program meanwhile", d->ref.shown_url);
	if (r == 0)
		end_place(d);
	return r;
}

int ks_destroy_run(struct ks_destroy *d)
{
	bool dry = d->o->dry_run;
	int r = dry ? 0 : ks_meta_doom(d->m.meta);

	if (r == 0 && !d->o->keep_data)
		r = end_data(d);
	return r == 0 && !dry ? end_meta(d) : r;
}
