/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crashcheck DIR LOG: after a crash, is everything still there that was promised? (see crashlog.h)
 *
 *	--power         the power failed: what was only closed, renamed or removed without a sync is not promised
 *	--until STAMP   and it did so then: what the log says later never happened
 *	--lenient       EIO is no finding where nothing was promised
 *
 * Exit status: 0 every promise holds, 1 one is broken (all are printed), 2 could not run.
 */
#include "crashlog.h"
#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

enum { LARGEST = 64 * MIB };

/* Any size from min to len; the first @solid bytes are of the content @seed, the others too, or zero. */
struct state {
	bool absent;
	uint64_t seed, min, solid, len;
};

/* What a page can be: the generation that was promised, or one that was begun after it. */
struct page {
	uint64_t *may;
	size_t n;
};

struct file {
	char name[CRASH_NAME];
	struct state *may; /* one of these is what it is */
	size_t n, room;
	size_t named; /* the older ones go with the next sync */
	struct page *pages;
	struct file *next;
};

static struct file *files;
static bool power, lenient;
static int64_t until = INT64_MAX;
static int broken;
static uint64_t checked, promises, damaged;
static uint8_t *got, *want;
static bool unreadable[LARGEST / CRASH_PAGE + 1]; /* pages of got */

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

static void may_be(struct file *f, struct state s)
{
	if (f->n == f->room) {
		f->room = f->room ? 2 * f->room : 8;
		f->may = realloc(f->may, f->room * sizeof(s));
		if (!f->may)
			die("out of memory");
	}
	f->may[f->n++] = s;
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
	may_be(f, (struct state){ .absent = true });
	f->next = files;
	files = f;
	return f;
}

static void forget_older(struct file *f, size_t n)
{
	memmove(f->may, f->may + n, (f->n - n) * sizeof(*f->may));
	f->n -= n;
	f->named -= MIN(f->named, n);
}

static void must_be(struct file *f, struct state s, bool weak)
{
	may_be(f, s);
	if (!(weak && power))
		forget_older(f, f->n - 1);
	promises++;
}

/* The metadata of the process that has made @name is durable up to here. */
static void names_are_durable(const char *name)
{
	size_t n = strcspn(name, "-") + 1;

	for (struct file *f = files; f; f = f->next)
		if (strncmp(f->name, name, n) == 0)
			forget_older(f, f->named);
}

static struct page *page_of(struct file *f, uint64_t page)
{
	if (!f->pages) {
		f->pages = xalloc(CRASH_PAGES * sizeof(*f->pages));
		for (int i = 0; i < CRASH_PAGES; i++) {
			f->pages[i].may = xalloc(sizeof(uint64_t));
			f->pages[i].n = 1;
		}
	}
	return &f->pages[page % CRASH_PAGES];
}

static void page_may_be(struct page *p, uint64_t generation)
{
	p->may = realloc(p->may, (p->n + 1) * sizeof(*p->may));
	if (!p->may)
		die("out of memory");
	p->may[p->n++] = generation;
}

static void replay(char kind, struct file *f, uint64_t seed, uint64_t len, uint64_t solid)
{
	struct state content = { .seed = seed, .min = len, .solid = len, .len = len };

	if (power)
		content.min = content.solid = solid;
	switch (kind) {
	case 'N': /* O_TRUNC on what was there: empty comes first */
		content.min = content.solid = 0;
		may_be(f, content);
		break;
	case 'B':
		may_be(f, content);
		break;
	case 'A':
		if (!power)
			content.min = f->may[f->n - 1].len;
		may_be(f, content);
		break;
	case 'F':
	case 'C':
	case 'R':
		must_be(f, content, kind != 'F');
		f->named = f->n - 1;
		break;
	case 'G':
		may_be(f, (struct state){ .absent = true });
		break;
	case 'X':
		must_be(f, (struct state){ .absent = true }, true);
		f->named = f->n - 1;
		break;
	case 'W':
		page_may_be(page_of(f, len), seed);
		break;
	case 'P':
		page_of(f, len)->may[0] = seed;
		page_of(f, len)->n = 1;
		promises++;
		break;
	case 'Y':
		break;
	default:
		die("a line of kind '%c'", kind);
	}
	if (strchr("FPY", kind))
		names_are_durable(f->name);
}

static void read_log(const char *path)
{
	FILE *in = fopen(path, "r");
	char line[256];

	if (!in)
		die("%s", path);
	while (fgets(line, sizeof(line), in)) {
		char kind, name[CRASH_NAME];
		unsigned long long seed, len, solid;
		long long stamp;

		if (!strchr(line, '\n'))
			break; /* torn */
		if (sscanf(line, "%c %63s %llu %llu %llu %lld", &kind, name, &seed, &len, &solid,
			   &stamp) != 6)
			die("bad line: %s", line);
		if (stamp <= until)
			replay(kind, file_of(name), seed, len, solid);
	}
	fclose(in);
}

/* Where a content of @size bytes departs from @s; @size: nowhere. Wants the pattern in want. */
static uint64_t departs(const struct state *s, uint64_t size)
{
	for (uint64_t i = 0; i < size; i++) {
		/* The kernel reads whole pages: what is bad in one takes the rest along. */
		if (unreadable[i / CRASH_PAGE]) {
			if ((i / CRASH_PAGE + 1) * CRASH_PAGE <= s->solid)
				return i;
		} else if (got[i] != want[i] && (got[i] || i < s->solid)) {
			return i;
		}
	}
	return size;
}

static bool is_state(const struct state *s, bool exists, uint64_t size)
{
	if (s->absent || !exists)
		return s->absent && !exists;
	if (size > s->len || size < s->min)
		return false;
	pattern(want, size, s->seed, 0);
	return departs(s, size) == size;
}

static void explain(const struct file *f, bool exists, uint64_t size)
{
	const struct state *last = &f->may[f->n - 1];
	char text[1500];
	int n = 0;

	for (size_t i = f->n > 12 ? f->n - 12 : 0; i < f->n; i++) {
		const struct state *s = &f->may[i];

		if (s->absent)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " [absent]");
		else
			n += snprintf(text + n, sizeof(text) - (size_t)n,
				      " [%llu to %llu bytes of %llu, %llu of them whole]",
				      (unsigned long long)s->min, (unsigned long long)s->len,
				      (unsigned long long)s->seed, (unsigned long long)s->solid);
	}
	if (exists && last->len >= size && !last->absent) {
		uint64_t at, zeros = 0, bad = 0;

		pattern(want, size, last->seed, 0);
		at = departs(last, size);
		for (uint64_t i = at; i < size; i++) {
			zeros += got[i] == 0;
			bad += unreadable[i / CRASH_PAGE];
		}
		wrong(f,
		      "%llu bytes, unlike the last state from byte %llu on (%llu zeros there, %llu "
		      "unreadable); may be:%s",
		      (unsigned long long)size, (unsigned long long)at, (unsigned long long)zeros,
		      (unsigned long long)bad, text);
		return;
	}
	if (exists)
		wrong(f, "%llu bytes; may be:%s", (unsigned long long)size, text);
	else
		wrong(f, "is not there; may be:%s", text);
}

static bool is_page(const struct page *p, uint64_t no, const uint8_t *is)
{
	uint8_t page[CRASH_PAGE];

	for (size_t i = 0; i < p->n; i++) {
		crash_page(page, no, p->may[i]);
		if (memcmp(page, is, CRASH_PAGE) == 0)
			return true;
	}
	return false;
}

static void check_pages(const struct file *f, uint64_t size)
{
	for (uint64_t p = 0; p < CRASH_PAGES; p++) {
		const struct page *page = &f->pages[p];
		char text[500];
		int n = 0;

		memset(want, 0, CRASH_PAGE);
		if (p * CRASH_PAGE < size)
			memcpy(want, got + p * CRASH_PAGE, MIN(CRASH_PAGE, size - p * CRASH_PAGE));
		if (unreadable[p] ? page->n > 1 : is_page(page, p, want))
			continue;
		for (size_t i = 0; i < page->n && n < (int)sizeof(text) - 30; i++)
			n += snprintf(text + n, sizeof(text) - (size_t)n, " %llu",
				      (unsigned long long)page->may[i]);
		wrong(f, "page %llu %s, and is none of the generations%s (the first was promised)",
		      (unsigned long long)p,
		      unreadable[p] ? "cannot be read"
		      : want[0] == 0 && !memcmp(want, want + 1, CRASH_PAGE - 1)
			      ? "is zeros"
			      : "is something else",
		      text);
	}
}

/* Into got; where only a part cannot be read, that is zero and marked. */
static bool read_all(const struct file *f, int fd, uint64_t size)
{
	memset(unreadable, 0, sizeof(unreadable));
	if (pread_all(fd, got, size, 0) == 0)
		return true;
	if (errno != EIO || !power || !lenient) {
		wrong(f, "%llu bytes cannot be read: %s", (unsigned long long)size,
		      strerror(errno));
		return false;
	}
	damaged++;
	for (uint64_t off = 0; off < size; off += CRASH_PAGE) {
		size_t n = MIN(CRASH_PAGE, size - off);

		if (pread_all(fd, got + off, n, (off_t)off) < 0) {
			unreadable[off / CRASH_PAGE] = true;
			memset(got + off, 0, n);
		}
	}
	return true;
}

static void check(int dir, const struct file *f)
{
	int fd = openat(dir, f->name, O_RDONLY);
	struct stat st = { 0 };
	bool exists = fd >= 0, ok = true;

	checked++;
	if (fd < 0 && errno != ENOENT) {
		wrong(f, "cannot be opened: %s", strerror(errno));
		return;
	}
	if (exists && (fstat(fd, &st) < 0 || st.st_size > LARGEST)) {
		wrong(f, "%lld bytes", (long long)st.st_size);
		ok = false;
	}
	ok = ok && (!exists || read_all(f, fd, (uint64_t)st.st_size));
	if (exists)
		close(fd);
	if (!ok)
		return;
	if (f->pages) {
		check_pages(f, (uint64_t)st.st_size);
		return;
	}
	for (size_t i = f->n; i-- > 0;)
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
	static const struct option longs[] = { { "power", 0, NULL, 'p' },
					       { "until", 1, NULL, 'u' },
					       { "lenient", 0, NULL, 'l' },
					       { NULL, 0, NULL, 0 } };
	int dir, c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 'p')
			power = true;
		else if (c == 'u')
			until = (int64_t)number(optarg);
		else if (c == 'l')
			lenient = true;
		else
			return 64;
	}
	if (argc - optind != 2) {
		fprintf(stderr,
			"usage: crashcheck [--power] [--until STAMP] [--lenient] DIR LOG\n");
		return 64;
	}
	got = xalloc(LARGEST);
	want = xalloc(LARGEST);
	dir = open(argv[optind], O_RDONLY | O_DIRECTORY);
	if (dir < 0)
		die("%s", argv[optind]);
	read_log(argv[optind + 1]);
	for (const struct file *f = files; f; f = f->next)
		if (f->name[strlen(f->name) - 1] != '-') /* a process's name alone is no file */
			check(dir, f);
	check_names(argv[optind]);
	printf("crashcheck: %llu files, %llu promises, %d broken", (unsigned long long)checked,
	       (unsigned long long)promises, broken);
	printf(damaged ? ", %llu damaged\n" : "\n", (unsigned long long)damaged);
	return broken != 0;
}
