/* SPDX-License-Identifier: Apache-2.0 */
/* mount.h: what the files of kiseki-mount share. */
#ifndef KS_CMD_MOUNT_H
#define KS_CMD_MOUNT_H

#include "base/buf.h"
#include "cli/cmd.h"
#include "fuse/fuse.h"
#include "volume/inspect.h"
#include "volume/volume.h"
#include <pthread.h>

enum transport_mode { TRANSPORT_AUTO, TRANSPORT_CLASSIC, TRANSPORT_URING };
enum atime_mode { ATIME_NO, ATIME_REL, ATIME_STRICT };

struct mount_args {
	/* how it runs */
	bool foreground, debug, single, if_not_mounted, update_fstab;
	uint64_t threads;
	int transport; /* enum transport_mode */
	int64_t ready_ns;
	const char *log_file, *access_log;
	uint64_t open_files;
	/* what is mounted */
	bool readonly, allow_other, no_allow_other, no_maintenance;
	int atime;
	struct ks_squash squash;
	int64_t attr_ns, entry_ns;
	/* memory and threads of the data plane */
	uint64_t buffer, spill, readahead, uploads, downloads;
	const char *spill_dir;
	struct ks_buf kernel_opts; /* "ro,nodev" */
	/* found by main() */
	const char *spec; /* as it was typed */
	char *mountpoint; /* absolute */
	char *subdir;
	struct ks_volume_ref ref;
};
extern struct mount_args arg;
extern const struct ks_opt mount_opts[];
extern const char *const mount_atime_names[]; /* by enum atime_mode */

/* options.c: one -o argument, "a,b=c"; NULL, or what is wrong. */
const char *mount_o(const char *value);
/* What -o said wins over configuration files, which are read after the command line. */
void mount_o_again(void);
/* What this command line asks for, "a,b=c" as -o takes it, with absolute paths; "defaults": nothing. */
int mount_words(struct ks_buf *out) KS_MUST_CHECK;

/*
 * fstab.c: --update-fstab; without it nothing happens. The first step reads the file, asks, and writes a new one; the second puts that in its place, the third
 * drops it. *result: "added", "replaced", "unchanged"; NULL: it was not asked for.
 */
int mount_fstab_prepare(void) KS_MUST_CHECK;
int mount_fstab_commit(const char **result) KS_MUST_CHECK;
void mount_fstab_abort(void);

/* where.c: is the mount point one? 0; 1: it is mounted already, and that is wanted; -errno, raised. */
int mount_check_where(const char *dir) KS_MUST_CHECK;
/* Does the absolute path lie within the mount point? */
bool mount_has_inside(const char *real);

/* config.c: what is in force, without secrets. The caller's; NULL: no memory. */
json_t *mount_config_json(const struct ks_mount_info *info, const struct ks_volume *vol);

/* logfile.c: a file of lines. Zeroed but for what MOUNT_LOGFILE() says. */
struct mount_logfile {
	const char *what; /* "log file" */
	const char *path;
	mode_t mode; /* when it is made */
	int fd;      /* [mu] */
	bool fresh;  /* [mu] opened anew, and nothing written since */
	pthread_mutex_t mu;
};
#define MOUNT_LOGFILE(w, m)                                                                        \
	{                                                                                          \
		.what = (w), .mode = (m), .fd = -1, .mu = PTHREAD_MUTEX_INITIALIZER                \
	}
/* @path: absolute, borrowed for ever. It must not lie within the mount point. */
int mount_logfile_open(struct mount_logfile *f, const char *path) KS_MUST_CHECK;
void mount_logfile_reopen(struct mount_logfile *f); /* or goes on with the old one, and says so */
/*
 * Whole lines, from *off on, which is where it came to: back at the start of a line when the file is another one by now. -errno: not all of it; the
 * same again goes on there.
 */
int mount_logfile_write(struct mount_logfile *f, const char *lines, size_t n,
			size_t *off) KS_MUST_CHECK;

/* logsink.c */
int mount_log_open(void) KS_MUST_CHECK; /* --log-file, before anything else is done */
void mount_log_to_daemon(void);         /* from now on no terminal */
void mount_log_reopen(void);

/* accesslog.c: --access-log; without it nothing happens, and no thread runs. */
int mount_access_open(void) KS_MUST_CHECK;                /* before anything else is done */
int mount_access_start(struct ks_vfs *vfs) KS_MUST_CHECK; /* before the first request */
void mount_access_reopen(void);
void mount_access_stop(
	void); /* after the last one; writes what there is. Harmless without a start */

/*
 * notify.c: what the service manager is told. Without one nothing happens, and no thread runs.
 * The thread looks at @vfs until the stop, which comes after the mount is gone: its look at the mount point must end.
 */
int mount_notify_start(struct ks_vfs *vfs) KS_MUST_CHECK;
void mount_notify_ready(void);
void mount_notify_reload(void (*reload)(void)); /* calls it, and tells of it */
void mount_notify_stopping(void);
void mount_notify_stop(void); /* harmless without a start */

/* resident.c: maps the code that serves requests, all of it. Any thread. */
void mount_stay_resident(void);

/* What a mount tells who waits for it: it is ready, or why not. */
struct mount_report {
	int code; /* 0: ready; -errno */
	char text[512], hint[512];
};
/* serve.c: mounts, serves until unmounted. @ready: descriptor that gets one struct mount_report, or -1. 0 or -errno. */
int mount_serve(int ready) KS_MUST_CHECK;
/* daemon.c: runs mount_serve() in a child; returns when it is ready. *pid: of the child. */
int mount_in_background(int *pid) KS_MUST_CHECK;

#endif
