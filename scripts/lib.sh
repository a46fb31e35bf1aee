# What the scripts share. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
self=$(basename "$0")

# sudo and cron leave these out of PATH.
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
		die "\"$*\" needs root: run as root, or install sudo"
	fi
}

# apt_install PACKAGE... installs Debian packages. The lists are fetched once a
# run, and only if something is missing.
apt_install() {
	command -v apt-get >/dev/null || die "there is no apt-get here: install $* (or what your system calls them) and run this again"
	say "installing $* with apt-get"
	local log
	log=$(mktemp)
	if ! {
		# A foreign source that is away must not matter to Debian's own packages.
		as_root apt-get update || true
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"
	} </dev/null >"$log" 2>&1; then
		tail -n 20 "$log" >&2
		rm -f "$log"
		die "apt-get could not install $*: its last lines are above"
	fi
	rm -f "$log"
}

# gone PID succeeds if the process has ended. One that nobody has reaped yet is
# gone, too.
gone() { ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$1/status" 2>/dev/null; }

# pid_in FILE NAME prints the pid in the file if that process is alive and has
# that name: a pid left by a crash may be somebody else's by now.
pid_in() {
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 1
	case $pid in '' | *[!0-9]*) return 1 ;; esac
	[ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && ! gone "$pid" || return 1
	printf '%s\n' "$pid"
}

# wait_for SECONDS COMMAND... runs the command until it succeeds.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$end" ] || return 1
		sleep 0.2
	done
}

need_go() {
	command -v go >/dev/null || die "there is no go in PATH: install Go (https://go.dev/dl/), the version that go.mod names or later"
	(cd "$root" && go version >/dev/null 2>&1) || {
		(cd "$root" && go version) >&2 || true
		die "this go can't be used: go.mod asks for $(sed -n 's/^go //p' "$root/go.mod")"
	}
}
