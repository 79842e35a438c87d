#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# --color: what has colours, where, and who decides.

load helper
setup() {
	cli_setup
	requires script
	export TERM=xterm
}
teardown() { mounted_teardown; }

# on_tty COMMAND: what it prints on a terminal, in ./tty; $tty_status is its status
on_tty() {
	tty_status=0
	limit 20 script -qec "$1" /dev/null </dev/null >tty || tty_status=$?
	echo "status $tty_status of: $1"
	cat -v tty
}

colored() { grep -q $'\e\\[' "${1:-tty}"; }

files() {
	format
	mkdir -p src/d
	touch src/plain src/run
	chmod 755 src/run
	ln -s plain src/link
	mkfifo src/fifo
	kiseki-cp -q -a src/. "$U:/"
}

@test "auto: on a terminal, and neither with NO_COLOR, nor with TERM=dumb, nor elsewhere" {
	requires jq
	files
	on_tty "kiseki-ls '$U:/'"
	colored
	on_tty "kiseki-ls nosuch"
	colored
	on_tty "kiseki-status '$V'"
	colored
	local what
	for what in "kiseki-ls -l '$U:/'" 'kiseki-ls nosuch' "kiseki-status '$V'" "kiseki-fsck '$V'" 'kiseki-ls --bogus' 'kiseki nosuch'; do
		NO_COLOR=1 on_tty "$what"
		not colored
		TERM=dumb on_tty "$what"
		not colored
		KISEKI_COLOR=never on_tty "$what"
		not colored
		on_tty "${what/ / --color=never }"
		not colored
		NO_COLOR='' on_tty "$what"
		colored
		bash -c "$what" >pipe 2>&1 || true
		[ -s pipe ]
		not colored pipe
	done
	# What is for programs.
	for what in "kiseki-ls -0 '$U:/'" "kiseki-ls -lH '$U:/'" "kiseki-ls --json '$U:/'" "kiseki-status --json '$V'" "kiseki-fsck --json '$V'"; do
		on_tty "${what/ / --color=always }"
		[ "$tty_status" -eq 0 ]
		not colored
	done
	on_tty 'kiseki-ls --log-format=json --color=always nosuch'
	jq -es 'length == 2' tty
	on_tty 'kiseki-ls --log-format=journal --color=always nosuch'
	grep -q '^<3>kiseki-ls: ' tty
	not colored
}

@test "always, into a pipe as well; who is nearer to the command beats who is farther" {
	files
	kiseki-ls --color=always "$U:/" >pipe
	colored pipe
	NO_COLOR=1 TERM=dumb kiseki-ls --color=always "$U:/" >pipe
	colored pipe
	NO_COLOR=1 KISEKI_COLOR=always kiseki-ls "$U:/" >pipe
	colored pipe
	KISEKI_COLOR=always kiseki-ls --color=never "$U:/" >pipe
	not colored pipe
	printf '[default]\ncolor = always\n' >k.conf
	kiseki-ls --config=k.conf "$U:/" >pipe
	colored pipe
	KISEKI_COLOR=never kiseki-ls --config=k.conf "$U:/" >pipe
	not colored pipe
	# Also of what a dispatcher runs.
	kiseki --color=always ls "$U:/" >pipe
	colored pipe
	KISEKI_COLOR=always kiseki --color=never ls "$U:/" >pipe
	not colored pipe
	kiseki --color=never ls --color=always "$U:/" >pipe
	colored pipe
}

@test "the two outputs are judged each by itself" {
	files
	on_tty "kiseki-ls '$U:/' nosuch 2>err"
	colored
	not colored err
	on_tty "kiseki-ls '$U:/' nosuch >out"
	colored
	not colored out
	on_tty "kiseki-ls --json nosuch >out"
	colored
	not colored out
}

@test "which colours: errors and hints, kinds of files, how a volume is" {
	requires sqlite3
	files
	not kiseki-ls --color=always nosuch 2>err
	grep -q $'^\e\\[1;31mkiseki-ls:\e\\[0m no volume' err
	grep -q $'^  \e\\[36mhint:\e\\[0m ' err
	kiseki-ls --color=always "$U:/" >got
	printf '\e[1;34md\e[0m\n\e[33mfifo\e[0m\n\e[1;36mlink\e[0m\nplain\n\e[1;32mrun\e[0m\n' | diff - got
	kiseki-ls --color=always -lp "$U:/" >got
	grep -q $' \e\\[1;34md\e\\[0m/$' got
	grep -q $' \e\\[1;36mlink\e\\[0m -> plain$' got
	kiseki-ls --color=always -R "$U:/" "$U:/d" | grep -q "^$U:/"$'\e\\[1;34md\e\\[0m$'
	kiseki-status --color=always "$V" | head -n 1 | grep -q $'  \e\\[32mhealthy\e\\[0m$'
	kiseki-fsck --color=always "$V" | tail -n 1 | grep -q $'^vol: \e\\[32mclean\e\\[0m$'
	sqlite3 "$V" "update counter set value = 7 where name = 'used_bytes'"
	not kiseki-fsck --color=always "$V" >got
	tail -n 1 got | grep -q $'^vol: \e\\[1;31m.*\e\\[0m$'
	kiseki-fsck --color=always -p "$V" >got || [ $? -eq 1 ]
	grep -q '1 of 1 repaired' got
	not colored got
	mv "$T/vol/meta.blocks" away
	kiseki-status --color=always "$V" | head -n 1 | grep -q $'  \e\\[1;31mDEGRADED\e\\[0m$'
}

@test "a name between colours is no order" {
	format
	mkdir src src/$'\e[0m\e]0;owned\a'
	kiseki-cp -q -a src/. "$U:/"
	kiseki-ls --color=always "$U:/" >got
	printf '\e[1;34m\\033[0m\\033]0;owned\\007\e[0m\n' | diff - got
	not kiseki-ls --color=always "$U:/"$'no\e[0msuch' 2>err
	grep -q 'no\\033\[0msuch' err
	# Without colours, and off a terminal, it is what it is.
	kiseki-ls "$U:/" | grep -q $'^\e\\[0m\e\\]0;owned\a$'
}

@test "every tool has it, and knows no other word" {
	local t
	for t in "$bin"/kiseki "$bin"/kiseki-*; do
		out_err limit 20 "$t" --color=sometimes
		[ "$status" -eq 64 ] || [[ $status == 16 && $t == */kiseki-fsck ]]
		says "'--color': 'sometimes' is none of auto, always, never"
		out_err limit 20 "$t" --color=always --bogus
		colored .err
	done
	out_err limit 20 env KISEKI_COLOR=sometimes kiseki-ls "$V"
	[ "$status" -eq 64 ]
	says "KISEKI_COLOR: 'sometimes' is none of auto, always, never"
	printf '[default]\ncolor = sometimes\n' >k.conf
	fails_cleanly 78 kiseki-ls --config=k.conf "$V"
	says k.conf:2
}
