# Functions shared by the scripts. To be sourced, not run.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
self=$(basename "$0")

# sudo and cron omit these directories from PATH.
PATH=$PATH:/usr/local/go/bin:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() { printf '%s: %s\n' "$self" "$*" >&2; }

die() {
	printf '%s: ERROR: %s\n' "$self" "$*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo -- "$@"
	else
		die "\"$*\" needs root: run this as root, or install sudo"
	fi
}

# apt_install PACKAGE... installs Debian packages, after an update of the package lists.
apt_install() {
	command -v apt-get >/dev/null || die "apt-get is missing: install $* (or your system's equivalents) and run this again"
	say "installing $* with apt-get"
	local log
	log=$(mktemp)
	if ! {
		# A failing third-party source must not prevent the installation from Debian's.
		as_root apt-get update || true
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
	} </dev/null >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get could not install $*: the last lines of its output are above"
	fi
	rm -f "$log"
}

# gone PID succeeds if the process has ended. A zombie counts as ended.
gone() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# pid_in FILE NAME prints the pid in the file if that process is alive and has the name.
# A pid file left by a crash may hold the pid of another program by now.
pid_in() {
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 1
	case $pid in '' | *[!0-9]*) return 1 ;; esac
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && ! gone "$pid" || return 1
	printf '%s\n' "$pid"
}

# close_inherited closes all files but the standard ones. To be called in the subshell that
# starts a daemon, which would hold locks and pipes of this script's callers for its life.
close_inherited() {
	local file fd
	for file in "/proc/$BASHPID/fd"/*; do
		fd=${file##*/}
		[ "$fd" -lt 3 ] || [ "$fd" = 255 ] || exec {fd}>&- # 255 is the script, which bash closes itself
	done
}

# wait_for SECONDS COMMAND... repeats the command until it succeeds. It fails after the
# time.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

# busybox_rootfs DIR fills the directory with a root file system of Debian's static busybox.
busybox_rootfs() {
	# The dynamic busybox would find no libraries in it.
	if ! dpkg-query -W -f '${Status}' busybox-static 2>/dev/null | grep -q ' installed$'; then
		apt_install busybox-static
	fi
	local rootfs=$1 applet
	mkdir -p "$rootfs"/{bin,dev,etc,home,proc,root,sys,tmp,usr/bin,var/tmp,var/www}
	chmod 1777 "$rootfs/tmp" "$rootfs/var/tmp"
	cp "$(command -v busybox)" "$rootfs/bin/busybox"
	for applet in $(busybox --list); do
		[ "$applet" = busybox ] || ln -s busybox "$rootfs/bin/$applet"
	done
	ln -s ../../bin/env "$rootfs/usr/bin/env"
	printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'www-data:x:33:33:www-data:/var/www:/bin/false' \
		'nobody:x:65534:65534:nobody:/home:/bin/false' >"$rootfs/etc/passwd"
	printf '%s\n' 'root:x:0:' 'www-data:x:33:' 'nogroup:x:65534:' >"$rootfs/etc/group"
}

# image_archive FILE ROOTFS CONFIG NAME... makes an image of the root file system, in the format of
# docker save. CONFIG has members of its configuration, as JSON.
image_archive() {
	local file=$1 rootfs=$2 config=$3 work id names
	shift 3
	names=$(printf ',"%s"' "$@")
	work=$(mktemp -d)
	tar -C "$rootfs" --sort=name --numeric-owner --owner=0 --group=0 --mtime=@0 -cf "$work/layer.tar" .
	id=$(sha256sum <"$work/layer.tar" | cut -d ' ' -f 1)
	cat >"$work/config.json" <<END
{"architecture": "$(dpkg --print-architecture)", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ["sha256:$id"]},
 "config": {$config}}
END
	echo "[{\"Config\": \"config.json\", \"RepoTags\": [${names:1}], \"Layers\": [\"layer.tar\"]}]" >"$work/manifest.json"
	tar -C "$work" -cf "$file.made" manifest.json config.json layer.tar
	mv "$file.made" "$file"
	rm -r "$work"
}

need_go() {
	command -v go >/dev/null || die "go is not in PATH: install Go (https://go.dev/dl/), the version in go.mod or later"
	(cd "$root" && go version >/dev/null 2>&1) || {
		(cd "$root" && go version) >&2 || true
		die "this go can't be used: go.mod needs version $(sed -n 's/^go //p' "$root/go.mod")"
	}
}
