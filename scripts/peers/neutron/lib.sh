# Functions of neutron-up, l2host-up, l2-demo and those that stop them. To be sourced, after
# scripts/lib.sh.
# shellcheck shell=bash disable=SC2034,SC2154

# Debian's Python, not another that comes first in PATH.
export PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
unset PYTHONHOME PYTHONPATH VIRTUAL_ENV http_proxy HTTP_PROXY all_proxy ALL_PROXY

neutron=$root/scripts/peers/neutron

# installed PACKAGE...  succeeds if all of these Debian packages are.
installed() {
	local package
	for package in "$@"; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed$' || return 1
	done
}

# install PACKAGE... installs those that are missing, and starts none of their services.
install() {
	local package missing=() policy=/usr/sbin/policy-rc.d
	for package in "$@"; do
		installed "$package" || missing+=("$package")
	done
	[ ${#missing[@]} != 0 ] || return 0
	if [ -e "$policy" ]; then
		apt_install "${missing[@]}"
		return
	fi
	# apt_install may end this script.
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
	apt_install "${missing[@]}"
	rm -f "$policy"
	trap - EXIT
}

# locked FILE waits until no other run has the directory.
locked() {
	exec 9>"$1"
	flock -w 300 9 || die "another run in $(dirname "$1") does not end"
}

# since PID prints when the process started. Some programs change their names.
since() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20; }

# launch NAME COMMAND... starts the program; its pid and output are in $state.
launch() {
	local name=$1
	shift
	say "starting $name"
	(
		close_inherited
		cd "$state" || exit
		exec setsid "$@" </dev/null >>"$state/$name.out" 2>&1
	) &
	since $! >"$state/$name.since"
	printf '%s\n' $! >"$state/$name.pid"
}

# running NAME prints the pid of the program that was launched. It fails if that has ended.
running() {
	local pid
	pid=$(cat "$state/$1.pid" 2>/dev/null) && [ -n "$pid" ] && ! gone "$pid" &&
		[ "$(since "$pid")" = "$(cat "$state/$1.since")" ] && printf '%s\n' "$pid"
}

# await SECONDS NAME COMMAND... waits until the command succeeds. It fails when the program NAME
# has ended.
await() {
	local end=$((SECONDS + $1)) name=$2 why=
	shift 2
	until "$@"; do
		if ! running "$name" >/dev/null; then
			why="has ended"
		elif [ "$SECONDS" -ge "$end" ]; then
			why="does not get ready"
		fi
		if [ -n "$why" ]; then
			tail -n 15 "$state/$name.out" "$state/$name.log" >&2 || true
			die "$name $why: the last lines of its logs in $state are above"
		fi
		sleep 0.2
	done
}

# stop NAME ends the program, by force after some time.
stop() {
	local pid
	if pid=$(running "$1"); then
		say "stopping $1 (pid $pid)"
		kill -TERM "$pid"
		wait_for 20 gone "$pid" || {
			kill -KILL "$pid"
			wait_for 20 gone "$pid" || die "$1 (pid $pid) does not end"
		}
	fi
	rm -f "$state/$1.pid" "$state/$1.since"
}

# open ADDRESS PORT succeeds if somebody listens there.
open() { (: <"/dev/tcp/$1/$2") 2>/dev/null; }
