/* SPDX-License-Identifier: Apache-2.0 */
/* last.c: notes when maintenance ended. */
#include "volume/last.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/parts.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BUSY_NS (5 * KS_NS_PER_S) /* the work is done: nobody waits long for a note of it */

static int note(struct ks_meta *m, enum ks_tool tool, int code)
{
	struct ks_last l = { .end_ns = ks_clock_real_ns(), .code = code };

	return ks_meta_last_set(m, tool, &l);
}

static void tell(enum ks_tool tool, int err)
{
	const char *text = ks_fail_text();

	if (err < 0)
		ks_log(KS_LOG_INFO, "when kiseki-%s ended is not noted in the volume: %s",
		       ks_tool_names[tool], *text ? text : ks_strerror(err));
}

static int note_at(const struct ks_volume_ref *ref, enum ks_tool tool, int code)
{
	struct ks_meta_opts o = { .busy_timeout_ns = BUSY_NS };
	KS_AUTO(ks_freep) char *url = NULL;
	struct ks_meta *m = NULL;
	int r = ks_meta_open(&m, ref->meta_url, &o);

	if (r < 0)
		return r;
	r = ks_volume_data_url(ref->meta_url, ks_meta_settings(m)->data_url, &url);
	if (r == 0 && ks_store_is_foreign(url, ks_meta_settings(m)))
		r = ks_fail(-EROFS, "its data is another metadata's");
	if (r == 0)
		r = note(m, tool, code);
	ks_meta_close(m);
	return r;
}

/* In @m, or where @ref is. Whatever comes of it, what was raised stays. */
static void note_quietly(const struct ks_volume_ref *ref, struct ks_meta *m, enum ks_tool tool,
			 int code)
{
	bool quiet = ks_fail_quiet(true);
	struct ks_fail_kept why;

	ks_fail_keep(&why);
	ks_fail_clear();
	tell(tool, ref ? note_at(ref, tool, code) : note(m, tool, code));
	ks_fail_quiet(quiet);
	ks_fail_restore(&why);
}

void ks_last_note(struct ks_meta *m, enum ks_tool tool, int code)
{
	note_quietly(NULL, m, tool, code);
}

void ks_last_note_at(const struct ks_volume_ref *ref, enum ks_tool tool, int code)
{
	note_quietly(ref, NULL, tool, code);
}

bool ks_last_is_whole(const char *path)
{
	return !path || path[strspn(path, "/")] == '\0';
}
