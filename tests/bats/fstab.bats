#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki-mount --update-fstab: one line changes, nothing else, and only when the mount has worked.

load helper

setup() {
	cli_setup
	requires fuse
	export LIBMOUNT_FSTAB=$T/fstab
	format
	printf '[photos]\nmeta = %s\n' "$V" >k.conf
	export KISEKI_CONFIG=$T/k.conf
}
teardown() { mounted_teardown; }

# update ARG...: yes, write it
update() { limit 60 kiseki-mount -q --yes "${transport[@]}" --update-fstab "$@" 3>&- 4>&-; }

# Of a test's own transport, every line has it.
others=${transport[*]:+,${transport[0]#--}}
only=${transport[*]:+${transport[0]#--}}

# has LINE: the last line of the file
has() { [ "$(tail -n 1 fstab)" = "$1" ] || { cat fstab; return 1; }; }

# nothing_left: no temporary file
nothing_left() { [ "$(ls -d fstab*)" = fstab ] || { ls -d fstab*; return 1; }; }

table() {
	printf '# a comment with photos %s kiseki in it\n\n' "$M"
	printf 'UUID=1 /\text4   errors=remount-ro\t0 1 \n  #%s\n' " $M kiseki"
	printf 'tmpfs %s2 tmpfs size=1m 0 0\n\nshort\n\\040 odd\n' "$M"
}

@test "a new line, behind what is there" {
	table >fstab
	chmod 640 fstab
	[ "$(id -u)" -ne 0 ] || chown 12:34 fstab
	local before
	before=$(stat -c '%a %u:%g' fstab)
	cp fstab old
	update photos "$M"
	mountpoint -q "$M"
	has "photos $M kiseki ${only:-defaults} 0 0"
	head -n -1 fstab | cmp - old
	[ "$(stat -c '%a %u:%g' fstab)" = "$before" ]
	nothing_left
	umount_it
	# The same again changes nothing, whatever the blanks.
	sed -i "s/^photos /photos\t  /" fstab
	cp fstab old
	before=$(stat -c '%i %y' fstab)
	update photos "$M"
	cmp fstab old
	[ "$(stat -c '%i %y' fstab)" = "$before" ]
	mountpoint -q "$M"
}

@test "a file that ends without a newline, an empty one, none" {
	printf 'tmpfs /x tmpfs 0 0' >fstab
	update photos "$M"
	[ "$(cat fstab)" = "tmpfs /x tmpfs 0 0
photos $M kiseki ${only:-defaults} 0 0" ]
	umount_it
	: >fstab
	update photos "$M"
	[ "$(cat fstab)" = "photos $M kiseki ${only:-defaults} 0 0" ]
	umount_it
	rm fstab
	update photos "$M"
	[ "$(cat fstab)" = "photos $M kiseki ${only:-defaults} 0 0" ]
	[ "$(stat -c %a fstab)" = 644 ]
}

@test "the line that is there is replaced, in its place" {
	local line
	for line in "photos $M kiseki nofail,ro 0 0" "other	$M/	fuse.kiseki	rw" "x $T/link kiseki defaults 0 0"; do
		ln -sfn "$M" link
		{
			table
			echo "$line"
			table
		} >fstab
		{
			table
			echo "photos $M kiseki readahead=1M$others 0 0"
			table
		} >want
		out_err limit 60 kiseki-mount -y "${transport[@]}" --readahead=1M --update-fstab photos "$M" 3>&- 4>&-
		[ "$status" -eq 0 ]
		grep -qF "instead of '$line'" <<<"$err"
		diff fstab want
		nothing_left
		umount_it
	done
	# The last one, without a newline at the end of the file.
	printf 'a /a tmpfs 0 0\nphotos %s kiseki ro' "$M" >fstab
	update photos "$M"
	printf 'a /a tmpfs 0 0\nphotos %s kiseki %s 0 0' "$M" "${only:-defaults}" | cmp - fstab
}

@test "the options are those of the command line, and only those" {
	printf 'buffer-size = 32M\n' >>k.conf
	mkdir spill
	update --read-only --attr-timeout=3s -s --spill-dir=spill -o noatime,nofail,log_file=log -o 'x-mine=a\,b,_netdev' --umask=27 photos "$M"
	has "photos $M kiseki single-thread,ro,spill-dir=$T/spill$others,attr-timeout=3s,umask=27,noatime,nofail,log_file=$T/log,x-mine=a\\134,b,_netdev 0 0"
	[ "$(jq .options.buffer_size "$M/.kiseki/config")" = 33554432 ]
	umount_it
	update --if-not-mounted --readahead=2M --readahead=4M photos "$M"
	has "photos $M kiseki if-not-mounted,readahead=4M$others 0 0"
}

@test "spaces and other odd characters; paths and subtrees" {
	local odd=$T/$'m nt\t#\\x' escaped="$T/m\\040nt\\011#\\134x"
	mkdir -p "$odd" "sub dir/deep"
	kiseki-cp -q -r "sub dir" photos:/
	mv vol 'v ol'
	update "v ol/meta.db:/sub dir" "$odd"
	has "$T/v\\040ol/meta.db:/sub\\040dir $escaped kiseki ${only:-defaults} 0 0"
	[ -d "$odd/deep" ]
	umount_it "$odd"
	# It is found again.
	update --readahead=1M "v ol/meta.db:/sub dir" "$odd"
	has "$T/v\\040ol/meta.db:/sub\\040dir $escaped kiseki readahead=1M$others 0 0"
	[ "$(wc -l <fstab)" -eq 1 ]
	# What is mounted is what the line says, so that mount -a knows it.
	grep -qF "fuse.kiseki $T/v\\040ol/meta.db:/sub\\040dir " /proc/self/mountinfo
	umount_it "$odd"
}

@test "the default volume is named" {
	KISEKI_VOLUME=photos update "$M"
	has "photos $M kiseki ${only:-defaults} 0 0"
	umount_it
	(cd vol && KISEKI_VOLUME=./meta.db update "$M")
	has "$V $M kiseki ${only:-defaults} 0 0"
	umount_it
	mkdir "$T/b"
	mount_at "$M"
	# By the mount of it.
	update "$M" "$T/b"
	has "$V $T/b kiseki ${only:-defaults} 0 0"
}

@test "a mount that fails leaves it alone" {
	table >fstab
	cp fstab old
	fails_cleanly 66 kiseki-mount -qy --update-fstab "$T/none.db" "$M"
	fails_cleanly 66 kiseki-mount -qy --update-fstab photos "$T/none"
	# After the new file has been made.
	mv "vol/meta.db" vol/away
	head -c 100000 /dev/urandom >vol/meta.db
	out_err limit 20 kiseki-mount -qy --update-fstab photos "$M"
	[ "$status" -ne 0 ]
	cmp fstab old
	nothing_left
	not mountpoint -q "$M"
}

@test "what somebody else changes meanwhile stays" {
	requires sqlite3
	table >fstab
	# The mount waits for the database.
	{
		echo 'begin exclusive;'
		sleep 3
		echo 'commit;'
	} | sqlite3 "$V" 3>&- 4>&- &
	pids+=($!)
	sleep 0.5
	limit 60 kiseki-mount -qy --update-fstab photos "$M" >/dev/null 2>said 3>&- 4>&- &
	pids+=($!)
	wait_for eval 'ls fstab.* >/dev/null 2>&1'
	echo 'tmpfs /mine tmpfs' >>fstab
	cp fstab old
	status=0
	wait $! || status=$?
	[ "$status" -eq 75 ]
	grep -q 'has changed meanwhile' said
	cmp fstab old
	nothing_left
	# It is mounted, as the message says, and the line can still be had.
	mountpoint -q "$M"
	update --if-not-mounted photos "$M"
	has "photos $M kiseki if-not-mounted 0 0"
	head -n -1 fstab | cmp - old
}

@test "without a terminal it needs --yes; with one it asks" {
	requires script
	table >fstab
	cp fstab old
	fails_cleanly 64 kiseki-mount --update-fstab photos "$M"
	grep -q -- '--yes' <<<"$err"
	fails_cleanly 64 kiseki-mount --update-fstab --batch photos "$M"
	cmp fstab old
	printf 'n\n' | { limit 30 script -qec "kiseki-mount --update-fstab photos '$M'" /dev/null || echo "status $?"; } >tty
	grep -qF "write to $T/fstab 'photos $M kiseki defaults 0 0'? [y/N]" tty
	grep -q 'status 1' tty
	cmp fstab old
	nothing_left
	not mountpoint -q "$M"
	limit 30 script -qec "kiseki-mount --update-fstab --batch photos '$M'" /dev/null </dev/null >tty || true
	grep -q 'batch asks nothing' tty
	printf 'y\n' | limit 30 script -qec "kiseki-mount --update-fstab photos '$M' </dev/tty" /dev/null >tty 3>&- 4>&-
	has "photos $M kiseki defaults 0 0"
	mountpoint -q "$M"
}

@test "what is refused" {
	local args
	table >fstab
	for args in -f -d --config=k.conf --log-format=json '-o foreground'; do
		# shellcheck disable=SC2086
		fails_cleanly 64 kiseki-mount -y --update-fstab $args photos "$M"
	done
	fails_cleanly 64 kiseki-mount -y -o update-fstab photos "$M"
	grep -q 'no mount option' <<<"$err"
	fails_cleanly 64 kiseki-mount -y -o update_fstab photos "$M"
	ln -s "$bin/kiseki-mount" mount.kiseki
	fails_cleanly 1 ./mount.kiseki photos "$M" -o update-fstab
	table | cmp - fstab
	# Something else is mounted there.
	echo "UUID=2 $M ext4 defaults 0 2" >>fstab
	cp fstab old
	fails_cleanly 73 kiseki-mount -y --update-fstab photos "$M"
	grep -q "line 9 mounts 'UUID=2' on $M" <<<"$err"
	cmp fstab old
	printf 'a %s kiseki\n' "$M" "$M" >fstab
	fails_cleanly 73 kiseki-mount -y --update-fstab photos "$M"
	grep -q 'line 2 is the second one' <<<"$err"
	rm fstab
	mkdir fstab
	fails_cleanly 73 kiseki-mount -y --update-fstab photos "$M"
	rmdir fstab
	LIBMOUNT_FSTAB=$T/none/fstab fails_cleanly 66 kiseki-mount -y --update-fstab photos "$M"
	not mountpoint -q "$M"
}

@test "may not write there; a link; JSON" {
	requires jq
	local as=()
	mkdir etc
	table >etc/real
	chmod 555 etc
	ln -s etc/real fstab
	if [ "$(id -u)" -eq 0 ]; then
		requires setpriv
		as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
		chmod 755 "$T"
		chmod 644 k.conf
	fi
	fails_cleanly 77 "${as[@]}" kiseki-mount -y --update-fstab photos "$M"
	grep -q "write a new $T/etc/real: Permission denied" <<<"$err"
	chmod 755 etc
	out_err limit 60 kiseki-mount -y --json "${transport[@]}" --update-fstab photos "$M" 3>&- 4>&-
	[ "$status" -eq 0 ]
	json_ok .out
	jq -e '.fstab == "added" and .pid > 0' .out
	[ -L fstab ]
	tail -n 1 etc/real | grep -q '^photos '
	out_err limit 60 kiseki-mount -y --json "${transport[@]}" --if-not-mounted --update-fstab photos "$M"
	json_ok .out
	jq -e --arg m "$M" '.fstab == "replaced" and .mountpoint == $m and (has("pid") | not)' .out
	out_err limit 60 kiseki-mount -y --json "${transport[@]}" --if-not-mounted --update-fstab photos "$M"
	jq -e '.fstab == "unchanged"' .out
}
