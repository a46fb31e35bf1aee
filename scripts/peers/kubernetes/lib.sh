# Functions shared by kubernetes-up and kubernetes-down. To be sourced after
# scripts/lib.sh, with $state being the cluster's directory.
# shellcheck shell=bash disable=SC2154

nodes="node1 node2"
servers="etcd kube-apiserver kube-controller-manager kube-scheduler coredns"

# of_cluster FILE NAME prints the pid in the file if that process is alive, has the name and
# belongs to this cluster: its arguments contain the state directory.
of_cluster() {
	local pid
	pid=$(pid_in "$1" "$2") && grep -qzF -- "$state" "/proc/$pid/cmdline" 2>/dev/null || return 1
	printf '%s\n' "$pid"
}

# running NAME prints the pid of a server, or of a node's outer process, if it is alive.
running() {
	local comm=${1:0:15} # the kernel's names have 15 letters
	case $1 in node*) comm=unshare ;; esac
	of_cluster "$state/pids/$1" "$comm"
}

# kill_server NAME ends the server at once: a cluster of tests has nothing to lose.
kill_server() {
	local pid
	if pid=$(running "$1"); then
		kill -KILL "$pid" 2>/dev/null || true
		wait_for 20 gone "$pid" || die "$1 (pid $pid) does not end"
	fi
	rm -f "$state/pids/$1"
}

# hierarchies prints where control groups are made: the directories of all hierarchies of
# version 1, or the one of version 2.
hierarchies() {
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		echo /sys/fs/cgroup
	else
		awk '$3 == "cgroup" || $3 == "cgroup2" { print $2 }' /proc/self/mounts | sort -u
	fi
}

# groups_removed NAME removes the control groups with the name, and those in them.
groups_removed() {
	local at left=0
	for at in $(hierarchies); do
		[ -d "$at/$1" ] || continue
		find "$at/$1" -depth -type d -exec rmdir {} + 2>/dev/null || true
		[ ! -d "$at/$1" ] || left=1
	done
	return $left
}

# kill_node NODE ends all processes of the node at once, as a power failure would. The
# kernel removes their mounts and their network.
kill_node() {
	local pid
	kill_server "$1"
	# The first process in the node's PID namespace ends last.
	if pid=$(of_cluster "$state/pids/$1.init" bash); then
		kill -KILL "$pid" 2>/dev/null || true
		wait_for 20 gone "$pid" || die "$1 (pid $pid) does not end"
	fi
	rm -f "$state/pids/$1.init"
	wait_for 20 groups_removed "$(cat "$state/name")-$1" || die "the control groups of $1 can't be removed: processes are left in them"
	# What containerd keeps here is about processes.
	rm -rf "$state/$1/run"
}
