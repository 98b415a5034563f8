#!/bin/sh
# The first process in the namespaces of a real node (network, mounts, processes). It prepares them and then sleeps.
# When it ends, for any reason, the kernel ends all processes in them and removes their mounts and interfaces.
# Usage: init.sh RUN_DIRECTORY ADDRESS
set -eu
dir=$1
address=$2

# The node gets its own /run: sockets of shims, network namespaces of Pods, locks of iptables.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "$dir/logs/pods"
mount --bind "$dir/logs/pods" /var/log

# kubelet sets these kernel values of the whole machine. It reads the expected values here, and so changes nothing.
for wanted in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  shown="/run/sysctl-$(echo "${wanted%=*}" | tr / -)"
  echo "${wanted#*=}" >"$shown"
  mount --bind "$shown" "/proc/sys/${wanted%=*}"
done

ip link set lo up
# Some kernels lack dummy links. A veth pair with an unused end has the same effect.
ip link add node type veth peer name wire
ip address add "$address/24" dev node
ip link set node up
ip link set wire up
# No packet leaves by this route. kubelet and kube-proxy read the node's address from it.
ip route add default dev node
echo 1 >/proc/sys/net/ipv4/ip_forward

touch "$dir/node/ready"
trap 'exit 0' TERM
while true; do sleep 3600 & wait $!; done
