/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memfs [-Prb] [-p MiB] MOUNTPOINT: the least a FUSE file system can do, as the ceiling of `make bench`: all in memory that was
 * touched beforehand, libfuse's low-level operations and its own loop over /dev/fuse, no metadata store, no checksums, no locks
 * worth the name. What it does not need for the bench it does not have. Runs in the foreground until unmounted.
 *
 *	-P	the kernel checks permissions, which costs a GETATTR of the directory after every change of it
 *	-r	requests over io_uring (Kiseki's transport)
 *	-b	direct I/O on write-only opens, no FLUSH: with -r the best one can ask for
 */
#define FUSE_USE_VERSION 314
#include "fuse/uring.h"
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static bool rings, best;
static struct ks_uring *ring;

enum { PIECE = 128 << 10, BUCKETS = 1 << 20, PIECES_MAX = 10 };

struct node {
	struct stat st;
	char **pieces; /* of a file */
	size_t npieces;
	struct entry **slots; /* of a directory; the cookie is the slot + 1 */
	size_t nslots, room, live;
	unsigned int opened;
};

struct entry {
	struct entry *next; /* of the same bucket */
	fuse_ino_t parent, ino;
	size_t slot;
	uint64_t hash;
	char name[];
};

static pthread_mutex_t mu = PTHREAD_MUTEX_INITIALIZER;
static struct node **nodes; /* by inode number */
static size_t nnodes = 1, node_room;
static struct entry **buckets;
static char *pool;
static char **unused; /* pieces given back */
static size_t pool_pieces, pool_next, nunused;
static char zeros[PIECE];

static void *need(void *p)
{
	if (!p) {
		fputs("memfs: out of memory\n", stderr);
		exit(1);
	}
	return p;
}

static uint64_t hash_of(fuse_ino_t parent, const char *name)
{
	uint64_t h = parent * 0x9e3779b97f4a7c15ull ^ 0xcbf29ce484222325ull;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
	return h ^ h >> 29;
}

/* Where the pointer to the entry is, or would be. */
static struct entry **find(fuse_ino_t parent, const char *name)
{
	uint64_t h = hash_of(parent, name);
	struct entry **e = &buckets[h % BUCKETS];

	while (*e && ((*e)->hash != h || (*e)->parent != parent || strcmp((*e)->name, name) != 0))
		e = &(*e)->next;
	return e;
}

static void touch(struct node *n)
{
	clock_gettime(CLOCK_REALTIME_COARSE, &n->st.st_mtim);
	n->st.st_ctim = n->st.st_mtim;
}

static struct node *node_new(mode_t mode)
{
	struct node *n = need(calloc(1, sizeof(*n)));

	if (nnodes >= node_room) {
		node_room = node_room ? 2 * node_room : 1024;
		nodes = need(realloc(nodes, node_room * sizeof(struct node *)));
	}
	n->st.st_ino = nnodes;
	n->st.st_mode = mode;
	n->st.st_nlink = S_ISDIR(mode) ? 2 : 1;
	n->st.st_blksize = 4096;
	touch(n);
	n->st.st_atim = n->st.st_mtim;
	nodes[nnodes++] = n;
	return n;
}

static void entry_add(fuse_ino_t parent, const char *name, fuse_ino_t ino)
{
	size_t len = strlen(name) + 1;
	struct entry *e = need(malloc(sizeof(*e) + len));
	struct node *dir = nodes[parent];
	uint64_t h = hash_of(parent, name);

	if (dir->nslots == dir->room) {
		dir->room = dir->room ? 2 * dir->room : 16;
		dir->slots = need(realloc(dir->slots, dir->room * sizeof(struct entry *)));
	}
	*e = (struct entry){ buckets[h % BUCKETS], parent, ino, dir->nslots, h };
	memcpy(e->name, name, len);
	buckets[h % BUCKETS] = e;
	dir->slots[dir->nslots++] = e;
	dir->live++;
	touch(dir);
}

static void entry_del(struct entry **at)
{
	struct entry *e = *at;
	struct node *dir = nodes[e->parent];

	dir->slots[e->slot] = NULL;
	if (--dir->live == 0)
		dir->nslots = 0;
	touch(dir);
	*at = e->next;
	free(e);
}

static char *piece_new(void)
{
	if (nunused)
		return unused[--nunused];
	return pool_next < pool_pieces ? pool + PIECE * pool_next++ : NULL;
}

static void cut(struct node *n, size_t size)
{
	for (size_t i = (size + PIECE - 1) / PIECE; i < n->npieces; i++) {
		if (n->pieces[i])
			unused[nunused++] = n->pieces[i];
		n->pieces[i] = NULL;
	}
	n->st.st_size = (off_t)size;
}

static void drop_if_dead(struct node *n)
{
	if (n->st.st_nlink == 0 && n->opened == 0) {
		cut(n, 0);
		free(n->pieces);
		n->pieces = NULL;
		n->npieces = 0;
	}
}

/* The pieces that hold [off, off + size), made if missing. @out holds PIECES_MAX. */
static int pieces_for(struct node *n, size_t off, size_t size, char **out)
{
	size_t first = off / PIECE, last = (off + size - 1) / PIECE;

	if (last >= n->npieces) {
		size_t room = last + 1 > 2 * n->npieces ? last + 1 : 2 * n->npieces;

		n->pieces = need(realloc(n->pieces, room * sizeof(char *)));
		memset(n->pieces + n->npieces, 0, (room - n->npieces) * sizeof(char *));
		n->npieces = room;
	}
	for (size_t i = first; i <= last; i++) {
		if (!n->pieces[i])
			n->pieces[i] = piece_new();
		if (!n->pieces[i])
			return ENOSPC;
		out[i - first] = n->pieces[i];
	}
	return 0;
}

/* ---- operations ---- */

static void fill(struct node *n, struct fuse_entry_param *e)
{
	*e = (struct fuse_entry_param){
		.ino = n->st.st_ino, .attr = n->st, .attr_timeout = 1, .entry_timeout = 1
	};
	e->attr.st_blocks = (n->st.st_size + 511) / 512;
}

static void op_init(void *arg, struct fuse_conn_info *c)
{
	(void)arg;
	c->max_write = 1 << 20;
	c->want &= ~(unsigned)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	struct entry *d;

	pthread_mutex_lock(&mu);
	d = *find(parent, name);
	if (d)
		fill(nodes[d->ino], &e);
	pthread_mutex_unlock(&mu);
	if (d)
		fuse_reply_entry(req, &e);
	else
		fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	(void)fi;
	pthread_mutex_lock(&mu);
	fill(nodes[ino], &e);
	pthread_mutex_unlock(&mu);
	fuse_reply_attr(req, &e.attr, 1);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int what,
		       struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct node *n;

	(void)fi;
	pthread_mutex_lock(&mu);
	n = nodes[ino];
	if (what & FUSE_SET_ATTR_MODE)
		n->st.st_mode = (n->st.st_mode & S_IFMT) | (st->st_mode & 07777);
	if (what & FUSE_SET_ATTR_SIZE)
		cut(n, (size_t)st->st_size);
	if (what & FUSE_SET_ATTR_MTIME)
		n->st.st_mtim = st->st_mtim;
	fill(n, &e);
	pthread_mutex_unlock(&mu);
	fuse_reply_attr(req, &e.attr, 1);
}

/* A new entry; NULL and the reply sent when the name is taken. */
static struct node *add(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			struct fuse_entry_param *e, bool open)
{
	struct node *n = NULL;

	pthread_mutex_lock(&mu);
	if (!*find(parent, name)) {
		n = node_new(mode);
		entry_add(parent, name, n->st.st_ino);
		n->opened = open;
		fill(n, e);
	}
	pthread_mutex_unlock(&mu);
	if (!n)
		fuse_reply_err(req, EEXIST);
	return n;
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	struct fuse_entry_param e;

	(void)dev;
	if (add(req, parent, name, mode, &e, false))
		fuse_reply_entry(req, &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, S_IFDIR | (mode & 07777), 0);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fuse_entry_param e;

	fi->direct_io = best && (fi->flags & O_ACCMODE) == O_WRONLY;
	if (add(req, parent, name, S_IFREG | (mode & 07777), &e, true))
		fuse_reply_create(req, &e, fi);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct entry **e;
	int err = ENOENT;

	pthread_mutex_lock(&mu);
	e = find(parent, name);
	if (*e) {
		struct node *n = nodes[(*e)->ino];

		err = S_ISDIR(n->st.st_mode) && n->live ? ENOTEMPTY : 0;
		if (!err) {
			entry_del(e);
			n->st.st_nlink = S_ISDIR(n->st.st_mode) ? 0 : n->st.st_nlink - 1;
			drop_if_dead(n);
		}
	}
	pthread_mutex_unlock(&mu);
	fuse_reply_err(req, err);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	struct entry **e, **old;
	int err = ENOENT;

	(void)flags;
	pthread_mutex_lock(&mu);
	e = find(parent, name);
	if (*e) {
		fuse_ino_t ino = (*e)->ino;

		err = 0;
		entry_del(e);
		old = find(newparent, newname);
		if (*old) {
			struct node *n = nodes[(*old)->ino];

			entry_del(old);
			n->st.st_nlink--;
			drop_if_dead(n);
		}
		entry_add(newparent, newname, ino);
	}
	pthread_mutex_unlock(&mu);
	fuse_reply_err(req, err);
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	pthread_mutex_lock(&mu);
	nodes[ino]->opened++;
	pthread_mutex_unlock(&mu);
	fi->direct_io = best && (fi->flags & O_ACCMODE) == O_WRONLY;
	fuse_reply_open(req, fi);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	pthread_mutex_lock(&mu);
	nodes[ino]->opened--;
	drop_if_dead(nodes[ino]);
	pthread_mutex_unlock(&mu);
	fuse_reply_err(req, 0);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	/* ENOSYS: the kernel does not ask again. */
	fuse_reply_err(req, best ? ENOSYS : 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)datasync;
	(void)ino;
	(void)fi;
	fuse_reply_err(req, 0);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		    struct fuse_file_info *fi)
{
	struct iovec v[PIECES_MAX];
	struct node *n;
	int nv = 0;

	(void)fi;
	pthread_mutex_lock(&mu);
	n = nodes[ino];
	size = off >= n->st.st_size                   ? 0
	       : (size_t)(n->st.st_size - off) < size ? (size_t)(n->st.st_size - off)
						      : size;
	for (size_t done = 0; done < size && nv < PIECES_MAX; nv++) {
		size_t at = (size_t)off + done, in = at % PIECE;
		size_t len = PIECE - in < size - done ? PIECE - in : size - done;
		char *p = at / PIECE < n->npieces ? n->pieces[at / PIECE] : NULL;

		v[nv] = (struct iovec){ p ? p + in : zeros, len };
		done += len;
	}
	pthread_mutex_unlock(&mu);
	fuse_reply_iov(req, v, nv);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *buf, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	char *p[PIECES_MAX];
	struct node *n;
	int err;

	(void)fi;
	pthread_mutex_lock(&mu);
	n = nodes[ino];
	err = pieces_for(n, (size_t)off, size, p);
	pthread_mutex_unlock(&mu);
	if (err) {
		fuse_reply_err(req, err);
		return;
	}
	for (size_t done = 0; done < size;) {
		size_t at = (size_t)off + done, in = at % PIECE;
		size_t len = PIECE - in < size - done ? PIECE - in : size - done;

		memcpy(p[at / PIECE - (size_t)off / PIECE] + in, buf + done, len);
		done += len;
	}
	pthread_mutex_lock(&mu);
	if (off + (off_t)size > n->st.st_size)
		n->st.st_size = off + (off_t)size;
	touch(n);
	pthread_mutex_unlock(&mu);
	fuse_reply_write(req, size);
}

static void list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
	char *buf = need(malloc(size));
	struct node *dir;
	size_t used = 0;

	pthread_mutex_lock(&mu);
	dir = nodes[ino];
	for (size_t i = (size_t)off; i < dir->nslots; i++) {
		struct fuse_entry_param e;
		size_t len;

		if (!dir->slots[i])
			continue;
		fill(nodes[dir->slots[i]->ino], &e);
		len = plus ? fuse_add_direntry_plus(req, buf + used, size - used,
						    dir->slots[i]->name, &e, (off_t)i + 1)
			   : fuse_add_direntry(req, buf + used, size - used, dir->slots[i]->name,
					       &e.attr, (off_t)i + 1);
		if (len > size - used)
			break;
		used += len;
	}
	pthread_mutex_unlock(&mu);
	fuse_reply_buf(req, buf, used);
	free(buf);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			   struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, size, off, true);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	(void)ino;
	(void)n;
	fuse_reply_none(req);
}

static const struct fuse_lowlevel_ops operations = {
	.init = op_init,
	.lookup = op_lookup,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.create = op_create,
	.unlink = op_unlink,
	.rmdir = op_unlink,
	.rename = op_rename,
	.open = op_open,
	.release = op_release,
	.flush = op_flush,
	.fsync = op_fsync,
	.read = op_read,
	.write = op_write,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.forget = op_forget,
};

static ssize_t ring_read(int fd, void *buf, size_t n, void *userdata)
{
	(void)userdata;
	return ks_uring_read(ring, fd, buf, n);
}

static ssize_t ring_writev(int fd, struct iovec *iov, int n, void *userdata)
{
	(void)userdata;
	return ks_uring_writev(ring, fd, iov, n);
}

/* Off by default; root may turn it on for mounts to come. */
static void offer_rings(void)
{
	int fd = open("/sys/module/fuse/parameters/enable_uring", O_WRONLY);

	if (fd < 0 || write(fd, "Y", 1) < 0)
		perror("memfs: enable_uring");
	close(fd);
}

static void process(void *arg, const struct fuse_buf *buf)
{
	fuse_session_process_buf(arg, buf);
}

static void failed(void *arg)
{
	(void)arg;
	fprintf(stderr, "memfs: io_uring: %s\n", strerror(-ks_uring_error(ring)));
	_exit(1);
}

static int ring_loop(struct fuse_session *se)
{
	static const struct fuse_custom_io io = { .writev = ring_writev, .read = ring_read };
	struct ks_uring_opts o = { .process = process, .failed = failed, .arg = se };
	struct fuse_buf buf = { 0 };
	int r;

	if (ks_uring_new(&ring, se, &o) < 0 ||
	    fuse_session_custom_io(se, &io, fuse_session_fd(se)) < 0)
		return -1;
	while ((r = fuse_session_receive_buf(se, &buf)) > 0 || r == -EINTR) {
		if (r > 0)
			fuse_session_process_buf(se, &buf);
		if (ks_uring_is_refused(ring)) {
			fprintf(stderr, "memfs: no io_uring: %s\n", ks_uring_why_not(ring));
			return -1;
		}
	}
	free(buf.mem);
	return r;
}

static int mt_loop(struct fuse_session *se)
{
	struct fuse_loop_config *cfg = fuse_loop_cfg_create();
	int r = fuse_session_loop_mt(se, cfg);

	fuse_loop_cfg_destroy(cfg);
	return r;
}

int main(int argc, char **argv)
{
	char name[] = "memfs", opt[] = "-o", what[] = "fsname=memfs,subtype=memfs",
	     perm[] = "default_permissions", *words[] = { name, opt, what, opt, perm };
	struct fuse_args args = FUSE_ARGS_INIT(3, words);
	struct fuse_session *se;
	size_t mib = 1600;
	int c, r;

	while ((c = getopt(argc, argv, "Prbp:")) != -1 && c != '?') {
		if (c == 'P')
			args.argc = 5;
		else if (c == 'r')
			rings = true;
		else if (c == 'b')
			best = true;
		else
			mib = strtoul(optarg, NULL, 10);
	}
	if (c != -1 || argc - optind != 1 || mib == 0) {
		fputs("usage: memfs [-Prb] [-p MiB] MOUNTPOINT\n", stderr);
		return 64;
	}
	pool_pieces = (mib << 20) / PIECE;
	pool = mmap(NULL, mib << 20, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	unused = need(malloc(pool_pieces * sizeof(char *)));
	buckets = need(calloc(BUCKETS, sizeof(struct entry *)));
	if (pool == MAP_FAILED)
		need(NULL);
	umask(0);
	node_room = 1024;
	nodes = need(calloc(node_room, sizeof(struct node *)));
	node_new(S_IFDIR | 0755); /* 1 is FUSE_ROOT_ID */
	if (rings)
		offer_rings();
	se = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!se || fuse_set_signal_handlers(se) != 0 || fuse_session_mount(se, argv[optind]) != 0)
		return 1;
	r = rings ? ring_loop(se) : mt_loop(se);
	fuse_session_unmount(se);
	ks_uring_free(ring);
	fuse_remove_signal_handlers(se);
	fuse_session_destroy(se);
	return r != 0;
}
