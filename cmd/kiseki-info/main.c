/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki-info: what a file of a volume is made of; and whose an object is. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/size.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "volume/info.h"
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
	uint64_t inode, slice;
	const char *object;
} arg;

static struct {
	uint64_t inodes, pieces;
} counts;

static const struct ks_opt opts[] = {
	{ .kind = KS_OPT_K_INTEGER,
	  .letter = 'i',
	  .name = "inode",
	  .arg = "N",
	  .min = 1,
	  .max = INT64_MAX,
	  .value = &arg.inode,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "the inode of that number" },
	{ .kind = KS_OPT_K_INTEGER,
	  .name = "slice",
	  .arg = "N",
	  .min = 1,
	  .max = INT64_MAX,
	  .value = &arg.slice,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "the files that slice N is part of" },
	KS_OPT_STRING_CMD(0, "object", "KEY", &arg.object,
			  "the files that have data in that object"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-info",
	.usage = "[OPTIONS] PATH|VOLUME:/PATH...\n"
		 "[OPTIONS] --inode=N|--slice=N|--object=KEY [VOLUME]",
	.about = "Say what a file is made of, or which files an object belongs to.",
	.operands = "  VOLUME:/PATH   a file or directory of a volume\n"
		    "  PATH           one below a mount point\n"
		    "  VOLUME         NAME, metadata URL, database file or mount point",
	.examples = "kiseki-info photos:/2024/a.jpg\n"
		    "kiseki-info /mnt/photos/2024/a.jpg\n"
		    "kiseki-info --object=blocks/0/0/42_0_4194304 photos",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_BYTES | KS_CMD_CONFIG,
	.max_args = -1,
	.features = ks_volume_features,
};

/* ---- what it says ---- */

/* What is put together for one inode before it is printed. */
struct about {
	const struct ks_attr *a;
	bool first;   /* no path was printed yet */
	json_t *list; /* of paths */
};

static int on_path(void *data, const char *path, size_t n)
{
	struct about *b = data;
	json_t *j;

	if (ks_common.quiet)
		return 0;
	if (ks_common.json) {
		j = json_object();
		if (j && ks_json_name(j, "path", path, n) == 0)
			json_array_append_new(b->list, j);
		else
			json_decref(j);
		return 0;
	}
	printf("%-10s", b->first ? "path" : "");
	ks_cmd_put_name(path, n, isatty(STDOUT_FILENO));
	putchar('\n');
	b->first = false;
	return 0;
}

static void put_inode(const struct ks_attr *a)
{
	char size[KS_SIZE_STR];
	char used[KS_SIZE_STR];
	char mtime[KS_TIME_STR];
	char ctime[KS_TIME_STR];

	ks_cmd_size(a->size, size);
	ks_cmd_size(a->used, used);
	ks_time_format(a->mtime_ns, mtime);
	ks_time_format(a->ctime_ns, ctime);
	ks_cmd_say("inode     %" PRIu64 "  %s  mode %04o  owner %" PRIu32 ":%" PRIu32
		   "  links %" PRIu32,
		   a->ino, ks_cmd_kind(a->mode), a->mode & 07777, a->uid, a->gid, a->nlink);
	ks_cmd_say("size      %s, %s stored  change %" PRIu64, size, used, a->change);
	ks_cmd_say("times     modified %s  changed %s", mtime, ctime);
}

static void put_inode_json(const struct about *b)
{
	const struct ks_attr *a = b->a;
	char mode[8];
	json_t *j;

	snprintf(mode, sizeof(mode), "%04o", a->mode & 07777);
	j = json_pack("{s:s,s:s,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:O}", "type", "item", "kind",
		      ks_cmd_kind(a->mode), "inode", (json_int_t)a->ino, "mode", mode, "uid",
		      (json_int_t)a->uid, "gid", (json_int_t)a->gid, "nlink", (json_int_t)a->nlink,
		      "size", (json_int_t)a->size, "used", (json_int_t)a->used, "change",
		      (json_int_t)a->change, "paths", b->list);
	if (!j)
		return;
	json_object_set_new(j, "parent", json_integer((json_int_t)a->parent));
	json_object_set_new(j, "mtime", ks_json_time(a->mtime_ns));
	json_object_set_new(j, "ctime", ks_json_time(a->ctime_ns));
	ks_json_print(j);
}

static int on_piece(void *data, const struct ks_info_piece *p)
{
	const struct about *b = data;

	if (ks_cmd_stopped())
		return -EINTR;
	counts.pieces++;
	if (ks_common.quiet)
		return 0;
	if (ks_common.json) {
		ks_json_print(json_pack("{s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:s,s:I}", "type", "item",
					"kind", "piece", "inode", (json_int_t)b->a->ino, "offset",
					(json_int_t)p->offset, "bytes", (json_int_t)p->len, "slice",
					(json_int_t)p->slice, "slice_offset",
					(json_int_t)p->slice_off, "packed", p->pack != 0, "object",
					p->key, "object_offset", (json_int_t)p->key_off));
	} else {
		printf("%14" PRIu64 " %10" PRIu64 " %8" PRIu64 " %10" PRIu64 " %10" PRIu64 "  %s\n",
		       p->offset, p->len, p->slice, p->slice_off, p->key_off, p->key);
	}
	return ferror(stdout) ? -EPIPE : 0;
}

static int put_target(struct ks_meta *m, const struct ks_attr *a)
{
	KS_AUTO(ks_buf_clear) struct ks_buf target = { 0 };
	int r = ks_meta_readlink(m, a->ino, &target);

	if (r == 0 && !ks_common.quiet && !ks_common.json) {
		printf("target    ");
		ks_cmd_put_name(target.p, target.n, isatty(STDOUT_FILENO));
		putchar('\n');
	}
	return r;
}

static int about(struct ks_meta *m, const struct ks_attr *a, bool pieces)
{
	struct about b = { .a = a, .first = true, .list = json_array() };
	int r = b.list ? ks_info_paths(m, a, on_path, &b) : -ENOMEM;

	counts.inodes++;
	if (r == 0 && b.first && !ks_common.json)
		ks_cmd_say("path      none: deleted, and still open somewhere");
	if (r == 0 && ks_common.json && !ks_common.quiet)
		put_inode_json(&b);
	else if (r == 0)
		put_inode(a);
	if (r == 0 && S_ISLNK(a->mode))
		r = put_target(m, a);
	if (r == 0 && pieces && S_ISREG(a->mode)) {
		if (a->used)
			ks_cmd_say("%14s %10s %8s %10s %10s  %s", "OFFSET", "BYTES", "SLICE",
				   "IN-SLICE", "IN-OBJECT", "OBJECT");
		r = ks_info_pieces(m, a->ino, on_piece, &b);
	}
	json_decref(b.list);
	return r;
}

/* ---- finding it ---- */

static int open_volume(const char *operand, char **path, struct ks_volume **out)
{
	struct ks_volume_find find = { .config = ks_common.config, .defaults = ks_cmd_default };
	struct ks_volume_opts vo = { .readonly = true, .meta_only = true };
	int r = ks_volume_open_named(out, operand, path, &find, &vo);

	if (r == 0)
		ks_json_volume((*out)->settings->name, (*out)->settings->uuid, (*out)->shown_url);
	return r;
}

static int about_inode(struct ks_meta *m, ks_ino_t ino, bool pieces)
{
	struct ks_attr a;
	int r = ks_meta_getattr(m, ino, &a);

	if (r == -ENOENT)
		return ks_fail(r, "there is no inode %ju", (uintmax_t)ino);
	return r < 0 ? r : about(m, &a, pieces);
}

/* A file below a mount point: which mount, and its inode. -ENOENT: it is in none, not raised. */
static int in_mount(const char *path, char **mountpoint, ks_ino_t *ino)
{
	KS_AUTO(ks_freep) char *dir = NULL;
	KS_AUTO(ks_freep) char *spec = NULL;
	struct stat st;
	char *slash;

	if (lstat(path, &st) < 0)
		return -ENOENT;
	/* The directory is made absolute, not the file: that may be a symlink. */
	slash = strrchr(path, '/');
	if (S_ISDIR(st.st_mode)) {
		dir = realpath(path, NULL);
	} else {
		KS_AUTO(ks_freep)
		char *parent = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");

		dir = parent ? realpath(parent, NULL) : NULL;
	}
	while (dir && ks_volume_mounted(dir, &spec) < 0) {
		slash = strrchr(dir, '/');
		if (!slash || slash == dir)
			return -ENOENT;
		*slash = '\0';
	}
	if (!dir)
		return -ENOENT;
	*mountpoint = ks_steal(&dir);
	*ino = st.st_ino;
	return 0;
}

static int about_operand(const char *operand)
{
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	KS_AUTO(ks_freep) char *path = NULL;
	KS_AUTO(ks_freep) char *mountpoint = NULL;
	struct ks_attr a;
	ks_ino_t ino = 0;
	int r;

	if (strstr(operand, ":/") || in_mount(operand, &mountpoint, &ino) < 0)
		r = open_volume(operand, &path, &v);
	else
		r = open_volume(mountpoint, NULL, &v);
	if (r == 0 && ino)
		return about_inode(v->meta, ino, true);
	if (r == 0)
		r = ks_volume_path(v->meta, path ? path : "/", false, &a);
	return r < 0 ? r : about(v->meta, &a, true);
}

static int on_owner(void *data, ks_ino_t ino)
{
	struct ks_volume *v = data;
	int r = about_inode(v->meta, ino, ks_common.verbose > 0);

	return r == -ENOENT ? 0 : r; /* deleted meanwhile */
}

static int by_number(const char *volume)
{
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	struct ks_info_what what = { .slice = arg.slice };
	int r = 0;

	if (arg.object && ks_info_parse_key(arg.object, &what) < 0) {
		ks_cmd_usage("'%s' is not the key of an object with data: those are "
			     "blocks/A/B/SLICE_BLOCK_SIZE and packs/A/PACK",
			     arg.object);
	}
	r = open_volume(volume, NULL, &v);
	if (r < 0)
		return r;
	if (arg.inode)
		return about_inode(v->meta, arg.inode, true);
	r = ks_info_owners(v->meta, &what, ks_cmd_stopped_cb, on_owner, v);
	if (r != 0 || counts.inodes)
		return r;
	if (arg.object)
		return ks_fail(-ENOENT, "no file has data in %s", arg.object);
	return ks_fail(-ENOENT, "no file refers to slice %ju", (uintmax_t)arg.slice);
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);
	int asked = (arg.inode != 0) + (arg.slice != 0) + (arg.object != NULL);
	int code = 0;
	int r;

	if (asked > 1)
		ks_cmd_usage("one of --inode, --slice and --object at a time");
	if (asked && n > 1)
		ks_cmd_usage("with --inode, --slice or --object there is one VOLUME at most");
	if (!asked && n == 0)
		ks_cmd_usage("a path is missing");
	for (int i = 0; (i == 0 || i < n) && !ks_cmd_stopped(); i++) {
		if (i && !ks_common.quiet && !ks_common.json)
			putchar('\n');
		r = asked ? by_number(args[0]) : about_operand(args[i]);
		/* The others are still shown. */
		if (r < 0)
			code = ks_exit_worse(code, ks_cmd_report(r));
	}
	ks_json_summary("counts",
			KS_JSON_COUNTS({ "inodes", counts.inodes }, { "pieces", counts.pieces }));
	return ks_cmd_exit(code);
}
