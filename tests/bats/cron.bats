#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What jobs without anybody watching need: when it was done last, nothing asked, messages for programs.

load helper
setup() {
	cli_setup
	format
	echo x >f
	kiseki-cp -q f "$U:/"
}
teardown() { mounted_teardown; }

# metric FILE NAME: its value for the volume
metric() { sed -n "s/^$2{volume=\"vol\"} //p" "$1"; }

@test "--metrics-file: the last success outlives a failure" {
	local t tool since
	since=$(date +%s)
	for t in "gc $V" "compact $V" "fsck -q $V" "dump -o d $V" "cp f $U:/g"; do
		tool=${t%% *}
		kiseki-$t --metrics-file=$tool.prom
		[ "$(metric $tool.prom kiseki_${tool}_last_success_timestamp_seconds)" -ge "$since" ]
		[ "$(metric $tool.prom kiseki_${tool}_last_run_timestamp_seconds)" -ge "$since" ]
		[ "$(metric $tool.prom kiseki_${tool}_last_exit_code)" -eq 0 ]
		[ "$(stat -c %a $tool.prom)" = 644 ]
		# Every sample has its type before it, and nothing else is in it.
		awk '/^# TYPE / { type[$3] = $4; next } /^# HELP / { next }
			{ name = $1; sub(/[{].*/, "", name); if (type[name] != "gauge" || NF != 2 || $2 !~ /^[0-9.]+$/) exit 1 }' $tool.prom
	done
	sed -i 's/^\(kiseki_gc_last_success[^ ]*\) .*/\1 1000/' gc.prom
	mv "$V" away.db
	fails_cleanly 66 kiseki-gc --metrics-file=gc.prom "$V"
	[ "$(metric gc.prom kiseki_gc_last_success_timestamp_seconds)" -eq 1000 ]
	[ "$(metric gc.prom kiseki_gc_last_run_timestamp_seconds)" -ge "$since" ]
	[ "$(metric gc.prom kiseki_gc_last_exit_code)" -eq 66 ]
	fails_cleanly 8 kiseki-fsck --metrics-file=new.prom "$V"
	not grep -q last_success new.prom
	grep -q '^kiseki_fsck_last_exit_code.* 8$' new.prom
	# No secret comes into it, nor what ends a label.
	fails_cleanly 64 kiseki-gc --metrics-file=s.prom postgres://u:hunter2@h/k
	not grep -q hunter2 s.prom
	fails_cleanly 64 kiseki-gc --metrics-file=s.prom 'a"b'
	grep -qF 'volume="a\"b"' s.prom
	[ -z "$(find . -name '*.prom.*')" ]
}

@test "--metrics-file: a place that cannot be written to is an error, a run that does nothing none" {
	out_err kiseki-gc -q --metrics-file=no/dir/gc.prom "$V"
	[ "$status" -eq 74 ]
	says no/dir/gc.prom
	out_err kiseki-fsck -q --metrics-file=no/dir/gc.prom "$V"
	[ "$status" -eq 8 ]
	fails_cleanly 64 kiseki-gc -n --metrics-file=gc.prom "$V"
	fails_cleanly 64 kiseki-compact --check --metrics-file=gc.prom "$V"
	says "not with --check"
	[ ! -e gc.prom ]
	kiseki-fsck -qn --metrics-file=gc.prom "$V"
	grep -q last_success gc.prom
}

@test "--batch: a terminal is not asked either" {
	requires script
	run limit 10 script -qec "kiseki-destroy --batch '$V'" /dev/null
	[ "$status" -eq 64 ]
	says '--batch asks nothing'
	[ -e "$V" ]
	run limit 10 script -qec "kiseki-trash empty --batch '$V'" /dev/null
	[ "$status" -eq 64 ]
	says '--batch asks nothing: --yes empties'
	run limit 10 script -qec "kiseki-rm -i --batch '$U:/f'" /dev/null
	[ "$status" -eq 64 ]
	mkdir src
	(cd src && touch $(seq 150))
	kiseki-cp -qr src "$U:/"
	rm src/*
	echo n >no
	run limit 10 script -qec "kiseki-cp -rT --delete --force --batch src '$U:/src'" /dev/null <no
	[ "$status" -eq 0 ]
	[ -z "$(kiseki-ls "$U:/src")" ]
	kiseki-destroy -q --batch --yes "$V"
	[ ! -e "$V" ]
}

@test "--log-format: messages for programs" {
	requires jq
	local t
	for t in "ls nosuch" "gc nosuch" "cp f nosuch:/" "rm $U:/nope" "ls --bogus"; do
		out_err kiseki-${t%% *} --log-format=json ${t#* }
		[ "$status" -ge 64 ]
		[ -z "$out" ]
		jq -es --arg tool kiseki-${t%% *} 'length > 0 and all(.type == "log" and .level == "error" and .tool == $tool
			and (.time | test("^20.*Z$")) and has("message") != has("hint"))' .err
	done
	out_err kiseki-gc -vv --log-format=json "$V"
	jq -es 'any(.level == "debug" and .where != null)' .err
	out_err kiseki-ls --log-format=journal nosuch
	[[ $err == "<3>kiseki-ls: no volume"*$'\n<3>  hint: '* ]]
	# Which it is by itself when the journal reads it.
	touch journal
	JOURNAL_STREAM=$(stat -c %d:%i journal) kiseki-ls nosuch 2>journal || true
	grep -q '^<3>kiseki-ls' journal
	: >journal
	JOURNAL_STREAM=$(stat -c %d:%i journal) kiseki-ls --log-format=text nosuch 2>journal || true
	grep -q '^kiseki-ls' journal
	printf '[default]\nlog-format = json\n' >k.conf
	out_err kiseki-rm --config=k.conf "$U:/nope"
	jq -e . .err
}

@test "--log-format: of a mount, in its log file, and of who cannot unmount it" {
	requires fuse jq
	limit 60 kiseki-mount --log-file="$T/log" --log-format=json "$V" "$M" 3>&- 4>&-
	jq -es 'length > 0 and any(.level == "info" and (.message | startswith("mounted ")))' "$T/log"
	sleep 30 <"$M/f" &
	pids+=($!)
	wait_for test -e /proc/$!/fd/0
	out_err limit 20 kiseki-umount --log-format=json "$M"
	[ "$status" -eq 75 ]
	jq -es 'any(.message | contains("sleep"))' .err
	kill $!
	limit 20 kiseki-umount -q "$M"
	jq -es 'any(.message == "unmounted")' "$T/log"
}

@test "who is in the way is said; --lock-wait waits for the end; who is killed is in nobody's way" {
	mkfifo in
	kiseki-cp -q - "$U:/late" <in &
	pids+=($!)
	exec 9>in
	wait_for eval 'kiseki-status --json "$V" | grep -q kiseki-cp'
	fails_cleanly 8 kiseki-fsck -p "$V"
	says "in use by kiseki-cp on $(hostname) (process $!, since 20"
	says 'heartbeat '
	says --lock-wait
	fails_cleanly 75 kiseki-destroy --yes "$V"
	says "process $!"
	(sleep 1; exec 9>&-; kill -KILL $!) &
	exec 9>&-
	limit 20 kiseki-fsck -qp --lock-wait=15s "$V"
	wait
	# What has the volume for itself has no session; the kernel knows it.
	flock "$T/vol/meta.locks/volume" sleep 3 &
	pids+=($!)
	wait_for not flock -n "$T/vol/meta.locks/volume" true
	fails_cleanly 75 kiseki-gc "$V"
	says "locked by flock (process $!)"
	limit 20 kiseki-gc -q --lock-wait=15s "$V"
	limit 20 kiseki-compact -q --lock-wait=15s "$V"
}

@test "jobs of root's on another user's volume leave all of it theirs" {
	requires root setpriv
	local as=(setpriv --reuid 65534 --regid 65534 --clear-groups) i
	chmod 711 "$T"
	mkdir -m 755 theirs
	chown 65534:65534 theirs
	cp "$(command -v kiseki-format)" "$(command -v kiseki-cp)" "$(command -v kiseki-rm)" .
	mkdir small
	for i in $(seq 30); do head -c 3000 /dev/urandom >small/$i; done
	head -c 300000 /dev/urandom >block
	chmod -R a+rX small block
	"${as[@]}" ./kiseki-format -q --trash=0 theirs/meta.db
	"${as[@]}" ./kiseki-cp -q -r small "sqlite://$T/theirs/meta.db:/"
	"${as[@]}" ./kiseki-rm -q -r "sqlite://$T/theirs/meta.db:/small"
	(
		umask 077
		kiseki-cp -q -r small "sqlite://$T/theirs/meta.db:/again"
		kiseki-cp -q block "sqlite://$T/theirs/meta.db:/block"
		kiseki-gc -q theirs/meta.db
		kiseki-compact -q theirs/meta.db
		kiseki-fsck -q -p theirs/meta.db
	)
	[ -n "$(find theirs/meta.blocks -path '*/blocks/*' -type f)" ]
	[ -n "$(find theirs/meta.blocks -path '*/packs/*' -type f)" ]
	find theirs ! -user 65534 >left
	[ ! -s left ] || { cat left; false; }
	# They read what root has stored, add to it, and delete it.
	"${as[@]}" ./kiseki-cp -q "sqlite://$T/theirs/meta.db:/block" - | cmp - block
	"${as[@]}" ./kiseki-cp -q block "sqlite://$T/theirs/meta.db:/more"
	"${as[@]}" ./kiseki-cp -q "sqlite://$T/theirs/meta.db:/again/7" - | cmp - small/7
	"${as[@]}" ./kiseki-rm -q -r "sqlite://$T/theirs/meta.db:/again" "sqlite://$T/theirs/meta.db:/block"
	# What is theirs leads root nowhere.
	rm -f theirs/meta.db-reserve
	echo precious >secret
	ln -s "$T/secret" theirs/meta.db-reserve
	kiseki-cp -q block "sqlite://$T/theirs/meta.db:/third"
	[ "$(cat secret)" = precious ]
	[ "$(stat -c %u secret)" = 0 ]
}
