/* SPDX-License-Identifier: Apache-2.0 */
/*
 * copy_sync.c: what was copied becomes durable. On this machine that is the work of one thread of the kernel, and takes as long for thousands of small files as half of the copying; in a volume
 * each block is a file. So it is begun while the copying goes on, and little is left for the end.
 */
#include "base/log.h"
#include "volume/copy_run.h"
#include <errno.h>

/* That much that is new is worth a sync. What is small gets into a volume durable (copy_batch.c). */
#define LOCAL_FILES 2048u
#define LOCAL_BYTES (64 * KS_MIB)
#define VOLUME_BYTES (512 * KS_MIB)

static void run_early(struct ks_job *job)
{
	struct ks_copy_early *e = ks_container_of(job, struct ks_copy_early, job);
	bool quiet = ks_fail_quiet(true);
	int r = e->dir->side->ops->sync_early(e->dir->side, e->dir);

	if (r < 0)
		e->err = r;
	ks_fail_quiet(quiet);
	__atomic_store_n(&e->on, false, __ATOMIC_RELEASE);
}

static bool is_due(struct ks_copy *c, uint64_t files, uint64_t bytes)
{
	files -= __atomic_load_n(&c->early.files, __ATOMIC_RELAXED);
	bytes -= __atomic_load_n(&c->early.bytes, __ATOMIC_RELAXED);
	return c->to.vfs ? bytes >= VOLUME_BYTES : bytes >= LOCAL_BYTES || files >= LOCAL_FILES;
}

void ks_copy_sync_early(struct ks_copy *c)
{
	struct ks_copy_early *e = &c->early;
	uint64_t files = __atomic_load_n(&c->n.files, __ATOMIC_RELAXED);
	uint64_t bytes = __atomic_load_n(&c->n.bytes, __ATOMIC_RELAXED);

	if (!e->worker || !is_due(c, files, bytes) ||
	    __atomic_exchange_n(&e->on, true, __ATOMIC_ACQUIRE))
		return;
	__atomic_store_n(&e->files, files, __ATOMIC_RELAXED);
	__atomic_store_n(&e->bytes, bytes, __ATOMIC_RELAXED);
	ks_workers_add(e->worker, &e->job);
}

void ks_copy_sync_begin(struct ks_copy *c, struct ks_cdir *dir)
{
	c->early.job = (struct ks_job){ .run = run_early };
	c->early.dir = dir;
	/* Without the thread it is all done at the end. */
	if (ks_workers_start(&c->early.worker, "copy-sync", 1) < 0)
		c->early.worker = NULL;
}

int ks_copy_sync_end(struct ks_copy *c, struct ks_cdir *dir)
{
	struct ks_copy_early *e = &c->early;
	int r;

	ks_workers_stop(e->worker);
	e->worker = NULL;
	ks_fail_clear();
	r = dir->side->ops->sync(dir->side, dir);
	if (r == 0 && e->err < 0)
		r = e->err;
	if (r < 0 && !*ks_fail_text())
		r = ks_fail(r, "cannot make the copy in %s durable", dir->path);
	return r;
}
