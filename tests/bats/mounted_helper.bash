# SPDX-License-Identifier: Apache-2.0
# mounted_helper.bash: volumes, mounts and daemons of one test, with an end to each of them.
#
#	load mounted_helper
#	setup() { mounted_setup; }
#	teardown() { mounted_teardown; }
#
# $T is the test's directory, on a disk; $V the volume's database ($U as a URL); $M the mount point. `format` and `mount_it` make and
# mount them. Whatever is still mounted below $T at the end loses its FUSE connection, so that no test hangs.
# KISEKI_TEST_TRANSPORT=classic|uring chooses what carries the requests of every mount that does not say so itself.

bin=${KISEKI_BIN:-$(cd "$BATS_TEST_DIRNAME/../../build/dev" && pwd)}
helpers=${KISEKI_HELPERS:-$bin/tests/mounted}
PATH=$bin:$PATH
long=${KISEKI_TEST_LONG:-}
transport=(${KISEKI_TEST_TRANSPORT:+"--transport=$KISEKI_TEST_TRANSPORT"})

mounted_setup() {
	T=$(mktemp -d "${KISEKI_TEST_DIR:-/var/tmp}/kiseki-test.XXXXXX")
	chmod 755 "$T" # other users are part of some tests
	V=$T/vol/meta.db
	U=sqlite://$V # where a path would mean a local file
	M=$T/mnt
	mkdir "$T/vol" "$M"
	pids=()
	unset KISEKI_VOLUME KISEKI_FAULT REMOUNT_CMD
	# Nothing of the user's own may decide.
	export KISEKI_CONFIG=/dev/null HOME=$T XDG_CONFIG_HOME=$T
	need_fuse
	watchdog "${LIMIT:-${KISEKI_SAN:+300}}"
}

mounted_teardown() {
	local pid
	[ -n "${T-}" ] || return 0
	cat "$T/too-long" 2>/dev/null || true
	abort_all
	for pid in ${watchdog_pid-} "${pids[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	daemons | while read -r pid; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	rm -rf --one-file-system "$T"
}

need_fuse() {
	[ -c /dev/fuse ] && [ -r /dev/fuse ] && [ -w /dev/fuse ] || skip "/dev/fuse is not usable here"
	command -v fusermount3 >/dev/null || [ "$(id -u)" -eq 0 ] || skip "fusermount3 is not installed"
	[ -x "$bin/kiseki-mount" ] || skip "kiseki-mount is not built"
}

need_root() {
	[ "$(id -u)" -eq 0 ] || skip "needs root"
}

# The kernel has FUSE over io_uring, and we may switch it on.
uring_is_offered() { [ -w /sys/module/fuse/parameters/enable_uring ]; }

need_uring() { uring_is_offered || skip "no FUSE over io_uring here"; }

# mounts: "MINOR DIR" of what is mounted below $T, the newest first. Never touches the mounts themselves.
mounts() {
	awk -v t="$T/" 'index($5, t) == 1 { split($3, d, ":"); print d[2], $5 }' /proc/self/mountinfo | tac
}

# Ends every connection below $T, and detaches.
abort_all() {
	local minor dir
	while read -r minor dir; do
		{ echo 1 >"/sys/fs/fuse/connections/$minor/abort"; } 2>/dev/null || true
		umount -l -i "$dir" 2>/dev/null || fusermount3 -uz "$dir" 2>/dev/null || true
	done < <(mounts)
}

# watchdog [SECONDS]: ends the connections after that time, so that a hang becomes a failure.
watchdog() {
	(
		sleep "${1:-100}"
		echo "the time of the test is over: its mounts were aborted" >"$T/too-long"
		abort_all
	) >/dev/null 2>&1 3>&- 4>&- &
	watchdog_pid=$!
	disown "$watchdog_pid"
}

# Pids of the kiseki-mount processes of this test.
daemons() {
	local p exe
	for p in /proc/[0-9]*; do
		exe=$(readlink "$p/exe" 2>/dev/null) || continue
		case ${exe% (deleted)} in
		*/kiseki-mount) ;;
		*) continue ;;
		esac
		tr '\0' '\n' <"$p/cmdline" 2>/dev/null | grep -qF "$T/" && echo "${p#/proc/}"
	done
	return 0
}

# daemon [DIR]: the pid of the process behind a mount point
daemon() {
	local p dir=${1:-$M}
	for p in $(daemons); do
		tr '\0' '\n' <"/proc/$p/cmdline" | grep -qxF -- "$dir" && echo "$p" && return 0
	done
	return 1
}

# kill_daemon [DIR]: as a crash would; returns when the process is gone.
kill_daemon() {
	local pid
	pid=$(daemon "$@")
	kill -KILL "$pid"
	while [ -d "/proc/$pid" ]; do
		sleep 0.02
	done
}

# not COMMAND...: a plain "!" does not fail a test
not() { ! "$@"; }

limit() { timeout -k 5 "$@"; }

# ops FEW MANY: how many, by KISEKI_TEST_LONG
ops() { [ -z "$long" ] && echo "$1" || echo "$2"; }

# format [OPTION...]: without a trash, whose entries would count where a test is about something else
format() { limit 30 kiseki-format -q --trash=0 "$@" "$V"; }

# mount_it [OPTION...]: $V on $M; others may look in when root does it
mount_it() {
	local others=()
	[ "$(id -u)" -ne 0 ] || others=(--allow-other)
	mount_at "$M" "${others[@]}" "$@"
}

# mount_at DIR [OPTION...]: $V there
mount_at() {
	local dir=$1
	shift
	limit 60 kiseki-mount -q "${transport[@]}" "$@" "$V" "$dir" 3>&- 4>&-
}

umount_it() {
	limit 60 kiseki-umount -q "${1:-$M}" && return 0
	local rc=$?
	threads
	return $rc
}

# threads: what every daemon of this test is doing, for a failure that happens once in a thousand runs
threads() {
	local p t
	for p in $(daemons); do
		echo "process $p: $(tr '\0' ' ' <"/proc/$p/cmdline")"
		for t in "/proc/$p/task"/*; do
			echo "$(cat "$t/comm"): $(paste -sd' ' "$t/stack" 2>/dev/null)"
		done
		if command -v gdb >/dev/null; then
			timeout 30 gdb -p "$p" -batch -ex 'thread apply all bt 12' 2>/dev/null | grep '^#\|^Thread'
		fi
	done
}

# For the REMOUNT_CMD of the programs.
remount_cmd() {
	export REMOUNT_CMD="timeout 60 kiseki-umount -q '$M' && timeout 60 kiseki-mount -q --allow-other ${transport[*]} $* '$V' '$M' 3>&- 4>&-"
}

# helper NAME ARGS...: a program of tests/mounted, with a limit of $LIMIT seconds; a sanitizer makes it several times as slow
helper() {
	local name=$1 seconds=${LIMIT:-${KISEKI_SAN:+280}}
	shift
	limit "${seconds:-90}" "$helpers/$name.t" "$@"
}

# run_ok COMMAND...: as `run`, and the status must be 0
run_ok() {
	run "$@"
	[ "$status" -eq 0 ] || {
		echo "status $status of: $*"
		echo "$output" | tail -60
		return 1
	}
}

# fails CODE COMMAND...: the exit status, no crash, and a message that is one
fails() {
	local code=$1
	shift
	run "$@"
	echo "$output"
	[ "$status" -eq "$code" ] || {
		echo "status $status, want $code, of: $*"
		return 1
	}
	[ -n "$output" ] || return 1
	! grep -qiE 'assert|segmentation|backtrace|core dumped|stack smashing' <<<"$output"
}

says() { grep -qF -- "$1" <<<"$output" || { echo "not said: $1"; echo "$output"; return 1; }; }

# fsck_clean: the volume is whole, and every page of it is what its checksum says
fsck_clean() {
	[ ! -x "$bin/kiseki-fsck" ] || run_ok limit 90 kiseki-fsck -q --data=read "$V"
}

# sql QUERY: of the volume's database, read only
sql() { sqlite3 -readonly "$V" "$1"; }

wait_for() {
	local i
	for ((i = 0; i < ${SECONDS_MAX:-100}; i++)); do
		"$@" && return 0
		sleep 0.1
	done
	echo "never became true: $*"
	return 1
}

# kib FIELD PID: from /proc/PID/status
kib() { awk -v f="$1:" '$1 == f { print $2 }' "/proc/$2/status"; }
