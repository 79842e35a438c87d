/* SPDX-License-Identifier: Apache-2.0 */
/* names_test.c: operands, volume names, URLs, configuration files. */
#include "base/buf.h"
#include "base/tap.h"
#include "volume/names.h"
#include <sys/stat.h>

static void check_split(const char *operand, bool local, int want, const char *volume,
			const char *path)
{
	KS_AUTO(ks_freep) char *v = NULL;
	KS_AUTO(ks_freep) char *p = NULL;
	bool quiet = ks_fail_quiet(true);

	ks_check_eq(ks_volume_split(operand, local, &v, &p), want);
	ks_fail_quiet(quiet);
	ks_check_str(v, volume);
	ks_check_str(p, path);
}

KS_TEST(splits_operands_of_cp)
{
	check_split("photos:/a b/\xc3\xbc", true, KS_OPERAND_VOLUME, "photos", "/a b/\xc3\xbc");
	check_split(":/x", true, KS_OPERAND_VOLUME, "", "/x");
	check_split("photos:x", true, -EINVAL, NULL, NULL);
	check_split("./photos:/x", true, KS_OPERAND_LOCAL, NULL, NULL);
	check_split("sqlite:///srv/k/m.db:/x", true, KS_OPERAND_VOLUME, "sqlite:///srv/k/m.db",
		    "/x");
	check_split("redis://h:6379/1:/x:/y", true, KS_OPERAND_VOLUME, "redis://h:6379/1", "/x:/y");
	check_split("postgres://u@[::1]:5432/k:/x", true, KS_OPERAND_VOLUME,
		    "postgres://u@[::1]:5432/k", "/x");
	check_split("photos://x", true, -EINVAL, NULL, NULL);
	check_split("a:b/c", true, -EINVAL, NULL, NULL);
	check_split("s3://b/p", true, -EINVAL, NULL, NULL);
	check_split("file:///b/p", true, -EINVAL, NULL, NULL);
	check_split("sqlite:///srv/k/m.db", true, -EINVAL, NULL, NULL);
	check_split("-", true, KS_OPERAND_STDIO, NULL, NULL);
	check_split("photos", true, KS_OPERAND_LOCAL, NULL, NULL);
	check_split("/a:/b", true, KS_OPERAND_LOCAL, NULL, NULL);
	check_split("./a:b", true, KS_OPERAND_LOCAL, NULL, NULL);
	check_split("sqlite:///a%3A/m.db:/x", true, KS_OPERAND_VOLUME, "sqlite:///a%3A/m.db", "/x");
	check_split("photos:/", true, KS_OPERAND_VOLUME, "photos", "/");
}

KS_TEST(splits_operands_of_the_others)
{
	check_split("photos", false, KS_OPERAND_VOLUME, "photos", NULL);
	check_split("photos:/2024", false, KS_OPERAND_VOLUME, "photos", "/2024");
	check_split("./photos.db", false, KS_OPERAND_VOLUME, "./photos.db", NULL);
	check_split("/srv/k/meta.db:/x", false, KS_OPERAND_VOLUME, "/srv/k/meta.db", "/x");
	check_split("sqlite:///srv/k/m.db", false, KS_OPERAND_VOLUME, "sqlite:///srv/k/m.db", NULL);
	check_split("photos:x", false, -EINVAL, NULL, NULL);
	check_split("s3://b/p", false, -EINVAL, NULL, NULL);
	check_split("sqlite://srv/m.db", false, -EINVAL, NULL, NULL);
	check_split("", false, KS_OPERAND_VOLUME, "", NULL);
}

KS_TEST(hints_show_the_right_way)
{
	char *v;
	char *p;

	ks_fail_quiet(true);
	ks_check_eq(ks_volume_split("photos:x", true, &v, &p), -EINVAL);
	ks_check_str(ks_fail_hint_text(), "photos:/x, or ./photos:x for a local file");
	ks_check_eq(ks_volume_split("photos://x", true, &v, &p), -EINVAL);
	ks_check(strstr(ks_fail_text(), "unknown scheme 'photos'") != NULL);
	ks_check_str(ks_fail_hint_text(), "did you mean photos:/x ?");
	ks_check_eq(ks_volume_split("s3://b/p", false, &v, &p), -EINVAL);
	ks_check(strstr(ks_fail_text(), "that is a data location, not a volume") != NULL);
	ks_fail_quiet(false);
}

KS_TEST(names_have_rules)
{
	ks_check(ks_volume_name_ok("photos"));
	ks_check(ks_volume_name_ok("a"));
	ks_check(ks_volume_name_ok("1.a_b-C"));
	ks_check(!ks_volume_name_ok(""));
	ks_check(!ks_volume_name_ok("default"));
	ks_check(!ks_volume_name_ok(".a"));
	ks_check(!ks_volume_name_ok("-a"));
	ks_check(!ks_volume_name_ok("a/b"));
	ks_check(!ks_volume_name_ok("a:b"));
	ks_check(!ks_volume_name_ok("a b"));
	ks_check(ks_volume_name_ok(
		"a23456789012345678901234567890123456789012345678901234567890123"));
	ks_check(!ks_volume_name_ok(
		"a234567890123456789012345678901234567890123456789012345678901234"));
}

static void check_redact(const char *url, const char *want)
{
	KS_AUTO(ks_freep) char *shown = ks_url_redact(url);

	ks_check_str(shown, want);
	ks_check_eq(ks_url_has_secret(url), strcmp(url, want) != 0);
}

KS_TEST(secrets_are_not_shown)
{
	check_redact("postgres://u:pw@h/k", "postgres://u:***@h/k");
	check_redact("postgres://u:p@w:x@h/k", "postgres://u:***@h/k");
	check_redact("postgres://u@h:5432/k", "postgres://u@h:5432/k");
	check_redact("postgres://u@h/k?password=pw&x=1", "postgres://u@h/k?password=***&x=1");
	check_redact("postgres://u:a@h/k?x=1&PASSWORD=pw", "postgres://u:***@h/k?x=1&PASSWORD=***");
	check_redact("redis://:pw@h:6379/1", "redis://:***@h:6379/1");
	check_redact("redis://h:6379/1", "redis://h:6379/1");
	check_redact("sqlite:///srv/a:b@c/m.db", "sqlite:///srv/a:b@c/m.db");
	check_redact("photos", "photos");
	check_redact("postgres://u:@h/k", "postgres://u:@h/k");
}

KS_TEST(paths_travel_in_urls)
{
	static const char *const paths[] = { "/a", "/a b/%/?#:x", "/\xc3\xbc/\xff\n" };

	for (size_t i = 0; i < KS_ARRAY_SIZE(paths); i++) {
		KS_AUTO(ks_freep) char *url = ks_url_of_path("sqlite", paths[i]);
		KS_AUTO(ks_freep) char *back = url ? ks_url_to_path("sqlite", url) : NULL;

		ks_check(url && !strpbrk(url + 9, " ?#\n:"));
		ks_check_str(back, paths[i]);
	}
	ks_check(ks_url_to_path("sqlite", "file:///a") == NULL);
}

/* ---- with files ---- */

static char *place(const char *name)
{
	char *path = ks_asprintf("%s/%s", ks_tap_dir(), name);

	for (char *p = path + strlen(ks_tap_dir()) + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		mkdir(path, 0755);
		*p = '/';
	}
	return path;
}

static void put(const char *name, const char *text, mode_t mode)
{
	KS_AUTO(ks_freep) char *path = place(name);
	FILE *f = fopen(path, "w");

	ks_check(f != NULL);
	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

static void resolve(const struct ks_volume_find *find, const char *operand, int want,
		    const char *url)
{
	struct ks_volume_ref ref = { 0 };

	ks_check_eq(ks_volume_resolve(&ref, operand, find), want);
	if (want == 0)
		ks_check_str(ref.meta_url, url);
	ks_volume_ref_clear(&ref);
}

KS_TEST(resolves_names_in_order)
{
	struct ks_volume_find find = { .root = ks_tap_dir() };
	KS_AUTO(ks_freep) char *user = place("home/.local/share/kiseki/both/meta.db");
	KS_AUTO(ks_freep) char *user_url = ks_asprintf("sqlite://%s", user);
	KS_AUTO(ks_freep) char *sys = place("var/lib/kiseki/machine/meta.db");
	KS_AUTO(ks_freep) char *sys_url = ks_asprintf("sqlite://%s", sys);

	ks_fail_quiet(true);
	unsetenv("KISEKI_CONFIG");
	unsetenv("KISEKI_VOLUME");
	put("home/.local/share/kiseki/both/meta.db", "x", 0600);
	put("var/lib/kiseki/both/meta.db", "x", 0600);
	put("var/lib/kiseki/machine/meta.db", "x", 0600);
	resolve(&find, "both", 0, user_url);
	resolve(&find, "machine", 0, sys_url);
	resolve(&find, "foo", -ENOENT, NULL);
	ks_check(strstr(ks_fail_hint_text(), "both") && strstr(ks_fail_hint_text(), "machine"));
	resolve(&find, "fo o", -EINVAL, NULL);
	resolve(&find, NULL, -EINVAL, NULL);
	put("etc/kiseki/conf.d/10.conf",
	    "[both]\nmeta = sqlite:///conf.d.db\n[only]\nmeta=/only.db\n", 0644);
	resolve(&find, "both", 0, "sqlite:///conf.d.db");
	resolve(&find, "only", 0, "sqlite:///only.db");
	put("etc/kiseki/kiseki.conf",
	    "[default]\nvolume = machine\n[both]\nmeta = sqlite:///etc.db\n", 0644);
	resolve(&find, "both", 0, "sqlite:///etc.db");
	resolve(&find, NULL, 0, sys_url);
	put("home/.config/kiseki/kiseki.conf", "[both]\nmeta = sqlite3:///user%20x.db\n", 0644);
	resolve(&find, "both", 0, "sqlite:///user x.db");
	setenv("KISEKI_VOLUME", "only", 1);
	resolve(&find, NULL, 0, "sqlite:///only.db");
	resolve(&find, "", 0, "sqlite:///only.db");
	find.no_default = true;
	resolve(&find, NULL, -EINVAL, NULL);
	unsetenv("KISEKI_VOLUME");
	ks_fail_quiet(false);
}

KS_TEST(passwords_come_from_private_places_only)
{
	struct ks_volume_find find = { .root = ks_tap_dir() };
	KS_AUTO(ks_freep) char *conf = place("secret.conf");
	struct ks_volume_ref ref = { 0 };

	ks_fail_quiet(true);
	resolve(&find, "postgres://u:pw@h/k", -EINVAL, NULL);
	ks_check(strstr(ks_fail_text(), "visible to other users") && !strstr(ks_fail_text(), "pw"));
	setenv("KISEKI_VOLUME", "postgres://u:pw@h/k", 1);
	ks_check_ok(ks_volume_resolve(&ref, NULL, &find));
	ks_check_str(ref.meta_url, "postgres://u:pw@h/k");
	ks_check_str(ref.shown_url, "postgres://u:***@h/k");
	ks_check_str(ref.spec, "postgres://u:***@h/k");
	ks_volume_ref_clear(&ref);
	unsetenv("KISEKI_VOLUME");
	find.config = conf;
	put("secret.conf", "[v]\nmeta = postgres://u:pw@h/k\n", 0644);
	resolve(&find, "v", -EMEDIUMTYPE, NULL);
	ks_check(!strstr(ks_fail_text(), "pw"));
	put("secret.conf", "[v]\nmeta = postgres://u:pw@h/k\n", 0600);
	resolve(&find, "v", 0, "postgres://u:pw@h/k");
	ks_fail_quiet(false);
}

KS_TEST(bad_files_are_named)
{
	KS_AUTO(ks_freep) char *conf = place("bad.conf");
	KS_AUTO(ks_freep) char *none = place("none.conf");
	struct ks_volume_find find = { .root = ks_tap_dir(), .config = conf };

	ks_fail_quiet(true);
	put("bad.conf", "[v]\nnonsense\n", 0644);
	resolve(&find, "v", -EMEDIUMTYPE, NULL);
	ks_check(strstr(ks_fail_text(), "bad.conf:2") != NULL);
	find.config = none;
	resolve(&find, "v", -EMEDIUMTYPE, NULL);
	ks_check(strstr(ks_fail_text(), "none.conf") != NULL);
	ks_fail_quiet(false);
}

static int collect(void *arg, const char *key, const char *value)
{
	struct ks_buf *b = arg;

	if (strcmp(value, "bad") == 0)
		return ks_fail(-EINVAL, "'%s': not good", key);
	return ks_buf_printf(b, "%s=%s;", key, value);
}

KS_TEST(defaults_come_weakest_first)
{
	KS_AUTO(ks_freep) char *conf = place("defaults.conf");
	struct ks_volume_find find = { .root = ks_tap_dir(), .config = conf };
	KS_AUTO(ks_buf_clear) struct ks_buf b = { 0 };
	const char *text;

	put("defaults.conf", "[v]\nsize=2\nmeta=/x.db\n[default]\nvolume=v\nsize=1\n[w]\nsize=3\n",
	    0644);
	ks_check_ok(ks_volume_config(&find, "v", collect, &b));
	ks_check_ok(ks_buf_cstr(&b, &text));
	ks_check_str(text, "size=1;size=2;");
	put("defaults.conf", "[default]\n\nsize = bad\n", 0644);
	ks_fail_quiet(true);
	ks_check_eq(ks_volume_config(&find, "v", collect, &b), -EMEDIUMTYPE);
	ks_check(strstr(ks_fail_text(), "defaults.conf:3: 'size': not good") != NULL);
	ks_fail_quiet(false);
}

KS_TEST(a_path_is_a_database_file)
{
	struct ks_volume_find find = { .root = ks_tap_dir() };
	KS_AUTO(ks_freep) char *dir = place("d/meta.db");
	KS_AUTO(ks_freep) char *link = place("link.db");
	KS_AUTO(ks_freep) char *url = ks_asprintf("sqlite://%s", dir);

	put("d/meta.db", "x", 0600);
	ks_check(symlink(dir, link) == 0);
	resolve(&find, dir, 0, url);
	resolve(&find, link, 0, url);
	ks_fail_quiet(true);
	*strrchr(dir, '/') = '\0';
	resolve(&find, dir, -ENOENT, NULL);
	ks_check(strstr(ks_fail_hint_text(), "/d/meta.db") != NULL);
	resolve(&find, "/no/such/dir/x.db", -ENOENT, NULL);
	ks_fail_quiet(false);
}

KS_TEST_MAIN()
