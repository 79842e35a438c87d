/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control.h: the control socket of a mount: how another process asks it to flush, or how it is. Root cannot look into a user's mount, but can connect here.
 *
 * One line of JSON in, {"op":"ping"}, one line out, {"ok":true,...} or {"ok":false,"errno":"EIO","error":"text"}. kiseki-json(7) has the members.
 *
 *	ping	pid, mountpoint, device, transport (once the mount answers), volume, version
 *	stats	ping's, and the counters
 *	flush	everything written so far is stored and durable when the answer comes
 *
 * The socket is PID.sock in /run/kiseki (root), $XDG_RUNTIME_DIR/kiseki, or /tmp/kiseki-UID; directory 0700, socket 0600.
 */
#ifndef KS_VOLUME_CONTROL_H
#define KS_VOLUME_CONTROL_H

#include "volume/inspect.h"

struct ks_control;

/* Where this process's socket goes; the directory is made, sockets of processes that are gone are removed. Owned. Return: 0; -errno, raised. */
int ks_control_path(char **path) KS_MUST_CHECK;
/* @info is borrowed until the stop. */
int ks_control_start(struct ks_control **out, const char *path, struct ks_vfs *v,
		     const struct ks_mount_info *info) KS_MUST_CHECK;
void ks_control_stop(struct ks_control *c); /* removes the socket; NULL is fine */

/**
 * ks_control_call() - ask a mount
 * @reply:   the line, owned, without newline; may be NULL
 * @timeout_ns: < 0: none
 *
 * Return: 0; -ECONNREFUSED or -ENOENT nobody is there; -ETIMEDOUT; what the operation failed with, its text raised.
 */
int ks_control_call(const char *path, const char *op, int64_t timeout_ns,
		    char **reply) KS_MUST_CHECK;

/* What carries the requests of the mount that is process @pid, owned. NULL: whoever is there is not that mount, or does not say in time; not raised. */
char *ks_control_transport(const char *path, int pid, int64_t timeout_ns);

struct ks_control_found {
	int pid;
	char *path; /* of the socket */
};
/* The mount whose file system has the device @dev and belongs to user @uid. -ENOENT: none answers, not raised. */
int ks_control_find(struct ks_control_found *out, dev_t dev, uid_t uid) KS_MUST_CHECK;

#endif
