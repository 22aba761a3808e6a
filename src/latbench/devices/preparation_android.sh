# Prepare a phone as a transaction: sh -c PROGRAM sh ACTION ROOT STAY AIRPLANE BRIGHTNESS FIXED LOCK
#
# ACTION is prepare, restore or state. ROOT is empty, or a folder for tests. STAY, AIRPLANE and FIXED
# are empty or on; BRIGHTNESS is empty or 0 to 255; LOCK is empty, or the file that is locked while
# somebody measures. The phone's own programs set everything: settings, svc and cmd. Before anything
# is changed, the journal holds the old value of every setting that may change. It is removed when
# all of them are as before.
#
# Lines of the output and the exit status are those of preparation.sh, and 74: a setting cannot be
# read. Hard links need root on a phone, so the journal is moved to its place.
set -u
export LC_ALL=C
umask 022
action=$1 root=$2 stay=$3 airplane=$4 brightness=$5 fixed=$6 lock=$7
folder=$root/data/local/tmp/latbench
journal=$folder/prepared
tab=$(printf '\t')
known='^(global stay_on_while_plugged_in|global airplane_mode_on|system screen_brightness|system screen_brightness_mode|power fixed_performance_mode)'

value_of() { # NAMESPACE KEY; null if it has none, nothing if that is not known
    [ "$1" = power ] && value_of_mode && return
    settings get "$1" "$2" </dev/null 2>/dev/null
}

value_of_mode() { # It cannot be asked for: on by this program, and off after a reboot
    if [ -e "$folder/fixed" ] && same_boot; then echo on; else echo off; fi
}

tell() { # WORD NAME VALUE...
    word=$1 name=$2
    shift 2
    printf '%s\t%s' "$word" "$name"
    printf '\t%s' "$@"
    echo
}

boot_id() {
    cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null
}

same_boot() {
    grep -qxF "boot$tab$(boot_id)" "$journal" 2>/dev/null
}

keep() {
    sync 2>/dev/null || :
}

wanted() { # Namespace, key and value of each setting that may change
    [ -n "$stay" ] && echo "global stay_on_while_plugged_in on"
    [ -n "$airplane" ] && echo "global airplane_mode_on 1"
    if [ -n "$brightness" ]; then
        echo "system screen_brightness_mode 0"
        echo "system screen_brightness $brightness"
    fi
    [ -n "$fixed" ] && echo "power fixed_performance_mode on"
    return 0
}

is_now() { # NAMESPACE KEY VALUE
    now=$(value_of "$1" "$2")
    # What is plugged in while the phone stays awake is a sum of bits; newer phones have more.
    case $2.$3.$now in stay_on_while_plugged_in.on.[1-9]*) return 0 ;; esac
    [ "$now" = "$3" ]
}

set_mode() { # on or off; status 2 if the phone has no such mode
    [ "$1" = on ] && truth=true || truth=false
    # Before it is on, so that it is put back whatever dies in between.
    [ "$1" = on ] && { : >"$folder/fixed" && keep || return 1; }
    if said=$(cmd power set-fixed-performance-mode-enabled $truth </dev/null 2>&1); then
        [ "$1" = on ] || rm -f "$folder/fixed"
        return 0
    fi
    case $said in
    *"Failed to set FIXED_PERFORMANCE"* | *"nknown command"* | *"No shell command"*)
        rm -f "$folder/fixed"
        return 2
        ;;
    esac
    return 1
}

set_to() { # NAMESPACE KEY VALUE; whether it has that value afterwards
    is_now "$1" "$2" "$3" && return
    case $2.$3 in
    fixed_performance_mode.*) set_mode "$3" || return ;;
    stay_on_while_plugged_in.on) svc power stayon true ;;
    airplane_mode_on.1) cmd connectivity airplane-mode enable ;;
    airplane_mode_on.*) cmd connectivity airplane-mode disable ;; # The radios follow only this.
    esac </dev/null >/dev/null 2>&1 || return
    is_now "$1" "$2" "$3" && return
    case $2.$3.$now in
    airplane_mode_on.null.0) ;;
    airplane_mode_on.* | *.on.*) return 1 ;;
    esac
    if [ "$3" = null ]; then
        settings delete "$1" "$2"
    else
        settings put "$1" "$2" "$3"
    fi </dev/null >/dev/null 2>&1
    is_now "$1" "$2" "$3"
}

is_word() { # Values of these settings are; anything else is an error that settings printed
    case $1 in '' | *[!0-9a-z.-]*) return 1 ;; esac
}

check() { # Refuse what cannot be read, before anything is written
    wanted | while read -r space key ignored; do
        value=$(value_of "$space" "$key")
        is_word "$value" || { tell unreadable "$space/$key" "$value" && exit 74; }
    done
}

write_journal() {
    new=$folder/new.$$
    {
        printf 'boot\t%s\n' "$(boot_id)"
        printf 'made\t%s\n' "$(date +%s)"
        wanted | while read -r space key ignored; do
            value=$(value_of "$space" "$key")
            is_word "$value" || exit 1
            printf '%s %s\t%s\n' "$space" "$key" "$value"
        done && echo end
    } >"$new"
    keep
    [ "$(tail -n 1 "$new")" = end ] || { rm -f "$new" && exit 73; }
    mv -n "$new" "$journal" 2>/dev/null || mv "$new" "$journal" || exit 73
    [ -e "$new" ] && rm -f "$new" && exit 75
    keep
}

apply() { # Stops at what cannot be set
    [ -n "$stay" ] && command -v input >/dev/null && input keyevent KEYCODE_WAKEUP </dev/null >/dev/null 2>&1
    wanted | while read -r space key value; do
        set_to "$space" "$key" "$value" && continue
        [ "$space" = power ] && tell unavailable "$space/$key" on && exit 64
        tell failed "$space/$key" "$value" "$(value_of "$space" "$key")" && exit 70
    done
}

in_journal() { # Namespace and key, and the old value
    grep -E "$known$tab" "$journal"
}

put_back() { # The brightness before the mode that chooses it again
    in_journal | sort | while IFS=$tab read -r name old; do
        set_to "${name% *}" "${name#* }" "$old"
    done
}

tell_differences() { # WORD; status 1 if there are none
    in_journal | {
        found=1
        while IFS=$tab read -r name old; do
            now=$(value_of "${name% *}" "${name#* }")
            [ "$now" = "$old" ] && continue
            found=0
            tell "$1" "${name% *}/${name#* }" "$old" "$now"
        done
        [ $found -eq 0 ]
    }
}

undo() { # Status 71 if something could not be put back
    put_back
    tell_differences left && return 71
    rm -f "$journal" "$folder/fixed"
    keep
}

alone() { # End if somebody else does the same, or measures
    command -v flock >/dev/null || return
    # The phone's shell hides its own descriptors from programs, unless they are redirected.
    exec 8>"$folder/lock" && flock -n 8 8>&8 || exit 76
    [ -n "$lock" ] && [ -f "$lock" ] || return
    exec 9<"$lock" && flock -n 9 9<&9 || exit 76
}

case $action in
state)
    [ -f "$journal" ] || exit 0
    grep "^made$tab" "$journal"
    tell_differences differs
    exit 0
    ;;
prepare)
    for program in settings svc cmd; do
        command -v $program >/dev/null || exit 69
    done
    mkdir -p "$folder" || exit 73
    alone
    [ -e "$journal" ] && exit 75
    check || exit
    rm -f "$folder"/new.* "$folder/fixed"
    write_journal
    apply
    status=$?
    [ $status -eq 0 ] || { undo && exit $status || exit 71; }
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
