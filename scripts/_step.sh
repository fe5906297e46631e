# Sourced by scripts/check and scripts/test: step NAME COMMAND… runs the command and says on stderr
# how long it took; a failure ends the caller with the command's exit code.
step() {
    local name=$1 start=$SECONDS status=0
    shift
    echo "== $name" >&2
    "$@" || status=$?
    if ((status != 0)); then
        echo "== $name: failed ($status) after $((SECONDS - start)) s" >&2
        exit "$status"
    fi
    echo "== $name: $((SECONDS - start)) s" >&2
}
