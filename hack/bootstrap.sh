#!/usr/bin/env bash
# Makes the project's virtual environments with uv, and uv itself where it is missing.
#
#   hack/bootstrap.sh uv                          print the path of a uv, installing it first if need be
#   hack/bootstrap.sh venv DIR LOCK [--project]   make DIR hold exactly what LOCK says (hashes checked);
#                                                 --project adds this checkout, editable
#   hack/bootstrap.sh lock                        resolve requirements/*.txt anew from pyproject.toml
#   hack/bootstrap.sh apt PACKAGE...              install Debian packages, waiting for any other apt
#
# Environments are stamped with the content they were made from, so a second call returns at once, and two calls
# at the same time wait for each other. Works on a bare Debian or Ubuntu: what is missing there is installed with
# apt after saying so.
#
# NPC_FLEET_CACHE   where uv and its download cache live (default ${XDG_CACHE_HOME:-$HOME/.cache}/npc-fleet)
# NPC_FLEET_PYTHON  the interpreter to build on (default: the first of python3, python3.14 ... python3.11 that fits)
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cache=${NPC_FLEET_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set}/.cache}/npc-fleet}
export UV_CACHE_DIR=${UV_CACHE_DIR:-$cache/uv-cache}
# Interpreters come from the system: a tool that quietly fetches another Python would be a surprise.
export UV_PYTHON_DOWNLOADS=never UV_NO_PROGRESS=1
unset VIRTUAL_ENV PYTHONHOME PYTHONPATH

say() { printf '==> %s\n' "$*" >&2; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

apt_install() {
    command -v apt-get >/dev/null || die "please install: $* (no apt-get here to do it)"
    [ "$(id -u)" = 0 ] || die "please run: sudo apt-get install -y $*"
    say "installing Debian packages: $* (about a minute)"
    apt_update || say "apt-get update failed; going on with the lists that are there"
    DEBIAN_FRONTEND=noninteractive apt-get "${patient[@]}" install -y -qq --no-install-recommends "$@" >/dev/null ||
        die "apt-get could not install: $*"
}

# A fresh machine often updates itself just now. apt waits for dpkg when told to, and for the lists' lock never.
patient=(-o DPkg::Lock::Timeout=300)
apt_update() {
    local tries output
    for tries in {30..1}; do
        output=$(LC_ALL=C apt-get "${patient[@]}" update -qq 2>&1 >/dev/null) && return
        [ "$tries" != 1 ] && [[ $output == *"Could not get lock"* ]] || break
        say "another apt holds the lock of the package lists; trying again in 10 s"
        sleep 10
    done
    printf '%s\n' "$output" >&2
    return 1
}

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Prints the real path of a Python >= 3.11; a pyenv shim is resolved to what it stands for.
find_python() {
    local candidate
    for candidate in ${NPC_FLEET_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3}; do
        if command -v "$candidate" >/dev/null && fits "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

ensure_python() {
    find_python && return
    [ -z "${NPC_FLEET_PYTHON:-}" ] || die "NPC_FLEET_PYTHON=$NPC_FLEET_PYTHON is not a Python >= 3.11"
    if ! command -v python3 >/dev/null; then
        apt_install python3 python3-venv
        find_python && return
    fi
    die "Python 3.11 or later is needed; set NPC_FLEET_PYTHON to one"
}

ensure_uv() {
    local want version python home
    want=$(sed -n 's/^uv==\([^ \\]*\).*/\1/p' "$root/requirements/uv.txt")
    home=$cache/uv-$want
    if [ ! -x "$home/bin/uv" ] || ! version=$("$home/bin/uv" --version 2>/dev/null) || [ "${version#uv "$want"}" = "$version" ]; then
        python=$(ensure_python)
        say "installing uv $want into $home (seconds)"
        rm -rf -- "$home"
        # ensurepip is a package of its own on Debian, and only its absence makes venv fail half-way.
        if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
            apt_install python3-venv "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
        fi
        "$python" -m venv "$home"
        "$home/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
            --requirement "$root/requirements/uv.txt" >&2
    fi
    printf '%s\n' "$home/bin/uv"
}

# What an environment is made of; anything else changing must not reinstall a thing.
fingerprint() { # LOCK PYTHON PROJECT
    {
        "$2" --version
        printf '%s\n' "$2" "$3"
        cat "$1"
        if [ "$3" = project ]; then
            printf '%s\n' "$root"
            # Not the settings of the tools, which come after: they change nothing that is installed.
            sed '/^\[tool\.ruff\]/,$d' "$root/pyproject.toml"
        fi
    } | sha256sum | cut -d' ' -f1
}

make_venv() { # DIR LOCK [--project]
    local dir=$1 lock=$2 project=plain uv python want
    [ "${3:-}" = --project ] && project=project
    [ -f "$lock" ] || die "$lock is missing"
    python=$(ensure_python)
    want=$(fingerprint "$lock" "$python" "$project")
    if [ -x "$dir/bin/python" ] && [ "$(cat "$dir/.npc-stamp" 2>/dev/null)" = "$want" ]; then
        return
    fi
    uv=$(ensure_uv)
    say "making $dir from $(basename "$lock") (seconds with a warm cache, about a minute without)"
    rm -f -- "$dir/.npc-stamp"
    # An environment of another interpreter cannot be mended, only made anew.
    if [ -e "$dir" ] && [ "$(sed -n 's/^home = //p' "$dir/pyvenv.cfg" 2>/dev/null)" != "$(dirname "$python")" ]; then
        rm -rf -- "$dir"
    fi
    [ -x "$dir/bin/python" ] || "$uv" venv --quiet --no-project --python "$python" "$dir" >&2
    "$uv" pip sync --quiet --require-hashes --python "$dir/bin/python" "$lock" >&2
    if [ "$project" = project ]; then
        # The build backend is in the lock, so nothing unlocked is ever downloaded.
        "$uv" pip install --quiet --no-deps --no-build-isolation --python "$dir/bin/python" --editable "$root" >&2
    fi
    printf '%s\n' "$want" >"$dir/.npc-stamp"
}

# Index addresses, paths and the command line stay out of the locks: they hold on every machine.
lock() {
    local uv
    uv=$(ensure_uv)
    local compile=("$uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --upgrade)
    cd "$root"
    say "resolving requirements/*.txt"
    "${compile[@]}" -o requirements/uv.txt requirements/uv.in >/dev/null
    "${compile[@]}" -o requirements/go.txt requirements/go.in >/dev/null
    "${compile[@]}" --extra dev -o requirements/dev.txt pyproject.toml >/dev/null
    # Constrained by what the tests ran with: the image never holds a version that no test saw.
    "${compile[@]}" --extra operator --extra agent --extra gateway --extra cli --constraint requirements/dev.txt \
        -o requirements/operator.txt pyproject.toml >/dev/null
    "${compile[@]}" --extra fuzz --constraint requirements/dev.txt -o requirements/fuzz.txt pyproject.toml >/dev/null
    "${compile[@]}" --extra bench --constraint requirements/dev.txt -o requirements/bench.txt pyproject.toml >/dev/null
    "${compile[@]}" --constraint requirements/dev.txt -o requirements/wheels.txt requirements/wheels.in >/dev/null
}

command=${1:-}
[ -n "$command" ] || die "usage: hack/bootstrap.sh uv | venv DIR LOCK [--project] | lock | apt PACKAGE..."
shift
mkdir -p "$cache"
exec 9>"$cache/bootstrap.lock"
flock 9
case $command in
uv) ensure_uv ;;
venv)
    [ $# -ge 2 ] || die "usage: hack/bootstrap.sh venv DIR LOCK [--project]"
    make_venv "$@"
    ;;
lock) lock ;;
apt) apt_install "$@" ;;
*) die "unknown command: $command" ;;
esac
