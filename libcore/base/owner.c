/* SPDX-License-Identifier: Apache-2.0 */
/* owner.c: what root makes for somebody belongs to them. */
#include "base/owner.h"
#include "base/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct ks_owner ks_owner_of(const struct stat *place)
{
	return (struct ks_owner){ .give = geteuid() == 0 && place->st_uid != 0,
				  .uid = place->st_uid,
				  .gid = place->st_gid };
}

struct ks_owner ks_owner_of_path(const char *place)
{
	struct stat st;

	return stat(place, &st) == 0 ? ks_owner_of(&st) : (struct ks_owner){ 0 };
}

void ks_owner_give(const struct ks_owner *o, int fd)
{
	if (o->give)
		KS_IGNORE(fchown(fd, o->uid, o->gid) < 0);
}

int ks_owner_mkdir(const struct ks_owner *o, int at, const char *path, mode_t mode)
{
	KS_AUTO(ks_closep) int fd = -1;

	if (mkdirat(at, path, mode) < 0)
		return -errno;
	if (o->give)
		fd = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0)
		ks_owner_give(o, fd);
	return 0;
}
