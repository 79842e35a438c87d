#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-format.

load helper
setup() { cli_setup; }
teardown() {
	umount "$T/full" "$T/ro" 2>/dev/null || true
	mounted_teardown
}

@test "makes a volume and says what comes next" {
	out_err kiseki-format "$V"
	[ "$status" -eq 0 ]
	[ -z "$err" ]
	says "Created volume 'vol'"
	says "$T/vol/meta.blocks"
	says 'put, get, list, delete ok'
	says 'Next: kiseki-mount'
	[ "$(ls "$T/vol")" = "$(printf 'meta.blocks\nmeta.db')" ]
	[ "$(sql "select value from settings where name = 'data_url'")" = meta.blocks/ ]
	[ "$(sql "select value from settings where name = 'block_size'")" = 4194304 ]
	[ "$(find "$T/vol/meta.blocks" -type f -printf %P)" = kiseki.volume ]
	[ -z "$(kiseki-ls "$V")" ]
}

@test "no other user can read what it makes" {
	local f
	(umask 0 && kiseki-format -q meta.db)
	for f in meta.*; do
		[ "$(stat -c %a "$f" | cut -c 2-)" = 00 ] || {
			ls -l
			return 1
		}
	done
	kiseki-cp -q "$BATS_TEST_FILENAME" "sqlite://$PWD/meta.db:/f"
	[ "$(stat -c %a meta.locks)" = 700 ]
}

@test "the pair can be moved" {
	format
	echo x >f
	kiseki-cp -q f "$U:/"
	mv "$T/vol" "$T/elsewhere"
	[ "$(kiseki-cp "sqlite://$T/elsewhere/meta.db:/f" -)" = x ]
}

@test "refuses what exists, --if-not-exists does not" {
	format --name=photos
	local uuid
	uuid=$(sql "select value from settings where name = 'uuid'")
	fails_cleanly 73 kiseki-format "$V"
	says "'photos' already exists"
	says hint:
	fails_cleanly 73 kiseki-format --if-not-exists "$V"
	kiseki-format --if-not-exists --name=photos "$V"
	[ "$uuid" = "$(sql "select value from settings where name = 'uuid'")" ]
	echo text >x.db
	fails_cleanly 73 kiseki-format ./x.db
	[ "$(cat x.db)" = text ]
}

@test "refuses a data directory that holds something, or another volume" {
	mkdir data
	echo hello >data/file
	fails_cleanly 73 kiseki-format --data="$T/data" "$V"
	says 'not empty'
	says "'file'"
	[ ! -e "$V" ]
	[ "$(ls -A data)" = file ]
	kiseki-format -q --allow-nonempty --data="$T/data" "$V"
	[ "$(cat data/file)" = hello ]
	fails_cleanly 78 kiseki-format --data="file://$T/data" "$T/second.db"
	says 'belongs to another volume'
	says "'vol'"
	fails_cleanly 78 kiseki-format --allow-nonempty --data="file://$T/data" "$T/second.db"
	[ ! -e "$T/second.db" ]
	[ -z "$(kiseki-ls "$V")" ]
}

@test "block size, quotas, names" {
	for bad in 5M 32k 32M 100000 4q; do
		fails_cleanly 64 kiseki-format --block-size=$bad "$V"
		says block-size || says 'not a size'
	done
	fails_cleanly 64 kiseki-format --name='a b' "$V"
	fails_cleanly 64 kiseki-format --name=default "$V"
	fails_cleanly 64 kiseki-format --capacity=lots "$V"
	fails_cleanly 64 kiseki-format --data=ftp://x/y "$V"
	fails_cleanly 64 kiseki-format "$T/a b.db"
	says --name
	[ -z "$(ls "$T/vol")" ]
	kiseki-format -q --block-size=64k --capacity=10G --inodes=100 --name=n.1_x- "$V"
	kiseki-status -b "$V" | grep -q 'quota 10737418240 (0 %), 100 files (1 %)'
	kiseki-status -b "$V" | grep -q '^blocks *65536'
	kiseki-format -q --name=ok "$T/a b.db"
	[ -z "$(kiseki-ls "$T/a b.db")" ]
	kiseki-status "$T/a b.db" | grep -q 'a%20b.db'
}

@test "quotas hold" {
	kiseki-format -q --capacity=1M --inodes=3 "$V"
	head -c 2000000 /dev/zero >big
	fails 74 kiseki-cp -q big "$U:/"
	echo x >a
	kiseki-cp -q a "$U:/a"
	kiseki-cp -q a "$U:/b"
	fails 74 kiseki-cp -q a "$U:/c"
	[ "$(kiseki-ls "$V" | xargs)" = 'a b' ]
}

@test "a name goes to the user's or the machine's directory" {
	requires setpriv root
	chmod 755 "$T"
	mkdir home
	chown 65534:65534 home
	run setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home" kiseki-format photos
	echo "$output"
	[ "$status" -eq 0 ]
	[ -e home/.local/share/kiseki/photos/meta.db ]
	[ "$(stat -c %a home/.local/share/kiseki/photos)" = 700 ]
	run setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home" kiseki-status photos
	[ "$status" -eq 0 ]
	run setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home" kiseki-format photos
	[ "$status" -eq 73 ]
	run setpriv --reuid=65534 --regid=65534 --clear-groups env HOME="$T/home" kiseki-ls photso
	[ "$status" -eq 66 ]
	says 'known volumes: photos'
	"$BATS_TEST_DIRNAME/unshared" bash -c "mount -t tmpfs none /var/lib && kiseki-format -q machine && test -e /var/lib/kiseki/machine/meta.db && kiseki-status -q machine"
}

@test "a directory that cannot be written" {
	requires root
	mkdir ro
	mount -t tmpfs -o ro none ro || skip "cannot mount here"
	fails_cleanly 73 kiseki-format "$T/ro/x.db"
	fails_cleanly 73 kiseki-format --data="$T/ro" "$V"
	[ ! -e "$V" ]
	fails_cleanly 66 kiseki-format "$T/none/x.db"
	fails_cleanly 66 kiseki-format --data="$T/none/deeper" "$V"
	umount ro
	chmod 755 "$T"
	fails_cleanly 77 setpriv --reuid=65534 --regid=65534 --clear-groups kiseki-format "$V"
}

@test "a full disk leaves nothing behind" {
	requires root
	mkdir full
	mount -t tmpfs -o size=64k none full || skip "cannot mount here"
	fails_cleanly 74 kiseki-format "$T/full/x.db"
	says 'No space left'
	[ -z "$(find full -type f)" ]
	mount -o remount,size=4M full
	kiseki-format -q "$T/full/x.db"
}

@test "a store that fails is found out before anything is made" {
	local rule
	for rule in put:fail=EIO:nth=1 get:flip=1 list:fail=EIO:nth=1; do
		KISEKI_FAULT=$rule fails_cleanly 74 kiseki-format "$V"
		[ ! -e "$V" ]
	done
	kiseki-format -q "$V"
}

@test "killed at any moment, the next one succeeds" {
	local i
	for i in $(seq 1 25); do
		kiseki-format -q "$V" &
		sleep "0.00$((RANDOM % 10))$((RANDOM % 10))"
		kill -9 $! 2>/dev/null || true
		wait $! 2>/dev/null || true
		run limit 20 kiseki-format --if-not-exists "$V"
		echo "$output"
		[ "$status" -eq 0 ]
		kiseki-cp -q /etc/passwd "$U:/p"
		[ -z "$(find "$T/vol" -maxdepth 1 -name '*.new*')" ]
		rm -rf "$T/vol"
		mkdir "$T/vol"
	done
}

@test "two at one time: one wins" {
	local i a b
	for i in 1 2 3 4 5; do
		kiseki-format -q --name=a "$V" 2>/dev/null &
		a=$!
		kiseki-format -q --name=b "$V" 2>/dev/null &
		b=$!
		rc=()
		for p in $a $b; do
			if wait $p; then rc+=(0); else rc+=($?); fi
		done
		[ "$(printf '%s\n' "${rc[@]}" | sort -n | xargs)" = '0 73' ]
		kiseki-cp -q /etc/passwd "$U:/p"
		rm -rf "$T/vol"
		mkdir "$T/vol"
	done
}

@test "mkfs.kiseki is the same program" {
	out_err mkfs.kiseki "$V"
	[ "$status" -eq 0 ]
	fails_cleanly 73 mkfs.kiseki "$V"
	says mkfs.kiseki:
}

@test "JSON says what was made" {
	requires jq
	out_err kiseki-format --json "$V"
	jq -e '.created == true and .block_size == 4194304 and .volume.name == "vol" and (.volume.uuid | length) == 36' .out
	[ "$(jq -r .volume.meta .out)" = "$U" ]
}
