#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The hidden directory .kiseki at the root of a mount: nobody who walks sees it, who knows its name reads it.

load mounted_helper

setup() { mounted_setup; }
teardown() { mounted_teardown; }

hidden() { ! grep -qF .kiseki <<<"$output" || { echo "seen: $output"; return 1; }; }

counter() { jq ".$1" "$M/.kiseki/stats"; }

refused() {
	run "$@"
	[ "$status" -ne 0 ] || { echo "went well: $*"; return 1; }
	grep -qE 'not permitted|denied|exists' <<<"$output" || { echo "$*: $output"; return 1; }
}

@test "no walk sees it: ls, find, du, tar, rsync, git, rm" {
	format
	mount_it
	mkdir "$M/d"
	echo text >"$M/d/f"
	run_ok ls -aR "$M"
	hidden
	run_ok find "$M"
	hidden
	[ "$(wc -l <<<"$output")" -eq 3 ]
	run_ok du -a "$M"
	hidden
	run_ok tar -C "$M" -cvf "$T/all.tar" .
	hidden
	if command -v rsync >/dev/null; then
		run_ok limit 30 rsync -av "$M/" "$T/copy"
		hidden
		[ ! -e "$T/copy/.kiseki" ]
	fi
	if command -v git >/dev/null; then
		git -C "$M" init -q
		run_ok git -C "$M" status --porcelain --ignored -uall
		hidden
	fi
	shopt -s dotglob
	rm -rf "$M"/*
	[ -z "$(ls -A "$M")" ]
	[ -n "$(cat "$M/.kiseki/stats")" ]
}

@test "by name: its files, private to the owner, of size 0" {
	format
	mount_it
	[ "$(stat -c %a:%u:%F "$M/.kiseki")" = "500:$(id -u):directory" ]
	run_ok ls "$M/.kiseki"
	grep -qx accesslog <<<"$output"
	for f in config metrics stats; do
		grep -qx "$f" <<<"$output"
		[ "$(stat -c %a:%u:%s "$M/.kiseki/$f")" = "400:$(id -u):0" ]
		[ -n "$(cat "$M/.kiseki/$f")" ]
	done
	[ "$(stat -c %i "$M/.kiseki/..")" = "$(stat -c %i "$M")" ]
	run cat "$M/.kiseki/none"
	says "No such file"
}

@test "other users are kept out" {
	need_root
	format
	mount_it
	refused setpriv --reuid=65534 --regid=65534 --clear-groups cat "$M/.kiseki/stats"
	refused setpriv --reuid=65534 --regid=65534 --clear-groups ls "$M/.kiseki"
}

@test "nothing can be made, changed or removed there" {
	format
	mount_it
	touch "$M/f"
	mkdir "$M/d"
	refused mkdir "$M/.kiseki"
	refused rmdir "$M/.kiseki"
	refused rm -rf "$M/.kiseki"
	refused mv -T "$M/.kiseki" "$M/x"
	refused mv -T "$M/d" "$M/.kiseki"
	refused mv "$M/f" "$M/.kiseki/"
	refused mv "$M/.kiseki/stats" "$M/x"
	refused ln "$M/f" "$M/.kiseki/f"
	refused ln "$M/.kiseki/stats" "$M/x"
	refused ln -s f "$M/.kiseki/s"
	refused touch "$M/.kiseki/new"
	refused mkdir "$M/.kiseki/new"
	refused touch "$M/.kiseki/stats"
	refused chmod 777 "$M/.kiseki"
	refused chmod 777 "$M/.kiseki/stats"
	refused truncate -s 0 "$M/.kiseki/stats"
	refused bash -c "echo x >'$M/.kiseki/stats'"
	refused bash -c "echo x >>'$M/.kiseki/config'"
	[ "$(ls -A "$M")" = "$(printf 'd\nf')" ]
	umount_it
	fsck_clean
}

@test "stats are JSON, and move" {
	format
	mount_it
	run_ok jq -e '.volume == "vol" and (.pid | type == "number") and .open_files == 0' "$M/.kiseki/stats"
	local before bytes
	before=$(counter meta_commits)
	bytes=$(counter upload_bytes)
	head -c 1000000 /dev/urandom >"$M/f"
	sync -f "$M"
	[ "$(counter meta_commits)" -gt "$before" ]
	[ "$(counter upload_bytes)" -ge $((bytes + 1000000)) ]
	exec 9<"$M/f"
	[ "$(counter open_files)" -eq 1 ]
	exec 9<&-
	# One open is one moment, also when it is read in pieces.
	run_ok bash -c "dd if='$M/.kiseki/stats' bs=7 status=none | jq -e .pool_bytes"
}

@test "the files say what the control socket says" {
	command -v python3 >/dev/null || skip "python3 is not installed"
	format
	mount_it
	local socket
	socket=$(sql "select cast(socket as text) from session where kind = 1")
	python3 - "$socket" >"$T/answer" <<-'END'
		import socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		s.sendall(b'{"op":"stats"}\n')
		sys.stdout.write(s.makefile().readline())
	END
	[ "$(jq -c 'keys - ["ok"]' "$T/answer")" = "$(jq -c keys "$M/.kiseki/stats")" ]
	# Each counter is a metric as well.
	jq -r 'del(.pid) | to_entries[] | select(.value | type == "number") | .key' "$M/.kiseki/stats" >"$T/names"
	[ "$(wc -l <"$T/names")" -gt 20 ]
	local name
	while read -r name; do
		grep -qE "^kiseki_$name(_total)?\{" "$M/.kiseki/metrics"
	done <"$T/names"
}

@test "metrics are OpenMetrics" {
	format
	mount_it
	cat "$M/.kiseki/metrics" >"$T/metrics"
	[ "$(tail -n 1 "$T/metrics")" = "# EOF" ]
	[ -z "$(tail -c 1 "$T/metrics")" ]
	run grep -vE '^# (TYPE kiseki_[a-z_]+ (counter|gauge)|UNIT kiseki_[a-z_]+_bytes bytes|HELP kiseki_[a-z_]+ .+|EOF)$|^kiseki_[a-z_]+\{volume="vol",mountpoint="[^"]+"\} [0-9]+$' "$T/metrics"
	echo "$output"
	[ -z "$output" ]
	# A counter's sample ends in _total, a gauge's does not.
	awk '$2 == "TYPE" { name = $3 ($4 == "counter" ? "_total" : "") }
		/^kiseki/ { sub(/\{.*/, ""); if ($0 != name) { print; bad = 1 } } END { exit bad }' "$T/metrics"
}

@test "config says what is in force" {
	format
	mount_it --buffer-size=32M --readahead=off --attr-timeout=3s --threads=5
	run_ok cat "$M/.kiseki/config"
	local how
	how=$(jq -r .transport "$M/.kiseki/config")
	[ "$how" = classic ] || [ "$how" = uring ]
	[ -z "${KISEKI_TEST_TRANSPORT-}" ] || [ "$how" = "$KISEKI_TEST_TRANSPORT" ]
	jq -e '.volume.name == "vol" and (.volume.uuid | length == 36) and .options.buffer_size == 33554432
		and .options.readahead == 0 and .options.attr_timeout_s == 3 and .options.entry_timeout_s == 1
		and .options.threads == 5 and .options.read_only == false and (.options | has("subdir") | not)' "$M/.kiseki/config"
	[ "$(jq -r .volume.meta "$M/.kiseki/config")" = "sqlite://$V" ]
	[ "$(jq -r .mountpoint "$M/.kiseki/config")" = "$M" ]
}

@test "at the root of a subtree mount, and of a read-only one" {
	format
	mount_it
	mkdir -p "$M/a/b"
	umount_it
	limit 60 kiseki-mount -q "${transport[@]}" --read-only "$V:/a" "$M" 3>&- 4>&-
	[ "$(ls -A "$M")" = b ]
	jq -e '.options.subdir == "/a" and .options.read_only' "$M/.kiseki/config"
	[ ! -e "$M/b/.kiseki" ]
	[ "$(stat -c %i "$M/.kiseki/..")" = "$(stat -c %i "$M")" ]
}

@test "an entry of that name is hidden by it on a mount, and is the tools'" {
	[ -x "$bin/kiseki-cp" ] || skip "kiseki-cp is not built"
	format
	mkdir "$T/.kiseki"
	echo mine >"$T/.kiseki/own"
	run_ok limit 30 kiseki-cp -q -r "$T/.kiseki" "$U:/"
	mount_it
	[ -z "$(ls -A "$M")" ]
	[ ! -e "$M/.kiseki/own" ]
	[ -n "$(cat "$M/.kiseki/stats")" ]
	umount_it
	run_ok limit 30 kiseki-cp -q "$U:/.kiseki/own" "$T/back"
	[ "$(cat "$T/back")" = mine ]
}

# listen NAME: a reader of the log into $T/NAME; its pid in $listener
listen() {
	cat "$M/.kiseki/accesslog" >"$T/$1" 2>/dev/null 3>&- 4>&- &
	listener=$!
	pids+=("$listener")
	wait_for reads "$listener"
}

# It has the file open.
reads() { readlink /proc/"$1"/fd/* 2>/dev/null | grep -q accesslog; }

gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

logged() { grep -qE -- "$2" "$T/$1"; }

stamp='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z uid=[0-9]+ pid=[0-9]+'

@test "accesslog: what another process does, with its pid, to several readers" {
	format
	mount_it
	listen one
	listen two
	local pid
	pid=$(bash -c 'echo $BASHPID; echo some text >"$1"; exec rm "$1"' - "$M/file")
	local f
	for f in one two; do
		wait_for logged $f "$stamp unlink ino=1 name=\"file\" = 0 [0-9.]+s\$"
		logged $f "pid=$pid create ino=1 .*name=\"file\" = 0 "
		logged $f "pid=$pid write ino=[0-9]+ off=0 len=10 = 0 "
		logged $f "pid=$pid lookup ino=1 name=\"file\" = -ENOENT "
		run grep -vE "$stamp [a-z_]+ ino=[0-9]+ ?.* = (0|-E[A-Z0-9]+) [0-9]+\.[0-9]{6}s\$" "$T/$f"
		echo "$output"
		[ -z "$output" ]
	done
}

@test "accesslog: a reader that is killed is gone, and the others read on" {
	format
	mount_it
	listen one
	local first=$listener
	listen two
	kill -KILL "$first"
	wait_for gone "$first"
	kill -TERM "$listener"
	wait_for gone "$listener"
	listen three
	touch "$M/after"
	wait_for logged three 'create ino=1 .*name="after"'
	# With nobody left it can be unmounted.
	kill "$listener"
	wait_for gone "$listener"
	wait_for umount_it
}

@test "accesslog: not to wait, and no more readers than there may be" {
	format
	mount_it
	run limit 10 dd if="$M/.kiseki/accesslog" iflag=nonblock count=1
	[ "$status" -ne 0 ]
	says "temporarily unavailable"
	listen one
	listen two
	listen three
	listen four
	run limit 10 cat "$M/.kiseki/accesslog"
	says "busy"
	# Readers that wait hold nobody up.
	limit 30 bash -c 'for i in {1..200}; do echo $i >"$1/f$i"; done; cat "$1"/f* >/dev/null; sync -f "$1"' - "$M"
	[ "$(ls "$M" | wc -l)" -eq 200 ]
}

@test "accesslog: one thread serves all, and is not kept by a reader" {
	format
	transport=(--transport=classic)
	mount_it --single-thread
	listen one
	limit 10 touch "$M/file"
	wait_for logged one 'name="file"'
}

@test "accesslog: a reader that does not read is told what it lost" {
	format
	mount_it
	exec 8<"$M/.kiseki/accesslog"
	limit 60 bash -c 'for i in {1..6000}; do [ ! -e "$1/none$i" ]; done' - "$M"
	(limit 10 cat <&8 >"$T/late" || true) &
	wait_for logged late '^# [0-9]+ lines lost$'
	exec 8<&-
	[ "$(grep -c none "$T/late")" -gt 1000 ]
}

@test "an open reader keeps the mount in use; SIGTERM ends it and the mount" {
	format
	mount_it
	listen one
	fails 75 limit 30 kiseki-umount -q "$M"
	local pid
	pid=$(daemon)
	kill -TERM "$pid"
	wait_for gone "$pid"
	wait_for gone "$listener"
	! mountpoint -q "$M"
}

@test "a reader of a mount whose process dies ends" {
	format
	mount_it
	listen one
	kill_daemon
	wait_for gone "$listener"
}
