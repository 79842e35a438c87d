/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring_abi.h: FUSE over io_uring as the kernel defines it (Linux 6.14 and later), for systems whose <linux/fuse.h> is older.
 *
 * Source: include/uapi/linux/fuse.h of Linux 6.14, protocol 7.42.
 */
#ifndef KS_FUSE_URING_ABI_H
#define KS_FUSE_URING_ABI_H

#include "base/def.h"

/* INIT: flags2 bit 9 is bit 41 of the 64-bit flags. flags bit 30 says that flags2 counts. */
#define KS_FUSE_INIT_EXT (1u << 30)
#define KS_FUSE_OVER_IO_URING_2 (1u << 9)

/* Commands in the SQE's cmd_op. The first is none, and refused. */
enum { KS_URING_NONE, KS_URING_REGISTER = 1, KS_URING_COMMIT_AND_FETCH = 2 };

/* First of the two areas that an entry registers; the second takes the payload. */
struct ks_uring_header {
	char in_out[128]; /* struct fuse_in_header, in the reply struct fuse_out_header */
	char op_in[128];  /* the opcode's own struct */
	uint64_t flags;
	uint64_t commit_id; /* to be given back with the reply */
	uint32_t payload_size;
	uint32_t padding;
	uint64_t reserved;
};
_Static_assert(sizeof(struct ks_uring_header) == 288, "fuse_uring_req_header");

/* In the 80 spare bytes of a 128-byte SQE. */
struct ks_uring_cmd {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t qid;
	uint8_t padding[6];
};
_Static_assert(sizeof(struct ks_uring_cmd) == 24, "fuse_uring_cmd_req");

#endif
