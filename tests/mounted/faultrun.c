/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faultrun RULES COMMAND [ARG]...: run a program, and whatever it starts, with failing system calls.
 *
 * The program is the real one, unchanged: seccomp hands the calls that touch files to a process beside it, which lets each happen, lets it fail, does a part
 * of it, or kills the caller before it. COMMAND is executed in this very process, so that its status, output and pid are its own; what it leaves in the background
 * is still watched. RULES is read again when it was replaced (write another file and rename it), and may be empty or missing. One line each:
 *
 *	CALLS ACTION GLOB WHEN
 *
 *	CALLS	with commas: write read sync open create rename unlink mkdir truncate allocate mmap
 *	ACTION	an error (EIO ENOSPC EDQUOT EINTR EROFS ENOMEM EMFILE); short: half of a read or write; torn: half of a write, then SIGKILL; kill: SIGKILL
 *	GLOB	of the file's absolute path; * stands for slashes too
 *	WHEN	3: the third such call; 3+2: the third, the fifth and so on; counted over all threads, anew when RULES change
 *
 * RULES.log gets a line for every fault, "ACTION CALL PATH". Needs root and Linux 5.9.
 */
#include "util.h"
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "which AUDIT_ARCH is this?"
#endif

enum kind { WRITE, READ, SYNC, OPEN, CREATE, RENAME, UNLINK, MKDIR, TRUNCATE, ALLOCATE, MMAP };

static const char *const kinds[] = { "write",  "read",  "sync",     "open",     "create", "rename",
				     "unlink", "mkdir", "truncate", "allocate", "mmap" };

/* How a call names its file. */
enum where { BY_FD, BY_PATH, BY_PATH_AT };

static const struct call {
	int nr;
	enum kind kind;
	enum where where;
	int arg; /* the descriptor or the path; the directory's descriptor stands before the path */
} calls[] = {
	{ SYS_write, WRITE, BY_FD, 0 },
	{ SYS_pwrite64, WRITE, BY_FD, 0 },
	{ SYS_writev, WRITE, BY_FD, 0 },
	{ SYS_pwritev, WRITE, BY_FD, 0 },
	{ SYS_pwritev2, WRITE, BY_FD, 0 },
	{ SYS_read, READ, BY_FD, 0 },
	{ SYS_pread64, READ, BY_FD, 0 },
	{ SYS_readv, READ, BY_FD, 0 },
	{ SYS_preadv, READ, BY_FD, 0 },
	{ SYS_preadv2, READ, BY_FD, 0 },
	{ SYS_fsync, SYNC, BY_FD, 0 },
	{ SYS_fdatasync, SYNC, BY_FD, 0 },
	{ SYS_syncfs, SYNC, BY_FD, 0 },
	{ SYS_openat, OPEN, BY_PATH_AT, 1 },
	{ SYS_renameat, RENAME, BY_PATH_AT, 3 },
	{ SYS_renameat2, RENAME, BY_PATH_AT, 3 },
	{ SYS_unlinkat, UNLINK, BY_PATH_AT, 1 },
	{ SYS_mkdirat, MKDIR, BY_PATH_AT, 1 },
	{ SYS_ftruncate, TRUNCATE, BY_FD, 0 },
	{ SYS_fallocate, ALLOCATE, BY_FD, 0 },
	{ SYS_mmap, MMAP, BY_FD, 4 },
#if defined(__x86_64__)
	{ SYS_open, OPEN, BY_PATH, 0 },
	{ SYS_rename, RENAME, BY_PATH, 1 },
	{ SYS_unlink, UNLINK, BY_PATH, 0 },
	{ SYS_mkdir, MKDIR, BY_PATH, 0 },
#endif
};

enum { FAIL, SHORT, TORN, KILL };

struct rule {
	unsigned kinds;
	int action, err;
	char glob[PATH_MAX];
	unsigned long from, step, seen;
};

static struct rule rules[32];
static unsigned nrules;
static const char *rules_path;
static FILE *report;

/* ---- the rules ---- */

static const struct {
	const char *name;
	int action, err;
} actions[] = {
	{ "EIO", FAIL, EIO },       { "ENOSPC", FAIL, ENOSPC }, { "EDQUOT", FAIL, EDQUOT },
	{ "EINTR", FAIL, EINTR },   { "EROFS", FAIL, EROFS },   { "ENOMEM", FAIL, ENOMEM },
	{ "EMFILE", FAIL, EMFILE }, { "short", SHORT, 0 },      { "torn", TORN, 0 },
	{ "kill", KILL, 0 },
};

static unsigned parse_kinds(char *words)
{
	unsigned set = 0;
	char *next = words;

	while (next) {
		char *word = strsep(&next, ",");

		for (unsigned i = 0; i < ARRAY_SIZE(kinds); i++)
			set |= strcmp(word, kinds[i]) == 0 ? 1u << i : 0;
	}
	return set;
}

static bool parse_rule(const char *line, struct rule *r)
{
	char words[200], action[20];
	char when[40];
	char *end;

	if (sscanf(line, "%199s %19s %4095s %39s", words, action, r->glob, when) != 4)
		return false;
	r->kinds = parse_kinds(words);
	r->action = -1;
	for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
		if (strcmp(actions[i].name, action) == 0) {
			r->action = actions[i].action;
			r->err = actions[i].err;
		}
	}
	r->from = strtoul(when, &end, 10);
	r->step = *end == '+' ? strtoul(end + 1, &end, 10) : 0;
	r->seen = 0;
	return r->kinds && r->action >= 0 && r->from && !*end;
}

static void read_rules(void)
{
	static struct timespec seen;
	static ino_t ino;
	char line[PATH_MAX + 300];
	struct stat st;
	FILE *f;

	if (stat(rules_path, &st) < 0) {
		nrules = 0;
		ino = 0;
		return;
	}
	if (st.st_ino == ino && memcmp(&st.st_mtim, &seen, sizeof(seen)) == 0)
		return;
	ino = st.st_ino;
	seen = st.st_mtim;
	nrules = 0;
	f = fopen(rules_path, "re");
	while (f && fgets(line, sizeof(line), f) && nrules < ARRAY_SIZE(rules)) {
		if (parse_rule(line, &rules[nrules]))
			nrules++;
		else
			fprintf(report, "bad rule: %s", line);
	}
	if (f)
		fclose(f);
}

/* ---- what a call is about ---- */

static const struct call *call_of(int nr)
{
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		if (calls[i].nr == nr)
			return &calls[i];
	}
	return NULL;
}

static bool link_of(pid_t pid, int fd, char out[PATH_MAX])
{
	char name[64];
	ssize_t n;

	if (fd == AT_FDCWD)
		snprintf(name, sizeof(name), "/proc/%d/cwd", pid);
	else
		snprintf(name, sizeof(name), "/proc/%d/fd/%d", pid, fd);
	n = readlink(name, out, PATH_MAX - 1);
	if (n <= 0)
		return false;
	out[n] = 0;
	return out[0] == '/';
}

static bool peek(pid_t pid, uint64_t at, void *to, size_t n)
{
	struct iovec ours = { to, n }, theirs = { (void *)(uintptr_t)at, n };

	return process_vm_readv(pid, &ours, 1, &theirs, 1, 0) == (ssize_t)n;
}

static bool peek_string(pid_t pid, uint64_t at, char *to, size_t cap)
{
	for (size_t i = 0; i < cap; i++) {
		if (!peek(pid, at + i, to + i, 1))
			return false;
		if (!to[i])
			return true;
	}
	return false;
}

static bool path_of(const struct call *c, const struct seccomp_notif *q, char out[PATH_MAX])
{
	const __u64 *a = q->data.args;
	char name[PATH_MAX];
	size_t n = 0;

	if (c->where == BY_FD)
		return (int)a[c->arg] >= 0 && link_of((pid_t)q->pid, (int)a[c->arg], out);
	if (!peek_string((pid_t)q->pid, a[c->arg], name, sizeof(name)))
		return false;
	if (name[0] != '/') {
		int dir = c->where == BY_PATH_AT ? (int)a[c->arg - 1] : AT_FDCWD;

		if (!link_of((pid_t)q->pid, dir, out))
			return false;
		n = strlen(out);
		out[n++] = '/';
	}
	if (n + strlen(name) >= PATH_MAX)
		return false;
	memcpy(out + n, name, strlen(name) + 1);
	return true;
}

static unsigned kind_of(const struct call *c, const struct seccomp_notif *q)
{
	if (c->nr == SYS_openat && (q->data.args[2] & O_CREAT))
		return 1u << CREATE | 1u << OPEN;
#if defined(__x86_64__)
	if (c->nr == SYS_open && (q->data.args[1] & O_CREAT))
		return 1u << CREATE | 1u << OPEN;
#endif
	return 1u << c->kind;
}

static const struct rule *rule_for(const struct call *c, const struct seccomp_notif *q,
				   char path[PATH_MAX])
{
	const struct rule *hit = NULL;
	unsigned kind = kind_of(c, q);

	read_rules();
	if (!nrules || !path_of(c, q, path))
		return NULL;
	for (unsigned i = 0; i < nrules; i++) {
		struct rule *r = &rules[i];

		if (!(r->kinds & kind) || fnmatch(r->glob, path, 0) != 0)
			continue;
		r->seen++;
		if (!hit && (r->seen == r->from ||
			     (r->step && r->seen > r->from && (r->seen - r->from) % r->step == 0)))
			hit = r;
	}
	return hit;
}

/* ---- a part of a read or write, done here ---- */

static int fd_of(pid_t pid, int fd)
{
	int p = (int)syscall(SYS_pidfd_open, pid, 0);
	int got = -1;

	if (p < 0) { /* a thread: by its process */
		char name[64], line[200];
		int tgid = 0;
		FILE *f;

		snprintf(name, sizeof(name), "/proc/%d/status", pid);
		f = fopen(name, "re");
		while (f && fgets(line, sizeof(line), f) && sscanf(line, "Tgid: %d", &tgid) != 1)
			;
		if (f)
			fclose(f);
		p = (int)syscall(SYS_pidfd_open, tgid, 0);
	}
	if (p >= 0) {
		got = (int)syscall(SYS_pidfd_getfd, p, fd, 0);
		close(p);
	}
	return got;
}

/* The caller's memory of a read or write; the number of pieces. */
static int memory_of(const struct seccomp_notif *q, struct iovec iov[IOV_MAX])
{
	int nr = q->data.nr;
	const __u64 *a = q->data.args;

	if (nr == SYS_write || nr == SYS_pwrite64 || nr == SYS_read || nr == SYS_pread64) {
		iov[0] = (struct iovec){ (void *)(uintptr_t)a[1], a[2] };
		return 1;
	}
	if (a[2] > IOV_MAX || !peek((pid_t)q->pid, a[1], iov, a[2] * sizeof(*iov)))
		return 0;
	return (int)a[2];
}

/* Cuts the list to half its bytes, a multiple of @align. Returns them. */
static size_t halve(struct iovec *iov, int *n, size_t align)
{
	size_t total = 0, left;

	for (int i = 0; i < *n; i++)
		total += iov[i].iov_len;
	total = total / 2 / align * align;
	left = total;
	for (int i = 0; i < *n; i++) {
		iov[i].iov_len = MIN(iov[i].iov_len, left);
		left -= iov[i].iov_len;
		if (!left)
			*n = i + 1;
	}
	return total;
}

static bool has_offset(int nr)
{
	return nr == SYS_pwrite64 || nr == SYS_pwritev || nr == SYS_pwritev2 || nr == SYS_pread64 ||
	       nr == SYS_preadv || nr == SYS_preadv2;
}

/* Bytes done, or -1: it could not be done by halves, and nothing was. */
static ssize_t do_half(const struct call *c, const struct seccomp_notif *q)
{
	static struct iovec iov[IOV_MAX];
	int n = memory_of(q, iov), fd = n ? fd_of((pid_t)q->pid, (int)q->data.args[0]) : -1;
	off_t off = (off_t)q->data.args[3];
	bool at = has_offset(q->data.nr);
	size_t bytes = fd < 0 ? 0 : halve(iov, &n, fcntl(fd, F_GETFL) & O_DIRECT ? 4096 : 1);
	void *buf = NULL;
	ssize_t r = -1;

	if (bytes && posix_memalign(&buf, 4096, bytes) == 0) {
		struct iovec ours = { buf, bytes };

		if (c->kind == WRITE && process_vm_readv((pid_t)q->pid, &ours, 1, iov,
							 (unsigned long)n, 0) == (ssize_t)bytes)
			r = at ? pwrite(fd, buf, bytes, off) : write(fd, buf, bytes);
		if (c->kind == READ)
			r = at ? pread(fd, buf, bytes, off) : read(fd, buf, bytes);
		if (c->kind == READ && r > 0) {
			ours.iov_len = (size_t)r;
			r = process_vm_writev((pid_t)q->pid, &ours, 1, iov, (unsigned long)n, 0);
		}
	}
	free(buf);
	if (fd >= 0)
		close(fd);
	return r;
}

/* ---- the watcher ---- */

static void decide(const struct seccomp_notif *q, struct seccomp_notif_resp *a)
{
	const struct call *c = call_of(q->data.nr);
	char path[PATH_MAX];
	const struct rule *r = c ? rule_for(c, q, path) : NULL;
	ssize_t n;

	a->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (!r)
		return;
	if (r->action == FAIL) {
		a->flags = 0;
		a->error = -r->err;
	} else if (r->action == SHORT || r->action == TORN) {
		n = do_half(c, q);
		if (n < 0)
			return;
		a->flags = 0;
		a->val = n;
	}
	for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
		if (actions[i].action == r->action && actions[i].err == r->err)
			fprintf(report, "%s %s %s\n", actions[i].name, kinds[c->kind], path);
	}
	fflush(report);
	if (r->action == TORN || r->action == KILL)
		kill((pid_t)q->pid, SIGKILL);
}

static void watch(int listener)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };

	for (;;) {
		struct seccomp_notif q = { 0 };
		struct seccomp_notif_resp a = { 0 };

		if (poll(&p, 1, -1) < 0 && errno != EINTR)
			return;
		/* Everybody it concerned is gone. */
		if ((p.revents & (POLLHUP | POLLERR)) && !(p.revents & POLLIN))
			return;
		if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &q) < 0)
			continue;
		a.id = q.id;
		decide(&q, &a);
		/* Fails when the caller was killed meanwhile. */
		ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &a);
	}
}

static int listen_here(void)
{
	struct sock_filter f[ARRAY_SIZE(calls) + 5];
	struct sock_fprog prog = { .filter = f };
	unsigned n = 0, m = ARRAY_SIZE(calls);

	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, arch));
	f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 0,
					      (unsigned char)(m + 1));
	f[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					      offsetof(struct seccomp_data, nr));
	for (unsigned i = 0; i < m; i++)
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K,
						      (unsigned)calls[i].nr, (unsigned char)(m - i),
						      0);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
	prog.len = (unsigned short)n;
	if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			    &prog);
}

static void send_fd(int sock, int fd)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 };
	char x = 0;
	struct iovec byte = { &x, 1 };
	struct msghdr m = { .msg_iov = &byte,
			    .msg_iovlen = 1,
			    .msg_control = space,
			    .msg_controllen = sizeof(space) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(sock, &m, 0) != 1)
		die("the watcher");
}

static int recv_fd(int sock)
{
	char space[CMSG_SPACE(sizeof(int))] = { 0 };
	char byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = space,
			    .msg_controllen = sizeof(space) };
	struct cmsghdr *c;
	int fd;

	if (recvmsg(sock, &m, MSG_CMSG_CLOEXEC) != 1 || !(c = CMSG_FIRSTHDR(&m)))
		return -1;
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static __attribute__((noreturn)) void watcher(int sock)
{
	char name[PATH_MAX + 8];
	int null = open("/dev/null", O_RDWR), fd;

	/* Nobody shall wait for this process, or for its copies of what was open. */
	setsid();
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	for (int i = 3; i < 64; i++) {
		if (i != sock)
			close(i);
	}
	snprintf(name, sizeof(name), "%s.log", rules_path);
	report = fopen(name, "ae");
	fd = recv_fd(sock);
	close(sock);
	if (fd >= 0 && report)
		watch(fd);
	_exit(0);
}

int main(int argc, char **argv)
{
	int pair[2], fd, status;
	pid_t pid;

	if (argc < 3) {
		fprintf(stderr, "usage: faultrun RULES COMMAND [ARG]...\n");
		return 64;
	}
	rules_path = argv[1];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		die("socketpair");
	pid = fork();
	if (pid == 0) {
		/* No child of COMMAND. */
		if (fork() != 0)
			_exit(0);
		close(pair[1]);
		watcher(pair[0]);
	}
	waitpid(pid, &status, 0);
	close(pair[0]);
	fd = listen_here();
	if (fd < 0)
		die("seccomp; it needs root and Linux 5.9");
	send_fd(pair[1], fd);
	close(fd);
	close(pair[1]);
	execvp(argv[2], argv + 2);
	die("%s", argv[2]);
}
