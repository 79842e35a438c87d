/* SPDX-License-Identifier: Apache-2.0 */
/* control.c: server and client of the control socket. A request is served by a worker, so that one that flushes does not keep another waiting. */
#include "volume/control.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#define LINE_MAX_BYTES 65536
#define WORKERS 4
#define REQUEST_TIMEOUT_NS (5 * KS_NS_PER_S)
#define PING_TIMEOUT_NS (3 * KS_NS_PER_S)

struct ks_control {
	struct ks_vfs *v;
	const struct ks_mount_info *info;
	char *path;
	int fd;   /* listens */
	int stop; /* eventfd */
	pthread_t thread;
	struct ks_workers *workers;
};

struct call {
	struct ks_job job;
	struct ks_control *c;
	int fd;
};

/* ---- places ---- */

static char *dir_of(uid_t uid)
{
	const char *xdg = secure_getenv("XDG_RUNTIME_DIR");
	char *dir;

	if (uid == 0)
		return strdup("/run/kiseki");
	if (uid == getuid() && xdg && xdg[0] == '/')
		return ks_asprintf("%s/kiseki", xdg);
	dir = ks_asprintf("/run/user/%u", (unsigned int)uid);
	if (dir && access(dir, F_OK) == 0) {
		free(dir);
		return ks_asprintf("/run/user/%u/kiseki", (unsigned int)uid);
	}
	free(dir);
	return ks_asprintf("/tmp/kiseki-%u", (unsigned int)uid);
}

/* Ours, and nobody else's to write: /tmp is everybody's. */
static int make_dir(const char *dir)
{
	struct stat st;

	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return ks_fail(-errno, "make %s", dir);
	if (lstat(dir, &st) < 0)
		return ks_fail(-errno, "look at %s", dir);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return ks_fail_hint(-EPERM, "remove it, or make it yours with mode 0700",
				    "%s is not a private directory of this user", dir);
	return 0;
}

static int address(struct sockaddr_un *a, const char *path)
{
	size_t n = strlen(path);

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (n >= sizeof(a->sun_path))
		return ks_fail(-ENAMETOOLONG, "control socket %s", path);
	memcpy(a->sun_path, path, n);
	return 0;
}

static void set_timeouts(int fd, int64_t timeout_ns)
{
	struct timespec ts = ks_ns_to_ts(ks_max(timeout_ns, KS_NS_PER_MS));
	struct timeval tv = { .tv_sec = ts.tv_sec, .tv_usec = ts.tv_nsec / 1000 };

	if (timeout_ns < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* @timeout_ns (< 0: none) also ends the wait for a place among the 16 that may wait, which a mount that is stopped never gives. */
static int connect_to(const char *path, int64_t timeout_ns)
{
	struct sockaddr_un a;
	KS_AUTO(ks_closep) int fd = -1;
	int r = address(&a, path);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	set_timeouts(fd, timeout_ns);
	if (connect(fd, (struct sockaddr *)(void *)&a, sizeof(a)) < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	r = fd;
	fd = -1;
	return r;
}

static bool is_socket_name(const char *name)
{
	size_t n = strlen(name);

	return n > 5 && strcmp(name + n - 5, ".sock") == 0 && strspn(name, "0123456789") == n - 5;
}

static void remove_stale(const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		KS_AUTO(ks_freep)
		char *path =
			is_socket_name(e->d_name) ? ks_asprintf("%s/%s", dir, e->d_name) : NULL;
		int fd = path ? connect_to(path, KS_NS_PER_MS) : -EINVAL;

		if (fd >= 0)
			close(fd);
		else if (fd == -ECONNREFUSED)
			unlink(path);
	}
	if (d)
		closedir(d);
}

int ks_control_path(char **path)
{
	KS_AUTO(ks_freep) char *dir = dir_of(geteuid());
	char *p;
	int r = dir ? make_dir(dir) : -ENOMEM;

	if (r < 0)
		return r;
	remove_stale(dir);
	p = ks_asprintf("%s/%d.sock", dir, (int)getpid());
	if (!p)
		return -ENOMEM;
	*path = p;
	return 0;
}

/* ---- server ---- */

/* Says that it went well. NULL stays what it is: no memory. */
static json_t *ok(json_t *o)
{
	if (o)
		json_object_set_new(o, "ok", json_true());
	return o;
}

static json_t *failure(int r, const char *text)
{
	const char *name = strerrorname_np(-r);

	return json_pack("{s:b, s:s, s:i, s:s*}", "ok", 0, "errno", name ? name : "EIO", "code", -r,
			 "error", text);
}

static json_t *answer(struct ks_control *c, const char *line, size_t n)
{
	json_t *req = json_loadb(line, n, 0, NULL), *reply;
	const char *op = json_string_value(json_object_get(req, "op"));
	int r;

	if (!op) {
		reply = failure(-EINVAL, "a request is one line: {\"op\":\"ping\"}");
	} else if (strcmp(op, "ping") == 0) {
		reply = ok(ks_mount_json(c->info));
	} else if (strcmp(op, "stats") == 0) {
		reply = ok(ks_stats_json(c->info, c->v));
	} else if (strcmp(op, "flush") == 0) {
		ks_fail_clear();
		r = ks_vfs_syncfs(c->v);
		reply = r < 0 ? failure(r, *ks_fail_text() ? ks_fail_text() : ks_strerror(r))
			      : ok(ks_mount_json(c->info));
	} else {
		reply = failure(-EOPNOTSUPP, "no such operation: ping, stats, flush");
	}
	json_decref(req);
	return reply;
}

/* Reads up to a newline: its length, without it; -errno. */
static ssize_t read_line(int fd, char *line, size_t size)
{
	size_t n = 0;
	char *nl = NULL;

	while (!nl && n < size - 1) {
		ssize_t got = read(fd, line + n, size - 1 - n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (got == 0)
			break;
		nl = memchr(line + n, '\n', (size_t)got);
		n += (size_t)got;
	}
	if (nl)
		n = (size_t)(nl - line);
	line[n] = '\0';
	return nl ? (ssize_t)n : -EPIPE;
}

static int write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t put = send(fd, p, n, MSG_NOSIGNAL);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

static void serve(struct ks_job *job)
{
	struct call *call = ks_container_of(job, struct call, job);
	char line[1024];
	ssize_t n;

	set_timeouts(call->fd, REQUEST_TIMEOUT_NS);
	n = read_line(call->fd, line, sizeof(line));
	if (n >= 0) {
		json_t *reply = answer(call->c, line, (size_t)n);
		char *text = json_dumps(reply, JSON_COMPACT);

		/* Who does not wait for the answer does not get it. */
		if (text && write_all(call->fd, text, strlen(text)) == 0)
			KS_IGNORE(write_all(call->fd, "\n", 1));
		free(text);
		json_decref(reply);
	}
	close(call->fd);
	free(call);
}

static void *listen_for_calls(void *arg)
{
	struct ks_control *c = arg;
	struct pollfd p[2] = { { .fd = c->fd, .events = POLLIN },
			       { .fd = c->stop, .events = POLLIN } };

	while (poll(p, 2, -1) >= 0 || errno == EINTR) {
		struct call *call;
		int fd;

		if (p[1].revents)
			break;
		if (!(p[0].revents & POLLIN))
			continue;
		fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0)
			continue;
		call = calloc(1, sizeof(*call));
		if (!call) {
			close(fd);
			continue;
		}
		*call = (struct call){ .job = { .run = serve }, .c = c, .fd = fd };
		ks_workers_add(c->workers, &call->job);
	}
	return NULL;
}

/* It gets its name when it listens: before, whoever starts meanwhile would find nobody behind it, and remove it. */
static int listen_at(const char *path)
{
	KS_AUTO(ks_freep) char *tmp = ks_asprintf("%s~", path);
	struct sockaddr_un a;
	KS_AUTO(ks_closep) int fd = -1;
	int r = tmp ? address(&a, tmp) : -ENOMEM;

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return ks_fail(-errno, "make a control socket");
	/* The name has our process id: whoever had it before is gone. */
	unlink(tmp);
	/* In a directory of mode 0700 it is private before the chmod as well. */
	if (bind(fd, (struct sockaddr *)(void *)&a, sizeof(a)) < 0 || chmod(tmp, 0600) < 0 ||
	    listen(fd, 16) < 0 || rename(tmp, path) < 0) {
		r = ks_fail(-errno, "control socket %s", path);
		unlink(tmp);
		return r;
	}
	r = fd;
	fd = -1;
	return r;
}

int ks_control_start(struct ks_control **out, const char *path, struct ks_vfs *v,
		     const struct ks_mount_info *info)
{
	struct ks_control *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	c->v = v;
	c->info = info;
	c->stop = -1;
	c->path = strdup(path);
	r = c->fd = c->path ? listen_at(path) : -ENOMEM;
	if (r >= 0) {
		c->stop = eventfd(0, EFD_CLOEXEC);
		r = c->stop < 0 ? ks_fail(-errno, "make an eventfd") : 0;
	}
	if (r == 0)
		r = ks_workers_start(&c->workers, "ks-control", WORKERS);
	if (r == 0)
		r = ks_thread_start(&c->thread, "ks-control", listen_for_calls, c);
	if (r < 0) {
		ks_workers_stop(c->workers);
		ks_closep(&c->stop);
		ks_closep(&c->fd);
		free(c->path);
		free(c);
		return r;
	}
	*out = c;
	return 0;
}

void ks_control_stop(struct ks_control *c)
{
	if (!c)
		return;
	KS_IGNORE(eventfd_write(c->stop, 1));
	pthread_join(c->thread, NULL);
	unlink(c->path);
	ks_workers_stop(c->workers);
	close(c->stop);
	close(c->fd);
	free(c->path);
	free(c);
}

/* ---- client ---- */

static int judge(const char *line)
{
	json_t *o = json_loads(line, 0, NULL);
	int r = 0;

	if (!o)
		return ks_fail(-EPROTO, "the mount's answer is not JSON");
	if (!json_is_true(json_object_get(o, "ok"))) {
		const char *text = json_string_value(json_object_get(o, "error"));

		r = -(int)json_integer_value(json_object_get(o, "code"));
		r = ks_fail(r < 0 ? r : -EIO, "the mount says: %s", text ? text : "no reason");
	}
	json_decref(o);
	return r;
}

int ks_control_call(const char *path, const char *op, int64_t timeout_ns, char **reply)
{
	KS_AUTO(ks_freep) char *line = malloc(LINE_MAX_BYTES);
	KS_AUTO(ks_closep) int fd = -1;
	char request[64];
	ssize_t n;
	int r = line ? connect_to(path, timeout_ns) : -ENOMEM;

	if (r < 0)
		return r;
	fd = r;
	snprintf(request, sizeof(request), "{\"op\":\"%s\"}\n", op);
	r = write_all(fd, request, strlen(request));
	if (r < 0)
		return r;
	n = read_line(fd, line, LINE_MAX_BYTES);
	if (n < 0)
		return (int)n;
	r = judge(line);
	if (r == 0 && reply)
		*reply = ks_steal(&line);
	return r;
}

char *ks_control_transport(const char *path, int pid, int64_t timeout_ns)
{
	KS_AUTO(ks_freep) char *line = NULL;
	bool quiet = ks_fail_quiet(true);
	int r = ks_control_call(path, "ping", timeout_ns, &line);
	const char *text;
	char *transport = NULL;
	json_t *o;

	ks_fail_clear();
	ks_fail_quiet(quiet);
	if (r < 0)
		return NULL;
	o = json_loads(line, 0, NULL);
	text = json_string_value(json_object_get(o, "transport"));
	/* Its process id may be another's by now. */
	if (text && json_integer_value(json_object_get(o, "pid")) == pid)
		transport = strdup(text);
	json_decref(o);
	return transport;
}

static bool is_of_device(const char *path, dev_t dev, int *pid)
{
	KS_AUTO(ks_freep) char *line = NULL;
	char want[32];
	const char *got;
	json_t *o;
	bool yes;

	if (ks_control_call(path, "ping", PING_TIMEOUT_NS, &line) < 0)
		return false;
	o = json_loads(line, 0, NULL);
	got = json_string_value(json_object_get(o, "device"));
	snprintf(want, sizeof(want), "%u:%u", major(dev), minor(dev));
	yes = got && strcmp(got, want) == 0;
	*pid = (int)json_integer_value(json_object_get(o, "pid"));
	json_decref(o);
	return yes;
}

int ks_control_find(struct ks_control_found *out, dev_t dev, uid_t uid)
{
	KS_AUTO(ks_freep) char *dir = dir_of(uid);
	DIR *d = dir ? opendir(dir) : NULL;
	struct dirent *e;
	int r = -ENOENT;

	while (r == -ENOENT && d && (e = readdir(d))) {
		char *path =
			is_socket_name(e->d_name) ? ks_asprintf("%s/%s", dir, e->d_name) : NULL;

		if (path && is_of_device(path, dev, &out->pid)) {
			out->path = path;
			r = 0;
		} else {
			free(path);
		}
	}
	if (d)
		closedir(d);
	return r;
}
