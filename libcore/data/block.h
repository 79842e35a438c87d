/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h: how a block lies in its object (doc/format.md, "Block objects").
 *
 *	pages     the data; page i at i * 64 KiB; the last may be short
 *	padding   zeros, so that the object's size is a multiple of 4096
 *	index     per page: CRC-32C and stored length, little endian
 *	trailer   fixed size, at the very end: magic, version, codec, slice, block number, data size, page count, CRC-32C of index and trailer
 *
 * So a page can be read with one aligned read when its checksum is known from the metadata, and fsck and rescue need no metadata at all.
 */
#ifndef KS_DATA_BLOCK_H
#define KS_DATA_BLOCK_H

#include "base/slice.h"

struct ks_object;

#define KS_BLOCK_TRAILER_SIZE 48u
#define KS_BLOCK_INDEX_ENTRY 8u

struct ks_block_head { /* what a trailer says */
	uint64_t slice;
	uint32_t idx;
	uint32_t size;
	uint32_t npages;
};

/* The checksums of @n bytes, page by page. */
void ks_pages_sum(const void *p, uint32_t n, uint32_t *sums);
/* The first page whose checksum is another one; ks_pages_of(n): none. */
uint32_t ks_pages_unlike(const void *p, uint32_t n, const uint32_t *sums);

/* Bytes of the whole object of a block with @size bytes of data. */
uint64_t ks_block_object_size(uint32_t size);
/* Bytes behind the last whole 4096 of data: rest of data is copied first by the caller. Room needed for ks_block_seal(). */
#define KS_BLOCK_TAIL_MAX                                                                          \
	(4096u + KS_BLOCK_TRAILER_SIZE + (KS_BLOCK_MAX / KS_PAGE_SIZE) * KS_BLOCK_INDEX_ENTRY +    \
	 4096u)

/**
 * ks_block_seal() - build what follows the data in the object
 * @tail: on entry its first @have bytes are the data behind the last multiple of 4096; KS_BLOCK_TAIL_MAX bytes of room
 * Return: bytes of @tail to write.
 */
uint32_t ks_block_seal(uint8_t *tail, uint32_t have, const struct ks_block_head *h,
		       const uint32_t *sums);

/* Puts a whole block whose data lies in one piece, page aligned. @sums: out, of its pages. Errors as ks_object_put(). */
int ks_block_put(struct ks_object *store, uint64_t slice, uint32_t idx, uint8_t *p, uint32_t size,
		 uint32_t *sums) KS_MUST_CHECK;

/* Reads index and trailer from the last bytes of an object: for fsck, rescue. -EBADMSG what is wrong stands in the raised text. */
int ks_block_open_tail(const uint8_t *tail, uint32_t n, struct ks_block_head *h, uint32_t *sums,
		       uint32_t max_pages) KS_MUST_CHECK;

/*
 * A pack is a log of records: a header of 64 bytes, the data, zeros up to the next multiple of 8. Data is not aligned further:
 * small files then take no more room than they have bytes, and a pack is read through the kernel's page cache. The
 * header says all that is needed to find the slice's place in its file again, and the checksum of every page.
 */
#define KS_PACK_HEADER_SIZE 64u
#define KS_PACK_ALIGN 8u
#define KS_PACK_PAGES_MAX 4u /* 256 KiB */

struct ks_pack_head {
	uint64_t ino;
	uint64_t slice;
	uint64_t off; /* in the file */
	uint32_t len;
	uint32_t npages;
	uint32_t sums[KS_PACK_PAGES_MAX];
};

void ks_pack_seal(uint8_t out[KS_PACK_HEADER_SIZE], const struct ks_pack_head *h);
int ks_pack_open_head(const uint8_t in[KS_PACK_HEADER_SIZE],
		      struct ks_pack_head *h) KS_MUST_CHECK; /* -EBADMSG */

#endif
