# shellcheck shell=sh
# The stack's guard: `sh -c "$(cat guard.sh)" banyan-stack-guard FOLDER`.
#
# Its standard input is a pipe that only the stack's owner holds. The owner writes down what it starts, one line
# each; when the pipe closes (orderly close, exit, panic, kill -9), the guard takes all of it down and removes
# the folder. Exit code 0: nothing is left.
#
#   process PID START SIGNAL   a process, its start time (field 22 of /proc/PID/stat), the polite signal
#   group PGID SIGNAL          a process group
#   container NAME             a container that is about to be created
#   engine HOST                the Docker engine that the containers belong to
trap '' INT TERM HUP QUIT
folder=$1
processes='' groups='' containers='' engine=''

# A reused process id must not be hit: the start time has to match. A zombie counts as gone.
alive() {
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    # shellcheck disable=SC2086 # the fields are to be split
    set -- "$2" ${stat##*) }
    [ "$2" != Z ] && [ "${21}" = "$1" ]
}

any_alive() {
    for p in $processes; do
        IFS=: read -r pid start _ <<EOF
$p
EOF
        alive "$pid" "$start" && return 0
    done
    for g in $groups; do kill -s 0 -- "-${g%%:*}" 2>/dev/null && return 0; done
    return 1
}

# $1: a signal that overrides the polite ones, or nothing.
signal_all() {
    for g in $groups; do kill -s "${1:-${g##*:}}" -- "-${g%%:*}" 2>/dev/null; done
    for p in $processes; do
        IFS=: read -r pid start signal <<EOF
$p
EOF
        alive "$pid" "$start" && kill -s "${1:-$signal}" "$pid" 2>/dev/null
    done
}

remove_container() {
    if command -v docker >/dev/null 2>&1; then
        docker -H "$engine" rm -fv "$1" >/dev/null 2>&1
        ! docker -H "$engine" inspect "$1" >/dev/null 2>&1
    else
        at=http://localhost
        case $engine in
            unix://*) set -- "$1" --unix-socket "${engine#unix://}" ;;
            tcp://*) at=http://${engine#tcp://} ;;
        esac
        name=$1
        shift
        curl -sf -m 20 "$@" -X DELETE "$at/containers/$name?force=true&v=true" >/dev/null 2>&1
        ! curl -sf -m 20 "$@" "$at/containers/$name/json" >/dev/null 2>&1
    fi
}

# Whatever works inside our folder is ours, also when the owner died before it could write it down.
kill_by_folder() {
    for cwd in /proc/[0-9]*/cwd; do
        case $(readlink "$cwd" 2>/dev/null) in
            "$folder" | "$folder"/*)
                pid=${cwd#/proc/}
                kill -s KILL "${pid%/cwd}" 2>/dev/null
                ;;
        esac
    done
}

while read -r kind a b c; do
    case $kind in
        process) processes="$processes $a:$b:$c" ;;
        group) groups="$groups $a:$b" ;;
        container) containers="$containers $a" ;;
        engine) engine=$a ;;
    esac
done

left=0
cd /
signal_all ''
tries=50
while any_alive && [ "$tries" -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
done
signal_all KILL
kill_by_folder

for container in $containers; do
    # The engine may still be creating what the owner asked for when it died: look again for a while.
    remove_container "$container" || { sleep 2; remove_container "$container"; } || left=1
done
if [ -n "$containers" ] && [ -e "$folder/starting" ]; then
    sleep 3
    for container in $containers; do remove_container "$container" || left=1; done
fi

tries=20
while ! rm -rf "$folder" 2>/dev/null && [ "$tries" -gt 0 ]; do
    sleep 0.1
    kill_by_folder
    tries=$((tries - 1))
done
[ ! -e "$folder" ] || left=1
exit "$left"
