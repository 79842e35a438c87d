/* SPDX-License-Identifier: Apache-2.0 */
/* place.h: where a new volume's metadata goes, for who makes volumes: format and load. For volume/ only. */
#ifndef KS_VOLUME_PLACE_H
#define KS_VOLUME_PLACE_H

#include "volume/names.h"
#include "volume/parts.h"

/* Before ks_place_find(): { .dir_fd = -1 }. */
struct ks_place {
	struct ks_volume_ref ref;
	int dir_fd;   /* of the database, locked */
	bool new_dir; /* the volume's own directory was made by us */
};

/* Finds the place of a volume that need not exist; makes the directories of a name. All raised, here and below. */
int ks_place_find(struct ks_place *p, const char *operand,
		  const struct ks_volume_find *where) KS_MUST_CHECK;
/* One maker at a time in the directory of a database. -EBUSY, if it is not to @wait. */
int ks_place_lock(struct ks_place *p, bool wait) KS_MUST_CHECK;
/* What the setting data_url says: @data, an URL or a directory; NULL: "meta.blocks/" beside the database, relative, so that the two can be moved together. */
int ks_place_data(const struct ks_place *p, const char *data, char *out, size_t size) KS_MUST_CHECK;
/* A complete database under another name gets its own. Durable on return. Needs the lock. */
int ks_place_publish(struct ks_place *p, const char *tmp) KS_MUST_CHECK;
/* A database with its log and the rest, if it is there. */
void ks_place_remove(const char *db);
/* After a failure: the data directory that we made, if nothing is in it but directories. */
void ks_place_remove_empty(const char *data_url);
/* After a failure: the directory, if we made it and it is empty, with @data_url's in it. */
void ks_place_undo(struct ks_place *p, const char *data_url);
void ks_place_clear(struct ks_place *p);

#endif
