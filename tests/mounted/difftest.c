/* SPDX-License-Identifier: Apache-2.0 */
/*
 * difftest DIR_A DIR_B: the same random operations on two directories, one of them a local file system, and
 * everything a program can see compared: results, errno, attributes, whether times moved, contents, listings.
 *
 *	--seed N      which run (default: the clock; printed at the start)
 *	--ops N       operations per process (default 3000)
 *	--threads N   so many processes at once, each in a tree of its own
 *	--users       act as uid 0, 1001 and 1002 in turns (root only; DIR_B must let others in)
 *	--tree N      compare the whole trees every N operations (default 500), and run REMOUNT_CMD then if it is set
 *	--no-times    do not compare which times moved
 *	--verbose     print every operation
 *
 * Exit status: 0 alike, 1 a difference (the last operations are printed with both results), 2 could not run.
 * Not compared, because file systems may differ: sizes of directories, blocks, access times, inode numbers.
 */
#include "difftest_step.h"
#include <dirent.h>
#include <getopt.h>
#include <grp.h>
#include <signal.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

enum { HISTORY = 30, TEXT_ROOM = 3000 };

struct result {
	long long ret;
	int err;
	uint64_t hash; /* of what was read */
};

struct seen {
	bool ok;
	struct stat st;
};
enum { SEE = 5 }; /* p1, its directory, p2, its directory, the slot */

static struct side {
	const char *name;
	char path[PATH_ROOM];
	int root;
	int fd[SLOTS];
	struct result res;
	struct seen before[SEE], after[SEE];
} sides[2];

static char history[HISTORY][TEXT_ROOM];
static uint64_t done_ops;
static uint64_t seed_used;
static char *big; /* scratch */
static bool verbose;

static void give_up(const char *what)
{
	printf("seed %llu: after %llu operations: %s\n", (unsigned long long)seed_used,
	       (unsigned long long)done_ops, what);
	for (uint64_t i = done_ops > HISTORY ? done_ops - HISTORY : 0; i <= done_ops; i++)
		if (history[i % HISTORY][0])
			printf("  %s\n", history[i % HISTORY]);
	fflush(stdout);
	_exit(1);
}
/* An open slot, if there is any, at or behind @slot. */
static int open_slot(int slot)
{
	for (int i = 0; i < SLOTS; i++)
		if (sides[0].fd[(slot + i) % SLOTS] >= 0)
			return (slot + i) % SLOTS;
	return -1;
}

static bool possible(struct step *s)
{
	if (is_fd_op(s->op)) {
		s->slot = open_slot(s->slot);
		s->slot2 = open_slot(s->slot2);
		return s->slot >= 0;
	}
	return s->op != OP_TMPFILE || have_tmpfile;
}
/* ---- doing them ---- */

static uint64_t hash_bytes(const void *p, size_t n, uint64_t h)
{
	const unsigned char *b = p;

	for (size_t i = 0; i < n; i++)
		h = (h ^ b[i]) * 0x100000001b3ull;
	return h;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **v;
	size_t n;
};

static void names_free(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct names){ 0 };
}

static void names_add(struct names *l, const char *s)
{
	char **v = realloc(l->v, (l->n + 1) * sizeof(*v));

	if (!v)
		die("out of memory");
	l->v = v;
	l->v[l->n] = strdup(s);
	if (!l->v[l->n++])
		die("out of memory");
}

/* The names in a directory, sorted, each with its type before it. 0 or -1. */
static int list_dir(int at, const char *path, struct names *out)
{
	int fd = openat(at, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	for (errno = 0; (e = readdir(d)); errno = 0) {
		char text[300];

		snprintf(text, sizeof(text), "%02d %s", e->d_type, e->d_name);
		names_add(out, text);
	}
	if (errno) {
		int err = errno;

		closedir(d);
		errno = err;
		return -1;
	}
	closedir(d);
	if (out->n)
		qsort(out->v, out->n, sizeof(*out->v), compare_names);
	return 0;
}

static long long do_readdir(int root, const char *path, uint64_t *hash)
{
	struct names l = { 0 };
	long long ret = list_dir(root, path, &l);

	if (ret == 0) {
		ret = (long long)l.n;
		for (size_t i = 0; i < l.n; i++)
			*hash = hash_bytes(l.v[i], strlen(l.v[i]) + 1, *hash);
	}
	names_free(&l);
	return ret;
}

static long long do_listxattr(const char *path, uint64_t *hash)
{
	char buf[8192];
	ssize_t n = llistxattr(path, buf, sizeof(buf));
	struct names l = { 0 };
	long long count;

	if (n < 0)
		return -1;
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(buf + i) + 1)
		if (strncmp(buf + i, "user.", 5) == 0)
			names_add(&l, buf + i);
	if (l.n)
		qsort(l.v, l.n, sizeof(*l.v), compare_names);
	for (size_t i = 0; i < l.n; i++)
		*hash = hash_bytes(l.v[i], strlen(l.v[i]) + 1, *hash);
	count = (long long)l.n;
	names_free(&l);
	return count;
}

static bool is_file(int fd)
{
	struct stat st;

	return !(fcntl(fd, F_GETFL) & O_PATH) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/*
 * Where holes lie may differ; what must hold: data and holes alternate, what is said to be a hole reads as
 * zeros, and the last hole is the end. Returns the size of the file.
 */
static long long do_seek_data(int fd, uint64_t *hash)
{
	off_t at = 0, offset;
	struct stat st;

	if (!is_file(fd) || fstat(fd, &st) < 0)
		return 0;
	offset = lseek(fd, 0, SEEK_CUR);
	if (st.st_size > 0 && lseek(fd, 0, SEEK_HOLE) < 0)
		return -1;
	for (int turns = 0; at < st.st_size && turns < 200; turns++) {
		off_t data = lseek(fd, at, SEEK_DATA);

		if (data < 0 && errno != ENXIO)
			return -1;
		if (data < 0)
			data = st.st_size;
		if (data < at || data > st.st_size)
			*hash = 1;
		for (off_t o = at; o < data && o < at + BIG; o += PAGE) {
			ssize_t n = pread(fd, big, (size_t)MIN(data - o, (off_t)PAGE), o);

			for (ssize_t i = 0; i < n; i++)
				*hash = big[i] ? 2 : *hash;
		}
		if (data >= st.st_size)
			break;
		at = lseek(fd, data, SEEK_HOLE);
		if (at <= data || at > st.st_size)
			*hash = 3;
	}
	if (lseek(fd, st.st_size, SEEK_DATA) != -1 || errno != ENXIO)
		*hash = 4;
	lseek(fd, offset, SEEK_SET);
	return st.st_size;
}

static long long do_copy(int in, off_t off_in, int out, off_t off_out, off_t len)
{
	long long total = 0;

	while (total < len) {
		ssize_t n = copy_file_range(in, &off_in, out, &off_out, (size_t)(len - total), 0);

		if (n < 0)
			return total ? total : -1;
		if (n == 0)
			break;
		total += n;
	}
	return total;
}

static bool is_device(int root, const char *path)
{
	struct stat st;

	return fstatat(root, path, &st, 0) == 0 && (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode));
}

static long long do_open(struct side *sd, const struct step *s, int flags)
{
	int fd;

	/* Mounts of ordinary users carry "nodev": EACCES there. */
	if (s->op == OP_OPEN && is_device(sd->root, s->p1))
		return 0;
	fd = openat(sd->root, s->p1, flags, s->mode);
	if (fd < 0)
		return -1;
	if (sd->fd[s->slot] >= 0)
		close(sd->fd[s->slot]);
	sd->fd[s->slot] = fd;
	return 1;
}

static long long do_fd_op(struct side *sd, const struct step *s, uint64_t *hash)
{
	int fd = sd->fd[s->slot];
	struct stat st;
	ssize_t n;
	int r;

	switch (s->op) {
	case OP_CLOSE:
		sd->fd[s->slot] = -1;
		return close(fd);
	case OP_PWRITE:
		pattern(big, (size_t)s->len, s->seed, 0);
		return pwrite(fd, big, (size_t)s->len, s->off);
	case OP_WRITE:
		pattern(big, (size_t)s->len, s->seed, 0);
		return write(fd, big, (size_t)s->len);
	case OP_PREAD:
	case OP_READ:
		n = s->op == OP_READ ? read(fd, big, (size_t)s->len)
				     : pread(fd, big, (size_t)s->len, s->off);
		*hash = n > 0 ? hash_bytes(big, (size_t)n, 1) : 0;
		return n;
	case OP_LSEEK:
		/* What the offset of a directory means is the file system's own business. */
		return is_file(fd) ? lseek(fd, s->off, s->flags) : 0; /* SET CUR END */
	case OP_FTRUNCATE:
		return ftruncate(fd, s->off);
	case OP_FALLOCATE:
		return fallocate(fd, s->flags, s->off, s->len);
	case OP_FSYNC:
		return s->flags ? fsync(fd) : fdatasync(fd);
	case OP_FCHMOD:
		return fstat(fd, &st) == 0 && st.st_nlink == 0 && !S_ISREG(st.st_mode)
			       ? 0
			       : fchmod(fd, s->mode);
	case OP_COPY_RANGE:
		return do_copy(fd, s->off, sd->fd[s->slot2], s->off2, s->len);
	case OP_SEEK_DATA:
		return do_seek_data(fd, hash);
	case OP_LINK_FD: {
		char self[64];

		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		r = linkat(AT_FDCWD, self, sd->root, s->p1, AT_SYMLINK_FOLLOW);
		return r;
	}
	default:
		return 0; /* fstat: the comparison of attributes is the test */
	}
}

static long long do_xattr_op(struct side *sd, const struct step *s, uint64_t *hash)
{
	char path[2 * PATH_ROOM + 2];
	char value[256];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", sd->path, s->p1);
	switch (s->op) {
	case OP_SETXATTR:
		pattern(value, sizeof(value), s->seed, 0);
		return lsetxattr(path, s->xname, value, (size_t)(s->len % 200), s->flags);
	case OP_GETXATTR:
		n = lgetxattr(path, s->xname, value, s->flags == 1 ? 0 : s->flags == 2 ? 7 : 256);
		*hash = n > 0 && s->flags != 1 ? hash_bytes(value, (size_t)n, 1) : 0;
		return n;
	case OP_LISTXATTR:
		return do_listxattr(path, hash);
	default:
		return lremovexattr(path, s->xname);
	}
}

static long long do_path_op(struct side *sd, const struct step *s, uint64_t *hash)
{
	static const mode_t kinds[] = { S_IFIFO, S_IFREG, S_IFSOCK, S_IFCHR };
	char buf[PATH_ROOM];
	struct stat st;
	ssize_t n;

	switch (s->op) {
	case OP_OPEN:
	case OP_TMPFILE:
		return do_open(sd, s, s->flags);
	case OP_TRUNCATE: {
		char path[2 * PATH_ROOM + 2];

		snprintf(path, sizeof(path), "%s/%s", sd->path, s->p1);
		return truncate(path, s->off);
	}
	case OP_MKDIR:
		return mkdirat(sd->root, s->p1, s->mode);
	case OP_RMDIR:
		return unlinkat(sd->root, s->p1, AT_REMOVEDIR);
	case OP_UNLINK:
		return unlinkat(sd->root, s->p1, 0);
	case OP_RENAME:
		return renameat2(sd->root, s->p1, sd->root, s->p2, (unsigned int)s->flags);
	case OP_LINK:
		return linkat(sd->root, s->p1, sd->root, s->p2, s->flags ? 0 : AT_SYMLINK_FOLLOW);
	case OP_SYMLINK:
		return symlinkat(s->p2, sd->root, s->p1);
	case OP_READLINK:
		n = readlinkat(sd->root, s->p1, buf, sizeof(buf));
		*hash = n > 0 ? hash_bytes(buf, (size_t)n, 1) : 0;
		return n;
	case OP_MKNOD:
		return mknodat(sd->root, s->p1, kinds[s->seed % 4] | (s->mode & 0777),
			       s->seed % 4 == 3 ? makedev(5, 300) : 0);
	case OP_CHMOD:
		return fchmodat(sd->root, s->p1, s->mode, 0);
	case OP_CHOWN:
		return fchownat(sd->root, s->p1, s->uid, s->gid,
				s->flags ? AT_SYMLINK_NOFOLLOW : 0);
	case OP_UTIMENS:
		return utimensat(sd->root, s->p1, s->ts, s->flags ? AT_SYMLINK_NOFOLLOW : 0);
	case OP_ACCESS:
		return faccessat(sd->root, s->p1, 1 << s->flags, s->seed % 2 ? AT_EACCESS : 0);
	case OP_READDIR:
		return do_readdir(sd->root, s->p1, hash);
	case OP_STAT:
		return fstatat(sd->root, s->p1, &st, s->flags ? 0 : AT_SYMLINK_NOFOLLOW);
	default:
		return do_xattr_op(sd, s, hash);
	}
}

static void become(uid_t id)
{
	static uid_t now;

	if (id == now)
		return;
	if (seteuid(0) < 0 || setegid(id) < 0 || (id && seteuid(id) < 0))
		die("cannot become %u", (unsigned)id);
	now = id;
}

static void perform(struct side *sd, const struct step *s)
{
	sd->res = (struct result){ 0 };
	become(s->as);
	errno = 0;
	sd->res.ret =
		is_fd_op(s->op) ? do_fd_op(sd, s, &sd->res.hash) : do_path_op(sd, s, &sd->res.hash);
	sd->res.err = sd->res.ret < 0 ? errno : 0;
	become(0);
}

/* ---- comparing ---- */

static void dir_of(const char *path, char *out)
{
	const char *slash;
	size_t n = strlen(path);

	while (n && path[n - 1] == '/')
		n--;
	slash = memrchr(path, '/', n);
	if (slash)
		snprintf(out, PATH_ROOM, "%.*s", (int)(slash - path), path);
	else
		snprintf(out, PATH_ROOM, ".");
}

/* A copy changes the second. */
static int seen_fd(const struct side *sd, const struct step *s)
{
	return sd->fd[s->op == OP_COPY_RANGE ? s->slot2 : s->slot];
}

static void look(struct side *sd, const struct step *s, struct seen *v)
{
	char dir[PATH_ROOM];

	memset(v, 0, SEE * sizeof(*v));
	if (!is_fd_op(s->op) || s->op == OP_LINK_FD) {
		v[0].ok = fstatat(sd->root, s->p1, &v[0].st, AT_SYMLINK_NOFOLLOW) == 0;
		dir_of(s->p1, dir);
		v[1].ok = fstatat(sd->root, dir, &v[1].st, 0) == 0;
	}
	if (s->op == OP_RENAME || s->op == OP_LINK) {
		v[2].ok = fstatat(sd->root, s->p2, &v[2].st, AT_SYMLINK_NOFOLLOW) == 0;
		dir_of(s->p2, dir);
		v[3].ok = fstatat(sd->root, dir, &v[3].st, 0) == 0;
	}
	if (is_fd_op(s->op)) {
		int fd = seen_fd(sd, s);

		v[4].ok = fd >= 0 && fstat(fd, &v[4].st) == 0;
	}
}

static const char *compare_attr(const struct stat *a, const struct stat *b)
{
	if ((a->st_mode & S_IFMT) != (b->st_mode & S_IFMT))
		return "type";
	/*
	 * A file's setgid bit without group execution goes only when its writer is in none of its groups: FUSE
	 * does not tell a writer's groups.
	 */
	if ((a->st_mode ^ b->st_mode) &
	    (a->st_mode & S_IXGRP || S_ISDIR(a->st_mode) ? ~0u : ~(unsigned)S_ISGID))
		return "mode";
	/* Some file systems do not count subdirectories; they show 1. */
	if (a->st_nlink != b->st_nlink && !(S_ISDIR(a->st_mode) && a->st_nlink == 1))
		return "nlink";
	if (a->st_uid != b->st_uid)
		return "uid";
	if (a->st_gid != b->st_gid)
		return "gid";
	if (!S_ISDIR(a->st_mode) && a->st_size != b->st_size)
		return "size";
	if (a->st_rdev != b->st_rdev)
		return "rdev";
	return NULL;
}

static bool moved(struct timespec a, struct timespec b)
{
	return a.tv_sec != b.tv_sec || a.tv_nsec != b.tv_nsec;
}

static void explain(char *out, const struct step *s)
{
	int n = snprintf(out, TEXT_ROOM, "%llu %s", (unsigned long long)done_ops, ops[s->op].name);

#define ADD(...) n += snprintf(out + n, (size_t)MAX(TEXT_ROOM - n, 1), __VA_ARGS__)
	if (is_fd_op(s->op))
		ADD(" slot=%d", s->slot);
	if (s->op == OP_COPY_RANGE)
		ADD(" slot2=%d off2=%lld", s->slot2, (long long)s->off2);
	if (!is_fd_op(s->op) || s->op == OP_LINK_FD)
		ADD(" '%.300s'", s->p1);
	if (s->op == OP_RENAME || s->op == OP_LINK || s->op == OP_SYMLINK)
		ADD(" '%.300s'", s->p2);
	if (s->op == OP_OPEN || s->op == OP_TMPFILE)
		ADD(" slot=%d flags=%#o", s->slot, (unsigned)s->flags);
	else
		ADD(" flags=%#x", (unsigned)s->flags);
	ADD(" mode=%#o off=%lld len=%lld", s->mode, (long long)s->off, (long long)s->len);
	if (s->op == OP_CHOWN)
		ADD(" uid=%d gid=%d", (int)s->uid, (int)s->gid);
	if (s->op == OP_UTIMENS)
		ADD(" atime=%lld.%ld mtime=%lld.%ld", (long long)s->ts[0].tv_sec, s->ts[0].tv_nsec,
		    (long long)s->ts[1].tv_sec, s->ts[1].tv_nsec);
	if (s->op >= OP_SETXATTR && s->op <= OP_REMOVEXATTR)
		ADD(" %s", s->xname);
	if (s->as)
		ADD(" as=%u", (unsigned)s->as);
	for (int i = 0; i < 2; i++)
		ADD(" | %s: %lld%s%s", sides[i].name, sides[i].res.ret, sides[i].res.err ? " " : "",
		    sides[i].res.err ? strerror(sides[i].res.err) : "");
#undef ADD
}

static void compare_seen(const struct step *s)
{
	static const char *const what[SEE] = { "the path", "its directory", "the second path",
					       "the second directory", "the open file" };
	char text[600];

	for (int i = 0; i < SEE; i++) {
		const struct seen *a0 = &sides[0].before[i], *a1 = &sides[0].after[i];
		const struct seen *b0 = &sides[1].before[i], *b1 = &sides[1].after[i];
		const char *bad;

		/* FUSE is not told who has fifos, devices and O_PATH descriptors open: without a name they are gone. */
		if (i == 4 && a1->ok && a1->st.st_nlink == 0 &&
		    ((!S_ISREG(a1->st.st_mode) && !S_ISDIR(a1->st.st_mode)) ||
		     fcntl(seen_fd(&sides[1], s), F_GETFL) & O_PATH))
			continue;
		if (a1->ok != b1->ok) {
			snprintf(text, sizeof(text), "%s exists on one side only (%s: %d, %s: %d)",
				 what[i], sides[0].name, a1->ok, sides[1].name, b1->ok);
			give_up(text);
		}
		if (!a1->ok)
			continue;
		bad = compare_attr(&a1->st, &b1->st);
		if (bad) {
			snprintf(text, sizeof(text),
				 "%s differs in %s: mode %o/%o nlink %lu/%lu uid %u/%u gid %u/%u "
				 "size %lld/%lld",
				 what[i], bad, a1->st.st_mode, b1->st.st_mode,
				 (unsigned long)a1->st.st_nlink, (unsigned long)b1->st.st_nlink,
				 a1->st.st_uid, b1->st.st_uid, a1->st.st_gid, b1->st.st_gid,
				 (long long)a1->st.st_size, (long long)b1->st.st_size);
			give_up(text);
		}
		/* Only of what was there before, and is still the same inode. What goes through a fifo FUSE does not see. */
		if (!s->times || S_ISFIFO(a1->st.st_mode) || !a0->ok || !b0->ok ||
		    a0->st.st_ino != a1->st.st_ino || b0->st.st_ino != b1->st.st_ino)
			continue;
		bool am = moved(a0->st.st_mtim, a1->st.st_mtim),
		     bm = moved(b0->st.st_mtim, b1->st.st_mtim);
		bool ac = moved(a0->st.st_ctim, a1->st.st_ctim),
		     bc = moved(b0->st.st_ctim, b1->st.st_ctim);

		if (am != bm || ac != bc) {
			snprintf(text, sizeof(text),
				 "times of %s moved differently: mtime %s:%d %s:%d, ctime %s:%d "
				 "%s:%d",
				 what[i], sides[0].name, am, sides[1].name, bm, sides[0].name, ac,
				 sides[1].name, bc);
			give_up(text);
		}
	}
}

/* What utimensat() set must be what stat() shows, to the nanosecond. */
static void compare_set_times(const struct step *s)
{
	const struct stat *a = &sides[0].after[0].st, *b = &sides[1].after[0].st;

	if (s->op != OP_UTIMENS || sides[0].res.ret != 0 || !sides[0].after[0].ok)
		return;
	if (S_ISLNK(a->st_mode) && !s->flags)
		return;
	if (s->ts[0].tv_nsec < 1000000000 && moved(a->st_atim, b->st_atim))
		give_up("atime is not what was set");
	if (s->ts[1].tv_nsec < 1000000000 && moved(a->st_mtim, b->st_mtim))
		give_up("mtime is not what was set");
}

static void one_step(const struct step *s)
{
	for (int i = 0; i < 2; i++)
		look(&sides[i], s, sides[i].before);
	if (s->times)
		sleep_ms(11); /* longer than a tick of the clock that stamps files */
	for (int i = 0; i < 2; i++) {
		perform(&sides[i], s);
		look(&sides[i], s, sides[i].after);
	}
	explain(history[done_ops % HISTORY], s);
	if (verbose)
		printf("%s\n", history[done_ops % HISTORY]);
	if (sides[0].res.ret != sides[1].res.ret || sides[0].res.err != sides[1].res.err)
		give_up("the results differ");
	if (sides[0].res.hash != sides[1].res.hash)
		give_up("what was read differs");
	compare_seen(s);
	compare_set_times(s);
}

/* ---- whole trees ---- */

static struct {
	ino_t a, b;
} * pairs;
static size_t npairs;

/* Two names of one inode on one side must be two names of one inode on the other. */
static bool same_links(ino_t a, ino_t b)
{
	void *more;

	for (size_t i = 0; i < npairs; i++)
		if (pairs[i].a == a || pairs[i].b == b)
			return pairs[i].a == a && pairs[i].b == b;
	more = realloc(pairs, (npairs + 1) * sizeof(*pairs));
	if (!more)
		die("out of memory");
	pairs = more;
	pairs[npairs].a = a;
	pairs[npairs++].b = b;
	return true;
}

static const char *compare_content(const char *path, off_t size)
{
	int fa = openat(sides[0].root, path, O_RDONLY), fb = openat(sides[1].root, path, O_RDONLY);
	const char *bad = fa < 0 || fb < 0 ? "opening" : NULL;

	for (off_t off = 0; !bad && off < size; off += 4 * MIB) {
		ssize_t a = pread(fa, big, 4 * MIB, off),
			b = pread(fb, big + 4 * MIB, 4 * MIB, off);

		if (a != b || (a > 0 && memcmp(big, big + 4 * MIB, (size_t)a) != 0))
			bad = "content";
	}
	if (fa >= 0)
		close(fa);
	if (fb >= 0)
		close(fb);
	return bad;
}

static const char *compare_xattrs(const char *path)
{
	uint64_t h[2];
	long long n[2];

	for (int i = 0; i < 2; i++) {
		char full[2 * PATH_ROOM + 2], list[8192], value[4096];
		ssize_t len;

		h[i] = 1;
		snprintf(full, sizeof(full), "%s/%s", sides[i].path, path);
		n[i] = do_listxattr(full, &h[i]);
		len = llistxattr(full, list, sizeof(list));
		for (ssize_t k = 0; k < len; k += (ssize_t)strlen(list + k) + 1) {
			ssize_t v = lgetxattr(full, list + k, value, sizeof(value));

			/* The order may differ: a sum. */
			if (strncmp(list + k, "user.", 5) == 0)
				h[i] += hash_bytes(value, v > 0 ? (size_t)v : 0,
						   hash_bytes(list + k, strlen(list + k), 1));
		}
	}
	return n[0] != n[1] || h[0] != h[1] ? "xattrs" : NULL;
}

static void compare_tree(const char *dir, int depth)
{
	struct names l[2] = { { 0 } };
	char text[PATH_ROOM + 200];

	for (int i = 0; i < 2; i++)
		if (list_dir(sides[i].root, dir, &l[i]) < 0)
			give_up("a directory cannot be listed");
	for (size_t i = 0; i < MAX(l[0].n, l[1].n); i++) {
		const char *a = i < l[0].n ? l[0].v[i] : "(nothing)";
		const char *b = i < l[1].n ? l[1].v[i] : "(nothing)";
		char path[PATH_ROOM], t[2][PATH_ROOM] = { "", "" };
		struct stat sa, sb;
		const char *bad = NULL;

		if (strcmp(a, b) != 0) {
			snprintf(text, sizeof(text),
				 "listings of '%.500s' differ: '%.300s' and '%.300s'", dir, a, b);
			give_up(text);
		}
		if (strcmp(a + 3, ".") == 0 || strcmp(a + 3, "..") == 0)
			continue;
		snprintf(path, sizeof(path), "%.1100s%s%.255s", dir, *dir ? "/" : "", a + 3);
		if (fstatat(sides[0].root, path, &sa, AT_SYMLINK_NOFOLLOW) < 0 ||
		    fstatat(sides[1].root, path, &sb, AT_SYMLINK_NOFOLLOW) < 0)
			bad = "stat";
		else
			bad = compare_attr(&sa, &sb);
		if (!bad && !same_links(sa.st_ino, sb.st_ino))
			bad = "which names are links of one file";
		if (!bad && S_ISREG(sa.st_mode))
			bad = compare_content(path, sa.st_size);
		if (!bad && S_ISLNK(sa.st_mode)) {
			for (int k = 0; k < 2; k++)
				if (readlinkat(sides[k].root, path, t[k], PATH_ROOM - 1) < 0)
					bad = "readlink";
			bad = strcmp(t[0], t[1]) != 0 ? "link target" : bad;
		}
		if (!bad)
			bad = compare_xattrs(path);
		if (bad) {
			snprintf(text, sizeof(text), "whole tree: '%.600s' differs in: %s", path,
				 bad);
			give_up(text);
		}
		if (S_ISDIR(sa.st_mode) && depth < 20)
			compare_tree(path, depth + 1);
	}
	names_free(&l[0]);
	names_free(&l[1]);
}

static void open_roots(void)
{
	for (int i = 0; i < 2; i++) {
		sides[i].root = open(sides[i].path, O_RDONLY | O_DIRECTORY);
		if (sides[i].root < 0)
			die("%s", sides[i].path);
	}
}

static void close_all(void)
{
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < SLOTS; k++) {
			if (sides[i].fd[k] >= 0 && close(sides[i].fd[k]) < 0)
				give_up("close failed");
			sides[i].fd[k] = -1;
		}
		close(sides[i].root);
		sides[i].root = -1;
	}
}

/* What not every pair of file systems has is left out. */
static void probe(void)
{
	have_tmpfile = have_zero_range = true;
	for (int i = 0; i < 2; i++) {
		int fd = openat(sides[i].root, ".", O_TMPFILE | O_RDWR, 0600);

		have_tmpfile = have_tmpfile && fd >= 0;
		if (fd >= 0)
			close(fd);
		fd = openat(sides[i].root, "probe", O_CREAT | O_RDWR, 0600);
		if (fd < 0)
			die("%s: cannot make a file", sides[i].path);
		/* The judge must be able to; the other side then has no excuse. */
		if (i == 0)
			have_zero_range = fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, 1) == 0;
		close(fd);
		unlinkat(sides[i].root, "probe", 0);
	}
	if (!have_tmpfile)
		printf("# O_TMPFILE is not on both sides and is left out\n");
}

static void run_one(uint64_t seed, uint64_t count, uint64_t every)
{
	struct rng r = { seed };
	static struct step s;

	seed_used = seed;
	big = xalloc(BIG);
	open_roots();
	probe();
	for (int i = 0; i < 2; i++)
		for (int k = 0; k < SLOTS; k++)
			sides[i].fd[k] = -1;
	for (done_ops = 0; done_ops < count; done_ops++) {
		history[done_ops % HISTORY][0] = '\0';
		do
			make_step(&r, &s);
		while (!possible(&s));
		one_step(&s);
		if ((done_ops + 1) % every == 0) {
			npairs = 0;
			compare_tree("", 0);
			if (can_remount()) {
				close_all();
				remount();
				open_roots();
				npairs = 0;
				compare_tree("", 0);
			}
		}
	}
	close_all();
	open_roots();
	npairs = 0;
	compare_tree("", 0);
}

static void make_roots(const char *const *dirs, uint64_t seed, unsigned i)
{
	for (int k = 0; k < 2; k++) {
		snprintf(sides[k].path, sizeof(sides[k].path), "%s/difftest.%d.%llu.%u", dirs[k],
			 (int)getpid(), (unsigned long long)(seed % 1000000), i);
		sides[k].name = k ? "B" : "A";
		if (mkdir(sides[k].path, 0777) < 0 || chmod(sides[k].path, 0777) < 0)
			die("%s", sides[k].path);
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },    { "ops", 1, NULL, 'o' },  { "threads", 1, NULL, 't' },
		{ "users", 0, NULL, 'u' },   { "tree", 1, NULL, 'e' }, { "no-times", 0, NULL, 'n' },
		{ "verbose", 0, NULL, 'v' }, { NULL, 0, NULL, 0 }
	};
	uint64_t seed = (uint64_t)time(NULL), count = 3000, every = 500;
	unsigned procs = 1, bad = 0;
	pid_t pids[64];
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 's':
			seed = number(optarg);
			break;
		case 'o':
			count = number(optarg);
			break;
		case 't':
			procs = (unsigned)MIN(number(optarg), 64);
			break;
		case 'u':
			with_users = true;
			break;
		case 'e':
			every = MAX(number(optarg), 1);
			break;
		case 'n':
			with_times = false;
			break;
		case 'v':
			verbose = true;
			break;
		default:
			return 64;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: difftest [--seed N] [--ops N] [--threads N] [--users] "
				"DIR_A DIR_B\n");
		return 64;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN); /* fifos */
	umask(0022);
	if (with_users && (geteuid() != 0 || setgroups(0, NULL) < 0))
		die("--users needs root");
	printf("difftest: seed %llu, %llu operations\n", (unsigned long long)seed,
	       (unsigned long long)count);
	for (unsigned i = 0; i < procs; i++) {
		make_roots((const char *const *)argv + optind, seed, i);
		fflush(stdout);
		pids[i] = procs == 1 ? 0 : fork();
		if (pids[i] == 0) {
			run_one(seed + i, count, every);
			if (procs > 1)
				_exit(0);
		}
	}
	for (unsigned i = 0; procs > 1 && i < procs; i++)
		bad |= (unsigned)wait_for(pids[i]);
	if (bad == 0)
		printf("difftest: seed %llu: alike\n", (unsigned long long)seed);
	return (int)(bad ? 1 : 0);
}
