/* SPDX-License-Identifier: Apache-2.0 */
/* busy_test.c: a change waits for another process, which has the database locked; what others see meanwhile. */
#include "base/thread.h"
#include "volume/maint_testlib.h"
#include <unistd.h>

#define LEN 5000u

struct change {
	struct ks_volume *vol;
	ks_ino_t ino;
	uint64_t size;
	int r;
};

static void *truncate_it(void *arg)
{
	struct change *c = arg;
	struct ks_attr in = { .size = c->size }, out;

	c->r = ks_vfs_setattr(c->vol->vfs, &tv_ctx, c->ino, KS_SET_SIZE, &in, &out);
	return NULL;
}

static ssize_t length_read(struct ks_volume *vol, ks_ino_t ino, struct ks_fh **keep)
{
	static char p[2 * LEN];
	struct ks_open_how how;
	struct ks_fh *fh = NULL;
	ssize_t n;

	ks_check_ok(ks_vfs_open(vol->vfs, &tv_ctx, ino, O_RDWR | O_APPEND, &fh, &how));
	n = ks_vfs_read(fh, &tv_ctx, 0, p, sizeof(p));
	if (keep)
		*keep = fh;
	else
		ks_vfs_release(fh);
	return n;
}

/* A file that nobody has open is made shorter; who opens it before that has happened reads all of it. */
KS_TEST(a_file_is_whole_until_it_is_cut)
{
	struct ks_volume_opts o = { .session = KS_SESSION_TOOL, .tool = "test", .noatime = true };
	struct change c = { .size = 100 };
	sqlite3 *db = NULL;
	struct ks_fh *fh;
	pthread_t t;
	struct tv v;

	tv_format(&v, "cut");
	ks_check_ok(ks_volume_open(&c.vol, &v.ref, &o));
	c.ino = tv_file(c.vol, KS_ROOT_INO, "f", LEN, 1);
	ks_check_eq(sqlite3_open(v.db, &db), SQLITE_OK);
	ks_check_eq(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	ks_check_ok(ks_thread_start(&t, "cut", truncate_it, &c));
	for (int i = 0; i < 50; i++) {
		ks_check_eq(length_read(c.vol, c.ino, NULL), LEN);
		usleep(5000);
	}
	ks_check_eq(length_read(c.vol, c.ino, &fh), LEN);
	ks_check_eq(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	pthread_join(t, NULL);
	sqlite3_close(db);
	ks_check_ok(c.r);
	ks_check_eq(length_read(c.vol, c.ino, NULL), 100);
	ks_vfs_release(fh);
	ks_check_ok(ks_volume_close(c.vol));
	tv_remove(&v);
}

KS_TEST_MAIN()
