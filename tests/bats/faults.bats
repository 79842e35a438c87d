#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The real daemon on a real mount, with system calls that fail, or do half (tests/mounted/faultrun.c).

load faults_helper

setup() {
	[ -z "$long" ] || LIMIT=300
	faults_setup
}
teardown() { mounted_teardown; }

# not_said TEXT FILE
not_said() { ! grep "$1" "$2"; }

# under RULE [ERRORS]: a workload meets it, and only ERRORS; when it has passed, all is well at once
under() {
	rules
	mount_faulty
	mkdir "$M/d1" "$M/d2"
	rules "$1"
	run_ok helper crashwriter --seed "${KISEKI_TEST_SEED:-$RANDOM}" --seconds "$(ops 1 10)" ${2:+--errors "$2"} "$M/d1" "$T/log.d1"
	echo "$output"
	rules
	[ -s "$R.log" ] # something did fail
	run_ok helper crashwriter --seed 11 --ops 30 "$M/d2" "$T/log.d2"
	check_all
	umount_it
	mount_faulty
	check_all
	umount_it
	fsck_clean
}

@test "one descriptor: what fails is told once, the data stays, and the next fsync succeeds" {
	mount_faulty
	export REMOUNT_CMD="timeout 60 kiseki-umount -q '$M' && timeout 30 $helpers/faultrun.t '$R' kiseki-mount -q ${transport[*]} '$V' '$M' 3>&- 4>&-"
	run_ok helper faultcheck "$R" "$M"
	echo "$output"
	umount_it
	fsck_clean
}

@test "writes of the store and the database fail now and then" {
	under 'write EIO */vol/* 5+7' EIO
}

@test "the disk is full now and then" {
	under 'write,allocate,create ENOSPC */vol/* 5+7' ENOSPC
}

@test "the quota is reached now and then" {
	under 'write,allocate EDQUOT */vol/* 5+7' ENOSPC,EDQUOT
}

@test "syncs fail now and then" {
	under 'sync EIO */vol/* 3+5' EIO
}

@test "files cannot be opened, made, named, cut or deleted now and then" {
	under 'open,rename,truncate,unlink,mkdir EIO */vol/* 3+5' EIO
}

@test "descriptors and memory run out: the program is told of an error of the disk, not of its own" {
	under 'open,mmap EMFILE */vol/* 3+5' EIO
}

@test "interrupted calls go on, and nobody is told" {
	under 'write,read,sync,open,create,allocate,truncate EINTR */vol/* 3+5'
}

@test "short reads and writes go on, and nobody is told" {
	under 'write,read short */vol/* 2+3'
}

@test "the database answers nothing but errors: programs get EIO, the log names the file, and it passes" {
	mount_faulty
	mkdir "$M/d"
	echo text >"$M/d/f"
	sync "$M/d/f"
	rules 'read,write,sync,open EIO *.db* 1+1'
	fails 1 mkdir "$M/d/new"
	says "Input/output error"
	fails 1 rm "$M/d/f"
	says "Input/output error"
	grep -q "$V: cannot commit: disk I/O error" "$T/log.mount"
	not_said "malformed" "$T/log.mount"
	rules
	mkdir "$M/d/new"
	[ "$(cat "$M/d/f")" = text ]
	umount_it
	fsck_clean
}

# SQLite calls both a damaged database.
@test "the database cannot be read: EIO, and no word of damage" {
	mount_faulty
	mkdir "$M/d"
	for n in 1 2 3 4 5 6 7 8; do
		echo text >"$M/d/$n"
	done
	sync "$M/d/1"
	umount_it
	mount_faulty
	rules 'read EIO *.db* 1+1' 'mmap ENOMEM *.db 1+1'
	run ls -l "$M/d"
	[ "$status" -eq 0 ] || says "Input/output error"
	not_said "malformed" "$T/log.mount"
	rules
	[ "$(cat "$M/d/8")" = text ]
	umount_it
	fsck_clean
}
