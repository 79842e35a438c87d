/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tap.h"
#include "base/text.h"
#include <stdio.h>

KS_TEST(octal_numbers_of_mountinfo_and_fstab)
{
	static const struct {
		const char *text, *want;
	} rows[] = {
		{ "", "" },
		{ "/mnt/photos", "/mnt/photos" },
		{ "a\\040b\\011c\\012d\\134e", "a b\tc\nd\\e" },
		{ "\\134040", "\\040" },
		{ "\\377", "\xff" },
		/* None of one. */
		{ "\\", "\\" },
		{ "\\04", "\\04" },
		{ "\\400", "\\400" },
		{ "\\089\\n", "\\089\\n" },
	};
	char text[32];

	for (size_t i = 0; i < KS_ARRAY_SIZE(rows); i++) {
		snprintf(text, sizeof(text), "%s", rows[i].text);
		ks_unescape_octal(text);
		ks_check_str(text, rows[i].want);
	}
}

KS_TEST_MAIN()
