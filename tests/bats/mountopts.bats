#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Options of mounts that no other file sees the effect of: each test would fail if they were parsed and forgotten.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

# volume: one with a file and a quota, and an archive
volume() {
	format --block-size=1M --capacity=1G
	head -c 3000000 /dev/urandom >f
	kiseki-cp -q f "$U:/f"
	tar -cf a.tar f
}

# threads_of PID NAME: how many it has of that name
threads_of() { cat /proc/"$1"/task/*/comm 2>/dev/null | grep -cx -- "$2" || true; }
has_threads() { [ "$(threads_of "$1" "$2")" -eq "$3" ]; }

@test "--config: of mounts" {
	requires fuse jq
	volume
	printf '[v]\nmeta = %s\n' "$V" >k.conf
	fails_cleanly 66 kiseki-mount v "$M"
	limit 60 kiseki-mount -q --config=k.conf v "$M" 3>&- 4>&-
	limit 60 kiseki-umount -q "$M"
	# Mounted by its path: only the file says that v is the same.
	mount_at "$M"
	fails_cleanly 66 kiseki-stats v
	out_err limit 20 kiseki-stats --json --config=k.conf v
	[ "$(jq -r 'select(.type == "item") | .mountpoint' .out)" = "$M" ]
	fails_cleanly 66 kiseki-umount v
	out_err limit 60 kiseki-umount --json --config=k.conf v
	json_ok .out
	jq -e --arg m "$M" '.unmounted == [$m]' .out
}

@test "kiseki-mount: what the process and its mount are made with" {
	requires fuse
	local pid at
	volume
	mkdir spill
	limit 60 kiseki-mount -q --uploads=3 --downloads=2 --open-files=5000 --spill-dir=spill --spill-size=48M --buffer-size=16M --atime=strict "$V" "$M" 3>&- 4>&-
	pid=$(daemon)
	grep -qE '^Max open files +5000 ' /proc/$pid/limits
	read -r at _ < <(grep "$T/spill" /proc/$pid/maps)
	[ $((0x${at#*-} - 0x${at%-*})) -eq $((48 << 20)) ]
	[ -z "$(ls -A spill)" ]
	head -c 9000000 /dev/urandom >"$M/big"
	has_threads "$pid" ks-upload 3
	limit 60 kiseki-umount -q "$M"
	limit 60 kiseki-mount -q --downloads=2 --atime=strict "$V" "$M" 3>&- 4>&-
	pid=$(daemon)
	touch -a -d 2001-01-01 "$M/big"
	cat "$M/big" >/dev/null
	has_threads "$pid" ks-ahead 2
	[ "$(stat -c %X "$M/big")" -gt 1000000000 ]
	limit 60 kiseki-umount -q "$M"
	limit 60 kiseki-mount -q "$V" "$M" 3>&- 4>&-
	touch -a -d 2001-01-01 "$M/big"
	cat "$M/big" >/dev/null
	[ "$(stat -c %X "$M/big")" -lt 1000000000 ]
	umount_it
}

@test "kiseki-mount: -d stays and prints requests, -v details; who may look in" {
	requires fuse root
	volume
	kiseki-mount -d "$V" "$M" >said 2>&1 3>&- 4>&- &
	pids+=($!)
	wait_for mountpoint -q "$M"
	[ "$(daemon)" = $! ]
	[ -e "$M/f" ]
	wait_for grep -q 'LOOKUP' said
	grep "$M " /proc/self/mountinfo | grep -q allow_other
	limit 60 kiseki-umount -q "$M"
	wait $!
	limit 60 kiseki-mount -q --no-allow-other "$V" "$M" 3>&- 4>&-
	not grep -q "$M .*allow_other" /proc/self/mountinfo
	umount_it
	limit 60 kiseki-mount -vv --log-file=log "$V" "$M" 3>&- 4>&-
	umount_it
	grep -q ' debug ' log
	limit 60 kiseki-mount --log-file=log2 "$V" "$M" 3>&- 4>&-
	umount_it
	not grep -q ' debug ' log2
}

@test "kiseki-mount: --ready-timeout, --entry-timeout, --no-maintenance, -s" {
	requires fuse sqlite3
	local pid
	volume
	{
		echo 'begin exclusive;'
		sleep 3
		echo 'commit;'
	} | sqlite3 "$V" 3>&- 4>&- &
	pids+=($!)
	sleep 0.5
	fails 69 limit 60 kiseki-mount --ready-timeout=1s "$V" "$M" 3>&- 4>&-
	wait $!
	wait_for eval '[ -z "$(daemons)" ]'
	for i in 0 300s; do
		kiseki-cp -q f "$U:/gone"
		mount_at "$M" --entry-timeout=$i --attr-timeout=300s --no-maintenance
		pid=$(daemon)
		[ -e "$M/gone" ]
		kiseki-rm -q "$U:/gone"
		if [ $i = 0 ]; then [ ! -e "$M/gone" ]; else [ -e "$M/gone" ]; fi
		has_threads "$pid" ks-compact 0
		umount_it
	done
	mount_at "$M"
	has_threads "$(daemon)" ks-compact 1
	umount_it
	kiseki-mount -q -s "$V" "$M" 3>&- 4>&-
	has_threads "$(daemon)" ks-ring 0
	cat "$M/f" "$M/f" >/dev/null &
	cmp "$M/f" f
	wait $!
	has_threads "$(daemon)" ks-fuse 0
	umount_it
}

@test "kiseki-umount: --all, --lazy, --no-flush" {
	requires fuse root
	volume
	mkdir a b
	kiseki-format -q ./other.db
	# In a namespace of its own: all of ours, nobody else's.
	cat >script <<-END
		set -eu
		kiseki-mount -q "$V" a
		kiseki-mount -q ./other.db b
		kiseki-umount --json -a
		not() { ! "\$@"; }
		not mountpoint -q a
		not mountpoint -q b
	END
	run_ok limit 60 "$BATS_TEST_DIRNAME/unshared" bash script 3>&- 4>&-
	says "\"unmounted\":[\"$T/b\",\"$T/a\"]"

	mount_it
	sleep 100 <"$M/f" 3>&- 4>&- &
	pids+=($!)
	wait_for grep -q sleep "/proc/$!/comm"
	fails 75 limit 60 kiseki-umount "$M"
	limit 60 kiseki-umount -q --lazy "$M"
	not mountpoint -q "$M"
	[ -n "$(daemons)" ]
	kill $!
	wait $! || true
	wait_for eval '[ -z "$(daemons)" ]'

	KISEKI_FAULT=put:fail=EIO mount_it
	exec 7>"$M/g"
	head -c 9000000 /dev/zero >&7 2>/dev/null || true
	fails 74 limit 60 kiseki-umount "$M"
	# Not asked to flush, it only finds that somebody has a file open.
	fails 75 limit 60 kiseki-umount --no-flush "$M"
	mountpoint -q "$M"
	limit 60 kiseki-umount -q --force "$M"
	not mountpoint -q "$M"
	exec 7>&-
}

@test "JSON: mount points, also such as are not UTF-8" {
	requires fuse jq
	local odd=$T/$'m\xff' b64
	b64=$(printf %s "$odd" | base64 -w 0)
	mkdir "$odd" plain
	format
	out_err limit 60 kiseki-mount --json "${transport[@]}" "$V" plain 3>&- 4>&-
	[ "$status" -eq 0 ]
	json_ok .out
	jq -e --arg m "$T/plain" '.mountpoint == $m and (.pid | type) == "number" and (has("mountpoint_b64") | not)' .out
	out_err limit 60 kiseki-mount --json "${transport[@]}" "$V" "$odd" 3>&- 4>&-
	[ "$status" -eq 0 ]
	jq -e --arg b "$b64" '(.mountpoint | type) == "string" and .mountpoint_b64 == $b' .out
	out_err limit 60 kiseki-umount --json plain "$odd"
	[ "$status" -eq 0 ]
	json_ok .out
	jq -e --arg m "$T/plain" --arg b "$b64" '(.unmounted | length) == 2 and (.unmounted_b64 | sort) == [null, $b] and
		(.unmounted | any(. == $m))' .out
	out_err limit 60 kiseki-umount --json plain
	[ "$status" -ne 0 ]
	jq -e '.unmounted == []' .out
}

@test "kiseki-mount: a volume by a relative path is found from its mount point, wherever one is" {
	requires jq
	mkdir -p here/m "odd:dir/m"
	for d in here odd:dir; do
		cd "$T/$d"
		kiseki-format -q v.db
		kiseki-mount -q v.db m
		cd /
		[ "$(kiseki-status --json "$T/$d/m" | jq -r .volume.name)" = v ]
		kiseki-ls "$T/$d/m"
		# mount(8)'s -a finds its line by it.
		! findmnt -n -o SOURCE "$T/$d/m" | grep -q '^v'
		kiseki-umount -q "$T/$d/m"
	done
}

# missing PID: of the mapped code of the program and of SQLite, how many KiB are not in memory
missing() {
	awk '/^[0-9a-f]+-/ { code = $2 == "r-xp" && $6 ~ /\/(kiseki-mount|libsqlite3)/; next }
		code && $1 == "Size:" { size += $2; n++ } code && $1 == "Rss:" { rss += $2 } END { print n ? size - rss : "none" }' "/proc/$1/smaps"
}
is_resident() { [ "$(missing "$1")" = 0 ]; }

@test "kiseki-mount: the code of a mount is in memory before it is needed" {
	requires fuse jq
	format
	mount_at "$M"
	pid=$(kiseki-status --json "$V" | jq -r '.sessions[0].pid')
	[ "$(missing "$pid")" != none ]
	wait_for is_resident "$pid"
	limit 60 kiseki-umount -q "$M"
}

# The threads that serve give way to the programs they answer (fuse/giveway.h): not to everybody for ever. In one session, for the scheduler may share the CPUs out to sessions first.
@test "kiseki-mount: programs that compute on every CPU do not keep it from serving" {
	requires fuse
	local i pids=()
	format
	limit 120 kiseki-mount -q -f "${transport[@]}" "$V" "$M" 3>&- 4>&- &
	pids=($!)
	wait_for mountpoint -q "$M"
	for ((i = 0; i < 2 * $(nproc); i++)); do
		(while :; do :; done) 3>&- 4>&- &
		pids+=($!)
	done
	# shellcheck disable=SC2016
	limit 60 bash -c 'for ((i = 0; i < 500; i++)); do : >"$1/$i" || exit 1; done' - "$M" || i=failed
	kill -KILL "${pids[@]:1}"
	wait "${pids[@]:1}" 2>/dev/null || true
	[ "$i" != failed ]
	[ "$(ls "$M" | wc -l)" -eq 500 ]
	limit 60 kiseki-umount -q "$M"
	wait "${pids[0]}"
}

# giving PID: the threads that serve and give way, each with the CPUs it may run on
giving() {
	local t
	for t in "/proc/$1"/task/*; do
		grep -qE '^ks-(ring|fuse)$' "$t/comm" && [[ $(chrt -p "${t##*/}") == *SCHED_IDLE* ]] &&
			awk '$1 == "Cpus_allowed_list:" { print $2 }' "$t/status"
	done 2>/dev/null
	return 0
}
gives() { [[ $(giving "$1") =~ ^[0-9]+($'\n'|$) ]]; }
gives_no_more() { [ -z "$(giving "$1")" ]; }

@test "kiseki-mount: who serves is on its client's CPU and gives way to it, while there is work" {
	requires fuse root jq chrt
	[ "$(nproc)" -gt 1 ] || skip "one CPU"
	local how pid client
	format
	for how in classic auto; do
		limit 60 kiseki-mount -q --transport=$how "$V" "$M"
		pid=$(kiseki-status --json "$V" | jq -r '.sessions[0].pid')
		gives_no_more "$pid"
		# shellcheck disable=SC2016
		timeout 60 bash -c 'for ((i = 0; ; i++)); do [ ! -e "$1/$i" ] || exit; done' - "$M" 3>&- 4>&- &
		client=$!
		wait_for gives "$pid"
		kill "$client"
		wait "$client" || true
		wait_for gives_no_more "$pid"
		limit 60 kiseki-umount -q "$M"
	done
}
