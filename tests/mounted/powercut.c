/* SPDX-License-Identifier: Apache-2.0 */
/*
 * powercut BASE LOG IMAGE: makes in the directory IMAGE what the disk could hold had the power failed while powerfs made LOG; BASE is
 * what its directory held before. The same seed makes the same image.
 *
 *	--seed N           which one (default 1)
 *	--cut N            after so many records (default: at random)
 *	--promises LOG     the log of crashwriter: the cut falls behind its first line, two of five right behind a promise
 *	--model strict     a name is durable by fsync of its directory only; of the other changes of a directory some first part is there
 *	--model journal    fsync of anything makes all earlier changes of names durable; of the others some first part is there, in the
 *	                   order in which they were made (default: the one or the other, by the seed)
 *	--sector BYTES     what the disk writes at once (default 4096)
 *
 * What was durable is there. Of the rest, one file has nothing, another all, a third what it was at some moment; and others have in each sector
 * anything it held since the last fsync, and any of their sizes since. That is more than most file systems do, and nothing that POSIX forbids.
 * The last line is "cut NUMBER of RECORDS STAMP", for crashcheck --until STAMP.
 */
#include "powerlog.h"
#include <fcntl.h>
#include <getopt.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { LARGEST = 1 << 30, PIECE = 64 << 10, BUCKETS = 1 << 12 };

struct file {
	uint32_t mode;
	const struct power_rec *base; /* of a file that was there before */
	const struct power_rec **ops; /* change its content */
	size_t n, room;
	size_t synced;       /* records up to here are durable */
	size_t synced_ops;   /* of @ops */
	size_t kept;         /* of a directory: records up to here are there */
	char *placed;        /* in the image */
	struct entry *first; /* of a directory */
};

struct entry {
	struct entry *next;
	uint64_t ino;
	size_t n;
	const char *name;
};

static struct file *files;
static size_t nfiles;
static const struct power_rec **recs;
static size_t nrecs, cut;
static struct rng dice;
static size_t sector = 4096;
static int base_fd, image_fd;

static struct file *file_of(uint64_t id)
{
	if (id >= nfiles) {
		size_t more = MAX(id + 1, 2 * nfiles);

		files = realloc(files, more * sizeof(*files));
		if (!files)
			die("out of memory");
		memset(files + nfiles, 0, (more - nfiles) * sizeof(*files));
		nfiles = more;
	}
	return &files[id];
}

static const char *bytes_of(const struct power_rec *r)
{
	return (const char *)(r + 1);
}

/* Nothing, all, or some part of @n: what is rare when every part is as likely. */
static size_t some_of(size_t n)
{
	switch (below(&dice, 3)) {
	case 0:
		return 0;
	case 1:
		return n;
	default:
		return below(&dice, n + 1);
	}
}

/* ---- the logs ---- */

static void read_log(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	const char *p;
	size_t room = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		die("%s", path);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		die("%s", path);
	for (const char *end = p + st.st_size; p < end;) {
		const struct power_rec *r = (const void *)p;

		if (nrecs == room) {
			room = room ? 2 * room : 4096;
			recs = realloc(recs, room * sizeof(struct power_rec *));
			if (!recs)
				die("out of memory");
		}
		if ((size_t)(end - p) < sizeof(*r) + power_filled(r->n))
			die("the end of %s", path);
		recs[nrecs++] = r;
		p += sizeof(*r) + power_filled(r->n);
	}
	close(fd);
}

/* How many records are older than @stamp. */
static size_t records_before(int64_t stamp)
{
	size_t n = 0;

	while (n < nrecs && recs[n]->stamp_ns < stamp)
		n++;
	return n;
}

static size_t choose_cut(const char *promises)
{
	FILE *in = promises ? fopen(promises, "re") : NULL;
	int64_t first = nrecs ? recs[0]->stamp_ns : 0, end = nrecs ? recs[nrecs - 1]->stamp_ns : 0;
	int64_t chosen = -1;
	uint64_t how = below(&dice, 5), n = 0;
	char line[256], kind;
	long long stamp;
	size_t from;

	if (promises && !in)
		die("%s", promises);
	for (bool any = false; in && fgets(line, sizeof(line), in); any = true) {
		if (sscanf(line, "%c %*s %*s %*s %*s %lld", &kind, &stamp) != 2)
			continue;
		if (!any)
			first = stamp;
		/* Each is chosen with probability 1/n. */
		if (strchr("FPY", kind) && one_in(&dice, ++n))
			chosen = stamp;
	}
	if (in)
		fclose(in);
	if (chosen >= 0 && how < 2)
		return records_before(chosen);
	if (how < 4) /* where nothing happens for long as well */
		return records_before(first + (int64_t)below(&dice, (uint64_t)(end - first + 1)));
	from = records_before(first);
	return from + below(&dice, nrecs - from + 1);
}

static void add_op(const struct power_rec *r)
{
	struct file *f = file_of(r->ino);

	if (f->n == f->room) {
		f->room = f->room ? 2 * f->room : 16;
		f->ops = realloc(f->ops, f->room * sizeof(struct power_rec *));
		if (!f->ops)
			die("out of memory");
	}
	f->ops[f->n++] = r;
}

static void sync_all(size_t covered)
{
	for (size_t i = 0; i < nfiles; i++)
		files[i].synced = MAX(files[i].synced, covered);
}

/* What each file went through, up to the cut. */
static void replay(void)
{
	file_of(POWER_ROOT)->mode = S_IFDIR | 0755;
	for (size_t i = 0; i < cut; i++) {
		const struct power_rec *r = recs[i];

		switch (r->op) {
		case POWER_BASE:
			file_of(r->ino)->base = r;
			file_of(r->ino)->mode = (uint32_t)r->a;
			break;
		case POWER_CREATE:
			file_of(r->ino)->mode = (uint32_t)r->b;
			break;
		case POWER_WRITE:
		case POWER_SIZE:
		case POWER_ZERO:
			add_op(r);
			break;
		case POWER_MODE:
			file_of(r->ino)->mode = (file_of(r->ino)->mode & S_IFMT) | (uint32_t)r->a;
			break;
		case POWER_SYNC:
			file_of(r->ino)->synced = MAX(file_of(r->ino)->synced, r->a);
			break;
		case POWER_SYNC_ALL:
			sync_all(r->a);
			break;
		}
	}
	for (size_t i = 0, *n; i < cut; i++) {
		const struct power_rec *r = recs[i];

		if (r->op != POWER_WRITE && r->op != POWER_SIZE && r->op != POWER_ZERO)
			continue;
		n = &file_of(r->ino)->synced_ops;
		*n += i < file_of(r->ino)->synced;
	}
}

/* ---- names ---- */

/* The directories that a record changes: up to two; 0 for none. */
static void dirs_of(const struct power_rec *r, uint64_t d[2])
{
	d[0] = d[1] = 0;
	if (r->op == POWER_CREATE || r->op == POWER_LINK || r->op == POWER_UNLINK)
		d[0] = d[1] = r->a;
	if (r->op == POWER_RENAME) {
		d[0] = r->a;
		d[1] = r->b;
	}
}

/* A rename is in both directories or in none; what one has the other must have, with all before it. */
static void keep_renames_whole(void)
{
	for (bool again = true; again;) {
		again = false;
		for (size_t i = 0; i < cut; i++) {
			uint64_t d[2];

			dirs_of(recs[i], d);
			if (d[0] == d[1] || (i < files[d[0]].kept) == (i < files[d[1]].kept))
				continue;
			for (int k = 0; k < 2; k++)
				files[d[k]].kept = MAX(files[d[k]].kept, i + 1);
			again = true;
		}
	}
}

static void keep_strict(void)
{
	size_t *changes = xalloc(nfiles * sizeof(*changes)), *left = xalloc(nfiles * sizeof(*left));

	for (size_t i = 0; i < nfiles; i++)
		files[i].kept = files[i].synced;
	for (size_t i = 0; i < cut; i++) {
		uint64_t d[2];

		dirs_of(recs[i], d);
		for (int k = 0; k < 1 + (d[0] != d[1]); k++)
			changes[d[k]] += i >= files[d[k]].kept;
	}
	for (size_t i = 0; i < nfiles; i++)
		left[i] = some_of(changes[i]);
	for (size_t i = 0; i < cut; i++) {
		uint64_t d[2];

		dirs_of(recs[i], d);
		for (int k = 0; k < 2; k++) {
			if (d[k] && i >= files[d[k]].kept && left[d[k]]) {
				left[d[k]]--;
				files[d[k]].kept = i + 1;
			}
		}
	}
	free(changes);
	free(left);
	keep_renames_whole();
}

static void keep_journal(void)
{
	size_t durable = 0;

	for (size_t i = 0; i < nfiles; i++)
		durable = MAX(durable, files[i].synced);
	durable += some_of(cut - durable);
	for (size_t i = 0; i < nfiles; i++)
		files[i].kept = durable;
}

static struct entry **find(uint64_t dir, const char *name, size_t n)
{
	struct entry **pp = &file_of(dir)->first;

	while (*pp && ((*pp)->n != n || memcmp((*pp)->name, name, n) != 0))
		pp = &(*pp)->next;
	return pp;
}

static uint64_t name_take(uint64_t dir, const char *name, size_t n)
{
	struct entry **pp = find(dir, name, n), *e = *pp;
	uint64_t ino;

	if (!e)
		die("record of '%.*s', which is not there", (int)n, name);
	ino = e->ino;
	*pp = e->next;
	free(e);
	return ino;
}

static void name_put(uint64_t dir, const char *name, size_t n, uint64_t ino)
{
	struct entry **pp = find(dir, name, n);

	if (!*pp) {
		*pp = xalloc(sizeof(**pp));
		**pp = (struct entry){ NULL, 0, n, name };
	}
	(*pp)->ino = ino;
}

static void rename_rec(const struct power_rec *r)
{
	const char *old = bytes_of(r), *new = old + strlen(old) + 1;
	size_t nold = strlen(old), nnew = r->n - nold - 1;
	struct entry *there = *find(r->b, new, nnew);
	uint64_t ino;

	if (there && there->ino == (*find(r->a, old, nold))->ino)
		return; /* two names of one file stay */
	ino = name_take(r->a, old, nold);
	if (r->ino & RENAME_EXCHANGE)
		name_put(r->a, old, nold, name_take(r->b, new, nnew));
	name_put(r->b, new, nnew, ino);
}

/* A path below the root, of what was there before. */
static void base_rec(const struct power_rec *r)
{
	const char *p = bytes_of(r), *end = p + r->n, *slash;
	uint64_t dir = POWER_ROOT;

	while ((slash = memchr(p, '/', (size_t)(end - p)))) {
		dir = (*find(dir, p, (size_t)(slash - p)))->ino;
		p = slash + 1;
	}
	name_put(dir, p, (size_t)(end - p), r->ino);
}

static void replay_names(void)
{
	for (size_t i = 0; i < cut; i++) {
		const struct power_rec *r = recs[i];
		uint64_t d[2];

		dirs_of(r, d);
		if (r->op == POWER_BASE)
			base_rec(r);
		if (!d[0] || i >= files[d[0]].kept)
			continue;
		if (r->op == POWER_CREATE || r->op == POWER_LINK)
			name_put(r->a, bytes_of(r), r->n, r->ino);
		else if (r->op == POWER_UNLINK)
			name_take(r->a, bytes_of(r), r->n);
		else
			rename_rec(r);
	}
}

/* ---- content ---- */

/* The bytes that a record changes, in a file of @size bytes. */
static void range_of(const struct power_rec *r, uint64_t size, uint64_t *from, uint64_t *to)
{
	*from = r->a;
	if (r->op == POWER_WRITE)
		*to = r->a + r->n;
	else /* what lies behind the end is zero already */
		*to = r->op == POWER_ZERO ? MIN(r->a + r->b, size) : size;
}

/* Does to buf what @r did, between two offsets. */
static void apply(char *buf, const struct power_rec *r, uint64_t size, uint64_t lo, uint64_t hi)
{
	uint64_t from, to;

	range_of(r, size, &from, &to);
	lo = MAX(lo, from);
	hi = MIN(hi, to);
	if (lo >= hi)
		return;
	if (r->op == POWER_WRITE)
		memcpy(buf + lo, bytes_of(r) + (lo - from), hi - lo);
	else
		memset(buf + lo, 0, hi - lo);
}

static uint64_t size_after(const struct power_rec *r, uint64_t size)
{
	if (r->op == POWER_WRITE)
		return MAX(size, r->a + r->n);
	return r->op == POWER_SIZE ? r->a : size;
}

/* Each sector goes through some of the changes from ops[k] on. */
static void apply_mixed(char *buf, const struct file *f, size_t k, uint64_t room, uint64_t size)
{
	size_t n = room / sector + 1;
	uint32_t *left = xalloc(n * sizeof(*left));
	uint64_t start = size;

	for (int pass = 0; pass < 2; pass++) {
		size = start;
		for (size_t i = k; i < f->n; i++) {
			const struct power_rec *r = f->ops[i];
			uint64_t from, to;

			range_of(r, size, &from, &to);
			for (uint64_t s = from / sector; s * sector < to; s++) {
				if (pass == 0) {
					left[s]++;
				} else if (left[s]) {
					left[s]--;
					apply(buf, r, size, s * sector, (s + 1) * sector);
				}
			}
			size = size_after(r, size);
		}
		for (size_t s = 0; pass == 0 && s < n; s++)
			left[s] = (uint32_t)below(&dice, left[s] + 1);
	}
	free(left);
}

static uint64_t load_base(const struct file *f, char **buf, uint64_t room)
{
	struct stat st = { 0 };
	int fd = -1;

	if (f->base) {
		fd = openat(base_fd, bytes_of(f->base), O_RDONLY | O_CLOEXEC);
		if (fd < 0 || fstat(fd, &st) < 0)
			die("%s in BASE", bytes_of(f->base));
	}
	room = MAX(room, (uint64_t)st.st_size);
	if (room > LARGEST)
		die("a file of %llu bytes", (unsigned long long)room);
	*buf = mmap(NULL, room + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (*buf == MAP_FAILED)
		die("out of memory");
	if (fd >= 0 && (pread_all(fd, *buf, (size_t)st.st_size, 0) < 0 || close(fd) < 0))
		die("%s in BASE", bytes_of(f->base));
	return (uint64_t)st.st_size;
}

/* The file's content after the power failed; its size. */
static uint64_t content(const struct file *f, char *buf, uint64_t size, uint64_t room)
{
	bool mixed = f->n > f->synced_ops && one_in(&dice, 2);
	size_t end = mixed ? f->synced_ops : f->synced_ops + some_of(f->n - f->synced_ops), pick;

	for (size_t i = 0; i < end; i++) {
		apply(buf, f->ops[i], size, 0, room);
		size = size_after(f->ops[i], size);
	}
	if (!mixed)
		return size;
	apply_mixed(buf, f, end, room, size);
	pick = end + below(&dice, f->n - end + 1);
	for (size_t i = end; i < pick; i++)
		size = size_after(f->ops[i], size);
	return size;
}

static bool is_zero(const char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void place_file(struct file *f, const char *path)
{
	int fd = openat(image_fd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	uint64_t room = 0, size;
	char *buf;

	if (fd < 0)
		die("%s in IMAGE", path);
	for (size_t i = 0; i < f->n; i++)
		room = MAX(room, f->ops[i]->a + (f->ops[i]->op == POWER_WRITE ? f->ops[i]->n : 0));
	size = load_base(f, &buf, room);
	room = MAX(room, size);
	size = content(f, buf, size, room);
	for (uint64_t off = 0; off < size; off += PIECE) {
		size_t n = MIN(PIECE, size - off);

		if (!is_zero(buf + off, n) && pwrite_all(fd, buf + off, n, (off_t)off) < 0)
			die("%s in IMAGE", path);
	}
	if (ftruncate(fd, (off_t)size) < 0 || fchmod(fd, f->mode & 07777) < 0 || close(fd) < 0)
		die("%s in IMAGE", path);
	munmap(buf, room + 1);
}

static void place(uint64_t id, const char *path)
{
	struct file *f = &files[id];

	if (S_ISDIR(f->mode)) {
		if (id != POWER_ROOT && mkdirat(image_fd, path, f->mode & 07777) < 0)
			die("%s in IMAGE", path);
		for (struct entry *e = f->first; e; e = e->next) {
			char sub[4096];

			snprintf(sub, sizeof(sub), "%s%s%.*s", id == POWER_ROOT ? "" : path,
				 id == POWER_ROOT ? "" : "/", (int)e->n, e->name);
			place(e->ino, sub);
		}
		return;
	}
	if (f->placed) {
		if (linkat(image_fd, f->placed, image_fd, path, 0) < 0)
			die("%s in IMAGE", path);
		return;
	}
	if (S_ISREG(f->mode))
		place_file(f, path);
	else if (mknodat(image_fd, path, f->mode, 0) < 0)
		die("%s in IMAGE", path);
	f->placed = strdup(path);
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "seed", 1, NULL, 's' },  { "cut", 1, NULL, 'c' },    { "promises", 1, NULL, 'p' },
		{ "model", 1, NULL, 'm' }, { "sector", 1, NULL, 'b' }, { NULL, 0, NULL, 0 }
	};
	const char *model = NULL, *promises = NULL;
	uint64_t seed = 1, at = UINT64_MAX;
	int c;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		if (c == 's')
			seed = number(optarg);
		else if (c == 'c')
			at = number(optarg);
		else if (c == 'p')
			promises = optarg;
		else if (c == 'm' &&
			 (strcmp(optarg, "strict") == 0 || strcmp(optarg, "journal") == 0))
			model = optarg;
		else if (c == 'b')
			sector = MAX(number(optarg), 1);
		else
			return 64;
	}
	if (argc - optind != 3) {
		fprintf(stderr, "usage: powercut [--seed N] [--cut N] [--promises LOG] [--model "
				"strict|journal] [--sector BYTES] BASE LOG IMAGE\n");
		return 64;
	}
	dice.s = mix(seed);
	base_fd = open(argv[optind], O_RDONLY | O_DIRECTORY);
	image_fd = open(argv[optind + 2], O_RDONLY | O_DIRECTORY);
	if (base_fd < 0 || image_fd < 0)
		die("%s or %s", argv[optind], argv[optind + 2]);
	umask(0);
	read_log(argv[optind + 1]);
	cut = choose_cut(promises);
	cut = at == UINT64_MAX ? cut : MIN(at, nrecs);
	while (cut < nrecs && recs[cut]->op == POWER_BASE) /* they are no changes */
		cut++;
	if (!model)
		model = one_in(&dice, 2) ? "strict" : "journal";
	replay();
	if (*model == 's')
		keep_strict();
	else
		keep_journal();
	replay_names();
	place(POWER_ROOT, "");
	printf("powercut: seed %llu, %s\n", (unsigned long long)seed, model);
	printf("cut %zu of %zu %lld\n", cut, nrecs,
	       cut < nrecs ? (long long)recs[cut]->stamp_ns - 1 : INT64_MAX);
	return 0;
}
