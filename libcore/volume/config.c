/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.c: kiseki.conf. The files are read anew for each question: there are few, and they are small.
 * Weakest first: /etc/kiseki/conf.d in order of names, /etc/kiseki/kiseki.conf, ~/.config/kiseki/kiseki.conf; or the one file that was named.
 */
#include "base/buf.h"
#include "base/ini.h"
#include "base/log.h"
#include "volume/names.h"
#include <dirent.h>
#include <errno.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *root_of(const struct ks_volume_find *find)
{
	return find && find->root ? find->root : "";
}

/* Owned; NULL: no home, no memory. */
static char *home(const struct ks_volume_find *find)
{
	const char *env = getenv("HOME");
	struct passwd pw;
	struct passwd *found = NULL;
	char buf[4096];

	if (find && find->root)
		return ks_asprintf("%s/home", find->root);
	if (env && env[0] == '/')
		return strdup(env);
	if (getpwuid_r(getuid(), &pw, buf, sizeof(buf), &found) != 0 || !found)
		return NULL;
	return strdup(found->pw_dir);
}

char *ks_names_user_dir(const struct ks_volume_find *find)
{
	KS_AUTO(ks_freep) char *h = home(find);

	return h ? ks_asprintf("%s/.local/share/kiseki", h) : NULL;
}

char *ks_names_system_dir(const struct ks_volume_find *find)
{
	return ks_asprintf("%s/var/lib/kiseki", root_of(find));
}

typedef int file_fn(void *arg, const char *path);

static int is_conf(const struct dirent *d)
{
	size_t n = strlen(d->d_name);

	return d->d_name[0] != '.' && n > 5 && strcmp(d->d_name + n - 5, ".conf") == 0;
}

static int each_in_conf_d(const struct ks_volume_find *find, file_fn *fn, void *arg)
{
	KS_AUTO(ks_freep) char *dir = ks_asprintf("%s/etc/kiseki/conf.d", root_of(find));
	struct dirent **names = NULL;
	int n = dir ? scandir(dir, &names, is_conf, alphasort) : -1;
	int r = dir ? 0 : -ENOMEM;

	if (n < 0 && dir && errno != ENOENT && errno != EACCES)
		return ks_fail(-EMEDIUMTYPE, "cannot read %s: %s", dir, ks_strerror(errno));
	for (int i = 0; i < n; i++) {
		KS_AUTO(ks_freep) char *path = ks_asprintf("%s/%s", dir, names[i]->d_name);

		if (r == 0)
			r = path ? fn(arg, path) : -ENOMEM;
		free(names[i]);
	}
	free(names);
	return r;
}

/* HOME may be another's, as with "sudo -u": what we cannot look into is not ours. */
static bool is_closed(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 && errno == EACCES;
}

/* Every file that may exist, the weakest first. */
static int each_file(const struct ks_volume_find *find, file_fn *fn, void *arg)
{
	const char *named = find && find->config ? find->config : getenv("KISEKI_CONFIG");
	KS_AUTO(ks_freep) char *h = NULL;
	KS_AUTO(ks_freep) char *user = NULL;
	KS_AUTO(ks_freep) char *etc = NULL;
	int r;

	if (named && *named) {
		if (access(named, R_OK) < 0)
			return ks_fail(-EMEDIUMTYPE, "configuration file %s: %s", named,
				       ks_strerror(errno));
		return fn(arg, named);
	}
	etc = ks_asprintf("%s/etc/kiseki/kiseki.conf", root_of(find));
	h = home(find);
	user = h ? ks_asprintf("%s/.config/kiseki/kiseki.conf", h) : NULL;
	if (!etc || (h && !user))
		return -ENOMEM;
	r = each_in_conf_d(find, fn, arg);
	if (r == 0)
		r = fn(arg, etc);
	if (r == 0 && user && !is_closed(user))
		r = fn(arg, user);
	return r;
}

/* What is wrong with a file is a matter of configuration, whatever the errno below. */
static int read_file(const char *path, ks_ini_fn *fn, void *arg)
{
	int r = ks_ini_read(path, fn, arg);
	char text[512];

	if (r >= 0 || r == -ENOENT || r == -EMEDIUMTYPE || r == -ENOMEM)
		return r == -ENOENT ? 0 : r;
	snprintf(text, sizeof(text), "%s", ks_fail_text());
	if (r == -EINVAL && strlen(text) > strlen(ks_strerror(r)) + 2)
		text[strlen(text) - strlen(ks_strerror(r)) - 2] = '\0';
	return ks_fail(-EMEDIUMTYPE, "%s", text);
}

/* ---- one key ---- */

struct get {
	const char *section;
	const char *key;
	bool secret;
	const char *path;
	char **out;
};

/* A password in a file that others can read has been told to them. */
static int check_private(const struct get *g, const char *value)
{
	struct stat st;

	if (!g->secret || !ks_url_has_secret(value) || stat(g->path, &st) < 0 ||
	    !(st.st_mode & (S_IRGRP | S_IROTH)))
		return 0;
	return ks_fail_hint(-EMEDIUMTYPE,
			    "chmod 600 it, or keep the password elsewhere (~/.pgpass)",
			    "%s holds a password and others can read it (mode %04o)", g->path,
			    (unsigned int)st.st_mode & 07777);
}

static int get_line(void *arg, const char *section, const char *key, const char *value, int line)
{
	struct get *g = arg;
	char *copy;
	int r;

	(void)line;
	if (strcmp(section, g->section) != 0 || strcmp(key, g->key) != 0)
		return 0;
	r = check_private(g, value);
	if (r < 0)
		return r;
	copy = strdup(value);
	if (!copy)
		return -ENOMEM;
	free(*g->out);
	*g->out = copy;
	return 0;
}

static int get_file(void *arg, const char *path)
{
	struct get *g = arg;

	g->path = path;
	return read_file(path, get_line, g);
}

int ks_config_get(const struct ks_volume_find *find, const char *section, const char *key,
		  bool secret, char **out)
{
	char *value = NULL;
	struct get g = { .section = section, .key = key, .secret = secret, .out = &value };
	int r = each_file(find, get_file, &g);

	if (r < 0) {
		free(value);
		return r;
	}
	*out = value;
	return 0;
}

/* ---- every volume ---- */

struct volumes {
	void (*fn)(void *arg, const char *name);
	void *arg;
};

static int volumes_line(void *arg, const char *section, const char *key, const char *value,
			int line)
{
	struct volumes *v = arg;

	(void)value;
	(void)line;
	if (strcmp(key, "meta") == 0 && *section && strcmp(section, "default") != 0)
		v->fn(v->arg, section);
	return 0;
}

static int volumes_file(void *arg, const char *path)
{
	return read_file(path, volumes_line, arg);
}

int ks_config_volumes(const struct ks_volume_find *find, void (*fn)(void *arg, const char *name),
		      void *arg)
{
	struct volumes v = { fn, arg };

	return each_file(find, volumes_file, &v);
}

/* ---- defaults of options ---- */

struct defaults {
	const char *section;
	const char *name; /* of the volume; may be NULL */
	const char *path;
	ks_volume_config_fn *fn;
	void *arg;
};

static int defaults_line(void *arg, const char *section, const char *key, const char *value,
			 int line)
{
	struct defaults *d = arg;
	const char *reason = ks_strerror(EINVAL);
	char text[400];
	size_t n;

	if (strcmp(section, d->section) != 0 || strcmp(key, "meta") == 0 ||
	    strcmp(key, "volume") == 0)
		return 0;
	if (d->fn(d->arg, key, value) >= 0)
		return 0;
	snprintf(text, sizeof(text), "%s", ks_fail_text());
	n = strlen(text);
	if (n > strlen(reason) + 2 && strcmp(text + n - strlen(reason), reason) == 0)
		text[n - strlen(reason) - 2] = '\0';
	return ks_fail(-EMEDIUMTYPE, "%s:%d: %s", d->path, line, text);
}

/* Within a file the volume's own section is stronger than [default]. */
static int defaults_file(void *arg, const char *path)
{
	struct defaults *d = arg;
	int r;

	d->path = path;
	d->section = "default";
	r = read_file(path, defaults_line, d);
	if (r < 0 || !d->name)
		return r;
	d->section = d->name;
	return read_file(path, defaults_line, d);
}

int ks_volume_config(const struct ks_volume_find *find, const char *name, ks_volume_config_fn *fn,
		     void *arg)
{
	struct defaults d = { .name = name, .fn = fn, .arg = arg };

	return each_file(find, defaults_file, &d);
}
