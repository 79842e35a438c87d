#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The power fails at random moments: what was promised is there after the next mount, and nothing is wrong, or damaged.
# A volume lives on a file system that records every change (powerfs); from the record come states that a disk could have been left in (powercut).
# KISEKI_TEST_LONG=1: a thousand of them. KISEKI_TEST_SEED repeats a run's choice of them, though not its timing.

load mounted_helper

setup() {
	LIMIT=$(ops 150 3600)
	mounted_setup
	need_root
	command -v unshare >/dev/null || skip "unshare is not installed"
	"$helpers/powerrun.t" true 2>/dev/null || skip "seccomp cannot pass on system calls here"
	seed=${KISEKI_TEST_SEED:-$RANDOM}
	echo "seed $seed"
	disk=$T/disk
	mkdir "$disk" "$T/back" "$T/base"
	V=$T/image/vol/meta.db
}

# KISEKI_TEST_KEEP=DIR: there is, after a failure, what powercut and crashcheck had.
teardown() {
	if [ -z "${BATS_TEST_COMPLETED-}" ] && [ -n "${KISEKI_TEST_KEEP-}" ] && [ -f "${T-}/log" ]; then
		cp -a "$T"/{base,log,promises,image} "$KISEKI_TEST_KEEP/" || true
	fi
	mounted_teardown
}

# recorded BACK LOG SCRIPT [POWERFS OPTION...]: runs the lines on $disk, which is BACK below powerfs, and kills the daemon after them.
# The machine has another boot id for them: to what comes later, it was started anew.
recorded() {
	local back=$1 log=$2 script=$3 fs run
	shift 3
	"$helpers/powerfs.t" "$@" "$back" "$disk" "$log" 3>&- &
	fs=$!
	pids+=("$fs")
	wait_for mountpoint -q "$disk"
	cat /proc/sys/kernel/random/uuid >"$T/boot_id"
	rm -f "$T/status"
	cat >"$T/script" <<-END
		trap 'echo \$? >"$T/status"' EXIT
		set -e
		mount --bind '$T/boot_id' /proc/sys/kernel/random/boot_id
		$script
	END
	"$helpers/powerrun.t" "$BATS_TEST_DIRNAME/unshared" bash "$T/script" 3>&- &
	run=$!
	pids+=("$run")
	SECONDS_MAX=1200 wait_for [ -s "$T/status" ]
	! daemon >/dev/null || kill_daemon
	! daemon "$T/also" >/dev/null || kill_daemon "$T/also"
	wait "$run"
	"$helpers/powerrun.t" sync -f "$disk"
	umount "$disk"
	wait "$fs"
	[ "$(cat "$T/status")" -eq 0 ]
}

# record SECONDS 'WRITER OPTION...' [POWERFS OPTION...]: processes write for so long on a volume, which is made with the options $format when
# there is none in $T/base; with $also, on two mounts of it. Leaves $T/log and $T/promises.
record() {
	local seconds=$1 writer=$2
	shift 2
	recorded "$T/back" "$T/log" "
		[ -d '$disk/vol' ] || {
			mkdir '$disk/vol'
			sync '$disk'
			kiseki-format -q ${format-} '$disk/vol/meta.db'
		}
		kiseki-mount -q ${transport[*]} '$disk/vol/meta.db' '$M'
		[ -z '${also-}' ] || kiseki-mount -q ${transport[*]} '$disk/vol/meta.db' '$also'
		mkdir '$M/d'
		[ -z '${also-}' ] || sleep 1.2 # what is not there is known for a second
		'$helpers/crashwriter.t' --seed $seed --seconds $seconds $writer ${also:+--also '$also/d'} \\
			--cp 'sqlite://$disk/vol/meta.db:/d' '$M/d' '$T/promises'" "$@"
}

# image SEED [POWERCUT OPTION...]: makes $T/image; $stamp is when the power failed
image() {
	local n=$1
	shift
	rm -rf "$T/image"
	mkdir "$T/image"
	run_ok limit 60 "$helpers/powercut.t" --seed "$n" --promises "$T/promises" "$@" "$T/base" "$T/log" "$T/image"
	echo "$output"
	stamp=${lines[-1]##* }
}

# The next mount is killed while it recovers, or soon after.
killed_mount() {
	local pid
	kiseki-mount -q -f "${transport[@]}" "$V" "$M" 2>/dev/null 3>&- &
	pid=$!
	sleep "0.0$((RANDOM % 70 + 10))"
	kill -KILL "$pid"
	# Its own first look at the mount may wait for itself: then only the end of the connection ends it.
	umount -f -l "$M" 2>/dev/null || true
	wait "$pid" || true
}

# What was promised is there, and the volume is whole.
holds() {
	mount_it || return 1
	mkdir -p "$M/d"
	run_ok helper crashcheck --power --until "$stamp" "$M/d" "$T/promises" || return 1
	echo "${lines[-1]}"
	fsck_clean && umount_it
}

# images N: so many of what was recorded; every fifth is recovered twice
images() {
	local i
	for ((i = 1; i <= $1; i++)); do
		image $((seed + i)) --sector "$((i % 3 ? 4096 : 512))"
		((i % 5)) || killed_mount
		holds
	done
}

@test "a record and its images: all that was synced is as it was; one seed makes one image" {
	record 1 ""
	image 1 --cut 1G
	# The index of SQLite's log comes from a mapping, which the kernel writes when it likes.
	diff -r -x '*-shm' "$T/back" "$T/image"
	image 5
	mv "$T/image" "$T/first"
	image 5
	diff -r "$T/first" "$T/image"
}

@test "power cuts while two processes write" {
	record "$(ops 3 10)" ""
	images "$(ops 10 300)"
}

@test "power cuts with blocks of 64 KiB" {
	format=--block-size=64k record "$(ops 2 10)" ""
	images "$(ops 8 200)"
}

@test "power cuts while two mounts write" {
	also=$T/also
	mkdir "$also"
	record "$(ops 2 10)" ""
	images "$(ops 6 200)"
}

@test "power cuts while old content is thrown away and nothing is synced" {
	record "$(ops 8 30)" "--calm --threads 1"
	images "$(ops 12 300)"
}

# again N: the power fails while the image is recovered, or soon after; so many images of that
again() {
	local i how=$((RANDOM % 3)) first=$stamp end="sleep 0.$((RANDOM % 10))"
	[ $how -ne 0 ] || end="kiseki-umount -q '$M'"
	rm -rf "$T/between" "$T/between.back"
	mv "$T/image" "$T/between"
	cp -a "$T/between" "$T/between.back"
	recorded "$T/between.back" "$T/log2" "
		kiseki-mount -q ${transport[*]} '$disk/vol/meta.db' '$M'
		$end"
	for ((i = 1; i <= $1; i++)); do
		mkdir "$T/image"
		run_ok limit 60 "$helpers/powercut.t" --seed $((seed + i)) "$T/between" "$T/log2" "$T/image"
		echo "again: $output"
		stamp=$first
		holds
		rm -rf "$T/image"
	done
}

@test "the power fails again while what the first cut took is taken back" {
	local i
	record 1 ""
	for ((i = 1; i <= $(ops 3 60); i++)); do
		image $((seed + i))
		again 2
	done
}

@test "with a disk that lies about fsync, promises are seen to break" {
	local i broken=0
	mkdir "$T/back/vol"
	limit 30 kiseki-format -q "$T/back/vol/meta.db"
	rmdir "$T/base"
	cp -a "$T/back" "$T/base"
	record 2 "" --nosync
	for ((i = 1; i <= 6 && broken == 0; i++)); do
		image $((seed + i))
		mount_it --ready-timeout=5 2>/dev/null || { broken=1 && continue; }
		helper crashcheck --power --until "$stamp" "$M/d" "$T/promises" | grep -q "broken promise" && broken=1
		umount_it || abort_all
	done
	[ "$broken" -eq 1 ]
}
