/* SPDX-License-Identifier: Apache-2.0 */
/* maint.c: opens a volume for maintenance. */
#include "volume/maint.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/parts.h"
#include "volume/recover.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Whole tables are read once: mapping the database would only count as memory. */
#define MMAP_BYTES 4096

static int open_parts(struct ks_maint *m, const struct ks_volume_ref *ref, bool write)
{
	struct ks_meta_opts o = { .readonly = !write, .mmap_bytes = MMAP_BYTES };
	bool ours = true;
	int r;

	o.hooks.died = ks_recover_died;
	o.hooks.died_arg = m->recover;
	ks_fail_clear();
	r = ks_meta_open(&m->meta, ref->meta_url, &o);
	if (r == -ENOENT)
		return ks_fail(r, "no volume at %s", ref->shown_url);
	if (r < 0)
		return *ks_fail_text() ? r : ks_fail(r, "open %s", ref->shown_url);
	m->settings = ks_meta_settings(m->meta);
	r = ks_volume_data_url(ref->meta_url, m->settings->data_url, &m->data_url);
	if (r == 0)
		r = ks_store_open_owned(&m->store, m->data_url, m->settings, !write, &ours);
	if (r == 0 && write && !ours) {
		r = ks_fail_hint(-EROFS, KS_VOLUME_NOT_OURS,
				 "volume '%s' does not own its data: another metadata over %s does",
				 m->settings->name, m->data_url);
	}
	m->recover->meta = m->meta;
	m->recover->store = m->store;
	return r;
}

int ks_maint_open(struct ks_maint *out, const struct ks_volume_ref *ref, bool write)
{
	struct ks_maint m = { .shown_url = strdup(ref->shown_url),
			      .recover = calloc(1, sizeof(*m.recover)) };
	int r = m.shown_url && m.recover ? open_parts(&m, ref, write) : -ENOMEM;

	if (r < 0) {
		ks_maint_close(&m);
		return r;
	}
	*out = m;
	return 0;
}

static int first_one(void *arg, const struct ks_session_info *s)
{
	struct ks_session_info *who = arg;

	if (!s->dead && !who->id)
		*who = *s;
	return 0;
}

const char *ks_session_who(const struct ks_session_info *s, char *out, size_t n)
{
	char since[KS_TIME_STR];
	int64_t age = ks_clock_real_ns() - s->heartbeat_ns;

	ks_time_format(s->start_ns, since);
	snprintf(out, n, "%s on %s (process %u%s%s, since %.19sZ, heartbeat %jd s ago)", s->tool,
		 s->host, s->pid, *s->mountpoint ? ", " : "", s->mountpoint, since,
		 (intmax_t)(age > 0 ? age / KS_NS_PER_S : 0));
	return out;
}

int ks_maint_lock(struct ks_maint *m)
{
	struct ks_session_info *who;
	char text[512];
	int r = ks_meta_lock_exclusive(m->meta);

	if (r != -EBUSY)
		return r < 0 ? ks_fail(r, "lock volume '%s'", m->settings->name) : 0;
	who = calloc(1, sizeof(*who));
	if (!who)
		return -ENOMEM;
	if (ks_meta_sessions(m->meta, first_one, who) == 0 && who->id) {
		r = ks_fail_hint(-EBUSY, "unmount it, or wait with --lock-wait=10m",
				 "volume '%s' is in use by %s", m->settings->name,
				 ks_session_who(who, text, sizeof(text)));
	} else {
		r = ks_fail_hint(-EBUSY, "wait with --lock-wait=10m",
				 "volume '%s' is in use by another program", m->settings->name);
	}
	free(who);
	return r;
}

void ks_maint_close(struct ks_maint *m)
{
	ks_meta_close(m->meta);
	ks_object_close(m->store);
	free(m->data_url);
	free(m->shown_url);
	free(m->recover);
	*m = (struct ks_maint){ 0 };
}
