/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-ls: list files of a volume without a mount. */
#include "base/buf.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "ls.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct ls_args arg;
struct ls_out out;

static const struct ks_opt opts[] = {
	KS_OPT_FLAG('l', "long", &arg.details, "mode, links, owner, group, size, time, name"),
	KS_OPT_FLAG('R', "recursive", &arg.recursive, "what is in directories, too"),
	KS_OPT_FLAG('p', "slash", &arg.slash, "put a / behind the names of directories"),
	KS_OPT_FLAG('0', "null", &arg.nul, "end every line with NUL instead of newline"),
	KS_OPT_FLAG('H', "no-header", &arg.plain,
		    "with -l: no header, TABs, numbers: for programs"),
	KS_OPT_FLAG(0, "volumes", &arg.volumes,
		    "list the volumes that have names, instead of files"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-ls",
	.usage = "[OPTIONS] [VOLUME:/PATH...]\n--volumes [OPTIONS]",
	.about = "List files of a volume, without a mount. Names come as they are.",
	.operands = "  VOLUME:/PATH   a directory or file of a volume; VOLUME alone is its root;\n"
		    "                 nothing: the root of the default volume",
	.examples = "kiseki-ls photos:/2024\n"
		    "kiseki-ls -lR photos\n"
		    "kiseki-ls -R0 photos:/ | xargs -0 -n 1 echo",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_BYTES | KS_CMD_CONFIG,
	.max_args = -1,
	.features = ks_volume_features,
};

static int list(const char *operand, bool several)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_list_opts o = { .stop = ks_cmd_stopped_cb };
	struct ks_volume_opts vo = { .readonly = true, .meta_only = true };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	KS_AUTO(ks_freep) char *prefix = NULL;
	int r = ks_volume_open_named(&v, operand, &path, &find, &vo);

	if (r < 0)
		return r;
	ks_json_volume(v->settings->name, v->settings->uuid, v->shown_url);
	if (several)
		prefix = ks_asprintf("%s%s%s", operand, path ? "" : ":/",
				     path && *path && path[strlen(path) - 1] != '/' ? "/" : "");
	out.prefix = prefix ? prefix : "";
	/* Not before a configuration file had its say. */
	o.recursive = arg.recursive;
	o.targets = arg.details || ks_common.json;
	out.color = ks_cmd_colored(STDOUT_FILENO) && !arg.nul && !arg.plain;
	out.escape = (isatty(STDOUT_FILENO) || out.color) && !arg.nul;
	return ks_list(v->meta, path ? path : "/", &o, ls_entry, NULL);
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int code = 0;

	if (arg.volumes && n > 0)
		ks_cmd_usage("--volumes lists all there are: '%s' is too much", args[0]);
	if (arg.volumes && (code = ls_volumes()) < 0)
		code = ks_cmd_report(code);
	for (int i = 0; !arg.volumes && (i == 0 || i < n) && !ks_cmd_stopped(); i++) {
		int r = list(args[i], n > 1);

		/* The others are still listed. */
		if (r < 0)
			code = ks_exit_worse(code, ks_cmd_report(r));
	}
	ks_json_summary("counts", KS_JSON_COUNTS({ "entries", out.entries }));
	return ks_cmd_exit(code);
}
