/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: the command line of kiseki-cp. */
#include "base/size.h"
#include "cp.h"
#include <stdlib.h>
#include <string.h>

struct cp_args arg = { .max_delete = UINT64_MAX, .uid = -1, .gid = -1 };

static const char *const preserve_names[] = { "mode",  "owner", "times", "xattr",
					      "links", "acl",   "all",   NULL };
static const char *const reflink_names[] = { "auto", "always", "never", NULL };

static const char *set_preserve(const char *value)
{
	static const struct {
		const char *name;
		unsigned int bit;
	} words[] = {
		{ "mode", KS_COPY_MODE },        { "owner", KS_COPY_OWNER },
		{ "ownership", KS_COPY_OWNER },  { "times", KS_COPY_TIMES },
		{ "timestamps", KS_COPY_TIMES }, { "xattr", KS_COPY_XATTR },
		{ "links", KS_COPY_LINKS },      { "acl", KS_COPY_ACL },
		{ "all", KS_COPY_ALL },
	};

	arg.preserve = true;
	if (!value) {
		arg.keep |= KS_COPY_MODE | KS_COPY_OWNER | KS_COPY_TIMES | KS_COPY_ACL;
		return NULL;
	}
	while (*value) {
		size_t n = strcspn(value, ",");
		bool known = false;

		for (size_t i = 0; i < KS_ARRAY_SIZE(words); i++) {
			if (strlen(words[i].name) == n && strncmp(words[i].name, value, n) == 0) {
				arg.keep |= words[i].bit;
				known = true;
			}
		}
		if (!known)
			return "a list of mode, owner, times, xattr, links, acl, all is wanted";
		value += n + (value[n] == ',');
	}
	return NULL;
}

static const char *set_exclude(const char *value)
{
	return ks_filter_add(&arg.filter, value, false) < 0 ? "a pattern is wanted" : NULL;
}

static const char *set_include(const char *value)
{
	return ks_filter_add(&arg.filter, value, true) < 0 ? "a pattern is wanted" : NULL;
}

static const char *set_chmod(const char *value)
{
	return ks_mode_parse(value, &arg.chmod) < 0 ? "a mode is wanted, as 640 or u=rwX,go-w"
						    : NULL;
}

/* Nothing leaves it as it is. */
static bool parse_id(const char *text, int64_t (*find)(const char *name), int64_t *out)
{
	if (*text)
		*out = find(text);
	return !*text || *out >= 0;
}

static const char *set_chown(const char *value)
{
	size_t n = strcspn(value, ":");
	char user[256];

	snprintf(user, sizeof(user), "%.*s", (int)ks_min(n, sizeof(user)), value);
	if (n >= sizeof(user) || !parse_id(user, ks_cmd_user, &arg.uid))
		return "there is no such user; a name or number is wanted, as USER, USER:GROUP or "
		       ":GROUP";
	if (value[n] && !parse_id(value + n + 1, ks_cmd_group, &arg.gid))
		return "there is no such group; a name or number is wanted, as USER:GROUP or "
		       ":GROUP";
	return arg.uid < 0 && arg.gid < 0 ? "USER, USER:GROUP or :GROUP is wanted" : NULL;
}

static const char *set_bwlimit(const char *value)
{
	size_t n = strcspn(value, ":");
	char down[64];
	uint64_t up;

	snprintf(down, sizeof(down), "%.*s", (int)ks_min(n, sizeof(down)), value);
	if (n >= sizeof(down) || ks_size_parse_opt(down, &arg.rate_down) < 0)
		return "a rate is wanted, as 20M, off, or 50M:10M for out of volumes and into them";
	up = arg.rate_down;
	if (value[n] && ks_size_parse_opt(value + n + 1, &up) < 0)
		return "a rate is wanted behind the colon, as 50M:10M or 50M:off";
	arg.rate_up = up;
	return NULL;
}

static const struct ks_opt opts[] = {
	KS_OPT_FLAG('r', "recursive", &arg.recursive, "copy directories with what is in them"),
	KS_OPT_FLAG('a', "archive", &arg.archive, "-r -P and everything that --preserve knows"),
	{ .kind = KS_OPT_K_CALL,
	  .letter = 'p',
	  .name = "preserve",
	  .arg = "LIST",
	  .call = set_preserve,
	  .names = preserve_names,
	  .flags = KS_OPT_OPTIONAL | KS_OPT_LIST,
	  .help = "keep mode, owner, times, xattr, links, acl, or all; without LIST "
		  "mode,owner,times,acl" },
	KS_OPT_FLAG('P', "no-dereference", &arg.no_deref,
		    "copy symlinks as symlinks (default with -r)"),
	KS_OPT_FLAG('L', "dereference", &arg.deref, "copy what symlinks lead to"),
	KS_OPT_FLAG('x', "one-file-system", &arg.one_fs, "do not cross into other file systems"),
	KS_OPT_GROUP("What is copied"),
	KS_OPT_FLAG('u', "update", &arg.update, "skip files whose size and time are equal"),
	KS_OPT_FLAG('c', "checksum", &arg.checksum, "skip files whose content is equal"),
	KS_OPT_FLAG(0, "no-clobber", &arg.no_clobber, "skip what exists already"),
	KS_OPT_FLAG(0, "ignore-existing", &arg.no_clobber, "the same"),
	KS_OPT_CALL_CMD(0, "exclude", "PATTERN", set_exclude,
			"leave out what matches; the first that matches counts"),
	KS_OPT_CALL_CMD(0, "include", "PATTERN", set_include,
			"copy what matches, whatever a later --exclude says"),
	KS_OPT_CALL_CMD(0, "exclude-from", "FILE", cp_exclude_from,
			"leave out what a line of FILE matches"),
	KS_OPT_STRING_CMD(0, "files-from", "FILE", &arg.files_from,
			  "copy the paths in FILE, or - for stdin, below SOURCE to below DEST"),
	KS_OPT_FLAG_CMD('0', "null", &arg.nul, "the names in such a FILE end with a NUL"),
	KS_OPT_FLAG_CMD(0, "delete", &arg.remove,
			"delete from DEST what SOURCE does not have; with -r"),
	{ .kind = KS_OPT_K_INTEGER,
	  .name = "max-delete",
	  .arg = "N",
	  .value = &arg.max_delete,
	  .max = INT64_MAX,
	  .help = "delete at most N entries, then exit with 5" },
	KS_OPT_FLAG_CMD(0, "force", &arg.force, "--delete also when SOURCE is empty"),
	KS_OPT_GROUP("How"),
	KS_OPT_FLAG('T', "no-target-directory", &arg.no_target,
		    "DEST is the copy, never a place to put it in"),
	KS_OPT_STRING_CMD('t', "target-directory", "DIR", &arg.target_dir,
			  "put every SOURCE into DIR"),
	KS_OPT_CALL_CMD(0, "chown", "USER:GROUP", set_chown,
			"give the copies this owner, group, or both"),
	KS_OPT_CALL_CMD(0, "chmod", "MODE", set_chmod,
			"change the copies' permissions, as chmod(1)"),
	KS_OPT_ENUM(0, "reflink", "WHEN", reflink_names, &arg.reflink,
		    "share data within a volume: auto (default), always, never"),
	KS_OPT_FLAG(0, "verify", &arg.verify, "read back and compare what was written"),
	KS_OPT_FLAG_CMD(0, "compare", &arg.compare,
			"copy nothing; tell differences, and exit with 4"),
	{ .kind = KS_OPT_K_INTEGER,
	  .name = "max-errors",
	  .arg = "N",
	  .value = &arg.max_errors,
	  .max = INT64_MAX,
	  .help = "stop after N failures; 0: never" },
	KS_OPT_CALL(0, "bwlimit", "DOWN[:UP]", set_bwlimit,
		    "bytes a second out of volumes, and into them"),
	KS_OPT_END,
};

const struct ks_cmd cp_cmd = {
	.name = "kiseki-cp",
	.usage = "[OPTIONS] SOURCE... DEST\n[OPTIONS] -T SOURCE DEST\n[OPTIONS] -t DIR SOURCE...",
	.about = "Copy files into a volume, out of one, or within one; no mount is needed.",
	.operands =
		"  SOURCE, DEST   VOLUME:/PATH, :/PATH of the default volume, a local path, or -\n"
		"  for stdin or stdout. The rules are those of cp(1). A file is at DEST whole or\n"
		"  not at all; exit 0 means durable.",
	.examples = "kiseki-cp -a /srv/album photos:/\n"
		    "kiseki-cp photos:/2024/a.jpg .\n"
		    "pg_dump shop | kiseki-cp - photos:/db/shop.sql\n"
		    "kiseki-cp -r photos:/album photos:/album.bak\n"
		    "kiseki-cp -au --delete /srv/album photos:/",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_JOBS | KS_CMD_CONFIG | KS_CMD_YES | KS_CMD_BATCH |
		  KS_CMD_MAX_DURATION | KS_CMD_METRICS,
	.min_args = 1,
	.max_args = -1,
	.features = ks_volume_features,
};
