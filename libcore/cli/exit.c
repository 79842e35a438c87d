/* SPDX-License-Identifier: Apache-2.0 */
/* exit.c: the table of exit codes. */
#include "cli/exit.h"
#include <errno.h>

static const struct {
	int code;
	const char *name;
} names[] = {
	{ KS_EXIT_OK, "OK" },
	{ KS_EXIT_PARTIAL, "PARTIAL" },
	{ KS_EXIT_FINDINGS, "FINDINGS" },
	{ KS_EXIT_LIMIT, "LIMIT" },
	{ KS_EXIT_USAGE, "USAGE" },
	{ KS_EXIT_DATAERR, "DATAERR" },
	{ KS_EXIT_NOINPUT, "NOINPUT" },
	{ KS_EXIT_UNAVAILABLE, "UNAVAILABLE" },
	{ KS_EXIT_SOFTWARE, "SOFTWARE" },
	{ KS_EXIT_OSERR, "OSERR" },
	{ KS_EXIT_CANTCREAT, "CANTCREAT" },
	{ KS_EXIT_IOERR, "IOERR" },
	{ KS_EXIT_TEMPFAIL, "TEMPFAIL" },
	{ KS_EXIT_PROTOCOL, "PROTOCOL" },
	{ KS_EXIT_NOPERM, "NOPERM" },
	{ KS_EXIT_CONFIG, "CONFIG" },
	{ KS_EXIT_SIGINT, "SIGINT" },
	{ KS_EXIT_SIGTERM, "SIGTERM" },
};

const char *ks_exit_name(int code)
{
	for (size_t i = 0; i < KS_ARRAY_SIZE(names); i++) {
		if (names[i].code == code)
			return names[i].name;
	}
	return "FAILURE";
}

int ks_exit_of_errno(int err)
{
	switch (err < 0 ? -err : err) {
	case 0:
		return KS_EXIT_OK;
	case EINVAL:
	case ENAMETOOLONG:
		return KS_EXIT_USAGE;
	case EBADMSG:
	case EILSEQ:
		return KS_EXIT_DATAERR;
	case ENOENT:
	case ENOTDIR:
	case ELOOP:
		return KS_EXIT_NOINPUT;
	case ETIMEDOUT:
	case ECONNREFUSED:
	case ECONNRESET:
	case ENOTCONN:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case ENETDOWN:
		return KS_EXIT_UNAVAILABLE;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case ENODEV:
	case ENXIO:
		return KS_EXIT_OSERR;
	case EEXIST:
	case ENOTEMPTY:
	case EISDIR:
	case EROFS:
	case EMLINK:
	case EXDEV:
		return KS_EXIT_CANTCREAT;
	case EIO:
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
	case EPIPE:
	case ESTALE:
		return KS_EXIT_IOERR;
	case EAGAIN:
	case EBUSY:
	case ETXTBSY:
		return KS_EXIT_TEMPFAIL;
	case EPROTO:
		return KS_EXIT_PROTOCOL;
	case EACCES:
	case EPERM:
		return KS_EXIT_NOPERM;
	case EMEDIUMTYPE:
	case ENOTSUP:
		return KS_EXIT_CONFIG;
	default:
		return KS_EXIT_FAILURE;
	}
}

int ks_exit_of_helper(int code)
{
	switch (code) {
	case KS_EXIT_OK:
		return 0;
	case KS_EXIT_USAGE:
	case KS_EXIT_NOPERM:
	case KS_EXIT_CONFIG:
		return 1;
	case KS_EXIT_OSERR:
	case KS_EXIT_SOFTWARE:
		return 2;
	case KS_EXIT_SIGINT:
	case KS_EXIT_SIGTERM:
		return 8;
	default:
		return 32;
	}
}

static int severity(int code)
{
	if (code > 128)
		return 6;
	if (code >= KS_EXIT_USAGE)
		return 5;
	switch (code) {
	case KS_EXIT_OK:
		return 0;
	case KS_EXIT_FINDINGS:
		return 1;
	case KS_EXIT_LIMIT:
		return 2;
	case KS_EXIT_PARTIAL:
		return 3;
	default:
		return 4;
	}
}

int ks_exit_worse(int a, int b)
{
	return severity(b) > severity(a) ? b : a;
}
