#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# kiseki, the dispatcher.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

@test "kiseki X is kiseki-X" {
	[ "$(kiseki ls -V)" = "$(kiseki-ls -V)" ]
	format
	echo x >f
	kiseki cp -q f "$U:/f"
	[ "$(kiseki ls "$V")" = f ]
	[ "$(kiseki cp "$U:/f" -)" = x ]
	fails_cleanly 66 kiseki ls nosuch
	says kiseki-ls:
}

@test "options behind the command are the command's" {
	format
	run kiseki status --json "$V"
	[ "$status" -eq 0 ]
	says '"tool":"kiseki-status"'
	run kiseki ls --list-options
	says --recursive
}

@test "--list names every command, each once" {
	out_err kiseki --list
	[ "$status" -eq 0 ]
	for t in cp format ls mount status umount; do
		[ "$(grep -cxF "$t" .out)" -eq 1 ]
	done
	[ "$(sort -u .out)" = "$(cat .out)" ]
}

@test "commands are found in PATH, too" {
	mkdir bin
	printf '#!/bin/sh\necho "plugin $0 $*"\n' >bin/kiseki-plugin
	chmod +x bin/kiseki-plugin
	PATH=$T/bin:$PATH run kiseki plugin a 'b c'
	[ "$status" -eq 0 ]
	says 'kiseki-plugin a b c'
	PATH=$T/bin:$PATH kiseki --list | grep -qx plugin
	chmod -x bin/kiseki-plugin
	PATH=$T/bin:$PATH kiseki --list | not grep -qx plugin
}

@test "a typo is 64, with the nearest word" {
	fails_cleanly 64 kiseki fromat x
	says "did you mean 'format'"
	fails_cleanly 64 kiseki statuss
	says "did you mean 'status'"
	fails_cleanly 64 kiseki zzzzzzzz
	says --list
	fails_cleanly 64 kiseki ../ls
	fails_cleanly 64 kiseki ''
	fails_cleanly 64 kiseki form
}

@test "help opens the manual" {
	mkdir bin
	printf '#!/bin/sh\necho "man $*"\n' >bin/man
	chmod +x bin/man
	[ "$(PATH=$T/bin:$PATH kiseki help cp)" = 'man kiseki-cp' ]
	[ "$(PATH=$T/bin:$PATH kiseki help)" = 'man 7 kiseki' ]
}
