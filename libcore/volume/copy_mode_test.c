/* SPDX-License-Identifier: Apache-2.0 */
/* copy_mode_test.c: modes as chmod(1) takes them. */
#include "base/tap.h"
#include "volume/copy_mode.h"
#include <errno.h>
#include <sys/stat.h>

KS_TEST(changes)
{
	static const struct {
		const char *text;
		uint32_t from, to;
	} t[] = {
		{ "640", S_IFREG | 0777, S_IFREG | 0640 },
		{ "0", S_IFREG | 0777, S_IFREG },
		{ "4755", S_IFREG | 0600, S_IFREG | 04755 },
		{ "u+x", 0640, 0740 },
		{ "+x", 0640, 0751 },
		{ "a-w", 0666, 0444 },
		{ "go=", 0777, 0700 },
		{ "u=rw,go=r", 0777, 0644 },
		{ "ug+rwX", S_IFREG | 0400, S_IFREG | 0660 },
		{ "ug+rwX", S_IFDIR | 0400, S_IFDIR | 0770 },
		{ "a+X", S_IFREG | 0744, S_IFREG | 0755 },
		{ "u+s", 0755, 04755 },
		{ "g+s,o+t", S_IFDIR | 0755, S_IFDIR | 03755 },
		{ "u-s", 06755, 02755 },
		{ "u=rwx", 04644, 0744 },
		{ "u+r-w", 0200, 0400 },
	};
	struct ks_mode_change c;

	for (size_t i = 0; i < KS_ARRAY_SIZE(t); i++) {
		ks_check_ok(ks_mode_parse(t[i].text, &c));
		if (ks_mode_apply(&c, t[i].from) != t[i].to) {
			printf("# %s of %o is %o\n", t[i].text, t[i].from,
			       ks_mode_apply(&c, t[i].from));
			ks_check(!"another mode is wanted");
		}
	}
}

KS_TEST(bad_input)
{
	static const char *const bad[] = { "",  "8",    "77777", "64x", "u",   "u+q",
					   "x", "u+x,", ",u+x",  "uu",  "u*x", "-640" };
	struct ks_mode_change c;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		if (ks_mode_parse(bad[i], &c) != -EINVAL) {
			printf("# %s\n", bad[i]);
			ks_check(!"it was taken");
		}
	}
	ks_check_eq(ks_mode_parse("+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r+r", &c), -EINVAL);
}

KS_TEST_MAIN()
