/* SPDX-License-Identifier: Apache-2.0 */
/* lists.c: names and patterns from files. */
#include "base/buf.h"
#include "base/log.h"
#include "cp.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct cp_list {
	FILE *f;
	char *line;
	size_t size;
	int end; /* of a line */
	char *name;
};

int cp_list_open(struct cp_list **out, const char *file, bool nul)
{
	struct cp_list *l = calloc(1, sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->end = nul ? '\0' : '\n';
	l->name = strdup(file);
	l->f = strcmp(file, "-") == 0 ? stdin : fopen(file, "re");
	if (!l->f || !l->name) {
		int err = l->f ? ENOMEM : errno;

		cp_list_close(l);
		return ks_fail(-err, "%s", file);
	}
	*out = l;
	return 0;
}

int cp_list_next(void *list, const char **line)
{
	struct cp_list *l = list;
	ssize_t n;

	do {
		n = getdelim(&l->line, &l->size, l->end, l->f);
		if (n < 0)
			return ferror(l->f) ? ks_fail(-EIO, "%s", l->name) : 0;
		if (n && l->line[n - 1] == l->end)
			l->line[--n] = '\0';
	} while (n == 0);
	*line = l->line;
	return 1;
}

void cp_list_close(struct cp_list *l)
{
	if (!l)
		return;
	if (l->f && l->f != stdin)
		fclose(l->f);
	free(l->line);
	free(l->name);
	free(l);
}

const char *cp_exclude_from(const char *file)
{
	struct cp_list *l = NULL;
	const char *line = NULL;
	int r = cp_list_open(&l, file, false);

	while (r == 0 && l && (r = cp_list_next(l, &line)) > 0)
		r = !line || *line == '#' ? 0 : ks_filter_add(&arg.filter, line, false);
	cp_list_close(l);
	return r < 0 ? "the file cannot be read, or has a line that is no pattern" : NULL;
}
