#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A volume through the kernel: what a person and a program see on a mount point.
# KISEKI_TEST_LONG=1 runs more seeds and more operations.

load mounted_helper

setup() {
	[ -z "$long" ] || LIMIT=1200
	mounted_setup
}
teardown() { mounted_teardown; }

@test "mount answers at once; hello is there after a remount" {
	format
	mount_it
	mountpoint -q "$M"
	[ -z "$(ls -A "$M")" ]
	touch "$M/empty"
	echo hello >"$M/file"
	[ "$(cat "$M/file")" = hello ]
	umount_it
	not mountpoint -q "$M"
	[ -z "$(ls -A "$M")" ]
	mount_it
	[ "$(cat "$M/file")" = hello ]
	[ "$(stat -c %s "$M/empty")" -eq 0 ]
}

@test "mountinfo has the type fuse.kiseki and the source as it was typed" {
	format
	mount_it
	awk -v m="$M" -v v="$V" '$5 == m { for (i = 7; $i != "-"; i++); found = $(i + 1) == "fuse.kiseki" && $(i + 2) == v }
		END { exit !found }' /proc/self/mountinfo
}

@test "the matrix of POSIX promises about names and attributes" {
	format
	mount_it
	run_ok helper posixcheck "$M"
}

@test "the matrix of POSIX promises about contents" {
	format
	mount_it
	run_ok helper posixio "$M"
}

@test "like a local directory: random operations by root and by users" {
	need_root
	format
	mount_it
	chmod 777 "$M"
	mkdir -m 777 "$T/host"
	local seed=${KISEKI_TEST_SEED:-$RANDOM}
	run_ok helper difftest --seed "$seed" --ops "$(ops 2500 30000)" --users "$T/host" "$M"
	run_ok helper difftest --seed "$((seed + 1))" --ops "$(ops 2500 30000)" "$T/host" "$M"
	umount_it
	fsck_clean
}

@test "like a local directory: several processes at once" {
	format
	mount_it
	mkdir "$T/host"
	run_ok helper difftest --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops "$(ops 1500 20000)" --threads 4 "$T/host" "$M"
}

@test "like a local directory: remounted in between" {
	need_root
	format
	mount_it
	mkdir "$T/host"
	remount_cmd
	run_ok helper difftest --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops 2000 --tree 200 "$T/host" "$M"
}

@test "every byte: edges and random I/O, blocks of 4 MiB" {
	format
	mount_it
	run_ok helper bytemodel --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops "$(ops 2500 25000)" "$M"
}

@test "every byte: blocks of 64 KiB, small buffer, remounted in between" {
	need_root
	format --block-size=64k
	mount_it --buffer-size=16M
	remount_cmd --buffer-size=16M
	run_ok helper bytemodel --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops "$(ops 2500 25000)" --block 64k --max 9M "$M"
	fsck_clean
}

@test "every byte: blocks of 16 MiB" {
	format --block-size=16M
	mount_it
	run_ok helper bytemodel --seed "${KISEKI_TEST_SEED:-$RANDOM}" --ops 1000 --block 16M --max 70M "$M"
}

@test "locks of fcntl and flock between processes" {
	format
	mount_it
	run_ok helper locks "$M"
}

@test "more data than the buffer goes through it" {
	format
	mount_it --buffer-size=16M
	dd if=/dev/urandom of="$T/big" bs=1M count=150 status=none
	limit 60 cp "$T/big" "$M/big"
	cmp "$T/big" "$M/big"
	umount_it
	mount_it --buffer-size=16M
	cmp "$T/big" "$M/big"
}

@test "plain umount flushes" {
	need_root
	format
	mount_it
	dd if=/dev/urandom of="$T/data" bs=1M count=20 status=none
	cp "$T/data" "$M/data"
	limit 60 umount "$M"
	not mountpoint -q "$M"
	# Nobody is left who could still be writing.
	wait_for daemon_is_gone
	mount_it --read-only
	cmp "$T/data" "$M/data"
}

daemon_is_gone() { ! daemon >/dev/null; }

@test "SIGTERM to the daemon unmounts cleanly, SIGHUP does not" {
	format
	mount_it
	local pid
	pid=$(daemon)
	echo kept >"$M/file"
	kill -HUP "$pid"
	sleep 0.3
	[ "$(cat "$M/file")" = kept ]
	kill -TERM "$pid"
	wait_for daemon_is_gone
	not mountpoint -q "$M"
	mount_it
	[ "$(cat "$M/file")" = kept ]
}

@test "a read-only mount changes nothing" {
	format
	mount_it
	echo text >"$M/file"
	umount_it
	local before
	before=$(sql 'select count(*), max(mtime_ns), max(ctime_ns) from inode')
	mount_it --read-only
	[ "$(cat "$M/file")" = text ]
	run touch "$M/new"
	says "Read-only file system"
	run bash -c "echo x >>'$M/file'"
	says "Read-only file system"
	run rm -f "$M/file"
	says "Read-only file system"
	umount_it
	[ "$(sql 'select count(*), max(mtime_ns), max(ctime_ns) from inode')" = "$before" ]
}

@test "metadata can be read with plain sqlite3 while mounted" {
	format
	mount_it
	mkdir "$M/dir"
	head -c 100000 /dev/zero >"$M/dir/f"
	sync -f "$M"
	[ "$(sql "select i.size from dentry d join inode i on i.ino = d.ino where d.name = CAST('f' AS BLOB)")" -eq 100000 ]
	[ "$(sql "pragma integrity_check")" = ok ]
}

@test "a write over a chunk's edge is a slice in each chunk" {
	format
	mount_it
	dd if=/dev/urandom of="$M/f" bs=1M seek=60 count=10 status=none
	local ino
	ino=$(stat -c %i "$M/f")
	wait_for has_extents "$ino"
	[ "$(sql "select group_concat(chunk || ':' || pos || '+' || len, ' ') from
		(select chunk, min(pos) pos, sum(len) len from extent where ino = $ino and slice > 0 group by chunk order by chunk)")" \
		= "0:62914560+4194304 1:0+6291456" ]
	[ "$(sql "select count(distinct slice) from extent where ino = $ino and slice > 0")" -ge 2 ]
}

has_extents() { [ "$(sql "select count(*) from extent where ino = $1")" -gt 0 ]; }

@test "df tells what is stored and what is left, and the quota" {
	format --capacity=100M
	mount_it
	local size used
	size=$(df --output=size -B1 "$M" | tail -1)
	[ "$size" -eq $((100 << 20)) ]
	used=$(df --output=used -B1 "$M" | tail -1)
	dd if=/dev/zero of="$M/f" bs=1M count=40 status=none
	sync -f "$M"
	local now
	now=$(df --output=used -B1 "$M" | tail -1)
	[ $((now - used)) -ge $((40 << 20)) ]
	[ $((now - used)) -le $((41 << 20)) ]
	rm "$M/f"
	wait_for used_is_below $((used + (1 << 20)))
}

used_is_below() { [ "$(df --output=used -B1 "$M" | tail -1)" -lt "$1" ]; }

@test "a quota is an error of the write or the close, and goes away with the files" {
	format --capacity=20M
	mount_it
	run dd if=/dev/zero of="$M/f" bs=1M count=60 conv=fsync
	[ "$status" -ne 0 ]
	grep -qE 'No space left|quota' <<<"$output"
	rm "$M/f"
	echo small >"$M/g"
	[ "$(cat "$M/g")" = small ]
	dd if=/dev/zero of="$M/h" bs=1M count=5 conv=fsync status=none
}

@test "what is deleted leaves the store" {
	format
	mount_it
	dd if=/dev/urandom of="$M/f" bs=1M count=30 status=none
	sync -f "$M"
	[ "$(find "$T/vol/meta.blocks/blocks" -type f | wc -l)" -ge 7 ]
	rm "$M/f"
	SECONDS_MAX=300 wait_for no_objects
}

no_objects() { [ "$(find "$T/vol/meta.blocks/blocks" -type f | wc -l)" -eq 0 ]; }

@test "an open file without a name is freed when its holder is gone" {
	format
	mount_it
	dd if=/dev/urandom of="$M/f" bs=1M count=10 status=none
	exec 7<"$M/f"
	rm "$M/f"
	sleep 3
	[ "$(head -c 1000000 <&7 | wc -c)" -eq 1000000 ]
	not no_objects
	exec 7<&-
	SECONDS_MAX=300 wait_for no_objects
}

@test "-o takes options as mount(8) gives them, an unknown one is named" {
	format
	limit 60 kiseki-mount -q -o rw,noatime,_netdev,nofail,x-systemd.automount,buffer_size=32M "$V" "$M" 3>&-
	mountpoint -q "$M"
	umount_it
	fails 64 kiseki-mount -o bufer-size=1G "$V" "$M"
	says bufer-size
	says buffer-size
	not mountpoint -q "$M"
}

@test "mount -t kiseki, and again is the same mount; plain umount goes through the helper" {
	need_root
	format
	# It may be installed, or another run's.
	ln -s "$bin/kiseki-mount" /sbin/mount.kiseki 2>/dev/null || skip "/sbin/mount.kiseki is there already"
	limit 60 mount -t kiseki "$V" "$M" -o nofail,noatime 3>&- || {
		rm /sbin/mount.kiseki
		return 1
	}
	rm /sbin/mount.kiseki
	echo yes >"$M/f"
	[ "$(cat "$M/f")" = yes ]
	limit 60 umount "$M"
	not mountpoint -q "$M"
}

# as_nobody SCRIPT: in a home of its own. In a mount namespace where /dev/fuse is open to all, as it is on most machines.
as_nobody() {
	need_root
	[ -u "$(command -v fusermount3)" ] || skip "fusermount3 is not setuid"
	chmod 755 "$T"
	mkdir "$T/home" "$T/home/mnt" "$T/bin"
	cp -P "$bin"/kiseki* "$T/bin/"
	chown -R nobody "$T/home"
	mknod -m 666 "$T/fuse" c 10 229 && : <>"$T/fuse" || skip "devices cannot be used in $T"
	limit 60 "$BATS_TEST_DIRNAME/unshared" bash -c 'mount --bind "$1/fuse" /dev/fuse && shift &&
		exec setpriv --reuid=nobody --regid=nogroup --clear-groups bash -e -c "$@"' \
		sh "$T" "cd '$T/home'; HOME=\$PWD; PATH=$T/bin:\$PATH; $1" 3>&- 4>&-
}

@test "an ordinary user mounts, works and unmounts with fusermount3" {
	run_ok as_nobody '
		kiseki-format -q vol.db
		kiseki-mount -q ./vol.db mnt
		mountpoint -q mnt
		echo mine >mnt/file
		[ "$(cat mnt/file)" = mine ]
		[ "$(stat -c %U mnt/file)" = nobody ]
		head -c 20000000 /dev/urandom >data
		cp data mnt/data
		cmp data mnt/data
		kiseki-ls ./vol.db:/ | grep -qx file
		kiseki-umount -q mnt
		if mountpoint -q mnt; then exit 1; fi
		kiseki-mount -q ./vol.db mnt
		cmp data mnt/data
		fusermount3 -u mnt
	'
}

@test "an ordinary user who lets others in without being allowed to is told about /etc/fuse.conf" {
	! grep -q '^user_allow_other' /etc/fuse.conf 2>/dev/null || skip "user_allow_other is set"
	run as_nobody 'kiseki-format -q vol.db; kiseki-mount --allow-other ./vol.db mnt'
	[ "$status" -eq 77 ] || [ "$status" -eq 64 ] || {
		echo "status $status"
		return 1
	}
	says /etc/fuse.conf
}

@test "the demo runs from end to end and takes itself away" {
	export KISEKI_DEMO_DIR=$T/demo KISEKI_DEMO_UNDO=1 KISEKI_BIN=$bin
	run_ok limit 90 "$BATS_TEST_DIRNAME/../demo" 3>&- 4>&-
	says "sessions  1"
	[ ! -e "$T/demo" ]
	[ -z "$(mounts)" ]
}
