/* SPDX-License-Identifier: Apache-2.0 */
/*
 * randwrite [OPTIONS] FILE: a file that was written in many small pieces.
 *
 *	--mib N     filled in order first, so long (default 40); 0: left as it is
 *	--count N   then so many pieces at random (default 10000), of --piece SIZE bytes (default 4096), each at a multiple of SIZE
 *	--seed N    the same seed writes the same bytes (default 1)
 *	--span N    the pieces lie in the first N MiB (default: --mib)
 *
 * With fsync at the end. Run on two file systems it makes the same file on both.
 */
#include "util.h"
#include <fcntl.h>
#include <getopt.h>

static void fill(struct rng *r, unsigned char *p, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = rnd(r);

		memcpy(p + i, &v, MIN(n - i, sizeof(v)));
	}
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "mib", 1, NULL, 'm' },  { "count", 1, NULL, 'c' }, { "piece", 1, NULL, 'p' },
		{ "seed", 1, NULL, 's' }, { "span", 1, NULL, 'n' },  { 0 },
	};
	uint64_t mib = 40, count = 10000, piece = 4096, seed = 1, span = 0;
	unsigned char *buf;
	struct rng r;
	int c, fd;

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		uint64_t *to = c == 'm'   ? &mib
			       : c == 'c' ? &count
			       : c == 'p' ? &piece
			       : c == 's' ? &seed
			       : c == 'n' ? &span
					  : NULL;

		if (!to)
			return 2;
		*to = strtoull(optarg, NULL, 10);
	}
	span = (span ? span : mib) * MIB;
	if (argc - optind != 1 || piece == 0 || piece > MIB || span < piece)
		return 2;
	fd = open(argv[optind], O_RDWR | O_CREAT, 0644);
	buf = malloc(MIB);
	if (fd < 0 || !buf)
		die("open %s", argv[optind]);
	r.s = seed;
	for (uint64_t i = 0; i < mib; i++) {
		fill(&r, buf, MIB);
		if (pwrite_all(fd, buf, MIB, (off_t)(i * MIB)) < 0)
			die("write %s", argv[optind]);
	}
	for (uint64_t i = 0; i < count; i++) {
		fill(&r, buf, piece);
		if (pwrite_all(fd, buf, piece, (off_t)(below(&r, span / piece) * piece)) < 0)
			die("write %s", argv[optind]);
	}
	if (fsync(fd) < 0 || close(fd) < 0)
		die("sync %s", argv[optind]);
	free(buf);
	return 0;
}
