/* SPDX-License-Identifier: Apache-2.0 */
/* id.c: users and groups, as people name them. */
#include "cli/cmd.h"
#include <ctype.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>

/* The number that is written there, or -1. The last one of 32 bits is nobody's: chown(2) takes it for "leave it". */
static int64_t number(const char *text)
{
	char *end;
	unsigned long long v = strtoull(text, &end, 10);

	return isdigit((unsigned char)*text) && !*end && v < UINT32_MAX ? (int64_t)v : -1;
}

int64_t ks_cmd_user(const char *text)
{
	int64_t id = number(text);
	const struct passwd *p = id < 0 ? getpwnam(text) : NULL;

	return p ? (int64_t)p->pw_uid : id;
}

int64_t ks_cmd_group(const char *text)
{
	int64_t id = number(text);
	const struct group *g = id < 0 ? getgrnam(text) : NULL;

	return g ? (int64_t)g->gr_gid : id;
}
