/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/ini.h"
#include "base/tap.h"

static int collect(void *arg, const char *section, const char *key, const char *value, int line)
{
	if (strcmp(key, "refused") == 0)
		return -EINVAL;
	if (strcmp(key, "raised") == 0)
		return ks_fail(-EPERM, "my own text");
	return ks_buf_printf(arg, "%d %s.%s=<%s>\n", line, section, key, value);
}

/* Reads @text and compares what the callback saw. */
static int read_text(const char *text, size_t n, struct ks_buf *out)
{
	FILE *f = fmemopen(NULL, n + 1, "w+");
	bool old;
	int r;

	ks_check(f);
	ks_check_eq(fwrite(text, 1, n, f), n);
	rewind(f);
	old = ks_fail_quiet(true);
	r = ks_ini_read_stream(f, "x.conf", collect, out);
	ks_fail_quiet(old);
	fclose(f);
	return r;
}

KS_TEST(pairs_sections_and_comments)
{
	static const char text[] = "\xef\xbb\xbf"
				   "first=1\n# comment\n; comment\n\n"
				   "[ a b ]\n  key one = value # not a comment \r\n"
				   "quoted = \"  x \"\nempty =\nurl=s3://h/b?a=b\n[c]\nlast = 9";
	struct ks_buf out = { 0 };
	const char *s;

	ks_check_ok(read_text(text, sizeof(text) - 1, &out));
	ks_check_ok(ks_buf_cstr(&out, &s));
	ks_check_str(s, "1 .first=<1>\n6 a b.key one=<value # not a comment>\n7 a b.quoted=<  x >\n"
			"8 a b.empty=<>\n9 a b.url=<s3://h/b?a=b>\n11 c.last=<9>\n");
	ks_buf_clear(&out);
}

KS_TEST(errors_name_the_line)
{
	static const struct {
		const char *text;
		const char *want;
	} rows[] = {
		{ "a=1\n[b\n", "x.conf:2: a section needs its closing ']': Invalid argument" },
		{ "[ ]\n", "x.conf:1: a section needs a name: Invalid argument" },
		{ "\n\nword\n",
		  "x.conf:3: expected 'key = value', '[section]' or a comment: Invalid argument" },
		{ " = 1\n", "x.conf:1: a key is missing before '=': Invalid argument" },
		{ "refused = secret\n", "x.conf:1: key 'refused': Invalid argument" },
	};
	struct ks_buf out = { 0 };

	for (size_t i = 0; i < KS_ARRAY_SIZE(rows); i++) {
		ks_check_eq(read_text(rows[i].text, strlen(rows[i].text), &out), -EINVAL);
		ks_check_str(ks_fail_text(), rows[i].want);
	}
	ks_check_eq(read_text("a=\0b\n", 5, &out), -EINVAL);
	ks_check_eq(read_text("raised=1\n", 9, &out), -EPERM);
	ks_check_str(ks_fail_text(), "my own text: Operation not permitted");
	ks_buf_clear(&out);
}

KS_TEST(a_line_may_be_long)
{
	size_t n = 3 * KS_MIB;
	char *text = malloc(n + 3);
	struct ks_buf out = { 0 };

	memcpy(text, "k=", 2);
	memset(text + 2, 'v', n);
	text[n + 2] = '\n';
	ks_check_ok(read_text(text, n + 3, &out));
	ks_check_eq(out.n, strlen("1 .k=<>\n") + n);
	free(text);
	ks_buf_clear(&out);
}

KS_TEST(a_missing_file_is_the_callers_matter)
{
	struct ks_buf out = { 0 };
	char path[300];

	snprintf(path, sizeof(path), "%s/none", ks_tap_dir());
	ks_check_eq(ks_ini_read(path, collect, &out), -ENOENT);
	ks_check_str(ks_fail_text(), "");
	ks_fail_quiet(true);
	ks_check_eq(ks_ini_read(ks_tap_dir(), collect, &out), -EISDIR);
	ks_fail_quiet(false);
	ks_buf_clear(&out);
}

KS_TEST_MAIN()
