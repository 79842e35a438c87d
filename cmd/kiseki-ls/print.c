/* SPDX-License-Identifier: Apache-2.0 */
/* print.c: one entry, for people, for scripts, as JSON. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "ls.h"
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void mode_text(uint32_t m, char text[11])
{
	static const char types[] = "?pc?d?b?-?l?s???";

	text[0] = types[(m & S_IFMT) >> 12];
	for (int i = 0; i < 9; i++)
		text[1 + i] = (char)(m & (0400u >> i) ? "rwx"[i % 3] : '-');
	if (m & S_ISUID)
		text[3] = m & 0100 ? 's' : 'S';
	if (m & S_ISGID)
		text[6] = m & 0010 ? 's' : 'S';
	if (m & S_ISVTX)
		text[9] = m & 0001 ? 't' : 'T';
	text[10] = '\0';
}

static void user_name(uint32_t uid, char *text, size_t size)
{
	struct passwd pw;
	struct passwd *found = NULL;
	char buf[2048];

	if (arg.plain || getpwuid_r(uid, &pw, buf, sizeof(buf), &found) != 0 || !found)
		snprintf(text, size, "%" PRIu32, uid);
	else
		snprintf(text, size, "%s", pw.pw_name);
}

static void group_name(uint32_t gid, char *text, size_t size)
{
	struct group gr;
	struct group *found = NULL;
	char buf[4096];

	if (arg.plain || getgrgid_r(gid, &gr, buf, sizeof(buf), &found) != 0 || !found)
		snprintf(text, size, "%" PRIu32, gid);
	else
		snprintf(text, size, "%s", gr.gr_name);
}

static void put_details(const struct ks_attr *a)
{
	char mode[11];
	char user[64];
	char group[64];
	char size[KS_SIZE_STR];
	char time[KS_TIME_STR];

	mode_text(a->mode, mode);
	user_name(a->uid, user, sizeof(user));
	group_name(a->gid, group, sizeof(group));
	ks_time_format(a->mtime_ns, time);
	if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
		snprintf(size, sizeof(size), "%u,%u", (a->rdev & 0xfff00) >> 8,
			 (a->rdev & 0xff) | ((a->rdev >> 12) & 0xfff00));
	} else if (arg.plain) {
		snprintf(size, sizeof(size), "%" PRIu64, a->size);
	} else {
		ks_cmd_size(a->size, size);
	}
	if (arg.plain) {
		printf("%s\t%" PRIu32 "\t%s\t%s\t%s\t%s\t", mode, a->nlink, user, group, size,
		       time);
	} else {
		printf("%s %4" PRIu32 " %-8s %-8s %10s %.10s %.5s  ", mode, a->nlink, user, group,
		       size, time, time + 11);
	}
}

static void put_json(const struct ks_list_entry *e)
{
	const struct ks_attr *a = e->attr;
	KS_AUTO(ks_freep) char *path = ks_asprintf("%s%.*s", out.prefix, (int)e->n, e->path);
	char mode[8];
	json_t *j = json_pack("{s:s,s:s}", "type", "item", "kind", ks_cmd_kind(a->mode));

	snprintf(mode, sizeof(mode), "%04o", a->mode & 07777);
	json_object_set_new(j, "inode", json_integer((json_int_t)a->ino));
	json_object_set_new(j, "mode", json_string(mode));
	json_object_set_new(j, "nlink", json_integer(a->nlink));
	json_object_set_new(j, "uid", json_integer(a->uid));
	json_object_set_new(j, "gid", json_integer(a->gid));
	json_object_set_new(j, "size", json_integer((json_int_t)a->size));
	json_object_set_new(j, "mtime", ks_json_time(a->mtime_ns));
	json_object_set_new(j, "mtime_ns", json_integer(a->mtime_ns));
	if (e->target)
		KS_IGNORE(ks_json_name(j, "target", e->target, strlen(e->target)) <
			  0); /* printed without */
	ks_json_item(j, "path", path ? path : "");
}

/* As GNU ls has it by itself; NULL: none. */
static const char *color_of(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "1;34";
	case S_IFLNK:
		return "1;36";
	case S_IFIFO:
		return "33";
	case S_IFSOCK:
		return "1;35";
	case S_IFCHR:
	case S_IFBLK:
		return "1;33";
	default:
		return mode & 0111 ? "1;32" : NULL;
	}
}

static void put_path(const struct ks_list_entry *e)
{
	const char *sgr = out.color ? color_of(e->attr->mode) : NULL;

	if (sgr)
		printf("\033[%sm", sgr);
	ks_cmd_put_name(e->path, e->n, out.escape);
	if (sgr)
		fputs("\033[" KS_SGR_OFF "m", stdout);
}

int ls_entry(void *unused, const struct ks_list_entry *e)
{
	(void)unused;
	out.entries++;
	if (ks_common.quiet)
		return 0;
	if (ks_common.json) {
		put_json(e);
		return 0;
	}
	if (arg.details && !arg.plain && !arg.nul && out.entries == 1)
		printf("%-10s %4s %-8s %-8s %10s %-16s  %s\n", "MODE", "LINK", "OWNER", "GROUP",
		       "SIZE", "MODIFIED (UTC)", "NAME");
	if (arg.details)
		put_details(e->attr);
	fputs(out.prefix, stdout);
	put_path(e);
	if (arg.slash && S_ISDIR(e->attr->mode))
		putchar('/');
	if (arg.details && e->target) {
		fputs(" -> ", stdout);
		ks_cmd_put_name(e->target, strlen(e->target), out.escape);
	}
	putchar(arg.nul ? '\0' : '\n');
	return ferror(stdout) ? -EPIPE : 0;
}
