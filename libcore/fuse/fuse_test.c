/* SPDX-License-Identifier: Apache-2.0 */
/* fuse_test.c: the FUSE adapter without a kernel: this program sends the kernel's messages and reads the replies. Row J8. */
#include "base/hash.h"
#include "base/thread.h"
#include "fuse/fuse.h"
#include "fuse/transport.h"
#include "vfs/mem_testlib.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#define MSG_MAX (256 * 1024)

struct rig {
	struct ks_vfs *v;
	struct ks_fuse *f;
	int fds[2];
	pthread_t thread;
	uint64_t unique;
	uint32_t uid;
	char *reply; /* of the last call, behind the header */
	size_t reply_n;
};

static void *run_session(void *arg)
{
	struct rig *g = arg;

	return (void *)(intptr_t)ks_fuse_run(g->f);
}

/* Sends a request of up to three parts; the reply's error. */
static int call(struct rig *g, uint32_t op, uint64_t node, const void *a, size_t an, const void *b,
		size_t bn, const void *c, size_t cn)
{
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + an + bn + cn),
				     .opcode = op,
				     .unique = ++g->unique,
				     .nodeid = node,
				     .uid = g->uid,
				     .pid = 1 };
	struct iovec iov[] = { { &in, sizeof(in) },
			       { (void *)(uintptr_t)a, an },
			       { (void *)(uintptr_t)b, bn },
			       { (void *)(uintptr_t)c, cn } };
	struct fuse_out_header out;
	ssize_t n;

	ks_check_eq(writev(g->fds[1], iov, 4), in.len);
	n = recv(g->fds[1], g->reply - sizeof(out), MSG_MAX, 0);
	ks_check(n >= (ssize_t)sizeof(out));
	memcpy(&out, g->reply - sizeof(out), sizeof(out));
	ks_check_eq(out.unique, in.unique);
	ks_check_eq(out.len, n);
	g->reply_n = (size_t)n - sizeof(out);
	return out.error;
}

#define call1(g, op, node, a, an) call(g, op, node, a, an, NULL, 0, NULL, 0)
#define call_name(g, op, node, name) call(g, op, node, name, strlen(name) + 1, NULL, 0, NULL, 0)

static void init(struct rig *g)
{
	struct fuse_init_in in = { .major = 7,
				   .minor = 31,
				   .max_readahead = 131072,
				   .flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC |
					    FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO |
					    FUSE_WRITEBACK_CACHE | FUSE_PARALLEL_DIROPS |
					    FUSE_ASYNC_DIO | FUSE_BIG_WRITES | FUSE_EXPORT_SUPPORT |
					    FUSE_MAX_PAGES };
	struct fuse_init_out out;

	ks_check_eq(call1(g, FUSE_INIT, 0, &in, sizeof(in)), 0);
	memcpy(&out, g->reply, ks_min(sizeof(out), g->reply_n));
	ks_check_eq(out.major, 7);
	ks_check(out.flags & FUSE_DO_READDIRPLUS);
	ks_check(out.flags & FUSE_ATOMIC_O_TRUNC);
	ks_check(!(out.flags & FUSE_WRITEBACK_CACHE));
	ks_check_eq(out.max_write, 1 << 20);
}

static int text(void *arg, enum ks_virtual_file file, struct ks_buf *out)
{
	(void)arg;
	return ks_buf_printf(out, "%d", (int)file);
}

static void start(struct rig *g, ks_ino_t root, const char *name)
{
	struct ks_vfs_opts vo = { .root = root, .data = { .buffer_bytes = 32 * KS_MIB } };
	struct ks_fuse_opts fo = { .attr_ns = 1000000000,
				   .entry_ns = 1000000000,
				   .transport = &ks_transport_test,
				   .export = true,
				   .threads = 4 };
	char *space = malloc(MSG_MAX + 64);
	int size = 2 * MSG_MAX;

	*g = (struct rig){ .reply = space + 64 };
	g->v = vfs_in_memory(name, (struct ks_meta_opts){ 0 }, vo, NULL);
	ks_check_ok(ks_vfs_start_virtual(g->v, &(struct ks_virtual_opts){ .text = text }));
	ks_check_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, g->fds), 0);
	for (int i = 0; i < 2; i++)
		setsockopt(g->fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	fo.vfs = g->v;
	fo.transport_arg = &g->fds[0];
	ks_check_ok(ks_fuse_new(&g->f, &fo));
	ks_check_ok(ks_thread_start(&g->thread, "session", run_session, g));
	init(g);
}

static void stop(struct rig *g)
{
	void *r;

	close(g->fds[1]);
	pthread_join(g->thread, &r);
	ks_check_eq((intptr_t)r, 0);
	ks_fuse_free(g->f);
	ks_check_ok(ks_vfs_close(g->v));
	free(g->reply - 64);
}

static struct fuse_entry_out entry(const struct rig *g)
{
	struct fuse_entry_out e;

	ks_check(g->reply_n >= sizeof(e));
	memcpy(&e, g->reply, sizeof(e));
	return e;
}

static uint64_t mkdir_(struct rig *g, uint64_t parent, const char *name)
{
	struct fuse_mkdir_in in = { .mode = 0755 };

	ks_check_eq(call(g, FUSE_MKDIR, parent, &in, sizeof(in), name, strlen(name) + 1, NULL, 0),
		    0);
	return entry(g).nodeid;
}

static uint64_t create(struct rig *g, uint64_t parent, const char *name, uint32_t flags,
		       uint64_t *fh, uint32_t *open_flags)
{
	struct fuse_create_in in = { .flags = flags | O_CREAT, .mode = S_IFREG | 0644 };
	struct fuse_open_out o;

	ks_check_eq(call(g, FUSE_CREATE, parent, &in, sizeof(in), name, strlen(name) + 1, NULL, 0),
		    0);
	ks_check_eq(g->reply_n, sizeof(struct fuse_entry_out) + sizeof(o));
	memcpy(&o, g->reply + sizeof(struct fuse_entry_out), sizeof(o));
	*fh = o.fh;
	if (open_flags)
		*open_flags = o.open_flags;
	return entry(g).nodeid;
}

static int open_(struct rig *g, uint64_t node, uint32_t flags, uint64_t *fh, uint32_t *open_flags)
{
	struct fuse_open_in in = { .flags = flags };
	struct fuse_open_out o;
	int r = call1(g, FUSE_OPEN, node, &in, sizeof(in));

	if (r < 0)
		return r;
	memcpy(&o, g->reply, sizeof(o));
	*fh = o.fh;
	*open_flags = o.open_flags;
	return 0;
}

static int write_(struct rig *g, uint64_t node, uint64_t fh, uint64_t off, const void *p,
		  uint32_t n)
{
	struct fuse_write_in in = { .fh = fh, .offset = off, .size = n };
	struct fuse_write_out out;
	int r = call(g, FUSE_WRITE, node, &in, sizeof(in), p, n, NULL, 0);

	if (r < 0)
		return r;
	memcpy(&out, g->reply, sizeof(out));
	return (int)out.size;
}

static int read_(struct rig *g, uint64_t node, uint64_t fh, uint64_t off, uint32_t n)
{
	struct fuse_read_in in = { .fh = fh, .offset = off, .size = n };
	int r = call1(g, FUSE_READ, node, &in, sizeof(in));

	return r < 0 ? r : (int)g->reply_n;
}

static int flush(struct rig *g, uint64_t node, uint64_t fh)
{
	struct fuse_flush_in in = { .fh = fh };

	return call1(g, FUSE_FLUSH, node, &in, sizeof(in));
}

static int release(struct rig *g, uint32_t op, uint64_t node, uint64_t fh)
{
	struct fuse_release_in in = { .fh = fh };

	return call1(g, op, node, &in, sizeof(in));
}

static struct fuse_attr getattr(struct rig *g, uint64_t node)
{
	struct fuse_getattr_in in = { 0 };
	struct fuse_attr_out out;

	ks_check_eq(call1(g, FUSE_GETATTR, node, &in, sizeof(in)), 0);
	memcpy(&out, g->reply, sizeof(out));
	return out.attr;
}

KS_TEST(names)
{
	struct rig g;
	struct fuse_rename2_in ren = { .newdir = 1 };
	struct fuse_link_in link;
	struct fuse_entry_out e;
	uint64_t d, f, fh;

	start(&g, 0, "names");
	ks_check_eq(getattr(&g, 1).mode, S_IFDIR | 0755);
	/* A name that is not there is an entry with node 0, which the kernel remembers. */
	ks_check_eq(call_name(&g, FUSE_LOOKUP, 1, "none"), 0);
	ks_check_eq(entry(&g).nodeid, 0);
	ks_check_eq(entry(&g).entry_valid, 1);
	d = mkdir_(&g, 1, "d");
	f = create(&g, d, "f", O_WRONLY, &fh, NULL);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, d, "f"), 0);
	e = entry(&g);
	ks_check_eq(e.nodeid, f);
	ks_check_eq(e.generation, 1);
	ks_check_eq(e.attr.ino, f);
	ks_check_eq(e.attr.nlink, 1);
	/* By node id, as an NFS server asks. */
	ks_check_eq(call_name(&g, FUSE_LOOKUP, d, ".."), 0);
	ks_check_eq(entry(&g).nodeid, 1);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, d, "."), 0);
	ks_check_eq(entry(&g).nodeid, d);
	ks_check_eq(call(&g, FUSE_RENAME2, d, &ren, sizeof(ren), "f", 2, "\xff\xfe g", 5), 0);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, 1, "\xff\xfe g"), 0);
	ks_check_eq(entry(&g).nodeid, f);
	link.oldnodeid = f;
	ks_check_eq(call(&g, FUSE_LINK, d, &link, sizeof(link), "h", 2, NULL, 0), 0);
	ks_check_eq(entry(&g).attr.nlink, 2);
	ks_check_eq(call_name(&g, FUSE_RMDIR, 1, "d"), -ENOTEMPTY);
	ks_check_eq(call_name(&g, FUSE_UNLINK, d, "h"), 0);
	ks_check_eq(call_name(&g, FUSE_UNLINK, d, "h"), -ENOENT);
	ks_check_eq(call_name(&g, FUSE_RMDIR, 1, "d"), 0);
	ks_check_eq(call(&g, FUSE_SYMLINK, 1, "s", 2, "to/there", 9, NULL, 0), 0);
	e = entry(&g);
	ks_check_eq(call1(&g, FUSE_READLINK, e.nodeid, NULL, 0), 0);
	ks_check_eq(g.reply_n, 8);
	ks_check_mem(g.reply, "to/there", 8);
	stop(&g);
}

KS_TEST(content)
{
	static char data[100000];
	struct rig g;
	struct fuse_fsync_in sync = { 0 };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = 10 };
	uint64_t f, fh, fh2 = 0;
	uint32_t how;

	start(&g, 0, "content");
	ks_check_ok(ks_random(data, sizeof(data)));
	f = create(&g, 1, "f", O_WRONLY, &fh, &how);
	ks_check_eq(write_(&g, f, fh, 3, data, sizeof(data)), sizeof(data));
	/* Not committed, and seen all the same. */
	ks_check_eq(getattr(&g, f).size, 3 + sizeof(data));
	ks_check_ok(open_(&g, f, O_RDONLY, &fh2, &how));
	ks_check(how & FOPEN_NOFLUSH);
	ks_check(!(how & FOPEN_DIRECT_IO));
	ks_check_eq(read_(&g, f, fh2, 0, 8), 8);
	ks_check_mem(g.reply, "\0\0\0", 3);
	ks_check_mem(g.reply + 3, data, 5);
	ks_check_eq(flush(&g, f, fh), 0);
	sync.fh = fh;
	ks_check_eq(call1(&g, FUSE_FSYNC, f, &sync, sizeof(sync)), 0);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	ks_check_eq(read_(&g, f, fh2, 3, 200000), sizeof(data));
	ks_check_mem(g.reply, data, sizeof(data));
	ks_check_eq(read_(&g, f, fh2, 1000000, 10), 0);
	/* The handle that reads is told of the truncation. */
	ks_check_eq(call1(&g, FUSE_SETATTR, f, &set, sizeof(set)), 0);
	ks_check_eq(read_(&g, f, fh2, 0, 100), 10);
	ks_check_eq(call_name(&g, FUSE_UNLINK, 1, "f"), 0);
	ks_check_eq(read_(&g, f, fh2, 3, 100), 7);
	ks_check_mem(g.reply, data, 7);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh2), 0);
	ks_check_eq(open_(&g, 4711, O_RDONLY, &fh2, &how), -ESTALE);
	stop(&g);
}

KS_TEST(keep_cache)
{
	struct rig g;
	struct ks_attr a = { .mode = 0600 }, out;
	uint64_t f, fh;
	uint32_t how;

	start(&g, 0, "keep");
	f = create(&g, 1, "f", O_WRONLY, &fh, &how);
	ks_check_eq(write_(&g, f, fh, 0, "abc", 3), 3);
	ks_check_eq(flush(&g, f, fh), 0);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	/* Made and written here: the kernel has nothing old of it. */
	ks_check_ok(open_(&g, f, O_RDONLY, &fh, &how));
	ks_check(how & FOPEN_KEEP_CACHE);
	ks_check_eq(read_(&g, f, fh, 0, 3), 3);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	/* Somebody else changes it: past this vfs. */
	ks_check_ok(ks_meta_setattr(ks_vfs_meta(g.v), f, KS_SET_MODE, &a, &out));
	ks_check_ok(open_(&g, f, O_RDONLY, &fh, &how));
	ks_check(!(how & FOPEN_KEEP_CACHE));
	ks_check_eq(read_(&g, f, fh, 0, 3), 3);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	ks_check_ok(open_(&g, f, O_RDONLY, &fh, &how));
	ks_check(how & FOPEN_KEEP_CACHE);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	stop(&g);
}

/* Reads a whole directory with requests of @size; how many entries, "." and ".." too. */
static int list(struct rig *g, uint64_t node, uint32_t op, uint32_t size, uint64_t stop_at,
		uint64_t *cookie)
{
	struct fuse_open_in o = { .flags = O_RDONLY | O_DIRECTORY };
	struct fuse_read_in in = { .size = size, .offset = *cookie };
	struct fuse_open_out out;
	int n = 0;

	ks_check_eq(call1(g, FUSE_OPENDIR, node, &o, sizeof(o)), 0);
	memcpy(&out, g->reply, sizeof(out));
	in.fh = out.fh;
	for (;;) {
		size_t at = 0;

		ks_check_eq(call1(g, op, node, &in, sizeof(in)), 0);
		ks_check(g->reply_n <= size);
		if (g->reply_n == 0)
			break;
		while (at < g->reply_n) {
			struct fuse_dirent d;
			size_t head = op == FUSE_READDIRPLUS ? sizeof(struct fuse_entry_out) : 0;

			memcpy(&d, g->reply + at + head, offsetof(struct fuse_dirent, name));
			at += FUSE_DIRENT_ALIGN(head + offsetof(struct fuse_dirent, name) +
						d.namelen);
			in.offset = d.off;
			n++;
		}
		ks_check_eq(at, g->reply_n);
		if (stop_at && (uint64_t)n >= stop_at)
			break;
	}
	*cookie = in.offset;
	ks_check_eq(release(g, FUSE_RELEASEDIR, node, in.fh), 0);
	return n;
}

KS_TEST(directories)
{
	struct rig g;
	struct fuse_mknod_in in = { .mode = S_IFREG | 0600 };
	uint64_t d, at;
	int n;

	start(&g, 0, "dirs");
	d = mkdir_(&g, 1, "d");
	for (int i = 0; i < 500; i++) {
		char name[32];

		snprintf(name, sizeof(name), "file-%d", i);
		ks_check_eq(
			call(&g, FUSE_MKNOD, d, &in, sizeof(in), name, strlen(name) + 1, NULL, 0),
			0);
	}
	ks_check_eq(list(&g, d, FUSE_READDIR, 4096, 0, &(uint64_t){ 0 }), 502);
	ks_check_eq(list(&g, d, FUSE_READDIR, 512, 0, &(uint64_t){ 0 }), 502);
	ks_check_eq(list(&g, d, FUSE_READDIRPLUS, 4096, 0, &(uint64_t){ 0 }), 502);
	ks_check_eq(list(&g, d, FUSE_READDIRPLUS, 131072, 0, &(uint64_t){ 0 }), 502);
	/* Goes on where another handle had stopped. */
	at = 0;
	n = list(&g, d, FUSE_READDIR, 1024, 100, &at);
	ks_check_eq(n + list(&g, d, FUSE_READDIR, 1024, 0, &at), 502);
	stop(&g);
}

KS_TEST(attributes)
{
	struct rig g;
	struct fuse_setattr_in set = {
		.valid = FATTR_MODE | FATTR_MTIME, .mode = 0640, .mtime = 12345, .mtimensec = 678
	};
	struct fuse_setxattr_in xin = { .size = 3 };
	struct fuse_getxattr_in gin = { .size = 100 };
	struct fuse_ioctl_in io = { .cmd = FS_IOC_GETFLAGS, .out_size = sizeof(int) };
	struct fuse_ioctl_out io_out;
	struct fsxattr fsx;
	char xattr[64];
	uint64_t f, fh;
	unsigned int bits;

	start(&g, 0, "attrs");
	f = create(&g, 1, "f", O_RDWR, &fh, NULL);
	ks_check_eq(write_(&g, f, fh, 0, "abc", 3), 3);
	/* A time that is set after a write survives the write's commit. */
	ks_check_eq(call1(&g, FUSE_SETATTR, f, &set, sizeof(set)), 0);
	ks_check_eq(flush(&g, f, fh), 0);
	ks_check_eq(getattr(&g, f).mode, S_IFREG | 0640);
	ks_check_eq(getattr(&g, f).mtime, 12345);
	ks_check_eq(getattr(&g, f).mtimensec, 678);
	ks_check_eq(getattr(&g, f).size, 3);
	/* Without FUSE_SETXATTR_EXT the kernel sends the short form. */
	ks_check_eq(call(&g, FUSE_SETXATTR, f, &xin, FUSE_COMPAT_SETXATTR_IN_SIZE, "user.k", 7,
			 "val", 3),
		    0);
	ks_check_eq(call(&g, FUSE_GETXATTR, f, &gin, sizeof(gin), "user.k", 7, NULL, 0), 0);
	ks_check_eq(g.reply_n, 3);
	ks_check_mem(g.reply, "val", 3);
	ks_check_eq(call(&g, FUSE_GETXATTR, f, &gin, sizeof(gin), "user.no", 8, NULL, 0), -ENODATA);
	ks_check_eq(call(&g, FUSE_GETXATTR, f, &gin, sizeof(gin), "system.posix_acl_access", 24,
			 NULL, 0),
		    -ENODATA);
	gin.size = 2;
	ks_check_eq(call(&g, FUSE_GETXATTR, f, &gin, sizeof(gin), "user.k", 7, NULL, 0), -ERANGE);
	gin.size = 100;
	ks_check_eq(call1(&g, FUSE_LISTXATTR, f, &gin, sizeof(gin)), 0);
	snprintf(xattr, sizeof(xattr), "%.*s", (int)g.reply_n, g.reply);
	ks_check_str(xattr, "user.k");
	ks_check_eq(call_name(&g, FUSE_REMOVEXATTR, f, "user.k"), 0);
	io.fh = fh;
	io.cmd = FS_IOC_SETFLAGS;
	io.out_size = 0;
	io.in_size = sizeof(bits);
	bits = FS_NODUMP_FL;
	ks_check_eq(call(&g, FUSE_IOCTL, f, &io, sizeof(io), &bits, sizeof(bits), NULL, 0), 0);
	io.cmd = FS_IOC_GETFLAGS;
	io.out_size = sizeof(bits);
	io.in_size = 0;
	ks_check_eq(call1(&g, FUSE_IOCTL, f, &io, sizeof(io)), 0);
	memcpy(&bits, g.reply + sizeof(io_out), sizeof(bits));
	ks_check_eq(bits, FS_NODUMP_FL);
	io.cmd = FS_IOC_FSGETXATTR;
	io.out_size = sizeof(fsx);
	ks_check_eq(call1(&g, FUSE_IOCTL, f, &io, sizeof(io)), 0);
	memcpy(&fsx, g.reply + sizeof(io_out), sizeof(fsx));
	ks_check_eq(fsx.fsx_xflags, FS_XFLAG_NODUMP);
	io.cmd = FS_IOC_FSSETXATTR;
	io.out_size = 0;
	io.in_size = sizeof(fsx);
	fsx.fsx_projid = 5;
	ks_check_eq(call(&g, FUSE_IOCTL, f, &io, sizeof(io), &fsx, sizeof(fsx), NULL, 0),
		    -EOPNOTSUPP);
	fsx = (struct fsxattr){ .fsx_xflags = FS_XFLAG_NOATIME };
	ks_check_eq(call(&g, FUSE_IOCTL, f, &io, sizeof(io), &fsx, sizeof(fsx), NULL, 0),
		    -EOPNOTSUPP);
	fsx = (struct fsxattr){ 0 };
	ks_check_eq(call(&g, FUSE_IOCTL, f, &io, sizeof(io), &fsx, sizeof(fsx), NULL, 0), 0);
	io.cmd = FS_IOC_GETFLAGS;
	io.out_size = sizeof(bits);
	io.in_size = 0;
	ks_check_eq(call1(&g, FUSE_IOCTL, f, &io, sizeof(io)), 0);
	memcpy(&bits, g.reply + sizeof(io_out), sizeof(bits));
	ks_check_eq(bits, 0);
	ks_check_eq(call1(&g, FUSE_STATFS, 1, NULL, 0), 0);
	ks_check_eq(release(&g, FUSE_RELEASE, f, fh), 0);
	stop(&g);
}

KS_TEST(subtree)
{
	struct rig g;
	struct ks_meta *hold;
	uint64_t d, e;

	start(&g, 0, "subtree");
	/* A memory volume lives as long as somebody has it open. */
	ks_check_ok(ks_meta_open(&hold, "mem://subtree", &(struct ks_meta_opts){ 0 }));
	d = mkdir_(&g, 1, "d");
	e = mkdir_(&g, d, "e");
	stop(&g);
	start(&g, d, "subtree");
	ks_check_eq(getattr(&g, 1).ino, d);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, 1, "e"), 0);
	ks_check_eq(entry(&g).nodeid, e);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, 1, "d"), 0);
	ks_check_eq(entry(&g).nodeid, 0);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, 1, ".."), 0);
	ks_check_eq(entry(&g).nodeid, 1);
	ks_check_eq(call_name(&g, FUSE_LOOKUP, e, ".."), 0);
	ks_check_eq(entry(&g).nodeid, 1);
	stop(&g);
	ks_meta_close(hold);
}

/* Many requests in flight: the loop adds threads, answers all, and parks them again. */
KS_TEST(many_at_once)
{
	struct rig g;
	struct fuse_getattr_in in = { 0 };
	uint64_t d, seen = 0;

	start(&g, 0, "many");
	d = mkdir_(&g, 1, "d");
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 40; i++) {
			struct fuse_in_header h = { .len = sizeof(h) + sizeof(in),
						    .opcode = FUSE_GETATTR,
						    .unique = 100000 + (uint64_t)i,
						    .nodeid = d };
			struct iovec iov[] = { { &h, sizeof(h) }, { &in, sizeof(in) } };

			ks_check_eq(writev(g.fds[1], iov, 2), h.len);
		}
		for (int i = 0; i < 40; i++) {
			struct fuse_out_header out;
			ssize_t n = recv(g.fds[1], g.reply, MSG_MAX - 64, 0);

			memcpy(&out, g.reply, sizeof(out));
			ks_check_eq(out.len, n);
			ks_check_eq(out.error, 0);
			seen |= 1ull << (out.unique - 100000);
		}
		ks_check_eq(seen, (1ull << 40) - 1);
		seen = 0;
	}
	stop(&g);
}

/* ---- the access log ---- */

static uint64_t open_log(struct rig *g, uint64_t *fh)
{
	uint32_t how = 0;
	uint64_t node;

	ks_check_eq(call_name(g, FUSE_LOOKUP, 1, ".kiseki"), 0);
	node = entry(g).nodeid;
	ks_check_eq(call_name(g, FUSE_LOOKUP, node, "accesslog"), 0);
	node = entry(g).nodeid;
	ks_check_ok(open_(g, node, O_RDONLY, fh, &how));
	ks_check((how & FOPEN_DIRECT_IO) && (how & FOPEN_NONSEEKABLE));
	return node;
}

/* Sends a request and does not wait. */
static uint64_t send_(struct rig *g, uint32_t op, uint64_t node, const void *p, size_t n)
{
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + n),
				     .opcode = op,
				     .unique = ++g->unique,
				     .nodeid = node,
				     .uid = 12,
				     .pid = 34 };
	struct iovec iov[] = { { &in, sizeof(in) }, { (void *)(uintptr_t)p, n } };

	ks_check_eq(writev(g->fds[1], iov, 2), in.len);
	return in.unique;
}

/* The next reply must be that one's: its error, or how many bytes are in g->reply. */
static int reply_to(struct rig *g, uint64_t unique)
{
	struct fuse_out_header out;
	ssize_t n = recv(g->fds[1], g->reply - sizeof(out), MSG_MAX, 0);

	ks_check(n >= (ssize_t)sizeof(out));
	memcpy(&out, g->reply - sizeof(out), sizeof(out));
	ks_check_eq(out.unique, unique);
	g->reply[(size_t)n - sizeof(out)] = '\0';
	return out.error ? out.error : (int)((size_t)n - sizeof(out));
}

KS_TEST(log_is_waited_for)
{
	struct rig g;
	struct fuse_read_in in = { .size = 65536 };
	struct fuse_getattr_in attr = { 0 };
	struct fuse_interrupt_in intr;
	uint64_t node, read, other;

	start(&g, 0, "log");
	node = open_log(&g, &in.fh);
	in.flags = O_NONBLOCK;
	ks_check_eq(call1(&g, FUSE_READ, node, &in, sizeof(in)), -EAGAIN);
	in.flags = 0;
	read = send_(&g, FUSE_READ, node, &in, sizeof(in));
	/* What concerns the hidden directory itself is not told: it would never end. */
	other = send_(&g, FUSE_GETATTR, node, &attr, sizeof(attr));
	ks_check_eq(reply_to(&g, other), sizeof(struct fuse_attr_out));
	other = send_(&g, FUSE_LOOKUP, 1, KS_VIRTUAL_NAME, sizeof(KS_VIRTUAL_NAME));
	ks_check_eq(reply_to(&g, other), sizeof(struct fuse_entry_out));
	other = send_(&g, FUSE_LOOKUP, 1, "a\"\n", 4);
	ks_check_eq(reply_to(&g, other), sizeof(struct fuse_entry_out));
	ks_check(reply_to(&g, read) > 0);
	ks_check(!strstr(g.reply, KS_VIRTUAL_NAME));
	ks_check(strstr(g.reply, "Z uid=12 pid=34 lookup ino=1 name=\"a\\\"\\x0a\" = -ENOENT 0.0"));
	/* A signal for the reader. */
	read = send_(&g, FUSE_READ, node, &in, sizeof(in));
	intr.unique = read;
	send_(&g, FUSE_INTERRUPT, 0, &intr, sizeof(intr));
	ks_check_eq(reply_to(&g, read), -EINTR);
	/* One more of them than may wait; they are not served in order. */
	for (int i = 0; i < KS_LOG_READERS + 1; i++)
		read = send_(&g, FUSE_READ, node, &in, sizeof(in));
	ks_check(recv(g.fds[1], g.reply, 1024, 0) > 0);
	ks_fuse_end_streams(g.f);
	for (int i = 0; i < KS_LOG_READERS; i++)
		ks_check_eq(recv(g.fds[1], g.reply, 1024, 0), sizeof(struct fuse_out_header));
	ks_check_eq(read_(&g, node, in.fh, 0, 100), 0);
	ks_check_eq(release(&g, FUSE_RELEASE, node, in.fh), 0);
	stop(&g);
}

KS_TEST(log_reader_at_the_end)
{
	struct rig g;
	struct fuse_read_in in = { .size = 4096 };
	uint64_t node;

	start(&g, 0, "logend");
	node = open_log(&g, &in.fh);
	send_(&g, FUSE_READ, node, &in, sizeof(in));
	/* Nobody comes for it any more. */
	stop(&g);
}

KS_TEST_MAIN()
