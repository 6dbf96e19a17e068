#!/bin/bash
# bare-debian.sh [--ro PATH]... [--copy PATH]... DIR [COMMAND...]: run a command (default: bash) as root in a bare
# Debian 12 (minbase, git, make) in the folder DIR, which is made on first use. Shows that set-up needs nothing more.
#
#   --ro PATH     PATH of this machine is seen there, read-only (the clone to try, a local package index ...)
#   --copy PATH   PATH is copied there when DIR is made (settings of apt or pip, certificates)
#
# Needs root and the package debootstrap. Example, everything from a fresh clone:
#   tools/bare-debian.sh --ro "$PWD" /var/tmp/bare bash -c "git clone $PWD ckpt && make -C ckpt demo test"
set -euo pipefail

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
}
readonly_paths=()
copies=()
while [ $# -gt 0 ]; do
    case $1 in
    --ro) readonly_paths+=("$(realpath "$2")") && shift 2 ;;
    --copy) copies+=("$2") && shift 2 ;;
    -*) usage ;;
    *) break ;;
    esac
done
[ $# -gt 0 ] || usage
root=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- bash

if [ ! -e "$root/.complete" ]; then
    # the mirror that this machine's apt uses
    # shellcheck disable=SC2016  # the $(...) is apt's own
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        sed -nE '/-(security|updates|backports)$/!{s/ .*//p;q}')
    debootstrap --variant=minbase --include=git,make bookworm "$root" "${mirror:?apt names no mirror}"
    # only now: later, links inside could lead out of the folder
    for path in /etc/resolv.conf /etc/hosts "${copies[@]}"; do
        mkdir -p "$root$(dirname "$path")"
        cp -aLT "$path" "$root$path"
    done
    touch "$root/.complete"
fi

# Of the environment only these go along, as on a machine somebody just logged in to.
environment=(HOME=/root "TERM=${TERM:-dumb}" LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
for name in $(compgen -e); do
    case $name in PIP_* | CI | PYTEST_ARGS | DEMO_ARGS) environment+=("$name=${!name}") ;; esac
done

# pivot_root and not chroot: the kernel refuses user namespaces, which the tests need, inside a chroot.
# shellcheck disable=SC2016  # expanded inside
exec unshare --mount --pid --fork --kill-child --uts --ipc --propagation private -- bash -euc '
    root=$1 readonly_paths=$2
    shift 2
    mount --bind "$root" "$root"
    cd "$root"
    mount -t proc proc proc
    mount --rbind /sys sys
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    while IFS= read -r path; do
        [ -n "$path" ] || continue
        if [ -d "$path" ]; then mkdir -p "$root$path"; else mkdir -p "$root${path%/*}" && touch "$root$path"; fi
        mount --rbind "$path" "$root$path"
        mount -o remount,bind,ro "$root$path"
    done <<<"$readonly_paths"
    mkdir -p .old
    pivot_root . .old
    cd /
    umount -l .old
    rmdir .old
    hostname bare-debian
    exec env -i "$@"
' bash "$root" "$(printf '%s\n' "${readonly_paths[@]}")" "${environment[@]}" "$@"
