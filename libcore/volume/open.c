/* SPDX-License-Identifier: Apache-2.0 */
/* open.c: an open volume: metadata, the store that belongs to it, and the vfs over both. */
#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "volume/parts.h"
#include "volume/recover.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the store ---- */

int ks_volume_data_url(const char *meta_url, const char *data_url, char **out)
{
	const char *db = ks_volume_sqlite_path(meta_url);
	const char *slash = db ? strrchr(db, '/') : NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	size_t n = strlen(data_url);

	if (strstr(data_url, "://")) {
		*out = strdup(data_url);
		return *out ? 0 : -ENOMEM;
	}
	if (!slash)
		return ks_fail(-EBADMSG, "the volume's data location '%s' is no URL", data_url);
	while (n > 1 && data_url[n - 1] == '/')
		n--;
	path = ks_asprintf("%.*s/%.*s", (int)(slash - db), db, (int)n, data_url);
	*out = path ? ks_url_of_path("file", path) : NULL;
	return *out ? 0 : -ENOMEM;
}

int ks_store_open_bare(struct ks_object **out, const char *data_url)
{
	const char *rules = getenv("KISEKI_FAULT");
	struct ks_object *o = NULL;
	int r = ks_object_open(&o, data_url);

	if (r < 0)
		return r;
	if (rules && *rules) {
		r = ks_object_with_fault(&o, o, rules);
		if (r < 0)
			return r;
	}
	r = ks_object_with_stats(&o, o);
	if (r < 0)
		return r;
	*out = o;
	return 0;
}

/* *owned: the objects may be written by this metadata; others may lie over them too. */
static int check_marker(struct ks_object *o, const struct ks_volume_settings *s, bool readonly,
			bool *owned)
{
	struct ks_marker m;
	char ours[KS_UUID_STR];
	char theirs[KS_UUID_STR];
	int r = ks_marker_read(o, &m);

	if (r == -ENOENT)
		return ks_fail_hint(
			-EMEDIUMTYPE, "is the right disk mounted there? Nothing was changed",
			"%s does not hold the data of volume '%s': its object '%s' is missing",
			ks_object_url(o), s->name, KS_VOLUME_MARKER);
	if (r < 0)
		return r;
	*owned = memcmp(m.owner, s->owner, sizeof(m.owner)) == 0;
	if (memcmp(m.uuid, s->uuid, sizeof(m.uuid)) == 0) {
		/* Who made the volume was stopped on the last step. */
		m.loading = false;
		if (!m.formatting || readonly || !*owned)
			return 0;
		m.formatting = false;
		return ks_marker_write(o, &m);
	}
	ks_uuid_format(s->uuid, ours);
	ks_uuid_format(m.uuid, theirs);
	return ks_fail_hint(-EMEDIUMTYPE, "nothing was changed",
			    "%s belongs to another volume: '%s' (%s), not '%s' (%s)",
			    ks_object_url(o), m.name, theirs, s->name, ours);
}

int ks_volume_store_open(struct ks_object **out, const char *data_url,
			 const struct ks_volume_settings *s, bool readonly)
{
	bool ours;

	return ks_store_open_owned(out, data_url, s, readonly, &ours);
}

int ks_store_open_owned(struct ks_object **out, const char *data_url,
			const struct ks_volume_settings *s, bool readonly, bool *ours)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", data_url);
	KS_AUTO(ks_object_closep) struct ks_object *o = NULL;
	struct stat st;
	int r;

	if (s->destroying)
		return ks_fail_hint(-EMEDIUMTYPE, "kiseki-destroy, once more, finishes it",
				    "volume '%s' is being destroyed", s->name);
	/* Opening would make an absent directory: an unmounted disk must not become an empty store. */
	if (dir && stat(dir, &st) < 0)
		return ks_fail(-errno, "data directory %s of volume '%s'", dir, s->name);
	r = ks_store_open_bare(&o, data_url);
	if (r == 0)
		r = check_marker(o, s, readonly, ours);
	if (r == 0)
		*out = ks_steal(&o);
	return r;
}

/* ---- the whole ---- */

static int open_meta(struct ks_volume *v, const struct ks_volume_ref *ref,
		     const struct ks_volume_opts *o)
{
	struct ks_meta_opts mo = {
		.readonly = o->readonly,
		.snapshot = o->snapshot,
		.busy_timeout_ns = o->busy_timeout_ns,
		.relatime = o->relatime,
		.noatime = o->noatime,
	};
	char hint[256] = "";
	int r;

	if (v->vfs)
		mo.hooks = ks_vfs_hooks(v->vfs);
	mo.hooks.died = ks_recover_died;
	mo.hooks.died_arg = v->recover;
	ks_fail_clear();
	r = ks_meta_open(&v->meta, ref->meta_url, &mo);
	if (r == -ENOENT) {
		snprintf(hint, sizeof(hint), "kiseki-format %.200s makes one", ref->spec);
		return ks_fail_hint(r, hint, "no volume at %s", ref->shown_url);
	}
	if (r < 0 && !*ks_fail_text())
		return ks_fail(r, "open %s", ref->shown_url);
	if (r < 0)
		return r;
	v->recover->meta = v->meta;
	v->settings = ks_meta_settings(v->meta);
	return ks_volume_data_url(ref->meta_url, v->settings->data_url, &v->data_url);
}

static int find_root(struct ks_volume *v, const char *subdir, ks_ino_t *root)
{
	struct ks_attr a = { .ino = KS_ROOT_INO, .mode = S_IFDIR };
	int r = subdir ? ks_volume_path(v->meta, subdir, true, &a) : 0;

	if (r == 0 && !S_ISDIR(a.mode))
		r = ks_fail(-ENOTDIR, "%s:%s", v->settings->name, subdir);
	*root = a.ino;
	return r;
}

static void become_readonly(struct ks_volume *v)
{
	ks_log(KS_LOG_WARN,
	       "volume '%s' at %s does not own its data, another metadata over it does: "
	       "read-only; " KS_VOLUME_NOT_OURS,
	       v->settings->name, v->shown_url);
	ks_meta_make_readonly(v->meta);
}

bool ks_store_is_foreign(const char *data_url, const struct ks_volume_settings *s)
{
	struct ks_object *o = NULL;
	bool quiet = ks_fail_quiet(true);
	bool ours = true;
	int r = ks_store_open_owned(&o, data_url, s, true, &ours);

	ks_fail_quiet(quiet);
	ks_object_close(o);
	return r == 0 && !ours;
}

static int start_vfs(struct ks_volume *v, const struct ks_volume_opts *o)
{
	struct ks_vfs_opts vo = { .meta = v->meta, .data = o->data };
	bool ours = true;
	int r = find_root(v, o->subdir, &vo.root);

	if (r < 0)
		return r;
	vo.readonly = o->readonly || ks_meta_is_readonly(v->meta);
	r = ks_store_open_owned(&vo.store, v->data_url, v->settings, vo.readonly, &ours);
	if (r < 0)
		return r;
	if (!vo.readonly && !ours) {
		become_readonly(v);
		vo.readonly = true;
	}
	vo.data.block_size = (uint32_t)v->settings->block_size;
	vo.data.readonly = vo.readonly;
	r = ks_vfs_start(v->vfs, &vo);
	if (r < 0) {
		ks_object_close(vo.store);
		return r;
	}
	v->store = v->recover->store = vo.store;
	v->started = true;
	return 0;
}

static int start_session(struct ks_volume *v, const struct ks_volume_opts *o)
{
	int r = 0;

	if (o->session && !ks_meta_is_readonly(v->meta))
		r = ks_meta_session_start(v->meta, o->session, o->tool ? o->tool : "",
					  o->mountpoint ? o->mountpoint : "",
					  o->socket ? o->socket : "");
	if (r == 0 && (o->maintenance || o->session == KS_SESSION_MOUNT) && v->vfs &&
	    !ks_meta_is_readonly(v->meta))
		r = ks_vfs_start_maintenance(v->vfs, o->maintenance);
	return r;
}

int ks_volume_open(struct ks_volume **out, const struct ks_volume_ref *ref,
		   const struct ks_volume_opts *o)
{
	KS_AUTO(ks_volume_closep) struct ks_volume *v = calloc(1, sizeof(*v));
	int r;

	if (!v)
		return -ENOMEM;
	v->shown_url = strdup(ref->shown_url);
	v->recover = calloc(1, sizeof(*v->recover));
	if (!v->shown_url || !v->recover)
		return -ENOMEM;
	r = o->meta_only ? 0 : ks_vfs_new(&v->vfs);
	if (r == 0)
		r = open_meta(v, ref, o);
	if (r == 0 && v->vfs)
		r = start_vfs(v, o);
	else if (r == 0 && !ks_meta_is_readonly(v->meta) &&
		 ks_store_is_foreign(v->data_url, v->settings)) /* deletions count too */
		become_readonly(v);
	if (r == 0)
		r = start_session(v, o);
	if (r == 0)
		*out = ks_steal(&v);
	return r;
}

int ks_volume_open_named(struct ks_volume **out, const char *operand, char **path,
			 const struct ks_volume_find *find, const struct ks_volume_opts *o)
{
	KS_AUTO(ks_freep) char *volume = NULL;
	KS_AUTO(ks_freep) char *within = NULL;
	struct ks_volume_ref ref = { 0 };
	int r = path && operand ? ks_volume_split(operand, false, &volume, &within) : 0;

	if (r >= 0)
		r = ks_volume_resolve(&ref, volume ? volume : operand, find);
	if (r == 0)
		r = ks_volume_open(out, &ref, o);
	ks_volume_ref_clear(&ref);
	if (path)
		*path = r == 0 ? ks_steal(&within) : NULL;
	return r;
}

int ks_volume_close(struct ks_volume *v)
{
	int r;

	if (!v)
		return 0;
	r = ks_vfs_close(v->vfs);
	if (!v->started)
		ks_meta_close(v->meta);
	free(v->data_url);
	free(v->shown_url);
	free(v->recover);
	free(v);
	return r;
}

void ks_volume_closep(struct ks_volume **v)
{
	KS_IGNORE(ks_volume_close(*v) <
		  0); /* on the way out of a failure, which is what is reported */
	*v = NULL;
}

/* ---- what there is ---- */

static void print_feature(void *arg, const char *scheme, const char *help)
{
	(void)help;
	if (strcmp(scheme, "mem") != 0) /* within one process: for tests */
		fprintf(arg, "+%s ", scheme);
}

void ks_volume_features(FILE *f)
{
	ks_engines(print_feature, f);
	ks_object_stores(print_feature, f);
	fputc('\n', f);
}
