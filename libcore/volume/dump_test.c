/* SPDX-License-Identifier: Apache-2.0 */
/* dump_test.c: dumps and what is made of them; damaged, cut and hostile ones. */
#include "volume/dump.h"
#include "volume/dump_internal.h"
#include "volume/fsck.h"
#include "volume/last.h"
#include "volume/load.h"
#include "volume/maint_testlib.h"

struct file {
	char path[400];
	char *p;
	size_t n;
};

static void slurp(struct file *f)
{
	FILE *s = fopen(f->path, "re");
	struct stat st;

	ks_check(s != NULL);
	ks_check_eq(fstat(fileno(s), &st), 0);
	f->n = (size_t)st.st_size;
	f->p = malloc(f->n + 1);
	ks_check_eq(fread(f->p, 1, f->n, s), f->n);
	fclose(s);
}

static void spill(const struct file *f, size_t n)
{
	FILE *s = fopen(f->path, "we");

	ks_check(s != NULL);
	ks_check_eq(fwrite(f->p, 1, n, s), n);
	ks_check_eq(fclose(s), 0);
}

static void dump_to(struct tv *v, enum ks_dump_what what, const char *name, struct file *out)
{
	struct ks_dump_result res = { 0 };
	struct ks_dump_opts o = { .what = what, .output = out->path };

	snprintf(out->path, sizeof(out->path), "%s/%s", ks_tap_dir(), name);
	ks_check_ok(ks_dump(&v->ref, &o, &res));
	ks_check_eq(res.failed, 0);
	slurp(out);
	ks_check_eq(res.out_bytes, out->n);
}

static int load_to(struct tv *to, const char *path, struct ks_load_opts o,
		   struct ks_load_result *res)
{
	o.operand = to->url;
	o.find.config = "/dev/null";
	o.file = path;
	return ks_load(&o, res);
}

static void new_place(struct tv *v, const char *name)
{
	tv_paths(v, name);
	ks_check_eq(mkdir(v->dir, 0777), 0);
}

static unsigned int entries_of(const char *dir)
{
	DIR *d = opendir(dir);
	unsigned int n = 0;

	ks_check(d != NULL);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static uint64_t problems_of(struct tv *v)
{
	struct ks_fsck_opts o = { .data = KS_FSCK_READ };
	struct ks_fsck_result res = { 0 };
	struct ks_maint m = { 0 };

	ks_check_ok(ks_maint_open(&m, &v->ref, false));
	ks_check_ok(ks_fsck(&m, &o, &res));
	ks_maint_close(&m);
	return res.problems;
}

static void same(const struct file *a, const struct file *b)
{
	ks_check_eq(a->n, b->n);
	ks_check_mem(a->p, b->p, a->n);
}

static void check_noted(struct tv *v, enum ks_tool tool, bool want)
{
	struct ks_meta_opts o = { .readonly = true };
	struct ks_last last[KS_TOOLS];
	struct ks_meta *m = NULL;

	ks_check_ok(ks_meta_open(&m, v->url, &o));
	ks_check_ok(ks_meta_last(m, last));
	ks_check_eq(last[tool].end_ns > 0, want);
	ks_meta_close(m);
}

/* Of a note that cannot be written nobody hears, and what was raised before is told. */
KS_TEST(a_note_is_no_failure)
{
	bool quiet = ks_fail_quiet(true);
	struct tv v;

	tv_format(&v, "n1");
	KS_IGNORE(ks_fail(-ENOSPC, "the archive") < 0);
	ks_last_note_at(&v.ref, KS_TOOL_DUMP, 74);
	check_noted(&v, KS_TOOL_DUMP, true);
	tv_paths(&v, "n2");
	ks_last_note_at(&v.ref, KS_TOOL_DUMP, 74);
	ks_check_str(ks_fail_text(), "the archive: No space left on device");
	ks_fail_quiet(quiet);
	ks_check(ks_last_is_whole(NULL) && ks_last_is_whole("/") && ks_last_is_whole("//"));
	ks_check(!ks_last_is_whole("/a"));
}

KS_TEST(metadata_goes_round)
{
	struct tv v, w;
	struct file a, b, c;
	struct ks_load_result res = { 0 };

	tv_format(&v, "m1");
	tv_fill(&v);
	dump_to(&v, KS_DUMP_META, "a.tar", &a);
	ks_last_note_at(&v.ref, KS_TOOL_GC, 0);
	check_noted(&v, KS_TOOL_GC, true);
	dump_to(&v, KS_DUMP_META, "b.tar", &b);
	same(&a, &b);
	new_place(&w, "m2");
	ks_check_ok(load_to(&w, a.path, (struct ks_load_opts){ 0 }, &res));
	ks_check(!res.owner && !res.blocks);
	ks_check_str(res.name, "test");
	ks_load_result_clear(&res);
	dump_to(&w, KS_DUMP_META, "c.tar", &c);
	same(&a, &c);
	ks_check_eq(problems_of(&w), 0);
	/* It does not own the data, and reads only. */
	ks_last_note_at(&w.ref, KS_TOOL_DUMP, 0);
	check_noted(&w, KS_TOOL_DUMP, false);
	check_noted(&w, KS_TOOL_GC, false);
	free(a.p);
	free(b.p);
	free(c.p);
}

KS_TEST(a_whole_volume_goes_round)
{
	struct ks_volume *vol;
	struct tv v, w, x;
	struct file a, b, c;
	struct ks_load_result res = { 0 };
	char uuid[KS_UUID_STR];

	tv_format(&v, "b1");
	tv_fill(&v);
	dump_to(&v, KS_DUMP_BLOCKS, "ba.tar", &a);
	new_place(&w, "b2");
	ks_check_ok(load_to(&w, a.path, (struct ks_load_opts){ 0 }, &res));
	ks_check(res.owner && res.blocks && res.objects > 0);
	snprintf(uuid, sizeof(uuid), "%s", res.uuid);
	ks_load_result_clear(&res);
	ks_check_eq(problems_of(&w), 0);
	dump_to(&w, KS_DUMP_BLOCKS, "bb.tar", &b);
	same(&a, &b);
	/* It can be written to, beside the first. */
	vol = tv_open(&w, KS_SESSION_TOOL);
	tv_file(vol, KS_ROOT_INO, "new", 1000, 9);
	ks_check_ok(ks_volume_close(vol));
	new_place(&x, "b3");
	ks_check_ok(load_to(&x, a.path, (struct ks_load_opts){ .new_uuid = true }, &res));
	ks_check(strcmp(uuid, res.uuid) != 0);
	ks_load_result_clear(&res);
	ks_check_eq(problems_of(&x), 0);
	dump_to(&x, KS_DUMP_BLOCKS, "bc.tar", &c);
	ks_check_eq(c.n, a.n);
	free(a.p);
	free(b.p);
	free(c.p);
}

static bool can_write(struct tv *v)
{
	struct ks_volume *vol = tv_open(v, KS_SESSION_TOOL);
	struct ks_attr a;
	static int n;
	char name[20];
	int r;

	snprintf(name, sizeof(name), "dir%d", n++);
	r = ks_vfs_mkdir(vol->vfs, &tv_ctx, KS_ROOT_INO, name, S_IFDIR | 0755, &a);
	ks_check(r == 0 || r == -EROFS);
	ks_check_ok(ks_volume_close(vol));
	return r == 0;
}

KS_TEST(one_of_two_may_write)
{
	struct tv v, w;
	struct file a;
	struct ks_maint m = { 0 };
	struct ks_load_result res = { 0 };
	bool quiet = ks_fail_quiet(true);
	bool already = true;

	ks_log_set(NULL, NULL, KS_LOG_ERROR);
	tv_format(&v, "o1");
	tv_fill(&v);
	dump_to(&v, KS_DUMP_META, "oa.tar", &a);
	new_place(&w, "o2");
	ks_check_ok(load_to(&w, a.path, (struct ks_load_opts){ 0 }, &res));
	ks_load_result_clear(&res);
	ks_check(can_write(&v));
	ks_check(!can_write(&w));
	ks_check_eq(ks_maint_open(&m, &w.ref, true), -EROFS);
	ks_check_ok(ks_load_take_over(&w.ref, &res, &already));
	ks_check(!already && res.owner);
	ks_load_result_clear(&res);
	ks_check(can_write(&w));
	ks_check(!can_write(&v));
	ks_check_eq(ks_maint_open(&m, &v.ref, true), -EROFS);
	ks_check_ok(ks_load_take_over(&w.ref, &res, &already));
	ks_check(already);
	ks_load_result_clear(&res);
	ks_check_ok(ks_load_take_over(&v.ref, &res, &already));
	ks_check(!already);
	ks_load_result_clear(&res);
	ks_check(can_write(&v));
	ks_check(!can_write(&w));
	/* What both wrote has other numbers. */
	ks_check_eq(problems_of(&v), 0);
	free(a.p);
	ks_fail_quiet(quiet);
}

KS_TEST(where_there_is_something)
{
	struct tv v, w;
	struct file a, b;
	struct ks_load_result res = { 0 };
	bool quiet = ks_fail_quiet(true);

	tv_format(&v, "e1");
	tv_fill(&v);
	dump_to(&v, KS_DUMP_META, "ea.tar", &a);
	dump_to(&v, KS_DUMP_BLOCKS, "eb.tar", &b);
	ks_check_eq(load_to(&v, a.path, (struct ks_load_opts){ 0 }, &res), -EEXIST);
	new_place(&w, "e2");
	/* Another volume's data, no data, an own place that is not empty. */
	ks_check_eq(load_to(&w, a.path, (struct ks_load_opts){ .data = w.dir }, &res),
		    -EMEDIUMTYPE);
	ks_check_eq(load_to(&w, a.path, (struct ks_load_opts){ .data = "/nonexistent" }, &res),
		    -ENOENT);
	ks_check_eq(load_to(&w, b.path, (struct ks_load_opts){ .data = v.blocks }, &res),
		    -EMEDIUMTYPE);
	ks_check_eq(load_to(&w, a.path, (struct ks_load_opts){ .new_uuid = true }, &res), -EINVAL);
	ks_check_eq(entries_of(w.dir), 0);
	ks_check_eq(problems_of(&v), 0);
	free(a.p);
	free(b.p);
	ks_fail_quiet(quiet);
}

/* Verifying notices every changed byte that means anything, and every cut. */
KS_TEST(damage_is_found)
{
	struct tv v, w;
	struct file a;
	struct ks_load_opts o = { 0 };
	struct ks_load_result res = { 0 }, good = { 0 };
	bool quiet = ks_fail_quiet(true);
	size_t missed = 0;

	tv_format(&v, "d1");
	tv_fill(&v);
	dump_to(&v, KS_DUMP_META, "da.tar", &a);
	o.file = a.path;
	ks_check_ok(ks_load(&o, &good));
	for (size_t i = 0; i < a.n; i += 7) {
		char old = a.p[i];
		int r;

		a.p[i] = (char)(old ^ 1);
		spill(&a, a.n);
		memset(&res, 0, sizeof(res));
		r = ks_load(&o, &res);
		ks_check(r == 0 || r == -EBADMSG || r == -EPROTO);
		/* Padding. */
		if (r == 0) {
			ks_check_eq(res.records, good.records);
			ks_check_eq(old, 0);
			missed++;
		}
		a.p[i] = old;
	}
	ks_check(missed < a.n / 7);
	/* Not the two blocks of zeros at the end, which nobody needs. */
	for (size_t n = 0; n + 1024 < a.n; n += 251) {
		spill(&a, n);
		memset(&res, 0, sizeof(res));
		ks_check_eq(ks_load(&o, &res), -EBADMSG);
	}
	/* And a load leaves nothing behind. */
	new_place(&w, "d2");
	for (size_t n = 700; n + 1024 < a.n; n += 2777) {
		spill(&a, n);
		memset(&res, 0, sizeof(res));
		ks_check_eq(load_to(&w, a.path, o, &res), -EBADMSG);
		ks_check_eq(entries_of(w.dir), 0);
	}
	free(a.p);
	ks_fail_quiet(quiet);
}

/* ---- made by hand ---- */

struct maker {
	struct ks_arc_out *arc;
	struct ks_buf sums;
};

static void put(struct maker *m, const char *name, const char *text)
{
	ks_check_ok(ks_arc_out_member(m->arc, name, text, strlen(text)));
	ks_check_ok(ks_dump_sum(&m->sums, name, text, strlen(text)));
}

#define MANIFEST                                                                                   \
	"{\"kiseki_dump\":1,\"kind\":\"blocks\",\"name\":\"x\",\"uuid\":"                          \
	"\"7d6b691b-6391-4e6a-a335-ca46a4018b10\",\"format_version\":1,\"block_size\":4194304}"

static const struct {
	const char *manifest, *name, *text;
	int err;
} bad[] = {
	{ "{}", NULL, NULL, -EBADMSG },
	{ "[1,2", NULL, NULL, -EBADMSG },
	{ "{\"kiseki_dump\":2,\"kind\":\"meta\",\"format_version\":1}", NULL, NULL, -EPROTO },
	{ "{\"kiseki_dump\":1,\"kind\":\"meta\",\"format_version\":9}", NULL, NULL, -EPROTO },
	{ "{\"kiseki_dump\":1,\"kind\":\"odd\",\"format_version\":1}", NULL, NULL, -EBADMSG },
	{ MANIFEST, "kiseki/setting/00000002.ndjson", "", -EBADMSG },
	{ MANIFEST, "kiseki/session/00000001.ndjson", "", -EBADMSG },
	{ MANIFEST, "kiseki/../../etc/passwd", "", -EBADMSG },
	{ MANIFEST, "/etc/passwd", "", -EBADMSG },
	{ MANIFEST, "kiseki/objects/../x", "", -EBADMSG },
	{ MANIFEST, "kiseki/objects//etc/passwd", "", -EBADMSG },
	{ MANIFEST, "kiseki/objects/kiseki.volume", "{}", -EBADMSG },
	{ MANIFEST, "kiseki/objects/blocks/0/0/1_0_4", "abcd", -EBADMSG },
	{ MANIFEST, "kiseki/objects/blocks/0/0/01_0_4", "abcd", -EBADMSG },
	{ MANIFEST, "kiseki/objects/packs/7/1", "abcd", -EBADMSG },
	{ MANIFEST, "kiseki/counter/00000001.ndjson", "{\"name\":\"a\",\"value\":1}", -EBADMSG },
	{ MANIFEST, "kiseki/counter/00000001.ndjson", "\n", -EBADMSG },
	{ MANIFEST, "kiseki/counter/00000001.ndjson",
	  "{\"name\":\"b\",\"value\":1}\n{\"name\":\"a\",\"value\":1}\n", -EBADMSG },
	{ MANIFEST, "kiseki/counter/00000001.ndjson",
	  "{\"name\":\"a\",\"value\":1}\n{\"name\":\"a\",\"value\":1}\n", -EBADMSG },
	{ MANIFEST, "kiseki/dentry/00000001.ndjson",
	  "{\"parent\":1,\"hash\":99,\"name\":\"../x\",\"ino\":16,\"type\":8}\n", -EBADMSG },
	{ MANIFEST, "kiseki/dentry/00000001.ndjson",
	  "{\"parent\":1,\"hash\":99,\"name\":\"..\",\"ino\":16,\"type\":8}\n", -EBADMSG },
	{ MANIFEST, "kiseki/dentry/00000001.ndjson",
	  "{\"parent\":1,\"hash\":99,\"name_b64\":\"AGE=\",\"ino\":16,\"type\":8}\n", -EBADMSG },
	{ MANIFEST, "kiseki/symlink/00000001.ndjson", "{\"ino\":16,\"target\":\"\"}\n", -EBADMSG },
	/* Sound as far as it goes, and no volume: it has no settings. */
	{ MANIFEST, NULL, NULL, -EBADMSG },
};

KS_TEST(hostile_dumps)
{
	bool quiet = ks_fail_quiet(true);
	struct tv w;

	new_place(&w, "h");
	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		struct maker m = { 0 };
		struct ks_load_result res = { 0 };
		char path[400];
		int r;

		snprintf(path, sizeof(path), "%s/h%zu.tar", ks_tap_dir(), i);
		ks_check_ok(ks_arc_out_open(&m.arc, path, KS_ARC_PLAIN, KS_ARC_NONE));
		put(&m, KS_DUMP_MANIFEST, bad[i].manifest);
		if (bad[i].name)
			put(&m, bad[i].name, bad[i].text);
		ks_check_ok(ks_arc_out_member(m.arc, KS_DUMP_SUMS, m.sums.p, m.sums.n));
		ks_check_ok(ks_arc_out_finish(m.arc));
		ks_arc_out_free(m.arc);
		ks_buf_clear(&m.sums);
		r = load_to(&w, path, (struct ks_load_opts){ 0 }, &res);
		if (r != bad[i].err)
			printf("# case %zu: %s\n", i, ks_fail_text());
		ks_check_eq(r, bad[i].err);
		ks_check(*ks_fail_text());
		ks_check_eq(entries_of(w.dir), 0);
	}
	ks_fail_quiet(quiet);
}

KS_TEST(a_dump_with_damage_is_partial)
{
	struct tv v, w;
	struct file a;
	struct ks_dump_result res = { 0 };
	struct ks_load_result loaded = { 0 };
	struct ks_dump_opts o = { .what = KS_DUMP_BLOCKS };
	bool quiet = ks_fail_quiet(true);
	char cmd[500];

	tv_format(&v, "p1");
	tv_fill(&v);
	/* One block is missing, and a byte of another is wrong. (Which directory: two threads may have taken a batch of numbers each.) */
	snprintf(cmd, sizeof(cmd),
		 "cd %s/blocks/0 && set -- */*_0_1048576 && rm \"$1\" && printf x | dd of=\"$2\" "
		 "bs=1 seek=5 conv=notrunc status=none",
		 v.blocks);
	ks_check_eq(system(cmd), 0);
	snprintf(a.path, sizeof(a.path), "%s/pa.tar", ks_tap_dir());
	o.output = a.path;
	ks_check_ok(ks_dump(&v.ref, &o, &res));
	ks_check_eq(res.failed, 2);
	new_place(&w, "p2");
	ks_check_ok(load_to(&w, a.path, (struct ks_load_opts){ 0 }, &loaded));
	ks_check_eq(loaded.objects, res.objects);
	ks_load_result_clear(&loaded);
	/* The same as the volume itself has. */
	ks_check_eq(problems_of(&w), problems_of(&v));
	ks_check(problems_of(&w) >= 2);
	ks_fail_quiet(quiet);
}

KS_TEST_MAIN()
