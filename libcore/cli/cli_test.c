/* SPDX-License-Identifier: Apache-2.0 */
/* cli_test.c: option tables, exit codes, JSON names, the progress line. Command lines as a whole are tried in children. */
#include "base/buf.h"
#include "base/log.h"
#include "base/tap.h"
#include "cli/cmd.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/state.h"
#include <fcntl.h>
#include <sys/wait.h>

static struct {
	bool flag;
	int count;
	const char *text;
	uint64_t size, n;
	int64_t ns;
	int which;
} got;

static const char *const names[] = { "red", "green", NULL };

static const char *call(const char *value)
{
	got.text = value ? value : "(none)";
	return value && strcmp(value, "bad") == 0 ? "no good" : NULL;
}

static const char *const call_names[] = { "one", "two", NULL };

static const struct ks_opt opts[] = {
	KS_OPT_GROUP("Things"),
	KS_OPT_FLAG('f', "flag", &got.flag, "a flag"),
	KS_OPT_COUNTER('c', "count", &got.count, "a counter"),
	KS_OPT_STRING('s', "string", "TEXT", &got.text, "a string"),
	KS_OPT_SIZE(0, "size", &got.size, "a size"),
	{ .kind = KS_OPT_K_SIZE,
	  .name = "limit",
	  .arg = "SIZE",
	  .value = &got.size,
	  .min = 10,
	  .max = 20,
	  .flags = KS_OPT_OFF,
	  .help = "x" },
	KS_OPT_DURATION('d', "duration", &got.ns, "a duration"),
	KS_OPT_INTEGER('n', "number", 1, 9, &got.n, "a number"),
	KS_OPT_ENUM(0, "colour", "NAME", names, &got.which, "one of some"),
	{ .kind = KS_OPT_K_CALL,
	  .letter = 'k',
	  .name = "call",
	  .arg = "X",
	  .call = call,
	  .names = call_names,
	  .flags = KS_OPT_OPTIONAL | KS_OPT_LIST,
	  .help = "called" },
	{ .kind = KS_OPT_K_FLAG,
	  .name = "destroy",
	  .value = &got.flag,
	  .flags = KS_OPT_NOCONFIG,
	  .help = "never from a file" },
	KS_OPT_END,
};

static const struct ks_cmd cmd = {
	.name = "kiseki-test",
	.usage = "[OPTIONS] A [B]",
	.about = "Try the table.",
	.examples = "kiseki-test a",
	.opts = opts,
	.common = KS_CMD_QUIET | KS_CMD_VERBOSE | KS_CMD_JSON | KS_CMD_PROGRESS | KS_CMD_CONFIG,
	.max_args = 3,
};

static int parse(char **argv, char ***args)
{
	int argc = 0;

	while (argv[argc])
		argc++;
	memset(&got, 0, sizeof(got));
	memset(&ks_common, 0, sizeof(ks_common));
	free(ks_cli.args);
	memset(&ks_cli, 0, sizeof(ks_cli));
	return ks_cmd_parse(&cmd, argc, argv, args);
}

#define ARGV(...) ((char *[]){ (char[]){ "t" }, __VA_ARGS__, NULL })
#define W(s) ((char[]){ s })

KS_TEST(reads_every_kind_of_value)
{
	char **args;
	int n = parse(ARGV(W("-f"), W("-cc"), W("-sabc"), W("--size=4k"), W("--duration"), W("2m"),
			   W("-n7"), W("--colour=green"), W("--call")),
		      &args);

	ks_check_eq(n, 0);
	ks_check(got.flag);
	ks_check_eq(got.count, 2);
	ks_check_eq(got.size, 4096);
	ks_check_eq(got.ns, 120000000000ll);
	ks_check_eq(got.n, 7);
	ks_check_eq(got.which, 1);
	ks_check_str(got.text, "(none)");
}

KS_TEST(options_stand_behind_operands_too)
{
	char **args;
	int n;

	setenv("POSIXLY_CORRECT", "1", 1);
	n = parse(ARGV(W("one"), W("-f"), W("two"), W("--"), W("-c")), &args);
	unsetenv("POSIXLY_CORRECT");
	ks_check_eq(n, 3);
	ks_check_str(args[0], "one");
	ks_check_str(args[1], "two");
	ks_check_str(args[2], "-c");
	ks_check(got.flag);
	ks_check_eq(got.count, 0);
	ks_check(ks_cmd_given("flag"));
	ks_check(!ks_cmd_given("count"));
}

KS_TEST(what_was_given_with_which_value)
{
	const char *value;
	char **args;

	parse(ARGV(W("--size=4k"), W("-f"), W("--size=8k")), &args);
	for (const struct ks_opt *o = opts; o->kind != KS_OPT_K_END; o++) {
		bool given = ks_cmd_given_value(o, &value);

		ks_check_eq(given,
			    o->name && (!strcmp(o->name, "size") || !strcmp(o->name, "flag")));
		if (given && o->value == &got.size)
			ks_check_str(value, "8k");
		else if (given)
			ks_check(!value);
	}
}

/* Runs the parser in a child; its exit status, its output in @out. */
static int in_child(char **argv, int which_fd, char *out, size_t size)
{
	int fds[2];
	size_t n = 0;
	ssize_t k;
	int status;
	pid_t pid;

	ks_check(pipe(fds) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		char **args;

		dup2(open("/dev/null", O_WRONLY), which_fd == 1 ? 2 : 1);
		dup2(fds[1], which_fd);
		parse(argv, &args);
		_exit(0);
	}
	close(fds[1]);
	while ((k = read(fds[0], out + n, size - 1 - n)) > 0)
		n += (size_t)k;
	out[n] = '\0';
	close(fds[0]);
	ks_check(waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

KS_TEST(mistakes_name_the_culprit)
{
	static const struct {
		const char *word, *says;
	} bad[] = {
		{ "--bogus", "'--bogus'" },
		{ "--strng=x", "did you mean '--string'" },
		{ "-z", "'-z'" },
		{ "--string", "needs a value" },
		{ "--flag=x", "takes no value" },
		{ "--size=4q", "is not a size" },
		{ "--limit=9", "out of range" },
		{ "--number=0", "out of range" },
		{ "--number=x", "whole number" },
		{ "--duration=4q", "is not a duration" },
		{ "--colour=blue", "red, green" },
		{ "--call=bad", "no good" },
		{ "--progress=json", "needs --json" },
	};
	char out[4096];

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		KS_AUTO(ks_freep) char *word = strdup(bad[i].word);

		ks_check_eq(in_child(ARGV(word), 2, out, sizeof(out)), 64);
		ks_check(strstr(out, bad[i].says) != NULL);
		ks_check(strstr(out, "--help") != NULL);
		ks_check_eq(in_child(ARGV(word), 1, out, sizeof(out)), 64);
		ks_check_str(out, "");
	}
	ks_check_eq(in_child(ARGV(W("1"), W("2"), W("3"), W("four")), 2, out, sizeof(out)), 64);
	ks_check(strstr(out, "'four'") != NULL);
}

KS_TEST(help_is_narrow_and_complete)
{
	char out[8192];
	char *save = NULL;

	ks_check_eq(in_child(ARGV(W("--help")), 1, out, sizeof(out)), 0);
	ks_check(strstr(out, "Examples:") && strstr(out, "Things:") && strstr(out, "--call[=X]"));
	for (char *line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		ks_check(strlen(line) <= 80);
	ks_check_eq(in_child(ARGV(W("--version")), 1, out, sizeof(out)), 0);
	ks_check_str(out, "kiseki-test (kiseki) " KS_VERSION "\n");
	ks_check_eq(in_child(ARGV(W("--list-options")), 1, out, sizeof(out)), 0);
	ks_check(strstr(out, "-s\t--string\tTEXT\ta string\n") != NULL);
	ks_check(strstr(out, "\t--colour\tred|green\t") != NULL);
	ks_check(strstr(out, "\t[one,two]\t") != NULL);
}

KS_TEST(files_give_defaults_only)
{
	char **args;

	parse(ARGV(W("--size=1k")), &args);
	ks_check_ok(ks_cmd_default(NULL, "size", "2k"));
	ks_check_eq(got.size, 1024);
	ks_check_ok(ks_cmd_default(NULL, "number", "3"));
	ks_check_ok(ks_cmd_default(NULL, "number", "4"));
	ks_check_eq(got.n, 4);
	ks_check_ok(ks_cmd_default(NULL, "flag", "yes"));
	ks_check(got.flag);
	ks_check_ok(ks_cmd_default(NULL, "flag", "off"));
	ks_check(!got.flag);
	ks_check_ok(ks_cmd_default(NULL, "destroy", "yes"));
	ks_check(!got.flag);
	ks_check_ok(ks_cmd_default(NULL, "no-such-thing", "1"));
	ks_check_eq(ks_cmd_default(NULL, "flag", "perhaps"), -EINVAL);
	ks_check_eq(ks_cmd_default(NULL, "number", "99"), -EINVAL);
}

KS_TEST(the_environment_is_weaker_than_the_command_line)
{
	char **args;

	setenv("KISEKI_PROGRESS", "never", 1);
	parse(ARGV(W("x")), &args);
	ks_check_eq(ks_common.progress, KS_PROGRESS_NEVER);
	parse(ARGV(W("--progress=always")), &args);
	ks_check_eq(ks_common.progress, KS_PROGRESS_ALWAYS);
	ks_check_ok(ks_cmd_default(NULL, "progress", "never"));
	ks_check_eq(ks_common.progress, KS_PROGRESS_ALWAYS);
	unsetenv("KISEKI_PROGRESS");
}

KS_TEST(applies_one_word)
{
	ks_check_ok(ks_opt_apply(opts, "duration", "5s"));
	ks_check_eq(got.ns, 5000000000ll);
	ks_check_eq(ks_opt_apply(opts, "duratoin", "5s"), -ENOENT);
	ks_check_eq(ks_opt_apply(opts, "duration", "x"), -EINVAL);
	ks_check_eq(ks_opt_apply(opts, "count", "x"), -EINVAL);
	ks_check_str(ks_opt_nearest(opts, "duratoin"), "duration");
	ks_check_str(ks_opt_nearest(opts, "colr"), "colour");
	ks_check_str(ks_opt_nearest(opts, "zzzzzz"), NULL);
}

KS_TEST(typos_are_near)
{
	ks_check_eq(ks_typo_distance("fcsk", "fsck"), 1);
	ks_check_eq(ks_typo_distance("formt", "format"), 1);
	ks_check(ks_typo_distance("ls", "cp") < 0);
	ks_check(ks_typo_distance("", "cp") < 0);
	ks_check(ks_typo_distance("umount", "mount") >= 0);
}

KS_TEST(exit_codes_have_names_and_ranks)
{
	ks_check_eq(ks_exit_of_errno(-ENOENT), 66);
	ks_check_eq(ks_exit_of_errno(-EACCES), 77);
	ks_check_eq(ks_exit_of_errno(-ENOSPC), 74);
	ks_check_eq(ks_exit_of_errno(-EBADMSG), 65);
	ks_check_eq(ks_exit_of_errno(-EEXIST), 73);
	ks_check_eq(ks_exit_of_errno(-EBUSY), 75);
	ks_check_eq(ks_exit_of_errno(-EPROTO), 76);
	ks_check_eq(ks_exit_of_errno(-EMEDIUMTYPE), 78);
	ks_check_eq(ks_exit_of_errno(-EDOM), 1);
	ks_check_eq(ks_exit_of_errno(0), 0);
	ks_check_str(ks_exit_name(3), "PARTIAL");
	ks_check_str(ks_exit_name(1), "FAILURE");
	ks_check_eq(ks_exit_of_helper(0), 0);
	ks_check_eq(ks_exit_of_helper(KS_EXIT_CONFIG), 1);
	ks_check_eq(ks_exit_of_helper(KS_EXIT_OSERR), 2);
	ks_check_eq(ks_exit_of_helper(KS_EXIT_SIGTERM), 8);
	ks_check_eq(ks_exit_of_helper(KS_EXIT_TEMPFAIL), 32);
	ks_check_eq(ks_exit_worse(3, 66), 66);
	ks_check_eq(ks_exit_worse(66, 3), 66);
	ks_check_eq(ks_exit_worse(4, 5), 5);
	ks_check_eq(ks_exit_worse(74, 130), 130);
	ks_check_eq(ks_exit_worse(0, 4), 4);
}

static void check_name(const char *bytes, size_t n, const char *path, const char *b64)
{
	json_t *j = json_object();
	const char *code;

	ks_check_ok(ks_json_name(j, "path", bytes, n));
	ks_check_str(json_string_value(json_object_get(j, "path")), path);
	code = json_string_value(json_object_get(j, "path_b64"));
	ks_check_str(code, b64);
	json_decref(j);
}

KS_TEST(names_that_are_not_utf8_keep_their_bytes)
{
	check_name("plain", 5, "plain", NULL);
	check_name("\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", 9,
		   "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", NULL);
	check_name("a\xff", 2, "a\xef\xbf\xbd", "Yf8=");
	check_name("\xff", 1, "\xef\xbf\xbd", "/w==");
	check_name("\xff\xfe\xfd", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "//79");
	/* Overlong, a surrogate, past the end of Unicode, cut short. */
	check_name("\xc0\x80", 2, "\xef\xbf\xbd\xef\xbf\xbd", "wIA=");
	check_name("\xed\xa0\x80", 3, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "7aCA");
	check_name("\xf4\x90\x80\x80", 4, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
		   "9JCAgA==");
	check_name("x\xe2\x82", 3, "x\xef\xbf\xbd\xef\xbf\xbd", "eOKC");
	check_name("", 0, "", NULL);
}

KS_TEST(a_list_of_names_keeps_their_bytes)
{
	json_t *j = json_object();
	json_t *b64;

	ks_check_ok(ks_json_add_name(j, "p", "a", 1));
	ks_check_ok(ks_json_add_name(j, "p", "b", 1));
	ks_check(!json_object_get(j, "p_b64"));
	ks_check_ok(ks_json_add_name(j, "p", "\xff", 1));
	ks_check_ok(ks_json_add_name(j, "p", "d", 1));
	b64 = json_object_get(j, "p_b64");
	ks_check_eq(json_array_size(json_object_get(j, "p")), 4);
	ks_check_eq(json_array_size(b64), 4);
	ks_check(json_is_null(json_array_get(b64, 0)) && json_is_null(json_array_get(b64, 1)));
	ks_check_str(json_string_value(json_array_get(b64, 2)), "/w==");
	ks_check(json_is_null(json_array_get(b64, 3)));
	json_decref(j);
}

KS_TEST(a_progress_line_fits)
{
	struct ks_progress_now now = { .done_items = 12, .done_bytes = 512 * KS_MIB };
	char line[512];

	ks_progress_line(line, sizeof(line), 0, "photos", &now, 10 * KS_MIB, 3661000000000ll);
	ks_check_str(line, "photos  12 files  512 MiB  10 MiB/s  1 h 1 min");
	now.total_bytes = KS_GIB;
	now.total_items = 24;
	ks_progress_line(line, sizeof(line), 0, "photos", &now, 10 * KS_MIB, 0);
	ks_check_str(line, "photos  [==========          ]  50 %  12/24 files  512 MiB of 1 GiB  "
			   "10 MiB/s  51 s");
	for (int width = 1; width < 100; width++) {
		ks_progress_line(line, sizeof(line), width, "photos", &now, 1, 0);
		ks_check(strlen(line) <= (size_t)width);
	}
	ks_progress_line(line, 10, 0, "a label that is longer than the room", &now, 1, 0);
	ks_check(strlen(line) < 10);
}

KS_TEST(users_and_groups_by_name_or_number)
{
	static const char *const none[] = {
		"", "-1", "1x", " 1", "4294967295", "99999999999999999999", "nobody-has-this-name"
	};

	ks_check_eq(ks_cmd_user("0"), 0);
	ks_check_eq(ks_cmd_user("root"), 0);
	ks_check_eq(ks_cmd_group("0"), 0);
	ks_check_eq(ks_cmd_group("root"), 0);
	ks_check_eq(ks_cmd_user("4294967294"), 4294967294);
	for (size_t i = 0; i < KS_ARRAY_SIZE(none); i++) {
		ks_check_eq(ks_cmd_user(none[i]), -1);
		ks_check_eq(ks_cmd_group(none[i]), -1);
	}
}

KS_TEST_MAIN()
