# Shared by the scripts beside it: where built and downloaded parts are kept, and how a missing tool is reported.
# Sourced, not run.

# Everything that is built once and used by many checkouts lives here, outside the tree.
FLORIN_CACHE="${FLORIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/florin}"

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# need TOOL PACKAGE: one clear line when TOOL is missing.
need() {
    command -v "$1" >/dev/null 2>&1 || die "'$1' is missing: install it with 'apt-get install $2' (or your system's package of that name)"
}

# as_root COMMAND...: runs it as root, by sudo where we are not root.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"
    else return 1
    fi
}

# debian PACKAGE...: installs Debian packages that are missing, where we may; otherwise says what to install.
debian() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    say "installing: ${missing[*]}"
    if as_root true 2>/dev/null; then
        as_root apt-get update -qq >/dev/null 2>&1 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && return 0
    fi
    die "these packages are missing and could not be installed: run 'apt-get install ${missing[*]}' as root"
}
