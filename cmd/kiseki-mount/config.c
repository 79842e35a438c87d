/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: the hidden file config: which volume this is and the options in force. */
#include "base/clock.h"
#include "base/hash.h"
#include "mount.h"
#include <stdlib.h>
#include <unistd.h>

static json_t *seconds(int64_t ns)
{
	return json_real((double)ns / (double)KS_NS_PER_S);
}

static json_t *size(uint64_t n)
{
	return json_integer((json_int_t)n);
}

/* What is shown otherwise than it is stored. */
static void add_squash(json_t *o)
{
	const struct ks_squash *s = &arg.squash;
	char mode[8];

	snprintf(mode, sizeof(mode), "%03o", s->umask);
	if (s->uid >= 0)
		json_object_set_new(o, "uid", json_integer(s->uid));
	if (s->gid >= 0)
		json_object_set_new(o, "gid", json_integer(s->gid));
	if (s->umask)
		json_object_set_new(o, "umask", json_string(mode));
}

static json_t *options(void)
{
	bool others = !arg.no_allow_other && (arg.allow_other || geteuid() == 0);
	json_t *o = json_pack(
		"{s:b, s:b, s:b, s:b, s:s*, s:s, s:o, s:o, s:o, s:s*, s:o, s:o, s:o, s:o, "
		"s:o, s:o, s:s*}",
		"read_only", arg.readonly, "allow_other", others, "single_thread", arg.single,
		"maintenance", !arg.no_maintenance, "subdir", arg.subdir, "atime",
		mount_atime_names[arg.atime], "attr_timeout_s", seconds(arg.attr_ns),
		"entry_timeout_s", seconds(arg.entry_ns), "buffer_size", size(arg.buffer),
		"spill_dir", arg.spill_dir, "spill_size",
		size(!arg.spill_dir ? 0
		     : arg.spill    ? arg.spill
				    : KS_GIB),
		"readahead", size(arg.readahead), "uploads", size(arg.uploads), "downloads",
		size(arg.downloads), "threads", size(arg.threads), "open_files",
		size(arg.open_files), "access_log", arg.access_log);

	if (o)
		add_squash(o);
	return o;
}

json_t *mount_config_json(const struct ks_mount_info *info, const struct ks_volume *vol)
{
	KS_AUTO(ks_freep) char *data = ks_url_redact(vol->data_url);
	json_t *o = data ? ks_mount_json(info) : NULL;
	char uuid[KS_UUID_STR];

	if (!o)
		return NULL;
	ks_uuid_format(vol->settings->uuid, uuid);
	/* "volume" is its name in the other files; here there is more to say. */
	json_object_set_new(o, "volume",
			    json_pack("{s:s*, s:s, s:s*, s:s*}", "name", vol->settings->name,
				      "uuid", uuid, "meta", vol->shown_url, "data", data));
	json_object_set_new(o, "options", options());
	return o;
}
