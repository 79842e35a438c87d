/* SPDX-License-Identifier: Apache-2.0 */
/* session.c: a vfs as a libfuse low-level session: what is agreed upon with the kernel, mounting, running, stopping. */
#include "fuse/internal.h"
#include <fuse_log.h>
#include <fuse_opt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/utsname.h>
#include <unistd.h>

#define MAX_WRITE (1u << 20)
#define MAX_BACKGROUND 64

static void want(struct fuse_conn_info *conn, unsigned int caps, bool on)
{
	if (on)
		conn->want |= conn->capable & caps;
	else
		conn->want &= ~caps;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct ks_fuse *f = userdata;

	want(conn,
	     FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_ATOMIC_O_TRUNC |
		     FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS |
		     FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_IOCTL_DIR,
	     true);
	want(conn, FUSE_CAP_POSIX_ACL, !f->squashes);
	/* The umask counts only where the directory has no default ACL, which the kernel does not look at. */
	want(conn, FUSE_CAP_DONT_MASK, true);
	/* Version 1 leaves to us what the kernel does better, since it sees CAP_FSETID. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
	/* The vfs clears setuid whoever writes; then the kernel need not ask for security.capability before every write. */
#ifdef FUSE_CAP_HANDLE_KILLPRIV_V2
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2, true);
#endif
	want(conn, FUSE_CAP_EXPORT_SUPPORT, f->export);
	/*
	 * Write-back caching in the kernel loses data that was fsynced when the disk is full, and breaks close-to-open; splicing requests
	 * larger than a pipe makes libfuse allocate and copy.
	 */
	want(conn,
	     FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
		     FUSE_CAP_SPLICE_MOVE | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
		     FUSE_CAP_CACHE_SYMLINKS,
	     false);
	conn->max_write = MAX_WRITE;
	conn->max_background = MAX_BACKGROUND;
}

/* Since Linux 6.6 a direct write beside cached readers and mappings is coherent. */
static bool kernel_has_direct_writes(void)
{
	struct utsname u;
	unsigned int major, minor;

	if (uname(&u) < 0 || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 6 || (major == 6 && minor >= 6);
}

static int add_opt(char **opts, const char *key, const char *value)
{
	char *pair = value ? ks_asprintf("%s=%s", key, value) : strdup(key);
	int r;

	/* Commas and backslashes of a volume's name are kept from meaning something. */
	r = pair ? fuse_opt_add_opt_escaped(opts, pair) : -1;
	free(pair);
	return r < 0 ? -ENOMEM : 0;
}

static int make_args(struct fuse_args *args, const struct ks_fuse_opts *o)
{
	char *opts = NULL;
	int r = add_opt(&opts, "default_permissions", NULL);

	if (r == 0 && o->fsname)
		r = add_opt(&opts, "fsname", o->fsname);
	if (r == 0 && o->subtype)
		r = add_opt(&opts, "subtype", o->subtype);
	if (r == 0 && o->mount_opts && *o->mount_opts && fuse_opt_add_opt(&opts, o->mount_opts) < 0)
		r = -ENOMEM;
	if (r == 0 && (fuse_opt_add_arg(args, "kiseki") < 0 || fuse_opt_add_arg(args, "-o") < 0 ||
		       fuse_opt_add_arg(args, opts) < 0))
		r = -ENOMEM;
	if (r == 0 && o->debug && fuse_opt_add_arg(args, "-d") < 0)
		r = -ENOMEM;
	free(opts);
	return r;
}

/* libfuse's messages into our log. */
KS_PRINTF(2, 0)
static void log_of_libfuse(enum fuse_log_level level, const char *fmt, va_list ap)
{
	char text[512];

	vsnprintf(text, sizeof(text), fmt, ap);
	text[strcspn(text, "\n")] = '\0';
	ks_log(level <= FUSE_LOG_ERR       ? KS_LOG_ERROR
	       : level <= FUSE_LOG_WARNING ? KS_LOG_WARN
					   : KS_LOG_DEBUG,
	       "%s", text);
}

int ks_fuse_new(struct ks_fuse **out, const struct ks_fuse_opts *o)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_lowlevel_ops ops = { .init = op_init };
	struct ks_fuse *f = calloc(1, sizeof(*f));
	int r = f ? make_args(&args, o) : -ENOMEM;

	if (r == 0) {
		f->vfs = o->vfs;
		f->root = ks_vfs_root(o->vfs);
		f->attr_s = (double)o->attr_ns / 1e9;
		f->entry_s = (double)o->entry_ns / 1e9;
		f->export = o->export && f->root == KS_ROOT_INO;
		ks_fuse_squash_init(f, o->squash);
		f->direct_writes = kernel_has_direct_writes();
		f->transport = o->transport ? o->transport : &ks_transport_classic;
		f->topts = (struct ks_transport_opts){ .must = o->transport_must,
						       .threads = o->threads,
						       .single = o->single,
						       .arg = o->transport_arg };
		pthread_mutex_init(&f->mu, NULL);
		ks_fuse_waiting_init(f);
		ks_fuse_ops_names(&ops);
		ks_fuse_ops_attrs(&ops);
		ks_fuse_ops_files(&ops);
		ks_fuse_ops_dirs(&ops);
		if (!o->debug)
			fuse_set_log_func(log_of_libfuse);
		f->se = fuse_session_new(&args, &ops, sizeof(ops), f);
		if (!f->se)
			r = ks_fail(-EINVAL, "libfuse refuses the mount options '%s'",
				    o->mount_opts ? o->mount_opts : "");
	}
	fuse_opt_free_args(&args);
	if (r < 0) {
		if (f && f->listeners)
			ks_fuse_waiting_destroy(f);
		free(f);
		return r;
	}
	*out = f;
	return 0;
}

static int mount_failed(const char *mountpoint, int err)
{
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return ks_fail_hint(-errno,
				    "modprobe fuse; in a container, pass the device /dev/fuse in",
				    "open /dev/fuse");
	if (geteuid() != 0)
		return ks_fail_hint(-EPERM,
				    "fusermount3 must be installed; --allow-other needs the line "
				    "user_allow_other in /etc/fuse.conf",
				    "mount on %s", mountpoint);
	return ks_fail(err ? -err : -EIO, "mount on %s", mountpoint);
}

int ks_fuse_mount(struct ks_fuse *f, const char *mountpoint)
{
	if (f->transport->prepare)
		f->transport->prepare();
	errno = 0;
	if (fuse_session_mount(f->se, mountpoint) < 0)
		return mount_failed(mountpoint, errno);
	f->mounted = true;
	return 0;
}

static void interrupt_only(int sig)
{
	(void)sig;
}

int ks_fuse_run(struct ks_fuse *f)
{
	struct sigaction act = { .sa_handler = interrupt_only }, old; /* without SA_RESTART */
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, KS_FUSE_STOP_SIGNAL);
	sigaction(KS_FUSE_STOP_SIGNAL, &act, &old);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ks_mutex_lock(&f->mu);
	f->runner = pthread_self();
	f->running = true;
	ks_mutex_unlock(&f->mu);
	r = f->transport->run(f->se, &f->topts);
	ks_mutex_lock(&f->mu);
	f->running = false;
	ks_mutex_unlock(&f->mu);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	return r;
}

void ks_fuse_stop(struct ks_fuse *f)
{
	struct timespec pause = { .tv_nsec = 10 * KS_NS_PER_MS };
	bool running;

	ks_fuse_end_streams(f);
	fuse_session_exit(f->se);
	/* The signal may come just before the runner waits: again, until it has seen that it is over. */
	do {
		ks_mutex_lock(&f->mu);
		running = f->running;
		if (running)
			pthread_kill(f->runner, KS_FUSE_STOP_SIGNAL);
		ks_mutex_unlock(&f->mu);
		if (running)
			nanosleep(&pause, NULL);
	} while (running);
}

void ks_fuse_end_streams(struct ks_fuse *f)
{
	ks_vfs_log_end(f->vfs);
}

bool ks_fuse_has_streams(const struct ks_fuse *f)
{
	return ks_vfs_log_is_open(f->vfs);
}

void ks_fuse_unmount(struct ks_fuse *f)
{
	ks_fuse_end_streams(f);
	if (f->mounted)
		fuse_session_unmount(f->se);
	f->mounted = false;
}

void ks_fuse_free(struct ks_fuse *f)
{
	if (!f)
		return;
	/* Who waits for the log is answered by this, and nobody waits for it any more. */
	ks_fuse_unmount(f);
	if (f->transport->finish)
		f->transport->finish(&f->topts);
	ks_fuse_waiting_destroy(f);
	fuse_session_destroy(f->se);
	pthread_mutex_destroy(&f->mu);
	free(f);
}

const char *ks_fuse_transport(const struct ks_fuse *f)
{
	return f->transport->current ? f->transport->current(&f->topts) : f->transport->name;
}

const char *ks_fuse_version(void)
{
	return fuse_pkgversion();
}
