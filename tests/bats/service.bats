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
	run_ok limit 80 unshare -m bash "$T/script" "${transport[@]}" 3>&- 4>&-
	# daemon.info is 3 * 8 + 6.
	grep -qE "^<30>.* kiseki-mount\[[0-9]+\]: $M: mounted '$V'" syslog
	grep -qE "^<30>.* kiseki-mount\[[0-9]+\]: $M: unmounted" syslog
}
