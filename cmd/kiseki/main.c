/* SPDX-License-Identifier: Apache-2.0 */
/* kiseki: runs kiseki-COMMAND, from its own directory or from PATH. */
#include "base/array.h"
#include "base/buf.h"
#include "cli/cmd.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool list_only;

static const struct ks_opt opts[] = {
	KS_OPT_FLAG(0, "list", &list_only, "the commands there are, one per line"),
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki",
	.usage = "COMMAND [ARGUMENT...]\nhelp [COMMAND]",
	.about = "Run kiseki-COMMAND: 'kiseki cp' is 'kiseki-cp'.",
	.operands = "  COMMAND   a full word; 'kiseki --list' shows which there are",
	.examples = "kiseki format photos\nkiseki cp -a /srv/album photos:/\nkiseki help cp",
	.opts = opts,
	.common = KS_CMD_NO_PARSE_AFTER,
	.max_args = -1,
};

/* Every command found, sorted, each once. */
struct names {
	char **p;
	size_t n, cap;
};

static void add_dir(struct names *all, const char *dir)
{
	DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		KS_AUTO(ks_freep) char *path = NULL;

		if (strncmp(e->d_name, "kiseki-", 7) != 0 || !e->d_name[7])
			continue;
		path = ks_asprintf("%s/%s", dir, e->d_name);
		if (!path || access(path, X_OK) < 0)
			continue;
		if (ks_array_room(&all->p, all->n, &all->cap) < 0)
			break;
		all->p[all->n] = strdup(e->d_name + 7);
		all->n += all->p[all->n] != NULL;
	}
	if (d)
		closedir(d);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Owned; NULL: not known. */
static char *own_dir(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	path[n] = '\0';
	slash = strrchr(path, '/');
	return slash ? strndup(path, (size_t)(slash - path)) : NULL;
}

static void find_all(struct names *all)
{
	KS_AUTO(ks_freep) char *own = own_dir();
	KS_AUTO(ks_freep) char *path = strdup(getenv("PATH") ? getenv("PATH") : "");
	char *save = NULL;
	size_t k = 0;

	if (own)
		add_dir(all, own);
	for (char *dir = path ? strtok_r(path, ":", &save) : NULL; dir;
	     dir = strtok_r(NULL, ":", &save))
		add_dir(all, dir);
	if (all->n)
		qsort(all->p, all->n, sizeof(*all->p), compare);
	for (size_t i = 0; i < all->n; i++) {
		if (k && strcmp(all->p[k - 1], all->p[i]) == 0)
			free(all->p[i]);
		else
			all->p[k++] = all->p[i];
	}
	all->n = k;
}

static void list(void)
{
	struct names all = { 0 };

	find_all(&all);
	for (size_t i = 0; i < all.n; i++) {
		puts(all.p[i]);
		free(all.p[i]);
	}
	free(all.p);
}

static void unknown(const char *word)
{
	struct names all = { 0 };
	const char *best = NULL;
	int best_n = INT_MAX;

	find_all(&all);
	for (size_t i = 0; i < all.n; i++) {
		int n = ks_typo_distance(word, all.p[i]);

		if (n >= 0 && n < best_n) {
			best = all.p[i];
			best_n = n;
		}
	}
	if (best)
		ks_cmd_usage("there is no command '%s'; did you mean '%s'?", word, best);
	ks_cmd_usage("there is no command '%s'; 'kiseki --list' shows those there are", word);
}

static bool is_word(const char *word)
{
	for (const char *p = word; *p; p++) {
		if (!isalnum((unsigned char)*p) && *p != '-')
			return false;
	}
	return *word != '\0';
}

/* Returns only when there is no such command. */
static void run(char **args)
{
	KS_AUTO(ks_freep) char *own = own_dir();
	KS_AUTO(ks_freep) char *name = ks_asprintf("kiseki-%s", args[0]);
	KS_AUTO(ks_freep) char *path = own && name ? ks_asprintf("%s/%s", own, name) : NULL;
	char *word = args[0];

	if (!name || !is_word(word))
		return;
	args[0] = name;
	errno = ENOENT;
	if (path)
		execv(path, args);
	if (errno == ENOENT)
		execvp(name, args);
	args[0] = word;
	if (errno != ENOENT) {
		ks_cmd_error("cannot run %s: %s", name, strerrordesc_np(errno));
		exit(KS_EXIT_OSERR);
	}
}

static int help(const char *word)
{
	KS_AUTO(ks_freep) char *page = word ? ks_asprintf("kiseki-%s", word) : strdup("kiseki");
	char man[] = "man";
	char section[] = "7";
	char *const of_tool[] = { man, page, NULL };
	char *const of_all[] = { man, section, page, NULL };

	if (!page)
		return -ENOMEM;
	execvp(man, word ? of_tool : of_all);
	ks_cmd_error("cannot run man: %s", strerrordesc_np(errno));
	ks_cmd_hint("%s --help", page);
	return KS_EXIT_OSERR;
}

int main(int argc, char **argv)
{
	char **args;
	int n = ks_cmd_parse(&cmd, argc, argv, &args);

	if (list_only) {
		list();
		return ks_cmd_exit(0);
	}
	if (n == 0)
		ks_cmd_usage("a command is missing");
	if (strcmp(args[0], "help") == 0)
		return ks_cmd_exit(help(args[1]));
	run(args);
	unknown(args[0]);
	return KS_EXIT_USAGE;
}
