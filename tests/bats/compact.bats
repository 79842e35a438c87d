#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-compact, and what a mount compacts by itself.

load helper
setup() {
	cli_setup
	format --name=v
}
teardown() { mounted_teardown; }

extents() { sql 'select count(*) from extent'; }
count() { tail -n 1 "${2:-.out}" | jq ".counts.$1"; }
scatter() { limit 60 "$helpers/randwrite.t" "$@"; }

# scattered NAME [OPTION...]: a file of thousands of slices on the volume, and the same at $T/NAME
scattered() {
	local name=$1
	shift
	scatter "$@" "$T/$name"
	mount_it --no-maintenance
	scatter "$@" "$M/$name"
	umount_it
}

# same NAME: without anything in a cache
same() { cmp "$T/$1" <(kiseki-cp "$U:/$1" -); }

# noted: the exit code that kiseki-status tells, or null
noted() { kiseki-status --json "$V" | jq -c '.last.compact.exit_code'; }

@test "its end is noted when it was about the whole volume" {
	requires jq
	mkdir d
	kiseki-cp -q -r d "$U:/"
	kiseki-compact -q "$V:/d"
	kiseki-compact -q -n "$V"
	kiseki-compact -q --check "$V"
	[ "$(noted)" = null ]
	kiseki-compact -q "$V"
	[ "$(noted)" = 0 ]
}

@test "10,000 random writes of 4 KiB become one slice, and the volume is whole" {
	requires fuse jq sqlite3
	scattered f
	before=$(extents)
	[ "$before" -gt 5000 ]
	out_err kiseki-compact --check "$V"
	[ "$status" -eq 4 ]
	says 'dry run: nothing changed'
	[ "$(extents)" -eq "$before" ]
	out_err kiseki-compact --json -v "$V"
	[ "$status" -eq 0 ]
	json_ok .out
	[ "$(count slices_before)" -eq "$before" ]
	[ "$(count slices_after)" -eq 1 ]
	[ "$(count bytes)" -eq 41943040 ]
	jq -es '.[0].action == "compacted" and .[0].before > 5000 and .[0].chunk == 0' .out
	[ "$(extents)" -eq 1 ]
	same f
	fsck_clean
	# What was replaced is pending, and goes.
	kiseki-gc -q "$V"
	[ "$(sql 'select count(*) from slice')" -eq 1 ]
	same f
	fsck_clean
	out_err kiseki-compact --check "$V"
	[ "$status" -eq 4 ] # the pack that is dead now
	says 'would replace 1 packs'
	kiseki-compact -q "$V"
	[ -z "$(find "$T/vol/meta.blocks/packs" -type f)" ]
	kiseki-compact -q --check "$V"
	same f
	fsck_clean
}

@test "10,000 random writes of 4 KiB to a sparse file: the holes stay, the slices go" {
	requires fuse jq sqlite3
	scattered f --mib 0 --span 64
	before=$(extents)
	used=$(sql 'select max(used) from inode')
	out_err kiseki-compact --json "$V"
	[ "$(count slices_before)" -eq "$before" ]
	[ "$(count slices_after)" -le 20 ]
	[ "$(extents)" -lt $((before * 2 / 3)) ]
	same f
	kiseki-gc -q "$V"
	[ "$(sql 'select count(*) from slice')" -le 20 ]
	[ "$(sql 'select max(used) from inode')" -eq "$used" ]
	same f
	fsck_clean
	kiseki-compact -q "$V" # and its dead pack
	kiseki-compact -q --check "$V"
	fsck_clean
}

@test "holes stay holes; attributes and other files stay what they are" {
	requires fuse sqlite3
	mount_it --no-maintenance
	for dir in "$T/a" "$M/a"; do
		mkdir "$dir"
		truncate -s 200M "$dir/sparse"
		for i in $(seq 0 20); do
			for k in 2 1 0; do
				printf "%04095d$k" "$i" | dd of="$dir/sparse" bs=4096 seek=$((i * 1000 + k)) conv=notrunc,fsync status=none
			done
		done
		touch -d '2001-02-03 04:05:06.123456789' "$dir/sparse"
		echo small >"$dir/small"
	done
	umount_it
	before=$(kiseki-ls -lR "$V")
	used=$(sql 'select used from inode where size = 209715200')
	kiseki-compact -q --min-slices=2 "$V"
	[ "$(extents)" -lt 30 ]
	[ "$before" = "$(kiseki-ls -lR "$V")" ]
	[ "$(sql 'select used from inode where size = 209715200')" -eq "$used" ]
	fsck_clean
	kiseki-cp -q -a "$U:/a" back
	cmp a/sparse back/sparse
	[ "$(stat -c %b back/sparse)" -lt 3000 ]
}

@test "only below a path; thresholds" {
	requires fuse jq sqlite3
	mount_it --no-maintenance
	mkdir -p "$M/x/y" "$M/z"
	for f in x/y/f z/g; do
		for i in $(seq 1 20); do printf %09000d "$i" >>"$M/$f"; done
	done
	umount_it
	n=$(extents)
	[ "$n" -eq 40 ]
	kiseki-compact -q --min-slices=21 "$V"
	kiseki-compact -q --min-gain=100% "$V"
	kiseki-compact -q "$U:/z/../x/y/none" 2>/dev/null || [ $? -eq 66 ]
	[ "$(extents)" -eq "$n" ]
	out_err kiseki-compact --json "$U:/x"
	[ "$(count compacted_chunks)" -eq 1 ]
	[ "$(extents)" -eq 21 ]
	kiseki compact -q "$U:/z/g"
	[ "$(extents)" -eq 2 ]
	fsck_clean
	kiseki-cp "$U:/x/y/f" - | cmp - <(for i in $(seq 1 20); do printf %09000d "$i"; done)
}

@test "mistakes" {
	fails_cleanly 64 kiseki-compact --min-slices=1 "$V"
	fails_cleanly 64 kiseki-compact --min-slices=x "$V"
	for p in 101 -1 x 20%% '' ' 5' 5.5; do
		fails_cleanly 64 kiseki-compact --min-gain="$p" "$V"
	done
	fails_cleanly 64 kiseki-compact --max-duration=5x "$V"
	fails_cleanly 64 kiseki-compact "$V" "$V"
	fails_cleanly 66 kiseki-compact "$T/none.db"
	fails_cleanly 66 kiseki-compact "$U:/none"
	sed -i 's/"uuid":"......../"uuid":"00000000/' "$T/vol/meta.blocks/kiseki.volume"
	fails_cleanly 78 kiseki-compact "$V"
}

@test "beside a mount that writes: every byte" {
	requires fuse
	mount_it --no-maintenance
	helper bytemodel --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops "$(ops 2000 40000)" --max 8388608 --random-only "$M" >model 2>&1 3>&- &
	pid=$!
	while kill -0 $pid 2>/dev/null; do
		kiseki-compact -q --min-slices=2 --min-gain=0 "$V"
		kiseki-gc -q --only=pending "$V"
	done
	wait $pid || {
		cat model
		false
	}
	umount_it
	fsck_clean
}

@test "two mounts: an open file on the other one reads on" {
	requires fuse sqlite3
	scattered f --mib 20 --count 3000
	mount_it
	mkdir "$T/mnt2"
	mount_at "$T/mnt2" --no-maintenance --readahead=off
	exec 7<"$T/mnt2/f"
	head -c 5000000 <&7 | cmp -n 5000000 - "$T/f"
	kiseki-compact -q "$V"
	SECONDS_MAX=150 wait_for nothing_freed
	cat <&7 | cmp - <(tail -c +5000001 "$T/f")
	exec 7<&-
	cmp "$T/f" "$T/mnt2/f"
	umount_it "$T/mnt2"
	umount_it
	fsck_clean
}
nothing_freed() { [ "$(sql 'select count(*) from freed')" -eq 0 ]; }

@test "a mount does it by itself; --no-maintenance does not" {
	requires fuse jq sqlite3
	scatter --mib 20 --count 3000 "$T/f"
	mount_it --no-maintenance
	scatter --mib 20 --count 3000 "$M/f"
	sleep 2
	[ "$(extents)" -gt 2000 ]
	umount_it
	# Reading is enough to be seen.
	mount_it
	cmp "$T/f" "$M/f"
	wait_for few_extents
	cmp "$T/f" "$M/f"
	jq -e '.compactions > 0 and .compacted_bytes > 0' "$M/.kiseki/stats"
	umount_it
	fsck_clean
}
few_extents() { [ "$(extents)" -le 2 ]; }

@test "kill -9 at any moment, then whole" {
	requires fuse sqlite3
	mount_it --no-maintenance
	for i in 1 2 3 4 5 6; do
		scatter --mib 8 --count 1500 --seed "$i" "$T/f$i"
		scatter --mib 8 --count 1500 --seed "$i" "$M/f$i"
	done
	umount_it
	for i in $(seq 1 "$(ops 6 100)"); do
		KISEKI_FAULT='put:delay=5ms,sync:delay=20ms' kiseki-compact -q --min-slices=2 --min-gain=0 "$V" &
		pid=$!
		sleep "0.$(printf %03d $((50 + i * 40 % 500)))"
		kill -KILL $pid 2>/dev/null || true
		wait $pid || true
		kiseki-fsck -q --data=read "$V"
		[ "$(extents)" -gt 6 ] || break
	done
	kiseki-compact -q "$V"
	[ "$(extents)" -eq 6 ]
	for i in 1 2 3 4 5 6; do same "f$i"; done
	kiseki-gc -q "$V"
	fsck_clean
	for i in 1 2 3 4 5 6; do same "f$i"; done
}

@test "a signal ends it cleanly, a limit too, SIGUSR1 says how far it is" {
	requires fuse jq sqlite3
	scattered f --count 4000
	status=0
	KISEKI_FAULT='put:delay=300ms' kiseki-compact "$V" >.out 2>.err &
	pid=$!
	sleep 0.5
	kill -USR1 $pid
	sleep 0.1
	kill -TERM $pid
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	[ "$(noted)" = 143 ]
	grep -q compact .err
	[ "$(extents)" -gt 2000 ]
	fsck_clean
	KISEKI_FAULT='put:delay=300ms' out_err kiseki-compact --max-duration=2 --json --progress=json "$V"
	[ "$status" -eq 5 ]
	[ "$(noted)" = 5 ]
	json_ok .out
	jq -es 'any(.type == "progress")' .out
	[ "$(extents)" -gt 2000 ]
	fsck_clean
	KISEKI_FAULT='put:delay=300ms' kiseki-compact --progress=always "$V" 2>err
	grep -qE '^compact  [0-9]+ files  ' err
	same f
	# Nothing was left behind.
	[ "$(find "$T/vol/meta.blocks/blocks" -type f | wc -l)" -eq 20 ]
}

@test "a store that fails, or is damaged" {
	requires fuse sqlite3
	scattered f --mib 8 --count 1000
	n=$(extents)
	for fault in put:fail=EIO put:fail=ENOSPC sync:fail=EIO; do
		KISEKI_FAULT=$fault out_err kiseki-compact "$V"
		[ "$status" -eq 74 ] || [ "$status" -eq 3 ]
		[ -n "$err" ]
		[ "$(extents)" -eq "$n" ]
	done
	fsck_clean
	pack=$(find "$T/vol/meta.blocks/packs" -type f | head -n 1)
	printf XXXXXXXX | dd of="$pack" bs=1 seek=2000000 conv=notrunc status=none
	out_err kiseki-compact "$V"
	[ "$status" -eq 3 ]
	says 'stays as it is'
	says 'hint: kiseki-fsck'
	[ "$(extents)" -eq "$n" ]
}

@test "not beside a repair" {
	requires fuse
	mount_it
	out_err kiseki-compact -q "$V"
	[ "$status" -eq 0 ]
	umount_it
	flock -x "$T/vol/meta.locks/volume" sleep 3 3>&- 4>&- &
	sleep 0.3
	fails_cleanly 75 kiseki-compact "$V"
	kiseki-compact -q -n "$V"
	kiseki-compact -q --lock-wait=20 "$V"
}
