#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What goes wrong at a mount and under it: a message that names the thing, the right exit code, no crash, no hang,
# nothing lost.

load mounted_helper

setup() { mounted_setup; }
teardown() { mounted_teardown; }

mount_fails() {
	local code=$1
	shift
	fails "$code" limit 60 kiseki-mount "$@"
	[ -z "$(daemons)" ]
}

@test "no operands, unknown options: 64 with a hint" {
	mount_fails 64
	mount_fails 64 --bogus "$V" "$M"
	says --bogus
	says --help
	mount_fails 64 a b c
	mount_fails 64 --buffer-size=12q "$V" "$M"
	says 12q
}

@test "no such volume: 66 and its name" {
	mount_fails 66 "$T/none.db" "$M"
	says "$T/none.db"
	mount_fails 66 nosuchvolume "$M"
	says nosuchvolume
	[ ! -e "$T/none.db" ]
}

@test "a mount point that is not there, or is a file: 66 and its name" {
	format
	mount_fails 66 "$V" "$T/nowhere"
	says "$T/nowhere"
	touch "$T/file"
	mount_fails 66 "$V" "$T/file"
	says "$T/file"
	says "ot a directory"
}

@test "a mount point that is taken: 73, and the first mount lives on" {
	format
	mount_it
	echo one >"$M/f"
	run limit 60 kiseki-mount "$V" "$M"
	[ "$status" -eq 73 ]
	says "$M"
	says --if-not-mounted
	run_ok limit 60 kiseki-mount --if-not-mounted "$V" "$M"
	mkdir "$T/vol2"
	limit 30 kiseki-format -q "$T/vol2/other.db"
	run limit 60 kiseki-mount "$T/vol2/other.db" "$M"
	[ "$status" -eq 73 ]
	[ "$(cat "$M/f")" = one ]
	[ "$(mounts | wc -l)" -eq 1 ]
}

@test "a volume that is newer than the program: 76 with both versions" {
	format
	newer_version
	mount_fails 76 "$V" "$M"
	says "'vol'"
	says 999
	says 1
}

newer_version() {
	sqlite3 "$V" "update setting set value = cast('999' as blob) where name = 'format_version'"
	[ "$(sql "select cast(value as text) from setting where name = 'format_version'")" = 999 ]
}

@test "an unknown incompatible feature: 76; an unknown read-only-compatible one: only read-only" {
	format
	sqlite3 "$V" "update setting set value = cast('4611686018427387904' as blob) where name = 'incompat'"
	mount_fails 76 "$V" "$M"
}

@test "a database that is none, or is cut, or is overwritten: a message, never a crash, nothing written" {
	format
	mount_it
	seq 1 2000 | (cd "$M" && xargs touch)
	umount_it
	cp "$V" "$T/good.db"
	echo "this is no database, but it is long enough to be mistaken for one if nobody looks" >"$V"
	mount_fails 65 "$V" "$M"
	says "$V"
	: >"$V"
	run limit 60 kiseki-mount "$V" "$M"
	[ "$status" -eq 65 ] || [ "$status" -eq 66 ]
	says "$V"
	cp "$T/good.db" "$V"
	dd if=/dev/urandom of="$V" bs=4096 count=1 conv=notrunc status=none
	mount_fails 65 "$V" "$M"
	says "$V"
}

@test "a database damaged inside: errors, and the daemon lives" {
	format
	mount_it
	seq 1 3000 | (cd "$M" && xargs touch)
	umount_it
	local size
	size=$(stat -c %s "$V")
	# The second half, page by page, but not the schema.
	dd if=/dev/urandom of="$V" bs=4096 seek=$((size / 8192)) count=$((size / 8192)) conv=notrunc status=none
	run limit 60 kiseki-mount -q "$V" "$M"
	echo "$output"
	if [ "$status" -eq 0 ]; then
		limit 30 ls -l "$M" >/dev/null 2>"$T/err" || true
		limit 30 touch "$M/new" 2>>"$T/err" || true
		cat "$T/err"
		[ -n "$(daemon)" ]
		limit 60 umount "$M" || true
	else
		[ "$status" -eq 65 ] || [ "$status" -eq 74 ]
		says "$V"
	fi
}

no_daemons() { [ -z "$(daemons)" ]; }

@test "a volume without its root: the mount says that it does not answer, at once" {
	format
	sqlite3 "$V" 'DELETE FROM inode WHERE ino = 1'
	run limit 20 kiseki-mount "$V" "$M"
	echo "$output"
	[ "$status" -ne 0 ]
	[ "$status" -ne 124 ]
	says "$M"
	says kiseki-fsck
	not mountpoint -q "$M"
	wait_for no_daemons
}

objects() { find "$T/vol/meta.blocks" -type f -size +64k | sort; }

@test "a damaged block is EIO for its file alone; a missing one too" {
	format
	mount_it
	head -c 5000000 /dev/urandom >"$T/a"
	head -c 5000000 /dev/urandom >"$T/b"
	head -c 5000000 /dev/urandom >"$T/c"
	cp "$T/a" "$M/a"
	sync -f "$M"
	objects >"$T/objects.a"
	cp "$T/b" "$M/b"
	sync -f "$M"
	objects >"$T/objects.ab"
	cp "$T/c" "$M/c"
	umount_it
	local a b
	a=$(head -1 "$T/objects.a")
	b=$(comm -13 "$T/objects.a" "$T/objects.ab" | head -1)
	# One bit in the second page of a.
	printf '\x5a' | dd of="$a" bs=1 seek=100000 conv=notrunc status=none
	rm "$b"
	mount_it --log-file="$T/log"
	run limit 30 cat "$M/a"
	[ "$status" -ne 0 ]
	run limit 30 cmp "$T/a" "$M/a"
	says "Input/output error"
	run limit 30 cmp "$T/b" "$M/b"
	says "Input/output error"
	limit 30 cmp "$T/c" "$M/c"
	# Pages that are whole can still be read.
	[ -n "$(daemon)" ]
	limit 30 cp "$T/c" "$M/d"
	limit 30 cmp "$T/c" "$M/d"
	cat "$T/log"
	grep -q 'slice' "$T/log"
	# And replaced: the file is well again.
	limit 30 cp "$T/a" "$M/a"
	limit 30 cmp "$T/a" "$M/a"
}

@test "a full disk is ENOSPC, loses nothing, and works again when there is room" {
	need_root
	mount -t tmpfs -o size=60m tmpfs "$T/vol"
	format
	mount_it
	head -c 10000000 /dev/urandom >"$T/data"
	cp "$T/data" "$M/before"
	sync -f "$M"
	run limit 60 dd if=/dev/urandom of="$M/huge" bs=1M count=200 conv=fsync
	[ "$status" -ne 0 ]
	grep -q 'No space left' <<<"$output"
	cmp "$T/data" "$M/before"
	limit 60 rm "$M/huge"
	SECONDS_MAX=300 wait_for copy_fits
	cmp "$T/data" "$M/after"
	umount_it
	mount_it
	cmp "$T/data" "$M/before"
	cmp "$T/data" "$M/after"
	[ "$(sql 'pragma integrity_check')" = ok ]
}

copy_fits() { cp "$T/data" "$M/after" 2>/dev/null && sync "$M/after"; }

@test "a store that fails: errors reach close or fsync, and are gone when it recovers" {
	format
	KISEKI_FAULT=put:fail=EIO:nth=1 mount_it
	head -c 5000000 /dev/urandom >"$T/data"
	run limit 60 dd if="$T/data" of="$M/f" bs=1M conv=fsync
	echo "$output"
	# Again, on the same mount.
	limit 60 dd if="$T/data" of="$M/f" bs=1M conv=fsync status=none
	limit 60 cmp "$T/data" "$M/f"
}

@test "a read-only disk: read-only mounts work, others say why not" {
	need_root
	format
	mount_it
	echo text >"$M/f"
	umount_it
	mount --bind "$T/vol" "$T/vol"
	mount -o remount,bind,ro "$T/vol"
	run limit 60 kiseki-mount "$V" "$M"
	echo "$output"
	[ "$status" -ne 0 ]
	says "$T/vol"
	[ -z "$(daemons)" ]
}

@test "names with newlines and bytes that are no UTF-8" {
	format
	mount_it
	local name
	for name in $'new\nline' $'\xff\xfe' $'tab\there' ' ' '-rf' '*' $'\x01\x02' "$(printf 'n%.0s' {1..255})"; do
		echo "$name" >"$M/$name"
		mkdir -p "$M/dir-${name:0:200}"
		[ "$(cat "$M/$name")" = "$name" ]
	done
	[ "$(find "$M" -mindepth 1 -print0 | tr -dc '\0' | wc -c)" -eq 16 ]
	run touch "$M/$(printf 'n%.0s' {1..256})"
	says "File name too long"
	umount_it
	mount_it
	[ "$(cat "$M/"$'\xff\xfe')" = $'\xff\xfe' ]
	rm -r -- "$M"/*
	[ -z "$(ls -A "$M")" ]
}

@test "the data of another volume is refused: 78" {
	format
	mkdir "$T/vol2"
	limit 30 kiseki-format -q "$T/vol2/meta.db"
	rm -r "$T/vol/meta.blocks"
	cp -r "$T/vol2/meta.blocks" "$T/vol/meta.blocks"
	mount_fails 78 "$V" "$M"
	says meta.blocks
}

@test "data that is gone: said, and nothing is made in its place" {
	format
	rm -r "$T/vol/meta.blocks"
	run limit 60 kiseki-mount "$V" "$M"
	echo "$output"
	[ "$status" -ne 0 ]
	says meta.blocks
	[ ! -e "$T/vol/meta.blocks" ] || [ -z "$(ls -A "$T/vol/meta.blocks")" ]
}

@test "a busy unmount: 75, and who holds it" {
	format
	mount_it
	touch "$M/f"
	sleep 100 <"$M/f" 3>&- &
	pids+=($!)
	fails 75 limit 60 kiseki-umount "$M"
	says "$!"
	mountpoint -q "$M"
	kill "$!"
	wait "$!" || true
	umount_it
}

@test "an unmount that cannot store everything says why, once, and leaves it mounted" {
	format
	KISEKI_FAULT=put:fail=EIO mount_it
	exec 7>"$M/f"
	head -c 9000000 /dev/zero >&7 2>/dev/null || true
	fails 74 limit 60 kiseki-umount "$M"
	says "stays mounted"
	says "Input/output error"
	not grep -qE 'error: Input|: :' <<<"$output"
	exec 7>&-
	mountpoint -q "$M"
	limit 60 kiseki-umount -q --force "$M"
}

@test "a copy of the mount elsewhere keeps the daemon: the unmount says so" {
	need_root
	local other
	format
	mount_it
	unshare -m sleep 100 3>&- 4>&- &
	other=$!
	pids+=("$other")
	wait_for grep -qs fuse.kiseki "/proc/$other/mountinfo"
	wait_for eval '[ "$(readlink /proc/$other/ns/mnt)" != "$(readlink /proc/self/ns/mnt)" ]'
	fails 5 limit 60 kiseki-umount --timeout=1s "$M"
	says "its process $(daemons) has not ended"
	says "another mount namespace"
	not mountpoint -q "$M"
	kill "$other"
	wait "$other" || true
	wait_for eval '[ -z "$(daemons)" ]'
}

@test "unmounting what is not mounted: 66" {
	fails 66 limit 60 kiseki-umount "$M"
	says "$M"
	fails 66 limit 60 kiseki-umount "$T/none"
}

@test "a volume within its own mount point is refused" {
	mkdir "$M/inner"
	limit 30 kiseki-format -q "$M/inner/meta.db"
	run limit 60 kiseki-mount "$M/inner/meta.db" "$M"
	echo "$output"
	[ "$status" -ne 0 ]
	[ -z "$(daemons)" ]
}

@test "the database is cut off under a mount: its programs get errors, the log names the file, and nothing else is lost" {
	local i
	format
	mount_it --log-file="$T/log"
	mkdir "$M/d"
	for ((i = 0; i < 300; i++)); do
		echo "$i" >"$M/d/file$i"
	done
	umount_it
	cp "$V" "$T/whole.db"
	mount_it --log-file="$T/log"
	truncate -s 0 "$V"
	fails 1 limit 20 cat "$M/d/file7" "$M/d/file299"
	fails 2 limit 20 ls -l "$M/d"
	wait_for no_daemon
	cat "$T/log"
	grep -q "$V: cannot read or write what is mapped into memory" "$T/log"
	limit 20 kiseki-umount "$M"
	cp "$T/whole.db" "$V"
	rm -f "$V"-wal "$V"-shm
	mount_it
	[ "$(cat "$M/d/file299")" = 299 ]
	umount_it
	fsck_clean
}

no_daemon() { [ -z "$(daemons)" ]; }
