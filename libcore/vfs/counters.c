/* SPDX-License-Identifier: Apache-2.0 */
/* counters.c: the names of the statistics. The control socket, the hidden files and kiseki-metrics(7) have no others. */
#include "vfs/internal.h"

#define AT(member) offsetof(struct ks_vfs_stats, member)
enum { GAUGE = 0, GROWS = 1, BYTES = 2 };

static const struct {
	const char *name;
	size_t at;
	int kind;
	const char *help;
} table[] = {
	{ "open_files", AT(open_files), GAUGE, "Files that programs have open." },
	{ "pool_bytes", AT(data.pool_bytes), BYTES, "Memory for file data." },
	{ "dirty_bytes", AT(data.dirty_bytes), BYTES, "Of it, written and not yet stored." },
	{ "clean_bytes", AT(data.clean_bytes), BYTES, "Of it, a cache of what is stored." },
	{ "free_bytes", AT(data.free_bytes), BYTES, "Of it, unused." },
	{ "uploads", AT(data.uploads), GROWS, "Blocks written to the store." },
	{ "upload_bytes", AT(data.upload_bytes), GROWS | BYTES, "Bytes of those blocks." },
	{ "fetches", AT(data.fetches), GROWS, "Reads from the store." },
	{ "fetch_bytes", AT(data.fetch_bytes), GROWS | BYTES, "Bytes of those reads." },
	{ "page_hits", AT(data.page_hits), GROWS, "Pages that were in the cache." },
	{ "page_misses", AT(data.page_misses), GROWS, "Pages that had to be read." },
	{ "readahead_pages", AT(data.readahead_pages), GROWS, "Pages read ahead." },
	{ "readahead_unused", AT(data.readahead_unused), GROWS, "Of those, never asked for." },
	{ "commits", AT(data.commits), GROWS, "Commits of written data." },
	{ "slices", AT(data.slices), GROWS, "Runs of written data committed." },
	{ "buffer_waits", AT(data.waits), GROWS, "Times a writer waited for memory." },
	{ "compactions", AT(compactions), GROWS, "Chunks of many slices that became few." },
	{ "compacted_bytes", AT(compacted_bytes), GROWS | BYTES, "Bytes copied for that." },
	{ "meta_reads", AT(engine.reads), GROWS, "Reads of metadata." },
	{ "meta_scans", AT(engine.scans), GROWS, "Scans of metadata." },
	{ "meta_commits", AT(engine.commits), GROWS, "Changes of metadata." },
	{ "meta_retries", AT(engine.retries), GROWS, "Changes that lost a race and ran again." },
	{ "meta_batches", AT(engine.batches), GROWS, "Transactions those changes shared." },
	{ "meta_bytes", AT(engine.size_bytes), BYTES, "Size of the metadata." },
	{ "object_gets", AT(store.gets), GROWS, "Requests to the store: get." },
	{ "object_puts", AT(store.puts), GROWS, "Requests to the store: put." },
	{ "object_deletes", AT(store.dels), GROWS, "Requests to the store: delete." },
	{ "object_errors", AT(store.errors), GROWS, "Requests to the store that failed." },
	{ "object_get_bytes", AT(store.get_bytes), GROWS | BYTES, "Bytes got from the store." },
	{ "object_put_bytes", AT(store.put_bytes), GROWS | BYTES, "Bytes put into the store." },
};

bool ks_vfs_counter(size_t i, struct ks_counter *out)
{
	if (i >= KS_ARRAY_SIZE(table))
		return false;
	*out = (struct ks_counter){ .name = table[i].name,
				    .help = table[i].help,
				    .bytes = table[i].kind & BYTES,
				    .grows = table[i].kind & GROWS };
	return true;
}

void ks_vfs_counters(struct ks_vfs *v, ks_counter_fn *fn, void *arg)
{
	struct ks_vfs_stats s;

	ks_vfs_stats(v, &s);
	for (size_t i = 0; i < KS_ARRAY_SIZE(table); i++) {
		struct ks_counter c;

		KS_IGNORE(ks_vfs_counter(i, &c));
		memcpy(&c.value, (const char *)&s + table[i].at, sizeof(c.value));
		fn(arg, &c);
	}
}
