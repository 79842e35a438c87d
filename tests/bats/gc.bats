#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-gc.

load helper
setup() {
	cli_setup
	format
	mkdir src
	head -c 9437185 /dev/urandom >src/big
	echo small >src/small
	kiseki-cp -q -r src/. "$U:/"
	D=$(dirname "$(find "$T" -name kiseki.volume)")
}
teardown() { mounted_teardown; }

# orphan SLICE BLOCK AGE
orphan() {
	mkdir -p "$D/blocks/0/0"
	head -c 8192 /dev/zero >"$D/blocks/0/0/$1_$2_4096"
	touch -d "$3" "$D/blocks/0/0/$1_$2_4096"
}
objects() { find "$D" -type f | wc -l; }
counts() { tail -n 1 "$T/.out" | jq -e ".counts | $1"; }

@test "nothing to do" {
	n=$(objects)
	out_err kiseki-gc "$V"
	[ "$status" -eq 0 ]
	[[ $out == *"reclaimed 0 B"* ]]
	[ "$(objects)" -eq "$n" ]
	out_err kiseki-gc -q "$V"
	[ -z "$out$err" ]
	kiseki-gc --check -q "$V"
}

# noted: the exit code that kiseki-status tells, or null
noted() { kiseki-status --json "$V" | jq -c '.last.gc.exit_code'; }

@test "its end is noted, unless it did not do all there is, or nothing" {
	requires jq
	kiseki-gc -q -n "$V"
	kiseki-gc -q --check "$V"
	kiseki-gc -q --only=trash,orphans "$V"
	[ "$(noted)" = null ]
	kiseki-gc -q --only=trash,sessions,pending,orphans "$V"
	[ "$(noted)" = 0 ]
	orphan 900 0 '2 days ago'
	orphan 900 1 '2 days ago'
	fails 5 kiseki-gc --max-delete=1 "$V"
	[ "$(noted)" = 5 ]
	fails 74 env KISEKI_FAULT=list:fail=EIO kiseki-gc -q "$V"
	[ "$(noted)" = 74 ]
	kiseki-gc -q "$V"
	[ "$(noted)" = 0 ]
}

@test "orphans: old ones go, young ones stay, -n and --check change nothing" {
	orphan 900 0 '2 days ago'
	orphan 900 1 '2 days ago'
	orphan 901 0 '2 hours ago'
	n=$(objects)
	out_err kiseki-gc -n --json "$V"
	[ "$status" -eq 0 ]
	json_ok "$T/.out"
	counts '.orphans.objects == 2 and .young.objects == 1 and .deleted_objects == 0'
	out_err kiseki-gc --check "$V"
	[ "$status" -eq 4 ]
	[[ $out == *"dry run: nothing deleted" ]]
	[ "$(objects)" -eq "$n" ]
	out_err kiseki-gc --json "$V"
	[ "$status" -eq 0 ]
	counts '.deleted_objects == 2 and .deleted_bytes == 16384'
	out_err kiseki-gc --grace=1h "$V"
	[ "$(objects)" -eq $((n - 3)) ]
	kiseki-fsck -q --data=read "$V"
}

@test "what is of no name of ours stays" {
	echo mine >"$D/notes.txt"
	touch -d '9 days ago' "$D/notes.txt"
	kiseki-gc -q "$V"
	[ -e "$D/notes.txt" ]
}

@test "usage" {
	fails_cleanly 64 kiseki-gc --grace=5s "$V"
	fails_cleanly 64 kiseki-gc --only=nonsense "$V"
	fails_cleanly 66 kiseki-gc "$T/none.db"
	KISEKI_TESTING=1 kiseki-gc -q --grace=5s --only=pending,orphans "$V"
}

@test "a limit stops it, and the next run goes on" {
	for i in 1 2 3; do orphan 900 $i '2 days ago'; done
	out_err kiseki-gc --max-delete=2 "$V"
	[ "$status" -eq 5 ]
	out_err kiseki-gc --max-delete=2 "$V"
	[ "$status" -eq 0 ]
	[ -z "$(find "$D" -name '900_*')" ]
}

@test "the ceiling" {
	for i in $(seq 1001); do orphan 900 "$i" '2 days ago'; done
	n=$(objects)
	out_err kiseki-gc "$V"
	[ "$status" -eq 74 ]
	[[ $err == *"1001 of"*"nothing was deleted"* ]]
	[ "$(objects)" -eq "$n" ]
	kiseki-gc -q --force "$V"
	[ "$(objects)" -eq $((n - 1001)) ]
	kiseki-fsck -q "$V"
}

@test "another volume's store, or none: nothing is touched" {
	orphan 900 0 '2 days ago'
	n=$(objects)
	sed -i 's/"uuid":"......../"uuid":"00000000/' "$D/kiseki.volume"
	fails_cleanly 78 kiseki-gc "$V"
	rm "$D/kiseki.volume"
	fails_cleanly 78 kiseki-gc "$V"
	[ "$(objects)" -eq $((n - 1)) ]
}

@test "what cannot be deleted is told once, with the cause, and tried again" {
	requires jq
	for n in 0 1 2; do orphan 900 $n '2 days ago'; done
	KISEKI_FAULT=del:fail=EACCES out_err kiseki-gc --json "$V"
	[ "$status" -eq 3 ]
	json_ok .out
	counts '.failed == 3 and .deleted_objects == 0'
	[ "$(grep -c 'cannot delete blocks/0/0/900_._4096: .*Permission denied' .err)" -eq 1 ]
	grep -q '3 objects could not be deleted' .err
	grep -q 'hint: the next run' .err
	jq -es 'map(select(.type == "error")) | length == 1 and .[0].op == "delete" and .[0].errno == "EACCES"' .out
	out_err kiseki-gc --json "$V"
	[ "$status" -eq 0 ]
	counts '.failed == 0 and .deleted_objects == 3'
}

@test "a listing that fails deletes nothing" {
	orphan 900 0 '2 days ago'
	n=$(objects)
	for e in EIO EACCES ETIMEDOUT; do
		KISEKI_FAULT="list:fail=$e" out_err kiseki-gc "$V"
		[ "$status" -ge 64 ]
		[ "$(objects)" -eq "$n" ]
	done
	KISEKI_FAULT="del:fail=EIO" out_err kiseki-gc "$V"
	[ "$status" -eq 3 ]
	[ "$(objects)" -eq "$n" ]
}

@test "beside a mount: what it deleted goes, what it writes stays" {
	requires fuse
	mount_it
	rm "$M/big"
	head -c 5000000 /dev/urandom >"$T/x"
	cp "$T/x" "$M/x"
	export KISEKI_TESTING=1
	sleep 5.1
	kiseki-gc -q --grace=5s "$V"
	cmp "$T/x" "$M/x"
	kiseki-umount -q "$M"
	kiseki-gc -q --grace=5s "$V"
	kiseki-fsck -q --data=read "$V"
	kiseki-fsck -v "$V" | not grep 'belong to nothing'
}
