/* SPDX-License-Identifier: Apache-2.0 */
/* resolve.c: from what a user wrote to a metadata URL. The rules, in order, are in kiseki(7), "Volume names". */
#include "base/buf.h"
#include "base/log.h"
#include "volume/names.h"
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void ks_volume_ref_clear(struct ks_volume_ref *ref)
{
	free(ref->spec);
	free(ref->name);
	free(ref->meta_url);
	free(ref->shown_url);
	free(ref->mountpoint);
	*ref = (struct ks_volume_ref){ 0 };
}

bool ks_volume_name_ok(const char *name)
{
	size_t n = strlen(name);

	if (n < 1 || n > 63 || !isalnum((unsigned char)name[0]) || strcmp(name, "default") == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (!isalnum((unsigned char)name[i]) && !strchr("_-.", name[i]))
			return false;
	}
	return true;
}

/* The engine takes a path as it is; people see it escaped, so that it can be given back. */
static int set_path(struct ks_volume_ref *ref, const char *path, const char *rule)
{
	ref->meta_url = ks_asprintf("sqlite://%s", path);
	ref->shown_url = ks_url_of_path("sqlite", path);
	ref->rule = rule;
	return ref->meta_url && ref->shown_url ? 0 : -ENOMEM;
}

static int set_url(struct ks_volume_ref *ref, const char *url, const char *rule)
{
	KS_AUTO(ks_freep) char *path = NULL;

	if (strncmp(url, "sqlite", 6) == 0) {
		/* "sqlite3://" is an alias that nobody below knows. */
		path = ks_url_to_path(url[6] == '3' ? "sqlite3" : "sqlite", url);
		return path ? set_path(ref, path, rule) : -ENOMEM;
	}
	ref->meta_url = strdup(url);
	ref->shown_url = ref->meta_url ? ks_url_redact(ref->meta_url) : NULL;
	ref->rule = rule;
	return ref->shown_url ? 0 : -ENOMEM;
}

static int by_url(struct ks_volume_ref *ref, const char *url, bool on_argv, const char *rule)
{
	KS_AUTO(ks_freep) char *shown = ks_url_redact(url);
	int r;

	if (!shown)
		return -ENOMEM;
	r = ks_url_check_meta(shown);
	if (r < 0)
		return r;
	if (on_argv && ks_url_has_secret(url))
		return ks_fail_hint(-EINVAL, "use ~/.pgpass, PGPASSFILE or kiseki.conf",
				    "%s: a password on the command line is visible to other users",
				    shown);
	return set_url(ref, url, rule);
}

static int by_path(struct ks_volume_ref *ref, const char *path);
static int resolve(struct ks_volume_ref *ref, const char *operand, bool on_argv,
		   const struct ks_volume_find *find, int depth);

/* @spec is what the mount's source says: NAME, URL or file, perhaps with ":/subdir". */
static int by_mount(struct ks_volume_ref *ref, const char *dir, const char *spec,
		    const struct ks_volume_find *find, int depth)
{
	KS_AUTO(ks_freep) char *volume = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	int r = ks_volume_split(spec, false, &volume, &path);

	if (r < 0)
		return r;
	r = resolve(ref, volume, false, find, depth + 1);
	if (r < 0)
		return r;
	free(ref->mountpoint);
	ref->mountpoint = strdup(dir);
	ref->rule = "a mount point";
	return ref->mountpoint ? 0 : -ENOMEM;
}

/* Its real path, though the file itself may not exist yet. */
static char *real_path(const char *path)
{
	char *real = realpath(path, NULL);
	const char *slash = strrchr(path, '/');
	KS_AUTO(ks_freep) char *dir = NULL;
	KS_AUTO(ks_freep) char *real_dir = NULL;

	if (real || errno != ENOENT)
		return real;
	dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	real_dir = dir ? realpath(dir, NULL) : NULL;
	if (!real_dir)
		return NULL;
	return ks_asprintf("%s/%s", strcmp(real_dir, "/") == 0 ? "" : real_dir,
			   slash ? slash + 1 : path);
}

static int by_path(struct ks_volume_ref *ref, const char *path)
{
	KS_AUTO(ks_freep) char *real = real_path(path);
	KS_AUTO(ks_freep) char *inner = NULL;
	char hint[512] = "";
	struct stat st;

	if (!real)
		return ks_fail(errno ? -errno : -ENOENT, "volume '%s'", path);
	if (stat(real, &st) == 0 && S_ISDIR(st.st_mode)) {
		inner = ks_asprintf("%s/meta.db", real);
		if (inner && access(inner, F_OK) == 0)
			snprintf(hint, sizeof(hint), "%.500s", inner);
		return ks_fail_hint(
			-ENOENT, *hint ? hint : NULL,
			"no volume '%s': a directory, and nothing of Kiseki is mounted there",
			path);
	}
	return set_path(ref, real, "a database file");
}

/* ---- names ---- */

struct known {
	struct ks_buf list;
	int n;
};

static void add_known(void *arg, const char *name)
{
	struct known *k = arg;

	if (k->n++ < 8)
		KS_IGNORE(ks_buf_printf(&k->list, "%s%s", k->list.n ? ", " : "", name) < 0);
}

static int unknown_name(const char *name, const struct ks_volume_find *find, const char *user,
			const char *sys)
{
	struct known k = { 0 };
	const char *list = NULL;
	const char *config = find && find->config ? find->config : getenv("KISEKI_CONFIG");
	KS_AUTO(ks_freep) char *hint = NULL;

	if (access(name, F_OK) == 0)
		hint = ks_asprintf("for the '%s' in this directory write ./%s", name, name);
	else if (ks_volume_names(find, add_known, &k) == 0 && k.n > 0 &&
		 ks_buf_cstr(&k.list, &list) == 0)
		hint = ks_asprintf("known volumes: %s%s", list, k.n > 8 ? ", ..." : "");
	else
		hint = ks_asprintf("make one with kiseki-format %s, or name its file: ./%s.db",
				   name, name);
	ks_buf_clear(&k.list);
	return ks_fail_hint(-ENOENT, hint, "no volume '%s' (looked in %s, %s, %s)", name,
			    config && *config ? config : "kiseki.conf",
			    user ? user : "no home directory", sys);
}

/* 1: found, 0: not there. */
static int by_dir(struct ks_volume_ref *ref, const char *dir, const char *name, const char *rule)
{
	KS_AUTO(ks_freep) char *db = dir ? ks_asprintf("%s/%s/meta.db", dir, name) : NULL;
	KS_AUTO(ks_freep) char *real = NULL;
	int r;

	if (!db || access(db, F_OK) < 0)
		return 0;
	real = realpath(db, NULL);
	r = real ? set_path(ref, real, rule) : -ENOMEM;
	return r < 0 ? r : 1;
}

static int by_name(struct ks_volume_ref *ref, const char *name, const struct ks_volume_find *find)
{
	KS_AUTO(ks_freep) char *meta = NULL;
	KS_AUTO(ks_freep) char *user = ks_names_user_dir(find);
	KS_AUTO(ks_freep) char *sys = ks_names_system_dir(find);
	int r;

	if (!ks_volume_name_ok(name))
		return ks_fail_hint(
			-EINVAL,
			"letters, digits, '_', '-' and '.', at most 63, and not 'default'; "
			"a file is written ./NAME",
			"'%.100s' is not the name of a volume", name);
	ref->name = strdup(name);
	if (!sys || !ref->name)
		return -ENOMEM;
	r = ks_config_get(find, name, "meta", true, &meta);
	if (r < 0)
		return r;
	if (meta && ks_url_scheme(meta))
		return by_url(ref, meta, false, "kiseki.conf");
	if (meta && meta[0] != '/')
		return ks_fail(-EMEDIUMTYPE,
			       "kiseki.conf: [%s] meta= is neither a URL nor a full path", name);
	if (meta) {
		r = by_path(ref, meta);
		ref->rule = "kiseki.conf";
		return r;
	}
	r = by_dir(ref, user, name, "the user's volumes");
	if (r == 0)
		r = by_dir(ref, sys, name, "the machine's volumes");
	if (r == 0)
		r = unknown_name(name, find, user, sys);
	return r < 0 ? r : 0;
}

static int resolve(struct ks_volume_ref *ref, const char *operand, bool on_argv,
		   const struct ks_volume_find *find, int depth)
{
	KS_AUTO(ks_freep) char *spec = NULL;
	size_t n = strlen(operand);
	int r;

	if (depth > 4)
		return ks_fail(-ELOOP, "%s: mounts that name each other", operand);
	if (ks_url_scheme(operand))
		return by_url(ref, operand, on_argv, "a URL");
	if (strchr(operand, '/') || (n > 3 && strcmp(operand + n - 3, ".db") == 0)) {
		r = ks_volume_mounted(operand, &spec);
		if (r == 0)
			return by_mount(ref, operand, spec, find, depth);
		return r == -ENOENT ? by_path(ref, operand) : r;
	}
	return by_name(ref, operand, find);
}

int ks_volume_resolve(struct ks_volume_ref *out, const char *operand,
		      const struct ks_volume_find *find)
{
	struct ks_volume_ref ref = { 0 };
	KS_AUTO(ks_freep) char *chosen = NULL;
	const char *env = getenv("KISEKI_VOLUME");
	bool on_argv = operand && *operand;
	int r = 0;

	if (on_argv)
		chosen = strdup(operand);
	else if (find && find->no_default)
		return ks_fail(-EINVAL, "the volume must be named");
	else if (env && *env)
		chosen = strdup(env);
	else
		r = ks_config_get(find, "default", "volume", true, &chosen);
	if (r < 0)
		return r;
	if (!chosen && !on_argv)
		return ks_fail_hint(
			-EINVAL,
			"name it, or set KISEKI_VOLUME or volume= in [default] of kiseki.conf",
			"which volume?");
	ref.spec = chosen ? ks_url_redact(chosen) : NULL;
	r = ref.spec ? resolve(&ref, chosen, on_argv, find, 0) : -ENOMEM;
	if (r == 0 && find && find->defaults)
		r = ks_volume_config(find, ref.name, find->defaults, NULL);
	if (r < 0) {
		ks_volume_ref_clear(&ref);
		return r;
	}
	*out = ref;
	return 0;
}
