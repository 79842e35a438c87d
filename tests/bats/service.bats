#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a service manager sees of a mount: sd_notify, the watchdog, the journal; and the units themselves.

load helper
setup() {
	cli_setup
	unset NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID JOURNAL_STREAM
}
teardown() { mounted_teardown; }

# The manager: every datagram becomes a block of lines in $T/told, with the time in ms before it.
manager() {
	requires perl
	perl -MSocket -MTime::HiRes=time -e '
		socket(S, PF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un($ARGV[0])) || die "$ARGV[0]: $!";
		$| = 1;
		while (defined recv(S, $m, 65536, 0)) { print map { sprintf("%d %s\n", time * 1000, $_) } split /\n/, $m }
	' "$1" >"$T/told" 3>&- 4>&- &
	pids+=($!)
	[[ $1 == @* ]] || wait_for test -S "$1"
	export NOTIFY_SOCKET=$1
}

told() { grep -qE -- "^[0-9]+ $1\$" "$T/told"; }

# serve [OPTION...]: a mount in the foreground, with its messages in $T/log
serve() {
	[ -e "$V" ] || format
	KISEKI_FAULT=${fault-} kiseki-mount -f "${transport[@]}" "$@" "$V" "$M" >"$T/log" 2>&1 3>&- 4>&- &
	server=$!
	pids+=("$server")
}

@test "READY when it answers, STATUS while it works, STOPPING before it ends" {
	requires fuse perl
	manager "$T/notify"
	fault=put:delay=3s serve
	wait_for told READY=1
	told STATUS=mounted
	mountpoint -q "$M"
	exec 9>"$M/f"
	head -c 3145728 /dev/urandom >&9
	wait_for told 'STATUS=mounted, 3 MiB to be stored'
	exec 9>&-
	SECONDS_MAX=50 wait_for bash -c "tail -n 1 '$T/told' | grep -qx '[0-9]* STATUS=mounted'"
	kill -TERM "$server"
	wait "$server"
	told STOPPING=1
	tail -n 1 "$T/told" | grep -q 'STATUS=storing'
	not told WATCHDOG=1
	# A mount that fails never says that it is ready.
	: >"$T/told"
	run limit 20 kiseki-mount -f "$T/none.db" "$M"
	[ "$status" -eq 66 ]
	sleep 0.2
	not told READY=1
}

@test "SIGHUP is RELOADING, and READY again" {
	requires fuse perl
	manager "$T/notify"
	serve --log-file="$T/messages"
	wait_for told READY=1
	: >"$T/told"
	mv messages messages.1
	kill -HUP "$server"
	wait_for told READY=1
	told RELOADING=1
	told 'MONOTONIC_USEC=[0-9]+'
	[ -s messages ]
	mountpoint -q "$M"
}

signs() { grep -c WATCHDOG=1 "$T/told"; }
gave_signs() { [ "$(signs)" -ge "$1" ]; }

@test "a sign of life for the watchdog only while the mount point answers" {
	requires fuse perl
	manager "$T/notify"
	format
	limit 60 kiseki-mount -q "$V" "$M" 3>&-
	head -c 5000000 /dev/urandom >"$M/big"
	umount_it
	export WATCHDOG_USEC=600000
	# One thread, which a slow store holds up.
	fault=get:delay=4s serve -s --readahead=off
	wait_for gave_signs 3
	local before
	dd if="$M/big" of=/dev/null bs=4096 count=1 status=none 3>&- 4>&- &
	pids+=($!)
	sleep 1.2
	before=$(signs)
	sleep 1.2
	[ "$(signs)" -le $((before + 1)) ]
	wait $!
	wait_for gave_signs $((before + 4))
	kill -TERM "$server"
	wait "$server"
}

@test "signs of life are not given for another process" {
	requires fuse perl
	manager "$T/notify"
	WATCHDOG_USEC=400000 WATCHDOG_PID=1 serve
	wait_for told READY=1
	sleep 1
	not told WATCHDOG=1
}

@test "the socket may have an abstract name" {
	requires fuse perl
	perl -MSocket -e '
		socket(S, PF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un("\0" . $ARGV[0])) || die "$!";
		$| = 1;
		while (defined recv(S, $m, 65536, 0)) { print "0 $_\n" for split /\n/, $m }
	' "$T/x" >"$T/told" 3>&- 4>&- &
	pids+=($!)
	sleep 0.3
	export NOTIFY_SOCKET=@$T/x
	serve
	wait_for told READY=1
}

# journalled FILE COMMAND...: with stderr and stdout being what $JOURNAL_STREAM says, as in a service
journalled() {
	local file=$1
	shift
	: >"$file"
	JOURNAL_STREAM=$(stat -c %d:%i "$file") "$@" >>"$file" 2>&1
}

@test "messages for the journal carry their priority" {
	local status=0
	journalled err limit 20 kiseki-ls nosuch || status=$?
	[ "$status" -eq 66 ]
	[ "$(cut -c 1-14 err | head -n 1)" = '<3>kiseki-ls: ' ]
	grep -q '^<3>  hint: ' err
	format
	journalled err limit 20 kiseki-config "$V" capacity=1
	grep -q 'changed capacity' err
	not grep -q '<.>.*changed' err
	# Another stream is not the journal.
	JOURNAL_STREAM=1:1 out_err limit 20 kiseki-ls nosuch
	[[ $err == kiseki-ls:* ]]
}

@test "a mount's messages: the journal, in the foreground and in the background" {
	requires fuse
	format
	journalled log kiseki-mount -f "${transport[@]}" "$V" "$M" 3>&- 4>&- &
	server=$!
	pids+=("$server")
	wait_for mountpoint -q "$M"
	wait_for grep -q "^<6>kiseki-mount: mounted '$V'" log
	umount_it
	wait "$server"
	grep -q '^<6>kiseki-mount: unmounted' log
	# The journal stays connected when the mount goes into the background; a terminal does not.
	journalled log limit 60 kiseki-mount "${transport[@]}" "$V" "$M" 3>&- 4>&-
	mountpoint -q "$M"
	[ "$(readlink "/proc/$(daemon)/fd/2")" = "$T/log" ]
	[ "$(readlink "/proc/$(daemon)/fd/1")" = /dev/null ]
	umount_it
	wait_for grep -q '^<6>kiseki-mount: unmounted' log
	limit 60 kiseki-mount "${transport[@]}" "$V" "$M" 2>"$T/log" 3>&- 4>&-
	[ "$(readlink "/proc/$(daemon)/fd/2")" = /dev/null ]
}

@test "a mount's messages: syslog in the background" {
	requires fuse root perl unshare
	format
	# A /dev/log of the test's own, in a mount namespace.
	cat >"$T/script" <<-'END'
		set -e
		mount -t tmpfs none "$T/dev"
		cp -a /dev/fuse /dev/null /dev/urandom /dev/zero "$T/dev/"
		mount --move "$T/dev" /dev 2>/dev/null || mount --bind "$T/dev" /dev
		perl -MSocket -e '
			socket(S, PF_UNIX, SOCK_DGRAM, 0) && bind(S, sockaddr_un("/dev/log")) || die "/dev/log: $!";
			$| = 1;
			while (defined recv(S, $m, 65536, 0)) { print "$m\n" }
		' >"$T/syslog" &
		listener=$!
		while [ ! -S /dev/log ]; do sleep 0.05; done
		timeout 60 kiseki-mount "$@" "$V" "$M"
		timeout 60 kiseki-umount -q "$M"
		for i in $(seq 100); do grep -q unmounted "$T/syslog" && break; sleep 0.1; done
		kill $listener
	END
	mkdir dev
	export T V M
	run_ok limit 80 "$BATS_TEST_DIRNAME/unshared" bash "$T/script" "${transport[@]}" 3>&- 4>&-
	# daemon.info is 3 * 8 + 6.
	grep -qE "^<30>.* kiseki-mount\[[0-9]+\]: $M: mounted '$V'" syslog
	grep -qE "^<30>.* kiseki-mount\[[0-9]+\]: $M: unmounted" syslog
}

# units DIR [PROGRAM...]: every unit as it would be installed, with programs of DIR; the named ones, and those not built, are stubs
units() {
	local dir=$1 f tool
	shift
	mkdir -p "$dir" units
	for tool; do
		printf '#!/bin/sh\nexit 0\n' >"$dir/$tool"
	done
	for tool in "$bin"/kiseki*; do
		[ -e "$dir/${tool##*/}" ] || cp -P "$tool" "$dir/"
	done
	for f in "$BATS_TEST_DIRNAME"/../../systemd/*.in; do
		sed "s,@bindir@,$dir,g" "$f" >"units/$(basename "$f" .in)"
		for tool in $(grep -o "$dir/kiseki-[a-z]*" "units/$(basename "$f" .in)"); do
			[ -e "$tool" ] || printf '#!/bin/sh\nexit 0\n' >"$tool"
		done
	done
	chmod +x "$dir"/*
}

@test "units: systemd finds nothing wrong with them" {
	requires systemd-analyze
	local f
	units "$T/bin"
	for f in units/*; do
		out_err limit 20 systemd-analyze verify --man=no "./$f"
		[ "$status" -eq 0 ]
		[ -z "$output" ]
	done
	[ "$(ls units/*.service | wc -l)" -ge 5 ]
	# Each job has its timer, and a mistake would be found.
	for f in units/kiseki-*@.service; do
		[ -e "${f%service}timer" ]
		sed 's/^Nice=/Nicer=/' "$f" >units/wrong@.service
		out_err limit 20 systemd-analyze verify --man=no ./units/wrong@.service
		[ -n "$output" ]
	done
	# What is made is what was tested.
	for f in "$bin"/systemd/*; do
		diff <(sed 's,=/[^ ]*/kiseki-,=kiseki-,; s,/[^ ]*/kiseki-dump,kiseki-dump,' "$f") \
			<(sed 's,=/[^ ]*/kiseki-,=kiseki-,; s,/[^ ]*/kiseki-dump,kiseki-dump,' "units/${f##*/}")
	done
}

# run_unit KEY UNIT INSTANCE [NAME=VALUE...]: what the manager would run for it, with that environment
run_unit() {
	local key=$1 unit=$2 instance=$3 line
	shift 3
	line=$(sed -n "s/^$key=//p" "units/$unit@.service" | sed "s/%i/$instance/g; s/%%/%/g; s/\\\$\\\$/\$/g")
	[ -n "$line" ]
	mapfile -t defaults < <(sed -n 's/^Environment=//p' "units/$unit@.service" | sed "s/%i/$instance/g")
	env "${defaults[@]}" "$@" timeout -k 5 60 bash -c "$line"
}

@test "units: what they run works, on a volume by name" {
	requires fuse
	units "$T/bin"
	format
	printf '[photos]\nmeta = %s\n' "$V" >kiseki.conf
	chmod 600 kiseki.conf
	export KISEKI_CONFIG=$T/kiseki.conf
	run_ok run_unit ExecStart kiseki-fsck photos
	run_ok run_unit ExecStart kiseki-fsck photos 'FSCK_OPTS=--data=read -q'
	run_ok run_unit ExecStart kiseki-gc photos
	run_ok run_unit ExecStart kiseki-gc photos 'GC_OPTS=--only=pending --max-delete=1'
	run_ok run_unit ExecStart kiseki-compact photos COMPACT_OPTS=
	run_unit ExecStart kiseki photos "MOUNTPOINT=$M" 'OPTS=--readahead=off --threads=2' >log 2>&1 3>&- 4>&- &
	pids+=($!)
	wait_for mountpoint -q "$M"
	grep -q "^$M$" <(awk '/ - fuse.kiseki photos / { print $5 }' /proc/self/mountinfo)
	run_ok run_unit ExecStop kiseki photos "MOUNTPOINT=$M"
	not mountpoint -q "$M"
	wait $!
	# An option that is none is seen.
	fails 64 run_unit ExecStart kiseki-gc photos GC_OPTS=--gracce=1h
}

@test "units: dumps of a week are kept, and one that fails takes none away" {
	mkdir -p bin backups
	printf '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; last=$1; shift; done\necho "$last $DUMP_OPTS" >"$out"\nexit ${FAIL:-0}\n' >bin/kiseki-dump
	units "$T/bin"
	run_ok run_unit ExecStart kiseki-dump photos "DUMP_DIR=$T/backups" 'DUMP_OPTS=--compress=zstd -q'
	[ "$(ls -A backups)" = "photos-$(date +%u).tar.zst" ]
	grep -qx 'photos --compress=zstd -q' backups/*
	run run_unit ExecStart kiseki-dump photos "DUMP_DIR=$T/backups" FAIL=3
	[ "$status" -eq 3 ]
	grep -qx 'photos --compress=zstd -q' "backups/photos-$(date +%u).tar.zst"
	run_ok run_unit ExecStartPre kiseki-dump photos "DUMP_DIR=$T/new/place"
	[ "$(stat -c %a new/place)" = 700 ]
}

# with_sbin SCRIPT: run in a mount namespace where /sbin has the helpers, as make install puts them there
with_sbin() {
	requires fuse root unshare
	grep -qw overlay /proc/filesystems || skip "no overlay file system here"
	{
		cat <<-'END'
			set -eu
			mkdir "$T/over"
			mount -t tmpfs none "$T/over"
			mkdir "$T/over/upper" "$T/over/work"
			sbin=$(readlink -f /sbin)
			mount -t overlay -o "lowerdir=$sbin,upperdir=$T/over/upper,workdir=$T/over/work" overlay "$sbin"
			for h in mount.kiseki mount.fuse.kiseki; do ln -sf "$bin/kiseki-mount" "$sbin/$h"; done
			for h in umount.kiseki umount.fuse.kiseki; do ln -sf "$bin/kiseki-umount" "$sbin/$h"; done
			mounted() { awk -v d="$1" '$5 == d { print $(NF - 1), $6 }' /proc/self/mountinfo; }
		END
		echo "$1"
	} >"$T/script"
	export T V M bin
	run_ok limit 90 "$BATS_TEST_DIRNAME/unshared" bash "$T/script" 3>&- 4>&-
}

@test "fstab: mount -a, twice, by name, subtree and path; umount stores everything" {
	format
	mkdir src src/2024
	echo content >src/2024/file
	kiseki-cp -q -r src/2024 "$U:/"
	printf '[photos]\nmeta = %s\n' "$V" >kiseki.conf
	chmod 600 kiseki.conf
	export KISEKI_CONFIG=$T/kiseki.conf
	mkdir a b c d
	cat >fstab <<-END
		photos       $T/a  kiseki  _netdev,nofail,x-systemd.automount,readahead=32M  0 0
		photos:/2024 $T/b  kiseki  _netdev,ro  0 0
		$V           $T/c  kiseki  defaults,nofail,buffer_size=32M  0 0
		photos       $T/d  kiseki  noauto,user  0 0
	END
	with_sbin '
		mount -T "$T/fstab" -a
		mount -T "$T/fstab" -a
		for d in a b c; do [ "$(mounted "$T/$d" | wc -l)" -eq 1 ]; done
		[ -z "$(mounted "$T/d")" ]
		[ "$(cat "$T/a/2024/file" "$T/b/file" "$T/c/2024/file" | sort -u)" = content ]
		mounted "$T/a" | grep -q "^photos "
		mounted "$T/b" | grep -q "^photos:/2024 ro"
		grep -q "\"readahead\":33554432" "$T/a/.kiseki/config"
		if echo x >"$T/b/new"; then exit 1; fi
		mount -T "$T/fstab" "$T/d"
		head -c 3000000 /dev/urandom >"$T/d/big"
		cp "$T/d/big" "$T/big"
		for d in a b c d; do umount "$T/$d"; [ -z "$(mounted "$T/$d")" ]; done
		kiseki-cp -q photos:/big - | cmp - "$T/big"
		# An unknown option is named, and mount(8) hands the status on.
		echo "photos $T/a kiseki readahed=1M 0 0" >"$T/fstab"
		rc=0; mount -T "$T/fstab" "$T/a" 2>"$T/err" || rc=$?
		[ $rc -eq 1 ]
		grep -q "readahed" "$T/err"
		[ -z "$(mounted "$T/a")" ]
	'
}

@test "fstab: what --update-fstab writes is what mount(8) mounts" {
	format
	printf '[photos]\nmeta = %s\n' "$V" >kiseki.conf
	export KISEKI_CONFIG=$T/kiseki.conf LIBMOUNT_FSTAB=$T/fstab
	mkdir a 'b c'
	with_sbin '
		kiseki-mount -q --yes --update-fstab --readahead=32M -o nofail,_netdev,nosuid photos "$T/a"
		kiseki-mount -q --yes --update-fstab --read-only -o "log-file=$T/a\\,b" "$V" "$T/b c"
		for i in 1 2; do
			echo "text $i" >"$T/a/file$i"
			# It is known to be mounted already.
			mount --fstab "$T/fstab" -a
			[ "$(mounted "$T/a" | wc -l)" -eq 1 ]
			[ "$(mounted "$T/b\\\\040c" | wc -l)" -eq 1 ]
			umount "$T/a"
			umount "$T/b c"
			mount --fstab "$T/fstab" "$T/a"
			mounted "$T/a" | grep -q "^photos .*nosuid"
			grep -q "\"readahead\":33554432" "$T/a/.kiseki/config"
			mount --fstab "$T/fstab" -a
			mounted "$T/b\\\\040c" | grep -q "^$V ro"
			[ "$(cat "$T/b c/file$i")" = "text $i" ]
			[ -e "$T/a,b" ]
			rm "$T/a,b"
		done
		umount "$T/a" "$T/b c"
	'
	[ "$(wc -l <fstab)" -eq 2 ]
}

@test "fstab: systemd takes the lines as they are" {
	local generator=/lib/systemd/system-generators/systemd-fstab-generator unit
	[ -x "$generator" ] || skip "no systemd-fstab-generator"
	mkdir normal early late
	cat >fstab <<-END
		photos          /mnt/photos  kiseki  _netdev,nofail,noauto,x-systemd.automount,readahead=32M  0 0
		photos:/2024    /mnt/p2024   kiseki  _netdev,ro  0 0
		/srv/k/meta.db  /mnt/local   kiseki  defaults,nofail  0 0
	END
	SYSTEMD_FSTAB=$T/fstab limit 20 "$generator" normal early late
	grep -qx What=photos normal/mnt-photos.mount
	grep -qx Type=kiseki normal/mnt-photos.mount
	[ -e normal/mnt-photos.automount ]
	grep -qx What=photos:/2024 normal/mnt-p2024.mount
	grep -qx What=/srv/k/meta.db normal/mnt-local.mount
}

@test "autofs: mounts on first use" {
	requires automount
	grep -qw autofs /proc/filesystems || skip "no autofs in this kernel"
	format
	echo content >f
	kiseki-cp -q f "$U:/"
	printf '[photos]\nmeta = %s\n' "$V" >kiseki.conf
	chmod 600 kiseki.conf
	export KISEKI_CONFIG=$T/kiseki.conf
	echo "$T/auto $T/auto.kiseki --timeout=600" >auto.master
	echo "photos -fstype=kiseki,readahead=32M :photos" >auto.kiseki
	with_sbin '
		mkdir -p "$T/auto"
		automount -f -v --dont-check-daemon -p "$T/automount.pid" "$T/auto.master" >"$T/automount.log" 2>&1 &
		daemon=$!
		trap "kill $daemon; wait $daemon || true; cat \"$T/automount.log\"" EXIT
		# In a process group of its own: the automounter lets its own group see nothing mounted. It is there before it answers.
		for i in $(seq 100); do timeout 10 grep -qs content "$T/auto/photos/f" && break; sleep 0.1; done
		[ "$(cat "$T/auto/photos/f")" = content ]
		mounted "$T/auto/photos" | grep -q "^photos "
		umount "$T/auto/photos"
	'
}
