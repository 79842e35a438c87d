#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What a mount takes of the machine's memory: under 30 MiB when it has nothing to do, its buffer and 30 MiB at most.

load mounted_helper

setup() { mounted_setup; }
teardown() { mounted_teardown; }

# takes FIELD MIB WHAT: less than that is in this field of the daemon's status
takes() {
	local n
	n=$(kib "$1" "$pid")
	echo "$3: $1 $n KiB"
	[ "$n" -lt $(($2 * 1024)) ]
}

# memory TRANSPORT
memory() {
	local i pid
	[ -z "${KISEKI_SAN-}" ] || skip "sanitizers need memory of their own"
	format
	mount_it --buffer-size=64M --transport="$1"
	pid=$(daemon)
	ls -la "$M"
	takes VmRSS 30 fresh
	dd if=/dev/urandom of="$M/big" bs=1M count=400 iflag=fullblock conv=fsync status=none
	dd if="$M/big" of=/dev/null bs=1M status=none
	# The kernel has it all now, and would answer itself.
	dd if="$M/big" of=/dev/null bs=1M iflag=direct status=none
	takes VmHWM $((64 + 30)) "a large file"
	mkdir "$M/many"
	for ((i = 0; i < 2000; i++)); do
		printf '%4096d' "$i" >"$M/many/$i"
	done
	[ "$(cat "$M"/many/* | wc -c)" -eq $((2000 * 4096)) ]
	takes VmHWM $((64 + 30)) "many small files"
}

@test "requests over /dev/fuse" {
	memory classic
}

@test "requests over io_uring" {
	need_uring
	memory uring
}
