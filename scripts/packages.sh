#!/usr/bin/env bash
# Installs the Debian packages that are missing, and names those it may not install.
#
#   scripts/packages.sh build         what a build cannot do without; stops when it stays missing
#   scripts/packages.sh build test    also what some tests use; those tests skip when it is missing
#
# A package is missing when its probe fails, so a tool that came by another way counts as there.
# Each line: package, then how to see that it is there.
#   have FILE-OR-COMMAND   a command on the path, or a file if the name begins with a slash
#   link LIBRARY           pkg-config knows the library

set -euo pipefail

BUILD='
gcc             have gcc
git             have git
libc6-dev       have /usr/include/stdlib.h
pkg-config      have pkg-config
libseccomp-dev  link libseccomp
libelf-dev      link libelf
zlib1g-dev      link zlib
'

# povray: a real renderer in an image. busybox-static: a small image with a shell.
# docker-registry, skopeo: an image store other than ours to check ours against; openssl: its certificates and tokens.
# runc: a second runtime.
TEST='
povray           have povray
busybox-static   have busybox
docker-registry  have docker-registry
skopeo           have skopeo
openssl          have openssl
runc             have runc
'

# An ordinary user's path often lacks these, and runc lives there.
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

main() {
    local group
    for group in "$@"; do
        case "$group" in
            build) require_cargo; provide required "$BUILD" ;;
            test) provide optional "$TEST" ;;
            *) echo "usage: scripts/packages.sh build|test ..." >&2; exit 2 ;;
        esac
    done
}

require_cargo() {
    command -v cargo >/dev/null 2>&1 && return 0
    echo 'error: needs Rust 1.95 or newer, with cargo on the path (https://rustup.rs)' >&2
    exit 1
}

# provide required|optional LIST
provide() {
    local need="$1" missing
    missing="$(missing_of "$2")"
    [ -z "$missing" ] && return 0
    # shellcheck disable=SC2086  # one word a package
    install_packages $missing || true
    missing="$(missing_of "$2")"
    [ -z "$missing" ] && return 0
    if [ "$need" = required ]; then
        echo "error: cannot build without:  apt-get install -y $missing" >&2
        exit 1
    fi
    echo "note: tests that use these skip; to run them:  apt-get install -y $missing" >&2
}

missing_of() {
    local package how what names=''
    while read -r package how what; do
        [ -z "$package" ] && continue
        "probe_$how" "$what" || names="$names $package"
    done <<<"$1"
    echo "${names# }"
}

probe_have() {
    case "$1" in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

probe_link() {
    pkg-config --exists "$1" >/dev/null 2>&1
}

# Fails when this user may not install, or when a package cannot be had; the caller looks again.
install_packages() {
    local as_root=() package
    command -v apt-get >/dev/null 2>&1 || return 1
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true >/dev/null 2>&1 || return 1
        as_root=(sudo -n)
    fi
    echo "installing: $*" >&2
    # A stale or empty list is the usual reason why a package is not found; one source that fails
    # to answer is no reason to stop.
    apt update || true
    # One package that cannot be had must not keep the others away.
    apt install "$@" || for package in "$@"; do apt install "$package" || true; done
    stop_registry "$@"
}

# Asks nothing, and says something only when it fails.
apt() {
    local log
    log="$("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "$@" 2>&1 </dev/null)" && return 0
    echo "apt-get $*:" >&2
    tail -n 5 <<<"$log" >&2
    return 1
}

# Debian starts a registry for the whole network as a service. Tests want the program alone.
stop_registry() {
    case " $* " in
        *' docker-registry '*)
            if [ -d /run/systemd/system ]; then
                "${as_root[@]}" systemctl disable --now docker-registry >/dev/null 2>&1 || true
            fi
            ;;
    esac
}

main "$@"
