/* SPDX-License-Identifier: Apache-2.0 */
/* mounts.c: what of Kiseki is mounted, from /proc/self/mountinfo. It never touches the mounts: a dead one would hang or fail. */
#include "base/buf.h"
#include "base/log.h"
#include "volume/mountlist.h"
#include "volume/volume.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void ks_mountinfo_unescape(char *s)
{
	char *o = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' &&
		    s[3] >= '0' && s[3] <= '7') {
			*o++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*o++ = *s;
		}
	}
	*o = '\0';
}

/* "id parent dev root DIR options [fields...] - TYPE SOURCE super": false when it is not ours. */
static bool parse_line(char *line, char **dir, char **spec)
{
	char *save = NULL;
	char *dash = strstr(line, " - ");
	char *type;
	char *word;

	if (!dash)
		return false;
	*dash = '\0';
	type = strtok_r(dash + 3, " \n", &save);
	*spec = strtok_r(NULL, " \n", &save);
	if (!type || !*spec || strcmp(type, "fuse.kiseki") != 0)
		return false;
	word = strtok_r(line, " ", &save);
	for (int i = 0; i < 4 && word; i++)
		word = strtok_r(NULL, " ", &save);
	if (!word)
		return false;
	*dir = word;
	ks_mountinfo_unescape(*dir);
	ks_mountinfo_unescape(*spec);
	return true;
}

int ks_volume_mounts(ks_volume_mount_fn *fn, void *arg)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	KS_AUTO(ks_freep) char *line = NULL;
	size_t cap = 0;
	int r = 0;

	if (!f)
		return ks_fail(-errno, "open /proc/self/mountinfo");
	while (r == 0 && getline(&line, &cap, f) > 0) {
		char *dir = NULL;
		char *spec = NULL;

		if (parse_line(line, &dir, &spec))
			r = fn(arg, dir, spec);
	}
	fclose(f);
	return r;
}

struct search {
	const char *dir;
	char *spec; /* of the topmost mount there */
};

static int match(void *arg, const char *dir, const char *spec)
{
	struct search *s = arg;
	char *copy;

	if (strcmp(dir, s->dir) != 0)
		return 0;
	copy = strdup(spec);
	if (!copy)
		return -ENOMEM;
	free(s->spec);
	s->spec = copy;
	return 0;
}

/* The absolute path of @dir although its last component may not answer. Owned. */
static char *absolute(const char *dir)
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

int ks_volume_mounted(const char *dir, char **spec)
{
	KS_AUTO(ks_freep) char *path = absolute(dir);
	struct search s = { .dir = path };
	int r;

	if (!path)
		return -ENOENT;
	r = ks_volume_mounts(match, &s);
	if (r == 0 && !s.spec) {
		/* Perhaps a symlink to the mount point; only now, when it is no mount itself. */
		KS_AUTO(ks_freep) char *real = realpath(path, NULL);

		if (real && strcmp(real, path) != 0) {
			s.dir = real;
			r = ks_volume_mounts(match, &s);
		}
	}
	if (r < 0 || !s.spec) {
		free(s.spec);
		return r < 0 ? r : -ENOENT;
	}
	*spec = s.spec;
	return 0;
}
