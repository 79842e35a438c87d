/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list.h: an intrusive doubly linked list. The head and every node are a struct ks_list; each must
 * be initialised before use, and a node that is on no list is its own neighbour.
 */
#ifndef KS_BASE_LIST_H
#define KS_BASE_LIST_H

#include "base/def.h"

struct ks_list {
	struct ks_list *next;
	struct ks_list *prev;
};

static inline void ks_list_init(struct ks_list *l)
{
	l->next = l;
	l->prev = l;
}

/* Also says whether a node is on no list. */
static inline bool ks_list_is_empty(const struct ks_list *l)
{
	return l->next == l;
}

/* Puts @node right after @at. */
static inline void ks_list_add_head(struct ks_list *at, struct ks_list *node)
{
	node->prev = at;
	node->next = at->next;
	at->next->prev = node;
	at->next = node;
}

/* Puts @node right before @at. */
static inline void ks_list_add_tail(struct ks_list *at, struct ks_list *node)
{
	ks_list_add_head(at->prev, node);
}

/* The node may be deleted again, or added elsewhere. */
static inline void ks_list_del(struct ks_list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	ks_list_init(node);
}

/* Moves all of @from to the end of @to; @from is empty afterwards. */
static inline void ks_list_splice_tail(struct ks_list *to, struct ks_list *from)
{
	if (ks_list_is_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	ks_list_init(from);
}

#define ks_list_entry(ptr, type, member) ks_container_of(ptr, type, member)

/* NULL when the list is empty. */
#define ks_list_first(head, type, member)                                                          \
	(ks_list_is_empty(head) ? NULL : ks_list_entry((head)->next, type, member))
#define ks_list_last(head, type, member)                                                           \
	(ks_list_is_empty(head) ? NULL : ks_list_entry((head)->prev, type, member))

/* @pos is a `type *` declared by the caller. The body must not delete @pos. */
#define ks_list_foreach(pos, head, type, member)                                                   \
	for ((pos) = ks_list_entry((head)->next, type, member); &(pos)->member != (head);          \
	     (pos) = ks_list_entry((pos)->member.next, type, member))

/* As ks_list_foreach(); the body may delete and free @pos, but no other node. */
#define ks_list_foreach_safe(pos, tmp, head, type, member)                                         \
	for ((pos) = ks_list_entry((head)->next, type, member),                                    \
	    (tmp) = ks_list_entry((pos)->member.next, type, member);                               \
	     &(pos)->member != (head);                                                             \
	     (pos) = (tmp), (tmp) = ks_list_entry((pos)->member.next, type, member))

#endif
