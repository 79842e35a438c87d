/* SPDX-License-Identifier: Apache-2.0 */
/* holders.c: who keeps a mount busy. What /proc says is enough; the mount itself is not touched. */
#include "base/buf.h"
#include "cli/cmd.h"
#include "umount.h"
#include <ctype.h>
#include <dirent.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct scan {
	const char *dir;
	int pid;
	int found; /* processes */
	int lines; /* of this process */
};

#define LINES_MAX 8 /* of one process: enough to see what it does */

static bool inside(const char *dir, const char *path)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || path[n] == ' ');
}

static void print_one(struct scan *s, const char *what, const char *path)
{
	char comm[32] = "?", proc[64], user[40];
	struct stat st;
	struct passwd *pw = NULL;
	FILE *f;

	s->found += s->lines == 0;
	if (s->lines++ >= LINES_MAX)
		return;
	snprintf(proc, sizeof(proc), "/proc/%d/comm", s->pid);
	f = fopen(proc, "re");
	if (f) {
		if (fgets(comm, sizeof(comm), f))
			comm[strcspn(comm, "\n")] = '\0';
		fclose(f);
	}
	snprintf(proc, sizeof(proc), "/proc/%d", s->pid);
	if (stat(proc, &st) == 0)
		pw = getpwuid(st.st_uid);
	if (pw)
		snprintf(user, sizeof(user), "%.32s", pw->pw_name);
	else
		snprintf(user, sizeof(user), "%u", (unsigned int)st.st_uid);
	ks_cmd_more("    %-7d %-8s %-15s %s %s", s->pid, user, comm, what, path);
}

static void look_at_link(struct scan *s, const char *name, const char *what)
{
	char proc[320], path[4096];
	ssize_t n;

	snprintf(proc, sizeof(proc), "/proc/%d/%s", s->pid, name);
	n = readlink(proc, path, sizeof(path) - 1);
	if (n <= 0)
		return;
	path[n] = '\0';
	if (inside(s->dir, path))
		print_one(s, what, path);
}

static void look_at_fds(struct scan *s)
{
	char proc[64];
	struct dirent *e;
	DIR *d;

	snprintf(proc, sizeof(proc), "/proc/%d/fd", s->pid);
	d = opendir(proc);
	while (d && (e = readdir(d))) {
		char name[280], what[280];

		snprintf(name, sizeof(name), "fd/%s", e->d_name);
		snprintf(what, sizeof(what), "fd %s", e->d_name);
		if (isdigit((unsigned char)e->d_name[0]))
			look_at_link(s, name, what);
	}
	if (d)
		closedir(d);
}

static void look_at_maps(struct scan *s)
{
	KS_AUTO(ks_freep) char *line = NULL;
	char proc[64], last[4096] = "";
	size_t cap = 0;
	FILE *f;

	snprintf(proc, sizeof(proc), "/proc/%d/maps", s->pid);
	f = fopen(proc, "re");
	while (f && getline(&line, &cap, f) > 0) {
		char *path = strchr(line, '/');

		if (!path)
			continue;
		path[strcspn(path, "\n")] = '\0';
		/* One file has several segments. */
		if (!inside(s->dir, path) || strcmp(path, last) == 0)
			continue;
		snprintf(last, sizeof(last), "%s", path);
		print_one(s, "map", path);
	}
	if (f)
		fclose(f);
}

int print_holders(const char *dir, int but)
{
	struct scan s = { .dir = dir };
	struct dirent *e;
	DIR *d = opendir("/proc");

	while (d && (e = readdir(d))) {
		s.pid = isdigit((unsigned char)e->d_name[0]) ? (int)strtol(e->d_name, NULL, 10) : 0;
		s.lines = 0;
		if (s.pid <= 0 || s.pid == but || s.pid == (int)getpid())
			continue;
		look_at_link(&s, "cwd", "cwd");
		look_at_link(&s, "root", "root");
		look_at_link(&s, "exe", "exe");
		look_at_fds(&s);
		look_at_maps(&s);
	}
	if (d)
		closedir(d);
	return s.found;
}
