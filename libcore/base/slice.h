/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slice.h: the shapes that metadata and data exchange about a file's content. They know each other only through these.
 */
#ifndef KS_BASE_SLICE_H
#define KS_BASE_SLICE_H

#include "base/def.h"

/* One piece of a chunk's map, after overlaps were resolved: sorted, disjoint, holes left out. */
struct ks_extent {
	uint32_t pos; /* within the chunk */
	uint32_t len;
	uint64_t slice;
	uint32_t off; /* within the slice */
	uint32_t slice_len;
	uint32_t block_size;
	uint64_t pack; /* 0: blocks of its own */
	uint64_t pack_off;
	uint32_t *sums; /* packed: CRC-32C of each page, in the map's own memory; else NULL */
};

struct ks_chunk_map {
	uint64_t change; /* of the inode when it was read */
	uint32_t n;
	uint32_t layers;     /* extents in the database before resolving, for compaction */
	struct ks_extent *e; /* malloc'ed with the map */
};

/**
 * ks_chunk_map_build() - resolve overlapping pieces: a later one lies over an earlier one
 * @layers: in commit order; slice 0 is a hole that hides what lies below; sums may be NULL or are copied (one per page of the slice)
 *
 * Cost: O(n log n). Return: 0 and a map that ks_chunk_map_free() frees; -ENOMEM; -EBADMSG a piece leaves the chunk.
 */
int ks_chunk_map_build(const struct ks_extent *layers, size_t n,
		       struct ks_chunk_map **out) KS_MUST_CHECK;
void ks_chunk_map_free(struct ks_chunk_map *map); /* NULL is fine */
void ks_chunk_map_freep(struct ks_chunk_map **map);
/* The first piece that ends after @pos, or map->n. */
uint32_t ks_chunk_map_find(const struct ks_chunk_map *map, uint32_t pos);

/* Page checksums of one block of an unpacked slice: n = pages of the block. -ENOENT: no such block (damage). */
struct ks_block_index {
	uint32_t size;
	uint32_t npages;
	uint32_t sums[KS_BLOCK_MAX / KS_PAGE_SIZE];
};

/* A range of a chunk that was copied, and where in the copy it is. */
struct ks_copied {
	uint32_t pos, len;
	uint32_t s;   /* which of the new slices */
	uint32_t off; /* within that */
};

/* A slice that was written and now becomes visible. */
struct ks_commit_slice {
	uint64_t chunk;
	uint32_t pos;
	uint32_t len;
	uint64_t slice;
	uint32_t block_size;
	uint64_t pack, pack_off;
	const uint32_t *sums; /* one per page of the slice, over all its blocks; borrowed */
};

static inline uint32_t ks_pages_of(uint64_t bytes)
{
	return (uint32_t)((bytes + KS_PAGE_SIZE - 1) / KS_PAGE_SIZE);
}

static inline uint32_t ks_blocks_of(uint64_t bytes, uint32_t block_size)
{
	return (uint32_t)((bytes + block_size - 1) / block_size);
}

#endif
