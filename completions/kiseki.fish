# SPDX-License-Identifier: Apache-2.0
# fish completion for the Kiseki tools.
#
# Nothing about a tool is written here: options and their values come from `TOOL --list-options`, what its operands are
# from `TOOL --usage`, volumes and what is in them from kiseki-ls. A new option or tool is completed without a change.

# Is the word VOLUME:/DIR/..., where a tool takes such? Prints VOLUME and /DIR/.
function __kiseki_in_volume --argument-names tool
    set -l usage (command $tool --usage 2>/dev/null </dev/null | string collect)
    set -l typed (commandline -ct | string unescape)
    set -l parts (string match -r '^((?:[a-z0-9+]+://)?.*?):(/(?:.*/)?)[^/]*$' -- $typed)
    set -q parts[3]; and string match -qr ':/|SOURCE' -- $usage; or return 1
    # Where local files may stand, a slash before the colon makes it one.
    if string match -qr SOURCE -- $usage; and string match -qr / -- $parts[2]; and not string match -qr :// -- $parts[2]
        return 1
    end
    printf '%s\n' $parts[2..3]
end

function __kiseki_paths --argument-names tool
    set -l at (__kiseki_in_volume $tool)
    for name in (command kiseki-ls -0p -- "$at[1]:$at[2]" 2>/dev/null </dev/null | string split0)
        string match -qr '\n' -- $name; or echo "$at[1]:$at[2]$name"
    end
end

# Volumes and mount points; fish itself offers local files.
function __kiseki_operands --argument-names tool
    set -l usage (command $tool --usage 2>/dev/null </dev/null | string collect)
    # What a tool is to do stands before the options in its usage.
    set -l verbs (string split \n -- $usage | string replace -rf '^(?:Usage:)? *kiseki-\S+ ([a-z]+) .*' '$1')
    set -l given no
    for word in (commandline -opc)[2..]
        contains -- $word $verbs; and set given yes
    end
    if set -q verbs[1]; and test $given = no
        printf '%s\n' $verbs
        return
    end
    if string match -qr 'VOLUME|SOURCE' -- $usage
        set -l behind ''
        string match -qr 'VOLUME:/|SOURCE' -- $usage; and set behind ':/'
        for name in (command kiseki-ls --volumes 2>/dev/null </dev/null)
            printf '%s\tvolume\n' $name$behind
        end
    end
    if string match -qr MOUNTPOINT -- $usage; and test -r /proc/self/mountinfo
        awk '/ - fuse\.kiseki / { print $5 "\tmount" }' /proc/self/mountinfo
    end
end

# What -o takes: any long option without its dashes, more of them behind commas.
function __kiseki_mount_options --argument-names tool
    set -l before (commandline -ct | string replace -r '^-o' '' | string match -r '.*,')
    for line in (command $tool --list-options 2>/dev/null </dev/null)
        set -l field (string split \t -- $line)
        set -l value ''
        test -z "$field[3]"; or set value =
        test -z "$field[2]"; or printf '%s%s%s\t%s\n' "$before" (string sub -s 3 -- $field[2]) $value $field[4]
    end
end

# Some of a list, with commas between.
function __kiseki_list
    set -l before (commandline -ct | string replace -r '^--?[^=]*=' '' | string match -r '.*,')
    for word in $argv
        echo $before$word
    end
end

function __kiseki_tool --argument-names tool
    for line in (command $tool --list-options 2>/dev/null </dev/null)
        set -l field (string split \t -- $line)
        set -l option -c $tool -d $field[4]
        test -z "$field[2]"; or set -a option -l (string sub -s 3 -- $field[2])
        set -l value (string trim -c '[]' -- $field[3])
        # A letter takes no value that may be left out.
        if not string match -q '[*' -- $field[3]
            test -z "$field[1]"; or set -a option -s (string sub -s 2 -- $field[1])
            test -z "$value"; or set -a option -r
        else if test -n "$field[1]"
            complete -c $tool -d $field[4] -s (string sub -s 2 -- $field[1])
        end
        switch "$value"
            case ''
                complete $option
            case FILE DIR URL
                complete $option -F
            case 'OPT*'
                complete $option -f -a "(__kiseki_mount_options $tool)"
            case '*|*'
                complete $option -f -a (string replace -a '|' ' ' -- $value)
            case '*,*'
                complete $option -f -a "(__kiseki_list "(string replace -a , ' ' -- $value)")"
            case '*'
                complete $option -f
        end
    end
    complete -c $tool -n "not __kiseki_in_volume $tool >/dev/null" -a "(__kiseki_operands $tool)"
    complete -c $tool -n "__kiseki_in_volume $tool >/dev/null" -f -a "(__kiseki_paths $tool)"
end

# kiseki COMMAND ... is completed as kiseki-COMMAND ...
function __kiseki_command
    set -l words (commandline -opc)
    if set -q words[2]; and test $words[2] != help
        set -l typed (commandline -ct)
        complete -C "kiseki-"(string join ' ' -- (string escape -- $words[2..]))" $typed"
    else
        command kiseki --list 2>/dev/null
        set -q words[2]; or echo help
    end
end

# This file is found under the name of each tool.
set -l tool (status basename | string replace -r '\.fish$' '')
if test $tool = kiseki
    complete -c kiseki -f -a '(__kiseki_command)'
    for line in (command kiseki --list-options 2>/dev/null </dev/null)
        set -l field (string split \t -- $line)
        set -l option -c kiseki -n 'test (count (commandline -opc)) -eq 1' -l (string sub -s 3 -- $field[2]) -d $field[4]
        test -z "$field[1]"; or set -a option -s (string sub -s 2 -- $field[1])
        complete $option
    end
else
    __kiseki_tool $tool
end
