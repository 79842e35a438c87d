/* SPDX-License-Identifier: Apache-2.0 */
/* names.c: the volumes that can be named, without a look into any of them. */
#include "volume/names.h"
#include "base/buf.h"
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static void names_in(const char *dir, void (*fn)(void *arg, const char *name), void *arg)
{
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *e;

	while (d && (e = readdir(d))) {
		KS_AUTO(ks_freep) char *db = NULL;

		if (!ks_volume_name_ok(e->d_name))
			continue;
		db = ks_asprintf("%s/%s/meta.db", dir, e->d_name);
		if (db && access(db, F_OK) == 0)
			fn(arg, e->d_name);
	}
	if (d)
		closedir(d);
}

int ks_volume_names(const struct ks_volume_find *find, void (*fn)(void *arg, const char *name),
		    void *arg)
{
	KS_AUTO(ks_freep) char *user = ks_names_user_dir(find);
	KS_AUTO(ks_freep) char *sys = ks_names_system_dir(find);
	int r = sys ? ks_config_volumes(find, fn, arg) : -ENOMEM;

	if (r < 0)
		return r;
	names_in(user, fn, arg);
	names_in(sys, fn, arg);
	return 0;
}
