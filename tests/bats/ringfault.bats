#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# A mount over io_uring when the kernel does not take its commands (tests/mounted/ringfault.c).

load mounted_helper

setup() { mounted_setup; }
teardown() { mounted_teardown; }

@test "commands that fail are tried again, and end the mount rather than hang" {
	need_root
	need_uring
	TMPDIR=$T limit 80 "$helpers/ringfault.t"
	[ -z "$(mounts)" ]
}
