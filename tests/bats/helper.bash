# SPDX-License-Identifier: Apache-2.0
# helper.bash: what the tests of the command lines share; those that mount need no more than `requires fuse` on top.
#
#	load helper
#	setup() { cli_setup; }
#	teardown() { mounted_teardown; }
#
# $T is the test's own directory; $V a volume's database there, $U its URL, $M a mount point. Programs run under
# `limit SECONDS`; what is mounted below $T, or runs there, ends with the test (mounted_helper.bash).

# What is set here is used by the tests.
# shellcheck disable=SC2034
# shellcheck source=tests/bats/mounted_helper.bash
source "$BATS_TEST_DIRNAME/mounted_helper.bash"

tools=(kiseki kiseki-bench kiseki-compact kiseki-config kiseki-cp kiseki-destroy kiseki-dump kiseki-format kiseki-info kiseki-load kiseki-ls kiseki-mount kiseki-rm kiseki-stats kiseki-status kiseki-summary kiseki-trash kiseki-umount)

cli_setup() {
	T=$(mktemp -d "${TMPDIR:-/tmp}/kiseki-test.XXXXXX")
	V=$T/vol/meta.db
	U=sqlite://$V
	M=$T/mnt
	mkdir "$T/vol" "$M"
	pids=()
	unset KISEKI_VOLUME KISEKI_FAULT KISEKI_PROGRESS KISEKI_COLOR NO_COLOR KISEKI_LOG POSIXLY_CORRECT
	export KISEKI_CONFIG=/dev/null HOME=$T XDG_CONFIG_HOME=$T
	cd "$T" || return 1
}

# requires fuse|root|COMMAND...: skip the test without them
requires() {
	local what
	for what; do
		case $what in
		fuse)
			need_fuse
			watchdog "${LIMIT:-100}"
			;;
		root) need_root ;;
		*) command -v "$what" >/dev/null || skip "$what is not installed" ;;
		esac
	done
}

# out_err COMMAND...: as `run`, with stdout in $out and stderr in $err
out_err() {
	status=0
	"$@" >"$T/.out" 2>"$T/.err" </dev/null || status=$?
	out=$(cat "$T/.out")
	err=$(cat "$T/.err")
	output="$out$err"
	printf 'status %s of: %s\nout: %s\nerr: %s\n' "$status" "$*" "$out" "$err"
}

# fails_cleanly CODE COMMAND...: the code, a message on stderr, nothing on stdout, in time
fails_cleanly() {
	local code=$1
	shift
	out_err limit 20 "$@"
	[ "$status" -eq "$code" ] && [ -z "$out" ] && [ -n "$err" ] || return 1
	! grep -qiE 'assert|segmentation|backtrace|core dumped|stack smashing' <<<"$err"
}

# json_ok FILE: JSON lines, the last one a summary with the exit code $status
json_ok() {
	jq -e . "$1" >/dev/null || return 1
	tail -n 1 "$1" | jq -e --argjson rc "$status" \
		'.type == "summary" and .schema == 1 and .exit_code == $rc and .ok == ($rc == 0) and (.error == null) == ($rc == 0)' >/dev/null
}

# tree DIR: one line per entry: type, mode, owner, links, size, time in ns, name, target. For comparing.
tree() { (cd "$1" && find . -printf '%y %m %U:%G %n %s %T@ %p -> %l\n' | sed -E 's/^(d [^ ]+ [^ ]+) [0-9]+ [0-9]+/\1/' | LC_ALL=C sort -k 6); }

# sample DIR: a tree with one of everything that a file system must carry
sample() {
	mkdir -p "$1/dir/deep" "$1/empty"
	echo content >"$1/file"
	: >"$1/zero"
	head -c 9437185 /dev/urandom >"$1/dir/big"
	ln "$1/file" "$1/dir/hard"
	ln -s ../file "$1/dir/sym"
	ln -s nowhere "$1/dangling"
	mkfifo -m 640 "$1/fifo"
	truncate -s 200M "$1/sparse"
	printf x | dd of="$1/sparse" bs=1 seek=100000000 conv=notrunc status=none
	printf n >"$1"/$'new\nline'
	printf b >"$1"/$'bytes\xff\xfe'
	printf s >"$1/ space '\"\$x"
	printf l >"$1/$(printf 'l%.0s' {1..255})"
	setfattr -n user.color -v blue "$1/file" 2>/dev/null || true
	setfattr -n user.dir -v yes "$1/dir" 2>/dev/null || true
	chmod 4751 "$1/zero"
	chmod 2550 "$1/dir/deep"
	[ "$(id -u)" -ne 0 ] || {
		mknod "$1/null" c 1 3
		mknod "$1/loop" b 7 300
		chown 1234:5678 "$1/zero" "$1/dir/sym" -h
		chmod 4751 "$1/zero"
	}
	touch -h -d '2001-02-03 04:05:06.123456789' "$1/dir/sym" "$1/file"
	touch -d '1969-12-31 23:59:58.5' "$1/zero"
	touch -d '2038-01-20 00:00:00.000000001' "$1/dir" "$1/dir/deep"
}
