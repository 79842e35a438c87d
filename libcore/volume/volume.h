/* SPDX-License-Identifier: Apache-2.0 */
/*
 * volume.h: volumes by name, and an open volume as the tools use it.
 *
 * Every tool names a volume in one way: NAME | META-URL | sqlite file | MOUNTPOINT, and a path in it as VOLUME:/path.
 * kiseki(7) has the grammar and the order in which names are looked up.
 */
#ifndef KS_VOLUME_VOLUME_H
#define KS_VOLUME_VOLUME_H

#include "vfs/vfs.h"

/* ---- operands ---- */

enum ks_operand {
	KS_OPERAND_LOCAL,  /* a path of this machine (only where local paths may stand) */
	KS_OPERAND_STDIO,  /* "-" (likewise) */
	KS_OPERAND_VOLUME, /* a volume, with or without a path in it */
};

/**
 * ks_volume_split() - take "VOLUME:/path" apart
 * @local: local paths are allowed too (kiseki-cp); else the operand is a volume even without ":/"
 * @volume: owned; "" for ":/path" (the default volume); NULL unless a volume
 * @path: owned; NULL when the operand has none
 *
 * After an optional "scheme://", the first ":/" separates the two. With @local, an operand whose first '/' comes before any ':' is local.
 * Return: enum ks_operand; -EINVAL, raised with a hint.
 */
int ks_volume_split(const char *operand, bool local, char **volume, char **path) KS_MUST_CHECK;

/* ---- names ---- */

/* A line of a configuration file that is the default of an option; as ks_cmd_default(). */
typedef int ks_volume_config_fn(void *arg, const char *key, const char *value);

/* Where names are looked up. Zero: the usual places. */
struct ks_volume_find {
	const char *
		config; /* --config; NULL: $KISEKI_CONFIG, else ~/.config/kiseki, /etc/kiseki, conf.d */
	const char *root; /* put before /etc, /var and the home directory; for the tests */
	bool no_default;  /* an absent operand is a mistake: format, load, destroy */
	ks_volume_config_fn *
		defaults; /* gets the lines for the volume that was found; NULL: nobody wants them */
};

struct ks_volume_ref {
	char *spec;       /* as it was written, without secrets */
	char *name;       /* when it was found by name; else NULL */
	char *meta_url;   /* for ks_meta_open(): with secrets, a path as it is; not for people */
	char *shown_url;  /* for people: without secrets, a path percent-encoded */
	char *mountpoint; /* when it was named by one */
	const char *rule; /* which rule found it, for people */
};
void ks_volume_ref_clear(struct ks_volume_ref *ref);

/**
 * ks_volume_resolve() - find a volume
 * @operand: NULL or "": $KISEKI_VOLUME, then volume= of [default]
 *
 * Return: 0; -ENOENT no such volume; -EINVAL not a volume's name, or a password on the command line; -EMEDIUMTYPE a bad
 * configuration file, or what @find->defaults returned. All raised. Whether a volume is behind it is seen by ks_volume_open().
 */
int ks_volume_resolve(struct ks_volume_ref *out, const char *operand,
		      const struct ks_volume_find *find) KS_MUST_CHECK;
bool ks_volume_name_ok(const char *name);
/*
 * Calls fn for every volume that has a name here, in no order; one that is both configured and in a directory comes twice.
 * Directories that cannot be read have none. -EMEDIUMTYPE: a bad configuration file, raised.
 */
int ks_volume_names(const struct ks_volume_find *find, void (*fn)(void *arg, const char *name),
		    void *arg) KS_MUST_CHECK;

/*
 * The lines of the configuration files that are defaults of options: of [default] and of section @name (may be NULL), in order of increasing
 * precedence. A bad value is -EMEDIUMTYPE, raised with file and line.
 */
int ks_volume_config(const struct ks_volume_find *find, const char *name, ks_volume_config_fn *fn,
		     void *arg) KS_MUST_CHECK;

/*
 * What is mounted at a directory: its source (the SPEC of the mount) in @spec, owned. -ENOENT nothing of type fuse.kiseki, not raised.
 * A dead mount (ENOTCONN) is found too.
 */
int ks_volume_mounted(const char *dir, char **spec) KS_MUST_CHECK;

/* A URL with its password replaced by "***". Owned; NULL: no memory. */
char *ks_url_redact(const char *url);
bool ks_url_has_secret(const char *url);
/* "sqlite:///path" of a database file, percent-encoded; and back: NULL for another scheme or without memory. Owned. */
char *ks_url_of_path(const char *scheme, const char *path);
char *ks_url_to_path(const char *scheme, const char *url);

/* ---- an open volume ---- */

struct ks_volume_opts {
	bool readonly;
	bool snapshot;    /* all is as it was at the open (engine.h); readonly too */
	bool meta_only;   /* no store, no vfs: ls, status */
	uint32_t session; /* KS_SESSION_MOUNT or KS_SESSION_TOOL: registered while open; 0: none */
	const char *tool; /* name of the program, for the session */
	const char *mountpoint, *socket; /* likewise; may be NULL */
	bool maintenance; /* start the background work of the vfs; a mount has its barriers without */
	const char *subdir; /* the root of the vfs; NULL: the volume's */
	struct ks_data_opts
		data; /* sizes and threads; store, host, block_size and readonly are filled in */
	bool relatime, noatime;
	int64_t busy_timeout_ns; /* 0: the engine's own */
};

/* What an open one is made of. All borrowed from it. */
struct ks_volume {
	struct ks_vfs *vfs; /* NULL with meta_only */
	struct ks_meta *meta;
	struct ks_object *store; /* NULL with meta_only */
	const struct ks_volume_settings *settings;
	char *data_url;             /* absolute */
	char *shown_url;            /* of the metadata, without secrets */
	bool started;               /* the vfs owns meta and store */
	struct ks_recover *recover; /* for sessions that died */
};

/**
 * ks_volume_open() - open a volume
 *
 * Starts threads: never before daemonising. With KISEKI_FAULT in the environment its rules lie over the store.
 * Return: 0; -ENOENT no volume there, or its data is gone; -EMEDIUMTYPE the data belongs to another volume; -EPROTO newer than this
 * program; -EBADMSG damaged; -errno. All raised.
 */
int ks_volume_open(struct ks_volume **out, const struct ks_volume_ref *ref,
		   const struct ks_volume_opts *o) KS_MUST_CHECK;
/*
 * What most tools begin with: ks_volume_split(), ks_volume_resolve(), ks_volume_open(). @operand: "VOLUME", and "VOLUME:/path" when @path is
 * asked for; NULL: the default volume. *path is owned, and NULL when the operand has none or it fails.
 */
int ks_volume_open_named(struct ks_volume **out, const char *operand, char **path,
			 const struct ks_volume_find *find,
			 const struct ks_volume_opts *o) KS_MUST_CHECK;
/* Flushes, ends the session, frees. The first error of the flush. NULL is fine. */
int ks_volume_close(struct ks_volume *v);
void ks_volume_closep(struct ks_volume **v);

/* "+sqlite +mem +file ...": the engines and stores of this build, a line for --version. */
void ks_volume_features(FILE *f);

/* ---- the parts, for format, status and the tests ---- */

/* The object that says whose data a store holds. */
#define KS_VOLUME_MARKER "kiseki.volume"
#define KS_VOLUME_PROBE "kiseki.probe-" /* begins the names of what a trial of a store leaves */
int ks_volume_marker_put(struct ks_object *o, const uint8_t uuid[16],
			 const char *name) KS_MUST_CHECK;
/* -ENOENT: no marker (not raised); -EBADMSG: damaged. @name has 64 bytes. */
int ks_volume_marker_get(struct ks_object *o, uint8_t uuid[16], char name[64]) KS_MUST_CHECK;
/* The data URL of settings, absolute. Owned. */
int ks_volume_data_url(const char *meta_url, const char *data_url, char **out) KS_MUST_CHECK;
/* Opens the store and checks its marker against the settings. */
int ks_volume_store_open(struct ks_object **out, const char *data_url,
			 const struct ks_volume_settings *s, bool readonly) KS_MUST_CHECK;
/* A path of the volume to its inode, over metadata alone; symlinks are followed except, without @follow, the last. Raised. */
int ks_volume_path(struct ks_meta *m, const char *path, bool follow,
		   struct ks_attr *out) KS_MUST_CHECK;

#endif
