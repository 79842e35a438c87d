/* SPDX-License-Identifier: Apache-2.0 */
/* mountlist.c: what is mounted here, and which of it an operand means. */
#include "volume/mountlist.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/text.h"
#include "volume/volume.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* "id parent MAJOR:MINOR root DIR options [fields] - TYPE SPEC SUPER": 1 when it is ours, 0 when not. */
static int parse(char *line, struct ks_mount_entry *e)
{
	char *dash = strstr(line, " - ");
	char *save = NULL, *type, *spec, *super, *user, *word;
	unsigned int maj = 0, min = 0;

	if (!dash)
		return 0;
	*dash = '\0';
	type = strtok_r(dash + 3, " \n", &save);
	spec = strtok_r(NULL, " \n", &save);
	super = strtok_r(NULL, " \n", &save);
	if (!type || !spec || strcmp(type, "fuse.kiseki") != 0)
		return 0;
	word = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && word; i++) {
		word = strtok_r(NULL, " ", &save);
		if (i == 1 && word && sscanf(word, "%u:%u", &maj, &min) != 2)
			return 0;
	}
	if (!word)
		return 0;
	ks_unescape_octal(word);
	ks_unescape_octal(spec);
	user = super ? strstr(super, "user_id=") : NULL;
	*e = (struct ks_mount_entry){ .dir = strdup(word),
				      .spec = strdup(spec),
				      .dev = makedev(maj, min),
				      .uid = user ? (uid_t)strtoul(user + 8, NULL, 10) : 0 };
	return e->dir && e->spec ? 1 : -ENOMEM;
}

int ks_mount_list_read(struct ks_mount_list *out)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	KS_AUTO(ks_freep) char *line = NULL;
	size_t cap = 0;
	int r = 0;

	if (!f)
		return ks_fail(-errno, "open /proc/self/mountinfo");
	while (r >= 0 && getline(&line, &cap, f) > 0) {
		r = ks_array_room(&out->v, out->n, &out->cap);
		if (r == 0)
			r = parse(line, &out->v[out->n]);
		out->n += r == 1;
	}
	fclose(f);
	return r < 0 ? r : 0;
}

void ks_mount_list_clear(struct ks_mount_list *e)
{
	for (size_t i = 0; i < e->n; i++) {
		free(e->v[i].dir);
		free(e->v[i].spec);
	}
	free(e->v);
	*e = (struct ks_mount_list){ 0 };
}

/* As realpath(3), but the last component is not looked at when the rest is enough: a dead mount answers nothing. Owned. */
static char *place(const char *dir)
{
	KS_AUTO(ks_freep) char *copy = strdup(dir);
	KS_AUTO(ks_freep) char *parent = NULL;
	size_t n = copy ? strlen(copy) : 0;
	char *slash;

	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = '\0';
	if (n == 0 || strcmp(copy, "/") == 0)
		return ks_steal(&copy);
	slash = strrchr(copy, '/');
	if (strcmp(slash ? slash + 1 : copy, ".") == 0 ||
	    strcmp(slash ? slash + 1 : copy, "..") == 0)
		return realpath(dir, NULL);
	if (slash)
		*slash = '\0';
	parent = realpath(!slash ? "." : *copy ? copy : "/", NULL);
	if (!parent)
		return NULL;
	return ks_asprintf("%s/%s", strcmp(parent, "/") == 0 ? "" : parent,
			   slash ? slash + 1 : copy);
}

/* The topmost mount there. */
static struct ks_mount_entry *at(const struct ks_mount_list *e, const char *dir)
{
	for (size_t i = e->n; dir && i-- > 0;) {
		if (strcmp(e->v[i].dir, dir) == 0)
			return &e->v[i];
	}
	return NULL;
}

int ks_volume_mounted(const char *dir, char **spec)
{
	KS_AUTO(ks_mount_list_clear) struct ks_mount_list all = { 0 };
	KS_AUTO(ks_freep) char *path = place(dir);
	KS_AUTO(ks_freep) char *real = NULL;
	struct ks_mount_entry *e;
	int r;

	if (!path)
		return -ENOENT;
	r = ks_mount_list_read(&all);
	if (r < 0)
		return r;
	e = at(&all, path);
	/* Perhaps a symlink to the mount point; only now, when it is no mount itself. */
	if (!e && (real = realpath(path, NULL)))
		e = at(&all, real);
	if (!e)
		return -ENOENT;
	*spec = ks_steal(&e->spec);
	return 0;
}

static bool choose_dir(struct ks_mount_list *e, const char *dir)
{
	for (size_t i = e->n; i-- > 0;) {
		if (!e->v[i].chosen && strcmp(e->v[i].dir, dir) == 0)
			return e->v[i].chosen = true;
	}
	return false;
}

static bool choose_volume(struct ks_mount_list *e, const char *operand, const char *config)
{
	struct ks_volume_find find = { .config = config };
	struct ks_volume_ref want = { 0 };
	/* A name that cannot be resolved may still be what was mounted. */
	bool known = ks_volume_resolve(&want, operand, &find) == 0;
	bool any = false;

	for (size_t i = 0; i < e->n; i++) {
		struct ks_volume_ref ref = { 0 };
		KS_AUTO(ks_freep) char *volume = NULL;
		KS_AUTO(ks_freep) char *path = NULL;
		bool same = strcmp(e->v[i].spec, operand) == 0;

		if (!same && known && ks_volume_split(e->v[i].spec, false, &volume, &path) >= 0 &&
		    ks_volume_resolve(&ref, volume, &find) == 0)
			same = strcmp(ref.meta_url, want.meta_url) == 0;
		ks_volume_ref_clear(&ref);
		e->v[i].chosen |= same;
		any |= same;
	}
	ks_volume_ref_clear(&want);
	return any;
}

int ks_mount_list_choose(struct ks_mount_list *e, const char *operand, const char *config)
{
	KS_AUTO(ks_freep) char *dir = place(operand);
	KS_AUTO(ks_freep) char *real = NULL;

	if (dir && choose_dir(e, dir))
		return 0;
	/* The last component may be a symlink to the mount point, which then is no dead one's. */
	real = realpath(operand, NULL);
	if (real && choose_dir(e, real))
		return 0;
	if (!real && choose_volume(e, operand, config))
		return 0;
	/* A database file is named by its path too. */
	if (real && choose_volume(e, real, config))
		return 0;
	ks_fail_clear();
	return ks_fail(-ENOENT, "no mount of Kiseki at or of '%s'", operand);
}
