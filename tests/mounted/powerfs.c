/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powerfs BACKING MOUNTPOINT LOG: the directory BACKING through FUSE, with every change of it recorded in LOG (see powerlog.h), from
 * which powercut makes what a disk could hold had the power failed at some moment. Runs in the foreground until unmounted.
 *
 *	--delay USEC  an fsync takes up to so long (default 2000); what is written meanwhile it does not cover
 *	--nosync      no fsync is recorded, as if the disk lied: what relies on it must then be seen to fail
 *
 * One lock is held over each change and its record, so that the log has the order in which things happened. Nothing is really synced: that the process
 * is alive is enough here. Locks and shared mappings are the kernel's own; there is one kernel, so they hold among all processes. O_DIRECT
 * ends here: the backing file is written through the page cache. The kernel does not pass syncfs() to such a file system (only to one over a block
 * device, or virtiofs), and programs can see that it is FUSE: powerrun runs them so that they do not.
 */
#define FUSE_USE_VERSION 314
#include "powerlog.h"
#include <dirent.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <getopt.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { BUCKETS = 4096 };

static const double FOREVER_S = 86400;

struct node {
	struct node *next; /* of the same bucket, while it has a name */
	uint64_t id;
	ino_t ino;
	int fd; /* O_PATH */
	uint64_t lookups;
	bool named;
};

/* All below needs mu. */
static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct node *buckets[BUCKETS];
static struct node root = { .id = POWER_ROOT };
static uint64_t next_id = POWER_ROOT + 1, records;
static int64_t last_stamp;
static FILE *out;
static struct rng dice = { 1 };

static bool nosync;
static uint64_t delay_us = 2000;

static struct node *node_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? &root : (struct node *)(uintptr_t)ino;
}

static void record(enum power_op op, uint64_t ino, uint64_t a, uint64_t b, const void *p, size_t n)
{
	static const char fill[8];
	struct power_rec r = { .op = op, .n = (uint32_t)n, .ino = ino, .a = a, .b = b };

	last_stamp = MAX(last_stamp + 1, now_ns());
	r.stamp_ns = last_stamp;
	if (fwrite(&r, sizeof(r), 1, out) != 1 || (n && fwrite(p, 1, n, out) != n) ||
	    fwrite(fill, 1, power_filled(n) - n, out) != power_filled(n) - n)
		die("the log");
	records++;
}

static void record_name(enum power_op op, uint64_t ino, uint64_t a, uint64_t b, const char *name)
{
	record(op, ino, a, b, name, strlen(name));
}

static void lock(void)
{
	pthread_mutex_lock(&mu);
}

static void unlock(void)
{
	pthread_mutex_unlock(&mu);
}

/* Sends 0 or the errno of @r. */
static void reply(fuse_req_t req, int r)
{
	fuse_reply_err(req, r < 0 ? errno : 0);
}

static void self_path(char out_path[40], int fd)
{
	snprintf(out_path, 40, "/proc/self/fd/%d", fd);
}

/* ---- nodes ---- */

static struct node **bucket_of(ino_t ino)
{
	return &buckets[mix(ino) % BUCKETS];
}

static struct node *node_add(int fd, ino_t ino)
{
	struct node *n = xalloc(sizeof(*n)), **b = bucket_of(ino);

	*n = (struct node){ *b, next_id++, ino, fd, 0, true };
	*b = n;
	return n;
}

/* The node of that name, made when it is new: @made then. NULL with errno. */
static struct node *node_at(struct node *parent, const char *name, struct stat *st, bool *made)
{
	int fd = openat(parent->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct node *n;

	*made = false;
	if (fd < 0)
		return NULL;
	if (fstat(fd, st) < 0) {
		close(fd);
		return NULL;
	}
	for (n = *bucket_of(st->st_ino); n; n = n->next) {
		if (n->ino == st->st_ino) {
			close(fd);
			return n;
		}
	}
	*made = true;
	return node_add(fd, st->st_ino);
}

static void node_unname(struct node *n)
{
	struct node **pp = bucket_of(n->ino);

	while (*pp != n)
		pp = &(*pp)->next;
	*pp = n->next;
	n->named = false;
}

static void node_free(struct node *n)
{
	if (!n->named && n->lookups == 0) {
		close(n->fd);
		free(n);
	}
}

/* After a name of @n went: was it the last one? */
static void node_lost_name(struct node *n)
{
	struct stat st;

	if (fstat(n->fd, &st) == 0 && !S_ISDIR(st.st_mode) && st.st_nlink > 0)
		return;
	node_unname(n);
	node_free(n);
}

static void entry_of(struct node *n, const struct stat *st, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = (uintptr_t)n,
		.attr = *st,
		.attr_timeout = FOREVER_S,
		.entry_timeout = FOREVER_S,
	};
	n->lookups++;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	struct stat st;
	struct node *n;
	bool made;

	lock();
	n = node_at(node_of(parent), name, &st, &made);
	if (n)
		entry_of(n, &st, &e);
	unlock();
	if (n)
		fuse_reply_entry(req, &e);
	else
		reply(req, -1);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	lock();
	node_of(ino)->lookups -= nlookup;
	if (ino != FUSE_ROOT_ID)
		node_free(node_of(ino));
	unlock();
	fuse_reply_none(req);
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st;

	(void)fi;
	if (fstat(node_of(ino)->fd, &st) < 0)
		reply(req, -1);
	else
		fuse_reply_attr(req, &st, FOREVER_S);
}

static int set_times(const char *path, const struct stat *attr, int set)
{
	struct timespec t[2] = { { 0, UTIME_OMIT }, { 0, UTIME_OMIT } };

	if (set & FUSE_SET_ATTR_ATIME)
		t[0] = attr->st_atim;
	if (set & FUSE_SET_ATTR_MTIME)
		t[1] = attr->st_mtim;
	if (set & FUSE_SET_ATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	if (set & FUSE_SET_ATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	return utimensat(AT_FDCWD, path, t, 0);
}

static int set_attr(struct node *n, const struct stat *attr, int set)
{
	char path[40];
	int r = 0;

	self_path(path, n->fd);
	if (set & FUSE_SET_ATTR_MODE) {
		r = chmod(path, attr->st_mode);
		if (r == 0)
			record(POWER_MODE, n->id, attr->st_mode & 07777, 0, NULL, 0);
	}
	if (r == 0 && (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)))
		r = chown(path, set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1,
			  set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1);
	if (r == 0 && (set & FUSE_SET_ATTR_SIZE)) {
		r = truncate(path, attr->st_size);
		if (r == 0)
			record(POWER_SIZE, n->id, (uint64_t)attr->st_size, 0, NULL, 0);
	}
	if (r == 0 && (set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)))
		r = set_times(path, attr, set);
	return r;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		       struct fuse_file_info *fi)
{
	int r, err;

	lock();
	r = set_attr(node_of(ino), attr, set);
	err = errno;
	unlock();
	errno = err;
	if (r < 0)
		reply(req, r);
	else
		op_getattr(req, ino, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	if (fstatvfs(root.fd, &st) < 0)
		reply(req, -1);
	else
		fuse_reply_statfs(req, &st);
}

/* ---- names ---- */

static int open_node(struct node *n, int flags)
{
	char path[40];

	self_path(path, n->fd);
	return open(path, (flags & ~(O_DIRECT | O_APPEND | O_SYNC | O_DSYNC | O_TRUNC | O_CREAT |
				     O_EXCL | O_NOFOLLOW)) |
				  O_CLOEXEC);
}

/* Any kind of file. @opened: also opens it. */
static void make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev,
		 struct fuse_file_info *opened)
{
	struct node *dir = node_of(parent), *n = NULL;
	struct fuse_entry_param e;
	struct stat st;
	bool made;
	int r, err;

	lock();
	r = S_ISDIR(mode) ? mkdirat(dir->fd, name, mode) : mknodat(dir->fd, name, mode, dev);
	if (r == 0)
		n = node_at(dir, name, &st, &made);
	if (n && opened) {
		r = open_node(n, opened->flags);
		opened->fh = (uint64_t)r;
		opened->keep_cache = true;
	}
	if (n) {
		record_name(POWER_CREATE, n->id, dir->id, st.st_mode, name);
		entry_of(n, &st, &e);
	}
	err = errno;
	unlock();
	errno = err;
	if (!n || r < 0)
		reply(req, -1);
	else if (opened)
		fuse_reply_create(req, &e, opened);
	else
		fuse_reply_entry(req, &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	make(req, parent, name, S_IFDIR | mode, 0, NULL);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	make(req, parent, name, mode, dev, NULL);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	make(req, parent, name, S_IFREG | mode, 0, fi);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct node *n = node_of(ino), *dir = node_of(parent);
	struct fuse_entry_param e;
	struct stat st;
	char path[40];
	int r, err;

	self_path(path, n->fd);
	lock();
	r = linkat(AT_FDCWD, path, dir->fd, name, AT_SYMLINK_FOLLOW);
	if (r == 0) {
		record_name(POWER_LINK, n->id, dir->id, 0, name);
		r = fstat(n->fd, &st);
	}
	if (r == 0)
		entry_of(n, &st, &e);
	err = errno;
	unlock();
	errno = err;
	if (r < 0)
		reply(req, r);
	else
		fuse_reply_entry(req, &e);
}

static void take_name(fuse_req_t req, fuse_ino_t parent, const char *name, int flags)
{
	struct node *dir = node_of(parent), *n;
	struct stat st;
	bool made;
	int r, err;

	lock();
	n = node_at(dir, name, &st, &made);
	r = n ? unlinkat(dir->fd, name, flags) : -1;
	err = errno;
	if (r == 0) {
		record_name(POWER_UNLINK, n->id, dir->id, 0, name);
		node_lost_name(n);
	}
	unlock();
	errno = err;
	reply(req, r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	take_name(req, parent, name, 0);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	take_name(req, parent, name, AT_REMOVEDIR);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	struct node *from = node_of(parent), *to = node_of(newparent), *old;
	char names[2 * 256 + 2];
	struct stat st;
	bool made;
	int r, err, n;

	lock();
	old = node_at(to, newname, &st, &made);
	r = renameat2(from->fd, name, to->fd, newname, flags);
	err = errno;
	if (r == 0) {
		n = snprintf(names, sizeof(names), "%s%c%s", name, 0, newname);
		record(POWER_RENAME, flags, from->id, to->id, names, (size_t)n);
		if (old && !(flags & RENAME_EXCHANGE))
			node_lost_name(old);
	}
	unlock();
	errno = err;
	reply(req, r);
}

/* ---- files ---- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd = open_node(node_of(ino), fi->flags);

	if (fd < 0) {
		reply(req, fd);
		return;
	}
	fi->fh = (uint64_t)fd;
	fi->keep_cache = true; /* nobody changes the backing directory but us */
	fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	reply(req, close((int)fi->fh));
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	char *p = malloc(size);
	ssize_t n = p ? pread((int)fi->fh, p, size, off) : -1;

	(void)ino;
	if (n < 0)
		reply(req, -1);
	else
		fuse_reply_buf(req, p, (size_t)n);
	free(p);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	int r, err;

	lock();
	/* Where a mapping is written back the descriptor may be one of a reader. */
	if (fi->writepage) {
		int fd = open_node(node_of(ino), O_WRONLY);

		r = fd < 0 ? -1 : pwrite_all(fd, p, size, off);
		close(fd);
	} else {
		r = pwrite_all((int)fi->fh, p, size, off);
	}
	err = errno;
	if (r == 0)
		record(POWER_WRITE, node_of(ino)->id, (uint64_t)off, 0, p, size);
	unlock();
	errno = err;
	if (r < 0)
		reply(req, r);
	else
		fuse_reply_write(req, size);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	uint64_t id = node_of(ino)->id, end = (uint64_t)off + (uint64_t)len;
	struct stat before, after;
	int r, err;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	lock();
	r = fstat((int)fi->fh, &before);
	if (r == 0)
		r = fallocate((int)fi->fh, mode, off, len);
	if (r == 0)
		r = fstat((int)fi->fh, &after);
	err = errno;
	/* Blocks that are only reserved make no difference to what is read. */
	if (r == 0 && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		record(POWER_ZERO, id, (uint64_t)off, end - (uint64_t)off, NULL, 0);
	if (r == 0 && after.st_size != before.st_size)
		record(POWER_SIZE, id, (uint64_t)after.st_size, 0, NULL, 0);
	unlock();
	errno = err;
	reply(req, r);
}

/* ---- durability ---- */

static void sync_one(fuse_req_t req, uint64_t id, enum power_op op)
{
	uint64_t covered, us;

	lock();
	covered = records;
	us = below(&dice, delay_us + 1);
	unlock();
	if (us) {
		struct timespec t = { (time_t)(us / 1000000), (long)(us % 1000000) * 1000 };

		nanosleep(&t, NULL);
	}
	lock();
	if (!nosync)
		record(op, id, covered, 0, NULL, 0);
	unlock();
	if (op == POWER_SYNC_ALL)
		fuse_reply_ioctl(req, 0, NULL, 0);
	else
		reply(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)fi;
	(void)datasync; /* without its size data cannot be read, and there is nothing else here */
	sync_one(req, node_of(ino)->id, POWER_SYNC);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		     struct fuse_file_info *fi, unsigned flags, const void *in, size_t in_n,
		     size_t out_n)
{
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in;
	(void)in_n;
	(void)out_n;
	if (cmd == POWER_IOC_SYNCFS)
		sync_one(req, node_of(ino)->id, POWER_SYNC_ALL);
	else
		fuse_reply_err(req, ENOTTY);
}

/* ---- directories ---- */

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	int fd = openat(node_of(ino)->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		reply(req, -1);
		return;
	}
	fi->fh = (uint64_t)(uintptr_t)d;
	fuse_reply_open(req, fi);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	reply(req, closedir((DIR *)(uintptr_t)fi->fh));
}

/* The kernel lets one thread at a time read by a descriptor. */
static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	DIR *d = (DIR *)(uintptr_t)fi->fh;
	char *buf = xalloc(size);
	struct dirent *e;
	size_t used = 0;

	(void)ino;
	seekdir(d, off);
	while ((e = readdir(d))) {
		struct stat st = { .st_ino = e->d_ino, .st_mode = (mode_t)e->d_type << 12 };
		size_t n =
			fuse_add_direntry(req, buf + used, size - used, e->d_name, &st, telldir(d));

		if (n > size - used)
			break;
		used += n;
	}
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	(void)arg;
	/* Truncating shall come as a truncation; what is cached is right. */
	conn->want &= ~(unsigned)(FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
				  FUSE_CAP_WRITEBACK_CACHE);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.mkdir = op_mkdir,
	.mknod = op_mknod,
	.create = op_create,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.open = op_open,
	.release = op_release,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
	.ioctl = op_ioctl,
	.opendir = op_opendir,
	.releasedir = op_releasedir,
	.readdir = op_readdir,
};

/* Gives what is there a number. */
static void record_tree(struct node *dir, const char *path)
{
	int fd = openat(dir->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d)
		die("the directory '%s' of BACKING", path);
	while ((e = readdir(d))) {
		char below_it[4096];
		struct stat st;
		struct node *n;
		bool made;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		snprintf(below_it, sizeof(below_it), "%s%s%s", path, *path ? "/" : "", e->d_name);
		n = node_at(dir, e->d_name, &st, &made);
		if (!n || (!made && !S_ISREG(st.st_mode)))
			die("'%s' in BACKING", below_it);
		record_name(POWER_BASE, n->id, st.st_mode, 0, below_it);
		if (S_ISDIR(st.st_mode))
			record_tree(n, below_it);
	}
	closedir(d);
}

static int serve(const char *mountpoint)
{
	char *argv[] = {
		(char[]){ "powerfs" },
		(char[]){ "-ofsname=powerfs,subtype=powerfs,allow_other,default_permissions" }, NULL
	};
	struct fuse_args args = FUSE_ARGS_INIT(2, argv);
	struct fuse_session *se = fuse_session_new(&args, &ops, sizeof(ops), NULL);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r = 2;

	if (!se || fuse_set_signal_handlers(se) < 0)
		return 2;
	if (fuse_session_mount(se, mountpoint) == 0) {
		r = fuse_session_loop_mt(se, config) ? 2 : 0;
		fuse_session_unmount(se);
	}
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	fuse_loop_cfg_destroy(config);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "delay", 1, NULL, 'd' },
					       { "nosync", 0, NULL, 'n' },
					       { NULL, 0, NULL, 0 } };
	struct rlimit files;
	int r, c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'd')
			delay_us = number(optarg);
		else if (c == 'n')
			nosync = true;
		else
			return 64;
	}
	if (argc - optind != 3) {
		fprintf(stderr,
			"usage: powerfs [--delay USEC] [--nosync] BACKING MOUNTPOINT LOG\n");
		return 64;
	}
	umask(0);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	root.fd = open(argv[optind], O_PATH | O_DIRECTORY | O_CLOEXEC);
	out = fopen(argv[optind + 2], "wbe");
	if (root.fd < 0 || !out)
		die("%s or %s", argv[optind], argv[optind + 2]);
	setvbuf(out, NULL, _IOFBF, 4 * MIB);
	record_tree(&root, "");
	r = serve(argv[optind + 1]);
	if (fclose(out) != 0)
		die("the log");
	return r;
}
