/* SPDX-License-Identifier: Apache-2.0 */
/* where.c: the place to mount on: is it a directory, is something of ours mounted there, is it a dead mount, is the database inside it? */
#include "base/log.h"
#include "fuse/umount.h"
#include "mount.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

/* Something of type fuse.kiseki is mounted at @dir and answers. */
static int already(const char *dir, const char *spec)
{
	struct ks_volume_ref other = { 0 };
	struct ks_volume_find find = { .config = ks_common.config };
	bool same = strcmp(spec, arg.spec) == 0;
	int r;

	/* The same volume may have been named in another way. */
	if (!same && ks_volume_resolve(&other, dir, &find) == 0)
		same = strcmp(other.meta_url, arg.ref.meta_url) == 0 && !arg.subdir;
	ks_volume_ref_clear(&other);
	if (!same)
		return ks_fail(-EEXIST, "%s: '%s' is mounted here", dir, spec);
	if (arg.if_not_mounted)
		return 1;
	r = ks_fail_hint(-EEXIST, "--if-not-mounted makes this a success",
			 "%s: '%s' is already mounted here", dir, spec);
	return r;
}

/* A mount whose daemon is gone answers ENOTCONN until it is taken off. */
static int detach_dead(const char *dir)
{
	char *spec = NULL;
	int r = ks_volume_mounted(dir, &spec);

	free(spec);
	if (r == -ENOENT)
		return ks_fail_hint(-ENOTCONN, "it is not a mount of Kiseki; unmount it first",
				    "%s", dir);
	if (r == 0)
		r = ks_fuse_umount(dir, KS_UMOUNT_LAZY);
	if (r < 0)
		return r;
	ks_cmd_note("%s: detached a mount whose process is gone", dir);
	return 0;
}

bool mount_has_inside(const char *real)
{
	size_t n = strlen(arg.mountpoint);

	return strncmp(real, arg.mountpoint, n) == 0 &&
	       (real[n] == '/' || real[n] == '\0' || n == 1);
}

/* The database of a volume within its own mount: opening it would wait for itself. */
static int check_outside(void)
{
	KS_AUTO(ks_freep) char *db = ks_url_to_path("sqlite", arg.ref.meta_url);
	KS_AUTO(ks_freep) char *real = db ? realpath(db, NULL) : NULL;

	if (real && mount_has_inside(real))
		return ks_fail(-EINVAL,
			       "the database %s lies within the mount point %s, and would be "
			       "hidden by its own mount",
			       real, arg.mountpoint);
	return 0;
}

/* Attributes may still be cached; a statfs() always asks. ECONNABORTED: it was just asking when the process was killed. */
static bool is_dead(const char *dir)
{
	struct statfs fs;

	return statfs(dir, &fs) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

int mount_check_where(const char *dir)
{
	struct stat st;
	char *spec = NULL;
	int r = is_dead(dir) ? detach_dead(dir) : 0;

	if (r < 0)
		return r;
	if (stat(dir, &st) < 0) {
		r = -errno;
		return r == -ENOENT ? ks_fail_hint(r, "mkdir makes one", "mount point %s", dir)
				    : ks_fail(r, "mount point %s", dir);
	}
	if (!S_ISDIR(st.st_mode))
		return ks_fail(-ENOTDIR, "mount point %s", dir);
	arg.mountpoint = realpath(dir, NULL);
	if (!arg.mountpoint)
		return ks_fail(-errno, "mount point %s", dir);
	r = ks_volume_mounted(arg.mountpoint, &spec);
	if (r == 0)
		r = already(arg.mountpoint, spec);
	else if (r == -ENOENT)
		r = check_outside();
	free(spec);
	return r;
}
