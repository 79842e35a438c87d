/* SPDX-License-Identifier: Apache-2.0 */
/*
 * marker.c: the object that says whose data a store holds: JSON with the volume's UUID and name. While a volume is being made it
 * also says "formatting", so that what an interrupted kiseki-format left does not stand in the way of the next.
 */
#include "base/buf.h"
#include "base/hash.h"
#include "base/log.h"
#include "volume/parts.h"
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define MARKER_MAX 4096

int ks_marker_write(struct ks_object *o, const struct ks_marker *m)
{
	static const uint8_t none[16];
	char uuid[KS_UUID_STR];
	char owner[KS_UUID_STR];
	json_t *j;
	char *text;
	struct iovec iov;
	int r;

	ks_uuid_format(m->uuid, uuid);
	ks_uuid_format(m->owner, owner);
	j = json_pack("{s:i,s:s,s:s}", "kiseki", 1, "uuid", uuid, "name", m->name);
	if (j && m->formatting)
		json_object_set_new(j, "formatting", json_true());
	if (j && m->loading)
		json_object_set_new(j, "loading", json_true());
	if (j && m->owners)
		json_object_set_new(j, "owners", json_integer((json_int_t)m->owners));
	if (j && memcmp(m->owner, none, sizeof(none)) != 0)
		json_object_set_new(j, "owner", json_string(owner));
	text = j ? json_dumps(j, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(j);
	if (!text)
		return -ENOMEM;
	iov = (struct iovec){ text, strlen(text) };
	r = ks_object_put(o, KS_VOLUME_MARKER, &iov, 1);
	if (r == 0)
		r = ks_object_sync(o);
	free(text);
	return r;
}

static int parse(const char *text, size_t n, struct ks_marker *out)
{
	json_t *j = json_loadb(text, n, 0, NULL);
	const char *uuid = json_string_value(json_object_get(j, "uuid"));
	const char *name = json_string_value(json_object_get(j, "name"));
	const char *owner = json_string_value(json_object_get(j, "owner"));
	int r = uuid ? ks_uuid_parse(uuid, out->uuid) : -EINVAL;

	memset(out->owner, 0, sizeof(out->owner));
	if (r == 0 && owner)
		r = ks_uuid_parse(owner, out->owner);
	out->owners = (uint64_t)json_integer_value(json_object_get(j, "owners"));
	out->loading = json_is_true(json_object_get(j, "loading"));

	snprintf(out->name, sizeof(out->name), "%.63s", name ? name : "");
	out->formatting = json_is_true(json_object_get(j, "formatting"));
	json_decref(j);
	return r;
}

int ks_marker_read(struct ks_object *o, struct ks_marker *out)
{
	char text[MARKER_MAX];
	struct iovec iov = { text, sizeof(text) };
	ssize_t n = ks_object_get(o, KS_VOLUME_MARKER, 0, &iov, 1);

	if (n < 0)
		return (int)n;
	if (parse(text, (size_t)n, out) < 0)
		return ks_fail(-EBADMSG, "%s: its object '%s' cannot be read", ks_object_url(o),
			       KS_VOLUME_MARKER);
	return 0;
}

int ks_volume_marker_put(struct ks_object *o, const uint8_t uuid[16], const char *name)
{
	struct ks_marker m = { 0 };

	memcpy(m.uuid, uuid, sizeof(m.uuid));
	snprintf(m.name, sizeof(m.name), "%.63s", name);
	return ks_marker_write(o, &m);
}

int ks_volume_marker_get(struct ks_object *o, uint8_t uuid[16], char name[64])
{
	struct ks_marker m;
	int r = ks_marker_read(o, &m);

	if (r < 0)
		return r;
	memcpy(uuid, m.uuid, sizeof(m.uuid));
	memcpy(name, m.name, sizeof(m.name));
	return 0;
}
