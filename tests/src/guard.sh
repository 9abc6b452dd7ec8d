# Takes process groups down when their owner is gone: `sh -c "$(cat guard.sh)" banyan-test-guard`.
#
# Standard input is a pipe that only the owner holds; it says `start GROUP` and `end GROUP`. When the pipe closes (exit,
# panic, Ctrl-C, kill -9), whatever was started and not ended is killed.
trap '' INT TERM HUP QUIT
groups=''
while read -r verb group; do
    case $verb in
        start) groups="$groups $group" ;;
        end)
            left=''
            for g in $groups; do [ "$g" = "$group" ] || left="$left $g"; done
            groups=$left
            ;;
    esac
done
# `-s`: dash does not take `kill -KILL -- -GROUP`.
for g in $groups; do kill -s KILL -- "-$g" 2>/dev/null; done
exit 0
