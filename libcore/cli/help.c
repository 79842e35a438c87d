/* SPDX-License-Identifier: Apache-2.0 */
/* help.c: --help, --usage and --list-options, from the option table. Nothing is wider than 80 columns. */
#include "cli/state.h"
#include <stdlib.h>
#include <string.h>

#define WIDTH 80
#define INDENT 28 /* where the help texts start */

static void usage_lines(FILE *f)
{
	const char *name = ks_cmd_name();
	const char *p = ks_cli.cmd->usage;
	const char *lead = "Usage:";

	while (*p) {
		size_t n = strcspn(p, "\n");

		fprintf(f, "%s %s %.*s\n", lead, name, (int)n, p);
		lead = "      ";
		p += n + (p[n] == '\n');
	}
}

/* Prints @text from column @at on, broken between words; ends the line. */
static void wrap(FILE *f, const char *text, int at)
{
	int column = at;

	while (*text) {
		int n = (int)strcspn(text, " ");

		if (column > INDENT && column + 1 + n > WIDTH) {
			fprintf(f, "\n%*s", INDENT, "");
			column = INDENT;
		} else if (column > INDENT) {
			putc(' ', f);
			column++;
		}
		fprintf(f, "%.*s", n, text);
		column += n;
		text += n + (text[n] == ' ');
	}
	putc('\n', f);
}

static void option_line(FILE *f, const struct ks_opt *o)
{
	char left[128];
	int n;

	if (o->letter && o->name)
		n = snprintf(left, sizeof(left), "  -%c, --%s", o->letter, o->name);
	else if (o->letter)
		n = snprintf(left, sizeof(left), "  -%c", o->letter);
	else
		n = snprintf(left, sizeof(left), "      --%s", o->name);
	if (o->arg)
		n += snprintf(left + n, sizeof(left) - (size_t)n, "%s%s%s",
			      o->flags & KS_OPT_OPTIONAL ? "[" : "", o->name ? "=" : " ", o->arg);
	if (o->arg && (o->flags & KS_OPT_OPTIONAL))
		n += snprintf(left + n, sizeof(left) - (size_t)n, "]");
	fputs(left, f);
	if (n > INDENT - 2)
		fprintf(f, "\n%*s", INDENT, "");
	else
		fprintf(f, "%*s", INDENT - n, "");
	wrap(f, o->help, INDENT);
}

void ks_cmd_short_usage(FILE *f)
{
	usage_lines(f);
	fprintf(f, "Try '%s --help' for more information.\n", ks_cmd_name());
}

void ks_cmd_help(FILE *f)
{
	const struct ks_cmd *cmd = ks_cli.cmd;
	bool headed = false;

	usage_lines(f);
	fprintf(f, "%s\n", cmd->about);
	if (cmd->operands)
		fprintf(f, "\n%s\n", cmd->operands);
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];

		if (o->flags & KS_OPT_HIDDEN)
			continue;
		if (o->kind == KS_OPT_K_GROUP) {
			fprintf(f, "\n%s:\n", o->help);
			headed = true;
			continue;
		}
		if (i == ks_cli.ncommon && i > 0)
			fputs("\nCommon options:\n", f);
		else if (!headed)
			fputs("\nOptions:\n", f);
		headed = true;
		option_line(f, o);
	}
	if (cmd->examples) {
		fputs("\nExamples:\n", f);
		for (const char *p = cmd->examples; *p;) {
			size_t n = strcspn(p, "\n");

			fprintf(f, "  %.*s\n", (int)n, p);
			p += n + (p[n] == '\n');
		}
	}
	fprintf(f, "\nManual: man %s; volume names and exit codes: man 7 kiseki\n", ks_cmd_name());
}

/* What may stand as the value: "always|never", "mode,owner" for a list of them, else its name; in [] when it may be left out. */
static void list_value(FILE *f, const struct ks_opt *o)
{
	const char *between = o->flags & KS_OPT_LIST ? "," : "|";

	if (!o->arg)
		return;
	if (o->flags & KS_OPT_OPTIONAL)
		putc('[', f);
	for (int k = 0; o->names && o->names[k]; k++)
		fprintf(f, "%s%s", k ? between : "", o->names[k]);
	if (!o->names)
		fputs(o->arg, f);
	if (o->flags & KS_OPT_OPTIONAL)
		putc(']', f);
}

/* One line per option, tab separated: short, long, value, help. Empty where there is none. */
void ks_cmd_list_options(FILE *f)
{
	for (int i = 0; i < ks_cli.nopts; i++) {
		const struct ks_opt *o = ks_cli.opts[i];
		char letter[3] = "";

		if (o->kind == KS_OPT_K_GROUP || (o->flags & KS_OPT_HIDDEN))
			continue;
		if (o->letter)
			snprintf(letter, sizeof(letter), "-%c", o->letter);
		fprintf(f, "%s\t%s%s\t", letter, o->name ? "--" : "", o->name ? o->name : "");
		list_value(f, o);
		fprintf(f, "\t%s\n", o->help);
	}
}
