/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c: the life of a mount, in the process that serves it. No thread runs before it begins.
 *
 *	open the volume -> mount -> serve; another thread looks at the mount point, and when that has answered, says "ready"
 *	unmounted, or SIGTERM -> flush, end the session -> the process ends
 */
#include "base/apart.h"
#include "base/log.h"
#include "base/thread.h"
#include "fuse/signals.h"
#include "fuse/transport.h"
#include "mount.h"
#include "volume/control.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

struct server {
	int ready; /* descriptor, or -1 */
	struct ks_volume *vol;
	struct ks_fuse *fuse;
	struct ks_control *control;
	struct ks_fuse_signals *signals;
	char *socket;
	struct ks_mount_info info;
	struct ks_apart look;
	pthread_t probe;
	bool probing;
	bool served;
};

static void report(int fd, int code)
{
	struct mount_report rep = { .code = code };

	if (fd < 0)
		return;
	if (code < 0) {
		snprintf(rep.text, sizeof(rep.text), "%s",
			 *ks_fail_text() ? ks_fail_text() : ks_strerror(code));
		snprintf(rep.hint, sizeof(rep.hint), "%s", ks_fail_hint_text());
	}
	/* Less than a pipe takes at once; who does not wait any more does not get it. */
	KS_IGNORE(write(fd, &rep, sizeof(rep)) < 0);
}

/* No terminal from now on; the journal is none, and gets our messages. */
static void let_go(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int n = ks_cmd_to_journal() ? 2 : 3;

	/*
	 * Not before the mount point has answered: autofs and systemd's automount let only their own process group through
	 * while a mount is being made, and would wait for us as we for them.
	 */
	KS_IGNORE(setsid() < 0);
	for (int i = 0; null >= 0 && i < n; i++)
		KS_IGNORE(dup2(null, i) < 0);
	if (null > 2)
		close(null);
}

static int look(const void *mountpoint, void *st)
{
	return stat(mountpoint, st) < 0 ? -errno : 0;
}

/* The mount point answers only when the kernel, the transport and the volume do. */
static void *probe(void *p)
{
	struct server *s = p;
	struct stat st;
	int r = ks_apart_end(&s->look, &st);

	if (r < 0) {
		r = ks_fail_hint(r, "kiseki-fsck tells what is wrong with the volume",
				 "the mounted file system on %s does not answer", arg.mountpoint);
		report(s->ready, r);
		ks_fuse_stop(s->fuse);
		return NULL;
	}
	ks_mount_info_set(&s->info, st.st_dev, ks_fuse_transport(s->fuse));
	ks_log(KS_LOG_INFO, "mounted '%s' (%s), transport %s", arg.spec, s->vol->shown_url,
	       ks_fuse_transport(s->fuse));
	if (!arg.foreground)
		let_go();
	report(s->ready, 0);
	mount_notify_ready();
	mount_stay_resident();
	return NULL;
}

static void raise_limits(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return;
	if (l.rlim_max < arg.open_files && geteuid() == 0) {
		struct rlimit more = { .rlim_cur = arg.open_files, .rlim_max = arg.open_files };

		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			return;
	}
	l.rlim_cur = ks_min((rlim_t)arg.open_files, l.rlim_max);
	/* With fewer it works as well, only slower. */
	KS_IGNORE(setrlimit(RLIMIT_NOFILE, &l));
}

static int open_volume(struct server *s)
{
	struct ks_volume_opts o = {
		.readonly = arg.readonly,
		.session = KS_SESSION_MOUNT,
		.tool = "kiseki-mount",
		.mountpoint = arg.mountpoint,
		.maintenance = !arg.no_maintenance,
		.subdir = arg.subdir,
		.noatime = arg.atime == ATIME_NO,
		.relatime = arg.atime == ATIME_REL,
		.data = {
			.buffer_bytes = arg.buffer,
			.spill_dir = arg.spill_dir,
			.spill_bytes = arg.spill_dir ? (arg.spill ? arg.spill : KS_GIB) : 0,
			.readahead_bytes = arg.readahead ? arg.readahead : UINT64_MAX,
			.uploads = (unsigned int)arg.uploads,
			.downloads = (unsigned int)arg.downloads,
		},
	};
	int r = ks_control_path(&s->socket);

	/* Without a private place for the socket a mount works, and says that it cannot be asked. */
	if (r < 0)
		ks_cmd_note("no control socket: %s", ks_fail_text());
	o.socket = s->socket;
	return ks_volume_open(&s->vol, &arg.ref, &o);
}

/* What a file of the hidden directory says. */
static int virtual_text(void *p, enum ks_virtual_file file, struct ks_buf *out)
{
	struct server *s = p;

	switch (file) {
	case KS_VIRTUAL_STATS:
		return ks_json_text(ks_stats_json(&s->info, s->vol->vfs), out);
	case KS_VIRTUAL_METRICS:
		return ks_metrics_text(&s->info, s->vol->vfs, out);
	case KS_VIRTUAL_CONFIG:
		return ks_json_text(mount_config_json(&s->info, s->vol), out);
	}
	return -ENOENT;
}

static int start_virtual(struct server *s)
{
	struct ks_virtual_opts o = {
		.uid = geteuid(), .gid = getegid(), .text = virtual_text, .arg = s
	};

	s->info = (struct ks_mount_info){ .volume = s->vol->settings->name,
					  .mountpoint = arg.mountpoint,
					  .version = KS_VERSION };
	return ks_vfs_start_virtual(s->vol->vfs, &o);
}

static int mount_it(struct server *s)
{
	bool others = !arg.no_allow_other && (arg.allow_other || geteuid() == 0);
	KS_AUTO(ks_freep)
	char *opts =
		ks_asprintf("%s%s%s%.*s", arg.readonly ? "ro" : "rw", others ? ",allow_other" : "",
			    arg.kernel_opts.n ? "," : "", (int)arg.kernel_opts.n,
			    arg.kernel_opts.n ? arg.kernel_opts.p : "");
	struct ks_fuse_opts o = {
		.vfs = s->vol->vfs,
		.attr_ns = arg.attr_ns,
		.entry_ns = arg.entry_ns,
		.threads = (unsigned int)arg.threads,
		.single = arg.single,
		.transport = arg.transport == TRANSPORT_CLASSIC ||
					     (arg.transport == TRANSPORT_AUTO && arg.single)
				     ? &ks_transport_classic
				     : &ks_transport_uring,
		.transport_must = arg.transport == TRANSPORT_URING,
		.debug = arg.debug,
		.export = !arg.subdir,
		.squash = &arg.squash,
		.fsname = arg.spec,
		.subtype = "kiseki",
		.mount_opts = opts,
	};
	int r = opts ? ks_fuse_new(&s->fuse, &o) : -ENOMEM;

	return r < 0 ? r : ks_fuse_mount(s->fuse, arg.mountpoint);
}

static void reopen(void)
{
	mount_log_reopen();
	mount_access_reopen();
}

/* SIGHUP */
static void reload(void)
{
	mount_notify_reload(reopen);
}

static int start_helpers(struct server *s)
{
	int r = 0;

	if (s->socket)
		r = ks_control_start(&s->control, s->socket, s->vol->vfs, &s->info);
	if (r == 0)
		r = ks_fuse_signals_start(&s->signals, s->fuse, arg.mountpoint, reload);
	if (r == 0)
		r = mount_notify_start(s->vol->vfs);
	/* It is forked before the rings are made: they must not live on in it. */
	if (r == 0)
		r = ks_apart_begin(&s->look, look, arg.mountpoint, sizeof(struct stat));
	if (r == 0) {
		r = ks_thread_start(&s->probe, "ks-probe", probe, s);
		s->probing = r == 0;
	}
	return r;
}

/* Takes down what stands, in order; the first error of what had to be stored. */
static int take_down(struct server *s)
{
	int r;

	mount_notify_stopping();
	if (s->fuse)
		ks_fuse_unmount(s->fuse);
	/* Its stat() has ended: answered, or failed with the connection. */
	if (s->probing)
		pthread_join(s->probe, NULL);
	mount_notify_stop();
	ks_control_stop(s->control);
	ks_fuse_signals_stop(s->signals);
	ks_fuse_free(s->fuse);
	mount_access_stop();
	r = ks_volume_close(s->vol);
	if (r < 0)
		ks_log(KS_LOG_ERROR, "not everything could be stored: %s",
		       *ks_fail_text() ? ks_fail_text() : ks_strerror(r));
	else if (s->served)
		ks_log(KS_LOG_INFO, "unmounted");
	free(s->socket);
	return r;
}

int mount_serve(int ready)
{
	struct server s = { .ready = ready };
	int r, down;

	ks_fuse_signals_block();
	if (ks_cmd_stopped())
		return ks_fail(-EINTR, "stopped before the mount was ready");
	raise_limits();
	r = open_volume(&s);
	if (r == 0)
		r = start_virtual(&s);
	if (r == 0)
		r = mount_access_start(s.vol->vfs);
	if (r == 0)
		r = mount_it(&s);
	if (r == 0) {
		/* Threads raise errors into the log; what this one raises is still said by who waits. */
		mount_log_to_daemon();
		r = start_helpers(&s);
	}
	if (r < 0) {
		report(ready, r);
		KS_IGNORE(take_down(&s));
		return r;
	}
	s.served = true;
	ks_fail_quiet(false);
	r = ks_fuse_run(s.fuse);
	down = take_down(&s);
	return r < 0 ? r : down;
}
