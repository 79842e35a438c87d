#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-fsck.

load helper
setup() {
	cli_setup
	format
	mkdir -p src/dir
	head -c 9437185 /dev/urandom >src/dir/big
	ln src/dir/big src/again
	echo small >src/small
	kiseki-cp -q -a src/. "$U:/"
	B=$(find "$T" -path '*blocks*' -name '*_1_4194304')
}
teardown() { mounted_teardown; }

sql() { sqlite3 "$V" "$@"; }
state() { sha256sum "$V" | cut -d ' ' -f 1; }

@test "a healthy volume is clean, and is not written to" {
	before=$(state)
	out_err kiseki-fsck "$V"
	[ "$status" -eq 0 ]
	[[ $out == *"Pass 4/4"*": clean" ]]
	[ -z "$err" ]
	out_err kiseki-fsck --data=read -n "$V"
	[ "$status" -eq 0 ]
	[ "$(state)" = "$before" ]
}

# noted: the exit code that kiseki-status tells, or null
noted() { kiseki-status --json "$V" | jq -c '.last.fsck.exit_code'; }

@test "a repair is noted with its exit code, a check is not" {
	requires jq sqlite3
	kiseki-fsck -q "$V"
	kiseki-fsck -q -n "$V"
	[ "$(noted)" = null ]
	kiseki-fsck -q -p "$V"
	[ "$(noted)" = 0 ]
	sql "update counter set value = 7 where name = 'used_bytes'"
	fails 1 kiseki-fsck -q -p "$V"
	[ "$(noted)" = 1 ]
	rm "$B"
	fails 4 kiseki-fsck -q -p "$V"
	[ "$(noted)" = 4 ]
	fails 1 kiseki-fsck -q -y "$V"
	[ "$(noted)" = 1 ]
	kiseki-fsck -q "$V"
	# Notes are no damage, whatever they say.
	sql "update setting set value = cast('x' as blob) where name = 'last.fsck'"
	before=$(state)
	kiseki-fsck -q "$V"
	[ "$(state)" = "$before" ]
}

@test "a missing block: every path, the bytes, -y moves the file" {
	rm "$B"
	out_err kiseki-fsck "$V"
	[ "$status" -eq 4 ]
	grep -E '/(dir/big|again) \(link: /(dir/big|again)\): bytes 4194304 to 8388607: block missing' <<<"$out"
	[[ $out == *"1 file damaged; nothing changed" ]]
	out_err kiseki-fsck -p "$V"
	[ "$status" -eq 4 ]
	out_err kiseki-fsck -y "$V"
	[ "$status" -eq 1 ]
	out_err kiseki-fsck "$V"
	[ "$status" -eq 0 ]
	run kiseki-ls "$U:/.lost+found"
	[[ $output == "#"*.* ]]
	not kiseki-ls "$U:/again"
	# what is whole can be read there
	f=$(kiseki-ls "$U:/.lost+found")
	not kiseki-cp -q "$U:/.lost+found/$f" "$T/x"
}

@test "a flipped bit is found by reading only" {
	printf '\xff\x00\xff' | dd of="$B" bs=1 seek=70000 conv=notrunc status=none
	kiseki-fsck -q "$V"
	out_err kiseki-fsck --data=read "$V"
	[ "$status" -eq 4 ]
	[[ $out == *"bytes 4259840 to 4325375: block damaged"* ]]
}

@test "JSON: a line per problem, the summary last" {
	rm "$B"
	sql "UPDATE counter SET value=value+5 WHERE name='used_bytes'"
	out_err kiseki-fsck --json "$V"
	[ "$status" -eq 4 ]
	json_ok "$T/.out"
	jq -s -e 'map(select(.kind == "missing_block")) | length == 1 and (.[0] | (.paths | length) == 2 and .offset == 4194304 and
		.length == 4194304 and .repair == "lossy" and (.fixed | not))' "$T/.out"
	out_err kiseki-fsck --json -p "$V"
	[ "$status" -eq 5 ]
	tail -n 1 "$T/.out" | jq -e '.counts | .counters_fixed == 1 and .unrepaired == 1 and .damaged_files == 1'
	out_err kiseki-fsck --json -q "$V"
	[ "$(wc -l <"$T/.out")" -eq 1 ]
}

@test "exit codes of fsck(8)" {
	sql "UPDATE inode SET nlink=9 WHERE nlink=2 AND mode<20000 OR nlink=2 AND mode>32768"
	out_err kiseki-fsck -q "$V"
	[ "$status" -eq 4 ]
	[ -n "$err" ]
	kiseki-fsck -f -q -a "$V" || [ $? -eq 1 ]
	kiseki-fsck -q "$V"
	out_err kiseki-fsck --bogus "$V"
	[ "$status" -eq 16 ]
	out_err kiseki-fsck "$T/none.db"
	[ "$status" -eq 8 ]
	out_err kiseki-fsck -n -y "$V"
	[ "$status" -eq 16 ]
	out_err kiseki-fsck --sample=5% "$V"
	[ "$status" -eq 16 ]
	out_err kiseki-fsck --data=read --sample=4/3 "$V"
	[ "$status" -eq 16 ]
}

@test "settings: a volume that cannot be opened any more" {
	sql "DELETE FROM setting WHERE name='trash_ns'; UPDATE setting SET value=CAST('7' AS BLOB) WHERE name='block_size'"
	not kiseki-ls "$U:/"
	out_err kiseki-fsck "$V"
	[ "$((status & 4))" -eq 4 ]
	[[ $out == *trash_ns* && $out == *block_size* ]]
	out_err kiseki-fsck -p "$V"
	[ "$status" -eq 1 ]
	kiseki-fsck -q --data=read "$V"
	kiseki-ls "$U:/"
}

@test "a stranger's store is not judged" {
	M=$(find "$T" -name kiseki.volume)
	sed -i 's/"uuid":"......../"uuid":"00000000/' "$M"
	out_err kiseki-fsck -y "$V"
	[ "$status" -eq 8 ]
	[[ $err == *"another volume"* ]]
}

@test "-C tells how far it is" {
	kiseki-fsck -q -C 7 "$V" 7>"$T/fd"
	grep -qx '4 100 100 .*' "$T/fd"
}

@test "samples: thirty parts are the whole" {
	n=0
	for i in 1 2 3; do
		n=$((n + $(kiseki-fsck --json --data=read --sample=$i/3 "$V" | tail -n 1 | jq .counts.read_blocks)))
	done
	[ "$n" -eq "$(kiseki-fsck --json --data=read "$V" | tail -n 1 | jq .counts.read_blocks)" ]
}

@test "a damaged database is an error, never a crash" {
	cp -a "$T/vol" "$T/good"
	size=$(stat -c %s "$V")
	for i in $(seq 40); do
		rm -rf "$T/vol"
		cp -a "$T/good" "$T/vol"
		for _ in 1 2 3 4; do
			printf '\xa5' | dd of="$V" bs=1 seek=$(((RANDOM * 32768 + RANDOM) % size)) conv=notrunc status=none
		done
		for how in -n -y; do
			out_err limit 20 kiseki-fsck $how --data=read "$V"
			[ "$status" -lt 64 ] || { echo "run $i"; return 1; }
		done
	done
}

@test "beside a mount: -n works, -p waits for its turn" {
	requires fuse
	mount_it
	echo more >"$M/more"
	kiseki-fsck -q --data=read "$V"
	out_err kiseki-fsck -p "$V"
	[ "$status" -eq 8 ]
	[[ $err == *"in use by kiseki-mount"* ]]
	kiseki-umount -q "$M"
	kiseki-fsck -q -p "$V"
}
