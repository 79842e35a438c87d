/* SPDX-License-Identifier: Apache-2.0 */
/*
 * object.h: an object store, as its callers see it.
 *
 * An object is an immutable run of bytes under a key. Keys are [A-Za-z0-9._/-], relative, at most
 * 200 bytes, without empty, "." or ".." components. A put is atomic: the whole object appears, or nothing.
 * The exception is an object made by append (packs), which only grows. No key is the leading components of another
 * ("a" beside "a/b"): a directory cannot hold both, and refuses the second with -EISDIR or -ENOTDIR.
 *
 * Stores are tables of functions (object/store.h, one line each in object/stores.def); faults, statistics,
 * retries and limits are stores that own an inner store.
 */
#ifndef KS_OBJECT_OBJECT_H
#define KS_OBJECT_OBJECT_H

#include "base/def.h"
#include <stdio.h>
#include <sys/uio.h>

#define KS_OBJECT_KEY_MAX 200

struct ks_object;

struct ks_object_info {
	uint64_t size_bytes;
	int64_t mtime_ns;
};

struct ks_object_usage {
	uint64_t total_bytes; /* UINT64_MAX: the store has no limit it knows of */
	uint64_t free_bytes;  /* for an unprivileged writer */
};

/* What a store counted since it was opened; the statistics decorator keeps it. */
struct ks_object_stats {
	uint64_t gets, puts, dels, heads, lists, syncs, appends;
	uint64_t errors;               /* calls that failed, but for -ENOENT and -EEXIST */
	uint64_t get_bytes, put_bytes; /* put: and appended */
	uint64_t in_flight_max;        /* most calls that ran at one time */
};

/**
 * ks_object_open() - open the store that a data URL names
 * @url: "file:///dir" or "mem://name"; other schemes from stores.def
 *
 * A directory is created if its parent exists.
 * Return: 0; -EINVAL unknown scheme or bad URL; -errno of the store; a text is raised.
 */
int ks_object_open(struct ks_object **out, const char *url) KS_MUST_CHECK;
void ks_object_close(struct ks_object *o); /* NULL is fine; closes inner stores too */
void ks_object_closep(struct ks_object **o);
bool ks_object_key_ok(const char *key);
const char *ks_object_url(const struct ks_object *o); /* without secrets; lives as long as @o */

/**
 * ks_object_get() - read part of an object
 * @off:  first byte wanted
 * @iov:  where to put it; filled in order. For the fast path of a directory (O_DIRECT) @off, every base and
 *        every length are multiples of 4096; anything else works too, slower.
 *
 * Threads: any number on one store; blocks.
 * Return:  bytes read, short only at the object's end (0 at or past it); -ENOENT; -errno, raised.
 */
ssize_t ks_object_get(struct ks_object *o, const char *key, uint64_t off, const struct iovec *iov,
		      int niov) KS_MUST_CHECK;

/**
 * ks_object_put() - store an object
 *
 * An existing object of that name is replaced atomically. Visible to every client on return; survives a
 * power cut only after ks_object_sync(). Same alignment remark as ks_object_get(), for every base and for every length
 * but the last.
 * Return: 0; -ENOSPC, -EDQUOT; -errno, raised. On error nothing is left behind.
 */
int ks_object_put(struct ks_object *o, const char *key, const struct iovec *iov,
		  int niov) KS_MUST_CHECK;

/**
 * ks_object_sync() - everything put (and appended) before this call through this handle survives a power cut
 *
 * Concurrent callers share the work. On failure what is not durable stays on the list, so that a later call tries again.
 */
int ks_object_sync(struct ks_object *o) KS_MUST_CHECK;

/* The same for whatever any process of this machine has put there; may have to wait for more than that. */
int ks_object_sync_all(struct ks_object *o) KS_MUST_CHECK;

/*
 * As if it had been put through this handle: the next ks_object_sync() makes it durable, whoever has put it. One that is not there is not an error.
 */
int ks_object_adopt(struct ks_object *o, const char *key) KS_MUST_CHECK;

/* Deletes; an object that is not there is not an error. Return: 0, or the first failure (the rest is still tried). */
int ks_object_del(struct ks_object *o, const char *const *keys, size_t n) KS_MUST_CHECK;
int ks_object_head(struct ks_object *o, const char *key,
		   struct ks_object_info *out) KS_MUST_CHECK; /* -ENOENT */

/**
 * ks_object_list() - every object whose key starts with @prefix and sorts after @after, in byte order of keys
 * @after: "" for all
 * @fn:    non-zero stops the listing and is returned
 *
 * Objects put or deleted meanwhile may or may not be seen. An error anywhere fails the call: a listing is never silently short.
 */
typedef int ks_object_list_fn(void *arg, const char *key, const struct ks_object_info *info);
int ks_object_list(struct ks_object *o, const char *prefix, const char *after,
		   ks_object_list_fn *fn, void *arg) KS_MUST_CHECK;

int ks_object_usage(struct ks_object *o, struct ks_object_usage *out) KS_MUST_CHECK;

/*
 * The end of a store: what it itself made (directories) goes, where nothing is in it any more. Nobody else has it open; only ks_object_close() may follow. -ENOTEMPTY: something
 * else lies there, and stays. A store that is not made of anything has nothing to do.
 */
int ks_object_dismantle(struct ks_object *o) KS_MUST_CHECK;

/*
 * Appending, for packs. A store that cannot has ks_object_can_append() false and callers put whole objects.
 * One appender has one object, which nobody else appends to; it is created empty by open (-EEXIST if there).
 */
struct ks_appender;
bool ks_object_can_append(const struct ks_object *o);
int ks_appender_open(struct ks_object *o, const char *key, struct ks_appender **out) KS_MUST_CHECK;
/*
 * Appends at *off, which is returned. A failed append is cut or overwritten by the next, except where another thread had appended
 * behind it meanwhile: then its range stays as a hole or garbage, which no record points to and no checksum accepts.
 * Threads: any, at once.
 */
int ks_appender_write(struct ks_appender *a, const struct iovec *iov, int niov,
		      uint64_t *off) KS_MUST_CHECK;
uint64_t ks_appender_size(const struct ks_appender *a);
void ks_appender_close(
	struct ks_appender
		*a); /* trims preallocation; durability by ks_object_sync() still holds */

/* Decorators: take over @inner (closed with the decorator), also on failure. */
int ks_object_with_stats(struct ks_object **out, struct ks_object *inner) KS_MUST_CHECK;
void ks_object_stats(const struct ks_object *o,
		     struct ks_object_stats *out); /* zero if no such decorator */

/*
 * Faults, for tests and for `KISEKI_FAULT` of developers: a rule string, comma separated:
 *   put:fail=EIO:nth=3      the third put fails          get:fail=EIO:every=10
 *   put:delay=50ms          every put takes longer       put:torn=1   half the bytes, then EIO
 *   get:flip=1              one bit of what is read flips (of what is stored: put, append)
 *   sync:lost=1             success is reported and nothing done (put, del, sync)
 * Operations: put get del list head sync append. Effects of one rule combine; without nth and every it always applies.
 * ks_object_fault_set() replaces the rules while the store is in use ("" switches off).
 */
int ks_object_with_fault(struct ks_object **out, struct ks_object *inner,
			 const char *rules) KS_MUST_CHECK;
int ks_object_fault_set(struct ks_object *o, const char *rules) KS_MUST_CHECK;

/* For --help, completion and conformance: scheme and one line of help of each store. */
void ks_object_stores(void (*fn)(void *arg, const char *scheme, const char *help), void *arg);

#endif
