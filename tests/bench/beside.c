/* SPDX-License-Identifier: Apache-2.0 */
/*
 * beside TURNS COUNT DIR...: changes of metadata in several directories, in short turns: COUNT files are made in the first, then in the second, and so on; then they
 * are renamed in each; and so on. What the machine does beside that changes more slowly, and hits all alike.
 *
 * Prints "name<TAB>row<TAB>rate<TAB>ops/s" for every turn; the name is the last part of DIR.
 */
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "beside: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int make(const char *a, const char *b)
{
	int fd = open(a, O_CREAT | O_EXCL | O_WRONLY, 0644);

	(void)b;
	return fd < 0 ? -1 : close(fd);
}

static int change_mode(const char *a, const char *b)
{
	(void)b;
	return chmod(a, 0600);
}

static int give_name(const char *a, const char *b)
{
	return rename(a, b);
}

static int take_away(const char *a, const char *b)
{
	(void)a;
	return unlink(b);
}

static int make_dir(const char *a, const char *b)
{
	(void)b;
	return mkdir(a, 0755);
}

static int remove_dir(const char *a, const char *b)
{
	(void)b;
	return rmdir(a);
}

static const struct {
	const char *name;
	int (*op)(const char *a, const char *b);
} rows[] = {
	{ "create", make },	 { "chmod", change_mode }, { "rename", give_name },
	{ "unlink", take_away }, { "mkdir", make_dir },	   { "rmdir", remove_dir },
};

static void turn(const char *dir, size_t row, int count)
{
	const char *name = strrchr(dir, '/');
	int64_t start;

	if (chdir(dir) < 0)
		die(dir);
	start = ks_clock_mono_ns();
	for (int i = 0; i < count; i++) {
		char a[32], b[32];

		snprintf(a, sizeof(a), "old-%d", i);
		snprintf(b, sizeof(b), "new-%d", i);
		if (rows[row].op(a, b) < 0)
			die(rows[row].name);
	}
	printf("%s\t%s\t%.1f\tops/s\n", name ? name + 1 : dir, rows[row].name,
	       count * 1e9 / (double)(ks_clock_mono_ns() - start));
}

int main(int argc, char **argv)
{
	int turns = argc > 3 ? atoi(argv[1]) : 0;
	int count = argc > 3 ? atoi(argv[2]) : 0;

	if (turns < 1 || count < 1) {
		fprintf(stderr, "usage: beside TURNS COUNT DIR...\n");
		return 64;
	}
	for (int t = 0; t < turns; t++) {
		for (size_t row = 0; row < sizeof(rows) / sizeof(rows[0]); row++) {
			for (int i = 3; i < argc; i++)
				turn(argv[i], row, count);
		}
	}
	return fflush(stdout) ? 1 : 0;
}
