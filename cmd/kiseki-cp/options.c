/* SPDX-License-Identifier: Apache-2.0 */
/* options.c: the command line of kiseki-cp. */
#include "cp.h"
#include <stdlib.h>
#include <string.h>

struct cp_args arg;

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
	KS_OPT_FLAG('u', "update", &arg.update, "skip files whose size and time are equal"),
	KS_OPT_FLAG('T', "no-target-directory", &arg.no_target,
		    "DEST is the copy, never a place to put it in"),
	{ .kind = KS_OPT_K_STRING,
	  .letter = 't',
	  .name = "target-directory",
	  .arg = "DIR",
	  .value = &arg.target_dir,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "put every SOURCE into DIR" },
	KS_OPT_FLAG(0, "no-clobber", &arg.no_clobber, "skip what exists already"),
	KS_OPT_ENUM(0, "reflink", "WHEN", reflink_names, &arg.reflink,
		    "share data within a volume: auto (default), always, never"),
	KS_OPT_FLAG(0, "verify", &arg.verify, "read back and compare what was written"),
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
		    "kiseki-cp -r photos:/album photos:/album.bak",
	.opts = opts,
	.common = KS_CMD_DRY_RUN | KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS |
		  KS_CMD_BYTES | KS_CMD_JOBS | KS_CMD_CONFIG,
	.min_args = 1,
	.max_args = -1,
	.features = ks_volume_features,
};
