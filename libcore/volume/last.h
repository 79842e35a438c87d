/* SPDX-License-Identifier: Apache-2.0 */
/*
 * last.h: a tool of maintenance notes when it ended, and how, for kiseki-status.
 *
 * Only for work on the whole of a volume, and only when it was begun: who found it locked has done nothing. A note that cannot be written is no failure: the log says
 * why, at INFO. What was raised stays.
 */
#ifndef KS_VOLUME_LAST_H
#define KS_VOLUME_LAST_H

#include "volume/volume.h"

/* @code: what the tool is going to exit with. @m is open for writing; nothing happens when it is not. */
void ks_last_note(struct ks_meta *m, enum ks_tool tool, int code);
/*
 * The same for a tool that reads: opens the metadata for writing just for that. Where that may not be, or the data is another metadata's, there is no note; what is
 * locked is waited for some seconds.
 */
void ks_last_note_at(const struct ks_volume_ref *ref, enum ks_tool tool, int code);
/* The path of an operand "VOLUME:/path": does it stand for all of it? NULL does. */
bool ks_last_is_whole(const char *path);

#endif
