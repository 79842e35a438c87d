/* SPDX-License-Identifier: Apache-2.0 */
/* meta_durable_test.c: what is hidden stays until what hides it is on the disk, and comes back when that is taken away. */
#include "meta/meta_testlib.h"

static uint64_t slice_at(struct vol *v, uint64_t ino, uint32_t pos)
{
	struct ks_chunk_map *map = NULL;
	uint64_t slice;
	uint32_t k;

	ks_check_ok(ks_meta_map(v->m, ino, 0, &map));
	k = ks_chunk_map_find(map, pos);
	slice = k < map->n && map->e[k].pos <= pos ? map->e[k].slice : 0;
	ks_chunk_map_free(map);
	return slice;
}

static uint32_t layers(struct vol *v, uint64_t ino)
{
	struct ks_chunk_map *map = NULL;
	uint32_t n;

	ks_check_ok(ks_meta_map(v->m, ino, 0, &map));
	n = map->layers;
	ks_chunk_map_free(map);
	return n;
}

static void start(struct vol *v)
{
	ks_check_ok(ks_meta_session_start(v->m, KS_SESSION_MOUNT, "test", "", ""));
	/* One heartbeat, so that this session knows that it is alone. */
	ks_check_ok(ks_meta_tick(v->m, 0));
}

ON_BOTH(hidden_until_durable)
{
	uint64_t a, b, c, f;

	start(v);
	f = mkfile(v, ROOT, "f");
	a = put_slice(v, f, 0, 5000, 0);
	b = put_slice(v, f, 0, 5000, 0);
	ks_check_eq(slice_at(v, f, 100), b);
	ks_check_eq(layers(v, f), 2);
	ks_check_ok(ks_meta_trim(v->m));
	ks_check_eq(layers(v, f), 2);
	/* The first is on the disk, which helps nobody: it is the second that hides. */
	ks_meta_set_durable(v->m, b);
	ks_check_ok(ks_meta_trim(v->m));
	ks_check_eq(layers(v, f), 2);
	ks_meta_set_durable(v->m, b + 1);
	c = put_slice(v, f, 0, 5000, 0);
	ks_check_eq(layers(v, f), 2);
	ks_check_eq(slice_at(v, f, 100), c);
	ks_meta_set_durable(v->m, c + 1);
	ks_check_ok(ks_meta_trim(v->m));
	ks_check_eq(layers(v, f), 1);
	ks_check(a < b && b < c);
}

/* Several that are on the disk hide one together; one that is not leaves it where it is. */
ON_BOTH(hidden_by_many)
{
	uint64_t f, last;

	start(v);
	f = mkfile(v, ROOT, "f");
	put_slice(v, f, 0, 8000, 0);
	put_slice(v, f, 0, 4000, 0);
	last = put_slice(v, f, 4000, 4000, 0);
	ks_meta_set_durable(v->m, last);
	put_slice(v, f, 100000, 10, 0);
	ks_check_eq(layers(v, f), 4);
	ks_meta_set_durable(v->m, last + 1);
	put_slice(v, f, 0, 8000, 0);
	ks_check_eq(layers(v, f), 4);
	ks_check_eq(attr_of(v, f).used, 8010);
}

ON_BOTH(taken_back)
{
	uint64_t a, b, c, f, undone = 0, change;
	uint64_t lost[2];

	start(v);
	f = mkfile(v, ROOT, "f");
	a = put_slice(v, f, 0, 5000, 0);
	ks_meta_set_durable(v->m, a + 1);
	b = put_slice(v, f, 0, 9000, 0);
	c = put_slice(v, f, 2000, 1000, 0);
	ks_check_eq(attr_of(v, f).used, 9000);
	change = attr_of(v, f).change;
	lost[0] = b;
	lost[1] = c;
	ks_check_ok(ks_meta_undo(v->m, f, 0, lost, 1, &undone));
	ks_check_eq(undone, 9000);
	ks_check_eq(slice_at(v, f, 100), a);
	ks_check_eq(slice_at(v, f, 2100), c);
	ks_check_eq(slice_at(v, f, 6000), 0);
	ks_check_eq(attr_of(v, f).used, 5000);
	ks_check_eq(attr_of(v, f).size, 9000);
	ks_check(attr_of(v, f).change > change);
	ks_check_ok(ks_meta_undo(v->m, f, 0, lost, 2, &undone));
	ks_check_eq(undone, 1000);
	ks_check_eq(slice_at(v, f, 2100), a);
	ks_check_ok(ks_meta_undo(v->m, f, 0, lost, 2, &undone));
	ks_check_eq(undone, 0);
	ks_check_ok(ks_meta_undo(v->m, 999, 0, lost, 2, &undone));
}

/* Two extents of one slice that lie side by side are two. */
ON_BOTH(pieces_of_one_slice)
{
	uint64_t f = mkfile(v, ROOT, "f"), g = mkfile(v, ROOT, "g");
	uint64_t s = put_slice(v, g, 0, 8000, 0), done;

	ks_check_ok(ks_meta_copy_range(v->m, g, 0, f, 0, 4000, &done, NULL));
	ks_check_ok(ks_meta_copy_range(v->m, g, 4000, f, 4000, 4000, &done, NULL));
	put_slice(v, f, 3000, 2000, 0);
	put_slice(v, f, 3000, 2000, 0);
	ks_check_eq(layers(v, f), 3);
	ks_check_eq(slice_at(v, f, 100), s);
	ks_check_eq(slice_at(v, f, 7000), s);
	ks_check_eq(attr_of(v, f).used, 8000);
}

ON_BOTH(without_a_session_at_once)
{
	uint64_t f = mkfile(v, ROOT, "f");

	put_slice(v, f, 0, 5000, 0);
	put_slice(v, f, 0, 5000, 0);
	ks_check_eq(layers(v, f), 1);
}

static int low_of(void *arg, const struct ks_session_info *s)
{
	*(uint64_t *)arg = s->low;
	ks_check(s->this_boot);
	return 0;
}

ON_BOTH(the_mark)
{
	uint64_t low = 99, next, f, s;

	start(v);
	ks_check_ok(ks_meta_sessions(v->m, low_of, &low));
	ks_check_eq(low, 0);
	f = mkfile(v, ROOT, "f");
	s = put_slice(v, f, 0, 5000, 0);
	next = ks_meta_next_slice(v->m);
	ks_check_eq(next, s + 1);
	ks_meta_set_durable(v->m, next);
	ks_meta_set_durable(v->m, 1);
	ks_check_ok(ks_meta_save_durable(v->m));
	ks_check_ok(ks_meta_sessions(v->m, low_of, &low));
	ks_check_eq(low, next);
	ks_check_ok(ks_meta_skip_ids(v->m));
	ks_check_eq(ks_meta_next_slice(v->m), next);
}

struct asker {
	pthread_t t;
	struct ks_meta *m;
	uint64_t above; /* numbers that were not below the next one */
};

static void *ask(void *arg)
{
	struct asker *a = arg;
	uint64_t id;

	for (int i = 0; i < 20000; i++) {
		ks_check_ok(ks_meta_new_slice_id(a->m, &id));
		a->above += id >= ks_meta_next_slice(a->m);
	}
	return NULL;
}

/* Otherwise what has been made durable would not count as such until the numbers have passed it. */
ON_BOTH(the_next_number_is_above_all)
{
	struct asker a[8];
	uint64_t above = 0;

	for (int i = 0; i < 8; i++) {
		a[i] = (struct asker){ .m = v->m };
		ks_check_ok(ks_thread_start(&a[i].t, "ask", ask, &a[i]));
	}
	for (int i = 0; i < 8; i++) {
		pthread_join(a[i].t, NULL);
		above += a[i].above;
	}
	ks_check_eq(above, 0);
}

KS_TEST_MAIN()
