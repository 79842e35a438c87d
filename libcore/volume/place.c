/* SPDX-License-Identifier: Apache-2.0 */
/* place.c: names of new volumes, their directories, and how a database appears under its name. */
#include "volume/place.h"
#include "base/buf.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int make_dirs(char *path, mode_t last)
{
	for (char *p = path + 1;; p++) {
		char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(path, c ? 0755 : last) < 0 && errno != EEXIST) {
			int r = ks_fail(-errno, "create directory %s", path);

			*p = c;
			return r;
		}
		*p = c;
		if (!c)
			return 0;
	}
}

static bool is_name(const char *operand)
{
	size_t n = strlen(operand);

	return !ks_url_scheme(operand) && !strchr(operand, '/') &&
	       !(n > 3 && strcmp(operand + n - 3, ".db") == 0);
}

/* A name that no configuration and no directory knows: its place is the machine's for root, else the user's. */
static int place_name(struct ks_place *p, const char *name, const struct ks_volume_find *find)
{
	KS_AUTO(ks_freep)
	char *base = geteuid() == 0 ? ks_names_system_dir(find) : ks_names_user_dir(find);
	KS_AUTO(ks_freep) char *dir = base ? ks_asprintf("%s/%s", base, name) : NULL;
	KS_AUTO(ks_freep) char *db = dir ? ks_asprintf("%s/meta.db", dir) : NULL;
	int r;

	if (!db)
		return ks_fail(-ENOMEM, "find the home directory");
	r = make_dirs(base, 0755);
	if (r < 0)
		return r;
	p->new_dir = mkdir(dir, 0700) == 0;
	if (!p->new_dir && errno != EEXIST)
		return ks_fail(-errno, "create directory %s", dir);
	r = ks_volume_resolve(&p->ref, db, find);
	if (r < 0)
		return r;
	free(p->ref.spec);
	p->ref.spec = strdup(name);
	p->ref.name = strdup(name);
	return p->ref.spec && p->ref.name ? 0 : -ENOMEM;
}

int ks_place_find(struct ks_place *p, const char *operand, const struct ks_volume_find *where)
{
	struct ks_volume_find find = *where;
	bool quiet = ks_fail_quiet(true);
	int r;

	find.no_default = true;
	r = ks_volume_resolve(&p->ref, operand, &find);
	ks_fail_quiet(quiet);
	if (r == -ENOENT && operand && is_name(operand))
		return place_name(p, operand, where);
	return r;
}

int ks_place_lock(struct ks_place *p, bool wait)
{
	const char *db = ks_volume_sqlite_path(p->ref.meta_url);
	const char *slash = db ? strrchr(db, '/') : NULL;
	KS_AUTO(ks_freep) char *dir = NULL;

	if (!slash)
		return 0;
	dir = strndup(db, slash == db ? 1 : (size_t)(slash - db));
	if (!dir)
		return -ENOMEM;
	p->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (p->dir_fd < 0)
		return ks_fail(-errno, "open directory %s", dir);
	if (flock(p->dir_fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return ks_fail_hint(-EBUSY, "wait until it is done",
				    "another program makes a volume in %s", dir);
	return ks_fail(-errno, "lock directory %s", dir);
}

int ks_place_data(const struct ks_place *p, const char *data, char *out, size_t size)
{
	const char *db = ks_volume_sqlite_path(p->ref.meta_url);
	KS_AUTO(ks_freep) char *url = NULL;
	KS_AUTO(ks_freep) char *here = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	const char *base;
	size_t n;

	if (data && !ks_url_scheme(data)) {
		here = data[0] == '/' ? strdup("") : realpath(".", NULL);
		path = here ? ks_asprintf("%s%s%s", here, *here ? "/" : "", data) : NULL;
		url = path ? ks_url_of_path("file", path) : NULL;
	} else if (data) {
		url = strdup(data);
	} else if (db) {
		base = strrchr(db, '/') + 1;
		n = strlen(base);
		if (n > 3 && strcmp(base + n - 3, ".db") == 0)
			n -= 3;
		url = ks_asprintf("%.*s.blocks/", (int)n, base);
	} else {
		return ks_fail_hint(-EINVAL, "for example --data=file:///srv/blocks",
				    "%s: --data is required for this kind of metadata",
				    p->ref.shown_url);
	}
	if (!url)
		return -ENOMEM;
	if (strlen(url) >= size)
		return ks_fail(-EINVAL, "--data: longer than %zu bytes", size - 1);
	snprintf(out, size, "%s", url);
	return 0;
}

static void remove_logs(const char *db)
{
	static const char *const tails[] = { "-wal", "-shm", "-journal", "-reserve" };

	for (size_t i = 0; i < KS_ARRAY_SIZE(tails); i++) {
		KS_AUTO(ks_freep) char *name = ks_asprintf("%s%s", db, tails[i]);

		if (name)
			KS_IGNORE(unlink(name) < 0); /* mostly absent */
	}
}

void ks_place_remove(const char *db)
{
	KS_IGNORE(unlink(db) < 0);
	remove_logs(db);
}

int ks_place_publish(struct ks_place *p, const char *tmp)
{
	const char *db = ks_volume_sqlite_path(p->ref.meta_url);
	KS_AUTO(ks_freep) char *wal = ks_asprintf("%s-wal", tmp);
	struct stat st;

	if (!wal)
		return -ENOMEM;
	/* The name of a log is its database's: what is still in it would be left behind. */
	if (stat(wal, &st) == 0 && st.st_size > 0)
		return ks_fail(-EIO, "%s still holds changes", wal);
	/* The log of a database that was there would be taken for this one's. */
	if (access(db, F_OK) < 0 && errno == ENOENT)
		remove_logs(db);
	if (renameat2(AT_FDCWD, tmp, AT_FDCWD, db, RENAME_NOREPLACE) < 0)
		return ks_fail(-errno, "create %s", db);
	return fsync(p->dir_fd) < 0 ? ks_fail(-errno, "make %s durable", db) : 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	if (type == FTW_DP)
		KS_IGNORE(rmdir(path) < 0); /* something is in it */
	return 0;
}

void ks_place_remove_empty(const char *data_url)
{
	KS_AUTO(ks_freep) char *dir = ks_url_to_path("file", data_url);

	if (dir)
		KS_IGNORE(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0); /* what can be */
}

void ks_place_undo(struct ks_place *p, const char *data_url)
{
	const char *db = ks_volume_sqlite_path(p->ref.meta_url ? p->ref.meta_url : "");
	KS_AUTO(ks_freep) char *data = data_url ? ks_url_to_path("file", data_url) : NULL;
	KS_AUTO(ks_freep) char *dir = NULL;

	if (!db || !p->new_dir)
		return;
	dir = strndup(db, (size_t)(strrchr(db, '/') - db));
	if (data)
		KS_IGNORE(rmdir(data) < 0);
	if (dir)
		KS_IGNORE(rmdir(dir) < 0);
}

void ks_place_clear(struct ks_place *p)
{
	ks_closep(&p->dir_fd);
	p->dir_fd = -1;
	ks_volume_ref_clear(&p->ref);
}
