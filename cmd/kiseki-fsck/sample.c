/* SPDX-License-Identifier: Apache-2.0 */
/* sample.c: --sample. */
#include "base/size.h"
#include "fsck.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char *parse_sample(const char *value, struct ks_fsck_sample *out)
{
	struct ks_fsck_sample s = { 0 };
	char *end;

	errno = 0;
	if (strchr(value, '%')) {
		s.share = strtod(value, &end) / 100;
		if (errno || end == value || strcmp(end, "%") != 0 ||
		    !(s.share > 0 && s.share <= 1))
			return "a share is more than 0% and at most 100%";
	} else if (strchr(value, '/')) {
		s.part = strtoull(value, &end, 10);
		if (errno || end == value || *end != '/' || *value == '-' || end[1] < '0' ||
		    end[1] > '9')
			return "a part is I/N, such as 3/30";
		s.of = strtoull(end + 1, &end, 10);
		if (errno || *end || s.of == 0 || s.part == 0 || s.part > s.of)
			return "a part is I/N with I from 1 to N";
	} else if (ks_size_parse(value, &s.bytes) < 0 || s.bytes == 0) {
		return "accepted are 5%, 3/30 and sizes such as 10G";
	}
	*out = s;
	return NULL;
}
