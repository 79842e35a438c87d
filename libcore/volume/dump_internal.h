/* SPDX-License-Identifier: Apache-2.0 */
/* dump_internal.h: what the dump*.c and load*.c files share. */
#ifndef KS_VOLUME_DUMP_INTERNAL_H
#define KS_VOLUME_DUMP_INTERNAL_H

#include "volume/dump.h"

/* Members of a dump, in this order. */
#define KS_DUMP_MANIFEST KS_ARC_DIR "manifest.json"
#define KS_DUMP_OBJECTS KS_ARC_DIR "objects/" /* behind the records; each with its key */
#define KS_DUMP_SUMS KS_ARC_DIR "SHA256SUMS"  /* of all before it but the objects; the last */
#define KS_DUMP_SEGMENT ((size_t)4 * KS_MIB)  /* a segment ends with the record that reaches this */
#define KS_DUMP_MEMBER_MAX ((size_t)16 * KS_MIB)

/* The tables of a dump, in their order: all that is not about processes. */
#define KS_DUMP_TABLES 12
extern const enum ks_table ks_dump_tables[KS_DUMP_TABLES];
/* Records that are not the volume's but its database's: they are left out, and made anew. */
bool ks_dump_is_local(enum ks_table t, const void *rec);

/* Appends the line of sha256sum(1). */
int ks_dump_sum(struct ks_buf *sums, const char *name, const void *p, size_t n) KS_MUST_CHECK;

struct ks_dump {
	const struct ks_dump_opts *o;
	struct ks_dump_result *out;
	struct ks_meta *meta; /* the snapshot */
	struct ks_meta *live; /* whose session keeps the objects; NULL */
	struct ks_arc_out *arc;
	struct ks_buf sums;
};

int ks_dump_stopped(const struct ks_dump *d) KS_MUST_CHECK; /* -EINTR, raised */
/* @text: NULL: what was raised. */
void ks_dump_failed(struct ks_dump *d, const char *what, int err, const char *text);
int ks_dump_objects(struct ks_dump *d, struct ks_object *store) KS_MUST_CHECK;
int ks_dump_files(struct ks_dump *d, const struct ks_volume_ref *ref) KS_MUST_CHECK;

static inline void ks_dump_count(uint64_t *counter, uint64_t n)
{
	__atomic_add_fetch(counter, n, __ATOMIC_RELAXED);
}

#endif
