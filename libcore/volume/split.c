/* SPDX-License-Identifier: Apache-2.0 */
/* split.c: "VOLUME:/path" taken apart. */
#include "base/buf.h"
#include "base/log.h"
#include "volume/names.h"
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A hint that shows the operand written right. */
KS_PRINTF(2, 3)
static int refuse(const char *operand, const char *hint_fmt, ...)
{
	char hint[512];
	va_list ap;

	va_start(ap, hint_fmt);
	vsnprintf(hint, sizeof(hint), hint_fmt, ap);
	va_end(ap);
	return ks_fail_hint(-EINVAL, hint, "%.400s: path inside a volume must start with '/'",
			    operand);
}

static int take(const char *operand, size_t n, char **volume, char **path)
{
	char *v = strndup(operand, n);
	char *p = operand[n] ? strdup(operand + n + 1) : NULL;

	if (!v || (operand[n] && !p)) {
		free(v);
		free(p);
		return -ENOMEM;
	}
	*volume = v;
	*path = p;
	return KS_OPERAND_VOLUME;
}

static int split_url(const char *operand, size_t scheme, bool local, char **volume, char **path)
{
	const char *sep = strstr(operand + scheme + 3, ":/");
	size_t n = sep ? (size_t)(sep - operand) : strlen(operand);
	KS_AUTO(ks_freep) char *url = strndup(operand, n);
	KS_AUTO(ks_freep) char *shown = url ? ks_url_redact(url) : NULL;
	int r;

	if (!shown)
		return -ENOMEM;
	r = ks_url_check_meta(shown);
	if (r < 0)
		return r;
	if (local && !sep)
		return refuse(shown, "%s:/ is the root of that volume", shown);
	return take(operand, n, volume, path);
}

int ks_volume_split(const char *operand, bool local, char **volume, char **path)
{
	size_t scheme = ks_url_scheme(operand);
	const char *colon = strchr(operand, ':');
	const char *slash = strchr(operand, '/');

	*volume = NULL;
	*path = NULL;
	if (scheme)
		return split_url(operand, scheme, local, volume, path);
	if (local && strcmp(operand, "-") == 0)
		return KS_OPERAND_STDIO;
	if (!colon || (slash && slash < colon)) {
		if (local)
			return KS_OPERAND_LOCAL;
		/* A file or mount point, with a path in it: "/srv/k/meta.db:/x". */
		colon = strstr(operand, ":/");
		return take(operand, colon ? (size_t)(colon - operand) : strlen(operand), volume,
			    path);
	}
	if (colon[1] == '/')
		return take(operand, (size_t)(colon - operand), volume, path);
	if (!local)
		return refuse(operand, "%.*s:/%.200s", (int)(colon - operand), operand, colon + 1);
	return refuse(operand, "%.*s:/%.200s, or ./%.200s for a local file", (int)(colon - operand),
		      operand, colon + 1, operand);
}
