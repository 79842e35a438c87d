/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-format: make a volume. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "volume/format.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct ks_format_opts arg = { .trash_ns = KS_TRASH_DEFAULT_NS };

static const struct ks_opt opts[] = {
	KS_OPT_STRING_CMD(0, "data", "URL", &arg.data,
			  "where the blocks go: file:///DIR, or a directory (default: next to the "
			  "database)"),
	KS_OPT_STRING_CMD(0, "name", "NAME", &arg.name,
			  "the volume's label (default: from VOLUME)"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "block-size",
	  .arg = "SIZE",
	  .value = &arg.block_size,
	  .min = KS_BLOCK_MIN,
	  .max = KS_BLOCK_MAX,
	  .help = "64k to 16M, a power of two, fixed for life (default 4M)" },
	{ .kind = KS_OPT_K_SIZE,
	  .name = "capacity",
	  .arg = "SIZE",
	  .value = &arg.capacity_bytes,
	  .flags = KS_OPT_OFF,
	  .help = "quota of bytes (default none)" },
	{ .kind = KS_OPT_K_INTEGER,
	  .name = "inodes",
	  .arg = "N",
	  .value = &arg.inodes_max,
	  .flags = KS_OPT_OFF,
	  .help = "quota of files and directories (default none)" },
	{ .kind = KS_OPT_K_DURATION,
	  .name = "trash",
	  .arg = "DUR",
	  .value = &arg.trash_ns,
	  .flags = KS_OPT_OFF,
	  .help = "keep what is removed so long (default 1d, 0: not at all)" },
	KS_OPT_FLAG_CMD(0, "if-not-exists", &arg.if_not_exists,
			"succeed when a volume of that name is there already"),
	KS_OPT_FLAG_CMD(0, "allow-nonempty", &arg.allow_nonempty,
			"use a data location that holds other things"),
	KS_OPT_FLAG_CMD(0, "no-check", &arg.no_check, "do not try the data location out first"),
	KS_OPT_END,
};

static struct ks_cmd cmd = {
	.name = "kiseki-format",
	.usage = "[OPTIONS] VOLUME",
	.about = "Make a volume.",
	.operands =
		"  VOLUME   NAME (made in /var/lib/kiseki, or ~/.local/share/kiseki), a database\n"
		"           file (./photos.db), or a metadata URL",
	.examples = "kiseki-format photos\n"
		    "kiseki-format ./photos.db\n"
		    "kiseki-format --data=/srv/blocks --capacity=100G /srv/meta.db",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_CONFIG,
	.min_args = 1,
	.max_args = 1,
	.features = ks_volume_features,
};

/* What fstab, scripts and the next command call it. */
static const char *operand_of(const char *operand, const struct ks_format_result *r, char *buf,
			      size_t n)
{
	if (strchr(operand, '/') || strchr(operand, '.'))
		return operand;
	snprintf(buf, n, "%s", r->name);
	return buf;
}

static void print(const char *operand, const struct ks_format_result *r)
{
	char size[KS_SIZE_STR];
	char name[64];

	ks_size_format(r->block_size, size);
	if (!r->created) {
		ks_cmd_say("Volume '%s' is there already (%s)", r->name, r->uuid);
		return;
	}
	if (r->check_ns)
		ks_cmd_say("Checking %s ... put, get, list, delete ok (%" PRId64 " ms)",
			   r->data_url, (int64_t)((r->check_ns + KS_NS_PER_MS / 2) / KS_NS_PER_MS));
	ks_cmd_say("Created volume '%s' (%s)", r->name, r->uuid);
	ks_cmd_say("  metadata  %s", r->meta_url);
	ks_cmd_say("  data      %s (block %s)", r->data_url, size);
	if (r->trash_ns) {
		ks_cmd_duration((uint64_t)(r->trash_ns / KS_NS_PER_S), size);
		ks_cmd_say("  trash     kept %s", size);
	}
	ks_cmd_say("Next: kiseki-mount %s /mnt/%s", operand_of(operand, r, name, sizeof(name)),
		   r->name);
}

static void summarise(const struct ks_format_result *r)
{
	ks_json_volume_text(r->name, r->uuid, r->meta_url);
	ks_json_summary("created", json_boolean(r->created));
	ks_json_summary("data", json_string(r->data_url));
	ks_json_summary("block_size", json_integer((json_int_t)r->block_size));
	ks_json_summary("compress", json_string("none"));
	ks_json_summary("trash_s", json_integer((json_int_t)(r->trash_ns / KS_NS_PER_S)));
}

int main(int argc, char **argv)
{
	struct ks_format_result res = { 0 };
	char **args;
	int r;

	/* mkfs(8) calls mkfs.TYPE. */
	if (strcmp(program_invocation_short_name, "mkfs.kiseki") == 0)
		cmd.name = "mkfs.kiseki";
	ks_cmd_parse(&cmd, argc, argv, &args);
	arg.operand = args[0];
	arg.find.config = ks_common.config;
	r = ks_volume_config(&arg.find, NULL, ks_cmd_default, NULL);
	if (r == 0)
		r = ks_format(&arg, &res);
	if (r == 0) {
		print(args[0], &res);
		summarise(&res);
	}
	ks_format_result_clear(&res);
	return ks_cmd_exit(r);
}
