# Shared by the scripts beside it: where built and downloaded parts are kept, and how packages are made available.
# Sourced, not run.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Everything that is built once and used by many checkouts lives here, outside the tree.
[ -n "${FLORIN_CACHE:-}${XDG_CACHE_HOME:-}${HOME:-}" ] || die "HOME is not set: name a folder for what is built and downloaded with FLORIN_CACHE=…"
FLORIN_CACHE="${FLORIN_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/florin}"
mkdir -p "$FLORIN_CACHE" 2>/dev/null && [ -w "$FLORIN_CACHE" ] \
    || die "$FLORIN_CACHE can't be written to: name another folder with FLORIN_CACHE=…"

# as_root COMMAND...: runs it as root, by sudo where we are not root.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"
    else return 1
    fi
}

# debian PACKAGE...: makes Debian packages that are missing available: installed where we may, otherwise unpacked below
# the cache, and otherwise it says what to install.
debian() {
    local missing=() name
    for name in "$@"; do
        dpkg-query -W -f='${Status}' "$name" 2>/dev/null | grep -q 'install ok installed' || missing+=("$name")
    done
    [ ${#missing[@]} = 0 ] && return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        die "these Debian packages are needed, under whatever names your system has for them: ${missing[*]}"
    fi
    mkdir -p "$FLORIN_CACHE"
    # One at a time: apt does not wait for another apt that is reading its lists.
    (
        flock 6
        if as_root true 2>/dev/null; then installed "${missing[@]}"; else unpacked "${missing[@]}"; fi
    ) 6>>"$FLORIN_CACHE/apt.lock" || die "these packages are missing and could not be installed: run 'apt-get install ${missing[*]}' as root"
    as_root true 2>/dev/null || unpacked_run
}

installed() {
    say "installing: $*"
    as_root apt-get update -qq >/dev/null 2>&1 || true
    # Who became root by a plain `su` has no sbin in the path, and dpkg would refuse.
    as_root env DEBIAN_FRONTEND=noninteractive PATH="$PATH:/usr/sbin:/sbin" apt-get install -y -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "$@" >/dev/null 2>&1
}

# Where packages are unpacked when we are neither root nor may become it.
FLORIN_DEBIAN="$FLORIN_CACHE/debian"

# unpacked PACKAGE...: fetches them and what they need and the system lacks, with apt's lists in a folder of our own, and
# unpacks them. Nothing of theirs runs, so this suits tools and libraries, not services.
unpacked() {
    local apt="$FLORIN_CACHE/apt" name link target folder options needed=()
    for name in "$@"; do [ -e "$FLORIN_DEBIAN/.unpacked/$name" ] || needed+=("$name"); done
    [ ${#needed[@]} = 0 ] && return 0
    say "fetching, to unpack below $FLORIN_DEBIAN: ${needed[*]}"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$FLORIN_DEBIAN/.unpacked"
    rm -f "$apt/cache/archives/"*.deb
    options=(-qq -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=1)
    apt-get "${options[@]}" update >/dev/null 2>&1 || true
    apt-get "${options[@]}" install -y --download-only --no-install-recommends "${needed[@]}" >/dev/null 2>&1 || return 1
    for name in "$apt/cache/archives/"*.deb; do dpkg-deb -x "$name" "$FLORIN_DEBIAN" || return 1; done
    rm -f "$apt/cache/archives/"*.deb
    # A library's link may name a file that the system has and that was therefore not fetched.
    find "$FLORIN_DEBIAN" -xtype l | while read -r link; do
        target="$(dirname "${link#"$FLORIN_DEBIAN"}")/$(readlink "$link")"
        [ ! -e "$target" ] || ln -sf "$target" "$link"
    done
    # A C++ compiler looks for the C compiler's parts beside itself.
    for folder in "$FLORIN_DEBIAN"/usr/lib/gcc/*/*; do
        [ -d "$folder" ] || continue
        for name in "${folder#"$FLORIN_DEBIAN"}"/*; do
            [ ! -e "$name" ] || [ -e "$folder/${name##*/}" ] || ln -s "$name" "$folder/${name##*/}"
        done
    done
    for name in "${needed[@]}"; do touch "$FLORIN_DEBIAN/.unpacked/$name"; done
}

# unpacked_run: lets the shell and the loader find what was unpacked. Debian's packages still name /bin and /lib, which an
# installed system has in /usr.
unpacked_run() {
    local top="$FLORIN_DEBIAN" libraries
    libraries="lib/$(uname -m)-linux-gnu"
    export PATH="$top/usr/bin:$top/bin:$top/usr/sbin:$top/sbin:$PATH"
    export LD_LIBRARY_PATH="$top/usr/$libraries:$top/$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    in_use=yes
}

# unpacked_build: lets compilers, linkers and cmake find it too, where `debian` had to unpack. Not for cargo's builds, which
# need none of it: cargo compiles whatever has C in it again, and all that stands on it, when CPATH has changed.
unpacked_build() {
    [ -n "${in_use:-}" ] || return 0
    local usr="$FLORIN_DEBIAN/usr" libraries
    libraries="$usr/lib/$(uname -m)-linux-gnu"
    export LIBRARY_PATH="$libraries${LIBRARY_PATH:+:$LIBRARY_PATH}"
    export CPATH="$usr/include${CPATH:+:$CPATH}"
    export CMAKE_PREFIX_PATH="$usr${CMAKE_PREFIX_PATH:+:$CMAKE_PREFIX_PATH}"
    export PKG_CONFIG_PATH="$libraries/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}"
    # What is linked against an unpacked library finds it later, too, in a shell that knows none of this.
    export LDFLAGS="-Wl,-rpath,$libraries${LDFLAGS:+ $LDFLAGS}"
}
