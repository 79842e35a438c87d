#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The real daemon is killed at chosen system calls (tests/mounted/faultrun.c): what was promised is there, and it serves again at once.
# KISEKI_TEST_LONG=1: 400 points.

load faults_helper

setup() {
	LIMIT=$(ops 100 1500)
	faults_setup
}
teardown() { mounted_teardown; }

# points RULE N...: killed at the Nth such call while files are made; mounted again, all that was promised is there
points() {
	local rule=$1 n i=0 last= start
	shift
	for n; do
		i=$((i + 1))
		start=$SECONDS
		mount_faulty
		stat "$M" >/dev/null
		[ $((SECONDS - start)) -le 5 ]
		[ -z "$last" ] || run_ok helper crashcheck "$M/d$last" "$T/log.d$last"
		last=$n
		mkdir "$M/d$n"
		rules "${rule/%N/$n}"
		run_ok helper crashwriter --seed $((n + i)) --seconds 25 "$M/d$n" "$T/log.d$n"
		[[ $output == *then* ]] # it did not outlive the daemon
		rules
	done
	mount_faulty
	check_all
	umount_it
	[ "$(sql 'pragma integrity_check')" = ok ]
	fsck_clean
}

# spread COUNT: so many numbers, ever farther apart
spread() { awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) print int(1 + i + 4 * i * i / n) }'; }

@test "killed before the Nth call that changes something" {
	# Word splitting is meant.
	# shellcheck disable=SC2046
	points "$calls kill */vol/* N" $(spread "$(ops 16 300)")
}

@test "killed in the middle of the Nth write" {
	# shellcheck disable=SC2046
	points "write torn */vol/* N" $(spread "$(ops 9 100)")
}

@test "killed again at every call of the mount that follows a crash" {
	local n round
	for round in $(ops 1 "1 2 3"); do
		rules
		mount_faulty
		mkdir "$M/d$round"
		rules "write,sync kill */vol/* $((70 * round))"
		run_ok helper crashwriter --seed "$round" --seconds 25 "$M/d$round" "$T/log.d$round"
		for ((n = 1; n < 100; n++)); do
			rules "$calls kill */vol/* $n"
			! mount_faulty 2>"$T/err" || break
			grep -q "died of signal 9" "$T/err"
		done
		echo "served after $n calls"
		[ "$n" -gt 10 ]
		[ "$n" -lt 100 ]
		rules
		# It may have died just after it had said that it serves.
		stat "$M" >/dev/null 2>&1 || mount_faulty
		check_all
		umount_it
	done
	fsck_clean
}
