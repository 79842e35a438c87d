#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-status.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

@test "says what the volume is and has" {
	format --name=photos
	head -c 5242880 /dev/urandom >f
	kiseki-cp -q f "$U:/f"
	out_err kiseki-status "$V"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	says 'photos  '
	says healthy
	says 'format 1, created 20'
	says "$U"
	says "file://$T/vol/meta.blocks"
	says reachable
	says 'live      5 MiB in 2 files'
	says 'sessions  0'
	says 'quota none'
	kiseki-status -b "$V" | grep -q 'live      5242880 in'
	kiseki-status -v "$V" | grep -q 'found by  a database file'
	kiseki-status -q "$V" | not grep -q .
}

# note TOOL VALUE: what a tool has left in the metadata
note() { sqlite3 "$V" "insert or replace into setting values ('last.$1', cast('$2' as blob))"; }

@test "when maintenance ended last: nothing of a new volume, the time of today, else the day" {
	requires jq sqlite3
	format
	out_err kiseki-status "$V"
	says 'last      none'
	kiseki-status --json "$V" | jq -e '.last == {"gc": null, "compact": null, "fsck": null, "dump": null}'
	kiseki-gc -q "$V"
	out_err kiseki-status "$V"
	grep -qE '^last      gc today [0-2][0-9]:[0-5][0-9] ok, dump never$' <<<"$out"
	kiseki-compact -q "$V"
	kiseki-fsck -q -p "$V"
	kiseki-dump -q "$V" >d.tar
	out_err kiseki-status "$V"
	grep -qE '^last      gc today .* ok, compact today .* ok, fsck today .* ok, dump today .* ok$' <<<"$out"
	kiseki-status --json "$V" | jq -e '[.last[] | .exit_code == 0 and (now - (.ended | fromdate)) < 60] == [true, true, true, true]'
	# 02:00:03 in UTC, and the day before where it is twelve hours earlier.
	note fsck '1795140003123456789 4'
	note gc '1795140003123456789 143'
	TZ=UTC0 kiseki-status "$V" | grep -qE '^last      gc 2026-11-20 exit 143, .* fsck 2026-11-20 exit 4, '
	TZ=AAA12 kiseki-status "$V" | grep -qE '^last      gc 2026-11-19 exit 143, .* fsck 2026-11-19 exit 4, '
	kiseki-status --json "$V" | jq -e '.last.fsck == {"ended": "2026-11-20T02:00:03Z", "exit_code": 4}'
	# What a program of another kind has put there.
	note gc nonsense
	kiseki-status "$V" | grep -q '^last      gc never, compact today'
	note fsck nonsense
	kiseki-status --check -q "$V"
}

# ago DAYS: that time in nanoseconds
ago() { echo $(($(date +%s) - $1 * 86400))000000000; }

# healthy, degraded PROBLEM...: what --check and the JSON say
healthy() {
	kiseki-status --check "$V" 2>err | head -n 1 | grep -q ' healthy$'
	[ ! -s err ]
	kiseki-status --check --json "$V" | jq -e '.healthy and .problems == []'
}
degraded() {
	out_err kiseki-status --check --json "$V"
	[ "$status" -eq 4 ]
	json_ok .out
	jq -e '(.healthy | not) and .problems == $ARGS.positional' --args "$@" <.out
	out_err kiseki-status "$V"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	head -n 1 .out | grep -q ' DEGRADED$'
	out_err kiseki-status --check -q "$V"
	[ "$status" -eq 4 ]
	[ -z "$out" ]
}

@test "--check misses a kiseki-gc that was there once, and sees that it failed" {
	requires jq sqlite3
	local code
	format
	healthy
	note gc "$(ago 7) 0"
	healthy
	note gc "$(ago 9) 0"
	degraded gc
	says 'vol: the last kiseki-gc (20'
	says 'is more than 8 days ago'
	says "hint: kiseki-gc $V;"
	kiseki-gc -q "$V"
	healthy
	for code in 3 74 75 137; do
		note gc "$(ago 0) $code"
		degraded gc
		says "vol: the last kiseki-gc (today "
		says "failed: exit $code"
		says "hint: kiseki-gc $V;"
	done
	# What ended at a limit goes on the next time; the clock may have been ahead.
	for code in 0 4 5 143; do
		note gc "$(ago 1) $code"
		healthy
	done
	note gc "$(ago -30) 0"
	healthy
	# Nobody misses the others.
	for code in compact dump; do
		note $code "$(ago 400) 74"
	done
	note fsck "$(ago 400) 0"
	healthy
	mv "$T/vol/meta.blocks" away
	note gc "$(ago 9) 5"
	degraded data gc
}

@test "--check sees the damage that a repair has left, until one leaves none" {
	requires jq sqlite3
	local code
	format
	head -c 300000 /dev/urandom >f
	kiseki-cp -q f "$U:/f"
	find "$T/vol/meta.blocks/" -type f ! -name kiseki.volume -delete
	fails 4 kiseki-fsck -q "$V"
	healthy
	fails 4 kiseki-fsck -q -p "$V"
	degraded fsck
	says 'vol: the last repair (kiseki-fsck, today '
	says 'exit 4) left damage'
	says "hint: kiseki-fsck $V shows it, kiseki-fsck -y repairs"
	fails 1 kiseki-fsck -q -y "$V"
	healthy
	for code in 5 12 36; do
		note fsck "$(ago 1) $code"
		degraded fsck
	done
	# Of a run, and not of the volume.
	for code in 0 1 8 40; do
		note fsck "$(ago 1) $code"
		healthy
	done
}

@test "changes nothing" {
	format
	kiseki-status "$V" >/dev/null
	before=$(sha256sum "$V")
	kiseki-status --check "$V" >/dev/null
	[ "$before" = "$(sha256sum "$V")" ]
}

@test "JSON has numbers" {
	requires jq
	format --capacity=1G
	kiseki-status --json "$V" | jq -e '.type == "summary" and .healthy and .data.reachable and .live.inodes == 1 and
		.quota.bytes == 1073741824 and (.metadata.bytes | type) == "number" and .sessions == [] and .block_size == 4194304'
}

@test "--check is 4 when the data is gone, another volume's, or a quota is nearly full" {
	requires jq
	format --inodes=20
	kiseki-status --check -q "$V"
	mv "$T/vol/meta.blocks" "$T/away"
	out_err kiseki-status --check "$V"
	[ "$status" -eq 4 ]
	says DEGRADED
	says 'NOT USABLE'
	says meta.blocks
	out_err kiseki-status "$V"
	[ "$status" -eq 0 ]
	says DEGRADED
	out_err kiseki-status --check --json "$V"
	[ "$status" -eq 4 ]
	json_ok .out
	[ "$(jq -r .data.reachable .out)" = false ]
	[ "$(jq -r .error.code .out)" = FINDINGS ]
	[ ! -e "$T/vol/meta.blocks" ]
	mv "$T/away" "$T/vol/meta.blocks"
	kiseki-status --check -q "$V"
	sed -i s/uuid/wuid/ "$T/vol/meta.blocks/kiseki.volume"
	fails 4 kiseki-status --check -q "$V"
	sed -i s/wuid/uuid/ "$T/vol/meta.blocks/kiseki.volume"
	mkdir d
	touch d/{1..19}
	kiseki-cp -q -r d/* "$U:/"
	out_err kiseki-status --check "$V"
	[ "$status" -eq 4 ]
	says '95 %'
	says '(100 %)'
}

@test "a mount is a session, and by its mount point the volume is found" {
	requires fuse jq
	format --name=photos
	mount_it
	out_err kiseki-status "$V"
	says 'sessions  1'
	says "$M"
	says "pid $(daemon)"
	says heartbeat
	kiseki-status -v "$M" | grep -q 'found by  a mount point'
	kiseki-status --json "$M" | jq -e --arg m "$M" '.sessions | length == 1 and .[0].mountpoint == $m and .[0].dead == false and .[0].kind == "mount"'
	[ "$(kiseki-ls "$M")" = '' ]
	echo x >"$M/f"
	[ "$(kiseki-ls "$M")" = f ]
	kill_daemon
	out_err kiseki-status --check "$V"
	[ "$status" -eq 4 ]
	says 'dead'
}

transport_is() { kiseki-status --json "$V" | jq -e --arg t "$1" '.sessions | length == 1 and .[0].transport == $t'; }

@test "a mount that answers tells what carries its requests" {
	requires fuse jq
	format
	mount_it --transport=classic
	transport_is classic
	kiseki-status "$V" | grep -qE "pid $(daemon) .*  transport classic\$"
	umount_it
	uring_is_offered || return 0
	mount_it --transport=uring
	transport_is uring
	umount_it
	transport=()
	mount_it
	transport_is uring
}

@test "a mount that does not answer, or not to everybody, is a session like any other" {
	requires fuse jq root
	format
	mount_it --transport=classic
	kill -STOP "$(daemon)"
	out_err limit 5 kiseki-status --check --json "$V"
	kill -CONT "$(daemon)"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	jq -e '.sessions | length == 1 and (.[0] | has("transport") | not)' <<<"$out"
	transport_is classic
	# Who may read the database, but not ask the daemon.
	chmod a+rX "$T" "${V%.db}".*
	cp "$bin/kiseki-status" .
	out_err setpriv --reuid=nobody --regid=nogroup --clear-groups ./kiseki-status --json "$V"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	jq -e '.sessions | length == 1 and (.[0] | has("transport") | not)' <<<"$out"
}
