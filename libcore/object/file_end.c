/* SPDX-License-Identifier: Apache-2.0 */
/* file_end.c: the directories of a store that is given up. Only empty ones go; a file that is not ours keeps the way to it. */
#include "base/log.h"
#include "object/store_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEPTH 4 /* blocks/S/S, tmp~/OWNER */

/* Removes the empty directories in @fd, which is taken over. Best effort: what stays makes the last rmdir fail. */
static void prune(int fd, int depth)
{
	DIR *d = fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		ks_closep(&fd);
		return;
	}
	while ((e = readdir(d))) {
		int sub;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		sub = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (sub < 0)
			continue;
		if (depth > 1)
			prune(sub, depth - 1);
		else
			ks_closep(&sub);
		KS_IGNORE(unlinkat(fd, e->d_name, AT_REMOVEDIR) < 0);
	}
	(void)closedir(d);
}

/* Only the directories that a store makes: an empty one beside them may be somebody's. */
static void prune_below(int rootfd, const char *name)
{
	int fd = openat(rootfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return;
	prune(fd, DEPTH - 1);
	KS_IGNORE(unlinkat(rootfd, name, AT_REMOVEDIR) < 0);
}

int ks_file_dismantle(struct ks_object *o)
{
	static const char *const parts[] = { "blocks", "packs", KS_FILE_TMP };
	struct ks_file_store *f = ks_file_of(o);

	ks_file_tmp_sweep(f);
	ks_file_tmp_close(f);
	for (size_t i = 0; i < KS_ARRAY_SIZE(parts); i++)
		prune_below(f->rootfd, parts[i]);
	if (rmdir(f->root) == 0 || errno == ENOENT)
		return 0;
	/* A mount point cannot go, and need not. */
	if (errno == EEXIST || errno == ENOTEMPTY)
		return -ENOTEMPTY;
	return errno == EBUSY ? 0 : ks_fail(-errno, "remove directory %s", f->root);
}
