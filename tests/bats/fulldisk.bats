#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# Metadata and blocks together on a small disk that gets full, or read-only; and a database that another process has locked.

load mounted_helper

setup() {
	need_root
	mounted_setup
	D=$T/disk
	V=$D/meta.db
	U=sqlite://$V
	mkdir "$D"
}
teardown() {
	mounted_teardown
}

# disk ext4|tmpfs: 64 MiB of it on $D
disk() {
	case $1 in
	tmpfs) mount -t tmpfs -o size=64m kiseki-test "$D" || skip "no tmpfs can be mounted" ;;
	ext4)
		command -v mkfs.ext4 >/dev/null || skip "mkfs.ext4 is not installed"
		truncate -s 64M "$T/image"
		mkfs.ext4 -q -m 0 "$T/image"
		mount -o loop,errors=remount-ro "$T/image" "$D" || skip "no loop devices here"
		;;
	esac
}

served_long_enough() { [ -s "$V-reserve" ]; }

# mount_disk: the volume, with its reserve
mount_disk() {
	mount_it --log-file="$T/log.mount"
	wait_for served_long_enough
}

# only_full FILE: what programs have said; nothing but that the disk is full
only_full() { ! grep -v 'No space left on device' "$1"; }

# fill COMMAND...: until it has failed three times in a row; its argument is a number that it has not had
number=0
fill() {
	local bad=0 end=$((number + 4000))
	while [ $number -lt $end ] && [ $bad -lt 3 ]; do
		number=$((number + 1))
		if "$@" $number 2>>"$T/said"; then bad=0; else bad=$((bad + 1)); fi
	done
	[ "$bad" -eq 3 ]
}
big_file() { cp "$T/content" "$M/big/$1"; }
new_file() { { : >"$M/many/$1"; } }

can_write() { cp "$T/content" "$M/again" 2>/dev/null && sync "$M/again" 2>/dev/null; }

# full KIND [OPTION...]: full to the last byte, by us and by others: deleting, renaming and cutting go on, and bring the space back
full() {
	disk "$1"
	format "${@:2}"
	mount_disk
	mkdir "$M/keep" "$M/big" "$M/many" "$M/c"
	head -c 700000 /dev/urandom >"$T/content"
	run_ok helper crashwriter --seed 3 --ops 25 "$M/c" "$T/log.c"
	for n in 1 2 3 4 5 6; do
		head -c 100000 /dev/urandom >"$T/kept$n"
		cp "$T/kept$n" "$M/keep/$n"
	done
	sync "$M/keep/1"
	fill big_file
	# What fits into the log and the database's last pages still does. What is freed late, of files that did not fit, others take as well.
	for n in 1 2 3 4 5 6 7 8; do
		dd if=/dev/zero bs=4k >>"$D/others" 2>/dev/null || true
		! fill new_file || break
	done
	[ $n -lt 8 ]
	run_ok helper crashwriter --seed 4 --ops 20 --errors ENOSPC "$M/c" "$T/log.unused"
	only_full "$T/said"
	grep -q 'its disk is full' "$T/log.mount"
	# Every try failed; the log tells of the first.
	[ "$(grep -cE 'cannot (store|append)' "$T/log.mount")" -le $((2 + SECONDS / 30)) ]

	rm "$M/keep/6"
	mv "$M/keep/5" "$M/keep/renamed"
	mv "$M/keep/renamed" "$M/keep/4"
	truncate -s 10 "$M/keep/3"
	cmp "$M/keep/1" "$T/kept1"
	umount_it
	mount_it --log-file="$T/log.mount"
	cmp "$M/keep/2" "$T/kept2"
	cmp "$M/keep/4" "$T/kept5"
	cmp -n 10 "$M/keep/3" "$T/kept3"
	[ ! -e "$M/keep/6" ]

	rm -r "$M/many" "$M/big"
	[ $# -eq 1 ] || kiseki-trash empty --yes "$V"
	SECONDS_MAX=200 wait_for can_write
	umount_it
	mount_disk
	cmp "$M/again" "$T/content"
	cmp "$M/keep/1" "$T/kept1"
	umount_it
	fsck_clean
}

@test "a full disk (ext4): deleting, renaming and cutting go on, and space comes back" {
	full ext4
}

@test "a full disk (tmpfs): deleting, renaming and cutting go on, and space comes back" {
	full tmpfs
}

@test "a full disk with a trash: the same, when the trash is emptied" {
	full tmpfs --trash=1d
}

@test "kiseki-cp onto a full disk: exit 74, or 3 when something was copied, and no half of a file" {
	disk tmpfs
	format
	mkdir "$T/tree"
	for n in 1 2 3 4 5; do
		head -c 15000000 /dev/urandom >"$T/tree/$n"
	done
	cat "$T/tree"/* >"$T/large"
	mount_disk
	fails 74 limit 60 kiseki-cp -q "$T/large" "$U:/large"
	says "No space left on device"
	[ ! -e "$M/large" ]
	rm "$T/large"
	fails 3 limit 60 kiseki-cp -q -r -T "$T/tree" "$U:/tree"
	says "No space left on device"
	# What is there is whole.
	for n in "$M/tree"/[0-9]*; do
		[ ! -e "$n" ] || cmp "$n" "$T/tree/${n##*/}"
	done
	[ "$(find "$M/tree" -type f | wc -l)" -lt 5 ]
	rm -r "$M/tree"
	rm "$T/tree"/[345]
	SECONDS_MAX=300 wait_for copied
	diff -r "$T/tree" "$M/tree"
	umount_it
	fsck_clean
}
copied() { limit 60 kiseki-cp -q -r -T "$T/tree" "$U:/tree" 2>/dev/null; }

@test "another process locks the database for 5 s: everything waits, nothing fails" {
	V=$T/vol/meta.db
	format
	mount_it --log-file="$T/log.mount"
	mkdir "$M/d"
	{
		echo 'begin exclusive;'
		sleep 5
		echo 'commit;'
	} | sqlite3 "$V" 3>&- &
	local locker=$! start=$SECONDS
	sleep 0.5
	mkdir "$M/waited"
	[ $((SECONDS - start)) -ge 4 ]
	wait $locker
	run_ok helper crashwriter --seed 3 --ops 30 "$M/d" "$T/log.d"
	run_ok helper crashcheck "$M/d" "$T/log.d"
	[ ! -s "$T/log.mount" ] || ! grep -E 'error|warning' "$T/log.mount"
	umount_it
	fsck_clean
}

@test "the disk becomes read-only: programs get EROFS, reading goes on, the log names the file" {
	local dev
	disk ext4
	format
	mount_it --log-file="$T/log.mount"
	echo text >"$M/f"
	sync "$M/f"
	dev=$(losetup -n -O NAME -j "$T/image")
	[ -w "/sys/fs/ext4/${dev##*/}/trigger_fs_error" ] || skip "ext4 cannot be asked to fail here"
	echo 1 >"/sys/fs/ext4/${dev##*/}/trigger_fs_error"
	fails 1 mkdir "$M/d"
	says "Read-only file system"
	fails 1 rm "$M/f"
	says "Read-only file system"
	fails 1 dd if=/dev/zero of="$M/f" bs=1M count=1 conv=notrunc,fsync status=none
	says "Read-only file system"
	[ "$(cat "$M/f")" = text ]
	grep -q "$V: cannot commit: .*Read-only file system" "$T/log.mount"
	limit 60 kiseki-umount -q --force "$M"
	# A copy: who else has the mount in another namespace would keep it read-only.
	wait_for umount "$D"
	cp "$T/image" "$T/image2"
	mount -o loop "$T/image2" "$D"
	mount_it
	[ "$(cat "$M/f")" = text ]
	umount_it
	fsck_clean
}
