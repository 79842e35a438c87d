#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# What the shells offer on TAB: the shells themselves are asked.

load helper

# Every tool there is, not only those whose exit codes are alike.
tools=("$bin"/kiseki "$bin"/kiseki-*)
tools=("${tools[@]##*/}")
completions=$BATS_TEST_DIRNAME/../../completions

setup() {
	cli_setup
	mkdir -p src/sub "src/a b" shell
	touch "src/a b/it's" src/sub/file src/single "src/a b/two words"
	format
	kiseki-cp -q -r src/. "$U:/"
	printf '[default]\nvolume = kt-photos\n[kt-photos]\nmeta = %s\n[kt-phone]\nmeta = %s\n' "$V" "$V" >kiseki.conf
	chmod 600 kiseki.conf
	export KISEKI_CONFIG=$T/kiseki.conf
}
teardown() { mounted_teardown; }

# answered N: waits until N commands have printed their words. What is typed before that would be echoed between them.
answered() {
	local i
	for ((i = 0; i < 100; i++)); do
		(($(grep -c '@@\[.*\]' typed) >= $1)) && return
		sleep 0.05
	done
}

# type KEYS into SHELL, with FILE read first; each line typed is a command that prints its words as [word]
type_into() {
	local shell=$1 file=$2 line n=1
	shift 2
	: >typed
	{
		printf 'source %q && p ready\n' "$file"
		answered $n
		for line; do
			printf '%b' "$line"
			sleep 0.1
			printf '\n'
			answered $((++n))
		done
		printf 'exit\n'
	} | TERM=dumb limit 60 script -qec "$shell" /dev/null >>typed 2>&1
	# What was typed ahead may stand before it on its line. The first is "ready".
	tr -d '\r' <typed | sed -n 's/.*@@//p' | tail -n +2 >got
	cat typed
}

# Shows what became of the words, instead of running it.
show_words() {
	local t
	echo 'p() { printf @@; printf "[%s]" "$@"; echo; }'
	for t in "${tools[@]}"; do
		echo "$t() { p \"\$@\"; }"
	done
}

# line N: what the N-th command was given
line() { sed -n "$1p" got; }

bash_types() {
	{
		cat "$completions/kiseki.bash"
		show_words
	} >shell/bashrc
	type_into 'bash --norc --noprofile -i' "$T/shell/bashrc" "$@"
}

zsh_types() {
	{
		echo "fpath=($completions \$fpath); autoload -U compinit; compinit -u -d $T/shell/zdump; bindkey -e; PS1='> '"
		echo "zstyle ':completion:*' completer ${all:+_all_matches} _complete; zstyle ':completion:*' insert true"
		show_words
	} >shell/zshrc
	type_into 'zsh -f -i' "$T/shell/zshrc" "$@"
}

# offered LINE: what fish offers for it
offered() {
	limit 20 fish --no-config -c "set -g fish_complete_path '$T/shell/fish'; complete -C '$1'" | cut -f 1
}

fish_setup() {
	local t
	mkdir -p shell/fish
	for t in "${tools[@]}"; do
		ln -s "$completions/kiseki.fish" "shell/fish/$t.fish"
	done
}

# by_bash WORD...: what bash offers for the last word, as the completion function sees it; of words without ':' and '='
by_bash() {
	bash --norc --noprofile -c '
		source "$0"
		compopt() { :; }
		COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
		_kiseki
		printf "%s\n" "${COMPREPLY[@]}"' "$completions/kiseki.bash" "$@"
}

@test "bash: every option of every tool is offered" {
	local t
	for t in "${tools[@]}"; do
		by_bash "$t" - | sort >offered
		"$t" --list-options | cut -f 1,2 --output-delimiter=$'\n' | grep . | sort >want
		diff offered want
	done
	bash --norc --noprofile -c "source '$completions/kiseki.bash'; complete -p" >bound
	for t in "${tools[@]}"; do
		grep -qx "complete -F _kiseki $t" bound
	done
}

@test "bash: words typed in a terminal" {
	requires script
	bash_types 'kiseki-ls kt\e*' 'kiseki-ls kt-photos:/a\tit\t' 'kiseki-cp --preserve=mode,ow\t' \
		'kiseki cp --reflink=\e*' 'kiseki cp --progress al\t src/s\e*' 'kiseki-mount -o read-\t' 'kiseki-cp sr\tsu\tf\t kt-p' \
		'kiseki-ls :/su\t' "kiseki-ls $V:/su\\t" "kiseki-cp $U:/su\\t" 'kiseki-cp ./src:/\e*' 'kiseki-ls --config=kis\t' \
		'kiseki-gc -- --gr\e*' 'kiseki help form\t' 'kiseki-ls "kt-photos:/a b/t\t' 'kiseki-fsck --data=\e*'
	[ "$(line 1)" = '[kt-phone:/][kt-photos:/]' ]
	[ "$(line 2)" = "[kt-photos:/a b/it's]" ]
	[ "$(line 3)" = '[--preserve=mode,owner]' ]
	[ "$(line 4)" = '[cp][--reflink=always][auto][never]' ]
	[ "$(line 5)" = '[cp][--progress][always][src/single][src/sub]' ]
	[ "$(line 6)" = '[-o][read-only]' ]
	[ "$(line 7)" = '[src/sub/file][kt-p]' ]
	[ "$(line 8)" = '[:/sub/]' ]
	[ "$(line 9)" = "[$V:/sub/]" ]
	[ "$(line 10)" = "[$U:/sub/]" ]
	[ "$(line 11)" = '[./src:/]' ]
	[ "$(line 12)" = '[--config=kiseki.conf]' ]
	[ "$(line 13)" = '[--][--gr]' ]
	[ "$(line 14)" = '[help][format]' ]
	[ "$(line 15)" = '[kt-photos:/a b/two words]' ]
	[ "$(line 16)" = '[--data=exists][read]' ]
}

@test "bash: a new tool needs no change" {
	mkdir bin
	cat >bin/kiseki-novelty <<-'END'
		#!/bin/sh
		case $1 in
		--list-options) printf -- '-z\t--zeal\ta,b\thow\n' ;;
		--usage) echo 'Usage: kiseki-novelty VOLUME' ;;
		esac
	END
	chmod +x bin/kiseki-novelty
	PATH=$T/bin:$PATH
	[ "$(by_bash kiseki-novelty --z)" = --zeal ]
	[ "$(by_bash kiseki novel)" = novelty ]
	[ "$(by_bash kiseki novelty -z a,)" = "$(printf 'a,a\na,b')" ]
	[ "$(by_bash kiseki novelty kt- | xargs)" = 'kt-phone kt-photos' ]
}

@test "bash: a volume that cannot be opened offers nothing, and says nothing" {
	rm "$V"
	out_err by_bash kiseki-ls kt-photos:/x
	[ -z "$err" ]
	[ -z "$out" ]
	echo 'not a configuration' >kiseki.conf
	out_err by_bash kiseki-ls kt-
	[ -z "$err" ]
	[ -z "$out" ]
}

@test "a mount point is offered to umount" {
	requires fuse
	mount_it
	by_bash kiseki-umount "$T/m" | grep -qxF "$M"
	if command -v fish >/dev/null; then
		fish_setup
		offered 'kiseki-umount ' | grep -qxF "$M"
	fi
}

@test "zsh: words typed in a terminal" {
	requires script zsh
	zsh_types 'kiseki-ls kt-photos:/a\tit\t' 'kiseki-cp --reflink=alw\t' 'kiseki cp --progress al\t src/si\t' 'kiseki-ls :/su\t' \
		"kiseki-cp $U:/si\\t" 'kiseki-mount -o read-\t' 'kiseki help form\t' 'kiseki-fsck --data=r\t' 'kiseki-cp --preserve=mode,ow\t'
	[ "$(line 1)" = "[kt-photos:/a b/it's]" ]
	[ "$(line 2)" = '[--reflink=always]' ]
	[ "$(line 3)" = '[cp][--progress][always][src/single]' ]
	[[ "$(line 4)" = '[:/sub'?(/)']' ]]
	[ "$(line 5)" = "[$U:/single]" ]
	[ "$(line 6)" = '[-o][read-only]' ]
	[ "$(line 7)" = '[help][format]' ]
	[ "$(line 8)" = '[--data=read]' ]
	[ "$(line 9)" = '[--preserve=mode,owner]' ]
}

@test "zsh: every long option of every tool is offered" {
	requires script zsh
	local t i=0 all=yes
	zsh_types "${tools[@]/%/ --\\t}"
	for t in "${tools[@]}"; do
		i=$((i + 1))
		line $i | tr -d ']' | tr '[' '\n' | sed 's/=$//' | grep . | sort >offered
		"$t" --list-options | cut -f 2 | grep . | sort >want
		diff offered want
	done
}

@test "fish: every option of every tool, values, volumes, paths" {
	requires fish
	local t
	fish_setup
	for t in "${tools[@]}"; do
		offered "$t --" | grep -v '=$' | sort >offered
		"$t" --list-options | cut -f 2 | grep . | sort >want
		diff offered want
	done
	[ "$(offered 'kiseki-ls kt-' | xargs)" = 'kt-phone:/ kt-photos:/' ]
	[ "$(offered 'kiseki-ls kt-photos:/' | tr '\n' ,)" = 'kt-photos:/a b/,kt-photos:/single,kt-photos:/sub/,' ]
	[ "$(offered 'kiseki ls "kt-photos:/a b/i')" = "kt-photos:/a b/it's" ]
	[ "$(offered "kiseki-cp $U:/su")" = "$U:/sub/" ]
	[ "$(offered 'kiseki cp --reflink=' | xargs)" = '--reflink=always --reflink=auto --reflink=never' ]
	[ "$(offered 'kiseki-cp --progress al')" = always ]
	[ "$(offered 'kiseki-cp src/si')" = src/single ]
	[ "$(offered 'kiseki-mount -o ro,read-')" = ro,read-only ]
	[ "$(offered 'kiseki-cp --preserve=mode,ow')" = --preserve=mode,owner ]
	[ "$(offered 'kiseki help form')" = format ]
	[ "$(offered 'kiseki form')" = format ]
}

@test "what a tool is to do comes first, then the volume" {
	[ "$(by_bash kiseki-trash '' | xargs)" = 'ls restore empty' ]
	[ "$(by_bash kiseki-trash ls kt- | xargs)" = 'kt-phone kt-photos' ]
	[ "$(by_bash kiseki-trash --older=2h emp)" = empty ]
	if command -v fish >/dev/null; then
		fish_setup
		offered 'kiseki-trash res' | grep -qx restore
		offered 'kiseki-trash ls kt-' | grep -qx 'kt-photos'
	fi
	if command -v zsh >/dev/null && command -v script >/dev/null; then
		zsh_types 'kiseki-trash res\t kt-phot\t'
		[[ $(line 1) == '[restore][kt-photos'* ]]
	fi
}
