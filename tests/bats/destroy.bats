#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-destroy.

load helper
setup() {
	cli_setup
	format --name=v
	D=$T/vol/meta.blocks
}
teardown() { mounted_teardown; }

# filled: the volume with blocks and packs
filled() {
	sample src
	kiseki-cp -q -a src "$U:/"
}

# gone: nothing of it is left
gone() { [ -z "$(ls -A "$T/vol")" ] || { ls -lAR "$T/vol"; return 1; }; }

@test "everything goes, and nothing else" {
	filled
	mkdir "$T/vol/mine"
	echo x >"$T/vol/mine/x"
	out_err kiseki-destroy --yes "$V"
	[ "$status" -eq 0 ]
	[[ $out == "destroyed v: "*" objects, "* ]]
	[ "$(ls -A "$T/vol")" = mine ]
	[ -e "$T/vol/mine/x" ]
	fails_cleanly 66 kiseki-destroy --yes "$V"
	# The place is free for another one.
	format --name=w
	kiseki-cp -q -a src "$U:/"
	kiseki-fsck -q --data=read "$V"
}

@test "a volume by name: its directory too" {
	requires setpriv
	local as=(env HOME="$T/home")
	mkdir home
	[ "$(id -u)" -ne 0 ] || {
		chmod 755 "$T"
		chown 65534:65534 home
		as=(setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home")
	}
	unset XDG_CONFIG_HOME
	cd home
	"${as[@]}" kiseki-format -q scratch
	[ -e .local/share/kiseki/scratch/meta.db ]
	"${as[@]}" kiseki-destroy -q --yes scratch
	[ -z "$(ls -A .local/share/kiseki)" ]
}

@test "nobody is asked, nothing is destroyed" {
	filled
	before=$(find "$T/vol" -type f -not -name '*-shm' -not -name '*-wal' -exec sha256sum {} + | sort)
	fails_cleanly 64 kiseki-destroy "$V"
	says --yes
	fails_cleanly 64 kiseki-destroy
	KISEKI_VOLUME=$V fails_cleanly 64 kiseki-destroy --yes
	fails_cleanly 64 kiseki-destroy --yes "$V" "$V"
	fails_cleanly 66 kiseki-destroy --yes "$T/none.db"
	fails_cleanly 66 kiseki-destroy --yes nosuchvolume
	[ "$before" = "$(find "$T/vol" -type f -not -name '*-shm' -not -name '*-wal' -exec sha256sum {} + | sort)" ]
	kiseki-fsck -q --data=read "$V"
}

@test "on a terminal the name is wanted" {
	requires script
	printf 'y\n' | script -qec "kiseki-destroy '$V'" /dev/null >tty || true
	grep -q 'no way back' tty
	grep -q 'nothing was destroyed' tty
	[ -e "$V" ]
	printf 'v\n' | script -qec "kiseki-destroy '$V'" /dev/null >tty
	gone
}

@test "-n counts and changes nothing" {
	requires jq
	filled
	out_err kiseki-destroy -n "$V"
	[ "$status" -eq 0 ]
	says 'dry run: nothing changed'
	says 'metadata '
	[ -e "$V" ]
	kiseki-fsck -q --data=read "$V"
	out_err kiseki-destroy -nv --json "$V"
	json_ok .out
	n=$(find "$D/blocks" "$D/packs" -type f | wc -l)
	tail -n 1 .out | jq -e --argjson n "$n" '.counts.objects == $n and .dry_run'
	[ "$(jq -s 'map(select(.action == "would delete")) | length' .out)" -eq "$n" ]
	out_err kiseki-destroy --yes --json "$V"
	json_ok .out
	tail -n 1 .out | jq -e --argjson n "$n" '.counts.objects == $n and .volume.name == "v"'
	gone
}

@test "not while it is mounted" {
	requires fuse
	filled
	mount_it
	fails_cleanly 75 kiseki-destroy --yes "$V"
	says kiseki-mount
	fails_cleanly 75 kiseki-destroy --yes "$M"
	(sleep 1 && umount_it) 3>&- 4>&- &
	kiseki-destroy -q --yes --lock-wait=20 "$V"
	gone
	[ "$(ls -A "$M")" = '' ]
}

@test "what is not ours stays" {
	filled
	echo mine >"$D/notes.txt"
	mkdir "$D/blocks/mine" "$D/empty"
	echo mine >"$D/blocks/mine/file"
	out_err kiseki-destroy --yes "$V"
	[ "$status" -eq 0 ]
	says "not Kiseki's stay"
	[ "$(cat "$D/notes.txt" "$D/blocks/mine/file")" = $'mine\nmine' ]
	[ -d "$D/empty" ]
	[ ! -e "$V" ]
	[ "$(find "$D" -type f | wc -l)" -eq 2 ]
}

@test "another volume's data, or none: nothing is deleted" {
	filled
	n=$(find "$D" -type f | wc -l)
	cp "$D/kiseki.volume" marker
	sed -i 's/"uuid":"......../"uuid":"00000000/' "$D/kiseki.volume"
	fails_cleanly 78 kiseki-destroy --yes "$V"
	rm "$D/kiseki.volume"
	fails_cleanly 78 kiseki-destroy --yes "$V"
	[ "$(find "$D" -type f | wc -l)" -eq $((n - 1)) ]
	cp marker "$D/kiseki.volume"
	mv "$D" away
	fails_cleanly 66 kiseki-destroy --yes "$V"
	mv away "$D"
	kiseki-fsck -q --data=read "$V"
	mv "$D" away
	kiseki-destroy -q --yes --keep-data "$V"
	gone
	[ "$(find away -type f | wc -l)" -eq "$n" ]
}

@test "--keep-data" {
	filled
	n=$(find "$D" -type f | wc -l)
	kiseki-destroy -q --yes --keep-data "$V"
	[ "$(ls -A "$T/vol")" = meta.blocks ]
	[ "$(find "$D" -type f | wc -l)" -eq "$n" ]
}

@test "killed at any moment, another run finishes it" {
	for i in $(seq 1 12); do
		rm -rf "$T/vol"
		mkdir "$T/vol"
		format --name=v --block-size=64k
		head -c 4000000 /dev/urandom >f
		kiseki-cp -q f "$U:/"
		KISEKI_FAULT='del:delay=20ms,list:delay=5ms' kiseki-destroy -q --yes "$V" &
		pid=$!
		sleep "0.$(printf %03d $((i * 15)))"
		kill -KILL $pid 2>/dev/null || true
		wait $pid || true
		[ -e "$V" ] || continue
		kiseki-destroy -q --yes "$V"
		gone
	done
}

@test "after the objects, and after the marker" {
	requires sqlite3
	filled
	KISEKI_FAULT='del:fail=EIO:nth=2' out_err kiseki-destroy --yes "$V"
	[ "$status" -eq 74 ] || [ "$status" -eq 0 ]
	if [ "$status" -eq 74 ]; then
		# Nobody uses what is left.
		fails_cleanly 78 kiseki-cp "$U:/src/file" -
		says kiseki-destroy
		fails_cleanly 78 kiseki-gc "$V"
		find "$D" -type f -delete
		kiseki-destroy -q --yes "$V"
	fi
	gone
	format --name=v
	sqlite3 "$V" "insert into setting values ('destroying', cast('1' as blob))"
	rm -r "$D"
	kiseki-destroy -q --yes "$V"
	gone
}

@test "a signal ends it cleanly" {
	rm -r "$T/vol"
	mkdir "$T/vol"
	format --name=v --block-size=64k
	head -c 25000000 /dev/urandom >f
	kiseki-cp -q f "$U:/"
	status=0
	KISEKI_FAULT='del:delay=600ms' kiseki-destroy --yes "$V" >.out 2>.err &
	pid=$!
	sleep 0.4
	kill -USR1 $pid
	kill -TERM $pid
	wait $pid || status=$?
	[ "$status" -eq 143 ]
	grep -q 'run it again' .err
	grep -q 'destroy' .err
	[ -e "$V" ]
	kiseki-destroy -q --yes "$V"
	gone
}
