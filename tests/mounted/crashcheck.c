/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashcheck DIR LOG: after a crash, is everything still there that was promised? (see crashlog.h)
 *
 *	--power   the power failed: what was only closed, renamed or removed without fsync is not promised
 *
 * Exit status: 0 every promise holds, 1 one is broken (all are printed), 2 could not run.
 */
#include "crashlog.h"
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

enum { STATES = 24, LARGEST = 64 * MIB };

struct state {
	bool absent;
	bool partial; /* any length up to len, holes in it */
	uint64_t min, seed, len;
};

struct file {
	char name[CRASH_NAME];
	struct state may[STATES]; /* one of these is what it is */
	unsigned n;
	bool pages;
	uint64_t promised[CRASH_PAGES], begun[CRASH_PAGES];
	struct file *next;
};

static struct file *files;
static bool power;
static int broken;
static uint64_t checked, promises;
static uint8_t *got, *want;

static __attribute__((format(printf, 2, 3))) void wrong(const struct file *f, const char *fmt, ...)
{
	va_list ap;

	printf("broken promise: %s: ", f->name);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	broken++;
}

static struct file *file_of(const char *name)
{
	struct file *f = files;

	while (f && strcmp(f->name, name) != 0)
		f = f->next;
	if (f)
		return f;
	f = xalloc(sizeof(*f));
	snprintf(f->name, sizeof(f->name), "%s", name);
	f->may[f->n++] = (struct state){ .absent = true };
	f->next = files;
	files = f;
	return f;
}

static void may_be(struct file *f, struct state s)
{
	if (f->n == STATES) /* the oldest possibilities are long gone */
		memmove(f->may, f->may + 1, --f->n * sizeof(s));
	f->may[f->n++] = s;
}

static void must_be(struct file *f, struct state s, bool weak)
{
	if (!(weak && power))
		f->n = 0;
	promises++;
	may_be(f, s);
}

static void replay(char kind, struct file *f, uint64_t seed, uint64_t len)
{
	struct state content = { .seed = seed, .min = len, .len = len };

	switch (kind) {
	case 'N': /* O_TRUNC on what was there: empty comes first */
		may_be(f, (struct state){ .partial = true, .seed = seed, .len = len });
		break;
	case 'B':
		may_be(f, content);
		break;
	case 'A':
		content.min = f->n ? f->may[f->n - 1].len : 0;
		may_be(f, content);
		break;
	case 'F':
	case 'C':
		must_be(f, content, kind == 'C');
		break;
	case 'G':
		may_be(f, (struct state){ .absent = true });
		break;
	case 'X':
		must_be(f, (struct state){ .absent = true }, true);
		break;
	case 'W':
		f->pages = true;
		f->begun[len % CRASH_PAGES] = seed;
		break;
	case 'P':
		f->promised[len % CRASH_PAGES] = seed;
		promises++;
		break;
	default:
		die("a line of kind '%c'", kind);
	}
}

static void read_log(const char *path)
{
	FILE *in = fopen(path, "r");
	char line[256];

	if (!in)
		die("%s", path);
	while (fgets(line, sizeof(line), in)) {
		char kind, name[CRASH_NAME];
		unsigned long long seed, len;

		if (!strchr(line, '\n'))
			break; /* torn */
		if (sscanf(line, "%c %63s %llu %llu", &kind, name, &seed, &len) != 4)
			die("bad line: %s", line);
		replay(kind, file_of(name), seed, len);
	}
	fclose(in);
}

static bool is_state(const struct state *s, bool exists, uint64_t size)
{
	if (s->absent || !exists)
		return s->absent && !exists;
	if (size > s->len || (!s->partial && size < s->min))
		return false;
	pattern(want, size, s->seed, 0);
	if (!s->partial)
		return memcmp(got, want, size) == 0;
	for (uint64_t i = 0; i < size; i++)
		if (got[i] && got[i] != want[i])
			return false;
	return true;
}

static void explain(const struct file *f, bool exists, uint64_t size)
{
	char text[1500];
	int n = 0;

	for (unsigned i = 0; i < f->n && n < (int)sizeof(text) - 100; i++) {
		const struct state *s = &f->may[i];

		if (s->absent)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " [absent]");
		else
			n += snprintf(text + n, sizeof(text) - (size_t)n, " [%s%llu bytes of %llu]",
				      s->partial ? "up to " : "", (unsigned long long)s->len,
				      (unsigned long long)s->seed);
	}
	if (!exists) {
		wrong(f, "is not there; may be:%s", text);
		return;
	}
	if (f->n && f->may[f->n - 1].len >= size && !f->may[f->n - 1].absent) {
		uint64_t at = 0, zeros = 0;

		pattern(want, size, f->may[f->n - 1].seed, 0);
		while (at < size && got[at] == want[at])
			at++;
		for (uint64_t i = at; i < size; i++)
			zeros += got[i] == 0;
		wrong(f,
		      "%llu bytes, unlike the last state from byte %llu on (%llu zeros there); may "
		      "be:%s",
		      (unsigned long long)size, (unsigned long long)at, (unsigned long long)zeros,
		      text);
		return;
	}
	wrong(f, "%llu bytes; may be:%s", (unsigned long long)size, text);
}

static void check_pages(const struct file *f, uint64_t size)
{
	for (uint64_t p = 0; p < CRASH_PAGES; p++) {
		bool old, new;

		memset(want, 0, CRASH_PAGE);
		if (p * CRASH_PAGE < size)
			memcpy(want, got + p * CRASH_PAGE, MIN(CRASH_PAGE, size - p * CRASH_PAGE));
		uint8_t page[CRASH_PAGE];

		crash_page(page, p, f->promised[p]);
		old = memcmp(page, want, CRASH_PAGE) == 0;
		crash_page(page, p, f->begun[p]);
		new = memcmp(page, want, CRASH_PAGE) == 0;
		if (!old && !new)
			wrong(f, "page %llu is neither generation %llu (promised) nor %llu (begun)",
			      (unsigned long long)p, (unsigned long long)f->promised[p],
			      (unsigned long long)f->begun[p]);
	}
}

static void check(int dir, const struct file *f)
{
	int fd = openat(dir, f->name, O_RDONLY);
	struct stat st = { 0 };
	bool exists = fd >= 0;

	checked++;
	if (fd < 0 && errno != ENOENT) {
		wrong(f, "cannot be opened: %s", strerror(errno));
		return;
	}
	if (exists && (fstat(fd, &st) < 0 || st.st_size > LARGEST ||
		       pread_all(fd, got, (size_t)st.st_size, 0) < 0)) {
		wrong(f, "%lld bytes cannot be read: %s", (long long)st.st_size, strerror(errno));
		close(fd);
		return;
	}
	if (exists)
		close(fd);
	if (f->pages) {
		check_pages(f, (uint64_t)st.st_size);
		return;
	}
	for (unsigned i = 0; i < f->n; i++)
		if (is_state(&f->may[i], exists, (uint64_t)st.st_size))
			return;
	explain(f, exists, (uint64_t)st.st_size);
}

/* A name that nobody made. */
static void check_names(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (!d)
		die("%s", path);
	while ((e = readdir(d))) {
		const struct file *f = files;

		if (e->d_name[0] == '.')
			continue;
		while (f && strcmp(f->name, e->d_name) != 0)
			f = f->next;
		if (!f) {
			printf("broken promise: '%s' was never made\n", e->d_name);
			broken++;
		}
	}
	closedir(d);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = { { "power", 0, NULL, 'p' }, { NULL, 0, NULL, 0 } };
	int dir, c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c != 'p')
			return 64;
		power = true;
	}
	if (argc - optind != 2) {
		fprintf(stderr, "usage: crashcheck [--power] DIR LOG\n");
		return 64;
	}
	got = xalloc(LARGEST);
	want = xalloc(LARGEST);
	dir = open(argv[optind], O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		die("%s", argv[optind]);
	read_log(argv[optind + 1]);
	for (const struct file *f = files; f; f = f->next)
		check(dir, f);
	check_names(argv[optind]);
	printf("crashcheck: %llu files, %llu promises, %d broken\n", (unsigned long long)checked,
	       (unsigned long long)promises, broken);
	return broken != 0;
}
