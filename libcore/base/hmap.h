/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hmap.h: an intrusive hash map from a 64-bit key: chained, its table a power of two that grows
 * with the number of nodes and never shrinks. A zeroed map is empty. Equal keys may be stored more
 * than once, for callers whose key is itself a hash. Nodes belong to the caller.
 */
#ifndef KS_BASE_HMAP_H
#define KS_BASE_HMAP_H

#include "base/def.h"
#include "base/hash.h"
#include <errno.h>
#include <stdlib.h>

struct ks_hnode {
	struct ks_hnode *next;
	uint64_t key;
};

struct ks_hmap {
	struct ks_hnode **slots; /* mask + 1 of them, or NULL */
	size_t mask;
	size_t n;
};

#define KS_HMAP_MIN 16

static inline struct ks_hnode **ks_hmap_slot(const struct ks_hmap *map, uint64_t key)
{
	return &map->slots[ks_mix64(key) & map->mask];
}

/* The first node of @key, the newest, or NULL. */
static inline struct ks_hnode *ks_hmap_find(const struct ks_hmap *map, uint64_t key)
{
	struct ks_hnode *node = map->slots ? *ks_hmap_slot(map, key) : NULL;

	while (node && node->key != key)
		node = node->next;
	return node;
}

/* The next node with the key of @node, or NULL. */
static inline struct ks_hnode *ks_hmap_find_next(const struct ks_hnode *node)
{
	uint64_t key = node->key;
	struct ks_hnode *it = node->next;

	while (it && it->key != key)
		it = it->next;
	return it;
}

/* Gives the map @slots slots, a power of two. On error nothing changed. */
static inline int ks_hmap_resize(struct ks_hmap *map, size_t slots)
{
	struct ks_hmap old = *map;
	struct ks_hnode **table = calloc(slots, sizeof(struct ks_hnode *));

	if (!table)
		return -ENOMEM;
	map->slots = table;
	map->mask = slots - 1;
	for (size_t i = 0; old.slots && i <= old.mask; i++) {
		struct ks_hnode *reversed = NULL;

		/* Twice reversed: nodes of one key keep their order, newest first. */
		while (old.slots[i]) {
			struct ks_hnode *node = old.slots[i];

			old.slots[i] = node->next;
			node->next = reversed;
			reversed = node;
		}
		while (reversed) {
			struct ks_hnode *node = reversed;
			struct ks_hnode **slot = ks_hmap_slot(map, node->key);

			reversed = node->next;
			node->next = *slot;
			*slot = node;
		}
	}
	free(old.slots);
	return 0;
}

/* Returns 0, or -ENOMEM: only the first insertion into an empty map can fail. */
static inline int ks_hmap_insert(struct ks_hmap *map, struct ks_hnode *node, uint64_t key)
{
	struct ks_hnode **slot;

	if (!map->slots) {
		int r = ks_hmap_resize(map, KS_HMAP_MIN);

		if (r < 0)
			return r;
	} else if (map->n > map->mask) {
		/* Without memory for a larger table, longer chains do. */
		KS_IGNORE(ks_hmap_resize(map, (map->mask + 1) * 2));
	}
	slot = ks_hmap_slot(map, key);
	node->key = key;
	node->next = *slot;
	*slot = node;
	map->n++;
	return 0;
}

/* @node must be in the map. */
static inline void ks_hmap_remove(struct ks_hmap *map, struct ks_hnode *node)
{
	struct ks_hnode **pp = ks_hmap_slot(map, node->key);

	while (*pp != node) {
		assert(*pp);
		pp = &(*pp)->next;
	}
	*pp = node->next;
	node->next = NULL;
	map->n--;
}

/* Frees the table, not the nodes; the map is empty and valid again. */
static inline void ks_hmap_clear(struct ks_hmap *map)
{
	free(map->slots);
	*map = (struct ks_hmap){ 0 };
}

/*
 * Iteration in no order: NULL starts, NULL ends. To remove a node on the way, ask for the next one
 * first; an insertion ends the right to go on.
 */
static inline struct ks_hnode *ks_hmap_next(const struct ks_hmap *map, const struct ks_hnode *node)
{
	size_t i = 0;

	if (!map->slots)
		return NULL;
	if (node) {
		if (node->next)
			return node->next;
		i = (ks_mix64(node->key) & map->mask) + 1;
	}
	for (; i <= map->mask; i++) {
		if (map->slots[i])
			return map->slots[i];
	}
	return NULL;
}

#endif
