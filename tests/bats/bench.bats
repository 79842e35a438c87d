#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-bench. Never how fast: that is the machine's.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

small=(--big-size=5M --small-files=7 --small-size=9000 --io-size=64k)

bench() { out_err limit 60 kiseki-bench "${small[@]}" "$@"; }

@test "a volume, a mount, a directory and a store: five rows each, and nothing is left" {
	requires fuse jq
	local where
	format
	mount_it
	mkdir dir
	for where in "$V" "$U" "$M" ./dir "--data=file://$T/store"; do
		bench "$where"
		[ "$status" -eq 0 ]
		[ -z "$err" ]
		[ "$(wc -l <.out)" -eq 6 ]
		[ "$(grep -cE '^(big|small) file (write|read) +[0-9.]+ (MiB/s|/s) +[0-9.]+ (s/GiB|ms)' .out)" -eq 4 ]
		grep -qE '^stat +[0-9.]+ /s +[0-9.]+ ms' .out
		bench --json "$where"
		json_ok .out
		[ "$(jq -r 'select(.type == "item") | .row' .out | xargs)" = 'big_write big_read small_write small_read stat' ]
		tail -n 1 .out | jq -e '.rows | length == 5 and all(. > 0)'
		bench --json -q "$where"
		[ "$(wc -l <.out)" -eq 1 ]
	done
	[ -z "$(ls -A "$M")" ]
	[ -z "$(ls -A dir)" ]
	[ -z "$(find store -name '*bench*')" ]
	# A size that is no multiple of anything, of one file.
	out_err limit 60 kiseki-bench --big-size=1234567 --small-files=1 --small-size=1 --io-size=4k "$V"
	[ "$status" -eq 0 ]
	umount_it
	fsck_clean
	[ -z "$(kiseki-ls "$V")" ]
}

@test "what is read wrong is found, and still nothing is left" {
	format
	KISEKI_FAULT=get:flip=1 bench "--data=file://$T/store"
	[ "$status" -eq 65 ]
	says 'is not what was written'
	[ -z "$(find store -name '*bench*')" ]
	KISEKI_FAULT=put:flip=1 bench "--data=file://$T/store"
	[ "$status" -eq 65 ]
	KISEKI_FAULT=put:fail=EIO:nth=3 bench "--data=file://$T/store"
	[ "$status" -eq 74 ]
	[ -z "$(find store -name '*bench*')" ]
	KISEKI_FAULT=put:fail=ENOSPC bench --json "--data=file://$T/store"
	[ "$status" -eq 74 ]
	json_ok .out
}

@test "interrupted, it takes away what it made" {
	local pid
	format
	KISEKI_FAULT=put:delay=20ms kiseki-bench --big-size=640M --io-size=64k "--data=file://$T/store" 3>&- &
	pid=$!
	pids+=("$pid")
	wait_for compgen -G "$T/store/*bench*" >/dev/null
	kill -TERM $pid
	status=0
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	[ -z "$(find store -name '*bench*')" ]
}

@test "--baseline: 4 when a row is worse, by more than is tolerated" {
	requires jq
	format
	bench --json "$V"
	cp .out before
	# Every machine is faster than this one, and none as fast as that one.
	jq -c 'if .rows then .rows |= map_values(. / 1000000) else . end' before >slow
	jq -c 'if .rows then .rows |= map_values(. * 1000000) else . end' before >fast
	bench --baseline=slow "$V"
	[ "$status" -eq 0 ]
	says 'against baseline'
	[ "$(grep -c ' %$' .out)" -eq 5 ]
	bench --baseline=fast --tolerance=50% "$V"
	[ "$status" -eq 4 ]
	says '5 of 5 rows are worse'
	[ "$(grep -c 'WORSE$' .out)" -eq 5 ]
	bench --baseline=fast --json "$V"
	[ "$status" -eq 4 ]
	json_ok .out
	[ "$(tail -n 1 .out | jq -r .error.code)" = FINDINGS ]
	[ "$(jq -r 'select(.worse) | .row' .out | wc -l)" -eq 5 ]
	# One row that it does not have is not compared.
	jq -c 'if .rows then .rows |= {stat} else empty end' fast >one
	bench --baseline=one "$V"
	[ "$status" -eq 4 ]
	says '1 of 5 rows'
}

@test "bad input" {
	format
	fails_cleanly 66 kiseki-bench nosuch
	fails_cleanly 66 kiseki-bench --baseline=none "$V"
	echo '{"type":"item"}' >wrong
	fails_cleanly 65 kiseki-bench --baseline=wrong "$V"
	says 'kiseki-bench --json'
	fails_cleanly 64 kiseki-bench --data=file:///x "$V"
	fails_cleanly 64 kiseki-bench --data=nonsense://x
	fails_cleanly 64 kiseki-bench --io-size=5000 "$V"
	fails_cleanly 64 kiseki-bench --io-size=1k "$V"
	fails_cleanly 64 kiseki-bench --tolerance=100% "$V"
	fails_cleanly 64 kiseki-bench --tolerance=x "$V"
	fails_cleanly 64 kiseki-bench --small-files=0 "$V"
	fails_cleanly 64 kiseki-bench "$V" more
	if [ "$(id -u)" -ne 0 ]; then
		mkdir -m 500 closed
		fails_cleanly 77 kiseki-bench ./closed
	fi
	[ -z "$(kiseki-ls "$V")" ]
}
