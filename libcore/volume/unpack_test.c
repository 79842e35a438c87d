/* SPDX-License-Identifier: Apache-2.0 */
/* unpack_test.c: archives that mean no good, into a volume. */
#include "volume/arc.h"
#include "volume/maint_testlib.h"
#include "volume/unpack.h"
#include <sys/sysmacros.h>

struct seen {
	unsigned int errors;
	char last[400];
};

static void on_error(void *arg, const char *path, int err, const char *text)
{
	struct seen *s = arg;

	(void)path;
	(void)err;
	s->errors++;
	snprintf(s->last, sizeof(s->last), "%s", text);
}

static struct ks_arc_out *arc_new(char path[400], const char *name)
{
	struct ks_arc_out *o = NULL;

	snprintf(path, 400, "%s/%s", ks_tap_dir(), name);
	ks_check_ok(ks_arc_out_open(&o, path, KS_ARC_PAX, KS_ARC_NONE));
	return o;
}

static void add(struct ks_arc_out *o, const char *name, mode_t mode, const char *text,
		const char *link)
{
	struct archive_entry *e = archive_entry_new();

	archive_entry_copy_pathname(e, name);
	archive_entry_set_mode(e, mode);
	archive_entry_set_mtime(e, 1000000000, 5);
	archive_entry_set_size(e, S_ISREG(mode) && !link ? (la_int64_t)strlen(text) : 0);
	if (link && S_ISLNK(mode))
		archive_entry_copy_symlink(e, link);
	else if (link)
		archive_entry_copy_hardlink(e, link);
	if (S_ISCHR(mode))
		archive_entry_set_rdev(e, makedev(1, 3));
	ks_check_ok(ks_arc_out_entry(o, e));
	if (S_ISREG(mode) && !link)
		ks_check_ok(ks_arc_out_data(o, text, strlen(text)));
	ks_check_ok(ks_arc_out_end(o));
	archive_entry_free(e);
}

static void arc_end(struct ks_arc_out *o)
{
	ks_check_ok(ks_arc_out_finish(o));
	ks_arc_out_free(o);
}

static int unpack(struct ks_volume *vol, const char *path, const char *into, struct seen *s,
		  struct ks_unpack_result *res)
{
	struct ks_unpack_opts o = {
		.file = path, .volume = vol, .path = into, .error = on_error, .arg = s
	};

	memset(s, 0, sizeof(*s));
	memset(res, 0, sizeof(*res));
	return ks_unpack(&o, res);
}

static int find(struct ks_volume *vol, const char *path, struct ks_attr *a)
{
	return ks_vfs_resolve(vol->vfs, &tv_ctx, path, false, a);
}

static void has_text(struct ks_volume *vol, const char *path, const char *text)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	char buf[100] = "";

	ks_check_ok(find(vol, path, &a));
	ks_check_ok(ks_vfs_open(vol->vfs, &tv_ctx, a.ino, O_RDONLY, &fh, &how));
	ks_check_eq(ks_vfs_read(fh, &tv_ctx, 0, buf, sizeof(buf) - 1), (ssize_t)strlen(text));
	ks_check_str(buf, text);
	ks_vfs_release(fh);
}

static struct ks_volume *target(struct tv *v, const char *name)
{
	struct ks_volume *vol;
	struct ks_attr a;

	tv_format(v, name);
	vol = tv_open(v, KS_SESSION_TOOL);
	ks_check_ok(ks_vfs_mkdir(vol->vfs, &tv_ctx, KS_ROOT_INO, "in", S_IFDIR | 0755, &a));
	tv_file(vol, KS_ROOT_INO, "secret", 6, 1);
	return vol;
}

KS_TEST(nothing_gets_out)
{
	struct tv v;
	struct ks_volume *vol = target(&v, "out");
	struct ks_attr before, a;
	struct ks_unpack_result res;
	struct seen s;
	char path[400];
	struct ks_arc_out *o = arc_new(path, "out.tar");
	bool quiet = ks_fail_quiet(true);

	add(o, "../secret", S_IFREG | 0644, "evil", NULL);
	add(o, "a/../../secret", S_IFREG | 0644, "evil", NULL);
	add(o, "..", S_IFDIR | 0700, "", NULL);
	add(o, "/abs/file", S_IFREG | 0644, "fine", NULL);
	add(o, "up", S_IFLNK | 0777, "", "..");
	add(o, "up/secret", S_IFREG | 0644, "evil", NULL);
	add(o, "root", S_IFLNK | 0777, "", "/");
	add(o, "root/secret", S_IFREG | 0644, "evil", NULL);
	add(o, "root", S_IFDIR | 0700, "", NULL);
	add(o, "hard1", S_IFREG | 0644, "", "../secret");
	add(o, "hard2", S_IFREG | 0644, "", "up/secret");
	add(o, "hard3", S_IFREG | 0644, "", "nowhere");
	add(o, "hard4", S_IFREG | 0644, "", "abs");
	add(o, "file/x", S_IFREG | 0644, "dir by name", NULL);
	add(o, "abs/file/x", S_IFREG | 0644, "below a file", NULL);
	add(o, ".", S_IFREG | 0644, "no name", NULL);
	add(o, "bad\033[31mname/..", S_IFREG | 0644, "talks to the terminal", NULL);
	add(o, "last", S_IFREG | 0644, "good", NULL);
	arc_end(o);
	ks_check_ok(find(vol, "/secret", &before));
	ks_check_ok(unpack(vol, path, "/in", &s, &res));
	ks_check_eq(res.failed, 13);
	ks_check_eq(s.errors, 13);
	ks_check(!strchr(s.last, '\033'));
	ks_check_eq(res.absolute, 1);
	has_text(vol, "/in/abs/file", "fine");
	has_text(vol, "/in/last", "good");
	ks_check_ok(find(vol, "/in/up", &a));
	ks_check(S_ISLNK(a.mode));
	ks_check_ok(find(vol, "/secret", &a));
	ks_check_eq(a.change, before.change);
	ks_check_eq(a.nlink, 1);
	ks_check_ok(ks_volume_close(vol));
	ks_fail_quiet(quiet);
}

KS_TEST(what_is_there)
{
	struct tv v;
	struct ks_volume *vol = target(&v, "there");
	struct ks_unpack_result res;
	struct ks_attr a, b;
	struct seen s;
	char path[400];
	struct ks_arc_out *o = arc_new(path, "there.tar");
	bool quiet = ks_fail_quiet(true);

	/* The later one wins, of whatever kind. */
	for (int i = 0; i < 40; i++) {
		char text[20];

		snprintf(text, sizeof(text), "turn %d", i);
		add(o, "f", S_IFREG | 0644, text, NULL);
	}
	add(o, "g", S_IFREG | 0644, "first", NULL);
	add(o, "g", S_IFLNK | 0777, "", "f");
	add(o, "h", S_IFREG | 0644, "", "f");
	add(o, "h", S_IFREG | 0644, "", "f");
	add(o, "d", S_IFDIR | 0750, "", NULL);
	add(o, "d/x", S_IFREG | 0644, "x", NULL);
	add(o, "d", S_IFREG | 0644, "a file where a directory is", NULL);
	add(o, "d", S_IFDIR | 0710, "", NULL);
	add(o, "p", S_IFIFO | 0600, "", NULL);
	add(o, "p", S_IFIFO | 0640, "", NULL);
	add(o, "null", S_IFCHR | 0600, "", NULL);
	arc_end(o);
	for (int turn = 0; turn < 2; turn++) {
		ks_check_ok(unpack(vol, path, "/in", &s, &res));
		ks_check_eq(res.failed, geteuid() == 0 ? 1 : 2);
		has_text(vol, "/in/f", "turn 39");
		ks_check_ok(find(vol, "/in/g", &a));
		ks_check(S_ISLNK(a.mode));
		ks_check_ok(find(vol, "/in/f", &a));
		ks_check_ok(find(vol, "/in/h", &b));
		ks_check_eq(a.ino, b.ino);
		ks_check_eq(a.mtime_ns, 1000000000000000005);
		ks_check_ok(find(vol, "/in/d", &a));
		ks_check_eq(a.mode, (uint32_t)(S_IFDIR | 0710));
		ks_check_eq(a.mtime_ns, 1000000000000000005);
		ks_check_ok(find(vol, "/in/p", &a));
		ks_check_eq(a.mode, (uint32_t)(S_IFIFO | 0640));
	}
	ks_check_eq(unpack(vol, path, "/none", &s, &res), -ENOENT);
	ks_check_eq(unpack(vol, path, "/secret", &s, &res), -ENOTDIR);
	ks_check_ok(ks_volume_close(vol));
	ks_fail_quiet(quiet);
}

/* A header by hand: sizes that no writer makes. */
static void header(char h[512], const char *name, const unsigned char size[12])
{
	unsigned int sum = 0;

	memset(h, 0, 512);
	snprintf(h, 100, "%s", name);
	memcpy(h + 100,
	       "0000644\0"
	       "0000000\0"
	       "0000000\0",
	       24);
	memcpy(h + 124, size, 12);
	memcpy(h + 136, "00000000000\0        0", 21);
	memcpy(h + 257,
	       "ustar\000"
	       "00",
	       8);
	for (int i = 0; i < 512; i++)
		sum += (unsigned char)h[i];
	snprintf(h + 148, 8, "%06o", sum);
}

static void spill(const char *path, const void *p, size_t n)
{
	FILE *f = fopen(path, "we");

	ks_check(f != NULL);
	ks_check_eq(fwrite(p, 1, n, f), n);
	ks_check_eq(fclose(f), 0);
}

KS_TEST(absurd_sizes_and_cuts)
{
	static const unsigned char huge[12] = { 0x80, 0,   0,   0,   0x7f, 255,
						255,  255, 255, 255, 255,  255 };
	static const unsigned char large[12] = "77777777777";
	struct tv v;
	struct ks_volume *vol = target(&v, "size");
	struct ks_unpack_result res;
	struct ks_attr a;
	struct seen s;
	char path[400], h[1536];
	bool quiet = ks_fail_quiet(true);
	struct ks_arc_out *o;
	FILE *f;
	long n;
	char *p;

	snprintf(path, sizeof(path), "%s/size.tar", ks_tap_dir());
	memset(h, 'x', sizeof(h));
	header(h, "huge", huge);
	spill(path, h, sizeof(h));
	ks_check(unpack(vol, path, "/in", &s, &res) == -EBADMSG || res.failed == 1);
	ks_check_eq(find(vol, "/in/huge", &a), -ENOENT);
	/* 8 GiB that are not there. */
	header(h, "large", large);
	spill(path, h, sizeof(h));
	ks_check_eq(unpack(vol, path, "/in", &s, &res), -EBADMSG);
	ks_check_eq(find(vol, "/in/large", &a), -ENOENT);
	ks_check_eq(unpack(NULL, path, "/", &s, &res), -EBADMSG);

	/* Cut anywhere: what is whole is there, nothing else is. */
	o = arc_new(path, "cut.tar");
	add(o, "one", S_IFREG | 0644, "1", NULL);
	add(o, "two", S_IFREG | 0644, "22", NULL);
	add(o, "d/three", S_IFREG | 0644, "333", NULL);
	arc_end(o);
	f = fopen(path, "re");
	ks_check(f != NULL);
	fseek(f, 0, SEEK_END);
	n = ftell(f);
	rewind(f);
	p = malloc((size_t)n);
	ks_check_eq(fread(p, 1, (size_t)n, f), (size_t)n);
	fclose(f);
	for (long cut = 0; cut < n; cut += 173) {
		int r;

		spill(path, p, (size_t)cut);
		r = unpack(vol, path, "/in", &s, &res);
		ks_check(r == 0 || r == -EBADMSG);
		if (res.files >= 1)
			has_text(vol, "/in/one", "1");
		if (res.files >= 2)
			has_text(vol, "/in/two", "22");
		ks_check_eq(unpack(NULL, path, "/", &s, &res), r);
	}
	/* And with one byte changed anywhere nothing else happens either. */
	for (long i = 0; i < n; i += 61) {
		p[i] ^= 0x41;
		spill(path, p, (size_t)n);
		KS_IGNORE(unpack(vol, path, "/in", &s, &res) < 0);
		p[i] ^= 0x41;
	}
	free(p);
	ks_check_ok(find(vol, "/secret", &a));
	ks_check_eq(a.size, 6);
	ks_check_ok(ks_volume_close(vol));
	ks_fail_quiet(quiet);
}

/* A format that can name files of this machine is none. */
KS_TEST(mtree_is_not_read)
{
	static const char text[] = "#mtree\n./x type=file mode=0644 contents=/etc/passwd\n";
	struct tv v;
	struct ks_volume *vol = target(&v, "mtree");
	struct ks_unpack_result res;
	struct seen s;
	char path[400];
	bool quiet = ks_fail_quiet(true);

	snprintf(path, sizeof(path), "%s/mtree.txt", ks_tap_dir());
	spill(path, text, sizeof(text) - 1);
	ks_check_eq(unpack(vol, path, "/in", &s, &res), -EBADMSG);
	spill(path, "", 0);
	ks_check_eq(unpack(vol, path, "/in", &s, &res), -EBADMSG);
	ks_check_eq(unpack(vol, "/nonexistent", "/in", &s, &res), -ENOENT);
	ks_check_eq(unpack(vol, "/", "/in", &s, &res), -EISDIR);
	ks_check_ok(ks_volume_close(vol));
	ks_fail_quiet(quiet);
}

KS_TEST(a_full_volume_stops)
{
	struct tv v;
	struct ks_volume *vol = target(&v, "full");
	struct ks_unpack_result res;
	struct seen s;
	char path[400], name[30];
	struct ks_arc_out *o = arc_new(path, "full.tar");
	bool quiet = ks_fail_quiet(true);
	struct ks_volume_settings set = *vol->settings;

	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		add(o, name, S_IFREG | 0644, "x", NULL);
	}
	arc_end(o);
	set.inodes_max = 50;
	ks_check_ok(ks_meta_settings_set(vol->meta, &set));
	ks_check(unpack(vol, path, "/in", &s, &res) < 0);
	ks_check(res.files > 0 && res.files < 50);
	/* Not once for every file that is left. */
	ks_check(s.errors < 200);
	set.inodes_max = 0;
	ks_check_ok(ks_meta_settings_set(vol->meta, &set));
	ks_check_ok(unpack(vol, path, "/in", &s, &res));
	ks_check_eq(res.files, 1000);
	ks_check_ok(ks_volume_close(vol));
	ks_fail_quiet(quiet);
}

KS_TEST_MAIN()
