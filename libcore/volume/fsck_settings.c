/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fsck_settings.c: the volume's settings, read by themselves: a volume with damaged ones cannot be opened. What has a harmless default gets it; who the volume is
 * stands in its store too; the block size is what its slices say. The key of the name hashes cannot be had again.
 */
#include "base/hash.h"
#include "volume/fsck_internal.h"

#define VALUE_MAX 1100

enum kind { TEXT, NUMBER, BLOCK_SIZE, UUID, HEX16 };

static const struct setting {
	const char *name;
	enum kind kind;
	uint8_t repair;    /* enum ks_fsck_repair */
	const char *value; /* to be put in; NULL: found elsewhere */
} settings[] = {
	{ "name", TEXT, KS_FSCK_R_SAFE, NULL },
	{ "uuid", UUID, KS_FSCK_R_SAFE, NULL },
	{ "format_version", NUMBER, KS_FSCK_R_LOSSY, "1" },
	{ "compat", NUMBER, KS_FSCK_R_LOSSY, "0" },
	{ "ro_compat", NUMBER, KS_FSCK_R_LOSSY, "0" },
	{ "incompat", NUMBER, KS_FSCK_R_LOSSY, "0" },
	{ "block_size", BLOCK_SIZE, KS_FSCK_R_SAFE, NULL },
	{ "data_url", TEXT, KS_FSCK_R_NONE, NULL },
	{ "capacity_bytes", NUMBER, KS_FSCK_R_SAFE, "0" },
	{ "inodes_max", NUMBER, KS_FSCK_R_SAFE, "0" },
	{ "trash_ns", NUMBER, KS_FSCK_R_SAFE, "0" },
	{ "compress", TEXT, KS_FSCK_R_SAFE, "none" },
	{ "created_ns", NUMBER, KS_FSCK_R_SAFE, "0" },
	{ "created_by", TEXT, KS_FSCK_R_SAFE, "" },
	{ "hash_key", HEX16, KS_FSCK_R_NONE, NULL },
};

struct load {
	char value[KS_ARRAY_SIZE(settings)][VALUE_MAX];
	bool found[KS_ARRAY_SIZE(settings)];
};

static size_t index_of(const char *name, size_t n)
{
	size_t i = 0;

	while (i < KS_ARRAY_SIZE(settings) &&
	       (strlen(settings[i].name) != n || memcmp(settings[i].name, name, n) != 0))
		i++;
	return i;
}

static int load_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_setting *s = rec;
	struct load *l = arg;
	size_t i = index_of(s->name.p, s->name.n);

	(void)inode;
	if (i == KS_ARRAY_SIZE(settings) || s->value.n >= VALUE_MAX)
		return 0;
	if (s->value.n)
		memcpy(l->value[i], s->value.p, s->value.n);
	l->value[i][s->value.n] = '\0';
	l->found[i] = strlen(l->value[i]) == s->value.n;
	return 0;
}

static bool number(const char *v, uint64_t *out)
{
	char *end;

	if (*v < '0' || *v > '9')
		return false;
	errno = 0;
	*out = strtoull(v, &end, 10);
	return errno == 0 && *end == '\0';
}

static bool valid(const struct setting *s, const char *v)
{
	uint8_t uuid[16];
	uint64_t n;

	switch (s->kind) {
	case TEXT:
		return strcmp(s->name, "data_url") != 0 || *v;
	case NUMBER:
		return number(v, &n);
	case BLOCK_SIZE:
		return number(v, &n) && n >= KS_BLOCK_MIN && n <= KS_BLOCK_MAX &&
		       (n & (n - 1)) == 0;
	case UUID:
		return strlen(v) == KS_UUID_STR - 1 && ks_uuid_parse(v, uuid) == 0;
	case HEX16:
		return strlen(v) == 32 && strspn(v, "0123456789abcdef") == 32;
	}
	return false;
}

/* ---- values found elsewhere ---- */

static int block_size_one(void *arg, const void *rec, const struct ks_rec_inode *inode)
{
	const struct ks_rec_slice *s = rec;

	(void)inode;
	if (s->pack)
		return 0;
	*(uint32_t *)arg = s->block_size;
	return 1;
}

static int find_block_size(struct ks_engine *e, char out[VALUE_MAX])
{
	struct ks_arena a = { 0 };
	uint32_t size = 0;
	struct ks_scan s = {
		.table = KS_T_SLICE, .limit = 100000, .fn = block_size_one, .arg = &size
	};
	int r = ks_engine_scan(e, &s, &a);

	ks_arena_clear(&a);
	snprintf(out, VALUE_MAX, "%u", size ? size : (uint32_t)KS_BLOCK_DEFAULT);
	return r;
}

/* 1: it could not be found. */
static int find_marker(const struct load *l, const char *meta_url, const char *which,
		       char out[VALUE_MAX])
{
	KS_AUTO(ks_object_closep) struct ks_object *o = NULL;
	KS_AUTO(ks_freep) char *url = NULL;
	uint8_t uuid[16];
	char name[64];
	size_t i = index_of("data_url", strlen("data_url"));

	if (!l->found[i] || ks_volume_data_url(meta_url, l->value[i], &url) < 0 ||
	    ks_object_open(&o, url) < 0 || ks_volume_marker_get(o, uuid, name) < 0)
		return 1;
	if (strcmp(which, "uuid") == 0)
		ks_uuid_format(uuid, out);
	else
		snprintf(out, VALUE_MAX, "%s", name);
	return 0;
}

static int find_value(struct ks_engine *e, const struct load *l, const char *meta_url,
		      const struct setting *s, char out[VALUE_MAX])
{
	if (s->value) {
		snprintf(out, VALUE_MAX, "%s", s->value);
		return 0;
	}
	if (s->kind == BLOCK_SIZE)
		return find_block_size(e, out);
	if (s->repair == KS_FSCK_R_NONE)
		return 1;
	return find_marker(l, meta_url, s->name, out);
}

static int bad_setting(struct ks_fsck *f, const struct load *l, const char *meta_url, size_t i)
{
	const struct setting *s = &settings[i];
	char value[VALUE_MAX] = "", text[256];
	struct ks_rec_setting rec = { .name = ks_fsck_str(s->name) };
	struct ks_fsck_problem p = { .kind = "bad_setting", .repair = s->repair, .text = text };
	struct ks_fsck_write w = { KS_FSCK_PUT, KS_T_SETTING, &rec, 0, NULL };
	int r = find_value(f->e, l, meta_url, s, value);

	if (r < 0)
		return r;
	rec.value = ks_fsck_str(value);
	snprintf(text, sizeof(text), "the setting '%s' is %s%s%.80s%s", s->name,
		 l->found[i] ? "damaged" : "missing", r == 0 ? ", should be '" : "",
		 r == 0 ? value : "", r == 0 ? "'" : "");
	if (r)
		return ks_fsck_found(f, &p, i, NULL, NULL);
	return ks_fsck_found_fix(f, &p, i, &w, 1);
}

int ks_fsck_settings(const char *meta_url, const struct ks_fsck_opts *o, struct ks_fsck_result *out)
{
	struct ks_engine_opts eo = { .readonly = o->level == KS_FSCK_CHECK };
	struct ks_fsck f = { .o = o };
	struct load *l = calloc(1, sizeof(*l));
	struct ks_arena a = { 0 };
	struct ks_scan s = { .table = KS_T_SETTING, .fn = load_one, .arg = l };
	bool any = false;
	int r = l ? ks_engine_open(&f.e, meta_url, &eo) : -ENOMEM;

	if (r == 0)
		r = ks_engine_scan(f.e, &s, &a);
	ks_arena_clear(&a);
	for (size_t i = 0; r == 0 && i < KS_ARRAY_SIZE(settings); i++)
		any = any || l->found[i];
	/* Without any it is no volume, and opening it says so. */
	for (size_t i = 0; r == 0 && any && i < KS_ARRAY_SIZE(settings); i++) {
		if (!l->found[i] || !valid(&settings[i], l->value[i]))
			r = bad_setting(&f, l, meta_url, i);
	}
	ks_engine_close(f.e);
	free(l);
	*out = f.out;
	return r;
}
