/* SPDX-License-Identifier: Apache-2.0 */
#include "base/list.h"
#include "base/tap.h"

struct item {
	int v;
	struct ks_list link;
};

static int digits(struct ks_list *head)
{
	struct item *it;
	int all = 0;

	ks_list_foreach (it, head, struct item, link)
		all = all * 10 + it->v;
	return all;
}

KS_TEST(order_and_deletion)
{
	struct item items[5];
	struct ks_list head;
	struct item *it;
	struct item *tmp;

	ks_list_init(&head);
	ks_check(ks_list_is_empty(&head));
	ks_check(ks_list_first(&head, struct item, link) == NULL);
	ks_check(ks_list_last(&head, struct item, link) == NULL);
	ks_check_eq(digits(&head), 0);
	for (int i = 0; i < 5; i++) {
		items[i].v = i + 1;
		if (i < 3)
			ks_list_add_tail(&head, &items[i].link);
		else
			ks_list_add_head(&head, &items[i].link);
	}
	ks_check_eq(digits(&head), 54123);
	ks_check_eq(ks_list_first(&head, struct item, link)->v, 5);
	ks_check_eq(ks_list_last(&head, struct item, link)->v, 3);
	ks_list_del(&items[0].link);
	ks_list_del(&items[0].link);
	ks_check(ks_list_is_empty(&items[0].link));
	ks_check_eq(digits(&head), 5423);
	ks_list_foreach_safe (it, tmp, &head, struct item, link) {
		if (it->v % 2 == 0) {
			ks_list_del(&it->link);
			memset(it, 0xff, sizeof(*it));
		}
	}
	ks_check_eq(digits(&head), 53);
}

KS_TEST(splicing)
{
	struct item items[4] = { { .v = 1 }, { .v = 2 }, { .v = 3 }, { .v = 4 } };
	struct ks_list a;
	struct ks_list b;

	ks_list_init(&a);
	ks_list_init(&b);
	ks_list_splice_tail(&a, &b);
	ks_check(ks_list_is_empty(&a));
	for (int i = 0; i < 4; i++)
		ks_list_add_tail(i < 2 ? &a : &b, &items[i].link);
	ks_list_splice_tail(&a, &b);
	ks_check_eq(digits(&a), 1234);
	ks_check(ks_list_is_empty(&b));
	ks_list_del(&items[3].link);
	ks_check_eq(digits(&a), 123);
}

KS_TEST_MAIN()
