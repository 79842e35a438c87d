/* SPDX-License-Identifier: Apache-2.0 */
/* volumes.c: the volumes that have names here, and with -l where their metadata is. */
#include "base/array.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "ls.h"
#include "volume/volume.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct names {
	char **p;
	size_t n, cap;
	bool failed;
};

static void names_clear(struct names *all)
{
	for (size_t i = 0; i < all->n; i++)
		free(all->p[i]);
	free(all->p);
}

static void take(void *p, const char *name)
{
	struct names *all = p;
	char *copy = strdup(name);

	if (!copy || ks_array_room(&all->p, all->n, &all->cap) < 0) {
		free(copy);
		all->failed = true;
		return;
	}
	all->p[all->n++] = copy;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One that cannot be resolved has a bad line in a configuration file. */
static int print_one(const char *name, const struct ks_volume_find *find)
{
	struct ks_volume_ref ref = { 0 };
	int r = arg.details || ks_common.json ? ks_volume_resolve(&ref, name, find) : 0;

	if (r == 0)
		out.entries++;
	if (r == 0 && ks_common.json) {
		ks_json_item(json_pack("{s:s,s:s}", "type", "item", "name", name), "meta",
			     ref.shown_url);
	} else if (r == 0 && !ks_common.quiet) {
		fputs(name, stdout);
		if (arg.details)
			printf("%s%s", arg.plain ? "\t" : "  ", ref.shown_url);
		putchar(arg.nul ? '\0' : '\n');
	}
	ks_volume_ref_clear(&ref);
	return r;
}

int ls_volumes(void)
{
	struct ks_volume_find find = { .config = ks_common.config };
	KS_AUTO(names_clear) struct names all = { 0 };
	int code = 0, r = ks_volume_names(&find, take, &all);

	if (r < 0)
		return r;
	if (all.failed)
		return -ENOMEM;
	if (all.n)
		qsort(all.p, all.n, sizeof(*all.p), compare);
	for (size_t i = 0; i < all.n && !ks_cmd_stopped(); i++) {
		if (i > 0 && strcmp(all.p[i - 1], all.p[i]) == 0)
			continue;
		r = print_one(all.p[i], &find);
		if (r < 0)
			code = ks_exit_worse(code, ks_cmd_report(r));
	}
	return code;
}
