/* SPDX-License-Identifier: Apache-2.0 */
/* acl_test.c: lists are read and written in the kernel's form, and go with the mode as fs/posix_acl.c has it. */
#include "base/tap.h"
#include "meta/acl.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "u7,u1000:4,g5,g100:6,m4,o0" */
static struct ks_acl acl(const char *text)
{
	struct ks_acl a = { 0 };
	char tag;
	unsigned int perm, id;
	int used;

	for (; *text; text += *text == ',') {
		struct ks_acl_entry *e = &a.e[a.n++];

		ks_check_eq(sscanf(text, "%c%u%n", &tag, &id, &used), 2);
		text += used;
		perm = id;
		e->tag = tag == 'u'   ? KS_ACL_USER_OBJ
			 : tag == 'g' ? KS_ACL_GROUP_OBJ
			 : tag == 'm' ? KS_ACL_MASK
				      : KS_ACL_OTHER;
		if (*text == ':') {
			ks_check_eq(sscanf(text, ":%u%n", &perm, &used), 1);
			text += used;
			e->tag = tag == 'u' ? KS_ACL_USER : KS_ACL_GROUP;
			e->id = id;
		}
		e->perm = (uint16_t)perm;
	}
	return a;
}

static const char *text_of(const struct ks_acl *a)
{
	static char text[256];
	size_t n = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < a->n; i++) {
		const struct ks_acl_entry *e = &a->e[i];
		char c = e->tag & (KS_ACL_USER_OBJ | KS_ACL_USER)     ? 'u'
			 : e->tag & (KS_ACL_GROUP_OBJ | KS_ACL_GROUP) ? 'g'
			 : e->tag == KS_ACL_MASK                      ? 'm'
								      : 'o';

		if (e->tag & (KS_ACL_USER | KS_ACL_GROUP))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%c%u:%u", n ? "," : "",
					      c, e->id, e->perm);
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%c%u", n ? "," : "", c,
					      e->perm);
	}
	return text;
}

static int again(const char *text)
{
	static uint8_t bytes[KS_ACL_BYTES_MAX];
	static struct ks_acl out;
	struct ks_acl a = acl(text);
	int r = ks_acl_decode(&out, bytes, ks_acl_encode(&a, bytes));

	if (r == 0)
		ks_check_str(text_of(&out), text);
	return r;
}

KS_TEST(the_form_is_the_kernels)
{
	static const uint8_t want[] = { 2,    0, 0, 0,                           /* version */
					1,    0, 6, 0, 0xff, 0xff, 0xff, 0xff,   /* user::rw- */
					2,    0, 4, 0, 0xe8, 3,    0,    0,      /* user:1000:r-- */
					4,    0, 4, 0, 0xff, 0xff, 0xff, 0xff,   /* group::r-- */
					0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff,   /* mask::r-- */
					0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff }; /* other::--- */
	static uint8_t bytes[KS_ACL_BYTES_MAX];
	struct ks_acl a = acl("u6,u1000:4,g4,m4,o0");

	ks_check_eq(ks_acl_encode(&a, bytes), sizeof(want));
	ks_check_mem(bytes, want, sizeof(want));
	ks_check_ok(again("u7,u1000:4,u1001:0,g5,g100:6,m4,o0"));
	ks_check_ok(again("u7,g5,m4,o0"));
	ks_check_ok(again(""));
}

KS_TEST(what_is_no_acl_is_refused)
{
	static const char *const bad[] = { "u7",
					   "u7,g5",
					   "g5,o4",
					   "u7,u7,g5,o4",
					   "g5,u7,o4",
					   "u7,g5,o8",
					   "u7,u1:4,g5,o4",
					   "u7,g5,g1:4,o4",
					   "u7,g5,m1,m1,o4",
					   "u7,g5,o4,u1:4",
					   "u7,g5,u1:4,m7,o4",
					   "u7,g5,o4,o4",
					   "u7,g5,o4,m7",
					   "u7,g5,g4294967295:1,m7,o1" };
	static uint8_t bytes[KS_ACL_BYTES_MAX + 8] = { 2 };
	static struct ks_acl a;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++)
		ks_check_eq(again(bad[i]), -EINVAL);
	ks_check_ok(ks_acl_decode(&a, bytes, 4));
	ks_check_eq(a.n, 0);
	ks_check_eq(ks_acl_decode(&a, bytes, 0), -EINVAL);
	ks_check_eq(ks_acl_decode(&a, bytes, 3), -EINVAL);
	ks_check_eq(ks_acl_decode(&a, bytes, 11), -EINVAL);
	ks_check_eq(ks_acl_decode(&a, bytes, 12), -EINVAL);
	ks_check_eq(ks_acl_decode(&a, bytes, KS_ACL_BYTES_MAX + 4), -E2BIG);
	bytes[0] = 1;
	ks_check_eq(ks_acl_decode(&a, bytes, 4), -EOPNOTSUPP);
}

KS_TEST(the_mode_of_an_acl)
{
	uint32_t mode = 0106555;
	struct ks_acl a = acl("u7,g5,o4");

	ks_check(ks_acl_to_mode(&a, &mode));
	ks_check_eq(mode, 0106754);
	a = acl("u6,g5,m4,o1");
	ks_check(!ks_acl_to_mode(&a, &mode));
	ks_check_eq(mode, 0106641);
	a = acl("u6,u1:7,g5,m6,o1");
	ks_check(!ks_acl_to_mode(&a, &mode));
	ks_check_eq(mode, 0106661);
}

static void create(const char *dflt, uint32_t mode, const char *want, uint32_t mode_after, bool all)
{
	struct ks_acl a = acl(dflt);

	ks_check_eq(ks_acl_create(&a, &mode), all);
	ks_check_str(text_of(&a), want);
	ks_check_eq(mode, mode_after);
}

KS_TEST(a_new_inode_gets_what_both_allow)
{
	create("u7,u5:7,g5,m7,o5", 0100666, "u6,u5:7,g5,m6,o4", 0100664, false);
	create("u7,u5:7,g5,m7,o5", 0100600, "u6,u5:7,g5,m0,o0", 0100600, false);
	create("u7,u5:7,g5,m5,o0", 042777, "u7,u5:7,g5,m5,o0", 042750, false);
	create("u7,g5,o5", 0100666, "u6,g4,o4", 0100644, true);
	create("u4,g0,o7", 0104777, "u4,g0,o7", 0104407, true);
}

KS_TEST(chmod_sets_the_mask)
{
	struct ks_acl a = acl("u7,u5:7,g5,m7,o5");

	ks_acl_chmod(&a, 0640);
	ks_check_str(text_of(&a), "u6,u5:7,g5,m4,o0");
	a = acl("u7,g5,o5");
	ks_acl_chmod(&a, 0611);
	ks_check_str(text_of(&a), "u6,g1,o1");
}

KS_TEST_MAIN()
