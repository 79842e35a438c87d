#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The daemon is killed at random moments: what was promised is there after the next mount.
# KISEKI_TEST_LONG=1: many rounds.

load mounted_helper

setup() {
	[ -z "$long" ] || LIMIT=1200
	mounted_setup
}
teardown() { mounted_teardown; }

# rounds N FORMAT_OPTS...: write, kill -9, mount again (over the dead mount), check everything promised so far
rounds() {
	local n=$1 i writer seed=${KISEKI_TEST_SEED:-$RANDOM}
	shift
	format "$@"
	echo "seed $seed"
	for ((i = 1; i <= n; i++)); do
		mount_it
		mkdir "$M/round$i"
		limit 60 "$helpers/crashwriter.t" --seed $((seed + i * 100)) --seconds 30 "$M/round$i" "$T/log$i" 3>&- &
		writer=$!
		sleep "$(awk -v s=$((seed + i)) 'BEGIN { srand(s); print 0.2 + 2 * rand() }')"
		kill_daemon
		wait $writer
		check_rounds "$i"
		umount_it
		[ "$(sql 'pragma integrity_check')" = ok ]
	done
	fsck_clean
}

check_rounds() {
	local k
	mount_it
	for ((k = 1; k <= $1; k++)); do
		run_ok helper crashcheck "$M/round$k" "$T/log$k"
		echo "round $k: $(tail -1 <<<"$output")"
	done
}

@test "kill -9 while files are written, synced, renamed and removed" {
	rounds "$(ops 6 40)"
}

@test "kill -9 with a trash" {
	rounds "$(ops 2 20)" --trash=1d
	kiseki-trash empty --yes -q "$V"
	fsck_clean
}

@test "kill -9 with blocks of 64 KiB" {
	rounds "$(ops 3 20)" --block-size=64k
}

@test "kill -9: what was only written and synced is there, whole" {
	format
	mount_it
	head -c 30000000 /dev/urandom >"$T/data"
	exec 7>"$M/synced"
	cat "$T/data" >&7
	sync "$M/synced"
	kill_daemon
	exec 7>&-
	mount_it
	cmp "$T/data" "$M/synced"
}

@test "kill -9: what was closed is there" {
	format
	mount_it
	head -c 30000000 /dev/urandom >"$T/data"
	cp "$T/data" "$M/closed"
	kill_daemon
	mount_it
	cmp "$T/data" "$M/closed"
}

@test "kill -9: what O_SYNC and O_DSYNC wrote is there, though nothing was closed" {
	local flags
	format
	for flags in sync dsync append,sync append,dsync; do
		mount_it
		[ "${flags#append}" = "$flags" ] || echo -n old- >"$M/$flags"
		(echo -n text && sleep 3) | dd of="$M/$flags" oflag="$flags" bs=4 count=2 conv=notrunc status=none 2>/dev/null 3>&- &
		SECONDS_MAX=50 wait_for size_is "$M/$flags" "$([ "${flags#append}" = "$flags" ] && echo 4 || echo 8)"
		kill_daemon
		wait $! || true
		mount_it
		[ "$(cat "$M/$flags")" = "$([ "${flags#append}" = "$flags" ] || echo -n old-)text" ]
		umount_it
	done
}

size_is() { [ "$(stat -c %s "$1")" -eq "$2" ]; }

@test "kill -9: an idle file is committed without being closed" {
	format
	mount_it
	exec 7>"$M/idle"
	echo "some text" >&7
	sleep 8
	kill_daemon
	exec 7>&- || true
	mount_it
	[ "$(cat "$M/idle")" = "some text" ]
}

@test "kill -9: space of unlinked open files and of what never was committed comes back" {
	format
	mount_it
	dd if=/dev/urandom of="$M/f" bs=1M count=20 status=none
	exec 7<"$M/f"
	rm "$M/f"
	# Uploaded and never committed: a file that grows until the end.
	(dd if=/dev/urandom of="$M/growing" bs=1M count=4000 status=none 2>/dev/null || true) 3>&- &
	local writer=$!
	sleep 0.5
	kill_daemon
	wait $writer || true
	exec 7<&-
	mount_it
	rm -f "$M/growing"
	SECONDS_MAX=300 wait_for few_objects
}

# Orphans of the crash itself are kiseki-gc's to find; what metadata knows must go.
few_objects() { [ "$(sql 'select (select count(*) from slice) + (select count(*) from freed) + (select count(*) from deleted)')" -eq 0 ]; }

@test "kill -9 of kiseki-cp: again finishes the work" {
	format
	mkdir "$T/tree"
	local i
	for ((i = 0; i < 400; i++)); do
		head -c $((i * 500)) /dev/urandom >"$T/tree/$i"
	done
	for i in 0.05 0.15 0.4; do
		kiseki-cp -q -a -T "$T/tree" "$U:/tree" 3>&- &
		local cp=$!
		sleep $i
		kill -KILL $cp 2>/dev/null || true
		wait $cp || true
	done
	limit 60 kiseki-cp -q -a -T "$T/tree" "$U:/tree"
	mount_it
	# What replaces a file has a second name for a moment; a kill may leave that.
	diff -r -x '.kiseki-cp-*' "$T/tree" "$M/tree"
	fsck_clean
	[ "$(sql 'pragma integrity_check')" = ok ]
}

@test "a dead mount answers ENOTCONN, and mounting again replaces it" {
	format
	mount_it
	echo kept >"$M/f"
	kill_daemon
	run ls "$M"
	[ "$status" -ne 0 ]
	says "not connected"
	mount_it
	[ "$(cat "$M/f")" = kept ]
	[ "$(mounts | grep -c " $M\$")" -eq 1 ]
}

@test "a mount whose process was killed a moment ago is replaced" {
	local i pid
	format
	for i in 1 2 3; do
		kiseki-mount -q -f "${transport[@]}" "$V" "$M" 2>/dev/null 3>&- &
		pid=$!
		SECONDS_MAX=50 wait_for mountpoint -q "$M"
		ls "$M"
		sleep "0.0$((i * 17))"
		kill -KILL "$pid"
		wait "$pid" || true
		mount_it
		umount_it
	done
}

@test "a dead mount can be unmounted" {
	format
	mount_it
	kill_daemon
	umount_it
	[ "$(mounts | wc -l)" -eq 0 ]
}
