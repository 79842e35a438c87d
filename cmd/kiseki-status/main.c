/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-status: how a volume is. */
#include "cli/cmd.h"
#include "status.h"
#include <stdlib.h>

struct status_args arg;

static const struct ks_opt opts[] = {
	KS_OPT_FLAG_CMD(0, "check", &arg.check, "exit 4 unless the volume is healthy"),
	KS_OPT_FLAG(0, "sessions", &arg.sessions, "list every session, and not the first five"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-status",
	.usage = "[OPTIONS] [VOLUME]",
	.about = "Say how a volume is. Nothing is changed.",
	.operands = "  VOLUME   NAME, metadata URL, database file or mount point",
	.examples = "kiseki-status photos\n"
		    "kiseki-status --check -q photos || echo look after it\n"
		    "kiseki-status --json /mnt/photos | jq .live",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_BYTES | KS_CMD_CONFIG,
	.max_args = 1,
	.features = ks_volume_features,
};

int main(int argc, char **argv)
{
	struct ks_volume_find find = { .defaults = ks_cmd_default };
	struct ks_volume_ref ref = { 0 };
	struct ks_status s = { 0 };
	char **args;
	int r;

	ks_cmd_parse(&cmd, argc, argv, &args);
	find.config = ks_common.config;
	r = ks_volume_resolve(&ref, args[0], &find);
	if (r == 0)
		r = ks_status_get(&s, &ref);
	if (r == 0) {
		status_print(&s, &ref);
		status_summarise(&s);
		if (arg.check)
			status_explain(&s, &ref);
		r = arg.check && s.problems ? KS_EXIT_FINDINGS : KS_EXIT_OK;
	}
	ks_status_clear(&s);
	ks_volume_ref_clear(&ref);
	return ks_cmd_exit(r);
}
