/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c: the option table, and -o: any long option without its dashes, what belongs to the kernel, what only concerns mount(8).
 * An unknown key is an error, with the nearest known one.
 */
#include "base/log.h"
#include "mount.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct mount_args arg = {
	.ready_ns = 30000000000,
	.attr_ns = 1000000000,
	.entry_ns = 1000000000,
	.buffer = 256 * KS_MIB,
	.spill = 0,
	.readahead = 16 * KS_MIB,
	.uploads = 4,
	.downloads = 4,
	.threads = 16,
	.open_files = 1048576,
	.squash = { .uid = -1, .gid = -1 },
};

static const char *const transport_names[] = { "auto", "classic", "uring", NULL };
const char *const mount_atime_names[] = { "no", "rel", "strict", NULL };

static const char *set_uid(const char *value)
{
	arg.squash.uid = ks_cmd_user(value);
	return arg.squash.uid < 0 ? "a user is wanted, by name or number" : NULL;
}

static const char *set_gid(const char *value)
{
	arg.squash.gid = ks_cmd_group(value);
	return arg.squash.gid < 0 ? "a group is wanted, by name or number" : NULL;
}

static const char *set_umask(const char *value)
{
	char *end;
	unsigned long bits = strtoul(value, &end, 8);

	arg.squash.umask = (mode_t)bits;
	return value[0] < '0' || value[0] > '7' || *end || bits > 0777
		       ? "an octal number is wanted, up to 777, as 027"
		       : NULL;
}

const struct ks_opt mount_opts[] = {
	KS_OPT_FLAG('f', "foreground", &arg.foreground,
		    "stay in the foreground (systemd: Type=notify)"),
	KS_OPT_FLAG('d', "debug", &arg.debug, "print every request; implies -f"),
	KS_OPT_FLAG('s', "single-thread", &arg.single, "serve one request after the other"),
	KS_OPT_CALL('o', NULL, "OPT[,OPT]", mount_o,
		    "any long option without dashes, or a mount option"),
	KS_OPT_FLAG(0, "read-only", &arg.readonly, "no changes (-o ro)"),
	KS_OPT_FLAG(0, "allow-other", &arg.allow_other, "let other users in; default for root"),
	KS_OPT_FLAG(0, "no-allow-other", &arg.no_allow_other, "keep other users out, also as root"),
	KS_OPT_FLAG(0, "if-not-mounted", &arg.if_not_mounted,
		    "succeed if this volume is mounted there already"),
	KS_OPT_FLAG_CMD(0, "update-fstab", &arg.update_fstab,
			"add or replace its line in /etc/fstab; asks"),
	KS_OPT_DURATION(0, "ready-timeout", &arg.ready_ns,
			"give up if not usable by then (default 30s)"),
	KS_OPT_GROUP("Memory and threads"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "buffer-size",
	  .arg = "SIZE",
	  .value = &arg.buffer,
	  .min = 16 * KS_MIB,
	  .help = "memory for file data (default 256M, at least 16M)" },
	{ .kind = KS_OPT_K_STRING,
	  .name = "spill-dir",
	  .arg = "DIR",
	  .value = &arg.spill_dir,
	  .help = "directory for a file with more of it" },
	KS_OPT_SIZE(0, "spill-size", &arg.spill, "size of that file (default 1G)"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "readahead",
	  .arg = "SIZE",
	  .value = &arg.readahead,
	  .flags = KS_OPT_OFF,
	  .help = "read ahead per stream (default 16M), or off" },
	KS_OPT_INTEGER(0, "uploads", 1, 256, &arg.uploads,
		       "blocks written to the store at a time (4)"),
	KS_OPT_INTEGER(0, "downloads", 1, 256, &arg.downloads, "blocks read ahead at a time (4)"),
	KS_OPT_INTEGER(0, "threads", 1, 1024, &arg.threads,
		       "threads that serve requests, at most (16)"),
	KS_OPT_ENUM(0, "transport", "HOW", transport_names, &arg.transport,
		    "auto (default), classic, uring: see the manual"),
	KS_OPT_INTEGER(0, "open-files", 64, 1u << 30, &arg.open_files,
		       "descriptors to ask for (1048576)"),
	KS_OPT_GROUP("File system"),
	KS_OPT_DURATION(0, "attr-timeout", &arg.attr_ns,
			"how long attributes may be believed (1s)"),
	KS_OPT_DURATION(0, "entry-timeout", &arg.entry_ns, "how long names may be believed (1s)"),
	KS_OPT_ENUM(0, "atime", "WHEN", mount_atime_names, &arg.atime,
		    "access times: no (default), rel, strict"),
	KS_OPT_CALL(0, "uid", "USER", set_uid, "show everything as this user's"),
	KS_OPT_CALL(0, "gid", "GROUP", set_gid, "show everything as this group's"),
	KS_OPT_CALL(0, "umask", "MODE", set_umask, "permissions that nobody has, as 027"),
	KS_OPT_FLAG(0, "no-maintenance", &arg.no_maintenance,
		    "leave deleted data and compaction to others"),
	KS_OPT_STRING(0, "log-file", "FILE", &arg.log_file,
		      "write messages there; SIGHUP opens it anew"),
	KS_OPT_STRING(0, "access-log", "FILE", &arg.access_log,
		      "a line there for each request; likewise"),
	KS_OPT_END,
};

/* For mount(8), systemd and fstab; they do not concern us. */
static const char *const dropped[] = { "_netdev",    "nofail",        "noauto", "auto",  "user",
				       "users",      "nouser",        "owner",  "group", "defaults",
				       "rw",         "loud",          "silent", "mand",  "nomand",
				       "norelatime", "nostrictatime", NULL };
/* Kernel's and fusermount3's. */
static const char *const passed[] = { "suid", "nosuid", "dev",     "nodev",      "exec", "noexec",
				      "sync", "async",  "dirsync", "nodiratime", NULL };
static const char *const passed_values[] = { "context=", "fscontext=", "defcontext=",
					     "rootcontext=", NULL };

static bool is_one_of(const char *const *list, const char *word)
{
	for (; *list; list++) {
		if (strcmp(*list, word) == 0)
			return true;
	}
	return false;
}

static bool has_prefix_of(const char *const *list, const char *word)
{
	for (; *list; list++) {
		if (strncmp(*list, word, strlen(*list)) == 0)
			return true;
	}
	return false;
}

static const char *pass(const char *key)
{
	return ks_buf_printf(&arg.kernel_opts, "%s%s", arg.kernel_opts.n ? "," : "", key) < 0
		       ? "out of memory"
		       : NULL;
}

static const char *unknown(const char *key)
{
	static char text[256];
	const char *near = ks_opt_nearest(mount_opts, key);

	for (const char *const *p = passed; !near && *p; p++)
		near = ks_typo_distance(key, *p) >= 0 ? *p : NULL;
	if (near)
		snprintf(text, sizeof(text), "unknown mount option '%.64s'; did you mean '%s'?",
			 key, near);
	else
		snprintf(text, sizeof(text), "unknown mount option '%.64s'", key);
	return text;
}

/* Words of mount(8) that are options of ours. */
static bool is_alias(const char *key)
{
	if (strcmp(key, "ro") == 0)
		arg.readonly = true;
	else if (strcmp(key, "noatime") == 0)
		arg.atime = ATIME_NO;
	else if (strcmp(key, "relatime") == 0 || strcmp(key, "atime") == 0)
		arg.atime = ATIME_REL;
	else if (strcmp(key, "strictatime") == 0)
		arg.atime = ATIME_STRICT;
	else
		return false;
	return true;
}

/* What ks_opt_apply() raised, without its errno: the caller adds what is said of every bad option. */
static const char *complaint(void)
{
	static char text[512];
	char *colon;

	snprintf(text, sizeof(text), "%s", ks_fail_text());
	colon = strrchr(text, ':');
	if (colon)
		*colon = '\0';
	return text;
}

static const char *one_option(char *word)
{
	char *eq = strchr(word, '=');
	bool quiet;
	int r;

	if (is_one_of(dropped, word) || strncmp(word, "x-", 2) == 0 ||
	    strncmp(word, "comment=", 8) == 0)
		return NULL;
	if (is_one_of(passed, word) || has_prefix_of(passed_values, word))
		return pass(word);
	/* "atime=rel" is the option, "atime" alone is mount(8)'s word. */
	if (!eq && is_alias(word))
		return NULL;
	if (eq)
		*eq++ = '\0';
	if (strcmp(word, "update-fstab") == 0 || strcmp(word, "update_fstab") == 0)
		return "--update-fstab is no mount option";
	quiet = ks_fail_quiet(true);
	r = ks_opt_apply(mount_opts, word, eq);
	ks_fail_quiet(quiet);
	if (r == 0)
		return NULL;
	return r == -ENOENT ? unknown(word) : complaint();
}

#define O_MAX 64

/* String options borrow their values for ever; the words are read up to three times. */
static char *lent[3 * O_MAX];
static size_t nlent;

/* Each word of one argument of -o, "a,b=c"; the text that @fn returned, or NULL. */
static const char *each_word(const char *value, const char *(*fn)(char *word))
{
	char *copy = lent[nlent++] = strdup(value);
	const char *why = copy ? NULL : "out of memory";
	char *from = copy, *to = copy, *word = copy;

	/* A comma within a value is written "\,". */
	while (!why && from) {
		bool end = *from == '\0';

		if (from[0] == '\\' && (from[1] == ',' || from[1] == '\\')) {
			*to++ = from[1];
			from += 2;
			continue;
		}
		if (!end && *from != ',') {
			*to++ = *from++;
			continue;
		}
		from = end ? NULL : from + 1;
		*to++ = '\0';
		why = *word ? fn(word) : NULL;
		word = to;
	}
	return why;
}

static const char *given[O_MAX];
static size_t ngiven;

const char *mount_o(const char *value)
{
	if (ngiven == KS_ARRAY_SIZE(given))
		return "too many -o";
	given[ngiven++] = value;
	return each_word(value, one_option);
}

void mount_o_again(void)
{
	ks_buf_clear(&arg.kernel_opts);
	/* They were right the first time. */
	for (size_t i = 0; i < ngiven; i++)
		KS_IGNORE(each_word(given[i], one_option) != NULL);
}

/* ---- the command line as words ---- */

static struct ks_buf words;

/* The same path wherever the word is read. */
static const char *absolute_value(const char *name, const char *value)
{
	static const struct {
		const char *name, *alias;
		const char **path; /* main() has made it absolute */
	} paths[] = {
		{ "log-file", "log_file", &arg.log_file },
		{ "access-log", "access_log", &arg.access_log },
		{ "spill-dir", "spill_dir", &arg.spill_dir },
	};

	for (size_t i = 0; i < KS_ARRAY_SIZE(paths); i++) {
		if (strcmp(name, paths[i].name) == 0 || strcmp(name, paths[i].alias) == 0)
			return *paths[i].path;
	}
	return value;
}

static int add_word(const char *name, const char *value)
{
	const char *p = value ? absolute_value(name, value) : "";
	int r = ks_buf_printf(&words, "%s%s%s", words.n ? "," : "", name, value ? "=" : "");

	for (; r == 0 && *p; p++)
		r = ks_buf_printf(&words, "%s%c", *p == ',' || *p == '\\' ? "\\" : "", *p);
	return r;
}

static const char *add_given_word(char *word)
{
	char *eq = strchr(word, '=');

	if (eq)
		*eq++ = '\0';
	return add_word(word, eq) < 0 ? "out of memory" : NULL;
}

int mount_words(struct ks_buf *out)
{
	const char *value, *why = NULL;
	int r = 0;

	for (const struct ks_opt *o = mount_opts; r == 0 && o->kind != KS_OPT_K_END; o++) {
		if (!o->name || o->value == &arg.update_fstab || !ks_cmd_given_value(o, &value))
			continue;
		/* mount(8) and others know it by this word. */
		r = add_word(o->value == &arg.readonly ? "ro" : o->name, value);
	}
	/* Behind them: they win here, too. */
	for (size_t i = 0; r == 0 && !why && i < ngiven; i++)
		why = each_word(given[i], add_given_word);
	if (r == 0 && !why && words.n == 0)
		r = ks_buf_printf(&words, "defaults");
	*out = words;
	words = (struct ks_buf){ 0 };
	return why ? -ENOMEM : r;
}
