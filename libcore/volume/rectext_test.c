/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"
#include "base/tap.h"
#include "base/text.h"
#include "volume/rectext.h"

static struct ks_bytes str(const char *s)
{
	return (struct ks_bytes){ s, strlen(s) };
}

static void round_trip(enum ks_table t, const void *rec, const char *want)
{
	struct ks_buf b = { 0 };
	union ks_record back;
	const char *why = NULL;
	char *line;

	ks_check_ok(ks_rectext_write(&b, t, rec));
	ks_check(b.n && b.p[b.n - 1] == '\n');
	if (want) {
		ks_check_eq(b.n, strlen(want) + 1);
		ks_check_mem(b.p, want, b.n - 1);
	}
	line = malloc(b.n);
	memcpy(line, b.p, b.n);
	ks_check_ok(ks_rectext_read(t, line, b.n - 1, &back, &why));
	ks_check_eq(ks_rec_cmp(t, rec, &back, ks_tables[t].ncol), 0);
	free(line);
	ks_buf_clear(&b);
}

KS_TEST(records_as_lines)
{
	struct ks_rec_counter c = { .name = str("x"), .value = INT64_MIN };
	struct ks_rec_dentry d = { .parent = 1,
				   .hash = INT64_MAX,
				   .name = str("a\"b\\c \xc3\xa4"),
				   .ino = 16,
				   .type = 8 };
	struct ks_rec_block b = { .slice = 7, .idx = 1, .size = UINT32_MAX, .sums = str("abcd") };

	round_trip(KS_T_COUNTER, &c, "{\"name\":\"x\",\"value\":-9223372036854775808}");
	round_trip(KS_T_DENTRY, &d,
		   "{\"parent\":1,\"hash\":9223372036854775807,\"name\":\"a\\\"b\\\\c \xc3\xa4\","
		   "\"ino\":16,\"type\":8}");
	d.name = str("not\xff utf8");
	round_trip(KS_T_DENTRY, &d,
		   "{\"parent\":1,\"hash\":9223372036854775807,\"name_b64\":\"bm90/yB1dGY4\","
		   "\"ino\":16,\"type\":8}");
	d.name = str("new\nline");
	round_trip(KS_T_DENTRY, &d, NULL);
	round_trip(KS_T_BLOCK, &b,
		   "{\"slice\":7,\"idx\":1,\"size\":4294967295,\"sums_b64\":\"YWJjZA==\"}");
	b.sums.n = 0;
	round_trip(KS_T_BLOCK, &b, NULL);
}

/* Every table with random values, bytes of every length up to 40. */
KS_TEST(every_table)
{
	unsigned char noise[64];
	uint64_t seed = 42;

	for (int t = 0; t < KS_T_COUNT; t++) {
		for (size_t len = 0; len < 40; len++) {
			union ks_record rec = { 0 };

			for (unsigned int i = 0; i < ks_tables[t].ncol; i++) {
				const struct ks_col *c = &ks_tables[t].cols[i];
				int64_t v = (int64_t)ks_mix64(++seed);

				memcpy(noise + 8 * (i % 7), &v, sizeof(v));
				if (ks_col_is_bytes(c)) {
					ks_rec_set_bytes(&rec, c, (struct ks_bytes){ noise, len });
					continue;
				}
				if (c->type == KS_COL_U64)
					v &= INT64_MAX;
				ks_rec_set_int(&rec, c, c->type == KS_COL_U32 ? v & UINT32_MAX : v);
			}
			round_trip((enum ks_table)t, &rec, NULL);
		}
	}
}

/* What is no record is refused and never read beyond its end: every prefix, and every byte changed. */
KS_TEST(bad_lines)
{
	static const char *const bad[] = {
		"",
		"{}",
		"{\"ino\":1}",
		"{\"ino\":1,\"target\":\"x\"",
		"{\"ino\":1,\"target\":\"x\"} ",
		"{\"ino\":-1,\"target\":\"x\"}",
		"{\"ino\":9223372036854775808,\"target\":\"x\"}",
		"{\"ino\":99999999999999999999999,\"target\":\"x\"}",
		"{\"ino\":01,\"target\":\"x\"}",
		"{\"ino\":\"1\",\"target\":\"x\"}",
		"{\"ino\":,\"target\":\"x\"}",
		"{\"target\":\"x\",\"ino\":1}",
		"{\"ino\":1,\"target\":\"x\\n\"}",
		"{\"ino\":1,\"target\":\"x\\",
		"{\"ino\":1,\"target_b64\":\"YQ=\"}",
		"{\"ino\":1,\"target_b64\":\"YR==\"}",
		"{\"ino\":1,\"target_b64\":\"Y===\"}",
		"{\"ino\":1,\"target_b64\":\"Y*==\"}",
		"{\"ino\":1,\"target\":\"x\",\"more\":1}",
	};
	union ks_record rec;
	const char *why;

	for (size_t i = 0; i < KS_ARRAY_SIZE(bad); i++) {
		char *line = malloc(strlen(bad[i]) + 1);

		memcpy(line, bad[i], strlen(bad[i]));
		why = NULL;
		ks_check_eq(ks_rectext_read(KS_T_SYMLINK, line, strlen(bad[i]), &rec, &why),
			    -EBADMSG);
		ks_check(why != NULL);
		free(line);
	}
	for (size_t n = 0; n < 24; n++) {
		for (int c = 0; c < 256; c += n == 23 ? 256 : 1) {
			const char *good = "{\"ino\":1,\"target\":\"x\"}";
			char *line = malloc(23);

			memcpy(line, good, 22);
			if (n < 22)
				line[n] = (char)c;
			KS_IGNORE(ks_rectext_read(KS_T_SYMLINK, line, ks_min(n + 1, (size_t)22),
						  &rec, &why) < 0);
			free(line);
		}
	}
}

KS_TEST(base64)
{
	unsigned char out[8];
	char text[16];
	size_t n = 9;

	ks_base64("ab", 2, text);
	ks_check_mem(text, "YWI=", 4);
	ks_check_ok(ks_base64_decode("YWI=", 4, out, &n));
	ks_check_eq(n, 2);
	ks_check_mem(out, "ab", 2);
	ks_check_ok(ks_base64_decode("", 0, out, &n));
	ks_check_eq(n, 0);
	ks_check_eq(ks_base64_decode("YWJ=", 4, out, &n), -EINVAL);
	ks_check_eq(ks_base64_decode("YW=I", 4, out, &n), -EINVAL);
	ks_check_eq(ks_base64_decode("YWI", 3, out, &n), -EINVAL);
	ks_check_eq(ks_base64_decode("====", 4, out, &n), -EINVAL);
}

KS_TEST_MAIN()
