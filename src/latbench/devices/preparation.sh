# Set the clocks of a device as a transaction: sh -c PROGRAM sh ACTION ROOT GOVERNOR FREQUENCY TURBO LOCK
#
# ACTION is prepare, restore or state. ROOT is empty, or a folder with a tree for tests. GOVERNOR is
# a name; FREQUENCY is empty, max or kHz; TURBO is empty or off; LOCK is empty, or the file that is
# locked while somebody measures. Before anything is changed, the journal holds the old content of
# every file that may change. It is removed when all of them hold it again.
#
# Lines of the output: a word, a path and values, with tabs between. Exit status: 0 done,
# 64 a value that the device does not offer, 69 nothing that could be set, 70 something could not be
# set and all is as before, 71 something could not be put back, 73 the journal cannot be written,
# 75 prepared before, 76 in use.
set -u
export LC_ALL=C
umask 022
action=$1 root=$2 governor=$3 frequency=$4 turbo=$5 lock=$6
inside=/sys/devices/system/cpu
cpus=$root$inside
folder=$root/var/lib/latbench
journal=$folder/prepared
tab=$(printf '\t')

value_of() { # PATH
    cat "$1" 2>/dev/null
}

tell() { # WORD PATH VALUE...
    word=$1 path=${2#"$root"}
    shift 2
    printf '%s\t%s' "$word" "$path"
    printf '\t%s' "$@"
    echo
}

set_to() { # PATH VALUE; whether it has that value afterwards
    [ "$(value_of "$1")" = "$2" ] && return
    { printf '%s\n' "$2" >"$1"; } 2>/dev/null
    [ "$(value_of "$1")" = "$2" ]
}

keep() { # PATH...; make the disk hold it
    sync "$@" 2>/dev/null || sync || :
}

policies() {
    for each in "$cpus"/cpufreq/policy[0-9]*; do
        [ -e "$each/scaling_governor" ] && echo "$each"
    done
}

all_policies() { # Kernels before 4.3 have them below each CPU only.
    found=$(policies)
    [ -n "$found" ] && echo "$found" && return
    for each in "$cpus"/cpu[0-9]*/cpufreq; do
        [ -e "$each/scaling_governor" ] && echo "$each"
    done
}

turbo_files() { # Path and the value that turns it off
    if [ -e "$cpus/intel_pstate/no_turbo" ]; then
        echo "$cpus/intel_pstate/no_turbo${tab}1"
    elif [ -e "$cpus/cpufreq/boost" ]; then
        echo "$cpus/cpufreq/boost${tab}0"
    else
        for each in "$cpus"/cpufreq/policy[0-9]*/boost; do
            [ -e "$each" ] && echo "$each${tab}0"
        done
    fi
}

files_that_may_change() {
    turbo_files | cut -f 1
    all_policies | while IFS= read -r policy; do
        for name in scaling_governor energy_performance_preference scaling_min_freq \
            scaling_max_freq scaling_setspeed; do
            [ -e "$policy/$name" ] && echo "$policy/$name"
        done
    done
}

check() { # Refuse what the device does not offer, before anything is written
    [ -n "$(all_policies)" ] || exit 69
    if [ -n "$turbo" ] && [ -z "$(turbo_files)" ]; then
        tell unavailable "$inside" turbo
        exit 64
    fi
    all_policies | while IFS= read -r policy; do
        offered=$(value_of "$policy/scaling_available_governors")
        case " $offered " in
        *" $governor "*) ;;
        *) tell unavailable "$policy/scaling_governor" "$governor" "$offered" && exit 64 ;;
        esac
        case $frequency in '' | max) continue ;; esac
        offered=$(value_of "$policy/scaling_available_frequencies")
        offered="$offered $(value_of "$policy/scaling_boost_frequencies")"
        low=$(value_of "$policy/cpuinfo_min_freq") high=$(value_of "$policy/cpuinfo_max_freq")
        case " $offered " in
        *" $frequency "*) continue ;;
        *[0-9]*) ;;
        *) offered="$low to $high" && [ "$frequency" -ge "${low:-0}" ] &&
            [ "$frequency" -le "${high:-0}" ] && continue ;;
        esac
        tell unavailable "$policy/scaling_max_freq" "$frequency" "$offered" && exit 64
    done || exit 64
}

write_journal() {
    new=$folder/new.$$
    {
        printf 'boot\t%s\n' "$(value_of "$root/proc/sys/kernel/random/boot_id")"
        printf 'made\t%s\n' "$(date +%s)"
        files_that_may_change | while IFS= read -r file; do
            value=$(value_of "$file")
            case $value in '' | '<unsupported>') continue ;; esac
            printf '%s\t%s\n' "${file#"$root"}" "$value"
        done
        echo end
    } >"$new"
    keep "$new"
    [ "$(tail -n 1 "$new")" = end ] || { rm -f "$new" && exit 73; }
    # Unlike mv, ln leaves a journal that somebody else has written meanwhile.
    ln "$new" "$journal" 2>/dev/null || { [ -e "$journal" ] && exit 75 || exit 73; }
    rm -f "$new"
    keep "$folder"
}

apply() { # Stops at what cannot be set
    if [ -n "$turbo" ]; then
        turbo_files | while IFS=$tab read -r file off; do
            set_to "$file" "$off" || { tell failed "$file" "$off" "$(value_of "$file")" && exit 1; }
        done || return
    fi
    all_policies | while IFS= read -r policy; do
        file=$policy/scaling_governor
        set_to "$file" "$governor" ||
            { tell failed "$file" "$governor" "$(value_of "$file")" && exit 1; }
        [ -n "$frequency" ] || continue
        khz=$frequency
        [ "$khz" = max ] && khz=$(value_of "$policy/cpuinfo_max_freq")
        low=$policy/scaling_min_freq high=$policy/scaling_max_freq
        # A limit can be set only on the right side of the other one, wherever that is.
        set_to "$low" "$khz"
        set_to "$high" "$khz"
        set_to "$low" "$khz"
        # The driver may choose a clock near to the one that was asked for.
        [ "$(value_of "$low")" = "$(value_of "$high")" ] ||
            { tell failed "$low" "$khz" "$(value_of "$low")" && exit 1; }
    done
}

in_journal() { # Path and old value of each file
    grep "^$inside/" "$journal" | grep -v '\.\.'
}

put_back() { # Each pass may make another value possible
    for pass in 1 2 3; do
        in_journal | while IFS=$tab read -r file old; do
            [ -e "$root$file" ] && set_to "$root$file" "$old"
        done
    done
}

tell_differences() { # WORD; status 1 if there are none
    in_journal | {
        found=1
        while IFS=$tab read -r file old; do
            now=$(value_of "$root$file")
            [ "$now" = "$old" ] && continue
            # What a reboot has removed has taken its value with it.
            [ ! -e "$root$file" ] && [ "$1" != changed ] && ! same_boot && continue
            found=0
            tell "$1" "$file" "$old" "$now"
        done
        [ $found -eq 0 ]
    }
}

same_boot() {
    grep -qxF "boot$tab$(value_of "$root/proc/sys/kernel/random/boot_id")" "$journal"
}

undo() { # Status 71 if something could not be put back
    put_back
    tell_differences left && return 71
    rm -f "$journal"
    keep "$folder"
}

alone() { # End if somebody else does the same, or measures
    command -v flock >/dev/null || return
    exec 8>"$folder/lock" && flock -n 8 || exit 76
    [ -n "$lock" ] && [ -f "$lock" ] || return
    exec 9<"$lock" && flock -n 9 || exit 76
}

case $action in
state)
    [ -f "$journal" ] || exit 0
    grep "^made$tab" "$journal"
    tell_differences differs
    exit 0
    ;;
prepare)
    check
    mkdir -p "$folder" || exit 73
    alone
    [ -e "$journal" ] && exit 75
    rm -f "$folder"/new.*
    write_journal
    apply || { undo && exit 70 || exit 71; }
    tell_differences changed
    exit 0
    ;;
restore)
    [ -f "$journal" ] || exit 0
    alone
    grep "^made$tab" "$journal"
    tell_differences restored
    undo
    ;;
esac
