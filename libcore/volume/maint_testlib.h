/* SPDX-License-Identifier: Apache-2.0 */
/* maint_testlib.h: for the tests of fsck and gc: a volume with one of everything, damage by SQL and by touching its files. For test programs. */
#ifndef KS_VOLUME_MAINT_TESTLIB_H
#define KS_VOLUME_MAINT_TESTLIB_H

#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/tap.h"
#include "volume/maint.h"
#include "volume/volume.h"
#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

struct tv {
	char dir[300], db[340], blocks[340], url[360];
	struct ks_volume_ref ref;
};

static const struct ks_ctx tv_ctx = { .cred = { .uid = 0, .gid = 0, .pid = 1, .umask = 022 } };

static inline void tv_paths(struct tv *v, const char *name)
{
	*v = (struct tv){ 0 };
	snprintf(v->dir, sizeof(v->dir), "%s/%.30s", ks_tap_dir(), name);
	snprintf(v->db, sizeof(v->db), "%s/v.db", v->dir);
	snprintf(v->blocks, sizeof(v->blocks), "%s/v.blocks", v->dir);
	snprintf(v->url, sizeof(v->url), "sqlite://%s", v->db);
	v->ref = (struct ks_volume_ref){ .spec = v->url, .meta_url = v->url, .shown_url = v->url };
}

static inline void tv_format(struct tv *v, const char *name)
{
	struct ks_volume_settings s = { .name = "test",
					.format_version = 1,
					.block_size = KS_MIB,
					.data_url = "v.blocks/",
					.compress = "none",
					.created_by = "test" };
	KS_AUTO(ks_object_closep) struct ks_object *o = NULL;
	char url[360];

	tv_paths(v, name);
	ks_check_eq(mkdir(v->dir, 0777), 0);
	ks_check_eq(mkdir(v->blocks, 0777), 0);
	ks_check_ok(ks_uuid_new(s.uuid));
	ks_check_ok(ks_random(s.hash_key, sizeof(s.hash_key)));
	s.created_ns = ks_clock_real_ns();
	ks_check_ok(ks_meta_format(v->url, &s, 0, 0));
	snprintf(url, sizeof(url), "file://%s", v->blocks);
	ks_check_ok(ks_object_open(&o, url));
	ks_check_ok(ks_volume_marker_put(o, s.uuid, s.name));
}

static inline struct ks_volume *tv_open(struct tv *v, uint32_t session)
{
	struct ks_volume_opts o = { .session = session,
				    .tool = "test",
				    .data = { .buffer_bytes = 16 * KS_MIB } };
	struct ks_volume *vol = NULL;

	ks_check_ok(ks_volume_open(&vol, &v->ref, &o));
	return vol;
}

/* No two bytes of two seeds are alike where it matters. */
static inline void tv_bytes(uint8_t *p, size_t n, unsigned int seed)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (uint8_t)(ks_mix64(seed * 1000003u + i / 8) >> (i % 8 * 8));
}

/* Writes, flushes and ends @fh. */
static inline void tv_write(struct ks_fh *fh, const uint8_t *p, size_t n)
{
	for (size_t at = 0; at < n; at += KS_MIB) {
		size_t len = ks_min(n - at, (size_t)KS_MIB);

		ks_check_eq(ks_vfs_write(fh, &tv_ctx, at, p + at, len), (ssize_t)len);
	}
	ks_check_ok(ks_vfs_flush(fh, &tv_ctx));
	ks_vfs_release(fh);
}

/* A file of @n bytes. */
static inline uint64_t tv_file(struct ks_volume *vol, uint64_t dir, const char *name, size_t n,
			       unsigned int seed)
{
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	struct ks_attr a;
	uint8_t *p = malloc(n + 1);

	tv_bytes(p, n, seed);
	ks_check_ok(
		ks_vfs_create(vol->vfs, &tv_ctx, dir, name, S_IFREG | 0644, O_RDWR, &a, &fh, &how));
	tv_write(fh, p, n);
	free(p);
	return a.ino;
}

/* /dir/big 3.5 MiB, /dir/twin as large, /dir/sub/deep, /small and /tiny (packed), /hard = /dir/link 1 MiB, /sym, /pipe, /attr with attributes, /empty */
static inline void tv_fill(struct tv *v)
{
	struct ks_volume *vol = tv_open(v, KS_SESSION_TOOL);
	struct ks_attr dir, sub, a;
	uint64_t hard, attr;

	ks_check_ok(ks_vfs_mkdir(vol->vfs, &tv_ctx, KS_ROOT_INO, "dir", S_IFDIR | 0755, &dir));
	ks_check_ok(ks_vfs_mkdir(vol->vfs, &tv_ctx, dir.ino, "sub", S_IFDIR | 0755, &sub));
	tv_file(vol, dir.ino, "big", 7 * KS_MIB / 2, 1);
	tv_file(vol, dir.ino, "twin", 7 * KS_MIB / 2, 2);
	tv_file(vol, sub.ino, "deep", 300 * KS_KIB, 3);
	tv_file(vol, KS_ROOT_INO, "small", 100000, 4);
	tv_file(vol, KS_ROOT_INO, "tiny", 100, 5);
	hard = tv_file(vol, KS_ROOT_INO, "hard", KS_MIB, 6);
	ks_check_ok(ks_vfs_link(vol->vfs, &tv_ctx, hard, dir.ino, "link", &a));
	ks_check_ok(ks_vfs_symlink(vol->vfs, &tv_ctx, KS_ROOT_INO, "sym", "dir/big", &a));
	ks_check_ok(ks_vfs_mknod(vol->vfs, &tv_ctx, KS_ROOT_INO, "pipe", S_IFIFO | 0644, 0, &a));
	attr = tv_file(vol, KS_ROOT_INO, "attr", 0, 0);
	ks_check_ok(ks_vfs_setxattr(vol->vfs, &tv_ctx, attr, "user.a", "b", 1, 0));
	tv_file(vol, KS_ROOT_INO, "empty", 0, 0);
	ks_check_ok(ks_volume_close(vol));
}

/* "%I(name)" in the statement becomes the inode of that name, "%S(name)" the first slice of it. */
static inline bool tv_try_sql(struct tv *v, const char *sql)
{
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	const char *text;
	sqlite3 *db = NULL;
	int rc;

	for (const char *p = sql; *p;) {
		const char *end = strchr(p, ')');

		if (p[0] == '%' && (p[1] == 'I' || p[1] == 'S') && p[2] == '(' && end) {
			bool slice = p[1] == 'S';

			ks_check_ok(ks_buf_printf(
				&b, "%s(SELECT ino FROM dentry WHERE name=CAST('%.*s' AS BLOB))%s",
				slice ? "(SELECT slice FROM extent WHERE slice<>0 AND ino=" : "",
				(int)(end - p - 3), p + 3, slice ? " ORDER BY seq LIMIT 1)" : ""));
			p = end + 1;
		} else {
			ks_check_ok(ks_buf_append(&b, p++, 1));
		}
	}
	ks_check_ok(ks_buf_cstr(&b, &text));
	ks_check_eq(sqlite3_open(v->db, &db), SQLITE_OK);
	sqlite3_busy_timeout(db, 10000);
	rc = sqlite3_exec(db, text, NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		printf("# %s: %s\n", text, sqlite3_errmsg(db));
	sqlite3_close(db);
	return rc == SQLITE_OK;
}

static inline void tv_sql(struct tv *v, const char *sql)
{
	ks_check(tv_try_sql(v, sql));
}

static inline int64_t tv_query(struct tv *v, const char *sql)
{
	sqlite3 *db = NULL;
	sqlite3_stmt *st = NULL;
	int64_t n = -1;

	ks_check_eq(sqlite3_open(v->db, &db), SQLITE_OK);
	ks_check_eq(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	if (sqlite3_step(st) == SQLITE_ROW)
		n = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return n;
}

/* The file of a block, or of a pack. */
static inline void tv_block_path(struct tv *v, const char *name, uint32_t idx, char out[700])
{
	char sql[300], key[KS_KEY_STR];
	int64_t slice, pack, size;

	snprintf(sql, sizeof(sql),
		 "SELECT slice FROM extent WHERE slice<>0 AND ino=(SELECT ino FROM dentry WHERE "
		 "name=CAST('%.50s' AS BLOB)) ORDER BY chunk, seq LIMIT 1",
		 name);
	slice = tv_query(v, sql);
	snprintf(sql, sizeof(sql), "SELECT pack FROM slice WHERE id=%jd", (intmax_t)slice);
	pack = tv_query(v, sql);
	snprintf(sql, sizeof(sql), "SELECT size FROM block WHERE slice=%jd AND idx=%u",
		 (intmax_t)slice, idx);
	size = tv_query(v, sql);
	if (pack > 0)
		ks_pack_key(key, (uint64_t)pack);
	else
		ks_block_key(key, (uint64_t)slice, idx, (uint32_t)size);
	snprintf(out, 700, "%s/%s", v->blocks, key);
}

static inline void tv_flip(const char *path, int64_t off)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	uint8_t c;

	ks_check(fd >= 0);
	if (off < 0)
		off += lseek(fd, 0, SEEK_END);
	ks_check_eq(pread(fd, &c, 1, off), 1);
	c ^= 0x10;
	ks_check_eq(pwrite(fd, &c, 1, off), 1);
	close(fd);
}

static inline int64_t tv_pack_off(struct tv *v, const char *name)
{
	char sql[300];

	snprintf(sql, sizeof(sql),
		 "SELECT pack_off FROM slice WHERE id=(SELECT slice FROM extent WHERE ino=(SELECT "
		 "ino FROM dentry WHERE name=CAST('%.50s' AS BLOB)))",
		 name);
	return tv_query(v, sql);
}

static inline int tv_copy_one(const char *from, const char *to)
{
	char cmd[900];

	snprintf(cmd, sizeof(cmd), "cp -a '%s' '%s'", from, to);
	return system(cmd);
}

/* A volume with one of everything, from a template. */
static inline void tv_make(struct tv *v)
{
	static struct tv template;
	static int n;
	char name[30];

	if (!template.dir[0]) {
		tv_format(&template, "template");
		tv_fill(&template);
	}
	snprintf(name, sizeof(name), "v%d", ++n);
	tv_paths(v, name);
	ks_check_eq(tv_copy_one(template.dir, v->dir), 0);
}

static inline void tv_remove(struct tv *v)
{
	char cmd[400];

	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", v->dir);
	ks_check_eq(system(cmd), 0);
}

static inline uint64_t tv_hash_file(const char *path, uint64_t h)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t buf[65536];
	ssize_t n;

	if (fd < 0)
		return h;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		h = ks_mix64(h ^ ks_crc32c((uint32_t)h, buf, (size_t)n));
	close(fd);
	return h;
}

/* Number of objects of the store, the marker left out. */
static inline uint64_t tv_objects(struct tv *v)
{
	char cmd[500], line[64] = "";
	FILE *f;

	snprintf(cmd, sizeof(cmd),
		 "find '%s' -type f ! -name 'kiseki.volume' ! -name '*tmp~*' | wc -l", v->blocks);
	f = popen(cmd, "r");
	ks_check(f && fgets(line, sizeof(line), f));
	pclose(f);
	return strtoull(line, NULL, 10);
}

#endif
