/* SPDX-License-Identifier: Apache-2.0 */
/* parts.h: what opening, making and looking at a volume share. For volume/ and its tests. */
#ifndef KS_VOLUME_PARTS_H
#define KS_VOLUME_PARTS_H

#include "volume/volume.h"
#include <string.h>

struct ks_marker {
	uint8_t uuid[16];
	char name[64];
	uint8_t owner[16]; /* as the setting */
	uint64_t owners;   /* how often it has changed */
	bool formatting;   /* its volume was being made */
	bool loading;      /* from a dump with objects: all there are belong to it */
};
int ks_marker_write(struct ks_object *o,
		    const struct ks_marker *m) KS_MUST_CHECK; /* durable on return */
/* -ENOENT none, not raised; -EBADMSG damaged. */
int ks_marker_read(struct ks_object *o, struct ks_marker *out) KS_MUST_CHECK;

/* The store of a data URL with the decorators of every open volume; its marker is not looked at. */
int ks_store_open_bare(struct ks_object **out, const char *data_url) KS_MUST_CHECK;

/*
 * ks_volume_store_open() that also says whether this metadata may write: metadata that kiseki-load laid over the data of a volume may not, until it is told to
 * take over; from then on the other may not.
 */
int ks_store_open_owned(struct ks_object **out, const char *data_url,
			const struct ks_volume_settings *s, bool readonly,
			bool *ours) KS_MUST_CHECK;
/* For who opens no store: is the data another metadata's? Data that cannot be looked at is nobody's. */
bool ks_store_is_foreign(const char *data_url, const struct ks_volume_settings *s);
#define KS_VOLUME_NOT_OURS                                                                         \
	"'kiseki-load --take-over VOLUME' makes it the owner, when nobody uses the other any more"

/* The database's path when @meta_url (of a struct ks_volume_ref) is a SQLite database's, else NULL. Borrowed from it. */
static inline const char *ks_volume_sqlite_path(const char *meta_url)
{
	return strncmp(meta_url, "sqlite://", 9) == 0 ? meta_url + 9 : NULL;
}

/* For created_by. */
#define KS_VOLUME_PROGRAM "kiseki " KS_VERSION

#endif
