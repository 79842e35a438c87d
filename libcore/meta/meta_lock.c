/* SPDX-License-Identifier: Apache-2.0 */
/*
 * meta_lock.c: the lock files of a SQLite volume, in LOCKS beside the database: "volume", and one for each session.
 *
 * Their flocks belong to the open file, so the kernel drops them with the process, and two openers in one process exclude each other like strangers.
 */
#include "base/owner.h"
#include "meta/meta_internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#define SCHEME "sqlite://"
#define LEASE_NS (120 * KS_NS_PER_S) /* without lock files */

char *ks_locks_dir(const char *url)
{
	size_t n = strlen(url);

	if (strncmp(url, SCHEME, sizeof(SCHEME) - 1) != 0)
		return NULL;
	if (n > 3 && strcmp(url + n - 3, ".db") == 0)
		n -= 3;
	return ks_asprintf("%.*s.locks", (int)(n - (sizeof(SCHEME) - 1)), url + sizeof(SCHEME) - 1);
}

static int lock_file_open(const struct ks_meta *m, const char *name, int flags)
{
	KS_AUTO(ks_freep) char *path = ks_asprintf("%s/%s", m->locks, name);
	int fd;

	if (!path)
		return -ENOMEM;
	fd = KS_RETRY(open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | flags, 0666));
	return fd < 0 ? -errno : fd;
}

static int lock_dir_make(const struct ks_meta *m, const char *db)
{
	struct ks_owner o = ks_owner_of_path(db);
	/* Who may open a lock's file may hold the lock. */
	int r = ks_owner_mkdir(&o, AT_FDCWD, m->locks, 0700);

	return r == -EEXIST ? 0 : r;
}

static int lock_file_make(const struct ks_meta *m, const char *name)
{
	int fd = lock_file_open(m, name, O_CREAT | O_EXCL);
	struct ks_owner o = ks_owner_of_path(m->locks);

	if (fd >= 0)
		ks_owner_give(&o, fd);
	return fd == -EEXIST ? lock_file_open(m, name, O_CREAT) : fd;
}

static int lock_try(int fd, int how)
{
	while (flock(fd, how | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return -EBUSY;
		if (errno != EINTR)
			return -errno;
	}
	return 0;
}

/* "1: FLOCK  ADVISORY  WRITE 990 08:01:1234 0 EOF": the process when it is a lock of one holder on file @ino, else 0. */
static long lock_of(const char *line, uintmax_t ino)
{
	const char *at = strstr(line, "FLOCK");
	char *end;
	long pid;

	at = at ? strstr(at, "WRITE ") : NULL;
	pid = at ? strtol(at + 6, &end, 10) : 0;
	if (pid <= 0)
		return 0;
	at = strchr(end, ':');
	at = at ? strchr(at + 1, ':') : NULL;
	return at && strtoumax(at + 1, NULL, 10) == ino ? pid : 0;
}

/* Who holds a lock on this file alone, for people: "kiseki-fsck (process 990)". "another program" when nobody says. */
static void lock_holder(int fd, char *out, size_t n)
{
	FILE *f = fopen("/proc/locks", "re");
	char line[256], path[40], comm[32] = "";
	struct stat st = { 0 };
	long pid = 0;

	snprintf(out, n, "another program");
	if (fstat(fd, &st) == 0) {
		while (f && pid == 0 && fgets(line, sizeof(line), f))
			pid = lock_of(line, st.st_ino);
	}
	if (f)
		fclose(f);
	if (pid == 0)
		return;
	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	f = fopen(path, "re");
	if (f && fgets(comm, sizeof(comm), f))
		comm[strcspn(comm, "\n")] = '\0';
	if (f)
		fclose(f);
	snprintf(out, n, "%s (process %ld)", *comm ? comm : "a program", pid);
}

int ks_locks_open(struct ks_meta *m, const char *url)
{
	char holder[96];
	int r;

	if (!m->locks)
		return 0;
	r = lock_dir_make(m, url + sizeof(SCHEME) - 1);
	if (r < 0)
		return ks_fail(r, "making the directory of locks %s", m->locks);
	r = lock_file_make(m, "volume");
	if (r < 0)
		return ks_fail(r, "opening %s/volume", m->locks);
	m->volume_fd = r;
	r = lock_try(r, LOCK_SH);
	if (r == -EBUSY) {
		lock_holder(m->volume_fd, holder, sizeof(holder));
		return ks_fail_hint(
			r, "wait until it is done",
			"the volume is locked by %s, which has it for itself (%s/volume)", holder,
			m->locks);
	}
	return r < 0 ? ks_fail(r, "locking %s/volume", m->locks) : 0;
}

void ks_locks_close(struct ks_meta *m)
{
	ks_closep(&m->volume_fd);
	m->volume_fd = -1;
}

int ks_meta_lock_exclusive(struct ks_meta *m)
{
	int r;

	if (m->volume_fd < 0)
		return 0;
	r = lock_try(m->volume_fd, LOCK_EX);
	/* The attempt has given the shared lock up; nobody can have taken the other kind from us but a tool that is as entitled. */
	if (r == -EBUSY)
		KS_IGNORE(lock_try(m->volume_fd, LOCK_SH));
	return r;
}

void ks_meta_unlock_exclusive(struct ks_meta *m)
{
	if (m->volume_fd >= 0)
		KS_IGNORE(lock_try(m->volume_fd, LOCK_SH));
}

static void session_file(char out[40], uint64_t id)
{
	snprintf(out, 40, "session-%ju", (uintmax_t)id);
}

bool ks_session_is_dead(struct ks_meta *m, const struct ks_session_info *s)
{
	bool expired = ks_clock_real_ns() - s->heartbeat_ns > LEASE_NS;
	KS_AUTO(ks_closep) int fd = -1;
	char name[40];

	if (s->id == atomic_load(&m->session))
		return false;
	if (!m->locks)
		return expired;
	session_file(name, s->id);
	fd = lock_file_open(m, name, 0);
	/* Somebody has deleted it; who holds the lock does not know. A power cut takes it, too. */
	if (fd == -ENOENT)
		return expired || !s->this_boot;
	/* What cannot be judged lives. */
	return fd >= 0 && lock_try(fd, LOCK_EX) == 0;
}

int ks_session_lock(struct ks_meta *m, uint64_t id)
{
	char name[40];
	int r;

	if (!m->locks)
		return 0;
	session_file(name, id);
	r = lock_file_make(m, name);
	if (r < 0)
		return ks_fail(r, "making %s/%s", m->locks, name);
	m->session_fd = r;
	r = lock_try(r, LOCK_EX);
	return r < 0 ? ks_fail(r, "locking %s/%s", m->locks, name) : 0;
}

void ks_session_file_remove(struct ks_meta *m, uint64_t id)
{
	char name[40];

	if (!m->locks)
		return;
	session_file(name, id);

	KS_AUTO(ks_freep) char *path = ks_asprintf("%s/%s", m->locks, name);

	if (path)
		KS_IGNORE(unlink(path));
}
