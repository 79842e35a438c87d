/* SPDX-License-Identifier: Apache-2.0 */
/* acl.c: see acl.h. The rules are those of fs/posix_acl.c, so that a file has the same permissions here as on any local file system. */
#include "meta/acl.h"

#include <errno.h>

#define VERSION 2u
#define HEADER 4u
#define ENTRY 8u
#define RWX 7u
#define NO_ID UINT32_MAX /* of entries that are not of one user or group */

static uint32_t get(const uint8_t *p, unsigned int n)
{
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | p[n];
	return v;
}

static void put(uint8_t *p, unsigned int n, uint32_t v)
{
	for (unsigned int i = 0; i < n; i++, v >>= 8)
		p[i] = (uint8_t)v;
}

static bool has_id(const struct ks_acl_entry *e)
{
	return e->tag == KS_ACL_USER || e->tag == KS_ACL_GROUP;
}

/* One of each class in the order of their tags, any number of users and groups in between, and a mask if there are any of those. */
static bool is_valid(const struct ks_acl *a)
{
	bool named = false;
	bool mask = false;
	unsigned int last = 0;
	unsigned int seen = 0;

	for (unsigned int i = 0; i < a->n; i++) {
		const struct ks_acl_entry *e = &a->e[i];
		bool one_bit = e->tag && !(e->tag & (e->tag - 1)) && e->tag <= KS_ACL_OTHER;

		if (!one_bit || (e->perm & ~RWX) || e->tag < last)
			return false;
		if (has_id(e) ? e->id == NO_ID : e->tag == last)
			return false;
		named |= has_id(e);
		mask |= e->tag == KS_ACL_MASK;
		last = e->tag;
		seen |= e->tag;
	}
	if (a->n == 0)
		return true;
	return (seen & KS_ACL_USER_OBJ) && (seen & KS_ACL_GROUP_OBJ) && (seen & KS_ACL_OTHER) &&
	       (mask || !named);
}

int ks_acl_decode(struct ks_acl *out, const void *p, size_t n)
{
	const uint8_t *at = p;

	out->n = 0;
	if (n < HEADER)
		return -EINVAL;
	if (get(at, 4) != VERSION)
		return -EOPNOTSUPP;
	if ((n - HEADER) % ENTRY)
		return -EINVAL;
	if (n > KS_ACL_BYTES_MAX)
		return -E2BIG;
	for (at += HEADER; out->n < (n - HEADER) / ENTRY; at += ENTRY)
		out->e[out->n++] = (struct ks_acl_entry){ .tag = (uint16_t)get(at, 2),
							  .perm = (uint16_t)get(at + 2, 2),
							  .id = get(at + 4, 4) };
	return is_valid(out) ? 0 : -EINVAL;
}

size_t ks_acl_encode(const struct ks_acl *a, uint8_t *out)
{
	put(out, 4, VERSION);
	for (unsigned int i = 0; i < a->n; i++) {
		uint8_t *p = out + HEADER + (size_t)i * ENTRY;
		const struct ks_acl_entry *e = &a->e[i];

		put(p, 2, e->tag);
		put(p + 2, 2, e->perm);
		put(p + 4, 4, has_id(e) ? e->id : NO_ID);
	}
	return HEADER + (size_t)a->n * ENTRY;
}

static struct ks_acl_entry *find(struct ks_acl *a, unsigned int tag)
{
	for (unsigned int i = 0; i < a->n; i++)
		if (a->e[i].tag == tag)
			return &a->e[i];
	return NULL;
}

/* What the group bits of a mode stand for: the mask, which bounds all of the group class, or without one the group itself. */
static struct ks_acl_entry *group_class(struct ks_acl *a)
{
	struct ks_acl_entry *mask = find(a, KS_ACL_MASK);

	return mask ? mask : find(a, KS_ACL_GROUP_OBJ);
}

bool ks_acl_to_mode(const struct ks_acl *a, uint32_t *mode)
{
	uint32_t group = 0;
	uint32_t bits = 0;
	bool mask = false;
	bool all = true;

	for (unsigned int i = 0; i < a->n; i++) {
		const struct ks_acl_entry *e = &a->e[i];

		if (e->tag == KS_ACL_USER_OBJ)
			bits |= (uint32_t)e->perm << 6;
		else if (e->tag == KS_ACL_OTHER)
			bits |= e->perm;
		else if (e->tag == KS_ACL_MASK || (e->tag == KS_ACL_GROUP_OBJ && !mask))
			group = e->perm;
		mask |= e->tag == KS_ACL_MASK;
		all &= !has_id(e) && !mask;
	}
	*mode = (*mode & ~0777u) | bits | group << 3;
	return all;
}

/* Both become what both allow. */
static void intersect(struct ks_acl_entry *e, uint32_t *mode, unsigned int shift)
{
	if (!e)
		return;
	e->perm &= (uint16_t)(*mode >> shift & RWX);
	*mode = (*mode & ~(RWX << shift)) | (uint32_t)e->perm << shift;
}

bool ks_acl_create(struct ks_acl *a, uint32_t *mode)
{
	uint32_t same = 0;

	intersect(find(a, KS_ACL_USER_OBJ), mode, 6);
	intersect(group_class(a), mode, 3);
	intersect(find(a, KS_ACL_OTHER), mode, 0);
	return ks_acl_to_mode(a, &same);
}

static void set_perm(struct ks_acl_entry *e, uint32_t perm)
{
	if (e)
		e->perm = (uint16_t)(perm & RWX);
}

void ks_acl_chmod(struct ks_acl *a, uint32_t mode)
{
	set_perm(find(a, KS_ACL_USER_OBJ), mode >> 6);
	set_perm(group_class(a), mode >> 3);
	set_perm(find(a, KS_ACL_OTHER), mode);
}
