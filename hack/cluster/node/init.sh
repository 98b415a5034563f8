#!/bin/sh
# The first process of a real node's namespaces (network, mounts, processes): it prepares them and then sleeps.
# When it is gone, however it went, the kernel ends every process in them and takes away every mount and interface.
# Usage: init.sh RUN_DIRECTORY ADDRESS
set -eu
dir=$1
address=$2

# Sockets of shims, network namespaces of pods, locks of iptables: all theirs, none the machine's.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock "$dir/logs/pods"
mount --bind "$dir/logs/pods" /var/log

# kubelet wants these values of the whole machine's kernel. It finds them here, so it changes nothing.
for wanted in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  shown="/run/sysctl-$(echo "${wanted%=*}" | tr / -)"
  echo "${wanted#*=}" >"$shown"
  mount --bind "$shown" "/proc/sys/${wanted%=*}"
done

ip link set lo up
# Not every kernel has dummy links; a pair whose far end nobody reads serves as well.
ip link add node type veth peer name wire
ip address add "$address/24" dev node
ip link set node up
ip link set wire up
# Nothing leaves by it, but kubelet and kube-proxy look for it to learn the node's address.
ip route add default dev node
echo 1 >/proc/sys/net/ipv4/ip_forward

touch "$dir/node/ready"
trap 'exit 0' TERM
while true; do sleep 3600 & wait $!; done
