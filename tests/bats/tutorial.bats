#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The tutorial: every command in it works, in its order.

load helper
setup() { cli_setup; }
teardown() { mounted_teardown; }

page=$BATS_TEST_DIRNAME/../../doc/man/kiseki-tutorial.7

# What follows a dollar sign, as a reader sees it.
commands() { sed -n 's/^\$ //p' "$page" | sed 's/\\e/\\/g; s/\\-/-/g; s/\\&//g'; }

@test "every command of the tutorial works as it stands" {
	requires fuse jq sqlite3 unshare
	local where=()
	mkdir work lib
	{
		echo 'set -eu -o pipefail; cd "$T/work"; unset KISEKI_CONFIG'
		# The machine's volumes of root are not to be touched.
		[ "$(id -u)" -ne 0 ] || echo 'mount --bind "$T/lib" /var/lib; mkdir -p "$T/lib"'
		commands | while IFS= read -r command; do
			printf 'echo %q; %s\n' "\$ $command" "timeout -k 5 60 bash -c $(printf %q "set -o pipefail; $command")"
		done
		echo 'echo all of it'
	} >script
	[ "$(id -u)" -ne 0 ] || where=("$BATS_TEST_DIRNAME/unshared")
	export T
	run_ok limit 90 "${where[@]}" bash script 3>&- 4>&-
	echo "$output"
	[ "$(tail -n 1 <<<"$output")" = 'all of it' ]
	# It is a tour of everything that needs no other machine.
	[ "$(commands | wc -l)" -ge 35 ]
	says 'a picture' || [ "$(cat work/copy.jpg)" = 'a picture' ]
	[ ! -e work/scratch.db ]
}

@test "the tutorial and kiseki(7) name every tool" {
	local t
	for t in "$bin"/kiseki-*; do
		t=${t##*/}
		grep -qE "^\.Xr $t [18]( ,)?$" "$BATS_TEST_DIRNAME/../../doc/man/kiseki.7" || { echo "kiseki(7) lacks $t"; return 1; }
		grep -qE "^\| \`$t\` \|" "$BATS_TEST_DIRNAME/../../README.md" || { echo "README.md lacks $t"; return 1; }
	done
}

@test "the manuals refer to manuals that exist" {
	local name section rest page
	for page in "$BATS_TEST_DIRNAME"/../../cmd/*/*.[1-8] "$BATS_TEST_DIRNAME"/../../doc/man/*.[1-8]; do
		while read -r name section rest; do
			[ -e "$BATS_TEST_DIRNAME/../../doc/man/$name.$section" ] || [ -e "$BATS_TEST_DIRNAME/../../cmd/$name/$name.$section" ] || {
				echo "$page: there is no $name($section)"
				return 1
			}
		done < <(sed -nE 's/^\.Xr (kiseki[^ ]*) ([0-9]).*/\1 \2/p; s/^.* Xr (kiseki[^ ]*) ([0-9]).*/\1 \2/p' "$page")
	done
}
