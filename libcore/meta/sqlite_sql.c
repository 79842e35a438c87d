/* SPDX-License-Identifier: Apache-2.0 */
/* sqlite_sql.c: the text of every statement, from the tables' descriptions. */
#include "meta/sqlite.h"
#include <errno.h>

/* "a.x,a.y": columns @from to @to of @t; @alias may be "". */
static int put_cols(struct ks_buf *out, enum ks_table t, const char *alias, unsigned int from,
		    unsigned int to)
{
	int r = 0;

	for (unsigned int i = from; i < to && r == 0; i++)
		r = ks_buf_printf(out, "%s%s%s%s", i > from ? "," : "", alias, *alias ? "." : "",
				  ks_tables[t].cols[i].name);
	return r;
}

/* "a.x=?1 AND a.y=?2" */
static int put_match(struct ks_buf *out, enum ks_table t, const char *alias, unsigned int n,
		     unsigned int first)
{
	int r = 0;

	for (unsigned int i = 0; i < n && r == 0; i++)
		r = ks_buf_printf(out, "%s%s%s%s=?%u", i ? " AND " : "", alias, *alias ? "." : "",
				  ks_tables[t].cols[i].name, first + i);
	return r;
}

/* "(?1,?2)" or, when it is one, "?1": SQLite gives a row of one no index. */
static int put_params(struct ks_buf *out, unsigned int first, unsigned int n)
{
	int r = n == 1 ? 0 : ks_buf_printf(out, "(");

	for (unsigned int i = 0; i < n && r == 0; i++)
		r = ks_buf_printf(out, "%s?%u", i ? "," : "", first + i);
	return r < 0 || n == 1 ? r : ks_buf_printf(out, ")");
}

static int put_get(struct ks_buf *out, enum ks_table t)
{
	const struct ks_table_desc *d = &ks_tables[t];
	int r = ks_buf_printf(out, "SELECT %s", d->nkey == d->ncol ? "1" : "");

	if (r == 0)
		r = put_cols(out, t, "", d->nkey, d->ncol);
	if (r == 0)
		r = ks_buf_printf(out, " FROM %s WHERE ", d->name);
	return r < 0 ? r : put_match(out, t, "", d->nkey, 1);
}

static int put_get_follow(struct ks_buf *out)
{
	const struct ks_table_desc *d = &ks_tables[KS_T_DENTRY];
	int r = ks_buf_printf(out, "SELECT ");

	if (r == 0)
		r = put_cols(out, KS_T_DENTRY, "d", d->nkey, d->ncol);
	if (r == 0)
		r = ks_buf_printf(out, ",");
	if (r == 0)
		r = put_cols(out, KS_T_INODE, "i", 0, ks_tables[KS_T_INODE].ncol);
	if (r == 0)
		r = ks_buf_printf(out, " FROM dentry d LEFT JOIN inode i ON i.ino=d.ino WHERE ");
	return r < 0 ? r : put_match(out, KS_T_DENTRY, "d", d->nkey, 1);
}

int ks_sqlite_sql_table(enum ks_sqlite_stmt_kind k, enum ks_table t, struct ks_buf *out)
{
	const struct ks_table_desc *d = &ks_tables[t];
	int r;

	switch (k) {
	case KS_ST_GET:
		return put_get(out, t);
	case KS_ST_GET_FOLLOW:
		return put_get_follow(out);
	case KS_ST_INSERT:
	case KS_ST_REPLACE:
		r = ks_buf_printf(out, "%s INTO %s VALUES (",
				  k == KS_ST_INSERT ? "INSERT" : "REPLACE", d->name);
		for (unsigned int i = 0; i < d->ncol && r == 0; i++)
			r = ks_buf_printf(out, "%s?%u", i ? "," : "", i + 1);
		return r < 0 ? r : ks_buf_printf(out, ")");
	case KS_ST_DEL:
		return ks_sqlite_sql_prefix(k, t, d->nkey, out);
	default:
		return -EINVAL;
	}
}

int ks_sqlite_sql_prefix(enum ks_sqlite_stmt_kind k, enum ks_table t, unsigned int nprefix,
			 struct ks_buf *out)
{
	bool del = k == KS_ST_DEL;
	int r = ks_buf_printf(out, "%s FROM %s%s", del ? "DELETE" : "SELECT 1", ks_tables[t].name,
			      nprefix ? " WHERE " : "");

	if (r == 0)
		r = put_match(out, t, "", nprefix, 1);
	return r < 0 || del ? r : ks_buf_printf(out, " LIMIT 1");
}

/* "UPDATE t SET c=c+?2 WHERE k=?1": the key's parameters come first. */
int ks_sqlite_sql_update(enum ks_table t, const struct ks_upd *u, unsigned int n,
			 struct ks_buf *out)
{
	const struct ks_table_desc *d = &ks_tables[t];
	int r = ks_buf_printf(out, "UPDATE %s SET ", d->name);

	for (unsigned int i = 0; i < n && r == 0; i++) {
		const struct ks_col *c = ks_col_at(t, u[i].col_off);
		unsigned int p = d->nkey + 1 + i;

		r = ks_buf_printf(out, "%s%s=", i ? "," : "", c->name);
		if (r < 0)
			break;
		if (u[i].op == KS_UPD_SET)
			r = ks_buf_printf(out, "?%u", p);
		else if (u[i].op == KS_UPD_MAX)
			r = ks_buf_printf(out, "max(%s,?%u)", c->name, p);
		else if (ks_col_is_unsigned(c))
			r = ks_buf_printf(out, "max(%s+?%u,0)", c->name, p);
		else
			r = ks_buf_printf(out, "%s+?%u", c->name, p);
	}
	if (r == 0)
		r = ks_buf_printf(out, " WHERE ");
	return r < 0 ? r : put_match(out, t, "", d->nkey, 1);
}

static int put_scan_from(const struct ks_scan *s, struct ks_buf *out)
{
	const struct ks_table_desc *d = &ks_tables[s->table];
	int r = ks_buf_printf(out, "SELECT ");

	if (r == 0)
		r = put_cols(out, s->table, "t", 0, d->ncol);
	if (r == 0 && (s->flags & KS_READ_FOLLOW)) {
		enum ks_table to = s->table == KS_T_DENTRY ? KS_T_INODE : KS_T_SLICE;

		r = ks_buf_printf(out, ",");
		if (r == 0)
			r = put_cols(out, to, "f", 0, ks_tables[to].ncol);
	}
	if (r == 0)
		r = ks_buf_printf(out, " FROM %s t", d->name);
	if (r < 0 || !(s->flags & KS_READ_FOLLOW))
		return r;
	return ks_buf_printf(out, "%s",
			     s->table == KS_T_DENTRY ? " LEFT JOIN inode f ON f.ino=t.ino"
						     : " LEFT JOIN slice f ON f.id=t.slice");
}

int ks_sqlite_sql_scan(const struct ks_scan *s, struct ks_buf *out)
{
	const struct ks_table_desc *d = &ks_tables[s->table];
	unsigned int n = s->nprefix + s->nafter;
	int r = put_scan_from(s, out);

	if (r == 0 && n)
		r = ks_buf_printf(out, " WHERE ");
	if (r == 0)
		r = put_match(out, s->table, "t", s->nprefix, 1);
	if (r == 0 && s->nafter) {
		bool row = s->nafter > 1;

		r = ks_buf_printf(out, "%s%s", s->nprefix ? " AND " : "", row ? "(" : "");
		if (r == 0)
			r = put_cols(out, s->table, "t", s->nprefix, n);
		if (r == 0)
			r = ks_buf_printf(out, "%s%s", row ? ")" : "", s->reverse ? "<" : ">");
		if (r == 0)
			r = put_params(out, s->nprefix + 1, s->nafter);
	}
	for (unsigned int i = s->nprefix; i < d->nkey && r == 0; i++)
		r = ks_buf_printf(out, "%st.%s%s", i == s->nprefix ? " ORDER BY " : ",",
				  d->cols[i].name, s->reverse ? " DESC" : "");
	return r < 0 ? r : ks_buf_printf(out, " LIMIT ?%u", n + 1);
}
