#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-mount --access-log: the daemon itself writes what it was asked, from the first request to the last.

load mounted_helper

setup() {
	mounted_setup
	A=$T/logs/access
	mkdir "$T/logs"
}
teardown() { mounted_teardown; }

logged() { grep -qE -- "$2" "$1"; }
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:.Z' "/proc/$1/status"; }

stamp='^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\.[0-9]{6}Z uid=[0-9]+ pid=[0-9]+'

# whole FILE: nothing but whole lines
whole() {
	[ -z "$(tail -c 1 "$1")" ]
	run grep -avE "$stamp [a-z_]+ ino=[0-9]+ ?.* = (0|-E[A-Z0-9]+) [0-9]+\.[0-9]{6}s\$" "$1"
	echo "$output"
	[ -z "$output" ]
}

# journey: every line of what one process does on the mount is there when it has ended
journey() {
	local pid
	mount_it --access-log="$A" "$@"
	pid=$(bash -c 'echo $BASHPID; echo some text >"$1"; exec rm "$1"' - "$M/file")
	umount_it
	logged "$A" "pid=$pid create ino=1 .*name=\"file\" = 0 "
	logged "$A" "pid=$pid write ino=[0-9]+ off=0 len=10 = 0 "
	logged "$A" "pid=$pid unlink ino=1 name=\"file\" = 0 "
	logged "$A" "pid=$pid lookup ino=1 name=\"file\" = -ENOENT "
	whole "$A"
}

@test "lines of every request, complete when it is unmounted, for nobody else to read" {
	format
	journey
	[ "$(stat -c %a "$A")" = 600 ]
	# The first request of all is there, and the next mount goes on in the same file.
	head -n 1 "$A" | grep -qE 'pid=[0-9]+ (getattr|lookup|statfs) ino=1 '
	local n
	n=$(wc -l <"$A")
	cp "$A" "$T/before"
	chmod 640 "$A"
	journey --transport=classic
	[ "$(stat -c %a "$A")" = 640 ]
	head -n "$n" "$A" | cmp - "$T/before"
}

@test "a line is there a moment later; a thousand files, each with its line" {
	format
	mount_it -o "access_log=$A"
	touch "$M/now"
	SECONDS_MAX=20 wait_for logged "$A" 'name="now"'
	jq -e --arg f "$A" '.options.access_log == $f' "$M/.kiseki/config"
	touch "$M/later"
	SECONDS_MAX=20 wait_for logged "$A" 'name="later"'
	not logged "$A" kiseki
	(cd "$M" && touch f{1..1000} && rm f{1..1000})
	umount_it
	[ "$(grep -cE 'create ino=1 .*name="f[0-9]+" = 0 ' "$A")" -eq 1000 ]
	[ "$(grep -cE 'unlink ino=1 name="f[0-9]+" = 0 ' "$A")" -eq 1000 ]
	not grep -q lost "$A"
	whole "$A"
}

@test "four programs can still read the stream; SIGTERM does not wait for ours" {
	local i pid
	format
	mount_it --access-log="$A"
	for i in 1 2 3 4; do
		cat "$M/.kiseki/accesslog" >"$T/reader$i" 2>/dev/null 3>&- 4>&- &
		pids+=($!)
		wait_for bash -c "readlink /proc/$!/fd/* | grep -q accesslog"
	done
	touch "$M/file"
	for i in 1 2 3 4; do
		wait_for logged "$T/reader$i" 'name="file"'
	done
	pid=$(daemon)
	kill -TERM "$pid"
	wait_for gone "$pid"
	logged "$A" 'create ino=1 .*name="file"'
	whole "$A"
}

# loud [OPTION...]: a mount that says in $T/log what it does
loud() { limit 60 kiseki-mount "${transport[@]}" --log-file="$T/log" "$@" "$V" "$M" 3>&- 4>&-; }

opened_anew() { [ "$(grep -c 'access log opened anew' "$T/log")" -eq "$1" ]; }

@test "SIGHUP after a rename goes on in a new file, and loses nothing" {
	local i pid
	format
	(cd "$T/logs" && loud --access-log=access)
	pid=$(daemon)
	(cd "$M" && for i in {1..2000}; do [ ! -e "none$i" ]; done) &
	for i in 1 2 3; do
		mv "$A" "$A.$i"
		kill -HUP "$pid"
		wait_for opened_anew "$i"
		[ "$(stat -c %a "$A")" = 600 ]
	done
	wait $!
	umount_it
	for i in "$A" "$A".?; do
		[ ! -s "$i" ] || whole "$i"
	done
	[ "$(cat "$A" "$A".? | grep -cE 'lookup ino=1 name="none[0-9]+" = -ENOENT')" -eq 2000 ]
	# What cannot be opened leaves the old one in use.
	loud --access-log="$A"
	mv "$T/logs" "$T/elsewhere"
	kill -HUP "$(daemon)"
	wait_for logged "$T/log" "access log $A: No such file"
	touch "$M/last"
	umount_it
	logged "$T/elsewhere/access" 'name="last"'
}

@test "a bad path is refused before anything is mounted" {
	format
	fails 66 limit 30 kiseki-mount --access-log="$T/none/access" "$V" "$M"
	says "access log $T/none/access: No such file or directory"
	fails 73 limit 30 kiseki-mount --access-log="$T/logs" "$V" "$M"
	says "access log $T/logs: Is a directory"
	mkfifo "$T/pipe"
	fails 71 limit 30 kiseki-mount --access-log="$T/pipe" "$V" "$M"
	says "access log $T/pipe: No such device"
	run limit 30 kiseki-mount --access-log
	[ "$status" -eq 64 ]
	# Within the mount: by its name, by another, as the mount point itself; the messages as well.
	mkdir "$M/d"
	ln -s "$M/d" "$T/link"
	local option file
	for option in --access-log --log-file; do
		for file in "$M/f" "$M/d/f" "$T/link/f" "$M" "$M/../${M##*/}/f"; do
			fails 64 limit 30 kiseki-mount "$option=$file" "$V" "$M"
			says "lies within the mount point $M"
		done
	done
	[ "$(ls -A "$M")" = d ]
	[ -z "$(ls -A "$M/d")" ]
	! mountpoint -q "$M"
	[ -z "$(daemons)" ]
	# Its name begins as the mount point's, and it lies beside it.
	limit 60 kiseki-mount -q --access-log="$M-log" "$V" "$M" 3>&- 4>&-
	umount_it
	[ -s "$M-log" ]
}

@test "not allowed to write there" {
	local as=()
	# Root may write everywhere.
	[ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	format
	chmod 500 "$T/logs"
	fails 77 limit 30 "${as[@]}" kiseki-mount --access-log="$A" "$V" "$M"
	says "access log $A: Permission denied"
}

@test "after SIGHUP the mount is not written to by its own log" {
	format
	ln -s "$T/logs" "$T/link"
	loud --access-log="$T/link/access"
	ln -sfn "$M" "$T/link"
	kill -HUP "$(daemon)"
	wait_for logged "$T/log" "lies within the mount point"
	touch "$M/file"
	umount_it
	logged "$A" 'name="file"'
}

# small_disk: the log is on one that is full
small_disk() {
	need_root
	mount -t tmpfs -o size=256k kiseki-test "$T/logs" || skip "no tmpfs can be mounted"
	head -c 1m /dev/zero >"$T/logs/filler" 2>/dev/null || true
}

@test "on a full disk lines wait; it is said once, and nothing is lost" {
	format
	small_disk
	loud --access-log="$A"
	limit 30 bash -c 'cd "$1" && for i in {1..100}; do : >f$i; done; rm f*' - "$M"
	wait_for logged "$T/log" "write to access log $A: No space left on device"
	sleep 2.5
	[ "$(grep -c 'No space left' "$T/log")" -eq 1 ]
	rm "$T/logs/filler"
	wait_for logged "$T/log" "access log $A is written to again"
	umount_it
	[ "$(grep -cE 'create ino=1 .*name="f[0-9]+" = 0 ' "$A")" -eq 100 ]
	whole "$A"
}

@test "when too many wait, the file says how many were lost; another file helps" {
	format
	small_disk
	loud --access-log="$A"
	limit 60 bash -c 'cd "$1" && for i in {1..15000}; do [ ! -e "none$i" ]; done' - "$M"
	mkdir "$T/roomy"
	mount --bind "$T/roomy" "$T/logs"
	kill -HUP "$(daemon)"
	wait_for logged "$T/log" 'is written to again'
	umount_it
	local lost seen
	lost=$(sed -nE 's/^# ([0-9]+) lines lost$/\1/p' "$A")
	[ "$lost" -gt 0 ]
	umount "$T/logs"
	# What was written before is whole lines but for the last one, which is whole in the new file.
	seen=$(cat "$A" "$T/roomy/access" | grep -cE 'lookup ino=1 name="none[0-9]+" = -ENOENT [0-9.]+s$')
	[ $((seen + lost)) -ge 15000 ]
	[ "$seen" -gt 5000 ]
	grep -v '^# [0-9]* lines lost$' "$T/roomy/access" >"$T/rest"
	whole "$T/rest"
}

@test "on a disk that stays full the mount ends nevertheless" {
	local pid
	format
	small_disk
	loud --access-log="$A"
	pid=$(daemon)
	limit 30 bash -c 'cd "$1" && for i in {1..100}; do : >f$i; done' - "$M"
	umount_it
	SECONDS_MAX=100 wait_for gone "$pid"
	grep -q "access log $A lacks the last lines" "$T/log"
	fsck_clean
}
