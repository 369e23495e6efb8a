# What deploy/quickstart and tests/run share. Sourced, never run.

# say TEXT: one line of progress; bold on a terminal.
say() {
    if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
        printf '\033[1m==> %s\033[0m\n' "$*"
    else
        printf '==> %s\n' "$*"
    fi
}

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

usage_error() {
    printf '%s: %s (see --help)\n' "$(basename "$0")" "$*" >&2
    exit 2
}

# as_root COMMAND...: run it as root, by sudo where that is needed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# missing_packages ROOT SECTION...: those of deploy/debian-packages that are
# not installed, one a line.
missing_packages() {
    local root=$1 section package
    shift
    for section in "$@"; do
        while read -r name package _; do
            [ "$name" = "$section" ] || continue
            dpkg-query -W -f='${db:Status-Abbrev}' "$package" 2>/dev/null |
                grep -q '^.i' || printf '%s\n' "$package"
        done <"$root/deploy/debian-packages"
    done
}

# install_packages ROOT SECTION...: install what is missing and say what.
install_packages() {
    local packages
    packages=$(missing_packages "$@")
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null ||
        die "not a Debian system; please install: $(echo $packages)"
    [ "$(id -u)" -eq 0 ] || command -v sudo >/dev/null ||
        die "packages are missing and there is no sudo. As root, run:" \
            "apt-get install --no-install-recommends $(echo $packages)"
    say "Installing with apt-get: $(echo $packages)"
    apt_install $packages
}

# apt_install PACKAGE...: services that a package would start (Debian's own
# PostgreSQL cluster) stay stopped: policy-rc.d says no while apt works. In a
# subshell, whose traps clean up when it is interrupted.
apt_install() (
    policy=/usr/sbin/policy-rc.d made=
    log=$(mktemp "${TMPDIR:-/tmp}/poolscope-apt.XXXXXX")
    undo() {
        [ -z "$made" ] || as_root rm -f "$policy"
        rm -f "$log"
    }
    trap undo EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    if [ ! -e "$policy" ]; then
        made=yes
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    # What an earlier run was interrupted in is finished first.
    if ! {
        as_root dpkg --configure -a &&
            as_root apt-get update -q &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q \
                --no-install-recommends "$@"
    } >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "apt-get failed; its last lines are above"
    fi
)

# run_at_exit FUNCTION: however this script ends, but kill -9. Ctrl-C while
# the function runs does not stop it half-way, nor does a closed terminal.
run_at_exit() {
    trap "trap '' INT TERM HUP PIPE; set +e; $1" EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

# build_preset ROOT PRESET [TARGET...]: configure and build; quiet unless it
# fails.
build_preset() {
    local root=$1 preset=$2 log="$1/build/$2.log"
    shift 2
    mkdir -p "$root/build"
    say "Building the $preset preset (build/$preset; log in build/$preset.log)"
    if ! (cd "$root" && cmake --preset "$preset" &&
        cmake --build --preset "$preset" ${1:+--target "$@"}) \
        >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "the build failed; its last lines are above, all of it in $log"
    fi
}

# stop_process PID NAME: SIGTERM, then SIGKILL after five seconds.
stop_process() {
    local pid=$1 i
    kill -0 "$pid" 2>/dev/null || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for i in $(seq 50); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    echo "$2 did not stop within 5 s: killing it" >&2
    kill -KILL "$pid" 2>/dev/null || true
}
