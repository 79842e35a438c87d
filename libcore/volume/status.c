/* SPDX-License-Identifier: Apache-2.0 */
/* status.c: looks at a volume from outside, and changes nothing. */
#include "volume/status.h"
#include "base/array.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "volume/control.h"
#include "volume/fsck.h"
#include "volume/parts.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ASK_NS (200 * KS_NS_PER_MS) /* a mount that is stuck must not hold us up */

void ks_status_clear(struct ks_status *s)
{
	free(s->meta_url);
	free(s->data_url);
	free(s->data_text);
	free(s->data_hint);
	for (size_t i = 0; s->transports && i < s->nsessions; i++)
		free(s->transports[i]);
	free(s->transports);
	free(s->sessions);
	*s = (struct ks_status){ 0 };
}

static int add_session(void *arg, const struct ks_session_info *info)
{
	struct ks_status *s = arg;

	if (ks_array_room(&s->sessions, s->nsessions, &s->capsessions) < 0)
		return -ENOMEM;
	s->sessions[s->nsessions++] = *info;
	s->ndead += info->dead;
	return 0;
}

static int look_at_meta(struct ks_status *s, struct ks_meta *m)
{
	struct ks_engine_stats st;
	int64_t start = ks_clock_mono_ns();
	int r = ks_meta_usage(m, &s->usage);

	s->meta_ns = ks_clock_mono_ns() - start;
	if (r == 0)
		r = ks_meta_trash_sum(m, &s->trash);
	if (r == 0)
		r = ks_meta_last(m, s->last);
	if (r == 0)
		r = ks_meta_sessions(m, add_session, s);
	ks_engine_stats(ks_meta_engine(m), &st);
	s->meta_bytes = st.size_bytes;
	return r;
}

/* The time that is told is that of one small read, on a store that is open. */
static int time_data(struct ks_status *s, struct ks_object *o)
{
	int64_t start = ks_clock_mono_ns();
	struct ks_marker m;
	int r = ks_marker_read(o, &m);

	s->data_ns = ks_clock_mono_ns() - start;
	return r == 0 ? ks_object_usage(o, &s->data) : r;
}

static void look_at_data(struct ks_status *s)
{
	struct ks_object *o = NULL;
	const char *text;

	ks_fail_clear();
	s->data_err = ks_volume_store_open(&o, s->data_url, &s->settings, true);
	if (s->data_err == 0)
		s->data_err = time_data(s, o);
	ks_object_close(o);
	if (s->data_err == 0)
		return;
	text = ks_fail_text();
	s->data_text = strdup(*text ? text : ks_strerror(s->data_err));
	s->data_hint = *ks_fail_hint_text() ? strdup(ks_fail_hint_text()) : NULL;
	s->problems |= KS_STATUS_DATA;
	ks_fail_clear();
}

/* Asks the mounts of this machine that are alive. Who may not ask does not hear. */
static int ask_mounts(struct ks_status *s)
{
	char host[sizeof(s->sessions->host)] = "";

	KS_IGNORE(gethostname(host, sizeof(host) - 1));
	s->transports = calloc(s->nsessions + 1, sizeof(*s->transports));
	if (!s->transports)
		return -ENOMEM;
	for (size_t i = 0; i < s->nsessions; i++) {
		const struct ks_session_info *e = &s->sessions[i];

		if (!e->dead && e->kind == KS_SESSION_MOUNT && *e->socket &&
		    strcmp(e->host, host) == 0)
			s->transports[i] = ks_control_transport(e->socket, (int)e->pid, ASK_NS);
	}
	return 0;
}

static bool nearly_full(uint64_t used, uint64_t max)
{
	return max && used > max - max / 20;
}

bool ks_status_gc_failed(const struct ks_last *gc)
{
	switch (gc->code) { /* as kiseki(7) has them */
	case 0:
	case 4: /* a finding */
	case 5: /* a limit */
	case 128 + SIGINT:
	case 128 + SIGTERM: /* stopped, by a shutdown perhaps: what it did is done */
		return false;
	default:
		return gc->end_ns != 0;
	}
}

/* What the notes of maintenance tell. Without any, mounts do it, or nobody had reason to. */
static unsigned int look_at_notes(const struct ks_last last[KS_TOOLS])
{
	const struct ks_last *gc = &last[KS_TOOL_GC];
	int64_t oldest = ks_clock_real_ns() - KS_STATUS_GC_DAYS * 24 * 3600 * KS_NS_PER_S;
	unsigned int problems = 0;

	/* Its other bits tell of the run, not of the volume. */
	if (last[KS_TOOL_FSCK].code & KS_FSCK_EXIT_LEFT)
		problems |= KS_STATUS_FSCK;
	if ((gc->end_ns && gc->end_ns < oldest) || ks_status_gc_failed(gc))
		problems |= KS_STATUS_GC;
	return problems;
}

int ks_status_get(struct ks_status *out, const struct ks_volume_ref *ref)
{
	struct ks_volume_opts o = { .readonly = true, .meta_only = true };
	KS_AUTO(ks_volume_closep) struct ks_volume *v = NULL;
	struct ks_status s = { 0 };
	bool quiet;
	int r = ks_volume_open(&v, ref, &o);

	if (r < 0)
		return r;
	s.settings = *v->settings;
	s.meta_url = strdup(v->shown_url);
	s.data_url = strdup(v->data_url);
	r = s.meta_url && s.data_url ? look_at_meta(&s, v->meta) : -ENOMEM;
	if (r == 0)
		r = ask_mounts(&s);
	if (r < 0) {
		ks_status_clear(&s);
		return r;
	}
	quiet = ks_fail_quiet(true);
	look_at_data(&s);
	ks_fail_quiet(quiet);
	if (s.ndead)
		s.problems |= KS_STATUS_SESSIONS;
	if (nearly_full(s.usage.used_bytes, s.settings.capacity_bytes) ||
	    nearly_full(s.usage.inodes, s.settings.inodes_max))
		s.problems |= KS_STATUS_QUOTA;
	s.problems |= look_at_notes(s.last);
	*out = s;
	return 0;
}
