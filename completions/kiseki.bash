# bash completion for the Kiseki tools                                   -*- shell-script -*-
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Nothing about a tool is written here: options and their values come from `TOOL --list-options`, what its operands are
# from `TOOL --usage`, volumes and what is in them from kiseki-ls. A new option or tool is completed without a change.

# _kiseki_plain WORD: what it means without its quotes and backslashes; an open quote is fine. In $plain, and in $closed
# as far as the last quote that is closed.
_kiseki_plain() {
	local rest=$1 quote='' c
	plain='' closed=''
	while [[ -n $rest ]]; do
		c=${rest:0:1} rest=${rest:1}
		if [[ $c == "$quote" ]]; then
			quote='' closed=$plain
		elif [[ -z $quote && ($c == '"' || $c == "'") ]]; then
			quote=$c
		elif [[ $c == \\ && $quote != "'" && -n $rest && ($quote != '"' || ${rest:0:1} == [\"\\\$\`]) ]]; then
			plain+=${rest:0:1} rest=${rest:1}
		else
			plain+=$c
		fi
	done
}

# The words before the cursor, without quotes, in $words. Readline breaks words at ':' and '=', which belong to ours: pieces
# without a blank between them are put together again. $kept is what of the last word readline will not replace.
_kiseki_words() {
	local line=${COMP_LINE:0:COMP_POINT} piece whole='' before i plain closed
	words=() kept=''
	for ((i = 0; i <= COMP_CWORD; i++)); do
		piece=${COMP_WORDS[i]}
		before=$line
		line=${line#"${line%%[![:blank:]]*}"}
		# The cursor may stand within the last one.
		((i < COMP_CWORD)) || piece=$line
		if [[ $i -eq 0 || $line != "$before" || $piece == [\<\>\|\;\&]* || $whole == [\<\>\|\;\&]* ]]; then
			[[ $i -eq 0 ]] || words+=("$whole")
			whole=''
		fi
		if ((i == COMP_CWORD)); then
			_kiseki_plain "$whole"
			kept=$plain
			[[ $piece != [:=@] ]] || kept+=$piece
			# A quote that is closed is such a place as well.
			_kiseki_plain "$whole$piece"
			((${#closed} <= ${#kept})) || kept=$closed
		fi
		whole+=$piece
		line=${line#"$piece"}
	done
	words+=("$whole")
	for i in "${!words[@]}"; do
		_kiseki_plain "${words[i]}"
		words[i]=$plain
	done
}

# _kiseki_reply PREFIX WORD...: offers those that begin with what is typed, each behind PREFIX
_kiseki_reply() {
	local prefix=$1 word
	shift
	for word; do
		word=$prefix$word
		[[ $word != "$cur"* ]] || COMPREPLY+=("${word#"$kept"}")
	done
}

# Local files; with -d directories only.
_kiseki_files() {
	local prefix=$1 found
	shift
	compopt -o filenames
	mapfile -t found < <(compgen "$@" -- "${cur#"$prefix"}")
	_kiseki_reply "$prefix" "${found[@]}"
}

# What is in a volume: $cur is VOLUME:/PATH, and what is typed of the last name counts.
_kiseki_paths() {
	local scheme='' volume dir found
	[[ ! $cur =~ ^[a-z0-9+]+:// ]] || scheme=${BASH_REMATCH[0]}
	dir=${cur#"$scheme"}
	volume=$scheme${dir%%:/*}
	dir=/${dir#*:/}
	dir=${dir%"${dir##*/}"}
	mapfile -t -d '' found < <(command "$ls" -0p -- "$volume:$dir" 2>/dev/null </dev/null)
	compopt -o filenames
	_kiseki_reply "$volume:$dir" "${found[@]}"
}

# Is one of them among the words before?
_kiseki_has() {
	local word
	for word; do
		[[ " ${words[*]:1:${#words[@]}-2} " != *" $word "* ]] || return 0
	done
	return 1
}

_kiseki_operand() {
	local usage found
	usage=$(command "$tool" --usage 2>/dev/null)
	# What a tool is to do stands before the options in its usage.
	mapfile -t found < <(sed -nE 's/^(Usage:)? *kiseki-[^ ]+ ([a-z]+) .*/\2/p' <<<"$usage")
	if ((${#found[@]})) && ! _kiseki_has "${found[@]}"; then
		_kiseki_reply '' "${found[@]}"
		return
	fi
	# Where local files may stand, a slash before the colon makes it one.
	if [[ ${cur#*://} == *:/* && $usage == *@(:/|SOURCE)* && ($usage != *SOURCE* || $cur == *://* || ${cur%%:/*} != */*) ]]; then
		_kiseki_paths
		return
	fi
	if [[ $usage == *@(VOLUME|SOURCE)* && $cur != *[:/]* ]]; then
		mapfile -t found < <(command "$ls" --volumes 2>/dev/null </dev/null)
		[[ $usage != *@(VOLUME:/|SOURCE)* ]] || found=("${found[@]/%/:/}")
		_kiseki_reply '' "${found[@]}"
	fi
	if [[ $usage == *MOUNTPOINT* ]]; then
		mapfile -t found < <(awk '$0 ~ / - fuse\.kiseki / { print $5 }' /proc/self/mountinfo 2>/dev/null)
		_kiseki_reply '' "${found[@]}"
	fi
	_kiseki_files '' -f
}

# _kiseki_value KIND PREFIX: the value of an option; KIND is what --list-options says of it
_kiseki_value() {
	local kind=${1#[} prefix=$2 words
	kind=${kind%]}
	case $kind in
	FILE) _kiseki_files "$prefix" -f ;;
	DIR | URL) _kiseki_files "$prefix" -d ;;
	OPT*)
		# Any long option without its dashes, more of them behind commas.
		[[ $cur != *,* ]] || prefix=${cur%,*},
		mapfile -t words < <(awk -F '\t' '$2 != "" { sub(/^--/, "", $2); print $2 ($3 ? "=" : "") }' <<<"$options")
		_kiseki_reply "$prefix" "${words[@]}"
		compopt -o nospace
		;;
	*\|*)
		IFS='|' read -ra words <<<"$kind"
		_kiseki_reply "$prefix" "${words[@]}"
		;;
	*,*)
		[[ $cur != *,* ]] || prefix=${cur%,*},
		IFS=, read -ra words <<<"$kind"
		_kiseki_reply "$prefix" "${words[@]}"
		compopt -o nospace
		;;
	esac
}

# The value of option $1, if it must have one: 0 and $kind.
_kiseki_wants() {
	local short long value
	while IFS=$'\x1f' read -r short long value _; do
		if [[ $1 == "$short" || $1 == "$long" ]]; then
			kind=$value
			[[ -n $value && ($value != \[* || $2 == optional) ]]
			return
		fi
	done <<<"${options//$'\t'/$'\x1f'}"
	return 1
}

_kiseki_options() {
	local short long value found=()
	while IFS=$'\x1f' read -r short long value _; do
		[[ -z $short || $cur == --* ]] || found+=("$short")
		[[ -z $long ]] || found+=("$long")
	done <<<"${options//$'\t'/$'\x1f'}"
	_kiseki_reply '' "${found[@]}"
}

_kiseki() {
	local words kept cur tool ls=kiseki-ls options kind found i
	COMPREPLY=()
	_kiseki_words
	cur=${words[-1]}
	tool=${words[0]}
	if [[ ${tool##*/} == kiseki ]]; then
		for ((i = 1; i < ${#words[@]} - 1; i++)); do
			[[ ${words[i]} == -* ]] || break
		done
		if ((i < ${#words[@]} - 1)) && [[ ${words[i]} != help ]]; then
			tool=$tool-${words[i]}
			words=("$tool" "${words[@]:i+1}")
		elif [[ $cur != -* ]]; then
			mapfile -t found < <(command "$tool" --list 2>/dev/null)
			((i < ${#words[@]} - 1)) || found+=(help)
			_kiseki_reply '' "${found[@]}"
			return
		fi
	fi
	type -P -- "$tool" >/dev/null || tool=${tool##*/}
	[[ $tool != */* || ! -x ${tool%/*}/kiseki-ls ]] || ls=${tool%/*}/kiseki-ls
	options=$(command "$tool" --list-options 2>/dev/null </dev/null)
	for i in "${words[@]:1:${#words[@]}-2}"; do
		if [[ $i == -- ]]; then
			_kiseki_operand
			return
		fi
	done
	if ((${#words[@]} > 2)) && [[ ${words[-2]} == -* ]] && _kiseki_wants "${words[-2]}"; then
		_kiseki_value "$kind" ''
	elif [[ $cur == --*=* ]]; then
		! _kiseki_wants "${cur%%=*}" optional || _kiseki_value "$kind" "${cur%%=*}="
	elif [[ $cur == -* ]]; then
		_kiseki_options
	else
		_kiseki_operand
	fi
	# More follows what ends so.
	[[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *[/=] ]] || compopt -o nospace
}

# One file for all: it is found under the name of each tool.
complete -F _kiseki kiseki "${BASH_SOURCE[0]##*/}"
_kiseki_tools() {
	local name
	for name in $(command kiseki --list 2>/dev/null </dev/null); do
		complete -F _kiseki "kiseki-$name"
	done
}
_kiseki_tools
unset -f _kiseki_tools
