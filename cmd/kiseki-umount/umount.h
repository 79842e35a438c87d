/* SPDX-License-Identifier: Apache-2.0 */
/* umount.h: what the files of kiseki-umount share. */
#ifndef KS_CMD_UMOUNT_H
#define KS_CMD_UMOUNT_H

#include "base/def.h"

/* holders.c: prints who uses what is mounted at @dir, on stderr; how many were found. @but: a process that is not named. */
int print_holders(const char *dir, int but);

#endif
