#!/bin/sh
# SPDX-License-Identifier: MIT
# The daemon itself in the guest of run.sh: two pods on routed veths, a ClusterIP per packet and at the socket, a
# NetworkPolicy, an HTTP rule, a restart with a download running, one error, cleanup. dash, curl and busybox; counted as cmocka's programs are.
export PATH=/t:$PATH
dir=$(mktemp -d) passed=0 daemon='' download=''
ok() { # name, command...: it has to succeed within 60 s
	local name=$1 n=0
	shift
	until "$@" >$dir/out 2>&1; do
		n=$((n + 1))
		if [ $n -gt ${TRIES:-30} ]; then
			echo "[  FAILED  ] $name: $*"
			tail -n 5 $dir/out
			tail -n 20 $dir/log
			echo "[  PASSED  ] $passed test(s)."
			echo "[  FAILED  ] 1 test(s), listed above, and what comes behind it"
			exit 1
		fi
		sleep 2
	done
	echo "[       OK ] $name ($(cut -d' ' -f1 /proc/uptime))"
	passed=$((passed + 1))
}
no() { ! "$@"; }
get() { # prefix of a command, path: what a request to the service says
	$1 curl -m 4 -s -w '%{http_code}' "http://10.96.0.80$2"
}
says() { # prefix, path, word
	get "$1" "$2" | grep -q "$3"
}
start() { # options...
	bpfnetd --manifests $dir/m --node-name n1 --run-dir $dir/run --bpffs /sys/fs/bpf/e2e --state-dir $dir/state ${CGROUP:+--cgroup $CGROUP} "$@" >>$dir/log 2>&1 &
	daemon=$!
}
stop() {
	kill "$1" "$daemon"
	wait "$daemon"
}
net() { bpfnet --run-dir $dir/run "$@"; }

echo 1 >/proc/sys/net/ipv4/ip_forward
for p in client:2 server:3; do
	n=${p%:*} a=10.1.0.${p#*:}
	ip netns add $n
	ip link add e2e-$n type veth peer name eth0 netns $n
	ip link set e2e-$n up
	ip route add $a dev e2e-$n
	ip netns exec $n ip link set lo up
	ip netns exec $n ip link set eth0 up
	ip netns exec $n ip addr add $a/32 dev eth0
	ip netns exec $n ip route add 169.254.1.1 dev eth0
	ip netns exec $n ip route add default via 169.254.1.1
done
ip addr add 10.1.0.1/32 dev lo
ip addr add 169.254.1.1/32 dev lo
mkdir -p $dir/m $dir/www/ok $dir/www/secret
echo fine >$dir/www/ok/index.html
echo hidden >$dir/www/secret/index.html
dd if=/dev/zero of=$dir/www/ok/big bs=1024 count=15000 2>/dev/null
ip netns exec server httpd -f -p 8080 -h $dir/www &
web=$!
cat >$dir/m/cluster.yaml <<EOF
{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.1.0.0/24]}, status: {addresses: [{type: InternalIP, address: 10.1.0.1}]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: shop, labels: {app: client}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: shop, labels: {app: server}}, spec: {nodeName: n1}, status: {phase: Running, podIP: 10.1.0.3, podIPs: [{ip: 10.1.0.3}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.80, clusterIPs: [10.96.0.80], ports: [{port: 80, protocol: TCP, targetPort: 8080}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.1.0.3], conditions: {ready: true}}]
EOF
policy() { # file's content on stdin: replaced by rename
	cat >$dir/.new
	mv $dir/.new $dir/m/policy.yaml
}
pod="ip netns exec client"

start --socket-lb off
ok "ready" net status
echo "bpfnet check:" && net check
ok "a pod reaches a ClusterIP, per packet" says "$pod" /ok/ fine
ok "and it is in the connection table" sh -c "bpfnet --run-dir $dir/run ct list -o json | grep -q 10.1.0.3"
ok "the node's own process, at the socket" says "" /ok/ fine
policy <<EOF
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed, namespace: shop}, spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}}
EOF
ok "a NetworkPolicy closes it" no says "$pod" /ok/ fine
ok "and it counts" sh -c "bpfnet --run-dir $dir/run metrics | grep 'bpfnet_drop.*POLICY_INGRESS' | grep -qv ' 0\$'"
policy <<EOF
apiVersion: bpfnet.io/v1alpha1
kind: HTTPNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: TCP, port: 8080}]
    http: [{method: GET, path: {type: PathPrefix, value: /ok}}]
EOF
ok "an HTTP rule allows" says "$pod" /ok/ fine
ok "and denies with 403" says "$pod" /secret/ 403
($pod curl -m 300 --limit-rate 1M -s -o $dir/big http://10.96.0.80/ok/big; echo $? >$dir/rc) &
download=$!
stop -KILL
ok "without a daemon the rules are in force" says "$pod" /secret/ 403
start
ok "ready again" net status
wait $download
ok "a download went on" grep -qx 0 $dir/rc
rm $dir/m/policy.yaml
ok "a pod reaches a ClusterIP, at the socket" says "$pod" /ok/ fine
ok "denied no more" says "$pod" /secret/ hidden
ok "a second daemon on the same pins says so" sh -c "bpfnetd --manifests $dir/m --node-name n1 --bpffs /sys/fs/bpf/e2e --run-dir $dir/run2 --metrics-bind 0 --healthz-bind 0 2>&1 | tee $dir/second | grep -q error && test \$(wc -l <$dir/second) = 1"
cat $dir/second
net status | sed -n '/^mapBytesTotal/p'
stop -TERM
ok "cleanup leaves nothing" net cleanup
ok "no pins" no test -e /sys/fs/bpf/e2e
kill $web
for n in client server; do ip netns del $n; done
ip addr del 10.1.0.1/32 dev lo
ip addr del 169.254.1.1/32 dev lo
rm -rf $dir
echo "[  PASSED  ] $passed test(s)."
