/* SPDX-License-Identifier: Apache-2.0 */
/*
 * difftest_step.h: the operations of difftest and how random ones are made up. Only difftest.c includes it.
 */
#ifndef TESTS_MOUNTED_DIFFTEST_STEP_H
#define TESTS_MOUNTED_DIFFTEST_STEP_H

#include "util.h"
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#endif

enum { SLOTS = 10, PATH_ROOM = 1400, BIG = 9 * MIB };

enum op {
	OP_OPEN,
	OP_CLOSE,
	OP_PWRITE,
	OP_WRITE,
	OP_PREAD,
	OP_READ,
	OP_LSEEK,
	OP_FTRUNCATE,
	OP_FALLOCATE,
	OP_FSYNC,
	OP_FSTAT,
	OP_FCHMOD,
	OP_COPY_RANGE,
	OP_SEEK_DATA,
	OP_TMPFILE,
	OP_LINK_FD,
	OP_TRUNCATE,
	OP_MKDIR,
	OP_RMDIR,
	OP_UNLINK,
	OP_RENAME,
	OP_LINK,
	OP_SYMLINK,
	OP_READLINK,
	OP_MKNOD,
	OP_CHMOD,
	OP_CHOWN,
	OP_UTIMENS,
	OP_SETXATTR,
	OP_GETXATTR,
	OP_LISTXATTR,
	OP_REMOVEXATTR,
	OP_STAT,
	OP_ACCESS,
	OP_READDIR,
	OP_COUNT
};

static const struct {
	const char *name;
	int weight;
} ops[OP_COUNT] = {
	[OP_OPEN] = { "open", 120 },
	[OP_CLOSE] = { "close", 50 },
	[OP_PWRITE] = { "pwrite", 90 },
	[OP_WRITE] = { "write", 50 },
	[OP_PREAD] = { "pread", 70 },
	[OP_READ] = { "read", 30 },
	[OP_LSEEK] = { "lseek", 20 },
	[OP_FTRUNCATE] = { "ftruncate", 30 },
	[OP_FALLOCATE] = { "fallocate", 30 },
	[OP_FSYNC] = { "fsync", 12 },
	[OP_FSTAT] = { "fstat", 20 },
	[OP_FCHMOD] = { "fchmod", 8 },
	[OP_COPY_RANGE] = { "copy_file_range", 20 },
	[OP_SEEK_DATA] = { "seek_data", 20 },
	[OP_TMPFILE] = { "tmpfile", 6 },
	[OP_LINK_FD] = { "linkat_fd", 6 },
	[OP_TRUNCATE] = { "truncate", 20 },
	[OP_MKDIR] = { "mkdir", 50 },
	[OP_RMDIR] = { "rmdir", 22 },
	[OP_UNLINK] = { "unlink", 40 },
	[OP_RENAME] = { "rename", 60 },
	[OP_LINK] = { "link", 30 },
	[OP_SYMLINK] = { "symlink", 18 },
	[OP_READLINK] = { "readlink", 10 },
	[OP_MKNOD] = { "mknod", 14 },
	[OP_CHMOD] = { "chmod", 16 },
	[OP_CHOWN] = { "chown", 12 },
	[OP_UTIMENS] = { "utimensat", 16 },
	[OP_SETXATTR] = { "setxattr", 14 },
	[OP_GETXATTR] = { "getxattr", 10 },
	[OP_LISTXATTR] = { "listxattr", 8 },
	[OP_REMOVEXATTR] = { "removexattr", 8 },
	[OP_STAT] = { "stat", 40 },
	[OP_ACCESS] = { "access", 10 },
	[OP_READDIR] = { "readdir", 20 },
};

struct step {
	enum op op;
	char p1[PATH_ROOM], p2[PATH_ROOM];
	char xname[300];
	int slot, slot2;
	int flags;
	mode_t mode;
	off_t off, off2, len;
	uint64_t seed;
	uid_t as; /* who does it */
	uid_t uid;
	gid_t gid;
	struct timespec ts[2];
	bool times; /* compare which times moved */
};
static bool with_users, with_times = true;
static bool have_tmpfile, have_zero_range;

static const char *const plain_names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

static void add_name(char *out, size_t room, const char *name)
{
	size_t n = strlen(out);

	snprintf(out + n, room - n, "%s%s", n && out[n - 1] != '/' ? "/" : "", name);
}

static void random_path(struct rng *r, char *out)
{
	static char long_name[300];
	static const char *const odd[] = { "new\nline",
					   "\xff\xfe\x80",
					   " ",
					   "-rf",
					   "...",
					   "a\tb",
					   "\xe3\x82\xad\xe3\x82\xbb\xe3\x82\xad",
					   "*",
					   "q\"uo'te" };
	unsigned depth = one_in(r, 2) ? 0 : (unsigned)below(r, 3);

	out[0] = '\0';
	for (unsigned i = 0; i < depth; i++)
		add_name(out, PATH_ROOM, plain_names[below(r, 4)]);
	switch (below(r, 60)) {
	case 0: /* 255 and 256 bytes */
		memset(long_name, 'n', sizeof(long_name));
		long_name[255 + below(r, 2)] = '\0';
		add_name(out, PATH_ROOM, long_name);
		break;
	case 1:
	case 2:
	case 3:
		add_name(out, PATH_ROOM, odd[below(r, ARRAY_SIZE(odd))]);
		break;
	case 4: /* never above the tree */
		add_name(out, PATH_ROOM, "b");
		add_name(out, PATH_ROOM, one_in(r, 2) ? "." : "..");
		break;
	case 5:
		add_name(out, PATH_ROOM, plain_names[below(r, 4)]);
		snprintf(out + strlen(out), PATH_ROOM - strlen(out), "/");
		break;
	default:
		add_name(out, PATH_ROOM, plain_names[below(r, ARRAY_SIZE(plain_names))]);
	}
}

static off_t random_offset(struct rng *r)
{
	static const off_t edges[] = { 0, 4096, PAGE, 2 * PAGE, MIB, 4 * MIB, 8 * MIB, CHUNK };
	off_t at;

	if (one_in(r, 2))
		return (off_t)below(r, 20000);
	at = edges[below(r, one_in(r, 12) ? ARRAY_SIZE(edges) : 5)];
	at += (off_t)below(r, 40) - 20;
	return at < 0 ? 0 : at;
}

static off_t random_length(struct rng *r)
{
	switch (below(r, 16)) {
	case 0:
		return 0;
	case 1:
		return (off_t)below(r, 300 * KIB);
	case 2:
		return one_in(r, 6) ? (off_t)below(r, BIG) : PAGE;
	case 3:
		return 4096;
	default:
		return (off_t)below(r, 9000);
	}
}

static int random_open_flags(struct rng *r)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	int fl = modes[below(r, 3)] | O_NONBLOCK | O_NOCTTY;

	fl |= one_in(r, 2) ? O_CREAT : 0;
	fl |= one_in(r, 8) ? O_EXCL | O_CREAT : 0;
	fl |= one_in(r, 6) ? O_TRUNC : 0;
	fl |= one_in(r, 5) ? O_APPEND : 0;
	fl |= one_in(r, 10) ? O_NOFOLLOW : 0;
	fl |= one_in(r, 20) ? O_DIRECTORY : 0;
	fl |= one_in(r, 20) ? O_SYNC : 0;
	fl |= one_in(r, 30) ? O_PATH : 0;
	/* O_CREAT with O_DIRECTORY means different things to different kernels. */
	return fl & O_DIRECTORY ? fl & ~(O_CREAT | O_EXCL) : fl;
}

static mode_t random_mode(struct rng *r)
{
	static const mode_t common[] = {
		0644, 0600, 0755, 0777, 0700, 0664, 02755, 01777, 04755, 0
	};

	return one_in(r, 4) ? (mode_t)below(r, 07777 + 1) : common[below(r, ARRAY_SIZE(common))];
}

static int random_falloc(struct rng *r)
{
	static const int modes[] = { 0,
				     FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_PUNCH_HOLE,
				     FALLOC_FL_ZERO_RANGE,
				     FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };

	return modes[below(r, have_zero_range ? ARRAY_SIZE(modes) : 5)];
}

static void random_times(struct rng *r, struct timespec ts[2])
{
	for (int i = 0; i < 2; i++) {
		ts[i].tv_sec = (time_t)below(r, 9500000000ull) - 300000000; /* 1960 to 2261 */
		ts[i].tv_nsec = (long)below(r, 1000000000);
		if (one_in(r, 5))
			ts[i].tv_nsec = UTIME_NOW;
		else if (one_in(r, 5))
			ts[i].tv_nsec = UTIME_OMIT;
	}
}

static enum op random_op(struct rng *r)
{
	static int total;
	int at;

	for (int k = 0, first = total == 0; first && k < OP_COUNT; k++)
		total += ops[k].weight;
	at = (int)below(r, (uint64_t)total);
	for (int k = 0; k < OP_COUNT; k++) {
		at -= ops[k].weight;
		if (at < 0)
			return (enum op)k;
	}
	return OP_STAT;
}

static bool is_fd_op(enum op op)
{
	return (op >= OP_CLOSE && op <= OP_SEEK_DATA) || op == OP_LINK_FD;
}
static void make_step(struct rng *r, struct step *s)
{
	static const char *const xnames[] = { "user.a", "user.b",      "user.c",   "user.d",
					      "user.",  "nonamespace", "user.\xff" };
	static const uid_t ids[] = { 0, 1001, 1002 };

	s->op = random_op(r);
	random_path(r, s->p1);
	random_path(r, s->p2);
	s->slot = (int)below(r, SLOTS);
	s->slot2 = (int)below(r, SLOTS);
	s->off = random_offset(r);
	s->off2 = random_offset(r);
	s->len = random_length(r);
	s->mode = random_mode(r);
	s->seed = rnd(r);
	s->as = with_users && one_in(r, 2) ? ids[1 + below(r, 2)] : 0;
	s->uid = one_in(r, 4) ? (uid_t)-1 : ids[below(r, 3)];
	s->gid = one_in(r, 4) ? (gid_t)-1 : ids[below(r, 3)];
	random_times(r, s->ts);
	snprintf(s->xname, sizeof(s->xname), "%s", xnames[below(r, ARRAY_SIZE(xnames))]);
	s->flags = (int)below(r, 3); /* of xattr calls, lseek, access, stat */
	s->times = with_times && one_in(r, 8);
	if (s->op == OP_OPEN)
		s->flags = random_open_flags(r);
	else if (s->op == OP_FALLOCATE)
		s->flags = random_falloc(r);
	else if (s->op == OP_RENAME)
		s->flags = one_in(r, 5) ? RENAME_NOREPLACE : one_in(r, 5) ? RENAME_EXCHANGE : 0;
	else if (s->op == OP_TMPFILE)
		s->flags = O_TMPFILE | (one_in(r, 2) ? O_RDWR : O_WRONLY) |
			   (one_in(r, 4) ? O_EXCL : 0);
	/* Links may lead anywhere but out of the tree. */
	if (s->op == OP_SYMLINK && strstr(s->p2, ".."))
		snprintf(s->p2, sizeof(s->p2), "%s", one_in(r, 2) ? "a" : "b/c");
	/* 16 TiB and more is where local file systems end. */
	if ((s->op == OP_FTRUNCATE || s->op == OP_TRUNCATE) && one_in(r, 20))
		s->off = -1;
}

#endif
