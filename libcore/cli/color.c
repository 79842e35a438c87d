/* SPDX-License-Identifier: Apache-2.0 */
/* color.c: --color: what of the output has colours. Which, says who prints it. */
#include "cli/state.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool ks_cmd_dumb_terminal(void)
{
	const char *term = getenv("TERM");

	return term && strcmp(term, "dumb") == 0;
}

bool ks_cmd_colored(int fd)
{
	const char *no = getenv("NO_COLOR");

	if (fd == STDOUT_FILENO && ks_common.json)
		return false;
	if (ks_common.color != KS_COLOR_AUTO)
		return ks_common.color == KS_COLOR_ALWAYS;
	return !(no && *no) && !ks_cmd_dumb_terminal() && isatty(fd);
}
