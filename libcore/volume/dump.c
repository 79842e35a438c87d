/* SPDX-License-Identifier: Apache-2.0 */
/* dump.c: a volume's metadata as an archive: a manifest, segments of records table by table, and their checksums. */
#include "base/log.h"
#include "volume/dump_internal.h"
#include "volume/rectext.h"
#include "volume/walk.h"
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whole tables are read once: mapping the database would only count as memory. */
#define MMAP_BYTES 4096

const enum ks_table ks_dump_tables[KS_DUMP_TABLES] = {
	KS_T_SETTING, KS_T_COUNTER, KS_T_INODE, KS_T_DENTRY, KS_T_SYMLINK, KS_T_XATTR,
	KS_T_EXTENT,  KS_T_SLICE,   KS_T_BLOCK, KS_T_PACK,   KS_T_DELETED, KS_T_FREED,
};

static bool named(struct ks_bytes b, const char *name)
{
	return b.n == strlen(name) && memcmp(b.p, name, b.n) == 0;
}

bool ks_dump_is_local(enum ks_table t, const void *rec)
{
	/* Sessions come and go without changing anything, and count as they do. */
	if (t == KS_T_COUNTER) {
		const struct ks_rec_counter *c = rec;

		return named(c->name, "next_session") || named(c->name, "epoch");
	}
	/* Where the objects are, the manifest says; who owns them, and when maintenance ran, is no property of a copy. */
	if (t == KS_T_SETTING) {
		const struct ks_rec_setting *s = rec;

		return named(s->name, "data_url") || named(s->name, "owner") ||
		       (s->name.n > strlen(KS_SETTING_LAST) &&
			memcmp(s->name.p, KS_SETTING_LAST, strlen(KS_SETTING_LAST)) == 0);
	}
	return false;
}

int ks_dump_sum(struct ks_buf *sums, const char *name, const void *p, size_t n)
{
	unsigned char md[EVP_MAX_MD_SIZE];
	unsigned int len = 0;
	int r;

	if (EVP_Digest(p, n, md, &len, EVP_sha256(), NULL) != 1)
		return ks_fail(-EIO, "SHA-256 of %s", name);
	r = ks_buf_reserve(sums, 2 * (size_t)len);
	for (unsigned int i = 0; r == 0 && i < len; i++)
		r = ks_buf_printf(sums, "%02x", md[i]);
	return r < 0 ? r : ks_buf_printf(sums, "  %s\n", name);
}

int ks_dump_stopped(const struct ks_dump *d)
{
	return d->o->stopped && d->o->stopped(d->o->arg) ? ks_fail(-EINTR, "dump") : 0;
}

void ks_dump_failed(struct ks_dump *d, const char *what, int err, const char *text)
{
	ks_dump_count(&d->out->failed, 1);
	if (d->o->error) {
		d->o->error(d->o->arg, what, err,
			    text              ? text
			    : *ks_fail_text() ? ks_fail_text()
					      : what);
	}
	ks_fail_clear();
}

/* ---- metadata ---- */

static int put_manifest(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	const struct ks_volume_settings *s = ks_meta_settings(d->meta);
	bool blocks = d->o->what == KS_DUMP_BLOCKS;
	KS_AUTO(ks_freep) char *url = NULL;
	KS_AUTO(ks_freep) char *shown = NULL;
	json_t *j;
	char *text;
	int r = ks_volume_data_url(ref->meta_url, s->data_url, &url);

	if (r < 0)
		return r;
	shown = ks_url_redact(url);
	j = json_pack("{s:i,s:s,s:s,s:s,s:I,s:I}", "kiseki_dump", KS_DUMP_VERSION, "kind",
		      blocks ? "blocks" : "meta", "name", s->name, "uuid", d->out->uuid,
		      "format_version", (json_int_t)s->format_version, "block_size",
		      (json_int_t)s->block_size);
	/* A dump with objects is the same wherever they are. */
	if (j && shown && !blocks)
		json_object_set_new(j, "data", json_string(shown));
	text = j && shown ? json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(j);
	if (!text)
		return -ENOMEM;
	r = ks_arc_out_member(d->arc, KS_DUMP_MANIFEST, text, strlen(text));
	if (r == 0)
		r = ks_dump_sum(&d->sums, KS_DUMP_MANIFEST, text, strlen(text));
	free(text);
	return r;
}

static int put_segment(struct ks_dump *d, enum ks_table t, unsigned int *number, struct ks_buf *b)
{
	char name[64];
	int r;

	if (!b->n)
		return 0;
	snprintf(name, sizeof(name), KS_ARC_DIR "%s/%08u.ndjson", ks_tables[t].name, ++*number);
	r = ks_arc_out_member(d->arc, name, b->p, b->n);
	if (r == 0)
		r = ks_dump_sum(&d->sums, name, b->p, b->n);
	b->n = 0;
	d->out->out_bytes = ks_arc_out_bytes(d->arc);
	return r < 0 ? r : ks_dump_stopped(d);
}

static int put_table(struct ks_dump *d, enum ks_table t, struct ks_buf *b)
{
	unsigned int number = 0;
	struct ks_walk w;
	int r;

	ks_walk_begin(&w, ks_meta_engine(d->meta), t);
	while ((r = ks_walk_next(&w)) == 0 && w.rec) {
		if (ks_dump_is_local(t, w.rec))
			continue;
		r = ks_rectext_write(b, t, w.rec);
		if (r == 0 && b->n >= KS_DUMP_SEGMENT)
			r = put_segment(d, t, &number, b);
		if (r < 0)
			break;
		ks_dump_count(&d->out->records, 1);
		if (t == KS_T_INODE)
			ks_dump_count(&d->out->inodes, 1);
		if (t == KS_T_SLICE)
			ks_dump_count(&d->out->slices, 1);
	}
	ks_walk_end(&w);
	return r < 0 ? r : put_segment(d, t, &number, b);
}

static int put_tables(struct ks_dump *d)
{
	struct ks_buf b = { 0 };
	int r = ks_buf_reserve(&b, KS_DUMP_SEGMENT + 256 * KS_KIB);

	for (size_t i = 0; r == 0 && i < KS_DUMP_TABLES; i++)
		r = put_table(d, ks_dump_tables[i], &b);
	ks_buf_clear(&b);
	return r;
}

/* ---- the whole ---- */

/* A session that keeps the objects. A volume that cannot be written to has none, as a read-only mount. */
static int hold(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	struct ks_meta_opts o = { .mmap_bytes = MMAP_BYTES };
	bool quiet = ks_fail_quiet(true);
	int r;

	ks_fail_clear();
	r = ks_meta_open(&d->live, ref->meta_url, &o);
	ks_fail_quiet(quiet);
	if (r == -EROFS || r == -EACCES || r == -EPERM ||
	    (r == 0 && ks_meta_is_readonly(d->live))) {
		d->out->unprotected = true;
		return 0;
	}
	if (r == -ENOENT)
		return ks_fail(r, "no volume at %s", ref->shown_url);
	if (r < 0)
		return *ks_fail_text() ? r : ks_fail(r, "open %s", ref->shown_url);
	r = ks_meta_session_start(d->live, KS_SESSION_TOOL, "kiseki-dump", "", "");
	return r < 0 ? r : ks_meta_hold(d->live);
}

static int open_snapshot(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	struct ks_meta_opts o = { .snapshot = true, .mmap_bytes = MMAP_BYTES };
	const struct ks_volume_settings *s;
	struct ks_meta_usage usage;
	int r;

	ks_fail_clear();
	r = ks_meta_open(&d->meta, ref->meta_url, &o);
	if (r == -ENOENT)
		return ks_fail(r, "no volume at %s", ref->shown_url);
	if (r < 0)
		return *ks_fail_text() ? r : ks_fail(r, "open %s", ref->shown_url);
	s = ks_meta_settings(d->meta);
	memcpy(d->out->name, s->name, sizeof(d->out->name));
	ks_uuid_format(s->uuid, d->out->uuid);
	if (ks_meta_usage(d->meta, &usage) == 0)
		d->out->total_inodes = usage.inodes;
	return 0;
}

static int put_objects(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	const struct ks_volume_settings *s = ks_meta_settings(d->meta);
	KS_AUTO(ks_object_closep) struct ks_object *store = NULL;
	KS_AUTO(ks_freep) char *url = NULL;
	int r = ks_volume_data_url(ref->meta_url, s->data_url, &url);

	if (r == 0)
		r = ks_volume_store_open(&store, url, s, true);
	return r == 0 ? ks_dump_objects(d, store) : r;
}

static int write_meta(struct ks_dump *d, const struct ks_volume_ref *ref)
{
	int r = put_manifest(d, ref);

	if (r == 0)
		r = put_tables(d);
	if (r == 0 && d->o->what == KS_DUMP_BLOCKS)
		r = put_objects(d, ref);
	return r == 0 ? ks_arc_out_member(d->arc, KS_DUMP_SUMS, d->sums.p, d->sums.n) : r;
}

int ks_dump(const struct ks_volume_ref *ref, const struct ks_dump_opts *o,
	    struct ks_dump_result *out)
{
	struct ks_dump d = { .o = o, .out = out };
	struct ks_fail_kept why;
	int r = o->what == KS_DUMP_META ? 0 : hold(&d, ref);

	if (r == 0)
		r = open_snapshot(&d, ref);
	if (r == 0) {
		r = ks_arc_out_open(&d.arc, o->output,
				    o->what == KS_DUMP_FILES ? o->format : KS_ARC_PLAIN,
				    o->compress);
		out->no_output = r < 0;
	}
	if (r == 0) {
		ks_arc_out_stop(d.arc, o->stopped, o->arg);
		r = o->what == KS_DUMP_FILES ? ks_dump_files(&d, ref) : write_meta(&d, ref);
	}
	if (r == 0)
		r = ks_dump_stopped(&d);
	if (r == 0)
		r = ks_arc_out_finish(d.arc);
	ks_fail_keep(&why);
	if (d.arc)
		out->out_bytes = ks_arc_out_bytes(d.arc);
	ks_arc_out_free(d.arc);
	ks_buf_clear(&d.sums);
	ks_meta_close(d.meta);
	ks_meta_close(d.live);
	ks_fail_restore(&why);
	return r;
}
